//! Where a person goes next. Only ever a place of ours: an open redirect is a phisher's best link.

/// Where signing in leads without any wish.
pub const HOME: &str = "/credentials";

/// The wish, if it is a local address; [`HOME`] otherwise. Browsers read `\` as `/` and drop tabs and newlines (WHATWG
/// URL, 4.4), so that `/\evil.example` and `/<TAB>/evil.example` lead away; nothing but plain path and query is local.
pub fn local(wish: &str) -> &str {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/-_.~%?=&+:@,".contains(&b);
    let starts = wish.starts_with('/') && !wish.starts_with("//");
    let ends_nowhere = ["/sign-in", "/sign-out", "/signed-out"];
    let loops = ends_nowhere.iter().any(|place| wish.starts_with(place));
    if starts && !loops && wish.len() <= 1024 && wish.bytes().all(plain) { wish } else { HOME }
}

/// Percent-encodes one part of a path or one value of a query (RFC 3986, 2.3: what is not unreserved).
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// The page of an IAM user.
pub fn user(name: &str) -> String {
    format!("/namespace/users/{}", encode(name))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_local_places_are_gone_to() {
        for good in ["/audit", "/audit?person=dirk&from=2026-11-01", "/namespace/users/dirk-x", "/audit/17"] {
            assert_eq!(local(good), good);
        }
        for bad in [
            "",
            "audit",
            "//evil.example",
            "/\\evil.example",
            "/\t/evil.example",
            "https://evil.example",
            "/x\r\nA: b",
            "javascript:alert(1)",
            "\\\\evil.example",
            "/sign-out",
            "/sign-in?next=/sign-in",
            "/ä",
            "/a#b",
            " /audit",
        ] {
            assert_eq!(local(bad), HOME, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_leads_away(wish in "[/\\\\\t\n :.@a-z#?%]{0,12}") {
            let place = local(&wish);
            prop_assert!(place.starts_with('/') && !place.starts_with("//") && !place.contains('\\'));
            prop_assert!(place.bytes().all(|b| b > b' ' && b < 127));
        }

        #[test]
        fn what_is_encoded_is_one_plain_part(text in any::<String>()) {
            prop_assert!(encode(&text).bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.~%".contains(&b)));
        }
    }
}
