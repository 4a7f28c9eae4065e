//! Sign-in by a directory: search for the person, then bind as them; and the directory's word on whose key is whose.
//!
//! What may go wrong is settled before: an empty password never reaches the server, names are escaped, several matches are
//! none, references are not followed, and nothing but result code 0 is a success.

mod account;
mod breaker;
mod connection;
mod decoy;
mod directory;
mod escape;
mod failure;
mod groups;
mod key_index;
mod keys;
mod password;
mod settings;
mod source;

pub use directory::Directory;
pub use keys::KeyHolder;
pub use settings::{Kind, LdapSettings};
