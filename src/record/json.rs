//! JSON to records, without a document in between.
//!
//! A general parser would stop at the first number that overflows, round some
//! numbers twice, and forget all but one of duplicate keys; a request must be
//! told of each of these by the feature's name. This reader follows RFC 8259
//! (and reads `NaN` and `Infinity`, which Python's `json` writes, as numbers
//! that are not finite); numbers are rounded correctly, once.

use super::{Batch, ReadError, id_of, swar};
use crate::validate::{FaultCode, Schema, Subject, Value, quoted};
use std::borrow::Cow;

/// How deep arrays and objects may lie inside each other.
const DEPTH_MAX: usize = 64;

type Read<T> = Result<T, ReadError>;

pub(crate) struct Json<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
}

/// Powers of ten that binary64 holds exactly.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20,
    1e21, 1e22,
];

/// Powers of ten for as many places as [`swar::digits`] reads.
const TENS: [u64; 8] = [1, 10, 100, 1000, 10_000, 100_000, 1_000_000, 10_000_000];

/// Where the plain part of a text ends: at a quote, a backslash, a control
/// character or the end.
#[inline]
pub(crate) fn plain_end(bytes: &[u8], start: usize) -> usize {
    swar::find(
        bytes,
        start,
        |word| swar::equal(word, b'"') | swar::equal(word, b'\\') | swar::below(word, b' '),
        |byte| matches!(byte, b'"' | b'\\' | 0..b' '),
    )
}

/// `starts_with`, whose comparison is a call byte by byte in wasm.
#[inline]
fn begins_with(bytes: &[u8], prefix: &[u8]) -> bool {
    let Some(bytes) = bytes.get(..prefix.len()) else {
        return false;
    };
    let word = |bytes: &[u8], at: usize| bytes[at..].first_chunk().map(|&word| u64::from_le_bytes(word));
    let half = |bytes: &[u8], at: usize| bytes[at..].first_chunk().map(|&half| u32::from_le_bytes(half));
    let Some(last) = prefix.len().checked_sub(8) else {
        return match prefix.len().checked_sub(4) {
            Some(last) => half(bytes, 0) == half(prefix, 0) && half(bytes, last) == half(prefix, last),
            None => bytes.iter().zip(prefix).all(|(a, b)| a == b),
        };
    };
    // The last word overlaps the one before.
    let mut at = 0;
    while at < last {
        if word(bytes, at) != word(prefix, at) {
            return false;
        }
        at += 8;
    }
    word(bytes, last) == word(prefix, last)
}

/// The text as a number, if JSON would have it as one.
#[inline]
pub(crate) fn number(text: &str) -> Option<f64> {
    if !matches!(text.as_bytes().first(), Some(b'-' | b'0'..=b'9')) {
        return None;
    }
    let (number, end) = number_at(text, 0)?;
    (end == text.len()).then_some(number)
}

/// The number of RFC 8259's grammar, or `-Infinity`, that begins here with a
/// minus or a digit, rounded to the nearest binary64, and where it ends; none if
/// it is malformed.
#[inline]
fn number_at(text: &str, start: usize) -> Option<(f64, usize)> {
    let bytes = text.as_bytes();
    let mut at = start;
    let negative = bytes[at] == b'-';
    if negative {
        at += 1;
    }
    let mut mantissa: u64 = 0;
    // Beyond 19 digits the mantissa would overflow; the slow path knows.
    let first = at;
    while let Some(digit @ b'0'..=b'9') = bytes.get(at) {
        mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
        at += 1;
    }
    let mut digits = at - first;
    if digits == 0 || (digits > 1 && bytes[first] == b'0') {
        let infinite = bytes[first..].starts_with(b"Infinity");
        return infinite.then_some((f64::NEG_INFINITY, first + 8));
    }
    let mut exponent: i64 = 0;
    if bytes.get(at) == Some(&b'.') {
        at += 1;
        let fraction = at;
        while let Some(digit @ b'0'..=b'9') = bytes.get(at) {
            mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
            at += 1;
        }
        if at == fraction {
            return None;
        }
        digits += at - fraction;
        exponent -= (at - fraction) as i64;
    }
    if let Some(b'e' | b'E') = bytes.get(at) {
        at += 1;
        let down = bytes.get(at) == Some(&b'-');
        if let Some(b'-' | b'+') = bytes.get(at) {
            at += 1;
        }
        let first = at;
        let mut value: i64 = 0;
        while let Some(digit @ b'0'..=b'9') = bytes.get(at) {
            value = (value * 10 + i64::from(digit - b'0')).min(100_000);
            at += 1;
        }
        if at == first {
            return None;
        }
        exponent += if down { -value } else { value };
    }
    // W. D. Clinger, "How to read floating point numbers accurately" (1990):
    // where both operands are exact, one operation rounds correctly.
    if digits <= 19 && mantissa <= 1 << 53 && (-22..=22).contains(&exponent) {
        let mantissa = mantissa as f64;
        let power = POWERS[exponent.unsigned_abs() as usize];
        let value = if exponent < 0 {
            mantissa / power
        } else {
            mantissa * power
        };
        return Some((if negative { -value } else { value }, at));
    }
    let number = text[start..at].parse().ok()?;
    Some((number, at))
}

/// [`number_at`] for what most numbers are, up to seven digits before a point
/// and after it; none for others, malformed or not, and near the end.
#[inline(always)]
pub(super) fn short_number(bytes: &[u8], start: usize) -> Option<(f64, usize)> {
    let negative = bytes.get(start) == Some(&b'-');
    let first = start + usize::from(negative);
    let (mut mantissa, digits) = swar::digits(bytes, first)?;
    if digits == 0 || (digits > 1 && bytes.get(first) == Some(&b'0')) {
        return None;
    }
    let mut at = first + digits;
    let mut power = 1.0;
    if bytes.get(at) == Some(&b'.') {
        let (fraction, places) = swar::digits(bytes, at + 1)?;
        if places == 0 {
            return None;
        }
        at += 1 + places;
        // There are at most seven, which the compiler does not know.
        mantissa = mantissa * TENS[places & 7] + fraction;
        power = POWERS[places & 7];
    }
    if matches!(bytes.get(at), Some(b'e' | b'E')) {
        return None;
    }
    // Clinger's case, as above: fourteen digits at most.
    let value = mantissa as f64 / power;
    Some((if negative { -value } else { value }, at))
}

#[inline(always)]
fn after_space(bytes: &[u8], mut at: usize) -> usize {
    while let Some(b' ' | b'\t' | b'\n' | b'\r') = bytes.get(at) {
        at += 1;
    }
    at
}

impl<'a> Json<'a> {
    /// A reader of this text.
    ///
    /// # Errors
    /// When the bytes are not UTF-8.
    pub(crate) fn new(bytes: &'a [u8]) -> Read<Json<'a>> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Json { text, bytes, at: 0 }),
            Err(e) => Err(ReadError::Syntax(format!(
                "the body is not UTF-8: byte {} is wrong",
                e.valid_up_to()
            ))),
        }
    }

    fn error<T>(&self, what: impl std::fmt::Display) -> Read<T> {
        let before = &self.bytes[..self.at.min(self.bytes.len())];
        let line = 1 + before.iter().filter(|&&b| b == b'\n').count();
        let start = before.iter().rposition(|&b| b == b'\n').map_or(0, |p| p + 1);
        let column = 1 + String::from_utf8_lossy(&before[start..]).chars().count();
        Err(ReadError::Syntax(format!("{what} at line {line}, column {column}")))
    }

    #[inline]
    fn peek(&mut self) -> Option<u8> {
        self.at = after_space(self.bytes, self.at);
        self.bytes.get(self.at).copied()
    }

    fn found(&mut self) -> String {
        match self.peek() {
            None => "the end".into(),
            Some(_) => self.text[self.at..]
                .chars()
                .next()
                .map_or(String::new(), |c| format!("{c:?}")),
        }
    }

    #[inline]
    fn colon(&mut self) -> Read<()> {
        if self.peek() == Some(b':') {
            self.at += 1;
            return Ok(());
        }
        let found = self.found();
        self.error(format!("expected ':' but found {found}"))
    }

    /// Nothing but white space follows.
    pub(crate) fn end(&mut self) -> Read<()> {
        match self.peek() {
            None => Ok(()),
            Some(_) => {
                let found = self.found();
                self.error(format!("expected the end but found {found}"))
            }
        }
    }

    /// After a member: whether another one follows.
    #[inline]
    fn more(&mut self, close: u8) -> Read<bool> {
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                Ok(true)
            }
            Some(byte) if byte == close => {
                self.at += 1;
                Ok(false)
            }
            _ => {
                let found = self.found();
                self.error(format!("expected ',' or '{}' but found {found}", close as char))
            }
        }
    }

    /// Opens an array or object that may be empty: whether a member follows.
    #[inline]
    fn open(&mut self, close: u8) -> bool {
        self.at += 1;
        if self.peek() == Some(close) {
            self.at += 1;
            return false;
        }
        true
    }

    fn key(&mut self) -> Read<Cow<'a, str>> {
        if self.peek() != Some(b'"') {
            let found = self.found();
            return self.error(format!("expected a name in quotes but found {found}"));
        }
        let key = self.string()?;
        self.colon()?;
        Ok(key)
    }

    #[inline]
    fn string(&mut self) -> Read<Cow<'a, str>> {
        self.at += 1;
        let start = self.at;
        self.at = plain_end(self.bytes, start);
        if self.bytes.get(self.at) == Some(&b'"') {
            let text = &self.text[start..self.at];
            self.at += 1;
            return Ok(Cow::Borrowed(text));
        }
        self.escaped(start)
    }

    fn escaped(&mut self, start: usize) -> Read<Cow<'a, str>> {
        let mut text = String::from(&self.text[start..self.at]);
        loop {
            let plain = self.at;
            self.at = plain_end(self.bytes, plain);
            text.push_str(&self.text[plain..self.at]);
            match self.bytes.get(self.at) {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Cow::Owned(text));
                }
                Some(b'\\') => {
                    self.at += 1;
                    let escape = self.bytes.get(self.at).copied();
                    self.at += 1;
                    text.push(match escape {
                        Some(b'"') => '"',
                        Some(b'\\') => '\\',
                        Some(b'/') => '/',
                        Some(b'b') => '\u{8}',
                        Some(b'f') => '\u{c}',
                        Some(b'n') => '\n',
                        Some(b'r') => '\r',
                        Some(b't') => '\t',
                        Some(b'u') => self.unicode()?,
                        _ => {
                            self.at -= 1;
                            return self.error("an unknown escape");
                        }
                    });
                }
                Some(_) => return self.error("a control character inside a text must be escaped"),
                None => return self.error("a text has no closing quote"),
            }
        }
    }

    fn unicode(&mut self) -> Read<char> {
        let first = self.hex4()?;
        let code = match first {
            0xD800..0xDC00 => {
                if self.bytes.get(self.at..self.at + 2) != Some(b"\\u") {
                    return self.error("half of a surrogate pair");
                }
                self.at += 2;
                let second = self.hex4()?;
                if !(0xDC00..0xE000).contains(&second) {
                    return self.error("half of a surrogate pair");
                }
                0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00)
            }
            code => code,
        };
        match char::from_u32(code) {
            Some(c) => Ok(c),
            None => self.error("half of a surrogate pair"),
        }
    }

    fn hex4(&mut self) -> Read<u32> {
        let digits = self.bytes.get(self.at..self.at + 4);
        let Some(code) = digits
            .filter(|d| d.iter().all(u8::is_ascii_hexdigit))
            .and_then(|d| u32::from_str_radix(std::str::from_utf8(d).ok()?, 16).ok())
        else {
            return self.error("expected four hexadecimal digits");
        };
        self.at += 4;
        Ok(code)
    }

    #[inline]
    fn number(&mut self) -> Read<f64> {
        match number_at(self.text, self.at) {
            Some((number, end)) => {
                self.at = end;
                Ok(number)
            }
            None => self.error("a malformed number"),
        }
    }

    fn literal(&mut self, word: &str) -> Read<()> {
        if self.text[self.at..].starts_with(word) {
            self.at += word.len();
            return Ok(());
        }
        let found = self.found();
        self.error(format!("expected a value but found {found}"))
    }

    /// The next value; arrays and objects are passed over.
    #[inline]
    fn value(&mut self) -> Read<Value<'a>> {
        match self.peek() {
            Some(b'-' | b'0'..=b'9') => Ok(Value::Number(self.number()?)),
            Some(b'"') => Ok(Value::Text(self.string()?)),
            Some(b't') => self.literal("true").map(|()| Value::Bool(true)),
            Some(b'f') => self.literal("false").map(|()| Value::Bool(false)),
            Some(b'n') => self.literal("null").map(|()| Value::Null),
            Some(b'N') => self.literal("NaN").map(|()| Value::Number(f64::NAN)),
            Some(b'I') => self.literal("Infinity").map(|()| Value::Number(f64::INFINITY)),
            Some(b'[') => self.skip().map(|()| Value::Nested("an array")),
            Some(b'{') => self.skip().map(|()| Value::Nested("an object")),
            _ => {
                let found = self.found();
                self.error(format!("expected a value but found {found}"))
            }
        }
    }

    /// Passes over an array or object, without recursion.
    fn skip(&mut self) -> Read<()> {
        let mut closers = [0u8; DEPTH_MAX];
        let mut depth = 0;
        loop {
            // At the start of a value.
            let opened = match self.peek() {
                Some(b'[') => Some(b']'),
                Some(b'{') => Some(b'}'),
                _ => None,
            };
            match opened {
                Some(close) => {
                    if depth == DEPTH_MAX {
                        return self.error(format!("arrays and objects are nested deeper than {DEPTH_MAX}"));
                    }
                    if self.open(close) {
                        closers[depth] = close;
                        depth += 1;
                        if close == b'}' {
                            self.key()?;
                        }
                        continue;
                    }
                }
                None => {
                    self.value()?;
                }
            }
            // After a value.
            loop {
                let Some(&close) = depth.checked_sub(1).map(|d| &closers[d]) else {
                    return Ok(());
                };
                if self.more(close)? {
                    if close == b'}' {
                        self.key()?;
                    }
                    break;
                }
                depth -= 1;
            }
        }
    }

    /// The features of the open record: `{"name": value, ...}`.
    fn features(&mut self, schema: &Schema, batch: &mut Batch) -> Read<()> {
        if !self.open(b'}') {
            return Ok(());
        }
        loop {
            if self.plain_features(schema, batch) {
                return Ok(());
            }
            let name = self.key()?;
            let value = self.value()?;
            batch.put(schema, &name, value);
            if !self.more(b'}')? {
                return Ok(());
            }
        }
    }

    /// Features as long as they are what nearly all are: the name that is
    /// expected, a number, a text without escapes or a null, and a comma or the
    /// end. Whether the end came; else the reader is before a member that is
    /// something else, or wrong.
    fn plain_features(&mut self, schema: &Schema, batch: &mut Batch) -> bool {
        let bytes = self.bytes;
        // Not in `self`, from which each step would load it anew.
        let mut at = self.at;
        loop {
            let Some(check) = schema.checks.get(batch.expected()) else {
                return false;
            };
            at = after_space(bytes, at);
            if !begins_with(&bytes[at..], check.key.as_bytes()) {
                return false;
            }
            at = after_space(bytes, at + check.key.len());
            let (value, end) = match bytes.get(at) {
                Some(b'-' | b'0'..=b'9') => match short_number(bytes, at).or_else(|| number_at(self.text, at)) {
                    Some((number, end)) => (Value::Number(number), end),
                    None => return false,
                },
                Some(b'"') => {
                    let end = plain_end(bytes, at + 1);
                    match bytes.get(end) {
                        Some(b'"') => (Value::Text(Cow::Borrowed(&self.text[at + 1..end])), end + 1),
                        _ => return false,
                    }
                }
                Some(b'n') if begins_with(&bytes[at..], b"null") => (Value::Null, at + 4),
                _ => return false,
            };
            at = after_space(bytes, end);
            let ended = match bytes.get(at) {
                Some(b',') => false,
                Some(b'}') => true,
                _ => return false,
            };
            at += 1;
            batch.put_expected(schema, value);
            self.at = at;
            if ended {
                return true;
            }
        }
    }

    /// The value of `id`.
    fn id(&mut self) -> Read<Result<Option<String>, (FaultCode, String)>> {
        self.peek();
        let start = self.at;
        let value = self.value()?;
        let written = &self.text[start..self.at];
        Ok(id_of(value, || written.to_owned()))
    }

    /// One record: `{"features": {...}, "id": ...}`, or with `bare` also the
    /// features alone. The record is open when it returns, whether or not it
    /// was good.
    fn record(&mut self, schema: &Schema, batch: &mut Batch, bare: bool) -> Read<()> {
        batch.begin(schema);
        if self.peek() != Some(b'{') {
            let what = match self.value()? {
                Value::Nested(what) => what.to_owned(),
                Value::Text(text) => format!("the text {}", quoted(&text)),
                Value::Number(n) => format!("the number {n}"),
                Value::Bool(b) => format!("the boolean {b}"),
                Value::Null | Value::Cell(_) => "null".into(),
            };
            batch.fault(
                Subject::Request,
                FaultCode::Type,
                format!("expected a record but got {what}"),
                Some("an object such as {\"features\": {...}}".into()),
            );
            batch.skip_missing();
            return Ok(());
        }
        let mut features = false;
        if self.open(b'}') {
            loop {
                if bare {
                    let start = self.at;
                    let ended = self.plain_features(schema, batch);
                    features |= self.at > start;
                    if ended {
                        break;
                    }
                }
                let key = self.key()?;
                let is_object = self.peek() == Some(b'{');
                match &*key {
                    "features" if is_object => {
                        if features {
                            batch.fault(
                                Subject::Name("features".into()),
                                FaultCode::Duplicate,
                                "the member is given more than once".into(),
                                None,
                            );
                        }
                        features = true;
                        self.features(schema, batch)?;
                    }
                    // A bare record may have a feature of this name.
                    "id" if !bare || schema.find("id", 0).is_none() => match self.id()? {
                        Ok(id) => batch.id = id.or(batch.id.take()),
                        Err((code, message)) => batch.fault(Subject::Name("id".into()), code, message, None),
                    },
                    "features" if schema.find("features", 0).is_none() => {
                        features = true;
                        let value = self.value()?;
                        batch.fault(
                            Subject::Name("features".into()),
                            FaultCode::Type,
                            format!("expected an object but got {}", kind(&value)),
                            Some("an object with a value for each feature".into()),
                        );
                    }
                    name if bare => {
                        features = true;
                        let value = self.value()?;
                        batch.put(schema, name, value);
                    }
                    name => {
                        self.value()?;
                        let hint = match schema.find(name, 0) {
                            Some(_) => "; features belong inside \"features\"",
                            None => "",
                        };
                        batch.fault(
                            Subject::Name(name.to_owned()),
                            FaultCode::Unknown,
                            format!("a request has the members \"features\" and \"id\"{hint}"),
                            None,
                        );
                    }
                }
                if !self.more(b'}')? {
                    break;
                }
            }
        }
        if !features && !bare {
            batch.fault(
                Subject::Name("features".into()),
                FaultCode::Missing,
                "the member \"features\" is required".into(),
                Some("an object with a value for each feature".into()),
            );
            batch.skip_missing();
        }
        Ok(())
    }

    /// The body of a single request.
    pub(crate) fn single(&mut self, schema: &Schema, batch: &mut Batch) -> Read<()> {
        self.record(schema, batch, false)?;
        self.end()?;
        batch.end(schema);
        Ok(())
    }

    /// One record of a batch that stands alone, as NDJSON's lines do.
    pub(crate) fn line(&mut self, schema: &Schema, batch: &mut Batch) -> Read<()> {
        self.record(schema, batch, true)?;
        self.end()
    }

    /// The body of a batch: `{"instances": [{...}, ...]}`.
    pub(crate) fn instances(&mut self, schema: &Schema, batch: &mut Batch, rows_max: usize) -> Read<()> {
        if self.peek() != Some(b'{') {
            let got = self.found();
            return self.error(format!(
                "expected an object such as {{\"instances\": [...]}} but found {got}"
            ));
        }
        let mut found = false;
        if self.open(b'}') {
            loop {
                let key = self.key()?;
                match &*key {
                    "instances" => {
                        if std::mem::replace(&mut found, true) {
                            return self.error("\"instances\" is given twice, the second time");
                        }
                        if self.peek() != Some(b'[') {
                            let value = self.value()?;
                            return self.error(format!(
                                "\"instances\" is {} where an array of records belongs",
                                kind(&value)
                            ));
                        }
                        if self.open(b']') {
                            loop {
                                if batch.len() == rows_max {
                                    return Err(ReadError::TooManyRows);
                                }
                                let id = batch.id.take();
                                self.record(schema, batch, true)?;
                                batch.id = id;
                                batch.end(schema);
                                if !self.more(b']')? {
                                    break;
                                }
                            }
                        }
                    }
                    "id" => match self.id()? {
                        Ok(id) => batch.id = id,
                        Err((_, message)) => return self.error(message),
                    },
                    name => {
                        return self.error(format!(
                            "unknown member {}: a batch has the members \"instances\" and \"id\"",
                            quoted(name)
                        ));
                    }
                }
                if !self.more(b'}')? {
                    break;
                }
            }
        }
        self.end()?;
        if !found {
            return self.error("the member \"instances\" is missing");
        }
        Ok(())
    }
}

fn kind(value: &Value<'_>) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::Text(_) | Value::Cell(_) => "a text",
        Value::Nested(what) => what,
    }
}

/// Reads NDJSON: a record a line, where empty lines are passed over. A line
/// that can't be read is a bad record, and the others are read nevertheless.
pub(crate) fn read_lines(body: &[u8], schema: &Schema, batch: &mut Batch, rows_max: usize) -> Read<()> {
    let mut start = 0;
    while start < body.len() {
        let end = swar::find(body, start, |word| swar::equal(word, b'\n'), |byte| byte == b'\n');
        let line = &body[start..end];
        start = end + 1;
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        if batch.len() == rows_max {
            return Err(ReadError::TooManyRows);
        }
        let read = Json::new(line).and_then(|mut json| json.line(schema, batch));
        batch.id = None;
        match read {
            Ok(()) => batch.end(schema),
            Err(ReadError::Syntax(what)) => batch.unreadable(schema, what),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{self, Random, VALUES};
    use super::*;

    fn value(text: &str) -> Read<Value<'_>> {
        let mut json = Json::new(text.as_bytes())?;
        let value = json.value()?;
        json.end()?;
        Ok(value)
    }

    #[test]
    fn numbers_are_rounded_once_and_correctly() {
        for text in [
            "0",
            "-0",
            "1",
            "-1.5",
            "0.1",
            "123456789012345678",
            "9007199254740993",
            "1e22",
            "1e23",
            "1.7976931348623157e308",
            "4.9406564584124654e-324",
            "0.30000000000000004",
            "2.2250738585072011e-308",
            "1e-400",
            "12345678901234567890123",
            "0.000000000000000000000000000000000000001234",
            "1E+5",
            "1e-22",
            "179769313486231580793728971405303415079934132710037826936173778980444968292764750946649017977587207096330286416692887910946555547851940402630657488671505820681908902000708383676273854845817711531764475730270069855571366959622842914819860834936475292719074168444365510704342711559699508093042880",
        ] {
            let expected: f64 = text.parse().unwrap();
            let Ok(Value::Number(got)) = value(text) else {
                panic!("{text}")
            };
            assert_eq!(got.to_bits(), expected.to_bits(), "{text}");
        }
    }

    #[test]
    fn numbers_that_overflow_are_read_as_infinite() {
        assert_eq!(value("1e999"), Ok(Value::Number(f64::INFINITY)));
        assert_eq!(value("-Infinity"), Ok(Value::Number(f64::NEG_INFINITY)));
        assert!(matches!(value("NaN"), Ok(Value::Number(n)) if n.is_nan()));
    }

    #[test]
    fn a_short_number_is_the_number() {
        let wholes = ["0", "7", "10", "123", "9999999", "12345678", "01", "", "9007199"];
        let fractions = ["", ".", ".0", ".5", ".526", ".0000001", ".9999999", ".12345678"];
        let tails = [",", "}", " ,", "e3,", "E-2,", "x", ".1,", "-"];
        let mut short = 0;
        for (sign, whole) in ["", "-", "--"]
            .iter()
            .flat_map(|sign| wholes.map(|whole| (sign, whole)))
        {
            for (fraction, tail) in fractions.iter().flat_map(|f| tails.map(|tail| (f, tail))) {
                let text = format!("{sign}{whole}{fraction}{tail}");
                let padded = format!("{text}        ");
                let Some((got, end)) = short_number(padded.as_bytes(), 0) else {
                    continue;
                };
                short += 1;
                let (expected, expected_end) = number_at(&text, 0).unwrap();
                assert_eq!((got.to_bits(), end), (expected.to_bits(), expected_end), "{text}");
                assert_eq!(got.to_bits(), text[..end].parse::<f64>().unwrap().to_bits(), "{text}");
            }
        }
        assert!(short > 200, "{short}");
        // Near the end of the bytes it gives up.
        assert_eq!(short_number(b"12,", 0), None);
    }

    #[test]
    fn what_is_not_json_is_refused() {
        for text in [
            "",
            "01",
            "1.",
            ".5",
            "+1",
            "1e",
            "-",
            "--1",
            "tru",
            "nul",
            "\"",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\ud800\"",
            "\"a\nb\"",
            "[1,]",
            "[1 2]",
            "{\"a\"}",
            "{\"a\":}",
            "{a:1}",
            "[",
            "{\"a\":1,}",
            "1 2",
            "'a'",
            "[1}",
            "\u{feff}1",
            "-Inf",
        ] {
            assert!(value(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn texts_are_unescaped() {
        let text = |s: &str| match value(s) {
            Ok(Value::Text(t)) => t.into_owned(),
            other => panic!("{s}: {other:?}"),
        };
        assert_eq!(text(r#""a\"\\\/\b\f\n\r\tz""#), "a\"\\/\u{8}\u{c}\n\r\tz");
        assert_eq!(text(r#""\u00e9\ud83d\ude00é""#), "é😀é");
    }

    #[test]
    fn the_end_of_plain_text_is_found_wherever_it_lies() {
        for end in [b'"', b'\\', 0, 0x1f, b'\n'] {
            for filler in [b'a', b' ', b'!', b'#', b'[', 0x7f, 0x80, 0xff] {
                for len in 0..20 {
                    let mut bytes = vec![filler; len];
                    assert_eq!(plain_end(&bytes, 0), len);
                    bytes.extend([end, b'"', filler, filler, filler, filler, filler, filler, filler]);
                    assert_eq!(plain_end(&bytes, 0), len, "{filler:#x} {end:#x}");
                }
            }
        }
    }

    #[test]
    fn a_prefix_is_found_whatever_its_length() {
        let text = b"abcdefghijklmnopqrstuvwxyz";
        for len in 0..=text.len() {
            assert!(begins_with(text, &text[..len]));
            for at in 0..len {
                let mut other = text[..len].to_vec();
                other[at] = b'!';
                assert!(!begins_with(text, &other), "{len} {at}");
            }
        }
        assert!(!begins_with(b"abc", b"abcd"));
    }

    #[test]
    fn nesting_is_bounded_and_passed_over_without_recursion() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(value(&nested(DEPTH_MAX)), Ok(Value::Nested("an array")));
        assert!(value(&nested(DEPTH_MAX + 1)).is_err());
        assert!(value(&"[".repeat(1_000_000)).is_err());
        assert_eq!(
            value(r#"{"a":[1,{"b":[]},"]"],"c":{}}"#),
            Ok(Value::Nested("an object"))
        );
    }

    #[test]
    fn errors_say_where() {
        let error = value("{\"a\": 1,\n  \"b\": ?}").unwrap_err();
        assert_eq!(
            error,
            ReadError::Syntax("expected a value but found '?' at line 2, column 8".into())
        );
    }

    #[test]
    fn members_that_are_taken_at_once_are_as_others() {
        let names = ["a", "an integer", "a category", "bounded", "yes"];
        let words = [
            "null",
            "true",
            "[1]",
            "{}",
            "\"re\\u0064\"",
            "\"\"",
            "nul",
            "\"open",
            "-",
            "Infinity",
        ];
        let mut random = Random(11);
        let (mut good, mut malformed) = (0, 0);
        for _ in 0..6000 {
            let mut plain = String::from("{\"instances\":[");
            let mut spaced = plain.clone();
            let first = [0, 0, 0, 1][random.below(4)];
            for record in 0..2 {
                let bare = random.below(2) == 0;
                let open = [["{\"features\":{", ",{\"features\":{"], ["{", ",{"]][usize::from(bare)][record];
                (plain, spaced) = (plain + open, spaced + open);
                for i in 0..names.len() {
                    let name = names[(i + first) % names.len()];
                    let rare = random.below(80);
                    let value = match (name, rare) {
                        (_, 0) => words[random.below(words.len())].to_owned(),
                        (_, 1) => VALUES[random.below(VALUES.len())].to_owned(),
                        ("a category", _) => format!("\"{}\"", VALUES[17 + random.below(4)]),
                        ("yes", _) => "1".to_owned(),
                        _ => VALUES[[0, 1, 4, 8][random.below(4)]].to_owned(),
                    };
                    let value = match rare {
                        1 if !value.starts_with(|c: char| c == '-' || c.is_ascii_digit()) => format!("\"{value}\""),
                        _ => value,
                    };
                    let comma = if i > 0 { "," } else { "" };
                    let space = ["", "", " ", "\n\t"][random.below(4)];
                    // A space before the colon takes the other way.
                    plain.push_str(&format!("{comma}{space}\"{name}\": {value}{space}"));
                    spaced.push_str(&format!("{comma}{space}\"{name}\" :{value}{space}"));
                }
                let end = match bare {
                    true => ["}", "}", "}", ",\"id\":\"x\"}", "}}", ",\"features\":{\"a\":1}}"],
                    false => ["}}", "}}", "}}", "},\"id\":\"x\"}", "}", "},\"yes\":1}"],
                }[random.below(6)];
                (plain, spaced) = (plain + end, spaced + end);
            }
            (plain, spaced) = (plain + "]}", spaced + "]}");
            let result =
                |text: &str| testing::read(|schema, batch| Json::new(text.as_bytes())?.instances(schema, batch, 9));
            let found = result(&plain);
            good += usize::from(!found.contains("Bad") && !found.contains("Syntax"));
            malformed += usize::from(found.contains("Syntax"));
            assert_eq!(found, result(&spaced), "{plain}");
        }
        assert!(good > 500 && malformed > 500, "{good} {malformed}");
    }
}
