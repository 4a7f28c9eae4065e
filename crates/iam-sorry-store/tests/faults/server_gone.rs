//! PostgreSQL killed under load and started again: clear answers meanwhile, nothing lost that was answered, and the same
//! store works again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use iam_sorry_store::{OperationState, Settings, Store, StoreError};
use testkit::Postgres;

use crate::rig::{block_on, finish, operation, patient, whole_trail};

#[test]
fn a_server_that_is_killed_and_returns_loses_nothing() {
    let postgres = Postgres::start();
    let settings = patient(Settings::postgres(postgres.database().into(), None).unwrap());
    Store::migrate(&settings).unwrap();
    block_on(async {
        let store = Store::open(&settings, "one").unwrap();
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let tasks: Vec<_> = (0..16)
            .map(|task| {
                let (store, stop, done) = (store.clone(), Arc::clone(&stop), Arc::clone(&done));
                tokio::spawn(async move { work(&store, task, &stop, &done).await })
            })
            .collect();
        for _ in 0..3 {
            more(&done, 50).await;
            tokio::task::block_in_place(|| postgres.kill());
            tokio::time::sleep(Duration::from_millis(2_500)).await;
            // Absent for longer than patience: each answer says so.
            let refused = store.beat().await.unwrap_err();
            assert!(matches!(refused, StoreError::Unavailable(_)), "{refused:?}");
            assert!(matches!(store.count_records().await, Err(StoreError::Unavailable(_))));
            tokio::task::block_in_place(|| postgres.up());
            let mut tries = 0;
            while store.beat().await.is_err() {
                tries += 1;
                assert!(tries < 1_000, "it comes back by itself");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        more(&done, 50).await;
        stop.store(true, Ordering::SeqCst);
        let mut answered = Vec::new();
        for task in tasks {
            answered.extend(task.await.unwrap());
        }
        whole_trail(&store).await;
        for (id, closed) in answered {
            let found = store.operation(&id).await.unwrap().expect("what was answered is there");
            assert!(!closed || found.state == OperationState::Done, "{id}");
        }
    });
}

/// Waits until so many more were answered.
async fn more(done: &AtomicUsize, count: usize) {
    let goal = done.load(Ordering::SeqCst) + count;
    let wait = async {
        while done.load(Ordering::SeqCst) < goal {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait).await.expect("the store answers");
}

/// What was answered: operations, and whether their end was.
async fn work(store: &Store, task: usize, stop: &AtomicBool, done: &AtomicUsize) -> Vec<(String, bool)> {
    let mut answered = Vec::new();
    for number in 0_usize.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let (new, intent) = operation(&format!("u-{task}-{number}"));
        match store.begin(new.clone(), intent).await {
            Ok(_) => {}
            Err(StoreError::Unavailable(_)) => {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
            Err(other) => panic!("{other:?}"),
        }
        match store.finish(finish(&new)).await {
            Ok(_) => {
                done.fetch_add(1, Ordering::SeqCst);
                answered.push((new.id, true));
            }
            Err(StoreError::Unavailable(_)) => answered.push((new.id, false)),
            Err(other) => panic!("{other:?}"),
        }
    }
    answered
}
