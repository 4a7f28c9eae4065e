//! `[aws]`: where AWS is, and where the service's own identity comes from.

use std::path::PathBuf;

use serde::Deserialize;

use crate::secret_ref::SecretRef;

/// The way to AWS.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AwsSettings {
    /// Such as `eu-central-1`; its STS endpoint is used.
    pub region: String,
    /// Twelve digits: if the identity turns out to be of another account, the service does not start.
    pub account: Option<String>,
    /// Whose credentials the service acts with.
    pub identity: IdentitySource,
    /// For emulators and private endpoints; `https`, or `http` on loopback.
    pub endpoint_sts: Option<String>,
    /// The same for IAM.
    pub endpoint_iam: Option<String>,
    /// PEM file with the only CAs to trust.
    pub ca_file: Option<PathBuf>,
}

/// Where the service's credentials come from. Temporary ones are read again before they end.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum IdentitySource {
    /// A permanent access key.
    AccessKey {
        /// `AKIA...`.
        id: String,
        /// Its secret.
        secret: SecretRef,
    },
    /// A profile of a credentials file that something else keeps fresh.
    Profile {
        /// The file; `~` is not expanded.
        file: PathBuf,
        /// The profile's name.
        name: String,
    },
    /// A program that prints credential_process JSON (AWS SDKs and Tools Reference Guide, "Process credential provider"),
    /// such as `aws_signing_helper credential-process ...` for IAM Roles Anywhere. No shell is involved.
    Process(Vec<String>),
    /// AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN.
    Environment,
}
