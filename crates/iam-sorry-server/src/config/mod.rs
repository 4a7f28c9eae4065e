//! The one configuration file (TOML), read and checked once at start. Every concern has a settings struct of its own
//! next to its code; here they become one file. Secrets are never in it: a [`SecretRef`] says where they are.

pub mod aws;
pub mod identity;
mod secret_ref;

pub use secret_ref::{SecretRef, SecretRefError};
