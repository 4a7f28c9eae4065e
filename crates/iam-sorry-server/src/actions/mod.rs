//! What people may have done: users, access keys, credentials, policies.

pub mod adopt;
pub mod credentials;
pub mod keys;
pub mod output;
pub mod policies;
pub mod retire;
pub mod settings;
pub mod users;
