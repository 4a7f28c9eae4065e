//! `list`: every profile with its kind, user and expiration. Opens nothing and never prompts.

use iam_sorry_core::aws_files::Document;
use iam_sorry_core::seal::{self, Value};
use iam_sorry_core::timestamp::{Timestamp, human_duration};
use serde_json::json;

use crate::app::App;
use crate::error::Result;
use crate::output::printable;
use crate::profile::{Profile, ProfileKind, SEALABLE};

/// One row of the table.
struct Row {
    name: String,
    kind: ProfileKind,
    user: Option<String>,
    expiration: Option<Timestamp>,
    /// Remarks for the last column.
    notes: Vec<&'static str>,
}

pub fn run(app: &App, json: bool) -> Result<()> {
    let (credentials, config) = app.documents()?;
    let rows: Vec<Row> = names(&credentials, &config)
        .into_iter()
        .filter_map(|name| Profile::find(name, &credentials, &config))
        .map(|profile| Row::of(&profile))
        .collect();
    let now = app.now();
    if json {
        let rows: Vec<serde_json::Value> = rows.iter().map(|row| row.to_json(now)).collect();
        return app.out.line(serde_json::to_string_pretty(&rows).unwrap_or_default());
    }
    if rows.is_empty() {
        app.out.progress(format!("No profiles in {}", app.settings.credentials_file.display()));
        return Ok(());
    }
    app.out.raw(&table(&rows, now))
}

/// Profiles of the credentials file, then those of the config file alone.
fn names<'a>(credentials: &'a Document, config: &'a Document) -> Vec<&'a str> {
    let mut names = credentials.profiles();
    names.extend(config.profiles().into_iter().filter(|name| !credentials.contains(name)));
    names
}

impl Row {
    fn of(profile: &Profile) -> Self {
        let mut notes = Vec::new();
        if SEALABLE
            .iter()
            .filter_map(|f| profile.field(f))
            .any(|v| matches!(seal::parse(v), Ok(Value::Legacy(_))))
        {
            notes.push("legacy values: iam-sorry migrate");
        }
        if profile.active_key().is_some() && profile.kept_key().is_some() {
            notes.push("refreshes itself");
        }
        if profile.active_key().is_none() && profile.kept_key().is_some() {
            notes.push("credential_process");
        }
        Self {
            name: profile.name.clone(),
            kind: profile.kind(),
            user: profile.owner().map(str::to_owned),
            expiration: profile.expiration(),
            notes,
        }
    }

    fn time_left(&self, now: Timestamp) -> String {
        match self.expiration.map(|at| at.seconds_after(now)) {
            None => "-".into(),
            Some(left) if left <= 0 => "expired".into(),
            Some(left) => human_duration(left),
        }
    }

    fn to_json(&self, now: Timestamp) -> serde_json::Value {
        json!({
            "profile": self.name,
            "kind": self.kind.as_str(),
            "user": self.user,
            "expiration": self.expiration.map(|at| at.to_string()),
            "seconds_left": self.expiration.map(|at| at.seconds_after(now).max(0)),
            "notes": self.notes,
        })
    }
}

fn table(rows: &[Row], now: Timestamp) -> String {
    let cells: Vec<[String; 5]> = rows
        .iter()
        .map(|row| {
            // Another program may have written it, so it must not control the terminal.
            let user = row.user.as_deref().unwrap_or("-").replace(char::is_control, "?");
            [printable(&row.name), row.kind.as_str().into(), user, row.time_left(now), row.notes.join(", ")]
        })
        .collect();
    let header = ["PROFILE", "KIND", "IAM USER", "TIME LEFT", ""].map(str::to_owned);
    let mut widths = [0; 5];
    for line in std::iter::once(&header).chain(&cells) {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for line in std::iter::once(&header).chain(&cells) {
        let padded: Vec<String> =
            line.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(padded.join("  ").trim_end());
        text.push('\n');
    }
    text
}
