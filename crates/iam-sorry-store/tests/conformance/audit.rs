//! The trail: pages, ranges, counts, checkpoints, sinks.

use iam_sorry_core::audit::{Checkpoint, CheckpointSigner, Event, Phase, new_key_pem};
use iam_sorry_store::{AuditFilter, SinkPosition, Store, StoreError, TrailPosition};
use proptest::prelude::*;

use crate::on_both;
use crate::rig::{Rig, block_on, event, page, verified, whole_trail};

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
    assert_eq!(store.count_records().await.unwrap(), 0);
    assert!(store.trail_state().await.unwrap().heads.is_empty());
    assert_eq!(store.record(Vec::new()).await.unwrap(), []);
    assert!(store.trail_state().await.unwrap().heads.is_empty(), "no lane without a record");
    let first = store.record(vec![at(1, "alice", "sign-in", "")]).await.unwrap();
    assert_eq!(crate::rig::seqs(&first), [1]);
    let record = whole_trail(&store).await.remove(0);
    assert_eq!((record.id(), record.previous), (first[0], store.chain_id().genesis(first[0].lane)));
    assert_eq!(record.links().unwrap().heads, Some(Default::default()), "it knows no other lane");
}

async fn seqs(store: &Store, filter: &AuditFilter, limit: u32) -> Vec<u64> {
    let (mut all, mut cursor) = (Vec::new(), None);
    loop {
        let page = store.audit_page(filter.clone(), page(cursor, limit)).await.unwrap();
        assert!(page.items.len() <= limit as usize);
        all.extend(page.items.iter().map(|entry| entry.record.seq));
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
        let seq = first.items[1].record.seq;
        store.record((0..more).map(|n| at(5 + n, "alice", "x", "")).collect()).await.unwrap();
        let second = store.audit_page(filter, page(first.next, 2)).await.unwrap();
        assert_eq!(second.items.iter().map(|it| it.record.seq).collect::<Vec<_>>(), [seq - 1, seq - 2]);
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
    let read = async |from: &TrailPosition, limit| {
        let part = store.read_trail(from, None, limit).await.unwrap();
        let mut position = part.start;
        part.records.iter().for_each(|record| position.pass(record));
        (part.records.iter().map(|it| it.record.seq).collect::<Vec<_>>(), position)
    };
    let (first, position) = read(&TrailPosition::default(), 2).await;
    assert_eq!(first, [1, 2]);
    assert_eq!(store.count_behind(&position).await.unwrap(), 1);
    let (second, end) = read(&position, 10).await;
    assert_eq!(second, [3]);
    assert_eq!(read(&end, 10).await, (vec![], store.trail_state().await.unwrap().end));
    let heads = store.heads_at(&position).await.unwrap();
    assert_eq!(store.position_of(&heads).await.unwrap(), Some(position), "made again of its states");
    whole_trail(&store).await;
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
    for (record, name) in whole_trail(&store).await.iter().zip(&names) {
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
    let mut made: Vec<Checkpoint> = Vec::new();
    for _ in 0..3 {
        store.record(vec![at(1, "alice", "x", ""), at(2, "alice", "x", "")]).await.unwrap();
        let heads = store.trail_state().await.unwrap().heads;
        let checkpoint = signer.sign(store.chain_id(), heads.clone(), 7, made.last());
        assert!(store.add_checkpoint(checkpoint.clone()).await.unwrap());
        assert!(!store.add_checkpoint(checkpoint.clone()).await.unwrap(), "there already");
        let other = signer.sign(store.chain_id(), heads, 8, made.last());
        assert!(!store.add_checkpoint(other).await.unwrap(), "another of the same number");
        made.push(checkpoint);
    }
    let read = async |from, limit| {
        let all = store.checkpoints(from, limit).await.unwrap();
        all.into_iter().map(|it| it.checkpoint).collect::<Vec<_>>()
    };
    assert_eq!(read(0, 10).await, made);
    assert_eq!(read(2, 1).await, made[1..2]);
    // What each covers.
    let all = store.checkpoints(1, 10).await.unwrap();
    let mut position = TrailPosition::default();
    let part = store.read_trail(&position, None, 10).await.unwrap();
    position = part.start;
    for (n, record) in (1..).zip(&part.records) {
        position.pass(record);
        let covered: Vec<bool> = all.iter().map(|one| position.covers(one)).collect();
        assert_eq!(covered, [n >= 2, n >= 4, n >= 6]);
    }
    let last = store.last_checkpoint().await.unwrap().unwrap();
    assert_eq!(last, made[2]);
    assert!(last.verify(signer.public_key()));
}

async fn sinks_keep_their_places(rig: &Rig) {
    let store = rig.open("one");
    assert_eq!(store.sink_position("file").await.unwrap(), None);
    let placed = store.record((1..=6).map(|time| at(time, "alice", "x", "")).collect()).await.unwrap();
    let part = store.read_trail(&TrailPosition::default(), None, 10).await.unwrap();
    let position = |count: usize| {
        let mut records = part.start.clone();
        part.records[..count].iter().for_each(|record| records.pass(record));
        SinkPosition { records, last: count.checked_sub(1).map(|n| placed[n]), checkpoint: count as u64 }
    };
    for (sink, count) in [("file", 5), ("syslog", 2), ("file", 6), ("other", 0)] {
        store.set_sink_position(sink, &position(count)).await.unwrap();
    }
    for (sink, count) in [("file", 6), ("syslog", 2), ("other", 0)] {
        assert_eq!(store.sink_position(sink).await.unwrap(), Some(position(count)));
    }
}

async fn a_chain_goes_on_after_a_restart(rig: &Rig) {
    for run in 0..3 {
        let store = rig.open(&format!("run-{run}"));
        store.record(vec![at(run, "alice", "x", "")]).await.unwrap();
        store.close().await;
    }
    let (records, report) = verified(&rig.open("last")).await;
    assert_eq!((records.len(), report.lanes), (3, 3), "one lane for each run");
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
    let (records, report) = verified(&service).await;
    let closing = records.iter().filter(|record| record.links().unwrap().closes).count();
    assert_eq!(records.len(), 40 + closing, "a command closes its lane with each transaction");
    assert_eq!(report.lanes, closing as u64 + 1);
    assert!(report.heads.len() <= 2, "the service's, and the last one's where nobody names it yet");
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
