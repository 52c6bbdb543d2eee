//! The command line as a person or a script meets it.

use crate::support::rows::Rows;
use crate::support::{credit, credit_request, parity_dir, program, root, written};
use modelet_host::output::thousands;
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};

fn modelet(arguments: &[&str]) -> Output {
    Command::new(program("modelet"))
        .args(arguments)
        .current_dir(root())
        .output()
        .expect("it runs")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("output is text")
}

/// The command failed, and said why on standard error.
#[track_caller]
fn assert_refused(output: &Output, why: &str) {
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
    assert!(text(&output.stderr).contains(why), "{}", text(&output.stderr));
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a path is text")
}

#[test]
fn help_has_examples_for_every_command() {
    for command in [
        "check", "pack", "inspect", "predict", "score", "verify", "drift", "serve",
    ] {
        let output = modelet(&[command, "--help"]);
        assert!(output.status.success(), "{command}");
        assert!(
            text(&output.stdout).contains("Examples:"),
            "{command}: {}",
            text(&output.stdout)
        );
    }
    assert_eq!(modelet(&["frobnicate"]).status.code(), Some(2));
    assert_eq!(modelet(&[]).status.code(), Some(2));
}

#[test]
fn check_tells_the_operators_and_the_engine() {
    let output = modelet(&["check", "examples/credit/credit.onnx", "--json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).expect("--json is JSON");
    assert_eq!(report["engine"], "tabular");
    let output = modelet(&["check", "tests/fixtures/bad/unsupported_operator.onnx"]);
    assert_eq!(output.status.code(), Some(1));
    let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
    assert!(said.contains("Frobnicate"), "{said}");
}

#[test]
fn a_failed_packing_is_one_line_on_standard_error() {
    let out = parity_dir().join("never.wasm");
    let output = modelet(&["pack", "tests/fixtures/bad/truncated.onnx", "-o", path(&out)]);
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert_eq!(said.trim_end().lines().count(), 1, "{said}");
    assert!(said.starts_with("error: ") && said.contains("truncated.onnx"), "{said}");
    assert!(!out.exists());
}

#[test]
fn inspect_reads_what_pack_wrote() {
    let report = credit();
    let output = modelet(&["inspect", path(&report.output), "--json"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains(&report.bundle_sha256));
    let human = modelet(&["inspect", path(&report.output)]);
    assert!(text(&human.stdout).contains("loan_purpose"));
    assert!(!text(&human.stdout).contains('\u{1b}'), "colour is for terminals");
}

#[test]
fn predict_takes_text_a_file_and_standard_input() {
    let file = path(&credit().output);
    let inline = modelet(&["predict", file, "--input", &credit_request()]);
    assert!(inline.status.success(), "{}", text(&inline.stderr));
    let answer: Value = serde_json::from_slice(&inline.stdout).expect("an answer is JSON");
    assert_eq!(answer["prediction"], 0);
    let from_file = modelet(&["predict", file, "examples/credit/request.json"]);
    let other: Value = serde_json::from_slice(&from_file.stdout).expect("an answer is JSON");
    assert_eq!(answer["probability"], other["probability"]);
    let bad = modelet(&["predict", file, "--input", "{\"features\": {\"age\": 1}}"]);
    assert_refused(&bad, "income");
}

#[test]
fn score_writes_a_prediction_for_each_row() {
    let out = parity_dir().join("scored.csv");
    let output = modelet(&[
        "score",
        path(&credit().output),
        "examples/credit/reference.csv",
        "-o",
        path(&out),
    ]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let scored = std::fs::read_to_string(&out).expect("it was written");
    let expected = std::fs::read_to_string(root().join("examples/credit/expected.csv")).expect("expected answers");
    let mut rows = 0;
    for (got, expected) in scored.lines().zip(expected.lines()) {
        if rows == 0 {
            assert_eq!(got, "prediction,probability_0,probability_1");
        } else {
            let numbers = |line: &str| {
                line.split(',')
                    .map(|c| c.parse::<f64>().expect("a number"))
                    .collect::<Vec<_>>()
            };
            for (got, expected) in numbers(got).iter().zip(numbers(expected)) {
                assert!((got - expected).abs() < 1e-5, "row {rows}");
            }
        }
        rows += 1;
    }
    assert_eq!(rows, 3001);
    assert_eq!(scored.lines().count(), 3001);
}

/// The packer counts by another search than the component, and not in wasm.
#[test]
fn a_reference_has_not_drifted_from_itself() {
    let output = modelet(&[
        "drift",
        path(&credit().output),
        "examples/credit/reference.csv",
        "--json",
    ]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).expect("a report is JSON");
    let features = report["attribution"].as_array().expect("features are listed");
    assert_eq!(features.len(), 20);
    for feature in features {
        assert_eq!(feature["psi"], 0.0, "{feature}");
    }
}

#[test]
fn an_input_is_not_overwritten_by_what_is_made_of_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let (model, rows) = (dir.path().join("model.wasm"), dir.path().join("rows.csv"));
    std::fs::copy(&credit().output, &model).expect("copied");
    std::fs::copy(root().join("examples/credit/reference.csv"), &rows).expect("copied");
    let read = || (std::fs::read(&model).unwrap(), std::fs::read(&rows).unwrap());
    let before = read();
    for arguments in [
        ["drift", path(&model), path(&rows), "--html", path(&model)],
        ["drift", path(&model), path(&rows), "--html", path(&rows)],
        ["score", path(&model), path(&rows), "-o", path(&rows)],
    ] {
        let output = modelet(&arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        let said = text(&output.stderr);
        assert!(said.contains("is an input, which is not overwritten"), "{said}");
    }
    assert!(read() == before);
}

#[test]
fn drift_says_what_was_rejected_and_fails_when_nothing_is_left() {
    let model = path(&credit().output);
    let mut rows = Rows::holdout();
    rows.change("age", |row, age| if row < 100 { "young".into() } else { age.into() });
    let some = written("drift-some.csv", &rows.csv());
    let output = modelet(&["drift", model, path(&some)]);
    let said = text(&output.stdout);
    assert!(
        said.contains(&format!("100 of {} rows rejected", thousands(rows.rows.len() as u64))),
        "{said}"
    );
    assert!(said.contains("age: type (100 times)"), "{said}");
    rows.change("age", |_, _| "young".into());
    let all = written("drift-all.csv", &rows.csv());
    let output = modelet(&["drift", model, path(&all)]);
    assert_refused(&output, "no row is accepted by the model");
    rows = Rows::holdout();
    rows.change("defaulted", |_, _| String::new());
    let unlabelled = written("drift-unlabelled.csv", &rows.csv());
    let output = modelet(&["drift", model, path(&unlabelled), "--label", "defaulted"]);
    assert_refused(&output, "no accepted row has a label");
}

#[test]
fn drift_fails_where_nothing_can_be_compared() {
    let mut rows = Rows::holdout();
    rows.rows.truncate(5);
    let few = written("drift-few.csv", &rows.csv());
    let plain = crate::support::options(
        &root().join("examples/credit/credit.onnx"),
        "drift-plain",
        modelet_host::pack::WasiVersion::V0_3,
    );
    let plain = modelet_host::pack::PackOptions {
        signature: Some(root().join("examples/credit/signature.json")),
        ..plain
    };
    let plain = modelet_host::pack::pack(&plain, &modelet_host::output::Silent).expect("it packs");
    for (model, rows, why) in [
        (
            &credit().output,
            path(&few),
            "5 rows are too few to tell; 20 are needed",
        ),
        (&plain.output, "examples/credit/holdout.csv", "packed without --data"),
    ] {
        let output = modelet(&["drift", path(model), rows]);
        assert_refused(&output, why);
        assert!(!output.stdout.is_empty(), "the report is written all the same");
    }
}

/// A model that is not what was packed would answer otherwise, in silence.
#[test]
fn a_damaged_component_is_refused() {
    let mut bytes = std::fs::read(&credit().output).expect("it was packed");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    let dir = tempfile::tempdir().expect("a directory");
    let damaged = dir.path().join("damaged.wasm");
    std::fs::write(&damaged, bytes).expect("written");
    let damaged = path(&damaged);
    let serve = ["serve", damaged, "--listen", "127.0.0.1:0", "--store", "memory"];
    for command in [&["inspect", damaged][..], &["verify", damaged], &serve] {
        let output = modelet(command);
        assert!(!output.status.success(), "{command:?}");
        assert!(
            text(&output.stderr).contains("the file is damaged"),
            "{}",
            text(&output.stderr)
        );
    }
}

/// A file of the name `-` is not standard output.
#[test]
fn standard_streams_have_the_name_of_no_file() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("-"), "a file").expect("written");
    let rows = std::fs::File::open(root().join("examples/credit/holdout.csv")).expect("rows");
    let output = Command::new(program("modelet"))
        .args(["score", path(&credit().output), "-"])
        .current_dir(dir.path())
        .stdin(rows)
        .output()
        .expect("it runs");
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stdout).lines().count() > 100);
    let packed = modelet(&["pack", "examples/credit/credit.onnx", "-o", "-"]);
    assert_refused(&packed, "are files");
}

/// A row without a label is one without a label, and a boolean is a class.
#[test]
fn labels_of_a_file_are_read_as_those_of_the_holdout() {
    let model = path(&credit().output);
    let performance = |name: &str, change: &dyn Fn(usize, &str) -> String| {
        let mut rows = Rows::holdout();
        rows.change("defaulted", change);
        let file = written(name, &rows.csv());
        let output = modelet(&["drift", model, path(&file), "--label", "defaulted", "--json"]);
        assert!(output.status.success(), "{name}: {}", text(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).expect("--json is JSON")["performance"].take()
    };
    let plain = performance("labels-plain.csv", &|_, label| label.into());
    let rows = plain["labelled"].as_u64().expect("labels");
    let booleans = performance("labels-booleans.csv", &|_, label| {
        if label == "1" { "True".into() } else { "False".into() }
    });
    assert_eq!(booleans, plain);
    let floats = performance("labels-floats.csv", &|row, label| match row {
        0 => "NA".into(),
        1 => String::new(),
        2 => "nan".into(),
        _ => format!("{label}.0"),
    });
    assert_eq!(floats["labelled"], rows - 3);
}

#[test]
fn a_drift_report_may_go_to_standard_output() {
    let model = path(&credit().output);
    let arguments = ["drift", model, "examples/credit/holdout.csv", "--html", "-"];
    let output = modelet(&arguments);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let page = text(&output.stdout);
    assert!(page.starts_with("<!doctype html>") && page.trim_end().ends_with("</html>"));
    let both = modelet(&[&arguments[..], &["--json"]].concat());
    assert_refused(&both, "standard output");
}

#[test]
fn verify_compares_golden_rows_and_exits_3_on_a_difference() {
    let report = credit();
    let output = modelet(&["verify", path(&report.output)]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let server = crate::support::server::Server::modelet(&report.output, &[]);
    let url = format!("http://{}", server.address);
    let output = modelet(&["verify", path(&report.output), "--url", &url]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let other = crate::support::pack_fixture("xgb_regression", modelet_host::pack::WasiVersion::V0_3);
    let output = modelet(&["verify", path(&other.output), "--url", &url]);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stdout));
}

#[test]
fn a_file_that_is_no_packed_model_is_named() {
    for (file, word) in [
        ("examples/credit/credit.onnx", "pack"),
        ("target/artifacts/tabular.wasm", "modelet"),
        ("examples/credit/missing.wasm", "No such file"),
    ] {
        let output = modelet(&["inspect", file]);
        assert_eq!(output.status.code(), Some(1), "{file}");
        let said = text(&output.stderr);
        assert!(said.contains(file) && said.contains(word), "{said}");
    }
}
