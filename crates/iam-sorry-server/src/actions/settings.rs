//! `[actions]`: how actions are done.

use std::time::Duration;

use serde::Deserialize;

/// How actions are done.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ActionSettings {
    /// A permanent key that AWS saw within so many minutes is in use: rotation leaves it active, and deleting it wants
    /// `force`. 0 to 10,080 (a week).
    pub key_in_use_minutes: u32,
    /// How long the old key of a rotation is kept, inactive, if nobody confirms that the new secret has arrived, hours;
    /// it is deleted then. 1 to 8,760 (a year).
    pub retired_key_hours: u32,
    /// How long a new access key may take until AWS accepts it, seconds. 5 to 300.
    pub new_key_seconds: u32,
    /// How long the reconciler waits before it looks what became of a request whose answer nobody heard: until IAM shows
    /// what there is. 1 to 60.
    pub settle_seconds: u32,
    /// How often the reconciler looks. Not in the file: tests look more often.
    #[serde(skip)]
    pub reconcile_every: Duration,
}

/// How often the reconciler looks.
const RECONCILE_EVERY: Duration = Duration::from_secs(2);

impl Default for ActionSettings {
    fn default() -> Self {
        Self {
            key_in_use_minutes: 60,
            retired_key_hours: 72,
            new_key_seconds: 60,
            settle_seconds: 10,
            reconcile_every: RECONCILE_EVERY,
        }
    }
}

impl ActionSettings {
    /// # Errors
    /// What is out of range, and the range.
    pub fn check(&self) -> Result<(), String> {
        let fits = |name: &str, value: u32, least: u32, most: u32| {
            if (least..=most).contains(&value) {
                return Ok(());
            }
            Err(format!("[actions] {name} = {value} is out of range: {least} to {most}"))
        };
        fits("key_in_use_minutes", self.key_in_use_minutes, 0, 10_080)?;
        fits("retired_key_hours", self.retired_key_hours, 1, 8_760)?;
        fits("new_key_seconds", self.new_key_seconds, 5, 300)?;
        fits("settle_seconds", self.settle_seconds, 1, 60)
    }

    /// How long the old key of a rotation is kept, milliseconds.
    pub(crate) fn retired_key_ms(&self) -> i64 {
        i64::from(self.retired_key_hours) * 3_600_000
    }

    pub(crate) fn settle(&self) -> Duration {
        Duration::from_secs(self.settle_seconds.into())
    }

    pub(crate) fn retry_policy(&self) -> iam_sorry_aws::RetryPolicy {
        iam_sorry_aws::RetryPolicy {
            new_key: Duration::from_secs(self.new_key_seconds.into()),
            // What can't be deleted within this time the reconciler goes on with.
            delete: Duration::from_secs(10),
            settle: self.settle(),
            ..iam_sorry_aws::RetryPolicy::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_checked() {
        assert_eq!(ActionSettings::default().check(), Ok(()));
        let text = |toml: &str| toml::from_str::<ActionSettings>(toml).unwrap().check().unwrap_err();
        assert!(text("settle_seconds = 0").contains("1 to 60"));
        assert!(text("new_key_seconds = 1").contains("5 to 300"));
        assert!(text("key_in_use_minutes = 99999").contains("0 to 10080"));
        assert!(text("retired_key_hours = 0").contains("1 to 8760"));
        assert!(toml::from_str::<ActionSettings>("settle = 1").is_err());
    }
}
