//! What the service keeps: operations, audit trail, sessions, keys, grants; in SQLite inside or in PostgreSQL.
//!
//! [`Store`] is the only door. All writes of an instance go through one thread that puts what is waiting into one
//! transaction, so that a hundred requests cost one flush; none is answered before its transaction is on disk.
//! The audit chain is made inside that transaction. The store knows neither HTTP nor AWS, and no secret reaches it
//! but hashes.

mod types;

pub use types::*;
