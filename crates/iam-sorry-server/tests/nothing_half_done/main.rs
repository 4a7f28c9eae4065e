//! kill -9 of the real program, between any two steps and at random under load, on SQLite and on PostgreSQL; two instances
//! on one database, one killed, one cut off. After each, within 30 s: every user and key in IAM is in the store and the
//! other way round, and every intent in the audit trail has its outcome.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod department;
mod instances;
mod random;
mod secrets;
mod steps;
#[path = "../common/trail.rs"]
mod whole_trail;
