//! The access key that an operation made, or may have made, and that reached nobody.
//!
//! # Whose key is it
//!
//! A key is deleted only by an id that this operation noted, or that its worker remembers: AWS gave it to nobody else. Then
//! there is a record of it in the trail first. IAM lets nothing be tied to a key when it is made (no tag, no token of the
//! request), so a key that is *found* after a lost answer is never proved to be the operation's, however well it fits: the
//! request may not have arrived, and an administrator may have made a key in the same second. A key that fits is of this user,
//! made within [`MAKING`] after the intent by AWS's clock, not there before, in no grant, and was never used, since nobody has
//! the secret of the operation's. If exactly one fits, it is deactivated, which its owner can take back; if several do, at most
//! one is the operation's, and none is touched. Either way it is recorded (`unaccounted-key`), kept in a table, and counted on
//! /readyz and /metrics, until somebody deletes it (`iam-sorry keys delete`) or shows that it is theirs by activating or using
//! it ([`crate::operations::unaccounted`]). It stays one of the two keys that IAM allows, so after two lost answers a person
//! must decide; no rule could, since time proves nothing either.

use iam_sorry_aws::errors::LastUsed;
use iam_sorry_aws::{AwsError, lookup, primitives};
use iam_sorry_core::names::UserName;
use iam_sorry_store::UnaccountedKey;

use crate::operations::acted::Effects;
use crate::operations::case::{Case, SettleError, Settled};
use crate::operations::notes::Note;
use crate::operations::outcome::undoing_event;
use crate::operations::unaccounted::UNACCOUNTED_KEY;

/// From the intent to the end of CreateAccessKey no operation takes longer, seconds.
const MAKING: i64 = 90;

/// How far AWS's clock may seem ahead of itself: its answers have whole seconds.
const ALLOWANCE: i64 = 2;

/// What became of the key that an operation was to make.
pub(crate) enum LostKey {
    NeverMade,
    Deleted(String),
    /// Nothing proves that it made any of these.
    Perhaps(Vec<UnaccountedKey>),
}

impl LostKey {
    /// The operation is undone. `gone`: keys that had been deleted by others meanwhile.
    pub fn undone(self, gone: Vec<String>) -> Settled {
        let mut effects = Effects::default();
        let mut text = match self {
            Self::NeverMade => "no access key was made".to_owned(),
            Self::Deleted(id) => {
                let text = format!("the access key {id} was deleted again, since its secret reached nobody");
                effects.deleted_keys.push(id);
                text
            }
            Self::Perhaps(suspects) => {
                let text = suspects_text(&suspects);
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
    /// Deletes the key that this operation made, if that is known; what it may have made is deactivated at most. `since`: when
    /// the intent was written, by AWS's clock; `before`: keys that were there then.
    pub(crate) async fn take_back_key(
        &self,
        name: &UserName,
        since: i64,
        before: &[String],
    ) -> Result<LostKey, SettleError> {
        let noted = self.notes.iter().find_map(|note| match note {
            Note::Key { id } | Note::TakingBackKey { id } => Some(id.clone()),
            Note::OldKeyInactive | Note::TakingBack | Note::Unaccounted { .. } => None,
        });
        let Some(id) = noted else {
            self.not_fresh()?;
            return self.suspects(name, since, before).await;
        };
        let note = Note::TakingBackKey { id: id.clone() };
        if !self.noted(&note) {
            self.note_undoing(&note, &format!("access key {id}, which it made")).await?;
        }
        let (aws, credentials) = self.handle.pair();
        let timeouts = self.service.actions().timeouts();
        primitives::delete_key_surely(aws, credentials, name, &id, &timeouts).await?;
        Ok(LostKey::Deleted(id))
    }

    /// Keys that the operation may have made; one that is alone is deactivated.
    async fn suspects(&self, name: &UserName, since: i64, before: &[String]) -> Result<LostKey, SettleError> {
        let (aws, credentials) = self.handle.pair();
        let keys = match lookup::keys_of(aws, credentials, name).await {
            Err(AwsError::NoSuchUser { .. }) => return Ok(LostKey::NeverMade), // keys die with their user
            keys => keys?,
        };
        let known = self.service.store().unaccounted_keys().await?;
        let window = since - ALLOWANCE..=since + MAKING;
        let mut found = Vec::new();
        for key in keys {
            let fits = key.created.is_some_and(|at| window.contains(&at.unix()))
                && !before.contains(&key.id)
                && !known.iter().any(|known| known.access_key_id == key.id)
                && self.service.store().grant_of_key(&key.id).await?.is_none();
            if fits {
                found.push((lookup::last_used(aws, credentials, &key.id).await?, key));
            }
        }
        // The service itself may have used a key at STS before its id was on disk. Any other use is somebody else's.
        found.retain(|(used, _)| !matches!(used, LastUsed::At(_, by) if !by.eq_ignore_ascii_case("sts")));
        let alone = found.len() == 1;
        let mut suspects = Vec::new();
        for (used, key) in found {
            let deactivate = alone && used == LastUsed::Never;
            self.note_unaccounted(name, &key.id, deactivate).await?;
            if deactivate && key.active {
                primitives::set_key_active(aws, credentials, name, &key.id, false).await?;
            }
            suspects.push(UnaccountedKey {
                access_key_id: key.id,
                resource: name.as_str().to_owned(),
                operation: self.operation.new.id.clone(),
                found_ms: self.service.clock().now_ms(),
                deactivated: deactivate,
            });
        }
        Ok(if suspects.is_empty() { LostKey::NeverMade } else { LostKey::Perhaps(suspects) })
    }

    async fn note_unaccounted(&self, name: &UserName, id: &str, deactivate: bool) -> Result<(), SettleError> {
        let note = Note::Unaccounted { id: id.to_owned() };
        if self.noted(&note) {
            return Ok(());
        }
        tracing::warn!(operation = self.operation.new.id, user = %name, key = id, deactivate, "an unaccounted access key");
        let what = format!("access key {id}, which it may have made");
        let mut event = undoing_event(&self.operation.event, &what, self.service);
        event.action = UNACCOUNTED_KEY.to_owned();
        event.details.insert("access-key-id".to_owned(), id.to_owned());
        let found = if deactivate { "deactivated" } else { "left as it is" };
        event.details.insert("found".to_owned(), found.to_owned());
        let (id, epoch) = (&self.operation.new.id, self.operation.epoch);
        Ok(self.service.store().note_with_record(id, epoch, note.to_json(), event).await?)
    }
}

fn suspects_text(suspects: &[UnaccountedKey]) -> String {
    let mut text = "whether an access key was made is not known. ".to_owned();
    for key in suspects {
        let what = if key.deactivated { "deactivated" } else { "left as it is" };
        text.push_str(&format!("{} may be it and was {what}; ", key.access_key_id));
    }
    let user = suspects.first().map_or("NAME", |key| key.resource.as_str());
    text.push_str(&format!("if nobody misses it, delete it: iam-sorry keys delete {user} ACCESS_KEY_ID"));
    text
}
