//! Faults that are put into the code on purpose, in a build of its own (feature `simulation`), to show that the simulator finds
//! them. What is shipped has the good branch alone.

#[cfg(feature = "simulation")]
thread_local! {
    static PLANTED: std::cell::Cell<Option<&'static str>> = const { std::cell::Cell::new(None) };
}

/// From here on, this thread's code has that fault.
#[cfg(feature = "simulation")]
pub fn plant(fault: Option<&'static str>) {
    PLANTED.set(fault);
}

/// Whether this thread's code has that fault.
#[cfg(feature = "simulation")]
pub fn is_planted(fault: &str) -> bool {
    PLANTED.get() == Some(fault)
}

/// `planted!("name": bad, good)`, or `planted!("name": bad)` for a step too many.
#[cfg(feature = "simulation")]
#[macro_export]
macro_rules! planted {
    ($name:literal: $bad:expr, $good:expr) => {
        if $crate::planted::is_planted($name) { $bad } else { $good }
    };
    ($name:literal: $bad:expr) => {
        if $crate::planted::is_planted($name) {
            $bad;
        }
    };
}

/// `planted!("name": bad, good)` is `good`; `planted!("name": bad)` is nothing.
#[cfg(not(feature = "simulation"))]
#[macro_export]
macro_rules! planted {
    ($name:literal: $bad:expr, $good:expr) => {
        $good
    };
    ($name:literal: $bad:expr) => {};
}
