//! Who makes a request, and where it comes from.

use std::net::IpAddr;

use iam_sorry_core::identity::Identity;

/// Where a request came from.
#[derive(Clone, Debug)]
pub struct RequestSource {
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
    pub source: RequestSource,
}
