//! `pack`: the same bytes every time, and clear errors that leave nothing
//! behind.

use crate::support::rows::Rows;
use crate::support::{credit, credit_options, options, root, written};
use modelet::signature::Category;
use modelet_host::output::Silent;
use modelet_host::pack::{PackOptions, WasiVersion, pack};
use std::path::{Path, PathBuf};

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
    let packed = std::fs::read(&first.output).unwrap();
    assert!(!packed.windows(15).any(|bytes| bytes == b"\x0ecomponent-name"));
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
    let cases: [Case; 17] = [
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
        (
            "a version without characters",
            |o| o.model_version = Some(String::new()),
            &["version \"\"", "such as 1.0.0"],
        ),
        (
            "an accuracy above 1",
            |o| o.baseline = [("accuracy".to_owned(), 7.0)].into(),
            &["--baseline accuracy", "from 0 to 1 but got 7"],
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

#[test]
fn what_is_held_against_expectations_leaves_no_row_out() {
    let dir = tempfile::tempdir().expect("a directory");
    let signature = std::fs::read_to_string(root().join("examples/credit/signature.json")).expect("the signature");
    let mut signature: serde_json::Value = serde_json::from_str(&signature).expect("JSON");
    for feature in signature["features"].as_array_mut().expect("features") {
        if feature["name"] == "age" {
            feature["allowed"] = serde_json::json!({"min": 18, "max": 40});
        }
    }
    let changed = PackOptions {
        output: dir.path().join("out.wasm"),
        signature: Some(written("young.json", &signature.to_string())),
        ..credit_options(WasiVersion::V0_3)
    };
    let error = format!("{:#}", pack(&changed, &Silent).expect_err("rows are refused"));
    assert!(
        error.contains("the row is refused") && error.contains("\"age\"") | error.contains("age:"),
        "{error}"
    );
}

#[test]
fn a_holdout_must_have_the_features() {
    let dir = tempfile::tempdir().expect("a directory");
    let holdout = Some(written("junk.csv", "a,b\n1,2\n"));
    let changed = PackOptions {
        output: dir.path().join("out.wasm"),
        holdout: holdout.clone(),
        ..credit_options(WasiVersion::V0_3)
    };
    let error = format!("{:#}", pack(&changed, &Silent).expect_err("no feature is there"));
    assert!(error.contains("--holdout") && error.contains("\"age\""), "{error}");
    let without_data = PackOptions {
        data: None,
        label: None,
        expected: None,
        ..changed
    };
    let error = format!("{:#}", pack(&without_data, &Silent).expect_err("there are no data"));
    assert!(error.contains("--data"), "{error}");
}

#[test]
fn a_bad_cell_of_the_holdout_costs_its_row_only() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut rows = Rows::holdout();
    rows.change("age", |row, age| if row == 1 { "young".into() } else { age.into() });
    let options = PackOptions {
        output: dir.path().join("out.wasm"),
        holdout: Some(written("young-holdout.csv", &rows.csv())),
        ..credit_options(WasiVersion::V0_3)
    };
    let notes = pack(&options, &Silent).expect("the others are good").notes.join("\n");
    let expected = format!("1 of {} rows of the holdout", rows.rows.len());
    assert!(notes.contains(&expected) && notes.contains("row 2, age"), "{notes}");
}

#[test]
fn labels_that_are_none_of_the_models_are_told_without_a_holdout_too() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut rows = Rows::reference();
    rows.change("defaulted", |row, label| match (row, label) {
        (0, _) => String::new(),
        (_, "1") => "yes".into(),
        _ => "no".into(),
    });
    let options = PackOptions {
        output: dir.path().join("out.wasm"),
        data: Some(written("words.csv", &rows.csv())),
        holdout: None,
        ..credit_options(WasiVersion::V0_3)
    };
    let notes = pack(&options, &Silent).expect("they are no features").notes.join("\n");
    let expected = "column \"defaulted\" (--label), row 2: expected one of 0, 1 but got \"";
    assert!(notes.contains(expected), "{notes}");
}

#[test]
fn an_integer_beyond_64_bits_with_a_sign_costs_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut rows, mut data) = (Rows::holdout(), Rows::reference());
    let large = |row, value: &str| {
        if row == 3 {
            "12345678901234567890".into()
        } else {
            value.into()
        }
    };
    rows.change("savings_balance", large);
    data.change("savings_balance", large);
    for (name, data, holdout) in [
        ("large.csv", data.csv(), rows.csv()),
        ("large.ndjson", data.ndjson(), rows.ndjson()),
    ] {
        let options = PackOptions {
            output: dir.path().join("out.wasm"),
            data: Some(written(&format!("reference-{name}"), &data)),
            holdout: Some(written(name, &holdout)),
            expected: None,
            ..credit_options(WasiVersion::V0_3)
        };
        let notes = pack(&options, &Silent).expect("it packs").notes.join("\n");
        assert!(!notes.contains("not accepted"), "{name}: {notes}");
    }
}

/// The component takes a word for a boolean only where the feature is one.
#[test]
fn a_word_without_a_code_is_named_whatever_it_means() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut rows = Rows::reference();
    rows.change(
        "home_ownership",
        |row, value| if row == 3 { "True".into() } else { value.into() },
    );
    rows.change("age", |row, value| if row == 4 { "True".into() } else { value.into() });
    let options = PackOptions {
        output: dir.path().join("out.wasm"),
        data: Some(written("true.csv", &rows.csv())),
        ..credit_options(WasiVersion::V0_3)
    };
    let error = format!("{:#}", pack(&options, &Silent).expect_err("two cells have no number"));
    for what in [
        "feature \"home_ownership\": the data have \"True\" in row 4, which is not in its \"encoding\"",
        "feature \"age\": the model takes numbers, but the data have \"True\" in row 5; give an \"encoding\"",
    ] {
        assert!(error.contains(what), "{error}");
    }
}

#[test]
fn few_rows_of_reference_are_noted() {
    let dir = tempfile::tempdir().expect("a directory");
    let text = std::fs::read_to_string(root().join("examples/credit/reference.csv")).expect("data");
    let few: Vec<&str> = text.lines().take(6).collect();
    let options = PackOptions {
        output: dir.path().join("out.wasm"),
        data: Some(written("five.csv", &few.join("\n"))),
        holdout: None,
        expected: None,
        ..credit_options(WasiVersion::V0_3)
    };
    let notes = pack(&options, &Silent).expect("it packs").notes.join("\n");
    assert!(notes.contains("5 rows of reference are too few"), "{notes}");
}

#[test]
fn an_input_is_never_overwritten() {
    let dir = tempfile::tempdir().expect("a directory");
    let model = dir.path().join("model.onnx");
    std::fs::copy(root().join("tests/fixtures/linear_regression/model.onnx"), &model).expect("copied");
    let before = std::fs::read(&model).expect("it is there");
    let mut over = options(&model, "over", WasiVersion::V0_3);
    over.output = model.clone();
    let error = format!("{:#}", pack(&over, &Silent).expect_err("it is the model"));
    assert!(error.contains("is an input"), "{error}");
    assert_eq!(std::fs::read(&model).expect("it is there"), before);
}

#[test]
fn a_category_may_have_the_name_of_a_missing_value() {
    let dir = tempfile::tempdir().expect("a directory");
    let rename = |name: &str| {
        let text = std::fs::read_to_string(root().join("examples/credit").join(name)).expect("the example");
        text.replace("medical", "None")
    };
    let changed = PackOptions {
        output: dir.path().join("out.wasm"),
        data: Some(written("none.csv", &rename("reference.csv"))),
        holdout: Some(written("none-holdout.csv", &rename("holdout.csv"))),
        signature: Some(written("none.json", &rename("signature.json"))),
        ..credit_options(WasiVersion::V0_3)
    };
    let report = pack(&changed, &Silent).unwrap_or_else(|e| panic!("{e:#}"));
    let purpose = report
        .manifest
        .features
        .iter()
        .find(|f| f.encoding.contains_key("None"));
    assert!(purpose.is_some_and(|f| !f.nullable), "{purpose:?}");
}

/// Text that the model takes is what the file has, whatever else it looks like.
#[test]
fn a_reference_does_not_drift_against_itself_where_texts_look_like_numbers() {
    let dir = tempfile::tempdir().expect("a directory");
    let folder = root().join("tests/fixtures/columns_onehot_logreg");
    for (index, cells) in [["007", "012", "0130"], ["True", "False", "True"], ["1.0", "2.50", "NA"]]
        .iter()
        .enumerate()
    {
        let mut rows = Rows::read(&folder.join("inputs.csv"));
        rows.change("plan", |row, _| cells[row % 3].into());
        let data = written("texts.csv", &rows.csv());
        let packed = PackOptions {
            output: dir.path().join(format!("{index}.wasm")),
            data: Some(data.clone()),
            ..options(&folder.join("model.onnx"), "texts", WasiVersion::V0_3)
        };
        let report = pack(&packed, &Silent).unwrap_or_else(|e| panic!("{e:#}"));
        let plans = &report.manifest.features[0].categories;
        for cell in cells {
            assert!(plans.contains(&Category::Name((*cell).into())), "{cell}: {plans:?}");
        }
        let found = std::process::Command::new(crate::support::program("modelet"))
            .args([Path::new("drift"), &packed.output, &data, Path::new("--json")])
            .output()
            .expect("modelet runs");
        let report: serde_json::Value = serde_json::from_slice(&found.stdout).expect("a report");
        assert_eq!(
            report["features"][0]["psi"], 0.0,
            "{cells:?}: {}",
            report["features"][0]
        );
        assert_eq!(report["features"][0]["quality"]["unseen"]["count"], 0);
    }
}

#[test]
fn all_columns_without_a_code_are_named_at_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let options = PackOptions {
        output: dir.path().join("out.wasm"),
        signature: None,
        ..credit_options(WasiVersion::V0_3)
    };
    let error = format!("{:#}", pack(&options, &Silent).expect_err("there are words"));
    let told = ["\"home_ownership\"", "\"education\"", "1 more; give an"];
    assert!(told.iter().all(|what| error.contains(what)), "{error}");
    assert_eq!(error.matches("\"encoding\"").count(), 1, "{error}");
}

#[test]
fn what_can_t_be_in_a_signature_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let signature = std::fs::read_to_string(root().join("examples/credit/signature.json")).expect("the signature");
    let with = |feature: usize, key: &str, value: serde_json::Value| {
        let mut changed: serde_json::Value = serde_json::from_str(&signature).expect("JSON");
        changed["features"][feature][key] = value;
        Some(written(&format!("{key}-{feature}.json"), &changed.to_string()))
    };
    let fails = |change: &dyn Fn(&mut PackOptions)| {
        let mut options = PackOptions {
            output: dir.path().join("out.wasm"),
            ..credit_options(WasiVersion::V0_3)
        };
        change(&mut options);
        format!("{:#}", pack(&options, &Silent).expect_err("it can't be packed"))
    };
    let error = fails(&|options| options.label = Some("age".into()));
    assert!(error.contains("\"age\" (--label) is a feature of the model"), "{error}");
    let turned = with(0, "allowed", serde_json::json!({"min": 120, "max": 18}));
    let error = fails(&|options| options.signature.clone_from(&turned));
    assert!(error.contains("the least, 120, is above the most, 18"), "{error}");
    let code = with(19, "encoding", serde_json::json!({"north": 0, "east": 1e300}));
    let error = fails(&|options| options.signature.clone_from(&code));
    assert!(
        error.contains("feature \"region\": the model's float32 can't hold the code 1e300"),
        "{error}"
    );
    let mut swapped: serde_json::Value = serde_json::from_str(&signature).expect("JSON");
    swapped["labels"] = serde_json::json!([1, 0]);
    let swapped = Some(written("swapped.json", &swapped.to_string()));
    let error = fails(&|options| options.signature.clone_from(&swapped));
    assert!(
        error.contains("the signature's labels are 1, 0, but the scores in the output"),
        "{error}"
    );
    let moon = with(19, "categories", serde_json::json!(["north", "moon"]));
    let error = fails(&|options| options.signature.clone_from(&moon));
    assert!(
        error.contains("feature \"region\": the model takes numbers, but category \"moon\" has no code"),
        "{error}"
    );
}

/// Also where only the label beside the scores tells whose they are.
#[test]
fn labels_in_another_order_than_the_scores_are_refused() {
    for name in ["mlp_classifier", "gaussian_nb"] {
        let model = root().join("tests/fixtures").join(name).join("model.onnx");
        let signature = written("turned-labels.json", "{\"labels\": [2, 1, 0]}");
        let turned = PackOptions {
            signature: Some(signature),
            ..options(&model, "turned", WasiVersion::V0_3)
        };
        let error = format!("{:#}", pack(&turned, &Silent).expect_err("they contradict the graph"));
        assert!(
            error.contains("the signature's labels are 2, 1, 0, but the scores in the output"),
            "{name}: {error}"
        );
    }
}

/// A text that never was missing in the reference is required, in files too.
#[test]
fn an_empty_cell_is_no_category() {
    let dir = tempfile::tempdir().expect("a directory");
    let folder = root().join("tests/fixtures/columns_onehot_logreg");
    let mut rows = Rows::read(&folder.join("inputs.csv"));
    rows.change("plan", |row, _| ["basic", "plus"][row % 2].into());
    let packed = PackOptions {
        output: dir.path().join("out.wasm"),
        data: Some(written("plans-given.csv", &rows.csv())),
        ..options(&folder.join("model.onnx"), "plans", WasiVersion::V0_3)
    };
    pack(&packed, &Silent).unwrap_or_else(|e| panic!("{e:#}"));
    let score = |rows: &Path| {
        std::process::Command::new(crate::support::program("modelet"))
            .arg("score")
            .args([&packed.output, rows])
            .output()
            .expect("modelet runs")
    };
    for (name, row) in [
        ("plans.csv", "plan,region,visits,age,income\nVALUE,south,4,44,1\n"),
        (
            "plans.ndjson",
            "{\"plan\":VALUE,\"region\":\"south\",\"visits\":4,\"age\":44,\"income\":1}\n",
        ),
    ] {
        let (plus, missing) = match name {
            "plans.csv" => ("plus", ""),
            _ => ("\"plus\"", "null"),
        };
        let good = score(&written(name, &row.replace("VALUE", plus)));
        assert!(good.status.success(), "{}", String::from_utf8_lossy(&good.stderr));
        let bad = score(&written(name, &row.replace("VALUE", missing)));
        let error = String::from_utf8_lossy(&bad.stderr);
        assert_eq!(bad.status.code(), Some(1), "{name}");
        assert!(
            error.contains("row 1: \"plan\": a value is required"),
            "{name}: {error}"
        );
    }
}

#[test]
fn a_column_of_booleans_is_answered_as_it_was_packed() {
    let dir = tempfile::tempdir().expect("a directory");
    let folder = root().join("tests/fixtures/linear_regression");
    let text = std::fs::read_to_string(folder.join("inputs.csv")).expect("the rows");
    let mut lines = text.lines();
    let mut changed = format!("{}\n", lines.next().expect("a header"));
    for (i, line) in lines.enumerate() {
        let (_, rest) = line.split_once(',').expect("several columns");
        changed.push_str(&format!("{},{rest}\n", if i % 3 == 0 { "True" } else { "False" }));
    }
    let data = written("booleans.csv", &changed);
    let packed = PackOptions {
        output: dir.path().join("out.wasm"),
        data: Some(data.clone()),
        ..options(&folder.join("model.onnx"), "booleans", WasiVersion::V0_3)
    };
    pack(&packed, &Silent).unwrap_or_else(|e| panic!("{e:#}"));
    let scored = std::process::Command::new(crate::support::program("modelet"))
        .arg("score")
        .args([&packed.output, &data])
        .output()
        .expect("modelet runs");
    assert!(scored.status.success(), "{}", String::from_utf8_lossy(&scored.stderr));
}

#[test]
fn a_name_is_one_that_paths_can_have() {
    for name in ["", "a/b", "é", &"x".repeat(129)] {
        let named = PackOptions {
            name: Some(name.to_owned()),
            ..credit_options(WasiVersion::V0_3)
        };
        let error = pack(&named, &Silent).expect_err("no such name");
        assert!(
            format!("{error:#}").contains("expected 1 to 128"),
            "{name:?}: {error:#}"
        );
    }
}
