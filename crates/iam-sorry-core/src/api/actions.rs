//! The IAM actions that the service does on a person's behalf, and what they give.

use std::fmt;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::ActionName;
use crate::changes::Change;
use crate::ids::AccountName;

/// `POST /users`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CreateUser {
    /// The IAM user's name; its namespace is the one that holds it.
    #[cfg_attr(feature = "openapi", schema(pattern = "^[A-Za-z0-9+=,.@_-]{1,64}$", example = "dirk-etl"))]
    pub name: String,
    /// Managed policies to attach at once, by ARN.
    #[serde(default)]
    pub policies: Vec<String>,
    /// Decide and check, but change nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// An IAM user that the service made or adopted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UserInfo {
    /// The AWS account that it is in, by the name that the service's configuration gives it. Services that have none for it leave
    /// it out.
    #[serde(default)]
    pub account: AccountName,
    /// As IAM spells it.
    pub name: String,
    /// Its ARN.
    pub arn: String,
    /// Its namespace.
    pub namespace: String,
    /// Who made or adopted it (`issuer/subject`).
    pub owner: String,
    /// When, RFC 3339.
    pub created_at: String,
    /// Whether it was there before the service.
    pub adopted: bool,
}

/// `GET /users/{name}`: what IAM says now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UserDetails {
    /// The user.
    pub user: UserInfo,
    /// ARNs of the attached managed policies.
    pub policies: Vec<String>,
    /// Its access keys.
    pub keys: Vec<KeyInfo>,
    /// The permissions boundary, where it has one.
    pub permissions_boundary: Option<String>,
}

/// An access key, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct KeyInfo {
    /// `AKIA...`.
    pub access_key_id: String,
    /// Whether AWS accepts it.
    pub status: KeyStatus,
    /// When it was made, RFC 3339.
    pub created_at: Option<String>,
    /// When AWS last saw it, RFC 3339; none where it never did.
    pub last_used_at: Option<String>,
    /// The old key of a rotation that nobody has confirmed: the key in its place.
    #[serde(default)]
    pub replaced_by: Option<String>,
    /// The same: when it is deleted without a confirmation, RFC 3339; none where it is not.
    #[serde(default)]
    pub deleted_after: Option<String>,
    /// The new key of a rotation that nobody has confirmed: the key whose place it takes.
    #[serde(default)]
    pub replaces: Option<String>,
}

/// `POST /users/{name}/policies`; also the query of `DELETE /users/{name}/policies`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema, utoipa::IntoParams), into_params(parameter_in = Query))]
pub struct PolicyChange {
    /// The managed policy's ARN; it must be on the configuration's allow-list.
    #[cfg_attr(
        feature = "openapi",
        schema(pattern = "^arn:aws[a-z-]*:iam::([0-9]{12}|aws):policy/[A-Za-z0-9+=,.@_/-]{1,128}$"),
        param(pattern = "^arn:aws[a-z-]*:iam::([0-9]{12}|aws):policy/[A-Za-z0-9+=,.@_/-]{1,128}$")
    )]
    pub policy_arn: String,
    /// Decide and check, but change nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// The query of requests that have no body.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema, utoipa::IntoParams), into_params(parameter_in = Query))]
pub struct Options {
    /// Decide and check, but change nothing.
    pub dry_run: bool,
}

/// The query of `DELETE /users/{name}/keys/{id}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema, utoipa::IntoParams), into_params(parameter_in = Query))]
pub struct DeleteKey {
    /// Decide and check, but change nothing.
    pub dry_run: bool,
    /// Delete it although it was used within the last hour (as configured): whoever uses it will fail.
    pub force: bool,
}

/// What was done, or would be. The answer to every action that gives no secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Done {
    /// The operation's id: in the audit trail, and as a tag on what was made.
    pub operation: String,
    /// What was requested.
    pub action: ActionName,
    /// The user or role.
    pub resource: String,
    /// Whether anything was changed: not by a dry run, nor if the same request was done before.
    pub changed: bool,
    /// Whether it was a dry run: `changes` would be done.
    #[serde(default)]
    pub dry_run: bool,
    /// What was done or would be, in sentences for people.
    pub notes: Vec<String>,
    /// The same as data. None in the answer to a request that an older version of the service did.
    #[serde(default, deserialize_with = "crate::changes::known")]
    pub changes: Vec<Change>,
    /// The rules that allowed it.
    pub reasons: Vec<String>,
}

/// `POST /users/{name}/keys` and `POST /users/{name}/keys/{id}/rotate`: a new permanent key, shown once.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NewKey {
    /// The operation.
    pub done: Done,
    /// `AKIA...`.
    pub access_key_id: String,
    /// The secret, this once.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub secret_access_key: SecretString,
    /// After a rotation: the key in whose place it comes.
    #[serde(default)]
    pub old_key: Option<OldKey>,
}

/// The old key of a rotation, right after it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OldKey {
    /// `AKIA...`.
    pub access_key_id: String,
    /// Inactive; active if it is in use and stays.
    pub status: KeyStatus,
    /// When it is deleted unless the new key is confirmed before, RFC 3339; none where it stays.
    pub deleted_after: Option<String>,
}

/// `POST /credentials`: temporary credentials of an IAM user, or of a role.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CredentialsRequest {
    /// An IAM user of the service's, `NAME` or `ACCOUNT/NAME`; exactly one of `user` and `role`.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(example = "dirk-etl"))]
    pub user: Option<String>,
    /// The ARN of a role that the configuration names.
    #[serde(default)]
    pub role: Option<String>,
    /// Seconds, from 900; the longest that the rules allow where absent.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(format = Int64, minimum = 900, maximum = 4_294_967_295u32, example = 3600))]
    pub duration_seconds: Option<u32>,
    /// Decide and check, but issue nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// Temporary credentials, shown once.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct IssuedCredentials {
    /// The operation; its notes say so where the duration was cut.
    pub done: Done,
    /// Whose they are: what sts:GetCallerIdentity answers to them.
    pub arn: String,
    /// `ASIA...`.
    pub access_key_id: String,
    /// The secret access key.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub secret_access_key: SecretString,
    /// The session token.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub session_token: SecretString,
    /// When they end, RFC 3339.
    pub expiration: String,
    /// Seconds that they were issued for.
    pub duration_seconds: u32,
}

/// `GET /credentials`: what was issued, without secrets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct GrantInfo {
    /// The operation that issued it.
    pub operation: String,
    /// Who asked (`issuer/subject`).
    pub person: String,
    /// What it is.
    pub kind: GrantKind,
    /// The AWS account that they are for, by its name.
    #[serde(default)]
    pub account: AccountName,
    /// The user's name or the role's ARN in it.
    pub resource: String,
    /// The access key ID.
    pub access_key_id: String,
    /// When, RFC 3339.
    pub issued_at: String,
    /// Until when, RFC 3339; none for permanent keys.
    pub expires_at: Option<String>,
    /// Whether it is still good.
    pub state: GrantState,
}

/// Whether AWS accepts an access key, as IAM spells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum KeyStatus {
    /// It does.
    Active,
    /// It does not, until somebody activates the key again.
    Inactive,
}

impl KeyStatus {
    /// By whether the key is active.
    pub fn of(active: bool) -> Self {
        if active { Self::Active } else { Self::Inactive }
    }

    /// As IAM spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "Active",
            Self::Inactive => "Inactive",
        }
    }
}

impl fmt::Display for KeyStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What was handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum GrantKind {
    /// Temporary credentials of an IAM user.
    Session,
    /// Temporary credentials of a role.
    Role,
    /// A permanent access key.
    AccessKey,
}

impl GrantKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Session, Self::Role, Self::AccessKey];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Role => "role",
            Self::AccessKey => "access-key",
        }
    }
}

impl fmt::Display for GrantKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether what was handed out is still good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub enum GrantState {
    /// It is.
    Active,
    /// Its time is over.
    Expired,
    /// The key was deleted.
    Deleted,
}

impl GrantState {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Expired => "expired",
            Self::Deleted => "deleted",
        }
    }
}

impl fmt::Display for GrantState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// `POST /explain`: may I, and why? Decides and records nothing but that it was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ExplainRequest {
    /// Such as `create-user`.
    #[cfg_attr(feature = "openapi", schema(example = "create-user"))]
    pub action: String,
    /// The user (`NAME` or `ACCOUNT/NAME`) or the role's ARN.
    #[cfg_attr(feature = "openapi", schema(example = "dirk-etl"))]
    pub resource: String,
    /// For attach-policy and detach-policy.
    #[serde(default)]
    pub policy_arn: Option<String>,
    /// For credentials.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(format = Int64, minimum = 0, maximum = 4_294_967_295u32))]
    pub duration_seconds: Option<u32>,
}

/// The decision and who decided it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Explanation {
    /// Whether it is allowed.
    pub allowed: bool,
    /// The rules or guardrails that decided, in words; or that no rule allows it.
    pub reasons: Vec<String>,
    /// For credentials: the longest duration that is allowed, seconds.
    pub longest_seconds: Option<u32>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers are stored, and given again to the same request after an upgrade: this text is never changed.
    #[test]
    fn an_answer_of_an_older_version_is_read() {
        let old = r#"{"operation":"7f2c","action":"attach-policy","resource":"dirk-a","changed":true,
            "notes":["attached arn:aws:iam::aws:policy/ReadOnlyAccess"],"reasons":["rule \"lab\" (lab.cedar) allows it"]}"#;
        let done: Done = serde_json::from_str(old).unwrap();
        assert_eq!((done.action, done.changed, done.dry_run), (ActionName::AttachPolicy, true, false));
        assert_eq!((done.notes.len(), done.changes.len()), (1, 0));
    }

    /// What an older version reads of a new answer, it reads as before.
    #[test]
    fn an_answer_has_what_older_versions_need() {
        let done = Done {
            operation: "7f2c".into(),
            action: ActionName::DeleteUser,
            resource: "dirk-a".into(),
            changed: true,
            dry_run: false,
            notes: Vec::new(),
            changes: vec![Change::UserDeleted { user: "dirk-a".into() }],
            reasons: Vec::new(),
        };
        let json = serde_json::to_value(&done).unwrap();
        assert_eq!(json["action"], "delete-user");
        assert!(
            ["operation", "resource", "changed", "notes", "reasons"].iter().all(|it| !json[it].is_null())
        );
        assert_eq!(json["changes"][0], serde_json::json!({"change": "user-deleted", "user": "dirk-a"}));
    }
}
