//! The HTTP face on real sockets.

mod client;
mod connections;
mod document;
mod requests;
mod rig;
mod tls;
