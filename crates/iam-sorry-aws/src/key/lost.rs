//! The one rule for a key whose maker died, or did not hear AWS's answer. Pure: what is listed, what the journal says and
//! what time it is come in; what is to be done goes out. The argument for it is at the top of [`crate::key`].

use iam_sorry_core::timestamp::Timestamp;

use crate::errors::LastUsed;
use crate::lookup::ListedKey;

/// How far apart AWS's clock and the reading of it may be, in seconds: its answers have whole seconds, and its machines are
/// not one machine.
const ALLOWANCE: i64 = 2;

/// What a journal says about an attempt to make a key.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// The ID, if AWS's answer was heard.
    pub key_id: Option<&'a str>,
    /// The keys that the user had when the intent was written; `None` if nobody looked.
    pub before: Option<&'a [String]>,
    /// When the key was made, if it was.
    pub window: Window,
    /// When the program uses a key for the first time.
    pub first_use: FirstUse,
    /// The keys that an earlier look found and wrote down.
    pub found: &'a [String],
    /// Whether the request can't have any effect any more, and IAM lists what there is.
    pub settled: bool,
}

/// From the intent to the last moment in which the request can have had its effect, by AWS's clock, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// When the intent was written.
    pub intent: i64,
    /// The last second that counts.
    pub until: i64,
}

/// When a program uses a key that it made for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstUse {
    /// Once its ID is on disk: a used key of an unknown ID is somebody else's.
    AfterNote,
    /// While its ID is being written, at STS alone: a key that STS has seen, and nobody else, may be the program's.
    BesideNote,
}

/// Whether somebody was given the secret of a key whose ID is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// The key is in use and stays.
    Yes,
    /// Nobody has the secret.
    No,
    /// That can't be found out now.
    Unknown,
}

/// A key that IAM lists, with what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// As IAM lists it.
    pub key: ListedKey,
    /// Its last use.
    pub used: LastUsed,
    /// Whether another entry, operation or grant speaks of it.
    pub accounted_for: bool,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The key was delivered: it stays.
    Stays(String),
    /// The journal proves that the key is the program's, and nobody has its secret: it is deleted.
    Delete(String),
    /// Whether this key, which the program made, was delivered can't be found out now: nothing is done.
    DeliveryUnknown(String),
    /// It is too early to decide: nothing is done.
    TooFresh,
    /// No key was made: there is nothing to do.
    Nothing,
    /// This key fits, and it alone: it is deactivated, and a person decides.
    Deactivate(String),
    /// One or more of these may be the key: none is touched, and a person decides.
    Show(Vec<String>),
}

/// Whether the key may be the one, as far as the list says. Only for such a key its last use is worth a request.
pub fn may_be_it(attempt: &Attempt<'_>, key: &ListedKey) -> bool {
    let window = attempt.window.intent.saturating_sub(ALLOWANCE)..=attempt.window.until;
    let was_there = attempt.before.is_some_and(|before| before.contains(&key.id));
    !was_there && key.created.is_some_and(|at| window.contains(&at.unix()))
}

/// What becomes of the key of an attempt that nobody is at work on any more. `listed` are the user's keys; they are looked at
/// only if the attempt's key ID is not known.
pub fn fate(attempt: &Attempt<'_>, delivered: Delivered, listed: &[Candidate]) -> Fate {
    // A key that was there before is never the program's, whatever a file says.
    let there_before = |id: &str| attempt.before.is_some_and(|before| before.iter().any(|key| key == id));
    if let Some(id) = attempt.key_id.filter(|id| !there_before(id)) {
        return match delivered {
            Delivered::Yes => Fate::Stays(id.to_owned()),
            Delivered::No => Fate::Delete(id.to_owned()),
            Delivered::Unknown => Fate::DeliveryUnknown(id.to_owned()),
        };
    }
    if !attempt.settled {
        return Fate::TooFresh;
    }
    let fitting: Vec<&Candidate> = listed.iter().filter(|candidate| fits(attempt, candidate)).collect();
    match fitting[..] {
        [] => Fate::Nothing,
        // If an earlier look found another one, this one may be what its owner has left of the two.
        [alone] if may_be_touched(attempt, alone) && attempt.found.iter().all(|id| *id == alone.key.id) => {
            Fate::Deactivate(alone.key.id.clone())
        }
        _ => Fate::Show(fitting.iter().map(|candidate| candidate.key.id.clone()).collect()),
    }
}

fn fits(attempt: &Attempt<'_>, candidate: &Candidate) -> bool {
    let used_by_another = match &candidate.used {
        LastUsed::Never | LastUsed::Unknown => false,
        LastUsed::At(_, service) => {
            attempt.first_use == FirstUse::AfterNote || !service.eq_ignore_ascii_case("sts")
        }
    };
    may_be_it(attempt, &candidate.key) && !candidate.accounted_for && !used_by_another
}

/// A key that was used may be in use. A key from shortly before the intent is the program's only if AWS's clocks disagree; if
/// nobody looked which keys there were, it is most likely somebody else's.
fn may_be_touched(attempt: &Attempt<'_>, candidate: &Candidate) -> bool {
    let before_the_intent = candidate.key.created.is_none_or(|at| at.unix() < attempt.window.intent);
    candidate.used == LastUsed::Never && (attempt.before.is_some() || !before_the_intent)
}

/// A key that an earlier look found, as it was written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspect {
    /// The key.
    pub key_id: String,
    /// Whether it was deactivated (or is about to be), since it fitted alone.
    pub deactivated: bool,
    /// When it was found, by AWS's clock: a later use is somebody's who has its secret. [`Timestamp::EPOCH`] if it can't have
    /// been used by the program itself, so that any use counts.
    pub found: Timestamp,
}

/// How a suspect stands now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A person must still decide.
    Undecided,
    /// It was deleted.
    Deleted,
    /// It had been deactivated, and somebody activated it.
    Activated,
    /// Somebody used it.
    Used,
}

impl Standing {
    /// In words, to go on after "the access key"; `None` for [`Standing::Undecided`].
    pub fn accounted_for(self) -> Option<&'static str> {
        match self {
            Self::Undecided => None,
            Self::Deleted => Some("it was deleted"),
            Self::Activated => Some("somebody activated it"),
            Self::Used => Some("somebody used it"),
        }
    }
}

/// Whether a suspect is accounted for by now. Nobody has the secret of a key that was really lost.
pub fn standing(suspect: &Suspect, listed: Option<&ListedKey>, used: &LastUsed) -> Standing {
    match listed {
        None => Standing::Deleted,
        Some(key) if suspect.deactivated => match key.active {
            true => Standing::Activated,
            // Also if it was used before: its owner has to activate it.
            false => Standing::Undecided,
        },
        Some(_) if matches!(used, LastUsed::At(at, _) if *at > suspect.found) => Standing::Used,
        Some(_) => Standing::Undecided,
    }
}

#[cfg(test)]
mod tests;
