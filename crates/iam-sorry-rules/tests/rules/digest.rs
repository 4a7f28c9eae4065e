//! The digest that decisions name: the same for what decides the same, another for everything else.

use iam_sorry_rules::{RuleSet, RuleSettings, RulesDigest};

const SETTINGS: &str = r#"
namespace = [{ name = "dirk", owners = ["group:lab", "person:ada"] }, { name = "lab" }]
[guardrails]
permissions_boundary = "none"
policies = ["arn:aws:iam::aws:policy/A", "arn:aws:iam::aws:policy/B"]
role = [{ arn = "arn:aws:iam::111122223333:role/R" }]
"#;
const ONE: &str = "@id(\"one\") permit (principal, action, resource is IamSorry::User);";
const TWO: &str = "@id(\"two\") forbid (principal, action == IamSorry::Action::\"deleteUser\", resource);";

fn digest(rules: &[&str], settings: &str) -> RulesDigest {
    let files: Vec<_> =
        rules.iter().enumerate().map(|(n, text)| (format!("{n}.cedar"), (*text).to_owned())).collect();
    let settings: RuleSettings = toml::from_str(settings).unwrap();
    RuleSet::load(&files, settings).unwrap().digest().clone()
}

#[test]
fn order_files_and_comments_do_not_count() {
    let base = digest(&[ONE, TWO], SETTINGS);
    assert_eq!(base.whole().len(), 64);
    let joined = format!("// a comment\n{TWO}\n\n\n{ONE}\n");
    assert_eq!(digest(&[&joined], SETTINGS).whole(), base.whole());
    let settings =
        SETTINGS.replace("\"group:lab\", \"person:ada\"", "\"person:ada\", \"group:lab\"").replace(
            "\"arn:aws:iam::aws:policy/A\", \"arn:aws:iam::aws:policy/B\"",
            "\"arn:aws:iam::aws:policy/B\", \"arn:aws:iam::aws:policy/A\"",
        );
    assert_eq!(digest(&[ONE, TWO], &settings).whole(), base.whole());
}

#[test]
fn whatever_can_decide_counts_and_its_part_is_named() {
    let base = digest(&[ONE, TWO], SETTINGS);
    let differs = |other: &RulesDigest| -> Vec<String> {
        let names = base.parts().keys().chain(other.parts().keys());
        let mut differ: Vec<String> =
            names.filter(|name| base.parts().get(*name) != other.parts().get(*name)).cloned().collect();
        differ.sort();
        differ.dedup();
        assert_eq!(differ.is_empty(), base.whole() == other.whole());
        differ
    };
    assert_eq!(differs(&digest(&[ONE], SETTINGS)), ["rule two"]);
    assert_eq!(differs(&digest(&[ONE, &TWO.replace("deleteUser", "createUser")], SETTINGS)), ["rule two"]);
    for (from, to, part) in [
        ("\"person:ada\"", "\"person:eve\"", "namespace dirk"),
        ("{ name = \"lab\" }", "{ name = \"lab\", path = \"/elsewhere/\" }", "namespace lab"),
        ("\"none\"", "\"arn:aws:iam::aws:policy/Edge\"", "guardrail permissions_boundary"),
        ("policy/B\"", "policy/C\"", "guardrail policies"),
        ("role/R\" }", "role/R\", max_seconds = 900 }", "guardrail role arn:aws:iam::111122223333:role/R"),
        (
            "role/R\" }",
            "role/R\", external_id = \"xyz\" }",
            "guardrail role arn:aws:iam::111122223333:role/R",
        ),
        ("[guardrails]", "[guardrails]\nprotected = [\"dirk-x\"]", "guardrail protected"),
        ("[guardrails]", "[guardrails]\ngroups = []", "guardrail groups"),
        ("[guardrails]", "[guardrails]\nmax_user_seconds = 3600", "guardrail max_user_seconds"),
        ("[guardrails]", "[guardrails]\nmax_role_seconds = 3600", "guardrail max_role_seconds"),
    ] {
        let changed = SETTINGS.replace(from, to);
        assert_ne!(changed, SETTINGS);
        assert_eq!(differs(&digest(&[ONE, TWO], &changed)), [part]);
    }
}
