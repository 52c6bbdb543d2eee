//! The monitor: what a server counts is what the command line and a collector
//! count; labels find their predictions; replicas are one; nothing that was
//! acknowledged is lost.

use crate::support::http::{Answer, get, post, send};
use crate::support::redis::RedisServer;
use crate::support::rows::Rows;
use crate::support::server::Server;
use crate::support::{credit, options, pack_fixture, program, root, written};
use modelet_host::output::Silent;
use modelet_host::pack::{PackReport, WasiVersion, pack};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

pub fn score(address: SocketAddr, csv: &str, id: &str) -> Value {
    let headers = [("content-type", "text/csv"), ("x-request-id", id)];
    let answer = send(address, "POST", "/predict/batch", &headers, csv.as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

pub fn drift(address: SocketAddr, query: &str) -> Value {
    let answer = get(address, &format!("/drift{query}"));
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

/// `modelet drift`: its exit status and what it printed.
pub fn command(model: &PackReport, rows: &Path, arguments: &[&str]) -> (i32, String) {
    let output = Command::new(program("modelet"))
        .arg("drift")
        .arg(&model.output)
        .arg(rows)
        .args(arguments)
        .output()
        .expect("modelet runs");
    let text = String::from_utf8(output.stdout).expect("it prints text");
    let status = output.status.code().expect("it ends by itself");
    assert!(
        status == 0 || status == 3,
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    (status, text)
}

/// The members of a report that are the same wherever it is made.
pub fn comparable(report: &Value) -> Value {
    json!({
        "rows": report["rows"],
        "rejected": report["rejected"],
        "state": report["state"],
        "features": report["features"],
        "predictions": report["predictions"],
        "faults": report["faults"],
        "verdict": report["verdict"],
    })
}

pub fn drifted(report: &Value) -> Vec<&str> {
    let features = report["features"].as_array().expect("features are listed");
    let drifted = features.iter().filter(|feature| feature["state"] == "drifted");
    drifted
        .map(|feature| feature["name"].as_str().expect("a name"))
        .collect()
}

/// A server with this configuration, which keeps what it counts in memory.
fn configured(model: &Path, name: &str, toml: &str) -> Server {
    let config = written(name, toml);
    let config = config.to_str().expect("target/ is named in UTF-8");
    Server::modelet(model, &["--store", "memory", "--no-access-log", "--config", config])
}

/// A delta, as an instance elsewhere would send it, of what a report counted.
fn delta(report: &Value, model: &PackReport, instance: &str, sequence: u64, source: &str) -> Value {
    let columns = report["features"].as_array().unwrap().iter();
    let columns: Vec<Value> = columns
        .chain(report["predictions"].as_array().unwrap())
        .map(|column| {
            let bins = column["bins"].as_array().unwrap().iter().enumerate();
            bins.filter(|(_, bin)| bin["current"] != 0)
                .map(|(number, bin)| json!([number, bin["current"]]))
                .collect()
        })
        .collect();
    let names: Vec<&str> = model.manifest.features.iter().map(|f| f.name.as_str()).collect();
    let faults: Vec<Value> = report["faults"]
        .as_array()
        .unwrap()
        .iter()
        .map(|fault| {
            let feature = fault["feature"]
                .as_str()
                .and_then(|f| names.iter().position(|n| *n == f));
            json!([feature, fault["code"], fault["count"]])
        })
        .collect();
    json!({
        "model": model.bundle_sha256, "instance": instance, "sequence": sequence, "source": source,
        "rows": {"answered": report["rows"], "rejected": report["rejected"]},
        "columns": columns, "faults": faults,
        "requests": {"answered": 1, "rejected": 0, "failed": 0},
        "latency": [[2, 1]], "latency_sum_ns": 30_000,
    })
}

#[test]
fn the_same_rows_give_the_same_counts_wherever_they_are_counted() {
    let model = credit();
    let mut rows = Rows::holdout();
    rows.change("income", |_, cell| {
        let income: f64 = cell.parse().unwrap_or(0.0);
        format!("{}", income * 0.75)
    });
    // A few rows that are rejected.
    rows.change("age", |index, cell| {
        if index % 100 == 7 { "old" } else { cell }.to_owned()
    });
    let file = written("monitor-current.csv", &rows.csv());
    let (status, printed) = command(model, &file, &["--json"]);
    let by_command: Value = serde_json::from_str(&printed).expect("it prints JSON");
    assert_eq!(status, 3, "{printed}");
    assert_eq!(drifted(&by_command), ["income"]);
    assert_eq!(by_command["rejected"], 10);

    let server = Server::modelet(&model.output, &["--store", "memory", "--no-access-log"]);
    for (number, start) in (0..rows.rows.len()).step_by(130).enumerate() {
        let end = (start + 130).min(rows.rows.len());
        score(
            server.address,
            &rows.csv_of_features(start..end),
            &format!("batch-{number}"),
        );
    }
    let by_server = drift(server.address, "");
    assert_eq!(comparable(&by_server), comparable(&by_command));
    assert_eq!(by_server["sources"][0]["source"], "host");

    let collector = Server::modelet(&model.output, &["--store", "memory", "--no-access-log"]);
    let instance = "0190a3d2c5f84b1e9d3c7a6b5e4f3d2c";
    let body = delta(&by_command, model, instance, 1, "spin").to_string();
    for expected in ["counted", "duplicate"] {
        let answer = post(collector.address, "/observe", &body);
        assert_eq!((answer.status, answer.json()["status"].as_str()), (200, Some(expected)));
    }
    let by_collector = drift(collector.address, "");
    assert_eq!(comparable(&by_collector), comparable(&by_command));
    assert_eq!(by_collector["sources"][0]["source"], "spin");

    // A browser's counts are kept apart.
    let other = "0190a3d2c5f84b1e9d3c7a6b5e4f3d2d";
    let body = delta(&by_command, model, other, 1, "browser").to_string();
    assert_eq!(post(collector.address, "/observe", &body).status, 200);
    assert_eq!(comparable(&drift(collector.address, "")), comparable(&by_command));
    let browsers = drift(collector.address, "?source=browser");
    assert_eq!(comparable(&browsers), comparable(&by_command));
}

#[test]
fn counts_that_are_none_of_the_models_are_refused() {
    let model = credit();
    let server = Server::modelet(&model.output, &["--store", "memory"]);
    let report = drift(server.address, "");
    let good = delta(&report, model, "0190a3d2c5f84b1e9d3c7a6b5e4f3d2c", 1, "spin");
    let changed = |member: &str, value: Value| {
        let mut delta = good.clone();
        delta[member] = value;
        post(server.address, "/observe", delta.to_string())
    };
    let kind = |answer: &Answer| answer.json()["type"].as_str().unwrap_or_default().to_owned();
    for (member, value, status, problem) in [
        ("model", json!("0".repeat(64)), 404, "unknown-model"),
        ("model", json!("x"), 400, "malformed-body"),
        ("source", json!("host"), 400, "malformed-body"),
        ("sequence", json!(0), 400, "malformed-body"),
        ("columns", json!([]), 422, "invalid-delta"),
        ("rows", json!({"answered": 1, "rejected": 0}), 422, "invalid-delta"),
    ] {
        let answer = changed(member, value);
        assert_eq!(answer.status, status, "{member}: {}", answer.text());
        assert!(kind(&answer).ends_with(problem), "{member}: {}", answer.text());
    }
    assert_eq!(drift(server.address, "")["sources"], json!([]));
}

/// Counts of a sampled source are shown as such, and not scaled.
#[test]
fn a_sample_is_shown_with_its_share() {
    let model = credit();
    let rows = Rows::holdout();
    let server = Server::modelet(&model.output, &["--store", "memory", "--no-access-log"]);
    score(server.address, &rows.csv_of_features(0..200), "a-batch");
    let report = drift(server.address, "");
    assert_eq!(report["traffic"]["sample"], 1.0);
    assert_eq!(report["sources"][0]["sample"], 1.0);
    assert!(!report["verdict"].as_str().unwrap().contains("sample"));

    let mut sampled = delta(&report, model, "0190a3d2c5f84b1e9d3c7a6b5e4f3d2c", 1, "spin");
    sampled["requests"]["rejected"] = json!(1);
    sampled["sample"] = json!(0.1);
    let answer = post(server.address, "/observe", sampled.to_string());
    assert_eq!(answer.json()["status"], "counted", "{}", answer.text());
    let report = drift(server.address, "");
    let spin = json!({"source": "spin", "rows": 200, "rejected": 0, "requests": 2, "sample": 0.1, "included": true});
    assert_eq!(report["sources"][1], spin);
    assert_eq!(report["rows"], 400);
    // 1 of 1 at the host, 2 of 20 at the other.
    assert_eq!(report["traffic"]["requests"], 3);
    assert_eq!(report["traffic"]["sample"], 0.142857);
    let verdict = report["verdict"].as_str().unwrap();
    assert!(
        verdict.ends_with("Counts are of a sample: 10 % of the requests of spin."),
        "{verdict}"
    );
    let verdict = drift(server.address, "?source=host")["verdict"].clone();
    assert!(!verdict.as_str().unwrap().contains("sample"), "{verdict}");
}

/// A page elsewhere may post observations if its origin is configured; nobody
/// else may, and nothing else.
#[test]
fn a_page_of_a_configured_origin_may_post_observations() {
    let model = credit();
    let server = configured(
        &model.output,
        "monitor-origins.toml",
        "[monitor.observe]\norigins = [\"https://app.example.org\", \"http://localhost:8080\"]\n",
    );
    let preflight = |server: &Server, path: &str, origin: &str| {
        let headers = [
            ("origin", origin),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "content-type"),
        ];
        send(server.address, "OPTIONS", path, &headers, b"")
    };
    let allowed = |answer: &Answer| answer.header("access-control-allow-origin").map(str::to_owned);
    for (path, origin) in [
        ("/observe", "https://app.example.org"),
        ("/observe", "http://localhost:8080"),
        ("/models/credit/observe", "https://app.example.org"),
    ] {
        let answer = preflight(&server, path, origin);
        assert_eq!(answer.status, 204, "{path} {origin}: {}", answer.text());
        assert_eq!(allowed(&answer).as_deref(), Some(origin));
        assert_eq!(answer.header("access-control-allow-methods"), Some("POST"));
        let headers = answer.header("access-control-allow-headers").unwrap();
        assert!(headers.split(", ").any(|name| name == "content-type"), "{headers}");
        assert_eq!(answer.header("vary"), Some("origin"));
        assert_eq!(answer.body, b"");
    }
    for (path, origin) in [
        ("/observe", "https://app.example.org.evil.org"),
        ("/observe", "http://app.example.org"),
        ("/observe", "null"),
        ("/observe", ""),
        ("/predict", "https://app.example.org"),
        ("/drift", "https://app.example.org"),
        ("/feedback", "https://app.example.org"),
    ] {
        let answer = preflight(&server, path, origin);
        assert_eq!(answer.status, 405, "{path} {origin}");
        assert_eq!(allowed(&answer), None, "{path} {origin}");
    }

    let report = drift(server.address, "");
    let body = delta(&report, model, "0190a3d2c5f84b1e9d3c7a6b5e4f3d2c", 1, "browser").to_string();
    let from = |origin: &str, body: &str| {
        let headers = [("origin", origin), ("content-type", "application/json")];
        send(server.address, "POST", "/observe", &headers, body.as_bytes())
    };
    let answer = from("https://app.example.org", &body);
    assert_eq!(
        (answer.status, answer.json()["status"].as_str()),
        (200, Some("counted"))
    );
    assert_eq!(allowed(&answer).as_deref(), Some("https://app.example.org"));
    assert_eq!(answer.header("access-control-expose-headers"), Some("x-request-id"));
    // It may read why it is refused, too.
    let answer = from("https://app.example.org", "{}");
    assert_eq!((answer.status, allowed(&answer).is_some()), (400, true));
    assert_eq!(allowed(&from("https://other.example.org", &body)), None);

    // By default nobody may.
    let server = Server::modelet(&model.output, &["--store", "memory", "--no-access-log"]);
    let answer = preflight(&server, "/observe", "https://app.example.org");
    assert_eq!((answer.status, allowed(&answer)), (405, None));
}

/// Every window that is listed is reported, and any that is asked for.
#[test]
fn every_listed_window_is_reported() {
    let model = credit();
    let server = configured(
        &model.output,
        "monitor-windows.toml",
        "[monitor]\nbucket = \"1s\"\nflush = \"200ms\"\nwindows = [\"10m\", \"2s\", \"24h\"]\n",
    );
    let names = |report: &Value| -> Vec<String> {
        let windows = report["windows"].as_array().unwrap().iter();
        windows
            .map(|window| window["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let report = drift(server.address, "");
    assert_eq!(names(&report), ["10m", "2s", "24h"]);
    assert_eq!(report["window"]["name"], "10m");

    score(server.address, &Rows::holdout().csv_of_features(0..300), "a-batch");
    for (asked, rows) in [
        ("", 300),
        ("?window=10m", 300),
        ("?window=24h", 300),
        ("?window=3h", 300),
    ] {
        let report = drift(server.address, asked);
        assert_eq!(report["rows"], rows, "{asked}");
        assert_eq!(names(&report), ["10m", "2s", "24h"]);
    }
    // The short window is past it soon, while the long one has it; the longest
    // is looked at anew only when a sixtieth of it has passed.
    let start = Instant::now();
    loop {
        let report = drift(server.address, "?window=24h");
        let rows = |window: usize| report["windows"][window]["rows"].clone();
        if rows(0) == 300 && rows(1) == 0 {
            assert_eq!(report["windows"][0]["state"], report["state"]);
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "{}", report["windows"]);
        std::thread::sleep(Duration::from_millis(200));
    }
    let metrics = get(server.address, "/metrics");
    for window in ["10m", "2s", "24h"] {
        let of_window =
            |line: &&str| line.starts_with("modelet_drift_state{") && line.contains(&format!("window=\"{window}\""));
        let lines = metrics.text().lines().filter(of_window).count();
        assert_eq!(lines, model.manifest.reference.columns.len(), "{window}");
    }
}

#[test]
fn labels_find_their_predictions() {
    let model = credit();
    let rows = Rows::holdout();
    let server = Server::modelet(&model.output, &["--store", "memory", "--no-access-log"]);
    let answer = score(server.address, &rows.csv_of_features(0..400), "a-batch");
    let predicted: Vec<u64> = answer["predictions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["prediction"].as_u64().unwrap())
        .collect();
    let label = |id: &str, row: usize, label: Value| json!({"id": id, "row": row, "label": label});
    let feedback = |entries: Vec<Value>| {
        let answer = post(server.address, "/feedback", json!({ "feedback": entries }).to_string());
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    };
    let truths = |range: std::ops::Range<usize>| -> Vec<Value> {
        range.map(|row| label("a-batch", row, rows.truth(row).into())).collect()
    };
    let counted = feedback(truths(0..400));
    assert_eq!(counted["counted"], 400, "{counted}");
    let again = feedback(truths(0..10));
    assert_eq!((&again["counted"], &again["duplicate"]), (&json!(0), &json!(10)));

    let odd = feedback(vec![
        label("a-batch", 3, (1 - rows.truth(3)).into()),
        label("a-batch", 400, 1.into()),
        label("nobody", 0, 1.into()),
        label("a-batch", 5, "maybe".into()),
    ]);
    let outcomes: Vec<&Value> = odd["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| &r["status"])
        .collect();
    assert_eq!(outcomes, ["corrected", "unknown_row", "unknown_id", "invalid_label"]);
    assert_eq!(feedback(truths(3..4))["corrected"], 1);

    let hits = (0..400)
        .filter(|&row| predicted[row] == u64::from(rows.truth(row)))
        .count();
    let performance = &drift(server.address, "")["performance"];
    assert_eq!(performance["labelled"], 400);
    assert_eq!(performance["coverage"], 1.0);
    let accuracy = &performance["metrics"]["accuracy"];
    assert_eq!(accuracy["value"], hits as f64 / 400.0);
    let baseline = accuracy["baseline"].as_f64().expect("the holdout was labelled");
    assert!((0.8..0.9).contains(&baseline), "{baseline}");
    assert!(accuracy["low"].as_f64().unwrap() < accuracy["value"].as_f64().unwrap());
    let estimate = performance["estimate"]["accuracy"].as_f64().unwrap();
    assert!((estimate - baseline).abs() < 0.05, "{estimate} and {baseline}");

    let one = |body: Value| post(server.address, "/feedback", body.to_string());
    let answer = one(json!({"id": "nobody", "label": 1}));
    assert_eq!(answer.status, 404, "{}", answer.text());
    let answer = one(json!({"id": "a-batch", "label": 1}));
    assert_eq!(answer.status, 422, "{}", answer.text());
    assert!(
        answer.text().contains("row: the prediction has 400 rows"),
        "{}",
        answer.text()
    );
    let answer = one(json!({"id": "a-batch", "row": 5, "label": "maybe"}));
    assert_eq!(answer.status, 422, "{}", answer.text());
    assert!(answer.text().contains("expected one of 0, 1"), "{}", answer.text());
    assert_eq!(one(json!({"label": 1})).status, 400);
}

/// A rule with a misspelt name would be silent for ever.
#[test]
fn rules_that_can_not_fire_are_told_at_the_start() {
    let rules = "[[monitor.rules]]\nname = \"a\"\nkind = \"feature_drift\"\nfeatures = [\"age\", \"incme\"]\n\
        [[monitor.rules]]\nname = \"b\"\nkind = \"latency\"\nmodels = [\"credit\", \"nosuch\"]\n\
        [[monitor.rules]]\nname = \"c\"\nkind = \"performance\"\nmetric = \"mae\"\n";
    let config = written("never.toml", rules);
    let arguments = [
        "--store",
        "memory",
        "--config",
        config.to_str().expect("the path is text"),
    ];
    let server = Server::modelet(&credit().output, &arguments);
    // Its two streams are read by threads of their own.
    let start = Instant::now();
    let told = |log: &str| log.matches("no served model has").count();
    while told(&server.log()) < 3 && start.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(50));
    }
    let log = server.log();
    for what in [
        "no served model has the feature \\\"incme\\\"\"",
        "no served model has the name \\\"nosuch\\\"\"",
        "no served model has the figure \\\"mae\\\", so that it can't fire",
    ] {
        assert!(log.contains(what), "{what}: {log}");
    }
    assert_eq!(told(&log), 3, "{log}");
}

#[test]
fn an_id_that_is_used_again_leaves_no_trace_of_the_first_prediction() {
    let model = credit();
    let rows = Rows::holdout();
    let server = Server::modelet(&model.output, &["--store", "memory", "--no-access-log"]);
    let label = |label: u8| {
        let body = json!({"id": "again", "label": label}).to_string();
        let answer = post(server.address, "/feedback", body);
        answer.json()["status"].as_str().unwrap_or_default().to_owned()
    };
    let confusion = || drift(server.address, "")["performance"]["confusion"].clone();
    let predicted = |row: usize| {
        let answer = score(server.address, &rows.csv_of_features(row..row + 1), "again");
        answer["predictions"][0]["prediction"].to_string()
    };
    // Two rows whose predictions differ.
    let first = predicted(0);
    assert_eq!(label(1), "counted");
    let other = (1..200)
        .find(|&row| predicted(row) != first)
        .expect("predictions differ");
    assert_eq!(label(1), "corrected");
    let second = predicted(other);
    assert_eq!(label(1), "duplicate");
    assert_eq!(confusion(), json!([{"truth": "1", "predicted": second, "count": 1}]));
}

#[test]
fn a_killed_server_keeps_every_label_and_most_counts() {
    let model = credit();
    let rows = Rows::holdout();
    let folder = tempfile::tempdir().expect("a folder is made");
    let store = folder.path().join("store.redb");
    let arguments = ["--store", store.to_str().unwrap(), "--no-access-log"];
    let mut server = Server::modelet(&model.output, &arguments);
    score(server.address, &rows.csv_of_features(0..200), "batch-0");
    let labels: Vec<Value> = (0..200)
        .map(|row| json!({"id": "batch-0", "row": row, "label": rows.truth(row)}))
        .collect();
    let answer = post(server.address, "/feedback", json!({ "feedback": labels }).to_string());
    assert_eq!(answer.json()["counted"], 200, "{}", answer.text());
    let before = drift(server.address, "");
    // Not saved yet, unless a flush comes between.
    score(server.address, &rows.csv_of_features(200..300), "batch-1");
    server.signal("KILL");
    server.wait();

    let server = Server::modelet(&model.output, &arguments);
    let after = drift(server.address, "");
    assert_eq!(after["performance"]["metrics"], before["performance"]["metrics"]);
    let kept = after["rows"].as_u64().unwrap();
    assert!(kept == 200 || kept == 300, "{kept} rows");

    // Another process may not have the same file.
    let second = Command::new(program("modelet"))
        .arg("serve")
        .arg(&model.output)
        .args(["--listen", "127.0.0.1:0"])
        .args(arguments)
        .output()
        .expect("modelet runs");
    assert_eq!(second.status.code(), Some(64));
    let told = String::from_utf8_lossy(&second.stderr);
    assert!(told.contains("store.redb"), "{told}");
}

/// Waits until the server counts so many rows.
pub fn rows_at(address: SocketAddr, rows: u64) -> Value {
    let start = Instant::now();
    loop {
        let report = drift(address, "");
        if report["rows"] == rows {
            return report;
        }
        assert!(
            start.elapsed() < Duration::from_secs(30),
            "{} rows, not {rows}",
            report["rows"]
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn replicas_on_one_redis_are_one_server() {
    let model = credit();
    let rows = Rows::holdout();
    let redis = RedisServer::start();
    let url = redis.url();
    let arguments = ["--store", url.as_str(), "--no-access-log"];
    let alone = Server::modelet(&model.output, &["--store", "memory", "--no-access-log"]);
    let mut first = Server::modelet(&model.output, &arguments);
    let second = Server::modelet(&model.output, &arguments);
    let feedback = |server: &Server, id: &str, range: std::ops::Range<usize>| {
        let labels: Vec<Value> = range
            .clone()
            .map(|row| json!({"id": id, "row": row - range.start, "label": rows.truth(row)}))
            .collect();
        let answer = post(server.address, "/feedback", json!({ "feedback": labels }).to_string());
        assert_eq!(answer.json()["counted"], range.len(), "{}", answer.text());
    };
    for (number, start) in (0..1000).step_by(100).enumerate() {
        let id = format!("batch-{number}");
        let csv = rows.csv_of_features(start..start + 100);
        score(alone.address, &csv, &id);
        feedback(&alone, &id, start..start + 100);
        // One predicts, and the other hears of the truth.
        let (one, other) = match number % 2 {
            0 => (&first, &second),
            _ => (&second, &first),
        };
        score(one.address, &csv, &id);
        drift(one.address, "");
        feedback(other, &id, start..start + 100);
    }
    let expected = rows_at(alone.address, 1000);
    for server in [&first, &second] {
        let report = rows_at(server.address, 1000);
        assert_eq!(comparable(&report), comparable(&expected));
        assert_eq!(report["performance"], expected["performance"]);
    }
    first.signal("KILL");
    first.wait();
    let report = rows_at(second.address, 1000);
    assert_eq!(comparable(&report), comparable(&expected));
    assert_eq!(report["performance"], expected["performance"]);
    feedback_is_kept_once(&second, &rows);
}

/// What the killed replica was told stays told.
fn feedback_is_kept_once(server: &Server, rows: &Rows) {
    let labels: Vec<Value> = (0..100)
        .map(|row| json!({"id": "batch-0", "row": row, "label": rows.truth(row)}))
        .collect();
    let answer = post(server.address, "/feedback", json!({ "feedback": labels }).to_string());
    assert_eq!(answer.json()["duplicate"], 100, "{}", answer.text());
}

#[test]
fn a_label_may_come_before_its_prediction_is_saved() {
    let model = credit();
    let rows = Rows::holdout();
    let redis = RedisServer::start();
    let url = redis.url();
    let arguments = ["--store", url.as_str(), "--no-access-log"];
    let first = Server::modelet(&model.output, &arguments);
    let second = Server::modelet(&model.output, &arguments);
    let feedback = |server: &Server, labels: &[Value]| {
        let answer = post(server.address, "/feedback", json!({ "feedback": labels }).to_string());
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    };
    let labels = |id: &str| -> Vec<Value> {
        let label = |row| json!({"id": id, "row": row, "label": rows.truth(row)});
        (0..200).map(label).collect()
    };
    // By the time that the other has made them nobody has saved them, unless a
    // flush came between; the first label comes before the prediction.
    let early = json!({"id": "early", "label": rows.truth(0)}).to_string();
    let answer = post(second.address, "/feedback", &early);
    assert_eq!(
        (answer.status, answer.json()["status"].as_str()),
        (202, Some("pending"))
    );
    score(first.address, &rows.csv_of_features(0..1), "early");
    score(first.address, &rows.csv_of_features(0..200), "batch");
    let told = feedback(&second, &labels("batch"));
    let (counted, pending) = (told["counted"].as_u64().unwrap(), told["pending"].as_u64().unwrap());
    assert_eq!(counted + pending, 200, "{told}");
    assert_eq!(told["results"].as_array().unwrap().len(), 200);

    let labelled = |server: &Server| drift(server.address, "")["performance"]["labelled"].as_u64().unwrap();
    let start = Instant::now();
    while labelled(&second) < 201 {
        assert!(
            start.elapsed() < Duration::from_secs(50),
            "{} are counted",
            labelled(&second)
        );
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(labelled(&first), 201);
    for server in [&first, &second] {
        assert_eq!(feedback(server, &labels("batch"))["duplicate"], 200);
        let answer = post(server.address, "/feedback", &early);
        assert_eq!(
            (answer.status, answer.json()["status"].as_str()),
            (200, Some("duplicate"))
        );
    }
    let metrics = [&first, &second].map(|server| get(server.address, "/metrics").text().to_owned());
    let outcomes = |outcome: &str| -> u64 {
        let all = metrics.iter().flat_map(|text| text.lines());
        let of = all.filter(|line| line.starts_with("modelet_labels_total{"));
        of.filter(|line| line.contains(&format!("outcome=\"{outcome}\"")))
            .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
            .sum()
    };
    assert_eq!(outcomes("pending"), pending + 1);
    assert_eq!(outcomes("counted"), 201);
    assert_eq!(outcomes("duplicate"), 402);
    assert_eq!(outcomes("unknown_id"), 0);
}

#[test]
fn a_regressions_errors_are_charted() {
    let folder = root().join("tests/fixtures/xgb_regression");
    let mut options = options(&folder.join("model.onnx"), "charted", WasiVersion::V0_3);
    options.data = Some(folder.join("inputs.csv"));
    options.baseline.insert("mae".into(), 10.0);
    let model = pack(&options, &Silent).expect("it is packed");
    let csv = std::fs::read_to_string(folder.join("inputs.csv")).expect("the rows are there");
    for (error, alarm) in [(10.0, false), (20.0, true)] {
        let server = Server::modelet(&model.output, &["--store", "memory", "--no-access-log"]);
        let answer = score(server.address, &csv, "rows");
        let predicted: Vec<f64> = answer["predictions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| {
                row["prediction"]
                    .as_f64()
                    .unwrap_or_else(|| panic!("no number in {row}"))
            })
            .collect();
        assert_eq!(predicted.len(), 80);
        let sign = |row: usize| if row.is_multiple_of(2) { 1.0 } else { -1.0 };
        let labels: Vec<Value> = (0..80)
            .map(|row| json!({"id": "rows", "row": row, "label": predicted[row] + sign(row) * error}))
            .collect();
        let answer = post(server.address, "/feedback", json!({ "feedback": labels }).to_string());
        assert_eq!(answer.json()["counted"], 80, "{}", answer.text());
        let performance = &drift(server.address, "")["performance"];
        let mae = performance["metrics"]["mae"]["value"].as_f64().unwrap();
        assert!((mae - error).abs() < 1e-6, "{mae}");
        let cusum = &performance["cusum"];
        assert_eq!(
            (&cusum["alarm"], &cusum["limit"]),
            (&json!(alarm), &json!(8.0)),
            "{cusum}"
        );
        // 80 rows of twice the mean: each adds 2 · 0.2 - ln 1.25. Answers have
        // the digits of binary32, so that the errors are not exact.
        let expected = if alarm { 80.0 * (0.4 - 1.25f64.ln()) } else { 0.0 };
        let value = cusum["value"].as_f64().unwrap();
        assert!((value - expected).abs() < 1e-5, "{value}, not {expected}");
    }
}

#[test]
fn several_classes_have_an_estimate_too() {
    let model = pack_fixture("xgb_multiclass", WasiVersion::V0_3);
    let csv = root().join("tests/fixtures/xgb_multiclass/inputs.csv");
    let csv = std::fs::read_to_string(csv).expect("the rows are there");
    let server = Server::modelet(&model.output, &["--store", "memory", "--no-access-log"]);
    let answer = score(server.address, &csv, "rows");
    let rows = answer["predictions"].as_array().unwrap();
    // The predicted class's probability, to the width of a bin.
    let highest = |row: &Value| {
        let probabilities = row["probabilities"]
            .as_object()
            .unwrap_or_else(|| panic!("no probabilities in {row}"));
        probabilities.values().filter_map(Value::as_f64).fold(0.0, f64::max)
    };
    let mean = rows.iter().map(highest).sum::<f64>() / rows.len() as f64;
    let estimate = &drift(server.address, "")["performance"]["estimate"];
    let accuracy = estimate["accuracy"]
        .as_f64()
        .unwrap_or_else(|| panic!("no estimate: {estimate}"));
    assert!((accuracy - mean).abs() <= 0.5 / 60.0, "{accuracy}, not {mean}");
    assert_eq!(
        (&estimate["calibrated"], &estimate["rows"]),
        (&json!(false), &json!(rows.len()))
    );
    assert_eq!(estimate.get("auc"), None);
}

#[test]
fn the_report_is_text_json_and_a_page() {
    let model = credit();
    let rows = Rows::holdout();
    let file = written("monitor-holdout.csv", &rows.csv());
    let page = crate::support::parity_dir().join("monitor-report.html");
    let (status, text) = command(
        model,
        &file,
        &[
            "--label",
            "defaulted",
            "--html",
            page.to_str().unwrap(),
            "--color",
            "never",
        ],
    );
    assert_eq!(status, 0, "{text}");
    for part in ["credit", "income", "stable", "accuracy", "1,000 rows"] {
        assert!(text.contains(part), "{part} is not in\n{text}");
    }
    let page = std::fs::read_to_string(page).expect("the page is written");
    assert!(page.contains("<svg") && page.contains("income"));
}

#[test]
fn prometheus_gets_every_bin_from_the_start() {
    let model = credit();
    let server = Server::modelet(&model.output, &["--store", "memory"]);
    let metrics = get(server.address, "/metrics");
    let bins: usize = model.manifest.reference.columns.iter().map(|c| c.bins.len()).sum();
    let lines = metrics.text().lines();
    let bin = |line: &&str| {
        line.starts_with("modelet_feature_bin_total{") || line.starts_with("modelet_prediction_bin_total{")
    };
    assert_eq!(lines.clone().filter(bin).count(), bins);
    assert!(lines.clone().filter(bin).all(|line| line.ends_with("} 0")));
    let rows = Rows::holdout();
    score(server.address, &rows.csv_of_features(0..50), "x");
    let metrics = get(server.address, "/metrics");
    let counted: u64 = metrics
        .text()
        .lines()
        .filter(bin)
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum();
    assert_eq!(counted, 50 * model.manifest.reference.columns.len() as u64);
}
