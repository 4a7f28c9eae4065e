//! The file sink: one JSON line for each record and checkpoint, as `audit verify` reads them, flushed to disk.
//!
//! Rotation is renaming: the next batch goes into a new file. A file that is gone altogether, or shorter than what was
//! written, was not rotated (vault#31718): that is recorded, and everything it held is written again. After a start, nobody
//! knows which file it was: where there are no records, one beside it must have the last one, or it was not rotated.

use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use iam_sorry_core::audit::export_header;

use super::settings::FileSettings;
use super::{Batch, Line, SinkError};
use crate::files;

/// No line is longer; the end of a file is looked through so far for its last record.
const LONGEST_LINE: u64 = 256 * 1024;

/// What a damaged file's name goes on with.
pub(super) const DAMAGED: &str = ".damaged-";

pub(super) struct FileTarget {
    path: PathBuf,
    mode: u32,
    open: Option<Open>,
    /// Whether it is known why there are no records: nothing was written since the file was renamed or found damaged.
    begins_anew: bool,
}

/// The file that is written to.
struct Open {
    file: File,
    /// Which file it is, whatever it is called by now.
    id: (u64, u64),
    /// How long it must be.
    length: u64,
    /// The first record in it.
    first: Option<u64>,
    /// The last one.
    last: Option<u64>,
}

impl FileTarget {
    pub(super) fn new(settings: &FileSettings) -> Self {
        let mode = if settings.group_readable { 0o640 } else { 0o600 };
        Self { path: settings.path.clone(), mode, open: None, begins_anew: false }
    }

    pub(super) async fn deliver(&mut self, batch: Batch) -> Result<(), SinkError> {
        self.blocking(move |target| target.write(&batch)).await
    }

    pub(super) async fn inspect(&mut self, position: u64) -> Result<(), SinkError> {
        if self.open.is_none() && position == 0 {
            return Ok(());
        }
        self.blocking(move |target| target.look(position)).await
    }

    /// A disk may hang: that must not hold up anything else.
    async fn blocking<T: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, SinkError> + Send + 'static,
    ) -> Result<T, SinkError> {
        let mut target = Self { path: self.path.clone(), open: self.open.take(), ..*self };
        let joined = tokio::task::spawn_blocking(move || {
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
            None => self.open.insert(Open::at(&self.path, self.mode)?),
        };
        let mut text = String::new();
        if open.length == 0 {
            text.push_str(&export_header(batch.chain, false));
            text.push('\n');
        }
        let (mut first, mut last) = (open.first, open.last);
        for line in &batch.lines {
            if let Line::Record(record) = line {
                first.get_or_insert(record.seq);
                last = Some(record.seq);
            }
            text.push_str(&line.text());
            text.push('\n');
        }
        if let Err(error) = open.append(text.as_bytes()) {
            // A full disk leaves half a line; the next attempt begins by cutting it off.
            self.open = None;
            return Err(error.into());
        }
        (open.first, open.last) = (first, last);
        self.begins_anew = false;
        Ok(())
    }

    /// Before anything is written: is everything up to `position` still where it was put?
    fn look(&mut self, position: u64) -> Result<(), SinkError> {
        let there = std::fs::symlink_metadata(&self.path);
        let Some(open) = &self.open else {
            // After a start: the file may have been rotated meanwhile, but not cut.
            if there.is_err() {
                return self.without_records(position, "its file is gone");
            }
            let open = Open::at(&self.path, self.mode)?;
            let (first, last) = (open.first, open.last);
            self.open = Some(open);
            return match (first, last) {
                (Some(first), Some(last)) if last < position => {
                    Err(self.cut(&format!("its file ends at record {last}, not {position}"), first))
                }
                (Some(_), _) => Ok(()),
                (None, _) => self.without_records(position, "its file has no records any more"),
            };
        };
        let (first, own) = (open.first, open.file.metadata()?);
        let same = there.as_ref().is_ok_and(|there| (there.dev(), there.ino()) == open.id);
        if own.nlink() == 0 {
            (self.open, self.begins_anew) = (None, true);
            return match first {
                Some(first) => Err(SinkError::Tampered {
                    what: format!("its file was deleted; records from {first} on are written again"),
                    begin_again_at: first,
                }),
                None => Ok(()),
            };
        }
        if own.len() < open.length {
            let what = format!("its file was cut from {} to {} bytes", open.length, own.len());
            return match (first, same) {
                (Some(first), true) => Err(self.cut(&what, first)),
                (Some(first), false) => {
                    (self.open, self.begins_anew) = (None, true);
                    Err(SinkError::Tampered { what, begin_again_at: first })
                }
                (None, _) => {
                    self.open = None;
                    Ok(())
                }
            };
        }
        if !same {
            (self.open, self.begins_anew) = (None, true); // renamed: the next batch opens a new one
        }
        Ok(())
    }

    /// Everything up to `position` was written, and nothing of it is here: it was rotated, or taken away.
    fn without_records(&mut self, position: u64, what: &str) -> Result<(), SinkError> {
        if self.begins_anew {
            return Ok(());
        }
        let rotated_to = last_rotated(&self.path);
        self.begins_anew = true;
        if rotated_to >= position {
            return Ok(());
        }
        let first = rotated_to + 1;
        Err(SinkError::Tampered {
            what: format!(
                "{what}, and none beside it has record {position}; records from {first} on are written again"
            ),
            begin_again_at: first,
        })
    }

    /// The damaged file is kept, under another name, and a whole one written in its place.
    fn cut(&mut self, what: &str, first: u64) -> SinkError {
        (self.open, self.begins_anew) = (None, true);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
        let mut aside = self.path.clone().into_os_string();
        aside.push(format!("{DAMAGED}{now}"));
        let kept = match files::set_aside(&self.path, Path::new(&aside)) {
            Ok(()) => "it is kept as .damaged, and",
            Err(_) => "it can't be renamed;",
        };
        SinkError::Tampered {
            what: format!("{what}; {kept} records from {first} on are written again"),
            begin_again_at: first,
        }
    }
}

impl Open {
    /// Opens or creates it, never through a symbolic link, and cuts off half a line that a crash left.
    fn at(path: &Path, mode: u32) -> Result<Self, SinkError> {
        let mut file = files::open_to_append(path, mode)?;
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
        if metadata.len() == 0 && metadata.mode() & 0o777 != mode {
            // The process's umask took the group's part away.
            file.set_permissions(Permissions::from_mode(mode))?;
        }
        let length = whole_lines(&mut file, metadata.len())?;
        if length < metadata.len() {
            file.set_len(length)?;
        }
        let first = records(&mut file, 0, length)?.first().copied();
        let last = records(&mut file, length.saturating_sub(LONGEST_LINE), length)?.last().copied();
        Ok(Self { id: (metadata.dev(), metadata.ino()), file, length, first, last })
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.file.sync_data()?;
        self.length += bytes.len() as u64;
        Ok(())
    }
}

/// The last record in the files that this one was renamed to, as far as they are beside it and can be read: logrotate makes
/// `audit.jsonl.1`, `audit.jsonl-20261122` or `audit-20261122.jsonl`. A damaged one was written again, and is none of them.
fn last_rotated(path: &Path) -> u64 {
    let text = |part: Option<&OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let (name, stem, extension) = (text(path.file_name()), text(path.file_stem()), text(path.extension()));
    let beside = std::fs::read_dir(path.parent().unwrap_or(Path::new("/")));
    let rotated = beside.into_iter().flatten().filter_map(Result::ok).filter(|entry| {
        let its = entry.file_name().to_string_lossy().into_owned();
        its != name
            && !its.contains(DAMAGED)
            && (its.starts_with(&name) || its.starts_with(&stem) && its.ends_with(&format!(".{extension}")))
            && entry.file_type().is_ok_and(|kind| kind.is_file())
    });
    rotated.filter_map(|entry| last_record(&entry.path()).ok().flatten()).max().unwrap_or(0)
}

fn last_record(path: &Path) -> io::Result<Option<u64>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    Ok(records(&mut file, length.saturating_sub(LONGEST_LINE), length)?.last().copied())
}

/// The length up to the last line feed.
fn whole_lines(file: &mut File, length: u64) -> io::Result<u64> {
    let begin = length.saturating_sub(LONGEST_LINE);
    let bytes = part(file, begin, length)?;
    Ok(match bytes.iter().rposition(|byte| *byte == b'\n') {
        Some(at) => begin + at as u64 + 1,
        None => begin,
    })
}

/// The sequence numbers of the records in a part of the file, at most what one look takes.
fn records(file: &mut File, begin: u64, end: u64) -> io::Result<Vec<u64>> {
    let bytes = part(file, begin, end.min(begin + LONGEST_LINE))?;
    let text = String::from_utf8_lossy(&bytes);
    let seq = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).ok()?;
        line["record"]["seq"].as_u64()
    };
    Ok(text.lines().filter_map(seq).collect())
}

fn part(file: &mut File, begin: u64, end: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(begin))?;
    file.take(end.saturating_sub(begin)).read_to_end(&mut bytes)?;
    Ok(bytes)
}
