//! `ssh-keys`: the keys with which a person may sign in.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Method;
use iam_sorry_core::api::{RegisterSshKey, RegistrationChallenge, RegistrationChallengeRequest, SshKeyInfo};
use iam_sorry_core::identity::KeyOrigin;
use iam_sorry_core::ssh::PublicKey;
use iam_sorry_core::ssh::login::{Origin, registration_message, registration_to_be_signed};

use super::request::{MAX_LISTED, list_path, with_client};
use super::show;
use crate::app::App;
use crate::args::SshKeys;
use crate::error::{Error, ErrorKind, Result};
use crate::output::printable;
use crate::service::encoded;
use crate::settings::read_regular;

pub fn run(app: &App, action: SshKeys) -> Result<()> {
    match action {
        SshKeys::List { json } => list(app, json),
        SshKeys::Add { key } => add(app, &key),
        SshKeys::Remove { key } => {
            let id = app.keyring(|keyring| keyring.find_key_id(&key))?;
            let path = format!("/ssh-keys/{}", encoded(&id.to_string()));
            with_client(app, async |client| client.execute(Method::DELETE, &path).await)?;
            app.out.done(format!("SSH key {id} signs nobody in any more"))
        }
    }
}

fn list(app: &App, json: bool) -> Result<()> {
    let keys: Vec<SshKeyInfo> =
        with_client(app, async |client| client.list(&list_path("/ssh-keys", false), MAX_LISTED).await)?;
    if json {
        return show::json(app, &keys);
    }
    let row = |key: SshKeyInfo| {
        let by = key.registered_by.map_or("- (register it again)", KeyOrigin::as_str);
        vec![key.fingerprint, key.registered_at, by.to_owned(), key.comment]
    };
    show::table(app, &["FINGERPRINT", "REGISTERED", "BY", "COMMENT"], keys.into_iter().map(row).collect())
}

fn add(app: &App, named: &str) -> Result<()> {
    let key = app.keyring(|keyring| keyring.find_key(named))?;
    let public_key = key.to_line(&comment(named, &key));
    let request = RegistrationChallengeRequest { public_key: public_key.clone() };
    let (origin, challenge): (Origin, RegistrationChallenge) = with_client(app, async |client| {
        Ok((client.origin().clone(), client.post("/ssh-keys/challenge", &request).await?))
    })?;
    let RegistrationChallenge { nonce, person, name, request, time, .. } = challenge;
    // The address is the client's own, not one that the server sent: a relay gets a signature over its own address.
    let message = registration_message(&origin, (&person, &name), &nonce, &request, &time)
        .map_err(|e| Error::new(ErrorKind::Aws, format!("{origin}: {e}")))?;
    let blob = registration_to_be_signed(&message);
    let signature = app.keyring(|keyring| keyring.sign_for_login(&key, &blob, "registering that key"))?;
    let signature = URL_SAFE_NO_PAD.encode(signature.as_bytes());
    let request = RegisterSshKey { public_key, nonce, signature };
    let registered: SshKeyInfo = with_client(app, async |client| client.post("/ssh-keys", &request).await)?;
    app.out.done(format!("SSH key {} may sign you in as {}", registered.fingerprint, printable(&name)))
}

/// The comment in the `.pub` file that was named, or in the one beside the key file.
fn comment(named: &str, key: &PublicKey) -> String {
    let beside = format!("{named}.pub");
    let lines = [named, &beside].into_iter().filter_map(|path| {
        String::from_utf8(read_regular(path.as_ref()).ok()?)
            .ok()
            .and_then(|text| PublicKey::parse_line(&text).ok())
    });
    lines.filter(|(found, _)| found == key).map(|(_, comment)| comment).next().unwrap_or_default()
}
