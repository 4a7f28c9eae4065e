//! Typed ids: a text that was read once and has its form from then on. Each is written in JSON as the text that it is, and
//! is read back only if it has the form, so that no function takes a person for a user or an operation for a session.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::names::{InvalidName, UserName};

/// What every id can do: parsed from text, displayed, compared and sorted as text, transparent in JSON.
macro_rules! text_id {
    ($(#[$meta:meta])* $name:ident, $what:literal, $form:literal, $fits:expr) => {
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        $(#[$meta])*
        pub struct $name(String);

        impl $name {
            /// # Errors
            #[doc = concat!("[`InvalidName`] unless the text is ", $form, ".")]
            pub fn parse(text: &str) -> Result<Self, InvalidName> {
                let fits: fn(&str) -> bool = $fits;
                if fits(text) {
                    return Ok(Self(text.to_owned()));
                }
                Err(InvalidName(format!(concat!("{:?} can't be ", $what, ": give ", $form), shortened(text))))
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::parse(text)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl PartialEq<str> for $name {
            fn eq(&self, other: &str) -> bool {
                self.0 == other
            }
        }

        impl PartialEq<&str> for $name {
            fn eq(&self, other: &&str) -> bool {
                self.0 == *other
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = Cow::<str>::deserialize(deserializer)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

/// As much of a text as an error repeats.
fn shortened(text: &str) -> Cow<'_, str> {
    const MOST: usize = 200;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => Cow::Owned(format!("{}...", text.get(..end).unwrap_or_default())),
        None => Cow::Borrowed(text),
    }
}

/// 1 to `most` of ASCII letters, digits and `more`.
fn of(text: &str, most: usize, more: &str) -> bool {
    (1..=most).contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric() || more.contains(c))
}

text_id! {
    /// One operation of the service, from its intent to its outcome. It is in the audit trail, and a tag on whatever the
    /// operation made at AWS.
    OperationId, "an operation's id", "1 to 64 letters, digits, - and _", |text| of(text, 64, "-_")
}

text_id! {
    /// A session of the service, not of AWS. It names the session in lists and is no secret.
    SessionId, "a session's id", "1 to 64 letters, digits, - and _", |text| of(text, 64, "-_")
}

text_id! {
    /// A person: `ISSUER/SUBJECT`. The issuer is the name of the directory or provider in the configuration and has no
    /// slash; the subject is the issuer's stable name for the person and may have one.
    PersonId, "a person", "ISSUER/SUBJECT, such as corp/5f0c-alice", |text| {
        text.split_once('/').is_some_and(|(issuer, subject)| !issuer.is_empty() && !subject.is_empty())
            && !text.chars().any(char::is_control)
    }
}

impl PersonId {
    /// From its two halves.
    ///
    /// # Errors
    /// [`InvalidName`] if one of them is empty or has control characters, or the issuer has a slash.
    pub fn new(issuer: &str, subject: &str) -> Result<Self, InvalidName> {
        match issuer.contains('/') {
            true => Err(InvalidName(format!("{issuer:?} can't be an issuer: its name must have no slash"))),
            false => Self::parse(&format!("{issuer}/{subject}")),
        }
    }

    /// Who vouches for the person.
    pub fn issuer(&self) -> &str {
        self.0.split_once('/').map_or("", |(issuer, _)| issuer)
    }

    /// The issuer's stable name for the person.
    pub fn subject(&self) -> &str {
        self.0.split_once('/').map_or("", |(_, subject)| subject)
    }
}

text_id! {
    /// `AKIA...` of a permanent key or `ASIA...` of a session's. IAM's are 16 to 128 long (API reference, AccessKey);
    /// those of test endpoints may be shorter, and a key that an endpoint made must never be without a name here.
    AccessKeyId, "an access key ID", "1 to 128 letters, digits and _, such as AKIAIOSFODNN7EXAMPLE", |text| of(text, 128, "_")
}

text_id! {
    /// The ARN of a managed policy: `arn:PARTITION:iam::ACCOUNT:policy/PATH/NAME`, where the account of AWS's own policies is
    /// `aws`. Nothing in it can be a pattern.
    #[cfg_attr(feature = "openapi", schema(
        pattern = "^arn:aws[a-z-]*:iam::([0-9]{12}|aws):policy/[A-Za-z0-9+=,.@_/-]{1,640}$",
        example = "arn:aws:iam::aws:policy/ReadOnlyAccess"
    ))]
    PolicyArn, "the ARN of a managed policy", "one such as arn:aws:iam::aws:policy/ReadOnlyAccess", |text| {
        text.len() <= 2048
            && iam_arn(text, "policy/").is_some_and(|(account, _)| account == "aws" || is_account_id(account))
    }
}

impl PolicyArn {
    /// The account whose policy it is; none of AWS's own policies.
    pub fn account(&self) -> Option<AccountId> {
        let (account, _) = iam_arn(&self.0, "policy/")?;
        AccountId::parse(account).ok()
    }

    /// The policy's name, without its path.
    pub fn name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }
}

text_id! {
    /// The twelve digits of an AWS account.
    #[cfg_attr(feature = "openapi", schema(pattern = "^[0-9]{12}$", example = "123456789012"))]
    AccountId, "an AWS account's number", "twelve digits, such as 123456789012", is_account_id
}

fn is_account_id(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit())
}

/// The account, and what stands behind `kind` (such as `policy/`), in an IAM ARN in which no character could be a pattern.
pub fn iam_arn<'a>(arn: &'a str, kind: &str) -> Option<(&'a str, &'a str)> {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let ["arn", partition, "iam", "", account, resource] = parts[..] else { return None };
    let path = resource.strip_prefix(kind)?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || "+=,.@_-/".contains(c);
    let whole = !partition.is_empty()
        && partition.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')
        && path.split('/').all(|segment| !matches!(segment, "" | "." | ".."))
        && path.chars().all(allowed);
    whole.then_some((account, path))
}

text_id! {
    /// What the department calls one of its AWS accounts. It never changes, since rows and records have it. A hyphen in front
    /// would make an option of `ACCOUNT/NAME` on a command line.
    #[cfg_attr(feature = "openapi", schema(pattern = "^[a-z0-9][a-z0-9-]{0,31}$", example = "physics"))]
    AccountName, "an account's name", "1 to 32 lower-case letters, digits and -, and no - in front", |text| {
        (1..=32).contains(&text.len())
            && !text.starts_with('-')
            && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    }
}

impl Default for AccountName {
    /// `default`: the only account of a configuration that names none, and the account of everything that was stored before
    /// accounts had names.
    fn default() -> Self {
        Self("default".to_owned())
    }
}

/// An IAM user: its account and its name. The same name in two accounts is two users; names in one account are compared
/// without regard to case, as [`UserName`] does.
///
/// In JSON it is `ACCOUNT/NAME`, or a bare `NAME` in the account `default`: what was stored before accounts had names is read,
/// and written as it was.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserRef {
    /// The account.
    pub account: AccountName,
    /// The user's name in it.
    pub name: UserName,
}

impl UserRef {
    /// From its two halves.
    pub fn new(account: AccountName, name: UserName) -> Self {
        Self { account, name }
    }

    /// `ACCOUNT/NAME`, or a bare `NAME`, which is one of `default`.
    ///
    /// # Errors
    /// [`InvalidName`] for an account or a user that can't have such a name.
    pub fn parse_in(text: &str, default: &AccountName) -> Result<Self, InvalidName> {
        let UserSelector { account, name } = UserSelector::parse(text)?;
        Ok(Self { account: account.unwrap_or_else(|| default.clone()), name })
    }

    /// As people write it where `default` is the account that goes without saying: the bare name of a user in it,
    /// `ACCOUNT/NAME` of any other.
    pub fn short(&self, default: &AccountName) -> String {
        if &self.account == default { self.name.to_string() } else { self.to_string() }
    }
}

impl fmt::Display for UserRef {
    /// Always with the account: `archive/lab-weber-robot`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.account, self.name)
    }
}

impl fmt::Debug for UserRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

#[cfg(feature = "openapi")]
impl utoipa::PartialSchema for UserRef {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        use utoipa::openapi::schema::{ObjectBuilder, Type};
        let pattern = r"^([a-z0-9][a-z0-9-]{0,31}/)?[A-Za-z0-9+=,.@_-]{1,64}$";
        ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern)).into()
    }
}

#[cfg(feature = "openapi")]
impl utoipa::ToSchema for UserRef {}

impl Serialize for UserRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.short(&AccountName::default()))
    }
}

impl<'de> Deserialize<'de> for UserRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        Self::parse_in(&text, &AccountName::default()).map_err(serde::de::Error::custom)
    }
}

/// A user as somebody types it: `NAME`, or `ACCOUNT/NAME`. Which account a bare name is in, the service decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserSelector {
    /// The account, if it was given.
    pub account: Option<AccountName>,
    /// The user's name.
    pub name: UserName,
}

impl UserSelector {
    /// # Errors
    /// [`InvalidName`] for an account or a user that can't have such a name.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        // No user name has a slash.
        match text.split_once('/') {
            Some((account, name)) => {
                Ok(Self { account: Some(AccountName::parse(account)?), name: UserName::parse(name)? })
            }
            None => Ok(Self { account: None, name: UserName::parse(text)? }),
        }
    }
}

impl FromStr for UserSelector {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        Self::parse(text)
    }
}

impl From<UserRef> for UserSelector {
    fn from(user: UserRef) -> Self {
        Self { account: Some(user.account), name: user.name }
    }
}

impl fmt::Display for UserSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.account {
            Some(account) => write!(f, "{account}/{}", self.name),
            None => self.name.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_an_id_and_what_is_not() {
        let long = "x".repeat(65);
        for (good, text) in [
            (OperationId::parse("0f3c").is_ok(), "operation"),
            (SessionId::parse("a-b_C9").is_ok(), "session"),
            (PersonId::parse("corp/5f0c").is_ok(), "person"),
            (PersonId::parse("corp/ou=a/b c").is_ok(), "a subject of any form"),
            (AccessKeyId::parse("AKIAIOSFODNN7EXAMPLE").is_ok(), "key"),
            (AccountId::parse("123456789012").is_ok(), "account id"),
            (AccountName::parse("lab-2").is_ok(), "account name"),
            (AccountName::parse(&"a".repeat(32)).is_ok(), "long account name"),
            (PolicyArn::parse("arn:aws-cn:iam::123456789012:policy/a/b").is_ok(), "policy"),
        ] {
            assert!(good, "{text}");
        }
        for (bad, text) in [
            (OperationId::parse("").is_err(), "empty"),
            (OperationId::parse(&long).is_err(), "too long"),
            (OperationId::parse("a b").is_err(), "space"),
            (SessionId::parse("a/b").is_err(), "slash"),
            (PersonId::parse("alice").is_err(), "no issuer"),
            (PersonId::parse("/alice").is_err(), "empty issuer"),
            (PersonId::parse("corp/").is_err(), "empty subject"),
            (PersonId::parse("corp/a\nb").is_err(), "control character"),
            (PersonId::new("a/b", "c").is_err(), "issuer with a slash"),
            (AccessKeyId::parse("AKIA-1").is_err(), "hyphen"),
            (AccessKeyId::parse(&"A".repeat(129)).is_err(), "long"),
            (AccountId::parse("12345678901").is_err(), "eleven digits"),
            (AccountId::parse("١٢٣٤٥٦٧٨٩٠١٢").is_err(), "other digits"),
            (AccountName::parse("Lab").is_err(), "capital"),
            (AccountName::parse("a/b").is_err(), "slash"),
            (AccountName::parse("-a").is_err(), "hyphen in front"),
            (AccountName::parse(&"a".repeat(33)).is_err(), "33"),
            (PolicyArn::parse("arn:aws:iam::aws:policy/*").is_err(), "pattern"),
            (PolicyArn::parse("arn:aws:iam::aws:policy/../x").is_err(), "dots"),
            (PolicyArn::parse("arn:aws:iam::aws:role/x").is_err(), "role"),
            (PolicyArn::parse("ReadOnlyAccess").is_err(), "bare name"),
        ] {
            assert!(bad, "{text}");
        }
    }

    #[test]
    fn an_error_names_the_form_and_repeats_little() {
        let InvalidName(text) = AccountName::parse(&"Ü".repeat(10_000)).unwrap_err();
        assert!(text.contains("1 to 32 lower-case letters") && text.len() < 1_000, "{text}");
    }

    #[test]
    fn parts() {
        let person = PersonId::new("corp", "a/b").unwrap();
        assert_eq!((person.issuer(), person.subject()), ("corp", "a/b"));
        let own = PolicyArn::parse("arn:aws:iam::123456789012:policy/a/Boundary").unwrap();
        assert_eq!((own.name(), own.account()), ("Boundary", AccountId::parse("123456789012").ok()));
        let aws = PolicyArn::parse("arn:aws:iam::aws:policy/ReadOnlyAccess").unwrap();
        assert_eq!((aws.name(), aws.account()), ("ReadOnlyAccess", None));
    }

    #[test]
    fn a_user_is_its_account_and_its_name() {
        let (first, archive) = (AccountName::default(), AccountName::parse("archive").unwrap());
        let robot = UserRef::parse_in("archive/Lab-Robot", &first).unwrap();
        assert_eq!(
            (robot.to_string().as_str(), robot.short(&archive).as_str()),
            ("archive/Lab-Robot", "Lab-Robot")
        );
        assert_eq!(robot.short(&first), "archive/Lab-Robot");
        assert_eq!(robot, UserRef::parse_in("lab-robot", &archive).unwrap());
        assert_ne!(robot, UserRef::parse_in("Lab-Robot", &first).unwrap());
        for bad in ["", "/", "a/", "/a", "A/b", "a/b/c", "a/b c"] {
            assert!(UserSelector::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn in_json_an_id_is_its_text() {
        let user: UserRef = serde_json::from_str(r#""lab-anna""#).unwrap();
        assert_eq!(serde_json::from_str::<UserRef>(r#""default/lab-anna""#).unwrap(), user);
        assert_eq!(serde_json::to_string(&user).unwrap(), r#""lab-anna""#);
        let elsewhere: UserRef = serde_json::from_str(r#""archive/Lab""#).unwrap();
        assert_eq!(serde_json::to_string(&elsewhere).unwrap(), r#""archive/Lab""#);
        assert!(serde_json::from_str::<UserRef>(r#""a/b/c""#).is_err());
        // Escaped, so that it can't be borrowed from the input.
        let id: OperationId = serde_json::from_str(r#""op\u0031""#).unwrap();
        assert_eq!(id, "op1");
        assert!(serde_json::from_str::<OperationId>(r#""op 1""#).is_err());
        assert!(serde_json::from_str::<OperationId>("1").is_err());
    }

    /// Whatever is accepted is the text as it was, in JSON too.
    fn is_transparent<T>(text: &str) -> Result<(), TestCaseError>
    where
        T: FromStr<Err = InvalidName>
            + fmt::Display
            + Serialize
            + for<'a> Deserialize<'a>
            + PartialEq
            + fmt::Debug,
    {
        let Ok(id) = text.parse::<T>() else { return Ok(()) };
        prop_assert_eq!(id.to_string(), text);
        let json = serde_json::to_string(&id).unwrap();
        prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        prop_assert_eq!(serde_json::from_str::<T>(&json).unwrap(), id);
        Ok(())
    }

    proptest! {
        #[test]
        fn ids_are_transparent(
            text in prop_oneof![
                any::<String>(), "[A-Za-z0-9_-]{1,70}", "[0-9]{11,13}", "[a-z0-9-]{1,34}", "[a-z]{0,3}/[a-z/ ]{0,4}",
                "arn:aws(-cn)?:iam::(aws|[0-9]{12}):policy(/[a-zA-Z.+-]{0,5}){1,3}",
            ],
        ) {
            is_transparent::<OperationId>(&text)?;
            is_transparent::<SessionId>(&text)?;
            is_transparent::<PersonId>(&text)?;
            is_transparent::<AccessKeyId>(&text)?;
            is_transparent::<PolicyArn>(&text)?;
            is_transparent::<AccountId>(&text)?;
            is_transparent::<AccountName>(&text)?;
        }

        /// What a user is called in full says the same whatever goes without saying, and two users never share it.
        #[test]
        fn users_keep_their_account(
            account in "[a-z0-9][a-z0-9-]{0,31}", other in "[a-z0-9][a-z0-9-]{0,31}", name in "[A-Za-z0-9+=,.@_-]{1,64}",
        ) {
            let (account, other) = (AccountName::parse(&account).unwrap(), AccountName::parse(&other).unwrap());
            let user = UserRef::new(account.clone(), UserName::parse(&name).unwrap());
            prop_assert_eq!(&UserRef::parse_in(&user.to_string(), &other).unwrap(), &user);
            prop_assert_eq!(&UserRef::parse_in(&user.short(&other), &other).unwrap(), &user);
            prop_assert_eq!(user.short(&account), name.clone());
            prop_assert_eq!(&serde_json::from_str::<UserRef>(&serde_json::to_string(&user).unwrap()).unwrap(), &user);
            let elsewhere = UserRef::new(other.clone(), UserName::parse(&name).unwrap());
            prop_assert_eq!(user == elsewhere, account == other);
        }

        /// An issuer and a subject are found again, and no other pair gives the same person.
        #[test]
        fn a_person_is_one_pair(issuer in "[a-z:.]{1,8}", subject in "[a-z/:=]{1,8}") {
            let person = PersonId::new(&issuer, &subject).unwrap();
            prop_assert_eq!((person.issuer(), person.subject()), (issuer.as_str(), subject.as_str()));
        }
    }
}
