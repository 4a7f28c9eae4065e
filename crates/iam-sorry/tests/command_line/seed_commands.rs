//! Every command of the original tool's README, as it is shown there, and its troubleshooting section.

use serde_json::json;
use testkit::{
    Account, AgentFault, AskPass, EXAMPLE_KEY_ID, EXAMPLE_SECRET, FakeAgent, Fault, FaultProxy, Home,
    KeyKind, Machine, Ministack, Outcome, PASSPHRASE, Pty, code_of,
};

use crate::support::{self, BIN, section};

/// A manager, and `[default]` with a key of IAM user 'boss'.
fn with_default(account: &Account) -> Machine {
    let person = support::at(account);
    account.user("boss");
    let default = account.key("boss").section("default");
    person.edit(|text| format!("{default}\n{text}"));
    person
}

/// The session that a profile holds.
fn session(person: &Machine, profile: &str) -> testkit::Creds {
    let field = |name| person.field(profile, name).unwrap_or_else(|| panic!("no {name}"));
    testkit::Creds {
        key: field("aws_access_key_id"),
        secret: field("aws_secret_access_key"),
        token: Some(field("aws_session_token")),
    }
}

#[test]
fn the_quick_start() {
    let account = Ministack::shared().account();
    let admin = account.user("admin");
    let mut person = support::with_agent();
    let manager = account.manager("usermanager");
    person.home.write_credentials(manager.section("usermanager"));
    person.home.set_env("AWS_ENDPOINT_URL", account.endpoint());
    person.home.set_env("AWS_DEFAULT_REGION", "us-east-1");

    let sealed = person.run(&["--profile", "usermanager", "--encrypt"]).ok();
    assert_eq!(sealed.stdout, "✓ Manager profile 'usermanager' encrypted with SSH key\n");
    assert!(
        person.field("usermanager", "aws_access_key_id").is_some_and(|v| v.starts_with("__encrypted__:"))
    );
    assert!(
        person.field("usermanager", "aws_secret_access_key").is_some_and(|v| v.starts_with("__encrypted__:"))
    );
    assert!(!person.home.credentials().contains(&manager.secret));

    let made = person.run(&["--profile", "usermanager", "admin"]).ok();
    let expiration = person.field("admin", "expiration").expect("when they expire");
    let expected = format!(
        "✓ Successfully updated profile 'admin'\n✓ IAM user: admin\n✓ Credentials expire at: {expiration}\n"
    );
    assert_eq!(made.stdout, expected);
    assert_eq!(account.whoami(&session(&person, "admin")), Ok(admin), "they are admin's own");
    assert_eq!(person.field("admin", "credentials_owner").as_deref(), Some("admin"));
    assert_eq!(account.keys("admin"), Vec::<String>::new(), "no key outlives the command");

    // eval $(iam-sorry --eval usermanager); for user ...; do aws iam create-user; unset ...
    let script = format!(
        "eval $({BIN} --eval usermanager)\nfor user in user1 user2; do aws iam create-user --user-name $user || exit; done\n\
         unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN\nenv"
    );
    let path = format!("{}:/usr/bin:/bin", testkit::venv().join("bin").display());
    let mut shell = person.home.command("bash");
    shell.args(["-euc", &script]).env("PATH", path);
    let batch = Outcome::of(&mut shell).ok();
    for name in ["user1", "user2"] {
        account.call("iam", "get_user", json!({ "UserName": name }));
    }
    assert!(!batch.stdout.contains(&manager.secret), "{batch}");
}

#[test]
fn duration_is_in_hours_and_36_by_default() {
    let account = Ministack::shared().account();
    account.user("admin");
    let person = support::at(&account);
    // AWS's clock and ours are the same here; a busy machine may take its time.
    let settings = |line: &str| person.home.write_mode(".config/iam-sorry/config.toml", line, 0o600);
    for (file, args, hours) in [
        ("", &["--duration", "12"][..], 12),
        ("", &["--duration", "1"], 1),
        ("", &["--duration", "120m"], 2),
        ("", &[], 36),
        // The settings file's, which the flag beats.
        ("duration = 3\n", &[], 3),
        ("duration = \"4h\"\n", &[], 4),
        ("duration = 3\n", &["--duration", "5h"], 5),
    ] {
        settings(file);
        person.run(&[&["--profile", "usermanager"], args, &["admin"]].concat()).ok();
        let list = person.run(&["list", "--json"]).ok();
        let rows: serde_json::Value = serde_json::from_str(&list.stdout).expect("JSON");
        let rows = rows.as_array().expect("a list");
        let admin = rows.iter().find(|row| row["profile"] == "admin").expect("it is listed");
        let left = admin["seconds_left"].as_i64().expect("a number");
        assert!((hours * 3600 - 120..=hours * 3600).contains(&left), "{hours} h: {list}");
    }
}

#[test]
fn a_log_tells_of_a_wait_once_and_quiet_not_at_all() {
    let account = Ministack::shared().account();
    account.user("admin");
    let mut person = support::at(&account);
    let proxy = FaultProxy::start(&account);
    proxy.fault("GetSessionToken", Fault::NewKeyRefused(3));
    person.home.set_env("AWS_ENDPOINT_URL", proxy.endpoint());
    let outcome = person.run(&["--profile", "usermanager", "admin"]).ok();
    assert_eq!(outcome.stderr.matches("Waiting for AWS").count(), 1, "{outcome}");
    assert_eq!(person.run(&["--profile", "usermanager", "admin", "--quiet"]).ok().stderr, "");
}

#[test]
fn aws_profile_names_the_manager() {
    let account = Ministack::shared().account();
    let admin = account.user("admin");
    let person = support::at(&account);
    let outcome =
        Outcome::of(person.command_without_terminal(&["admin"]).env("AWS_PROFILE", "usermanager")).ok();
    outcome.prints(&["✓ Successfully updated profile 'admin'\n"]);
    assert_eq!(account.whoami(&session(&person, "admin")), Ok(admin));
}

#[test]
fn without_a_name_default_is_refreshed_after_a_question() {
    let account = Ministack::shared().account();
    let person = with_default(&account);
    let ask = || {
        let mut command = Pty::command(&person.home, BIN);
        command.env("AWS_PROFILE", "usermanager");
        let mut pty = Pty::spawn(command);
        pty.expect("No profile specified. Found 'default' profile with user: boss");
        pty.expect("Do you want to refresh credentials for the 'default' profile? (y/n): ");
        pty
    };

    let before = person.home.credentials();
    let mut pty = ask();
    pty.send_line("n");
    let (status, shown) = pty.wait();
    assert_eq!(code_of(status), 0, "{shown}");
    assert!(shown.contains("Aborted."), "{shown}");
    assert_eq!(person.home.credentials(), before);

    let mut pty = ask();
    pty.send_line("y");
    let (status, shown) = pty.wait();
    assert_eq!(code_of(status), 0, "{shown}");
    assert!(shown.contains("Successfully updated profile 'default'"), "{shown}");
    let boss = account.whoami(&session(&person, "default")).expect("valid");
    assert!(boss.ends_with(":user/boss"), "{boss}");
}

#[test]
fn the_answer_may_come_through_a_pipe() {
    let account = Ministack::shared().account();
    let person = with_default(&account);
    let answer = |text: &str| {
        Outcome::piped(text, person.command_without_terminal::<&str>(&[]).env("AWS_PROFILE", "usermanager"))
    };
    person.changing_nothing(|| answer("n\n").ok().prints(&["Aborted."]));
    person.changing_nothing(|| answer("maybe\n").ok().prints(&["Aborted."]));
    answer("y\n").ok().prints(&["✓ Successfully updated profile 'default'\n", "✓ IAM user: boss\n"]);
}

#[test]
fn with_nobody_to_answer_it_fails_at_once_and_says_what_to_do() {
    let account = Ministack::shared().account();
    let person = with_default(&account);
    let command = || {
        let mut command = person.command_without_terminal::<&str>(&[]);
        command.env("AWS_PROFILE", "usermanager");
        command
    };
    person.changing_nothing(|| Outcome::of(&mut command()).fails(2).says(&["no terminal", "--yes"]));

    // A pipe that stays open and silent.
    let (reader, _writer) = std::io::pipe().expect("a pipe");
    let outcome = person.changing_nothing(|| Outcome::of(command().stdin(reader)));
    outcome.fails(2).says(&["no terminal", "--yes"]);

    person
        .run(&["--profile", "usermanager", "--yes"])
        .ok()
        .prints(&["✓ Successfully updated profile 'default'\n"]);
}

#[test]
fn without_a_manager_it_says_how_to_name_one() {
    let person = support::with_sealed_manager();
    for args in [&["admin"][..], &["--encrypt"], &[], &["refresh", "admin"]] {
        person.changing_nothing(|| person.run(args)).fails(2).says(&[
            "No manager profile specified. Use --profile or set AWS_PROFILE environment variable",
            "iam-sorry --profile",
        ]);
    }
}

#[test]
fn show_encrypted_opens_nothing_and_asks_nobody() {
    let person = support::with_sealed_manager();
    let agent = FakeAgent::start(AgentFault::Good);
    let askpass = AskPass::answering(PASSPHRASE);
    let mut command = person.command(&["--show-encrypted", "usermanager"]);
    askpass.apply(&mut command);
    let shown = Outcome::of(command.env("SSH_AUTH_SOCK", agent.socket())).ok();
    let field = |name| person.field("usermanager", name).expect("sealed");
    let id = format!("Access Key ID: {}\n", field("aws_access_key_id"));
    let secret = format!("Secret Access Key: {}\n", field("aws_secret_access_key"));
    let shown = shown.prints(&["Profile: usermanager\n", &id, &secret]);
    assert!(!shown.stdout.contains(EXAMPLE_SECRET) && !shown.stdout.contains(EXAMPLE_KEY_ID));
    assert_eq!((agent.connections(), askpass.calls()), (0, 0));
}

#[test]
fn show_decrypted_asks_for_the_passphrase_and_shows_what_is_inside() {
    let person = support::with_sealed_manager();
    let askpass = AskPass::answering(PASSPHRASE);
    let shown = person.run_with_askpass(&askpass, &["--show-decrypted", "usermanager"]).ok();
    let lines =
        [format!("Access Key ID: {EXAMPLE_KEY_ID}\n"), format!("Secret Access Key: {EXAMPLE_SECRET}\n")];
    shown.prints(&["Profile: usermanager\n", &lines[0], &lines[1]]);
    assert_eq!(askpass.calls(), 1, "one passphrase opens all fields");
}

#[test]
fn show_decrypted_shows_a_plain_profile_too() {
    let home = Home::new();
    home.write_credentials(section("bedrock"));
    let shown = Outcome::of(home.command(BIN).args(["--show-decrypted", "bedrock"])).ok();
    shown.prints(&[&format!("Secret Access Key: {EXAMPLE_SECRET}\n")]);
}

#[test]
fn encrypting_twice_changes_nothing_the_second_time() {
    let person = support::with_sealed_manager();
    let again = person.changing_nothing(|| person.run(&["--profile", "usermanager", "--encrypt"]));
    again.ok().prints(&["already encrypted"]);
}

#[test]
fn example_1_setup_with_a_passphrase_prompt_in_the_terminal() {
    let person = support::machine();
    person.home.write_credentials(section("usermanager"));
    let mut pty = person.run_in_terminal(&["--profile", "usermanager", "--encrypt"]);
    pty.expect("id_ed25519");
    pty.send_line(PASSPHRASE);
    let (status, shown) = pty.wait();
    assert_eq!(code_of(status), 0, "{shown}");
    assert!(shown.contains("Manager profile 'usermanager' encrypted with SSH key"), "{shown}");
    assert!(!shown.contains(PASSPHRASE), "nothing echoes a passphrase: {shown}");
}

// --- Troubleshooting ---------------------------------------------------------------------------------------------

#[test]
fn ssh_key_is_not_password_protected() {
    let home = Home::new();
    let key = home.ssh_key_as("id_ed25519", KeyKind::Ed25519, "", 1);
    let before = home.write_credentials(section("usermanager"));
    let outcome = Outcome::of(home.command(BIN).args(["--profile", "usermanager", "--encrypt"])).fails(5);
    let key = key.display();
    outcome.says(&[
        &format!("Error: SSH key '{key}' is not password protected."),
        "For security, only password-protected SSH keys can be used for encryption.",
        &format!("Add a passphrase: ssh-keygen -p -f {key}"),
    ]);
    assert_eq!(std::fs::read_to_string(before).expect("there"), section("usermanager"));
}

#[test]
fn cannot_encrypt_default() {
    let person = support::with_agent();
    person.home.write_credentials(section("default"));
    let text = "Error: Cannot encrypt 'default' profile. Use --profile or AWS_PROFILE to specify an explicit profile name.";
    for args in [&["--profile", "default", "--encrypt"][..], &["encrypt", "default"]] {
        person.changing_nothing(|| person.run(args)).fails(2).says(&[text]);
    }
}

#[test]
fn could_not_determine_iam_user() {
    let account = Ministack::shared().account();
    let person = support::at(&account);
    // A key that AWS does not know, and nothing that says whose it is.
    person.edit(|text| format!("{text}\n[admin]\naws_access_key_id = ASIAIOSFODNN7EXAMPLE\naws_secret_access_key = x\naws_session_token = y\n"));
    let outcome = person.changing_nothing(|| person.run(&["--profile", "usermanager", "admin"]));
    outcome.fails(4).says(&[
        "Error: Could not determine IAM user for profile 'admin'",
        "iam-sorry --profile usermanager admin",
    ]);
}

#[test]
fn manager_profile_not_found() {
    let person = support::with_agent();
    person.home.write_credentials("# nothing yet\n");
    let file = person.home.credentials_path().display().to_string();
    for args in [&["--profile", "usermanager", "admin"][..], &["--profile", "usermanager", "--encrypt"]] {
        person
            .changing_nothing(|| person.run(args))
            .fails(3)
            .says(&["Error: Manager profile 'usermanager' not found in credentials file", &file]);
    }
}

#[test]
fn ssh_agent_not_available() {
    let person = support::machine();
    person.home.write_credentials(section("usermanager"));
    let doctor = person.run_without_agent(&["doctor", "--offline"]);
    doctor.prints(&["⚠", "ssh-agent not available or not running", "eval $(ssh-agent -s)", "ssh-add"]);
    // And where it is needed: the passphrase can't be asked for, so the agent is the way.
    person
        .changing_nothing(|| person.run_without_agent(&["--profile", "usermanager", "--encrypt"]))
        .fails(5)
        .says(&["ssh-add"]);
}

#[test]
fn other_profiles_do_not_exist_either() {
    let person = support::with_sealed_manager();
    for args in [
        &["--eval", "nobody"][..],
        &["--show-encrypted", "nobody"],
        &["--show-decrypted", "nobody"],
        &["env", "nobody"],
        &["exec", "nobody", "--", "true"],
        &["credential-process", "nobody"],
        &["decrypt", "nobody"],
        &["encrypt", "nobody"],
        &["recipients", "list", "nobody"],
        &["migrate", "nobody"],
        &["reseal", "nobody"],
        &["rename", "nobody", "somebody"],
    ] {
        person
            .changing_nothing(|| person.run(args))
            .fails(3)
            .says(&["rofile 'nobody' not found in credentials file", "iam-sorry list"]);
    }
}
