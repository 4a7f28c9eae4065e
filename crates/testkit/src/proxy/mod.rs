//! A proxy on loopback in front of an emulator, which does what AWS does and emulators do not: refuse a key that is too
//! new, keep to two keys per user, throttle, lose connections, run on another clock.
//!
//! The Host header is passed on as it came, since the client's signature covers it. Each connection carries one
//! request.

mod fault;
pub(crate) mod http;
mod serve;
mod state;

use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use fault::{Call, Fault, Hook, Parameters};
use state::{Rule, Shared};

use crate::Account;

/// The running proxy. Ends on drop.
#[derive(Debug)]
pub struct FaultProxy {
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
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

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    for stream in listener.incoming() {
        if shared.is_stopped() {
            return;
        }
        let Ok(stream) = stream else { continue };
        let shared = Arc::clone(shared);
        // An error here is a client that went away: it knows.
        std::thread::spawn(move || drop(serve::serve(&stream, &shared)));
    }
}
