//! The client of a department service: which service to use, and how to reach it.
//!
//! The service decides what is permitted; nothing here does. The types of its API are the core's
//! ([`iam_sorry_core::api`]).

mod client;
mod error;
mod session_store;
pub mod user_list;

use std::path::Path;

use iam_sorry_core::ssh::login::Origin;
use iam_sorry_net::{Proxy, Security, TrustError, TrustRoots, client_config};
use secrecy::SecretString;

use crate::app::App;
use crate::error::{Error, Result};
use crate::settings::read_regular;

pub use client::{Client, RetryPolicy, encoded, new_key, query};
pub use error::ServiceError;
pub use session_store::{ServiceSession, SessionStore};

/// The value of `--server` and IAM_SORRY_SERVER that switches the service off.
const NONE: &str = "none";

/// The service that the flag, the variable or the settings file names.
pub fn configured(app: &App) -> Result<Option<Origin>> {
    match app.global.server.as_deref().or(app.settings.server.as_deref()) {
        None | Some(NONE) => Ok(None),
        Some(url) => parse_origin(url).map(Some),
    }
}

/// Parses an address that a person typed.
pub fn parse_origin(url: &str) -> Result<Origin> {
    Origin::parse(url).map_err(|e| Error::usage(e.to_string()))
}

/// The service that issues credentials, if one does: it is configured, or there is a session at it, and no manager
/// profile is named.
pub fn for_credentials(app: &App) -> Result<Option<Origin>> {
    if app.global.server.is_some() {
        return configured(app);
    }
    // A manager that is named explicitly wins; the settings file's is a default, like the service's.
    let manager = app.global.profile.is_some() || app.settings.profile != app.settings.profile_in_file;
    if manager || switched_off(app) {
        return Ok(None);
    }
    match configured(app)? {
        Some(origin) => Ok(Some(origin)),
        None if app.settings.profile_in_file.is_some() => Ok(None),
        None => Ok(SessionStore::load(app)?.current().map(|session| session.origin.clone())),
    }
}

/// The service that a verb needs, or an error.
pub fn required_origin(app: &App) -> Result<Origin> {
    if let Some(origin) = configured(app)? {
        return Ok(origin);
    }
    if switched_off(app) {
        return Err(Error::usage("'none' is no service, and this needs one\nName it: --server https://HOST"));
    }
    let sessions = SessionStore::load(app)?;
    sessions.current().map(|session| session.origin.clone()).ok_or_else(|| {
        Error::profile("You are not signed in to a department service")
            .hint("Sign in: iam-sorry login https://HOST")
    })
}

fn switched_off(app: &App) -> bool {
    app.global.server.as_deref().or(app.settings.server.as_deref()) == Some(NONE)
}

/// A client without a session.
pub fn anonymous_client(app: &App, origin: &Origin) -> Result<Client> {
    let ca = app.global.ca_file.as_ref().or(app.settings.server_ca.as_ref());
    let pem = ca.map(|path| read_ca(path)).transpose()?;
    let security = match origin.is_https() {
        true => https(pem.as_deref(), proxy(app)?)?,
        // Plain http is for this machine alone (`Origin`).
        false => Security::LoopbackHttp,
    };
    Ok(Client::new(origin.clone(), security, app.out))
}

fn read_ca(path: &Path) -> Result<Vec<u8>> {
    read_regular(path).map_err(|e| {
        Error::usage(format!("The certificate authorities in {} can't be read: {e}", path.display()))
            .hint("Name a PEM file: --ca-file FILE")
    })
}

/// Trusts only the authorities in `pem`; without it, the system's.
fn https(pem: Option<&[u8]>, proxy: Option<Proxy>) -> Result<Security> {
    let tls = client_config(pem.map_or(TrustRoots::System, TrustRoots::Pem));
    let tls = tls.map_err(|error| match error {
        TrustError::NoSystemRoots => Error::other("The system has no certificate authorities to trust")
            .hint("Install ca-certificates, or name a PEM file: --ca-file FILE"),
        TrustError::NoCertificate | TrustError::Unreadable(_) => {
            Error::usage("There is no certificate in the file of --ca-file").hint("Name a PEM file")
        }
    })?;
    Ok(Security::Https { tls: tls.into(), proxy })
}

/// The proxy for the service, which is the one for AWS.
fn proxy(app: &App) -> Result<Option<Proxy>> {
    let Some(address) = &app.settings.proxy else { return Ok(None) };
    let proxy = Proxy::new(address, app.settings.no_proxy.as_deref()).ok();
    match proxy.filter(|proxy| !proxy.speaks_tls()) {
        Some(proxy) => Ok(Some(proxy)),
        None => Err(Error::usage("The address in HTTPS_PROXY is none of a proxy that can be used")
            .hint("Set it like this: export HTTPS_PROXY=http://proxy.example.org:3128")),
    }
}

/// The session token in the environment, if it is for this service: the one that environment or settings file name,
/// else the one on the command line. No other service gets it, not even one that the person signed in to by hand.
pub fn environment_token(app: &App, origin: &Origin) -> Option<SecretString> {
    let configured = app.settings.server.as_deref().or(app.global.server.as_deref());
    let configured = configured.and_then(|url| Origin::parse(url).ok());
    app.settings.server_token.clone().filter(|_| configured.as_ref() == Some(origin))
}

/// A client with the person's session at the service, and the person's name if it is known.
pub fn signed_in_client(app: &App, origin: &Origin) -> Result<(Client, Option<String>)> {
    let client = anonymous_client(app, origin)?;
    if let Some(token) = environment_token(app, origin) {
        return Ok((client.with_token(token)?, None));
    }
    let sessions = SessionStore::load(app)?;
    let Some(session) = sessions.of(origin) else {
        return Err(ServiceError::not_signed_in(origin, "You are not signed in to"));
    };
    if session.expires_at.seconds_after(app.now()) <= 0 {
        return Err(ServiceError::not_signed_in(origin, "Your session has ended at"));
    }
    let token: SecretString = session.token.clone();
    Ok((client.with_token(token)?, Some(session.name.clone())))
}

/// A client with the person's session at the service that a verb needs.
pub fn open(app: &App) -> Result<Client> {
    let origin = required_origin(app)?;
    Ok(signed_in_client(app, &origin)?.0)
}
