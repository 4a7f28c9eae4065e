//! `doctor`: reports what is wrong, each with a command that fixes it. Changes nothing, except that recovery finishes
//! what a dead run left.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use iam_sorry_aws::AwsError;
use iam_sorry_aws::lookup::caller;
use iam_sorry_core::aws_files::Document;
use iam_sorry_core::credentials::{AccessKey, Credentials};
use iam_sorry_core::seal::{self, Value};
use iam_sorry_core::ssh::key_file::Protection;
use iam_sorry_core::timestamp::human_duration;
use serde_json::json;

use crate::app::App;
use crate::aws;
use crate::error::{Error, ErrorKind, Result};
use crate::profile::{Profile, SEALABLE};
use crate::recovery::{self, RecoveryMode, journal, subject};
use crate::service::{ServiceSession, SessionStore};

/// AWS refuses signatures if the clock is further off (AWS General Reference, "Signature Version 4": 5 minutes).
const CLOCK_LIMIT_SECONDS: i64 = 300;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Severity {
    Ok,
    Warn,
    Bad,
}

/// The result of one check.
struct Diagnosis {
    check: &'static str,
    severity: Severity,
    what: String,
    /// The next command to type. `--json` calls it `fix`.
    fix: Option<String>,
}

fn ok(check: &'static str, what: impl Into<String>) -> Diagnosis {
    Diagnosis { check, severity: Severity::Ok, what: what.into(), fix: None }
}
fn warn(check: &'static str, what: impl Into<String>, fix: impl Into<String>) -> Diagnosis {
    Diagnosis { check, severity: Severity::Warn, what: what.into(), fix: Some(fix.into()) }
}
fn bad(check: &'static str, what: impl Into<String>, fix: impl Into<String>) -> Diagnosis {
    Diagnosis { check, severity: Severity::Bad, what: what.into(), fix: Some(fix.into()) }
}

/// Runs all checks, and fails if one is bad, so that scripts notice.
pub fn run(app: &App, as_json: bool, offline: bool) -> Result<()> {
    let mut diagnoses = Vec::new();
    diagnoses.extend(key_and_agent(app));
    diagnoses.extend(files(app));
    match app.documents() {
        Ok((credentials, config)) => diagnoses.extend(profiles(app, &credentials, &config)),
        Err(error) => diagnoses.push(bad("profiles", error.text, "Fix the file in an editor")),
    }
    if !offline {
        recovery::finish(app, RecoveryMode::Full)?;
    }
    diagnoses.extend(left_over_keys(app));
    diagnoses.extend(sessions(app));
    if !offline {
        diagnoses.extend(service(app));
    }
    if as_json {
        let rows: Vec<_> = diagnoses.iter().map(Diagnosis::to_json).collect();
        app.out.line(serde_json::to_string_pretty(&rows).unwrap_or_default())?;
    } else {
        for diagnosis in &diagnoses {
            diagnosis.print(app)?;
        }
    }
    match diagnoses.iter().filter(|f| f.severity == Severity::Bad).count() {
        0 => Ok(()),
        1 => Err(Error::other("1 thing needs fixing")),
        n => Err(Error::other(format!("{n} things need fixing"))),
    }
}

impl Diagnosis {
    fn print(&self, app: &App) -> Result<()> {
        let text = format!("{}: {}", self.check, self.what.replace('\n', "\n  "));
        match self.severity {
            Severity::Ok => app.out.done(text)?,
            Severity::Warn => app.out.line(format!("⚠ {text}"))?,
            Severity::Bad => app.out.line(format!("✗ {text}"))?,
        }
        match &self.fix {
            Some(fix) => app.out.line(format!("  → {}", fix.replace('\n', "\n    "))),
            None => Ok(()),
        }
    }

    fn to_json(&self) -> serde_json::Value {
        let severity = match self.severity {
            Severity::Ok => "ok",
            Severity::Warn => "warning",
            Severity::Bad => "error",
        };
        json!({ "check": self.check, "status": severity, "what": self.what, "mend": self.fix })
    }
}

/// Sessions at department services, from the local file.
fn sessions(app: &App) -> Vec<Diagnosis> {
    let state = match SessionStore::load(app) {
        Ok(state) => state,
        Err(error) => return vec![bad("session", error.text, "Sign in again: iam-sorry login URL")],
    };
    let diagnosis = |session: &ServiceSession| {
        let (origin, left) = (&session.origin, session.expires_at.seconds_after(app.now()));
        if left > 0 {
            return ok("session", format!("at {origin} as {}, for {}", session.name, human_duration(left)));
        }
        let what = format!("at {origin} ended {} ago", human_duration(-left));
        warn("session", what, format!("iam-sorry login {origin}    (or: iam-sorry logout {origin})"))
    };
    state.all().iter().map(diagnosis).collect()
}

fn key_and_agent(app: &App) -> Vec<Diagnosis> {
    let report = app.key_report();
    let path = report.path.map(|p| p.display().to_string());
    let key = match report.key {
        Ok(facts) => {
            let place = match (facts.in_agent, path) {
                (true, _) => "in the agent".to_owned(),
                (false, Some(path)) => format!("in {path}; each use prompts for its passphrase"),
                (false, None) => "at hand".to_owned(),
            };
            let lock = match facts.protection {
                Some(Protection::Passphrase { cipher, rounds }) => {
                    format!("; protected with {cipher}, {rounds} bcrypt rounds")
                }
                Some(Protection::None) | None => String::new(),
            };
            ok("SSH key", format!("{} {place}{lock}", facts.public.key_id()))
        }
        Err(error) => from_failure("SSH key", &Error::from(error)),
    };
    let start = "Start one: eval $(ssh-agent -s); ssh-add";
    let agent = match report.agent {
        None => warn("ssh-agent", "ssh-agent not available or not running", start),
        Some(Err(why)) => warn("ssh-agent", why, start),
        Some(Ok(found)) if found.usable.is_empty() => {
            warn("ssh-agent", "it holds no ED25519 key", "Load yours: ssh-add ~/.ssh/id_ed25519")
        }
        Some(Ok(found)) => ok("ssh-agent", format!("it holds {} ED25519 key(s)", found.usable.len())),
    };
    vec![key, agent]
}

fn files(app: &App) -> Vec<Diagnosis> {
    let mut diagnoses = Vec::new();
    let path = &app.settings.credentials_file;
    for (path, limit) in [(path.as_path(), 0o600), (path.parent().unwrap_or(Path::new("/")), 0o755)] {
        let Ok(meta) = std::fs::metadata(path) else {
            diagnoses.push(warn(
                "files",
                format!("{} is not there", path.display()),
                "Put keys into it: aws configure --profile usermanager",
            ));
            break;
        };
        let mode = meta.permissions().mode() & 0o777;
        let shown = format!("{} has mode {mode:03o}", path.display());
        diagnoses.push(if mode & !limit == 0 {
            ok("files", shown)
        } else {
            bad(
                "files",
                format!("{shown}: others can read or change it"),
                format!("chmod go-rwx {}", path.display()),
            )
        });
    }
    diagnoses
}

fn profiles(app: &App, credentials: &Document, config: &Document) -> Vec<Diagnosis> {
    let mut diagnoses = Vec::new();
    let now = app.now();
    for profile in
        credentials.profiles().into_iter().filter_map(|name| Profile::find(name, credentials, config))
    {
        let name = &profile.name;
        let values: Vec<_> = SEALABLE.iter().filter_map(|f| profile.field(f)).map(seal::parse).collect();
        if values.iter().any(|v| matches!(v, Ok(Value::Legacy(_)))) {
            diagnoses.push(bad(
                "profiles",
                format!(
                    "'{name}' holds values of the original tool: whoever can read the key file can open them"
                ),
                format!("iam-sorry migrate {name}"),
            ));
        }
        for error in values.iter().filter_map(|v| v.as_ref().err()) {
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default();
            diagnoses.push(bad(
                "profiles",
                format!("'{name}': {first}"),
                "Restore the value from a backup, or make new keys",
            ));
        }
        if profile.kind() == crate::profile::ProfileKind::Permanent && name != "default" {
            diagnoses.push(warn(
                "profiles",
                format!("'{name}' holds permanent keys as plain text"),
                format!("iam-sorry encrypt {name}"),
            ));
        }
        if profile.expiration().is_some_and(|at| at.seconds_after(now) <= 0) {
            diagnoses.push(warn(
                "profiles",
                format!("the credentials of '{name}' have expired"),
                format!("iam-sorry refresh {name}"),
            ));
        }
    }
    if diagnoses.is_empty() {
        diagnoses.push(ok(
            "profiles",
            format!("{} profiles, nothing wrong with them", credentials.profiles().len()),
        ));
    }
    diagnoses
}

fn left_over_keys(app: &App) -> Vec<Diagnosis> {
    let journal = journal(app);
    let listing = match journal.pending() {
        Ok(listing) => listing,
        Err(error) => {
            return vec![bad("left-over keys", error.to_string(), "Fix the folder's mode and owner")];
        }
    };
    let mut diagnoses: Vec<Diagnosis> = listing
        .entries
        .iter()
        .map(|entry| match entry.record.keys_found() {
            Some(found) => warn(
                "left-over keys",
                format!("{} ({})\n{found}", subject(entry), entry.path.display()),
                "Decide, with a question for each: iam-sorry doctor --fix",
            ),
            None => warn(
                "left-over keys",
                subject(entry),
                format!("It is written down in {}", entry.path.display()),
            ),
        })
        .collect();
    for (path, why) in &listing.unreadable {
        diagnoses.push(bad(
            "left-over keys",
            format!("{} can't be read: {why}", path.display()),
            "Look at it, then remove it",
        ));
    }
    if diagnoses.is_empty() {
        diagnoses.push(ok("left-over keys", "none"));
    }
    diagnoses
}

/// Sends STS a request with a key that does not exist: the refusal proves that the endpoint answers, and carries its
/// time.
fn service(app: &App) -> Vec<Diagnosis> {
    let manager = app.manager_name().and_then(|name| app.profile(name).ok());
    let aws = match aws::connect(app, manager.as_ref()) {
        Ok(aws) => aws,
        Err(error) => return vec![from_failure("endpoint", &error)],
    };
    let nobody = AccessKey { id: "AKIAIOSFODNN7EXAMPLE".into(), secret: "doctor".into() };
    let answer = aws::block_on(|_| async { Ok(caller(&aws, &Credentials::from(nobody)).await) });
    let mut diagnoses = Vec::new();
    match answer {
        Ok(Err(
            e @ (AwsError::Unreachable { .. } | AwsError::BadAnswer { .. } | AwsError::PlainHttp { .. }),
        )) => {
            return vec![from_failure("endpoint", &Error::from(e))];
        }
        Err(error) => return vec![from_failure("endpoint", &error)],
        Ok(_) => diagnoses.push(ok("endpoint", "STS answers")),
    }
    match aws.clock_offset() {
        Some(offset) if offset.abs() > CLOCK_LIMIT_SECONDS => diagnoses.push(bad(
            "clock",
            format!(
                "this machine's clock is {} s away from AWS's, which refuses more than {CLOCK_LIMIT_SECONDS}",
                offset.abs()
            ),
            "Set the clock: timedatectl set-ntp true",
        )),
        Some(offset) => diagnoses.push(ok("clock", format!("{} s away from AWS's", offset.abs()))),
        None => {}
    }
    diagnoses
}

fn from_failure(check: &'static str, error: &Error) -> Diagnosis {
    debug_assert!(error.kind != ErrorKind::BrokenPipe);
    match error.text.split_once('\n') {
        Some((what, fix)) => bad(check, what, fix),
        None => bad(check, &error.text, "See: iam-sorry doctor --help"),
    }
}
