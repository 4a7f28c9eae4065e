//! Questions to the person at the keyboard. Nothing here hangs where there is no keyboard.

use std::io::{self, BufRead, IsTerminal, Stdin};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};

use crate::app::App;
use crate::failure::{Failure, Kind, Result};

/// Asks a yes/no question on stderr; the answer comes from the terminal, or from what is piped in.
///
/// # Errors
/// Where nobody answers within a second because there is no terminal: a usage failure that names `--yes`.
pub fn confirm(app: &App, question: &str) -> Result<bool> {
    if app.global.yes {
        return Ok(true);
    }
    app.out.prompt(&format!("{question} (y/n): "));
    let answer = read_line()?.ok_or_else(|| {
        Failure::usage("\nThere is no terminal to answer this question.\nAdd --yes to answer it with yes")
    })?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

/// The current code of an MFA device: `--mfa-code`, or asked for.
///
/// # Errors
/// Where there is nobody to ask, and where the answer is no six-digit code.
pub fn mfa_code(app: &App, serial: &str) -> Result<String> {
    let code = match &app.global.mfa_code {
        Some(code) => code.clone(),
        None if !app.may_ask() => {
            return Err(Failure::usage(format!(
                "An MFA code of {serial} is needed, and the terminal is the command's"
            ))
            .hint("Put a session with MFA into the profile before: iam-sorry refresh NAME --mfa-code CODE"));
        }
        None => {
            app.out.prompt(&format!("MFA code of {serial}: "));
            read_line()?.ok_or_else(|| {
                Failure::usage(format!(
                    "\nThere is no terminal to ask for the MFA code of {serial}.\nAdd --mfa-code CODE"
                ))
            })?
        }
    };
    let code = code.trim().to_owned();
    if code.len() == 6 && code.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(code);
    }
    Err(Failure::new(
        Kind::Usage,
        "An MFA code has six digits.\nAdd --mfa-code with the code that the device shows now",
    ))
}

/// One line of stdin. Where stdin is no terminal, it is waited for one second at most.
fn read_line() -> Result<Option<String>> {
    let stdin = io::stdin();
    if stdin.is_terminal() {
        let _plain = CtrlCEndsTheLine::on(stdin.as_fd());
        let line = first_line(&stdin);
        return match line {
            Some(line) if line.ends_with(CTRL_C) => Err(Failure::new(Kind::Interrupted, "\nInterrupted.")),
            line => Ok(line),
        };
    }
    let mut ready = [PollFd::new(&stdin, PollFlags::IN)];
    let a_second = Timespec { tv_sec: 0, tv_nsec: 900_000_000 };
    if !matches!(poll(&mut ready, Some(&a_second)), Ok(n) if n > 0) {
        return Ok(None);
    }
    Ok(first_line(&stdin))
}

const CTRL_C: char = '\u{3}';

fn first_line(stdin: &Stdin) -> Option<String> {
    let mut line = Vec::new();
    let mut stdin = stdin.lock();
    loop {
        let read = match stdin.fill_buf() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Ok(read) if !read.is_empty() => read,
            _ => break,
        };
        let end = read.iter().position(|b| matches!(b, b'\n' | 3)).map(|at| at + 1);
        let taken = end.unwrap_or(read.len());
        line.extend_from_slice(&read[..taken]);
        stdin.consume(taken);
        if end.is_some() {
            break;
        }
    }
    if line.is_empty() { None } else { String::from_utf8(line).ok() }
}

/// While a question stands, Ctrl-C arrives as a character: once the async runtime has run, its signal handler would
/// swallow the signal, and the question would wait on.
struct CtrlCEndsTheLine<'a> {
    terminal: BorrowedFd<'a>,
    before: Termios,
}

impl<'a> CtrlCEndsTheLine<'a> {
    fn on(terminal: BorrowedFd<'a>) -> Option<Self> {
        let before = tcgetattr(terminal).ok()?;
        let mut asking = before.clone();
        asking.local_modes.remove(LocalModes::ISIG);
        // An end-of-line character besides Enter (termios(3), VEOL).
        asking.special_codes[SpecialCodeIndex::VEOL] = 3;
        tcsetattr(terminal, OptionalActions::Now, &asking).ok()?;
        Some(Self { terminal, before })
    }
}

impl Drop for CtrlCEndsTheLine<'_> {
    fn drop(&mut self) {
        let _ = tcsetattr(self.terminal, OptionalActions::Now, &self.before);
    }
}
