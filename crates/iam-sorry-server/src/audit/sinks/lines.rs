//! The lines of a sink's file and of those that it was rotated to, read from their end.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use iam_sorry_core::audit::{ChainId, Checkpoint, ExportHeader, LaneId, Record, RecordId};

use super::batch::{Found, FoundRecord, SinkError};

/// A file is read backwards in pieces of this size.
pub(super) const PIECE: u64 = 256 * 1024;
/// No line of a trail is longer.
pub(super) const LONGEST_LINE: usize = 1024 * 1024;

/// What a damaged file's name goes on with.
pub(super) const DAMAGED: &str = ".damaged-";

/// What a line is.
pub(super) enum Kind {
    /// A record, and the line.
    Record(RecordId, String),
    /// The number of a checkpoint.
    Checkpoint(u64),
    Header(ExportHeader),
    Other,
}

/// Reads a line as far as it takes to know what it is. A record's hash is for others to check.
pub(super) fn read(line: &[u8]) -> Kind {
    let Ok(text) = std::str::from_utf8(line) else { return Kind::Other };
    if let Ok(checkpoint) = Checkpoint::parse(text) {
        return Kind::Checkpoint(checkpoint.number);
    }
    if let Some(header) = ExportHeader::parse(text) {
        return Kind::Header(header);
    }
    let Ok(value) = serde_json::from_str::<serde_json::Value>(text) else { return Kind::Other };
    let record = &value["record"];
    let lane = match record["lane"].as_str() {
        Some(lane) => LaneId::parse(lane),
        None => Some(LaneId::ZERO),
    };
    match lane.zip(record["seq"].as_u64()) {
        Some((lane, seq)) => Kind::Record(lane.record(seq), text.to_owned()),
        None => Kind::Other,
    }
}

/// Reads a file's lines backwards from `end`, to the record that is known to be the last one of what was there before, or to its
/// beginning.
pub(super) fn scan(
    (file, path): (&mut File, &Path),
    end: u64,
    last: Option<RecordId>,
    found: &mut Found,
) -> Result<(), SinkError> {
    let mut lines = Backwards { file, begin: end, rest: Vec::new() };
    while let Some(line) = lines.next()? {
        match read(&line) {
            Kind::Record(id, line) => {
                if found.last.is_none() {
                    found.last = Some(FoundRecord { id, line, path: path.to_owned() });
                }
                if last == Some(id) {
                    found.reached = true;
                    return Ok(());
                }
                let seq = found.lanes.entry(id.lane).or_insert(id.seq);
                *seq = id.seq.max(*seq);
            }
            Kind::Checkpoint(number) => found.checkpoint = found.checkpoint.max(number),
            Kind::Header(_) => {}
            Kind::Other => found.foreign += 1,
        }
    }
    Ok(())
}

/// The lines of a file, the last one first.
struct Backwards<'a> {
    file: &'a mut File,
    /// Where what was read begins.
    begin: u64,
    /// What was read and not given yet, without the line feed at its end.
    rest: Vec<u8>,
}

impl Backwards<'_> {
    fn next(&mut self) -> Result<Option<Vec<u8>>, SinkError> {
        loop {
            // The line feed of the last line is still on it at first.
            let before = self.rest.len().saturating_sub(usize::from(self.rest.last() == Some(&b'\n')));
            if let Some(at) = self.rest[..before].iter().rposition(|byte| *byte == b'\n') {
                let mut line = self.rest.split_off(at + 1);
                line.truncate(before - at - 1);
                return Ok(Some(line));
            }
            if self.begin == 0 {
                self.rest.truncate(before);
                return Ok(Some(std::mem::take(&mut self.rest)).filter(|line| !line.is_empty()));
            }
            if self.rest.len() > LONGEST_LINE {
                return Err(SinkError::Refused(
                    "its file has a line that is too long for a trail\nMove the file away.".to_owned(),
                ));
            }
            let from = self.begin.saturating_sub(PIECE);
            let mut bytes = part(self.file, from, self.begin)?;
            bytes.append(&mut self.rest);
            (self.begin, self.rest) = (from, bytes);
        }
    }
}

/// The files of this trail that the sink's was renamed to, the latest first, as far as they are beside it and can be read:
/// logrotate makes `audit.jsonl.1`, `audit.jsonl-20261122` or `audit-20261122.jsonl`. A damaged one was written again, and is
/// none of them; nor is another sink's, which may have more records.
pub(super) fn rotated(path: &Path, others: &[PathBuf], chain: ChainId) -> Vec<PathBuf> {
    let text = |part: Option<&OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
    let (name, stem, extension) = (text(path.file_name()), text(path.file_stem()), text(path.extension()));
    let beside = std::fs::read_dir(path.parent().unwrap_or(Path::new("/")));
    let rotated = beside.into_iter().flatten().filter_map(Result::ok).filter(|entry| {
        let its = entry.file_name().to_string_lossy().into_owned();
        let dated = its.strip_prefix(&stem).and_then(|its| its.strip_suffix(&format!(".{extension}")));
        its != name
            && !its.contains(DAMAGED)
            && !others.contains(&entry.path())
            && (its.starts_with(&name) || dated.is_some_and(is_date_or_number))
            && entry.file_type().is_ok_and(|kind| kind.is_file())
    });
    let mut ends: Vec<((i64, SystemTime), PathBuf)> =
        rotated.filter_map(|entry| Some((last_written(&entry.path(), chain)?, entry.path()))).collect();
    ends.sort_by(|one, other| other.cmp(one));
    ends.into_iter().map(|(_, path)| path).collect()
}

/// What stands between the stem and the extension of a rotated file's name.
fn is_date_or_number(text: &str) -> bool {
    text.starts_with(['-', '.', '_']) && text.chars().all(|c| c.is_ascii_digit() || "-._:TZ".contains(c))
}

/// When the last record of a file of this trail was written (the trail goes out by time), and when the file was.
fn last_written(path: &Path, chain: ChainId) -> Option<(i64, SystemTime)> {
    let mut file = File::open(path).ok()?;
    let metadata = file.metadata().ok()?;
    let (end, modified) = (metadata.len(), metadata.modified().ok()?);
    let header = part(&mut file, 0, end.min(PIECE)).ok()?;
    let header = header.split(|byte| *byte == b'\n').next()?;
    if !matches!(read(header), Kind::Header(header) if header.chain == chain) {
        return None;
    }
    let mut lines = Backwards { file: &mut file, begin: end, rest: Vec::new() };
    while let Some(line) = lines.next().ok()? {
        if let Kind::Record(_, line) = read(&line) {
            let event = Record::parse_export_line(&line).and_then(|record| record.event());
            return event.ok().map(|event| (event.time_ms, modified));
        }
    }
    None
}

pub(super) fn part(file: &mut File, begin: u64, end: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(begin))?;
    file.take(end.saturating_sub(begin)).read_to_end(&mut bytes)?;
    Ok(bytes)
}
