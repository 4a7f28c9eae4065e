//! The rules as the service asks them: whole rule sets in, decisions out.

mod cases;
mod decisions;
mod guardrails;
mod loading;
mod scene;
