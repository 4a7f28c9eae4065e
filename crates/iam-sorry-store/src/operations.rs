//! Operations: the intent before, what became known on the way, the outcome; each step with its audit record in one
//! transaction, and none by who lost the operation to another.
//!
//! Who has an open operation is its instance and its epoch together. The worker that began it has epoch 0. A reconciler,
//! of this or of another instance, claims it ([`Store::claim`]) before it asks AWS for anything, and so does its next
//! attempt: from then on, what the one before still writes is refused.

use std::time::Duration;

use iam_sorry_core::audit::{Event, RecordId};

use crate::audit::groups_of;
use crate::engine::{Connection, DbError, Param, Row, params};
use crate::instances::millis;
use crate::lanes::{lane_id, record};
use crate::trail::name_of;
use crate::writer::{Fault, Tx};
use crate::{Begun, Finish, NewOperation, Operation, OperationState, Store, StoreError};
use crate::{grants, unaccounted};

/// How many open operations are given at once: more than a service can have under way.
const OPEN: i64 = 10_000;

const SELECT: &str =
    "SELECT o.id, o.person, o.idempotency_key, o.action, o.resource, o.exclusive, o.request_hash, o.plan,
     o.state, o.instance, o.begun_ms, o.result, o.epoch, o.account, a.seq, a.hash, a.line, l.name
     FROM operations o JOIN audit a ON a.seq = o.intent JOIN lanes l ON l.n = o.intent >> 36";

impl Store {
    /// Writes an operation and its intent's audit record, unless the person used the idempotency key before or another open
    /// operation holds the resource. [`Begun::New`]: it is on disk, act.
    ///
    /// After [`StoreError::OutcomeUnknown`] it may be there: call it again with the same id, and `New` means it is.
    ///
    /// # Errors
    /// [`StoreError`]: don't act.
    pub async fn begin(&self, new: NewOperation, intent: Event) -> Result<Begun, StoreError> {
        self.write(move |tx| begin(tx, &new, &intent)).await
    }

    /// Writes down what became known, such as the id of a key that was just made. JSON of the service's own.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] where the operation is no longer this instance's, in this epoch.
    pub async fn note(&self, operation: &str, epoch: i64, note: String) -> Result<(), StoreError> {
        let id = operation.to_owned();
        self.write(move |tx| add_note(tx, &id, epoch, &note)).await
    }

    /// Writes down what is about to be undone, with a record of it in the audit trail: nothing is taken away at AWS that no
    /// record on disk speaks of.
    ///
    /// # Errors
    /// As [`Store::note`]: don't act.
    pub async fn note_with_record(
        &self,
        operation: &str,
        epoch: i64,
        note: String,
        event: Event,
    ) -> Result<(), StoreError> {
        let id = operation.to_owned();
        self.write(move |tx| {
            add_note(tx, &id, epoch, &note)?;
            tx.append(&event)?;
            Ok(())
        })
        .await
    }

    /// Closes an operation: its state and result, grants, users and the outcome's audit record, all or nothing. Gives the
    /// record's place in the trail. The same outcome a second time writes nothing.
    ///
    /// # Errors
    /// [`StoreError::Fenced`] where the operation is no longer this instance's, or was closed in another way.
    pub async fn finish(&self, finish: Finish) -> Result<RecordId, StoreError> {
        self.write(move |tx| close(tx, &finish)).await
    }

    /// An operation with its notes.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn operation(&self, id: &str) -> Result<Option<Operation>, StoreError> {
        let id = id.to_owned();
        self.read(move |connection| by_id(connection, &id)).await
    }

    /// What a person began under an idempotency key.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn operation_by_key(&self, person: &str, key: &str) -> Result<Option<Operation>, StoreError> {
        let (person, key) = (person.to_owned(), key.to_owned());
        self.read(move |connection| by_key(connection, &person, &key)).await
    }

    /// All that are open, of every instance, oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open_operations(&self) -> Result<Vec<Operation>, StoreError> {
        self.read(|connection| {
            let sql = format!("{SELECT} WHERE o.state = 0 ORDER BY o.begun_ms, o.id LIMIT ?1");
            let rows = connection.query(&sql, params![OPEN])?;
            rows.into_iter().map(|row| operation(connection, row)).collect()
        })
        .await
    }

    /// Takes an open operation from whoever has it, as `seen` in a list: its worker, whose task has ended; a reconciler that
    /// gave up for a while; or an instance that is dead, which means that it has not beaten for `silence` (zero: where there can be no other). The look at the
    /// operation, the look at the instance and the change are one transaction, so nobody is robbed who finished or beat in
    /// between.
    ///
    /// `Some`: the operation as it is now, this instance's, in an epoch of its own; what earlier ones `note` and `finish` is
    /// fenced. `None`: it is closed, its instance lives, or somebody else was faster. After [`StoreError::OutcomeUnknown`] it may
    /// be claimed: list it again.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn claim(&self, seen: &Operation, silence: Duration) -> Result<Option<Operation>, StoreError> {
        let (id, from, epoch, silence) =
            (seen.new.id.clone(), seen.instance.clone(), seen.epoch, millis(silence));
        self.write(move |tx| {
            let me = tx.instance;
            if silence > 0 && from != me {
                // Whoever beats at this moment waits, or is waited for: it is either found alive, or learns that it was silent for so
                // long that this was taken over.
                tx.first("SELECT id FROM instances WHERE id = ?1 @LOCK", params![&from])?;
            }
            let rows = tx.execute(
                "UPDATE operations SET instance = ?1, epoch = epoch + ?6
                 WHERE id = ?2 AND instance = ?3 AND epoch = ?4 AND state = 0
                 AND (instance = ?1 OR ?5 = 0 OR NOT EXISTS (SELECT 1 FROM instances i WHERE i.id = ?3 AND i.beat_ms > @NOW - ?5))",
                params![me, &id, &from, epoch, silence, iam_sorry_core::planted!("at-work-before-list": 0, 1)],
            )?;
            if rows == 0 {
                return Ok(None);
            }
            by_id(tx.connection, &id)
        })
        .await
    }
}

fn add_note(tx: &mut Tx<'_>, id: &str, epoch: i64, note: &str) -> Result<(), Fault> {
    own(tx, id, epoch)?;
    tx.deferred(
        "INSERT INTO notes (operation, n, note)
         SELECT ?1, count(*), ?2 FROM notes WHERE operation = ?1",
        params![id, note],
    )?;
    Ok(())
}

fn begin(tx: &mut Tx<'_>, new: &NewOperation, intent: &Event) -> Result<Begun, Fault> {
    // One look for both reasons not to begin; hardly ever is there one. What another instance writes at this moment, a unique
    // index holds against the INSERT below, and this is run again.
    let reason = tx.first(
        "SELECT 0 AS why, id FROM operations WHERE person = ?1 AND idempotency_key = ?2
         UNION ALL
         SELECT 1, id FROM operations WHERE account = ?3 AND resource = ?4 AND state = 0 AND exclusive = 1 AND ?5 = 1
         ORDER BY why LIMIT 1",
        params![
            &new.person,
            &new.idempotency_key,
            &new.account,
            &new.resource,
            iam_sorry_core::planted!("nobody-is-busy": false, new.exclusive)
        ],
    )?;
    if let Some(mut row) = reason {
        if row.bool(0)? {
            return Ok(Begun::Busy(row.text(1)?));
        }
        let seen = by_key(tx.connection, &new.person, &new.idempotency_key)?
            .ok_or_else(|| DbError::Other("an operation without its intent".into()))?;
        // Our own, whose answer was lost on the way: nothing was done on it yet.
        let ours = seen.new.id == new.id
            && seen.instance == tx.instance
            && seen.epoch == 0
            && seen.state == OperationState::Open;
        return Ok(if ours { Begun::New } else { Begun::Seen(Box::new(seen)) });
    }
    let intended = tx.append(intent)?;
    let instance = tx.instance;
    tx.deferred(
        "INSERT INTO operations (id, person, idempotency_key, action, resource, exclusive, request_hash, plan, state,
             instance, begun_ms, intent, account) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, 0, ?9, ?10, ?11, ?12)",
        params![
            &new.id,
            &new.person,
            &new.idempotency_key,
            &new.action,
            &new.resource,
            new.exclusive,
            &new.request_hash,
            &new.plan,
            instance,
            intent.time_ms,
            intended.row,
            &new.account,
        ],
    )?;
    Ok(Begun::New)
}

fn close(tx: &mut Tx<'_>, finish: &Finish) -> Result<RecordId, Fault> {
    let id = &finish.operation;
    let mut row = standing(tx, id)?;
    let (state, person, account) = (state(row.int(0)?)?, row.text(2)?, row.parsed(6)?);
    if iam_sorry_core::planted!("close-not-fenced": false, row.text(1)? != tx.instance || row.int(5)? != finish.epoch)
    {
        return Err(StoreError::Fenced(id.clone()).into());
    }
    if iam_sorry_core::planted!("closed-twice": false, state != OperationState::Open) {
        // Said before, and the answer was lost.
        let same = state == finish.state && row.optional_text(3)?.as_ref() == Some(&finish.result);
        return if same {
            name_of(tx.connection, row.int(4)?)
        } else {
            Err(StoreError::Fenced(id.clone()).into())
        };
    }
    if finish.state == OperationState::Open {
        return Err(StoreError::Corrupt(format!("operation {id} can't be finished as open")).into());
    }
    let outcome = tx.append(&finish.event)?;
    tx.deferred(
        "UPDATE operations SET state = ?1, result = ?2, outcome = ?3 WHERE id = ?4",
        params![finish.state as i64, &finish.result, outcome.row, id],
    )?;
    iam_sorry_core::planted!("grants-not-written": drop(person), grants::apply(tx, &account, &person, finish)?);
    unaccounted::apply(tx, finish)?;
    Ok(outcome.id)
}

/// That the operation is open, this instance's, and in this epoch.
fn own(tx: &mut Tx<'_>, id: &str, epoch: i64) -> Result<(), Fault> {
    let mut row = standing(tx, id)?;
    if row.text(1)? != tx.instance || row.int(5)? != epoch || state(row.int(0)?)? != OperationState::Open {
        return Err(StoreError::Fenced(id.to_owned()).into());
    }
    Ok(())
}

/// `state, instance, person, result, outcome, epoch, account`. Nobody else claims or closes it until the transaction ends.
fn standing(tx: &mut Tx<'_>, id: &str) -> Result<Row, Fault> {
    let sql =
        "SELECT state, instance, person, result, outcome, epoch, account FROM operations WHERE id = ?1 @LOCK";
    tx.first(sql, params![id])?
        .ok_or_else(|| StoreError::Corrupt(format!("there is no operation {id}")).into())
}

fn by_id(connection: &mut dyn Connection, id: &str) -> Result<Option<Operation>, Fault> {
    let rows = connection.query(&format!("{SELECT} WHERE o.id = ?1"), params![id])?;
    rows.into_iter().next().map(|row| operation(connection, row)).transpose()
}

fn by_key(connection: &mut dyn Connection, person: &str, key: &str) -> Result<Option<Operation>, Fault> {
    let sql = format!("{SELECT} WHERE o.person = ?1 AND o.idempotency_key = ?2");
    let rows = connection.query(&sql, params![person, key])?;
    rows.into_iter().next().map(|row| operation(connection, row)).transpose()
}

fn operation(connection: &mut dyn Connection, mut row: Row) -> Result<Operation, Fault> {
    let id = row.text(0)?;
    let notes = connection
        .query("SELECT note FROM notes WHERE operation = ?1 ORDER BY n", &[Param::from(&id)])?
        .into_iter()
        .map(|mut note| note.text(0))
        .collect::<Result<_, _>>()?;
    let lane = lane_id(&row.text(17)?)?;
    let intent = record(Row(row.0.split_off(14)), lane)?;
    let mut event = intent
        .event()
        .map_err(|error| StoreError::Corrupt(format!("the intent of operation {id}: {error}")))?;
    if let Some(groups) = groups_of(connection, &intent)? {
        event.person.groups = groups;
    }
    Ok(Operation {
        new: NewOperation {
            id,
            person: row.text(1)?,
            idempotency_key: row.text(2)?,
            action: row.text(3)?,
            account: row.parsed(13)?,
            resource: row.text(4)?,
            exclusive: row.bool(5)?,
            request_hash: row.text(6)?,
            plan: row.text(7)?,
        },
        state: state(row.int(8)?)?,
        instance: row.text(9)?,
        epoch: row.int(12)?,
        begun_ms: row.int(10)?,
        notes,
        result: row.optional_text(11)?,
        event,
    })
}

fn state(number: i64) -> Result<OperationState, DbError> {
    use OperationState::{Done, Failed, Open, Undone};
    [Open, Done, Failed, Undone]
        .into_iter()
        .find(|state| *state as i64 == number)
        .ok_or_else(|| DbError::Other(format!("operation state {number}")))
}
