//! The credential provider: valid credentials of a profile, whatever that takes. Knows no command.
//!
//! [`credentials`] is the way in. [`chain`](self) decides where a profile's credentials come from: its own fields, a
//! role, a session of its permanent key, another profile, a renewal. [`refresh`] makes new ones: with the user's own key,
//! through a [`manager`] or through a department service ([`department`]).

mod cache;
mod cache_path;
mod chain;
pub mod department;
mod in_progress;
mod job;
pub mod manager;
mod mfa;
mod process;
pub mod refresh;
mod renew;
mod role;
mod session;
mod singleflight;
mod store;

pub use chain::{ProfileCredentials, ProvideOptions, credentials};
pub use job::RefreshJob;
pub use mfa::mfa;
