//! A stopwatch for one command: starts it, waits for it, prints `wall_ns cpu_us max_rss_kib status`.
//!
//! Why not from Python: the kernel carries the highest memory use over an exec, so a child of a 20 MiB interpreter
//! seems to need 20 MiB. This starter is smaller than anything it measures.

use std::ffi::{c_int, c_long};
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

/// `struct rusage` of Linux and the BSDs on 64 bits: all of it is longs.
#[repr(C)]
#[derive(Default)]
struct Usage {
    user: [c_long; 2],
    system: [c_long; 2],
    max_rss: c_long,
    rest: [c_long; 13],
}

unsafe extern "C" {
    fn wait4(pid: c_int, status: *mut c_int, options: c_int, usage: *mut Usage) -> c_int;
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let Some(program) = arguments.next() else { return ExitCode::from(2) };
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let start = Instant::now();
    let Ok(child) = command.spawn() else { return ExitCode::from(127) };
    let (mut status, mut usage) = (0, Usage::default());
    // SAFETY: the pid is our own child's, which nobody else waits for; both pointers are to live, writable values of
    // the layout that wait4(2) documents.
    let waited = unsafe { wait4(child.id() as c_int, &mut status, 0, &mut usage) };
    let wall = start.elapsed().as_nanos();
    if waited != child.id() as c_int {
        return ExitCode::FAILURE;
    }
    let cpu = (usage.user[0] + usage.system[0]) * 1_000_000 + usage.user[1] + usage.system[1];
    println!("{wall} {cpu} {} {status}", usage.max_rss);
    ExitCode::SUCCESS
}
