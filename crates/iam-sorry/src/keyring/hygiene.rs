//! Keeps what is in this process's memory out of core dumps, debuggers and swap.
//!
//! Best effort: where the system refuses, the program works on. None of it protects against root.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The limit for core dumps that this process was started with.
#[derive(Debug)]
#[must_use = "the child of `exec` gets its old limit back"]
pub struct CoreLimit {
    soft: Option<Option<u64>>,
}

/// Not dumpable, no core files, and no swap where that is allowed. Three system calls; to be called first in main.
pub fn harden() -> CoreLimit {
    // Also makes /proc/self/mem and ptrace root's alone (prctl(2), PR_SET_DUMPABLE).
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);

    let old = getrlimit(Resource::Core);
    let done = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: old.maximum }).is_ok();

    // Only where nothing limits it: under a limit, a later allocation of an unlucky size would be refused. ONFAULT
    // locks the pages that are used and doesn't load the rest of the program.
    #[cfg(target_os = "linux")]
    if getrlimit(Resource::Memlock).current.is_none() {
        use rustix::mm::{MlockAllFlags, mlockall};
        let _ = mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT);
    }
    CoreLimit { soft: done.then_some(old.current) }
}

impl CoreLimit {
    /// Gives the limit back, before a command of the user's is started: limits are inherited, and core dumps of other
    /// programs are none of our business. (Locks and the dumpable flag are not inherited.)
    pub fn restore(self) {
        if let Some(soft) = self.soft {
            let maximum = getrlimit(Resource::Core).maximum;
            let _ = setrlimit(Resource::Core, Rlimit { current: soft, maximum });
        }
    }
}
