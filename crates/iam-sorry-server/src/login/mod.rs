//! The sign-in methods: each is a source in the registry, proves who somebody is, and gives an `Identity` or a [`LoginError`];
//! nothing else. What follows from a proof is the same for all and is in `sessions/`: limits, audit record, session, the texts
//! that people read. So a new method can't forget any of it, and none of them can hand out a token.
//!
//! | file | what it is |
//! | --- | --- |
//! | `source` | what a method is to the rest of the service: issuer, offer, routes, lookup, and a dialogue of one of three shapes |
//! | `registry` | which methods there are, in the order in which they are offered |
//! | `flow` | the two steps of a dialogue, and what the store keeps between them |
//! | `limits/` | how often an attempt may fail |
//! | `ldap/`, `ssh/`, `dev` | the methods |
//!
//! Whoever is known by a key or a ticket alone is looked up in their source at every sign-in, so that an account that was
//! disabled can't sign in by what was registered before, and groups are as they are now.

pub mod dev;
pub mod error;
pub mod flow;
pub mod ldap;
pub mod limits;
pub mod registry;
pub mod settings;
pub(crate) mod singleflight;
pub mod source;
pub mod ssh;

pub use error::{LoginError, RejectReason, SettingsError};
pub use limits::LimitSettings;
pub use registry::LoginMethods;
pub use settings::LoginSettings;
