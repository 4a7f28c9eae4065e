//! Everything that the keyring would otherwise have to look up.

use std::ffi::OsString;
use std::path::PathBuf;

use super::agent::AgentTimeouts;
use super::passphrase::PassphrasePrompt;

/// Gets what the user should read while the keyring works.
pub(super) type Notices<'n> = Box<dyn FnMut(&str) + 'n>;

/// Everything that the keyring would otherwise have to look up.
#[derive(Debug, Clone, Default)]
pub struct KeyringOptions {
    /// The key file that the user named (`--ssh-key`, IAM_SORRY_SSH_KEY or the settings).
    pub ssh_key: Option<PathBuf>,
    /// Further files that the command at hand names.
    pub more_keys: Vec<PathBuf>,
    /// HOME.
    pub home: Option<PathBuf>,
    /// SSH_AUTH_SOCK.
    pub agent_socket: Option<PathBuf>,
    /// How long the agent may take.
    pub agent_timeouts: AgentTimeouts,
    /// How to ask for a passphrase.
    pub passphrase_prompt: PassphrasePrompt,
    /// Seal also with a key whose file is not here, so that nobody can say whether it has a passphrase.
    pub allow_agent_only: bool,
    /// Don't open values of the original tool.
    pub refuse_legacy: bool,
}

impl KeyringOptions {
    /// From the environment's variables, which the caller looks up.
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
