//! Distinguished names of LDAP (RFC 4514), written one way, so that two spellings of one name are one text.

/// A name as directories compare names (caseIgnoreMatch, RFC 4518 section 2.6): lower case, spaces at the ends dropped,
/// inner ones made one.
pub fn fold_text(text: &str) -> String {
    let mut folded = String::with_capacity(text.len());
    for word in text.split_whitespace() {
        if !folded.is_empty() {
            folded.push(' ');
        }
        folded.extend(word.chars().flat_map(char::to_lowercase));
    }
    folded
}

/// The DN folded: attribute types and values as [`fold_text`] has them, no spaces around `,`, `+` and `=`, every character
/// that needs an escape written as `\xx`. None for what is no DN: without `=` in each part, or with a broken escape.
pub fn fold(dn: &str) -> Option<String> {
    let mut folded = String::with_capacity(dn.len());
    for part in split(dn)? {
        if !folded.is_empty() {
            folded.push(',');
        }
        let mut values = part.iter().map(|value| one(value)).collect::<Option<Vec<_>>>()?;
        // The parts of one RDN are a set (RFC 4514, section 2.2).
        values.sort();
        folded.push_str(&values.join("+"));
    }
    (!folded.is_empty()).then_some(folded)
}

/// RDNs, each as its `type=value` texts, still escaped.
fn split(dn: &str) -> Option<Vec<Vec<String>>> {
    let (mut parts, mut part, mut value) = (Vec::new(), Vec::new(), String::new());
    let mut characters = dn.chars();
    while let Some(c) = characters.next() {
        match c {
            '\\' => value.extend(['\\', characters.next()?]),
            '+' => part.push(std::mem::take(&mut value)),
            // RFC 2253 still wrote semicolons.
            ',' | ';' => {
                part.push(std::mem::take(&mut value));
                parts.push(std::mem::take(&mut part));
            }
            other => value.push(other),
        }
    }
    part.push(value);
    parts.push(part);
    Some(parts)
}

fn one(text: &str) -> Option<String> {
    let (kind, value) = text.split_once('=')?;
    let kind = kind.trim().to_ascii_lowercase();
    if kind.is_empty() || !kind.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.')) {
        return None;
    }
    let mut out = kind + "=";
    for c in fold_text(&unescape(value)?).chars() {
        if matches!(c, ',' | '+' | '"' | '\\' | '<' | '>' | ';' | '=' | '#') || c.is_control() {
            let mut buffer = [0; 4];
            c.encode_utf8(&mut buffer).bytes().for_each(|byte| out.push_str(&format!("\\{byte:02x}")));
        } else {
            out.push(c);
        }
    }
    Some(out)
}

fn unescape(value: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(value.len());
    let mut input = value.bytes().peekable();
    while let Some(byte) = input.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        let next = input.next()?;
        let digit = |b: u8| char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok());
        match (digit(next), input.peek().copied().and_then(digit)) {
            (Some(high), Some(low)) => {
                input.next();
                bytes.push(high << 4 | low);
            }
            _ => bytes.push(next),
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn spellings_of_one_dn_are_one_text() {
        let one = "cn=lab dirk,ou=groups,dc=example,dc=org";
        for text in [
            one,
            "CN=Lab  Dirk, OU=Groups, DC=example, DC=org",
            " cn = lab dirk ;ou=groups;dc=example;dc=org ",
            "cn=lab\\20dirk,ou=groups,dc=example,dc=org",
        ] {
            assert_eq!(fold(text).as_deref(), Some(one), "{text}");
        }
        assert_eq!(fold("CN=Smith\\, Ann,DC=a").as_deref(), Some("cn=smith\\2c ann,dc=a"));
        assert_eq!(fold("cn=Smith\\2C Ann,dc=a"), fold("CN=Smith\\, Ann,DC=a"));
        assert_eq!(fold("uid=a+cn=b,dc=x").as_deref(), Some("cn=b+uid=a,dc=x"));
        assert_eq!(fold("cn=b\\c3\\bcro,dc=a").as_deref(), Some("cn=büro,dc=a"));
        for text in ["", "lab-dirk", "cn=a,b", "cn=a\\", "cn=\\ff", "=a", "a b=c", "cn=a,,dc=b"] {
            assert_eq!(fold(text), None, "{text}");
        }
    }

    /// A value that holds what separates values does not become another DN.
    #[test]
    fn what_is_escaped_stays_inside_its_value() {
        assert_ne!(fold("cn=x\\,ou=a,dc=b"), fold("cn=x,ou=a,dc=b"));
        assert_ne!(fold("cn=x\\+uid=a,dc=b"), fold("cn=x+uid=a,dc=b"));
    }

    proptest! {
        #[test]
        fn folding_twice_is_folding_once(text in "[a-cA-C=,+\\\\ #0-9;é]{0,40}") {
            if let Some(once) = fold(&text) {
                prop_assert_eq!(fold(&once), Some(once.clone()));
            }
        }
    }
}
