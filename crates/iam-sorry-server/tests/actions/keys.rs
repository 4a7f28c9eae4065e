//! create-access-key, rotate-key, delete-access-key, list-keys.

use std::time::Duration;

use iam_sorry_core::api::{DeleteKey, Options, ProblemCode};
use iam_sorry_server::services::Given;
use serde_json::json;
use testkit::Fault;

use crate::scene::{Running, Scene, code, creds, dirk, dry, erik};

fn scene() -> (Scene, Running) {
    let scene = Scene::new();
    let running = scene.start();
    running.create("dirk-a").unwrap();
    (scene, running)
}

fn rotate(
    running: &Running,
    old: &str,
) -> Result<iam_sorry_core::api::NewKey, iam_sorry_server::services::Refusal> {
    match running.run(running.service.rotate_key(&dirk(), None, "dirk-a", old, Options::default()))? {
        Given::New(key) => Ok(key),
        Given::DryRun(_) => panic!("a dry run"),
    }
}

fn delete(running: &Running, id: &str, force: bool) -> Result<(), iam_sorry_server::services::Refusal> {
    let options = DeleteKey { dry_run: false, force };
    running.run(running.service.delete_access_key(&dirk(), None, "dirk-a", id, options)).map(drop)
}

#[test]
fn a_key_works_and_is_shown_once() {
    let (scene, running) = scene();
    let made = running.new_key(&scene, "dirk-a").unwrap();
    let arn = scene.account.whoami(&creds(&made.access_key_id, &made.secret_access_key, None)).unwrap();
    assert!(arn.ends_with("/dirk-a"), "{arn}");
    assert!(made.done.changed);
    let event = running.last_event();
    assert_eq!(event.details["access-key-id"], made.access_key_id);
    let listed = running.run(running.service.list_keys(&dirk(), "dirk-a")).unwrap();
    assert_eq!(listed[0].access_key_id, made.access_key_id);
    assert_eq!(code(running.run(running.service.list_keys(&erik(), "dirk-a"))), ProblemCode::NotAllowed);
    scene.assert_accounted_for(&running);
}

#[test]
fn a_third_key_is_a_conflict_that_shows_the_two() {
    let (scene, running) = scene();
    let keys = [(); 2].map(|()| running.new_key(&scene, "dirk-a").unwrap().access_key_id);
    for attempt in 0..2 {
        // The second time the two are seen only by AWS's refusal.
        if attempt == 1 {
            scene.proxy.fault("CreateAccessKey", Fault::TwoKeyLimit);
        }
        let refusal = running.new_key(&scene, "dirk-a").unwrap_err();
        assert_eq!(refusal.code, ProblemCode::Conflict);
        assert!(keys.iter().all(|key| refusal.detail.contains(key)), "{refusal}");
        assert!(refusal.detail.contains("iam-sorry keys delete dirk-a"), "{refusal}");
    }
    scene.assert_accounted_for(&running);
}

#[test]
fn rotation_proves_the_new_key_and_deletes_the_old_one() {
    let (scene, running) = scene();
    scene.proxy.fault("*", Fault::NewKeyRefused(2));
    let old = running.new_key(&scene, "dirk-a").unwrap().access_key_id;
    scene.proxy.clear_calls();
    let new = rotate(&running, &old).unwrap();
    let text = new.done.notes.join("\n");
    assert!(text.contains(&format!("the old key {old} was deactivated and deleted")), "{text}");
    assert_eq!(scene.account.keys("dirk-a"), std::slice::from_ref(&new.access_key_id));
    let calls = scene.proxy.actions();
    let place = |action: &str| calls.iter().rposition(|call| call == action).unwrap();
    assert!(place("GetCallerIdentity") < place("UpdateAccessKey"), "{calls:?}");
    assert!(place("UpdateAccessKey") < place("DeleteAccessKey"), "{calls:?}");
    assert!(scene.account.whoami(&creds(&new.access_key_id, &new.secret_access_key, None)).is_ok());
    scene.assert_accounted_for(&running);
}

/// "Rotation never deletes the key in use."
#[test]
fn a_key_in_use_is_never_deleted_by_rotation_nor_without_force() {
    let (scene, running) = scene();
    let old = running.new_key(&scene, "dirk-a").unwrap();
    scene.proxy.fault("GetAccessKeyLastUsed", Fault::KeyUsedAgo(Duration::from_secs(59 * 60)));
    let dry = running.run(running.service.rotate_key(&dirk(), None, "dirk-a", &old.access_key_id, dry()));
    let Given::DryRun(would) = dry.unwrap() else { panic!() };
    assert!(would.notes[1].contains("would stay active"), "{would:?}");
    let new = rotate(&running, &old.access_key_id).unwrap();
    assert!(new.done.notes[0].contains("stays active: it was last used"), "{:?}", new.done);
    assert!(scene.account.whoami(&creds(&old.access_key_id, &old.secret_access_key, None)).is_ok());
    let refusal = delete(&running, &old.access_key_id, false).unwrap_err();
    assert!(refusal.code == ProblemCode::Conflict && refusal.detail.contains("--force"), "{refusal}");
    assert_eq!(scene.account.keys("dirk-a").len(), 2);
    delete(&running, &old.access_key_id, true).unwrap();
    assert_eq!(scene.account.keys("dirk-a"), [new.access_key_id]);
    scene.assert_accounted_for(&running);
}

#[test]
fn a_key_that_was_used_long_ago_is_not_in_use() {
    let (scene, running) = scene();
    let old = running.new_key(&scene, "dirk-a").unwrap();
    scene.proxy.fault("GetAccessKeyLastUsed", Fault::KeyUsedAgo(Duration::from_secs(61 * 60)));
    delete(&running, &old.access_key_id, false).unwrap();
    assert!(scene.account.keys("dirk-a").is_empty());
}

#[test]
fn a_new_key_that_never_works_is_taken_back() {
    let (scene, running) = scene();
    let old = running.new_key(&scene, "dirk-a").unwrap().access_key_id;
    scene.proxy.fault("*", Fault::KeyNotValidYet(Duration::from_secs(60)));
    let refusal = rotate(&running, &old).unwrap_err();
    assert_eq!(refusal.code, ProblemCode::AwsRefused, "{refusal}");
    assert_eq!(scene.account.keys("dirk-a"), [old]);
    scene.assert_accounted_for(&running);
}

#[test]
fn keys_of_others_are_not_found() {
    let (scene, running) = scene();
    running.create("dirk-b").unwrap();
    let other = running.new_key(&scene, "dirk-b").unwrap().access_key_id;
    assert_eq!(code(delete(&running, &other, true)), ProblemCode::NotFound);
    assert_eq!(code(rotate(&running, &other)), ProblemCode::NotFound);
    assert_eq!(code(delete(&running, "AKIA/../x", true)), ProblemCode::InvalidName);
    assert_eq!(scene.account.keys("dirk-b"), [other]);
}

#[test]
fn rotation_without_room_touches_neither_key() {
    let (scene, running) = scene();
    let keys = [(); 2].map(|()| running.new_key(&scene, "dirk-a").unwrap().access_key_id);
    assert_eq!(code(rotate(&running, &keys[0])), ProblemCode::Conflict);
    let status = scene.account.call("iam", "list_access_keys", json!({"UserName": "dirk-a"}));
    let keys = status["AccessKeyMetadata"].as_array().unwrap();
    assert!(keys.len() == 2 && keys.iter().all(|key| key["Status"] == "Active"), "{status}");
}
