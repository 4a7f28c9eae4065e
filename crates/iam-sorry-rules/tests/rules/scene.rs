//! A small department to ask questions in.

use std::net::{IpAddr, Ipv4Addr};

use iam_sorry_core::group::Group;
use iam_sorry_core::identity::{Identity, KeyOrigin, Method};
use iam_sorry_core::ids::{AccountName, UserRef};
use iam_sorry_core::timestamp::Timestamp;
use iam_sorry_rules::{AccountSettings, Action, AuthzInput, Decision, Resource, RuleSet, RuleSettings};

pub const READ_ONLY: &str = "arn:aws:iam::aws:policy/ReadOnlyAccess";
pub const S3: &str = "arn:aws:iam::aws:policy/AmazonS3FullAccess";
pub const ROLE: &str = "arn:aws:iam::123456789012:role/science/Analysis";
pub const SERVICE_ROLE: &str = "arn:aws:iam::123456789012:role/Service";

/// Two accounts, three namespaces, of which one is inside another by its name, two policies, two roles.
pub fn settings() -> RuleSettings {
    let text = r#"
        [[namespace]]
        name = "dirk"
        owners = ["group:Lab-Dirk", "person:erin"]
        [[namespace]]
        name = "dirk-vault"
        owners = ["person:corp/7"]
        [[namespace]]
        name = "class"
        owners = ["group:teachers"]
        [guardrails]
        permissions_boundary = "arn:aws:iam::123456789012:policy/boundary"
        policies = ["arn:aws:iam::aws:policy/ReadOnlyAccess", "arn:aws:iam::aws:policy/AmazonS3FullAccess"]
        max_user_seconds = 43200
        max_role_seconds = 7200
        protected = ["dirk-root"]
        [[guardrails.role]]
        arn = "arn:aws:iam::123456789012:role/science/Analysis"
        [[guardrails.role]]
        arn = "arn:aws:iam::123456789012:role/Service"
    "#;
    let mut settings: RuleSettings = toml::from_str(text).unwrap();
    settings.protect("arn:aws:sts::123456789012:assumed-role/Service/i-0abc");
    let archive = AccountSettings { name: AccountName::parse("archive").unwrap(), id: None };
    settings.accounts = settings.accounts.with(archive).unwrap();
    settings
}

/// Loads one file, `lab.cedar`.
pub fn rules(text: &str) -> RuleSet {
    load(text).unwrap_or_else(|problems| panic!("{}", problems.join("\n")))
}

/// Loads one file; the problems as they are shown.
pub fn load(text: &str) -> Result<RuleSet, Vec<String>> {
    RuleSet::load(&[("lab.cedar".to_owned(), text.to_owned())], settings())
        .map_err(|problems| problems.iter().map(ToString::to_string).collect())
}

pub fn person(name: &str, groups: &[&str]) -> Identity {
    Identity {
        issuer: "corp".to_owned(),
        subject: name.len().to_string(),
        name: name.to_owned(),
        groups: groups.iter().map(|g| Group::named("corp", g)).collect(),
        method: Method::SshKey,
    }
}

/// `NAME`, in the first account, or `ACCOUNT/NAME`.
pub fn user(name: &str) -> Resource {
    Resource::User(UserRef::parse_in(name, &AccountName::default()).unwrap())
}

pub fn resource(action: Action, text: &str) -> Resource {
    Resource::parse(action, text, &AccountName::default()).unwrap()
}

/// A managed user, an hour's credentials, a weekday noon, an address of the department.
pub fn input<'a>(identity: &'a Identity, action: Action, resource: &'a Resource) -> AuthzInput<'a> {
    AuthzInput {
        identity,
        action,
        resource,
        policy_arn: action.has_policy().then_some(READ_ONLY),
        duration_seconds: action.has_duration().then_some(3600),
        sign_in_age_seconds: 60,
        key_registered_by: Some(KeyOrigin::Directory),
        address: IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3)),
        // A Monday.
        now: Timestamp::parse("2026-11-23T12:00:00Z").unwrap(),
        managed: true,
        owner: None,
    }
}

pub fn decide(rules: &RuleSet, identity: &Identity, action: Action, name: &str) -> Decision {
    let resource = resource(action, name);
    rules.decide(&input(identity, action, &resource))
}
