//! The modelet host's server: limits, refusals, documents, an orderly end.

use crate::support::http::{Answer, get, post, raw, send};
use crate::support::{credit, credit_request, program, server::Server};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

fn problem(answer: &Answer) -> String {
    assert_eq!(
        answer.header("content-type"),
        Some("application/problem+json"),
        "{}",
        answer.text()
    );
    let problem = answer.json();
    assert_eq!(problem["status"], answer.status, "{problem}");
    assert!(answer.header("x-request-id").is_some());
    let kind = problem["type"].as_str().expect("a type").to_owned();
    kind.trim_start_matches("urn:modelet:problem:").to_owned()
}

#[test]
fn whatever_comes_is_answered_by_a_problem_and_the_server_goes_on() {
    let server = Server::modelet(&credit().output, &[]);
    let at = server.address;
    let json = [("content-type", "application/json")];
    let deep = format!("{{\"features\":{}", "[".repeat(1 << 20));
    for (method, path, headers, body, status, kind) in [
        ("GET", "/nothing", &[][..], "", 404, "not-found"),
        ("GET", "/predict", &[], "", 405, "method-not-allowed"),
        ("PUT", "/predict", &json, "{}", 405, "method-not-allowed"),
        ("POST", "/health", &json, "{}", 405, "method-not-allowed"),
        (
            "POST",
            "/predict",
            &[("content-type", "text/xml")],
            "<a/>",
            415,
            "unsupported-media-type",
        ),
        (
            "POST",
            "/predict",
            &[("content-type", "text/csv")],
            "a\n1\n",
            415,
            "unsupported-media-type",
        ),
        ("POST", "/predict", &json, "", 400, "malformed-body"),
        (
            "POST",
            "/predict",
            &json,
            "{\"features\": {\"age\": ",
            400,
            "malformed-body",
        ),
        ("POST", "/predict", &json, &deep, 400, "malformed-body"),
        (
            "POST",
            "/predict",
            &json,
            "{\"features\": {\"age\": \"x\"}}",
            422,
            "invalid-features",
        ),
        (
            "POST",
            "/predict",
            &json,
            "{\"features\": {\"age\": 1e999}}",
            422,
            "invalid-features",
        ),
        (
            "POST",
            "/predict/batch?on_error=maybe",
            &json,
            "{\"instances\": [{}]}",
            400,
            "invalid-query",
        ),
        (
            "POST",
            "/predict/batch",
            &json,
            "{\"instances\": []}",
            422,
            "invalid-features",
        ),
        (
            "POST",
            "/predict/batch",
            &[("content-type", "text/csv")],
            "age,income\n\"30,1\n40,2\n",
            400,
            "malformed-body",
        ),
    ] {
        let answer = send(at, method, path, headers, body.as_bytes());
        assert_eq!(answer.status, status, "{method} {path} {body:.60}: {}", answer.text());
        assert_eq!(problem(&answer), kind, "{method} {path} {body:.60}");
    }
    assert_eq!(post(at, "/predict", credit_request()).status, 200);
}

#[test]
fn large_bodies_are_refused_before_and_while_they_are_read() {
    let server = Server::modelet(&credit().output, &["--body-bytes-max", "100000"]);
    let at = server.address;
    // By its length alone: nothing of it is sent.
    let head =
        "POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100000000\r\n\r\n";
    assert_eq!(problem(&raw(at, head.as_bytes(), false)), "body-too-large");
    // Without a length, when it has become too large.
    let mut chunked =
        b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
            .to_vec();
    for _ in 0..30 {
        chunked.extend_from_slice(b"1000\r\n");
        chunked.extend_from_slice(&[b' '; 4096]);
        chunked.extend_from_slice(b"\r\n");
    }
    assert_eq!(problem(&raw(at, &chunked, false)), "body-too-large");
    assert_eq!(post(at, "/predict", credit_request()).status, 200);
}

#[test]
fn a_batch_may_have_so_many_rows() {
    let server = Server::modelet(&credit().output, &["--batch-rows-max", "3"]);
    let answer = post(server.address, "/predict/batch", "{\"instances\": [{}, {}, {}, {}]}");
    assert_eq!((answer.status, problem(&answer).as_str()), (413, "batch-too-large"));
    let answer = post(server.address, "/predict/batch", "{\"instances\": [{}, {}, {}]}");
    assert_eq!(answer.status, 200);
}

#[test]
fn every_answer_has_an_id_and_a_given_one_is_kept() {
    let server = Server::modelet(&credit().output, &[]);
    let answer = post(server.address, "/predict", credit_request());
    let id = answer.header("x-request-id").expect("an id").to_owned();
    assert_eq!(answer.json()["id"], id.as_str());
    // Version 7 of RFC 9562.
    assert_eq!((id.len(), id.as_bytes()[14]), (36, b'7'), "{id}");
    let headers = [("content-type", "application/json"), ("x-request-id", "mine-1")];
    let answer = send(
        server.address,
        "POST",
        "/predict",
        &headers,
        credit_request().as_bytes(),
    );
    assert_eq!(answer.header("x-request-id"), Some("mine-1"));
    assert_eq!(answer.json()["id"], "mine-1");
}

#[test]
fn the_documents_are_those_of_this_model() {
    let server = Server::modelet(&credit().output, &[]);
    let at = server.address;
    let document = get(at, "/openapi.json").json();
    assert_eq!(document["openapi"], "3.1.0");
    let text = document.to_string();
    for word in [
        "home_ownership",
        "MORTGAGE",
        "months_since_last_delinquency",
        "/predict/batch",
    ] {
        assert!(text.contains(word), "{word}");
    }
    // The example in the document is a request that is answered.
    let request = &document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"];
    let example = match &request["example"] {
        serde_json::Value::Null => &request["examples"]
            .as_object()
            .expect("examples")
            .values()
            .next()
            .expect("one")["value"],
        example => example,
    };
    let answer = post(at, "/predict", example.to_string());
    assert_eq!(answer.status, 200, "{}", answer.text());
    for (path, kind) in [
        ("/docs", "text/html"),
        ("/", "text/html"),
        ("/www/main.js", "javascript"),
    ] {
        let answer = get(at, path);
        assert_eq!(answer.status, 200, "{path}");
        assert!(
            answer.header("content-type").is_some_and(|t| t.contains(kind)),
            "{path}: {:?}",
            answer.headers
        );
    }
    let bundle = get(at, "/model/bundle");
    assert_eq!(bundle.body, std::fs::read(&credit().bundle).expect("the bundle"));
    let info = get(at, "/model/info").json();
    assert_eq!(info["bundle_sha256"], credit().bundle_sha256.as_str());
}

#[test]
fn the_browser_module_is_sent_compressed_to_whom_takes_it_so() {
    let server = Server::modelet(&credit().output, &[]);
    let get = |headers: &[(&str, &str)]| send(server.address, "GET", "/www/modelet_bg.wasm", headers, b"");
    let plain = get(&[]);
    let small = get(&[("accept-encoding", "gzip, br")]);
    for answer in [&plain, &small] {
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-type"), Some("application/wasm"));
        assert_eq!(answer.header("vary"), Some("accept-encoding"));
    }
    assert_eq!(plain.header("content-encoding"), None);
    assert_eq!(small.header("content-encoding"), Some("br"));
    assert!(plain.body.starts_with(b"\0asm"));
    assert!(small.body.len() < plain.body.len() / 2);
    let tag = small.header("etag").unwrap();
    assert_ne!(Some(tag), plain.header("etag"));
    let kept = get(&[("accept-encoding", "br"), ("if-none-match", tag)]);
    assert_eq!((kept.status, kept.body.len()), (304, 0));
}

#[test]
fn requests_rows_and_faults_are_counted() {
    let server = Server::modelet(&credit().output, &[]);
    for _ in 0..3 {
        post(server.address, "/predict", credit_request());
    }
    post(server.address, "/predict", "{\"features\": {\"age\": \"x\"}}");
    let metrics = get(server.address, "/metrics");
    let value = |name: &str, labels: &[&str]| -> f64 {
        let line = metrics
            .text()
            .lines()
            .find(|l| l.starts_with(&format!("{name}{{")) && labels.iter().all(|label| l.contains(label)))
            .unwrap_or_else(|| panic!("no {name} {labels:?} in {}", metrics.text()));
        line.rsplit(' ').next().and_then(|v| v.parse().ok()).expect("a value")
    };
    assert_eq!(
        value("modelet_requests_total", &["route=\"/predict\"", "status=\"200\""]),
        3.0
    );
    assert_eq!(
        value("modelet_requests_total", &["route=\"/predict\"", "status=\"422\""]),
        1.0
    );
    assert_eq!(value("modelet_rows_total", &["outcome=\"answered\""]), 3.0);
    assert_eq!(value("modelet_rows_total", &["outcome=\"rejected\""]), 1.0);
    assert_eq!(
        value("modelet_faults_total", &["feature=\"age\"", "code=\"type\""]),
        1.0
    );
}

#[test]
fn the_request_in_flight_is_finished_before_the_end() {
    let mut server = Server::modelet(&credit().output, &[]);
    let body = credit_request();
    let (first, rest) = body.split_at(body.len() / 2);
    let mut stream = TcpStream::connect(server.address).expect("it listens");
    let head = format!(
        "POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{first}",
        body.len()
    );
    stream.write_all(head.as_bytes()).expect("it reads");
    std::thread::sleep(Duration::from_millis(200));
    server.signal("TERM");
    std::thread::sleep(Duration::from_millis(200));
    stream.write_all(rest.as_bytes()).expect("it still reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(server.wait().success(), "{}", server.log());
}

#[test]
fn other_machines_are_let_in_on_purpose_only() {
    let output = Command::new(program("modelet"))
        .args(["serve", "--listen", "0.0.0.0:0"])
        .arg(&credit().output)
        .output()
        .expect("it runs");
    assert_eq!(output.status.code(), Some(64));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("--insecure"), "{said}");
}
