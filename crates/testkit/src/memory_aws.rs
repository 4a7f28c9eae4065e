//! STS and IAM in this process, as fast as memory, behind HTTP on loopback ([`account`] is what they know).
//!
//! A test looks into it without asking it anything, and makes it slow, or lose answers after the work is done.

mod account;

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use time::OffsetDateTime;

use account::{Answer, Fields};
pub use account::{Failure as IamFailure, Fields as IamFields, IamAccount, Lag, MemoryKey, MemoryUser};

use crate::Creds;
use crate::proxy::http::Message;

/// What goes wrong, how often of a thousand requests, repeatably.
#[derive(Debug, Clone, Copy, Default)]
pub struct Chaos {
    /// Seed of the sequence.
    pub seed: u64,
    /// The work is done and the connection closed without an answer.
    pub lost: u32,
    /// The answer takes up to `slow_for`.
    pub slow: u32,
    /// See `slow`.
    pub slow_for: Duration,
}

/// The running thing. Ends on drop.
#[derive(Debug)]
pub struct MemoryAws {
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    address: SocketAddr,
    stopped: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    account: IamAccount,
    chaos: Chaos,
    random: u64,
    counts: BTreeMap<String, u64>,
    lost: u64,
}

impl MemoryAws {
    /// An empty account.
    pub fn start() -> MemoryAws {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let shared = Arc::new(Shared {
            address: listener.local_addr().expect("its address"),
            stopped: AtomicBool::new(false),
            state: Mutex::default(),
        });
        let accepting = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        MemoryAws { shared, accepting: Some(accepting) }
    }

    /// `http://127.0.0.1:PORT`, for both services.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.shared.address)
    }

    /// What the service signs with.
    pub fn service(&self) -> Creds {
        let (id, secret) = IamAccount::SERVICE_KEY;
        Creds::new(id, secret)
    }

    /// An ARN in this account, such as of `policy/read` or `role/analysis`.
    pub fn arn(&self, resource: &str) -> String {
        IamAccount::arn(resource)
    }

    /// All users by name, as they are now.
    pub fn users(&self) -> BTreeMap<String, MemoryUser> {
        let state = self.shared.state();
        state.account.users().values().map(|user| (user.name.clone(), user.clone())).collect()
    }

    /// Whether the key exists, and may sign.
    pub fn is_active(&self, key: &str) -> Option<bool> {
        self.shared.state().account.key(key).map(|(_, key)| key.active)
    }

    /// A key that somebody makes by hand.
    pub fn hand_made_key(&self, user: &str) -> String {
        let made = self.shared.state().account.make_key(user, OffsetDateTime::now_utc());
        made.unwrap_or_else(|(_, code, _)| panic!("a key for {user}: {code}"))
    }

    /// A user that somebody makes by hand.
    pub fn hand_made_user(&self, name: &str) {
        let now = OffsetDateTime::now_utc();
        let made = self.shared.state().account.make_user(name, &Fields::new(), now);
        assert!(made.is_ok(), "{made:?}");
    }

    /// Takes a hand-made user away again, unless somebody took it into their care.
    pub fn remove_user_unless_tagged(&self, name: &str) {
        let mut state = self.shared.state();
        if state.account.user(name).is_some_and(|user| user.tags.is_empty()) {
            state.account.remove(name);
        }
    }

    /// How often an action was asked for.
    pub fn count(&self, action: &str) -> u64 {
        self.shared.state().counts.get(action).copied().unwrap_or(0)
    }

    /// How many answers were lost.
    pub fn lost(&self) -> u64 {
        self.shared.state().lost
    }

    /// What goes wrong from here on.
    pub fn set_chaos(&self, chaos: Chaos) {
        let mut state = self.shared.state();
        // xorshift stays at zero for ever.
        (state.random, state.chaos) = (chaos.seed | 1, chaos);
    }
}

impl Drop for MemoryAws {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.shared.address); // wakes the accepting thread
        if let Some(thread) = self.accepting.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.stopped.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        let shared = Arc::clone(shared);
        // An error is a client that went away.
        std::thread::spawn(move || drop(serve(&stream, &shared)));
    }
}

/// One connection, kept for as many requests as come.
fn serve(stream: &TcpStream, shared: &Shared) -> io::Result<()> {
    stream.set_nodelay(true)?;
    loop {
        let request = Message::read(stream, false)?;
        let fields = request.parameters();
        let authorization = request.header("authorization").unwrap_or_default();
        let credential = authorization.split_once("Credential=").map_or("", |(_, rest)| rest);
        let signer = credential.split('/').next().unwrap_or_default().to_owned();
        let action = fields.get("Action").cloned().unwrap_or_default();
        let (answer, lose, wait) = {
            let mut state = shared.state();
            *state.counts.entry(action.clone()).or_default() += 1;
            let answer = state.account.act(&action, &fields, &signer, OffsetDateTime::now_utc());
            let (lost, slow) = (state.chaos.lost, state.chaos.slow);
            let lose = state.happens(lost);
            state.lost += u64::from(lose);
            let wait = if state.happens(slow) { state.chaos.slow_for } else { Duration::ZERO };
            (answer, lose, wait)
        };
        std::thread::sleep(wait);
        if lose {
            return stream.shutdown(Shutdown::Both);
        }
        write(stream, &action, answer)?;
    }
}

fn write(mut stream: &TcpStream, action: &str, answer: Answer) -> io::Result<()> {
    let (status, body) = IamAccount::render(action, answer);
    let date = IamAccount::http_date(OffsetDateTime::now_utc());
    let text = format!(
        "HTTP/1.1 {status} OK\r\ncontent-type: text/xml\r\ndate: {date}\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(text.as_bytes())
}

impl State {
    fn happens(&mut self, per_mille: u32) -> bool {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % 1000 < u64::from(per_mille)
    }
}
