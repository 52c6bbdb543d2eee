//! The OpenAPI 3.1 document of one model: its features by name, type, range
//! and categories, so that a client made from it can't ask for anything else.

mod monitoring;

use crate::artifact::Artifact;
use modelet::api::Kind;
use modelet::signature::{Category, Feature, FeatureType, Labels, Manifest, ScoreKind, Task, Unknown};
use modelet::validate::FaultCode;
use serde_json::{Map, Value, json};

const KINDS: [Kind; 19] = [
    Kind::MalformedBody,
    Kind::InvalidFeatures,
    Kind::InvalidQuery,
    Kind::NotFound,
    Kind::MethodNotAllowed,
    Kind::UnsupportedMediaType,
    Kind::BodyTooLarge,
    Kind::BatchTooLarge,
    Kind::RequestTimeout,
    Kind::ModelFailed,
    Kind::DeadlineExceeded,
    Kind::NotReady,
    Kind::NoCollector,
    Kind::UnknownPrediction,
    Kind::InvalidLabel,
    Kind::UnknownModel,
    Kind::InvalidDelta,
    Kind::StoreUnavailable,
    Kind::Internal,
];

/// The document, JSON, for a model whose routes begin at `base`.
pub(super) fn document(artifact: &Artifact, base: &str) -> String {
    let manifest = &artifact.manifest;
    let example = example(artifact);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": manifest.name,
            "version": manifest.version,
            "description": description(manifest),
            "x-bundle-sha256": artifact.bundle_sha256,
        },
        "servers": [{ "url": base }],
        "paths": with(paths(manifest, &example), monitoring::paths()),
        "components": {
            "schemas": with(schemas(manifest, &example), monitoring::schemas(manifest)),
            "responses": {
                "Problem": {
                    "description": "A refusal: what was wrong, all of it at once",
                    "content": { "application/problem+json": { "schema": reference("Problem") } },
                },
            },
        },
    })
    .to_string()
}

fn description(manifest: &Manifest) -> String {
    let what = match manifest.task {
        Task::Binary => "Predicts one of two classes",
        Task::Multiclass => "Predicts one of several classes",
        Task::Regression => "Predicts a number",
        Task::Outlier => "Tells inliers from outliers",
        Task::Cluster => "Assigns a cluster",
        Task::Transform => "Computes a vector",
    };
    let features = manifest.features.len();
    let plural = if features == 1 { "" } else { "s" };
    format!("{what} from {features} feature{plural}. Every answer carries the request's id in x-request-id.")
}

fn with(mut object: Value, members: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
    for (name, value) in members {
        object[name] = value;
    }
    object
}

fn reference(schema: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{schema}") })
}

fn json_content(schema: Value) -> Value {
    json!({ "application/json": { "schema": schema } })
}

fn responses(description: &str, content: Value, problems: &[&str]) -> Value {
    let mut responses = Map::new();
    responses.insert("200".into(), json!({ "description": description, "content": content }));
    for status in problems {
        responses.insert((*status).into(), json!({ "$ref": "#/components/responses/Problem" }));
    }
    responses.into()
}

fn paths(manifest: &Manifest, example: &Map<String, Value>) -> Value {
    let request_id = json!({
        "name": "x-request-id",
        "in": "header",
        "description": "An id for this request, 1 to 256 visible ASCII characters; without one the server makes it",
        "schema": { "type": "string", "maxLength": 256 },
    });
    let choice = |name: &str, description: &str, values: [&str; 2]| {
        json!({
            "name": name,
            "in": "query",
            "description": description,
            "schema": { "type": "string", "enum": values, "default": values[0] },
        })
    };
    let get = |summary: &str, content: Value, problems: &[&str]| json!({ "get": { "summary": summary, "responses": responses(summary, content, problems) } });
    let object = || json_content(json!({ "type": "object" }));
    let text = |media: &str| json!({ media: { "schema": { "type": "string" } } });
    let header: Vec<&str> = manifest.features.iter().map(|feature| feature.name.as_str()).collect();
    let line = serde_json::to_string(example).unwrap_or_default();
    json!({
        "/predict": { "post": {
            "operationId": "predict",
            "summary": "Answers one record",
            "parameters": [request_id],
            "requestBody": { "required": true, "content": { "application/json": {
                "schema": reference("Request"),
                "example": { "features": example },
            } } },
            "responses": responses(
                "The prediction",
                json_content(reference("Answer")),
                &["400", "408", "413", "415", "422", "500", "503", "504"],
            ),
        } },
        "/predict/batch": { "post": {
            "operationId": "predictBatch",
            "summary": "Answers many records, in order",
            "parameters": [
                request_id,
                choice(
                    "on_error",
                    "What becomes of a batch with a bad row: its faults stand in the row's place, or the batch is refused",
                    ["report", "fail"],
                ),
                choice("outputs", "Which outputs of the model are written", ["short", "full"]),
            ],
            "requestBody": { "required": true, "content": {
                "application/json": {
                    "schema": reference("BatchRequest"),
                    "example": { "instances": [example] },
                },
                "application/x-ndjson": {
                    "schema": { "type": "string", "description": "One record a line, a JSON object each" },
                    "example": format!("{line}\n"),
                },
                "text/csv": {
                    "schema": {
                        "type": "string",
                        "description": format!("A header with the features' names ({}), then one record a line; an empty cell is a missing value (in free text, the empty text), and so is NA or NaN where the model takes numbers", header.join(", ")),
                    },
                },
            } },
            "responses": responses(
                "The predictions",
                json_content(reference("BatchAnswer")),
                &["400", "408", "413", "415", "422", "500", "503", "504"],
            ),
        } },
        "/health": get("Whether the server is alive", object(), &[]),
        "/ready": get("Whether the model is ready to answer", object(), &["503"]),
        "/model/info": get("What the model takes and gives, its versions and hashes", object(), &[]),
        "/model/bundle": get(
            "The model for browsers",
            json!({ "application/octet-stream": {} }),
            &["404"],
        ),
        "/metrics": get("Counters for Prometheus", text("text/plain"), &[]),
        "/openapi.json": get("This document", object(), &[]),
    })
}

fn schemas(manifest: &Manifest, example: &Map<String, Value>) -> Value {
    let id = json!({ "type": "string", "description": "The request's id, repeated in the answer" });
    let asked_id = json!({ "type": ["string", "number", "null"], "description": "Repeated in the answer, as text" });
    let prediction = prediction(manifest);
    let mut answer = prediction.clone();
    answer.extend(tail(&id));
    let required: Vec<&str> = answer
        .keys()
        .map(String::as_str)
        .filter(|name| !matches!(*name, "warnings" | "id" | "scores" | "probabilities"))
        .collect();
    let mut batch = tail(&id);
    batch.insert(
        "predictions".into(),
        json!({
            "type": "array",
            "description": "One entry a record, in order",
            "items": { "anyOf": [reference("Prediction"), reference("RowProblem")] },
        }),
    );
    let faults = json!({ "type": "array", "items": reference("Fault") });
    json!({
        "Features": features(manifest, example),
        "Request": {
            "type": "object",
            "properties": { "features": reference("Features"), "id": asked_id },
            "required": ["features"],
        },
        "BatchRequest": {
            "type": "object",
            "properties": {
                "instances": { "type": "array", "items": reference("Features"), "minItems": 1 },
                "id": asked_id,
            },
            "required": ["instances"],
        },
        "Prediction": { "type": "object", "properties": prediction, "required": ["prediction"] },
        "Answer": { "type": "object", "properties": answer, "required": required },
        "BatchAnswer": {
            "type": "object",
            "properties": batch,
            "required": ["predictions", "model_version", "inference_time_ms"],
        },
        "RowProblem": {
            "type": "object",
            "properties": { "index": { "type": "integer", "minimum": 0 }, "error": reference("Problem") },
            "required": ["index", "error"],
        },
        "Warning": {
            "type": "object",
            "description": "Something accepted that the reference data does not have",
            "properties": {
                "feature": { "type": "string" },
                "code": { "enum": ["range", "category"] },
                "message": { "type": "string" },
            },
            "required": ["feature", "code", "message"],
        },
        "Fault": {
            "type": "object",
            "properties": {
                "feature": { "type": "string" },
                "code": { "enum": FaultCode::ALL.map(FaultCode::name) },
                "message": { "type": "string" },
                "accepted": { "type": "string", "description": "What is accepted" },
            },
            "required": ["code", "message"],
        },
        "Problem": {
            "type": "object",
            "description": "RFC 9457",
            "properties": {
                "type": { "enum": KINDS.map(|kind| format!("urn:modelet:problem:{}", kind.name())) },
                "title": { "type": "string" },
                "status": { "type": "integer", "minimum": 400, "maximum": 599 },
                "detail": { "type": "string" },
                "faults": faults,
                "faults_omitted": { "type": "integer", "description": "How many more faults there are" },
                "rows": { "type": "array", "items": reference("RowProblem") },
                "id": id,
            },
            "required": ["type", "title", "status", "detail"],
        },
    })
}

/// The members that end every answer.
fn tail(id: &Value) -> Map<String, Value> {
    let mut members = Map::new();
    members.insert("model_version".into(), json!({ "type": "string" }));
    members.insert(
        "inference_time_ms".into(),
        json!({ "type": "number", "minimum": 0, "description": "From the first byte parsed to the last prediction made" }),
    );
    members.insert("id".into(), id.clone());
    members
}

/// The members of one record's answer.
fn prediction(manifest: &Manifest) -> Map<String, Value> {
    let output = &manifest.output;
    let classes = &output.labels;
    let width = output.width;
    let score = match output.kind {
        ScoreKind::Probability => json!({ "type": "number", "minimum": 0, "maximum": 1 }),
        ScoreKind::Decision | ScoreKind::Value => json!({ "type": "number" }),
    };
    let vector = json!({ "type": "array", "items": score, "minItems": width, "maxItems": width });
    let labelled = !classes.is_empty() || output.label.is_some();
    let mut members = Map::new();
    let prediction = match classes {
        Labels::Int64(labels) if !labels.is_empty() => json!({ "type": "integer", "enum": labels }),
        Labels::String(labels) if !labels.is_empty() => json!({ "type": "string", "enum": labels }),
        _ if labelled => json!({ "type": "integer" }),
        _ if width == 1 && manifest.task != Task::Transform => json!({ "type": "number" }),
        _ => vector.clone(),
    };
    members.insert("prediction".into(), prediction);
    if labelled && width > 0 {
        let (one, all) = match output.kind {
            ScoreKind::Probability => ("probability", "probabilities"),
            _ => ("score", "scores"),
        };
        if !classes.is_empty() || width == 1 {
            let mut score = score.clone();
            let of = match output.positive {
                Some(positive) => format!("of the class {}", classes.text(positive as usize)),
                None if !classes.is_empty() => "of the predicted class".into(),
                None => "of the record".into(),
            };
            score["description"] = format!("The {one} {of}").into();
            members.insert(one.into(), score);
        }
        if width > 1 {
            let all_of_them = if width as usize == classes.len() {
                let labels: Vec<String> = (0..classes.len()).map(|class| classes.text(class)).collect();
                let properties: Map<String, Value> =
                    labels.iter().map(|label| (label.clone(), score.clone())).collect();
                json!({ "type": "object", "properties": properties, "required": labels })
            } else {
                vector
            };
            members.insert(all.into(), all_of_them);
        }
    }
    members.insert(
        "warnings".into(),
        json!({ "type": "array", "items": reference("Warning") }),
    );
    members
}

fn features(manifest: &Manifest, example: &Map<String, Value>) -> Value {
    let properties: Map<String, Value> = manifest
        .features
        .iter()
        .map(|feature| (feature.name.clone(), property(feature, example.get(&feature.name))))
        .collect();
    let names = |of: fn(&Feature) -> bool| -> Vec<&str> {
        let chosen = manifest.features.iter().filter(|feature| of(feature));
        chosen.map(|feature| feature.name.as_str()).collect()
    };
    json!({
        "type": "object",
        "properties": properties,
        "required": names(|feature| !feature.nullable),
        "additionalProperties": manifest.unknown == Unknown::Ignore,
        "x-order": names(|_| true),
    })
}

/// The schema of one feature.
fn property(feature: &Feature, example: Option<&Value>) -> Value {
    let mut schema = Map::new();
    let mut types = match feature.kind {
        FeatureType::Number => vec!["number"],
        FeatureType::Integer => vec!["integer"],
        FeatureType::Boolean => vec!["boolean"],
        FeatureType::Category => category(feature, &mut schema),
    };
    if let Some(allowed) = feature.allowed {
        for (name, bound) in [("minimum", allowed.min), ("maximum", allowed.max)] {
            if let Some(bound) = bound {
                schema.insert(name.into(), number(bound));
            }
        }
    }
    if let Some(seen) = feature.seen
        && let (Some(min), Some(max)) = (seen.min, seen.max)
    {
        // Mostly these are binary32 numbers, which need fewer digits.
        let (min, max) = (min as f32, max as f32);
        let text = format!("{min} to {max} in the reference data; beyond it the answer has a warning");
        schema.insert("description".into(), text.into());
    }
    if feature.nullable {
        types.push("null");
        if let Some(Value::Array(values)) = schema.get_mut("enum") {
            values.push(Value::Null);
        }
    }
    let types = match types[..] {
        [one] => one.into(),
        _ => types.into(),
    };
    schema.insert("type".into(), types);
    if let Some(example) = example {
        schema.insert("examples".into(), json!([example]));
    }
    schema.into()
}

/// Fills in what a category may be, and says of which types.
fn category(feature: &Feature, schema: &mut Map<String, Value>) -> Vec<&'static str> {
    let named = !feature.encoding.is_empty();
    let mut values: Vec<Value> = feature.encoding.keys().map(|name| name.as_str().into()).collect();
    values.extend(feature.categories.iter().filter_map(|category| match category {
        Category::Name(_) if named => None,
        Category::Name(name) => Some(name.as_str().into()),
        Category::Code(code) => Some(number(*code)),
    }));
    if named {
        let codes = feature.encoding.values().map(|&code| number(code));
        values.extend(codes.filter(|code| !feature.categories.iter().any(|c| *code == self::value(c))));
    }
    let mut types = Vec::new();
    if values.iter().any(Value::is_string) {
        types.push("string");
    }
    if values.iter().any(Value::is_number) {
        types.push("number");
    }
    if types.is_empty() {
        types = vec!["string", "number"];
    }
    if feature.closed || named {
        schema.insert("enum".into(), values.into());
    } else if !values.is_empty() {
        schema.insert(
            "description".into(),
            "A category that the reference data does not have is answered with a warning".into(),
        );
        schema.insert("x-seen".into(), values.into());
    }
    types
}

/// A number as people write it: without a fraction where there is none.
fn number(value: f64) -> Value {
    if value.trunc() == value && value.abs() < 2f64.powi(53) {
        json!(value as i64)
    } else {
        json!(value)
    }
}

fn value(category: &Category) -> Value {
    match category {
        Category::Code(code) => number(*code),
        Category::Name(name) => name.as_str().into(),
    }
}

/// Features that the model answers: a golden row's where there is one.
fn example(artifact: &Artifact) -> Map<String, Value> {
    let golden = artifact.golden.rows.first().and_then(|row| {
        let mut request: Value = serde_json::from_str(&row.request).ok()?;
        match request.get_mut("features")?.take() {
            Value::Object(features) => Some(features),
            _ => None,
        }
    });
    golden.unwrap_or_else(|| {
        let features = artifact.manifest.features.iter();
        features
            .map(|feature| (feature.name.clone(), example_value(feature)))
            .collect()
    })
}

fn example_value(feature: &Feature) -> Value {
    if let Some(example) = &feature.example {
        return value(example);
    }
    if let Some(name) = feature.encoding.keys().next() {
        return name.as_str().into();
    }
    if let Some(category) = feature.categories.first() {
        return value(category);
    }
    let range = feature.seen.or(feature.allowed).unwrap_or_default();
    let middle = match (range.min, range.max) {
        (Some(min), Some(max)) => min + (max - min) / 2.0,
        (Some(end), None) | (None, Some(end)) => end,
        (None, None) => 0.0,
    };
    match feature.kind {
        FeatureType::Number => number(middle),
        FeatureType::Integer => number(middle.floor().max(range.min.unwrap_or(f64::NEG_INFINITY))),
        FeatureType::Boolean => true.into(),
        FeatureType::Category => number(0.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use modelet::golden::Golden;

    fn artifact(features: &str, output: &str, task: &str) -> Artifact {
        let manifest = format!(
            r#"{{"format":1,"name":"m","version":"1","engine":"tabular","task":"{task}","features":[{features}],
                "inputs":[],"output":{output},"batch":true,"reference":{{"rows":0,"columns":[]}},
                "provenance":{{"modelet":"0","onnx_sha256":"","onnx_bytes":0,"opsets":{{}},"operators":{{}}}}}}"#
        );
        Artifact {
            path: None,
            bytes: vec![],
            manifest: serde_json::from_str(&manifest).unwrap(),
            golden: Golden::default(),
            bundle_sha256: "aa".into(),
            file_sha256: "bb".into(),
        }
    }

    fn parsed(artifact: &Artifact) -> Value {
        serde_json::from_str(&document(artifact, "/")).unwrap()
    }

    #[test]
    fn each_feature_has_the_schema_of_what_it_accepts() {
        struct Case {
            feature: &'static str,
            schema: Value,
        }
        let cases = [
            Case {
                feature: r#""type":"number","allowed":{"min":0,"max":1.5},"seen":{"min":0.5,"max":1}"#,
                schema: json!({
                    "type": "number", "minimum": 0, "maximum": 1.5, "examples": [0.75],
                    "description": "0.5 to 1 in the reference data; beyond it the answer has a warning",
                }),
            },
            Case {
                feature: r#""type":"integer","nullable":true,"example":7"#,
                schema: json!({ "type": ["integer", "null"], "examples": [7] }),
            },
            Case {
                feature: r#""type":"boolean""#,
                schema: json!({ "type": "boolean", "examples": [true] }),
            },
            Case {
                feature: r#""type":"category","encoding":{"car":1,"medical":5},"categories":[1,5]"#,
                schema: json!({ "type": ["string", "number"], "enum": ["car", "medical", 1, 5], "examples": ["car"] }),
            },
            Case {
                feature: r#""type":"category","encoding":{"car":1},"categories":["car"],"nullable":true"#,
                schema: json!({ "type": ["string", "number", "null"], "enum": ["car", 1, null], "examples": ["car"] }),
            },
            Case {
                feature: r#""type":"category","closed":true,"categories":["a","b"]"#,
                schema: json!({ "type": "string", "enum": ["a", "b"], "examples": ["a"] }),
            },
            Case {
                feature: r#""type":"category","categories":[3,4]"#,
                schema: json!({
                    "type": "number", "x-seen": [3, 4], "examples": [3],
                    "description": "A category that the reference data does not have is answered with a warning",
                }),
            },
        ];
        for Case { feature, schema } in cases {
            let feature = format!(r#"{{"name":"x",{feature},"input":0,"column":0}}"#);
            let document = parsed(&artifact(&feature, r#"{"width":1,"kind":"value"}"#, "regression"));
            let features = &document["components"]["schemas"]["Features"];
            assert_eq!(features["properties"]["x"], schema, "{feature}");
            assert_eq!(features["additionalProperties"], false);
        }
    }

    #[test]
    fn the_answer_depends_on_the_task() {
        let names = |output: &str, task: &str| -> Vec<String> {
            let document = parsed(&artifact("", output, task));
            let answer = &document["components"]["schemas"]["Answer"]["properties"];
            answer.as_object().unwrap().keys().cloned().collect()
        };
        let common = ["id", "inference_time_ms", "model_version", "prediction"];
        assert_eq!(
            names(r#"{"width":1,"kind":"value"}"#, "regression"),
            [&common[..], &["warnings"]].concat()
        );
        assert_eq!(
            names(
                r#"{"labels":[0,1],"positive":1,"width":2,"kind":"probability"}"#,
                "binary"
            ),
            [&common[..], &["probabilities", "probability", "warnings"]].concat()
        );
        assert_eq!(
            names(r#"{"label":0,"width":1,"kind":"decision"}"#, "outlier"),
            [&common[..], &["score", "warnings"]].concat()
        );
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn check(document: &Value, value: &Value) {
            match value {
                Value::Object(members) => {
                    if let Some(Value::String(reference)) = members.get("$ref") {
                        let pointer = reference.strip_prefix('#').unwrap();
                        assert!(document.pointer(pointer).is_some(), "{reference}");
                    }
                    members.values().for_each(|value| check(document, value));
                }
                Value::Array(items) => items.iter().for_each(|value| check(document, value)),
                _ => {}
            }
        }
        let document = parsed(&artifact(
            "",
            r#"{"labels":["a","b"],"positive":1,"width":2,"kind":"probability"}"#,
            "binary",
        ));
        check(&document, &document);
    }
}
