//! The accounts, namespaces and guardrails of the configuration, indexed for look-ups: what bounds every decision.

use std::collections::{HashMap, HashSet};

use iam_sorry_core::ids::{AccountName, UserRef};

use crate::input::{Action, Resource};
use crate::names::{fold_namespace, fold_user};
use crate::settings::{NamespaceSettings, Protected, RuleSettings, role_parts};

#[derive(Debug)]
pub(crate) struct Bounds {
    settings: RuleSettings,
    /// Place in `settings.namespaces` by folded name.
    namespaces: HashMap<String, usize>,
    protected: HashSet<Protected>,
}

impl Bounds {
    pub(crate) fn new(settings: RuleSettings) -> Self {
        let by_name =
            |(place, namespace): (usize, &NamespaceSettings)| (namespace.name.to_ascii_lowercase(), place);
        Self {
            namespaces: settings.namespaces.iter().enumerate().map(by_name).collect(),
            protected: settings
                .guardrails
                .protected
                .iter()
                .filter_map(|entry| Protected::parse(entry))
                .collect(),
            settings,
        }
    }

    pub(crate) fn settings(&self) -> &RuleSettings {
        &self.settings
    }

    /// The account that goes without saying.
    pub(crate) fn first_account(&self) -> &AccountName {
        &self.settings.accounts.first().name
    }

    pub(crate) fn has_account(&self, name: &AccountName) -> bool {
        self.settings.accounts.get(name).is_some()
    }

    /// The namespace of this name, in any case.
    pub(crate) fn namespace(&self, name: &str) -> Option<&NamespaceSettings> {
        let place = *self.namespaces.get(&fold_namespace(name).ok()?)?;
        self.settings.namespaces.get(place)
    }

    /// The namespace that a user is in: of those that fit, the longest. None if the name is not allowed, or the service has
    /// no such account.
    pub(crate) fn namespace_of(&self, user: &UserRef) -> Option<&NamespaceSettings> {
        let folded = fold_user(&user.name).ok().filter(|_| self.has_account(&user.account))?;
        let mut prefix = folded.as_str();
        loop {
            if let Some(place) = self.namespaces.get(prefix) {
                return self.settings.namespaces.get(*place);
            }
            prefix = prefix.rsplit_once('-')?.0;
        }
    }

    /// The longest duration that the guardrails leave for this, seconds.
    pub(crate) fn most_seconds(&self, action: Action, resource: &Resource) -> u32 {
        let guardrails = &self.settings.guardrails;
        match (action, resource) {
            (Action::AssumeRole, Resource::Role(arn)) => {
                let own = guardrails.role(arn).and_then(|role| role.max_seconds);
                guardrails.max_role_seconds.min(own.unwrap_or(u32::MAX))
            }
            _ => guardrails.max_user_seconds,
        }
    }

    /// Whether nothing is ever done to users of this folded name.
    pub(crate) fn protects_user(&self, folded: &str) -> bool {
        self.protected.contains(&Protected::User(folded.to_owned()))
    }

    /// Whether nobody becomes this role.
    pub(crate) fn protects_role(&self, arn: &str) -> bool {
        role_parts(arn).is_some_and(|(account, name)| {
            let role = Protected::Role { account: account.to_owned(), name: name.to_ascii_lowercase() };
            self.protected.contains(&role)
        })
    }
}
