//! A program in a pseudo-terminal, to test prompts, echo, colour and Ctrl-C as a person meets them.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::Home;

/// How long a busy machine may take to show what is expected.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running program and its terminal. Killed on drop.
#[derive(Debug)]
pub struct Pty {
    child: Child,
    master: File,
    screen: Arc<Screen>,
    /// How much of the output earlier [`Pty::expect`]s have passed.
    passed: usize,
}

#[derive(Debug, Default)]
struct Screen {
    seen: Mutex<Seen>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Seen {
    bytes: Vec<u8>,
    ended: bool,
}

impl Pty {
    /// The command that [`Pty::spawn`] wants: `program` in a session of its own, with the terminal as its controlling one
    /// (util-linux's setsid, so that no unsafe code is needed between fork and exec). Add arguments and variables.
    pub fn command(home: &Home, program: impl AsRef<OsStr>) -> Command {
        let mut command = home.command("setsid");
        command.arg("--ctty").arg(program).env("TERM", "xterm-256color");
        command
    }

    /// Starts a command made by [`Pty::command`] in a new terminal of 24 lines and 200 columns.
    pub fn spawn(mut command: Command) -> Pty {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
            .expect("a pseudo-terminal");
        grantpt(&master).expect("granted");
        unlockpt(&master).expect("unlocked");
        let size = Winsize { ws_row: 24, ws_col: 200, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&master, size).expect("its size");
        let name = ptsname(&master, Vec::new()).expect("its name").into_string().expect("ASCII");
        let noctty = i32::try_from(rustix::fs::OFlags::NOCTTY.bits()).expect("a flag");
        let side = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(noctty)
            .open(name)
            .expect("its other side");
        let side = || side.try_clone().expect("another descriptor");
        command.stdin(side()).stdout(side()).stderr(side());
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        drop(command); // it holds the other side open, which would hide the end of the output

        let master = File::from(master);
        let screen = Arc::new(Screen::default());
        std::thread::spawn({
            let (mut master, screen) = (master.try_clone().expect("another descriptor"), Arc::clone(&screen));
            move || screen.read_from(&mut master)
        });
        Pty { child, master, screen, passed: 0 }
    }

    /// Waits until `text` shows after what was expected before, and gives everything up to its end.
    ///
    /// # Panics
    /// With the whole output, when the program ends or a minute passes without it.
    pub fn expect(&mut self, text: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = self.screen.lock();
        loop {
            let rest = &seen.bytes[self.passed..];
            if let Some(at) = rest.windows(text.len()).position(|window| window == text.as_bytes()) {
                let end = at + text.len();
                let found = String::from_utf8_lossy(&rest[..end]).into_owned();
                self.passed += end;
                return found;
            }
            let whole = String::from_utf8_lossy(&seen.bytes);
            assert!(!seen.ended, "the program ended without {text:?}:\n{whole}");
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no {text:?} within {PATIENCE:?}:\n{whole}");
            seen = self.screen.changed.wait_timeout(seen, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Types a line and Enter.
    pub fn send_line(&mut self, line: &str) {
        self.send(&format!("{line}\r"));
    }

    /// Types raw characters: `\x03` is Ctrl-C, `\x04` Ctrl-D.
    pub fn send(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).expect("the terminal takes what is typed");
    }

    /// Everything shown so far, echoes of what was typed included.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().bytes).into_owned()
    }

    /// Waits for the end: the exit status and everything that was shown.
    ///
    /// # Panics
    /// When the program has not ended after a minute.
    pub fn wait(mut self) -> (ExitStatus, String) {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("its status") {
                break status;
            }
            assert!(Instant::now() < deadline, "the program does not end:\n{}", self.output());
            std::thread::sleep(Duration::from_millis(5));
        };
        let mut seen = self.screen.lock();
        while !seen.ended && Instant::now() < deadline {
            // A grandchild may keep the terminal open; then what came so far is what there is.
            let wait = Duration::from_millis(500);
            let (next, timeout) =
                self.screen.changed.wait_timeout(seen, wait).unwrap_or_else(PoisonError::into_inner);
            seen = next;
            if timeout.timed_out() {
                break;
            }
        }
        let output = String::from_utf8_lossy(&seen.bytes).into_owned();
        drop(seen);
        (status, output)
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Screen {
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Until the other side is closed, which Linux reports as EIO.
    fn read_from(&self, master: &mut File) {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = master.read(&mut buffer) {
            self.lock().bytes.extend_from_slice(&buffer[..length]);
            self.changed.notify_all();
        }
        self.lock().ended = true;
        self.changed.notify_all();
    }
}
