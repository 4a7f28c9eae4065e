//! `retire-key`: the time of a rotation's old key is over, and nobody has confirmed the new one, so the old key goes, unless it
//! is in use. The service does this itself, through the same pipeline as every action, under its own name.
//!
//! | left open after | in IAM                  | settled                                      |
//! |-----------------|-------------------------|----------------------------------------------|
//! | any step        | the old key, or nothing | finished, unless the old key is in use by now |

use std::time::Duration;

use iam_sorry_aws::AwsError;
use iam_sorry_core::api::{ActionName, Change, Done, KeptReason, ProblemCode, RotationKey};
use iam_sorry_core::ids::UserRef;
use iam_sorry_rules::Action as Right;
use iam_sorry_store::Rotation;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::actions::confirm_key;
use crate::actions::key_state::key_id;
use crate::actions::old_key::OldKey;
use crate::actions::rotation::{self, By, Plan};
use crate::actions::user_state::{UserState, not_managed};
use crate::authz::authorize::AuthzRequest;
use crate::error::ServiceError;
use crate::operations::acted::Acted;
use crate::operations::action::{Action, Context, Planned, RunOutput};
use crate::operations::case::{Case, SettleError, Settled};
use crate::operations::notes::json;
use crate::operations::open_operation::OpenOperation;
use crate::service::Service;

/// How long an old key is left alone that could not be deleted although its time is over.
const PAUSE: Duration = Duration::from_secs(600);

/// The same if another request was at work on the user.
const BUSY_PAUSE: Duration = Duration::from_secs(10);

/// Of how many old keys the time may be over at once; the others have their turn afterwards.
const AT_ONCE: u32 = 1000;

/// For how long one instance has the turn to retire keys.
const LEASE: Duration = Duration::from_secs(15);

/// Deletes the old key of a rotation whose time is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RetireKey {
    user: UserRef,
    /// The old key.
    key: String,
}

impl RetireKey {
    /// # Errors
    /// invalid-name.
    pub fn new(user: UserRef, access_key_id: &str) -> Result<Self, ServiceError> {
        Ok(Self { user, key: key_id(access_key_id)? })
    }
}

impl Action for RetireKey {
    const NAME: ActionName = ActionName::RetireKey;
    const PLAN: &'static str = "retire-key";
    const BY_SERVICE_ONLY: bool = true;
    type Plan = Plan;
    type Output = Done;

    fn request(&self) -> AuthzRequest {
        AuthzRequest::user(Right::RotateKey, self.user.clone())
    }

    fn parameters(&self) -> String {
        json(&self.key)
    }

    /// A look before the intent, so that what can't be done does not fill the trail.
    async fn plan(&self, cx: &Context) -> Result<Planned<Plan>, ServiceError> {
        let (row, user) = cx.user()?;
        let not_now = |reason| {
            Ok(Planned::Nothing(vec![Change::KeyKept {
                user: cx.label(&user),
                access_key_id: self.key.clone(),
                rotation: RotationKey::Old,
                active: false,
                reason,
                until: None,
            }]))
        };
        let Some(found) = cx.service.rotation(&user, &self.key, By::OldKey).await? else {
            return Ok(Planned::Nothing(vec![rotation::already_over(&self.key)]));
        };
        if let UserState::NotManaged(why) = cx.service.user_state(&cx.handle, row).await? {
            return Err(not_managed(&why));
        }
        match cx.service.old_key_now(&cx.handle, &user.name, &found).await {
            Ok(OldKey::JustUsed(reason)) => not_now(reason),
            Ok(OldKey::NewKeyInactive) => {
                not_now(KeptReason::NewKeyInactive { access_key_id: found.new.new_key })
            }
            Ok(_) | Err(AwsError::NoSuchUser { .. }) => Ok(Planned::Act(Plan::new(user, &found.new))),
            Err(error) => Err(ServiceError::of_aws(error)),
        }
    }

    async fn preview(&self, _: &Context, plan: &Plan) -> Result<Vec<Change>, ServiceError> {
        Ok(vec![confirm_key::old_key_deleted(plan)])
    }

    fn details(plan: &Plan) -> Vec<(&'static str, String)> {
        plan.details()
    }

    async fn act(&self, cx: &Context, plan: &Plan, op: &OpenOperation) -> Acted<Done> {
        confirm_key::retire(cx, plan, op).await
    }

    async fn settle(plan: &Plan, case: &Case<'_>) -> Result<Settled, SettleError> {
        confirm_key::settle(plan, case).await
    }
}

impl Service {
    /// Deletes the old keys whose time is over.
    pub(crate) async fn retire_what_is_due(&self) {
        if self.life().may_begin().is_err() {
            return;
        }
        let due = match self.store().due_rotations(self.clock().now_ms(), AT_ONCE).await {
            Ok(due) => due,
            Err(error) => return tracing::warn!(%error, "old keys whose time is over"),
        };
        for rotation in due {
            if !self.inner.retiring.is_due(&rotation.new.old_key) {
                continue;
            }
            // Two instances would only be in each other's way: the store lets one of them at the user.
            if self.inner.parts.other_instances
                && !self.store().lease("retiring keys", LEASE).await.unwrap_or(false)
            {
                return;
            }
            let old = rotation.new.old_key.clone();
            match self.retire_by_time(rotation).await {
                Ok(true) => self.inner.retiring.forget(&old),
                Ok(false) => self.inner.retiring.pause(old, PAUSE),
                Err(error) if error.code == ProblemCode::Busy => {
                    self.inner.retiring.pause(old, BUSY_PAUSE);
                }
                Err(error) => {
                    tracing::warn!(key = old, %error, "an old key whose time is over is still there");
                    self.inner.retiring.pause(old, PAUSE);
                }
            }
        }
    }

    /// False: it can't be decided now, and nothing was written.
    async fn retire_by_time(&self, rotation: Rotation) -> Result<bool, ServiceError> {
        let Some(row) = self.store().user(&rotation.new.user).await? else { return Ok(false) };
        let action = RetireKey::new(row.user.clone(), &rotation.new.old_key)?;
        let why = "nobody confirmed the new key, and the time of the old one is over";
        Ok(match self.run_itself(action, row, why).await? {
            RunOutput::Acted(_) => true,
            RunOutput::Unchanged(_) => false,
        })
    }
}

#[cfg(test)]
impl crate::actions::sample::Sample for RetireKey {
    const PLANS: &[&str] = &[r#"{"plan":"retire-key","user":"a","old":"AKIAOLD","new":"AKIANEW"}"#];
    const PARAMETERS: &str = r#""AKIAIOSFODNN7EXAMPLE""#;

    fn sample(fields: crate::actions::sample::Fields) -> Self {
        Self::new(fields.user, &fields.key).unwrap()
    }
}
