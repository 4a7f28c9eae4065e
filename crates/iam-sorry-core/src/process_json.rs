//! The JSON of a credential_process, Version 1, as other programs print it and as we keep it.

use serde::Deserialize;

use crate::credentials::Credentials;
use crate::timestamp::Timestamp;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    version: u32,
    access_key_id: String,
    secret_access_key: String,
    session_token: Option<String>,
    expiration: Option<String>,
}

/// What is wrong with it, in words that hold nothing of it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum JsonError {
    /// Not JSON, or without a field that it needs.
    #[error("it is not the JSON of a credential_process (line {line}, column {column})")]
    Json {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
    /// Another version of the format.
    #[error("its Version is {0}, not 1")]
    Version(u32),
    /// An empty access key.
    #[error("it has no access key")]
    NoKey,
    /// An Expiration that can't be read.
    #[error("its Expiration is no ISO 8601 date and time")]
    Expiration,
}

/// Reads it (AWS SDKs and Tools Reference Guide, "Process credential provider").
///
/// # Errors
/// [`JsonError`], which shows nothing of the text.
pub fn read(text: &[u8]) -> Result<Credentials, JsonError> {
    let answer: Answer =
        serde_json::from_slice(text).map_err(|e| JsonError::Json { line: e.line(), column: e.column() })?;
    if answer.version != 1 {
        return Err(JsonError::Version(answer.version));
    }
    if answer.access_key_id.is_empty() || answer.secret_access_key.is_empty() {
        return Err(JsonError::NoKey);
    }
    let expiration = answer.expiration.filter(|at| !at.is_empty());
    Ok(Credentials {
        access_key_id: answer.access_key_id,
        secret_access_key: answer.secret_access_key.into(),
        session_token: answer.session_token.filter(|token| !token.is_empty()).map(Into::into),
        expiration: expiration
            .map(|at| Timestamp::parse(&at))
            .transpose()
            .map_err(|_| JsonError::Expiration)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use secrecy::ExposeSecret;

    proptest::proptest! {
        #[test]
        fn reads_what_we_print(secret in "\\PC+", token in proptest::option::of("\\PC+"), at in 0_i64..4_000_000_000) {
            let ours = Credentials {
                access_key_id: "ASIAEXAMPLE".into(),
                secret_access_key: secret.clone().into(),
                session_token: token.clone().map(Into::into),
                expiration: Timestamp::from_unix(at),
            };
            let read = read(ours.to_process_json().as_bytes()).unwrap();
            proptest::prop_assert_eq!(read.secret_access_key.expose_secret(), &secret);
            proptest::prop_assert_eq!(read.session_token.map(|t| t.expose_secret().to_owned()), token);
            proptest::prop_assert_eq!(read.expiration, ours.expiration);
        }

        #[test]
        fn never_panics_and_shows_nothing(text in "\\PC*") {
            if let Err(error) = read(format!("{{\"Version\":1,\"SecretAccessKey\":\"hunter2\",{text}").as_bytes()) {
                proptest::prop_assert!(!error.to_string().contains("hunter2"));
            }
        }
    }

    #[test]
    fn refuses_what_sdks_refuse() {
        let with = |version: u32, id: &str, at: &str| {
            read(format!(r#"{{"Version":{version},"AccessKeyId":"{id}","SecretAccessKey":"s","Expiration":"{at}"}}"#).as_bytes())
                .map(drop)
        };
        assert_eq!(with(2, "AKIA", "2026-11-22T00:00:00Z"), Err(JsonError::Version(2)));
        assert_eq!(with(1, "", "2026-11-22T00:00:00Z"), Err(JsonError::NoKey));
        assert_eq!(with(1, "AKIA", "soon"), Err(JsonError::Expiration));
        assert_eq!(with(1, "AKIA", ""), Ok(()));
    }
}
