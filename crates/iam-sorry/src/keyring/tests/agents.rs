//! The agent: good, refusing, locked, hanging, lying.

use super::*;

#[test]
fn through_ssh_agent_nobody_is_asked_and_one_signature_opens_a_profile() {
    let agent = SshAgent::start();
    let rig = Rig::with_key().agent(agent.socket());
    agent.add(&rig.key_path(), PASSPHRASE, &[]);
    let values = rig.sealed();
    assert_eq!(open(&mut rig.keyring(), &values).unwrap(), [ID, SECRET]);
    assert_eq!(rig.heard(), "");
    assert_eq!(salt(&values[0]), salt(&values[1]));

    // Counted with an agent that counts: two signatures to seal (the check), one to open both fields.
    let counting = FakeAgent::holding(AgentFault::Good, Stage::Any, &rig.key_path(), PASSPHRASE);
    let rig = rig.fake(&counting);
    let mut keyring = rig.keyring();
    let values = seal_both(&mut keyring).unwrap();
    assert_eq!((counting.signatures(), counting.connections()), (2, 2));
    seal_both(&mut keyring).unwrap();
    assert_eq!(counting.signatures(), 3, "checked once per process");
    let mut fresh = rig.keyring();
    open(&mut fresh, &values).unwrap();
    open(&mut fresh, &values).unwrap();
    assert_eq!((counting.signatures(), counting.connections()), (4, 3));
}

#[test]
fn gpg_agent_serves_as_well() {
    let agent = GpgAgent::start("whatever");
    let rig = Rig::with_key().agent(agent.socket());
    agent.add(&rig.key_path(), PASSPHRASE);
    let values = rig.sealed();
    assert_eq!(open(&mut rig.keyring(), &values).unwrap(), [ID, SECRET]);
    // The file gives the same signature as the agent.
    let askpass = AskPass::answering(PASSPHRASE);
    let mut rig = rig.askpass(&askpass);
    rig.options.agent_socket = None;
    assert_eq!(open(&mut rig.keyring(), &values).unwrap(), [ID, SECRET]);
    assert_eq!(askpass.calls(), 1);
}

#[test]
fn a_confirmation_that_is_denied_falls_back_to_the_file_and_says_why() {
    let denying = AskPass::refusing();
    let agent = SshAgent::confirming_with(&denying);
    let askpass = AskPass::answering(PASSPHRASE);
    let rig = Rig::with_key().agent(agent.socket()).askpass(&askpass);
    agent.add(&rig.key_path(), PASSPHRASE, &["-c"]);
    let values = rig.sealed();
    assert_eq!(open(&mut rig.keyring(), &values).unwrap(), [ID, SECRET]);
    assert!(rig.heard().contains("refused to sign: you declined"), "{}", rig.heard());
    assert_eq!((denying.calls(), askpass.calls()), (2, 2));
}

#[test]
fn a_confirmation_that_is_given_is_enough() {
    let confirming = AskPass::answering("yes");
    let agent = SshAgent::confirming_with(&confirming);
    let rig = Rig::with_key().agent(agent.socket());
    agent.add(&rig.key_path(), PASSPHRASE, &["-c"]);
    let values = rig.sealed();
    assert_eq!(open(&mut rig.keyring(), &values).unwrap(), [ID, SECRET]);
    assert_eq!(confirming.calls(), 3);
}

#[test]
fn a_locked_agent_and_an_expired_key_are_explained() {
    let agent = SshAgent::start();
    let mut rig = Rig::with_key().agent(agent.socket());
    agent.add(&rig.key_path(), PASSPHRASE, &[]);
    let values = rig.sealed();
    // The file is not at hand, so that the agent is all there is.
    fs::remove_file(rig.key_path()).unwrap();
    agent.lock("word");
    let text = open(&mut rig.keyring(), &values).unwrap_err().to_string();
    assert!(text.contains("opening profile 'p'") && text.contains("(or is locked: ssh-add -X)"), "{text}");
    assert!(
        text.contains(&sealed_value(&values[0]).header().recipients().next().unwrap().to_string()),
        "{text}"
    );
    agent.unlock("word");
    assert_eq!(open(&mut rig.keyring(), &values).unwrap(), [ID, SECRET]);

    let other = Rig::with_key();
    let agent = SshAgent::start();
    agent.add(&other.key_path(), PASSPHRASE, &["-t", "1"]);
    rig.options.agent_socket = Some(agent.socket());
    let end = Instant::now() + Duration::from_secs(20);
    while !agent.fingerprints().is_empty() {
        assert!(Instant::now() < end, "the key should expire");
        std::thread::sleep(Duration::from_millis(200));
    }
    let text = open(&mut rig.keyring(), &values).unwrap_err().to_string();
    assert!(text.contains("holds no keys"), "{text}");
}

#[test]
fn agents_that_misbehave_are_left_for_the_file() {
    use testkit::AgentFault::*;
    let askpass = AskPass::answering(PASSPHRASE);
    let plain = Rig::with_key().askpass(&askpass);
    let values = plain.sealed();
    let asked = askpass.calls();
    let mut rig = plain;
    let faults =
        [Hang, Close, Garbage, HugeLength, Refuse, EmptyList, ShortSignature, WrongSignature, Hedged];
    let mut expected = asked;
    for fault in faults {
        for stage in [Stage::Any, Stage::Signing] {
            let agent = FakeAgent::holding(fault, stage, &rig.key_path(), PASSPHRASE);
            rig = rig.fake(&agent);
            rig.notices.borrow_mut().clear();
            if fault == Hang {
                rig.options.agent_timeouts.notice = Duration::from_millis(50);
                rig.options.agent_timeouts.answer = Duration::from_millis(300);
            } else {
                rig.options.agent_timeouts.answer = Duration::from_secs(60);
            }
            let opened = open(&mut rig.keyring(), &values);
            assert_eq!(opened.unwrap(), [ID, SECRET], "{fault:?} {stage:?}");
            let agent_did_it = fault == EmptyList && stage == Stage::Signing && agent.signatures() > 0;
            expected += usize::from(!agent_did_it);
            assert_eq!(askpass.calls(), expected, "{fault:?} {stage:?}");
            if fault == Hang {
                assert!(rig.heard().contains("Waiting for the SSH agent"), "{}", rig.heard());
            }
            // Sealing works through the file too, unless the agent would lock the user out.
            let sealed = seal_both(&mut rig.keyring());
            if fault == Hedged {
                assert!(matches!(sealed, Err(KeyError::AgentNotDeterministic(_))), "{sealed:?}");
            } else {
                sealed.unwrap_or_else(|e| panic!("{fault:?} {stage:?}: {e}"));
            }
            expected = askpass.calls();
        }
    }
}

#[test]
fn a_slow_agent_is_waited_for_with_a_notice() {
    let rig = Rig::with_key();
    let agent = FakeAgent::holding(
        AgentFault::Slow(Duration::from_millis(150)),
        Stage::Any,
        &rig.key_path(),
        PASSPHRASE,
    );
    let mut rig = rig.fake(&agent);
    rig.options.agent_timeouts.notice = Duration::from_millis(20);
    let values = rig.sealed();
    assert_eq!(open(&mut rig.keyring(), &values).unwrap(), [ID, SECRET]);
    assert!(rig.heard().contains("Waiting for the SSH agent to sign"), "{}", rig.heard());
}

#[test]
fn a_socket_that_nobody_serves_is_left_for_the_file() {
    let askpass = AskPass::answering(PASSPHRASE);
    let rig = Rig::with_key().askpass(&askpass);
    let values = rig.sealed();
    let dead = rig.home.path().join("dead");
    drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
    // One whose queue is full: nobody accepts, so connecting would block.
    let full = rig.home.path().join("full");
    let listener = std::os::unix::net::UnixListener::bind(&full).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let _waiting = std::os::unix::net::UnixStream::connect(&full).unwrap();
    let mut rig = rig;
    for socket in [dead, full, rig.home.path().join("missing"), "x".repeat(200).into()] {
        rig.options.agent_socket = Some(socket.clone());
        assert_eq!(open(&mut rig.keyring(), &values).unwrap(), [ID, SECRET], "{}", socket.display());
    }
}

#[test]
fn a_key_that_is_only_in_the_agent_needs_the_flag() {
    let agent = SshAgent::start();
    let mut rig = Rig::with_key().agent(agent.socket());
    agent.add(&rig.key_path(), PASSPHRASE, &[]);
    fs::remove_file(rig.key_path()).unwrap();
    let error = seal_both(&mut rig.keyring()).unwrap_err();
    assert!(matches!(&error, KeyError::OnlyInAgent { .. }), "{error}");
    assert!(error.to_string().contains("--allow-agent-only"), "{error}");
    // A .pub file names it, as with ssh.
    rig.options.ssh_key = Some(rig.key_path().with_extension("pub"));
    assert!(matches!(seal_both(&mut rig.keyring()), Err(KeyError::OnlyInAgent { .. })));
    rig.options.allow_agent_only = true;
    for ssh_key in [rig.options.ssh_key.clone(), None] {
        rig.options.ssh_key = ssh_key;
        let values = rig.sealed();
        assert_eq!(open(&mut rig.keyring(), &values).unwrap(), [ID, SECRET]);
    }
    // Two of them: which one?
    let other = Rig::with_key();
    agent.add(&other.key_path(), PASSPHRASE, &[]);
    assert!(matches!(seal_both(&mut rig.keyring()), Err(KeyError::SeveralInAgent(_))));
}
