//! Sign-in by SSH key: a challenge, and a signature over it and the service's own origin.

pub mod challenge;
mod keys;
pub mod people_file;
mod settings;

pub use keys::{OFFER, SshKeys};
pub use settings::SshSettings;
