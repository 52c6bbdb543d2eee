//! The monitor's part of the document: `/drift`, `/feedback`, `/observe`.

use super::{json_content, reference, responses};
use crate::monitor::feedback::Outcome;
use modelet::signature::{Labels, Manifest, Task};
use modelet::validate::FaultCode;
use serde_json::{Value, json};

/// The paths, by path.
pub(super) fn paths() -> [(&'static str, Value); 3] {
    [
        (
            "/drift",
            json!({ "get": {
                "operationId": "drift",
                "summary": "How far the live data is from the reference, how good predictions were, and what alerts",
                "parameters": [
                    {
                        "name": "window",
                        "in": "query",
                        "description": "The time until now that the report is about, such as 5m, 1h or 7d; by default the first of the windows that are looked at all the time",
                        "schema": { "type": "string" },
                    },
                    {
                        "name": "source",
                        "in": "query",
                        "description": "One source, such as host, spin or browser; without it all but browsers",
                        "schema": { "type": "string" },
                    },
                ],
                "responses": responses("The report", json_content(reference("Drift")), &["400", "503"]),
            } }),
        ),
        (
            "/feedback",
            json!({ "post": {
                "operationId": "feedback",
                "summary": "Tells what predictions turned out to be",
                "requestBody": { "required": true, "content": json_content(json!({
                    "anyOf": [
                        reference("Label"),
                        {
                            "type": "object",
                            "properties": { "feedback": { "type": "array", "items": reference("Label") } },
                            "required": ["feedback"],
                        },
                    ],
                })) },
                "responses": feedback_responses(),
            } }),
        ),
        (
            "/observe",
            json!({ "post": {
                "operationId": "observe",
                "summary": "Takes counts of another home of the model; a delta that comes again is not counted again",
                "requestBody": { "required": true, "content": json_content(reference("Delta")) },
                "responses": responses(
                    "Whether the delta was counted now or before",
                    json_content(json!({
                        "type": "object",
                        "properties": { "status": { "enum": ["counted", "duplicate"] } },
                        "required": ["status"],
                    })),
                    &["400", "404", "408", "413", "415", "422", "503"],
                ),
            } }),
        ),
    ]
}

fn feedback_responses() -> Value {
    let mut all = responses(
        "What became of the label, or of each of several",
        json_content(json!({ "anyOf": [reference("Labelled"), reference("LabelledMany")] })),
        &["400", "404", "408", "413", "415", "422", "503"],
    );
    all["202"] = json!({
        "description": "The label is kept; it is counted when its prediction, which another replica may have made, comes",
        "content": json_content(reference("Labelled")),
    });
    all
}

fn object(properties: Value, optional: &[&str]) -> Value {
    let required: Vec<&str> = properties
        .as_object()
        .into_iter()
        .flat_map(|members| members.keys())
        .map(String::as_str)
        .filter(|name| !optional.contains(name))
        .collect();
    json!({ "type": "object", "required": required, "properties": properties })
}

fn list(items: Value) -> Value {
    json!({ "type": "array", "items": items })
}

fn described(schema: Value, description: &str) -> Value {
    let mut schema = schema;
    schema["description"] = description.into();
    schema
}

/// The schemas, by name.
pub(super) fn schemas(manifest: &Manifest) -> Vec<(&'static str, Value)> {
    let text = || json!({ "type": "string" });
    let number = || json!({ "type": "number" });
    let count = || json!({ "type": "integer", "minimum": 0 });
    let share = || json!({ "type": "number", "minimum": 0, "maximum": 1 });
    let flag = || json!({ "type": "boolean" });
    let state = || json!({ "enum": ["no_reference", "insufficient_data", "stable", "drifted"] });
    let quality = || json!({ "enum": ["no_reference", "insufficient_data", "good", "bad"] });
    let fault_code = || json!({ "enum": FaultCode::ALL.map(FaultCode::name) });
    let label = match (&manifest.output.labels, manifest.task) {
        (_, Task::Regression) => number(),
        (Labels::Int64(labels), _) => json!({ "enum": labels }),
        (Labels::String(labels), _) => json!({ "enum": labels }),
    };
    let outcome = || json!({ "enum": Outcome::NAMES });
    let pairs = |what: &str| {
        let pair = json!({ "type": "array", "items": { "type": "integer" }, "minItems": 2, "maxItems": 2 });
        described(list(pair), what)
    };
    vec![
        (
            "Drift",
            object(
                json!({
                    "model": text(),
                    "version": text(),
                    "sha256": described(text(), "SHA-256 of the model's bundle"),
                    "state": described(state(), "The worst of the columns"),
                    "alert": described(flag(), "Whether a column drifted beyond its threshold"),
                    "quality": quality(),
                    "verdict": described(text(), "The report in a sentence or two"),
                    "window": object(json!({ "name": text(), "from": text(), "to": text() }), &[]),
                    "rows": described(count(), "Rows that were answered"),
                    "rejected": count(),
                    "reference_rows": count(),
                    "thresholds": { "type": "object" },
                    "attribution": described(
                        list(object(json!({ "name": text(), "psi": number(), "share": share(), "drifted": flag() }), &[])),
                        "Which features carry the drift",
                    ),
                    "features": list(reference("DriftColumn")),
                    "predictions": described(list(reference("DriftColumn")), "The label, of classifiers, and the score"),
                    "faults": list(object(
                        json!({ "feature": { "type": ["string", "null"] }, "code": fault_code(), "count": count() }),
                        &[],
                    )),
                    "sources": list(object(
                        json!({
                            "source": text(),
                            "rows": count(),
                            "rejected": count(),
                            "requests": described(count(), "Requests that were counted"),
                            "sample": described(share(), "Their share of all requests of the source; counts are not scaled by it"),
                            "included": flag(),
                        }),
                        &[],
                    )),
                    "windows": described(
                        list(object(
                            json!({
                                "name": text(),
                                "from": text(),
                                "to": text(),
                                "state": state(),
                                "alert": flag(),
                                "quality": quality(),
                                "rows": count(),
                                "rejected": count(),
                                "verdict": text(),
                            }),
                            &[],
                        )),
                        "The windows that are looked at all the time, as they last were",
                    ),
                    "prediction_reference": object(
                        json!({
                            "from": { "enum": ["holdout", "learnt", "learning"] },
                            "rows": count(),
                            "needed": count(),
                            "at": text(),
                        }),
                        &["rows", "needed", "at"],
                    ),
                    "traffic": object(
                        json!({
                            "requests": count(),
                            "sample": described(share(), "The share of all requests that was counted"),
                            "requests_per_s": number(),
                            "rows_per_s": number(),
                            "client_errors": count(),
                            "server_errors": count(),
                            "error_rate": share(),
                            "failures": { "type": "object", "additionalProperties": count() },
                            "p50_ms": number(),
                            "p95_ms": number(),
                            "p99_ms": number(),
                        }),
                        &["p50_ms", "p95_ms", "p99_ms"],
                    ),
                    "performance": reference("Performance"),
                    "alerts": list(reference("Alert")),
                }),
                &["window"],
            ),
        ),
        (
            "Alert",
            object(
                json!({
                    "model": text(),
                    "version": text(),
                    "rule": text(),
                    "kind": text(),
                    "subject": text(),
                    "severity": { "enum": ["info", "warning", "critical"] },
                    "state": { "enum": ["pending", "firing", "resolved"] },
                    "since": text(),
                    "summary": text(),
                    "value": number(),
                    "threshold": number(),
                    "window_from": text(),
                    "window_to": text(),
                    "notified": flag(),
                    "unknown_windows": described(count(), "Windows after that one that had too little data to tell"),
                    "resolution": { "enum": ["recovered", "insufficient_data", "rule_removed", "model_retired"] },
                }),
                &["subject", "value", "threshold", "unknown_windows", "resolution"],
            ),
        ),
        (
            "DriftColumn",
            object(
                json!({
                    "name": text(),
                    "type": { "enum": ["numeric", "categorical"] },
                    "state": state(),
                    "alert": flag(),
                    "values": count(),
                    "reference_values": count(),
                    "psi": described(number(), "Population stability index"),
                    "kl": described(number(), "Kullback-Leibler divergence, nats"),
                    "js_distance": described(share(), "Jensen-Shannon distance to base 2"),
                    "wasserstein": described(number(), "Over the reference's standard deviation"),
                    "test": { "enum": ["kolmogorov_smirnov", "chi_square"] },
                    "statistic": number(),
                    "p": share(),
                    "adjusted_p": described(share(), "Benjamini-Hochberg"),
                    "threshold": number(),
                    "direction": { "enum": ["higher", "lower", "wider", "narrower", "mixed"] },
                    "reference_median": number(),
                    "median": number(),
                    "top_groups": list(count()),
                    "moved": text(),
                    "quality": object(
                        json!({
                            "state": quality(),
                            "missing": reference("DriftShare"),
                            "out_of_range": reference("DriftShare"),
                            "unseen": reference("DriftShare"),
                            "not_finite": reference("DriftShare"),
                        }),
                        &[],
                    ),
                    "bins": list(object(
                        json!({
                            "label": text(),
                            "from": number(),
                            "to": number(),
                            "reference": count(),
                            "current": count(),
                            "group": count(),
                        }),
                        &["from", "to", "group"],
                    )),
                    "groups": list(object(
                        json!({ "label": text(), "reference": share(), "current": share(), "psi": number() }),
                        &[],
                    )),
                }),
                &[
                    "psi",
                    "kl",
                    "js_distance",
                    "wasserstein",
                    "test",
                    "statistic",
                    "p",
                    "adjusted_p",
                    "threshold",
                    "direction",
                    "reference_median",
                    "median",
                    "top_groups",
                    "moved",
                ],
            ),
        ),
        (
            "DriftShare",
            object(
                json!({
                    "count": count(),
                    "share": share(),
                    "reference_share": share(),
                    "p": share(),
                    "adjusted_p": share(),
                    "state": quality(),
                }),
                &[],
            ),
        ),
        (
            "Performance",
            object(
                json!({
                    "labelled": described(count(), "Rows with a label"),
                    "coverage": described(share(), "Their share of the host's rows"),
                    "baseline_rows": count(),
                    "metrics": {
                        "type": "object",
                        "description": "accuracy, auc, log_loss..., or mae, rmse...",
                        "additionalProperties": object(
                            json!({
                                "value": number(),
                                "low": described(number(), "Lower end of the 95 % interval"),
                                "high": number(),
                                "baseline": number(),
                                "rows": count(),
                            }),
                            &["low", "high", "baseline"],
                        ),
                    },
                    "worse": described(text(), "The metric that the shipped rules (there is one, on accuracy) find worse than its baseline allows"),
                    "confusion": list(object(
                        json!({ "truth": text(), "predicted": text(), "count": count() }),
                        &[],
                    )),
                    "calibration": list(object(
                        json!({ "from": number(), "to": number(), "rows": count(), "mean_score": number(), "share": share() }),
                        &[],
                    )),
                    "cusum": object(json!({ "value": number(), "limit": number(), "alarm": flag() }), &[]),
                    "estimate": described(
                        object(
                            json!({ "accuracy": share(), "auc": share(), "calibrated": flag(), "rows": count() }),
                            &["auc"],
                        ),
                        "Estimated from the scores, without labels; does not see concept drift",
                    ),
                }),
                &["worse", "confusion", "calibration", "cusum", "estimate"],
            ),
        ),
        (
            "Label",
            object(
                json!({
                    "id": described(json!({ "type": ["string", "integer"] }), "The prediction's id"),
                    "row": described(count(), "The row, from 0; needed where the prediction was a batch of several"),
                    "label": described(label, "What it turned out to be"),
                }),
                &["row"],
            ),
        ),
        (
            "Labelled",
            object(
                json!({ "id": text(), "row": count(), "status": outcome(), "detail": text() }),
                &["row", "detail"],
            ),
        ),
        (
            "LabelledMany",
            object(
                json!({
                    "counted": count(),
                    "duplicate": count(),
                    "corrected": count(),
                    "pending": described(count(), "Their predictions are not here yet; they are counted when they come"),
                    "unknown": count(),
                    "invalid": count(),
                    "results": list(reference("Labelled")),
                }),
                &[],
            ),
        ),
        (
            "Delta",
            object(
                json!({
                    "model": described(text(), "SHA-256 of the model's bundle"),
                    "instance": described(text(), "Who counted: a UUID, or its 32 hexadecimal digits"),
                    "sequence": described(json!({ "type": "integer", "minimum": 1 }), "One more for each delta of an instance"),
                    "source": text(),
                    "sample": described(share(), "The share of requests that are counted; absent: all"),
                    "rows": object(json!({ "answered": count(), "rejected": count() }), &[]),
                    "columns": described(list(pairs("A bin, and how many rows fell into it")), "One entry a monitored column"),
                    "faults": described(
                        list(json!({ "type": "array", "minItems": 3, "maxItems": 3 })),
                        "The feature's index or null, the code, how often",
                    ),
                    "requests": object(
                        json!({ "answered": count(), "rejected": count(), "failed": count() }),
                        &[],
                    ),
                    "latency": pairs("A bucket, and how many requests fell into it"),
                    "latency_sum_ns": count(),
                }),
                &["sample"],
            ),
        ),
    ]
}
