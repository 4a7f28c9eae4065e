//! The access key that an operation made, or may have made, and that reached nobody.
//!
//! A key is deleted only by an id that this operation noted, or that its worker remembers: AWS gave it to nobody else. Then there
//! is a record of it in the trail first. A key that is only *found*, after a lost answer, is deactivated at most; why, and which
//! key fits, is at the top of [`iam_sorry_aws::key`], and the command line goes by the same rule. It is recorded
//! (`unaccounted-key`), kept in a table, and counted on /readyz and /metrics, until somebody deletes it (`iam-sorry keys
//! delete`) or shows that it is theirs by activating or using it ([`crate::operations::unaccounted`]).

use iam_sorry_aws::key::lost::{Attempt, Delivered, FirstUse, Window};
use iam_sorry_aws::key::{self, Decided, FoundKey, TakeBackError};
use iam_sorry_core::ids::{AccountName, UserRef};
use iam_sorry_store::UnaccountedKey;

use crate::operations::acted::Effects;
use crate::operations::case::{Case, SettleError, Settled};
use crate::operations::key_journal::KeyJournal;
use crate::operations::notes::Note;

/// From the intent to the end of CreateAccessKey no operation takes longer, seconds.
const MAKING: i64 = 90;

/// What an intent to make a key says about it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyIntent<'a> {
    pub user: &'a UserRef,
    /// When it was written, by AWS's clock, seconds since 1970.
    pub since: i64,
    /// The keys that the user had then, if that was looked up.
    pub before: Option<&'a [String]>,
    pub first_use: FirstUse,
}

/// What became of the key that an operation was to make.
pub(crate) enum LostKey {
    NeverMade,
    Deleted(String),
    /// Nothing proves that it made any of these.
    Perhaps(Vec<UnaccountedKey>),
}

impl LostKey {
    /// The operation is undone. `gone`: keys that had been deleted by others meanwhile; `first`: the account that goes without
    /// saying.
    pub fn undone(self, gone: Vec<String>, first: &AccountName) -> Settled {
        let mut effects = Effects::default();
        let mut text = match self {
            Self::NeverMade => "no access key was made".to_owned(),
            Self::Deleted(id) => {
                let text = format!("the access key {id} was deleted again, since its secret reached nobody");
                effects.deleted_keys.push(id);
                text
            }
            Self::Perhaps(suspects) => {
                let text = suspects_text(&suspects, first);
                effects.unaccounted = suspects;
                text
            }
        };
        if !gone.is_empty() {
            text.push_str(&format!("; the old key {} had been deleted", gone.join(" ")));
            effects.deleted_keys.extend(gone);
        }
        Settled::Undone(text, effects)
    }
}

impl Case<'_> {
    /// Deletes the key that this operation made, if its id is known; what it may have made is deactivated at most.
    pub(crate) async fn take_back_key(&self, intent: KeyIntent<'_>) -> Result<LostKey, SettleError> {
        let noted = self.notes.iter().find_map(|note| match note {
            Note::Key { id } | Note::TakingBackKey { id } => Some(id.as_str()),
            Note::OldKeyInactive | Note::TakingBack | Note::Unaccounted { .. } => None,
        });
        let found: Vec<String> = self.notes.iter().filter_map(found_before).collect();
        let attempt = Attempt {
            key_id: noted,
            before: intent.before,
            window: Window { intent: intent.since, until: intent.since + MAKING },
            first_use: intent.first_use,
            found: &found,
            settled: !self.fresh,
        };
        let (user, journal) = (&intent.user.name, KeyJournal::Reconciler(self, intent.user));
        let (aws, credentials) = self.handle.pair();
        // Had the key been handed out, the operation would not be open.
        let delivered = Delivered::No;
        let now = aws.server_time().unwrap_or_else(|| self.service.clock().now());
        match key::decide(aws, credentials, user, &attempt, delivered, now, &journal).await? {
            Decided::Delete(id) => {
                let retry = self.service.actions().retry_policy();
                let taken_back = key::take_back(aws, credentials, user, &id, &journal, &retry, |_| {}).await;
                match taken_back {
                    Ok(()) => Ok(LostKey::Deleted(id)),
                    Err(TakeBackError::NotNoted(error)) => Err(error.into()),
                    Err(TakeBackError::NotDeleted(error)) => Err(error.into()),
                }
            }
            Decided::Found(found) => {
                let user = intent.user;
                Ok(LostKey::Perhaps(found.into_iter().map(|found| self.unaccounted(user, found)).collect()))
            }
            Decided::TooFresh => Err(SettleError::TooFresh),
            Decided::Nothing | Decided::Stays(_) | Decided::DeliveryUnknown(_) => Ok(LostKey::NeverMade),
        }
    }

    fn unaccounted(&self, user: &UserRef, found: FoundKey) -> UnaccountedKey {
        let FoundKey { suspect, refused } = found;
        if let Some(error) = refused {
            tracing::warn!(key = suspect.key_id, %error, "an unaccounted access key can't be deactivated");
        }
        UnaccountedKey {
            access_key_id: suspect.key_id,
            user: user.clone(),
            operation: self.operation.new.id.clone(),
            found_ms: self.service.clock().now_ms(),
            deactivated: suspect.deactivated,
        }
    }
}

fn found_before(note: &Note) -> Option<String> {
    match note {
        Note::Unaccounted { id } => Some(id.clone()),
        Note::Key { .. } | Note::TakingBackKey { .. } | Note::OldKeyInactive | Note::TakingBack => None,
    }
}

fn suspects_text(suspects: &[UnaccountedKey], first: &AccountName) -> String {
    let mut text = "whether an access key was made is not known. ".to_owned();
    for key in suspects {
        let what = if key.deactivated { "deactivated" } else { "left as it is" };
        text.push_str(&format!("{} may be it and was {what}; ", key.access_key_id));
    }
    let user = suspects.first().map_or_else(|| "NAME".to_owned(), |key| key.user.short(first));
    text.push_str(&format!("if nobody misses it, delete it: iam-sorry keys delete {user} ACCESS_KEY_ID"));
    text
}
