//! The code of an MFA device.

use iam_sorry_aws::issue::Mfa;

use crate::app::App;
use crate::error::Result;
use crate::profile::Profile;
use crate::terminal;

/// The MFA device of a profile, if it has one, with a code from the command line or a prompt.
pub fn mfa(app: &App, profile: &Profile) -> Result<Option<Mfa>> {
    let Some(serial) = profile.setting("mfa_serial") else { return Ok(None) };
    let code = terminal::mfa_code(app, serial)?;
    Ok(Some(Mfa { serial: serial.to_owned(), code: code.into() }))
}
