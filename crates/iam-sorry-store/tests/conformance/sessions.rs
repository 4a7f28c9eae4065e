//! Sessions and SSH keys.

use iam_sorry_core::audit::Phase;
use iam_sorry_core::group::Group;
use iam_sorry_core::identity::KeyOrigin;
use iam_sorry_store::{SshKey, StoreError};

use crate::on_both;
use crate::rig::{Rig, event, identity, page, session, whole_trail};

on_both! {
    a_session_is_found_by_its_tokens_hash,
    a_session_and_its_record_come_together,
    an_ended_session_is_gone_and_recorded_once,
    all_sessions_of_a_person_end_and_nobody_elses,
    sessions_are_listed_newest_first,
    what_expired_or_idled_is_deleted,
    a_key_is_one_persons,
    a_key_that_has_signed_takes_the_place_of_one_that_has_not,
    a_person_has_a_bounded_number_of_keys,
}

async fn a_session_is_found_by_its_tokens_hash(rig: &Rig) {
    let store = rig.open("one");
    let mut made = session("alice", 100);
    let record = event(Phase::Event, "alice", "sign-in", "");
    store.create_session(made.clone(), record).await.unwrap();
    assert_eq!(store.session_by_token_hash(&made.token_hash).await.unwrap(), Some(made.clone()));
    assert_eq!(store.session(&made.id).await.unwrap(), Some(made.clone()));
    assert_eq!(store.session_by_token_hash(&[9; 32]).await.unwrap(), None);

    store.touch_session(&made.id, 500).await.unwrap();
    store.touch_session(&made.id, 400).await.unwrap(); // a clock that stepped back
    made.last_used_ms = 500;
    assert_eq!(store.session(&made.id).await.unwrap(), Some(made.clone()));
    store.touch_session("nothing", 1).await.unwrap();

    let mut known_now = made.identity.clone();
    known_now.groups = known_now.groups.iter().cloned().chain([Group::named("corp", "new-lab")]).collect();
    assert!(store.set_session_identity(&made.id, &made.identity, &known_now).await.unwrap());
    let somebody_else = session("bert", 100).identity;
    assert!(!store.set_session_identity(&made.id, &known_now, &somebody_else).await.unwrap());
    // Somebody else has written since: what was found before that is not put over it.
    assert!(!store.set_session_identity(&made.id, &made.identity, &made.identity).await.unwrap());
    assert!(!store.set_session_identity("ended", &made.identity, &known_now).await.unwrap());
    assert_eq!(store.session(&made.id).await.unwrap().unwrap().identity, known_now, "never another person's");

    let mut bare = session("bert", 100);
    (bare.form_hash, bare.via) = (None, None);
    store.create_session(bare.clone(), event(Phase::Event, "bert", "sign-in", "")).await.unwrap();
    assert_eq!(store.session(&bare.id).await.unwrap(), Some(bare));
}

async fn a_session_and_its_record_come_together(rig: &Rig) {
    let store = rig.open("one");
    let made = session("alice", 100);
    store.create_session(made.clone(), event(Phase::Event, "alice", "sign-in", "")).await.unwrap();
    // The same token again: neither a session nor a record.
    let mut twin = session("mallory", 100);
    twin.token_hash = made.token_hash;
    let result = store.create_session(twin.clone(), event(Phase::Event, "mallory", "sign-in", "")).await;
    assert!(result.is_err());
    assert_eq!(store.session(&twin.id).await.unwrap(), None);
    assert_eq!(whole_trail(&store).await.len(), 1);
}

async fn an_ended_session_is_gone_and_recorded_once(rig: &Rig) {
    let store = rig.open("one");
    let made = session("alice", 100);
    store.create_session(made.clone(), event(Phase::Event, "alice", "sign-in", "")).await.unwrap();
    let end = || event(Phase::Event, "alice", "end-session", "");
    assert!(store.end_session(&made.id, end()).await.unwrap());
    assert_eq!(store.session_by_token_hash(&made.token_hash).await.unwrap(), None);
    assert!(!store.end_session(&made.id, end()).await.unwrap());
    assert_eq!(whole_trail(&store).await.len(), 2);
}

async fn all_sessions_of_a_person_end_and_nobody_elses(rig: &Rig) {
    let store = rig.open("one");
    for name in ["alice", "alice", "bert"] {
        let record = event(Phase::Event, name, "sign-in", "");
        store.create_session(session(name, 100), record).await.unwrap();
    }
    let alice = identity("alice").id();
    let end = || event(Phase::Event, "alice", "end-sessions", "");
    assert_eq!(store.end_sessions_of(&alice, end()).await.unwrap(), 2);
    assert_eq!(store.end_sessions_of(&alice, end()).await.unwrap(), 0);
    assert_eq!(store.list_sessions(None, page(None, 10)).await.unwrap().items.len(), 1);
    assert_eq!(whole_trail(&store).await.len(), 4);
}

async fn sessions_are_listed_newest_first(rig: &Rig) {
    let store = rig.open("one");
    for (name, time) in [("alice", 1), ("bert", 2), ("alice", 3), ("alice", 3), ("bert", 4)] {
        let record = event(Phase::Event, name, "sign-in", "");
        store.create_session(session(name, time), record).await.unwrap();
    }
    let alice = identity("alice").id();
    for (person, expected) in [(None, vec![4, 3, 3, 2, 1]), (Some(alice.as_str()), vec![3, 3, 1])] {
        for limit in [1, 2, 50] {
            let (mut times, mut ids, mut cursor) = (Vec::new(), Vec::new(), None);
            loop {
                let part = store.list_sessions(person, page(cursor, limit)).await.unwrap();
                times.extend(part.items.iter().map(|session| session.signed_in_ms));
                ids.extend(part.items.into_iter().map(|session| session.id));
                cursor = part.next;
                if cursor.is_none() {
                    break;
                }
            }
            assert_eq!(times, expected);
            ids.sort();
            ids.dedup();
            assert_eq!(ids.len(), expected.len());
        }
    }
}

async fn what_expired_or_idled_is_deleted(rig: &Rig) {
    let store = rig.open("one");
    let mut sessions = [session("expired", 1_000), session("idle", 2_000), session("good", 9_000)];
    sessions[0].expires_ms = 10_000;
    sessions[0].last_used_ms = 9_000;
    for made in &sessions {
        let record = event(Phase::Event, "x", "sign-in", "");
        store.create_session(made.clone(), record).await.unwrap();
    }
    assert_eq!(store.delete_expired(10_000, 5_000).await.unwrap(), 2);
    let left = store.list_sessions(None, page(None, 10)).await.unwrap().items;
    assert_eq!(left, sessions[2..]);
}

fn ssh_key(name: &str, fingerprint: &str) -> SshKey {
    SshKey {
        fingerprint: fingerprint.into(),
        public_key: "ssh-ed25519 AAAA".into(),
        comment: "laptop".into(),
        identity: identity(name),
        registered_ms: 5,
        registered_by: Some(KeyOrigin::Ldap),
    }
}

async fn a_key_is_one_persons(rig: &Rig) {
    let store = rig.open("one");
    let key = ssh_key("alice", "SHA256:1");
    let add = || event(Phase::Event, "alice", "add-ssh-key", "");
    assert!(store.add_ssh_key(key.clone(), add()).await.unwrap());
    assert!(!store.add_ssh_key(key.clone(), add()).await.unwrap());
    assert!(!store.add_ssh_key(ssh_key("mallory", "SHA256:1"), add()).await.unwrap());
    assert_eq!(store.ssh_key("SHA256:1").await.unwrap(), Some(key.clone()));
    assert_eq!(store.ssh_keys_of(&key.identity.id()).await.unwrap(), std::slice::from_ref(&key));
    assert!(store.ssh_keys_of(&identity("mallory").id()).await.unwrap().is_empty());

    let remove = || event(Phase::Event, "mallory", "remove-ssh-key", "");
    assert!(!store.remove_ssh_key(&identity("mallory").id(), "SHA256:1", remove()).await.unwrap());
    assert!(store.remove_ssh_key(&key.identity.id(), "SHA256:1", remove()).await.unwrap());
    assert_eq!(store.ssh_key("SHA256:1").await.unwrap(), None);
    assert_eq!(whole_trail(&store).await.len(), 2);
}

/// Registered by an older version, without a signature: by whoever had the public half.
async fn a_key_that_has_signed_takes_the_place_of_one_that_has_not(rig: &Rig) {
    let store = rig.open("one");
    let add = || event(Phase::Event, "alice", "register-key", "");
    let unproved = SshKey { registered_by: None, ..ssh_key("mallory", "SHA256:1") };
    assert!(store.add_ssh_key(unproved.clone(), add()).await.unwrap());
    assert_eq!(store.ssh_key("SHA256:1").await.unwrap(), Some(unproved.clone()));
    let proved = ssh_key("alice", "SHA256:1");
    assert!(store.add_ssh_key(proved.clone(), add()).await.unwrap());
    assert_eq!(store.ssh_key("SHA256:1").await.unwrap(), Some(proved.clone()));
    assert!(store.ssh_keys_of(&unproved.identity.id()).await.unwrap().is_empty());
    assert!(!store.add_ssh_key(ssh_key("mallory", "SHA256:1"), add()).await.unwrap());
    assert_eq!(store.ssh_key("SHA256:1").await.unwrap(), Some(proved));
}

async fn a_person_has_a_bounded_number_of_keys(rig: &Rig) {
    let store = rig.open("one");
    let add = || event(Phase::Event, "alice", "add-ssh-key", "");
    for number in 0..50 {
        assert!(store.add_ssh_key(ssh_key("alice", &format!("SHA256:{number}")), add()).await.unwrap());
    }
    let one_more = store.add_ssh_key(ssh_key("alice", "SHA256:50"), add()).await;
    assert!(matches!(&one_more, Err(StoreError::TooMany(text)) if text.contains("50")), "{one_more:?}");
    assert!(store.add_ssh_key(ssh_key("bert", "SHA256:50"), add()).await.unwrap());
}
