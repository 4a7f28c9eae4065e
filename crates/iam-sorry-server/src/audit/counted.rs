//! Records that somebody could make without end: refused sign-ins, and what a signed-in person asks for over and over
//! without anything being done. The first ones are recorded one by one. What comes faster is counted, and each minute one
//! record says how much of what it was, so that an attack of any strength writes a few hundred bytes a second.
//!
//! Counts are exact, also where names and addresses are so many that not each is kept. They lie in memory: kill -9 loses
//! those of the current minute, a stop writes them.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use iam_sorry_core::audit::{Decision, Event, Outcome, Person};
use iam_sorry_store::StoreError;

use crate::clock::rfc3339;
use crate::service::Service;

/// How long is counted before it is recorded, milliseconds.
const WINDOW_MS: i64 = 60_000;
/// Within a window, the refused sign-ins of one network that are recorded one by one.
const SINGLES_PER_NETWORK: u64 = 10;
/// The same for one person, whom the directory knows: an attack on them shows under their name whatever else goes on.
const SINGLES_PER_PERSON: u64 = 3;
/// So many records at once, and so many a minute in the long run.
const BURST: i64 = 100;
const PER_MINUTE: i64 = 10;
/// So many names, networks and the like are counted each for itself.
const MOST_COUNTED: usize = 1_000;
/// The same of what one person asks for.
const MOST_OF_A_PERSON: usize = 50;
/// So much of a resource's name is counted by, bytes.
const RESOURCE: usize = 64;
/// So many of them are named in a record.
const MOST_NAMED: usize = 20;
/// So many people are counted each for themselves.
const MOST_PEOPLE: usize = 1_000;
/// How often it is looked whether a window is over.
pub(crate) const LOOK: Duration = Duration::from_secs(5);

/// What was counted, and not recorded yet.
#[derive(Default)]
pub(crate) struct Counted {
    sign_ins: Mutex<SignIns>,
    people: Mutex<HashMap<String, Repeats>>,
}

/// A budget of records that fills up again.
#[derive(Clone, Copy, Debug)]
struct Budget {
    /// In 60,000ths of a record: one a minute is one a millisecond.
    left: i64,
    at_ms: i64,
}

impl Default for Budget {
    fn default() -> Self {
        Self { left: BURST * WINDOW_MS, at_ms: i64::MIN }
    }
}

impl Budget {
    fn take(&mut self, now_ms: i64) -> bool {
        // A clock that was set back gives nothing, and takes nothing away.
        let passed = now_ms.saturating_sub(self.at_ms).max(0);
        self.at_ms = now_ms;
        self.left = passed.saturating_mul(PER_MINUTE).saturating_add(self.left).min(BURST * WINDOW_MS);
        let there = self.left >= WINDOW_MS;
        if there {
            self.left -= WINDOW_MS;
        }
        there
    }

    fn is_full_at(&self, now_ms: i64) -> bool {
        let passed = now_ms.saturating_sub(self.at_ms).max(0);
        passed.saturating_mul(PER_MINUTE).saturating_add(self.left) >= BURST * WINDOW_MS
    }
}

/// How often each of many things came; of those that came when there was no more room, how many.
#[derive(Clone, Debug)]
struct Tally {
    most: usize,
    each: HashMap<String, u64>,
    others: u64,
}

impl Default for Tally {
    fn default() -> Self {
        Self::of(MOST_COUNTED)
    }
}

impl Tally {
    fn of(most: usize) -> Self {
        Self { most, each: HashMap::new(), others: 0 }
    }

    fn add(&mut self, what: &str, count: u64) {
        if let Some(there) = self.each.get_mut(what) {
            *there += count;
        } else if self.each.len() < self.most {
            self.each.insert(what.to_owned(), count);
        } else {
            self.others += count;
        }
    }

    fn merge(&mut self, other: &Self) {
        for (what, count) in &other.each {
            self.add(what, *count);
        }
        self.others += other.others;
    }

    /// `alice 812, bob 3, 40 of 17 others`: the most frequent first.
    fn text(&self) -> String {
        let mut all: Vec<(&String, &u64)> = self.each.iter().collect();
        all.sort_by(|one, two| two.1.cmp(one.1).then(one.0.cmp(two.0)));
        let (named, rest) = all.split_at(all.len().min(MOST_NAMED));
        let mut texts: Vec<String> = named.iter().map(|(what, count)| format!("{what} {count}")).collect();
        let more = rest.iter().map(|(_, count)| **count).sum::<u64>() + self.others;
        if more > 0 {
            let at_least = if self.others > 0 { "more than " } else { "" };
            texts.push(format!("{more} of {at_least}{} others", rest.len()));
        }
        texts.join(", ")
    }
}

/// When what was counted happened, and how much there is.
#[derive(Clone, Copy, Debug, Default)]
struct Span {
    count: u64,
    first_ms: i64,
    last_ms: i64,
}

impl Span {
    fn add(&mut self, now_ms: i64) {
        if self.count == 0 {
            self.first_ms = now_ms;
        }
        self.count += 1;
        self.last_ms = now_ms;
    }

    /// What comes after `earlier`.
    fn merge(&mut self, earlier: Self) {
        self.first_ms = earlier.first_ms;
        self.last_ms = if self.count == 0 { earlier.last_ms } else { self.last_ms };
        self.count += earlier.count;
    }

    fn is_due(&self, now_ms: i64) -> bool {
        // One from the future: the clock was set back.
        self.count > 0 && !(self.first_ms..self.first_ms + WINDOW_MS).contains(&now_ms)
    }

    fn fill(&self, event: &mut Event) {
        event.details.insert("count".to_owned(), self.count.to_string());
        event.details.insert("from".to_owned(), rfc3339(self.first_ms));
        event.details.insert("to".to_owned(), rfc3339(self.last_ms));
    }
}

#[derive(Default)]
struct SignIns {
    budget: Budget,
    /// Apart, so that noise about unknown names does not use up what is there for people.
    budget_for_people: Budget,
    /// Since when `networks` and `people` count.
    singles_since_ms: i64,
    networks: Tally,
    people: Tally,
    counted: CountedSignIns,
}

/// Refused sign-ins that were not recorded one by one.
#[derive(Clone, Debug, Default)]
struct CountedSignIns {
    span: Span,
    reasons: Tally,
    networks: Tally,
    people: Tally,
    /// Of whom no name is known.
    nameless: u64,
}

impl SignIns {
    /// Whether this one is recorded by itself; else it is counted.
    fn admit(&mut self, now_ms: i64, network: &str, person: &str) -> bool {
        if !(self.singles_since_ms..self.singles_since_ms + WINDOW_MS).contains(&now_ms) {
            self.singles_since_ms = now_ms;
            (self.networks, self.people) = Default::default();
        }
        let few = |tally: &Tally, what: &str, most: u64| match tally.each.get(what) {
            Some(count) => *count < most,
            None => tally.each.len() < tally.most,
        };
        if !person.is_empty()
            && few(&self.people, person, SINGLES_PER_PERSON)
            && self.budget_for_people.take(now_ms)
        {
            self.people.add(person, 1);
            return true;
        }
        if few(&self.networks, network, SINGLES_PER_NETWORK) && self.budget.take(now_ms) {
            self.networks.add(network, 1);
            return true;
        }
        false
    }

    fn count(&mut self, event: &Event, network: &str) {
        let counted = &mut self.counted;
        counted.span.add(event.time_ms);
        let method = event.person.method.map_or("", |method| method.as_str());
        let reason = event.details.get("reason").map_or("", String::as_str);
        counted.reasons.add(&format!("{method} {reason}"), 1);
        counted.networks.add(network, 1);
        match event.person.name.as_str() {
            "" => counted.nameless += 1,
            name => counted.people.add(name, 1),
        }
    }
}

impl CountedSignIns {
    fn merge(&mut self, earlier: &Self) {
        self.span.merge(earlier.span);
        self.reasons.merge(&earlier.reasons);
        self.networks.merge(&earlier.networks);
        self.people.merge(&earlier.people);
        self.nameless += earlier.nameless;
    }

    fn fill(&self, event: &mut Event) {
        event.outcome = Some(Outcome::Failure);
        self.span.fill(event);
        event.details.insert("reasons".to_owned(), self.reasons.text());
        event.details.insert("networks".to_owned(), self.networks.text());
        if !self.people.each.is_empty() {
            event.details.insert("people".to_owned(), self.people.text());
        }
        if self.nameless > 0 {
            event.details.insert("no-known-person".to_owned(), self.nameless.to_string());
        }
    }
}

/// What one person asks for over and over.
struct Repeats {
    budget: Budget,
    person: Person,
    address: String,
    span: Span,
    actions: Tally,
    resources: Tally,
}

impl Repeats {
    fn new(person: Person) -> Self {
        Self {
            budget: Budget::default(),
            person,
            address: String::new(),
            span: Span::default(),
            actions: Tally::of(MOST_OF_A_PERSON),
            resources: Tally::of(MOST_OF_A_PERSON),
        }
    }

    fn count(&mut self, event: &Event) {
        self.span.add(event.time_ms);
        self.person = event.person.clone();
        self.address.clone_from(&event.address);
        // What was allowed and failed all the same is not to be read as done.
        let what = match (event.decision, event.outcome) {
            (Some(Decision::Allow), Some(Outcome::Failure)) => Outcome::Failure.as_str(),
            (decision, _) => decision.map_or("", Decision::as_str),
        };
        self.actions.add(format!("{} {what}", event.action).trim_end(), 1);
        self.resources.add(&event.resource[..event.resource.floor_char_boundary(RESOURCE)], 1);
    }

    fn merge(&mut self, earlier: &Self) {
        self.span.merge(earlier.span);
        self.actions.merge(&earlier.actions);
        self.resources.merge(&earlier.resources);
    }

    fn fill(&self, event: &mut Event) {
        event.person = self.person.clone();
        event.address.clone_from(&self.address);
        self.span.fill(event);
        event.details.insert("actions".to_owned(), self.actions.text());
        event.details.insert("resources".to_owned(), self.resources.text());
    }
}

impl Service {
    /// Records a refused sign-in; or counts it where there are too many, and says false.
    pub(crate) async fn record_refused_sign_in(
        &self,
        event: Event,
        address: IpAddr,
    ) -> Result<bool, StoreError> {
        let network = network(address);
        {
            let mut sign_ins = self.counted().sign_ins.lock().unwrap_or_else(PoisonError::into_inner);
            if !sign_ins.admit(event.time_ms, &network, &event.person.name) {
                sign_ins.count(&event, &network);
                return Ok(false);
            }
        }
        self.store().record(vec![event]).await.map(|_| true)
    }

    /// Records what a person asked for without anything having been done, or counts it where they do nothing else.
    pub(crate) async fn record_bounded(&self, event: Event) -> Result<(), StoreError> {
        {
            let mut people = self.counted().people.lock().unwrap_or_else(PoisonError::into_inner);
            if people.len() >= MOST_PEOPLE && !people.contains_key(&event.person.id) {
                people
                    .retain(|_, repeats| repeats.span.count > 0 || !repeats.budget.is_full_at(event.time_ms));
            }
            // With no room left, each is recorded: a thousand people at once are no single one's loop.
            if people.len() < MOST_PEOPLE || people.contains_key(&event.person.id) {
                let repeats = people
                    .entry(event.person.id.clone())
                    .or_insert_with(|| Repeats::new(event.person.clone()));
                if !repeats.budget.take(event.time_ms) {
                    repeats.count(&event);
                    return Ok(());
                }
            }
        }
        self.store().record(vec![event]).await.map(drop)
    }

    /// Records what was counted in windows that are over; with `all`, in those under way too. What can't be recorded is kept.
    ///
    /// # Errors
    /// [`StoreError`]
    pub async fn record_counted(&self, all: bool) -> Result<(), StoreError> {
        let now = self.clock().now_ms();
        let is_due = |span: &Span| span.is_due(now) || (all && span.count > 0);
        let sign_ins = {
            let mut kept = self.counted().sign_ins.lock().unwrap_or_else(PoisonError::into_inner);
            is_due(&kept.counted.span).then(|| std::mem::take(&mut kept.counted))
        };
        let people: BTreeMap<String, Repeats> = {
            let mut kept = self.counted().people.lock().unwrap_or_else(PoisonError::into_inner);
            let due = kept.iter_mut().filter(|(_, repeats)| is_due(&repeats.span));
            due.map(|(id, repeats)| {
                let fresh = Repeats { budget: repeats.budget, ..Repeats::new(repeats.person.clone()) };
                (id.clone(), std::mem::replace(repeats, fresh))
            })
            .collect()
        };
        let mut events = Vec::new();
        if let Some(sign_ins) = &sign_ins {
            let mut event = self.own_event("sign-in-refused");
            sign_ins.fill(&mut event);
            events.push(event);
        }
        for repeats in people.values() {
            let mut event = self.own_event("requests-counted");
            repeats.fill(&mut event);
            events.push(event);
        }
        if events.is_empty() {
            return Ok(());
        }
        let written = self.store().record(events).await.map(drop);
        if written.is_err() {
            self.keep_counting(sign_ins, people);
        }
        written
    }

    /// Puts back what could not be recorded.
    fn keep_counting(&self, sign_ins: Option<CountedSignIns>, people: BTreeMap<String, Repeats>) {
        if let Some(earlier) = sign_ins {
            let mut kept = self.counted().sign_ins.lock().unwrap_or_else(PoisonError::into_inner);
            kept.counted.merge(&earlier);
        }
        let mut kept = self.counted().people.lock().unwrap_or_else(PoisonError::into_inner);
        for (id, earlier) in people {
            kept.entry(id).or_insert_with(|| Repeats::new(earlier.person.clone())).merge(&earlier);
        }
    }
}

/// The neighbourhood of an address: /24, or /64 of IPv6.
fn network(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            format!("{a}.{b}.{c}.0/24")
        }
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{}/64", std::net::Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_spent_and_fills_again() {
        let mut budget = Budget::default();
        let taken = (0..1_000).filter(|_| budget.take(5_000)).count();
        assert_eq!(taken, 100);
        assert_eq!((0..1_000).filter(|_| budget.take(5_000 + 60_000)).count(), 10, "ten a minute");
        assert!(!budget.take(4_000), "the clock was set back");
        assert!(!budget.is_full_at(5_000 + 9 * 60_000));
        assert!(budget.is_full_at(5_000 + 12 * 60_000));
    }

    #[test]
    fn a_tally_is_exact_however_many_there_are() {
        let mut tally = Tally::default();
        for n in 0..5_000 {
            tally.add(&format!("name{n}"), 1);
        }
        tally.add("name7", 11);
        let text = tally.text();
        assert!(text.starts_with("name7 12, name0 1, "), "{text}");
        assert!(text.ends_with(", 4980 of more than 980 others"), "{text}");
        assert_eq!((tally.each.len(), text.len() < 400), (1_000, true));
        let mut twice = tally.clone();
        twice.merge(&tally);
        assert_eq!(twice.each.values().sum::<u64>() + twice.others, 2 * 5_011);
    }

    #[test]
    fn networks_are_neighbourhoods() {
        let of = |text: &str| network(text.parse().unwrap());
        assert_eq!(of("198.51.100.7"), "198.51.100.0/24");
        assert_eq!(of("::ffff:198.51.100.7"), "198.51.100.0/24");
        assert_eq!(of("2001:db8:1:2:3::4"), "2001:db8:1:2::/64");
    }

    #[test]
    fn a_person_shows_by_name_in_a_flood_of_strangers() {
        let mut sign_ins = SignIns::default();
        let mut single = 0;
        for n in 0..100_000_u32 {
            let [_, a, b, c] = n.to_be_bytes();
            single += usize::from(sign_ins.admit(1_000, &format!("10.{a}.{b}.{c}/24"), ""));
        }
        assert_eq!(single, 100);
        let alice = (0..10).filter(|_| sign_ins.admit(1_000, "192.0.2.0/24", "alice")).count();
        assert_eq!(alice, 3);
    }
}
