//! What holds whatever the rules say: `before` the rules are asked, by the configuration alone, and `after`.

use std::collections::HashSet;

use iam_sorry_core::names::UserName;

use crate::decide::RuleSet;
use crate::decision::{Reason, ReasonKind};
use crate::input::{Action, AuthzInput, Resource, SHORTEST_SECONDS};
use crate::names::{fold, fold_user};
use crate::settings::{Protected, Settings, role_parts};

/// The protected users and roles, for look-ups.
#[derive(Debug)]
pub(crate) struct ProtectedSet(HashSet<Protected>);

impl ProtectedSet {
    pub(crate) fn new(settings: &Settings) -> Self {
        Self(settings.guardrails.protected.iter().filter_map(|entry| Protected::parse(entry)).collect())
    }

    fn has_user(&self, folded: &str) -> bool {
        self.0.contains(&Protected::User(folded.to_owned()))
    }

    fn has_role(&self, arn: &str) -> bool {
        role_parts(arn).is_some_and(|(account, name)| {
            self.0.contains(&Protected::Role { account: account.to_owned(), name: name.to_ascii_lowercase() })
        })
    }
}

/// Those that depend on the configuration and the question alone.
pub(crate) fn before(rules: &RuleSet, input: &AuthzInput<'_>) -> Vec<Reason> {
    let mut refusals = Vec::new();
    if !fits(input.action, input.resource) {
        refusals.push(guardrail("request", format!("{} can't be done to {}", input.action, input.resource)));
        return refusals;
    }
    match input.resource {
        Resource::User(name) => user(rules, input, name, &mut refusals),
        Resource::Role(arn) => role(rules, arn, &mut refusals),
        Resource::Namespace(name) if rules.namespace(name).is_none() => {
            refusals.push(guardrail("namespace", format!("there is no namespace {name:?}")));
        }
        Resource::Namespace(_) | Resource::Audit | Resource::Sessions | Resource::OwnKeys => {}
    }
    if input.action.has_policy() {
        policy(rules, input.policy_arn, &mut refusals);
    }
    refusals
}

/// Those that are asked only where the rules allow the action: what depends on what exists, so that nobody else learns of
/// it, and the duration, which the rules may refuse for a better reason.
pub(crate) fn after(input: &AuthzInput<'_>, seconds: u32, most: u32) -> Vec<Reason> {
    let mut refusals = Vec::new();
    if let Resource::User(name) = input.resource
        && input.action.needs_managed_user()
        && !input.managed
    {
        refusals.push(guardrail(
            "managed-users",
            format!("{name} was neither made nor adopted by this service, which touches no other users"),
        ));
    }
    if input.action.has_duration() && seconds > most {
        refusals.push(guardrail("duration", format!("at most {most} seconds, not {seconds}")));
    }
    if input.action.has_duration() && seconds < SHORTEST_SECONDS {
        let text = format!("AWS gives no credentials for less than {SHORTEST_SECONDS} seconds");
        refusals.push(guardrail("duration", text));
    }
    refusals
}

fn fits(action: Action, resource: &Resource) -> bool {
    match action {
        Action::AssumeRole => matches!(resource, Resource::Role(_)),
        Action::ListUsers => matches!(resource, Resource::Namespace(_)),
        Action::ReadAudit => matches!(resource, Resource::Audit),
        Action::ManageSessions => matches!(resource, Resource::Sessions),
        Action::RegisterKey => matches!(resource, Resource::OwnKeys),
        _ => matches!(resource, Resource::User(_)),
    }
}

fn user(rules: &RuleSet, input: &AuthzInput<'_>, name: &UserName, refusals: &mut Vec<Reason>) {
    let folded = match fold_user(name) {
        Ok(folded) => folded,
        Err(problem) => {
            refusals.push(guardrail("names", problem.0));
            return;
        }
    };
    if rules.namespace_of(name).is_none() {
        refusals.push(guardrail("namespace", format!("{name} is in no namespace of this service")));
    }
    if rules.protected.has_user(&folded) {
        refusals.push(guardrail("protected", format!("nothing is ever done to {name}")));
    }
    // Nobody changes the rights of the IAM user that is called as they are: somebody else who may, has to. To detach a
    // policy that denies something raises them too.
    let raises = matches!(input.action, Action::AttachPolicy | Action::DetachPolicy | Action::AdoptUser);
    if raises && fold(&input.identity.name) == folded {
        refusals.push(guardrail(
            "own-rights",
            format!("nobody raises their own rights; ask a colleague who may {} on {name}", input.action),
        ));
    }
}

fn role(rules: &RuleSet, arn: &str, refusals: &mut Vec<Reason>) {
    if rules.settings().guardrails.role(arn).is_none() {
        refusals.push(guardrail("roles", format!("{arn} is not on the list of roles that can be assumed")));
    }
    if rules.protected.has_role(arn) {
        refusals.push(guardrail("protected", format!("nobody becomes {arn}")));
    }
}

fn policy(rules: &RuleSet, arn: Option<&str>, refusals: &mut Vec<Reason>) {
    match arn {
        None => refusals.push(guardrail("policies", "no policy was named".to_owned())),
        Some(arn) if !rules.settings().guardrails.policies.iter().any(|p| p == arn) => {
            refusals.push(guardrail(
                "policies",
                format!("{arn} is not on the list of policies that can be attached and detached"),
            ))
        }
        Some(_) => {}
    }
}

pub(crate) fn guardrail(name: &str, text: String) -> Reason {
    Reason { kind: ReasonKind::Guardrail, rule: name.to_owned(), file: String::new(), text }
}
