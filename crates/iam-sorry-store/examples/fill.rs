//! Fills a store and says how fast each step went and what it costs: `fill FILE.db|postgresql://... RECORDS [CALLERS]`.
//!
//! Operations (intent, note, outcome with one grant) by so many callers at once, then plain records up to the given number;
//! then a fresh opening, a page, a look-up, a chart. Made for the benchmark and for looking at growth by hand.
#![expect(clippy::print_stdout, reason = "an example prints what it measured")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use iam_sorry_core::audit::{Event, Outcome, Person, Phase};
use iam_sorry_core::group::Group;
use iam_sorry_core::identity::{Identity, Method};
use iam_sorry_core::ids::AccountName;
use iam_sorry_store::{
    AuditFilter, Finish, NewGrant, NewOperation, OperationState, PageRequest, Settings, Store, StoreError,
    TrailPosition,
};

/// How many operations at most; the rest of the records are plain.
const OPERATIONS: u64 = 20_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let usage = "usage: fill FILE.db|postgresql://... RECORDS [CALLERS]";
    let (place, records) = (args.next().ok_or(usage)?, args.next().ok_or(usage)?.parse::<u64>()?);
    let callers = args.next().map_or(Ok(16), |text| text.parse::<u64>())?;
    let settings = if place.starts_with("postgresql:") {
        Settings::postgres(place.into(), None)?
    } else {
        Settings::sqlite(place)
    };
    Store::migrate(&settings)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(&settings, records, callers))
}

async fn run(settings: &Settings, records: u64, callers: u64) -> Result<(), Box<dyn std::error::Error>> {
    let instance = format!("fill-{}", std::process::id());
    let store = Store::open(settings, &instance)?;
    let start = store.count_records().await?;

    let operations = OPERATIONS.min(records / 4) / callers;
    let begun = Instant::now();
    let tasks = (0..callers).map(|caller| tokio::spawn(operate(store.clone(), caller, operations)));
    for task in tasks.collect::<Vec<_>>() {
        task.await??;
    }
    rate("operations (begin, note, finish)", operations * callers, begun.elapsed());

    let begun = Instant::now();
    let missing = (start + records).saturating_sub(store.count_records().await?);
    let tasks = (0..8).map(|caller| tokio::spawn(record(store.clone(), caller, missing / 8)));
    for task in tasks.collect::<Vec<_>>() {
        task.await??;
    }
    rate("plain records, 50 at a time", missing, begun.elapsed());
    store.close().await;

    let begun = Instant::now();
    let store = Store::open(settings, &format!("{instance}-again"))?;
    took("opening", begun.elapsed());
    for (what, filter) in [
        ("a page, newest", AuditFilter::default()),
        ("a page of one person", AuditFilter { name: Some("person-7".into()), ..AuditFilter::default() }),
        (
            "a page from the middle",
            AuditFilter { to_ms: Some(START_MS + (records / 2) as i64), ..AuditFilter::default() },
        ),
    ] {
        let begun = Instant::now();
        store.audit_page(filter, PageRequest { cursor: None, limit: 100 }).await?;
        took(what, begun.elapsed());
    }
    let begun = Instant::now();
    let days = store.audit_counts(AuditFilter::default()).await?.len();
    took(&format!("a chart of everything ({days} lines)"), begun.elapsed());
    let begun = Instant::now();
    let (mut position, mut count, mut bytes) = (TrailPosition::default(), 0, 0);
    loop {
        let part = store.read_trail(&position, None, 2_000).await?;
        if part.records.is_empty() {
            break;
        }
        position = part.start;
        part.records.iter().for_each(|record| position.pass(record));
        count += part.records.len();
        bytes += part.records.iter().map(|it| it.record.line.len()).sum::<usize>();
    }
    took(&format!("reading the whole trail ({count} records, {} MB)", bytes / 1_000_000), begun.elapsed());
    println!("{:<52} {:>10}", "resident memory", resident());
    store.close().await;
    Ok(())
}

async fn operate(store: Store, caller: u64, count: u64) -> Result<(), StoreError> {
    for number in 0..count {
        let id = format!("op-{}-{caller}-{number}", store.instance());
        let mut event = event(number, Phase::Intent);
        event.operation = Some(id.clone());
        let new = NewOperation {
            id: id.clone(),
            person: event.person.id.clone(),
            idempotency_key: id.clone(),
            action: "assume-role".into(),
            account: AccountName::default(),
            resource: "arn:aws:iam::000000000000:role/lab".into(),
            exclusive: false,
            request_hash: "0123456789abcdef0123456789abcdef".into(),
            plan: r#"{"role":"arn:aws:iam::000000000000:role/lab","seconds":3600}"#.into(),
        };
        store.begin(new, event.clone()).await?;
        store.note(&id, 0, r#"{"key":"ASIAEXAMPLE"}"#.into()).await?;
        event.phase = Phase::Outcome;
        event.outcome = Some(Outcome::Success);
        let grant = NewGrant {
            kind: "role".into(),
            account: AccountName::default(),
            resource: "arn:aws:iam::000000000000:role/lab".into(),
            access_key_id: format!("ASIA{caller:04}{number:012}"),
            issued_ms: event.time_ms,
            expires_ms: Some(event.time_ms + 3_600_000),
        };
        let finish = Finish {
            operation: id,
            epoch: 0,
            state: OperationState::Done,
            result: r#"{"state":"done"}"#.into(),
            event,
            grants: vec![grant],
            deleted_keys: Vec::new(),
            user: None,
            deleted_user: None,
            unaccounted: Vec::new(),
            rotation: None,
        };
        store.finish(finish).await?;
    }
    Ok(())
}

async fn record(store: Store, caller: u64, count: u64) -> Result<(), StoreError> {
    let mut written = 0;
    while written < count {
        let part = (count - written).min(50);
        let events = (0..part).map(|n| event((written + n) * 8 + caller, Phase::Event)).collect();
        store.record(events).await?;
        written += part;
    }
    Ok(())
}

const START_MS: i64 = 1_795_000_000_000;

fn event(number: u64, phase: Phase) -> Event {
    let identity = Identity {
        issuer: "corp".into(),
        subject: format!("6b3f2c1e-0000-4000-8000-{:012}", number % 200),
        name: format!("person-{}", number % 200),
        groups: ["staff", "lab-x", "hpc-users"].map(|name| Group::named("corp", name)).into_iter().collect(),
        method: Method::SshKey,
    };
    Event {
        time_ms: START_MS + number as i64 * 1_000,
        instance: "0123456789abcdef".into(),
        phase,
        person: Person::from(&identity),
        address: "192.0.2.77".into(),
        request_id: format!("{number:032x}"),
        action: ["sign-in", "assume-role", "create-user", "read-audit"][number as usize % 4].into(),
        resource: format!("lab-{}", number % 1_000),
        rules: vec!["labs-manage-their-own".into()],
        aws_request_ids: vec!["6d1c9d5a-1111-4222-8333-123456789012".into()],
        details: BTreeMap::from([("duration".into(), "3600".into())]),
        ..Event::default()
    }
}

fn rate(what: &str, count: u64, time: Duration) {
    println!(
        "{what:<52} {:>8.0}/s  ({count} in {:.2} s)",
        count as f64 / time.as_secs_f64(),
        time.as_secs_f64()
    );
}

fn took(what: &str, time: Duration) {
    println!("{what:<52} {:>8.1} ms", time.as_secs_f64() * 1_000.0);
}

/// From /proc (proc(5)): what this process holds in memory.
fn resident() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.map_or_else(|| "unknown".into(), |line| line.trim().to_owned())
}
