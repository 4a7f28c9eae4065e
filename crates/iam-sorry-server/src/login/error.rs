//! What goes wrong at a sign-in, and with its settings.

/// A setting that can't work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {what}")]
pub struct SettingsError {
    setting: String,
    what: String,
}

impl SettingsError {
    pub(crate) fn new(setting: &str, what: &str) -> Self {
        Self { setting: setting.to_owned(), what: what.to_owned() }
    }
}

/// Why a sign-in proved nobody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// They are not who they claim to be, or may not sign in. The person learns that much and no more.
    #[error("{0}")]
    Refused(RejectReason),
    /// The directory or provider gave no answer, so nobody knows. For the log.
    #[error("the directory can't be reached: {0}")]
    Unavailable(String),
    /// What was found makes no sense: the operator has to correct it. For the log.
    #[error("{0}")]
    Broken(String),
}

/// Why a sign-in was refused: for the audit trail, never for the person, who could be somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RejectReason {
    /// No such person.
    #[error("unknown-person")]
    UnknownPerson,
    /// What was typed can't be a name.
    #[error("impossible-name")]
    ImpossibleName,
    /// The name, or the key, is that of several people.
    #[error("several-people")]
    SeveralPeople,
    /// The directory refuses the password.
    #[error("wrong-password")]
    WrongPassword,
    /// There was no password, or one that is never sent to a directory.
    #[error("empty-password")]
    EmptyPassword,
    /// The account is disabled.
    #[error("disabled")]
    Disabled,
    /// The account is locked.
    #[error("locked")]
    Locked,
    /// The account has expired.
    #[error("expired")]
    Expired,
    /// The password has expired, or must be changed first.
    #[error("password-expired")]
    PasswordExpired,
    /// More groups than can be followed: with some of them missing, a rule that forbids could be missed.
    #[error("too-many-groups")]
    TooManyGroups,
    /// The challenge is unknown, used, too old, or was given to somebody else.
    #[error("no-such-challenge")]
    Challenge,
    /// The signature is not that key's over that challenge and the service's origin.
    #[error("wrong-signature")]
    Signature,
    /// The key belongs to nobody, or not to the person who was named.
    #[error("unknown-key")]
    UnknownKey,
    /// The key was registered without a signature by it, so nobody knows whose it is.
    #[error("unproved-key")]
    UnprovedKey,
    /// The link was used, is too old, or never existed.
    #[error("no-such-link")]
    Link,
    /// Tried too often.
    #[error("too-often")]
    TooOften,
}
