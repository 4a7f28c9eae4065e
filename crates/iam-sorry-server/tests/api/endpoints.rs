//! Every endpoint of the real service: what it does when asked properly, and how it refuses.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::{Answer, Fault, Postgres};

use super::department::Department;

/// A problem as a snapshot shows it: without what differs from run to run.
#[track_caller]
fn problem(answer: &Answer) -> String {
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{answer:?}");
    let mut problem = answer.json();
    assert_eq!(problem["status"], answer.status);
    assert_eq!(problem["request_id"].as_str(), answer.header("x-request-id"));
    problem.as_object_mut().unwrap().remove("request_id");
    let text = serde_json::to_string_pretty(&problem).unwrap();
    // Reasons name the file of a rule, which lies elsewhere in each run.
    match (text.find("/tmp/"), text.find("/rules.cedar")) {
        (Some(from), Some(to)) => text.replace(&text[from..to], "{dir}"),
        _ => text,
    }
}

#[track_caller]
fn code(answer: &Answer) -> (u16, String) {
    problem(answer);
    (answer.status, answer.json()["code"].as_str().unwrap().to_owned())
}

#[track_caller]
fn ok(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/json"), "{answer:?}");
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    answer.json()
}

/// Any action, as a value: the same as at the address of its own, and as `iam-sorry` asks for what has none.
#[test]
fn an_action_as_a_value() {
    let department = Department::new();
    let ada = department.sign_in("ada");
    let run = |query: &str, action: Value| department.post(&format!("/actions{query}"), &ada, action);
    let create = json!({"action": "create-user", "user": "dirk-a", "policies": [department.policy]});
    let would = ok(&run("?dry_run=true", create.clone()));
    assert_eq!((would["dry_run"].as_bool(), department.proxy.count("CreateUser")), (Some(true), 0));
    assert_eq!(ok(&run("", create))["changes"][0], json!({"change": "user-created", "user": "dirk-a"}));
    assert_eq!(ok(&department.get("/users/dirk-a", &ada))["policies"], json!([department.policy]));
    let key = ok(&run("", json!({"action": "create-access-key", "user": "default/dirk-a"})));
    assert!(key["secret_access_key"].as_str().unwrap().len() >= 20);
    let issued =
        ok(&run("", json!({"action": "issue-credentials", "user": "dirk-a", "duration_seconds": 900})));
    assert!(issued["arn"].as_str().unwrap().ends_with("dirk-a"), "{issued}");

    for (action, status, expected) in [
        (json!({"action": "delete-user", "user": "dirk-keep"}), 403, "not-allowed"),
        (json!({"action": "delete-user", "user": "elsewhere/dirk-a"}), 404, "not-found"),
        (json!({"action": "delete-user", "user": "dirk a"}), 400, "bad-request"),
        (json!({"action": "delete-user", "user": "dirk-a", "more": 1}), 400, "bad-request"),
        (json!({"action": "paint-user", "user": "dirk-a"}), 400, "bad-request"),
        (json!({"user": "dirk-a"}), 400, "bad-request"),
        // The service's own.
        (json!({"action": "retire-key", "user": "dirk-a", "key": key["access_key_id"]}), 400, "bad-request"),
    ] {
        assert_eq!(code(&run("", action.clone())), (status, expected.to_owned()), "{action}");
    }
}

#[test]
fn a_day_in_the_department() {
    let department = Department::new();
    let info = ok(&department.get("/service", ""));
    assert_eq!(
        (info["name"].as_str(), info["methods"][0].as_str()),
        (Some("Test department"), Some("ssh-key"))
    );
    let ada = department.sign_in("ada");

    let me = ok(&department.get("/me", &ada));
    assert_eq!(
        (me["identity"]["name"].as_str(), me["namespaces"][0]["name"].as_str()),
        (Some("ada"), Some("dirk"))
    );
    assert_eq!(ok(&department.get("/policies", &ada))["items"], json!([department.policy]));
    assert_eq!(ok(&department.get("/roles", &ada))["items"], json!([department.role]));

    // Users.
    let dry = ok(&department.post("/users", &ada, json!({"name": "dirk-a", "dry_run": true})));
    assert_eq!(dry["changed"], false);
    assert_eq!(department.proxy.count("CreateUser"), 0);
    let made =
        ok(&department.post("/users", &ada, json!({"name": "dirk-a", "policies": [department.policy]})));
    assert_eq!((made["changed"].as_bool(), made["action"].as_str()), (Some(true), Some("create-user")));
    assert!(made["reasons"][0].as_str().unwrap().contains("owners"), "{made}");
    ok(&department.post("/users", &ada, json!({"name": "dirk-keep"})));
    let users = ok(&department.get("/users?limit=1", &ada));
    assert_eq!(users["items"].as_array().unwrap().len(), 1);
    let next = users["next"].as_str().unwrap();
    let second = ok(&department.get(&format!("/users?limit=1&cursor={next}"), &ada));
    assert_ne!(second["items"], users["items"]);
    let shown = ok(&department.get("/users/dirk-a", &ada));
    assert_eq!(shown["policies"], json!([department.policy]));
    let detached = format!("/users/dirk-a/policies?policy_arn={}", department.policy);
    assert_eq!(ok(&department.delete(&detached, &ada))["changed"], true);
    let attach = json!({"policy_arn": department.policy});
    assert_eq!(ok(&department.post("/users/dirk-a/policies", &ada, attach))["changed"], true);

    // Keys.
    let key = ok(&department.post("/users/dirk-a/keys", &ada, Value::Null));
    assert!(key["secret_access_key"].as_str().unwrap().len() >= 20);
    let id = key["access_key_id"].as_str().unwrap();
    let rotated = ok(&department.post(&format!("/users/dirk-a/keys/{id}/rotate"), &ada, Value::Null));
    let new_id = rotated["access_key_id"].as_str().unwrap();
    assert_ne!(new_id, id);
    let keys = ok(&department.get("/users/dirk-a/keys", &ada));
    assert!(!keys["items"].to_string().contains("secret"));
    ok(&department.delete(&format!("/users/dirk-a/keys/{new_id}?force=true"), &ada));

    // Credentials.
    let issued =
        ok(&department.post("/credentials", &ada, json!({"user": "dirk-a", "duration_seconds": 900})));
    assert!(issued["arn"].as_str().unwrap().ends_with("dirk-a"), "{issued}");
    let role =
        ok(&department.post("/credentials", &ada, json!({"role": department.role, "duration_seconds": 900})));
    assert!(role["arn"].as_str().unwrap().contains("assumed-role/Analysis/"), "{role}");
    let given = ok(&department.get("/credentials", &ada));
    assert!(given["items"].as_array().unwrap().len() >= 3);
    let why =
        ok(&department.post("/explain", &ada, json!({"action": "delete-user", "resource": "dirk-keep"})));
    assert_eq!(why["allowed"], false);
    assert!(why["reasons"].to_string().contains("needed by the cluster"), "{why}");

    // Sessions and keys to sign in with.
    let other = department.sign_in("ada");
    let sessions = ok(&department.get("/sessions", &ada));
    let not_this = sessions["items"].as_array().unwrap().iter().find(|it| it["current"] == false).unwrap();
    let ended = department.delete(&format!("/sessions/{}", not_this["id"].as_str().unwrap()), &ada);
    assert_eq!(ended.status, 204, "{ended:?}");
    assert_eq!(code(&department.get("/me", &other)), (401, "sign-in-needed".to_owned()));

    // Deleting, and the end.
    assert_eq!(ok(&department.delete("/users/dirk-a", &ada))["changed"], true);
    assert_eq!(
        code(&department.get("/users/dirk-a", &ada)),
        (403, "guardrail".to_owned()),
        "no user of the service's"
    );
    let out = department.post("/logout", &ada, Value::Null);
    assert_eq!((out.status, out.body.as_str()), (204, ""));
    assert_eq!(code(&department.get("/me", &ada)), (401, "sign-in-needed".to_owned()));

    // The auditor sees all of it, in order, signed; no secret is in it.
    let bob = department.sign_in("bob");
    let page = ok(&department.get("/audit?all=true&action=create-user&limit=2", &bob));
    assert_eq!(page["items"].as_array().unwrap().len(), 2);
    let export = department.get("/audit/export?all=true", &bob);
    assert_eq!((export.status, export.header("content-type")), (200, Some("application/x-ndjson")));
    for secret in [&key, &rotated, &issued, &role] {
        let secret = secret["secret_access_key"].as_str().unwrap();
        assert!(!export.body.contains(secret) && !department.service.log().contains(secret));
    }
    let public = department.get("/audit/key", "");
    department.service.write("published.pub", &public.body);
    department.service.write("export.jsonl", &export.body);
    let verified = department.service.command(&["audit", "verify", "export.jsonl", "--key", "published.pub"]);
    let said = String::from_utf8_lossy(&verified.stdout).into_owned();
    assert!(verified.status.success(), "{said}{}", String::from_utf8_lossy(&verified.stderr));
    assert!(said.contains(" records in ") && said.contains("--expect"), "{said}");
    let ocsf = department.get("/audit/export?all=true&format=ocsf", &bob);
    assert!(ocsf.body.lines().all(|line| line.contains("class_uid")));

    // The log has a line for each request, and neither tokens nor queries nor names in paths.
    let log = department.service.log();
    assert!(log.contains("\"route\":\"/api/v1/users/{name}/keys\""), "{log}");
    for never in [&ada, &other, &bob, "cursor=", "dirk-a", "published.pub"] {
        assert!(!log.contains(never), "{never} in the log");
    }
    let (status, _) = department.service.stop();
    assert_eq!(status, 0);
    let file = department.path("audit.jsonl");
    let verified = department.service.command(&[
        "audit",
        "verify",
        &file,
        "--key",
        "audit.key.pub",
        "--longest-unsigned",
        "0",
    ]);
    assert!(verified.status.success(), "the sink's file is whole and signed to its end: {verified:?}");
}

#[test]
fn refusals_say_why_and_nothing_was_done() {
    let department = Department::new();
    let (ada, eve) = (department.sign_in("ada"), department.sign_in("eve"));
    insta::assert_snapshot!(problem(&department.get("/me", "")), @r#"
    {
      "type": "urn:iam-sorry:problem:sign-in-needed",
      "code": "sign-in-needed",
      "title": "Nobody is signed in",
      "status": 401,
      "detail": "Nobody is signed in.\nSign in with: iam-sorry login URL (or send Authorization: Bearer TOKEN)."
    }
    "#);
    insta::assert_snapshot!(problem(&department.post("/users", &eve, json!({"name": "dirk-x"}))), @r#"
    {
      "type": "urn:iam-sorry:problem:not-allowed",
      "code": "not-allowed",
      "title": "The rules don't allow it",
      "status": 403,
      "detail": "The rules do not allow you that: create-user on dirk-x.\nSee what decided: iam-sorry explain create-user dirk-x",
      "reasons": [
        "no rule allows create-user on dirk-x: a rule must permit it (deny is the default)"
      ]
    }
    "#);
    insta::assert_snapshot!(problem(&department.post("/users", &ada, json!({"name": "anna-x"}))), @r#"
    {
      "type": "urn:iam-sorry:problem:guardrail",
      "code": "guardrail",
      "title": "A guardrail forbids it",
      "status": 403,
      "detail": "This service never does that, whatever the rules say: create-user on anna-x.\nSee what decided: iam-sorry explain create-user anna-x",
      "reasons": [
        "guardrail namespace: anna-x is in no namespace of this service"
      ]
    }
    "#);
    insta::assert_snapshot!(problem(&department.post("/users", &ada, json!({"name": "dirk-x*"}))), @r#"
    {
      "type": "urn:iam-sorry:problem:invalid-name",
      "code": "invalid-name",
      "title": "The name can't be used",
      "status": 400,
      "detail": "\"dirk-x*\" can't be an IAM user name: 1 to 64 letters, digits and any of + = , . @ _ - are allowed"
    }
    "#);
    insta::assert_snapshot!(problem(&department.get("/users/dirk-none", &ada)), @r#"
    {
      "type": "urn:iam-sorry:problem:guardrail",
      "code": "guardrail",
      "title": "A guardrail forbids it",
      "status": 403,
      "detail": "This service never does that, whatever the rules say: show-user on dirk-none.\nSee what decided: iam-sorry explain show-user dirk-none",
      "reasons": [
        "guardrail managed-users: dirk-none was neither made nor adopted by this service, which touches no other users"
      ]
    }
    "#);
    let unlisted = json!({"policy_arn": "arn:aws:iam::aws:policy/AdministratorAccess"});
    ok(&department.post("/users", &ada, json!({"name": "dirk-keep"})));
    insta::assert_snapshot!(problem(&department.post("/users/dirk-keep/policies", &ada, unlisted)), @r#"
    {
      "type": "urn:iam-sorry:problem:guardrail",
      "code": "guardrail",
      "title": "A guardrail forbids it",
      "status": 403,
      "detail": "This service never does that, whatever the rules say: attach-policy on dirk-keep.\nSee what decided: iam-sorry explain attach-policy dirk-keep",
      "reasons": [
        "guardrail policies: arn:aws:iam::aws:policy/AdministratorAccess is not on the list of policies that can be attached and detached"
      ]
    }
    "#);
    insta::assert_snapshot!(problem(&department.delete("/users/dirk-keep", &ada)), @r#"
    {
      "type": "urn:iam-sorry:problem:not-allowed",
      "code": "not-allowed",
      "title": "The rules don't allow it",
      "status": 403,
      "detail": "The rules do not allow you that: delete-user on dirk-keep.\nSee what decided: iam-sorry explain delete-user dirk-keep",
      "reasons": [
        "rule \"no-deletes\" (rules.cedar) forbids it: dirk-keep is needed by the cluster"
      ]
    }
    "#);

    let with_key = |body: Value| {
        let headers = [
            &format!("Authorization: Bearer {ada}"),
            "Content-Type: application/json",
            "Idempotency-Key: the-same-key-1",
        ];
        department.send("POST", "/api/v1/credentials", &headers, body.to_string().as_bytes())
    };
    ok(&with_key(json!({"user": "dirk-keep", "duration_seconds": 900})));
    assert_eq!(
        code(&with_key(json!({"user": "dirk-keep", "duration_seconds": 900}))),
        (409, "already-done".into())
    );
    assert_eq!(
        code(&with_key(json!({"user": "dirk-keep", "duration_seconds": 901}))),
        (409, "idempotency-mismatch".into())
    );

    assert_eq!(code(&department.get("/audit?all=true", &ada)).0, 403, "not an auditor");
    assert_eq!(code(&department.get("/audit?limit=0", &ada)), (400, "bad-request".into()));
    assert_eq!(code(&department.get("/audit?cursor=garbage", &ada)), (400, "bad-request".into()));
    assert_eq!(code(&department.get("/users/..%2fx", &ada)), (400, "invalid-name".into()));
    assert_eq!(code(&department.delete("/sessions/none", &ada)), (404, "not-found".into()));
    assert_eq!(code(&department.delete("/ssh-keys/SHA256:none", &ada)), (404, "not-found".into()));
    assert_eq!(code(&department.post("/credentials", &ada, json!({}))).0, 400);
    // What only the service may say to AWS is no field of a request.
    let role = json!({"role": department.role, "duration_seconds": 900});
    for field in ["external_id", "source_identity", "session_name", "tags"] {
        let mut body = role.clone();
        body[field] = json!("mine");
        assert_eq!(
            code(&department.post("/credentials", &ada, body)),
            (400, "bad-request".into()),
            "{field}"
        );
    }
    assert_eq!(department.proxy.count("AssumeRole"), 0);
    assert_eq!(department.proxy.count("CreateUser"), 1, "only dirk-keep");
}

/// The program is somebody else's; the secrets of the directory and of the collectors are not for it.
#[test]
fn the_program_that_gives_the_identity_sees_none_of_the_other_secrets() {
    let department = Department::prepared("path = \"{dir}/store.db\"");
    let config = std::fs::read_to_string(department.path("iam-sorryd.toml")).unwrap();
    let (before, rest) = config.split_once("identity = ").unwrap();
    let (old, after) = rest.split_once('\n').unwrap();
    let key = old.split('"').nth(1).unwrap();
    let script = format!(
        "env > {{dir}}/seen\nread -r secret < {{dir}}/secret\n\
         printf '{{\"Version\":1,\"AccessKeyId\":\"{key}\",\"SecretAccessKey\":\"%s\"}}' \"$secret\"\n"
    );
    department.service.write("identity.sh", &script);
    let more = r#"
        [login.ldap]
        name = "corp"
        urls = ["ldap://127.0.0.1:1"]
        users_base = "dc=example"
        bind_dn = "cn=service"
        bind_password = { variable = "BIND_PASSWORD" }
        [[audit.sink]]
        name = "collector"
        http = { url = "http://127.0.0.1:1/", token = { variable = "COLLECTOR_TOKEN" } }
    "#;
    let config =
        format!("{before}identity = {{ process = [\"sh\", \"{{dir}}/identity.sh\"] }}\n{after}\n{more}");
    department.service.write("iam-sorryd.toml", &config);
    for (name, value) in
        [("BIND_PASSWORD", "hunter2"), ("COLLECTOR_TOKEN", "t0ken"), ("PLAIN", "it-sees-this")]
    {
        department.service.set_env(name, value);
    }
    department.run();
    let seen = std::fs::read_to_string(department.path("seen")).unwrap();
    assert!(seen.contains("PLAIN=it-sees-this"), "{seen}");
    for secret in ["hunter2", "t0ken", "BIND_PASSWORD", "COLLECTOR_TOKEN"] {
        assert!(!seen.contains(secret), "{seen}");
    }
}

#[test]
fn whoever_is_not_signed_in_gets_nowhere_and_methods_are_those_of_the_document() {
    let department = Department::new();
    let document = ok(&department.get("/openapi.json", ""));
    for (path, item) in document["paths"].as_object().unwrap() {
        let filled = path
            .replace("{name}", "dirk")
            .replace("{id}", "AKIAAAAAAAAAAAAAAAAA")
            .replace("{fingerprint}", "x");
        let mut documented = Vec::new();
        for (method, operation) in item.as_object().unwrap() {
            documented.push(method.to_ascii_uppercase());
            if operation.get("security").is_none() {
                continue;
            }
            let body: &[u8] = if operation.get("requestBody").is_some() { b"{}" } else { b"" };
            for credential in [
                "X: none",
                "Authorization: Bearer",
                "Authorization: Bearer iss_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
                "Authorization: Basic YWRhOmFkYQ==",
                "Cookie: __Host-iam-sorry=iss_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            ] {
                let headers = [credential, "Content-Type: application/json"];
                let answer = department.send(&method.to_ascii_uppercase(), &filled, &headers, body);
                assert_eq!(code(&answer), (401, "sign-in-needed".into()), "{method} {path} {credential}");
                assert!(answer.header("www-authenticate").unwrap().starts_with("Bearer"), "{method} {path}");
            }
        }
        let answer = department.send("PATCH", &filled, &[], b"");
        assert_eq!(code(&answer), (405, "method-not-allowed".into()), "{path}");
        let mut allowed: Vec<&str> =
            answer.header("allow").unwrap().split(',').filter(|it| *it != "HEAD").collect();
        allowed.sort_unstable();
        documented.sort_unstable();
        assert_eq!(allowed, documented, "{path}");
    }
}

#[test]
fn a_stop_waits_for_the_action_that_is_at_aws() {
    let department = Department::new();
    let ada = department.sign_in("ada");
    let (entered, at_aws) = std::sync::mpsc::channel();
    let (let_go, waiting) = std::sync::mpsc::channel::<()>();
    let (entered, waiting) = (std::sync::Mutex::new(entered), std::sync::Mutex::new(waiting));
    let hold = move |_: &testkit::Call| {
        let _ = entered.lock().unwrap().send(());
        let _ = waiting.lock().unwrap().recv_timeout(Duration::from_secs(4));
    };
    department.proxy.fault_once("CreateUser", Fault::AfterForward(Arc::new(hold)));
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| department.post("/users", &ada, json!({"name": "dirk-late"})));
        at_aws.recv_timeout(Duration::from_secs(60)).expect("the request at AWS");
        department.service.signal(rustix::process::Signal::TERM);
        let done = ok(&{
            let refused = department.service.get("/healthz");
            let _ = refused; // nobody listens any more, or not for long
            let_go.send(()).unwrap();
            asked.join().unwrap()
        });
        assert_eq!(done["changed"], true);
    });
    let (status, log) = department.service.wait();
    assert_eq!(status, 0, "{log}");
}

#[test]
fn without_its_database_the_service_says_so_and_comes_back_by_itself() {
    let postgres = Postgres::start();
    let url = postgres.database();
    let department = Department::prepared("url_file = \"{dir}/url\"");
    department.service.write("url", &url);
    department.run();
    let ada = department.sign_in("ada");
    ok(&department.post("/users", &ada, json!({"name": "dirk-before"})));
    postgres.kill();
    let answer = department.post("/users", &ada, json!({"name": "dirk-during"}));
    assert_eq!(code(&answer), (503, "store-unavailable".into()));
    assert!(answer.header("retry-after").is_some());
    assert_eq!(department.proxy.count("CreateUser"), 1, "nothing that can't be written down");
    let ready = department.service.get("/readyz").unwrap();
    assert_eq!(ready.status, 503);
    assert_eq!(department.service.get("/healthz").unwrap().status, 200, "the process is well");
    postgres.up();
    let back = (0..300).any(|_| {
        std::thread::sleep(Duration::from_millis(200));
        department.post("/users", &ada, json!({"name": "dirk-after"})).status == 200
    });
    assert!(back, "{:?}", department.service.get("/readyz"));
}
