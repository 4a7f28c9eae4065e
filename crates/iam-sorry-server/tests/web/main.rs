//! The pages in a real Chromium, against the real service, a real directory and an AWS emulator that checks signatures.
#![expect(clippy::unwrap_used, reason = "a rig that cannot start fails its test")]

mod forms;
mod journey;
mod rig;
