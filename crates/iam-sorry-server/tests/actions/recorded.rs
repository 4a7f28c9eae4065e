//! What the trail has of reading and of decisions: who read what is another's, and by which rules it was decided.

use std::sync::Arc;

use iam_sorry_core::api::{CredentialsRequest, ExplainRequest, Options, PageQuery, ProblemCode};
use iam_sorry_core::audit::{Decision, Event};
use iam_sorry_rules::RuleSet;
use iam_sorry_server::audit::states::{Digests, StartFacts};

use crate::scene::{Instance, RULES, Scene, ada, code, dirk, dry, person, user_ref};
use crate::verbs::Verbs as _;

/// The records since the last look.
fn new_records(running: &Instance, seen: &mut usize) -> Vec<Event> {
    let trail = running.trail();
    let new = trail[*seen..].to_vec();
    *seen = trail.len();
    new
}

fn named(events: &[Event]) -> Vec<(&str, &str, &str)> {
    events.iter().map(|e| (e.person.name.as_str(), e.action.as_str(), e.resource.as_str())).collect()
}

#[test]
fn reading_what_is_others_is_recorded_and_ones_own_is_not() {
    let scene = Scene::new();
    let running = scene.start();
    running.create("dirk-a").unwrap();
    running.new_key(&scene, "dirk-a").unwrap();
    let mut seen = 0;
    new_records(&running, &mut seen);

    // One's own.
    let service = &running.service;
    running.run(service.list_grants(&dirk(), PageQuery::default())).unwrap();
    running.run(service.list_sessions(&dirk(), PageQuery::default())).unwrap();
    running.run(service.list_users(&dirk(), None, PageQuery::default())).unwrap();
    running.run(service.list_ssh_keys(&dirk())).unwrap();
    running.run(service.show_user(&dirk(), &user_ref("dirk-a"))).unwrap();
    running.run(service.list_keys(&dirk(), &user_ref("dirk-a"))).unwrap();
    running.run(service.delete_user(&dirk(), None, "dirk-a", dry())).unwrap();
    running.run(service.me(&dirk())).unwrap();
    assert_eq!(named(&new_records(&running, &mut seen)), []);

    // Another's: by the auditor, and by somebody of the same lab.
    let everything = PageQuery { all: true, ..PageQuery::default() };
    let colleague = person("dora", &["lab"]);
    running.run(service.list_grants(&ada(), everything.clone())).unwrap();
    running.run(service.list_sessions(&ada(), everything.clone())).unwrap();
    running.run(service.show_user(&colleague, &user_ref("dirk-a"))).unwrap();
    running.run(service.list_keys(&colleague, &user_ref("dirk-a"))).unwrap();
    running.run(service.delete_user(&colleague, None, "dirk-a", dry())).unwrap();
    running.run(service.list_users(&colleague, None, everything.clone())).unwrap();
    let records = new_records(&running, &mut seen);
    assert_eq!(
        named(&records),
        [
            ("ada", "read-grants", "all"),
            ("ada", "read-sessions", "all"),
            ("dora", "show-user", "dirk-a"),
            ("dora", "list-keys", "dirk-a"),
            ("dora", "show-user", "dirk-a"),
            ("dora", "list-users", "all"),
        ]
    );
    for record in &records[..5] {
        assert_eq!(record.decision, Some(Decision::Allow), "{record:?}");
        assert!(!record.rules.is_empty() && record.rules_digest.is_some(), "{record:?}");
    }
    assert_eq!(records[5].details["of-others"], "1");

    // Who may not is refused, and that is recorded as ever.
    assert_eq!(code(running.run(service.list_grants(&dirk(), everything))), ProblemCode::NotAllowed);
    assert_eq!(new_records(&running, &mut seen)[0].decision, Some(Decision::Deny));
}

/// Each decision names the set that it was made with, whatever became of the rules meanwhile.
#[test]
fn each_decision_names_the_rules_it_was_made_with() {
    let scene = Scene::new();
    let running = scene.start();
    let service = &running.service;
    let first = service.rules().digest().whole().to_string();
    running.create("dirk-a").unwrap();
    running.run(service.create_user(&person("eve", &[]), None, create("dirk-b"))).unwrap_err();
    let request = ExplainRequest {
        action: "show-user".into(),
        resource: "dirk-a".into(),
        policy_arn: None,
        duration_seconds: None,
    };
    running.run(service.explain(&dirk(), request)).unwrap();
    let trail = running.trail();
    assert_eq!(trail.len(), 4, "intent, outcome, refusal, explanation");
    for event in &trail {
        assert_eq!(event.rules_digest.as_ref(), Some(&first), "{event:?}");
    }

    let other = RULES.replace("<= 7200", "<= 3600");
    let set = RuleSet::load(&[("lab.cedar".into(), other)], scene.rule_settings()).unwrap();
    let second = set.digest().whole().to_string();
    assert_ne!(first, second);
    running.replace_rules(Arc::new(set));
    let role = assume(scene.role.clone());
    running.run(service.issue_credentials(&dirk(), None, role)).unwrap();
    running.run(service.delete_user(&dirk(), None, "dirk-a", Options::default())).unwrap();
    let later = running.trail().split_off(4);
    assert_eq!(later.len(), 4);
    assert!(later.iter().all(|event| event.rules_digest.as_ref() == Some(&second)), "{later:?}");
}

/// A signed-in person who is refused in a loop fills no disk; nor does a text of theirs as long as a request.
#[test]
fn a_loop_of_refusals_is_counted_under_the_persons_name() {
    let scene = Scene::new();
    let running = scene.start();
    let eve = person("eve", &[]);
    let service = &running.service;
    let mut seen = 0;
    new_records(&running, &mut seen);
    let long = format!("arn:aws:iam::000000000000:role/{}", "x".repeat(60_000));
    for n in 0..1_000 {
        let request = assume(format!("{long}{n}"));
        let refused = running.run(service.issue_credentials(&eve, None, request)).unwrap_err();
        assert!(matches!(refused.code, ProblemCode::NotAllowed | ProblemCode::Guardrail), "{refused:?}");
    }
    running.run(service.record_counted(true)).unwrap();
    let records = new_records(&running, &mut seen);
    assert!((101..=110).contains(&records.len()), "{} records", records.len());
    let bytes: usize = records.iter().map(|event| serde_json::to_string(event).unwrap().len()).sum();
    assert!(bytes < 150_000, "{bytes} bytes");
    let summary = records.last().unwrap();
    assert_eq!((summary.action.as_str(), summary.person.name.as_str()), ("requests-counted", "eve"));
    let alone = records.iter().filter(|event| event.action == "assume-role").count();
    assert_eq!(summary.details["count"], (1_000 - alone).to_string());
    assert_eq!(summary.details["actions"], format!("assume-role deny {}", 1_000 - alone));
    // Others are not counted with her.
    running.run(service.create_user(&person("mallory", &[]), None, create("dirk-b"))).unwrap_err();
    let records = new_records(&running, &mut seen);
    assert_eq!(named(&records), [("mallory", "create-user", "dirk-b")]);
}

/// A certificate that is read again, and a key of the service's own that another program rotated: recorded before they are
/// used, once.
#[test]
fn a_key_that_changes_while_it_runs_is_recorded_before_it_is_used() {
    let scene = Scene::new();
    let running = scene.start();
    let service = &running.service;
    let keys = [("certificate", "aa"), ("aws-access-key", "AKIAOLD")];
    let facts = StartFacts {
        configuration: Digests::of([("name".to_owned(), "x".to_owned())]),
        keys: keys.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
    };
    running.run(service.record_start(facts)).unwrap();
    let mut seen = 0;
    assert_eq!(named(&new_records(&running, &mut seen)), [("", "service-started", "")]);
    for _ in 0..2 {
        running.run(service.record_key("certificate", "bb")).unwrap();
    }
    running.create("dirk-a").unwrap();
    running.create("dirk-b").unwrap();
    let records = new_records(&running, &mut seen);
    assert_eq!(
        named(&records)[..3],
        [
            ("", "certificate-changed", ""),
            ("", "aws-access-key-changed", ""),
            ("dirk.p", "create-user", "dirk-a")
        ]
    );
    assert_eq!(records.len(), 6);
    assert_eq!((records[0].details["old"].as_str(), records[0].details["new"].as_str()), ("aa", "bb"));
    assert_eq!(records[1].details["old"], "AKIAOLD");
    assert_eq!(records[1].details["new"], scene.identity.key);
}

fn create(name: &str) -> iam_sorry_core::api::CreateUser {
    iam_sorry_core::api::CreateUser { name: name.into(), policies: Vec::new(), dry_run: false }
}

fn assume(role: String) -> CredentialsRequest {
    CredentialsRequest { user: None, role: Some(role), duration_seconds: None, dry_run: false }
}
