//! Sealed values in a profile's section: sealed for the SSH keys that open it, and written only if the section is
//! unchanged.

use iam_sorry_core::aws_files::Document;
use iam_sorry_core::seal::{self, Value};
use secrecy::SecretString;

use crate::app::App;
use crate::error::{Error, Result};
use crate::profile::{Profile, SEALABLE};

/// A value and the field that will hold it.
pub type Target = (&'static str, SecretString);

/// Seals values for profile `name`: for the recipients of what `profile` already holds sealed (a recipient whose key is
/// absent must not lose access), else for the person's own key.
pub fn seal(
    app: &App,
    name: &str,
    profile: Option<&Profile>,
    targets: &[Target],
) -> Result<Vec<(&'static str, String)>> {
    let is_sealed = |value: &str| matches!(seal::parse(value), Ok(Value::Sealed(_)));
    let mut current = profile.map(Profile::sealed_fields).unwrap_or_default();
    current.retain(|(_, value)| is_sealed(value));
    let sealed = if current.is_empty() {
        let to_seal: Vec<(&str, &str, &SecretString)> =
            targets.iter().map(|(field, value)| (name, *field, value)).collect();
        app.keyring(|k| k.seal_fields(&to_seal))?
    } else {
        let new: Vec<(&str, &SecretString)> = targets.iter().map(|(field, value)| (*field, value)).collect();
        app.keyring(|k| k.replace_fields(name, &current, &new))?
    };
    Ok(targets.iter().map(|(field, _)| *field).zip(sealed).collect())
}

/// Puts sealed values into a section.
pub fn store(document: &mut Document, name: &str, sealed: &[(&'static str, String)]) -> Result<()> {
    for (field, value) in sealed {
        document.set(name, field, value)?;
    }
    Ok(())
}

/// Fails unless the section still holds the values that were opened: another program may have written it since.
pub fn check_unchanged(document: &Document, profile: &Profile) -> Result<()> {
    if SEALABLE
        .iter()
        .all(|field| document.value(&profile.name, field).filter(|v| !v.is_empty()) == profile.field(field))
    {
        return Ok(());
    }
    Err(changed_meanwhile(&profile.name))
}

pub fn changed_meanwhile(name: &str) -> Error {
    Error::other(format!("Profile '{name}' was changed by another program meanwhile; nothing was written"))
        .hint("Run the command again")
}
