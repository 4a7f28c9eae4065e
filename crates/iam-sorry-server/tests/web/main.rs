//! The pages in a real Chromium, against the real service, a real directory and an AWS emulator that checks signatures.

mod forms;
mod journey;
mod rig;
