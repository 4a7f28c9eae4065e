//! Making an access key within an operation, and taking it back if it can't be handed out.

use iam_sorry_aws::AwsError;
use iam_sorry_aws::primitives::{self, NotMade};
use iam_sorry_core::api::{Done, GrantKind, NewKey};
use iam_sorry_core::credentials::AccessKey;
use iam_sorry_core::names::UserName;
use iam_sorry_store::{ManagedUser, NewGrant};
use serde::{Deserialize, Serialize};

use crate::accounts::aws_errors::may_be_gone;
use crate::error::ServiceError;
use crate::operations::acted::{Effects, Unsuccessful};
use crate::operations::action::Context;
use crate::operations::case::{Case, SettleError, Settled};
use crate::operations::notes::Note;
use crate::operations::open_operation::OpenOperation;

/// What an intent to make a key says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    pub(crate) user: UserName,
    /// When, by AWS's clock, seconds since 1970: a key made earlier is not this operation's.
    pub(crate) since: i64,
    /// The keys that the user had before: none of them is this operation's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) before: Vec<String>,
}

/// Makes a key that stays; its id is on disk then. `room`: the user had fewer than two keys a moment ago, and IAM itself says
/// so if that is not true any more.
pub(crate) async fn make_and_note(
    cx: &Context,
    op: &OpenOperation,
    room: bool,
) -> Result<AccessKey, Unsuccessful> {
    let (_, name) = cx.user()?;
    if !room {
        cx.check_key_quota(&name).await?;
    }
    let made = make(cx, op).await?;
    match note(op, &made).await {
        Ok(()) => Ok(made),
        Err(error) => Err(take_back(cx, op, &name, &made.id, error).await),
    }
}

/// Makes a key. The operation ends if none was made, and stays open if one may have been.
pub(crate) async fn make(cx: &Context, op: &OpenOperation) -> Result<AccessKey, Unsuccessful> {
    let (_, name) = cx.user()?;
    let (aws, credentials) = cx.handle.pair();
    op.may_act()?;
    let error = match primitives::create_access_key(aws, credentials, &name).await {
        Ok(made) => return Ok(made),
        Err(NotMade::Perhaps(error)) => {
            return Err(op.left_open("AWS did not answer, and may have made an access key", &error));
        }
        Err(NotMade::Certainly(error)) => error,
    };
    if matches!(&error, AwsError::Refused { code, .. } if code.starts_with("LimitExceeded")) {
        cx.check_key_quota(&name).await?;
    }
    if may_be_gone(&error) {
        // Ends the operation if the user is gone or another's; if it is managed, the error stands.
        cx.still_managed().await?;
    }
    Err(ServiceError::of_aws(error).into())
}

/// The id of a key that was just made goes to disk; if it can't, the key must go.
pub(crate) async fn note(op: &OpenOperation, made: &AccessKey) -> Result<(), ServiceError> {
    op.note(&Note::Key { id: made.id.clone() }).await.map_err(ServiceError::from)
}

/// Deletes a key that this operation made, and ends the operation with the error that led here; if the deletion fails, it stays
/// open. What proves that the key is the operation's own is its id, which AWS gave to nobody else; so the id goes to disk and
/// into the trail first, or to the reconciler by hand.
pub(crate) async fn take_back(
    cx: &Context,
    op: &OpenOperation,
    name: &UserName,
    id: &str,
    error: ServiceError,
) -> Unsuccessful {
    let what = format!("access key {id}, which was just made");
    let note = Note::TakingBackKey { id: id.to_owned() };
    if let Err(unwritten) = op.note_undoing(&note, &what).await {
        tracing::error!(error = %unwritten, operation = op.id, key = id, "a key was made whose id can't be written down");
        cx.service.inner.settling.hand_over(&op.id, name, id);
        let left = op.left_open("An access key was made that can't be written down", &unwritten);
        return match left {
            Unsuccessful::LeftOpen(left) => Unsuccessful::LeftOpen(ServiceError { code: error.code, ..left }),
            failed @ Unsuccessful::Failed(..) => failed,
        };
    }
    let ((aws, credentials), timeouts) = (cx.handle.pair(), cx.service.actions().timeouts());
    match primitives::delete_key_surely(aws, credentials, name, id, &timeouts).await {
        Ok(()) => error.into(),
        Err(error) => op.left_open("An access key was made that could not be deleted yet", &error),
    }
}

/// Nobody has the secret of a key that the operation made, so it goes.
pub(crate) async fn settle(plan: &Plan, case: &Case<'_>) -> Result<Settled, SettleError> {
    let lost = case.take_back_key(&plan.user, plan.since, &plan.before).await?;
    Ok(lost.undone(Vec::new()))
}

/// The new key in the store.
pub(crate) fn grant(row: &ManagedUser, made: &AccessKey, now_ms: i64) -> Effects {
    Effects {
        grants: vec![NewGrant {
            kind: GrantKind::AccessKey.as_str().to_owned(),
            resource: row.name.clone(),
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
