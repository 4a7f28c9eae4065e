//! Replacing a permanent access key.
