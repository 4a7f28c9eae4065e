//! Trails to try things on.

use std::collections::BTreeMap;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use iam_sorry_core::audit::{
    Approval, Approver, ChainId, CheckpointKey, CheckpointSigner, Decision, Event, ExportHeader, Hash,
    LaneHead, LaneId, LaneWriter, Links, Outcome, Person, Phase, Record, Report, RequestSignature,
    SignedRequest, Verifier, new_key_pem,
};
use iam_sorry_core::identity::Method;
use iam_sorry_core::ssh::{PublicKey, UnlockedKey};
use proptest::collection::{btree_map, vec};
use proptest::option::of;
use proptest::prelude::*;
use zeroize::Zeroizing;

pub fn chain() -> ChainId {
    ChainId::from_random([3; 16])
}

/// The lane of the trails that have only one.
pub fn lane() -> LaneId {
    LaneId::from_bytes([1; 8])
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
        outcome: (phase == Phase::Outcome).then_some(Outcome::Success),
        aws_request_ids: vec!["aws-1".into()],
        details: BTreeMap::from([("policy_arn".to_owned(), "arn:aws:iam::aws:policy/X".to_owned())]),
        ..Event::default()
    }
}

/// `count` records of [`event`], chained.
pub fn sealed(count: u64) -> Vec<Record> {
    chained((1..=count).map(event))
}

pub fn chained(events: impl IntoIterator<Item = Event>) -> Vec<Record> {
    let mut writer = LaneWriter::new(chain(), lane());
    events.into_iter().map(|event| writer.seal(&event, &opening(writer.head().seq))).collect()
}

/// A record of [`lane`] at any place, behind any other.
pub fn forge(seq: u64, previous: Hash, event: &Event) -> Record {
    let mut writer = LaneWriter::new(chain(), lane());
    writer.back_to(LaneHead { lane: lane(), seq: seq - 1, hash: previous });
    writer.seal(event, &opening(seq - 1))
}

/// A record as version 1 wrote it.
pub fn seal_v1(seq: u64, previous: Hash, event: &Event) -> Record {
    let person = &event.person;
    let mut value = serde_json::json!({
        "action": event.action, "address": event.address, "aws_request_ids": event.aws_request_ids,
        "details": event.details, "instance": event.instance,
        "person": { "groups": person.groups, "id": person.id, "name": person.name },
        "phase": event.phase, "previous": hex(&previous), "request_id": event.request_id, "resource": event.resource,
        "rules": event.rules, "seq": seq, "time_ms": event.time_ms, "v": 1,
    });
    let optional = [
        ("decision", serde_json::json!(event.decision)),
        ("operation", serde_json::json!(event.operation)),
        ("outcome", serde_json::json!(event.outcome)),
        ("rules_digest", serde_json::json!(event.rules_digest)),
    ];
    for (name, field) in optional.into_iter().filter(|(_, field)| !field.is_null()) {
        value[name] = field;
    }
    if let Some(method) = person.method {
        value["person"]["method"] = serde_json::json!(method);
    }
    Record::parse(&sorted(&value).to_string()).unwrap()
}

/// The same with its keys sorted, which makes its text canonical.
pub fn sorted(value: &serde_json::Value) -> serde_json::Value {
    match value {
        serde_json::Value::Object(fields) => {
            let fields: BTreeMap<_, _> = fields.iter().map(|(key, value)| (key, sorted(value))).collect();
            fields.into_iter().map(|(key, value)| (key.clone(), value)).collect()
        }
        serde_json::Value::Array(values) => values.iter().map(sorted).collect(),
        other => other.clone(),
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What the first record of the only lane says of others.
fn opening(seq: u64) -> Links {
    Links { heads: (seq == 0).then(Default::default), ..Links::default() }
}

/// Lines with checkpoints behind some of the records.
pub fn export(records: &[Record], checkpoints: &[u64]) -> Vec<String> {
    let mut lines = vec![ExportHeader::new(chain()).line()];
    let mut before = None;
    for record in records {
        lines.push(record.export_line());
        if checkpoints.contains(&record.seq) {
            let checkpoint =
                signer().sign(chain(), [record.head()].into_iter().collect(), 1, before.as_ref());
            lines.push(checkpoint.export_line());
            before = Some(checkpoint);
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

/// A person's SSH key.
pub fn key(seed: u8) -> UnlockedKey {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
    let public = PublicKey::from_bytes(pair.public_key().as_ref().try_into().unwrap()).unwrap();
    UnlockedKey::from_seed(&[seed; 32], &public).unwrap()
}

/// A request as its person signs it.
pub fn signed(body: &str) -> RequestSignature {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, body.as_bytes());
    let request = SignedRequest {
        body_sha256: hex(digest.as_ref()),
        idempotency_key: "key-00000001".into(),
        method: "POST".into(),
        origin: "https://iam.example.org".into(),
        path: "/api/v1/users/lab-robot/keys".into(),
        time: "2026-11-22T20:00:00Z".into(),
    };
    let signature = key(8).sign(&request.to_be_signed());
    RequestSignature::new(request, Some(body.to_owned()), key(8).public_key(), &signature)
}

/// Everything that an event may hold, with texts that are hard on JSON writers.
pub fn any_event() -> impl Strategy<Value = Event> {
    let text = || prop_oneof!["[a-z0-9-]{0,12}", "\\PC{0,12}", any::<String>()];
    let phase = prop_oneof![Just(Phase::Intent), Just(Phase::Outcome), Just(Phase::Event)];
    let method = prop_oneof![Just(Method::SshKey), Just(Method::Ldap), Just(Method::DevLink)];
    let decision = prop_oneof![Just(Decision::Allow), Just(Decision::Deny)];
    let outcome = prop_oneof![Just(Outcome::Success), Just(Outcome::Failure), Just(Outcome::Reconciled)];
    // Lists on either side of the length from which they are named by their digest.
    let groups = prop_oneof![vec(text(), 0..3), vec("[a-z]{12}", 6..9)];
    let person = (text(), text(), groups, of(method));
    let person = person.prop_map(|(id, name, groups, method)| Person { id, name, groups, method });
    let approver = (text(), text()).prop_map(|(person, record)| Approver { person, record });
    let approval = (text(), vec(approver, 0..3));
    let approval = approval.prop_map(|(request, approvers)| Approval { request, approvers });
    let first = (0..1_i64 << 50, text(), phase, of(text()), person, text(), text(), of(text()));
    let second = (
        text(),
        text(),
        of(decision),
        vec(text(), 0..3),
        of(outcome),
        vec(text(), 0..3),
        btree_map(text(), text(), 0..4),
        of("[0-9a-f]{64}"),
    );
    let third = (of(text()), of(text().prop_map(|body| signed(&body))), of(approval));
    (first, second, third).prop_map(|(first, second, third)| {
        let (time_ms, instance, phase, operation, person, address, request_id, via) = first;
        let (action, resource, decision, rules, outcome, aws_request_ids, details, rules_digest) = second;
        let (account, signature, approval) = third;
        Event {
            time_ms,
            instance,
            phase,
            operation,
            person,
            via,
            address,
            request_id,
            action,
            account,
            resource,
            decision,
            rules,
            rules_digest,
            signature,
            approval,
            outcome,
            aws_request_ids,
            details,
        }
    })
}
