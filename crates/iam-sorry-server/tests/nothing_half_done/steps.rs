//! The program is killed while it waits for the answer to one request to AWS, which AWS has done or not seen.

use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use serde_json::json;
use testkit::{Fault, Hook};

use crate::department::{Database, Department};

/// What is asked of the service, and the request to AWS at which it dies.
const CASES: [(&str, &[&str]); 7] = [
    ("create", &["CreateUser", "AttachUserPolicy"]),
    ("delete", &["DeleteAccessKey", "DeleteUser"]),
    ("key", &["CreateAccessKey"]),
    ("rotate", &["CreateAccessKey", "GetCallerIdentity", "UpdateAccessKey"]),
    ("confirm", &["DeleteAccessKey"]),
    ("restore", &["UpdateAccessKey", "DeleteAccessKey"]),
    ("session", &["GetUser", "CreateAccessKey", "GetSessionToken", "DeleteAccessKey", "GetCallerIdentity"]),
];

fn killed_at(what: &str, request: &str, done: bool) {
    let label = format!("{what}, killed at {request}, {}", if done { "done" } else { "not done" });
    let department = Department::new();
    let instance = department.instance(&Database::Sqlite);
    instance.service.run();
    let mut key = String::new();
    if what != "create" {
        instance.done("POST", "/users", &json!({"name": "dirk-a"}));
        let made = instance.done("POST", "/users/dirk-a/keys", &json!(null));
        key = made["access_key_id"].as_str().unwrap().to_owned();
    }
    if matches!(what, "confirm" | "restore") {
        let rotated = instance.done("POST", &format!("/users/dirk-a/keys/{key}/rotate"), &json!(null));
        if what == "confirm" {
            key = rotated["access_key_id"].as_str().unwrap().to_owned();
        }
    }
    let (asked, authz_request) = mpsc::channel();
    let (dead, death) = mpsc::channel::<()>();
    let death = Mutex::new(death);
    let hold: Hook = Arc::new(move |_| {
        let _ = asked.send(());
        let _ = death.lock().unwrap().recv_timeout(Duration::from_secs(30));
    });
    if done {
        department.proxy.fault_once(request, Fault::AfterForward(hold));
    } else {
        department.proxy.fault_once(request, Fault::BeforeForward(hold));
        department.proxy.fault_once(request, Fault::Reset);
    }
    std::thread::scope(|threads| {
        let (instance, department, key) = (&instance, &department, &key);
        threads.spawn(move || match what {
            "create" => {
                let body = json!({"name": "dirk-a", "policies": [department.policy]});
                instance.authz_request("POST", "/users", &body)
            }
            "delete" => instance.authz_request("DELETE", "/users/dirk-a", &json!(null)),
            "key" => instance.authz_request("POST", "/users/dirk-a/keys", &json!(null)),
            "rotate" | "confirm" | "restore" => {
                instance.authz_request("POST", &format!("/users/dirk-a/keys/{key}/{what}"), &json!(null))
            }
            _ => instance.authz_request(
                "POST",
                "/credentials",
                &json!({"user": "dirk-a", "duration_seconds": 900}),
            ),
        });
        authz_request
            .recv_timeout(Duration::from_secs(30))
            .unwrap_or_else(|_| panic!("{label}: AWS was not asked"));
        instance.service.kill();
        let _ = dead.send(());
    });
    instance.service.run();
    department.accounted_for(&instance, &label);
    // The person's own key of before is as it was.
    // What nothing proves to be the service's own is inactive.
    let suspects = instance.beside(|store| department.unaccounted(store));
    let unproved = request == "CreateAccessKey" && done;
    assert_eq!(suspects.len(), usize::from(unproved), "{label}: {suspects:?}");
    let (_, mut keys) = department.in_iam();
    keys.retain(|key| !suspects.contains(key));
    match what {
        "key" | "session" => assert!(keys.len() == 1 && keys.contains(&key), "{label}: {keys:?}"),
        "rotate" | "confirm" | "restore" => {
            let listed = instance.done("GET", "/users/dirk-a/keys", &json!(null));
            let active = listed.to_string().contains("\"Active\"");
            assert!(active && keys.len() == 1 && keys.contains(&key), "{label}: {listed}");
        }
        _ => {}
    }
    instance.service.stop();
}

/// The service cases of "kill -9 between any two steps of any action: nothing unaccounted for".
#[test]
fn kill_9_between_any_two_steps_leaves_nothing_unaccounted_for() {
    let cases: Vec<_> = CASES
        .iter()
        .flat_map(|(what, requests)| requests.iter().map(move |request| (*what, *request)))
        .flat_map(|(what, request)| [(what, request, false), (what, request, true)])
        .collect();
    std::thread::scope(|threads| {
        for lane in cases.chunks(cases.len().div_ceil(4)) {
            threads.spawn(move || {
                lane.iter().for_each(|(what, request, done)| killed_at(what, request, *done));
            });
        }
    });
}
