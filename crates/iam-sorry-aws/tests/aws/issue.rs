//! Temporary credentials for a user through a manager, against an emulator that checks signatures and ties a session
//! to the user whose key made it.

use std::sync::Arc;
use std::time::Duration;

use crate::scene::{Scene, USER, hours, name, run};
use iam_sorry_aws::AwsError;
use iam_sorry_aws::issue::{Progress, issue_for_user};
use serde_json::json;
use testkit::Fault;

#[test]
fn the_credentials_are_the_users_own_and_the_key_is_gone() {
    let scene = Scene::new();
    let issued = scene.issue().unwrap();
    assert_eq!(scene.whoami(&issued.credentials), format!("arn:aws:iam::{}:user/{USER}", scene.account.id()));
    assert!(issued.credentials.session_token.is_some() && issued.credentials.expiration.is_some());
    assert!(issued.kept.is_none());
    assert_eq!(issued.user.name.as_str(), USER);
    scene.assert_clean(&[]);
}

#[test]
fn six_requests_whether_the_account_has_2_users_or_302() {
    let scene = Scene::new();
    let six = [
        "GetUser",
        "ListAccessKeys",
        "CreateAccessKey",
        "GetSessionToken",
        "DeleteAccessKey",
        "GetCallerIdentity",
    ];
    scene.issue().unwrap();
    assert_eq!(scene.proxy.actions(), six);
    for n in 0..300 {
        scene.account.user(&format!("user{n}"));
    }
    scene.proxy.clear_calls();
    scene.issue().unwrap();
    assert_eq!(scene.proxy.actions(), six);
}

#[test]
fn a_user_with_a_path_is_found() {
    let scene = Scene::new();
    scene.account.call("iam", "create_user", json!({"UserName": "bob", "Path": "/team/a/"}));
    let issued = run(issue_for_user(&scene.issuer(), &name("bob"), hours(2), false)).unwrap();
    assert_eq!(issued.user.path, "/team/a/");
    assert!(scene.whoami(&issued.credentials).ends_with(":user/team/a/bob"));
}

#[test]
fn two_keys_are_both_shown_and_neither_is_touched() {
    let scene = Scene::new();
    let (one, two) = (scene.account.key(USER).key, scene.account.key(USER).key);
    let error = scene.issue().unwrap_err();
    let AwsError::KeyLimit { user, keys } = &error else { panic!("{error}") };
    assert_eq!((user.as_str(), keys.len()), (USER, 2));
    let text = error.to_string();
    for part in [one.as_str(), two.as_str(), "active", "never used", "(today)", "aws iam delete-access-key"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(scene.proxy.count("CreateAccessKey"), 0);
    scene.assert_clean(&[&one, &two]);
}

#[test]
fn a_second_key_that_appears_in_between_is_the_limit_too() {
    let scene = Scene::new();
    let one = scene.account.key(USER).key;
    let account = scene.account.clone();
    scene.proxy.fault_once(
        "CreateAccessKey",
        Fault::BeforeForward(Arc::new(move |_| {
            account.key(USER);
        })),
    );
    scene.proxy.fault("CreateAccessKey", Fault::TwoKeyLimit);
    let error = scene.issue().unwrap_err();
    assert!(matches!(&error, AwsError::KeyLimit { keys, .. } if keys.len() == 2), "{error}");
    assert_eq!(scene.account.keys(USER).len(), 2);
    assert!(scene.account.keys(USER).contains(&one));
    assert!(scene.entries().is_empty());
}

#[test]
fn an_unknown_user_is_named() {
    let scene = Scene::new();
    let error = run(issue_for_user(&scene.issuer(), &name("nobody"), hours(1), false)).unwrap_err();
    assert!(matches!(&error, AwsError::NoSuchUser { user } if user == "nobody"), "{error}");
    assert!(error.to_string().contains("aws iam get-user --user-name nobody"));
    assert_eq!(scene.proxy.actions(), ["GetUser"]);
    scene.assert_clean(&[]);
}

#[test]
fn a_new_key_that_aws_does_not_know_yet_is_waited_for() {
    let scene = Scene::new();
    scene.proxy.fault("*", Fault::KeyNotValidYet(Duration::from_secs(1)));
    let issued = scene.issue().unwrap();
    assert!(scene.whoami(&issued.credentials).ends_with(":user/alice"));
    assert!(scene.proxy.count("GetSessionToken") >= 2, "{:?}", scene.proxy.actions());
    let waiting = scene.heard().into_iter().find(|step| matches!(step, Progress::WaitingForKey { .. }));
    assert!(waiting.unwrap().to_string().starts_with("Waiting for AWS to accept the new access key AKIA"));
    assert_eq!(scene.proxy.count("CreateAccessKey"), 1);
    scene.assert_clean(&[]);
}

#[test]
fn a_key_that_never_becomes_valid_is_deleted() {
    let mut scene = Scene::new();
    scene.retry.new_key = Duration::from_secs(1);
    scene.proxy.fault("GetSessionToken", Fault::Status(403, "InvalidClientTokenId"));
    let error = scene.issue().unwrap_err();
    assert!(matches!(error, AwsError::InvalidKey { action: "sts:GetSessionToken", .. }), "{error}");
    scene.assert_clean(&[]);
}

#[test]
fn a_throttled_request_is_tried_again_and_only_one_key_is_made() {
    let scene = Scene::new();
    for action in ["GetUser", "ListAccessKeys", "GetSessionToken", "DeleteAccessKey", "GetCallerIdentity"] {
        scene.proxy.fault_once(action, Fault::Throttle);
    }
    scene.issue().unwrap();
    assert_eq!(scene.proxy.count("CreateAccessKey"), 1);
    scene.assert_clean(&[]);
}

#[test]
fn throttling_without_end_is_called_so() {
    let scene = Scene::new();
    scene.proxy.fault("GetUser", Fault::Throttle);
    let error = scene.issue().unwrap_err();
    assert!(matches!(error, AwsError::Throttled { action: "iam:GetUser", .. }), "{error}");
    assert_eq!(scene.proxy.count("GetUser"), 3);
}

#[test]
fn a_throttled_create_makes_nothing_and_leaves_no_entry() {
    let scene = Scene::new();
    scene.proxy.fault("CreateAccessKey", Fault::Throttle);
    let error = scene.issue().unwrap_err();
    assert!(matches!(error, AwsError::Throttled { action: "iam:CreateAccessKey", .. }), "{error}");
    assert_eq!(scene.proxy.count("CreateAccessKey"), 1, "one try only");
    scene.assert_clean(&[]);
}

#[test]
fn sts_down_means_the_key_goes_again() {
    for fault in
        [Fault::Status(503, "ServiceUnavailable"), Fault::Reset, Fault::DropResponse, Fault::CutResponse(40)]
    {
        let scene = Scene::new();
        let shown = format!("{fault:?}");
        scene.proxy.fault("GetSessionToken", fault);
        let error = scene.issue().unwrap_err();
        let fits = matches!(
            &error,
            AwsError::Refused { action: "sts:GetSessionToken", .. }
                | AwsError::Unreachable { action: "sts:GetSessionToken", .. }
        );
        assert!(fits, "{shown}: {error}");
        scene.assert_clean(&[]);
    }
}

#[test]
fn a_delete_that_fails_at_first_is_tried_until_it_works() {
    let scene = Scene::new();
    scene.proxy.fault_times("DeleteAccessKey", 4, Fault::Reset);
    scene.issue().unwrap();
    assert!(scene.heard().iter().any(|step| matches!(step, Progress::DeleteAgain { .. })));
    scene.assert_clean(&[]);
}

#[test]
fn a_delete_whose_answer_is_lost_counts_as_done_once_the_list_agrees() {
    let scene = Scene::new();
    scene.proxy.fault_once("DeleteAccessKey", Fault::DropResponse);
    scene.issue().unwrap();
    scene.assert_clean(&[]);
}

#[test]
fn a_delete_that_iam_denies_knowing_the_key_for_is_not_believed_while_the_list_shows_it() {
    let scene = Scene::new();
    scene.proxy.fault_times("DeleteAccessKey", 2, Fault::Status(404, "NoSuchEntity"));
    scene.issue().unwrap();
    assert!(scene.proxy.count("DeleteAccessKey") >= 3);
    scene.assert_clean(&[]);
}

#[test]
fn a_delete_that_never_works_keeps_the_entry_and_says_so() {
    let mut scene = Scene::new();
    scene.retry.delete = Duration::from_secs(1);
    scene.proxy.fault("DeleteAccessKey", Fault::Status(503, "ServiceUnavailable"));
    let error = scene.issue().unwrap_err();
    let AwsError::KeyLeft { key_id: Some(key_id), .. } = &error else { panic!("{error}") };
    assert_eq!(scene.account.keys(USER), [key_id.as_str()]);
    let entries = scene.entries();
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].record.key_id.as_ref(), Some(key_id));
    let text = error.to_string();
    assert!(text.contains(key_id.as_str()) && text.contains("iam-sorry doctor"), "{text}");
}

#[test]
fn a_session_that_aws_refuses_after_the_delete_is_no_success() {
    let scene = Scene::new();
    scene.proxy.fault("GetCallerIdentity", Fault::Status(403, "InvalidClientTokenId"));
    let error = scene.issue().unwrap_err();
    assert!(matches!(&error, AwsError::SessionRefusedAfterDelete { .. }), "{error}");
    assert!(error.to_string().contains("--keep-key"));
    scene.assert_clean(&[]);
}

#[test]
fn a_kept_key_is_the_users_and_stays_pending_until_it_is_stored() {
    let scene = Scene::new();
    let issued = scene.issue_and_keep().unwrap();
    let kept = issued.kept.unwrap();
    assert_eq!(scene.account.keys(USER), [kept.key().id.as_str()]);
    assert_eq!(scene.entries().len(), 1);
    let id = kept.key().id.clone();
    kept.kept().unwrap();
    scene.assert_clean(&[&id]);
    assert_eq!(scene.proxy.count("DeleteAccessKey"), 0);
}

#[test]
fn a_kept_key_that_could_not_be_stored_is_deleted() {
    let scene = Scene::new();
    let issued = scene.issue_and_keep().unwrap();
    run(issued.kept.unwrap().discard(&scene.issuer())).unwrap();
    scene.assert_clean(&[]);
}

#[test]
fn ctrl_c_while_waiting_still_deletes_the_key() {
    let scene = Scene::new();
    let cancel = scene.cancel.clone();
    // The refusal that this request gets is what it would wait for to pass.
    scene.proxy.fault_once("GetSessionToken", Fault::BeforeForward(Arc::new(move |_| cancel.cancel())));
    scene.proxy.fault("GetSessionToken", Fault::Status(403, "InvalidClientTokenId"));
    let error = scene.issue().unwrap_err();
    assert!(matches!(error, AwsError::Interrupted), "{error}");
    assert_eq!(scene.proxy.count("CreateAccessKey"), 1);
    scene.assert_clean(&[]);
}

#[test]
fn ctrl_c_before_the_key_is_made_makes_none() {
    let scene = Scene::new();
    scene.cancel.cancel();
    assert!(matches!(scene.issue().unwrap_err(), AwsError::Interrupted));
    assert_eq!(scene.proxy.count("CreateAccessKey"), 0);
    scene.assert_clean(&[]);
}

#[test]
fn without_a_journal_no_key_is_made() {
    let mut scene = Scene::new();
    let file = tempfile::NamedTempFile::new().unwrap();
    scene.journal = iam_sorry_aws::journal::JournalFolder::new(file.path().join("journal"));
    let error = scene.issue().unwrap_err();
    assert!(matches!(error, AwsError::Journal { .. }), "{error}");
    assert_eq!(scene.proxy.count("CreateAccessKey"), 0);
    assert!(scene.account.keys(USER).is_empty());
}

#[test]
fn several_users_at_once_do_not_disturb_each_other() {
    let scene = Scene::new();
    let names: Vec<String> = (0..5).map(|n| format!("user{n}")).collect();
    for user in &names {
        scene.account.user(user);
    }
    let issuer = scene.issuer();
    let (a, b, c, d, e) = (name("user0"), name("user1"), name("user2"), name("user3"), name("user4"));
    let results = run(async {
        let (a, b, c, d, e) = tokio::join!(
            issue_for_user(&issuer, &a, hours(1), false),
            issue_for_user(&issuer, &b, hours(1), false),
            issue_for_user(&issuer, &c, hours(1), false),
            issue_for_user(&issuer, &d, hours(1), false),
            issue_for_user(&issuer, &e, hours(1), false),
        );
        [a, b, c, d, e]
    });
    for (user, issued) in names.iter().zip(results) {
        let arn = scene.whoami(&issued.unwrap().credentials);
        assert!(arn.ends_with(&format!(":user/{user}")), "{arn}");
        assert!(scene.account.keys(user).is_empty());
    }
    scene.assert_clean(&[]);
}

/// A server will run these on a thread pool.
#[test]
fn the_futures_can_move_between_threads() {
    fn is_send<T: Send>(_: T) {}
    let scene = Scene::new();
    let (issuer, alice) = (scene.issuer(), name(USER));
    is_send(issue_for_user(&issuer, &alice, hours(1), false));
    is_send(iam_sorry_aws::rotate::start(&issuer, &alice, "AKIA"));
}
