//! Nonces that may be signed once. Their number is bounded: a flood costs the flooder's address its own, and the disk
//! nothing.

use crate::engine::{DbError, params};
use crate::writer::{Fault, Tx};
use crate::{Challenge, SshKey, Store, StoreError, ssh_keys};

/// How many challenges may be open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChallengeCaps {
    /// From one address. Many people may share one (a login node), so it is not small.
    pub per_address: u32,
    /// From all.
    pub total: u32,
}

impl Default for ChallengeCaps {
    fn default() -> Self {
        Self { per_address: 256, total: 20_000 }
    }
}

impl Store {
    /// Keeps a challenge. Expired ones go first; where the address has too many, its own oldest go, so that nobody else's do.
    ///
    /// # Errors
    /// [`StoreError::TooMany`] where all addresses together have too many.
    pub async fn put_challenge(
        &self,
        challenge: Challenge,
        address: &str,
        now_ms: i64,
        caps: ChallengeCaps,
    ) -> Result<(), StoreError> {
        let address = address.to_owned();
        self.write(move |tx| {
            tx.deferred("DELETE FROM challenges WHERE expires_ms <= ?1", params![now_ms])?;
            let mut open = count(tx)?;
            // While all addresses together have fewer, none has too many.
            if open >= i64::from(caps.per_address) {
                // Keep the newest (per_address - 1) and add one.
                tx.deferred(
                    "DELETE FROM challenges WHERE nonce IN (SELECT nonce FROM challenges WHERE address = ?1
                         ORDER BY expires_ms DESC, nonce LIMIT 1000000 OFFSET ?2)",
                    params![&address, i64::from(caps.per_address.saturating_sub(1))],
                )?;
                open = count(tx)?;
            }
            if open >= i64::from(caps.total) {
                return Err(StoreError::TooMany("Too many sign-ins are under way.".into()).into());
            }
            tx.deferred(
                "INSERT INTO challenges (nonce, fingerprint, request, time, expires_ms, address)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![
                    &challenge.nonce,
                    &challenge.fingerprint,
                    &challenge.request,
                    &challenge.time,
                    challenge.expires_ms,
                    &address,
                ],
            )?;
            Ok(())
        })
        .await
    }

    /// Takes a challenge out: exactly one caller gets it, whatever the number of instances. It may be expired; the caller
    /// looks.
    ///
    /// # Errors
    /// [`StoreError`]: it may be gone, so the sign-in begins anew.
    pub async fn take_challenge(&self, nonce: &str) -> Result<Option<Challenge>, StoreError> {
        let nonce = nonce.to_owned();
        self.write(move |tx| take(tx, &nonce)).await
    }

    /// As [`Store::take_challenge`], with what is registered of the key that signed it: one look, in the same transaction.
    ///
    /// # Errors
    /// As [`Store::take_challenge`].
    pub async fn take_login_challenge(
        &self,
        nonce: &str,
        fingerprint: &str,
    ) -> Result<Option<(Challenge, Option<SshKey>)>, StoreError> {
        let (nonce, fingerprint) = (nonce.to_owned(), fingerprint.to_owned());
        self.write(move |tx| {
            let Some(challenge) = take(tx, &nonce)? else { return Ok(None) };
            Ok(Some((challenge, ssh_keys::by_fingerprint(tx.connection, &fingerprint)?)))
        })
        .await
    }
}

/// How many there are, of all addresses.
fn count(tx: &mut Tx<'_>) -> Result<i64, DbError> {
    tx.first("SELECT count(*) FROM challenges", &[])?.map_or(Ok(0), |row| row.int(0))
}

fn take(tx: &mut Tx<'_>, nonce: &str) -> Result<Option<Challenge>, Fault> {
    let row = tx.first(
        "DELETE FROM challenges WHERE nonce = ?1 RETURNING nonce, fingerprint, request, time, expires_ms",
        params![nonce],
    )?;
    let Some(mut row) = row else { return Ok(None) };
    Ok(Some(Challenge {
        nonce: row.text(0)?,
        fingerprint: row.text(1)?,
        request: row.text(2)?,
        time: row.text(3)?,
        expires_ms: row.int(4)?,
    }))
}
