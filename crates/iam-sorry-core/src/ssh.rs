//! SSH formats.
