//! A run that is killed with SIGKILL, also from within a request of its own.

use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use testkit::{Hook, MachineOnAws};

/// A run that can be killed from within a request of its own. It starts once it is released.
pub struct Run {
    command: Command,
    /// None before it starts and after it was waited for: nobody else's process may ever be hit.
    pub child: Arc<Mutex<Option<Child>>>,
}

impl Run {
    pub fn start(rig: &MachineOnAws, args: &[&str]) -> Run {
        let mut command = rig.command(args);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        Run { command, child: Arc::default() }
    }

    pub fn release(&mut self) {
        let mut child = self.child.lock().unwrap();
        *child = Some(self.command.spawn().unwrap());
    }

    /// Kills it and returns when it is dead.
    pub fn kill_hook(&self) -> Hook {
        let child = Arc::clone(&self.child);
        Arc::new(move |_| kill(&child))
    }

    /// Lets the request go on, and kills it a moment later.
    pub fn kill_hook_after(&self, delay: Duration) -> Hook {
        let child = Arc::clone(&self.child);
        Arc::new(move |_| {
            let child = Arc::clone(&child);
            std::thread::spawn(move || {
                std::thread::sleep(delay);
                kill(&child);
            });
        })
    }

    /// The exit code, none where it was killed.
    pub fn wait(&self) -> Option<i32> {
        loop {
            let mut child = self.child.lock().unwrap();
            if let Some(status) = child.as_mut().unwrap().try_wait().unwrap() {
                *child = None;
                return status.code();
            }
            drop(child);
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// SIGKILL, and waits until it is dead; nothing where it has ended by itself.
pub fn kill(child: &Mutex<Option<Child>>) {
    let mut child = child.lock().unwrap();
    let Some(child) = child.as_mut() else { return };
    child.kill().unwrap();
    let state = format!("/proc/{}/stat", child.id());
    let is_alive = || {
        let stat = std::fs::read_to_string(&state).unwrap_or_default();
        stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
    };
    while is_alive() {
        std::thread::sleep(Duration::from_millis(1));
    }
}
