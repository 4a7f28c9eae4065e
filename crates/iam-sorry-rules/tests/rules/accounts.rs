//! A user is its account and its name, in rules too.

use iam_sorry_core::ids::AccountName;
use iam_sorry_rules::{AccountList, AccountSettings, Action, RuleSet, run_cases};

use crate::scene::{ROLE, decide, input, load, person, rules, settings, user};

fn may(text: &str, name: &str) -> bool {
    decide(&rules(text), &person("ann", &[]), Action::ShowUser, name).allowed
}

#[test]
fn a_rule_about_a_user_is_about_one_of_one_account() {
    for (rule, first, archive) in [
        ("permit (principal, action, resource == IamSorry::User::\"dirk-1\");", true, false),
        ("permit (principal, action, resource == IamSorry::User::\"archive/Dirk-1\");", false, true),
        ("permit (principal, action, resource in IamSorry::Account::\"archive\");", false, true),
        ("permit (principal, action, resource in IamSorry::Account::\"DEFAULT\");", true, false),
        (
            "permit (principal, action, resource is IamSorry::User) when { resource.account == \"archive\" };",
            false,
            true,
        ),
        ("permit (principal, action, resource in IamSorry::Namespace::\"dirk\");", true, true),
        (
            "permit (principal, action, resource);
             forbid (principal, action, resource in IamSorry::Account::\"archive\");",
            true,
            false,
        ),
    ] {
        assert_eq!(may(rule, "dirk-1"), first, "{rule}");
        assert_eq!(may(rule, "archive/DIRK-1"), archive, "{rule}");
    }
}

#[test]
fn a_role_is_in_the_account_that_it_is_assumed_in() {
    for (account, allowed) in [("default", true), ("archive", false)] {
        let rules =
            rules(&format!("permit (principal, action, resource in IamSorry::Account::{account:?});"));
        let decision = decide(&rules, &person("ann", &[]), Action::AssumeRole, ROLE);
        assert_eq!(decision.allowed, allowed, "{account}");
    }
}

/// Rules from before accounts had names load, and decide as they did.
#[test]
fn older_rules_keep_their_meaning() {
    let older = "permit (principal, action, resource) when { resource has account && resource.account == \"123456789012\" };";
    let rules = rules(older);
    let ann = person("ann", &[]);
    assert!(decide(&rules, &ann, Action::AssumeRole, ROLE).allowed);
    assert!(!decide(&rules, &ann, Action::ShowUser, "dirk-1").allowed);
}

#[test]
fn accounts_that_the_configuration_lacks_are_refused_in_rules_and_in_requests() {
    for text in [
        "forbid (principal, action, resource in IamSorry::Account::\"physics\");",
        "forbid (principal, action, resource == IamSorry::User::\"physics/dirk-1\");",
    ] {
        let problems = load(text).unwrap_err().join("\n");
        assert!(problems.contains("no account \"physics\"; its accounts: default, archive"), "{problems}");
    }
    let (rules, ann) = (rules("permit (principal, action, resource);"), person("ann", &[]));
    for action in [Action::CreateUser, Action::ShowUser] {
        let refused = rules.decide(&input(&ann, action, &user("physics/dirk-1")));
        assert!(refused.by_guardrail(), "{refused:?}");
        assert_eq!(refused.texts(), ["guardrail account: this service has no account \"physics\""]);
    }
}

/// Whoever reads a refusal is told the name as they would type it.
#[test]
fn a_refusal_names_the_account_unless_it_goes_without_saying() {
    let (rules, ann) =
        (rules("permit (principal in IamSorry::Group::\"x\", action, resource);"), person("ann", &[]));
    for name in ["dirk-1", "archive/dirk-1"] {
        let texts = rules.decide(&input(&ann, Action::ShowUser, &user(name))).texts();
        assert!(texts[0].starts_with(&format!("no rule allows show-user on {name}:")), "{texts:?}");
    }
}

#[test]
fn nobody_raises_their_own_rights_in_any_account() {
    let (rules, dirk) = (rules("permit (principal, action, resource);"), person("dirk-1", &[]));
    for name in ["dirk-1", "archive/Dirk-1"] {
        assert!(decide(&rules, &dirk, Action::AttachPolicy, name).by_guardrail(), "{name}");
    }
}

#[test]
fn cases_name_users_of_any_account() {
    let rules =
        rules("@id(\"archive\") permit (principal, action, resource in IamSorry::Account::\"archive\");");
    let cases = r#"
        [[case]]
        person = "ann"
        action = "show-user"
        resource = "archive/dirk-1"
        expect = "allow"
        expect_rule = "archive"
        [[case]]
        person = "ann"
        action = "show-user"
        resource = "dirk-1"
        expect = "deny"
    "#;
    let results = run_cases(&rules, cases).unwrap();
    assert!(results.iter().all(|result| result.passed()), "{results:?}");
}

#[test]
fn which_accounts_there_are_is_part_of_the_digest() {
    let digest = |accounts| {
        let settings = iam_sorry_rules::RuleSettings { accounts, ..settings() };
        RuleSet::load(&[], settings).unwrap().digest().whole().to_string()
    };
    let named = |name| AccountSettings { name: AccountName::parse(name).unwrap(), id: None };
    let two = |first, other| AccountList::new(named(first)).with(named(other)).unwrap();
    let all = [
        AccountList::default(),
        two("default", "archive"),
        two("archive", "default"),
        AccountList::new(named("archive")),
    ];
    let digests: std::collections::BTreeSet<_> = all.into_iter().map(digest).collect();
    assert_eq!(digests.len(), 4, "the first one goes without saying, so the order counts");
    assert!(AccountList::new(named("a")).with(named("a")).is_err());
}
