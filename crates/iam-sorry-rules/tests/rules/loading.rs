//! What is refused at loading, and how it is said.

use iam_sorry_rules::{Action, RuleSet};

use crate::scene::{decide, load, person, rules, settings};

#[test]
fn mistakes_are_told_with_their_place() {
    for (text, place, said) in [
        ("permit (principal, action, resource", "lab.cedar:1:", "unexpected end of input"),
        ("\n\npermit (principal, action, resource)\nwhen { principal.age > 18 };", "lab.cedar:4:8", "age"),
        ("permit (principal, action == IamSorry::Action::\"fly\", resource);", "lab.cedar:1:", "fly"),
        ("permit (principal in Group::\"x\", action, resource);", "lab.cedar:1:", "Group"),
        (
            "// ü\n  permit (principal == IamSorry::Person::\"alice\", action, resource);",
            "lab.cedar:2:3",
            "principal.name",
        ),
        ("permit (principal, action, resource in IamSorry::Namespace::\"dirc\");", "lab.cedar:1:1", "dirc"),
        ("permit (principal in IamSorry::Owners::\"lab\", action, resource);", "lab.cedar:1:1", "lab"),
        ("forbid (principal, action, resource == IamSorry::User::\"dirks-x\");", "lab.cedar:1:1", "dirks-x"),
        ("forbid (principal, action, resource == IamSorry::User::\"dirk-*\");", "lab.cedar:1:1", "dirk-*"),
        (
            "permit (principal, action, resource == IamSorry::Role::\"arn:aws:iam::123456789012:role/X\");",
            "lab.cedar:1:1",
            "guardrails.role",
        ),
        ("permit (principal == ?principal, action, resource);", "lab.cedar:1:1", "templates"),
        ("@id(\"\") permit (principal, action, resource);", "lab.cedar:1:1", "@id"),
        (
            "@id(\"a\") permit (principal, action, resource);\n@id(\"a\") permit (principal, action, resource);",
            "lab.cedar:2:1",
            "two rules called \"a\"",
        ),
        ("@reason(\"a\\nb\") permit (principal, action, resource);", "lab.cedar:1:1", "@reason"),
    ] {
        let problems = load(text).unwrap_err();
        let told = problems.join("\n");
        assert!(told.contains(said) && told.contains(place), "{text}\n=> {told}");
        assert!(!told.contains("policy `"), "no internal numbering: {told}");
    }
}

/// Cedar warns of these; here they are refused: a rule that never applies is a forbid that never protects.
#[test]
fn rules_that_never_apply_and_look_alikes_are_refused() {
    for text in [
        "forbid (principal, action, resource) when { 1 == 2 };",
        "forbid (principal, action == IamSorry::Action::\"readAudit\", resource is IamSorry::User);",
        // Cyrillic о in a Latin word; a right-to-left override.
        "forbid (principal in IamSorry::Group::\"teаm\", action, resource);",
        "forbid (principal in IamSorry::Group::\"a\u{202e}b\", action, resource);",
        "forbid (principal, action, resource) when { principal.name == \"Alice\" };",
        "forbid (principal, action, resource is IamSorry::User) when { resource.name like \"Dirk-*\" };",
        "forbid (principal, action, resource) when { [\"bob\", \"Eve\"].contains(principal.name) };",
        "forbid (principal, action, resource) when { principal.name == \"eve \" };",
    ] {
        assert!(load(text).is_err(), "{text}");
    }
    for text in [
        "forbid (principal, action, resource) when { principal.name == \"alice\" };",
        "forbid (principal, action, resource is IamSorry::User) when { resource.name like \"dirk-*\" };",
        "forbid (principal, action, resource) when { principal.issuer == \"Corp\" };",
    ] {
        assert!(load(text).is_ok(), "{text}: {:?}", load(text).err());
    }
}

#[test]
fn an_arn_that_no_list_has_is_a_warning() {
    let text = |arn: &str| {
        format!(
            "forbid (principal, action in IamSorry::Action::\"policies\", resource) when {{ context.policyArn == {arn:?} }};"
        )
    };
    assert!(rules(&text("arn:aws:iam::aws:policy/ReadOnlyAccess")).warnings().is_empty());
    let warned = rules(&text("arn:aws:iam::aws:policy/readonlyaccess"));
    assert!(warned.warnings()[0].to_string().starts_with("lab.cedar:1:1: "), "{:?}", warned.warnings());
}

/// CVE-2025-5999, CVE-2025-6004, CVE-2025-6013, CVE-2025-64761: names by case and spaces.
#[test]
fn two_spellings_of_a_name_are_one() {
    let rules = rules(
        r#"permit (principal, action, resource);
        forbid (principal in IamSorry::Group::" Lab  DIRK ", action == IamSorry::Action::"showUser", resource);
        forbid (principal, action == IamSorry::Action::"deleteUser", resource == IamSorry::User::"Dirk-Admin");
        forbid (principal, action == IamSorry::Action::"rotateKey", resource in IamSorry::Namespace::"CLASS");"#,
    );
    for group in ["lab dirk", "Lab Dirk", " LAB  dirk ", "lab\u{a0}dirk"] {
        assert!(!decide(&rules, &person("a", &[group]), Action::ShowUser, "dirk-x").allowed, "{group:?}");
    }
    for group in ["labdirk", "lab-dirk", "lab dirk2"] {
        assert!(decide(&rules, &person("a", &[group]), Action::ShowUser, "dirk-x").allowed, "{group:?}");
    }
    for name in ["dirk-admin", "DIRK-ADMIN", "Dirk-Admin"] {
        assert!(!decide(&rules, &person("a", &[]), Action::DeleteUser, name).allowed, "{name}");
    }
    assert!(decide(&rules, &person("a", &[]), Action::DeleteUser, "dirk-admin2").allowed);
    for name in ["class", "Class-1", "CLASS-1"] {
        assert!(!decide(&rules, &person("a", &[]), Action::RotateKey, name).allowed, "{name}");
    }
}

#[test]
fn every_file_and_every_mistake_is_told_at_once() {
    let files = [
        ("a.cedar", "permit (principal, action, resource) when { principal.x };\npermit (principal, action, resource) when { principal.y };"),
        ("b.cedar", "permit (principal;"),
        ("c.cedar", "@id(\"same\") permit (principal, action, resource);"),
        ("d.cedar", "@id(\"same\") permit (principal, action, resource);"),
    ]
    .map(|(file, text)| (file.to_owned(), text.to_owned()));
    let problems = RuleSet::load(&files, settings()).unwrap_err();
    let told: Vec<_> = problems.iter().map(|p| (p.file.as_str(), p.line)).collect();
    for place in [("a.cedar", 1), ("a.cedar", 2), ("b.cedar", 1), ("d.cedar", 1)] {
        assert!(told.contains(&place), "{place:?} in {problems:?}");
    }
    let mut bad = settings();
    bad.guardrails.permissions_boundary = None;
    let problems = RuleSet::load(&[], bad).unwrap_err();
    assert!(
        problems[0]
            .to_string()
            .starts_with("configuration: [guardrails] permissions_boundary is missing\n  ")
    );
}

/// Rules nested beyond reason are refused or decided, but never bring the service down: a stack overflow ends a process.
/// On a thread with the stack that the service's have.
#[test]
fn rules_nested_beyond_reason_do_no_harm() {
    let deep = |open: &str, inside: &str, close: &str, depth: usize| {
        let nested = format!("{}{inside}{}", open.repeat(depth), close.repeat(depth));
        format!("permit (principal, action, resource) when {{ {nested} }};")
    };
    for depth in [30, 49, 240, 450, 20_000] {
        for text in [
            deep("(", "context.hour > 1", ")", depth),
            deep("!", "(context.hour > 1)", "", depth),
            deep("[", "1", "]", depth),
            deep("if context.hour > 1 then true else ", "false", "", depth),
            deep("context.hour > 1 && ", "true", "", depth),
            deep("1 < ", "2", "", depth),
            deep("1 + ", "1 > context.hour", "", depth),
            deep("{a: ", "1", "}", depth),
            deep("", "context", ".hour", depth),
        ] {
            let loaded = std::thread::Builder::new()
                .stack_size(2 << 20)
                .spawn(move || {
                    load(&text).map(|rules| decide(&rules, &person("a", &[]), Action::ShowUser, "dirk"))
                })
                .unwrap()
                .join();
            assert!(loaded.is_ok());
        }
    }
}

/// A long file is read in pieces: a mistake far down is told with its place in the whole.
#[test]
fn places_in_long_files_are_right() {
    let rule = "permit (principal in IamSorry::Group::\"a;b\", action, resource); // ; \"\n";
    let many = rule.repeat(1200);
    assert!(many.len() > 70_000);
    let syntax = load(&format!("{many}\n  permit (principal;\n{rule}")).unwrap_err();
    assert!(syntax.iter().any(|p| p.starts_with("lab.cedar:1202:")), "{syntax:?}");
    let schema =
        load(&format!("{many}\npermit (principal, action, resource)\nwhen {{ principal.age > 1 }};"))
            .unwrap_err();
    assert!(schema.iter().any(|p| p.starts_with("lab.cedar:1203:8: ")), "{schema:?}");
    assert_eq!(rules(&many).len(), 1200);
    let name = decide(
        &rules(&format!("{many}\nforbid (principal, action, resource);")),
        &person("x", &[]),
        Action::ShowUser,
        "dirk",
    );
    assert_eq!(name.texts(), ["the rule at lab.cedar:1202 forbids it"]);
}
