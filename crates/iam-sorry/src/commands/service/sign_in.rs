//! `login` and `logout`.
//!
//! The SSH key signs the address that the person typed, so a service (or a relay in its place) gets a signature that is
//! valid for itself alone.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Method;
use iam_sorry_core::api::{LdapLogin, ProblemCode, SignedIn, SshChallenge, SshChallengeRequest, SshLogin};
use iam_sorry_core::ssh::login::{Origin, login_message, to_be_signed};
use iam_sorry_core::ssh::{KeyId, PublicKey};
use iam_sorry_core::timestamp::{Timestamp, human_duration};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::app::App;
use crate::error::{Error, ErrorKind, Result};
use crate::output::printable;
use crate::service::{self, Client, ServiceError, ServiceSession, SessionStore};
use crate::settings::TOKEN;

/// The service counts a refused key as a failed sign-in, and delays those who have many.
const MOST_KEYS: usize = 5;
/// A clock that is off by more seconds makes a challenge look expired.
const CLOCK_OFF: i64 = 50;

/// `GET /service`, as far as clients of every version need it: unknown sign-in methods are no error.
#[derive(Deserialize)]
struct ServiceInfo {
    name: String,
    origin: String,
    methods: Vec<String>,
    time: String,
}

impl ServiceInfo {
    fn offers(&self, method: &str) -> bool {
        self.methods.iter().any(|offered| offered == method)
    }
}

pub fn login(app: &App, url: Option<&str>, ldap: bool, user: Option<&str>) -> Result<()> {
    let origin = match url {
        Some(url) => service::parse_origin(url)?,
        None => address(app)?,
    };
    let client = service::anonymous_client(app, &origin)?;
    let info: ServiceInfo = run(&client, async |client| client.get("/service").await)?;
    if info.origin != origin.as_str() {
        return Err(Error::new(
            ErrorKind::Aws,
            format!(
                "The service at {origin} calls itself {}: sign-ins are bound to the address",
                info.origin
            ),
        )
        .hint(format!("If that is the service you mean: iam-sorry login {}", printable(&info.origin))));
    }
    let (signed_in, key) = match ldap {
        true => (with_password(app, &client, &info, user)?, None),
        false => with_key(app, &client, &info, user).map(|(signed_in, key)| (signed_in, Some(key)))?,
    };
    let expires_at = Timestamp::parse(&signed_in.expires_at).map_err(|e| Error::other(e.to_string()))?;
    let identity = signed_in.identity;
    SessionStore::save(
        app,
        ServiceSession {
            origin: origin.clone(),
            token: signed_in.token,
            expires_at,
            name: identity.name.clone(),
            key: key.map(|key| key.key_id().to_string()),
        },
    )?;
    app.out.done(format!("Signed in to {} ({origin}) as {}", info.name, identity.name))?;
    if !identity.groups.is_empty() {
        app.out.done(format!("Groups: {}", identity.groups.join(", ")))?;
    }
    let left = human_duration(expires_at.seconds_after(app.now()));
    app.out.done(format!("The session ends at {expires_at}, in {left}"))
}

/// Ends the session at the service, then forgets it here. If the service can't be reached it is kept, so that another
/// attempt can end it.
pub fn logout(app: &App, url: Option<&str>) -> Result<()> {
    let origin = match url {
        Some(url) => service::parse_origin(url)?,
        None => service::required_origin(app)?,
    };
    let environment_token = service::environment_token(app, &origin);
    let state = SessionStore::load(app)?;
    let stored = state.of(&origin);
    // Even a session that has expired by this machine's clock: the service decides whether it has.
    let Some(token) = environment_token.as_ref().or(stored.map(|session| &session.token)) else {
        return Err(ServiceError::not_signed_in(&origin, "You are not signed in to"));
    };
    let is_stored = stored.is_some_and(|session| session.token.expose_secret() == token.expose_secret());
    let still = |error: Error| {
        error.hint(format!("You are not signed out of {origin}: the session may still hold there"))
    };
    let client = service::anonymous_client(app, &origin)
        .and_then(|client| client.with_token(token.clone()))
        .map_err(still)?;
    let told =
        run(&client, async |client| Ok(client.execute(Method::POST, "/logout").await)).map_err(still)?;
    match told {
        Ok(()) => {}
        // There is no session any more.
        Err(e) if e.code() == Some(ProblemCode::SignInNeeded) => {}
        // Otherwise a service that is gone for good could not be left.
        Err(ServiceError::Unreachable { why, .. }) if is_stored => {
            SessionStore::remove(app, &origin)?;
            let until = stored.map_or_else(String::new, |session| format!(" until {}", session.expires_at));
            return Err(Error::new(ErrorKind::Aws, format!("{origin} can't be reached: {why}"))
                .hint(format!("The session is forgotten here, but may still hold there{until}"))
                .hint("Its web page ends it, or 'iam-sorry sessions end' after another sign-in"));
        }
        Err(e) => return Err(still(e.into())),
    }
    if is_stored {
        SessionStore::remove(app, &origin)?;
        return app.out.done(format!("Signed out of {origin}"));
    }
    app.out.done(format!("Signed out of {origin}: the session of {TOKEN} is ended"))?;
    if stored.is_some() {
        app.out.warn(format!(
            "The session of 'iam-sorry login' there stays; to end it, run logout without {TOKEN}"
        ));
    }
    Ok(())
}

/// The address if none is typed: the configured one, else the last one.
fn address(app: &App) -> Result<Origin> {
    service::required_origin(app).map_err(|error| match error.kind {
        ErrorKind::Profile => Error::usage("Which department service?").hint("iam-sorry login https://HOST"),
        _ => error,
    })
}

fn run<T>(
    client: &Client,
    work: impl AsyncFnOnce(&Client) -> std::result::Result<T, ServiceError>,
) -> Result<T> {
    crate::aws::block_on(|cancel| async move {
        let work = async { Ok(work(client).await?) };
        tokio::select! {
            done = work => done,
            () = cancel.cancelled() => Err(ServiceError::Interrupted.into()),
        }
    })
}

/// Tries the keys one by one, until the service accepts one.
fn with_key(
    app: &App,
    client: &Client,
    info: &ServiceInfo,
    user: Option<&str>,
) -> Result<(SignedIn, PublicKey)> {
    if !info.offers("ssh-key") {
        let error = Error::new(ErrorKind::Aws, format!("{} has no sign-in by SSH key", client.origin()));
        return Err(match info.offers("ldap") {
            true => error.hint(format!("With a password: iam-sorry login {} --ldap", client.origin())),
            false => error.hint("Its web page may have another way"),
        });
    }
    let last = Last::at(app, client.origin())?;
    let keys = app.keyring(|keyring| keyring.login_keys(last.as_ref().map(|last| &last.key)))?;
    let (mut refusal, mut unusable, mut expected) = (None, None, None);
    for key in keys.iter().take(MOST_KEYS) {
        let as_last = last.as_ref().filter(|last| user.is_none() && last.key == key.key_id());
        expected = expected.or(as_last);
        match try_key(app, client, key, user.or(as_last.map(|last| last.name.as_str()))) {
            Ok(signed_in) => return Ok((signed_in, *key)),
            Err(Tried::Refused(error)) => refusal = Some(error),
            Err(Tried::Unusable(error)) => unusable = Some(error),
            Err(Tried::Failed(error)) => return Err(error),
        }
    }
    if keys.len() > MOST_KEYS {
        app.out.warn(format!(
            "Only the first {MOST_KEYS} of {} keys were tried: name one, --ssh-key FILE",
            keys.len()
        ));
    }
    let Some(refusal) = refusal else {
        return Err(unusable.unwrap_or_else(|| Error::key("There is no SSH key to sign in with")));
    };
    let tried: Vec<String> = keys.iter().take(MOST_KEYS).map(|key| key.key_id().to_string()).collect();
    let mut error = refusal.hint(format!("Tried: {}", tried.join(", ")));
    if let Some(last) = expected {
        error = error.hint(format!(
            "{} signed {} in here the last time, and has to be theirs again; if it is somebody else's now: \
             iam-sorry login {} --user NAME",
            last.key,
            printable(&last.name),
            client.origin()
        ));
    }
    if let Some(off) = clock_off(app, info) {
        error = error.hint(format!("This machine's clock is {off} s off the service's: check it (date -u)"));
    }
    if info.offers("ldap") {
        error = error.hint(format!("With a password: iam-sorry login {} --ldap", client.origin()));
    }
    Err(error)
}

/// The name of the person that this key signed in last. It is sent along, since another person may have claimed the key
/// since (a public key is easily copied into another entry).
struct Last {
    key: KeyId,
    name: String,
}

impl Last {
    fn at(app: &App, origin: &Origin) -> Result<Option<Self>> {
        let state = SessionStore::load(app)?;
        let last = state.of(origin).and_then(|session| {
            let key = KeyId::parse(session.key.as_deref()?)?;
            Some(Self { key, name: session.name.clone() })
        });
        Ok(last)
    }
}

enum Tried {
    /// The service does not accept it; it may accept the next.
    Refused(Error),
    /// The key can't sign.
    Unusable(Error),
    Failed(Error),
}

fn try_key(
    app: &App,
    client: &Client,
    key: &PublicKey,
    name: Option<&str>,
) -> std::result::Result<SignedIn, Tried> {
    let public_key = key.to_line("");
    let name = name.map(str::to_owned);
    let request = SshChallengeRequest { public_key: public_key.clone(), name: name.clone() };
    let challenge: SshChallenge =
        run(client, async |client| client.post("/login/ssh/challenge", &request).await)
            .map_err(Tried::Failed)?;
    // The address is the client's own, not one that the server sent: a relay gets a signature over its own address.
    let message = login_message(client.origin(), &challenge.nonce, &challenge.request, &challenge.time)
        .map_err(|e| Tried::Failed(Error::new(ErrorKind::Aws, format!("{}: {e}", client.origin()))))?;
    let signature = app
        .keyring(|keyring| keyring.sign_for_login(key, &to_be_signed(&message), "signing in"))
        .map_err(|error| match error.kind {
            ErrorKind::Interrupted => Tried::Failed(error),
            _ => Tried::Unusable(error),
        })?;
    let signature = URL_SAFE_NO_PAD.encode(signature.as_bytes());
    let login = SshLogin { nonce: challenge.nonce, public_key, signature, name };
    let answer = run(client, async |client| match client.post::<SignedIn>("/login/ssh", &login).await {
        Err(e) if e.code() == Some(ProblemCode::SignInRefused) => Ok(Err(e)),
        answer => answer.map(Ok),
    });
    match answer {
        Ok(Ok(signed_in)) => Ok(signed_in),
        Ok(Err(refusal)) => Err(Tried::Refused(refusal.into())),
        Err(error) => Err(Tried::Failed(error)),
    }
}

fn with_password(app: &App, client: &Client, info: &ServiceInfo, user: Option<&str>) -> Result<SignedIn> {
    if !info.offers("ldap") {
        return Err(Error::new(ErrorKind::Aws, format!("{} has no sign-in by password", client.origin()))
            .hint(format!("By SSH key: iam-sorry login {}", client.origin())));
    }
    let username = user.or(app.settings.login.as_deref()).map(str::to_owned).ok_or_else(|| {
        Error::usage("Whose password? USER is not set").hint("Name yourself: --ldap --user NAME")
    })?;
    let prompt = format!("Password of {username} for {}: ", client.origin());
    let password: SecretString = app.settings.keys.passphrase_prompt.ask(&prompt).map_err(|e| {
        let kind = if matches!(e, crate::keyring::PromptError::Interrupted) {
            ErrorKind::Interrupted
        } else {
            ErrorKind::Usage
        };
        let text = e.to_string().replace("passphrase", "password");
        Error::new(kind, format!("No sign-in: {text}"))
            .hint("If nobody can be prompted, sign in by SSH key, or set IAM_SORRY_TOKEN")
    })?;
    // Many directories treat an empty password as an anonymous sign-in, which succeeds (RFC 4513, section 5.1.2).
    if password.expose_secret().is_empty() {
        return Err(Error::usage("An empty password signs nobody in"));
    }
    let login = LdapLogin { username, password };
    let body = Zeroizing::new(login.to_json().as_bytes().to_vec());
    run(client, async |client| client.post_once("/login/ldap", Some(body)).await)
}

fn clock_off(app: &App, info: &ServiceInfo) -> Option<i64> {
    let off = Timestamp::parse(&info.time).ok()?.seconds_after(app.now()).abs();
    (off > CLOCK_OFF).then_some(off)
}
