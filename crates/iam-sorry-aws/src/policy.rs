//! The least policy of a manager.
