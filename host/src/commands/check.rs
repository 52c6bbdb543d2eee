//! `modelet check`

use super::Status;
use crate::cli::CheckArgs;
use crate::embedded::{self, Wasi};
use crate::output::{Align, Output, Paint, bytes, grid, thousands};
use crate::pack::{CheckReport, Tensor, check};
use modelet::signature::EngineKind;
use std::fmt::Write;

pub fn run(args: &CheckArgs, output: &Output) -> anyhow::Result<Status> {
    let report = check(&args.model)?;
    match args.json {
        true => output.print_json(&report)?,
        false => output.print(text(&report, output))?,
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
    text.push('\n');
    heading(&mut text, "operators");
    let rows: Vec<_> = report
        .operators
        .iter()
        .map(|operator| vec![operator.name.clone(), thousands(operator.count.into())])
        .collect();
    text.push_str(&grid(
        output,
        &[("operator", Align::Left), ("count", Align::Right)],
        &rows,
    ));
    for (name, tensors) in [("inputs", &report.inputs), ("outputs", &report.outputs)] {
        text.push('\n');
        heading(&mut text, name);
        let rows: Vec<_> = tensors
            .iter()
            .map(|tensor| vec![tensor.name.clone(), tensor.dtype.clone(), shape(tensor)])
            .collect();
        let header = [("name", Align::Left), ("type", Align::Left), ("shape", Align::Left)];
        text.push_str(&grid(output, &header, &rows));
    }
    text
}

fn shape(tensor: &Tensor) -> String {
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
    use crate::pack::OperatorUse;

    #[test]
    fn the_report_names_operators_inputs_and_outputs() {
        let report = CheckReport {
            engine: Some(EngineKind::Tabular),
            operators: vec![OperatorUse {
                name: "ai.onnx.ml.Scaler".into(),
                count: 1,
            }],
            unsupported: None,
            opsets: [("ai.onnx.ml".to_string(), 3)].into(),
            producer: "skl2onnx 1.17".into(),
            inputs: vec![Tensor {
                name: "X".into(),
                dtype: "float32".into(),
                shape: vec![None, Some(4)],
            }],
            outputs: vec![],
            bytes: 1234,
        };
        let expected = "\
model
  engine    tabular: the compact one
  exporter  skl2onnx 1.17
  opsets    ai.onnx.ml 3
  size      1.2 KB

operators
  operator           count
  ai.onnx.ml.Scaler      1

inputs
  name  type     shape
  X     float32  [N, 4]

outputs
  name  type  shape
";
        assert_eq!(text(&report, &Output::plain()), expected);
    }
}
