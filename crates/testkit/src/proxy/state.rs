//! What the threads of one proxy share.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::fault::{Call, Fault};
use crate::Account;

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) address: SocketAddr,
    pub(super) account: Account,
    pub(super) started: Instant,
    pub(super) stopped: AtomicBool,
    pub(super) state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) rules: Vec<Rule>,
    pub(super) calls: Vec<Call>,
    /// How many requests are between their arrival and the end of their answer (a `Hang` never ends, and does not count).
    pub(super) under_way: usize,
    /// Keys that were made through this proxy: when, and how often they were refused as too new.
    pub(super) made_keys: HashMap<String, (Instant, usize)>,
}

#[derive(Debug)]
pub(super) struct Rule {
    /// `*` for any.
    pub(super) action: String,
    pub(super) fault: Fault,
    /// How often it still applies; for ever if none.
    pub(super) left: Option<usize>,
}

impl Shared {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }
}
