//! The fake agent is a good agent to the real ssh-keygen, and bad in the way it was told.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use testkit::{AgentFault, FakeAgent, Home, SshAgent, Stage};

/// Signs with `ssh-keygen -Y sign` through the agent and gives the armoured signature.
fn sign(home: &Home, socket: &std::path::Path, public: &std::path::Path) -> Option<String> {
    let file = home.write_mode("message", "m", 0o600);
    let mut command = home.command("ssh-keygen");
    command.args(["-Y", "sign", "-n", "test", "-f"]).arg(public).arg(&file).env("SSH_AUTH_SOCK", socket);
    let output = command.output().expect("ssh-keygen runs");
    let signature = std::fs::read_to_string(file.with_extension("sig")).ok();
    std::fs::remove_file(file.with_extension("sig")).ok();
    signature.filter(|_| output.status.success())
}

fn sign_by(agent: &FakeAgent, home: &Home) -> Option<String> {
    let public = home.write_mode(".ssh/fake.pub", agent.public_key_line(), 0o600);
    sign(home, &agent.socket(), &public)
}

/// Whether the real ssh-keygen takes the signature for the fake agent's key.
fn verifies(agent: &FakeAgent, home: &Home, signature: &str) -> bool {
    let key = agent.public_key_line();
    let signers = home.write_mode("signers", format!("me@example.org {key}"), 0o600);
    let file = home.write_mode("message.sig", signature, 0o600);
    let script = "exec ssh-keygen -Y verify -I me@example.org -n test -f \"$1\" -s \"$2\" <\"$3\"";
    let mut command = home.command("/bin/sh");
    command.args(["-c", script, "sh"]).arg(signers).arg(&file).arg(home.path().join("message"));
    let ok = command.output().expect("runs").status.success();
    std::fs::remove_file(file).expect("removed");
    ok
}

#[test]
fn good_signatures_verify_and_are_the_same_each_time() {
    let (home, agent) = (Home::new(), FakeAgent::start(AgentFault::Good));
    let first = sign_by(&agent, &home).expect("a signature");
    assert!(verifies(&agent, &home, &first));
    assert_eq!(sign_by(&agent, &home), Some(first));
    assert_eq!(agent.signatures(), 2);
    assert!(agent.connections() >= 2);
}

#[test]
fn hedged_signatures_verify_and_differ() {
    let (home, agent) = (Home::new(), FakeAgent::start(AgentFault::Hedged));
    let first = sign_by(&agent, &home).expect("a signature");
    let second = sign_by(&agent, &home).expect("a signature");
    assert!(verifies(&agent, &home, &first) && verifies(&agent, &home, &second));
    assert_ne!(first, second);
}

#[test]
fn it_can_hold_the_key_of_a_file_and_signs_as_the_real_agent_does() {
    let home = Home::new();
    let key = home.ssh_key("word");
    let real = SshAgent::start();
    real.add(&key, "word", &[]);
    let fake = FakeAgent::holding(AgentFault::Good, Stage::Any, &key, "word");
    let public = key.with_extension("pub");
    let signature = sign(&home, &real.socket(), &public).expect("a signature");
    assert_eq!(sign(&home, &fake.socket(), &public), Some(signature));
}

#[test]
fn refusals_and_bad_signatures_give_no_signature_that_verifies() {
    let home = Home::new();
    for fault in [AgentFault::Refuse, AgentFault::Close, AgentFault::Garbage, AgentFault::HugeLength] {
        // HugeLength: ssh-keygen refuses more than 256 KiB by itself.
        assert_eq!(sign_by(&FakeAgent::failing_to_sign(fault), &home), None, "{fault:?}");
    }
    for fault in [AgentFault::ShortSignature, AgentFault::WrongSignature] {
        let agent = FakeAgent::start(fault);
        assert!(
            sign_by(&agent, &home).is_none_or(|signature| !verifies(&agent, &home, &signature)),
            "{fault:?}"
        );
        assert_eq!(agent.signatures(), 1);
    }
}

#[test]
fn lists_and_waits_as_told() {
    let list_within = |agent: &FakeAgent, time: Duration| {
        let mut stream = UnixStream::connect(agent.socket()).expect("connected");
        stream.set_read_timeout(Some(time)).expect("set");
        stream.write_all(&[0, 0, 0, 1, 11]).expect("asked");
        let mut answer = [0; 9];
        stream.read_exact(&mut answer).map(|()| answer[4..].to_vec())
    };
    let list = |agent: &FakeAgent| list_within(agent, Duration::from_secs(60));
    let one_key = vec![12, 0, 0, 0, 1];
    assert_eq!(list(&FakeAgent::start(AgentFault::Good)).expect("a list"), one_key);
    assert_eq!(list(&FakeAgent::failing_to_sign(AgentFault::Hang)).expect("a list"), one_key);
    assert_eq!(list(&FakeAgent::start(AgentFault::EmptyList)).expect("a list"), [12, 0, 0, 0, 0]);
    let slow = FakeAgent::start(AgentFault::Slow(Duration::from_millis(1)));
    assert_eq!(list(&slow).expect("a list"), one_key);
    assert!(list_within(&FakeAgent::start(AgentFault::Hang), Duration::from_millis(100)).is_err());
    assert!(list(&FakeAgent::start(AgentFault::Close)).is_err());
}
