//! The pure middle of iam-sorry.
//!
//! Nothing here reaches for a file, a socket, the clock, the environment, randomness, an async runtime or a logger:
//! callers pass in bytes, `now` and random bytes. So every rule that matters (what a sealed value means, what an edit
//! of `~/.aws/credentials` may touch) can be tested without a machine around it, and serves a command line and a
//! server alike.

pub mod api;
pub mod audit;
pub mod aws_files;
pub mod changes;
pub mod credentials;
pub mod digest;
pub mod dn;
pub mod ed25519;
pub mod group;
pub mod identity;
pub mod ids;
pub mod names;
pub mod planted;
pub mod process_json;
pub mod seal;
pub mod shells;
pub mod ssh;
pub mod timestamp;
