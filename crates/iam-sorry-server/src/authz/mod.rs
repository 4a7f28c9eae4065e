//! The question put to the rules, and the rules in force.

pub mod authorize;
pub mod rules;
