//! Finds a key and signs with it (sealed-format-v2.md, "Finding the key"): the agent, then the configured file, then
//! ~/.ssh/id_ed25519, then a file whose `.pub` matches.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use iam_sorry_core::seal::SealError;
use iam_sorry_core::ssh::agent::{AgentMessageError, Identities};
use iam_sorry_core::ssh::{KeyFileError, KeyId, PublicKey, Signature, UnlockedKey};
use secrecy::SecretString;

use super::agent::{AgentConnection, AgentError};
use super::errors::{KeyError, PromptError};
use super::key_file::{self, Configured, KeyOnDisk};
use super::options::{KeyringOptions, Notices};
use super::passphrase::MAX_ATTEMPTS;

pub(super) struct Signer<'n> {
    pub(super) options: KeyringOptions,
    pub(super) notices: Notices<'n>,
    agent: Agent,
    unlocked: Vec<UnlockedKey>,
    /// Keys whose agent has given the same signature on two connections.
    deterministic: HashSet<KeyId>,
}

enum Agent {
    Untried,
    /// None is configured, or it failed, which is not tried again.
    None(Option<String>),
    Up(AgentConnection, Identities),
}

/// A key to seal with.
pub(super) struct SealingKey {
    pub(super) public: PublicKey,
    /// Its file, if this machine has it.
    pub(super) file: Option<KeyOnDisk>,
}

impl<'n> Signer<'n> {
    pub(super) fn new(options: KeyringOptions, notices: Notices<'n>) -> Self {
        Self { options, notices, agent: Agent::Untried, unlocked: Vec::new(), deterministic: HashSet::new() }
    }

    /// The agent's keys; `None` if no agent answers.
    pub(super) fn agent_identities(&mut self) -> Option<&Identities> {
        self.agent().map(|(_, identities)| identities)
    }

    /// Why a configured agent is not available.
    pub(super) fn agent_failure(&self) -> Option<&str> {
        match &self.agent {
            Agent::None(why) => why.as_deref(),
            _ => None,
        }
    }

    /// The key, if it is unlocked already.
    pub(super) fn unlocked(&self, key: &PublicKey) -> Option<&UnlockedKey> {
        self.unlocked.iter().find(|unlocked| unlocked.public_key() == key)
    }

    /// The agent's signature, verified; else the reason why there is none.
    pub(super) fn sign_by_agent(&mut self, key: &PublicKey, data: &[u8]) -> Result<Signature, String> {
        if self.in_agent(|found| found == key).is_none() {
            return Err(self.agent_summary());
        }
        let signature = self.sign_with_agent(key, data).map_err(|error| refusal_text(key, &error))?;
        let verifies = key.verify(data, &signature);
        verifies.then_some(signature).ok_or_else(|| "the SSH agent's signature does not verify".to_owned())
    }

    /// Whether `key` can sign now without a prompt for a passphrase.
    pub(super) fn can_sign_without_prompt(&mut self, key_id: &KeyId) -> bool {
        self.unlocked.iter().any(|k| k.public_key().key_id() == *key_id)
            || self.in_agent(|k| k.key_id() == *key_id).is_some()
    }

    /// The public key of a recipient, if the key is available.
    pub(super) fn public_key_of(&mut self, key_id: &KeyId) -> Option<PublicKey> {
        let is_it = |key: &PublicKey| key.key_id() == *key_id;
        if let Some(key) = self.unlocked.iter().map(UnlockedKey::public_key).find(|k| is_it(k)) {
            return Some(*key);
        }
        self.in_agent(is_it).map(|(key, _)| key).or_else(|| {
            let found = self.find_file(&is_it, &mut Vec::new()).ok().flatten();
            found.map(|file| *file.key.public_key())
        })
    }

    /// Signs with any of the keys `wanted`, until `use_signature` succeeds. `what` names the purpose in errors.
    pub(super) fn sign_to_open<T>(
        &mut self,
        what: &str,
        wanted: &[KeyId],
        to_be_signed: impl Fn(&KeyId) -> Vec<u8>,
        use_signature: impl Fn(&PublicKey, &Signature) -> Result<T, SealError>,
        wrap: impl Fn(SealError) -> KeyError,
    ) -> Result<T, KeyError> {
        let is_wanted = |key: &PublicKey| wanted.contains(&key.key_id());
        if let Some(key) = self.unlocked.iter().find(|k| is_wanted(k.public_key())) {
            let signature = key.sign(&to_be_signed(&key.public_key().key_id()));
            return use_signature(key.public_key(), &signature).map_err(wrap);
        }

        let mut tried = Vec::new();
        let mut failure = None;
        let in_agent: Vec<_> = self
            .agent_identities()
            .map(|found| found.usable.iter().map(|i| i.key).filter(|k| is_wanted(k)).collect())
            .unwrap_or_default();
        for key in &in_agent {
            match self.sign_with_agent(key, &to_be_signed(&key.key_id())) {
                Ok(signature) => match use_signature(key, &signature) {
                    Ok(opened) => return Ok(opened),
                    // A faulty or hedging agent; the key file may still work.
                    Err(e @ (SealError::BadSignature(_) | SealError::UnwrapFailed(_))) => {
                        tried.push(e.to_string());
                        failure = Some(e);
                    }
                    Err(e) => return Err(wrap(e)),
                },
                Err(error) => tried.push(refusal_text(key, &error)),
            }
        }
        if in_agent.is_empty() {
            tried.push(self.agent_summary());
        }

        let agent_failures = tried.clone();
        match self.find_file(&is_wanted, &mut tried)? {
            Some(file) => {
                if !file.key.is_protected() {
                    (self.notices)(&KeyError::NotProtected { path: file.path.clone() }.to_string());
                }
                let key = match (self.unlock(file, &agent_failures), failure) {
                    // A good signature has shown that the value is bad, so the missing prompt is not the problem.
                    (Err(KeyError::Locked { .. }), Some(error @ SealError::UnwrapFailed(_))) => {
                        return Err(wrap(error));
                    }
                    (key, _) => key?,
                };
                let signature = key.sign(&to_be_signed(&key.public_key().key_id()));
                use_signature(key.public_key(), &signature).map_err(wrap)
            }
            None => Err(match failure {
                Some(error) => wrap(error),
                None => KeyError::NoRecipientKey { what: what.to_owned(), wanted: wanted.to_vec(), tried },
            }),
        }
    }

    /// A signature to seal with: verified, and known to be the one that this key always gives.
    pub(super) fn sign_to_seal(
        &mut self,
        key: &SealingKey,
        to_be_signed: &[u8],
    ) -> Result<Signature, KeyError> {
        let public = key.public;
        let mut tried = Vec::new();
        if !self.unlocked.iter().any(|k| *k.public_key() == public) {
            if self.in_agent(|k| *k == public).is_some() {
                match self.sign_twice(&public, to_be_signed) {
                    Ok(signature) => return Ok(signature),
                    Err(SignTwice::Final(error)) => return Err(error),
                    Err(SignTwice::Agent(error)) => tried.push(refusal_text(&public, &error)),
                }
            } else {
                tried.push(self.agent_summary());
            }
        }
        if let Some(unlocked) = self.unlocked.iter().find(|k| *k.public_key() == public) {
            return Ok(unlocked.sign(to_be_signed));
        }
        let agent_failures = tried.clone();
        // The file was found before, but is read again: no key stays on the heap while a dialog is open.
        let found = match &key.file {
            Some(file) => Some(key_file::read(&file.path)?).filter(|f| *f.key.public_key() == public),
            None => self.find_file(&|k: &PublicKey| *k == public, &mut tried)?,
        };
        match found {
            Some(file) => Ok(self.unlock(file, &agent_failures)?.sign(to_be_signed)),
            None => Err(KeyError::NoRecipientKey {
                what: "sealing".to_owned(),
                wanted: vec![public.key_id()],
                tried,
            }),
        }
    }

    /// The user's own key to seal with, if it may seal: Ed25519, with a passphrase on its file.
    pub(super) fn default_sealing_key(&mut self) -> Result<SealingKey, KeyError> {
        let configured = match (&self.options.ssh_key, &self.options.home) {
            (Some(path), _) => key_file::read_configured(path),
            (None, Some(home)) => key_file::read(&key_file::default_path(home)).map(Configured::Private),
            (None, None) => Err(KeyError::NoHome),
        };
        match configured {
            Ok(Configured::Private(file)) => protected(file),
            Ok(Configured::PublicOnly(public)) => self.only_in_agent(public),
            Err(KeyError::NoKeyFile { path }) if self.options.ssh_key.is_none() => self.sole_agent_key(path),
            Err(KeyError::NoHome) => {
                self.sole_agent_key(PathBuf::from("~/.ssh/id_ed25519")).map_err(|e| match e {
                    KeyError::NoKeyFile { .. } => KeyError::NoHome,
                    e => e,
                })
            }
            Err(error) => Err(error),
        }
    }

    /// A key that is to become a recipient, by the same rules.
    pub(super) fn sealing_key(&mut self, public: &PublicKey) -> Result<SealingKey, KeyError> {
        match self.find_file(&|key: &PublicKey| key == public, &mut Vec::new())? {
            Some(file) => protected(file),
            None => self.only_in_agent(*public),
        }
    }

    /// The key files that may open legacy values, most likely first.
    pub(super) fn legacy_candidates(&self) -> Vec<PathBuf> {
        match (&self.options.ssh_key, &self.options.home) {
            (Some(path), _) => vec![path.clone()],
            (None, Some(home)) => vec![key_file::default_path(home)],
            (None, None) => Vec::new(),
        }
    }

    fn only_in_agent(&mut self, public: PublicKey) -> Result<SealingKey, KeyError> {
        let Some((_, comment)) = self.in_agent(|k| *k == public) else {
            let tried = vec![self.agent_summary()];
            let wanted = vec![public.key_id()];
            return Err(KeyError::NoRecipientKey { what: "sealing".to_owned(), wanted, tried });
        };
        if self.options.allow_agent_only {
            return Ok(SealingKey { public, file: None });
        }
        Err(KeyError::OnlyInAgent { key_id: public.key_id(), comment })
    }

    fn sole_agent_key(&mut self, default: PathBuf) -> Result<SealingKey, KeyError> {
        match self.agent_identities().map_or(&[][..], |found| &found.usable) {
            [] => Err(KeyError::NoKeyFile { path: default }),
            [one] => {
                let key = one.key;
                self.only_in_agent(key)
            }
            several => {
                let list = several.iter().map(|i| format!("{} {}", i.key.key_id(), i.comment));
                Err(KeyError::SeveralInAgent(list.collect::<Vec<_>>().join(", ")))
            }
        }
    }

    /// The first private-key file with a wanted public part. An unusable file is an error if the user named it;
    /// otherwise it is added to `tried`.
    pub(super) fn find_file(
        &self,
        wanted: &dyn Fn(&PublicKey) -> bool,
        tried: &mut Vec<String>,
    ) -> Result<Option<KeyOnDisk>, KeyError> {
        if let Some(path) = &self.options.ssh_key {
            match key_file::read_configured(path)? {
                Configured::Private(file) if wanted(file.key.public_key()) => return Ok(Some(file)),
                Configured::Private(file) => {
                    tried.push(format!(
                        "{} is another key ({})",
                        path.display(),
                        file.key.public_key().key_id()
                    ));
                }
                Configured::PublicOnly(_) => {
                    tried.push(format!("{} has no private key beside it", path.display()))
                }
            }
        }
        for path in &self.options.more_keys {
            match key_file::read_configured(path)? {
                Configured::Private(file) if wanted(file.key.public_key()) => return Ok(Some(file)),
                _ => {}
            }
        }
        let Some(home) = &self.options.home else { return Ok(None) };
        let default = key_file::default_path(home);
        match key_file::read(&default) {
            Ok(file) if wanted(file.key.public_key()) => return Ok(Some(file)),
            Ok(file) => tried.push(format!(
                "{} is another key ({})",
                default.display(),
                file.key.public_key().key_id()
            )),
            Err(error) => tried.push(first_line(&error)),
        }
        // The .pub file beside it says that this is the key, so the user must learn what is wrong with it.
        for path in key_file::beside_matching_public(home, wanted) {
            match key_file::read(&path) {
                Ok(file) if wanted(file.key.public_key()) => return Ok(Some(file)),
                Ok(_) => {}
                // With a forwarded agent, a .pub file alone is common.
                Err(KeyError::NoKeyFile { path }) => {
                    tried.push(format!("{} does not exist, only its .pub does", path.display()));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Unlocks the key, with a prompt if it has a passphrase, and keeps it until the process ends. First it reports why
    /// the agent did not sign.
    pub(super) fn unlock(
        &mut self,
        file: KeyOnDisk,
        agent_failures: &[String],
    ) -> Result<&UnlockedKey, KeyError> {
        let failed = |source| key_file::key_file(&file.path, source);
        file.key.check_unlockable().map_err(failed)?;
        let key = if file.key.is_protected() {
            agent_failures.iter().for_each(|why| (self.notices)(why));
            let prompt = format!("Enter passphrase for {}: ", file.path.display());
            let mut left = MAX_ATTEMPTS;
            loop {
                let passphrase =
                    self.options.passphrase_prompt.ask(&prompt).map_err(|source| match source {
                        PromptError::Interrupted => KeyError::Interrupted,
                        source => KeyError::Locked { path: file.path.clone(), source },
                    })?;
                left -= 1;
                match file.key.unlock(&passphrase) {
                    Err(KeyFileError::WrongPassphrase) if left > 0 => {
                        (self.notices)("Wrong passphrase, try again.");
                    }
                    other => break other.map_err(failed)?,
                }
            }
        } else {
            file.key.unlock(&SecretString::from("")).map_err(failed)?
        };
        self.unlocked.push(key);
        self.unlocked.last().ok_or(KeyError::NoKeyFile { path: file.path })
    }

    fn agent(&mut self) -> Option<(&mut AgentConnection, &Identities)> {
        if matches!(self.agent, Agent::Untried) {
            self.agent = match self.options.agent_socket.clone() {
                None => Agent::None(None),
                Some(socket) => match self.open_agent(&socket) {
                    Ok((connection, identities)) => Agent::Up(connection, identities),
                    Err(error) => Agent::None(Some(error.to_string())),
                },
            };
        }
        match &mut self.agent {
            Agent::Up(connection, identities) => Some((connection, identities)),
            _ => None,
        }
    }

    fn open_agent(&mut self, socket: &Path) -> Result<(AgentConnection, Identities), AgentError> {
        let mut connection = AgentConnection::open(socket, self.options.agent_timeouts)?;
        let identities = connection.identities(&mut || {
            (self.notices)("Waiting for the SSH agent (it may be showing a dialog) ...");
        })?;
        Ok((connection, identities))
    }

    fn in_agent(&mut self, is_it: impl Fn(&PublicKey) -> bool) -> Option<(PublicKey, String)> {
        let (_, found) = self.agent()?;
        found.usable.iter().find(|i| is_it(&i.key)).map(|i| (i.key, i.comment.clone()))
    }

    fn sign_with_agent(&mut self, key: &PublicKey, data: &[u8]) -> Result<Signature, AgentError> {
        self.agent();
        let Self { agent, notices, .. } = self;
        let Agent::Up(connection, _) = agent else { return Err(AgentError::Closed) };
        let signed = connection.sign(key, data, &mut || {
            notices("Waiting for the SSH agent to sign (it may want a confirmation) ...");
        });
        // A connection that failed, or that has part of a response left, can't be used again.
        if !matches!(signed, Ok(_) | Err(AgentError::Answer(AgentMessageError::Refused))) {
            self.agent = Agent::Untried;
            if let Err(AgentError::Timeout(_)) = signed {
                self.agent = Agent::None(Some("the SSH agent did not answer".to_owned()));
            }
        }
        signed
    }

    /// Signs, and the first time that a key seals, signs once more on a new connection: a hedged Ed25519 signature
    /// verifies, but would lock the user out.
    fn sign_twice(&mut self, key: &PublicKey, data: &[u8]) -> Result<Signature, SignTwice> {
        let first = self.sign_with_agent(key, data)?;
        if !key.verify(data, &first) {
            return Err(SignTwice::Agent(AgentError::Answer(AgentMessageError::Malformed(
                "its signature does not verify",
            ))));
        }
        if self.deterministic.contains(&key.key_id()) {
            return Ok(first);
        }
        let socket = self.options.agent_socket.clone().ok_or(AgentError::Closed)?;
        let mut connection = AgentConnection::open(&socket, self.options.agent_timeouts)?;
        let second = connection.sign(key, data, &mut || {
            (self.notices)(
                "Waiting for the SSH agent to sign once more (to check that it always signs alike) ...",
            );
        })?;
        if first != second {
            return Err(SignTwice::Final(KeyError::AgentNotDeterministic(key.key_id())));
        }
        self.deterministic.insert(key.key_id());
        Ok(first)
    }

    /// The agent's part of the list of what was tried.
    fn agent_summary(&mut self) -> String {
        if self.options.agent_socket.is_none() {
            return "ssh-agent not available or not running (SSH_AUTH_SOCK is not set)".to_owned();
        }
        match self.agent_identities() {
            Some(Identities { usable, skipped }) if usable.is_empty() && skipped.is_empty() => {
                "the SSH agent holds no keys (or is locked: ssh-add -X)".to_owned()
            }
            Some(Identities { usable, skipped }) => format!(
                "the SSH agent holds {} other Ed25519 keys and {} keys of other types",
                usable.len(),
                skipped.len()
            ),
            None => self.agent_failure().unwrap_or("the SSH agent can't be reached").to_owned(),
        }
    }
}

enum SignTwice {
    /// The key file may still sign.
    Agent(AgentError),
    /// The key file must not be tried.
    Final(KeyError),
}

impl From<AgentError> for SignTwice {
    fn from(error: AgentError) -> Self {
        Self::Agent(error)
    }
}

fn protected(file: KeyOnDisk) -> Result<SealingKey, KeyError> {
    if !file.key.is_protected() {
        return Err(KeyError::NotProtected { path: file.path });
    }
    Ok(SealingKey { public: *file.key.public_key(), file: Some(file) })
}

/// SSH_AGENT_FAILURE gives no reason, so the text lists the likely ones.
fn refusal_text(key: &PublicKey, error: &AgentError) -> String {
    match error {
        AgentError::Answer(AgentMessageError::Refused) => format!(
            "the SSH agent holds {} and refused to sign: you declined, it was added with -c and there is no askpass program, it is limited to some hosts (ssh-add -h), or the agent is locked (ssh-add -X)",
            key.key_id()
        ),
        other => other.to_string(),
    }
}

fn first_line(error: &KeyError) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}
