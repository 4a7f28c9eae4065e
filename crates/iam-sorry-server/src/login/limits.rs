//! How often signing in may fail, per name and per address.
//!
//! What counts is failures, so that a class of 200 behind one address gets in: an attempt takes its place before it is
//! made, and gives it back when it succeeds. (A limiter of requests, such as governor's, can't give back.) The times
//! lie in a table of fixed size, by keyed hash: no flood of names makes it grow, and nobody can choose whose place they
//! share. Each instance counts for itself.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Deserialize;

use super::SettingsError;

/// 512 KiB a table.
const PLACES: usize = 1 << 16;

/// `[login.limits]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitSettings {
    /// Failures in a row for one name from one address; four times as many from all addresses.
    pub failures_per_name: u32,
    /// Failures in a row from one address (of IPv6: one /64), whatever the names.
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
pub struct Limits {
    settings: LimitSettings,
    failures: Table,
    challenges: Table,
}

/// The places that one attempt has taken. Dropped, they stay taken: an attempt that ended in nothing has failed.
#[derive(Debug)]
#[must_use]
pub struct Attempt(Vec<(usize, i64)>);

/// Seconds after which it may be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooOften(pub u32);

impl Limits {
    /// Nothing counted yet.
    pub fn new(settings: LimitSettings) -> Self {
        Self { settings, failures: Table::new(), challenges: Table::new() }
    }

    /// The settings.
    pub fn settings(&self) -> &LimitSettings {
        &self.settings
    }

    /// Takes the place of an attempt from `address`.
    ///
    /// # Errors
    /// [`TooOften`]
    pub fn attempt(&self, address: IpAddr, now_ms: i64) -> Result<Attempt, TooOften> {
        let mut attempt = Attempt(Vec::with_capacity(3));
        let place = self.failures.place(&("address", network(address)));
        self.take(&mut attempt, place, self.settings.failures_per_address, now_ms)?;
        Ok(attempt)
    }

    /// Takes the places of the attempt to be `name`, once that is known. Where they are all taken, the place of the
    /// address stays taken too.
    ///
    /// # Errors
    /// [`TooOften`]
    pub fn attempt_as(
        &self,
        attempt: &mut Attempt,
        name: &str,
        address: IpAddr,
        now_ms: i64,
    ) -> Result<(), TooOften> {
        let most = self.settings.failures_per_name;
        let here = self.failures.place(&("name and address", name, network(address)));
        self.take(attempt, here, most, now_ms)?;
        let anywhere = self.failures.place(&("name", name));
        self.take(attempt, anywhere, most.saturating_mul(4), now_ms)
    }

    fn take(&self, attempt: &mut Attempt, place: usize, most: u32, now_ms: i64) -> Result<(), TooOften> {
        let forget = i64::from(self.settings.forget_seconds) * 1000;
        self.failures.take(place, most, forget, now_ms)?;
        attempt.0.push((place, forget));
        Ok(())
    }

    /// Gives the places back: it was no failure.
    pub fn succeeded(&self, attempt: Attempt) {
        for (place, worth) in attempt.0 {
            self.failures.give_back(place, worth);
        }
    }

    /// Takes the place of a challenge.
    ///
    /// # Errors
    /// [`TooOften`]
    pub fn challenge(&self, address: IpAddr, now_ms: i64) -> Result<(), TooOften> {
        let most = self.settings.challenges_per_second;
        let place = self.challenges.place(&network(address));
        // In microseconds: a thousand a second are one a millisecond.
        let worth = 1_000_000 / i64::from(most.max(1));
        self.challenges.take(place, most.saturating_mul(10), worth.max(1), now_ms.saturating_mul(1000))
    }
}

/// GCRA (ITU-T I.371): of each place the time when everything taken is forgotten.
struct Table {
    hasher: RandomState,
    free_at: Mutex<Box<[i64]>>,
}

impl Table {
    fn new() -> Self {
        Self { hasher: RandomState::new(), free_at: Mutex::new(vec![0; PLACES].into()) }
    }

    fn place<T: std::hash::Hash>(&self, key: &T) -> usize {
        // The remainder fits whatever usize is.
        usize::try_from(self.hasher.hash_one(key) % PLACES as u64).unwrap_or(0)
    }

    fn take(&self, place: usize, most: u32, worth: i64, now: i64) -> Result<(), TooOften> {
        let mut table = self.table();
        let Some(free_at) = table.get_mut(place) else { return Ok(()) };
        let full = worth.saturating_mul(i64::from(most));
        // Later than a full count can be: the clock was set back. Nobody is shut out for that.
        let from = if *free_at > now.saturating_add(full) { now } else { now.max(*free_at) };
        let then = from.saturating_add(worth);
        if then - now > full {
            let unit = if worth >= 1000 { 1000 } else { 1_000_000 };
            let wait = (then - now - full).div_euclid(unit) + 1;
            return Err(TooOften(u32::try_from(wait).unwrap_or(u32::MAX)));
        }
        *free_at = then;
        Ok(())
    }

    fn give_back(&self, place: usize, worth: i64) {
        if let Some(free_at) = self.table().get_mut(place) {
            *free_at = free_at.saturating_sub(worth);
        }
    }

    fn table(&self) -> MutexGuard<'_, Box<[i64]>> {
        // Numbers are whole whatever panicked.
        self.free_at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One person has a whole /64 of IPv6 (RFC 6177); an IPv4 address in IPv6 clothes is the IPv4 address.
fn network(address: IpAddr) -> [u8; 8] {
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

    fn attempt(limits: &Limits, name: &str, from: &str, now: i64) -> Result<Attempt, TooOften> {
        let mut attempt = limits.attempt(address(from), now)?;
        limits.attempt_as(&mut attempt, name, address(from), now)?;
        Ok(attempt)
    }

    #[test]
    fn failures_count_and_successes_do_not() {
        let limits = Limits::new(LimitSettings::default());
        let alice = |from: &str, now| attempt(&limits, "alice", from, now);
        for _ in 0..500 {
            limits.succeeded(alice("192.0.2.1", NOW).unwrap());
        }
        for _ in 0..5 {
            drop(alice("192.0.2.1", NOW).unwrap());
        }
        let TooOften(wait) = alice("192.0.2.1", NOW).unwrap_err();
        assert!((25..=35).contains(&wait), "{wait}");
        assert!(alice("192.0.2.1", NOW + 31_000).is_ok(), "one is forgotten");
        assert!(attempt(&limits, "bob", "192.0.2.1", NOW).is_ok());
        assert!(alice("192.0.2.2", NOW).is_ok(), "she is not shut out elsewhere");
    }

    #[test]
    fn many_addresses_guess_no_more_than_four() {
        let limits = Limits::new(LimitSettings::default());
        let tried = (0..100).filter(|n| attempt(&limits, "alice", &format!("198.51.100.{n}"), NOW).is_ok());
        assert_eq!(tried.count(), 20);
    }

    #[test]
    fn one_address_tries_no_endless_list_of_names() {
        let limits = Limits::new(LimitSettings::default());
        let tried = (0..500).filter(|n| {
            attempt(&limits, &format!("name{n}"), &format!("2001:db8:0:1:{n:x}::1"), NOW).is_ok()
        });
        assert_eq!(tried.count(), 50, "a /64 is one address");
    }

    #[test]
    fn a_clock_that_is_set_back_shuts_nobody_out() {
        let limits = Limits::new(LimitSettings { failures_per_name: 1, ..LimitSettings::default() });
        drop(attempt(&limits, "alice", "192.0.2.1", NOW).unwrap());
        let earlier = NOW - 365 * 86_400_000;
        assert!(attempt(&limits, "alice", "192.0.2.1", earlier).is_ok());
        assert!(attempt(&limits, "alice", "192.0.2.1", earlier).is_err(), "and the limit holds from there");
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
