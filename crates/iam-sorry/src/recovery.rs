//! Recovery: the next run of any verb finishes what a killed run left in the journal. If the journal is empty, that
//! costs one look at a folder.

use std::time::Duration;

use iam_sorry_aws::journal::{Intent, Journal, Pending, Record, State};
use iam_sorry_aws::recover::{Outcome, Stored, recover};
use iam_sorry_aws::{AwsError, Cancel, Timeouts};

use crate::app::App;
use crate::aws;
use crate::error::{Error, ErrorKind, Result};
use crate::profile::{Profile, StoredKey};

/// What recovery may cost the person who waits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum RecoveryMode {
    /// Before another command: no prompt, and no waiting.
    Opportunistic,
    /// Prompts for passphrases, and waits for AWS.
    Full,
}

/// How long another command waits for an AWS that does not answer.
const OPPORTUNISTIC_TIMEOUT: Duration = Duration::from_secs(5);

/// The journal of this user on this machine.
pub fn journal(app: &App) -> Journal {
    Journal::new(app.settings.state_dir.join("journal"))
}

/// Finishes what dead runs left. A warning names what can't be finished now; the command goes on.
///
/// # Errors
/// Only kind `Interrupted`.
pub fn finish(app: &App, mode: RecoveryMode) -> Result<()> {
    let journal = journal(app);
    let listing = match journal.pending() {
        Ok(listing) => listing,
        Err(error) => {
            app.out.warn(error.to_string());
            return Ok(());
        }
    };
    for entry in listing.entries.iter().filter(|entry| entry.state == State::Dead) {
        let result = finish_one(app, &journal, entry, mode).and_then(|outcome| describe(entry, outcome));
        match result {
            Ok(text) => app.out.progress(text),
            Err(error) if error.kind == ErrorKind::Interrupted => return Err(error),
            Err(error) => app.out.warn(format!("{}: {error}", subject(entry))),
        }
    }
    Ok(())
}

/// The subject of a sentence about an entry.
pub fn subject(entry: &Pending) -> String {
    let user = &entry.record.intent.user;
    match &entry.record.key_id {
        Some(id) => format!("Access key {id} of IAM user '{user}', left by an interrupted run"),
        None => format!("An access key of IAM user '{user}' that an interrupted run may have left"),
    }
}

/// Uses the manager that made the key; if that manager is refused or gone, the manager of this run.
fn finish_one(app: &App, journal: &Journal, entry: &Pending, mode: RecoveryMode) -> Result<Outcome> {
    let recorded = &entry.record.intent.manager;
    let first = finish_as(app, journal, entry, mode, recorded);
    match (first, app.manager_name().filter(|name| name != recorded)) {
        // A user who may make keys but not delete them can rotate no further than this.
        (Err(error), Some(other)) if error.kind != ErrorKind::Interrupted => {
            finish_as(app, journal, entry, mode, other).map_err(|_| error)
        }
        (first, _) => first,
    }
}

fn finish_as(
    app: &App,
    journal: &Journal,
    entry: &Pending,
    mode: RecoveryMode,
    manager: &str,
) -> Result<Outcome> {
    let intent = &entry.record.intent;
    let profile = app.profile(manager).map_err(|_| {
        Error::profile(format!("the manager profile '{manager}' that made it is gone"))
            .hint("Finish it with another: iam-sorry --profile MANAGER doctor")
    })?;
    // The permanent key first: a session of it, which the profile may hold as well, can't call IAM without MFA. After a
    // rotation the profile holds the new key, which was written before the old one was deactivated.
    let key = profile
        .permanent_key()
        .or_else(|| profile.usable_key())
        .ok_or_else(|| app.not_found("Manager profile", manager))?;
    let credentials = match mode {
        RecoveryMode::Full => app.open(&profile, key)?,
        RecoveryMode::Opportunistic => app.open_without_prompt(&profile, key).map_err(|_| {
            Error::key(format!("the manager profile '{manager}' can't be opened without asking"))
                .hint("Finish it now: iam-sorry doctor")
        })?,
    };
    // Read once the entry is locked: a key that was stored in the meantime must not count as lost.
    let holds = |_: &Record, key_id: &str| match target_ids(app, intent, mode) {
        Err(_) | Ok(None) => Stored::Unknown,
        Ok(Some(ids)) if ids.iter().any(|id| id == key_id) => Stored::Yes,
        Ok(Some(_)) => Stored::No,
    };
    let (aws, timeouts) = (aws::connect(app, Some(&profile))?, Timeouts::default());
    aws::block_on(|cancel: Cancel| async move {
        loop {
            // May be dropped at any await: the entry stays until all is done.
            let work = cancel.unless(recover(journal, entry, &aws, &credentials, &timeouts, &holds));
            let outcome = match mode {
                RecoveryMode::Full => work.await?,
                RecoveryMode::Opportunistic => {
                    tokio::time::timeout(OPPORTUNISTIC_TIMEOUT, work).await.map_err(|_| {
                        Error::new(ErrorKind::Aws, "AWS did not answer in time")
                            .hint("Finish it now: iam-sorry doctor")
                    })??
                }
            };
            match outcome {
                Outcome::TooFresh { wait } if mode == RecoveryMode::Full => {
                    app.out.progress(format!("{}: it takes {wait} s until AWS can tell", subject(entry)));
                    tokio::select! {
                        () = tokio::time::sleep(Duration::from_secs(wait.unsigned_abs())) => {}
                        () = cancel.cancelled() => return Err(AwsError::Interrupted.into()),
                    }
                }
                outcome => return Ok(outcome),
            }
        }
    })
}

/// The access keys that the entry's target profile holds; `None` if that can't be determined.
fn target_ids(app: &App, intent: &Intent, mode: RecoveryMode) -> Result<Option<Vec<String>>> {
    let (credentials, config) = app.documents()?;
    if let Some(target) = Profile::find(&intent.target, &credentials, &config) {
        return Ok(stored_ids(app, &target, mode));
    }
    // The profile may have been renamed since, and the key be in use under the new name.
    let may_be_it =
        |profile: &Profile| profile.owner().is_none_or(|owner| owner.eq_ignore_ascii_case(&intent.user));
    let all = credentials.profiles().into_iter();
    let ids: Option<Vec<Vec<String>>> = all
        .filter_map(|name| Profile::find(name, &credentials, &config))
        .filter(may_be_it)
        .map(|profile| stored_ids(app, &profile, mode))
        .collect();
    Ok(ids.map(|ids| ids.concat()))
}

/// The access keys that a profile holds; `None` if they can't be opened in this mode.
fn stored_ids(app: &App, profile: &Profile, mode: RecoveryMode) -> Option<Vec<String>> {
    let keys: [Option<StoredKey<'_>>; 2] = [profile.active_key(), profile.kept_key()];
    let open = |key| match mode {
        RecoveryMode::Full => app.open(profile, key),
        RecoveryMode::Opportunistic => app.open_without_prompt(profile, key),
    };
    keys.into_iter()
        .flatten()
        .map(|key| open(key).map(|credentials| credentials.access_key_id).ok())
        .collect()
}

fn describe(entry: &Pending, outcome: Outcome) -> Result<String> {
    let user = &entry.record.intent.user;
    let failed = |text: String| Err(Error::other(text));
    match outcome {
        Outcome::Deleted { key_id } => {
            Ok(format!("Access key {key_id} of IAM user '{user}', left by an interrupted run, is deleted"))
        }
        Outcome::NothingMade => {
            Ok(format!("An interrupted run had made no access key for IAM user '{user}'"))
        }
        Outcome::Kept { key_id } => {
            Ok(format!("Access key {key_id} of IAM user '{user}' is in its profile and stays"))
        }
        Outcome::Busy | Outcome::Gone => Ok(format!("{}: another run is at it", subject(entry))),
        Outcome::TooFresh { wait } => {
            failed(format!("AWS can tell in {wait} s\nFinish it then: iam-sorry doctor"))
        }
        Outcome::Unclear { candidates } => failed(format!(
            "several keys fit ({}), so none was touched\nDelete the right one by hand, then {}",
            candidates.join(", "),
            entry.path.display()
        )),
        Outcome::ProfileUnknown { .. } => failed(format!(
            "whether profile '{}' holds it can't be told without opening it\nFinish it: iam-sorry doctor",
            entry.record.intent.target
        )),
        Outcome::OtherAccount { account, endpoint } => failed(match endpoint {
            Some(endpoint) => format!(
                "it is in account {account} at {endpoint}\nRun iam-sorry doctor with AWS_ENDPOINT_URL={endpoint}"
            ),
            None => format!("it is in account {account}\nRun iam-sorry doctor where that account is reached"),
        }),
        other => failed(format!("{other:?}")),
    }
}
