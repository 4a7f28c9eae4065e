//! Finishing what a dead run left: deletes the access key that a journal entry speaks of, and only ever that one.

use std::path::Path;
use std::time::Duration;

use iam_sorry_core::credentials::Credentials;
use iam_sorry_core::names::UserName;
use tokio::time::Instant;

use crate::client::Aws;
use crate::clock::now_ms;
use crate::errors::{AwsError, LastUsed};
use crate::journal::{Journal, Pending, State};
use crate::key::delete_key;
use crate::lookup::{caller, keys_of, last_used};
use crate::record::{Fact, Purpose, Record};
use crate::wait::Timeouts;

/// How long another run may take between asking for a key and writing down its ID; more is an entry that hangs.
const MAKING: Duration = Duration::from_secs(30);

/// Whether the target profile holds the key that an entry speaks of; the caller looks, since only it can read
/// profiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// It does: the key is in use and stays.
    Yes,
    /// It does not: nobody has the secret, the key goes.
    No,
    /// It can't be told now (sealed, and nobody there to open it): the entry stays.
    Unknown,
}

/// What became of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The key is deleted, or was already gone; the entry is cleared.
    Deleted {
        /// The key.
        key_id: String,
    },
    /// No key was ever made; the entry is cleared.
    NothingMade,
    /// The key is in its profile and stays; the entry is cleared.
    Kept {
        /// The key.
        key_id: String,
    },
    /// Its owner is at work, or may be on another machine; left alone.
    Busy,
    /// Too fresh to be sure what exists; left for a later run.
    TooFresh {
        /// Seconds until it can be decided.
        wait: i64,
    },
    /// Several keys fit and none was touched; a person must decide, then `forget` the entry.
    Unclear {
        /// The keys.
        candidates: Vec<String>,
    },
    /// Whether the key is in its profile can't be told now; left.
    ProfileUnknown {
        /// The key.
        key_id: String,
    },
    /// These credentials belong to another account than the entry; left.
    OtherAccount {
        /// The account that the entry is about.
        account: String,
        /// The IAM endpoint it was written for, where one was configured.
        endpoint: Option<String>,
    },
    /// Somebody else finished it meanwhile.
    Gone,
}

/// Finishes one entry. For a kept key or a rotation, `stored` tells whether the profile holds the key; it is asked once the
/// entry is held, so that nobody who stores the key stands between its look and what is done.
///
/// # Errors
/// As any request; the entry stays.
pub async fn recover(
    journal: &Journal,
    entry: &Pending,
    aws: &Aws,
    manager: &Credentials,
    patience: &Timeouts,
    stored: &dyn Fn(&Record, &str) -> Stored,
) -> Result<Outcome, AwsError> {
    if entry.state != State::Dead {
        return Ok(Outcome::Busy);
    }
    let (open, record) = match journal.take(&entry.path) {
        Ok(Some(taken)) => taken,
        Ok(None) => return Ok(Outcome::Gone),
        Err(AwsError::Journal { source, .. }) if source.kind() == std::io::ErrorKind::WouldBlock => {
            return Ok(Outcome::Busy);
        }
        Err(error) => return Err(error),
    };
    // It was listed a while ago: what counts is what is true now that it is ours.
    if Journal::owner_lives(&record) {
        return Ok(Outcome::Busy);
    }
    let intent = &record.intent;
    // In another account every key is "no such entity", which must not pass for "deleted".
    let elsewhere =
        Outcome::OtherAccount { account: intent.account.clone(), endpoint: intent.endpoint.clone() };
    if intent.endpoint != aws.settings().endpoint_iam || caller(aws, manager).await?.account != intent.account
    {
        return Ok(elsewhere);
    }
    let user = UserName::parse(&intent.user)
        .map_err(|e| AwsError::Journal { path: entry.path.clone(), source: std::io::Error::other(e.0) })?;
    let key_id = match record.key_id.clone() {
        Some(id) => id,
        None => {
            let settle = i64::try_from(patience.settle.as_millis()).unwrap_or(i64::MAX);
            let settled = record.heartbeat_ms.max(intent.at_ms).saturating_add(settle);
            let wait = settled.saturating_sub(now_ms());
            // Writing down the candidates touched the file; they were looked for in good time before.
            if wait > 0 && record.unclear.is_empty() {
                return Ok(Outcome::TooFresh { wait: wait / 1000 + 1 });
            }
            match search(journal, &entry.path, aws, manager, &record).await? {
                Found::Nothing => {
                    open.clear()?;
                    return Ok(Outcome::NothingMade);
                }
                Found::Several(candidates) => {
                    if record.unclear.is_empty() {
                        open.note(&Fact::Unclear(candidates.clone()))?;
                    }
                    return Ok(Outcome::Unclear { candidates });
                }
                Found::One(id) => id,
            }
        }
    };
    if record.key_id.is_some() && intent.purpose != Purpose::Once {
        match stored(&record, &key_id) {
            Stored::Unknown => return Ok(Outcome::ProfileUnknown { key_id }),
            Stored::Yes => {
                if let Purpose::Rotate { old } = &intent.purpose {
                    if !crate::rotate::is_active(aws, manager, &user, &key_id, patience.settle).await? {
                        // The old key may be all that the user has.
                        open.clear()?;
                        return Ok(Outcome::Deleted { key_id });
                    }
                    crate::rotate::retire(aws, manager, &user, old).await?;
                }
                open.clear()?;
                return Ok(Outcome::Kept { key_id });
            }
            Stored::No => {}
        }
    }
    delete_key(aws, manager, &user, &key_id).await?;
    open.clear()?;
    Ok(Outcome::Deleted { key_id })
}

/// Keys that the lost request may have made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Nothing,
    One(String),
    Several(Vec<String>),
}

/// Looks for the key of an entry whose ID was never learnt: not there before, made in the window, never used.
///
/// What this can't tell apart: our request never arrived, and in the same few seconds somebody else made a key for the
/// same user and has not used it. IAM marks a key with nothing of ours, so the window is kept as narrow as can be.
///
/// Once several keys fitted, one that remains later is no proof: the other may have been deleted by its owner.
/// `own` is the entry itself: what other entries speak of is not ours to take.
pub(crate) async fn search(
    journal: &Journal,
    own: &Path,
    aws: &Aws,
    manager: &Credentials,
    record: &Record,
) -> Result<Found, AwsError> {
    let Ok(user) = UserName::parse(&record.intent.user) else { return Ok(Found::Nothing) };
    let listed = match keys_of(aws, manager, &user).await {
        Err(AwsError::NoSuchUser { .. }) => return Ok(Found::Nothing), // keys die with their user
        listed => listed?,
    };
    let window = record.window();
    let mut fitting = Vec::new();
    for key in listed {
        let new = !record.intent.keys_before.contains(&key.id);
        let in_window = key.created.is_some_and(|at| window.contains(&at.unix()));
        if new && in_window && last_used(aws, manager, &key.id).await? == LastUsed::Never {
            fitting.push(key.id);
        }
    }
    // After the list, so that whoever has a key on it has had the time to write it down.
    let others = of_others(journal, own, &record.intent.user).await?;
    fitting.retain(|id| !others.contains(id));
    if !record.unclear.is_empty() {
        fitting.retain(|id| record.unclear.contains(id));
        return Ok(if fitting.is_empty() { Found::Nothing } else { Found::Several(fitting) });
    }
    Ok(match fitting.len() {
        0 => Found::Nothing,
        1 => fitting.pop().map_or(Found::Nothing, Found::One),
        _ => Found::Several(fitting),
    })
}

/// Keys of the user that other entries speak of. One that is being made right now is waited for.
async fn of_others(journal: &Journal, own: &Path, user: &str) -> Result<Vec<String>, AwsError> {
    let start = Instant::now();
    loop {
        let entries = journal.pending()?.entries;
        let others = || entries.iter().filter(|e| e.path != own && e.record.intent.user == user);
        let unborn = others().any(|e| e.state != State::Dead && e.record.key_id.is_none());
        if !unborn || start.elapsed() > MAKING {
            return Ok(others().filter_map(|e| e.record.key_id.clone()).collect());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
