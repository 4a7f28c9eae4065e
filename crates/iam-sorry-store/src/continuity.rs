//! Whether the database is still the one that it was: noticed in each transaction, and by those who know more from
//! elsewhere. Once it is not, nothing more is written until the program ends: the records of this instance would be
//! put behind a trail that somebody cut.

use std::collections::BTreeMap;
use std::sync::Mutex;

use iam_sorry_core::audit::Event;

use crate::chain::{Head, number};
use crate::engine::{DbError, params};
use crate::{Store, StoreError, thread};

/// Why nothing is written any more; the first reason stays.
#[derive(Debug, Default)]
pub(crate) struct Halt(Mutex<Option<String>>);

impl Halt {
    pub(crate) fn say(&self, why: &str) {
        thread::locked(&self.0).get_or_insert_with(|| why.to_owned());
    }

    pub(crate) fn why(&self) -> Option<String> {
        thread::locked(&self.0).clone()
    }

    fn lift(&self) {
        *thread::locked(&self.0) = None;
    }
}

impl Head {
    /// Whether a head that was read now can follow this one, as far as the two show it. Other instances only make it grow.
    pub(crate) fn contradicts(&self, now: &Self) -> Option<String> {
        if now.chain != self.chain {
            return Some(format!(
                "the database holds another trail, {}, than before, {}",
                now.chain, self.chain
            ));
        }
        if now.seq < self.seq {
            return Some(format!(
                "the trail ended at record {}, and ends at record {} now: it was cut, or is an older copy",
                self.seq, now.seq
            ));
        }
        (now.seq == self.seq && now.hash != self.hash)
            .then(|| format!("record {} of the trail is another one than before", now.seq))
    }
}

impl Store {
    /// What makes the database another one than it was, in words without a path; then nothing is written any more.
    pub fn contradiction(&self) -> Option<String> {
        self.inner.halt.why()
    }

    /// Stops all writing, for what is known from elsewhere: every write is [`StoreError::Contradicted`] from here on.
    pub fn halt(&self, why: &str) {
        self.inner.halt.say(why);
    }

    /// Goes on after a break, by the operator's decision, from the last record that is there; `event` says it in the trail
    /// and gets the place that is returned. Sessions end, since an older copy has some that had ended; sinks that are ahead
    /// begin again at the event; checkpoints over records that are not there go. Old keys of rotations are not deleted by time
    /// any more, since nobody knows who has used which key since.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::Corrupt`] where the last record itself was changed.
    pub async fn continue_after_break(&self, event: Event) -> Result<u64, StoreError> {
        self.inner.halt.lift();
        self.write(move |tx| {
            *tx.head = Head::of_last_record(tx.connection)?;
            let last = number(tx.head.seq);
            tx.deferred("DELETE FROM sessions", &[])?;
            // Also those that were taken since the copy was made.
            tx.deferred("DELETE FROM login_flows", &[])?;
            // No other instance runs, and one that was halted could not give back what it held.
            tx.deferred("DELETE FROM leases", &[])?;
            let me = tx.instance;
            tx.deferred("DELETE FROM instances WHERE id <> ?1", params![me])?;
            tx.deferred("UPDATE sinks SET seq = ?1 WHERE seq > ?1", params![last])?;
            tx.deferred("DELETE FROM checkpoints WHERE seq > ?1", params![last])?;
            // All that waited when the copy was made would be due at once.
            tx.deferred("UPDATE rotations SET delete_after_ms = NULL", &[])?;
            tx.append(&event)
        })
        .await
    }

    /// How far each sink has come, by its name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn sink_positions(&self) -> Result<BTreeMap<String, u64>, StoreError> {
        self.read(|connection| {
            let rows = connection.query("SELECT name, seq FROM sinks ORDER BY name LIMIT 1000", &[])?;
            Ok(rows
                .into_iter()
                .map(|mut row| Ok((row.text(0)?, row.seq(1)?)))
                .collect::<Result<_, DbError>>()?)
        })
        .await
    }

    /// Whether the last checkpoint of a key is also kept in a file at `place`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn is_state_kept(&self, key_id: &str, place: &str) -> Result<bool, StoreError> {
        let (key_id, place) = (key_id.to_owned(), place.to_owned());
        self.read(move |connection| {
            let sql = "SELECT since_ms FROM signed_states WHERE key_id = ?1 AND place = ?2";
            Ok(!connection.query(sql, params![&key_id, &place])?.is_empty())
        })
        .await
    }

    /// Notes that it is.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn note_state_kept(&self, key_id: &str, place: &str) -> Result<(), StoreError> {
        let (key_id, place) = (key_id.to_owned(), place.to_owned());
        self.write(move |tx| {
            tx.deferred(
                "INSERT INTO signed_states (key_id, place, since_ms) VALUES (?1, ?2, @NOW)
                 ON CONFLICT (key_id, place) DO NOTHING",
                params![&key_id, &place],
            )?;
            Ok(())
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use iam_sorry_core::audit::{ChainId, Hash};

    use super::*;

    #[test]
    fn a_head_only_grows() {
        let chain = ChainId::from_random([3; 16]);
        let head = |chain, seq, hash: Hash| Head { chain, seq, hash };
        let before = head(chain, 5, [5; 32]);
        for good in [before.clone(), head(chain, 6, [6; 32])] {
            assert_eq!(before.contradicts(&good), None);
        }
        for (bad, words) in [
            (head(chain, 4, [4; 32]), "cut"),
            (head(chain, 5, [9; 32]), "another one"),
            (head(ChainId::from_random([4; 16]), 9, [9; 32]), "another trail"),
        ] {
            assert!(before.contradicts(&bad).unwrap().contains(words), "{bad:?}");
        }
    }
}
