//! What goes wrong around the store: kill -9, a full disk, a database that goes away, a wire that is cut.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../conformance/rig.rs"]
#[expect(dead_code, reason = "the conformance suite uses all of it")]
mod rig;

mod cut_off;
mod disk_full;
mod killed;
mod login_flows;
mod read_only;
mod server_gone;
mod tls;

use std::process::{Command, Stdio};

/// This test program again, to run `test` alone with `variable` set: the same function then plays the victim.
fn again(test: &str, variable: &str, value: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]);
    command.env(variable, value).stdin(Stdio::null()).stdout(Stdio::piped());
    command
}
