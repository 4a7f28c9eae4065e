//! Temporary credentials: from a user's own key, for a user through a manager, and for a role.
//!
//! For a user through a manager at most six requests: GetUser, ListAccessKeys, CreateAccessKey, GetSessionToken,
//! DeleteAccessKey, GetCallerIdentity. The number does not grow with the account. See [`crate::journal`] for what
//! happens when we die between any two of them.

use iam_sorry_core::credentials::{AccessKey, Credentials};
use iam_sorry_core::names::{CallerArn, SessionDuration, UserName};
use iam_sorry_core::timestamp::Timestamp;
use secrecy::{ExposeSecret, SecretString};

use crate::client::Aws;
use crate::errors::AwsError;
use crate::journal::Purpose;
pub use crate::key::{Issuer, KeptKey, Progress};
use crate::key::{delete_made_key, make_key, undo, until_valid};
use crate::lookup::{User, caller, describe};

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
/// [`AwsError::WrongIdentity`] where the key is not `expected`'s; [`AwsError::MfaWrong`]; otherwise as any request.
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

/// What [`issue_for_user`] gives.
#[derive(Debug)]
pub struct Issued {
    /// The user's temporary credentials.
    pub credentials: Credentials,
    /// The user, in IAM's spelling.
    pub user: User,
    /// The key, where it was asked to be kept. Store it, then call [`KeptKey::kept`].
    pub kept: Option<KeptKey>,
    /// The user is the manager itself, whose session, made without MFA, can't call IAM.
    pub of_manager: bool,
}

/// Temporary credentials that are `user`'s own, with a key that exists only for as long as it takes (or stays, with
/// `keep_key`).
///
/// # Errors
/// [`AwsError::NoSuchUser`], [`AwsError::KeyLimit`] (no key touched), [`AwsError::Interrupted`] (key deleted),
/// [`AwsError::AnswerLost`], [`AwsError::SessionRefusedAfterDelete`], [`AwsError::KeyLeft`] where the key may still
/// exist; otherwise as any request, with the key deleted.
pub async fn issue_for_user(
    issuer: &Issuer<'_>,
    user: &UserName,
    duration: SessionDuration,
    keep_key: bool,
) -> Result<Issued, AwsError> {
    let purpose = if keep_key { Purpose::Keep } else { Purpose::Once };
    let (user, made) = make_key(issuer, user, purpose).await?;
    let of_manager = made.of_manager;
    let credentials = match first_session(issuer, made.key(), duration).await {
        Ok(credentials) => credentials,
        Err(error) => return Err(undo(issuer, made, error).await),
    };
    if keep_key {
        return match confirm(issuer, &credentials, &user.arn).await {
            Ok(()) => Ok(Issued { credentials, user, kept: Some(made), of_manager }),
            Err(error) => Err(undo(issuer, made, error).await),
        };
    }
    delete_made_key(issuer, made, &mut None).await?;
    // AWS documents that a session outlives the key that made it; a refusal is reported, not written down as success.
    match confirm(issuer, &credentials, &user.arn).await {
        Ok(()) => Ok(Issued { credentials, user, kept: None, of_manager }),
        Err(cause @ (AwsError::InvalidKey { .. } | AwsError::Refused { .. } | AwsError::Expired { .. })) => {
            Err(AwsError::SessionRefusedAfterDelete { user: user.name.to_string(), cause: Box::new(cause) })
        }
        Err(error) => Err(error),
    }
}

/// GetSessionToken with a key that AWS may not know yet.
async fn first_session(
    issuer: &Issuer<'_>,
    key: &AccessKey,
    duration: SessionDuration,
) -> Result<Credentials, AwsError> {
    until_valid(issuer, key, || session_token(issuer.aws, key, duration, None)).await
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

/// STS's credentials as ours; `None` where a part is missing.
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

async fn confirm(issuer: &Issuer<'_>, credentials: &Credentials, user: &CallerArn) -> Result<(), AwsError> {
    check_arn(&issuer.cancel.unless(caller(issuer.aws, credentials)).await?, user)
}

/// Somebody of that name in another account or partition is somebody else.
fn check_arn(caller: &CallerArn, expected: &CallerArn) -> Result<(), AwsError> {
    let same_place = caller.account == expected.account && caller.partition == expected.partition;
    match expected.user() {
        Some(user) if same_place => check_identity(caller, user),
        user => Err(AwsError::WrongIdentity {
            expected: format!(
                "{} (account {}, partition {})",
                user.map_or("", UserName::as_str),
                expected.account,
                expected.partition
            ),
            found: format!("{} (partition {})", describe(caller), caller.partition),
        }),
    }
}

pub(crate) fn check_identity(caller: &CallerArn, expected: &UserName) -> Result<(), AwsError> {
    if caller.user() == Some(expected) {
        return Ok(());
    }
    Err(AwsError::WrongIdentity { expected: expected.to_string(), found: describe(caller) })
}

/// What to ask sts:AssumeRole for.
#[derive(Clone, Debug)]
pub struct RoleRequest {
    /// ARN of the role.
    pub role_arn: String,
    /// Name of the session, as CloudTrail shows it: 2 to 64 of letters, digits and `=,.@_-`.
    pub session_name: String,
    /// The secret handshake of a third party, where the role's trust policy wants one.
    pub external_id: Option<String>,
    /// Seconds: 900 up to the role's maximum, 3600 where the credentials are a role's themselves.
    pub seconds: Option<u32>,
    /// A code, where the trust policy wants one.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_name_in_another_account_or_partition_is_somebody_else() {
        let arn = |text: &str| CallerArn::parse(text).unwrap();
        for partition in ["aws", "aws-cn", "aws-us-gov", "aws-eusc"] {
            let admin = arn(&format!("arn:{partition}:iam::111122223333:user/division/admin"));
            let same = |text: String| check_arn(&arn(&text), &admin);
            assert!(same(format!("arn:{partition}:iam::111122223333:user/division/Admin")).is_ok());
            for other in [
                format!("arn:{partition}:iam::444455556666:user/division/admin"),
                "arn:aws-iso:iam::111122223333:user/division/admin".to_owned(),
                format!("arn:{partition}:iam::111122223333:user/usermanager"),
                format!("arn:{partition}:iam::111122223333:root"),
                format!("arn:{partition}:sts::111122223333:assumed-role/admin/admin"),
                format!("arn:{partition}:sts::111122223333:federated-user/admin"),
            ] {
                let error = same(other.clone()).unwrap_err();
                assert!(matches!(error, AwsError::WrongIdentity { .. }), "{other}: {error}");
            }
        }
    }
}
