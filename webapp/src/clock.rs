//! The time of day, behind a seam, and how far back it is in words.

use chrono::{DateTime, SecondsFormat, Utc};
use std::sync::Arc;

/// Tells the time of day. A parameter of the app, so that tests decide what time it is.
pub trait Clock: Send + Sync {
    /// Now, in UTC.
    fn now(&self) -> DateTime<Utc>;
}

/// The clock of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }
}

impl<C: Clock + ?Sized> Clock for Arc<C> {
    fn now(&self) -> DateTime<Utc> {
        (**self).now()
    }
}

/// A timestamp as RFC 3339 in UTC with milliseconds: `2026-11-20T10:17:57.123Z`.
pub fn rfc3339(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// How long ago something was: `3 minutes ago`. What lies ahead (clocks of hosts differ) is `just now`.
pub fn ago(now: DateTime<Utc>, at: DateTime<Utc>) -> String {
    let seconds = (now - at).num_seconds();
    let (count, unit) = match seconds {
        ..5 => return "just now".to_owned(),
        5..60 => (seconds, "second"),
        60..3_600 => (seconds / 60, "minute"),
        3_600..86_400 => (seconds / 3_600, "hour"),
        86_400..2_592_000 => (seconds / 86_400, "day"),
        2_592_000..31_536_000 => (seconds / 2_592_000, "month"),
        _ => (seconds / 31_536_000, "year"),
    };
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {unit}{plural} ago")
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;

    #[test]
    fn says_how_long_ago() {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        for (seconds, words) in [
            (-3_600, "just now"),
            (0, "just now"),
            (4, "just now"),
            (5, "5 seconds ago"),
            (59, "59 seconds ago"),
            (60, "1 minute ago"),
            (185, "3 minutes ago"),
            (3_599, "59 minutes ago"),
            (3_600, "1 hour ago"),
            (86_399, "23 hours ago"),
            (86_400, "1 day ago"),
            (2_591_999, "29 days ago"),
            (2_592_000, "1 month ago"),
            (31_535_999, "12 months ago"),
            (31_536_000, "1 year ago"),
            (94_608_000, "3 years ago"),
        ] {
            assert_eq!(ago(now, now - TimeDelta::seconds(seconds)), words, "{seconds} s");
        }
    }

    #[test]
    fn writes_milliseconds_and_z() {
        let at = DateTime::from_timestamp_millis(1_795_169_877_005).unwrap();
        assert_eq!(rfc3339(at), "2026-11-20T10:17:57.005Z");
    }
}
