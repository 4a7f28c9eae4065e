//! The program is killed at random moments while six people work with it as fast as they can.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use testkit::Postgres;

use crate::department::{Database, Department, Instance};

/// One person's work, again and again, whatever is answered. Each has two users, which come and go.
fn work(department: &Department, instance: &Instance, lane: usize, stop: &AtomicBool, done: &AtomicUsize) {
    let names = [format!("dirk-{lane}a"), format!("dirk-{lane}b")];
    let mut round = lane;
    while !stop.load(Ordering::Relaxed) {
        round += 1;
        let name = &names[round % 2];
        let authz_request = |method: &str, path: String, body: Value| {
            let answer = instance.authz_request(method, &path, &body);
            match &answer {
                Some((status, _)) if status / 100 == 2 => {
                    done.fetch_add(1, Ordering::Relaxed);
                }
                Some((500, body)) => panic!("{method} {path}: {body}"),
                Some(_) => {}
                // It was killed, and is about to be started again.
                None => std::thread::sleep(Duration::from_millis(20)),
            }
            answer
        };
        authz_request("POST", "/users".into(), json!({"name": name, "policies": [department.policy]}));
        let made = authz_request("POST", format!("/users/{name}/keys"), json!(null));
        authz_request("POST", "/credentials".into(), json!({"user": name, "duration_seconds": 900}));
        authz_request(
            "POST",
            "/credentials".into(),
            json!({"role": department.role, "duration_seconds": 900}),
        );
        if let Some((201 | 200, made)) = made {
            let key = made["access_key_id"].as_str().unwrap();
            let rotated = authz_request("POST", format!("/users/{name}/keys/{key}/rotate"), json!(null));
            if let Some((200 | 201, rotated)) = rotated {
                let new = rotated["access_key_id"].as_str().unwrap();
                match round.is_multiple_of(2) {
                    true => authz_request("POST", format!("/users/{name}/keys/{new}/confirm"), json!(null)),
                    false => authz_request("POST", format!("/users/{name}/keys/{key}/restore"), json!(null)),
                };
                authz_request("DELETE", format!("/users/{name}/keys/{new}"), json!(null));
                authz_request("DELETE", format!("/users/{name}/keys/{key}"), json!(null));
            }
        }
        if round.is_multiple_of(3) {
            authz_request("DELETE", format!("/users/{name}"), json!(null));
        }
    }
}

fn killed_at_random(database: &Database, kills: u32) {
    let department = Department::new();
    let instance = department.instance(database);
    instance.service.run();
    let (stop, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|threads| {
        for lane in 0..6 {
            let (department, instance, stop, done) = (&department, &instance, &stop, &done);
            threads.spawn(move || work(department, instance, lane, stop, done));
        }
        let mut moment = 0x9e37_79b9_u32;
        for _ in 0..kills {
            // xorshift: anywhere between two flushes, and repeatable.
            moment ^= moment << 13;
            moment ^= moment >> 17;
            moment ^= moment << 5;
            std::thread::sleep(Duration::from_millis(400 + u64::from(moment % 1500)));
            let log = instance.service.kill();
            assert!(!log.contains("panicked"), "{log}");
            instance.service.run();
        }
        std::thread::sleep(Duration::from_millis(500));
        instance.service.kill();
        stop.store(true, Ordering::Relaxed);
    });
    assert!(done.load(Ordering::Relaxed) > 20, "there was no load: {done:?}");
    instance.service.run();
    department.accounted_for(&instance, "after the last restart");
    // It goes on working.
    instance.done("POST", "/users", &json!({"name": "dirk-after"}));
    instance.service.stop();
}

#[test]
fn kill_9_at_random_under_load_on_sqlite() {
    killed_at_random(&Database::Sqlite, 6);
}

#[test]
fn kill_9_at_random_under_load_on_postgresql() {
    killed_at_random(&Database::Postgres(Postgres::shared().database()), 4);
}
