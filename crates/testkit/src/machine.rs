//! A person's machine: a home with an SSH key, perhaps an ssh-agent and an AWS account, and the program under test.

use std::ffi::OsStr;
use std::ops::{Deref, DerefMut};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::outcome::PASSPHRASE;
use crate::{Account, AskPass, Creds, FaultProxy, Home, Ministack, Outcome, Pty, SshAgent};

/// See the module's text. The credentials file is empty at first.
#[derive(Debug)]
pub struct Machine {
    /// The person's home.
    pub home: Home,
    /// `~/.ssh/id_ed25519`, protected with [`PASSPHRASE`].
    pub ssh_key: PathBuf,
    agent: Option<SshAgent>,
    program: PathBuf,
    /// No run prints one of these, neither on stdout nor on stderr.
    guarded: Vec<String>,
}

impl Machine {
    /// Without an agent: the SSH key is only a file. `program` is `env!("CARGO_BIN_EXE_...")`.
    pub fn new(program: impl AsRef<Path>) -> Machine {
        let home = Home::new();
        let ssh_key = home.ssh_key(PASSPHRASE);
        let program = program.as_ref().to_owned();
        Machine { home, ssh_key, agent: None, program, guarded: Vec::new() }
    }

    /// With the SSH key in a running ssh-agent too.
    pub fn with_agent(program: impl AsRef<Path>) -> Machine {
        let mut machine = Machine::new(program);
        let agent = SshAgent::start();
        agent.add(&machine.ssh_key, PASSPHRASE, &["-q"]);
        machine.home.set_env("SSH_AUTH_SOCK", agent.socket());
        machine.agent = Some(agent);
        machine
    }

    /// With an agent, and AWS at `endpoint`.
    pub fn at(program: impl AsRef<Path>, endpoint: &str) -> Machine {
        let mut machine = Machine::with_agent(program);
        machine.home.set_env("AWS_ENDPOINT_URL", endpoint);
        // The one variable for the region that AWS CLI v1 and boto3 read too.
        machine.home.set_env("AWS_DEFAULT_REGION", "us-east-1");
        machine
    }

    /// The running agent.
    ///
    /// # Panics
    /// If the machine has none.
    pub fn agent(&self) -> &SshAgent {
        self.agent.as_ref().expect("this machine has an agent")
    }

    /// From now on no run may print `secret`.
    pub fn guard(&mut self, secret: &str) {
        self.guarded.push(secret.to_owned());
    }

    /// The program with these arguments in this home, not started yet.
    pub fn command<A: AsRef<OsStr>>(&self, args: &[A]) -> Command {
        let mut command = self.home.command(&self.program);
        command.args(args);
        command
    }

    /// As [`Machine::command`], without a terminal to prompt on: in a session of its own.
    pub fn command_without_terminal<A: AsRef<OsStr>>(&self, args: &[A]) -> Command {
        let mut command = self.home.command("setsid");
        command.arg("--wait").arg(&self.program).args(args);
        command
    }

    /// Runs the program to its end, without a terminal.
    ///
    /// # Panics
    /// As [`Machine::outcome`].
    pub fn run<A: AsRef<OsStr>>(&self, args: &[A]) -> Outcome {
        self.outcome(&mut self.command_without_terminal(args))
    }

    /// As [`Machine::run`], without the agent.
    ///
    /// # Panics
    /// As [`Machine::outcome`].
    pub fn run_without_agent<A: AsRef<OsStr>>(&self, args: &[A]) -> Outcome {
        self.outcome(self.command_without_terminal(args).env_remove("SSH_AUTH_SOCK"))
    }

    /// As [`Machine::run_without_agent`], with an askpass program.
    ///
    /// # Panics
    /// As [`Machine::outcome`].
    pub fn run_with_askpass<A: AsRef<OsStr>>(&self, askpass: &AskPass, args: &[A]) -> Outcome {
        let mut command = self.command_without_terminal(args);
        command.env_remove("SSH_AUTH_SOCK");
        askpass.apply(&mut command);
        self.outcome(&mut command)
    }

    /// Starts the program in a terminal.
    pub fn run_in_terminal<A: AsRef<OsStr>>(&self, args: &[A]) -> Pty {
        let mut command = Pty::command(&self.home, &self.program);
        command.args(args);
        Pty::spawn(command)
    }

    /// Runs a command of this home to its end.
    ///
    /// # Panics
    /// If it does not start, hangs, or prints a secret.
    pub fn outcome(&self, command: &mut Command) -> Outcome {
        let outcome = Outcome::of(command);
        for secret in &self.guarded {
            let printed = outcome.stdout.contains(secret) || outcome.stderr.contains(secret);
            assert!(!printed, "a secret is printed: {outcome}");
        }
        outcome
    }

    /// Runs `run`, which must leave both AWS files byte for byte as they are, and no other file beside them.
    ///
    /// # Panics
    /// If files changed, or can't be read.
    #[track_caller]
    pub fn changing_nothing(&self, run: impl FnOnce() -> Outcome) -> Outcome {
        let before = self.aws_files();
        let outcome = run();
        assert_eq!(self.aws_files(), before, "files were changed: {outcome}");
        outcome
    }

    /// Names and contents in `~/.aws`, without lock files, which may stay.
    fn aws_files(&self) -> Vec<(String, Vec<u8>)> {
        let folder = std::fs::read_dir(self.home.path().join(".aws")).expect("the folder is there");
        let mut files: Vec<_> = folder
            .map(|entry| entry.expect("an entry"))
            .filter(|entry| !entry.file_name().to_string_lossy().ends_with(".lock"))
            .map(|entry| {
                let name = entry.file_name().to_string_lossy().into_owned();
                (name, std::fs::read(entry.path()).unwrap_or_default())
            })
            .collect();
        files.sort();
        files
    }

    /// Changes `~/.aws/credentials` by hand, as in an editor.
    pub fn edit(&self, change: impl FnOnce(String) -> String) {
        self.home.write_credentials(change(self.home.credentials()));
    }

    /// A field as stored in the credentials file.
    pub fn field(&self, profile: &str, key: &str) -> Option<String> {
        field_of(&self.home.credentials(), profile, key)
    }

    /// The credentials of a profile as stored in the file.
    ///
    /// # Panics
    /// If they are not there.
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
    /// If there is none.
    pub fn opened(&self, profile: &str) -> Creds {
        // Not `run`: here the secret is the result.
        let outcome = Outcome::of(&mut self.command_without_terminal(&["credential-process", profile])).ok();
        Creds::from_json(&serde_json::from_str(&outcome.stdout).expect("JSON"))
    }

    /// Entries of the journal of access keys. A file that still has a temporary name (`.*.new`) is no entry.
    ///
    /// # Panics
    /// If the folder can't be read.
    pub fn journal(&self) -> Vec<PathBuf> {
        let folder = self.home.path().join(".local/state/iam-sorry/journal");
        let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
        paths.sort();
        paths
    }
}

/// A field of a profile, by the simplest reading of a credentials file, independent of the program's.
pub fn field_of(text: &str, profile: &str, field: &str) -> Option<String> {
    let header = format!("[{profile}]");
    let section = text.lines().skip_while(|line| line.trim() != header).skip(1);
    let fields = section.take_while(|line| !line.starts_with('[')).filter_map(|line| line.split_once('='));
    let mut values = fields.filter(|(key, _)| key.trim() == field).map(|(_, value)| value.trim().to_owned());
    values.next()
}

/// A machine with an AWS account, behind a proxy that counts calls and injects faults.
#[derive(Debug)]
pub struct MachineOnAws {
    /// The account of this test alone.
    pub account: Account,
    /// The endpoint of this machine.
    pub proxy: FaultProxy,
    machine: Machine,
    manager: Option<Creds>,
}

impl MachineOnAws {
    /// Without any profile. `program` as in [`Machine::new`].
    pub fn new(program: impl AsRef<Path>) -> MachineOnAws {
        let account = Ministack::shared().account();
        let proxy = FaultProxy::start(&account);
        let machine = Machine::at(program, &proxy.endpoint());
        MachineOnAws { account, proxy, machine, manager: None }
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

    /// With a sealed manager profile `usermanager`, whose secret no run may print, and IAM user `admin`.
    ///
    /// # Panics
    /// If the manager can't be sealed.
    pub fn with_manager(program: impl AsRef<Path>) -> MachineOnAws {
        let mut rig = MachineOnAws::new(program);
        let manager = rig.account.manager("usermanager");
        rig.account.user("admin");
        rig.home.write_credentials(manager.section("usermanager"));
        rig.guard(&manager.secret);
        rig.run(&["--profile", "usermanager", "--encrypt"]).ok();
        assert!(!rig.home.credentials().contains(&manager.secret), "the manager is sealed");
        rig.manager = Some(manager);
        rig
    }

    /// With IAM user `name`, who may do `actions`, and that user's key in a profile of the same name.
    pub fn with_user(program: impl AsRef<Path>, name: &str, actions: &[&str]) -> (MachineOnAws, Creds) {
        let rig = MachineOnAws::new(program);
        let key = rig.account.user_allowed(name, actions);
        rig.home.write_credentials(key.section(name));
        (rig, key)
    }

    /// The manager's permanent key.
    ///
    /// # Panics
    /// If the machine was made without a manager.
    pub fn manager(&self) -> &Creds {
        self.manager.as_ref().expect("this machine has a manager")
    }

    /// Runs the original's main form: `iam-sorry --profile usermanager NAME`.
    ///
    /// # Panics
    /// As [`Machine::outcome`].
    pub fn refresh(&self, name: &str) -> Outcome {
        self.run(&["--profile", "usermanager", name])
    }

    /// The IAM user whose credentials a profile hands out, by AWS's own answer.
    ///
    /// # Panics
    /// If they are no user's.
    pub fn acts_as(&self, profile: &str) -> String {
        self.account.user_of(&self.opened(profile))
    }

    /// The IAM user whose credentials are stored in a profile, by AWS's own answer.
    ///
    /// # Panics
    /// If they are no user's.
    pub fn stored_user(&self, profile: &str) -> String {
        self.account.user_of(&self.creds(profile))
    }

    /// The user has no access key in IAM, and the journal is empty.
    ///
    /// # Panics
    /// If something is left.
    #[track_caller]
    pub fn assert_clean(&self, user: &str) {
        assert_eq!(self.account.keys(user), Vec::<String>::new(), "keys of '{user}' are left in IAM");
        assert_eq!(self.journal(), Vec::<PathBuf>::new(), "the journal is not cleared");
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
