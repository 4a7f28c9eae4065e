//! create-user, delete-user, show-user, list-users.

use iam_sorry_core::api::{CreateUser, Options, PageQuery, ProblemCode};
use iam_sorry_core::audit::{Decision, Outcome, Phase};
use serde_json::json;

use crate::scene::{Instance, Scene, ada, code, dirk, dry, erik, user_ref};
use crate::verbs::Verbs as _;

#[test]
fn a_user_is_made_with_path_boundary_tags_and_policies_and_written_down() {
    let scene = Scene::new();
    let running = scene.start();
    let request = CreateUser { name: "dirk-web".into(), policies: scene.policies.to_vec(), dry_run: false };
    let done = running.run(running.service.create_user(&dirk(), None, request)).unwrap();
    assert!(done.changed && done.resource == "dirk-web", "{done:?}");
    assert_eq!(done.reasons, [r#"rule "owners" (lab.cedar) allows it"#]);
    let user = scene.user("dirk-web");
    assert_eq!(user["Path"], "/iam-sorry/dirk/");
    assert_eq!(user["PermissionsBoundary"]["PermissionsBoundaryArn"], json!(scene.boundary));
    for (key, value) in [
        ("managed-by", "iam-sorry"),
        ("iam-sorry-owner", "corp/uuid-dirk.p"),
        ("iam-sorry-operation", done.operation.as_str()),
    ] {
        assert!(user["Tags"].as_array().unwrap().contains(&json!({"Key": key, "Value": value})), "{user}");
    }
    assert_eq!(scene.attached("dirk-web"), scene.policies);
    let trail = running.trail();
    let of_it: Vec<_> = trail.iter().filter(|e| e.operation.as_ref() == Some(&done.operation)).collect();
    let [intent, outcome] = of_it[..] else { panic!("{trail:#?}") };
    assert_eq!((intent.phase, intent.outcome), (Phase::Intent, None));
    assert_eq!((outcome.phase, outcome.outcome), (Phase::Outcome, Some(Outcome::Success)));
    assert_eq!((outcome.decision, &outcome.rules), (Some(Decision::Allow), &vec!["owners".to_owned()]));
    assert_eq!((outcome.person.name.as_str(), outcome.address.as_str()), ("dirk.p", "192.0.2.7"));
    assert_eq!(outcome.resource, "dirk-web");
    // CreateUser and two AttachUserPolicy.
    assert_eq!(outcome.aws_request_ids.len(), 3, "{outcome:?}");
    scene.assert_accounted_for(&running);
}

#[test]
fn a_refusal_names_the_lack_of_a_rule_and_is_written_down() {
    let scene = Scene::new();
    let running = scene.start();
    let request = CreateUser { name: "lab-x".into(), policies: vec![], dry_run: false };
    let refusal = running.run(running.service.create_user(&dirk(), None, request)).unwrap_err();
    assert_eq!(refusal.code, ProblemCode::NotAllowed);
    assert!(refusal.reasons[0].contains("no rule allows create-user on lab-x"), "{refusal:?}");
    let event = running.last_event();
    assert_eq!((event.decision, event.outcome), (Some(Decision::Deny), Some(Outcome::Failure)));
    assert_eq!((event.action.as_str(), event.resource.as_str()), ("create-user", "lab-x"));
    assert!(scene.proxy.calls().is_empty(), "AWS was not asked");
}

#[test]
fn a_dry_run_decides_and_checks_and_changes_nothing() {
    let scene = Scene::new();
    let running = scene.start();
    let request = |name: &str| CreateUser { name: name.into(), policies: vec![], dry_run: true };
    let done = running.run(running.service.create_user(&dirk(), None, request("dirk-a"))).unwrap();
    assert!(!done.changed && done.notes[0].contains("dry run"), "{done:?}");
    assert_eq!(scene.proxy.actions(), ["GetUser"]);
    assert!(running.trail().is_empty());
    assert_eq!(
        code(running.run(running.service.create_user(&erik(), None, request("dirk-a")))),
        ProblemCode::NotAllowed
    );
    running.create("dirk-a").unwrap();
    assert_eq!(
        code(running.run(running.service.create_user(&dirk(), None, request("Dirk-A")))),
        ProblemCode::Conflict
    );
    let key = running.new_key(&scene, "dirk-a").unwrap().access_key_id;
    let would = running.run(running.service.delete_user(&dirk(), None, "dirk-a", dry())).unwrap();
    assert!(would.notes.contains(&format!("would take away access key {key}")), "{would:?}");
    scene.assert_accounted_for(&running);
}

#[test]
fn a_user_that_iam_has_already_is_a_conflict() {
    let scene = Scene::new();
    let running = scene.start();
    scene.account.user("dirk-old");
    assert_eq!(code(running.create("dirk-old")), ProblemCode::Conflict);
    running.create("dirk-new").unwrap();
    assert_eq!(code(running.create("DIRK-new")), ProblemCode::Conflict);
    scene.assert_accounted_for(&running);
}

#[test]
fn a_policy_that_can_not_be_attached_takes_the_new_user_with_it() {
    let scene = Scene::new();
    let running = scene.start();
    let request = CreateUser { name: "dirk-a".into(), policies: scene.policies.to_vec(), dry_run: false };
    let fault = testkit::Fault::Status(403, "AccessDenied");
    scene.proxy.fault("AttachUserPolicy", fault);
    let refusal = running.run(running.service.create_user(&dirk(), None, request)).unwrap_err();
    assert_eq!(refusal.code, ProblemCode::AwsRefused, "{refusal}");
    assert!(refusal.detail.contains("iam-sorryd policy"), "{refusal}");
    assert!(scene.users_in_iam().is_empty());
    scene.assert_accounted_for(&running);
}

/// Issue 9, number 12: which groups the service may take people out of is the configuration's to say, since IAM's policy can
/// limit it by the group alone.
#[test]
fn a_user_in_a_group_that_is_not_listed_stays_whole() {
    let mut scene = Scene::new();
    scene.groups = Some(Vec::new());
    let running = scene.start();
    running.create("dirk-a").unwrap();
    running.new_key(&scene, "dirk-a").unwrap();
    let call = |scene: &Scene, op: &str, args| scene.account.call("iam", op, args);
    let group = call(&scene, "create_group", json!({"GroupName": "staff", "Path": "/lab/"}));
    let group = group["Group"]["Arn"].as_str().unwrap().to_owned();
    call(&scene, "add_user_to_group", json!({"GroupName": "staff", "UserName": "dirk-a"}));
    let delete = |running: &Instance, dry_run| {
        running.run(running.service.delete_user(&dirk(), None, "dirk-a", Options { dry_run }))
    };
    for dry_run in [true, false] {
        let refusal = delete(&running, dry_run).unwrap_err();
        assert_eq!(refusal.code, ProblemCode::Guardrail);
        assert!(refusal.detail.contains(&group), "{refusal}");
    }
    assert_eq!(scene.account.keys("dirk-a").len(), 1, "nothing was taken away");
    scene.assert_accounted_for(&running);
    drop(running);

    scene.groups = Some(vec![group]);
    let running = scene.start();
    delete(&running, false).unwrap();
    assert!(scene.users_in_iam().is_empty());
}

/// vault#16685: a user with any of these can't be deleted. What the emulator has of the nine; the other three kinds are
/// tried against moto, in the AWS crate's tests.
#[test]
fn delete_user_takes_away_what_hangs_on_it() {
    let scene = Scene::new();
    let running = scene.start();
    running.create("dirk-a").unwrap();
    let keys = [(); 2].map(|()| running.new_key(&scene, "dirk-a").unwrap().access_key_id);
    let call = |op: &str, args| scene.account.call("iam", op, args);
    call("create_login_profile", json!({"UserName": "dirk-a", "Password": "x-9-Y-long-enough"}));
    let device = call("create_virtual_mfa_device", json!({"VirtualMFADeviceName": "dirk-phone"}));
    let serial = device["VirtualMFADevice"]["SerialNumber"].as_str().unwrap().to_owned();
    call(
        "enable_mfa_device",
        json!({"UserName": "dirk-a", "SerialNumber": serial, "AuthenticationCode1": "123456",
            "AuthenticationCode2": "654321"}),
    );
    let inline = json!({"Version": "2012-10-17",
        "Statement": [{"Effect": "Deny", "Action": "s3:*", "Resource": "*"}]})
    .to_string();
    call("put_user_policy", json!({"UserName": "dirk-a", "PolicyName": "mine", "PolicyDocument": inline}));
    call("attach_user_policy", json!({"UserName": "dirk-a", "PolicyArn": scene.unlisted}));
    call("create_group", json!({"GroupName": "staff"}));
    call("add_user_to_group", json!({"GroupName": "staff", "UserName": "dirk-a"}));
    // First only looked at, in the same words.
    for dry_run in [true, false] {
        let options = Options { dry_run };
        let done = running.run(running.service.delete_user(&dirk(), None, "DIRK-a", options)).unwrap();
        let notes = done.notes.join("\n");
        for part in [
            &keys[0],
            &keys[1],
            "login profile",
            &serial,
            "inline policy mine",
            &scene.unlisted,
            "group staff",
        ] {
            assert!(notes.contains(part), "{part}: {notes}");
        }
        assert_eq!(done.changed, !dry_run);
        assert_eq!(scene.users_in_iam().len(), usize::from(dry_run));
    }
    assert!(scene.users_in_iam().is_empty());
    assert_eq!(call("list_virtual_mfa_devices", json!({}))["VirtualMFADevices"], json!([]));
    assert_eq!(call("get_group", json!({"GroupName": "staff"}))["Users"], json!([]));
    scene.assert_accounted_for(&running);
}

#[test]
fn a_forbid_wins() {
    let scene = Scene::new();
    let running = scene.start();
    running.create("dirk-keep").unwrap();
    let refusal =
        running.run(running.service.delete_user(&dirk(), None, "dirk-keep", Options::default())).unwrap_err();
    assert_eq!(refusal.reasons, [r#"rule "no-deletes" (lab.cedar) forbids it"#]);
    assert_eq!(scene.users_in_iam().len(), 1);
}

#[test]
fn lists_show_what_may_be_seen_and_nothing_else() {
    let scene = Scene::new();
    let running = scene.start();
    running.create("dirk-a").unwrap();
    running.create("dirk-b").unwrap();
    let request = CreateUser { name: "lab-a".into(), policies: vec![], dry_run: false };
    running.run(running.service.create_user(&erik(), None, request)).unwrap();
    let names = |caller, all| {
        let query = PageQuery { all, ..PageQuery::default() };
        let page = running.run(running.service.list_users(&caller, None, query)).unwrap();
        page.items.into_iter().map(|user| user.name).collect::<Vec<_>>()
    };
    assert_eq!(names(dirk(), false), ["dirk-a", "dirk-b"]);
    // GHSA-xp3c: asking for all is no way around.
    assert_eq!(names(dirk(), true), ["dirk-a", "dirk-b"]);
    assert_eq!(names(erik(), true), ["lab-a"]);
    assert_eq!(names(ada(), true), Vec::<String>::new());
    let page = PageQuery { limit: Some(1), ..PageQuery::default() };
    let first = running.run(running.service.list_users(&dirk(), None, page.clone())).unwrap();
    let second = running
        .run(running.service.list_users(&dirk(), None, PageQuery { cursor: first.next, ..page }))
        .unwrap();
    assert_eq!((first.items[0].name.as_str(), second.items[0].name.as_str()), ("dirk-a", "dirk-b"));
    let bad = PageQuery { cursor: Some("nonsense".into()), ..PageQuery::default() };
    assert_eq!(code(running.run(running.service.list_users(&dirk(), None, bad))), ProblemCode::BadRequest);
}

/// GHSA-xp3c: what a rule forbids to show is in no list either: not on any page, whatever its size, nor in the cursor that
/// leads to the next one, which names the user before it.
#[test]
fn who_may_not_be_shown_is_on_no_page_and_in_no_cursor() {
    use base64::Engine as _;
    let scene = Scene::new();
    let running = scene.start();
    for name in ["dirk-a", "dirk-secret", "dirk-z"] {
        running.create(name).unwrap();
    }
    assert_eq!(
        code(running.run(running.service.show_user(&dirk(), &user_ref("dirk-secret")))),
        ProblemCode::NotAllowed
    );
    for (all, limit) in [(false, None), (true, None), (false, Some(1)), (true, Some(1)), (false, Some(2))] {
        let (mut names, mut cursor) = (Vec::new(), None);
        loop {
            let page = PageQuery { all, limit, cursor };
            let page = running.run(running.service.list_users(&dirk(), None, page)).unwrap();
            assert!(limit.is_none_or(|limit| page.items.len() <= limit as usize));
            names.extend(page.items.into_iter().map(|user| user.name));
            let Some(next) = page.next else { break };
            let inside = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(&next).unwrap();
            assert!(!String::from_utf8_lossy(&inside).contains("secret"), "{inside:?}");
            cursor = Some(next);
        }
        assert_eq!(names, ["dirk-a", "dirk-z"], "all: {all}, limit: {limit:?}");
    }
    // The last one that may be shown is the end: no cursor says that there is more.
    let page = PageQuery { limit: Some(2), ..PageQuery::default() };
    assert_eq!(running.run(running.service.list_users(&dirk(), None, page)).unwrap().next, None);
}

#[test]
fn show_user_tells_what_iam_says_now() {
    let scene = Scene::new();
    let running = scene.start();
    let request =
        CreateUser { name: "dirk-a".into(), policies: vec![scene.policies[0].clone()], dry_run: false };
    running.run(running.service.create_user(&dirk(), None, request)).unwrap();
    let key = running.new_key(&scene, "dirk-a").unwrap();
    let shown = running.run(running.service.show_user(&dirk(), &user_ref("Dirk-A"))).unwrap();
    assert_eq!(shown.user.name, "dirk-a");
    assert_eq!(shown.policies, [scene.policies[0].clone()]);
    assert_eq!(shown.permissions_boundary.as_ref(), Some(&scene.boundary));
    assert_eq!(shown.keys.len(), 1);
    assert_eq!(
        (shown.keys[0].access_key_id.as_str(), shown.keys[0].status.as_str()),
        (key.access_key_id.as_str(), "Active")
    );
    assert_eq!(
        code(running.run(running.service.show_user(&erik(), &user_ref("dirk-a")))),
        ProblemCode::NotAllowed
    );
}
