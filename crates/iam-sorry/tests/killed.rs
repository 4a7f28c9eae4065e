//! kill -9 between any two steps, and at random moments: the next run deletes every access key that the dead one wrote down,
//! deactivates one that it can't have written down, and never deletes a key that somebody else made. The credentials file is
//! whole.
#![expect(clippy::unwrap_used, reason = "a test fails where its rig does")]

#[path = "killed/any_moment.rs"]
mod any_moment;
#[path = "rig/victim.rs"]
mod victim;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use rustix::process::{Pid, Signal, kill_process};
use testkit::{Fault, Hook, MachineOnAws, Pty};
use victim::Run;

/// A machine whose manager is sealed, and an AWS account with user `admin`.
fn rig() -> MachineOnAws {
    MachineOnAws::with_manager(env!("CARGO_BIN_EXE_iam-sorry"))
}

/// Until AWS can tell whether a lost request made a key: the program's own patience, and a bit.
const SETTLED: Duration = Duration::from_secs(11);

const ACTIONS: [&str; 6] = [
    "GetUser",
    "ListAccessKeys",
    "CreateAccessKey",
    "GetSessionToken",
    "DeleteAccessKey",
    "GetCallerIdentity",
];

/// Where on its way a request is when the program dies.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// It never reaches AWS.
    RequestLost,
    /// It reaches AWS after the death.
    RequestUnderWay,
    /// AWS did it; the answer finds nobody.
    AnswerUnderWay,
}

// --- at every step ---

#[test]
fn killed_when_a_request_is_lost() {
    at_every_step(Moment::RequestLost, &[]);
}

#[test]
fn killed_while_a_request_is_under_way() {
    at_every_step(Moment::RequestUnderWay, &[]);
}

#[test]
fn killed_while_an_answer_is_under_way() {
    at_every_step(Moment::AnswerUnderWay, &[]);
}

#[test]
fn killed_while_a_key_that_shall_be_kept_is_on_its_way() {
    at_every_step(Moment::AnswerUnderWay, &["--keep-key"]);
}

fn at_every_step(moment: Moment, options: &[&str]) {
    std::thread::scope(|scope| {
        for action in ACTIONS.into_iter().filter(|action| options.is_empty() || *action != "DeleteAccessKey")
        {
            scope.spawn(move || {
                let rig = furnished();
                killed_at(&rig, action, moment, options);
                assert_whole(&rig);
                rig.refresh("admin").ok();
                assert_eq!(rig.stored_user("admin"), "admin", "{action} {moment:?}");
                assert_whole(&rig);
                match (action, moment) {
                    // Made, and its ID never written down: nothing proves whose it is.
                    ("CreateAccessKey", Moment::RequestUnderWay | Moment::AnswerUnderWay) => {
                        let keys = rig.account.keys("admin");
                        assert_eq!(keys.len(), 1, "{moment:?}");
                        rig.assert_found("admin", &keys[0]);
                    }
                    _ => rig.assert_clean("admin"),
                }
            });
        }
    });
}

/// Any verb finishes what is certain; what has to be waited for, `doctor` waits for.
#[test]
fn other_verbs_and_doctor_finish_it_too() {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let rig = furnished();
            killed_at(&rig, "GetSessionToken", Moment::RequestLost, &[]);
            let key = rig.account.keys("admin").remove(0);
            rig.run(&["list"]).ok().says(&[&key, "left by an interrupted run, is deleted"]);
            rig.assert_clean("admin");
        });
        scope.spawn(|| {
            let rig = furnished();
            killed_at(&rig, "CreateAccessKey", Moment::AnswerUnderWay, &[]);
            let key = rig.account.keys("admin").remove(0);
            rig.run(&["list"]).ok().says(&["iam-sorry doctor"]);
            assert!(rig.account.is_active("admin", &key), "too fresh to be sure");
            rig.run(&["doctor"]).says(&[&key, "deactivated, not deleted"]);
            rig.assert_found("admin", &key);
        });
        scope.spawn(|| {
            let rig = furnished();
            killed_at(&rig, "DeleteAccessKey", Moment::AnswerUnderWay, &[]);
            rig.run(&["doctor"]).says(&["is deleted"]);
            rig.assert_clean("admin");
        });
    });
}

/// With the manager's key out of reach it says what is left, and forgets nothing.
#[test]
fn what_cannot_be_finished_now_is_told_and_kept() {
    let rig = furnished();
    killed_at(&rig, "GetSessionToken", Moment::RequestLost, &[]);
    let key = rig.account.keys("admin").remove(0);
    let mut command = rig.command(&["list"]);
    let ended = rig.outcome(command.env_remove("SSH_AUTH_SOCK")).ok();
    ended.says(&[&key, "'usermanager'", "iam-sorry doctor"]);
    let mut command = rig.command(&["list"]);
    let ended = rig.outcome(command.env("AWS_ENDPOINT_URL", "http://127.0.0.1:9")).ok();
    ended.says(&[&key]);
    // Nor is any command held up for long by an AWS that hangs.
    rig.proxy.fault("*", Fault::Hang);
    rig.run(&["list"]).ok().says(&[&key, "did not answer in time", "iam-sorry doctor"]);
    rig.proxy.clear_faults();
    rig.proxy.clear_calls();
    rig.run(&["doctor", "--offline"]);
    assert!(rig.proxy.calls().is_empty(), "--offline asks nobody: {:?}", rig.proxy.actions());
    assert_eq!((rig.account.keys("admin"), rig.journal().len()), (vec![key], 1));
    rig.run(&["list"]).ok();
    rig.assert_clean("admin");
}

#[test]
fn ctrl_c_stops_the_tidying_up_and_what_would_follow() {
    let rig = furnished();
    killed_at(&rig, "CreateAccessKey", Moment::AnswerUnderWay, &[]);
    rig.proxy.clear_calls();
    let mut command = rig.command(&["--profile", "usermanager", "admin"]);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    lines.find(|line| line.contains("until AWS can tell")).expect("a line about the wait");
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let rest: Vec<String> = lines.collect();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest:?}");
    assert_eq!((rig.proxy.count("CreateAccessKey"), rig.journal().len()), (0, 1));
    let key = rig.account.keys("admin").remove(0);
    rig.refresh("admin").ok();
    rig.assert_found("admin", &key);
}

/// Died before the entry got its name: nothing was asked of AWS, and the file goes when it is old.
#[test]
fn an_unnamed_entry_is_swept_up() {
    let rig = furnished();
    rig.refresh("admin").ok();
    let folder = rig.home.path().join(".local/state/iam-sorry/journal");
    let (old, new) = (folder.join(".1-1-0-a.new"), folder.join(".1-1-0-b.new"));
    for (path, age) in [(&old, 120), (&new, 0)] {
        let file = File::create(path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(age)).unwrap();
    }
    rig.refresh("admin").ok();
    assert_eq!((old.exists(), new.exists()), (false, true));
}

/// The run that tidies up can die too.
#[test]
fn killed_while_it_finishes_what_another_left() {
    let steps = [
        ("GetSessionToken", "GetCallerIdentity"),
        ("GetSessionToken", "DeleteAccessKey"),
        ("CreateAccessKey", "ListAccessKeys"),
        ("CreateAccessKey", "GetAccessKeyLastUsed"),
        ("CreateAccessKey", "UpdateAccessKey"),
    ];
    std::thread::scope(|scope| {
        for (first, second) in steps {
            for moment in [Moment::RequestLost, Moment::AnswerUnderWay] {
                scope.spawn(move || {
                    let rig = furnished();
                    killed_at(&rig, first, Moment::AnswerUnderWay, &[]);
                    killed_args_at(&rig, &["doctor"], second, moment);
                    rig.run(&["doctor"]);
                    match first {
                        "CreateAccessKey" => rig.assert_found("admin", &rig.account.keys("admin")[0]),
                        _ => rig.assert_clean("admin"),
                    }
                    assert_whole(&rig);
                });
            }
        }
    });
}

/// What is written down by a run that lives is none of anybody else's business.
#[test]
fn a_run_at_work_is_left_alone() {
    let rig = furnished();
    rig.account.user("second");
    rig.proxy.fault_once("GetSessionToken", Fault::Slow(Duration::from_secs(6)));
    let mut run = Run::start(&rig, &["--profile", "usermanager", "admin"]);
    run.release();
    while rig.proxy.count("GetSessionToken") == 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
    let key = rig.account.keys("admin");
    rig.run(&["list"]).ok();
    rig.run(&["doctor"]);
    rig.refresh("second").ok();
    assert_eq!((rig.account.keys("admin"), rig.journal().len()), (key, 1));
    assert_eq!(run.wait(), Some(0));
    assert_eq!((rig.stored_user("admin").as_str(), rig.stored_user("second").as_str()), ("admin", "second"));
    rig.assert_clean("admin");
}

/// A run for the same user has made its key in the very seconds in which another one died without making one.
#[test]
fn the_key_of_another_run_is_not_taken_for_that_of_the_dead() {
    let rig = furnished();
    rig.home.write_credentials(rig.home.credentials() + "[work]\ncredentials_owner = admin\n");
    rig.proxy.fault("GetSessionToken", Fault::Slow(Duration::from_secs(16)));
    let mut dying = Run::start(&rig, &["--profile", "usermanager", "admin"]);
    let living = Arc::new(Mutex::new(Run::start(&rig, &["--profile", "usermanager", "work"])));
    let (account, second, kill) = (rig.account.clone(), Arc::clone(&living), dying.kill_hook());
    let hook: Hook = Arc::new(move |call| {
        second.lock().unwrap().release();
        while account.keys("admin").is_empty() {
            std::thread::sleep(Duration::from_millis(5));
        }
        kill(call);
    });
    rig.proxy.fault_once("CreateAccessKey", Fault::BeforeForward(hook));
    rig.proxy.fault_once("CreateAccessKey", Fault::Reset);
    dying.release();
    assert_eq!(dying.wait(), None);
    rig.run(&["doctor"]).says(&["had made no access key for IAM user 'admin'"]);
    assert_eq!(living.lock().unwrap().wait(), Some(0));
    assert_eq!(rig.stored_user("work"), "admin");
    rig.assert_clean("admin");
}

// --- keys of somebody else ---

#[test]
fn a_foreign_key_from_before_stays() {
    std::thread::scope(|scope| {
        for moment in [Moment::RequestLost, Moment::RequestUnderWay, Moment::AnswerUnderWay] {
            scope.spawn(move || {
                let rig = furnished();
                let foreign = rig.account.key("admin").key;
                killed_at(&rig, "CreateAccessKey", moment, &[]);
                if matches!(moment, Moment::RequestLost) {
                    rig.refresh("admin").ok();
                } else {
                    let keys = rig.account.keys("admin");
                    let found = keys.iter().find(|id| **id != foreign).unwrap();
                    // Both places are taken, so a person is needed before it can go on.
                    rig.refresh("admin").exits(4).says(&[found, "deactivated, not deleted", &foreign]);
                    rig.assert_found("admin", found);
                }
                assert_eq!(rig.account.keys("admin"), [foreign.as_str()], "{moment:?}");
                assert!(rig.account.is_active("admin", &foreign), "{moment:?}");
                assert!(rig.journal().is_empty());
            });
        }
    });
}

#[test]
fn a_foreign_key_made_after_the_death_stays() {
    std::thread::scope(|scope| {
        for moment in [Moment::RequestLost, Moment::AnswerUnderWay] {
            scope.spawn(move || {
                let rig = furnished();
                killed_at(&rig, "CreateAccessKey", moment, &[]);
                let made = rig.account.keys("admin");
                std::thread::sleep(SETTLED);
                let foreign = rig.account.key("admin").key;
                match moment {
                    Moment::RequestLost => drop(rig.refresh("admin").ok()),
                    _ => {
                        rig.refresh("admin").exits(4).says(&[&made[0], "deactivated, not deleted", &foreign]);
                        rig.assert_found("admin", &made[0]);
                    }
                }
                assert_eq!(rig.account.keys("admin"), [foreign.as_str()], "{moment:?}");
                assert!(rig.account.is_active("admin", &foreign), "{moment:?}");
                assert!(rig.journal().is_empty());
            });
        }
    });
}

/// The dead run's request never arrived, and in the same seconds somebody made a key that is not used yet: nothing tells it
/// from a lost one. It is not deleted; its owner activates it, and it stays.
#[test]
fn a_foreign_key_that_fits_is_deactivated_at_most_and_stays_once_its_owner_activates_it() {
    let rig = furnished();
    let account = rig.account.clone();
    let hook: Hook = Arc::new(move |_| drop(account.key("admin")));
    rig.proxy.fault_once("CreateAccessKey", Fault::BeforeForward(hook));
    killed_at(&rig, "CreateAccessKey", Moment::RequestLost, &[]);
    let foreign = rig.account.keys("admin").remove(0);
    let activate = format!(
        "iam-sorry exec usermanager -- aws iam update-access-key --user-name admin --access-key-id {foreign} --status Active"
    );
    rig.run(&["doctor"]).says(&[&foreign, "deactivated, not deleted", &activate]);
    assert!(!rig.account.is_active("admin", &foreign));
    // Other verbs go on, and say that there is something to decide.
    rig.run(&["list"]).ok().says(&[&foreign, "iam-sorry doctor"]);
    rig.refresh("admin").ok();

    rig.account.activate("admin", &foreign);
    rig.run(&["doctor"]).says(&[&foreign, "somebody activated it"]).prints(&["left-over keys: none"]);
    rig.refresh("admin").ok();
    assert!(rig.account.is_active("admin", &foreign));
    assert_eq!((rig.account.keys("admin"), rig.journal().len()), (vec![foreign], 0));
}

/// The person at the terminal decides; `--yes`, and an answer that is piped in, are nobody's decision.
#[test]
fn a_person_at_the_terminal_may_delete_what_was_found() {
    let rig = furnished();
    killed_at(&rig, "CreateAccessKey", Moment::AnswerUnderWay, &[]);
    let key = rig.account.keys("admin").remove(0);
    rig.run(&["doctor", "--fix", "--yes"]).says(&[&key, "deactivated, not deleted"]);
    assert!(!rig.account.is_active("admin", &key));
    let fix = || {
        let mut command = Pty::command(&rig.home, env!("CARGO_BIN_EXE_iam-sorry"));
        command.args(["doctor", "--fix"]).env("AWS_ENDPOINT_URL", rig.proxy.endpoint());
        let mut pty = Pty::spawn(command);
        let question = pty.expect("Delete it? (y/n): ");
        assert!(question.contains(&key) && question.contains("'admin'"), "{question}");
        pty
    };
    let mut pty = fix();
    pty.send("n\n");
    pty.expect("doctor --fix");
    pty.wait();
    assert!(!rig.account.is_active("admin", &key) && rig.journal().len() == 1);
    let mut pty = fix();
    pty.send("y\n");
    pty.expect("is deleted");
    pty.expect("left-over keys: none");
    pty.wait();
    rig.assert_clean("admin");
}

/// One was made by the dead run and one by somebody else in the same seconds: at most one of them is the dead run's.
#[test]
fn a_foreign_key_made_in_the_same_seconds_stays_and_a_person_decides() {
    let rig = furnished();
    killed_at(&rig, "CreateAccessKey", Moment::AnswerUnderWay, &[]);
    rig.account.key("admin");
    let keys = rig.account.keys("admin");
    for _ in 0..2 {
        rig.run(&["doctor"]).says(&[&keys[0], &keys[1], "none was touched", "doctor --fix"]);
        assert_eq!((rig.account.keys("admin"), rig.journal().len()), (keys.clone(), 1));
    }
    rig.refresh("admin").exits(4).says(&[&keys[0], &keys[1]]);
    assert!(keys.iter().all(|key| rig.account.is_active("admin", key)));

    let mut command = Pty::command(&rig.home, env!("CARGO_BIN_EXE_iam-sorry"));
    command.args(["doctor", "--fix"]).env("AWS_ENDPOINT_URL", rig.proxy.endpoint());
    let mut pty = Pty::spawn(command);
    for (question, answer) in [(&keys[0], "y\n"), (&keys[1], "n\n"), (&keys[1], "y\n")] {
        pty.expect(question);
        pty.expect("(y/n): ");
        pty.send(answer);
    }
    pty.expect("Seal the permanent keys of 'other'");
    pty.send("n\n");
    pty.expect("left-over keys: none");
    pty.wait();
    assert_eq!((rig.account.keys("admin"), rig.journal().len()), (vec![keys[1].clone()], 0));
    assert!(rig.account.is_active("admin", &keys[1]));
}

/// Once the ID of the dead run's key is on disk, nothing else can be meant.
#[test]
fn a_foreign_key_is_safe_once_ours_is_known() {
    std::thread::scope(|scope| {
        for action in ["GetSessionToken", "DeleteAccessKey"] {
            scope.spawn(move || {
                let rig = furnished();
                killed_at(&rig, action, Moment::RequestLost, &[]);
                let ours = rig.account.keys("admin").remove(0);
                let foreign = rig.account.key("admin").key;
                rig.run(&["list"]).ok().says(&[&ours]);
                assert_eq!(rig.account.keys("admin"), [foreign], "{action}");
                assert!(rig.journal().is_empty());
            });
        }
    });
}

// --- the rig ---

/// A rig whose credentials file holds more than what we write, to see that it all stays.
fn furnished() -> MachineOnAws {
    let rig = rig();
    rig.home.write_credentials(format!(
        "# first line\n{}\n[other]\nregion = eu-west-1\naws_access_key_id = AKIAOTHER\naws_secret_access_key = other\n",
        rig.home.credentials()
    ));
    rig
}

/// Every section is complete and nothing of the others' is lost.
#[track_caller]
fn assert_whole(rig: &MachineOnAws) {
    let text = rig.home.credentials();
    assert!(text.starts_with("# first line\n[usermanager]\n"), "{text}");
    assert!(text.contains("\n[other]\nregion = eu-west-1\naws_access_key_id = AKIAOTHER\n"), "{text}");
    for field in ["aws_access_key_id", "aws_secret_access_key"] {
        let value = rig.field("usermanager", field).unwrap_or_default();
        assert!(value.starts_with("__encrypted__:v2."), "{text}");
    }
    if text.contains("[admin]") {
        let written = [
            "aws_access_key_id",
            "aws_secret_access_key",
            "aws_session_token",
            "credentials_owner",
            "expiration",
        ];
        assert!(written.iter().all(|field| rig.field("admin", field).is_some()), "{text}");
    }
}

/// Runs a refresh that dies at this moment of the action.
fn killed_at(rig: &MachineOnAws, action: &str, moment: Moment, options: &[&str]) {
    let args = [&["refresh", "--profile", "usermanager", "admin"], options].concat();
    killed_args_at(rig, &args, action, moment);
}

fn killed_args_at(rig: &MachineOnAws, args: &[&str], action: &str, moment: Moment) {
    let mut run = Run::start(rig, args);
    let hook = run.kill_hook();
    match moment {
        Moment::RequestLost => {
            rig.proxy.fault_once(action, Fault::BeforeForward(hook));
            rig.proxy.fault_once(action, Fault::Reset);
        }
        Moment::RequestUnderWay => rig.proxy.fault_once(action, Fault::BeforeForward(hook)),
        Moment::AnswerUnderWay => rig.proxy.fault_once(action, Fault::AfterForward(hook)),
    }
    run.release();
    assert_eq!(run.wait(), None, "{action} {moment:?}: it ended before it could be killed");
    rig.proxy.wait_until_idle();
    rig.proxy.clear_faults();
}
