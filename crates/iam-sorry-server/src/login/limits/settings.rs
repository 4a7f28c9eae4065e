//! `[login.limits]`

use serde::Deserialize;

use crate::login::error::SettingsError;

/// `[login.limits]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitSettings {
    /// Failures in a row for one name from one address.
    pub failures_per_name: u32,
    /// Failures in a row for one name from all addresses together that the person has not signed in from lately. Keep it below
    /// the directory's own lock-out.
    pub failures_from_unknown_addresses: u32,
    /// Failures in a row from one address (of IPv6: one /64): of passwords, whatever the names; of each SSH key.
    pub failures_per_address: u32,
    /// After which time one failure is forgotten.
    pub forget_seconds: u32,
    /// Challenges for SSH keys a second from one address; ten times as many at once.
    pub challenges_per_second: u32,
    /// A refusal comes no sooner than this, whatever was wrong.
    pub refusal_milliseconds: u32,
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self {
            failures_per_name: 5,
            failures_from_unknown_addresses: 20,
            failures_per_address: 50,
            forget_seconds: 30,
            challenges_per_second: 100,
            refusal_milliseconds: 400,
        }
    }
}

impl LimitSettings {
    /// # Errors
    /// [`SettingsError`] for numbers that would let nobody in, or hold them for ever.
    pub fn check(&self) -> Result<(), SettingsError> {
        for (setting, value, most) in [
            ("failures_per_name", self.failures_per_name, 1000),
            ("failures_from_unknown_addresses", self.failures_from_unknown_addresses, 4000),
            ("failures_per_address", self.failures_per_address, 100_000),
            ("forget_seconds", self.forget_seconds, 3600),
            ("challenges_per_second", self.challenges_per_second, 100_000),
        ] {
            if !(1..=most).contains(&value) {
                let setting = format!("login.limits.{setting}");
                return Err(SettingsError::new(&setting, &format!("give 1 to {most}")));
            }
        }
        if self.refusal_milliseconds > 5000 {
            return Err(SettingsError::new("login.limits.refusal_milliseconds", "give 0 to 5000"));
        }
        Ok(())
    }
}
