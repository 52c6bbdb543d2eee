//! `pack`: the same bytes every time, and clear errors that leave nothing
//! behind.

use crate::support::{credit, credit_options, options, parity_dir, root};
use modelet_host::output::Silent;
use modelet_host::pack::{PackOptions, WasiVersion, pack};
use std::path::PathBuf;

#[test]
fn packing_twice_gives_the_same_bytes() {
    let first = credit();
    let dir = tempfile::tempdir().expect("a directory");
    let again = PackOptions {
        output: dir.path().join("again.wasm"),
        ..credit_options(WasiVersion::V0_3)
    };
    let second = pack(&again, &Silent).expect("it packs again");
    assert_eq!(first.sha256, second.sha256);
    assert_eq!(first.bundle_sha256, second.bundle_sha256);
    assert_eq!(
        std::fs::read(&first.output).expect("the component"),
        std::fs::read(&second.output).expect("the component")
    );
}

#[test]
fn the_example_answers_as_onnx_runtime_on_every_row() {
    let report = credit();
    assert_eq!(report.expected_rows, 3000);
    let difference = report
        .manifest
        .provenance
        .expected_max_difference
        .expect("it was compared");
    assert!(difference < 1e-5, "{difference}");
    assert_eq!(report.manifest.reference.rows, 3000);
}

/// A change to the options of a good packing, and what the error must say.
type Case = (&'static str, fn(&mut PackOptions), &'static [&'static str]);

fn bad(name: &str) -> PathBuf {
    root().join("tests/fixtures/bad").join(name)
}

#[test]
fn wrong_input_is_one_clear_error_and_leaves_no_file() {
    let cases: [Case; 15] = [
        (
            "no file",
            |o| o.model = bad("missing.onnx"),
            &["missing.onnx", "No such file"],
        ),
        (
            "empty file",
            |o| o.model = bad("empty.onnx"),
            &["empty.onnx", "the file is empty"],
        ),
        (
            "not ONNX",
            |o| o.model = bad("not_onnx.onnx"),
            &["not_onnx.onnx", "not an ONNX model"],
        ),
        (
            "truncated",
            |o| o.model = bad("truncated.onnx"),
            &["truncated.onnx", "truncated"],
        ),
        (
            "unsupported operator",
            |o| {
                *o = PackOptions {
                    output: o.output.clone(),
                    ..options(&bad("unsupported_operator.onnx"), "unsupported", WasiVersion::V0_3)
                };
            },
            &["unsupported_operator.onnx", "Frobnicate", "version"],
        ),
        ("missing data", |o| o.data = Some(bad("missing.csv")), &["missing.csv"]),
        (
            "data without rows",
            |o| o.data = Some(written("header.csv", "age,income\n")),
            &["header.csv"],
        ),
        (
            "a column missing",
            |o| o.data = Some(written("short.csv", "age,defaulted\n30,1\n")),
            &["no column \"income\""],
        ),
        (
            "no such label",
            |o| o.label = Some("outcome".into()),
            &["no column \"outcome\"", "--label"],
        ),
        (
            "text for a number",
            |o| {
                let text = std::fs::read_to_string(root().join("examples/credit/reference.csv")).expect("data");
                let mut lines: Vec<String> = text.lines().take(4).map(str::to_owned).collect();
                let rest = lines[2].split_once(',').expect("several columns").1.to_owned();
                lines[2] = format!("young,{rest}");
                o.data = Some(written("text.csv", &lines.join("\n")));
            },
            &["\"age\"", "takes numbers", "young"],
        ),
        (
            "a signature that is not JSON",
            |o| o.signature = Some(written("bad.json", "{")),
            &["bad.json"],
        ),
        (
            "a feature that is not there",
            |o| o.signature = Some(written("few.json", r#"{"features": [{"name": "age"}]}"#)),
            &["1 features", "20 columns"],
        ),
        (
            "wrong expectations",
            |o| {
                let mut text = String::from("prediction\n");
                (0..3000).for_each(|_| text.push_str("1\n"));
                o.expected = Some(written("wrong.csv", &text));
            },
            &["wrong.csv", "differ", "row 1, prediction: expected 1 but got 0"],
        ),
        (
            "too few expectations",
            |o| o.expected = Some(written("few.csv", "prediction\n1\n")),
            &["1 rows of expected answers for 3000 rows"],
        ),
        (
            "a directory that is not there",
            |o| o.output = PathBuf::from("/nowhere/at/all/out.wasm"),
            &["/nowhere/at/all"],
        ),
    ];
    for (name, change, words) in cases {
        let dir = tempfile::tempdir().expect("a directory");
        let mut changed = PackOptions {
            output: dir.path().join("out.wasm"),
            ..credit_options(WasiVersion::V0_3)
        };
        change(&mut changed);
        let error = match pack(&changed, &Silent) {
            Ok(_) => panic!("{name}: it was packed"),
            Err(error) => format!("{error:#}"),
        };
        for word in words {
            assert!(error.contains(word), "{name}: {word:?} is not in {error:?}");
        }
        assert!(!error.contains('\n'), "{name}: {error:?}");
        let left: Vec<_> = std::fs::read_dir(dir.path()).expect("the directory").collect();
        assert!(left.is_empty(), "{name}: {left:?}");
    }
}

fn written(name: &str, text: &str) -> PathBuf {
    let path = parity_dir().join(name);
    std::fs::write(&path, text).expect("target/ can be written");
    path
}

#[test]
fn an_existing_output_is_kept_without_force() {
    let dir = tempfile::tempdir().expect("a directory");
    let output = dir.path().join("kept.wasm");
    std::fs::write(&output, "precious").expect("it can be written");
    let mut again = options(
        &root().join("tests/fixtures/linear_regression/model.onnx"),
        "kept",
        WasiVersion::V0_3,
    );
    again.output = output.clone();
    again.force = false;
    let error = pack(&again, &Silent).expect_err("it is there already");
    assert!(error.to_string().contains("--force"), "{error}");
    assert_eq!(std::fs::read(&output).expect("it is there"), b"precious");
}

#[test]
fn a_model_without_data_is_packed_and_says_what_is_missing() {
    let folder = root().join("tests/fixtures/xgb_regression");
    let report = pack(
        &options(&folder.join("model.onnx"), "no-data", WasiVersion::V0_3),
        &Silent,
    )
    .expect("it packs");
    assert_eq!(report.manifest.reference.rows, 0);
    assert!(report.notes.iter().any(|n| n.contains("--data")), "{:?}", report.notes);
    assert_eq!(report.manifest.features[0].name, "f0");
    assert!(report.golden_rows > 0);
}
