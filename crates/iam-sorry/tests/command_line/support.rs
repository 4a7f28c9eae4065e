//! A person with a home, keys and perhaps an agent, and what became of a command that they ran.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use testkit::{Account, AskPass, Home, Pty, SshAgent};

/// The program under test.
pub const BIN: &str = env!("CARGO_BIN_EXE_iam-sorry");
/// Passphrase of the person's key.
pub const PASSPHRASE: &str = "correct horse battery";
/// AWS's own examples.
pub const KEY_ID: &str = "AKIAIOSFODNN7EXAMPLE";
/// The secret that must never be seen where it was not asked for.
pub const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";

/// Longer than anything may take on a machine whose cores are all busy; what is still running then hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// How a command ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What was run, for the text of a failure.
    what: String,
    /// Exit code, or 128+N for a signal.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    /// Runs a command to its end.
    ///
    /// # Panics
    /// When it hangs; and when a secret of the fixture is on its stderr, which nothing excuses.
    pub fn of(command: &mut Command) -> Outcome {
        Outcome::within(PATIENCE, command, None)
    }

    /// The same with something typed into its standard input, which is then closed.
    pub fn piped(input: &str, command: &mut Command) -> Outcome {
        Outcome::within(PATIENCE, command, Some(input))
    }

    /// The same with a limit of the test's own.
    pub fn within(limit: Duration, command: &mut Command, input: Option<&str>) -> Outcome {
        let what = format!("{:?} {:?}", command.get_program(), command.get_args().collect::<Vec<_>>());
        if input.is_some() {
            command.stdin(Stdio::piped());
        }
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{what}: {error}"));
        if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
            // A program that ends without reading closes the pipe: its business.
            let _ = stdin.write_all(input.as_bytes());
        }
        let stdout = collect(child.stdout.take());
        let stderr = collect(child.stderr.take());
        let deadline = Instant::now() + limit;
        let status = loop {
            if let Some(status) = child.try_wait().expect("its status") {
                break status;
            }
            if Instant::now() >= deadline {
                let _ = child.kill();
                let _ = child.wait();
                panic!("{what} hangs:\n{}", stderr.join().unwrap_or_default());
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let text = |thread: std::thread::JoinHandle<String>| thread.join().expect("its output is read");
        let outcome = Outcome { what, code: code_of(status), stdout: text(stdout), stderr: text(stderr) };
        for secret in [SECRET, PASSPHRASE] {
            assert!(!outcome.stderr.contains(secret), "a secret is on stderr: {outcome}");
        }
        outcome
    }

    /// It must have worked.
    #[track_caller]
    pub fn ok(self) -> Outcome {
        self.ends_with(0)
    }

    /// It must have failed with this exit code, with a message and nothing on stdout.
    #[track_caller]
    pub fn fails(self, code: i32) -> Outcome {
        assert_ne!(code, 0, "that is no failure");
        let outcome = self.ends_with(code);
        assert!(outcome.stderr.contains("Error: "), "no 'Error: ' line: {outcome}");
        assert_eq!(outcome.stdout, "", "a failure prints nothing on stdout: {outcome}");
        outcome
    }

    /// Its exit code.
    #[track_caller]
    pub fn ends_with(self, code: i32) -> Outcome {
        assert_eq!(self.code, code, "{self}");
        self
    }

    /// All of these are on stderr. Line breaks and the indentation after them count as one space.
    #[track_caller]
    pub fn says(self, texts: &[&str]) -> Outcome {
        let said = self.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
        for text in texts {
            assert!(said.contains(text), "no {text:?} on stderr: {self}");
        }
        self
    }

    /// None of these is on stderr.
    #[track_caller]
    pub fn silent_about(self, texts: &[&str]) -> Outcome {
        for text in texts {
            assert!(!self.stderr.contains(text), "{text:?} on stderr: {self}");
        }
        self
    }

    /// All of these are on stdout.
    #[track_caller]
    pub fn prints(self, texts: &[&str]) -> Outcome {
        for text in texts {
            assert!(self.stdout.contains(text), "no {text:?} on stdout: {self}");
        }
        self
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} gave {}\n--- stdout\n{}\n--- stderr\n{}",
            self.what, self.code, self.stdout, self.stderr
        )
    }
}

/// As a shell counts: 128+N for a signal.
pub fn code_of(status: ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).expect("it ended")
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<String> {
    let mut pipe = pipe.expect("piped");
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Somebody with a home and an SSH key (protected by [`PASSPHRASE`]).
#[derive(Debug)]
pub struct Person {
    pub home: Home,
    /// `~/.ssh/id_ed25519`.
    pub key: PathBuf,
    agent: Option<SshAgent>,
}

impl Person {
    /// With the key on disk only.
    pub fn new() -> Person {
        let home = Home::new();
        let key = home.ssh_key(PASSPHRASE);
        Person { home, key, agent: None }
    }

    /// With the key in a running ssh-agent too.
    pub fn with_agent() -> Person {
        let mut person = Person::new();
        let agent = SshAgent::start();
        agent.add(&person.key, PASSPHRASE, &["-q"]);
        person.home.set_env("SSH_AUTH_SOCK", agent.socket());
        person.agent = Some(agent);
        person
    }

    /// With an agent, and `[usermanager]` holding AWS's example key as plain text.
    pub fn with_plain_manager() -> Person {
        let person = Person::with_agent();
        person.home.write_credentials(section("usermanager"));
        person
    }

    /// The same, sealed.
    pub fn with_sealed_manager() -> Person {
        let person = Person::with_plain_manager();
        person.run(&["--profile", "usermanager", "--encrypt"]).ok();
        person
    }

    /// With an agent, at this AWS account, whose manager is `[usermanager]`, sealed.
    pub fn at(account: &Account) -> Person {
        let mut person = Person::with_agent();
        person.home.write_credentials(account.manager("usermanager").section("usermanager"));
        person.home.set_env("AWS_ENDPOINT_URL", account.endpoint());
        // AWS CLI v1 and boto3 know this one only.
        person.home.set_env("AWS_DEFAULT_REGION", "us-east-1");
        person.run(&["--profile", "usermanager", "--encrypt"]).ok();
        person
    }

    /// The running agent.
    pub fn agent(&self) -> &SshAgent {
        self.agent.as_ref().expect("this person has one")
    }

    /// The program with these arguments, ready to be changed.
    pub fn command<A: AsRef<OsStr>>(&self, args: &[A]) -> Command {
        let mut command = self.home.command(BIN);
        command.args(args);
        command
    }

    /// The program without a terminal to ask on: in a session of its own.
    pub fn command_without_terminal<A: AsRef<OsStr>>(&self, args: &[A]) -> Command {
        let mut command = self.home.command("setsid");
        command.args(["--wait", BIN]).args(args);
        command
    }

    /// Runs the program.
    pub fn run<A: AsRef<OsStr>>(&self, args: &[A]) -> Outcome {
        Outcome::of(&mut self.command_without_terminal(args))
    }

    /// Runs it without the agent, and nobody to ask.
    pub fn run_without_agent<A: AsRef<OsStr>>(&self, args: &[A]) -> Outcome {
        Outcome::of(self.command_without_terminal(args).env_remove("SSH_AUTH_SOCK"))
    }

    /// Runs it without the agent, with an askpass program.
    pub fn run_asking<A: AsRef<OsStr>>(&self, askpass: &AskPass, args: &[A]) -> Outcome {
        let mut command = self.command_without_terminal(args);
        command.env_remove("SSH_AUTH_SOCK");
        askpass.apply(&mut command);
        Outcome::of(&mut command)
    }

    /// Runs it in a terminal.
    pub fn run_in_terminal<A: AsRef<OsStr>>(&self, args: &[A]) -> Pty {
        let mut command = Pty::command(&self.home, BIN);
        command.args(args);
        Pty::spawn(command)
    }

    /// The value of a field in `~/.aws/credentials`, as text between `=` and the end of its line.
    pub fn field(&self, profile: &str, field: &str) -> Option<String> {
        field_of(&self.home.credentials(), profile, field)
    }

    /// Changes `~/.aws/credentials` by hand, as in an editor.
    pub fn edit(&self, change: impl FnOnce(String) -> String) {
        self.home.write_credentials(change(self.home.credentials()));
    }

    /// Runs `command`, which has to leave both AWS files byte for byte as they are, and no other file beside them.
    #[track_caller]
    pub fn run_changing_nothing(&self, command: impl FnOnce() -> Outcome) -> Outcome {
        let before = self.files();
        let outcome = command();
        assert_eq!(self.files(), before, "files were changed: {outcome}");
        outcome
    }

    /// Names and contents in `~/.aws`. Lock files may stay.
    fn files(&self) -> Vec<(String, Vec<u8>)> {
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
}

/// A profile with AWS's example key, as plain text.
pub fn section(profile: &str) -> String {
    format!("[{profile}]\naws_access_key_id = {KEY_ID}\naws_secret_access_key = {SECRET}\n")
}

/// A field of a section in the simplest reading of the file, independent of the program's own.
pub fn field_of(text: &str, profile: &str, field: &str) -> Option<String> {
    let header = format!("[{profile}]");
    let mut lines = text.lines().skip_while(|line| line.trim() != header).skip(1);
    lines
        .by_ref()
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split_once('='))
        .find(|(key, _)| key.trim() == field)
        .map(|(_, value)| value.trim().to_owned())
}
