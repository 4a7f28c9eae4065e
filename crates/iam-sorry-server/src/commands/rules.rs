//! `iam-sorryd rules`: what is wrong with rules before they are in force, what they decide, and why.
//!
//! Every verb takes namespaces and guardrails from the configuration, and rules from there too unless `--rules` names
//! others: a new set is tried against the cases before it is put in the place of the old one.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::Subcommand;
use iam_sorry_core::identity::{Identity, KeyOrigin, Method};
use iam_sorry_core::timestamp::Timestamp;
use iam_sorry_rules::{
    Action, AuthzInput, CaseResult, Resource, RuleProblem, RuleSet, fold, group_of, run_cases,
};

use super::config_file::ConfigFile;
use super::output::{Failure, notice, print};
use crate::authz::rules::{RuleFiles, read};
use crate::clock::Clock;

/// Its arguments.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Says what is wrong with the rules: syntax, schema, names that the configuration doesn't have
    Check(Source),
    /// Runs cases: who asks what, and what the rules are expected to say
    Test(Test),
    /// Says what the rules decide on one question, and which of them
    Explain(Box<Explain>),
    /// Prints the Cedar schema that rules are written against, for editors and other tools
    Schema,
}

#[derive(Debug, clap::Args)]
struct Source {
    #[command(flatten)]
    config: ConfigFile,
    /// Rules to read instead of the configuration's: a file, or a folder of *.cedar; can be repeated
    #[arg(long = "rules", value_name = "PATH")]
    files: Vec<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct Test {
    #[command(flatten)]
    source: Source,
    /// Files of cases (TOML)
    #[arg(required = true, value_name = "FILE")]
    cases: Vec<PathBuf>,
}

#[derive(Debug, clap::Args)]
struct Explain {
    #[command(flatten)]
    source: Source,
    /// Such as create-user
    action: String,
    /// The user, the role's ARN or the namespace that it is about
    #[arg(default_value = "")]
    resource: String,
    /// The login name of who asks
    #[arg(long, value_name = "NAME")]
    person: String,
    /// A group of theirs, by name, DN or ISSUER/ID; can be repeated
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<String>,
    /// Who vouches for them, as the configuration calls it
    #[arg(long, value_name = "NAME", default_value = "test")]
    issuer: String,
    /// The issuer's stable name for them; the login name where absent
    #[arg(long, value_name = "ID")]
    subject: Option<String>,
    /// How they signed in: ssh-key, ldap or dev-link
    #[arg(long, default_value = "ssh-key")]
    method: Method,
    /// With the method ssh-key: who says that the key is theirs: directory, file, ssh-key, ldap or dev-link
    #[arg(long, value_parser = key_origin, value_name = "ORIGIN")]
    key_registered_by: Option<KeyOrigin>,
    /// Seconds since they signed in
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    sign_in_age: u64,
    /// The managed policy's ARN, for attach-policy and detach-policy
    #[arg(long, value_name = "ARN")]
    policy: Option<String>,
    /// Seconds, for credentials
    #[arg(long, value_name = "SECONDS")]
    duration: Option<u32>,
    /// When, such as 2026-01-05T12:00:00Z; now where absent
    #[arg(long, value_name = "TIME")]
    time: Option<String>,
    /// Where from
    #[arg(long, value_name = "IP", default_value = "127.0.0.1")]
    address: IpAddr,
    /// Who made or adopted the user (ISSUER/SUBJECT)
    #[arg(long, value_name = "ID")]
    owner: Option<String>,
    /// The service neither made nor adopted the user
    #[arg(long)]
    unmanaged: bool,
}

/// Does what they say.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.verb {
        Verb::Check(source) => check(source),
        Verb::Test(test) => run_files(test),
        Verb::Explain(explain) => explain_one(explain),
        Verb::Schema => print(iam_sorry_rules::SCHEMA.trim_end()),
    }
}

fn check(source: &Source) -> Result<(), Failure> {
    let rules = source.load()?;
    for warning in rules.warnings() {
        notice(format_args!("Warning: {warning}"));
    }
    print(format_args!("{} rules, nothing wrong with them.", rules.len()))
}

fn run_files(test: &Test) -> Result<(), Failure> {
    let rules = test.source.load()?;
    let (mut ran, mut failed) = (0, 0);
    for file in &test.cases {
        let text = std::fs::read_to_string(file)
            .map_err(|e| Failure::new(format!("{} can't be read: {e}", file.display())))?;
        let results =
            run_cases(&rules, &text).map_err(|e| Failure::found(format!("{}: {e}", file.display())))?;
        print(format_args!("{}\n{}", file.display(), report(&results)))?;
        ran += results.len();
        failed += results.iter().filter(|result| !result.passed()).count();
    }
    if failed > 0 {
        return Err(Failure::found(format!("{failed} of {ran} cases came out otherwise than expected.")));
    }
    print(format_args!("{ran} cases, all as expected."))
}

fn report(results: &[CaseResult]) -> String {
    results.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn explain_one(explain: &Explain) -> Result<(), Failure> {
    let rules = explain.source.load()?;
    let action: Action = explain.action.parse().map_err(Failure::new)?;
    let resource = Resource::parse(action, &explain.resource, rules.first_account()).map_err(Failure::new)?;
    let now = explain.time.as_deref().map(Timestamp::parse).transpose().map_err(Failure::new)?;
    let identity = Identity {
        issuer: explain.issuer.clone(),
        subject: explain.subject.clone().unwrap_or_else(|| explain.person.clone()),
        name: fold(&explain.person),
        groups: explain.groups.iter().map(|group| group_of(&explain.issuer, group)).collect(),
        method: explain.method,
    };
    let told = rules.explain(&AuthzInput {
        identity: &identity,
        action,
        resource: &resource,
        policy_arn: explain.policy.as_deref(),
        duration_seconds: explain.duration,
        sign_in_age_seconds: explain.sign_in_age,
        key_registered_by: explain
            .method
            .is_by_ssh_key()
            .then_some(explain.key_registered_by.unwrap_or(KeyOrigin::Directory)),
        address: explain.address,
        now: now.unwrap_or_else(|| Clock::system().now()),
        managed: !explain.unmanaged,
        owner: explain.owner.as_deref(),
    });
    print(told)
}

impl Source {
    fn load(&self) -> Result<RuleSet, Failure> {
        let config = self.config.load()?;
        let files = if self.files.is_empty() {
            config.rules.clone()
        } else {
            RuleFiles { files: self.files.clone() }
        };
        let found = |problems: Vec<RuleProblem>| {
            let told: Vec<_> = problems.iter().map(ToString::to_string).collect();
            Failure::found(format!("The rules can't be used.\n{}", told.join("\n")))
        };
        let texts = read(&files).map_err(found)?;
        RuleSet::load(&texts, config.rules_settings()).map_err(found)
    }
}

fn key_origin(text: &str) -> Result<KeyOrigin, String> {
    KeyOrigin::parse(text)
        .ok_or_else(|| "a key is registered by directory, file, ssh-key, ldap or dev-link".to_owned())
}
