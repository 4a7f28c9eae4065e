//! What the service does, for any face: nothing here knows HTTP, and nobody else decides and acts.
//!
//! Every action goes the same way (`operation`): decide by the rules, write the intent, act, write the outcome.
//! `lifecycle` keeps an instance allowed to act, `reconcile` finishes or takes back what a dead one left.

mod adopt;
mod audit_out;
mod aws;
pub mod checkpoints;
mod clock;
pub mod continuity;
mod counted;
mod credentials;
mod decide;
mod export;
pub mod group_names;
mod key_holders;
mod keys;
mod lifecycle;
mod neighbours;
mod operation;
mod people;
mod plan;
mod policies;
mod queue;
mod reconcile;
mod refusal;
mod retire;
pub mod rules;
mod sessions;
mod settings;
mod settling;
mod sign_in;
mod sign_in_texts;
pub mod signed_state;
pub mod sinks;
mod ssh_keys;
mod states;
mod tags;
mod trail;
mod typed_names;
mod unaccounted;
mod users;

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use iam_sorry_core::api::Done;
use iam_sorry_core::identity::Identity;
use iam_sorry_rules::RuleSet;
use iam_sorry_store::Store;

pub use audit_out::AuditTasks;
pub use aws::Way;
pub use clock::Clock;
pub use decide::{RuleFacts, action_names};
pub use export::ExportLines;
pub use lifecycle::{AWS_TIME, Background, TAKEOVER as INSTANCE_SILENCE};
pub use neighbours::{Neighbour, Watching};
pub use refusal::Refusal;
pub use sessions::form_secret;
pub use settings::ActionSettings;
pub use sign_in::{NewSession, SessionSettings, SignIn};
pub use ssh_keys::{ByHand, PastedSignature};
pub use states::{Digests, StartFacts};
pub use trail::{ActionCount, AuditExport};
pub use users::WOULD_GO;

use crate::config::identity::ServiceIdentity;

/// Where a request came from.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The client's address (behind a trusted proxy: what the proxy says).
    pub address: IpAddr,
    /// The request's id.
    pub request_id: String,
}

/// A signed-in person with a request.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Who.
    pub identity: Identity,
    /// Their session.
    pub session: iam_sorry_store::Session,
    /// Where from.
    pub origin: Origin,
}

/// What a [`Service`] is made of.
pub struct Parts {
    /// Opened under the name `instance`.
    pub store: Store,
    /// The rules in force, swapped whole when their files change.
    pub rules: Arc<ArcSwap<RuleSet>>,
    /// The way to AWS, whose requests end within [`AWS_TIME`].
    pub aws: iam_sorry_aws::Aws,
    /// Whose credentials the service acts with.
    pub identity: ServiceIdentity,
    /// How actions are done.
    pub actions: ActionSettings,
    /// How people sign in.
    pub sign_in: SignIn,
    /// The time.
    pub clock: Clock,
    /// This instance's name: random, new at each start.
    pub instance: String,
    /// Whether other instances may work on the same database (PostgreSQL). Where not, every other one is dead.
    pub other_instances: bool,
}

/// The service: cheap to clone, shared by all faces.
#[derive(Clone)]
pub struct Service {
    inner: Arc<Inner>,
}

struct Inner {
    parts: Parts,
    way: aws::KeptWay,
    life: lifecycle::Life,
    queues: queue::Queues,
    /// By person: one query of the audit trail at a time.
    audit_turns: queue::Queues,
    settling: settling::Settling,
    retiring: retire::Retiring,
    audit: audit_out::AuditOut,
    counted: counted::Counted,
    recording_keys: tokio::sync::Mutex<()>,
    group_names: group_names::GroupNames,
    neighbours: neighbours::Neighbours,
}

impl Service {
    /// Does nothing yet: [`Service::start`] does.
    pub fn new(parts: Parts) -> Self {
        let inner = Inner {
            parts,
            way: aws::KeptWay::default(),
            life: lifecycle::Life::new(),
            queues: queue::Queues::default(),
            audit_turns: queue::Queues::default(),
            settling: settling::Settling::default(),
            retiring: retire::Retiring::default(),
            audit: audit_out::AuditOut::default(),
            counted: counted::Counted::default(),
            recording_keys: tokio::sync::Mutex::default(),
            group_names: group_names::GroupNames::default(),
            neighbours: neighbours::Neighbours::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// The database.
    pub fn store(&self) -> &Store {
        &self.inner.parts.store
    }

    /// The rules in force now.
    pub fn rules(&self) -> Arc<RuleSet> {
        self.inner.parts.rules.load_full()
    }

    /// The time.
    pub fn clock(&self) -> &Clock {
        &self.inner.parts.clock
    }

    /// This instance's name.
    pub fn instance(&self) -> &str {
        &self.inner.parts.instance
    }

    fn sign_in(&self) -> &SignIn {
        &self.inner.parts.sign_in
    }

    fn actions(&self) -> &ActionSettings {
        &self.inner.parts.actions
    }

    fn life(&self) -> &lifecycle::Life {
        &self.inner.life
    }

    fn counted(&self) -> &counted::Counted {
        &self.inner.counted
    }

    fn group_names(&self) -> &group_names::GroupNames {
        &self.inner.group_names
    }

    fn audit_out(&self) -> &audit_out::AuditOut {
        &self.inner.audit
    }
}

/// What makes a request safe to send again (`Idempotency-Key`): 8 to 64 letters, digits, `-` and `_`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// # Errors
    /// A [`Refusal`] (bad-request) that says what the form is.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if (8..=64).contains(&text.len()) && text.bytes().all(allowed) {
            return Ok(Self(text.to_owned()));
        }
        Err(Refusal::new(
            iam_sorry_core::api::ProblemCode::BadRequest,
            "The Idempotency-Key can't be used: 8 to 64 letters, digits, - and _ are allowed.",
        ))
    }

    /// As it was sent.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The answer to a request for something secret.
#[derive(Clone, Debug)]
pub enum Given<T> {
    /// Made, and shown this once.
    New(T),
    /// A dry run: nothing was made.
    DryRun(Done),
}
