//! The policy that we print is enough, and each of its actions is needed: with any one taken away something fails, names
//! that action, and leaves no key behind.

use crate::scene::{Scene, USER, hours, name, ours, run};
use iam_sorry_aws::AwsError;
use iam_sorry_aws::issue::issue_for_user;
use iam_sorry_aws::lookup::user_of_key;
use iam_sorry_aws::policy::{ACTIONS, PolicyRequest, manager_policy};
use iam_sorry_aws::recover::{Outcome, Stored};
use serde_json::Value;
use testkit::{Fault, Ministack};

/// A scene whose manager has the printed policy for `users`, less some actions.
fn scene(users: &[&str], without: &[&str]) -> Scene {
    let account = Ministack::shared().account();
    account.user(USER);
    account.user("limited");
    let text = manager_policy(&PolicyRequest {
        partition: "aws".into(),
        account: Some(account.id().to_owned()),
        users: users.iter().map(|&u| u.to_owned()).collect(),
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
fn it_is_enough_for_everything() {
    let scene = scene(&["*"], &[]);
    scene.issue().unwrap();
    let id = {
        let kept = scene.issue_and_keep().unwrap().kept.unwrap();
        let id = kept.key().id.clone();
        kept.kept().unwrap();
        id
    };
    assert_eq!(run(user_of_key(&scene.aws, &scene.manager, &id)).unwrap(), name(USER));
    let rotation = run(iam_sorry_aws::rotate::start(&scene.issuer(), &name(USER), &id)).unwrap();
    let new = rotation.key().id.clone();
    run(rotation.stored(&scene.issuer())).unwrap();
    scene.assert_clean(&[&new]);
    scene.proxy.fault_once("CreateAccessKey", Fault::DropResponse);
    let error = scene.issue().unwrap_err();
    assert!(matches!(&error, AwsError::KeyFound { found, .. } if found.deactivated), "{error}");
}

/// A manager with the policy of an earlier version: the key that was found stays active, and a person hears of it, until a
/// manager who may deactivate it comes along.
#[test]
fn who_may_not_deactivate_a_key_that_was_found_says_so() {
    let mut scene = scene(&["*"], &["iam:UpdateAccessKey"]);
    scene.issue().unwrap();
    scene.proxy.fault_once("CreateAccessKey", Fault::DropResponse);
    let error = scene.issue().unwrap_err();
    let made = scene.account.keys(USER).remove(0);
    for part in [
        made.as_str(),
        "still active",
        "AWS refused iam:UpdateAccessKey (AccessDenied)",
        "iam-sorry policy",
        "delete-access-key",
    ] {
        assert!(error.to_string().contains(part), "{part}: {error}");
    }
    let shown = |outcome: Outcome| match outcome {
        Outcome::Found(found) => (found.keys, found.deactivated),
        other => panic!("{other:?}"),
    };
    assert_eq!(shown(scene.recover(Stored::No).unwrap()), (vec![made.clone()], false));
    assert!(scene.account.is_active(USER, &made));
    scene.manager = ours(&scene.account.manager("better"));
    assert_eq!(shown(scene.recover(Stored::No).unwrap()), (vec![made.clone()], true));
    assert!(!scene.account.is_active(USER, &made));
}

#[test]
fn every_action_is_needed() {
    for (action, _) in ACTIONS {
        let scene = scene(&["*"], &[action]);
        let error = match action {
            // Needed only if the answer was lost, and for rotation.
            "iam:UpdateAccessKey" => {
                let old = scene.account.key(USER).key;
                let rotation = run(iam_sorry_aws::rotate::start(&scene.issuer(), &name(USER), &old)).unwrap();
                let new = rotation.key().id.clone();
                let error = run(rotation.stored(&scene.issuer())).unwrap_err();
                let AwsError::OldKeyLeft { cause, .. } = error else { panic!("{error}") };
                scene.journal.forget(&scene.entries()[0]).unwrap();
                scene.account.delete_key(USER, &old);
                scene.account.delete_key(USER, &new);
                *cause
            }
            // Needed if the answer was lost, and to find the user of a key.
            "iam:GetAccessKeyLastUsed" => {
                let id = scene.account.key(USER).key;
                let error = run(user_of_key(&scene.aws, &scene.manager, &id)).unwrap_err();
                scene.account.delete_key(USER, &id);
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
}

#[test]
fn a_better_manager_finishes_what_the_limited_one_could_not() {
    let mut scene = scene(&["*"], &["iam:DeleteAccessKey"]);
    scene.issue().unwrap_err();
    scene.manager = ours(&scene.account.manager("better"));
    assert!(matches!(scene.recover(Stored::No).unwrap(), Outcome::Deleted { .. }));
    scene.assert_clean(&[]);
}

#[test]
fn users_outside_the_pattern_are_out_of_reach() {
    let scene = scene(&["ali*"], &[]);
    scene.account.user("bob");
    scene.issue().unwrap();
    let error = run(issue_for_user(&scene.issuer(), &name("bob"), hours(1), false)).unwrap_err();
    assert!(error.is_denied(), "{error}");
    assert!(scene.account.keys("bob").is_empty());
}
