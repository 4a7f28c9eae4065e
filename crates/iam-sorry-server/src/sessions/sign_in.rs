//! Signing in, whatever the way: limits, then proof (`login/`), then the audit record and the session in one transaction,
//! and only then the token. An error anywhere gives no token (CVE-2026-46405): there is one place that makes one, and it is
//! reached with a proved identity alone.
//!
//! Every refusal is recorded before it is answered (counted, where they come in a flood: `counted`), says the same whatever was wrong, and comes no sooner than a fixed time.
//! Who hangs up in the middle is recorded all the same.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::IpAddr;
use std::time::Duration;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use iam_sorry_core::api::{self, ProblemCode, SignedIn};
use iam_sorry_core::audit::{Event, Outcome, Person, Phase};
use iam_sorry_core::identity::{Identity, Method};
use iam_sorry_core::ssh::login;
use iam_sorry_store::{Challenge, ChallengeCaps, PageRequest, Session, SessionKey, StoreError};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use tokio::time::{Instant, sleep_until, timeout};
use zeroize::Zeroizing;

use crate::caller::RequestSource;
use crate::clock::rfc3339;
use crate::error::ServiceError;
use crate::login::ldap::CountedAs;
use crate::login::limits::{Attempt, Limits, TooOften, network_address, same_network};
use crate::login::ssh_file;
use crate::login::{LimitSettings, LoginError, LoginMethods, RejectReason, SettingsError, ldap, ssh};
use crate::service::Service;
use crate::sessions::people::{Ages, People};
use crate::sessions::session::{Recent, form_secret, hash};
use crate::sessions::sign_in_texts::{bad_request, not_checked, not_offered, public_key, refusal, too_often};
use crate::sessions::typed_names::TypedNames;

/// What every token begins with, so that those who look for leaked ones can tell.
pub(crate) const TOKEN_PREFIX: &str = "iss_";

const NONCE: &[u8] = b"iam-sorry nonce v1\0";

/// A way that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// `[sessions]`
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SessionSettings {
    /// A session that is not used for this long has ended.
    pub idle_minutes: u32,
    /// No session lasts longer, however much it is used.
    pub longest_hours: u32,
    /// No longer ago a person who is signed in was looked up where they come from: who was disabled there is out, and groups
    /// are as they are there.
    pub recheck_minutes: u32,
    /// So much longer sessions go on while the directory can't be asked.
    pub recheck_grace_minutes: u32,
}

impl Default for SessionSettings {
    fn default() -> Self {
        Self { idle_minutes: 120, longest_hours: 12, recheck_minutes: 15, recheck_grace_minutes: 60 }
    }
}

impl SessionSettings {
    /// # Errors
    /// [`SettingsError`] where nobody would stay signed in, or for ever.
    pub fn check(&self) -> Result<(), SettingsError> {
        if !(1..=720).contains(&self.longest_hours) {
            return Err(SettingsError::new("sessions.longest_hours", "give 1 to 720"));
        }
        if !(5..=self.longest_hours * 60).contains(&self.idle_minutes) {
            return Err(SettingsError::new(
                "sessions.idle_minutes",
                "give 5 to the minutes of longest_hours",
            ));
        }
        if !(1..=1440).contains(&self.recheck_minutes) {
            return Err(SettingsError::new("sessions.recheck_minutes", "give 1 to 1440"));
        }
        if self.recheck_grace_minutes > 1440 {
            return Err(SettingsError::new("sessions.recheck_grace_minutes", "give 0 to 1440"));
        }
        Ok(())
    }

    pub(crate) fn ages(&self) -> Ages {
        Ages {
            limit: i64::from(self.recheck_minutes) * 60_000,
            grace: i64::from(self.recheck_grace_minutes) * 60_000,
        }
    }

    pub(crate) fn idle_ms(&self) -> i64 {
        i64::from(self.idle_minutes) * 60_000
    }

    fn longest_ms(&self) -> i64 {
        i64::from(self.longest_hours) * 3_600_000
    }
}

/// What signing in needs besides the store.
pub struct SignIn {
    name: String,
    origin: login::Origin,
    methods: LoginMethods,
    sessions: SessionSettings,
    limits: Limits,
    typed: TypedNames,
    pub(crate) recent: Recent,
    pub(crate) people: People,
}

/// A session that was just opened. The answer holds its token: shown once, to whom it belongs.
#[derive(Debug)]
pub struct NewSession {
    /// What the person gets.
    pub answer: SignedIn,
    /// Names the session; no secret.
    pub id: String,
}

/// Somebody who tries to sign in.
struct LoginAttempt<'a> {
    source: &'a RequestSource,
    method: Method,
    /// Whom the directory knows by the name that was typed. Empty where nobody is: a password is typed into the name field
    /// easily, so what is no known name is kept nowhere.
    name: String,
    details: BTreeMap<String, String>,
    started: Instant,
}

impl SignIn {
    /// `name` is the department's for the service; `origin` where people reach it, as signatures are bound to it.
    pub fn new(
        name: &str,
        origin: login::Origin,
        methods: LoginMethods,
        sessions: SessionSettings,
        limits: LimitSettings,
    ) -> Self {
        Self {
            name: name.to_owned(),
            origin,
            methods,
            sessions,
            limits: Limits::new(limits),
            typed: TypedNames::new(),
            recent: Recent::default(),
            people: People::default(),
        }
    }

    /// One where nobody signs in.
    ///
    /// # Errors
    /// None that can happen.
    pub fn closed() -> Result<Self, login::InvalidOrigin> {
        let origin = login::Origin::parse("http://localhost")?;
        Ok(Self::new(
            "closed",
            origin,
            LoginMethods::default(),
            SessionSettings::default(),
            LimitSettings::default(),
        ))
    }

    /// Where people reach the service.
    pub fn origin(&self) -> &login::Origin {
        &self.origin
    }

    /// How long sessions last.
    pub fn sessions(&self) -> &SessionSettings {
        &self.sessions
    }

    pub(crate) fn methods(&self) -> &LoginMethods {
        &self.methods
    }
}

impl Service {
    /// `GET /service`: what anybody may know.
    ///
    /// # Errors
    /// None so far; the faces are ready for one.
    pub fn service_info(&self) -> Result<api::ServiceInfo, ServiceError> {
        let sign_in = self.sign_in();
        Ok(api::ServiceInfo {
            name: sign_in.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            origin: sign_in.origin.to_string(),
            methods: sign_in.methods.methods(),
            time: self.clock().now().to_string(),
        })
    }

    /// `POST /login/ssh/challenge`. The same for every key: whose it is, nobody looks yet.
    ///
    /// # Errors
    /// bad-request for what is no Ed25519 key; too-many-requests; store-unavailable.
    pub async fn ssh_challenge(
        &self,
        source: &RequestSource,
        request: api::SshChallengeRequest,
    ) -> Result<api::SshChallenge, ServiceError> {
        self.ssh_keys()?;
        let key = public_key(&request.public_key)?;
        let now = self.clock().now_ms();
        self.sign_in().limits.challenge(source.address, now).map_err(too_often)?;
        let name = request.name.as_deref();
        let challenge = ssh::challenge(&key.key_id(), source.address, name, &*random()?, now);
        let answer = api::SshChallenge {
            nonce: challenge.nonce.clone(),
            request: challenge.request.clone(),
            time: challenge.time.clone(),
            expires_at: rfc3339(challenge.expires_ms),
        };
        let network = network_address(source.address).to_string();
        self.keep_challenge(challenge, &network, now, ChallengeCaps::default()).await?;
        Ok(answer)
    }

    /// `of`: whose challenges it is counted with, and may push out. The store gets no nonce, only what recognises one: a copy
    /// of the database answers no challenge, and what was typed as a name can't be found by trying names out.
    pub(crate) async fn keep_challenge(
        &self,
        challenge: Challenge,
        of: &str,
        now: i64,
        caps: ChallengeCaps,
    ) -> Result<(), ServiceError> {
        let stored = Challenge { nonce: stored_nonce(&challenge.nonce), ..challenge };
        let kept = self.store().put_challenge(stored, of, now, caps).await;
        kept.map_err(|error| match error {
            StoreError::TooMany(_) => too_often(TooOften(5)),
            other => other.into(),
        })
    }

    /// The challenge of this nonce, which can't be answered again.
    pub(crate) async fn take_challenge(&self, nonce: &str) -> Result<Option<Challenge>, StoreError> {
        let taken = self.store().take_challenge(&stored_nonce(nonce)).await?;
        Ok(taken.map(|challenge| Challenge { nonce: nonce.to_owned(), ..challenge }))
    }

    /// `POST /login/ssh`.
    ///
    /// # Errors
    /// sign-in-refused, whatever was wrong; bad-request for what is not of its form; directory-unavailable.
    pub async fn sign_in_ssh(
        &self,
        source: &RequestSource,
        request: api::SshLogin,
    ) -> Result<NewSession, ServiceError> {
        let (service, source) = (self.clone(), source.clone());
        self.detached(async move { service.by_ssh_key(&source, request).await }).await
    }

    async fn by_ssh_key(
        &self,
        source: &RequestSource,
        request: api::SshLogin,
    ) -> Result<NewSession, ServiceError> {
        self.ssh_keys()?;
        let key = public_key(&request.public_key)?;
        let signature = ssh::parse_signature(&request.signature).ok_or_else(|| {
            bad_request("The signature is not of its form: 64 bytes in base64url, without padding.")
        })?;
        if !ssh::is_nonce(&request.nonce) {
            return Err(bad_request("The nonce is not of its form: send it back as it came."));
        }
        let mut login_attempt = LoginAttempt::new(source, Method::SshKey);
        login_attempt.details.insert("key".to_owned(), key.key_id().to_string());
        let limits = &self.sign_in().limits;
        let attempt = limits.by_key(&key.key_id().to_string(), source.address, self.clock().now_ms()).await;
        let attempt = attempt.map_err(too_often)?;
        let proof = async {
            let nonce = stored_nonce(&request.nonce);
            let taken = self.store().take_login_challenge(&nonce, &key.key_id().to_string()).await?;
            let (challenge, registered) = taken.ok_or(LoginError::Refused(RejectReason::Challenge))?;
            let challenge = Challenge { nonce: request.nonce.clone(), ..challenge };
            let now = self.clock().now_ms();
            let name = request.name.as_deref();
            ssh::check(&challenge, &self.sign_in().origin, &key, &signature, (source.address, name), now)
                .map_err(LoginError::Refused)?;
            self.person_of_key(&key, name, registered).await
        };
        self.conclude(login_attempt, attempt, proof).await
    }

    /// `POST /login/ldap`, and the sign-in page.
    ///
    /// # Errors
    /// sign-in-refused, whatever was wrong; too-many-requests; directory-unavailable.
    pub async fn sign_in_ldap(
        &self,
        source: &RequestSource,
        request: api::LdapLogin,
    ) -> Result<NewSession, ServiceError> {
        let (service, source) = (self.clone(), source.clone());
        self.detached(async move { service.by_password(&source, request).await }).await
    }

    async fn by_password(
        &self,
        source: &RequestSource,
        request: api::LdapLogin,
    ) -> Result<NewSession, ServiceError> {
        let directory = self.sign_in().methods.directory.clone().ok_or_else(|| not_offered(Method::Ldap))?;
        let mut login_attempt = LoginAttempt::new(source, Method::Ldap);
        login_attempt.details.extend(self.sign_in().typed.describe(&request.username));
        let limits = &self.sign_in().limits;
        let mut attempt =
            limits.by_password(source.address, self.clock().now_ms()).await.map_err(too_often)?;
        let password = &request.password;
        if password.expose_secret().is_empty() || password.expose_secret().contains('\0') {
            let refused = async { Err(Failed::from(LoginError::Refused(RejectReason::EmptyPassword))) };
            return self.conclude(login_attempt, attempt, refused).await;
        }
        let found =
            timeout(PATIENCE, directory.find(&request.username)).await.unwrap_or_else(|_| Err(slow()));
        let candidate = match found {
            Ok(candidate) => candidate,
            Err(error) => return self.conclude(login_attempt, attempt, async { Err(error.into()) }).await,
        };
        if let Some(name) = candidate.known_as() {
            login_attempt = LoginAttempt { name: name.to_owned(), details: BTreeMap::new(), ..login_attempt };
        }
        if let Some(wait) = self.too_often(&mut attempt, candidate.counted_as(), source).await? {
            drop(attempt);
            self.refused(&login_attempt, RejectReason::TooOften).await?;
            return Err(too_often(wait));
        }
        let proof = async { Ok(directory.prove(&candidate, password, self.clock().now()).await?.into()) };
        self.conclude(login_attempt, attempt, proof).await
    }

    /// The one-time link of `serve --dev`.
    ///
    /// # Errors
    /// sign-in-refused
    pub async fn sign_in_dev(
        &self,
        source: &RequestSource,
        link: &SecretString,
    ) -> Result<NewSession, ServiceError> {
        let dev = self.sign_in().methods.dev.clone().ok_or_else(|| not_offered(Method::DevLink))?;
        let login_attempt = LoginAttempt::new(source, Method::DevLink);
        let attempt = self.sign_in().limits.by_link(source.address, self.clock().now_ms()).await;
        let attempt = attempt.map_err(too_often)?;
        let proof = async { Ok(dev.redeem(link, source.address, self.clock().now_ms())?.into()) };
        self.conclude(login_attempt, attempt, proof).await
    }

    /// The person as their issuer has them now; nobody, where that issuer is no longer asked.
    pub(crate) async fn person_now(&self, then: &Identity, method: Method) -> Result<Identity, LoginError> {
        match self.directory_of(then) {
            Some(directory) => directory.person(&then.subject, method, self.clock().now()).await,
            None => self.person_known_here(then, method),
        }
    }

    /// The same for who is signed in already, whom a lock does not throw out.
    pub(crate) async fn signed_in_person_now(&self, then: &Identity) -> Result<Identity, LoginError> {
        match self.directory_of(then) {
            Some(directory) => {
                directory.signed_in_person(&then.subject, then.method, self.clock().now()).await
            }
            None => self.person_known_here(then, then.method),
        }
    }

    fn directory_of(&self, person: &Identity) -> Option<&ldap::Directory> {
        self.sign_in().methods().directory.as_deref().filter(|directory| directory.issuer() == person.issuer)
    }

    fn person_known_here(&self, then: &Identity, method: Method) -> Result<Identity, LoginError> {
        let methods = self.sign_in().methods();
        let person = match (then.issuer.as_str(), &methods.ssh, &methods.dev) {
            (ssh_file::ISSUER, Some(keys), _) => keys.person(&then.subject)?,
            ("dev", _, Some(_)) => then.clone(),
            _ => return Err(LoginError::Refused(RejectReason::UnknownPerson)),
        };
        Ok(Identity { method, ..person })
    }

    pub(crate) fn ssh_keys(&self) -> Result<&ssh::SshKeys, ServiceError> {
        self.sign_in().methods.ssh.as_deref().ok_or_else(|| not_offered(Method::SshKey))
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

    /// Waits for the proof and does what follows from it. The one way to a session.
    async fn conclude(
        &self,
        login_attempt: LoginAttempt<'_>,
        attempt: Attempt,
        proof: impl Future<Output = Result<Proved, Failed>>,
    ) -> Result<NewSession, ServiceError> {
        let proved = timeout(PATIENCE, proof).await.unwrap_or_else(|_| Err(slow().into()));
        let limits = &self.sign_in().limits;
        match proved {
            Ok(proved) => {
                attempt.succeeded();
                limits.remember(&proved.identity.id(), login_attempt.source.address, self.clock().now_ms());
                self.open_session(login_attempt, proved).await
            }
            // Whoever this is has proved something, so that it is no guess, and may know more.
            Err(Failed::Known(why, refusal)) => {
                attempt.succeeded();
                self.refused(&login_attempt, why).await?;
                Err(refusal)
            }
            Err(Failed::ServiceError(refusal)) => {
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

    async fn refused(&self, login_attempt: &LoginAttempt<'_>, why: RejectReason) -> Result<(), ServiceError> {
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
        let id = crate::operations::lifecycle::random_name()?;
        let (now, settings) = (self.clock().now_ms(), self.sign_in().sessions);
        let session = Session {
            id: id.clone(),
            token_hash: hash(&token),
            form_hash: Some(hash(form_secret(&token).expose_secret())),
            identity: identity.clone(),
            method: login_attempt.method,
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
        let nobody = Person {
            id: String::new(),
            name: login_attempt.name.clone(),
            groups: Vec::new(),
            method: Some(login_attempt.method),
        };
        Event {
            time_ms: self.clock().now_ms(),
            instance: self.instance().to_owned(),
            phase: Phase::Event,
            operation: None,
            person: nobody,
            address: login_attempt.source.address.to_canonical().to_string(),
            request_id: login_attempt.source.request_id.clone(),
            action: "sign-in".to_owned(),
            resource: String::new(),
            decision: None,
            rules: Vec::new(),
            rules_digest: None,
            outcome: None,
            aws_request_ids: Vec::new(),
            details: login_attempt.details.clone(),
        }
    }
}

impl<'a> LoginAttempt<'a> {
    fn new(source: &'a RequestSource, method: Method) -> Self {
        Self { source, method, name: String::new(), details: BTreeMap::new(), started: Instant::now() }
    }
}

/// Who was proved, and by which SSH key.
pub(crate) struct Proved {
    pub identity: Identity,
    pub key: Option<SessionKey>,
}

impl From<Identity> for Proved {
    fn from(identity: Identity) -> Self {
        Self { identity, key: None }
    }
}

/// Why there is no identity: the way's word, or a fault of ours.
pub(crate) enum Failed {
    Login(LoginError),
    /// Recorded as any other, but somebody who holds the private key reads why.
    Known(RejectReason, ServiceError),
    ServiceError(ServiceError),
}

impl From<LoginError> for Failed {
    fn from(error: LoginError) -> Self {
        Self::Login(error)
    }
}

impl From<ServiceError> for Failed {
    fn from(refusal: ServiceError) -> Self {
        Self::ServiceError(refusal)
    }
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self::ServiceError(error.into())
    }
}

pub(crate) fn slow() -> LoginError {
    LoginError::Unavailable("no answer in time".to_owned())
}

pub(crate) fn random() -> Result<Zeroizing<[u8; 32]>, ServiceError> {
    let mut bytes = Zeroizing::new([0; 32]);
    crate::runtime::fill_random(&mut *bytes)
        .map_err(|_| ServiceError::new(ProblemCode::Internal, "The system gives no random numbers."))?;
    Ok(bytes)
}

fn stored_nonce(nonce: &str) -> String {
    URL_SAFE_NO_PAD.encode(sha256(&[NONCE, nonce.as_bytes()]))
}

/// SHA-256, for what only has to be recognised.
pub(crate) fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part);
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}
