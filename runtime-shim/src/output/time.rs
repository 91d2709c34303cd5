//! Times: as documents give them, and in docker's words.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::{SignedDuration, Timestamp, tz::TimeZone};

use crate::failure::Failure;

/// Seconds since 1970 of a document's time; none for one that is missing,
/// malformed, or Go's zero time, which means that nobody knows.
pub fn parse(text: Option<&str>) -> Option<i64> {
    let seconds = text?.parse::<Timestamp>().ok()?.as_second();
    // Go's zero time is the year 1.
    (seconds > -62_135_596_800).then_some(seconds)
}

/// Now, in seconds since 1970.
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Now, as documents write it.
pub fn now_in_documents() -> String {
    Timestamp::now().to_string()
}

/// `2 weeks ago`; `N/A` if nobody knows.
pub fn ago(then: Option<i64>, now: i64) -> String {
    match then {
        Some(then) => format!("{} ago", duration(now.saturating_sub(then))),
        None => "N/A".to_owned(),
    }
}

/// A duration in seconds, in the words of docker's go-units.
pub fn duration(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, seconds.saturating_add(1800) / 3600);
    match (seconds, minutes, hours) {
        (..1, ..) => "Less than a second".to_owned(),
        (1, ..) => "1 second".to_owned(),
        (..60, ..) => format!("{seconds} seconds"),
        (_, 1, _) => "About a minute".to_owned(),
        (_, ..60, _) => format!("{minutes} minutes"),
        (_, _, 1) => "About an hour".to_owned(),
        (_, _, ..48) => format!("{hours} hours"),
        (_, _, ..336) => format!("{} days", hours / 24),
        (_, _, ..1440) => format!("{} weeks", hours / 24 / 7),
        (_, _, ..17520) => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", seconds / 3600 / 24 / 365),
    }
}

/// `2024-05-06 07:08:09 +0200 CEST`, in the machine's time.
pub fn local(seconds: Option<i64>) -> String {
    in_zone(seconds, "%Y-%m-%d %H:%M:%S %z %Z")
}

/// `2024-05-06T07:08:09+02:00`, in the machine's time.
pub fn local_in_documents(seconds: Option<i64>) -> String {
    let text = in_zone(seconds, "%Y-%m-%dT%H:%M:%S%:z");
    match text.strip_suffix("+00:00") {
        Some(utc) => format!("{utc}Z"),
        None => text,
    }
}

fn in_zone(seconds: Option<i64>, format: &str) -> String {
    let time = seconds.and_then(|seconds| Timestamp::from_second(seconds).ok());
    match time {
        Some(time) => time.to_zoned(TimeZone::system()).strftime(format).to_string(),
        None => "N/A".to_owned(),
    }
}

/// A moment as `until=` gives it: how long ago (`24h`, `1h30m`), a date or a
/// time, or seconds since 1970.
pub fn moment(text: &str, now: i64) -> Result<i64, Failure> {
    if let Ok(seconds) = text.parse::<i64>() {
        return Ok(seconds);
    }
    if let Ok(ago) = text.parse::<SignedDuration>() {
        return Ok(now.saturating_sub(ago.as_secs()));
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time.as_second());
    }
    let local =
        text.parse::<jiff::civil::DateTime>().ok().and_then(|local| local.to_zoned(TimeZone::system()).ok());
    local.map(|time| time.timestamp().as_second()).ok_or_else(|| {
        Failure::failed(format!("{text:?} is no moment"))
            .hint("write how long ago (24h, 1h30m), a date (2024-05-06) or a time (2024-05-06T07:08:09Z)")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_docker_says_them() {
        for (seconds, said) in [
            (-5, "Less than a second"),
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (3599, "59 minutes"),
            (3600, "About an hour"),
            (5399, "About an hour"),
            (5400, "2 hours"),
            (47 * 3600, "47 hours"),
            (48 * 3600, "2 days"),
            (13 * 86400, "13 days"),
            (14 * 86400, "2 weeks"),
            (59 * 86400, "8 weeks"),
            (60 * 86400, "2 months"),
            (729 * 86400, "24 months"),
            (730 * 86400, "2 years"),
        ] {
            assert_eq!(duration(seconds), said, "{seconds}");
        }
        assert_eq!(ago(Some(100), 220), "2 minutes ago");
        assert_eq!(ago(None, 220), "N/A");
    }

    #[test]
    fn times_of_documents() {
        assert_eq!(parse(Some("1970-01-02T00:00:00Z")), Some(86400));
        assert_eq!(parse(Some("2024-05-06T07:08:09.123456789+02:00")), Some(1_714_972_089));
        for none in [None, Some(""), Some("0001-01-01T00:00:00Z"), Some("yesterday")] {
            assert_eq!(parse(none), None, "{none:?}");
        }
    }

    #[test]
    fn moments() {
        let now = 1_000_000;
        assert_eq!(moment("10m", now).unwrap(), now - 600);
        assert_eq!(moment("1h30m", now).unwrap(), now - 5400);
        assert_eq!(moment("24h", now).unwrap(), now - 86400);
        assert_eq!(moment("77", now).unwrap(), 77);
        assert_eq!(moment("1970-01-02T00:00:00Z", now).unwrap(), 86400);
        assert!(moment("1970-01-05", now).is_ok());
        assert!(moment("soon", now).is_err());
    }
}
