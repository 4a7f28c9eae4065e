//! Many at once: the chain stays whole, and races have one winner.

use std::collections::BTreeMap;

use iam_sorry_core::audit::{Phase, Record};
use iam_sorry_store::{Begun, Store};

use crate::on_both;
use crate::rig::{Rig, event, finish, grant, operation, page, session, whole_trail};

on_both! {
    a_crowd_on_two_stores_leaves_one_whole_trail,
    a_resource_has_one_holder_whoever_asks,
    a_key_begins_one_operation_whoever_asks,
    one_that_fails_spoils_nobody_elses,
    one_that_breaks_a_rule_of_the_database_spoils_nobody_elses,
}

/// Two stores on one database, which on SQLite is one instance and a command beside it.
fn two(rig: &Rig) -> [Store; 2] {
    let other =
        if rig.is_postgres() { rig.open("two") } else { Store::open_beside(&rig.settings, "two").unwrap() };
    [rig.open("one"), other]
}

/// The trail without the records that close a command's lanes.
async fn written(store: &Store) -> Vec<Record> {
    let mut records = whole_trail(store).await;
    records.retain(|record| record.event().unwrap().action != "lane-closed");
    records
}

async fn a_crowd_on_two_stores_leaves_one_whole_trail(rig: &Rig) {
    let stores = two(rig);
    let tasks = (0..64_usize).map(|number| {
        let store = stores[number % 2].clone();
        tokio::spawn(async move {
            for round in 0..5 {
                let (new, intent) = operation(&format!("user-{number}-{round}"));
                assert!(matches!(store.begin(new.clone(), intent).await.unwrap(), Begun::New));
                store.note(&new.id, 0, "{}".into()).await.unwrap();
                let mut end = finish(&new);
                end.grants = vec![grant(&new.id, 1)];
                store.finish(end).await.unwrap();
                store.record(vec![event(Phase::Event, "alice", "whoami", "")]).await.unwrap();
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let chain = written(&stores[0]).await;
    assert_eq!(chain.len(), 64 * 5 * 3);
    // Each operation has its intent and its outcome, in that order.
    let mut phases: BTreeMap<String, Vec<Phase>> = BTreeMap::new();
    for record in &chain {
        let event = record.event().unwrap();
        if let Some(operation) = event.operation {
            phases.entry(operation).or_default().push(event.phase);
        }
    }
    assert_eq!(phases.len(), 64 * 5);
    assert!(phases.values().all(|phases| *phases == [Phase::Intent, Phase::Outcome]));
    assert!(stores[1].open_operations().await.unwrap().is_empty());
}

async fn a_resource_has_one_holder_whoever_asks(rig: &Rig) {
    let stores = two(rig);
    let tasks = (0..32_usize).map(|number| {
        let store = stores[number % 2].clone();
        tokio::spawn(async move {
            let (new, intent) = operation("lab-anna");
            (new.id.clone(), store.begin(new, intent).await.unwrap())
        })
    });
    let (mut winners, mut holders) = (Vec::new(), Vec::new());
    for task in tasks.collect::<Vec<_>>() {
        match task.await.unwrap() {
            (id, Begun::New) => winners.push(id),
            (_, Begun::Busy(holder)) => holders.push(holder),
            (_, Begun::Seen(seen)) => panic!("{seen:?}"),
        }
    }
    assert_eq!(winners.len(), 1);
    assert!(holders.iter().all(|holder| *holder == winners[0]));
    assert_eq!(written(&stores[0]).await.len(), 1);
}

async fn a_key_begins_one_operation_whoever_asks(rig: &Rig) {
    let stores = two(rig);
    let tasks = (0..32_usize).map(|number| {
        let store = stores[number % 2].clone();
        tokio::spawn(async move {
            let (mut new, intent) = operation(&format!("user-{number}"));
            new.idempotency_key = "the-same".into();
            store.begin(new, intent).await.unwrap()
        })
    });
    let (mut new, mut seen) = (0, 0);
    for task in tasks.collect::<Vec<_>>() {
        match task.await.unwrap() {
            Begun::New => new += 1,
            Begun::Seen(_) => seen += 1,
            Begun::Busy(holder) => panic!("{holder}"),
        }
    }
    assert_eq!((new, seen), (1, 31));
    assert_eq!(written(&stores[0]).await.len(), 1);
    assert_eq!(stores[0].list_grants(None, page(None, 5)).await.unwrap().items.len(), 0);
}

async fn one_that_fails_spoils_nobody_elses(rig: &Rig) {
    let store = rig.open("one");
    // Finishing what was never begun fails; it shares batches with what succeeds.
    let tasks = (0..100_usize).map(|number| {
        let store = store.clone();
        tokio::spawn(async move {
            if number % 5 == 0 {
                let (new, _) = operation("never-begun");
                store.finish(finish(&new)).await.unwrap_err();
            } else {
                let record = event(Phase::Event, "alice", "x", "");
                store.record(vec![record.clone(), record]).await.unwrap();
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    assert_eq!(whole_trail(&store).await.len(), 160);
}

async fn one_that_breaks_a_rule_of_the_database_spoils_nobody_elses(rig: &Rig) {
    let store = rig.open("one");
    let taken = session("alice", 1);
    store.create_session(taken.clone(), event(Phase::Event, "alice", "sign-in", "")).await.unwrap();
    let tasks = (0..100_usize).map(|number| {
        let (store, taken) = (store.clone(), taken.token_hash);
        tokio::spawn(async move {
            let mut made = session("bert", 2);
            if number % 7 == 0 {
                made.token_hash = taken;
            }
            let record = event(Phase::Event, "bert", "sign-in", "");
            let done = store.create_session(made.clone(), record).await;
            assert_eq!(done.is_ok(), number % 7 != 0, "{done:?}");
            assert_eq!(store.session(&made.id).await.unwrap().is_some(), done.is_ok());
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    assert_eq!(whole_trail(&store).await.len(), 1 + 85);
}
