//! Rotation: the new key is made, proved and stored before the old one goes; at no moment is the user without a key
//! that works and is written down.

use crate::scene::{Scene, USER, name, ours, run};
use iam_sorry_aws::AwsError;
use iam_sorry_aws::recover::{Outcome, Stored};
use iam_sorry_aws::rotate::{Rotation, start};
use serde_json::json;
use testkit::Fault;

fn begin(scene: &Scene, old: &str) -> Result<Rotation, AwsError> {
    run(start(&scene.issuer(), &name(USER), old))
}

#[test]
fn the_old_key_goes_once_the_new_one_is_stored() {
    let scene = Scene::new();
    let old = scene.account.key(USER).key;
    let rotation = begin(&scene, &old).unwrap();
    let new = rotation.key().id.clone();
    assert_eq!(scene.account.keys(USER).len(), 2);
    run(rotation.stored(&scene.issuer())).unwrap();
    scene.assert_clean(&[&new]);
    let after = scene.proxy.actions();
    assert!(after.ends_with(&["UpdateAccessKey".into(), "DeleteAccessKey".into()]), "{after:?}");
}

#[test]
fn a_user_can_rotate_the_key_that_signs() {
    let mut scene = Scene::new();
    let own = scene.account.user_allowed("self", &["iam:*"]);
    scene.manager = ours(&own);
    scene.proxy.fault("*", Fault::NewKeyRefused(2));
    let rotation = run(start(&scene.issuer(), &name("self"), &own.key)).unwrap();
    let new = rotation.key().id.clone();
    run(rotation.stored(&scene.issuer())).unwrap();
    assert_eq!(scene.account.keys("self"), [new.as_str()]);
    assert!(scene.entries().is_empty());
}

#[test]
fn a_key_that_is_not_the_users_is_refused() {
    let scene = Scene::new();
    let other = scene.account.keys("manager").remove(0);
    let error = begin(&scene, &other).unwrap_err();
    assert!(matches!(error, AwsError::NotTheirKey { .. }), "{error}");
    assert_eq!(scene.proxy.count("CreateAccessKey"), 0);
}

#[test]
fn with_two_keys_there_is_no_room() {
    let scene = Scene::new();
    let (one, two) = (scene.account.key(USER).key, scene.account.key(USER).key);
    assert!(matches!(begin(&scene, &one).unwrap_err(), AwsError::KeyLimit { .. }));
    scene.assert_clean(&[&one, &two]);
}

#[test]
fn a_new_key_that_does_not_work_goes_and_the_old_one_stays() {
    let mut scene = Scene::new();
    scene.retry.new_key = std::time::Duration::from_secs(1);
    let old = scene.account.key(USER).key;
    scene.proxy.fault("GetCallerIdentity", Fault::Status(403, "InvalidClientTokenId"));
    assert!(matches!(begin(&scene, &old).unwrap_err(), AwsError::InvalidKey { .. }));
    scene.assert_clean(&[&old]);
}

#[test]
fn a_new_key_that_could_not_be_stored_goes_and_the_old_one_stays() {
    let scene = Scene::new();
    let old = scene.account.key(USER).key;
    run(begin(&scene, &old).unwrap().discard(&scene.issuer())).unwrap();
    scene.assert_clean(&[&old]);
}

#[test]
fn after_a_death_the_profile_decides_which_key_goes() {
    for (stored, in_use) in [(Stored::Yes, 1), (Stored::No, 0)] {
        let scene = Scene::new();
        let old = scene.account.key(USER).key;
        let rotation = begin(&scene, &old).unwrap();
        let keys = [old, rotation.key().id.clone()];
        drop(rotation); // dies before or after the caller has stored the new key
        assert!(matches!(scene.recover(Stored::Unknown).unwrap(), Outcome::ProfileUnknown { .. }));
        assert_eq!(scene.account.keys(USER).len(), 2, "without knowing, neither goes");
        scene.recover(stored).unwrap();
        scene.assert_clean(&[&keys[in_use]]);
    }
}

#[test]
fn an_old_key_that_cannot_be_deleted_is_left_to_recovery() {
    let scene = Scene::new();
    let old = scene.account.key(USER).key;
    let rotation = begin(&scene, &old).unwrap();
    let new = rotation.key().id.clone();
    scene.proxy.fault("DeleteAccessKey", Fault::Status(403, "AccessDenied"));
    let error = run(rotation.stored(&scene.issuer())).unwrap_err();
    assert!(matches!(&error, AwsError::OldKeyLeft { key_id, .. } if *key_id == old), "{error}");
    let listed = scene.account.call("iam", "list_access_keys", json!({"UserName": USER}));
    let status = |id: &str| {
        let keys = listed["AccessKeyMetadata"].as_array().unwrap();
        keys.iter().find(|k| k["AccessKeyId"] == id).unwrap()["Status"].as_str().unwrap().to_owned()
    };
    assert_eq!((status(&old).as_str(), status(&new).as_str()), ("Inactive", "Active"));
    scene.proxy.clear_faults();
    assert_eq!(scene.recover(Stored::Yes).unwrap(), Outcome::Kept { key_id: new.clone() });
    scene.assert_clean(&[&new]);
}

/// The profile holds the new key, but somebody deleted it in IAM: the old one may be all that the user has.
#[test]
fn an_old_key_whose_successor_is_gone_is_not_touched() {
    let scene = Scene::new();
    let old = scene.account.key(USER).key;
    let rotation = begin(&scene, &old).unwrap();
    let new = rotation.key().id.clone();
    let delete = json!({"UserName": USER, "AccessKeyId": new});
    scene.account.call("iam", "delete_access_key", delete);
    let error = run(rotation.still_there(&scene.issuer())).unwrap_err();
    assert!(matches!(&error, AwsError::TakenOver { key_id, .. } if *key_id == new), "{error}");
    drop(rotation);
    assert_eq!(scene.recover(Stored::Yes).unwrap(), Outcome::Deleted { key_id: new });
    scene.assert_clean(&[&old]);
}

#[test]
fn a_lost_answer_leaves_the_old_key_alone() {
    let scene = Scene::new();
    let old = scene.account.key(USER).key;
    scene.proxy.fault_once("CreateAccessKey", Fault::DropResponse);
    let error = begin(&scene, &old).unwrap_err();
    assert!(matches!(&error, AwsError::KeyFound { found, .. } if !found.keys.contains(&old)), "{error}");
    assert!(scene.account.is_active(USER, &old));
    assert_eq!(scene.account.keys(USER).len(), 2);
}
