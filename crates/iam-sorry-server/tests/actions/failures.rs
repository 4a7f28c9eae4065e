//! AWS that throttles, fails, resets, is slow or loses answers; a database that is full or gone: a clear answer, nothing
//! half done, nothing lost.

use std::time::Duration;

use iam_sorry_core::api::{CreateUser, CredentialsRequest, Options, PolicyChange, ProblemCode};
use iam_sorry_core::audit::Outcome;
use serde_json::json;
use testkit::Fault;

use crate::scene::{Scene, code, dirk, key};
use crate::verbs::Verbs as _;

fn session() -> CredentialsRequest {
    CredentialsRequest {
        user: Some("dirk-a".into()),
        role: None,
        duration_seconds: Some(900),
        dry_run: false,
    }
}

#[test]
fn throttled_and_unreachable_are_said_and_leave_nothing() {
    let scene = Scene::new();
    let running = scene.start();
    running.create("dirk-a").unwrap();
    for fault in [Fault::Throttle, Fault::Status(503, "ServiceUnavailable"), Fault::Reset] {
        for action in ["GetSessionToken", "GetCallerIdentity"] {
            scene.proxy.fault(action, fault.clone());
            let refusal =
                running.run(running.service.issue_credentials(&dirk(), None, session())).unwrap_err();
            assert!(
                matches!(refusal.code, ProblemCode::AwsUnavailable | ProblemCode::AwsRefused),
                "{action} {fault:?}: {refusal}"
            );
            scene.proxy.clear_faults();
            scene.assert_accounted_for(&running);
        }
    }
    let role = CredentialsRequest { user: None, role: Some(scene.role.clone()), ..session() };
    scene.proxy.fault("AssumeRole", Fault::Reset);
    let refusal = running.run(running.service.issue_credentials(&dirk(), None, role)).unwrap_err();
    assert!(refusal.code == ProblemCode::AwsUnavailable && refusal.retry_after.is_some(), "{refusal:?}");
    scene.assert_accounted_for(&running);
}

/// By hand it was `AWS refused iam:CreateUser (NoSuchEntity)`, which told nobody what to do.
#[test]
fn a_policy_that_the_account_lacks_is_reported_with_the_way_out() {
    let scene = Scene::new();
    let running = scene.start();
    running.create("dirk-a").unwrap();
    // As AWS answers (IAM API reference, AttachUserPolicy); the emulator attaches what isn't there.
    scene.proxy.fault_once("AttachUserPolicy", Fault::Status(404, "NoSuchEntity"));
    let change = PolicyChange { policy_arn: scene.policies[1].clone(), dry_run: false };
    let refusal = running.run(running.service.attach_policy(&dirk(), None, "dirk-a", change)).unwrap_err();
    assert_eq!(refusal.code, ProblemCode::AwsRefused);
    assert!(refusal.detail.contains("take it off policies in [guardrails]"), "{refusal}");
    running.run(running.service.delete_user(&dirk(), None, "dirk-a", Options::default())).unwrap();
    scene.account.call("iam", "delete_policy", json!({"PolicyArn": scene.boundary}));
    let refusal = running.create("dirk-b").unwrap_err();
    assert_eq!(refusal.code, ProblemCode::AwsRefused);
    assert!(refusal.detail.contains("correct permissions_boundary"), "{refusal}");
    scene.assert_accounted_for(&running);
}

/// The answer to each request that makes or changes something is lost: the same request under the same key is answered
/// in the end, once, and everything is accounted for.
#[test]
fn a_lost_answer_is_settled_and_the_same_request_then_succeeds() {
    let scene = Scene::new();
    let running = scene.start();
    let again = |what: &str, request: &dyn Fn() -> Result<(), ProblemCode>| {
        let start = std::time::Instant::now();
        loop {
            match request() {
                Ok(()) => break,
                Err(ProblemCode::AlreadyDone) => panic!("{what}: its secret was never shown"),
                Err(code) => assert!(
                    start.elapsed() < Duration::from_secs(30)
                        && matches!(code, ProblemCode::Busy | ProblemCode::AwsUnavailable),
                    "{what}: {code:?}"
                ),
            }
            std::thread::sleep(Duration::from_millis(200));
        }
        scene.assert_accounted_for(&running);
    };
    let service = &running.service;
    for fault in [Fault::DropResponse, Fault::CutResponse(40)] {
        let n = if matches!(fault, Fault::DropResponse) { "1" } else { "2" };
        let lose = |action: &str| scene.proxy.fault_once(action, fault.clone());
        lose("CreateUser");
        let k = key(&format!("create-user-{n}"));
        again("create", &|| {
            let request = CreateUser {
                name: "dirk-a".into(),
                policies: vec![scene.policies[0].clone()],
                dry_run: false,
            };
            running.run(service.create_user(&dirk(), Some(&k), request)).map(drop).map_err(|r| r.code)
        });
        assert_eq!(scene.attached("dirk-a"), [scene.policies[0].clone()]);
        lose("CreateAccessKey");
        let k = key(&format!("create-key-{n}"));
        again("key", &|| {
            let options = Options::default();
            running
                .run(service.create_access_key(&dirk(), Some(&k), "dirk-a", options))
                .map(drop)
                .map_err(|r| r.code)
        });
        assert_eq!(
            scene.account.keys("dirk-a").len(),
            2,
            "the person's, and one that nothing proves to be ours"
        );
        assert_eq!(scene.unaccounted(&running).len(), 1);
        lose("CreateAccessKey");
        let k = key(&format!("issue-it-{n}"));
        again("session", &|| {
            running.run(service.issue_credentials(&dirk(), Some(&k), session())).map(drop).map_err(|r| r.code)
        });
        scene.proxy.fault_times("AttachUserPolicy", 3, fault.clone());
        let k = key(&format!("attach-it-{n}"));
        again("attach", &|| {
            let change = PolicyChange { policy_arn: scene.policies[1].clone(), dry_run: false };
            running
                .run(service.attach_policy(&dirk(), Some(&k), "dirk-a", change))
                .map(drop)
                .map_err(|r| r.code)
        });
        scene.proxy.fault_times("DeleteUser", 3, fault.clone());
        let k = key(&format!("delete-it-{n}"));
        again("delete", &|| {
            running
                .run(service.delete_user(&dirk(), Some(&k), "dirk-a", Options::default()))
                .map(drop)
                .map_err(|r| r.code)
        });
        assert!(scene.users_in_iam().is_empty());
        scene.proxy.clear_faults();
    }
    let reconciled = running.trail().into_iter().filter(|e| e.outcome == Some(Outcome::Reconciled)).count();
    assert!(reconciled >= 4, "{reconciled}");
}

#[test]
fn a_key_that_can_not_be_deleted_now_is_deleted_later() {
    let scene = Scene::new();
    let running = scene.start();
    running.create("dirk-a").unwrap();
    scene.proxy.fault("DeleteAccessKey", Fault::Status(500, "ServiceFailure"));
    let refusal = running.run(running.service.issue_credentials(&dirk(), None, session())).unwrap_err();
    assert!(refusal.detail.contains("could not be deleted yet"), "{refusal}");
    assert_eq!(scene.account.keys("dirk-a").len(), 1);
    scene.proxy.clear_faults();
    running.settled();
    scene.assert_accounted_for(&running);
}

#[test]
fn who_goes_away_in_the_middle_stops_nothing_half_way() {
    let scene = Scene::new();
    let running = scene.start();
    running.create("dirk-a").unwrap();
    scene.proxy.fault("GetSessionToken", Fault::Slow(Duration::from_millis(500)));
    let service = running.service.clone();
    let waiting = running.spawn(async move { service.issue_credentials(&dirk(), None, session()).await });
    while scene.proxy.count("GetSessionToken") == 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
    waiting.abort();
    running.settled();
    let event = running.last_event();
    assert_eq!(event.outcome, Some(Outcome::Success));
    scene.assert_accounted_for(&running);
}

#[test]
fn stopping_finishes_what_is_under_way_and_begins_nothing_new() {
    let scene = Scene::new();
    let running = scene.start();
    running.create("dirk-a").unwrap();
    scene.proxy.fault("GetSessionToken", Fault::Slow(Duration::from_millis(700)));
    let service = running.service.clone();
    let under_way = running.spawn(async move { service.issue_credentials(&dirk(), None, session()).await });
    while scene.proxy.count("GetSessionToken") == 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
    let service = running.service.clone();
    let stopping = running.spawn(async move { service.stop(Duration::from_secs(20)).await });
    while running.service.ready().is_ok() {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(code(running.create("dirk-b")), ProblemCode::Stopping);
    assert_eq!(running.run(stopping).unwrap(), 0);
    assert!(running.run(under_way).unwrap().is_ok());
    scene.assert_accounted_for(&running);
}

/// A step of this machine's clock, either way, between two requests: nothing is lost, and a key whose answer was lost right
/// after it is found all the same, because it is looked for by AWS's time.
#[test]
fn a_clock_step_loses_nothing() {
    let scene = Scene::new();
    let running = scene.start();
    running.create("dirk-a").unwrap();
    let now = iam_sorry_server::clock::Clock::system().now_ms();
    for step in [7_200_000, -7_200_000] {
        scene.set_clock(now + step);
        scene.proxy.fault_once("CreateAccessKey", Fault::DropResponse);
        let refusal = running.run(running.service.issue_credentials(&dirk(), None, session())).unwrap_err();
        assert_eq!(refusal.code, ProblemCode::AwsUnavailable, "{refusal}");
        running.settled();
        let [found] = scene.unaccounted(&running).try_into().unwrap();
        let options = iam_sorry_core::api::DeleteKey::default();
        running.run(running.service.delete_access_key(&dirk(), None, "dirk-a", &found, options)).unwrap();
        assert!(scene.account.keys("dirk-a").is_empty() && scene.unaccounted(&running).is_empty());
        running.run(running.service.issue_credentials(&dirk(), None, session())).unwrap();
    }
    scene.assert_accounted_for(&running);
}
