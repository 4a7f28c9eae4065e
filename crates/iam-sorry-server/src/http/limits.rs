//! How many requests are too many (GCRA, by the monotonic clock: a clock step neither opens nor closes anything).

use std::hash::Hash;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};

use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use iam_sorry_core::api::ProblemCode;
use iam_sorry_core::identity::Method;

use super::address::limit_key;
use super::settings::{LimitSettings, Rate};
use crate::error::ServiceError;

/// The limits and their counts.
#[derive(Debug)]
pub struct Limits {
    person: Counter<String>,
    address: Counter<IpAddr>,
    /// Each method apart: a flood of passwords keeps no SSH key out, nor the reverse.
    sign_in: Counter<(Method, IpAddr)>,
}

impl Limits {
    /// With nobody counted yet.
    pub fn new(settings: &LimitSettings) -> Self {
        Self {
            person: Counter::new(settings.per_person),
            address: Counter::new(settings.per_address),
            sign_in: Counter::new(settings.sign_in_per_address),
        }
    }

    /// Counts a request of a signed-in person (`issuer/subject`).
    ///
    /// # Errors
    /// A [`ServiceError`] with the seconds to wait.
    pub fn person(&self, id: &str) -> Result<(), ServiceError> {
        self.person.count(&id.to_owned(), "you, over all of your sessions")
    }

    /// Counts a request from an address.
    ///
    /// # Errors
    /// A [`ServiceError`] with the seconds to wait.
    pub fn address(&self, address: IpAddr) -> Result<(), ServiceError> {
        self.address.count(&limit_key(address), "this address")
    }

    /// Counts an attempt to sign in.
    ///
    /// # Errors
    /// A [`ServiceError`] with the seconds to wait.
    pub fn sign_in(&self, by: Method, address: IpAddr) -> Result<(), ServiceError> {
        self.sign_in.count(&(by, limit_key(address)), "sign-ins from this address")
    }
}

#[derive(Debug)]
struct Counter<K: Hash + Eq + Clone> {
    limiter: DefaultKeyedRateLimiter<K>,
    clock: DefaultClock,
    /// Requests since those who have long been quiet were forgotten.
    since_tidied: AtomicU32,
}

impl<K: Hash + Eq + Clone> Counter<K> {
    fn new(rate: Rate) -> Self {
        let quota = Quota::per_second(rate.per_second).allow_burst(rate.burst);
        Self {
            limiter: RateLimiter::dashmap(quota),
            clock: DefaultClock::default(),
            since_tidied: AtomicU32::new(0),
        }
    }

    fn count(&self, key: &K, whom: &str) -> Result<(), ServiceError> {
        // A flood from ever new addresses must not stay in memory.
        if self.since_tidied.fetch_add(1, Ordering::Relaxed) % 10_000 == 9_999 {
            self.limiter.retain_recent();
            self.limiter.shrink_to_fit();
        }
        let Err(not_yet) = self.limiter.check_key(key) else { return Ok(()) };
        let wait = not_yet.wait_time_from(self.clock.now()).as_millis().div_ceil(1_000).clamp(1, 3_600);
        let wait = u32::try_from(wait).unwrap_or(3_600);
        let mut refusal = ServiceError::new(
            ProblemCode::TooManyRequests,
            format!(
                "There were too many requests for {whom}.\nGo on in {wait} s; the header Retry-After says so too."
            ),
        );
        refusal.retry_after = Some(wait);
        Err(refusal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_too_many_is_told_when_to_come_back_and_others_are_not_touched() {
        let limits = Limits::new(&LimitSettings {
            per_person: Rate::new(1, 3),
            per_address: Rate::new(1, 2),
            sign_in_per_address: Rate::new(1, 1),
        });
        for _ in 0..3 {
            limits.person("corp/alice").unwrap();
        }
        let refusal = limits.person("corp/alice").unwrap_err();
        assert_eq!(refusal.code, ProblemCode::TooManyRequests);
        assert_eq!(refusal.retry_after, Some(1));
        limits.person("corp/bob").unwrap();

        let (one, same, other) = ("2001:db8::1", "2001:db8::2", "2001:db8:0:1::1");
        let sign_in = |by, from: &str| limits.sign_in(by, from.parse().unwrap());
        sign_in(Method::Ldap, one).unwrap();
        assert!(sign_in(Method::Ldap, same).is_err(), "one host has a whole /64");
        sign_in(Method::SshKey, same).unwrap();
        sign_in(Method::Ldap, other).unwrap();
        limits.address(one.parse().unwrap()).unwrap();
    }
}
