//! The engine: the intent on disk, the act, the outcome on disk, and nothing half done.
//!
//! [`run`] is the one way that every [`action`] goes, [`lifecycle`] keeps an instance allowed to act, and [`reconcile`] finishes
//! or takes back what a dead instance left.

pub mod acted;
pub mod action;
mod begin;
pub mod case;
pub mod idempotency;
pub(crate) mod key_journal;
pub mod life;
pub mod lifecycle;
pub mod lost_key;
pub mod neighbours;
pub mod notes;
pub mod open_operation;
pub mod outcome;
pub mod queue;
pub mod reconcile;
pub mod run;
pub mod settling;
pub mod stored_plan;
pub mod unaccounted;
pub mod watch_neighbours;
