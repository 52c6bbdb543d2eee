//! Records: bytes to typed columns.
//!
//! A reader (`json`, `csv`, or the browser's objects) delivers the values of a
//! record one after another; each is checked and written straight into the
//! column of the model input that it feeds. There is no document in between,
//! and on the warm path nothing is allocated. The record that turns out bad is
//! taken back as a whole, so that a batch holds good records only.

pub(crate) mod csv;
pub(crate) mod json;
pub(crate) mod object;
pub mod quotes;
mod swar;

use crate::signature::Manifest;
use crate::tensor::{Data, RANK_MAX, Shape, Tensor};
use crate::validate::{Accepted, Check, Fault, FaultCode, FaultCount, Schema, Subject, Value, Warning};

/// Faults that are kept to be told; further ones are only counted, but for the
/// first one of each record.
const FAULTS_MAX: usize = 10_000;
/// So many faults may come with a suggestion.
const SUGGESTIONS_MAX: usize = 100;
/// The bin number of a rejected record.
pub const BIN_REJECTED: u8 = 255;

/// Good records as typed columns, and what was wrong with the others.
#[derive(Debug, Default)]
pub struct Batch {
    /// One tensor for each model input; the first dimension is the good records.
    pub(crate) inputs: Vec<Tensor>,
    widths: Vec<usize>,
    shapes: Vec<Vec<usize>>,
    /// What became of each record that came.
    pub(crate) outcomes: Vec<Outcome>,
    /// Bins of the features, record by record, rejected ones included.
    pub(crate) bins: Vec<u8>,
    pub(crate) faults: Vec<Fault>,
    pub(crate) warnings: Vec<Warning>,
    /// The id that the request's own body brought.
    pub(crate) id: Option<String>,
    counts: Vec<FaultCount>,
    good: usize,
    open: Open,
    /// The features in the order in which the last caller named them; empty as
    /// long as it is the signature's.
    order: Vec<u32>,
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is the record of this number among the good ones; its warnings end
    /// there, and so many more were not kept.
    Good { warnings_end: u32, omitted: u32 },
    /// Its faults are these, and so many more were not kept.
    Bad {
        faults_start: u32,
        faults_end: u32,
        omitted: u32,
    },
}

/// The record being read.
#[derive(Debug, Default)]
struct Open {
    given: Vec<bool>,
    given_count: usize,
    /// How many names came.
    names: usize,
    bad: bool,
    faults_start: usize,
    faults_omitted: u32,
    warnings_start: usize,
    warnings_omitted: u32,
    /// Texts of the record, in the order in which they came.
    text: String,
    texts: Vec<(u32, u32, u32)>,
}

impl Batch {
    /// Empties the batch for a new request, keeping its buffers.
    pub(crate) fn reset(&mut self, manifest: &Manifest) {
        if self.inputs.len() != manifest.inputs.len() {
            self.inputs = manifest
                .inputs
                .iter()
                .map(|input| Tensor {
                    shape: Shape::vector(0),
                    data: Data::empty(input.dtype),
                })
                .collect();
            self.widths = manifest.inputs.iter().map(|i| i.width()).collect();
            self.shapes = manifest
                .inputs
                .iter()
                .map(|i| i.shape.iter().map(|&d| d as usize).collect())
                .collect();
        }
        self.inputs.iter_mut().for_each(|t| t.data.clear());
        self.outcomes.clear();
        self.bins.clear();
        self.faults.clear();
        self.warnings.clear();
        self.counts.clear();
        self.id = None;
        self.good = 0;
    }

    /// The number of records that came.
    pub fn len(&self) -> usize {
        self.outcomes.len()
    }

    /// Whether no record came.
    pub fn is_empty(&self) -> bool {
        self.outcomes.is_empty()
    }

    /// The number of good records.
    pub fn good(&self) -> usize {
        self.good
    }

    /// The columns, one tensor a model input, as long as there are good records.
    pub fn inputs(&self) -> &[Tensor] {
        &self.inputs
    }

    /// How often each fault occurred.
    pub fn fault_counts(&self) -> &[FaultCount] {
        &self.counts
    }

    /// Starts a record.
    pub(crate) fn begin(&mut self, schema: &Schema) {
        for (tensor, &width) in self.inputs.iter_mut().zip(&self.widths) {
            let len = tensor.data.len() + width;
            match &mut tensor.data {
                Data::Float32(v) => v.resize(len, f32::NAN),
                Data::Float64(v) => v.resize(len, f64::NAN),
                Data::Int64(v) => v.resize(len, 0),
                Data::Int32(v) => v.resize(len, 0),
                Data::Bool(v) | Data::Uint8(v) => v.resize(len, 0),
                Data::Int8(v) => v.resize(len, 0),
                Data::String(_) => {}
            }
        }
        let open = &mut self.open;
        open.given.clear();
        open.given.resize(schema.len(), false);
        open.given_count = 0;
        open.names = 0;
        open.bad = false;
        open.faults_start = self.faults.len();
        open.faults_omitted = 0;
        open.warnings_start = self.warnings.len();
        open.warnings_omitted = 0;
        open.text.clear();
        open.texts.clear();
        self.bins.resize(self.bins.len() + schema.len(), BIN_REJECTED);
    }

    /// The feature that likely comes next: a caller keeps to one order, which
    /// need not be the signature's.
    #[inline]
    pub(crate) fn expected(&self) -> usize {
        let place = self.open.names;
        self.order.get(place).map_or(place, |&index| index as usize)
    }

    /// Takes a value of the open record for the feature that was
    /// [`Batch::expected`].
    #[inline]
    pub(crate) fn put_expected(&mut self, schema: &Schema, value: Value<'_>) {
        let index = self.expected();
        self.open.names += 1;
        self.put_at(schema, index, value);
    }

    /// Takes a value of the open record.
    #[inline]
    pub(crate) fn put(&mut self, schema: &Schema, name: &str, value: Value<'_>) {
        let (place, hint) = (self.open.names, self.expected());
        self.open.names += 1;
        match schema.find(name, hint) {
            Some(index) => {
                if index != hint && place < schema.len() {
                    let known = self.order.len() as u32;
                    self.order.extend(known..schema.len() as u32);
                    self.order[place] = index as u32;
                }
                self.put_at(schema, index, value);
            }
            None => {
                if schema.unknown == crate::signature::Unknown::Error {
                    // Looking for a near name takes its time.
                    let near = match self.faults.len() {
                        0..SUGGESTIONS_MAX => schema.nearest(name),
                        _ => None,
                    };
                    let message = match near {
                        Some(near) => format!("the model has no feature of this name; did you mean {near:?}?"),
                        None => "the model has no feature of this name".to_string(),
                    };
                    self.fault(Subject::Name(name.to_owned()), FaultCode::Unknown, message, None);
                }
            }
        }
    }

    /// Takes a value of the open record for the feature at `index`.
    #[inline]
    pub(crate) fn put_at(&mut self, schema: &Schema, index: usize, value: Value<'_>) {
        match value {
            Value::Number(number) if self.put_plain(schema, index, number) => {}
            value => self.put_checked(schema, index, value),
        }
    }

    /// Takes a number of the open record for the feature at `index`, if it is
    /// [plain](crate::validate::Check::plain) and the first for it; else does
    /// nothing. Answers whether it was taken.
    #[inline(always)]
    pub(crate) fn put_plain(&mut self, schema: &Schema, index: usize, number: f64) -> bool {
        let check = &schema.checks[index];
        match check.plain(number) {
            Some(bin) if self.place(schema, index, bin) => self.store(check, number),
            _ => return false,
        }
        true
    }

    /// [`Batch::put_plain`] for a cell of CSV without quotes: an empty one, or the
    /// name of a category.
    pub(crate) fn put_plain_cell(&mut self, schema: &Schema, index: usize, cell: &str) -> bool {
        let check = &schema.checks[index];
        match check.plain_cell(cell) {
            Some((code, bin)) if self.place(schema, index, bin) => {
                if let Some(code) = code {
                    self.store(check, code);
                }
            }
            _ => return false,
        }
        true
    }

    /// Notes that the feature at `index` is given, and its bin; does nothing if
    /// it was given before. Answers whether it is the first.
    #[inline]
    fn place(&mut self, schema: &Schema, index: usize, bin: u8) -> bool {
        let first = self.give(index);
        if first {
            self.set_bin(schema, index, bin);
        }
        first
    }

    /// Notes that the feature at `index` is given. Answers whether it is the
    /// first time.
    #[inline]
    fn give(&mut self, index: usize) -> bool {
        let first = !std::mem::replace(&mut self.open.given[index], true);
        self.open.given_count += usize::from(first);
        first
    }

    #[inline]
    fn set_bin(&mut self, schema: &Schema, index: usize, bin: u8) {
        let start = self.bins.len() - schema.len();
        self.bins[start + index] = bin;
    }

    fn put_checked(&mut self, schema: &Schema, index: usize, value: Value<'_>) {
        let check = &schema.checks[index];
        if !self.give(index) {
            self.fault(
                Subject::Feature(index as u32),
                FaultCode::Duplicate,
                "the feature is given more than once".into(),
                None,
            );
            return;
        }
        let warnings = &mut self.warnings;
        let open = &mut self.open;
        let outcome = check.check(value, |(code, message)| {
            // Each record keeps one at least.
            if warnings.len() >= FAULTS_MAX && warnings.len() > open.warnings_start {
                open.warnings_omitted += 1;
            } else {
                warnings.push(Warning {
                    feature: index as u32,
                    code,
                    message,
                });
            }
        });
        match outcome {
            Ok((accepted, bin)) => {
                self.set_bin(schema, index, bin);
                match accepted {
                    Accepted::Missing => {}
                    Accepted::Number(number) => self.store(check, number),
                    Accepted::Text(text) => {
                        let start = self.open.text.len() as u32;
                        self.open.text.push_str(&text);
                        self.open.texts.push((index as u32, start, self.open.text.len() as u32));
                    }
                }
            }
            Err((code, message)) => {
                self.fault(Subject::Feature(index as u32), code, message, Some(check.accepted()));
            }
        }
    }

    /// Writes an accepted number into its column.
    #[inline(always)]
    fn store(&mut self, check: &Check, number: f64) {
        /// Writes the value that lies so far from the end.
        #[inline(always)]
        fn set<T>(values: &mut [T], from_end: usize, value: T) {
            let at = values.len() - from_end;
            values[at] = value;
        }
        let from_end = self.widths[check.input] - check.column;
        match &mut self.inputs[check.input].data {
            Data::Float32(v) => set(v, from_end, number as f32),
            Data::Float64(v) => set(v, from_end, number),
            Data::Int64(v) => set(v, from_end, number as i64),
            Data::Int32(v) => set(v, from_end, number as i32),
            Data::Bool(v) => set(v, from_end, u8::from(number != 0.0)),
            Data::Uint8(v) => set(v, from_end, number as u8),
            Data::Int8(v) => set(v, from_end, number as i8),
            Data::String(_) => {}
        }
    }

    /// Notes a fault of the open record.
    pub(crate) fn fault(&mut self, subject: Subject, code: FaultCode, message: String, accepted: Option<String>) {
        self.open.bad = true;
        let feature = match &subject {
            Subject::Feature(index) => Some(*index),
            _ => None,
        };
        match self.counts.iter_mut().find(|c| c.feature == feature && c.code == code) {
            Some(count) => count.count += 1,
            None => self.counts.push(FaultCount {
                feature,
                code,
                count: 1,
            }),
        }
        // Each record keeps one at least.
        let spare = self.faults.len() > self.open.faults_start && code != FaultCode::Syntax;
        if self.faults.len() >= FAULTS_MAX && spare {
            self.open.faults_omitted += 1;
        } else {
            self.faults.push(Fault {
                subject,
                code,
                message,
                accepted,
            });
        }
    }

    /// Ends the open record: what was not given is missing.
    pub(crate) fn end(&mut self, schema: &Schema) {
        if self.open.given_count < schema.len() {
            for index in 0..schema.len() {
                if !self.open.given[index] {
                    self.put_at(schema, index, Value::Null);
                }
            }
        }
        self.close(schema);
    }

    /// Does not complain of the features that the open record lacks.
    pub(crate) fn skip_missing(&mut self) {
        self.open.given.fill(true);
        self.open.given_count = self.open.given.len();
    }

    /// Ends the open record, or one that never began, as malformed.
    pub(crate) fn unreadable(&mut self, schema: &Schema, what: String) {
        if self.bins.len() == self.outcomes.len() * schema.len() {
            self.begin(schema);
        }
        self.fault(Subject::Request, FaultCode::Syntax, what, None);
        self.close(schema);
    }

    /// Ends the open record without looking for missing features.
    pub(crate) fn close(&mut self, schema: &Schema) {
        if self.open.bad {
            for (tensor, &width) in self.inputs.iter_mut().zip(&self.widths) {
                let len = self.good * width;
                match &mut tensor.data {
                    Data::Float32(v) => v.truncate(len),
                    Data::Float64(v) => v.truncate(len),
                    Data::Int64(v) => v.truncate(len),
                    Data::Int32(v) => v.truncate(len),
                    Data::Bool(v) | Data::Uint8(v) => v.truncate(len),
                    Data::Int8(v) => v.truncate(len),
                    Data::String(v) => v.truncate(len),
                }
            }
            self.warnings.truncate(self.open.warnings_start);
            let start = self.bins.len() - schema.len();
            self.bins[start..].fill(BIN_REJECTED);
            self.outcomes.push(Outcome::Bad {
                faults_start: self.open.faults_start as u32,
                faults_end: self.faults.len() as u32,
                omitted: self.open.faults_omitted,
            });
            return;
        }
        for (input, tensor) in self.inputs.iter_mut().enumerate() {
            let Data::String(strings) = &mut tensor.data else {
                continue;
            };
            for column in 0..self.widths[input] {
                let text = self.open.texts.iter().find(|(feature, _, _)| {
                    let check = &schema.checks[*feature as usize];
                    check.input == input && check.column == column
                });
                // A missing text is the empty one, as exporters have it.
                strings.push(text.map_or("", |&(_, start, end)| &self.open.text[start as usize..end as usize]));
            }
        }
        self.good += 1;
        self.outcomes.push(Outcome::Good {
            warnings_end: self.warnings.len() as u32,
            omitted: self.open.warnings_omitted,
        });
    }

    /// Takes back good records, by their numbers among the good ones, that the
    /// model does not run on, with the reason for each. Their columns stay.
    pub(crate) fn reject(&mut self, schema: &Schema, reasons: &[(usize, String)]) {
        let mut reasons = reasons.iter().peekable();
        let (mut good, mut warnings_start, mut warnings_gone) = (0, 0, 0);
        for (record, outcome) in self.outcomes.iter_mut().enumerate() {
            let Outcome::Good { warnings_end, .. } = outcome else {
                continue;
            };
            let end = *warnings_end - warnings_gone;
            *warnings_end = end;
            let rejected = reasons.next_if(|(row, _)| *row == good);
            good += 1;
            let Some((_, reason)) = rejected else {
                warnings_start = end;
                continue;
            };
            self.warnings.drain(warnings_start as usize..end as usize);
            warnings_gone += end - warnings_start;
            let faults_start = self.faults.len() as u32;
            self.faults.push(Fault {
                subject: Subject::Request,
                code: FaultCode::Model,
                message: reason.clone(),
                accepted: None,
            });
            *outcome = Outcome::Bad {
                faults_start,
                faults_end: faults_start + 1,
                omitted: 0,
            };
            self.bins[record * schema.len()..][..schema.len()].fill(BIN_REJECTED);
            self.good -= 1;
            match self.counts.iter_mut().find(|c| c.code == FaultCode::Model) {
                Some(count) => count.count += 1,
                None => self.counts.push(FaultCount {
                    feature: None,
                    code: FaultCode::Model,
                    count: 1,
                }),
            }
        }
    }

    /// Gives the columns their shapes; to be called when all records are in.
    pub(crate) fn finish(&mut self) {
        for (tensor, shape) in self.inputs.iter_mut().zip(&self.shapes) {
            let mut dims = [0; RANK_MAX];
            dims[0] = self.good;
            let rank = 1 + shape.len().min(RANK_MAX - 1);
            dims[1..rank].copy_from_slice(&shape[..rank - 1]);
            tensor.shape = Shape::new(&dims[..rank]).unwrap_or_default();
        }
    }
}

/// The id that a request's body brings: a text that a header can carry too, or
/// a number, as it is written.
pub(crate) fn id_of(value: Value<'_>, written: impl FnOnce() -> String) -> Result<Option<String>, (FaultCode, String)> {
    match value {
        Value::Null => Ok(None),
        Value::Text(id) if crate::api::valid_request_id(&id) => Ok(Some(id.into_owned())),
        Value::Number(n) if n.is_finite() => Ok(Some(written())),
        Value::Text(id) if id.len() > 256 => Err((FaultCode::TooLong, "an id has at most 256 bytes".into())),
        Value::Text(_) => Err((
            FaultCode::Type,
            "an id is made of visible ASCII characters, without spaces".into(),
        )),
        _ => Err((FaultCode::Type, "an id is a text or a number".into())),
    }
}

/// Why a request could not be read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ReadError {
    /// The bytes are not what they should be.
    Syntax(String),
    /// More records than are accepted.
    TooManyRows,
}

/// What the readers' tests are written with.
#[cfg(test)]
mod testing {
    use super::{Batch, ReadError};
    use crate::signature::Manifest;
    use crate::validate::Schema;

    /// Features of each kind, in one input for the model.
    pub(super) fn manifest() -> Manifest {
        let feature = |column: usize, name: &str, rest: serde_json::Value| {
            let mut feature = serde_json::json!({"name": name, "input": 0, "column": column});
            feature
                .as_object_mut()
                .unwrap()
                .extend(rest.as_object().unwrap().clone());
            feature
        };
        let numeric = |name: &str, cuts: &[f64]| {
            serde_json::json!({"name": name, "bins": {"type": "numeric", "min": 0.0, "cuts": cuts, "max": 100.0},
                "counts": []})
        };
        let features = [
            feature(
                0,
                "a",
                serde_json::json!({"type": "number", "seen": {"min": 0.0, "max": 100.0}}),
            ),
            feature(
                1,
                "an integer",
                serde_json::json!({"type": "integer", "nullable": true}),
            ),
            feature(
                2,
                "a category",
                serde_json::json!({"type": "category", "encoding": {"red": 0.0, "green": 1.0,
                "a rather long name": 2.0, "a rather long one": 3.0}}),
            ),
            feature(
                3,
                "bounded",
                serde_json::json!({"type": "number", "allowed": {"min": -5.0, "max": 50.0}}),
            ),
            feature(4, "yes", serde_json::json!({"type": "boolean", "nullable": true})),
        ];
        let columns = [
            numeric("a", &[1.0, 10.0, 50.0]),
            numeric("an integer", &[2.0]),
            serde_json::json!({"name": "a category", "bins": {"type": "categorical", "values": ["red", "green"]},
                "counts": []}),
            numeric("bounded", &[0.5]),
            numeric("yes", &[1.0]),
        ];
        serde_json::from_value(serde_json::json!({
            "format": crate::signature::FORMAT, "name": "m", "version": "1", "engine": "tabular", "task": "regression",
            "unknown": "error", "batch": true, "features": features,
            "inputs": [{"name": "x", "dtype": "float32", "shape": [5]}],
            "output": {"labels": [], "scores": [0], "width": 1, "kind": "value"},
            "reference": {"rows": 0, "columns": columns},
            "provenance": {"modelet": "", "onnx_sha256": "", "onnx_bytes": 0, "producer": "", "opsets": {},
                "operators": {}},
        }))
        .unwrap()
    }

    /// All that a batch holds after reading, as text.
    pub(super) fn read(read: impl FnOnce(&Schema, &mut Batch) -> Result<(), ReadError>) -> String {
        let manifest = manifest();
        let schema = Schema::new(&manifest).unwrap();
        let mut batch = Batch::default();
        batch.reset(&manifest);
        let read = read(&schema, &mut batch);
        let Batch {
            inputs,
            outcomes,
            bins,
            faults,
            warnings,
            id,
            counts,
            ..
        } = &batch;
        format!("{read:?}\n{inputs:?}\n{outcomes:?}\n{bins:?}\n{faults:?}\n{warnings:?}\n{id:?}\n{counts:?}")
    }

    /// Values as they are written, good and bad, some for several features.
    pub(super) const VALUES: [&str; 24] = [
        "0",
        "7",
        "-0",
        "-3",
        "12.5",
        "99.999",
        "100",
        "101",
        "0.5",
        "-5",
        "50.1",
        "1e1",
        "12345678",
        "0.12345678",
        "1e400",
        "NaN",
        "01",
        "red",
        "green",
        "a rather long name",
        "a rather long one",
        "blue",
        "",
        "true",
    ];

    /// Numbers up to this one, the same in every run.
    pub(super) struct Random(pub(super) u64);

    impl Random {
        pub(super) fn below(&mut self, end: usize) -> usize {
            self.0 = self
                .0
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (self.0 >> 33) as usize % end
        }
    }
}
