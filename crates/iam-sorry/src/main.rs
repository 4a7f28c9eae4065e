//! x
#![expect(dead_code, reason = "the commands come with the merge")]
mod keyring;
fn main() {}
