//! What a file sink's file ends with: the last record that has left the database that way, for the comparison with it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use iam_sorry_core::audit::{ChainId, ExportHeader, LaneHead, LaneHeads, LaneId, Record};

use super::batch::FileState;
use super::lines::{self, DAMAGED, Kind, rotated};
use super::settings::FileSettings;
use crate::files;

/// How much is read from either end of the file: mostly the first suffices, and no line is longer than the second.
const LOOKS: [u64; 2] = [16 * 1024, 256 * 1024];

/// A file's first and last records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEnd {
    /// The trail that its header names.
    pub chain: ChainId,
    /// The last record of each lane near its end.
    pub heads: LaneHeads,
    /// When the last one was written, milliseconds since 1970.
    pub time_ms: i64,
}

/// Reads a file from its beginning to its end.
///
/// # Errors
/// The system's.
pub fn file_state(path: &Path) -> io::Result<FileState> {
    let mut state = FileState::default();
    let mut begun = false;
    for line in BufReader::with_capacity(LOOKS[1] as usize, files::open_to_read(path)?).split(b'\n') {
        match lines::read(&line?) {
            Kind::Header(header) if !begun => {
                begun = true;
                state.begins = header.begins;
            }
            Kind::Record(id, line) => {
                if state.last.is_none() && state.begins.is_empty() {
                    state.begins = before(&line);
                }
                state.lanes.insert(id.lane, id.seq);
                state.last = Some(id);
            }
            Kind::Checkpoint(number) => state.checkpoint = number,
            Kind::Header(_) | Kind::Other => {}
        }
    }
    Ok(state)
}

/// What a file goes on from whose header does not say it: version 1 had one chain, and the first record says what is before it.
pub(super) fn before(first: &str) -> LaneHeads {
    let record =
        Record::parse_export_line(first).ok().filter(|record| record.lane == LaneId::ZERO && record.seq > 1);
    let head = record.map(|it| LaneHead { lane: it.lane, seq: it.seq - 1, hash: it.previous });
    head.into_iter().collect()
}

/// The records of a sink's file; none where there is no file, or no record in it. Half a line at the end is passed over:
/// it may be written right now.
///
/// # Errors
/// The system's.
pub fn file_end(settings: &FileSettings) -> io::Result<Option<FileEnd>> {
    end_of(&settings.path)
}

/// The same of the files of this trail that the sink's was rotated to, the latest first; what can't be read is left out.
pub fn rotated_ends(settings: &FileSettings, others: &[PathBuf], chain: ChainId) -> Vec<(PathBuf, FileEnd)> {
    let ends = rotated(&settings.path, others, chain).into_iter();
    ends.filter_map(|path| end_of(&path).ok().flatten().map(|end| (path, end))).collect()
}

fn end_of(path: &Path) -> io::Result<Option<FileEnd>> {
    let mut file = match files::open_to_read(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let length = file.metadata()?.len();
    for look in LOOKS {
        let begin = part(&mut file, 0, length.min(look))?;
        let chain = begin.lines().next().and_then(ExportHeader::parse).map(|header| header.chain);
        let end = part(&mut file, length.saturating_sub(look), length)?;
        let whole = end.rfind('\n').map_or("", |at| &end[..at]);
        let mut heads = LaneHeads::default();
        let mut last = None;
        for record in whole.lines().filter_map(record) {
            heads.insert(record.head());
            last = Some(record);
        }
        if let Some((chain, last)) = chain.zip(last) {
            let time_ms = last.event().map_or(0, |event| event.time_ms);
            return Ok(Some(FileEnd { chain, heads, time_ms }));
        }
    }
    Ok(None)
}

/// Whether a sink's file was ever written: it, or what it was rotated to, is there and begins as such files do.
pub fn was_written(settings: &FileSettings) -> bool {
    let name = settings.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let beside = settings.path.parent().and_then(|folder| std::fs::read_dir(folder).ok());
    beside.into_iter().flatten().filter_map(Result::ok).any(|entry| {
        entry.file_name().to_string_lossy().starts_with(&name) && has_header(&entry.path()).unwrap_or(false)
    })
}

fn has_header(path: &Path) -> io::Result<bool> {
    let begin = part(&mut files::open_to_read(path)?, 0, LOOKS[0])?;
    Ok(begin.lines().next().and_then(ExportHeader::parse).is_some())
}

/// Keeps a file of a sink under another name, by which it is none of the sink's any more.
///
/// # Errors
/// The system's.
pub fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    let mut aside = path.to_owned().into_os_string();
    aside.push(format!("{DAMAGED}{now}"));
    files::set_aside(path, Path::new(&aside))?;
    Ok(aside.into())
}

fn part(file: &mut File, begin: u64, end: u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(begin))?;
    file.take(end.saturating_sub(begin)).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The record of an export line, whose hash is that of its content.
fn record(line: &str) -> Option<Record> {
    Record::parse_export_line(line).ok()
}
