//! `serve-credentials PROFILE -- CMD`: a container-credentials endpoint on loopback, for as long as the command runs.
//!
//! SDKs ask it again before each expiry, so the command never runs out. The main thread alone has the keyring and gets the
//! credentials; the endpoint's threads ask it through a channel (AWS SDKs and Tools Reference Guide, "Container credential
//! provider").

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

/// What has less left is renewed first: SDKs begin to ask again 15 minutes before the end.
const RENEW_BEFORE_SECONDS: i64 = 20 * 60;

/// Permanent keys have no end, but SDKs want one: they ask again before it, and by then the key may be out of the agent.
const PERMANENT_SECONDS: i64 = 30 * 60;

/// What would stand before the container's endpoint in an SDK's search, besides what `exec` takes out.
const IN_THE_WAY: [&str; 3] = ["AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ROLE_ARN", "AWS_ROLE_SESSION_NAME"];

/// What the main thread waits for.
enum ServeEvent {
    /// The endpoint wants credentials.
    Asked(SyncSender<CredentialResponse>),
    /// The command has ended and can be waited for.
    Ended,
}

pub fn run(app: &App, name: &str, command: &[OsString], core_limit: CoreLimit) -> Result<ExitCode> {
    let mut supply = CredentialSupply::open(app, name)?;
    let (events, heard) = channel();
    let folder = Folder::new(&app.settings.runtime_dirs)?;
    let token = endpoint::new_token()?;
    let token_file = folder.write("token", token.as_bytes())?;
    let asked = events.clone();
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
        Ok(child) => attend(child, &forwarder, events, &heard, &mut supply),
        Err(error) => {
            let program = command.first().map_or_else(String::new, |p| p.display().to_string());
            app.out.error(&Error::other(format!("{program} can't be run: {error}")));
            Ok(ExitCode::from(if error.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 }))
        }
    }
}

/// The command, with nothing in its environment that an SDK would take before the endpoint.
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

/// Serves until the command ends, and ends as it did.
fn attend(
    mut child: Child,
    forwarder: &SignalForwarder,
    events: Sender<ServeEvent>,
    heard: &Receiver<ServeEvent>,
    supply: &mut CredentialSupply<'_>,
) -> Result<ExitCode> {
    let waiting = |e: std::io::Error| Error::other(format!("The command can't be waited for: {e}"));
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| Error::other("The command has no process id"))?;
    forwarder.starts(pid);
    std::thread::Builder::new()
        .name("child".into())
        .spawn(move || {
            // Without reaping it: as long as it is a zombie, its number is nobody else's, and no signal goes astray.
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
            while matches!(waitid(WaitId::Pid(pid), options), Err(rustix::io::Errno::INTR)) {}
            drop(events.send(ServeEvent::Ended));
        })
        .map_err(waiting)?;
    while let Ok(event) = heard.recv() {
        match event {
            ServeEvent::Ended => break,
            // The client may have gone away meanwhile; what was fetched is kept for the next one.
            ServeEvent::Asked(reply) => drop(reply.send(supply.answer())),
        }
    }
    forwarder.ends();
    Ok(ExitCode::from(code_of(child.wait().map_err(waiting)?)))
}

/// Where signals go. Not through the main thread, which may be waiting for an agent or AWS.
#[derive(Default)]
struct SignalForwarder(Mutex<ForwarderState>);

#[derive(Default)]
struct ForwarderState {
    child: Option<Pid>,
    /// What came before there was a child.
    early: Vec<Signal>,
}

impl SignalForwarder {
    fn pass_on(&self, kind: Signal) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match state.child {
            Some(_) if signals::came_to_the_child_too(kind) => {}
            // It may have ended this moment: then there is nobody to tell.
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

    /// Its number may soon be another process's.
    fn ends(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).child = None;
    }
}

/// The command's own status; 128 + N where signal N ended it, as shells say it.
fn code_of(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|n| 128 + n));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// The credentials of one profile, again and again.
struct CredentialSupply<'a> {
    app: &'a App,
    name: String,
    /// As they were when the command started.
    first: Credentials,
    /// The latest that expire.
    latest: Option<Credentials>,
    /// Whether the agent opens the profile without a question: then it is asked each time, so that it can stop us.
    by_agent: bool,
}

impl<'a> CredentialSupply<'a> {
    /// Before the command starts there may be questions; while it runs, the terminal is the command's.
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
                // What still works is better than a failure; the next request tries again.
                Some(latest) => CredentialResponse::Credentials(latest.to_container_json(now)),
                None => CredentialResponse::failed(&error),
            },
        }
    }
}

/// The one place where the credentials come from.
fn fetch(app: &App, name: &str) -> Result<Credentials> {
    Ok(provider::credentials(app, name, ProvideOptions::default())?.credentials)
}

fn left(credentials: &Credentials, now: Timestamp) -> i64 {
    credentials.seconds_left(now).unwrap_or(0)
}
