//! Sessions. The store knows the hash of a token, never the token.

use iam_sorry_core::audit::Event;
use iam_sorry_core::identity::{Identity, Via};

use crate::cursor::{Cursor, List, Window};
use crate::engine::{DbError, Row, params};
use crate::query::Query;
use crate::readers::Queue;
use crate::ssh_keys::origin;
use crate::{PageOf, PageRequest, Session, SessionKey, Store, StoreError};

/// How many are deleted in one transaction, so that others don't wait long.
const SWEEP: i64 = 1_000;

const SELECT: &str =
    "SELECT id, token_hash, form_hash, identity, method, signed_in_ms, last_used_ms, expires_ms, address,
         key_fingerprint, key_registered_by, via FROM sessions";

impl Store {
    /// Opens a session, with its audit record in the same transaction. Only after that may the token leave.
    ///
    /// # Errors
    /// [`StoreError`]: there is no session (after `Unavailable`, none that anybody has the token of).
    pub async fn create_session(&self, session: Session, event: Event) -> Result<(), StoreError> {
        let identity = json(&session.identity)?;
        let method = json(&session.method)?;
        let person = session.identity.id();
        self.write(move |tx| {
            tx.deferred(
                "INSERT INTO sessions (id, token_hash, form_hash, person, identity, method, signed_in_ms, last_used_ms,
                     expires_ms, address, key_fingerprint, key_registered_by, via)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
                params![
                    &session.id,
                    &session.token_hash,
                    session.form_hash.as_ref(),
                    &person,
                    &identity,
                    &method,
                    session.signed_in_ms,
                    session.last_used_ms,
                    session.expires_ms,
                    &session.address,
                    session.key.as_ref().map(|key| key.fingerprint.as_str()),
                    session.key.as_ref().map(|key| key.registered_by.as_str()),
                    session.via.map(Via::as_str),
                ],
            )?;
            tx.append(&event)?;
            Ok(())
        })
        .await
    }

    /// The session that a token opens, whether expired or not: the caller knows the limits.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn session_by_token_hash(&self, token_hash: &[u8; 32]) -> Result<Option<Session>, StoreError> {
        let hash = *token_hash;
        self.read_in(Queue::Sessions, move |connection| {
            let rows = connection.query(&format!("{SELECT} WHERE token_hash = ?1"), params![&hash])?;
            Ok(rows.into_iter().next().map(session).transpose()?)
        })
        .await
    }

    /// A session by its id.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn session(&self, id: &str) -> Result<Option<Session>, StoreError> {
        let id = id.to_owned();
        self.read_in(Queue::Sessions, move |connection| {
            let rows = connection.query(&format!("{SELECT} WHERE id = ?1"), params![&id])?;
            Ok(rows.into_iter().next().map(session).transpose()?)
        })
        .await
    }

    /// Says that a session was used. Never goes back in time.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn touch_session(&self, id: &str, now_ms: i64) -> Result<(), StoreError> {
        let id = id.to_owned();
        self.write(move |tx| {
            tx.deferred(
                "UPDATE sessions SET last_used_ms = ?1 WHERE id = ?2 AND last_used_ms < ?1",
                params![now_ms, &id],
            )?;
            Ok(())
        })
        .await
    }

    /// The person of a session as they are known now: their groups or their name have changed. The person stays the same.
    /// False: the session has ended, or its person is no longer known as in `before`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn set_session_identity(
        &self,
        id: &str,
        before: &Identity,
        identity: &Identity,
    ) -> Result<bool, StoreError> {
        let (id, person, before, new) = (id.to_owned(), identity.id(), before.clone(), json(identity)?);
        self.write(move |tx| {
            let rows = tx.connection.query(
                "SELECT identity FROM sessions WHERE id = ?1 AND person = ?2",
                params![&id, &person],
            )?;
            let Some(kept) = rows.into_iter().next().map(|mut row| row.text(0)).transpose()? else {
                return Ok(false);
            };
            // Compared as it is meant, since versions before wrote it otherwise.
            if from_json::<Identity>(&kept)? != before {
                return Ok(false);
            }
            // And written only over what was read: another instance may write in between.
            let written = tx.execute(
                "UPDATE sessions SET identity = ?1 WHERE id = ?2 AND person = ?3 AND identity = ?4",
                params![&new, &id, &person, &kept],
            )?;
            Ok(written > 0)
        })
        .await
    }

    /// Ends a session, with its audit record. False, and no record: there was none of that id.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn end_session(&self, id: &str, event: Event) -> Result<bool, StoreError> {
        let id = id.to_owned();
        self.write(move |tx| {
            let ended = tx.execute("DELETE FROM sessions WHERE id = ?1", params![&id])? > 0;
            if ended {
                tx.append(&event)?;
            }
            Ok(ended)
        })
        .await
    }

    /// Ends all sessions of a person, with one audit record. Zero, and no record: there was none.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn end_sessions_of(&self, person: &str, event: Event) -> Result<u64, StoreError> {
        let person = person.to_owned();
        self.write(move |tx| {
            let ended = tx.execute("DELETE FROM sessions WHERE person = ?1", params![&person])?;
            if ended > 0 {
                tx.append(&event)?;
            }
            Ok(ended)
        })
        .await
    }

    /// Sessions, newest first; of one person or of all.
    ///
    /// # Errors
    /// [`StoreError::BadCursor`] and others.
    pub async fn list_sessions(
        &self,
        person: Option<&str>,
        page: PageRequest,
    ) -> Result<PageOf<Session>, StoreError> {
        let window = Window::new(List::Sessions, &page)?;
        let person = person.map(str::to_owned);
        self.read(move |connection| {
            let mut query = Query::new(SELECT);
            if let Some(person) = &person {
                query.and_equal("person", person);
            }
            if let Some(after) = &window.after {
                let marks = [query.mark(after.number), query.mark(&after.text)];
                query.and(&format!("(signed_in_ms, id) < ({})", marks.join(", ")));
            }
            let rows = query.run(connection, "signed_in_ms DESC, id DESC", window.rows())?;
            let sessions = rows.into_iter().map(session).collect::<Result<Vec<_>, _>>()?;
            Ok(window.page(sessions, |session| Cursor::new(session.signed_in_ms, &session.id)))
        })
        .await
    }

    /// Deletes sessions and login flows whose time is over, and sessions that were not used since `idle_since_ms`; up to 1,000
    /// of each. Gives how many sessions went.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn delete_expired(&self, now_ms: i64, idle_since_ms: i64) -> Result<u64, StoreError> {
        self.write(move |tx| {
            tx.deferred(
                "DELETE FROM login_flows WHERE id IN
                     (SELECT id FROM login_flows WHERE expires_ms <= ?1 ORDER BY expires_ms LIMIT ?2)",
                params![now_ms, SWEEP],
            )?;
            let gone = tx.execute(
                "DELETE FROM sessions WHERE id IN
                     (SELECT id FROM sessions WHERE expires_ms <= ?1 OR last_used_ms < ?2 LIMIT ?3)",
                params![now_ms, idle_since_ms, SWEEP],
            )?;
            Ok(gone)
        })
        .await
    }
}

fn session(mut row: Row) -> Result<Session, DbError> {
    Ok(Session {
        id: row.text(0)?,
        token_hash: row.hash(1)?,
        form_hash: row.optional_hash(2)?,
        identity: from_json(&row.text(3)?)?,
        method: from_json(&row.text(4)?)?,
        signed_in_ms: row.int(5)?,
        last_used_ms: row.int(6)?,
        expires_ms: row.int(7)?,
        address: row.text(8)?,
        key: match (row.optional_text(9)?, row.optional_text(10)?) {
            (Some(fingerprint), Some(by)) => Some(SessionKey { fingerprint, registered_by: origin(&by)? }),
            _ => None,
        },
        via: row.optional_text(11)?.map(|text| via(&text)).transpose()?,
    })
}

fn via(text: &str) -> Result<Via, DbError> {
    text.parse().map_err(|_| DbError::Other("an unknown way that a session came about".into()))
}

/// For columns that only the service reads.
pub(crate) fn json(value: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Corrupt(error.to_string()))
}

pub(crate) fn from_json<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, DbError> {
    // The error's own words could repeat a value.
    serde_json::from_str(text).map_err(|_| DbError::Other("a column of JSON can't be read".into()))
}
