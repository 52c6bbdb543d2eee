//! What Prometheus and Grafana are given: the rules of `examples/prometheus`,
//! run by Prometheus' own `promtool`, and the queries of the dashboard.

use crate::monitor::{drift as drift_at, score};
use crate::support::http::get;
use crate::support::redis::RedisServer;
use crate::support::rows::Rows;
use crate::support::server::Server;
use crate::support::{credit, root};
use modelet::drift::report::{ColumnReport, Thresholds};
use modelet::drift::{self, Bins, Counts};
use modelet::signature::{Category, Column, Manifest};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

/// Runs promtool and gives what it said; fails when it did.
fn promtool(arguments: &[&str], file: &Path) -> String {
    let output = Command::new("promtool")
        .args(arguments)
        .arg(file)
        .output()
        .unwrap_or_else(|error| {
            panic!("promtool: {error}; it is in Debian's package prometheus: apt-get install -y prometheus")
        });
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let said = said.concat();
    assert!(
        output.status.success(),
        "promtool {} {}: {said}",
        arguments.join(" "),
        file.display()
    );
    said
}

fn rules() -> std::path::PathBuf {
    root().join("examples/prometheus/rules.yml")
}

#[test]
fn the_rules_pass_their_own_tests() {
    let said = promtool(&["check", "rules"], &rules());
    assert!(said.contains("SUCCESS"), "{said}");
    let said = promtool(&["test", "rules"], &root().join("examples/prometheus/rules_test.yml"));
    assert!(said.contains("SUCCESS"), "{said}");
}

/// A few thousand numbers without a pattern to speak of, in [0, 1).
fn noise(seed: u64, count: usize) -> Vec<f64> {
    let mut state = seed;
    let next = |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    (0..count).map(next).collect()
}

fn with_counts(mut column: Column, bins: impl Iterator<Item = u8>) -> Column {
    column.counts = vec![0; column.bins.len()];
    bins.for_each(|bin| column.counts[usize::from(bin)] += 1);
    column
}

#[test]
fn a_fleets_psi_is_that_of_the_drift_report() {
    let names = ["a", "b", "c"];
    let numbers: Vec<f64> = noise(1, 5000).iter().map(|x| x * x * 100.0).collect();
    let of_numbers = Column::of_numbers("amount", &numbers);
    let reference_bins: Vec<u8> = numbers.iter().map(|&x| of_numbers.bins.number(x)).collect();
    let categories = Bins::from_categories(names.map(|name| Category::Name(name.into())).to_vec());
    let category = |x: f64| categories.name(["a", "b", "c", "d"][(x * 4.0) as usize]);
    let score = Column::new("score", Bins::uniform(0.0, 1.0));
    let columns = vec![
        with_counts(of_numbers.clone(), reference_bins.into_iter()),
        with_counts(
            Column::new("purpose", categories.clone()),
            noise(2, 5000).iter().map(|&x| category(x * 0.7)),
        ),
        with_counts(score.clone(), noise(3, 5000).iter().map(|&x| score.bins.number(x * x))),
    ];
    let feature = |name: &str| json!({ "name": name, "type": "number", "input": 0, "column": 0 });
    let manifest: Manifest = serde_json::from_value(json!({
        "format": 1, "name": "credit", "version": "1", "engine": "tabular", "task": "regression",
        "features": [feature("amount"), feature("purpose")],
        "inputs": [], "output": { "width": 1, "kind": "value" }, "batch": true,
        "reference": { "rows": 5000, "columns": columns },
        "provenance": { "modelet": "", "onnx_sha256": "", "onnx_bytes": 0, "opsets": {}, "operators": {} },
    }))
    .unwrap();
    let reference = &manifest.reference;

    // Two instances, of which one saw more rows, and other ones.
    let observed = |seed: u64, rows: usize, shift: f64| {
        let mut counts = Counts::new(reference);
        let bins: Vec<u8> = noise(seed, rows)
            .iter()
            .zip(noise(seed + 1, rows))
            .flat_map(|(&x, y)| {
                let amount = if x < 0.02 { f64::NAN } else { x * y * 110.0 + shift };
                [of_numbers.bins.number(amount), category(y), score.bins.number(x * y)]
            })
            .collect();
        counts.add_rows(&vec![0; rows], &bins, &[]);
        counts
    };
    let instances = [observed(10, 900, 0.0), observed(20, 350, 5.0)];
    let mut sum = Counts::new(reference);
    instances.iter().for_each(|counts| sum.merge(counts));
    let report = drift::report(&manifest, "", reference, &sum, &Thresholds::default());

    let mut series = String::new();
    let mut queries = String::new();
    let reported = report.features.iter().chain(&report.predictions);
    for (at, (column, reported)) in reference.columns.iter().zip(reported).enumerate() {
        let (metric, key) = match at < manifest.features.len() {
            true => ("feature", "feature"),
            false => ("prediction", "output"),
        };
        let labels = |more: &str| format!("{{model=\"credit\",version=\"1\",{key}=\"{}\"{more}}}", column.name);
        let groups = drift::groups(column);
        for (instance, counts) in instances.iter().enumerate() {
            for (bin, (group, count)) in groups.iter().zip(&counts.columns[at]).enumerate() {
                let group = group.map_or(String::new(), |group| group.to_string());
                let more = format!(",instance=\"{instance}\",bin=\"{bin}\",group=\"{group}\"");
                // The hour before counts for nothing.
                let before = 1000 * bin as u64;
                let line = format!("modelet_{metric}_bin_total{}", labels(&more));
                let _ = writeln!(
                    series,
                    "      - series: '{line}'\n        values: '{before} {}'",
                    before + count
                );
            }
            for (group, ratio) in drift::reference_ratios(column).iter().enumerate() {
                let more = format!(",instance=\"{instance}\",group=\"{group}\"");
                let line = format!("modelet_{metric}_reference_ratio{}", labels(&more));
                let _ = writeln!(series, "      - series: '{line}'\n        values: '{ratio} {ratio}'");
            }
        }
        query(&mut queries, metric, &labels(""), reported);
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("test.yml");
    let rules = rules();
    let text = format!(
        "rule_files: [{rules:?}]\nevaluation_interval: 1m\ntests:\n  - interval: 1h\n    input_series:\n{series}    promql_expr_test:\n{queries}"
    );
    fs::write(&file, text).unwrap();
    promtool(&["test", "rules"], &file);
}

/// Expects the report's PSI and number of values of the rules.
fn query(out: &mut String, metric: &str, labels: &str, reported: &ColumnReport) {
    let psi = reported.drift.as_ref().expect("there are values").psi;
    assert!(psi > 0.01, "{psi} of {} says little", reported.name);
    for (name, value) in [("psi1h", psi), ("values1h", reported.values as f64)] {
        let _ = writeln!(
            out,
            "      - expr: 'abs(modelet:{metric}:{name}{labels} - {value}) < bool 1e-9'\n        eval_time: 1h\n        exp_samples:\n          - labels: '{labels}'\n            value: 1"
        );
    }
}

/// The samples of a scrape that the rules begin with, by name and labels.
fn scraped(address: SocketAddr) -> BTreeMap<String, f64> {
    let answer = get(address, "/metrics");
    let line = |line: &str| -> Option<(String, f64)> {
        let (sample, value) = line.rsplit_once(' ')?;
        let name = sample.split('{').next()?;
        let wanted = [
            "modelet_feature_bin_total",
            "modelet_feature_reference_ratio",
            "modelet_feature_reference_values",
            "modelet_prediction_bin_total",
            "modelet_prediction_reference_ratio",
            "modelet_prediction_reference_values",
            "modelet_rows_total",
        ];
        wanted
            .contains(&name)
            .then(|| (sample.to_owned(), value.parse().expect("a value")))
    };
    answer.text().lines().filter_map(line).collect()
}

/// Two replicas are scraped before and after they saw rows, and what was scraped
/// is given to the rules: their PSI is that of `/drift`.
#[test]
fn the_psi_of_what_is_scraped_is_that_of_the_drift_route() {
    let model = credit();
    let redis = RedisServer::start();
    let url = redis.url();
    let replicas = [0, 1].map(|_| Server::modelet(&model.output, &["--store", &url, "--no-access-log"]));
    let mut rows = Rows::holdout();
    rows.change("income", |_, cell| {
        format!("{}", cell.parse::<f64>().expect("an income") * 0.8)
    });
    rows.change("loan_purpose", |row, cell| {
        if row % 5 == 0 { "medical" } else { cell }.to_owned()
    });
    rows.change("credit_score", |row, cell| {
        if row % 4 == 0 { "" } else { cell }.to_owned()
    });
    rows.change("age", |row, cell| if row % 90 == 0 { "old" } else { cell }.to_owned());
    let before = replicas.each_ref().map(|replica| scraped(replica.address));
    score(replicas[0].address, &rows.csv_of_features(0..650), "of-one");
    score(replicas[1].address, &rows.csv_of_features(650..1000), "of-the-other");
    let after = replicas.each_ref().map(|replica| scraped(replica.address));
    drift_at(replicas[1].address, "");
    let report = drift_at(replicas[0].address, "");
    assert_eq!(
        report["rows"].as_u64().unwrap() + report["rejected"].as_u64().unwrap(),
        1000
    );

    let mut series = String::new();
    for (instance, (before, after)) in before.iter().zip(&after).enumerate() {
        assert_eq!(before.keys().collect::<Vec<_>>(), after.keys().collect::<Vec<_>>());
        for (sample, value) in after {
            let instanced = sample.replacen('{', &format!("{{job=\"modelet\",instance=\"{instance}\","), 1);
            let _ = writeln!(
                series,
                "      - series: {}\n        values: '{} {value}'",
                json!(instanced),
                before[sample]
            );
        }
    }
    let mut queries = String::new();
    for (metric, key, columns) in [
        ("feature", "feature", "features"),
        ("prediction", "output", "predictions"),
    ] {
        let columns = report[columns].as_array().expect("they are listed");
        for column in columns {
            // The label has another name than its column.
            let named = match column["name"].as_str().expect("a name") {
                "prediction" => "label",
                name => name,
            };
            let labels = format!("{{model=\"credit\",version={},{key}=\"{named}\"}}", report["version"]);
            for (name, member) in [("psi1h", "psi"), ("values1h", "values")] {
                let value = column[member]
                    .as_f64()
                    .unwrap_or_else(|| panic!("no {member} of {labels}"));
                let _ = writeln!(
                    queries,
                    "      - expr: 'abs(modelet:{metric}:{name}{labels} - {value}) < bool 1e-6'\n        eval_time: 1h\n        exp_samples:\n          - labels: '{labels}'\n            value: 1"
                );
            }
        }
    }
    let drifts: Vec<&Value> = report["features"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| &f["psi"])
        .collect();
    assert!(
        drifts.iter().any(|psi| psi.as_f64() > Some(0.1)),
        "{drifts:?} say little"
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("test.yml");
    let rules = rules();
    let text = format!(
        "rule_files: [{rules:?}]\nevaluation_interval: 1m\ntests:\n  - interval: 1h\n    input_series:\n{series}    promql_expr_test:\n{queries}"
    );
    fs::write(&file, text).unwrap();
    promtool(&["test", "rules"], &file);
}

/// All values of members of this name.
fn members<'a>(value: &'a Value, name: &str, out: &mut Vec<&'a str>) {
    match value {
        Value::Object(object) => {
            out.extend(object.get(name).and_then(Value::as_str));
            object.values().for_each(|value| members(value, name, out));
        }
        Value::Array(array) => array.iter().for_each(|value| members(value, name, out)),
        _ => {}
    }
}

#[test]
fn the_dashboards_queries_parse_and_ask_for_what_is_recorded() {
    let text = fs::read_to_string(root().join("examples/grafana/modelet.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let mut queries = Vec::new();
    members(&dashboard, "expr", &mut queries);
    assert!(queries.len() > 20, "{} queries", queries.len());

    let mut generated = String::from("groups:\n  - name: dashboard\n    rules:\n");
    for (i, query) in queries.iter().enumerate() {
        let query = query.replace("$__rate_interval", "5m");
        for variable in query.split('$').skip(1) {
            let name: String = variable
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect();
            assert!(
                ["model", "version", "feature"].contains(&name.as_str()),
                "${name} in {query}"
            );
        }
        let _ = writeln!(generated, "      - record: q{i}\n        expr: {}", json!(query));
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("queries.yml");
    fs::write(&file, generated).unwrap();
    promtool(&["check", "rules"], &file);

    let rules = fs::read_to_string(rules()).unwrap();
    let recorded: BTreeSet<&str> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- record: "))
        .collect();
    for query in queries {
        for word in query.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')) {
            if word.starts_with("modelet:") {
                assert!(recorded.contains(word), "{word} is not recorded; {query} asks for it");
            }
        }
    }

    // Panels lie side by side, and each has a number of its own.
    let panels = dashboard["panels"].as_array().unwrap();
    let mut ids = BTreeSet::new();
    let mut taken = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64()), "{}", panel["title"]);
        let place = |name: &str| panel["gridPos"][name].as_u64().unwrap();
        assert!(place("x") + place("w") <= 24, "{}", panel["title"]);
        for x in place("x")..place("x") + place("w") {
            for y in place("y")..place("y") + place("h") {
                assert!(taken.insert((x, y)), "{} covers another", panel["title"]);
            }
        }
    }
}
