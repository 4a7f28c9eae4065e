//! The service under load for as long as one likes, with everything that people do, answers of AWS that get lost, clients that
//! hang up, and, in every other pass, kill -9 every few seconds. At the end everything is compared with everything: what
//! people were told, IAM, the database, the audit trail, and the file that the trail is copied to.
//!
//! `scripts/soak --help`. AWS is testkit's, in memory; the rest is the real program on SQLite or PostgreSQL.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "what it finds is its output")]

mod compare;
mod department;
mod people;
#[path = "../../tests/common/trail.rs"]
mod trail;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use compare::Report;
use department::{Department, Engine};
use people::{Book, Dice};

const HELP: &str =
    "Usage: scripts/soak [--seconds N] [--engine sqlite|postgres|both] [--calm | --kill] [--seed S]

  --seconds N   how long each pass lasts (600)
  --engine E    sqlite, postgres (two instances), or both (both)
  --calm        only the passes without kill -9
  --kill        only the passes with kill -9 every few seconds
  --seed S      repeats who does what, and when it is killed, as far as threads can (the time)

IAM_SORRYD names another iam-sorryd to work with than this source tree's.";

/// People at once.
const CLIENTS: usize = 16;

struct Arguments {
    seconds: u64,
    engines: Vec<Engine>,
    kill: Vec<bool>,
    seed: u64,
}

fn main() -> ExitCode {
    let arguments = match parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(text) => {
            eprintln!("{text}");
            return ExitCode::from(2);
        }
    };
    println!("seed {}", arguments.seed);
    let mut reports = Vec::new();
    for kill in &arguments.kill {
        for engine in &arguments.engines {
            let report = pass(*engine, *kill, &arguments);
            println!("{}", report.details());
            reports.push(report);
        }
    }
    println!("{}", compare::table(&reports));
    println!("seed {}", arguments.seed);
    if reports.iter().all(Report::is_clean) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let mut parsed = Arguments {
        seconds: 600,
        engines: vec![Engine::Sqlite, Engine::Postgres],
        kill: vec![false, true],
        seed: now.as_secs(),
    };
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value.\n\n{HELP}"));
        let mut number = || value()?.parse::<u64>().map_err(|e| format!("{argument}: {e}.\n\n{HELP}"));
        match argument.as_str() {
            "--seconds" => parsed.seconds = number()?,
            "--seed" => parsed.seed = number()?,
            "--engine" => {
                parsed.engines = match value()?.as_str() {
                    "sqlite" => vec![Engine::Sqlite],
                    "postgres" => vec![Engine::Postgres],
                    "both" => parsed.engines,
                    other => return Err(format!("There is no engine {other:?}.\n\n{HELP}")),
                }
            }
            "--calm" => parsed.kill = vec![false],
            "--kill" => parsed.kill = vec![true],
            _ => return Err(HELP.to_owned()),
        }
    }
    Ok(parsed)
}

/// One pass: people at work for a while, then peace, then the comparison.
fn pass(engine: Engine, kill: bool, arguments: &Arguments) -> Report {
    let name = format!("{}{}", engine.name(), if kill { ", kill -9" } else { "" });
    eprintln!("{name}: {} s ...", arguments.seconds);
    let department = Department::start(engine, CLIENTS, arguments.seed);
    let (book, stop) = (Arc::new(Book::default()), AtomicBool::new(false));
    let mut kills = 0;
    std::thread::scope(|threads| {
        for client in 0..CLIENTS {
            let (department, book, stop) = (&department, &book, &stop);
            threads.spawn(move || people::work(department, book, client, arguments.seed, stop));
        }
        let mut dice = Dice::new(arguments.seed ^ 0x6b69_6c6c);
        let end = Instant::now() + Duration::from_secs(arguments.seconds);
        while Instant::now() < end {
            let pause = Duration::from_millis(2_000 + dice.below(4_000));
            std::thread::sleep(pause.min(end.saturating_duration_since(Instant::now())));
            if kill && Instant::now() < end {
                department.kill_one(dice.below(u64::MAX));
                kills += 1;
            }
        }
        stop.store(true, Ordering::SeqCst);
    });
    compare::compare(name, &department, &book, kills)
}
