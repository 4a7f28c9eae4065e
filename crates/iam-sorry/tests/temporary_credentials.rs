//! The promises of `iam-sorry --profile MANAGER NAME`, through the real program against an emulator that checks signatures
//! and policies: the credentials are the user's, no key outlives the command, the calls don't grow with the account,
//! and nothing that was there is lost.
#![expect(clippy::unwrap_used, reason = "a test fails where its rig does")]

#[path = "rig/canned.rs"]
mod canned;
#[path = "temporary_credentials/manager_policy.rs"]
mod manager_policy;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use canned::CannedAws;
use serde_json::{Value, json};
use testkit::{Fault, Home, MachineOnAws};

/// A machine whose manager is sealed, and an AWS account with user `admin`.
fn rig() -> MachineOnAws {
    MachineOnAws::with_manager(env!("CARGO_BIN_EXE_iam-sorry"))
}

const SIX_CALLS: [&str; 6] = [
    "GetUser",
    "ListAccessKeys",
    "CreateAccessKey",
    "GetSessionToken",
    "DeleteAccessKey",
    "GetCallerIdentity",
];

/// What a user's own key needs: no manager.
const TWO_CALLS: [&str; 2] = ["GetSessionToken", "GetCallerIdentity"];

// --- 1. they are the user's own ---

#[test]
fn the_credentials_are_the_users_own() {
    let rig = rig();
    let ended = rig.refresh("admin").ok();
    assert!(ended.stdout.contains("✓ Successfully updated profile 'admin'\n"), "{}", ended.stdout);
    assert!(ended.stdout.contains("✓ Credentials expire at: "), "{}", ended.stdout);

    assert_eq!(rig.stored_user("admin"), "admin");
    assert_eq!(rig.field("admin", "credentials_owner").as_deref(), Some("admin"));
    let expiration = rig.field("admin", "expiration").unwrap();
    assert!(expiration.ends_with('Z') && expiration.contains('T'), "ISO 8601, UTC: {expiration}");
    assert!(ended.stdout.contains(&expiration), "{expiration} in {}", ended.stdout);
    rig.assert_clean("admin");

    // The session was made with the user's key, not the manager's; and the manager signed the rest.
    let calls = rig.proxy.calls();
    assert_eq!(calls.iter().map(|call| call.action.as_str()).collect::<Vec<_>>(), SIX_CALLS);
    for call in &calls {
        let by_manager = call.access_key == rig.manager().key;
        assert_eq!(by_manager, !TWO_CALLS.contains(&call.action.as_str()), "{call:?}");
    }
}

#[test]
fn the_aws_cli_and_boto3_use_the_profile() {
    let rig = rig();
    rig.refresh("admin").ok();
    let expected = format!("arn:aws:iam::{}:user/admin", rig.account.id());
    let cli = ["--profile", "admin", "sts", "get-caller-identity", "--query", "Arn", "--output", "text"];
    let output = rig.home.venv_command("aws").args(cli).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), expected, "{output:?}");

    let script =
        "import boto3; print(boto3.Session(profile_name='admin').client('sts').get_caller_identity()['Arn'])";
    let output = rig.home.venv_command("python").args(["-c", script]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), expected, "{output:?}");
}

#[test]
fn aws_profile_names_the_manager() {
    let rig = rig();
    let mut command = rig.command(&["--duration", "12", "admin"]);
    rig.outcome(command.env("AWS_PROFILE", "usermanager")).ok();
    assert_eq!(rig.stored_user("admin"), "admin");
    rig.assert_clean("admin");
    let list: Value = serde_json::from_str(&rig.run(&["list", "--json"]).ok().stdout).unwrap();
    let left = list.as_array().unwrap().iter().find(|row| row["profile"] == "admin").unwrap();
    let hours = left["seconds_left"].as_f64().unwrap() / 3600.0;
    assert!((11.0..=12.0).contains(&hours), "{hours} hours");
}

#[test]
fn a_user_with_a_path_is_found_by_name() {
    let rig = rig();
    rig.account.call("iam", "create_user", json!({"UserName": "carol", "Path": "/division/team/"}));
    rig.refresh("carol").ok();
    assert_eq!(rig.stored_user("carol").rsplit('/').next(), Some("carol"));
    assert_eq!(rig.field("carol", "credentials_owner").as_deref(), Some("carol"));
    rig.assert_clean("carol");
}

#[test]
fn the_recorded_owner_decides_not_the_profile_name() {
    let rig = rig();
    rig.refresh("admin").ok();
    let text = rig.home.credentials().replace("[admin]", "[work]");
    rig.home.write_credentials(text);
    let before = rig.creds("work");
    rig.refresh("work").ok();
    assert_eq!(rig.stored_user("work"), "admin");
    assert_ne!(rig.creds("work"), before);
    assert_eq!(rig.field("work", "credentials_owner").as_deref(), Some("admin"));
    rig.assert_clean("admin");
}

/// IAM's names are unique without regard to case and it answers in its own spelling; the emulator doesn't, so a small
/// server plays IAM here.
#[test]
fn the_user_is_written_as_iam_spells_it() {
    let answers = CannedAws::start(|action| match action {
        "GetUser" => {
            "<GetUserResult><User><Path>/</Path><UserName>Admin</UserName><UserId>AIDA1234567890ABCDEF</UserId>\
             <Arn>arn:aws:iam::123456789012:user/Admin</Arn><CreateDate>2026-01-01T00:00:00Z</CreateDate></User></GetUserResult>"
        }
        "ListAccessKeys" => {
            "<ListAccessKeysResult><IsTruncated>false</IsTruncated><AccessKeyMetadata/></ListAccessKeysResult>"
        }
        "CreateAccessKey" => {
            "<CreateAccessKeyResult><AccessKey><UserName>Admin</UserName><AccessKeyId>AKIA1234567890ABCDEF</AccessKeyId>\
             <Status>Active</Status><SecretAccessKey>s</SecretAccessKey></AccessKey></CreateAccessKeyResult>"
        }
        "GetSessionToken" => {
            "<GetSessionTokenResult><Credentials><AccessKeyId>ASIA1234567890ABCDEF</AccessKeyId>\
             <SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration>\
             </Credentials></GetSessionTokenResult>"
        }
        "GetCallerIdentity" => {
            "<GetCallerIdentityResult><Arn>arn:aws:iam::123456789012:user/Admin</Arn><UserId>AIDA1234567890ABCDEF</UserId>\
             <Account>123456789012</Account></GetCallerIdentityResult>"
        }
        _ => "",
    });
    let home = Home::new();
    home.write_credentials("[m]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = x\n");
    let mut command = home.command(env!("CARGO_BIN_EXE_iam-sorry"));
    command.args(["--profile", "m", "ADMIN"]).env("AWS_ENDPOINT_URL", &answers.endpoint);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = home.credentials();
    assert!(text.contains("[ADMIN]") && text.contains("credentials_owner = Admin"), "{text}");
    let asked = answers.asked.lock().unwrap().clone();
    assert_eq!(asked, SIX_CALLS);
}

#[test]
fn keys_of_somebody_else_are_refused() {
    let rig = rig();
    rig.account.user("bob");
    let bobs = rig.account.key("bob");
    let text = format!("{}{}credentials_owner = admin\n", rig.home.credentials(), bobs.section("admin"));
    rig.home.write_credentials(&text);
    rig.refresh("admin").exits(4).says(&["'bob'", "'admin'", "Nothing was written"]);
    assert_eq!(rig.home.credentials(), text);
    assert_eq!(rig.account.keys("bob"), [bobs.key]);
}

#[test]
fn no_such_user_costs_no_key_and_changes_nothing() {
    let rig = rig();
    let before = rig.home.credentials();
    rig.refresh("nobody").exits(4).says(&["'nobody'", "aws iam get-user --user-name nobody"]);
    assert_eq!(rig.home.credentials(), before);
    assert_eq!(rig.proxy.actions(), ["GetUser"]);
}

// --- 2. the number of calls ---

#[test]
fn calls_do_not_grow_with_the_account() {
    let rig = rig();
    let users = |from: usize, to: usize| {
        for n in from..to {
            rig.account.user(&format!("user{n}"));
        }
    };
    let calls = || {
        rig.proxy.clear_calls();
        rig.refresh("admin").ok();
        rig.proxy.actions()
    };
    users(0, 10);
    let few = calls();
    users(10, 300);
    assert_eq!(calls(), few);
    assert_eq!(few, SIX_CALLS);
}

// --- 3. nothing is lost ---

#[test]
fn permanent_keys_of_the_user_are_kept_sealed_and_need_no_manager() {
    let rig = rig();
    let own = rig.account.key("admin");
    let comment = "# admin's own, made by hand\n";
    rig.home.write_credentials(format!("{}{comment}{}", rig.home.credentials(), own.section("admin")));
    rig.refresh("admin").ok();

    assert_eq!(rig.proxy.actions(), TWO_CALLS);
    assert_eq!(rig.stored_user("admin"), "admin");
    assert_eq!(rig.account.keys("admin"), [own.key.as_str()]);
    let text = rig.home.credentials();
    assert!(!text.contains(&own.secret) && text.contains(comment), "{text}");
    for field in ["iam_sorry_access_key_id", "iam_sorry_secret_access_key"] {
        let value = rig.field("admin", field).unwrap();
        assert!(value.starts_with("__encrypted__:v2."), "{field} = {value}");
    }

    rig.proxy.clear_calls();
    let before = rig.creds("admin");
    rig.run(&["refresh", "admin"]).ok();
    assert_eq!(rig.proxy.actions(), TWO_CALLS);
    assert_ne!(rig.creds("admin"), before);
    assert_eq!(rig.account.keys("admin"), [own.key]);
}

#[test]
fn a_kept_key_serves_later_refreshes_without_the_manager() {
    let rig = rig();
    rig.run(&["--profile", "usermanager", "--keep-key", "admin"]).ok();
    let keys = rig.account.keys("admin");
    assert_eq!((keys.len(), rig.journal().len()), (1, 0));
    assert!(!rig.home.credentials().contains(&keys[0]), "kept sealed: {}", rig.home.credentials());
    assert_eq!(rig.stored_user("admin"), "admin");

    rig.proxy.clear_calls();
    rig.run(&["refresh", "admin"]).ok();
    assert_eq!(rig.proxy.actions(), TWO_CALLS);
    assert_eq!(rig.proxy.calls()[0].access_key, keys[0]);
    assert_eq!((rig.stored_user("admin").as_str(), rig.account.keys("admin")), ("admin", keys));
}

#[test]
fn a_kept_key_that_aws_no_longer_knows_falls_back_on_the_manager() {
    let rig = rig();
    rig.run(&["--profile", "usermanager", "--keep-key", "admin"]).ok();
    let kept = rig.account.keys("admin").remove(0);
    rig.account.call("iam", "delete_access_key", json!({"UserName": "admin", "AccessKeyId": kept}));
    rig.run(&["refresh", "admin"]).exits(4).says(&[&kept]);
    rig.refresh("admin").ok().says(&[&kept]);
    assert_eq!(rig.stored_user("admin"), "admin");
    rig.assert_clean("admin");
}

/// AWS says the same of a key that is inactive for now, or of another account, so it is not lost.
#[test]
fn a_permanent_key_that_aws_refuses_is_kept_all_the_same() {
    for seal in [false, true] {
        let rig = rig();
        let own = rig.account.key("admin");
        rig.home.write_credentials(rig.home.credentials() + &own.section("admin"));
        if seal {
            rig.run(&["encrypt", "admin"]).ok();
        }
        rig.proxy.fault_once("GetSessionToken", Fault::Status(403, "InvalidClientTokenId"));
        rig.refresh("admin").ok().says(&[&own.key, "asking the manager"]);
        assert_eq!(rig.stored_user("admin"), "admin");
        assert!(!rig.home.credentials().contains(&own.secret), "kept sealed");

        rig.proxy.clear_calls();
        rig.run(&["refresh", "admin"]).ok();
        assert_eq!(rig.proxy.actions(), TWO_CALLS);
        assert_eq!(rig.proxy.calls()[0].access_key, own.key);
    }
}

#[test]
fn two_keys_in_the_way_are_shown_and_not_touched() {
    let rig = rig();
    rig.refresh("admin").ok();
    let keys = [rig.account.key("admin").key, rig.account.key("admin").key];
    let before = rig.home.credentials();
    let ended = rig.refresh("admin").exits(4);
    ended.says(&[
        &keys[0],
        &keys[1],
        "active",
        "never used",
        "aws iam delete-access-key",
        "valid for another",
    ]);
    let left: BTreeSet<String> = rig.account.keys("admin").into_iter().collect();
    assert_eq!(left, keys.into());
    assert_eq!(rig.home.credentials(), before);
    assert!(rig.journal().is_empty());
}

/// The limit can also be hit between our look and our request.
#[test]
fn a_second_key_that_appears_meanwhile_is_shown_too() {
    let rig = rig();
    let first = rig.account.key("admin").key;
    let account = rig.account.clone();
    let hook: testkit::Hook = Arc::new(move |_| drop(account.key("admin")));
    rig.proxy.fault_once("CreateAccessKey", Fault::BeforeForward(hook));
    rig.proxy.fault("CreateAccessKey", Fault::TwoKeyLimit);
    rig.refresh("admin").exits(4).says(&[&first, "Neither was touched"]);
    assert_eq!(rig.account.keys("admin").len(), 2);
    assert!(rig.journal().is_empty());
}

// --- several at once ---

#[test]
fn many_are_refreshed_in_parallel_and_one_failure_stops_no_other() {
    let rig = rig();
    let names = ["u1", "u2", "u3", "u4"];
    names.iter().for_each(|name| drop(rig.account.user(name)));
    // The first session is held back until a second is asked for, which would never come if they took turns.
    let (under_way, alone) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let hook: testkit::Hook = Arc::new({
        let (under_way, alone) = (Arc::clone(&under_way), Arc::clone(&alone));
        move |_| {
            under_way.fetch_add(1, Ordering::SeqCst);
            let start = Instant::now();
            while under_way.load(Ordering::SeqCst) < 2 {
                if start.elapsed() > Duration::from_secs(15) {
                    alone.fetch_add(1, Ordering::SeqCst);
                    break;
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    });
    rig.proxy.fault("GetSessionToken", Fault::BeforeForward(hook));
    let ended = rig.run(&["refresh", "--profile", "usermanager", "u1", "u2", "nobody", "u3", "u4"]).exits(4);
    let ended = ended.says(&["'nobody'", "1 of 5 profiles could not be refreshed"]);
    for name in names {
        assert!(
            ended.stdout.contains(&format!("✓ Successfully updated profile '{name}'")),
            "{}",
            ended.stdout
        );
        assert_eq!(rig.stored_user(name), name);
        rig.assert_clean(name);
    }
    assert_eq!(rig.field("nobody", "credentials_owner"), None);
    assert_eq!(alone.load(Ordering::SeqCst), 0, "they took turns");
}

/// Separate processes at the same moment, as in a script with `&`: none loses another's profile.
#[test]
fn many_processes_at_once_lose_nothing() {
    let rig = rig();
    let names = ["p1", "p2", "p3", "p4", "p5", "p6"];
    names.iter().for_each(|name| drop(rig.account.user(name)));
    std::thread::scope(|scope| {
        for name in names {
            let rig = &rig;
            scope.spawn(move || rig.refresh(name).ok());
        }
    });
    for name in names {
        assert_eq!(rig.stored_user(name), name);
        rig.assert_clean(name);
    }
    assert!(rig.field("usermanager", "aws_secret_access_key").unwrap().starts_with("__encrypted__:v2."));
}

#[test]
fn a_name_given_twice_is_refreshed_once() {
    let rig = rig();
    rig.account.user("bob");
    rig.run(&["refresh", "--profile", "usermanager", "admin", "bob", "admin"]).ok();
    assert_eq!(rig.proxy.count("CreateAccessKey"), 2);
    rig.assert_clean("admin");
}

/// IAM allows two keys a user: profiles of one user must not get in each other's way.
#[test]
fn profiles_of_one_user_take_turns() {
    let rig = rig();
    let theirs = rig.account.key("admin").key;
    rig.proxy.fault("CreateAccessKey", Fault::TwoKeyLimit);
    let sections: String = ["w1", "w2", "w3", "w4"]
        .iter()
        .map(|name| format!("[{name}]\ncredentials_owner = admin\n"))
        .collect();
    rig.home.write_credentials(rig.home.credentials() + &sections);
    rig.run(&["refresh", "--profile", "usermanager", "w1", "w2", "w3", "w4"]).ok();
    for name in ["w1", "w2", "w3", "w4"] {
        assert_eq!(rig.stored_user(name), "admin");
    }
    assert_eq!(rig.account.keys("admin"), [theirs]);
}

/// The same between processes, which know of each other by the journal.
#[test]
fn processes_for_one_user_wait_for_each_other() {
    let rig = rig();
    let theirs = rig.account.key("admin").key;
    rig.proxy.fault("CreateAccessKey", Fault::TwoKeyLimit);
    rig.proxy.fault("GetSessionToken", Fault::Slow(Duration::from_millis(300)));
    let sections: String =
        ["w1", "w2", "w3"].iter().map(|name| format!("[{name}]\ncredentials_owner = admin\n")).collect();
    rig.home.write_credentials(rig.home.credentials() + &sections);
    std::thread::scope(|scope| {
        for name in ["w1", "w2", "w3"] {
            let rig = &rig;
            scope.spawn(move || rig.refresh(name).ok());
        }
    });
    for name in ["w1", "w2", "w3"] {
        assert_eq!(rig.stored_user(name), "admin");
    }
    assert_eq!(rig.account.keys("admin"), [theirs]);
}

#[test]
fn all_refreshes_what_we_made_and_nothing_else() {
    let rig = rig();
    rig.run(&["refresh", "--all", "--profile", "usermanager"]).exits(3);
    rig.account.user("bob");
    let own = rig.account.key("bob");
    rig.home.write_credentials(rig.home.credentials() + &own.section("by-hand"));
    rig.account.user("carol");
    rig.run(&["refresh", "--profile", "usermanager", "admin", "carol"]).ok();
    let (admin, carol) = (rig.creds("admin"), rig.creds("carol"));
    let manager = rig.field("usermanager", "aws_access_key_id");
    rig.run(&["refresh", "--all", "--profile", "usermanager"]).ok();
    assert!(rig.creds("admin") != admin && rig.creds("carol") != carol);
    assert_eq!((rig.stored_user("admin").as_str(), rig.stored_user("carol").as_str()), ("admin", "carol"));
    assert!(rig.creds("by-hand") == own && rig.field("usermanager", "aws_access_key_id") == manager);
}

// --- what is refused before AWS is asked for anything ---

#[test]
fn the_managers_own_profile_is_never_overwritten() {
    let rig = rig();
    let before = rig.home.credentials();
    rig.refresh("usermanager").exits(2).says(&["'usermanager'", "never overwritten", "without MFA"]);
    assert_eq!(rig.home.credentials(), before);
    assert!(rig.proxy.calls().is_empty());
}

#[test]
fn a_session_of_the_manager_itself_is_told_not_to_reach_iam() {
    let rig = rig();
    let cannot = "without MFA, so these credentials can't call IAM";
    assert!(!rig.refresh("admin").ok().stderr.contains(cannot), "of nobody else it is said");
    // The manager's user, under another profile's name.
    rig.home.write_credentials(rig.home.credentials() + "[mine]\ncredentials_owner = usermanager\n");
    rig.refresh("mine").ok().says(&[cannot]);
    assert_eq!(rig.stored_user("mine"), "usermanager");
}

#[test]
fn role_sso_and_process_profiles_are_refused() {
    let rig = rig();
    let config = "[profile r]\nrole_arn = arn:aws:iam::123456789012:role/r\nsource_profile = usermanager\n\
                  [profile s]\nsso_start_url = https://example.org\n[profile p]\ncredential_process = /bin/false\n";
    rig.home.write_config(config);
    let before = rig.home.credentials();
    for (name, kind) in [("r", "role"), ("s", "sso"), ("p", "process")] {
        rig.refresh(name).exits(3).says(&[&format!("'{name}'"), kind, &format!("aws --profile {name}")]);
    }
    assert_eq!((rig.home.credentials(), rig.home.config()), (before, config.to_owned()));
    assert!(rig.proxy.calls().is_empty());
}

#[test]
fn without_a_manager_that_can_help_it_says_which() {
    let rig = rig();
    rig.run(&["admin"]).exits(2).says(&["--profile", "AWS_PROFILE"]);
    rig.run(&["--profile", "ghost", "admin"]).exits(3).says(&["'ghost'"]);
    assert!(rig.proxy.calls().is_empty());
}
