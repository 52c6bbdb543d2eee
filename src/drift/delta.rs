//! What is counted away from the modelet host, on its way there: the body of
//! `POST /observe`.
//!
//! An instance under Spin or the wasmtime command line, or a page in a browser,
//! counts what it observes and sends *deltas*: what was counted since the delta
//! before it. A delta holds counts and never values. It carries the instance
//! and a sequence number, so that one which is sent again because its
//! acknowledgement was lost is not counted twice.
//!
//! # Format
//!
//! JSON (`application/json`), all members required but `sample`, no others:
//!
//! ```json
//! {"model": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
//!  "instance": "0190a3d2c5f84b1e9d3c7a6b5e4f3d2c", "sequence": 1, "source": "spin",
//!  "rows": {"answered": 3, "rejected": 1},
//!  "columns": [[[4, 2], [7, 1]], [[0, 3]]],
//!  "faults": [[0, "missing", 1], [null, "syntax", 1]],
//!  "requests": {"answered": 3, "rejected": 2, "failed": 0},
//!  "latency": [[1, 2], [3, 1]], "latency_sum_ns": 81000}
//! ```
//!
//! | member | what |
//! | --- | --- |
//! | `model` | SHA-256 of the model's bundle, 64 lower-case hexadecimal digits |
//! | `instance` | who counted, chosen at random: a UUID, or its 32 hexadecimal digits |
//! | `sequence` | 1 for the first delta of an instance, one more for each further one, at most 2^53 |
//! | `source` | the home: `spin`, `wasmtime`, `browser`, or a name of the operator's; see [`valid_source`] |
//! | `sample` | the share of requests that are counted, in (0, 1]; absent: all |
//! | `rows` | rows answered and rejected |
//! | `columns` | for each monitored column of the manifest's reference, in order, pairs of a bin and how many answered rows fell into it; bins ascend and those with nothing in them are left out |
//! | `faults` | the feature's index, or `null` for a fault that is about none; the code; how often |
//! | `requests` | requests for predictions by the status of their answer: below 400, below 500, others |
//! | `latency` | pairs of a bucket of [`LATENCY_BUCKETS_S`], or the one beyond, and how many answered requests fell into it |
//! | `latency_sum_ns` | nanoseconds of prediction of all of them together |
//!
//! Every column adds up to the answered rows, and the latency buckets to the
//! answered requests. No count is above [`COUNT_MAX`].
//!
//! Counts are never scaled by `sample`: a test for drift on scaled counts would
//! believe in rows that nobody saw. Who wants totals divides by it.

use super::Counts;
use crate::api::json;
use crate::api::metrics::LATENCY_BUCKETS_S;
use crate::signature::{Manifest, Reference};
use crate::validate::FaultCode;
use serde::Deserialize;

/// The largest body that is read, in bytes: that of a full delta of some 20,000
/// columns.
pub const BYTES_MAX: usize = 16 << 20;

/// The largest count that is believed, and more than an instance observes
/// between two deltas. Millions of such deltas add up without overflow.
pub const COUNT_MAX: u64 = 1 << 40;

/// The largest integer that JSON readers agree on.
const INTEGER_MAX: u64 = 1 << 53;

/// The source of a browser's deltas.
pub const SOURCE_BROWSER: &str = "browser";
/// The source of what the modelet host observes itself; no delta may have it.
pub const SOURCE_HOST: &str = "host";
/// The source of deltas from Spin.
pub const SOURCE_SPIN: &str = "spin";
/// The source of deltas from the wasmtime command line.
pub const SOURCE_WASMTIME: &str = "wasmtime";

/// Whether a delta may have this source: 1 to 32 lower-case letters, digits,
/// `-` and `_`, but not `host`.
pub fn valid_source(source: &str) -> bool {
    (1..=32).contains(&source.len())
        && source
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
        && source != SOURCE_HOST
}

/// Requests for predictions, by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requests {
    /// Those that were answered.
    pub answered: u64,
    /// Those that were refused for what they brought: a status of 400 to 499.
    pub rejected: u64,
    /// Those that failed otherwise.
    pub failed: u64,
}

impl Requests {
    /// Counts one request by the status of its answer.
    pub fn count(&mut self, status: u16) {
        *match status {
            ..400 => &mut self.answered,
            400..500 => &mut self.rejected,
            500.. => &mut self.failed,
        } += 1;
    }
}

/// What an instance observed over some time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Rows, bins and faults.
    pub counts: Counts,
    /// Requests.
    pub requests: Requests,
    /// Answered requests by the time of their prediction: one count for each
    /// of [`LATENCY_BUCKETS_S`], and one beyond.
    pub latency: [u64; LATENCY_BUCKETS_S.len() + 1],
    /// The time of all these predictions together, in nanoseconds.
    pub latency_sum_ns: u64,
}

impl Observed {
    /// No observation yet, of a model with these columns.
    pub fn new(reference: &Reference) -> Observed {
        Observed {
            counts: Counts::new(reference),
            ..Observed::default()
        }
    }

    /// Whether nothing was observed.
    pub fn is_empty(&self) -> bool {
        self.requests == Requests::default() && self.counts.is_empty()
    }

    /// Forgets everything but which columns there are.
    pub fn clear(&mut self) {
        let mut columns = std::mem::take(&mut self.counts.columns);
        columns.iter_mut().for_each(|column| column.fill(0));
        *self = Observed::default();
        self.counts.columns = columns;
    }

    /// Counts the time of an answered request's prediction.
    pub fn time(&mut self, inference_ns: u64) {
        self.latency[latency_bucket(inference_ns)] += 1;
        self.latency_sum_ns += inference_ns;
    }

    /// Adds what was observed elsewhere of the same model.
    pub fn merge(&mut self, other: &Observed) {
        self.counts.merge(&other.counts);
        self.requests.answered += other.requests.answered;
        self.requests.rejected += other.requests.rejected;
        self.requests.failed += other.requests.failed;
        for (count, more) in self.latency.iter_mut().zip(&other.latency) {
            *count += more;
        }
        self.latency_sum_ns += other.latency_sum_ns;
    }
}

/// The latency bucket of a prediction that took so long.
pub fn latency_bucket(inference_ns: u64) -> usize {
    let seconds = inference_ns as f64 / 1e9;
    LATENCY_BUCKETS_S.partition_point(|&bound| bound < seconds)
}

/// Who counted, and which of its deltas this is.
#[derive(Clone, Debug, PartialEq)]
pub struct Origin {
    /// SHA-256 of the model's bundle, hexadecimal, lower case.
    pub model: String,
    /// The instance: 32 hexadecimal digits, lower case.
    pub instance: String,
    /// The number of the delta, from 1.
    pub sequence: u64,
    /// The home; see [`valid_source`].
    pub source: String,
    /// The share of requests that are counted, in (0, 1].
    pub sample: f64,
}

/// What an instance observed since its last delta.
#[derive(Clone, Debug, PartialEq)]
pub struct Delta {
    /// Who counted.
    pub origin: Origin,
    /// What was counted.
    pub observed: Observed,
}

/// Writes a delta.
pub fn write(origin: &Origin, observed: &Observed) -> Vec<u8> {
    let counts = &observed.counts;
    let mut out = Vec::with_capacity(512 + 32 * counts.columns.len());
    name(&mut out, b'{', "model");
    json::text(&mut out, &origin.model);
    name(&mut out, b',', "instance");
    json::text(&mut out, &origin.instance);
    number(&mut out, b',', "sequence", origin.sequence);
    name(&mut out, b',', "source");
    json::text(&mut out, &origin.source);
    if origin.sample < 1.0 {
        name(&mut out, b',', "sample");
        json::f64(&mut out, origin.sample);
    }
    name(&mut out, b',', "rows");
    number(&mut out, b'{', "answered", counts.answered);
    number(&mut out, b',', "rejected", counts.rejected);
    out.push(b'}');
    name(&mut out, b',', "columns");
    out.push(b'[');
    for (index, column) in counts.columns.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        sparse(&mut out, column);
    }
    out.push(b']');
    name(&mut out, b',', "faults");
    let mut before = b'[';
    if counts.faults.is_empty() {
        out.push(before);
    }
    for ((feature, code), count) in &counts.faults {
        out.extend([before, b'[']);
        match feature {
            Some(feature) => json::integer(&mut out, i64::from(*feature)),
            None => out.extend_from_slice(b"null"),
        }
        out.push(b',');
        json::text(&mut out, code.name());
        out.push(b',');
        json::integer(&mut out, *count as i64);
        out.push(b']');
        before = b',';
    }
    out.push(b']');
    name(&mut out, b',', "requests");
    number(&mut out, b'{', "answered", observed.requests.answered);
    number(&mut out, b',', "rejected", observed.requests.rejected);
    number(&mut out, b',', "failed", observed.requests.failed);
    out.push(b'}');
    name(&mut out, b',', "latency");
    sparse(&mut out, &observed.latency);
    number(&mut out, b',', "latency_sum_ns", observed.latency_sum_ns);
    out.push(b'}');
    out
}

fn name(out: &mut Vec<u8>, before: u8, name: &str) {
    out.extend([before, b'"']);
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn number(out: &mut Vec<u8>, before: u8, member: &str, value: u64) {
    name(out, before, member);
    json::integer(out, value as i64);
}

/// `[[place, count], ...]` for what is not 0.
fn sparse(out: &mut Vec<u8>, counts: &[u64]) {
    let mut before = b'[';
    for (place, &count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        out.extend([before, b'[']);
        json::integer(out, place as i64);
        out.push(b',');
        json::integer(out, count as i64);
        out.push(b']');
        before = b',';
    }
    if before == b'[' {
        out.push(before);
    }
    out.push(b']');
}

/// A delta that was read, but not yet held against the model that it names.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unchecked {
    model: String,
    instance: String,
    sequence: u64,
    source: String,
    sample: Option<f64>,
    rows: Rows,
    columns: Vec<Vec<(u64, u64)>>,
    faults: Vec<(Option<u32>, FaultCode, u64)>,
    requests: Requests,
    latency: Vec<(u64, u64)>,
    latency_sum_ns: u64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rows {
    answered: u64,
    rejected: u64,
}

/// Reads a delta. What needs no model is checked.
///
/// # Errors
/// When the body is no delta; the text says what is wrong with which member.
pub fn read(body: &[u8]) -> Result<Unchecked, String> {
    if body.len() > BYTES_MAX {
        return Err(format!(
            "the delta has {} bytes where {BYTES_MAX} are accepted",
            body.len()
        ));
    }
    let mut delta: Unchecked = serde_json::from_slice(body).map_err(|e| format!("the delta can't be read: {e}"))?;
    if delta.model.len() != 64 || !delta.model.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Err("model: expected a SHA-256 in 64 lower-case hexadecimal digits".into());
    }
    delta.instance = instance(&delta.instance).ok_or("instance: expected a UUID or its 32 hexadecimal digits")?;
    if !(1..=INTEGER_MAX).contains(&delta.sequence) {
        return Err(format!(
            "sequence: expected a number from 1 to 2^53 but got {}",
            delta.sequence
        ));
    }
    if !valid_source(&delta.source) {
        return Err(format!(
            "source: expected 1 to 32 lower-case letters, digits, - and _, other than {SOURCE_HOST:?}, but got {:?}",
            &delta.source[..delta.source.floor_char_boundary(64)]
        ));
    }
    if let Some(sample) = delta.sample.filter(|&share| !(share > 0.0 && share <= 1.0)) {
        return Err(format!("sample: expected a share above 0, at most 1, but got {sample}"));
    }
    Ok(delta)
}

/// [`read`] and [`Unchecked::check`] in one.
///
/// # Errors
/// As for these two.
pub fn parse(body: &[u8], manifest: &Manifest) -> Result<Delta, String> {
    read(body)?.check(manifest)
}

/// An instance id in its one form.
pub(crate) fn instance(id: &str) -> Option<String> {
    let bytes = id.as_bytes();
    let dashes: &[usize] = match bytes.len() {
        32 => &[],
        36 => &[8, 13, 18, 23],
        _ => return None,
    };
    let mut digits = String::with_capacity(32);
    for (at, &byte) in bytes.iter().enumerate() {
        if dashes.contains(&at) {
            if byte != b'-' {
                return None;
            }
        } else if byte.is_ascii_hexdigit() {
            digits.push(char::from(byte.to_ascii_lowercase()));
        } else {
            return None;
        }
    }
    Some(digits)
}

impl Unchecked {
    /// SHA-256 of the bundle of the model that it is about, hexadecimal.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// Holds it against the model that it names.
    ///
    /// # Errors
    /// When it can't have been counted by an instance of this model; the text
    /// says what is wrong with which member.
    pub fn check(self, manifest: &Manifest) -> Result<Delta, String> {
        let reference = &manifest.reference;
        if self.columns.len() != reference.columns.len() {
            return Err(format!(
                "columns: expected {}, as the model has, but got {}",
                reference.columns.len(),
                self.columns.len()
            ));
        }
        for (member, count) in [
            ("rows.answered", self.rows.answered),
            ("rows.rejected", self.rows.rejected),
            ("requests.answered", self.requests.answered),
            ("requests.rejected", self.requests.rejected),
            ("requests.failed", self.requests.failed),
        ] {
            believable(count).map_err(|what| format!("{member}: {what}"))?;
        }
        let mut observed = Observed::new(reference);
        let counts = &mut observed.counts;
        counts.answered = self.rows.answered;
        counts.rejected = self.rows.rejected;
        for (index, ((given, column), bins)) in self
            .columns
            .iter()
            .zip(&reference.columns)
            .zip(&mut counts.columns)
            .enumerate()
        {
            dense(given, bins, self.rows.answered, "answered rows")
                .map_err(|what| format!("columns[{index}] ({:?}): {what}", column.name))?;
        }
        for (index, &(feature, code, count)) in self.faults.iter().enumerate() {
            let wrong = |what: String| Err(format!("faults[{index}]: {what}"));
            if let Some(feature) = feature.filter(|&f| f as usize >= manifest.features.len()) {
                return wrong(format!(
                    "feature {feature} of a model that has {}",
                    manifest.features.len()
                ));
            }
            if let Err(what) = believable(count) {
                return wrong(what);
            }
            if counts.faults.insert((feature, code), count).is_some() {
                return wrong(format!("{:?} of this feature is there twice", code.name()));
            }
        }
        dense(
            &self.latency,
            &mut observed.latency,
            self.requests.answered,
            "answered requests",
        )
        .map_err(|what| format!("latency: {what}"))?;
        if self.latency_sum_ns > INTEGER_MAX {
            return Err(format!(
                "latency_sum_ns: expected at most 2^53 but got {}",
                self.latency_sum_ns
            ));
        }
        observed.requests = self.requests;
        observed.latency_sum_ns = self.latency_sum_ns;
        Ok(Delta {
            origin: Origin {
                model: self.model,
                instance: self.instance,
                sequence: self.sequence,
                source: self.source,
                sample: self.sample.unwrap_or(1.0),
            },
            observed,
        })
    }
}

fn believable(count: u64) -> Result<(), String> {
    if count > COUNT_MAX {
        return Err(format!("a count of {count}, where {COUNT_MAX} is the most"));
    }
    Ok(())
}

/// Reads pairs of a place and a count, which must add up to `total`.
fn dense(pairs: &[(u64, u64)], counts: &mut [u64], total: u64, of: &str) -> Result<(), String> {
    let mut next = 0;
    let mut sum = 0u64;
    for &(place, count) in pairs {
        if place >= counts.len() as u64 {
            return Err(format!("bin {place} where there are {}", counts.len()));
        }
        if place < next {
            return Err(format!("bin {place} is not above the one before it"));
        }
        believable(count)?;
        counts[place as usize] = count;
        next = place + 1;
        sum = sum.saturating_add(count);
    }
    if sum != total {
        return Err(format!("the counts add up to {sum} where there are {total} {of}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drift::Bins;
    use crate::signature::{Category, Column};
    use crate::validate::FaultCount;
    use serde_json::{Value, json};

    fn manifest() -> Manifest {
        let mut manifest: Manifest = serde_json::from_value(json!({
            "format": crate::signature::FORMAT, "name": "m", "version": "1", "engine": "tabular", "task": "binary",
            "batch": true,
            "features": [
                {"name": "x", "type": "number", "input": 0, "column": 0},
                {"name": "c", "type": "category", "input": 0, "column": 1},
            ],
            "inputs": [{"name": "x", "dtype": "float32", "shape": [2]}],
            "output": {"labels": [0, 1], "scores": [0], "width": 2, "kind": "probability"},
            "reference": {"rows": 0, "columns": []},
            "provenance": {"modelet": "", "onnx_sha256": "", "onnx_bytes": 0, "opsets": {}, "operators": {}},
        }))
        .unwrap();
        let labels = vec![Category::Code(0.0), Category::Code(1.0)];
        manifest.reference.columns = vec![
            Column::new("x", Bins::from_numbers(&[0.0, 1.0]).unwrap()),
            Column::new("c", Bins::from_categories(vec![Category::Name("a".into())])),
            Column::new("prediction", Bins::from_categories(labels)),
            Column::new("score", Bins::uniform(0.0, 1.0)),
        ];
        manifest
    }

    fn origin() -> Origin {
        Origin {
            model: "9f".repeat(32),
            instance: "0190a3d2c5f84b1e9d3c7a6b5e4f3d2c".into(),
            sequence: 1,
            source: SOURCE_SPIN.into(),
            sample: 1.0,
        }
    }

    fn observed() -> Observed {
        let fault = |feature, code, count| FaultCount { feature, code, count };
        let mut observed = Observed::new(&manifest().reference);
        observed.counts.add_rows(
            &[0, 1, 0],
            &[1, 0, 1, 60, 255, 255, 255, 255, 6, 1, 1, 60],
            &[
                fault(Some(1), FaultCode::NotFinite, 1),
                fault(None, FaultCode::Syntax, 2),
            ],
        );
        for status in [200, 200, 422, 500] {
            observed.requests.count(status);
        }
        observed.time(9_000);
        observed.time(6_000_000_000);
        observed
    }

    #[test]
    fn what_is_written_is_read_back() {
        let manifest = manifest();
        for (origin, observed) in [
            (origin(), Observed::new(&manifest.reference)),
            (origin(), observed()),
            (
                Origin {
                    sample: 0.1,
                    sequence: INTEGER_MAX,
                    source: "edge-7_eu".into(),
                    ..origin()
                },
                observed(),
            ),
        ] {
            let body = write(&origin, &observed);
            assert_eq!(parse(&body, &manifest), Ok(Delta { origin, observed }));
        }
    }

    #[test]
    fn a_delta_is_written_as_documented() {
        let body = write(&origin(), &observed());
        assert_eq!(
            serde_json::from_slice::<Value>(&body).unwrap(),
            json!({
                "model": "9f".repeat(32), "instance": "0190a3d2c5f84b1e9d3c7a6b5e4f3d2c",
                "sequence": 1, "source": "spin",
                "rows": {"answered": 2, "rejected": 1},
                "columns": [[[1, 1], [6, 1]], [[0, 1], [1, 1]], [[1, 2]], [[60, 2]]],
                "faults": [[null, "syntax", 2], [1, "not_finite", 1]],
                "requests": {"answered": 2, "rejected": 1, "failed": 1},
                "latency": [[0, 1], [18, 1]], "latency_sum_ns": 6_000_009_000u64,
            })
        );
    }

    #[test]
    fn an_instance_has_one_form() {
        let plain = "0190a3d2c5f84b1e9d3c7a6b5e4f3d2c";
        assert_eq!(instance(plain).as_deref(), Some(plain));
        assert_eq!(instance("0190A3D2-C5F8-4B1E-9D3C-7A6B5E4F3D2C").as_deref(), Some(plain));
        for wrong in [
            "",
            "0190a3d2",
            "0190a3d2c-5f8-4b1e-9d3c-7a6b5e4f3d2c",
            &"g".repeat(32),
            &"é".repeat(16),
        ] {
            assert_eq!(instance(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_no_instance_of_the_model_counted_is_refused() {
        let set = |path: &str, value: Value| {
            let mut delta: Value = serde_json::from_slice(&write(&origin(), &observed())).unwrap();
            match delta.pointer_mut(path) {
                Some(member) => *member = value,
                None => delta[path.trim_start_matches('/')] = value,
            }
            parse(&serde_json::to_vec(&delta).unwrap(), &manifest()).expect_err(path)
        };
        for (path, value, says) in [
            ("/model", json!("9F".repeat(32)), "model: expected a SHA-256"),
            ("/model", json!("9f"), "model: expected a SHA-256"),
            ("/instance", json!("me"), "instance: expected a UUID"),
            ("/sequence", json!(0), "sequence: expected a number from 1"),
            ("/sequence", json!(-1), "can't be read"),
            ("/sequence", json!(1.5), "can't be read"),
            (
                "/sequence",
                json!(INTEGER_MAX + 1),
                "sequence: expected a number from 1",
            ),
            ("/source", json!("host"), "source: expected 1 to 32"),
            ("/source", json!("a b"), "but got \"a b\""),
            ("/source", json!("é".repeat(10_000)), "source: expected 1 to 32"),
            ("/sample", json!(0), "sample: expected a share above 0"),
            ("/sample", json!(1.1), "sample: expected a share above 0"),
            ("/extra", json!(1), "unknown field `extra`"),
            ("/rows", json!({"answered": 2}), "missing field `rejected`"),
            (
                "/rows/answered",
                json!(3),
                "columns[0] (\"x\"): the counts add up to 2 where there are 3 answered rows",
            ),
            (
                "/rows/rejected",
                json!(COUNT_MAX + 1),
                "rows.rejected: a count of 1099511627777",
            ),
            (
                "/columns",
                json!([]),
                "columns: expected 4, as the model has, but got 0",
            ),
            (
                "/columns/1",
                json!([[0, 1], [5, 1]]),
                "columns[1] (\"c\"): bin 5 where there are 5",
            ),
            (
                "/columns/1",
                json!([[1, 1], [0, 1]]),
                "columns[1] (\"c\"): bin 0 is not above the one before it",
            ),
            (
                "/columns/1",
                json!([[0, 1], [0, 1]]),
                "columns[1] (\"c\"): bin 0 is not above the one before it",
            ),
            ("/columns/1", json!([[u64::MAX, 1]]), "where there are 5"),
            (
                "/columns/1",
                json!([[0, u64::MAX], [1, 3]]),
                "columns[1] (\"c\"): a count of 18446744073709551615",
            ),
            ("/columns/1", json!([[0, 1, 1]]), "can't be read"),
            ("/columns/1", json!([[0, 1e30]]), "can't be read"),
            (
                "/faults/0",
                json!([2, "range", 1]),
                "faults[0]: feature 2 of a model that has 2",
            ),
            ("/faults/0", json!([1, "odd", 1]), "unknown variant `odd`"),
            (
                "/faults/0",
                json!([1, "not_finite", 1]),
                "faults[1]: \"not_finite\" of this feature is there twice",
            ),
            ("/faults/0", json!([1, "range", u64::MAX]), "faults[0]: a count of"),
            (
                "/requests/answered",
                json!(1),
                "latency: the counts add up to 2 where there are 1 answered requests",
            ),
            ("/latency", json!([[21, 2]]), "latency: bin 21 where there are 21"),
            (
                "/latency_sum_ns",
                json!(u64::MAX),
                "latency_sum_ns: expected at most 2^53",
            ),
        ] {
            let said = set(path, value);
            assert!(said.contains(says), "{path}: {said}");
        }
        assert!(read(&vec![b' '; BYTES_MAX + 1]).unwrap_err().contains("bytes"));
    }

    #[test]
    fn damaged_deltas_end_in_an_error_or_in_counts_that_fit() {
        let manifest = manifest();
        let whole = write(&origin(), &observed());
        for end in 0..whole.len() {
            assert!(parse(&whole[..end], &manifest).is_err());
        }
        for at in 0..whole.len() {
            for byte in [b'0', b'9', b'[', b']', b'"', b',', b'-', b'.', 0, 0xff] {
                let mut body = whole.clone();
                body[at] = byte;
                if let Ok(delta) = parse(&body, &manifest) {
                    assert!(delta.observed.counts.fit(&manifest.reference));
                }
            }
        }
        assert!(parse("[".repeat(1 << 20).as_bytes(), &manifest).is_err());
    }

    #[test]
    fn observations_merge_by_addition() {
        let mut sum = Observed::new(&manifest().reference);
        assert!(sum.is_empty());
        sum.merge(&observed());
        sum.merge(&observed());
        assert_eq!(sum.requests.answered, 4);
        assert_eq!(sum.latency[0], 2);
        assert_eq!(sum.latency_sum_ns, 12_000_018_000);
        assert_eq!(sum.counts.columns[3][60], 4);
        assert!(!sum.is_empty());
    }
}
