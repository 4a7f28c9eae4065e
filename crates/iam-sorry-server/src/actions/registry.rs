//! Every action by its name: for what is stored, and for the reconciler.

use iam_sorry_core::api::{ActionName, Done, IssuedCredentials, NewKey};
use serde::{Deserialize, Serialize};

use crate::caller::Caller;
use crate::error::ServiceError;
use crate::operations::action::{Action, Mode, RunOutput};
use crate::operations::case::{Case, SettleError, Settled};
use crate::operations::idempotency::IdempotencyKey;
use crate::operations::stored_plan;
use crate::service::Service;

/// The actions are named once each; everything that depends on which one it is follows from that.
macro_rules! registry {
    ($($file:ident::$name:ident,)+) => {
        $(use crate::actions::$file::$name;)+

        /// An action of any kind, as it is stored: `{"action":"delete-user","user":"dirk"}`. A new field of an action needs a
        /// default, since what was stored before must be read.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(tag = "action", rename_all = "kebab-case")]
        pub enum StoredAction {
            $(#[doc = concat!("[`", stringify!($name), "`].")] $name($name),)+
        }

        $(impl From<$name> for StoredAction {
            fn from(action: $name) -> Self {
                Self::$name(action)
            }
        })+

        impl StoredAction {
            /// Its name.
            pub fn name(&self) -> ActionName {
                match self {
                    $(Self::$name(_) => <$name as Action>::NAME,)+
                }
            }

            /// Runs it, as [`Service::run`] does.
            ///
            /// # Errors
            /// As [`Service::run`].
            pub async fn run(
                self,
                service: &Service,
                caller: &Caller,
                key: Option<&IdempotencyKey>,
                mode: Mode,
            ) -> Result<RunOutput<AnyOutput>, ServiceError> {
                Ok(match self {
                    $(Self::$name(action) => match service.run(caller, key, action, mode).await? {
                        RunOutput::Acted(output) => RunOutput::Acted(output.into()),
                        RunOutput::Unchanged(done) => RunOutput::Unchanged(done),
                    },)+
                })
            }
        }

        /// Settles an operation by its action.
        pub(crate) async fn settle(name: ActionName, case: &Case<'_>) -> Result<Settled, SettleError> {
            match name {
                $(ActionName::$name => settle_as::<$name>(case).await,)+
            }
        }
    };
}

registry! {
    create_user::CreateUser,
    delete_user::DeleteUser,
    adopt_user::AdoptUser,
    attach_policy::AttachPolicy,
    detach_policy::DetachPolicy,
    create_access_key::CreateAccessKey,
    rotate_key::RotateKey,
    confirm_key::ConfirmKey,
    restore_key::RestoreKey,
    retire_key::RetireKey,
    delete_access_key::DeleteAccessKey,
    issue_credentials::IssueCredentials,
    assume_role::AssumeRole,
}

/// What any action gives.
#[derive(Debug)]
pub enum AnyOutput {
    /// Nothing secret.
    Done(Done),
    /// A permanent key.
    Key(NewKey),
    /// Temporary credentials.
    Credentials(IssuedCredentials),
}

impl From<Done> for AnyOutput {
    fn from(done: Done) -> Self {
        Self::Done(done)
    }
}

impl From<NewKey> for AnyOutput {
    fn from(key: NewKey) -> Self {
        Self::Key(key)
    }
}

impl From<IssuedCredentials> for AnyOutput {
    fn from(credentials: IssuedCredentials) -> Self {
        Self::Credentials(credentials)
    }
}

async fn settle_as<A: Action>(case: &Case<'_>) -> Result<Settled, SettleError> {
    let plan: A::Plan = stored_plan::read(A::PLAN, &case.operation.new.plan)?;
    A::settle(&plan, case).await
}
