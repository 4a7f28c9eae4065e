//! Recovery: the next run of any verb finishes what a killed run left in the journal. If the journal is empty, that
//! costs one look at a folder.

use std::time::Duration;

use iam_sorry_aws::journal::{Intent, JournalFolder, Pending, Record, State};
use iam_sorry_aws::recover::{Outcome, Stored, delete_found, recover};
use iam_sorry_aws::{Aws, AwsError, Cancel, RetryPolicy};
use iam_sorry_core::credentials::Credentials;

use crate::app::App;
use crate::aws;
use crate::error::{Error, ErrorKind, Result};
use crate::profile::{Profile, StoredKey};
use crate::terminal;

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
pub fn journal(app: &App) -> JournalFolder {
    JournalFolder::new(app.settings.state_dir.join("journal"))
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
        let result = match entry.record.suspects() {
            // Nothing but a person's decision is waited for, and that is looked for by who has the time.
            Some(_) if mode == RecoveryMode::Opportunistic => Err(to_be_decided()),
            _ => finish_one(app, &journal, entry, mode).and_then(|outcome| describe(entry, outcome)),
        };
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
    let Record { intent, key_id, found, .. } = &entry.record;
    let user = &intent.user;
    match (key_id, &found[..]) {
        (Some(id), _) => format!("Access key {id} of IAM user '{user}', left by an interrupted run"),
        (None, []) => format!("An access key of IAM user '{user}' that an interrupted run may have left"),
        (None, [id]) => {
            format!("Access key {id} of IAM user '{user}', which an interrupted run may have left")
        }
        (None, ids) => {
            format!(
                "Access keys {} of IAM user '{user}', of which an interrupted run may have left one",
                ids.join(", ")
            )
        }
    }
}

fn to_be_decided() -> Error {
    Error::other("nothing proves whose it is, so a person must decide")
        .hint("See what can be done: iam-sorry doctor")
}

fn finish_one(app: &App, journal: &JournalFolder, entry: &Pending, mode: RecoveryMode) -> Result<Outcome> {
    // Read once the entry is locked: a key that was stored in the meantime must not count as lost.
    let holds = |record: &Record, key_id: &str| match target_ids(app, &record.intent, mode) {
        Err(_) | Ok(None) => Stored::Unknown,
        Ok(Some(ids)) if ids.iter().any(|id| id == key_id) => Stored::Yes,
        Ok(Some(_)) => Stored::No,
    };
    as_a_manager(app, entry, mode, |aws, credentials| {
        let retry = RetryPolicy::default();
        aws::block_on(|cancel: Cancel| async move {
            loop {
                // May be dropped at any await: the entry stays until all is done.
                let work = cancel.unless(recover(journal, entry, aws, credentials, &retry, &holds));
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
    })
}

/// Uses the manager that made the key; if that manager is refused or gone, the manager of this run.
fn as_a_manager<T>(
    app: &App,
    entry: &Pending,
    mode: RecoveryMode,
    work: impl Fn(&Aws, &Credentials) -> Result<T>,
) -> Result<T> {
    let with = |manager: &str| {
        let (aws, credentials) = open(app, manager, mode)?;
        work(&aws, &credentials)
    };
    let recorded = &entry.record.intent.manager;
    let first = with(recorded);
    match (first, app.manager_name().filter(|name| name != recorded)) {
        // A user who may make keys but not delete them can rotate no further than this.
        (Err(error), Some(other)) if error.kind != ErrorKind::Interrupted => with(other).map_err(|_| error),
        (first, _) => first,
    }
}

fn open(app: &App, manager: &str, mode: RecoveryMode) -> Result<(Aws, Credentials)> {
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
    Ok((aws::connect(app, Some(&profile))?, credentials))
}

/// Asks the person at the terminal about each key that was found: whether it is to be deleted, and whether nothing is left to
/// decide. Without a terminal nothing happens, and `--yes` is no answer: the key may be somebody else's.
///
/// # Errors
/// Ctrl-C, and what AWS refuses.
pub fn decide(app: &App) -> Result<()> {
    if !terminal::is_there() {
        return Ok(());
    }
    finish(app, RecoveryMode::Full)?; // what is accounted for by now needs no question
    let journal = journal(app);
    let listing = journal.pending()?;
    for entry in listing.entries.iter().filter(|entry| entry.state == State::Dead) {
        let Some(found) = entry.record.keys_found() else { continue };
        decide_about(app, &journal, entry, &found.keys)?;
    }
    Ok(())
}

fn decide_about(app: &App, journal: &JournalFolder, entry: &Pending, keys: &[String]) -> Result<()> {
    let user = &entry.record.intent.user;
    let mut stay = Vec::new();
    for key in keys {
        let question = format!(
            "Access key {key} of IAM user '{user}' may have been left by an interrupted run, or be somebody's. Delete it?"
        );
        if !terminal::confirm_in_person(app, &question)? {
            stay.push(key.as_str());
            continue;
        }
        let done = as_a_manager(app, entry, RecoveryMode::Full, |aws, credentials| {
            let retry = RetryPolicy::default();
            aws::block_on(|cancel: Cancel| async move {
                Ok(cancel.unless(delete_found(journal, entry, aws, credentials, &retry, key)).await?)
            })
        })?;
        app.out.done(format!("Access key {key} of IAM user '{user}' is deleted"))?;
        if done {
            return Ok(());
        }
    }
    if stay.len() < keys.len() {
        let question =
            format!("Is it known whose {} is, so that nothing is left to decide?", stay.join(", "));
        if terminal::confirm_in_person(app, &question)? {
            journal.forget(entry)?;
        }
    }
    Ok(())
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
        Outcome::Found(found) => failed(found.to_string()),
        Outcome::AccountedFor { keys } => {
            let how =
                keys.iter().filter_map(|(id, standing)| Some(format!("{id}: {}", standing.accounted_for()?)));
            Ok(format!(
                "{}: nothing is left to decide ({})",
                subject(entry),
                how.collect::<Vec<_>>().join("; ")
            ))
        }
        Outcome::ProfileUnknown { .. } => failed(format!(
            "profile '{}' must be opened to see whether it holds the key\nFinish it: iam-sorry doctor",
            entry.record.intent.target
        )),
        Outcome::OtherAccount { account, endpoint } => failed(match endpoint {
            Some(endpoint) => format!(
                "it is in account {account} at {endpoint}\nRun iam-sorry doctor with AWS_ENDPOINT_URL={endpoint}"
            ),
            None => format!(
                "it is in account {account}\nRun iam-sorry doctor in the environment that reaches that account"
            ),
        }),
    }
}
