//! Lanes of the trail: begun, closed, taken over; and groups, which stand in a lane once.

use std::time::Duration;

use iam_sorry_core::audit::{Event, Outcome, Person, Phase, Record, RecordId};
use iam_sorry_store::{AuditFilter, Begun, Finish, OperationState, Running, Store};

use crate::on_both;
use crate::rig::{Rig, event, finish, operation, page, verified, whole_trail};

on_both! {
    the_first_record_names_what_was_there,
    an_instance_that_stops_closes_its_lane,
    what_a_stopped_instance_still_writes_is_in_lanes_of_its_own,
    a_dead_instance_is_recorded_and_its_lane_ends,
    one_that_never_started_is_recorded_too,
    a_command_leaves_no_lane_open,
    groups_stand_in_a_lane_once_and_are_shown_everywhere,
    the_groups_of_an_operation_are_read_back,
    reading_goes_on_in_each_lane,
    a_time_is_a_place_in_each_lane,
}

fn said(action: &str) -> Event {
    event(Phase::Event, "", action, "")
}

async fn start(store: &Store) {
    store.record_states(vec![said("service-started")], Vec::new(), Running::Started).await.unwrap();
}

async fn stop(store: &Store) {
    store.record_states(vec![said("service-stopped")], Vec::new(), Running::Stopped).await.unwrap();
}

fn of_lane(records: &[Record], id: RecordId) -> Vec<&Record> {
    records.iter().filter(|record| record.lane == id.lane).collect()
}

async fn the_first_record_names_what_was_there(rig: &Rig) {
    let one = rig.open("one");
    let first = one.record(vec![said("a"), said("b")]).await.unwrap();
    one.close().await;
    let two = rig.open("two");
    let second = two.record(vec![said("c")]).await.unwrap();
    let records = whole_trail(&two).await;
    let links = of_lane(&records, second[0])[0].links().unwrap();
    let named: Vec<RecordId> = links.heads.unwrap().iter().map(|head| head.record()).collect();
    assert_eq!(named, [first[1]]);
    assert_eq!(two.trail_state().await.unwrap().heads.len(), 2, "the first may still be written to");
}

async fn an_instance_that_stops_closes_its_lane(rig: &Rig) {
    let one = rig.open("one");
    start(&one).await;
    stop(&one).await;
    let closed = one.trail_state().await.unwrap().heads;
    assert_eq!(closed.len(), 1, "nobody names its end yet");
    one.close().await;
    let two = rig.open("two");
    start(&two).await;
    let (records, report) = verified(&two).await;
    assert!(records[1].links().unwrap().closes);
    assert_eq!(records[2].links().unwrap().heads, Some(closed));
    assert_eq!((report.lanes, report.heads.len()), (2, 1), "the closed one has settled");
    assert_eq!(two.lost_instances(Duration::ZERO).await.unwrap(), []);
}

async fn what_a_stopped_instance_still_writes_is_in_lanes_of_its_own(rig: &Rig) {
    let store = rig.open("one");
    start(&store).await;
    stop(&store).await;
    for _ in 0..2 {
        store.record(vec![said("late")]).await.unwrap();
    }
    let (records, report) = verified(&store).await;
    assert_eq!((records.len(), report.lanes), (2 + 2 * 2, 3));
    let open = records.iter().filter(|record| record.links().unwrap().closes).count();
    assert_eq!(open, 3, "each of them is closed");
}

async fn a_dead_instance_is_recorded_and_its_lane_ends(rig: &Rig) {
    let dead = rig.open("dead");
    start(&dead).await;
    let last = dead.record(vec![said("x")]).await.unwrap().remove(0);
    dead.close().await;
    let live = rig.open("live");
    let lost = live.lost_instances(Duration::ZERO).await.unwrap();
    assert_eq!(lost.iter().map(|lost| lost.id.as_str()).collect::<Vec<_>>(), ["dead"]);
    assert!(live.record_lost("dead", Duration::ZERO, said("service-lost")).await.unwrap());
    let (records, report) = verified(&live).await;
    let links = records[2].links().unwrap();
    assert_eq!(links.ends.iter().map(|head| head.record()).collect::<Vec<_>>(), [last]);
    assert!(links.heads.unwrap().is_empty(), "its end is named once");
    assert_eq!(report.heads, [records[2].head()].into_iter().collect());
    assert_eq!(live.lost_instances(Duration::ZERO).await.unwrap(), []);
    assert!(!live.record_lost("dead", Duration::ZERO, said("service-lost")).await.unwrap(), "once");
    // An instance never says that of itself.
    assert!(!live.record_lost("live", Duration::ZERO, said("service-lost")).await.unwrap());
}

/// It wrote something, and died before it had recorded its start.
async fn one_that_never_started_is_recorded_too(rig: &Rig) {
    let dead = rig.open("dead");
    dead.record(vec![said("rules-changed")]).await.unwrap();
    dead.leave().await.unwrap();
    dead.close().await;
    let live = rig.open("live");
    let lost = live.lost_instances(Duration::from_secs(60)).await.unwrap();
    assert_eq!((lost[0].id.as_str(), lost[0].beat_ms), ("dead", None), "it has left no word");
    assert!(live.record_lost("dead", Duration::from_secs(60), said("service-lost")).await.unwrap());
    assert_eq!(verified(&live).await.1.heads.len(), 1);
}

async fn a_command_leaves_no_lane_open(rig: &Rig) {
    let service = rig.open("service");
    start(&service).await;
    let command = Store::open_beside(&rig.settings, "audit export").unwrap();
    for _ in 0..3 {
        command.record(vec![said("export-audit")]).await.unwrap();
    }
    command.close().await;
    let (records, report) = verified(&service).await;
    assert_eq!((records.len(), report.lanes), (1 + 3 * 2, 4));
    assert_eq!(report.heads.len(), 2, "the service's, and the last one that nobody names yet");
    assert_eq!(service.lost_instances(Duration::ZERO).await.unwrap(), []);
    let closing = records.last().unwrap().event().unwrap();
    assert_eq!((closing.action.as_str(), closing.instance.as_str()), ("lane-closed", "audit export"));
}

fn crowded(action: &str) -> Event {
    let event = event(Phase::Event, "alice", action, "");
    let groups = (0..40).map(|n| format!("research-group-{n}")).collect();
    Event { person: Person { groups, ..event.person }, ..event }
}

async fn groups_stand_in_a_lane_once_and_are_shown_everywhere(rig: &Rig) {
    let store = rig.open("one");
    let list = crowded("").person.groups;
    for n in 0..3 {
        store.record(vec![crowded("x"); n + 1]).await.unwrap();
    }
    // A job that fails takes its list back with it.
    let (other, _) = operation("never-begun");
    let spoilt = Finish { event: crowded("y"), ..finish(&other) };
    let (failed, done) = tokio::join!(store.finish(spoilt), store.record(vec![crowded("x")]));
    failed.unwrap_err();
    done.unwrap();
    let records = whole_trail(&store).await;
    let written = records.iter().filter(|record| record.line.contains("research-group-7\"")).count();
    assert_eq!((records.len(), written), (7, 1));
    let all = store.audit_page(AuditFilter::default(), page(None, 10)).await.unwrap().items;
    assert_eq!(all.len(), 7);
    for entry in all {
        assert_eq!(entry.event().unwrap().person.groups, list);
        let same = store.audit_entry(entry.record.id()).await.unwrap().unwrap();
        assert_eq!(same, entry);
        assert_eq!(store.groups_of(&entry.record).await.unwrap(), entry.groups);
    }
    store.close().await;
    // The next lane has its own.
    let store = rig.open("two");
    store.record(vec![crowded("x")]).await.unwrap();
    assert_eq!(whole_trail(&store).await.last().unwrap().groups_digest(), None);
}

async fn the_groups_of_an_operation_are_read_back(rig: &Rig) {
    let store = rig.open("one");
    store.record(vec![crowded("sign-in")]).await.unwrap();
    let (new, intent) = operation("lab-anna");
    let intent = Event { person: crowded("").person, ..intent };
    assert!(matches!(store.begin(new.clone(), intent).await.unwrap(), Begun::New));
    let found = store.operation(&new.id).await.unwrap().unwrap();
    assert_eq!(found.event.person, crowded("").person, "for the outcome's record");
    let mut outcome = found.event.clone();
    (outcome.phase, outcome.outcome) = (Phase::Outcome, Some(Outcome::Success));
    store.finish(Finish { event: outcome, state: OperationState::Done, ..finish(&new) }).await.unwrap();
    assert_eq!(whole_trail(&store).await.len(), 3);
}

/// Some runs, of which none was read to its end before the next one began.
async fn reading_goes_on_in_each_lane(rig: &Rig) {
    let mut position = iam_sorry_store::TrailPosition::default();
    let mut read: Vec<RecordId> = Vec::new();
    for run in 0..5 {
        let store = rig.open(&format!("run-{run}"));
        start(&store).await;
        store.record((0..6).map(|_| said("x")).collect()).await.unwrap();
        if run % 2 == 0 {
            stop(&store).await;
        }
        let part = store.read_trail(&position, None, 4).await.unwrap();
        position = part.start;
        for record in &part.records {
            position.pass(record);
            read.push(record.record.id());
        }
        assert_eq!(
            store.count_behind(&position).await.unwrap() + read.len() as u64,
            store.count_records().await.unwrap()
        );
        let again = store.position_of(&store.heads_at(&position).await.unwrap()).await.unwrap();
        let behind = store.count_behind(&again.unwrap()).await.unwrap();
        assert_eq!(behind, store.count_behind(&position).await.unwrap(), "made again of its states");
        store.close().await;
    }
    let store = rig.open("last");
    loop {
        let part = store.read_trail(&position, None, 3).await.unwrap();
        position = part.start;
        for record in &part.records {
            position.pass(record);
            read.push(record.record.id());
        }
        if part.records.is_empty() {
            break;
        }
    }
    let all: Vec<RecordId> = whole_trail(&store).await.iter().map(Record::id).collect();
    let mut sorted = (read.clone(), all.clone());
    sorted.0.sort();
    sorted.1.sort();
    assert_eq!(sorted.0, sorted.1, "each once");
    for window in 0..read.len() {
        let before = read[..window].iter().filter(|record| record.lane == read[window].lane).count() as u64;
        assert_eq!(read[window].seq, before + 1, "in the order of its lane");
    }
    assert_eq!(store.count_behind(&position).await.unwrap(), 0);
    // Nothing is known of a record that is not there.
    let unknown = RecordId { seq: 99, ..all[0] };
    assert_eq!(store.position_behind(&position, vec![unknown]).await.unwrap(), None);
}

async fn a_time_is_a_place_in_each_lane(rig: &Rig) {
    let at = |time_ms| Event { time_ms, ..said("x") };
    for run in 0..3 {
        let store = rig.open(&format!("run-{run}"));
        store.record((0..10).map(|n| at(run * 5 + n)).collect()).await.unwrap();
        store.close().await;
    }
    let store = rig.open("last");
    for (time, expected) in [(0, 30), (5, 25), (12, 11), (19, 1), (20, 0)] {
        let position = store.position_at(time).await.unwrap();
        assert_eq!(store.count_behind(&position).await.unwrap(), expected, "{time}");
        let part = store.read_trail(&position, None, 100).await.unwrap();
        assert_eq!(part.records.len() as u64, expected);
        let times = part.records.iter().map(|record| record.record.event().unwrap().time_ms);
        let times: Vec<i64> = times.collect();
        assert!(times.iter().all(|at| *at >= time) && times.is_sorted(), "{times:?}");
    }
}
