//! Sessions: from a user's own key, and of a role.

use iam_sorry_core::credentials::{AccessKey, Credentials};
use iam_sorry_core::names::{CallerArn, SessionDuration, UserName};
use iam_sorry_core::timestamp::Timestamp;
use secrecy::{ExposeSecret, SecretString};

use crate::client::Aws;
use crate::errors::AwsError;
use crate::lookup::{caller, describe};

/// A code of an MFA device.
#[derive(Clone, Debug)]
pub struct Mfa {
    /// Serial number or ARN of the device.
    pub serial: String,
    /// The six digits it shows.
    pub code: SecretString,
}

/// Temporary credentials, and whose they are as AWS says.
#[derive(Clone, Debug)]
pub struct Session {
    /// The credentials, with their expiry.
    pub credentials: Credentials,
    /// What sts:GetCallerIdentity answers to them.
    pub caller: CallerArn,
}

/// A session of the user who owns `key` (sts:GetSessionToken; needs no permission). Two requests.
///
/// # Errors
/// [`AwsError::WrongIdentity`] if the key is not `expected`'s; [`AwsError::MfaWrong`]; otherwise as any request.
pub async fn session_from_key(
    aws: &Aws,
    key: &AccessKey,
    duration: SessionDuration,
    mfa: Option<&Mfa>,
    expected: Option<&UserName>,
) -> Result<Session, AwsError> {
    let credentials = session_token(aws, key, duration, mfa).await?;
    let caller = caller(aws, &credentials).await?;
    if let Some(user) = expected {
        check_identity(&caller, user)?;
    }
    Ok(Session { credentials, caller })
}

pub(crate) async fn session_token(
    aws: &Aws,
    key: &AccessKey,
    duration: SessionDuration,
    mfa: Option<&Mfa>,
) -> Result<Credentials, AwsError> {
    let serial = mfa.map_or("", |m| m.serial.as_str());
    let context = aws.context("sts:GetSessionToken", &key.id, serial);
    let seconds = i32::try_from(duration.seconds()).unwrap_or(i32::MAX);
    let mut request = aws.sts(&key.clone().into()).get_session_token().duration_seconds(seconds);
    if let Some(mfa) = mfa {
        request = request.serial_number(&mfa.serial).token_code(mfa.code.expose_secret());
    }
    let answer = request.send().await.map_err(|e| context.failed(e))?;
    let credentials = answer.credentials.and_then(temporary);
    credentials.ok_or_else(|| context.bad_answer("no credentials"))
}

/// STS's credentials in this crate's type; `None` if a part is missing.
fn temporary(answer: aws_sdk_sts::types::Credentials) -> Option<Credentials> {
    let expiration = Timestamp::from_unix(answer.expiration.secs())?;
    let complete = [&answer.access_key_id, &answer.secret_access_key, &answer.session_token];
    if complete.into_iter().any(String::is_empty) {
        return None;
    }
    Some(Credentials {
        access_key_id: answer.access_key_id,
        secret_access_key: answer.secret_access_key.into(),
        session_token: Some(answer.session_token.into()),
        expiration: Some(expiration),
    })
}

pub(crate) fn check_identity(caller: &CallerArn, expected: &UserName) -> Result<(), AwsError> {
    if caller.user() == Some(expected) {
        return Ok(());
    }
    Err(AwsError::WrongIdentity { expected: expected.to_string(), found: describe(caller) })
}

/// The role that sts:AssumeRole is called for.
#[derive(Clone, Debug)]
pub struct RoleRequest {
    /// ARN of the role.
    pub role_arn: String,
    /// Name of the session, as CloudTrail shows it: 2 to 64 of letters, digits and `=,.@_-`.
    pub session_name: String,
    /// The external ID, if the role's trust policy wants one.
    pub external_id: Option<String>,
    /// Seconds: 900 up to the role's maximum, at most 3600 if the credentials are a role's themselves.
    pub seconds: Option<u32>,
    /// A code, if the trust policy wants one.
    pub mfa: Option<Mfa>,
    /// Who is behind it, set once and kept through a chain of roles.
    pub source_identity: Option<String>,
    /// Session tags.
    pub tags: Vec<(String, String)>,
}

/// A role's temporary credentials (sts:AssumeRole).
///
/// # Errors
/// As any request; AWS's refusal names what is missing.
pub async fn assume_role(
    aws: &Aws,
    credentials: &Credentials,
    role: &RoleRequest,
) -> Result<Session, AwsError> {
    let serial = role.mfa.as_ref().map_or("", |m| m.serial.as_str());
    let context = aws.context("sts:AssumeRole", &credentials.access_key_id, serial);
    let mut tags = Vec::with_capacity(role.tags.len());
    for (key, value) in &role.tags {
        let tag = aws_sdk_sts::types::Tag::builder().key(key).value(value).build();
        tags.push(
            tag.map_err(|e| AwsError::Settings(format!("the session tag {key:?} can't be used: {e}")))?,
        );
    }
    let request = aws
        .sts(credentials)
        .assume_role()
        .role_arn(&role.role_arn)
        .role_session_name(&role.session_name)
        .set_external_id(role.external_id.clone())
        .set_duration_seconds(role.seconds.map(|s| i32::try_from(s).unwrap_or(i32::MAX)))
        .set_serial_number(role.mfa.as_ref().map(|m| m.serial.clone()))
        .set_token_code(role.mfa.as_ref().map(|m| m.code.expose_secret().to_owned()))
        .set_source_identity(role.source_identity.clone())
        .set_tags((!tags.is_empty()).then_some(tags));
    let answer = request.send().await.map_err(|e| context.failed(e))?;
    let arn = answer.assumed_role_user().map(|user| user.arn().to_owned());
    let arn = arn.ok_or_else(|| context.bad_answer("no role"))?;
    let caller = CallerArn::parse(&arn).map_err(|e| context.bad_answer(e.0))?;
    let credentials =
        answer.credentials.and_then(temporary).ok_or_else(|| context.bad_answer("no credentials"))?;
    Ok(Session { credentials, caller })
}
