//! Signing in, against real directories and real SSH keys.
#![expect(clippy::unwrap_used, reason = "a test that can't be set up fails")]

mod active_directory;
mod check_config;
mod groups;
mod hanging;
mod hostile;
mod ldap;
mod offers;
mod passwords;
mod recorded;
mod registering;
mod rig;
mod sessions;
mod setup;
mod ssh;
mod weak_keys;
#[path = "../common/trail.rs"]
mod whole_trail;
