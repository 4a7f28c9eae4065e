//! The command line against a department service: the real `iam-sorryd` on a real AWS emulator, and, for what no honest
//! service does, a dishonest one.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod credentials;
mod dishonest;
mod fake;
mod people;
mod rig;
mod rotation;
mod sign_in;
mod trail;
