//! `rotate`: the profile works at every moment, the old key goes last, and a killed run is finished by the next one.
#![expect(clippy::unwrap_used, reason = "a test fails where its rig does")]

use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::json;
use testkit::{Creds, Fault, MachineOnAws, PASSPHRASE};

/// What a user needs to rotate the own key (`iam-sorry policy`).
const SELF: [&str; 6] = [
    "iam:GetUser",
    "iam:ListAccessKeys",
    "iam:CreateAccessKey",
    "iam:DeleteAccessKey",
    "iam:GetAccessKeyLastUsed",
    "iam:UpdateAccessKey",
];

/// A user with a key in a profile of the same name.
fn with_user(name: &str, actions: &[&str]) -> (MachineOnAws, Creds) {
    MachineOnAws::with_user(env!("CARGO_BIN_EXE_iam-sorry"), name, actions)
}

/// The one key left is the one in the profile, and it is another than `old`.
#[track_caller]
fn assert_rotated(machine: &MachineOnAws, name: &str, old: &Creds) {
    let new = machine.opened(name);
    assert_ne!(new.key, old.key);
    assert_eq!(machine.account.keys(name), [new.key.as_str()]);
    assert_eq!(machine.acts_as(name), name);
    assert!(machine.journal().is_empty(), "{:?}", machine.journal());
}

#[test]
fn a_sealed_profile_rotates_itself_and_stays_sealed() {
    let (machine, old) = with_user("usermanager", &SELF);
    machine.proxy.fault("*", Fault::NewKeyRefused(2));
    machine.run(&["encrypt", "usermanager"]).ok();
    let recipients = machine.run(&["recipients", "list", "usermanager"]).ok().stdout;
    let ended = machine.run(&["rotate", "usermanager"]).ok();
    let ended = ended.prints(&[
        "✓ New access key AKIA",
        "✓ Profile 'usermanager' holds the new key, sealed",
        &old.key,
    ]);
    assert!(machine.field("usermanager", "aws_secret_access_key").unwrap().starts_with("__encrypted__:v2."));
    assert_eq!(machine.run(&["recipients", "list", "usermanager"]).ok().stdout, recipients);
    assert_rotated(&machine, "usermanager", &old);
    let secret = machine.opened("usermanager").secret;
    assert!(!ended.stdout.contains(&secret) && !ended.stderr.contains(&secret));
}

#[test]
fn every_recipient_can_open_the_new_key() {
    let (machine, old) = with_user("usermanager", &SELF);
    machine.run(&["encrypt", "usermanager"]).ok();
    let second = machine.home.ssh_key_as("second", testkit::KeyKind::Ed25519, PASSPHRASE, 1);
    machine.agent().add(&second, PASSPHRASE, &[]);
    machine.run(&["recipients", "add", "usermanager", second.to_str().unwrap()]).ok();
    machine.run(&["rotate", "usermanager"]).ok();
    machine.agent().remove(&machine.ssh_key);
    assert_rotated(&machine, "usermanager", &old);
}

#[test]
fn a_plain_profile_stays_plain_and_its_twin_gets_the_key_too() {
    let (machine, old) = with_user("usermanager", &SELF);
    let text = format!("# mine\n{}{}other = 1\n", old.section("usermanager"), old.section("default"));
    machine.home.write_credentials(text);
    machine
        .run(&["rotate", "usermanager"])
        .ok()
        .prints(&["'usermanager' holds", "'default', which held the same key"]);
    assert_rotated(&machine, "usermanager", &old);
    let new = machine.opened("usermanager");
    let text = format!("# mine\n{}{}other = 1\n", new.section("usermanager"), new.section("default"));
    assert_eq!(machine.home.credentials(), text, "nothing else changed");
}

#[test]
fn a_key_served_through_credential_process_is_rotated_in_its_place() {
    let (machine, old) = with_user("usermanager", &SELF);
    machine.run(&["encrypt", "usermanager", "--process"]).ok();
    machine.run(&["rotate", "usermanager"]).ok();
    assert!(machine.field("usermanager", "iam_sorry_access_key_id").is_some());
    assert!(machine.field("usermanager", "aws_access_key_id").is_none());
    assert_rotated(&machine, "usermanager", &old);
    let mut aws = machine.home.venv_command("aws");
    let aws = aws.args(["--profile", "usermanager", "sts", "get-caller-identity"]).output().unwrap();
    assert!(String::from_utf8_lossy(&aws.stdout).contains("user/usermanager"), "{aws:?}");
}

#[test]
fn a_kept_key_beside_temporary_credentials_is_rotated() {
    let (machine, old) = with_user("alice", &SELF);
    machine.run(&["refresh", "alice"]).ok();
    let session = machine.field("alice", "aws_session_token").unwrap();
    machine.run(&["rotate", "alice"]).ok();
    assert_eq!(machine.field("alice", "aws_session_token").unwrap(), session, "the session lives on");
    machine.run(&["refresh", "alice"]).ok();
    assert_eq!(machine.acts_as("alice"), "alice");
    assert_eq!(machine.account.keys("alice").len(), 1);
    assert_ne!(machine.account.keys("alice")[0], old.key);
}

#[test]
fn who_may_not_needs_a_manager() {
    let (machine, old) = with_user("alice", &["s3:*"]);
    let ended = machine.run(&["rotate", "alice"]).exits(4);
    ended.says(&["AccessDenied", "iam-sorry rotate alice --profile MANAGER"]);
    assert_eq!(machine.account.keys("alice"), [old.key.as_str()]);

    let manager = machine.account.manager("usermanager");
    machine.home.write_credentials(format!("{}{}", old.section("alice"), manager.section("usermanager")));
    machine.run(&["rotate", "alice", "--profile", "usermanager"]).ok();
    assert_rotated(&machine, "alice", &old);
    assert_eq!(machine.account.keys("usermanager"), [manager.key.as_str()]);
}

#[test]
fn who_may_make_but_not_delete_is_finished_by_the_manager() {
    let (machine, old) = with_user("alice", &["iam:GetUser", "iam:ListAccessKeys", "iam:CreateAccessKey"]);
    machine.run(&["rotate", "alice"]).exits(4).says(&["is stored and works", &old.key, "iam-sorry doctor"]);
    assert_eq!(machine.acts_as("alice"), "alice", "the profile works");
    assert_eq!(machine.account.keys("alice").len(), 2);

    let manager = machine.account.manager("usermanager");
    let text = machine.home.credentials();
    machine.home.write_credentials(format!("{text}{}", manager.section("usermanager")));
    machine.run(&["list", "--profile", "usermanager"]).ok();
    assert_rotated(&machine, "alice", &old);
}

#[test]
fn two_keys_are_shown_and_left_alone() {
    let (machine, old) = with_user("alice", &SELF);
    let other = machine.account.key("alice");
    let before = machine.home.credentials();
    machine.run(&["rotate", "alice"]).exits(4).says(&[&old.key, &other.key, "Neither was touched"]);
    assert_eq!(machine.account.keys("alice").len(), 2);
    assert_eq!(machine.home.credentials(), before);
}

#[test]
fn what_cannot_be_rotated_says_why() {
    let (machine, key) = with_user("alice", &SELF);
    machine.run(&["rotate", "nobody"]).exits(3).says(&["'nobody' not found"]);
    let session =
        "[temp]\naws_access_key_id = ASIAEXAMPLE\naws_secret_access_key = s\naws_session_token = t\n";
    machine.home.write_credentials(format!("{}{session}", key.section("alice")));
    machine.run(&["rotate", "temp"]).exits(3).says(&["no permanent access key", "iam-sorry refresh temp"]);
    assert_eq!(machine.proxy.count("CreateAccessKey"), 0);
}

#[test]
fn a_file_that_cannot_be_written_leaves_everything_as_it_was() {
    let (machine, old) = with_user("alice", &SELF);
    let before = machine.home.credentials();
    // Another program changes the key in the file while AWS makes the new one.
    let path = machine.home.credentials_path();
    let changed = before.replace(&old.secret, "changed-meanwhile");
    let text = changed.clone();
    machine.proxy.fault_once(
        "CreateAccessKey",
        Fault::AfterForward(Arc::new(move |_| std::fs::write(&path, &text).unwrap())),
    );
    machine.run(&["rotate", "alice"]).exits(1).says(&["changed by another program"]);
    assert_eq!(machine.home.credentials(), changed);
    assert_eq!(machine.account.keys("alice"), [old.key.as_str()]);
    assert!(machine.journal().is_empty());
}

/// kill -9 right before each request reaches AWS, and right after AWS did it. The profile in the file works at once, and
/// the next run finishes, also if the profile is its own manager and holds another key by now.
#[test]
fn killed_at_every_step_the_profile_works_and_the_next_run_finishes() {
    let steps = [
        ("GetCallerIdentity", 1), // whose key is it
        ("GetUser", 1),
        ("ListAccessKeys", 1),
        ("CreateAccessKey", 1),
        ("GetCallerIdentity", 2), // the new key works
        ("UpdateAccessKey", 1),
        ("DeleteAccessKey", 1),
    ];
    std::thread::scope(|scope| {
        for (action, time) in steps {
            for after in [false, true] {
                scope.spawn(move || killed_at(action, time, after));
            }
        }
    });
}

fn killed_at(action: &str, time: usize, after: bool) {
    let (machine, old) = with_user("usermanager", &SELF);
    machine.run(&["encrypt", "usermanager"]).ok();
    kill_at(&machine, &["rotate", "usermanager"], action, time, after);
    assert_eq!(machine.acts_as("usermanager"), "usermanager", "{action} {time}, after: {after}");
    if action == "CreateAccessKey" {
        // Made, and its ID never written down: nothing proves whose it is, and it takes up the second place.
        machine.run(&["rotate", "usermanager"]).exits(4).says(&["deactivated, not deleted", &old.key]);
        let keys = machine.account.keys("usermanager");
        let found = keys.iter().find(|id| **id != old.key).unwrap();
        machine.assert_found("usermanager", found);
    }
    machine.run(&["rotate", "usermanager"]).ok();
    assert_rotated(&machine, "usermanager", &old);
}

/// A run that stood still was taken for dead by another machine, which sees no lock of ours: that one deleted the new key and
/// cleared the entry. The run goes on, before or after it has stored the key, and must not touch the old one.
#[test]
fn a_run_that_was_taken_over_deletes_nothing() {
    for stored in [false, true] {
        let (machine, old) = with_user("usermanager", &SELF);
        let before = machine.home.credentials();
        let (account, journal) =
            (machine.account.clone(), machine.home.path().join(".local/state/iam-sorry/journal"));
        let (first, seen) = (old.key.clone(), AtomicUsize::new(0));
        let other_machine = move |_: &testkit::Call| {
            // The second question whose a key is proves the new one; the second list of keys is the look after storing.
            if seen.fetch_add(1, Ordering::SeqCst) + 1 != 2 {
                return;
            }
            for id in account.keys("usermanager").into_iter().filter(|id| *id != first) {
                let args = json!({"UserName": "usermanager", "AccessKeyId": id});
                account.call("iam", "delete_access_key", args);
            }
            for entry in std::fs::read_dir(&journal).unwrap() {
                std::fs::remove_file(entry.unwrap().path()).unwrap();
            }
        };
        let at = if stored { "ListAccessKeys" } else { "GetCallerIdentity" };
        let hook = Arc::new(other_machine);
        machine.proxy.fault(at, if stored { Fault::BeforeForward(hook) } else { Fault::AfterForward(hook) });
        machine
            .run(&["rotate", "usermanager"])
            .exits(4)
            .says(&["took over the new access key", "old key was not touched"]);
        machine.proxy.clear_faults();
        assert_eq!(machine.account.keys("usermanager"), [old.key.as_str()], "stored: {stored}");
        assert!(stored || machine.home.credentials() == before);
        assert_eq!(machine.proxy.count("UpdateAccessKey"), 0);
    }
}

/// The old name says nothing about the new key any more, but it is in use.
#[test]
fn a_profile_renamed_after_the_kill_keeps_its_key() {
    let (machine, manager) = with_user("usermanager", &SELF);
    let old = machine.account.user_allowed("alice", &SELF);
    machine.home.write_credentials(format!("{}{}", manager.section("usermanager"), old.section("alice")));
    kill_at(&machine, &["rotate", "alice"], "UpdateAccessKey", 1, false);
    machine.home.write_credentials(machine.home.credentials().replace("[alice]", "[bob]"));
    machine.run(&["list", "--profile", "usermanager"]).ok().says(&["is in its profile and stays"]);
    assert_eq!(machine.account.keys("alice"), [machine.opened("bob").key]);
    assert_eq!(machine.acts_as("bob"), "alice");
    assert!(machine.journal().is_empty());
}

/// Runs it, and ends it with kill -9 right before or after that call of the action.
fn kill_at(machine: &MachineOnAws, args: &[&str], action: &str, time: usize, after: bool) {
    let victim = Arc::new(Mutex::new(None));
    let kill = {
        let (victim, seen) = (Arc::clone(&victim), AtomicUsize::new(0));
        Arc::new(move |_: &testkit::Call| {
            if seen.fetch_add(1, Ordering::SeqCst) + 1 == time {
                let pid: Option<rustix::process::Pid> = *victim.lock().unwrap();
                rustix::process::kill_process(pid.unwrap(), rustix::process::Signal::KILL).unwrap();
            }
        })
    };
    machine.proxy.fault(action, if after { Fault::AfterForward(kill) } else { Fault::BeforeForward(kill) });
    let status = {
        let mut slot = victim.lock().unwrap();
        let mut command = machine.command(args);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        *slot = Some(rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap());
        drop(slot);
        child.wait_with_output().unwrap().status
    };
    assert_eq!(status.signal(), Some(9), "{action} {time}, after: {after}");
    machine.proxy.wait_until_idle();
    machine.proxy.clear_faults();
}

#[test]
fn the_policy_is_enough_and_names_no_more() {
    let machine = MachineOnAws::new(env!("CARGO_BIN_EXE_iam-sorry"));
    let text = machine.run(&["policy", "--users", "alice"]).ok().stdout;
    let key = machine.account.user_allowed("alice", &[]);
    machine.account.put_policy("alice", &serde_json::from_str(&text).unwrap());
    machine.home.write_credentials(key.section("alice"));
    machine.run(&["rotate", "alice"]).ok();
    assert_rotated(&machine, "alice", &key);
    let policy: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert!(policy["Statement"][0]["Action"].as_array().unwrap().contains(&json!("iam:UpdateAccessKey")));
}
