//! What holds whatever the rules say: `before` the rules are evaluated, by the configuration alone, and `after`.

use iam_sorry_core::ids::UserRef;

use crate::bounds::Bounds;
use crate::decision::{Reason, ReasonKind};
use crate::input::{Action, AuthzInput, Resource, SHORTEST_SECONDS};
use crate::names::{fold, fold_user};

/// Those that depend on the configuration and the request alone.
pub(crate) fn before(bounds: &Bounds, input: &AuthzInput<'_>) -> Vec<Reason> {
    let mut refusals = Vec::new();
    if !fits(input.action, input.resource) {
        refusals.push(guardrail(
            "request",
            format!("{} can't be done to {}", input.action, input.resource.label(bounds.first_account())),
        ));
        return refusals;
    }
    match input.resource {
        Resource::User(name) => user(bounds, input, name, &mut refusals),
        Resource::Role(arn) => role(bounds, arn, &mut refusals),
        Resource::Namespace(name) if bounds.namespace(name).is_none() => {
            refusals.push(guardrail("namespace", format!("there is no namespace {name:?}")));
        }
        Resource::Namespace(_) | Resource::Audit | Resource::Sessions | Resource::OwnKeys => {}
    }
    if input.action.has_policy() {
        policy(bounds, input.policy_arn, &mut refusals);
    }
    refusals
}

/// Those that are asked only where the rules allow the action: what depends on what exists, so that nobody else learns of
/// it, and the duration, which the rules may refuse for a better reason.
pub(crate) fn after(bounds: &Bounds, input: &AuthzInput<'_>, seconds: u32, most: u32) -> Vec<Reason> {
    let mut refusals = Vec::new();
    if let Resource::User(user) = input.resource
        && input.action.needs_managed_user()
        && !input.managed
    {
        refusals.push(guardrail(
            "managed-users",
            format!(
                "{} was neither made nor adopted by this service, which touches no other users",
                user.short(bounds.first_account())
            ),
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

fn user(bounds: &Bounds, input: &AuthzInput<'_>, user: &UserRef, refusals: &mut Vec<Reason>) {
    let folded = match fold_user(&user.name) {
        Ok(folded) => folded,
        Err(problem) => {
            refusals.push(guardrail("names", problem.0));
            return;
        }
    };
    if !bounds.has_account(&user.account) {
        refusals.push(guardrail("account", format!("this service has no account {:?}", user.account)));
        return;
    }
    let name = user.short(bounds.first_account());
    if bounds.namespace_of(user).is_none() {
        refusals.push(guardrail("namespace", format!("{name} is in no namespace of this service")));
    }
    if bounds.protects_user(&folded) {
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

fn role(bounds: &Bounds, arn: &str, refusals: &mut Vec<Reason>) {
    if bounds.settings().guardrails.role(arn).is_none() {
        refusals.push(guardrail("roles", format!("{arn} is not on the list of roles that can be assumed")));
    }
    if bounds.protects_role(arn) {
        refusals.push(guardrail("protected", format!("nobody becomes {arn}")));
    }
}

fn policy(bounds: &Bounds, arn: Option<&str>, refusals: &mut Vec<Reason>) {
    match arn {
        None => refusals.push(guardrail("policies", "no policy was named".to_owned())),
        Some(arn) if !bounds.settings().guardrails.policies.iter().any(|p| p == arn) => {
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
