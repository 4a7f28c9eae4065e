//! Making an access key within an operation, and taking it back if it can't be handed out.

use iam_sorry_aws::AwsError;
use iam_sorry_aws::key::lost::FirstUse;
use iam_sorry_aws::key::{self, MakeError, TakeBackError};
use iam_sorry_core::api::{Done, GrantKind, NewKey};
use iam_sorry_core::credentials::AccessKey;
use iam_sorry_core::ids::UserRef;
use iam_sorry_store::{ManagedUser, NewGrant};
use serde::{Deserialize, Serialize};

use crate::accounts::aws_errors::may_be_gone;
use crate::error::ServiceError;
use crate::operations::acted::{Effects, Unsuccessful};
use crate::operations::action::Context;
use crate::operations::case::{Case, SettleError, Settled};
use crate::operations::key_journal::{JournalError, KeyJournal};
use crate::operations::lost_key::KeyIntent;
use crate::operations::open_operation::OpenOperation;

/// What an intent to make a key says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    pub(crate) user: UserRef,
    /// When, by AWS's clock, seconds since 1970: a key made earlier is not this operation's.
    pub(crate) since: i64,
    /// The keys that the user had before: none of them is this operation's. Absent if IAM did not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) before: Option<Vec<String>>,
}

/// Why the service takes a key back whose outcome was written, and whose answer could not be given.
pub(crate) const UNSHOWN: &str =
    "its secret reached nobody: the database did not say that the outcome was written";

/// Makes a key that stays; its id is on disk then.
pub(crate) async fn make(cx: &Context, op: &OpenOperation) -> Result<AccessKey, Unsuccessful> {
    let (_, user) = cx.user()?;
    let (aws, credentials) = cx.handle.pair();
    op.may_act()?;
    match key::make(aws, credentials, &user.name, &KeyJournal::Worker(op)).await {
        Ok(made) => Ok(made),
        Err(error) => Err(not_made(cx, op, &user, error).await),
    }
}

/// Makes a key that exists for a moment, and uses it while its id is on its way to the disk.
pub(crate) async fn make_and_use<T, F: Future<Output = Result<T, AwsError>>>(
    cx: &Context,
    op: &OpenOperation,
    first_use: impl FnOnce(AccessKey) -> F,
) -> Result<(AccessKey, T), Unsuccessful> {
    let (_, user) = cx.user()?;
    let (aws, credentials) = cx.handle.pair();
    op.may_act()?;
    match key::make_and_use(aws, credentials, &user.name, &KeyJournal::Worker(op), first_use).await {
        Ok((made, Ok(used))) => Ok((made, used)),
        Ok((made, Err(error))) => Err(take_back(cx, op, &user, &made.id, ServiceError::of_aws(error)).await),
        Err(error) => Err(not_made(cx, op, &user, error).await),
    }
}

/// The operation ends if no key was made, and stays open if one may have been.
async fn not_made(
    cx: &Context,
    op: &OpenOperation,
    user: &UserRef,
    error: MakeError<JournalError>,
) -> Unsuccessful {
    match error {
        MakeError::Lost(error) => op.left_open("AWS did not answer, and may have made an access key", &error),
        MakeError::NotNoted(made, error) => take_back(cx, op, user, &made.id, error.into()).await,
        MakeError::NotMade(error) => match why_not(cx, user, &error).await {
            Ok(()) => ServiceError::of_aws(error).into(),
            Err(better) => better,
        },
    }
}

/// # Errors
/// A better reason than AWS's, if there is one.
async fn why_not(cx: &Context, user: &UserRef, error: &AwsError) -> Result<(), Unsuccessful> {
    if matches!(error, AwsError::Refused { code, .. } if code.starts_with("LimitExceeded")) {
        cx.check_key_quota(user).await?;
    }
    if may_be_gone(error) {
        // Ends the operation if the user is gone or another's; if it is managed, the error stands.
        cx.still_managed().await?;
    }
    Ok(())
}

/// Deletes a key that this operation made, and ends the operation with the error that led here; if the deletion fails, it stays
/// open. If it can't be written down first that the key goes, the reconciler is handed the id in memory.
pub(crate) async fn take_back(
    cx: &Context,
    op: &OpenOperation,
    user: &UserRef,
    id: &str,
    error: ServiceError,
) -> Unsuccessful {
    let ((aws, credentials), retry) = (cx.handle.pair(), cx.service.actions().retry_policy());
    let journal = KeyJournal::Worker(op);
    match key::take_back(aws, credentials, &user.name, id, &journal, &retry, |_| {}).await {
        Ok(()) => error.into(),
        Err(TakeBackError::NotDeleted(error)) => {
            op.left_open("An access key was made that could not be deleted yet", &error)
        }
        Err(TakeBackError::NotNoted(unwritten)) => {
            tracing::error!(error = %unwritten, operation = op.id, key = id, "a key was made whose id can't be written down");
            cx.service.inner.settling.hand_over(&op.id, user, id);
            match op.left_open("An access key was made that can't be written down", &unwritten) {
                Unsuccessful::LeftOpen(left) => {
                    Unsuccessful::LeftOpen(ServiceError { code: error.code, ..left })
                }
                failed @ Unsuccessful::Failed(..) => failed,
            }
        }
    }
}

/// Nobody has the secret of a key that the operation made, so it goes.
pub(crate) async fn settle(plan: &Plan, case: &Case<'_>) -> Result<Settled, SettleError> {
    let intent = KeyIntent {
        user: &plan.user,
        since: plan.since,
        before: plan.before.as_deref(),
        first_use: FirstUse::AfterNote,
    };
    let lost = case.take_back_key(intent).await?;
    Ok(lost.undone(Vec::new(), case.service.first_account()))
}

/// The new key in the store.
pub(crate) fn grant(row: &ManagedUser, made: &AccessKey, now_ms: i64) -> Effects {
    Effects {
        grants: vec![NewGrant {
            kind: GrantKind::AccessKey.as_str().to_owned(),
            account: row.user.account.clone(),
            resource: row.user.name.to_string(),
            access_key_id: made.id.clone(),
            issued_ms: now_ms,
            expires_ms: None,
        }],
        details: vec![("access-key-id", made.id.clone())],
        ..Effects::default()
    }
}

/// The new key as the person gets it.
pub(crate) fn shown_once(done: Done, made: AccessKey) -> NewKey {
    NewKey { done, access_key_id: made.id, secret_access_key: made.secret, old_key: None }
}
