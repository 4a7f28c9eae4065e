//! Points in time, in whole seconds, as AWS writes them (ISO 8601 / RFC 3339, UTC).

use std::fmt;

use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

/// Seconds since 1970-01-01T00:00:00Z. Displayed as `2026-11-22T15:04:05Z`, which every AWS SDK reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(OffsetDateTime);

/// The text is no ISO 8601 date and time.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("'{0}' is not an ISO 8601 date and time such as 2026-11-22T15:04:05Z")]
pub struct InvalidTimestamp(String);

impl Timestamp {
    /// 1970-01-01T00:00:00Z.
    pub const EPOCH: Self = Self(OffsetDateTime::UNIX_EPOCH);

    /// `None` where the number of seconds lies outside the years -9999 to 9999.
    pub fn from_unix(seconds: i64) -> Option<Self> {
        OffsetDateTime::from_unix_timestamp(seconds).ok().map(Self)
    }

    /// Seconds since 1970-01-01T00:00:00Z.
    pub fn unix(self) -> i64 {
        self.0.unix_timestamp()
    }

    /// Reads RFC 3339 (`Z` or an offset, fractions dropped) and, as the original tool wrote it, a time without an
    /// offset, which then is UTC.
    ///
    /// # Errors
    /// [`InvalidTimestamp`] with the text in it.
    pub fn parse(text: &str) -> Result<Self, InvalidTimestamp> {
        let naive =
            format_description!("[year]-[month]-[day]T[hour]:[minute]:[second][optional [.[subsecond]]]");
        let text = text.trim();
        OffsetDateTime::parse(text, &Rfc3339)
            .or_else(|_| PrimitiveDateTime::parse(text, naive).map(PrimitiveDateTime::assume_utc))
            .ok()
            .and_then(|t| Self::from_unix(t.unix_timestamp()))
            .ok_or_else(|| InvalidTimestamp(text.chars().take(64).collect()))
    }

    /// Whole seconds from `now` until this time; negative once it has passed.
    pub fn seconds_after(self, now: Self) -> i64 {
        self.unix() - now.unix()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let t = self.0;
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
            t.year(),
            u8::from(t.month()),
            t.day(),
            t.hour(),
            t.minute(),
            t.second()
        )
    }
}

/// Milliseconds since 1970-01-01T00:00:00Z: what the service's rows and records count in. A number of its own type is never
/// taken for seconds, which AWS counts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct UnixMs(pub i64);

impl UnixMs {
    /// The whole second that it is in; a time outside the years -9999 to 9999 becomes the nearest that is inside.
    pub fn timestamp(self) -> Timestamp {
        let end = if self.0 < 0 { PrimitiveDateTime::MIN } else { PrimitiveDateTime::MAX };
        Timestamp::from_unix(self.0.div_euclid(1000)).unwrap_or(Timestamp(end.assume_utc()))
    }

    /// That much later, or as late as can be counted.
    #[must_use]
    pub fn after(self, duration: std::time::Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)))
    }
}

impl From<Timestamp> for UnixMs {
    fn from(time: Timestamp) -> Self {
        Self(time.unix().saturating_mul(1000))
    }
}

/// A length of time for people: `35 h 59 min`, `12 min`, `40 s`.
pub fn human_duration(seconds: i64) -> String {
    let s = seconds.max(0);
    match (s / 3600, s % 3600 / 60) {
        (0, 0) => format!("{s} s"),
        (0, m) => format!("{m} min"),
        (h, 0) => format!("{h} h"),
        (h, m) => format!("{h} h {m} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_aws_and_the_original_write() {
        let expected = Timestamp::from_unix(1_761_480_000).unwrap();
        for text in [
            "2025-10-26T12:00:00Z",
            "2025-10-26T12:00:00+00:00",
            "2025-10-26T12:00:00",
            "2025-10-26T12:00:00.123456",
            "2025-10-26T14:00:00+02:00",
        ] {
            assert_eq!(Timestamp::parse(text), Ok(expected), "{text}");
        }
        assert_eq!(expected.to_string(), "2025-10-26T12:00:00Z");
        for text in ["", "soon", "2025-10-26", "2025-13-26T12:00:00Z", "9999999999999"] {
            assert!(Timestamp::parse(text).is_err(), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn milliseconds_lie_in_their_second(ms in proptest::prelude::any::<i64>(), seconds in 0_i64..253_402_300_799) {
            let time = UnixMs(ms).timestamp();
            if (-377_705_116_800_000..=253_402_300_799_999).contains(&ms) {
                proptest::prop_assert_eq!(time.unix(), ms.div_euclid(1000));
            }
            let time = Timestamp::from_unix(seconds).unwrap();
            proptest::prop_assert_eq!(UnixMs::from(time).timestamp(), time);
        }

        #[test]
        fn display_parses_back(seconds in 0_i64..253_402_300_799) {
            let t = Timestamp::from_unix(seconds).unwrap();
            proptest::prop_assert_eq!(Timestamp::parse(&t.to_string()), Ok(t));
        }
    }
}
