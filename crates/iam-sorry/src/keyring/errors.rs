//! What can go wrong between a person's SSH key and a sealed value, each with its way out.

use std::io;
use std::path::{Path, PathBuf};

use iam_sorry_core::seal::SealError;
use iam_sorry_core::ssh::{KeyFileError, KeyId};

/// The text's first line says what happened to which profile or file; the lines after it say what to do.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The value itself can't be read or opened.
    #[error("profile '{profile}', {field}: {source}")]
    Value {
        /// The profile it stands in.
        profile: String,
        /// Its field.
        field: String,
        /// What is wrong with it.
        source: Box<SealError>,
    },
    /// Its fields don't belong together, or something else about the profile as a whole.
    #[error("profile '{profile}': {source}")]
    Profile {
        /// The profile.
        profile: String,
        /// What is wrong with it.
        source: Box<SealError>,
    },
    /// Sealing failed.
    #[error("sealing failed: {0}")]
    Sealing(#[source] SealError),
    /// The setting that refuses legacy values is on.
    #[error(
        "profile '{profile}' is sealed in the old format, which whoever can read the SSH key file can open without its passphrase, and your settings refuse that\nSeal it anew: iam-sorry migrate"
    )]
    LegacyRefused {
        /// The profile.
        profile: String,
    },
    /// None of the keys that it takes is here.
    #[error("{}", no_recipient_text(.what, .wanted, .tried))]
    NoRecipientKey {
        /// What was to be opened or sealed.
        what: String,
        /// The keys, any one of which would do.
        wanted: Vec<KeyId>,
        /// Where they were looked for, and what was there.
        tried: Vec<String>,
    },
    /// `SHA256:` and then something else.
    #[error(
        "'{0}' is no fingerprint of an SSH key: SHA256: and 43 letters, digits, + or / are\nSee a key's: ssh-keygen -lf FILE    the agent's: ssh-add -l"
    )]
    NotAFingerprint(String),
    /// Two signatures over the same message differ.
    #[error(
        "the SSH agent's signatures with {0} are not deterministic: credentials sealed with them could never be opened again\nTake the key out of that agent (ssh-add -d) so that the key file is used, or use OpenSSH's ssh-agent"
    )]
    AgentNotDeterministic(KeyId),
    /// README of the original tool.
    #[error(
        "SSH key '{path}' is not password protected.\nFor security, only password-protected SSH keys can be used for encryption.\nAdd a passphrase: ssh-keygen -p -f {quoted}",
        path = .path.display(), quoted = quoted(.path)
    )]
    NotProtected {
        /// The private-key file.
        path: PathBuf,
    },
    /// Its file is not here, so nobody knows whether it has a passphrase.
    #[error(
        "the SSH key {key_id} ({comment}) is only in the SSH agent: whether it is password protected can't be checked\nName its file with --ssh-key FILE, or seal with it as it is: --allow-agent-only"
    )]
    OnlyInAgent {
        /// The key.
        key_id: KeyId,
        /// What the agent calls it.
        comment: String,
    },
    /// Which of them?
    #[error(
        "the SSH agent holds several Ed25519 keys and there is no ~/.ssh/id_ed25519\nSay which one to seal with: --ssh-key FILE (a .pub file will do)\nThere are: {0}"
    )]
    SeveralInAgent(String),
    /// The file is not a key that can be used.
    #[error("SSH key '{path}' {source}{hint}", path = .path.display(), hint = hint(.source, .path))]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        source: KeyFileError,
    },
    /// No such file.
    #[error(
        "SSH key '{path}' does not exist\nCreate one: ssh-keygen -t ed25519\nor name another with --ssh-key FILE",
        path = .path.display()
    )]
    NoKeyFile {
        /// The file.
        path: PathBuf,
    },
    /// Group or others may read it.
    #[error(
        "SSH key '{path}' can be read by others (mode {mode:04o})\nClose it: chmod 600 {quoted}",
        path = .path.display(), quoted = quoted(.path)
    )]
    OpenToOthers {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Somebody else's.
    #[error(
        "SSH key '{path}' belongs to another user (uid {owner})\nTake it over (chown) and close it: chmod 600 {quoted}",
        path = .path.display(), quoted = quoted(.path)
    )]
    WrongOwner {
        /// The file.
        path: PathBuf,
        /// Its owner.
        owner: u32,
    },
    /// It couldn't be read.
    #[error("SSH key '{path}' can't be read ({source})", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// No passphrase, so the file stays locked.
    #[error(
        "SSH key '{path}' stays locked: {source}\nLoad it into an agent first: ssh-add {quoted}\nor let a program ask: set SSH_ASKPASS, and SSH_ASKPASS_REQUIRE=force",
        path = .path.display(), quoted = quoted(.path)
    )]
    Locked {
        /// The file.
        path: PathBuf,
        /// Why nothing was asked or answered.
        source: PromptError,
    },
    /// Ctrl-C at the prompt: exit code 130.
    #[error("interrupted")]
    Interrupted,
    /// No home, hence no ~/.ssh.
    #[error("no SSH key to seal with: HOME is not set\nName one: --ssh-key FILE")]
    NoHome,
    /// The system's random generator failed.
    #[error("the system gave no random numbers")]
    Random,
}

/// No passphrase was to be had.
#[derive(Debug, thiserror::Error)]
pub enum PromptError {
    /// No terminal and no askpass program.
    #[error("there is no terminal and no askpass program to ask for the passphrase")]
    NoWay,
    /// Ctrl-C, Ctrl-D or Cancel.
    #[error("no passphrase was given")]
    Cancelled,
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted,
    /// The askpass program couldn't be run.
    #[error("the askpass program {path} failed ({source})", path = .path.display())]
    Askpass {
        /// SSH_ASKPASS.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The terminal failed.
    #[error("the terminal failed ({0})")]
    Terminal(#[source] io::Error),
}

fn no_recipient_text(what: &str, wanted: &[KeyId], tried: &[String]) -> String {
    let keys = wanted.iter().map(KeyId::to_string).collect::<Vec<_>>().join(" or ");
    let mut text = format!("{what}: no SSH key at hand that can do it; it takes {keys}");
    for line in tried {
        text.push_str("\n- ");
        text.push_str(line);
    }
    text.push_str("\nLoad the key (ssh-add FILE) or name its file (--ssh-key FILE)");
    text
}

fn hint(source: &KeyFileError, path: &Path) -> String {
    source.hint(&path.to_string_lossy()).map_or_else(String::new, |hint| format!("\n{hint}"))
}

/// A path as it can be pasted into a POSIX shell.
fn quoted(path: &Path) -> String {
    let path = path.to_string_lossy();
    let plain = |c: char| c.is_alphanumeric() || "/._-~+@%".contains(c);
    if path.chars().all(plain) { path.into_owned() } else { format!("'{}'", path.replace('\'', r"'\''")) }
}
