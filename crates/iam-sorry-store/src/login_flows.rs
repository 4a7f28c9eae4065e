//! What lies between two steps of a sign-in dialogue: an SSH key's challenge, a one-time link, a trip to a provider.
//!
//! One row for every dialogue, whatever the method. It is named by a random id that only the other side has (the row has the
//! id's hash), it is bound to what both steps must have in common, and it is taken exactly once, in one statement, so that no
//! second step is good twice: not at two instances at once, and not after the database was restarted or failed over, since
//! what follows from a flow is written after the flow is gone.
//!
//! Their number is bounded, for each kind apart: a flood costs the flooder its own flows, and neither those of others nor
//! the disk.
//!
//! | | id | bound to | data |
//! | --- | --- | --- | --- |
//! | SSH key | the nonce | network | key, fingerprint of the request, signed time |
//! | one-time link | the link's secret | | |
//! | OIDC | state | browser | nonce, PKCE verifier, return path |
//! | SAML | RelayState | browser | id of the request, return path |
//! | command line by browser | the request in the address | browser | digest of the verifier, host, code |
//!
//! The last three are what the row is made for and have no dialogue yet.

use crate::engine::{DbError, Row, params};
use crate::writer::{Fault, Tx};
use crate::{SshKey, Store, StoreError, ssh_keys};

/// Which dialogue a flow belongs to. A flow of one kind is nothing to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FlowKind {
    /// A challenge for an SSH key that signs in.
    SshLogin,
    /// A challenge for an SSH key that a signed-in person registers.
    SshRegistration,
    /// The one-time link of `serve --dev`.
    DevLink,
}

impl FlowKind {
    /// The name in the table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SshLogin => "ssh-login",
            Self::SshRegistration => "ssh-registration",
            Self::DevLink => "dev-link",
        }
    }
}

/// Which flow: what its second step has to bring and to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowKey {
    /// Which dialogue.
    pub kind: FlowKind,
    /// The sign-in method or provider that began it, by its id in the service's registry: an answer that comes back to
    /// another one finds nothing.
    pub source: String,
    /// SHA-256 of the random id.
    pub id_hash: [u8; 32],
}

/// A flow: begun by the first step of a dialogue, taken by the second.
#[derive(Clone, PartialEq, Eq)]
pub struct LoginFlow {
    /// Names it.
    pub key: FlowKey,
    /// The service's origin when it began.
    pub origin: String,
    /// The network that the second step must come from; none: from anywhere.
    pub network: Option<String>,
    /// SHA-256 of the cookie that the second step must come with; none: it is not a browser's.
    pub browser_hash: Option<[u8; 32]>,
    /// What the dialogue needs at its second step.
    pub data: Vec<u8>,
    /// Milliseconds since 1970.
    pub begun_ms: i64,
    /// Milliseconds since 1970.
    pub expires_ms: i64,
}

impl std::fmt::Debug for LoginFlow {
    /// Without its data, which may be a secret of the dialogue.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoginFlow")
            .field("kind", &self.key.kind)
            .field("source", &self.key.source)
            .field("expires_ms", &self.expires_ms)
            .finish_non_exhaustive()
    }
}

/// How many flows of one kind may be open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FlowCaps {
    /// Of one share, such as a network or a person. Many people may share a network (a login node), so it is not small.
    pub each: u32,
    /// Of all shares.
    pub total: u32,
}

impl Default for FlowCaps {
    fn default() -> Self {
        Self { each: 256, total: 20_000 }
    }
}

impl Store {
    /// Keeps a flow. `counted_as` says whose share it takes: where that share is used up, its own oldest flows go, so that
    /// nobody else's do. Expired ones go first.
    ///
    /// # Errors
    /// [`StoreError::TooMany`] if all shares together have too many.
    pub async fn begin_login_flow(
        &self,
        flow: LoginFlow,
        counted_as: &str,
        now_ms: i64,
        caps: FlowCaps,
    ) -> Result<(), StoreError> {
        let counted_as = counted_as.to_owned();
        self.write(move |tx| {
            let kind = flow.key.kind;
            tx.deferred("DELETE FROM login_flows WHERE expires_ms <= ?1", params![now_ms])?;
            let mut open = count(tx, kind)?;
            // While all shares together have fewer, none has too many.
            if open >= i64::from(caps.each) {
                // Keep the newest (each - 1) and add one.
                tx.deferred(
                    "DELETE FROM login_flows WHERE id IN (SELECT id FROM login_flows WHERE kind = ?1 AND counted_as = ?2
                         ORDER BY expires_ms DESC, id LIMIT 1000000 OFFSET ?3)",
                    params![kind.as_str(), &counted_as, i64::from(caps.each.saturating_sub(1))],
                )?;
                open = count(tx, kind)?;
            }
            if open >= i64::from(caps.total) {
                return Err(StoreError::TooMany("Too many sign-ins are under way.".into()).into());
            }
            tx.deferred(
                "INSERT INTO login_flows (id, kind, source, counted_as, origin, network, browser, data, begun_ms, expires_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
                params![
                    &flow.key.id_hash,
                    kind.as_str(),
                    &flow.key.source,
                    &counted_as,
                    &flow.origin,
                    flow.network.as_deref(),
                    flow.browser_hash.as_ref(),
                    flow.data.as_slice(),
                    flow.begun_ms,
                    flow.expires_ms,
                ],
            )?;
            Ok(())
        })
        .await
    }

    /// Takes a flow out: exactly one caller gets it, whatever the number of instances. It may have expired, and may be bound to
    /// something else than what the second step came with: the caller checks.
    ///
    /// # Errors
    /// [`StoreError`]: it may be gone, so the dialogue begins anew.
    pub async fn take_login_flow(&self, key: FlowKey) -> Result<Option<LoginFlow>, StoreError> {
        self.write(move |tx| take(tx, &key)).await
    }

    /// As [`Store::take_login_flow`], with what is registered of the SSH key that answered it: one look, in the same
    /// transaction.
    ///
    /// # Errors
    /// As [`Store::take_login_flow`].
    pub async fn take_login_flow_of_key(
        &self,
        key: FlowKey,
        fingerprint: &str,
    ) -> Result<Option<(LoginFlow, Option<SshKey>)>, StoreError> {
        let fingerprint = fingerprint.to_owned();
        self.write(move |tx| {
            let Some(flow) = take(tx, &key)? else { return Ok(None) };
            Ok(Some((flow, ssh_keys::by_fingerprint(tx.connection, &fingerprint)?)))
        })
        .await
    }
}

/// How many of a kind there are, of all shares.
fn count(tx: &mut Tx<'_>, kind: FlowKind) -> Result<i64, DbError> {
    let row = tx.first("SELECT count(*) FROM login_flows WHERE kind = ?1", params![kind.as_str()])?;
    row.map_or(Ok(0), |row| row.int(0))
}

fn take(tx: &mut Tx<'_>, key: &FlowKey) -> Result<Option<LoginFlow>, Fault> {
    let row = tx.first(
        "DELETE FROM login_flows WHERE id = ?1 AND kind = ?2 AND source = ?3
         RETURNING origin, network, browser, data, begun_ms, expires_ms",
        params![&key.id_hash, key.kind.as_str(), &key.source],
    )?;
    Ok(row.map(|row| flow(key, row)).transpose()?)
}

fn flow(key: &FlowKey, mut row: Row) -> Result<LoginFlow, DbError> {
    Ok(LoginFlow {
        key: key.clone(),
        origin: row.text(0)?,
        network: row.optional_text(1)?,
        browser_hash: row.optional_hash(2)?,
        data: row.blob(3)?,
        begun_ms: row.int(4)?,
        expires_ms: row.int(5)?,
    })
}
