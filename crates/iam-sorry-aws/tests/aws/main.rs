//! The whole crate against a real emulator of STS and IAM, with the fault proxy in front of it. One binary, so that all
//! tests share one emulator; each has an account of its own.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod identity;
mod issue;
mod lost_answer;
mod policy;
mod recovery;
mod rotate;
mod scene;
mod service_users;
mod tls;
