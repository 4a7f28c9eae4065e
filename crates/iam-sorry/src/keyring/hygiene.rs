//! Keeps this process's memory out of core dumps, debuggers and swap.
//!
//! Best effort: if the system refuses, the program continues. Nothing here protects against root.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The limit for core dumps at the start of this process.
#[derive(Debug)]
#[must_use = "the child of `exec` gets its old limit back"]
pub struct CoreLimit {
    soft: Option<Option<u64>>,
}

/// Makes the process not dumpable, without core files, and out of swap if permitted. Three system calls, to be made
/// first in main.
pub fn harden() -> CoreLimit {
    // Also reserves /proc/self/mem and ptrace for root (prctl(2), PR_SET_DUMPABLE).
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);

    let old = getrlimit(Resource::Core);
    let done = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: old.maximum }).is_ok();

    // Only without a limit: under a limit, a later allocation could fail. ONFAULT locks pages as they are used, and
    // does not load the rest of the program.
    #[cfg(target_os = "linux")]
    if getrlimit(Resource::Memlock).current.is_none() {
        use rustix::mm::{MlockAllFlags, mlockall};
        let _ = mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT);
    }
    CoreLimit { soft: done.then_some(old.current) }
}

impl CoreLimit {
    /// Restores the limit before a command of the user's is started, since limits are inherited and other programs may
    /// dump core. (Memory locks and the dumpable flag are not inherited.)
    pub fn restore(self) {
        if let Some(soft) = self.soft {
            let maximum = getrlimit(Resource::Core).maximum;
            let _ = setrlimit(Resource::Core, Rlimit { current: soft, maximum });
        }
    }
}
