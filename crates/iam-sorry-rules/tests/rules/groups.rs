//! A group is not its name: whoever may create groups somewhere in a directory may call one like another (issue 9, number 8).

use iam_sorry_core::group::Group;
use iam_sorry_core::identity::Identity;
use iam_sorry_rules::{Action, Decision, NamedGroup, ReasonKind, RuleSet, RuleSettings, run_cases};

use crate::scene::{decide, input, person, user};

const TRUE_DN: &str = "cn=suspended,ou=groups,dc=example,dc=org";
const FALSE_DN: &str = "cn=suspended,ou=self-service,ou=groups,dc=example,dc=org";

fn group(name: &str, dn: &str, id: &str, name_is_unique: bool) -> Group {
    Group {
        issuer: "corp".into(),
        id: Some(id.into()),
        dn: Some(dn.into()),
        name: Some(name.into()),
        name_is_unique,
    }
}

fn member(groups: Vec<Group>) -> Identity {
    Identity { groups: groups.into(), ..person("alice", &[]) }
}

fn rules(text: &str, owners: &str) -> RuleSet {
    let settings = format!(
        "[[namespace]]\nname = \"dirk\"\nowners = [{owners:?}]\n[guardrails]\npermissions_boundary = \"none\"\n"
    );
    let settings: RuleSettings = toml::from_str(&settings).unwrap();
    RuleSet::load(&[("lab.cedar".into(), text.into())], settings).unwrap()
}

fn show(rules: &RuleSet, identity: &Identity) -> Decision {
    decide(rules, identity, Action::ShowUser, "dirk-x")
}

const ANYBODY: &str = "permit (principal, action, resource);";
const OWNERS: &str =
    "permit (principal, action, resource) when { resource has owners && principal in resource.owners };";

#[test]
fn an_ambiguous_name_never_lifts_a_forbid() {
    let forbid = "forbid (principal in IamSorry::Group::\"suspended\", action, resource);";
    let rules_by_name = rules(&[ANYBODY, forbid].join("\n"), "person:bob");
    for identity in [
        member(vec![group("suspended", TRUE_DN, "1", false)]),
        member(vec![group("suspended", FALSE_DN, "2", false)]),
        member(vec![group("suspended", TRUE_DN, "1", true)]),
    ] {
        assert!(!show(&rules_by_name, &identity).allowed, "{identity:?}");
    }
    assert!(show(&rules_by_name, &member(vec![])).allowed);

    let unless = "forbid (principal, action, resource) unless { principal in IamSorry::Group::\"trained\" };";
    let rules = rules(&[ANYBODY, unless].join("\n"), "person:bob");
    let trained = |unique| member(vec![group("trained", "cn=trained,dc=a", "3", unique)]);
    assert!(show(&rules, &trained(true)).allowed);
    let refused = show(&rules, &trained(false));
    assert!(!refused.allowed);
    let why = refused.texts().join("\n");
    assert!(why.contains("\"trained\" is ambiguous") && why.contains("\"cn=trained,dc=a\""), "{why}");
    assert_eq!(refused.reasons.last().map(|r| r.kind), Some(ReasonKind::AmbiguousGroup));
}

#[test]
fn an_ambiguous_name_satisfies_no_permit_and_owns_nothing() {
    let permit = "permit (principal in IamSorry::Group::\"lab-dirk\", action, resource);";
    for rules in [rules(permit, "person:bob"), rules(OWNERS, "group:lab-dirk")] {
        let in_it = |unique| member(vec![group("lab-dirk", "cn=lab-dirk,dc=a", "1", unique)]);
        assert!(show(&rules, &in_it(true)).allowed);
        let refused = show(&rules, &in_it(false));
        assert!(!refused.allowed && refused.texts().join("\n").contains("is ambiguous"), "{refused:?}");
        assert!(rules.namespaces_of(&in_it(false)).is_empty());
    }
}

#[test]
fn a_dn_or_an_id_is_one_group_whoever_has_its_name() {
    let truly = member(vec![group("lab-dirk", "cn=lab-dirk,ou=groups,dc=a", "5f0c", false)]);
    let falsely = member(vec![group("lab-dirk", "cn=lab-dirk,ou=mine,ou=groups,dc=a", "666", false)]);
    for name in ["CN=Lab-Dirk, OU=groups, DC=a", "corp/5F0C"] {
        let permit = format!("permit (principal in IamSorry::Group::{name:?}, action, resource);");
        for rules in [rules(&permit, "person:bob"), rules(OWNERS, &format!("group:{name}"))] {
            assert!(show(&rules, &truly).allowed, "{name}");
            assert!(!show(&rules, &falsely).allowed, "{name}");
        }
        let owned = rules(OWNERS, &format!("group:{name}"));
        assert_eq!((owned.namespaces_of(&truly).len(), owned.namespaces_of(&falsely).len()), (1, 0));
    }
}

/// A name that is written like another group's DN or id is not that group.
#[test]
fn a_name_can_not_be_an_id() {
    for name in ["corp/5f0c", "cn=admins,dc=a"] {
        let permit = format!("permit (principal in IamSorry::Group::{name:?}, action, resource);");
        let rules = rules(&permit, "person:bob");
        assert!(!show(&rules, &member(vec![group(name, "cn=x,dc=a", "7", true)])).allowed, "{name}");
    }
}

/// Each subset of the ambiguous names is one way to read them: that none or all count would be too few to look at.
#[test]
fn several_ambiguous_names_are_looked_at_in_every_combination() {
    let text = "permit (principal, action, resource) when { principal in IamSorry::Group::\"a\" && !(principal in \
                IamSorry::Group::\"b\") };
                permit (principal, action, resource) when { !(principal in IamSorry::Group::\"a\") };
                permit (principal, action, resource) when { principal in IamSorry::Group::\"b\" && principal in \
                IamSorry::Group::\"a\" && !(principal in IamSorry::Group::\"c\") };";
    let rules = rules(text, "person:bob");
    let of =
        |names: &[&str]| member(names.iter().map(|n| group(n, &format!("cn={n},dc=a"), n, false)).collect());
    assert!(show(&rules, &of(&["a", "b"])).allowed, "allowed by all readings");
    assert!(!show(&rules, &of(&["a", "b", "c"])).allowed, "a, b and c together are allowed by none");
    let many: String = (0..20)
        .map(|n| format!("permit (principal in IamSorry::Group::\"g{n}\", action, resource);\n"))
        .collect();
    let names: Vec<String> = (0..20).map(|n| format!("g{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let rules = self::rules(&[ANYBODY, &many].join("\n"), "person:bob");
    let refused = show(&rules, &of(&names));
    assert!(!refused.allowed && refused.texts().join("").contains("name them by DN"), "{refused:?}");
}

#[test]
fn durations_are_cut_by_what_an_ambiguous_name_forbids() {
    let text = "permit (principal, action, resource);
                forbid (principal in IamSorry::Group::\"guests\", action, resource) when { context.duration > 1800 };"
        .replace("action, resource) when", "action in IamSorry::Action::\"credentials\", resource) when");
    let rules = rules(&text, "person:bob");
    let guest = member(vec![group("guests", "cn=guests,dc=a", "1", false)]);
    let resource = user("dirk-x");
    let asked = input(&guest, Action::IssueCredentials, &resource);
    assert_eq!(rules.max_duration(&asked, 3600, 900).map(|(seconds, _)| seconds), Some(1800));
}

#[test]
fn which_groups_are_named_by_name() {
    let text = "@id(\"x\") permit (principal in IamSorry::Group::\"Lab-Dirk\", action, resource);
                permit (principal in IamSorry::Group::\"cn=a,dc=b\", action, resource);
                permit (principal in IamSorry::Group::\"corp/1\", action, resource);";
    let named = NamedGroup {
        name: "lab-dirk".into(),
        used_by: vec!["rule \"x\"".into(), "namespace \"dirk\"".into()],
    };
    assert_eq!(rules(text, "group:lab-dirk").groups_by_name(), [named]);
}

#[test]
fn cases_can_speak_of_ambiguous_names_dns_and_ids() {
    let text = "permit (principal in IamSorry::Group::\"cn=lab-dirk,dc=a\", action, resource);
                permit (principal in IamSorry::Group::\"corp/5f0c\", action, resource);
                @id(\"no\") forbid (principal in IamSorry::Group::\"suspended\", action, resource);";
    let cases = r#"
        [[case]]
        person = "a"
        groups = ["CN=lab-dirk, DC=a"]
        action = "show-user"
        resource = "dirk-x"
        expect = "allow"
        [[case]]
        person = "a"
        groups = ["corp/5F0C"]
        action = "show-user"
        resource = "dirk-x"
        expect = "allow"
        [[case]]
        person = "a"
        groups = ["corp/5f0c"]
        ambiguous_groups = ["suspended"]
        action = "show-user"
        resource = "dirk-x"
        expect = "deny"
        expect_rule = "no"
    "#;
    let results = run_cases(&rules(text, "person:bob"), cases).unwrap();
    assert!(results.iter().all(iam_sorry_rules::CaseResult::passed), "{results:?}");
}
