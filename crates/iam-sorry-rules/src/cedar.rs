//! The service's things as Cedar's: entity types and ids, the entities of one request, its context.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::LazyLock;

use cedar_policy::{
    Context, Entities, Entity, EntityId, EntityTypeName, EntityUid, RestrictedExpression as Value, Schema,
    Validator,
};
use iam_sorry_core::identity::Identity;
use iam_sorry_core::ids::AccountName;

use crate::input::{Action, AuthzInput};
use crate::names::fold;

/// The schema that every rule is validated against, in Cedar's own notation.
pub const SCHEMA: &str = include_str!("schema.cedarschema");

/// The entity types of the schema, and its actions with the groups that they are in: parsed once.
#[derive(Debug)]
pub(crate) struct Vocabulary {
    pub(crate) validator: Validator,
    pub(crate) person: EntityTypeName,
    pub(crate) group: EntityTypeName,
    pub(crate) owners: EntityTypeName,
    pub(crate) namespace: EntityTypeName,
    pub(crate) account: EntityTypeName,
    pub(crate) user: EntityTypeName,
    pub(crate) role: EntityTypeName,
    pub(crate) audit: EntityTypeName,
    pub(crate) sessions: EntityTypeName,
    pub(crate) ssh_keys: EntityTypeName,
    actions: HashMap<Action, Entity>,
    /// The actions and which actions and groups of actions each is in, itself included.
    above: Vec<(Action, HashSet<EntityUid>)>,
}

/// A mistake in the schema that is built in: there is none, as tests show.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct InvalidSchema(String);

/// One for the program: it is a constant, only written in text.
static VOCABULARY: LazyLock<Result<Vocabulary, String>> =
    LazyLock::new(|| Vocabulary::new().map_err(|problem| problem.to_string()));

impl Vocabulary {
    /// # Errors
    /// What is wrong with the schema that is built in: nothing, as tests show.
    pub(crate) fn shared() -> Result<&'static Self, String> {
        VOCABULARY.as_ref().map_err(Clone::clone)
    }

    fn new() -> Result<Self, InvalidSchema> {
        let schema =
            Schema::from_str(SCHEMA).map_err(|e| InvalidSchema(format!("{:?}", miette::Report::new(e))))?;
        let entities = schema.action_entities().map_err(|e| InvalidSchema(e.to_string()))?;
        let (mut actions, mut above) = (HashMap::new(), Vec::new());
        for action in Action::ALL {
            let uid = uid(&type_name("Action")?, action.cedar_id());
            let entity =
                entities.get(&uid).ok_or_else(|| InvalidSchema(format!("the schema lacks {uid}")))?;
            above.push((
                action,
                entities.ancestors(&uid).into_iter().flatten().cloned().chain([uid.clone()]).collect(),
            ));
            actions.insert(action, entity.clone());
        }
        Ok(Self {
            person: type_name("Person")?,
            group: type_name("Group")?,
            owners: type_name("Owners")?,
            namespace: type_name("Namespace")?,
            account: type_name("Account")?,
            user: type_name("User")?,
            role: type_name("Role")?,
            audit: type_name("Audit")?,
            sessions: type_name("Sessions")?,
            ssh_keys: type_name("SshKeys")?,
            validator: Validator::new(schema),
            actions,
            above,
        })
    }

    pub(crate) fn action(&self, action: Action) -> Option<&Entity> {
        self.actions.get(&action)
    }

    /// The actions that are this one or in this group.
    pub(crate) fn members<'a>(&'a self, uid: &'a EntityUid) -> impl Iterator<Item = Action> + 'a {
        self.above.iter().filter(move |(_, above)| above.contains(uid)).map(|(action, _)| *action)
    }
}

fn type_name(name: &str) -> Result<EntityTypeName, InvalidSchema> {
    format!("IamSorry::{name}").parse().map_err(|e| InvalidSchema(format!("{e}")))
}

pub(crate) fn uid(kind: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}

/// Why a request could not be put into Cedar's terms: nothing that a caller can give does it, so it counts as refused.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Untranslatable(pub(crate) String);

/// The entity of the person; `parents` are their groups, and the namespaces that they or their groups own.
pub(crate) fn person(
    vocabulary: &Vocabulary,
    identity: &Identity,
    parents: HashSet<EntityUid>,
) -> Result<Entity, Untranslatable> {
    let attributes = HashMap::from([
        ("issuer".to_owned(), Value::new_string(identity.issuer.clone())),
        ("subject".to_owned(), Value::new_string(identity.subject.clone())),
        ("name".to_owned(), Value::new_string(fold(&identity.name))),
    ]);
    entity(uid(&vocabulary.person, &identity.id()), attributes, parents)
}

/// The entity of a namespace.
pub(crate) fn namespace(vocabulary: &Vocabulary, name: &str) -> Result<Entity, Untranslatable> {
    let attributes = HashMap::from([
        ("name".to_owned(), Value::new_string(name.to_owned())),
        ("owners".to_owned(), Value::new_entity_uid(uid(&vocabulary.owners, name))),
    ]);
    entity(uid(&vocabulary.namespace, name), attributes, HashSet::new())
}

/// The id of an IAM user's entity: folded, and with its account unless that is `first`. A rule about `User::"dirk-admin"` is
/// thereby about one user, whatever accounts are added.
pub(crate) fn user_id(account: &AccountName, folded: &str, first: &AccountName) -> String {
    if account == first { folded.to_owned() } else { format!("{account}/{folded}") }
}

/// The entity of an IAM user, whose name is folded.
pub(crate) fn user(
    vocabulary: &Vocabulary,
    (account, folded): (&AccountName, &str),
    first: &AccountName,
    namespace: &str,
    owner: Option<&str>,
) -> Result<Entity, Untranslatable> {
    let in_namespace = uid(&vocabulary.namespace, namespace);
    let in_account = uid(&vocabulary.account, account.as_str());
    let mut attributes = HashMap::from([
        ("name".to_owned(), Value::new_string(folded.to_owned())),
        ("namespace".to_owned(), Value::new_entity_uid(in_namespace.clone())),
        ("account".to_owned(), Value::new_string(account.as_str().to_owned())),
        ("owners".to_owned(), Value::new_entity_uid(uid(&vocabulary.owners, namespace))),
    ]);
    if let Some(owner) = owner {
        attributes.insert("owner".to_owned(), Value::new_entity_uid(uid(&vocabulary.person, owner)));
    }
    let id = user_id(account, folded, first);
    entity(uid(&vocabulary.user, &id), attributes, HashSet::from([in_namespace, in_account]))
}

/// The entity of a role that is assumed in this account.
pub(crate) fn role(
    vocabulary: &Vocabulary,
    arn: &str,
    account: &AccountName,
) -> Result<Entity, Untranslatable> {
    let (number, name) = crate::settings::role_parts(arn).unwrap_or_default();
    let attributes = HashMap::from([
        ("arn".to_owned(), Value::new_string(arn.to_owned())),
        ("name".to_owned(), Value::new_string(name.to_owned())),
        ("account".to_owned(), Value::new_string(number.to_owned())),
    ]);
    let parents = HashSet::from([uid(&vocabulary.account, account.as_str())]);
    entity(uid(&vocabulary.role, arn), attributes, parents)
}

fn entity(
    uid: EntityUid,
    attributes: HashMap<String, Value>,
    parents: HashSet<EntityUid>,
) -> Result<Entity, Untranslatable> {
    Entity::new(uid, attributes, parents).map_err(|e| Untranslatable(e.to_string()))
}

pub(crate) fn entities(all: Vec<Entity>) -> Result<Entities, Untranslatable> {
    Entities::from_entities(all, None).map_err(|e| Untranslatable(e.to_string()))
}

/// The context of a request; `seconds` is the duration that is being tried.
pub(crate) fn context(input: &AuthzInput<'_>, seconds: u32) -> Result<Context, Untranslatable> {
    let now = input.now.unix();
    let hour = now.rem_euclid(86_400) / 3600;
    // 1970-01-01 was a Thursday, 4 in ISO 8601.
    let weekday = (now.div_euclid(86_400) + 3).rem_euclid(7) + 1;
    let age = i64::try_from(input.sign_in_age_seconds).unwrap_or(i64::MAX);
    let mut pairs = vec![
        ("method".to_owned(), Value::new_string(input.identity.method.as_str().to_owned())),
        ("signInAge".to_owned(), Value::new_long(age)),
        ("address".to_owned(), Value::new_ip(canonical(input.address).to_string())),
        ("hour".to_owned(), Value::new_long(hour)),
        ("weekday".to_owned(), Value::new_long(weekday)),
    ];
    if let Some(origin) = input.key_registered_by {
        pairs.push(("keyRegisteredBy".to_owned(), Value::new_string(origin.as_str().to_owned())));
    }
    if input.action.has_policy() {
        let arn = input.policy_arn.unwrap_or_default();
        pairs.push(("policyArn".to_owned(), Value::new_string(arn.to_owned())));
    }
    if input.action.has_duration() {
        pairs.push(("duration".to_owned(), Value::new_long(i64::from(seconds))));
    }
    Context::from_pairs(pairs).map_err(|e| Untranslatable(e.to_string()))
}

/// An IPv4 address that came in over an IPv6 socket is the IPv4 address: a rule about 10.0.0.0/8 must see it as that.
fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}
