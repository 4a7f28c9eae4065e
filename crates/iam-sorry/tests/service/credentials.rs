//! `iam-sorry NAME` through the service: the same result in ~/.aws/credentials as without one.

use testkit::Creds;

use crate::rig::Department;

#[test]
fn a_name_gives_that_users_credentials() {
    let department = Department::new();
    let alice = department.signed_in("alice");
    alice.run(&["users", "create", "dirk-a", "--policy", &department.policies[0]]).ok();

    let made = alice.run(&["--duration", "12h", "dirk-a"]).ok();
    let made = made
        .prints(&[
            "✓ Successfully updated profile 'dirk-a'",
            "✓ IAM user: dirk-a",
            "✓ Credentials expire at: 20",
        ])
        .says(&[&format!("Asking {} as alice", alice.origin)]);
    assert!(made.stdout.lines().count() == 3, "{}", made.stdout);
    for field in ["aws_access_key_id", "aws_secret_access_key", "aws_session_token", "expiration"] {
        assert!(alice.field("dirk-a", field).is_some(), "{field}: {}", alice.home.credentials());
    }
    assert_eq!(alice.field("dirk-a", "credentials_owner").as_deref(), Some("dirk-a"));
    assert_eq!(alice.field("dirk-a", "iam_sorry_server").as_deref(), Some(alice.origin.as_str()));
    // They really are the user's.
    let creds: serde_json::Value =
        serde_json::from_str(&alice.run(&["credential-process", "dirk-a"]).ok().stdout).unwrap();
    let arn = department.account.whoami(&Creds::from_json(&creds)).unwrap();
    assert!(arn.ends_with("/dirk-a") && arn.contains(":user/"), "{arn}");
    // No key was left behind.
    assert_eq!(department.account.keys("dirk-a"), Vec::<String>::new());

    // What is longer than the rules allow is cut, and the person is told.
    alice.run(&["--duration", "36", "dirk-a"]).ok().says(&["12 h"]);
    // Not of alice's namespace.
    alice.run(&["ada-x"]).exits(4);
    assert!(!alice.home.credentials().contains("[ada-x]"));
    // Several at once, one of them in vain.
    alice.run(&["users", "create", "dirk-b"]).ok();
    alice
        .run(&["refresh", "dirk-a", "dirk-b", "ada-x"])
        .exits(4)
        .says(&["1 of 3 profiles"])
        .prints(&["'dirk-a'", "'dirk-b'"]);
    alice.run(&["refresh", "--all"]).ok().prints(&["'dirk-a'", "'dirk-b'"]);
    // A manager that is named is the one that is asked.
    alice
        .run(&["--profile", "usermanager", "dirk-a"])
        .exits(3)
        .says(&["Manager profile 'usermanager' not found"]);
    alice.run(&["--server", "none", "dirk-a"]).exits(2).says(&["No manager profile specified"]);
}

/// What ran out is made anew by itself, while the session lasts.
#[test]
fn an_expired_set_is_renewed_unattended() {
    let department = Department::new();
    let alice = department.signed_in("alice");
    alice.run(&["users", "create", "dirk-a"]).ok();
    alice.run(&["dirk-a"]).ok();
    let before = alice.field("dirk-a", "aws_session_token").unwrap();
    let expiration = alice.field("dirk-a", "expiration").unwrap();
    let text = alice.home.credentials().replace(&expiration, "2026-01-01T00:00:00Z");
    alice.home.write_credentials(text);
    alice.run(&["credential-process", "dirk-a"]).ok();
    assert_ne!(alice.field("dirk-a", "aws_session_token").unwrap(), before);
    alice.run(&["logout"]).ok();
    let text = alice.home.credentials();
    let expiration = alice.field("dirk-a", "expiration").unwrap();
    alice.home.write_credentials(text.replace(&expiration, "2026-01-01T00:00:00Z"));
    alice.run(&["credential-process", "dirk-a"]).exits(3).says(&["iam-sorry login"]);
}

#[test]
fn a_role_under_the_persons_name() {
    let department = Department::new();
    let alice = department.signed_in("alice");
    let made = alice.run(&["refresh", "--role", &department.role, "--as", "lab", "--duration", "1h"]).ok();
    made.prints(&["✓ Successfully updated profile 'lab'", "✓ Role: arn:"]);
    let creds: serde_json::Value =
        serde_json::from_str(&alice.run(&["credential-process", "lab"]).ok().stdout).unwrap();
    let arn = department.account.whoami(&Creds::from_json(&creds)).unwrap();
    assert!(arn.contains(":assumed-role/lab/") && arn.contains("alice"), "{arn}");
    // Again by name alone.
    let before = alice.field("lab", "aws_session_token");
    alice.run(&["refresh", "lab"]).ok();
    assert_ne!(alice.field("lab", "aws_session_token"), before);
    // A profile of something else is not overwritten.
    alice.home.write_credentials("[mine]\naws_access_key_id = AKIAMINE\naws_secret_access_key = mine\n");
    alice.run(&["refresh", "--role", &department.role, "--as", "mine"]).exits(2).says(&["not overwritten"]);
}

#[test]
fn a_permanent_key_goes_into_a_profile_sealed_or_onto_the_screen_once() {
    let department = Department::new();
    let alice = department.signed_in("alice");
    alice.run(&["users", "create", "dirk-robot"]).ok();
    let key = ["keys", "create", "dirk-robot", "--as", "robot", "--encrypt"];
    let made = alice.run(&key).ok().prints(&["✓ New access key AKIA", "✓ Profile 'robot' holds it, sealed"]);
    assert!(alice.field("robot", "aws_secret_access_key").unwrap().starts_with("__encrypted__:v2"));
    assert_eq!(alice.field("robot", "credentials_owner").as_deref(), Some("dirk-robot"));
    let creds: serde_json::Value =
        serde_json::from_str(&alice.run(&["credential-process", "robot"]).ok().stdout).unwrap();
    let creds = Creds::from_json(&creds);
    assert!(!made.stdout.contains(&creds.secret) && !made.stderr.contains(&creds.secret));
    assert!(department.account.whoami(&creds).unwrap().ends_with("/dirk-robot"));
    // Never over another key.
    alice.run(&key).exits(2).says(&["not overwritten"]);
    assert_eq!(department.account.keys("dirk-robot").len(), 1);

    let shown = alice.run(&["keys", "create", "dirk-robot"]).ok();
    let shown: serde_json::Value = serde_json::from_str(&shown.stdout).unwrap();
    let second = shown["AccessKeyId"].as_str().unwrap();
    assert_eq!(shown["UserName"], "dirk-robot");
    alice.run(&["keys", "list", "dirk-robot"]).ok().prints(&[second, &creds.key, "Active"]);
    alice.run(&["keys", "delete", "dirk-robot", second, "--yes", "--force"]).ok();
    assert_eq!(department.account.keys("dirk-robot"), vec![creds.key.clone()]);

    alice.run(&["keys", "rotate", "dirk-robot", "--as", "robot"]).ok().prints(&["It takes the place of"]);
    assert!(alice.field("robot", "aws_secret_access_key").unwrap().starts_with("__encrypted__:v2"));
    let anew: serde_json::Value =
        serde_json::from_str(&alice.run(&["credential-process", "robot"]).ok().stdout).unwrap();
    assert_ne!(anew["AccessKeyId"], creds.key.as_str());
}
