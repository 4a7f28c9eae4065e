//! Whatever stands in a rule file: it loads whole or is refused with a place in the text, decides without panicking, and
//! one more `forbid` in front of it never lets anything through.
#![no_main]

use std::net::IpAddr;
use std::sync::LazyLock;

use iam_sorry_core::group::Group;
use iam_sorry_core::identity::{Identity, Method};
use iam_sorry_core::timestamp::Timestamp;
use iam_sorry_rules::{Action, AuthzInput, Resource, RuleSet, RuleSettings};
use libfuzzer_sys::fuzz_target;

const ROLE: &str = "arn:aws:iam::123456789012:role/Analysis";
const POLICY: &str = "arn:aws:iam::aws:policy/AmazonS3FullAccess";

static SETTINGS: LazyLock<RuleSettings> = LazyLock::new(|| {
    toml::from_str(
        r#"
        [[namespace]]
        name = "dirk"
        owners = ["group:lab-dirk"]
        [[namespace]]
        name = "class"
        owners = ["person:alice"]
        [guardrails]
        permissions_boundary = "none"
        policies = ["arn:aws:iam::aws:policy/AmazonS3FullAccess"]
        role = [{ arn = "arn:aws:iam::123456789012:role/Analysis" }]
        "#,
    )
    .expect("settings")
});

static ALICE: LazyLock<Identity> = LazyLock::new(|| Identity {
    issuer: "corp".into(),
    subject: "1".into(),
    name: "alice".into(),
    groups: vec![Group::named("corp", "lab-dirk")].into(),
    method: Method::SshKey,
});

fuzz_target!(|text: &str| {
    let load = |text: String| RuleSet::load(&[("fuzz".to_owned(), text)], SETTINGS.clone());
    let rules = match load(text.to_owned()) {
        Ok(rules) => rules,
        Err(problems) => {
            assert!(!problems.is_empty());
            assert!(problems.iter().all(|p| p.line <= text.lines().count() + 1), "{problems:?}");
            return;
        }
    };
    let narrower = load(format!(
        "@id(\"one-more\") forbid (principal, action, resource) when {{ context.hour < 12 }};\n{text}"
    ));
    for action in Action::ALL {
        let resource = match action {
            Action::AssumeRole => Resource::Role(ROLE.into()),
            Action::ListUsers => Resource::Namespace("dirk".into()),
            Action::ReadAudit => Resource::Audit,
            Action::ManageSessions => Resource::Sessions,
            Action::RegisterKey => Resource::OwnKeys,
            _ => Resource::parse(action, "dirk-1", &SETTINGS.accounts.first().name).expect("a name"),
        };
        let input = AuthzInput {
            identity: &ALICE,
            action,
            resource: &resource,
            policy_arn: action.has_policy().then_some(POLICY),
            duration_seconds: action.has_duration().then_some(43_200),
            sign_in_age_seconds: 60,
            key_registered_by: None,
            address: IpAddr::from([10, 0, 0, 1]),
            now: Timestamp::EPOCH,
            managed: true,
            owner: Some("corp/1"),
        };
        let (decision, seconds) = rules.evaluate(&input);
        assert!(!decision.reasons.is_empty());
        assert_eq!(decision.allowed && action.has_duration(), seconds.is_some());
        // It is midnight: the added rule forbids all.
        if let Ok(narrower) = &narrower {
            assert!(!narrower.decide(&input).allowed);
        }
    }
});
