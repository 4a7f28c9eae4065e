//! Sign-in by the one-time link of `serve --dev`.

use iam_sorry_core::identity::{Method, Via};
use iam_sorry_store::{FlowCaps, FlowKind};
use secrecy::{ExposeSecret, SecretString};

use crate::caller::RequestSource;
use crate::error::ServiceError;
use crate::login::dev::{self, DevLink};
use crate::login::{LoginError, RejectReason, flow};
use crate::service::Service;
use crate::sessions::door::{LoginAttempt, NewSession};
use crate::sessions::sign_in_texts::{not_offered, too_often};

impl Service {
    /// Makes the link of this secret good, once, for ten minutes. It takes the place of the one before.
    ///
    /// # Errors
    /// not-found without `--dev`; store-unavailable.
    pub async fn begin_dev_link(&self, secret: &SecretString) -> Result<(), ServiceError> {
        let step = self.dev_link()?.first_step(secret, self.clock().now_ms());
        self.begin_flow(step, dev::OFFER, FlowCaps { each: 1, ..FlowCaps::default() }).await
    }

    /// The one-time link of `serve --dev`.
    ///
    /// # Errors
    /// sign-in-refused
    pub async fn sign_in_dev(
        &self,
        source: &RequestSource,
        secret: &SecretString,
    ) -> Result<NewSession, ServiceError> {
        let (service, source, secret) = (self.clone(), source.clone(), secret.clone());
        self.detached(async move { service.by_link(&source, &secret).await }).await
    }

    async fn by_link(
        &self,
        source: &RequestSource,
        secret: &SecretString,
    ) -> Result<NewSession, ServiceError> {
        let link = self.dev_link()?;
        let login_attempt = LoginAttempt::new(source, Method::DevLink, Via::Browser);
        let (limits, now) = (&self.sign_in().limits, self.clock().now_ms());
        let attempt = limits.begin(Method::DevLink, None, source.address, now).await.map_err(too_often)?;
        let proof = async {
            let refused = LoginError::Refused(RejectReason::Link);
            // Before it is taken: nobody elsewhere uses it up.
            if !link.is_for(source.address) {
                return Err(refused.into());
            }
            let key = flow::key(FlowKind::DevLink, dev::OFFER, secret.expose_secret());
            match self.store().take_login_flow(key).await? {
                Some(flow) if self.continued(&flow, source.address) => Ok(link.admin().into()),
                _ => Err(refused.into()),
            }
        };
        self.conclude(login_attempt, attempt, proof).await
    }

    fn dev_link(&self) -> Result<&DevLink, ServiceError> {
        self.sign_in().methods().dev_link().ok_or_else(|| not_offered(Method::DevLink))
    }
}
