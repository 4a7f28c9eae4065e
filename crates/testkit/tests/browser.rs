//! The browser rig shows pages, types, clicks, and ends with the test process.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use testkit::Browser;

const PAGE: &str = r#"<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Zo&euml; &amp; Co</title><h1>Hello</h1><form action="/next"><label>Name <input name="q"></label>
<select name="s"><option value="1">one</option><option value="2">two</option></select><button>Go on</button></form>
<a href="/late" onclick="event.preventDefault(); setTimeout(() => location = this.href, 500)">Later</a>
<p style="width: 800px">wide</p>"#;

/// Answers every request with the page, sets a cookie, and shows the request's target in it.
fn serve() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("its address");
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(stream));
        }
    });
    format!("http://{address}")
}

fn answer(mut stream: TcpStream) {
    let mut reader = BufReader::new(stream.try_clone().expect("a second handle"));
    let mut target = String::new();
    let _ = reader.read_line(&mut target);
    let mut line = String::new();
    while reader.read_line(&mut line).is_ok_and(|read| read > 2) {
        line.clear();
    }
    let body = format!("{PAGE}<pre id=target>{}</pre>", target.split(' ').nth(1).unwrap_or_default());
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nSet-Cookie: a=b; HttpOnly; SameSite=Strict\r\n";
    let _ = write!(stream, "{head}Connection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let _ = stream.read(&mut [0]);
}

#[test]
fn a_page_is_used_as_a_person_does() {
    let site = serve();
    let browser = Browser::desktop();
    browser.goto(&site);
    assert_eq!(browser.title(), "Zoë & Co");
    assert_eq!(browser.find("h1").text(), "Hello");
    assert!(browser.overflow() <= 0, "{}", browser.overflow());
    browser.find("input").type_text("it's me");
    browser.find("select").choose("2");
    browser.find_labelled("Go on").follow();
    assert_eq!(browser.find("#target").text(), "/next?q=it%27s+me&s=2");
    assert_eq!(browser.url(), format!("{site}/next?q=it%27s+me&s=2"));
    let cookies = browser.cookies();
    assert!(
        cookies[0]["name"] == "a" && cookies[0]["httpOnly"] == true && cookies[0]["sameSite"] == "Strict"
    );
    browser.run("console.error('said')", &serde_json::json!([]));
    assert!(browser.console().iter().any(|line| line.starts_with("SEVERE") && line.contains("said")));
    browser.back();
    assert_eq!(browser.find("#target").text(), "/");
    browser.find_labelled("Later").follow();
    assert_eq!(browser.find("#target").text(), "/late");

    browser.resize(390, 844);
    browser.reload();
    assert_eq!(
        browser.run("return innerWidth", &serde_json::json!([])),
        browser.run("return Math.max(390, document.documentElement.scrollWidth)", &serde_json::json!([]))
    );
    assert!(browser.run("return document.documentElement.clientWidth", &serde_json::json!([])) == 390);
    let file = tempfile::NamedTempFile::new().expect("a file");
    browser.screenshot(file.path());
    let png = std::fs::read(file.path()).expect("the picture");
    assert_eq!(&png[..8], b"\x89PNG\r\n\x1a\n");
}

/// As tests/process_end.rs: runs itself once more as the process to be killed.
#[test]
fn a_killed_test_process_leaves_no_browser() {
    if std::env::var_os("TESTKIT_VICTIM").is_some() {
        let browser = Browser::phone();
        let version = browser.run("return navigator.userAgent", &serde_json::json!([]));
        println!("\nbrowser {} {version}", std::process::id());
        std::thread::sleep(Duration::from_secs(600));
    }
    // A folder of its own tells this browser's processes from those of other tests.
    let folder = tempfile::Builder::new().prefix("b-").tempdir_in("/tmp").expect("a folder");
    let mut victim = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "a_killed_test_process_leaves_no_browser", "--nocapture"])
        .env("TESTKIT_VICTIM", "1")
        .env("TMPDIR", folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let lines = BufReader::new(victim.stdout.take().expect("piped")).lines();
    lines.map_while(Result::ok).find(|line| line.starts_with("browser ")).expect("a browser");
    let alive = || {
        let name = folder.path().as_os_str().as_encoded_bytes();
        let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
        processes
            .filter_map(|process| std::fs::read(process.path().join("cmdline")).ok())
            .filter(|line| line.windows(name.len()).any(|window| window == name))
            .count()
    };
    assert!(alive() > 2, "the browser's processes are seen");
    victim.kill().expect("killed");
    victim.wait().expect("gone");
    let start = Instant::now();
    while alive() > 0 || std::fs::read_dir(folder.path()).expect("the folder").count() > 0 {
        assert!(start.elapsed() < Duration::from_secs(60), "{} processes outlived their test", alive());
        std::thread::sleep(Duration::from_millis(50));
    }
}
