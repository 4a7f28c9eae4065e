//! Groups, namespaces, owners, context; who is told what.

use iam_sorry_core::timestamp::Timestamp;
use iam_sorry_rules::{Action, AuthzInput, ReasonKind, RuleSet};

use crate::scene::{READ_ONLY, ROLE, decide, input, person, rules, settings, user};

const OWNERS: &str = r#"
    @id("owners-manage-their-namespace")
    permit (principal, action, resource)
    when { resource has owners && principal in resource.owners };
"#;

#[test]
fn nothing_is_allowed_without_a_rule() {
    let none = rules("");
    let alice = person("alice", &["lab-dirk"]);
    for action in Action::ALL {
        let name = if action == Action::ListUsers {
            "dirk"
        } else if action == Action::AssumeRole {
            ROLE
        } else {
            "dirk-x"
        };
        let decision = decide(&none, &alice, action, name);
        assert!(!decision.allowed, "{action}");
        assert_eq!(decision.reasons[0].kind, ReasonKind::NoRule, "{action}: {:?}", decision.texts());
    }
    assert_eq!(
        decide(&none, &alice, Action::CreateUser, "dirk-x").texts(),
        ["no rule allows create-user on dirk-x: a rule must permit it (deny is the default)"]
    );
}

#[test]
fn one_rule_serves_every_namespace() {
    let rules = rules(OWNERS);
    let dirk = person("dana", &["LAB-DIRK "]);
    let erin = person("Erin", &[]);
    let keeper = person("someone", &[]); // corp/7
    let teacher = person("tim", &["teachers"]);
    for (who, name, allowed) in [
        (&dirk, "dirk", true),
        (&dirk, "Dirk-Admin", true),
        (&dirk, "dirk-vault", false),
        (&dirk, "dirk-vault-x", false),
        (&dirk, "dirk-vaults", true),
        (&dirk, "class-1", false),
        (&erin, "dirk-1", true),
        (&keeper, "dirk-vault-1", true),
        (&keeper, "dirk-1", false),
        (&teacher, "class-1", true),
        (&teacher, "dirk-1", false),
    ] {
        let decision = decide(&rules, who, Action::CreateUser, name);
        assert_eq!(decision.allowed, allowed, "{} {name}: {:?}", who.name, decision.texts());
    }
    assert_eq!(
        decide(&rules, &dirk, Action::DeleteUser, "dirk-x").texts(),
        [r#"rule "owners-manage-their-namespace" (lab.cedar) allows it"#]
    );
    assert_eq!(rules.namespaces_of(&dirk).iter().map(|n| n.name.as_str()).collect::<Vec<_>>(), ["dirk"]);
}

#[test]
fn deny_wins_and_says_why() {
    let rules = rules(&format!(
        r#"{OWNERS}
        @id("not-at-night") @reason("users are made in office hours")
        forbid (principal, action == IamSorry::Action::"createUser", resource)
        unless {{ context.hour >= 8 && context.hour < 18 && context.weekday <= 5 }};"#
    ));
    let dana = person("dana", &["lab-dirk"]);
    let resource = user("dirk-1");
    let ask = |time: &str| {
        let now = Timestamp::parse(time).unwrap();
        rules.decide(&AuthzInput { now, ..input(&dana, Action::CreateUser, &resource) })
    };
    assert!(ask("2026-11-23T12:00:00Z").allowed);
    assert!(ask("2026-11-27T17:59:59Z").allowed);
    for time in
        ["2026-11-23T07:59:59Z", "2026-11-23T18:00:00Z", "2026-11-22T12:00:00Z", "1969-12-28T12:00:00Z"]
    {
        assert_eq!(
            ask(time).texts(),
            [r#"rule "not-at-night" (lab.cedar) forbids it: users are made in office hours"#],
            "{time}"
        );
    }
}

#[test]
fn context_is_what_the_request_says() {
    let rules = rules(
        r#"permit (principal, action in IamSorry::Action::"view", resource);
        forbid (principal, action == IamSorry::Action::"showUser", resource)
        when { !context.address.isInRange(ip("10.0.0.0/8")) || context.method != "ssh-key" || context.signInAge > 3600 };"#,
    );
    let dana = person("dana", &[]);
    let resource = user("dirk-1");
    let base = input(&dana, Action::ShowUser, &resource);
    assert!(rules.decide(&base).allowed);
    // An IPv4 address that comes in over an IPv6 socket is the same address.
    assert!(rules.decide(&AuthzInput { address: "::ffff:10.0.0.1".parse().unwrap(), ..base }).allowed);
    assert!(!rules.decide(&AuthzInput { address: "192.0.2.1".parse().unwrap(), ..base }).allowed);
    assert!(!rules.decide(&AuthzInput { address: "2001:db8::1".parse().unwrap(), ..base }).allowed);
    assert!(!rules.decide(&AuthzInput { sign_in_age_seconds: u64::MAX, ..base }).allowed);
    let mut by_password = dana.clone();
    by_password.method = iam_sorry_core::identity::Method::Ldap;
    assert!(!rules.decide(&AuthzInput { identity: &by_password, ..base }).allowed);
}

#[test]
fn the_maker_of_a_user() {
    let rules = rules(
        r#"permit (principal, action == IamSorry::Action::"deleteUser", resource)
        when { resource has owner && resource.owner == principal };"#,
    );
    let dana = person("dana", &[]);
    let resource = user("dirk-1");
    let base = input(&dana, Action::DeleteUser, &resource);
    assert!(rules.decide(&AuthzInput { owner: Some("corp/4"), ..base }).allowed);
    assert!(!rules.decide(&AuthzInput { owner: Some("corp/5"), ..base }).allowed);
    assert!(!rules.decide(&base).allowed);
    assert_eq!(
        rules.decide(&AuthzInput { owner: Some("corp/4"), ..base }).texts(),
        ["the rule at lab.cedar:1 allows it"]
    );
}

#[test]
fn a_forbid_that_cannot_be_evaluated_refuses() {
    let rules = rules(
        r#"permit (principal, action, resource);
        @id("broken") forbid (principal, action == IamSorry::Action::"issueCredentials", resource)
        when { context.duration * 9223372036854775807 > 1 };"#,
    );
    let decision = decide(&rules, &person("dana", &[]), Action::IssueCredentials, "dirk-1");
    assert!(!decision.allowed);
    assert_eq!(decision.reasons[0].kind, ReasonKind::Error, "{:?}", decision.texts());
    assert!(decide(&rules, &person("dana", &[]), Action::DeleteUser, "dirk-1").allowed);
}

#[test]
fn explanations_are_for_people() {
    let rules = rules(&format!(
        r#"{OWNERS}
        @id("one-hour") forbid (principal, action in IamSorry::Action::"credentials", resource)
        when {{ context.duration > 3600 }};"#
    ));
    let dana = person("dana", &["lab-dirk"]);
    let resource = user("dirk-1");
    let asked =
        AuthzInput { duration_seconds: Some(36_000), ..input(&dana, Action::IssueCredentials, &resource) };
    let told = rules.explain(&asked);
    assert_eq!(
        told.to_string(),
        "allowed\n  rule \"owners-manage-their-namespace\" (lab.cedar) allows it\n  cut from 10 h to 1 h: rule \
         \"one-hour\" (lab.cedar) forbids it\n  for at most 1 h\n  2 of 2 rules could apply to this person, action and \
         resource"
    );
    let told = rules.explain(&input(&person("eve", &[]), Action::AttachPolicy, &resource));
    assert_eq!(
        told.to_string(),
        "refused\n  no rule allows attach-policy on dirk-1: a rule must permit it (deny is the default)\n  1 of 2 rules \
         could apply to this person, action and resource"
    );
    assert_eq!(READ_ONLY, "arn:aws:iam::aws:policy/ReadOnlyAccess");
}

/// What a decision costs does not grow with the rules: of 300, one or two of one lab are evaluated (`manage` is eight
/// actions, and kept with the rules for any).
#[test]
fn few_of_many_rules_are_evaluated() {
    let mut text = String::new();
    for lab in 0..60 {
        for (effect, action) in [
            ("permit", "view"),
            ("permit", "manage"),
            ("permit", "credentials"),
            ("forbid", "policies"),
            ("forbid", "keys"),
        ] {
            text.push_str(&format!(
                "{effect} (principal in IamSorry::Group::\"lab-{lab}\", action in IamSorry::Action::\"{action}\", resource);\n"
            ));
        }
    }
    let rules = rules(&text);
    let dana = person("dana", &["lab-7", "others"]);
    let resource = user("dirk-1");
    for (action, allowed, evaluated) in
        [(Action::ShowUser, true, 2), (Action::CreateUser, true, 1), (Action::RotateKey, false, 2)]
    {
        let told = rules.explain(&input(&dana, action, &resource));
        assert_eq!((told.decision.allowed, told.considered), (allowed, (evaluated, 300)), "{action}");
    }
}

/// Where the operator keeps the rules is nobody else's business: not in a refusal, not in an audit record, not in a list.
#[test]
fn files_are_named_without_their_folders() {
    let text = "permit (principal, action, resource);\n\
                @id(\"team/never\") forbid (principal, action == IamSorry::Action::\"deleteUser\", resource);";
    let file = "/etc/iam-sorryd/rules/lab.cedar".to_owned();
    let rules = RuleSet::load(&[(file.clone(), text.to_owned())], settings()).unwrap();
    let (dana, resource) = (person("dana", &[]), user("dirk-1"));
    let allowed = rules.decide(&input(&dana, Action::ShowUser, &resource));
    assert_eq!(allowed.texts(), ["the rule at lab.cedar:1 allows it"]);
    assert_eq!(allowed.rule_names(), ["lab.cedar:1"]);
    let refused = rules.decide(&input(&dana, Action::DeleteUser, &resource));
    assert_eq!(refused.texts(), ["rule \"team/never\" (lab.cedar) forbids it"]);
    let listed: Vec<_> = rules.in_force().map(|rule| (rule.rule, rule.file)).collect();
    let named = |name: &str| (name.to_owned(), "lab.cedar".to_owned());
    assert_eq!(listed, [named("lab.cedar:1"), named("team/never")]);
    // The operator, who has to find it, is told the whole path.
    let problems = RuleSet::load(&[(file.clone(), "permit (".to_owned())], settings()).unwrap_err();
    assert_eq!(problems[0].file, file);
}
