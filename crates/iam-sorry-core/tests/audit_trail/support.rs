//! Trails to try things on.

use std::collections::BTreeMap;

use iam_sorry_core::audit::{
    ChainId, CheckpointKey, CheckpointSigner, Decision, Event, Outcome, Person, Phase, Record, Report,
    Verifier, export_header, new_key_pem,
};
use iam_sorry_core::identity::Method;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use zeroize::Zeroizing;

pub fn chain() -> ChainId {
    ChainId::from_random([3; 16])
}

pub fn signer() -> CheckpointSigner {
    CheckpointSigner::from_pem(&new_key_pem(&Zeroizing::new([5; 32]))).unwrap()
}

pub fn event(seq: u64) -> Event {
    let (phase, operation) = match seq % 3 {
        0 => (Phase::Outcome, Some(format!("op-{}", seq - 2))),
        1 => (Phase::Intent, Some(format!("op-{seq}"))),
        _ => (Phase::Event, None),
    };
    Event {
        time_ms: 1_795_374_000_000 + i64::try_from(seq).unwrap(),
        instance: "i-1".into(),
        phase,
        operation,
        person: Person {
            id: "corp/7".into(),
            name: "alice".into(),
            groups: vec!["lab-dirk".into()],
            method: Some(Method::SshKey),
        },
        address: "10.0.0.7".into(),
        request_id: format!("req-{seq}"),
        action: "create-user".into(),
        resource: format!("dirk-{seq}"),
        decision: Some(Decision::Allow),
        rules: vec!["lab-members".into()],
        rules_digest: None,
        outcome: (phase == Phase::Outcome).then_some(Outcome::Success),
        aws_request_ids: vec!["aws-1".into()],
        details: BTreeMap::from([("policy_arn".to_owned(), "arn:aws:iam::aws:policy/X".to_owned())]),
    }
}

/// `count` records of [`event`], chained.
pub fn sealed(count: u64) -> Vec<Record> {
    chained((1..=count).map(event))
}

pub fn chained(events: impl IntoIterator<Item = Event>) -> Vec<Record> {
    let mut previous = chain().genesis();
    (1..)
        .zip(events)
        .map(|(seq, event)| {
            let record = Record::seal(seq, previous, &event);
            previous = record.hash;
            record
        })
        .collect()
}

/// The lines of an export with checkpoints behind some of the records.
pub fn export(records: &[Record], checkpoints: &[u64]) -> Vec<String> {
    let mut lines = vec![export_header(chain(), false)];
    let mut before = 0;
    for record in records {
        lines.push(record.export_line());
        if checkpoints.contains(&record.seq) {
            lines.push(signer().sign(chain(), record.seq, record.hash, 1, before).export_line());
            before = record.seq;
        }
    }
    lines
}

pub fn verify(keys: &[CheckpointKey]) -> Verifier {
    Verifier::new(keys.to_vec())
}

pub fn report(lines: &[impl AsRef<str>]) -> Report {
    let mut verifier = verify(&[signer().public_key().clone()]);
    for line in lines {
        verifier.line(line.as_ref());
    }
    verifier.finish()
}

/// Everything that an event may hold, with texts that are hard on JSON writers.
pub fn any_event() -> impl Strategy<Value = Event> {
    let text = || prop_oneof!["[a-z0-9-]{0,12}", "\\PC{0,12}", any::<String>()];
    let phase = prop_oneof![Just(Phase::Intent), Just(Phase::Outcome), Just(Phase::Event)];
    let method = prop_oneof![
        Just(None),
        Just(Some(Method::SshKey)),
        Just(Some(Method::Ldap)),
        Just(Some(Method::DevLink))
    ];
    let decision = prop_oneof![Just(None), Just(Some(Decision::Allow)), Just(Some(Decision::Deny))];
    let outcome = prop_oneof![
        Just(None),
        Just(Some(Outcome::Success)),
        Just(Some(Outcome::Failure)),
        Just(Some(Outcome::Reconciled))
    ];
    let person = (text(), text(), vec(text(), 0..3), method).prop_map(|(id, name, groups, method)| Person {
        id,
        name,
        groups,
        method,
    });
    let first = (0..1_i64 << 50, text(), phase, proptest::option::of(text()), person, text(), text());
    let second = (
        text(),
        text(),
        decision,
        vec(text(), 0..3),
        outcome,
        vec(text(), 0..3),
        btree_map(text(), text(), 0..4),
        proptest::option::of("[0-9a-f]{64}"),
    );
    (first, second).prop_map(|(first, second)| {
        let (time_ms, instance, phase, operation, person, address, request_id) = first;
        let (action, resource, decision, rules, outcome, aws_request_ids, details, rules_digest) = second;
        Event {
            time_ms,
            instance,
            phase,
            operation,
            person,
            address,
            request_id,
            action,
            resource,
            decision,
            rules,
            rules_digest,
            outcome,
            aws_request_ids,
            details,
        }
    })
}
