//! Parts of the published document that no type of the core is: parameters, and answers of two shapes.

use iam_sorry_core::api::{Done, IssuedCredentials, NewKey};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

/// The header that makes a request safe to send again.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "only its description is used")]
pub struct IdempotencyHeader {
    /// The same key again gives the same outcome, without its secrets (draft-ietf-httpapi-idempotency-key-header).
    #[serde(rename = "Idempotency-Key")]
    #[param(required = false, pattern = "^[A-Za-z0-9_-]{8,64}$")]
    pub idempotency_key: Option<String>,
}

/// A user in the path.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "only its description is used")]
pub struct UserPath {
    /// The IAM user's name.
    #[param(min_length = 1, max_length = 64, example = "dirk-etl")]
    pub name: String,
}

/// A user's key in the path.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "only its description is used")]
pub struct KeyPath {
    /// The IAM user's name.
    #[param(min_length = 1, max_length = 64, example = "dirk-etl")]
    pub name: String,
    /// The access key's id, `AKIA...`.
    #[param(pattern = "^[A-Z0-9]{16,128}$")]
    pub id: String,
}

/// A new key, or what a dry run says.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
pub enum NewKeyAnswer {
    /// The key.
    New(NewKey),
    /// A dry run.
    DryRun(Done),
}

/// What any action gives.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
pub enum ActionAnswer {
    /// Nothing secret, or a dry run.
    Done(Done),
    /// A permanent key.
    Key(NewKey),
    /// Temporary credentials.
    Credentials(IssuedCredentials),
}

/// Credentials, or what a dry run says.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema is used")]
pub enum IssuedAnswer {
    /// The credentials.
    New(IssuedCredentials),
    /// A dry run.
    DryRun(Done),
}

/// Where users are.
pub(crate) const USERS: &str = "/users";

/// What stands before [`USERS`] in the path of a user whose account is named.
pub(crate) const IN_ACCOUNT: &str = "/accounts/{account}";
