//! The same answer in every home, and the right one.

use crate::support::{artifact, fixtures, root};
use crate::support::{http, native, pack_fixture, server::Server};
use modelet::api::{BatchOptions, Format, OnError, Service};
use modelet::golden::comparable;
use modelet::signature::EngineKind;
use modelet_host::pack::{PackReport, WasiVersion};
use modelet_host::runtime::{Runtime, RuntimeConfig};
use serde_json::Value;

/// Models of each family, for the homes that are slow to start.
const FAMILIES: [&str; 8] = [
    "xgb_binary_missing",
    "lgbm_multiclass_strings",
    "rf_regression",
    "logreg_zipmap",
    "dense_matmul_add",
    "mlp_regressor",
    "columns_onehot_logreg",
    "double_ridge",
];

/// Models that need the neural engine, the mixed ones the tabular one as well.
const NEURAL: [&str; 4] = ["conv_digits", "conv_dynamo", "mixed_conv", "mixed_lstm"];

const FULL: BatchOptions = BatchOptions {
    format: Format::Csv,
    on_error: OnError::Fail,
    full: true,
    rows_max: 1000,
};

fn clock() -> u64 {
    0
}

/// Every model answers its rows as ONNX Runtime does.
#[test]
fn every_fixture_answers_as_expected() {
    for name in fixtures() {
        let report = pack_fixture(&name, WasiVersion::V0_3);
        let neural = NEURAL.contains(&name.as_str());
        assert_eq!(report.manifest.engine == EngineKind::Neural, neural, "{name}");
        let mut service = native(&report);
        let folder = root().join("tests/fixtures").join(&name);
        let rows = std::fs::read(folder.join("inputs.csv")).expect("a fixture has rows");
        let reply = service.predict_batch(&rows, FULL, None, clock);
        assert!(
            reply.problem.is_none(),
            "{name}: {:?}",
            reply.problem.map(|p| String::from_utf8(p.body))
        );
        let answers: Value = serde_json::from_slice(&reply.body).expect("an answer is JSON");
        let expected = std::fs::read(folder.join("expected.json")).expect("a fixture has answers");
        let expected: Value = serde_json::from_slice(&expected).expect("answers are JSON");
        compare(
            &name,
            answers["predictions"].as_array().expect("predictions"),
            &expected,
        );
    }
}

fn compare(name: &str, answers: &[Value], expected: &Value) {
    let outputs = expected["outputs"].as_array().expect("outputs");
    let is_label = |o: &&Value| matches!(o["dtype"].as_str(), Some("int64" | "string")) && o["classes"].is_null();
    let label = outputs.iter().find(is_label);
    let scores: Vec<&Value> = outputs.iter().filter(|o| !is_label(o)).collect();
    let rows = outputs[0]["data"].as_array().expect("data").len();
    assert_eq!(answers.len(), rows, "{name}");
    for (row, answer) in answers.iter().enumerate() {
        if let Some(label) = label {
            let expected = &label["data"][row];
            let expected = expected.as_array().map_or(expected, |list| &list[0]);
            assert_eq!(&answer["prediction"], expected, "{name}, row {row}: label");
        }
        let Some(output) = scores.first() else {
            continue;
        };
        let tolerance = match output["dtype"].as_str() {
            Some("float64") => 1e-9,
            _ => 1e-5,
        };
        let expected = flat(&output["data"][row]);
        let got = all_scores(answer);
        assert_eq!(got.len(), expected.len(), "{name}, row {row}: {answer}");
        for (got, expected) in got.iter().zip(&expected) {
            let difference = (got - expected).abs();
            assert!(
                difference <= tolerance * expected.abs().max(1.0),
                "{name}, row {row}: expected {expected} but got {got}"
            );
        }
    }
}

fn flat(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(list) => list.iter().flat_map(flat).collect(),
        number => vec![number.as_f64().unwrap_or(f64::NAN)],
    }
}

/// Every score of an answer, in the model's order.
fn all_scores(answer: &Value) -> Vec<f64> {
    for name in ["probabilities", "scores"] {
        match &answer[name] {
            Value::Array(list) => return list.iter().flat_map(flat).collect(),
            // Labels of the fixtures are in sorted order, as the map is.
            Value::Object(map) => return map.values().flat_map(flat).collect(),
            _ => {}
        }
    }
    for name in ["probability", "score", "prediction"] {
        if !answer[name].is_null() {
            return flat(&answer[name]);
        }
    }
    Vec::new()
}

/// Golden rows are the component's own answers: natively and by the typed
/// export they are the same to the last bit.
#[test]
fn golden_rows_are_equal_natively_and_in_the_component() {
    let runtime = Runtime::new(RuntimeConfig::default()).expect("the engine starts");
    for name in fixtures() {
        let report = pack_fixture(&name, WasiVersion::V0_3);
        let artifact = artifact(&report);
        assert!(artifact.golden.rows.len() >= 10, "{name}: too few golden rows");
        let loaded = runtime.load(&artifact).expect("a packed component runs");
        let mut service = native(&report);
        for row in &artifact.golden.rows {
            let reply = loaded
                .predict(row.request.as_bytes(), None)
                .expect("the component runs")
                .expect("a golden row is good");
            let text = String::from_utf8(reply.body).expect("an answer is text");
            assert_eq!(comparable(&text), row.answer, "{name}: the component");
            // tract's native kernels add up in another order than wasm's.
            if report.manifest.engine == EngineKind::Tabular {
                assert_eq!(
                    comparable(&native_answer(&mut service, &row.request)),
                    row.answer,
                    "{name}: natively"
                );
            } else {
                let native: Value = serde_json::from_str(&native_answer(&mut service, &row.request)).expect("JSON");
                let wasm: Value = serde_json::from_str(&text).expect("JSON");
                for (a, b) in all_scores(&native).iter().zip(all_scores(&wasm)) {
                    assert!((a - b).abs() < 1e-6, "{name}: natively {a}, in wasm {b}");
                }
            }
        }
    }
}

fn native_answer(service: &mut Service, request: &str) -> String {
    let reply = service.predict(request.as_bytes(), None, clock);
    assert!(reply.problem.is_none(), "{request}");
    String::from_utf8(reply.body).expect("an answer is text")
}

#[test]
fn golden_rows_are_equal_under_wasmtime_serve() {
    for name in FAMILIES {
        for wasi in [WasiVersion::V0_3, WasiVersion::V0_2] {
            let report = pack_fixture(name, wasi);
            let server = Server::wasmtime(&report.output);
            verify(&report, &server);
        }
    }
}

#[test]
fn golden_rows_are_equal_under_modelet_serve() {
    for name in FAMILIES {
        for isolate in ["pooled", "request"] {
            let report = pack_fixture(name, WasiVersion::V0_3);
            let server = Server::modelet(&report.output, &["--isolate", isolate]);
            verify(&report, &server);
        }
    }
}

#[test]
fn neural_models_answer_over_http_with_the_same_bits() {
    for name in ["conv_digits", "mixed_lstm"] {
        let report = pack_fixture(name, WasiVersion::V0_3);
        verify(&report, &Server::wasmtime(&report.output));
        verify(&report, &Server::modelet(&report.output, &[]));
    }
}

fn verify(report: &PackReport, server: &Server) {
    for row in &artifact(report).golden.rows {
        let answer = http::post(server.address, "/predict", &row.request);
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(comparable(answer.text()), row.answer, "{}", report.output.display());
    }
}
