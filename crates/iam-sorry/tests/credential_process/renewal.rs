//! Temporary profiles: handed out while 20 minutes are left, renewed under that, never handed out expired.

use std::fs;

use testkit::Fault;

use crate::{answer, expires_in, in_seconds, rig, supplied, with_admin, with_kept_key};

#[test]
fn what_is_valid_for_20_minutes_is_handed_out_without_a_request() {
    let rig = with_admin();
    expires_in(&rig, "admin", 21 * 60);
    let before = rig.home.credentials();
    assert_eq!(supplied(&rig, "admin"), rig.creds("admin"));
    assert_eq!(rig.proxy.actions(), Vec::<String>::new());
    assert_eq!(rig.home.credentials(), before);
}

#[test]
fn what_has_less_left_is_renewed_by_the_kept_key_without_a_manager() {
    let rig = with_kept_key();
    let old = rig.creds("admin");
    expires_in(&rig, "admin", 19 * 60);
    let ended = rig.run(&["credential-process", "admin"]).ok();
    let (new, at) = answer(&ended.stdout);
    assert_ne!(new, old);
    assert_eq!(new, rig.creds("admin"), "the renewed set is in the profile");
    assert!(at.unwrap() > in_seconds(35 * 3600));
    assert_eq!(rig.stored_user("admin"), "admin");
    assert_eq!(rig.proxy.actions(), ["GetSessionToken", "GetCallerIdentity"]);
}

#[test]
fn an_expired_set_is_renewed_through_the_manager_of_the_variable() {
    let rig = with_admin();
    expires_in(&rig, "admin", -3600);
    let mut command = rig.command(&["credential-process", "admin"]);
    let (new, _) = answer(&rig.outcome(command.env("AWS_PROFILE", "usermanager")).ok().stdout);
    assert_eq!(new, rig.creds("admin"));
    assert_eq!(rig.stored_user("admin"), "admin");
    rig.assert_clean("admin");
}

/// SDKs run the line with the environment that they have: there AWS_PROFILE names the profile that is wanted.
#[test]
fn the_settings_file_names_the_manager_where_aws_profile_names_the_profile_itself() {
    let rig = with_admin();
    rig.home.write_mode(".config/iam-sorry/config.toml", "profile = \"usermanager\"\n", 0o600);
    for variable in ["admin", "no-such-profile"] {
        expires_in(&rig, "admin", -1);
        let mut command = rig.command(&["credential-process", "admin"]);
        rig.outcome(command.env("AWS_PROFILE", variable)).ok();
        assert_eq!(rig.stored_user("admin"), "admin", "AWS_PROFILE={variable}");
    }
}

#[test]
fn without_a_way_to_renew_a_valid_set_is_handed_out_with_a_warning() {
    let rig = with_admin();
    expires_in(&rig, "admin", 10 * 60);
    let ended = rig.run(&["credential-process", "admin"]).ok();
    assert_eq!(answer(&ended.stdout).0, rig.creds("admin"));
    ended.says_about("valid for another ", 10 * 60).says(&["iam-sorry --profile MANAGER admin"]);
}

#[test]
fn without_a_way_to_renew_an_expired_set_is_never_handed_out() {
    let rig = with_admin();
    expires_in(&rig, "admin", -2 * 3600);
    let token = rig.creds("admin").token.unwrap();
    for args in [&["credential-process", "admin"][..], &["env", "admin"], &["--eval", "admin"]] {
        let ended = rig.run(args).exits(3).says(&["iam-sorry --profile MANAGER admin"]);
        let ended = ended.says_about("'admin' expired ", 2 * 3600);
        assert_eq!(ended.stdout, "");
    }
    let ended = rig.run(&["exec", "admin", "--", "env"]).exits(3);
    assert!(!ended.stdout.contains(&token));
    assert_eq!(rig.proxy.actions(), Vec::<String>::new());
}

#[test]
fn a_renewal_that_fails_leaves_a_valid_set_in_use() {
    let rig = with_kept_key();
    rig.proxy.fault("GetSessionToken", Fault::Status(503, "ServiceUnavailable"));
    expires_in(&rig, "admin", 10 * 60);
    let before = rig.home.credentials();
    let ended = rig.run(&["credential-process", "admin"]).ok().says_about("valid for another ", 10 * 60);
    assert_eq!(answer(&ended.stdout).0, rig.creds("admin"));

    expires_in(&rig, "admin", -1);
    let ended = rig.run(&["credential-process", "admin"]).exits(4);
    assert_eq!(ended.stdout, "");
    assert_eq!(
        rig.creds("admin").key,
        before.split("aws_access_key_id = ").last().unwrap().lines().next().unwrap()
    );
}

/// aws-mfa, saml2aws and others write sets and an expiry of their own; what they hold may be a role's.
#[test]
fn another_tools_set_is_not_replaced_by_a_users() {
    let rig = with_admin();
    let text = rig.home.credentials().replace("credentials_owner = admin\n", "");
    rig.home.write_credentials(text);
    expires_in(&rig, "admin", -60);
    let ended = rig.run(&["--profile", "usermanager", "credential-process", "admin"]);
    ended.exits(3).says_about("'admin' expired ", 60).says(&["Another tool made them"]);
    assert_eq!(rig.proxy.actions(), Vec::<String>::new());
}

#[test]
fn exec_and_env_renew_too_and_say_when_less_than_an_hour_is_left() {
    let rig = with_kept_key();
    expires_in(&rig, "admin", -60);
    let ended = rig.run(&["exec", "admin", "--", "sh", "-c", "echo $AWS_ACCESS_KEY_ID"]).ok();
    assert_eq!(ended.stdout.trim(), rig.creds("admin").key);
    assert!(!ended.stderr.contains("expire in"), "{}", ended.stderr);
    assert_eq!(rig.proxy.count("GetSessionToken"), 1);

    expires_in(&rig, "admin", 40 * 60);
    for args in [&["exec", "admin", "--", "true"][..], &["env", "admin"]] {
        rig.run(args).ok().says_about("The credentials of 'admin' expire in ", 40 * 60);
    }
    let quiet = rig.run(&["credential-process", "admin"]).ok();
    assert_eq!(quiet.stderr, "", "an SDK asks again by itself");
    assert_eq!(rig.proxy.count("GetSessionToken"), 1);
}

#[test]
fn exec_makes_a_profile_that_is_missing_where_the_manager_is_named() {
    let rig = rig();
    rig.run(&["exec", "admin", "--", "true"]).exits(3).says(&["Profile 'admin' not found"]);
    let ended =
        rig.run(&["--profile", "usermanager", "exec", "admin", "--", "sh", "-c", "echo $AWS_SESSION_TOKEN"]);
    assert_eq!(Some(ended.ok().stdout.trim()), rig.creds("admin").token.as_deref());
    assert_eq!(rig.stored_user("admin"), "admin");
    // A tool, or a line in a script, that asks with a wrong name must not make anything.
    rig.account.user("other");
    for form in [&["credential-process", "other"][..], &["--eval", "other"]] {
        let ended = rig.run(&[&["--profile", "usermanager"], form].concat());
        ended.exits(3).says(&["Profile 'other' not found"]);
    }
}

#[test]
fn a_profile_that_lost_its_keys_but_says_whose_it_is_is_renewed() {
    let rig = with_admin();
    let text = rig.home.credentials();
    let kept: Vec<&str> = text
        .split("[admin]\n")
        .next()
        .unwrap()
        .lines()
        .chain(["[admin]", "credentials_owner = admin"])
        .collect();
    rig.home.write_credentials(format!("{}\n", kept.join("\n")));
    rig.run(&["--profile", "usermanager", "credential-process", "admin"]).ok();
    assert_eq!(rig.stored_user("admin"), "admin");
}

#[test]
fn a_sealed_temporary_set_is_renewed_and_stays_sealed() {
    let rig = with_kept_key();
    rig.run(&["encrypt", "admin"]).ok();
    assert!(rig.creds("admin").secret.starts_with("__encrypted__:v2."));
    let fresh = supplied(&rig, "admin");
    assert_eq!(rig.account.whoami(&fresh).unwrap().rsplit('/').next(), Some("admin"));

    expires_in(&rig, "admin", 60);
    let renewed = supplied(&rig, "admin");
    assert_ne!(renewed, fresh);
    let stored = rig.creds("admin");
    for value in [stored.key, stored.secret, stored.token.unwrap()] {
        assert!(value.starts_with("__encrypted__:v2."), "{value}");
    }
    assert_eq!(supplied(&rig, "admin"), renewed);
}

/// Promise 4: a permanent key that NAME holds is kept. Sealed in place, it has to move before the set takes its place.
#[test]
fn a_permanent_key_sealed_in_place_survives_its_refresh() {
    let rig = rig();
    let own = rig.account.key("admin");
    let text = format!("{}{}", rig.home.credentials(), own.section("admin"));
    rig.home.write_credentials(text);
    rig.run(&["encrypt", "admin"]).ok();
    rig.run(&["refresh", "admin"]).ok();
    assert!(rig.field("admin", "iam_sorry_secret_access_key").unwrap().starts_with("__encrypted__:v2."));
    rig.proxy.clear_calls();
    expires_in(&rig, "admin", -1);
    supplied(&rig, "admin");
    assert!(rig.proxy.calls().iter().any(|call| call.access_key == own.key), "{:?}", rig.proxy.calls());
}

/// `--duration 15m` must not make a set that is renewed again by the next call.
#[test]
fn a_renewed_set_lives_for_an_hour_at_least() {
    let rig = with_kept_key();
    rig.home.write_mode(".config/iam-sorry/config.toml", "duration = \"15m\"\n", 0o600);
    expires_in(&rig, "admin", -1);
    supplied(&rig, "admin");
    supplied(&rig, "admin");
    assert_eq!(rig.proxy.count("GetSessionToken"), 1);
    let state = rig.home.path().join(".local/state/iam-sorry/cache");
    let results = fs::read_dir(state)
        .unwrap()
        .filter(|e| e.as_ref().unwrap().path().extension().is_some_and(|extension| extension == "json"));
    assert_eq!(results.count(), 0, "what is in the profile is kept nowhere else");
}

#[test]
fn serve_credentials_renews_too() {
    let rig = with_kept_key();
    let old = rig.creds("admin");
    expires_in(&rig, "admin", -1);
    let aws = testkit::venv_bin("aws").display().to_string();
    let ended = rig.run(&["serve-credentials", "admin", "--", &aws, "sts", "get-caller-identity"]).ok();
    assert!(ended.stdout.contains(":user/admin"), "{}", ended.stdout);
    assert_ne!(rig.creds("admin"), old);
    assert_eq!(rig.proxy.count("GetSessionToken"), 1);
}
