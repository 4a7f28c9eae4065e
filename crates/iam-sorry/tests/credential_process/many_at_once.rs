//! Hundreds of jobs of a batch system that ask in the same second: one request, whatever happens to the process that
//! makes it (ByteNess/aws-vault#291, aws-sso-cli#1084).

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use testkit::{AskPass, Fault, MachineOnAws, Outcome, PASSPHRASE, SshAgent};

use crate::{answer, expires_in, rig, with_kept_key};

/// Starts `count` processes one right after the other, and waits for all of them.
fn at_once(count: usize, command: impl FnMut() -> Command) -> Vec<Outcome> {
    start(count, command).into_iter().map(|child| Outcome::from(child.wait_with_output().unwrap())).collect()
}

fn start(count: usize, mut command: impl FnMut() -> Command) -> Vec<Child> {
    (0..count).map(|_| command().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()).collect()
}

/// The keys that they were given.
#[track_caller]
fn keys(all: Vec<Outcome>) -> BTreeSet<String> {
    all.into_iter().map(|one| answer(&one.ok().stdout).0.key).collect()
}

/// An answer of AWS that takes so long that everybody has started to wait for it.
const LONG: Fault = Fault::Slow(Duration::from_secs(4));

#[test]
fn three_hundred_processes_on_an_expired_profile_make_one_request() {
    let rig = with_kept_key();
    expires_in(&rig, "admin", -1);
    rig.proxy.fault("GetSessionToken", LONG);
    let got = keys(at_once(300, || rig.command(&["credential-process", "admin"])));
    assert_eq!(got, BTreeSet::from([rig.creds("admin").key]), "all have the one renewed set");
    assert_eq!(rig.proxy.count("GetSessionToken"), 1);
    assert_eq!(rig.stored_user("admin"), "admin");
}

#[test]
fn a_role_is_assumed_once_for_a_hundred_processes() {
    let rig = rig();
    let dev = rig.account.user_allowed("dev", &["sts:AssumeRole"]);
    let trust = serde_json::json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow",
        "Action": "sts:AssumeRole", "Principal": {"AWS": format!("arn:aws:iam::{}:root", rig.account.id())}}]});
    let args = serde_json::json!({"RoleName": "deploy", "AssumeRolePolicyDocument": trust.to_string()});
    let role = rig.account.call("iam", "create_role", args);
    let arn = role["Role"]["Arn"].as_str().unwrap();
    rig.home.write_credentials(dev.section("dev"));
    rig.home.write_config(format!("[profile deploy]\nrole_arn = {arn}\nsource_profile = dev\n"));
    // No delay: some come while it is under way and some when it is done.
    let got = keys(at_once(100, || rig.command(&["credential-process", "deploy"])));
    assert_eq!(got.len(), 1, "{got:?}");
    assert_eq!(rig.proxy.count("AssumeRole"), 1);
}

#[test]
fn a_session_of_permanent_keys_is_made_once() {
    let rig = rig();
    let got = keys(at_once(50, || rig.command(&["credential-process", "--session", "usermanager"])));
    assert_eq!(got.len(), 1, "{got:?}");
    assert_eq!(rig.proxy.count("GetSessionToken"), 1);
}

/// The manager's way makes an access key: one of it, too.
#[test]
fn through_a_manager_one_key_is_made_and_deleted() {
    let rig = rig();
    rig.refresh("admin").ok();
    rig.proxy.clear_calls();
    expires_in(&rig, "admin", -1);
    rig.proxy.fault("GetSessionToken", LONG);
    let got = keys(at_once(60, || {
        let mut command = rig.command(&["credential-process", "admin"]);
        command.env("AWS_PROFILE", "usermanager");
        command
    }));
    assert_eq!(got.len(), 1, "{got:?}");
    assert_eq!(rig.proxy.count("CreateAccessKey"), 1);
    rig.assert_clean("admin");
}

#[test]
fn where_the_holder_is_killed_another_takes_over() {
    let rig = with_kept_key();
    expires_in(&rig, "admin", -1);
    let lived = all_but_the_holder(&rig, || rig.command(&["credential-process", "admin"]));
    assert_eq!(keys(lived), BTreeSet::from([rig.creds("admin").key]));
    assert_eq!(rig.proxy.count("GetSessionToken"), 2);
}

/// The same where it had made an access key, and the user has another: two are the limit, so the dead one's goes first.
#[test]
fn where_the_holder_is_killed_its_key_is_deleted_by_the_next() {
    let rig = rig();
    rig.refresh("admin").ok();
    expires_in(&rig, "admin", -1);
    rig.proxy.clear_calls();
    rig.proxy.fault("CreateAccessKey", Fault::TwoKeyLimit);
    let other = rig.account.key("admin");
    let lived = all_but_the_holder(&rig, || {
        let mut command = rig.command(&["credential-process", "admin"]);
        command.env("AWS_PROFILE", "usermanager");
        command
    });
    assert_eq!(keys(lived), BTreeSet::from([rig.creds("admin").key]));
    assert_eq!(rig.account.keys("admin"), [other.key]);
    assert_eq!(rig.journal(), Vec::<PathBuf>::new());
}

/// Starts forty; the first that asks for a session is killed while the others wait. What came of the others.
fn all_but_the_holder(rig: &MachineOnAws, command: impl FnMut() -> Command) -> Vec<Outcome> {
    let all: Arc<Mutex<Vec<Child>>> = Arc::default();
    let everybody = Arc::clone(&all);
    let folder = rig.home.path().join(".local/state/iam-sorry/cache");
    rig.proxy.fault_once(
        "GetSessionToken",
        Fault::BeforeForward(Arc::new(move |_| {
            let pid = holder(&folder);
            let mut everybody = everybody.lock().unwrap();
            while !everybody.iter().all(|child| child.id() == pid || is_waiting(child)) {
                std::thread::sleep(Duration::from_millis(5));
            }
            everybody.iter_mut().find(|child| child.id() == pid).unwrap().kill().unwrap();
        })),
    );
    all.lock().unwrap().extend(start(40, command));
    let ended: Vec<Outcome> = loop {
        // The hook needs the list while they run.
        std::thread::sleep(Duration::from_millis(50));
        let mut children = all.lock().unwrap();
        if children.iter_mut().all(|child| child.try_wait().unwrap().is_some()) {
            break children.drain(..).map(|c| Outcome::from(c.wait_with_output().unwrap())).collect();
        }
    };
    let (killed, lived): (Vec<Outcome>, Vec<Outcome>) =
        ended.into_iter().partition(|one| one.code == 128 + 9);
    assert_eq!(killed.len(), 1);
    lived
}

/// Whether a process polls for the lock: each pause is a voluntary context switch, and before its first pause it makes
/// hardly any (proc(5), status).
fn is_waiting(child: &Child) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let switches = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap();
    switches.trim().parse::<u32>().unwrap() > 8
}

/// The process that the claim in the state folder names.
fn holder(folder: &Path) -> u32 {
    let claims: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_string_lossy().ends_with(".lock.owner"))
        .collect();
    assert_eq!(claims.len(), 1, "{claims:?}");
    std::fs::read_to_string(&claims[0]).unwrap().split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_failure_is_shared_by_those_who_waited_and_forgotten_by_those_who_come_later() {
    let rig = with_kept_key();
    expires_in(&rig, "admin", -1);
    rig.proxy.fault("GetSessionToken", LONG);
    rig.proxy.fault("GetSessionToken", Fault::Status(403, "RegionDisabledException"));
    for ended in at_once(80, || rig.command(&["credential-process", "admin"])) {
        ended.exits(4).says(&["RegionDisabledException"]);
    }
    assert_eq!(rig.proxy.count("GetSessionToken"), 1, "nobody tried again");
    rig.proxy.clear_faults();
    rig.run(&["credential-process", "admin"]).ok();
}

/// `ssh-add -c`: each use of the key is a question, and one "no" is meant for all.
#[test]
fn a_declined_question_is_not_put_to_the_person_forty_times() {
    let mut rig = with_kept_key();
    let askpass = AskPass::refusing_after(4);
    let agent = SshAgent::confirming_with(&askpass);
    agent.add(&rig.home.path().join(".ssh/id_ed25519"), PASSPHRASE, &["-c"]);
    rig.home.set_env("SSH_AUTH_SOCK", agent.socket());
    expires_in(&rig, "admin", -1);
    for ended in at_once(40, || rig.command(&["credential-process", "admin"])) {
        ended.exits(5);
    }
    assert_eq!(askpass.calls(), 1);
    assert_eq!(rig.proxy.actions(), Vec::<String>::new());
}

#[test]
fn locks_lie_in_the_folder_that_is_set_for_them() {
    let rig = with_kept_key();
    expires_in(&rig, "admin", -1);
    let folder = rig.home.path().join("node-local/locks");
    rig.proxy.fault("GetSessionToken", LONG);
    let got = keys(at_once(30, || {
        let mut command = rig.command(&["credential-process", "admin"]);
        command.env("IAM_SORRY_LOCK_DIR", &folder);
        command
    }));
    assert_eq!(got.len(), 1);
    assert_eq!(rig.proxy.count("GetSessionToken"), 1);
    let names: Vec<String> = names_in(&folder);
    assert!(names.iter().any(|name| name.ends_with(".lock")), "{names:?}");
    let state = names_in(&rig.home.path().join(".local/state/iam-sorry/cache"));
    assert!(!state.iter().any(|name| name.ends_with(".lock")), "{state:?}");
}

/// A home that is mounted read-only, as on some clusters' nodes: the renewed set can't go into the profile, and yet it
/// is asked for only once.
#[test]
fn a_read_only_home_renews_once_and_warns() {
    let rig = with_kept_key();
    expires_in(&rig, "admin", -1);
    let before = rig.home.credentials();
    let runtime = testkit::short_temp_dir();
    std::fs::set_permissions(runtime.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let read_only = |args: &[&str]| {
        let mut inner = rig.command(args);
        inner.env("XDG_RUNTIME_DIR", runtime.path());
        in_read_only(rig.home.path(), &inner)
    };
    rig.proxy.fault("GetSessionToken", LONG);
    let all = at_once(25, || read_only(&["credential-process", "admin"]));
    let warned =
        all.iter().filter(|one| one.stderr.contains("credentials of 'admin' are not written")).count();
    assert_eq!(warned, 1, "{all:?}");
    let got = keys(all);
    assert_eq!(got.len(), 1, "{got:?}");
    assert_eq!(rig.home.credentials(), before);

    // Without the agent too: nothing has to be opened.
    let mut later = read_only(&["credential-process", "admin"]);
    let later = Outcome::of(later.env_remove("SSH_AUTH_SOCK"));
    assert_eq!(keys(vec![later]), got);
    assert_eq!(rig.proxy.count("GetSessionToken"), 1);
    let folder = runtime.path().join("iam-sorry");
    let names = names_in(&folder);
    assert!(names.iter().any(|name| name.ends_with(".json")), "{names:?}");
}

/// The same command where `home` can't be written: by a mount of its own for root, by modes for everybody else.
fn in_read_only(home: &Path, inner: &Command) -> Command {
    let mut command = if rustix::process::geteuid().is_root() {
        let mut command = Command::new("unshare");
        let script = "mount -o bind,ro \"$0\" \"$0\" && exec \"$@\"";
        command.args(["--mount", "sh", "-c", script]).arg(home).arg(inner.get_program());
        command
    } else {
        for folder in [".aws", ".local/state/iam-sorry/cache"] {
            let mode = std::fs::Permissions::from_mode(0o500);
            std::fs::set_permissions(home.join(folder), mode).unwrap();
        }
        Command::new(inner.get_program())
    };
    command.args(inner.get_args()).env_clear().stdin(Stdio::null());
    command.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}
