//! The shared AWS files.
