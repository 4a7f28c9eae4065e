//! The file sink: one JSON line for each record and checkpoint, as `audit verify` reads them, flushed to disk.
//!
//! Rotation is renaming: the next batch goes into a new file, whose header says where it goes on from. A file that is gone
//! altogether, or shorter than what was written, was not rotated (vault#31718): that is recorded, and everything it held is
//! written again. After a start, nobody knows which file it was: where there are no records, one beside it must have the last
//! one, or it was not rotated.
//!
//! Each line is there exactly once, over all files, whatever is killed: opened, the file is read backwards to the record with
//! which the position in the store ends, half a line is cut off, and writing goes on behind what came after that. While a process has the file open it
//! holds a lock on it (flock), so that an instance that hangs and one that took over from it never write both.

use std::fs::{File, Permissions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use iam_sorry_core::audit::{ChainId, ExportHeader, LaneHeads, RecordId};
use iam_sorry_store::SinkPosition;

use super::batch::{Again, Batch, Found, SinkError};
use super::end::{before, file_state};
use super::lines::{self, DAMAGED, Kind, LONGEST_LINE, PIECE, part, rotated, scan};
use super::settings::FileSettings;
use crate::files;
use crate::runtime;

pub(super) struct FileTarget {
    path: PathBuf,
    mode: u32,
    /// The files of the other sinks, which are none that this one was rotated to.
    others: Arc<[PathBuf]>,
    open: Option<Open>,
    /// Whether it is known why there are no records: nothing was written since the file was renamed or found damaged.
    begins_anew: bool,
}

/// The file that is written to.
struct Open {
    file: File,
    /// Which file it is, whatever it is called by now.
    id: (u64, u64),
    /// Where its whole lines end, and the next one begins.
    length: u64,
    /// How long it must be: longer by half a line that the next write cuts off.
    size: u64,
    /// What it goes on from; none while there is nothing in it.
    begins: Option<LaneHeads>,
}

impl FileTarget {
    pub(super) fn new(settings: &FileSettings) -> Self {
        let mode = if settings.group_readable { 0o640 } else { 0o600 };
        Self { path: settings.path.clone(), mode, others: Arc::new([]), open: None, begins_anew: false }
    }

    /// Says which files are other sinks'.
    pub(super) fn beside(&mut self, paths: impl Iterator<Item = PathBuf>) {
        self.others = paths.filter(|path| *path != self.path).collect();
    }

    pub(super) async fn deliver(&mut self, batch: Batch) -> Result<(), SinkError> {
        self.blocking(move |target| target.write(&batch)).await
    }

    pub(super) async fn inspect(
        &mut self,
        at: &SinkPosition,
        chain: ChainId,
    ) -> Result<Option<Found>, SinkError> {
        let (last, checkpoint) = (at.last, at.checkpoint);
        self.blocking(move |target| target.look(last, checkpoint, chain)).await
    }

    /// Whether the next batch begins a file.
    pub(super) fn begins_file(&self) -> bool {
        self.open.as_ref().is_none_or(|open| open.length == 0)
    }

    /// Closes the file; the next look opens it.
    pub(super) fn close(&mut self) {
        self.open = None;
    }

    /// Closes the file, so that another instance can write to it.
    pub(super) fn let_go(&mut self) {
        (self.open, self.begins_anew) = (None, false);
    }

    /// A disk may hang: that must not hold up anything else.
    async fn blocking<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, SinkError> + Send + 'static,
    ) -> Result<T, SinkError> {
        let (path, others) = (self.path.clone(), Arc::clone(&self.others));
        let mut target = Self { path, others, open: self.open.take(), ..*self };
        let joined = runtime::blocking(move || {
            let outcome = work(&mut target);
            (target, outcome)
        });
        // Given up on, the handle is gone with its thread, and the file is opened and looked through anew.
        let (target, outcome) = joined.await.map_err(|error| SinkError::Refused(error.to_string()))?;
        (self.open, self.begins_anew) = (target.open, target.begins_anew);
        outcome
    }

    fn write(&mut self, batch: &Batch) -> Result<(), SinkError> {
        let open = match self.open.take() {
            Some(open) => self.open.insert(open),
            None => {
                let open = Open::at(&self.path, self.mode)?;
                if open.length > 0 {
                    return Err(changed_just_now());
                }
                self.open.insert(open)
            }
        };
        let mut text = String::new();
        let mut begins = open.begins.clone();
        if open.length == 0 {
            let Some(heads) = &batch.begins else {
                self.open = None;
                return Err(changed_just_now());
            };
            let header = ExportHeader { begins: heads.clone(), ..ExportHeader::new(batch.chain) };
            text.push_str(&header.line());
            text.push('\n');
            begins = Some(heads.clone());
        }
        for line in &batch.lines {
            text.push_str(&line.text());
            text.push('\n');
        }
        if let Err(error) = open.append(text.as_bytes()) {
            // A full disk leaves some lines and half a one: the next look says which, and cuts that off.
            self.open = None;
            return Err(error.into());
        }
        open.begins = begins;
        self.begins_anew = false;
        Ok(())
    }

    /// Before anything is written: is everything up to `last` still where it was put? For a file that was not open yet, also what
    /// is in it behind that.
    fn look(
        &mut self,
        last: Option<RecordId>,
        checkpoint: u64,
        chain: ChainId,
    ) -> Result<Option<Found>, SinkError> {
        let there = std::fs::symlink_metadata(&self.path);
        let Some(open) = &self.open else {
            return self.look_anew(there.is_ok(), last, checkpoint, chain);
        };
        let (begins, own) = (open.begins.clone(), open.file.metadata()?);
        let same = there.as_ref().is_ok_and(|there| (there.dev(), there.ino()) == open.id);
        if own.nlink() == 0 {
            (self.open, self.begins_anew) = (None, true);
            return match begins {
                Some(begins) => Err(SinkError::Tampered {
                    what: "its file was deleted; what it held is written again".to_owned(),
                    again: Again::From(begins).into(),
                }),
                None => self.look_anew(there.is_ok(), last, checkpoint, chain),
            };
        }
        if own.len() < open.size {
            let what = format!("its file was cut from {} to {} bytes", open.size, own.len());
            return match (begins, same) {
                (Some(begins), true) => Err(self.cut(&what, begins)),
                (Some(begins), false) => {
                    (self.open, self.begins_anew) = (None, true);
                    let what = format!("{what}; what it held is written again");
                    Err(SinkError::Tampered { what, again: Again::From(begins).into() })
                }
                (None, _) => {
                    self.open = None;
                    self.look_anew(there.is_ok(), last, checkpoint, chain)
                }
            };
        }
        if same && own.len() == open.size {
            return Ok(None);
        }
        // Renamed, so that a new one is begun; or somebody else added to it.
        (self.open, self.begins_anew) = (None, !same);
        self.look_anew(there.is_ok(), last, checkpoint, chain)
    }

    /// After a start, or a write that failed: the file says itself where it ends, unless it was rotated meanwhile; then the one
    /// that it was renamed to does.
    fn look_anew(
        &mut self,
        there: bool,
        last: Option<RecordId>,
        checkpoint: u64,
        chain: ChainId,
    ) -> Result<Option<Found>, SinkError> {
        let mut found = Found { checkpoint, ..Found::default() };
        let mut begins = None;
        if there {
            let mut open = Open::at(&self.path, self.mode)?;
            let end = open.begin(&mut found)?;
            if found.chain.is_some_and(|its| its != chain) {
                return Ok(Some(found));
            }
            scan((&mut open.file, &self.path), end, last, &mut found)?;
            begins = open.begins.clone().filter(|_| found.last.is_some());
            open.length = end;
            self.open = Some(open);
        }
        if self.begins_anew {
            return Ok(Some(found)); // what is before it is known
        }
        let rotated = if found.reached { Vec::new() } else { rotated(&self.path, &self.others, chain) };
        for path in &rotated {
            let mut file = File::open(path)?;
            if matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
                return Err(in_use());
            }
            let length = file.metadata()?.len();
            scan((&mut file, path), length, last, &mut found)?;
            if found.reached {
                break;
            }
        }
        match (last.filter(|_| !found.reached), begins) {
            (None, _) => Ok(Some(found)),
            (Some(last), Some(begins)) => {
                let end = found.last.map(|last| last.id.to_string()).unwrap_or_default();
                Err(self.cut(&format!("its file ends at record {end}, not {last}"), begins))
            }
            (Some(last), None) => {
                let what = if there { "its file has no records any more" } else { "its file is gone" };
                self.begins_anew = true;
                Err(SinkError::Tampered {
                    what: format!(
                        "{what}, and none beside it has record {last}; what comes behind those that are there is written again"
                    ),
                    again: match rotated.first() {
                        Some(path) => Again::Behind(file_state(path)?).into(),
                        None => Again::Everything.into(),
                    },
                })
            }
        }
    }

    /// The damaged file is kept, under another name, and a whole one written in its place.
    fn cut(&mut self, what: &str, begins: LaneHeads) -> SinkError {
        (self.open, self.begins_anew) = (None, true);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        let mut aside = self.path.clone().into_os_string();
        aside.push(format!("{DAMAGED}{now}"));
        let kept = match files::set_aside(&self.path, Path::new(&aside)) {
            Ok(()) => "it is kept as .damaged, and",
            Err(_) => "it can't be renamed;",
        };
        SinkError::Tampered {
            what: format!("{what}; {kept} what it held is written again"),
            again: Again::From(begins).into(),
        }
    }
}

impl Open {
    /// Opens or creates it, never through a symbolic link, and locks it.
    fn at(path: &Path, mode: u32) -> Result<Self, SinkError> {
        let file = files::open_to_append(path, mode)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(SinkError::Refused("it is not a file".to_owned()));
        }
        if metadata.mode() & 0o133 != 0 {
            return Err(SinkError::Refused(format!(
                "others may write or run its file\nMake it private: chmod {mode:o} {}",
                path.display()
            )));
        }
        // Some file systems know no locks; on these there is one instance a file because the operator says so.
        if matches!(file.try_lock(), Err(TryLockError::WouldBlock)) {
            return Err(in_use());
        }
        if metadata.len() == 0 && metadata.mode() & 0o777 != mode {
            // The process's umask took the group's part away.
            file.set_permissions(Permissions::from_mode(mode))?;
        }
        // Not before the lock was taken: until then another process may have added to it.
        let length = file.metadata()?.len();
        Ok(Self { id: (metadata.dev(), metadata.ino()), file, length, size: length, begins: None })
    }

    /// Reads its beginning, and half a line at its end. The length up to the last line feed.
    fn begin(&mut self, found: &mut Found) -> Result<u64, SinkError> {
        let mut end = self.length;
        while end > 0 {
            let from = end.saturating_sub(PIECE);
            let bytes = part(&mut self.file, from, end)?;
            if let Some(at) = bytes.iter().rposition(|byte| *byte == b'\n') {
                end = from + at as u64 + 1;
                break;
            }
            end = from;
        }
        found.torn = part(&mut self.file, end, self.length.min(end + LONGEST_LINE as u64))?;
        let beginning = part(&mut self.file, 0, end.min(PIECE))?;
        for line in beginning.split(|byte| *byte == b'\n').take(64) {
            match lines::read(line) {
                Kind::Header(header) => {
                    found.chain = found.chain.or(Some(header.chain));
                    self.begins.get_or_insert(header.begins);
                }
                Kind::Record(_, line) => {
                    if self.begins.as_ref().is_none_or(LaneHeads::is_empty) {
                        self.begins = Some(before(&line));
                    }
                    break;
                }
                Kind::Checkpoint(_) | Kind::Other => {}
            }
        }
        Ok(end)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.length < self.size {
            self.file.set_len(self.length)?;
        }
        self.file.write_all(bytes)?;
        self.file.sync_data()?;
        self.length += bytes.len() as u64;
        self.size = self.length;
        Ok(())
    }
}

fn changed_just_now() -> SinkError {
    SinkError::Refused("its file changed just now; it is looked at again".to_owned())
}

fn in_use() -> SinkError {
    SinkError::Refused(
        "another process has its file open\nGive the file sinks of several instances on one machine a path each.".to_owned(),
    )
}
