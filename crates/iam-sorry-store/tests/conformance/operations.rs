//! Intent, notes, outcome; idempotency; one at a time on a resource; fencing.

use std::time::Duration;

use iam_sorry_core::audit::Phase;
use iam_sorry_store::{Begun, ManagedUser, OperationState, Store, UnaccountedKey};

use crate::on_both;
use crate::rig::{
    Rig, assert_fenced, event, finish, grant, identity, operation, page, user_ref, whole_trail,
};

on_both! {
    an_operation_comes_back_as_it_was_begun,
    the_same_key_is_seen_and_nothing_is_written,
    a_begin_whose_answer_was_lost_can_be_repeated,
    a_resource_is_held_while_the_operation_is_open,
    what_holds_nothing_waits_for_nobody,
    an_outcome_goes_in_whole,
    an_outcome_is_written_once,
    a_refused_outcome_leaves_nothing,
    an_operation_that_was_taken_over_is_fenced,
    only_one_takes_over,
    what_its_worker_finished_meanwhile_can_not_be_claimed,
    a_reconciler_of_the_same_instance_fences_the_worker,
    who_beats_again_is_not_robbed,
    what_is_about_to_be_undone_is_in_the_trail,
    unaccounted_keys_stay_until_they_are_accounted_for,
    hostile_text_is_kept_as_it_is,
}

async fn an_operation_comes_back_as_it_was_begun(rig: &Rig) {
    let store = rig.open("one");
    let (new, intent) = operation("lab-anna");
    assert!(matches!(store.begin(new.clone(), intent.clone()).await.unwrap(), Begun::New));
    store.note(&new.id, 0, r#"{"key":"AKIA1"}"#.into()).await.unwrap();
    store.note(&new.id, 0, r#"{"key":"AKIA2"}"#.into()).await.unwrap();

    let read = store.operation(&new.id).await.unwrap().unwrap();
    assert_eq!(read.new.plan, new.plan);
    assert_eq!(read.new.person, new.person);
    assert_eq!(read.new.request_hash, new.request_hash);
    assert!(read.new.exclusive);
    assert_eq!(read.state, OperationState::Open);
    assert_eq!(read.instance, "one");
    assert_eq!(read.begun_ms, intent.time_ms);
    assert_eq!(read.notes, [r#"{"key":"AKIA1"}"#, r#"{"key":"AKIA2"}"#]);
    assert_eq!(read.result, None);
    assert_eq!(read.event, intent);

    let open = store.open_operations().await.unwrap();
    assert_eq!(open.iter().map(|open| open.new.id.as_str()).collect::<Vec<_>>(), [new.id.as_str()]);
    let by_key = store.operation_by_key(&new.person, &new.idempotency_key).await.unwrap().unwrap();
    assert_eq!(by_key.new.id, new.id);
    assert!(store.operation("nothing").await.unwrap().is_none());
    assert!(store.operation_by_key("corp/other", &new.idempotency_key).await.unwrap().is_none());

    let chain = whole_trail(&store).await;
    assert_eq!(chain.len(), 1);
    assert_eq!(chain[0].event().unwrap(), intent);
}

async fn the_same_key_is_seen_and_nothing_is_written(rig: &Rig) {
    let store = rig.open("one");
    let (new, intent) = operation("lab-anna");
    store.begin(new.clone(), intent).await.unwrap();
    store.finish(finish(&new)).await.unwrap();

    let (mut again, intent) = operation("lab-bert");
    again.idempotency_key.clone_from(&new.idempotency_key);
    let Begun::Seen(seen) = store.begin(again.clone(), intent.clone()).await.unwrap() else { panic!() };
    assert_eq!(seen.new.id, new.id);
    assert_eq!(seen.new.request_hash, new.request_hash);
    assert_eq!(seen.result.as_deref(), Some(r#"{"done":true}"#));
    assert_eq!(whole_trail(&store).await.len(), 2);
    assert!(store.operation(&again.id).await.unwrap().is_none());

    // Another person's key of the same text is another key.
    again.person = identity("bert").id();
    assert!(matches!(store.begin(again, intent).await.unwrap(), Begun::New));
}

async fn a_begin_whose_answer_was_lost_can_be_repeated(rig: &Rig) {
    let store = rig.open("one");
    let (new, intent) = operation("lab-anna");
    assert!(matches!(store.begin(new.clone(), intent.clone()).await.unwrap(), Begun::New));
    assert!(matches!(store.begin(new.clone(), intent.clone()).await.unwrap(), Begun::New));
    assert_eq!(whole_trail(&store).await.len(), 1);
    store.finish(finish(&new)).await.unwrap();
    assert!(matches!(store.begin(new, intent).await.unwrap(), Begun::Seen(_)));
}

async fn a_resource_is_held_while_the_operation_is_open(rig: &Rig) {
    let store = rig.open("one");
    let (first, intent) = operation("lab-anna");
    store.begin(first.clone(), intent).await.unwrap();

    let (second, intent) = operation("lab-anna");
    let Begun::Busy(holder) = store.begin(second.clone(), intent.clone()).await.unwrap() else { panic!() };
    assert_eq!(holder, first.id);
    assert!(store.operation(&second.id).await.unwrap().is_none());
    let (other, elsewhere) = operation("lab-bert");
    assert!(matches!(store.begin(other, elsewhere).await.unwrap(), Begun::New));

    store.finish(finish(&first)).await.unwrap();
    assert!(matches!(store.begin(second, intent).await.unwrap(), Begun::New));
}

async fn what_holds_nothing_waits_for_nobody(rig: &Rig) {
    let store = rig.open("one");
    for _ in 0..3 {
        let (mut role, intent) = operation("arn:aws:iam::1:role/x");
        role.exclusive = false;
        assert!(matches!(store.begin(role, intent).await.unwrap(), Begun::New));
    }
}

async fn an_outcome_goes_in_whole(rig: &Rig) {
    let store = rig.open("one");
    let (new, intent) = operation("lab-anna");
    store.begin(new.clone(), intent).await.unwrap();
    let mut end = finish(&new);
    end.grants = vec![grant("ASIA1", 5), grant("ASIA2", 6)];
    end.user = Some(ManagedUser {
        user: user_ref("Lab-Anna"),
        arn: "arn:aws:iam::1:user/iam-sorry/Lab-Anna".into(),
        namespace: "lab".into(),
        owner: new.person.clone(),
        created_ms: 5,
        adopted: false,
    });
    assert_eq!(store.finish(end.clone()).await.unwrap().seq, 2);

    let read = store.operation(&new.id).await.unwrap().unwrap();
    assert_eq!((read.state, read.result.as_deref()), (OperationState::Done, Some(end.result.as_str())));
    assert_eq!(store.user(&user_ref("LAB-anna")).await.unwrap(), end.user);
    let grants = store.list_grants(Some(&new.person), page(None, 10)).await.unwrap().items;
    assert_eq!(grants.iter().map(|grant| &grant.new).collect::<Vec<_>>(), [&end.grants[1], &end.grants[0]]);
    assert!(grants.iter().all(|grant| grant.operation == new.id && grant.person == new.person));
    assert!(store.open_operations().await.unwrap().is_empty());
    let chain = whole_trail(&store).await;
    assert_eq!(chain[1].event().unwrap(), end.event);
}

async fn an_outcome_is_written_once(rig: &Rig) {
    let store = rig.open("one");
    let (new, intent) = operation("lab-anna");
    store.begin(new.clone(), intent).await.unwrap();
    let end = finish(&new);
    assert_eq!(store.finish(end.clone()).await.unwrap().seq, 2);
    store.record(vec![event(Phase::Event, "alice", "whoami", "")]).await.unwrap();
    // The same again, because the answer was lost: fine, and nothing is written.
    assert_eq!(store.finish(end.clone()).await.unwrap().seq, 2);
    assert_eq!(whole_trail(&store).await.len(), 3);
    // Another outcome is not.
    let mut other = end;
    other.state = OperationState::Failed;
    assert_fenced(store.finish(other).await);
    assert_fenced(store.note(&new.id, 0, "{}".into()).await);
    assert_eq!(whole_trail(&store).await.len(), 3);
}

async fn a_refused_outcome_leaves_nothing(rig: &Rig) {
    let store = rig.open("one");
    let (new, intent) = operation("lab-anna");
    let mut end = finish(&new);
    end.grants = vec![grant("ASIA1", 5)];
    assert!(store.finish(end.clone()).await.is_err(), "it was never begun");
    store.begin(new.clone(), intent).await.unwrap();
    end.state = OperationState::Open;
    assert!(store.finish(end).await.is_err());
    assert!(store.list_grants(None, page(None, 10)).await.unwrap().items.is_empty());
    assert_eq!(whole_trail(&store).await.len(), 1);
}

async fn an_operation_that_was_taken_over_is_fenced(rig: &Rig) {
    // Two instances: on PostgreSQL at once; on SQLite the second comes when the first is dead.
    let first = rig.open("first");
    let (new, intent) = operation("lab-anna");
    first.begin(new.clone(), intent).await.unwrap();
    if !rig.is_postgres() {
        first.close().await;
    }
    let second = rig.open("second");
    let seen = second.operation(&new.id).await.unwrap().unwrap();
    let claimed = second.claim(&seen, Duration::ZERO).await.unwrap().expect("claimed");
    assert_eq!((claimed.instance.as_str(), claimed.epoch), ("second", 1));
    if rig.is_postgres() {
        assert_fenced(first.note(&new.id, 0, "{}".into()).await);
        assert_fenced(first.finish(finish(&new)).await);
    }
    assert_eq!(second.operation(&new.id).await.unwrap().unwrap().instance, "second");
    second.note(&new.id, 1, r#"{"undone":true}"#.into()).await.unwrap();
    let mut end = finish(&new);
    (end.state, end.epoch) = (OperationState::Undone, 1);
    second.finish(end).await.unwrap();
    let closed = second.claim(&claimed, Duration::ZERO).await.unwrap();
    assert!(closed.is_none(), "what is closed can't be taken over");
    assert_eq!(whole_trail(&second).await.len(), 2);
}

async fn only_one_takes_over(rig: &Rig) {
    let store = rig.open("dead");
    let (new, intent) = operation("lab-anna");
    store.begin(new.clone(), intent).await.unwrap();
    store.close().await;
    let instances = if rig.is_postgres() { 4 } else { 1 };
    let store = rig.open("looking");
    let seen = store.operation(&new.id).await.unwrap().unwrap();
    store.close().await;
    let stores: Vec<_> = (0..instances).map(|number| rig.open(&format!("live-{number}"))).collect();
    let claims = (0..8).map(|number| {
        let (store, seen) = (stores[number % instances].clone(), seen.clone());
        tokio::spawn(async move { store.claim(&seen, Duration::ZERO).await.unwrap().is_some() })
    });
    let mut won = 0;
    for claim in claims.collect::<Vec<_>>() {
        won += usize::from(claim.await.unwrap());
    }
    assert_eq!(won, 1);
}

/// The list was made before, and nobody was found at work on it after.
async fn what_its_worker_finished_meanwhile_can_not_be_claimed(rig: &Rig) {
    let store = rig.open("one");
    let (new, intent) = operation("lab-anna");
    store.begin(new.clone(), intent).await.unwrap();
    let seen = store.open_operations().await.unwrap().remove(0);
    store.finish(finish(&new)).await.unwrap();
    assert!(store.claim(&seen, Duration::ZERO).await.unwrap().is_none());
    assert_eq!(store.operation(&new.id).await.unwrap().unwrap().epoch, 0);
}

async fn a_reconciler_of_the_same_instance_fences_the_worker(rig: &Rig) {
    let store = rig.open("one");
    let (new, intent) = operation("lab-anna");
    store.begin(new.clone(), intent).await.unwrap();
    let seen = store.open_operations().await.unwrap().remove(0);
    store.note(&new.id, 0, r#"{"key":"AKIA1"}"#.into()).await.unwrap();
    let claimed = store.claim(&seen, Duration::ZERO).await.unwrap().expect("claimed");
    assert_eq!(claimed.notes, [r#"{"key":"AKIA1"}"#], "it is as it is now, not as it was listed");
    assert_fenced(store.note(&new.id, 0, "{}".into()).await);
    assert_fenced(store.finish(finish(&new)).await);
    assert!(store.claim(&seen, Duration::ZERO).await.unwrap().is_none(), "what was seen is no longer so");
    // Another attempt of the reconciler fences the one before.
    let again = store.claim(&claimed, Duration::ZERO).await.unwrap().expect("claimed again");
    assert_fenced(store.note(&new.id, claimed.epoch, "{}".into()).await);
    store.note(&new.id, again.epoch, "{}".into()).await.unwrap();
    let mut end = finish(&new);
    end.epoch = again.epoch;
    store.finish(end).await.unwrap();
}

/// An instance was silent, was seen to be dead, and beats before it is robbed.
async fn who_beats_again_is_not_robbed(rig: &Rig) {
    const SILENCE: Duration = Duration::from_millis(300);
    let one = rig.open("one");
    let (new, intent) = operation("lab-anna");
    one.begin(new.clone(), intent).await.unwrap();
    let two = Store::open_beside(&rig.settings, "two").unwrap();
    while two.dead_instances(SILENCE).await.unwrap() != ["one"] {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let seen = two.open_operations().await.unwrap().remove(0);
    let long = Duration::from_secs(60);
    assert!(one.beat().await.unwrap() >= SILENCE, "a beat tells how long the silence was");
    assert!(two.claim(&seen, long).await.unwrap().is_none(), "it lives");
    one.note(&new.id, 0, "{}".into()).await.unwrap();
    while two.claim(&seen, SILENCE).await.unwrap().is_none() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_fenced(one.note(&new.id, 0, "{}".into()).await);
}

async fn what_is_about_to_be_undone_is_in_the_trail(rig: &Rig) {
    let store = rig.open("one");
    let (new, intent) = operation("lab-anna");
    store.begin(new.clone(), intent.clone()).await.unwrap();
    let mut undoing = intent;
    undoing.phase = Phase::Event;
    undoing.details.insert("undoing".into(), "access key AKIA1".into());
    store.note_with_record(&new.id, 0, "{}".into(), undoing.clone()).await.unwrap();
    assert_eq!(store.operation(&new.id).await.unwrap().unwrap().notes, ["{}"]);
    store.finish(finish(&new)).await.unwrap();
    assert_fenced(store.note_with_record(&new.id, 0, "{}".into(), undoing.clone()).await);
    let chain = whole_trail(&store).await;
    assert_eq!(chain.len(), 3, "a refused one leaves no record");
    assert_eq!(chain[1].event().unwrap(), undoing);
}

async fn unaccounted_keys_stay_until_they_are_accounted_for(rig: &Rig) {
    let store = rig.open("one");
    let key = |id: &str, user: &str, operation: &str| UnaccountedKey {
        access_key_id: id.into(),
        user: user_ref(user),
        operation: operation.into(),
        found_ms: 5,
        deactivated: true,
    };
    let (new, intent) = operation("lab-anna");
    store.begin(new.clone(), intent.clone()).await.unwrap();
    let mut end = finish(&new);
    end.unaccounted = vec![
        key("AKIA1", "Lab-Anna", &new.id),
        key("AKIA2", "lab-anna", &new.id),
        key("AKIA3", "b", &new.id),
    ];
    store.finish(end.clone()).await.unwrap();
    assert_eq!(store.unaccounted_keys().await.unwrap(), end.unaccounted);

    // Deleted, on somebody's request.
    let (new, intent) = operation("lab-anna");
    store.begin(new.clone(), intent.clone()).await.unwrap();
    let mut deleted = finish(&new);
    deleted.deleted_keys = vec!["AKIA1".into()];
    store.finish(deleted).await.unwrap();
    assert_eq!(store.unaccounted_keys().await.unwrap(), end.unaccounted[1..]);
    // Somebody's own.
    let records = whole_trail(&store).await.len();
    let found = event(Phase::Event, "", "unaccounted-key", "b");
    assert!(store.account_for_key("AKIA3", found.clone()).await.unwrap());
    assert!(!store.account_for_key("AKIA3", found).await.unwrap());
    assert_eq!(whole_trail(&store).await.len(), records + 1);
    // Its user is gone.
    let (new, intent) = operation("lab-anna");
    store.begin(new.clone(), intent).await.unwrap();
    let mut gone = finish(&new);
    gone.deleted_user = Some(user_ref("LAB-anna"));
    store.finish(gone).await.unwrap();
    assert!(store.unaccounted_keys().await.unwrap().is_empty());
}

async fn hostile_text_is_kept_as_it_is(rig: &Rig) {
    let store = rig.open("one");
    for text in ["'; DROP TABLE audit; --", "\u{1F4A5} ?1 $1 @NOW @INT", "\\x00 \" \r\n\t", "%_*"] {
        let (mut new, mut intent) = operation(text);
        new.plan = text.into();
        intent.person.name = text.into();
        intent.phase = Phase::Intent;
        store.begin(new.clone(), intent.clone()).await.unwrap();
        store.note(&new.id, 0, text.into()).await.unwrap();
        let read = store.operation(&new.id).await.unwrap().unwrap();
        assert_eq!((read.new.plan.as_str(), read.notes[0].as_str()), (text, text));
        assert_eq!(read.event, intent);
    }
    whole_trail(&store).await;
}
