//! `iam-sorry`: temporary AWS credentials for headless machines. The entry point alone reads the arguments and returns
//! the exit code.

mod app;
mod args;
mod aws;
mod commands;
mod error;
mod files;
mod keyring;
mod output;
mod profile;
mod progress;
mod provider;
mod recovery;
mod sealing;
mod service;
mod settings;
mod signals;
mod terminal;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

use crate::app::App;
use crate::args::Cli;
use crate::output::Output;
use crate::settings::Settings;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let parsed = match args::parse_fast_path(&arguments) {
        Some(cli) => Ok(cli),
        None => Cli::try_parse_from(&arguments),
    };
    let cli = match parsed {
        Ok(cli) => cli,
        Err(e) => {
            let _ = e.print();
            return ExitCode::from(u8::try_from(e.exit_code()).unwrap_or(2));
        }
    };
    let core_limit = keyring::hygiene::harden();
    let plain = Output::new(true, cli.global.quiet);
    let outcome = Settings::read().map_err(|error| (plain, error)).and_then(|settings| {
        let output = Output::new(settings.no_color, cli.global.quiet);
        App::new(settings, cli.global, output)
            .and_then(|app| commands::run(&app, cli.verb, cli.original, core_limit))
            .map_err(|error| (output, error))
    });
    match outcome {
        Ok(code) => code,
        Err((output, error)) => {
            output.error(&error);
            ExitCode::from(error.kind.exit_code())
        }
    }
}
