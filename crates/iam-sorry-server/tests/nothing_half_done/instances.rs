//! Two instances on one PostgreSQL: one is killed, one is cut off from the database.

use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;
use testkit::{Fault, Hook, Postgres};

use crate::department::{Database, Department, run};

/// Holds the next answer of AWS to `request` until told to let it go; says when it is there.
fn hold(department: &Department, request: &str) -> (mpsc::Receiver<()>, mpsc::Sender<()>) {
    let (asked, authz_request) = mpsc::channel();
    let (go, gone) = mpsc::channel::<()>();
    let gone = Mutex::new(gone);
    let hook: Hook = Arc::new(move |_| {
        let _ = asked.send(());
        let _ = gone.lock().unwrap().recv_timeout(Duration::from_secs(60));
    });
    department.proxy.fault_once(request, Fault::AfterForward(hook));
    (authz_request, go)
}

#[test]
fn the_other_instance_settles_what_a_killed_one_left() {
    let department = Department::new();
    let database = Database::Postgres(Postgres::shared().database());
    let (one, two) = (department.instance(&database), department.instance(&database));
    one.service.run();
    two.service.run();
    one.done("POST", "/users", &json!({"name": "dirk-a"}));
    // Known to both at once.
    two.done("GET", "/users/dirk-a", &json!(null));
    let (asked, go) = hold(&department, "CreateAccessKey");
    std::thread::scope(|threads| {
        threads.spawn(|| one.authz_request("POST", "/users/dirk-a/keys", &json!(null)));
        asked.recv_timeout(Duration::from_secs(30)).unwrap();
        one.service.kill();
        drop(go);
    });
    assert_eq!(department.in_iam().1.len(), 1, "the key is there, and nobody has its secret");
    let took = department.accounted_for(&two, "killed");
    // Nobody who lives knows the key's id, so nothing proves whose it is.
    let suspects = two.beside(|store| department.unaccounted(store));
    assert_eq!(department.in_iam().1, suspects.into_iter().collect());
    // Not before the other one's last request must have ended.
    assert!(took > Duration::from_secs(10), "{took:?}");
    let log = two.service.log();
    assert!(log.contains("taken over"), "{log}");
    two.done("POST", "/users/dirk-a/keys", &json!(null));
    let known = || two.beside(|store| run(store.instances_alive(Duration::from_secs(3600))).unwrap().len());
    let before = known();
    assert_eq!(two.service.stop().0, 0);
    assert_eq!(known(), before - 1, "who stops says so");
}

/// It deletes a user, is stopped in the middle, and is taken for dead; the other one finishes, and people go on with a new
/// user of the same name. When it wakes up, it must not go on deleting: what it finds under the name is somebody else's.
#[test]
fn an_instance_that_wakes_up_touches_nothing_that_was_taken_over() {
    let department = Department::new();
    let database = Database::Postgres(Postgres::shared().database());
    let (one, two) = (department.instance(&database), department.instance(&database));
    one.service.run();
    two.service.run();
    one.done("POST", "/users", &json!({"name": "dirk-a", "policies": [department.policy]}));
    let (asked, go) = hold(&department, "DetachUserPolicy");
    std::thread::scope(|threads| {
        let deleting = threads.spawn(|| one.authz_request("DELETE", "/users/dirk-a", &json!(null)));
        asked.recv_timeout(Duration::from_secs(30)).unwrap();
        one.service.signal(Signal::STOP);
        drop(go);
        let start = Instant::now();
        while !two.beside(|store| run(store.open_operations()).unwrap()).is_empty() {
            assert!(start.elapsed() < Duration::from_secs(90), "{}", two.service.log());
            std::thread::sleep(Duration::from_millis(250));
        }
        two.done("POST", "/users", &json!({"name": "dirk-a", "policies": [department.policy]}));
        let delivered = two.done("POST", "/users/dirk-a/keys", &json!(null));
        one.service.signal(Signal::CONT);
        let (status, answer) = deleting.join().unwrap().expect("an answer");
        assert!(status >= 500, "{status} {answer}");
        let (_, keys) = department.in_iam();
        assert_eq!(keys.into_iter().collect::<Vec<_>>(), [delivered["access_key_id"].as_str().unwrap()]);
    });
    department.accounted_for(&two, "woken up");
    one.service.stop();
    two.service.stop();
}

#[test]
fn an_instance_that_is_cut_off_from_the_database_stops_acting() {
    let department = Department::new();
    let postgres = Postgres::shared();
    let url = postgres.database();
    let name = url.rsplit('/').next().unwrap().to_owned();
    let wire = postgres.cutter();
    let one = department.instance(&Database::Postgres(wire.url(&name)));
    let two = department.instance(&Database::Postgres(url));
    one.service.run();
    two.service.run();
    one.done("POST", "/users", &json!({"name": "dirk-a"}));
    let (asked, go) = hold(&department, "CreateAccessKey");
    std::thread::scope(|threads| {
        let asking = threads.spawn(|| one.authz_request("POST", "/users/dirk-a/keys", &json!(null)));
        asked.recv_timeout(Duration::from_secs(30)).unwrap();
        wire.cut();
        // AWS's answer arrives, but it can't be written down, so the secret is not shown.
        drop(go);
        let cut = Instant::now();
        let answer = asking.join().unwrap();
        if let Some((status, answer)) = answer {
            assert!(status >= 500, "{status} {answer}");
            assert!(answer.get("secret_access_key").is_none(), "{answer}");
        }
        // From 8 s after the last beat on it refuses everything.
        while cut.elapsed() < Duration::from_secs(11) {
            std::thread::sleep(Duration::from_millis(100));
        }
        department.proxy.clear_calls();
        let refused = one.authz_request("POST", "/users", &json!({"name": "dirk-b"})).unwrap();
        assert_eq!(refused.0, 503, "{refused:?}");
        assert_eq!(department.proxy.count("CreateUser"), 0, "AWS was not asked");
    });
    // The other instance can't prove whose the key is; its maker can, and takes it back.
    department.accounted_for(&two, "cut off");
    assert_eq!(department.in_iam().1.len(), 1);
    wire.heal();
    let start = Instant::now();
    while !department.in_iam().1.is_empty() {
        assert!(start.elapsed() < Duration::from_secs(60), "{}", one.service.log());
        std::thread::sleep(Duration::from_millis(250));
    }
    // Back again, and at work.
    let start = Instant::now();
    while one
        .authz_request("POST", "/users", &json!({"name": "dirk-b"}))
        .is_none_or(|(status, _)| status != 200 && status != 201)
    {
        assert!(start.elapsed() < Duration::from_secs(30), "{}", one.service.log());
        std::thread::sleep(Duration::from_millis(250));
    }
    department.accounted_for(&two, "healed");
    one.service.stop();
    two.service.stop();
}
