//! `serve-credentials PROFILE -- CMD`: an endpoint for container credentials on loopback, for as long as the command
//! runs.
//!
//! SDKs call it again before each expiry, so the command never runs out of credentials. Only the main thread has the
//! keyring and obtains credentials; the endpoint's threads request them through a channel (AWS SDKs and Tools Reference
//! Guide, "Container credential provider").

mod endpoint;
mod folder;
mod request;

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use iam_sorry_core::credentials::Credentials;
use iam_sorry_core::shells;
use iam_sorry_core::timestamp::Timestamp;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use secrecy::ExposeSecret;

use crate::app::App;
use crate::error::{Error, ErrorKind, Result};
use crate::keyring::hygiene::{self, CoreLimit};
use crate::provider::{self, ProvideOptions};
use crate::{settings, signals};
use endpoint::{CredentialResponse, Endpoint};
use folder::Folder;

/// Credentials with fewer seconds left are refreshed first: SDKs call again 15 minutes before the end.
const RENEW_BEFORE_SECONDS: i64 = 20 * 60;

/// Permanent keys don't expire, but SDKs require an expiration. They call again before it, when the key may have left
/// the agent.
const PERMANENT_SECONDS: i64 = 30 * 60;

/// Variables that SDKs prefer to the endpoint, besides those that `exec` removes.
const IN_THE_WAY: [&str; 3] = ["AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN", "AWS_ROLE_SESSION_NAME"];

/// What the main thread waits for.
enum ServeEvent {
    /// The endpoint wants credentials.
    Asked(SyncSender<CredentialResponse>),
    /// The command has exited and can be waited for.
    Ended,
}

pub fn run(app: &App, name: &str, command: &[OsString], core_limit: CoreLimit) -> Result<ExitCode> {
    let mut supply = CredentialSupply::open(app, name)?;
    let (sender, receiver) = channel();
    let folder = Folder::new(&app.settings.runtime_dirs)?;
    let token = endpoint::new_token()?;
    let token_file = folder.write("token", token.as_bytes())?;
    let asked = sender.clone();
    let ask = move || {
        let (reply, answer) = sync_channel(1);
        asked.send(ServeEvent::Asked(reply)).ok()?;
        answer.recv_timeout(endpoint::CREDENTIAL_TIMEOUT).ok()
    };
    let endpoint = Endpoint::start(token, ask)?;

    let mut child = child_of(app, name, command, &supply.first)?;
    child.env("AWS_CONTAINER_CREDENTIALS_FULL_URI", endpoint.url());
    child.env("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", &token_file);
    folder::hide_default(app, &folder, &mut child)?;
    let forwarder = Arc::new(SignalForwarder::default());
    let to_child = Arc::clone(&forwarder);
    signals::watch(move |kind| to_child.pass_on(kind))?;
    core_limit.restore();
    let started = child.spawn();
    drop(hygiene::harden());
    match started {
        Ok(child) => wait_for_command(child, &forwarder, sender, &receiver, &mut supply),
        Err(error) => {
            let program = command.first().map_or_else(String::new, |p| p.display().to_string());
            app.out.error(&Error::other(format!("{program} can't be run: {error}")));
            Ok(ExitCode::from(if error.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 }))
        }
    }
}

/// The command, without variables that SDKs prefer to the endpoint.
fn child_of(app: &App, name: &str, command: &[OsString], first: &Credentials) -> Result<Command> {
    let [program, arguments @ ..] = command else {
        return Err(Error::usage("serve-credentials needs a command")
            .hint(format!("iam-sorry serve-credentials {name} -- COMMAND")));
    };
    let mut child = Command::new(program);
    child.args(arguments);
    let profile = app.profile(name)?;
    let variables = shells::environment(first, app.region_of(&profile));
    for name in variables.unset.into_iter().chain(IN_THE_WAY).chain([settings::TOKEN]) {
        child.env_remove(name);
    }
    for (name, value) in variables.set {
        match name {
            "AWS_REGION" | "AWS_DEFAULT_REGION" => child.env(name, value.expose_secret()),
            _ => child.env_remove(name),
        };
    }
    Ok(child)
}

/// Serves credentials until the command exits, and returns its exit code.
fn wait_for_command(
    mut child: Child,
    forwarder: &SignalForwarder,
    sender: Sender<ServeEvent>,
    receiver: &Receiver<ServeEvent>,
    supply: &mut CredentialSupply<'_>,
) -> Result<ExitCode> {
    let waiting = |e: std::io::Error| Error::other(format!("The command can't be waited for: {e}"));
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| Error::other("The command has no process id"))?;
    forwarder.starts(pid);
    std::thread::Builder::new()
        .name("child".into())
        .spawn(move || {
            // Without reaping it: while it is a zombie, its PID is not reused, so no signal hits another process.
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            while matches!(waitid(WaitId::Pid(pid), options), Err(rustix::io::Errno::INTR)) {}
            drop(sender.send(ServeEvent::Ended));
        })
        .map_err(waiting)?;
    while let Ok(event) = receiver.recv() {
        match event {
            ServeEvent::Ended => break,
            // If the client is gone, the credentials are kept for the next request.
            ServeEvent::Asked(reply) => drop(reply.send(supply.answer())),
        }
    }
    forwarder.ends();
    Ok(ExitCode::from(code_of(child.wait().map_err(waiting)?)))
}

/// Forwards signals to the command. Not through the main thread, which may be waiting for an agent or AWS.
#[derive(Default)]
struct SignalForwarder(Mutex<ForwarderState>);

#[derive(Default)]
struct ForwarderState {
    child: Option<Pid>,
    /// Signals that arrived before the command started.
    early: Vec<Signal>,
}

impl SignalForwarder {
    fn pass_on(&self, kind: Signal) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match state.child {
            Some(_) if signals::terminal_signals_child_too(kind) => {}
            // If it has just exited, the signal has no receiver.
            Some(pid) => _ = kill_process(pid, kind),
            None => state.early.push(kind),
        }
    }

    fn starts(&self, pid: Pid) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.child = Some(pid);
        for kind in std::mem::take(&mut state.early) {
            let _ = kill_process(pid, kind);
        }
    }

    /// Its PID may be reused from now on.
    fn ends(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).child = None;
    }
}

/// The command's exit code; 128 + N if signal N killed it, as in shells.
fn code_of(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|n| 128 + n));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// The credentials of one profile, refreshed as needed.
struct CredentialSupply<'a> {
    app: &'a App,
    name: String,
    /// The credentials at the start of the command.
    first: Credentials,
    /// The latest credentials, if they expire.
    latest: Option<Credentials>,
    /// Whether the agent opens the profile without a prompt. Then it is used for each request, so that removing the key
    /// stops the supply.
    by_agent: bool,
}

impl<'a> CredentialSupply<'a> {
    /// Prompts are possible before the command starts; after that, the terminal is the command's.
    fn open(app: &'a App, name: &str) -> Result<Self> {
        app.disable_prompts();
        let (first, by_agent) = match fetch(app, name) {
            Err(error) if error.kind == ErrorKind::Key => {
                app.enable_prompts();
                (fetch(app, name)?, false)
            }
            first => (first?, true),
        };
        let latest = first.expiration.is_some().then(|| first.clone());
        Ok(Self { app, name: name.to_owned(), first, latest, by_agent })
    }

    fn answer(&mut self) -> CredentialResponse {
        let now = self.app.now();
        if let Some(latest) = self.latest.as_ref().filter(|c| left(c, now) >= RENEW_BEFORE_SECONDS) {
            return CredentialResponse::Credentials(latest.to_container_json(now));
        }
        if self.by_agent {
            self.app.disable_prompts();
        }
        let fetched = fetch(self.app, &self.name);
        let now = self.app.now();
        match fetched {
            Ok(fresh) => {
                let until = Timestamp::from_unix(now.unix() + PERMANENT_SECONDS).unwrap_or(now);
                let json = fresh.to_container_json(until);
                self.latest = fresh.expiration.is_some().then_some(fresh);
                CredentialResponse::Credentials(json)
            }
            Err(error) => match self.latest.as_ref().filter(|c| left(c, now) > 0) {
                // Valid credentials are better than an error; the next request tries again.
                Some(latest) => CredentialResponse::Credentials(latest.to_container_json(now)),
                None => CredentialResponse::failed(&error),
            },
        }
    }
}

/// Obtains the credentials.
fn fetch(app: &App, name: &str) -> Result<Credentials> {
    Ok(provider::credentials(app, name, ProvideOptions::default())?.credentials)
}

fn left(credentials: &Credentials, now: Timestamp) -> i64 {
    credentials.seconds_left(now).unwrap_or(0)
}
