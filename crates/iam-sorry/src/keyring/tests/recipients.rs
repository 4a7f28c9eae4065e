//! Who can open what; and the report for `doctor`.

use super::*;

/// Two people's keys, both in one agent, and values sealed for the first.
fn two_keys() -> (Rig, SshAgent, PathBuf, Vec<String>) {
    let agent = SshAgent::start();
    let rig = Rig::with_key().agent(agent.socket());
    let second = rig.home.ssh_key_as("second", KeyKind::Ed25519, PASSPHRASE, 1);
    agent.add(&rig.key_path(), PASSPHRASE, &[]);
    agent.add(&second, PASSPHRASE, &[]);
    let values = rig.sealed();
    (rig, agent, second, values)
}

fn recipients(value: &str) -> Vec<KeyId> {
    Keyring::recipients("p", "f", value).unwrap()
}

#[test]
fn a_second_key_is_added_and_opens_alone() {
    let (rig, agent, second, values) = two_keys();
    let both = rig.keyring().add_recipient("p", &fields(&values), &public(&second)).unwrap();
    assert_eq!(recipients(&both[0]).len(), 2);
    assert_eq!(salt(&both[0]), salt(&values[0]), "salt and data key stay");
    agent.remove(&rig.key_path());
    assert_eq!(open(&mut rig.keyring(), &both).unwrap(), [ID, SECRET]);
    // With one recipient absent, new values go into the same envelope, so that he can still open them.
    let new = SecretString::from("NEW");
    fs::remove_file(rig.key_path()).unwrap();
    let replaced = rig.keyring().replace_fields("p", &fields(&both), &[("aws_access_key_id", &new)]).unwrap();
    assert_eq!(salt(&replaced[0]), salt(&both[0]));
    assert_eq!(recipients(&replaced[0]).len(), 2);
    let again = rig.keyring().add_recipient("p", &fields(&both), &public(&second)).unwrap_err();
    assert!(again.to_string().contains("already sealed for the key"), "{again}");
}

#[test]
fn a_removed_key_opens_nothing_new() {
    let (rig, agent, second, values) = two_keys();
    let both = rig.keyring().add_recipient("p", &fields(&values), &public(&second)).unwrap();
    let mine = public(&rig.key_path()).key_id();
    let left = rig.keyring().remove_recipient("p", &fields(&both), &public(&second).key_id()).unwrap();
    assert_eq!(recipients(&left[0]), [mine]);
    assert_ne!(salt(&left[0]), salt(&both[0]), "a fresh envelope");
    assert!(rig.heard().contains("rotate the AWS key"), "{}", rig.heard());
    assert_eq!(open(&mut rig.keyring(), &left).unwrap(), [ID, SECRET]);
    agent.remove(&rig.key_path());
    fs::remove_file(rig.key_path()).unwrap();
    assert!(matches!(open(&mut rig.keyring(), &left), Err(KeyError::NoRecipientKey { .. })));
    // The last one can't be removed, nor one that isn't there.
    let (rig, _agent, second, values) = two_keys();
    let alone = public(&rig.key_path()).key_id();
    assert!(rig.keyring().remove_recipient("p", &fields(&values), &alone).is_err());
    assert!(rig.keyring().remove_recipient("p", &fields(&values), &public(&second).key_id()).is_err());
}

#[test]
fn what_is_plain_stays_plain_when_the_rest_is_sealed_again() {
    let (rig, _agent, second, values) = two_keys();
    let three = [
        ("aws_access_key_id", values[0].as_str()),
        ("region", "eu-west-1"),
        ("aws_secret_access_key", &values[1]),
    ];
    let both = rig.keyring().add_recipient("p", &three, &public(&second)).unwrap();
    assert_eq!(both[1], "eu-west-1");
    assert_eq!(open(&mut rig.keyring(), &[both[0].clone(), both[2].clone()]).unwrap(), [ID, SECRET]);
}

#[test]
fn many_profiles_share_one_envelope_and_one_signature() {
    let rig = Rig::with_key();
    let agent = FakeAgent::holding(AgentFault::Good, Stage::Any, &rig.key_path(), PASSPHRASE);
    let rig = rig.fake(&agent);
    let secret = SecretString::from(SECRET);
    let names: Vec<_> = (0..50).map(|i| format!("p{i}")).collect();
    let to_seal: Vec<_> = names.iter().map(|n| (n.as_str(), "aws_secret_access_key", &secret)).collect();
    let sealed = rig.keyring().seal_fields(&to_seal).unwrap();
    let before = agent.signatures();
    let mut keyring = rig.keyring();
    for (name, value) in names.iter().zip(&sealed) {
        keyring.open_fields(name, &[("aws_secret_access_key", value)]).unwrap();
    }
    assert_eq!(agent.signatures() - before, 1);
}

#[test]
fn the_report_for_doctor_asks_nobody() {
    let askpass = AskPass::answering(PASSPHRASE);
    let agent = SshAgent::start();
    let rig = Rig::with_key().agent(agent.socket()).askpass(&askpass);
    agent.add(&rig.key_path(), PASSPHRASE, &[]);
    let report = rig.keyring().describe_default_key();
    assert_eq!(report.path, Some(rig.key_path()));
    let key = report.key.unwrap();
    assert!(
        key.in_agent && matches!(key.protection, Some(Protection::Passphrase { rounds: 1, .. })),
        "{key:?}"
    );
    assert_eq!(report.agent.unwrap().unwrap().usable.len(), 1);
    let nothing = Rig::new().keyring().describe_default_key();
    assert!(matches!(nothing.key, Err(KeyError::NoKeyFile { .. })) && nothing.agent.is_none());
    assert_eq!(askpass.calls(), 0);
}
