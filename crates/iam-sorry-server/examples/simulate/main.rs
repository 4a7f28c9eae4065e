//! The simulator: random schedules of people, machines, AWS and the database, with the service's own code in the middle, and
//! what must hold in each of them. docs/simulation.md says what it is for.
//!
//! One seed decides every choice of a schedule, so a seed that fails is run again with its history.
#![expect(clippy::print_stdout, reason = "a program for the terminal")]
#![expect(clippy::expect_used, reason = "a simulator that cannot be set up ends with the reason")]

mod cloud;
mod ending;
mod instance;
mod invariants;
mod machine;
mod outside;
mod people;
mod rng;
mod schedule;
#[cfg(test)]
mod tests;
#[path = "../../tests/shared/trail.rs"]
mod trail;
mod weather;
mod wire;
mod world;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use clap::Parser;
use schedule::{Found, Workshop};

/// Runs random schedules of the service, and checks what must hold in each.
#[derive(Parser)]
struct Arguments {
    /// How many schedules.
    #[arg(long, default_value_t = 2_000)]
    schedules: u64,
    /// The seed of the first one; the others follow.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many threads; as many as there are processors where it is not given.
    #[arg(long)]
    jobs: Option<usize>,
    /// Prints the history of the schedule with this seed instead.
    #[arg(long)]
    history: Option<u64>,
    /// Goes on after a schedule that fails.
    #[arg(long)]
    keep_going: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(seed) = arguments.history {
        let found = Workshop::new().run(seed, true);
        show(&found);
        return if found.violation.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    }
    let begin = Instant::now();
    let jobs =
        arguments.jobs.or_else(|| std::thread::available_parallelism().ok().map(Into::into)).unwrap_or(1);
    let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let sum = Mutex::new(Sum::default());
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                let workshop = Workshop::new();
                while !stop.load(Ordering::Relaxed) {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= arguments.schedules {
                        return;
                    }
                    let found = workshop.run(arguments.seed + n, false);
                    if found.violation.is_some() && !arguments.keep_going {
                        stop.store(true, Ordering::Relaxed);
                    }
                    sum.lock().expect("a sum").add(found);
                }
            });
        }
    });
    let sum = sum.into_inner().expect("a sum");
    let took = begin.elapsed();
    println!(
        "{} schedules in {:.1} s ({:.0} a second on {jobs} threads), {:.1} h simulated, {} events",
        sum.schedules,
        took.as_secs_f64(),
        sum.schedules as f64 / took.as_secs_f64(),
        sum.simulated.as_secs_f64() / 3600.0,
        sum.events,
    );
    let counters: Vec<_> = sum.counters.iter().map(|(what, count)| format!("{count} {what}")).collect();
    println!("{}", counters.join(", "));
    for (seed, violation) in sum.failed.iter().take(100) {
        println!("seed {seed}: {violation}");
    }
    match sum.failed.first() {
        None => ExitCode::SUCCESS,
        Some((seed, _)) => {
            println!("{} failed. The history of the first:", sum.failed.len());
            show(&Workshop::new().run(*seed, true));
            ExitCode::FAILURE
        }
    }
}

fn show(found: &Found) {
    for line in &found.history {
        println!("{line}");
    }
    match &found.violation {
        Some(violation) => println!("seed {}: {violation}", found.seed),
        None => println!("seed {}: everything holds; {} s simulated", found.seed, found.simulated.as_secs()),
    }
}

/// Of all schedules together.
#[derive(Default)]
struct Sum {
    schedules: u64,
    events: u64,
    simulated: std::time::Duration,
    counters: BTreeMap<&'static str, u64>,
    /// By seed.
    failed: Vec<(u64, world::Violation)>,
}

impl Sum {
    fn add(&mut self, found: Found) {
        self.schedules += 1;
        self.events += found.events;
        self.simulated += found.simulated;
        for (what, count) in found.counters {
            *self.counters.entry(what).or_default() += count;
        }
        if let Some(violation) = found.violation {
            self.failed.push((found.seed, violation));
            self.failed.sort_by_key(|(seed, _)| *seed);
        }
    }
}
