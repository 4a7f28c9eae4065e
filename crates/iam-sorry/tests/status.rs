//! `status`: what the shell holds, by its variables; and `doctor --fix`.

use serde_json::{Value, json};
use testkit::{Home, MachineOnAws, Outcome};

/// `status` with these variables, on a machine that has neither network nor files.
fn status(arguments: &[&str], variables: &[(&str, &str)]) -> Outcome {
    let home = Home::new();
    let mut command = home.command(env!("CARGO_BIN_EXE_iam-sorry"));
    command.arg("status").args(arguments).envs(variables.iter().copied());
    command.env("AWS_ENDPOINT_URL", "http://127.0.0.1:1");
    Outcome::of(&mut command)
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
    assert!(!ended.stdout.contains("the-secret") && !ended.stdout.contains("the-token"));
    let json: Value = serde_json::from_str(&status(&["--json"], &SESSION).ok().stdout).unwrap();
    assert_eq!(json["profile"], "admin");
    assert_eq!(json["access_key_id"], "ASIAEXAMPLE");
    assert_eq!((&json["source"], &json["temporary"]), (&json!("variables"), &json!(true)));
    assert!(json["seconds_left"].as_i64().unwrap() > 0);
    assert!(!json.to_string().contains("the-secret") && !json.to_string().contains("the-token"));
}

#[test]
fn nothing_and_expired_are_exit_status_3() {
    status(&[], &[]).exits(3).says(&["holds no AWS credentials", "iam-sorry shell PROFILE"]);
    let json: Value = serde_json::from_str(&status(&["--json"], &[]).exits(3).stdout).unwrap();
    assert_eq!((&json["source"], &json["access_key_id"]), (&json!("none"), &Value::Null));
    let mut old = SESSION;
    old[4].1 = "2019-01-01T00:00:00Z";
    status(&[], &old).exits(3).prints(&["ASIAEXAMPLE"]).says(&["expired", "iam-sorry shell admin"]);
    let json: Value = serde_json::from_str(&status(&["--json"], &old).exits(3).stdout).unwrap();
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
    let (machine, _) = MachineOnAws::with_user(env!("CARGO_BIN_EXE_iam-sorry"), "alice", &[]);
    machine.run(&["refresh", "alice"]).ok();
    let program = env!("CARGO_BIN_EXE_iam-sorry");
    let script = format!("eval $({program} --eval alice) && {program} status");
    let ended = Outcome::from(
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
    Outcome::of(command.env("SHELL", inner)).ok().prints(&["Profile      alice", &id]);
}

// --- doctor --fix ---

#[test]
fn fix_narrows_modes_and_seals_what_it_may() {
    let machine = MachineOnAws::new(env!("CARGO_BIN_EXE_iam-sorry"));
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
    assert!(!format!("{}{}", ended.stdout, ended.stderr).contains(&key.secret));
}

#[test]
fn fix_asks_before_it_seals_and_goes_on_where_nobody_answers() {
    let (machine, key) = MachineOnAws::with_user(env!("CARGO_BIN_EXE_iam-sorry"), "alice", &[]);
    machine.home.set_mode(".aws/credentials", 0o640);
    machine
        .run(&["doctor", "--fix", "--offline"])
        .ok()
        .says(&["Seal the permanent keys of 'alice'", "--yes"]);
    assert_eq!(machine.field("alice", "aws_secret_access_key").unwrap(), key.secret);
    assert_eq!(machine.home.mode(".aws/credentials"), 0o600);
}

/// Somebody died while holding the lock of the credentials file.
#[test]
fn fix_takes_over_the_lock_of_the_dead() {
    let machine = MachineOnAws::new(env!("CARGO_BIN_EXE_iam-sorry"));
    machine.home.write_credentials("[a]\nx = 1\n");
    let mut dead = std::process::Command::new("true").spawn().unwrap();
    dead.wait().unwrap();
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let place = format!("{}/{}", boot.trim(), std::fs::read_link("/proc/self/ns/pid").unwrap().display());
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let claim = ".aws/.credentials.iam-sorry.lock.owner";
    machine.home.write_mode(claim, format!("1 {} 1 {:016x} {place} {host}\n", dead.id(), 7), 0o600);
    machine.run(&["doctor", "--offline"]).ok();
    assert!(machine.home.path().join(claim).exists(), "doctor alone changes nothing");
    machine.run(&["doctor", "--fix", "--offline"]).ok();
    assert!(!machine.home.path().join(claim).exists());
}

/// What can't be mended is said, and stops neither the rest nor the report.
#[test]
fn fix_goes_on_after_what_it_cannot_mend() {
    let machine = MachineOnAws::new(env!("CARGO_BIN_EXE_iam-sorry"));
    let key = machine.account.user_allowed("alice", &[]);
    let legacy = format!("__encrypted__:{}=", "A".repeat(43));
    let old = format!("[old]\naws_access_key_id = {legacy}\naws_secret_access_key = {legacy}\n");
    machine.home.write_credentials(format!("{old}{}", key.section("alice")));
    let ended = machine.run(&["doctor", "--fix", "--yes", "--offline"]).exits(1);
    ended.says(&["old"]).prints(&["'alice' encrypted with SSH key", "iam-sorry migrate old"]);
    assert!(machine.home.credentials().contains(&old), "it is as it was");
    machine.run(&["doctor", "--fix", "--json"]).exits(2);
}

/// Values that the original tool itself made.
#[test]
fn fix_migrates_the_originals_values() {
    let (machine, _) = MachineOnAws::with_user(env!("CARGO_BIN_EXE_iam-sorry"), "alice", &[]);
    let original = testkit::venv().join("seed/bin/iam-sorry");
    assert!(original.exists(), "{} is missing: run scripts/deps", original.display());
    let mut command = machine.home.command(original);
    Outcome::of(command.args(["--profile", "alice", "--encrypt"])).ok();
    machine.run(&["doctor", "--fix", "--yes", "--offline"]).ok().prints(&["'alice' migrated"]);
    assert!(machine.field("alice", "aws_secret_access_key").unwrap().starts_with("__encrypted__:v2."));
    assert_eq!(machine.acts_as("alice"), "alice");
}
