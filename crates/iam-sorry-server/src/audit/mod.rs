//! The audit trail: reading, exporting, signing its checkpoints, carrying it off the host, and noticing that it was cut.

pub mod checkpoints;
pub mod continuity;
pub mod counted;
pub mod export;
pub mod settings;
pub mod signed_state;
pub mod sinks;
pub mod states;
pub mod tasks;
pub mod trail;
