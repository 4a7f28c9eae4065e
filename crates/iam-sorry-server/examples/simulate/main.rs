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
mod plants;
mod rng;
mod schedule;
#[cfg(test)]
mod tests;
#[path = "../../tests/common/trail.rs"]
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

/// Seeds that found something once (docs/simulation.md), and those that are kept for what they go through.
const PINNED: [u64; 27] = [
    4, 28, 42, 119, 129, 150, 326, 429, 636, 670, 739, 843, 926, 972, 1329, 1464, 1534, 2194, 3361, 4211,
    4937, 5924, 544, 2931, 6429, 8549, 19187,
];

/// Runs random schedules of the service, and checks what must hold in each.
#[derive(Parser)]
struct Arguments {
    /// How many schedules; with --planted, how many at most for each fault.
    #[arg(long, default_value_t = 2_000)]
    schedules: u64,
    /// The seed of the first one; the others follow.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many threads; as many as there are processors if it is not given.
    #[arg(long)]
    jobs: Option<usize>,
    /// Prints the history of the schedule with this seed instead.
    #[arg(long)]
    history: Option<u64>,
    /// Goes on after a schedule that fails.
    #[arg(long)]
    keep_going: bool,
    /// With this fault in the service's code.
    #[arg(long, value_name = "FAULT", value_parser = plants::parse)]
    plant: Option<&'static str>,
    /// Puts each planted fault into the code, and fails unless every one is found.
    #[arg(long)]
    planted: bool,
    /// Writes the table of the planted faults into this file.
    #[arg(long, requires = "planted")]
    write: Option<std::path::PathBuf>,
    /// Runs the schedules that once found something.
    #[arg(long)]
    pinned: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(seed) = arguments.history {
        let found = with_log(|| Workshop::new(arguments.plant).run(seed, true));
        show(&found);
        return if found.violation.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    }
    let jobs =
        arguments.jobs.or_else(|| std::thread::available_parallelism().ok().map(Into::into)).unwrap_or(1);
    if arguments.planted {
        return planted(&arguments, jobs);
    }
    let seeds: Box<dyn Fn(u64) -> u64 + Sync> = match arguments.pinned {
        true => Box::new(|n| PINNED[n as usize]),
        false => Box::new(|n| arguments.seed + n),
    };
    let count = if arguments.pinned { PINNED.len() as u64 } else { arguments.schedules };
    let sum = sweep(count, &seeds, jobs, arguments.plant, arguments.keep_going);
    println!(
        "{} schedules in {:.1} s ({:.0} a second on {jobs} threads), {:.1} h simulated, {} events, digest {:016x}",
        sum.schedules,
        sum.took.as_secs_f64(),
        sum.schedules as f64 / sum.took.as_secs_f64(),
        sum.simulated.as_secs_f64() / 3600.0,
        sum.events,
        sum.digest,
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
            show(&with_log(|| Workshop::new(arguments.plant).run(*seed, true)));
            ExitCode::FAILURE
        }
    }
}

/// Looks for each planted fault until a schedule finds it.
fn planted(arguments: &Arguments, jobs: usize) -> ExitCode {
    // A fault may make the code panic, which is one way of finding it.
    std::panic::set_hook(Box::new(|_| ()));
    let mut rows = vec![
        "| planted fault | where | what is wrong | found by schedule | what did not hold |".to_owned(),
        "|---|---|---|---|---|".to_owned(),
    ];
    rows.iter().for_each(|row| println!("{row}"));
    let mut missed = Vec::new();
    for plant in plants::ALL {
        let seeds = |n| arguments.seed + n;
        let sum = sweep(arguments.schedules, &seeds, jobs, Some(plant.name), false);
        let (found, broken) = match sum.failed.first() {
            Some((seed, violation)) => {
                ((seed - arguments.seed + 1).to_string(), violation.invariant.to_string())
            }
            None => {
                missed.push(plant.name);
                ("**not found**".to_owned(), String::new())
            }
        };
        rows.push(format!("| {} | {} | {} | {found} | {broken} |", plant.name, plant.file, plant.what));
        println!("{}", rows[rows.len() - 1]);
    }
    if let Some(file) = &arguments.write {
        plants::write_table(file, &rows).expect("a file with the marks of the table");
    }
    println!("{} of {} found", plants::ALL.len() - missed.len(), plants::ALL.len());
    if missed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs that many schedules, on threads. Until the first one fails, unless it is to go on; all before that one are run.
fn sweep(
    count: u64,
    seed: &(dyn Fn(u64) -> u64 + Sync),
    jobs: usize,
    plant: Option<&'static str>,
    keep_going: bool,
) -> Sum {
    let begin = Instant::now();
    let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let sum = Mutex::new(Sum::default());
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                let workshop = Workshop::new(plant);
                while !stop.load(Ordering::Relaxed) {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    if n >= count {
                        return;
                    }
                    let found = workshop.run(seed(n), false);
                    if found.violation.is_some() && !keep_going {
                        stop.store(true, Ordering::Relaxed);
                    }
                    sum.lock().expect("a sum").add(found);
                }
            });
        }
    });
    let mut sum = sum.into_inner().expect("a sum");
    sum.took = begin.elapsed();
    sum
}

/// Runs it with the service's warnings in the history.
fn with_log(run: impl FnOnce() -> Found) -> Found {
    let log = tracing_subscriber::fmt().without_time().with_target(false).with_ansi(false);
    let log = log.with_max_level(tracing::Level::WARN).with_writer(|| world::Log).finish();
    tracing::subscriber::with_default(log, run)
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
    took: std::time::Duration,
    /// The same for every run of the same schedules.
    digest: u64,
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
        // They end in any order.
        self.digest ^= found.digest.rotate_left((found.seed % 64) as u32);
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
