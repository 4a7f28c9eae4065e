//! The HTTP face on real sockets.

mod audit_sinks;
mod checkpoints;
mod client;
mod connections;
mod document;
mod requests;
mod rig;
mod tls;
mod trail;
