//! What lies between two steps of a sign-in dialogue.

use iam_sorry_core::audit::Phase;
use iam_sorry_core::identity::KeyOrigin;
use iam_sorry_store::{FlowCaps, FlowKey, FlowKind, LoginFlow, SshKey, Store, StoreError};

use crate::on_both;
use crate::rig::{Rig, event, flow, flow_key, identity};

on_both! {
    a_flow_is_read_back_as_it_was_and_taken_once,
    a_flow_is_taken_once_by_however_many_instances,
    a_flow_is_nothing_to_another_dialogue_or_provider,
    a_flow_comes_with_what_is_registered_of_the_key,
    one_share_only_pushes_out_its_own,
    the_number_of_flows_of_a_kind_is_bounded,
    a_flood_of_one_kind_leaves_the_others_alone,
    flows_whose_time_is_over_are_deleted,
    an_old_copy_of_the_database_brings_no_flow_back,
}

async fn begin(store: &Store, flow: LoginFlow, counted_as: &str, caps: FlowCaps) -> Result<(), StoreError> {
    store.begin_login_flow(flow, counted_as, 0, caps).await
}

/// Every column, with and without what may be missing; also bytes that are no text.
async fn a_flow_is_read_back_as_it_was_and_taken_once(rig: &Rig) {
    let store = rig.open("one");
    let bare = flow(FlowKind::SshLogin, "bare", 60_000);
    let bound = LoginFlow {
        network: Some("2001:db8::".into()),
        browser_hash: Some([9; 32]),
        data: vec![0, 0xff, b'\'', 0x80],
        begun_ms: -5,
        ..flow(FlowKind::SshRegistration, "bound", 70_000)
    };
    let empty = LoginFlow { data: Vec::new(), ..flow(FlowKind::DevLink, "empty", 80_000) };
    for made in [&bare, &bound, &empty] {
        begin(&store, made.clone(), "192.0.2.1", FlowCaps::default()).await.unwrap();
    }
    for made in [bare, bound, empty] {
        assert_eq!(store.take_login_flow(made.key.clone()).await.unwrap(), Some(made.clone()));
        assert_eq!(store.take_login_flow(made.key).await.unwrap(), None);
    }
}

async fn a_flow_is_taken_once_by_however_many_instances(rig: &Rig) {
    let store = rig.open("one");
    let other = if rig.is_postgres() { rig.open("two") } else { store.clone() };
    for round in 0..5 {
        let made = flow(FlowKind::SshLogin, &format!("flow {round}"), 60_000);
        begin(&store, made.clone(), "192.0.2.1", FlowCaps::default()).await.unwrap();
        let takes = (0..16).map(|number| {
            let store = if number % 2 == 0 { store.clone() } else { other.clone() };
            let key = made.key.clone();
            tokio::spawn(async move { store.take_login_flow(key).await.unwrap() })
        });
        let mut taken = Vec::new();
        for take in takes.collect::<Vec<_>>() {
            taken.extend(take.await.unwrap());
        }
        assert_eq!(taken, [made]);
    }
}

/// Whoever brings it to the wrong door doesn't use it up either.
async fn a_flow_is_nothing_to_another_dialogue_or_provider(rig: &Rig) {
    let store = rig.open("one");
    let made = flow(FlowKind::SshLogin, "one", 60_000);
    begin(&store, made.clone(), "192.0.2.1", FlowCaps::default()).await.unwrap();
    for wrong in [
        FlowKey { kind: FlowKind::SshRegistration, ..made.key.clone() },
        FlowKey { source: "another".into(), ..made.key.clone() },
        FlowKey { source: "' OR 1=1 --".into(), ..made.key.clone() },
        FlowKey { source: "nul\0".into(), ..made.key.clone() },
        flow_key(FlowKind::SshLogin, "another"),
    ] {
        assert_eq!(store.take_login_flow(wrong).await.unwrap(), None);
    }
    assert_eq!(store.take_login_flow(made.key.clone()).await.unwrap(), Some(made));
}

async fn a_flow_comes_with_what_is_registered_of_the_key(rig: &Rig) {
    let store = rig.open("one");
    let registered = SshKey {
        fingerprint: "SHA256:1".into(),
        public_key: "ssh-ed25519 AAAA".into(),
        comment: String::new(),
        identity: identity("alice"),
        registered_ms: 5,
        registered_by: Some(KeyOrigin::Ldap),
    };
    let event = event(Phase::Event, "alice", "register-key", "");
    assert!(store.add_ssh_key(registered.clone(), event).await.unwrap());
    for (fingerprint, found) in [("SHA256:1", Some(registered)), ("SHA256:2", None)] {
        let made = flow(FlowKind::SshLogin, fingerprint, 60_000);
        begin(&store, made.clone(), "192.0.2.1", FlowCaps::default()).await.unwrap();
        let taken = store.take_login_flow_of_key(made.key.clone(), fingerprint).await.unwrap();
        assert_eq!(taken, Some((made.clone(), found)));
        assert_eq!(store.take_login_flow_of_key(made.key, fingerprint).await.unwrap(), None);
    }
}

async fn one_share_only_pushes_out_its_own(rig: &Rig) {
    let store = rig.open("one");
    let caps = FlowCaps { each: 3, total: 100 };
    let of = |id: String, ends: i64| flow(FlowKind::SshLogin, &id, ends);
    let taken =
        async |id: &str| store.take_login_flow(flow_key(FlowKind::SshLogin, id)).await.unwrap().is_some();
    begin(&store, of("victim".into(), 50_000), "192.0.2.1", caps).await.unwrap();
    for number in 0..20 {
        begin(&store, of(format!("flood-{number}"), 60_000 + number), "203.0.113.9", caps).await.unwrap();
    }
    assert!(taken("victim").await);
    for number in 0..20 {
        assert_eq!(taken(&format!("flood-{number}")).await, number >= 17, "{number}");
    }
    // A share of one: the new one takes the place of the old one.
    let one = FlowCaps { each: 1, total: 100 };
    for id in ["first", "second"] {
        begin(&store, flow(FlowKind::DevLink, id, 60_000), "dev", one).await.unwrap();
    }
    assert_eq!(store.take_login_flow(flow_key(FlowKind::DevLink, "first")).await.unwrap(), None);
    assert!(store.take_login_flow(flow_key(FlowKind::DevLink, "second")).await.unwrap().is_some());
}

async fn the_number_of_flows_of_a_kind_is_bounded(rig: &Rig) {
    let store = rig.open("one");
    let caps = FlowCaps { each: 10, total: 5 };
    let put = async |number: i64, now| {
        let made = flow(FlowKind::SshLogin, &format!("flow {number}"), 1_000 + number);
        store.begin_login_flow(made, &format!("192.0.2.{number}"), now, caps).await
    };
    for number in 0..5 {
        put(number, 0).await.unwrap();
    }
    assert!(matches!(put(5, 0).await, Err(StoreError::TooMany(_))));
    // The two oldest are over now.
    put(6, 1_001).await.unwrap();
    put(7, 1_001).await.unwrap();
    assert!(matches!(put(8, 1_001).await, Err(StoreError::TooMany(_))));
}

/// Nobody keeps people from signing in by key by beginning another dialogue over and over.
async fn a_flood_of_one_kind_leaves_the_others_alone(rig: &Rig) {
    let store = rig.open("one");
    let caps = FlowCaps { each: 3, total: 5 };
    let here = "192.0.2.1";
    begin(&store, flow(FlowKind::SshLogin, "victim", 50_000), here, caps).await.unwrap();
    for number in 0..20 {
        let made = flow(FlowKind::SshRegistration, &format!("flood-{number}"), 60_000);
        let shares = [here, "192.0.2.2", "192.0.2.3"];
        let result = begin(&store, made, shares[number % 3], caps).await;
        assert!(matches!(result, Ok(()) | Err(StoreError::TooMany(_))), "{result:?}");
    }
    begin(&store, flow(FlowKind::SshLogin, "next", 50_000), here, caps).await.unwrap();
    for id in ["victim", "next"] {
        assert!(store.take_login_flow(flow_key(FlowKind::SshLogin, id)).await.unwrap().is_some(), "{id}");
    }
}

async fn flows_whose_time_is_over_are_deleted(rig: &Rig) {
    let store = rig.open("one");
    for (id, ends) in [("old", 10_000), ("new", 10_001)] {
        begin(&store, flow(FlowKind::SshLogin, id, ends), "a", FlowCaps::default()).await.unwrap();
    }
    assert_eq!(store.delete_expired(10_000, 5_000).await.unwrap(), 0, "sessions");
    assert_eq!(store.take_login_flow(flow_key(FlowKind::SshLogin, "old")).await.unwrap(), None);
    assert!(store.take_login_flow(flow_key(FlowKind::SshLogin, "new")).await.unwrap().is_some());
}

/// It may have been taken since the copy was made.
async fn an_old_copy_of_the_database_brings_no_flow_back(rig: &Rig) {
    let store = rig.open("one");
    let made = flow(FlowKind::SshLogin, "old", 60_000);
    begin(&store, made.clone(), "192.0.2.1", FlowCaps::default()).await.unwrap();
    store.continue_after_break(event(Phase::Event, "root", "audit-restored", "")).await.unwrap();
    assert_eq!(store.take_login_flow(made.key).await.unwrap(), None);
}
