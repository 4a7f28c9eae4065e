//! Group names that rules and namespaces use, and whether one group alone has each: over all places that groups come from.
//!
//! A directory says at each sign-in whether the names of that person's groups are unique in it. This looks besides, now and
//! then, at every name that rules, namespaces and the file of people use, whoever is in the groups: so that the operator
//! hears of a second group before somebody is refused, and so that a group of the file and one of the directory are not
//! taken for one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use iam_sorry_core::group::Group;
use iam_sorry_core::identity::Identity;
use iam_sorry_rules::RuleSet;

use crate::login::{LoginError, LoginMethods, ssh_file};
use crate::service::Service;

/// How often it is looked.
const EVERY: Duration = Duration::from_secs(60);
/// While the directory does not answer, this look is also what finds out that it does again.
const WHILE_AWAY: Duration = Duration::from_secs(5);

/// A name that more than one group has, though rules or namespaces use it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AmbiguousName {
    /// The name, folded.
    pub name: String,
    /// Where it is used: `rule "x"`, `namespace "y"`.
    pub used_by: Vec<String>,
    /// The groups, by DN or `ISSUER/ID`; empty if there are more than can be listed.
    pub groups: Vec<String>,
}

impl std::fmt::Display for AmbiguousName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { name, used_by, groups } = self;
        let groups = if groups.is_empty() { "too many to list".to_owned() } else { groups.join("; ") };
        write!(
            f,
            "the group name {name:?} ({}) is ambiguous, so it allows nothing: {groups}\nName the group by its DN.",
            used_by.join(", ")
        )
    }
}

/// What the last look found.
#[derive(Default)]
pub(crate) struct GroupNames(Mutex<Arc<Look>>);

#[derive(Default)]
struct Look {
    /// The names that were looked for, with the groups that have each; None for too many.
    groups: BTreeMap<String, Option<BTreeSet<String>>>,
    /// Those that more than one group has; nearly always none.
    shared: BTreeSet<String>,
    /// Those of them that rules and namespaces use.
    ambiguous: Vec<AmbiguousName>,
}

async fn look(rules: &RuleSet, methods: &LoginMethods) -> Result<Look, LoginError> {
    let used = rules.groups_by_name();
    let of_file = match &methods.ssh {
        Some(keys) => keys.groups()?,
        None => BTreeSet::new(),
    };
    let names = used.iter().map(|used| used.name.clone()).chain(of_file.iter().cloned()).collect();
    let mut groups: BTreeMap<String, Option<BTreeSet<String>>> = match &methods.directory {
        Some(directory) => directory.groups_called(&names).await?,
        None => BTreeMap::new(),
    };
    for name in names {
        let groups = groups.entry(name.clone()).or_insert_with(|| Some(BTreeSet::new()));
        if let Some(groups) = groups.as_mut().filter(|_| of_file.contains(&name)) {
            groups.insert(format!("{}/{name}", ssh_file::ISSUER));
        }
    }
    let several = |groups: &Option<BTreeSet<String>>| groups.as_ref().is_none_or(|groups| groups.len() > 1);
    let shared = groups.iter().filter(|(_, groups)| several(groups)).map(|(name, _)| name.clone());
    let shared: BTreeSet<String> = shared.collect();
    let ambiguous = used.into_iter().filter(|used| shared.contains(&used.name)).map(|used| {
        let groups = groups.get(&used.name).cloned().flatten().unwrap_or_default();
        AmbiguousName { name: used.name, used_by: used.used_by, groups: groups.into_iter().collect() }
    });
    Ok(Look { ambiguous: ambiguous.collect(), shared, groups })
}

/// The names that rules and namespaces use and more than one group has (`check-config --online`).
///
/// # Errors
/// [`LoginError`]: the directory or the file of people can't be asked.
pub async fn ambiguous_names(
    rules: &RuleSet,
    methods: &LoginMethods,
) -> Result<Vec<AmbiguousName>, LoginError> {
    look(rules, methods).await.map(|look| look.ambiguous)
}

impl Service {
    /// Looks for groups that share a name.
    ///
    /// # Errors
    /// [`LoginError`]: what the last look found stays.
    pub async fn look_at_group_names(&self) -> Result<(), LoginError> {
        let look = Arc::new(look(&self.rules(), self.sign_in().methods()).await?);
        let mut last = self.group_names().0.lock().unwrap_or_else(PoisonError::into_inner);
        for ambiguous in look.ambiguous.iter().filter(|now| !last.ambiguous.contains(now)) {
            tracing::warn!(name = ambiguous.name, used_by = ?ambiguous.used_by, groups = ?ambiguous.groups,
                "a group name that rules or namespaces use is ambiguous, so it allows nothing; name the group by its DN");
        }
        *last = look;
        Ok(())
    }

    pub(crate) async fn watch_group_names(&self) {
        loop {
            let failed = self.look_at_group_names().await.err();
            if let Some(error) = &failed {
                tracing::debug!(%error, "group names can't be looked at");
            }
            tokio::time::sleep(if failed.is_some() { WHILE_AWAY } else { EVERY }).await;
        }
    }

    /// The names that rules and namespaces use and more than one group has, as the last look found them; for readiness.
    pub fn ambiguous_group_names(&self) -> Vec<AmbiguousName> {
        self.last_look().ambiguous.clone()
    }

    /// Why the directory did not answer when it was asked last, if so; for readiness.
    pub fn directory_problem(&self) -> Option<String> {
        self.sign_in().methods().directory.as_ref().and_then(|directory| directory.problem())
    }

    /// The person, with no group whose name another place knows another group by counting as that name's.
    pub(crate) fn with_settled_groups(&self, identity: Identity) -> Identity {
        let look = self.last_look();
        // A name of the file is its own only once the directory was asked whether it has it too.
        let methods = self.sign_in().methods();
        let unasked = identity.issuer == ssh_file::ISSUER
            && methods.directory.as_ref().is_some_and(|directory| directory.has_groups());
        if look.shared.is_empty() && !unasked {
            return identity;
        }
        let open = |group: &Group| {
            let name = group.unique_name();
            name.is_some_and(|name| look.shared.contains(name) || unasked && !look.groups.contains_key(name))
        };
        if !identity.groups.iter().any(open) {
            return identity;
        }
        let groups = identity
            .groups
            .iter()
            .map(|group| Group { name_is_unique: group.name_is_unique && !open(group), ..group.clone() });
        Identity { groups: groups.collect(), ..identity }
    }

    fn last_look(&self) -> Arc<Look> {
        self.group_names().0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
