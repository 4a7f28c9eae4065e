//! How often signing in may fail, so that nobody guesses passwords and nobody keeps others out.
//!
//! Failures count: an attempt takes a place before it is made and gives it back when it succeeds, and if all places are
//! taken by attempts whose outcome is open, the next one waits for them rather than being refused. So a class of 200
//! behind one address gets in. (A limiter of requests, such as governor's, can't give back.)
//!
//! - Passwords count by address; by person and address; and by person over all addresses that they have not signed in from
//!   lately. A person's own addresses have counters of their own, so strangers can't lock them out there.
//! - SSH keys count by key and address: nobody guesses one, so nobody's failures keep others out.
//!
//! Each counter has an exact key: nobody shares one with a stranger. Tables have a largest size, and what strangers can make
//! up (names, keys, addresses) lies in tables of its own, so no flood of them pushes a person's counter out. Each
//! instance counts for itself.

mod addresses;
mod attempts;
mod counters;
mod settings;
#[cfg(test)]
mod tests;

pub use addresses::{network_address, same_network};
pub use attempts::{Attempt, CountedAs, Limits, TooOften};
pub use settings::LimitSettings;
