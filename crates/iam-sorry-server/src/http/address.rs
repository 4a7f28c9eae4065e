//! Whom a request came from: the peer, or what a trusted proxy says about it.

use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use serde::Deserialize;

/// An address or a range, `10.1.2.3` or `10.1.2.0/24`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct AddressRange {
    first: IpAddr,
    bits: u8,
}

/// Neither an address nor a range.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is neither an address nor a range of addresses such as 10.1.2.0/24")]
pub struct InvalidRange(String);

impl AddressRange {
    /// Whether it is larger than any network of one organisation: a /8 (10.0.0.0/8), or a /16 of IPv6.
    pub fn is_too_wide(&self) -> bool {
        self.bits < if self.first.is_ipv4() { 8 } else { 16 }
    }

    /// Whether the address lies in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.first, address.to_canonical()) {
            (IpAddr::V4(first), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
                first.to_bits() & mask == address.to_bits() & mask
            }
            (IpAddr::V6(first), IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0);
                first.to_bits() & mask == address.to_bits() & mask
            }
            _ => false,
        }
    }
}

impl FromStr for AddressRange {
    type Err = InvalidRange;

    fn from_str(text: &str) -> Result<Self, InvalidRange> {
        let wrong = || InvalidRange(text.chars().filter(|c| !c.is_control()).take(60).collect());
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let first: IpAddr = address.parse().map_err(|_| wrong())?;
        let most = if first.is_ipv4() { 32 } else { 128 };
        let bits = match bits {
            None => most,
            Some(digits) => digits.parse().ok().filter(|bits| *bits <= most).ok_or_else(wrong)?,
        };
        Ok(Self { first, bits })
    }
}

impl TryFrom<String> for AddressRange {
    type Error = InvalidRange;

    fn try_from(text: String) -> Result<Self, InvalidRange> {
        text.parse()
    }
}

/// The client's address. `forwarded` are the values of `X-Forwarded-For`, in order: each proxy appends whom *it* heard
/// from, so they are read from the end, as long as the one who says it is trusted. What a client wrote itself is never
/// reached.
pub fn client<'a>(
    peer: IpAddr,
    forwarded: impl DoubleEndedIterator<Item = &'a str>,
    trusted: &[AddressRange],
) -> IpAddr {
    let is_trusted = |address| trusted.iter().any(|range| range.contains(address));
    let mut client = peer.to_canonical();
    for said in forwarded.flat_map(|value| value.split(',')).rev() {
        if !is_trusted(client) {
            break;
        }
        match said.trim().parse::<IpAddr>() {
            Ok(address) => client = address.to_canonical(),
            Err(_) => break,
        }
    }
    client
}

/// What limits are counted by: an IPv4 address, or the /64 that one IPv6 host has to itself.
pub fn limit_key(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ranges(texts: &[&str]) -> Vec<AddressRange> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        let of = |peer: &str, forwarded: &[&str], trusted: &[&str]| {
            client(peer.parse().unwrap(), forwarded.iter().copied(), &ranges(trusted)).to_string()
        };
        assert_eq!(of("192.0.2.1", &["198.51.100.7"], &[]), "192.0.2.1");
        assert_eq!(of("10.0.0.1", &["198.51.100.7"], &["10.0.0.0/8"]), "198.51.100.7");
        // What the client claimed stands left of what the proxy saw.
        assert_eq!(of("10.0.0.1", &["127.0.0.1, 198.51.100.7"], &["10.0.0.0/8"]), "198.51.100.7");
        assert_eq!(of("10.0.0.1", &["127.0.0.1", "198.51.100.7, 10.0.0.2"], &["10.0.0.0/8"]), "198.51.100.7");
        assert_eq!(of("10.0.0.1", &["unknown"], &["10.0.0.0/8"]), "10.0.0.1");
        assert_eq!(of("10.0.0.1", &[""], &["10.0.0.0/8"]), "10.0.0.1");
        // A v4 peer on a v6 socket is the v4 address.
        assert_eq!(of("::ffff:10.0.0.1", &["2001:db8::7"], &["10.0.0.1"]), "2001:db8::7");
    }

    #[test]
    fn limits_count_a_whole_ipv6_host() {
        let key = |text: &str| limit_key(text.parse().unwrap()).to_string();
        assert_eq!(key("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(key("192.0.2.9"), "192.0.2.9");
    }

    proptest! {
        #[test]
        fn a_range_holds_what_shares_its_first_bits(first: u32, address: u32, bits in 0u8..=32) {
            let range: AddressRange = format!("{}/{bits}", std::net::Ipv4Addr::from_bits(first)).parse().unwrap();
            let naive = (0..bits).all(|i| first >> (31 - i) & 1 == address >> (31 - i) & 1);
            prop_assert_eq!(range.contains(std::net::Ipv4Addr::from_bits(address).into()), naive);
        }

        #[test]
        fn no_header_moves_the_address_of_an_untrusted_peer(header in ".{0,80}") {
            let peer: IpAddr = "192.0.2.1".parse().unwrap();
            prop_assert_eq!(client(peer, [header.as_str()].into_iter(), &ranges(&["10.0.0.0/8"])), peer);
        }
    }
}
