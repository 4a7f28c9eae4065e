//! The service as one value: its parts, and what each room remembers between requests. What it does is in the rooms.

use std::sync::Arc;

use arc_swap::ArcSwap;
use iam_sorry_rules::RuleSet;
use iam_sorry_store::Store;

use crate::accounts::registry::Accounts;
use crate::actions::retiring::Retiring;
use crate::actions::settings::ActionSettings;
use crate::audit::counted::Counted;
use crate::audit::tasks::AuditOut;
use crate::clock::Clock;
use crate::operations::life::Life;
use crate::operations::neighbours::Neighbours;
use crate::operations::queue::Queues;
use crate::operations::settling::Settling;
use crate::sessions::group_names::GroupNames;
use crate::sessions::sign_in::SignIn;

/// What a [`Service`] is made of.
pub struct Parts {
    /// Opened under the name `instance`.
    pub store: Store,
    /// The rules in force, swapped whole when their files change.
    pub rules: Arc<ArcSwap<RuleSet>>,
    /// The AWS accounts that it manages.
    pub accounts: Accounts,
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
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) parts: Parts,
    pub(crate) life: Arc<Life>,
    pub(crate) queues: Queues,
    /// By person: one query of the audit trail at a time.
    pub(crate) audit_turns: Queues,
    pub(crate) settling: Settling,
    pub(crate) retiring: Retiring,
    pub(crate) audit: AuditOut,
    pub(crate) counted: Counted,
    pub(crate) recording_keys: tokio::sync::Mutex<()>,
    pub(crate) group_names: GroupNames,
    pub(crate) neighbours: Neighbours,
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service").field("instance", &self.instance()).finish_non_exhaustive()
    }
}

impl Service {
    /// Does nothing yet: [`Service::start`] does.
    pub fn new(parts: Parts) -> Self {
        let inner = Inner {
            parts,
            life: Arc::new(Life::new()),
            queues: Queues::default(),
            audit_turns: Queues::default(),
            settling: Settling::default(),
            retiring: Retiring::default(),
            audit: AuditOut::default(),
            counted: Counted::default(),
            recording_keys: tokio::sync::Mutex::default(),
            group_names: GroupNames::default(),
            neighbours: Neighbours::default(),
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

    pub(crate) fn sign_in(&self) -> &SignIn {
        &self.inner.parts.sign_in
    }

    pub(crate) fn actions(&self) -> &ActionSettings {
        &self.inner.parts.actions
    }

    pub(crate) fn life(&self) -> &Arc<Life> {
        &self.inner.life
    }

    pub(crate) fn counted(&self) -> &Counted {
        &self.inner.counted
    }

    pub(crate) fn group_names(&self) -> &GroupNames {
        &self.inner.group_names
    }

    pub(crate) fn audit_out(&self) -> &AuditOut {
        &self.inner.audit
    }
}
