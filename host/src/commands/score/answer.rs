//! The component's answers as rows of predictions.

use crate::commands::predict::{Fault, Refusal};
use crate::commands::request::Value;
use crate::data::{Field, FieldType};
use anyhow::Context;
use modelet::signature::{Labels, Manifest, ScoreKind};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// What became of a row.
#[derive(Debug)]
pub enum Row {
    /// One value a column of predictions.
    Good {
        values: Vec<Value>,
        /// The row has values that the reference data do not have.
        warned: bool,
    },
    /// Why it was refused.
    Bad(Vec<Fault>),
}

/// The columns of predictions that a model gives.
pub struct Layout {
    fields: Vec<Field>,
    /// The columns that the answer's `prediction` fills.
    predictions: usize,
}

impl Layout {
    pub fn new(manifest: &Manifest) -> Layout {
        let output = &manifest.output;
        let labels = &output.labels;
        let width = output.width as usize;
        let numbered = |name: &str, kind, count: usize| -> Vec<Field> {
            let name = |i| match count {
                1 => name.to_owned(),
                _ => format!("{name}_{i}"),
            };
            (0..count).map(|i| Field { name: name(i), kind }).collect()
        };
        let labelled = !labels.is_empty() || output.label.is_some();
        let mut fields = match labels {
            Labels::String(names) if !names.is_empty() => numbered("prediction", FieldType::Text, 1),
            _ if labelled => numbered("prediction", FieldType::Integer, 1),
            _ => numbered("prediction", FieldType::Number, width),
        };
        let predictions = fields.len();
        let prefix = match output.kind {
            ScoreKind::Probability => "probability",
            ScoreKind::Decision | ScoreKind::Value => "score",
        };
        let of_class = |index: usize| Field {
            name: format!("{prefix}_{}", labels.text(index)),
            kind: FieldType::Number,
        };
        match width {
            _ if !labelled => {}
            width if !labels.is_empty() && width == labels.len() => fields.extend((0..width).map(of_class)),
            // A net that ends in one sigmoid gives the positive class's only.
            1 if output.kind == ScoreKind::Probability => {
                fields.push(of_class(output.positive.unwrap_or(0) as usize));
            }
            width => fields.extend(numbered(prefix, FieldType::Number, width)),
        }
        Layout { fields, predictions }
    }

    /// The columns.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// Reads an answer to a batch.
    ///
    /// # Errors
    /// When it is not what this model answers.
    pub fn read(&self, body: &[u8]) -> anyhow::Result<Vec<Row>> {
        let answer: Answer = serde_json::from_slice(body).context("the component's answer")?;
        answer.predictions.into_iter().map(|entry| self.row(entry)).collect()
    }

    fn row(&self, entry: Entry) -> anyhow::Result<Row> {
        if let Some(refusal) = entry.error {
            return Ok(Row::Bad(refusal.faults));
        }
        let mut values = entry.prediction.0;
        if values.len() == self.predictions {
            let all = [entry.probabilities, entry.scores, entry.probability, entry.score];
            values.extend(all.into_iter().flatten().next().unwrap_or_default().0);
        }
        anyhow::ensure!(
            values.len() == self.fields.len(),
            "the component's answer: expected {} values but got {}",
            self.fields.len(),
            values.len()
        );
        Ok(Row::Good {
            values,
            warned: entry.warnings.is_some(),
        })
    }
}

#[derive(Deserialize)]
struct Answer {
    predictions: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Entry {
    prediction: Values,
    probability: Option<Values>,
    probabilities: Option<Values>,
    score: Option<Values>,
    scores: Option<Values>,
    warnings: Option<IgnoredAny>,
    error: Option<Refusal>,
}

/// One value, or those of an array or object in order.
#[derive(Debug, Default, PartialEq)]
struct Values(Vec<Value>);

impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Values, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = Vec<Value>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a prediction")
            }

            fn visit_unit<E>(self) -> Result<Vec<Value>, E> {
                Ok(vec![Value::Missing])
            }

            fn visit_i64<E>(self, value: i64) -> Result<Vec<Value>, E> {
                Ok(vec![Value::Integer(value.into())])
            }

            fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Vec<Value>, E> {
                Ok(vec![match i64::try_from(value) {
                    Ok(value) => Value::Integer(value.into()),
                    Err(_) => Value::Number(value as f64),
                }])
            }

            fn visit_f64<E>(self, value: f64) -> Result<Vec<Value>, E> {
                Ok(vec![Value::Number(value)])
            }

            fn visit_str<E>(self, value: &str) -> Result<Vec<Value>, E> {
                Ok(vec![Value::Text(value.to_owned())])
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<Value>, A::Error> {
                let mut values = Vec::new();
                while let Some(Values(item)) = items.next_element()? {
                    values.extend(item);
                }
                Ok(values)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Vec<Value>, A::Error> {
                let mut values = Vec::new();
                while let Some((_, Values(item))) = members.next_entry::<IgnoredAny, Values>()? {
                    values.extend(item);
                }
                Ok(values)
            }
        }

        deserializer.deserialize_any(Collect).map(Values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(task: &str, output: &str) -> Layout {
        let manifest = format!(
            r#"{{"format":1,"name":"m","version":"1","engine":"tabular","task":{task:?},"features":[],"inputs":[],
            "output":{output},"batch":true,"reference":{{"rows":0,"columns":[]}},
            "provenance":{{"modelet":"0","onnx_sha256":"","onnx_bytes":0,"opsets":{{}},"operators":{{}}}}}}"#
        );
        Layout::new(&serde_json::from_str(&manifest).unwrap())
    }

    #[test]
    fn the_columns_are_those_of_the_task_and_the_answers_fill_them() {
        struct Case {
            task: &'static str,
            output: &'static str,
            columns: &'static str,
            answer: &'static str,
            values: &'static str,
        }
        for case in [
            Case {
                task: "binary",
                output: r#"{"labels":[0,1],"positive":1,"label":0,"scores":[1],"width":2,"kind":"probability"}"#,
                columns: "prediction probability_0 probability_1",
                answer: r#"{"prediction":1,"probability":0.75,"probabilities":{"0":0.25,"1":0.75}}"#,
                values: "1 0.25 0.75",
            },
            Case {
                task: "binary",
                output: r#"{"labels":["no","yes"],"positive":1,"scores":[0],"width":1,"kind":"probability"}"#,
                columns: "prediction probability_yes",
                answer: r#"{"prediction":"no","probability":0.25}"#,
                values: "no 0.25",
            },
            Case {
                task: "binary",
                output: r#"{"labels":[0,1],"positive":1,"label":0,"scores":[1],"width":1,"kind":"decision"}"#,
                columns: "prediction score",
                answer: r#"{"prediction":0,"score":-2}"#,
                values: "0 -2",
            },
            Case {
                task: "multiclass",
                output: r#"{"labels":["a","b","c"],"label":0,"scores":[1],"width":3,"kind":"decision"}"#,
                columns: "prediction score_a score_b score_c",
                answer: r#"{"prediction":"b","score":3,"scores":{"a":1,"b":3,"c":null}}"#,
                values: "b 1 3 ",
            },
            Case {
                task: "multiclass",
                output: r#"{"labels":["a","b","c"],"label":0,"width":0,"kind":"decision"}"#,
                columns: "prediction",
                answer: r#"{"prediction":"b"}"#,
                values: "b",
            },
            Case {
                task: "regression",
                output: r#"{"scores":[0],"width":1,"kind":"value"}"#,
                columns: "prediction",
                answer: r#"{"prediction":1.5}"#,
                values: "1.5",
            },
            Case {
                task: "regression",
                output: r#"{"scores":[0],"width":2,"kind":"value"}"#,
                columns: "prediction_0 prediction_1",
                answer: r#"{"prediction":[1.5,-2]}"#,
                values: "1.5 -2",
            },
            Case {
                task: "transform",
                output: r#"{"scores":[0],"width":1,"kind":"value"}"#,
                columns: "prediction",
                answer: r#"{"prediction":[4]}"#,
                values: "4",
            },
            Case {
                task: "outlier",
                output: r#"{"label":0,"scores":[1],"width":1,"kind":"decision"}"#,
                columns: "prediction score",
                answer: r#"{"prediction":-1,"score":-0.5}"#,
                values: "-1 -0.5",
            },
            Case {
                task: "cluster",
                output: r#"{"label":0,"scores":[1],"width":2,"kind":"decision"}"#,
                columns: "prediction score_0 score_1",
                answer: r#"{"prediction":1,"scores":[2.5,0.5]}"#,
                values: "1 2.5 0.5",
            },
        ] {
            let layout = layout(case.task, case.output);
            let names: Vec<&str> = layout.fields().iter().map(|field| field.name.as_str()).collect();
            assert_eq!(names.join(" "), case.columns, "{}", case.output);
            let body = format!(
                r#"{{"predictions":[{}],"model_version":"1","inference_time_ms":0}}"#,
                case.answer
            );
            let rows = layout.read(body.as_bytes()).unwrap();
            let [Row::Good { values, warned: false }] = &rows[..] else {
                panic!("{rows:?}");
            };
            let values: Vec<String> = values.iter().map(|value| value.cell().to_string()).collect();
            assert_eq!(values.join(" "), case.values, "{}", case.output);
        }
    }

    #[test]
    fn a_refused_row_says_why() {
        let layout = layout("regression", r#"{"scores":[0],"width":1,"kind":"value"}"#);
        let body = br#"{"predictions":[
            {"prediction":1,"warnings":[{"feature":"x","code":"range","message":"m"}]},
            {"index":1,"error":{"type":"t","title":"t","status":422,"detail":"1 fault in row 1",
                "faults":[{"feature":"x","code":"type","message":"expected a number"}]}}]}"#;
        let rows = layout.read(body).unwrap();
        assert!(matches!(rows[0], Row::Good { warned: true, .. }));
        let Row::Bad(faults) = &rows[1] else { panic!("{rows:?}") };
        assert_eq!(faults[0].feature.as_deref(), Some("x"));
        assert!(layout.read(br#"{"predictions":[{"prediction":[1,2]}]}"#).is_err());
    }
}
