//! The answer to CreateAccessKey is lost. Was a key made? Exactly ours may go, and nobody else's.

use std::sync::Arc;
use std::time::Duration;

use crate::scene::{Scene, USER};
use iam_sorry_aws::AwsError;
use iam_sorry_aws::recover::{Outcome, Stored};
use testkit::{Fault, Hook};

/// Somebody else makes a key for the same user.
fn foreign_key(scene: &Scene) -> Hook {
    let account = scene.account.clone();
    Arc::new(move |_| {
        account.key(USER);
    })
}

#[test]
fn a_key_whose_answer_was_lost_is_found_and_deleted() {
    for fault in [Fault::DropResponse, Fault::CutResponse(60), Fault::CutResponse(0)] {
        let scene = Scene::new();
        let shown = format!("{fault:?}");
        scene.proxy.fault_once("CreateAccessKey", fault);
        let error = scene.issue().unwrap_err();
        let AwsError::AnswerLost { found, .. } = &error else { panic!("{shown}: {error}") };
        assert!(found.contains("AKIA") && found.contains("deleted"), "{shown}: {error}");
        assert_eq!(scene.proxy.count("CreateAccessKey"), 1, "{shown}: one try only");
        scene.assert_clean(&[]);
    }
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
    scene.proxy.fault_once("CreateAccessKey", Fault::DropResponse);
    assert!(matches!(scene.issue().unwrap_err(), AwsError::AnswerLost { .. }));
    scene.assert_clean(&[&old]);
}

#[test]
fn with_a_foreign_key_beside_it_none_is_touched_and_both_are_named() {
    let scene = Scene::new();
    scene.proxy.fault_once("CreateAccessKey", Fault::BeforeForward(foreign_key(&scene)));
    scene.proxy.fault_once("CreateAccessKey", Fault::DropResponse);
    let error = scene.issue().unwrap_err();
    let keys = scene.account.keys(USER);
    assert_eq!(keys.len(), 2);
    assert!(matches!(error, AwsError::KeyUnclear { .. }), "{error}");
    for key in &keys {
        assert!(error.to_string().contains(key), "{error}");
    }
    assert_eq!(scene.proxy.count("DeleteAccessKey"), 0);

    // Recovery keeps asking, also once only one of the two is left: it may be the other's.
    let unclear = |outcome| matches!(outcome, Ok(Outcome::Unclear { .. }));
    assert!(unclear(scene.recover(Stored::No)));
    scene.account.call(
        "iam",
        "delete_access_key",
        serde_json::json!({"UserName": USER, "AccessKeyId": keys[0]}),
    );
    assert!(unclear(scene.recover(Stored::No)));
    assert_eq!(scene.account.keys(USER), [keys[1].as_str()]);

    // A person has decided.
    scene.journal.forget(&scene.entries()[0]).unwrap();
    scene.assert_clean(&[&keys[1]]);
}

#[test]
fn a_foreign_key_of_another_time_is_not_taken_for_ours() {
    let mut scene = Scene::new();
    scene.patience.settle = Duration::from_secs(12);
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
    std::thread::sleep(scene.patience.settle + Duration::from_millis(100));
    assert!(matches!(scene.recover(Stored::No), Ok(Outcome::Deleted { .. })));
    scene.assert_clean(&[]);
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
    assert!(matches!(scene.recover(Stored::No), Ok(Outcome::Deleted { .. })));
    scene.assert_clean(&[]);
}
