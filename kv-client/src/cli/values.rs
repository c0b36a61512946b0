//! Reading the values of flags and arguments.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

use bytes::Bytes;
use clap::builder::{OsStringValueParser, TypedValueParser};

/// Keys and values are bytes: an argument is taken as it is, UTF-8 or not.
pub(crate) fn bytes_parser() -> impl TypedValueParser<Value = Bytes> {
    OsStringValueParser::new().map(|text: OsString| Bytes::from(text.into_vec()))
}

/// Reads a duration as etcdctl does: `500ms`, `5s`, `1m30s`, and also a bare number of seconds.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    const EXPECTED: &str = "expected a duration such as 500ms, 5s or 1m30s";
    if let Ok(seconds) = text.parse::<u64>() {
        return positive(Duration::from_secs(seconds));
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or(EXPECTED)?;
        let (number, after) = rest.split_at(digits);
        let unit = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        let (unit, next) = after.split_at(unit);
        let seconds = match unit {
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(EXPECTED.to_owned()),
        };
        let number: f64 = number.parse().map_err(|_| EXPECTED)?;
        let part = Duration::try_from_secs_f64(number * seconds).map_err(|_| EXPECTED)?;
        total = total.checked_add(part).ok_or(EXPECTED)?;
        rest = next;
    }
    positive(total)
}

/// The longest duration that is accepted: a day. Timers further away are a mistake.
const DURATION_MAX: Duration = Duration::from_secs(24 * 3600);

fn positive(duration: Duration) -> Result<Duration, String> {
    if duration.is_zero() || duration > DURATION_MAX {
        return Err("must be more than 0 and at most 24h".to_owned());
    }
    Ok(duration)
}

/// Reads a number that cannot be negative, such as a limit or a revision to read at.
pub(crate) fn parse_not_negative(text: &str) -> Result<i64, String> {
    match text.parse::<i64>() {
        Ok(number) if number < 0 => Err("must not be negative".to_owned()),
        Ok(number) => Ok(number),
        Err(error) => Err(error.to_string()),
    }
}

/// Reads a number that is at least 1.
pub(crate) fn parse_positive(text: &str) -> Result<i64, String> {
    match parse_not_negative(text)? {
        0 => Err("must be at least 1".to_owned()),
        number => Ok(number),
    }
}

/// Reads a lease as etcdctl prints it: hexadecimal, without `0x` or with it.
pub(crate) fn parse_lease(text: &str) -> Result<i64, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    match i64::from_str_radix(digits, 16) {
        Ok(lease) if lease >= 0 => Ok(lease),
        _ => Err("expected a lease ID in hexadecimal, such as 694d77aa9e38260f".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{parse_duration, parse_lease, parse_not_negative, parse_positive};

    #[test]
    fn durations() {
        for (text, ms) in [
            ("5s", 5_000),
            ("500ms", 500),
            ("1m30s", 90_000),
            ("1.5s", 1_500),
            ("2", 2_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in [
            "",
            "0",
            "0s",
            "-1s",
            "s",
            "5x",
            "1e9h",
            "99999999999999999999s",
            "25h",
            ".",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn numbers() {
        assert_eq!(parse_not_negative("0"), Ok(0));
        assert_eq!(parse_positive("1"), Ok(1));
        assert_eq!(parse_positive("9223372036854775807"), Ok(i64::MAX));
        for parse in [parse_not_negative, parse_positive] {
            assert_eq!(parse("-1"), Err("must not be negative".to_owned()));
            for text in ["", "x", "1.5", "9223372036854775808"] {
                assert!(parse(text).is_err(), "{text}");
            }
        }
        assert_eq!(parse_positive("0"), Err("must be at least 1".to_owned()));
    }

    #[test]
    fn leases() {
        assert_eq!(parse_lease("694d77aa9e38260f"), Ok(0x694d_77aa_9e38_260f));
        assert_eq!(parse_lease("0xff"), Ok(255));
        for text in ["", "xyz", "-1", "ffffffffffffffff"] {
            assert!(parse_lease(text).is_err(), "{text}");
        }
    }
}
