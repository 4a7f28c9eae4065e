//! What a form did, told at the top of the page that comes next (post, redirect, get). It travels in a cookie of a minute,
//! vouched for by the session, so that nobody else writes on our pages. Never a secret: those are shown by the answer
//! to the form itself.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use iam_sorry_core::api::Done;
use serde::{Deserialize, Serialize};

use super::tokens;
use super::views::Flash;

const PURPOSE: &str = "note";
/// Of the text, so that with base64 and the tag a cookie holds it.
const MOST_BYTES: usize = 2600;

#[derive(Serialize, Deserialize)]
struct Packed {
    good: bool,
    title: String,
    lines: Vec<String>,
    reasons: Vec<String>,
}

impl Flash {
    /// What an action says of itself. `done` is its sentence where something changed, such as `dirk-x was created.`
    pub fn of(outcome: Done, dry_run: bool, done: String) -> Self {
        let (tone, title) = match (dry_run, outcome.changed) {
            (true, _) => ("", "Checked only: it is allowed, and nothing was changed.".to_owned()),
            (false, true) => ("good", done),
            (false, false) => ("", "Nothing had to be changed.".to_owned()),
        };
        Self { tone, title, lines: outcome.notes, reasons: outcome.reasons }
    }

    /// A sentence without more.
    pub fn plain(title: impl Into<String>) -> Self {
        Self { tone: "good", title: title.into(), ..Self::default() }
    }

    /// For the cookie. Where there is too much to say, the last lines are counted instead.
    pub(super) fn pack(&self, secret: &str) -> Option<String> {
        let mut packed = Packed {
            good: self.tone == "good",
            title: self.title.clone(),
            lines: self.lines.clone(),
            reasons: self.reasons.clone(),
        };
        let mut dropped = 0;
        let text = loop {
            let text = serde_json::to_string(&packed).ok()?;
            if text.len() <= MOST_BYTES {
                break text;
            }
            if dropped > 0 {
                packed.lines.pop();
            }
            if packed.lines.pop().is_none() && packed.reasons.pop().is_none() {
                return None;
            }
            dropped += 1;
            packed.lines.push(format!("and {dropped} more; the audit trail has them all"));
        };
        let payload = URL_SAFE_NO_PAD.encode(text);
        let tag = tokens::vouch(secret, PURPOSE, &payload);
        Some(format!("{payload}.{tag}"))
    }

    /// From the cookie; none where this session did not write it.
    pub(super) fn unpack(secret: &str, cookie: &str) -> Option<Self> {
        let (payload, tag) = cookie.split_once('.')?;
        if !tokens::vouched(secret, PURPOSE, payload, tag) {
            return None;
        }
        let packed: Packed = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
        let tone = if packed.good { "good" } else { "" };
        Some(Self { tone, title: packed.title, lines: packed.lines, reasons: packed.reasons })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_comes_back_as_it_was_and_only_to_its_session() {
        let note = Flash {
            tone: "good",
            title: "dirk-x was deleted.".into(),
            lines: vec!["2 keys".into()],
            reasons: vec!["rule \"a;b\"".into()],
        };
        let cookie = note.pack("secret").unwrap();
        assert_eq!(Flash::unpack("secret", &cookie), Some(note));
        assert_eq!(Flash::unpack("other", &cookie), None);
        for forged in ["", ".", "e30.", &cookie[1..], &cookie[..cookie.len() - 1]] {
            assert_eq!(Flash::unpack("secret", forged), None, "{forged}");
        }
    }

    #[test]
    fn a_long_note_still_fits_a_cookie_and_says_what_is_missing() {
        let lines: Vec<String> = (0..200).map(|n| format!("access key AKIA{n:016} was deleted")).collect();
        let cookie = Flash { lines, ..Flash::plain("gone") }.pack("secret").unwrap();
        assert!(cookie.len() < 3800, "{}", cookie.len());
        let note = Flash::unpack("secret", &cookie).unwrap();
        let kept = note.lines.len() - 1;
        assert!(kept > 30, "{kept}");
        assert_eq!(note.lines[kept], format!("and {} more; the audit trail has them all", 200 - kept));
        let huge =
            Flash { lines: vec!["x".repeat(9000)], reasons: vec!["y".repeat(9000)], ..Flash::plain("t") };
        assert!(huge.pack("secret").unwrap().len() < 3800);
    }
}
