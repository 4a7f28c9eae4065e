//! The home and the agents are what they say: hermetic, real, and gone afterwards.

use std::process::{Command, Stdio};

use testkit::{AskPass, GpgAgent, Home, KeyKind, SshAgent};

#[test]
fn a_home_leaks_nothing_of_the_caller() {
    let mut home = Home::new();
    home.set_env("EXTRA", "1");
    let output = home.command("env").output().expect("env runs");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(text.contains(&format!("HOME={}\n", home.path().display())), "{text}");
    assert!(text.contains("EXTRA=1\n"));
    for line in text.lines().filter(|line| line.starts_with("AWS_")) {
        assert_eq!(line, "AWS_EC2_METADATA_DISABLED=true");
    }
    assert!(!text.contains("CARGO"), "cargo's own variables are the caller's: {text}");
    assert!(!text.contains("SSH_"), "{text}");
}

#[test]
fn a_home_writes_files_with_their_modes() {
    let home = Home::new();
    assert_eq!(home.credentials(), "");
    home.write_credentials("[a]\nb = c\n");
    assert_eq!(home.credentials(), "[a]\nb = c\n");
    assert_eq!(home.mode(".aws/credentials"), 0o600);
    assert_eq!(home.mode(".aws"), 0o700);
    let script = home.write_script("bin/hello", "echo hello");
    assert_eq!(home.command(script).output().expect("runs").stdout, b"hello\n");
}

#[test]
fn ssh_keygen_makes_keys_whose_passphrase_changes_but_not_their_fingerprint() {
    let home = Home::new();
    let key = home.ssh_key("first");
    let before = home.fingerprint(&key);
    home.change_passphrase(&key, "first", "second");
    assert_eq!(home.fingerprint(&key), before);
    assert!(before.starts_with("SHA256:"));
    let other = home.ssh_key_as("id_ecdsa", KeyKind::Ecdsa, "", 1);
    assert!(home.read(other.with_extension("pub")).starts_with("ecdsa-sha2-"));
}

#[test]
fn the_real_agent_takes_locks_and_gives_back_a_key() {
    let home = Home::new();
    let key = home.ssh_key("correct horse");
    let agent = SshAgent::start();
    assert_eq!(agent.fingerprints(), Vec::<String>::new());
    agent.add(&key, "correct horse", &["-t", "600"]);
    assert_eq!(agent.fingerprints(), [home.fingerprint(&key)]);
    agent.lock("word");
    assert_eq!(agent.fingerprints(), Vec::<String>::new());
    agent.unlock("word");
    assert_eq!(agent.fingerprints(), [home.fingerprint(&key)]);
    agent.remove(&key);
    assert_eq!(agent.fingerprints(), Vec::<String>::new());
}

#[test]
fn a_confirmed_key_asks_each_time_it_signs() {
    let home = Home::new();
    let key = home.ssh_key("p");
    let yes = AskPass::answering("yes");
    let agent = SshAgent::confirming_with(&yes);
    agent.add(&key, "p", &["-c"]);
    let sign = |agent: &SshAgent| {
        let file = home.write_mode("message", "m", 0o600);
        let public = key.with_extension("pub");
        let mut command = home.command("ssh-keygen");
        command.args(["-Y", "sign", "-n", "test", "-f"]).arg(public).arg(&file);
        let output = command.env("SSH_AUTH_SOCK", agent.socket()).output().expect("ssh-keygen runs");
        std::fs::remove_file(file.with_extension("sig")).ok();
        output.status.success()
    };
    assert!(sign(&agent));
    assert!(sign(&agent));
    assert_eq!(yes.calls(), 2, "{:?}", yes.questions());

    let no = AskPass::refusing();
    let agent = SshAgent::confirming_with(&no);
    agent.add(&key, "p", &["-c"]);
    assert!(!sign(&agent));
    assert_eq!(no.calls(), 1);
}

#[test]
fn gpg_agent_is_a_second_real_agent() {
    let home = Home::new();
    let key = home.ssh_key("p");
    let agent = GpgAgent::start("other");
    agent.add(&key, "p");
    assert_eq!(agent.fingerprints(), [home.fingerprint(&key)]);
}

#[test]
fn an_agent_is_gone_after_drop_with_its_folder() {
    let agent = SshAgent::start();
    let (socket, pid) = (agent.socket(), agent.pid());
    assert!(socket.exists());
    assert!(is_running(pid));
    drop(agent);
    assert!(!is_running(pid));
    assert!(!socket.parent().expect("its folder").exists());
}

fn is_running(pid: u32) -> bool {
    let mut command = Command::new("kill");
    command.args(["-0", &pid.to_string()]).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
