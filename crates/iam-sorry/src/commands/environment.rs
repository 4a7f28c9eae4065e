//! `env` (and `--eval`), `unset`, `exec`, `credential-process`: hand the credentials of the [`provider`] to shells,
//! commands and SDKs.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use iam_sorry_core::shells::{self, Shell};
use iam_sorry_core::timestamp::human_duration;
use secrecy::ExposeSecret;

use crate::app::App;
use crate::error::{Error, Result};
use crate::keyring::hygiene::CoreLimit;
use crate::provider::{self, ProfileCredentials, ProvideOptions};
use crate::settings;

/// Prints statements for `shell` that set the credentials, and nothing else on stdout.
pub fn print(app: &App, name: &str, shell: &str, options: ProvideOptions) -> Result<()> {
    let shell = parse(shell)?;
    let ProfileCredentials { profile, credentials } = credentials_for_a_while(app, name, options)?;
    let variables = shells::environment(&credentials, app.region_of(&profile));
    let text =
        shells::render(shell, &variables).map_err(|e| Error::profile(format!("Profile '{name}': {e}")))?;
    app.out.raw(&text)
}

/// Prints statements that unset them.
pub fn unset(app: &App, shell: &str) -> Result<()> {
    app.out.raw(&shells::render_unset(parse(shell)?).map_err(|e| Error::usage(e.to_string()))?)
}

fn parse(shell: &str) -> Result<Shell> {
    shell.parse::<Shell>().map_err(|e| Error::usage(e.to_string()))
}

/// Replaces this process by the command (execve), with the credentials in its environment only.
pub fn exec(
    app: &App,
    name: &str,
    session: bool,
    command: &[OsString],
    core_limit: CoreLimit,
) -> Result<ExitCode> {
    let ProfileCredentials { profile, credentials } =
        credentials_for_a_while(app, name, ProvideOptions { session, create: true })?;
    let variables = shells::environment(&credentials, app.region_of(&profile));
    let [program, arguments @ ..] = command else {
        return Err(Error::usage("exec needs a command: iam-sorry exec PROFILE -- COMMAND"));
    };
    let mut child = Command::new(program);
    child.args(arguments);
    for name in variables.unset.into_iter().chain([settings::TOKEN]) {
        child.env_remove(name);
    }
    for (name, value) in variables.set {
        child.env(name, value.expose_secret());
    }
    core_limit.restore();
    let error = child.exec();
    let missing = error.kind() == std::io::ErrorKind::NotFound;
    app.out.error(&Error::other(format!("{} can't be run: {error}", program.display())));
    Ok(ExitCode::from(if missing { 127 } else { 126 }))
}

/// Prints JSON, version 1, for SDKs, which call again when it expires.
pub fn credential_process(app: &App, name: &str, session: bool) -> Result<()> {
    let ProfileCredentials { credentials, .. } =
        provider::credentials(app, name, ProvideOptions { session, create: false })?;
    app.out.raw(&credentials.to_process_json())?;
    app.out.raw("\n")
}

/// For shells and commands, which keep the credentials: reports on stderr if they expire within an hour.
fn credentials_for_a_while(app: &App, name: &str, options: ProvideOptions) -> Result<ProfileCredentials> {
    let supplied = provider::credentials(app, name, options)?;
    if let Some(left) = supplied.credentials.seconds_left(app.now()).filter(|left| *left <= 3600) {
        app.out.progress(format!("The credentials of '{name}' expire in {}", human_duration(left)));
    }
    Ok(supplied)
}
