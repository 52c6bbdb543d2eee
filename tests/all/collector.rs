//! Observations of instances under `wasmtime serve`, on their way to a
//! collector: a sink in this process that counts as the modelet host does.

use crate::support::http::{get, post};
use crate::support::{artifact, credit, credit_options, credit_request, credit_service, server::Server};
use modelet::drift::Counts;
use modelet::drift::delta::{self, Observed};
use modelet::signature::Manifest;
use modelet_host::output::Silent;
use modelet_host::pack::{WasiVersion, pack};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const BAD: &str = "{\"features\": {\"age\": \"x\"}}";

/// What a sink does with a push: given how often it has seen this delta before,
/// the status to answer, none to close the connection without a word.
type Answer = fn(u32) -> Option<u16>;

/// A server that takes deltas.
struct Sink {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

struct State {
    manifest: Manifest,
    answer: Answer,
    /// How often each delta came.
    seen: BTreeMap<(String, u64), u32>,
    total: Observed,
    sources: BTreeSet<String>,
    samples: BTreeSet<String>,
    heads: Vec<String>,
    errors: Vec<String>,
}

impl Sink {
    fn start(answer: Answer) -> Sink {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let manifest = artifact(credit()).manifest;
        let state = Arc::new(Mutex::new(State {
            total: Observed::new(&manifest.reference),
            manifest,
            answer,
            seen: BTreeMap::new(),
            sources: BTreeSet::new(),
            samples: BTreeSet::new(),
            heads: Vec::new(),
            errors: Vec::new(),
        }));
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let shared = shared.clone();
                std::thread::spawn(move || serve(stream, &shared));
            }
        });
        Sink { address, state }
    }

    fn variable(&self) -> String {
        format!("MODELET_COLLECTOR=http://{}", self.address)
    }

    /// The state, once it has so many requests, or else after a while.
    fn wait(&self, requests: u64) -> std::sync::MutexGuard<'_, State> {
        let start = Instant::now();
        loop {
            let state = self.state.lock().expect("no connection panics");
            let counted = state.total.requests.answered + state.total.requests.rejected;
            if counted >= requests || !state.errors.is_empty() || start.elapsed() > Duration::from_secs(60) {
                assert_eq!(state.errors, [""; 0]);
                return state;
            }
            drop(state);
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn serve(stream: TcpStream, state: &Mutex<State>) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            match reader.read_line(&mut head) {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
        let length = head
            .lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let Some(status) = take(&mut state.lock().expect("no connection panics"), head, &body) else {
            return;
        };
        let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n");
        if reader.get_mut().write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

fn take(state: &mut State, head: String, body: &[u8]) -> Option<u16> {
    state.heads.push(head);
    let delta = match delta::parse(body, &state.manifest) {
        Ok(delta) => delta,
        Err(what) => {
            state.errors.push(what);
            return Some(400);
        }
    };
    if delta.origin.model != credit().bundle_sha256 {
        state.errors.push(format!("of model {}", delta.origin.model));
    }
    state.sources.insert(delta.origin.source);
    state.samples.insert(delta.origin.sample.to_string());
    let times = state
        .seen
        .entry((delta.origin.instance, delta.origin.sequence))
        .or_default();
    let answer = (state.answer)(*times);
    if *times == 0 {
        state.total.merge(&delta.observed);
    }
    *times += 1;
    answer
}

/// Sends so many requests from so many threads, every tenth a bad one; gives
/// the counts that they must lead to.
fn load(address: SocketAddr, threads: usize, each: usize) -> (Counts, u64) {
    let good = credit_request();
    std::thread::scope(|scope| {
        for thread in 0..threads {
            let good = &good;
            scope.spawn(move || {
                for i in 0..each {
                    let bad = (i + thread) % 10 == 0;
                    let answer = post(address, "/predict", if bad { BAD } else { good });
                    assert_eq!(answer.status, if bad { 422 } else { 200 }, "{}", answer.text());
                }
            });
        }
    });
    let mut service = credit_service();
    let mut counts = Counts::new(&service.model().manifest().reference);
    for thread in 0..threads {
        for i in 0..each {
            let body = if (i + thread) % 10 == 0 { BAD } else { &good };
            let reply = service.predict(body.as_bytes(), None, || 0);
            counts.add_rows(&reply.status, &reply.bins, &reply.faults);
        }
    }
    (counts, (threads * each) as u64)
}

fn collecting(file: &std::path::Path, variables: &[&str]) -> Server {
    let mut arguments = vec!["-Sinherit-network"];
    for variable in variables {
        arguments.extend(["--env", variable]);
    }
    Server::wasmtime_with(file, &arguments)
}

#[test]
fn every_request_is_counted_once_at_16_connections_while_instances_are_recycled() {
    let sink = Sink::start(|_| Some(202));
    let server = collecting(
        &credit().output,
        &[&sink.variable(), "MODELET_COLLECTOR_KEY=observe-key"],
    );
    let (counts, requests) = load(server.address, 16, 250);
    let state = sink.wait(requests);
    assert_eq!(state.total.counts, counts);
    assert_eq!(state.total.requests.answered, counts.answered);
    assert_eq!(state.total.requests.rejected, counts.rejected);
    assert_eq!(state.total.latency.iter().sum::<u64>(), counts.answered);
    let instances: BTreeSet<&str> = state.seen.keys().map(|(instance, _)| instance.as_str()).collect();
    assert!(instances.len() >= 4000 / 128, "{} instances", instances.len());
    assert!(state.heads.len() < requests as usize, "pushes are coalesced");
    assert!(state.sources.iter().eq(["wasmtime"]) && state.samples.iter().eq(["1"]));
    for head in &state.heads {
        let head = head.to_ascii_lowercase();
        assert!(head.starts_with("post /observe http/1.1\r\n"), "{head}");
        assert!(head.contains("\r\nauthorization: bearer observe-key\r\n"), "{head}");
    }
}

#[test]
fn nothing_is_lost_or_counted_twice_while_pushes_fail() {
    // The first push of each delta arrives without being acknowledged.
    let sink = Sink::start(|times| match times {
        0 => None,
        1 => Some(503),
        _ => Some(202),
    });
    let server = collecting(&credit().output, &[&sink.variable(), "MODELET_COLLECTOR_SOURCE=edge-1"]);
    let (counts, requests) = load(server.address, 8, 50);
    let state = sink.wait(requests);
    assert_eq!(state.total.counts, counts);
    assert!(state.sources.iter().eq(["edge-1"]));
    drop(state);
    // What was counted is acknowledged in the end, too.
    let start = Instant::now();
    while sink.state.lock().expect("alive").seen.values().any(|&times| times < 3) {
        assert!(start.elapsed() < Duration::from_secs(60), "a delta is not sent again");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(sink.state.lock().expect("alive").seen.values().all(|&times| times == 3));
}

#[test]
fn predictions_go_on_without_a_collector_and_with_one_that_refuses() {
    let closed = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let nobody = format!("MODELET_COLLECTOR=http://{}", closed.local_addr().expect("it is bound"));
    drop(closed);
    let refusing = Sink::start(|_| Some(404));
    for (variable, outcome, log) in [
        (nobody.as_str(), "failed", None),
        (
            refusing.variable().as_str(),
            "refused",
            Some("the collector answered 404"),
        ),
        (
            "MODELET_COLLECTOR=localhost",
            "",
            Some("MODELET_COLLECTOR: expected http://HOST:PORT but got \"localhost\""),
        ),
    ] {
        let server = collecting(&credit().output, &[variable]);
        let start = Instant::now();
        loop {
            assert_eq!(post(server.address, "/predict", credit_request()).status, 200);
            let metrics = get(server.address, "/metrics");
            let pushed = metrics.text().lines().any(|line| {
                line.starts_with("modelet_collector_pushes_total{")
                    && line.contains(&format!("outcome=\"{outcome}\""))
                    && !line.ends_with(" 0")
            });
            if (outcome.is_empty() || pushed) && log.is_none_or(|text| server.log().contains(text)) {
                assert_eq!(metrics.text().contains("modelet_collector_"), !outcome.is_empty());
                break;
            }
            assert!(start.elapsed() < Duration::from_secs(30), "{}", metrics.text());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn the_portable_build_pushes_once_a_request() {
    let portable = pack(&credit_options(WasiVersion::V0_2), &Silent).expect("it packs");
    let sink = Sink::start(|times| (times > 0).then_some(202));
    let server = collecting(&portable.output, &[&sink.variable()]);
    let (counts, requests) = load(server.address, 8, 40);
    let state = sink.wait(requests);
    assert_eq!(state.total.counts, counts);
    assert_eq!(state.seen.len() as u64, requests);
    assert!(state.seen.keys().all(|(_, sequence)| *sequence == 1));
}

#[test]
fn a_sample_of_the_portable_builds_requests_says_so() {
    let portable = pack(&credit_options(WasiVersion::V0_2), &Silent).expect("it packs");
    let sink = Sink::start(|_| Some(202));
    let server = collecting(&portable.output, &[&sink.variable(), "MODELET_COLLECTOR_SAMPLE=0.25"]);
    load(server.address, 8, 25);
    // So that what is still on its way arrives.
    std::thread::sleep(Duration::from_secs(2));
    let state = sink.wait(0);
    assert!(state.samples.iter().eq(["0.25"]));
    // 50 are expected; the chance of another result is below 1e-7.
    let requests = state.total.requests.answered + state.total.requests.rejected;
    assert!((17..=86).contains(&requests), "{requests} of 200");
    assert_eq!(state.seen.len() as u64, requests);
}
