//! Settling what was left open: by an instance that died, or by this one if AWS did not answer. Nothing that an
//! operation may have made stays unaccounted for, and nothing is taken from somebody who is at work.
//!
//! # What is abandoned
//!
//! An operation of this instance whose worker has ended, and any of an instance that is dead. That takes three looks, in this
//! order: the list of open operations; for each, whether it is at work (its worker is [`crate::operations::lifecycle::Active`] from before
//! the intent is written until after its last write); and then `Store::claim`, which in one transaction looks whether the
//! operation is still open and in the hands that the list gave it, and changes hands. Who was on the list and is not at work
//! afterwards has ended; what it finished in between, the claim finds closed. (To ask who is at work *before* the list would
//! not do: an operation that began in between would be on the list and at work nowhere.) For a dead instance, the claim also
//! looks at its last beat. Every attempt claims anew, before its first request to AWS, goes by the notes that the claim read,
//! and fences whoever had the operation before.
//!
//! An operation left open holds its IAM user for itself, so no other operation changes the user meanwhile.
//!
//! # What becomes of it
//!
//! Each action says so itself, in its `settle`, beside the `act` that may have stopped anywhere: a table at the top of each file
//! of [`crate::actions`] lists what may be left, and what is done about it. Whose a key is that is found after a lost answer,
//! [`crate::operations::lost_key`] argues.

use std::time::Duration;

use iam_sorry_aws::key;
use iam_sorry_core::api::{ActionName, Change, Done};
use iam_sorry_core::audit::Outcome;
use iam_sorry_core::changes::sentences;
use iam_sorry_store::{Operation, OperationState};

use crate::actions::registry;
use crate::operations::case::{Case, SettleError, Settled};
use crate::operations::life::TAKEOVER;
use crate::operations::notes::{Note, json};
use crate::operations::outcome::{finish, finish_with_retries, outcome_event, undoing_event};
use crate::operations::settling::MadeKey;
use crate::service::Service;

/// How long the reconciler's turn lasts without being prolonged. Less than [`TAKEOVER`], so that nobody waits for the turn of
/// an instance that is dead.
const LEASE: Duration = Duration::from_secs(15);

impl Service {
    /// Looks once for operations that nobody is at work on, and settles them.
    pub(crate) async fn reconcile(&self) {
        if self.may_ask_aws().is_err() {
            return;
        }
        if let Err(error) = self.settle_what_is_left().await {
            tracing::warn!(%error, "reconciling");
        }
    }

    async fn settle_what_is_left(&self) -> Result<(), SettleError> {
        #[cfg(feature = "simulation")]
        let early = self.life().at_work();
        let open = self.store().open_operations().await?;
        self.inner.settling.forget_all_but(&open);
        let take_back = iam_sorry_aws::keeping_request_ids(self.take_back_remembered_keys(&open));
        if let Err(error) = take_back.await {
            tracing::warn!(%error, "taking keys back that could not be written down");
        }
        let (mine, others): (Vec<_>, Vec<_>) =
            open.into_iter().partition(|op| op.instance == self.instance());
        // Asked after the list was made: see the module's text.
        for seen in mine.iter().filter(|op| iam_sorry_core::planted!("at-work-before-list": !early.contains(&op.new.id), !self.life().is_active(&op.new.id))) {
            self.settle(seen, Duration::ZERO, false).await;
        }
        // On a database that only one instance can have open, every other one is dead.
        let shared = self.inner.parts.other_instances;
        let silence = if shared {
            iam_sorry_core::planted!("living-taken-over": Duration::ZERO, TAKEOVER)
        } else {
            Duration::ZERO
        };
        if others.is_empty() {
            return Ok(());
        }
        let dead = self.store().dead_instances(silence).await?;
        for seen in others.iter().filter(|op| dead.contains(&op.instance)) {
            // One at a time, so that two of us don't do the same looking. The claim decides: should the turn end in the middle,
            // nobody else gets this operation. Where there can be no other, an instance that died in its turn must not be
            // waited for.
            if shared && !self.store().lease("reconciler", LEASE).await? {
                return Ok(());
            }
            self.settle(seen, silence, shared).await;
        }
        Ok(())
    }

    /// `silent`: its instance was dead for long enough that no request of it can be under way.
    async fn settle(&self, seen: &Operation, silence: Duration, silent: bool) {
        let id = &seen.new.id;
        let Some(attempt) = self.inner.settling.turn(id) else { return };
        let fresh = iam_sorry_core::planted!("nothing-is-fresh": false, !silent && attempt.first_seen.elapsed() < self.actions().settle());
        let work = async {
            self.act_only_while_alive();
            let Some(operation) = self.claim(seen, silence).await? else { return Ok(false) };
            let settled = self.what_becomes(&operation, fresh).await;
            // As in `wait_for_late_changes`, without keeping other operations waiting. To settle it again does no harm.
            let now =
                iam_sorry_aws::last_unanswered().inspect(|at| self.inner.settling.sent_in_vain(id, *at));
            let unanswered = attempt.unanswered.max(now);
            let settled = settled?;
            if iam_sorry_core::planted!("settled-before-late-change": false, unanswered.is_some_and(|sent| sent.elapsed() < self.actions().settle()))
            {
                return Err(SettleError::TooFresh);
            }
            self.write_settled(&operation, settled, iam_sorry_aws::take_request_ids()).await?;
            Ok(true)
        };
        match iam_sorry_aws::keeping_request_ids(work).await {
            Ok(true) => self.inner.settling.forget(id),
            Ok(false) => {}
            Err(SettleError::TooFresh) => self.inner.settling.again(id, Duration::from_secs(1)),
            Err(error) => {
                tracing::warn!(%error, operation = id, action = seen.new.action, "not settled yet");
                self.inner.settling.later(id);
            }
        }
    }

    /// The operation, if it is this reconciler's from here on: whatever its worker or another instance still writes is
    /// refused.
    async fn claim(&self, seen: &Operation, silence: Duration) -> Result<Option<Operation>, SettleError> {
        let Some(mut operation) = self.store().claim(seen, silence).await? else { return Ok(None) };
        let id = &operation.new.id;
        if seen.instance != self.instance() {
            tracing::warn!(operation = id, from = seen.instance, "taken over");
        }
        if let Some(key) = self.inner.settling.remembered_key(id) {
            let note = Note::Key { id: key.id }.to_json();
            self.store().note(id, operation.epoch, note.clone()).await?;
            operation.notes.push(note);
        }
        Ok(Some(operation))
    }

    /// Keys that workers of this instance made and could not write down, and whose operations somebody else has settled
    /// meanwhile, who could not know. Their ids prove that they are the service's.
    async fn take_back_remembered_keys(&self, open: &[Operation]) -> Result<(), SettleError> {
        self.act_only_while_alive();
        for (id, key) in self.inner.settling.remembered_keys() {
            if open.iter().any(|open| open.new.id == id) {
                continue;
            }
            if let Some(operation) = self.store().operation(&id).await? {
                if operation.state == OperationState::Done {
                    let name: ActionName = operation.new.action.parse()?;
                    registry::take_back(name, self, &operation.new.plan, &key.id).await?;
                    self.inner.settling.forget(&id);
                    continue;
                }
                if !key.recorded {
                    let what = format!("access key {}, which it made", key.id);
                    self.store().record(vec![undoing_event(&operation.event, &what, self)]).await?;
                    self.inner.settling.remember_key(&id, MadeKey { recorded: true, ..key.clone() });
                }
                let handle = self.handle(&operation.new.account).await?;
                let ((aws, credentials), retry) = (handle.pair(), self.actions().retry_policy());
                key::delete_surely(aws, credentials, &key.user.name, &key.id, &retry, |_| {}).await?;
                let event = self.accounted(&id, &key.user, &key.id, "it was the service's own");
                self.store().account_for_key(&key.id, event).await?;
            }
            self.inner.settling.forget(&id);
        }
        Ok(())
    }

    async fn what_becomes(&self, operation: &Operation, fresh: bool) -> Result<Settled, SettleError> {
        let name: ActionName = operation.new.action.parse()?;
        let notes: Vec<Note> =
            operation.notes.iter().map(|note| serde_json::from_str(note)).collect::<Result<_, _>>()?;
        let handle = self.handle(&operation.new.account).await?;
        let case = Case { service: self, handle: &handle, operation, notes: &notes, fresh };
        registry::settle(name, &case).await
    }

    async fn write_settled(
        &self,
        operation: &Operation,
        settled: Settled,
        request_ids: Vec<String>,
    ) -> Result<(), SettleError> {
        let id = operation.new.id.clone();
        let (state, result, text, effects) = match settled {
            Settled::Done(changes, effects) => {
                let done = answer(operation, changes)?;
                (OperationState::Done, json(&done), done.notes.join("; "), effects)
            }
            Settled::Undone(why, effects) => {
                let written = iam_sorry_core::planted!("undone-without-effects": Default::default(), effects);
                (OperationState::Undone, json(&why), why, written)
            }
        };
        let mut event = outcome_event(&operation.event, Outcome::Reconciled, &effects, self.clock().now_ms());
        event.instance = self.instance().to_owned();
        event.aws_request_ids = request_ids;
        let what = if state == OperationState::Done { "finished" } else { "undone" };
        event.details.insert("reconciled".into(), what.into());
        event.details.insert("notes".into(), text.clone());
        let found = !effects.unaccounted.is_empty();
        finish_with_retries(self, finish(&id, operation.epoch, state, result, event, effects)).await?;
        if found {
            self.count_unaccounted().await?;
        }
        tracing::info!(operation = id, action = operation.new.action, what, notes = text, "settled");
        Ok(())
    }
}

/// The answer to whoever repeats the request.
fn answer(operation: &Operation, changes: Vec<Change>) -> Result<Done, SettleError> {
    Ok(Done {
        operation: operation.new.id.clone(),
        action: operation.new.action.parse()?,
        resource: operation.new.resource.clone(),
        changed: true,
        dry_run: false,
        notes: sentences(&changes, false),
        changes,
        reasons: Vec::new(),
    })
}
