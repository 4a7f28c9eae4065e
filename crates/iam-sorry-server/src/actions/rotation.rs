//! How a rotation ends: the holder confirms the new key, takes the rotation back, or the old key's time is over.
//!
//! | what happens                        | old key, inactive and not used since | old key in use, or active again |
//! |-------------------------------------|--------------------------------------|---------------------------------|
//! | confirm-key (a person)              | deleted                              | stays; the rotation is over     |
//! | retire-key (the service, by time)   | deleted, if the new key is active    | stays; the rotation is over     |
//! | restore-key (a person)              | active again; the new key is deleted unless it is in use           ||
//!
//! All three read the rotation's row and IAM again once they hold the user for themselves: what was seen before may have
//! been changed by another request.

use iam_sorry_aws::AwsError;
use iam_sorry_core::api::{Change, Done, ProblemCode};
use iam_sorry_core::ids::UserRef;
use iam_sorry_store::{NewRotation, Rotation, RotationChange};
use serde::{Deserialize, Serialize};

use crate::accounts::aws_errors::is_final;
use crate::actions::user_state::user_gone;
use crate::error::ServiceError;
use crate::operations::acted::{Acted, Effects, Success};
use crate::operations::action::{Context, Planned};
use crate::operations::case::{Case, SettleError, Settled};
use crate::operations::open_operation::OpenOperation;
use crate::service::Service;

/// What an intent to end a rotation says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    pub(crate) user: UserRef,
    pub(crate) old: String,
    pub(crate) new: String,
}

impl Plan {
    pub(crate) fn new(user: UserRef, rotation: &NewRotation) -> Self {
        Self { user, old: rotation.old_key.clone(), new: rotation.new_key.clone() }
    }

    /// For the intent's record.
    pub(crate) fn details(&self) -> Vec<(&'static str, String)> {
        vec![("old-access-key-id", self.old.clone()), ("access-key-id", self.new.clone())]
    }
}

/// What an end came to: what was done, and what becomes of it in the store.
pub(crate) type Ended = (Vec<Change>, Effects);

/// By which of its two keys a rotation is named.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum By {
    /// To confirm it.
    NewKey,
    /// To take it back.
    OldKey,
}

impl Service {
    /// The user's rotation that nobody has confirmed, by one of its keys.
    pub(crate) async fn rotation(
        &self,
        user: &UserRef,
        id: &str,
        by: By,
    ) -> Result<Option<Rotation>, ServiceError> {
        let rotations = self.store().rotations_of(user).await?;
        Ok(rotations.into_iter().find(|found| match by {
            By::NewKey => found.new.new_key == id,
            By::OldKey => found.new.old_key == id,
        }))
    }
}

/// What is planned. A rotation that was confirmed or restored before, or never was one: nothing is done, and nothing is wrong
/// with saying so again.
pub(crate) async fn plan(cx: &Context, id: &str, by: By) -> Result<Planned<Plan>, ServiceError> {
    let (_, user) = cx.user()?;
    if let Some(rotation) = cx.service.rotation(&user, id, by).await? {
        return Ok(Planned::Act(Plan::new(user, &rotation.new)));
    }
    cx.managed_user().await?;
    let active = cx.is_active(&user, id).await?;
    let name = cx.label(&user);
    let other = match by {
        By::NewKey => By::OldKey,
        By::OldKey => By::NewKey,
    };
    if let Some(rotation) = cx.service.rotation(&user, id, other).await? {
        return Err(ServiceError::new(ProblemCode::Conflict, names_the_other(by, &name, &rotation.new)));
    }
    if by == By::OldKey && !active {
        return Err(ServiceError::new(
            ProblemCode::Conflict,
            format!(
                "{id} is inactive, but not because this service rotated it, so it stays as it is.\nRotate it all the \
                 same: iam-sorry keys rotate {name} {id}"
            ),
        ));
    }
    Ok(Planned::Nothing(vec![already_over(id)]))
}

/// How the act ends.
pub(crate) fn ended(op: &OpenOperation, ended: Result<Ended, AwsError>) -> Acted<Done> {
    match ended {
        Ok((changes, effects)) => Ok(Success::new(changes, effects)),
        Err(error) if is_final(&error) => Err(ServiceError::of_aws(error).into()),
        Err(error) => Err(op.left_open("AWS did not answer while the rotation was being ended", &error)),
    }
}

/// The rotation to go on with, if it is not over.
pub(crate) async fn to_settle(plan: &Plan, case: &Case<'_>) -> Result<Option<Rotation>, SettleError> {
    case.not_fresh()?;
    Ok(case.service.rotation(&plan.user, &plan.old, By::OldKey).await?)
}

/// How going on ends.
pub(crate) fn settled(
    plan: &Plan,
    case: &Case<'_>,
    ended: Result<Ended, AwsError>,
) -> Result<Settled, SettleError> {
    match ended {
        Ok((changes, effects)) => Ok(Settled::Done(changes, effects)),
        // Keys die with their user.
        Err(AwsError::NoSuchUser { .. }) => {
            let deleted_user = Some(plan.user.clone());
            let effects = Effects { deleted_user, ..Effects::default() };
            Ok(Settled::Done(vec![user_gone(case.label(&plan.user))], effects))
        }
        Err(error) if is_final(&error) => Ok(Settled::undone("AWS refused it")),
        Err(error) => Err(error.into()),
    }
}

/// There was nothing to go on with.
pub(crate) fn settled_before(plan: &Plan) -> Settled {
    Settled::done(already_over(&plan.old))
}

/// The rotation waits for nothing any more, and its old key stays.
pub(crate) fn over(rotation: &Rotation) -> Effects {
    let change = RotationChange::Ended { old_key: rotation.new.old_key.clone() };
    Effects { rotation: Some(change), ..Effects::default() }
}

pub(crate) fn already_over(id: &str) -> Change {
    Change::RotationOver { access_key_id: id.to_owned() }
}

/// What to say to somebody who names the wrong one of the two keys.
fn names_the_other(by: By, name: &str, rotation: &NewRotation) -> String {
    let (old, new) = (&rotation.old_key, &rotation.new_key);
    match by {
        By::NewKey => format!(
            "{old} is the old key of a rotation, and what is confirmed is the new one.\nConfirm it: iam-sorry keys confirm {name} \
             {new}"
        ),
        By::OldKey => format!(
            "{new} is the new key of a rotation, and what is restored is the old one.\nTake the rotation back: iam-sorry keys \
             restore {name} {old}"
        ),
    }
}
