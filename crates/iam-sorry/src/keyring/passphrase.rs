//! Asks for a passphrase: on the terminal, or through SSH_ASKPASS as OpenSSH does. Never through argv or a variable.

use std::ffi::OsString;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use secrecy::SecretString;
use zeroize::Zeroizing;

/// How often a wrong passphrase may be tried again, as with ssh (NumberOfPasswordPrompts).
pub const TRIES: usize = 3;
/// Longer lines are no passphrases.
const MAX_BYTES: usize = 1024;
/// What an askpass program needs of our environment, and no more: our own settings and AWS's secrets are not its business.
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

/// The ways there are to ask.
#[derive(Debug, Clone, Default)]
pub struct Asking {
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

/// SSH_ASKPASS_REQUIRE (ssh(1), ENVIRONMENT).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AskpassRequire {
    /// Unset: the askpass program where there is a display and no terminal.
    #[default]
    Unset,
    /// `never`.
    Never,
    /// `prefer`: before the terminal, where there is a display.
    Prefer,
    /// `force`: always, also without a display.
    Force,
}

/// No passphrase was to be had.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// No terminal and no askpass program.
    #[error("there is no terminal and no askpass program to ask for the passphrase")]
    NoWay,
    /// Ctrl-C, Ctrl-D or Cancel.
    #[error("no passphrase was given")]
    Cancelled,
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted,
    /// The askpass program couldn't be run.
    #[error("the askpass program {path} failed ({source})", path = .path.display())]
    Askpass {
        /// SSH_ASKPASS.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The terminal failed.
    #[error("the terminal failed ({0})")]
    Terminal(#[source] io::Error),
}

impl Asking {
    /// From the variables, which the caller looks up: nothing here reads the environment.
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

    /// Asks once. Without a way to ask, fails at once.
    pub fn ask(&self, prompt: &str) -> Result<SecretString, AskError> {
        // readpass.c of OpenSSH, read_passphrase().
        let askpass = self.askpass.as_deref().filter(|_| match self.require {
            AskpassRequire::Never => false,
            AskpassRequire::Force => true,
            AskpassRequire::Unset | AskpassRequire::Prefer => self.display,
        });
        let first = matches!(self.require, AskpassRequire::Prefer | AskpassRequire::Force);
        match askpass {
            Some(program) if first => self.run_askpass(program, prompt),
            _ => match terminal::open(self.terminal) {
                Some(terminal) if self.require != AskpassRequire::Force => terminal::ask(&terminal, prompt),
                _ => askpass.map_or(Err(AskError::NoWay), |program| self.run_askpass(program, prompt)),
            },
        }
    }

    fn run_askpass(&self, program: &Path, prompt: &str) -> Result<SecretString, AskError> {
        let failed = |source| AskError::Askpass { path: program.to_owned(), source };
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
            return Err(AskError::Cancelled);
        }
        let end = answer.iter().position(|b| matches!(b, b'\r' | b'\n')).unwrap_or(answer.len());
        secret(&answer[..end]).ok_or(AskError::Cancelled)
    }
}

/// At most [`MAX_BYTES`] are kept, into a buffer that never grows; the rest is read, so that the program can end.
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

fn secret(bytes: &[u8]) -> Option<SecretString> {
    std::str::from_utf8(bytes).ok().map(SecretString::from)
}

#[cfg(unix)]
mod terminal {
    //! /dev/tty with the echo off. Ctrl-C is read as a character, so that the echo is on again before anything ends.

    use std::fs::{File, OpenOptions};
    use std::io::{self, Read, Write};

    use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
    use secrecy::SecretString;
    use zeroize::{Zeroize, Zeroizing};

    use super::{AskError, MAX_BYTES, secret};

    pub(super) fn open(allowed: bool) -> Option<File> {
        OpenOptions::new().read(true).write(true).open("/dev/tty").ok().filter(|_| allowed)
    }

    pub(super) fn ask(mut terminal: &File, prompt: &str) -> Result<SecretString, AskError> {
        let quiet = Quiet::start(terminal)?;
        terminal.write_all(prompt.as_bytes()).map_err(AskError::Terminal)?;
        let answer = read_line(terminal);
        drop(quiet);
        let _ = terminal.write_all(b"\n");
        answer
    }

    /// The echo is off for as long as this lives.
    struct Quiet<'a> {
        terminal: &'a File,
        before: Termios,
    }

    impl<'a> Quiet<'a> {
        fn start(terminal: &'a File) -> Result<Self, AskError> {
            let failed = |e: rustix::io::Errno| AskError::Terminal(e.into());
            let before = tcgetattr(terminal).map_err(failed)?;
            let mut quiet = before.clone();
            quiet.local_modes &=
                !(LocalModes::ECHO | LocalModes::ECHONL | LocalModes::ICANON | LocalModes::ISIG);
            // Flush: what was typed before the prompt was not meant for it.
            tcsetattr(terminal, OptionalActions::Flush, &quiet).map_err(failed)?;
            Ok(Self { terminal, before })
        }
    }

    impl Drop for Quiet<'_> {
        fn drop(&mut self) {
            let _ = tcsetattr(self.terminal, OptionalActions::Flush, &self.before);
        }
    }

    fn read_line(mut terminal: &File) -> Result<SecretString, AskError> {
        let mut line = Zeroizing::new(Vec::with_capacity(MAX_BYTES));
        let mut byte = Zeroizing::new([0]);
        loop {
            match terminal.read(&mut byte[..]) {
                Ok(0) => return Err(AskError::Cancelled),
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(AskError::Terminal(e)),
            }
            match byte[0] {
                b'\n' | b'\r' => return secret(&line).ok_or(AskError::Cancelled),
                0x03 => return Err(AskError::Interrupted), // Ctrl-C
                0x04 if line.is_empty() => return Err(AskError::Cancelled), // Ctrl-D
                0x15 => line.zeroize(),                    // Ctrl-U
                0x08 | 0x7F => while line.pop().is_some_and(|b| b & 0xC0 == 0x80) {}, // one character of UTF-8
                other if line.len() < MAX_BYTES => line.push(other),
                _ => {}
            }
        }
    }
}

#[cfg(not(unix))]
mod terminal {
    //! Outside Unix, rpassword knows the console.

    use secrecy::SecretString;
    use zeroize::Zeroizing;

    use super::AskError;

    pub(super) fn open(allowed: bool) -> Option<()> {
        allowed.then_some(())
    }

    pub(super) fn ask((): &(), prompt: &str) -> Result<SecretString, AskError> {
        let line = rpassword::prompt_password(prompt).map(Zeroizing::new).map_err(AskError::Terminal)?;
        Ok(SecretString::from(line.as_str()))
    }
}
