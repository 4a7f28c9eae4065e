//! Errors of SSH keys and sealed values. Each says what to do next.

use std::io;
use std::path::{Path, PathBuf};

use iam_sorry_core::seal::SealError;
use iam_sorry_core::ssh::{KeyFileError, KeyId};

/// The first line of the text names the profile or file and what happened to it; the lines after it say what to do.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A value can't be parsed or opened.
    #[error("profile '{profile}', {field}: {source}")]
    Value {
        /// The profile that holds the value.
        profile: String,
        /// The field that holds the value.
        field: String,
        /// What is wrong with it.
        source: Box<SealError>,
    },
    /// The fields of a profile don't belong together, or the profile as a whole is wrong in another way.
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
    /// The settings refuse legacy values.
    #[error(
        "profile '{profile}' is sealed in the old format, which whoever can read the SSH key file can open without its passphrase, and your settings refuse that\nSeal it anew: iam-sorry migrate"
    )]
    LegacyRefused {
        /// The profile.
        profile: String,
    },
    /// No SSH key is available that could do it.
    #[error("{}", no_recipient_text(.what, .wanted, .tried))]
    NoRecipientKey {
        /// The operation: opening or sealing.
        what: String,
        /// The keys, any one of which would suffice.
        wanted: Vec<KeyId>,
        /// Where the keyring looked, and what it found there.
        tried: Vec<String>,
    },
    /// The text begins like a fingerprint but is none.
    #[error(
        "'{0}' is no fingerprint of an SSH key: SHA256: and 43 letters, digits, + or / are\nSee a key's: ssh-keygen -lf FILE    the agent's: ssh-add -l"
    )]
    NotAFingerprint(String),
    /// Two signatures over the same message differ.
    #[error(
        "the SSH agent's signatures with {0} are not deterministic: credentials sealed with them could never be opened again\nTake the key out of that agent (ssh-add -d) so that the key file is used, or use OpenSSH's ssh-agent"
    )]
    AgentNotDeterministic(KeyId),
    /// The key file has no passphrase (text of the original's README).
    #[error(
        "SSH key '{path}' is not password protected.\nFor security, only password-protected SSH keys can be used for encryption.\nAdd a passphrase: ssh-keygen -p -f {quoted}",
        path = .path.display(), quoted = quoted(.path)
    )]
    NotProtected {
        /// The private-key file.
        path: PathBuf,
    },
    /// Only the agent has the key, so nobody knows whether its file has a passphrase.
    #[error(
        "the SSH key {key_id} ({comment}) is only in the SSH agent: whether it is password protected can't be checked\nName its file with --ssh-key FILE, or seal with it as it is: --allow-agent-only"
    )]
    OnlyInAgent {
        /// The key.
        key_id: KeyId,
        /// The agent's comment for it.
        comment: String,
    },
    /// The agent holds several keys, and none is named.
    #[error(
        "the SSH agent holds several Ed25519 keys and there is no ~/.ssh/id_ed25519\nSay which one to seal with: --ssh-key FILE (a .pub file will do)\nThere are: {0}"
    )]
    SeveralInAgent(String),
    /// The file can't be used as a key.
    #[error("SSH key '{path}' {source}{hint}", path = .path.display(), hint = hint(.source, .path))]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: KeyFileError,
    },
    /// The file does not exist.
    #[error(
        "SSH key '{path}' does not exist\nCreate one: ssh-keygen -t ed25519\nor name another with --ssh-key FILE",
        path = .path.display()
    )]
    NoKeyFile {
        /// The file.
        path: PathBuf,
    },
    /// Group or others may read the key file.
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
    /// The key file belongs to another user.
    #[error(
        "SSH key '{path}' belongs to another user (uid {owner})\nTake it over (chown) and close it: chmod 600 {quoted}",
        path = .path.display(), quoted = quoted(.path)
    )]
    WrongOwner {
        /// The file.
        path: PathBuf,
        /// The owner's uid.
        owner: u32,
    },
    /// The key file can't be read.
    #[error("SSH key '{path}' can't be read ({source})", path = .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// No passphrase was given, so the key stays locked.
    #[error(
        "SSH key '{path}' stays locked: {source}\nLoad it into an agent first: ssh-add {quoted}\nor let a program ask: set SSH_ASKPASS, and SSH_ASKPASS_REQUIRE=force",
        path = .path.display(), quoted = quoted(.path)
    )]
    Locked {
        /// The file.
        path: PathBuf,
        /// Why there is no passphrase.
        source: PromptError,
    },
    /// Ctrl-C at the prompt (exit code 130).
    #[error("interrupted")]
    Interrupted,
    /// HOME is not set, so there is no ~/.ssh.
    #[error("no SSH key to seal with: HOME is not set\nName one: --ssh-key FILE")]
    NoHome,
    /// The system's random generator failed.
    #[error("the system gave no random numbers")]
    Random,
}

/// Why the prompt gave no passphrase.
#[derive(Debug, thiserror::Error)]
pub enum PromptError {
    /// There is no terminal and no askpass program.
    #[error("there is no terminal and no askpass program to ask for the passphrase")]
    NoWay,
    /// The person pressed Ctrl-D or Cancel.
    #[error("no passphrase was given")]
    Cancelled,
    /// The person pressed Ctrl-C.
    #[error("interrupted")]
    Interrupted,
    /// The askpass program can't be run.
    #[error("the askpass program {path} failed ({source})", path = .path.display())]
    Askpass {
        /// SSH_ASKPASS.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Reading from or writing to the terminal failed.
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

/// A path in a form that can be pasted into a POSIX shell.
fn quoted(path: &Path) -> String {
    let path = path.to_string_lossy();
    let plain = |c: char| c.is_alphanumeric() || "/._-~+@%".contains(c);
    if path.chars().all(plain) { path.into_owned() } else { format!("'{}'", path.replace('\'', r"'\''")) }
}
