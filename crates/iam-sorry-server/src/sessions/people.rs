//! What is known of the people who are signed in, as their sources had them at the last check (`recheck`).

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use iam_sorry_core::group::Group;
use iam_sorry_core::identity::Identity;
use iam_sorry_store::Session;
use tokio::sync::watch;

use crate::login::RejectReason;
use crate::sessions::recent::MOST_KEPT;
use crate::sessions::settings::{Ages, SKEW_MS};

/// A person who could not be looked up again is tried again after this.
pub(super) const RETRY_MS: i64 = 60_000;

/// By issuer and subject, so that finding one needs no new text.
#[derive(Default)]
pub(crate) struct People(Mutex<HashMap<String, HashMap<String, Known>>>);

/// What is known of one person.
#[derive(Default)]
pub(super) struct Known {
    /// What the last check that was answered found, and when that check began.
    pub(super) found: Option<(i64, Result<Identity, RejectReason>)>,
    /// The sessions that have what was found written down.
    pub(super) written: HashSet<String>,
    /// No check before this time, after one that was not answered.
    pub(super) not_before_ms: i64,
    /// The check under way; it has ended when the sender is gone.
    pub(super) running: Option<watch::Receiver<()>>,
    /// Somebody has waited for it in vain.
    pub(super) slow: bool,
}

/// What follows for a session.
pub(crate) enum Standing {
    /// It may be used. `look`: it is time to look the person up again.
    Good { look: bool },
    /// The last check is too old to be relied on. `bearable`: it is good enough while the source can't be reached.
    Old { look: bool, bearable: bool },
    /// The person may not sign in any more.
    Over(RejectReason),
}

impl People {
    /// Where the session stands. Puts the person into it as the last check found them.
    /// `before` gets the person as they were, if that is somebody else.
    pub fn standing(
        &self,
        session: &mut Session,
        ages: Ages,
        now: i64,
        before: &mut Option<Identity>,
    ) -> Standing {
        let people = self.people();
        let known = people.get(&session.identity.issuer).and_then(|of| of.get(&session.identity.subject));
        let mut checked = session.signed_in_ms;
        // Who signed in after the check began has proved more than it knew.
        if let Some((began, found)) = known.and_then(|known| known.found.as_ref())
            && *began >= session.signed_in_ms
        {
            match found {
                Err(why) => return Standing::Over(*why),
                Ok(found) => put_in(found, session, before),
            }
            checked = *began;
        }
        let age = now - checked;
        let before_upgrade = session.identity.groups.iter().any(Group::is_of_version_1);
        let look = known.is_none_or(|known| {
            // A time too far off is from before the clock was set back.
            now >= known.not_before_ms || known.not_before_ms > now + RETRY_MS
        });
        // A check from the future: the clock was set back since.
        if before_upgrade || age >= ages.limit || age < -SKEW_MS {
            let bearable = !before_upgrade && (-SKEW_MS..ages.limit + ages.grace).contains(&age);
            return Standing::Old { look, bearable };
        }
        Standing::Good { look: look && age >= ages.limit / 3 * 2 }
    }

    /// Whether what was found is still to be written down for this session; from now on it is.
    pub(super) fn to_be_written(&self, session: &Session) -> bool {
        let mut people = self.people();
        let known =
            people.get_mut(&session.identity.issuer).and_then(|of| of.get_mut(&session.identity.subject));
        known.is_some_and(|known| known.written.insert(session.id.clone()))
    }

    /// Changes what is known of a person.
    pub(super) fn change(&self, person: &Identity, change: impl FnOnce(&mut Known)) {
        let mut people = self.people();
        let of = people.entry(person.issuer.clone()).or_default();
        if of.len() >= MOST_KEPT {
            of.retain(|_, known| known.running.is_some());
        }
        change(of.entry(person.subject.clone()).or_default());
    }

    fn people(&self) -> MutexGuard<'_, HashMap<String, HashMap<String, Known>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Nearly always nothing has changed since the last request; then nothing is copied.
fn put_in(found: &Identity, session: &mut Session, before: &mut Option<Identity>) {
    let person = &mut session.identity;
    if person.name == found.name && person.groups.are(&found.groups) {
        return;
    }
    let now = Identity { method: session.method, ..found.clone() };
    if *person == now {
        person.groups = now.groups;
    } else {
        before.get_or_insert(std::mem::replace(person, now));
    }
}

#[cfg(test)]
mod tests {
    use iam_sorry_core::identity::Method;

    use super::*;

    const MINUTE: i64 = 60_000;
    const START: i64 = 1_795_374_000_000;
    const AGES: Ages = Ages { limit: 15 * MINUTE, grace: 60 * MINUTE };

    fn person(group: &str) -> Identity {
        Identity {
            issuer: "corp".into(),
            subject: "1".into(),
            name: "alice".into(),
            groups: [Group::named("corp", group)].into_iter().collect(),
            method: Method::Ldap,
        }
    }

    fn session(signed_in_ms: i64) -> Session {
        Session {
            id: "session".into(),
            token_hash: [0; 32],
            form_hash: None,
            identity: person("before"),
            method: Method::SshKey,
            signed_in_ms,
            last_used_ms: signed_in_ms,
            expires_ms: i64::MAX,
            address: String::new(),
            key: None,
            via: None,
        }
    }

    fn found(began: i64, found: Result<Identity, RejectReason>) -> People {
        let people = People::default();
        people.change(&person(""), |known| known.found = Some((began, found)));
        people
    }

    fn text(standing: &Standing) -> String {
        match standing {
            Standing::Good { look } => format!("good, look: {look}"),
            Standing::Old { look, bearable } => format!("old, look: {look}, bearable: {bearable}"),
            Standing::Over(why) => format!("over: {why}"),
        }
    }

    fn after(people: &People, minutes: i64) -> String {
        text(&people.standing(&mut session(START), AGES, START + minutes * MINUTE, &mut None))
    }

    #[test]
    fn a_check_is_looked_for_early_waited_for_when_due_and_needed_in_the_end() {
        let unknown = People::default();
        for (minutes, expected) in [
            (0, "good, look: false"),
            (9, "good, look: false"),
            (10, "good, look: true"),
            (14, "good, look: true"),
            (15, "old, look: true, bearable: true"),
            (74, "old, look: true, bearable: true"),
            (75, "old, look: true, bearable: false"),
            // The clock was set back by more than clocks differ.
            (-6, "old, look: true, bearable: false"),
        ] {
            assert_eq!(after(&unknown, minutes), expected, "{minutes} minutes after the sign-in");
        }
        let checked = found(START + 10 * MINUTE, Ok(person("before")));
        assert_eq!(after(&checked, 19), "good, look: false");
        assert_eq!(after(&checked, 25), "old, look: true, bearable: true");
        checked.change(&person(""), |known| known.not_before_ms = START + 26 * MINUTE);
        assert_eq!(after(&checked, 25), "old, look: false, bearable: true", "not so soon again");
    }

    #[test]
    fn what_a_check_found_is_for_those_who_had_signed_in_before_it_began() {
        let (mut earlier, mut later) = (session(START), session(START + 2));
        let (gone, mut before) = (found(START + 1, Err(RejectReason::Disabled)), None);
        assert_eq!(text(&gone.standing(&mut earlier, AGES, START + 3, &mut before)), "over: disabled");
        assert_eq!(text(&gone.standing(&mut later, AGES, START + 3, &mut before)), "good, look: false");

        let changed = found(START + 1, Ok(person("after")));
        let _ = changed.standing(&mut later, AGES, START + 3, &mut before);
        assert_eq!((later.identity.groups.labels(), &before), (vec!["before".to_owned()], &None));
        let _ = changed.standing(&mut earlier, AGES, START + 3, &mut before);
        assert_eq!(earlier.identity.groups.labels(), ["after"]);
        assert_eq!(earlier.identity.method, Method::SshKey, "how they signed in is the session's");
        assert_eq!(before, Some(person("before")));
        assert!(changed.to_be_written(&earlier) && !changed.to_be_written(&earlier), "once");
    }
}
