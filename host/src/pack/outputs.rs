//! What a model's outputs mean: the task, the labels, the scores.
//!
//! Exporters have habits: a label beside a ZipMap, a label beside a matrix of
//! probabilities, one output a class, a lone matrix from a neural net. The
//! graph tells most of it; what it can't tell (the number of scores, whether
//! they are probabilities) is read off the answers to some rows.

use super::lower::Output as GraphOutput;
use super::overrides::Overrides;
use modelet::signature::{Labels, Output, ScoreKind, Task};
use modelet::tensor::Dtype;

/// How the outputs look before any row was run: `width` 0 takes what comes.
pub fn provisional(outputs: &[GraphOutput], overrides: &Overrides) -> (Task, Output) {
    let is_label = |o: &GraphOutput| {
        !o.zip_map && matches!(o.dtype, Some(Dtype::Int64 | Dtype::Int32 | Dtype::String | Dtype::Bool))
    };
    let label = outputs.iter().position(is_label);
    let labels = overrides.labels.clone().or_else(|| {
        let of = |o: &GraphOutput| o.labels.clone();
        let zipped = outputs.iter().filter(|o| o.zip_map).find_map(of);
        zipped.or_else(|| outputs.iter().find_map(of))
    });
    let scores: Vec<u16> = (0..outputs.len() as u16)
        .filter(|&i| !is_label(&outputs[i as usize]))
        .collect();
    let labels = labels.unwrap_or_default();
    // One output a class, or else only the first one holds the scores.
    let scores = if labels.is_empty() || scores.len() == labels.len() {
        scores
    } else {
        scores.into_iter().take(1).collect()
    };
    let task = match labels.len() {
        0 => Task::Transform,
        2 => Task::Binary,
        _ => Task::Multiclass,
    };
    let output = Output {
        positive: (labels.len() == 2).then_some(1),
        labels,
        label: label.map(|i| i as u16),
        scores,
        width: 0,
        kind: ScoreKind::Value,
    };
    (task, output)
}

/// What the answers to some rows show.
#[derive(Debug, Default)]
pub struct Probe {
    /// Scores of each row.
    pub scores: Vec<Vec<f64>>,
    /// Labels that are not classes of the graph.
    pub labels: Vec<i64>,
}

/// How the outputs are read, once some rows were run.
///
/// # Errors
/// When what the caller says of the outputs contradicts them.
pub fn settle(
    outputs: &[GraphOutput],
    provisional: Output,
    probe: &Probe,
    overrides: &Overrides,
) -> Result<(Task, Output), String> {
    let mut output = provisional;
    let width = probe.scores.first().map_or(0, Vec::len);
    output.width = width as u32;
    let last_operator = output
        .scores
        .first()
        .map_or("", |&i| outputs[i as usize].operator.as_str());
    let in_unit = probe.scores.iter().flatten().all(|s| (0.0..=1.0).contains(s));
    let adds_up = probe
        .scores
        .iter()
        .all(|row| (row.iter().sum::<f64>() - 1.0).abs() < 1e-3);
    let wanted = overrides.task;

    // A net without a label: its last operator says what its scores are.
    let classes_wanted = matches!(wanted, Some(Task::Binary | Task::Multiclass));
    if output.labels.is_empty() && output.label.is_none() {
        let activation = match last_operator {
            "Softmax" if width > 1 => width,
            "Sigmoid" if width == 1 => 2,
            _ if classes_wanted => width.max(2),
            _ => 0,
        };
        if activation > 0 && (wanted.is_none() || classes_wanted) {
            output.labels = Labels::Int64((0..activation as i64).collect());
        }
    } else if output.labels.is_empty() && classes_wanted {
        return Err(
            "the task is a classification, but the graph does not name its classes: give \"labels\" in the signature"
                .into(),
        );
    }
    if matches!(wanted, Some(Task::Regression | Task::Transform)) && output.label.is_none() {
        output.labels = Labels::default();
    }
    let classes = output.labels.len();
    // With a label of their own, there can be scores of more than the classes,
    // such as of pairs of them.
    let of_pairs = output.label.is_some() && width > classes;
    if classes > 0 && width > 1 && width != classes && !of_pairs {
        return Err(format!("{classes} labels for {width} scores"));
    }
    let derived = match (classes, output.label) {
        (0, None) => Task::Regression,
        (0, Some(_)) => {
            let inliers = probe.labels.iter().all(|l| matches!(l, -1 | 1));
            match width {
                0 | 1 if inliers => Task::Outlier,
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
    } else if in_unit && (adds_up || width == 1) && width > 0 {
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
