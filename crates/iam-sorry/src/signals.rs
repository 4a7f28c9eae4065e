//! Signals that must not simply end the process: `serve-credentials` forwards them to its command, and Ctrl-C cancels a
//! prompt.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::sync_channel;

use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};

use crate::error::{Error, Result};

/// The signals to forward: the end of a terminal session, a terminal's interrupts, and two that programs define. Job
/// control (stop and continue) reaches the whole process group anyway.
const PASSED_ON: [Signal; 6] =
    [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM, Signal::USR1, Signal::USR2];

/// Calls `on_signal` for each signal from now on, in a thread of its own; the signals no longer end this process.
///
/// # Errors
/// Kind `Other` if the thread or the handlers can't be set up.
pub fn watch(on_signal: impl Fn(Signal) + Send + Sync + 'static) -> Result<()> {
    watch_these(&PASSED_ON, on_signal)
}

/// A socket that becomes readable on Ctrl-C. `None` if Ctrl-C still ends the process, which holds until the first
/// request to AWS.
///
/// # Errors
/// As [`watch`].
pub fn interrupts() -> Result<Option<UnixStream>> {
    if !in_signal_mask("SigCgt:", Signal::INT) {
        return Ok(None);
    }
    let (readable, writer) =
        UnixStream::pair().map_err(|e| Error::other(format!("Signals can't be watched: {e}")))?;
    watch_these(&[Signal::INT], move |_| drop((&writer).write(b"\n")))?;
    Ok(Some(readable))
}

fn watch_these(kinds: &'static [Signal], on_signal: impl Fn(Signal) + Send + Sync + 'static) -> Result<()> {
    let (ready, is_ready) = sync_channel(1);
    let failed = |e: std::io::Error| Error::other(format!("Signals can't be watched: {e}"));
    let work = move || {
        let registered = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let _inside = runtime.enter();
            // A signal that was ignored at start (nohup) is inherited as ignored, so there is nothing to forward.
            let streams: Vec<_> = kinds
                .iter()
                .filter(|kind| !in_signal_mask("SigIgn:", **kind))
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
            let on_signal = &on_signal;
            let each = streams.into_iter().map(|(kind, mut stream)| async move {
                while stream.recv().await.is_some() {
                    on_signal(kind);
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
fn in_signal_mask(mask: &str, kind: Signal) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix(mask));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask & (1 << (kind.as_raw() - 1)) != 0
}

/// Whether the terminal has sent this signal to the whole foreground group, the child included. Forwarding it would
/// deliver it twice, which tools such as Terraform treat as "stop at once".
pub fn terminal_signals_child_too(kind: Signal) -> bool {
    let by_terminal = kind == Signal::INT || kind == Signal::QUIT;
    let foreground = || {
        let terminal = std::fs::File::open("/dev/tty").ok()?;
        Some(rustix::termios::tcgetpgrp(terminal).ok()? == rustix::process::getpgrp())
    };
    by_terminal && foreground() == Some(true)
}
