//! What the service does, for any face: nothing here knows HTTP, and nobody else decides and acts.
//!
//! Every action goes the same way: decide by the rules, write the intent, act, write the outcome.

mod refusal;

use std::net::IpAddr;

use iam_sorry_core::identity::Identity;

pub use refusal::Refusal;

/// Where a request came from.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The client's address (behind a trusted proxy: what the proxy says).
    pub address: IpAddr,
    /// The request's id.
    pub request_id: String,
}

/// A signed-in person with a request.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Who.
    pub identity: Identity,
    /// Their session.
    pub session: iam_sorry_store::Session,
    /// Where from.
    pub origin: Origin,
}
