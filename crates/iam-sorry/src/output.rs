//! The one place that prints. stdout carries what was asked for; notices, progress and prompts go to stderr.

use std::io::{self, IsTerminal, Write};

use crate::error::{Error, ErrorKind, Result};

/// Who prints, and with which colours.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    color_out: bool,
    color_err: bool,
    quiet: bool,
}

impl Output {
    /// Colour only on a terminal, and not where NO_COLOR is set (no-color.org).
    pub fn new(no_color: bool, quiet: bool) -> Self {
        Self {
            color_out: !no_color && io::stdout().is_terminal(),
            color_err: !no_color && io::stderr().is_terminal(),
            quiet,
        }
    }

    /// What was asked for, exactly as given.
    ///
    /// # Errors
    /// A failure that ends quietly where the reader is gone; one that says so where the text could not be written.
    pub fn raw(&self, text: &str) -> Result<()> {
        self.bytes(text.as_bytes())
    }

    /// The same of bytes that end anywhere.
    ///
    /// # Errors
    /// As [`Output::raw`].
    pub fn bytes(&self, bytes: &[u8]) -> Result<()> {
        let mut out = io::stdout().lock();
        out.write_all(bytes).and_then(|()| out.flush()).map_err(|e| match e.kind() {
            io::ErrorKind::BrokenPipe => Error::new(ErrorKind::BrokenPipe, ""),
            _ => Error::other(format!("The output could not be written to stdout: {e}")),
        })
    }

    /// A line of what was asked for.
    pub fn line(&self, text: impl AsRef<str>) -> Result<()> {
        self.raw(&format!("{}\n", text.as_ref()))
    }

    /// `✓ text`: something was done.
    pub fn done(&self, text: impl AsRef<str>) -> Result<()> {
        let tick = if self.color_out { "\x1b[32m✓\x1b[0m" } else { "✓" };
        self.line(format!("{tick} {}", printable(text.as_ref())))
    }

    /// Something worth knowing that does not stop the work.
    pub fn warn(&self, text: impl AsRef<str>) {
        let (on, off) = if self.color_err { ("\x1b[33m", "\x1b[0m") } else { ("", "") };
        self.stderr(&format!("{on}⚠{off} {}\n", indent(text.as_ref())));
    }

    /// Progress, for people; silenced by `--quiet`.
    pub fn progress(&self, text: impl AsRef<str>) {
        if !self.quiet {
            self.stderr(&format!("{}\n", text.as_ref()));
        }
    }

    /// A question; the cursor stays behind it.
    pub fn prompt(&self, text: &str) {
        self.stderr(text);
    }

    /// The last words of a command that failed.
    pub fn error(&self, error: &Error) {
        if error.kind == ErrorKind::BrokenPipe {
            return;
        }
        let (on, off) = if self.color_err { ("\x1b[31m", "\x1b[0m") } else { ("", "") };
        self.stderr(&format!("{on}Error:{off} {}\n", indent(&error.text)));
    }

    /// Whether progress bars make sense.
    pub fn animates(&self) -> bool {
        !self.quiet && io::stderr().is_terminal()
    }

    /// stderr may be closed; there is nobody left to tell then.
    fn stderr(self, text: &str) {
        let _ = io::stderr().lock().write_all(text.as_bytes());
    }
}

/// Lines after the first stand two spaces in, as the original sets its advice.
fn indent(text: &str) -> String {
    printable(text).replace('\n', "\n  ")
}

/// Names come from files and command lines: nothing in them may reach the terminal as an escape sequence.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}
