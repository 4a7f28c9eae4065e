//! A person's machine: a home, an SSH key in a real ssh-agent, and the program under test.

use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::{Account, Creds, FaultProxy, Home, Ministack, SshAgent};

/// See the module's text. Nothing is in the credentials file yet.
#[derive(Debug)]
pub struct Machine {
    /// The person's home.
    pub home: Home,
    /// Holds the key.
    pub agent: SshAgent,
    /// `id_ed25519`, protected with [`Machine::PASSPHRASE`].
    pub ssh_key: PathBuf,
    program: PathBuf,
}

impl Machine {
    /// The SSH key's passphrase.
    pub const PASSPHRASE: &'static str = "correct horse";

    /// With `program` (`env!("CARGO_BIN_EXE_...")`), and AWS at `endpoint`.
    pub fn new(program: impl AsRef<Path>, endpoint: &str) -> Machine {
        let mut home = Home::new();
        let agent = SshAgent::start();
        let ssh_key = home.ssh_key(Self::PASSPHRASE);
        agent.add(&ssh_key, Self::PASSPHRASE, &[]);
        home.set_env("SSH_AUTH_SOCK", agent.socket());
        home.set_env("AWS_ENDPOINT_URL", endpoint);
        home.set_env("AWS_DEFAULT_REGION", "us-east-1");
        Machine { home, agent, ssh_key, program: program.as_ref().to_owned() }
    }

    /// The program with these arguments in this home, not started yet.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.home.command(&self.program);
        command.args(args);
        command
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// When it does not start.
    pub fn run(&self, args: &[&str]) -> Ended {
        Ended::from(self.command(args).output().expect("the program starts"))
    }

    /// A field as it lies in the credentials file.
    pub fn field(&self, profile: &str, key: &str) -> Option<String> {
        let text = self.home.credentials();
        let section = text.split_once(&format!("[{profile}]\n"))?.1;
        let lines = section.lines().take_while(|line| !line.starts_with('['));
        let mut pairs = lines.filter_map(|line| line.split_once('='));
        pairs.find(|(name, _)| name.trim() == key).map(|(_, value)| value.trim().to_owned())
    }

    /// The credentials of a profile, plain, as they lie in the file.
    ///
    /// # Panics
    /// When they are not there.
    pub fn creds(&self, profile: &str) -> Creds {
        let field = |key: &str| {
            self.field(profile, key)
                .unwrap_or_else(|| panic!("no {key} in [{profile}]:\n{}", self.home.credentials()))
        };
        Creds {
            key: field("aws_access_key_id"),
            secret: field("aws_secret_access_key"),
            token: self.field(profile, "aws_session_token"),
        }
    }

    /// The key that a profile hands out, opened by the program itself.
    ///
    /// # Panics
    /// When there is none.
    pub fn opened(&self, profile: &str) -> Creds {
        let ended = self.run(&["credential-process", profile]).ok();
        Creds::from_json(&serde_json::from_str(&ended.out).expect("JSON"))
    }

    /// Entries of the journal of access keys. A file without its name yet (`.*.new`) stands for nothing in IAM.
    ///
    /// # Panics
    /// When the folder can't be read.
    pub fn journal(&self) -> Vec<PathBuf> {
        let folder = self.home.path().join(".local/state/iam-sorry/journal");
        let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
        paths.sort();
        paths
    }
}

/// A machine, and an AWS account behind a proxy that counts calls and makes faults.
#[derive(Debug)]
pub struct MachineOnAws {
    /// The account of this test alone.
    pub account: Account,
    /// What the machine takes for AWS.
    pub proxy: FaultProxy,
    machine: Machine,
}

impl MachineOnAws {
    /// With `program`, see [`Machine::new`].
    pub fn new(program: impl AsRef<Path>) -> MachineOnAws {
        let account = Ministack::shared().account();
        let proxy = FaultProxy::start(&account);
        let machine = Machine::new(program, &proxy.endpoint());
        MachineOnAws { account, proxy, machine }
    }

    /// A key that a lost answer may have left, and that nothing proves to be it, is inactive and waits for a person. Then a person
    /// deletes it, and nothing is left.
    ///
    /// # Panics
    /// If any of that is not so.
    #[track_caller]
    pub fn assert_found(&self, user: &str, key: &str) {
        assert!(!self.account.is_active(user, key), "{key} of '{user}' is still active");
        assert_eq!(self.journal().len(), 1, "it is written down once");
        self.run(&["doctor"]).prints(&[key, "delete-access-key", "update-access-key", "doctor --fix"]);
        assert!(!self.account.is_active(user, key));
        self.account.delete_key(user, key);
        self.run(&["doctor"]).says(&[key, "it was deleted"]).prints(&["left-over keys: none"]);
        assert_eq!(self.journal(), Vec::<PathBuf>::new(), "the journal is not cleared");
    }

    /// The IAM user that a profile's key acts as, by AWS's own answer.
    ///
    /// # Panics
    /// When it is no user's.
    pub fn acts_as(&self, profile: &str) -> String {
        self.account.user_of(&self.opened(profile))
    }
}

impl Deref for MachineOnAws {
    type Target = Machine;

    fn deref(&self) -> &Machine {
        &self.machine
    }
}

impl DerefMut for MachineOnAws {
    fn deref_mut(&mut self) -> &mut Machine {
        &mut self.machine
    }
}

/// A run that is over.
#[derive(Debug)]
pub struct Ended {
    /// The exit status; none where a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ended { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }
}

impl Ended {
    /// It succeeded.
    #[track_caller]
    pub fn ok(self) -> Ended {
        self.exits(0)
    }

    /// It ended with this status.
    #[track_caller]
    pub fn exits(self, code: i32) -> Ended {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.out, self.err);
        self
    }

    /// Each of these stands on stderr.
    #[track_caller]
    pub fn says(self, parts: &[&str]) -> Ended {
        for part in parts {
            assert!(self.err.contains(part), "{part:?} is not in:\n{}", self.err);
        }
        self
    }

    /// A length of time follows this text on stderr: `expected` seconds, give or take what a slow machine needs from when
    /// the test counted to when the program did (it counts down for what is left, up for what is over).
    #[track_caller]
    pub fn says_about(self, text: &str, expected: u64) -> Ended {
        let said = self.err.split_once(text).map(|(_, rest)| seconds(rest));
        let said = said.unwrap_or_else(|| panic!("{text:?} is not in:\n{}", self.err));
        assert!(said.abs_diff(expected) <= SLOW_MACHINE, "{said} s instead of {expected} s:\n{}", self.err);
        self
    }

    /// Each of these stands on stdout.
    #[track_caller]
    pub fn prints(self, parts: &[&str]) -> Ended {
        for part in parts {
            assert!(self.out.contains(part), "{part:?} is not in:\n{}", self.out);
        }
        self
    }
}

/// Longer than a test takes between two of its steps, with the minute that texts are rounded by, seconds.
const SLOW_MACHINE: u64 = 240;

/// The length of time that a text begins with, such as `35 h 59 min`.
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
