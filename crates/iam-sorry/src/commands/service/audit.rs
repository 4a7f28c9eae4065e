//! `audit`: lists and exports the service's audit trail, and verifies an export without a service.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use iam_sorry_core::api::AuditRecord;
use iam_sorry_core::audit::{CheckpointKey, Decision, Finding, LaneHeads, RecordId, Report, Verifier};
use iam_sorry_core::timestamp::Timestamp;

use super::request::with_client;
use super::show;
use crate::app::App;
use crate::args::{Audit, ExportFormat, Which};
use crate::error::{Error, Result};
use crate::files::AtomicWriter;
use crate::output::printable;
use crate::service::{self, query};
use crate::settings::read_regular;

/// The maximum length of a line in bytes; records are much shorter, so a longer line is another file's.
const LONGEST_LINE: u64 = 1 << 20;
/// How many findings are printed; the others are counted.
const MOST_SHOWN: usize = 50;

pub fn run(app: &App, action: Audit) -> Result<()> {
    match action {
        Audit::List { which, limit, json } => list(app, &which, limit, json),
        Audit::Export { which, format, output } => export(app, &which, format, output.as_deref()),
        Audit::Verify { file, keys, expect, part, begin, max_unsigned } => {
            verify(app, &file, &keys, &expect, part, begin.as_deref(), max_unsigned)
        }
    }
}

fn list(app: &App, which: &Which, limit: u32, json: bool) -> Result<()> {
    let page = limit.clamp(1, 500).to_string();
    let path = format!("/audit{}", filter(which, Some(&page), None));
    let most = usize::try_from(limit).unwrap_or(usize::MAX);
    let records: Vec<AuditRecord> = with_client(app, async |client| client.list(&path, most).await)?;
    if json {
        return show::json(app, &records);
    }
    let row = |record: AuditRecord| {
        let id = record.id();
        let event = record.event;
        let time = Timestamp::from_unix(event.time_ms.div_euclid(1000));
        let ended = match (event.decision, event.outcome) {
            (Some(Decision::Deny), _) => "denied",
            (_, Some(outcome)) => outcome.as_str(),
            (_, None) => event.phase.as_str(),
        };
        vec![
            id,
            time.map(|time| time.to_string()).unwrap_or_default(),
            event.person.name,
            event.action,
            event.resource,
            ended.to_owned(),
        ]
    };
    show::table(
        app,
        &["RECORD", "TIME", "PERSON", "ACTION", "RESOURCE", "OUTCOME"],
        records.into_iter().map(row).collect(),
    )
}

fn filter(which: &Which, limit: Option<&str>, format: Option<&str>) -> String {
    query(&[
        ("limit", limit),
        ("format", format),
        ("all", which.all.then_some("true")),
        ("person", which.person.as_deref()),
        ("action", which.action.as_deref()),
        ("resource", which.resource.as_deref()),
        ("from", which.from.as_deref()),
        ("to", which.to.as_deref()),
    ])
}

fn export(app: &App, which: &Which, format: ExportFormat, output: Option<&Path>) -> Result<()> {
    let format = match format {
        ExportFormat::Jsonl => None,
        ExportFormat::Ocsf => Some("ocsf"),
    };
    let path = format!("/audit/export{}", filter(which, None, format));
    let client = service::open(app)?;
    let mut file = output.map(AtomicWriter::begin).transpose()?;
    let mut lines = 0_usize;
    crate::aws::block_on(|cancel| async {
        let client = client.with_cancel(cancel);
        let mut download = client.download(&path).await?;
        let mut last = b'\n';
        while let Some(piece) = download.next().await? {
            lines += piece.iter().filter(|byte| **byte == b'\n').count();
            last = piece.last().copied().unwrap_or(last);
            match &mut file {
                Some(file) => file.write(&piece)?,
                // Pieces may end within a character, so they are printed as bytes.
                None => app.out.bytes(&piece)?,
            }
        }
        // A truncated response must not pass for a short trail.
        if last != b'\n' {
            return Err(Error::other("The export ends in the middle of a line").hint("Run the command again"));
        }
        Ok(())
    })?;
    if let (Some(file), Some(path)) = (file, output) {
        file.finish()?;
        app.out.progress(format!("{lines} lines in {}", path.display()));
    }
    Ok(())
}

fn verify(
    app: &App,
    file: &Path,
    keys: &[PathBuf],
    expect: &[String],
    part: bool,
    begin: Option<&str>,
    max_unsigned: Option<u64>,
) -> Result<()> {
    let key = |path: &PathBuf| {
        let bytes = read_regular(path)
            .map_err(|e| Error::usage(format!("The key {} can't be read: {e}", path.display())))?;
        CheckpointKey::from_pem(&String::from_utf8_lossy(&bytes))
            .map_err(|e| Error::usage(format!("{}: {e}", path.display())))
    };
    let expected = |text: &String| {
        LaneHeads::parse(text).ok_or_else(|| {
            Error::usage(format!("'{text}' is no state of a trail"))
                .hint("The last line of the last verification: --expect 3f2a9c0145d67e88:4711:9f2c...")
        })
    };
    let first = |text: &str| {
        RecordId::parse(text).ok_or_else(|| {
            Error::usage(format!("'{text}' is no record of a trail"))
                .hint("A lane and a number in it: --begin 3f2a9c0145d67e88:4711")
        })
    };
    let keys: Vec<CheckpointKey> = keys.iter().map(key).collect::<Result<_>>()?;
    let expect: Vec<LaneHeads> = expect.iter().map(expected).collect::<Result<_>>()?;
    let mut verifier = Verifier::new(keys.clone()).expect(expect.iter().flat_map(LaneHeads::iter));
    if let Some(begin) = begin {
        verifier = verifier.begins_at(first(begin)?);
    }
    if part {
        verifier = verifier.part();
    }
    if let Some(most) = max_unsigned {
        verifier = verifier.longest_unsigned(most);
    }
    let unreadable = |e: io::Error| Error::usage(format!("{} can't be read: {e}", file.display()));
    if file.as_os_str() == "-" {
        feed(&mut verifier, io::stdin().lock()).map_err(unreadable)?;
    } else {
        let file = File::open(file).map_err(unreadable)?;
        feed(&mut verifier, BufReader::with_capacity(1 << 20, file)).map_err(unreadable)?;
    }
    let report = verifier.finish();
    print_report(app, &report, keys.is_empty())
}

/// Feeds the lines to the verifier, each cut at [`LONGEST_LINE`].
fn feed(verifier: &mut Verifier, mut input: impl BufRead) -> io::Result<()> {
    let mut line = Vec::with_capacity(4096);
    loop {
        line.clear();
        io::Read::take(&mut input, LONGEST_LINE).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(());
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        verifier.line(&String::from_utf8_lossy(&line));
    }
}

fn print_report(app: &App, report: &Report, no_key: bool) -> Result<()> {
    if report.records > 0 {
        let lanes = if report.lanes == 1 { "lane" } else { "lanes" };
        app.out.line(format!("{} records in {} {lanes}", report.records, report.lanes))?;
    }
    if report.repeated > 0 {
        app.out.line(format!("{} repeated lines, each identical to the first: no harm", report.repeated))?;
    }
    if report.checkpoints > 0 {
        app.out.line(format!(
            "{} checkpoints; {} records behind the last one",
            report.checkpoints, report.unsigned
        ))?;
    }
    if report.signatures > 0 {
        app.out.line(format!("{} requests signed by their persons", report.signatures))?;
    }
    if no_key {
        app.out.warn(
            "No public key was given, so nothing is proved against somebody who can write the database\n\
             Name it: --key audit.pub",
        );
    }
    for (record, operation) in report.open.iter().take(MOST_SHOWN) {
        app.out.progress(format!(
            "Record {record} began operation {} and its outcome is not there: it may have been under way",
            printable(operation)
        ));
    }
    for one in report.breaks.iter().take(MOST_SHOWN) {
        app.out.warn(printable(&one.to_string()));
    }
    // States before the export's first record can't be compared.
    for state in report.before.iter().take(MOST_SHOWN) {
        app.out.warn(format!(
            "Record {} lies before the export: --expect {state} says nothing about it",
            state.record()
        ));
    }
    if report.is_sound() {
        app.out.done("Nothing is missing, changed or out of place")?;
        // The last line, so that it is easy to note for the next verification.
        return match report.heads.is_empty() {
            true => Ok(()),
            false => app.out.line(format!("--expect {}", report.heads)),
        };
    }
    let mut error = Error::other(format!("The trail is not as it was written: {} findings", report.count));
    if matches!(&report.findings[..], [Finding::Filtered]) {
        error = Error::other("This export can't be verified");
    }
    for finding in report.findings.iter().take(MOST_SHOWN) {
        error = error.hint(printable(&finding.to_string()));
    }
    if report.count > MOST_SHOWN as u64 {
        error = error.hint(format!("and {} more", report.count - MOST_SHOWN as u64));
    }
    Err(error)
}
