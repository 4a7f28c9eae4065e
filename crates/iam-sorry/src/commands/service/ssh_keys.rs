//! `ssh-keys`: the keys that may sign a person in.

use http::Method;
use iam_sorry_core::api::{RegisterSshKey, SshKeyInfo};
use iam_sorry_core::ssh::PublicKey;

use super::session::{MOST, paged};
use super::{ask, show};
use crate::app::App;
use crate::args::SshKeys;
use crate::failure::Result;
use crate::service::encoded;
use crate::settings::read_regular;

pub fn run(app: &App, action: SshKeys) -> Result<()> {
    match action {
        SshKeys::List { json } => list(app, json),
        SshKeys::Add { key } => add(app, &key),
        SshKeys::Remove { key } => {
            let id = app.keyring(|keyring| keyring.find_key_id(&key))?;
            let path = format!("/ssh-keys/{}", encoded(&id.to_string()));
            ask(app, async |client| client.tell(Method::DELETE, &path).await)?;
            app.out.done(format!("SSH key {id} signs nobody in any more"))
        }
    }
}

fn list(app: &App, json: bool) -> Result<()> {
    let keys: Vec<SshKeyInfo> = ask(app, async |client| client.list(&paged("/ssh-keys", false), MOST).await)?;
    if json {
        return show::json(app, &keys);
    }
    let row = |key: SshKeyInfo| vec![key.fingerprint, key.registered_at, key.comment];
    show::table(app, &["FINGERPRINT", "REGISTERED", "COMMENT"], keys.into_iter().map(row).collect())
}

fn add(app: &App, named: &str) -> Result<()> {
    let key = app.keyring(|keyring| keyring.find_key(named))?;
    let request = RegisterSshKey { public_key: key.to_line(&comment(named, &key)) };
    let registered: SshKeyInfo = ask(app, async |client| client.post("/ssh-keys", &request).await)?;
    app.out.done(format!("SSH key {} may sign you in", registered.fingerprint))
}

/// The comment of the `.pub` file that was named, or that lies beside the key file.
fn comment(named: &str, key: &PublicKey) -> String {
    let beside = format!("{named}.pub");
    let lines = [named, &beside].into_iter().filter_map(|path| {
        String::from_utf8(read_regular(path.as_ref()).ok()?)
            .ok()
            .and_then(|text| PublicKey::parse_line(&text).ok())
    });
    lines.filter(|(found, _)| found == key).map(|(_, comment)| comment).next().unwrap_or_default()
}
