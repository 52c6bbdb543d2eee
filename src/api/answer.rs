//! A model behind its requests: bytes in, bytes out.

use super::json;
use super::{BatchOptions, Format, Kind, OnError, Problem};
use crate::engine::RunError;
use crate::model::{Model, Predictions, State};
use crate::record::json::{Json, read_lines};
use crate::record::{BIN_REJECTED, Batch, Outcome, ReadError, csv, object};
use crate::signature::{Labels, ScoreKind, Task};
use crate::validate::{FaultCode, FaultCount, Schema};
use serde::de::Deserializer;
use std::ops::Range;

/// A model with the buffers of its requests.
///
/// The functions take a *clock*, nanoseconds since some moment, because the
/// core has none: `inference_time_ms` is the time from the first byte parsed
/// to the last prediction made.
pub struct Service {
    model: Model,
    /// What every answer says of the model, up to the time that it took.
    credits: Vec<u8>,
    batch: Batch,
    state: State,
    predictions: Predictions,
}

/// What a request yields beside its answer's bytes.
#[derive(Debug, Default)]
pub struct Reply {
    /// The response's body; empty if there is a problem.
    pub body: Vec<u8>,
    /// Why the request was refused.
    pub problem: Option<Problem>,
    /// The id that the request's own body brought.
    pub id: Option<String>,
    /// Nanoseconds from the first byte parsed to the last prediction made.
    pub inference_ns: u64,
    /// 0 for each answered row, 1 for each rejected one.
    pub status: Vec<u8>,
    /// `rows × columns` bin numbers.
    pub bins: Vec<u8>,
    /// Monitored columns.
    pub columns: u32,
    /// Index of each row's class, or 0.
    pub labels: Vec<u32>,
    /// Each row's score; see [`Predictions::score`].
    pub scores: Vec<f64>,
    /// How often each fault occurred.
    pub faults: Vec<FaultCount>,
}

impl Service {
    /// A service for this model.
    pub fn new(model: Model) -> Service {
        let mut credits = Vec::new();
        member(&mut credits, "model_version");
        json::text(&mut credits, &model.manifest().version);
        member(&mut credits, "inference_time_ms");
        Service {
            model,
            credits,
            batch: Batch::default(),
            state: State::default(),
            predictions: Predictions::default(),
        }
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Answers one record: `{"features": {...}}`. `id` is written into the
    /// answer unless the body brings its own.
    pub fn predict(&mut self, body: &[u8], id: Option<&str>, clock: impl Fn() -> u64) -> Reply {
        self.predict_one(id, clock, |schema, batch| Json::new(body)?.single(schema, batch))
    }

    /// [`Service::predict`] for a record that any serde source delivers, such
    /// as an object of the browser.
    pub fn predict_object<'de, D: Deserializer<'de>>(
        &mut self,
        record: D,
        id: Option<&str>,
        clock: impl Fn() -> u64,
    ) -> Reply {
        self.predict_one(id, clock, |schema, batch| object::read(record, schema, batch))
    }

    fn predict_one(
        &mut self,
        id: Option<&str>,
        clock: impl Fn() -> u64,
        read: impl FnOnce(&Schema, &mut Batch) -> Result<(), ReadError>,
    ) -> Reply {
        let start = clock();
        let schema = self.model.schema();
        self.batch.reset(self.model.manifest());
        let read = read(schema, &mut self.batch);
        if let Err(ReadError::Syntax(what)) = &read {
            // What was read before the error is told too.
            let mut detail = String::from(what);
            if !self.batch.faults.is_empty() {
                detail.push_str("; what follows it could not be checked");
            }
            self.batch.unreadable(schema, what.clone());
            return self.refuse(Kind::MalformedBody, &detail, id);
        }
        if self.batch.good() == 0 {
            let count = self.fault_count();
            let detail = format!("{count} {} in the request", plural(count, "fault"));
            return self.refuse(Kind::InvalidFeatures, &detail, id);
        }
        let run = self.run();
        let inference_ns = clock().saturating_sub(start);
        if let Err(error) = run {
            let error = error.to_string();
            self.batch.reject(self.model.schema(), &[(0, error.clone())]);
            return self.refuse(Kind::ModelFailed, &error, id);
        }
        let mut out = Vec::with_capacity(192);
        let omitted = match self.batch.outcomes.first() {
            Some(&Outcome::Good { omitted, .. }) => omitted,
            _ => 0,
        };
        self.prediction(&mut out, 0, (0..self.batch.warnings.len(), omitted), false);
        self.tail(&mut out, inference_ns, id);
        self.reply(out, inference_ns)
    }

    /// Answers many records.
    pub fn predict_batch(
        &mut self,
        body: &[u8],
        options: BatchOptions,
        id: Option<&str>,
        clock: impl Fn() -> u64,
    ) -> Reply {
        let start = clock();
        let schema = self.model.schema();
        self.batch.reset(self.model.manifest());
        let rows_max = options.rows_max as usize;
        let read = match options.format {
            Format::Json => Json::new(body).and_then(|mut json| json.instances(schema, &mut self.batch, rows_max)),
            Format::Ndjson => read_lines(body, schema, &mut self.batch, rows_max),
            Format::Csv => csv::read(body, schema, &mut self.batch, rows_max),
        };
        match read {
            Ok(()) => {}
            Err(ReadError::Syntax(what)) => {
                self.batch.unreadable(schema, what.clone());
                // Faults of the rows before it would read as this one's.
                self.batch.faults.drain(..self.batch.faults.len() - 1);
                let fault = &self.batch.faults;
                let problem = Problem::with_faults(Kind::MalformedBody, &what, fault, 0, schema).with_id(id);
                return self.refusal(problem);
            }
            Err(ReadError::TooManyRows) => {
                return self.refuse_whole(
                    Kind::BatchTooLarge,
                    &format!("at most {rows_max} rows are accepted"),
                    id,
                );
            }
        }
        if self.batch.is_empty() {
            return self.refuse_whole(Kind::InvalidFeatures, "the batch has no rows", id);
        }
        let bad = |batch: &Batch| batch.len() - batch.good();
        if bad(&self.batch) > 0 && options.on_error == OnError::Fail {
            return self.refuse_rows(bad(&self.batch), id);
        }
        if self.run().is_err() {
            self.run_each();
            if options.on_error == OnError::Fail {
                return self.refuse_rows(bad(&self.batch), id);
            }
        }
        let inference_ns = clock().saturating_sub(start);
        let mut out = Vec::with_capacity(64 + 64 * self.batch.len());
        out.extend_from_slice(b"{\"predictions\":[");
        let mut row = 0;
        let mut warnings_start = 0;
        for (index, &outcome) in self.batch.outcomes.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            match outcome {
                Outcome::Good { warnings_end, omitted } => {
                    let end = warnings_end as usize;
                    self.prediction(&mut out, row, (warnings_start..end, omitted), options.full);
                    out.push(b'}');
                    warnings_start = end;
                    row += 1;
                }
                Outcome::Bad { .. } => self.bad_row(&mut out, index),
            }
        }
        out.push(b']');
        self.tail(&mut out, inference_ns, id);
        self.reply(out, inference_ns)
    }

    fn run(&mut self) -> Result<(), RunError> {
        self.batch.finish();
        self.model.run(&self.batch, &mut self.state, &mut self.predictions)
    }

    /// Runs record by record, to find those that the model does not run on.
    fn run_each(&mut self) {
        self.predictions.reset(self.model.manifest());
        let mut rejected = Vec::new();
        for row in 0..self.batch.good() {
            let run = self
                .model
                .run_one(&self.batch, row, &mut self.state, &mut self.predictions);
            if let Err(error) = run {
                self.predictions.truncate(row - rejected.len());
                rejected.push((row, error.to_string()));
            }
        }
        self.batch.reject(self.model.schema(), &rejected);
    }

    /// `{"prediction": ...` up to, and without, the closing brace.
    /// The warnings are a range and how many more there were.
    fn prediction(&self, out: &mut Vec<u8>, row: usize, (warnings, omitted): (Range<usize>, u32), full: bool) {
        let manifest = self.model.manifest();
        let spec = &manifest.output;
        let predictions = &self.predictions;
        let scores = &predictions.scores;
        let width = predictions.width;
        out.extend_from_slice(b"{\"prediction\":");
        let classifier = !spec.labels.is_empty();
        if let Some(&class) = predictions.classes.get(row) {
            label(out, &spec.labels, class as usize);
        } else if let Some(&label) = predictions.labels.get(row) {
            json::integer(out, label);
        } else if width == 1 && manifest.task != Task::Transform {
            json::score(out, scores, row);
        } else {
            list(out, width, |out, i| json::score(out, scores, row * width + i));
        }
        let scored = width > 0 && (classifier || !predictions.labels.is_empty());
        if scored {
            let (one, all) = match spec.kind {
                ScoreKind::Probability => ("probability", "probabilities"),
                _ => ("score", "scores"),
            };
            if classifier || width == 1 {
                member(out, one);
                json::score(out, scores, row * width + predictions.score_column(manifest, row));
            }
            if width > 1 && (full || manifest.task != Task::Binary) {
                member(out, all);
                if width == spec.labels.len() {
                    out.push(b'{');
                    for class in 0..width {
                        if class > 0 {
                            out.push(b',');
                        }
                        match &spec.labels {
                            Labels::Int64(v) => {
                                out.push(b'"');
                                json::integer(out, v[class]);
                                out.push(b'"');
                            }
                            Labels::String(v) => json::text(out, &v[class]),
                        }
                        out.push(b':');
                        json::score(out, scores, row * width + class);
                    }
                    out.push(b'}');
                } else {
                    list(out, width, |out, i| json::score(out, scores, row * width + i));
                }
            }
        }
        let warnings = &self.batch.warnings[warnings];
        if !warnings.is_empty() {
            member(out, "warnings");
            list(out, warnings.len(), |out, i| {
                let warning = &warnings[i];
                out.extend_from_slice(b"{\"feature\":");
                json::text(out, self.model.schema().name(warning.feature));
                out.extend_from_slice(b",\"code\":\"");
                out.extend_from_slice(warning.code.name().as_bytes());
                out.extend_from_slice(b"\",\"message\":");
                json::text(out, &warning.message);
                out.push(b'}');
            });
        }
        if omitted > 0 {
            member(out, "warnings_omitted");
            json::integer(out, i64::from(omitted));
        }
    }

    fn bad_row(&self, out: &mut Vec<u8>, index: usize) {
        let Some(&Outcome::Bad {
            faults_start,
            faults_end,
            omitted,
        }) = self.batch.outcomes.get(index)
        else {
            return;
        };
        let faults = &self.batch.faults[faults_start as usize..faults_end as usize];
        out.extend_from_slice(b"{\"index\":");
        json::integer(out, index as i64);
        out.extend_from_slice(b",\"error\":");
        let kind = match faults.iter().map(|f| f.code).max() {
            Some(FaultCode::Model) => Kind::ModelFailed,
            Some(FaultCode::Syntax) => Kind::MalformedBody,
            _ => Kind::InvalidFeatures,
        };
        let omitted = omitted as usize;
        let count = faults.len() + omitted;
        let detail = format!("{count} {} in row {index}", plural(count, "fault"));
        let problem = Problem::with_faults(kind, &detail, faults, omitted, self.model.schema());
        out.extend_from_slice(&problem.body);
        out.push(b'}');
    }

    fn tail(&self, out: &mut Vec<u8>, inference_ns: u64, id: Option<&str>) {
        json::bytes(out, &self.credits);
        // Microseconds are what the clock is good for.
        let microseconds = inference_ns / 1000;
        json::integer(out, (microseconds / 1000) as i64);
        let fraction = microseconds % 1000;
        if fraction > 0 {
            out.push(b'.');
            out.extend([100, 10, 1].map(|unit| b'0' + (fraction / unit % 10) as u8));
        }
        if let Some(id) = self.batch.id.as_deref().or(id) {
            member(out, "id");
            json::text(out, id);
        }
        out.push(b'}');
    }

    /// A reply with the observation of every row.
    fn reply(&mut self, body: Vec<u8>, inference_ns: u64) -> Reply {
        let manifest = self.model.manifest();
        let features = manifest.features.len();
        let classes = usize::from(!manifest.output.labels.is_empty());
        let columns = features + classes + 1;
        let rows = self.batch.len();
        let monitored = &manifest.reference.columns;
        let mut reply = Reply {
            body,
            id: self.batch.id.take(),
            inference_ns,
            columns: columns as u32,
            status: Vec::with_capacity(rows),
            bins: Vec::with_capacity(rows * columns),
            labels: Vec::with_capacity(rows),
            scores: Vec::with_capacity(rows),
            faults: self.batch.fault_counts().to_vec(),
            problem: None,
        };
        let mut good = 0;
        let features_bins = self.batch.bins.chunks_exact(features.max(1));
        for (outcome, bins) in self.batch.outcomes.iter().zip(features_bins) {
            reply.bins.extend_from_slice(bins);
            if let Outcome::Bad { .. } = outcome {
                reply.status.push(1);
                reply.labels.push(0);
                reply.scores.push(f64::NAN);
                reply.bins.extend(std::iter::repeat_n(BIN_REJECTED, columns - features));
                continue;
            }
            let score = self.predictions.score(manifest, good);
            let class = self.predictions.classes.get(good).copied().unwrap_or(0);
            reply.status.push(0);
            reply.labels.push(class);
            reply.scores.push(score);
            // While a model is packed, only the features have bins.
            if classes == 1 {
                let bins = monitored.get(features).map(|column| &column.bins);
                reply.bins.push(bins.map_or(0, |bins| bins.index(class as usize)));
            }
            let bins = monitored.get(features + classes).map(|column| &column.bins);
            reply.bins.push(bins.map_or(0, |bins| bins.number(score)));
            good += 1;
        }
        reply
    }

    fn fault_count(&self) -> usize {
        self.batch.fault_counts().iter().map(|c| c.count as usize).sum()
    }

    fn refuse(&mut self, kind: Kind, detail: &str, id: Option<&str>) -> Reply {
        let id = self.batch.id.as_deref().or(id);
        let omitted = self.fault_count().saturating_sub(self.batch.faults.len());
        let problem = if self.batch.faults.is_empty() {
            Problem::new(kind, detail)
        } else {
            Problem::with_faults(kind, detail, &self.batch.faults, omitted, self.model.schema())
        }
        .with_id(id);
        self.refusal(problem)
    }

    fn refuse_whole(&mut self, kind: Kind, detail: &str, id: Option<&str>) -> Reply {
        let problem = Problem::new(kind, detail).with_id(self.batch.id.as_deref().or(id));
        self.refusal(problem)
    }

    /// A batch of which some rows are bad, all listed.
    fn refuse_rows(&mut self, bad: usize, id: Option<&str>) -> Reply {
        let detail = format!("{bad} of {} rows have faults, and on_error=fail", self.batch.len());
        let mut problem = Problem::new(Kind::InvalidFeatures, detail);
        problem.body.pop();
        problem.body.extend_from_slice(b",\"rows\":[");
        let mut first = true;
        for (index, outcome) in self.batch.outcomes.iter().enumerate() {
            if let Outcome::Bad { .. } = outcome {
                if !std::mem::take(&mut first) {
                    problem.body.push(b',');
                }
                self.bad_row(&mut problem.body, index);
            }
        }
        problem.body.extend_from_slice(b"]}");
        let problem = problem.with_id(self.batch.id.as_deref().or(id));
        self.refusal(problem)
    }

    fn refusal(&mut self, problem: Problem) -> Reply {
        let columns = self.model.manifest().reference.columns.len();
        let rows = self.batch.len();
        Reply {
            problem: Some(problem),
            id: self.batch.id.take(),
            columns: columns as u32,
            status: vec![1; rows],
            bins: vec![BIN_REJECTED; rows * columns],
            labels: vec![0; rows],
            scores: vec![f64::NAN; rows],
            faults: self.batch.fault_counts().to_vec(),
            ..Reply::default()
        }
    }
}

fn plural(count: usize, noun: &str) -> String {
    if count == 1 {
        noun.to_owned()
    } else {
        format!("{noun}s")
    }
}

fn member(out: &mut Vec<u8>, name: &str) {
    out.extend_from_slice(b",\"");
    json::bytes(out, name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn list(out: &mut Vec<u8>, len: usize, mut item: impl FnMut(&mut Vec<u8>, usize)) {
    out.push(b'[');
    for i in 0..len {
        if i > 0 {
            out.push(b',');
        }
        item(out, i);
    }
    out.push(b']');
}

fn label(out: &mut Vec<u8>, labels: &Labels, class: usize) {
    match labels {
        Labels::Int64(v) => json::integer(out, v.get(class).copied().unwrap_or(0)),
        Labels::String(v) => json::text(out, v.get(class).map_or("", |l| l)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Op;
    use crate::ops::cast::Cast;
    use crate::program::{Builder, Source};
    use crate::tensor::Dtype;

    /// A model that reads a text as a number.
    fn service() -> Service {
        let mut builder = Builder::new(1);
        let outputs = builder.push(Op::Cast(Cast { to: Dtype::Float32 }), vec![Source::Input(0)]);
        let program = builder.finish(outputs);
        let manifest = serde_json::json!({
            "format": crate::signature::FORMAT, "name": "m", "version": "1", "engine": "tabular", "task": "regression",
            "unknown": "error", "batch": true,
            "features": [{"name": "x", "type": "category", "nullable": false, "input": 0, "column": 0}],
            "inputs": [{"name": "x", "dtype": "string", "shape": [1]}],
            "output": {"labels": [], "scores": [0], "width": 1, "kind": "value"},
            "reference": {"rows": 0, "columns": []},
            "provenance": {"modelet": "", "onnx_sha256": "", "onnx_bytes": 0, "producer": "", "opsets": {}, "operators": {}},
        });
        let manifest = serde_json::to_vec(&manifest).unwrap();
        let bundle = crate::bundle::write(&[
            (crate::bundle::Section::Manifest, &manifest),
            (crate::bundle::Section::Program, &program),
        ]);
        Service::new(Model::load(bundle).unwrap())
    }

    #[test]
    fn rows_that_the_model_does_not_run_on_are_told_and_the_others_answered() {
        let mut service = service();
        let options = BatchOptions {
            format: Format::Ndjson,
            on_error: OnError::Report,
            full: false,
            rows_max: 10,
        };
        let body = "{\"x\":\"1.5\"}\n{\"x\":\"one\"}\n{\"x\":\"2\"}\n{\"y\":1}\n";
        let reply = service.predict_batch(body.as_bytes(), options, None, || 0);
        assert_eq!(reply.status, [0, 1, 0, 1]);
        let answer: serde_json::Value = serde_json::from_slice(&reply.body).unwrap();
        let rows = &answer["predictions"];
        assert_eq!(
            (&rows[0]["prediction"], &rows[2]["prediction"]),
            (&1.5.into(), &2.into())
        );
        assert_eq!(rows[1]["error"]["type"], "urn:modelet:problem:model-failed");
        assert_eq!(rows[1]["error"]["faults"][0]["code"], "model");
        assert_eq!(rows[3]["error"]["faults"][0]["code"], "unknown");
        assert_eq!(reply.bins.iter().filter(|&&bin| bin == BIN_REJECTED).count(), 4);
        let fail = BatchOptions {
            on_error: OnError::Fail,
            ..options
        };
        let problem = service
            .predict_batch("{\"x\":\"one\"}".as_bytes(), fail, None, || 0)
            .problem;
        assert_eq!(problem.map(|p| p.kind), Some(Kind::InvalidFeatures));
        let problem = service.predict(b"{\"features\":{\"x\":\"one\"}}", None, || 0).problem;
        assert_eq!(problem.map(|p| p.kind), Some(Kind::ModelFailed));
    }
}
