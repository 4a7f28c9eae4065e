//! Users by their account: `/accounts/{account}/users` beside `/users`, and `ACCOUNT/NAME` in bodies.

use serde_json::{Value, json};
use testkit::Answer;

use super::department::Department;

#[track_caller]
fn ok(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

#[track_caller]
fn refused(answer: &Answer) -> (u16, String, String) {
    let problem = answer.json();
    let text = |field: &str| problem[field].as_str().unwrap().to_owned();
    (answer.status, text("code"), text("detail"))
}

/// The only account goes without saying, and may be named all the same: it is one user by either name.
#[test]
fn a_user_is_the_same_with_and_without_the_account_that_goes_without_saying() {
    let department = Department::new();
    let ada = department.sign_in("ada");
    let made = ok(&department.post("/accounts/default/users", &ada, json!({"name": "dirk-a"})));
    assert_eq!(made["resource"], "dirk-a");
    assert_eq!(made["changes"], json!([{"change": "user-created", "user": "dirk-a"}]));
    let shown = ok(&department.get("/users/dirk-a", &ada));
    assert_eq!(shown["user"]["account"], "default");
    assert_eq!(ok(&department.get("/accounts/default/users/dirk-a", &ada)), shown);
    assert_eq!(
        ok(&department.get("/accounts/default/users", &ada)),
        ok(&department.get("/users", &ada)),
        "both lists"
    );
    let (status, code, _) = refused(&department.post("/users", &ada, json!({"name": "DIRK-A"})));
    assert_eq!((status, &*code), (409, "conflict"));

    // One request by one key, whichever path it takes.
    let key = "Idempotency-Key: the-same-request";
    let headers = [&format!("Authorization: Bearer {ada}"), "Content-Type: application/json", key];
    let attach = json!({"policy_arn": department.policy}).to_string();
    let post = |path: &str| {
        let path = format!("/api/v1{path}/dirk-a/policies");
        ok(&department.send("POST", &path, &headers, attach.as_bytes()))
    };
    let (first, again) = (post("/users"), post("/accounts/default/users"));
    assert_eq!((first["changed"].as_bool(), again["changed"].as_bool()), (Some(true), Some(false)));
    assert_eq!(first["operation"], again["operation"]);
    assert_eq!(department.proxy.count("AttachUserPolicy"), 1);

    // In bodies as well.
    let request = |user: &str| json!({"user": user, "dry_run": true});
    let path = "/credentials";
    assert_eq!(
        ok(&department.post(path, &ada, request("default/dirk-a")))["changes"],
        ok(&department.post(path, &ada, request("dirk-a")))["changes"]
    );
    let question = |user: &str| json!({"action": "delete-user", "resource": user});
    let answer = ok(&department.post("/explain", &ada, question("default/dirk-keep")));
    assert_eq!(answer, ok(&department.post("/explain", &ada, question("dirk-keep"))));
    assert_eq!(answer["allowed"], false);
    assert_eq!(ok(&department.delete("/accounts/default/users/dirk-a", &ada))["changed"], true);
}

#[test]
fn an_account_that_there_is_not_is_refused_with_those_that_there_are() {
    let department = Department::new();
    let ada = department.sign_in("ada");
    let name = json!({"name": "dirk-a"});
    let (key, policy) = ("AKIAIOSFODNN7EXAMPLE", json!({"policy_arn": department.policy}));
    let user = "/accounts/archive/users/dirk-a";
    for answer in [
        department.get("/accounts/archive/users", &ada),
        department.post("/accounts/archive/users", &ada, name.clone()),
        department.get(user, &ada),
        department.delete(user, &ada),
        department.post(&format!("{user}/policies"), &ada, policy),
        department.get(&format!("{user}/keys"), &ada),
        department.delete(&format!("{user}/keys/{key}"), &ada),
        department.post("/credentials", &ada, json!({"user": "archive/dirk-a"})),
        department.post("/explain", &ada, json!({"action": "create-user", "resource": "archive/dirk-a"})),
    ] {
        let (status, code, detail) = refused(&answer);
        assert_eq!((status, &*code), (404, "not-found"), "{answer:?}");
        assert_eq!(detail, "This service has no account \"archive\".\nIts accounts: default", "{answer:?}");
    }
    assert_eq!(department.proxy.count("CreateUser"), 0);

    // What no account can be called.
    for account in ["Default", "-x", "a_b", &"a".repeat(33)] {
        let (status, code, _) = refused(&department.get(&format!("/accounts/{account}/users"), &ada));
        assert_eq!((status, &*code), (400, "invalid-name"), "{account}");
    }
    // A name in a body is in the account of the path.
    let (status, code, _) = refused(&department.post("/users", &ada, json!({"name": "default/dirk-a"})));
    assert_eq!((status, &*code), (400, "invalid-name"));
    // Who is not signed in learns of no account.
    let (status, code, _) = refused(&department.post("/accounts/archive/users", "", name));
    assert_eq!((status, &*code), (401, "sign-in-needed"));
}
