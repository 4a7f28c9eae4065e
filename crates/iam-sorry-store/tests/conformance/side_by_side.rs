//! Instances at work on one PostgreSQL at the same time. Their transactions run side by side, each with its own lane; what one
//! looks at before it writes, the others may be changing.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use iam_sorry_core::audit::{Event, Outcome, Phase, RecordId};
use iam_sorry_store::{Begun, Finish, Running, Store, StoreError, TrailPosition};
use testkit::Postgres;

use crate::rig::{Rig, assert_fenced, block_on, event, finish, operation, verified, whole_trail};

const SILENT: Duration = Duration::from_millis(300);

fn said(action: &str) -> Event {
    event(Phase::Event, "", action, "")
}

fn sql(rig: &Rig, statement: &str) -> String {
    Postgres::shared().sql(rig.database.as_deref().unwrap(), statement)
}

/// A record of the action `slow` takes so long to commit.
fn slow_commits(rig: &Rig, seconds: f64) {
    sql(
        rig,
        &format!(
            "CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS
                 $$ BEGIN PERFORM pg_sleep({seconds}); RETURN NULL; END $$;
             CREATE CONSTRAINT TRIGGER slowly AFTER INSERT ON audit DEFERRABLE INITIALLY DEFERRED
                 FOR EACH ROW WHEN (NEW.action = 'slow') EXECUTE FUNCTION slowly()"
        ),
    );
}

async fn until(what: &str, check: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !check().await {
        assert!(Instant::now() < deadline, "waited for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// All records behind a position, and the position behind them.
async fn read_on(store: &Store, position: &mut TrailPosition) -> Vec<RecordId> {
    let part = store.read_trail(position, None, 2_000).await.unwrap();
    *position = part.start;
    part.records.iter().for_each(|record| position.pass(record));
    part.records.iter().map(|record| record.record.id()).collect()
}

/// One instance's commit takes its time; the other writes all the while.
#[test]
fn no_instance_waits_for_anothers_chain() {
    let rig = Rig::postgres();
    slow_commits(&rig, 1.0);
    let (one, two) = (rig.open("one"), rig.open("two"));
    block_on(async {
        for store in [&one, &two] {
            store.record(vec![said("x")]).await.unwrap();
        }
        let began = Instant::now();
        let slow = tokio::spawn({
            let one = one.clone();
            async move { one.record(vec![said("slow")]).await.unwrap() }
        });
        let mut written = 0;
        while !slow.is_finished() {
            two.record(vec![said("x")]).await.unwrap();
            written += 1;
        }
        assert!(began.elapsed() >= Duration::from_secs(1));
        assert!(written >= 20, "{written} while the other one committed");
        whole_trail(&one).await;
    });
}

/// A record that commits later than others that were written after it is missed by nobody who reads on.
#[test]
fn a_record_that_commits_late_is_read_all_the_same() {
    let rig = Rig::postgres();
    slow_commits(&rig, 0.4);
    let (one, two) = (rig.open("one"), rig.open("two"));
    block_on(async {
        for store in [&one, &two] {
            store.record(vec![said("x")]).await.unwrap();
        }
        let mut position = TrailPosition::default();
        let mut seen: BTreeSet<RecordId> = read_on(&two, &mut position).await.into_iter().collect();
        for _ in 0..3 {
            let slow = tokio::spawn({
                let one = one.clone();
                async move { one.record(vec![said("slow")]).await.unwrap() }
            });
            while !slow.is_finished() {
                two.record(vec![said("x")]).await.unwrap();
                for id in read_on(&two, &mut position).await {
                    assert!(seen.insert(id), "{id} twice");
                }
            }
            let late = slow.await.unwrap()[0];
            assert!(!seen.contains(&late) || one.trail_state().await.unwrap().heads.get(late.lane).is_some());
        }
        seen.extend(read_on(&two, &mut position).await);
        let all: BTreeSet<RecordId> = whole_trail(&one).await.iter().map(|record| record.id()).collect();
        assert_eq!(seen, all);
    });
}

/// The last thing that a dying instance wrote is committed, or it is not; in either case its lane ends behind it, and what comes
/// later from there is in another lane.
#[test]
fn a_late_writer_is_refused_by_the_transaction_that_took_over() {
    let rig = Rig::postgres();
    slow_commits(&rig, 0.5);
    let (dying, live) = (rig.open("dying"), rig.open("live"));
    block_on(async {
        dying.record_states(vec![said("service-started")], Vec::new(), Running::Started).await.unwrap();
        dying.beat().await.unwrap();
        live.record(vec![said("x")]).await.unwrap();
        tokio::time::sleep(SILENT).await;
        let slow = tokio::spawn({
            let dying = dying.clone();
            async move { dying.record(vec![said("slow")]).await.unwrap() }
        });
        // It is in the middle of its transaction.
        let busy = "SELECT count(*) FROM pg_stat_activity WHERE query = 'COMMIT' AND state = 'active'
             AND datname = current_database()";
        until("the slow commit", async || sql(&rig, busy) == "1").await;
        assert!(live.record_lost("dying", SILENT, said("service-lost")).await.unwrap());
        let last = slow.await.unwrap()[0];
        let (records, report) = verified(&live).await;
        let ends = records.iter().find(|record| record.event().unwrap().action == "service-lost").unwrap();
        assert_eq!(ends.links().unwrap().ends.iter().map(|head| head.record()).collect::<Vec<_>>(), [last]);
        assert_eq!(report.heads.len(), 1);
        // It lives after all, and goes on in a lane of its own.
        let later = dying.record(vec![said("x")]).await.unwrap()[0];
        assert_ne!(later.lane, last.lane);
        assert_eq!(dying.contradiction(), None);
        assert!(dying.beat().await.unwrap() >= SILENT, "and learns that it was silent for too long");
        let (records, report) = verified(&dying).await;
        assert_eq!(report.heads.len(), 2);
        let first = records.iter().find(|record| record.lane == later.lane).unwrap();
        assert!(first.links().unwrap().heads.is_some());
        // Once it beats nobody takes anything over from it.
        assert!(!live.record_lost("dying", Duration::from_secs(60), said("service-lost")).await.unwrap());
    });
}

/// Both ask for the same at the same moment, again and again.
#[test]
fn an_idempotency_key_and_a_resource_have_one_winner() {
    let rig = Rig::postgres();
    let (one, two) = (rig.open("one"), rig.open("two"));
    block_on(async {
        for round in 0..60 {
            let ask = |store: &Store, same_key: bool| {
                let (mut new, intent) = operation(&format!("user-{round}"));
                if same_key {
                    new.idempotency_key = format!("key-{round}");
                }
                let store = store.clone();
                tokio::spawn(async move { (new.id.clone(), store.begin(new, intent).await.unwrap()) })
            };
            let same_key = round % 2 == 0;
            let both = [ask(&one, same_key), ask(&two, same_key)];
            let (mut won, mut lost) = (Vec::new(), Vec::new());
            for answer in both {
                match answer.await.unwrap() {
                    (id, Begun::New) => won.push(id),
                    (_, Begun::Seen(seen)) if same_key => lost.push(seen.new.id),
                    (_, Begun::Busy(holder)) if !same_key => lost.push(holder),
                    (_, other) => panic!("{other:?}"),
                }
            }
            assert_eq!((won.len(), &won), (1, &lost), "round {round}");
        }
        // Nothing is in the trail of those that lost.
        let intents =
            whole_trail(&one).await.into_iter().filter(|it| it.event().unwrap().phase == Phase::Intent);
        assert_eq!(intents.count(), 60);
    });
}

/// Many in one transaction run into what the other instance begins at the same time; each gets its own answer.
#[test]
fn batches_that_collide_answer_each_for_itself() {
    let rig = Rig::postgres();
    let stores = [rig.open("one"), rig.open("two")];
    block_on(async {
        let tasks = (0..200_usize).map(|number| {
            let store = stores[number % 2].clone();
            tokio::spawn(async move {
                let (mut new, intent) = operation(&format!("user-{}", number / 2));
                new.idempotency_key = format!("key-{}", number / 2);
                (number / 2, store.begin(new, intent).await.unwrap())
            })
        });
        let mut won = vec![0; 100];
        for task in tasks.collect::<Vec<_>>() {
            match task.await.unwrap() {
                (number, Begun::New) => won[number] += 1,
                (_, Begun::Seen(_)) => {}
                (_, Begun::Busy(holder)) => panic!("{holder}"),
            }
        }
        assert!(won.iter().all(|count| *count == 1), "{won:?}");
        assert_eq!(whole_trail(&stores[0]).await.len(), 100);
    });
}

/// The dead one's operation is claimed by one of those who try; and what it still writes itself is fenced, whoever is first.
#[test]
fn an_operation_is_claimed_once_and_then_nobody_elses() {
    let rig = Rig::postgres();
    let stores = [rig.open("one"), rig.open("two"), rig.open("three")];
    block_on(async {
        for round in 0..30 {
            let [dead, one, two] = &stores;
            let (new, intent) = operation(&format!("user-{round}"));
            assert!(matches!(dead.begin(new.clone(), intent).await.unwrap(), Begun::New));
            let seen = dead.operation(&new.id).await.unwrap().unwrap();
            let claim = |store: &Store| {
                let (store, seen) = (store.clone(), seen.clone());
                tokio::spawn(async move { store.claim(&seen, Duration::ZERO).await.unwrap() })
            };
            let note = {
                let (dead, id) = (dead.clone(), new.id.clone());
                tokio::spawn(async move { dead.note(&id, 0, "{\"note\":\"late\"}".into()).await })
            };
            let end = {
                let (dead, end) = (dead.clone(), finish(&new));
                tokio::spawn(async move { dead.finish(end).await })
            };
            let claims = [claim(one), claim(two)];
            let (note, end) = (note.await.unwrap(), end.await.unwrap());
            let mut claimed = Vec::new();
            for claim in claims {
                claimed.extend(claim.await.unwrap());
            }
            match (&end, claimed.as_slice()) {
                (Ok(_), []) => {} // it had finished
                (Err(StoreError::Fenced(_)), [one]) => {
                    assert_eq!(one.epoch, 1);
                    assert_eq!(
                        one.notes.len(),
                        usize::from(note.is_ok()),
                        "what is noted before it is known"
                    );
                }
                other => panic!("{other:?}"),
            }
            assert_fenced(dead.note(&new.id, 0, "{}".into()).await);
            // The one who has it ends it.
            if let [claimed] = claimed.as_slice() {
                let owner = stores.iter().find(|store| store.instance() == claimed.instance).unwrap();
                let mut outcome = claimed.event.clone();
                (outcome.phase, outcome.outcome) = (Phase::Outcome, Some(Outcome::Reconciled));
                let end = Finish { epoch: 1, event: outcome, ..finish(&new) };
                owner.finish(end).await.unwrap();
            }
        }
        let (records, _) = verified(&stores[0]).await;
        let of = |phase| records.iter().filter(|it| it.event().unwrap().phase == phase).count();
        assert_eq!((of(Phase::Intent), of(Phase::Outcome)), (30, 30));
    });
}

/// Either it is found alive, or it learns with its next beat that it was silent for too long: never neither.
#[test]
fn a_beat_and_a_claim_see_each_other() {
    let rig = Rig::postgres();
    let (slow, other) = (rig.open("slow"), rig.open("other"));
    block_on(async {
        for round in 0..12_u32 {
            slow.beat().await.unwrap();
            let (new, intent) = operation(&format!("user-{round}"));
            slow.begin(new.clone(), intent).await.unwrap();
            let seen = slow.operation(&new.id).await.unwrap().unwrap();
            // Just before, at, and after the moment from which on it counts as dead.
            let until = SILENT - Duration::from_millis(6) + Duration::from_millis(u64::from(round));
            tokio::time::sleep(until).await;
            let claim = tokio::spawn({
                let other = other.clone();
                async move { other.claim(&seen, SILENT).await.unwrap() }
            });
            let silent = slow.beat().await.unwrap();
            let claimed = claim.await.unwrap();
            assert!(claimed.is_none() || silent >= SILENT, "claimed, and it was silent for {silent:?}");
            let owner = if claimed.is_some() { &other } else { &slow };
            let end = Finish { epoch: claimed.map_or(0, |it| it.epoch), ..finish(&new) };
            owner.finish(end).await.unwrap();
        }
    });
}

/// Three instances start and stop and die at the same time: one trail.
#[test]
fn lanes_are_begun_and_ended_by_several_at_once() {
    let rig = Rig::postgres();
    block_on(async {
        let tasks = (0..3).map(|number| {
            let settings = rig.settings.clone();
            tokio::spawn(async move {
                for round in 0..8 {
                    let store = Store::open(&settings, &format!("i-{number}-{round}")).unwrap();
                    store
                        .record_states(vec![said("service-started")], Vec::new(), Running::Started)
                        .await
                        .unwrap();
                    for lost in store.lost_instances(SILENT).await.unwrap() {
                        store.record_lost(&lost.id, SILENT, said("service-lost")).await.unwrap();
                    }
                    store.record(vec![said("x"), said("y")]).await.unwrap();
                    if round % 2 == 0 {
                        store
                            .record_states(vec![said("service-stopped")], Vec::new(), Running::Stopped)
                            .await
                            .unwrap();
                        store.leave().await.unwrap();
                    }
                    store.close().await;
                }
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
        tokio::time::sleep(SILENT).await;
        let last = rig.open("last");
        for lost in last.lost_instances(SILENT).await.unwrap() {
            assert!(last.record_lost(&lost.id, SILENT, said("service-lost")).await.unwrap());
        }
        last.record(vec![said("x")]).await.unwrap();
        let (records, report) = verified(&last).await;
        assert_eq!((report.lanes, report.heads.len()), (25, 1));
        let lost = records.iter().filter(|record| record.event().unwrap().action == "service-lost").count();
        assert_eq!(lost, 3 * 4, "each that died, once");
    });
}
