//! The handle that an action uses: the AWS account that it is done in, with the service's own credentials as they are now.

use std::sync::Arc;

use iam_sorry_core::api::ProblemCode;
use iam_sorry_core::ids::AccountName;

use crate::accounts::handle::AwsHandle;
use crate::accounts::registry::{Accounts, AwsAccount};
use crate::error::ServiceError;
use crate::service::Service;

impl Service {
    /// The accounts that the service manages.
    pub(crate) fn accounts(&self) -> &Accounts {
        &self.inner.parts.accounts
    }

    /// The account that goes without saying.
    pub fn first_account(&self) -> &AccountName {
        &self.accounts().first().name
    }

    /// AWS, with credentials of this account that are good now.
    ///
    /// # Errors
    /// not-found if the service has no such account; aws-refused if it has no credentials of it.
    pub async fn handle(&self, account: &AccountName) -> Result<Arc<AwsHandle>, ServiceError> {
        let account = self.account(account)?;
        let credentials = account.identity.current(self.clock().now()).await.map_err(|error| {
            tracing::error!(%error, account = %account.name, "no AWS identity");
            ServiceError::new(
                ProblemCode::AwsRefused,
                "The service has no AWS credentials at the moment, so nothing was done.\nTell its operator; the log says why.",
            )
        })?;
        if let Some(handle) = account.handle.with(&credentials) {
            return Ok(handle);
        }
        self.record_own_credentials(&credentials).await?;
        let handle = Arc::new(AwsHandle { aws: account.aws.keeping(&credentials), credentials });
        account.handle.keep(handle.clone());
        Ok(handle)
    }

    /// The account of this name.
    pub(crate) fn account(&self, name: &AccountName) -> Result<&AwsAccount, ServiceError> {
        self.accounts().get(name).ok_or_else(|| {
            let known: Vec<_> = self.accounts().iter().map(|account| account.name.as_str()).collect();
            ServiceError::new(
                ProblemCode::NotFound,
                format!("This service has no account {name:?}.\nIts accounts: {}", known.join(", ")),
            )
        })
    }
}
