//! A request for a decision: who wants to do what, to which thing, when and from where.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use iam_sorry_core::identity::{Identity, KeyOrigin};
use iam_sorry_core::ids::{AccountName, UserRef};
use iam_sorry_core::names::InvalidName;
use iam_sorry_core::timestamp::Timestamp;

/// The shortest session that STS gives, in seconds (STS API reference, GetSessionToken and AssumeRole).
pub const SHORTEST_SECONDS: u32 = 900;

/// Everything that rules decide about. A new action is a variant here and an `action` in `schema.cedarschema`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Action {
    /// Make an IAM user.
    CreateUser,
    /// Remove an IAM user with all that hangs on it.
    DeleteUser,
    /// See one user with its policies and keys.
    ShowUser,
    /// List the users of a namespace; each of them is shown only if [`Action::ShowUser`] is allowed too.
    ListUsers,
    /// Take over a user that was there before the service.
    AdoptUser,
    /// Attach a managed policy to a user.
    AttachPolicy,
    /// Detach a managed policy from a user.
    DetachPolicy,
    /// Make a permanent access key.
    CreateAccessKey,
    /// Put a new permanent key in the place of an old one.
    RotateKey,
    /// Delete a permanent access key.
    DeleteAccessKey,
    /// Issue temporary credentials of an IAM user.
    IssueCredentials,
    /// Issue temporary credentials of a role.
    AssumeRole,
    /// Read everybody's audit records (one's own need no rule).
    ReadAudit,
    /// List and end everybody's sessions (one's own need no rule).
    ManageSessions,
    /// Register an SSH key of one's own to sign in with.
    RegisterKey,
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::CreateUser,
        Self::DeleteUser,
        Self::ShowUser,
        Self::ListUsers,
        Self::AdoptUser,
        Self::AttachPolicy,
        Self::DetachPolicy,
        Self::CreateAccessKey,
        Self::RotateKey,
        Self::DeleteAccessKey,
        Self::IssueCredentials,
        Self::AssumeRole,
        Self::ReadAudit,
        Self::ManageSessions,
        Self::RegisterKey,
    ];

    /// The name in the interface, in records and on the command line: `create-user`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::CreateUser => "create-user",
            Self::DeleteUser => "delete-user",
            Self::ShowUser => "show-user",
            Self::ListUsers => "list-users",
            Self::AdoptUser => "adopt-user",
            Self::AttachPolicy => "attach-policy",
            Self::DetachPolicy => "detach-policy",
            Self::CreateAccessKey => "create-access-key",
            Self::RotateKey => "rotate-key",
            Self::DeleteAccessKey => "delete-access-key",
            Self::IssueCredentials => "issue-credentials",
            Self::AssumeRole => "assume-role",
            Self::ReadAudit => "read-audit",
            Self::ManageSessions => "manage-sessions",
            Self::RegisterKey => "register-key",
        }
    }

    /// The name in rules: `createUser`, written `IamSorry::Action::"createUser"`.
    pub fn cedar_id(self) -> &'static str {
        match self {
            Self::CreateUser => "createUser",
            Self::DeleteUser => "deleteUser",
            Self::ShowUser => "showUser",
            Self::ListUsers => "listUsers",
            Self::AdoptUser => "adoptUser",
            Self::AttachPolicy => "attachPolicy",
            Self::DetachPolicy => "detachPolicy",
            Self::CreateAccessKey => "createAccessKey",
            Self::RotateKey => "rotateKey",
            Self::DeleteAccessKey => "deleteAccessKey",
            Self::IssueCredentials => "issueCredentials",
            Self::AssumeRole => "assumeRole",
            Self::ReadAudit => "readAudit",
            Self::ManageSessions => "manageSessions",
            Self::RegisterKey => "registerKey",
        }
    }

    /// Whether it gives temporary credentials, whose duration rules can speak of.
    pub fn has_duration(self) -> bool {
        matches!(self, Self::IssueCredentials | Self::AssumeRole)
    }

    /// Whether it is about a managed policy.
    pub fn has_policy(self) -> bool {
        matches!(self, Self::AttachPolicy | Self::DetachPolicy)
    }

    /// Whether the user must be one that the service made or adopted.
    pub fn needs_managed_user(self) -> bool {
        !matches!(
            self,
            Self::CreateUser
                | Self::AdoptUser
                | Self::ListUsers
                | Self::AssumeRole
                | Self::ReadAudit
                | Self::ManageSessions
                | Self::RegisterKey
        )
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Action {
    type Err = InvalidName;

    /// Reads `create-user`, and `createUser` as rules write it.
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        Self::ALL.into_iter().find(|a| a.as_str() == text || a.cedar_id() == text).ok_or_else(|| {
            let all = Self::ALL.map(Self::as_str).join(", ");
            InvalidName(format!("{text:?} is not an action\nThe actions are: {all}"))
        })
    }
}

/// What an action is done to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resource {
    /// An IAM user, existing or to be.
    User(UserRef),
    /// The ARN of a role.
    Role(String),
    /// A namespace by its name: what [`Action::ListUsers`] is done to.
    Namespace(String),
    /// Everybody's audit records.
    Audit,
    /// Everybody's sessions.
    Sessions,
    /// The SSH keys that a person registers for themselves.
    OwnKeys,
}

impl Resource {
    /// Reads the text that people give for this action: a user's name (`NAME`, which means one in the account `first`, or
    /// `ACCOUNT/NAME`), a role's ARN, a namespace's name. It is ignored for [`Action::ReadAudit`],
    /// [`Action::ManageSessions`] and [`Action::RegisterKey`], which have one resource each.
    ///
    /// # Errors
    /// [`InvalidName`] if it is no IAM user name.
    pub fn parse(action: Action, text: &str, first: &AccountName) -> Result<Self, InvalidName> {
        Ok(match action {
            Action::AssumeRole => Self::Role(text.to_owned()),
            Action::ListUsers => Self::Namespace(text.to_owned()),
            Action::ReadAudit => Self::Audit,
            Action::ManageSessions => Self::Sessions,
            Action::RegisterKey => Self::OwnKeys,
            _ => Self::User(UserRef::parse_in(text, first)?),
        })
    }

    /// What people call it, if the account `first` goes without saying.
    pub fn label(&self, first: &AccountName) -> String {
        match self {
            Self::User(user) => user.short(first),
            Self::Role(text) | Self::Namespace(text) => text.clone(),
            Self::Audit => "the audit trail".to_owned(),
            Self::Sessions => "everybody's sessions".to_owned(),
            Self::OwnKeys => "own SSH keys".to_owned(),
        }
    }
}

/// One request for a decision.
#[derive(Clone, Copy, Debug)]
pub struct AuthzInput<'a> {
    /// Whose request it is, as their sign-in proved it.
    pub identity: &'a Identity,
    /// What they want to do.
    pub action: Action,
    /// To what.
    pub resource: &'a Resource,
    /// For attach-policy and detach-policy: the managed policy's ARN.
    pub policy_arn: Option<&'a str>,
    /// For credentials: seconds. None requests the shortest, 900: whether it is allowed at all.
    pub duration_seconds: Option<u32>,
    /// How long ago they signed in, seconds.
    pub sign_in_age_seconds: u64,
    /// Signed in by SSH key: who says that the key is theirs, where that is known.
    pub key_registered_by: Option<KeyOrigin>,
    /// Where the request comes from.
    pub address: IpAddr,
    /// The time (rules see hour and weekday in UTC).
    pub now: Timestamp,
    /// Whether the service made or adopted the user (its row is in the store).
    pub managed: bool,
    /// Who made or adopted the user, `issuer/subject`.
    pub owner: Option<&'a str>,
}
