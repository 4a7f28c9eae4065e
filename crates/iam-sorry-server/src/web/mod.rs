//! The pages: rendered on the server, no scripts, a strict Content-Security-Policy.

pub mod chart;
mod moments;
#[cfg(test)]
mod preview;
pub mod views;
