//! The AWS account: the handle to it, whose credentials the service acts with, and the tags that say what is its own.

pub mod aws_errors;
pub mod handle;
pub mod identity;
pub mod own_handle;
pub mod registry;
pub mod settings;
pub mod tags;
pub mod user_names;
