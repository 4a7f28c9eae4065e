//! Files of cases.

use iam_sorry_rules::run_cases;

use crate::scene::rules;

const RULES: &str = r#"
    @id("owners") permit (principal, action, resource) when { resource has owners && principal in resource.owners };
    @id("one-hour") forbid (principal, action in IamSorry::Action::"credentials", resource)
    when { context.duration > 3600 };
"#;

#[test]
fn cases_are_decided_as_the_service_decides() {
    let results = run_cases(
        &rules(RULES),
        r#"
        [[case]]
        person = "Alice"
        groups = ["Lab-Dirk"]
        action = "create-user"
        resource = "dirk-x"
        expect = "allow"
        expect_rule = "owners"

        [[case]]
        name = "cut to an hour"
        person = "alice"
        groups = ["lab-dirk"]
        action = "issue-credentials"
        resource = "dirk-x"
        duration = 36000
        expect = "allow"
        expect_seconds = 3600

        [[case]]
        name = "wrong on purpose"
        person = "alice"
        action = "issue-credentials"
        resource = "dirk-x"
        expect = "allow"
        expect_rule = "one-hour"
        expect_seconds = 900

        [[case]]
        person = "alice"
        groups = ["lab-dirk"]
        action = "show-user"
        resource = "dirk-x"
        managed = false
        expect = "deny"
        expect_rule = "managed-users"
        "#,
    )
    .unwrap();
    let passed: Vec<_> = results.iter().map(iam_sorry_rules::CaseResult::passed).collect();
    assert_eq!(passed, [true, true, false, true], "{results:#?}");
    assert_eq!(results[0].to_string(), "ok      1: Alice: create-user dirk-x");
    assert_eq!(
        results[2].to_string(),
        "FAILED  3: wrong on purpose\n          expected to be allowed\n          expected \"one-hour\" to decide\n          \
         expected 900 seconds, got none\n          refused\n            no rule allows issue-credentials on dirk-x: a \
         rule must permit it (deny is the default)\n            2 of 2 rules could apply to this person, action and \
         resource"
    );
}

#[test]
fn a_file_that_is_wrong_says_where() {
    let rules = rules(RULES);
    for (text, said) in [
        ("", "no [[case]]"),
        ("[[case]]\nperson = \"a\"\n", "missing field"),
        ("[[case]]\nperson = \"a\"\naction = \"create-user\"\nexpect = \"maybe\"\n", "unknown variant"),
        ("[[case]]\nperson = \"a\"\naction = \"fly\"\nexpect = \"deny\"\n", "The actions are: create-user"),
        ("[[case]]\nperson = \"a\"\naction = \"show-user\"\nresource = \"a b\"\nexpect = \"deny\"\n", "a b"),
        (
            "[[case]]\nperson = \"a\"\naction = \"read-audit\"\nduration = 1\nexpect = \"deny\"\n",
            "no duration",
        ),
        (
            "[[case]]\nperson = \"a\"\nwho = \"b\"\naction = \"read-audit\"\nexpect = \"deny\"\n",
            "unknown field",
        ),
        ("[[case]]\nperson = \"a\"\ntime = \"noon\"\naction = \"read-audit\"\nexpect = \"deny\"\n", "noon"),
    ] {
        let error = run_cases(&rules, text).unwrap_err().to_string();
        assert!(error.contains(said), "{text}: {error}");
    }
}
