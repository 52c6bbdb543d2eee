//! The report against scipy and Evidently, on windows of a table whose truth is
//! known: `tests/oracle/windows.py`. What differs does so by design, and by no
//! more than is said here and in `docs/drift.md`.

use super::report::{ColumnReport, QualityState, Report, Thresholds};
use super::{Counts, report};
use crate::drift::Bins;
use crate::signature::{Column, Manifest};
use serde_json::{Value, json};

struct Oracle(Value);

impl Oracle {
    fn read() -> Oracle {
        let text = include_str!("../../tests/oracle/windows.json");
        Oracle(serde_json::from_str(text).expect("it is JSON"))
    }

    fn columns(&self) -> Vec<Column> {
        serde_json::from_value(self.0["columns"].clone()).expect("they are columns")
    }

    /// The report of a window, with what the others say of it.
    fn report(&self, window: &str) -> (Report, &Value) {
        let mut columns = self.columns();
        let kind = |column: &Column| match column.bins {
            Bins::Numeric { .. } => json!({ "name": column.name, "type": "number", "input": 0, "column": 0 }),
            Bins::Categorical { .. } => json!({ "name": column.name, "type": "category", "input": 0, "column": 0 }),
        };
        let features: Vec<Value> = columns.iter().map(kind).collect();
        columns.push(Column::new("score", Bins::uniform(0.0, 1.0)));
        let manifest: Manifest = serde_json::from_value(json!({
            "format": 1, "name": "credit", "version": "1", "engine": "tabular", "task": "regression",
            "features": features, "inputs": [], "output": { "width": 1, "kind": "value" }, "batch": true,
            "reference": { "rows": self.0["reference_rows"], "columns": columns },
            "provenance": { "modelet": "", "onnx_sha256": "", "onnx_bytes": 0, "opsets": {}, "operators": {} },
        }))
        .expect("it is a manifest");
        let told = &self.0["windows"][window];
        let mut counts = Counts::new(&manifest.reference);
        counts.answered = told["rows"].as_u64().expect("windows have rows");
        for (column, counts) in self.columns().iter().zip(&mut counts.columns) {
            *counts = serde_json::from_value(told["columns"][&column.name]["counts"].clone()).expect("they are counts");
        }
        let report = report(&manifest, "", &manifest.reference, &counts, &Thresholds::default());
        (report, told)
    }

    fn windows(&self) -> Vec<&str> {
        let windows = self.0["windows"].as_object().expect("there are windows");
        assert_eq!(windows.len(), 8);
        windows.keys().map(String::as_str).collect()
    }
}

fn names(list: &Value) -> Vec<&str> {
    let list = list.as_array().expect("it is a list");
    list.iter().map(|name| name.as_str().expect("it has names")).collect()
}

fn drifted(report: &Report) -> Vec<&str> {
    let is_drifted = |column: &&ColumnReport| column.state == super::report::State::Drifted;
    report
        .features
        .iter()
        .filter(is_drifted)
        .map(|column| &*column.name)
        .collect()
}

/// In the order of `expected`, which may be another than the columns'.
#[track_caller]
fn same(window: &str, mut got: Vec<&str>, mut expected: Vec<&str>) {
    got.sort_unstable();
    expected.sort_unstable();
    assert_eq!(got, expected, "{window}");
}

#[test]
fn exactly_what_changed_is_found() {
    let oracle = Oracle::read();
    for window in oracle.windows() {
        let (report, told) = oracle.report(window);
        let (changed, kind) = (names(&told["changed"]), told["kind"].as_str().unwrap());
        let bad = report
            .features
            .iter()
            .filter(|column| column.quality.state == QualityState::Bad);
        let bad: Vec<&str> = bad.map(|column| &*column.name).collect();
        let (drift, quality) = match kind {
            "covariate" => (changed, vec![]),
            "missing" | "outliers" => (vec![], changed),
            // Of a changed relation to the label no distribution tells.
            "none" | "concept" => (vec![], vec![]),
            other => panic!("{window} is of the kind {other:?}"),
        };
        same(window, drifted(&report), drift);
        same(window, bad, quality);
    }
}

/// The share of the largest bin inside the range: what the binned statistic may
/// miss of the exact one.
fn largest_bin(column: &Column, current: &Value) -> f64 {
    let share = |counts: &[u64]| {
        let inside = &counts[1..counts.len() - 4];
        *inside.iter().max().unwrap() as f64 / counts[..counts.len() - 3].iter().sum::<u64>() as f64
    };
    let current: Vec<u64> = serde_json::from_value(current.clone()).unwrap();
    share(&column.counts).max(share(&current))
}

#[test]
fn figures_of_numbers_are_scipys() {
    let oracle = Oracle::read();
    let mut compared = 0;
    for window in oracle.windows() {
        let (report, told) = oracle.report(window);
        let outliers = told["kind"] == "outliers";
        for (column, got) in oracle.columns().iter().zip(&report.features) {
            if matches!(column.bins, Bins::Categorical { .. }) {
                continue;
            }
            let told = &told["columns"][&column.name];
            let figures = got.drift.as_ref().expect("there are values");
            let scipy = |name: &str| told["scipy"][name].as_f64().unwrap();
            let say = |name: &str, got: f64| format!("{window}, {}: {name} {got} in {told}", column.name);

            // Values of a bin are not told apart: the statistic is never above
            // the exact one, and below by less than a bin.
            let (ks, exact) = (figures.statistic, scipy("statistic"));
            let missed = if column.distinct {
                0.0
            } else {
                largest_bin(column, &told["counts"]).min(0.0086)
            };
            assert!(
                ks <= exact + 1e-9 && ks >= exact - missed - 1e-9,
                "{}",
                say("statistic", ks)
            );
            // Kolmogorov's series for the exact p-value, and a smaller statistic
            // for one of many values.
            let (p, exact) = (figures.p, scipy("p"));
            if exact > 1e-4 {
                let most = if column.distinct { 1.02 } else { 1.9 };
                assert!(p >= exact * 0.98 && p <= exact * most, "{}", say("p", p));
            }
            // Half a count is added, and deciles are put together from the bins.
            let js = figures.js_distance;
            assert!((js - scipy("js_distance")).abs() <= 0.017, "{}", say("js_distance", js));
            // Clipped to the seen range; within a bin values are spread evenly.
            let (distance, exact) = (figures.wasserstein.expect("it is of numbers"), scipy("wasserstein"));
            let beyond = got.quality.out_of_range.state == QualityState::Bad;
            assert!(!beyond || outliers, "{window}, {}", column.name);
            match (beyond, column.distinct) {
                (true, _) => assert!(distance < exact, "{}", say("wasserstein", distance)),
                (false, true) => assert!((distance - exact).abs() <= 0.001, "{}", say("wasserstein", distance)),
                (false, false) => assert!((distance - exact).abs() <= 0.055, "{}", say("wasserstein", distance)),
            }
            compared += 1;
        }
    }
    assert_eq!(compared, 8 * 14);
}

#[test]
fn figures_of_categories_are_scipys_and_evidentlys() {
    let oracle = Oracle::read();
    let mut compared = 0;
    for window in oracle.windows() {
        let (report, told) = oracle.report(window);
        for (column, got) in oracle.columns().iter().zip(&report.features) {
            if matches!(column.bins, Bins::Numeric { .. }) {
                continue;
            }
            let told = &told["columns"][&column.name];
            let figures = got.drift.as_ref().expect("there are values");
            let by = |whose: &str, name: &str| told[whose][name].as_f64().unwrap();
            let near = |name: &str, got: f64, expected: f64, tolerance: f64| {
                assert!(
                    (got - expected).abs() <= tolerance,
                    "{window}, {}: {name} {got}, not {expected}, in {told}",
                    column.name
                );
            };
            let exact = by("scipy", "statistic");
            near("statistic", figures.statistic, exact, 1e-9 * exact);
            near("p", figures.p, by("scipy", "p"), 1e-8 * by("scipy", "p"));
            // Half a count, and a group for unseen categories.
            near("js_distance", figures.js_distance, by("scipy", "js_distance"), 0.0095);
            // The same to base e.
            let natural = figures.js_distance * libm::sqrt(std::f64::consts::LN_2);
            near("js_distance", natural, by("evidently", "jensenshannon"), 0.0095);
            near("psi", figures.psi, by("evidently", "psi"), 0.012);
            // Evidently takes the reference's shares for exact, which finds more
            // the larger the window is.
            if figures.p < 0.04 {
                assert!(
                    by("evidently", "chisquare") <= figures.p,
                    "{window}, {}: {told}",
                    column.name
                );
            }
            compared += 1;
        }
    }
    assert_eq!(compared, 8 * 6);
}

/// Evidently's verdict on a column, by its default methods for a large
/// reference: a distance of 0.1.
fn found_by_evidently(column: &Column, told: &Value) -> bool {
    let method = match column.bins {
        Bins::Numeric { .. } => "wasserstein",
        Bins::Categorical { .. } => "jensenshannon",
    };
    told["evidently"][method].as_f64().unwrap() >= 0.1
}

#[test]
fn decisions_differ_from_evidentlys_where_it_is_said() {
    let oracle = Oracle::read();
    let shifted = vec!["income", "debt_ratio", "loan_purpose"];
    for (window, evidently, ours) in [
        ("no_drift", 0, vec![]),
        ("no_drift_n500", 0, vec![]),
        // A distance knows nothing of chance.
        ("no_drift_n200", 6, vec![]),
        ("feature_drift", 3, shifted.clone()),
        ("feature_drift_n500", 4, shifted),
        ("concept_drift", 0, vec![]),
        // Its methods leave missing values out, and take outliers for drift; here
        // both are a matter of quality.
        ("missing", 0, vec![]),
        ("outliers", 3, vec![]),
    ] {
        let (report, told) = oracle.report(window);
        same(window, drifted(&report), ours);
        let columns = oracle.columns();
        let found = columns
            .iter()
            .filter(|column| found_by_evidently(column, &told["columns"][&column.name]));
        assert_eq!(found.count(), evidently, "{window}");
    }
}

#[test]
fn psi_differs_from_evidentlys_by_its_bins() {
    let oracle = Oracle::read();
    let (report, told) = oracle.report("feature_drift");
    for (name, evidently, ours) in [
        ("debt_ratio", 0.49, 0.29),
        ("income", 0.16, 0.18),
        ("loan_purpose", 0.21, 0.21),
    ] {
        let got = report
            .features
            .iter()
            .find(|column| column.name == name)
            .expect("it is there");
        let psi = got.drift.as_ref().expect("there are values").psi;
        assert!((psi - ours).abs() < 0.006, "{name}: {psi}");
        let theirs = told["columns"][name]["evidently"]["psi"].as_f64().unwrap();
        assert!((theirs - evidently).abs() < 0.006, "{name}: {theirs}");
    }
}
