//! Access keys that nobody accounts for: found after a request whose answer was lost, and perhaps somebody else's.

use iam_sorry_core::ids::UserRef;

use crate::engine::{DbError, Row, params};
use crate::writer::Tx;
use crate::{Finish, Store, StoreError, UnaccountedKey};

/// How many are given at once; each needed a lost answer of AWS.
const MOST: i64 = 1_000;

/// The part of [`Finish`] that is about them.
pub(crate) fn apply(tx: &mut Tx<'_>, finish: &Finish) -> Result<(), DbError> {
    for key in &finish.unaccounted {
        tx.deferred(
            "INSERT INTO unaccounted_keys (access_key_id, account, resource, folded, operation, found_ms, deactivated)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (access_key_id) DO NOTHING",
            params![
                &key.access_key_id,
                &key.user.account,
                key.user.name.as_str(),
                &key.user.name.folded(),
                &finish.operation,
                key.found_ms,
                key.deactivated,
            ],
        )?;
    }
    for key in &finish.deleted_keys {
        forget(tx, key)?;
    }
    if let Some(user) = &finish.deleted_user {
        tx.deferred(
            "DELETE FROM unaccounted_keys WHERE account = ?1 AND folded = ?2",
            params![&user.account, &user.name.folded()],
        )?;
    }
    Ok(())
}

fn forget(tx: &mut Tx<'_>, access_key_id: &str) -> Result<(), DbError> {
    tx.deferred("DELETE FROM unaccounted_keys WHERE access_key_id = ?1", params![access_key_id])
}

impl Store {
    /// The keys that nobody accounts for, oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn unaccounted_keys(&self) -> Result<Vec<UnaccountedKey>, StoreError> {
        self.read(|connection| {
            let rows = connection.query(
                "SELECT access_key_id, account, resource, operation, found_ms, deactivated FROM unaccounted_keys
                 ORDER BY found_ms, access_key_id LIMIT ?1",
                params![MOST],
            )?;
            Ok(rows.into_iter().map(key).collect::<Result<_, _>>()?)
        })
        .await
    }

    /// A key is accounted for: it is gone, or somebody has shown that it is theirs. Its row goes, and the record of that is
    /// written with it. `false`: there was no such row (any more), and nothing is recorded.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn account_for_key(
        &self,
        access_key_id: &str,
        event: iam_sorry_core::audit::Event,
    ) -> Result<bool, StoreError> {
        let id = access_key_id.to_owned();
        self.write(move |tx| {
            let sql = "DELETE FROM unaccounted_keys WHERE access_key_id = ?1";
            if tx.execute(sql, params![&id])? == 0 {
                return Ok(false);
            }
            tx.append(&event)?;
            Ok(true)
        })
        .await
    }
}

fn key(mut row: Row) -> Result<UnaccountedKey, DbError> {
    Ok(UnaccountedKey {
        access_key_id: row.text(0)?,
        user: UserRef::new(row.parsed(1)?, row.parsed(2)?),
        operation: row.text(3)?,
        found_ms: row.int(4)?,
        deactivated: row.bool(5)?,
    })
}
