//! Alerts from end to end: a server that is sent rows and labels, and
//! receivers of webhooks and mail that are there, away, and back.

use crate::support::http::{get, post, send};
use crate::support::receivers::{HttpSink, SmtpSink};
use crate::support::rows::Rows;
use crate::support::server::Server;
use crate::support::{credit, parity_dir};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A server whose windows are seconds long.
fn served(name: &str, notify: &str) -> Server {
    let config = format!(
        r#"
        [monitor]
        bucket = "1s"
        flush = "200ms"
        windows = ["10s"]
        store = "memory"

        [[monitor.rules]]
        name = "accuracy"
        window = "2s"
        delay = "0s"
        fire = "1 of 1"
        resolve = 1
        cooldown = "0s"

        {notify}
        "#
    );
    let path: PathBuf = parity_dir().join(name);
    std::fs::write(&path, config).expect("target/ can be written");
    Server::modelet(
        &credit().output,
        &["--no-access-log", "--config", path.to_str().expect("the path is text")],
    )
}

/// Predicts the holdout and says what it was: the truth, or for each second
/// row its contrary.
struct Sender {
    rows: Rows,
    csv: String,
    batch: usize,
}

impl Sender {
    fn new() -> Sender {
        let rows = Rows::holdout();
        let csv = rows.csv_of_features(0..rows.rows.len());
        Sender { rows, csv, batch: 0 }
    }

    fn send(&mut self, server: &Server, wrong: bool) {
        self.batch += 1;
        let id = format!("batch-{}", self.batch);
        let headers = [("content-type", "text/csv"), ("x-request-id", id.as_str())];
        let answer = send(server.address, "POST", "/predict/batch", &headers, self.csv.as_bytes());
        assert_eq!(answer.status, 200, "{}", answer.text());
        let labels: Vec<Value> = (0..self.rows.rows.len())
            .map(|row| {
                let truth = self.rows.truth(row);
                let label = if wrong && row % 2 == 0 { 1 - truth } else { truth };
                json!({"id": id, "row": row, "label": label})
            })
            .collect();
        let answer = post(server.address, "/feedback", json!({ "feedback": labels }).to_string());
        assert_eq!(answer.json()["counted"], self.rows.rows.len(), "{}", answer.text());
    }

    /// Sends until `done`.
    fn until(&mut self, server: &Server, wrong: bool, done: impl Fn() -> bool) {
        let start = Instant::now();
        while !done() {
            assert!(start.elapsed() < Duration::from_secs(60), "it does not come about");
            self.send(server, wrong);
            std::thread::sleep(Duration::from_millis(150));
        }
    }
}

fn statuses(sink: &HttpSink) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    sink.got()
        .iter()
        .map(|request| {
            let body: Value = serde_json::from_str(&request.body).expect("it is JSON");
            (text(&body["rule"]), text(&body["status"]))
        })
        .collect()
}

fn told(sink: &HttpSink, status: &str) -> usize {
    statuses(sink)
        .iter()
        .filter(|(rule, s)| rule == "accuracy" && s == status)
        .count()
}

#[test]
fn a_fall_of_accuracy_is_told_and_so_is_its_end() {
    let (hook, mail) = (HttpSink::http(), SmtpSink::smtp());
    let server = served(
        "alerts-told.toml",
        &format!(
            "[[notify.webhook]]\nurl = \"{}/hook\"\n[notify.email]\nsmtp = \"127.0.0.1\"\nport = {}\ntls = \"none\"\n\
             from = \"modelet@example.org\"\nto = [\"team@example.org\"]\nsend_resolved = true\n",
            hook.url(),
            mail.address.port()
        ),
    );
    let mut sender = Sender::new();
    for _ in 0..5 {
        sender.send(&server, false);
        std::thread::sleep(Duration::from_millis(500));
    }
    assert_eq!(statuses(&hook), [], "nothing is wrong yet");

    sender.until(&server, true, || told(&hook, "firing") > 0);
    let report = get(server.address, "/drift").json();
    let firing: Vec<&Value> = report["alerts"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|a| a["state"] == "firing")
        .collect();
    assert!(
        firing.iter().any(|alert| alert["rule"] == "accuracy"),
        "{}",
        report["alerts"]
    );
    let drift = |alert: &&&Value| alert["kind"].as_str().unwrap().ends_with("_drift");
    assert_eq!(firing.iter().find(drift), None, "the data did not drift");

    sender.until(&server, false, || told(&hook, "resolved") > 0);
    assert_eq!(told(&hook, "firing"), 1, "{:?}", statuses(&hook));
    let subjects: Vec<String> = mail
        .wait(2)
        .iter()
        .flat_map(|mail| {
            mail.data
                .lines()
                .filter(|l| l.starts_with("Subject:"))
                .map(str::to_owned)
        })
        .collect();
    assert!(subjects.iter().any(|s| s.contains("accuracy")), "{subjects:?}");
}

#[test]
fn what_a_receiver_missed_comes_when_it_is_back() {
    let hook = HttpSink::http();
    let address = hook.address;
    let server = served(
        "alerts-missed.toml",
        &format!("[[notify.webhook]]\nurl = \"http://{address}/hook\"\n"),
    );
    // First it refuses, then it is gone.
    hook.answer(503);
    let mut sender = Sender::new();
    let firing = || {
        let report = get(server.address, "/drift").json();
        let alerts = report["alerts"].as_array().unwrap().clone();
        alerts.iter().any(|a| a["rule"] == "accuracy" && a["state"] == "firing")
    };
    sender.until(&server, true, firing);
    let refused = hook.wait(1);
    assert_eq!(refused[0].path, "/hook");
    assert_eq!(refused[0].headers["content-type"], "application/json");
    drop(hook);
    let hook = HttpSink::http_at(address);
    sender.until(&server, true, || told(&hook, "firing") > 0);
    assert_eq!(told(&hook, "firing"), 1, "{:?}", statuses(&hook));
}

#[test]
fn a_wrong_configuration_is_told_at_the_start() {
    let path = parity_dir().join("alerts-wrong.toml");
    std::fs::write(&path, "[monitor]\nbucket = \"5 parsecs\"\nflash = \"1s\"\n").expect("target/ can be written");
    let output = std::process::Command::new(crate::support::program("modelet"))
        .arg("serve")
        .arg(&credit().output)
        .arg("--config")
        .arg(&path)
        .output()
        .expect("modelet runs");
    assert_eq!(output.status.code(), Some(64));
    let text = String::from_utf8_lossy(&output.stderr);
    for part in ["monitor.bucket", "5 parsecs", "monitor.flash"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
}
