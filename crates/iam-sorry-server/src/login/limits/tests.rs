//! What the limits promise, by a clock of the test's own.

use std::net::IpAddr;

use iam_sorry_core::identity::Method;

use super::addresses::{KNOWN_MS, network};
use super::attempts::MOST;
use super::counters::Taken;
use super::{Attempt, CountedAs, LimitSettings, Limits, TooOften};

const NOW: i64 = 1_800_000_000_000;

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

async fn attempt(limits: &Limits, name: &str, from: &str, now: i64) -> Result<Attempt, TooOften> {
    let mut attempt = limits.begin(Method::Ldap, None, address(from), now).await?;
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
    assert_eq!(failing(&limits, "alice", 10, |_| "192.0.2.1".into()).await, 2, "the failures still count");
}

#[tokio::test]
async fn many_addresses_guess_no_more_than_twenty_and_lock_nobody_out_at_home() {
    let limits = Limits::new(LimitSettings::default());
    limits.remember("alice", address("192.0.2.1"), NOW);
    assert_eq!(failing(&limits, "alice", 100, |n| format!("198.51.100.{n}")).await, 20);
    assert!(attempt(&limits, "alice", "203.0.113.1", NOW).await.is_err(), "nor from a new address");
    attempt(&limits, "alice", "192.0.2.1", NOW).await.unwrap().succeeded();
    assert_eq!(failing(&limits, "alice", 100, |_| "192.0.2.1".into()).await, 5, "at home it is limited too");
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
        drop(limits.begin(Method::SshKey, Some("SHA256:bad"), here, NOW).await.unwrap());
    }
    assert!(limits.begin(Method::SshKey, Some("SHA256:bad"), here, NOW).await.is_err());
    limits.begin(Method::SshKey, Some("SHA256:good"), here, NOW).await.unwrap().succeeded();
}

/// Who types a person's id, DN or another spelling of their name doesn't learn that there is such a person.
#[tokio::test]
async fn what_is_typed_shares_no_counter_with_a_person() {
    let limits = Limits::new(LimitSettings::default());
    assert_eq!(failing(&limits, "corp/alice", 100, |n| format!("198.51.100.{n}")).await, 20);
    let mut attempt = limits.begin(Method::Ldap, None, address("192.0.2.1"), NOW).await.unwrap();
    let typed = CountedAs::Typed("corp/alice".into());
    assert!(limits.attempt_as(&mut attempt, &typed, address("192.0.2.1")).await.is_ok());
}

#[tokio::test]
async fn a_flood_of_names_keys_and_addresses_leaves_a_persons_counter_alone() {
    let limits = Limits::new(LimitSettings::default());
    assert_eq!(failing(&limits, "alice", 100, |n| format!("198.51.100.{n}")).await, 20);
    for n in 0..3 * MOST as u32 {
        let from = address(&std::net::Ipv4Addr::from(n).to_string());
        drop(limits.begin(Method::SshKey, Some(&n.to_string()), from, NOW).await.unwrap());
    }
    assert!(limits.0.strangers.len() <= MOST);
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
    assert!(attempt(&limits, "alice", "192.0.2.1", earlier).await.is_err(), "and the limit holds from there");
}

#[test]
fn a_flood_of_first_steps_is_bounded() {
    let limits = Limits::new(LimitSettings::default());
    let here = address("192.0.2.1");
    let given = (0..5000).filter(|_| limits.first_step(here, NOW).is_ok()).count();
    assert_eq!(given, 1000);
    let given = (0..5000).filter(|_| limits.first_step(here, NOW + 1000).is_ok()).count();
    assert_eq!(given, 100);
}
