//! Properties that hold for every set of rules and every request.

use std::collections::BTreeMap;
use std::sync::{LazyLock, Mutex};

use cedar_policy::{
    Authorizer, Context, Decision as CedarDecision, Entities, Entity, EntityUid, PolicySet, Request,
    RestrictedExpression as Value, Schema,
};
use iam_sorry_core::identity::Identity;
use iam_sorry_core::names::UserName;
use iam_sorry_rules::{Action, AuthzInput, Resource, RuleSet, SHORTEST_SECONDS, fold_user};
use proptest::prelude::*;

use crate::scene::{READ_ONLY, ROLE, S3, input, load, person, resource, rules, settings, user};

const NAMES: [&str; 10] = [
    "dirk",
    "Dirk-1",
    "dirk-2",
    "dirk-vault",
    "DIRK-VAULT-1",
    "class",
    "class-1",
    "dirk-a-b",
    "archive/dirk-2",
    "archive/class",
];

/// The scope and conditions of a rule, of parts that validate alone and together.
fn rule() -> impl Strategy<Value = String> {
    let principal = prop::sample::select(vec![
        "principal",
        "principal is IamSorry::Person",
        "principal in IamSorry::Group::\"lab-dirk\"",
        "principal in IamSorry::Group::\"TEACHERS\"",
        "principal is IamSorry::Person in IamSorry::Group::\"lab-dirk\"",
        "principal == IamSorry::Person::\"corp/3\"",
        "principal in IamSorry::Owners::\"dirk\"",
        "principal in IamSorry::Owners::\"class\"",
    ]);
    let action = prop::sample::select(vec![
        "action",
        "action == IamSorry::Action::\"showUser\"",
        "action == IamSorry::Action::\"issueCredentials\"",
        "action in IamSorry::Action::\"manage\"",
        "action in IamSorry::Action::\"keys\"",
        "action in IamSorry::Action::\"credentials\"",
        "action in [IamSorry::Action::\"showUser\", IamSorry::Action::\"rotateKey\"]",
        "action in [IamSorry::Action::\"view\", IamSorry::Action::\"policies\", IamSorry::Action::\"deleteUser\"]",
    ]);
    let resource = prop::sample::select(vec![
        "resource",
        "resource is IamSorry::User",
        "resource in IamSorry::Namespace::\"dirk\"",
        "resource in IamSorry::Namespace::\"DIRK-vault\"",
        "resource is IamSorry::User in IamSorry::Namespace::\"class\"",
        "resource == IamSorry::User::\"Dirk-2\"",
        "resource == IamSorry::User::\"archive/Dirk-2\"",
        "resource in IamSorry::Account::\"archive\"",
        "resource is IamSorry::User in IamSorry::Account::\"default\"",
    ]);
    let condition = prop::sample::select(vec![
        "",
        "when { resource has owners && principal in resource.owners }",
        "when { principal.name like \"b*\" }",
        "when { context.hour >= 13 }",
        "unless { context.signInAge > 100 }",
        "when { context has duration && context.duration > 3600 }",
        "when { context has duration && context.duration <= 7200 }",
        "when { context has policyArn && context.policyArn like \"*ReadOnly*\" }",
        "when { resource has owner && resource.owner == principal }",
        "when { resource is IamSorry::User && resource.account == \"archive\" }",
        "when { resource has account && resource.account == \"123456789012\" }",
        "when { context.address.isInRange(ip(\"10.0.0.0/8\")) }",
    ]);
    let effect = prop::sample::select(vec!["permit", "permit", "forbid"]);
    (effect, principal, action, resource, condition)
        .prop_map(|(e, p, a, r, c)| format!("{e} ({p}, {a}, {r}) {c};"))
}

/// Rules that validate; those that can never apply (which are refused) are left out.
fn rule_texts() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(rule(), 0..8)
        .prop_map(|all| all.into_iter().filter(|text| validates(text)).collect())
}

fn validates(text: &str) -> bool {
    static KNOWN: Mutex<BTreeMap<String, bool>> = Mutex::new(BTreeMap::new());
    *KNOWN.lock().unwrap().entry(text.to_owned()).or_insert_with(|| load(text).is_ok())
}

fn someone() -> impl Strategy<Value = Identity> {
    let name = prop::sample::select(vec!["ann", "bob", "erin", "someone"]);
    let groups = prop::sample::subsequence(vec!["lab-dirk", "teachers", "others"], 0..=3);
    (name, groups).prop_map(|(name, groups)| person(name, &groups))
}

fn asked() -> impl Strategy<Value = (Identity, Action, Resource, Option<&'static str>, u32, u64, bool)> {
    let action = prop::sample::select(Action::ALL.to_vec());
    let name = prop::sample::select(NAMES.to_vec());
    let policy = prop::sample::select(vec![READ_ONLY, S3]);
    (someone(), action, name, policy, 900_u32..43_200, 0_u64..200, any::<bool>()).prop_map(
        |(who, action, name, policy, seconds, age, owner)| {
            let text = match action {
                Action::AssumeRole => ROLE,
                Action::ListUsers => "dirk",
                _ => name,
            };
            let resource = resource(action, text);
            (who, action, resource, Some(policy), seconds.min(7200), age, owner)
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// What is evaluated in slices is what Cedar decides on the whole set, its entities built another way.
    #[test]
    fn slices_decide_as_the_whole_set(texts in rule_texts(), asks in prop::collection::vec(asked(), 8)) {
        let whole: PolicySet = texts.join("\n").to_lowercase_names().parse().unwrap();
        let rules = rules(&texts.join("\n"));
        for (who, action, resource, policy_arn, seconds, age, owned) in &asks {
            let owner = owned.then_some("corp/3");
            let asked = AuthzInput {
                policy_arn: policy_arn.filter(|_| action.has_policy()),
                duration_seconds: action.has_duration().then_some(*seconds),
                sign_in_age_seconds: *age,
                owner,
                ..input(who, *action, resource)
            };
            let ours = rules.decide(&asked);
            // A guardrail asks nobody: it is not what is compared here.
            if !ours.by_guardrail() {
                prop_assert_eq!(ours.allowed, by_cedar(&whole, &asked), "{:?}\n{:?}", asked, texts);
            }
        }
    }

    /// One more `forbid` never lets through what was refused.
    #[test]
    fn a_forbid_never_widens(texts in rule_texts(), more in rule(), asks in prop::collection::vec(asked(), 8)) {
        let more = more.replacen("permit", "forbid", 1);
        prop_assume!(validates(&more));
        let before = rules(&texts.join("\n"));
        let after = rules(&format!("{}\n{more}", texts.join("\n")));
        for (who, action, resource, policy_arn, seconds, age, _) in &asks {
            let asked = AuthzInput {
                policy_arn: policy_arn.filter(|_| action.has_policy()),
                sign_in_age_seconds: *age,
                duration_seconds: action.has_duration().then_some(*seconds),
                ..input(who, *action, resource)
            };
            let (before, after) = (before.evaluate(&asked), after.evaluate(&asked));
            prop_assert!(before.0.allowed || !after.0.allowed, "{more}: {asked:?}");
            prop_assert!(after.1 <= before.1, "{more} made it longer: {asked:?}");
        }
    }

    /// The duration that is given is never more than asked, never more than a rule or guardrail allows, and where rules
    /// only compare it with numbers, nothing longer would have been allowed.
    #[test]
    fn the_longest_is_allowed_and_no_longer_one_is(
        limits in prop::collection::vec((any::<bool>(), 0_u32..50_000, prop::sample::select(vec!["<", "<=", ">", ">=", "==", "!="])), 1..5),
        asked in 900_u32..60_000,
        probes in prop::collection::vec(900_u32..60_000, 32),
    ) {
        let texts: Vec<_> = limits
            .iter()
            .map(|(permit, number, compared)| {
                let effect = if *permit { "permit" } else { "forbid" };
                format!(
                    "{effect} (principal, action == IamSorry::Action::\"issueCredentials\", resource) \
                     when {{ context.duration {compared} {number} }};"
                )
            })
            .collect();
        let rules = rules(&texts.join("\n"));
        let (who, resource) = (person("ann", &[]), user("dirk-1"));
        let base = input(&who, Action::IssueCredentials, &resource);
        let allowed = |seconds: u32| rules.decide(&AuthzInput { duration_seconds: Some(seconds), ..base }).allowed;
        let given = rules.max_duration(&base, asked, SHORTEST_SECONDS).map(|(seconds, decision)| {
            assert!(decision.allowed);
            seconds
        });
        if let Some(seconds) = given {
            prop_assert!((SHORTEST_SECONDS..=asked).contains(&seconds) && allowed(seconds));
            prop_assert!(seconds <= 43_200);
        }
        // Every number that a rule mentions, its neighbours, and some others.
        let around = limits.iter().flat_map(|(_, n, _)| [n.saturating_sub(1), *n, n + 1]);
        for seconds in around.chain(probes).chain([900, asked]).filter(|s| (900..=asked).contains(s)) {
            prop_assert!(!allowed(seconds) || given >= Some(seconds), "{seconds} > {given:?}: {texts:?}");
        }
    }

    /// Names in every case and with every dangerous character never reach outside the namespace: not by our decision, and
    /// not by the IAM patterns (`dirk`, `dirk-*`) that the service's own policy could be written with.
    #[test]
    fn no_name_reaches_outside_its_namespace(name in "[dDiIrRkK]{0,4}[-*?+/,=@._ a-zA-Z\\\\$\u{212a}\u{131}\u{0}]{0,8}") {
        static RULES: LazyLock<RuleSet> = LazyLock::new(|| {
            rules("permit (principal, action, resource) when { resource has owners && principal in resource.owners };")
        });
        let rules = &*RULES;
        // Owns `dirk` and neither `dirk-vault` nor `class`.
        let erin = person("erin", &[]);
        let Ok(parsed) = UserName::parse(&name) else {
            // IAM would never take it; no request can even be made.
            return Ok(());
        };
        let resource = user(&name);
        let allowed = rules.decide(&input(&erin, Action::CreateUser, &resource)).allowed;
        prop_assert_eq!(allowed, inside_dirk(&name), "{}", name);
        if allowed {
            let folded = fold_user(&parsed).unwrap();
            prop_assert!(["dirk", "dirk-*"].iter().any(|pattern| iam_matches(pattern, &folded)));
            prop_assert!(!["dirk-vault", "dirk-vault-*", "class", "class-*"].iter().any(|p| iam_matches(p, &folded)));
            // As a pattern, the name matches nothing but itself.
            for other in ["dirk", "dirk-1", "dirk-x", "class", "class-1", "dirk-vault", "a"] {
                prop_assert_eq!(iam_matches(&folded, other), folded == other);
            }
        }
        for other_case in [name.to_lowercase(), name.to_uppercase()] {
            if UserName::parse(&other_case).is_ok() {
                let resource = user(&other_case);
                prop_assert_eq!(rules.decide(&input(&erin, Action::CreateUser, &resource)).allowed, allowed);
            }
        }
    }

    /// Whatever text is offered: it loads or it is refused with a place in it, and never panics.
    #[test]
    fn any_text_loads_or_is_refused(text in prop::collection::vec(prop_oneof![
        rule(), "[ -~]{0,12}", Just("permit (".to_owned()), Just("when {".to_owned()), Just("}".to_owned()), Just("\u{0}ü\u{202e}\n".to_owned()),
    ], 0..6)) {
        let text = text.join(" ");
        if let Err(problems) = RuleSet::load(&[("x".to_owned(), text.clone())], settings()) {
            prop_assert!(!problems.is_empty());
            for problem in problems {
                prop_assert!(problem.line <= text.lines().count() + 1, "{problem}");
            }
        }
    }
}

/// The namespace by the words of its definition: `dirk` or `dirk-...`, of safe characters, and not in a longer one.
fn inside_dirk(name: &str) -> bool {
    let lower = name.to_lowercase();
    let safe = lower.chars().all(|c| c.is_ascii_alphanumeric() || ".-_@".contains(c));
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
    safe && edge(lower.chars().next())
        && edge(lower.chars().last())
        && !lower.contains("..")
        && (lower == "dirk" || lower.starts_with("dirk-"))
        && lower != "dirk-vault"
        && !lower.starts_with("dirk-vault-")
}

/// As IAM matches patterns: `*` any run, `?` any one (IAM user guide, "Using wildcards in resource ARNs").
fn iam_matches(pattern: &str, text: &str) -> bool {
    match (pattern.chars().next(), text.chars().next()) {
        (None, None) => true,
        (Some('*'), _) => {
            let rest = &pattern[1..];
            (0..=text.len()).any(|skip| text.is_char_boundary(skip) && iam_matches(rest, &text[skip..]))
        }
        (Some('?'), Some(c)) => iam_matches(&pattern[1..], &text[c.len_utf8()..]),
        (Some(p), Some(c)) if p == c => iam_matches(&pattern[p.len_utf8()..], &text[c.len_utf8()..]),
        _ => false,
    }
}

trait Folded {
    /// The entity names of the rules above, folded, for an engine that compares them exactly.
    fn to_lowercase_names(&self) -> String;
}

impl Folded for str {
    fn to_lowercase_names(&self) -> String {
        self.replace("TEACHERS", "teachers").replace("DIRK-vault", "dirk-vault").replace("Dirk-2", "dirk-2")
    }
}

/// Cedar alone, on everything at once, with entities that the schema has checked.
fn by_cedar(whole: &PolicySet, asked: &AuthzInput<'_>) -> bool {
    static SCHEMA: LazyLock<Schema> = LazyLock::new(|| iam_sorry_rules::SCHEMA.parse().unwrap());
    let uid = |kind: &str, id: &str| -> EntityUid { format!("IamSorry::{kind}::{id:?}").parse().unwrap() };
    let text = |s: &str| Value::new_string(s.to_owned());
    let who = asked.identity;
    let mut parents: Vec<_> = who.groups.labels().iter().map(|g| uid("Group", g)).collect();
    let owns = |namespace: &str| match namespace {
        "dirk" => who.groups.labels().iter().any(|g| g == "lab-dirk") || who.name == "erin",
        "dirk-vault" => who.id() == "corp/7",
        _ => who.groups.labels().iter().any(|g| g == "teachers"),
    };
    parents.extend(["dirk", "dirk-vault", "class"].into_iter().filter(|n| owns(n)).map(|n| uid("Owners", n)));
    let attributes = [("issuer", text("corp")), ("subject", text(&who.subject)), ("name", text(&who.name))];
    let named = |pairs: Vec<(&str, Value)>| pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
    let mut entities = vec![
        Entity::new(uid("Person", &who.id()), named(attributes.to_vec()), parents.into_iter().collect())
            .unwrap(),
    ];
    for namespace in ["dirk", "dirk-vault", "class"] {
        let owners = Value::new_entity_uid(uid("Owners", namespace));
        let attributes = named(vec![("name", text(namespace)), ("owners", owners)]);
        entities.push(Entity::new(uid("Namespace", namespace), attributes, [].into()).unwrap());
    }
    let resource = match asked.resource {
        Resource::User(user) => {
            let (name, account) = (user.name.folded(), user.account.as_str());
            let id = if account == "default" { name.clone() } else { format!("{account}/{name}") };
            let namespace = ["dirk-vault", "dirk", "class"]
                .into_iter()
                .find(|n| name == *n || name.starts_with(&format!("{n}-")))
                .unwrap();
            let mut attributes = vec![
                ("name", text(&name)),
                ("namespace", Value::new_entity_uid(uid("Namespace", namespace))),
                ("account", text(account)),
                ("owners", Value::new_entity_uid(uid("Owners", namespace))),
            ];
            if let Some(owner) = asked.owner {
                attributes.push(("owner", Value::new_entity_uid(uid("Person", owner))));
            }
            let parents = [uid("Namespace", namespace), uid("Account", account)].into();
            entities.push(Entity::new(uid("User", &id), named(attributes), parents).unwrap());
            uid("User", &id)
        }
        Resource::Role(arn) => {
            let attributes = named(vec![
                ("arn", text(arn)),
                ("name", text("Analysis")),
                ("account", text("123456789012")),
            ]);
            let parents = [uid("Account", "default")].into();
            entities.push(Entity::new(uid("Role", arn), attributes, parents).unwrap());
            uid("Role", arn)
        }
        Resource::Namespace(name) => uid("Namespace", name),
        Resource::Audit => uid("Audit", "all"),
        Resource::Sessions => uid("Sessions", "all"),
        Resource::OwnKeys => uid("SshKeys", "own"),
    };
    let entities = Entities::from_entities(entities, Some(&SCHEMA)).unwrap();
    let mut context = vec![
        ("method", text(who.method.as_str())),
        ("keyRegisteredBy", text("directory")),
        ("signInAge", Value::new_long(asked.sign_in_age_seconds.try_into().unwrap())),
        ("address", Value::new_ip(asked.address.to_string())),
        ("hour", Value::new_long(12)),
        ("weekday", Value::new_long(1)),
    ];
    context.extend(asked.policy_arn.map(|arn| ("policyArn", text(arn))));
    context.extend(asked.duration_seconds.map(|s| ("duration", Value::new_long(s.into()))));
    let context = Context::from_pairs(context.into_iter().map(|(k, v)| (k.to_owned(), v))).unwrap();
    let action = uid("Action", asked.action.cedar_id());
    let request = Request::new(uid("Person", &who.id()), action, resource, context, Some(&SCHEMA)).unwrap();
    let response = Authorizer::new().is_authorized(&request, whole, &entities);
    assert_eq!(response.diagnostics().errors().count(), 0);
    response.decision() == CedarDecision::Allow
}
