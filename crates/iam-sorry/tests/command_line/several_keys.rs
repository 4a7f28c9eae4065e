//! Profiles that several SSH keys can open: whatever is done with one key at hand, the others are not locked out; and
//! what belongs together stays under one envelope.

use std::path::PathBuf;

use testkit::{
    Account, AskPass, Creds, EXAMPLE_KEY_ID, EXAMPLE_SECRET, Home, KeyKind, Machine, Ministack, Outcome,
    PASSPHRASE,
};

use crate::support::{self, BIN, section};

const OPEN: [&str; 2] = ["--show-decrypted", "usermanager"];

/// A sealed manager that the key of a laptop opens too. The laptop's key is not at hand afterwards.
fn with_laptop() -> (Machine, Home) {
    let person = support::with_sealed_manager();
    let (laptop, key) = a_second_home(&person);
    person.agent().add(&key, PASSPHRASE, &["-q"]);
    person.run(&["recipients", "add", "usermanager", &key.display().to_string()]).ok();
    person.agent().remove(&key);
    std::fs::remove_file(&key).expect("it is on the laptop");
    std::fs::remove_file(key.with_extension("pub")).expect("it is on the laptop");
    (person, laptop)
}

fn a_second_home(person: &Machine) -> (Home, PathBuf) {
    let key = person.home.ssh_key_as("id_laptop", KeyKind::Ed25519, PASSPHRASE, 1);
    let laptop = Home::new();
    laptop.write_mode(".ssh/id_ed25519", person.home.read(".ssh/id_laptop"), 0o600);
    (laptop, key)
}

/// What the laptop makes of the person's credentials file.
fn on_laptop(laptop: &Home, person: &Machine, args: &[&str]) -> Outcome {
    laptop.write_credentials(person.home.credentials());
    let mut command = laptop.command(BIN);
    let askpass = AskPass::answering(PASSPHRASE);
    askpass.apply(command.args(args));
    Outcome::of(&mut command)
}

#[track_caller]
fn opens(outcome: Outcome, secret: &str) {
    outcome.ok().prints(&[EXAMPLE_KEY_ID, secret]);
}

#[test]
fn rename_and_reseal_keep_the_absent_key() {
    let (person, laptop) = with_laptop();
    opens(on_laptop(&laptop, &person, &OPEN), EXAMPLE_SECRET);
    person.run(&["reseal", "usermanager"]).ok();
    opens(on_laptop(&laptop, &person, &OPEN), EXAMPLE_SECRET);
    person.run(&["rename", "usermanager", "boss"]).ok();
    opens(on_laptop(&laptop, &person, &["--show-decrypted", "boss"]), EXAMPLE_SECRET);
    person.run(&["rename", "boss", "usermanager"]).ok();
    opens(person.run(&OPEN), EXAMPLE_SECRET);
}

#[test]
fn encrypting_again_keeps_the_absent_key() {
    let (person, laptop) = with_laptop();
    // Another tool wrote a new secret beside the sealed id.
    let old = person.field("usermanager", "aws_secret_access_key").expect("sealed");
    person.edit(|text| text.replace(&old, "another/secret+of/forty+characters/here"));
    person.run(&["encrypt", "usermanager"]).ok();
    opens(person.run(&OPEN), "another/secret+of/forty+characters/here");
    opens(on_laptop(&laptop, &person, &OPEN), "another/secret+of/forty+characters/here");
    // Moved to where credential_process serves it.
    person.run(&["encrypt", "usermanager", "--process"]).ok();
    opens(
        on_laptop(&laptop, &person, &["credential-process", "usermanager"]),
        "another/secret+of/forty+characters/here",
    );
}

#[test]
fn removing_a_key_needs_the_others_at_hand() {
    let (person, laptop) = with_laptop();
    let own = person.home.fingerprint(&person.ssh_key);
    // A fresh envelope can't be made for the laptop's key while only the laptop has it.
    person.changing_nothing(|| person.run(&["recipients", "remove", "usermanager", &own])).fails(5);
    opens(on_laptop(&laptop, &person, &OPEN), EXAMPLE_SECRET);
}

#[test]
fn a_key_is_named_by_its_public_file_or_its_fingerprint() {
    let person = support::with_sealed_manager();
    let (laptop, key) = a_second_home(&person);
    let fingerprint = person.home.fingerprint(&key);
    let public = key.with_extension("pub").display().to_string();
    person.agent().add(&key, PASSPHRASE, &["-q"]);
    person.run(&["recipients", "add", "usermanager", &public]).ok().prints(&[&fingerprint]);
    person.run(&["recipients", "remove", "usermanager", &public]).ok();
    person.run(&["recipients", "add", "usermanager", &fingerprint]).ok();
    opens(on_laptop(&laptop, &person, &OPEN), EXAMPLE_SECRET);
    person.run(&["recipients", "remove", "usermanager", &fingerprint]).ok();
    on_laptop(&laptop, &person, &OPEN).fails(5);

    // Only in the agent: nobody knows whether it has a passphrase.
    std::fs::remove_file(&key).expect("there");
    std::fs::remove_file(&public).expect("there");
    let refused = person.changing_nothing(|| person.run(&["recipients", "add", "usermanager", &fingerprint]));
    refused.fails(5).says(&["--allow-agent-only"]);
    person.run(&["recipients", "add", "usermanager", &fingerprint, "--allow-agent-only"]).ok();
    opens(on_laptop(&laptop, &person, &OPEN), EXAMPLE_SECRET);
}

/// The session that a profile holds.
fn whoami(account: &Account, person: &Machine, profile: &str) -> String {
    let field = |name| person.field(profile, name).unwrap_or_else(|| panic!("no {name}"));
    let creds = Creds {
        key: field("aws_access_key_id"),
        secret: field("aws_secret_access_key"),
        token: Some(field("aws_session_token")),
    };
    account.whoami(&creds).expect("valid")
}

#[test]
fn a_kept_key_and_its_session_are_sealed_together() {
    let account = Ministack::shared().account();
    let arn = account.user("admin");
    let person = support::at(&account);
    person.run(&["--profile", "usermanager", "--keep-key", "admin"]).ok();
    assert_eq!(whoami(&account, &person, "admin"), arn);
    assert_eq!(account.keys("admin").len(), 1, "the key that was kept");
    // The session sealed beside the kept key: every verb still takes the profile as one.
    person.run(&["encrypt", "admin"]).ok();
    let fingerprint = person.home.fingerprint(&person.ssh_key);
    person.run(&["recipients", "list", "admin"]).ok().prints(&[&fingerprint]);
    person.run(&["rename", "admin", "boss"]).ok();
    person.run(&["--eval", "boss"]).ok().prints(&["AWS_SESSION_TOKEN="]);
    // And refreshes itself, without the manager.
    person
        .run(&["refresh", "boss"])
        .ok()
        .prints(&["✓ Successfully updated profile 'boss'", "✓ IAM user: admin"]);
    // What was sealed stays sealed.
    assert!(
        person.field("boss", "aws_session_token").is_some_and(|token| token.starts_with("__encrypted__:v2."))
    );
    let json = person.run(&["credential-process", "boss"]).ok().stdout;
    let creds = Creds::from_json(&serde_json::from_str(&json).expect("JSON"));
    assert_eq!(account.whoami(&creds).expect("valid"), arn);
    // Back to plain text it is the session that is opened, and the kept key is not lost by it.
    person.run(&["decrypt", "boss", "--yes"]).ok();
    assert_eq!(whoami(&account, &person, "boss"), arn);
    let kept = person.field("boss", "iam_sorry_secret_access_key");
    assert!(kept.is_some_and(|value| value.starts_with("__encrypted__:v2.")));
    person.run(&["refresh", "boss"]).ok();
}

#[test]
fn all_is_every_profile_but_the_manager_itself() {
    let account = Ministack::shared().account();
    let person = support::at(&account);
    for name in ["one", "two"] {
        account.user(name);
        person.run(&["--profile", "usermanager", name]).ok();
    }
    // The README's manager may be a temporary profile itself, which we or the original made.
    let manager = account.manager("temporary-manager");
    let session =
        account.call_as(&manager, "sts", "get_session_token", serde_json::json!({})).expect("a session");
    let session = Creds::from_json(&session["Credentials"]).section("temp");
    person.edit(|text| {
        format!("{text}\n{session}credentials_owner = temporary-manager\n\n{}", section("bedrock"))
    });
    let before = person.field("temp", "aws_session_token");
    let outcome = person.run(&["refresh", "--all", "--profile", "temp"]).ok();
    outcome.prints(&["✓ Successfully updated profile 'one'", "✓ Successfully updated profile 'two'"]);
    assert_eq!(person.field("temp", "aws_session_token"), before);
    assert_eq!(person.field("bedrock", "aws_secret_access_key").as_deref(), Some(EXAMPLE_SECRET));
    // A name given twice is one.
    let twice = person.run(&["refresh", "one", "two", "one", "--profile", "usermanager"]).ok();
    assert_eq!(twice.stdout.matches("'one'").count(), 1, "{twice}");
}

#[test]
fn a_hundred_at_once_through_one_agent() {
    let person = support::with_sealed_manager();
    let children: Vec<_> = (0..100)
        .map(|_| {
            let mut command = person.command_without_terminal(&["credential-process", "usermanager"]);
            command
                .stdout(std::process::Stdio::piped())
                .stderr(std::process::Stdio::piped())
                .spawn()
                .expect("starts")
        })
        .collect();
    for child in children {
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(String::from_utf8_lossy(&output.stdout).contains(EXAMPLE_SECRET));
    }
}
