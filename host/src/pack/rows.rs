//! Rows of data as requests, and the component's answers to them.

use super::snapshot::Loaded;
use crate::data::{Cell, Table, typed};
use crate::output::{Progress, Unit};
use anyhow::Context as _;
use modelet::api::json;
use modelet::signature::{Category, Feature, FeatureType, Input, Labels, Manifest, Output, ScoreKind};
use modelet::tensor::{Data, Dtype, Shape, Tensor};
use serde_json::Value;

/// Rows made up where there are no data.
pub const SYNTHETIC: usize = 16;
/// Rows in one call of the component.
const ROWS_AT_ONCE: usize = 1000;
/// Differences told at most.
const TOLD_MAX: usize = 10;
/// Names of columns that an error lists.
const NAMES_TOLD_MAX: usize = 8;

/// At most `max` of `count` rows, evenly spread.
pub fn spread(count: usize, max: usize) -> Vec<usize> {
    if count <= max {
        return (0..count).collect();
    }
    (0..max).map(|i| i * count / max).collect()
}

/// A row as the body of a single request.
pub fn request(manifest: &Manifest, data: Option<&Table>, row: usize) -> String {
    let mut out = b"{\"features\":{".to_vec();
    for (index, feature) in manifest.features.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        json::text(&mut out, &feature.name);
        out.push(b':');
        let dtype = manifest.inputs[feature.input as usize].dtype;
        match data.map(|table| table.column(&feature.name)) {
            Some(column) => {
                let cell = column.map_or(Cell::Missing, |column| column.values.get(row));
                let cell = typed(cell, feature.kind, dtype, &feature.encoding);
                value(&mut out, feature, dtype, cell);
            }
            None => synthetic(&mut out, feature, dtype, row, index),
        }
    }
    out.extend_from_slice(b"}}");
    String::from_utf8(out).unwrap_or_default()
}

/// The first `count` rows from `start` on as the model's inputs, unchecked;
/// rows begin again after the last. Without data all is 0 or empty.
pub fn tensors(
    features: &[Feature],
    inputs: &[Input],
    data: Option<&Table>,
    start: usize,
    count: usize,
) -> Vec<Tensor> {
    let mut tensors: Vec<Tensor> = inputs
        .iter()
        .map(|input| {
            let mut dims = vec![count];
            dims.extend(input.shape.iter().map(|&d| d as usize));
            let shape = Shape::new(&dims).unwrap_or_default();
            match input.dtype {
                // Texts are appended below.
                Dtype::String => Tensor {
                    shape,
                    data: Data::empty(Dtype::String),
                },
                dtype => Tensor::zeros(dtype, shape),
            }
        })
        .collect();
    for row in start..start + count {
        // Texts are appended, so that the order of columns matters.
        let mut ordered: Vec<&Feature> = features.iter().collect();
        ordered.sort_by_key(|f| (f.input, f.column));
        for feature in ordered {
            let input = &inputs[feature.input as usize];
            let at = (row - start) * input.width() + feature.column as usize;
            let column = data.and_then(|table| table.column(&feature.name));
            let cell = column.map_or(Cell::Missing, |column| {
                column.values.get(row % column.values.len().max(1))
            });
            let cell = typed(cell, feature.kind, input.dtype, &feature.encoding);
            let number = match cell {
                Cell::Integer(value) => value as f64,
                Cell::Number(value) => value,
                Cell::Boolean(value) => f64::from(u8::from(value)),
                Cell::Text(text) | Cell::Csv(text) => feature.encoding.get(text).copied().unwrap_or(0.0),
                Cell::Missing | Cell::Other(_) if data.is_none() => 0.0,
                Cell::Missing | Cell::Other(_) => f64::NAN,
            };
            match &mut tensors[feature.input as usize].data {
                Data::Float32(v) => v[at] = number as f32,
                Data::Float64(v) => v[at] = number,
                Data::Int64(v) => v[at] = number as i64,
                Data::Int32(v) => v[at] = number as i32,
                Data::Bool(v) => v[at] = u8::from(number != 0.0),
                Data::Uint8(v) => v[at] = number as u8,
                Data::Int8(v) => v[at] = number as i8,
                Data::String(v) => match cell {
                    Cell::Missing | Cell::Other(_) => v.push(""),
                    cell => v.push(&cell.to_string()),
                },
            }
        }
    }
    tensors
}

fn value(out: &mut Vec<u8>, feature: &Feature, dtype: Dtype, cell: Cell<'_>) {
    match cell {
        Cell::Missing if feature.takes_empty(dtype) => json::text(out, ""),
        Cell::Missing => out.extend_from_slice(b"null"),
        Cell::Text(text) | Cell::Csv(text) => json::text(out, text),
        // A column that is typed in the file, where the model takes text.
        cell if dtype == Dtype::String => json::text(out, &cell.to_string()),
        Cell::Boolean(value) if feature.kind == FeatureType::Boolean => {
            out.extend_from_slice(if value { b"true" } else { b"false" });
        }
        Cell::Boolean(value) => out.push(if value { b'1' } else { b'0' }),
        Cell::Integer(value) => json::integer(out, value),
        // What no JSON number is, for the component to refuse.
        Cell::Number(value) if value.is_infinite() => {
            out.extend_from_slice(if value > 0.0 { b"1e999" } else { b"-1e999" })
        }
        Cell::Number(value) => json::f64(out, value),
        Cell::Other(kind) => json::text(out, kind),
    }
}

/// A value that depends on the place alone.
fn synthetic(out: &mut Vec<u8>, feature: &Feature, dtype: Dtype, row: usize, index: usize) {
    // An integer hash, so that neighbours differ.
    let mut hash =
        (row as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (index as u64 + 1).wrapping_mul(0xC2B2_AE3D_27D4_EB4F);
    hash ^= hash >> 29;
    let pick = |len: usize| (hash % len as u64) as usize;
    let range = feature.allowed.unwrap_or_default();
    match feature.kind {
        FeatureType::Category if !feature.encoding.is_empty() => {
            let name = feature.encoding.keys().nth(pick(feature.encoding.len()));
            json::text(out, name.map_or("", |n| n));
        }
        FeatureType::Category if !feature.categories.is_empty() => {
            match &feature.categories[pick(feature.categories.len())] {
                Category::Code(code) => json::f64(out, *code),
                Category::Name(name) => json::text(out, name),
            }
        }
        FeatureType::Category if dtype == Dtype::String => json::text(out, ["a", "b", "c"][pick(3)]),
        FeatureType::Boolean => out.extend_from_slice(if hash & 1 == 0 { b"true" } else { b"false" }),
        FeatureType::Integer | FeatureType::Category => {
            let (min, max) = (
                range.min.unwrap_or(0.0).ceil(),
                range.max.unwrap_or(f64::INFINITY).floor(),
            );
            json::f64(out, (min + pick(6) as f64).min(max));
        }
        FeatureType::Number => {
            let (min, max) = match (range.min, range.max) {
                (Some(min), Some(max)) => (min, max),
                (Some(min), None) => (min, min + 4.0),
                (None, Some(max)) => (max - 4.0, max),
                (None, None) => (-2.0, 2.0),
            };
            let hundredths = ((max - min) * 100.0).clamp(1.0, 1e6) as usize;
            json::f64(out, (min + pick(hundredths) as f64 / 100.0).min(max));
        }
    }
}

/// The component's answers to rows.
#[derive(Debug, Default)]
pub struct Answers {
    /// Accepted rows.
    pub good: usize,
    /// Refused rows.
    pub rejected: usize,
    /// Those of them that the signature accepts and the model does not run on.
    pub failed: usize,
    /// The first refused row and why.
    pub first_rejection: Option<String>,
    /// All scores of each accepted row.
    pub scores: Vec<Vec<f64>>,
    /// Labels that are not classes.
    pub labels: Vec<i64>,
    /// The class of each accepted row.
    pub classes: Vec<usize>,
    /// What a monitor records as the score.
    pub monitored: Vec<f64>,
    /// Bins of the features of accepted rows, flat.
    pub bins: Vec<u8>,
    /// The number of features in `bins`.
    pub columns: usize,
    /// The answer's members for each row, in the data's order; none for a
    /// refused one.
    pub entries: Vec<Option<Value>>,
}

impl Answers {
    /// Lets the component answer these rows.
    ///
    /// # Errors
    /// When the component fails, or the model does not run.
    pub fn of(
        loaded: &mut Loaded,
        manifest: &Manifest,
        data: Option<&Table>,
        rows: Vec<usize>,
        progress: &dyn Progress,
    ) -> anyhow::Result<Answers> {
        let features = manifest.features.len();
        let mut answers = Answers {
            columns: features,
            ..Answers::default()
        };
        progress.start("answering the reference", Some(rows.len() as u64), Unit::Rows);
        for chunk in rows.chunks(ROWS_AT_ONCE) {
            let mut body = String::new();
            for &row in chunk {
                body.push_str(&request(manifest, data, row));
                body.push('\n');
            }
            let reply = loaded.predict_rows(&body, chunk.len())?;
            let parsed: Value = serde_json::from_slice(&reply.body).context("the component's answer")?;
            let entries = parsed["predictions"].as_array().cloned().unwrap_or_default();
            let observation = &reply.observation;
            let width = observation.columns as usize;
            for (at, (entry, &row)) in entries.into_iter().zip(chunk).enumerate() {
                if observation.status[at] != 0 {
                    answers.rejected += 1;
                    answers.failed += usize::from(entry["error"]["type"] == "urn:modelet:problem:model-failed");
                    answers
                        .first_rejection
                        .get_or_insert_with(|| format!("row {}, {}", row + 1, faults(&entry)));
                    answers.entries.push(None);
                    continue;
                }
                answers.good += 1;
                answers.classes.push(observation.labels[at] as usize);
                answers.monitored.push(observation.scores[at]);
                answers
                    .bins
                    .extend_from_slice(&observation.bins[at * width..][..features]);
                answers.scores.push(scores(&entry, manifest));
                if manifest.output.labels.is_empty() && manifest.output.label.is_some() {
                    answers.labels.extend(entry["prediction"].as_i64());
                }
                answers.entries.push(Some(entry));
            }
            progress.advance(chunk.len() as u64);
        }
        Ok(answers)
    }
}

/// The faults of a refused row, in words.
fn faults(entry: &Value) -> String {
    let faults = entry["error"]["faults"].as_array().cloned().unwrap_or_default();
    faults
        .iter()
        .take(3)
        .map(|fault| {
            let message = fault["message"].as_str().unwrap_or_default();
            match fault["feature"].as_str() {
                Some(feature) => format!("{feature}: {message}"),
                None => message.to_owned(),
            }
        })
        .collect::<Vec<_>>()
        .join("; ")
}

/// Every score of an answer.
fn scores(entry: &Value, manifest: &Manifest) -> Vec<f64> {
    let number = |v: &Value| v.as_f64().unwrap_or(f64::NAN);
    for name in ["probabilities", "scores"] {
        match &entry[name] {
            Value::Array(list) => return list.iter().map(number).collect(),
            Value::Object(by_label) => {
                let labels = &manifest.output.labels;
                return (0..labels.len()).map(|i| number(&by_label[&labels.text(i)])).collect();
            }
            _ => {}
        }
    }
    for name in ["probability", "score"] {
        if let Some(one) = entry.get(name) {
            return vec![number(one)];
        }
    }
    if manifest.output.label.is_some() {
        return Vec::new();
    }
    match &entry["prediction"] {
        Value::Array(list) => list.iter().map(number).collect(),
        one => vec![number(one)],
    }
}

/// Holds expected answers against the component's; the largest difference. A
/// row that the signature refuses has none, which differs from any answer.
///
/// Columns of the table: those of [`places`].
///
/// # Errors
/// In words, naming the rows that differ by more than the tolerance, or a
/// table that does not fit.
pub fn compare(
    expected: &Table,
    rows: usize,
    answers: &Answers,
    manifest: &Manifest,
    tolerance: f64,
) -> Result<f64, String> {
    if expected.rows() != rows {
        return Err(format!(
            "{} rows of expected answers for {rows} rows of data",
            expected.rows()
        ));
    }
    let labels = &manifest.output.labels;
    let places = places(&manifest.output);
    let mut largest = 0.0f64;
    let mut wrong = Vec::new();
    let mut count = 0;
    for column in &expected.columns {
        let (_, place) = places.iter().find(|(name, _)| *name == column.name).ok_or_else(|| {
            let mut known: Vec<String> = places.iter().map(|(name, _)| format!("{name:?}")).collect();
            if known.len() > NAMES_TOLD_MAX {
                known.truncate(NAMES_TOLD_MAX);
                known.push("…".into());
            }
            format!("unknown column {:?}; expected one of {}", column.name, known.join(", "))
        })?;
        let mut good = 0;
        for row in 0..rows {
            let cell = column.values.get(row);
            let Some(entry) = &answers.entries[row] else {
                let is_label = || (0..labels.len()).any(|i| labels.text(i) == cell.to_string());
                if cell.narrow() != Cell::Missing || cell != Cell::Missing && is_label() {
                    count += 1;
                    if wrong.len() < TOLD_MAX {
                        wrong.push(format!(
                            "row {}, {}: expected {cell} but the row is refused",
                            row + 1,
                            column.name
                        ));
                    }
                }
                continue;
            };
            let (prediction, scores) = (&entry["prediction"], &answers.scores[good]);
            let got = match place {
                Place::Prediction => prediction.as_f64(),
                Place::Score(index) => scores.get(*index).copied(),
                Place::ScoreOfPredicted => scores.get(answers.classes[good]).copied(),
            };
            good += 1;
            let is_label = *place == Place::Prediction && !labels.is_empty();
            let difference = match is_label {
                true => label_difference(prediction, labels, cell),
                false => difference(got, cell.narrow()),
            };
            match difference {
                Some(difference) if difference <= tolerance => largest = largest.max(difference),
                _ => {
                    count += 1;
                    if wrong.len() < TOLD_MAX {
                        let got = match place {
                            Place::Prediction => prediction.to_string(),
                            _ => got.map_or("nothing".into(), |score| score.to_string()),
                        };
                        let expected = match cell {
                            Cell::Missing => "nothing".into(),
                            cell => cell.to_string(),
                        };
                        wrong.push(format!(
                            "row {}, {}: expected {expected} but got {got}",
                            row + 1,
                            column.name
                        ));
                    }
                }
            }
        }
    }
    if count > 0 {
        let more = if count > wrong.len() { "; …" } else { "" };
        let refused = match &answers.first_rejection {
            Some(first) => format!(" ({} rows are refused, the first one: {first})", answers.rejected),
            None => String::new(),
        };
        return Err(format!(
            "{count} answers differ by more than {tolerance:e}: {}{more}{refused}",
            wrong.join("; ")
        ));
    }
    Ok(largest)
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Prediction,
    Score(usize),
    /// The score of the class that is predicted.
    ScoreOfPredicted,
}

/// The names that columns of expected answers may have, those that the model's
/// own answers have before others: `prediction`, or of several outputs
/// `prediction_0`, …; `probability` or `score`, which is that of the positive
/// class or of the predicted one; `probability_<label>` or `score_<label>`.
fn places(output: &Output) -> Vec<(String, Place)> {
    let labels = &output.labels;
    let width = output.width as usize;
    let mut places: Vec<(String, Place)> = Vec::new();
    let mut add = |name: String, place: Place| {
        if places.iter().all(|(known, _)| *known != name) {
            places.push((name, place));
        }
    };
    if width < 2 || !labels.is_empty() {
        add("prediction".into(), Place::Prediction);
    }
    let kinds = match output.kind {
        ScoreKind::Probability => ["probability", "score"],
        ScoreKind::Decision | ScoreKind::Value => ["score", "probability"],
    };
    let one = match output.positive {
        _ if width == 1 => Some(Place::Score(0)),
        Some(positive) if width > 1 => Some(Place::Score(positive as usize)),
        _ => (width > 1 && labels.len() == width).then_some(Place::ScoreOfPredicted),
    };
    for kind in kinds {
        if let Some(one) = one {
            add(kind.into(), one);
        }
        match (width, output.positive) {
            // The one score of two classes is the positive one's.
            (1, Some(positive)) => add(format!("{kind}_{}", labels.text(positive as usize)), Place::Score(0)),
            (1, None) => {}
            _ => (0..width.min(labels.len())).for_each(|i| add(format!("{kind}_{}", labels.text(i)), Place::Score(i))),
        }
    }
    // By number: always of several outputs, of one where there are no classes.
    if width > 1 || labels.is_empty() {
        for kind in ["prediction"].into_iter().chain(kinds) {
            (0..width).for_each(|i| add(format!("{kind}_{i}"), Place::Score(i)));
        }
    }
    places
}

/// 0 for the same label.
fn label_difference(got: &Value, labels: &Labels, cell: Cell<'_>) -> Option<f64> {
    let same = match labels {
        // A label that looks like a number may be written as another one.
        Labels::String(_) => [cell, cell.narrow()]
            .iter()
            .any(|cell| got.as_str() == Some(&cell.to_string())),
        Labels::Int64(_) => match cell.narrow() {
            Cell::Integer(label) => got.as_i64().map(i128::from) == Some(label),
            Cell::Number(label) => got.as_f64() == Some(label),
            Cell::Boolean(label) => got.as_i64() == Some(i64::from(label)),
            _ => false,
        },
    };
    same.then_some(0.0)
}

/// The smaller of the absolute and the relative difference.
fn difference(got: Option<f64>, cell: Cell<'_>) -> Option<f64> {
    let expected = match cell {
        Cell::Integer(value) => value as f64,
        Cell::Number(value) => value,
        Cell::Boolean(value) => f64::from(u8::from(value)),
        // JSON has no NaN, so that it arrives as nothing.
        Cell::Missing => return got.is_none_or(f64::is_nan).then_some(0.0),
        _ => return None,
    };
    let absolute = (got? - expected).abs();
    Some(absolute.min(absolute / expected.abs().max(f64::MIN_POSITIVE)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_spread_evenly() {
        assert_eq!(spread(3, 5), [0, 1, 2]);
        assert_eq!(spread(10, 4), [0, 2, 5, 7]);
    }

    #[test]
    fn expected_answers_may_be_named_as_scores_are() {
        let output = |text: &str| serde_json::from_str::<Output>(text).unwrap();
        let place = |output: &Output, name: &str| {
            let places = places(output);
            places.iter().find(|(known, _)| known == name).map(|(_, place)| *place)
        };
        let one = output(r#"{"width":1,"kind":"probability","labels":["no","yes"],"positive":1}"#);
        assert_eq!(place(&one, "probability_yes"), Some(Place::Score(0)));
        assert_eq!(place(&one, "probability"), Some(Place::Score(0)));
        assert_eq!(place(&one, "probability_no"), None);
        let two = output(r#"{"width":2,"kind":"probability","labels":[1,0],"positive":0}"#);
        assert_eq!(place(&two, "score"), Some(Place::Score(0)));
        assert_eq!(place(&two, "probability_0"), Some(Place::Score(1)));
        let three = output(r#"{"width":3,"kind":"decision","labels":["a","b","c"]}"#);
        assert_eq!(place(&three, "score"), Some(Place::ScoreOfPredicted));
        assert_eq!(place(&three, "score_c"), Some(Place::Score(2)));
        assert_eq!(place(&three, "score_2"), Some(Place::Score(2)));
        let numbers = output(r#"{"width":2,"kind":"value"}"#);
        assert_eq!(place(&numbers, "prediction_1"), Some(Place::Score(1)));
        assert_eq!(place(&numbers, "prediction"), None);
        let label_only = output(r#"{"width":0,"kind":"value","labels":[0,1]}"#);
        assert_eq!(places(&label_only), [("prediction".to_owned(), Place::Prediction)]);
    }

    #[test]
    fn a_difference_is_absolute_or_relative() {
        assert_eq!(difference(Some(0.5), Cell::Number(0.5)), Some(0.0));
        assert!(difference(Some(1e6 + 1.0), Cell::Number(1e6)).unwrap() < 1.1e-6);
        assert_eq!(difference(None, Cell::Missing), Some(0.0));
        assert_eq!(difference(Some(1.0), Cell::Missing), None);
    }
}
