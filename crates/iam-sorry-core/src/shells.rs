//! Shell text.
