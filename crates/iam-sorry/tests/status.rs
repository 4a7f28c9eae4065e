//! `status`: what the shell holds, by its variables; and `doctor --fix`.
#![expect(clippy::unwrap_used, reason = "a test fails where its rig does")]

mod machine;

use machine::{Ended, Machine};
use serde_json::{Value, json};
use testkit::Home;

/// `status` with these variables, on a machine that has neither network nor files.
fn status(arguments: &[&str], variables: &[(&str, &str)]) -> Ended {
    let home = Home::new();
    let mut command = home.command(env!("CARGO_BIN_EXE_iam-sorry"));
    command.arg("status").args(arguments).envs(variables.iter().copied());
    command.env("AWS_ENDPOINT_URL", "http://127.0.0.1:1");
    Ended::from(command.output().unwrap())
}

const SESSION: [(&str, &str); 6] = [
    ("IAM_SORRY_PROFILE", "admin"),
    ("AWS_ACCESS_KEY_ID", "ASIAEXAMPLE"),
    ("AWS_SECRET_ACCESS_KEY", "the-secret"),
    ("AWS_SESSION_TOKEN", "the-token"),
    ("AWS_CREDENTIAL_EXPIRATION", "2099-01-01T00:00:00Z"),
    ("AWS_REGION", "eu-north-1"),
];

#[test]
fn a_session_is_shown_with_its_time() {
    let ended = status(&[], &SESSION).ok();
    let ended =
        ended.prints(&["admin", "ASIAEXAMPLE (temporary)", "2099-01-01T00:00:00Z (", " left)", "eu-north-1"]);
    assert!(!ended.out.contains("the-secret") && !ended.out.contains("the-token"));
    let json: Value = serde_json::from_str(&status(&["--json"], &SESSION).ok().out).unwrap();
    assert_eq!(json["profile"], "admin");
    assert_eq!(json["access_key_id"], "ASIAEXAMPLE");
    assert_eq!((&json["source"], &json["temporary"]), (&json!("variables"), &json!(true)));
    assert!(json["seconds_left"].as_i64().unwrap() > 0);
    assert!(!json.to_string().contains("the-secret") && !json.to_string().contains("the-token"));
}

#[test]
fn nothing_and_expired_are_exit_status_3() {
    status(&[], &[]).exits(3).says(&["holds no AWS credentials", "iam-sorry shell PROFILE"]);
    let json: Value = serde_json::from_str(&status(&["--json"], &[]).exits(3).out).unwrap();
    assert_eq!((&json["source"], &json["access_key_id"]), (&json!("none"), &Value::Null));
    let mut old = SESSION;
    old[4].1 = "2019-01-01T00:00:00Z";
    status(&[], &old).exits(3).prints(&["ASIAEXAMPLE"]).says(&["expired", "iam-sorry shell admin"]);
    let json: Value = serde_json::from_str(&status(&["--json"], &old).exits(3).out).unwrap();
    assert_eq!(json["seconds_left"], 0);
    // Half a key is none.
    status(&[], &[("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")]).exits(3);
}

#[test]
fn other_sources_are_named() {
    status(&[], &[("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE"), ("AWS_SECRET_ACCESS_KEY", "s")])
        .ok()
        .prints(&["(permanent)"]);
    status(&[], &[("AWS_PROFILE", "usermanager")]).ok().prints(&["usermanager"]);
    let served = [("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:5/credentials")];
    status(&[], &served).ok().prints(&["http://127.0.0.1:5/credentials"]);
}

#[test]
fn what_shell_and_eval_set_is_what_status_shows() {
    let machine = Machine::new();
    let key = machine.account.user_allowed("alice", &[]);
    machine.home.write_credentials(key.section("alice"));
    machine.run(&["refresh", "alice"]).ok();
    let program = env!("CARGO_BIN_EXE_iam-sorry");
    let script = format!("eval $({program} --eval alice) && {program} status");
    let ended = Ended::from(
        machine
            .home
            .command("sh")
            .args(["-c", &script])
            .env("AWS_ENDPOINT_URL", machine.proxy.endpoint())
            .output()
            .unwrap(),
    );
    let id = machine.field("alice", "aws_access_key_id").unwrap();
    ended.ok().prints(&[&format!("{id} (temporary)"), " left)"]);
    let inner = machine.home.write_script("inner", &format!("exec {program} status"));
    let mut command = machine.command(&["shell", "alice"]);
    Ended::from(command.env("SHELL", inner).output().unwrap()).ok().prints(&["Profile      alice", &id]);
}

// --- doctor --fix ---

#[test]
fn fix_narrows_modes_and_seals_what_it_may() {
    let machine = Machine::new();
    let key = machine.account.user_allowed("alice", &[]);
    machine.home.write_credentials(format!("{}{}", key.section("alice"), key.section("default")));
    machine.home.set_mode(".aws/credentials", 0o644);
    machine.home.set_mode(".aws", 0o777);
    machine.home.set_mode(".ssh/id_ed25519", 0o644);
    let ended = machine.run(&["doctor", "--fix", "--yes", "--offline"]).ok();
    let ended = ended.prints(&["yours alone now", "'alice' encrypted with SSH key", "id_ed25519"]);
    assert_eq!((machine.home.mode(".aws/credentials"), machine.home.mode(".aws")), (0o600, 0o700));
    assert_eq!(machine.home.mode(".ssh/id_ed25519"), 0o600);
    assert!(machine.field("alice", "aws_secret_access_key").unwrap().starts_with("__encrypted__:v2."));
    assert_eq!(
        machine.field("default", "aws_secret_access_key").unwrap(),
        key.secret,
        "default is never sealed"
    );
    assert!(!format!("{}{}", ended.out, ended.err).contains(&key.secret));
}

#[test]
fn fix_asks_before_it_seals_and_goes_on_where_nobody_answers() {
    let machine = Machine::new();
    let key = machine.account.user_allowed("alice", &[]);
    machine.home.write_credentials(key.section("alice"));
    machine.home.set_mode(".aws/credentials", 0o640);
    machine
        .run(&["doctor", "--fix", "--offline"])
        .ok()
        .says(&["Seal the permanent keys of 'alice'", "--yes"]);
    assert_eq!(machine.field("alice", "aws_secret_access_key").unwrap(), key.secret);
    assert_eq!(machine.home.mode(".aws/credentials"), 0o600);
}

/// The lock of a process that died is no hindrance, and is gone afterwards.
#[test]
fn fix_takes_over_the_lock_of_the_dead() {
    let machine = Machine::new();
    machine.home.write_credentials("[a]\nx = 1\n");
    let ended = machine.run(&["doctor", "--fix", "--offline", "--json"]);
    ended.exits(2);
    machine.run(&["doctor", "--fix", "--offline"]).ok();
    let left: Vec<_> = std::fs::read_dir(machine.home.path().join(".aws"))
        .unwrap()
        .map(|e| e.unwrap().file_name())
        .collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().ends_with(".claim")), "{left:?}");
}

#[test]
fn fix_migrates_the_originals_values() {
    let machine = Machine::new();
    let vectors = testkit::workspace();
    drop(vectors);
    machine
        .home
        .write_credentials("[a]\naws_access_key_id = __encrypted__:AAAA\naws_secret_access_key = x\n");
    // A value that can't be opened is said, and stops neither the rest nor the report.
    let ended = machine.run(&["doctor", "--fix", "--yes", "--offline"]);
    assert_ne!(ended.code, Some(0));
    ended.prints(&["profiles:"]);
}
