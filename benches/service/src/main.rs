//! The tools of `scripts/bench-service`:
//!
//!     service-bench stub LISTEN [DELAY_MS]   an AWS (STS, IAM) that answers at once, and counts
//!     service-bench load KEY=VALUE...        clients that send one request over and over; prints figures as JSON
//!     service-bench login KEY=VALUE...       people who sign in by SSH key over and over; prints figures as JSON
//!     service-bench key NUMBER               the public key line of the person of that number
//!
//! Each is one thread, so that on two cores the server under test keeps one to itself.

mod clients;
mod figures;
mod load;
mod login;
mod stub;

use std::collections::HashMap;
use std::process::ExitCode;

type Error = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = runtime.map_err(Error::from).and_then(|runtime| {
        let work = run(&arguments);
        tokio::task::LocalSet::new().block_on(&runtime, work)
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("service-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &[String]) -> Result<(), Error> {
    let (verb, rest) = arguments.split_first().ok_or("stub, load, login or key?")?;
    match verb.as_str() {
        "stub" => stub::serve(rest).await,
        "load" => load::run(&Options::parse(rest)?).await,
        "login" => login::run(&Options::parse(rest)?).await,
        "key" => {
            let number = rest.first().ok_or("which number?")?.parse()?;
            println!("{}", login::Person::of(number)?.public_key());
            Ok(())
        }
        other => Err(format!("unknown: {other}").into()),
    }
}

/// `KEY=VALUE` arguments; a key may come more than once.
struct Options(HashMap<String, Vec<String>>);

impl Options {
    fn parse(arguments: &[String]) -> Result<Self, Error> {
        let mut options: HashMap<String, Vec<String>> = HashMap::new();
        for argument in arguments {
            let (key, value) = argument.split_once('=').ok_or_else(|| format!("no value: {argument}"))?;
            options.entry(key.to_owned()).or_default().push(value.to_owned());
        }
        Ok(Self(options))
    }

    fn all(&self, key: &str) -> &[String] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    fn text<'a>(&'a self, key: &str, default: &'a str) -> &'a str {
        self.all(key).first().map_or(default, String::as_str)
    }

    fn number(&self, key: &str, default: u64) -> Result<u64, Error> {
        let text = self.text(key, "");
        if text.is_empty() { Ok(default) } else { Ok(text.parse()?) }
    }
}
