//! An SSH agent that misbehaves in one chosen way, with one Ed25519 key.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use ed25519_dalek::SigningKey;
use ed25519_dalek::hazmat::{ExpandedSecretKey, raw_sign};
use sha2::{Digest, Sha512};
use tempfile::TempDir;

// Message numbers (draft-ietf-sshm-ssh-agent, section 6.1).
const FAILURE: u8 = 5;
const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES_ANSWER: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGN_RESPONSE: u8 = 14;

/// What the agent does instead of its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AgentFault {
    /// Nothing: a good agent.
    Good,
    /// Takes the request and never answers.
    Hang,
    /// Takes the request and closes the connection.
    Close,
    /// Answers with the right type and contents whose inner lengths lie.
    Garbage,
    /// Announces an answer of 4 GiB.
    HugeLength,
    /// Refuses (SSH_AGENT_FAILURE).
    Refuse,
    /// Waits, then does its work.
    Slow(Duration),
    /// Lists no keys, as a locked agent does.
    EmptyList,
    /// Signatures are 63 bytes long.
    ShortSignature,
    /// Signatures have one bit changed.
    WrongSignature,
    /// Signatures are valid and different each time (hedged Ed25519).
    Hedged,
    /// Its key is the neutral point, for which R = the neutral point and S = 0 are a valid signature of everything.
    WeakKey,
}

/// Which requests suffer. Faults that are about signatures or lists only touch those anyway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Every request.
    Any,
    /// Only requests to sign; listing is good.
    Signing,
}

/// The running agent. Ends on drop.
#[derive(Debug)]
pub struct FakeAgent {
    dir: TempDir,
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    key: SigningKey,
    fault: AgentFault,
    stage: Stage,
    stopped: AtomicBool,
    connections: AtomicUsize,
    signatures: AtomicUsize,
    hedge: AtomicU64,
}

impl FakeAgent {
    /// An agent whose every request suffers, with a fixed key of its own.
    pub fn start(fault: AgentFault) -> FakeAgent {
        FakeAgent::with(fault, Stage::Any, [7; 32])
    }

    /// An agent that lists well and fails at signing.
    pub fn failing_to_sign(fault: AgentFault) -> FakeAgent {
        FakeAgent::with(fault, Stage::Signing, [7; 32])
    }

    /// An agent that holds the key of this OpenSSH key file, so that its signatures can be compared with the file's.
    pub fn holding(fault: AgentFault, stage: Stage, key: &Path, passphrase: &str) -> FakeAgent {
        let key = ssh_key::PrivateKey::read_openssh_file(key).expect("an OpenSSH key file");
        let key = if key.is_encrypted() { key.decrypt(passphrase).expect("its passphrase") } else { key };
        let pair = key.key_data().ed25519().expect("an Ed25519 key");
        FakeAgent::with(fault, stage, pair.private.to_bytes())
    }

    /// An agent with the key that this seed gives (RFC 8032, section 5.1.5).
    pub fn with(fault: AgentFault, stage: Stage, seed: [u8; 32]) -> FakeAgent {
        let dir = crate::short_temp_dir();
        let listener = UnixListener::bind(dir.path().join("agent")).expect("a new socket");
        let inner = Arc::new(Inner {
            key: SigningKey::from_bytes(&seed),
            fault,
            stage,
            stopped: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            signatures: AtomicUsize::new(0),
            hedge: AtomicU64::new(0),
        });
        std::thread::spawn({
            let inner = Arc::clone(&inner);
            move || inner.accept(&listener)
        });
        FakeAgent { dir, inner }
    }

    /// What to put into `SSH_AUTH_SOCK`.
    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("agent")
    }

    /// The raw public key.
    pub fn public_key(&self) -> [u8; 32] {
        self.inner.public_key()
    }

    /// The key as a line of a `.pub` file.
    pub fn public_key_line(&self) -> String {
        let key = ssh_key::PublicKey::from(ssh_key::public::Ed25519PublicKey(self.public_key()));
        format!("{} fake agent\n", key.to_openssh().expect("a public key has a text form"))
    }

    /// How many connections it has accepted.
    pub fn connections(&self) -> usize {
        self.inner.connections.load(Ordering::SeqCst)
    }

    /// How many requests to sign it has read, answered or not.
    pub fn signatures(&self) -> usize {
        self.inner.signatures.load(Ordering::SeqCst)
    }
}

impl Drop for FakeAgent {
    fn drop(&mut self) {
        self.inner.stopped.store(true, Ordering::SeqCst);
        let _ = UnixStream::connect(self.socket()); // wakes the accepting thread
    }
}

impl Inner {
    fn accept(self: Arc<Self>, listener: &UnixListener) {
        for stream in listener.incoming() {
            if self.stopped.load(Ordering::SeqCst) {
                return;
            }
            let Ok(stream) = stream else { continue };
            self.connections.fetch_add(1, Ordering::SeqCst);
            let inner = Arc::clone(&self);
            // An error here is a client that went away.
            std::thread::spawn(move || drop(inner.serve(stream)));
        }
    }

    fn serve(&self, mut stream: UnixStream) -> io::Result<()> {
        loop {
            let mut length = [0; 4];
            stream.read_exact(&mut length)?;
            let mut request = vec![0; usize::try_from(u32::from_be_bytes(length)).map_err(io::Error::other)?];
            stream.read_exact(&mut request)?;
            let kind = request.first().copied().unwrap_or(0);
            if kind == SIGN_REQUEST {
                self.signatures.fetch_add(1, Ordering::SeqCst);
            }
            let suffers = self.stage == Stage::Any || kind == SIGN_REQUEST;
            let answer_kind = if kind == SIGN_REQUEST { SIGN_RESPONSE } else { IDENTITIES_ANSWER };
            match self.fault {
                AgentFault::Hang if suffers => return self.hang(&stream),
                AgentFault::Close if suffers => return stream.shutdown(Shutdown::Both),
                // An inner length of 4 GiB where a count or a string should be.
                AgentFault::Garbage if suffers => {
                    send(&mut stream, &[answer_kind, 0xff, 0xff, 0xff, 0xff, 1, 2, 3])?
                }
                AgentFault::HugeLength if suffers => {
                    stream.write_all(&[0xff, 0xff, 0xff, 0xff, answer_kind])?;
                    return self.hang(&stream);
                }
                AgentFault::Refuse if suffers => send(&mut stream, &[FAILURE])?,
                AgentFault::Slow(time) if suffers => {
                    std::thread::sleep(time);
                    send(&mut stream, &self.answer(kind, &request))?;
                }
                _ => send(&mut stream, &self.answer(kind, &request))?,
            }
        }
    }

    /// Holds the connection until the client closes it or the agent ends.
    fn hang(&self, mut stream: &UnixStream) -> io::Result<()> {
        stream.set_read_timeout(Some(Duration::from_millis(50)))?;
        while !self.stopped.load(Ordering::SeqCst) {
            match stream.read(&mut [0; 64]) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn public_key(&self) -> [u8; 32] {
        match self.fault {
            AgentFault::WeakKey => neutral_point(),
            _ => self.key.verifying_key().to_bytes(),
        }
    }

    fn answer(&self, kind: u8, request: &[u8]) -> Vec<u8> {
        let blob = [string(b"ssh-ed25519"), string(&self.public_key())].concat();
        match kind {
            REQUEST_IDENTITIES if self.fault == AgentFault::EmptyList => vec![IDENTITIES_ANSWER, 0, 0, 0, 0],
            REQUEST_IDENTITIES => {
                [vec![IDENTITIES_ANSWER, 0, 0, 0, 1], string(&blob), string(b"fake agent")].concat()
            }
            SIGN_REQUEST => match strings(&request[1..]) {
                Some((key, message)) if key == blob => {
                    let signature = self.sign(message);
                    let signature = [string(b"ssh-ed25519"), string(&signature)].concat();
                    [vec![SIGN_RESPONSE], string(&signature)].concat()
                }
                _ => vec![FAILURE],
            },
            _ => vec![FAILURE], // extensions, such as session-bind@openssh.com
        }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let mut expanded = ExpandedSecretKey::from(&self.key.to_bytes());
        if self.fault == AgentFault::Hedged {
            // The prefix makes the nonce (RFC 8032, section 5.1.6): another prefix, another valid signature.
            let number = self.hedge.fetch_add(1, Ordering::SeqCst) + 1;
            expanded.hash_prefix = Sha512::digest(number.to_be_bytes())[..32].try_into().expect("32 bytes");
        }
        let mut signature =
            raw_sign::<Sha512>(&expanded, message, &self.key.verifying_key()).to_bytes().to_vec();
        match self.fault {
            AgentFault::ShortSignature => signature.truncate(63),
            AgentFault::WrongSignature => signature[40] ^= 1,
            AgentFault::WeakKey => signature = [neutral_point(), [0; 32]].concat(),
            _ => {}
        }
        signature
    }
}

/// x = 0, y = 1 (RFC 8032, section 5.1.2).
fn neutral_point() -> [u8; 32] {
    std::array::from_fn(|n| u8::from(n == 0))
}

fn send(stream: &mut UnixStream, message: &[u8]) -> io::Result<()> {
    stream.write_all(&string(message))
}

/// uint32 big-endian length, then the bytes (RFC 4251, section 5).
fn string(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).expect("short");
    [&length.to_be_bytes(), bytes].concat()
}

/// The first two strings of a request to sign: the key and the message.
fn strings(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (key, rest) = split_string(bytes)?;
    Some((key, split_string(rest)?.0))
}

fn split_string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
}
