//! Every action of the service on a real emulator of STS and IAM, the service's identity holding exactly the policy that
//! `iam-sorryd policy` prints. One binary, so that all tests share one emulator; each has an account of its own.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod adopt;
mod credentials;
mod database_back;
mod disk_full;
mod failures;
mod guardrails;
mod idempotency;
mod keys;
mod killed;
mod least_policy;
mod load;
mod reconciler;
mod recorded;
mod scene;
mod secrets;
mod stored;
mod users;
mod verbs;
#[path = "../common/trail.rs"]
mod whole_trail;
