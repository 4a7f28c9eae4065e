//! Rotations whose new key nobody has confirmed yet: the old key is still there.

use iam_sorry_core::ids::UserRef;

use crate::engine::{DbError, Row, params};
use crate::writer::Tx;
use crate::{NewRotation, Rotation, RotationChange, Store, StoreError};

const SELECT: &str =
    "SELECT account, folded, old_key, new_key, old_was_active, since, delete_after_ms, operation, person
    FROM rotations";

/// A key is gone.
pub(crate) fn deleted(tx: &mut Tx<'_>, key: &str) -> Result<(), DbError> {
    tx.deferred("DELETE FROM rotations WHERE old_key = ?1", params![key])?;
    // The old key may be the only one that the user has left, so time does not delete it any more.
    tx.deferred("UPDATE rotations SET delete_after_ms = NULL WHERE new_key = ?1", params![key])
}

pub(crate) fn change(
    tx: &mut Tx<'_>,
    operation: &str,
    person: &str,
    change: &RotationChange,
) -> Result<(), DbError> {
    match change {
        RotationChange::Begun(new) => tx.deferred(
            "INSERT INTO rotations (old_key, new_key, account, folded, old_was_active, operation, person, since,
                 delete_after_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
             ON CONFLICT (old_key) DO UPDATE SET new_key = excluded.new_key, account = excluded.account, folded = excluded.folded,
                 old_was_active = excluded.old_was_active, operation = excluded.operation, person = excluded.person,
                 since = excluded.since, delete_after_ms = excluded.delete_after_ms",
            params![
                &new.old_key,
                &new.new_key,
                &new.user.account,
                &new.user.name.folded(),
                new.old_was_active,
                operation,
                person,
                new.since,
                new.delete_after_ms,
            ],
        ),
        RotationChange::Ended { old_key } => {
            tx.deferred("DELETE FROM rotations WHERE old_key = ?1", params![old_key])
        }
    }
}

impl Store {
    /// The rotations of a user's keys that wait for their confirmation.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn rotations_of(&self, user: &UserRef) -> Result<Vec<Rotation>, StoreError> {
        let (account, folded) = (user.account.clone(), user.name.folded());
        self.read(move |connection| {
            let sql = format!("{SELECT} WHERE account = ?1 AND folded = ?2 ORDER BY since, old_key");
            let rows = connection.query(&sql, params![&account, &folded])?;
            Ok(rows.into_iter().map(rotation).collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Those whose old key is to be deleted, since nobody has confirmed the new one until now; the oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn due_rotations(&self, now_ms: i64, limit: u32) -> Result<Vec<Rotation>, StoreError> {
        self.read(move |connection| {
            let sql =
                format!("{SELECT} WHERE delete_after_ms <= ?1 ORDER BY delete_after_ms, old_key LIMIT ?2");
            let rows = connection.query(&sql, params![now_ms, i64::from(limit)])?;
            Ok(rows.into_iter().map(rotation).collect::<Result<_, _>>()?)
        })
        .await
    }
}

fn rotation(mut row: Row) -> Result<Rotation, DbError> {
    Ok(Rotation {
        new: NewRotation {
            user: UserRef::new(row.parsed(0)?, row.parsed(1)?),
            old_key: row.text(2)?,
            new_key: row.text(3)?,
            old_was_active: row.bool(4)?,
            since: row.int(5)?,
            delete_after_ms: row.optional_int(6)?,
        },
        operation: row.text(7)?,
        person: row.text(8)?,
    })
}
