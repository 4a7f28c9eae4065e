//! A PostgreSQL that takes no writes for a while, or is away: it is called what it is, and the service is ready again when the
//! database is.

use std::time::{Duration, Instant};

use iam_sorry_core::api::ProblemCode;
use iam_sorry_store::{Settings, Store};
use testkit::Postgres;

use crate::scene::{Instance, Scene};

fn unready(running: &Instance) -> String {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Err(refusal) = running.service.ready() {
            return refusal.detail;
        }
        assert!(Instant::now() < deadline, "it never notices");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_database_that_was_read_only_is_used_again_at_once() {
    let scene = Scene::new();
    let postgres = Postgres::shared();
    let url = postgres.database();
    let name = url.rsplit('/').next().unwrap().to_owned();
    let settings = Settings::postgres(url.into(), None).unwrap();
    Store::migrate(&settings).unwrap();
    let running = scene.start_on(&settings, true);
    running.create("dirk-a").unwrap();
    let read_only = |to: &str| {
        postgres.sql("postgres", &format!("ALTER DATABASE {name} SET default_transaction_read_only = {to}"));
        let others = format!("FROM pg_stat_activity WHERE datname = '{name}'");
        postgres.sql("postgres", &format!("SELECT pg_terminate_backend(pid) {others}"));
    };
    read_only("on");
    let detail = unready(&running);
    assert!(detail.contains("read-only") && !detail.contains("disk"), "{detail}");
    let refusal = running.create("dirk-b").unwrap_err();
    assert_eq!(refusal.code, ProblemCode::AuditUnavailable, "{refusal}");
    assert!(refusal.detail.contains("read-only") && !refusal.detail.contains("disk"), "{refusal}");
    read_only("off");
    running.ready_again();
    running.create("dirk-b").unwrap();
}

#[test]
fn a_database_that_was_away_is_used_again_at_once() {
    let scene = Scene::new();
    let postgres = Postgres::start();
    let settings = Settings::postgres(postgres.database().into(), None).unwrap();
    Store::migrate(&settings).unwrap();
    let running = scene.start_on(&settings, true);
    running.create("dirk-a").unwrap();
    postgres.kill();
    let detail = unready(&running);
    assert!(detail.contains("database can't be reached"), "{detail}");
    // Long enough for every pause between attempts to have grown to its longest.
    std::thread::sleep(Duration::from_secs(6));
    postgres.up();
    running.ready_again();
    running.create("dirk-b").unwrap();
}
