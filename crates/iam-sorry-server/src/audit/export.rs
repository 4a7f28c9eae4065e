//! An export of the audit trail as lines: for the API and for `iam-sorryd audit export`.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt::Write as _;

use iam_sorry_core::api::{ExportFormat, ProblemCode};
use iam_sorry_core::audit::{ExportHeader, Hash, LaneId, Record, groups_digest, groups_line, to_ocsf};
use iam_sorry_store::{AuditEntry, Store, TrailCheckpoint, TrailPart, TrailPosition};

use crate::audit::trail::{AuditExport, ExportPart};
use crate::error::ServiceError;

/// Lines of an export under way, part by part.
pub struct ExportLines {
    store: Store,
    source: Source,
    format: ExportFormat,
    begun: bool,
    /// What was written.
    position: TrailPosition,
    checkpoints: Checkpoints,
    groups: Groups,
}

enum Source {
    Asked(AuditExport),
    Part(Part),
}

/// A part of the trail, or all of it, for the operator of the machine.
struct Part {
    from: TrailPosition,
    /// Where it ends; none: with what there is when it begins.
    until: Option<TrailPosition>,
    is_to_the_end: bool,
    position: TrailPosition,
}

/// Checkpoints on their way into an export.
#[derive(Default)]
struct Checkpoints {
    waiting: VecDeque<TrailCheckpoint>,
    /// The last one that was read from the store.
    read: u64,
    /// The last one that there is.
    last: u64,
}

/// The lists of groups that a reader of the export has by now.
#[derive(Default)]
struct Groups {
    in_lanes: HashSet<(LaneId, Hash)>,
    in_lines: HashSet<Hash>,
    /// For OCSF, where each event has its own.
    lists: HashMap<(LaneId, Hash), Option<Vec<String>>>,
}

const CHUNK: u32 = 1_000;
/// How many lists are kept to write them into events.
const LISTS: usize = 1_000;

impl ExportLines {
    /// What somebody asked for and may read. The whole trail ends signed, where the service signs at all.
    pub async fn of(export: AuditExport, format: ExportFormat) -> Self {
        let service = export.service();
        if !export.is_filtered() {
            service.sign_checkpoint().await;
        }
        Self::new(service.store().clone(), Source::Asked(export), format)
    }

    /// What is behind one position and before another (none: all that there is), for the operator of the machine.
    pub fn part(
        store: Store,
        format: ExportFormat,
        from: TrailPosition,
        until: Option<TrailPosition>,
    ) -> Self {
        let (position, is_to_the_end) = (from.clone(), until.is_none());
        Self::new(store, Source::Part(Part { from, until, is_to_the_end, position }), format)
    }

    fn new(store: Store, source: Source, format: ExportFormat) -> Self {
        let position = match &source {
            Source::Asked(_) => TrailPosition::default(),
            Source::Part(part) => part.from.clone(),
        };
        let (checkpoints, groups) = (Checkpoints::default(), Groups::default());
        Self { store, source, format, begun: false, position, checkpoints, groups }
    }

    /// The next lines, each with its line feed; none at the end.
    ///
    /// # Errors
    /// The store's, or a record that can't be read.
    pub async fn next(&mut self) -> Result<Option<String>, ServiceError> {
        let mut text = String::new();
        if !self.begun {
            self.begin(&mut text).await?;
        }
        match self.records().await? {
            Some(ExportPart::Trail(part)) => self.write_trail(part, &mut text).await?,
            Some(ExportPart::Filtered(entries)) => self.write_entries(&entries, &mut text)?,
            None => self.end(&mut text).await?,
        }
        Ok((!text.is_empty()).then_some(text))
    }

    async fn begin(&mut self, text: &mut String) -> Result<(), ServiceError> {
        self.begun = true;
        if self.format == ExportFormat::Ocsf {
            return Ok(());
        }
        let mut header = ExportHeader::new(self.store.chain_id());
        header.filtered = self.is_filtered();
        if !header.filtered {
            header.begins = self.store.heads_at(&self.position).await?;
            // Before the end of the records is known: none is written that covers more than they are.
            self.checkpoints.last = self.store.last_checkpoint().await?.map_or(0, |last| last.number);
            self.checkpoints.read = self.store.last_checkpoint_before(&self.position).await?;
        }
        let _ = writeln!(text, "{}", header.line());
        Ok(())
    }

    fn is_filtered(&self) -> bool {
        matches!(&self.source, Source::Asked(export) if export.is_filtered())
    }

    async fn records(&mut self) -> Result<Option<ExportPart>, ServiceError> {
        match &mut self.source {
            Source::Asked(export) => export.next().await,
            Source::Part(part) => {
                let until = match &part.until {
                    Some(until) => until,
                    None => part.until.insert(self.store.trail_state().await?.end),
                };
                let read = self.store.read_trail(&part.position, Some(until), CHUNK).await?;
                part.position = read.start.clone();
                read.records.iter().for_each(|record| part.position.pass(record));
                Ok((!read.records.is_empty()).then_some(ExportPart::Trail(read)))
            }
        }
    }

    async fn write_trail(&mut self, part: TrailPart, text: &mut String) -> Result<(), ServiceError> {
        self.position = part.start;
        for placed in &part.records {
            let record = &placed.record;
            match self.format {
                ExportFormat::Jsonl => {
                    self.write_groups(record, text).await?;
                    let _ = writeln!(text, "{}", record.export_line());
                    self.position.pass(placed);
                    self.write_checkpoints(text).await?;
                }
                ExportFormat::Ocsf => {
                    let groups = self.groups_of(record).await?;
                    write_ocsf(record, groups.as_deref(), text)?;
                }
            }
        }
        Ok(())
    }

    fn write_entries(&mut self, entries: &[AuditEntry], text: &mut String) -> Result<(), ServiceError> {
        for AuditEntry { record, groups } in entries {
            match (self.format, groups) {
                (ExportFormat::Ocsf, groups) => {
                    write_ocsf(record, groups.as_deref(), text)?;
                    continue;
                }
                // The record that has the list may be among those that are left out.
                (ExportFormat::Jsonl, Some(groups)) if self.groups.in_lines.insert(groups_digest(groups)) => {
                    let _ = writeln!(text, "{}", groups_line(groups));
                }
                (ExportFormat::Jsonl, _) => {}
            }
            let _ = writeln!(text, "{}", record.export_line());
        }
        Ok(())
    }

    /// A list that the record names, where the record of its lane that has it lies before the export.
    async fn write_groups(&mut self, record: &Record, text: &mut String) -> Result<(), ServiceError> {
        let Some(digest) = record.groups_digest() else {
            if let Some(digest) = record.introduced_groups() {
                self.groups.in_lanes.insert((record.lane, digest));
            }
            return Ok(());
        };
        let known =
            self.groups.in_lanes.contains(&(record.lane, digest)) || self.groups.in_lines.contains(&digest);
        if !known && let Some(groups) = self.store.groups_of(record).await? {
            self.groups.in_lines.insert(digest);
            let _ = writeln!(text, "{}", groups_line(&groups));
        }
        Ok(())
    }

    async fn groups_of(&mut self, record: &Record) -> Result<Option<Vec<String>>, ServiceError> {
        let Some(digest) = record.groups_digest() else { return Ok(None) };
        let key = (record.lane, digest);
        if !self.groups.lists.contains_key(&key) {
            if self.groups.lists.len() >= LISTS {
                self.groups.lists.clear();
            }
            let list = self.store.groups_of(record).await?;
            self.groups.lists.insert(key, list);
        }
        Ok(self.groups.lists.get(&key).cloned().flatten())
    }

    /// A checkpoint stands right behind the last record that it covers. Where records were left out it would prove nothing.
    async fn write_checkpoints(&mut self, text: &mut String) -> Result<(), ServiceError> {
        loop {
            if self.checkpoints.waiting.is_empty() && !self.read_checkpoints().await? {
                return Ok(());
            }
            let position = &self.position;
            let Some(next) = self.checkpoints.waiting.pop_front_if(|next| position.covers(next)) else {
                return Ok(());
            };
            let _ = writeln!(text, "{}", next.checkpoint.export_line());
        }
    }

    /// Whether there are more.
    async fn read_checkpoints(&mut self) -> Result<bool, ServiceError> {
        let Checkpoints { waiting, read, last } = &mut self.checkpoints;
        if *read < *last {
            let more = self.store.checkpoints(*read + 1, CHUNK).await?;
            *read = more.last().map_or(*last, |last| last.checkpoint.number);
            let last = *last;
            waiting.extend(more.into_iter().filter(|it| it.checkpoint.number <= last));
        }
        Ok(!waiting.is_empty())
    }

    /// The checkpoints of a whole trail that are left cover what is not there: whoever verifies it is to see that.
    async fn end(&mut self, text: &mut String) -> Result<(), ServiceError> {
        let whole = match &self.source {
            Source::Asked(export) => !export.is_filtered(),
            Source::Part(part) => part.is_to_the_end,
        };
        if !whole || self.format == ExportFormat::Ocsf {
            return Ok(());
        }
        while !self.checkpoints.waiting.is_empty() || self.read_checkpoints().await? {
            for left in self.checkpoints.waiting.drain(..) {
                let _ = writeln!(text, "{}", left.checkpoint.export_line());
            }
        }
        Ok(())
    }
}

fn write_ocsf(record: &Record, groups: Option<&[String]>, text: &mut String) -> Result<(), ServiceError> {
    let event = to_ocsf(record, groups).map_err(|error| {
        tracing::error!(%error, record = %record.id(), "an audit record can't be read");
        ServiceError::new(ProblemCode::Internal, "A record of the audit trail can't be read.")
    })?;
    let _ = writeln!(text, "{event}");
    Ok(())
}
