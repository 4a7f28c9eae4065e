//! Settings of the keyring.

use std::ffi::OsString;
use std::path::PathBuf;

use super::agent::AgentTimeouts;
use super::passphrase::PassphrasePrompt;

/// Receives what the user should read while the keyring works.
pub(super) type Notices<'n> = Box<dyn FnMut(&str) + 'n>;

/// What the keyring needs from settings and command line; it reads no environment.
#[derive(Debug, Clone, Default)]
pub struct KeyringOptions {
    /// The key file that the user named (`--ssh-key`, IAM_SORRY_SSH_KEY or the settings file).
    pub ssh_key: Option<PathBuf>,
    /// Further key files, named on the command line.
    pub more_keys: Vec<PathBuf>,
    /// HOME.
    pub home: Option<PathBuf>,
    /// SSH_AUTH_SOCK.
    pub agent_socket: Option<PathBuf>,
    /// Time limits for the agent.
    pub agent_timeouts: AgentTimeouts,
    /// How to prompt for a passphrase.
    pub passphrase_prompt: PassphrasePrompt,
    /// Whether to seal with a key of which only the agent is available, so that its passphrase can't be checked.
    pub allow_agent_only: bool,
    /// Whether to refuse values of the original tool.
    pub refuse_legacy: bool,
}

impl KeyringOptions {
    /// Reads the options from variables, which the caller looks up.
    pub fn from_variables(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let path = |name: &str| variable(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        Self {
            ssh_key: path("IAM_SORRY_SSH_KEY"),
            home: path("HOME"),
            agent_socket: path("SSH_AUTH_SOCK"),
            passphrase_prompt: PassphrasePrompt::from_variables(&variable),
            ..Self::default()
        }
    }
}
