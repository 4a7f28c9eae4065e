//! Sessions: whose token it is, lists of them, and their end.
//!
//! A token is looked up by its hash. What was found is kept for two seconds (`recent`). Now and then the person is looked up
//! again in their source (`recheck`), so that whoever was disabled there is out here within minutes.

use iam_sorry_core::api::{self, Page, ProblemCode};
use iam_sorry_core::audit::{Event, Outcome};
use iam_sorry_rules::{Action, Resource};
use iam_sorry_store::{PageRequest, Session, StoreError};
use tokio::time::Instant;

use crate::authz::authorize::{Authorized, AuthzRequest};
use crate::caller::{Caller, RequestSource};
use crate::clock::rfc3339;
use crate::error::ServiceError;
use crate::login::{RejectReason, dev};
use crate::service::Service;
use crate::sessions::secrets::{TOKEN_PREFIX, hash};
use crate::sessions::settings::SKEW_MS;

/// How often `last_used` is written.
const TOUCH_MS: i64 = 60_000;

impl Service {
    /// Whose token it is (`iss_...`, from `Authorization: Bearer` or the cookie).
    ///
    /// # Errors
    /// sign-in-needed; store-unavailable.
    pub async fn caller_by_token(&self, source: RequestSource, token: &str) -> Result<Caller, ServiceError> {
        // 32 bytes in base64url are 43 characters.
        if !token.starts_with(TOKEN_PREFIX) || token.len() != TOKEN_PREFIX.len() + 43 {
            return Err(self.sign_in_needed());
        }
        let (recent, token_hash) = (&self.sign_in().recent, hash(token));
        let (generation, read) = (recent.generation(), Instant::now());
        let kept = recent.find(&token_hash);
        let is_kept = kept.is_some();
        let mut session = match kept {
            Some(session) => session,
            None => {
                let found = self.store().session_by_token_hash(&token_hash).await?;
                found.ok_or_else(|| self.sign_in_needed())?
            }
        };
        let now = self.clock().now_ms();
        if !self.is_in_force(&session, now) {
            return Err(self.sign_in_needed());
        }
        if let Some(why) = self.with_known_person(&mut session, now).await? {
            return Err(self.end_for_good(session, source, why).await?);
        }
        if !is_kept {
            recent.keep(&session, read, generation);
        }
        if now - session.last_used_ms >= TOUCH_MS {
            match self.store().touch_session(&session.id, now).await {
                Ok(()) => {
                    session.last_used_ms = now;
                    recent.keep(&session, Instant::now(), generation);
                }
                // Reading goes on with a full disk; the session may end a little early.
                Err(error) => tracing::warn!(%error, "the use of a session can't be written down"),
            }
        }
        let identity = self.with_settled_groups(session.identity.clone());
        Ok(Caller { identity, session, source })
    }

    /// Ends the session of somebody who may not sign in any more.
    async fn end_for_good(
        &self,
        session: Session,
        source: RequestSource,
        why: RejectReason,
    ) -> Result<ServiceError, ServiceError> {
        let id = session.id.clone();
        let caller = Caller { identity: session.identity.clone(), session, source };
        let mut event = self.session_event(&caller, "end-session", &id);
        event.details.insert("reason".to_owned(), why.to_string());
        self.store().end_session(&id, event).await?;
        self.sign_in().recent.forget();
        Ok(self.sign_in_needed())
    }

    /// `GET /me`.
    ///
    /// # Errors
    /// [`ServiceError`]
    pub async fn me(&self, caller: &Caller) -> Result<api::Me, ServiceError> {
        let rules = self.rules();
        let namespaces = rules.namespaces_of(&caller.identity).into_iter();
        let namespaces = namespaces.map(|namespace| api::NamespaceInfo {
            name: namespace.name.clone(),
            path: namespace.path(),
            owners: namespace.owners.clone(),
        });
        let audit = self.evaluate(caller, &AuthzRequest::about(Action::ReadAudit, Resource::Audit), None);
        Ok(api::Me {
            identity: api::PersonInfo::from(&caller.identity),
            session: info(&caller.session, caller),
            namespaces: namespaces.collect(),
            roles: self.list_roles(caller).await?,
            auditor: audit.decision.allowed,
        })
    }

    /// `POST /logout`.
    ///
    /// # Errors
    /// store- or audit-unavailable: then the session is still there.
    pub async fn sign_out(&self, caller: &Caller) -> Result<(), ServiceError> {
        let event = self.session_event(caller, "sign-out", &caller.session.id);
        self.store().end_session(&caller.session.id, event).await?;
        self.sign_in().recent.forget();
        Ok(())
    }

    /// `GET /sessions`: mine; with `all`, everybody's, for those who may.
    ///
    /// # Errors
    /// not-allowed; bad-request for a cursor or limit that can't be.
    pub async fn list_sessions(
        &self,
        caller: &Caller,
        query: api::PageQuery,
    ) -> Result<Page<api::SessionInfo>, ServiceError> {
        let person = caller.identity.id();
        let allowed = if query.all { Some(self.may_manage_sessions(caller).await?) } else { None };
        let page = page(&query)?;
        if let Some(allowed) = allowed {
            self.record_reading(caller, "read-sessions", "all", &allowed, query.cursor.as_deref()).await?;
        }
        let of = (!query.all).then_some(person.as_str());
        let found = self.store().list_sessions(of, page).await.map_err(known)?;
        let now = self.clock().now_ms();
        let sessions = found.items.iter().filter(|session| self.is_in_force(session, now));
        Ok(Page { items: sessions.map(|session| info(session, caller)).collect(), next: found.next })
    }

    /// `DELETE /sessions/{id}`: one of mine, or anybody's for those who may.
    ///
    /// # Errors
    /// not-found; not-allowed.
    pub async fn end_session(&self, caller: &Caller, id: &str) -> Result<(), ServiceError> {
        let session = self.store().session(id).await?.ok_or_else(no_such_session)?;
        let mut event = self.session_event(caller, "end-session", id);
        if session.identity.id() != caller.identity.id() {
            self.may_manage_sessions(caller).await?.note_in(&mut event);
            event.details.insert("whose".to_owned(), session.identity.id());
        }
        let ended = self.store().end_session(id, event).await?;
        self.sign_in().recent.forget();
        if ended { Ok(()) } else { Err(no_such_session()) }
    }

    /// Ends every session of a person (`issuer/subject`), the caller's included; how many there were.
    ///
    /// # Errors
    /// not-allowed if it is another person.
    pub async fn end_sessions_of(&self, caller: &Caller, person: &str) -> Result<u64, ServiceError> {
        let mut event = self.session_event(caller, "end-sessions", person);
        if person != caller.identity.id() {
            self.may_manage_sessions(caller).await?.note_in(&mut event);
        }
        let ended = self.store().end_sessions_of(person, event).await?;
        self.sign_in().recent.forget();
        Ok(ended)
    }

    /// Deletes sessions and login flows whose time is over: now and then, by any instance.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn sweep_sessions(&self) -> Result<u64, StoreError> {
        let now = self.clock().now_ms();
        self.store().delete_expired(now, now - self.sign_in().sessions().idle_ms()).await
    }

    /// Whether it is neither over, nor idle for too long, nor from the future, nor of a `serve --dev` that this is not.
    fn is_in_force(&self, session: &Session, now: i64) -> bool {
        let sign_in = self.sign_in();
        now < session.expires_ms
            && now - session.last_used_ms < sign_in.sessions().idle_ms()
            && session.signed_in_ms <= now + SKEW_MS
            && (session.identity.issuer != dev::ISSUER || sign_in.methods().dev_link().is_some())
    }

    async fn may_manage_sessions(&self, caller: &Caller) -> Result<Authorized, ServiceError> {
        self.authorize(caller, &AuthzRequest::about(Action::ManageSessions, Resource::Sessions)).await
    }

    pub(crate) fn session_event(&self, caller: &Caller, action: &str, resource: &str) -> Event {
        let mut event = self.event(caller, action, resource);
        event.outcome = Some(Outcome::Success);
        event
    }

    fn sign_in_needed(&self) -> ServiceError {
        let text = format!(
            "You are not signed in, or your session has ended.\nSign in: iam-sorry login {}",
            self.sign_in().origin()
        );
        ServiceError::new(ProblemCode::SignInNeeded, text)
    }
}

fn no_such_session() -> ServiceError {
    ServiceError::new(ProblemCode::NotFound, "There is no such session; perhaps it has ended.")
}

fn info(session: &Session, caller: &Caller) -> api::SessionInfo {
    api::SessionInfo {
        id: session.id.clone(),
        person: session.identity.id(),
        name: session.identity.name.clone(),
        method: session.method,
        signed_in_at: rfc3339(session.signed_in_ms),
        last_used_at: rfc3339(session.last_used_ms),
        expires_at: rfc3339(session.expires_ms),
        key_registered_by: session.key.as_ref().map(|key| key.registered_by),
        address: session.address.clone(),
        current: session.id == caller.session.id,
    }
}

fn page(query: &api::PageQuery) -> Result<PageRequest, ServiceError> {
    let limit = query.limit.unwrap_or(100);
    if !(1..=500).contains(&limit) {
        return Err(ServiceError::new(ProblemCode::BadRequest, "The limit must be 1 to 500."));
    }
    Ok(PageRequest { cursor: query.cursor.clone(), limit })
}

/// An error that the caller's request led to, rather than the store.
pub(crate) fn known(error: StoreError) -> ServiceError {
    match error {
        StoreError::BadCursor => ServiceError::new(
            ProblemCode::BadRequest,
            "The cursor can't be used: take `next` of the page before, as it is.",
        ),
        StoreError::TooMany(text) => ServiceError::new(ProblemCode::Conflict, text),
        other => other.into(),
    }
}
