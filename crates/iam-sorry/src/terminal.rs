//! Questions to the person at the keyboard. Nothing here hangs where there is no keyboard.

use std::io::{self, BufRead, IsTerminal};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

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
    let answer = answer(app, &format!("{question} (y/n): "))?.ok_or_else(|| {
        Failure::usage("There is no terminal to answer this question.\nAdd --yes to answer it with yes")
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
        None => answer(app, &format!("MFA code of {serial}: "))?.ok_or_else(|| {
            Failure::usage(format!(
                "There is no terminal to ask for the MFA code of {serial}.\nAdd --mfa-code CODE"
            ))
        })?,
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

/// What is typed behind the question; `None` where nobody does.
fn answer(app: &App, question: &str) -> Result<Option<String>> {
    app.out.prompt(question);
    let answer = read_line();
    if !matches!(answer, Ok(Some(_))) {
        app.out.prompt("\n"); // the error that follows begins a line
    }
    answer
}

/// One line of stdin; `None` where nobody gives one. Where stdin is no terminal, it is waited for one second at most.
///
/// Once [`crate::aws::block_on`] has run, Ctrl-C no longer ends the process, and a read is begun again after it; poll(2)
/// is not.
fn read_line() -> Result<Option<String>> {
    let stdin = io::stdin();
    let a_second = Timespec { tv_sec: 0, tv_nsec: 900_000_000 };
    let patience = (!stdin.is_terminal()).then_some(&a_second);
    match poll(&mut [PollFd::new(&stdin, PollFlags::IN)], patience) {
        Ok(1..) => {}
        Err(Errno::INTR) => return Err(Failure::new(Kind::Interrupted, "Interrupted.")),
        Ok(0) | Err(_) => return Ok(None),
    }
    let mut line = String::new();
    Ok(matches!(stdin.lock().read_line(&mut line), Ok(1..)).then_some(line))
}
