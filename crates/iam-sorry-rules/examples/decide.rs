//! How long a decision takes with so many rules, and what they weigh: `decide RULES`. Prints one line of JSON, for `scripts/bench-service`.
//!
//! The rules are those of a university: three for each lab, whoever owns a namespace looks after it, and a few that forbid.
#![expect(clippy::print_stdout, reason = "an example prints what it measured")]

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use iam_sorry_core::group::Group;
use iam_sorry_core::identity::{Identity, Method};
use iam_sorry_core::timestamp::Timestamp;
use iam_sorry_rules::{Action, AuthzInput, Guardrails, NamespaceSettings, Resource, RuleSet, RuleSettings};

const DECISIONS: usize = 20_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let count: usize = std::env::args().nth(1).ok_or("usage: decide RULES")?.parse()?;
    let labs = (count / 3).max(1);
    let mut text = String::new();
    for rule in 0..count {
        let lab = rule % labs;
        let (action, more) = match rule / labs {
            0 => ("IamSorry::Action::\"view\"", ""),
            1 => ("IamSorry::Action::\"manage\"", ""),
            _ => ("IamSorry::Action::\"issueCredentials\"", " when { context.duration <= 43200 }"),
        };
        writeln!(
            text,
            "@id(\"rule-{rule}\")\npermit (principal in IamSorry::Group::\"lab-{lab}\", action in {action}, resource in \
             IamSorry::Namespace::\"lab-{lab}\"){more};"
        )?;
    }
    text += "permit (principal, action in IamSorry::Action::\"view\", resource) when { principal in resource.owners };\n\
             forbid (principal, action in IamSorry::Action::\"credentials\", resource) when { context.duration > 86400 };\n";
    let namespaces = (0..labs).map(|lab| NamespaceSettings {
        name: format!("lab-{lab}"),
        path: None,
        owners: vec![format!("group:lab-{lab}")],
    });
    let guardrails = Guardrails { permissions_boundary: Some("none".into()), ..Guardrails::default() };
    let settings = RuleSettings { namespaces: namespaces.collect(), guardrails, ..RuleSettings::default() };

    let before = resident_mib();
    let begun = Instant::now();
    let rules = RuleSet::load(&[("bench.cedar".into(), text)], settings)
        .map_err(|problems| problems.iter().map(ToString::to_string).collect::<String>())?;
    let load = begun.elapsed();
    let weight = resident_mib() - before;

    let lab = labs / 2;
    let identity = Identity {
        issuer: "corp".into(),
        subject: "6b3f2c1e-0000-4000-8000-000000000001".into(),
        name: "alice".into(),
        groups: ["hpc-users", &format!("lab-{lab}"), "staff", "students"]
            .map(|name| Group::named("corp", name))
            .into_iter()
            .collect(),
        method: Method::SshKey,
    };
    let resource =
        Resource::parse(Action::IssueCredentials, &format!("lab-{lab}-alice"), rules.first_account())?;
    let input = AuthzInput {
        identity: &identity,
        action: Action::IssueCredentials,
        resource: &resource,
        policy_arn: None,
        duration_seconds: Some(3_600),
        sign_in_age_seconds: 60,
        key_registered_by: None,
        address: [192, 0, 2, 1].into(),
        now: Timestamp::from_unix(1_795_000_000).ok_or("a time")?,
        managed: true,
        owner: None,
    };
    let mut times = Vec::with_capacity(DECISIONS);
    for _ in 0..DECISIONS {
        let begun = Instant::now();
        let (decision, _) = rules.evaluate(&input);
        times.push(begun.elapsed());
        if !decision.allowed {
            return Err(decision.texts().join("\n").into());
        }
    }
    times.sort_unstable();
    let micros = |time: Duration| time.as_nanos() as f64 / 1_000.0;
    println!(
        "{{\"rules\": {}, \"load_ms\": {:.1}, \"rss_mib\": {weight:.1}, \"p50_us\": {:.1}, \"p99_us\": {:.1}}}",
        rules.len(),
        micros(load) / 1_000.0,
        micros(times[DECISIONS / 2]),
        micros(times[DECISIONS * 99 / 100])
    );
    Ok(())
}

/// Resident memory of this process, MiB (proc(5), status).
fn resident_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: Option<u32> = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
    f64::from(kib.unwrap_or(0)) / 1024.0
}
