//! Heartbeats, leases, and the dead.

use std::time::Duration;

use iam_sorry_store::{Store, StoreError};

use crate::on_both;
use crate::rig::{Rig, block_on, operation};

const LONG: Duration = Duration::from_secs(60);

on_both! {
    an_instance_lives_from_its_opening,
    the_dead_are_those_with_something_left_to_do,
    one_that_leaves_is_taken_over_at_once,
    a_lease_is_held_by_one,
    an_old_lease_falls_to_the_next,
}

async fn an_instance_lives_from_its_opening(rig: &Rig) {
    let store = rig.open("one");
    assert_eq!(store.instance(), "one");
    store.beat().await.unwrap();
    store.beat().await.unwrap();
    assert_eq!(store.instances_alive(LONG).await.unwrap(), ["one"]);
    assert!(store.instances_alive(Duration::ZERO).await.unwrap().is_empty());
    store.leave().await.unwrap();
    assert!(store.instances_alive(LONG).await.unwrap().is_empty());
}

async fn the_dead_are_those_with_something_left_to_do(rig: &Rig) {
    let idle = rig.open("idle");
    idle.close().await;
    let dying = rig.open("dying");
    let (new, intent) = operation("lab-anna");
    dying.begin(new, intent).await.unwrap();
    dying.close().await;

    let live = rig.open("live");
    let (new, intent) = operation("lab-bert");
    live.begin(new, intent).await.unwrap();
    assert!(live.dead_instances(LONG).await.unwrap().is_empty(), "it has beaten within the minute");
    assert_eq!(live.dead_instances(Duration::ZERO).await.unwrap(), ["dying"], "and it never names itself");
}

async fn one_that_leaves_is_taken_over_at_once(rig: &Rig) {
    let leaving = rig.open("leaving");
    let (new, intent) = operation("lab-anna");
    leaving.begin(new, intent).await.unwrap();
    leaving.leave().await.unwrap();
    leaving.close().await;
    let live = rig.open("live");
    assert_eq!(live.dead_instances(LONG).await.unwrap(), ["leaving"]);
}

async fn a_lease_is_held_by_one(rig: &Rig) {
    let one = rig.open("one");
    assert!(one.lease("reconciler", LONG).await.unwrap());
    assert!(one.lease("reconciler", LONG).await.unwrap(), "it may be prolonged");
    let two = Store::open_beside(&rig.settings, "two").unwrap();
    assert!(!two.lease("reconciler", LONG).await.unwrap());
    assert!(two.lease("checkpointer", LONG).await.unwrap());
    two.release("reconciler").await.unwrap();
    assert!(!two.lease("reconciler", LONG).await.unwrap(), "another's lease can't be given back");
    one.release("reconciler").await.unwrap();
    assert!(two.lease("reconciler", LONG).await.unwrap());
}

async fn an_old_lease_falls_to_the_next(rig: &Rig) {
    let one = rig.open("one");
    let two = Store::open_beside(&rig.settings, "two").unwrap();
    assert!(one.lease("reconciler", Duration::ZERO).await.unwrap());
    assert!(two.lease("reconciler", LONG).await.unwrap());
    assert!(!one.lease("reconciler", LONG).await.unwrap());
}

#[test]
fn a_second_instance_on_one_sqlite_is_refused() {
    let rig = Rig::sqlite();
    let first = rig.open("first");
    for result in [Store::open(&rig.settings, "second").map(drop), Store::migrate(&rig.settings).map(drop)] {
        let Err(StoreError::Taken(text)) = result else { panic!("{result:?}") };
        assert!(text.contains("PostgreSQL"), "{text}");
    }
    block_on(first.close());
    drop(rig.open("third"));
}
