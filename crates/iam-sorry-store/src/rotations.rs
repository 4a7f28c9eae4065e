//! Rotations whose new key nobody has confirmed yet: the old key is still there.

use crate::engine::{DbError, Row, params};
use crate::grants::fold;
use crate::writer::Tx;
use crate::{NewRotation, Rotation, RotationChange, Store, StoreError};

const SELECT: &str = "SELECT folded, old_key, new_key, old_was_active, since, delete_after_ms, operation, person FROM rotations";

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
            "INSERT INTO rotations (old_key, new_key, folded, old_was_active, operation, person, since, delete_after_ms)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
             ON CONFLICT (old_key) DO UPDATE SET new_key = excluded.new_key, folded = excluded.folded,
                 old_was_active = excluded.old_was_active, operation = excluded.operation, person = excluded.person,
                 since = excluded.since, delete_after_ms = excluded.delete_after_ms",
            params![
                &new.old_key,
                &new.new_key,
                &fold(&new.user),
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
    pub async fn rotations_of(&self, user: &str) -> Result<Vec<Rotation>, StoreError> {
        let folded = fold(user);
        self.read(move |connection| {
            let sql = format!("{SELECT} WHERE folded = ?1 ORDER BY since, old_key");
            let rows = connection.query(&sql, params![&folded])?;
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
            user: row.text(0)?,
            old_key: row.text(1)?,
            new_key: row.text(2)?,
            old_was_active: row.bool(3)?,
            since: row.int(4)?,
            delete_after_ms: row.optional_int(5)?,
        },
        operation: row.text(6)?,
        person: row.text(7)?,
    })
}
