//! The policy that we print is enough, and each of its actions is needed: with any one taken away something fails, names
//! that action, and leaves no key behind.

use crate::scene::{Scene, USER, hours, name, ours, run};
use iam_sorry_aws::AwsError;
use iam_sorry_aws::issue::issue_for_user;
use iam_sorry_aws::lookup::user_of_key;
use iam_sorry_aws::policy::{ACTIONS, PolicyRequest, ROTATE, manager_policy};
use iam_sorry_aws::recover::{Outcome, Stored};
use serde_json::{Value, json};
use testkit::{Fault, Ministack};

/// A scene whose manager has the printed policy for `users`, less some actions.
fn scene(users: &[&str], rotate: bool, without: &[&str]) -> Scene {
    let account = Ministack::shared().account();
    account.user(USER);
    account.user("limited");
    let text = manager_policy(&PolicyRequest {
        partition: "aws".into(),
        account: Some(account.id().to_owned()),
        users: users.iter().map(|&u| u.to_owned()).collect(),
        rotate,
    });
    let mut policy: Value = serde_json::from_str(&text.unwrap()).unwrap();
    let statements = policy["Statement"].as_array_mut().unwrap();
    statements.retain_mut(|statement| match &mut statement["Action"] {
        Value::Array(actions) => {
            actions.retain(|action| !without.contains(&action.as_str().unwrap()));
            !actions.is_empty()
        }
        action => !without.contains(&action.as_str().unwrap()),
    });
    account.put_policy("limited", &policy);
    let manager = ours(&account.key("limited"));
    Scene::with_manager(account, manager)
}

#[test]
fn it_is_enough_for_everything_but_rotation() {
    let scene = scene(&["*"], false, &[]);
    scene.issue().unwrap();
    let id = {
        let kept = scene.issue_and_keep().unwrap().kept.unwrap();
        let id = kept.key().id.clone();
        kept.kept().unwrap();
        id
    };
    assert_eq!(run(user_of_key(&scene.aws, &scene.manager, &id)).unwrap(), name(USER));
    scene.proxy.fault_once("CreateAccessKey", Fault::DropResponse);
    assert!(matches!(scene.issue().unwrap_err(), AwsError::AnswerLost { .. }));
    scene.assert_clean(&[&id]);
}

#[test]
fn with_the_rotation_option_it_is_enough_for_rotation() {
    let scene = scene(&["*"], true, &[]);
    let old = scene.account.key(USER).key;
    let rotation = run(iam_sorry_aws::rotate::start(&scene.issuer(), &name(USER), &old)).unwrap();
    let new = rotation.key().id.clone();
    run(rotation.stored(&scene.issuer())).unwrap();
    scene.assert_clean(&[&new]);
}

#[test]
fn every_action_is_needed() {
    for (action, _) in ACTIONS {
        let scene = scene(&["*"], false, &[action]);
        let error = match action {
            // Needed where the answer was lost, and to find the user of a key.
            "iam:GetAccessKeyLastUsed" => {
                let id = scene.account.key(USER).key;
                let error = run(user_of_key(&scene.aws, &scene.manager, &id)).unwrap_err();
                let delete = json!({"UserName": USER, "AccessKeyId": id});
                scene.account.call("iam", "delete_access_key", delete);
                error
            }
            _ => scene.issue().unwrap_err(),
        };
        let text = error.to_string();
        assert!(text.contains(&format!("AWS refused {action} (AccessDenied)")), "{action}: {text}");
        assert!(text.contains("iam-sorry policy"), "{action}: {text}");
        if action == "iam:DeleteAccessKey" {
            // Nobody may delete it, so it is told, and the entry waits for a manager who may.
            assert!(matches!(error, AwsError::KeyLeft { key_id: Some(_), .. }), "{text}");
            assert_eq!(scene.entries().len(), 1);
        } else {
            scene.assert_clean(&[]);
        }
    }
    let scene = scene(&["*"], false, &[]);
    let old = scene.account.key(USER).key;
    let rotation = run(iam_sorry_aws::rotate::start(&scene.issuer(), &name(USER), &old)).unwrap();
    let error = run(rotation.stored(&scene.issuer())).unwrap_err();
    assert!(error.to_string().contains(ROTATE.0), "{error}");
}

#[test]
fn a_better_manager_finishes_what_the_limited_one_could_not() {
    let mut scene = scene(&["*"], false, &["iam:DeleteAccessKey"]);
    scene.issue().unwrap_err();
    scene.manager = ours(&scene.account.manager("better"));
    assert!(matches!(scene.recover(Stored::No).unwrap(), Outcome::Deleted { .. }));
    scene.assert_clean(&[]);
}

#[test]
fn users_outside_the_pattern_are_out_of_reach() {
    let scene = scene(&["ali*"], false, &[]);
    scene.account.user("bob");
    scene.issue().unwrap();
    let error = run(issue_for_user(&scene.issuer(), &name("bob"), hours(1), false)).unwrap_err();
    assert!(error.is_denied(), "{error}");
    assert!(scene.account.keys("bob").is_empty());
}
