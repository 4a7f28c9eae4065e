//! The answer to CreateAccessKey is lost. Was a key made? A key that fits is deactivated at most, and a person decides.

use std::sync::Arc;
use std::time::Duration;

use crate::scene::{Scene, USER, run};
use iam_sorry_aws::AwsError;
use iam_sorry_aws::key::lost::Standing;
use iam_sorry_aws::recover::{Outcome, Stored, delete_found};
use testkit::{Fault, Hook};

/// Somebody else makes a key for the same user.
fn foreign_key(scene: &Scene) -> Hook {
    let account = scene.account.clone();
    Arc::new(move |_| {
        account.key(USER);
    })
}

#[test]
fn a_key_whose_answer_was_lost_is_deactivated_and_shown() {
    for fault in [Fault::DropResponse, Fault::CutResponse(60), Fault::CutResponse(0)] {
        let scene = Scene::new();
        let shown = format!("{fault:?}");
        scene.proxy.fault_once("CreateAccessKey", fault);
        let error = scene.issue().unwrap_err();
        let made = scene.account.keys(USER).remove(0);
        let AwsError::KeyFound { found, .. } = &error else { panic!("{shown}: {error}") };
        assert_eq!((&found.keys[..], found.deactivated), (&[made.clone()][..], true), "{shown}");
        for part in [
            "was lost",
            "deactivated, not deleted",
            &format!(
                "iam-sorry exec manager -- aws iam delete-access-key --user-name {USER} --access-key-id {made}"
            ),
            &format!(
                "iam-sorry exec manager -- aws iam update-access-key --user-name {USER} --access-key-id {made} --status Active"
            ),
        ] {
            assert!(error.to_string().contains(part), "{part}: {error}");
        }
        assert_eq!(scene.proxy.count("CreateAccessKey"), 1, "{shown}: one try only");
        assert_eq!(scene.proxy.count("DeleteAccessKey"), 0, "{shown}");
        assert!(!scene.account.is_active(USER, &made), "{shown}");
        assert_eq!(scene.entries().len(), 1, "{shown}: it waits for a person");
    }
}

/// The request never arrived, and in the same moment somebody else made a key, which fits: its owner activates it again, and
/// from then on it is left alone.
#[test]
fn a_foreign_key_that_fits_alone_is_not_deleted_and_stays_once_its_owner_activates_it() {
    let scene = Scene::new();
    scene.proxy.fault_once("CreateAccessKey", Fault::BeforeForward(foreign_key(&scene)));
    scene.proxy.fault_once("CreateAccessKey", Fault::Reset);
    let error = scene.issue().unwrap_err();
    let foreign = scene.account.keys(USER).remove(0);
    assert!(matches!(&error, AwsError::KeyFound { found, .. } if found.deactivated), "{error}");
    assert!(!scene.account.is_active(USER, &foreign) && scene.proxy.count("DeleteAccessKey") == 0);

    scene.account.activate(USER, &foreign);
    let accounted = vec![(foreign.clone(), Standing::Activated)];
    assert_eq!(scene.recover(Stored::No).unwrap(), Outcome::AccountedFor { keys: accounted });
    assert!(scene.account.is_active(USER, &foreign));
    scene.assert_clean(&[&foreign]);
}

#[test]
fn a_person_may_delete_a_key_that_was_found_and_no_other() {
    let scene = Scene::new();
    let other = scene.account.key(USER).key;
    scene.proxy.fault_once("CreateAccessKey", Fault::DropResponse);
    scene.issue().unwrap_err();
    let made = scene.account.keys(USER).into_iter().find(|id| *id != other).unwrap();
    let entry = scene.entries().remove(0);
    let delete =
        |id: &str| run(delete_found(&scene.journal, &entry, &scene.aws, &scene.manager, &scene.retry, id));
    assert!(matches!(delete(&other), Err(AwsError::NotTheirKey { .. })));
    assert!(delete(&made).unwrap(), "nothing is left to decide");
    scene.assert_clean(&[&other]);
}

/// The answer to the deactivation is lost too: the next run sees that it is done.
#[test]
fn a_deactivation_whose_answer_is_lost_is_looked_at_again() {
    let scene = Scene::new();
    scene.proxy.fault_once("CreateAccessKey", Fault::DropResponse);
    scene.proxy.fault("UpdateAccessKey", Fault::DropResponse);
    let error = scene.issue().unwrap_err();
    assert!(matches!(error, AwsError::KeyLeft { key_id: None, .. }), "{error}");
    scene.proxy.clear_faults();
    let made = scene.account.keys(USER).remove(0);
    let Outcome::Found(found) = scene.recover(Stored::No).unwrap() else { panic!() };
    assert_eq!((found.keys, found.deactivated), (vec![made.clone()], true));
    assert!(!scene.account.is_active(USER, &made));
}

#[test]
fn a_request_that_was_lost_itself_leaves_nothing_to_find() {
    for fault in [Fault::Reset, Fault::Status(500, "ServiceFailure"), Fault::Hang] {
        let scene = Scene::new();
        let shown = format!("{fault:?}");
        scene.proxy.fault_once("CreateAccessKey", fault);
        let error = scene.issue().unwrap_err();
        assert!(matches!(&error, AwsError::AnswerLost { .. }), "{shown}: {error}");
        assert!(error.to_string().contains("none was made"), "{error}");
        assert_eq!(scene.proxy.count("CreateAccessKey"), 1, "{shown}: one try only");
        scene.assert_clean(&[]);
    }
}

#[test]
fn the_users_old_key_is_never_a_candidate() {
    let scene = Scene::new();
    let old = scene.account.key(USER).key;
    scene.proxy.fault_once("CreateAccessKey", Fault::Reset);
    assert!(matches!(scene.issue().unwrap_err(), AwsError::AnswerLost { .. }));
    scene.assert_clean(&[&old]);

    scene.proxy.fault_once("CreateAccessKey", Fault::DropResponse);
    let error = scene.issue().unwrap_err();
    assert!(matches!(&error, AwsError::KeyFound { found, .. } if !found.keys.contains(&old)), "{error}");
    assert!(scene.account.is_active(USER, &old));
}

#[test]
fn with_a_foreign_key_beside_it_none_is_touched_and_both_are_named() {
    let scene = Scene::new();
    scene.proxy.fault_once("CreateAccessKey", Fault::BeforeForward(foreign_key(&scene)));
    scene.proxy.fault_once("CreateAccessKey", Fault::DropResponse);
    let error = scene.issue().unwrap_err();
    let keys = scene.account.keys(USER);
    assert_eq!(keys.len(), 2);
    assert!(matches!(&error, AwsError::KeyFound { found, .. } if !found.deactivated), "{error}");
    for key in &keys {
        assert!(error.to_string().contains(key), "{error}");
    }
    assert_eq!(scene.proxy.count("DeleteAccessKey"), 0);

    // Recovery goes on showing what is left of the two: it may be the other's.
    let shown = |outcome| match outcome {
        Ok(Outcome::Found(found)) => (found.keys, found.deactivated),
        other => panic!("{other:?}"),
    };
    assert_eq!(shown(scene.recover(Stored::No)), (keys.clone(), false));
    scene.account.delete_key(USER, &keys[0]);
    assert_eq!(shown(scene.recover(Stored::No)), (vec![keys[1].clone()], false));
    assert!(scene.account.is_active(USER, &keys[1]));
    assert_eq!(scene.proxy.count("UpdateAccessKey") + scene.proxy.count("DeleteAccessKey"), 0);

    // A person has decided.
    scene.journal.forget(&scene.entries()[0]).unwrap();
    scene.assert_clean(&[&keys[1]]);
}

#[test]
fn a_foreign_key_of_another_time_is_not_taken_for_ours() {
    let mut scene = Scene::new();
    scene.retry.settle = Duration::from_secs(12);
    let account = scene.account.clone();
    // Counted from when the request is lost, however long it took to get there.
    let (lost, wait) = std::sync::mpsc::channel();
    scene.proxy.fault_once(
        "CreateAccessKey",
        Fault::BeforeForward(Arc::new(move |_| {
            let _ = lost.send(());
        })),
    );
    scene.proxy.fault_once("CreateAccessKey", Fault::Reset);
    let stranger = std::thread::spawn(move || {
        wait.recv_timeout(Duration::from_secs(60)).unwrap();
        // After the window: last sign of life, 1 s of rounding and 5 s of allowance.
        std::thread::sleep(Duration::from_secs(9));
        account.key(USER).key
    });
    let error = scene.issue().unwrap_err();
    let foreign = stranger.join().unwrap();
    assert!(matches!(error, AwsError::AnswerLost { .. }), "{error}");
    scene.assert_clean(&[&foreign]);
}

#[test]
fn ctrl_c_while_looking_leaves_it_to_recovery() {
    let scene = Scene::new();
    scene.proxy.fault_once("CreateAccessKey", Fault::DropResponse);
    let cancel = scene.cancel.clone();
    scene.proxy.fault_once("CreateAccessKey", Fault::AfterForward(Arc::new(move |_| cancel.cancel())));
    let error = scene.issue().unwrap_err();
    assert!(matches!(error, AwsError::KeyLeft { key_id: None, .. }), "{error}");
    assert_eq!(scene.account.keys(USER).len(), 1);
    assert!(matches!(scene.recover(Stored::No), Ok(Outcome::TooFresh { .. })));
    std::thread::sleep(scene.retry.settle + Duration::from_millis(100));
    assert!(matches!(scene.recover(Stored::No), Ok(Outcome::Found(found)) if found.deactivated));
    assert!(!scene.account.is_active(USER, &scene.account.keys(USER)[0]));
}

#[test]
fn iam_down_while_looking_leaves_it_to_recovery() {
    let scene = Scene::new();
    scene.proxy.fault_once("CreateAccessKey", Fault::DropResponse);
    // The first list is before the create; those after it fail.
    let proxy = Arc::clone(&scene.proxy);
    let down = move |_: &testkit::Call| proxy.fault("ListAccessKeys", Fault::Reset);
    scene.proxy.fault_once("CreateAccessKey", Fault::AfterForward(Arc::new(down)));
    let error = scene.issue().unwrap_err();
    assert!(matches!(error, AwsError::KeyLeft { key_id: None, .. }), "{error}");
    scene.proxy.clear_faults();
    assert!(matches!(scene.recover(Stored::No), Ok(Outcome::Found(found)) if found.deactivated));
    assert!(!scene.account.is_active(USER, &scene.account.keys(USER)[0]));
}
