//! AWS credentials in memory: redacted when debugged, wiped when dropped, printable only on purpose.

use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use crate::timestamp::Timestamp;

/// A permanent access key of an IAM user.
#[derive(Clone, Debug)]
pub struct AccessKey {
    /// The access key ID (`AKIA...`); names the key, is no secret.
    pub id: String,
    /// The secret access key.
    pub secret: SecretString,
}

/// What signs AWS requests: a permanent key, or a temporary one with its session token.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The access key ID (`AKIA...` permanent, `ASIA...` temporary).
    pub access_key_id: String,
    /// The secret access key.
    pub secret_access_key: SecretString,
    /// The session token; present exactly when the credentials are temporary.
    pub session_token: Option<SecretString>,
    /// When AWS stops accepting them; `None` for permanent keys, or where nobody wrote it down.
    pub expiration: Option<Timestamp>,
}

impl From<AccessKey> for Credentials {
    fn from(key: AccessKey) -> Self {
        Self { access_key_id: key.id, secret_access_key: key.secret, session_token: None, expiration: None }
    }
}

impl Credentials {
    /// Permanent credentials have no session token.
    pub fn is_permanent(&self) -> bool {
        self.session_token.is_none()
    }

    /// Seconds until they expire, negative once they have; `None` where no expiration is known.
    pub fn seconds_left(&self, now: Timestamp) -> Option<i64> {
        self.expiration.map(|at| at.seconds_after(now))
    }

    /// The output of a `credential_process`, Version 1 (AWS SDKs and Tools Reference Guide, "Process credential
    /// provider"): one line of JSON, wiped when dropped.
    pub fn to_process_json(&self) -> Zeroizing<String> {
        let mut json = self.begin_json("{\"Version\":1");
        if let Some(token) = &self.session_token {
            push_json_field(&mut json, "SessionToken", token.expose_secret());
        }
        if let Some(at) = self.expiration {
            push_json_field(&mut json, "Expiration", &at.to_string());
        }
        json.push('}');
        json
    }

    /// The answer of a container-credentials endpoint (AWS SDKs and Tools Reference Guide, "Container credential
    /// provider"), wiped when dropped. SDKs want all four fields, so the caller says until when a set may be used that
    /// has no expiration of its own; one without a token has an empty one.
    pub fn to_container_json(&self, until: Timestamp) -> Zeroizing<String> {
        let mut json = self.begin_json("{\"Code\":\"Success\"");
        push_json_field(&mut json, "Token", self.session_token.as_ref().map_or("", |t| t.expose_secret()));
        push_json_field(&mut json, "Expiration", &self.expiration.unwrap_or(until).to_string());
        json.push('}');
        json
    }

    fn begin_json(&self, first: &str) -> Zeroizing<String> {
        let mut json = Zeroizing::new(String::with_capacity(4096));
        json.push_str(first);
        push_json_field(&mut json, "AccessKeyId", &self.access_key_id);
        push_json_field(&mut json, "SecretAccessKey", self.secret_access_key.expose_secret());
        json
    }
}

/// `,"name":"value"`.
fn push_json_field(out: &mut String, name: &str, value: &str) {
    out.push_str(",\"");
    out.push_str(name);
    out.push_str("\":");
    push_json_string(out, value);
}

/// RFC 8259, section 7. By hand, because a serializer would leave copies of secrets in buffers that nobody wipes.
pub(crate) fn push_json_string(out: &mut String, value: &str) {
    out.push('"');
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn temporary(secret: &str) -> Credentials {
        Credentials {
            access_key_id: "ASIAEXAMPLE".into(),
            secret_access_key: secret.into(),
            session_token: Some("token".into()),
            expiration: Timestamp::from_unix(1_761_480_000),
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let shown = format!("{:?}", temporary("hunter2"));
        assert!(!shown.contains("hunter2") && !shown.contains("token\""), "{shown}");
    }

    #[test]
    fn process_json_is_version_1() {
        assert_eq!(
            temporary("s").to_process_json().as_str(),
            r#"{"Version":1,"AccessKeyId":"ASIAEXAMPLE","SecretAccessKey":"s","SessionToken":"token","Expiration":"2025-10-26T12:00:00Z"}"#
        );
    }

    #[test]
    fn container_json_has_every_field_that_sdks_want() {
        let until = Timestamp::from_unix(1_761_480_600).unwrap();
        assert_eq!(
            temporary("s").to_container_json(until).as_str(),
            r#"{"Code":"Success","AccessKeyId":"ASIAEXAMPLE","SecretAccessKey":"s","Token":"token","Expiration":"2025-10-26T12:00:00Z"}"#
        );
        let permanent = Credentials::from(AccessKey { id: "AKIAEXAMPLE".into(), secret: "s".into() });
        let json = permanent.to_container_json(until);
        assert!(json.ends_with(r#""Token":"","Expiration":"2025-10-26T12:10:00Z"}"#), "{}", json.as_str());
    }

    proptest::proptest! {
        #[test]
        fn process_json_survives_any_secret(secret in "\\PC*|[\\x00-\\x7f]*") {
            let json = temporary(&secret).to_process_json();
            let read: serde_json::Value = serde_json::from_str(&json).unwrap();
            proptest::prop_assert_eq!(read["SecretAccessKey"].as_str(), Some(secret.as_str()));
        }
    }
}
