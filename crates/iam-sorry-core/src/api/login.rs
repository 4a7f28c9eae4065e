//! Signing in, sessions, and the SSH keys that may sign in.

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::identity::{Identity, KeyOrigin, Method};

/// `GET /service`: what anybody may know before signing in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ServiceInfo {
    /// The department's name for it.
    pub name: String,
    /// The version of `iam-sorryd`.
    pub version: String,
    /// `https://host[:port]`, exactly as sign-in signatures are bound to it.
    pub origin: String,
    /// The ways to sign in that are configured.
    pub methods: Vec<Method>,
    /// The service's time, RFC 3339.
    pub time: String,
}

/// `POST /login/ssh/challenge`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SshChallengeRequest {
    /// The public key, as in `~/.ssh/id_ed25519.pub` (`ssh-ed25519 AAAA...`); a comment is ignored.
    #[cfg_attr(
        feature = "openapi",
        schema(pattern = "^ssh-ed25519 [A-Za-z0-9+/]{68}( .*)?$", max_length = 1000)
    )]
    pub public_key: String,
    /// Whom the key is to sign in: a login name, or `ISSUER/NAME`. Needed only where the key is several people's; given,
    /// it must be theirs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 256))]
    pub name: Option<String>,
}

/// The answer: what to sign (`core::ssh::login`), once, within 60 seconds. The same for known and unknown keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SshChallenge {
    /// 32 random bytes, base64url without padding.
    pub nonce: String,
    /// The service's fingerprint of this request (`SHA256:...`): key, name and address it came from.
    pub request: String,
    /// The service's time, RFC 3339; part of what is signed.
    pub time: String,
    /// When the nonce stops being accepted, RFC 3339.
    pub expires_at: String,
}

/// `POST /login/ssh`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SshLogin {
    /// From the challenge.
    #[cfg_attr(feature = "openapi", schema(pattern = "^[A-Za-z0-9_-]{43}$"))]
    pub nonce: String,
    /// The same key as in the challenge.
    #[cfg_attr(
        feature = "openapi",
        schema(pattern = "^ssh-ed25519 [A-Za-z0-9+/]{68}( .*)?$", max_length = 1000)
    )]
    pub public_key: String,
    /// The Ed25519 signature over the SSHSIG blob (PROTOCOL.sshsig), 64 bytes, base64url without padding.
    #[cfg_attr(feature = "openapi", schema(pattern = "^[A-Za-z0-9_-]{86}$"))]
    pub signature: String,
    /// The same name as in the challenge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(min_length = 1, max_length = 256))]
    pub name: Option<String>,
}

/// `POST /login/ldap`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LdapLogin {
    /// The login name.
    pub username: String,
    /// The password; goes to the directory and nowhere else.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub password: SecretString,
}

/// Somebody who signed in, as people and programs read it. `issuer` and `subject` together are stable and never given to
/// anybody else; `name` is what people read and may change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = Identity))]
pub struct PersonInfo {
    /// Who vouches: the name of the directory or provider in the configuration, such as `corp`.
    pub issuer: String,
    /// The issuer's stable name for the person: an LDAP entryUUID or objectGUID, an OIDC `sub`.
    pub subject: String,
    /// The login name, folded as the issuer compares names (`alice`).
    pub name: String,
    /// Groups, nested ones included, sorted: by name, or by DN if the name is not one group's alone.
    pub groups: Vec<String>,
    /// How they signed in.
    pub method: Method,
}

impl PersonInfo {
    /// `issuer/subject`: the person's key in rules, store and audit.
    pub fn id(&self) -> String {
        format!("{}/{}", self.issuer, self.subject)
    }
}

impl From<&Identity> for PersonInfo {
    fn from(identity: &Identity) -> Self {
        Self {
            issuer: identity.issuer.clone(),
            subject: identity.subject.clone(),
            name: identity.name.clone(),
            groups: identity.groups.labels(),
            method: identity.method,
        }
    }
}

/// The answer to every sign-in that was accepted.
#[derive(Clone, Debug, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SignedIn {
    /// The session token, for `Authorization: Bearer`. Shown once; the service keeps its hash only.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub token: SecretString,
    /// When the session ends at the latest, RFC 3339.
    pub expires_at: String,
    /// How long it may lie idle, seconds.
    pub idle_seconds: u32,
    /// Who signed in.
    pub identity: PersonInfo,
}

/// `GET /me`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Me {
    /// Who is signed in.
    pub identity: PersonInfo,
    /// The session in use.
    pub session: SessionInfo,
    /// The namespaces that the person, or one of their groups, owns.
    pub namespaces: Vec<NamespaceInfo>,
    /// The roles that they may assume.
    pub roles: Vec<String>,
    /// Whether they may read everybody's audit records.
    pub auditor: bool,
}

/// A namespace: who may be called what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NamespaceInfo {
    /// Its name, which is also its prefix: `dirk` holds `dirk` and `dirk-*`.
    pub name: String,
    /// The IAM path of the users that are made in it.
    pub path: String,
    /// The people (`person:NAME`) and groups (`group:NAME`) that own it.
    pub owners: Vec<String>,
}

/// A session, without its token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SessionInfo {
    /// Names the session; no secret.
    pub id: String,
    /// Whose it is (`issuer/subject`).
    pub person: String,
    /// Their login name.
    pub name: String,
    /// How they signed in.
    pub method: Method,
    /// When, RFC 3339.
    pub signed_in_at: String,
    /// Last used, RFC 3339, to the minute.
    pub last_used_at: String,
    /// When it ends at the latest, RFC 3339.
    pub expires_at: String,
    /// Opened by an SSH key: who says that the key is the person's. None for sessions from before this was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_registered_by: Option<KeyOrigin>,
    /// The address it was opened from.
    pub address: String,
    /// Whether it is the one that asks.
    pub current: bool,
}

/// `POST /ssh-keys/challenge`: a signed-in person is about to register a key to sign in with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RegistrationChallengeRequest {
    /// The public key line.
    #[cfg_attr(
        feature = "openapi",
        schema(pattern = "^ssh-ed25519 [A-Za-z0-9+/]{68}( .*)?$", max_length = 1000)
    )]
    pub public_key: String,
}

/// The answer: what the key has to sign (`core::ssh::login::registration_message`), once, within 60 seconds, for this
/// session alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RegistrationChallenge {
    /// 32 random bytes, base64url without padding.
    pub nonce: String,
    /// Whom the key will sign in (`issuer/subject`): part of what is signed.
    pub person: String,
    /// Their login name: part of what is signed.
    pub name: String,
    /// The service's fingerprint of this request (`SHA256:...`): key, person and session.
    pub request: String,
    /// The service's time, RFC 3339; part of what is signed.
    pub time: String,
    /// When the nonce stops being accepted, RFC 3339.
    pub expires_at: String,
}

/// `POST /ssh-keys`: the same person registers the key, with its signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RegisterSshKey {
    /// The public key line, with the comment that it is to be listed with.
    #[cfg_attr(
        feature = "openapi",
        schema(pattern = "^ssh-ed25519 [A-Za-z0-9+/]{68}( .*)?$", max_length = 1000)
    )]
    pub public_key: String,
    /// From the challenge.
    #[cfg_attr(feature = "openapi", schema(pattern = "^[A-Za-z0-9_-]{43}$"))]
    pub nonce: String,
    /// The Ed25519 signature over the SSHSIG blob (PROTOCOL.sshsig), 64 bytes, base64url without padding.
    #[cfg_attr(feature = "openapi", schema(pattern = "^[A-Za-z0-9_-]{86}$"))]
    pub signature: String,
}

/// A key that may sign in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SshKeyInfo {
    /// `SHA256:...`, as `ssh-keygen -l` shows it.
    pub fingerprint: String,
    /// The comment it came with.
    pub comment: String,
    /// When it was registered, RFC 3339.
    pub registered_at: String,
    /// How the person had signed in to register it. Null: it was registered before a signature by the key was asked for,
    /// signs nobody in, and must be registered again.
    #[serde(default)]
    pub registered_by: Option<KeyOrigin>,
}
