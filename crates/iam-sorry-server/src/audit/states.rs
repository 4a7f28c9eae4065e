//! What the trail says of the service itself: that it started, stopped or died; and that its rules, configuration or keys
//! are others than those recorded last, also where they changed while nothing ran. No values: digests, fingerprints, and
//! the names of what changed.
//!
//! Each instance says so for itself; at its start it compares with what was recorded last, by whichever instance.

use std::collections::BTreeMap;
use std::time::Duration;

use iam_sorry_core::audit::{Event, Outcome};
use iam_sorry_core::credentials::Credentials;
use iam_sorry_core::digest::sha256_hex;
use iam_sorry_rules::RuleSet;
use iam_sorry_store::{RecordedState, Running, StoreError};
use serde::{Deserialize, Serialize};

use crate::clock::rfc3339;
use crate::error::ServiceError;
use crate::operations::life::TAKEOVER;
use crate::service::Service;

/// How much of a list of names goes into a record.
const MOST_BYTES: usize = 2_000;

const RULES: &str = "rules";
const CONFIGURATION: &str = "configuration";
const KEYS: &str = "keys";

/// The digest of something with parts, and of each part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digests {
    whole: String,
    parts: BTreeMap<String, String>,
}

impl Digests {
    /// From the parts' own bytes.
    pub fn of(parts: impl IntoIterator<Item = (String, String)>) -> Self {
        let parts: BTreeMap<_, _> =
            parts.into_iter().map(|(name, text)| (name, sha256_hex(&[text.as_bytes()]))).collect();
        let all: Vec<&[u8]> =
            parts.iter().flat_map(|(name, digest)| [name.as_bytes(), digest.as_bytes()]).collect();
        Self { whole: sha256_hex(&all), parts }
    }

    fn of_rules(rules: &RuleSet) -> Self {
        let digest = rules.digest();
        Self { whole: digest.whole().to_string(), parts: digest.parts().clone() }
    }
}

/// What an instance is as it starts.
#[derive(Clone, Debug, Default)]
pub struct StartFacts {
    /// The configuration, without secrets: they are not in it.
    pub configuration: Digests,
    /// Fingerprints by name: `audit-key`, `certificate`, `aws-identity`, `aws-access-key`.
    pub keys: BTreeMap<String, String>,
}

impl Service {
    /// Records that this instance starts, with what it starts with; before that, what is other than was recorded last,
    /// and which instances died. Before anything is served: what can't be recorded is not begun.
    ///
    /// # Errors
    /// [`ServiceError`]: nothing was recorded.
    pub async fn record_start(&self, facts: StartFacts) -> Result<(), ServiceError> {
        self.record_lost_instances().await?;
        let rules = self.rules();
        let states = [
            (RULES, Digests::of_rules(&rules)),
            (CONFIGURATION, facts.configuration.clone()),
            (KEYS, Digests { whole: String::new(), parts: facts.keys.clone() }),
        ];
        let mut events = Vec::new();
        for (name, now) in &states {
            if let Some(before) = self.recorded(name).await? {
                events.extend(self.changes(name, &before, now));
            }
        }
        let mut started = self.own_event("service-started");
        started.outcome = Some(Outcome::Success);
        started.rules_digest = Some(rules.digest().whole().to_string());
        started.details.insert("version".to_owned(), env!("CARGO_PKG_VERSION").to_owned());
        started.details.insert(CONFIGURATION.to_owned(), facts.configuration.whole);
        started.details.extend(facts.keys);
        events.push(started);
        let states = states.iter().map(|(name, digests)| state(name, digests)).collect();
        self.store().record_states(events, states, Running::Started).await?;
        Ok(())
    }

    /// Records that this instance stops: why, and how many operations it leaves to be settled.
    ///
    /// # Errors
    /// [`StoreError`]: the next start will say that it died.
    pub async fn record_stop(&self, reason: &str, left: usize) -> Result<(), StoreError> {
        if let Err(error) = self.record_counted(true).await {
            tracing::error!(%error, "refused sign-ins that were counted can't be recorded");
        }
        let mut event = self.own_event("service-stopped");
        event.outcome = Some(Outcome::Success);
        event.details.insert("reason".to_owned(), reason.to_owned());
        event.details.insert("operations-left".to_owned(), left.to_string());
        self.store().record_states(vec![event], Vec::new(), Running::Stopped).await
    }

    /// Records that other rules are about to be in force. Without an error, they may be.
    ///
    /// # Errors
    /// [`StoreError`]: the rules in force must stay.
    pub async fn record_rules(&self, before: &RuleSet, now: &RuleSet) -> Result<(), StoreError> {
        let (before, now) = (Digests::of_rules(before), Digests::of_rules(now));
        if before == now {
            return Ok(());
        }
        let events = self.changes(RULES, &before, &now);
        self.store().record_states(events, vec![state(RULES, &now)], Running::Unchanged).await
    }

    /// Records that a key is about to be another one (`certificate`, `aws-access-key`). Nothing where it is as recorded,
    /// or where no start was recorded.
    ///
    /// # Errors
    /// [`StoreError`]: the key in use must stay.
    pub async fn record_key(&self, name: &str, fingerprint: &str) -> Result<(), StoreError> {
        // Two that notice it at once are to record it once.
        let _one_at_a_time = self.inner.recording_keys.lock().await;
        let Some(before) = self.recorded(KEYS).await? else { return Ok(()) };
        let mut now = before.clone();
        now.parts.insert(name.to_owned(), fingerprint.to_owned());
        if now == before {
            return Ok(());
        }
        let events = self.changes(KEYS, &before, &now);
        self.store().record_states(events, vec![state(KEYS, &now)], Running::Unchanged).await
    }

    /// A permanent key of the service's own that is another one since the last look. Temporary ones change every hour, and
    /// belong to an identity that was recorded.
    pub(crate) async fn record_own_credentials(&self, credentials: &Credentials) -> Result<(), StoreError> {
        match credentials.session_token {
            None => self.record_key("aws-access-key", &credentials.access_key_id).await,
            Some(_) => Ok(()),
        }
    }

    /// Records each instance that is at work as far as the trail goes and has not been heard of: that ends its lane.
    pub(crate) async fn record_lost_instances(&self) -> Result<(), StoreError> {
        let silent = if self.inner.parts.other_instances { TAKEOVER } else { Duration::ZERO };
        for lost in self.store().lost_instances(silent).await? {
            let mut event = self.own_event("service-lost");
            event.outcome = Some(Outcome::Failure);
            event.resource.clone_from(&lost.id);
            if let Some(beat_ms) = lost.beat_ms {
                event.details.insert("last-heard".to_owned(), rfc3339(beat_ms));
            }
            if self.store().record_lost(&lost.id, silent, event).await? {
                tracing::warn!(instance = lost.id, "an instance ended without having stopped");
            }
        }
        Ok(())
    }

    /// An event of the service's own. It names no person, since any name for the service could be somebody's.
    pub(crate) fn own_event(&self, action: &str) -> Event {
        Event {
            time_ms: self.clock().now_ms(),
            instance: self.instance().to_owned(),
            action: action.to_owned(),
            ..Event::default()
        }
    }

    async fn recorded(&self, name: &str) -> Result<Option<Digests>, StoreError> {
        let text = self.store().recorded_state(name).await?;
        let parse = |text: String| {
            serde_json::from_str(&text)
                .map_err(|_| StoreError::Corrupt(format!("what was recorded of {name} can't be read")))
        };
        text.map(parse).transpose()
    }

    /// The records of a change: of keys one for each, of anything else one for all.
    fn changes(&self, name: &str, before: &Digests, now: &Digests) -> Vec<Event> {
        if name == KEYS {
            let names: std::collections::BTreeSet<_> = before.parts.keys().chain(now.parts.keys()).collect();
            let differ = names.into_iter().filter(|key| before.parts.get(*key) != now.parts.get(*key));
            let of =
                |key: &String| self.changed(key, before.parts.get(key).cloned(), now.parts.get(key).cloned());
            return differ.map(of).collect();
        }
        if before == now {
            return Vec::new();
        }
        let mut event = self.changed(name, Some(before.whole.clone()), Some(now.whole.clone()));
        if name == RULES {
            event.rules_digest = Some(now.whole.clone());
        }
        let in_only = |one: &Digests, two: &Digests| {
            names(one.parts.keys().filter(|part| !two.parts.contains_key(*part)))
        };
        let both = before
            .parts
            .iter()
            .filter(|(part, digest)| now.parts.get(*part).is_some_and(|new| new != *digest));
        let lists = [
            ("added", in_only(now, before)),
            ("removed", in_only(before, now)),
            ("changed", names(both.map(|(part, _)| part))),
        ];
        for (what, list) in lists {
            if let Some(list) = list {
                event.details.insert(what.to_owned(), list);
            }
        }
        vec![event]
    }

    fn changed(&self, name: &str, before: Option<String>, now: Option<String>) -> Event {
        let mut event = self.own_event(&format!("{name}-changed"));
        event.outcome = Some(Outcome::Success);
        let values = [("old", before), ("new", now)];
        event.details.extend(values.into_iter().filter_map(|(what, value)| Some((what.to_owned(), value?))));
        event
    }
}

fn state(name: &str, digests: &Digests) -> RecordedState {
    // A map of strings to strings: nothing in it that JSON could not hold.
    let digests = serde_json::to_string(digests).unwrap_or_default();
    RecordedState { name: name.to_owned(), digests }
}

/// The names, as many as a record holds, and how many more there are; none where there is none.
fn names<'a>(all: impl Iterator<Item = &'a String>) -> Option<String> {
    let (mut text, mut more) = (String::new(), 0);
    for name in all {
        if text.len() + name.len() > MOST_BYTES {
            more += 1;
            continue;
        }
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push_str(name);
    }
    if more > 0 {
        text.push_str(&format!(", and {more} more"));
    }
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_is_cut_and_counted() {
        let all: Vec<String> = (0..10_000).map(|n| format!("rule number-{n}")).collect();
        let text = names(all.iter()).unwrap();
        assert!(text.len() < 2_200 && text.starts_with("rule number-0, rule number-1, "), "{text}");
        let named = text.matches("number-").count();
        assert!(text.ends_with(&format!(", and {} more", 10_000 - named)), "{text}");
        assert_eq!(names([].into_iter()), None);
    }
}
