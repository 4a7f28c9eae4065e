//! The emulators answer, check signatures, keep accounts apart, and end with the process that started them.

use serde_json::json;
use testkit::{Creds, Home, Ministack, Moto};

#[test]
fn ministack_ties_a_session_to_the_user_whose_key_made_it() {
    let account = Ministack::shared().account();
    let creds = account.user_allowed("alice", &["iam:GetUser"]);
    let answer = account.call_as(&creds, "sts", "get_session_token", json!({})).expect("a session");
    let session = Creds::from_json(&answer["Credentials"]);
    assert!(session.token.is_some());
    let arn = format!("arn:aws:iam::{}:user/alice", account.id());
    assert_eq!(account.whoami(&session).expect("an identity"), arn);
    account.call("iam", "delete_access_key", json!({"UserName": "alice", "AccessKeyId": creds.key}));
    assert_eq!(account.keys("alice"), Vec::<String>::new());
    assert_eq!(account.whoami(&session).expect("still an identity"), arn);
    assert_eq!(account.whoami(&creds).expect_err("the key is gone").code, "InvalidClientTokenId");
}

#[test]
fn ministack_refuses_wrong_secrets_and_missing_rights() {
    let account = Ministack::shared().account();
    let creds = account.user_allowed("bob", &["iam:GetUser"]);
    let wrong = Creds::new(creds.key.clone(), "wrong");
    assert_eq!(account.whoami(&wrong).expect_err("a bad signature").code, "SignatureDoesNotMatch");
    let error = account.call_as(&creds, "iam", "list_users", json!({})).expect_err("not allowed");
    assert_eq!((error.code.as_str(), error.status), ("AccessDenied", 403));
}

#[test]
fn accounts_do_not_see_each_other() {
    let (one, two) = (Ministack::shared().account(), Ministack::shared().account());
    one.user("carol");
    assert_eq!(two.call("iam", "list_users", json!({}))["Users"], json!([]));
    two.user("carol");
    assert_ne!(one.id(), two.id());
}

#[test]
fn the_real_aws_cli_works_in_a_home_with_a_profile() {
    let account = Ministack::shared().account();
    let creds = account.user_allowed("dave", &[]);
    let home = Home::new();
    home.write_credentials(creds.section("dave"));
    let output = home
        .venv_command("aws")
        .args(["--profile", "dave", "--region", "us-east-1", "sts", "get-caller-identity"])
        .args(["--query", "Arn", "--output", "text"])
        .env("AWS_ENDPOINT_URL", account.endpoint())
        .output()
        .expect("aws runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(text.trim(), format!("arn:aws:iam::{}:user/dave", account.id()), "{output:?}");
}

#[test]
fn moto_answers_too() {
    let creds = Creds::new("AKIAIOSFODNN7EXAMPLE", "any");
    let aws = Moto::shared().aws();
    aws.call("iam", "create_user", json!({"UserName": "erin"}), &creds).expect("a user");
    let error = aws.call("iam", "create_user", json!({"UserName": "erin"}), &creds).expect_err("twice");
    assert_eq!((error.code.as_str(), error.status), ("EntityAlreadyExists", 409));
}

#[test]
fn an_endpoint_that_is_gone_is_an_error_not_a_hang() {
    let own = Ministack::start();
    let account_root = own.account().root();
    let endpoint = own.endpoint();
    drop(own);
    let error = testkit::Aws::at(endpoint).call("sts", "get_caller_identity", json!({}), &account_root);
    assert_eq!(error.expect_err("nobody listens").status, 0);
}
