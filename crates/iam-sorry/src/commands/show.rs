//! `--show-encrypted` and `--show-decrypted`, in the original's layout.

use secrecy::{ExposeSecret, SecretString};

use crate::app::App;
use crate::error::Result;
use crate::profile::{ID, KEPT_ID, KEPT_SECRET, Profile, SECRET, TOKEN};

/// Prints the fields as stored. Plain secrets are left to `--show-decrypted`.
pub fn as_stored(app: &App, name: &str) -> Result<()> {
    let profile = app.profile(name)?;
    let shown = |key| {
        profile.field(key).map(|value| if key == ID || is_sealed(value) { value } else { "(plain text)" })
    };
    print(app, &profile, |key| shown(key).map(SecretString::from))
}

/// Prints the fields opened. Only this command prints a secret for people.
pub fn opened(app: &App, name: &str) -> Result<()> {
    let profile = app.profile(name)?;
    let key = profile.usable_key().map(|key| app.open(&profile, key)).transpose()?;
    print(app, &profile, |field| match (&key, field) {
        (Some(key), ID | KEPT_ID) => Some(key.access_key_id.as_str().into()),
        (Some(key), SECRET | KEPT_SECRET) => Some(key.secret_access_key.clone()),
        (Some(key), TOKEN) => key.session_token.clone(),
        _ => None,
    })
}

fn print(app: &App, profile: &Profile, value: impl Fn(&'static str) -> Option<SecretString>) -> Result<()> {
    let shown = |field, instead| {
        let value = value(field).or_else(|| value(instead));
        value.map_or_else(|| "N/A".to_owned(), |v| v.expose_secret().to_owned())
    };
    app.out.line(format!("Profile: {}", profile.name))?;
    app.out.line(format!("Access Key ID: {}", shown(ID, KEPT_ID)))?;
    app.out.line(format!("Secret Access Key: {}", shown(SECRET, KEPT_SECRET)))?;
    app.out.line(format!("Session Token: {}", shown(TOKEN, TOKEN)))?;
    if let Some(owner) = profile.owner() {
        app.out.line(format!("Credentials Owner: {owner}"))?;
    }
    Ok(())
}

fn is_sealed(value: &str) -> bool {
    value.starts_with(iam_sorry_core::seal::PREFIX)
}
