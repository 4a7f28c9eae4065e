//! What can become of sealed values in the file: several keys, renames, legacy values, and every kind of tampering.

use testkit::{AskPass, EXAMPLE_KEY_ID, EXAMPLE_SECRET, Home, Machine, Outcome, PASSPHRASE};

use crate::support::{self, BIN, section};

const OPEN: [&str; 2] = ["--show-decrypted", "usermanager"];
const ID: &str = "aws_access_key_id";
const KEY: &str = "aws_secret_access_key";

#[track_caller]
fn opened(outcome: Outcome) -> Outcome {
    outcome.ok().prints(&[EXAMPLE_KEY_ID, EXAMPLE_SECRET])
}

/// A value as the original tool made it, for this person's key file.
fn with_legacy_manager() -> Machine {
    let person = support::with_agent();
    person.home.write_credentials(section("usermanager"));
    let original = testkit::venv().join("seed/bin/iam-sorry");
    assert!(original.exists(), "{} is missing: run scripts/deps", original.display());
    let mut command = person.home.command(original);
    Outcome::of(command.args(["--profile", "usermanager", "--encrypt"]))
        .ok()
        .prints(&["encrypted with SSH key"]);
    let value = person.field("usermanager", KEY).expect("there");
    assert!(value.starts_with("__encrypted__:") && !value.contains('.'), "{value}");
    person
}

#[test]
fn values_of_the_original_tool_are_read_with_a_warning_and_migrated() {
    let person = with_legacy_manager();
    let old = person.field("usermanager", KEY).expect("there");
    let read = opened(person.run_without_agent(&OPEN)).says(&[
        "⚠",
        "old format",
        "without the passphrase",
        "iam-sorry migrate",
    ]);
    assert_eq!(read.stderr.matches("old format").count(), 1, "one warning a profile: {read}");
    person.run(&["list"]).ok().prints(&["migrate"]);
    person.run(&["doctor", "--offline"]).exits(1).prints(&["iam-sorry migrate usermanager"]);

    let migrated = person.run(&["migrate"]).ok();
    migrated.prints(&["✓ Profile 'usermanager' migrated"]).says(&["Rotate", "old copies"]);
    let text = person.home.credentials();
    assert!(text.contains("__encrypted__:v2.") && !text.contains(&old), "{text}");
    for entry in std::fs::read_dir(person.home.path().join(".aws")).expect("there") {
        let bytes = std::fs::read(entry.expect("an entry").path()).expect("readable");
        assert!(!String::from_utf8_lossy(&bytes).contains(&old), "no copy of the old ciphertext is left");
    }
    opened(person.run(&OPEN)).silent_about(&["old format"]);
    person
        .changing_nothing(|| person.run(&["migrate"]))
        .ok()
        .prints(&["No values of the original tool are left"]);
}

#[test]
fn a_setting_refuses_legacy_values() {
    let person = with_legacy_manager();
    person.home.write_mode(".config/iam-sorry/config.toml", "refuse_legacy = true\n", 0o600);
    person.run(&OPEN).fails(5).says(&["'usermanager'", "old format", "iam-sorry migrate"]);
}

#[test]
fn after_a_passphrase_change_an_old_copy_of_the_key_file_migrates() {
    let person = with_legacy_manager();
    let copy = person.home.write_mode("backup/id_ed25519", person.home.read(".ssh/id_ed25519"), 0o600);
    person.home.change_passphrase(&person.ssh_key, PASSPHRASE, "a new one");
    for args in [&OPEN[..], &["migrate"], &["migrate", "usermanager"]] {
        let lost = person.changing_nothing(|| person.run(args));
        lost.fails(5).says(&["passphrase", "old copy of the key file", "iam-sorry migrate", "--old-key"]);
    }
    person.run(&["migrate", "--old-key", &copy.display().to_string()]).ok();
    opened(person.run(&OPEN));
}

#[test]
fn legacy_and_new_values_do_not_mix() {
    let person = with_legacy_manager();
    let old = person.field("usermanager", KEY).expect("there");
    person.run(&["migrate"]).ok();
    let new = person.field("usermanager", KEY).expect("there");
    person.edit(|text| text.replace(&new, &old));
    for args in [&OPEN[..], &["migrate"], &["--eval", "usermanager"]] {
        person.changing_nothing(|| person.run(args)).fails(5).says(&["mixed"]);
    }
}

#[test]
fn swapped_fields_and_profiles_are_told() {
    let person = support::with_plain_manager();
    person.edit(|text| text + &section("other"));
    person.run(&["encrypt", "usermanager"]).ok();
    person.run(&["encrypt", "other"]).ok();
    let sealed = person.home.credentials();
    let of = |profile, field| person.field(profile, field).expect("there");
    let (id, key, other) = (of("usermanager", ID), of("usermanager", KEY), of("other", KEY));
    let other_id = of("other", ID);

    person.home.write_credentials(sealed.replace(&id, "@").replace(&key, &id).replace('@', &key));
    person.run(&OPEN).fails(5).says(&["tampered with or moved", "it was sealed as"]);
    // The whole of another profile, and one field of it.
    person.home.write_credentials(sealed.replace(&id, &other_id).replace(&key, &other));
    person.run(&OPEN).fails(5).says(&["tampered with or moved", "it was sealed for profile 'other'"]);
    person.home.write_credentials(sealed.replace(&key, &other));
    person.run(&OPEN).fails(5).says(&["mixed"]);
    person.home.write_credentials(sealed);
    opened(person.run(&OPEN));
}

#[test]
fn an_old_value_put_back_is_noticed() {
    let person = support::with_sealed_manager();
    let old = person.field("usermanager", KEY).expect("there");
    person.run(&["decrypt", "usermanager", "--yes"]).ok();
    person.run(&["encrypt", "usermanager"]).ok();
    let new = person.field("usermanager", KEY).expect("there");
    assert_ne!(old, new, "every sealing is another");
    person.edit(|text| text.replace(&new, &old));
    person.run(&OPEN).fails(5).says(&["'usermanager'", "mixed, possibly an old value put back"]);
}

#[test]
fn truncated_and_strange_values_ask_nobody_for_a_passphrase() {
    let person = support::with_sealed_manager();
    let sealed = person.home.credentials();
    let key = person.field("usermanager", KEY).expect("there");
    let askpass = AskPass::answering(PASSPHRASE);
    let body = key.strip_prefix("__encrypted__:v2.").expect("v2");
    for (value, text) in [
        (key[..key.len() - 10].to_owned(), "mixed"), // replaced below where the header is whole
        (key[..40].to_owned(), "corrupt"),
        ("__encrypted__:v2.".to_owned(), "corrupt"),
        ("__encrypted__:".to_owned(), "corrupt"),
        (format!("__encrypted__:v2.{body}="), "corrupt"),
        (format!("__encrypted__:v2.{}*{}", &body[..9], &body[10..]), "corrupt"),
        (format!("__encrypted__:v3.{body}"), "sealed by a newer iam-sorry"),
        (format!("__encrypted__:x.{body}"), "corrupt"),
    ] {
        person.home.write_credentials(sealed.replace(&key, &value));
        let outcome = person.run_with_askpass(&askpass, &OPEN).fails(5);
        if text != "mixed" {
            assert_eq!(askpass.calls(), 0, "{value}: {outcome}");
            outcome.says(&["usermanager", KEY, text]);
        }
    }
}

#[test]
fn a_wrap_that_was_changed_is_told_however_it_is_opened() {
    let person = support::with_sealed_manager();
    let key = person.field("usermanager", KEY).expect("there");
    let body = key.strip_prefix("__encrypted__:v2.").expect("v2");
    // suite, n, salt[32], type, len[2], keyid[32]: the wrap begins at byte 68. All fields share the header.
    let at = 68 * 4 / 3 + 2;
    let other = if body.as_bytes()[at] == b'A' { "B" } else { "A" };
    person.edit(|text| text.replace(&body[..=at], &format!("{}{other}", &body[..at])));
    let text = ["'usermanager'", "signs correctly, but its signature does not unlock the value"];
    let headline = |outcome: Outcome| {
        let error = outcome.stderr.lines().find(|line| line.starts_with("Error: ")).expect("an error");
        assert!(text.iter().all(|part| error.contains(part)), "{outcome}");
    };
    let askpass = AskPass::answering(PASSPHRASE);
    headline(person.changing_nothing(|| person.run_with_askpass(&askpass, &OPEN)).fails(5));
    // With the agent, the key file might still do; but there is nobody to ask for its passphrase.
    let by_agent = || Outcome::of(&mut person.command_without_terminal(&OPEN));
    headline(person.changing_nothing(by_agent).fails(5));
}

#[test]
fn no_changed_character_is_accepted() {
    let person = support::with_sealed_manager();
    let sealed = person.home.credentials();
    let key = person.field("usermanager", KEY).expect("there");
    let start = key.find("v2.").expect("v2") + 3;
    // Every character is tried in the core's tests; here the program as a whole, at a few places of each part.
    for at in (start..key.len()).step_by(11).chain([start, key.len() - 1]) {
        let mut bytes = key.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(bytes).expect("ASCII");
        person.home.write_credentials(sealed.replace(&key, &changed));
        let outcome = person.run(&OPEN).fails(5);
        assert!(!outcome.stdout.contains(EXAMPLE_SECRET), "character {at}: {outcome}");
    }
}

#[test]
fn a_renamed_section_fails_closed_and_reseal_is_the_way() {
    let person = support::with_sealed_manager();
    person.edit(|text| text.replace("[usermanager]", "[boss]"));
    person
        .run(&["--show-decrypted", "boss"])
        .fails(5)
        .says(&["tampered with or moved", "iam-sorry reseal 'boss' --was"]);
    person.changing_nothing(|| person.run(&["reseal", "boss"])).fails(5);
    person.changing_nothing(|| person.run(&["reseal", "boss", "--was", "nobody"])).fails(5);
    person.run(&["reseal", "boss", "--was", "usermanager"]).ok().prints(&["✓ Profile 'boss' sealed again"]);
    opened(person.run(&["--show-decrypted", "boss"]));
}

#[test]
fn rename_takes_sealed_values_along() {
    let person = support::with_sealed_manager();
    person.home.write_config(
        "# mine\n[profile usermanager]\nregion = eu-west-1\n\n[profile role]\nsource_profile = usermanager\n",
    );
    person.edit(|text| format!("# first\n{text}\n[taken]\nx = y\n"));
    person
        .changing_nothing(|| person.run(&["rename", "usermanager", "taken"]))
        .fails(3)
        .says(&["'taken' already"]);
    let renamed = person.run(&["rename", "usermanager", "boss"]).ok();
    renamed.prints(&["✓ Profile 'usermanager' is now 'boss'"]).says(&["'role' still names 'usermanager'"]);
    opened(person.run(&["--show-decrypted", "boss"]));
    person.run(&OPEN).fails(3);
    assert!(person.home.credentials().starts_with("# first\n[boss]\n"), "{}", person.home.credentials());
    assert!(
        person.home.config().starts_with("# mine\n[profile boss]\nregion = eu-west-1\n"),
        "{}",
        person.home.config()
    );
}

#[test]
fn a_second_key_opens_what_the_first_sealed_until_it_is_removed() {
    let person = support::with_sealed_manager();
    let laptop = person.home.ssh_key_as("id_laptop", testkit::KeyKind::Ed25519, PASSPHRASE, 1);
    let first = person.home.fingerprint(&person.ssh_key);
    let second = person.home.fingerprint(&laptop);
    let askpass = AskPass::answering(PASSPHRASE);
    let list = || person.run(&["recipients", "list", "usermanager"]).ok().stdout;
    assert!(list().contains(&first) && list().lines().count() == 1, "{}", list());

    person.agent().add(&laptop, PASSPHRASE, &["-q"]);
    let path = laptop.display().to_string();
    person.run(&["recipients", "add", "usermanager", &path]).ok().prints(&[&second]);
    assert!(list().contains(&first) && list().contains(&second), "{}", list());
    person
        .changing_nothing(|| person.run(&["recipients", "add", "usermanager", &path]))
        .fails(5)
        .says(&["already sealed for"]);

    // The laptop, with its own key only.
    let other = Home::new();
    other.write_credentials(person.home.credentials());
    other.write_mode(".ssh/id_ed25519", person.home.read(".ssh/id_laptop"), 0o600);
    let open_there = || {
        let mut command = other.command(BIN);
        askpass.apply(command.args(OPEN));
        Outcome::of(&mut command)
    };
    opened(open_there());

    let removed = person.run(&["recipients", "remove", "usermanager", &second]).ok();
    removed.prints(&[&second]).says(&["rotate the AWS key"]);
    assert!(!list().contains(&second), "{}", list());
    other.write_credentials(person.home.credentials());
    open_there().fails(5).says(&[&first]);
    opened(person.run(&OPEN));
    // The last one cannot go, nor one that is not there.
    person.changing_nothing(|| person.run(&["recipients", "remove", "usermanager", &second])).fails(5);
    person.changing_nothing(|| person.run(&["recipients", "remove", "usermanager", &first])).fails(5);
}

#[test]
fn keys_that_may_not_become_recipients() {
    let person = support::with_sealed_manager();
    let bare = person.home.ssh_key_as("id_bare", testkit::KeyKind::Ed25519, "", 1);
    let rsa = person.home.ssh_key_as("id_rsa", testkit::KeyKind::Rsa, PASSPHRASE, 1);
    for (key, text) in [(&bare, "is not password protected"), (&rsa, "RSA")] {
        let key = key.display().to_string();
        person
            .changing_nothing(|| person.run(&["recipients", "add", "usermanager", &key]))
            .fails(5)
            .says(&[text]);
    }
    person.changing_nothing(|| person.run(&["recipients", "add", "usermanager", "SHA256:nonsense"])).exits(5);
}

#[test]
fn nothing_sealed_is_said_so() {
    let person = support::with_plain_manager();
    for args in [
        &["decrypt", "usermanager", "--yes"][..],
        &["recipients", "list", "usermanager"],
        &["reseal", "usermanager"],
    ] {
        person.changing_nothing(|| person.run(args)).fails(3).says(&["'usermanager'", "nothing"]);
    }
    person.changing_nothing(|| person.run(&["migrate"])).ok();
}

#[test]
fn temporary_credentials_can_be_sealed_whole() {
    let person = support::with_agent();
    let token = "FwoGZXIvYXdzEXAMPLETOKEN//////////wEaDEXAMPLE=";
    person.home.write_credentials(format!("{}aws_session_token = {token}\n", section("temp")));
    person.run(&["encrypt", "temp"]).ok();
    assert!(!person.home.credentials().contains(token));
    person.run(&["exec", "temp", "--", "printenv", "AWS_SESSION_TOKEN"]).ok().prints(&[token]);
}
