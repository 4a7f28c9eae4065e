//! Cases: what a set of rules is expected to decide, kept beside the rules and run before they go into force.

use std::fmt;
use std::net::IpAddr;

use iam_sorry_core::dn;
use iam_sorry_core::group::{Group, Groups};
use iam_sorry_core::identity::{Identity, KeyOrigin, Method};
use iam_sorry_core::timestamp::Timestamp;
use serde::Deserialize;

use crate::decision::Explanation;
use crate::input::{Action, AuthzInput, Resource};
use crate::names::fold;
use crate::rule_set::RuleSet;

/// A file of cases that can't be run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CaseProblem(String);

/// What became of one case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaseResult {
    /// Its place in the file, from 1.
    pub number: usize,
    /// Its name, else what it asks, such as `alice: create-user dirk-x`.
    pub name: String,
    /// What was not as expected; empty where everything was.
    pub differences: Vec<String>,
    /// The decision in full.
    pub explanation: Explanation,
}

impl CaseResult {
    /// Whether everything was as expected.
    pub fn passed(&self) -> bool {
        self.differences.is_empty()
    }
}

impl fmt::Display for CaseResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, name, .. } = self;
        if self.passed() {
            return write!(f, "ok      {number}: {name}");
        }
        write!(f, "FAILED  {number}: {name}")?;
        self.differences.iter().try_for_each(|difference| write!(f, "\n          {difference}"))?;
        self.explanation.to_string().lines().try_for_each(|line| write!(f, "\n          {line}"))
    }
}

/// A group that is known as a rule names it: by DN, by `ISSUER/ID`, or by a name that it has alone.
pub fn group_of(issuer: &str, text: &str) -> Group {
    let bare = Group { id: None, dn: None, name: None, name_is_unique: false, issuer: issuer.to_owned() };
    if let Some(dn) = dn::fold(text) {
        return Group { dn: Some(dn), ..bare };
    }
    match text.split_once('/') {
        Some((issuer, id)) => Group { issuer: fold(issuer), id: Some(fold(id)), ..bare },
        None => Group { name: Some(fold(text)), name_is_unique: true, ..bare },
    }
}

/// Runs the cases of a TOML file. Each is decided as the service would decide it, durations being cut.
///
/// # Errors
/// [`CaseProblem`] where the text is not of the form, has no case, or a case asks for something impossible. A case that
/// comes out otherwise than expected is no error but a [`CaseResult`] with differences.
pub fn run_cases(rules: &RuleSet, text: &str) -> Result<Vec<CaseResult>, CaseProblem> {
    let file: CaseFile =
        toml::from_str(text).map_err(|e| CaseProblem(e.to_string().trim_end().to_owned()))?;
    if file.case.is_empty() {
        return Err(CaseProblem("There is no [[case]] in the file.".to_owned()));
    }
    let run = |(place, case): (usize, &Case)| {
        let number = place + 1;
        case.run(rules, number)
            .map_err(|problem| CaseProblem(format!("Case {number} ({}): {problem}", case.name())))
    };
    file.case.iter().enumerate().map(run).collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseFile {
    #[serde(default)]
    case: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: Option<String>,
    /// The login name.
    person: String,
    #[serde(default = "test_issuer")]
    issuer: String,
    /// The login name where absent.
    subject: Option<String>,
    /// Names, DNs or `ISSUER/ID`, as rules name them.
    #[serde(default)]
    groups: Vec<String>,
    /// Names of groups of theirs that other groups have too.
    #[serde(default)]
    ambiguous_groups: Vec<String>,
    #[serde(default = "ssh_key")]
    method: Method,
    action: String,
    /// User, role ARN or namespace; not needed for read-audit, manage-sessions and register-key.
    #[serde(default)]
    resource: String,
    policy: Option<String>,
    /// Seconds.
    duration: Option<u32>,
    time: Option<String>,
    address: Option<IpAddr>,
    #[serde(default)]
    sign_in_age: u64,
    /// For the method ssh-key; `directory` where absent.
    key_registered_by: Option<KeyOrigin>,
    /// Whether the service made or adopted the user.
    #[serde(default = "yes")]
    managed: bool,
    /// Who made it, `issuer/subject`.
    owner: Option<String>,
    expect: Expected,
    expect_rule: Option<String>,
    expect_seconds: Option<u32>,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Expected {
    Allow,
    Deny,
}

fn test_issuer() -> String {
    "test".to_owned()
}

fn ssh_key() -> Method {
    Method::SshKey
}

fn yes() -> bool {
    true
}

impl Case {
    fn name(&self) -> String {
        let asked = || format!("{}: {} {}", self.person, self.action, self.resource);
        self.name.clone().unwrap_or_else(asked)
    }

    fn groups(&self) -> Groups {
        let certain = self.groups.iter().map(|text| group_of(&self.issuer, text));
        let ambiguous = self.ambiguous_groups.iter().map(|name| Group {
            id: None,
            name_is_unique: false,
            ..Group::named(&self.issuer, name)
        });
        certain.chain(ambiguous).collect()
    }

    fn run(&self, rules: &RuleSet, number: usize) -> Result<CaseResult, String> {
        let action: Action = self.action.parse().map_err(|e: iam_sorry_core::names::InvalidName| e.0)?;
        let resource = Resource::parse(action, &self.resource, rules.first_account()).map_err(|e| e.0)?;
        if self.issuer.is_empty() || self.issuer.contains('/') {
            return Err(format!("issuer {:?} must not be empty or have a slash", self.issuer));
        }
        if self.duration.is_some() && !action.has_duration() {
            return Err(format!("{action} has no duration"));
        }
        // Noon of a Monday: a case that is about time says which.
        let now = self.time.as_deref().unwrap_or("2026-01-05T12:00:00Z");
        let identity = Identity {
            issuer: self.issuer.clone(),
            subject: self.subject.clone().unwrap_or_else(|| self.person.clone()),
            name: fold(&self.person),
            groups: self.groups(),
            method: self.method,
        };
        let explanation = rules.explain(&AuthzInput {
            identity: &identity,
            action,
            resource: &resource,
            policy_arn: self.policy.as_deref(),
            duration_seconds: self.duration,
            sign_in_age_seconds: self.sign_in_age,
            key_registered_by: self.key_origin()?,
            address: self.address.unwrap_or(IpAddr::from([127, 0, 0, 1])),
            now: Timestamp::parse(now).map_err(|e| e.to_string())?,
            managed: self.managed,
            owner: self.owner.as_deref(),
        });
        Ok(CaseResult { number, name: self.name(), differences: self.differences(&explanation), explanation })
    }

    fn key_origin(&self) -> Result<Option<KeyOrigin>, String> {
        match (self.method.is_by_ssh_key(), self.key_registered_by) {
            (true, origin) => Ok(Some(origin.unwrap_or(KeyOrigin::Directory))),
            (false, None) => Ok(None),
            (false, Some(_)) => {
                Err(format!("key_registered_by is for the method ssh-key, not {}", self.method))
            }
        }
    }

    fn differences(&self, told: &Explanation) -> Vec<String> {
        let mut differences = Vec::new();
        let got = if told.decision.allowed { Expected::Allow } else { Expected::Deny };
        if got != self.expect {
            let word = |e| if e == Expected::Allow { "allowed" } else { "refused" };
            differences.push(format!("expected to be {}", word(self.expect)));
        }
        if let Some(rule) = &self.expect_rule
            && !told.decision.reasons.iter().any(|reason| &reason.rule == rule)
        {
            differences.push(format!("expected {rule:?} to decide"));
        }
        if let Some(seconds) = self.expect_seconds
            && told.longest_seconds != Some(seconds)
        {
            let got = told.longest_seconds.map_or("none".to_owned(), |s| format!("{s} seconds"));
            differences.push(format!("expected {seconds} seconds, got {got}"));
        }
        differences
    }
}
