//! Prompts for a passphrase: on the terminal, or through SSH_ASKPASS as OpenSSH does. Never through argv or a variable.

use std::ffi::OsString;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use secrecy::SecretString;
use zeroize::Zeroizing;

use super::errors::PromptError;
use super::tty::{self, MAX_BYTES, secret};

/// Attempts before a wrong passphrase is an error, as with ssh (NumberOfPasswordPrompts).
pub const MAX_ATTEMPTS: usize = 3;
/// The variables that an askpass program gets: those that it needs to run and show a dialog, and no secrets.
const ASKPASS_ENVIRONMENT: [&str; 14] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TERM",
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "XAUTHORITY",
    "XDG_RUNTIME_DIR",
    "DBUS_SESSION_BUS_ADDRESS",
    "TMPDIR",
];

/// The means to prompt for a passphrase.
#[derive(Debug, Clone, Default)]
pub struct PassphrasePrompt {
    /// Whether the controlling terminal may be used.
    pub terminal: bool,
    /// SSH_ASKPASS.
    pub askpass: Option<PathBuf>,
    /// SSH_ASKPASS_REQUIRE.
    pub require: AskpassRequire,
    /// Whether DISPLAY or WAYLAND_DISPLAY is set.
    pub display: bool,
    /// The whole environment of the askpass program.
    pub environment: Vec<(OsString, OsString)>,
}

/// The values of SSH_ASKPASS_REQUIRE (ssh(1), ENVIRONMENT).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AskpassRequire {
    /// Unset: the askpass program if there is a display and no terminal.
    #[default]
    Unset,
    /// `never`.
    Never,
    /// `prefer`: before the terminal, if there is a display.
    Prefer,
    /// `force`: always, also without a display.
    Force,
}

impl PassphrasePrompt {
    /// Reads the options from variables, which the caller looks up.
    pub fn from_variables(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let require = match variable("SSH_ASKPASS_REQUIRE").map(|v| v.to_ascii_lowercase()) {
            Some(v) if v == "never" => AskpassRequire::Never,
            Some(v) if v == "prefer" => AskpassRequire::Prefer,
            Some(v) if v == "force" => AskpassRequire::Force,
            _ => AskpassRequire::Unset,
        };
        Self {
            terminal: true,
            askpass: set("SSH_ASKPASS").map(PathBuf::from),
            require,
            display: set("DISPLAY").or_else(|| set("WAYLAND_DISPLAY")).is_some(),
            environment: ASKPASS_ENVIRONMENT.iter().filter_map(|n| Some((n.into(), variable(n)?))).collect(),
        }
    }

    /// Prompts once. Fails at once if there is no means to prompt.
    pub fn ask(&self, prompt: &str) -> Result<SecretString, PromptError> {
        // readpass.c of OpenSSH, read_passphrase().
        let askpass = self.askpass.as_deref().filter(|_| match self.require {
            AskpassRequire::Never => false,
            AskpassRequire::Force => true,
            AskpassRequire::Unset | AskpassRequire::Prefer => self.display,
        });
        let first = matches!(self.require, AskpassRequire::Prefer | AskpassRequire::Force);
        match askpass {
            Some(program) if first => self.run_askpass(program, prompt),
            _ => match tty::open(self.terminal) {
                Some(terminal) if self.require != AskpassRequire::Force => tty::ask(&terminal, prompt),
                _ => askpass.map_or(Err(PromptError::NoWay), |program| self.run_askpass(program, prompt)),
            },
        }
    }

    fn run_askpass(&self, program: &Path, prompt: &str) -> Result<SecretString, PromptError> {
        let failed = |source| PromptError::Askpass { path: program.to_owned(), source };
        let mut child = Command::new(program)
            .arg(prompt)
            .env_clear()
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed)?;
        let mut answer = Zeroizing::new(Vec::with_capacity(MAX_BYTES + 1));
        let read = match child.stdout.take() {
            Some(output) => read_whole(output, &mut answer),
            None => Ok(()),
        };
        let status = child.wait().map_err(failed)?;
        read.map_err(failed)?;
        if !status.success() {
            return Err(PromptError::Cancelled);
        }
        let end = answer.iter().position(|b| matches!(b, b'\r' | b'\n')).unwrap_or(answer.len());
        secret(&answer[..end]).ok_or(PromptError::Cancelled)
    }
}

/// Keeps at most [`MAX_BYTES`], in a buffer that never grows; reads the rest, so that the program can exit.
fn read_whole(mut output: impl Read, answer: &mut Zeroizing<Vec<u8>>) -> io::Result<()> {
    let mut chunk = Zeroizing::new([0; 256]);
    loop {
        match output.read(&mut chunk[..]) {
            Ok(0) => return Ok(()),
            Ok(count) => {
                let room = MAX_BYTES.saturating_sub(answer.len()).min(count);
                answer.extend_from_slice(&chunk[..room]);
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}
