//! The audit trail: canonical records, the hash chain through them, signed checkpoints, verification.

mod event;

pub use event::{Decision, Event, Outcome, Person, Phase};
