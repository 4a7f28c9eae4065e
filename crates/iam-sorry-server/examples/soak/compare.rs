//! Everything against everything, once nothing is open any more.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use iam_sorry_core::audit::{Event, Outcome, Phase, Record};
use iam_sorry_store::{PageRequest, Store};
use serde_json::Value;

use crate::department::{Department, run};
use crate::people::Book;
use crate::trail::whole_trail;

/// What a pass found.
pub struct Report {
    name: String,
    done: BTreeMap<&'static str, u64>,
    refused: BTreeMap<String, u64>,
    delivered: usize,
    kills: usize,
    lost_answers: u64,
    records: usize,
    unaccounted: usize,
    findings: Vec<Finding>,
}

struct Finding {
    kind: Kind,
    what: String,
}

/// The columns of the table; each must be zero.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// A key that somebody held was gone or inactive.
    Gone,
    /// In IAM, and nowhere with us; or an operation that nobody settles.
    LeftOver,
    /// With us, and not in IAM.
    Vanished,
    /// An intent without its outcome, a key without its record, a record that the copy lacks, or a chain that is not sound.
    Missing,
    /// Twice what is there once.
    Doubled,
}

const KINDS: [(Kind, &str); 5] = [
    (Kind::Gone, "delivered but gone"),
    (Kind::LeftOver, "left over"),
    (Kind::Vanished, "not in IAM"),
    (Kind::Missing, "missing records"),
    (Kind::Doubled, "doubled records"),
];

impl Report {
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }

    fn count(&self, kind: Kind) -> usize {
        self.findings.iter().filter(|finding| finding.kind == kind).count()
    }

    /// What was done, what was answered instead, and the first findings.
    pub fn details(&self) -> String {
        let mut text = format!("\n{}\n", self.name);
        for (what, count) in &self.done {
            let _ = writeln!(text, "  {count:>7} {what}");
        }
        for (what, count) in &self.refused {
            let _ = writeln!(text, "  {count:>7} refused: {what}");
        }
        for finding in self.findings.iter().take(20) {
            let _ = writeln!(text, "  FOUND {}", finding.what);
        }
        text
    }
}

/// The passes side by side.
pub fn table(reports: &[Report]) -> String {
    let mut text = String::new();
    let mut row = |name: &str, value: &dyn Fn(&Report) -> String| {
        let _ = write!(text, "{name:<22}");
        for report in reports {
            let _ = write!(text, "{:>36}", value(report));
        }
        text.push('\n');
    };
    row("", &|report| report.name.clone());
    row("requests done", &|report| report.done.values().sum::<u64>().to_string());
    row("keys delivered", &|report| report.delivered.to_string());
    row("answers of AWS lost", &|report| report.lost_answers.to_string());
    row("kill -9", &|report| report.kills.to_string());
    row("audit records", &|report| report.records.to_string());
    row("unaccounted, listed", &|report| report.unaccounted.to_string());
    for (kind, name) in KINDS {
        row(name, &|report| report.count(kind).to_string());
    }
    text
}

/// Lets everything settle, stops the service, and compares.
pub fn compare(name: String, department: &Department, book: &Book, kills: usize) -> Report {
    let mut findings = Vec::new();
    let lost_answers = department.aws.lost();
    if let Err(open) = department.settle() {
        findings.push(Finding { kind: Kind::LeftOver, what: open });
    }
    department.stop();
    let mut found = |kind: Kind, what: String| findings.push(Finding { kind, what });
    let keys = book.keys();
    for key in &keys.gone {
        found(Kind::Gone, format!("access key {key} did not work any more when its holder let it go"));
    }
    for (key, user) in keys.held.iter().filter(|(key, _)| department.aws.is_active(key) != Some(true)) {
        found(Kind::Gone, format!("access key {key} of {user}: {:?}", department.aws.is_active(key)));
    }
    let (trail, unaccounted) = department.beside(|store| {
        let unaccounted = in_iam_and_with_us(store, department, &mut found);
        (run(whole_trail(store)), unaccounted)
    });
    of_operations(&trail, &keys.delivered, &mut found);
    of_the_copy(department, &trail, &mut found);
    Report {
        name,
        done: book.done(),
        refused: book.refused(),
        delivered: keys.delivered.len(),
        kills,
        lost_answers,
        records: trail.len(),
        unaccounted,
        findings,
    }
}

/// Users and keys. How many keys are listed as unaccounted for.
fn in_iam_and_with_us(store: &Store, department: &Department, found: &mut impl FnMut(Kind, String)) -> usize {
    let there = department.aws.users();
    let mut rows = BTreeSet::new();
    let mut page = PageRequest { cursor: None, limit: 500 };
    loop {
        let users = run(store.list_users(None, None, page)).expect("the database");
        rows.extend(users.items.into_iter().map(|row| row.user.name.to_string()));
        let Some(next) = users.next else { break };
        page = PageRequest { cursor: Some(next), limit: 500 };
    }
    let names: BTreeSet<_> = there.keys().cloned().collect();
    names.difference(&rows).for_each(|name| found(Kind::LeftOver, format!("user {name} is in IAM alone")));
    rows.difference(&names).for_each(|name| found(Kind::Vanished, format!("user {name} is with us alone")));

    let mut known = BTreeSet::new();
    let mut page = PageRequest { cursor: None, limit: 500 };
    loop {
        let grants = run(store.list_grants(None, page)).expect("the database");
        let live = grants.items.into_iter().filter(|grant| grant.new.kind == "access-key" && !grant.deleted);
        known.extend(live.map(|grant| grant.new.access_key_id));
        let Some(next) = grants.next else { break };
        page = PageRequest { cursor: Some(next), limit: 500 };
    }
    let unaccounted = run(store.unaccounted_keys()).expect("the database");
    known.extend(unaccounted.iter().map(|key| key.access_key_id.clone()));
    let keys: BTreeSet<_> = there.into_values().flat_map(|user| user.keys).map(|key| key.id).collect();
    keys.difference(&known)
        .for_each(|key| found(Kind::LeftOver, format!("access key {key} is in IAM alone")));
    known
        .difference(&keys)
        .for_each(|key| found(Kind::Vanished, format!("access key {key} is with us alone")));
    unaccounted.len()
}

/// Every intent has one outcome, and every key that somebody got has the record of it.
fn of_operations(trail: &[Record], delivered: &BTreeSet<String>, found: &mut impl FnMut(Kind, String)) {
    let (mut operations, mut records) = (BTreeMap::<&str, [u32; 2]>::new(), BTreeMap::<&str, u32>::new());
    let events: Vec<Event> = trail.iter().map(|record| record.event().expect("a record")).collect();
    for event in &events {
        let at = match event.phase {
            Phase::Intent => 0,
            Phase::Outcome => 1,
            Phase::Event => continue,
        };
        let operation = event.operation.as_deref().unwrap_or_default();
        operations.entry(operation).or_default()[at] += 1;
        if event.outcome == Some(Outcome::Success)
            && let Some(key) = event.details.get("access-key-id")
            && matches!(event.action.as_str(), "create-access-key" | "rotate-key")
        {
            *records.entry(key).or_default() += 1;
        }
    }
    for (operation, counts) in operations.iter().filter(|(_, counts)| **counts != [1, 1]) {
        let kind = if counts.contains(&0) { Kind::Missing } else { Kind::Doubled };
        found(kind, format!("operation {operation} has {} intents, {} outcomes", counts[0], counts[1]));
    }
    for key in delivered {
        match records.get(key.as_str()) {
            None => found(Kind::Missing, format!("no record says that access key {key} was handed out")),
            Some(1) => {}
            Some(n) => found(Kind::Doubled, format!("{n} records say that access key {key} was handed out")),
        }
    }
}

/// The file has each record once, and is sound.
fn of_the_copy(department: &Department, trail: &[Record], found: &mut impl FnMut(Kind, String)) {
    let text = std::fs::read_to_string(department.copy()).unwrap_or_default();
    let mut seen = BTreeMap::<String, u32>::new();
    for line in text.lines() {
        match serde_json::from_str::<Value>(line) {
            Ok(line) if line["record"].is_object() => {
                *seen.entry(line["hash"].as_str().unwrap_or_default().to_owned()).or_default() += 1;
            }
            Ok(_) => {}
            Err(_) => {
                let start: String = line.chars().take(80).collect();
                found(Kind::Doubled, format!("a line of the copy is torn: {start}"));
            }
        }
    }
    for record in trail {
        match seen.remove(&record.hash_hex()) {
            Some(1) => {}
            None => found(Kind::Missing, format!("the copy lacks record {}", record.id())),
            Some(n) => found(Kind::Doubled, format!("record {} is {n} times in the copy", record.id())),
        }
    }
    for hash in seen.keys() {
        found(Kind::Doubled, format!("the copy has a record that the trail lacks: {hash}"));
    }
    let service = &department.instances[0].service;
    let export = department.folder().join("export.jsonl");
    let config = service.dir().join("iam-sorryd.toml");
    let public = format!("{}.pub", department.audit_key().display());
    let [export, config] = [export, config].map(|path| path.display().to_string());
    let exported = service.command(&["audit", "export", "--config", &config, "-o", &export]);
    if !exported.status.success() {
        let errors = String::from_utf8_lossy(&exported.stderr).into_owned();
        found(Kind::Missing, format!("the trail can't be exported: {errors}"));
    }
    for file in [export, department.copy().display().to_string()] {
        let verified = service.command(&["audit", "verify", "--key", &public, &file]);
        if !verified.status.success() {
            let errors = String::from_utf8_lossy(&verified.stderr).into_owned();
            found(Kind::Doubled, format!("{file} is not sound: {errors}"));
        }
    }
}
