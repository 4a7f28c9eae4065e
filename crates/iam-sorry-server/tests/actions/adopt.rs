//! adopt-user: only who has no more than the service could have given, with the boundary before anything else. This
//! emulator has no UpdateUser, so the users here are in the namespace's path already; moving is tried against moto, in
//! the AWS crate's tests.

use iam_sorry_core::api::{Options, ProblemCode};
use serde_json::json;

use crate::scene::{Scene, code, dirk, dry, person, user_ref};
use crate::verbs::Verbs as _;

fn old_user(scene: &Scene, name: &str) {
    scene.account.call("iam", "create_user", json!({"UserName": name, "Path": "/iam-sorry/dirk/"}));
}

#[test]
fn an_adopted_user_gets_the_boundary_the_tags_and_a_row() {
    let scene = Scene::new();
    let running = scene.start();
    old_user(&scene, "dirk-old");
    let key = scene.account.key("dirk-old").key;
    scene.account.call(
        "iam",
        "attach_user_policy",
        json!({"UserName": "dirk-old", "PolicyArn": scene.policies[0]}),
    );
    let adopt = |options| running.run(running.service.adopt_user(&dirk(), None, "Dirk-OLD", options));
    // The emulator, unlike IAM, knows names in one case only.
    assert_eq!(code(adopt(dry())), ProblemCode::NotFound);
    let adopt = |options| running.run(running.service.adopt_user(&dirk(), None, "dirk-old", options));
    assert!(!adopt(dry()).unwrap().changed);
    assert!(scene.user("dirk-old")["PermissionsBoundary"].is_null());
    scene.proxy.clear_calls();
    let done = adopt(Options::default()).unwrap();
    assert!(done.notes[0].contains(&scene.boundary), "{done:?}");
    let user = scene.user("dirk-old");
    assert_eq!(user["PermissionsBoundary"]["PermissionsBoundaryArn"], json!(scene.boundary));
    assert!(user["Tags"].to_string().contains("corp/uuid-dirk.p"), "{user}");
    let calls = scene.proxy.actions();
    let place = |action: &str| calls.iter().position(|call| call == action).unwrap();
    assert!(place("PutUserPermissionsBoundary") < place("TagUser"), "{calls:?}");
    // The key that it brought along is known from here on.
    scene.assert_accounted_for(&running);
    assert_eq!(
        running.run(running.service.list_keys(&dirk(), &user_ref("dirk-old"))).unwrap()[0].access_key_id,
        key
    );
    assert_eq!(code(adopt(Options::default())), ProblemCode::Conflict);
}

#[test]
fn who_has_more_than_the_service_could_give_is_not_adopted() {
    let scene = Scene::new();
    let running = scene.start();
    let call = |op: &str, args| scene.account.call("iam", op, args);
    old_user(&scene, "dirk-1");
    call("attach_user_policy", json!({"UserName": "dirk-1", "PolicyArn": scene.unlisted}));
    old_user(&scene, "dirk-2");
    scene.account.put_policy(
        "dirk-2",
        &json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}),
    );
    old_user(&scene, "dirk-3");
    call("create_group", json!({"GroupName": "admins"}));
    call("add_user_to_group", json!({"GroupName": "admins", "UserName": "dirk-3"}));
    old_user(&scene, "dirk-4");
    call(
        "put_user_permissions_boundary",
        json!({"UserName": "dirk-4", "PermissionsBoundary": scene.unlisted}),
    );
    for (name, why) in [
        ("dirk-1", scene.unlisted.as_str()),
        ("dirk-2", "inline policy testkit"),
        ("dirk-3", "group admins"),
        ("dirk-4", "another permissions boundary"),
    ] {
        let refusal =
            running.run(running.service.adopt_user(&dirk(), None, name, Options::default())).unwrap_err();
        assert_eq!(refusal.code, ProblemCode::Guardrail, "{name}");
        assert!(refusal.detail.contains(why), "{name}: {refusal}");
        assert_eq!(scene.user(name)["Tags"], json!(null), "{name}");
    }
    let me = person("dirk-5", &["lab"]);
    old_user(&scene, "dirk-5");
    assert_eq!(
        code(running.run(running.service.adopt_user(&me, None, "dirk-5", Options::default()))),
        ProblemCode::Guardrail
    );
    assert_eq!(
        code(running.run(running.service.adopt_user(&dirk(), None, "dirk-no", Options::default()))),
        ProblemCode::NotFound
    );
    assert_eq!(
        code(running.run(running.service.adopt_user(&dirk(), None, "iam-sorryd", Options::default()))),
        ProblemCode::Guardrail
    );
}
