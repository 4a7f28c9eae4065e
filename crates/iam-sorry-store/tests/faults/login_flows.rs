//! What lies between two steps of a sign-in, while the database is killed, restarted and failed over: it is there, and it
//! serves once.

use std::time::{Duration, Instant};

use iam_sorry_core::audit::Phase;
use iam_sorry_store::{FlowCaps, FlowKind, LoginFlow, Settings, Store};
use testkit::Postgres;

use crate::rig::{block_on, event, flow, patient, session};

async fn begin(store: &Store, id: &str) -> LoginFlow {
    let made = flow(FlowKind::SshLogin, id, i64::MAX);
    store.begin_login_flow(made.clone(), "192.0.2.1", 0, FlowCaps::default()).await.unwrap();
    made
}

/// Exactly one of many that try at once gets it.
async fn taken_once(store: &Store, flow: &LoginFlow) {
    let takes: Vec<_> = (0..8)
        .map(|_| {
            let (store, key) = (store.clone(), flow.key.clone());
            tokio::spawn(async move { store.take_login_flow(key).await.unwrap() })
        })
        .collect();
    let mut taken = Vec::new();
    for take in takes {
        taken.extend(take.await.unwrap());
    }
    assert_eq!(taken, std::slice::from_ref(flow));
}

async fn answers(store: &Store) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while store.beat().await.is_err() {
        assert!(Instant::now() < deadline, "the store works again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[test]
fn a_flow_serves_once_over_a_restart_of_the_server() {
    let postgres = Postgres::start();
    let settings = patient(Settings::postgres(postgres.database().into(), None).unwrap());
    Store::migrate(&settings).unwrap();
    block_on(async {
        let store = Store::open(&settings, "one").unwrap();
        let (waits, used) = (begin(&store, "waits").await, begin(&store, "used").await);
        taken_once(&store, &used).await;
        tokio::task::block_in_place(|| postgres.kill());
        tokio::task::block_in_place(|| postgres.up());
        answers(&store).await;
        assert_eq!(store.take_login_flow(used.key).await.unwrap(), None, "used before the server was killed");
        taken_once(&store, &waits).await;
    });
}

/// kill -9 right when flows are taken: who was told that it is taken is the only one, and who was told nothing may begin anew.
#[test]
fn a_flow_that_is_taken_while_the_server_is_killed_serves_once() {
    let postgres = Postgres::start();
    let settings = patient(Settings::postgres(postgres.database().into(), None).unwrap());
    Store::migrate(&settings).unwrap();
    block_on(async {
        let store = Store::open(&settings, "one").unwrap();
        for round in 0..5 {
            let mut flows = Vec::new();
            for number in 0..40 {
                flows.push(begin(&store, &format!("{round}-{number}")).await);
            }
            let tries: Vec<_> = flows
                .iter()
                .flat_map(|flow| [flow.key.clone(), flow.key.clone()])
                .map(|key| {
                    let store = store.clone();
                    tokio::spawn(async move { (key.clone(), store.take_login_flow(key).await) })
                })
                .collect();
            tokio::task::block_in_place(|| postgres.kill());
            tokio::task::block_in_place(|| postgres.up());
            answers(&store).await;
            let mut taken = Vec::new();
            for attempt in tries {
                let (key, answer) = attempt.await.unwrap();
                taken.extend(answer.ok().flatten().map(|_| key));
            }
            for flow in &flows {
                let before = taken.iter().filter(|key| **key == flow.key).count();
                let after = usize::from(store.take_login_flow(flow.key.clone()).await.unwrap().is_some());
                assert!(before + after <= 1, "{flow:?}: {before} before, {after} after");
            }
        }
    });
}

/// The standby has what the session's record was written after, so a flow that led to a session is gone there, too; one
/// that nobody has taken is there.
#[test]
fn a_flow_serves_once_over_a_failover() {
    let primary = Postgres::start();
    let url = primary.database();
    let database = url.rsplit('/').next().unwrap();
    Store::migrate(&patient(Settings::postgres(url.clone().into(), None).unwrap())).unwrap();
    let standby = primary.standby();
    let both = Postgres::url_of_all(&[&primary, &standby], database);
    let settings = patient(Settings::postgres(both.into(), None).unwrap());
    block_on(async {
        let store = Store::open(&settings, "one").unwrap();
        let (waits, used) = (begin(&store, "waits").await, begin(&store, "used").await);
        taken_once(&store, &used).await;
        let record = event(Phase::Event, "alice", "sign-in", "");
        store.create_session(session("alice", 100), record).await.unwrap();
        // The record is the last that was written: who has it has all before it.
        let there = || standby.sql(database, "SELECT count(*) FROM sessions") == "1";
        let deadline = Instant::now() + Duration::from_secs(60);
        while !tokio::task::block_in_place(there) {
            assert!(Instant::now() < deadline, "the standby never has the session");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        tokio::task::block_in_place(|| primary.kill());
        tokio::task::block_in_place(|| standby.promote());
        answers(&store).await;
        assert_eq!(store.take_login_flow(used.key).await.unwrap(), None, "a session came of it before");
        taken_once(&store, &waits).await;
    });
}
