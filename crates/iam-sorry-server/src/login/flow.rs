//! The two steps of a dialogue, and what lies between them ([`LoginFlow`]): the first step gives out a random id, the second
//! brings it back, once, from where it was begun.
//!
//! Secrets that a dialogue needs at its second step are best made from the id (which the store has the hash of) rather than
//! put into the flow's data: a copy of the database then takes nobody through it.

use std::net::IpAddr;

use iam_sorry_core::digest::sha256;
use iam_sorry_core::ssh::login::Origin;
use iam_sorry_store::{FlowKey, FlowKind, LoginFlow};

use super::limits::network_address;

/// Keeps the hash of a flow's id apart from every other use of SHA-256.
const ID: &[u8] = b"iam-sorry login flow v1";
/// The same for the cookie of the browser that a flow is bound to.
const BROWSER: &[u8] = b"iam-sorry login flow browser v1";
/// How far the clocks of two instances may differ: the second step may reach another instance than the first.
const CLOCKS_DIFFER_MS: i64 = 2_000;

/// The first step of a dialogue.
#[derive(Clone, Copy, Debug)]
pub struct FirstStep<'a> {
    /// Which dialogue.
    pub kind: FlowKind,
    /// The id of the offer that it belongs to (`Offer::id`).
    pub source: &'a str,
    /// The random id that is given out, of 256 bits.
    pub id: &'a str,
    /// Where the second step must come from: this address, or one of its network; none: anywhere.
    pub address: Option<IpAddr>,
    /// The cookie that the second step must come with; none: it is no browser's.
    pub browser: Option<&'a str>,
    /// What the dialogue needs at its second step.
    pub data: &'a [u8],
    /// Milliseconds since 1970.
    pub begun_ms: i64,
    /// How long the second step may take, milliseconds.
    pub lasts_ms: i64,
}

/// The second step of a dialogue: what it came with.
#[derive(Clone, Copy, Debug)]
pub struct SecondStep<'a> {
    /// The service's origin.
    pub origin: &'a Origin,
    /// Where it came from.
    pub address: IpAddr,
    /// The cookie that it came with.
    pub browser: Option<&'a str>,
    /// Milliseconds since 1970.
    pub now_ms: i64,
}

impl FirstStep<'_> {
    /// What is kept until the second step.
    pub fn flow(&self, origin: &Origin) -> LoginFlow {
        LoginFlow {
            key: key(self.kind, self.source, self.id),
            origin: origin.to_string(),
            network: self.address.map(network_of),
            browser_hash: self.browser.map(browser_hash),
            data: self.data.to_vec(),
            begun_ms: self.begun_ms,
            expires_ms: self.begun_ms.saturating_add(self.lasts_ms),
        }
    }
}

impl SecondStep<'_> {
    /// Whether this is the second step of a flow that was taken: in time, at the same origin, from where the first was made.
    pub fn continues(&self, flow: &LoginFlow) -> bool {
        // Also not before it began: a clock that was set back gives no flow a longer life.
        let in_time = (flow.begun_ms - CLOCKS_DIFFER_MS..flow.expires_ms).contains(&self.now_ms);
        let at_origin = flow.origin == self.origin.as_str();
        let from_network = flow.network.as_ref().is_none_or(|network| *network == network_of(self.address));
        // Hashes of random values: who can time the comparison learns nothing to use.
        let by_browser = flow.browser_hash.is_none_or(|hash| self.browser.map(browser_hash) == Some(hash));
        in_time && at_origin && from_network && by_browser
    }
}

/// Names the flow of this id.
pub fn key(kind: FlowKind, source: &str, id: &str) -> FlowKey {
    let id_hash = sha256(&[ID, kind.as_str().as_bytes(), id.as_bytes()]);
    FlowKey { kind, source: source.to_owned(), id_hash }
}

/// The network of an address, as flows are bound to it and counted by it.
pub fn network_of(address: IpAddr) -> String {
    network_address(address).to_string()
}

fn browser_hash(cookie: &str) -> [u8; 32] {
    sha256(&[BROWSER, cookie.as_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_795_374_000_500;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_second_step_continues_only_what_it_belongs_to() {
        let origin = Origin::parse("https://aws.example.edu").unwrap();
        let here = address("2001:db8::1");
        let first = FirstStep {
            kind: FlowKind::SshLogin,
            source: "sso",
            id: "random",
            address: Some(here),
            browser: Some("cookie"),
            data: b"",
            begun_ms: NOW,
            lasts_ms: 60_000,
        };
        let second = SecondStep { origin: &origin, address: here, browser: Some("cookie"), now_ms: NOW };
        let flow = first.flow(&origin);
        let elsewhere = Origin::parse("https://aws.example.edu:8443").unwrap();
        assert!(second.continues(&flow));
        for good in [
            SecondStep { address: address("2001:db8::2"), ..second },
            SecondStep { now_ms: NOW + 59_999, ..second },
            SecondStep { now_ms: NOW - 2_000, ..second },
        ] {
            assert!(good.continues(&flow), "{good:?}");
        }
        for bad in [
            SecondStep { origin: &elsewhere, ..second },
            SecondStep { address: address("2001:db8:0:1::1"), ..second },
            SecondStep { browser: None, ..second },
            SecondStep { browser: Some("another"), ..second },
            SecondStep { now_ms: NOW + 60_000, ..second },
            SecondStep { now_ms: NOW - 2_001, ..second },
        ] {
            assert!(!bad.continues(&flow), "{bad:?}");
        }
        // What the first step was not bound to, the second is free in.
        let free = FirstStep { address: None, browser: None, ..first }.flow(&origin);
        for good in [SecondStep { address: address("192.0.2.1"), browser: None, ..second }, second] {
            assert!(good.continues(&free), "{good:?}");
        }
    }

    #[test]
    fn the_store_gets_no_id_and_each_dialogue_has_ids_of_its_own() {
        let of = |kind| key(kind, "sso", "random").id_hash;
        assert_ne!(of(FlowKind::SshLogin), of(FlowKind::DevLink));
        assert_ne!(of(FlowKind::SshLogin), sha256(&[b"random"]));
        assert_eq!(of(FlowKind::SshLogin), key(FlowKind::SshLogin, "other", "random").id_hash);
    }
}
