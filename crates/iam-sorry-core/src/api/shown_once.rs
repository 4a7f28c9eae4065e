//! The only writers of answers that hold a secret: one explicit call each, into a buffer that is wiped when dropped.
//!
//! The types themselves have no `Serialize`, so none of them gets into a log, a page or a stored result by accident.

use secrecy::ExposeSecret;
use serde::Serialize;
use zeroize::Zeroizing;

use super::{IssuedCredentials, LdapLogin, NewKey, SignedIn};
use crate::credentials::push_json_string;

/// A JSON object that is written field by field. Its buffer never grows: growing would leave copies behind.
struct SecretJson(Zeroizing<String>);

impl SecretJson {
    /// `secrets` is the length of everything secret; the rest is bounded by `public`.
    fn new(secrets: usize, public: usize) -> Self {
        // Escaped, a character takes six at most (`\u001f`).
        Self(Zeroizing::new(String::with_capacity(secrets * 6 + public + 512)))
    }

    fn text(mut self, name: &str, value: &str) -> Self {
        push_json_string(self.name(name), value);
        self
    }

    /// Already JSON.
    fn json(mut self, name: &str, value: &str) -> Self {
        self.name(name).push_str(value);
        self
    }

    fn end(mut self) -> Zeroizing<String> {
        self.0.push('}');
        self.0
    }

    fn name(&mut self, name: &str) -> &mut String {
        let before = if self.0.is_empty() { '{' } else { ',' };
        self.0.push(before);
        push_json_string(&mut self.0, name);
        self.0.push(':');
        &mut self.0
    }
}

/// Public parts have no map with odd keys, so they always become JSON.
fn public(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned())
}

impl SignedIn {
    /// The whole answer, the session token included.
    pub fn to_json(&self) -> Zeroizing<String> {
        let (token, identity) = (self.token.expose_secret(), public(&self.identity));
        SecretJson::new(token.len(), identity.len())
            .text("token", token)
            .text("expires_at", &self.expires_at)
            .json("idle_seconds", &self.idle_seconds.to_string())
            .json("identity", &identity)
            .end()
    }
}

impl LdapLogin {
    /// The whole request, the password included.
    pub fn to_json(&self) -> Zeroizing<String> {
        let password = self.password.expose_secret();
        SecretJson::new(password.len() + self.username.len(), 0)
            .text("username", &self.username)
            .text("password", password)
            .end()
    }
}

impl NewKey {
    /// The whole answer, the secret access key included.
    pub fn to_json(&self) -> Zeroizing<String> {
        let (secret, done) = (self.secret_access_key.expose_secret(), public(&self.done));
        let old_key = public(&self.old_key);
        SecretJson::new(secret.len(), done.len() + self.access_key_id.len() * 6 + old_key.len())
            .json("done", &done)
            .text("access_key_id", &self.access_key_id)
            .text("secret_access_key", secret)
            .json("old_key", &old_key)
            .end()
    }
}

impl IssuedCredentials {
    /// The whole answer, secret access key and session token included.
    pub fn to_json(&self) -> Zeroizing<String> {
        let (secret, token) = (self.secret_access_key.expose_secret(), self.session_token.expose_secret());
        let done = public(&self.done);
        SecretJson::new(
            secret.len() + token.len(),
            done.len() + (self.arn.len() + self.access_key_id.len()) * 6,
        )
        .json("done", &done)
        .text("arn", &self.arn)
        .text("access_key_id", &self.access_key_id)
        .text("secret_access_key", secret)
        .text("session_token", token)
        .text("expiration", &self.expiration)
        .json("duration_seconds", &self.duration_seconds.to_string())
        .end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{ActionName, Change, Done, KeyStatus, OldKey, PersonInfo};
    use crate::identity::Method;

    const ODD: &str = "a\"b\\c\n\u{1f}é\u{1F600}/+=";

    fn done() -> Done {
        Done {
            operation: "op-1".into(),
            action: ActionName::CreateAccessKey,
            resource: ODD.into(),
            changed: true,
            dry_run: false,
            notes: vec![ODD.into()],
            changes: vec![Change::UserGone { user: ODD.into() }],
            reasons: vec!["rule \"x\"".into()],
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        let identity = PersonInfo {
            issuer: "corp".into(),
            subject: "7".into(),
            name: ODD.into(),
            groups: vec![ODD.into()],
            method: Method::SshKey,
        };
        let signed = SignedIn {
            token: ODD.into(),
            expires_at: "2026-11-22T19:00:00Z".into(),
            idle_seconds: 900,
            identity: identity.clone(),
        };
        let read: SignedIn = serde_json::from_str(&signed.to_json()).unwrap();
        assert_eq!(read.token.expose_secret(), ODD);
        assert_eq!((read.identity, read.idle_seconds), (identity, 900));

        let old_key = OldKey {
            access_key_id: "AKIB".into(),
            status: KeyStatus::Inactive,
            deleted_after: Some("2026-11-25T19:00:00Z".into()),
        };
        let key = NewKey {
            done: done(),
            access_key_id: "AKIA".into(),
            secret_access_key: ODD.into(),
            old_key: Some(old_key),
        };
        let read: NewKey = serde_json::from_str(&key.to_json()).unwrap();
        assert_eq!((read.secret_access_key.expose_secret(), read.done), (ODD, done()));
        assert_eq!(read.old_key, key.old_key);

        let issued = IssuedCredentials {
            done: done(),
            arn: ODD.into(),
            access_key_id: "ASIA".into(),
            secret_access_key: "s".into(),
            session_token: ODD.into(),
            expiration: "2026-11-22T19:00:00Z".into(),
            duration_seconds: 3600,
        };
        let read: IssuedCredentials = serde_json::from_str(&issued.to_json()).unwrap();
        assert_eq!((read.session_token.expose_secret(), read.duration_seconds), (ODD, 3600));
        assert_eq!((read.arn.as_str(), read.secret_access_key.expose_secret()), (ODD, "s"));

        let login = LdapLogin { username: ODD.into(), password: ODD.into() };
        let read: LdapLogin = serde_json::from_str(&login.to_json()).unwrap();
        assert_eq!((read.username.as_str(), read.password.expose_secret()), (ODD, ODD));
    }

    #[test]
    fn the_buffer_never_grows() {
        for secret in ["", "x", &"\u{1}".repeat(5000)] {
            let key = NewKey {
                done: done(),
                access_key_id: "A".into(),
                secret_access_key: secret.into(),
                old_key: None,
            };
            let json = key.to_json();
            let bound = secret.len() * 6 + public(&done()).len() + 6 + "null".len() + 512;
            assert_eq!(json.capacity(), bound, "{} bytes", json.len());
        }
    }
}
