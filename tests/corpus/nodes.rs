//! ONNX's node tests: each is a graph of one operator with its inputs and
//! outputs, which the tabular engine runs natively.

use crate::{each, name_of};
use anyhow::{anyhow, bail};
use modelet::engine::{RunError, Workspace};
use modelet::program::{Image, Program};
use modelet::tensor::{Tensor, Values, View};
use modelet_host::output::{Align, Output, Paint, count, grid};
use modelet_host::pack::{lower, onnx};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The tolerances of ONNX's own runner.
const ABSOLUTE: f64 = 1e-7;
const RELATIVE: f64 = 1e-3;
/// Tests that are named for a reason.
const NAMED_MAX: usize = 3;

/// Tests whose files say something else than ONNX Runtime, which is the oracle
/// here, and why; its own run of these tests leaves them out.
const OTHERWISE: [(&str, &str); 5] = [
    (
        "test_cast_FLOAT_to_STRING",
        "the file has numpy's shortest digits; ONNX Runtime writes %.8g",
    ),
    (
        "test_castlike_FLOAT_to_STRING",
        "the file has numpy's shortest digits; ONNX Runtime writes %.8g",
    ),
    (
        "test_qlinearmatmul_2D_int8_float16",
        "the file wraps around where the specification and ONNX Runtime saturate",
    ),
    (
        "test_qlinearmatmul_2D_int8_float32",
        "the file wraps around where the specification and ONNX Runtime saturate",
    ),
    (
        "test_qlinearmatmul_3D_int8_float32",
        "the file wraps around where the specification and ONNX Runtime saturate",
    ),
];

#[derive(Serialize)]
struct Report {
    ok: usize,
    wrong: Vec<Wrong>,
    /// As ONNX Runtime has it, which is not as the file has it.
    otherwise: Vec<Wrong>,
    unsupported: usize,
    reasons: Vec<Reason>,
}

#[derive(Serialize)]
struct Wrong {
    name: String,
    why: String,
}

#[derive(Serialize)]
struct Reason {
    reason: String,
    count: usize,
    tests: Vec<String>,
}

/// How a test ended that did not fail.
enum Outcome {
    Ok,
    Unsupported(String),
}

/// Runs the tests, and says whether none went wrong.
pub fn run(cases: &[PathBuf], json: bool, output: &Output) -> anyhow::Result<bool> {
    let results = each(cases, "running the node tests", &*output.progress(), node);
    let mut report = Report {
        ok: 0,
        wrong: Vec::new(),
        otherwise: Vec::new(),
        unsupported: 0,
        reasons: Vec::new(),
    };
    let mut reasons: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (case, result) in cases.iter().zip(results) {
        let name = name_of(case);
        match result {
            Ok(Outcome::Ok) => report.ok += 1,
            Ok(Outcome::Unsupported(reason)) => {
                report.unsupported += 1;
                reasons.entry(reason).or_default().push(name);
            }
            Err(why) => match OTHERWISE.iter().find(|(known, _)| *known == name) {
                Some((_, reason)) => report.otherwise.push(Wrong {
                    name,
                    why: format!("{why:#}: {reason}"),
                }),
                None => report.wrong.push(Wrong {
                    name,
                    why: format!("{why:#}"),
                }),
            },
        }
    }
    report.reasons = reasons
        .into_iter()
        .map(|(reason, tests)| Reason {
            reason,
            count: tests.len(),
            tests,
        })
        .collect();
    report.reasons.sort_by_key(|reason| std::cmp::Reverse(reason.count));
    match json {
        true => output.print_json(&report)?,
        false => output.print(text(&report, output))?,
    }
    Ok(report.wrong.is_empty())
}

fn text(report: &Report, output: &Output) -> String {
    let mut text = String::new();
    if !report.reasons.is_empty() {
        let rows: Vec<Vec<String>> = report
            .reasons
            .iter()
            .map(|reason| {
                let mut tests: Vec<&str> = reason.tests.iter().take(NAMED_MAX).map(String::as_str).collect();
                if reason.tests.len() > NAMED_MAX {
                    tests.push("...");
                }
                vec![reason.count.to_string(), reason.reason.clone(), tests.join(", ")]
            })
            .collect();
        let header = [
            ("count", Align::Right),
            ("unsupported", Align::Left),
            ("tests", Align::Left),
        ];
        text.push_str(&grid(output, &header, &rows));
        text.push('\n');
    }
    for (title, list) in [("otherwise", &report.otherwise), ("wrong", &report.wrong)] {
        if !list.is_empty() {
            let rows: Vec<Vec<String>> = list
                .iter()
                .map(|wrong| vec![wrong.name.clone(), wrong.why.clone()])
                .collect();
            let header = [(title, Align::Left), ("why", Align::Left)];
            text.push_str(&grid(output, &header, &rows));
            text.push('\n');
        }
    }
    let (paint, wrong) = match report.wrong.len() {
        0 => (Paint::Green, "none wrong".to_owned()),
        wrong => (Paint::Red, format!("{wrong} wrong")),
    };
    let total = report.ok + report.otherwise.len() + report.wrong.len() + report.unsupported;
    text.push_str(&format!(
        "{}: {} ok, {} as ONNX Runtime has it and not the file, {}, {} unsupported for {}\n",
        count(total as u64, "node test"),
        report.ok,
        report.otherwise.len(),
        output.paint(paint, wrong),
        report.unsupported,
        count(report.reasons.len() as u64, "reason")
    ));
    text
}

fn node(case: &Path) -> anyhow::Result<Outcome> {
    let model = onnx::read(&std::fs::read(case.join("model.onnx"))?).map_err(|e| anyhow!(e))?;
    let Some(graph) = &model.graph else {
        bail!("the model has no graph");
    };
    let mut inputs = Vec::new();
    for input in &graph.input {
        if graph.initializer.iter().any(|t| t.name == input.name) {
            continue;
        }
        let Some(tensor) = input.r#type.as_ref().and_then(|t| t.tensor_type.as_ref()) else {
            return Ok(Outcome::Unsupported("an input that is no tensor".into()));
        };
        match onnx::dtype(tensor.elem_type) {
            Ok(dtype) => inputs.push((input.name.clone(), dtype)),
            Err(dtype) => return Ok(Outcome::Unsupported(format!("an input of {dtype}"))),
        }
    }
    let lowered = match lower(&model, &inputs) {
        Ok(lowered) => lowered,
        Err(refused) => return Ok(Outcome::Unsupported(format!("{}: {}", refused.operator, refused.why))),
    };
    let program = Program::load(Image::from(lowered.image))?;
    let mut workspace = Workspace::default();
    for set in 0.. {
        let folder = case.join(format!("test_data_set_{set}"));
        if !folder.is_dir() {
            break;
        }
        let read = |file: String| -> anyhow::Result<Result<Tensor, String>> {
            let bytes = std::fs::read(folder.join(&file)).map_err(|e| anyhow!("{file}: {e}"))?;
            Ok(onnx::read_tensor(&bytes).and_then(|tensor| tensor.tensor()))
        };
        let mut given = Vec::new();
        for index in 0..inputs.len() {
            match read(format!("input_{index}.pb"))? {
                Ok(tensor) => given.push(tensor),
                Err(why) => return Ok(Outcome::Unsupported(format!("an input: {why}"))),
            }
        }
        match workspace.run(&program, &given) {
            Ok(()) => {}
            Err(error @ RunError::Dtype { .. }) => return Ok(Outcome::Unsupported(error.to_string())),
            Err(error) => return Err(error.into()),
        }
        for (index, output) in lowered.outputs.iter().enumerate() {
            let expected = match read(format!("output_{index}.pb"))? {
                Ok(tensor) => tensor,
                Err(why) => return Ok(Outcome::Unsupported(format!("an output: {why}"))),
            };
            let got = workspace.output(&program, &given, index);
            let got = got.ok_or_else(|| anyhow!("output {:?} is missing", output.name))?;
            same(got, expected.view()).map_err(|why| anyhow!("output {:?}: {why}", output.name))?;
        }
    }
    Ok(Outcome::Ok)
}

fn same(got: View<'_>, expected: View<'_>) -> Result<(), String> {
    if got.shape != expected.shape {
        return Err(format!(
            "expected the shape {:?} but got {:?}",
            expected.shape.dims(),
            got.shape.dims()
        ));
    }
    if got.dtype() != expected.dtype() {
        return Err(format!("expected {} but got {}", expected.dtype(), got.dtype()));
    }
    for i in 0..got.shape.len() {
        let wrong = |expected: String, got: String| Err(format!("element {i}: expected {expected} but got {got}"));
        if let (Values::String(got), Values::String(expected)) = (got.values, expected.values) {
            if got.get(i) != expected.get(i) {
                return wrong(format!("{:?}", expected.get(i)), format!("{:?}", got.get(i)));
            }
            continue;
        }
        let (got, expected) = (
            got.number(i).unwrap_or(f64::NAN),
            expected.number(i).unwrap_or(f64::NAN),
        );
        let equal = got == expected || got.is_nan() && expected.is_nan();
        let near = (got - expected).abs() <= ABSOLUTE + RELATIVE * expected.abs();
        if !equal && !near {
            return wrong(expected.to_string(), got.to_string());
        }
    }
    Ok(())
}
