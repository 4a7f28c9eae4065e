//! A file sink has each record and each checkpoint exactly once, in order, whatever is killed and whenever.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use iam_sorry_core::audit::Report;
use iam_sorry_store::SinkPosition;

use super::trail::{Trail, file_sink, signer, text, until, verify};

const VICTIM: &str = "IAM_SORRY_TEST_SINK_VICTIM";
/// Before it the test harness talks.
const START: u8 = 0x1e;
const KILLS: u32 = 24;

/// What the file has: the records of each lane in their order, and how often each checkpoint is there.
fn counted(text: &str) -> (BTreeMap<String, Vec<u64>>, BTreeMap<u64, usize>) {
    let (mut records, mut checkpoints) = (BTreeMap::<String, Vec<u64>>::new(), BTreeMap::new());
    for line in text.lines() {
        let line: serde_json::Value = serde_json::from_str(line).expect("no line is torn");
        if let Some(seq) = line["record"]["seq"].as_u64() {
            let lane = line["record"]["lane"].as_str().unwrap_or_default();
            records.entry(lane.to_owned()).or_default().push(seq);
        } else if let Some(number) = line["checkpoint"]["number"].as_u64() {
            *checkpoints.entry(number).or_default() += 1;
        }
    }
    (records, checkpoints)
}

/// Each of so many records once and in its place, each checkpoint once; and it verifies.
#[track_caller]
fn assert_exact(text: &str, count: u64) -> Report {
    let (records, checkpoints) = counted(text);
    for (lane, records) in &records {
        let wrong = (1..).zip(records).find(|(expected, found)| expected != *found);
        assert_eq!(wrong, None, "the first one out of place in lane {lane}");
    }
    assert_eq!(records.values().map(Vec::len).sum::<usize>() as u64, count);
    assert!(checkpoints.values().all(|times| *times == 1), "{checkpoints:?}");
    let report = verify(text.lines());
    assert!(report.is_sound(), "{:?}", report.findings);
    report
}

/// The same of the only lane's records, signed or not.
#[track_caller]
fn assert_exact_records(text: &str, count: u64) {
    let records: Vec<Vec<u64>> = counted(text).0.into_values().collect();
    assert_eq!(records, [(1..=count).collect::<Vec<_>>()]);
}

#[test]
fn after_any_kill_each_record_is_in_the_file_once() {
    if let Ok(folder) = std::env::var(VICTIM) {
        return victim(Path::new(&folder));
    }
    let trail = Trail::new();
    let folder = trail.folder.path().to_owned();
    let path = folder.join("audit.jsonl");
    let Trail { store, folder: _keep } = trail;
    block_on(async { store.close().await });
    drop(store);
    let mut random = 0x9E37_79B9_u32;
    for round in 0..KILLS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "sinks_exact::after_any_kill_each_record_is_in_the_file_once", "--nocapture"])
            .env(VICTIM, &folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = child.stdout.take().unwrap();
        let mut byte = [0];
        while byte != [START] {
            output.read_exact(&mut byte).expect("the victim works until it is killed");
        }
        // Until the sink has written something: a new instance waits for nobody's lease, since no other can be there.
        let before = std::fs::metadata(&path).map_or(0, |file| file.len());
        let started = Instant::now();
        while std::fs::metadata(&path).map_or(0, |file| file.len()) <= before {
            assert!(started.elapsed() < Duration::from_secs(60), "the sink writes nothing");
            std::thread::sleep(Duration::from_millis(1));
        }
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        std::thread::sleep(Duration::from_micros(u64::from(random >> 8) % 400_000));
        child.kill().unwrap();
        child.wait().unwrap();
        // Every few rounds it is rotated as well, while nobody looks.
        if round % 7 == 6 {
            std::fs::rename(&path, folder.join(format!("audit.jsonl-{round:02}"))).unwrap();
        }
    }
    block_on(async {
        let trail = Trail::at(&folder, "last");
        let running = trail.start(&file_sink(&path));
        trail.checkpointer(signer()).sign_now().await.unwrap();
        let head = trail.store.count_records().await.unwrap();
        trail.delivered("local", head).await;
        running.stop().await;
        assert_eq!(trail.count("audit-sink-tampered").await, 0, "nobody did that");
        let report = assert_exact(&all(&folder), head);
        assert!(report.checkpoints > u64::from(KILLS) / 2, "{}", report.checkpoints);
        assert!(head > u64::from(KILLS) * 20, "{head}");
    });
}

/// The rotated files in their order, then the one that is written.
fn all(folder: &Path) -> String {
    let mut rotated: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("audit.jsonl-"))
        .collect();
    rotated.sort();
    rotated.push(folder.join("audit.jsonl"));
    rotated.iter().map(|path| text(path)).collect()
}

/// Writes, signs and feeds the sink until it is killed.
fn victim(folder: &Path) {
    block_on(async {
        let trail = Trail::at(folder, &format!("victim-{}", std::process::id()));
        let running = trail.start(&file_sink(&folder.join("audit.jsonl")));
        let checkpointer = trail.checkpointer(signer());
        {
            use std::io::Write as _;
            let mut out = std::io::stdout().lock();
            out.write_all(&[START]).unwrap();
            out.flush().unwrap();
        }
        for n in 0_u32.. {
            trail.record(u64::from(n % 5) + 1).await;
            if n % 9 == 0 {
                checkpointer.sign_now().await.unwrap();
            }
            // The sink has a chance to keep up, so that kills meet every state of it.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        running.stop().await;
    });
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(work)
}

/// The moment between a write to the file and the next save of the position, in every way that it can end.
#[tokio::test]
async fn a_position_that_is_behind_the_file_repeats_nothing() {
    let trail = Trail::new();
    let path = trail.folder.path().join("audit.jsonl");
    let checkpointer = trail.checkpointer(signer());
    let mut last = 0;
    // How many records behind it was saved, and whether before or behind the checkpoint that stands there.
    for (back, before_checkpoint, rotate) in [
        (7, false, false),
        (7, true, false),
        (0, true, false),
        (20, false, true),
        (200, false, false),
        (3, true, true),
    ] {
        let running = trail.start(&file_sink(&path));
        for _ in 0..3 {
            last = trail.record(7).await;
            checkpointer.sign_now().await.unwrap();
        }
        trail.delivered("local", last).await;
        running.stop().await;
        trail.set_back("local", back, before_checkpoint).await;
        if rotate {
            std::fs::rename(&path, trail.folder.path().join(format!("audit.jsonl-{last:05}"))).unwrap();
        }
    }
    let running = trail.start(&file_sink(&path));
    trail.record(5).await;
    checkpointer.sign_now().await.unwrap();
    trail.delivered("local", last + 5).await;
    running.stop().await;
    assert_eq!(trail.count("audit-sink-tampered").await, 0);
    let report = assert_exact(&all(trail.folder.path()), last + 5);
    assert_eq!(report.unsigned, 0);
}

/// A write that the power cut off anywhere, also inside a character: what is whole stays, the rest comes again, and nobody
/// is accused.
#[tokio::test]
async fn a_torn_line_is_completed_wherever_it_was_torn() {
    let trail = Trail::new();
    let path = trail.folder.path().join("audit.jsonl");
    let running = trail.start(&file_sink(&path));
    trail.record(6).await;
    trail.checkpointer(signer()).sign_now().await.unwrap();
    trail.delivered("local", 6).await;
    until("the checkpoint", async || text(&path).contains("\"checkpoint\"")).await;
    running.stop().await;
    let whole = std::fs::read(&path).unwrap();
    let line_ends: Vec<usize> = (0..whole.len()).filter(|at| whole[*at] == b'\n').collect();
    assert_eq!(line_ends.len(), 8, "a header, six records, a checkpoint");
    let inside_a_character = whole.iter().position(|byte| *byte >= 0x80).unwrap() + 1;
    let mut cuts = vec![0, 1, line_ends[0], line_ends[0] + 1, inside_a_character, whole.len() - 1];
    cuts.extend(line_ends[1..].iter().flat_map(|end| [end - 300, end - 1, *end]));
    for cut in cuts {
        // What a power cut leaves: some of the last write, and the position of before it.
        std::fs::write(&path, &whole[..cut]).unwrap();
        trail.store.set_sink_position("local", &SinkPosition::default()).await.unwrap();
        let running = trail.start(&file_sink(&path));
        trail.delivered("local", 6).await;
        until("the file to be whole", async || std::fs::read(&path).unwrap() == whole).await;
        running.stop().await;
        assert_eq!(trail.count("audit-sink-tampered").await, 0, "cut at {cut}");
    }
}

/// What is no beginning of the next line was not torn off: somebody wrote it.
#[tokio::test]
async fn half_a_line_of_something_else_is_recorded() {
    let trail = Trail::new();
    let path = trail.folder.path().join("audit.jsonl");
    let running = trail.start(&file_sink(&path));
    trail.record(5).await;
    trail.delivered("local", 5).await;
    running.stop().await;
    let good = text(&path);
    std::fs::write(&path, good.clone() + "{\"hash\":\"0000mallory").unwrap();
    let running = trail.start(&file_sink(&path));
    until("it to be recorded", async || trail.count("audit-sink-tampered").await == 1).await;
    trail.delivered("local", 6).await;
    running.stop().await;
    assert!(text(&path).starts_with(&good), "nothing of the trail is written again");
    assert_exact_records(&text(&path), 6);
}

/// Somebody else's file, or one that knows more than the database: nothing is written into it, and a required sink stops
/// actions.
#[tokio::test]
async fn a_file_that_contradicts_the_trail_is_left_alone() {
    let (trail, other) = (Trail::new(), Trail::new());
    let path = trail.folder.path().join("audit.jsonl");
    trail.record(3).await;
    let (mine, theirs) = (other.folder.path().join("audit.jsonl"), other.folder.path().join("more.jsonl"));
    let running = other.start(&file_sink(&mine));
    other.record(5).await;
    other.delivered("local", 5).await;
    running.stop().await;
    // Of another trail.
    std::fs::copy(&mine, &path).unwrap();
    // Of this trail, with more records than it has: the database is an older copy.
    let ahead = text(&mine).replace(&other.store.chain_id().to_string(), &trail.store.chain_id().to_string());
    std::fs::write(&theirs, ahead).unwrap();
    std::fs::set_permissions(&theirs, std::fs::Permissions::from_mode(0o600)).unwrap();
    for file in [&path, &theirs] {
        let before = text(file);
        let running = trail.start(&file_sink(file));
        until("a refusal", async || running.watch.check().is_err()).await;
        assert!(running.watch.readiness().is_err());
        running.stop().await;
        assert_eq!(text(file), before, "{}", file.display());
    }
}

/// Another instance on this host that hangs in the middle, with its lease over: while it has the file, nobody else writes
/// there; what it wrote in the end is not written again.
#[tokio::test]
async fn two_writers_of_one_file_write_nothing_twice() {
    let trail = Trail::new();
    let path = trail.folder.path().join("audit.jsonl");
    let running = trail.start(&file_sink(&path));
    trail.record(5).await;
    trail.delivered("local", 5).await;
    running.stop().await;
    let hung = std::fs::File::options().append(true).open(&path).unwrap();
    hung.lock().unwrap();
    let next = trail.record(1).await;
    let running = trail.start(&file_sink(&path));
    until("it to see the other", async || running.watch.states()[0].failing).await;
    let lane = trail.store.trail_state().await.unwrap().heads.iter().next().unwrap().lane;
    let late = trail.store.record_at(lane.record(next)).await.unwrap().unwrap().export_line() + "\n";
    std::io::Write::write_all(&mut &hung, late.as_bytes()).unwrap();
    drop(hung);
    trail.record(3).await;
    trail.delivered("local", 9).await;
    running.stop().await;
    assert_exact_records(&text(&path), 9);
    assert_eq!(trail.count("audit-sink-tampered").await, 0);
}

/// Instances take turns with one file, each dying in the middle of its work; the position that it leaves is old.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_instance_wrote_its_successor_does_not_write_again() {
    let (one, two) = Trail::two_instances();
    let path = one.folder.path().join("audit.jsonl");
    let checkpointer = one.checkpointer(signer());
    let mut last = 0;
    for round in 0..6 {
        let (dying, next) = if round % 2 == 0 { (&one, &two) } else { (&two, &one) };
        let running = dying.start(&file_sink(&path));
        let before = text(&path).len();
        last = dying.record(120).await;
        checkpointer.sign_now().await.unwrap();
        until("some of it to be written", async || text(&path).len() > before).await;
        running.die();
        // Its lease is over.
        dying.store.release("sink local").await.unwrap();
        let running = next.start(&file_sink(&path));
        next.delivered("local", last).await;
        running.stop().await;
    }
    checkpointer.sign_now().await.unwrap();
    let running = two.start(&file_sink(&path));
    let signed = two.store.last_checkpoint().await.unwrap().unwrap().number;
    until("the last checkpoint", async || counted(&text(&path)).1.contains_key(&signed)).await;
    running.stop().await;
    assert_eq!(two.count("audit-sink-tampered").await, 0);
    assert_exact(&text(&path), last);
}
