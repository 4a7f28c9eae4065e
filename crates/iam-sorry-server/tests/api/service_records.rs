//! What the trail says of the service itself: starts, stops and deaths; other rules, configuration and keys, also those
//! that changed while it was down; ids of requests; and a flood of refused sign-ins over HTTP.

use std::time::Duration;

use iam_sorry_core::audit::{Event, Outcome};
use rustix::process::Signal;
use serde_json::json;

use super::department::Department;

const SQLITE: &str = "path = \"{dir}/store.db\"";

/// The trail as the file sink has it... of a service that is down, oldest first, through `audit export`.
fn trail(department: &Department) -> Vec<Event> {
    let export = ["audit", "export", "--config", "iam-sorryd.toml", "-o", "trail.jsonl"];
    let made = department.service.command(&export);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let text = std::fs::read_to_string(department.path("trail.jsonl")).unwrap();
    std::fs::remove_file(department.path("trail.jsonl")).unwrap();
    let record = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["record"].take();
    let records = text.lines().map(record).filter(|record| !record.is_null());
    records.map(|record| serde_json::from_value(record).unwrap()).collect()
}

/// Those with one of these actions.
fn of<'a>(trail: &'a [Event], actions: &[&str]) -> Vec<&'a Event> {
    trail.iter().filter(|event| actions.contains(&event.action.as_str())).collect()
}

fn eventually(department: &Department, what: &str, check: impl Fn() -> bool) {
    let met = (0..600).any(|_| {
        std::thread::sleep(Duration::from_millis(100));
        check()
    });
    assert!(met, "{what}: {}", department.service.log());
}

fn edit(department: &Department, file: &str, from: &str, to: &str) {
    let text = std::fs::read_to_string(department.path(file)).unwrap();
    assert!(text.contains(from), "{text}");
    department.service.write(file, &text.replacen(from, to, 1));
}

#[test]
fn starts_stops_and_deaths_are_recorded() {
    let department = Department::new();
    assert_eq!(department.service.stop().0, 0);
    department.service.run();
    department.service.kill();
    department.service.run();
    department.service.signal(Signal::INT);
    assert_eq!(department.service.wait().0, 0);
    department.service.run();
    assert_eq!(department.service.stop().0, 0);

    let trail = trail(&department);
    let life = of(&trail, &["service-started", "service-stopped", "service-lost"]);
    let told: Vec<(&str, &str)> = life
        .iter()
        .map(|event| (event.action.as_str(), event.details.get("reason").map_or("", String::as_str)))
        .collect();
    assert_eq!(
        told,
        [
            ("service-started", ""),
            ("service-stopped", "SIGTERM"),
            ("service-started", ""),
            ("service-lost", ""),
            ("service-started", ""),
            ("service-stopped", "SIGINT"),
            ("service-started", ""),
            ("service-stopped", "SIGTERM"),
        ]
    );
    let start = life[0];
    assert_eq!(start.details["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(start.details["configuration"].len(), 64);
    assert!(start.rules_digest.as_ref().is_some_and(|digest| digest.len() == 64));
    assert!(start.details["aws-identity"].ends_with(":user/iam-sorryd"), "{start:?}");
    assert!(start.details["aws-access-key"].len() >= 16, "{start:?}");
    let public = std::fs::read_to_string(department.path("audit.key.pub")).unwrap();
    let public = iam_sorry_core::audit::CheckpointKey::from_pem(&public).unwrap();
    assert_eq!(start.details["audit-key"], public.id());
    assert_eq!(life[1].details["operations-left"], "0");
    // Who died is named, as it named itself.
    assert_eq!(
        (life[3].resource.as_str(), life[3].outcome),
        (life[2].instance.as_str(), Some(Outcome::Failure))
    );
    assert!(life[3].details["last-heard"].starts_with("20"), "{:?}", life[3]);
    let changes: Vec<_> = trail.iter().filter(|event| event.action.ends_with("-changed")).collect();
    assert!(changes.is_empty(), "nothing has changed: {changes:?}");
}

#[test]
fn changes_are_recorded_also_those_while_it_was_down() {
    let department = Department::new();
    let ada = department.sign_in("ada");
    let create = |name: &str| {
        let answer = department.post("/users", &ada, json!({"name": name}));
        assert_eq!(answer.status, 200, "{answer:?}");
    };
    create("dirk-1");
    // Rules while it runs. What was decided before names the old ones, what is decided after the new ones.
    edit(&department, "rules.cedar", "@id(\"no-deletes\")", "@id(\"kept\")");
    department.service.signal(Signal::HUP);
    eventually(&department, "other rules", || department.service.log().contains("other rules are in force"));
    create("dirk-2");
    // A comment is no change.
    edit(&department, "rules.cedar", "@id(\"kept\")", "// needed by the cluster\n@id(\"kept\")");
    department.service.signal(Signal::HUP);
    assert_eq!(department.service.stop().0, 0);

    // Rules, guardrails, namespaces, configuration and a key while it is down.
    edit(
        &department,
        "rules.cedar",
        "@id(\"analysts\")",
        "@id(\"all\") permit (principal, action == IamSorry::Action::\"showUser\", resource);\n@id(\"analysts\")",
    );
    edit(
        &department,
        "iam-sorryd.toml",
        "owners = [\"group:lab\"]",
        "owners = [\"group:lab\", \"person:bob\"]",
    );
    edit(&department, "iam-sorryd.toml", "[guardrails]", "[guardrails]\nmax_user_seconds = 7200");
    edit(
        &department,
        "iam-sorryd.toml",
        "{dir}/audit.key".replace("{dir}", &department.service.dir().display().to_string()).as_str(),
        &department.path("second.key"),
    );
    let made = department.service.command(&["audit", "new-key", &department.path("second.key")]);
    assert!(made.status.success(), "{made:?}");
    department.service.run();
    assert_eq!(department.service.stop().0, 0);

    let trail = trail(&department);
    let rules = of(&trail, &["rules-changed"]);
    assert_eq!(rules.len(), 2, "{rules:#?}");
    assert_eq!(
        (rules[0].details["added"].as_str(), rules[0].details["removed"].as_str()),
        ("rule kept", "rule no-deletes")
    );
    assert_eq!(rules[1].details["added"], "rule all");
    assert_eq!(rules[1].details["changed"], "guardrail max_user_seconds, namespace dirk");
    assert_eq!(rules[0].details["new"], rules[1].details["old"], "the comment changed nothing");
    let starts = of(&trail, &["service-started"]);
    assert_eq!(starts[0].rules_digest.as_ref(), Some(&rules[0].details["old"]));
    assert_eq!(starts[1].rules_digest.as_ref(), Some(&rules[1].details["new"]));
    for (user, digest) in [("dirk-1", &rules[0].details["old"]), ("dirk-2", &rules[0].details["new"])] {
        let decisions: Vec<_> = trail.iter().filter(|event| event.resource == user).collect();
        assert_eq!(decisions.len(), 2);
        assert!(decisions.iter().all(|event| event.rules_digest.as_ref() == Some(digest)), "{decisions:?}");
    }
    let configuration = of(&trail, &["configuration-changed"]);
    assert_eq!(configuration.len(), 1);
    assert_eq!(configuration[0].details["changed"], "audit, guardrails, namespace");
    assert_eq!(configuration[0].details["old"], starts[0].details["configuration"]);
    assert_eq!(configuration[0].details["new"], starts[1].details["configuration"]);
    let key = of(&trail, &["audit-key-changed"]);
    assert_eq!(key.len(), 1);
    assert_eq!(
        (&key[0].details["old"], &key[0].details["new"]),
        (&starts[0].details["audit-key"], &starts[1].details["audit-key"])
    );
    let text = format!("{trail:?}");
    for secret in [department.path("second.key"), std::fs::read_to_string(department.path("secret")).unwrap()]
    {
        assert!(!text.contains(&secret), "{secret}");
    }
}

/// What a client or proxy sends as an id names nothing: the answer, the trail and the log have the service's own.
#[test]
fn request_ids_are_the_services_own() {
    let department = Department::prepared(SQLITE);
    edit(&department, "iam-sorryd.toml", "[http]\n", "[http]\ntrusted_proxies = [\"127.0.0.1/32\"]\n");
    department.run();
    let bob = department.sign_in("bob");
    let bearer = format!("Authorization: Bearer {bob}");
    let mut own = Vec::new();
    for given in ["victims-request-1", "<b>x</b>", "a b", &"x".repeat(200)] {
        let header = format!("X-Request-Id: {given}");
        let answer = department.send("GET", "/api/v1/audit?all=true", &[&bearer, &header], b"");
        assert_eq!(answer.status, 200);
        own.push(answer.header("x-request-id").unwrap().to_owned());
        assert_ne!(own.last().map(String::as_str), Some(given));
        let problem = department.send("GET", "/api/v1/users/dirk-none", &[&bearer, &header], b"");
        assert_eq!(problem.json()["request_id"].as_str(), problem.header("x-request-id"));
        assert_ne!(problem.json()["request_id"], *given);
    }
    let (status, log) = department.service.stop();
    assert_eq!(status, 0);
    let trail = trail(&department);
    assert!(own.iter().all(|id| trail.iter().any(|event| event.request_id == *id)), "{own:?}");
    assert!(!format!("{trail:?}").contains("victims-request-1"));
    // A well-formed one of a trusted proxy stands in the log, in a field of its own; no other does.
    assert!(log.contains("\"proxy_id\":\"victims-request-1\""), "{log}");
    assert!(!log.contains("\"request_id\":\"victims") && !log.contains("<b>") && !log.contains("xxxxxxxx"));
}

/// Thousands of refused sign-ins over HTTP, from many addresses: the trail, the sink and the database stay small, and at the
/// end each refusal is counted.
#[test]
fn a_flood_over_http_fills_no_disk_and_is_counted_when_it_stops() {
    let department = Department::prepared(SQLITE);
    edit(&department, "iam-sorryd.toml", "[http]\n", "[http]\ntrusted_proxies = [\"127.0.0.1/32\"]\n");
    edit(
        &department,
        "iam-sorryd.toml",
        "[login.ssh]",
        "[login.limits]\nrefusal_milliseconds = 0\nfailures_per_address = 100000\n[login.ssh]",
    );
    department.run();
    let public = std::fs::read_to_string(department.path("eve.pub")).unwrap();
    let guess = json!({"nonce": "A".repeat(43), "public_key": public.trim(), "signature": "A".repeat(86)})
        .to_string();
    let refused: usize = std::thread::scope(|scope| {
        let flood = |thread: usize| {
            let (department, guess) = (&department, &guess);
            move || {
                let try_one = |n: usize| {
                    let from = format!("X-Forwarded-For: 10.{thread}.{}.{}", n / 250, n % 250);
                    let headers = ["Content-Type: application/json", from.as_str()];
                    let answer = department.send("POST", "/api/v1/login/ssh", &headers, guess.as_bytes());
                    assert_eq!(answer.status, 401, "{answer:?}");
                };
                (0..1_000).for_each(try_one);
                1_000
            }
        };
        let threads: Vec<_> = (0..4).map(|thread| scope.spawn(flood(thread))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!(department.service.stop().0, 0);
    let trail = trail(&department);
    let (singles, summaries) = (of(&trail, &["sign-in"]), of(&trail, &["sign-in-refused"]));
    let counted: usize = summaries.iter().map(|event| event.details["count"].parse::<usize>().unwrap()).sum();
    assert_eq!(singles.len() + counted, refused);
    assert!(singles.len() <= 200 && !summaries.is_empty() && summaries.len() <= 10, "{}", summaries.len());
    let size = |name: &str| std::fs::metadata(department.path(name)).map_or(0, |file| file.len());
    assert!(size("audit.jsonl") < 400_000, "{}", size("audit.jsonl"));
    assert!(size("store.db") + size("store.db-wal") < 6_000_000, "{}", size("store.db"));
}
