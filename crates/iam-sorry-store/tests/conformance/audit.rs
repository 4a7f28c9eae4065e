//! The trail: pages, ranges, counts, checkpoints, sinks.

use iam_sorry_core::audit::{CheckpointSigner, Event, Phase, new_key_pem};
use iam_sorry_store::{AuditFilter, Store, StoreError};
use proptest::prelude::*;

use crate::on_both;
use crate::rig::{Rig, block_on, event, page, whole_chain};

on_both! {
    the_first_record_begins_the_chain,
    pages_go_back_in_time_and_miss_nothing,
    a_page_goes_on_where_it_ended_while_records_come_in,
    every_filter_narrows,
    filters_and_counts_are_right_at_every_length_of_the_trail,
    a_cursor_of_another_list_is_refused,
    ranges_are_in_the_chains_order,
    days_are_counted_without_intents,
    names_of_any_length_and_form_are_kept,
    checkpoints_come_back_and_verify,
    sinks_keep_their_places,
    a_chain_goes_on_after_a_restart,
    a_command_beside_the_service_writes_into_the_same_chain,
}

fn at(time_ms: i64, name: &str, action: &str, resource: &str) -> Event {
    Event { time_ms, ..event(Phase::Event, name, action, resource) }
}

async fn the_first_record_begins_the_chain(rig: &Rig) {
    let store = rig.open("one");
    assert_eq!(store.head().await.unwrap(), (0, store.chain_id().genesis()));
    assert_eq!(store.record(Vec::new()).await.unwrap(), Vec::<u64>::new());
    assert_eq!(store.record(vec![at(1, "alice", "sign-in", "")]).await.unwrap(), [1]);
    whole_chain(&store).await;
}

async fn seqs(store: &Store, filter: &AuditFilter, limit: u32) -> Vec<u64> {
    let (mut all, mut cursor) = (Vec::new(), None);
    loop {
        let page = store.audit_page(filter.clone(), page(cursor, limit)).await.unwrap();
        assert!(page.items.len() <= limit as usize);
        all.extend(page.items.iter().map(|record| record.seq));
        cursor = page.next;
        if cursor.is_none() {
            return all;
        }
    }
}

async fn pages_go_back_in_time_and_miss_nothing(rig: &Rig) {
    let store = rig.open("one");
    // Several at the same moment, and one instance's clock a little behind.
    let times = [10, 10, 10, 20, 15, 20, 30, 30, 5];
    store.record(times.iter().map(|&time| at(time, "alice", "x", "")).collect()).await.unwrap();
    for limit in [1, 2, 3, 9, 10] {
        assert_eq!(seqs(&store, &AuditFilter::default(), limit).await, [8, 7, 6, 4, 5, 3, 2, 1, 9]);
    }
}

async fn a_page_goes_on_where_it_ended_while_records_come_in(rig: &Rig) {
    let store = rig.open("one");
    store.record((1..=4).map(|time| at(time, "alice", "x", "")).collect()).await.unwrap();
    let alice = AuditFilter { name: Some("alice".into()), ..AuditFilter::default() };
    // So many that what was looked at one by one is filed between the pages.
    for (filter, more) in [(AuditFilter::default(), 1), (alice, 300)] {
        let first = store.audit_page(filter.clone(), page(None, 2)).await.unwrap();
        let seq = first.items[1].seq;
        store.record((0..more).map(|n| at(5 + n, "alice", "x", "")).collect()).await.unwrap();
        let second = store.audit_page(filter, page(first.next, 2)).await.unwrap();
        assert_eq!(second.items.iter().map(|record| record.seq).collect::<Vec<_>>(), [seq - 1, seq - 2]);
        assert_eq!(second.next.is_none(), seq == 3, "only the first trail ends with this page");
    }
}

async fn every_filter_narrows(rig: &Rig) {
    let store = rig.open("one");
    store
        .record(vec![
            at(10, "alice", "create-user", "lab-anna"),
            at(20, "alice", "delete-user", "lab-anna"),
            at(30, "bert", "create-user", "lab-bert"),
            at(40, "bert", "sign-in", ""),
        ])
        .await
        .unwrap();
    let none = AuditFilter::default;
    let some = |text: &str| Some(text.to_owned());
    for (filter, expected) in [
        (AuditFilter { person: some("corp/uuid-alice"), ..none() }, vec![2, 1]),
        (AuditFilter { name: some("bert"), ..none() }, vec![4, 3]),
        (AuditFilter { action: some("create-user"), ..none() }, vec![3, 1]),
        (AuditFilter { resource: some("lab-anna"), ..none() }, vec![2, 1]),
        (AuditFilter { from_ms: Some(20), ..none() }, vec![4, 3, 2]),
        (AuditFilter { to_ms: Some(20), ..none() }, vec![1]),
        (AuditFilter { from_ms: Some(20), to_ms: Some(31), name: some("alice"), ..none() }, vec![2]),
        (AuditFilter { action: some("create-user"), resource: some("lab-bert"), ..none() }, vec![3]),
        (AuditFilter { name: some("%"), ..none() }, vec![]),
        (AuditFilter { name: some("ALICE"), ..none() }, vec![]),
        (AuditFilter { name: some("' OR 1=1 --"), ..none() }, vec![]),
    ] {
        for limit in [1, 50] {
            assert_eq!(seqs(&store, &filter, limit).await, expected, "{filter:?}");
        }
    }
}

/// Records are filed for looking up a block at a time: around the ends of blocks none is missed, and none given twice.
async fn filters_and_counts_are_right_at_every_length_of_the_trail(rig: &Rig) {
    const DAY: i64 = 86_400_000;
    let store = rig.open("one");
    let mut events: Vec<Event> = Vec::new();
    for size in [3, 252, 1, 1, 254, 2, 600, 1] {
        let more = (events.len()..events.len() + size).map(|n| {
            // Instances' clocks are apart, so that the order of times is not that of places.
            let time = 100 * DAY + n as i64 * 7_000_000 - (n % 5) as i64 * 9_000_000;
            let action = ["sign-in", "create-user", "list"][n % 3];
            let phase = [Phase::Intent, Phase::Outcome, Phase::Event][n % 7 % 3];
            Event { phase, ..at(time, ["alice", "bert"][n % 2], action, ["", "lab-a"][n / 2 % 2]) }
        });
        let more: Vec<Event> = more.collect();
        store.record(more.clone()).await.unwrap();
        events.extend(more);
        for bits in 0..64_usize {
            let given = |bit: usize, text: &str| (bits >> bit & 1 == 1).then(|| text.to_owned());
            let filter = AuditFilter {
                person: given(0, "corp/uuid-alice"),
                name: given(1, "alice"),
                action: given(2, "create-user"),
                resource: given(3, "lab-a"),
                from_ms: given(4, "").map(|_| 102 * DAY),
                // What ends within a day is counted in another way than what ends at midnight.
                to_ms: given(5, "").map(|_| 118 * DAY - (bits % 2) as i64),
            };
            let is =
                |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|wanted| wanted == found);
            let mut expected: Vec<(i64, u64, &Event)> = (1..)
                .zip(&events)
                .filter(|(_, event)| {
                    is(&filter.person, &event.person.id)
                        && is(&filter.name, &event.person.name)
                        && is(&filter.action, &event.action)
                        && is(&filter.resource, &event.resource)
                        && filter.from_ms.is_none_or(|from| event.time_ms >= from)
                        && filter.to_ms.is_none_or(|to| event.time_ms < to)
                })
                .map(|(seq, event)| (event.time_ms, seq, event))
                .collect();
            expected.sort_by_key(|&(time, seq, _)| std::cmp::Reverse((time, seq)));
            let places: Vec<u64> = expected.iter().map(|&(_, seq, _)| seq).collect();
            assert_eq!(seqs(&store, &filter, 113).await, places, "{} records, {filter:?}", events.len());
            let mut days = std::collections::BTreeMap::new();
            for (time, _, event) in expected.iter().filter(|(_, _, event)| event.phase != Phase::Intent) {
                *days.entry((time / DAY * DAY, event.action.clone())).or_insert(0) += 1;
            }
            let counts = store.audit_counts(filter.clone()).await.unwrap();
            let counts: Vec<_> =
                counts.into_iter().map(|one| ((one.day_ms, one.action), one.count)).collect();
            assert_eq!(counts, Vec::from_iter(days), "{} records, {filter:?}", events.len());
        }
    }
}

async fn a_cursor_of_another_list_is_refused(rig: &Rig) {
    let store = rig.open("one");
    store.record((1..=3).map(|time| at(time, "alice", "x", "")).collect()).await.unwrap();
    let next = store.audit_page(AuditFilter::default(), page(None, 1)).await.unwrap().next;
    assert!(next.is_some());
    for cursor in [next, Some("garbage".into()), Some(String::new()), Some("=".repeat(5000))] {
        assert_eq!(store.list_sessions(None, page(cursor.clone(), 1)).await, Err(StoreError::BadCursor));
        assert_eq!(store.list_users(None, None, page(cursor.clone(), 1)).await, Err(StoreError::BadCursor));
        assert_eq!(store.list_grants(None, page(cursor, 1)).await, Err(StoreError::BadCursor));
    }
}

async fn ranges_are_in_the_chains_order(rig: &Rig) {
    let store = rig.open("one");
    store.record([30, 10, 20].map(|time| at(time, "alice", "x", "")).into()).await.unwrap();
    let range = store.audit_range(2, 10).await.unwrap();
    assert_eq!(range.iter().map(|record| record.seq).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(store.audit_range(1, 2).await.unwrap().len(), 2);
    assert!(store.audit_range(4, 10).await.unwrap().is_empty());
    assert!(store.audit_range(u64::MAX, 10).await.unwrap().is_empty());
    whole_chain(&store).await;
}

async fn days_are_counted_without_intents(rig: &Rig) {
    let store = rig.open("one");
    let day = 86_400_000;
    let mut intent = at(day, "alice", "create-user", "");
    intent.phase = Phase::Intent;
    let mut outcome = at(day + 1, "alice", "create-user", "");
    outcome.phase = Phase::Outcome;
    let others =
        [(2 * day - 1, "bert"), (2 * day, "alice")].map(|(time, name)| at(time, name, "sign-in", ""));
    store.record([vec![intent, outcome], others.into()].concat()).await.unwrap();
    let counts = |filter| async {
        let counts = store.audit_counts(filter).await.unwrap();
        counts.into_iter().map(|one| (one.day_ms, one.action, one.count)).collect::<Vec<_>>()
    };
    assert_eq!(
        counts(AuditFilter::default()).await,
        [(day, "create-user".into(), 1), (day, "sign-in".into(), 1), (2 * day, "sign-in".into(), 1)]
    );
    // Counted from the records where the filter is finer than the kept counts, and the same where it isn't.
    let all_day = AuditFilter { from_ms: Some(1), ..AuditFilter::default() };
    assert_eq!(counts(all_day).await, counts(AuditFilter::default()).await);
    let alice = AuditFilter {
        person: Some("corp/uuid-alice".into()),
        to_ms: Some(2 * day),
        ..AuditFilter::default()
    };
    assert_eq!(counts(alice).await, [(day, "create-user".into(), 1)]);
    store.record(vec![at(2 * day, "alice", "sign-in", "")]).await.unwrap();
    let signed_in =
        AuditFilter { action: Some("sign-in".into()), from_ms: Some(2 * day), ..AuditFilter::default() };
    assert_eq!(counts(signed_in).await, [(2 * day, "sign-in".into(), 2)]);
    let mine = AuditFilter { name: Some("alice".into()), from_ms: Some(2 * day), ..AuditFilter::default() };
    assert_eq!(counts(mine).await, [(2 * day, "sign-in".into(), 2)]);
}

async fn names_of_any_length_and_form_are_kept(rig: &Rig) {
    let store = rig.open("one");
    let names = ["a".repeat(60_000), "nul\0inside".into(), "ü\u{202E}\u{FFFF}".into(), String::new()];
    for name in &names {
        store.record(vec![at(1, name, "sign-in", name)]).await.unwrap();
    }
    for (record, name) in whole_chain(&store).await.iter().zip(&names) {
        assert_eq!(record.event().unwrap().person.name, *name);
    }
    // They can be looked up, too.
    for (seq, name) in (1..).zip(&names) {
        let filter = AuditFilter { name: Some(name.clone()), ..AuditFilter::default() };
        assert_eq!(seqs(&store, &filter, 10).await, [seq]);
    }
}

async fn checkpoints_come_back_and_verify(rig: &Rig) {
    let store = rig.open("one");
    let signer = CheckpointSigner::from_pem(&new_key_pem(&[5; 32].into())).unwrap();
    assert_eq!(store.last_checkpoint().await.unwrap(), None);
    let mut before = 0;
    let mut made = Vec::new();
    for _ in 0..3 {
        store.record(vec![at(1, "alice", "x", ""), at(2, "alice", "x", "")]).await.unwrap();
        let (seq, hash) = store.head().await.unwrap();
        let checkpoint = signer.sign(store.chain_id(), seq, hash, 7, before);
        store.add_checkpoint(checkpoint.clone()).await.unwrap();
        store.add_checkpoint(checkpoint.clone()).await.unwrap();
        before = seq;
        made.push(checkpoint);
    }
    assert_eq!(store.checkpoints(0, 10).await.unwrap(), made);
    assert_eq!(store.checkpoints(3, 1).await.unwrap(), made[1..2]);
    let last = store.last_checkpoint().await.unwrap().unwrap();
    assert_eq!(last, made[2]);
    assert!(last.verify(signer.public_key()));
}

async fn sinks_keep_their_places(rig: &Rig) {
    let store = rig.open("one");
    assert_eq!(store.sink_position("file").await.unwrap(), None);
    store.set_sink_position("file", 5).await.unwrap();
    store.set_sink_position("syslog", 2).await.unwrap();
    store.set_sink_position("file", 6).await.unwrap();
    assert_eq!(store.sink_position("file").await.unwrap(), Some(6));
    assert_eq!(store.sink_position("syslog").await.unwrap(), Some(2));
}

async fn a_chain_goes_on_after_a_restart(rig: &Rig) {
    for run in 0..3 {
        let store = rig.open(&format!("run-{run}"));
        store.record(vec![at(run, "alice", "x", "")]).await.unwrap();
        store.close().await;
    }
    assert_eq!(whole_chain(&rig.open("last")).await.len(), 3);
}

async fn a_command_beside_the_service_writes_into_the_same_chain(rig: &Rig) {
    let service = rig.open("service");
    let command = Store::open_beside(&rig.settings, "audit-export").unwrap();
    let tasks = (0..40).map(|number| {
        let store = if number % 2 == 0 { service.clone() } else { command.clone() };
        tokio::spawn(async move { store.record(vec![at(number, "alice", "x", "")]).await.unwrap() })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    assert_eq!(whole_chain(&service).await.len(), 40);
    assert_eq!(service.instances_alive(std::time::Duration::from_secs(60)).await.unwrap(), ["service"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever comes as a cursor: an error or a page, never a panic and never another list's records.
    #[test]
    fn any_cursor_is_an_error_or_a_place(cursor in "[A-Za-z0-9_-]{0,40}|\\PC{0,20}") {
        static RIG: std::sync::OnceLock<(Rig, Store)> = std::sync::OnceLock::new();
        let (_, store) = RIG.get_or_init(|| {
            let rig = Rig::sqlite();
            let store = rig.open("one");
            (rig, store)
        });
        let result = block_on(store.audit_page(AuditFilter::default(), page(Some(cursor), 5)));
        prop_assert!(matches!(result, Ok(_) | Err(StoreError::BadCursor)));
    }
}
