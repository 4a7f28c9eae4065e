//! Attempts to sign in, and the places that they take.

use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use iam_sorry_core::identity::Method;
use tokio::sync::Notify;

use super::addresses::{Known, Network, network};
use super::counters::{Counters, Taken};
use super::settings::LimitSettings;

/// At most so many counters in a table: a few MiB.
pub(super) const MOST: usize = 1 << 16;
/// How long an attempt waits for others to end.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The limits and their counters.
pub struct Limits(pub(super) Arc<Inner>);

pub(super) struct Inner {
    settings: LimitSettings,
    people: Counters,
    pub(super) strangers: Counters,
    addresses: Counters,
    first_steps: Counters,
    pub(super) known: Known,
    /// Some attempt has ended.
    ended: Notify,
}

/// The tables.
#[derive(Clone, Copy)]
enum Table {
    People,
    Strangers,
    Addresses,
}

/// The places that one attempt has taken. Dropped, it has failed: an attempt that ended in nothing.
#[must_use]
pub struct Attempt {
    limits: Arc<Inner>,
    taken: Vec<(Table, u128)>,
    now_ms: i64,
}

/// What failures are counted under. What somebody typed never shares a counter with a person of that DN or id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CountedAs {
    /// A person, as `Identity::id` names them: the same for all spellings of a name.
    Person(String),
    /// What was typed, in whatever letters: nobody has that name.
    Typed(String),
}

/// Seconds after which it may be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooOften(pub u32);

impl Limits {
    /// Nothing counted yet.
    pub fn new(settings: LimitSettings) -> Self {
        Self(Arc::new(Inner {
            settings,
            people: Counters::new(MOST * 4),
            strangers: Counters::new(MOST),
            addresses: Counters::new(MOST),
            first_steps: Counters::new(MOST),
            known: Known::default(),
            ended: Notify::new(),
        }))
    }

    /// The settings.
    pub fn settings(&self) -> &LimitSettings {
        &self.0.settings
    }

    /// Takes the place of an attempt by this method from `address`. `key`: the fingerprint of the SSH key that is tried.
    ///
    /// # Errors
    /// [`TooOften`]
    pub async fn begin(
        &self,
        method: Method,
        key: Option<&str>,
        address: IpAddr,
        now_ms: i64,
    ) -> Result<Attempt, TooOften> {
        let table = match method {
            // Nobody guesses a key: what fails with one key keeps no other out.
            Method::SshKey => Table::Strangers,
            Method::Ldap | Method::DevLink => Table::Addresses,
        };
        let place = (method, key, network(address));
        let mut attempt = Attempt { limits: self.0.clone(), taken: Vec::with_capacity(3), now_ms };
        attempt.take(table, &place, self.0.settings.failures_per_address).await?;
        Ok(attempt)
    }

    /// Takes the places of the attempt to be somebody, once that is known. If they are all taken, the place of the address
    /// stays taken too.
    ///
    /// # Errors
    /// [`TooOften`]
    pub async fn attempt_as(
        &self,
        attempt: &mut Attempt,
        who: &CountedAs,
        address: IpAddr,
    ) -> Result<(), TooOften> {
        let before = attempt.taken.len();
        let taken = self.take_as(attempt, who, network(address)).await;
        if taken.is_err() {
            attempt.give_back(before);
        }
        taken
    }

    async fn take_as(&self, attempt: &mut Attempt, who: &CountedAs, from: Network) -> Result<(), TooOften> {
        let LimitSettings { failures_per_name, failures_from_unknown_addresses, .. } = self.0.settings;
        let (table, kind, name) = match who {
            CountedAs::Person(id) => (Table::People, "person", id),
            CountedAs::Typed(name) => (Table::Strangers, "typed", name),
        };
        if self.0.known.is(name, from, attempt.now_ms) && matches!(table, Table::People) {
            return attempt.take(table, &("known", name, from), failures_per_name).await;
        }
        attempt.take(Table::Strangers, &(kind, name, from), failures_per_name).await?;
        attempt.take(table, &(kind, name), failures_from_unknown_addresses).await
    }

    /// The address is the person's own from now on: they have signed in from it.
    pub fn remember(&self, person: &str, address: IpAddr, now_ms: i64) {
        self.0.known.remember(person, network(address), now_ms);
    }

    /// Counts the first step of a dialogue of two steps, such as an SSH key's challenge.
    ///
    /// # Errors
    /// [`TooOften`]
    pub fn first_step(&self, address: IpAddr, now_ms: i64) -> Result<(), TooOften> {
        let most = self.0.settings.challenges_per_second;
        let key = self.0.first_steps.key(&network(address));
        // In microseconds: a thousand a second are one a millisecond.
        let worth = (1_000_000 / i64::from(most.max(1))).max(1);
        let now = now_ms.saturating_mul(1000);
        match self.0.first_steps.take(key, most.saturating_mul(10), worth, now) {
            Taken::Yes => {
                self.0.first_steps.end(key, worth, now, true);
                Ok(())
            }
            Taken::Later => Ok(()),
            Taken::No(wait) => Err(TooOften(seconds(wait, 1_000_000))),
        }
    }
}

impl Attempt {
    /// It was no failure.
    pub fn succeeded(mut self) {
        self.give_back(0);
    }

    /// Takes a place, once it is known whether there is one: attempts under way may give theirs back.
    async fn take(&mut self, table: Table, place: &impl Hash, most: u32) -> Result<(), TooOften> {
        let limits = self.limits.clone();
        let counters = limits.table(table);
        let key = counters.key(place);
        let end = tokio::time::Instant::now() + LONGEST_WAIT;
        loop {
            let ended = limits.ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            match counters.take(key, most, limits.worth(), self.now_ms) {
                Taken::Yes => break,
                Taken::No(wait) => return Err(TooOften(seconds(wait, 1000))),
                Taken::Later if tokio::time::timeout_at(end, ended).await.is_err() => {
                    return Err(TooOften(1));
                }
                Taken::Later => {}
            }
        }
        self.taken.push((table, key));
        Ok(())
    }

    fn give_back(&mut self, but_the_first: usize) {
        self.end(but_the_first, false);
    }

    fn end(&mut self, but_the_first: usize, failed: bool) {
        for (table, key) in self.taken.drain(but_the_first.min(self.taken.len())..) {
            self.limits.table(table).end(key, self.limits.worth(), self.now_ms, failed);
        }
        self.limits.ended.notify_waiters();
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.taken.is_empty() {
            self.end(0, true);
        }
    }
}

impl Inner {
    fn table(&self, table: Table) -> &Counters {
        match table {
            Table::People => &self.people,
            Table::Strangers => &self.strangers,
            Table::Addresses => &self.addresses,
        }
    }

    fn worth(&self) -> i64 {
        i64::from(self.settings.forget_seconds) * 1000
    }
}

fn seconds(wait: i64, unit: i64) -> u32 {
    u32::try_from(wait.div_euclid(unit) + 1).unwrap_or(u32::MAX)
}
