//! A test process that is killed leaves no server and no folder behind.
//!
//! The test runs itself once more as the process to be killed (`TESTKIT_VICTIM` says so).

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use testkit::SshAgent;

#[test]
fn a_killed_test_process_leaves_nothing() {
    if std::env::var_os("TESTKIT_VICTIM").is_some() {
        let agent = SshAgent::start();
        println!("\nagent {} {}", agent.pid(), agent.socket().display());
        std::thread::sleep(Duration::from_secs(600));
    }
    let mut victim = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "a_killed_test_process_leaves_nothing", "--nocapture"])
        .env("TESTKIT_VICTIM", "1")
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let lines = BufReader::new(victim.stdout.take().expect("piped")).lines();
    let line = lines.map_while(Result::ok).find(|line| line.starts_with("agent ")).expect("its agent");
    let mut words = line.split(' ').skip(1);
    let pid = words.next().expect("a process id").to_owned();
    let socket = PathBuf::from(words.next().expect("a socket"));
    assert!(socket.exists());

    victim.kill().expect("killed");
    victim.wait().expect("gone");
    let start = Instant::now();
    let alive =
        || Command::new("kill").args(["-0", &pid]).stderr(Stdio::null()).status().is_ok_and(|s| s.success());
    let folder = socket.parent().expect("its folder").to_owned();
    while alive() || folder.exists() {
        assert!(start.elapsed() < Duration::from_secs(60), "the agent {pid} or its folder outlived its test");
        std::thread::sleep(Duration::from_millis(20));
    }
}
