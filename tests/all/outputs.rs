//! How answers are read from graphs whose outputs are not what they look like.

use crate::support::{native, options};
use modelet::api::{BatchOptions, Format, OnError};
use modelet::signature::{ScoreKind, Task};
use modelet_host::output::Silent;
use modelet_host::pack::onnx::{
    Attribute, Dimension, Graph, Model, Node, OperatorSet, TensorShape, TensorType, TypeProto, ValueInfo,
};
use modelet_host::pack::{PackOptions, PackReport, WasiVersion, check, pack};
use prost::Message;
use serde_json::{Value, json};
use std::path::Path;

const FLOAT: i32 = 1;
const INT64: i32 = 7;

fn value(name: &str, dtype: i32, width: i64) -> ValueInfo {
    let dim = |dim_value| Dimension {
        dim_value,
        dim_param: None,
    };
    ValueInfo {
        name: name.into(),
        r#type: Some(TypeProto {
            tensor_type: Some(TensorType {
                elem_type: dtype,
                shape: Some(TensorShape {
                    dim: vec![dim(None), dim(Some(width))],
                }),
            }),
            sequence_type: None,
        }),
    }
}

/// A node of `x` with integer attributes.
fn node(op: &str, output: &str, attributes: &[(&str, i64)]) -> Node {
    Node {
        input: vec!["x".into()],
        output: vec![output.into()],
        op_type: op.into(),
        attribute: attributes
            .iter()
            .map(|&(name, i)| Attribute {
                name: name.into(),
                i,
                ..Attribute::default()
            })
            .collect(),
        ..Node::default()
    }
}

/// A graph of two float columns.
fn graph(nodes: Vec<Node>, outputs: Vec<ValueInfo>) -> Model {
    Model {
        ir_version: 8,
        graph: Some(Graph {
            name: "g".into(),
            node: nodes,
            input: vec![value("x", FLOAT, 2)],
            output: outputs,
            ..Graph::default()
        }),
        opset_import: vec![OperatorSet {
            domain: String::new(),
            version: 13,
        }],
        ..Model::default()
    }
}

fn packed(folder: &Path, model: &Model, signature: Option<Value>) -> anyhow::Result<PackReport> {
    let path = folder.join("model.onnx");
    std::fs::write(&path, model.encode_to_vec())?;
    let signature = match signature {
        Some(json) => {
            let path = folder.join("signature.json");
            std::fs::write(&path, json.to_string())?;
            Some(path)
        }
        None => None,
    };
    let options = PackOptions {
        signature,
        output: folder.join("model.wasm"),
        ..options(&path, "outputs", WasiVersion::V0_3)
    };
    pack(&options, &Silent)
}

fn answer(report: &PackReport, rows: &str) -> Value {
    let options = BatchOptions {
        format: Format::Json,
        on_error: OnError::Fail,
        full: true,
        rows_max: 10,
    };
    let reply = native(report).predict_batch(rows.as_bytes(), options, None, || 0);
    assert!(reply.problem.is_none(), "{rows}");
    serde_json::from_slice(&reply.body).expect("an answer is JSON")
}

const ROWS: &str = r#"{"instances": [{"f0": 1.5, "f1": -2.0}, {"f0": 3.0, "f1": 0.5}]}"#;

#[test]
fn several_labels_of_a_row_are_a_vector() {
    let folder = tempfile::tempdir().expect("a directory");
    let model = graph(
        vec![
            node("Cast", "label", &[("to", 7)]),
            node("Identity", "probabilities", &[]),
        ],
        vec![value("label", INT64, 2), value("probabilities", FLOAT, 2)],
    );
    let report = packed(folder.path(), &model, None).expect("it is packed");
    assert_eq!(report.manifest.output.label, None);
    let answer = answer(&report, ROWS);
    assert_eq!(answer["predictions"][0]["prediction"], json!([1, -2, 1.5, -2]));
}

#[test]
fn an_integer_behind_a_value_is_no_label() {
    let folder = tempfile::tempdir().expect("a directory");
    let model = graph(
        vec![
            node("Identity", "variable", &[]),
            node("Cast", "decision_leaf", &[("to", 7)]),
        ],
        vec![value("variable", FLOAT, 2), value("decision_leaf", INT64, 2)],
    );
    let report = packed(folder.path(), &model, None).expect("it is packed");
    assert_eq!(report.manifest.task, Task::Regression);
    assert_eq!(report.manifest.output.scores, [0]);
    let checked = check(&folder.path().join("model.onnx")).expect("it is read");
    let gives: Vec<_> = checked.outputs.iter().map(|output| output.gives).collect();
    assert_eq!(gives, [Some("values"), None]);
    assert_eq!(checked.answer.expect("it runs").task, Some(Task::Regression));
}

#[test]
fn the_signature_chooses_among_the_outputs() {
    let folder = tempfile::tempdir().expect("a directory");
    let model = graph(
        vec![
            node("Identity", "logits", &[]),
            node("Softmax", "p", &[("axis", 1)]),
            node("ArgMax", "best", &[("axis", 1), ("keepdims", 0)]),
        ],
        vec![value("logits", FLOAT, 2), value("p", FLOAT, 2), value("best", INT64, 1)],
    );
    let derived = packed(folder.path(), &model, None).expect("it is packed").manifest;
    assert_eq!((derived.task, derived.output.label), (Task::Binary, Some(2)));
    assert_eq!(
        (&derived.output.scores[..], derived.output.kind),
        (&[1][..], ScoreKind::Probability)
    );

    let signature = json!({"task": "binary", "labels": ["no", "yes"], "positive": "no", "outputs": {"label": null, "scores": ["logits"]}});
    let report = packed(folder.path(), &model, Some(signature)).expect("it is packed");
    assert_eq!(report.manifest.output.kind, ScoreKind::Decision);
    let answer = answer(&report, ROWS);
    assert_eq!(answer["predictions"][0]["prediction"], "no");
    assert_eq!(answer["predictions"][0]["score"], 1.5);

    let error = packed(folder.path(), &model, Some(json!({"outputs": {"scores": ["q"]}}))).unwrap_err();
    let said = format!("{error:#}");
    assert!(said.contains("the graph has logits, p, best"), "{said}");
}

#[test]
fn rows_that_change_each_other_are_run_one_by_one() {
    let folder = tempfile::tempdir().expect("a directory");
    let model = graph(vec![node("Softmax", "y", &[("axis", 0)])], vec![value("y", FLOAT, 2)]);
    let signature = json!({"task": "regression"});
    let report = packed(folder.path(), &model, Some(signature)).expect("it is packed");
    assert!(!report.manifest.batch);
    let answer = answer(&report, ROWS);
    assert_eq!(answer["predictions"][1]["prediction"], json!([1, 1]));
}
