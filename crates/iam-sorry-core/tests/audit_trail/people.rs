//! What people sign themselves: requests and approvals. An export proves them without the service.

use std::process::{Command, Stdio};

use iam_sorry_core::audit::{
    Approval, Approver, Event, Finding, InvalidSignature, REQUEST_NAMESPACE, Record,
};

use crate::support::{chained, event, export, key, lane, report, signed};
use crate::trail::Trail;

fn asked(body: &str) -> Event {
    Event { signature: Some(signed(body)), ..event(1) }
}

#[test]
fn a_signed_request_is_verified() {
    let records = chained([asked(r#"{"name":"lab-robot"}"#), event(2)]);
    let report = report(&export(&records, &[2]));
    assert_eq!((report.findings, report.signatures), (vec![], 1));
    let read = records[0].event().unwrap().signature.unwrap();
    assert_eq!(read.verify().unwrap(), *key(8).public_key());
}

/// Whoever runs the service writes that a person asked for something else, and hashes and signs the trail anew.
#[test]
fn a_forged_signature_is_found() {
    let genuine = asked("{}");
    let forged = |change: &dyn Fn(&mut iam_sorry_core::audit::RequestSignature)| {
        let mut event = genuine.clone();
        change(event.signature.as_mut().unwrap());
        let report = report(&export(&chained([event]), &[1]));
        assert_eq!(report.signatures, 0);
        report.findings
    };
    let finding = |why| [Finding::ForgedSignature { record: lane().record(1), why }];
    assert_eq!(
        forged(&|it| it.request.path = "/api/v1/users/root/keys".into()),
        finding(InvalidSignature::Forged)
    );
    assert_eq!(
        forged(&|it| it.request.time = "2026-11-22T20:00:01Z".into()),
        finding(InvalidSignature::Forged)
    );
    assert_eq!(forged(&|it| it.key = key(9).public_key().to_line("")), finding(InvalidSignature::Forged));
    assert_eq!(forged(&|it| it.key = key(8).public_key().to_line("alice")), finding(InvalidSignature::Key));
    assert_eq!(forged(&|it| it.key = "ssh-rsa AAAA".into()), finding(InvalidSignature::Key));
    assert_eq!(forged(&|it| it.body = Some("{\"name\":\"root\"}".into())), finding(InvalidSignature::Body));
    assert_eq!(forged(&|it| it.signature = "AAAA".into()), finding(InvalidSignature::Form));
    assert_eq!(forged(&|it| it.signature = String::new()), finding(InvalidSignature::Form));
}

/// ssh-keygen verifies the same bytes: the signature is an SSHSIG as anybody makes it.
#[test]
fn ssh_keygen_verifies_a_signed_request() {
    let signature = signed("{}");
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("signers"), format!("alice {}\n", signature.key)).unwrap();
    let part = |bytes: &[u8]| [&u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat();
    use base64::Engine as _;
    let base64 = base64::engine::general_purpose::STANDARD;
    let blob = base64.decode(signature.key.split(' ').nth(1).unwrap()).unwrap();
    let raw = base64.decode(&signature.signature).unwrap();
    let parts = [&blob[..], REQUEST_NAMESPACE.as_bytes(), b"", b"sha512", &raw].map(part).concat();
    let armour = base64.encode([&b"SSHSIG\0\0\0\x01"[..], &parts].concat());
    let armour = format!("-----BEGIN SSH SIGNATURE-----\n{armour}\n-----END SSH SIGNATURE-----\n");
    std::fs::write(path("signature"), armour).unwrap();
    let verifies = |message: &str| {
        std::fs::write(path("message"), message).unwrap();
        let mut command = Command::new("ssh-keygen");
        command.args(["-Y", "verify", "-I", "alice", "-n", REQUEST_NAMESPACE, "-f"]);
        command.arg(path("signers")).arg("-s").arg(path("signature"));
        command
            .stdin(std::fs::File::open(path("message")).unwrap())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.status().unwrap().success()
    };
    assert!(verifies(&signature.request.canonical()));
    assert!(!verifies("something else"));
}

fn decision(person: &str, request: &str) -> Event {
    let mut event = event(2);
    event.person.id = person.to_owned();
    event.approval = Some(Approval { request: request.to_owned(), approvers: Vec::new() });
    Event { action: "approve-request".to_owned(), signature: Some(signed("{}")), ..event }
}

fn used(request: &str, decisions: &[(&str, &Record)]) -> Event {
    let approver = |(person, record): &(&str, &Record)| Approver {
        person: (*person).to_owned(),
        record: format!("{}:{}:{}", record.lane, record.seq, record.hash_hex()),
    };
    let approvers = decisions.iter().map(approver).collect();
    Event { approval: Some(Approval { request: request.to_owned(), approvers }), ..event(2) }
}

/// An approval is given at one instance and used at another.
#[test]
fn an_approval_names_the_records_of_its_decisions() {
    let mut trail = Trail::new();
    let (one, two) = (trail.open(), trail.open());
    let first = trail.write_event(one, &decision("corp/9", "r-1"));
    let second = trail.write_event(two, &decision("corp/10", "r-1"));
    trail.write_event(two, &used("r-1", &[("corp/9", &first), ("corp/10", &second)]));
    trail.sign();
    let result = report(&trail.lines);
    assert_eq!((result.findings, result.signatures), (vec![], 2));
}

#[test]
fn an_approval_that_is_not_there_is_found() {
    let wrong = |make: &dyn Fn(&Record, &Record) -> Event| {
        let mut trail = Trail::new();
        let one = trail.open();
        let plain = trail.write(one);
        let decided = trail.write_event(one, &decision("corp/9", "r-1"));
        let event = make(&decided, &plain);
        let named = event.approval.clone().unwrap().approvers.remove(0).record;
        let record = trail.write_event(one, &event).id();
        trail.sign();
        assert_eq!(report(&trail.lines).findings, [Finding::NoApproval { record, decision: named }]);
    };
    wrong(&|_, plain| used("r-1", &[("corp/9", plain)]));
    wrong(&|decided, _| used("r-2", &[("corp/9", decided)]));
    wrong(&|decided, _| used("r-1", &[("corp/8", decided)]));
    wrong(&|decided, _| used("r-1", &[("corp/9", &Record { hash: [1; 32], ..decided.clone() })]));
    wrong(&|decided, _| used("r-1", &[("corp/9", &Record { seq: 99, ..decided.clone() })]));
    wrong(&|decided, _| {
        let mut event = used("r-1", &[("corp/9", decided)]);
        event.approval.as_mut().unwrap().approvers[0].record = "yesterday".into();
        event
    });
}
