//! The packed file under the wasmtime command line.

use crate::support::http::{get, post, send};
use crate::support::{credit, credit_options, credit_request, program, server::Server};
use modelet::golden::comparable;
use modelet_host::output::Silent;
use modelet_host::pack::{WasiVersion, pack};
use std::process::Command;

#[test]
fn every_route_answers_under_wasmtime_serve() {
    let portable = pack(&credit_options(WasiVersion::V0_2), &Silent).expect("it packs");
    for file in [&credit().output, &portable.output] {
        let server = Server::wasmtime(file);
        let at = server.address;
        let answer = post(at, "/predict", credit_request());
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.json()["model_version"], "1.0.0");
        let csv = std::fs::read(crate::support::root().join("examples/credit/holdout.csv")).expect("rows");
        let lines: Vec<&[u8]> = csv.split(|&b| b == b'\n').take(4).collect();
        let answer = send(
            at,
            "POST",
            "/predict/batch",
            &[("content-type", "text/csv")],
            &lines.join(&b'\n'),
        );
        assert_eq!(answer.status, 200);
        // The label's column is no feature.
        assert_eq!(answer.json()["predictions"][0]["error"]["faults"][0]["code"], "unknown");
        assert_eq!(get(at, "/health").json()["status"], "ok");
        assert_eq!(get(at, "/ready").status, 200);
        assert_eq!(get(at, "/model/info").json()["name"], "credit");
        let metrics = get(at, "/metrics");
        assert_eq!(metrics.status, 200);
        assert!(metrics.text().contains("scope=\"instance\""));
        assert_eq!(get(at, "/drift").status, 503);
        assert_eq!(get(at, "/drift").json()["type"], "urn:modelet:problem:no_collector");
        assert_eq!(get(at, "/nothing").status, 404);
        let wrong = send(at, "DELETE", "/predict", &[], b"");
        assert_eq!((wrong.status, wrong.header("allow")), (405, Some("POST")));
        let head = send(at, "HEAD", "/health", &[], b"");
        assert_eq!((head.status, head.header("content-length")), (200, Some("15")));
        let bad = post(at, "/predict", "{\"features\": {\"age\": ");
        assert_eq!(
            (bad.status, bad.header("content-type")),
            (400, Some("application/problem+json"))
        );
    }
}

#[test]
fn the_same_file_answers_alike_under_modelet_and_wasmtime() {
    let modelet = Server::modelet(&credit().output, &[]);
    let wasmtime = Server::wasmtime(&credit().output);
    for body in [credit_request(), "{\"features\": {}}".into(), "nonsense".into()] {
        let (a, b) = (
            post(modelet.address, "/predict", &body),
            post(wasmtime.address, "/predict", &body),
        );
        assert_eq!(a.status, b.status);
        let without_id = |text: &str| {
            text.split(",\"id\":")
                .next()
                .unwrap_or("")
                .trim_end_matches('}')
                .to_owned()
        };
        assert_eq!(without_id(comparable(a.text())), without_id(comparable(b.text())));
    }
}

#[test]
fn a_request_id_is_echoed() {
    let server = Server::wasmtime(&credit().output);
    let headers = [("content-type", "application/json"), ("x-request-id", "abc-123")];
    let answer = send(
        server.address,
        "POST",
        "/predict",
        &headers,
        credit_request().as_bytes(),
    );
    assert_eq!(answer.header("x-request-id"), Some("abc-123"));
    assert_eq!(answer.json()["id"], "abc-123");
}

#[test]
fn wasmtime_run_calls_the_typed_export() {
    // WAVE, the text form of typed values, escapes a string as JSON does.
    let invoke = format!(
        "predict-text({})",
        serde_json::to_string(&credit_request()).expect("a text")
    );
    let output = Command::new(program("wasmtime"))
        .args(["run", "-Shttp", "--invoke", &invoke])
        .arg(&credit().output)
        .output()
        .expect("it runs");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(printed.starts_with("ok(\"{\\\"prediction\\\":0,"), "{printed}");
}
