//! The rules as the service asks them: whole rule sets in, decisions out.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod accounts;
mod cases;
mod decisions;
mod digest;
mod documented;
mod groups;
mod guardrails;
mod loading;
mod properties;
mod scene;
