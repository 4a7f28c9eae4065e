//! How often signing in may fail, so that nobody guesses passwords and nobody keeps others out.
//!
//! What counts is failures: an attempt takes a place before it is made and gives it back when it succeeds, and if all places
//! are taken by attempts whose outcome is open, the next one waits for them rather than being refused. So a class of 200
//! behind one address gets in. (A limiter of requests, such as governor's, can't give back.)
//!
//! - Passwords count by address; by person and address; and by person over all addresses that they have not signed in from
//!   lately. A person's own addresses have counters of their own, so strangers can't lock them out there.
//! - SSH keys count by key and address: nobody guesses one, so nobody's failures keep others out.
//!
//! Each counter has an exact key: nobody shares one with a stranger. Tables have a largest size, and what strangers can make
//! up (names, keys, addresses) lies in other tables than people, so no flood of them pushes a person's counter out. Each
//! instance counts for itself.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::Notify;

use super::SettingsError;
use super::ldap::CountedAs;

/// At most so many counters in a table: a few MiB.
const MOST: usize = 1 << 16;
/// How long an attempt waits for others to end.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// For how long an address is a person's own after they signed in from it.
const KNOWN_MS: i64 = 30 * 86_400_000;
/// How many addresses are a person's own at the same time; a new one takes the place of the oldest.
const KNOWN_EACH: usize = 8;

/// `[login.limits]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitSettings {
    /// Failures in a row for one name from one address.
    pub failures_per_name: u32,
    /// Failures in a row for one name from all addresses together that the person has not signed in from lately. Keep it below
    /// the directory's own lock-out.
    pub failures_from_unknown_addresses: u32,
    /// Failures in a row from one address (of IPv6: one /64): of passwords, whatever the names; of each SSH key.
    pub failures_per_address: u32,
    /// After which time one failure is forgotten.
    pub forget_seconds: u32,
    /// Challenges for SSH keys a second from one address; ten times as many at once.
    pub challenges_per_second: u32,
    /// A refusal comes no sooner than this, whatever was wrong.
    pub refusal_milliseconds: u32,
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            failures_per_name: 5,
            failures_from_unknown_addresses: 20,
            failures_per_address: 50,
            forget_seconds: 30,
            challenges_per_second: 100,
            refusal_milliseconds: 400,
        }
    }
}

impl LimitSettings {
    /// # Errors
    /// [`SettingsError`] for numbers that would let nobody in, or hold them for ever.
    pub fn check(&self) -> Result<(), SettingsError> {
        for (setting, value, most) in [
            ("failures_per_name", self.failures_per_name, 1000),
            ("failures_from_unknown_addresses", self.failures_from_unknown_addresses, 4000),
            ("failures_per_address", self.failures_per_address, 100_000),
            ("forget_seconds", self.forget_seconds, 3600),
            ("challenges_per_second", self.challenges_per_second, 100_000),
        ] {
            if !(1..=most).contains(&value) {
                let setting = format!("login.limits.{setting}");
                return Err(SettingsError::new(&setting, &format!("give 1 to {most}")));
            }
        }
        if self.refusal_milliseconds > 5000 {
            return Err(SettingsError::new("login.limits.refusal_milliseconds", "give 0 to 5000"));
        }
        Ok(())
    }
}

/// The limits, counting.
pub struct Limits(Arc<Inner>);

struct Inner {
    settings: LimitSettings,
    people: Counters,
    strangers: Counters,
    addresses: Counters,
    challenges: Counters,
    known: Known,
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
            challenges: Counters::new(MOST),
            known: Known::default(),
            ended: Notify::new(),
        }))
    }

    /// The settings.
    pub fn settings(&self) -> &LimitSettings {
        &self.0.settings
    }

    /// Takes the place of an attempt by password from `address`.
    ///
    /// # Errors
    /// [`TooOften`]
    pub async fn by_password(&self, address: IpAddr, now_ms: i64) -> Result<Attempt, TooOften> {
        let place = ("password", network(address));
        self.alone(Table::Addresses, &place, self.0.settings.failures_per_address, now_ms).await
    }

    /// Takes the place of an attempt by the SSH key of this fingerprint.
    ///
    /// # Errors
    /// [`TooOften`]
    pub async fn by_key(&self, fingerprint: &str, address: IpAddr, now_ms: i64) -> Result<Attempt, TooOften> {
        let place = ("key", fingerprint, network(address));
        self.alone(Table::Strangers, &place, self.0.settings.failures_per_address, now_ms).await
    }

    /// Takes the place of an attempt by the link of `serve --dev`.
    ///
    /// # Errors
    /// [`TooOften`]
    pub async fn by_link(&self, address: IpAddr, now_ms: i64) -> Result<Attempt, TooOften> {
        let place = ("link", network(address));
        self.alone(Table::Addresses, &place, self.0.settings.failures_per_address, now_ms).await
    }

    async fn alone(
        &self,
        table: Table,
        place: &(impl Hash + Sync),
        most: u32,
        now_ms: i64,
    ) -> Result<Attempt, TooOften> {
        let mut attempt = Attempt { limits: self.0.clone(), taken: Vec::with_capacity(3), now_ms };
        attempt.take(table, place, most).await?;
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

    /// Takes the place of a challenge.
    ///
    /// # Errors
    /// [`TooOften`]
    pub fn challenge(&self, address: IpAddr, now_ms: i64) -> Result<(), TooOften> {
        let most = self.0.settings.challenges_per_second;
        let key = self.0.challenges.key(&network(address));
        // In microseconds: a thousand a second are one a millisecond.
        let worth = (1_000_000 / i64::from(most.max(1))).max(1);
        let now = now_ms.saturating_mul(1000);
        match self.0.challenges.take(key, most.saturating_mul(10), worth, now) {
            Taken::Yes => {
                self.0.challenges.end(key, worth, now, true);
                Ok(())
            }
            Taken::Later => Ok(()),
            Taken::No(wait) => Err(TooOften(seconds(wait, 1_000_000))),
        }
    }
}

/// Whether two addresses are one to the limits.
pub fn same_network(one: IpAddr, other: IpAddr) -> bool {
    network(one) == network(other)
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

/// Whether there is a place.
enum Taken {
    Yes,
    /// Perhaps, once attempts that are under way have ended.
    Later,
    /// Not for so long.
    No(i64),
}

/// GCRA (ITU-T I.371): of each counter the time when all failures are forgotten, and the attempts whose outcome is open.
#[derive(Clone, Copy, Default)]
struct Counter {
    free_at: i64,
    open: u32,
}

/// Counters by a keyed hash of 128 bits, so that keys of any length take the same room and no two are taken for one.
struct Counters {
    hashers: [RandomState; 2],
    most: usize,
    counters: Mutex<HashMap<u128, Counter>>,
}

impl Counters {
    fn new(most: usize) -> Self {
        Self { hashers: [RandomState::new(), RandomState::new()], most, counters: Mutex::default() }
    }

    fn key(&self, place: &impl Hash) -> u128 {
        let [high, low] = self.hashers.each_ref().map(|hasher| u128::from(hasher.hash_one(place)));
        high << 64 | low
    }

    fn take(&self, key: u128, most: u32, worth: i64, now: i64) -> Taken {
        let mut counters = self.counters();
        if counters.len() >= self.most && !counters.contains_key(&key) {
            make_room(&mut counters, now);
        }
        let counter = counters.entry(key).or_default();
        let full = worth.saturating_mul(i64::from(most));
        // Later than a full count can be: the clock was set back. Nobody is shut out for that.
        if counter.free_at > now.saturating_add(full) {
            counter.free_at = now;
        }
        let failed = counter.free_at.max(now) - now;
        let then = failed.saturating_add(worth);
        if then > full {
            return Taken::No(then - full);
        }
        if then.saturating_add(worth.saturating_mul(i64::from(counter.open))) > full {
            return Taken::Later;
        }
        counter.open += 1;
        Taken::Yes
    }

    fn end(&self, key: u128, worth: i64, now: i64, failed: bool) {
        if let Some(counter) = self.counters().get_mut(&key) {
            counter.open = counter.open.saturating_sub(1);
            if failed {
                counter.free_at = counter.free_at.max(now).saturating_add(worth);
            }
        }
    }

    fn counters(&self) -> MutexGuard<'_, HashMap<u128, Counter>> {
        // Numbers are whole whatever panicked.
        self.counters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Drops what is forgotten; if that is little, also the quarter that is forgotten first.
fn make_room(counters: &mut HashMap<u128, Counter>, now: i64) {
    let before = counters.len();
    counters.retain(|_, counter| counter.open > 0 || counter.free_at > now);
    if counters.len() > before / 4 * 3 {
        let mut times: Vec<i64> = counters.values().map(|counter| counter.free_at).collect();
        let quarter = times.len() / 4;
        let (_, limit, _) = times.select_nth_unstable(quarter);
        let limit = *limit;
        counters.retain(|_, counter| counter.open > 0 || counter.free_at > limit);
    }
}

/// The addresses that people signed in from lately. In this process only: the sessions in the store know the rest.
#[derive(Default)]
struct Known(Mutex<HashMap<String, Vec<(Network, i64)>>>);

impl Known {
    fn is(&self, person: &str, from: Network, now: i64) -> bool {
        let fresh = |(network, at): &(Network, i64)| *network == from && (now - at).abs() < KNOWN_MS;
        self.known().get(person).is_some_and(|networks| networks.iter().any(fresh))
    }

    fn remember(&self, person: &str, from: Network, now: i64) {
        let mut known = self.known();
        // People of the directory, who have signed in: nobody makes them up.
        if known.len() >= MOST && !known.contains_key(person) {
            known.retain(|_, networks| networks.iter().any(|(_, at)| (now - at).abs() < KNOWN_MS / 30));
        }
        let networks = known.entry(person.to_owned()).or_default();
        networks.retain(|(network, _)| *network != from);
        networks.push((from, now));
        if networks.len() > KNOWN_EACH {
            networks.remove(0);
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<String, Vec<(Network, i64)>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One address for all that are one to the limits.
pub fn network_address(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        v4 => v4,
    }
}

type Network = [u8; 8];

/// One person has a whole /64 of IPv6 (RFC 6177); an IPv4 address in IPv6 clothes is the IPv4 address.
fn network(address: IpAddr) -> Network {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            [0xff, 0xff, 0xff, 0xff, a, b, c, d]
        }
        IpAddr::V6(address) => {
            let [a, b, c, d, e, f, g, h, ..] = address.octets();
            [a, b, c, d, e, f, g, h]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000_000;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    async fn attempt(limits: &Limits, name: &str, from: &str, now: i64) -> Result<Attempt, TooOften> {
        let mut attempt = limits.by_password(address(from), now).await?;
        limits.attempt_as(&mut attempt, &CountedAs::Person(name.to_owned()), address(from)).await?;
        Ok(attempt)
    }

    /// How many of so many attempts to be `name` are made, all failing; from the addresses that `from` gives.
    async fn failing(limits: &Limits, name: &str, times: u32, from: impl Fn(u32) -> String) -> u32 {
        let mut made = 0;
        for n in 0..times {
            made += u32::from(attempt(limits, name, &from(n), NOW).await.is_ok());
        }
        made
    }

    #[tokio::test]
    async fn failures_count_and_successes_do_not() {
        let limits = Limits::new(LimitSettings::default());
        for _ in 0..500 {
            attempt(&limits, "alice", "192.0.2.1", NOW).await.unwrap().succeeded();
        }
        assert_eq!(failing(&limits, "alice", 100, |_| "192.0.2.1".into()).await, 5);
        let TooOften(wait) = attempt(&limits, "alice", "192.0.2.1", NOW).await.map(|_| ()).unwrap_err();
        assert!((25..=35).contains(&wait), "{wait}");
        assert!(attempt(&limits, "alice", "192.0.2.1", NOW + 31_000).await.is_ok(), "one is forgotten");
        assert!(attempt(&limits, "bob", "192.0.2.1", NOW).await.is_ok());
        assert!(attempt(&limits, "alice", "192.0.2.2", NOW).await.is_ok(), "she is not shut out elsewhere");
    }

    #[tokio::test]
    async fn attempts_whose_outcome_is_open_are_waited_for() {
        let limits = Limits::new(LimitSettings::default());
        assert_eq!(failing(&limits, "alice", 3, |_| "192.0.2.1".into()).await, 3);
        let right = || async {
            let attempt = attempt(&limits, "alice", "192.0.2.1", NOW).await?;
            tokio::task::yield_now().await;
            attempt.succeeded();
            Ok::<_, TooOften>(())
        };
        let all = futures_util::future::join_all((0..40).map(|_| right())).await;
        assert!(all.iter().all(Result::is_ok), "{all:?}");
        assert_eq!(
            failing(&limits, "alice", 10, |_| "192.0.2.1".into()).await,
            2,
            "the failures still count"
        );
    }

    #[tokio::test]
    async fn many_addresses_guess_no_more_than_twenty_and_lock_nobody_out_at_home() {
        let limits = Limits::new(LimitSettings::default());
        limits.remember("alice", address("192.0.2.1"), NOW);
        assert_eq!(failing(&limits, "alice", 100, |n| format!("198.51.100.{n}")).await, 20);
        assert!(attempt(&limits, "alice", "203.0.113.1", NOW).await.is_err(), "nor from a new address");
        attempt(&limits, "alice", "192.0.2.1", NOW).await.unwrap().succeeded();
        assert_eq!(
            failing(&limits, "alice", 100, |_| "192.0.2.1".into()).await,
            5,
            "at home it is limited too"
        );
        let month_later = NOW + KNOWN_MS;
        assert!(!limits.0.known.is("alice", network(address("192.0.2.1")), month_later));
    }

    #[tokio::test]
    async fn one_address_tries_no_endless_list_of_names_and_keeps_no_key_out() {
        let limits = Limits::new(LimitSettings::default());
        let from = |n: u32| format!("2001:db8:0:1:{n:x}::1");
        let mut made = 0;
        for n in 0..500 {
            made += usize::from(attempt(&limits, &format!("name{n}"), &from(n), NOW).await.is_ok());
        }
        assert_eq!(made, 50, "a /64 is one address");
        let here = address(&from(1));
        for _ in 0..50 {
            drop(limits.by_key("SHA256:bad", here, NOW).await.unwrap());
        }
        assert!(limits.by_key("SHA256:bad", here, NOW).await.is_err());
        limits.by_key("SHA256:good", here, NOW).await.unwrap().succeeded();
    }

    /// Who types a person's id, DN or another spelling of their name doesn't learn that there is such a person.
    #[tokio::test]
    async fn what_is_typed_shares_no_counter_with_a_person() {
        let limits = Limits::new(LimitSettings::default());
        assert_eq!(failing(&limits, "corp/alice", 100, |n| format!("198.51.100.{n}")).await, 20);
        let mut attempt = limits.by_password(address("192.0.2.1"), NOW).await.unwrap();
        let typed = CountedAs::Typed("corp/alice".into());
        assert!(limits.attempt_as(&mut attempt, &typed, address("192.0.2.1")).await.is_ok());
    }

    #[tokio::test]
    async fn a_flood_of_names_keys_and_addresses_leaves_a_persons_counter_alone() {
        let limits = Limits::new(LimitSettings::default());
        assert_eq!(failing(&limits, "alice", 100, |n| format!("198.51.100.{n}")).await, 20);
        for n in 0..3 * MOST as u32 {
            let from = address(&std::net::Ipv4Addr::from(n).to_string());
            drop(limits.by_key(&n.to_string(), from, NOW).await.unwrap());
        }
        assert!(limits.0.strangers.counters().len() <= MOST);
        assert!(attempt(&limits, "alice", "203.0.113.1", NOW).await.is_err());
        let fresh = (0..200).map(|n| limits.0.strangers.key(&("key", "x", n)));
        assert!(
            fresh.into_iter().all(|key| !matches!(limits.0.strangers.take(key, 1, 1, NOW), Taken::No(_))),
            "strangers share no counter"
        );
    }

    #[tokio::test]
    async fn a_clock_that_is_set_back_shuts_nobody_out() {
        let limits = Limits::new(LimitSettings { failures_per_name: 1, ..LimitSettings::default() });
        drop(attempt(&limits, "alice", "192.0.2.1", NOW).await.unwrap());
        let earlier = NOW - 365 * 86_400_000;
        assert!(attempt(&limits, "alice", "192.0.2.1", earlier).await.is_ok());
        assert!(
            attempt(&limits, "alice", "192.0.2.1", earlier).await.is_err(),
            "and the limit holds from there"
        );
    }

    #[test]
    fn a_flood_of_challenges_is_bounded() {
        let limits = Limits::new(LimitSettings::default());
        let here = address("192.0.2.1");
        let given = (0..5000).filter(|_| limits.challenge(here, NOW).is_ok()).count();
        assert_eq!(given, 1000);
        let given = (0..5000).filter(|_| limits.challenge(here, NOW + 1000).is_ok()).count();
        assert_eq!(given, 100);
    }
}
