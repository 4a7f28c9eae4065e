//! Sealing and opening with a person's own key: real agents, key files, prompts, and what a thief has without them.

use testkit::{
    AskPass, EXAMPLE_KEY_ID, EXAMPLE_SECRET, GpgAgent, Home, KeyKind, Outcome, PASSPHRASE, Pty, SshAgent,
    code_of,
};

use crate::support::{self, BIN, section};

const OPEN: [&str; 2] = ["--show-decrypted", "usermanager"];

#[track_caller]
fn opened(outcome: Outcome) -> Outcome {
    outcome.ok().prints(&[EXAMPLE_KEY_ID, EXAMPLE_SECRET])
}

#[test]
fn the_agent_seals_and_opens_without_a_prompt() {
    let person = support::with_plain_manager();
    let sealed = person.run(&["encrypt", "usermanager"]).ok();
    assert_eq!(sealed.stdout, "✓ Manager profile 'usermanager' encrypted with SSH key\n");
    let text = person.home.credentials();
    assert!(!text.contains(EXAMPLE_KEY_ID) && !text.contains(EXAMPLE_SECRET), "{text}");
    opened(person.run(&OPEN)).silent_about(&["⚠"]);

    // decrypt asks first.
    person.changing_nothing(|| person.run(&["decrypt", "usermanager"])).exits(2).says(&["--yes"]);
    let answer =
        |text| Outcome::piped(text, &mut person.command_without_terminal(&["decrypt", "usermanager"]));
    person.changing_nothing(|| answer("n\n").ok().prints(&["Aborted."]));
    answer("y\n").ok().prints(&["✓ Profile 'usermanager' decrypted"]);
    assert_eq!(person.home.credentials(), section("usermanager"), "as it was, byte for byte");
}

#[test]
fn the_key_file_does_it_with_askpass() {
    let person = support::machine();
    person.home.write_credentials(section("usermanager"));
    let askpass = AskPass::answering(PASSPHRASE);
    person.run_with_askpass(&askpass, &["encrypt", "usermanager"]).ok();
    assert_eq!(askpass.calls(), 1);
    opened(person.run_with_askpass(&askpass, &OPEN));
    assert_eq!(askpass.calls(), 2);
    let question = &askpass.questions()[1];
    assert!(question.contains(&person.ssh_key.display().to_string()), "it names the key: {question}");
}

#[test]
fn both_ways_give_the_same_key() {
    // Sealed through the agent, opened with the file; and the other way round.
    let person = support::with_sealed_manager();
    let askpass = AskPass::answering(PASSPHRASE);
    opened(person.run_with_askpass(&askpass, &OPEN));
    person.run(&["decrypt", "usermanager", "--yes"]).ok();
    person.run_with_askpass(&askpass, &["encrypt", "usermanager"]).ok();
    opened(person.run(&OPEN));
}

#[test]
fn gpg_agent_is_as_good() {
    let person = support::with_sealed_manager();
    let gpg = GpgAgent::start("another passphrase");
    gpg.add(&person.ssh_key, PASSPHRASE);
    let run =
        |args: &[&str]| Outcome::of(person.command_without_terminal(args).env("SSH_AUTH_SOCK", gpg.socket()));
    opened(run(&OPEN));
    run(&["decrypt", "usermanager", "--yes"]).ok();
    run(&["encrypt", "usermanager"]).ok();
    opened(person.run(&OPEN));
}

#[test]
fn a_prompt_in_the_terminal_gives_three_tries_and_no_echo() {
    let person = support::with_sealed_manager();
    let start = || {
        let mut command = Pty::command(&person.home, BIN);
        command.args(OPEN).env_remove("SSH_AUTH_SOCK");
        Pty::spawn(command)
    };
    let mut pty = start();
    for word in ["wrong one", "wrong two", PASSPHRASE] {
        pty.expect(&format!("{}: ", person.ssh_key.display()));
        pty.send_line(word);
    }
    let (status, shown) = pty.wait();
    assert_eq!(code_of(status), 0, "{shown}");
    assert!(
        shown.contains(EXAMPLE_SECRET) && !shown.contains("wrong one") && !shown.contains(PASSPHRASE),
        "{shown}"
    );

    let mut pty = start();
    for word in ["wrong one", "wrong two", "wrong three"] {
        pty.expect(&format!("{}: ", person.ssh_key.display()));
        pty.send_line(word);
    }
    let (status, shown) = pty.wait();
    assert_eq!(code_of(status), 5, "{shown}");
    assert!(shown.contains("wrong passphrase") && !shown.contains(EXAMPLE_SECRET), "{shown}");

    let mut pty = start();
    pty.expect(&format!("{}: ", person.ssh_key.display()));
    pty.send("\x03");
    assert_eq!(code_of(pty.wait().0), 130, "Ctrl-C");

    let mut pty = start();
    pty.expect(&format!("{}: ", person.ssh_key.display()));
    pty.send("\x04");
    assert_eq!(code_of(pty.wait().0), 5, "Ctrl-D is no answer");
}

#[test]
fn the_terminal_echoes_again_after_control_c() {
    let person = support::with_sealed_manager();
    let mut command = Pty::command(&person.home, "sh");
    let script =
        "trap '' INT; (trap - INT; exec \"$0\" --show-decrypted usermanager); echo ended $?; stty -a";
    command.args(["-c", script, BIN]).env_remove("SSH_AUTH_SOCK");
    let mut pty = Pty::spawn(command);
    pty.expect("id_ed25519: ");
    pty.send("\x03");
    pty.expect("ended 130");
    let (_, shown) = pty.wait();
    assert!(shown.contains(" echo ") && !shown.contains("-echo ") && shown.contains(" icanon"), "{shown}");
}

#[test]
fn askpass_is_asked_three_times_and_cancel_ends_it() {
    let person = support::with_sealed_manager();
    let wrong = AskPass::answering("wrong");
    person.run_with_askpass(&wrong, &OPEN).fails(5).says(&["wrong passphrase", "ssh-keygen -y -f"]);
    assert_eq!(wrong.calls(), 3);
    let cancel = AskPass::refusing();
    person.run_with_askpass(&cancel, &OPEN).fails(5).says(&[
        "id_ed25519",
        "no passphrase was given",
        "ssh-add",
    ]);
    assert_eq!(cancel.calls(), 1);
}

#[test]
fn askpass_require_is_honoured() {
    let person = support::with_sealed_manager();
    let askpass = AskPass::answering(PASSPHRASE);
    let run = |require: Option<&str>, display: bool| {
        let mut command = person.command_without_terminal(&OPEN);
        command.env_remove("SSH_AUTH_SOCK").env("SSH_ASKPASS", askpass.path());
        if let Some(require) = require {
            command.env("SSH_ASKPASS_REQUIRE", require);
        }
        if display {
            command.env("DISPLAY", ":none");
        }
        Outcome::of(&mut command)
    };
    run(Some("never"), true).fails(5);
    run(None, false).fails(5).says(&["no terminal", "SSH_ASKPASS"]);
    assert_eq!(askpass.calls(), 0);
    opened(run(None, true));
    opened(run(Some("prefer"), true));
    opened(run(Some("force"), false));
    assert_eq!(askpass.calls(), 3);
}

#[test]
fn without_anybody_to_ask_it_fails_and_says_what_to_do() {
    let person = support::with_sealed_manager();
    for args in [
        &OPEN[..],
        &["--eval", "usermanager"],
        &["credential-process", "usermanager"],
        &["exec", "usermanager", "--", "env"],
    ] {
        person.changing_nothing(|| person.run_without_agent(args)).fails(5).says(&[
            "no terminal",
            "ssh-add",
            "ssh-agent not available or not running",
        ]);
    }
}

#[test]
fn a_passphrase_change_loses_nothing() {
    let person = support::with_sealed_manager();
    person.home.change_passphrase(&person.ssh_key, PASSPHRASE, "a new one");
    opened(person.run_with_askpass(&AskPass::answering("a new one"), &OPEN));
    // Nor does one to the same passphrase, or a new comment, which the original loses too.
    person.home.change_passphrase(&person.ssh_key, "a new one", PASSPHRASE);
    let comment = person
        .home
        .command("ssh-keygen")
        .args(["-q", "-c", "-C", "new@comment", "-P", PASSPHRASE, "-f"])
        .arg(&person.ssh_key)
        .status();
    assert!(comment.expect("ssh-keygen runs").success());
    opened(person.run_with_askpass(&AskPass::answering(PASSPHRASE), &OPEN));
    person.run_with_askpass(&AskPass::answering("a new one"), &OPEN).fails(5);
}

#[test]
fn a_copy_of_both_files_gives_nothing_without_the_passphrase() {
    let person = support::with_sealed_manager();
    let thief = Home::new();
    thief.write_credentials(person.home.credentials());
    thief.write_mode(".ssh/id_ed25519", person.home.read(".ssh/id_ed25519"), 0o600);
    thief.write_mode(".ssh/id_ed25519.pub", person.home.read(".ssh/id_ed25519.pub"), 0o600);
    for guess in ["", "password", "correct horse"] {
        let askpass = AskPass::answering(guess);
        for args in [
            &OPEN[..],
            &["--eval", "usermanager"],
            &["--show-encrypted", "usermanager"],
            &["decrypt", "usermanager", "--yes"],
        ] {
            let mut command = thief.command(BIN);
            askpass.apply(command.args(args));
            let outcome = Outcome::of(&mut command);
            assert!(
                !outcome.stdout.contains(EXAMPLE_SECRET) && !outcome.stdout.contains(EXAMPLE_KEY_ID),
                "{outcome}"
            );
            assert_eq!(outcome.code == 0, args[0] == "--show-encrypted", "{outcome}");
        }
    }
    // The original's way in: the bytes of the key file are the key. Its own program can't open ours.
    let seed = testkit::venv().join("seed/bin/iam-sorry");
    let outcome = Outcome::of(thief.command(seed).args(["--eval", "usermanager"]));
    assert!(!outcome.stdout.contains(EXAMPLE_SECRET), "{outcome}");
}

#[test]
fn keys_that_cannot_seal_are_refused_by_name() {
    for (kind, name) in [(KeyKind::Rsa, "RSA"), (KeyKind::Ecdsa, "ECDSA")] {
        let home = Home::new();
        let key = home.ssh_key_as("id_other", kind, PASSPHRASE, 1);
        home.write_credentials(section("usermanager"));
        let mut command = home.command(BIN);
        command.args(["encrypt", "usermanager", "--ssh-key"]).arg(&key);
        Outcome::of(&mut command).fails(5).says(&["id_other", name, "Ed25519", "ssh-keygen -t ed25519"]);
        assert_eq!(home.credentials(), section("usermanager"));
    }
    let home = Home::new();
    home.write_credentials(section("usermanager"));
    let pem = home.path().join(".ssh/old");
    let made =
        home.command("ssh-keygen").args(["-q", "-t", "rsa", "-m", "PEM", "-N", "", "-f"]).arg(&pem).status();
    assert!(made.expect("ssh-keygen runs").success());
    let run = |key: &std::path::Path| {
        Outcome::of(home.command(BIN).args(["encrypt", "usermanager", "--ssh-key"]).arg(key)).fails(5)
    };
    run(&pem).says(&["PEM", "ssh-keygen -p -f"]);
    let pkcs8 = home.write_mode(
        "k8",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
        0o600,
    );
    run(&pkcs8).says(&["PKCS#8", "ssh-keygen -p -f"]);
    run(&home.write_mode("no-key", "hello\n", 0o600)).says(&["no-key", "is not an SSH private key"]);
    run(&home.path().join("missing")).says(&["missing", "does not exist", "ssh-keygen -t ed25519"]);
    run(home.path()).says(&["not a regular file"]);
}

#[test]
fn a_key_file_that_nobody_here_can_unlock_is_told_before_anybody_is_asked() {
    let person = support::with_sealed_manager();
    let askpass = AskPass::answering(PASSPHRASE);
    let refused = |hints: &[&str]| {
        person.changing_nothing(|| person.run_with_askpass(&askpass, &OPEN)).fails(5).says(hints);
    };
    let again = |options: &[&str]| {
        let mut command = person.home.command("ssh-keygen");
        command
            .args(["-q", "-p", "-P", PASSPHRASE, "-N", PASSPHRASE])
            .args(options)
            .arg("-f")
            .arg(&person.ssh_key);
        assert!(command.stdout(std::process::Stdio::null()).status().expect("ssh-keygen runs").success());
    };
    again(&["-a", "1", "-Z", "3des-cbc"]);
    refused(&["the cipher 3des-cbc, which is not supported", "ssh-keygen -p -Z aes256-ctr -f"]);
    // To make a key of so many rounds takes a minute; that the number is there is enough.
    again(&["-a", "1", "-Z", "aes256-ctr"]);
    let text = std::fs::read_to_string(&person.ssh_key).expect("the key");
    // "openssh-key-v1" NUL, str("aes256-ctr"), str("bcrypt"), u32 length of the options, str(salt[16]), u32 rounds.
    const ROUNDS_AT: usize = 15 + 14 + 10 + 4 + 20;
    let lines: Vec<&str> = text.lines().skip(1).take(2).collect();
    let changed = with_bytes_changed(&lines.concat(), ROUNDS_AT + 2, &[0x10, 0x01]);
    let changed = text.replace(&lines.join("\n"), &changed);
    person.home.write_mode(".ssh/id_ed25519", changed, 0o600);
    refused(&["asks for 4097 bcrypt rounds, more than the 4096", "ssh-keygen -p -a"]);
    assert_eq!(askpass.calls(), 0, "nobody is asked for a passphrase in vain");
    // The agent can use it all the same.
    opened(person.run(&OPEN));
}

/// Base64 with some of its bytes replaced.
fn with_bytes_changed(text: &str, at: usize, bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digit = |c: u8| DIGITS.iter().position(|d| *d == c).expect("base64") as u8;
    let mut bits: Vec<bool> =
        text.bytes().flat_map(|c| (0..6).rev().map(move |bit| digit(c) >> bit & 1 == 1)).collect();
    for (i, bit) in bytes.iter().flat_map(|b| (0..8).rev().map(move |bit| b >> bit & 1 == 1)).enumerate() {
        bits[at * 8 + i] = bit;
    }
    let value = |six: &[bool]| six.iter().fold(0, |n, bit| n << 1 | usize::from(*bit));
    bits.chunks(6).map(|six| char::from(DIGITS[value(six)])).collect()
}

#[test]
fn a_key_file_that_others_can_read_is_refused_with_the_way_to_close_it() {
    let person = support::with_sealed_manager();
    person.home.set_mode(".ssh/id_ed25519", 0o644);
    let hint = format!("chmod 600 {}", person.ssh_key.display());
    let askpass = AskPass::answering(PASSPHRASE);
    person.run_with_askpass(&askpass, &OPEN).fails(5).says(&["0644", &hint]);
    assert_eq!(askpass.calls(), 0, "nobody is asked for a passphrase in vain");
    person.home.write_credentials(section("usermanager"));
    person.run(&["encrypt", "usermanager"]).fails(5).says(&["0644", &hint]);
}

#[test]
fn opening_with_an_unprotected_key_works_with_a_warning() {
    let person = support::with_sealed_manager();
    person.home.change_passphrase(&person.ssh_key, PASSPHRASE, "");
    opened(person.run_without_agent(&OPEN)).says(&["⚠", "is not password protected", "ssh-keygen -p -f"]);
}

#[test]
fn a_key_that_only_the_agent_holds_needs_a_word() {
    let person = support::with_plain_manager();
    std::fs::remove_dir_all(person.home.path().join(".ssh")).expect("the laptop keeps the file");
    let refused = person.changing_nothing(|| person.run(&["encrypt", "usermanager"]));
    refused.fails(5).says(&["only in the SSH agent", "--allow-agent-only"]);
    person.run(&["encrypt", "usermanager", "--allow-agent-only"]).ok();
    opened(person.run(&OPEN));
}

#[test]
fn which_key_is_found_where() {
    let person = support::with_sealed_manager();
    let askpass = AskPass::answering(PASSPHRASE);
    let moved = person.home.path().join("elsewhere/my key");
    std::fs::create_dir(person.home.path().join("elsewhere")).expect("a folder");
    std::fs::rename(&person.ssh_key, &moved).expect("moved");
    // Its .pub is still in ~/.ssh, but the private key is not beside it.
    person
        .run_with_askpass(&askpass, &OPEN)
        .fails(5)
        .says(&[&person.home.fingerprint(&person.ssh_key.with_extension("pub"))]);

    let with = |variable: &str, value: &str| {
        let mut command = person.command_without_terminal(&OPEN);
        askpass.apply(command.env_remove("SSH_AUTH_SOCK").env(variable, value));
        Outcome::of(&mut command)
    };
    opened(with("IAM_SORRY_SSH_KEY", &moved.display().to_string()));
    opened(with("IAM_SORRY_SSH_KEY", "~/elsewhere/my key"));
    opened(person.run_with_askpass(&askpass, &[OPEN[0], OPEN[1], "--ssh-key", &moved.display().to_string()]));
    person.home.write_mode(".config/iam-sorry/config.toml", format!("ssh_key = {:?}\n", moved), 0o600);
    opened(person.run_with_askpass(&askpass, &OPEN));
    // Flag beats variable beats file.
    with("IAM_SORRY_SSH_KEY", "/nonexistent").fails(5).says(&["/nonexistent"]);
    std::fs::remove_file(person.home.path().join(".config/iam-sorry/config.toml")).expect("there");

    // A private key of another name whose .pub says that it is the one.
    std::fs::rename(&moved, person.home.path().join(".ssh/id_work")).expect("moved");
    std::fs::rename(person.ssh_key.with_extension("pub"), person.home.path().join(".ssh/id_work.pub"))
        .expect("moved");
    opened(person.run_with_askpass(&askpass, &OPEN));
}

#[test]
fn the_wrong_key_is_told_by_fingerprints() {
    let person = support::with_sealed_manager();
    let right = person.home.fingerprint(&person.ssh_key);
    std::fs::remove_dir_all(person.home.path().join(".ssh")).expect("lost");
    std::fs::create_dir(person.home.path().join(".ssh")).expect("made");
    person.home.ssh_key(PASSPHRASE);
    let other = SshAgent::start();
    other.add(&person.ssh_key, PASSPHRASE, &["-q"]);
    let mut command = person.command_without_terminal(&OPEN);
    Outcome::of(command.env("SSH_AUTH_SOCK", other.socket())).fails(5).says(&[
        &right,
        "ssh-add",
        "--ssh-key",
    ]);
}

#[test]
fn a_locked_agent_and_a_declined_confirmation_fall_back_on_the_file() {
    let person = support::with_sealed_manager();
    let askpass = AskPass::answering(PASSPHRASE);
    let run = |socket: std::path::PathBuf, ask: bool| {
        let mut command = person.command_without_terminal(&OPEN);
        command.env("SSH_AUTH_SOCK", socket);
        if ask {
            askpass.apply(&mut command);
        }
        Outcome::of(&mut command)
    };
    person.agent().lock("word");
    opened(run(person.agent().socket(), true));
    run(person.agent().socket(), false).fails(5).says(&["locked", "ssh-add"]);
    person.agent().unlock("word");
    opened(run(person.agent().socket(), false));

    let no = AskPass::refusing();
    let declining = SshAgent::confirming_with(&no);
    declining.add(&person.ssh_key, PASSPHRASE, &["-q", "-c"]);
    opened(run(declining.socket(), true)).says(&["refused to sign", "you declined", "ssh-add -X"]);
    run(declining.socket(), false).fails(5).says(&["refused to sign"]);

    let yes = AskPass::answering("yes");
    let confirming = SshAgent::confirming_with(&yes);
    confirming.add(&person.ssh_key, PASSPHRASE, &["-q", "-c"]);
    opened(run(confirming.socket(), false));
    assert_eq!(yes.calls(), 1, "one confirmation opens all fields of a profile");
}

#[test]
fn exec_and_env_and_credential_process_open_too() {
    let person = support::with_sealed_manager();
    person
        .run(&["exec", "usermanager", "--", "printenv", "AWS_SECRET_ACCESS_KEY"])
        .ok()
        .prints(&[EXAMPLE_SECRET]);
    let json = person.run(&["credential-process", "usermanager"]).ok().stdout;
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["Version"], 1);
    assert_eq!(json["AccessKeyId"], EXAMPLE_KEY_ID);
    assert_eq!(json["SecretAccessKey"], EXAMPLE_SECRET);
}

#[test]
fn encrypt_process_serves_every_tool_without_a_wrapper() {
    let account = testkit::Ministack::shared().account();
    let mut person = support::with_agent();
    let manager = account.manager("usermanager");
    person.home.write_credentials(manager.section("usermanager"));
    person.home.set_env("AWS_ENDPOINT_URL", account.endpoint());
    person.run(&["encrypt", "usermanager", "--process"]).ok();
    let line = person.home.config();
    assert!(
        line.contains(&format!("credential_process = \"{BIN}\" credential-process usermanager")),
        "{line}"
    );
    assert!(!person.home.credentials().contains("\naws_secret_access_key"), "{}", person.home.credentials());
    let arn = account.whoami(&manager).expect("valid");
    let mut aws = person.home.venv_command("aws");
    aws.args([
        "--profile",
        "usermanager",
        "sts",
        "get-caller-identity",
        "--query",
        "Arn",
        "--output",
        "text",
    ]);
    aws.env("AWS_DEFAULT_REGION", "us-east-1");
    assert_eq!(Outcome::of(&mut aws).ok().stdout.trim(), arn);

    person.run(&["decrypt", "usermanager", "--yes"]).ok();
    assert_eq!(person.field("usermanager", "aws_secret_access_key"), Some(manager.secret));
    assert!(!person.home.config().contains("credential_process"), "{}", person.home.config());
}
