//! Reads a passphrase from /dev/tty with the echo off. Ctrl-C is read as a character, so that the echo is restored
//! before anything ends.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use secrecy::SecretString;
use zeroize::{Zeroize, Zeroizing};

use super::errors::PromptError;

/// A longer line is no passphrase.
pub(super) const MAX_BYTES: usize = 1024;

pub(super) fn open(allowed: bool) -> Option<File> {
    OpenOptions::new().read(true).write(true).open("/dev/tty").ok().filter(|_| allowed)
}

pub(super) fn ask(mut terminal: &File, prompt: &str) -> Result<SecretString, PromptError> {
    let echo_off = EchoOff::start(terminal)?;
    terminal.write_all(prompt.as_bytes()).map_err(PromptError::Terminal)?;
    let answer = read_line(terminal);
    drop(echo_off);
    let _ = terminal.write_all(b"\n");
    answer
}

/// Turns the echo off; dropping it restores the terminal.
struct EchoOff<'a> {
    terminal: &'a File,
    before: Termios,
}

impl<'a> EchoOff<'a> {
    fn start(terminal: &'a File) -> Result<Self, PromptError> {
        let failed = |e: rustix::io::Errno| PromptError::Terminal(e.into());
        let before = tcgetattr(terminal).map_err(failed)?;
        let mut echo_off = before.clone();
        echo_off.local_modes &=
            !(LocalModes::ECHO | LocalModes::ECHONL | LocalModes::ICANON | LocalModes::ISIG);
        // Flush: what was typed before the prompt was not meant for it.
        tcsetattr(terminal, OptionalActions::Flush, &echo_off).map_err(failed)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for EchoOff<'_> {
    fn drop(&mut self) {
        let _ = tcsetattr(self.terminal, OptionalActions::Flush, &self.before);
    }
}

fn read_line(mut terminal: &File) -> Result<SecretString, PromptError> {
    let mut line = Zeroizing::new(Vec::with_capacity(MAX_BYTES));
    let mut byte = Zeroizing::new([0]);
    loop {
        match terminal.read(&mut byte[..]) {
            Ok(0) => return Err(PromptError::Cancelled),
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(PromptError::Terminal(e)),
        }
        match byte[0] {
            b'\n' | b'\r' => return secret(&line).ok_or(PromptError::Cancelled),
            0x03 => return Err(PromptError::Interrupted), // Ctrl-C
            0x04 if line.is_empty() => return Err(PromptError::Cancelled), // Ctrl-D
            0x15 => line.zeroize(),                       // Ctrl-U
            0x08 | 0x7F => while line.pop().is_some_and(|b| b & 0xC0 == 0x80) {}, // one character of UTF-8
            other if line.len() < MAX_BYTES => line.push(other),
            _ => {}
        }
    }
}

pub(super) fn secret(bytes: &[u8]) -> Option<SecretString> {
    std::str::from_utf8(bytes).ok().map(SecretString::from)
}
