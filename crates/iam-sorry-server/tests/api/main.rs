//! The HTTP face on real sockets.

mod audit_sinks;
mod checkpoints;
mod client;
mod connections;
mod department;
mod document;
mod endpoints;
mod openapi_is_true;
mod requests;
mod rig;
mod tls;
mod trail;
