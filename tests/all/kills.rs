//! A kill in the middle of a load, with requests and labels in flight, at any
//! time: no label that was acknowledged is lost, and of counts at most what came
//! since the last flush.

use crate::monitor::drift;
use crate::support::http::{post, try_post};
use crate::support::redis::RedisServer;
use crate::support::rows::Rows;
use crate::support::server::Server;
use crate::support::{credit, written};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Rows of a request, and labels of one.
const BATCH: usize = 20;
const CLIENTS: usize = 3;
/// The time of a client for a request and its labels: all labels of a round may
/// have to wait for their predictions, and no more than 100,000 can.
const PACE: Duration = Duration::from_millis(8);
/// How often the servers save what they counted, and how late they may be on a
/// machine that has other work.
const FLUSH: Duration = Duration::from_secs(1);
const LATE: Duration = Duration::from_secs(4);

/// What clients sent, and what they were told before the server ended.
#[derive(Default)]
struct Told {
    /// Requests that were sent, and when those were answered that were.
    requests: usize,
    answered: Vec<(String, Instant)>,
    /// The same of labels; of each request the outcome of its labels.
    labels: usize,
    labelled: Vec<(String, Value)>,
}

impl Told {
    fn merge(&mut self, other: Told) {
        self.requests += other.requests;
        self.answered.extend(other.answered);
        self.labels += other.labels;
        self.labelled.extend(other.labelled);
    }

    /// Labels that were acknowledged so.
    fn labels_of(&self, outcome: &str) -> u64 {
        self.labelled
            .iter()
            .filter_map(|(_, told)| told[outcome].as_u64())
            .sum()
    }

    /// Rows answered longer ago than a flush takes when the server was killed.
    fn rows_before(&self, killed: Instant) -> u64 {
        let safe = |at: &Instant| killed.duration_since(*at) > FLUSH + LATE;
        (self.answered.iter().filter(|(_, at)| safe(at)).count() * BATCH) as u64
    }
}

fn labels(rows: &Rows, id: &str) -> String {
    let label = |row| json!({"id": id, "row": row, "label": rows.truth(row)});
    json!({ "feedback": (0..BATCH).map(label).collect::<Vec<Value>>() }).to_string()
}

/// Predicts at one server and labels at another, until one of them is gone or
/// all is done.
fn client(predicts: SocketAddr, hears: SocketAddr, name: &str, rows: &Rows, stop: &AtomicBool) -> Told {
    let csv = rows.csv_of_features(0..BATCH);
    let mut told = Told::default();
    let start = Instant::now();
    for number in 0u32.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        thread::sleep((PACE * number).saturating_sub(start.elapsed()));
        let id = format!("{name}-{number}");
        let headers = [("content-type", "text/csv"), ("x-request-id", id.as_str())];
        told.requests += 1;
        let Some(answer) = try_post(predicts, "/predict/batch", &headers, csv.as_bytes()) else {
            break;
        };
        assert_eq!(answer.status, 200, "{}", answer.text());
        told.answered.push((id.clone(), Instant::now()));
        told.labels += BATCH;
        let headers = [("content-type", "application/json")];
        let Some(answer) = try_post(hears, "/feedback", &headers, labels(rows, &id).as_bytes()) else {
            break;
        };
        assert_eq!(answer.status, 200, "{}", answer.text());
        told.labelled.push((id, answer.json()));
    }
    told
}

/// Clients at a server that is killed after so long; when that was.
fn killed_under_load(
    mut server: Server,
    hears: Option<SocketAddr>,
    name: &str,
    rows: &Rows,
    after: Duration,
) -> (Told, Instant) {
    let (stop, predicts) = (AtomicBool::new(false), server.address);
    let hears = hears.unwrap_or(predicts);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let (name, stop) = (format!("{name}-{number}"), &stop);
                scope.spawn(move || client(predicts, hears, &name, rows, stop))
            })
            .collect();
        thread::sleep(after);
        let killed = Instant::now();
        server.signal("KILL");
        server.wait();
        stop.store(true, Ordering::Relaxed);
        let mut told = Told::default();
        for client in clients {
            told.merge(client.join().expect("no client panics"));
        }
        (told, killed)
    })
}

fn config(name: &str) -> String {
    let path = written(name, "[monitor]\nflush = \"1s\"\n");
    path.to_str().expect("the path is text").to_owned()
}

/// Tells once more all labels that were counted: all are known.
fn all_are_kept(server: &Server, told: &Told, rows: &Rows) {
    for (id, outcome) in &told.labelled {
        if outcome["counted"] == BATCH {
            let answer = post(server.address, "/feedback", labels(rows, id));
            assert_eq!(answer.json()["duplicate"], BATCH, "{id}: {}", answer.text());
        }
    }
}

#[test]
fn a_server_killed_under_load_loses_no_label_and_one_flush_of_counts() {
    let model = credit();
    let rows = Rows::holdout();
    let folder = tempfile::tempdir().expect("a folder is made");
    let (store, config) = (folder.path().join("store.redb"), config("kills-file.toml"));
    let arguments = [
        "--store",
        store.to_str().expect("the path is text"),
        "--config",
        &config,
        "--no-access-log",
    ];
    let mut told = Told::default();
    let mut least = 0;
    for round in 0..3u64 {
        let server = Server::modelet(&model.output, &arguments);
        let after = Duration::from_millis(7000 + 373 * round);
        let (in_round, killed) = killed_under_load(server, None, &format!("round-{round}"), &rows, after);
        assert!(
            in_round.labels_of("counted") > 0,
            "nothing was labelled in round {round}"
        );
        assert_eq!(in_round.labels_of("counted"), (in_round.labelled.len() * BATCH) as u64);
        least += in_round.rows_before(killed);
        assert!(
            in_round.rows_before(killed) > 0,
            "no request was answered in time in round {round}"
        );
        told.merge(in_round);

        let server = Server::modelet(&model.output, &arguments);
        let report = drift(server.address, "");
        let counted = report["rows"].as_u64().unwrap();
        let most = (told.requests * BATCH) as u64;
        assert!(
            (least..=most).contains(&counted),
            "round {round}: {counted} rows, of {least} to {most}"
        );
        let labelled = report["performance"]["labelled"].as_u64().unwrap();
        let (least, most) = (told.labels_of("counted"), told.labels as u64);
        assert!(
            (least..=most).contains(&labelled),
            "round {round}: {labelled} labels, of {least} to {most}"
        );
        // All of a label or nothing: every figure is of the same rows.
        let confusion = report["performance"]["confusion"].as_array().unwrap();
        let cells: u64 = confusion.iter().map(|cell| cell["count"].as_u64().unwrap()).sum();
        assert_eq!(cells, labelled);
        all_are_kept(&server, &told, &rows);
        assert_eq!(drift(server.address, "")["performance"]["labelled"], labelled);
    }
}

#[test]
fn a_replica_killed_under_load_takes_no_label_along() {
    let model = credit();
    let rows = Rows::holdout();
    let redis = RedisServer::start();
    let (url, config) = (redis.url(), config("kills-redis.toml"));
    let arguments = ["--store", url.as_str(), "--config", &config, "--no-access-log"];
    let survivor = Server::modelet(&model.output, &arguments);
    let mut told = Told::default();
    let mut least = 0;
    // The killed one predicts, and first itself and then the other is told the
    // truth, mostly before the predictions are saved.
    for (round, hears) in [None, Some(survivor.address)].into_iter().enumerate() {
        let server = Server::modelet(&model.output, &arguments);
        let after = Duration::from_millis(8000);
        let (in_round, killed) = killed_under_load(server, hears, &format!("round-{round}"), &rows, after);
        let taken = |(_, told): &&(String, Value)| {
            let of = |outcome: &str| told[outcome].as_u64().unwrap();
            of("counted") + of("pending") == BATCH as u64
        };
        let others: Vec<_> = in_round.labelled.iter().filter(|told| !taken(told)).collect();
        assert!(
            others.is_empty(),
            "{} of {}, such as {}: {}",
            others.len(),
            in_round.labelled.len(),
            others[0].0,
            others[0].1
        );
        if hears.is_some() {
            assert!(
                in_round.labels_of("pending") > 0,
                "no label came before its prediction was saved"
            );
        }
        least += in_round.rows_before(killed);
        assert!(
            in_round.rows_before(killed) > 0,
            "no request was answered in time in round {round}"
        );
        told.merge(in_round);

        // What waits for saved predictions is counted soon.
        let expected = told.labels_of("counted").max(least);
        let start = Instant::now();
        let report = loop {
            let report = drift(survivor.address, "");
            if report["performance"]["labelled"].as_u64().unwrap() >= expected {
                break report;
            }
            assert!(start.elapsed() < Duration::from_secs(60), "{}", report["performance"]);
            thread::sleep(Duration::from_millis(200));
        };
        assert!(report["performance"]["labelled"].as_u64().unwrap() <= told.labels as u64);
        let counted = report["rows"].as_u64().unwrap();
        let most = (told.requests * BATCH) as u64;
        assert!(
            (least..=most).contains(&counted),
            "round {round}: {counted} rows, of {least} to {most}"
        );
    }
    all_are_kept(&survivor, &told, &rows);
}
