//! The configuration of accounts, namespaces and guardrails: what no rule can lift.

use serde::Deserialize;

use iam_sorry_core::ids::{AccountId, AccountName, PolicyArn, iam_arn};
use iam_sorry_core::names::{CallerArn, InvalidName, Principal};

use crate::names::{check_path, fold, fold_group, fold_namespace};

/// The longest session of an IAM user, seconds: 36 hours (STS API reference, GetSessionToken).
const LONGEST_USER_SECONDS: u32 = 129_600;
/// The longest that a role's maximum can be, seconds: 12 hours (STS API reference, AssumeRole).
const LONGEST_ROLE_SECONDS: u32 = 43_200;

/// AccountList, namespaces and guardrails, as the configuration file has them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RuleSettings {
    /// The AWS accounts that the service manages.
    #[serde(skip)]
    pub accounts: AccountList,
    /// `[[namespace]]`: who owns which names.
    #[serde(rename = "namespace")]
    pub namespaces: Vec<NamespaceSettings>,
    /// `[guardrails]`.
    pub guardrails: Guardrails,
}

/// The accounts by their names, in the order of the configuration; there is always a first one, which goes without saying:
/// a user or rule that names no account means it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountList {
    first: AccountSettings,
    others: Vec<AccountSettings>,
}

/// An AWS account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountSettings {
    /// What the configuration calls it.
    pub name: AccountName,
    /// Its number, if the configuration says it.
    pub id: Option<AccountId>,
}

impl AccountList {
    /// With the first one.
    pub fn new(first: AccountSettings) -> Self {
        Self { first, others: Vec::new() }
    }

    /// With one more.
    ///
    /// # Errors
    /// [`InvalidName`] if there is one of that name already.
    pub fn with(mut self, account: AccountSettings) -> Result<Self, InvalidName> {
        if self.get(&account.name).is_some() {
            return Err(InvalidName(format!("there are two accounts called {:?}", account.name)));
        }
        self.others.push(account);
        Ok(self)
    }

    /// The one that goes without saying.
    pub fn first(&self) -> &AccountSettings {
        &self.first
    }

    /// The account of this name.
    pub fn get(&self, name: &AccountName) -> Option<&AccountSettings> {
        self.iter().find(|account| &account.name == name)
    }

    /// All of them, the first one first.
    pub fn iter(&self) -> impl Iterator<Item = &AccountSettings> {
        std::iter::once(&self.first).chain(&self.others)
    }
}

/// A prefix of user names and who owns it: `dirk` holds `dirk` and `dirk-...`; of several that fit, the longest.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NamespaceSettings {
    /// The prefix, without the hyphen.
    pub name: String,
    /// The IAM path of the users that are made in it; `/iam-sorry/NAME/` where absent.
    #[serde(default)]
    pub path: Option<String>,
    /// `group:DN`, `group:ISSUER/ID`, `group:NAME` (while no other group has that name), `person:NAME` (the login name) or
    /// `person:ISSUER/SUBJECT`. Owning alone allows nothing: rules say what
    /// owners may do (`principal in resource.owners`).
    #[serde(default)]
    pub owners: Vec<String>,
}

impl NamespaceSettings {
    /// The IAM path of its users.
    pub fn path(&self) -> String {
        self.path.clone().unwrap_or_else(|| format!("/iam-sorry/{}/", self.name.to_ascii_lowercase()))
    }
}

/// What holds whatever the rules say.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Guardrails {
    /// The ARN of the policy that each created user gets as its permissions boundary; `"none"`, spelled out, for no
    /// boundary. Needed as soon as there is a namespace.
    pub permissions_boundary: Option<String>,
    /// The ARNs of the managed policies that can be attached and detached; nothing else can.
    pub policies: Vec<String>,
    /// The roles that can be assumed; nothing else can.
    #[serde(rename = "role")]
    pub roles: Vec<RoleSettings>,
    /// The ARNs of the groups that delete-user may take users out of; any where absent, none where empty. The service puts
    /// nobody into a group, so only an administrator's doing is meant.
    pub groups: Option<Vec<String>>,
    /// The longest session of an IAM user, seconds (900 to 129,600).
    pub max_user_seconds: u32,
    /// The longest session of a role, seconds (900 to 43,200); the role's own maximum in IAM holds as well.
    pub max_role_seconds: u32,
    /// Users (names or ARNs) and roles (ARNs) that nothing is ever done to, besides the service's own identity.
    pub protected: Vec<String>,
}

impl Default for Guardrails {
    fn default() -> Self {
        Self {
            permissions_boundary: None,
            policies: Vec::new(),
            roles: Vec::new(),
            groups: None,
            max_user_seconds: LONGEST_USER_SECONDS,
            max_role_seconds: LONGEST_ROLE_SECONDS,
            protected: Vec::new(),
        }
    }
}

impl Guardrails {
    /// The boundary's ARN; none where the configuration says `"none"`.
    pub fn boundary(&self) -> Option<&str> {
        self.permissions_boundary.as_deref().filter(|text| *text != "none")
    }

    /// The settings of this role, where it is on the list. ARNs are compared exactly, as IAM does.
    pub fn role(&self, arn: &str) -> Option<&RoleSettings> {
        self.roles.iter().find(|role| role.arn == arn)
    }
}

/// `[[guardrails.role]]`: a role that can be assumed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleSettings {
    /// Its ARN.
    pub arn: String,
    /// The external ID that its trust policy wants; a caller can't choose it.
    #[serde(default)]
    pub external_id: Option<String>,
    /// The longest session, where shorter than `max_role_seconds`.
    #[serde(default)]
    pub max_seconds: Option<u32>,
}

impl RuleSettings {
    /// Adds the service's own identity, as sts:GetCallerIdentity tells it, to what is protected: a user's ARN protects
    /// the user, an assumed role's the role. Anything else (root, a federated user) is nothing that an action could be
    /// done to.
    pub fn protect(&mut self, arn: &str) {
        if Protected::parse(arn).is_some() {
            self.guardrails.protected.push(arn.to_owned());
        }
    }

    /// # Errors
    /// Every mistake, each as a text that says what to do.
    pub fn check(&self) -> Result<(), Vec<String>> {
        let mut problems = Vec::new();
        self.check_namespaces(&mut problems);
        self.guardrails.check(!self.namespaces.is_empty(), &mut problems);
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    fn check_namespaces(&self, problems: &mut Vec<String>) {
        let mut seen = Vec::new();
        for namespace in &self.namespaces {
            match fold_namespace(&namespace.name) {
                Err(problem) => problems.push(format!("[[namespace]] name: {problem}")),
                Ok(name) if seen.contains(&name) => {
                    problems.push(format!("[[namespace]] {name:?} is there twice\nMerge the two into one."));
                }
                Ok(name) => seen.push(name),
            }
            if let Some(Err(problem)) = namespace.path.as_deref().map(check_path) {
                problems.push(format!("[[namespace]] {:?}: path: {problem}", namespace.name));
            }
            for owner in &namespace.owners {
                if Owner::parse(owner).is_none() {
                    problems.push(format!(
                        "[[namespace]] {:?}: {owner:?} is no owner\nWrite \"group:DN\", \"group:NAME\", \"person:LOGIN-NAME\" \
                         or \"person:ISSUER/SUBJECT\".",
                        namespace.name
                    ));
                }
            }
        }
    }
}

impl Guardrails {
    fn check(&self, has_namespaces: bool, problems: &mut Vec<String>) {
        match self.permissions_boundary.as_deref() {
            None if has_namespaces => problems.push(
                "[guardrails] permissions_boundary is missing\nGive the ARN of the policy that bounds every created \
                 user, or write permissions_boundary = \"none\" to do without."
                    .to_owned(),
            ),
            Some(text) if text != "none" && !is_policy_arn(text) => {
                problems.push(format!("[guardrails] permissions_boundary: {text:?} is not the ARN of a managed policy"));
            }
            _ => {}
        }
        for arn in self.policies.iter().filter(|arn| !is_policy_arn(arn)) {
            problems.push(format!(
                "[guardrails] policies: {arn:?} is not the ARN of a managed policy\nA pattern can't be given: list each \
                 policy that may be attached, such as \"arn:aws:iam::aws:policy/ReadOnlyAccess\"."
            ));
        }
        let is_group =
            |arn: &str| iam_arn(arn, "group/").is_some_and(|(account, _)| AccountId::parse(account).is_ok());
        for arn in self.groups.iter().flatten().filter(|arn| !is_group(arn)) {
            problems.push(format!(
                "[guardrails] groups: {arn:?} is not the ARN of an IAM group\nA pattern can't be given: list each group, such as \
                 \"arn:aws:iam::123456789012:group/staff\"."
            ));
        }
        for role in &self.roles {
            if role_parts(&role.arn).is_none() {
                problems.push(format!("[[guardrails.role]] arn: {:?} is not the ARN of a role", role.arn));
            }
            if role.max_seconds.is_some_and(|s| !(900..=LONGEST_ROLE_SECONDS).contains(&s)) {
                problems
                    .push(format!("[[guardrails.role]] {:?}: max_seconds must be 900 to 43200", role.arn));
            }
            // STS API reference, AssumeRole: ExternalId is 2 to 1224 of [\w+=,.@:\/-].
            let allowed = |c: char| c.is_ascii_alphanumeric() || "_+=,.@:/-".contains(c);
            let fits = |id: &str| (2..=1224).contains(&id.len()) && id.chars().all(allowed);
            if role.external_id.as_deref().is_some_and(|id| !fits(id)) {
                problems.push(format!(
                    "[[guardrails.role]] {:?}: external_id must be 2 to 1224 letters, digits and _+=,.@:/-",
                    role.arn
                ));
            }
        }
        for (what, seconds, most) in [
            ("max_user_seconds", self.max_user_seconds, LONGEST_USER_SECONDS),
            ("max_role_seconds", self.max_role_seconds, LONGEST_ROLE_SECONDS),
        ] {
            if !(900..=most).contains(&seconds) {
                problems.push(format!("[guardrails] {what} is {seconds}; STS gives 900 to {most} seconds"));
            }
        }
        for entry in self.protected.iter().filter(|entry| Protected::parse(entry).is_none()) {
            problems.push(format!("[guardrails] protected: {entry:?} is no user name, user ARN or role ARN"));
        }
    }
}

/// An owner of a namespace, folded.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Owner {
    /// By name, DN or `issuer/id`.
    Group(String),
    /// By login name.
    Name(String),
    /// By `issuer/subject`, exactly.
    Person(String),
}

impl Owner {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (kind, name) = text.split_once(':')?;
        let folded = fold(name);
        match kind.trim() {
            _ if folded.is_empty() => None,
            "group" => Some(Self::Group(fold_group(name))),
            "person" if name.contains('/') => Some(Self::Person(name.trim().to_owned())),
            "person" => Some(Self::Name(folded)),
            _ => None,
        }
    }
}

/// A protected user or role.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Protected {
    /// A user by its name, folded.
    User(String),
    /// A role by account and name, the name folded: an assumed role's ARN has no path.
    Role { account: String, name: String },
    /// The account's root user, which is no IAM user that anything could be done to.
    Root,
}

impl Protected {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if !text.starts_with("arn:") {
            let name = iam_sorry_core::names::UserName::parse(text).ok()?;
            return Some(Self::User(name.as_str().to_ascii_lowercase()));
        }
        let caller = CallerArn::parse(text).ok()?;
        match caller.principal {
            Principal::User(name) => Some(Self::User(name.as_str().to_ascii_lowercase())),
            Principal::AssumedRole(role, _) => {
                Some(Self::Role { account: caller.account, name: role.to_ascii_lowercase() })
            }
            Principal::Root => Some(Self::Root),
            Principal::Other(_) => {
                let (account, name) = role_parts(text)?;
                Some(Self::Role { account: account.to_owned(), name: name.to_ascii_lowercase() })
            }
        }
    }
}

/// Account and name (without its path) of `arn:PARTITION:iam::ACCOUNT:role/PATH/NAME`.
pub(crate) fn role_parts(arn: &str) -> Option<(&str, &str)> {
    let (account, path) = iam_arn(arn, "role/")?;
    AccountId::parse(account).ok()?;
    Some((account, path.rsplit('/').next()?))
}

fn is_policy_arn(arn: &str) -> bool {
    PolicyArn::parse(arn).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> RuleSettings {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn a_good_configuration() {
        let good = settings(
            r#"
            [[namespace]]
            name = "Dirk"
            owners = ["group:Lab Dirk", "person:alice", "person:corp/5F0C"]
            [[namespace]]
            name = "class"
            path = "/teaching/class/"
            [guardrails]
            permissions_boundary = "arn:aws:iam::123456789012:policy/boundary"
            policies = ["arn:aws:iam::aws:policy/ReadOnlyAccess", "arn:aws-cn:iam::123456789012:policy/a/b"]
            max_user_seconds = 43200
            protected = ["root-manager", "arn:aws:iam::123456789012:user/ops/deployer"]
            [[guardrails.role]]
            arn = "arn:aws:iam::123456789012:role/science/Analysis"
            external_id = "dept-1"
            "#,
        );
        assert_eq!(good.check(), Ok(()));
        assert_eq!(good.namespaces[0].path(), "/iam-sorry/dirk/");
        assert_eq!(good.namespaces[1].path(), "/teaching/class/");
        assert!(good.guardrails.role("arn:aws:iam::123456789012:role/science/Analysis").is_some());
        assert!(good.guardrails.role("arn:aws:iam::123456789012:role/science/analysis").is_none());
    }

    #[test]
    fn every_mistake_is_told() {
        let bad = settings(
            r#"
            [[namespace]]
            name = "dirk-*"
            [[namespace]]
            name = "Lab"
            path = "/a/../b/"
            owners = ["everybody", "group: "]
            [[namespace]]
            name = "lab"
            [guardrails]
            policies = ["arn:aws:iam::aws:policy/*", "ReadOnlyAccess"]
            max_user_seconds = 200000
            max_role_seconds = 0
            protected = ["a b"]
            [[guardrails.role]]
            arn = "arn:aws:iam::1:role/x"
            max_seconds = 60
            external_id = "a b"
            "#,
        );
        let problems = bad.check().unwrap_err();
        assert_eq!(problems.len(), 14, "{problems:#?}");
    }

    #[test]
    fn unknown_settings_are_refused() {
        for text in ["[guardrails]\npolicy = []", "[[namespace]]\nname = \"a\"\nowner = []", "x = 1"] {
            assert!(toml::from_str::<RuleSettings>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_protected() {
        let role = Protected::Role { account: "123456789012".into(), name: "service".into() };
        for (text, expected) in [
            ("Ops", Some(Protected::User("ops".into()))),
            ("arn:aws:iam::123456789012:user/a/Ops", Some(Protected::User("ops".into()))),
            ("arn:aws:iam::123456789012:role/x/Service", Some(role.clone())),
            ("arn:aws:sts::123456789012:assumed-role/Service/i-1", Some(role)),
            ("arn:aws:iam::123456789012:root", Some(Protected::Root)),
            ("arn:aws:s3:::bucket", None),
            ("a b", None),
        ] {
            assert_eq!(Protected::parse(text), expected, "{text}");
        }
    }
}
