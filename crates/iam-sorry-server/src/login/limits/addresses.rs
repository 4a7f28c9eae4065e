//! Addresses as the limits see them: one person has a whole /64 of IPv6. And the addresses that are a person's own, since
//! they signed in from there lately.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// For how long an address is a person's own after they signed in from it.
pub(super) const KNOWN_MS: i64 = 30 * 86_400_000;
/// How many addresses are a person's own at the same time; a new one takes the place of the oldest.
const KNOWN_EACH: usize = 8;
/// From how many people on those are dropped who have not signed in for a day.
const MOST: usize = 1 << 16;

/// The first address of a network, for all addresses in it.
pub fn network_address(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        v4 => v4,
    }
}

/// A network: an IPv4 address, or a /64 of IPv6.
pub(super) type Network = [u8; 8];

/// The network of an address. One person has a whole /64 of IPv6 (RFC 6177); an IPv4-mapped IPv6 address is the IPv4 address.
pub(super) fn network(address: IpAddr) -> Network {
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

/// Whether two addresses are in one network.
pub fn same_network(one: IpAddr, other: IpAddr) -> bool {
    network(one) == network(other)
}

/// The addresses that people signed in from lately. In this process only: the sessions in the store know the rest.
#[derive(Default)]
pub(super) struct Known(Mutex<HashMap<String, Vec<(Network, i64)>>>);

impl Known {
    pub(super) fn is(&self, person: &str, from: Network, now: i64) -> bool {
        let fresh = |(network, at): &(Network, i64)| *network == from && (now - at).abs() < KNOWN_MS;
        self.known().get(person).is_some_and(|networks| networks.iter().any(fresh))
    }

    pub(super) fn remember(&self, person: &str, from: Network, now: i64) {
        let mut known = self.known();
        // These are people who have signed in: an attacker can't make them up.
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
