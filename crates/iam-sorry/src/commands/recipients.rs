//! `recipients`: lists and changes the SSH keys that can open a profile.

use crate::app::App;
use crate::args::Recipients as Action;
use crate::error::{Error, Result};
use crate::keyring::Keyring;
use crate::profile::Profile;
use crate::sealing;

pub fn run(app: &App, action: Action) -> Result<()> {
    match action {
        Action::List { target } => list(app, &target),
        Action::Add { target, key } => {
            let profile = sealed(app, &target)?;
            let key = app.keyring(|k| k.find_key(&key))?;
            let resealed = app.keyring(|k| k.add_recipient(&target, &profile.sealed_fields(), &key))?;
            write(app, &profile, resealed)?;
            app.out.done(format!("Profile '{target}' can now be opened with {} too", key.key_id()))
        }
        Action::Remove { target, key } => {
            let profile = sealed(app, &target)?;
            let id = app.keyring(|k| k.find_key_id(&key))?;
            let resealed = app.keyring(|k| k.remove_recipient(&target, &profile.sealed_fields(), &id))?;
            write(app, &profile, resealed)?;
            app.out.done(format!("Profile '{target}' is no longer sealed for {id}"))
        }
    }
}

fn list(app: &App, target: &str) -> Result<()> {
    let profile = sealed(app, target)?;
    let mut shown = Vec::new();
    for (field, value) in profile.sealed_fields() {
        for id in Keyring::recipients(target, field, value)? {
            if !shown.contains(&id) {
                app.out.line(id.to_string())?;
                shown.push(id);
            }
        }
    }
    Ok(())
}

/// A profile with sealed fields, or an error.
fn sealed(app: &App, name: &str) -> Result<Profile> {
    let profile = app.profile(name)?;
    if profile.sealed_fields().is_empty() {
        return Err(Error::profile(format!("Profile '{name}' holds nothing that is sealed"))
            .hint(format!("Seal it: iam-sorry encrypt '{name}'")));
    }
    Ok(profile)
}

fn write(app: &App, profile: &Profile, resealed: Vec<String>) -> Result<()> {
    let pairs: Vec<(&'static str, String)> =
        profile.sealed_fields().into_iter().map(|(field, _)| field).zip(resealed).collect();
    app.update(&app.credentials, |document| {
        sealing::check_unchanged(document, profile)?;
        sealing::store(document, &profile.name, &pairs)
    })
}
