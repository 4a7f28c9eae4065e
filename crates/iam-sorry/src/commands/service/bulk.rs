//! Bulk requests: eight at a time, with a line for each item and a summary of the errors.
//!
//! An interrupted run is continued by running it again. Each item has its own idempotency key, derived from a run ID
//! that is stored until all items are done, so a request whose response was lost is not carried out twice.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::{StreamExt, stream};
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::error::{Error, ErrorKind, Result};
use crate::files::{FileMode, create_folder_of, replace_atomically};
use crate::output::printable;
use crate::service::{self, Client, RetryPolicy, ServiceError, new_key};

/// Concurrent requests. More would only hit the rate limits of the service and AWS.
const AT_ONCE: usize = 8;
/// A list takes minutes, and one request may wait for its turn that long.
const RETRY_POLICY: RetryPolicy = RetryPolicy { max_attempts: 12, report_pauses: false };
/// How many errors are printed; the others are counted.
const MOST_SHOWN: usize = 50;

/// The result of an item without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ItemOutcome {
    /// It was done now.
    Done,
    /// There was nothing to do.
    Already,
}

/// The verb in the forms that messages need: `create`, `created`, `there already`.
pub struct ActionWords {
    pub verb: &'static str,
    pub past: &'static str,
    pub already: &'static str,
    /// Messages say what would be done.
    pub dry_run: bool,
}

impl ActionWords {
    fn done(&self) -> String {
        if self.dry_run { format!("would be {}", self.past) } else { self.past.to_owned() }
    }
}

/// The stored state of an unfinished run.
#[derive(Default, Serialize, Deserialize)]
struct BulkRun {
    id: String,
    /// How often each item failed. The service repeats its response to a key, so another attempt needs another key.
    failed: BTreeMap<String, u32>,
}

/// Runs `work` for each item `(line, name, item)`. Runs with the same `fingerprint` continue each other.
pub fn run<T>(
    app: &App,
    words: &ActionWords,
    fingerprint: &str,
    items: &[(Option<usize>, String, T)],
    work: impl AsyncFn(&Client, &T, &str) -> std::result::Result<ItemOutcome, ServiceError>,
) -> Result<()> {
    let client = service::open(app)?;
    let file = run_file(app, &client, words.verb, fingerprint);
    let mut kept = load(&file);
    save(app, &file, &kept)?;
    let bar = bar(app, items.len() as u64);
    let ended: Mutex<Vec<(usize, std::result::Result<ItemOutcome, ServiceError>)>> = Mutex::default();
    let outcome = {
        let (kept, bar, ended, work) = (&kept, &bar, &ended, &work);
        crate::aws::block_on(|cancel| async move {
            let client = &client.with_retry_policy(RETRY_POLICY).with_cancel(cancel.clone());
            let all = items.iter().enumerate().map(|(index, (_, name, item))| async move {
                let key = key_of(kept, words.verb, name);
                let result = work(client, item, &key).await;
                match &bar {
                    Some(bar) => bar.inc(1),
                    None => app.out.progress(line(words, name, &result)),
                }
                if let Ok(mut ended) = ended.lock() {
                    ended.push((index, result));
                }
            });
            let mut running = stream::iter(all).buffer_unordered(AT_ONCE);
            while running.next().await.is_some() {
                if cancel.is_cancelled() {
                    break;
                }
            }
            Ok(())
        })
    };
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    outcome?;
    let ended = ended.into_inner().unwrap_or_default();
    report(app, words, items, ended, &mut kept, &file)
}

fn report<T>(
    app: &App,
    words: &ActionWords,
    items: &[(Option<usize>, String, T)],
    mut ended: Vec<(usize, std::result::Result<ItemOutcome, ServiceError>)>,
    kept: &mut BulkRun,
    file: &std::path::Path,
) -> Result<()> {
    ended.sort_by_key(|(index, _)| *index);
    let count =
        |became| ended.iter().filter(|(_, result)| matches!(result, Ok(found) if *found == became)).count();
    let (done, already) = (count(ItemOutcome::Done), count(ItemOutcome::Already));
    let (mut failures, mut interrupted) = (Vec::new(), false);
    for (index, result) in ended {
        let Err(error) = result else { continue };
        if matches!(error, ServiceError::Interrupted) {
            interrupted = true;
            continue;
        }
        let (line, name, _) = &items[index];
        // An item that may have been carried out keeps its key.
        if matches!(error, ServiceError::Problem { .. }) {
            *kept.failed.entry(name.clone()).or_default() += 1;
        }
        let place = line.map_or_else(String::new, |line| format!("line {line}, "));
        let text = Error::from(error).text;
        failures.push(format!("{place}{name}: {}", text.replace('\n', " ")));
    }
    // A dry run leaves nothing to continue.
    if words.dry_run || (failures.is_empty() && !interrupted) {
        forget(file);
    } else {
        save(app, file, kept)?;
    }
    let mut summary = format!("{done} {}", words.done());
    if already > 0 {
        summary.push_str(&format!(", {already} {}", words.already));
    }
    app.out.done(summary)?;
    if interrupted {
        return Err(
            Error::new(ErrorKind::Interrupted, "Interrupted.").hint("Run the same command again to go on")
        );
    }
    if failures.is_empty() {
        return Ok(());
    }
    let mut error = Error::new(
        ErrorKind::Aws,
        format!("{} of {} could not be {}:", failures.len(), items.len(), words.past),
    );
    for text in failures.iter().take(MOST_SHOWN) {
        error = error.hint(printable(text));
    }
    if failures.len() > MOST_SHOWN {
        error = error.hint(format!("and {} more", failures.len() - MOST_SHOWN));
    }
    Err(error.hint(format!("Run the same command again: what is {} is skipped", words.past)))
}

fn line(words: &ActionWords, name: &str, result: &std::result::Result<ItemOutcome, ServiceError>) -> String {
    let what = match result {
        Ok(ItemOutcome::Done) => &words.done(),
        Ok(ItemOutcome::Already) => words.already,
        Err(_) => "failed",
    };
    printable(&format!("{name}: {what}"))
}

fn bar(app: &App, count: u64) -> Option<ProgressBar> {
    if !app.out.animates() {
        return None;
    }
    let bar = ProgressBar::new(count);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len}  {eta} left") {
        bar.set_style(style);
    }
    Some(bar)
}

fn key_of(run: &BulkRun, verb: &str, name: &str) -> String {
    let again = run.failed.get(name).copied().unwrap_or(0);
    hashed(&[&run.id, verb, &name.to_lowercase(), &again.to_string()])
}

fn run_file(app: &App, client: &Client, verb: &str, fingerprint: &str) -> PathBuf {
    let name = hashed(&[client.origin().as_str(), verb, fingerprint]);
    app.settings.state_dir.join("runs").join(format!("{name}.json"))
}

fn hashed(parts: &[&str]) -> String {
    let hash = digest(&SHA256, parts.join("\0").as_bytes());
    URL_SAFE_NO_PAD.encode(&hash.as_ref()[..24])
}

/// A state that can't be read starts a new run: at worst an item turns out to be done already.
fn load(file: &std::path::Path) -> BulkRun {
    let kept = std::fs::read(file).ok().and_then(|bytes| serde_json::from_slice::<BulkRun>(&bytes).ok());
    kept.filter(|run| !run.id.is_empty())
        .unwrap_or_else(|| BulkRun { id: new_key(), failed: BTreeMap::new() })
}

fn save(app: &App, file: &std::path::Path, run: &BulkRun) -> Result<()> {
    create_folder_of(file)?;
    let text = serde_json::to_vec(run).unwrap_or_default();
    let notices = replace_atomically(file, &text, FileMode::Private)?;
    app.show_notices(&notices);
    Ok(())
}

fn forget(file: &std::path::Path) {
    let _ = std::fs::remove_file(file); // if it stays, the next run finds every item done
}
