//! Real models: packed and scored as a user does it, and held against what
//! ONNX Runtime answered.

use crate::{each, name_of};
use anyhow::{Context, anyhow, bail, ensure};
use modelet::signature::{EngineKind, Manifest, Output as ModelOutput, Task};
use modelet_host::cli::{Command, OnBadRow, ScoreArgs};
use modelet_host::commands;
use modelet_host::output::{Align, Output, Paint, Silent, grid};
use modelet_host::pack::{PackOptions, WasiVersion, onnx, pack};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};

/// The largest difference, absolute or relative, of a number.
const TOLERANCE: f64 = 1e-5;
/// The same where the model computes in double precision.
const TOLERANCE_DOUBLE: f64 = 1e-9;

/// `meta.json`, as far as it matters here.
#[derive(Deserialize)]
struct Meta {
    csv_to_inputs: Vec<InputColumns>,
}

/// Which columns of `inputs.csv` make an input of the graph.
#[derive(Deserialize)]
struct InputColumns {
    input: String,
    columns: Vec<String>,
}

/// `expected.json`.
#[derive(Deserialize)]
struct Expected {
    n_rows: usize,
    onnxruntime: BTreeMap<String, Answers>,
    /// Given where single rows get other answers than all at once.
    #[serde(default)]
    onnxruntime_rowwise: BTreeMap<String, Value>,
}

/// An output's values for every row.
#[derive(Deserialize)]
struct Answers {
    #[serde(rename = "type")]
    kind: String,
    /// The keys of a ZipMap.
    #[serde(default)]
    classes: Option<Vec<Value>>,
    data: Value,
}

/// What became of a model.
#[derive(Serialize)]
struct Outcome {
    name: String,
    /// Absent where it could not be packed.
    #[serde(skip_serializing_if = "Option::is_none")]
    engine: Option<EngineKind>,
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<Task>,
    /// The largest difference of a number.
    #[serde(skip_serializing_if = "Option::is_none")]
    worst: Option<f64>,
    ok: bool,
    /// Why it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// What could not be compared.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
}

#[derive(Serialize)]
struct Report {
    models: Vec<Outcome>,
    total: usize,
    passed: usize,
    /// By the neural engine, of those that passed.
    neural: usize,
    /// With something that could not be compared, of those that passed.
    partly: usize,
}

/// Runs the models, and says whether all answer as expected.
pub fn run(cases: &[PathBuf], json: bool, output: &Output) -> anyhow::Result<bool> {
    let results = each(cases, "packing and scoring", &*output.progress(), model);
    let models: Vec<Outcome> = cases
        .iter()
        .zip(results)
        .map(|(case, result)| {
            result.unwrap_or_else(|error| Outcome {
                name: name_of(case),
                engine: None,
                task: None,
                worst: None,
                ok: false,
                reason: Some(format!("{error:#}")),
                notes: Vec::new(),
            })
        })
        .collect();
    let passed = || models.iter().filter(|model| model.ok);
    let neural = passed().filter(|model| model.engine == Some(EngineKind::Neural));
    let report = Report {
        total: models.len(),
        passed: passed().count(),
        neural: neural.count(),
        partly: passed().filter(|model| !model.notes.is_empty()).count(),
        models,
    };
    match json {
        true => output.print_json(&report)?,
        false => output.print(text(&report, output))?,
    }
    Ok(report.passed == report.total)
}

fn text(report: &Report, output: &Output) -> String {
    let rows: Vec<Vec<String>> = report
        .models
        .iter()
        .map(|model| {
            vec![
                model.name.clone(),
                model.engine.map_or("-", EngineKind::name).to_owned(),
                model.task.map_or("-", Task::name).to_owned(),
                model.worst.map_or_else(|| "-".into(), |worst| format!("{worst:.1e}")),
                match model.ok {
                    true => "ok".into(),
                    false => "MISS".into(),
                },
                model
                    .reason
                    .iter()
                    .chain(&model.notes)
                    .map(String::as_str)
                    .collect::<Vec<_>>()
                    .join("; "),
            ]
        })
        .collect();
    let header = [
        ("model", Align::Left),
        ("engine", Align::Left),
        ("task", Align::Left),
        ("worst", Align::Right),
        ("verdict", Align::Left),
        ("why", Align::Left),
    ];
    let mut text = grid(output, &header, &rows);
    let paint = match report.passed == report.total {
        true => Paint::Green,
        false => Paint::Red,
    };
    text.push_str(&format!(
        "\n{}, {} by the neural engine\n",
        output.paint(paint, format!("{} of {}", report.passed, report.total)),
        report.neural
    ));
    if report.partly > 0 {
        text.push_str(&format!("{} of them only partly compared: see why\n", report.partly));
    }
    text
}

fn model(case: &Path) -> anyhow::Result<Outcome> {
    let read = |name: &str| -> anyhow::Result<Vec<u8>> {
        let path = case.join(name);
        std::fs::read(&path).with_context(|| path.display().to_string())
    };
    let meta: Meta = serde_json::from_slice(&read("meta.json")?).context("meta.json")?;
    let expected: Expected = serde_json::from_slice(&read("expected.json")?).context("expected.json")?;
    let graph = onnx::read(&read("model.onnx")?).map_err(|e| anyhow!(e))?.graph;
    let outputs: Vec<String> = graph.into_iter().flat_map(|g| g.output).map(|o| o.name).collect();

    let work = tempfile::tempdir()?;
    let data = work.path().join("rows.csv");
    write_rows(&case.join("inputs.csv"), &meta, &data).context("inputs.csv")?;
    let component = work.path().join("model.wasm");
    let signature = case.join("signature.json");
    let options = PackOptions {
        model: case.join("model.onnx"),
        data: Some(data.clone()),
        label: None,
        holdout: None,
        baseline: Default::default(),
        expected: None,
        tolerance: TOLERANCE,
        unknown: None,
        wasi: WasiVersion::V0_3,
        name: Some(name_of(case)),
        model_version: None,
        signature: signature.is_file().then_some(signature),
        force: true,
        output: component.clone(),
    };
    let manifest = match pack(&options, &Silent) {
        Ok(report) => report.manifest,
        Err(error) => {
            // The table names the model already.
            let path = format!("{}: ", options.model.display());
            bail!("pack: {}", format!("{error:#}").replace(&path, ""));
        }
    };
    let mut outcome = Outcome {
        name: name_of(case),
        engine: Some(manifest.engine),
        task: Some(manifest.task),
        worst: None,
        ok: false,
        reason: None,
        notes: Vec::new(),
    };
    let predictions = work.path().join("predictions.csv");
    let score = ScoreArgs {
        model: component,
        rows: data,
        output: predictions.clone(),
        format: None,
        output_format: None,
        id: None,
        on_error: OnBadRow::Stop,
    };
    let scored = commands::run(Command::Score(score), &Output::plain())
        .context("score")
        .and_then(|_| Predictions::read(&predictions, &manifest).context("the predictions"));
    match scored.and_then(|scored| compare(&scored, &outputs, &expected, &mut outcome)) {
        Ok(()) => outcome.ok = true,
        Err(reason) => outcome.reason = Some(format!("{reason:#}")),
    }
    Ok(outcome)
}

/// Writes the columns that the model takes, under the names that `modelet
/// pack` gives them: those of the inputs where there are several, else those
/// of the columns in order.
fn write_rows(from: &Path, meta: &Meta, to: &Path) -> anyhow::Result<()> {
    let mut reader = csv::Reader::from_path(from)?;
    let header = reader.headers()?.clone();
    let mut names = Vec::new();
    let mut places = Vec::new();
    for input in &meta.csv_to_inputs {
        for (index, column) in input.columns.iter().enumerate() {
            let place = header.iter().position(|name| name == column);
            places.push(place.with_context(|| format!("there is no column {column:?}"))?);
            names.push(match (meta.csv_to_inputs.len(), input.columns.len()) {
                (1, _) => column.clone(),
                (_, 1) => input.input.clone(),
                _ => format!("{}_{index}", input.input),
            });
        }
    }
    if names.iter().collect::<HashSet<_>>().len() < names.len() {
        names = (0..names.len()).map(|i| format!("f{i}")).collect();
    }
    let mut writer = csv::Writer::from_writer(File::create(to)?);
    writer.write_record(&names)?;
    for record in reader.records() {
        let record = record?;
        writer.write_record(places.iter().map(|&place| &record[place]))?;
    }
    writer.flush()?;
    Ok(())
}

/// What `modelet score` wrote.
struct Predictions {
    rows: Vec<csv::StringRecord>,
    output: ModelOutput,
    /// The first column holds a label, the others hold the scores.
    labelled: bool,
}

impl Predictions {
    fn read(path: &Path, manifest: &Manifest) -> anyhow::Result<Predictions> {
        let mut reader = csv::Reader::from_path(path)?;
        let output = manifest.output.clone();
        let labelled = output.label.is_some() || !output.labels.is_empty();
        let width = output.width as usize + usize::from(labelled);
        ensure!(
            reader.headers()?.len() == width,
            "expected {width} columns but got {}",
            reader.headers()?.len()
        );
        Ok(Predictions {
            rows: reader.records().collect::<Result<_, _>>()?,
            output,
            labelled,
        })
    }
}

/// Holds the predictions against every output that ONNX Runtime gave.
fn compare(
    predictions: &Predictions,
    outputs: &[String],
    expected: &Expected,
    outcome: &mut Outcome,
) -> anyhow::Result<()> {
    let rows = expected.n_rows;
    ensure!(
        predictions.rows.len() == rows,
        "{} predictions for {rows} rows",
        predictions.rows.len()
    );
    let output = &predictions.output;
    let expected_of = |index: u16| -> anyhow::Result<(&str, &Answers, Vec<Vec<Value>>)> {
        let name = outputs.get(index as usize).context("an output is missing")?;
        let answers = expected
            .onnxruntime
            .get(name)
            .with_context(|| format!("no answers for the output {name:?} are expected"))?;
        let data = match expected.onnxruntime_rowwise.get(name) {
            Some(rowwise) => rowwise.get("data").unwrap_or(rowwise),
            None => &answers.data,
        };
        let data = by_row(data, rows).with_context(|| format!("output {name:?}"))?;
        Ok((name, answers, data))
    };
    let mut wrong = Vec::new();
    let mut worst: Option<f64> = None;
    let mut infinite = 0;
    if let Some(index) = output.label {
        let (name, _, data) = expected_of(index)?;
        let mut differing = Differing::new(name);
        for (row, (expected, got)) in data.iter().zip(&predictions.rows).enumerate() {
            let [expected] = &expected[..] else {
                bail!("output {name:?}: {} labels of a row are expected", expected.len());
            };
            if !same_label(expected, &got[0]) {
                differing.add(row, expected, &got[0]);
            }
        }
        wrong.extend(differing.told(rows));
    }
    let mut column = usize::from(predictions.labelled);
    for &index in &output.scores {
        let (name, answers, data) = expected_of(index)?;
        let width = data.first().map_or(0, Vec::len);
        let tolerance = match answers.kind.contains("double") {
            true => TOLERANCE_DOUBLE,
            false => TOLERANCE,
        };
        let places = places(answers, output, column, width).with_context(|| format!("output {name:?}"))?;
        let mut differing = Differing::new(name);
        for (row, (expected, got)) in data.iter().zip(&predictions.rows).enumerate() {
            ensure!(
                expected.len() == width,
                "output {name:?}: the rows are not equally long"
            );
            for (expected, &place) in expected.iter().zip(&places) {
                let got = got.get(place).with_context(|| {
                    format!("output {name:?}: {width} numbers of a row are expected, which is more than there are")
                })?;
                let wanted = number(expected).with_context(|| format!("output {name:?}: {expected}"))?;
                // JSON has no infinity, so that it arrives as nothing.
                if wanted.is_infinite() && got.is_empty() {
                    infinite += 1;
                    continue;
                }
                let difference = difference(wanted, got);
                worst = Some(worst.unwrap_or(0.0).max(difference));
                if difference > tolerance {
                    differing.add(row, expected, got);
                }
            }
        }
        column += width;
        wrong.extend(differing.told(rows));
    }
    let told = column - usize::from(predictions.labelled);
    ensure!(
        told == output.width as usize,
        "{told} numbers of a row are expected, but there are {}",
        output.width
    );
    outcome.worst = worst;
    if infinite > 0 {
        outcome
            .notes
            .push(format!("{infinite} infinite numbers are answered as null"));
    }
    for (index, name) in outputs.iter().enumerate() {
        let index = index as u16;
        if output.label != Some(index) && !output.scores.contains(&index) {
            outcome
                .notes
                .push(format!("the answer does not tell the output {name:?}"));
        }
    }
    match wrong.is_empty() {
        true => Ok(()),
        false => bail!("{}", wrong.join("; ")),
    }
}

/// The column of the predictions for each number of an output's row: a
/// ZipMap's are found by their keys.
fn places(answers: &Answers, output: &ModelOutput, first: usize, width: usize) -> anyhow::Result<Vec<usize>> {
    let in_order = || (first..first + width).collect();
    let Some(classes) = &answers.classes else {
        return Ok(in_order());
    };
    if output.labels.len() != width || output.scores.len() != 1 {
        return Ok(in_order());
    }
    let labels: Vec<String> = (0..width).map(|i| output.labels.text(i)).collect();
    classes
        .iter()
        .map(|class| {
            let place = labels.iter().position(|label| *label == plain(class));
            let place = place.with_context(|| format!("the class {class} is not among the labels"))?;
            Ok(first + place)
        })
        .collect()
}

/// The values of each row, however they are nested.
fn by_row(data: &Value, rows: usize) -> anyhow::Result<Vec<Vec<Value>>> {
    fn flatten(value: &Value, out: &mut Vec<Value>) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| flatten(item, out)),
            value => out.push(value.clone()),
        }
    }
    let mut flat = Vec::new();
    flatten(data, &mut flat);
    if rows == 0 || flat.len() % rows != 0 {
        bail!("{} values for {rows} rows", flat.len());
    }
    let width = flat.len() / rows;
    Ok(match width {
        0 => vec![Vec::new(); rows],
        width => flat.chunks(width).map(<[Value]>::to_vec).collect(),
    })
}

/// The rows in which an output is not as expected.
struct Differing<'a> {
    output: &'a str,
    rows: HashSet<usize>,
    first: Option<String>,
}

impl<'a> Differing<'a> {
    fn new(output: &'a str) -> Differing<'a> {
        Differing {
            output,
            rows: HashSet::new(),
            first: None,
        }
    }

    fn add(&mut self, row: usize, expected: &Value, got: &str) {
        self.rows.insert(row);
        self.first
            .get_or_insert_with(|| format!("row {}: expected {expected} but got {got}", row + 1));
    }

    fn told(self, rows: usize) -> Option<String> {
        let first = self.first?;
        Some(format!(
            "output {:?} differs in {} of {rows} rows, {first}",
            self.output,
            self.rows.len()
        ))
    }
}

fn same_label(expected: &Value, got: &str) -> bool {
    match expected {
        Value::String(label) => label == got,
        Value::Bool(label) => got == if *label { "1" } else { "0" },
        other => match (other.as_i64(), got.parse::<i64>()) {
            (Some(expected), Ok(got)) => expected == got,
            _ => other
                .as_f64()
                .is_some_and(|expected| got.parse::<f64>().is_ok_and(|got| got == expected)),
        },
    }
}

/// A label as text.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A number as `expected.json` writes it: null is NaN.
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Null => Some(f64::NAN),
        Value::Bool(value) => Some(f64::from(u8::from(*value))),
        Value::Number(number) => number.as_f64(),
        Value::String(text) => match text.to_lowercase().as_str() {
            "inf" | "infinity" | "+inf" => Some(f64::INFINITY),
            "-inf" | "-infinity" => Some(f64::NEG_INFINITY),
            "nan" => Some(f64::NAN),
            _ => None,
        },
        Value::Array(_) | Value::Object(_) => None,
    }
}

/// The smaller of the absolute and the relative difference; infinite where one
/// of them is no number.
fn difference(expected: f64, got: &str) -> f64 {
    let got = match got {
        "" => f64::NAN,
        got => match got.parse::<f64>() {
            Ok(got) => got,
            Err(_) => return f64::INFINITY,
        },
    };
    if got == expected || got.is_nan() && expected.is_nan() {
        return 0.0;
    }
    let absolute = (got - expected).abs();
    match absolute.is_nan() {
        true => f64::INFINITY,
        false => absolute.min(absolute / expected.abs().max(f64::MIN_POSITIVE)),
    }
}
