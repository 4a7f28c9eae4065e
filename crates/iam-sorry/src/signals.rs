//! Signals, where they don't simply end the process: those for a command that we wait for are its business and passed on
//! to it; Ctrl-C at a question ends the question.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::sync_channel;

use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};

use crate::error::{Error, Result};

/// Ends of a session, a terminal's interrupts, and what programs agree upon. Stopping and resuming (job control) reaches
/// the whole process group anyway.
const PASSED_ON: [Signal; 6] =
    [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM, Signal::USR1, Signal::USR2];

/// Calls `heard` for each signal from now on, on a thread of its own; none of them ends this process any more.
///
/// # Errors
/// Where the thread or the handlers can't be had.
pub fn watch(heard: impl Fn(Signal) + Send + Sync + 'static) -> Result<()> {
    watch_these(&PASSED_ON, heard)
}

/// Becomes readable with Ctrl-C, from now on. `None` where Ctrl-C still ends the process: nothing has asked AWS yet.
///
/// # Errors
/// As [`watch`].
pub fn interrupts() -> Result<Option<UnixStream>> {
    if !stands_in("SigCgt:", Signal::INT) {
        return Ok(None);
    }
    let (told, teller) =
        UnixStream::pair().map_err(|e| Error::other(format!("Signals can't be watched: {e}")))?;
    watch_these(&[Signal::INT], move |_| drop((&teller).write(b"\n")))?;
    Ok(Some(told))
}

fn watch_these(kinds: &'static [Signal], heard: impl Fn(Signal) + Send + Sync + 'static) -> Result<()> {
    let (ready, is_ready) = sync_channel(1);
    let failed = |e: std::io::Error| Error::other(format!("Signals can't be watched: {e}"));
    let work = move || {
        let registered = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let _inside = runtime.enter();
            // What we were started to ignore (nohup) a command inherits, and nothing is passed on.
            let streams: Vec<_> = kinds
                .iter()
                .filter(|kind| !stands_in("SigIgn:", **kind))
                .map(|kind| Ok((*kind, signal(SignalKind::from_raw(kind.as_raw()))?)))
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
        Err(_) => Err(Error::other("Signals can't be watched: their thread ended")),
    }
}

/// Whether this process ignores (`SigIgn:`) or catches (`SigCgt:`) a signal, one bit each (proc(5), status).
fn stands_in(mask: &str, kind: Signal) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix(mask));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask & (1 << (kind.as_raw() - 1)) != 0
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
