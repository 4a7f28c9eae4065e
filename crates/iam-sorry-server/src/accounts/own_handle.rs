//! The handle that every action uses: AWS, with the service's own credentials as they are now.

use std::sync::Arc;

use iam_sorry_core::api::ProblemCode;

use crate::accounts::handle::AwsHandle;
use crate::error::ServiceError;
use crate::service::Service;

impl Service {
    /// AWS, with credentials that are good now.
    ///
    /// # Errors
    /// aws-refused if the service has none.
    pub async fn handle(&self) -> Result<Arc<AwsHandle>, ServiceError> {
        let parts = &self.inner.parts;
        let credentials = parts.identity.current(self.clock().now()).await.map_err(|error| {
            tracing::error!(%error, "no AWS identity");
            ServiceError::new(
                ProblemCode::AwsRefused,
                "The service has no AWS credentials at the moment, so nothing was done.\nTell its operator; the log says why.",
            )
        })?;
        if let Some(handle) = self.inner.handle.with(&credentials) {
            return Ok(handle);
        }
        self.record_own_credentials(&credentials).await?;
        let handle = Arc::new(AwsHandle { aws: parts.aws.keeping(&credentials), credentials });
        self.inner.handle.keep(handle.clone());
        Ok(handle)
    }
}
