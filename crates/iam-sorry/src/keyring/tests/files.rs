//! Key files, and the passphrase to them.

use super::*;

#[test]
fn without_a_passphrase_the_files_give_nothing() {
    // The original tool: the credentials file and the key file were enough.
    let askpass = AskPass::answering(PASSPHRASE);
    let rig = Rig::with_key().askpass(&askpass);
    let values = rig.sealed();
    let mut thief = rig;
    thief.options.passphrase_prompt = PassphrasePrompt::default();
    let error = open(&mut thief.keyring(), &values).unwrap_err();
    assert!(matches!(&error, KeyError::Locked { source: PromptError::NoWay, .. }), "{error}");
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
    assert!(matches!(error, KeyError::Locked { source: PromptError::Cancelled, .. }));
    assert_eq!(cancelled.calls(), 1);
}

#[test]
fn askpass_is_used_as_openssh_uses_it() {
    let askpass = AskPass::answering(PASSPHRASE);
    let ask = |require, display| {
        let environment = vec![("PATH".into(), "/usr/bin:/bin".into())];
        let passphrase_prompt = PassphrasePrompt {
            terminal: false,
            askpass: Some(askpass.path()),
            require,
            display,
            environment,
        };
        passphrase_prompt.ask("? ").map(|s| s.expose_secret().to_owned())
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
            false => assert!(matches!(answer, Err(PromptError::NoWay)), "{require:?} {display}"),
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
    let passphrase_prompt = PassphrasePrompt::from_variables(variables);
    assert_eq!(passphrase_prompt.ask("? ").unwrap().expose_secret(), "word");
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
    let error = seal_both(&mut rig.keyring()).unwrap_err();
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
    assert!(matches!(seal_both(&mut rig.keyring()), Err(KeyError::NotProtected { .. })));
}

#[test]
fn opening_with_an_unprotected_key_works_with_a_warning() {
    let askpass = AskPass::answering(PASSPHRASE);
    let rig = Rig::with_key().askpass(&askpass);
    let values = rig.sealed();
    rig.home.change_passphrase(&rig.key_path(), PASSPHRASE, "");
    assert_eq!(open(&mut rig.keyring(), &values).unwrap(), [ID, SECRET]);
    assert!(rig.heard().contains("is not password protected"), "{}", rig.heard());
    // Nothing is sealed with it, also not again.
    let error = rig.keyring().reseal("p", &fields(&values), "p").unwrap_err();
    assert!(matches!(error, KeyError::NotProtected { .. }), "{error}");
}

#[test]
fn files_that_cannot_be_used_are_refused_before_anybody_is_asked() {
    let askpass = AskPass::answering(PASSPHRASE);
    let mut rig = Rig::new().askpass(&askpass);
    let error = |rig: &Rig| seal_both(&mut rig.keyring()).unwrap_err().to_string();
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
