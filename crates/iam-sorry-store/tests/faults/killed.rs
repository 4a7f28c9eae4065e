//! kill -9 at random moments under load: what was answered is there, the chain is whole, nothing is half written.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::time::Duration;

use iam_sorry_core::audit::Phase;
use iam_sorry_store::{Begun, OperationState, Settings, Store};

use crate::again;
use crate::rig::{Rig, block_on, finish, grant, operation, page, patient, whole_trail};

/// Before it the test harness talks.
const START: u8 = 0x1e;
const VICTIM: &str = "IAM_SORRY_TEST_VICTIM";

#[test]
fn on_sqlite_what_was_answered_is_there() {
    if let Ok(value) = std::env::var(VICTIM) {
        return victim(&value);
    }
    let rig = Rig::sqlite();
    let iam_sorry_store::Engine::Sqlite { path } = &rig.settings.engine else { unreachable!() };
    kill_often(&rig, "killed::on_sqlite_what_was_answered_is_there", path.to_str().unwrap(), 50);
}

#[test]
fn on_postgresql_what_was_answered_is_there() {
    if let Ok(value) = std::env::var(VICTIM) {
        return victim(&value);
    }
    let rig = Rig::postgres();
    let url = testkit::Postgres::shared().url(rig.database.as_deref().unwrap());
    kill_often(&rig, "killed::on_postgresql_what_was_answered_is_there", &url, 50);
}

fn kill_often(rig: &Rig, test: &str, place: &str, times: u32) {
    let mut answered: BTreeMap<String, OperationState> = BTreeMap::new();
    let mut random = 0x9E37_79B9_u32;
    for round in 0..times {
        let mut child = again(test, VICTIM, &format!("{round} {place}")).spawn().unwrap();
        let mut output = child.stdout.take().unwrap();
        // Let it give a number of answers that is never the same, then a moment more, so that it dies anywhere.
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let mut left = (random >> 16) % 60 + 1;
        let (mut words, mut byte) = (Vec::new(), [0]);
        while left > 0 {
            output.read_exact(&mut byte).expect("the victim works until it is killed");
            words.push(byte[0]);
            left -= u32::from(byte[0] == b'\n' && words.contains(&START));
        }
        std::thread::sleep(Duration::from_micros(u64::from(random >> 8) % 3_000));
        child.kill().unwrap();
        child.wait().unwrap();
        output.read_to_end(&mut words).unwrap();
        let begin = words.iter().position(|byte| *byte == START).unwrap() + 1;
        let text = String::from_utf8_lossy(&words[begin..]);
        // The last line may be cut; the others are answers that the victim had.
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        for line in whole.lines() {
            let (what, id) = line.split_once(' ').unwrap();
            let state = if what == "done" { OperationState::Done } else { OperationState::Open };
            answered.insert(id.to_owned(), state);
        }
    }
    assert!(answered.values().filter(|state| **state == OperationState::Done).count() > times as usize);
    block_on(verify(&rig.open("after"), &answered, times));
}

async fn verify(store: &Store, answered: &BTreeMap<String, OperationState>, times: u32) {
    let mut phases: BTreeMap<String, Vec<Phase>> = BTreeMap::new();
    for record in whole_trail(store).await {
        let event = record.event().unwrap();
        phases.entry(event.operation.unwrap()).or_default().push(event.phase);
    }
    for (id, state) in answered {
        let found = store.operation(id).await.unwrap().unwrap_or_else(|| panic!("{id} was answered for"));
        if *state == OperationState::Done {
            assert_eq!(found.state, OperationState::Done, "{id}");
        }
    }
    let (mut grants, mut cursor) = (BTreeMap::<String, usize>::new(), None);
    loop {
        let part = store.list_grants(None, page(cursor, 500)).await.unwrap();
        part.items.into_iter().for_each(|grant| *grants.entry(grant.operation).or_default() += 1);
        cursor = part.next;
        if cursor.is_none() {
            break;
        }
    }
    // Answered or not: an operation is open with its intent, or done with its outcome and both its grants.
    for (id, phases) in &phases {
        let found = store.operation(id).await.unwrap().unwrap();
        let expected = match found.state {
            OperationState::Open => (vec![Phase::Intent], 0),
            _ => (vec![Phase::Intent, Phase::Outcome], 2),
        };
        assert_eq!((phases, grants.get(id).copied().unwrap_or(0)), (&expected.0, expected.1), "{id}");
    }
    // Everything open is known to belong to somebody dead.
    let open = store.open_operations().await.unwrap();
    let dead = store.dead_instances(Duration::ZERO).await.unwrap();
    assert!(open.iter().all(|open| dead.contains(&open.instance)));
    assert!(dead.len() <= times as usize);
}

/// Works until it is killed. After [`START`] each answer is a line.
fn victim(value: &str) {
    let (round, place) = value.split_once(' ').unwrap();
    let settings = if place.starts_with("postgresql:") {
        Settings::postgres(place.to_owned().into(), None).unwrap()
    } else {
        Settings::sqlite(place)
    };
    let store = Store::open(&patient(settings), &format!("victim-{round}")).unwrap();
    let say = |line: String| {
        let mut out = std::io::stdout().lock();
        out.write_all(line.as_bytes()).unwrap();
        out.flush().unwrap();
    };
    say(char::from(START).into());
    block_on(async {
        let tasks = (0..8).map(|task| {
            let (store, round) = (store.clone(), round.to_owned());
            tokio::spawn(async move {
                for number in 0.. {
                    let (mut new, mut intent) = operation(&format!("u-{round}-{task}"));
                    new.id = format!("op-{round}-{task}-{number}");
                    new.idempotency_key = format!("key-{round}-{task}-{number}");
                    intent.operation = Some(new.id.clone());
                    assert!(matches!(store.begin(new.clone(), intent).await.unwrap(), Begun::New));
                    say(format!("begun {}\n", new.id));
                    store.note(&new.id, 0, "{}".into()).await.unwrap();
                    let mut end = finish(&new);
                    end.grants = vec![grant("AKIA1", 1), grant("AKIA2", 2)];
                    store.finish(end).await.unwrap();
                    say(format!("done {}\n", new.id));
                }
            })
        });
        for task in tasks.collect::<Vec<_>>() {
            task.await.unwrap();
        }
    });
}
