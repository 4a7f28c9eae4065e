//! How far behind the sinks are, and whether that stops actions.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use iam_sorry_core::api::ProblemCode;
use iam_sorry_store::Store;
use tokio::sync::watch as signal;
use tokio::time::Instant;

use super::batch::SinkError;
use super::settings::SinkSettings;
use crate::error::ServiceError;

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Compares the sinks' positions with the end of the trail, once a second.
#[derive(Debug)]
pub struct Watch {
    sinks: Vec<SinkSettings>,
    states: Mutex<HashMap<String, State>>,
}

#[derive(Clone, Debug)]
struct State {
    behind: u64,
    /// When it last had everything that there was a moment before.
    complete: Instant,
    /// What its task last ran into.
    failure: Option<String>,
    /// It has what the trail does not have.
    contradicts: bool,
}

/// How a sink is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SinkState {
    /// Its name.
    pub name: String,
    /// Whether actions depend on it.
    pub required: bool,
    /// Records that it does not have yet.
    pub behind: u64,
    /// For so many seconds.
    pub seconds: u64,
    /// Whether that is more than the settings allow.
    pub too_far: bool,
    /// Whether it has records that the trail does not have: the database is an older one, or another.
    pub contradicts: bool,
    /// Whether its last attempt failed.
    pub failing: bool,
}

impl Watch {
    /// Nothing is behind yet.
    pub fn new(sinks: &[SinkSettings]) -> Arc<Self> {
        let state = State { behind: 0, complete: Instant::now(), failure: None, contradicts: false };
        let states = sinks.iter().map(|sink| (sink.name.clone(), state.clone())).collect();
        Arc::new(Self { sinks: sinks.to_vec(), states: Mutex::new(states) })
    }

    /// Whether anything may be done: not while a required sink is too far behind, or has what the trail does not have.
    ///
    /// # Errors
    /// [`ServiceError`] (audit-unavailable), naming the sink.
    pub fn check(&self) -> Result<(), ServiceError> {
        if let Some(sink) = self.states().into_iter().find(|sink| sink.required && sink.contradicts) {
            return Err(ServiceError::new(
                ProblemCode::AuditUnavailable,
                format!(
                    "Nothing is done: the audit trail's sink {} has other records than the trail.\nThe operator of the \
                     service must look at it; reading still works.",
                    sink.name
                ),
            ));
        }
        let Some(sink) = self.states().into_iter().find(|sink| sink.required && sink.too_far) else {
            return Ok(());
        };
        let mut refusal = ServiceError::new(
            ProblemCode::AuditUnavailable,
            format!(
                "Nothing is done at the moment: the audit trail's sink {} is {} records behind, for {} s.\nThe operator of \
                 the service knows more; reading still works.",
                sink.name, sink.behind, sink.seconds
            ),
        );
        refusal.retry_after = Some(10);
        Err(refusal)
    }

    /// The files of all sinks.
    pub(super) fn files(&self) -> impl Iterator<Item = PathBuf> {
        self.sinks.iter().filter_map(|sink| sink.file.as_ref().map(|file| file.path.clone()))
    }

    /// How all sinks are, in the settings' order.
    pub fn states(&self) -> Vec<SinkState> {
        let states = self.lock();
        let state = |sink: &SinkSettings| {
            let state = states.get(&sink.name)?;
            let seconds = if state.behind == 0 { 0 } else { state.complete.elapsed().as_secs() };
            Some(SinkState {
                name: sink.name.clone(),
                required: sink.is_required(),
                behind: state.behind,
                seconds,
                too_far: state.behind > sink.most_records_behind || seconds > sink.most_seconds_behind,
                contradicts: state.contradicts,
                failing: state.failure.is_some(),
            })
        };
        self.sinks.iter().filter_map(state).collect()
    }

    /// For `/readyz`: a word on all sinks, or on the first that stops actions.
    ///
    /// # Errors
    /// The words where it does.
    pub fn readiness(&self) -> Result<String, String> {
        let states = self.states();
        let words = |sink: &SinkState| {
            if sink.contradicts {
                return format!("{} has other records than the trail", sink.name);
            }
            format!("{} is {} records behind for {} s", sink.name, sink.behind, sink.seconds)
        };
        let stopping = |sink: &&SinkState| sink.too_far || sink.contradicts;
        let worst = states.iter().filter(|sink| sink.required).find(stopping);
        if let Some(sink) = worst.or_else(|| states.iter().find(stopping)) {
            return if sink.required {
                Err(words(sink))
            } else {
                Ok(format!("{} (not required)", words(sink)))
            };
        }
        match states.iter().find(|sink| sink.failing) {
            Some(sink) => Ok(format!("{} does not take records at the moment", sink.name)),
            None => Ok(format!("{} up to date", states.len())),
        }
    }

    /// Looks once a second until `stop` says true.
    pub async fn run(self: Arc<Self>, store: Store, mut stop: signal::Receiver<bool>) {
        let mut count_before = 0;
        loop {
            if let Ok(count) = store.count_records().await {
                for sink in &self.sinks {
                    // A database that does not answer stops everything by itself.
                    let Ok(position) = store.sink_position(&sink.name).await else { continue };
                    let Ok(behind) = store.count_behind(&position.unwrap_or_default().records).await else {
                        continue;
                    };
                    self.is_at(&sink.name, count.saturating_sub(behind), count, count_before);
                }
                count_before = count;
            }
            tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// It has so many of the records that there are now, of which there were some a moment before.
    fn is_at(&self, name: &str, has: u64, count: u64, count_before: u64) {
        let mut states = self.lock();
        let Some(state) = states.get_mut(name) else { return };
        state.behind = count.saturating_sub(has);
        // Under a steady load a sink is always a moment behind; what counts is whether it gets on.
        if has >= count_before {
            state.complete = Instant::now();
        }
    }

    pub(super) fn works(&self, name: &str) {
        if let Some(state) = self.lock().get_mut(name) {
            (state.failure, state.contradicts) = (None, false);
        }
    }

    pub(super) fn fails(&self, name: &str, why: &SinkError) {
        if let Some(state) = self.lock().get_mut(name) {
            state.failure = Some(why.to_string());
            state.contradicts = match why {
                SinkError::Contradiction(_) => true,
                // It says nothing on what the sink has.
                SinkError::Store(_) => state.contradicts,
                _ => false,
            };
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, State>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sink(required: bool) -> SinkSettings {
        let text = format!(
            "name = \"x\"\nrequired = {required}\nmost_records_behind = 5\nfile = {{ path = \"/a\" }}"
        );
        toml::from_str(&text).unwrap()
    }

    #[test]
    fn a_required_sink_that_is_too_far_behind_stops_actions_until_it_is_back() {
        let watch = Watch::new(&[sink(true)]);
        watch.is_at("x", 5, 10, 10);
        watch.check().unwrap();
        watch.is_at("x", 4, 10, 10);
        let refusal = watch.check().unwrap_err();
        assert_eq!(refusal.code, ProblemCode::AuditUnavailable);
        assert!(watch.readiness().is_err());
        watch.is_at("x", 9, 10, 10);
        watch.check().unwrap();
        // Few records, but for long.
        watch.lock().get_mut("x").unwrap().complete -= Duration::from_secs(61);
        assert!(watch.check().is_err());
        watch.is_at("x", 10, 11, 10);
        watch.check().unwrap();
    }

    #[test]
    fn one_that_is_not_required_stops_nothing() {
        let watch = Watch::new(&[sink(false)]);
        watch.is_at("x", 0, 1000, 1000);
        watch.check().unwrap();
        assert!(watch.readiness().unwrap().contains("not required"));
    }
}
