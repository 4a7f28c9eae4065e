//! The sessions at department services, in `service.json` in the state folder. The only file that holds their tokens.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use iam_sorry_core::ssh::login::Origin;
use iam_sorry_core::timestamp::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::app::App;
use crate::error::{Error, Result};
use crate::files::{FileError, FileMode, Lock, create_folder_of, replace_atomically};

/// How long to wait for another process that writes the file, so that neither loses the other's session.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// A session at one service.
pub struct ServiceSession {
    pub origin: Origin,
    pub token: SecretString,
    pub expires_at: Timestamp,
    /// The person's name, as the service writes it.
    pub name: String,
    /// The SSH key that the person signed in with (`SHA256:...`).
    pub key: Option<String>,
}

/// All sessions, the latest sign-in first.
#[derive(Default)]
pub struct SessionStore {
    sessions: Vec<ServiceSession>,
}

#[derive(Deserialize)]
struct StoredSessions {
    sessions: Vec<StoredSession>,
}

#[derive(Deserialize)]
struct StoredSession {
    origin: Origin,
    token: SecretString,
    expires_at: String,
    name: String,
    #[serde(default)]
    key: Option<String>,
}

impl SessionStore {
    /// Reads the file; no file means no session.
    pub fn load(app: &App) -> Result<Self> {
        let path = path(app);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => Zeroizing::new(bytes),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(e) => return Err(Error::other(format!("{} can't be read: {e}", path.display()))),
        };
        let garbled = || {
            Error::other(format!("{} can't be understood", path.display()))
                .hint("Remove it, then sign in again: iam-sorry login https://HOST")
        };
        let written: StoredSessions = serde_json::from_slice(&bytes).map_err(|_| garbled())?;
        let read = |session: StoredSession| {
            Ok(ServiceSession {
                expires_at: Timestamp::parse(&session.expires_at).map_err(|_| garbled())?,
                origin: session.origin,
                token: session.token,
                name: session.name,
                key: session.key,
            })
        };
        Ok(Self { sessions: written.sessions.into_iter().map(read).collect::<Result<_>>()? })
    }

    /// The session of the latest sign-in.
    pub fn current(&self) -> Option<&ServiceSession> {
        self.sessions.first()
    }

    /// All sessions, the latest sign-in first.
    pub fn all(&self) -> &[ServiceSession] {
        &self.sessions
    }

    /// The session at one service, valid or not.
    pub fn of(&self, origin: &Origin) -> Option<&ServiceSession> {
        self.sessions.iter().find(|session| session.origin == *origin)
    }

    /// Saves a session; it replaces an older one at the same service.
    pub fn save(app: &App, session: ServiceSession) -> Result<()> {
        Self::update(app, |sessions| {
            sessions.retain(|other| other.origin != session.origin);
            sessions.insert(0, session);
        })
    }

    /// Removes the session at one service.
    pub fn remove(app: &App, origin: &Origin) -> Result<()> {
        Self::update(app, |sessions| sessions.retain(|session| session.origin != *origin))
    }

    fn update(app: &App, edit: impl FnOnce(&mut Vec<ServiceSession>)) -> Result<()> {
        let path = path(app);
        create_folder_of(&path)?;
        let _lock = Lock::acquire(&path.with_extension("lock"), LOCK_TIMEOUT).map_err(FileError::from)?;
        let mut state = Self::load(app)?;
        edit(&mut state.sessions);
        replace_atomically(&path, state.to_json().as_bytes(), FileMode::Private)?;
        Ok(())
    }

    fn to_json(&self) -> Zeroizing<String> {
        // Allocated once: a growing buffer would leave copies of tokens behind.
        let room = self.sessions.iter().map(|s| s.token.expose_secret().len() + 4096).sum::<usize>();
        let mut json = Zeroizing::new(String::with_capacity(room + 64));
        json.push_str("{\"sessions\":[");
        for (index, session) in self.sessions.iter().enumerate() {
            json.push_str(if index == 0 { "\n{" } else { ",\n{" });
            let key = session.key.clone().unwrap_or_default();
            let (origin, expires) = (session.origin.to_string(), session.expires_at.to_string());
            let fields = [
                ("origin", origin.as_str()),
                ("token", session.token.expose_secret()),
                ("expires_at", &expires),
                ("name", &session.name),
                ("key", &key),
            ];
            for (number, (name, value)) in fields.into_iter().filter(|(_, v)| !v.is_empty()).enumerate() {
                json.push_str(if number == 0 { "\"" } else { ",\"" });
                json.push_str(name);
                json.push_str("\":\"");
                // Tokens are visible ASCII (the client checks that); names are whatever the service calls people.
                for c in value.chars() {
                    match c {
                        '"' | '\\' => json.extend(['\\', c]),
                        c if c.is_control() => json.push('?'),
                        c => json.push(c),
                    }
                }
                json.push('"');
            }
            json.push('}');
        }
        json.push_str("\n]}\n");
        json
    }
}

fn path(app: &App) -> PathBuf {
    app.settings.state_dir.join("service.json")
}
