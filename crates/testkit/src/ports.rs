//! Loopback ports for servers that can't be told to pick one themselves and report it.
//!
//! Outside the range that the kernel gives to outgoing connections (32768 up, ip(7)), so that no client of another test
//! can take one between the moment it is chosen here and the moment the server binds it, nor while the server is
//! restarted.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

const FIRST: u32 = 10_000;
const COUNT: u32 = 22_000;

/// A port of 127.0.0.1 that nobody listens on. No two calls of a test process give the same one.
///
/// # Panics
/// When every port is taken.
pub fn free_port() -> u16 {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    for _ in 0..COUNT {
        // Test programs run side by side: each begins elsewhere (a prime spreads neighbouring process ids).
        let call = CALLS.fetch_add(1, Ordering::Relaxed);
        let start = std::process::id().wrapping_mul(7_919);
        let port = u16::try_from(FIRST + start.wrapping_add(call) % COUNT).expect("below 32,768");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port is free on 127.0.0.1")
}
