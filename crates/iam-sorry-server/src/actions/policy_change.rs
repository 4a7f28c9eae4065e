//! What attaching and detaching a managed policy have in common.

use iam_sorry_aws::AwsError;
use iam_sorry_core::api::{Change, Done};
use iam_sorry_core::ids::UserRef;
use serde::{Deserialize, Serialize};

use crate::accounts::aws_errors::is_final;
use crate::error::ServiceError;
use crate::operations::acted::{Acted, Effects, Success};
use crate::operations::case::{SettleError, Settled};
use crate::operations::open_operation::OpenOperation;

/// What an intent says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    pub(crate) user: UserRef,
    pub(crate) arn: String,
}

/// How the act ends; `changed` says what was done.
pub(crate) fn ended(op: &OpenOperation, changed: Result<Change, AwsError>) -> Acted<Done> {
    match changed {
        Ok(change) => Ok(Success::new(vec![change], Effects::default())),
        Err(error) if is_final(&error) || matches!(error, AwsError::Throttled { .. }) => {
            Err(ServiceError::of_aws(error).into())
        }
        Err(error) => Err(op.left_open("AWS did not answer, and may have done it", &error)),
    }
}

/// How the repetition ends.
pub(crate) fn settled(changed: Result<Change, AwsError>) -> Result<Settled, SettleError> {
    match changed {
        Ok(change) => Ok(Settled::done(change)),
        Err(error) if is_final(&error) => Ok(Settled::undone("AWS refused it")),
        Err(error) => Err(error.into()),
    }
}
