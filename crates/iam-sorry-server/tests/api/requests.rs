//! Requests that are malformed, too large, for another host, or too many; and what every answer has.

use std::time::Duration;

use iam_sorry_server::http::Rate;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::client::{raw, read_answer, request, send, send_on};
use super::rig::{Rig, settings};

const JSON: &str = "Content-Type: application/json";

#[tokio::test]
async fn every_answer_has_an_id_and_headers_that_browsers_and_caches_obey() {
    let rig = Rig::start().await;
    let mut ids = std::collections::HashSet::new();
    for line in ["GET /api/v1/hello", "GET /nowhere", "GET /api/v1/refused", "PUT /api/v1/hello"] {
        let answer = send(rig.address, line, &[], b"").await;
        assert!(ids.insert(answer.header("x-request-id").unwrap().to_owned()), "{line}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("x-frame-options"), Some("DENY"));
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert!(answer.header("content-security-policy").unwrap().starts_with("default-src 'none'"));
        assert_eq!(answer.header("strict-transport-security"), None, "plain http");
    }
}

#[tokio::test]
async fn errors_are_problems_whoever_made_them() {
    let rig = Rig::start().await;
    let code = async |line: &str, headers: &[&str], body: &[u8]| {
        let answer = send(rig.address, line, headers, body).await;
        format!("{} {}", answer.status, answer.problem())
    };
    assert_eq!(code("GET /api/v1/nowhere", &[], b"").await, "404 not-found");
    assert_eq!(code("PUT /api/v1/hello", &[], b"").await, "405 method-not-allowed");
    assert_eq!(code("POST /api/v1/hello", &[], b"{}").await, "415 unsupported-media-type");
    assert_eq!(
        code("POST /api/v1/hello", &["Content-Type: text/json"], b"{}").await,
        "415 unsupported-media-type"
    );
    assert_eq!(
        code("POST /api/v1/hello", &["Content-Type: application/json; charset=latin1"], b"{}").await,
        "415 unsupported-media-type"
    );
    assert_eq!(code("GET /api/v1/query?limit=many", &[], b"").await, "400 bad-request");
    assert_eq!(code("GET /api/v1/query?limit=1&limit=2", &[], b"").await, "400 bad-request");
    assert_eq!(code("GET /api/v1/query?lmiit=1", &[], b"").await, "400 bad-request");
    assert_eq!(code("GET /api/v1/query?cursor=a%00b", &[], b"").await, "400 bad-request");
    assert_eq!(code("GET /api/v1/names/%ff%fe", &[], b"").await, "400 bad-request");
    assert_eq!(code("GET /api/v1/names/a%0ab", &[], b"").await, "400 invalid-name");
    assert_eq!(code("POST /api/v1/query", &[JSON], b"{\"dry_run\":true}").await, "400 bad-request");
    assert_eq!(code("GET /api/v1/panic", &[], b"").await, "500 internal");

    let answer = send(rig.address, "GET /api/v1/panic", &[], b"").await;
    assert!(!answer.text().contains("hunter2"), "no internal text leaves");
    let answer = send(rig.address, "PUT /api/v1/hello", &[], b"").await;
    let allowed: Vec<&str> = answer.header("allow").unwrap().split(',').collect();
    assert_eq!(allowed, ["GET", "HEAD", "POST"]);
}

#[tokio::test]
async fn a_refusal_says_what_to_do_and_which_rule_decided() {
    let rig = Rig::start().await;
    let mut problem = send(rig.address, "GET /api/v1/refused", &[], b"").await.json();
    problem["request_id"] = "ID".into();
    insta::assert_snapshot!(serde_json::to_string_pretty(&problem).unwrap(), @r#"
    {
      "type": "urn:iam-sorry:problem:not-allowed",
      "code": "not-allowed",
      "title": "The rules don't allow it",
      "status": 403,
      "detail": "It is not allowed.\nAsk bob.",
      "reasons": [
        "rule \"no\" (a.cedar) forbids it"
      ],
      "request_id": "ID"
    }
    "#);
}

#[tokio::test]
async fn json_is_read_strictly() {
    let rig = Rig::start().await;
    let status =
        async |body: &str| send(rig.address, "POST /api/v1/hello", &[JSON], body.as_bytes()).await.status;
    assert_eq!(status(r#"{"name":"dirk"}"#).await, 200);
    assert_eq!(status(r#" {"name":"dirk","policies":[],"dry_run":false} "#).await, 200);
    for wrong in [
        "",
        "null",
        "[]",
        r#"["dirk",[],false]"#, // serde alone would take a list for the struct
        r#"{"name":"dirk""#,
        r#"{"name":"dirk"}{}"#,
        r#"{"name":"dirk","name":"anna"}"#,
        r#"{"name":"dirk","nmae":1}"#,
        r#"{"name":7}"#,
        r#"{"name":"a\u0000b"}"#,
        r#"{"name":"a","policies":"x"}"#,
        "{'name':'dirk'}",
        "\u{feff}{\"name\":\"dirk\"}",
    ] {
        assert_eq!(status(wrong).await, 400, "{wrong}");
    }
    let answer = send(rig.address, "POST /api/v1/hello", &[JSON], br#"{"name":{"hunter2":1}}"#).await;
    assert!(answer.text().contains("line 1") && !answer.text().contains("hunter2"), "{}", answer.text());
    let bytes = [b"{\"name\":\"".as_slice(), &[0xff], b"\"}"].concat();
    assert_eq!(send(rig.address, "POST /api/v1/hello", &[JSON], &bytes).await.status, 400);
}

/// CVE-2025-6203: deeply nested or huge JSON must cost next to nothing.
#[tokio::test]
async fn json_bombs_are_refused_before_they_are_read() {
    let rig = Rig::start().await;
    let deep = format!("{{\"name\":{}{}}}", "[".repeat(30_000), "]".repeat(30_000));
    let answer = send(rig.address, "POST /api/v1/hello", &[JSON], deep.as_bytes()).await;
    assert_eq!((answer.status, answer.problem().as_str()), (400, "bad-request"));
    let many = format!("{{\"name\":\"a\",\"policies\":[{}]}}", "\"\",".repeat(30_000));
    assert_eq!(send(rig.address, "POST /api/v1/hello", &[JSON], many.as_bytes()).await.status, 413);
    // A gigabyte by its own account, of which nothing is waited for.
    let head = request(rig.address, "POST /api/v1/hello", &[JSON, "Content-Length: 1073741824"], b"");
    let mut stream = TcpStream::connect(rig.address).await.unwrap();
    stream.write_all(&head).await.unwrap();
    let answer = read_answer(&mut stream).await.unwrap();
    assert_eq!((answer.status, answer.problem().as_str()), (413, "too-large"));
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_with_or_without_its_length() {
    let rig = Rig::start().await;
    let fits = format!("{{\"name\":\"{}\"}}", "a".repeat(60_000));
    assert_eq!(send(rig.address, "POST /api/v1/hello", &[JSON], fits.as_bytes()).await.status, 200);
    let large = format!("{{\"name\":\"{}\"}}", "a".repeat(70_000));
    let answer = send(rig.address, "POST /api/v1/hello", &[JSON], large.as_bytes()).await;
    assert_eq!((answer.status, answer.problem().as_str()), (413, "too-large"));

    let mut bytes = request(rig.address, "POST /api/v1/hello", &[JSON, "Transfer-Encoding: chunked"], b"");
    for chunk in large.as_bytes().chunks(10_000) {
        bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    let answer = raw(rig.address, &bytes).await.unwrap();
    assert_eq!((answer.status, answer.problem().as_str()), (413, "too-large"));
}

#[tokio::test]
async fn what_is_not_http_is_answered_or_dropped_and_the_next_one_served() {
    let rig = Rig::start().await;
    let host = format!("Host: {}\r\n", rig.address);
    let many_headers: String = (0..100).map(|n| format!("X-{n}: 1\r\n")).collect();
    let cases: Vec<Vec<u8>> = vec![
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), // TLS to a plain port
        b"GET\r\n\r\n".to_vec(),
        b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        b"GET / HTTP/1.1\r\nHost : x\r\n\r\n".to_vec(),
        format!("GET /{} HTTP/1.1\r\n{host}\r\n", "a".repeat(100_000)).into_bytes(),
        format!("GET / HTTP/1.1\r\n{host}{many_headers}\r\n").into_bytes(),
        format!("GET / HTTP/1.1\r\n{host}X: {}\r\n\r\n", "a".repeat(100_000)).into_bytes(),
        // Request smuggling (RFC 9112, section 6.3): two lengths, or a length and chunks.
        format!("POST /api/v1/hello HTTP/1.1\r\n{host}Content-Length: 3\r\nContent-Length: 5\r\n\r\nabcde")
            .into_bytes(),
        format!("POST /api/v1/hello HTTP/1.1\r\n{host}Content-Length: x\r\n\r\n").into_bytes(),
        format!(
            "POST /api/v1/hello HTTP/1.1\r\n{host}Transfer-Encoding: gzip, chunked, identity\r\n\r\n0\r\n\r\n"
        )
        .into_bytes(),
        (0..=255).collect(),
    ];
    for case in cases {
        let shown = String::from_utf8_lossy(&case[..case.len().min(60)]).into_owned();
        if let Some(answer) = raw(rig.address, &case).await {
            assert!((400..500).contains(&answer.status), "{shown:?}: {answer:?}");
        }
        assert_eq!(send(rig.address, "GET /api/v1/hello", &[], b"").await.status, 200, "after {shown:?}");
    }
}

/// DNS rebinding: a page whose name was made to point at us sends its own name as `Host`.
#[tokio::test]
async fn a_request_for_another_host_is_refused() {
    let rig = Rig::start().await;
    let port = rig.address.port();
    for host in ["evil.example", "localhost", "127.0.0.1", "127.0.0.1:1", &format!("evil.example:{port}"), ""]
    {
        let answer = send(rig.address, "GET /api/v1/hello", &[&format!("Host: {host}")], b"").await;
        assert_eq!((answer.status, answer.problem().as_str()), (400, "bad-request"), "{host}");
        assert!(answer.text().contains(&format!("http://127.0.0.1:{port}")), "it says where");
    }
    let own = format!("Host: 127.0.0.1:{port}");
    let answer = send(rig.address, "GET /api/v1/hello", &[&own, "Host: evil.example"], b"").await;
    assert_eq!(answer.status, 400, "two of them");
    let without = raw(rig.address, b"GET /api/v1/hello HTTP/1.1\r\n\r\n").await.unwrap();
    assert_eq!(without.status, 400);
    // A target in absolute form goes before the header (RFC 9112, section 3.2.2).
    let answer = send(rig.address, "GET http://evil.example/api/v1/hello", &[&own], b"").await;
    assert_eq!(answer.status, 400);
}

/// CVE-2026-3605: dots in a path stay what they are, part of a name, and never lead elsewhere.
#[tokio::test]
async fn dots_and_slashes_in_a_name_lead_nowhere() {
    let rig = Rig::start().await;
    let name = async |path: &str| {
        let answer = send(rig.address, &format!("GET /api/v1/names/{path}"), &[], b"").await;
        (answer.status, answer.text().to_owned())
    };
    // What the handler gets is one name, which the services then refuse as such.
    assert_eq!(name("%2e%2e").await, (200, "..".to_owned()));
    assert_eq!(name("..%2fhello").await, (200, "../hello".to_owned()));
    assert_eq!(name("a%2Fb").await, (200, "a/b".to_owned()));
    assert_eq!(name("a/../../hello").await.0, 404);
    assert_eq!(name("../hello").await.0, 404);
    assert_eq!(name("..").await, (200, "..".to_owned()));
    assert_eq!(name(&"a".repeat(600)).await.0, 400);
}

#[tokio::test]
async fn forwarded_addresses_are_believed_from_trusted_proxies_only_and_ids_from_nobody() {
    let forwarded = ["X-Forwarded-For: 198.51.100.7, 192.0.2.9", "X-Request-Id: from-outside-1"];
    let rig = Rig::start().await;
    let answer = send(rig.address, "GET /api/v1/who", &forwarded, b"").await;
    assert_eq!(answer.text(), "127.0.0.1");
    assert_ne!(answer.header("x-request-id"), Some("from-outside-1"));

    let mut settings = settings().await;
    settings.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    let rig = Rig::with(settings).await;
    let answer = send(rig.address, "GET /api/v1/who", &forwarded, b"").await;
    assert_eq!(answer.text(), "192.0.2.9", "the last one is what the proxy saw");
    assert_ne!(answer.header("x-request-id"), Some("from-outside-1"), "a client may have chosen it");
    let answer =
        send(rig.address, "GET /api/v1/who", &["X-Request-Id: <script>alert(1)</script>"], b"").await;
    assert!(!answer.header("x-request-id").unwrap().contains('<'));
}

#[tokio::test]
async fn too_many_requests_are_told_when_to_come_back_and_sign_ins_sooner() {
    let mut settings = settings().await;
    settings.limits.per_address = Rate::new(1, 20);
    settings.limits.sign_in_per_address = Rate::new(1, 3);
    let rig = Rig::with(settings).await;
    for _ in 0..3 {
        assert_eq!(send(rig.address, "POST /api/v1/login/ldap", &[], b"").await.status, 200);
    }
    let answer = send(rig.address, "POST /api/v1/login/ldap", &[], b"").await;
    assert_eq!((answer.status, answer.problem().as_str()), (429, "too-many-requests"));
    assert!((1..=2).contains(&answer.header("retry-after").unwrap().parse::<u32>().unwrap()));
    assert_eq!(send(rig.address, "GET /api/v1/hello", &[], b"").await.status, 200, "other requests go on");
    let mut refused = 0;
    for _ in 0..40 {
        refused += u32::from(send(rig.address, "GET /api/v1/hello", &[], b"").await.status == 429);
    }
    assert!(refused >= 15, "{refused}");
}

/// Wrong passwords from a login node keep nobody out who signs in there by SSH key, nor the reverse; and a provider's answers,
/// which come by GET, are limited as well.
#[tokio::test]
async fn sign_ins_are_counted_by_method_whatever_the_requests_are() {
    let all = [
        ("POST /api/v1/login/ldap", "ldap"),
        ("POST /sign-in", "ldap"),
        ("POST /api/v1/login/ssh/challenge", "ssh-key"),
        ("POST /api/v1/login/ssh", "ssh-key"),
        ("GET /login/sso/callback", "provider"),
        ("HEAD /login/sso/callback", "provider"),
        ("GET /sign-in", "none: it shows the form"),
    ];
    for (flooded, by) in all.into_iter().take(6) {
        let mut settings = settings().await;
        settings.limits.sign_in_per_address = Rate::new(1, 3);
        let rig = Rig::with(settings).await;
        let status = async |line: &str| send(rig.address, line, &[], b"").await.status;
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        while status(flooded).await != 429 {
            assert!(std::time::Instant::now() < deadline, "{flooded} is not limited");
        }
        for (line, other) in all.into_iter().filter(|(_, other)| *other != by) {
            assert_ne!(status(line).await, 429, "{line} ({other}) after {flooded}");
        }
    }
}

#[tokio::test]
async fn a_connection_serves_many_requests_and_many_connections_at_once() {
    let rig = Rig::start().await;
    let clients = (0..64).map(|_| async {
        let mut stream = TcpStream::connect(rig.address).await.unwrap();
        for n in 0..10 {
            let line = if n % 2 == 0 { "GET /api/v1/hello" } else { "GET /api/v1/refused" };
            let answer = send_on(&mut stream, rig.address, line, &[], b"").await;
            assert_eq!(answer.status, if n % 2 == 0 { 200 } else { 403 });
        }
    });
    futures_util::future::join_all(clients).await;
}

#[tokio::test]
async fn metrics_are_on_their_own_address_and_name_nobody() {
    let mut settings = settings().await;
    settings.metrics_listen = Some(([127, 0, 0, 1], 0).into());
    let rig = Rig::with(settings).await;
    send(rig.address, "GET /api/v1/names/alice-secret", &[], b"").await;
    send(rig.address, "GET /nowhere/alice-secret", &[], b"").await;
    send(rig.address, "FROB /api/v1/hello", &[], b"").await;
    assert_eq!(send(rig.address, "GET /metrics", &[], b"").await.status, 404, "not where everybody is");
    let answer = send(rig.metrics.unwrap(), "GET /metrics", &[], b"").await;
    let text = answer.text();
    assert!(
        text.contains(
            r#"iam_sorry_http_requests_total{method="GET",route="/api/v1/names/{name}",status="200"} 1"#
        ),
        "{text}"
    );
    assert!(text.contains(r#"route="(none)",status="404""#), "{text}");
    assert!(text.contains(r#"method="other""#), "{text}");
    assert!(!text.contains("alice-secret") && !text.contains("127.0.0.1"), "{text}");
    assert!(text.ends_with("# EOF\n"));
    tokio::time::sleep(Duration::ZERO).await;
}
