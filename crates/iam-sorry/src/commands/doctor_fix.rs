//! `doctor --fix`: fixes what is safe to fix. Modes and locks at once; sealing only after a prompt.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use iam_sorry_core::seal::{self, Value};

use crate::app::App;
use crate::commands::encrypt;
use crate::error::{Error, ErrorKind, Result};
use crate::profile::{self, Profile};
use crate::recovery;
use crate::terminal;

/// A fix that fails is a warning, and the others go on: the checks that follow report what remains.
pub fn run(app: &App, offline: bool) -> Result<()> {
    let found = if offline { Ok(()) } else { recovery::decide(app) };
    let results = [modes(app), locks(app), legacy(app), plain(app), found];
    for error in results.into_iter().filter_map(std::result::Result::err) {
        if matches!(error.kind, ErrorKind::Interrupted | ErrorKind::BrokenPipe) {
            return Err(error);
        }
        app.out.warn(error.to_string());
    }
    Ok(())
}

/// The folder and the SSH key. The mode of the credentials file itself is restricted by [`locks`].
fn modes(app: &App) -> Result<()> {
    if let Some(folder) = app.settings.credentials_file.parent() {
        narrow(app, folder, 0o022)?;
    }
    match app.key_report().path {
        Some(key) => narrow(app, &key, 0o077),
        None => Ok(()),
    }
}

/// Removes the permissions of group and others from the user's own file or folder, if it has any of `too_much`. Links
/// are left alone.
fn narrow(app: &App, path: &Path, too_much: u32) -> Result<()> {
    let Ok(found) = std::fs::symlink_metadata(path) else { return Ok(()) };
    let ours = found.uid() == rustix::process::geteuid().as_raw();
    if found.is_symlink() || !ours || found.mode() & too_much == 0 {
        return Ok(());
    }
    let mode = found.mode() & 0o700;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .map_err(|e| Error::other(format!("The mode of {} can't be changed: {e}", path.display())))?;
    app.out.done(format!("{} is yours alone now (mode {mode:04o})", path.display()))
}

/// An edit without changes takes over a dead holder's lock, releases it, and restricts the mode of the credentials
/// file.
fn locks(app: &App) -> Result<()> {
    for file in [&app.credentials, &app.config] {
        if file.path().exists() {
            app.update(file, |_| Ok(()))?;
        }
    }
    Ok(())
}

fn legacy(app: &App) -> Result<()> {
    let document = app.load(&app.credentials)?;
    let is_legacy = |name: &&str| {
        let mut values = profile::SEALABLE.iter().filter_map(|field| document.value(name, field));
        values.any(|value| matches!(seal::parse(value), Ok(Value::Legacy(_))))
    };
    let names: Vec<&str> = document.profiles().into_iter().filter(is_legacy).collect();
    if names.is_empty() {
        return Ok(());
    }
    let question = format!("Seal the values of the original tool anew ({})?", names.join(", "));
    if terminal::confirm(app, &question)? { encrypt::migrate(app, &[], None) } else { Ok(()) }
}

fn plain(app: &App) -> Result<()> {
    let (credentials, config) = app.documents()?;
    let found =
        credentials.profiles().into_iter().filter_map(|name| Profile::find(name, &credentials, &config));
    // `default` is never encrypted.
    for profile in found.filter(|p| p.kind() == profile::ProfileKind::Permanent && p.name != "default") {
        let name = &profile.name;
        let question = format!(
            "Seal the permanent keys of '{name}' with your SSH key? AWS tools then need: iam-sorry exec {name}"
        );
        if terminal::confirm(app, &question)? {
            encrypt::encrypt(app, name, false)?;
        }
    }
    Ok(())
}
