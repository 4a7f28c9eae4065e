//! Heartbeats, leases, and the dead.

use std::time::Duration;

use iam_sorry_core::audit::Phase;
use iam_sorry_store::{RecordedState, Running, Store, StoreError};

use crate::on_both;
use crate::rig::{Rig, block_on, event, operation};

const LONG: Duration = Duration::from_secs(60);

on_both! {
    an_instance_lives_from_its_opening,
    the_dead_are_those_with_something_left_to_do,
    what_one_leaves_open_is_taken_over_once_it_was_silent,
    a_lease_is_held_by_one,
    an_old_lease_falls_to_the_next,
    a_start_without_a_stop_is_found_once,
    a_state_is_kept_with_its_record,
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

async fn what_one_leaves_open_is_taken_over_once_it_was_silent(rig: &Rig) {
    let leaving = rig.open("leaving");
    let (new, intent) = operation("lab-anna");
    leaving.begin(new, intent).await.unwrap();
    leaving.leave().await.unwrap();
    leaving.close().await;
    let live = rig.open("live");
    assert!(live.dead_instances(LONG).await.unwrap().is_empty(), "a request of it may still be on its way");
    assert_eq!(live.dead_instances(Duration::ZERO).await.unwrap(), ["leaving"]);
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

async fn a_start_without_a_stop_is_found_once(rig: &Rig) {
    let record = |action: &str| vec![event(Phase::Event, "", action, "")];
    for (name, stops) in [("tidy", true), ("killed", false)] {
        let store = rig.open(name);
        store.record_states(record("service-started"), Vec::new(), Running::Started).await.unwrap();
        store.beat().await.unwrap();
        if stops {
            store.record_states(record("service-stopped"), Vec::new(), Running::Stopped).await.unwrap();
        }
        store.close().await;
    }
    rig.open("never started").close().await;
    let next = rig.open("next");
    next.record_states(record("service-started"), Vec::new(), Running::Started).await.unwrap();
    assert_eq!(next.lost_instances(LONG).await.unwrap(), [], "it has beaten within the minute");
    let lost = next.lost_instances(Duration::ZERO).await.unwrap();
    assert_eq!(lost.iter().map(|lost| lost.id.as_str()).collect::<Vec<_>>(), ["killed"]);
    assert!(lost[0].beat_ms.unwrap() > 1_700_000_000_000);
    let before = next.count_records().await.unwrap();
    let event = record("service-lost").remove(0);
    assert!(
        !next.record_lost("killed", LONG, event.clone()).await.unwrap(),
        "it has beaten within the minute"
    );
    assert!(next.record_lost("killed", Duration::ZERO, event.clone()).await.unwrap());
    assert!(!next.record_lost("killed", Duration::ZERO, event).await.unwrap(), "another instance was faster");
    assert_eq!(next.count_records().await.unwrap(), before + 1);
    assert_eq!(next.lost_instances(Duration::ZERO).await.unwrap(), []);
}

async fn a_state_is_kept_with_its_record(rig: &Rig) {
    let store = rig.open("one");
    assert_eq!(store.recorded_state("rules").await.unwrap(), None);
    for (round, text) in [(1, "{}"), (2, "{\"whole\":\"ab\"}")] {
        let state = RecordedState { name: "rules".into(), digests: text.into() };
        let events = vec![event(Phase::Event, "", "rules-changed", "")];
        store.record_states(events, vec![state], Running::Unchanged).await.unwrap();
        assert_eq!(store.recorded_state("rules").await.unwrap().as_deref(), Some(text));
        assert_eq!(store.count_records().await.unwrap(), round);
    }
    assert_eq!(store.recorded_state("keys").await.unwrap(), None);
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
