//! A loaded set of rules.

use std::collections::{HashMap, HashSet};

use cedar_policy::{Authorizer, Effect, EntityUid};
use iam_sorry_core::group::Group;
use iam_sorry_core::identity::Identity;
use iam_sorry_core::ids::{AccountName, UserRef};

use crate::bounds::Bounds;
use crate::cedar::{Vocabulary, uid};
use crate::decision::{Reason, ReasonKind};
use crate::digest::RulesDigest;
use crate::groups::{self, NamedGroup, NamedGroups};
use crate::input::{Action, Resource};
use crate::load::{self, RuleProblem};
use crate::names::fold;
use crate::rule::Rule;
use crate::settings::{NamespaceSettings, Owner, RuleSettings};
use crate::slices::Slices;

/// Rules that were parsed, validated and sliced, with the namespaces and guardrails they work on. Immutable: a changed
/// file makes a new one.
#[derive(Debug)]
pub struct RuleSet {
    pub(crate) bounds: Bounds,
    pub(crate) vocabulary: &'static Vocabulary,
    pub(crate) rules: Vec<Rule>,
    pub(crate) slices: Slices,
    /// What each owner owns, as the entities that stand for owning it.
    pub(crate) owned: HashMap<Owner, Vec<EntityUid>>,
    pub(crate) named: NamedGroups,
    warnings: Vec<RuleProblem>,
    digest: RulesDigest,
    pub(crate) authorizer: Authorizer,
}

impl RuleSet {
    /// Parses, validates (strictly, against [`crate::SCHEMA`]) and slices the rules.
    ///
    /// # Errors
    /// Every mistake in the files and settings, with its place. A set with one is never returned.
    pub fn load(files: &[(String, String)], settings: RuleSettings) -> Result<Self, Vec<RuleProblem>> {
        let of_settings = |text| RuleProblem::of_settings(text);
        if let Err(problems) = settings.check() {
            return Err(problems.into_iter().map(of_settings).collect());
        }
        let vocabulary = Vocabulary::shared().map_err(|e| vec![of_settings(e)])?;
        let loaded = load::load(files, &settings, vocabulary)?;
        let slices = Slices::new(loaded.policies, vocabulary).map_err(|e| vec![of_settings(e)])?;
        let mut owned: HashMap<Owner, Vec<EntityUid>> = HashMap::new();
        for namespace in &settings.namespaces {
            let name = namespace.name.to_ascii_lowercase();
            for owner in namespace.owners.iter().filter_map(|owner| Owner::parse(owner)) {
                owned.entry(owner).or_default().push(uid(&vocabulary.owners, &name));
            }
        }
        Ok(Self {
            digest: RulesDigest::new(&loaded.rules, &settings),
            named: NamedGroups::new(&loaded.rules, &settings, vocabulary),
            bounds: Bounds::new(settings),
            vocabulary,
            rules: loaded.rules,
            slices,
            owned,
            warnings: loaded.warnings,
            authorizer: Authorizer::new(),
        })
    }

    /// The namespaces and guardrails.
    pub fn settings(&self) -> &RuleSettings {
        self.bounds.settings()
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

    /// The account that goes without saying: a user that names none is in it.
    pub fn first_account(&self) -> &AccountName {
        self.bounds.first_account()
    }

    /// The account that something is done to, or done in: a user's own; the one that a role is assumed in. None of what is the
    /// service's own.
    pub fn account_of<'a>(&'a self, resource: &'a Resource) -> Option<&'a AccountName> {
        match resource {
            Resource::User(user) => Some(&user.account),
            Resource::Role(_) => Some(self.first_account()),
            Resource::Namespace(_) | Resource::Audit | Resource::Sessions | Resource::OwnKeys => None,
        }
    }

    /// The namespace of this name, in any case.
    pub fn namespace(&self, name: &str) -> Option<&NamespaceSettings> {
        self.bounds.namespace(name)
    }

    /// The namespace that a user is in: of those that fit, the longest. None if the name is not allowed, or the service has
    /// no such account.
    pub fn namespace_of(&self, user: &UserRef) -> Option<&NamespaceSettings> {
        self.bounds.namespace_of(user)
    }

    /// The namespaces that the person, or one of their groups, owns.
    pub fn namespaces_of(&self, identity: &Identity) -> Vec<&NamespaceSettings> {
        let mut owned = self.owned_by_person(identity);
        identity.groups.iter().for_each(|group| self.owned_by_group(group, &mut owned));
        let is_owned = |n: &&NamespaceSettings| {
            owned.contains(&uid(&self.vocabulary.owners, &n.name.to_ascii_lowercase()))
        };
        self.settings().namespaces.iter().filter(is_owned).collect()
    }

    /// The longest duration that the guardrails leave for this, seconds.
    pub fn most_seconds(&self, action: Action, resource: &Resource) -> u32 {
        self.bounds.most_seconds(action, resource)
    }

    /// The groups that rules and namespaces name by name, rather than by DN or `ISSUER/ID`; sorted.
    pub fn groups_by_name(&self) -> Vec<NamedGroup> {
        groups::by_name(&self.rules, self.settings())
    }

    /// The rule of an id of Cedar's, with its place in the list.
    pub(crate) fn rule(&self, id: &cedar_policy::PolicyId) -> Option<(usize, &Rule)> {
        let place: usize = AsRef::<str>::as_ref(id).parse().ok()?;
        Some((place, self.rules.get(place)?))
    }

    /// The entities that stand for owning a namespace, of all that the person owns by themselves.
    pub(crate) fn owned_by_person(&self, identity: &Identity) -> HashSet<EntityUid> {
        let person = [Owner::Name(fold(&identity.name)), Owner::Person(identity.id())];
        person.iter().filter_map(|owner| self.owned.get(owner)).flatten().cloned().collect()
    }

    /// Adds the same for a group, under what is certainly the group's.
    pub(crate) fn owned_by_group(&self, group: &Group, owned: &mut HashSet<EntityUid>) {
        for uid in self.named.of(group) {
            let owner = Owner::Group(uid.id().unescaped().to_owned());
            owned.extend(self.owned.get(&owner).into_iter().flatten().cloned());
        }
    }
}
