//! The HTTP face on real sockets, the audit trail's ways out, and the whole service through its API.
#![expect(clippy::unwrap_used, reason = "a test that can't be set up fails")]

mod accounts;
mod audit_commands;
mod audit_queries;
mod audit_sinks;
mod checkpoints;
mod client;
mod connections;
mod contradicted;
mod department;
mod document;
mod endpoints;
mod readiness;
mod requests;
mod rig;
mod service_records;
mod sink_over_tls;
mod sinks_exact;
mod tls;
mod trail;
#[path = "../common/trail.rs"]
mod whole_trail;
