//! What answers may be no service of ours, or a hostile one: nothing hangs, nothing leaks, and the person is told.

use std::io::Write as _;
use std::time::{Duration, Instant};

use testkit::{Home, Machine, Outcome};

use crate::fake::{Fake, json, problem, reply};

const BIN: &str = env!("CARGO_BIN_EXE_iam-sorry");
const TOKEN: &str = "iss_A-secret-token-of-a-test";

/// `iam-sorry ARGS --server ORIGIN` with a session token in its environment.
fn ask(fake: &Fake, args: &[&str]) -> Outcome {
    let home = Home::new();
    let mut command = home.command(BIN);
    command.args(args).env("IAM_SORRY_SERVER", &fake.origin).env("IAM_SORRY_TOKEN", TOKEN);
    let ended = Outcome::of(&mut command);
    assert!(
        !ended.stderr.contains(TOKEN) && !ended.stdout.contains(TOKEN),
        "{}{}",
        ended.stdout,
        ended.stderr
    );
    ended
}

fn service_json(origin: &str) -> String {
    format!(
        r#"{{"name":"Fake","version":"1","origin":"{origin}","methods":["ssh-key","ldap","smoke-signals"],"time":"2026-11-22T19:00:00Z"}}"#
    )
}

#[test]
fn a_web_page_is_no_service() {
    let fake = Fake::start(|_, _, stream| {
        reply(
            stream,
            "200 OK",
            "Content-Type: text/html\r\n",
            "<html>Please sign in to the hotel's Wi-Fi</html>",
        );
    });
    ask(&fake, &["whoami"]).exits(4).says(&["does not answer like a department service", "text/html"]);
    let fake = Fake::start(|_, _, stream| {
        reply(stream, "502 Bad Gateway", "Content-Type: text/html\r\n", "<h1>nginx")
    });
    ask(&fake, &["users", "list"]).exits(4).says(&["HTTP 502"]);
    let fake = Fake::start(|_, _, stream| json(stream, "200 OK", "{\"identity\":\"of another kind\"}"));
    ask(&fake, &["whoami"]).exits(4).says(&["its JSON lacks something"]);
}

/// The session token is for the address that was named, so no redirect is followed.
#[test]
fn a_redirect_gets_no_token() {
    let elsewhere = Fake::start(|_, _, stream| json(stream, "200 OK", "{}"));
    let target = elsewhere.origin.clone();
    let fake = Fake::start(move |_, _, stream| {
        reply(stream, "307 Temporary Redirect", &format!("Location: {target}/\r\n"), "")
    });
    ask(&fake, &["whoami"]).exits(4).says(&["sends us somewhere else"]);
    assert_eq!(elsewhere.asked().len(), 0);
    assert_eq!(fake.asked()[0].header("authorization"), Some(format!("Bearer {TOKEN}").as_str()));
}

#[test]
fn an_endless_answer_ends() {
    let fake = Fake::start(|_, _, stream| {
        let _ = write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        );
        let chunk = "x".repeat(65536);
        while write!(stream, "10000\r\n{chunk}\r\n").is_ok() {}
    });
    let begun = Instant::now();
    ask(&fake, &["whoami"]).exits(4).says(&["longer than 8 MiB"]);
    assert!(begun.elapsed() < Duration::from_secs(60));
}

/// A change whose answer is lost is asked for again under the same key, so that it is done once.
#[test]
fn an_answer_that_breaks_off_is_asked_for_again_under_the_same_key() {
    let fake = Fake::start(|_, number, stream| {
        if number == 1 {
            let _ = write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n{{\"oper"
            );
            return;
        }
        let done = r#"{"operation":"op-1","action":"create-user","resource":"dirk-a","changed":true,"notes":[],"reasons":[]}"#;
        json(stream, "200 OK", done);
    });
    ask(&fake, &["users", "create", "dirk-a"]).ok().prints(&["✓ IAM user 'dirk-a' is created"]);
    let asked = fake.asked();
    assert_eq!(asked.len(), 2);
    let key = asked[0].header("idempotency-key").unwrap();
    assert!((8..=64).contains(&key.len()));
    assert_eq!(asked[1].header("idempotency-key"), Some(key));
    assert_eq!(asked[0].body, r#"{"name":"dirk-a","policies":[],"dry_run":false}"#);
}

#[test]
fn a_busy_service_is_asked_again_and_a_closed_one_is_not_for_ever() {
    let fake = Fake::start(|_, number, stream| match number {
        1 => {
            let problem = problem("too-many-requests", 429, "Too many requests.");
            reply(
                stream,
                "429 Too Many Requests",
                "Content-Type: application/problem+json\r\nRetry-After: 1\r\n",
                &problem,
            );
        }
        _ => json(stream, "200 OK", r#"{"items":[],"next":null}"#),
    });
    ask(&fake, &["users", "list"]).ok();
    assert_eq!(fake.asked().len(), 2);

    let fake = Fake::start(|_, _, stream| {
        let problem = problem("store-unavailable", 503, "The database can't be reached.\\nNothing was done.");
        json(stream, "503 Service Unavailable", &problem);
    });
    ask(&fake, &["users", "list"]).exits(4).says(&["The database can't be reached.", "req-1"]);
    assert_eq!(fake.asked().len(), 3);
}

/// What a service says of itself is shown, and steers no terminal.
#[test]
fn a_refusal_is_shown_without_its_escape_sequences() {
    let fake = Fake::start(|_, _, stream| {
        let text = "No rule allows it.\\u001b]0;owned\\u0007";
        let problem = problem("not-allowed", 403, text).replace(
            "\"request_id\"",
            "\"reasons\":[\"rule \\\"night\\\" forbids it\\u001b[2J\"],\"request_id\"",
        );
        json(stream, "403 Forbidden", &problem);
    });
    let ended = ask(&fake, &["users", "adopt", "dirk-a"])
        .exits(4)
        .says(&["No rule allows it.", "Why: rule \"night\" forbids it"]);
    assert!(!ended.stderr.contains('\u{1b}'), "{:?}", ended.stderr);
}

#[test]
fn pages_that_lead_nowhere_end() {
    let fake = Fake::start(|_, _, stream| {
        json(stream, "200 OK", r#"{"items":["arn:aws:iam::aws:policy/X"],"next":"again"}"#);
    });
    ask(&fake, &["policies", "list"]).ok();
    assert_eq!(fake.asked().len(), 2);
}

#[test]
fn an_ended_session_says_how_to_sign_in() {
    let fake = Fake::start(|_, _, stream| {
        json(stream, "401 Unauthorized", &problem("sign-in-needed", 401, "No session."))
    });
    let login = format!("iam-sorry login {}", fake.origin);
    ask(&fake, &["whoami"]).exits(3).says(&["Your session has ended", &login]);
}

#[test]
fn addresses_that_would_show_the_session_to_others_are_refused() {
    let home = Home::new();
    for (url, text) in [
        ("http://keys.example.edu", "plain http"),
        ("https://alice@keys.example.edu", "is no address of a service"),
        ("https://keys.example.edu/path", "is no address of a service"),
        ("keys.example.edu", "expected https://HOST"),
    ] {
        Outcome::of(home.command(BIN).args(["login", url])).exits(2).says(&[text]);
        Outcome::of(home.command(BIN).args(["whoami", "--server", url])).exits(2).says(&[text]);
    }
    Outcome::of(home.command(BIN).arg("whoami")).exits(3).says(&["iam-sorry login"]);
    Outcome::of(home.command(BIN).args(["whoami", "--server", "none"])).exits(2);
}

#[test]
fn nobody_there_is_said_at_once() {
    let home = Home::new();
    let port = testkit::free_port();
    let mut command = home.command(BIN);
    Outcome::of(command.args(["login", &format!("http://127.0.0.1:{port}")]))
        .exits(4)
        .says(&["can't be reached", "nothing was done"]);
}

/// A person with a key in an agent, who signs in to whatever answers.
fn signs_in_to(fake: &Fake) -> Outcome {
    Machine::with_agent(BIN).run(&["login", &fake.origin])
}

/// CVE-less, but the oldest trick: a service that calls itself by another's name wants a signature for that other one.
#[test]
fn a_service_under_another_name_gets_no_signature() {
    let fake = Fake::start(|_, _, stream| json(stream, "200 OK", &service_json("https://keys.example.edu")));
    signs_in_to(&fake).exits(4).says(&["calls itself https://keys.example.edu", "bound to the address"]);
    assert!(fake.asked().iter().all(|asked| asked.line.starts_with("GET ")), "{:?}", fake.asked());
}

/// Line breaks in a challenge would put lines of the server's choice under the person's signature.
#[test]
fn a_challenge_with_lines_in_it_gets_no_signature() {
    let fake = Fake::start(|asked, _, stream| {
        if asked.line.contains("/service") {
            let host = asked.header("host").unwrap();
            return json(stream, "200 OK", &service_json(&format!("http://{host}")));
        }
        let challenge = r#"{"nonce":"x\nrequest: y","request":"SHA256:abc","time":"2026-11-22T19:00:00Z","expires_at":"2026-11-22T19:01:00Z"}"#;
        json(stream, "200 OK", challenge);
    });
    signs_in_to(&fake).exits(4).says(&["the sign-in challenge is garbled (its nonce)"]);
    assert!(!fake.asked().iter().any(|asked| asked.body.contains("signature")));
}

/// A token that could not stand in a header is not sent half.
#[test]
fn a_token_that_is_none_is_not_sent() {
    let home = Home::new();
    let fake = Fake::start(|_, _, stream| json(stream, "200 OK", "{}"));
    for token in ["a b", "a\nX-Other: 1", "é"] {
        let mut command = home.command(BIN);
        command.arg("whoami").env("IAM_SORRY_SERVER", &fake.origin).env("IAM_SORRY_TOKEN", token);
        Outcome::of(&mut command).exits(3).says(&["IAM_SORRY_TOKEN"]);
    }
    assert_eq!(fake.asked().len(), 0);
}

/// Child processes don't inherit our own secrets.
#[test]
fn a_command_does_not_inherit_the_token() {
    let home = Home::new();
    home.write_credentials("[p]\naws_access_key_id = AKIAEXAMPLE\naws_secret_access_key = s\n");
    let seen = home.path().join("seen");
    let program = home.write_script("env-to-file", &format!("/usr/bin/env >'{}'", seen.display()));
    let program = program.to_str().unwrap();
    home.write_config(format!(
        "[profile role]\nrole_arn = arn:aws:iam::123456789012:role/r\nsource_profile = foreign\n\
         [profile foreign]\ncredential_process = {program}\n"
    ));
    for (args, code, witness) in [
        (&["exec", "p", "--", program][..], 0, "AWS_ACCESS_KEY_ID=AKIAEXAMPLE\n"),
        (&["shell", "p"], 0, "IAM_SORRY_PROFILE=p\n"),
        (&["serve-credentials", "p", "--", program], 0, "AWS_CONTAINER_CREDENTIALS_FULL_URI="),
        // It gives no credentials, so that nothing is asked of AWS.
        (&["credential-process", "role"], 3, "IAM_SORRY_PROCESS=role\nforeign\n"),
    ] {
        let mut command = home.command(BIN);
        command.args(args).env("SHELL", program).env("IAM_SORRY_TOKEN", TOKEN);
        Outcome::of(&mut command).exits(code);
        let variables = std::fs::read_to_string(&seen).unwrap();
        std::fs::remove_file(&seen).unwrap();
        assert!(variables.contains(witness), "{args:?}\n{variables}");
        assert!(
            !variables.contains(TOKEN) && !variables.contains("IAM_SORRY_TOKEN"),
            "{args:?}\n{variables}"
        );
    }
}
