//! How long loading and deciding take with 10, 1,000 and 10,000 rules, and what the rules weigh in memory:
//! `cargo run --release -p iam-sorry-rules --example decision_time` prints a line of JSON for each.
#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a program for people who measure")]

use std::fmt::Write as _;
use std::net::IpAddr;

use iam_sorry_core::identity::{Identity, Method};
use iam_sorry_core::names::UserName;
use iam_sorry_core::timestamp::Timestamp;
use iam_sorry_rules::{Action, Question, Resource, RuleSet, Settings};

const ROLE: &str = "arn:aws:iam::123456789012:role/Analysis";
const DECISIONS: u32 = 5000;

fn main() {
    for rules in [10, 1_000, 10_000] {
        let before = resident();
        let began = on_cpu();
        let set = load(rules);
        let load_ms = (on_cpu() - began) as f64 / 1e6;
        let weight = resident().saturating_sub(before);
        // Somebody in twenty groups, one of which owns the last namespace.
        let identity = Identity {
            issuer: "corp".into(),
            subject: "1".into(),
            name: "alice".into(),
            groups: (0..19).map(|n| format!("group-{n}")).chain([format!("lab-{}", rules / 5 - 1)]).collect(),
            method: Method::SshKey,
        };
        let user = Resource::User(UserName::parse(&format!("lab{}-x", rules / 5 - 1)).unwrap());
        let role = Resource::Role(ROLE.into());
        let show = microseconds(&set, &identity, Action::ShowUser, &user);
        let assume = microseconds(&set, &identity, Action::AssumeRole, &role);
        println!(
            "{{\"rules\": {}, \"load_ms\": {load_ms:.1}, \"resident_kib\": {weight}, \"show_user_us\": {show:.1}, \
             \"assume_role_us\": {assume:.1}}}",
            set.len()
        );
    }
}

/// Five rules for each of so many labs, as a department would write them without a generic one.
fn load(rules: usize) -> RuleSet {
    let mut text = String::new();
    let mut settings =
        format!("[guardrails]\npermissions_boundary = \"none\"\n[[guardrails.role]]\narn = \"{ROLE}\"\n");
    for lab in 0..rules / 5 {
        write!(settings, "[[namespace]]\nname = \"lab{lab}\"\nowners = [\"group:lab-{lab}\"]\n").unwrap();
        for (name, effect, action, resource, condition) in [
            ("see", "permit", "action in IamSorry::Action::\"view\"", "in", ""),
            (
                "manage",
                "permit",
                "action in IamSorry::Action::\"manage\"",
                "in",
                "when { context.method == \"ssh-key\" }",
            ),
            (
                "issue",
                "permit",
                "action == IamSorry::Action::\"issueCredentials\"",
                "in",
                "when { context.duration <= 28800 }",
            ),
            (
                "late",
                "forbid",
                "action == IamSorry::Action::\"deleteUser\"",
                "in",
                "when { context.hour >= 20 }",
            ),
            (
                "role",
                "permit",
                "action == IamSorry::Action::\"assumeRole\"",
                "role",
                "when { context.duration <= 3600 }",
            ),
        ] {
            let resource = match resource {
                "role" => format!("resource == IamSorry::Role::\"{ROLE}\""),
                _ => format!("resource in IamSorry::Namespace::\"lab{lab}\""),
            };
            writeln!(
                text,
                "@id(\"{name}-{lab}\") {effect} (principal in IamSorry::Group::\"lab-{lab}\", {action}, {resource}) {condition};"
            )
            .unwrap();
        }
    }
    let settings: Settings = toml::from_str(&settings).unwrap();
    RuleSet::load(&[("labs.cedar".to_owned(), text)], settings).unwrap()
}

fn microseconds(set: &RuleSet, identity: &Identity, action: Action, resource: &Resource) -> f64 {
    let question = Question {
        identity,
        action,
        resource,
        policy_arn: None,
        duration_seconds: None,
        sign_in_age_seconds: 60,
        address: IpAddr::from([10, 0, 0, 1]),
        now: Timestamp::EPOCH,
        managed: true,
        owner: None,
    };
    let began = on_cpu();
    for _ in 0..DECISIONS {
        let (decision, _) = set.decide_request(&question);
        assert!(decision.allowed, "{:?}", decision.texts());
    }
    (on_cpu() - began) as f64 / 1e3 / f64::from(DECISIONS)
}

/// Nanoseconds on a processor (proc(5), schedstat): other people's work on the machine doesn't count.
fn on_cpu() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    stat.split(' ').next().and_then(|ns| ns.parse().ok()).unwrap_or(0)
}

/// Resident memory of this process, KiB (proc(5), status).
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|l| l.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}
