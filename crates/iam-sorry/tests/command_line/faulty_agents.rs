//! SSH agents that misbehave: each fault has a message of its own, falls back on the key file where somebody can be
//! asked, fails with 5 where nobody can, and never hangs.

use std::time::Duration;

use testkit::{
    AgentFault, AskPass, EXAMPLE_KEY_ID, EXAMPLE_SECRET, FakeAgent, Machine, Outcome, PASSPHRASE, Stage,
};

use crate::support::{self, section};

const OPEN: [&str; 2] = ["--show-decrypted", "usermanager"];

/// The faults that answer at once, and the words that tell them apart.
const FAULTS: [(AgentFault, Stage, &str); 11] = [
    (AgentFault::Close, Stage::Any, "closed the connection"),
    (AgentFault::Close, Stage::Signing, "closed the connection"),
    (AgentFault::Garbage, Stage::Any, "announced 4294967295 keys"),
    (AgentFault::Garbage, Stage::Signing, "garbled answer"),
    (AgentFault::HugeLength, Stage::Any, "announced an answer of"),
    (AgentFault::HugeLength, Stage::Signing, "announced an answer of"),
    (AgentFault::Refuse, Stage::Any, "SSH agent refused"),
    (AgentFault::Refuse, Stage::Signing, "refused to sign"),
    (AgentFault::EmptyList, Stage::Any, "holds no keys"),
    (AgentFault::ShortSignature, Stage::Any, "garbled answer"),
    (AgentFault::WrongSignature, Stage::Any, "does not verify"),
];

/// A sealed manager, whose agent is now this one, with the very same key.
fn with_fault(fault: AgentFault, stage: Stage) -> (Machine, FakeAgent) {
    let mut person = support::with_sealed_manager();
    let agent = FakeAgent::holding(fault, stage, &person.ssh_key, PASSPHRASE);
    person.home.set_env("SSH_AUTH_SOCK", agent.socket());
    (person, agent)
}

fn with_askpass(person: &Machine, askpass: &AskPass, args: &[&str]) -> Outcome {
    let mut command = person.command_without_terminal(args);
    askpass.apply(&mut command);
    Outcome::of(&mut command)
}

#[test]
fn a_good_one_opens() {
    let (person, agent) = with_fault(AgentFault::Good, Stage::Any);
    person.run(&OPEN).ok().prints(&[EXAMPLE_KEY_ID, EXAMPLE_SECRET]);
    assert_eq!(agent.signatures(), 1, "one signature opens all fields of a profile");
}

#[test]
fn each_fault_has_its_message_and_ends_with_5() {
    for (fault, stage, text) in FAULTS {
        let (person, _agent) = with_fault(fault, stage);
        let outcome = person.changing_nothing(|| person.run(&OPEN));
        outcome.fails(5).says(&[text, "ssh-add"]);
    }
}

#[test]
fn each_fault_falls_back_on_the_key_file() {
    let askpass = AskPass::answering(PASSPHRASE);
    for (count, (fault, stage, _)) in (1..).zip(FAULTS) {
        let (person, _agent) = with_fault(fault, stage);
        with_askpass(&person, &askpass, &OPEN).ok().prints(&[EXAMPLE_KEY_ID, EXAMPLE_SECRET]);
        assert_eq!(askpass.calls(), count, "{fault:?}");
    }
}

#[test]
fn sealing_falls_back_too() {
    let askpass = AskPass::answering(PASSPHRASE);
    for (fault, stage, _) in FAULTS {
        let (person, _agent) = with_fault(fault, stage);
        person.home.write_credentials(section("usermanager"));
        with_askpass(&person, &askpass, &["encrypt", "usermanager"]).ok();
        with_askpass(&person, &askpass, &OPEN).ok().prints(&[EXAMPLE_SECRET]);
    }
}

#[test]
fn a_hedged_agent_is_noticed_before_it_can_lock_anybody_out() {
    let (person, agent) = with_fault(AgentFault::Hedged, Stage::Any);
    // What was sealed before still opens through the file, and the reason is told.
    person.run(&OPEN).fails(5).says(&["deterministic"]);
    with_askpass(&person, &AskPass::answering(PASSPHRASE), &OPEN).ok().prints(&[EXAMPLE_SECRET]);

    person.home.write_credentials(section("usermanager"));
    let refused = person.changing_nothing(|| person.run(&["encrypt", "usermanager"]));
    refused.fails(5).says(&["not deterministic", "could never be opened again", "ssh-add -d"]);
    assert!(agent.connections() >= 2, "it signs twice on two connections");
    assert!(person.home.credentials().contains(EXAMPLE_SECRET), "nothing is lost");
}

#[test]
fn an_agent_that_is_gone_is_named() {
    let mut person = support::with_sealed_manager();
    person.home.set_env("SSH_AUTH_SOCK", "/nonexistent/agent");
    person.run(&OPEN).fails(5).says(&["/nonexistent/agent", "can't be reached", "ssh-add"]);
    let file = person.home.write_mode("not-a-socket", "", 0o600);
    person.home.set_env("SSH_AUTH_SOCK", &file);
    person.run(&OPEN).fails(5).says(&["not-a-socket"]);
}

#[test]
fn a_slow_one_is_waited_for_with_a_word() {
    let (person, _agent) = with_fault(AgentFault::Slow(Duration::from_millis(2500)), Stage::Signing);
    person.run(&OPEN).ok().prints(&[EXAMPLE_SECRET]).says(&["Waiting for the SSH agent"]);
    let (person, _agent) = with_fault(AgentFault::Slow(Duration::from_millis(200)), Stage::Any);
    person.run(&OPEN).ok().silent_about(&["Waiting"]);
}

#[test]
fn one_that_never_answers_is_given_up() {
    // A confirm dialog blocks the whole agent, so the limit is a person's time: both stages wait at once.
    std::thread::scope(|scope| {
        for stage in [Stage::Any, Stage::Signing] {
            scope.spawn(move || {
                let (person, _agent) = with_fault(AgentFault::Hang, stage);
                let mut command = person.command_without_terminal(&OPEN);
                let outcome = Outcome::within(Duration::from_secs(180), &mut command, None);
                outcome.fails(5).says(&["Waiting for the SSH agent", "did not answer within"]);
            });
        }
    });
}

/// A key that signs without a private half seals for everybody: no verb takes it, whatever is allowed otherwise.
#[test]
fn nothing_is_sealed_for_a_key_that_anybody_can_sign_for() {
    for (verb, sealed) in [("encrypt", false), ("recipients", true)] {
        let mut person = if sealed { support::with_sealed_manager() } else { support::with_plain_manager() };
        let agent = FakeAgent::start(AgentFault::WeakKey);
        let public = person.home.write_mode("weak.pub", agent.public_key_line(), 0o644);
        let public = public.display().to_string();
        let askpass = AskPass::answering(PASSPHRASE);
        person.home.set_env("SSH_AUTH_SOCK", agent.socket());
        let args: Vec<&str> = match verb {
            "encrypt" => vec!["encrypt", "usermanager", "--ssh-key", &public, "--allow-agent-only"],
            _ => vec!["recipients", "add", "usermanager", &public, "--allow-agent-only"],
        };
        let refused = person.changing_nothing(|| with_askpass(&person, &askpass, &args));
        refused.fails(5).says(&["weak Ed25519 key", "ssh-keygen -t ed25519"]);
    }
}
