//! What the verbs print, and how they end.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

/// Why a verb could not; its text tells what to do next.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    text: String,
}

impl Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl Failure {
    /// It could not be done.
    pub fn new(text: impl Display) -> Self {
        Self { code: 1, text: text.to_string() }
    }

    /// Something is wrong in what was to be checked: configuration, rules, records.
    pub fn found(text: impl Display) -> Self {
        Self { code: 3, text: text.to_string() }
    }

    /// Prints it and gives the exit code.
    pub fn report(self) -> ExitCode {
        let _ = writeln!(io::stderr(), "Error: {}", self.text);
        ExitCode::from(self.code)
    }
}

/// Prints what was asked for. A reader who has gone away ends it quietly.
///
/// # Errors
/// [`Failure`] where standard output can't be written, as on a full disk.
pub fn print(text: impl Display) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(format!("standard output can't be written: {error}")))
        }
        _ => Ok(()),
    }
}

/// A notice for the person at the terminal.
pub fn notice(text: impl Display) {
    let _ = writeln!(io::stderr(), "{text}");
}
