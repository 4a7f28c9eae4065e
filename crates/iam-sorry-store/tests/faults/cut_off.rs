//! Two instances on one PostgreSQL, the wire to one of them cut: silence, no error. It stops in time, the other goes on and
//! takes over, and what the first still wants to write is fenced when its wire heals.

use std::time::{Duration, Instant};

use iam_sorry_core::audit::Phase;
use iam_sorry_store::{OperationState, Settings, Store, StoreError};
use testkit::Postgres;

use crate::rig::{assert_fenced, block_on, event, finish, operation, patient, whole_trail};

/// Long enough for a busy machine, short enough for a test.
const TIMEOUT: Duration = Duration::from_secs(4);

/// Whatever takes longer hangs, even on a machine with other work.
const HANGS: Duration = Duration::from_secs(90);

#[test]
fn an_instance_that_is_cut_off_is_fenced() {
    let postgres = Postgres::shared();
    let url = postgres.database();
    let cutter = postgres.cutter();
    let near = patient(Settings::postgres(url.clone().into(), None).unwrap());
    let database = url.rsplit('/').next().unwrap();
    let far = Settings { timeout: TIMEOUT, ..Settings::postgres(cutter.url(database).into(), None).unwrap() };
    Store::migrate(&near).unwrap();
    block_on(async {
        let (cut, live) = (Store::open(&far, "cut").unwrap(), Store::open(&near, "live").unwrap());
        let (new, intent) = operation("lab-anna");
        cut.begin(new.clone(), intent).await.unwrap();

        // Cut in the middle of its work, so that the server may be left with a transaction that holds the chain's head.
        let busy = (0..8).map(|_| {
            let cut = cut.clone();
            tokio::spawn(async move {
                while cut.record(vec![event(Phase::Event, "alice", "x", "")]).await.is_ok() {}
            })
        });
        let busy: Vec<_> = busy.collect();
        tokio::time::sleep(Duration::from_millis(200)).await;
        cutter.cut();

        // It learns by itself, within its time.
        let learns = async {
            assert!(matches!(cut.beat().await, Err(StoreError::Unavailable(_))));
            assert!(matches!(cut.operation(&new.id).await, Err(StoreError::Unavailable(_))));
            for task in busy {
                task.await.unwrap();
            }
        };
        tokio::time::timeout(HANGS, learns).await.expect("nothing waits for ever");

        // The other is held up no longer than the server waits for a client that has gone silent.
        let deadline = Instant::now() + HANGS;
        while live.beat().await.is_err() {
            assert!(Instant::now() < deadline, "the lock was never let go");
        }
        while live.dead_instances(Duration::from_secs(1)).await.ok().is_none_or(|dead| dead != ["cut"]) {
            assert!(Instant::now() < deadline);
            let _ = live.beat().await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let seen = live.operation(&new.id).await.unwrap().unwrap();
        let claimed = live.claim(&seen, Duration::from_secs(1)).await.unwrap().expect("claimed");
        let mut undone = finish(&new);
        undone.epoch = claimed.epoch;
        undone.state = OperationState::Undone;

        // The wire heals while the other is still at work on it.
        cutter.heal();
        let deadline = Instant::now() + HANGS;
        while cut.beat().await.is_err() {
            assert!(Instant::now() < deadline, "it comes back by itself");
        }
        assert_fenced(cut.note(&new.id, 0, "{}".into()).await);
        assert_fenced(cut.finish(finish(&new)).await);
        live.finish(undone).await.unwrap();
        assert_fenced(cut.finish(finish(&new)).await);
        assert_eq!(live.operation(&new.id).await.unwrap().unwrap().state, OperationState::Undone);
        whole_trail(&live).await;
    });
}
