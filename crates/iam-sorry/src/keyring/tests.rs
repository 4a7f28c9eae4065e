//! The keyring with real agents, an agent that misbehaves on order, and real key files.

use std::cell::RefCell;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use testkit::{AgentFault, AskPass, FakeAgent, GpgAgent, Home, KeyKind, SshAgent, Stage};

use super::passphrase::{AskError, AskpassRequire};
use super::*;

const PASSPHRASE: &str = "correct horse";
const ID: &str = "AKIAIOSFODNN7EXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

/// A keyring in a home of its own, and what it said.
struct Rig {
    home: Home,
    options: KeyringOptions,
    notices: RefCell<Vec<String>>,
}

impl Rig {
    fn new() -> Self {
        let home = Home::new();
        let options = KeyringOptions {
            home: Some(home.path().to_owned()),
            agent_times: AgentTimes {
                connect: Duration::from_millis(300),
                notice: Duration::from_millis(50),
                answer: Duration::from_millis(400),
            },
            ..KeyringOptions::default()
        };
        Self { home, options, notices: RefCell::default() }
    }

    /// With `~/.ssh/id_ed25519` under [`PASSPHRASE`].
    fn with_key() -> Self {
        let rig = Self::new();
        rig.home.ssh_key(PASSPHRASE);
        rig
    }

    fn key_path(&self) -> PathBuf {
        self.home.path().join(".ssh/id_ed25519")
    }

    /// A real agent has a person's time.
    fn agent(mut self, socket: PathBuf) -> Self {
        self.options.agent_socket = Some(socket);
        self.options.agent_times.answer = Duration::from_secs(30);
        self
    }

    fn fake(mut self, agent: &FakeAgent) -> Self {
        self.options.agent_socket = Some(agent.socket());
        self
    }

    fn askpass(mut self, askpass: &AskPass) -> Self {
        self.options.asking.askpass = Some(askpass.path());
        self.options.asking.require = AskpassRequire::Force;
        self.options.asking.environment = vec![("PATH".into(), "/usr/bin:/bin".into())];
        self
    }

    fn keyring(&self) -> Keyring<'_> {
        Keyring::new(self.options.clone(), |text| self.notices.borrow_mut().push(text.to_owned()))
    }

    fn heard(&self) -> String {
        self.notices.borrow().join("\n")
    }

    /// Both fields of profile `p`, sealed for the own key.
    fn sealed(&self) -> Vec<String> {
        seal_both(&mut self.keyring(), &Recipients::Own).unwrap()
    }
}

fn seal_both(keyring: &mut Keyring<'_>, recipients: &Recipients) -> Result<Vec<String>, KeyError> {
    let (id, secret) = (SecretString::from(ID), SecretString::from(SECRET));
    keyring
        .seal_fields(&[("p", "aws_access_key_id", &id), ("p", "aws_secret_access_key", &secret)], recipients)
}

fn fields(values: &[String]) -> [(&'static str, &str); 2] {
    [("aws_access_key_id", &values[0]), ("aws_secret_access_key", &values[1])]
}

fn open(keyring: &mut Keyring<'_>, values: &[String]) -> Result<Vec<String>, KeyError> {
    let opened = keyring.open_fields("p", &fields(values))?;
    Ok(opened.iter().map(|s| s.expose_secret().to_owned()).collect())
}

fn public(private: &Path) -> PublicKey {
    let line = fs::read_to_string(private.with_extension("pub")).unwrap();
    PublicKey::parse_line(&line).unwrap().0
}

fn sealed_value(text: &str) -> SealedValue {
    match seal::parse(text) {
        Ok(Value::Sealed(value)) => value,
        other => panic!("{other:?}"),
    }
}

fn salt(text: &str) -> [u8; 32] {
    *sealed_value(text).header().salt()
}

// --- the agent -------------------------------------------------------------------------------------------------------

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
    let values = seal_both(&mut keyring, &Recipients::Own).unwrap();
    assert_eq!((counting.signatures(), counting.connections()), (2, 2));
    seal_both(&mut keyring, &Recipients::Own).unwrap();
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
    use AgentFault::*;
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
            let opened = open(&mut rig.keyring(), &values);
            assert_eq!(opened.unwrap(), [ID, SECRET], "{fault:?} {stage:?}");
            let agent_did_it = fault == EmptyList && stage == Stage::Signing && agent.signatures() > 0;
            expected += usize::from(!agent_did_it);
            assert_eq!(askpass.calls(), expected, "{fault:?} {stage:?}");
            if fault == Hang {
                assert!(rig.heard().contains("Waiting for the SSH agent"), "{}", rig.heard());
            }
            // Sealing works through the file too, unless the agent would lock the user out.
            let sealed = seal_both(&mut rig.keyring(), &Recipients::Own);
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
    let rig = rig.fake(&agent);
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
    let error = seal_both(&mut rig.keyring(), &Recipients::Own).unwrap_err();
    assert!(matches!(&error, KeyError::OnlyInAgent { .. }), "{error}");
    assert!(error.to_string().contains("--allow-agent-only"), "{error}");
    // A .pub file names it, as with ssh.
    rig.options.ssh_key = Some(rig.key_path().with_extension("pub"));
    assert!(matches!(seal_both(&mut rig.keyring(), &Recipients::Own), Err(KeyError::OnlyInAgent { .. })));
    rig.options.allow_agent_only = true;
    for ssh_key in [rig.options.ssh_key.clone(), None] {
        rig.options.ssh_key = ssh_key;
        let values = rig.sealed();
        assert_eq!(open(&mut rig.keyring(), &values).unwrap(), [ID, SECRET]);
    }
    // Two of them: which one?
    let other = Rig::with_key();
    agent.add(&other.key_path(), PASSPHRASE, &[]);
    assert!(matches!(seal_both(&mut rig.keyring(), &Recipients::Own), Err(KeyError::SeveralInAgent(_))));
}

// --- key files -------------------------------------------------------------------------------------------------------

#[test]
fn without_a_passphrase_the_files_give_nothing() {
    // The original tool: the credentials file and the key file were enough.
    let askpass = AskPass::answering(PASSPHRASE);
    let rig = Rig::with_key().askpass(&askpass);
    let values = rig.sealed();
    let mut thief = rig;
    thief.options.asking = Asking::default();
    let error = open(&mut thief.keyring(), &values).unwrap_err();
    assert!(matches!(&error, KeyError::Locked { source: AskError::NoWay, .. }), "{error}");
    assert!(error.to_string().contains("ssh-add "), "{error}");
}

#[test]
fn a_changed_passphrase_loses_nothing() {
    let rig = Rig::with_key();
    let (old, new) = (AskPass::answering(PASSPHRASE), AskPass::answering("another"));
    let rig = rig.askpass(&old);
    let values = rig.sealed();
    rig.home.change_passphrase(&rig.key_path(), PASSPHRASE, "another");
    let rig = rig.askpass(&new);
    assert_eq!(open(&mut rig.keyring(), &values).unwrap(), [ID, SECRET]);
}

#[test]
fn a_wrong_passphrase_has_three_tries() {
    let wrong = AskPass::answering("wrong");
    let rig = Rig::with_key();
    let right = AskPass::answering(PASSPHRASE);
    let rig = rig.askpass(&right);
    let values = rig.sealed();
    let rig = rig.askpass(&wrong);
    let error = open(&mut rig.keyring(), &values).unwrap_err();
    assert!(error.to_string().contains("could not be unlocked: wrong passphrase"), "{error}");
    assert_eq!(wrong.calls(), 3);
    assert!(wrong.questions()[0].starts_with("Enter passphrase for "), "{:?}", wrong.questions());
    assert_eq!(rig.heard().matches("Wrong passphrase").count(), 2);
    let cancelled = AskPass::refusing();
    let rig = rig.askpass(&cancelled);
    let error = open(&mut rig.keyring(), &values).unwrap_err();
    assert!(matches!(error, KeyError::Locked { source: AskError::Cancelled, .. }));
    assert_eq!(cancelled.calls(), 1);
}

#[test]
fn askpass_is_used_as_openssh_uses_it() {
    let askpass = AskPass::answering(PASSPHRASE);
    let ask = |require, display| {
        let environment = vec![("PATH".into(), "/usr/bin:/bin".into())];
        let asking = Asking { terminal: false, askpass: Some(askpass.path()), require, display, environment };
        asking.ask("? ").map(|s| s.expose_secret().to_owned())
    };
    use AskpassRequire::*;
    for (require, display, used) in [
        (Unset, true, true),
        (Unset, false, false),
        (Prefer, true, true),
        (Prefer, false, false),
        (Force, false, true),
        (Never, true, false),
    ] {
        let answer = ask(require, display);
        match used {
            true => assert_eq!(answer.unwrap(), PASSPHRASE, "{require:?}"),
            false => assert!(matches!(answer, Err(AskError::NoWay)), "{require:?} {display}"),
        }
    }
}

#[test]
fn askpass_inherits_nothing_but_what_it_needs() {
    let home = Home::new();
    let script = home.write_script("askpass", "env >\"$HOME/seen\"; echo word");
    let variables = |name: &str| match name {
        "HOME" => Some(home.path().as_os_str().to_owned()),
        "PATH" => Some("/usr/bin:/bin".into()),
        "SSH_ASKPASS" => Some(script.clone().into_os_string()),
        "SSH_ASKPASS_REQUIRE" => Some("force".into()),
        _ => Some("AWS_SECRET_ACCESS_KEY would be here".into()),
    };
    let asking = Asking::from_variables(variables);
    assert_eq!(asking.ask("? ").unwrap().expose_secret(), "word");
    let seen = home.read("seen");
    let odd = seen.lines().filter_map(|l| l.split_once('=')).map(|(name, _)| name).find(|name| {
        name.starts_with("AWS")
            || name.starts_with("IAM")
            || name.starts_with("SSH_A")
            || name.starts_with("CARGO")
    });
    assert_eq!(odd, None);
}

#[test]
fn sealing_wants_a_protected_key_and_says_it_as_the_original_did() {
    let rig = Rig::new();
    rig.home.ssh_key("");
    let path = rig.key_path().display().to_string();
    let error = seal_both(&mut rig.keyring(), &Recipients::Own).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "SSH key '{path}' is not password protected.\n\
             For security, only password-protected SSH keys can be used for encryption.\n\
             Add a passphrase: ssh-keygen -p -f {path}"
        )
    );
    // Also where an agent would sign.
    let agent = SshAgent::start();
    agent.add(&rig.key_path(), "", &[]);
    let rig = rig.agent(agent.socket());
    assert!(matches!(seal_both(&mut rig.keyring(), &Recipients::Own), Err(KeyError::NotProtected { .. })));
}

#[test]
fn opening_with_an_unprotected_key_works_with_a_warning() {
    let askpass = AskPass::answering(PASSPHRASE);
    let rig = Rig::with_key().askpass(&askpass);
    let values = rig.sealed();
    rig.home.change_passphrase(&rig.key_path(), PASSPHRASE, "");
    assert_eq!(open(&mut rig.keyring(), &values).unwrap(), [ID, SECRET]);
    assert!(rig.heard().contains("Warning: SSH key"), "{}", rig.heard());
    assert!(
        matches!(
            rig.keyring().reseal("p", &fields(&values), "p"),
            Ok(again) if salt(&again[0]) == salt(&values[0])
        ),
        "nothing fresh is sealed with it"
    );
}

#[test]
fn files_that_cannot_be_used_are_refused_before_anybody_is_asked() {
    let askpass = AskPass::answering(PASSPHRASE);
    let mut rig = Rig::new().askpass(&askpass);
    let error = |rig: &Rig| seal_both(&mut rig.keyring(), &Recipients::Own).unwrap_err().to_string();
    assert!(error(&rig).contains("does not exist\nCreate one: ssh-keygen -t ed25519"), "{}", error(&rig));

    rig.home.ssh_key(PASSPHRASE);
    for mode in [0o644, 0o640, 0o604] {
        rig.home.set_mode(".ssh/id_ed25519", mode);
        let text = error(&rig);
        assert!(text.contains(&format!("mode {mode:04o}")) && text.contains("chmod 600 /"), "{text}");
    }
    rig.home.set_mode(".ssh/id_ed25519", 0o600);

    for (name, kind, expected) in [("rsa", KeyKind::Rsa, "RSA key"), ("ecdsa", KeyKind::Ecdsa, "ECDSA key")] {
        rig.options.ssh_key = Some(rig.home.ssh_key_as(name, kind, PASSPHRASE, 1));
        assert!(error(&rig).contains(expected), "{}", error(&rig));
    }
    rig.options.ssh_key = Some(rig.home.path().join("no such file"));
    assert!(error(&rig).contains("does not exist"));
    rig.options.ssh_key = Some(rig.home.path().to_owned());
    assert!(error(&rig).contains("can't be read"), "{}", error(&rig));
    let fifo = rig.home.path().join("fifo");
    let made = std::process::Command::new("mkfifo").args(["-m", "600"]).arg(&fifo).status().unwrap();
    assert!(made.success());
    rig.options.ssh_key = Some(fifo);
    assert!(error(&rig).contains("can't be read"), "{}", error(&rig));
    assert_eq!(askpass.calls(), 0);
}

#[test]
fn a_file_that_lies_open_is_named_where_its_key_is_needed() {
    let askpass = AskPass::answering(PASSPHRASE);
    let rig = Rig::with_key().askpass(&askpass);
    let values = rig.sealed();
    rig.home.set_mode(".ssh/id_ed25519", 0o644);
    let error = open(&mut rig.keyring(), &values).unwrap_err();
    assert!(matches!(error, KeyError::OpenToOthers { .. }), "{error}");
}

#[test]
fn a_key_with_another_name_is_found_by_its_public_part() {
    let askpass = AskPass::answering(PASSPHRASE);
    let mut rig = Rig::with_key().askpass(&askpass);
    let work = rig.home.ssh_key_as("work", KeyKind::Ed25519, PASSPHRASE, 1);
    rig.options.ssh_key = Some(work.clone());
    let values = rig.sealed();
    rig.options.ssh_key = None;
    assert_eq!(open(&mut rig.keyring(), &values).unwrap(), [ID, SECRET]);
    assert!(askpass.questions()[1].contains("/work:"), "{:?}", askpass.questions());
    // A configured key that is another one is passed over, and named where nothing else is found.
    rig.options.ssh_key = Some(rig.key_path());
    assert_eq!(open(&mut rig.keyring(), &values).unwrap(), [ID, SECRET]);
    fs::remove_file(work).unwrap();
    fs::remove_file(rig.home.path().join(".ssh/work.pub")).unwrap();
    let text = open(&mut rig.keyring(), &values).unwrap_err().to_string();
    assert!(text.contains("is another key (SHA256:") && text.contains("ssh-agent not available"), "{text}");
}

// --- values ----------------------------------------------------------------------------------------------------------

#[test]
fn corrupt_and_mixed_values_are_refused_before_anybody_is_asked() {
    let askpass = AskPass::answering(PASSPHRASE);
    let rig = Rig::with_key().askpass(&askpass);
    let (new, old) = (rig.sealed(), rig.sealed());
    let asked = askpass.calls();
    let cut = [new[0].clone(), new[1][..100].to_owned()];
    let text = open(&mut rig.keyring(), &cut).unwrap_err().to_string();
    assert!(text.starts_with("profile 'p', aws_secret_access_key: the sealed value is corrupt"), "{text}");
    let mixed = [new[0].clone(), old[1].clone()];
    let text = open(&mut rig.keyring(), &mixed).unwrap_err().to_string();
    assert!(text.contains("mixed, possibly an old value"), "{text}");
    assert_eq!(askpass.calls(), asked);
}

#[test]
fn moved_values_say_where_they_belong() {
    let askpass = AskPass::answering(PASSPHRASE);
    let rig = Rig::with_key().askpass(&askpass);
    let values = rig.sealed();
    let mut keyring = rig.keyring();
    let swapped = keyring.open_fields("p", &[("aws_secret_access_key", &values[0])]).unwrap_err().to_string();
    assert!(swapped.contains("it was sealed as aws_access_key_id"), "{swapped}");
    keyring.know_profiles(["other".to_owned(), "p".to_owned()]);
    let moved = keyring.open_fields("q", &fields(&values)).unwrap_err().to_string();
    assert!(moved.contains("it was sealed for profile 'p'"), "{moved}");
    let resealed = keyring.reseal("q", &fields(&values), "p").unwrap();
    assert!(keyring.open_fields("q", &fields(&resealed)).is_ok());
    assert_ne!(salt(&resealed[0]), salt(&values[0]), "the only recipient is here, so the envelope is fresh");
}

#[test]
fn legacy_values_open_with_a_warning_or_not_at_all() {
    let vector: serde_json::Value =
        serde_json::from_str(include_str!("../../../iam-sorry-core/tests/vectors/legacy.json")).unwrap();
    let mut rig = Rig::new();
    rig.home.write_mode(".ssh/id_ed25519", vector["key_file"].as_str().unwrap(), 0o600);
    let value = vector["value"].as_str().unwrap();
    let field = [("aws_secret_access_key", value)];
    let opened = rig.keyring().open_fields("p", &field).unwrap();
    assert_eq!(opened[0].expose_secret(), vector["plaintext"].as_str().unwrap());
    assert!(rig.heard().contains("without the passphrase") && rig.heard().contains("iam-sorry migrate"));
    rig.options.refuse_legacy = true;
    assert!(matches!(rig.keyring().open_fields("p", &field), Err(KeyError::LegacyRefused { .. })));
    rig.options.refuse_legacy = false;
    let askpass = AskPass::answering(vector["passphrase"].as_str().unwrap());
    let rig = rig.askpass(&askpass);
    let sealed = rig.sealed();
    let both = [("aws_access_key_id", sealed[0].as_str()), field[0]];
    let text = rig.keyring().open_fields("p", &both).unwrap_err().to_string();
    assert!(text.contains("side by side"), "{text}");
}

#[test]
fn plain_values_need_no_key() {
    let rig = Rig::new();
    let opened = rig.keyring().open_fields("p", &[("aws_access_key_id", "AKIA"), ("region", "")]).unwrap();
    assert_eq!(opened.iter().map(|s| s.expose_secret()).collect::<Vec<_>>(), ["AKIA", ""]);
}

// --- recipients ------------------------------------------------------------------------------------------------------

/// Two people's keys, both in one agent, and values sealed for the first.
fn two_keys() -> (Rig, SshAgent, PathBuf, Vec<String>) {
    let agent = SshAgent::start();
    let rig = Rig::with_key().agent(agent.socket());
    let second = rig.home.ssh_key_as("second", KeyKind::Ed25519, PASSPHRASE, 1);
    agent.add(&rig.key_path(), PASSPHRASE, &[]);
    agent.add(&second, PASSPHRASE, &[]);
    let values = rig.sealed();
    (rig, agent, second, values)
}

fn recipients(value: &str) -> Vec<KeyId> {
    Keyring::recipients("p", "f", value).unwrap()
}

#[test]
fn a_second_key_is_added_and_opens_alone() {
    let (rig, agent, second, values) = two_keys();
    let both = rig.keyring().add_recipient("p", &fields(&values), &public(&second)).unwrap();
    assert_eq!(recipients(&both[0]).len(), 2);
    assert_eq!(salt(&both[0]), salt(&values[0]), "salt and data key stay");
    agent.remove(&rig.key_path());
    assert_eq!(open(&mut rig.keyring(), &both).unwrap(), [ID, SECRET]);
    // With one recipient absent, new values go into the same envelope, so that he can still open them.
    let new = SecretString::from("NEW");
    fs::remove_file(rig.key_path()).unwrap();
    let replaced = rig.keyring().replace_fields("p", &fields(&both), &[("aws_access_key_id", &new)]).unwrap();
    assert_eq!(salt(&replaced[0]), salt(&both[0]));
    assert_eq!(recipients(&replaced[0]).len(), 2);
    let again = rig.keyring().add_recipient("p", &fields(&both), &public(&second)).unwrap_err();
    assert!(again.to_string().contains("already sealed for the key"), "{again}");
}

#[test]
fn a_removed_key_opens_nothing_new() {
    let (rig, agent, second, values) = two_keys();
    let both = rig.keyring().add_recipient("p", &fields(&values), &public(&second)).unwrap();
    let mine = public(&rig.key_path()).key_id();
    let left = rig.keyring().remove_recipient("p", &fields(&both), &public(&second).key_id()).unwrap();
    assert_eq!(recipients(&left[0]), [mine]);
    assert_ne!(salt(&left[0]), salt(&both[0]), "a fresh envelope");
    assert!(rig.heard().contains("rotate the AWS key"), "{}", rig.heard());
    assert_eq!(open(&mut rig.keyring(), &left).unwrap(), [ID, SECRET]);
    agent.remove(&rig.key_path());
    fs::remove_file(rig.key_path()).unwrap();
    assert!(matches!(open(&mut rig.keyring(), &left), Err(KeyError::NoRecipientKey { .. })));
    // The last one can't be removed, nor one that isn't there.
    let (rig, _agent, second, values) = two_keys();
    let alone = public(&rig.key_path()).key_id();
    assert!(rig.keyring().remove_recipient("p", &fields(&values), &alone).is_err());
    assert!(rig.keyring().remove_recipient("p", &fields(&values), &public(&second).key_id()).is_err());
}

#[test]
fn what_is_plain_stays_plain_when_the_rest_is_sealed_again() {
    let (rig, _agent, second, values) = two_keys();
    let three = [
        ("aws_access_key_id", values[0].as_str()),
        ("region", "eu-west-1"),
        ("aws_secret_access_key", &values[1]),
    ];
    let both = rig.keyring().add_recipient("p", &three, &public(&second)).unwrap();
    assert_eq!(both[1], "eu-west-1");
    assert_eq!(open(&mut rig.keyring(), &[both[0].clone(), both[2].clone()]).unwrap(), [ID, SECRET]);
}

#[test]
fn many_profiles_share_one_envelope_and_one_signature() {
    let rig = Rig::with_key();
    let agent = FakeAgent::holding(AgentFault::Good, Stage::Any, &rig.key_path(), PASSPHRASE);
    let rig = rig.fake(&agent);
    let secret = SecretString::from(SECRET);
    let names: Vec<_> = (0..50).map(|i| format!("p{i}")).collect();
    let to_seal: Vec<_> = names.iter().map(|n| (n.as_str(), "aws_secret_access_key", &secret)).collect();
    let sealed = rig.keyring().seal_fields(&to_seal, &Recipients::Own).unwrap();
    let before = agent.signatures();
    let mut keyring = rig.keyring();
    for (name, value) in names.iter().zip(&sealed) {
        keyring.open_fields(name, &[("aws_secret_access_key", value)]).unwrap();
    }
    assert_eq!(agent.signatures() - before, 1);
}

#[test]
fn the_report_for_doctor_asks_nobody() {
    let askpass = AskPass::answering(PASSPHRASE);
    let agent = SshAgent::start();
    let rig = Rig::with_key().agent(agent.socket()).askpass(&askpass);
    agent.add(&rig.key_path(), PASSPHRASE, &[]);
    let report = rig.keyring().describe_default_key();
    assert_eq!(report.path, Some(rig.key_path()));
    let key = report.key.unwrap();
    assert!(
        key.in_agent && matches!(key.protection, Some(Protection::Passphrase { rounds: 1, .. })),
        "{key:?}"
    );
    assert_eq!(report.agent.unwrap().unwrap().usable.len(), 1);
    let nothing = Rig::new().keyring().describe_default_key();
    assert!(matches!(nothing.key, Err(KeyError::NoKeyFile { .. })) && nothing.agent.is_none());
    assert_eq!(askpass.calls(), 0);
}
