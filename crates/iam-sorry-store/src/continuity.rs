//! Whether the database is still the one that it was: noticed in each transaction, and by those who know more from
//! elsewhere. Once it is not, nothing more is written until the program ends: the records of this instance would be
//! put behind a trail that somebody cut.

use std::sync::Mutex;

use iam_sorry_core::audit::{Checkpoint, Event, RecordId};

use crate::engine::params;
use crate::lanes::{Locked, OwnTrail, number};
use crate::writer::{Fault, Tx};
use crate::{Store, StoreError, sinks, thread};

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

/// Whether what was read of the trail now can follow what is known of it. Nobody else writes to this instance's lane; that it
/// was ended by another one contradicts nothing.
pub(crate) fn contradicts(known: &OwnTrail, now: &Locked) -> Option<String> {
    let chain = match now {
        Locked::Gone => {
            return Some(
                "the records of this instance are gone: the trail was cut, or is an older copy".to_owned(),
            );
        }
        Locked::Trail(chain) | Locked::Lane { chain, .. } => *chain,
    };
    if chain != known.chain {
        return Some(format!("the database holds another trail, {chain}, than before, {}", known.chain));
    }
    let (Some((_, before)), Locked::Lane { head, .. }) = (known.lane(), now) else { return None };
    if head.seq < before.seq {
        return Some(format!(
            "the trail ended at record {}, and ends at record {} now: it was cut, or is an older copy",
            before.record(),
            head.record()
        ));
    }
    (head.seq == before.seq && head.hash != before.hash)
        .then(|| format!("record {} of the trail is another one than before", head.record()))
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

    /// Goes on after a break, by the operator's decision: each lane ends with its last record that is there, and `event`, in a
    /// new one, says why and gets the place that is returned. Sessions end, since an older copy has some that had ended; sinks that are ahead
    /// begin again at the event; checkpoints over records that are not there go. Old keys of rotations are not deleted by time
    /// any more, since nobody knows who has used which key since.
    ///
    /// # Errors
    /// [`StoreError`]; [`StoreError::Corrupt`] where the last record itself was changed.
    pub async fn continue_after_break(&self, event: Event) -> Result<RecordId, StoreError> {
        self.inner.halt.lift();
        self.write(move |tx| {
            let before = tx.continue_from_last_records(&event)?;
            tx.deferred("DELETE FROM sessions", &[])?;
            // Also those that were taken since the copy was made.
            tx.deferred("DELETE FROM login_flows", &[])?;
            // No other instance runs, and one that was halted could not give back what it held.
            tx.deferred("DELETE FROM leases", &[])?;
            let me = tx.instance;
            tx.deferred("DELETE FROM instances WHERE id <> ?1", params![me])?;
            drop_checkpoints(tx)?;
            sinks::take_back(tx, before.row)?;
            // All that waited when the copy was made would be due at once.
            tx.deferred("UPDATE rotations SET delete_after_ms = NULL", &[])?;
            Ok(before.id)
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

/// Checkpoints over records that are not there go.
fn drop_checkpoints(tx: &mut Tx<'_>) -> Result<(), Fault> {
    loop {
        let sql = "SELECT number, line FROM checkpoints ORDER BY number DESC LIMIT 1";
        let Some(mut row) = tx.first(sql, &[])? else { return Ok(()) };
        let number = row.int(0)?;
        let fits = match Checkpoint::parse(&row.text(1)?) {
            Ok(checkpoint) => covers_what_is_there(tx, &checkpoint)?,
            Err(_) => false,
        };
        if fits {
            return Ok(());
        }
        tx.execute("DELETE FROM checkpoints WHERE number = ?1", params![number])?;
    }
}

fn covers_what_is_there(tx: &mut Tx<'_>, checkpoint: &Checkpoint) -> Result<bool, Fault> {
    for head in checkpoint.heads.iter() {
        let sql = "SELECT n FROM lanes WHERE name = ?1 AND seq >= ?2";
        if tx.first(sql, params![&head.lane.to_string(), number(head.seq)])?.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use iam_sorry_core::audit::{ChainId, LaneHead, LaneId};

    use super::*;
    use crate::lanes::Closing;

    #[test]
    fn an_instances_own_lane_only_grows() {
        let chain = ChainId::from_random([3; 16]);
        let (trail, lane) =
            OwnTrail::of_lane(chain, LaneHead { lane: LaneId::from_bytes([1; 8]), seq: 5, hash: [5; 32] });
        let now = |chain, seq, hash| Locked::Lane {
            chain,
            head: LaneHead { lane, seq, hash },
            filed: 0,
            is_open: true,
        };
        for good in [now(chain, 5, [5; 32]), now(chain, 6, [6; 32])] {
            assert_eq!(contradicts(&trail, &good), None);
        }
        let other = ChainId::from_random([4; 16]);
        for (bad, words) in [
            (now(chain, 4, [4; 32]), "cut"),
            (now(chain, 5, [9; 32]), "another one"),
            (now(other, 9, [9; 32]), "another trail"),
            (Locked::Gone, "gone"),
        ] {
            assert!(contradicts(&trail, &bad).unwrap().contains(words), "{bad:?}");
        }
        let none = OwnTrail::new(chain, Closing::AtTheEnd);
        assert_eq!(contradicts(&none, &Locked::Trail(chain)), None);
        assert!(contradicts(&none, &Locked::Trail(other)).is_some());
    }
}
