//! Temporary credentials for a user, through a manager: at most six requests, GetUser, ListAccessKeys, CreateAccessKey, GetSessionToken,
//! DeleteAccessKey, GetCallerIdentity. The number does not grow with the account. See [`crate::journal`] for what
//! happens if the process dies between any two of them.

use iam_sorry_core::credentials::{AccessKey, Credentials};
use iam_sorry_core::names::{CallerArn, SessionDuration, UserName};

use crate::errors::AwsError;
pub use crate::issuer::{Issuer, Progress};
use crate::journal::Purpose;
pub use crate::kept::KeptKey;
use crate::kept::{delete_made_key, make_key, undo, until_valid};
use crate::lookup::{User, caller, describe};
pub use crate::session::{Mfa, RoleRequest, Session, assume_role, session_from_key};
use crate::session::{check_identity, session_token};

/// What [`issue_for_user`] gives.
#[derive(Debug)]
pub struct Issued {
    /// The user's temporary credentials.
    pub credentials: Credentials,
    /// The user, in IAM's spelling.
    pub user: User,
    /// The key, if it is to be kept. Store it, then call [`KeptKey::kept`].
    pub kept: Option<KeptKey>,
    /// The user is the manager itself, whose session, made without MFA, can't call IAM.
    pub of_manager: bool,
}

/// Temporary credentials that are `user`'s own, with a key that exists only for as long as it takes (or stays, with
/// `keep_key`).
///
/// # Errors
/// [`AwsError::NoSuchUser`], [`AwsError::KeyLimit`] (no key touched), [`AwsError::Interrupted`] (key deleted),
/// [`AwsError::AnswerLost`], [`AwsError::SessionRefusedAfterDelete`], [`AwsError::KeyLeft`] if the key may still
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
