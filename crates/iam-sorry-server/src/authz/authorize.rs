//! Evaluating the rules, and recording what they refuse.

use std::sync::Arc;

use iam_sorry_core::api::{self, ProblemCode};
use iam_sorry_core::audit::{self, Event, Outcome, Person};
use iam_sorry_core::ids::{AccountName, UserRef};
use iam_sorry_core::names::InvalidName;
use iam_sorry_rules::{Action, AuthzInput, Decision, Reason, ReasonKind, Resource, RuleSet};
use iam_sorry_store::ManagedUser;

use crate::caller::Caller;
use crate::error::ServiceError;
use crate::service::Service;
use crate::shell::quoted;

/// What somebody wants to do.
#[derive(Clone, Debug)]
pub struct AuthzRequest {
    pub(crate) action: Action,
    /// The name in records and operations, if it is not the action's: what needs the same right as another action.
    pub(crate) recorded_as: Option<&'static str>,
    pub(crate) resource: Resource,
    pub(crate) policy_arn: Option<String>,
    pub(crate) seconds: Option<u32>,
}

impl AuthzRequest {
    pub(crate) fn user(action: Action, user: UserRef) -> Self {
        Self::about(action, Resource::User(user))
    }

    pub(crate) fn about(action: Action, resource: Resource) -> Self {
        Self { action, recorded_as: None, resource, policy_arn: None, seconds: None }
    }

    /// The name in records and operations.
    pub(crate) fn action_name(&self) -> &'static str {
        self.recorded_as.unwrap_or_else(|| self.action.as_str())
    }

    /// As records and operations name it, beside its account: case-folded.
    pub(crate) fn folded(&self) -> String {
        match &self.resource {
            Resource::Audit => "audit".to_owned(),
            Resource::Sessions => "sessions".to_owned(),
            Resource::OwnKeys => "ssh-keys".to_owned(),
            Resource::User(user) => user.name.folded(),
            Resource::Role(text) | Resource::Namespace(text) => text.to_ascii_lowercase(),
        }
    }

    /// The same with the account, which `default` is not written out of: an idempotency key stands for it, so it stays the same
    /// whatever accounts are added.
    pub(crate) fn folded_in_account(&self) -> String {
        match &self.resource {
            Resource::User(user) => user.short(&AccountName::default()).to_ascii_lowercase(),
            _ => self.folded(),
        }
    }

    /// What `iam-sorry explain` takes for the resource, as it can be typed.
    fn typed(&self, first: &AccountName) -> String {
        match &self.resource {
            Resource::Audit | Resource::Sessions | Resource::OwnKeys => self.folded(),
            other => quoted(&other.label(first)),
        }
    }

    /// The user that it is about; the audit trail and the like have none.
    pub(crate) fn user_ref(&self) -> Option<&UserRef> {
        match &self.resource {
            Resource::User(user) => Some(user),
            _ => None,
        }
    }
}

/// A decision in favour, with what was known of the user when it was made.
#[derive(Clone, Debug)]
pub(crate) struct Authorized {
    pub decision: Decision,
    pub row: Option<ManagedUser>,
    /// For credentials: for how long, seconds.
    pub seconds: Option<u32>,
    /// The rule set that decided; what follows from the decision keeps to its guardrails and namespaces.
    pub rules: Arc<RuleSet>,
}

/// What a rule set says of a question.
pub(crate) struct Evaluated {
    pub decision: Decision,
    /// For credentials: the longest duration that is allowed, at most what was requested.
    pub seconds: Option<u32>,
    /// The set that decided.
    pub rules: Arc<RuleSet>,
}

impl Evaluated {
    /// Puts the decision into a record, with the digest of the set that made it.
    pub fn note_in(&self, event: &mut Event) {
        note_decision(event, &self.decision, &self.rules);
    }
}

fn note_decision(event: &mut Event, decision: &Decision, rules: &RuleSet) {
    let allowed = if decision.allowed { audit::Decision::Allow } else { audit::Decision::Deny };
    event.decision = Some(allowed);
    event.rules = decision.rule_names();
    event.rules_digest = Some(rules.digest().whole().to_string());
}

impl Authorized {
    /// The user's row. Rules never allow without one what needs one.
    pub fn managed(&self) -> Result<&ManagedUser, ServiceError> {
        self.row.as_ref().ok_or_else(|| ServiceError::new(ProblemCode::NotFound, "There is no such user."))
    }

    /// Puts the decision into a record.
    pub fn note_in(&self, event: &mut Event) {
        note_decision(event, &self.decision, &self.rules);
    }

    /// The user's name in IAM's own spelling, if there is one; else the resource as it was requested.
    pub fn spelling_of(&self, request: &AuthzRequest) -> String {
        match (&self.row, &request.resource) {
            (Some(row), _) => row.user.name.to_string(),
            (None, Resource::User(user)) => user.name.to_string(),
            (None, other) => other.label(self.rules.first_account()),
        }
    }

    /// The AWS account that it is done in; the first one if it is done in none.
    pub fn account_of<'a>(&'a self, request: &'a AuthzRequest) -> &'a AccountName {
        self.rules.account_of(&request.resource).unwrap_or_else(|| self.rules.first_account())
    }
}

/// A rule in force, as people may know it.
#[derive(Clone, Debug)]
pub struct RuleFacts {
    /// Its `@id`, else `FILE:LINE`.
    pub name: String,
    /// It forbids rather than allows.
    pub forbids: bool,
    /// Its `@reason`; may be empty.
    pub reason: String,
    /// The file, without its folders.
    pub file: String,
}

/// The names of everything that rules decide about, for faces that offer a choice.
pub fn action_names() -> impl Iterator<Item = &'static str> {
    Action::ALL.iter().map(|action| action.as_str())
}

impl Service {
    /// Evaluates the rules. A refusal is in the audit trail before it is answered.
    ///
    /// # Errors
    /// not-allowed or guardrail with the reasons; store-unavailable.
    pub(crate) async fn authorize(
        &self,
        caller: &Caller,
        authz_request: &AuthzRequest,
    ) -> Result<Authorized, ServiceError> {
        let row = match authz_request.user_ref() {
            Some(user) => self.store().user(user).await?,
            None => None,
        };
        self.authorize_with(caller, authz_request, row).await
    }

    /// The same, of a user whose row is at hand.
    pub(crate) async fn authorize_with(
        &self,
        caller: &Caller,
        authz_request: &AuthzRequest,
        row: Option<ManagedUser>,
    ) -> Result<Authorized, ServiceError> {
        let evaluated = self.evaluate(caller, authz_request, row.as_ref());
        if evaluated.decision.allowed {
            let Evaluated { decision, seconds, rules } = evaluated;
            return Ok(Authorized { decision, row, seconds, rules });
        }
        let error = refused_by(&evaluated.decision, authz_request, self.first_account());
        // A role and a policy are free text here, as long as a request's body: only so much of it goes into the trail.
        let mut event = self.event(caller, authz_request.action_name(), &shortened(&authz_request.folded()));
        evaluated.note_in(&mut event);
        event.outcome = Some(Outcome::Failure);
        if let Some(arn) = &authz_request.policy_arn {
            event.details.insert("policy".into(), shortened(arn));
        }
        self.record_bounded(event).await?;
        Err(error)
    }

    /// The decision alone; nothing is written.
    pub(crate) fn evaluate(
        &self,
        caller: &Caller,
        authz_request: &AuthzRequest,
        row: Option<&ManagedUser>,
    ) -> Evaluated {
        self.evaluate_with(self.rules(), caller, authz_request, row)
    }

    /// The same by one rule set, for several questions that belong together.
    pub(crate) fn evaluate_with(
        &self,
        rules: Arc<RuleSet>,
        caller: &Caller,
        authz_request: &AuthzRequest,
        row: Option<&ManagedUser>,
    ) -> Evaluated {
        let (decision, seconds) = rules.evaluate(&self.authz_input(caller, authz_request, row));
        Evaluated { decision, seconds, rules }
    }

    /// The first rules in force, and how many more there are.
    pub fn rules_in_force(&self, most: usize) -> (Vec<RuleFacts>, usize) {
        let rules = self.rules();
        let facts = rules.in_force().take(most).map(|Reason { kind, rule, file, text }| RuleFacts {
            name: rule,
            forbids: kind == ReasonKind::Forbid,
            reason: text,
            file,
        });
        (facts.collect(), rules.len().saturating_sub(most))
    }

    /// The question to the rules.
    pub(crate) fn authz_input<'a>(
        &self,
        caller: &'a Caller,
        authz_request: &'a AuthzRequest,
        row: Option<&'a ManagedUser>,
    ) -> AuthzInput<'a> {
        let now_ms = self.clock().now_ms();
        AuthzInput {
            identity: &caller.identity,
            action: authz_request.action,
            resource: &authz_request.resource,
            policy_arn: authz_request.policy_arn.as_deref(),
            duration_seconds: authz_request.seconds,
            // From the future at most by the skew between clocks: other sessions are refused.
            sign_in_age_seconds: u64::try_from((now_ms - caller.session.signed_in_ms) / 1000).unwrap_or(0),
            key_registered_by: caller.session.key.as_ref().map(|key| key.registered_by),
            address: caller.source.address,
            now: crate::clock::timestamp(now_ms),
            managed: row.is_some(),
            owner: row.map(|row| row.owner.as_str()),
        }
    }

    /// An event by the caller, now, that stands alone.
    pub(crate) fn event(&self, caller: &Caller, action: &str, resource: &str) -> Event {
        Event {
            time_ms: self.clock().now_ms(),
            instance: self.instance().to_owned(),
            person: Person::from(&caller.identity),
            address: caller.source.address.to_string(),
            request_id: caller.source.request_id.clone(),
            action: action.to_owned(),
            resource: resource.to_owned(),
            ..Event::default()
        }
    }

    /// Records that somebody reads what is others', before they do. `cursor`: the beginning of a page.
    pub(crate) async fn record_reading(
        &self,
        caller: &Caller,
        action: &str,
        resource: &str,
        allowed: &Authorized,
        cursor: Option<&str>,
    ) -> Result<(), ServiceError> {
        let mut event = self.event(caller, action, resource);
        allowed.note_in(&mut event);
        event.outcome = Some(Outcome::Success);
        if let Some(cursor) = cursor {
            event.details.insert("cursor".to_owned(), shortened(cursor));
        }
        self.store().record(vec![event]).await?;
        Ok(())
    }

    /// The same of a user, if it is another person's; one's own are read without a record.
    pub(crate) async fn record_reading_user(
        &self,
        caller: &Caller,
        action: &str,
        allowed: &Authorized,
    ) -> Result<(), ServiceError> {
        let row = allowed.managed()?;
        if row.owner == caller.identity.id() {
            return Ok(());
        }
        self.record_reading(caller, action, &row.user.name.folded(), allowed, None).await
    }

    /// What somebody names as an action's resource.
    fn resource(&self, action: Action, text: &str) -> Result<Resource, ServiceError> {
        let resource =
            Resource::parse(action, text, self.first_account()).map_err(ServiceError::invalid_name)?;
        match resource {
            Resource::User(_) => Ok(Resource::User(self.user_ref(text)?)),
            other => Ok(other),
        }
    }

    /// `POST /explain`.
    ///
    /// # Errors
    /// bad-request for an action that there is not; invalid-name.
    pub async fn explain(
        &self,
        caller: &Caller,
        request: api::ExplainRequest,
    ) -> Result<api::Explanation, ServiceError> {
        let action: Action = request
            .action
            .parse()
            .map_err(|e: InvalidName| ServiceError::new(ProblemCode::BadRequest, e.0))?;
        let authz_request = AuthzRequest {
            action,
            recorded_as: None,
            resource: self.resource(action, &request.resource)?,
            policy_arn: request.policy_arn,
            seconds: request.duration_seconds,
        };
        let row = match authz_request.user_ref() {
            Some(user) => self.store().user(user).await?,
            None => None,
        };
        let rules = self.rules();
        let explanation = rules.explain(&self.authz_input(caller, &authz_request, row.as_ref()));
        let mut event = self.event(caller, "explain", &shortened(&authz_request.folded()));
        event.outcome = Some(Outcome::Success);
        event.rules_digest = Some(rules.digest().whole().to_string());
        event.details.insert("asked".into(), action.as_str().to_owned());
        self.record_bounded(event).await?;
        Ok(api::Explanation {
            allowed: explanation.decision.allowed,
            reasons: explanation.decision.texts(),
            longest_seconds: explanation.longest_seconds,
        })
    }
}

/// As much of a text of the caller's own as a record holds.
pub(crate) fn shortened(text: &str) -> String {
    const MOST: usize = 256;
    if text.len() <= MOST {
        text.to_owned()
    } else {
        format!("{}…", &text[..text.floor_char_boundary(MOST)])
    }
}

fn refused_by(decision: &Decision, authz_request: &AuthzRequest, first: &AccountName) -> ServiceError {
    let (code, who) = if decision.by_guardrail() {
        (ProblemCode::Guardrail, "This service never does that, whatever the rules say")
    } else {
        (ProblemCode::NotAllowed, "The rules do not allow you that")
    };
    let detail = format!(
        "{who}: {} on {}.\nSee what decided: iam-sorry explain {} {}",
        authz_request.action,
        authz_request.resource.label(first),
        authz_request.action,
        authz_request.typed(first)
    );
    ServiceError { reasons: decision.texts(), ..ServiceError::new(code, detail) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// "See what decided: iam-sorry explain read-audit the audit trail" could not be typed.
    #[test]
    fn what_a_refusal_says_to_type_asks_about_the_same() {
        for action in Action::ALL {
            for text in ["lab-x", "archive/lab-x", "arn:aws:iam::123456789012:role/a", "x y; reboot"] {
                let first = AccountName::default();
                let Ok(resource) = Resource::parse(action, text, &first) else { continue };
                let authz_request = AuthzRequest::about(action, resource.clone());
                let error =
                    refused_by(&Decision { allowed: false, reasons: Vec::new() }, &authz_request, &first);
                let (_, typed) = error.detail.split_once("iam-sorry explain ").unwrap();
                let (name, word) = typed.split_once(' ').unwrap();
                assert_eq!(name.parse::<Action>().unwrap(), action);
                let word = match word.strip_prefix('\'').and_then(|word| word.strip_suffix('\'')) {
                    Some(inside) => inside,
                    None => {
                        assert!(!word.contains([' ', ';']), "{typed}");
                        word
                    }
                };
                assert_eq!(Resource::parse(action, word, &first).unwrap(), resource);
            }
        }
    }
}
