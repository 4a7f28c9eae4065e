//! What can be wrong with sealed values. No text says anything about the content.

use super::limits::{MAX_PLAINTEXT, MAX_RECIPIENTS};
use crate::ssh::KeyId;

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
