//! The audit trail on its way out: checkpoints and sinks of a running service, and what they mean for actions. No audit,
//! no action: while a required sink is too far behind, or the trail does not fit itself, nothing new begins.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use iam_sorry_core::api::ProblemCode;
use iam_sorry_core::audit::CheckpointSigner;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::audit::checkpoints::Checkpointer;
use crate::audit::continuity::Continuity;
use crate::audit::settings::AuditSettings;
use crate::audit::sinks::{self, SinkState, Watch};
use crate::error::ServiceError;
use crate::runtime;
use crate::service::Service;

/// What a service knows of its audit trail's ways out; empty until [`Service::start_audit`].
#[derive(Debug, Default)]
pub(crate) struct AuditOut(OnceLock<Started>);

#[derive(Debug)]
struct Started {
    checkpointer: Option<Arc<Checkpointer>>,
    watch: Arc<Watch>,
}

impl AuditOut {
    /// Whether anything may be done as far as the trail's ways out go.
    pub(crate) fn check(&self) -> Result<(), ServiceError> {
        let Some(started) = self.0.get() else { return Ok(()) };
        if let Some(record) = started.checkpointer.as_ref().and_then(|it| it.broken()) {
            return Err(ServiceError::new(
                ProblemCode::AuditUnavailable,
                format!(
                    "Nothing is done: the audit trail was changed at record {record} or before.\nThe operator of the service \
                     must look at it; reading still works."
                ),
            ));
        }
        if started.checkpointer.as_ref().is_some_and(|it| it.unkept().is_some()) {
            return Err(ServiceError {
                retry_after: Some(10),
                ..ServiceError::new(
                    ProblemCode::AuditUnavailable,
                    "Nothing is done: the state of the audit trail can't be kept outside the database.\nThe operator of the \
                     service knows more; reading still works.",
                )
            });
        }
        started.watch.check()
    }
}

/// The tasks of checkpoints and sinks.
#[derive(Debug)]
pub struct AuditTasks {
    stop_signing: watch::Sender<bool>,
    stop_sending: watch::Sender<bool>,
    signing: Option<JoinHandle<()>>,
    sending: Vec<JoinHandle<()>>,
}

impl Service {
    /// Starts to sign checkpoints (with a key) and to feed the sinks. Once for each service.
    ///
    /// # Errors
    /// A text with the way out: a sink's token or CA file can't be read.
    pub fn start_audit(
        &self,
        settings: &AuditSettings,
        signer: Option<CheckpointSigner>,
    ) -> Result<AuditTasks, String> {
        let now_ms = |service: &Service| {
            let clock = service.clock().clone();
            move || clock.now_ms()
        };
        let (stop_signing, stop_sending) = (watch::Sender::new(false), watch::Sender::new(false));
        let watch = Watch::new(&settings.sinks);
        let mut sending = Vec::new();
        for sink in &settings.sinks {
            let (store, stop) = (self.store().clone(), stop_sending.subscribe());
            sending.push(sinks::start(sink, store, Arc::clone(&watch), stop, now_ms(self))?);
        }
        if !settings.sinks.is_empty() {
            let watching = Arc::clone(&watch).run(self.store().clone(), stop_sending.subscribe());
            sending.push(runtime::spawn(watching));
        }
        let key = signer.as_ref().map(CheckpointSigner::public_key);
        let continuity = Continuity::new(self.store().clone(), settings, key);
        sending.push(runtime::spawn(continuity.run(stop_sending.subscribe())));
        let checkpointer =
            signer.map(|signer| Checkpointer::new(self.store().clone(), signer, settings, now_ms(self)));
        let signing = checkpointer.clone().map(|it| runtime::spawn(it.run(stop_signing.subscribe())));
        // A second call would leave the first one's tasks in charge.
        self.audit_out()
            .0
            .set(Started { checkpointer, watch })
            .map_err(|_| "The audit was started before.")?;
        Ok(AuditTasks { stop_signing, stop_sending, signing, sending })
    }

    /// The public key that checkpoints are verified with, in PEM.
    ///
    /// # Errors
    /// [`ServiceError`] (not-found) where the service signs none.
    pub fn audit_key(&self) -> Result<String, ServiceError> {
        let started = self.audit_out().0.get();
        started.and_then(|it| it.checkpointer.as_ref()).map(|it| it.public_key_pem()).ok_or_else(|| {
            ServiceError::new(
                ProblemCode::NotFound,
                "This service signs no checkpoints.\nIts operator can change that: iam-sorryd audit new-key FILE, and audit.key_file \
                 in the configuration.",
            )
        })
    }

    /// Signs the trail as it is now, so that an export ends signed. Without a key, nothing.
    pub async fn sign_checkpoint(&self) {
        let Some(checkpointer) = self.audit_out().0.get().and_then(|it| it.checkpointer.clone()) else {
            return;
        };
        if let Err(error) = checkpointer.sign_now().await
            && self.store().contradiction().is_none()
        {
            tracing::error!(%error, "no checkpoint of the audit trail could be made");
        }
    }

    /// How the sinks are.
    pub fn sinks(&self) -> Vec<SinkState> {
        self.audit_out().0.get().map(|it| it.watch.states()).unwrap_or_default()
    }

    /// For `/readyz`.
    ///
    /// # Errors
    /// What stops actions, in words.
    pub fn audit_readiness(&self) -> Result<String, String> {
        if let Some(why) = self.store().contradiction() {
            return Err(why);
        }
        let Some(started) = self.audit_out().0.get() else { return Ok("not started".to_owned()) };
        match &started.checkpointer {
            Some(checkpointer) => {
                if let Some(record) = checkpointer.broken() {
                    return Err(format!("the trail was changed at record {record} or before"));
                }
                if checkpointer.unkept().is_some() {
                    return Err("the last signed state can't be kept in audit.state_file".to_owned());
                }
                started.watch.readiness().map(|sinks| format!("signed; sinks: {sinks}"))
            }
            None => started.watch.readiness().map(|sinks| format!("not signed; sinks: {sinks}")),
        }
    }
}

impl AuditTasks {
    /// Signs once more, sends what there is to every sink that takes it, and ends; at most `limit` for each of the two.
    pub async fn stop(mut self, limit: Duration) {
        self.stop_signing.send_replace(true);
        if let Some(signing) = self.signing.take() {
            ended(signing, limit).await;
        }
        self.stop_sending.send_replace(true);
        let sending = std::mem::take(&mut self.sending);
        futures_util::future::join_all(sending.into_iter().map(|task| ended(task, limit))).await;
    }
}

impl Drop for AuditTasks {
    fn drop(&mut self) {
        self.signing.iter().chain(&self.sending).for_each(JoinHandle::abort);
    }
}

async fn ended(mut task: JoinHandle<()>, limit: Duration) {
    if tokio::time::timeout(limit, &mut task).await.is_err() {
        task.abort();
    }
}
