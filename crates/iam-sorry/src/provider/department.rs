//! Temporary credentials through a department service: an IAM user's, or a role's.

use http::Method;
use iam_sorry_core::api::{CredentialsRequest, IssuedCredentials, ProblemCode};
use iam_sorry_core::credentials::Credentials;
use iam_sorry_core::names::{SessionDuration, UserName};
use iam_sorry_core::ssh::login::Origin;
use iam_sorry_core::timestamp::Timestamp;
use secrecy::ExposeSecret;

use crate::app::App;
use crate::aws;
use crate::error::{Error, ErrorKind, Result};
use crate::output::printable;
use crate::profile::{EXPIRATION, ID, OWNER, Profile, ROLE, SECRET, SERVER, TOKEN};
use crate::service::{self, Client, ServiceError, new_key};

/// A client with the person's session, announced on stderr.
pub fn open(app: &App, origin: &Origin) -> Result<Client> {
    let (client, name) = service::signed_in_client(app, origin)?;
    announce(app, &client, name.as_deref());
    Ok(client)
}

/// Says on stderr which service is used, since there may be other sources of credentials.
fn announce(app: &App, client: &Client, name: Option<&str>) {
    let who = name.map_or_else(String::new, |name| format!(" as {}", printable(name)));
    app.out.progress(format!("Asking {}{who}", client.origin()));
}

/// Credentials of an IAM user. The service says whose they are, and that is checked.
pub async fn issue_for_user(
    app: &App,
    client: &Client,
    user: &UserName,
    duration: Option<SessionDuration>,
) -> Result<Credentials> {
    let request = CredentialsRequest {
        user: Some(user.as_str().to_owned()),
        role: None,
        duration_seconds: duration.map(SessionDuration::seconds),
        dry_run: false,
    };
    let issued = issue(client, &request).await?;
    // IAM ignores the case of names; the path before the name is the namespace's.
    let of = issued.arn.rsplit('/').next().unwrap_or_default();
    if !issued.arn.contains(":user/") || !of.eq_ignore_ascii_case(user.as_str()) {
        return Err(Error::new(
            ErrorKind::Aws,
            format!(
                "The service gave credentials of {}, not of '{user}'; they are not used",
                printable(&issued.arn)
            ),
        ));
    }
    take(app, issued)
}

/// A role's credentials, written to their profile. `server` is the service that issued them before.
pub fn refresh_role(
    app: &App,
    arn: &str,
    profile_name: &str,
    server: Option<&Origin>,
) -> Result<Credentials> {
    let origin = match server {
        Some(origin) => origin.clone(),
        None => service::required_origin(app)?,
    };
    let (client, name) = service::signed_in_client(app, &origin)?;
    let (credentials, config) = app.documents()?;
    credentials.clone().set(profile_name, ROLE, "x")?;
    let before = Profile::find(profile_name, &credentials, &config);
    let ours = |profile: &Profile| profile.field(ROLE).is_some() || profile.usable_key().is_none();
    if before.as_ref().is_some_and(|profile| !ours(profile)) {
        return Err(Error::usage(format!(
            "Profile '{profile_name}' holds other credentials, which are not overwritten"
        ))
        .hint("Name another profile: --as PROFILE"));
    }
    announce(app, &client, name.as_deref());
    let duration = app.requested_duration()?.map(SessionDuration::seconds);
    let request = CredentialsRequest {
        user: None,
        role: Some(arn.to_owned()),
        duration_seconds: duration,
        dry_run: false,
    };
    let credentials = aws::block_on(|cancel| async move {
        let client = client.with_cancel(cancel);
        let issued = issue(&client, &request).await?;
        take(app, issued)
    })?;
    app.update(&app.credentials, |document| {
        document.set(profile_name, ID, &credentials.access_key_id)?;
        document.set(profile_name, SECRET, credentials.secret_access_key.expose_secret())?;
        if let Some(token) = &credentials.session_token {
            document.set(profile_name, TOKEN, token.expose_secret())?;
        }
        document.remove(profile_name, OWNER);
        if let Some(at) = credentials.expiration {
            document.set(profile_name, EXPIRATION, &at.to_string())?;
        }
        document.set(profile_name, ROLE, arn)?;
        document.set(profile_name, SERVER, origin.as_str())?;
        Ok(())
    })?;
    Ok(credentials)
}

/// Retried under one idempotency key, so that a lost response does not issue twice. A secret is shown only once,
/// though: after a lost response, other credentials are requested.
async fn issue(
    client: &Client,
    request: &CredentialsRequest,
) -> std::result::Result<IssuedCredentials, ServiceError> {
    let ask = async || client.change(Method::POST, "/credentials", Some(request), &new_key()).await;
    match ask().await {
        Err(e) if e.code() == Some(ProblemCode::AlreadyDone) => ask().await,
        answer => answer,
    }
}

/// Prints the service's notes (such as a shortened duration) to stderr.
fn take(app: &App, issued: IssuedCredentials) -> Result<Credentials> {
    for note in &issued.done.notes {
        app.out.progress(printable(note));
    }
    let expiration = Timestamp::parse(&issued.expiration)
        .map_err(|e| Error::new(ErrorKind::Aws, format!("The service's answer can't be used: {e}")))?;
    Ok(Credentials {
        access_key_id: issued.access_key_id,
        secret_access_key: issued.secret_access_key,
        session_token: Some(issued.session_token),
        expiration: Some(expiration),
    })
}
