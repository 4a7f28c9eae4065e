//! `keys rotate`, `keys confirm`, `keys restore`: the old key goes only once the new one has arrived.

use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use testkit::{Home, Outcome};

use crate::fake::{Fake, json as answer, problem};
use crate::rig::{Department, Person};

const BIN: &str = env!("CARGO_BIN_EXE_iam-sorry");
const OLD: &str = "AKIAIOSFODNN7OLDKEYX";
const NEW: &str = "AKIAIOSFODNN7NEWKEYX";

fn department() -> (Department, Person) {
    let department = Department::new();
    let alice = department.signed_in("alice");
    alice.run(&["users", "create", "dirk-robot"]).ok();
    (department, alice)
}

/// A key on the screen: its ID.
fn made(alice: &Person, args: &[&str]) -> String {
    let shown: Value = serde_json::from_str(&alice.run(args).ok().stdout).unwrap();
    shown["AccessKeyId"].as_str().unwrap().to_owned()
}

/// The user's keys with their status, as IAM has them.
fn keys(department: &Department) -> Vec<(String, bool)> {
    let answer = department.account.call("iam", "list_access_keys", json!({"UserName": "dirk-robot"}));
    let keys = answer["AccessKeyMetadata"].as_array().unwrap().iter();
    keys.map(|key| (key["AccessKeyId"].as_str().unwrap().to_owned(), key["Status"] == "Active")).collect()
}

#[test]
fn a_key_that_was_stored_in_a_profile_is_confirmed() {
    let (department, alice) = department();
    alice.run(&["keys", "create", "dirk-robot", "--as", "robot"]).ok();
    let old = alice.creds("robot").key;
    let rotated = alice.run(&["keys", "rotate", "dirk-robot", "--as", "robot"]).ok();
    rotated.prints(&["It takes the place of"]).says(&[&format!("the old key {old} was deleted")]);
    let new = alice.creds("robot").key;
    assert_ne!(new, old);
    assert_eq!(keys(&department), [(new, true)]);
}

/// What was printed may be lost behind a pipe: nothing is confirmed until somebody says so.
#[test]
fn a_key_that_was_printed_is_confirmed_by_a_word() {
    let (department, alice) = department();
    let old = made(&alice, &["keys", "create", "dirk-robot"]);
    let rotated = alice.run(&["keys", "rotate", "dirk-robot"]).ok();
    let shown: Value = serde_json::from_str(&rotated.stdout).unwrap();
    let new = shown["AccessKeyId"].as_str().unwrap();
    rotated.says(&[
        &format!("iam-sorry keys confirm dirk-robot {new}"),
        &format!("iam-sorry keys restore dirk-robot {old}"),
    ]);
    let listed = alice.run(&["keys", "list", "dirk-robot"]).ok();
    listed.prints(&["ROTATION", "deleted after 20", &format!("takes the place of {old}, not confirmed")]);
    // Another rotation says what is in the way.
    let again = alice.run(&["keys", "rotate", "dirk-robot"]).exits(2);
    again.says(&["not confirmed", &format!("iam-sorry keys restore dirk-robot {old}")]);
    let would = alice.run(&["keys", "confirm", "dirk-robot", new, "--dry-run"]).ok();
    would.prints(&["Would be done"]);
    assert_eq!(keys(&department).len(), 2);
    alice.run(&["keys", "confirm", "dirk-robot", new]).ok().prints(&["is confirmed"]);
    assert_eq!(keys(&department), [(new.to_owned(), true)]);
    alice.run(&["keys", "confirm", "dirk-robot", new]).ok().prints(&["done already"]);
    // With --yes, without a question.
    let third = made(&alice, &["keys", "rotate", "dirk-robot", "--yes"]);
    assert_eq!(keys(&department), [(third, true)]);
}

#[test]
fn a_rotation_whose_secret_was_lost_is_taken_back() {
    let (department, alice) = department();
    alice.run(&["keys", "create", "dirk-robot", "--as", "robot"]).ok();
    let old = alice.creds("robot");
    let new = made(&alice, &["keys", "rotate", "dirk-robot"]);
    assert!(department.account.whoami(&old).is_err(), "the old key is inactive");
    let restored = alice.run(&["keys", "restore", "dirk-robot", &old.key]).ok();
    restored.prints(&["is taken back"]).says(&["is active again", &format!("the new key {new} was deleted")]);
    assert_eq!(keys(&department), [(old.key.clone(), true)]);
    assert!(department.account.whoami(&old).is_ok());
}

/// Nobody reads what is printed: the rotation is taken back, and certainly not confirmed, even with --yes.
#[test]
fn a_reader_that_is_gone_confirms_nothing() {
    let (department, alice) = department();
    let old = made(&alice, &["keys", "create", "dirk-robot"]);
    for args in [&["keys", "rotate", "dirk-robot"][..], &["keys", "rotate", "dirk-robot", "--yes"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = alice.command(args);
        let ended = command.stdin(Stdio::null()).stdout(writer).output().unwrap();
        assert!(!ended.status.success());
        Outcome::from(ended).says(&["was deleted again", &format!("{old}, is as it was")]);
        assert_eq!(keys(&department), [(old.clone(), true)]);
    }
    // Where it leads nowhere, no key is made at all.
    let mut command = alice.command(&["keys", "rotate", "dirk-robot", "--yes"]);
    let ended = command.stdin(Stdio::null()).stdout(Stdio::null()).output().unwrap();
    Outcome::from(ended).exits(2).says(&["The secret would be lost", "--as PROFILE"]);
    assert_eq!(keys(&department), [(old, true)]);
}

/// A service that rotates, and does with a confirmation what the test says.
fn rotating(confirm: impl Fn(&mut std::net::TcpStream) + Send + Sync + 'static) -> Fake {
    Fake::start(move |asked, _, stream| {
        let done = r#"{"operation":"op-1","action":"rotate-key","resource":"dirk-robot","changed":true,"notes":[],"reasons":[]}"#;
        if asked.line.contains("/rotate ") {
            let old = format!(
                r#"{{"access_key_id":"{OLD}","status":"Inactive","deleted_after":"2026-11-30T19:00:00Z"}}"#
            );
            let key = format!(r#""access_key_id":"{NEW}","secret_access_key":"new/secret","old_key":{old}"#);
            answer(stream, "200 OK", &format!("{{\"done\":{done},{key}}}"));
        } else {
            confirm(stream);
        }
    })
}

fn rotates(home: &Home, fake: &Fake) -> std::process::Command {
    let mut command = home.command(BIN);
    command.args(["keys", "rotate", "dirk-robot", OLD, "--as", "robot"]);
    command.env("IAM_SORRY_SERVER", &fake.origin).env("IAM_SORRY_TOKEN", "iss_A-secret-token-of-a-test");
    command
}

/// The key is stored, so the command has done its work; the old key is not lost either.
#[test]
fn a_confirmation_that_fails_says_how_to_repeat_it() {
    let fake = rotating(|stream| answer(stream, "409 Conflict", &problem("conflict", 409, "Not now.")));
    let home = Home::new();
    let ended = Outcome::of(&mut rotates(&home, &fake)).ok();
    ended.says(&[
        "still there until 2026-11-30",
        "Not now.",
        &format!("iam-sorry keys confirm dirk-robot {NEW}"),
    ]);
    assert!(home.credentials().contains(NEW), "{}", home.credentials());
}

#[test]
fn ctrl_c_before_the_confirmation_is_answered_says_what_is_left_to_do() {
    let fake = rotating(|_| std::thread::park());
    let home = Home::new();
    let child = rotates(&home, &fake).stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    while fake.asked().len() < 2 {
        assert!(start.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(home.credentials().contains(NEW), "stored before it is confirmed: {}", home.credentials());
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let ended = Outcome::from(child.wait_with_output().unwrap());
    ended.exits(130).says(&[&format!("iam-sorry keys confirm dirk-robot {NEW}")]);
}

/// What one does first about a key that has leaked; and back.
#[test]
fn a_key_is_deactivated_and_activated() {
    let (department, alice) = department();
    let key = made(&alice, &["keys", "create", "dirk-robot"]);
    let would = alice.run(&["keys", "deactivate", "dirk-robot", &key, "--dry-run"]).ok();
    would.says(&[&format!("would deactivate access key {key}")]);
    assert_eq!(keys(&department), [(key.clone(), true)]);
    alice
        .run(&["keys", "deactivate", "dirk-robot", &key])
        .ok()
        .prints(&[&format!("Access key {key} of 'dirk-robot' is inactive")]);
    assert_eq!(keys(&department), [(key.clone(), false)]);
    alice.run(&["keys", "activate", "default/dirk-robot", &key]).ok();
    assert_eq!(keys(&department), [(key, true)]);
}
