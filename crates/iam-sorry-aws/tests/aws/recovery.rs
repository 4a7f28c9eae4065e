//! The process dies between any two steps (its future is dropped, its lock released); the next run leaves nothing.

use std::sync::Arc;
use std::time::Duration;

use crate::scene::{Scene, USER, ours, run};
use iam_sorry_aws::AwsError;
use iam_sorry_aws::journal::{Record, State};
use iam_sorry_aws::key::lost::Standing;
use iam_sorry_aws::recover::{Outcome, Stored, recover};
use testkit::{Fault, Ministack};
use tokio::sync::Notify;

/// Dies when the proxy sees `action`, before or after the emulator has done it; the answer never arrives.
fn die_at(action: &str, done: bool, keep: bool) -> Scene {
    let scene = Scene::new();
    let die = Arc::new(Notify::new());
    let hook: testkit::Hook = {
        let die = die.clone();
        Arc::new(move |_| {
            die.notify_one();
        })
    };
    let (gone, wait) = std::sync::mpsc::channel::<()>();
    if done {
        scene.proxy.fault_once(action, Fault::AfterForward(hook));
        // The answer is held back until the client is gone.
        let wait = std::sync::Mutex::new(wait);
        let held = move |_: &testkit::Call| {
            let _ = wait.lock().unwrap().recv_timeout(Duration::from_secs(60));
        };
        scene.proxy.fault_once(action, Fault::AfterForward(Arc::new(held)));
    } else {
        scene.proxy.fault_once(action, Fault::BeforeForward(hook));
        scene.proxy.fault_once(action, Fault::Hang);
    }
    scene.issue_and_die(keep, &die);
    drop(gone);
    scene
}

fn recovered(scene: &Scene, stored: Stored) -> Outcome {
    let outcome = scene.recover(stored).unwrap();
    if let Outcome::TooFresh { wait } = outcome {
        assert!((1..=3).contains(&wait), "{wait}");
        assert_eq!(scene.entries().len(), 1, "a fresh entry stays");
        std::thread::sleep(scene.retry.settle + Duration::from_millis(100));
        return scene.recover(stored).unwrap();
    }
    outcome
}

#[test]
fn before_the_intent_there_is_nothing_to_do() {
    for action in ["GetUser", "ListAccessKeys"] {
        die_at(action, true, false).assert_clean(&[]);
    }
}

#[test]
fn create_never_arrived() {
    let scene = die_at("CreateAccessKey", false, false);
    assert_eq!(scene.entries()[0].record.key_id, None);
    assert_eq!(recovered(&scene, Stored::No), Outcome::NothingMade);
    scene.assert_clean(&[]);
}

/// Nothing proves whose the key is, so it is deactivated at most, and a person decides.
#[test]
fn create_done_and_the_id_never_learnt() {
    let scene = die_at("CreateAccessKey", true, false);
    let made = scene.account.keys(USER);
    assert_eq!((made.len(), scene.entries()[0].record.key_id.clone()), (1, None));
    for _ in 0..2 {
        let Outcome::Found(found) = recovered(&scene, Stored::No) else { panic!() };
        assert_eq!((&found.keys, found.deactivated), (&made, true), "{found}");
        assert!(!scene.account.is_active(USER, &made[0]));
    }
    let counts = [scene.proxy.count("UpdateAccessKey"), scene.proxy.count("DeleteAccessKey")];
    assert_eq!(counts, [1, 0]);
    scene.account.delete_key(USER, &made[0]);
    let accounted = vec![(made[0].clone(), Standing::Deleted)];
    assert_eq!(scene.recover(Stored::No).unwrap(), Outcome::AccountedFor { keys: accounted });
    scene.assert_clean(&[]);
}

/// The process that looked dies between any two of its steps: the next one goes on, and the key is never deleted.
#[test]
fn a_look_that_dies_is_gone_on_with() {
    for (action, done) in [
        ("ListAccessKeys", true),
        ("GetAccessKeyLastUsed", true),
        ("UpdateAccessKey", false),
        ("UpdateAccessKey", true),
    ] {
        let scene = die_at("CreateAccessKey", true, false);
        std::thread::sleep(scene.retry.settle + Duration::from_millis(100));
        let made = scene.account.keys(USER);
        let die = Arc::new(Notify::new());
        let at_the_action: testkit::Hook = {
            let die = die.clone();
            Arc::new(move |_| die.notify_one())
        };
        let fault =
            if done { Fault::AfterForward(at_the_action) } else { Fault::BeforeForward(at_the_action) };
        scene.proxy.fault_once(action, fault);
        if !done {
            scene.proxy.fault_once(action, Fault::Hang);
        }
        let entry = scene.entries().remove(0);
        run(async {
            let stored = |_: &Record, _: &str| Stored::No;
            tokio::select! {
                biased;
                () = die.notified() => {}
                outcome = recover(&scene.journal, &entry, &scene.aws, &scene.manager, &scene.retry, &stored) =>
                    panic!("{action}: lived: {outcome:?}"),
            }
        });
        scene.proxy.clear_faults();
        let Outcome::Found(found) = scene.recover(Stored::No).unwrap() else { panic!("{action}") };
        assert_eq!((&found.keys, found.deactivated), (&made, true), "{action} {done}");
        assert!(!scene.account.is_active(USER, &made[0]), "{action} {done}");
        assert_eq!(scene.proxy.count("DeleteAccessKey"), 0, "{action} {done}");
    }
}

#[test]
fn the_id_is_known() {
    for (action, done) in [("GetSessionToken", false), ("GetSessionToken", true), ("DeleteAccessKey", false)]
    {
        let scene = die_at(action, done, false);
        let made = scene.account.keys(USER);
        assert_eq!(scene.entries()[0].record.key_id.as_ref(), made.first(), "{action} {done}");
        assert_eq!(scene.recover(Stored::No).unwrap(), Outcome::Deleted { key_id: made[0].clone() });
        scene.assert_clean(&[]);
    }
}

#[test]
fn deleted_and_not_yet_cleared() {
    let scene = die_at("DeleteAccessKey", true, false);
    assert!(scene.account.keys(USER).is_empty());
    assert!(matches!(scene.recover(Stored::No).unwrap(), Outcome::Deleted { .. }));
    scene.assert_clean(&[]);
}

#[test]
fn after_the_entry_is_cleared_there_is_nothing_to_do() {
    die_at("GetCallerIdentity", true, false).assert_clean(&[]);
}

#[test]
fn a_kept_key_stays_or_goes_as_the_profile_says() {
    let fresh = || {
        let scene = Scene::new();
        let kept = scene.issue_and_keep().unwrap().kept.unwrap();
        let id = kept.key().id.clone();
        drop(kept); // dies before it says that the key is stored
        (scene, id)
    };
    let (scene, id) = fresh();
    assert_eq!(scene.recover(Stored::Unknown).unwrap(), Outcome::ProfileUnknown { key_id: id.clone() });
    assert_eq!(scene.account.keys(USER), [id.as_str()]);
    assert_eq!(scene.recover(Stored::Yes).unwrap(), Outcome::Kept { key_id: id.clone() });
    scene.assert_clean(&[&id]);

    let (scene, id) = fresh();
    assert_eq!(scene.recover(Stored::No).unwrap(), Outcome::Deleted { key_id: id });
    scene.assert_clean(&[]);
}

#[test]
fn the_entry_of_a_living_owner_is_left_alone() {
    let scene = Scene::new();
    let issued = scene.issue_and_keep().unwrap();
    assert_eq!(scene.entries()[0].state, State::Running);
    assert_eq!(scene.recover(Stored::No).unwrap(), Outcome::Busy);
    // Also where the listing is older than the owner's death and a new life.
    let mut entry = scene.entries().remove(0);
    entry.state = State::Dead;
    let outcome =
        run(recover(&scene.journal, &entry, &scene.aws, &scene.manager, &scene.retry, &|_, _| Stored::No));
    assert_eq!(outcome.unwrap(), Outcome::Busy);
    assert!(matches!(scene.journal.forget(&entry), Err(AwsError::Journal { .. })));
    assert_eq!(scene.account.keys(USER).len(), 1);
    drop(issued);
}

/// On another machine, where our lock is not seen, the owner stood still for long enough to be taken for dead; it goes on
/// after the entry was listed.
#[test]
fn the_entry_of_an_owner_who_woke_up_elsewhere_is_left_alone() {
    let scene = die_at("GetSessionToken", true, false);
    let path = scene.entries().remove(0).path;
    let text = std::fs::read_to_string(&path).unwrap();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let mut intent: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
    intent["intent"]["host"] = "another-machine".into();
    intent["intent"]["boot_id"] = "another-boot".into();
    lines[0] = intent.to_string();
    std::fs::write(&path, lines.join("\n") + "\n").unwrap();
    let beat = |at: std::time::SystemTime| std::fs::File::open(&path).unwrap().set_modified(at).unwrap();
    let now = std::time::SystemTime::now();
    beat(now - Duration::from_secs(3600));
    let entry = scene.entries().remove(0);
    assert_eq!(entry.state, State::Dead);
    beat(now);
    let outcome =
        run(recover(&scene.journal, &entry, &scene.aws, &scene.manager, &scene.retry, &|_, _| Stored::No));
    assert_eq!(outcome.unwrap(), Outcome::Busy);
    assert_eq!((scene.account.keys(USER).len(), scene.entries().len()), (1, 1));
    // It was silent again.
    beat(now - Duration::from_secs(3600));
    assert!(matches!(scene.recover(Stored::No).unwrap(), Outcome::Deleted { .. }));
    scene.assert_clean(&[]);
}

#[test]
fn a_manager_of_another_account_clears_nothing() {
    let mut scene = die_at("GetSessionToken", true, false);
    let other = Ministack::shared().account();
    other.user(USER);
    let mine = std::mem::replace(&mut scene.manager, ours(&other.manager("manager")));
    let outcome = scene.recover(Stored::No).unwrap();
    assert!(
        matches!(&outcome, Outcome::OtherAccount { account, .. } if account == scene.account.id()),
        "{outcome:?}"
    );
    assert_eq!((scene.entries().len(), scene.account.keys(USER).len()), (1, 1));
    scene.manager = mine;
    assert!(matches!(scene.recover(Stored::No).unwrap(), Outcome::Deleted { .. }));
    scene.assert_clean(&[]);
}

#[test]
fn a_user_who_is_gone_took_the_keys_along() {
    let scene = die_at("CreateAccessKey", true, false);
    let id = scene.account.keys(USER).remove(0);
    let user = serde_json::json!({"UserName": USER});
    scene.account.call("iam", "delete_access_key", serde_json::json!({"UserName": USER, "AccessKeyId": id}));
    scene.account.call("iam", "delete_user", user);
    assert_eq!(recovered(&scene, Stored::No), Outcome::NothingMade);
    assert!(scene.entries().is_empty());
}

#[test]
fn a_recovery_that_fails_keeps_the_entry() {
    let scene = die_at("GetSessionToken", true, false);
    scene.proxy.fault("DeleteAccessKey", Fault::Reset);
    assert!(matches!(scene.recover(Stored::No), Err(AwsError::Unreachable { .. })));
    assert_eq!(scene.entries().len(), 1);
    scene.proxy.clear_faults();
    scene.recover(Stored::No).unwrap();
    scene.assert_clean(&[]);
}

#[test]
fn two_recoveries_at_once_do_no_harm() {
    let scene = die_at("GetSessionToken", true, false);
    let entry = scene.entries().remove(0);
    let one =
        || recover(&scene.journal, &entry, &scene.aws, &scene.manager, &scene.retry, &|_, _| Stored::No);
    let (a, b) = run(async { tokio::join!(one(), one()) });
    for outcome in [a.unwrap(), b.unwrap()] {
        assert!(matches!(outcome, Outcome::Deleted { .. } | Outcome::Busy | Outcome::Gone), "{outcome:?}");
    }
    scene.assert_clean(&[]);
}
