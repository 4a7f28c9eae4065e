//! What one audit record says, before it gets its place in the chain. Nothing in it may ever be a secret.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::identity::{Identity, Method};

/// Where in an operation a record stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Phase {
    /// Written before AWS is asked.
    Intent,
    /// Written after: what became of the intent of the same operation.
    Outcome,
    /// Stands alone: a sign-in, a refusal, a reading of the trail.
    Event,
}

impl Phase {
    /// The name in records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Intent => "intent",
            Self::Outcome => "outcome",
            Self::Event => "event",
        }
    }
}

/// What the rules said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Decision {
    /// A rule allowed it.
    Allow,
    /// A rule or guardrail forbade it, or none allowed it.
    Deny,
}

impl Decision {
    /// The name in records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Outcome {
    /// Done.
    Success,
    /// Refused or failed; nothing was left behind.
    Failure,
    /// Begun by an instance that died; finished or taken back by the reconciler, as `details` says.
    Reconciled,
}

impl Outcome {
    /// The name in records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Reconciled => "reconciled",
        }
    }
}

/// The person behind it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Person {
    /// `issuer/subject`; empty where nobody was signed in.
    pub id: String,
    /// The login name, or the name that was tried.
    pub name: String,
    /// Groups at that time: by name, or by DN if the name was not one group's alone.
    pub groups: Vec<String>,
    /// How they signed in.
    pub method: Option<Method>,
}

impl From<&Identity> for Person {
    fn from(identity: &Identity) -> Self {
        Self {
            id: identity.id(),
            name: identity.name.clone(),
            groups: identity.groups.labels(),
            method: Some(identity.method),
        }
    }
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Event {
    /// Milliseconds since 1970, by the clock of the instance that wrote it.
    pub time_ms: i64,
    /// The instance.
    pub instance: String,
    /// Where in an operation it stands.
    pub phase: Phase,
    /// The operation's id, the same in intent and outcome.
    pub operation: Option<String>,
    /// On whose behalf.
    pub person: Person,
    /// The address the request came from.
    pub address: String,
    /// The request's id.
    pub request_id: String,
    /// Such as `create-user`, `sign-in`, `read-audit`.
    pub action: String,
    /// The IAM user, policy or role; may be empty.
    pub resource: String,
    /// What the rules said, where they were asked.
    pub decision: Option<Decision>,
    /// The rules that decided, by their names.
    pub rules: Vec<String>,
    /// The digest of the rules, namespaces and guardrails that the decision was made with, 64 hexadecimal digits. None
    /// where nothing was decided, and in records made before there was one.
    #[serde(default)]
    pub rules_digest: Option<String>,
    /// How it ended; none in an intent.
    pub outcome: Option<Outcome>,
    /// AWS's request ids.
    pub aws_request_ids: Vec<String>,
    /// Anything else that an auditor wants: policy ARN, duration, access key ID, error code.
    pub details: BTreeMap<String, String>,
}
