//! `iam-sorry policy`: what it prints is enough for the manager, and each of its actions is needed.

use serde_json::{Value, json};
use testkit::Fault;

use crate::rig;

#[test]
fn the_policy_that_we_print_is_enough_and_least() {
    let rig = rig();
    let policy: Value = serde_json::from_str(&rig.run(&["policy"]).ok().stdout).unwrap();
    let actions = actions_of(&policy);
    assert_eq!(actions.len(), 6, "{actions:?}");

    rig.account.put_policy("usermanager", &policy);
    rig.refresh("admin").ok();
    assert_eq!(rig.stored_user("admin"), "admin");
    rig.assert_clean("admin");

    // `default` holds a key that lapsed and no recorded owner, so that its user has to be looked up.
    let lapsed = rig.account.key("admin");
    let args = json!({"UserName": "admin", "AccessKeyId": lapsed.key, "Status": "Inactive"});
    rig.account.call("iam", "update_access_key", args);
    rig.home.write_credentials(rig.home.credentials() + &lapsed.section("default"));
    rig.refresh("default").ok();
    assert_eq!(rig.stored_user("default"), "admin");

    for action in actions.iter().filter(|action| *action != "iam:UpdateAccessKey") {
        rig.account.put_policy("usermanager", &without(&policy, action));
        let name = if action == "iam:GetAccessKeyLastUsed" {
            let text = rig.home.credentials();
            let kept = text.split_once("[default]").unwrap().0;
            rig.home.write_credentials(format!("{kept}{}", lapsed.section("default")));
            "default"
        } else {
            "admin"
        };
        let before = rig.home.credentials();
        rig.refresh(name).exits(4).says(&[action, "iam-sorry policy"]);
        assert_eq!(rig.home.credentials(), before, "without {action}");
        // Without iam:DeleteAccessKey the key stays, written down; the next run with the permission deletes it.
        let left = usize::from(action == "iam:DeleteAccessKey");
        assert_eq!(
            (rig.account.keys("admin").len(), rig.journal().len()),
            (1 + left, left),
            "without {action}"
        );
        rig.account.put_policy("usermanager", &policy);
        rig.run(&["list"]).ok();
        assert_eq!(rig.account.keys("admin"), [lapsed.key.as_str()], "without {action}");
        assert!(rig.journal().is_empty(), "without {action}");
    }

    // Needed after a lost answer, and for rotation. Without it the key that was found stays active, and the message says why.
    rig.account.put_policy("usermanager", &without(&policy, "iam:UpdateAccessKey"));
    rig.proxy.fault_once("CreateAccessKey", Fault::DropResponse);
    rig.refresh("admin").exits(4).says(&["iam:UpdateAccessKey", "still active", "iam-sorry policy"]);
    let keys = rig.account.keys("admin");
    let found = keys.iter().find(|id| **id != lapsed.key).unwrap();
    assert!(rig.account.is_active("admin", found));
    rig.account.put_policy("usermanager", &policy);
    rig.run(&["doctor"]).says(&[found, "deactivated, not deleted"]);
    rig.assert_found("admin", found);
}

fn actions_of(policy: &Value) -> Vec<String> {
    let statements = policy["Statement"].as_array().unwrap();
    let actions = statements.iter().flat_map(|statement| match &statement["Action"] {
        Value::Array(several) => several.clone(),
        one => vec![one.clone()],
    });
    actions.map(|action| action.as_str().unwrap().to_owned()).collect()
}

/// The policy with one of its actions taken away.
fn without(policy: &Value, action: &str) -> Value {
    let mut less = policy.clone();
    less["Statement"].as_array_mut().unwrap().retain_mut(|statement| match &mut statement["Action"] {
        Value::Array(several) => {
            several.retain(|one| one != action);
            true
        }
        one => one != action,
    });
    less
}

#[test]
fn a_policy_for_some_users_serves_only_them() {
    let rig = rig();
    rig.account.user("other");
    let args = ["policy", "--users", "adm*", "--account", rig.account.id()];
    let policy: Value = serde_json::from_str(&rig.run(&args).ok().stdout).unwrap();
    rig.account.put_policy("usermanager", &policy);
    rig.refresh("admin").ok();
    rig.refresh("other").exits(4).says(&["iam:GetUser"]);
    rig.assert_clean("other");
}
