//! Signals for a command that we wait for: they are its business, so they are passed on to it.

use std::sync::mpsc::sync_channel;

use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};

use crate::failure::{Failure, Result};

/// Ends of a session, a terminal's interrupts, and what programs agree upon. Stopping and resuming (job control) reaches
/// the whole process group anyway.
const PASSED_ON: [Signal; 6] =
    [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM, Signal::USR1, Signal::USR2];

/// Calls `heard` for each signal from now on, on a thread of its own; none of them ends this process any more.
///
/// # Errors
/// Where the thread or the handlers can't be had.
pub fn watch(heard: impl Fn(Signal) + Send + Sync + 'static) -> Result<()> {
    let (ready, is_ready) = sync_channel(1);
    let failed = |e: std::io::Error| Failure::other(format!("Signals can't be watched: {e}"));
    let work = move || {
        let registered = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let _inside = runtime.enter();
            let ignored = ignored();
            let streams: Vec<_> = PASSED_ON
                .into_iter()
                .filter(|kind| ignored & (1 << (kind.as_raw() - 1)) == 0)
                .map(|kind| Ok((kind, signal(SignalKind::from_raw(kind.as_raw()))?)))
                .collect::<std::io::Result<_>>()?;
            drop(_inside);
            Ok((runtime, streams))
        };
        let (runtime, streams) = match registered() {
            Ok(registered) => registered,
            Err(error) => return drop(ready.send(Err(error))),
        };
        drop(ready.send(Ok(())));
        runtime.block_on(async {
            let heard = &heard;
            let each = streams.into_iter().map(|(kind, mut stream)| async move {
                while stream.recv().await.is_some() {
                    heard(kind);
                }
            });
            futures_util::future::join_all(each).await;
        });
    };
    std::thread::Builder::new().name("signals".into()).spawn(work).map_err(failed)?;
    match is_ready.recv() {
        Ok(registered) => registered.map_err(failed),
        Err(_) => Err(Failure::other("Signals can't be watched: their thread ended")),
    }
}

/// The signals that we were started to ignore (nohup), one bit each: the command inherits that, and nothing is passed on.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

/// Whether the terminal has sent this one to the whole foreground group, our child in it. Passing it on would make it
/// two, which tools such as Terraform take for "stop at once".
pub fn came_to_the_child_too(kind: Signal) -> bool {
    let by_terminal = kind == Signal::INT || kind == Signal::QUIT;
    let foreground = || {
        let terminal = std::fs::File::open("/dev/tty").ok()?;
        Some(rustix::termios::tcgetpgrp(terminal).ok()? == rustix::process::getpgrp())
    };
    by_terminal && foreground() == Some(true)
}
