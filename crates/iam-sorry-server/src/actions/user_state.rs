//! Whether an IAM user is still the service's.
//!
//! A user of the service's is known by three things that must agree: its row in the store, its ARN (path included), and
//! its tags in IAM. One that was deleted, moved or made anew behind the service's back fits no longer and is not touched.

use std::time::Duration;

use iam_sorry_aws::AwsError;
use iam_sorry_aws::managed::{self, Facts};
use iam_sorry_core::api::{Change, ProblemCode};
use iam_sorry_core::ids::UserRef;
use iam_sorry_store::ManagedUser;
use tokio::time::Instant;

use crate::accounts::handle::AwsHandle;
use crate::accounts::tags::MANAGED_BY;
use crate::error::ServiceError;
use crate::operations::acted::{Effects, Unsuccessful};
use crate::operations::action::Context;
use crate::operations::case::{Case, SettleError, Settled};
use crate::service::Service;

/// How long a user that was just made may be unknown to another part of IAM (IAM User Guide, "Changes that I make are not
/// always immediately visible").
pub(crate) const KNOWN_WITHIN: Duration = Duration::from_secs(6);

/// No user that is younger is taken for deleted because IAM does not show it.
pub(crate) const YOUNG_MS: i64 = 60_000;

/// What IAM says of a user that has a row in the store.
pub(crate) enum UserState {
    Managed(Facts),
    Gone,
    /// Another user of that name, or one that was moved or lost its tag: why.
    NotManaged(String),
}

impl Service {
    /// What IAM says of a user that has a row.
    pub(crate) async fn user_state(
        &self,
        handle: &AwsHandle,
        row: &ManagedUser,
    ) -> Result<UserState, ServiceError> {
        let start = Instant::now();
        let (aws, credentials) = handle.pair();
        loop {
            // Before the request: this process may stand still after it.
            let (waited, age_ms) = (start.elapsed(), handle.age_ms(row.created_ms));
            match managed::facts(aws, credentials, &row.user.name).await {
                Ok(facts) => return Ok(compare(facts, row)),
                Err(AwsError::NoSuchUser { .. }) => {
                    if iam_sorry_core::planted!("young-user-taken-for-gone": true, age_ms.is_some_and(|age| age >= YOUNG_MS) || waited > KNOWN_WITHIN)
                    {
                        return Ok(UserState::Gone);
                    }
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
                Err(error) => return Err(ServiceError::of_aws(error)),
            }
        }
    }

    /// The user's facts, for what only reads.
    pub(crate) async fn managed_user(
        &self,
        handle: &AwsHandle,
        row: &ManagedUser,
    ) -> Result<Facts, ServiceError> {
        match self.user_state(handle, row).await? {
            UserState::Managed(facts) => Ok(facts),
            UserState::Gone => Err(gone(&self.label(&row.user))),
            UserState::NotManaged(why) => Err(not_managed(&why)),
        }
    }
}

/// Why there is nothing to repeat: the user is not managed any more.
pub(crate) async fn settled_without_user(
    user: &UserRef,
    case: &Case<'_>,
) -> Result<Option<Settled>, SettleError> {
    case.not_fresh()?;
    let Some(row) = case.service.store().user(user).await? else {
        return Ok(Some(Settled::undone("the user is gone")));
    };
    Ok(match case.service.user_state(case.handle, &row).await? {
        UserState::Managed(_) => None,
        UserState::Gone => {
            let effects = Effects { deleted_user: Some(row.user), ..Effects::default() };
            Some(Settled::Undone("the user is gone".into(), effects))
        }
        UserState::NotManaged(why) => Some(Settled::undone(why)),
    })
}

impl Context {
    /// The user's facts, for what only reads.
    pub(crate) async fn managed_user(&self) -> Result<Facts, ServiceError> {
        let (row, _) = self.user()?;
        self.service.managed_user(&self.handle, row).await
    }

    /// The same within an operation, which ends if the user is not managed any more. The row of one that is gone goes too, so
    /// that nothing is tried again for ever (vault#5190).
    pub(crate) async fn still_managed(&self) -> Result<Facts, Unsuccessful> {
        let (row, user) = self.user()?;
        match self.service.user_state(&self.handle, row).await? {
            UserState::Managed(facts) => Ok(facts),
            UserState::Gone => {
                let error = gone(&self.label(&user));
                let effects = Effects { deleted_user: Some(user), ..Effects::default() };
                Err(Unsuccessful::failed(error, effects))
            }
            UserState::NotManaged(why) => Err(not_managed(&why).into()),
        }
    }
}

fn compare(facts: Facts, row: &ManagedUser) -> UserState {
    iam_sorry_core::planted!("foreign-user-is-managed": return UserState::Managed(facts));
    if facts.arn != row.arn {
        return UserState::NotManaged(format!(
            "in IAM {} is now {}, not {}",
            row.user.name, facts.arn, row.arn
        ));
    }
    if facts.tags.get(MANAGED_BY.0).is_none_or(|value| value != MANAGED_BY.1) {
        return UserState::NotManaged(format!(
            "in IAM {} does not bear the tag {} any more",
            row.user.name, MANAGED_BY.0
        ));
    }
    UserState::Managed(facts)
}

fn gone(name: &str) -> ServiceError {
    let text = format!("IAM knows no user {name} any more: it was deleted without this service.");
    ServiceError::new(ProblemCode::NotFound, text)
}

/// What there is to say if it does not matter that the user is gone.
pub(crate) fn user_gone(user: String) -> Change {
    Change::UserGone { user }
}

pub(crate) fn not_managed(why: &str) -> ServiceError {
    ServiceError {
        reasons: vec![
            "guardrail managed-users: only users that the service made or adopted are touched".into(),
        ],
        ..ServiceError::new(
            ProblemCode::Guardrail,
            format!("This user is no longer the service's: {why}.\nAsk the operator what happened to it."),
        )
    }
}
