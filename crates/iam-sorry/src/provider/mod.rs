//! The credential provider: valid credentials of a profile, from whichever source it has. Knows no command.
//!
//! [`credentials`] is the entry point. `chain` decides where a profile's credentials come from: its own fields, a role,
//! a session of its permanent key, another profile, a refresh. [`refresh`] obtains new ones: with the user's own key,
//! through a [`manager`], or through a department service ([`department`]).

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
mod role;
mod session;
mod singleflight;
mod store;
mod temporary;

pub use chain::{ProfileCredentials, ProvideOptions, credentials};
pub use job::RefreshJob;
pub use mfa::mfa;
