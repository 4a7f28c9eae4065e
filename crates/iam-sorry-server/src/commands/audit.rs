//! `iam-sorryd audit`: a signing key, an export for those who run the machine, and the verification of an export, which
//! needs neither the service nor its database.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};

use clap::{Subcommand, ValueEnum};
use iam_sorry_core::api::ExportFormat;
use iam_sorry_core::audit::{
    CheckpointKey, CheckpointSigner, Event, LaneHeads, RecordId, Report, Verifier, new_key_pem,
};
use iam_sorry_core::timestamp::Timestamp;
use iam_sorry_store::{Store, TrailPosition};
use zeroize::Zeroizing;

use super::config_file::ConfigFile;
use super::output::{Failure, notice, print};
use super::parts::{local_event, runtime, signer};
use crate::audit::checkpoints::Checkpointer;
use crate::audit::continuity::{Continuity, Files};
use crate::audit::export::ExportLines;
use crate::clock::Clock;

/// No line of an export is longer.
const LONGEST_LINE: u64 = 1024 * 1024;

/// Its arguments.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Makes the key that checkpoints are signed with: FILE, and FILE.pub for those who verify
    NewKey {
        /// Where the private key goes; must not be there yet
        file: PathBuf,
    },
    /// Writes the audit trail as JSON lines; that it was read is itself recorded
    Export(Export),
    /// Continues the trail on a database that is not the one that was signed (restored, cut, new); the service must be stopped
    Restored(super::restored::Arguments),
    /// Checks an export with nothing but the public key: changed, missing, swapped, cut off, made anew
    Verify(Verify),
}

#[derive(Debug, clap::Args)]
struct Export {
    #[command(flatten)]
    file: ConfigFile,
    /// From the first record of this time on (RFC 3339)
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Up to the last record before this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
    /// The form of each line
    #[arg(long, value_enum, default_value = "jsonl")]
    format: Format,
    /// Where to write; standard output if absent
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// Records and checkpoints, for `audit verify`
    Jsonl,
    /// OCSF events, for security tools
    Ocsf,
}

#[derive(Debug, clap::Args)]
struct Verify {
    /// The export; `-` reads standard input
    file: PathBuf,
    /// The public key (PEM); more than one after a change of keys
    #[arg(long, value_name = "PUB", required = true)]
    key: Vec<PathBuf>,
    /// A state that is known from elsewhere, such as the last one that this command printed
    #[arg(long, value_name = "STATE")]
    expect: Vec<String>,
    /// The export is a part of the trail, which begins where its header says
    #[arg(long)]
    part: bool,
    /// The export is a part of the trail, in which a lane begins with this record
    #[arg(long, value_name = "RECORD")]
    begins_at: Option<String>,
    /// How many records may follow the last checkpoint
    #[arg(long, value_name = "RECORDS", default_value = "100000")]
    longest_unsigned: u64,
}

/// Does what the arguments say.
pub fn run(arguments: &Arguments) -> Result<(), Failure> {
    match &arguments.verb {
        Verb::NewKey { file } => new_key(file),
        Verb::Export(arguments) => export(arguments),
        Verb::Restored(arguments) => super::restored::run(arguments),
        Verb::Verify(arguments) => verify(arguments),
    }
}

fn new_key(path: &Path) -> Result<(), Failure> {
    let mut seed = Zeroizing::new([0; 32]);
    aws_lc_rs::rand::fill(&mut seed[..]).map_err(|_| Failure::new("the system gives no random numbers"))?;
    let pem = new_key_pem(&seed);
    let public = CheckpointSigner::from_pem(&pem).map_err(Failure::new)?.public_key().to_pem();
    let mut public_path = path.as_os_str().to_owned();
    public_path.push(".pub");
    write_new(path, pem.as_bytes())?;
    write_new(Path::new(&public_path), public.as_bytes())?;
    notice(format_args!(
        "{0} signs checkpoints: name it in the configuration (audit.key_file), readable by the service only.\n{0}.pub \
         verifies them: keep a copy where those who run the service can't change it.",
        path.display()
    ));
    print(public.trim_end())
}

fn write_new(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    crate::files::make(path, bytes, 0o600).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            Failure::new(format!("{} is there already, and is not overwritten.", path.display()))
        }
        _ => Failure::new(format!("{} can't be written: {error}", path.display())),
    })
}

fn export(arguments: &Export) -> Result<(), Failure> {
    let config = arguments.file.load()?;
    let from = arguments.from.as_deref().map(time).transpose()?;
    let to = arguments.to.as_deref().map(time).transpose()?;
    let format = match arguments.format {
        Format::Jsonl => ExportFormat::Jsonl,
        Format::Ocsf => ExportFormat::Ocsf,
    };
    let settings = config.store_settings().map_err(Failure::found)?;
    let signer = signer(&config.audit).map_err(Failure::found)?;
    runtime()?.block_on(async {
        let clock = Clock::system();
        let store = Store::open_beside(&settings, "audit export").map_err(Failure::new)?;
        let key = signer.as_ref().map(CheckpointSigner::public_key);
        Continuity::new(store.clone(), &config.audit, key).enforce(Files::All).await.map_err(|error| {
            Failure::new(format!("{error}\nThe trail is not read before somebody decides: iam-sorryd audit restored --reason TEXT"))
        })?;
        store.record(vec![reading(arguments, &clock)]).await.map_err(Failure::new)?;
        if let Some(signer) = signer {
            let now = clock.clone();
            let checkpointer = Checkpointer::new(store.clone(), signer, &config.audit, move || now.now_ms());
            // Where a running service is the one that signs, it does so soon by itself.
            checkpointer.sign_now().await.map_err(Failure::new)?;
            let _ = store.release("checkpoints").await;
        }
        let from = match from {
            Some(from) => store.position_at(from).await.map_err(Failure::new)?,
            None => TrailPosition::default(),
        };
        let until = match to {
            Some(to) => Some(store.position_at(to).await.map_err(Failure::new)?),
            None => None,
        };
        let is_part = from != TrailPosition::default();
        let mut out: Box<dyn Write> = match &arguments.output {
            Some(path) => Box::new(new_file(path)?),
            None => Box::new(io::stdout().lock()),
        };
        let mut lines = ExportLines::part(store.clone(), format, from, until);
        while let Some(text) = lines.next().await.map_err(Failure::new)? {
            if let Err(error) = out.write_all(text.as_bytes()) {
                return match error.kind() {
                    io::ErrorKind::BrokenPipe => Ok(()),
                    _ => Err(Failure::new(format!("the export can't be written: {error}"))),
                };
            }
        }
        out.flush().map_err(|error| Failure::new(format!("the export can't be written: {error}")))?;
        drop(out);
        store.close().await;
        if is_part && format == ExportFormat::Jsonl {
            notice(format_args!("The export is a part of the trail: verify it with --part"));
        }
        Ok(())
    })
}

fn new_file(path: &Path) -> Result<io::BufWriter<File>, Failure> {
    crate::files::output(path)
        .map(io::BufWriter::new)
        .map_err(|error| Failure::new(format!("{} can't be written: {error}", path.display())))
}

fn time(text: &str) -> Result<i64, Failure> {
    let time = Timestamp::parse(text).map_err(|error| Failure::new(error.to_string()))?;
    Ok(time.unix().saturating_mul(1_000))
}

/// Whoever reads the trail on the machine is recorded, by their user id.
fn reading(arguments: &Export, clock: &Clock) -> Event {
    let mut details = BTreeMap::new();
    let given = [("from", &arguments.from), ("to", &arguments.to)];
    for (name, value) in given {
        if let Some(value) = value {
            details.insert(name.to_owned(), value.chars().take(200).collect());
        }
    }
    local_event("audit export", "export-audit", "all", details, clock)
}

fn verify(arguments: &Verify) -> Result<(), Failure> {
    let keys = arguments.key.iter().map(|path| public_key(path)).collect::<Result<Vec<_>, _>>()?;
    let expected = arguments.expect.iter().map(|text| {
        LaneHeads::parse(text).ok_or_else(|| {
            Failure::new(format!("{text:?} is no state of a trail, as this command prints it"))
        })
    });
    let expected = expected.collect::<Result<Vec<_>, _>>()?;
    let mut verifier = Verifier::new(keys)
        .expect(expected.iter().flat_map(LaneHeads::iter))
        .longest_unsigned(arguments.longest_unsigned);
    if let Some(text) = &arguments.begins_at {
        let record = RecordId::parse(text)
            .ok_or_else(|| Failure::new(format!("{text:?} is no record: SEQ, or LANE:SEQ")))?;
        verifier = verifier.begins_at(record);
    }
    if arguments.part {
        verifier = verifier.part();
    }
    let report = read_lines(&arguments.file, verifier)?;
    print(describe(&report))?;
    if report.is_sound() {
        return Ok(());
    }
    let findings: Vec<String> = report.findings.iter().map(ToString::to_string).collect();
    let more = report.count.saturating_sub(findings.len() as u64);
    let more = if more > 0 { format!("\nand {more} more") } else { String::new() };
    Err(Failure::found(format!("The audit trail is not sound:\n{}{more}", findings.join("\n"))))
}

fn public_key(path: &Path) -> Result<CheckpointKey, Failure> {
    let pem = std::fs::read_to_string(path)
        .map_err(|error| Failure::new(format!("{} can't be read: {error}", path.display())))?;
    CheckpointKey::from_pem(&pem).map_err(|error| Failure::new(format!("{}: {error}", path.display())))
}

fn read_lines(path: &Path, mut verifier: Verifier) -> Result<Report, Failure> {
    let unreadable = |error: io::Error| Failure::new(format!("{} can't be read: {error}", path.display()));
    let input: Box<dyn Read> = match path == Path::new("-") {
        true => Box::new(io::stdin().lock()),
        false => Box::new(File::open(path).map_err(unreadable)?),
    };
    let mut input = BufReader::with_capacity(256 * 1024, input);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = input.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line).map_err(unreadable)?;
        if read == 0 {
            return Ok(verifier.finish());
        }
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        // What is not UTF-8 is no line of an export: the verifier says so, with its number.
        verifier.line(&String::from_utf8_lossy(text));
    }
}

fn describe(report: &Report) -> String {
    let mut lines = Vec::new();
    if report.records == 0 {
        return "no records".to_owned();
    }
    let lanes = if report.lanes == 1 { "lane" } else { "lanes" };
    lines.push(format!("{} records in {} {lanes}", report.records, report.lanes));
    if report.repeated > 0 {
        lines.push(format!("{} repeated lines, each identical to the first: no harm", report.repeated));
    }
    lines
        .push(format!("{} checkpoints; {} records behind the last one", report.checkpoints, report.unsigned));
    if report.signatures > 0 {
        lines.push(format!("{} requests signed by their persons", report.signatures));
    }
    if !report.heads.is_empty() {
        lines.push(format!("Note for the next time: --expect {}", report.heads));
    }
    for state in &report.before {
        lines.push(format!(
            "Record {} lies before the export: nothing was compared with {state}.",
            state.record()
        ));
    }
    lines.extend(report.breaks.iter().take(20).map(|one| one.to_string().replace(char::is_control, " ")));
    for (record, operation) in report.open.iter().take(20) {
        lines.push(format!(
            "Operation {operation} (record {record}) has no outcome here: it may still have been under way."
        ));
    }
    if report.open.len() > 20 {
        lines.push(format!("and {} more without an outcome", report.open.len() - 20));
    }
    lines.join("\n")
}
