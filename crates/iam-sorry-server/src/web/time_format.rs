//! Times and durations as people read them. Everything is UTC, and says so once, at the foot of each page.

use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{Date, OffsetDateTime, UtcOffset};

use super::views::Moment;

impl Moment {
    /// From RFC 3339; what isn't is shown as it is.
    pub fn parse(text: &str) -> Self {
        match OffsetDateTime::parse(text, &Rfc3339) {
            Ok(at) => Self::at(at),
            Err(_) => Self { iso: text.to_owned(), text: text.to_owned() },
        }
    }

    /// From milliseconds since 1970.
    pub fn from_ms(ms: i64) -> Self {
        match OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000) {
            Ok(at) => Self::at(at),
            Err(_) => Self { iso: ms.to_string(), text: ms.to_string() },
        }
    }

    fn at(at: OffsetDateTime) -> Self {
        let at = at.to_offset(UtcOffset::UTC);
        let short = format_description!("[year]-[month]-[day] [hour]:[minute]");
        Self { iso: at.format(&Rfc3339).unwrap_or_default(), text: at.format(&short).unwrap_or_default() }
    }
}

/// How long until `end`: `5 h 12 min left`; nothing once it is over or where there is no end.
pub fn left(end: Option<&str>, now_ms: i64) -> String {
    let Some(end) = end.and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok()) else {
        return String::new();
    };
    match end.unix_timestamp() - now_ms.div_euclid(1000) {
        seconds if seconds > 0 => format!("{} left", span(seconds.unsigned_abs())),
        _ => String::new(),
    }
}

/// `90` -> `1 min`, `5400` -> `1 h 30 min`, `129600` -> `1 d 12 h`.
pub fn span(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    let parts = match (days, hours) {
        (0, 0) => [(minutes, "min"), (0, "")],
        (0, _) => [(hours, "h"), (minutes, "min")],
        _ => [(days, "d"), (hours, "h")],
    };
    let text: Vec<String> =
        parts.iter().filter(|(n, _)| *n > 0).map(|(n, unit)| format!("{n} {unit}")).collect();
    if text.is_empty() { "less than a minute".to_owned() } else { text.join(" ") }
}

/// A `YYYY-MM-DD` from a date field.
pub fn day(text: &str) -> Option<Date> {
    Date::parse(text, format_description!("[year]-[month]-[day]")).ok()
}

/// The start of a day as RFC 3339, for queries.
pub fn start_of(day: Date) -> String {
    format!("{day}T00:00:00Z")
}

/// The day of a time.
pub fn day_of(ms: i64) -> Option<Date> {
    OffsetDateTime::from_unix_timestamp(ms.div_euclid(1000)).ok().map(OffsetDateTime::date)
}

/// The time by which "how long" is shown; nothing is decided by it.
pub fn now_ms() -> i64 {
    i64::try_from(OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_in_utc_to_the_minute() {
        assert_eq!(Moment::parse("2026-11-22T20:57:31+02:00").text, "2026-11-22 18:57");
        assert_eq!(Moment::from_ms(1_795_374_000_123).iso, "2026-11-22T19:00:00.123Z");
        assert_eq!(Moment::parse("soon").text, "soon");
        assert_eq!(Moment::from_ms(i64::MAX).text, i64::MAX.to_string());
    }

    #[test]
    fn what_is_left_is_said_in_two_units_at_most() {
        let now = 1_795_374_000_000;
        assert_eq!(left(Some("2026-11-22T19:00:30Z"), now), "less than a minute left");
        assert_eq!(left(Some("2026-11-22T20:30:00Z"), now), "1 h 30 min left");
        assert_eq!(left(Some("2026-11-22T18:59:59Z"), now), "");
        assert_eq!(left(None, now), "");
        assert_eq!(span(129_600), "1 d 12 h");
        assert_eq!(span(3600), "1 h");
    }

    #[test]
    fn only_dates_are_dates() {
        assert_eq!(day("2026-11-22").map(start_of).as_deref(), Some("2026-11-22T00:00:00Z"));
        for bad in ["", "2026-13-01", "2026-11-22T00:00:00Z", "'; drop"] {
            assert_eq!(day(bad), None, "{bad}");
        }
    }
}
