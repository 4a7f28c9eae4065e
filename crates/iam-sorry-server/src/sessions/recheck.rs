//! The recheck: a person who is signed in is looked up again in the source that they came from, in the background, once for
//! all their sessions, well before their last check is too old; their requests go on meanwhile with what is known. Only a
//! check that is too old is waited for, and for less than a second, whatever the source does. If it can't be reached, sessions
//! go on for a while (`recheck_grace_minutes`), then no longer.

use std::time::Duration;

use iam_sorry_core::identity::{Identity, Method};
use iam_sorry_store::Session;
use tokio::sync::watch;

use crate::error::ServiceError;
use crate::login::source::{Purpose, Sought};
use crate::login::{LoginError, RejectReason};
use crate::runtime;
use crate::service::Service;
use crate::sessions::door::slow;
use crate::sessions::people::{RETRY_MS, Standing};
use crate::sessions::sign_in_texts::not_confirmed;

/// How long a request waits for a check.
const WAIT: Duration = Duration::from_millis(300);
/// A check that takes longer has failed.
const CHECK_TIMEOUT: Duration = Duration::from_secs(30);

impl Service {
    /// The session with its person as they are known; waits for no other machine for longer than [`WAIT`]. A reason: the person
    /// may not go on.
    ///
    /// # Errors
    /// directory-unavailable if for too long nobody could confirm that they may.
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
                return Err(not_confirmed());
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

    /// Looks the person up, once for all who wait for it, in a task that goes on if they stop waiting.
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
        let looked_up =
            tokio::time::timeout(CHECK_TIMEOUT, self.look_up(person, person.method, Purpose::Recheck)).await;
        let found = match looked_up.unwrap_or_else(|_| Err(slow())) {
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

    /// Waits for a check, not for long, and not again if somebody has waited for this one in vain.
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

    /// The person as their source has them now, for a sign-in or a session by `method`.
    pub(crate) async fn look_up(
        &self,
        person: &Identity,
        method: Method,
        purpose: Purpose,
    ) -> Result<Identity, LoginError> {
        let sought = Sought { subject: &person.subject, method, purpose, now: self.clock().now() };
        self.sign_in().methods().lookup(&person.issuer, sought).await
    }
}
