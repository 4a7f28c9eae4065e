//! `shell PROFILE`: the person's own shell, with the credentials in its environment and the profile in its prompt.
//!
//! The prompt is changed by the means that each shell documents, after the person's own settings were read. The scripts
//! contain no name: they read IAM_SORRY_PROFILE when the prompt is drawn, so no name can become a command.

use std::ffi::OsStr;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use iam_sorry_core::shells;
use iam_sorry_core::timestamp::human_duration;
use secrecy::ExposeSecret;

use crate::app::App;
use crate::error::{Error, Result};
use crate::files::{FileMode, replace_atomically};
use crate::keyring::hygiene::CoreLimit;
use crate::provider::{self, ProfileCredentials, ProvideOptions};
use crate::settings;

const PROFILE: &str = "IAM_SORRY_PROFILE";

/// bash(1), --rcfile: read instead of ~/.bashrc. PS1 expands a variable's value once, and never runs it.
const BASH: &str = r#"# Written by iam-sorry for 'iam-sorry shell'.
if [ -r ~/.bashrc ]; then . ~/.bashrc; fi
PS1='(${IAM_SORRY_PROFILE}) '"$PS1"
"#;

/// zsh(1), ZDOTDIR: where zsh reads its files. %9v shows an element of psvar, which is not expanded further
/// (zshmisc(1)).
const ZSHENV: &str = r#"# Written by iam-sorry for 'iam-sorry shell'.
_iam_sorry_zdotdir=$ZDOTDIR
if (( ${+IAM_SORRY_ZDOTDIR} )); then ZDOTDIR=$IAM_SORRY_ZDOTDIR; else unset ZDOTDIR; fi
if [[ -r ${ZDOTDIR:-$HOME}/.zshenv ]]; then . ${ZDOTDIR:-$HOME}/.zshenv; fi
if [[ -o interactive ]]; then
  if (( ${+ZDOTDIR} )); then IAM_SORRY_ZDOTDIR=$ZDOTDIR; fi
  ZDOTDIR=$_iam_sorry_zdotdir
fi
unset _iam_sorry_zdotdir
"#;
const ZSHRC: &str = r#"# Written by iam-sorry for 'iam-sorry shell'.
if (( ${+IAM_SORRY_ZDOTDIR} )); then ZDOTDIR=$IAM_SORRY_ZDOTDIR; else unset ZDOTDIR; fi
unset IAM_SORRY_ZDOTDIR
if [[ -r ${ZDOTDIR:-$HOME}/.zshrc ]]; then . ${ZDOTDIR:-$HOME}/.zshrc; fi
psvar[9]=$IAM_SORRY_PROFILE
PROMPT="(%9v) $PROMPT"
"#;

/// fish(1), --init-command: run after config.fish.
const FISH: &str = "functions --query fish_prompt; and functions --copy fish_prompt __iam_sorry_prompt; \
                    function fish_prompt; printf '(%s) ' \"$IAM_SORRY_PROFILE\"; \
                    functions --query __iam_sorry_prompt; and __iam_sorry_prompt; end";

pub fn run(app: &App, name: &str, core_limit: CoreLimit) -> Result<ExitCode> {
    if let Some(held) = settings::text(PROFILE) {
        return Err(Error::usage(format!("This is a shell with the credentials of '{held}' already"))
            .hint("Leave it first: exit (or Ctrl-D)")
            .hint(format!("For one command only: iam-sorry exec {name} -- COMMAND")));
    }
    let ProfileCredentials { profile, credentials } =
        provider::credentials(app, name, ProvideOptions { session: false, create: true })?;
    let program = settings::path("SHELL").unwrap_or_else(|| PathBuf::from("/bin/sh"));
    let mut shell = Command::new(&program);
    let variables = shells::environment(&credentials, app.region_of(&profile));
    for name in variables.unset.into_iter().chain([settings::TOKEN]) {
        shell.env_remove(name);
    }
    for (name, value) in variables.set {
        shell.env(name, value.expose_secret());
    }
    shell.env(PROFILE, name);
    prompt(app, &program, &mut shell)?;

    let left = credentials.expiration.map(|at| (at, at.seconds_after(app.now())));
    let lasting = match left {
        Some((at, left)) => format!("{} left, until {at}", human_duration(left)),
        None => "permanent keys".into(),
    };
    app.out.progress(format!("Credentials of '{name}': {lasting}. Leave with: exit"));
    core_limit.restore();
    let error = shell.exec();
    Err(Error::other(format!("{} can't be run: {error}", program.display()))
        .hint("Set SHELL to the path of a shell"))
}

/// Puts the profile before the prompt, for the shells that are known.
fn prompt(app: &App, program: &Path, shell: &mut Command) -> Result<()> {
    match program.file_name().and_then(OsStr::to_str) {
        Some("bash") => {
            shell.arg("--rcfile").arg(script(app, "bashrc", BASH)?);
        }
        Some("zsh") => {
            script(app, ".zshenv", ZSHENV)?;
            let rc = script(app, ".zshrc", ZSHRC)?;
            if let Some(own) = settings::path("ZDOTDIR") {
                shell.env("IAM_SORRY_ZDOTDIR", own);
            }
            shell.env("ZDOTDIR", rc.with_file_name(""));
        }
        Some("fish") => {
            shell.args(["--init-command", FISH]);
        }
        // POSIX: PS1 comes from the environment and is expanded once.
        Some("sh" | "dash" | "ksh" | "mksh" | "ash" | "busybox") => {
            let before = settings::text("PS1").unwrap_or_else(|| "$ ".into());
            shell.env("PS1", format!("(${{{PROFILE}}}) {before}"));
        }
        _ => {}
    }
    Ok(())
}

/// Writes a script, which is the same for every profile, so that it can stay.
fn script(app: &App, name: &str, text: &str) -> Result<PathBuf> {
    let folder = app.settings.state_dir.join("shell");
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder)
        .map_err(|e| Error::other(format!("The folder {} can't be made: {e}", folder.display())))?;
    let path = folder.join(name);
    if std::fs::read(&path).is_ok_and(|found| found == text.as_bytes()) {
        return Ok(path);
    }
    replace_atomically(&path, text.as_bytes(), FileMode::Private)?;
    Ok(path)
}
