//! Sealed values: a credential at rest, which only a holder of the right SSH key can open.
//!
//! docs/sealed-format-v2.md is the contract. The order of work for a caller:
//! [`parse`] every field; [`one_envelope`] says whether a profile's fields belong together; for one recipient,
//! [`Header::to_be_signed`] is signed (by the agent or an unlocked key); [`Header::unwrap`] turns the signature into a
//! [`DataKey`], which opens all values with the same salt. To seal: [`NewEnvelope`], or [`Envelope::of_opened`] for
//! more values under an old one.

mod envelope;
mod format;
mod legacy;

use crate::ssh::KeyId;

pub use envelope::{DataKey, Envelope, FreshKeyMaterial, NewEnvelope, Nonce};
pub use format::{Header, SealedValue};
pub use legacy::LegacyValue;

/// What every value that is not plain starts with.
pub const PREFIX: &str = "__encrypted__:";
/// The namespace of our signatures: no SSH login and no git signature ever uses it.
pub const NAMESPACE: &str = "seal-v2@iam-sorry";
/// The most bytes that one value may hold.
pub const MAX_PLAINTEXT: usize = 16 * 1024;
/// The most keys that one envelope may be sealed for.
pub const MAX_RECIPIENTS: usize = 16;

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

/// A profile's section name, exactly as written, and a field's name, in lower case: what a value is bound to.
pub type Place = (String, String);

/// What can be wrong with sealed values. No text says anything about the content.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Truncated, not base64, or of an impossible length. Nobody needs to be asked for a passphrase.
    #[error(
        "the sealed value is corrupt ({0})\nRestore it from a backup of the file, or enter the credentials again and seal them"
    )]
    Corrupt(&'static str),
    /// A later `vN`, or a later suite.
    #[error(
        "the value was sealed by a newer iam-sorry ({0})\nUpdate this one: pip install --upgrade iam-sorry"
    )]
    Newer(String),
    /// The signature is not one of this key over this message: nothing was opened with it.
    #[error("the signature for {0} does not verify: the SSH agent or the key file is faulty")]
    BadSignature(KeyId),
    /// The key is not among the recipients.
    #[error("the value is not sealed for the key {0}")]
    NotARecipient(KeyId),
    /// A valid signature, but it is not the one that the value was sealed with.
    #[error(
        "the key {0} signs correctly, but its signature does not unlock the value\nEither the sealed value was tampered with, or the key's signatures are not deterministic: unload it from the agent (ssh-add -d) to use the key file instead"
    )]
    UnwrapFailed(KeyId),
    /// The data key is right, the value doesn't fit it under this name.
    #[error("{}", tampered_text(.place, .sealed_as))]
    TamperedOrMoved {
        /// Where it was found.
        place: Place,
        /// Where it belongs, if that is known.
        sealed_as: Option<Place>,
    },
    /// Fields of one profile from different envelopes.
    #[error(
        "the sealed fields of the profile come from different sealings ({0}): mixed, possibly an old value put back\nIf you did not do this, restore the file from a backup and rotate the AWS key"
    )]
    Mixed(String),
    /// A legacy value beside v2 values in one profile.
    #[error(
        "the profile holds old-format (v1) and v2 sealed values side by side ({0}): mixed, possibly an old value put back\nIf you did not do this, restore the file from a backup and rotate the AWS key"
    )]
    MixedWithLegacy(String),
    /// The legacy value doesn't open with this key file.
    #[error(
        "the old-format value can't be opened with this key file: it was sealed with another key, or the file has changed since (new passphrase, new comment)\nIf you have an old copy of the key file, give it: iam-sorry migrate --old-key FILE"
    )]
    LegacyFailed,
    /// Opened, but what is inside is no text.
    #[error("the sealed value was opened, but it is not text")]
    NotText,
    /// Over [`MAX_PLAINTEXT`].
    #[error("the value has {0} bytes, more than the {MAX_PLAINTEXT} that can be sealed")]
    TooLong(usize),
    /// Not 1 to [`MAX_RECIPIENTS`] keys.
    #[error("{0} keys were given to seal for: 1 to {MAX_RECIPIENTS} are possible")]
    RecipientCount(usize),
    /// The same key twice.
    #[error("the value is already sealed for the key {0}")]
    AlreadyARecipient(KeyId),
    /// Sealed, by an older version, for a key of small order: opened by the others, but nothing more is sealed so.
    #[error(
        "the profile is sealed for the key {0}, for which anybody can sign: whoever reads the file can open it\nTake that key out: iam-sorry recipients remove PROFILE {0}\nthen rotate the AWS key"
    )]
    WeakRecipient(KeyId),
    /// [`NewEnvelope::finish`] before every recipient has signed.
    #[error("the key {0} has not signed yet")]
    SignatureMissing(KeyId),
    /// A data key and a value that don't belong together: a mistake of the caller.
    #[error("the value belongs to another envelope")]
    OtherEnvelope,
    /// The cryptographic library failed where it can't.
    #[error("the cryptographic library failed")]
    Crypto,
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

fn tampered_text((profile, field): &Place, sealed_as: &Option<Place>) -> String {
    let what = format!("the sealed {field} of profile '{profile}' was tampered with or moved");
    match sealed_as {
        Some((p, f)) if p == profile => {
            format!(
                "{what}: it was sealed as {f}\nPut the fields back in their places, or restore the file from a backup"
            )
        }
        Some((p, f)) if f == field => format!(
            "{what}: it was sealed for profile '{p}'\nIf you renamed the profile, bind its values to the new name: iam-sorry reseal '{profile}' --was '{p}'"
        ),
        Some((p, f)) => {
            format!(
                "{what}: it was sealed as {f} of profile '{p}'\nPut it back in its place, or restore the file from a backup"
            )
        }
        None => format!(
            "{what}\nIf you renamed the profile, bind its values to the new name: iam-sorry reseal '{profile}' --was OLD\nelse restore the file from a backup and rotate the AWS key"
        ),
    }
}
