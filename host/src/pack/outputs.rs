//! What a model's outputs mean: the task, the labels, the scores.
//!
//! Exporters have habits: a label beside a ZipMap, a label beside a matrix of
//! probabilities, one output a class, a lone matrix from a neural net. The
//! graph tells most of it; what it can't tell (the number of scores, whether
//! they are probabilities) is read off the answers to some rows. Shapes that
//! the graph declares are not believed.

mod trace;

pub use trace::Role;

use super::lower;
use super::onnx::{self, Graph};
use super::overrides::Overrides;
use modelet::signature::{Labels, Output, ScoreKind, Task};
use modelet::tensor::Dtype;
use std::collections::BTreeSet;
use trace::{Told, Trace};

/// An output of the graph.
#[derive(Clone, Debug, Default)]
pub struct GraphOutput {
    /// Its name.
    pub name: String,
    /// Its element type; absent for a sequence, or where nothing tells.
    pub dtype: Option<Dtype>,
    /// What the nodes that made it tell.
    pub told: Told,
}

/// The graph's outputs; `lowered` knows the types better than the graph
/// declares them.
pub fn of_graph(graph: &Graph, lowered: Option<&[lower::Output]>) -> Vec<GraphOutput> {
    let trace = Trace::new(graph);
    let declared = |output: &onnx::ValueInfo| {
        let tensor = output.r#type.as_ref()?.tensor_type.as_ref()?;
        onnx::dtype(tensor.elem_type).ok()
    };
    let outputs = graph.output.iter().enumerate();
    outputs
        .map(|(index, output)| {
            let lowered = lowered.and_then(|lowered| lowered.get(index));
            let mut told = trace.told(&output.name);
            if told.labels.is_none() && told.role == Role::Label {
                told.labels = lowered.and_then(|lowered| lowered.labels.clone());
            }
            GraphOutput {
                name: output.name.clone(),
                dtype: lowered.and_then(|lowered| lowered.dtype).or_else(|| declared(output)),
                told,
            }
        })
        .collect()
}

impl GraphOutput {
    /// Whole numbers or text, as labels are; the scores of a ZipMap are not.
    fn discrete(&self) -> bool {
        let float = matches!(self.dtype, None | Some(Dtype::Float32 | Dtype::Float64));
        !float && !self.told.zip_map
    }

    fn named(&self, parts: &[&str]) -> bool {
        let name = self.name.to_lowercase();
        parts.iter().any(|part| name.contains(part))
    }

    /// The name says that its values are probabilities.
    fn named_probability(&self) -> bool {
        self.named(&["prob"])
    }
}

/// The ways to read the outputs, the likeliest first: one may turn out wrong
/// when rows are run. `width` 0 takes what comes.
///
/// # Errors
/// In words, when the signature names outputs that the graph does not have.
pub fn readings(outputs: &[GraphOutput], overrides: &Overrides) -> Result<Vec<Output>, String> {
    let position = |name: &String| {
        let place = outputs.iter().position(|o| o.name == *name);
        place.map(|i| i as u16).ok_or_else(|| {
            let have: Vec<&str> = outputs.iter().map(|o| o.name.as_str()).collect();
            format!(
                "the signature names an output {name:?}; the graph has {}",
                have.join(", ")
            )
        })
    };
    let given_scores = match &overrides.outputs.scores {
        Some(names) => Some(names.iter().map(position).collect::<Result<Vec<_>, _>>()?),
        None => None,
    };
    let taken = |i: u16| given_scores.as_ref().is_some_and(|scores| scores.contains(&i));
    let values_wanted = matches!(overrides.task, Some(Task::Regression | Task::Transform));
    let label = match &overrides.outputs.label {
        Some(Some(name)) => Some(position(name)?),
        Some(None) => None,
        None if values_wanted => None,
        None => label_of(outputs).filter(|&i| !taken(i)),
    };
    let labels = match &overrides.labels {
        _ if values_wanted => Labels::default(),
        Some(labels) => labels.clone(),
        None => labels_of(outputs, label, given_scores.as_deref()),
    };
    if let (Some(label), Some(labels)) = (label, &overrides.labels) {
        let output = &outputs[label as usize];
        let text = matches!(labels, Labels::String(_));
        if output.dtype.is_some_and(|dtype| text != (dtype == Dtype::String)) {
            return Err(format!(
                "the signature's labels are {}, but the output {:?} holds {}",
                if text { "text" } else { "integers" },
                output.name,
                output.dtype.map_or("others", Dtype::name)
            ));
        }
    }
    let scores = given_scores
        .clone()
        .unwrap_or_else(|| scores_of(outputs, label, &labels));
    if label.is_none() && scores.is_empty() {
        return Err("no output holds numbers or a label".into());
    }
    if let ([scores], Some(labels)) = (&scores[..], &overrides.labels) {
        let output = &outputs[*scores as usize];
        let texts = |labels: &Labels| (0..labels.len()).map(|i| labels.text(i)).collect::<Vec<_>>();
        // Scores that tell nothing are those of the label beside them.
        let of_label = || label.and_then(|label| outputs[label as usize].told.labels.as_ref());
        let graph = output.told.labels.as_ref().or_else(of_label);
        let (given, graph) = (texts(labels), graph.map(texts));
        let all = |labels: &[String]| labels.iter().cloned().collect::<BTreeSet<_>>();
        if let Some(graph) = graph.filter(|graph| given != *graph && all(&given) == all(graph)) {
            return Err(format!(
                "the signature's labels are {}, but the scores in the output {:?} are of {}, in this order",
                given.join(", "),
                output.name,
                graph.join(", ")
            ));
        }
    }
    let reading = |label: Option<u16>, labels: Labels, scores: Vec<u16>| Output {
        positive: (labels.len() == 2).then_some(1),
        labels,
        label,
        scores,
        width: 0,
        kind: ScoreKind::Value,
    };
    let mut readings = vec![reading(label, labels.clone(), scores.clone())];
    let said = overrides.outputs.label.is_some() || overrides.labels.is_some() || overrides.task.is_some();
    if let (Some(index), false) = (label, said) {
        let text = outputs[index as usize].dtype == Some(Dtype::String);
        if !labels.is_empty() && !text {
            readings.push(reading(label, Labels::default(), scores));
        }
        // Several labels of a row are a vector.
        let numbers: Vec<u16> = (0..outputs.len() as u16)
            .filter(|&i| outputs[i as usize].dtype != Some(Dtype::String))
            .collect();
        if !text && given_scores.is_none() {
            readings.push(reading(None, Labels::default(), numbers));
            readings.push(reading(None, Labels::default(), vec![index]));
        }
    }
    Ok(readings)
}

/// The output that holds the label, if one does.
fn label_of(outputs: &[GraphOutput]) -> Option<u16> {
    let find = |test: &dyn Fn(usize, &GraphOutput) -> bool| outputs.iter().enumerate().position(|(i, o)| test(i, o));
    let label = |_: usize, o: &GraphOutput| o.told.role == Role::Label;
    let named = |_: usize, o: &GraphOutput| o.discrete() && o.named(&["label", "class", "pred", "cluster"]);
    // A leading integer is a label; one behind other values is something else,
    // such as the leaves that a tree ensemble came to.
    let first = |i: usize, o: &GraphOutput| i == 0 && o.discrete();
    find(&label)
        .or_else(|| find(&named))
        .or_else(|| find(&first))
        .map(|i| i as u16)
}

/// The classes.
fn labels_of(outputs: &[GraphOutput], label: Option<u16>, scores: Option<&[u16]>) -> Labels {
    let known = |o: &&GraphOutput| o.told.labels.is_some();
    let of_label = label.map(|i| &outputs[i as usize]).filter(known);
    // A ZipMap may have names for what the label tells by number.
    let fits = |o: &&GraphOutput| match of_label.map(|of_label| (&of_label.told.labels, &o.told.labels)) {
        Some((Some(a), Some(b))) => std::mem::discriminant(a) == std::mem::discriminant(b),
        _ => true,
    };
    let by_scores = scores.and_then(|scores| scores.iter().map(|&i| &outputs[i as usize]).find(known));
    by_scores
        .filter(fits)
        .or_else(|| outputs.iter().filter(|o| o.told.zip_map && fits(o)).find(known))
        .or(of_label)
        .or_else(|| match label {
            Some(_) => None,
            None => outputs.iter().filter(|o| o.told.role == Role::Scores).find(known),
        })
        .and_then(|o| o.told.labels.clone())
        .unwrap_or_default()
}

/// The outputs that hold the scores, or the predicted values.
fn scores_of(outputs: &[GraphOutput], label: Option<u16>, labels: &Labels) -> Vec<u16> {
    let places = |test: &dyn Fn(&GraphOutput) -> bool| -> Vec<u16> {
        let others = (0..outputs.len() as u16).filter(|&i| Some(i) != label);
        others.filter(|&i| test(&outputs[i as usize])).collect()
    };
    let numbers = places(&|o| !o.discrete());
    if numbers.is_empty() {
        return match label {
            Some(_) => Vec::new(),
            None => places(&|o| o.dtype != Some(Dtype::String)),
        };
    }
    if labels.is_empty() {
        // A net that gives probabilities and what led to them.
        let activated = places(&|o| is_activation(&o.told.operator));
        return match (label, activated.as_slice()) {
            (Some(_), [one]) => vec![*one],
            _ => numbers,
        };
    }
    // One output a class, or else one for all.
    if numbers.len() == labels.len() {
        return numbers;
    }
    let zipped = places(&|o| o.told.zip_map);
    let scores = places(&|o| o.told.role == Role::Scores);
    let named = places(&|o| !o.discrete() && o.named(&["prob", "score", "decision"]));
    let best = [zipped, scores, named, numbers]
        .into_iter()
        .find(|found| !found.is_empty());
    best.into_iter().flatten().take(1).collect()
}

fn is_activation(operator: &str) -> bool {
    matches!(operator, "Softmax" | "LogSoftmax" | "Sigmoid" | "HardSigmoid")
}

/// Operators whose results are columns made from columns, not predictions.
fn is_transform(operator: &str) -> bool {
    matches!(
        operator,
        "ArrayFeatureExtractor"
            | "Binarizer"
            | "FeatureVectorizer"
            | "Imputer"
            | "LabelEncoder"
            | "Normalizer"
            | "OneHotEncoder"
            | "Scaler"
            | "TfIdfVectorizer"
    )
}

/// What the answers to some rows show.
#[derive(Debug, Default)]
pub struct Probe {
    /// Scores of each row.
    pub scores: Vec<Vec<f64>>,
    /// Labels that are not classes of the graph.
    pub labels: Vec<i64>,
}

impl Probe {
    /// Whether every score is in [0, 1], as far as it is a number.
    fn in_unit(&self) -> bool {
        let mut numbers = self.scores.iter().flatten().filter(|s| !s.is_nan()).peekable();
        numbers.peek().is_some() && numbers.all(|s| (0.0..=1.0).contains(s))
    }

    /// Whether the scores of every row are a distribution.
    fn adds_up(&self) -> bool {
        let sums = self.scores.iter().map(|row| row.iter().sum::<f64>());
        let mut sums = sums.filter(|sum| !sum.is_nan()).peekable();
        // What was quantised to 256 steps adds up only nearly.
        sums.peek().is_some() && sums.all(|sum| (sum - 1.0).abs() < 0.02)
    }
}

/// How the outputs are read, once some rows were run.
///
/// # Errors
/// When what the caller says of the outputs contradicts them.
pub fn settle(
    outputs: &[GraphOutput],
    reading: Output,
    probe: &Probe,
    overrides: &Overrides,
) -> Result<(Task, Output), String> {
    let mut output = reading;
    let width = probe.scores.first().map_or(0, Vec::len);
    output.width = width as u32;
    let from = match output.scores[..] {
        [one] => outputs.get(one as usize),
        _ => None,
    };
    let wanted = overrides.task;
    if output.labels.is_empty() {
        output.labels = classes(&output, from, probe, wanted)?;
    }
    let classes = output.labels.len();
    if classes > 0 && output.label.is_none() && width > 1 && width != classes {
        return Err(format!(
            "{classes} labels for {width} scores; name the right outputs, or the task, in the signature"
        ));
    }
    let derived = match (classes, output.label) {
        (0, None) => {
            let columns = output.scores.len() > 1 && outputs.iter().any(|o| o.told.role == Role::Label)
                || from.is_some_and(|o| is_transform(&o.told.operator));
            match columns && width > 1 {
                true => Task::Transform,
                false => Task::Regression,
            }
        }
        (0, Some(_)) => {
            let signs = probe.labels.iter().all(|l| matches!(l, -1 | 1));
            match width {
                0 if signs && probe.labels.contains(&-1) => Task::Outlier,
                1 if signs => Task::Outlier,
                _ => Task::Cluster,
            }
        }
        (2, _) => Task::Binary,
        _ => Task::Multiclass,
    };
    let task = wanted.unwrap_or(derived);
    match task {
        Task::Binary if classes != 2 => return Err(format!("the task is binary, but there are {classes} classes")),
        Task::Multiclass if classes == 0 => return Err("the task is multiclass, but there are no classes".into()),
        Task::Regression | Task::Transform if classes > 0 || output.label.is_some() => {
            return Err(format!("the task is {}, but the model gives labels", task.name()));
        }
        _ => {}
    }
    output.kind = if classes == 0 {
        match output.label {
            Some(_) => ScoreKind::Decision,
            None => ScoreKind::Value,
        }
    } else if probe.in_unit() && (width == 1 || probe.adds_up()) {
        ScoreKind::Probability
    } else {
        ScoreKind::Decision
    };
    output.positive = match (task, &overrides.positive) {
        (Task::Binary, None) => Some(1),
        (Task::Binary, Some(label)) => {
            let text = match label {
                serde_json::Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            let class = (0..classes).find(|&i| output.labels.text(i) == text);
            Some(class.ok_or_else(|| format!("the positive label {label} is not one of the classes"))? as u32)
        }
        _ => None,
    };
    Ok((task, output))
}

/// The classes of a graph that does not name them: they are counted.
fn classes(
    output: &Output,
    scores: Option<&GraphOutput>,
    probe: &Probe,
    wanted: Option<Task>,
) -> Result<Labels, String> {
    let width = output.width as usize;
    let classes_wanted = matches!(wanted, Some(Task::Binary | Task::Multiclass));
    if wanted.is_some() && !classes_wanted {
        return Ok(Labels::default());
    }
    let operator = scores.map_or("", |o| o.told.operator.as_str());
    let probable = scores.is_some_and(GraphOutput::named_probability) && probe.in_unit();
    let count = match operator {
        "Softmax" | "LogSoftmax" if width > 1 => width,
        "Sigmoid" | "HardSigmoid" if width == 1 => 2,
        _ if probable && width == 1 && output.label.is_none() => 2,
        _ if probable && width > 1 && probe.adds_up() && output.label.is_none() => width,
        _ if classes_wanted => width.max(2),
        _ => 0,
    };
    let numbered = 0..count as i64;
    if output.label.is_some() && !probe.labels.iter().all(|label| numbered.contains(label)) {
        return match classes_wanted {
            true => Err(
                "the task is a classification, but the graph does not name its classes: give \"labels\" in the signature"
                    .into(),
            ),
            false => Ok(Labels::default()),
        };
    }
    Ok(Labels::Int64(numbered.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An output: name, type, role, classes, operator.
    fn output(name: &str, dtype: Option<Dtype>, role: Role, classes: &[i64], operator: &str) -> GraphOutput {
        GraphOutput {
            name: name.into(),
            dtype,
            told: Told {
                role,
                labels: (!classes.is_empty()).then(|| Labels::Int64(classes.to_vec())),
                operator: operator.into(),
                zip_map: dtype.is_none(),
            },
        }
    }

    fn signature(json: &str) -> Overrides {
        serde_json::from_str(json).unwrap()
    }

    const F: Option<Dtype> = Some(Dtype::Float32);
    const I: Option<Dtype> = Some(Dtype::Int64);

    #[test]
    fn habits_of_exporters_are_read() {
        struct Case {
            what: &'static str,
            outputs: Vec<GraphOutput>,
            scores: Vec<f64>,
            labels: &'static [i64],
            signature: &'static str,
            /// Task, label, scores, classes, kind.
            expected: &'static str,
        }
        use Role::{Label, Scores, Value};
        let zipped = || {
            vec![
                output("l", I, Label, &[0, 1], "LinearClassifier"),
                output("p", None, Scores, &[0, 1], "Normalizer"),
            ]
        };
        let cases = [
            Case {
                what: "a label beside a ZipMap",
                outputs: zipped(),
                scores: vec![0.25, 0.75],
                labels: &[],
                signature: "{}",
                expected: "binary Some(0) [1] 2 Probability",
            },
            Case {
                what: "decision scores",
                outputs: zipped(),
                scores: vec![-2.0, 2.0],
                labels: &[],
                signature: "{}",
                expected: "binary Some(0) [1] 2 Decision",
            },
            Case {
                what: "one output a class",
                outputs: vec![
                    output("l", I, Label, &[0, 1, 2], "LinearClassifier"),
                    output("i0", F, Scores, &[0, 1, 2], "Normalizer"),
                    output("i1", F, Scores, &[0, 1, 2], "Normalizer"),
                    output("i2", F, Scores, &[0, 1, 2], "Normalizer"),
                ],
                scores: vec![0.25, 0.25, 0.5],
                labels: &[],
                signature: "{}",
                expected: "multiclass Some(0) [1, 2, 3] 3 Probability",
            },
            Case {
                what: "leaves behind a classifier's scores",
                outputs: vec![
                    output("label", I, Label, &[0, 1, 2], "TreeEnsembleClassifier"),
                    output("probabilities", F, Scores, &[0, 1, 2], "TreeEnsembleClassifier"),
                    output("decision_leaf", I, Value, &[], "Concat"),
                ],
                scores: vec![0.25, 0.25, 0.5],
                labels: &[],
                signature: "{}",
                expected: "multiclass Some(0) [1] 3 Probability",
            },
            Case {
                what: "leaves behind a regressor's value",
                outputs: vec![
                    output("variable", F, Value, &[], "TreeEnsembleRegressor"),
                    output("decision_leaf", I, Value, &[], "Concat"),
                ],
                scores: vec![3.5],
                labels: &[],
                signature: "{}",
                expected: "regression None [0] 0 Value",
            },
            Case {
                what: "several regression outputs",
                outputs: vec![
                    output("mean", F, Value, &[], "Add"),
                    output("std", F, Value, &[], "Sqrt"),
                ],
                scores: vec![3.5, 0.5],
                labels: &[],
                signature: "{}",
                expected: "regression None [0, 1] 0 Value",
            },
            Case {
                what: "an outlier's score",
                outputs: vec![
                    output("label", I, Value, &[], "Where"),
                    output("scores", F, Value, &[], "Sub"),
                ],
                scores: vec![-0.5],
                labels: &[-1, 1],
                signature: "{}",
                expected: "outlier Some(0) [1] 0 Decision",
            },
            Case {
                what: "a cluster and its distances",
                outputs: vec![
                    output("label", I, Label, &[], "ArgMax"),
                    output("scores", F, Value, &[], "Sqrt"),
                ],
                scores: vec![2.5, 0.5, 4.0],
                labels: &[1],
                signature: "{}",
                expected: "cluster Some(0) [1] 0 Decision",
            },
            Case {
                what: "a net's scores before its label",
                outputs: vec![
                    output("logits", F, Value, &[], "Gemm"),
                    output("probabilities", F, Value, &[], "Softmax"),
                    output("label", I, Label, &[], "ArgMax"),
                ],
                scores: vec![0.25, 0.25, 0.5],
                labels: &[2],
                signature: "{}",
                expected: "multiclass Some(2) [1] 3 Probability",
            },
            Case {
                what: "a label only",
                outputs: vec![output("label", I, Label, &[4, 5, 6], "LinearClassifier")],
                scores: vec![],
                labels: &[],
                signature: "{}",
                expected: "multiclass Some(0) [] 3 Decision",
            },
            Case {
                what: "one sigmoid",
                outputs: vec![output("y", F, Value, &[], "Sigmoid")],
                scores: vec![0.25],
                labels: &[],
                signature: "{}",
                expected: "binary None [0] 2 Probability",
            },
            Case {
                what: "several sigmoids are no classes",
                outputs: vec![output("y", F, Value, &[], "Sigmoid")],
                scores: vec![0.25, 0.75, 0.5],
                labels: &[],
                signature: "{}",
                expected: "regression None [0] 0 Value",
            },
            Case {
                what: "a label of binary32, as Spark's",
                outputs: vec![
                    output("prediction", F, Label, &[0, 1], "LinearClassifier"),
                    output("probability", F, Scores, &[0, 1], "LinearClassifier"),
                ],
                scores: vec![0.25, 0.75],
                labels: &[],
                signature: "{}",
                expected: "binary Some(0) [1] 2 Probability",
            },
            Case {
                what: "columns of a scaler",
                outputs: vec![output("variable", F, Value, &[], "Scaler")],
                scores: vec![0.25, 0.75],
                labels: &[],
                signature: "{}",
                expected: "transform None [0] 0 Value",
            },
            Case {
                what: "the signature chooses the outputs",
                outputs: vec![output("a", F, Value, &[], "Gemm"), output("b", F, Value, &[], "Gemm")],
                scores: vec![-1.0, 2.0],
                labels: &[],
                signature: r#"{"task": "binary", "labels": ["no", "yes"], "outputs": {"scores": ["b"]}}"#,
                expected: "binary None [1] 2 Decision",
            },
            Case {
                what: "the signature says that there is no label",
                outputs: vec![
                    output("label", I, Value, &[], "Where"),
                    output("x", F, Value, &[], "Sub"),
                ],
                scores: vec![-1.0],
                labels: &[],
                signature: r#"{"outputs": {"label": null}}"#,
                expected: "regression None [1] 0 Value",
            },
            Case {
                what: "the signature wants a regression",
                outputs: vec![output("y", F, Value, &[], "Sigmoid")],
                scores: vec![0.25],
                labels: &[],
                signature: r#"{"task": "regression"}"#,
                expected: "regression None [0] 0 Value",
            },
        ];
        for case in cases {
            let overrides = signature(case.signature);
            let reading = readings(&case.outputs, &overrides).unwrap().swap_remove(0);
            let probe = Probe {
                scores: vec![case.scores],
                labels: case.labels.to_vec(),
            };
            let (task, output) = settle(&case.outputs, reading, &probe, &overrides).unwrap();
            let read = format!(
                "{} {:?} {:?} {} {:?}",
                task.name(),
                output.label,
                output.scores,
                output.labels.len(),
                output.kind
            );
            assert_eq!(read, case.expected, "{}", case.what);
        }
    }

    #[test]
    fn several_labels_of_a_row_may_be_a_vector() {
        let outputs = [
            output("label", I, Role::Value, &[], "Cast"),
            output("probabilities", F, Role::Value, &[], "Concat"),
        ];
        let all = readings(&outputs, &Overrides::default()).unwrap();
        assert_eq!(all[0].label, Some(0));
        let vector = &all[1];
        assert_eq!((vector.label, &vector.scores[..]), (None, &[0, 1][..]));
        let probe = Probe {
            scores: vec![vec![1.0, 0.0, 0.75, 0.25]],
            labels: vec![],
        };
        let (task, _) = settle(&outputs, vector.clone(), &probe, &Overrides::default()).unwrap();
        assert_eq!(task, Task::Regression);
    }

    #[test]
    fn a_wrong_signature_is_refused() {
        let outputs = [
            output("label", I, Role::Label, &[0, 1], "LinearClassifier"),
            output("p", F, Role::Scores, &[0, 1], "LinearClassifier"),
        ];
        for (json, expected) in [
            (
                r#"{"outputs": {"scores": ["q"]}}"#,
                "the signature names an output \"q\"; the graph has label, p",
            ),
            (
                r#"{"labels": ["no", "yes"]}"#,
                "the signature's labels are text, but the output \"label\" holds int64",
            ),
        ] {
            assert_eq!(readings(&outputs, &signature(json)).unwrap_err(), expected);
        }
        assert!(serde_json::from_str::<Overrides>(r#"{"outputs": {"labels": "x"}}"#).is_err());
    }
}
