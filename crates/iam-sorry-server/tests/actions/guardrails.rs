//! What the service never does, whatever the rules say: the part that depends on what IAM says now. (The part that depends
//! on names and lists alone is tested with the rules.)

use iam_sorry_core::api::{CreateUser, CredentialsRequest, DeleteKey, Options, PolicyChange, ProblemCode};
use serde_json::json;

use crate::scene::{Instance, Scene, code, dirk, person, user_ref};
use crate::verbs::Verbs as _;

/// Every action on a user, with what came of it.
fn everything(running: &Instance, scene: &Scene, name: &str) -> Vec<(&'static str, ProblemCode)> {
    let (service, dirk) = (&running.service, dirk());
    let change = || PolicyChange { policy_arn: scene.policies[0].clone(), dry_run: false };
    let credentials = CredentialsRequest {
        user: Some(name.into()),
        role: None,
        duration_seconds: Some(900),
        dry_run: false,
    };
    let key = "AKIAIOSFODNN7EXAMPLE";
    let none = Options::default;
    vec![
        ("show", code(running.run(service.show_user(&dirk, &user_ref(name))))),
        ("list keys", code(running.run(service.list_keys(&dirk, &user_ref(name))))),
        ("attach", code(running.run(service.attach_policy(&dirk, None, name, change())))),
        ("detach", code(running.run(service.detach_policy(&dirk, None, name, change())))),
        ("create key", code(running.run(service.create_access_key(&dirk, None, name, none())))),
        ("rotate", code(running.run(service.rotate_key(&dirk, None, name, key, none())))),
        (
            "delete key",
            code(running.run(service.delete_access_key(&dirk, None, name, key, DeleteKey::default()))),
        ),
        ("credentials", code(running.run(service.issue_credentials(&dirk, None, credentials)))),
        ("delete", code(running.run(service.delete_user(&dirk, None, name, none())))),
    ]
}

#[test]
fn users_that_the_service_neither_made_nor_adopted_are_not_touched() {
    let scene = Scene::new();
    let running = scene.start();
    scene.account.user("dirk-old");
    let key = scene.account.key("dirk-old").key;
    for (action, code) in everything(&running, &scene, "dirk-old") {
        assert_eq!(code, ProblemCode::Guardrail, "{action}");
    }
    assert!(scene.proxy.calls().is_empty(), "AWS was not asked");
    assert_eq!(scene.account.keys("dirk-old"), [key]);
}

/// A user of the same name that somebody made in its place is somebody else.
#[test]
fn a_user_that_was_replaced_behind_the_services_back_is_not_touched() {
    let scene = Scene::new();
    let running = scene.start();
    running.create("dirk-a").unwrap();
    scene.account.call("iam", "delete_user", json!({"UserName": "dirk-a"}));
    scene.account.user("dirk-a");
    scene.account.call(
        "iam",
        "attach_user_policy",
        json!({"UserName": "dirk-a", "PolicyArn": scene.unlisted}),
    );
    for (action, code) in everything(&running, &scene, "dirk-a") {
        assert_eq!(code, ProblemCode::Guardrail, "{action}");
    }
    assert_eq!(scene.proxy.count("CreateAccessKey"), 0);
    assert_eq!(scene.attached("dirk-a"), std::slice::from_ref(&scene.unlisted));
    assert!(scene.account.keys("dirk-a").is_empty());
    // So is one in the right place that lost its tag.
    running.create("dirk-b").unwrap();
    scene.account.call("iam", "untag_user", json!({"UserName": "dirk-b", "TagKeys": ["managed-by"]}));
    for (action, code) in everything(&running, &scene, "dirk-b") {
        assert_eq!(code, ProblemCode::Guardrail, "{action}");
    }
    let refusal =
        running.run(running.service.delete_user(&dirk(), None, "dirk-b", Options::default())).unwrap_err();
    assert!(refusal.detail.contains("managed-by"), "{refusal}");
}

/// vault#5190: a user removed behind the service's back is no endless retry.
#[test]
fn a_user_that_is_gone_is_said_to_be_gone_and_forgotten() {
    let scene = Scene::new();
    let running = scene.start();
    let forgotten = |action: &dyn Fn() -> ProblemCode| {
        running.create("dirk-a").unwrap();
        scene.account.call("iam", "delete_user", json!({"UserName": "dirk-a"}));
        // Not as young any more as one that IAM may not show everywhere yet.
        scene.set_clock(iam_sorry_server::clock::Clock::system().now_ms() + 120_000);
        assert_eq!(action(), ProblemCode::NotFound);
        assert!(running.run(running.service.store().user(&user_ref("dirk-a"))).unwrap().is_none());
        scene.set_clock(iam_sorry_server::clock::Clock::system().now_ms());
        scene.assert_accounted_for(&running);
    };
    let none = Options::default;
    forgotten(&|| code(running.run(running.service.create_access_key(&dirk(), None, "dirk-a", none()))));
    let request = CredentialsRequest {
        user: Some("dirk-a".into()),
        role: None,
        duration_seconds: Some(900),
        dry_run: false,
    };
    forgotten(&|| code(running.run(running.service.issue_credentials(&dirk(), None, request.clone()))));
    let change = PolicyChange { policy_arn: scene.policies[0].clone(), dry_run: false };
    forgotten(&|| code(running.run(running.service.attach_policy(&dirk(), None, "dirk-a", change.clone()))));
    // Deleting what is gone is done.
    running.create("dirk-a").unwrap();
    scene.account.call("iam", "delete_user", json!({"UserName": "dirk-a"}));
    scene.set_clock(iam_sorry_server::clock::Clock::system().now_ms() + 120_000);
    let done = running.run(running.service.delete_user(&dirk(), None, "dirk-a", none())).unwrap();
    assert!(done.notes[0].contains("deleted without this service"), "{done:?}");
}

#[test]
fn only_listed_policies_are_attached_also_at_creation() {
    let scene = Scene::new();
    let running = scene.start();
    running.create("dirk-a").unwrap();
    let change = PolicyChange { policy_arn: scene.unlisted.clone(), dry_run: false };
    let refusal = running.run(running.service.attach_policy(&dirk(), None, "dirk-a", change)).unwrap_err();
    assert_eq!(refusal.code, ProblemCode::Guardrail);
    let request =
        CreateUser { name: "dirk-b".into(), policies: vec![scene.unlisted.clone()], dry_run: false };
    assert_eq!(
        code(running.run(running.service.create_user(&dirk(), None, request))),
        ProblemCode::Guardrail
    );
    assert_eq!(scene.users_in_iam().len(), 1);
    let change = |arn: &str| PolicyChange { policy_arn: arn.into(), dry_run: false };
    let attach = |arn| running.run(running.service.attach_policy(&dirk(), None, "dirk-a", change(arn)));
    let detach = |arn| running.run(running.service.detach_policy(&dirk(), None, "dirk-a", change(arn)));
    attach(&scene.policies[0]).unwrap();
    assert_eq!(scene.attached("dirk-a"), [scene.policies[0].clone()]);
    detach(&scene.policies[0]).unwrap();
    assert!(detach(&scene.policies[0]).unwrap().notes[0].contains("was not attached"));
    assert!(scene.attached("dirk-a").is_empty());
}

#[test]
fn nobody_raises_their_own_rights() {
    let scene = Scene::new();
    let running = scene.start();
    let request = CreateUser { name: "dirk-p".into(), policies: vec![], dry_run: false };
    let me = person("dirk-p", &["lab"]);
    running.run(running.service.create_user(&me, None, request)).unwrap();
    let change = PolicyChange { policy_arn: scene.policies[0].clone(), dry_run: false };
    let refusal =
        running.run(running.service.attach_policy(&me, None, "dirk-p", change.clone())).unwrap_err();
    assert!(
        refusal.code == ProblemCode::Guardrail && refusal.reasons[0].contains("own-rights"),
        "{refusal:?}"
    );
    // Nor by making the user with the policy.
    running.run(running.service.delete_user(&me, None, "dirk-p", Options::default())).unwrap();
    let request =
        CreateUser { name: "dirk-p".into(), policies: vec![scene.policies[0].clone()], dry_run: false };
    assert_eq!(code(running.run(running.service.create_user(&me, None, request))), ProblemCode::Guardrail);
    assert!(scene.users_in_iam().is_empty());
}
