//! An action that was stored as JSON and is run later does what it does when it is run at once.

use iam_sorry_core::api::{ActionName, Change, ProblemCode, UserPart};
use iam_sorry_server::actions::create_user::CreateUser;
use iam_sorry_server::actions::registry::{AnyOutput, StoredAction};
use iam_sorry_server::error::ServiceError;
use iam_sorry_server::operations::action::{Mode, RunOutput};
use serde_json::{Value, json};

use crate::scene::{Instance, Scene, code, dirk, erik, key, user_ref};

fn run(
    running: &Instance,
    key_text: &str,
    action: Value,
    mode: Mode,
) -> Result<RunOutput<AnyOutput>, ServiceError> {
    let action: StoredAction = serde_json::from_value(action).unwrap();
    running.run(action.run(&running.service, &dirk(), Some(&key(key_text)), mode))
}

#[test]
fn a_stored_action_is_the_same_request_as_one_that_is_run_at_once() {
    let scene = Scene::new();
    let running = scene.start();
    let stored = StoredAction::from(CreateUser::new(user_ref("dirk-a"), vec![scene.policies[0].clone()]));
    let stored = serde_json::to_value(&stored).unwrap();
    let RunOutput::Acted(AnyOutput::Done(done)) = run(&running, "create-user-a", stored, Mode::Act).unwrap()
    else {
        panic!("not done")
    };
    assert_eq!((done.action, done.changed), (ActionName::CreateUser, true));
    let attached = Change::PolicyAttached { policy_arn: scene.policies[0].clone() };
    assert_eq!(done.changes, [Change::UserCreated { user: "dirk-a".into() }, attached]);
    assert_eq!(scene.attached("dirk-a"), [scene.policies[0].clone()]);
    // The same key at once: the same request, so the same operation.
    let action = CreateUser::new(user_ref("dirk-a"), vec![scene.policies[0].clone()]);
    let again =
        running.run(running.service.run(&dirk(), Some(&key("create-user-a")), action, Mode::Act)).unwrap();
    let RunOutput::Unchanged(again) = again else { panic!("done twice") };
    assert_eq!((again.operation, again.changed, again.changes), (done.operation, false, done.changes));
    scene.assert_accounted_for(&running);
}

#[test]
fn a_stored_action_is_decided_when_it_is_run_and_shows_its_secret_once() {
    let scene = Scene::new();
    let running = scene.start();
    running.create("dirk-a").unwrap();
    let make = json!({"action": "create-access-key", "user": "dirk-a"});
    let action: StoredAction = serde_json::from_value(make.clone()).unwrap();
    assert_eq!(
        code(running.run(action.run(&running.service, &erik(), None, Mode::Act))),
        ProblemCode::NotAllowed
    );
    let made = run(&running, "make-the-key", make.clone(), Mode::Act).unwrap();
    let RunOutput::Acted(AnyOutput::Key(made)) = made else { panic!("no key") };
    scene.remember(&made.secret_access_key);
    assert_eq!(code(run(&running, "make-the-key", make, Mode::Act)), ProblemCode::AlreadyDone);
    let delete = json!({"action": "delete-user", "user": "dirk-a"});
    let would = run(&running, "delete-user-a", delete.clone(), Mode::DryRun).unwrap();
    let RunOutput::Unchanged(would) = would else { panic!("a dry run did something") };
    let part = UserPart::AccessKey { access_key_id: made.access_key_id };
    assert!(would.dry_run && would.changes.contains(&Change::TakenAway { part }), "{would:?}");
    assert!(matches!(
        run(&running, "delete-user-a", delete.clone(), Mode::Act).unwrap(),
        RunOutput::Acted(AnyOutput::Done(_))
    ));
    // The user is gone, and the same request still has the same answer.
    let again = run(&running, "delete-user-a", delete, Mode::Act).unwrap();
    assert!(matches!(again, RunOutput::Unchanged(done) if !done.changed));
    scene.assert_accounted_for(&running);
}

#[test]
fn a_stored_action_that_is_not_wholly_understood_is_none() {
    for unknown in [
        json!({"action": "create-access-key", "user": "dirk-a", "account": "archive"}),
        json!({"action": "create-access-key", "user": "dirk a"}),
        json!({"action": "create-access-key"}),
        json!({"action": "paint-user", "user": "dirk-a"}),
        json!({"user": "dirk-a"}),
    ] {
        assert!(serde_json::from_value::<StoredAction>(unknown.clone()).is_err(), "{unknown}");
    }
}
