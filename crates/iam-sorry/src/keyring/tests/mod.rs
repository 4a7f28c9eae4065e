//! The keyring with real agents, an agent that misbehaves on order, and real key files.

mod agents;
mod files;
mod recipients;
mod terminal;
mod values;

use std::cell::RefCell;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use testkit::{AgentFault, AskPass, FakeAgent, GpgAgent, Home, KeyKind, SshAgent, Stage};

use super::agent::AgentTimeouts;
use super::passphrase::AskpassRequire;
use super::*;

const PASSPHRASE: &str = "correct horse";
const ID: &str = "AKIAIOSFODNN7EXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

/// A keyring in a home of its own, and what it said.
struct Rig {
    home: Home,
    options: KeyringOptions,
    notices: RefCell<Vec<String>>,
}

impl Rig {
    fn new() -> Self {
        let home = Home::new();
        let options = KeyringOptions {
            home: Some(home.path().to_owned()),
            // Generous, since the machine may be busy; the tests of time itself set their own.
            agent_timeouts: AgentTimeouts {
                connect: Duration::from_millis(300),
                notice: Duration::from_secs(60),
                answer: Duration::from_secs(60),
            },
            ..KeyringOptions::default()
        };
        Self { home, options, notices: RefCell::default() }
    }

    /// With `~/.ssh/id_ed25519` under [`PASSPHRASE`].
    fn with_key() -> Self {
        let rig = Self::new();
        rig.home.ssh_key(PASSPHRASE);
        rig
    }

    fn key_path(&self) -> PathBuf {
        self.home.path().join(".ssh/id_ed25519")
    }

    fn agent(mut self, socket: PathBuf) -> Self {
        self.options.agent_socket = Some(socket);
        self
    }

    fn fake(mut self, agent: &FakeAgent) -> Self {
        self.options.agent_socket = Some(agent.socket());
        self
    }

    fn askpass(mut self, askpass: &AskPass) -> Self {
        self.options.passphrase_prompt.askpass = Some(askpass.path());
        self.options.passphrase_prompt.require = AskpassRequire::Force;
        self.options.passphrase_prompt.environment = vec![("PATH".into(), "/usr/bin:/bin".into())];
        self
    }

    fn keyring(&self) -> Keyring<'_> {
        Keyring::new(self.options.clone(), |text| self.notices.borrow_mut().push(text.to_owned()))
    }

    fn heard(&self) -> String {
        self.notices.borrow().join("\n")
    }

    /// Both fields of profile `p`, sealed for the own key.
    fn sealed(&self) -> Vec<String> {
        seal_both(&mut self.keyring()).unwrap()
    }
}

fn seal_both(keyring: &mut Keyring<'_>) -> Result<Vec<String>, KeyError> {
    let (id, secret) = (SecretString::from(ID), SecretString::from(SECRET));
    keyring.seal_fields(&[("p", "aws_access_key_id", &id), ("p", "aws_secret_access_key", &secret)])
}

fn fields(values: &[String]) -> [(&'static str, &str); 2] {
    [("aws_access_key_id", &values[0]), ("aws_secret_access_key", &values[1])]
}

fn open(keyring: &mut Keyring<'_>, values: &[String]) -> Result<Vec<String>, KeyError> {
    let opened = keyring.open_fields("p", &fields(values))?;
    Ok(opened.iter().map(|s| s.expose_secret().to_owned()).collect())
}

fn public(private: &Path) -> PublicKey {
    let line = fs::read_to_string(private.with_extension("pub")).unwrap();
    PublicKey::parse_line(&line).unwrap().0
}

fn sealed_value(text: &str) -> SealedValue {
    match seal::parse(text) {
        Ok(Value::Sealed(value)) => value,
        other => panic!("{other:?}"),
    }
}

fn salt(text: &str) -> [u8; 32] {
    *sealed_value(text).header().salt()
}
