//! A directory that lies, hangs up, refers elsewhere or never ends: whatever it says but "success" proves nobody, and an error
//! of any kind is never a sign-in (CVE-2026-46405).

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use iam_sorry_core::identity::Identity;
use iam_sorry_server::login::LoginError;

use crate::setup::Setup;

/// Tags of RFC 4511, section 4.2 and following.
const BIND: u8 = 0x60;
const BIND_DONE: u8 = 0x61;
const SEARCH: u8 = 0x63;
const ENTRY: u8 = 0x64;
const SEARCH_DONE: u8 = 0x65;
const REFERENCE: u8 = 0x73;

/// What to answer to an operation: message id and tag, how many binds came before on all connections.
type Answers = dyn Fn(&[u8], u8, usize) -> Option<Vec<u8>> + Send + Sync;

/// What is said to a message id, whatever it asks.
type Say = fn(&[u8]) -> Option<Vec<u8>>;

/// A server on loopback that answers as the test says; `None` hangs up.
struct Liar {
    port: u16,
    connections: Arc<AtomicUsize>,
}

impl Liar {
    fn start(answers: impl Fn(&[u8], u8, usize) -> Option<Vec<u8>> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let connections = Arc::new(AtomicUsize::new(0));
        let (answers, binds): (Arc<Answers>, _) = (Arc::new(answers), Arc::new(AtomicUsize::new(0)));
        let seen = connections.clone();
        // Ends with the test program; each connection with its client.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                seen.fetch_add(1, Ordering::SeqCst);
                let (answers, binds) = (answers.clone(), binds.clone());
                std::thread::spawn(move || converse(stream, &*answers, &binds));
            }
        });
        Self { port, connections }
    }

    async fn sign_in(&self) -> Result<Identity, LoginError> {
        let setup = Setup {
            urls: vec![format!("ldap://127.0.0.1:{}", self.port)],
            start_tls: false,
            ca_file: None,
            anonymous: true,
            service_dn: String::new(),
            password: String::new(),
            users_base: "dc=example".into(),
            groups_base: "dc=example".into(),
            more: "timeout_seconds = 1".into(),
        };
        let directory = setup.directory();
        tokio::time::timeout(Duration::from_secs(20), setup.sign_in(&directory, "alice", "alice-password"))
            .await
            .expect("it ends")
    }
}

fn converse(mut stream: TcpStream, answers: &Answers, binds: &AtomicUsize) {
    let mut input = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        while let Some((message, rest)) = message(&input) {
            let (id, tag) =
                (message[2..2 + 2 + usize::from(message[3])].to_vec(), message[4 + usize::from(message[3])]);
            input = rest;
            let before =
                if tag == BIND { binds.fetch_add(1, Ordering::SeqCst) } else { binds.load(Ordering::SeqCst) };
            if matches!(tag, BIND | SEARCH) {
                match answers(&id, tag, before) {
                    Some(answer) if stream.write_all(&answer).is_ok() => {}
                    _ => return,
                }
            }
        }
        match stream.read(&mut buffer) {
            Ok(0) | Err(_) => return,
            Ok(read) => input.extend_from_slice(&buffer[..read]),
        }
    }
}

/// The first whole message, with its header made short so that the rest is at fixed places; requests here are small.
fn message(input: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let first = usize::from(*input.get(1)?);
    let (header, length) = match first {
        0..=127 => (2, first),
        0x81 => (3, usize::from(*input.get(2)?)),
        _ => (4, usize::from(*input.get(2)?) << 8 | usize::from(*input.get(3)?)),
    };
    let whole = input.get(header..header + length)?;
    let mut message = vec![0x30, 0];
    message.extend_from_slice(whole);
    Some((message, input[header + length..].to_vec()))
}

fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag, 0x82];
    out.extend_from_slice(&u16::try_from(content.len()).unwrap().to_be_bytes());
    out.extend_from_slice(content);
    out
}

fn result(id: &[u8], tag: u8, code: u8) -> Vec<u8> {
    let body = [tlv(0x0a, &[code]), tlv(4, b""), tlv(4, b"")].concat();
    tlv(0x30, &[id, &tlv(tag, &body)].concat())
}

fn entry(id: &[u8], dn: &str) -> Vec<u8> {
    let attribute = |name: &str, value: &str| {
        tlv(0x30, &[tlv(4, name.as_bytes()), tlv(0x31, &tlv(4, value.as_bytes()))].concat())
    };
    let attributes =
        [attribute("uid", "alice"), attribute("entryUUID", "0815"), attribute("cn", "x")].concat();
    let body = [tlv(4, dn.as_bytes()), tlv(0x30, &attributes)].concat();
    tlv(0x30, &[id, &tlv(ENTRY, &body)].concat())
}

/// One person, and the groups that every search for groups finds too.
fn found(id: &[u8]) -> Vec<u8> {
    [entry(id, "uid=alice,dc=example"), result(id, SEARCH_DONE, 0)].concat()
}

#[tokio::test]
async fn the_rig_can_say_yes() {
    let honest =
        Liar::start(|id, tag, _| Some(if tag == BIND { result(id, BIND_DONE, 0) } else { found(id) }));
    assert_eq!(honest.sign_in().await.unwrap().name, "alice");
}

#[tokio::test]
async fn nothing_but_success_proves_anybody() {
    // All codes that RFC 4511 and drafts give, and some that nobody does.
    for code in (1..=80).chain([100, 118, 119, 122, 127]) {
        let liar = Liar::start(move |id, tag, _| {
            Some(if tag == BIND { result(id, BIND_DONE, code) } else { found(id) })
        });
        let answer = liar.sign_in().await;
        assert!(answer.is_err(), "code {code}: {answer:?}");
        let refused = matches!(answer, Err(LoginError::Refused(_)));
        assert_eq!(refused, [19, 32, 34, 48, 49, 50, 53].contains(&code), "code {code}: {answer:?}");
    }
}

#[tokio::test]
async fn a_server_that_hangs_up_or_babbles_proves_nobody() {
    let babble: [Say; 9] = [
        |_| None,
        |_| Some(b"HTTP/1.1 200 OK\r\n\r\n".to_vec()),
        |_| Some(vec![0x30, 0x84, 0xff, 0xff, 0xff, 0xff]),
        |_| Some(vec![0; 64]),
        // The answer to another message; half an answer; silence.
        |_| Some(result(&[2, 1, 99], BIND_DONE, 0)),
        |id| Some(result(id, BIND_DONE, 0)[..8].to_vec()),
        |_| Some(Vec::new()),
        // An answer of another kind, over which the LDAP library panics; a result without any code.
        |id| Some(tlv(0x30, &[id, &tlv(REFERENCE, &tlv(4, b"ldap://x"))].concat())),
        |id| Some(tlv(0x30, &[id, &tlv(BIND_DONE, b"")].concat())),
    ];
    // All at once, since most of them have to be waited out.
    let tries = babble.into_iter().flat_map(|say| {
        let binding = Liar::start(move |id, tag, _| if tag == BIND { say(id) } else { Some(found(id)) });
        [binding, Liar::start(move |id, _, _| say(id))]
    });
    let tries: Vec<_> = tries.map(|liar| tokio::spawn(async move { liar.sign_in().await })).collect();
    for (number, answer) in tries.into_iter().enumerate() {
        let answer = answer.await.unwrap();
        assert!(matches!(answer, Err(LoginError::Unavailable(_))), "{number}: {answer:?}");
    }
}

/// With some groups left out, a rule that forbids could be missed: so a person without their groups is nobody.
#[tokio::test]
async fn a_directory_that_fails_after_the_bind_signs_nobody_in() {
    /// Answers all searches after the bind but the first `good` by `failing`; says how many there were.
    fn failing_after(
        good: usize,
        failing: fn(&[u8], u8) -> Option<Vec<u8>>,
        code: u8,
    ) -> (Liar, Arc<AtomicUsize>) {
        let searches = Arc::new(AtomicUsize::new(0));
        let count = searches.clone();
        let liar = Liar::start(move |id, tag, binds| match tag {
            BIND => Some(result(id, BIND_DONE, 0)),
            _ if binds == 0 => Some(found(id)),
            _ if count.fetch_add(1, Ordering::SeqCst) < good => Some(found(id)),
            _ => failing(id, code),
        });
        (liar, searches)
    }
    let (honest, searches) = failing_after(usize::MAX, |_, _| None, 0);
    assert!(!honest.sign_in().await.unwrap().groups.is_empty());
    let all = searches.load(Ordering::SeqCst);
    // The account, its groups, the groups of these, and whether their names are theirs alone.
    assert!(all >= 4, "{all}");
    for good in 0..all {
        for code in [1, 2, 3, 4, 11, 32, 50, 51, 52, 53, 80] {
            let (bare, _) = failing_after(good, |id, code| Some(result(id, SEARCH_DONE, code)), code);
            let after_some = |id: &[u8], code| {
                Some([entry(id, "uid=alice,dc=example"), result(id, SEARCH_DONE, code)].concat())
            };
            let (partial, _) = failing_after(good, after_some, code);
            for liar in [bare, partial] {
                match liar.sign_in().await {
                    Err(_) => {}
                    // Too many groups of one name to count: the person's groups are known, the name is nobody's alone.
                    Ok(person) => {
                        assert_eq!((code, good), (4, all - 1));
                        assert!(person.groups.iter().all(|group| group.unique_name().is_none()));
                    }
                }
            }
        }
        let (hangs_up, _) = failing_after(good, |_, _| None, 0);
        let answer = hangs_up.sign_in().await;
        assert!(matches!(answer, Err(LoginError::Unavailable(_))), "after {good} searches: {answer:?}");
    }
}

#[tokio::test]
async fn references_are_not_followed() {
    let elsewhere =
        Liar::start(|id, tag, _| Some(if tag == BIND { result(id, BIND_DONE, 0) } else { found(id) }));
    let url = format!("ldap://127.0.0.1:{}/dc=example", elsewhere.port);
    let reference = url.clone();
    // A search that only finds a reference; a search and a bind that are referred.
    let liar = Liar::start(move |id, _, _| {
        let reference = tlv(REFERENCE, &tlv(4, reference.as_bytes()));
        Some([tlv(0x30, &[id, &reference].concat()), result(id, SEARCH_DONE, 0)].concat())
    });
    assert!(liar.sign_in().await.is_err());
    for searching in [true, false] {
        let url = url.clone();
        let liar = Liar::start(move |id, tag, _| {
            let refer = |tag| {
                let uris = tlv(0xa3, &tlv(4, url.as_bytes()));
                let body = [tlv(0x0a, &[10]), tlv(4, b""), tlv(4, b""), uris].concat();
                tlv(0x30, &[id, &tlv(tag, &body)].concat())
            };
            Some(match tag {
                BIND => refer(BIND_DONE),
                _ if searching => refer(SEARCH_DONE),
                _ => found(id),
            })
        });
        assert!(matches!(liar.sign_in().await, Err(LoginError::Unavailable(_))));
    }
    assert_eq!(elsewhere.connections.load(Ordering::SeqCst), 0, "nobody was asked there");
}

#[tokio::test]
async fn an_answer_without_end_is_given_up() {
    let endless = Liar::start(|id, tag, _| {
        let many = || (0..2000).flat_map(|n| entry(id, &format!("uid=alice{n},dc=example"))).collect();
        Some(if tag == BIND { result(id, BIND_DONE, 0) } else { many() })
    });
    assert!(matches!(endless.sign_in().await, Err(LoginError::Unavailable(_))));
}
