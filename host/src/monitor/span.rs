//! Lengths of time as people write them, and moments as they read them.

use chrono::{DateTime, SecondsFormat, Utc};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Reads a length of time: a whole number and one of `ms`, `s`, `m`, `h`, `d`.
///
/// # Errors
/// When it is something else; the text says what is expected.
pub fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("expected a duration such as \"30s\", \"5m\", \"1h\" or \"7d\" but got {text:?}");
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let number: u64 = text[..digits].parse().map_err(|_| wrong())?;
    let millis = match &text[digits..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(wrong()),
    };
    number.checked_mul(millis).map(Duration::from_millis).ok_or_else(wrong)
}

/// A length of time as [`parse`] reads it, in the largest unit that it is a
/// multiple of.
pub fn text(span: Duration) -> String {
    let millis = span.as_millis();
    for (unit, of) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
        if millis % of == 0 && millis >= of {
            return format!("{}{unit}", millis / of);
        }
    }
    format!("{millis}ms")
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

/// A moment, given in seconds since 1970, as RFC 3339 has it.
pub fn rfc3339(seconds: u64) -> String {
    let moment = i64::try_from(seconds)
        .ok()
        .and_then(|seconds| DateTime::<Utc>::from_timestamp(seconds, 0))
        .unwrap_or(DateTime::<Utc>::MAX_UTC);
    moment.to_rfc3339_opts(SecondsFormat::Secs, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_and_written() {
        for (text, millis) in [
            ("250ms", 250),
            ("90s", 90_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("7d", 604_800_000),
        ] {
            let span = parse(text).unwrap();
            assert_eq!(span.as_millis(), millis);
            assert_eq!(super::text(span), text);
        }
        assert_eq!(text(Duration::from_secs(120)), "2m");
        for wrong in ["", "5", "m", "-1s", "1.5h", "5 m", "5 parsecs", "99999999999999999999d"] {
            let error = parse(wrong).unwrap_err();
            assert!(error.contains(&format!("got {wrong:?}")), "{error}");
        }
    }

    #[test]
    fn moments_are_rfc_3339() {
        assert_eq!(rfc3339(1_738_368_000), "2025-02-01T00:00:00Z");
    }
}
