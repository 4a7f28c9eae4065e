//! Prompts at the terminal. None of them hangs if there is no terminal.

use std::io::{self, BufRead, IsTerminal};
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::app::App;
use crate::error::{Error, ErrorKind, Result};
use crate::signals;

/// Asks a yes/no question on stderr and reads the answer from stdin.
///
/// # Errors
/// Kind `Usage`, naming `--yes`, if stdin is no terminal and gives no line within a second.
pub fn confirm(app: &App, question: &str) -> Result<bool> {
    if app.global.yes {
        return Ok(true);
    }
    let answer = read_answer(app, &format!("{question} (y/n): "))?.ok_or_else(|| {
        Error::usage("There is no terminal to answer this question.\nAdd --yes to answer it with yes")
    })?;
    Ok(is_yes(&answer))
}

/// Whether a person may be at the keyboard.
pub fn is_there() -> bool {
    io::stdin().is_terminal()
}

/// As [`confirm`], for what no `--yes` may answer.
///
/// # Errors
/// Ctrl-C.
pub fn confirm_in_person(app: &App, question: &str) -> Result<bool> {
    let answer = read_answer(app, &format!("{question} (y/n): "))?.unwrap_or_default();
    Ok(is_yes(&answer))
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")
}

/// The current code of an MFA device: `--mfa-code`, else prompted for.
///
/// # Errors
/// Kind `Usage` if it can't prompt, or if the answer is no six-digit code.
pub fn mfa_code(app: &App, serial: &str) -> Result<String> {
    let code = match &app.global.mfa_code {
        Some(code) => code.clone(),
        None if !app.prompts_enabled() => {
            return Err(Error::usage(format!(
                "An MFA code of {serial} is needed, and the terminal is the command's"
            ))
            .hint("Put a session with MFA into the profile before: iam-sorry refresh NAME --mfa-code CODE"));
        }
        None => read_answer(app, &format!("MFA code of {serial}: "))?.ok_or_else(|| {
            Error::usage(format!(
                "There is no terminal to ask for the MFA code of {serial}.\nAdd --mfa-code CODE"
            ))
        })?,
    };
    let code = code.trim().to_owned();
    if code.len() == 6 && code.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(code);
    }
    Err(Error::new(
        ErrorKind::Usage,
        "An MFA code has six digits.\nAdd --mfa-code with the code that the device shows now",
    ))
}

/// The line that is typed after the prompt; `None` if there is none.
fn read_answer(app: &App, question: &str) -> Result<Option<String>> {
    // Before the prompt, so that a Ctrl-C right after it counts.
    let interrupts = signals::interrupts()?;
    app.out.prompt(question);
    let answer = read_line(interrupts.as_ref());
    if !matches!(answer, Ok(Some(_))) {
        app.out.prompt("\n"); // the error that follows begins a line
    }
    answer
}

/// One line of stdin; `None` if there is none. If stdin is no terminal, it waits one second at most.
///
/// Once [`crate::aws::block_on`] has run, Ctrl-C no longer ends the process; `interrupts` becomes readable instead.
fn read_line(interrupts: Option<&UnixStream>) -> Result<Option<String>> {
    let stdin = io::stdin();
    let a_second = Timespec { tv_sec: 0, tv_nsec: 900_000_000 };
    let timeout = (!stdin.is_terminal()).then_some(&a_second);
    let mut watched = vec![PollFd::new(&stdin, PollFlags::IN)];
    watched.extend(interrupts.map(|readable| PollFd::new(readable, PollFlags::IN)));
    let found = loop {
        match poll(&mut watched, timeout) {
            Err(Errno::INTR) if interrupts.is_some() => {}
            // Without /proc it is unknown whether Ctrl-C is caught; then EINTR is the only sign of it.
            Err(Errno::INTR) => return Err(interrupted()),
            found => break found,
        }
    };
    if watched.get(1).is_some_and(|readable| !readable.revents().is_empty()) {
        return Err(interrupted());
    }
    let Ok(1..) = found else { return Ok(None) };
    let mut line = String::new();
    Ok(matches!(stdin.lock().read_line(&mut line), Ok(1..)).then_some(line))
}

fn interrupted() -> Error {
    Error::new(ErrorKind::Interrupted, "Interrupted.")
}
