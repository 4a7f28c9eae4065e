//! Signing in, against real directories and real SSH keys.

mod ldap;
mod setup;
