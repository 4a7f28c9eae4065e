//! A home folder of a person who does not exist, so that no test reads or writes the developer's own files.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::process::{run, system_path};

/// A temporary home with `.aws` and `.ssh` (0700), and the environment that goes with it. Deleted on drop.
#[derive(Debug)]
pub struct Home {
    dir: TempDir,
    env: Vec<(OsString, OsString)>,
}

/// The kinds of SSH key that ssh-keygen makes for a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// The kind that seals.
    Ed25519,
    /// Refused by name.
    Rsa,
    /// Refused by name.
    Ecdsa,
}

impl KeyKind {
    fn name(self) -> &'static str {
        match self {
            KeyKind::Ed25519 => "ed25519",
            KeyKind::Rsa => "rsa",
            KeyKind::Ecdsa => "ecdsa",
        }
    }
}

impl Default for Home {
    fn default() -> Self {
        Home::new()
    }
}

impl Home {
    /// An empty home with empty `.aws`, `.ssh`, XDG folders and a private runtime folder.
    pub fn new() -> Home {
        let dir = crate::short_temp_dir();
        for (name, mode) in
            [(".aws", 0o700), (".ssh", 0o700), (".config", 0o755), ("run", 0o700), ("tmp", 0o700)]
        {
            let path = dir.path().join(name);
            fs::create_dir(&path).expect("a new folder");
            set_mode(&path, mode);
        }
        Home { dir, env: Vec::new() }
    }

    /// The home folder.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Sets a variable for every later [`Home::command`].
    pub fn set_env(&mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) {
        self.env.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
    }

    /// A command for `program` that sees this home and nothing of the caller's environment: no AWS_* variable, no
    /// agent, no terminal settings. Time zone UTC, locale C.UTF-8, standard input empty.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        let home = self.path();
        command
            .env_clear()
            .env("HOME", home)
            .env("PATH", system_path())
            .env("XDG_CONFIG_HOME", home.join(".config"))
            .env("XDG_CACHE_HOME", home.join(".cache"))
            .env("XDG_DATA_HOME", home.join(".local/share"))
            .env("XDG_STATE_HOME", home.join(".local/state"))
            .env("XDG_RUNTIME_DIR", home.join("run"))
            .env("TMPDIR", home.join("tmp"))
            .env("USER", "tester")
            .env("LOGNAME", "tester")
            .env("TZ", "UTC")
            .env("LANG", "C.UTF-8")
            // The SDKs would otherwise look for an instance's credentials on the network.
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .current_dir(home)
            .stdin(std::process::Stdio::null());
        // Coverage runs of the program under test write where the runner says.
        if let Some(profile) = std::env::var_os("LLVM_PROFILE_FILE") {
            command.env("LLVM_PROFILE_FILE", profile);
        }
        for (name, value) in &self.env {
            command.env(name, value);
        }
        command
    }

    /// A command for the official AWS CLI or another program of the tests' Python environment.
    pub fn venv_command(&self, program: &str) -> Command {
        self.command(crate::venv_bin(program))
    }

    /// `~/.aws/credentials`.
    pub fn credentials_path(&self) -> PathBuf {
        self.path().join(".aws/credentials")
    }

    /// `~/.aws/config`.
    pub fn config_path(&self) -> PathBuf {
        self.path().join(".aws/config")
    }

    /// Writes `~/.aws/credentials` with mode 0600.
    pub fn write_credentials(&self, text: impl AsRef<[u8]>) -> PathBuf {
        self.write_mode(".aws/credentials", text, 0o600)
    }

    /// Writes `~/.aws/config` with mode 0600.
    pub fn write_config(&self, text: impl AsRef<[u8]>) -> PathBuf {
        self.write_mode(".aws/config", text, 0o600)
    }

    /// The text of `~/.aws/credentials`, empty when there is no such file.
    pub fn credentials(&self) -> String {
        fs::read_to_string(self.credentials_path()).unwrap_or_default()
    }

    /// The text of `~/.aws/config`, empty when there is no such file.
    pub fn config(&self) -> String {
        fs::read_to_string(self.config_path()).unwrap_or_default()
    }

    /// Writes a file below the home, making its folders.
    pub fn write_mode(&self, relative: impl AsRef<Path>, text: impl AsRef<[u8]>, mode: u32) -> PathBuf {
        let path = self.path().join(relative);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).expect("the folder of the file");
        }
        fs::write(&path, text).expect("a new file");
        set_mode(&path, mode);
        path
    }

    /// Writes an executable `/bin/sh` script below the home.
    pub fn write_script(&self, relative: impl AsRef<Path>, body: &str) -> PathBuf {
        self.write_mode(relative, format!("#!/bin/sh\n{body}\n"), 0o700)
    }

    /// The text of a file below the home.
    ///
    /// # Panics
    /// When there is none.
    pub fn read(&self, relative: impl AsRef<Path>) -> String {
        let path = self.path().join(relative);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    /// Permission bits of a file below the home, such as `0o600`.
    pub fn mode(&self, relative: impl AsRef<Path>) -> u32 {
        fs::metadata(self.path().join(relative)).expect("the file is there").permissions().mode() & 0o7777
    }

    /// Sets permission bits of a file below the home.
    pub fn set_mode(&self, relative: impl AsRef<Path>, mode: u32) {
        set_mode(&self.path().join(relative), mode);
    }

    /// `~/.ssh/id_ed25519` by the real ssh-keygen, with one bcrypt round so that unlocking is quick. An empty
    /// passphrase leaves the key unprotected.
    pub fn ssh_key(&self, passphrase: &str) -> PathBuf {
        self.ssh_key_as("id_ed25519", KeyKind::Ed25519, passphrase, 1)
    }

    /// `~/.ssh/NAME` and `NAME.pub` by the real ssh-keygen. `rounds` are its bcrypt rounds (`-a`).
    pub fn ssh_key_as(&self, name: &str, kind: KeyKind, passphrase: &str, rounds: u32) -> PathBuf {
        let path = self.path().join(".ssh").join(name);
        run(self
            .command("ssh-keygen")
            .args([
                "-q",
                "-t",
                kind.name(),
                "-C",
                "tester@example.org",
                "-N",
                passphrase,
                "-a",
                &rounds.to_string(),
                "-f",
            ])
            .arg(&path));
        path
    }

    /// Changes a key's passphrase with the real `ssh-keygen -p`.
    pub fn change_passphrase(&self, key: &Path, old: &str, new: &str) {
        run(self.command("ssh-keygen").args(["-q", "-p", "-a", "1", "-P", old, "-N", new, "-f"]).arg(key));
    }

    /// The `SHA256:...` fingerprint of a key file, as `ssh-keygen -l` prints it.
    pub fn fingerprint(&self, key: &Path) -> String {
        let line = run(self.command("ssh-keygen").arg("-lf").arg(key));
        line.split_whitespace().nth(1).expect("a fingerprint").to_owned()
    }
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("the mode is set");
}
