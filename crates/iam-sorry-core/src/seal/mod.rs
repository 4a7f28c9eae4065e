//! Sealed values: a credential at rest, which only a holder of the right SSH key can open.
//!
//! docs/sealed-format-v2.md is the contract. The order of work for a caller:
//! [`parse`] every field; [`one_envelope`] says whether a profile's fields belong together; for one recipient,
//! [`Header::to_be_signed`] is signed (by the agent or an unlocked key); [`Header::unwrap`] turns the signature into a
//! [`DataKey`], which opens all values with the same salt. To seal: [`NewEnvelope`], or [`Envelope::of_opened`] for
//! more values under an old one.

mod envelope;
mod error;
mod format;
mod legacy;
mod limits;

pub use envelope::{DataKey, Envelope, FreshKeyMaterial, NewEnvelope, Nonce};
pub use error::{Place, SealError};
pub use format::{Header, SealedValue};
pub use legacy::LegacyValue;
pub use limits::{MAX_PLAINTEXT, MAX_RECIPIENTS, NAMESPACE, PREFIX};

/// The value of a field in a credentials file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Not sealed.
    Plain,
    /// Sealed by the original tool: readable by whoever can read the SSH key file, without its passphrase.
    Legacy(LegacyValue),
    /// Sealed in format v2.
    Sealed(SealedValue),
}

/// Reads the value of a field. Anything without the prefix is [`Value::Plain`].
///
/// # Errors
/// [`SealError::Corrupt`] and [`SealError::Newer`].
pub fn parse(text: &str) -> Result<Value, SealError> {
    let Some(rest) = text.strip_prefix(PREFIX) else {
        // No AWS key holds these; with one character of the prefix damaged, one of the halves is still there.
        if text.contains("__encryp") || text.contains("ted__:") {
            return Err(SealError::Corrupt("its prefix is damaged"));
        }
        return Ok(Value::Plain);
    };
    if let Some(body) = rest.strip_prefix("v2.") {
        return SealedValue::parse_body(body).map(Value::Sealed);
    }
    // A legacy value never holds a '.', so the two can't be confused.
    let Some((version, _)) = rest.split_once('.') else {
        return LegacyValue::parse_body(rest).map(Value::Legacy);
    };
    let is_version = version
        .strip_prefix('v')
        .is_some_and(|n| (1..=4).contains(&n.len()) && n.bytes().all(|b| b.is_ascii_digit()));
    if is_version {
        return Err(SealError::Newer(format!("format {version}")));
    }
    Err(SealError::Corrupt("it names no format version"))
}

/// Checks that the sealed fields of one profile come from one sealing; old values put back one by one show here.
///
/// # Errors
/// [`SealError::Mixed`] and [`SealError::MixedWithLegacy`], with the names of the fields that differ.
pub fn one_envelope<'a>(fields: impl IntoIterator<Item = (&'a str, &'a Value)>) -> Result<(), SealError> {
    let (mut sealed, mut legacy) = (Vec::new(), Vec::new());
    for (name, value) in fields {
        match value {
            Value::Plain => {}
            Value::Legacy(_) => legacy.push(name),
            Value::Sealed(value) => sealed.push((name, value)),
        }
    }
    let Some((first, rest)) = sealed.split_first() else { return Ok(()) };
    if !legacy.is_empty() {
        return Err(SealError::MixedWithLegacy(legacy.join(", ")));
    }
    let others: Vec<_> =
        rest.iter().filter(|(_, v)| v.header() != first.1.header()).map(|(name, _)| *name).collect();
    if others.is_empty() {
        Ok(())
    } else {
        Err(SealError::Mixed(format!("{} and {}", first.0, others.join(", "))))
    }
}
