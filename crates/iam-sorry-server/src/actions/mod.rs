//! What people may have done: one file for each action, with its plan, its act, and how it is settled if it was left half done.
//!
//! [`registry`] lists all of them. What several actions share has files of its own: [`user_state`] and [`key_state`] say what IAM
//! shows, [`new_key`] makes and takes back a key, [`rotation`] and [`old_key`] end a rotation, [`session`] hands out temporary
//! credentials, [`policy_change`] attaches and detaches. [`queries`] changes nothing.

pub mod adopt_user;
pub mod assume_role;
pub mod attach_policy;
pub mod confirm_key;
pub mod create_access_key;
pub mod create_user;
pub mod delete_access_key;
pub mod delete_user;
pub mod detach_policy;
pub mod issue_credentials;
pub mod key_state;
pub mod new_key;
pub mod old_key;
pub mod policy_change;
pub mod queries;
pub mod registry;
pub mod restore_key;
pub mod retire_key;
pub mod retiring;
pub mod rotate_key;
pub mod rotation;
#[cfg(test)]
mod sample;
pub mod session;
pub mod session_request;
pub mod settings;
pub mod update_access_key;
pub mod user_state;
