//! The same idempotency key gives the same outcome, without its secrets.

use iam_sorry_core::api::{CreateUser, CredentialsRequest, Options, PolicyChange, ProblemCode};
use testkit::Fault;

use crate::scene::{Scene, code, dirk, erik, key};
use crate::verbs::Verbs as _;

fn request(name: &str) -> CreateUser {
    CreateUser { name: name.into(), policies: vec![], dry_run: false }
}

#[test]
fn the_same_request_again_is_answered_and_not_done_again() {
    let scene = Scene::new();
    let running = scene.start();
    let key = key("first-of-two");
    let create = |name| running.run(running.service.create_user(&dirk(), Some(&key), request(name)));
    let first = create("dirk-a").unwrap();
    scene.proxy.clear_calls();
    let second = create("dirk-a").unwrap();
    assert!(first.changed && !second.changed);
    assert_eq!((first.operation, first.resource), (second.operation, second.resource));
    assert!(scene.proxy.calls().is_empty());
    assert_eq!(code(create("dirk-b")), ProblemCode::IdempotencyMismatch);
    // Keys are each person's own.
    let lab = running.run(running.service.create_user(&erik(), Some(&key), request("lab-a")));
    assert!(lab.unwrap().changed);
    let delete =
        |n| running.run(running.service.delete_user(&dirk(), Some(&n), "dirk-a", Options::default()));
    let gone = crate::scene::key("delete-it-once");
    assert!(delete(gone.clone()).unwrap().changed);
    assert!(!delete(gone).unwrap().changed);
    scene.assert_accounted_for(&running);
}

#[test]
fn a_secret_is_shown_once() {
    let scene = Scene::new();
    let running = scene.start();
    running.create("dirk-a").unwrap();
    let (one, two) = (key("the-access-key"), key("the-session-1"));
    let new_key =
        || running.run(running.service.create_access_key(&dirk(), Some(&one), "dirk-a", Options::default()));
    new_key().unwrap();
    let refusal = new_key().unwrap_err();
    assert_eq!(refusal.code, ProblemCode::AlreadyDone);
    assert!(refusal.detail.contains("its secret was shown then"), "{refusal}");
    assert_eq!(scene.account.keys("dirk-a").len(), 1);
    let session = || {
        let request = CredentialsRequest {
            user: Some("dirk-a".into()),
            role: None,
            duration_seconds: Some(900),
            dry_run: false,
        };
        running.run(running.service.issue_credentials(&dirk(), Some(&two), request))
    };
    session().unwrap();
    assert_eq!(code(session()), ProblemCode::AlreadyDone);
    scene.assert_accounted_for(&running);
}

#[test]
fn what_failed_is_tried_again_under_the_same_key() {
    let scene = Scene::new();
    let running = scene.start();
    running.create("dirk-a").unwrap();
    let key = key("try-it-again");
    let attach = || {
        let change = PolicyChange { policy_arn: scene.policies[0].clone(), dry_run: false };
        running.run(running.service.attach_policy(&dirk(), Some(&key), "dirk-a", change))
    };
    for _ in 0..3 {
        scene.proxy.fault_once("AttachUserPolicy", Fault::Status(403, "AccessDenied"));
        assert_eq!(code(attach()), ProblemCode::AwsRefused);
    }
    assert!(attach().unwrap().changed);
    assert!(!attach().unwrap().changed);
    assert_eq!(scene.attached("dirk-a"), [scene.policies[0].clone()]);
}

#[test]
fn two_at_once_under_one_key_do_it_once() {
    let scene = Scene::new();
    let running = scene.start();
    let key = key("both-at-once");
    let tasks: Vec<_> = (0..6)
        .map(|_| {
            let (service, key) = (running.service.clone(), key.clone());
            running.spawn(async move { service.create_user(&dirk(), Some(&key), request("dirk-a")).await })
        })
        .collect();
    let answers: Vec<_> = tasks.into_iter().map(|task| running.run(task).unwrap().unwrap()).collect();
    assert_eq!(answers.iter().filter(|done| done.changed).count(), 1, "{answers:#?}");
    assert_eq!(scene.proxy.count("CreateUser"), 1);
}

#[test]
fn keys_are_of_their_form() {
    use iam_sorry_server::operations::idempotency::IdempotencyKey;
    for bad in ["", "short", "with space", "tilde~12345", &"x".repeat(65), "ünïcödé-key"] {
        assert_eq!(code(IdempotencyKey::parse(bad)), ProblemCode::BadRequest, "{bad}");
    }
}
