//! The rules, sliced by what their scope says of principal, action and resource, so that a decision evaluates those that
//! can apply and not all of them. Sound because Cedar evaluates each policy by itself: a rule whose scope names an entity
//! can be satisfied only where the principal (the resource) is that entity or lies under it.

use std::collections::HashMap;

use cedar_policy::{ActionConstraint, EntityUid, Policy, PolicySet, PrincipalConstraint, ResourceConstraint};

use crate::cedar::Vocabulary;
use crate::input::Action;

/// Where a rule is filed: action, principal and resource; none means any.
type SliceKey = (Option<Action>, Option<u32>, Option<u32>);

/// A rule that names more actions than this is put with those for any action, rather than once under each.
const MANY_ACTIONS: usize = 4;

#[derive(Debug, Default)]
pub(crate) struct Slices {
    /// Entities that scopes name, numbered.
    numbers: HashMap<EntityUid, u32>,
    by_key: HashMap<SliceKey, PolicySet>,
}

impl Slices {
    /// # Errors
    /// The id of a rule that is there twice (it can't be: we number them).
    pub(crate) fn new(
        policies: impl IntoIterator<Item = Policy>,
        vocabulary: &Vocabulary,
    ) -> Result<Self, String> {
        let mut slices = Self::default();
        for policy in policies {
            let principal = match policy.principal_constraint() {
                PrincipalConstraint::Any | PrincipalConstraint::Is(_) => None,
                PrincipalConstraint::In(uid)
                | PrincipalConstraint::Eq(uid)
                | PrincipalConstraint::IsIn(_, uid) => Some(slices.number(uid)),
            };
            let resource = match policy.resource_constraint() {
                ResourceConstraint::Any | ResourceConstraint::Is(_) => None,
                ResourceConstraint::In(uid)
                | ResourceConstraint::Eq(uid)
                | ResourceConstraint::IsIn(_, uid) => Some(slices.number(uid)),
            };
            let mut actions = actions(&policy.action_constraint(), vocabulary);
            if principal.is_some() && resource.is_some() {
                // Few rules share both already; a slice for each action would weigh more than it saves.
                actions = vec![None];
            }
            for action in actions {
                let slice = slices.by_key.entry((action, principal, resource)).or_default();
                slice.add(policy.clone()).map_err(|e| e.to_string())?;
            }
        }
        Ok(slices)
    }

    fn number(&mut self, uid: EntityUid) -> u32 {
        let next = u32::try_from(self.numbers.len()).unwrap_or(u32::MAX);
        *self.numbers.entry(uid).or_insert(next)
    }

    /// The slices that can apply; `principals` and `resources` are the entity itself and everything above it.
    pub(crate) fn that_can_apply<'a>(
        &'a self,
        action: Action,
        principals: &[&EntityUid],
        resources: &[&EntityUid],
    ) -> Vec<&'a PolicySet> {
        let known = |uid: &&EntityUid| self.numbers.get(*uid).copied().map(Some);
        let principals: Vec<_> = principals.iter().filter_map(known).chain([None]).collect();
        let resources: Vec<_> = resources.iter().filter_map(known).chain([None]).collect();
        let mut found = Vec::new();
        for action in [Some(action), None] {
            for principal in &principals {
                let places = resources.iter().map(|resource| (action, *principal, *resource));
                found.extend(places.filter_map(|place| self.by_key.get(&place)));
            }
        }
        found
    }
}

/// The actions under which a rule is filed; groups of actions stand for their members.
fn actions(constraint: &ActionConstraint, vocabulary: &Vocabulary) -> Vec<Option<Action>> {
    let mut all: Vec<Action> = match constraint {
        ActionConstraint::Any => return vec![None],
        ActionConstraint::Eq(uid) => uid.id().unescaped().parse().into_iter().collect(),
        ActionConstraint::In(uids) => uids.iter().flat_map(|uid| vocabulary.members(uid)).collect(),
    };
    all.sort_unstable();
    all.dedup();
    if all.is_empty() || all.len() > MANY_ACTIONS { vec![None] } else { all.into_iter().map(Some).collect() }
}
