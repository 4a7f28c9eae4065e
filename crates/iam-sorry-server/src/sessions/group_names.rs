//! Group names that rules and namespaces use, and whether one group alone has each: over all sources of groups.
//!
//! A directory says at each sign-in whether the names of that person's groups are unique in it. The service also looks, now
//! and then, at every name that rules, namespaces and the file of people use, whoever is in the groups: so that the operator
//! hears of a second group before somebody is refused, and so that a group of the file and one of the directory are not
//! taken for one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use iam_sorry_rules::RuleSet;

use crate::login::ssh::people_file;
use crate::login::{LoginError, LoginMethods};

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

impl GroupNames {
    /// What the last look found.
    pub(super) fn last(&self) -> Arc<Look> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps what a look found; gives the names that were not ambiguous before.
    pub(super) fn keep(&self, look: Look) -> Vec<AmbiguousName> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = look.ambiguous.iter().filter(|now| !last.ambiguous.contains(now)).cloned().collect();
        *last = Arc::new(look);
        new
    }
}

#[derive(Default)]
pub(super) struct Look {
    /// The names that were looked for, with the groups that have each; None for too many.
    pub(super) groups: BTreeMap<String, Option<BTreeSet<String>>>,
    /// Those that more than one group has; nearly always none.
    pub(super) shared: BTreeSet<String>,
    /// Those of them that rules and namespaces use.
    pub(super) ambiguous: Vec<AmbiguousName>,
}

/// Looks for the groups of every name that rules, namespaces and the file of people use, in all sources.
pub(super) async fn look(rules: &RuleSet, methods: &LoginMethods) -> Result<Look, LoginError> {
    let used = rules.groups_by_name();
    let of_file = match methods.ssh_keys() {
        Some(keys) => keys.groups()?,
        None => BTreeSet::new(),
    };
    let names = used.iter().map(|used| used.name.clone()).chain(of_file.iter().cloned()).collect();
    let mut groups: BTreeMap<String, Option<BTreeSet<String>>> = BTreeMap::new();
    for directory in methods.directories() {
        for (name, found) in directory.groups_called(&names).await? {
            let known = groups.entry(name).or_insert_with(|| Some(BTreeSet::new()));
            *known = known.take().zip(found).map(|(known, found)| &known | &found);
        }
    }
    for name in names {
        let groups = groups.entry(name.clone()).or_insert_with(|| Some(BTreeSet::new()));
        if let Some(groups) = groups.as_mut().filter(|_| of_file.contains(&name)) {
            groups.insert(format!("{}/{name}", people_file::ISSUER));
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
/// [`LoginError`]: the directory can't be reached, or the file of people can't be read.
pub async fn ambiguous_names(
    rules: &RuleSet,
    methods: &LoginMethods,
) -> Result<Vec<AmbiguousName>, LoginError> {
    look(rules, methods).await.map(|look| look.ambiguous)
}
