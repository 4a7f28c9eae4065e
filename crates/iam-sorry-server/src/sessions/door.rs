//! The one door to a session, whatever the method: limits, then proof (`login/`), then the audit record and the session in one
//! transaction, and only then the token. An error anywhere gives no token (CVE-2026-46405): there is one place that makes one,
//! and it is reached with a proved identity alone.
//!
//! Every refusal is recorded before it is answered (counted if they come in a flood: `audit/counted`), says the same whatever
//! was wrong, and comes no sooner than a fixed time. Whoever hangs up in the middle is recorded all the same.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use iam_sorry_core::api::{self, SignedIn};
use iam_sorry_core::audit::{Event, Outcome, Person};
use iam_sorry_core::identity::{Identity, Method, Via};
use iam_sorry_store::{Session, SessionKey, StoreError};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::{Instant, sleep_until, timeout};
use zeroize::Zeroizing;

use crate::caller::RequestSource;
use crate::clock::rfc3339;
use crate::error::ServiceError;
use crate::login::limits::Attempt;
use crate::login::{LoginError, RejectReason};
use crate::random_name::random_name;
use crate::service::Service;
use crate::sessions::secrets::{TOKEN_PREFIX, form_secret, hash, random};
use crate::sessions::sign_in_texts::{not_checked, refusal};

/// A proof that takes longer has failed.
pub(super) const PROOF_TIMEOUT: Duration = Duration::from_secs(30);

/// A session that was just opened. The answer holds its token: shown once, to whom it belongs.
#[derive(Debug)]
pub struct NewSession {
    /// What the person gets.
    pub answer: SignedIn,
    /// Names the session; no secret.
    pub id: String,
}

/// Somebody who tries to sign in.
pub(super) struct LoginAttempt<'a> {
    pub(super) source: &'a RequestSource,
    pub(super) method: Method,
    pub(super) via: Via,
    /// The name that was typed, if the directory knows it. Empty if it does not: a password is easily typed into the name
    /// field, so what is no known name is kept nowhere.
    pub(super) name: String,
    pub(super) details: BTreeMap<String, String>,
    started: Instant,
}

impl Service {
    /// Waits for the proof and does what follows from it. The one way to a session.
    pub(super) async fn conclude(
        &self,
        login_attempt: LoginAttempt<'_>,
        attempt: Attempt,
        proof: impl Future<Output = Result<Proved, Failed>>,
    ) -> Result<NewSession, ServiceError> {
        let proved = timeout(PROOF_TIMEOUT, proof).await.unwrap_or_else(|_| Err(slow().into()));
        let limits = &self.sign_in().limits;
        match proved {
            Ok(proved) => {
                attempt.succeeded();
                limits.remember(&proved.identity.id(), login_attempt.source.address, self.clock().now_ms());
                self.open_session(login_attempt, proved).await
            }
            // Whoever this is has proved something, so it is no guess, and they may know more.
            Err(Failed::Known(why, refusal)) => {
                attempt.succeeded();
                self.refused(&login_attempt, why).await?;
                Err(refusal)
            }
            Err(Failed::Service(refusal)) => {
                attempt.succeeded();
                Err(refusal)
            }
            Err(Failed::Login(LoginError::Refused(why))) => {
                drop(attempt);
                self.refused(&login_attempt, why).await?;
                let earliest = Duration::from_millis(limits.settings().refusal_milliseconds.into());
                sleep_until(login_attempt.started + earliest).await;
                Err(refusal())
            }
            Err(Failed::Login(error)) => {
                attempt.succeeded();
                tracing::error!(request = login_attempt.source.request_id, %error, "sign-in can't be checked");
                let mut event = self.sign_in_event(&login_attempt);
                event.outcome = Some(Outcome::Failure);
                event.details.insert("reason".to_owned(), "not-checked".to_owned());
                self.record_refused_sign_in(event, login_attempt.source.address).await?;
                Err(not_checked(&error))
            }
        }
    }

    pub(super) async fn refused(
        &self,
        login_attempt: &LoginAttempt<'_>,
        why: RejectReason,
    ) -> Result<(), ServiceError> {
        let mut event = self.sign_in_event(login_attempt);
        event.outcome = Some(Outcome::Failure);
        event.details.insert("reason".to_owned(), why.to_string());
        if self.record_refused_sign_in(event, login_attempt.source.address).await? {
            tracing::info!(request = login_attempt.source.request_id, method = %login_attempt.method, %why, "sign-in refused");
        }
        Ok(())
    }

    async fn open_session(
        &self,
        login_attempt: LoginAttempt<'_>,
        proved: Proved,
    ) -> Result<NewSession, ServiceError> {
        let Proved { identity, key } = proved;
        let random = random()?;
        let token = Zeroizing::new(format!("{TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode(&random[..])));
        let id = random_name()?;
        let (now, settings) = (self.clock().now_ms(), *self.sign_in().sessions());
        let session = Session {
            id: id.clone(),
            token_hash: hash(&token),
            form_hash: Some(hash(form_secret(&token).expose_secret())),
            identity: identity.clone(),
            method: login_attempt.method,
            via: Some(login_attempt.via),
            signed_in_ms: now,
            last_used_ms: now,
            expires_ms: now + settings.longest_ms(),
            address: login_attempt.source.address.to_canonical().to_string(),
            key,
        };
        let answer = SignedIn {
            token: SecretString::from(token.as_str()),
            expires_at: rfc3339(session.expires_ms),
            idle_seconds: settings.idle_minutes * 60,
            identity: api::PersonInfo::from(&identity),
        };
        let mut event = self.sign_in_event(&login_attempt);
        event.person = Person::from(&identity);
        event.outcome = Some(Outcome::Success);
        event.details.insert("session".to_owned(), id.clone());
        if let Some(key) = &session.key {
            event.details.insert("key_registered_by".to_owned(), key.registered_by.to_string());
        }
        event.details.insert("expires".to_owned(), answer.expires_at.clone());
        self.store().create_session(session, event).await?;
        Ok(NewSession { answer, id })
    }

    fn sign_in_event(&self, login_attempt: &LoginAttempt<'_>) -> Event {
        Event {
            time_ms: self.clock().now_ms(),
            instance: self.instance().to_owned(),
            person: Person {
                name: login_attempt.name.clone(),
                method: Some(login_attempt.method),
                ..Person::default()
            },
            address: login_attempt.source.address.to_canonical().to_string(),
            request_id: login_attempt.source.request_id.clone(),
            action: "sign-in".to_owned(),
            via: Some(login_attempt.via.to_string()),
            details: login_attempt.details.clone(),
            ..Event::default()
        }
    }
}

impl<'a> LoginAttempt<'a> {
    pub(super) fn new(source: &'a RequestSource, method: Method, via: Via) -> Self {
        Self { source, method, via, name: String::new(), details: BTreeMap::new(), started: Instant::now() }
    }
}

/// Who was proved, and by which SSH key.
pub(super) struct Proved {
    pub identity: Identity,
    pub key: Option<SessionKey>,
}

impl From<Identity> for Proved {
    fn from(identity: Identity) -> Self {
        Self { identity, key: None }
    }
}

/// Why there is no identity.
pub(super) enum Failed {
    /// The source says so.
    Login(LoginError),
    /// Recorded as any other, but whoever it is holds the private key, and reads why.
    Known(RejectReason, ServiceError),
    /// The service could not do its part.
    Service(ServiceError),
}

impl From<LoginError> for Failed {
    fn from(error: LoginError) -> Self {
        Self::Login(error)
    }
}

impl From<ServiceError> for Failed {
    fn from(refusal: ServiceError) -> Self {
        Self::Service(refusal)
    }
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self::Service(error.into())
    }
}

pub(super) fn slow() -> LoginError {
    LoginError::Unavailable("no answer in time".to_owned())
}
