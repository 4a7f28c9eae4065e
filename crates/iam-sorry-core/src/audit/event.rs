//! What one audit record says, before it gets its place in the chain. Nothing in it may ever be a secret.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::approval::Approval;
use super::signature::RequestSignature;
use crate::identity::{Identity, Method};

/// Where in an operation a record stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum Phase {
    /// Written before AWS is asked.
    Intent,
    /// Written after: what became of the intent of the same operation.
    Outcome,
    /// Stands alone: a sign-in, a refusal, a reading of the trail.
    #[default]
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

/// The person behind it. By default nobody: the service itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Person {
    /// `issuer/subject`; empty where nobody was signed in.
    pub id: String,
    /// The login name, or the name that was tried.
    pub name: String,
    /// Groups at that time: by name, or by DN if the name was not one group's alone. A record may name the list by its
    /// digest instead ([`super::Record::groups_digest`]); whoever shows the record looks it up.
    #[serde(default)]
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
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    /// How their session came about: `agent`, `paste`, `password`, `browser`, `device`, `workload`. None where no session is
    /// behind it, and in records made before there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub via: Option<String>,
    /// The address the request came from.
    #[serde(default)]
    pub address: String,
    /// The request's id.
    #[serde(default)]
    pub request_id: String,
    /// Such as `create-user`, `sign-in`, `read-audit`.
    pub action: String,
    /// The AWS account that it is about, by its name in the service's configuration. None where it is about no account, and in
    /// records made before there were several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The IAM user, policy or role; may be empty.
    #[serde(default)]
    pub resource: String,
    /// What the rules said, where they were asked.
    pub decision: Option<Decision>,
    /// The rules that decided, by their names.
    #[serde(default)]
    pub rules: Vec<String>,
    /// The digest of the rules, namespaces and guardrails that the decision was made with, 64 hexadecimal digits. None
    /// where nothing was decided, and in records made before there was one.
    #[serde(default)]
    pub rules_digest: Option<String>,
    /// The person's own signature over the request that this is the intent of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<RequestSignature>,
    /// The request for approval that this decides on, or that it was done under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Approval>,
    /// How it ended; none in an intent.
    pub outcome: Option<Outcome>,
    /// AWS's request ids.
    #[serde(default)]
    pub aws_request_ids: Vec<String>,
    /// Anything else that an auditor wants: policy ARN, duration, access key ID, error code.
    #[serde(default)]
    pub details: BTreeMap<String, String>,
}
