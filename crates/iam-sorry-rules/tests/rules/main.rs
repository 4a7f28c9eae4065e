//! The rules as the service asks them: whole rule sets in, decisions out.

mod decisions;
mod scene;
