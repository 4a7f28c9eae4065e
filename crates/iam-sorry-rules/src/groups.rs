//! The groups that rules and owners name. A person's other groups change no decision, so only these are looked at.
//!
//! A group is named by its DN, by `ISSUER/ID`, or by its name. The first two are one group's for certain. A name counts only
//! while one group alone has it: somebody who may create groups could give one any name. Whether a person is in the group
//! of an ambiguous name is unknown, so a decision is made once for each way in which it could be, and only what is allowed
//! by all of them is allowed. Such a name therefore satisfies no `permit`, lifts no `forbid`, and satisfies every `forbid`.

use std::collections::{BTreeMap, HashMap};

use cedar_policy::EntityUid;
use iam_sorry_core::group::{Group, looks_like_an_id};

use crate::cedar::{Vocabulary, uid};
use crate::decision::{Reason, ReasonKind};
use crate::names::fold;
use crate::rule::Rule;
use crate::settings::{Owner, RuleSettings};

/// A group that a rule or a namespace names by its name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NamedGroup {
    /// The name, folded.
    pub name: String,
    /// Where it is named: `rule "x"`, `namespace "y"`.
    pub used_by: Vec<String>,
}

/// By folded text.
#[derive(Debug, Default)]
pub(crate) struct NamedGroups {
    all: HashMap<String, EntityUid>,
    any_dn: bool,
    any_id: bool,
}

impl NamedGroups {
    pub fn new(rules: &[Rule], settings: &RuleSettings, vocabulary: &Vocabulary) -> Self {
        let mut named = Self::default();
        let in_rules = rules.iter().flat_map(|rule| rule.groups.iter().cloned());
        for text in in_rules.chain(owners(settings).map(|(_, group)| group)) {
            named.any_dn |= text.contains('=');
            named.any_id |= text.contains('/');
            named.all.insert(text.clone(), uid(&vocabulary.group, &text));
        }
        named
    }

    pub fn has(&self, text: &str) -> bool {
        self.all.contains_key(text)
    }

    pub fn get(&self, text: &str) -> Option<&EntityUid> {
        self.all.get(text)
    }

    /// What is certainly this group, as far as anything names it.
    pub fn of(&self, group: &Group) -> impl Iterator<Item = &EntityUid> {
        let name = group.unique_name().and_then(|name| self.get(&fold(name)));
        let dn = group.dn.as_deref().filter(|_| self.any_dn).and_then(|dn| self.get(dn));
        let id = self.any_id.then(|| group.full_id()).flatten().and_then(|id| self.get(&id));
        [name, dn, id].into_iter().flatten()
    }
}

fn owners(settings: &RuleSettings) -> impl Iterator<Item = (&str, String)> {
    settings.namespaces.iter().flat_map(|namespace| {
        namespace.owners.iter().filter_map(|owner| match Owner::parse(owner) {
            Some(Owner::Group(group)) => Some((namespace.name.as_str(), group)),
            _ => None,
        })
    })
}

/// The groups that rules and namespaces name by name, rather than by DN or `ISSUER/ID`; sorted.
pub(crate) fn by_name(rules: &[Rule], settings: &RuleSettings) -> Vec<NamedGroup> {
    let mut by_name: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut add = |name: &str, by: String| {
        if !looks_like_an_id(name) {
            let used_by = by_name.entry(name.to_owned()).or_default();
            if !used_by.contains(&by) {
                used_by.push(by);
            }
        }
    };
    for rule in rules {
        rule.groups.iter().for_each(|group| add(group, format!("rule {:?}", rule.name)));
    }
    owners(settings).for_each(|(namespace, group)| add(&group, format!("namespace {namespace:?}")));
    by_name.into_iter().map(|(name, used_by)| NamedGroup { name, used_by }).collect()
}

/// Why a name did not help.
pub(crate) fn ambiguous_group(group: &Group) -> Reason {
    let name = group.name.clone().unwrap_or_default();
    let way_out = match group.dn.clone().or_else(|| group.full_id()) {
        Some(stable) => format!("rules and namespaces have to name the group as {stable:?}"),
        None => "rules and namespaces have to name the group by its DN".to_owned(),
    };
    let text =
        format!("the group name {name:?} is ambiguous, so it allows nothing and lifts no rule: {way_out}");
    Reason { kind: ReasonKind::AmbiguousGroup, rule: String::new(), file: String::new(), text }
}
