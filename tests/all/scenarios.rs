//! What is known of a window is what the report says of it, on the command line
//! and at a server: no drift, a shift of three features, a changed relation to
//! the truth, missing values, outliers. The windows are drawn from the example's
//! own rows.

use crate::monitor::{command, comparable, drift, drifted, score};
use crate::support::http::post;
use crate::support::rows::Rows;
use crate::support::server::Server;
use crate::support::{credit, written};
use serde_json::{Value, json};

/// Numbers in [0, 1) without a pattern to speak of, always the same.
fn noise(seed: u64) -> impl Iterator<Item = f64> {
    let mut state = seed;
    std::iter::repeat_with(move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    })
}

/// Rows that no reference has seen.
fn held_out(rows: std::ops::Range<usize>) -> Rows {
    let mut window = Rows::holdout();
    window.rows = window.rows[rows].to_vec();
    window
}

/// Rows of the reference, drawn with replacement.
fn drawn(rows: usize, seed: u64) -> Rows {
    let mut window = Rows::reference();
    let all = window.rows.len();
    let draw = noise(seed).take(rows).map(|x| (x * all as f64) as usize);
    window.rows = draw.map(|row| window.rows[row].clone()).collect();
    window
}

/// A share of the cells of a column, as `change` has them.
fn changed(window: &mut Rows, name: &str, share: f64, seed: u64, change: impl Fn(&str) -> String) {
    let chosen: Vec<bool> = noise(seed).take(window.rows.len()).map(|x| x < share).collect();
    window.change(name, |row, cell| match chosen[row] {
        true => change(cell),
        false => cell.to_owned(),
    });
}

fn number(cell: &str, change: impl Fn(f64) -> f64) -> String {
    match cell.parse::<f64>() {
        Ok(value) => format!("{}", change(value)),
        Err(_) => cell.to_owned(),
    }
}

/// Counts a window on the command line and at a server, with its truth, which
/// must give the same, and gives the server's report.
fn counted(name: &str, window: &Rows) -> Value {
    let model = credit();
    let file = written(&format!("scenario-{name}.csv"), &window.csv());
    let (_, printed) = command(model, &file, &["--json", "--label", "defaulted"]);
    let by_command: Value = serde_json::from_str(&printed).expect("it prints JSON");

    let server = Server::modelet(&model.output, &["--store", "memory", "--no-access-log"]);
    for (number, start) in (0..window.rows.len()).step_by(300).enumerate() {
        let end = (start + 300).min(window.rows.len());
        let id = format!("batch-{number}");
        score(server.address, &window.csv_of_features(start..end), &id);
        let label = |row: usize| json!({"id": id, "row": row - start, "label": window.truth(row)});
        let labels: Vec<Value> = (start..end).map(label).collect();
        let answer = post(server.address, "/feedback", json!({ "feedback": labels }).to_string());
        let told = answer.json();
        // Rejected rows have no prediction to label.
        assert_eq!(
            told["counted"].as_u64().unwrap() + told["unknown"].as_u64().unwrap(),
            (end - start) as u64,
            "{told}"
        );
    }
    // Labels are not told apart by source.
    let of_source = drift(server.address, "?source=host");
    assert!(
        !of_source["verdict"].as_str().unwrap().contains("Performance"),
        "{name}"
    );
    let by_server = drift(server.address, "");
    assert_eq!(comparable(&by_server), comparable(&by_command), "{name}");
    assert_eq!(
        by_server["performance"].get("worse"),
        by_command["performance"].get("worse")
    );
    for member in ["labelled", "metrics", "confusion", "calibration"] {
        let (host, command) = (&by_server["performance"][member], &by_command["performance"][member]);
        assert!(
            !host.is_null() && host == command,
            "{name}, {member}: {host} and {command}"
        );
    }
    assert_eq!(by_server["performance"]["labelled"], by_server["rows"], "{name}");
    by_server
}

/// The features of which a share is really larger than the reference's.
fn bad<'a>(report: &'a Value, kind: &str) -> Vec<&'a str> {
    let features = report["features"].as_array().expect("features are listed");
    let bad = features
        .iter()
        .filter(|feature| feature["quality"][kind]["state"] == "bad");
    bad.map(|feature| feature["name"].as_str().expect("a name")).collect()
}

/// Asserts which features are bad in one way, and that none is in any other.
#[track_caller]
fn only_bad(name: &str, report: &Value, kind: &str, expected: &[&str]) {
    for other in ["missing", "out_of_range", "unseen", "not_finite"] {
        let expected: &[&str] = if other == kind { expected } else { &[] };
        assert_eq!(bad(report, other), expected, "{name}: {other}");
    }
}

fn stable_predictions(report: &Value) -> bool {
    let predictions = report["predictions"].as_array().expect("predictions are listed");
    predictions.iter().all(|column| column["state"] == "stable")
}

/// How far the accuracy's interval is below the baseline; negative if it holds it.
fn below_baseline(report: &Value) -> f64 {
    let accuracy = &report["performance"]["metrics"]["accuracy"];
    let figure = |name: &str| {
        accuracy[name]
            .as_f64()
            .unwrap_or_else(|| panic!("no {name}: {accuracy}"))
    };
    figure("baseline") - figure("high")
}

#[test]
fn without_drift_nothing_is_found() {
    for (name, window) in [
        ("none-200", held_out(0..200)),
        ("none-500", held_out(200..700)),
        ("none-1000", held_out(0..1000)),
    ] {
        let report = counted(name, &window);
        assert_eq!(report["state"], "stable", "{name}: {}", report["verdict"]);
        assert_eq!(report["alert"], false, "{name}");
        only_bad(name, &report, "none", &[]);
        assert!(
            below_baseline(&report) < 0.0,
            "{name}: {}",
            report["performance"]["metrics"]
        );
        assert_eq!(report["performance"]["cusum"]["alarm"], false, "{name}");
        assert_eq!(report["performance"].get("worse"), None, "{name}");
    }
    // Scores of rows that the model was trained on are too good, so that only
    // the features are as they were.
    let report = counted("none-3000", &drawn(3000, 1));
    assert_eq!(drifted(&report), [""; 0], "{}", report["verdict"]);
    only_bad("none-3000", &report, "none", &[]);
}

/// As when incomes fall, debts rise and other loans are asked for.
fn shift(window: &mut Rows) {
    window.change("income", |_, cell| number(cell, |income| income * 0.78));
    window.change("debt_ratio", |_, cell| number(cell, |ratio| ratio + 0.09));
    changed(window, "loan_purpose", 0.12, 7, |_| "medical".to_owned());
    changed(window, "loan_purpose", 0.12, 8, |_| "business".to_owned());
}

#[test]
fn a_shift_is_found_in_the_features_that_shifted() {
    for (name, mut window) in [
        ("shift-500", held_out(0..500)),
        ("shift-1000", held_out(0..1000)),
        ("shift-3000", drawn(3000, 2)),
    ] {
        shift(&mut window);
        let report = counted(name, &window);
        assert_eq!(drifted(&report), ["income", "debt_ratio", "loan_purpose"], "{name}");
        assert_eq!(report["state"], "drifted");
        assert_eq!(report["alert"], true, "{name}");
        only_bad(name, &report, "none", &[]);
        // They carry the drift.
        let attribution = report["attribution"].as_array().expect("it is listed");
        let mut first: Vec<&str> = attribution[..3]
            .iter()
            .filter_map(|part| part["name"].as_str())
            .collect();
        first.sort_unstable();
        assert_eq!(first, ["debt_ratio", "income", "loan_purpose"], "{name}");
    }
}

#[test]
fn a_changed_relation_to_the_truth_shows_in_the_performance_alone() {
    let mut window = held_out(0..1000);
    // The young, and those with a mortgage, default as nobody expected.
    let worse: Vec<bool> = (0..1000)
        .map(|row| {
            let age: f64 = window.cell(row, "age").parse().expect("an age");
            window.cell(row, "home_ownership") == "MORTGAGE" || age < 30.0
        })
        .collect();
    let chosen: Vec<bool> = noise(3).take(1000).map(|x| x < 0.6).collect();
    window.change("defaulted", |row, truth| match worse[row] && chosen[row] {
        true => "1".to_owned(),
        false => truth.to_owned(),
    });
    let report = counted("concept", &window);
    assert_eq!(report["state"], "stable", "{}", report["verdict"]);
    assert!(stable_predictions(&report), "{}", report["verdict"]);
    only_bad("concept", &report, "none", &[]);
    assert!(below_baseline(&report) > 0.05, "{}", report["performance"]["metrics"]);
    assert_eq!(report["performance"]["cusum"]["alarm"], true);
    assert_eq!(report["performance"]["worse"], "accuracy");
    let verdict = report["verdict"].as_str().unwrap();
    assert!(verdict.contains("Performance is worse: accuracy 0."), "{verdict}");
    // The scores know nothing of it.
    let estimate = report["performance"]["estimate"]["accuracy"].as_f64().unwrap();
    let accuracy = &report["performance"]["metrics"]["accuracy"];
    let baseline = accuracy["baseline"].as_f64().unwrap();
    assert!((estimate - baseline).abs() < 0.03, "{estimate} and {baseline}");
}

#[test]
fn missing_values_are_bad_data_in_the_columns_that_miss_them() {
    let mut window = held_out(0..1000);
    for (seed, (name, share)) in [
        ("credit_score", 0.3),
        ("employment_years", 0.2),
        ("savings_balance", 0.35),
    ]
    .into_iter()
    .enumerate()
    {
        changed(&mut window, name, share, 20 + seed as u64, |_| String::new());
    }
    let report = counted("missing", &window);
    only_bad(
        "missing",
        &report,
        "missing",
        &["credit_score", "employment_years", "savings_balance"],
    );
    assert_eq!(report["quality"], "bad");
    assert_eq!(report["rejected"], 0);
    // The values that are there are as they were.
    assert_eq!(drifted(&report), [""; 0], "{}", report["verdict"]);
}

#[test]
fn outliers_are_bad_data_in_the_columns_that_have_them() {
    let mut window = held_out(0..1000);
    changed(&mut window, "income", 0.03, 31, |cell| {
        number(cell, |income| income * 100.0)
    });
    changed(&mut window, "savings_balance", 0.03, 32, |_| "98765432".to_owned());
    // Beyond what a caller may send, these are rejected, and count all the same.
    changed(&mut window, "age", 0.03, 33, |_| "999".to_owned());
    changed(&mut window, "loan_amount", 0.03, 34, |cell| {
        number(cell, |amount| -amount)
    });
    let report = counted("outliers", &window);
    only_bad(
        "outliers",
        &report,
        "out_of_range",
        &["age", "income", "loan_amount", "savings_balance"],
    );
    assert_eq!(report["quality"], "bad");
    let rejected = report["rejected"].as_u64().unwrap();
    assert!((30..90).contains(&rejected), "{rejected} rows are rejected");
    assert_eq!(report["rows"].as_u64().unwrap() + rejected, 1000);
    assert_eq!(drifted(&report), [""; 0], "{}", report["verdict"]);
}
