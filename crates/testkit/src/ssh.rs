//! The real ssh-agent and gpg-agent, and an askpass program that answers without a terminal.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::process::{Server, run, system_path};

/// A program for `SSH_ASKPASS` that answers every question with one text and counts the questions.
#[derive(Debug)]
pub struct AskPass {
    dir: TempDir,
}

impl AskPass {
    /// Answers with `answer` (a passphrase, or `yes`).
    pub fn answering(answer: &str) -> AskPass {
        AskPass::script("cat \"$here/answer\"", answer)
    }

    /// Refuses: ends with status 1 and no answer, as a person who presses Cancel.
    pub fn refusing() -> AskPass {
        AskPass::script("exit 1", "")
    }

    /// Never answers (it waits for an hour), as a dialog that nobody sees.
    pub fn hanging() -> AskPass {
        AskPass::script("exec sleep 3600", "")
    }

    fn script(end: &str, answer: &str) -> AskPass {
        let dir = crate::short_temp_dir();
        fs::write(dir.path().join("answer"), format!("{answer}\n")).expect("the answer");
        let script = dir.path().join("askpass");
        let text = format!(
            "#!/bin/sh\nhere=$(dirname \"$0\")\n# One write: whoever sees the call may kill this script at once.\n\
             printf '%s\\n' \"$(printf '%s' \"$*\" | tr '\\n' ' ')\" >>\"$here/calls\"\n{end}\n"
        );
        fs::write(&script, text).expect("the script");
        fs::set_permissions(&script, fs::Permissions::from_mode(0o700)).expect("its mode");
        AskPass { dir }
    }

    /// What to put into `SSH_ASKPASS`.
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("askpass")
    }

    /// The questions so far, oldest first.
    pub fn questions(&self) -> Vec<String> {
        let text = fs::read_to_string(self.dir.path().join("calls")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// How often it was asked.
    pub fn calls(&self) -> usize {
        self.questions().len()
    }

    /// Points `command` at this program, so that no terminal is needed (`SSH_ASKPASS_REQUIRE=force`, ssh(1)).
    pub fn apply(&self, command: &mut Command) {
        command.env("SSH_ASKPASS", self.path()).env("SSH_ASKPASS_REQUIRE", "force").env("DISPLAY", ":none");
    }
}

/// A real OpenSSH agent on a socket of its own. Ends on drop and with the test process.
#[derive(Debug)]
pub struct SshAgent {
    server: Server,
}

impl SshAgent {
    /// An agent without keys. Confirmations (`-c`) get no answer: they are refused.
    pub fn start() -> SshAgent {
        SshAgent::start_with(&[])
    }

    /// An agent that asks `askpass` when a key needs confirmation.
    pub fn confirming_with(askpass: &AskPass) -> SshAgent {
        SshAgent::start_with(&[
            ("SSH_ASKPASS", askpass.path().into()),
            ("SSH_ASKPASS_REQUIRE", "force".into()),
            ("DISPLAY", ":none".into()),
        ])
    }

    fn start_with(env: &[(&str, OsString)]) -> SshAgent {
        let dir = crate::short_temp_dir().keep();
        let socket = dir.join("agent").into_os_string();
        let server =
            Server::start(Path::new("ssh-agent"), &["-D".into(), "-a".into(), socket.clone()], env, dir);
        server.wait_for("agent socket", |_| UnixStream::connect(&socket).ok());
        SshAgent { server }
    }

    /// What to put into `SSH_AUTH_SOCK`.
    pub fn socket(&self) -> PathBuf {
        self.server.dir().join("agent")
    }

    /// Process id of the agent.
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// Adds a key file. `options` are ssh-add's own, such as `["-c"]` or `["-t", "30"]`.
    pub fn add(&self, key: &Path, passphrase: &str, options: &[&str]) {
        ssh_add(&self.socket(), passphrase, options, Some(key));
    }

    /// Takes a key out.
    pub fn remove(&self, key: &Path) {
        ssh_add(&self.socket(), "", &["-q", "-d"], Some(key));
    }

    /// Locks the agent (`ssh-add -x`): it lists no keys and signs nothing until unlocked.
    pub fn lock(&self, password: &str) {
        ssh_add(&self.socket(), password, &["-x"], None);
    }

    /// Unlocks it again (`ssh-add -X`).
    pub fn unlock(&self, password: &str) {
        ssh_add(&self.socket(), password, &["-X"], None);
    }

    /// The fingerprints it lists.
    pub fn fingerprints(&self) -> Vec<String> {
        fingerprints(&self.socket())
    }
}

/// A real gpg-agent that speaks the SSH agent protocol, with its own GNUPGHOME. Ends on drop.
#[derive(Debug)]
pub struct GpgAgent {
    server: Server,
    socket: PathBuf,
}

impl GpgAgent {
    /// Starts it, with `answer` given to every passphrase question by a pinentry of ours.
    pub fn start(answer: &str) -> GpgAgent {
        let dir = crate::short_temp_dir().keep();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700)).expect("gpg wants 0700");
        let pinentry = dir.join("pinentry");
        // The Assuan protocol of pinentry, as far as gpg-agent uses it: every command is fine, GETPIN has the answer.
        let script = format!(
            "#!/bin/sh\necho OK\nwhile read -r word rest; do case $word in\nGETPIN) echo 'D {answer}'; echo OK;;\n\
             BYE) echo OK; exit 0;;\n*) echo OK;; esac; done\n"
        );
        fs::write(&pinentry, script).expect("the pinentry");
        fs::set_permissions(&pinentry, fs::Permissions::from_mode(0o700)).expect("its mode");
        let conf =
            format!("pinentry-program {}\nenable-ssh-support\nallow-loopback-pinentry\n", pinentry.display());
        fs::write(dir.join("gpg-agent.conf"), conf).expect("its settings");

        let env: [(&str, OsString); 1] = [("GNUPGHOME", dir.clone().into())];
        let socket = run(Command::new("gpgconf")
            .args(["--list-dirs", "agent-ssh-socket"])
            .env_clear()
            .env("PATH", system_path())
            .env("GNUPGHOME", &dir));
        let socket = PathBuf::from(socket.trim());
        let server = Server::start(Path::new("gpg-agent"), &["--daemon", "--no-detach"], &env, dir);
        server.wait_for("SSH socket", |_| UnixStream::connect(&socket).ok());
        GpgAgent { server, socket }
    }

    /// What to put into `SSH_AUTH_SOCK`.
    pub fn socket(&self) -> PathBuf {
        self.socket.clone()
    }

    /// Its GNUPGHOME.
    pub fn home(&self) -> &Path {
        self.server.dir()
    }

    /// Adds a key file. gpg-agent stores it under a passphrase of its own, which the pinentry answers.
    pub fn add(&self, key: &Path, passphrase: &str) {
        ssh_add(&self.socket, passphrase, &[], Some(key));
    }

    /// The fingerprints it lists.
    pub fn fingerprints(&self) -> Vec<String> {
        fingerprints(&self.socket)
    }
}

impl Drop for GpgAgent {
    fn drop(&mut self) {
        // Where /run/user/UID exists its sockets are not in our folder: it takes them away itself when told to end.
        let _ = Command::new("gpgconf")
            .args(["--kill", "gpg-agent"])
            .env("GNUPGHOME", self.server.dir())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        let _ =
            Command::new("gpgconf").arg("--remove-socketdir").env("GNUPGHOME", self.server.dir()).output();
    }
}

fn ssh_add(socket: &Path, answer: &str, options: &[&str], key: Option<&Path>) {
    let askpass = AskPass::answering(answer);
    let mut command = Command::new("ssh-add");
    command.env_clear().env("PATH", system_path()).env("SSH_AUTH_SOCK", socket).args(options).args(key);
    askpass.apply(&mut command);
    run(&mut command);
}

fn fingerprints(socket: &Path) -> Vec<String> {
    let output = Command::new("ssh-add")
        .arg("-l")
        .env_clear()
        .env("PATH", system_path())
        .env("SSH_AUTH_SOCK", socket)
        .output()
        .expect("ssh-add starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().filter(|word| word.starts_with("SHA256:")).map(str::to_owned).collect()
}
