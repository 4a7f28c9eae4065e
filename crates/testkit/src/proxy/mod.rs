//! A proxy on loopback in front of an emulator, which does what AWS does and emulators do not: refuse a key that is too
//! new, keep to two keys per user, throttle, lose connections, run on another clock.
//!
//! The Host header is passed on as it came, since the client's signature covers it. Each connection carries one
//! request.

mod faults;
pub(crate) mod http;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::Account;

/// What goes wrong with a request.
#[derive(Clone)]
pub enum Fault {
    /// An answer with this HTTP status and AWS error code; the emulator never sees the request.
    Status(u16, &'static str),
    /// `Throttling` (400), as STS and IAM answer it.
    Throttle,
    /// `InvalidClientTokenId` (403) for a key that was made through this proxy less than so long ago.
    KeyNotValidYet(Duration),
    /// The same for the first N requests with each key made through this proxy.
    NewKeyRefused(usize),
    /// `LimitExceeded` (409) to CreateAccessKey where the user has two keys.
    TwoKeyLimit,
    /// The connection is reset before anything is forwarded.
    Reset,
    /// Forwarded, and the connection is closed without an answer: done, but the client cannot know.
    DropResponse,
    /// Forwarded; only the first N bytes of the answer's body arrive.
    CutResponse(usize),
    /// The answer's `Expiration` becomes so far from now: sessions that end while a test looks on.
    SessionsEndIn(Duration),
    /// GetAccessKeyLastUsed says that the key was used so long ago, for S3. (ministack says "never" of every key.)
    KeyUsedAgo(Duration),
    /// Waits, then goes on.
    Slow(Duration),
    /// Never answers, and never forwards.
    Hang,
    /// AWS's clock is so many seconds ahead of ours (negative: behind). Requests more than five minutes off are refused
    /// with `SignatureDoesNotMatch`, as STS and IAM do, and every answer's Date is of that clock.
    DateSkew(i64),
    /// Runs before the request is forwarded.
    BeforeForward(Hook),
    /// Runs after the emulator did it, before the answer goes back.
    AfterForward(Hook),
}

/// Something of the test's own to run in the middle of a request, such as killing the client.
pub type Hook = Arc<dyn Fn(&Call) + Send + Sync>;

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Status(status, code) => write!(f, "Status({status}, {code})"),
            Fault::Throttle => f.write_str("Throttle"),
            Fault::KeyNotValidYet(time) => write!(f, "KeyNotValidYet({time:?})"),
            Fault::NewKeyRefused(times) => write!(f, "NewKeyRefused({times})"),
            Fault::TwoKeyLimit => f.write_str("TwoKeyLimit"),
            Fault::Reset => f.write_str("Reset"),
            Fault::DropResponse => f.write_str("DropResponse"),
            Fault::CutResponse(bytes) => write!(f, "CutResponse({bytes})"),
            Fault::SessionsEndIn(time) => write!(f, "SessionsEndIn({time:?})"),
            Fault::KeyUsedAgo(time) => write!(f, "KeyUsedAgo({time:?})"),
            Fault::Slow(time) => write!(f, "Slow({time:?})"),
            Fault::Hang => f.write_str("Hang"),
            Fault::DateSkew(seconds) => write!(f, "DateSkew({seconds})"),
            Fault::BeforeForward(_) => f.write_str("BeforeForward"),
            Fault::AfterForward(_) => f.write_str("AfterForward"),
        }
    }
}

/// A request that arrived. It holds no token, and Debug shows no parameter but those of its fields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Such as `CreateAccessKey`.
    pub action: String,
    /// Whose key signed it (from the Authorization header); empty when unsigned.
    pub access_key: String,
    /// The request's `UserName`, if it has one.
    pub user_name: Option<String>,
    /// The request's `AccessKeyId` parameter, if it has one.
    pub target_key: Option<String>,
    /// All its parameters.
    pub parameters: Parameters,
    /// Whether a session token came with it.
    pub with_session: bool,
    /// Time since the proxy started.
    pub at: Duration,
    /// The emulator's HTTP status, once it was forwarded and answered.
    pub forwarded: Option<u16>,
}

/// What a request says, by name, such as `Tags.member.1.Key`. Debug shows the names alone.
#[derive(Clone, PartialEq, Eq)]
pub struct Parameters(BTreeMap<String, String>);

impl Parameters {
    /// The value of one.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }
}

impl fmt::Debug for Parameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

/// The running proxy. Ends on drop.
#[derive(Debug)]
pub struct FaultProxy {
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    address: SocketAddr,
    account: Account,
    started: Instant,
    stopped: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    rules: Vec<Rule>,
    calls: Vec<Call>,
    /// How many requests are between their arrival and the end of their answer (a `Hang` never ends, and does not count).
    under_way: usize,
    /// Keys that were made through this proxy: when, and how often they were refused as too new.
    made_keys: HashMap<String, (Instant, usize)>,
}

#[derive(Debug)]
struct Rule {
    /// `*` for any.
    action: String,
    fault: Fault,
    /// How often it still applies; for ever if none.
    left: Option<usize>,
}

impl FaultProxy {
    /// A proxy without faults in front of the account's emulator.
    pub fn start(account: &Account) -> FaultProxy {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let shared = Arc::new(Shared {
            address: listener.local_addr().expect("its address"),
            account: account.clone(),
            started: Instant::now(),
            stopped: AtomicBool::new(false),
            state: Mutex::default(),
        });
        let accepting = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        FaultProxy { shared, accepting: Some(accepting) }
    }

    /// `http://127.0.0.1:PORT`, for AWS_ENDPOINT_URL.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.shared.address)
    }

    /// From now on `action` (`*` for every one) suffers `fault`. Faults apply in the order in which they were given,
    /// until one of them answers or ends the connection.
    pub fn fault(&self, action: &str, fault: Fault) {
        self.shared.state().rules.push(Rule { action: action.to_owned(), fault, left: None });
    }

    /// The same for the next `times` requests only.
    pub fn fault_times(&self, action: &str, times: usize, fault: Fault) {
        self.shared.state().rules.push(Rule { action: action.to_owned(), fault, left: Some(times) });
    }

    /// The same for the next request only.
    pub fn fault_once(&self, action: &str, fault: Fault) {
        self.fault_times(action, 1, fault);
    }

    /// Takes all faults away.
    pub fn clear_faults(&self) {
        self.shared.state().rules.clear();
    }

    /// The requests so far, in the order in which they arrived, those that were refused or lost included.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.state().calls.clone()
    }

    /// The actions so far, in order.
    pub fn actions(&self) -> Vec<String> {
        self.shared.state().calls.iter().map(|call| call.action.clone()).collect()
    }

    /// How often an action arrived.
    pub fn count(&self, action: &str) -> usize {
        self.shared.state().calls.iter().filter(|call| call.action == action).count()
    }

    /// Waits until no request is under way. What a killed client sent goes on without it, and may reach the emulator after
    /// the client's death has been seen.
    ///
    /// # Panics
    ///
    /// If that takes longer than a minute.
    pub fn wait_until_idle(&self) {
        let waiting = Instant::now();
        while self.shared.state().under_way > 0 {
            assert!(
                waiting.elapsed() < Duration::from_secs(60),
                "requests are still under way: {:?}",
                self.calls()
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Forgets the requests so far.
    pub fn clear_calls(&self) {
        self.shared.state().calls.clear();
    }
}

impl Drop for FaultProxy {
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

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::SeqCst)
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.is_stopped() {
            return;
        }
        let Ok(stream) = stream else { continue };
        let shared = Arc::clone(shared);
        // An error here is a client that went away: it knows.
        std::thread::spawn(move || drop(faults::serve(&stream, &shared)));
    }
}
