//! The targets `json` and `csv`: bodies of requests.

use crate::mutate::{Random, damage};
use crate::{Ending, Target};
use anyhow::{Context, anyhow};
use modelet::api::metrics::Metrics;
use modelet::api::{Request, Service, handle};
use modelet::bundle::{self, Section};
use modelet::drift::Bins;
use modelet::model::Model;
use modelet::signature::{
    Category, Column, EngineKind, FORMAT, Feature, FeatureType, Input, Labels, Manifest, Output, Provenance, Range,
    Reference, ScoreKind, Task, Unknown,
};
use modelet::tensor::Dtype;
use modelet_host::pack::{graph_inputs, lower, onnx};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// Classifiers with two and with more classes, a regressor, and one with an
/// input for each feature.
const MODELS: [&str; 4] = [
    "xgb_binary_missing",
    "lgbm_multiclass_strings",
    "xgb_regression",
    "named_inputs_linear",
];

const TARGETS: [&str; 5] = [
    "/predict/batch",
    "/predict/batch?on_error=fail",
    "/predict/batch?outputs=all",
    "/predict",
    "/metrics",
];

const WORDS: [&[u8]; 44] = [
    b"{",
    b"}",
    b"[",
    b"]",
    b":",
    b",",
    b"\"",
    b"\\",
    b"\n",
    b"\r\n",
    b"\0",
    b"null",
    b"true",
    b"false",
    b"NaN",
    b"Infinity",
    b"-0",
    b"1e400",
    b"-1e-400",
    b"123456789012345678901234567890",
    b"0.1e",
    b"01",
    b"1.",
    b".5",
    b"+1",
    b"{}",
    b"[]",
    b"\"\"",
    b"\"features\":{",
    b"\"instances\":[",
    b"\"id\":\"a b\"",
    b"\"id\":7,",
    b"\\u0000",
    b"\\uD83D\\uDE00",
    b"\\uDC00",
    b"\\ud800\\",
    b"\xef\xbb\xbf",
    b"\xff",
    b"\xc3\xa9",
    b"\xf0\x9f\x98",
    b"\"a\"\"b\"",
    b";",
    b"\t",
    b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
];

/// Bodies in one family of formats against several models.
///
/// A case is a body after two bytes: which model is asked, and how.
pub struct Requests {
    services: Vec<(Service, Metrics)>,
    seeds: Vec<Vec<u8>>,
    csv: bool,
}

impl Requests {
    /// The target with examples of every model as its seeds.
    pub fn new(root: &Path, csv: bool) -> anyhow::Result<Requests> {
        let mut requests = Requests {
            services: Vec::new(),
            seeds: Vec::new(),
            csv,
        };
        for (index, name) in MODELS.iter().enumerate() {
            let model = model(root, name).with_context(|| (*name).to_owned())?;
            for body in examples(model.manifest(), csv) {
                requests.seeds.push([&[index as u8, 0], body.as_bytes()].concat());
            }
            requests.services.push((Service::new(model), Metrics::default()));
        }
        Ok(requests)
    }
}

impl Target for Requests {
    fn case(&self, random: &mut Random) -> Vec<u8> {
        let seed = random.of(&self.seeds);
        let mut body = seed[2..].to_vec();
        let other = &random.of(&self.seeds)[2..];
        damage(&mut body, other, &WORDS, random);
        let mut case = vec![seed[0], random.next() as u8];
        case.extend_from_slice(&body);
        case
    }

    fn run(&mut self, case: &[u8]) -> Result<Ending, String> {
        let Some((&[model, how], body)) = case.split_first_chunk() else {
            return Ok(Ending::Refused);
        };
        let count = self.services.len();
        let (service, metrics) = &mut self.services[usize::from(model) % count];
        let how = usize::from(how);
        let target = match (self.csv, how % 8) {
            (true, how) => TARGETS[how % 3],
            (false, 0..=3) => TARGETS[3],
            (false, how) => TARGETS[how % 4],
        };
        let content_type = match (self.csv, target) {
            (true, _) => "text/csv",
            (false, "/predict") => "application/json",
            (false, _) => *[&"application/json", &"application/x-ndjson"][how / 8 % 2],
        };
        let request = Request {
            method: "POST",
            target,
            content_type: Some(content_type),
            request_id: (how & 128 != 0).then_some("fuzz"),
            body: Some(body),
        };
        let response = handle(service, metrics, request, || 0);
        let text = String::from_utf8_lossy(&response.body);
        if let Err(error) = serde_json::from_slice::<Value>(&response.body) {
            return Err(format!("the answer is no JSON: {error}: {text}"));
        }
        match response.status {
            200 => Ok(Ending::Answered),
            400..=499 => Ok(Ending::Refused),
            status => Err(format!("status {status}: {text}")),
        }
    }
}

/// A fixture with features of every kind.
fn model(root: &Path, name: &str) -> anyhow::Result<Model> {
    let path = root.join("tests/fixtures").join(name).join("model.onnx");
    let bytes = std::fs::read(&path).with_context(|| path.display().to_string())?;
    let source = onnx::read(&bytes).map_err(|e| anyhow!(e))?;
    let graph_inputs = graph_inputs(&source).map_err(|e| anyhow!(e))?;
    let named: Vec<(String, Dtype)> = graph_inputs.iter().map(|i| (i.name.clone(), i.dtype)).collect();
    let lowered = lower(&source, &named)?;
    let mut features = Vec::new();
    let mut columns = Vec::new();
    let mut inputs = Vec::new();
    for (index, input) in graph_inputs.iter().enumerate() {
        let width = input.dims.get(1).copied().flatten().unwrap_or(1) as u32;
        inputs.push(Input {
            name: input.name.clone(),
            dtype: input.dtype,
            shape: vec![width],
        });
        for column in 0..width {
            let feature = feature(features.len(), index as u16, column);
            let bins = match feature.categories.is_empty() {
                true => Bins::uniform(-1.0, 9.0),
                false => Bins::from_categories(feature.categories.clone()),
            };
            columns.push(Column::new(&feature.name, bins));
            features.push(feature);
        }
    }
    let labels = lowered.outputs.iter().find_map(|output| output.labels.clone());
    let labels = labels.unwrap_or_default();
    let (task, label, scores, kind) = match labels.len() {
        0 => (Task::Regression, None, vec![0], ScoreKind::Value),
        2 => (Task::Binary, Some(0), vec![1], ScoreKind::Probability),
        _ => (Task::Multiclass, Some(0), vec![1], ScoreKind::Probability),
    };
    if !labels.is_empty() {
        let bins = Bins::from_categories((0..labels.len()).map(|i| Category::Name(labels.text(i))).collect());
        columns.push(Column::new("prediction", bins));
    }
    columns.push(Column::new("score", Bins::uniform(0.0, 1.0)));
    let manifest = Manifest {
        format: FORMAT,
        name: name.into(),
        version: "1.0.0".into(),
        engine: EngineKind::Tabular,
        task,
        features,
        unknown: if labels.is_empty() {
            Unknown::Ignore
        } else {
            Unknown::Error
        },
        inputs,
        output: Output {
            positive: (labels.len() == 2).then_some(1),
            label,
            scores,
            width: labels.len().max(1) as u32,
            kind,
            labels: match labels {
                Labels::Int64(v) => Labels::Int64(v),
                Labels::String(v) => Labels::String(v),
            },
        },
        batch: true,
        reference: Reference { rows: 0, columns },
        baseline: None,
        provenance: Provenance::default(),
    };
    let manifest = serde_json::to_vec(&manifest)?;
    let bundle = bundle::write(&[(Section::Manifest, &manifest), (Section::Program, &lowered.image)]);
    Ok(Model::load(bundle)?)
}

fn feature(index: usize, input: u16, column: u32) -> Feature {
    let range = |min, max| Some(Range { min, max });
    let mut feature = Feature {
        name: format!("f{index}"),
        kind: FeatureType::Number,
        nullable: true,
        seen: range(Some(-1.0), Some(9.0)),
        allowed: None,
        categories: Vec::new(),
        closed: false,
        encoding: BTreeMap::new(),
        example: None,
        input,
        column,
    };
    match index % 5 {
        1 => {
            feature.name = "with \"quotes\", a comma\nand two lines".into();
            feature.kind = FeatureType::Integer;
            feature.allowed = range(Some(-100.0), None);
        }
        2 => feature.kind = FeatureType::Boolean,
        3 => {
            feature.kind = FeatureType::Category;
            feature.encoding = ["low", "höher", ""]
                .into_iter()
                .zip([0.0, 1.0, 2.5])
                .map(|(k, v)| (k.into(), v))
                .collect();
            feature.categories = feature.encoding.keys().map(|k| Category::Name(k.clone())).collect();
            feature.closed = true;
        }
        4 => {
            feature.kind = FeatureType::Category;
            feature.categories = vec![Category::Code(0.0), Category::Code(3.0)];
        }
        _ => feature.nullable = false,
    }
    if index >= 5 {
        feature.name = format!("{} {index}", feature.name);
    }
    feature
}

/// Bodies without a fault.
fn examples(manifest: &Manifest, csv: bool) -> Vec<String> {
    let quoted = |text: &str| Value::from(text).to_string();
    let value = |feature: &Feature, row: usize| match feature.kind {
        _ if feature.nullable && row == 1 => "null".into(),
        FeatureType::Number => ["0.25", "-1.5e-3", "8"][row % 3].to_owned(),
        FeatureType::Integer => ["0", "-17", "4.0"][row % 3].to_owned(),
        FeatureType::Boolean => ["true", "0", "false"][row % 3].to_owned(),
        FeatureType::Category if feature.encoding.is_empty() => "3".to_owned(),
        FeatureType::Category => quoted(["low", "höher", ""][row % 3]),
    };
    let features = &manifest.features;
    if csv {
        let cell = |text: String| format!("\"{}\"", text.replace('"', "\"\""));
        let header: Vec<String> = features.iter().map(|f| cell(f.name.clone())).collect();
        let row = |row: usize| {
            let cells = features.iter().map(|f| match value(f, row) {
                null if null == "null" => String::new(),
                text if text.starts_with('"') => text,
                text => text,
            });
            cells.collect::<Vec<_>>().join(",")
        };
        let lines = |end: &str| [header.join(","), row(0), row(1), row(2), String::new()].join(end);
        return vec![lines("\n"), lines("\r\n")];
    }
    let record = |row: usize| {
        let members: Vec<String> = features
            .iter()
            .map(|f| format!("{}:{}", quoted(&f.name), value(f, row)))
            .collect();
        format!("{{{}}}", members.join(","))
    };
    let rows = [record(0), record(1), record(2)];
    vec![
        format!("{{\"features\":{}}}", rows[0]),
        format!("{{\"id\":\"x\\u00e9\\n\",\"features\":{}}}", rows[1]),
        format!("{{\"instances\":[{}]}}", rows.join(",")),
        format!(" {{ \"instances\" : [ {} ], \"id\" : \"7\" }} ", rows[2]),
        rows.join("\n"),
    ]
}
