//! Who may register which SSH key, and whom it then signs in.

use iam_sorry_core::api::RegisterSshKey;
use testkit::Slapd;

use crate::rig::{HERE, OpenSshKey, Rig};
use crate::setup::Setup;

fn department() -> (Slapd, Rig) {
    let slapd = Slapd::department();
    let folder = tempfile::tempdir().unwrap();
    let directory = Setup::ldaps(&slapd).toml(&folder);
    let login = format!("[ssh]\n[limits]\nrefusal_milliseconds = 0\n[ldap]\n{directory}");
    let rig = Rig::with(&login, folder, |ways| ways);
    (slapd, rig)
}

/// Today: bob registers alice's public key, and she is then signed in as bob.
#[tokio::test]
async fn nobody_registers_anothers_public_key() {
    let (_slapd, rig) = department();
    let alices = OpenSshKey::new("ed25519");
    let bob = rig.by_password("bob", "bob-password", HERE).await.unwrap();
    let bob = rig.caller(&bob).await.unwrap();
    let request = RegisterSshKey { public_key: alices.line.clone() };
    let registered = rig.service.register_ssh_key(&bob, request).await;
    let became = rig.by_key(&alices).await.map(|session| session.answer.identity.name);
    assert!(registered.is_err() && became.is_err(), "alice is signed in as {became:?}");
}

/// Today: a copy of alice's public key in bob's own entry locks her out.
#[tokio::test]
async fn a_copied_public_key_locks_nobody_out() {
    let (slapd, rig) = department();
    let alices = OpenSshKey::new("ed25519");
    slapd.set_ssh_keys("alice", &[&alices.line]);
    slapd.set_ssh_keys("bob", &[&alices.line]);
    let session = rig.by_key(&alices).await;
    assert_eq!(session.unwrap().answer.identity.name, "alice");
}
