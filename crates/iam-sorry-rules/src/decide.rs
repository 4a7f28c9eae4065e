//! A loaded set of rules, and how it decides.

use std::collections::{BTreeMap, HashMap, HashSet};

use cedar_policy::{Authorizer, Context, Effect, Entities, Entity, EntityUid, PolicySet, Request};
use iam_sorry_core::group::Group;
use iam_sorry_core::identity::Identity;
use iam_sorry_core::names::UserName;

use crate::cedar::{self, Untranslatable, Vocabulary, uid};
use crate::decision::{Decision, Explanation, Reason, ReasonKind};
use crate::digest::RulesDigest;
use crate::groups::{NamedGroups, ambiguous_group};
use crate::guardrails::{self, ProtectedSet, guardrail};
use crate::input::{Action, AuthzInput, Resource, SHORTEST_SECONDS};
use crate::load::{self, RuleProblem};
use crate::names::{fold, fold_namespace, fold_user};
use crate::settings::{NamespaceSettings, Owner, Settings};
use crate::slices::Slices;

/// Each ambiguous name doubles the work of a decision; nobody has more of them, but by an attack.
const MOST_AMBIGUOUS: usize = 4;

/// Rules that were parsed, validated and sliced, with the namespaces and guardrails they work on. Immutable: a changed
/// file makes a new one.
#[derive(Debug)]
pub struct RuleSet {
    settings: Settings,
    words: &'static Vocabulary,
    pub(crate) rules: Vec<Rule>,
    slices: Slices,
    /// Place in `settings.namespaces` by folded name.
    namespaces: HashMap<String, usize>,
    /// What each owner owns, as the entities that stand for owning it.
    owned: HashMap<Owner, Vec<EntityUid>>,
    pub(crate) named: NamedGroups,
    pub(crate) protected: ProtectedSet,
    warnings: Vec<RuleProblem>,
    digest: RulesDigest,
    authorizer: Authorizer,
}

/// What is told of a rule; its place in the list is its id inside.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) name: String,
    pub(crate) file: String,
    pub(crate) reason: String,
    pub(crate) effect: Effect,
    /// Its text, as it stands in the file.
    pub(crate) source: String,
    /// Whole numbers that it mentions: where its answer can change with the duration.
    pub(crate) numbers: Vec<i64>,
    /// It adds, subtracts or multiplies, so that its answer can change elsewhere too.
    pub(crate) calculates: bool,
    /// The groups that it names, folded.
    pub(crate) groups: Vec<String>,
}

/// A question in Cedar's terms, to be asked for one or more durations.
pub(crate) struct Prepared<'a> {
    principal: EntityUid,
    action: EntityUid,
    resource: EntityUid,
    /// The entities, once for each way in which the ambiguous names of the person's groups could be meant; for nearly
    /// everybody once. Only what is allowed by all of them is allowed.
    meanings: Vec<Entities>,
    slices: Vec<&'a PolicySet>,
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
    /// Parses, validates (strictly, against [`crate::SCHEMA`]) and slices the rules.
    ///
    /// # Errors
    /// Every mistake in the files and settings, with its place. A set with one is never returned.
    pub fn load(files: &[(String, String)], settings: Settings) -> Result<Self, Vec<RuleProblem>> {
        let of_settings = |text| RuleProblem::of_settings(text);
        if let Err(problems) = settings.check() {
            return Err(problems.into_iter().map(of_settings).collect());
        }
        let words = Vocabulary::shared().map_err(|e| vec![of_settings(e)])?;
        let loaded = load::load(files, &settings, words)?;
        let slices = Slices::new(loaded.policies, words).map_err(|e| vec![of_settings(e)])?;
        let mut namespaces = HashMap::new();
        let mut owned: HashMap<Owner, Vec<EntityUid>> = HashMap::new();
        for (place, namespace) in settings.namespaces.iter().enumerate() {
            let name = namespace.name.to_ascii_lowercase();
            for owner in namespace.owners.iter().filter_map(|owner| Owner::parse(owner)) {
                owned.entry(owner).or_default().push(uid(&words.owners, &name));
            }
            namespaces.insert(name, place);
        }
        Ok(Self {
            digest: RulesDigest::new(&loaded.rules, &settings),
            named: NamedGroups::new(&loaded.rules, &settings, words),
            protected: ProtectedSet::new(&settings),
            settings,
            words,
            rules: loaded.rules,
            slices,
            namespaces,
            owned,
            warnings: loaded.warnings,
            authorizer: Authorizer::new(),
        })
    }

    /// The namespaces and guardrails.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What decisions of this set name.
    pub fn digest(&self) -> &RulesDigest {
        &self.digest
    }

    /// How many rules there are.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// The rules as the reasons that they can be, in the order of the files.
    pub fn in_force(&self) -> impl Iterator<Item = Reason> {
        self.rules.iter().map(|rule| match rule.effect {
            Effect::Permit => rule.reason(ReasonKind::Permit),
            Effect::Forbid => rule.reason(ReasonKind::Forbid),
        })
    }

    /// Whether there is no rule, so that nothing is allowed.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// What looks like a mistake but harms nothing.
    pub fn warnings(&self) -> &[RuleProblem] {
        &self.warnings
    }

    /// The namespace of this name, in any case.
    pub fn namespace(&self, name: &str) -> Option<&NamespaceSettings> {
        let place = *self.namespaces.get(&fold_namespace(name).ok()?)?;
        self.settings.namespaces.get(place)
    }

    /// The namespace that a user is in: of those that fit, the longest. None where the name is not allowed.
    pub fn namespace_of(&self, user: &UserName) -> Option<&NamespaceSettings> {
        let folded = fold_user(user).ok()?;
        let mut prefix = folded.as_str();
        loop {
            if let Some(place) = self.namespaces.get(prefix) {
                return self.settings.namespaces.get(*place);
            }
            prefix = prefix.rsplit_once('-')?.0;
        }
    }

    /// The namespaces that the person, or one of their groups, owns.
    pub fn namespaces_of(&self, identity: &Identity) -> Vec<&NamespaceSettings> {
        let mut owned = self.owned_by_person(identity);
        identity.groups.iter().for_each(|group| self.owned_by_group(group, &mut owned));
        let is_owned =
            |n: &&NamespaceSettings| owned.contains(&uid(&self.words.owners, &n.name.to_ascii_lowercase()));
        self.settings.namespaces.iter().filter(is_owned).collect()
    }

    /// The longest duration that the guardrails leave for this, seconds.
    pub fn most_seconds(&self, action: Action, resource: &Resource) -> u32 {
        let guardrails = &self.settings.guardrails;
        match (action, resource) {
            (Action::AssumeRole, Resource::Role(arn)) => {
                let own = guardrails.role(arn).and_then(|role| role.max_seconds);
                guardrails.max_role_seconds.min(own.unwrap_or(u32::MAX))
            }
            _ => guardrails.max_user_seconds,
        }
    }

    /// Decides. Without a duration, credentials are asked for the shortest: whether they are allowed at all.
    pub fn decide(&self, input: &AuthzInput<'_>) -> Decision {
        let refusals = guardrails::before(self, input);
        if !refusals.is_empty() {
            return Decision { allowed: false, reasons: refusals };
        }
        let seconds = input.duration_seconds.unwrap_or(SHORTEST_SECONDS);
        let most = self.most_seconds(input.action, input.resource);
        let asked = self.prepare(input).and_then(|p| self.ask(&p, input, seconds.min(most)));
        match asked {
            Ok(decision) => with_guardrails_after(input, seconds, most, decision),
            Err(problem) => refused_untranslatable(&problem),
        }
    }

    /// Decides as a request is decided, durations being cut rather than refused, and says more about it.
    pub fn explain(&self, input: &AuthzInput<'_>) -> Explanation {
        let considered = self.prepare(input).map_or(0, |p| {
            let slices = p.slices.iter();
            slices.map(|slice| slice.num_of_policies()).sum()
        });
        let considered = (considered, self.rules.len());
        let (decision, longest_seconds) = self.evaluate(input);
        Explanation { decision, longest_seconds, considered }
    }

    /// Decides as a request is decided: durations are cut rather than refused, and where there is none, it is the longest
    /// that is allowed. The seconds are those of credentials that may be issued. A refusal of credentials says why not even
    /// the shortest are allowed.
    pub fn evaluate(&self, input: &AuthzInput<'_>) -> (Decision, Option<u32>) {
        if !input.action.has_duration() {
            return (self.decide(input), None);
        }
        let asked = input.duration_seconds.unwrap_or(u32::MAX);
        match self.max_duration(input, asked, SHORTEST_SECONDS) {
            Some((seconds, decision)) => (decision, Some(seconds)),
            None => {
                let duration_seconds = Some(asked.min(SHORTEST_SECONDS));
                (self.decide(&AuthzInput { duration_seconds, ..*input }), None)
            }
        }
    }

    /// Puts a question into Cedar's terms.
    pub(crate) fn prepare<'a>(&'a self, input: &AuthzInput<'a>) -> Result<Prepared<'a>, Untranslatable> {
        let words = self.words;
        let action = words.action(input.action).ok_or_else(|| Untranslatable("unknown action".to_owned()))?;
        let mut all = vec![action.clone()];
        let resource = match input.resource {
            Resource::User(name) => {
                let namespace = self.namespace_of(name).map(|n| n.name.to_ascii_lowercase());
                let (Ok(folded), Some(namespace)) = (fold_user(name), namespace) else {
                    return Err(Untranslatable(format!("{name} is in no namespace")));
                };
                all.push(cedar::namespace(words, &namespace)?);
                cedar::user(words, &folded, &namespace, input.owner)?
            }
            Resource::Namespace(name) => cedar::namespace(words, &name.to_ascii_lowercase())?,
            Resource::Role(arn) => cedar::role(words, arn)?,
            Resource::Audit => Entity::with_uid(uid(&words.audit, "all")),
            Resource::Sessions => Entity::with_uid(uid(&words.sessions, "all")),
            Resource::OwnKeys => Entity::with_uid(uid(&words.ssh_keys, "own")),
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
            people.push(cedar::person(self.words, identity, parents)?);
        }
        Ok((people, ambiguous.into_values().flatten().collect()))
    }

    /// Asks the rules alone, for this duration.
    pub(crate) fn ask(
        &self,
        prepared: &Prepared<'_>,
        input: &AuthzInput<'_>,
        seconds: u32,
    ) -> Result<Decision, Untranslatable> {
        let context = cedar::context(input, seconds)?;
        let mut decisions = Vec::with_capacity(prepared.meanings.len());
        for entities in &prepared.meanings {
            decisions.push(self.decided(input, &self.ask_cedar(prepared, context.clone(), entities)?));
        }
        let refused = decisions.iter().position(|decision| !decision.allowed);
        let depends = refused.is_some() && decisions.iter().any(|decision| decision.allowed);
        let mut decision = decisions.swap_remove(refused.unwrap_or(0));
        if depends {
            decision.reasons.extend(prepared.ambiguous.iter().map(|group| ambiguous_group(group)));
        }
        Ok(decision)
    }

    fn decided(&self, input: &AuthzInput<'_>, outcome: &Outcome) -> Decision {
        let told = |kind, ids: &[usize]| -> Vec<Reason> {
            ids.iter().filter_map(|id| self.rules.get(*id)).map(|rule| rule.reason(kind)).collect()
        };
        let mut reasons = told(ReasonKind::Forbid, &outcome.forbids);
        // Cedar would skip a rule that can't be evaluated. A forbid must not lose its force by an overflow.
        reasons.extend(outcome.broken.iter().filter_map(|(id, why)| {
            let reason = self.rules.get(*id)?.reason(ReasonKind::Error);
            Some(Reason { text: why.clone(), ..reason })
        }));
        if !reasons.is_empty() {
            return Decision { allowed: false, reasons };
        }
        if outcome.permits.is_empty() {
            return Decision { allowed: false, reasons: vec![no_rule(input)] };
        }
        Decision { allowed: true, reasons: told(ReasonKind::Permit, &outcome.permits) }
    }

    fn ask_cedar(
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

    fn rule(&self, id: &cedar_policy::PolicyId) -> Option<(usize, &Rule)> {
        let place: usize = AsRef::<str>::as_ref(id).parse().ok()?;
        Some((place, self.rules.get(place)?))
    }

    /// The rules that can apply.
    pub(crate) fn rules_in<'a>(&'a self, prepared: &'a Prepared<'a>) -> impl Iterator<Item = &'a Rule> + 'a {
        let policies = prepared.slices.iter().flat_map(|slice| slice.policies());
        policies.filter_map(|policy| self.rule(policy.id())).map(|(_, rule)| rule)
    }

    /// The entities that stand for owning a namespace, of all that the person owns by themselves.
    fn owned_by_person(&self, identity: &Identity) -> HashSet<EntityUid> {
        let person = [Owner::Name(fold(&identity.name)), Owner::Person(identity.id())];
        person.iter().filter_map(|owner| self.owned.get(owner)).flatten().cloned().collect()
    }

    /// Adds the same for a group, under what is certainly the group's.
    fn owned_by_group(&self, group: &Group, owned: &mut HashSet<EntityUid>) {
        for uid in self.named.of(group) {
            let owner = Owner::Group(uid.id().unescaped().to_owned());
            owned.extend(self.owned.get(&owner).into_iter().flatten().cloned());
        }
    }
}

impl Rule {
    fn reason(&self, kind: ReasonKind) -> Reason {
        Reason { kind, rule: self.name.clone(), file: self.file.clone(), text: self.reason.clone() }
    }
}

/// The guardrails that come after the rules have allowed it.
pub(crate) fn with_guardrails_after(
    input: &AuthzInput<'_>,
    seconds: u32,
    most: u32,
    decision: Decision,
) -> Decision {
    if !decision.allowed {
        return decision;
    }
    let reasons = guardrails::after(input, seconds, most);
    if reasons.is_empty() { decision } else { Decision { allowed: false, reasons } }
}

fn refused_untranslatable(problem: &Untranslatable) -> Decision {
    Decision { allowed: false, reasons: vec![guardrail("request", problem.0.clone())] }
}

fn no_rule(input: &AuthzInput<'_>) -> Reason {
    Reason {
        kind: ReasonKind::NoRule,
        rule: String::new(),
        file: String::new(),
        text: format!(
            "no rule allows {} on {}: a rule must permit it (deny is the default)",
            input.action, input.resource
        ),
    }
}
