//! Sign-in by password.

use std::collections::BTreeMap;
use std::net::IpAddr;

use iam_sorry_core::api;
use iam_sorry_core::identity::{Method, Via};
use iam_sorry_store::{PageRequest, Session};
use secrecy::ExposeSecret;
use tokio::time::timeout;

use crate::caller::RequestSource;
use crate::error::ServiceError;
use crate::login::limits::{Attempt, CountedAs, TooOften, same_network};
use crate::login::{LoginError, RejectReason};
use crate::service::Service;
use crate::sessions::door::{Failed, LoginAttempt, NewSession, PROOF_TIMEOUT, slow};
use crate::sessions::sign_in_texts::{not_offered, too_often};

impl Service {
    /// `POST /login/ldap`, and the sign-in page.
    ///
    /// # Errors
    /// sign-in-refused, whatever was wrong; too-many-requests; directory-unavailable.
    pub async fn sign_in_ldap(
        &self,
        source: &RequestSource,
        via: Via,
        request: api::LdapLogin,
    ) -> Result<NewSession, ServiceError> {
        let (service, source) = (self.clone(), source.clone());
        self.detached(async move { service.by_password(&source, via, request).await }).await
    }

    async fn by_password(
        &self,
        source: &RequestSource,
        via: Via,
        request: api::LdapLogin,
    ) -> Result<NewSession, ServiceError> {
        let directory = self.sign_in().methods().password().ok_or_else(|| not_offered(Method::Ldap))?;
        let mut login_attempt = LoginAttempt::new(source, Method::Ldap, via);
        login_attempt.details.extend(self.sign_in().typed.describe(&request.username));
        let (limits, now) = (&self.sign_in().limits, self.clock().now_ms());
        let mut attempt = limits.begin(Method::Ldap, None, source.address, now).await.map_err(too_often)?;
        let password = &request.password;
        if password.expose_secret().is_empty() || password.expose_secret().contains('\0') {
            let refused = async { Err(Failed::from(LoginError::Refused(RejectReason::EmptyPassword))) };
            return self.conclude(login_attempt, attempt, refused).await;
        }
        let found =
            timeout(PROOF_TIMEOUT, directory.find(&request.username)).await.unwrap_or_else(|_| Err(slow()));
        let candidate = match found {
            Ok(candidate) => candidate,
            Err(error) => return self.conclude(login_attempt, attempt, async { Err(error.into()) }).await,
        };
        if let Some(name) = candidate.known_as() {
            (login_attempt.name, login_attempt.details) = (name.to_owned(), BTreeMap::new());
        }
        if let Some(wait) = self.too_often(&mut attempt, candidate.counted_as(), source).await? {
            drop(attempt);
            self.refused(&login_attempt, RejectReason::TooOften).await?;
            return Err(too_often(wait));
        }
        let proof = async { Ok(directory.prove(&candidate, password, self.clock().now()).await?.into()) };
        self.conclude(login_attempt, attempt, proof).await
    }

    /// How long it takes until this may be tried, if it was tried too often.
    async fn too_often(
        &self,
        attempt: &mut Attempt,
        who: &CountedAs,
        source: &RequestSource,
    ) -> Result<Option<TooOften>, ServiceError> {
        let (limits, address) = (&self.sign_in().limits, source.address);
        let Err(wait) = limits.attempt_as(attempt, who, address).await else { return Ok(None) };
        // After a restart, and on another instance, only their sessions say which addresses are their own. Looked for under
        // any name, so that it takes as long.
        let (CountedAs::Person(id) | CountedAs::Typed(id)) = who;
        if !self.has_session_from(id, address).await? {
            return Ok(Some(wait));
        }
        limits.remember(id, address, self.clock().now_ms());
        Ok(limits.attempt_as(attempt, who, address).await.err())
    }

    async fn has_session_from(&self, person: &str, address: IpAddr) -> Result<bool, ServiceError> {
        let page = PageRequest { cursor: None, limit: 100 };
        let sessions = self.store().list_sessions(Some(person), page).await?.items;
        let from_there =
            |session: &Session| session.address.parse().is_ok_and(|other| same_network(other, address));
        Ok(sessions.iter().any(from_there))
    }
}
