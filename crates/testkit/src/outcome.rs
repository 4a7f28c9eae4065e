//! How a command ended, and what a test may expect of it.

use std::fmt;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Output, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The passphrase of every test's SSH key. No command may print it on stderr.
pub const PASSPHRASE: &str = "correct horse battery";
/// AWS's own example of an access key ID.
pub const EXAMPLE_KEY_ID: &str = "AKIAIOSFODNN7EXAMPLE";
/// AWS's own example of a secret access key. No command may print it on stderr.
pub const EXAMPLE_SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

/// Longer than a command takes on a machine whose cores are all busy; one that still runs then hangs.
const LIMIT: Duration = Duration::from_secs(120);

/// Longer than a test takes between two of its steps, with the minute that texts are rounded by, in seconds.
const SLOW_MACHINE: u64 = 240;

/// A command that has ended. Every expectation returns the outcome, so that they can be chained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Program and arguments, for the text of a failure.
    command: String,
    /// Exit code; 128+N after signal N.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Outcome {
    /// Runs a command to its end.
    ///
    /// # Panics
    /// If it does not start, hangs for two minutes, or prints a secret on stderr.
    pub fn of(command: &mut Command) -> Outcome {
        Outcome::within(LIMIT, command, None)
    }

    /// As [`Outcome::of`], with `input` on its standard input.
    ///
    /// # Panics
    /// As [`Outcome::of`].
    pub fn piped(input: &str, command: &mut Command) -> Outcome {
        Outcome::within(LIMIT, command, Some(input))
    }

    /// As [`Outcome::of`] or [`Outcome::piped`], with another limit.
    ///
    /// # Panics
    /// If it does not start, still runs after `limit`, or prints a secret on stderr.
    pub fn within(limit: Duration, command: &mut Command, input: Option<&str>) -> Outcome {
        let text = format!("{:?} {:?}", command.get_program(), command.get_args().collect::<Vec<_>>());
        if input.is_some() {
            command.stdin(Stdio::piped());
        }
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{text}: {error}"));
        if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
            // Fails if the program ends without reading, which it may.
            let _ = stdin.write_all(input.as_bytes());
        }
        let (stdout, stderr) = (collect(child.stdout.take()), collect(child.stderr.take()));
        let deadline = Instant::now() + limit;
        let status = loop {
            if let Some(status) = child.try_wait().expect("its status") {
                break status;
            }
            if Instant::now() >= deadline {
                let _ = child.kill();
                let _ = child.wait();
                panic!("{text} hangs:\n{}", stderr.join().unwrap_or_default());
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let read = |thread: JoinHandle<String>| thread.join().expect("its output is read");
        Outcome { command: text, code: code_of(status), stdout: read(stdout), stderr: read(stderr) }.checked()
    }

    #[track_caller]
    fn checked(self) -> Outcome {
        for secret in [EXAMPLE_SECRET, PASSPHRASE] {
            assert!(!self.stderr.contains(secret), "a secret is on stderr: {self}");
        }
        self
    }

    /// It succeeded.
    #[track_caller]
    pub fn ok(self) -> Outcome {
        self.exits(0)
    }

    /// It failed with this exit code: there is an error on stderr, and nothing on stdout.
    #[track_caller]
    pub fn fails(self, code: i32) -> Outcome {
        assert_ne!(code, 0, "that is no failure");
        let outcome = self.exits(code);
        assert!(outcome.stderr.contains("Error: "), "no 'Error: ' line: {outcome}");
        assert_eq!(outcome.stdout, "", "a failure prints nothing on stdout: {outcome}");
        outcome
    }

    /// It ended with this exit code.
    #[track_caller]
    pub fn exits(self, code: i32) -> Outcome {
        assert_eq!(self.code, code, "{self}");
        self
    }

    /// Each of these texts is on stderr. Any white space counts as one space.
    #[track_caller]
    pub fn says(self, texts: &[&str]) -> Outcome {
        let stderr = with_single_spaces(&self.stderr);
        for text in texts {
            assert!(stderr.contains(&with_single_spaces(text)), "no {text:?} on stderr: {self}");
        }
        self
    }

    /// None of these texts is on stderr.
    #[track_caller]
    pub fn silent_about(self, texts: &[&str]) -> Outcome {
        for text in texts {
            assert!(!self.stderr.contains(text), "{text:?} on stderr: {self}");
        }
        self
    }

    /// After `text`, stderr has a duration: `expected` seconds, give or take the time that a slow machine needs between
    /// the test and the program (remaining times shrink, elapsed times grow).
    #[track_caller]
    pub fn says_about(self, text: &str, expected: u64) -> Outcome {
        let found = self.stderr.split_once(text).map(|(_, rest)| seconds(rest));
        let found = found.unwrap_or_else(|| panic!("no {text:?} on stderr: {self}"));
        assert!(found.abs_diff(expected) <= SLOW_MACHINE, "{found} s instead of {expected} s: {self}");
        self
    }

    /// Each of these texts is on stdout.
    #[track_caller]
    pub fn prints(self, texts: &[&str]) -> Outcome {
        for text in texts {
            assert!(self.stdout.contains(text), "no {text:?} on stdout: {self}");
        }
        self
    }
}

/// Of a child that the test has waited for itself.
impl From<Output> for Outcome {
    fn from(output: Output) -> Outcome {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        Outcome { command: "The command".to_owned(), code: code_of(output.status), stdout, stderr }.checked()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outcome { command, code, stdout, stderr } = self;
        write!(f, "{command} gave {code}\n--- stdout\n{stdout}\n--- stderr\n{stderr}")
    }
}

/// The exit code; 128+N after signal N, as in shells.
///
/// # Panics
/// If it neither exited nor was killed.
pub fn code_of(status: ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).expect("it ended")
}

fn with_single_spaces(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<String> {
    let mut pipe = pipe.expect("piped");
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// The duration that a text begins with, such as `35 h 59 min`, in seconds.
fn seconds(text: &str) -> u64 {
    let mut words = text.split_whitespace();
    let mut all = 0;
    while let (Some(number), Some(unit)) = (words.next(), words.next()) {
        let Ok(number) = number.parse::<u64>() else { break };
        let unit = unit.trim_end_matches(|c: char| !c.is_alphanumeric());
        all += number
            * match unit {
                "h" => 3600,
                "min" => 60,
                _ => 1,
            };
    }
    all
}
