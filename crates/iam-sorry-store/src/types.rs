//! What goes into the store and comes out.

use iam_sorry_core::audit::Event;
use iam_sorry_core::identity::{Identity, KeyOrigin, Method, Via};
use iam_sorry_core::ids::{AccountName, UserRef};

/// Why the store could not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The database can't be reached, is locked or overloaded. Nothing was written.
    #[error("The database can't be used at the moment: {0}")]
    Unavailable(String),
    /// The database went away, or did not answer in time, while it wrote: the write may or may not be there.
    #[error("The database did not say whether it has written: {0}")]
    OutcomeUnknown(String),
    /// A read of the audit trail took longer than it may, and was stopped.
    #[error("The query took too long and was stopped")]
    TooSlow,
    /// Other reads of the audit trail were in the way for too long; this one was not begun.
    #[error("Too many queries of the audit trail are waiting")]
    Crowded,
    /// The disk is full. Nothing was written.
    #[error(
        "The database can't be written: {0}\nMake room on its disk; nothing is done until it can be written."
    )]
    Full(String),
    /// The disk can't be written for another reason than room. Nothing was written.
    #[error(
        "The database's disk can't be written: {0}\nCheck the disk and its quota (the kernel's log says more); nothing is done \
         until it can be written."
    )]
    Unwritable(String),
    /// The database takes no writes. Nothing was written.
    #[error("The database is read-only: {0}")]
    ReadOnly(String),
    /// The database does not let the service in, or lacks rights for it. Nothing was written.
    #[error("The database refuses the service: {0}")]
    Denied(String),
    /// The schema is older or newer than this program.
    #[error("{0}")]
    Schema(String),
    /// Another instance holds what only one may hold.
    #[error("{0}")]
    Taken(String),
    /// The operation is closed, or was claimed by a reconciler, of this or another instance: stop.
    #[error("operation {0} is no longer in these hands")]
    Fenced(String),
    /// What is stored makes no sense: damaged, or not ours.
    #[error("The database holds something unexpected: {0}")]
    Corrupt(String),
    /// The database is not the one that it was ([`crate::Store::contradiction`]); nothing is written any more.
    #[error("{0}")]
    Contradicted(String),
    /// A cursor that is none of ours, or of another list.
    #[error("The cursor is none that this list gave out.\nBegin again without one.")]
    BadCursor,
    /// One person or address already has as many as it may have of something.
    #[error("{0}")]
    TooMany(String),
}

/// An operation, as it begins. Nothing in it is a secret.
#[derive(Clone, Debug)]
pub struct NewOperation {
    /// Unique; also a tag on what is made in AWS.
    pub id: String,
    /// `issuer/subject`.
    pub person: String,
    /// The person's idempotency key; unique together with the person.
    pub idempotency_key: String,
    /// Such as `create-user`.
    pub action: String,
    /// The AWS account that it is done in.
    pub account: AccountName,
    /// The IAM user or role in it, case-folded.
    pub resource: String,
    /// Whether it holds the account's resource for itself while it is open (not for AssumeRole): at most one such operation is
    /// open at a time.
    pub exclusive: bool,
    /// A digest of the request, to notice the same key used for something else.
    pub request_hash: String,
    /// What the reconciler needs to finish or undo it: JSON of the service's own.
    pub plan: String,
}

/// What [`crate::Store::begin`] found.
#[derive(Clone, Debug)]
pub enum Begun {
    /// The intent is on disk: act.
    New,
    /// This idempotency key was used before; nothing was written.
    Seen(Box<Operation>),
    /// Another open operation holds the resource; nothing was written.
    Busy(String),
}

/// Where an operation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OperationState {
    /// Intent written, outcome not.
    Open,
    /// Finished as asked.
    Done,
    /// Failed, with nothing left behind.
    Failed,
    /// Taken back by the reconciler.
    Undone,
}

/// An operation, read back.
#[derive(Clone, Debug)]
pub struct Operation {
    /// As it was begun.
    pub new: NewOperation,
    /// Where it stands.
    pub state: OperationState,
    /// Which instance is at work on it.
    pub instance: String,
    /// Who of that instance: 0 is the worker that began it, each claim ([`crate::Store::claim`]) counts one up.
    pub epoch: i64,
    /// When it began, milliseconds since 1970.
    pub begun_ms: i64,
    /// What became known on the way ([`crate::Store::note`]), JSON, oldest first.
    pub notes: Vec<String>,
    /// What was answered, JSON without secrets.
    pub result: Option<String>,
    /// Who asked, as in the intent's record, for the outcome's.
    pub event: Event,
}

/// What becomes of an operation, all in one transaction with its audit record.
#[derive(Clone, Debug)]
pub struct Finish {
    /// The operation.
    pub operation: String,
    /// Who finishes it ([`Operation::epoch`]).
    pub epoch: i64,
    /// Done, Failed or Undone.
    pub state: OperationState,
    /// What is answered, JSON without secrets.
    pub result: String,
    /// The outcome's record.
    pub event: Event,
    /// What was handed out.
    pub grants: Vec<NewGrant>,
    /// Access keys that no longer exist: their grants become `deleted`.
    pub deleted_keys: Vec<String>,
    /// A user that was made or adopted.
    pub user: Option<ManagedUser>,
    /// A user that is gone: its row goes, its grants become `deleted`.
    pub deleted_user: Option<UserRef>,
    /// Keys that were found, and that the operation may or may not have made. The time and the operation are this one's.
    pub unaccounted: Vec<UnaccountedKey>,
    /// A rotation that waits for its confirmation from here on, or no longer does.
    pub rotation: Option<RotationChange>,
}

/// An access key that a request whose answer was lost may have made, and nothing proves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnaccountedKey {
    /// The access key ID.
    pub access_key_id: String,
    /// The IAM user whose key it is, as IAM spells it.
    pub user: UserRef,
    /// The operation whose answer was lost.
    pub operation: String,
    /// Milliseconds since 1970.
    pub found_ms: i64,
    /// Whether the service deactivated it; otherwise it was left as it was.
    pub deactivated: bool,
}

/// What an operation does to the list of rotations that wait for their confirmation. A key that is deleted needs none of
/// it: the rotation whose old key it was ends, and one whose new key it was keeps its old key for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RotationChange {
    /// The new key is made.
    Begun(NewRotation),
    /// The rotation of this old key is over, whatever became of the key.
    Ended {
        /// The old key.
        old_key: String,
    },
}

/// A rotation whose new key nobody has confirmed yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRotation {
    /// The IAM user.
    pub user: UserRef,
    /// The key that is replaced.
    pub old_key: String,
    /// The key in its place.
    pub new_key: String,
    /// Whether the old key was active before.
    pub old_was_active: bool,
    /// When the new key was proved and the old one deactivated: seconds since 1970 by AWS's clock.
    pub since: i64,
    /// When the old key is deleted without a confirmation, milliseconds since 1970; none where it is not.
    pub delete_after_ms: Option<i64>,
}

/// The same, read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// The rotation; its user's name is case-folded.
    pub new: NewRotation,
    /// The operation that rotated.
    pub operation: String,
    /// Whose (`issuer/subject`).
    pub person: String,
}

/// Credentials that were handed out, without secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewGrant {
    /// `session`, `role` or `access-key`.
    pub kind: String,
    /// The AWS account that they are for.
    pub account: AccountName,
    /// The user's name or the role's ARN in it.
    pub resource: String,
    /// The access key ID.
    pub access_key_id: String,
    /// Milliseconds since 1970.
    pub issued_ms: i64,
    /// Milliseconds since 1970; none for permanent keys.
    pub expires_ms: Option<i64>,
}

/// A grant, read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The grant.
    pub new: NewGrant,
    /// The operation that made it.
    pub operation: String,
    /// Whose (`issuer/subject`).
    pub person: String,
    /// Whether what it handed out was deleted since.
    pub deleted: bool,
}

/// An IAM user that the service made or adopted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManagedUser {
    /// Its account, and its name as IAM spells it.
    pub user: UserRef,
    /// Its ARN.
    pub arn: String,
    /// Its namespace's name.
    pub namespace: String,
    /// `issuer/subject` of who made or adopted it.
    pub owner: String,
    /// Milliseconds since 1970.
    pub created_ms: i64,
    /// Whether it was there before the service.
    pub adopted: bool,
}

/// A session. The token itself is never stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Names it; no secret.
    pub id: String,
    /// SHA-256 of the token.
    pub token_hash: [u8; 32],
    /// SHA-256 of the secret that forms carry (web sessions).
    pub form_hash: Option<[u8; 32]>,
    /// Whose it is.
    pub identity: Identity,
    /// How it was opened.
    pub method: Method,
    /// Milliseconds since 1970.
    pub signed_in_ms: i64,
    /// Milliseconds since 1970; written at most once a minute.
    pub last_used_ms: i64,
    /// Milliseconds since 1970.
    pub expires_ms: i64,
    /// Where it was opened from.
    pub address: String,
    /// The SSH key that opened it; none for other methods, and in sessions from before this was kept.
    pub key: Option<SessionKey>,
    /// How it came to whoever has it; none in sessions from before this was kept.
    pub via: Option<Via>,
}

/// The SSH key that opened a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionKey {
    /// `SHA256:...`
    pub fingerprint: String,
    /// Who says that it is the person's.
    pub registered_by: KeyOrigin,
}

/// An SSH key that may sign in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshKey {
    /// `SHA256:...`; unique.
    pub fingerprint: String,
    /// The public key line without comment.
    pub public_key: String,
    /// Its comment.
    pub comment: String,
    /// Who it signs in, as they were when they registered it.
    pub identity: Identity,
    /// Milliseconds since 1970.
    pub registered_ms: i64,
    /// How they had signed in then. None: registered without a signature by the key, which therefore signs nobody in.
    pub registered_by: Option<KeyOrigin>,
}

/// Which part of a list: after `cursor`, at most `limit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// From the page before.
    pub cursor: Option<String>,
    /// How many.
    pub limit: u32,
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageOf<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// Where the next one begins; none on the last.
    pub next: Option<String>,
}

/// Which audit records, newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// `issuer/subject`.
    pub person: Option<String>,
    /// Login name.
    pub name: Option<String>,
    /// Such as `create-user`.
    pub action: Option<String>,
    /// User or role, case-folded.
    pub resource: Option<String>,
    /// Milliseconds since 1970, inclusive.
    pub from_ms: Option<i64>,
    /// Milliseconds since 1970, exclusive.
    pub to_ms: Option<i64>,
}

/// How often something happened on a day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditCount {
    /// Midnight UTC at which the day began, milliseconds since 1970.
    pub day_ms: i64,
    /// Such as `create-user`.
    pub action: String,
    /// How often.
    pub count: u64,
}
