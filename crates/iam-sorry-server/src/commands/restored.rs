//! `iam-sorryd audit restored`: an operator continues the trail on a database that contradicts what is known of it. That,
//! and why, is the trail's next record; what only the sinks and the state file know is kept.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use iam_sorry_core::audit::{Break, CheckpointSigner, Event, Outcome, Phase};
use iam_sorry_store::{Engine, Finish, OperationState, SinkPosition, Store};

use super::config_file::ConfigFile;
use super::output::{Failure, notice, print};
use super::parts::{check_state, local_event, runtime, signer};
use crate::audit::checkpoints::Checkpointer;
use crate::audit::continuity::{Continuity, Contradiction, Files};
use crate::audit::sinks::{self, SinkSettings};
use crate::clock::Clock;
use crate::config::Config;
use crate::operations::life::TAKEOVER;

/// How this command is called in the trail.
const COMMAND: &str = "audit restored";
/// How much of a text goes into the record.
const LONGEST: usize = 1_000;

/// Its arguments.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    file: ConfigFile,
    /// Why the database is another one; everybody who reads the trail sees it
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    reason: String,
}

fn reason(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err("say in a line why the database is another one".to_owned());
    }
    Ok(text.chars().take(LONGEST).collect())
}

/// Does what the arguments say.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    let config = arguments.file.load()?;
    print(continue_trail(&config, &arguments.reason, None)?)
}

/// Continues the trail, and says how. `found` is what there was where no database was.
pub fn continue_trail(config: &Config, reason: &str, found: Option<&str>) -> Result<String, Failure> {
    check_state(&config.audit)?;
    let settings = config.store_settings().map_err(Failure::found)?;
    let signer = signer(&config.audit).map_err(Failure::found)?;
    runtime()?.block_on(async {
        let clock = Clock::system();
        let name = format!("{COMMAND} {}", clock.now_ms());
        let store = Store::open_alone(&settings, &name).map_err(Failure::new)?;
        if matches!(settings.engine, Engine::Postgres { .. }) {
            nobody_else(&store).await?;
        }
        let continued = Continued { config, clock, store: store.clone(), signer };
        let text = continued.by(reason, found).await?;
        let _ = store.leave().await;
        store.close().await;
        Ok(text)
    })
}

/// On PostgreSQL other instances may run, and would go on from what they know. One that was killed, or could not write any
/// more, is waited for until it has been silent for long enough.
async fn nobody_else(store: &Store) -> Result<(), Failure> {
    let began = Instant::now();
    let others = loop {
        let alive = store.instances_alive(TAKEOVER).await.map_err(Failure::new)?;
        let others = alive.iter().filter(|name| *name != store.instance()).count();
        if others == 0 {
            return Ok(());
        }
        if began.elapsed() > TAKEOVER + Duration::from_secs(2) {
            break others;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    };
    let _ = store.leave().await;
    Err(Failure::new(format!(
        "{others} instances of the service run on this database.\nStop all of them first."
    )))
}

struct Continued<'a> {
    config: &'a Config,
    clock: Clock,
    store: Store,
    signer: Option<CheckpointSigner>,
}

impl Continued<'_> {
    async fn by(self, reason: &str, found: Option<&str>) -> Result<String, Failure> {
        let key = self.signer.as_ref().map(CheckpointSigner::public_key);
        let continuity = Continuity::new(self.store.clone(), &self.config.audit, key);
        let contradictions = continuity.check(Files::All).await.map_err(Failure::new)?;
        let event = self.event(reason, found, &contradictions);
        let record = self.store.continue_after_break(event).await.map_err(Failure::new)?;
        self.end_open_operations().await?;
        self.begin_sinks_anew(&contradictions).await?;
        if let Some(signer) = self.signer {
            let clock = self.clock.clone();
            let checkpointer =
                Checkpointer::new(self.store.clone(), signer, &self.config.audit, move || clock.now_ms());
            checkpointer.sign_anew().await.map_err(Failure::new)?;
        }
        Ok(format!(
            "The trail continues with record {record}, which says why. Everybody is signed out.\nAWS may have users and keys that \
             this database does not know: see \"Backup and restore\" in operating.md."
        ))
    }

    fn event(&self, reason: &str, found: Option<&str>, contradictions: &[Contradiction]) -> Event {
        let found = match (found, self.store.contradiction()) {
            (Some(found), _) => found.to_owned(),
            (None, own) => {
                let all: Vec<String> =
                    own.into_iter().chain(contradictions.iter().map(ToString::to_string)).collect();
                if all.is_empty() { "nothing contradicts the database".to_owned() } else { all.join("; ") }
            }
        };
        let mut details = BTreeMap::from([
            (Break::REASON.to_owned(), reason.to_owned()),
            (Break::FOUND.to_owned(), found.chars().take(LONGEST).collect()),
        ]);
        // The latest state that anybody knows.
        let expected = contradictions.iter().filter_map(|it| it.expected.as_ref());
        if let Some(state) = expected.max_by_key(|state| state.time_ms) {
            details.insert(Break::CHAIN.to_owned(), state.chain.to_string());
            details.insert(Break::STATE.to_owned(), state.heads.to_string());
        }
        local_event(COMMAND, Break::ACTION, "", details, &self.clock)
    }

    /// What was open in the copy was finished since, or was not: the reconciler would take it back, with keys that somebody
    /// has. So it ends here, and whoever runs the service looks at AWS.
    async fn end_open_operations(&self) -> Result<(), Failure> {
        for seen in self.store.open_operations().await.map_err(Failure::new)? {
            let claimed = self.store.claim(&seen, Duration::ZERO).await.map_err(Failure::new)?;
            let Some(operation) = claimed else { continue };
            let id = operation.new.id.clone();
            let mut event = Event {
                phase: Phase::Outcome,
                outcome: Some(Outcome::Failure),
                time_ms: self.clock.now_ms(),
                instance: self.store.instance().to_owned(),
                ..operation.event.clone()
            };
            let what = "open when the database was restored: what became of it is not known";
            event.details.insert("error".to_owned(), what.to_owned());
            let finish = Finish {
                operation: id.clone(),
                epoch: operation.epoch,
                state: OperationState::Failed,
                result: format!("\"{what}\""),
                event,
                grants: Vec::new(),
                deleted_keys: Vec::new(),
                user: None,
                deleted_user: None,
                unaccounted: Vec::new(),
                rotation: None,
            };
            self.store.finish(finish).await.map_err(Failure::new)?;
            notice(format_args!(
                "Operation {id} ({} of {} by {}) was open: look at AWS what became of it.",
                operation.new.action, operation.new.resource, operation.event.person.name
            ));
        }
        Ok(())
    }

    /// Files that have records that are not in this trail are kept under other names, also those that the sink's file was
    /// rotated to; a new one begins behind what the others have.
    async fn begin_sinks_anew(&self, contradictions: &[Contradiction]) -> Result<(), Failure> {
        for sink in &self.config.audit.sinks {
            let its = contradictions.iter().filter(|it| it.sink.as_ref() == Some(&sink.name));
            let mut files = its.filter_map(|it| it.file.as_ref()).peekable();
            if files.peek().is_none() {
                continue;
            }
            for (path, _) in files {
                let kept = sinks::set_aside(path).map_err(|error| {
                    Failure::new(format!("{} can't be set aside: {error}", path.display()))
                })?;
                notice(format_args!(
                    "The file {} of the sink {} has records that are not in this trail: it is kept as {}.",
                    path.display(),
                    sink.name,
                    kept.display()
                ));
            }
            // A rotated file that is compressed or elsewhere by now is none that the sink could go on from.
            let position = self.position_beside(sink).await?.unwrap_or_default();
            self.store.set_sink_position(&sink.name, &position).await.map_err(Failure::new)?;
        }
        Ok(())
    }

    /// What the files of a sink have that are still there.
    async fn position_beside(&self, sink: &SinkSettings) -> Result<Option<SinkPosition>, Failure> {
        let Some(file) = &sink.file else { return Ok(None) };
        let files = self.config.audit.sinks.iter().filter_map(|sink| sink.file.as_ref());
        let others: Vec<_> = files.map(|it| it.path.clone()).filter(|path| *path != file.path).collect();
        let rotated = sinks::rotated_ends(file, &others, self.store.chain_id());
        let current = sinks::file_end(file).ok().flatten().map(|end| (file.path.clone(), end));
        let Some((path, _)) = current.into_iter().chain(rotated).next() else { return Ok(None) };
        let unreadable = |error| Failure::new(format!("{} can't be read: {error}", path.display()));
        let state = sinks::file_state(&path).map_err(unreadable)?;
        state.position(&self.store).await.map_err(Failure::new)
    }
}
