//! Text from outside, on its way into a message.

use std::error::Error;

/// What lies at the bottom of a chain of errors says the most ("Connection refused").
pub(crate) fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut last = error;
    while let Some(next) = last.source() {
        last = next;
    }
    last.to_string()
}

/// Text from outside, fit for a terminal: one line, no control characters, not endless.
pub(crate) fn clean(text: &str) -> String {
    let one_line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(600).collect();
    one_line.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_from_outside_cannot_drive_the_terminal() {
        assert_eq!(clean("a\u{1b}[2Jb\nc\r"), "a [2Jb c");
        assert_eq!(clean(&"x".repeat(10_000)).len(), 600);
    }
}
