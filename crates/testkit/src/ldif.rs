//! LDIF (RFC 2849) and distinguished names (RFC 4514) as the directory rigs write them: any value, however hostile.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

/// One `name:: base64` line: no value can be mistaken for anything else.
pub(crate) fn line(name: &str, value: impl AsRef<[u8]>) -> String {
    format!("{name}:: {}\n", BASE64_STANDARD.encode(value))
}

/// A value as it stands in a distinguished name: everything but plain letters and digits in hex (RFC 4514, 2.4).
pub(crate) fn escaped(value: &str) -> String {
    value
        .bytes()
        .map(|byte| {
            if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_') {
                char::from(byte).to_string()
            } else {
                format!("\\{byte:02X}")
            }
        })
        .collect()
}
