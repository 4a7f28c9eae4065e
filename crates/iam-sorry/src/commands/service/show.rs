//! Prints responses: tables for people, JSON for scripts. Names come from elsewhere, so nothing in them may control the
//! terminal.

use iam_sorry_core::api::{Done, KeyInfo};
use serde::Serialize;

use crate::app::App;
use crate::error::Result;
use crate::output::printable;

/// Prints columns as wide as their widest cell; prints no table without rows.
pub fn table(app: &App, header: &[&str], rows: Vec<Vec<String>>) -> Result<()> {
    if rows.is_empty() {
        app.out.progress("Nothing to show: there is none, or none that the rules let you see.");
        return Ok(());
    }
    let clean = |cell: &str| {
        let cell = printable(cell).replace('\n', " ");
        if cell.is_empty() { "-".to_owned() } else { cell }
    };
    let lines: Vec<Vec<String>> = std::iter::once(header.iter().map(|h| (*h).to_owned()).collect())
        .chain(rows.into_iter().map(|row| row.iter().map(|cell| clean(cell)).collect()))
        .collect();
    let mut widths = vec![0; header.len()];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for line in &lines {
        let padded: Vec<String> =
            line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}", width = *width)).collect();
        text.push_str(padded.join("  ").trim_end());
        text.push('\n');
    }
    app.out.raw(&text)
}

/// Prints `name: value` lines with aligned values, without empty ones.
pub fn facts(app: &App, facts: &[(&str, String)]) -> Result<()> {
    let width = facts.iter().map(|(name, _)| name.len() + 1).max().unwrap_or(0);
    for (name, value) in facts.iter().filter(|(_, value)| !value.is_empty()) {
        let name = format!("{name}:");
        app.out.line(format!("{name:<width$}  {}", printable(value).replace('\n', " ")))?;
    }
    Ok(())
}

pub fn json(app: &App, value: &impl Serialize) -> Result<()> {
    app.out.line(serde_json::to_string_pretty(value).unwrap_or_default())
}

/// Prints what was done, or would be. The service's notes, and a dry run's reasons, go to stderr.
pub fn done(app: &App, what: &str, done: &Done, dry_run: bool) -> Result<()> {
    let what = match (dry_run, done.changed) {
        (true, _) => format!("Would be done: {what}"),
        (false, true) => what.to_owned(),
        (false, false) => format!("{what} (done already)"),
    };
    app.out.done(what)?;
    for note in &done.notes {
        app.out.progress(format!("  {}", printable(note)));
    }
    if dry_run {
        for reason in &done.reasons {
            app.out.progress(format!("  {}", printable(reason)));
        }
    }
    Ok(())
}

/// Prints the access keys of a user, with their rotations.
pub fn keys(app: &App, keys: &[KeyInfo]) -> Result<()> {
    let row = |key: &KeyInfo| {
        let (created, used) = (key.created_at.clone(), key.last_used_at.clone());
        vec![
            key.access_key_id.clone(),
            key.status.to_string(),
            created.unwrap_or_default(),
            used.unwrap_or("not known".into()),
            rotation_of(key),
        ]
    };
    let mut rows: Vec<Vec<String>> = keys.iter().map(row).collect();
    let mut header = vec!["KEY", "STATUS", "CREATED", "LAST USED", "ROTATION"];
    // The column is rarely needed.
    if rows.iter().all(|row| row[4].is_empty()) {
        header.truncate(4);
        rows.iter_mut().for_each(|row| row.truncate(4));
    }
    table(app, &header, rows)
}

/// What an unconfirmed rotation means for the key.
fn rotation_of(key: &KeyInfo) -> String {
    match (&key.replaces, &key.replaced_by, &key.deleted_after) {
        (Some(old), _, _) => format!("takes the place of {old}, not confirmed"),
        (_, Some(_), Some(at)) => format!("deleted after {at}"),
        (_, Some(new), None) => format!("replaced by {new}, not confirmed"),
        _ => String::new(),
    }
}
