//! Lengths of time as people write them, and moments as they read them.

use super::config::duration;
use chrono::{DateTime, SecondsFormat, Utc};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Reads a length of time, such as `90s` or `1h30m`.
///
/// # Errors
/// When it is something else; the text says what is expected.
pub fn parse(text: &str) -> Result<Duration, String> {
    duration(text)
        .ok_or_else(|| format!("expected a duration such as \"30s\", \"5m\", \"1h\" or \"7d\" but got {text:?}"))
}

/// The time since 1970.
pub fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Seconds since 1970.
pub fn now() -> u64 {
    since_1970().as_secs()
}

/// A moment, given in seconds since 1970, as RFC 3339 has it, in UTC.
pub fn rfc3339(seconds: u64) -> String {
    rfc3339_ms(seconds.saturating_mul(1000))
}

/// A moment, given in milliseconds since 1970, as RFC 3339 has it, in UTC; with
/// milliseconds where it has any.
pub fn rfc3339_ms(ms: u64) -> String {
    let moment = i64::try_from(ms).ok().and_then(DateTime::<Utc>::from_timestamp_millis);
    let form = match ms.is_multiple_of(1000) {
        true => SecondsFormat::Secs,
        false => SecondsFormat::Millis,
    };
    moment.unwrap_or(DateTime::<Utc>::MAX_UTC).to_rfc3339_opts(form, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_span_is_told() {
        assert_eq!(parse("5m").unwrap(), Duration::from_secs(300));
        let error = parse("5 parsecs").unwrap_err();
        assert!(error.ends_with("but got \"5 parsecs\""), "{error}");
    }

    #[test]
    fn moments_are_rfc_3339() {
        assert_eq!(rfc3339(1_738_368_000), "2025-02-01T00:00:00Z");
    }
}
