//! One person's machine and one AWS account: a home, an SSH key in a real ssh-agent, a sealed manager `usermanager`, an
//! IAM user `admin`, and a proxy in front of the emulator that counts calls and makes faults.

use std::path::PathBuf;
use std::process::{Command, Output};

use testkit::{Account, Creds, FaultProxy, Home, Ministack, SshAgent};

/// Everything a refresh needs. Each rig has an account of its own.
pub struct Rig {
    pub account: Account,
    pub proxy: FaultProxy,
    pub home: Home,
    pub manager: Creds,
    _agent: SshAgent,
}

impl Rig {
    pub fn new() -> Rig {
        let account = Ministack::shared().account();
        let proxy = FaultProxy::start(&account);
        let manager = account.manager("usermanager");
        account.user("admin");
        let mut home = Home::new();
        let agent = SshAgent::start();
        agent.add(&home.ssh_key("correct horse"), "correct horse", &[]);
        home.set_env("SSH_AUTH_SOCK", agent.socket());
        home.set_env("AWS_ENDPOINT_URL", proxy.endpoint());
        home.set_env("AWS_DEFAULT_REGION", "us-east-1");
        home.write_credentials(manager.section("usermanager"));
        let rig = Rig { account, proxy, home, manager, _agent: agent };
        rig.run(&["--profile", "usermanager", "--encrypt"]).ok();
        assert!(!rig.home.credentials().contains(&rig.manager.secret), "the manager is sealed");
        rig
    }

    /// `iam-sorry ARGS...` in this home, not started yet.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.home.command(env!("CARGO_BIN_EXE_iam-sorry"));
        command.args(args);
        command
    }

    /// Runs it to its end.
    pub fn run(&self, args: &[&str]) -> Ended {
        self.end(self.command(args).output().unwrap())
    }

    /// The original's main form: `iam-sorry --profile usermanager NAME`.
    pub fn refresh(&self, name: &str) -> Ended {
        self.run(&["--profile", "usermanager", name])
    }

    /// What came of it. Whatever a test is about, the manager's secret is never printed.
    pub fn end(&self, output: Output) -> Ended {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let ended =
            Ended { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) };
        let told = format!("{}{}", ended.out, ended.err);
        assert!(!told.contains(&self.manager.secret), "a secret was printed: {told}");
        ended
    }

    /// A field as it lies in the credentials file.
    pub fn field(&self, profile: &str, key: &str) -> Option<String> {
        let text = self.home.credentials();
        let section = text.split_once(&format!("[{profile}]\n"))?.1;
        let lines = section.lines().take_while(|line| !line.starts_with('['));
        let mut pairs = lines.filter_map(|line| line.split_once('='));
        pairs.find(|(name, _)| name.trim() == key).map(|(_, value)| value.trim().to_owned())
    }

    /// The active credentials of a profile, plain.
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

    /// The IAM user that a profile's credentials act as, by AWS's own answer.
    pub fn acts_as(&self, profile: &str) -> String {
        let arn = self.account.whoami(&self.creds(profile)).unwrap_or_else(|e| panic!("{profile}: {e}"));
        arn.rsplit_once(":user/").unwrap_or_else(|| panic!("no user: {arn}")).1.to_owned()
    }

    /// Entries of the journal of access keys. A file without its name yet (`.*.new`) stands for nothing in IAM.
    pub fn journal(&self) -> Vec<PathBuf> {
        let folder = self.home.path().join(".local/state/iam-sorry/journal");
        let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
        paths.sort();
        paths
    }

    /// Nothing of ours is left in IAM, and nothing is written down as left.
    pub fn assert_clean(&self, user: &str) {
        assert_eq!(self.account.keys(user), Vec::<String>::new(), "keys of '{user}' are left in IAM");
        assert_eq!(self.journal(), Vec::<PathBuf>::new(), "the journal is not cleared");
    }
}

/// A run that is over.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
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
}
