//! A database that version 1 of the schema was at work in (tests/fixtures): after the migration everything in it is there,
//! what it knew nothing of has the careful default, and work goes on.

use std::time::Duration;

use iam_sorry_core::audit::{
    CheckpointSigner, ExportHeader, LaneHeads, LaneId, Outcome, Phase, Verifier, new_key_pem,
};
use iam_sorry_core::identity::{Identity, KeyOrigin, Method};
use iam_sorry_core::ids::AccountName;
use iam_sorry_store::{
    AuditFilter, Begun, Finish, Grant, ManagedUser, NewGrant, Operation, OperationState, RotationChange,
    Session, SessionKey, SinkPosition, SshKey, Store,
};

use crate::on_both;
use crate::rig::{
    Rig, assert_fenced, event, finish, grant, identity, operation, page, user_ref, whole_trail,
};

on_both! {
    operations_are_read_back,
    what_was_handed_out_is_read_back,
    sessions_are_read_back_and_go_on,
    keys_without_a_proof_are_read_back_and_give_way,
    the_trail_is_whole_and_goes_on,
    what_was_under_way_is_claimed_and_finished,
    who_died_before_is_no_loss_and_holds_nothing,
}

/// The fixture's beginning, 2023-11-14T22:13:20Z.
const START_MS: i64 = 1_700_000_000_000;
/// Its last record.
const LAST: u64 = 272;
const ALICE: &str = "corp/5f0c-alice";
const ROLE: &str = "arn:aws:iam::123456789012:role/lab";

fn upgraded(rig: &Rig) -> (Rig, Store) {
    let old = rig.of_version(1);
    let report = Store::migrate(&old.settings).unwrap();
    assert_eq!((report.from, report.to), (1, 3));
    assert_eq!(report.applied, ["0002_second", "0003_third"]);
    let store = old.open("new");
    assert_eq!(store.contradiction(), None);
    (old, store)
}

async fn read(store: &Store, id: &str) -> Operation {
    store.operation(id).await.unwrap().unwrap()
}

async fn operations_are_read_back(rig: &Rig) {
    let (_rig, store) = upgraded(rig);
    for (id, state, action, notes) in [
        ("op2", OperationState::Done, "create-user", &[][..]),
        ("op3", OperationState::Done, "create-user", &[]),
        ("op4", OperationState::Done, "create-key", &[r#"{"note":"key","id":"AKIAOLD1"}"#]),
        ("op5", OperationState::Done, "assume-role", &[]),
        ("op6", OperationState::Done, "create-key", &[r#"{"note":"key","id":"AKIAOLD3"}"#]),
        ("op7", OperationState::Done, "delete-key", &[]),
        ("op8", OperationState::Failed, "create-user", &[]),
        ("op9", OperationState::Undone, "create-key", &[r#"{"note":"taking-back"}"#]),
        (
            "op270",
            OperationState::Open,
            "rotate-key",
            &[r#"{"note":"key","id":"AKIAOLD4"}"#, r#"{"note":"old-key-inactive"}"#],
        ),
    ] {
        let seen = read(&store, id).await;
        assert_eq!((seen.state, seen.epoch, seen.instance.as_str()), (state, 0, "old"), "{id}");
        assert_eq!(seen.new.action, action, "{id}");
        assert_eq!(seen.notes, notes, "{id}");
        assert_eq!((seen.new.person.as_str(), seen.new.exclusive), (ALICE, id != "op5"), "{id}");
        assert_eq!(seen.result.is_some(), state != OperationState::Open, "{id}");
        assert!(seen.new.plan.starts_with(r#"{"plan":""#) && seen.new.request_hash.len() == 64, "{id}");
        // The intent, from before rules had digests.
        assert_eq!((seen.event.phase, seen.event.time_ms), (Phase::Intent, seen.begun_ms), "{id}");
        assert_eq!((seen.event.operation.as_deref(), seen.event.rules_digest), (Some(id), None));
        assert_eq!(seen.event.person.groups, ["lab-weber", "staff"]);
        let by_key = store.operation_by_key(ALICE, &seen.new.idempotency_key).await.unwrap().unwrap();
        assert_eq!(by_key.new.id, id);
    }
    // The same request again is seen, as it was answered then.
    let (mut again, intent) = operation("lab-anna");
    (again.person, again.idempotency_key) = (ALICE.into(), "key2".into());
    let Begun::Seen(seen) = store.begin(again, intent).await.unwrap() else { panic!() };
    assert!(seen.result.unwrap().starts_with(r#"{"operation":"op2","#));
    assert!(store.unaccounted_keys().await.unwrap().is_empty());
    assert!(store.rotations_of(&user_ref("lab-anna")).await.unwrap().is_empty());
    assert!(store.due_rotations(i64::MAX, 10).await.unwrap().is_empty());
}

async fn what_was_handed_out_is_read_back(rig: &Rig) {
    let (_rig, store) = upgraded(rig);
    let user = |name: &str, adopted| ManagedUser {
        user: user_ref(name),
        arn: format!("arn:aws:iam::123456789012:user/iam-sorry/lab/{name}"),
        namespace: "lab".into(),
        owner: ALICE.into(),
        created_ms: START_MS,
        adopted,
    };
    let users = store.list_users(None, None, page(None, 10)).await.unwrap();
    assert_eq!(users.items, [user("lab-Anna", false), user("lab-bert", true)]);
    assert_eq!(store.user(&user_ref("LAB-anna")).await.unwrap(), Some(user("lab-Anna", false)));

    let handed_out = |kind: &str, operation: &str, resource: &str, key: &str| Grant {
        new: NewGrant {
            kind: kind.into(),
            account: AccountName::default(),
            resource: resource.into(),
            access_key_id: key.into(),
            issued_ms: START_MS + 4_000,
            expires_ms: (kind == "role").then_some(START_MS + 3_600_000),
        },
        operation: operation.into(),
        person: ALICE.into(),
        deleted: operation == "op6",
    };
    let mut grants = store.list_grants(Some(ALICE), page(None, 10)).await.unwrap().items;
    grants.sort_by(|one, two| one.operation.cmp(&two.operation));
    let expected = [
        handed_out("access-key", "op4", "lab-Anna", "AKIAOLD1"),
        handed_out("role", "op5", ROLE, "ASIAOLD2"),
        handed_out("access-key", "op6", "lab-bert", "AKIAOLD3"),
    ];
    assert_eq!(grants, expected);
    assert_eq!(store.grant_of_key("ASIAOLD2").await.unwrap().as_ref(), Some(&expected[1]));
}

/// Groups were names alone, which prove nothing now; who signed in by a key had no origin of it.
async fn sessions_are_read_back_and_go_on(rig: &Rig) {
    let (_rig, store) = upgraded(rig);
    for (byte, id, name, method, labels) in [
        (1, "s1", "alice", Method::Ldap, &["lab-weber", "staff"][..]),
        (3, "s2", "bob", Method::SshKey, &["cn=staff,ou=other,dc=example,dc=org"]),
    ] {
        let found = store.session_by_token_hash(&[byte; 32]).await.unwrap().unwrap();
        let Session { identity: person, .. } = found.clone();
        assert_eq!((person.issuer.as_str(), person.subject), ("corp", format!("5f0c-{name}")));
        assert_eq!((person.name.as_str(), person.method), (name, method));
        assert_eq!(person.groups.labels(), labels);
        assert!(person.groups.iter().all(|group| group.is_of_version_1() && group.unique_name().is_none()));
        assert_eq!((found.id.as_str(), found.method), (id, method));
        assert_eq!((found.key.as_ref(), found.via), (None, None));
        assert_eq!(found.form_hash, (name == "alice").then_some([2; 32]));
        assert_eq!((found.signed_in_ms, found.last_used_ms), (START_MS, START_MS + 60_000));
        assert_eq!((found.expires_ms, found.address.as_str()), (4_000_000_000_000, "192.0.2.7"));

        // What the directory says now takes the place of what was kept.
        let now = Identity { groups: identity(name).groups, ..found.identity.clone() };
        assert!(store.set_session_identity(id, &found.identity, &now).await.unwrap());
        store.touch_session(id, START_MS + 120_000).await.unwrap();
        let found = store.session(id).await.unwrap().unwrap();
        assert_eq!((found.identity, found.last_used_ms), (now, START_MS + 120_000));
    }
    let mut fresh = crate::rig::session("alice", START_MS + 1);
    fresh.key = Some(SessionKey { fingerprint: "SHA256:new".into(), registered_by: KeyOrigin::Ldap });
    store.create_session(fresh.clone(), event(Phase::Event, "alice", "sign-in", "")).await.unwrap();
    let sessions = store.list_sessions(None, page(None, 10)).await.unwrap().items;
    assert_eq!(sessions.len(), 3);
    assert_eq!(sessions[0], fresh);
    let ended = event(Phase::Event, "bob", "end-session", "s2");
    assert!(store.end_session("s2", ended).await.unwrap());
    assert_eq!(store.session("s2").await.unwrap(), None);
}

async fn keys_without_a_proof_are_read_back_and_give_way(rig: &Rig) {
    let (_rig, store) = upgraded(rig);
    let kept = store.ssh_key("SHA256:old").await.unwrap().unwrap();
    assert_eq!((kept.comment.as_str(), kept.registered_ms), ("alice@laptop", START_MS + 1_000));
    assert!(kept.public_key.starts_with("ssh-ed25519 AAAA"));
    assert_eq!((kept.identity.id().as_str(), kept.registered_by), (ALICE, None));
    assert_eq!(store.ssh_keys_of(ALICE).await.unwrap(), std::slice::from_ref(&kept));

    // Whoever shows that they hold it gets it; after that nobody else does.
    let proved = |name: &str| SshKey {
        identity: identity(name),
        registered_by: Some(KeyOrigin::SshKey),
        ..kept.clone()
    };
    let registered = |name: &str| event(Phase::Event, name, "register-key", "SHA256:old");
    assert!(store.add_ssh_key(proved("bert"), registered("bert")).await.unwrap());
    assert!(!store.add_ssh_key(proved("carl"), registered("carl")).await.unwrap());
    assert_eq!(store.ssh_key("SHA256:old").await.unwrap(), Some(proved("bert")));
}

async fn the_trail_is_whole_and_goes_on(rig: &Rig) {
    let (rig, store) = upgraded(rig);
    let old = whole_trail(&store).await;
    assert_eq!(old.len() as u64, LAST);
    assert!(old.iter().all(|record| record.event().unwrap().rules_digest.is_none()));
    assert!(old.iter().all(|record| record.lane == LaneId::ZERO));
    let sink = store.sink_position("file").await.unwrap().unwrap();
    let heads = store.heads_at(&sink.records).await.unwrap();
    assert_eq!(heads, [old[LAST as usize - 2].head()].into_iter().collect());
    assert_eq!(sink.last, Some(LaneId::ZERO.record(LAST - 1)));
    assert_eq!(store.count_behind(&sink.records).await.unwrap(), 1);
    let signed = store.last_checkpoint().await.unwrap().unwrap();
    let covered: LaneHeads = [old[LAST as usize - 2].head()].into_iter().collect();
    assert_eq!((signed.number, &signed.heads), (LAST - 1, &covered));

    // Two more blocks, so that old and new records are filed together.
    let mut newer = event(Phase::Event, "bob", "sign-in", "");
    newer.person.id = "corp/5f0c-bob".into();
    newer.rules_digest = Some("d".repeat(64));
    let placed = store.record(vec![newer.clone(); 400]).await.unwrap();
    assert_eq!((placed[0].seq, placed.len()), (1, 400));
    assert_ne!(placed[0].lane, LaneId::ZERO);
    let signer = CheckpointSigner::from_pem(&new_key_pem(&[7; 32].into())).unwrap();
    let heads = store.trail_state().await.unwrap().heads;
    let checkpoint = signer.sign(store.chain_id(), heads, newer.time_ms, Some(&signed));
    assert!(store.add_checkpoint(checkpoint).await.unwrap());
    let end = store.trail_state().await.unwrap().end;
    let all = SinkPosition { records: end.clone(), last: placed.last().copied(), checkpoint: 0 };
    store.set_sink_position("file", &all).await.unwrap();
    assert_eq!(store.sink_position("file").await.unwrap(), Some(all));
    store.close().await;

    let store = rig.open("newer");
    assert_eq!(store.contradiction(), None);
    let all = whole_trail(&store).await;
    assert_eq!(all[..old.len()], old);
    let mut verifier = Verifier::new(vec![signer.public_key().clone()]);
    verifier.line(&ExportHeader::new(store.chain_id()).line());
    all.iter().for_each(|record| verifier.line(&record.export_line()));
    let checkpoints = store.checkpoints(1, 10).await.unwrap();
    checkpoints.iter().for_each(|it| verifier.line(&it.checkpoint.export_line()));
    let report = verifier.finish();
    assert!(report.is_sound(), "{report:?}");
    assert_eq!((report.checkpoints, report.unsigned, report.records), (2, 0, LAST + 400));
    assert_eq!(report.lanes, 2);

    // Found by their words, whoever filed them, and counted.
    let by = |name: &str, action: &str| {
        let is = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        AuditFilter { name: is(name), action: is(action), ..AuditFilter::default() }
    };
    for (name, action, expected) in
        [("bob", "", 653), ("bob", "sign-in", 653), ("alice", "create-user", 6), ("alice", "rotate-key", 1)]
    {
        let (mut found, mut cursor) = (0, None);
        loop {
            let part = store.audit_page(by(name, action), page(cursor, 200)).await.unwrap();
            found += part.items.len();
            cursor = part.next;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(found, expected, "{name} {action}");
        let counts = store.audit_counts(by(name, action)).await.unwrap();
        let counted: u64 = counts.iter().map(|count| count.count).sum();
        let without_intents = if name == "alice" { expected / 2 } else { expected };
        assert_eq!(counted, without_intents as u64, "{name} {action}: {counts:?}");
    }
}

async fn what_was_under_way_is_claimed_and_finished(rig: &Rig) {
    let (_rig, store) = upgraded(rig);
    // Its user is held until it is settled.
    let (mut next, intent) = operation("lab-anna");
    next.action = "create-key".into();
    let Begun::Busy(holder) = store.begin(next.clone(), intent.clone()).await.unwrap() else { panic!() };
    assert_eq!(holder, "op270");

    let open = store.open_operations().await.unwrap();
    assert_eq!(open.iter().map(|it| it.new.id.as_str()).collect::<Vec<_>>(), ["op270"]);
    assert_eq!(store.dead_instances(Duration::from_secs(60)).await.unwrap(), ["old"]);
    assert_fenced(store.note("op270", 0, "{}".into()).await);
    let claimed = store.claim(&open[0], Duration::from_secs(60)).await.unwrap().unwrap();
    assert_eq!((claimed.instance.as_str(), claimed.epoch, claimed.notes.len()), ("new", 1, 2));
    assert!(store.claim(&open[0], Duration::from_secs(60)).await.unwrap().is_none(), "once");
    assert_fenced(store.note("op270", 0, "{}".into()).await);
    store.note("op270", 1, r#"{"note":"taking-back"}"#.into()).await.unwrap();
    let mut outcome = claimed.event.clone();
    (outcome.phase, outcome.outcome) = (Phase::Outcome, Some(Outcome::Reconciled));
    let settled = Finish {
        operation: "op270".into(),
        epoch: 1,
        state: OperationState::Done,
        result: "{}".into(),
        event: outcome,
        grants: vec![grant("AKIAOLD4", START_MS)],
        deleted_keys: vec!["AKIAOLD1".into()],
        ..finish(&claimed.new)
    };
    assert_eq!(store.finish(settled).await.unwrap().seq, 1);
    assert_eq!(read(&store, "op270").await.state, OperationState::Done);
    assert!(store.grant_of_key("AKIAOLD1").await.unwrap().unwrap().deleted);
    assert!(store.open_operations().await.unwrap().is_empty());

    // And a new operation begins, notes and ends on the old user.
    assert!(matches!(store.begin(next.clone(), intent).await.unwrap(), Begun::New));
    store.note(&next.id, 0, r#"{"note":"key","id":"AKIANEW"}"#.into()).await.unwrap();
    let rotation = iam_sorry_store::NewRotation {
        user: user_ref("lab-Anna"),
        old_key: "AKIAOLD4".into(),
        new_key: "AKIANEW".into(),
        old_was_active: true,
        since: 1,
        delete_after_ms: None,
    };
    let done = Finish {
        grants: vec![grant("AKIANEW", START_MS)],
        rotation: Some(RotationChange::Begun(rotation)),
        ..finish(&next)
    };
    store.finish(done).await.unwrap();
    assert_eq!(store.rotations_of(&user_ref("lab-anna")).await.unwrap().len(), 1);
    assert_eq!(whole_trail(&store).await.len() as u64, LAST + 3);
}

/// The program before did not record its starts: that it did not stop is no news, and its lease is over.
async fn who_died_before_is_no_loss_and_holds_nothing(rig: &Rig) {
    let (_rig, store) = upgraded(rig);
    assert!(store.lost_instances(Duration::ZERO).await.unwrap().is_empty());
    assert_eq!(store.instances_alive(Duration::from_secs(60)).await.unwrap(), ["new"]);
    assert!(store.lease("checkpoints", Duration::from_secs(60)).await.unwrap());
    assert_eq!(store.recorded_state("rules").await.unwrap(), None);
    assert!(!store.is_state_kept("key", "host:/state").await.unwrap());
    store.prove_room().await.unwrap();
    store.beat().await.unwrap();
    store.leave().await.unwrap();
}
