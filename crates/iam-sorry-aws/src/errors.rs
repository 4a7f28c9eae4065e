//! What can go wrong with a request to AWS, as a person reads it: first what happened, then what to do next.
//!
//! No text holds a secret. [`crate::request_context`] turns the SDK's errors into these.

use std::fmt;
use std::path::PathBuf;

use iam_sorry_core::timestamp::{Timestamp, human_duration};

/// Why a request to AWS, or the work around it, came to nothing. `Display` is written for the user: the first line
/// says what happened, the lines after it what to do.
#[derive(Debug, thiserror::Error)]
pub enum AwsError {
    /// AWS understood the request and said no.
    #[error("AWS refused {action} ({code}): {message}{}{}", Request(.request_id), refusal_hint(.action, .code))]
    Refused {
        /// The IAM or STS action, such as `iam:CreateAccessKey`.
        action: &'static str,
        /// AWS's error code, such as `AccessDenied`.
        code: String,
        /// AWS's own words, cleaned.
        message: String,
        /// What AWS support asks for.
        request_id: Option<String>,
    },
    /// IAM knows no user of that name in this account.
    #[error(
        "IAM knows no user '{user}' in this account.\nCheck the name, and that the manager profile belongs to the \
         right account: aws iam get-user --user-name {user}"
    )]
    NoSuchUser {
        /// The name that was looked for.
        user: String,
    },
    /// The user already holds as many access keys as IAM allows (two; IAM quotas). None was touched.
    #[error("{}", key_limit(.user, .keys))]
    KeyLimit {
        /// The user.
        user: String,
        /// The keys that are in the way.
        keys: Vec<KeyFacts>,
    },
    /// AWS does not accept the access key at all: deleted, inactive, not valid yet, or of another partition.
    #[error("{}", invalid_key(.action, .key_id, .code))]
    InvalidKey {
        /// The action that was requested.
        action: &'static str,
        /// The access key ID; no secret.
        key_id: String,
        /// `InvalidClientTokenId`, or `SignatureDoesNotMatch` if the secret does not belong to the ID.
        code: String,
    },
    /// Temporary credentials whose time is over.
    #[error(
        "The temporary credentials {key_id} have expired.\nMake new ones: iam-sorry refresh NAME (with a manager \
         profile that holds a permanent key)"
    )]
    Expired {
        /// The access key ID of the expired set.
        key_id: String,
    },
    /// This machine's clock and AWS's are so far apart that AWS refuses the signatures (limit: 5 minutes).
    #[error("{}", clock_skew(*.local, *.server))]
    ClockSkew {
        /// This machine's time.
        local: Timestamp,
        /// AWS's time, from the `Date` header of its answer; `None` if the answer had none.
        server: Option<Timestamp>,
    },
    /// AWS limits the rate of requests, also after the SDK's retries.
    #[error(
        "AWS is limiting requests ({action}: {code}), also after retries.\nWait a minute and run the command again; \
         AWS_MAX_ATTEMPTS=10 makes it more patient."
    )]
    Throttled {
        /// The action that was requested.
        action: &'static str,
        /// AWS's error code.
        code: String,
    },
    /// No answer, or none that makes sense.
    #[error("Could not reach AWS for {action} at {endpoint}: {cause}{}", unreachable_hint(.cause))]
    Unreachable {
        /// The action that was requested.
        action: &'static str,
        /// Where it was sent.
        endpoint: String,
        /// What the network said.
        cause: String,
    },
    /// A plain-http endpoint that is not this machine: credentials and sessions would travel in the clear.
    #[error(
        "The endpoint {endpoint} is plain http and not on this machine: credentials would cross the network \
         unencrypted.\nUse an https:// address, or allow it explicitly with --allow-http."
    )]
    PlainHttp {
        /// The address as configured.
        endpoint: String,
    },
    /// A setting that can't work (endpoint, proxy, CA bundle, region).
    #[error("{0}")]
    Settings(String),
    /// The credentials work, but belong to somebody else.
    #[error(
        "These credentials belong to {found}, not to the IAM user '{expected}'. Nothing was written.\nCheck which \
         keys the profile holds: iam-sorry list"
    )]
    WrongIdentity {
        /// The user that was meant.
        expected: String,
        /// Who AWS says it is.
        found: String,
    },
    /// Another run took this one for dead and dealt with its new key.
    #[error(
        "Another run of iam-sorry took over the new access key {key_id} of IAM user '{user}' while this one stood still, and \
         may have deleted it. The old key was not touched.\nRun the command again."
    )]
    TakenOver {
        /// The user.
        user: String,
        /// The new key.
        key_id: String,
    },
    /// The session was made, its key deleted as planned, and then AWS did not accept the session.
    #[error(
        "AWS made a session for '{user}' but refused it once its access key was deleted: {}\nThe key is gone \
         and nothing was written. Run the command again; with --keep-key the key is kept, sealed, instead.",
        .cause.brief()
    )]
    SessionRefusedAfterDelete {
        /// The user.
        user: String,
        /// What AWS said.
        cause: Box<AwsError>,
    },
    /// AWS wants a code of the MFA device.
    #[error(
        "AWS wants a code from the MFA device for {action}.\nGive it with --mfa-code CODE, and the device's ARN as mfa_serial in the profile."
    )]
    MfaRequired {
        /// The action that was requested.
        action: &'static str,
    },
    /// The code of the MFA device is wrong or was used before.
    #[error(
        "AWS did not accept the MFA code for {serial}.\nWait for the device to show the next code (each works once), then run the command again."
    )]
    MfaWrong {
        /// Serial number or ARN of the device.
        serial: String,
    },
    /// The user wants to stop; every key made so far is deleted.
    #[error("Interrupted.")]
    Interrupted,
    /// The answer to CreateAccessKey was lost and AWS lists no new key: nothing was made, nothing is left.
    #[error(
        "The answer to iam:CreateAccessKey for '{user}' was lost ({}).\nIAM lists no new key, so none was made. Run the \
         command again.",
        .cause.brief()
    )]
    AnswerLost {
        /// The user.
        user: String,
        /// Why there was no answer.
        cause: Box<AwsError>,
    },
    /// The answer to CreateAccessKey was lost, and one or more keys may be the one that was requested. A person decides.
    #[error("The answer to iam:CreateAccessKey for '{}' was lost ({}). {found}", .found.user, .cause.brief())]
    KeyFound {
        /// The keys, and what was done about them.
        found: Box<KeysFound>,
        /// Why there was no answer.
        cause: Box<AwsError>,
        /// The journal entry.
        entry: PathBuf,
    },
    /// A key that this program made may still exist; its journal entry stays so that a later run finishes the job.
    #[error(
        "{cause}\nThe access key {} made for '{user}' may still exist{why}. It is written down in {}, and \
         the next iam-sorry command with this manager tries again; to do it now: iam-sorry doctor",
        .key_id.as_deref().unwrap_or("(its ID was never learnt)"), .entry.display()
    )]
    KeyLeft {
        /// The user whose key it is.
        user: String,
        /// The key, if its ID is known.
        key_id: Option<String>,
        /// What went wrong first.
        cause: Box<AwsError>,
        /// Why the delete failed, in brackets, if that is not the cause itself.
        why: String,
        /// The journal entry.
        entry: PathBuf,
    },
    /// The key to be replaced is not one of the user's.
    #[error(
        "The access key {key_id} is not one of IAM user '{user}'.\nSee the user's keys: aws iam list-access-keys --user-name {user}"
    )]
    NotTheirKey {
        /// The user.
        user: String,
        /// The key.
        key_id: String,
    },
    /// The new key is stored and works, but the old one is still there; the journal entry stays so that a later run
    /// finishes the job.
    #[error(
        "The new access key of '{user}' is stored and works, but the old one, {key_id}, could not be deleted yet: \
         {cause}\nThe next iam-sorry command with this manager tries again; to do it now: iam-sorry doctor"
    )]
    OldKeyLeft {
        /// The user.
        user: String,
        /// The old key.
        key_id: String,
        /// What stood in the way.
        cause: Box<AwsError>,
    },
    /// The journal of created keys could not be written or read; without it no key is made.
    #[error("The journal of access keys at {} could not be used: {source}\nWithout it no access key is made. Check the folder's owner, mode and free space: ls -ld {}", .path.display(), .path.display())]
    Journal {
        /// File or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// An answer of AWS that lacks what it must have.
    #[error(
        "The answer of {endpoint} to {action} makes no sense: {what}\nIf that is not an AWS endpoint of yours, check AWS_ENDPOINT_URL."
    )]
    BadAnswer {
        /// The action that was requested.
        action: &'static str,
        /// Who answered.
        endpoint: String,
        /// What is missing or wrong.
        what: String,
    },
}

impl AwsError {
    /// Whether AWS said that the caller lacks a permission.
    pub fn is_denied(&self) -> bool {
        matches!(self, Self::Refused { code, .. } if code.starts_with("AccessDenied"))
    }

    /// In a few words, for use inside another text.
    pub(crate) fn brief(&self) -> String {
        match self {
            Self::Unreachable { cause, .. } => cause.clone(),
            other => other.to_string().lines().next().unwrap_or_default().to_owned(),
        }
    }
}

/// What is known of one access key, to show to its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyFacts {
    /// Access key ID.
    pub id: String,
    /// `Active` or `Inactive`, as IAM says it.
    pub active: bool,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// When it was last used.
    pub last_used: LastUsed,
    /// Days since it was made, by this machine's clock.
    pub age_days: Option<i64>,
}

/// iam:GetAccessKeyLastUsed, in a word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LastUsed {
    /// No use on record.
    Never,
    /// The last use, and the service it was for.
    At(Timestamp, String),
    /// AWS did not say.
    Unknown,
}

impl fmt::Display for KeyFacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}  {}", self.id, if self.active { "active" } else { "inactive" })?;
        match (self.created, self.age_days) {
            (Some(at), Some(0)) => write!(f, ", made {at} (today)")?,
            (Some(at), Some(1)) => write!(f, ", made {at} (yesterday)")?,
            (Some(at), Some(days)) => write!(f, ", made {at} ({days} days ago)")?,
            (Some(at), None) => write!(f, ", made {at}")?,
            _ => {}
        }
        match &self.last_used {
            LastUsed::Never => write!(f, ", never used"),
            LastUsed::At(at, service) => write!(f, ", last used {at} for {service}"),
            LastUsed::Unknown => write!(f, ", last use unknown"),
        }
    }
}

/// Access keys that may be one whose answer was lost, and that nothing proves to be it. `Display` says so in sentences, with
/// the commands that a person can type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeysFound {
    /// The user.
    pub user: String,
    /// The manager's profile, which may delete and activate the user's keys.
    pub manager: String,
    /// Access key IDs.
    pub keys: Vec<String>,
    /// It was one key, and it is inactive now.
    pub deactivated: bool,
    /// Why one key is still active, although it should not be: AWS does not let the manager deactivate it.
    pub refused: Option<String>,
}

impl fmt::Display for KeysFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { user, keys, .. } = self;
        let command = |action: &str, key: &str, more: &str| {
            let manager = quoted(&self.manager);
            format!(
                "iam-sorry exec {manager} -- aws iam {action} --user-name {user} --access-key-id {key}{more}"
            )
        };
        let [key] = &keys[..] else {
            write!(f, "{} unused keys appeared meanwhile:", keys.len())?;
            for key in keys {
                write!(f, "\n  {key}")?;
            }
            return write!(
                f,
                "\nAt most one of them is the key that was requested, and IAM does not say which; none was touched.\nAsk who made \
                 a key for '{user}' then, and delete the other one:\n  {}\n  or, with a question for each: iam-sorry doctor --fix",
                command("delete-access-key", "KEY_ID", "")
            );
        };
        write!(
            f,
            "Access key {key} appeared meanwhile and was never used. It may be the key that was requested; nothing proves it"
        )?;
        match &self.refused {
            _ if self.deactivated => write!(f, ", so it was deactivated, not deleted.")?,
            Some(why) => write!(f, ", so it was to be deactivated, but it is still active: {why}")?,
            None => write!(f, ", so it was not touched.")?,
        }
        write!(f, "\nIf nobody misses it, delete it:\n  {}", command("delete-access-key", key, ""))?;
        if self.deactivated {
            let activate = command("update-access-key", key, " --status Active");
            write!(f, "\nIf it is somebody's, activate it again:\n  {activate}")?;
        }
        Ok(())
    }
}

/// A profile's name for a shell.
fn quoted(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-.@+=,:/".contains(c);
    match !name.is_empty() && name.chars().all(plain) {
        true => name.to_owned(),
        false => format!("'{}'", name.replace('\'', "'\\''")),
    }
}

fn clock_skew(local: Timestamp, server: Option<Timestamp>) -> String {
    let fix = "Set the clock (for example: sudo timedatectl set-ntp true), then run the command again.";
    match server {
        Some(server) => format!(
            "This machine's clock is wrong: it says {local}, AWS says {server} ({} apart), so AWS refuses its \
             requests.\n{fix}",
            human_duration(server.seconds_after(local).abs())
        ),
        None => {
            format!("This machine's clock ({local}) differs from AWS's, so AWS refuses its requests.\n{fix}")
        }
    }
}

fn key_limit(user: &str, keys: &[KeyFacts]) -> String {
    let mut text =
        format!("IAM user '{user}' already has {} access keys, the most that IAM allows:", keys.len());
    for key in keys {
        text.push_str(&format!("\n  {key}"));
    }
    text.push_str(&format!(
        "\nNeither was touched. Put one of them into the profile (refreshes then need no manager), or delete the one \
         that nobody needs:\n  aws iam delete-access-key --user-name {user} --access-key-id KEY_ID"
    ));
    text
}

fn invalid_key(action: &str, key_id: &str, code: &str) -> String {
    if code == "SignatureDoesNotMatch" {
        return format!(
            "AWS knows the access key {key_id}, but the secret does not belong to it ({code}).\nPut both halves of \
             the key into the profile again."
        );
    }
    // "You cannot call any IAM API operations unless MFA authentication information is included in the request" (STS
    // API reference, GetSessionToken); AWS answers with this same code.
    if key_id.starts_with("ASIA") && action.starts_with("iam:") {
        return format!(
            "AWS did not accept the temporary credentials {key_id} for {action} ({code}).\nA session made without \
             MFA can't call IAM: use the permanent key, or make the session with --mfa-code."
        );
    }
    format!(
        "AWS does not accept the access key {key_id} ({code}): it was deleted or deactivated, or it belongs to \
         another partition.\nSee what the profiles hold: iam-sorry doctor"
    )
}

fn refusal_hint(action: &str, code: &str) -> &'static str {
    let denied = matches!(code, "AccessDenied" | "AccessDeniedException" | "UnauthorizedOperation");
    match action {
        "sts:GetSessionToken" if denied => {
            "\nGetSessionToken wants the permanent key of an IAM user; temporary credentials can't make others."
        }
        "sts:AssumeRole" if denied => {
            "\nThe role's trust policy must name this user, and the user needs sts:AssumeRole on the role."
        }
        "iam:CreateUser" | "iam:PutUserPolicy" | "iam:DeleteUser" | "iam:DeleteUserPolicy" if denied => {
            "\nMaking a manager is an administrator's work: name a profile that may, with --profile ADMIN."
        }
        _ if denied => {
            "\nThe manager lacks that permission. `iam-sorry policy` prints the least policy it needs, ready to attach."
        }
        _ => "",
    }
}

fn unreachable_hint(cause: &str) -> &'static str {
    if cause.contains("Expired") || cause.contains("NotValidYet") {
        "\nThe certificate's dates don't fit this machine's clock. Check the clock: date -u"
    } else if cause.contains("certificate") || cause.contains("UnknownIssuer") {
        "\nIf a proxy of your site opens TLS, point AWS_CA_BUNDLE at its CA certificate."
    } else {
        "\nCheck the network, HTTPS_PROXY and AWS_ENDPOINT_URL, then run the command again."
    }
}

struct Request<'a>(&'a Option<String>);

impl fmt::Display for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(id) => write!(f, " [request {id}]"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_limit_shows_both_keys_and_a_command() {
        let key = |id: &str, last_used| KeyFacts {
            id: id.into(),
            active: true,
            created: Timestamp::from_unix(1_761_480_000),
            last_used,
            age_days: Some(3),
        };
        let text = AwsError::KeyLimit {
            user: "alice".into(),
            keys: vec![
                key("AKIAONE", LastUsed::Never),
                key("AKIATWO", LastUsed::At(Timestamp::from_unix(1_761_490_000).unwrap(), "s3".into())),
            ],
        }
        .to_string();
        for part in
            ["alice", "AKIAONE", "AKIATWO", "never used", "for s3", "3 days ago", "aws iam delete-access-key"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
