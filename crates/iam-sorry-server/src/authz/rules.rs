//! The rules in force, read from files and swapped whole: a set with a mistake in it never replaces a good one.
//!
//! Files are looked at every few seconds rather than watched: a look costs a `stat` a file, and works on NFS and on
//! Kubernetes' symlinked volumes, where notifications don't. What changed is read only once it has stood still for a
//! look, because half of a file can be valid, too, without its last `forbid`.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use iam_sorry_rules::{RuleProblem, RuleSet, RuleSettings};
use serde::Deserialize;

/// How often the files are looked at.
pub const LOOK_EVERY: Duration = Duration::from_secs(2);

/// No rule file is larger.
const LARGEST: u64 = 8 << 20;

/// `[rules]`: where the rules are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleFiles {
    /// Files, and folders, of which every `*.cedar` counts (not those that begin with a dot).
    pub files: Vec<PathBuf>,
}

/// What a look at the files came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reload {
    /// Nothing changed.
    Unchanged,
    /// Another set is in force: how many rules, and its digest.
    Loaded {
        /// How many rules it has.
        rules: usize,
        /// What decisions name ([`iam_sorry_rules::RulesDigest`]).
        digest: String,
    },
    /// The change can't be recorded, so the set that was in force still is; the next look tries again.
    Unrecorded(String),
    /// What the files hold now can't be used; the set that was in force still is.
    Refused(Vec<RuleProblem>),
}

/// How the rules stand, for `/readyz` and the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RulesStatus {
    /// How many rules are in force.
    pub rules: usize,
    /// What decisions name ([`iam_sorry_rules::RulesDigest`]).
    pub digest: String,
    /// Where what the files hold now is not in force: the first mistake, or that the change can't be recorded.
    pub problem: Option<String>,
}

/// The rules in force. Share it in an [`Arc`].
pub struct LiveRules {
    files: RuleFiles,
    settings: RuleSettings,
    current: Arc<ArcSwap<RuleSet>>,
    /// Records a change before it is in force.
    recorder: OnceLock<Recorder>,
    /// One reads at a time. Not the state's lock: recording may take seconds, and readiness must not wait for it.
    reloading: Mutex<()>,
    state: Mutex<State>,
}

/// Records the change from one set to another, on the thread that reloads.
pub type Recorder = Box<dyn Fn(&RuleSet, &RuleSet) -> Result<(), String> + Send + Sync>;

impl std::fmt::Debug for LiveRules {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LiveRules").field("files", &self.files).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct State {
    /// SHA-256 over names and contents of the files that the set in force was made of.
    files: String,
    problem: Option<String>,
    /// What `stat` said when the files were read last, and at the last look.
    looked: Option<Vec<Look>>,
    pending: Option<Vec<Look>>,
}

/// What distinguishes one state of a file from another without reading it; the change time also if a tool sets the time of
/// modification back.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Look {
    path: PathBuf,
    modified: (i64, i64),
    changed: (i64, i64),
    size: u64,
    inode: u64,
}

impl LiveRules {
    /// Reads the rules for the first time.
    ///
    /// # Errors
    /// Every mistake in files and settings: the service does not start without good rules.
    pub fn open(files: RuleFiles, settings: RuleSettings) -> Result<Self, Vec<RuleProblem>> {
        let looked = look(&files).ok();
        let texts = read(&files)?;
        let digest = digest_of(&texts);
        let set = RuleSet::load(&texts, settings.clone())?;
        Ok(Self {
            files,
            settings,
            current: Arc::new(ArcSwap::from_pointee(set)),
            recorder: OnceLock::new(),
            reloading: Mutex::default(),
            state: Mutex::new(State { files: digest, problem: None, looked, pending: None }),
        })
    }

    /// From now on no other set is in force before this has recorded the change. Once; a second recorder is not used.
    pub fn record_changes(&self, recorder: Recorder) {
        let _ = self.recorder.set(recorder);
    }

    /// The set in force; every decision takes it once and keeps to it.
    pub fn current(&self) -> Arc<RuleSet> {
        self.current.load_full()
    }

    /// Where the set in force is always found.
    pub fn handle(&self) -> Arc<ArcSwap<RuleSet>> {
        self.current.clone()
    }

    /// How the rules stand.
    pub fn status(&self) -> RulesStatus {
        let current = self.current.load();
        RulesStatus {
            rules: current.len(),
            digest: current.digest().whole().to_string(),
            problem: self.state().problem.clone(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the files now (SIGHUP) and, if they changed and are good, records the change and puts them into force.
    /// Blocks: not for the runtime's own threads.
    pub fn reload(&self) -> Reload {
        let _one_at_a_time = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        let in_force = {
            let mut state = self.state();
            state.looked = look(&self.files).ok();
            state.pending = None;
            state.files.clone()
        };
        let loaded = read(&self.files).and_then(|texts| {
            let files = digest_of(&texts);
            if files == in_force {
                return Ok(None);
            }
            RuleSet::load(&texts, self.settings.clone()).map(|set| Some((set, files)))
        });
        match loaded {
            Ok(None) => {
                if self.state().problem.take().is_some() {
                    tracing::info!("the rule files are again what is in force");
                }
                Reload::Unchanged
            }
            Ok(Some((set, files))) => self.put_into_force(set, files),
            Err(problems) => {
                let first = problems.first().map_or_else(String::new, ToString::to_string);
                let mut state = self.state();
                if state.problem.as_ref() != Some(&first) {
                    for problem in &problems {
                        tracing::error!(%problem, "the changed rules can't be used; the old ones stay in force");
                    }
                }
                state.problem = Some(first);
                Reload::Refused(problems)
            }
        }
    }

    /// No audit, no action: what can't be recorded does not come into force.
    fn put_into_force(&self, set: RuleSet, files: String) -> Reload {
        let recorded = self.recorder.get().map_or(Ok(()), |record| record(&self.current.load(), &set));
        if let Err(error) = recorded {
            let problem = format!("the change can't be recorded: {error}");
            let mut state = self.state();
            if state.problem.as_ref() != Some(&problem) {
                tracing::error!(
                    error,
                    "the change of the rules can't be recorded; the old ones stay in force"
                );
            }
            state.problem = Some(problem);
            state.looked = None;
            return Reload::Unrecorded(error);
        }
        let (rules, digest) = (set.len(), set.digest().whole().to_string());
        for warning in set.warnings() {
            tracing::warn!(%warning, "a rule looks like a mistake");
        }
        self.current.store(Arc::new(set));
        let mut state = self.state();
        state.files = files;
        state.problem = None;
        tracing::info!(rules, digest, "other rules are in force");
        Reload::Loaded { rules, digest }
    }

    /// One look: reads the files if they have changed since they were read, and have not since the last look.
    pub fn look(&self) -> Reload {
        let now = look(&self.files).ok();
        {
            let mut state = self.state();
            if now.is_some() && now == state.looked {
                state.pending = None;
                return Reload::Unchanged;
            }
            if now.is_some() && now != state.pending {
                state.pending = now;
                return Reload::Unchanged;
            }
        }
        self.reload()
    }

    /// Looks every `every`, for ever; drop it to stop. Reading and checking happens beside the runtime's threads.
    pub async fn watch(self: Arc<Self>, every: Duration) {
        loop {
            tokio::time::sleep(every).await;
            let rules = self.clone();
            // Only a panic in there could fail it; the next look is due anyway.
            let _ = tokio::task::spawn_blocking(move || rules.look()).await;
        }
    }
}

/// Every file with its text, folders opened, in order.
///
/// # Errors
/// A [`RuleProblem`] for each that can't be read, is too large, no text, or open to everybody's changes.
pub fn read(files: &RuleFiles) -> Result<Vec<(String, String)>, Vec<RuleProblem>> {
    let (mut texts, mut problems) = (Vec::new(), Vec::new());
    match paths(files) {
        Err(problem) => problems.push(problem),
        Ok(paths) => {
            for path in paths {
                match read_one(&path) {
                    Ok(text) => texts.push((path.display().to_string(), text)),
                    Err(problem) => problems.push(problem),
                }
            }
        }
    }
    if problems.is_empty() { Ok(texts) } else { Err(problems) }
}

fn read_one(path: &Path) -> Result<String, RuleProblem> {
    let unreadable = |e: std::io::Error| problem(path, format!("the file can't be read: {e}"), "");
    let file = std::fs::File::open(path).map_err(unreadable)?;
    let facts = file.metadata().map_err(unreadable)?;
    if facts.mode() & 0o002 != 0 {
        let hint = format!("Take that away: chmod o-w {}", path.display());
        return Err(problem(path, "everybody on this machine may change the file".to_owned(), &hint));
    }
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > LARGEST {
        return Err(problem(path, format!("the file is larger than {LARGEST} bytes"), ""));
    }
    String::from_utf8(bytes).map_err(|_| problem(path, "the file is not UTF-8 text".to_owned(), ""))
}

/// The files in the order of the configuration, a folder's by name.
fn paths(files: &RuleFiles) -> Result<Vec<PathBuf>, RuleProblem> {
    let mut all = Vec::new();
    for path in &files.files {
        if !path.is_dir() {
            all.push(path.clone());
            continue;
        }
        let unreadable = |e: std::io::Error| problem(path, format!("the folder can't be read: {e}"), "");
        let mut inside = Vec::new();
        for entry in std::fs::read_dir(path).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if name.ends_with(".cedar") && !name.starts_with('.') {
                inside.push(entry.path());
            }
        }
        inside.sort();
        all.extend(inside);
    }
    Ok(all)
}

fn look(files: &RuleFiles) -> Result<Vec<Look>, RuleProblem> {
    let look = |path: PathBuf| {
        let facts = std::fs::metadata(&path).map_err(|e| problem(&path, e.to_string(), ""))?;
        Ok(Look {
            path,
            modified: (facts.mtime(), facts.mtime_nsec()),
            changed: (facts.ctime(), facts.ctime_nsec()),
            size: facts.len(),
            inode: facts.ino(),
        })
    };
    paths(files)?.into_iter().map(look).collect()
}

fn digest_of(texts: &[(String, String)]) -> String {
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    for (name, text) in texts {
        for part in [name, text] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
    }
    context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn problem(path: &Path, text: String, hint: &str) -> RuleProblem {
    RuleProblem { file: path.display().to_string(), line: 0, column: 0, text, hint: hint.to_owned() }
}
