//! What may I do, and why: any question to the rules, without doing anything.

use iam_sorry_core::api::{ExplainRequest, Me};

use super::context::SignedIn;
use super::credentials::{durations, seconds};
use super::forms::Sent;
use super::responses::{self, Answer as Page};
use super::time_format;
use super::views::{Answer, Choice, RulesPage, Section};
use crate::authz::authorize::action_names;
use crate::error::ServiceError;

/// How many rules the page lists at most.
const MOST_RULES: usize = 200;

/// `GET /rules`.
pub(super) async fn show(signed: SignedIn) -> Page {
    let page = page(&signed, None, &ExplainRequest::default_question()).await?;
    responses::page(&page)
}

/// `POST /rules`. Changes nothing, so the answer is the page itself.
pub(super) async fn authz_request(signed: SignedIn, sent: Sent) -> Page {
    let filled = |name: &str| Some(sent.text(name).trim().to_owned()).filter(|text| !text.is_empty());
    let question = ExplainRequest {
        action: sent.text("action").to_owned(),
        resource: filled("resource").unwrap_or_default(),
        policy_arn: filled("policy_arn"),
        duration_seconds: seconds(sent.text("duration"))?,
    };
    let explanation = signed.context.service().explain(&signed.caller, question.clone()).await?;
    let what = match question.resource.is_empty() {
        true => question.action.clone(),
        false => format!("{} on {}", question.action, question.resource),
    };
    let answer = Answer {
        allowed: explanation.allowed,
        title: match explanation.allowed {
            true => format!("Yes: {what} is allowed."),
            false => format!("No: {what} is not allowed."),
        },
        reasons: explanation.reasons,
        longest: explanation.longest_seconds.map(|seconds| time_format::span(seconds.into())),
    };
    responses::page(&page(&signed, Some(answer), &question).await?)
}

async fn page(
    signed: &SignedIn,
    answer: Option<Answer>,
    question: &ExplainRequest,
) -> Result<RulesPage, ServiceError> {
    let (service, caller) = (signed.context.service(), &signed.caller);
    let Me { identity, namespaces, .. } = service.me(caller).await?;
    let policies = service.list_policies(caller).await?;
    let (rules, more_rules) = service.rules_in_force(MOST_RULES);
    let choice = |value: String, chosen: bool| Choice { label: value.clone(), value, selected: chosen };
    let chosen_duration = question.duration_seconds.map(|seconds| seconds.to_string()).unwrap_or_default();
    Ok(RulesPage {
        frame: signed.context.frame("Rules", Section::Rules)?,
        answer,
        actions: action_names().map(|name| choice(name.to_owned(), name == question.action)).collect(),
        resource: question.resource.clone(),
        policies: policies
            .into_iter()
            .map(|arn| {
                let chosen = question.policy_arn.as_deref() == Some(&arn);
                choice(arn, chosen)
            })
            .collect(),
        durations: durations(&chosen_duration),
        id: identity.id(),
        method: identity.method.to_string(),
        name: identity.name,
        groups: identity.groups,
        namespaces: namespaces.into_iter().map(|namespace| namespace.name).collect(),
        rules,
        more_rules,
    })
}

trait AuthzInput {
    fn default_question() -> Self;
}

impl AuthzInput for ExplainRequest {
    /// What the form shows at first.
    fn default_question() -> Self {
        Self {
            action: "create-user".to_owned(),
            resource: String::new(),
            policy_arn: None,
            duration_seconds: None,
        }
    }
}
