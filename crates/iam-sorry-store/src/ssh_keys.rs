//! SSH keys that people registered to sign in with.

use iam_sorry_core::audit::Event;
use iam_sorry_core::identity::KeyOrigin;

use crate::engine::{Connection, DbError, Row, params};
use crate::readers::Queue;
use crate::sessions::{from_json, json};
use crate::{SshKey, Store, StoreError};

/// How many keys one person may have.
const PER_PERSON: i64 = 50;

const SELECT: &str =
    "SELECT fingerprint, public_key, comment, identity, registered_ms, registered_by FROM ssh_keys";

impl Store {
    /// Registers a key that has signed for it, with its audit record. False, and no record: somebody (perhaps the same person)
    /// has registered it so. What anybody registered without a signature gives way.
    ///
    /// # Errors
    /// [`StoreError::TooMany`] beyond 50 keys of one person.
    pub async fn add_ssh_key(&self, key: SshKey, event: Event) -> Result<bool, StoreError> {
        let identity = json(&key.identity)?;
        let person = key.identity.id();
        self.write(move |tx| {
            let count = tx
                .first("SELECT count(*) FROM ssh_keys WHERE person = ?1 AND fingerprint <> ?2", params![&person, &key.fingerprint])?
                .map_or(Ok(0), |row| row.int(0))?;
            if count >= PER_PERSON {
                let text = format!(
                    "You have {PER_PERSON} SSH keys registered, which is the limit.\nRemove one first."
                );
                return Err(StoreError::TooMany(text).into());
            }
            let added = tx.execute(
                "INSERT INTO ssh_keys (fingerprint, public_key, comment, person, identity, registered_ms, registered_by)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (fingerprint) DO UPDATE SET
                     public_key = excluded.public_key, comment = excluded.comment, person = excluded.person,
                     identity = excluded.identity, registered_ms = excluded.registered_ms,
                     registered_by = excluded.registered_by
                 WHERE ssh_keys.registered_by IS NULL",
                params![
                    &key.fingerprint,
                    &key.public_key,
                    &key.comment,
                    &person,
                    &identity,
                    key.registered_ms,
                    key.registered_by.map(KeyOrigin::as_str)
                ],
            )? == 1;
            if added {
                tx.append(&event)?;
            }
            Ok(added)
        })
        .await
    }

    /// Removes a person's key, with its audit record. False, and no record: that person has none such.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn remove_ssh_key(
        &self,
        person: &str,
        fingerprint: &str,
        event: Event,
    ) -> Result<bool, StoreError> {
        let (person, fingerprint) = (person.to_owned(), fingerprint.to_owned());
        self.write(move |tx| {
            let removed = tx.execute(
                "DELETE FROM ssh_keys WHERE person = ?1 AND fingerprint = ?2",
                params![&person, &fingerprint],
            )? == 1;
            if removed {
                tx.append(&event)?;
            }
            Ok(removed)
        })
        .await
    }

    /// A person's keys, oldest first.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn ssh_keys_of(&self, person: &str) -> Result<Vec<SshKey>, StoreError> {
        let person = person.to_owned();
        self.read(move |connection| {
            let sql = format!("{SELECT} WHERE person = ?1 ORDER BY registered_ms, fingerprint LIMIT ?2");
            let rows = connection.query(&sql, params![&person, PER_PERSON])?;
            Ok(rows.into_iter().map(key).collect::<Result<_, _>>()?)
        })
        .await
    }

    /// A key by its fingerprint.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn ssh_key(&self, fingerprint: &str) -> Result<Option<SshKey>, StoreError> {
        let fingerprint = fingerprint.to_owned();
        self.read_in(Queue::Sessions, move |connection| Ok(by_fingerprint(connection, &fingerprint)?)).await
    }
}

/// The registered key of this fingerprint.
pub(crate) fn by_fingerprint(
    connection: &mut dyn Connection,
    fingerprint: &str,
) -> Result<Option<SshKey>, DbError> {
    let rows = connection.query(&format!("{SELECT} WHERE fingerprint = ?1"), params![fingerprint])?;
    rows.into_iter().next().map(key).transpose()
}

/// Reads what [`KeyOrigin::as_str`] wrote.
pub(crate) fn origin(text: &str) -> Result<KeyOrigin, DbError> {
    KeyOrigin::parse(text).ok_or_else(|| DbError::Other("an unknown origin of an SSH key".into()))
}

fn key(mut row: Row) -> Result<SshKey, DbError> {
    Ok(SshKey {
        fingerprint: row.text(0)?,
        public_key: row.text(1)?,
        comment: row.text(2)?,
        identity: from_json(&row.text(3)?)?,
        registered_ms: row.int(4)?,
        registered_by: row.optional_text(5)?.map(|text| origin(&text)).transpose()?,
    })
}
