//! The same for a database of version 2 of the schema: what that version added to the first is there after the migration.

use std::time::Duration;

use iam_sorry_core::audit::{LaneHeads, LaneId, Phase};
use iam_sorry_core::identity::{KeyOrigin, Method};
use iam_sorry_core::ids::AccountName;
use iam_sorry_store::{
    AuditFilter, Begun, Engine, Finish, FlowCaps, FlowKind, LostInstance, ManagedUser, NewRotation,
    OperationState, Rotation, RotationChange, SessionKey, Store, UnaccountedKey,
};
use testkit::Postgres;

use crate::on_both;
use crate::rig::{Rig, assert_fenced, event, finish, flow, operation, page, user_ref, verified, whole_trail};

on_both! {
    every_table_of_the_fixture_has_rows,
    operations_are_read_back_with_their_epochs,
    what_was_handed_out_is_read_back,
    rotations_and_unaccounted_keys_wait_as_before,
    sessions_and_keys_have_their_origins,
    the_trail_is_whole_and_goes_on,
    what_was_under_way_is_claimed_and_finished,
    an_instance_that_died_is_known_and_what_was_recorded_is_too,
}

/// The fixture's beginning, 2025-10-09T08:53:20Z.
const START_MS: i64 = 1_760_000_000_000;
/// Its last record.
const LAST: u64 = 289;
const ALICE: &str = "corp/5f0c-alice";
const ROLE: &str = "arn:aws:iam::123456789012:role/lab";

fn upgraded(rig: &Rig) -> (Rig, Store) {
    let old = rig.of_version(2);
    let report = Store::migrate(&old.settings).unwrap();
    assert_eq!((report.from, report.to, report.applied.as_slice()), (2, 3, &["0003_third"][..]));
    let store = old.open("new");
    assert_eq!(store.contradiction(), None);
    (old, store)
}

/// So that a migration that forgets a table is noticed.
async fn every_table_of_the_fixture_has_rows(rig: &Rig) {
    let old = rig.of_version(2);
    let empty: Vec<String> = match &old.settings.engine {
        Engine::Sqlite { path } => {
            let database = rusqlite::Connection::open(path).unwrap();
            let mut statement =
                database.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'").unwrap();
            let names: Vec<String> =
                statement.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap();
            assert_eq!(names.len(), 21, "{names:?}");
            let count = |name: &String| {
                database.query_row(&format!("SELECT count(*) FROM {name}"), [], |row| row.get::<_, i64>(0))
            };
            names.into_iter().filter(|name| count(name).unwrap() == 0).collect()
        }
        Engine::Postgres { .. } => {
            let database = old.database.as_deref().unwrap();
            let tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'";
            let names = Postgres::shared().sql(database, tables);
            assert_eq!(names.lines().count(), 21, "{names}");
            let count = |name: &&str| {
                Postgres::shared().sql(database, &format!("SELECT count(*) FROM public.{name}"))
            };
            names.lines().filter(|name| count(name) == "0").map(str::to_owned).collect()
        }
    };
    assert!(empty.is_empty(), "{empty:?}");
}

async fn operations_are_read_back_with_their_epochs(rig: &Rig) {
    use OperationState::{Done, Failed, Open, Undone};
    let (_rig, store) = upgraded(rig);
    for (id, state, action, epoch, notes) in [
        ("op2", Done, "create-user", 0, &[][..]),
        ("op3", Done, "adopt-user", 0, &[]),
        ("op4", Done, "create-key", 0, &[r#"{"note":"key","id":"AKIAOLD1"}"#]),
        ("op5", Done, "assume-role", 0, &[]),
        ("op9", Failed, "create-user", 0, &[]),
        (
            "op10",
            Undone,
            "create-key",
            0,
            &[r#"{"note":"taking-back"}"#, r#"{"note":"unaccounted","id":"AKIALOST1"}"#],
        ),
        (
            "op11",
            Done,
            "rotate-key",
            0,
            &[r#"{"note":"key","id":"AKIANEW1"}"#, r#"{"note":"old-key-inactive"}"#],
        ),
        ("op300", Open, "detach-policy", 1, &[r#"{"note":"taking-back"}"#]),
        ("op301", Open, "attach-policy", 0, &[]),
    ] {
        let seen = store.operation(id).await.unwrap().unwrap();
        assert_eq!((seen.state, seen.epoch, seen.instance.as_str()), (state, epoch, "two"), "{id}");
        assert_eq!((seen.new.action.as_str(), &seen.new.account), (action, &AccountName::default()), "{id}");
        assert_eq!(seen.notes, notes, "{id}");
        assert_eq!((seen.new.person.as_str(), seen.new.exclusive), (ALICE, id != "op5"), "{id}");
        assert!(seen.new.plan.starts_with(r#"{"plan":""#), "{id}");
        assert_eq!(seen.event.phase, Phase::Intent);
        assert_eq!(seen.event.rules_digest, Some("d".repeat(64)));
    }
    let (mut again, intent) = operation("lab-anna");
    (again.person, again.idempotency_key) = (ALICE.into(), "key-0002".into());
    assert!(matches!(store.begin(again, intent).await.unwrap(), Begun::Seen(_)));
}

async fn what_was_handed_out_is_read_back(rig: &Rig) {
    let (_rig, store) = upgraded(rig);
    let user = |name: &str, adopted| ManagedUser {
        user: user_ref(name),
        arn: format!("arn:aws:iam::123456789012:user/iam-sorry/lab/{name}"),
        namespace: "lab".into(),
        owner: ALICE.into(),
        created_ms: START_MS + 2_000,
        adopted,
    };
    let users = store.list_users(None, None, page(None, 10)).await.unwrap();
    assert_eq!(users.items, [user("lab-Anna", false), user("lab-bert", true)]);
    assert_eq!(store.user(&user_ref("LAB-anna")).await.unwrap(), Some(user("lab-Anna", false)));

    let grants = store.list_grants(Some(ALICE), page(None, 10)).await.unwrap().items;
    let seen: Vec<_> = grants
        .iter()
        .map(|grant| {
            (
                grant.new.access_key_id.as_str(),
                grant.new.kind.as_str(),
                grant.new.resource.as_str(),
                grant.deleted,
            )
        })
        .collect();
    let expected = [
        ("AKIANEW2", "access-key", "lab-bert", false),
        ("AKIANEW1", "access-key", "lab-Anna", false),
        ("AKIAOLD4", "access-key", "lab-bert", true),
        ("ASIAOLD3", "session", "lab-bert", false),
        ("ASIAOLD2", "role", ROLE, false),
        ("AKIAOLD1", "access-key", "lab-Anna", false),
    ];
    assert_eq!(seen, expected);
}

async fn rotations_and_unaccounted_keys_wait_as_before(rig: &Rig) {
    let (_rig, store) = upgraded(rig);
    let rotation =
        |operation: &str, user: &str, old: &str, new: &str, active: bool, delete_after_ms| Rotation {
            new: NewRotation {
                user: user_ref(user),
                old_key: old.into(),
                new_key: new.into(),
                old_was_active: active,
                since: START_MS / 1000 + operation[2..].parse::<i64>().unwrap(),
                delete_after_ms,
            },
            operation: operation.into(),
            person: ALICE.into(),
        };
    let timed = rotation("op11", "lab-anna", "AKIAOLD1", "AKIANEW1", true, Some(START_MS + 86_400_000));
    let kept = rotation("op12", "lab-bert", "AKIAFOREIGN", "AKIANEW2", false, None);
    assert_eq!(store.rotations_of(&user_ref("lab-Anna")).await.unwrap(), std::slice::from_ref(&timed));
    assert_eq!(store.rotations_of(&user_ref("lab-bert")).await.unwrap(), std::slice::from_ref(&kept));
    assert_eq!(store.due_rotations(START_MS + 86_399_999, 10).await.unwrap(), []);
    assert_eq!(store.due_rotations(START_MS + 86_400_000, 10).await.unwrap(), [timed]);

    let lost = |id: &str, found_ms, deactivated| UnaccountedKey {
        access_key_id: id.into(),
        user: user_ref("lab-bert"),
        operation: "op10".into(),
        found_ms,
        deactivated,
    };
    let both = [lost("AKIALOST1", START_MS + 10_500, true), lost("AKIALOST2", START_MS + 10_600, false)];
    assert_eq!(store.unaccounted_keys().await.unwrap(), both);
    let gone = event(Phase::Event, "bob", "account-for-key", "lab-bert");
    assert!(store.account_for_key("AKIALOST1", gone).await.unwrap());
    assert_eq!(store.unaccounted_keys().await.unwrap(), both[1..]);
}

async fn sessions_and_keys_have_their_origins(rig: &Rig) {
    let (_rig, store) = upgraded(rig);
    let key = SessionKey { fingerprint: "SHA256:bob".into(), registered_by: KeyOrigin::Directory };
    for (byte, id, name, method, key) in
        [(1, "s1", "alice", Method::Ldap, None), (3, "s2", "bob", Method::SshKey, Some(key))]
    {
        let found = store.session_by_token_hash(&[byte; 32]).await.unwrap().unwrap();
        assert_eq!((found.id.as_str(), found.identity.name.as_str()), (id, name));
        assert_eq!((found.method, found.key.as_ref()), (method, key.as_ref()));
        assert_eq!(found.identity.groups.labels(), ["lab-weber", "staff"]);
        assert!(found.identity.groups.iter().all(|group| !group.is_of_version_1()));
        assert_eq!((found.signed_in_ms, found.last_used_ms), (START_MS, START_MS + 60_000));
    }
    let origin = async |fingerprint| store.ssh_key(fingerprint).await.unwrap().unwrap().registered_by;
    assert_eq!(origin("SHA256:proved").await, Some(KeyOrigin::Ldap));
    assert_eq!(origin("SHA256:unproved").await, None);
    // Challenges were in a table of their own; whoever had one begins anew.
    let anew = flow(FlowKind::SshLogin, "anew", 60_000);
    store.begin_login_flow(anew.clone(), "192.0.2.7", 0, FlowCaps::default()).await.unwrap();
    assert_eq!(store.take_login_flow(anew.key.clone()).await.unwrap(), Some(anew));
}

async fn the_trail_is_whole_and_goes_on(rig: &Rig) {
    let (rig, store) = upgraded(rig);
    let old = whole_trail(&store).await;
    assert_eq!(old.len() as u64, LAST);
    let signed = store.last_checkpoint().await.unwrap().unwrap();
    let covered: LaneHeads = [old[LAST as usize - 3].head()].into_iter().collect();
    assert_eq!((signed.number, &signed.heads), (LAST - 2, &covered));
    let sink = store.sink_position("file").await.unwrap().unwrap();
    assert_eq!(store.heads_at(&sink.records).await.unwrap(), covered);
    assert!(store.is_state_kept("SHA256:key", "host:/var/lib/iam-sorryd/state").await.unwrap());

    let placed = store.record(vec![event(Phase::Event, "bob", "sign-in", ""); 300]).await.unwrap();
    assert_eq!((placed[0].seq, placed.len()), (1, 300));
    assert_ne!(placed[0].lane, LaneId::ZERO);
    store.close().await;
    let store = rig.open("newer");
    assert_eq!(store.contradiction(), None);
    let (all, report) = verified(&store).await;
    assert_eq!(all[..old.len()], old);
    assert_eq!((report.records, report.lanes), (LAST + 300, 2));

    let by =
        AuditFilter { name: Some("bob".into()), action: Some("sign-in".into()), ..AuditFilter::default() };
    let counts = store.audit_counts(by).await.unwrap();
    assert_eq!(counts.iter().map(|count| count.count).sum::<u64>(), 261 + 300, "{counts:?}");
}

async fn what_was_under_way_is_claimed_and_finished(rig: &Rig) {
    let (_rig, store) = upgraded(rig);
    let (next, intent) = operation("lab-bert");
    let Begun::Busy(holder) = store.begin(next.clone(), intent.clone()).await.unwrap() else { panic!() };
    assert_eq!(holder, "op301");
    let open = store.open_operations().await.unwrap();
    assert_eq!(open.iter().map(|it| it.new.id.as_str()).collect::<Vec<_>>(), ["op300", "op301"]);
    for (seen, epoch) in open.iter().zip([2, 1]) {
        let claimed = store.claim(seen, Duration::from_secs(60)).await.unwrap().unwrap();
        assert_eq!((claimed.instance.as_str(), claimed.epoch), ("new", epoch));
        assert_fenced(store.note(&seen.new.id, seen.epoch, "{}".into()).await);
        store.finish(Finish { epoch, ..finish(&claimed.new) }).await.unwrap();
    }
    assert!(store.open_operations().await.unwrap().is_empty());
    assert!(matches!(store.begin(next.clone(), intent).await.unwrap(), Begun::New));
    let ended = RotationChange::Ended { old_key: "AKIAFOREIGN".into() };
    store.finish(Finish { rotation: Some(ended), ..finish(&next) }).await.unwrap();
    assert!(store.rotations_of(&user_ref("lab-bert")).await.unwrap().is_empty());
}

async fn an_instance_that_died_is_known_and_what_was_recorded_is_too(rig: &Rig) {
    let (_rig, store) = upgraded(rig);
    let lost = store.lost_instances(Duration::ZERO).await.unwrap();
    assert_eq!(lost, [LostInstance { id: "two".into(), beat_ms: Some(START_MS + 300_000) }]);
    assert!(
        store
            .record_lost("two", Duration::ZERO, event(Phase::Event, "", "instance-lost", "two"))
            .await
            .unwrap()
    );
    assert_eq!(store.instances_alive(Duration::from_secs(60)).await.unwrap(), ["new"]);
    assert!(store.lease("reconciler", Duration::from_secs(60)).await.unwrap());
    for (name, digests) in
        [("rules", r#"{"rules":"aa"}"#), ("configuration", r#"{"aws":"bb"}"#), ("keys", "{}")]
    {
        assert_eq!(store.recorded_state(name).await.unwrap().as_deref(), Some(digests));
    }
    store.prove_room().await.unwrap();
    store.beat().await.unwrap();
    store.leave().await.unwrap();
}
