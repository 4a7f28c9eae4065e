//! The pages in a real Chromium, against the real service, a real directory and an AWS emulator that checks signatures.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod forms;
mod journey;
mod rig;
