//! `encrypt`, `decrypt`, `migrate`: convert between plain text, the original tool's values, and sealed values.

use std::path::Path;

use iam_sorry_core::seal::{self, Value};
use secrecy::{ExposeSecret, SecretString};

use crate::app::App;
use crate::error::{Error, Result};
use crate::keyring::Keyring;
use crate::profile::{
    EXPIRATION, ID, KEPT_ID, KEPT_SECRET, OWNER, PROCESS, Profile, SEALABLE, SECRET, TOKEN,
};
use crate::{sealing, terminal};

/// Seals a profile's keys. With `process`, AWS tools get them through credential_process.
pub fn encrypt(app: &App, name: &str, process: bool) -> Result<()> {
    if name == "default" {
        return Err(Error::usage(
            "Cannot encrypt 'default' profile. Use --profile or AWS_PROFILE to specify an explicit profile name.",
        )
        .hint("iam-sorry --profile usermanager --encrypt"));
    }
    let (credentials, config) = app.documents()?;
    let profile = Profile::find(name, &credentials, &config)
        .filter(|_| credentials.contains(name))
        .ok_or_else(|| app.not_found("Manager profile", name))?;
    let key = profile.usable_key().ok_or_else(|| {
        Error::profile(format!("Manager profile '{name}' missing access key or secret key"))
            .hint(format!("Put them into [{name}] in {}", app.settings.credentials_file.display()))
    })?;
    let served = profile.active_key().is_none();
    let sealed = key.fields().iter().all(|(_, value)| matches!(seal::parse(value), Ok(Value::Sealed(_))));
    if sealed && (served || !process) {
        return app.out.done(format!("Manager profile '{name}' is already encrypted with SSH key"));
    }
    if process && key.token.is_some() {
        return Err(Error::profile(format!(
            "Profile '{name}' holds temporary credentials, which --process does not serve"
        ))
        .hint("AWS tools read them from the profile as they are"));
    }
    let line = process.then(|| process_line_for(app, &profile, name)).transpose()?;
    app.out.progress(format!("Encrypting manager profile '{name}'..."));

    let opened = app.open(&profile, key)?;
    let under = if process { [KEPT_ID, KEPT_SECRET] } else { [ID, SECRET] };
    let mut targets: Vec<sealing::Target> =
        vec![(under[0], opened.access_key_id.into()), (under[1], opened.secret_access_key)];
    targets.extend(opened.session_token.map(|token| (TOKEN, token)));
    // Other sealed fields of the section are sealed again too, since a profile has one envelope (sealed-format-v2.md,
    // "Using it").
    let own: Vec<&str> = key.fields().iter().map(|(field, _)| *field).collect();
    let mut others = profile.sealed_fields();
    others.retain(|(field, _)| !own.contains(field) && !targets.iter().any(|(target, _)| target == field));
    let opened_others = app.keyring(|keyring| keyring.open_fields(name, &others))?;
    targets.extend(others.iter().map(|(field, _)| *field).zip(opened_others));
    let sealed = sealing::seal(app, name, Some(&profile), &targets)?;

    // The config line first: if the second write fails, the static keys still work and nothing is lost.
    if let Some(line) = &line {
        app.update(&app.config, |config| Ok(config.set(name, PROCESS, line)?))?;
    }
    app.update(&app.credentials, |document| {
        sealing::check_unchanged(document, &profile)?;
        if process {
            document.remove(name, ID);
            document.remove(name, SECRET);
        }
        sealing::store(document, name, &sealed)
    })?;
    app.out.done(format!("Manager profile '{name}' encrypted with SSH key"))?;
    if line.is_some() {
        app.out.done(format!(
            "AWS tools get it through iam-sorry: aws --profile {name} sts get-caller-identity"
        ))?;
    }
    Ok(())
}

/// Writes the keys as plain text, after a prompt.
pub fn decrypt(app: &App, name: &str) -> Result<()> {
    let profile = app.profile(name)?;
    let key = profile
        .active_key()
        .filter(|key| key.is_sealed())
        .or_else(|| profile.kept_key())
        .ok_or_else(|| Error::profile(format!("Profile '{name}' holds nothing that is encrypted")))?;
    let file = app.settings.credentials_file.display();
    if !terminal::confirm(app, &format!("Write the keys of '{name}' as plain text into {file}?"))? {
        return app.out.line("Aborted.");
    }
    let opened = app.open(&profile, key)?;
    app.update(&app.credentials, |document| {
        sealing::check_unchanged(document, &profile)?;
        let from_kept = key.id.0 == KEPT_ID;
        // A key that is kept beside a session stays sealed: nothing else holds it.
        if from_kept {
            for field in [KEPT_ID, KEPT_SECRET, TOKEN, OWNER, EXPIRATION] {
                document.remove(name, field);
            }
        }
        document.set(name, ID, &opened.access_key_id)?;
        document.set(name, SECRET, opened.secret_access_key.expose_secret())?;
        if let Some(token) = &opened.session_token {
            document.set(name, TOKEN, token.expose_secret())?;
        }
        Ok(())
    })?;
    app.update(&app.config, |config| {
        if config.value(name, PROCESS).is_some_and(is_ours) {
            config.remove(name, PROCESS);
            if config.entries(name).is_empty() {
                config.remove_profile(name);
            }
        }
        Ok(())
    })?;
    app.out.done(format!("Profile '{name}' decrypted: its keys are plain text now"))
}

/// Seals the original tool's values again, all in one envelope, and replaces them in one write.
pub fn migrate(app: &App, names: &[String], old_key: Option<&Path>) -> Result<()> {
    let document = app.load(&app.credentials)?;
    for name in names {
        if !document.contains(name) {
            return Err(app.not_found("Profile", name));
        }
    }
    let chosen: Vec<&str> = document
        .profiles()
        .into_iter()
        .filter(|p| names.is_empty() || names.iter().any(|n| n == p))
        .collect();
    let mut old = old_key.map(|path| app.keyring_with(path));
    let mut legacy: Vec<(String, &'static str, String)> = Vec::new();
    let mut opened: Vec<SecretString> = Vec::new();
    for name in chosen {
        let fields: Vec<(&'static str, &str)> = SEALABLE
            .iter()
            .filter_map(|field| Some((*field, document.value(name, field)?)))
            .filter(|(_, value)| value.starts_with(seal::PREFIX))
            .collect();
        if !fields.iter().any(|(_, value)| matches!(seal::parse(value), Ok(Value::Legacy(_)))) {
            continue;
        }
        // All fields at once, so that one restored from an old copy beside newer ones is detected.
        let open = |keyring: &mut Keyring<'static>| {
            keyring.suppress_legacy_warning([name.to_owned()]);
            keyring.open_fields(name, &fields)
        };
        opened.extend(match &mut old {
            Some(keyring) => open(keyring)?,
            None => app.keyring(open)?,
        });
        legacy.extend(fields.iter().map(|(field, value)| (name.to_owned(), *field, (*value).to_owned())));
    }
    if legacy.is_empty() {
        return app.out.done("No values of the original tool are left");
    }
    let to_seal: Vec<(&str, &str, &SecretString)> = legacy
        .iter()
        .zip(&opened)
        .map(|((name, field, _), secret)| (name.as_str(), *field, secret))
        .collect();
    let sealed = app.keyring(|k| k.seal_fields(&to_seal))?;
    app.update(&app.credentials, |document| {
        for ((name, field, old), new) in legacy.iter().zip(&sealed) {
            if document.value(name, field) != Some(old) {
                return Err(sealing::changed_meanwhile(name));
            }
            document.set(name, field, new)?;
        }
        Ok(())
    })?;
    let mut migrated: Vec<&str> = legacy.iter().map(|(name, _, _)| name.as_str()).collect();
    migrated.dedup();
    for name in migrated {
        app.out.done(format!("Profile '{name}' migrated"))?;
    }
    app.out.warn(
        "Rotate these AWS keys now: old copies of the credentials file can still be read, without a passphrase, \
         by anyone who can read the old key file",
    );
    Ok(())
}

/// `credential_process = "/abs/iam-sorry" credential-process NAME`. SDKs split the line like a shell but run none and
/// expand no `~`, so the path is absolute and quoted.
pub fn process_line_for(app: &App, profile: &Profile, name: &str) -> Result<String> {
    if let Some(other) = profile.setting(PROCESS).filter(|line| !is_ours(line)) {
        return Err(Error::profile(format!("Profile '{name}' has a credential_process of its own: {other}"))
            .hint(format!(
                "Take it out of [profile {name}] in {} first",
                app.settings.config_file.display()
            )));
    }
    let program = std::env::current_exe()
        .map_err(|e| Error::other(format!("The path of iam-sorry itself can't be found: {e}")))?;
    let program = program.to_str().filter(|path| is_quotable(path)).ok_or_else(|| {
        Error::other("The path of iam-sorry holds characters that a credential_process line can't: install it elsewhere")
    })?;
    if !is_quotable(name) {
        return Err(Error::profile(format!(
            "The name of profile '{name}' can't stand in a credential_process line"
        ))
        .hint("Rename it first: iam-sorry rename OLD NEW"));
    }
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.@+=,".contains(c));
    let name = if plain { name.to_owned() } else { format!("\"{name}\"") };
    Ok(format!("\"{program}\" credential-process {name}"))
}

fn is_ours(line: &str) -> bool {
    line.contains("iam-sorry") && line.contains(" credential-process ")
}

/// Characters that mean something to one SDK or another inside double quotes.
fn is_quotable(text: &str) -> bool {
    !text.chars().any(|c| c.is_control() || "\"\\$`%".contains(c)) && !text.starts_with('-')
}
