//! One person's machine and one AWS account: a home, an SSH key in a real ssh-agent, and a proxy in front of the emulator.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::path::PathBuf;
use std::process::{Command, Output};

use testkit::{Account, Creds, FaultProxy, Home, Ministack, SshAgent};

/// The SSH key's passphrase.
pub const PASSPHRASE: &str = "correct horse";

/// See the module's text. Nothing is in the credentials file yet.
pub struct Machine {
    pub account: Account,
    pub proxy: FaultProxy,
    pub home: Home,
    pub agent: SshAgent,
    pub ssh_key: PathBuf,
}

impl Machine {
    pub fn new() -> Machine {
        let account = Ministack::shared().account();
        let proxy = FaultProxy::start(&account);
        let mut home = Home::new();
        let agent = SshAgent::start();
        let ssh_key = home.ssh_key(PASSPHRASE);
        agent.add(&ssh_key, PASSPHRASE, &[]);
        home.set_env("SSH_AUTH_SOCK", agent.socket());
        home.set_env("AWS_ENDPOINT_URL", proxy.endpoint());
        home.set_env("AWS_DEFAULT_REGION", "us-east-1");
        Machine { account, proxy, home, agent, ssh_key }
    }

    /// `iam-sorry ARGS...` in this home, not started yet.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.home.command(env!("CARGO_BIN_EXE_iam-sorry"));
        command.args(args);
        command
    }

    /// Runs it to its end.
    pub fn run(&self, args: &[&str]) -> Ended {
        Ended::from(self.command(args).output().unwrap())
    }

    /// A field as it lies in the credentials file.
    pub fn field(&self, profile: &str, key: &str) -> Option<String> {
        let text = self.home.credentials();
        let section = text.split_once(&format!("[{profile}]\n"))?.1;
        let lines = section.lines().take_while(|line| !line.starts_with('['));
        let mut pairs = lines.filter_map(|line| line.split_once('='));
        pairs.find(|(name, _)| name.trim() == key).map(|(_, value)| value.trim().to_owned())
    }

    /// The key that a profile hands out, opened by the program itself.
    pub fn opened(&self, profile: &str) -> Creds {
        let ended = self.run(&["credential-process", profile]).ok();
        Creds::from_json(&serde_json::from_str(&ended.out).unwrap())
    }

    /// The IAM user that a profile's key acts as, by AWS's own answer.
    pub fn acts_as(&self, profile: &str) -> String {
        let arn = self.account.whoami(&self.opened(profile)).unwrap_or_else(|e| panic!("{profile}: {e}"));
        arn.rsplit_once(":user/").unwrap_or_else(|| panic!("no user: {arn}")).1.to_owned()
    }

    /// Entries of the journal of access keys.
    pub fn journal(&self) -> Vec<PathBuf> {
        let folder = self.home.path().join(".local/state/iam-sorry/journal");
        let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
        paths
    }
}

/// A run that is over.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ended { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }
}

impl Ended {
    #[track_caller]
    pub fn ok(self) -> Ended {
        self.exits(0)
    }

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

    /// Each of these stands on stdout.
    #[track_caller]
    pub fn prints(self, parts: &[&str]) -> Ended {
        for part in parts {
            assert!(self.out.contains(part), "{part:?} is not in:\n{}", self.out);
        }
        self
    }
}
