//! create-access-key, rotate-key, delete-access-key, list-keys.

use std::time::{Duration, Instant};

use iam_sorry_core::api::{Change, DeleteKey, Done, KeyStatus, Options, ProblemCode};
use iam_sorry_core::audit::{Decision, Event, Outcome, Person, Phase};
use iam_sorry_server::actions::update_access_key::UpdateAccessKey;
use iam_sorry_server::clock::Clock;
use iam_sorry_server::error::ServiceError;
use iam_sorry_server::operations::action::{Mode, RunOutput};
use serde_json::json;
use testkit::Fault;

use crate::scene::{Instance, Scene, code, creds, dirk, dry, erik, key, user_ref};
use crate::verbs::Verbs as _;

fn scene() -> (Scene, Instance) {
    let scene = Scene::new();
    let running = scene.start();
    running.create("dirk-a").unwrap();
    (scene, running)
}

fn rotate(running: &Instance, old: &str) -> Result<iam_sorry_core::api::NewKey, ServiceError> {
    match running.run(running.service.rotate_key(&dirk(), None, "dirk-a", old, Options::default()))? {
        RunOutput::Acted(key) => Ok(key),
        RunOutput::Unchanged(_) => panic!("a dry run"),
    }
}

fn confirm(running: &Instance, new: &str) -> Result<Done, ServiceError> {
    running.run(running.service.confirm_key(&dirk(), None, "dirk-a", new, Options::default()))
}

fn restore(running: &Instance, old: &str) -> Result<Done, ServiceError> {
    running.run(running.service.restore_key(&dirk(), None, "dirk-a", old, Options::default()))
}

/// A new key in the place of an old one: the ids of both.
fn rotated(scene: &Scene, running: &Instance) -> (String, String) {
    let old = running.new_key(scene, "dirk-a").unwrap().access_key_id;
    let new = rotate(running, &old).unwrap().access_key_id;
    (old, new)
}

/// The old keys of the rotations that wait.
fn waiting(running: &Instance) -> Vec<String> {
    let found = running.run(running.service.store().rotations_of(&user_ref("dirk-a"))).unwrap();
    found.into_iter().map(|found| found.new.old_key).collect()
}

fn until(done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(60), "not within a minute");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A rotation of another user's an hour ago: once its old key is gone, the service has looked for what is due.
fn rotated_before(scene: &Scene, running: &Instance) {
    let now = Clock::system().now_ms();
    scene.set_clock(now - 3_600_000);
    running.create("dirk-b").unwrap();
    let old = running.new_key(scene, "dirk-b").unwrap().access_key_id;
    let given = running.run(running.service.rotate_key(&dirk(), None, "dirk-b", &old, Options::default()));
    assert!(matches!(given.unwrap(), RunOutput::Acted(_)));
    scene.set_clock(now);
}

/// Waits until the service has looked for what is due at this time.
fn at(scene: &Scene, ms: i64) {
    scene.set_clock(ms);
    until(|| scene.account.keys("dirk-b").len() == 1);
}

fn delete(running: &Instance, id: &str, force: bool) -> Result<(), ServiceError> {
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
    let listed = running.run(running.service.list_keys(&dirk(), &user_ref("dirk-a"))).unwrap();
    assert_eq!(listed[0].access_key_id, made.access_key_id);
    assert_eq!(
        code(running.run(running.service.list_keys(&erik(), &user_ref("dirk-a")))),
        ProblemCode::NotAllowed
    );
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
fn rotation_proves_the_new_key_and_keeps_the_old_one_until_it_is_confirmed() {
    let (scene, running) = scene();
    scene.proxy.fault("*", Fault::NewKeyRefused(2));
    let old = running.new_key(&scene, "dirk-a").unwrap().access_key_id;
    scene.proxy.clear_calls();
    let new = rotate(&running, &old).unwrap();
    let shown = new.old_key.clone().unwrap();
    assert_eq!((shown.access_key_id.as_str(), shown.status.as_str()), (old.as_str(), "Inactive"));
    let until = shown.deleted_after.unwrap();
    assert!(new.done.notes[0].contains(&until), "{:?}", new.done);
    let calls = scene.proxy.actions();
    let place = |action: &str| calls.iter().rposition(|call| call == action).unwrap();
    assert!(place("GetCallerIdentity") < place("UpdateAccessKey"), "{calls:?}");
    assert!(!calls.iter().any(|call| call == "DeleteAccessKey"), "{calls:?}");
    let listed = running.run(running.service.list_keys(&dirk(), &user_ref("dirk-a"))).unwrap();
    let of = |id: &str| listed.iter().find(|key| key.access_key_id == id).unwrap();
    assert_eq!(
        (of(&old).status.as_str(), of(&old).deleted_after.as_deref()),
        ("Inactive", Some(until.as_str()))
    );
    assert_eq!(of(&old).replaced_by.as_deref(), Some(new.access_key_id.as_str()));
    assert_eq!(of(&new.access_key_id).replaces.as_deref(), Some(old.as_str()));
    scene.assert_accounted_for(&running);

    let done = confirm(&running, &new.access_key_id).unwrap();
    assert!(done.changed && done.notes[0].contains(&format!("the old key {old} was deleted")), "{done:?}");
    assert_eq!(scene.account.keys("dirk-a"), std::slice::from_ref(&new.access_key_id));
    let event = running.last_event();
    assert_eq!((event.action.as_str(), event.person.name.as_str()), ("confirm-key", "dirk.p"));
    assert_eq!(event.details["old-access-key-id"], old);
    assert!(scene.account.whoami(&creds(&new.access_key_id, &new.secret_access_key, None)).is_ok());
    // Again, and of a key that no rotation made: nothing to do, and nothing wrong.
    let records = running.trail().len();
    assert!(!confirm(&running, &new.access_key_id).unwrap().changed);
    assert_eq!(running.trail().len(), records);
    assert_eq!(code(confirm(&running, &old)), ProblemCode::NotFound);
    scene.assert_accounted_for(&running);
}

/// The answer to a rotation is lost, and with it the new secret: the old key is the one that works again.
#[test]
fn a_rotation_whose_answer_was_lost_is_taken_back() {
    let (scene, running) = scene();
    let old = running.new_key(&scene, "dirk-a").unwrap();
    let id = old.access_key_id.as_str();
    let once = key("rotate-once");
    let rotate_once =
        || running.run(running.service.rotate_key(&dirk(), Some(&once), "dirk-a", id, Options::default()));
    drop(rotate_once().unwrap());
    // What is answered to the same request, and to another rotation, says what to do.
    let seen = rotate_once().unwrap_err();
    assert_eq!(seen.code, ProblemCode::AlreadyDone);
    let in_the_way = rotate(&running, id).unwrap_err();
    assert_eq!(in_the_way.code, ProblemCode::Conflict);
    for refusal in [seen, in_the_way] {
        let way_out = format!("iam-sorry keys restore dirk-a {id}");
        assert!(refusal.detail.contains(&way_out), "{refusal}");
        assert!(refusal.detail.contains("iam-sorry keys confirm dirk-a "), "{refusal}");
    }
    let done = restore(&running, id).unwrap();
    assert!(done.notes.iter().any(|note| note.contains("active again")), "{done:?}");
    assert_eq!(scene.account.keys("dirk-a"), [id]);
    assert!(scene.account.whoami(&creds(id, &old.secret_access_key, None)).is_ok());
    assert_eq!(running.last_event().action, "restore-key");
    assert!(!restore(&running, id).unwrap().changed);
    scene.assert_accounted_for(&running);
    let new = rotate(&running, id).unwrap();
    confirm(&running, &new.access_key_id).unwrap();
    assert_eq!(scene.account.keys("dirk-a"), [new.access_key_id]);
}

/// Nobody confirms: the service does it in its own name once the time is over.
#[test]
fn an_old_key_that_nobody_confirmed_goes_when_its_time_is_over() {
    let (scene, running) = scene();
    rotated_before(&scene, &running);
    let (old, new) = rotated(&scene, &running);
    at(&scene, Clock::system().now_ms() + (72 * 60 - 5) * 60_000);
    assert_eq!(scene.account.keys("dirk-a").len(), 2);
    scene.set_clock(Clock::system().now_ms() + (72 * 60 + 5) * 60_000);
    until(|| scene.account.keys("dirk-a") == [new.clone()]);
    until(|| running.last_event().details.get("old-access-key-id") == Some(&old));
    let event = running.last_event();
    assert_eq!((event.action.as_str(), event.outcome), ("retire-key", Some(Outcome::Success)));
    assert_eq!(
        (event.details["old-access-key-id"].as_str(), event.details["old-key"].as_str()),
        (old.as_str(), "deleted")
    );
    let of_the_service = running.trail().into_iter().filter(|event| event.action == "retire-key");
    let of_the_service: Vec<_> = of_the_service.collect();
    assert!(of_the_service.iter().any(|event| event.phase == Phase::Intent));
    // It names nobody: any name could be somebody's.
    let nobody = Person { id: String::new(), name: String::new(), groups: Vec::new(), method: None };
    assert!(of_the_service.iter().all(|event| event.person == nobody), "{of_the_service:?}");
    scene.assert_accounted_for(&running);
}

#[test]
fn an_old_key_that_is_active_again_stays() {
    let (scene, running) = scene();
    for by_time in [false, true] {
        scene.set_clock(Clock::system().now_ms());
        let (old, new) = rotated(&scene, &running);
        let activate = json!({"UserName": "dirk-a", "AccessKeyId": old, "Status": "Active"});
        scene.account.call("iam", "update_access_key", activate);
        match by_time {
            false => {
                let done = confirm(&running, &new).unwrap();
                assert!(done.notes[0].contains("is active, so it stays"), "{done:?}");
            }
            true => {
                scene.set_clock(Clock::system().now_ms() + 73 * 3_600_000);
                until(|| running.last_event().action == "retire-key");
                assert_eq!(running.last_event().details["old-key"], "active, stays");
            }
        }
        assert_eq!(scene.account.keys("dirk-a").len(), 2);
        assert!(waiting(&running).is_empty());
        scene.assert_accounted_for(&running);
        [old, new].iter().for_each(|id| delete(&running, id, true).unwrap());
    }
}

#[test]
fn an_old_key_that_was_used_since_stays() {
    let (scene, running) = scene();
    for by_time in [false, true] {
        scene.set_clock(Clock::system().now_ms());
        let (old, new) = rotated(&scene, &running);
        // AWS tells whole seconds.
        let rotated_at =
            running.run(running.service.store().rotations_of(&user_ref("dirk-a"))).unwrap()[0].new.since;
        until(|| Clock::system().now().unix() > rotated_at + 1);
        scene.proxy.fault("GetAccessKeyLastUsed", Fault::KeyUsedAgo(Duration::ZERO));
        match by_time {
            false => {
                let done = confirm(&running, &new).unwrap();
                assert!(done.notes[0].contains("after the rotation, so it stays"), "{done:?}");
            }
            true => {
                scene.set_clock(Clock::system().now_ms() + 73 * 3_600_000);
                until(|| running.last_event().action == "retire-key");
                assert_eq!(running.last_event().details["old-key"], "used since, stays");
            }
        }
        assert_eq!(scene.account.keys("dirk-a").len(), 2);
        assert!(waiting(&running).is_empty());
        scene.proxy.clear_faults();
        [old, new].iter().for_each(|id| delete(&running, id, true).unwrap());
    }
}

/// AWS tells of a use only after a while: a confirmation does not delete what turns out to have been in use.
#[test]
fn an_old_key_that_was_in_use_until_the_rotation_waits_for_its_time() {
    let (scene, running) = scene();
    let (old, new) = rotated(&scene, &running);
    scene.proxy.fault("GetAccessKeyLastUsed", Fault::KeyUsedAgo(Duration::from_secs(600)));
    let done = confirm(&running, &new).unwrap();
    assert!(done.notes[0].contains(&format!("the old key {old} stays, inactive, until ")), "{done:?}");
    assert_eq!(waiting(&running), [old]);
    scene.set_clock(Clock::system().now_ms() + 73 * 3_600_000);
    until(|| scene.account.keys("dirk-a") == [new.clone()]);
}

/// The new key is gone or inactive: the old one may be all that the user has.
#[test]
fn an_old_key_without_its_successor_stays_and_can_be_restored() {
    let (scene, running) = scene();
    rotated_before(&scene, &running);
    let (old, new) = rotated(&scene, &running);
    delete(&running, &new, true).unwrap();
    at(&scene, Clock::system().now_ms() + 73 * 3_600_000);
    assert_eq!(scene.account.keys("dirk-a"), std::slice::from_ref(&old));
    let done = restore(&running, &old).unwrap();
    assert!(done.notes[0].contains("active again"), "{done:?}");
    scene.assert_accounted_for(&running);
}

/// The new key is in use: it is never deleted, whoever asks for the old one.
#[test]
fn restoring_keeps_a_new_key_that_is_in_use() {
    let (scene, running) = scene();
    let (old, new) = rotated(&scene, &running);
    scene.proxy.fault("GetAccessKeyLastUsed", Fault::KeyUsedAgo(Duration::from_secs(1)));
    let done = restore(&running, &old).unwrap();
    assert!(done.notes.iter().any(|note| note.contains(&format!("the new key {new} stays"))), "{done:?}");
    let listed = running.run(running.service.list_keys(&dirk(), &user_ref("dirk-a"))).unwrap();
    assert!(listed.len() == 2 && listed.iter().all(|key| key.status == KeyStatus::Active), "{listed:?}");
    scene.assert_accounted_for(&running);
}

/// Whoever names the wrong one of the two keys is not told that all is well.
#[test]
fn naming_the_other_key_of_a_rotation_ends_nothing_and_says_which_one_to_name() {
    let (scene, running) = scene();
    let (old, new) = rotated(&scene, &running);
    for (refused, way_out) in [
        (restore(&running, &new), format!("iam-sorry keys restore dirk-a {old}")),
        (confirm(&running, &old), format!("iam-sorry keys confirm dirk-a {new}")),
    ] {
        let refusal = refused.unwrap_err();
        assert_eq!(refusal.code, ProblemCode::Conflict, "{refusal}");
        assert!(refusal.detail.contains(&way_out), "{refusal}");
    }
    assert_eq!(waiting(&running), [old]);
    assert_eq!(scene.account.keys("dirk-a").len(), 2);
}

#[test]
fn a_rotation_is_ended_by_nobody_else() {
    let (scene, running) = scene();
    let (old, new) = rotated(&scene, &running);
    let service = &running.service;
    let none = Options::default;
    assert_eq!(
        code(running.run(service.confirm_key(&erik(), None, "dirk-a", &new, none()))),
        ProblemCode::NotAllowed
    );
    let event = running.last_event();
    assert_eq!((event.action.as_str(), event.decision), ("confirm-key", Some(Decision::Deny)));
    assert_eq!(
        code(running.run(service.restore_key(&erik(), None, "dirk-a", &old, none()))),
        ProblemCode::NotAllowed
    );
    let would = running.run(service.confirm_key(&dirk(), None, "dirk-a", &new, dry())).unwrap();
    assert!(!would.changed && would.notes[1].contains("would be deleted"), "{would:?}");
    let would = running.run(service.restore_key(&dirk(), None, "dirk-a", &old, dry())).unwrap();
    assert!(!would.changed && would.notes[1].contains("would be active again"), "{would:?}");
    assert_eq!(waiting(&running), [old]);
}

#[test]
fn two_confirmations_at_once_delete_the_old_key_once() {
    let (scene, running) = scene();
    let (_, new) = rotated(&scene, &running);
    scene.proxy.clear_calls();
    let work = || {
        let (service, new) = (running.service.clone(), new.clone());
        running.spawn(
            async move { service.confirm_key(&dirk(), None, "dirk-a", &new, Options::default()).await },
        )
    };
    let both = [work(), work()];
    for work in both {
        running.run(work).unwrap().unwrap();
    }
    let deletes = scene.proxy.actions().iter().filter(|call| *call == "DeleteAccessKey").count();
    assert_eq!((deletes, scene.account.keys("dirk-a")), (1, vec![new]));
    scene.assert_accounted_for(&running);
}

/// "Rotation never deletes the key in use."
#[test]
fn a_key_in_use_is_never_deleted_by_rotation_nor_without_force() {
    let (scene, running) = scene();
    let old = running.new_key(&scene, "dirk-a").unwrap();
    scene.proxy.fault("GetAccessKeyLastUsed", Fault::KeyUsedAgo(Duration::from_secs(59 * 60)));
    let dry = running.run(running.service.rotate_key(&dirk(), None, "dirk-a", &old.access_key_id, dry()));
    let RunOutput::Unchanged(would) = dry.unwrap() else { panic!() };
    assert!(would.notes[1].contains("would stay active"), "{would:?}");
    let new = rotate(&running, &old.access_key_id).unwrap();
    assert!(new.done.notes[0].contains("stays active: it was last used"), "{:?}", new.done);
    let old_key = new.old_key.unwrap();
    assert_eq!((old_key.status.as_str(), old_key.deleted_after), ("Active", None));
    assert!(confirm(&running, &new.access_key_id).unwrap().notes[0].contains("is active, so it stays"));
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

/// A key that has leaked is inactive at once, whoever uses it, and can be activated again.
#[test]
fn a_key_is_deactivated_and_activated() {
    let scene = Scene::new();
    let running = scene.start();
    running.create("dirk-a").unwrap();
    let made = running.new_key(&scene, "dirk-a").unwrap().access_key_id;
    let theirs = scene.account.key("dirk-a").key;
    let update = |user: &str, key: &str, active: bool, mode: Mode| {
        let action = UpdateAccessKey::new(user_ref(user), key, active).unwrap();
        running.run(running.service.run(&dirk(), None, action, mode)).map(RunOutput::into_done)
    };
    let status = |key: &str| scene.status_of("dirk-a", key);
    let would = update("dirk-a", &made, false, Mode::DryRun).unwrap();
    assert_eq!((would.changed, status(&made).as_deref()), (false, Some("Active")));
    assert!(would.notes[1].contains("would deactivate"), "{would:?}");
    for (key, active) in [(&made, false), (&made, false), (&made, true), (&theirs, false)] {
        let done = update("dirk-a", key, active, Mode::Act).unwrap();
        assert_eq!(done.changes, [Change::KeyStatusSet { access_key_id: key.clone(), active }]);
        assert_eq!(status(key).as_deref(), Some(if active { "Active" } else { "Inactive" }));
    }
    // Nobody else's, and none that there is not.
    assert_eq!(code(update("dirk-a", "AKIAIOSFODNN7EXAMPLE", false, Mode::Act)), ProblemCode::NotFound);
    scene.account.user("erik-a");
    let foreign = scene.account.key("erik-a").key;
    assert_eq!(code(update("dirk-a", &foreign, false, Mode::Act)), ProblemCode::NotFound);
    assert_eq!(code(update("erik-a", &foreign, false, Mode::Act)), ProblemCode::Guardrail);
    assert_eq!(scene.status_of("erik-a", &foreign).as_deref(), Some("Active"));
    let trail = running.trail();
    let recorded =
        |event: &Event, name: &str, text: &str| event.details.get(name).is_some_and(|it| it == text);
    assert!(trail.iter().any(|event| {
        event.phase == Phase::Intent
            && event.action == "update-access-key"
            && recorded(event, "access-key-id", &theirs)
            && recorded(event, "status", "inactive")
    }));
}
