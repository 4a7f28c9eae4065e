//! What things are called: IAM users, namespaces, ARNs, partitions, session durations.

use std::fmt;

/// A name, ARN or duration that is not of its form; the text says what the form is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidName(pub String);

/// An IAM user name: 1 to 64 of letters, digits and `+=,.@_-` (IAM API reference, CreateUser). Two names that differ
/// only in case are the same user to IAM, so they compare equal here.
#[derive(Clone, Debug)]
pub struct UserName(String);

impl UserName {
    /// # Errors
    /// [`InvalidName`] where IAM would never have accepted the name.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "+=,.@_-".contains(c);
        if (1..=64).contains(&text.len()) && text.chars().all(allowed) {
            return Ok(Self(text.to_owned()));
        }
        Err(InvalidName(format!(
            "{text:?} can't be an IAM user name: 1 to 64 letters, digits and any of + = , . @ _ - are allowed"
        )))
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// In lower case: the same text for every spelling of the same user.
    pub fn folded(&self) -> String {
        self.0.to_ascii_lowercase()
    }
}

impl PartialEq for UserName {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}
impl Eq for UserName {}

impl std::hash::Hash for UserName {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.folded().hash(state);
    }
}

impl Ord for UserName {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.folded().cmp(&other.folded())
    }
}

impl PartialOrd for UserName {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl std::str::FromStr for UserName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        Self::parse(text)
    }
}

impl serde::Serialize for UserName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for UserName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The users that a manager is for: `dirk` means the user `dirk` and every `dirk-...`. What IAM allows is decided by the
/// policy that [`Namespace::patterns`] goes into; the name alone protects nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace(UserName);

impl Namespace {
    /// A prefix without wildcards, so that it can't widen the policy it goes into.
    ///
    /// # Errors
    /// [`InvalidName`] where no user name could begin with it, or where it ends in `-`.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        match UserName::parse(text) {
            // "-x" must still fit behind it.
            Ok(name) if text.len() <= 62 && !text.ends_with('-') && !text.starts_with('-') => Ok(Self(name)),
            _ => Err(InvalidName(format!(
                "{text:?} can't be a namespace: give what stands before the hyphen, such as dirk for dirk and dirk-*"
            ))),
        }
    }

    /// The namespace of a manager that is called after it: `dirk` for `dirk-iam-sorry`. The original took what stands
    /// before the first hyphen; a name without one has no namespace.
    pub fn of_manager(manager: &UserName) -> Option<Self> {
        let (prefix, _) = manager.as_str().split_once('-')?;
        Self::parse(prefix).ok()
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Whether the user is in it. IAM's names are unique without regard to case, so it has none here.
    pub fn contains(&self, user: &UserName) -> bool {
        let prefix = self.as_str();
        user.as_str().get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
            && matches!(user.as_str().as_bytes().get(prefix.len()), None | Some(b'-'))
    }

    /// The two patterns of a policy's resources: `dirk`, `dirk-*`.
    pub fn patterns(&self) -> Vec<String> {
        vec![self.to_string(), format!("{self}-*")]
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The principal behind a set of credentials, as sts:GetCallerIdentity tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallerArn {
    /// `aws`, `aws-cn`, `aws-us-gov`, ...
    pub partition: String,
    /// The twelve-digit account number.
    pub account: String,
    /// What is calling.
    pub principal: Principal,
}

/// The resource part of a caller's ARN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Principal {
    /// The account's root user.
    Root,
    /// An IAM user; the path is left off.
    User(UserName),
    /// An assumed role: role name and session name.
    AssumedRole(String, String),
    /// Anything else (federated users, ...), as it was written.
    Other(String),
}

impl CallerArn {
    /// Reads `arn:PARTITION:iam::ACCOUNT:user/PATH/NAME` and its relatives.
    ///
    /// # Errors
    /// [`InvalidName`] where the text is no ARN of IAM or STS.
    pub fn parse(arn: &str) -> Result<Self, InvalidName> {
        let invalid = || InvalidName(format!("{arn:?} is not the ARN of a caller"));
        let parts: Vec<&str> = arn.splitn(6, ':').collect();
        let ["arn", partition, "iam" | "sts", _, account, resource] = parts[..] else {
            return Err(invalid());
        };
        let principal = if resource == "root" {
            Principal::Root
        } else if let Some(path) = resource.strip_prefix("user/") {
            Principal::User(UserName::parse(path.rsplit('/').next().unwrap_or(path))?)
        } else if let Some((role, session)) =
            resource.strip_prefix("assumed-role/").and_then(|r| r.split_once('/'))
        {
            Principal::AssumedRole(role.to_owned(), session.to_owned())
        } else {
            Principal::Other(resource.to_owned())
        };
        Ok(Self { partition: partition.to_owned(), account: account.to_owned(), principal })
    }

    /// The IAM user's name, where the caller is one.
    pub fn user(&self) -> Option<&UserName> {
        match &self.principal {
            Principal::User(name) => Some(name),
            _ => None,
        }
    }
}

/// How long a session shall last: 15 minutes to 36 hours (STS API reference, GetSessionToken).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionDuration {
    seconds: u32,
}

impl SessionDuration {
    /// The default: 36 hours, the most that GetSessionToken gives.
    pub const MAX: Self = Self { seconds: 36 * 3600 };
    /// One hour.
    pub const HOUR: Self = Self { seconds: 3600 };

    /// Reads `12` (hours), `12h` or `90m`.
    ///
    /// # Errors
    /// [`InvalidName`] for anything else, and for durations under 15 minutes or over 36 hours.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let (number, unit) = match text.strip_suffix('m') {
            Some(minutes) => (minutes, 60),
            None => (text.strip_suffix('h').unwrap_or(text), 3600),
        };
        let whole = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
        if !whole {
            return Err(InvalidName(format!(
                "{text:?} is not a duration: give whole hours (12 or 12h, 1 to 36) or minutes (90m)"
            )));
        }
        let seconds = number.parse::<u64>().unwrap_or(u64::MAX).saturating_mul(unit);
        if seconds > 36 * 3600 {
            return Err(InvalidName("Duration cannot exceed 36 hours".into()));
        }
        if seconds < 900 || (unit == 3600 && seconds < 3600) {
            return Err(InvalidName("Duration must be at least 1 hour (or 15m)".into()));
        }
        Ok(Self { seconds: u32::try_from(seconds).unwrap_or(36 * 3600) })
    }

    /// From seconds.
    ///
    /// # Errors
    /// [`InvalidName`] under 15 minutes and over 36 hours.
    pub fn from_seconds(seconds: u32) -> Result<Self, InvalidName> {
        if (900..=36 * 3600).contains(&seconds) {
            return Ok(Self { seconds });
        }
        Err(InvalidName(format!(
            "{seconds} seconds can't be a session's duration: 900 to 129600 are allowed"
        )))
    }

    /// In seconds, as STS wants it: 900 to 129,600.
    pub fn seconds(self) -> u32 {
        self.seconds
    }
}

impl fmt::Display for SessionDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.seconds % 3600, self.seconds / 3600) {
            (0, 1) => write!(f, "1 hour"),
            (0, hours) => write!(f, "{hours} hours"),
            _ => write!(f, "{} minutes", self.seconds / 60),
        }
    }
}

/// The partition that a region belongs to, by the prefix of its name.
pub fn partition_of_region(region: &str) -> &'static str {
    const PREFIXES: [(&str, &str); 7] = [
        ("cn-", "aws-cn"),
        ("us-gov-", "aws-us-gov"),
        ("us-iso-", "aws-iso"),
        ("us-isob-", "aws-iso-b"),
        ("eu-isoe-", "aws-iso-e"),
        ("us-isof-", "aws-iso-f"),
        ("eusc-", "aws-eusc"),
    ];
    PREFIXES.iter().find(|(prefix, _)| region.starts_with(prefix)).map_or("aws", |(_, partition)| partition)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, seconds) in [("1", 3600), ("36", 129_600), ("12h", 43_200), ("90m", 5400), ("15m", 900)] {
            assert_eq!(SessionDuration::parse(text).map(SessionDuration::seconds), Ok(seconds), "{text}");
        }
        for text in
            ["0", "37", "-1", "abc", "1e9", "", "h", "14m", "2161m", "1.5", " 1", "99999999999999999999"]
        {
            assert!(SessionDuration::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn user_names_are_iams() {
        for good in ["a", "dirk-admin", "a.b@c_d+e=f,g", "A1"] {
            assert!(UserName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "a b", "a/b", "a*", "ü", "a\nb", "a'b", &"x".repeat(65)] {
            assert!(UserName::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(UserName::parse("Alice"), UserName::parse("aLICE"));
    }

    #[test]
    fn a_namespace_ends_at_a_hyphen() {
        let dirk = Namespace::parse("dirk").unwrap();
        for (user, inside) in [
            ("dirk", true),
            ("Dirk-admin", true),
            ("dirk-a-b", true),
            ("dirks", false),
            ("dir", false),
            ("x-dirk", false),
        ] {
            assert_eq!(dirk.contains(&UserName::parse(user).unwrap()), inside, "{user}");
        }
        for bad in ["", "*", "dirk*", "dirk-", "-", "a/b", "di rk", &"x".repeat(63)] {
            assert!(Namespace::parse(bad).is_err(), "{bad}");
        }
        let of = |name: &str| Namespace::of_manager(&UserName::parse(name).unwrap());
        assert_eq!(of("dirk-iam-sorry"), Some(dirk));
        assert_eq!(of("usermanager"), None);
        assert_eq!(of("-admin"), None);
    }

    proptest::proptest! {
        /// Names that are one user are one key of a map, however they are spelled.
        #[test]
        fn spellings_of_one_user(one in "[aAbB]{1,2}", two in "[aAbB]{1,2}") {
            use std::hash::{BuildHasher, RandomState};
            let hasher = RandomState::new();
            let (one, two) = (UserName::parse(&one).unwrap(), UserName::parse(&two).unwrap());
            proptest::prop_assert_eq!(one == two, one.cmp(&two) == std::cmp::Ordering::Equal);
            proptest::prop_assert_eq!(one == two, one.folded() == two.folded());
            proptest::prop_assert_eq!(one == two, hasher.hash_one(&one) == hasher.hash_one(&two));
        }

        /// What the client believes and what the policy says are the same.
        #[test]
        fn a_namespace_is_its_patterns(prefix in "[a-z.]{1,4}", user in "[a-z.-]{1,8}") {
            let (namespace, user) = (Namespace::parse(&prefix).unwrap(), UserName::parse(&user).unwrap());
            let by_pattern = namespace.patterns().iter().any(|pattern| match pattern.strip_suffix('*') {
                Some(start) => user.as_str().starts_with(start),
                None => user.as_str() == pattern,
            });
            proptest::prop_assert_eq!(namespace.contains(&user), by_pattern);
        }
    }

    #[test]
    fn callers() {
        let caller = CallerArn::parse("arn:aws-cn:iam::123456789012:user/a/b/alice").unwrap();
        assert_eq!(caller.partition, "aws-cn");
        assert_eq!(caller.user(), Some(&UserName::parse("alice").unwrap()));
        let role = CallerArn::parse("arn:aws:sts::123456789012:assumed-role/Admin/me").unwrap();
        assert_eq!(role.principal, Principal::AssumedRole("Admin".into(), "me".into()));
        assert_eq!(CallerArn::parse("arn:aws:iam::1:root").unwrap().principal, Principal::Root);
        assert!(CallerArn::parse("arn:aws:s3:::bucket").is_err());
    }

    #[test]
    fn partitions() {
        for (region, partition) in [
            ("us-east-1", "aws"),
            ("cn-north-1", "aws-cn"),
            ("us-gov-west-1", "aws-us-gov"),
            ("us-isob-east-1", "aws-iso-b"),
            ("us-iso-east-1", "aws-iso"),
        ] {
            assert_eq!(partition_of_region(region), partition);
        }
    }
}
