//! The log: what goes into it, what never does, and its form.
//!
//! One line for each request, at the boundary: method, route template, status, milliseconds, the person's id and the
//! request's id. Besides, only what an operator can act on: a part that is unreachable, a rule set that was refused, a
//! sink that is behind, a mistake of ours (with its cause, under the request's id).
//!
//! Never: bodies, headers, tokens, cookies, query strings, paths with their values, passwords, keys, what AWS returned, or
//! names that were tried at sign-in. The audit trail says who did what; the log says how the service is.

use std::io::IsTerminal;

use serde::Deserialize;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// `[log]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogSettings {
    /// Text for people, JSON for collectors.
    pub format: LogFormat,
    /// The least that is worth a line.
    pub level: LogLevel,
}

/// The log's form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// One line of text an event.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The least that is worth a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogLevel {
    /// Only what must be looked at.
    Error,
    /// And what may have to be.
    Warn,
    /// And a line for each request.
    #[default]
    Info,
    /// And what connections do.
    Debug,
}

/// Sends the log to stderr, from now on. A second call changes nothing.
pub fn start(settings: LogSettings) {
    let level = match settings.level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    };
    // Other crates' lines are not written under this policy: an HTTP or LDAP library's debug output has bodies in it.
    let ours = tracing_subscriber::filter::Targets::new()
        .with_default(LevelFilter::OFF)
        .with_target("iam_sorry", level)
        .with_target("request", level);
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry().with(ours);
    let started = match settings.format {
        LogFormat::Json => registry.with(layer.json().flatten_event(true)).try_init(),
        LogFormat::Text => registry.with(layer.with_ansi(std::io::stderr().is_terminal())).try_init(),
    };
    drop(started);
    // A panic's own text may hold anything that was at hand; where it happened is enough to find it.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "a mistake of the program's: panic");
    }));
}
