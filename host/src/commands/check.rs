//! `modelet check`

use super::Status;
use crate::cli::CheckArgs;
use crate::embedded::{self, Wasi};
use crate::output::{Align, Output, Paint, bytes, grid, thousands};
use crate::pack::{Answer, CheckReport, Tensor, check};
use modelet::signature::{EngineKind, ScoreKind};
use std::fmt::Write;

pub fn run(args: &CheckArgs, output: &Output) -> anyhow::Result<Status> {
    let report = check(&args.model)?;
    match args.json {
        true => output.print_json(&report)?,
        false => output.print(text(&report, output))?,
    }
    for note in &report.notes {
        output.note(note);
    }
    if let Some(reason) = obstacle(&report) {
        anyhow::bail!("{}: can't be packed: {reason}", args.model.display());
    }
    Ok(Status::Good)
}

/// Why this binary can't pack the model, if it can't.
fn obstacle(report: &CheckReport) -> Option<String> {
    let unsupported = report.unsupported.clone();
    let Some(engine) = report.engine else {
        return Some(unsupported.unwrap_or_else(|| "no engine runs it".into()));
    };
    let missing = embedded::component(engine, Wasi::default()).err()?;
    Some(match unsupported {
        Some(unsupported) => format!("{unsupported}, and {missing}"),
        None => missing,
    })
}

fn text(report: &CheckReport, output: &Output) -> String {
    let mut text = String::new();
    let heading = |text: &mut String, name: &str| {
        let _ = writeln!(text, "{}", output.paint(Paint::Bold, name));
    };
    let engine = match report.engine {
        Some(EngineKind::Tabular) => "tabular: the compact one".to_owned(),
        Some(EngineKind::Neural) => format!(
            "neural, because {}",
            report
                .unsupported
                .as_deref()
                .unwrap_or("the tabular one does not run it")
        ),
        None => "none".to_owned(),
    };
    heading(&mut text, "model");
    let opsets: Vec<String> = report
        .opsets
        .iter()
        .map(|(domain, version)| format!("{domain} {version}"))
        .collect();
    for (name, value) in [
        ("engine", engine),
        ("exporter", report.producer.clone()),
        ("opsets", opsets.join(", ")),
        ("size", bytes(report.bytes)),
    ] {
        if !value.is_empty() {
            let _ = writeln!(text, "  {} {value}", output.paint(Paint::Dim, format!("{name:<9}")));
        }
    }
    if let Some(answer) = &report.answer {
        text.push('\n');
        heading(&mut text, "answers");
        for (name, value) in answers(answer) {
            let _ = writeln!(text, "  {} {value}", output.paint(Paint::Dim, format!("{name:<9}")));
        }
    }
    text.push('\n');
    heading(&mut text, "operators");
    let rows: Vec<_> = report
        .operators
        .iter()
        .map(|operator| {
            vec![
                operator.name.clone(),
                operator.version.to_string(),
                thousands(operator.count.into()),
                operator.engine.map_or("none", EngineKind::name).to_owned(),
            ]
        })
        .collect();
    let header = [
        ("operator", Align::Left),
        ("version", Align::Right),
        ("count", Align::Right),
        ("engine", Align::Left),
    ];
    text.push_str(&grid(output, &header, &rows));
    if !report.refused.is_empty() {
        text.push('\n');
        heading(&mut text, "not for the tabular engine");
        let rows: Vec<_> = report
            .refused
            .iter()
            .map(|refusal| {
                vec![
                    refusal.operator.clone(),
                    refusal.version.to_string(),
                    thousands(refusal.count.into()),
                    refusal.node.clone(),
                    refusal.why.clone(),
                ]
            })
            .collect();
        let header = [
            ("operator", Align::Left),
            ("version", Align::Right),
            ("count", Align::Right),
            ("first node", Align::Left),
            ("why", Align::Left),
        ];
        text.push_str(&grid(output, &header, &rows));
    }
    let gives = report.answer.as_ref().map(|_| "gives");
    for (name, last, tensors) in [("inputs", None, &report.inputs), ("outputs", gives, &report.outputs)] {
        text.push('\n');
        heading(&mut text, name);
        let mut header = vec![("name", Align::Left), ("type", Align::Left), ("shape", Align::Left)];
        header.extend(last.map(|title| (title, Align::Left)));
        let rows: Vec<_> = tensors
            .iter()
            .map(|tensor| {
                let mut row = vec![tensor.name.clone(), tensor.dtype.clone(), shape(tensor)];
                row.extend(last.map(|_| tensor.gives.unwrap_or("nothing").to_owned()));
                row
            })
            .collect();
        text.push_str(&grid(output, &header, &rows));
    }
    text
}

/// What was derived of the answers, in words.
fn answers(answer: &Answer) -> Vec<(&'static str, String)> {
    let output = &answer.output;
    let labels: Vec<String> = (0..output.labels.len().min(LABELS_MAX))
        .map(|i| output.labels.text(i))
        .collect();
    let more = match output.labels.len() > LABELS_MAX {
        true => format!(", ... ({} in all)", thousands(output.labels.len() as u64)),
        false => String::new(),
    };
    let mut lines = vec![(
        "task",
        match answer.task {
            Some(task) => task.name().to_owned(),
            None => "shows when rows are run".to_owned(),
        },
    )];
    if !labels.is_empty() {
        lines.push(("labels", labels.join(", ") + &more));
    }
    if let Some(positive) = output.positive {
        lines.push(("positive", output.labels.text(positive as usize)));
    }
    if output.width > 0 {
        let kind = match (output.kind, output.width) {
            (ScoreKind::Probability, 1) => "probability",
            (ScoreKind::Probability, _) => "probabilities",
            (ScoreKind::Decision, 1) => "decision score",
            (ScoreKind::Decision, _) => "decision scores",
            (ScoreKind::Value, 1) => "value",
            (ScoreKind::Value, _) => "values",
        };
        lines.push(("numbers", format!("{} {kind}", thousands(output.width.into()))));
    }
    if answer.task.is_some() {
        let rows = match answer.batch {
            true => "run together",
            false => "run one by one",
        };
        lines.push(("rows", rows.to_owned()));
    }
    lines
}

/// Labels that are told.
const LABELS_MAX: usize = 12;

fn shape(tensor: &Tensor) -> String {
    if tensor.shape.is_empty() {
        return "-".into();
    }
    let dims: Vec<String> = tensor
        .shape
        .iter()
        .enumerate()
        .map(|(i, dim)| match dim {
            Some(dim) => dim.to_string(),
            None if i == 0 => "N".into(),
            None => "?".into(),
        })
        .collect();
    format!("[{}]", dims.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack::{OperatorUse, Refusal};
    use modelet::signature::{Labels, Output as ModelOutput, Task};

    #[test]
    fn the_report_tells_operators_engine_and_what_was_derived() {
        let report = CheckReport {
            engine: Some(EngineKind::Neural),
            operators: vec![
                OperatorUse {
                    name: "Conv".into(),
                    version: 17,
                    count: 2,
                    engine: Some(EngineKind::Neural),
                },
                OperatorUse {
                    name: "ai.onnx.ml.Scaler".into(),
                    version: 3,
                    count: 1,
                    engine: Some(EngineKind::Tabular),
                },
            ],
            unsupported: Some("operator Conv".into()),
            refused: vec![Refusal {
                operator: "Conv".into(),
                version: 17,
                node: "c1".into(),
                count: 2,
                why: "the tabular engine does not have it".into(),
            }],
            opsets: [("ai.onnx.ml".to_string(), 3)].into(),
            producer: "skl2onnx 1.17".into(),
            inputs: vec![Tensor {
                name: "X".into(),
                dtype: "float32".into(),
                shape: vec![None, Some(4)],
                gives: None,
            }],
            outputs: vec![
                Tensor {
                    name: "label".into(),
                    dtype: "int64".into(),
                    shape: vec![None],
                    gives: Some("label"),
                },
                Tensor {
                    name: "leaves".into(),
                    dtype: "int64".into(),
                    shape: vec![None, Some(9)],
                    gives: None,
                },
            ],
            answer: Some(Answer {
                task: Some(Task::Binary),
                output: ModelOutput {
                    labels: Labels::String(vec!["no".into(), "yes".into()]),
                    positive: Some(1),
                    label: Some(0),
                    scores: Vec::new(),
                    width: 2,
                    kind: ScoreKind::Probability,
                },
                batch: false,
            }),
            notes: Vec::new(),
            bytes: 1234,
        };
        let expected = "\
model
  engine    neural, because operator Conv
  exporter  skl2onnx 1.17
  opsets    ai.onnx.ml 3
  size      1.2 KB

answers
  task      binary
  labels    no, yes
  positive  yes
  numbers   2 probabilities
  rows      run one by one

operators
  operator           version  count  engine
  Conv                    17      2  neural
  ai.onnx.ml.Scaler        3      1  tabular

not for the tabular engine
  operator  version  count  first node  why
  Conv           17      2  c1          the tabular engine does not have it

inputs
  name  type     shape
  X     float32  [N, 4]

outputs
  name    type   shape   gives
  label   int64  [N]     label
  leaves  int64  [N, 9]  nothing
";
        assert_eq!(text(&report, &Output::plain()), expected);
    }
}
