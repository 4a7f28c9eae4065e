//! What is known of the people who are signed in, from where they come from: the directory, a file.
//!
//! A person is looked up again in the background, once for all their sessions, well before their last check is too old; their
//! requests go on meanwhile with what is known. Only a check that is too old is waited for, and for less than a second, whatever
//! the directory does. If the directory can't be asked, sessions go on for a while (`recheck_grace_minutes`), then no
//! longer.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use iam_sorry_core::group::Group;
use iam_sorry_core::identity::Identity;
use iam_sorry_store::Session;
use tokio::sync::watch;

use crate::error::ServiceError;
use crate::login::{LoginError, RejectReason};
use crate::runtime;
use crate::service::Service;
use crate::sessions::session::{MOST_KEPT, SKEW_MS};

/// A person who could not be looked up again is tried again after this.
const RETRY_MS: i64 = 60_000;
/// How long a request waits for a check.
const WAIT: Duration = Duration::from_millis(300);
/// A check that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// By issuer and subject, so that finding one needs no new text.
#[derive(Default)]
pub(crate) struct People(Mutex<HashMap<String, HashMap<String, Known>>>);

/// What is known of one person.
#[derive(Default)]
struct Known {
    /// What the last check that was answered found, and when that check began.
    found: Option<(i64, Result<Identity, RejectReason>)>,
    /// The sessions that have what was found written down.
    written: HashSet<String>,
    /// No check before this time, after one that was not answered.
    not_before_ms: i64,
    /// The check under way; it has ended when the sender is gone.
    running: Option<watch::Receiver<()>>,
    /// Somebody has waited for it in vain.
    slow: bool,
}

/// How old a check may be, milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ages {
    /// No older, while the directory can be asked.
    pub limit: i64,
    /// So much older, while it can't.
    pub grace: i64,
}

/// What follows for a session.
pub(crate) enum Standing {
    /// It may be used. `look`: it is time to look the person up again.
    Good { look: bool },
    /// The last check is too old to be relied on. `bearable`: it is good enough while the directory can't be asked.
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
    fn to_be_written(&self, session: &Session) -> bool {
        let mut people = self.people();
        let known =
            people.get_mut(&session.identity.issuer).and_then(|of| of.get_mut(&session.identity.subject));
        known.is_some_and(|known| known.written.insert(session.id.clone()))
    }

    fn change(&self, person: &Identity, change: impl FnOnce(&mut Known)) {
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

impl Service {
    /// The session with its person as they are known; waits for no other machine for longer than [`WAIT`].
    ///
    /// # Errors
    /// sign-in-needed for who may not sign in any more; directory-unavailable if nobody could confirm for too long that they
    /// may.
    pub(crate) async fn with_known_person(
        &self,
        session: &mut Session,
        now: i64,
    ) -> Result<Option<RejectReason>, ServiceError> {
        let people = &self.sign_in().people;
        let ages = self.sign_in().sessions().ages();
        let mut before = None;
        let mut standing = people.standing(session, ages, now, &mut before);
        if let Standing::Good { look: true } | Standing::Old { look: true, .. } = standing {
            let check = self.start_check(&session.identity);
            if matches!(standing, Standing::Old { .. }) {
                self.wait_for(check, &session.identity).await;
                standing = people.standing(session, ages, now, &mut before);
            }
        }
        match standing {
            Standing::Over(why) => return Ok(Some(why)),
            Standing::Old { bearable: false, .. } => {
                return Err(crate::sessions::sign_in_texts::not_confirmed());
            }
            Standing::Old { bearable: true, .. } | Standing::Good { .. } => {}
        }
        if let Some(before) = before.filter(|_| people.to_be_written(session)) {
            let written = self.store().set_session_identity(&session.id, &before, &session.identity);
            // Not written: it has ended, or has changed, since it was read. The next request reads it anew.
            written.await?;
            self.sign_in().recent.forget();
        }
        Ok(None)
    }

    /// Looks the person up, once for all who want to know, in a task that goes on whoever waits for it.
    fn start_check(&self, person: &Identity) -> watch::Receiver<()> {
        let mut under_way = watch::channel(()).1;
        self.sign_in().people.change(person, |known| {
            if let Some(running) = known.running.as_ref().filter(|running| running.has_changed().is_ok()) {
                under_way = running.clone();
                return;
            }
            let (sender, receiver) = watch::channel(());
            let (service, person) = (self.clone(), person.clone());
            runtime::spawn(async move {
                service.check(&person).await;
                drop(sender);
            });
            (known.running, known.slow) = (Some(receiver.clone()), false);
            under_way = receiver;
        });
        under_way
    }

    async fn check(&self, person: &Identity) {
        let began = self.clock().now_ms();
        let looked_up = tokio::time::timeout(PATIENCE, self.signed_in_person_now(person)).await;
        let found = match looked_up.unwrap_or_else(|_| Err(crate::sessions::sign_in::slow())) {
            Ok(identity) => Ok(Ok(identity)),
            Err(LoginError::Refused(why)) => Ok(Err(why)),
            Err(error) => Err(error),
        };
        if let Err(error) = &found {
            tracing::warn!(%error, person = person.id(), "a person who is signed in can't be looked up again");
        }
        let next = self.clock().now_ms() + RETRY_MS;
        self.sign_in().people.change(person, |known| {
            known.running = None;
            match found {
                Ok(found) => {
                    known.found = Some((began, found));
                    known.written.clear();
                    known.not_before_ms = 0;
                }
                Err(_) => known.not_before_ms = next,
            }
        });
    }

    /// Not for long, and not again if somebody has waited for this check in vain.
    async fn wait_for(&self, mut check: watch::Receiver<()>, person: &Identity) {
        let mut slow = false;
        self.sign_in().people.change(person, |known| slow = known.slow);
        if slow {
            return;
        }
        // The sender never sends: it goes away when the check has ended.
        if tokio::time::timeout(WAIT, check.changed()).await.is_err() {
            self.sign_in().people.change(person, |known| known.slow = known.running.is_some());
        }
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
