//! The part of a file that speaks of one profile, for readers who want nothing else: of a thousand profiles they pay for
//! one. What is left out is only what can be seen at a glance to be sound, so that the rest is refused as ever.

use zeroize::Zeroizing;

/// The sections whose line holds the profile's name (or could, in quotes), with every byte of theirs. `None` where a line
/// needs a closer look: then the whole file has to be read.
pub(super) fn sections_about(text: &str, profile: &str) -> Option<Zeroizing<String>> {
    let mut part = Zeroizing::new(String::new());
    let (mut in_section, mut wanted) = (false, false);
    for line in text.split_inclusive('\n') {
        let said = line.trim_ascii_end();
        if said.starts_with('[') {
            in_section = true;
            wanted = said.contains(profile) || said.contains(['"', '\'', '\\']);
            if !wanted && (!said.ends_with(']') || has_comment(said)) {
                return None;
            }
        } else if !wanted && !is_plain(said, in_section) {
            return None;
        }
        if wanted {
            // Grown by hand: a buffer that moved would leave a copy of secrets unwiped.
            if part.capacity() - part.len() < line.len() {
                let mut larger = Zeroizing::new(String::with_capacity(2 * (part.len() + line.len()) + 512));
                larger.push_str(&part);
                part = larger;
            }
            part.push_str(line);
        }
    }
    Some(part)
}

/// Nothing, a comment, or `key = value` with neither comment nor blanks before it.
fn is_plain(said: &str, in_section: bool) -> bool {
    match said.as_bytes() {
        [] | [b'#' | b';', ..] => true,
        [b'a'..=b'z', rest @ ..] => in_section && rest.contains(&b'=') && !has_comment(said),
        _ => false,
    }
}

/// Counted, not searched: the compiler does sixteen bytes at a time.
fn has_comment(said: &str) -> bool {
    said.bytes().filter(|byte| matches!(byte, b'#' | b';')).count() > 0
}
