//! The engine: the intent on disk, the act, the outcome on disk, and nothing half done.
//!
//! `operation` is the one way that every action goes, `lifecycle` keeps an instance allowed to act, and `reconcile` finishes or
//! takes back what a dead instance left.

pub mod idempotency;
pub mod life;
pub mod lifecycle;
pub mod neighbours;
pub mod operation;
pub mod plan;
pub mod queue;
pub mod reconcile;
pub mod settling;
pub mod unaccounted;
