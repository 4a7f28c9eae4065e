//! Sessions from a user's own key, roles, look-ups, and the ways AWS says no.

use crate::scene::{Scene, USER, hours, key, name, ours, run};
use iam_sorry_aws::issue::{Mfa, RoleRequest, assume_role, session_from_key};
use iam_sorry_aws::lookup::{caller, user_exists, user_of_key};
use iam_sorry_aws::{Aws, AwsError, Settings};
use iam_sorry_core::credentials::AccessKey;
use iam_sorry_core::names::Principal;
use secrecy::SecretString;
use serde_json::json;
use testkit::Fault;

#[test]
fn a_users_own_key_needs_no_manager_and_two_requests() {
    let scene = Scene::new();
    let creds = scene.account.key(USER);
    let session =
        run(session_from_key(&scene.aws, &key(&creds), hours(12), None, Some(&name("ALICE")))).unwrap();
    assert_eq!(session.caller.user(), Some(&name(USER)));
    assert_eq!(
        scene.whoami(&session.credentials),
        format!("arn:aws:iam::{}:user/{USER}", scene.account.id())
    );
    assert_eq!(scene.proxy.actions(), ["GetSessionToken", "GetCallerIdentity"]);
}

#[test]
fn the_duration_is_what_was_asked_for() {
    let scene = Scene::new();
    let creds = scene.account.key(USER);
    for n in [1, 36] {
        let session = run(session_from_key(&scene.aws, &key(&creds), hours(n), None, None)).unwrap();
        let now = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()).unwrap();
        let left = session.credentials.expiration.unwrap().unix() - now;
        assert!((left - i64::from(n) * 3600).abs() < 60, "{n}: {left}");
    }
}

#[test]
fn the_session_of_somebody_else_is_refused() {
    let scene = Scene::new();
    let theirs = scene.account.key("manager");
    let error =
        run(session_from_key(&scene.aws, &key(&theirs), hours(1), None, Some(&name(USER)))).unwrap_err();
    let AwsError::WrongIdentity { expected, found } = &error else { panic!("{error}") };
    assert_eq!(expected, USER);
    assert!(found.contains("'manager'"), "{found}");
}

#[test]
fn mfa_goes_along() {
    let scene = Scene::new();
    let creds = scene.account.key(USER);
    let device =
        scene.account.call("iam", "create_virtual_mfa_device", json!({"VirtualMFADeviceName": "phone"}));
    let serial = device["VirtualMFADevice"]["SerialNumber"].as_str().unwrap().to_owned();
    let enable = json!({"UserName": USER, "SerialNumber": serial,
        "AuthenticationCode1": "123456", "AuthenticationCode2": "654321"});
    scene.account.call("iam", "enable_mfa_device", enable);
    let mfa = Mfa { serial, code: SecretString::from("123456") };
    let session =
        run(session_from_key(&scene.aws, &key(&creds), hours(1), Some(&mfa), Some(&name(USER)))).unwrap();
    assert!(scene.whoami(&session.credentials).ends_with(":user/alice"));
}

#[test]
fn an_unknown_key_and_a_wrong_secret_are_told_apart() {
    let scene = Scene::new();
    let unknown = AccessKey { id: "AKIAQQQQQQQQQQQQQQQQ".into(), secret: "hunter2hunter2".into() };
    let error = run(session_from_key(&scene.aws, &unknown, hours(1), None, None)).unwrap_err();
    assert!(matches!(&error, AwsError::InvalidKey { key_id, .. } if *key_id == unknown.id), "{error}");

    let mut creds = scene.account.key(USER);
    creds.secret = "hunter2hunter2".into();
    let error = run(session_from_key(&scene.aws, &key(&creds), hours(1), None, None)).unwrap_err();
    assert!(error.to_string().contains("secret does not belong to it"), "{error}");
    for shown in [error.to_string(), format!("{error:?}")] {
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}

#[test]
fn a_session_cannot_make_a_session_and_the_text_says_so() {
    let scene = Scene::new();
    let session =
        run(session_from_key(&scene.aws, &key(&scene.account.key(USER)), hours(1), None, None)).unwrap();
    // A session's key without its token is how people paste it into a profile.
    let bare = AccessKey {
        id: session.credentials.access_key_id.clone(),
        secret: session.credentials.secret_access_key.clone(),
    };
    let error = run(session_from_key(&scene.aws, &bare, hours(1), None, None)).unwrap_err();
    assert!(matches!(error, AwsError::InvalidKey { .. }), "{error}");
}

#[test]
fn the_user_of_a_key_is_one_request() {
    let scene = Scene::new();
    let id = scene.account.key(USER).key;
    assert_eq!(run(user_of_key(&scene.aws, &scene.manager, &id)).unwrap(), name(USER));
    assert_eq!(scene.proxy.actions(), ["GetAccessKeyLastUsed"]);
    let error = run(user_of_key(&scene.aws, &scene.manager, "AKIAQQQQQQQQQQQQQQQQ")).unwrap_err();
    assert!(
        matches!(&error, AwsError::InvalidKey { key_id, .. } if key_id == "AKIAQQQQQQQQQQQQQQQQ"),
        "{error}"
    );
}

#[test]
fn a_user_is_found_with_path_and_id() {
    let scene = Scene::new();
    scene.account.call("iam", "create_user", json!({"UserName": "bob", "Path": "/team/"}));
    let bob = run(user_exists(&scene.aws, &scene.manager, &name("bob"))).unwrap();
    assert_eq!((bob.path.as_str(), bob.arn.account.as_str()), ("/team/", scene.account.id()));
    assert!(bob.id.starts_with("AIDA") && bob.arn_text.ends_with(":user/team/bob"));
    let error = run(user_exists(&scene.aws, &scene.manager, &name("eve"))).unwrap_err();
    assert!(matches!(error, AwsError::NoSuchUser { .. }), "{error}");
}

#[test]
fn a_role_is_assumed_with_its_external_id() {
    let scene = Scene::new();
    let creds = scene.account.user_allowed("carol", &["sts:AssumeRole"]);
    let id = scene.account.id();
    let trust = json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "sts:AssumeRole",
        "Principal": {"AWS": format!("arn:aws:iam::{id}:user/carol")},
        "Condition": {"StringEquals": {"sts:ExternalId": "handshake"}}}]});
    scene.account.call(
        "iam",
        "create_role",
        json!({"RoleName": "ops", "AssumeRolePolicyDocument": trust.to_string()}),
    );
    let mut role = RoleRequest {
        role_arn: format!("arn:aws:iam::{id}:role/ops"),
        session_name: "night-shift".into(),
        external_id: Some("handshake".into()),
        seconds: Some(3600),
        mfa: None,
        source_identity: None,
        tags: vec![],
    };
    let session = run(assume_role(&scene.aws, &ours(&creds), &role)).unwrap();
    assert_eq!(session.caller.principal, Principal::AssumedRole("ops".into(), "night-shift".into()));
    assert!(scene.whoami(&session.credentials).ends_with("assumed-role/ops/night-shift"));
    assert_eq!(run(caller(&scene.aws, &session.credentials)).unwrap().principal, session.caller.principal);

    role.external_id = Some("guess".into());
    let error = run(assume_role(&scene.aws, &ours(&creds), &role)).unwrap_err();
    assert!(error.is_denied() && error.to_string().contains("trust policy"), "{error}");
}

#[test]
fn a_wrong_clock_is_called_a_wrong_clock_with_both_times() {
    for skew in [3600, -3600] {
        let scene = Scene::new();
        scene.proxy.fault("*", Fault::DateSkew(skew));
        let error = scene.issue().unwrap_err();
        let AwsError::ClockSkew { local, server: Some(server) } = &error else { panic!("{error}") };
        assert!((server.seconds_after(*local) - skew).abs() < 30, "{error}");
        assert!(
            error.to_string().contains("1 h apart") || error.to_string().contains("59 min apart"),
            "{error}"
        );
        assert_eq!(scene.proxy.count("CreateAccessKey"), 0);
        scene.assert_clean(&[]);
    }
}

#[test]
fn a_clock_that_aws_tolerates_works_and_its_offset_is_known() {
    let scene = Scene::new();
    scene.proxy.fault("*", Fault::DateSkew(200));
    scene.issue().unwrap();
    assert!((scene.aws.clock_offset().unwrap() - 200).abs() < 10);
}

#[test]
fn nobody_there_is_said_with_the_address() {
    let port = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
    let mut settings = Settings::new("us-east-1");
    settings.endpoint_sts = Some(format!("http://127.0.0.1:{port}"));
    let aws = Aws::new(&settings).unwrap();
    let some = AccessKey { id: "AKIAQQQQQQQQQQQQQQQQ".into(), secret: "s".into() };
    let error = run(session_from_key(&aws, &some, hours(1), None, None)).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, AwsError::Unreachable { .. }), "{text}");
    assert!(text.contains(&format!("127.0.0.1:{port}")) && text.contains("refused"), "{text}");
}

#[test]
fn an_endpoint_that_is_no_aws_is_said_to_be_none() {
    let scene = Scene::new();
    scene.proxy.fault("GetUser", Fault::CutResponse(10));
    let error = scene.issue().unwrap_err();
    assert!(matches!(error, AwsError::Unreachable { action: "iam:GetUser", .. }), "{error}");
}

#[test]
fn a_hanging_endpoint_ends_with_the_timeout() {
    let scene = Scene::new();
    scene.proxy.fault("*", Fault::Hang);
    let mut settings = scene.aws.settings().clone();
    settings.attempt_timeout = std::time::Duration::from_millis(300);
    settings.max_attempts = 1;
    let aws = Aws::new(&settings).unwrap();
    let error = run(caller(&aws, &scene.manager)).unwrap_err();
    assert!(error.to_string().contains("no answer in time"), "{error}");
}
