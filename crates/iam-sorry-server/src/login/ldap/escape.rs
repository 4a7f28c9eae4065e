//! Names on their way into filters, and DNs on their way out: each escaped in its own way, and compared as directories
//! compare them.

use std::fmt::Write as _;

use unicode_normalization::UnicodeNormalization as _;

/// A login name as somebody typed it, with nothing in it that could hide what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LoginName(String);

impl LoginName {
    /// Spaces around are not part of a name (RFC 4518, section 2.6.1). None where it can't be one: empty, over 256
    /// bytes, or with control characters or characters that are not seen (which directories drop before they compare,
    /// RFC 4518, section 2.2, so that one person would have many names).
    pub fn parse(typed: &str) -> Option<Self> {
        let name = typed.trim();
        let good =
            !name.is_empty() && name.len() <= 256 && !name.chars().any(|c| c.is_control() || unseen(c));
        good.then(|| Self(name.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A value as it may stand in a filter (RFC 4515, section 3). What is neither letter nor digit is escaped, so there is
/// no list of dangerous characters to forget one on.
pub(super) fn in_filter(value: &str) -> String {
    bytes_in_filter(value.as_bytes())
}

/// The same for bytes.
pub(super) fn bytes_in_filter(value: &[u8]) -> String {
    let mut out = String::with_capacity(value.len() * 2);
    for byte in value {
        if byte.is_ascii_alphanumeric() {
            out.push(char::from(*byte));
        } else {
            // Writing to a String can't fail.
            let _ = write!(out, "\\{byte:02x}");
        }
    }
    out
}

/// A name as directories compare names (caseIgnoreMatch): case folded, spaces around dropped and inner ones single.
pub(super) fn fold(name: &str) -> String {
    name.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}

/// A login name as directories compare them, whatever letters it is spelled with: full-width ones are the plain ones (RFC
/// 4518, section 2.3).
pub(super) fn fold_login(name: &str) -> String {
    let normal = |text: &str| text.nfkc().collect::<String>();
    fold(&normal(&normal(name).to_lowercase()))
}

/// The value of a DN's first RDN where that RDN has one attribute only (RFC 4514, section 3), unescaped and folded.
pub(super) fn first_value(dn: &str) -> Option<(String, String)> {
    let (attribute, rest) = dn.split_once('=')?;
    let mut bytes = Vec::new();
    let mut input = rest.bytes().peekable();
    while let Some(byte) = input.next() {
        match byte {
            b',' => break,
            b'+' => return None,
            b'\\' => match (input.next()?, input.peek().copied()) {
                (high, Some(low)) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                    input.next();
                    let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
                    bytes.push(digit(high)? << 4 | digit(low)?);
                }
                (other, _) => bytes.push(other),
            },
            other => bytes.push(other),
        }
    }
    let value = fold(&String::from_utf8(bytes).ok()?);
    (!value.is_empty() && !value.starts_with('#')).then(|| (attribute.trim().to_lowercase(), value))
}

/// Zero-width characters, direction marks, soft hyphens, variation selectors, the byte order mark, private use.
fn unseen(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
        | '\u{fff0}'..='\u{ffff}' | '\u{e000}'..='\u{f8ff}' | '\u{e0000}'..='\u{10ffff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_that_hide_something_are_none() {
        assert_eq!(LoginName::parse(" Alice ").unwrap().as_str(), "Alice");
        let long = "x".repeat(257);
        for bad in ["", "  ", "a\0", "a\nb", "ali\u{200b}ce", "a\u{202e}b", "\u{feff}a", "a\u{ad}b", &long] {
            assert!(LoginName::parse(bad).is_none(), "{bad:?}");
        }
        assert!(LoginName::parse("jürgen").is_some());
    }

    #[test]
    fn spellings_of_one_login_name() {
        for name in ["alice", " ALICE", "\u{ff41}\u{ff2c}ice", "al\u{2170}ce"] {
            assert_eq!(fold_login(name), "alice", "{name}");
        }
        assert_eq!(fold_login("J\u{fc}rgen"), fold_login("ju\u{308}rgen"));
        assert_ne!(fold_login("jurgen"), fold_login("j\u{fc}rgen"));
    }

    #[test]
    fn the_first_value_of_a_dn() {
        let value = |dn: &str| first_value(dn).map(|(_, value)| value);
        assert_eq!(value("cn=Admins,ou=groups").as_deref(), Some("admins"));
        assert_eq!(value("CN=Smith\\, Ann \\28x\\29,DC=a").as_deref(), Some("smith, ann (x)"));
        assert_eq!(value("cn=b\\c3\\bcro,dc=a").as_deref(), Some("büro"));
        for dn in ["", "cn", "cn=", "cn=a+uid=b,dc=x", "cn=#0401,dc=x", "cn=\\ff,dc=x", "cn=a\\"] {
            assert_eq!(value(dn), None, "{dn}");
        }
    }

    proptest! {
        /// Whatever is typed, the filter is one equality with exactly that value (CVE class of GHSA-6mwx).
        #[test]
        fn nothing_gets_out_of_its_place_in_a_filter(value in any::<String>()) {
            let escaped = in_filter(&value);
            let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'\\';
            prop_assert!(escaped.bytes().all(plain));
            let filter = ["(uid=", &escaped, ")"].concat();
            prop_assert!(ldap3::parse_filter(filter).is_ok() || value.is_empty());
            let back = ldap3::ldap_unescape(escaped.as_str()).unwrap();
            prop_assert_eq!(back.as_ref(), value.as_str());
        }

        #[test]
        fn folding_twice_is_folding_once(value in any::<String>()) {
            // Some letters fold to two (İ), whose parts fold no further.
            prop_assert_eq!(fold(&fold(&value)), fold(&value));
        }

        #[test]
        fn any_dn_is_read_without_harm(dn in any::<String>()) {
            let _ = first_value(&dn);
        }
    }
}
