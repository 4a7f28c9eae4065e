//! An export of the audit trail as lines: for the API and for `iam-sorryd audit export`.

use std::collections::VecDeque;
use std::fmt::Write as _;

use iam_sorry_core::api::{ExportFormat, ProblemCode};
use iam_sorry_core::audit::{Checkpoint, Record, export_header, to_ocsf};
use iam_sorry_store::Store;

use crate::audit::trail::AuditExport;
use crate::error::ServiceError;

/// Lines of an export under way, part by part.
pub struct ExportLines {
    store: Store,
    source: Source,
    format: ExportFormat,
    begun: bool,
    /// Checkpoints over records that are still to come.
    checkpoints: VecDeque<Checkpoint>,
    /// The last checkpoint that was read from the store.
    read_to: u64,
}

enum Source {
    Asked(AuditExport),
    /// Records from the first on, before the second.
    Part(u64, u64),
}

const CHUNK: u32 = 1_000;

impl ExportLines {
    /// What somebody asked for and may read. The whole trail ends signed, where the service signs at all.
    pub async fn of(export: AuditExport, format: ExportFormat) -> Self {
        let service = export.service();
        if !export.is_filtered() {
            service.sign_checkpoint().await;
        }
        Self::new(service.store().clone(), Source::Asked(export), format)
    }

    /// Records `first` to `end` (without it) of a store, for the operator of the machine.
    pub fn part(store: Store, format: ExportFormat, first: u64, end: u64) -> Self {
        Self::new(store, Source::Part(first, end), format)
    }

    fn new(store: Store, source: Source, format: ExportFormat) -> Self {
        Self { store, source, format, begun: false, checkpoints: VecDeque::new(), read_to: 0 }
    }

    /// The next lines, each with its line feed; none at the end.
    ///
    /// # Errors
    /// The store's, or a record that can't be read.
    pub async fn next(&mut self) -> Result<Option<String>, ServiceError> {
        let mut text = String::new();
        if !self.begun {
            self.begun = true;
            if self.format == ExportFormat::Jsonl {
                let _ = writeln!(text, "{}", export_header(self.store.chain_id(), self.is_filtered()));
            }
        }
        let Some(records) = self.records().await? else {
            return Ok((!text.is_empty()).then_some(text));
        };
        for record in &records {
            match self.format {
                ExportFormat::Jsonl => {
                    let _ = writeln!(text, "{}", record.export_line());
                    self.checkpoint_after(record.seq, &mut text).await?;
                }
                ExportFormat::Ocsf => {
                    let event = to_ocsf(record).map_err(|error| {
                        tracing::error!(%error, seq = record.seq, "an audit record can't be read");
                        ServiceError::new(ProblemCode::Internal, "A record of the audit trail can't be read.")
                    })?;
                    let _ = writeln!(text, "{event}");
                }
            }
        }
        Ok(Some(text))
    }

    fn is_filtered(&self) -> bool {
        matches!(&self.source, Source::Asked(export) if export.is_filtered())
    }

    async fn records(&mut self) -> Result<Option<Vec<Record>>, ServiceError> {
        match &mut self.source {
            Source::Asked(export) => export.next().await,
            Source::Part(next, end) => {
                let mut records = self.store.audit_range(*next, CHUNK).await?;
                records.retain(|record| record.seq < *end);
                *next = records.last().map_or(*end, |record| record.seq + 1);
                Ok((!records.is_empty()).then_some(records))
            }
        }
    }

    /// A checkpoint stands right behind the record that it covers. In a part of the trail it would prove nothing.
    async fn checkpoint_after(&mut self, seq: u64, text: &mut String) -> Result<(), ServiceError> {
        if self.is_filtered() {
            return Ok(());
        }
        if self.checkpoints.is_empty() && self.read_to < seq {
            let more = self.store.checkpoints(seq, CHUNK).await?;
            // Without any from here on, none is looked for until as many records have passed.
            self.read_to = more.last().map_or(seq + u64::from(CHUNK), |checkpoint| checkpoint.seq);
            self.checkpoints.extend(more);
        }
        while let Some(checkpoint) = self.checkpoints.pop_front_if(|checkpoint| checkpoint.seq <= seq) {
            if checkpoint.seq == seq {
                let _ = writeln!(text, "{}", checkpoint.export_line());
            }
        }
        Ok(())
    }
}
