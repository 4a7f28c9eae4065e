//! What AWS and networks do on bad days, each made on purpose by a proxy in front of the emulator: whatever happens, no key
//! is left behind, what was in the profile stays, and the message says what to do.
#![expect(clippy::unwrap_used, reason = "a test fails where its rig does")]

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use testkit::{Fault, FaultProxy, MachineOnAws, Outcome, Pty};

/// A machine whose manager is sealed, and an AWS account with user `admin`.
fn rig() -> MachineOnAws {
    MachineOnAws::with_manager(env!("CARGO_BIN_EXE_iam-sorry"))
}

/// A refresh that has to fail, with a profile there before that has to stay as it is.
struct Failing {
    rig: MachineOnAws,
    before: String,
}

impl Failing {
    fn new() -> Failing {
        let rig = rig();
        rig.refresh("admin").ok();
        let before = rig.home.credentials();
        rig.proxy.clear_calls();
        Failing { rig, before }
    }

    /// Runs it: exit 4, the old credentials are there byte for byte, and the message says how long they last.
    #[track_caller]
    fn refused(&self, says: &[&str]) -> Outcome {
        let ended = self.rig.refresh("admin").exits(4).says(says);
        assert_eq!(self.rig.home.credentials(), self.before);
        ended.says(&["'admin' was left as it was; its credentials are valid for another"])
    }
}

// --- a new key takes time ---

#[test]
fn a_new_key_that_is_not_valid_yet_is_waited_for() {
    let rig = rig();
    rig.proxy.fault("*", Fault::KeyNotValidYet(Duration::from_secs(4)));
    rig.refresh("admin").ok().says(&["Waiting for AWS to accept the new access key", "of at most 60 s"]);
    assert!(rig.proxy.count("GetSessionToken") > 2);
    assert_eq!(rig.proxy.count("CreateAccessKey"), 1);
    assert_eq!(rig.stored_user("admin"), "admin");
    rig.assert_clean("admin");
}

#[test]
fn also_for_twenty_seconds() {
    let rig = rig();
    rig.proxy.fault("*", Fault::KeyNotValidYet(Duration::from_secs(20)));
    rig.refresh("admin").ok();
    let asked = rig.proxy.count("GetSessionToken");
    assert!((4..30).contains(&asked), "patient, and not hammering: {asked} requests");
    assert_eq!(rig.stored_user("admin"), "admin");
    rig.assert_clean("admin");
}

#[test]
fn ctrl_c_while_waiting_deletes_the_key() {
    let test = Failing::new();
    test.rig.proxy.fault("*", Fault::KeyNotValidYet(Duration::from_secs(50)));
    for signal in [Signal::INT, Signal::TERM] {
        let (child, mut lines) = start(&test.rig, &["--profile", "usermanager", "admin"]);
        let first = lines.find(|line| line.contains("Waiting for AWS")).expect("a line about the wait");
        assert!(first.contains("new access key"), "{first}");
        kill_process(Pid::from_child(&child), signal).unwrap();
        let rest: Vec<String> = lines.collect();
        let status = wait(child);
        assert_eq!(status, Some(130), "{rest:?}");
        assert!(rest.join("\n").contains("Interrupted"), "{rest:?}");
        test.rig.assert_clean("admin");
        assert_eq!(test.rig.home.credentials(), test.before);
    }
}

#[test]
fn ctrl_c_at_the_terminal_does_the_same() {
    let rig = rig();
    rig.proxy.fault("*", Fault::KeyNotValidYet(Duration::from_secs(50)));
    let mut command = Pty::command(&rig.home, env!("CARGO_BIN_EXE_iam-sorry"));
    command.args(["--profile", "usermanager", "admin"]);
    let mut pty = Pty::spawn(command);
    pty.expect("Waiting for AWS");
    pty.send("\x03");
    let (status, output) = pty.wait();
    assert_eq!(status.code(), Some(130), "{output}");
    rig.assert_clean("admin");
}

#[test]
fn ctrl_c_does_not_wait_for_an_aws_that_hangs() {
    let rig = rig();
    rig.proxy.fault("GetUser", Fault::Hang);
    let (child, lines) = start(&rig, &["--profile", "usermanager", "admin"]);
    while rig.proxy.count("GetUser") == 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let told: Vec<String> = lines.collect();
    assert_eq!(wait(child), Some(130), "{told:?}");
    assert_eq!(rig.proxy.actions(), ["GetUser"], "no retry, no waiting for the request to time out");
}

// --- refusals ---

#[test]
fn throttling_is_ridden_out() {
    let rig = rig();
    for action in ["GetUser", "GetSessionToken", "DeleteAccessKey", "GetCallerIdentity"] {
        rig.proxy.fault_times(action, 2, Fault::Throttle);
    }
    rig.refresh("admin").ok();
    assert_eq!(rig.stored_user("admin"), "admin");
    rig.assert_clean("admin");
}

#[test]
fn endless_throttling_is_told() {
    let test = Failing::new();
    test.rig.proxy.fault("GetSessionToken", Fault::Throttle);
    test.refused(&["limiting requests", "sts:GetSessionToken"]);
    test.rig.assert_clean("admin");
    test.rig.proxy.clear_faults();
    test.rig.proxy.fault("CreateAccessKey", Fault::Throttle);
    test.refused(&["limiting requests", "iam:CreateAccessKey"]);
    test.rig.assert_clean("admin");
}

#[test]
fn server_errors_are_ridden_out() {
    let rig = rig();
    for action in ["GetUser", "ListAccessKeys", "GetSessionToken", "DeleteAccessKey", "GetCallerIdentity"] {
        rig.proxy.fault_once(action, Fault::Status(500, "InternalFailure"));
        rig.proxy.fault_once(action, Fault::Status(503, "ServiceUnavailable"));
    }
    rig.refresh("admin").ok();
    rig.assert_clean("admin");
}

#[test]
fn a_session_that_is_refused_after_the_delete_is_no_success() {
    let test = Failing::new();
    test.rig.proxy.fault("GetCallerIdentity", Fault::Status(403, "InvalidClientTokenId"));
    test.refused(&["'admin'", "once its access key was deleted", "--keep-key"]);
    test.rig.assert_clean("admin");
}

#[test]
fn a_refused_delete_is_told_and_the_next_run_deletes() {
    let test = Failing::new();
    test.rig.proxy.fault("DeleteAccessKey", Fault::Status(403, "AccessDenied"));
    let ended = test.refused(&["iam:DeleteAccessKey", "may still exist", "iam-sorry doctor"]);
    let key = test.rig.account.keys("admin").remove(0);
    let entry = test.rig.journal().remove(0);
    ended.says(&[&key, &entry.display().to_string()]);

    test.rig.proxy.clear_faults();
    let ended = test.rig.run(&["list"]).ok();
    ended.says(&[&key, "is deleted"]);
    test.rig.assert_clean("admin");
}

#[test]
fn a_delete_that_stumbles_is_tried_again() {
    let rig = rig();
    rig.proxy.fault_times("DeleteAccessKey", 5, Fault::Reset);
    rig.refresh("admin").ok().says(&["is not deleted yet, trying again"]);
    rig.assert_clean("admin");
}

#[test]
fn a_delete_whose_answer_is_lost_counts_once_it_is_confirmed() {
    let rig = rig();
    rig.proxy.fault_once("DeleteAccessKey", Fault::DropResponse);
    rig.refresh("admin").ok();
    assert_eq!(rig.stored_user("admin"), "admin");
    rig.assert_clean("admin");
}

// --- connections ---

#[test]
fn a_lost_answer_of_create_access_key_leaves_an_inactive_key_for_a_person() {
    for fault in [Fault::DropResponse, Fault::CutResponse(120)] {
        let test = Failing::new();
        test.rig.proxy.fault("CreateAccessKey", fault);
        let ended = test.refused(&["iam:CreateAccessKey", "was lost", "deactivated, not deleted"]);
        assert_eq!(test.rig.proxy.count("CreateAccessKey"), 1, "a retry would make a second key");
        assert_eq!(test.rig.proxy.count("DeleteAccessKey"), 0);
        let key = test.rig.account.keys("admin").remove(0);
        ended.says(&[&format!(
            "iam-sorry exec usermanager -- aws iam delete-access-key --user-name admin --access-key-id {key}"
        )]);
        test.rig.assert_found("admin", &key);
    }
}

#[test]
fn a_lost_request_of_create_access_key_makes_none() {
    let test = Failing::new();
    test.rig.proxy.fault("CreateAccessKey", Fault::Reset);
    test.refused(&["iam:CreateAccessKey", "none was made"]);
    assert_eq!(test.rig.proxy.count("CreateAccessKey"), 1);
    test.rig.assert_clean("admin");
}

#[test]
fn a_server_error_of_create_access_key_is_looked_into() {
    let test = Failing::new();
    test.rig.proxy.fault("CreateAccessKey", Fault::Status(500, "InternalFailure"));
    test.refused(&["iam:CreateAccessKey", "none was made"]);
    test.rig.assert_clean("admin");
}

/// Two keys fit then, and nothing says which was requested: neither is touched, and both are named.
#[test]
fn a_foreign_key_made_at_the_same_moment_is_not_deleted() {
    let test = Failing::new();
    let account = test.rig.account.clone();
    let hook: testkit::Hook = Arc::new(move |_| drop(account.key("admin")));
    test.rig.proxy.fault_once("CreateAccessKey", Fault::AfterForward(hook));
    test.rig.proxy.fault_once("CreateAccessKey", Fault::DropResponse);
    let ended = test.refused(&["was lost", "none was touched"]);
    let keys = test.rig.account.keys("admin");
    assert_eq!((keys.len(), test.rig.journal().len()), (2, 1));
    ended.says(&[&keys[0], &keys[1]]);

    // And it stays so, also when the owner of one has deleted it: what is left may be the other one's.
    let ended = test.rig.run(&["doctor"]).says(&[&keys[0], &keys[1], "none was touched"]);
    assert!(ended.stdout.contains("left-over keys"), "{}", ended.stdout);
    test.rig.account.call("iam", "delete_access_key", json!({"UserName": "admin", "AccessKeyId": keys[0]}));
    test.rig.run(&["doctor"]).says(&[&keys[1]]);
    assert_eq!(test.rig.account.keys("admin"), [keys[1].as_str()]);
}

#[test]
fn resets_and_cut_answers_are_ridden_out() {
    let rig = rig();
    for action in ["GetUser", "ListAccessKeys", "GetSessionToken", "DeleteAccessKey", "GetCallerIdentity"] {
        rig.proxy.fault_once(action, Fault::Reset);
    }
    rig.refresh("admin").ok();
    rig.assert_clean("admin");
}

#[test]
fn an_sts_that_cuts_every_answer_leaves_no_key() {
    let test = Failing::new();
    test.rig.proxy.fault("GetSessionToken", Fault::CutResponse(40));
    test.refused(&["sts:GetSessionToken"]);
    test.rig.assert_clean("admin");
}

#[test]
fn slow_answers_are_waited_for() {
    let rig = rig();
    rig.proxy.fault("*", Fault::Slow(Duration::from_millis(1500)));
    rig.refresh("admin").ok();
    rig.assert_clean("admin");
}

#[test]
fn sts_down_leaves_the_profile_and_no_key() {
    let test = Failing::new();
    let gone = test.rig.account.endpoint().rsplit_once(':').unwrap().0.to_owned() + ":9";
    let mut command = test.rig.command(&["--profile", "usermanager", "admin"]);
    let ended = test.rig.outcome(command.env("AWS_ENDPOINT_URL_STS", &gone)).exits(4);
    ended
        .says(&["Could not reach AWS for sts:GetSessionToken", &gone])
        .says_about("valid for another ", 36 * 3600);
    assert_eq!(test.rig.home.credentials(), test.before);
    test.rig.assert_clean("admin");
}

#[test]
fn a_wrong_clock_gives_a_message_about_the_clock() {
    for hours in [2, -2] {
        let test = Failing::new();
        test.rig.proxy.fault("*", Fault::DateSkew(hours * 3600));
        test.refused(&["clock is wrong", "2 h", "timedatectl"]);
        assert_eq!(test.rig.proxy.actions(), ["GetUser"]);
        let ended = test.rig.run(&["doctor"]).exits(1);
        assert!(ended.stdout.contains("✗ clock: "), "{}", ended.stdout);
    }
}

// --- where requests go ---

#[test]
fn sts_and_iam_have_endpoints_of_their_own() {
    let rig = rig();
    let (sts, iam) = (FaultProxy::start(&rig.account), FaultProxy::start(&rig.account));
    let mut command = rig.command(&["--profile", "usermanager", "admin"]);
    command.env("AWS_ENDPOINT_URL_STS", sts.endpoint()).env("AWS_ENDPOINT_URL_IAM", iam.endpoint());
    rig.outcome(&mut command).ok();
    assert_eq!(sts.actions(), ["GetSessionToken", "GetCallerIdentity"]);
    assert_eq!(iam.actions(), ["GetUser", "ListAccessKeys", "CreateAccessKey", "DeleteAccessKey"]);
    assert!(rig.proxy.calls().is_empty());
}

#[test]
fn endpoints_come_from_the_config_file_in_the_order_of_the_sdks() {
    let rig = rig();
    let (sts, iam) = (FaultProxy::start(&rig.account), FaultProxy::start(&rig.account));
    let profile = format!("[profile usermanager]\nendpoint_url = {}\n", iam.endpoint());
    let services = format!("services = mine\n[services mine]\nsts =\n  endpoint_url = {}\n", sts.endpoint());
    let ours = |more: &str| {
        rig.home.write_config(format!("{profile}{more}"));
        let mut command = rig.command(&["--profile", "usermanager", "admin"]);
        command.env_remove("AWS_ENDPOINT_URL").env("AWS_MAX_ATTEMPTS", "1");
        command
    };
    rig.outcome(&mut ours(&services)).ok();
    assert_eq!(sts.actions(), ["GetSessionToken", "GetCallerIdentity"], "the services section comes first");
    assert_eq!(iam.actions(), ["GetUser", "ListAccessKeys", "CreateAccessKey", "DeleteAccessKey"]);

    // The profile's own word, and the variable's, against them all. No request may leave the machine, hence the proxy.
    let nowhere = |command: &mut std::process::Command| {
        rig.outcome(command.env("HTTPS_PROXY", "http://127.0.0.1:9"))
            .exits(4)
            .says(&["https://iam.amazonaws.com"]);
    };
    nowhere(&mut ours("ignore_configured_endpoint_urls = true\n"));
    nowhere(ours(&services).env("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true"));
    nowhere(
        ours("").env("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "TRUE").env("AWS_ENDPOINT_URL", iam.endpoint()),
    );
    // A variable beats the file.
    rig.outcome(ours(&services).env("AWS_ENDPOINT_URL", rig.proxy.endpoint())).ok();
    assert_eq!(rig.proxy.actions().len(), 6);
    assert_eq!((sts.actions().len(), iam.actions().len()), (2, 4), "and nothing went there since");
}

#[test]
fn a_proxy_is_not_used_for_this_machine() {
    let rig = rig();
    let mut command = rig.command(&["--profile", "usermanager", "admin"]);
    for name in ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "https_proxy", "http_proxy"] {
        command.env(name, "http://user:hunter2@127.0.0.1:9");
    }
    rig.outcome(&mut command).ok();
    assert_eq!(rig.stored_user("admin"), "admin");
}

#[test]
fn a_proxy_that_is_down_is_named_without_its_password() {
    let rig = rig();
    let mut command = rig.command(&["--profile", "usermanager", "admin"]);
    command.env("HTTPS_PROXY", "http://user:hunter2@127.0.0.1:9").env("AWS_MAX_ATTEMPTS", "1");
    command.env("AWS_ENDPOINT_URL", "https://iam.example.invalid");
    let ended = rig.outcome(&mut command).exits(4).says(&["Could not reach AWS", "HTTPS_PROXY"]);
    assert!(!ended.stderr.contains("hunter2"), "{}", ended.stderr);
}

#[test]
fn a_ca_bundle_that_cannot_be_used_is_named() {
    let rig = rig();
    let empty = rig.home.write_mode("empty.pem", "", 0o644);
    // Reading a pipe would wait for ever.
    let pipe = rig.home.path().join("pipe.pem");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let pipe = pipe.display().to_string();
    for (path, code) in [("/nonexistent/ca.pem".to_owned(), 2), (pipe, 2), (empty.display().to_string(), 4)] {
        let mut command = rig.command(&["--profile", "usermanager", "admin"]);
        let ended = rig.outcome(command.env("AWS_CA_BUNDLE", &path));
        ended.exits(code).says(&["CA"]);
    }
    assert!(rig.proxy.calls().is_empty());
}

// --- MFA: the emulator takes any code, so what is checked is that the manager's IAM calls carry a session ---

#[test]
fn a_manager_with_mfa_asks_iam_with_an_mfa_session() {
    let rig = rig();
    let serial = format!("arn:aws:iam::{}:mfa/usermanager", rig.account.id());
    rig.home.write_config(format!("[profile usermanager]\nmfa_serial = {serial}\n"));

    // Nobody to ask: said within a second, and nothing is asked of AWS.
    rig.refresh("admin").exits(2).says(&[&serial, "--mfa-code"]);
    rig.run(&["--profile", "usermanager", "--mfa-code", "12345", "admin"]).exits(2).says(&["six digits"]);
    assert!(rig.proxy.calls().is_empty());

    rig.run(&["--profile", "usermanager", "--mfa-code", "123456", "admin"]).ok();
    assert_eq!(rig.stored_user("admin"), "admin");
    let calls = rig.proxy.calls();
    assert_eq!(
        (calls[0].action.as_str(), calls[0].access_key.as_str()),
        ("GetSessionToken", rig.manager().key.as_str())
    );
    for call in calls.iter().filter(|call| ["GetUser", "CreateAccessKey"].contains(&call.action.as_str())) {
        assert!(call.with_session, "{call:?}");
    }
    rig.assert_clean("admin");

    let mut command = Pty::command(&rig.home, env!("CARGO_BIN_EXE_iam-sorry"));
    command.args(["--profile", "usermanager", "admin"]);
    let mut pty = Pty::spawn(command);
    pty.expect("MFA code of ");
    pty.send_line("654321");
    let (status, output) = pty.wait();
    assert!(status.success(), "{output}");
    rig.assert_clean("admin");
}

#[test]
fn ctrl_c_at_the_question_for_a_code_ends_it() {
    let rig = rig();
    rig.home.write_config("[profile usermanager]\nmfa_serial = arn:aws:iam::123456789012:mfa/u\n");
    let mut command = Pty::command(&rig.home, env!("CARGO_BIN_EXE_iam-sorry"));
    command.args(["--profile", "usermanager", "admin"]);
    let mut pty = Pty::spawn(command);
    pty.expect("MFA code of ");
    pty.send("12\x03");
    let (status, output) = pty.wait();
    assert_eq!(status.code(), Some(130), "{output}");
    assert!(rig.proxy.calls().is_empty());
}

/// AWS's rule: a session made without MFA can't call IAM, which is said.
#[test]
fn a_users_own_key_asks_with_the_mfa_of_its_profile() {
    let rig = rig();
    let own = rig.account.key("admin");
    rig.home.write_credentials(rig.home.credentials() + &own.section("admin"));
    rig.run(&["refresh", "admin"]).ok().says(&["without MFA"]);
    rig.home.write_config("[profile admin]\nmfa_serial = arn:aws:iam::123456789012:mfa/admin\n");
    rig.run(&["refresh", "admin"]).exits(2).says(&["mfa/admin", "--mfa-code"]);
    let ended = rig.run(&["refresh", "--mfa-code", "123456", "admin"]).ok();
    assert!(!ended.stderr.contains("without MFA"), "{}", ended.stderr);
}

#[test]
fn a_wrong_mfa_code_is_told_as_such() {
    let rig = rig();
    rig.home.write_config("[profile usermanager]\nmfa_serial = arn:aws:iam::123456789012:mfa/u\n");
    rig.proxy.fault("GetSessionToken", Fault::Status(403, "AccessDenied"));
    let ended = rig.run(&["--profile", "usermanager", "--mfa-code", "123456", "admin"]).exits(4);
    ended.says(&["sts:GetSessionToken", "AccessDenied"]);
    assert_eq!(rig.proxy.actions(), ["GetSessionToken"]);
}

// --- helpers ---

/// A running refresh, and what it says on stderr, line by line.
fn start(rig: &MachineOnAws, args: &[&str]) -> (Child, impl Iterator<Item = String> + use<>) {
    let mut child = rig.command(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    (child, lines)
}

fn wait(mut child: Child) -> Option<i32> {
    let _ = child.stdout.take().map(|mut out| out.read_to_end(&mut Vec::new()));
    child.wait().unwrap().code()
}
