//! Sinks on real files and sockets: everything arrives, also over restarts and failures, and what is taken away shows.

use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use iam_sorry_server::audit::sinks::SinkSettings;
use iam_sorry_store::TrailPosition;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream, UdpSocket, UnixDatagram};

use super::trail::{Trail, file_sink, signer, text, until, verify};

pub fn sink(text: &str) -> SinkSettings {
    toml::from_str(text).unwrap()
}

#[tokio::test]
async fn a_file_has_every_record_once_over_restarts_and_verifies() {
    let trail = Trail::new();
    let path = trail.folder.path().join("audit.jsonl");
    let checkpointer = trail.checkpointer(signer());
    for round in 1..=3_u64 {
        let running = trail.start(&file_sink(&path));
        trail.record(700).await;
        checkpointer.sign_now().await.unwrap();
        trail.delivered("local", round * 700).await;
        running.stop().await;
    }
    let report = verify(text(&path).lines());
    assert!(report.is_sound(), "{:?}", report.findings);
    assert_eq!((report.records, report.unsigned), (2_100, 0));
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn a_file_that_was_rotated_goes_on_in_a_new_one() {
    let trail = Trail::new();
    let (path, old) = (trail.folder.path().join("audit.jsonl"), trail.folder.path().join("audit.jsonl.1"));
    let running = trail.start(&file_sink(&path));
    trail.record(10).await;
    trail.delivered("local", 10).await;
    std::fs::rename(&path, &old).unwrap();
    trail.record(10).await;
    trail.delivered("local", 20).await;
    running.stop().await;
    let both = text(&old) + &text(&path);
    let mut findings = verify(both.lines()).findings;
    findings.retain(|finding| !format!("{finding:?}").starts_with("Unsigned"));
    assert!(findings.is_empty(), "{findings:?}");
    assert_eq!(trail.count("audit-sink-tampered").await, 0, "rotation is none of that");
    assert!(text(&path).lines().next().unwrap().contains("\"chain\""), "each file begins with its header");
}

/// vault#31718: an audit file that is deleted or cut while the service runs is noticed, recorded, and made whole.
#[tokio::test]
async fn a_file_that_was_deleted_or_cut_is_noticed_and_written_again() {
    let trail = Trail::new();
    let path = trail.folder.path().join("audit.jsonl");
    let running = trail.start(&file_sink(&path));
    trail.record(10).await;
    trail.delivered("local", 10).await;
    std::fs::remove_file(&path).unwrap();
    until("the deletion to be recorded", async || trail.count("audit-sink-tampered").await == 1).await;
    until("the file to be whole", async || verify(text(&path).lines()).records == 11).await;

    let whole = text(&path);
    std::fs::File::options().write(true).open(&path).unwrap().set_len(whole.len() as u64 / 2).unwrap();
    until("the cut to be recorded", async || trail.count("audit-sink-tampered").await == 2).await;
    until("the file to be whole", async || verify(text(&path).lines()).records == 12).await;
    running.stop().await;
    let kept = std::fs::read_dir(trail.folder.path()).unwrap().filter_map(Result::ok);
    let kept: Vec<_> =
        kept.filter(|entry| entry.file_name().to_string_lossy().contains(".damaged-")).collect();
    assert_eq!(kept.len(), 1, "what was left of it is kept");

    // And while the service is down.
    let lines: Vec<String> = text(&path).lines().map(str::to_owned).collect();
    std::fs::write(&path, lines[..5].join("\n") + "\n").unwrap();
    let running = trail.start(&file_sink(&path));
    until("the cut to be recorded", async || trail.count("audit-sink-tampered").await == 3).await;
    until("the file to be whole", async || verify(text(&path).lines()).records == 13).await;
    running.stop().await;
}

/// The same while the service is down, where the file has no record left or is gone: nothing that was rotated explains it.
#[tokio::test]
async fn a_file_that_was_emptied_or_deleted_while_nobody_looked_is_noticed_and_written_again() {
    let trail = Trail::new();
    let path = trail.folder.path().join("audit.jsonl");
    let running = trail.start(&file_sink(&path));
    trail.record(10).await;
    trail.delivered("local", 10).await;
    running.stop().await;
    let header = |text: &str| text.lines().next().unwrap().to_owned() + "\n";
    let takings: [&dyn Fn(); 3] = [
        &|| std::fs::File::options().write(true).open(&path).unwrap().set_len(0).unwrap(),
        &|| std::fs::remove_file(&path).unwrap(),
        &|| std::fs::write(&path, header(&text(&path))).unwrap(),
    ];
    for (before, taking) in takings.iter().enumerate() {
        taking();
        let running = trail.start(&file_sink(&path));
        let noticed = async || trail.count("audit-sink-tampered").await == before + 1;
        until("it to be recorded", noticed).await;
        let whole = 10 + before as u64 + 1;
        until("the file to be whole", async || verify(text(&path).lines()).records == whole).await;
        running.stop().await;
        assert_eq!(trail.count("audit-sink-tampered").await, before + 1, "once");
    }
}

/// As logrotate does it, with and without `create`, under each of the names that it gives.
#[tokio::test]
async fn a_file_that_was_rotated_while_nobody_looked_goes_on_in_a_new_one() {
    let trail = Trail::new();
    let path = trail.folder.path().join("audit.jsonl");
    let mut all = 0;
    for (name, create) in [
        ("audit.jsonl.1", true),
        ("audit.jsonl-20261122", false),
        ("audit-20261123.jsonl", true),
        ("audit.2.jsonl", false),
    ] {
        let running = trail.start(&file_sink(&path));
        trail.record(5).await;
        all += 5;
        trail.delivered("local", all).await;
        running.stop().await;
        std::fs::rename(&path, trail.folder.path().join(name)).unwrap();
        if create {
            std::fs::write(&path, "").unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        }
        // Nothing to write at first, and once more the next time.
        for _ in 0..2 {
            let running = trail.start(&file_sink(&path));
            tokio::time::sleep(Duration::from_millis(600)).await;
            assert!(!running.watch.states()[0].failing, "{name}");
            running.stop().await;
        }
        assert_eq!(trail.count("audit-sink-tampered").await, 0, "{name}");
    }
    // Deleted after all: what the rotated ones have is not written again.
    let running = trail.start(&file_sink(&path));
    trail.record(5).await;
    trail.delivered("local", all + 5).await;
    running.stop().await;
    std::fs::remove_file(&path).unwrap();
    let running = trail.start(&file_sink(&path));
    until("the file to be whole", async || verify(text(&path).lines()).records == 6).await;
    running.stop().await;
    assert_eq!(trail.count("audit-sink-tampered").await, 1);
}

/// Into another folder, where nobody looks after a start.
#[tokio::test]
async fn a_file_that_is_rotated_away_while_the_service_looks_is_no_loss() {
    let trail = Trail::new();
    let path = trail.folder.path().join("audit.jsonl");
    let away = trail.folder.path().join("old");
    std::fs::create_dir(&away).unwrap();
    let running = trail.start(&file_sink(&path));
    trail.record(10).await;
    trail.delivered("local", 10).await;
    std::fs::rename(&path, away.join("audit.jsonl")).unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    trail.record(10).await;
    trail.delivered("local", 20).await;
    running.stop().await;
    assert_eq!(trail.count("audit-sink-tampered").await, 0);
    assert_eq!(verify(text(&path).lines()).records, 10);
}

#[tokio::test]
async fn half_a_line_that_a_crash_left_is_cut_off() {
    let trail = Trail::new();
    let path = trail.folder.path().join("audit.jsonl");
    let running = trail.start(&file_sink(&path));
    trail.record(5).await;
    trail.delivered("local", 5).await;
    running.stop().await;
    trail.record(5).await;
    let lane = trail.lane().await;
    let next = trail.store.record_at(lane.record(6)).await.unwrap().unwrap().export_line();
    let mut bytes = text(&path);
    bytes.push_str(&next[..100]);
    std::fs::write(&path, bytes).unwrap();
    let running = trail.start(&file_sink(&path));
    trail.delivered("local", 10).await;
    running.stop().await;
    let report = verify(text(&path).lines());
    assert_eq!(report.records, 10);
    assert!(report.findings.iter().all(|finding| format!("{finding:?}").starts_with("Unsigned")));
}

/// CVE-2025-6000: an audit file that can be run, or that a link leads elsewhere, is never written to.
#[tokio::test]
async fn no_executable_file_and_no_link_is_written_to() {
    let trail = Trail::new();
    let folder = trail.folder.path();
    let (target, link) = (folder.join("target"), folder.join("link"));
    std::fs::write(&target, "").unwrap();
    std::os::unix::fs::symlink(&target, &link).unwrap();
    let mut paths = vec![target, link];
    // Also one that others may write to: what is in it would be theirs.
    for mode in [0o755, 0o700, 0o610, 0o601, 0o666, 0o620, 0o602] {
        let path = folder.join(format!("mode-{mode:o}"));
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        paths.push(path);
    }
    trail.record(3).await;
    for path in &paths[1..] {
        let running = trail.start(&file_sink(path));
        until("a failure", async || running.watch.states()[0].failing).await;
        running.stop().await;
        assert_eq!(text(path), "", "{}", path.display());
    }
}

/// vault#5361: a collector that hangs holds up neither reading, nor other sinks; if it is required, actions stop.
#[tokio::test]
async fn a_sink_that_hangs_stalls_nobody_else_but_stops_actions_where_it_is_required() {
    let trail = Trail::new();
    let path = trail.folder.path().join("audit.jsonl");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let held = tokio::spawn(async move {
        let mut held = Vec::new();
        loop {
            held.push(listener.accept().await.unwrap()); // taken, never answered
        }
    });
    let settings = format!(
        "name = \"collector\"\nrequired = true\nmost_records_behind = 50\nhttp = {{ url = \"http://127.0.0.1:{port}/\" }}"
    );
    let (hanging, working) = (trail.start(&sink(&settings)), trail.start(&file_sink(&path)));
    trail.record(100).await;
    trail.delivered("local", 100).await;
    until("actions to stop", async || hanging.watch.check().is_err()).await;
    working.watch.check().unwrap();
    let refusal = hanging.watch.check().unwrap_err();
    assert_eq!(refusal.code.as_str(), "audit-unavailable");
    assert!(refusal.detail.contains("collector"), "{}", refusal.detail);
    assert!(hanging.watch.readiness().is_err());
    trail.store.read_trail(&TrailPosition::default(), None, 10).await.unwrap();
    held.abort();
    drop(hanging);
    working.stop().await;
}

/// One request: its head in lower case, and its body.
pub async fn post(stream: &mut (impl AsyncRead + Unpin)) -> (String, String) {
    let mut reader = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).await.unwrap();
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line == "\r\n" || line.is_empty() {
            break;
        }
        head.push_str(&line.to_ascii_lowercase().replace("bearer t0ken", "Bearer t0ken"));
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).await.unwrap();
    (head, String::from_utf8(body).unwrap())
}

#[tokio::test]
async fn a_collector_gets_everything_whatever_it_answers_at_first() {
    let trail = Trail::new();
    let token = trail.folder.path().join("token");
    std::fs::write(&token, "t0ken\n").unwrap();
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let accepted = Arc::new(Mutex::new(String::new()));
    trail.record(600).await;
    let lane = trail.lane().await;
    let collector = tokio::spawn({
        let accepted = Arc::clone(&accepted);
        async move {
            // Failures first: a 500, a redirect (not followed), an end without an answer.
            for n in 0.. {
                let (mut stream, _) = listener.accept().await.unwrap();
                let (head, body) = post(&mut stream).await;
                assert!(
                    head.starts_with("post /audit?x=1 ") && head.contains("authorization: Bearer t0ken"),
                    "{head}"
                );
                assert!(head.contains("content-type: application/x-ndjson"), "{head}");
                let records = if n < 4 { "1-500" } else { "501-600" };
                assert!(head.contains(&format!("x-audit-records: {lane}:{records}\r\n")), "{n}: {head}");
                let answer = match n {
                    0 => "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n",
                    1 => "HTTP/1.1 307 There\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n",
                    2 => "",
                    _ => {
                        accepted.lock().unwrap().push_str(&body);
                        "HTTP/1.1 204 OK\r\n\r\n"
                    }
                };
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        }
    });
    let settings = format!(
        "name = \"c\"\nhttp = {{ url = \"http://127.0.0.1:{port}/audit?x=1\", token = {{ file = {token:?} }} }}"
    );
    trail.checkpointer(signer()).sign_now().await.unwrap();
    let running = trail.start(&sink(&settings));
    trail.delivered("c", 600).await;
    running.stop().await;
    collector.abort();
    let report = verify(accepted.lock().unwrap().lines());
    assert_eq!((report.records, report.unsigned), (600, 0), "{:?}", report.findings);
    assert!(report.is_sound(), "{:?}", report.findings);
}

/// Reads `LENGTH SP MESSAGE` frames (RFC 6587) until the end, or so many.
async fn frames(stream: TcpStream, most: usize) -> Vec<String> {
    let (mut reader, mut messages) = (BufReader::new(stream), Vec::new());
    while messages.len() < most {
        let mut length = Vec::new();
        if reader.read_until(b' ', &mut length).await.unwrap() == 0 {
            break;
        }
        let length: usize = String::from_utf8(length).unwrap().trim().parse().unwrap();
        let mut message = vec![0; length];
        reader.read_exact(&mut message).await.unwrap();
        messages.push(String::from_utf8(message).unwrap());
    }
    messages
}

/// The record's line of a message; checks the head (RFC 5424, section 6).
fn record_of(message: &str) -> String {
    let mut parts = message.splitn(8, ' ');
    assert_eq!(parts.next(), Some("<110>1"), "log audit, informational: {message}");
    let time = parts.next().unwrap();
    assert!(time.starts_with("2026-11-22T") && time.ends_with('Z') && time.contains('.'), "{time}");
    assert!(!parts.next().unwrap().is_empty());
    assert_eq!(parts.next(), Some("iam-sorryd"));
    parts.next().unwrap().parse::<u32>().unwrap();
    assert!(["record", "checkpoint"].contains(&parts.next().unwrap()));
    assert_eq!(parts.next(), Some("-"));
    parts.next().unwrap().to_owned()
}

#[tokio::test]
async fn syslog_over_tcp_loses_nothing_when_the_server_goes_away() {
    let trail = Trail::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    trail.record(300).await;
    let running = trail.start(&sink(&format!("name = \"s\"\nsyslog = {{ tcp = \"{address}\" }}")));
    let (stream, _) = listener.accept().await.unwrap();
    let mut got = frames(stream, 300).await; // and the connection is dropped here
    trail.record(300).await;
    let (stream, _) =
        tokio::time::timeout(Duration::from_secs(60), listener.accept()).await.unwrap().unwrap();
    let reading = tokio::spawn(frames(stream, usize::MAX));
    trail.delivered("s", 600).await;
    running.stop().await;
    got.extend(reading.await.unwrap());
    let seqs: std::collections::BTreeSet<u64> = got
        .iter()
        .map(|message| serde_json::from_str::<serde_json::Value>(&record_of(message)).unwrap())
        .map(|line| line["record"]["seq"].as_u64().unwrap())
        .collect();
    assert_eq!(seqs, (1..=600).collect(), "each at least once");
}

#[tokio::test]
async fn syslog_over_udp_and_the_local_socket() {
    let trail = Trail::new();
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let path = trail.folder.path().join("log");
    let local = UnixDatagram::bind(&path).unwrap();
    trail.record(3).await;
    let address = udp.local_addr().unwrap();
    let first = trail.start(&sink(&format!("name = \"u\"\nsyslog = {{ udp = \"{address}\" }}")));
    let second = trail.start(&sink(&format!("name = \"l\"\nsyslog = {{ socket = {path:?} }}")));
    let mut buffer = vec![0; 65_536];
    let mut lines = [String::new(), String::new()];
    for _ in 0..3 {
        let read =
            tokio::time::timeout(Duration::from_secs(60), udp.recv(&mut buffer)).await.unwrap().unwrap();
        lines[0] += &(record_of(std::str::from_utf8(&buffer[..read]).unwrap()) + "\n");
        let read =
            tokio::time::timeout(Duration::from_secs(60), local.recv(&mut buffer)).await.unwrap().unwrap();
        lines[1] += &(record_of(std::str::from_utf8(&buffer[..read]).unwrap()) + "\n");
    }
    assert_eq!(lines[0], lines[1]);
    assert_eq!(verify(lines[0].lines()).records, 3);
    first.stop().await;
    second.stop().await;
}
