//! `[sessions]`: how long people stay signed in.

use serde::Deserialize;

use crate::login::SettingsError;

/// A session from the future: the clock was set back since. Small differences between machines are none. Milliseconds.
pub(crate) const SKEW_MS: i64 = 5 * 60_000;

/// `[sessions]`
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SessionSettings {
    /// A session that is not used for this long has ended.
    pub idle_minutes: u32,
    /// No session lasts longer, however much it is used.
    pub longest_hours: u32,
    /// How long ago a person who is signed in may have been looked up in their source: whoever was disabled there is out, and
    /// groups are as they are there.
    pub recheck_minutes: u32,
    /// How much longer sessions go on while the source can't be reached.
    pub recheck_grace_minutes: u32,
}

impl Default for SessionSettings {
    fn default() -> Self {
        Self { idle_minutes: 120, longest_hours: 12, recheck_minutes: 15, recheck_grace_minutes: 60 }
    }
}

impl SessionSettings {
    /// # Errors
    /// [`SettingsError`] if nobody would stay signed in, or somebody for ever.
    pub fn check(&self) -> Result<(), SettingsError> {
        if !(1..=720).contains(&self.longest_hours) {
            return Err(SettingsError::new("sessions.longest_hours", "give 1 to 720"));
        }
        if !(5..=self.longest_hours * 60).contains(&self.idle_minutes) {
            return Err(SettingsError::new(
                "sessions.idle_minutes",
                "give 5 to the minutes of longest_hours",
            ));
        }
        if !(1..=1440).contains(&self.recheck_minutes) {
            return Err(SettingsError::new("sessions.recheck_minutes", "give 1 to 1440"));
        }
        if self.recheck_grace_minutes > 1440 {
            return Err(SettingsError::new("sessions.recheck_grace_minutes", "give 0 to 1440"));
        }
        Ok(())
    }

    pub(crate) fn ages(&self) -> Ages {
        Ages {
            limit: i64::from(self.recheck_minutes) * 60_000,
            grace: i64::from(self.recheck_grace_minutes) * 60_000,
        }
    }

    pub(crate) fn idle_ms(&self) -> i64 {
        i64::from(self.idle_minutes) * 60_000
    }

    pub(crate) fn longest_ms(&self) -> i64 {
        i64::from(self.longest_hours) * 3_600_000
    }
}

/// How old a check may be, milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ages {
    /// While the source can be reached.
    pub limit: i64,
    /// How much older while it can't be reached.
    pub grace: i64,
}
