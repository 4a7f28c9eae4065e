//! `rename` and `reseal`: sealed values are bound to their profile's name, so a new name requires sealing them again.

use crate::app::App;
use crate::error::{Error, Result};
use crate::profile::{PROCESS, Profile};
use crate::sealing;

use super::encrypt;

/// Renames a profile in both files.
pub fn rename(app: &App, old: &str, new: &str) -> Result<()> {
    let (credentials, config) = app.documents()?;
    let profile = Profile::find(old, &credentials, &config).ok_or_else(|| app.not_found("Profile", old))?;
    if credentials.contains(new) || config.contains(new) {
        return Err(Error::profile(format!("There is a profile '{new}' already; nothing was changed"))
            .hint(format!("Choose another name: iam-sorry rename '{old}' NAME")));
    }
    // Checks come before the first of the two writes.
    config.clone().set(new, "region", "x")?;
    credentials.clone().set(new, "region", "x")?;
    let served = profile.active_key().is_none() && profile.kept_key().is_some();
    let line = (served && config.value(old, PROCESS).is_some())
        .then(|| encrypt::process_line_for(app, &profile, new))
        .transpose()?;
    let resealed = reseal_fields(app, &profile, old, new)?;
    if credentials.contains(old) {
        app.update(&app.credentials, |document| {
            sealing::check_unchanged(document, &profile)?;
            document.rename_profile(old, new)?;
            sealing::store(document, new, &resealed)
        })?;
    }
    if config.contains(old) {
        app.update(&app.config, |config| {
            config.rename_profile(old, new)?;
            match &line {
                Some(line) => Ok(config.set(new, PROCESS, line)?),
                None => Ok(()),
            }
        })?;
    }
    app.out.done(format!("Profile '{old}' is now '{new}'"))?;
    for name in config.profiles().into_iter().filter(|name| config.value(name, "source_profile") == Some(old))
    {
        app.out.warn(format!("Profile '{name}' still names '{old}' as its source_profile"));
    }
    Ok(())
}

/// Seals a profile's values again, for its present name.
pub fn reseal(app: &App, name: &str, was: Option<&str>) -> Result<()> {
    let profile = app.profile(name)?;
    let resealed = reseal_fields(app, &profile, was.unwrap_or(name), name)?;
    if resealed.is_empty() {
        return Err(Error::profile(format!("Profile '{name}' holds nothing that is sealed"))
            .hint(format!("Seal it: iam-sorry encrypt '{name}'")));
    }
    app.update(&app.credentials, |document| {
        sealing::check_unchanged(document, &profile)?;
        sealing::store(document, name, &resealed)
    })?;
    app.out.done(format!("Profile '{name}' sealed again"))
}

/// Seals the sealed fields, which are bound to profile `from`, for profile `to` and the same SSH keys.
fn reseal_fields(app: &App, profile: &Profile, from: &str, to: &str) -> Result<Vec<(&'static str, String)>> {
    let fields = profile.sealed_fields();
    if fields.is_empty() {
        return Ok(Vec::new());
    }
    let sealed = app.keyring(|keyring| keyring.reseal(to, &fields, from))?;
    Ok(fields.into_iter().map(|(field, _)| field).zip(sealed).collect())
}
