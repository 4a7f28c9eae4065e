//! The one spelling of a record: a subset of RFC 8785 (JSON Canonicalization Scheme).
//!
//! Strings, integers, arrays and objects; keys sorted; no space; what is absent is left out, so there is no null. Keys
//! are sorted by code point, which for ours, all ASCII, is the order of RFC 8785, section 3.2.3. Any JSON library that sorts keys and escapes no more than it must writes the same bytes, which makes the trail checkable
//! by anybody (`json.dumps(x, sort_keys=True, separators=(",", ":"), ensure_ascii=False)` in Python).

use aws_lc_rs::digest;
use std::fmt::Write as _;

/// An object under construction. Keys are given in their sorted order; debug builds check that.
pub(super) struct Object<'a> {
    out: &'a mut String,
    last: &'static str,
}

impl<'a> Object<'a> {
    pub(super) fn open(out: &'a mut String) -> Self {
        out.push('{');
        Self { out, last: "" }
    }

    pub(super) fn close(self) {
        self.out.push('}');
    }

    pub(super) fn string(&mut self, key: &'static str, value: &str) -> &mut Self {
        string(self.key(key), value);
        self
    }

    pub(super) fn optional(&mut self, key: &'static str, value: Option<&str>) -> &mut Self {
        if let Some(value) = value {
            self.string(key, value);
        }
        self
    }

    pub(super) fn integer(&mut self, key: &'static str, value: impl Into<i128>) -> &mut Self {
        let _ = write!(self.key(key), "{}", value.into()); // a String takes everything
        self
    }

    /// A text that is left out where it is empty.
    pub(super) fn nonempty(&mut self, key: &'static str, value: &str) -> &mut Self {
        self.optional(key, Some(value).filter(|value| !value.is_empty()))
    }

    /// A list that is left out where it is empty.
    pub(super) fn strings(&mut self, key: &'static str, values: &[String]) -> &mut Self {
        if !values.is_empty() {
            strings(self.key(key), values);
        }
        self
    }

    /// An object of strings, whose keys come in their sorted order.
    pub(super) fn pairs<K: AsRef<str>, V: AsRef<str>>(
        &mut self,
        key: &'static str,
        values: impl IntoIterator<Item = (K, V)>,
    ) -> &mut Self {
        let out = self.key(key);
        out.push('{');
        for (index, (key, value)) in values.into_iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            string(out, key.as_ref());
            out.push(':');
            string(out, value.as_ref());
        }
        out.push('}');
        self
    }

    /// Writes the key; what is pushed next is its value.
    pub(super) fn key(&mut self, key: &'static str) -> &mut String {
        debug_assert!(self.last < key, "{key} comes before {}", self.last);
        if !self.last.is_empty() {
            self.out.push(',');
        }
        self.last = key;
        string(self.out, key);
        self.out.push(':');
        self.out
    }
}

/// A list of strings.
pub(super) fn strings(out: &mut String, values: &[String]) {
    out.push('[');
    for (index, value) in values.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        string(out, value);
    }
    out.push(']');
}

/// RFC 8785, section 3.2.2.2: the short escapes where there is one, `\u00xx` for other controls, nothing else.
pub(super) fn string(out: &mut String, text: &str) {
    out.push('"');
    let mut rest = text;
    // By bytes, not characters: whatever is escaped is ASCII.
    while let Some(at) = rest.bytes().position(|byte| byte < b' ' || byte == b'"' || byte == b'\\') {
        out.push_str(&rest[..at]);
        let escaped = rest.as_bytes()[at];
        match escaped {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            0x08 => out.push_str("\\b"),
            b'\t' => out.push_str("\\t"),
            b'\n' => out.push_str("\\n"),
            0x0c => out.push_str("\\f"),
            b'\r' => out.push_str("\\r"),
            control => {
                let _ = write!(out, "\\u{control:04x}"); // a String takes everything
            }
        }
        rest = &rest[at + 1..];
    }
    out.push_str(rest);
    out.push('"');
}

/// Lower-case hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut out = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        out.push(char::from(DIGITS[usize::from(byte >> 4)]));
        out.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
    out
}

/// Reads what [`hex`] writes, and no other spelling.
pub(super) fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let text = text.as_bytes();
    if text.len() != 2 * N {
        return None;
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(out)
}

/// SHA-256 of the bytes behind a tag, which keeps it apart from every other use of SHA-256.
pub(super) fn sha256(tag: &[u8], bytes: &[u8]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(tag);
    context.update(bytes);
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}
