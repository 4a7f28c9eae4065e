//! What no rule lifts: every test here has a rule that permits everything.

use iam_sorry_core::names::UserName;
use iam_sorry_rules::{Action, AuthzInput, ReasonKind, Resource, RuleSet};

use crate::scene::{READ_ONLY, ROLE, S3, SERVICE_ROLE, decide, input, person, resource, rules, user};

fn everything() -> RuleSet {
    rules("permit (principal, action, resource);")
}

fn refused_by(input: &AuthzInput<'_>) -> Option<String> {
    let decision = everything().decide(input);
    if decision.allowed {
        return None;
    }
    assert!(decision.by_guardrail(), "{:?}", decision.texts());
    assert_eq!(decision.reasons[0].kind, ReasonKind::Guardrail);
    Some(decision.reasons[0].rule.clone())
}

#[test]
fn only_names_in_a_namespace_and_only_safe_ones() {
    let root = person("root", &["admins"]);
    // GHSA-59w7 and its like; CVE-2026-3605.
    for name in
        ["dirk+x", "dirk-,x", "dirk-=x", "dirk-", "dirk..x", "dirk-..-x", "dirk-x.", ".dirk", "dirk-@"]
    {
        assert_eq!(
            refused_by(&input(&root, Action::CreateUser, &user(name))).as_deref(),
            Some("names"),
            "{name}"
        );
    }
    for name in ["dirks", "dir", "xdirk", "x-dirk", "classes", "admin", "dirk_x", "dirk.x", "dirk@x"] {
        assert_eq!(
            refused_by(&input(&root, Action::CreateUser, &user(name))).as_deref(),
            Some("namespace"),
            "{name}"
        );
    }
    for name in ["dirk", "DIRK-x", "dirk-a.b_c@d", "class-1"] {
        assert_eq!(refused_by(&input(&root, Action::CreateUser, &user(name))), None, "{name}");
    }
    for bad in ["dirk-*", "dirk-?", "dirk/../x", "dirk x", "dirk-ü"] {
        assert!(UserName::parse(bad).is_err());
    }
}

#[test]
fn only_users_of_the_service_are_touched() {
    let root = person("root", &[]);
    let resource = user("dirk-1");
    for action in Action::ALL.into_iter().filter(|a| a.needs_managed_user()) {
        let asked = AuthzInput { managed: false, ..input(&root, action, &resource) };
        assert_eq!(refused_by(&asked).as_deref(), Some("managed-users"), "{action}");
        let longest = everything().max_duration(&asked, 3600, 900);
        assert_eq!(longest, None, "{action}");
    }
    for action in [Action::CreateUser, Action::AdoptUser] {
        assert_eq!(
            refused_by(&AuthzInput { managed: false, ..input(&root, action, &resource) }),
            None,
            "{action}"
        );
    }
    // Somebody whom no rule allows anything gets one answer, whether the user exists or not.
    let none = rules("");
    let asked = input(&root, Action::ShowUser, &resource);
    assert_eq!(none.decide(&asked), none.decide(&AuthzInput { managed: false, ..asked }));
}

#[test]
fn only_listed_policies_are_attached_and_detached() {
    let root = person("root", &[]);
    let resource = user("dirk-1");
    for action in [Action::AttachPolicy, Action::DetachPolicy] {
        for (arn, refused) in [
            (Some(READ_ONLY), false),
            (Some(S3), false),
            (None, true),
            (Some(""), true),
            (Some("arn:aws:iam::aws:policy/AdministratorAccess"), true),
            (Some("arn:aws:iam::aws:policy/readonlyaccess"), true),
            (Some("arn:aws:iam::aws:policy/ReadOnlyAccess "), true),
            (Some("arn:aws:iam::aws:policy/*"), true),
            (Some("arn:aws:iam::123456789012:policy/boundary"), true),
        ] {
            let asked = AuthzInput { policy_arn: arn, ..input(&root, action, &resource) };
            assert_eq!(refused_by(&asked).as_deref(), refused.then_some("policies"), "{action} {arn:?}");
        }
    }
}

#[test]
fn only_listed_roles_and_never_the_services_own() {
    let root = person("root", &[]);
    for (arn, refused) in [
        (ROLE, None),
        ("arn:aws:iam::123456789012:role/Other", Some("roles")),
        ("arn:aws:iam::123456789012:role/science/*", Some("roles")),
        // On the list by mistake, but it is what the service itself runs as.
        (SERVICE_ROLE, Some("protected")),
    ] {
        let asked = Resource::Role(arn.to_owned());
        assert_eq!(refused_by(&input(&root, Action::AssumeRole, &asked)).as_deref(), refused, "{arn}");
    }
}

#[test]
fn nothing_is_done_to_protected_users() {
    let root = person("root", &[]);
    for action in Action::ALL {
        for name in ["dirk-root", "Dirk-ROOT"] {
            if matches!(resource(action, name), Resource::User(_)) {
                assert!(decide(&everything(), &root, action, name).by_guardrail(), "{action} {name}");
            }
        }
    }
}

#[test]
fn nobody_raises_their_own_rights() {
    let dirk = person("Dirk-Own", &[]);
    for (action, refused) in [
        (Action::AttachPolicy, true),
        (Action::AdoptUser, true),
        (Action::DetachPolicy, true),
        (Action::CreateAccessKey, false),
        (Action::IssueCredentials, false),
    ] {
        for name in ["dirk-own", "DIRK-OWN"] {
            let refusal = refused_by(&input(&dirk, action, &user(name)));
            assert_eq!(refusal.as_deref(), refused.then_some("own-rights"), "{action}");
        }
    }
    assert_eq!(refused_by(&input(&dirk, Action::AttachPolicy, &user("dirk-other"))), None);
}

#[test]
fn durations_have_a_maximum() {
    let root = person("root", &[]);
    let (user, role) = (user("dirk-1"), Resource::Role(ROLE.to_owned()));
    for (action, resource, most) in
        [(Action::IssueCredentials, &user, 43_200), (Action::AssumeRole, &role, 7200)]
    {
        let ask = |seconds| AuthzInput { duration_seconds: Some(seconds), ..input(&root, action, resource) };
        assert_eq!(refused_by(&ask(most)), None);
        assert_eq!(refused_by(&ask(most + 1)).as_deref(), Some("duration"));
        assert_eq!(refused_by(&ask(899)).as_deref(), Some("duration"));
        let (seconds, decision) = everything().max_duration(&ask(1), 999_999, 900).unwrap();
        assert_eq!(seconds, most);
        assert!(decision.texts()[1].contains("guardrail duration"), "{:?}", decision.texts());
        assert_eq!(everything().max_duration(&ask(1), 899, 900), None);
        // As long as there is, which is no cut.
        let (decision, seconds) = everything().evaluate(&AuthzInput { duration_seconds: None, ..ask(1) });
        assert_eq!((decision.reasons.len(), seconds), (1, Some(most)));
        // Where no rule allows it, that is what is said, not that it is too long.
        let none = rules("");
        assert_eq!(none.decide(&ask(999_999)).reasons[0].kind, ReasonKind::NoRule);
        assert_eq!(none.evaluate(&ask(999_999)).0.reasons[0].kind, ReasonKind::NoRule);
        assert!(everything().evaluate(&ask(60)).0.by_guardrail());
    }
}

#[test]
fn actions_fit_their_resources() {
    let root = person("root", &[]);
    for (action, resource) in [
        (Action::AssumeRole, user("dirk")),
        (Action::CreateUser, Resource::Audit),
        (Action::ReadAudit, Resource::Sessions),
        (Action::ListUsers, user("dirk")),
        (Action::ShowUser, Resource::Namespace("dirk".to_owned())),
    ] {
        assert_eq!(refused_by(&input(&root, action, &resource)).as_deref(), Some("request"), "{action}");
    }
    let nowhere = Resource::Namespace("dirk-*".to_owned());
    assert_eq!(refused_by(&input(&root, Action::ListUsers, &nowhere)).as_deref(), Some("namespace"));
}

/// GHSA-xp3c: a specific deny must hold for the list too. The list is made of the users that showing allows.
#[test]
fn a_list_shows_no_more_than_showing_does() {
    let rules = rules(
        r#"permit (principal, action in IamSorry::Action::"view", resource);
        forbid (principal, action == IamSorry::Action::"showUser", resource == IamSorry::User::"dirk-secret");"#,
    );
    let eve = person("eve", &[]);
    assert!(decide(&rules, &eve, Action::ListUsers, "Dirk").allowed);
    let shown: Vec<_> = ["dirk-1", "dirk-secret", "Dirk-Secret", "dirk-2"]
        .into_iter()
        .filter(|name| decide(&rules, &eve, Action::ShowUser, name).allowed)
        .collect();
    assert_eq!(shown, ["dirk-1", "dirk-2"]);
}

/// Rules that calculate change their answer where no number of theirs stands: bisection, to the minute.
#[test]
fn durations_are_cut_for_rules_that_calculate_too() {
    let dana = person("dana", &[]);
    let resource = user("dirk-1");
    for (condition, asked, expected) in [
        ("context.duration * 2 <= 10000", 36_000, Some(4980)),
        ("context.duration + context.signInAge <= 7200", 36_000, Some(7140)),
        ("context.duration <= context.signInAge", 36_000, None),
        ("context.duration <= 3600", 36_000, Some(3600)),
        ("context.duration < 3600", 36_000, Some(3599)),
        ("context.duration * 2 <= 1000", 36_000, None),
        ("context.duration > 1000 && context.duration < 2000", 36_000, Some(1999)),
    ] {
        let rules = rules(&format!(
            "permit (principal, action, resource) when {{ context has duration && {condition} }};"
        ));
        let asked =
            AuthzInput { duration_seconds: Some(asked), ..input(&dana, Action::IssueCredentials, &resource) };
        assert_eq!(rules.evaluate(&asked).1, expected, "{condition}");
    }
    let rules = rules(
        "permit (principal, action, resource) when { context has duration && context.duration <= context.signInAge };",
    );
    let asked = AuthzInput { sign_in_age_seconds: 5000, ..input(&dana, Action::IssueCredentials, &resource) };
    assert_eq!(rules.max_duration(&asked, 36_000, 900).unwrap().0, 5000);
}
