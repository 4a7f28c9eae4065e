//! Forms and links of somebody else's making, and what the browser is told to do about them.

use std::io::{Read, Write};
use std::net::TcpListener;

use serde_json::json;
use testkit::{Answer, Browser, request};

use crate::rig::{Person, Rig};

/// A browser by hand: keeps cookies, sends what it is told.
struct Raw<'a> {
    rig: &'a Rig,
    cookies: Vec<(String, String)>,
}

impl<'a> Raw<'a> {
    fn new(rig: &'a Rig) -> Self {
        Self { rig, cookies: Vec::new() }
    }

    fn send(&mut self, method: &str, path: &str, headers: &[String], body: &str) -> Answer {
        let mut lines: Vec<String> = headers.to_vec();
        if !self.cookies.is_empty() {
            let all: Vec<String> =
                self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
            lines.push(format!("Cookie: {}", all.join("; ")));
        }
        if method == "POST" {
            lines.push("Content-Type: application/x-www-form-urlencoded".into());
        }
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let answer = request(&self.rig.service.address(), method, path, &lines, body.as_bytes()).unwrap();
        for (name, value) in &answer.headers {
            if name.eq_ignore_ascii_case("set-cookie") {
                let (name, value) = value.split(';').next().unwrap().split_once('=').unwrap();
                self.cookies.retain(|(known, _)| known != name);
                if !value.is_empty() {
                    self.cookies.push((name.to_owned(), value.to_owned()));
                }
            }
        }
        answer
    }

    fn get(&mut self, path: &str) -> Answer {
        self.send("GET", path, &[], "")
    }

    /// As our own page would send it.
    fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> Answer {
        let origin = format!("Origin: {}", self.rig.service.origin());
        self.send("POST", path, &[origin, "Sec-Fetch-Site: same-origin".into()], &encode(fields))
    }

    fn token(&mut self, path: &str) -> String {
        let page = self.get(path);
        let text = text(&page);
        let rest = text.split("name=\"form_token\" value=\"").nth(1).unwrap_or_else(|| panic!("{text}"));
        rest.split('"').next().unwrap().to_owned()
    }

    fn sign_in(&mut self, name: &str, next: &str) -> Answer {
        let token = self.token("/sign-in");
        let password = format!("{name}-password");
        self.post(
            "/sign-in",
            &[("form_token", &token), ("username", name), ("password", &password), ("next", next)],
        )
    }

    fn session(&self) -> Option<&str> {
        self.cookies.iter().map(|(_, value)| value.as_str()).find(|value| value.starts_with("iss_"))
    }
}

fn encode(fields: &[(&str, &str)]) -> String {
    let byte = |b: u8| match b {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => char::from(b).to_string(),
        _ => format!("%{b:02X}"),
    };
    let text = |text: &str| text.bytes().map(byte).collect::<String>();
    fields.iter().map(|(name, value)| format!("{name}={}", text(value))).collect::<Vec<_>>().join("&")
}

fn text(answer: &Answer) -> String {
    answer.body.clone()
}

fn location(answer: &Answer) -> &str {
    answer.header("location").unwrap_or_default()
}

#[test]
fn forms_are_believed_only_from_our_own_pages() {
    let rig = Rig::start();
    let mut alice = Raw::new(&rig);
    assert_eq!(alice.sign_in("alice", "/").status, 303);
    let mut bob = Raw::new(&rig);
    bob.sign_in("bob", "/");
    let (hers, his) = (alice.token("/namespace"), bob.token("/namespace"));
    let fields =
        |token: &str| encode(&[("form_token", token), ("key", "0123456789abcdef"), ("name", "dirk-forged")]);
    let ours = format!("Origin: {}", rig.service.origin());
    let same = "Sec-Fetch-Site: same-origin".to_owned();
    for (why, headers, body) in [
        (
            "no token",
            vec![ours.clone(), same.clone()],
            encode(&[("key", "0123456789abcdef"), ("name", "dirk-forged")]),
        ),
        ("another session's token", vec![ours.clone(), same.clone()], fields(&his)),
        ("a cut token", vec![ours.clone(), same.clone()], fields(&hers[1..])),
        (
            "another site",
            vec!["Origin: https://evil.example".into(), "Sec-Fetch-Site: cross-site".into()],
            fields(&hers),
        ),
        (
            "another port",
            vec!["Origin: http://127.0.0.1:1".into(), "Sec-Fetch-Site: same-site".into()],
            fields(&hers),
        ),
        ("an old browser on another site", vec!["Origin: https://evil.example".into()], fields(&hers)),
        ("nobody knows where", vec![], fields(&hers)),
    ] {
        let answer = alice.send("POST", "/namespace/users", &headers, &body);
        let page = text(&answer);
        assert_eq!(answer.status, 403, "{why}: {page}");
        assert!(page.contains("cross-site") && page.contains("Nothing was done"), "{why}: {page}");
    }
    assert!(rig.account.try_call("iam", "get_user", json!({"UserName": "dirk-forged"})).is_err());
    // The same with everything right: the cases above failed for their own reasons.
    let answer = alice.send("POST", "/namespace/users", &[ours, same], &fields(&hers));
    assert_eq!(
        (answer.status, location(&answer)),
        (303, "/namespace/users/dirk-forged"),
        "{}",
        text(&answer)
    );
}

/// Login CSRF: nobody is signed in under a foreign name by a form from elsewhere.
#[test]
fn signing_in_takes_a_form_of_this_browser() {
    let rig = Rig::start();
    let mut victim = Raw::new(&rig);
    let mut attacker = Raw::new(&rig);
    let attackers = attacker.token("/sign-in");
    let fields = [("form_token", attackers.as_str()), ("username", "bob"), ("password", "bob-password")];
    let answer = victim.post("/sign-in", &fields);
    assert_eq!(answer.status, 403, "{}", text(&answer));
    assert_eq!(victim.session(), None);
    assert_eq!(attacker.post("/sign-in", &fields).status, 303);
}

#[test]
fn a_session_that_was_there_before_is_never_signed_in() {
    let rig = Rig::start();
    let mut first = Raw::new(&rig);
    first.sign_in("bob", "/");
    let planted = first.session().unwrap().to_owned();
    // The victim's browser bears the attacker's session, and the victim signs in all the same.
    let mut victim = Raw::new(&rig);
    victim.cookies = first.cookies.clone();
    first.token("/sessions");
    let token = victim.token("/sessions");
    assert_eq!(victim.post("/sign-out", &[("form_token", &token)]).status, 303);
    victim.cookies = vec![(first.cookies[0].0.clone(), planted.clone())];
    assert_eq!(victim.sign_in("alice", "/").status, 303);
    assert_ne!(victim.session().unwrap(), planted);
    assert_eq!(location(&first.get("/credentials")), "/sign-in", "the planted session is worth nothing");
}

#[test]
fn signing_in_leads_to_places_of_ours_only() {
    let rig = Rig::start();
    for (wish, place) in [
        ("/audit?action=sign-in", "/audit?action=sign-in"),
        ("//evil.example/", "/credentials"),
        ("https://evil.example/", "/credentials"),
        ("/\\evil.example", "/credentials"),
        ("/\t/evil.example", "/credentials"),
        ("/audit\r\nSet-Cookie: x=y", "/credentials"),
    ] {
        let mut browser = Raw::new(&rig);
        let answer = browser.sign_in("alice", wish);
        assert_eq!((answer.status, location(&answer)), (303, place), "{wish:?}");
    }
    let mut browser = Raw::new(&rig);
    let page = text(&browser.get("/sign-in?next=https%3A%2F%2Fevil.example"));
    assert!(!page.contains("evil"), "{page}");
}

#[test]
fn every_answer_tells_browsers_to_do_no_more_than_show_it() {
    let rig = Rig::start();
    let mut alice = Raw::new(&rig);
    let check = |answer: Answer, what: &str| {
        for (name, part) in [
            ("content-security-policy", "default-src 'none'"),
            ("content-security-policy", "frame-ancestors 'none'"),
            ("content-security-policy", "form-action 'self'"),
            ("content-security-policy", "base-uri 'none'"),
            ("x-frame-options", "DENY"),
            ("x-content-type-options", "nosniff"),
            ("cache-control", "no-store"),
        ] {
            let found = answer.header(name).unwrap_or_default();
            assert!(found.contains(part), "{what}: {name}: {found}");
        }
        assert!(!answer.header("content-security-policy").unwrap().contains("unsafe"), "{what}");
        assert!(
            answer.header("referrer-policy").is_some_and(|p| ["same-origin", "no-referrer"].contains(&p)),
            "{what}"
        );
    };
    check(alice.get("/sign-in"), "sign-in");
    check(alice.get("/"), "a redirect");
    alice.sign_in("alice", "/");
    for page in ["/credentials", "/namespace", "/audit", "/rules", "/sessions", "/namespace/users/dirk-none"]
    {
        check(alice.get(page), page);
    }
    check(alice.post("/credentials", &[]), "a refused form");
    check(alice.send("PUT", "/credentials", &[], ""), "a wrong method");
}

#[test]
fn what_is_not_of_its_form_gets_a_page_and_not_a_guess() {
    let rig = Rig::start();
    let mut alice = Raw::new(&rig);
    alice.sign_in("alice", "/");
    let origin = format!("Origin: {}", rig.service.origin());
    for (what, status, answer) in [
        ("a number too large", 400, alice.get("/audit/99999999999999999999")),
        ("no such record", 404, alice.get("/audit/999999")),
        ("a day that is none", 400, alice.get("/audit?from=yesterday")),
        ("a wrong cursor", 400, alice.get("/audit?cursor=x")),
        ("a user with a slash", 400, alice.get("/namespace/users/a%2F..%2Fb")),
        ("a wrong method", 405, alice.send("DELETE", "/credentials", &[], "")),
        ("JSON", 415, {
            let cookie = format!("Cookie: {}={}", alice.cookies[0].0, alice.cookies[0].1);
            request(
                &rig.service.address(),
                "POST",
                "/credentials",
                &[&origin, &cookie, "Content-Type: application/json"],
                b"{}",
            )
            .unwrap()
        }),
    ] {
        let page = text(&answer);
        assert_eq!(answer.status, status, "{what}: {page}");
        assert!(page.contains("<h1>") && page.contains("Request"), "{what}: {page}");
    }
}

/// Hostile text in all that a page repeats: it is shown, and nothing else happens.
#[test]
fn hostile_text_is_shown_and_not_run() {
    let rig = Rig::start();
    let person = Person::new(&rig, &rig.service.origin(), Browser::desktop(), 1280);
    let hostile = "\"><img src=x onerror=document.title=1><script>document.title=2</script>";
    let escaped = encode(&[("q", hostile)])[2..].to_owned();
    person.goto(&format!("/sign-in?next=/{escaped}"));
    person.look("hostile-next");
    person.sign_in(hostile, "x");
    person.look("hostile-name");
    assert_eq!(person.browser.find("#username").property("value"), json!(hostile));
    person.sign_in("erin", "erin-password");
    for path in [
        format!("/audit?person={escaped}&resource={escaped}&action={escaped}"),
        format!("/credentials?user={escaped}"),
        format!("/namespace/users/{escaped}"),
        format!("/namespace?cursor={escaped}"),
        format!("/{escaped}"),
    ] {
        person.goto(&path);
        person.look("hostile");
    }
    // What was tried as a name stands in the audit trail, which erin may read whole.
    person.goto("/audit?action=sign-in");
    person.look("hostile-audit");
    assert!(person.browser.find_all("main img, main script").is_empty());
}

/// A page of somebody else's, on another port of the same host (so the cookie is sent) and on another host.
#[test]
fn a_form_on_another_page_is_refused_in_a_real_browser() {
    let rig = Rig::start();
    let person = Person::new(&rig, &rig.service.origin(), Browser::desktop(), 1280);
    person.goto("/namespace");
    person.sign_in("alice", "alice-password");
    let token = person.browser.find("form[action='/namespace/users'] [name=form_token]").property("value");
    let token = token.as_str().unwrap().to_owned();
    let port = evil_page(format!(
        "<!doctype html><title>evil</title><form method=post action='{}/namespace/users'>\
         <input name=form_token value='{token}'><input name=key value='0123456789abcdef'>\
         <input name=name value='dirk-evil'></form><script>document.forms[0].submit()</script>",
        rig.service.origin()
    ));
    for host in ["127.0.0.1", "localhost"] {
        person.browser.goto(&format!("http://{host}:{port}/"));
        // The form sends itself: wait for our answer.
        let heading = person.browser.find("h1").text();
        assert!(["Form refused", "Please sign in again"].contains(&heading.as_str()), "{host}: {heading}");
    }
    assert!(rig.account.try_call("iam", "get_user", json!({"UserName": "dirk-evil"})).is_err());
}

fn evil_page(page: String) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            // Browsers open connections that they may never use.
            let _ = stream.set_read_timeout(Some(std::time::Duration::from_millis(500)));
            let Ok(1..) = stream.read(&mut [0; 4096]) else { continue };
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                page.len()
            );
            let _ = stream.write_all((head + &page).as_bytes());
        }
    });
    port
}

#[test]
fn over_tls_the_cookies_belong_to_this_host_alone() {
    let (rig, origin) = Rig::start_with_tls();
    let person = Person::new(&rig, &origin, Browser::desktop(), 1280);
    let begun = std::time::Instant::now();
    while std::net::TcpStream::connect(rig.service.address()).is_err() {
        assert!(begun.elapsed().as_secs() < 60, "{}", rig.service.log());
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    person.goto("/credentials");
    person.look("tls");
    person.sign_in("alice", "alice-password");
    assert_eq!(person.place(), "/credentials", "{}", person.browser.text());
    let cookies = person.browser.cookies();
    let session =
        cookies.iter().find(|c| c["name"] == "__Host-iam-sorry").unwrap_or_else(|| panic!("{cookies:?}"));
    assert_eq!((&session["secure"], &session["httpOnly"]), (&json!(true), &json!(true)));
    person.look("tls-signed-in");
}

/// The link of `serve --dev` is used by its button, once; what only looks at links (a preview, a scanner) uses nothing up
/// (CVE-2026-33757).
#[test]
fn the_link_of_the_development_service_signs_in_once() {
    let rig = Rig::for_development();
    let begun = std::time::Instant::now();
    let link = loop {
        let log = rig.service.log();
        let said = log.split_whitespace().find(|word| word.contains("/sign-in/dev?token="));
        if let Some(link) =
            said.filter(|_| rig.service.get("/readyz").is_ok_and(|answer| answer.status == 200))
        {
            break link.to_owned();
        }
        assert!(begun.elapsed().as_secs() < 60, "{log}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    };
    let path = link.strip_prefix(&rig.service.origin()).unwrap_or_else(|| panic!("{link}")).to_owned();
    let person = Person::new(&rig, &rig.service.origin(), Browser::desktop(), 1280);
    person.goto(&path);
    person.goto(&path);
    person.browser.find_labelled("Sign in as admin");
    assert!(Raw::new(&rig).get(&path).header("location").is_none());
    person.click("Sign in as admin");
    assert_eq!(person.place(), "/credentials", "{}", person.browser.text());
    assert!(person.browser.text().contains("admin"));
    let second = Person::new(&rig, &rig.service.origin(), Browser::phone(), 390);
    second.goto(&path);
    second.click("Sign in as admin");
    assert_eq!(second.browser.find("h1").text(), "Sign-in refused", "{}", second.browser.text());
}
