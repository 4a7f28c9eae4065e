//! The only type that prints. Results go to stdout; warnings, progress and prompts go to stderr.

use std::io::{self, IsTerminal, Write};

use crate::error::{Error, ErrorKind, Result};

/// Where output goes, and whether it is coloured.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    color_out: bool,
    color_err: bool,
    quiet: bool,
}

impl Output {
    /// Uses colour on a terminal only, and not if NO_COLOR is set (no-color.org).
    pub fn new(no_color: bool, quiet: bool) -> Self {
        Self {
            color_out: !no_color && io::stdout().is_terminal(),
            color_err: !no_color && io::stderr().is_terminal(),
            quiet,
        }
    }

    /// Prints a result, unchanged.
    ///
    /// # Errors
    /// Kind `BrokenPipe` if the reader is gone, which ends the program quietly; kind `Other` if stdout can't be
    /// written.
    pub fn raw(&self, text: &str) -> Result<()> {
        self.bytes(text.as_bytes())
    }

    /// As [`Output::raw`], for bytes that need not be whole characters.
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

    /// Prints a line of a result.
    pub fn line(&self, text: impl AsRef<str>) -> Result<()> {
        self.raw(&format!("{}\n", text.as_ref()))
    }

    /// Prints `✓ text`: an action that succeeded.
    pub fn done(&self, text: impl AsRef<str>) -> Result<()> {
        let tick = if self.color_out { "\x1b[32m✓\x1b[0m" } else { "✓" };
        self.line(format!("{tick} {}", printable(text.as_ref())))
    }

    /// Prints a warning: the work goes on.
    pub fn warn(&self, text: impl AsRef<str>) {
        let (on, off) = if self.color_err { ("\x1b[33m", "\x1b[0m") } else { ("", "") };
        self.stderr(&format!("{on}⚠{off} {}\n", indent(text.as_ref())));
    }

    /// Prints progress for people; `--quiet` silences it.
    pub fn progress(&self, text: impl AsRef<str>) {
        if !self.quiet {
            self.stderr(&format!("{}\n", text.as_ref()));
        }
    }

    /// Prints a prompt; the cursor stays behind it.
    pub fn prompt(&self, text: &str) {
        self.stderr(text);
    }

    /// Prints the error that ends the command.
    pub fn error(&self, error: &Error) {
        if error.kind == ErrorKind::BrokenPipe {
            return;
        }
        let (on, off) = if self.color_err { ("\x1b[31m", "\x1b[0m") } else { ("", "") };
        self.stderr(&format!("{on}Error:{off} {}\n", indent(&error.text)));
    }

    /// Whether to draw progress bars.
    pub fn animates(&self) -> bool {
        !self.quiet && io::stderr().is_terminal()
    }

    /// stderr may be closed, and then nobody is left to inform.
    fn stderr(self, text: &str) {
        let _ = io::stderr().lock().write_all(text.as_bytes());
    }
}

/// Indents all lines but the first by two spaces, as the original does for its advice.
fn indent(text: &str) -> String {
    printable(text).replace('\n', "\n  ")
}

/// Names come from files and command lines, so control characters are replaced: none may reach the terminal as an
/// escape sequence.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}
