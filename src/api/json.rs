//! Writing JSON.

use crate::model::Scores;
use crate::record::json::plain_end;
use std::io::Write;

/// Appends bytes that are mostly few. A copy whose length is not known when it
/// is compiled is a call out of the module in wasm, which costs more than some
/// words.
pub fn bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    const FEW: usize = 48;
    if bytes.len() > FEW {
        out.extend_from_slice(bytes);
        return;
    }
    out.reserve(bytes.len());
    let mut rest = bytes;
    while let Some((word, after)) = rest.split_first_chunk::<8>() {
        out.extend_from_slice(word);
        rest = after;
    }
    if let Some((word, after)) = rest.split_first_chunk::<4>() {
        out.extend_from_slice(word);
        rest = after;
    }
    if let Some((word, after)) = rest.split_first_chunk::<2>() {
        out.extend_from_slice(word);
        rest = after;
    }
    if let Some(&last) = rest.first() {
        out.push(last);
    }
}

/// Appends a text with quotes and escapes.
pub fn text(out: &mut Vec<u8>, value: &str) {
    out.push(b'"');
    let mut rest = value.as_bytes();
    loop {
        let plain = plain_end(rest, 0);
        bytes(out, &rest[..plain]);
        let Some(&special) = rest.get(plain) else { break };
        match special {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            control => drop(write!(out, "\\u{control:04x}")),
        }
        rest = &rest[plain + 1..];
    }
    out.push(b'"');
}

/// Appends an integer.
pub fn integer(out: &mut Vec<u8>, value: impl itoa::Integer) {
    bytes(out, itoa::Buffer::new().format(value).as_bytes());
}

/// Appends the shortest decimal that reads back as this binary64; `null` for
/// what JSON has no number for.
pub fn f64(out: &mut Vec<u8>, value: f64) {
    if value.is_finite() {
        bytes(out, trim(ryu::Buffer::new().format_finite(value)).as_bytes());
    } else {
        out.extend_from_slice(b"null");
    }
}

/// Appends the shortest decimal that reads back as this binary32; `null` for
/// what JSON has no number for.
pub fn f32(out: &mut Vec<u8>, value: f32) {
    if value.is_finite() {
        bytes(out, trim(ryu::Buffer::new().format_finite(value)).as_bytes());
    } else {
        out.extend_from_slice(b"null");
    }
}

fn trim(number: &str) -> &str {
    number.strip_suffix(".0").unwrap_or(number)
}

/// Appends a score with the digits of its own type.
pub fn score(out: &mut Vec<u8>, scores: &Scores, index: usize) {
    match scores {
        Scores::Float32(v) => f32(out, v.get(index).copied().unwrap_or(f32::NAN)),
        Scores::Float64(v) => f64(out, v.get(index).copied().unwrap_or(f64::NAN)),
        Scores::Int64(v) => integer(out, v.get(index).copied().unwrap_or(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_escaped_as_json_demands() {
        for value in ["", "plain", "q\"b\\n\nr\rt\t", "\u{0}\u{1f}", "é😀"] {
            let mut out = Vec::new();
            text(&mut out, value);
            assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), value);
        }
    }

    #[test]
    fn numbers_are_as_short_as_they_can_be() {
        let written = |value: f32| {
            let mut out = Vec::new();
            f32(&mut out, value);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(written(0.23), "0.23");
        assert_eq!(written(1.0), "1");
        assert_eq!(written(1e-20), "1e-20");
        assert_eq!(written(f32::NAN), "null");
    }
}
