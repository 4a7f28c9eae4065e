//! One evaluation of the rules: the request in Cedar's terms, and what its rules say for one duration.

use std::collections::{BTreeMap, HashSet};

use cedar_policy::{Context, Effect, Entities, Entity, EntityUid, PolicySet, Request};
use iam_sorry_core::group::Group;
use iam_sorry_core::identity::Identity;
use iam_sorry_core::ids::AccountName;

use crate::bounds::Bounds;
use crate::cedar::{self, Untranslatable, uid};
use crate::decision::{Decision, Reason, ReasonKind};
use crate::groups::ambiguous_group;
use crate::guardrails;
use crate::input::{AuthzInput, Resource};
use crate::names::{fold, fold_user};
use crate::rule::Rule;
use crate::rule_set::RuleSet;
use crate::settings::Owner;

/// Each ambiguous name doubles the work of a decision; nobody has more of them, but by an attack.
const MOST_AMBIGUOUS: usize = 4;

/// A request in Cedar's terms, to be evaluated for one or more durations.
pub(crate) struct Prepared<'a> {
    principal: EntityUid,
    action: EntityUid,
    resource: EntityUid,
    /// The entities, once for each way in which the ambiguous names of the person's groups could be meant; for nearly
    /// everybody once. Only what is allowed by all of them is allowed.
    meanings: Vec<Entities>,
    pub(crate) slices: Vec<&'a PolicySet>,
    /// The groups whose ambiguous names matter.
    ambiguous: Vec<&'a Group>,
}

/// Which rules were satisfied, by their place in the list.
#[derive(Default)]
struct Outcome {
    permits: Vec<usize>,
    forbids: Vec<usize>,
    /// `forbid` rules that could not be evaluated, with why.
    broken: Vec<(usize, String)>,
}

impl RuleSet {
    /// Puts a request into Cedar's terms.
    pub(crate) fn prepare<'a>(&'a self, input: &AuthzInput<'a>) -> Result<Prepared<'a>, Untranslatable> {
        let (vocabulary, first) = (self.vocabulary, self.bounds.first_account());
        let action =
            vocabulary.action(input.action).ok_or_else(|| Untranslatable("unknown action".to_owned()))?;
        let mut all = vec![action.clone()];
        let resource = match input.resource {
            Resource::User(user) => {
                let namespace = self.bounds.namespace_of(user).map(|n| n.name.to_ascii_lowercase());
                let (Ok(folded), Some(namespace)) = (fold_user(&user.name), namespace) else {
                    return Err(Untranslatable(format!("{user} is in no namespace")));
                };
                all.push(cedar::namespace(vocabulary, &namespace)?);
                cedar::user(vocabulary, (&user.account, &folded), first, &namespace, input.owner)?
            }
            Resource::Namespace(name) => cedar::namespace(vocabulary, &name.to_ascii_lowercase())?,
            Resource::Role(arn) => cedar::role(vocabulary, arn, first)?,
            Resource::Audit => Entity::with_uid(uid(&vocabulary.audit, "all")),
            Resource::Sessions => Entity::with_uid(uid(&vocabulary.sessions, "all")),
            Resource::OwnKeys => Entity::with_uid(uid(&vocabulary.ssh_keys, "own")),
        };
        let (action, resource_uid) = (action.uid(), resource.uid());
        all.push(resource);
        let (mut people, ambiguous) = self.people(input.identity)?;
        let last = people.pop().ok_or_else(|| Untranslatable("nobody".to_owned()))?;
        let principal = last.uid();
        let mut meanings = Vec::with_capacity(people.len() + 1);
        for person in people {
            meanings.push(cedar::entities(all.iter().cloned().chain([person]).collect())?);
        }
        all.push(last);
        meanings.push(cedar::entities(all)?);
        let slices = {
            // In the last meaning the person is in every group that they are in by any other.
            let entities = meanings.last().into_iter();
            let above = |uid| entities.clone().flat_map(move |e| e.ancestors(uid)).flatten();
            let principals: Vec<&EntityUid> = above(&principal).chain([&principal]).collect();
            let resources: Vec<&EntityUid> = above(&resource_uid).chain([&resource_uid]).collect();
            self.slices.that_can_apply(input.action, &principals, &resources)
        };
        Ok(Prepared { principal, action, resource: resource_uid, meanings, slices, ambiguous })
    }

    /// The person as an entity, once for each subset of their groups' ambiguous names, from none of them to all of them.
    fn people<'a>(&self, identity: &'a Identity) -> Result<(Vec<Entity>, Vec<&'a Group>), Untranslatable> {
        let mut certain: HashSet<EntityUid> = self.owned_by_person(identity);
        let mut ambiguous: BTreeMap<String, Vec<&Group>> = BTreeMap::new();
        for group in identity.groups.iter() {
            certain.extend(self.named.of(group).cloned());
            self.owned_by_group(group, &mut certain);
            if let Some(name) = group.ambiguous_name().map(fold)
                && self.named.has(&name)
            {
                ambiguous.entry(name).or_default().push(group);
            }
        }
        if ambiguous.len() > MOST_AMBIGUOUS {
            let names: Vec<_> = ambiguous.into_keys().collect();
            return Err(Untranslatable(format!(
                "too many of the person's groups have a name that other groups have too ({}): name them by DN",
                names.join(", ")
            )));
        }
        let mut people = Vec::with_capacity(1 << ambiguous.len());
        for subset in 0..1_usize << ambiguous.len() {
            let mut parents = certain.clone();
            for (place, name) in ambiguous.keys().enumerate() {
                if subset & (1 << place) != 0 {
                    parents.extend(self.named.get(name).cloned());
                    parents
                        .extend(self.owned.get(&Owner::Group(name.clone())).into_iter().flatten().cloned());
                }
            }
            people.push(cedar::person(self.vocabulary, identity, parents)?);
        }
        Ok((people, ambiguous.into_values().flatten().collect()))
    }

    /// Runs the rules alone, for this duration.
    pub(crate) fn run(
        &self,
        prepared: &Prepared<'_>,
        input: &AuthzInput<'_>,
        seconds: u32,
    ) -> Result<Decision, Untranslatable> {
        let context = cedar::context(input, seconds)?;
        let mut decisions = Vec::with_capacity(prepared.meanings.len());
        for entities in &prepared.meanings {
            decisions.push(self.decision_of(input, &self.run_cedar(prepared, context.clone(), entities)?));
        }
        let refused = decisions.iter().position(|decision| !decision.allowed);
        let depends = refused.is_some() && decisions.iter().any(|decision| decision.allowed);
        let mut decision = decisions.swap_remove(refused.unwrap_or(0));
        if depends {
            decision.reasons.extend(prepared.ambiguous.iter().map(|group| ambiguous_group(group)));
        }
        Ok(decision)
    }

    fn decision_of(&self, input: &AuthzInput<'_>, outcome: &Outcome) -> Decision {
        let reasons_of = |kind, ids: &[usize]| -> Vec<Reason> {
            ids.iter().filter_map(|id| self.rules.get(*id)).map(|rule| rule.reason(kind)).collect()
        };
        let mut reasons = reasons_of(ReasonKind::Forbid, &outcome.forbids);
        // Cedar would skip a rule that can't be evaluated. A forbid must not lose its force by an overflow.
        reasons.extend(outcome.broken.iter().filter_map(|(id, why)| {
            let reason = self.rules.get(*id)?.reason(ReasonKind::Error);
            Some(Reason { text: why.clone(), ..reason })
        }));
        if !reasons.is_empty() {
            return Decision { allowed: false, reasons };
        }
        if outcome.permits.is_empty() {
            return Decision { allowed: false, reasons: vec![no_rule(input, self.bounds.first_account())] };
        }
        Decision { allowed: true, reasons: reasons_of(ReasonKind::Permit, &outcome.permits) }
    }

    fn run_cedar(
        &self,
        prepared: &Prepared<'_>,
        context: Context,
        entities: &Entities,
    ) -> Result<Outcome, Untranslatable> {
        let request = Request::new(
            prepared.principal.clone(),
            prepared.action.clone(),
            prepared.resource.clone(),
            context,
            None,
        )
        .map_err(|e| Untranslatable(e.to_string()))?;
        let mut outcome = Outcome::default();
        for slice in &prepared.slices {
            let response = self.authorizer.is_authorized(&request, slice, entities);
            for id in response.diagnostics().reason() {
                let Some((id, rule)) = self.rule(id) else { continue };
                match rule.effect {
                    Effect::Permit => outcome.permits.push(id),
                    Effect::Forbid => outcome.forbids.push(id),
                }
            }
            for error in response.diagnostics().errors() {
                let cedar_policy::AuthorizationError::PolicyEvaluationError(error) = error;
                if let Some((id, Rule { effect: Effect::Forbid, .. })) = self.rule(error.policy_id()) {
                    outcome.broken.push((id, error.inner().to_string()));
                }
            }
        }
        outcome.permits.sort_unstable();
        outcome.forbids.sort_unstable();
        Ok(outcome)
    }

    /// The rules that can apply.
    pub(crate) fn rules_in<'a>(&'a self, prepared: &'a Prepared<'a>) -> impl Iterator<Item = &'a Rule> + 'a {
        let policies = prepared.slices.iter().flat_map(|slice| slice.policies());
        policies.filter_map(|policy| self.rule(policy.id())).map(|(_, rule)| rule)
    }
}

/// The guardrails that come after the rules have allowed it.
pub(crate) fn with_guardrails_after(
    bounds: &Bounds,
    input: &AuthzInput<'_>,
    seconds: u32,
    most: u32,
    decision: Decision,
) -> Decision {
    if !decision.allowed {
        return decision;
    }
    let reasons = guardrails::after(bounds, input, seconds, most);
    if reasons.is_empty() { decision } else { Decision { allowed: false, reasons } }
}

fn no_rule(input: &AuthzInput<'_>, first: &AccountName) -> Reason {
    Reason {
        kind: ReasonKind::NoRule,
        rule: String::new(),
        file: String::new(),
        text: format!(
            "no rule allows {} on {}: a rule must permit it (deny is the default)",
            input.action,
            input.resource.label(first)
        ),
    }
}
