//! Sign-in and what comes of it: one door to a session, and the people that sessions belong to.

pub mod group_names;
pub mod key_holders;
pub mod people;
pub mod session;
pub mod sign_in;
pub mod sign_in_texts;
pub mod ssh_keys;
pub mod typed_names;
