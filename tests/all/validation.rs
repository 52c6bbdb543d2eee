//! What a request may be, and what is said of one that is not: all faults at
//! once, by feature and code.

use crate::support::{credit_request, credit_service};
use modelet::api::{BatchOptions, Format, OnError, Reply, Service};
use serde_json::{Value, json};

fn predict(service: &mut Service, body: &str) -> (u16, Value) {
    outcome(service.predict(body.as_bytes(), Some("the-id"), || 0))
}

fn outcome(reply: Reply) -> (u16, Value) {
    let (status, body) = match reply.problem {
        None => (200, reply.body),
        Some(problem) => (problem.kind.status(), problem.body),
    };
    (status, serde_json::from_slice(&body).expect("an answer is JSON"))
}

/// The example request with changes to its features.
fn request(change: impl FnOnce(&mut serde_json::Map<String, Value>)) -> String {
    let mut request: Value = serde_json::from_str(&credit_request()).expect("the example is JSON");
    change(request["features"].as_object_mut().expect("features"));
    request.to_string()
}

/// The faults of a problem, as `feature code`, sorted.
fn faults(problem: &Value) -> Vec<String> {
    let mut faults: Vec<String> = problem["faults"]
        .as_array()
        .map(|list| {
            list.iter()
                .map(|f| {
                    format!(
                        "{} {}",
                        f["feature"].as_str().unwrap_or("-"),
                        f["code"].as_str().unwrap_or("-")
                    )
                })
                .collect()
        })
        .unwrap_or_default();
    faults.sort();
    faults
}

#[test]
fn a_good_request_is_answered_with_its_id_last() {
    let mut service = credit_service();
    let reply = service.predict(credit_request().as_bytes(), Some("the-id"), || 0);
    let text = String::from_utf8(reply.body).expect("an answer is text");
    assert!(text.starts_with("{\"prediction\":0,\"probability\":0.148"), "{text}");
    assert!(
        text.ends_with(",\"model_version\":\"1.0.0\",\"inference_time_ms\":0,\"id\":\"the-id\"}"),
        "{text}"
    );
    assert_eq!(reply.status, [0]);
    assert_eq!(reply.columns, 22);
    assert_eq!(reply.bins.len(), 22);
    let own = credit_request().replacen('{', "{\"id\": \"mine\",", 1);
    let (_, answer) = predict(&mut service, &own);
    assert_eq!(answer["id"], "mine");
}

#[test]
fn all_faults_of_a_request_are_told_at_once() {
    let mut service = credit_service();
    let body = request(|f| {
        f.insert("age".into(), json!("young"));
        f.insert("income".into(), json!(-5));
        f.insert("num_dependents".into(), json!(1.5));
        f.insert("loan_purpose".into(), json!("yacht"));
        f.insert("region".into(), json!([1, {"a": 2}]));
        f.insert("debt_ratoi".into(), f["debt_ratio"].clone());
        f.remove("debt_ratio");
        f.insert("loan_amount".into(), Value::Null);
    });
    let (status, problem) = predict(&mut service, &body);
    assert_eq!(status, 422);
    assert_eq!(problem["type"], "urn:modelet:problem:invalid-features");
    assert_eq!(problem["status"], 422);
    assert_eq!(problem["id"], "the-id");
    assert_eq!(
        faults(&problem),
        [
            "age type",
            "debt_ratio missing",
            "debt_ratoi unknown",
            "income range",
            "loan_amount missing",
            "loan_purpose category",
            "num_dependents type",
            "region type",
        ]
    );
    let text = problem.to_string();
    assert!(text.contains("did you mean \\\"debt_ratio\\\"?"), "{text}");
    assert!(
        text.contains("home_improvement"),
        "the accepted categories are listed: {text}"
    );
}

#[test]
fn numbers_that_no_model_takes_are_faults_by_name() {
    let mut service = credit_service();
    let with = |age: &str| request(|_| {}).replacen("\"age\":", &format!("\"age\":{age},\"was\":"), 1);
    for (number, code) in [
        ("NaN", "not_finite"),
        ("Infinity", "not_finite"),
        ("1e999", "not_finite"),
        ("-1e999", "not_finite"),
        ("1e39", "not_finite"),
        ("1e38", "range"),
        ("true", "type"),
        ("\"40\"", "type"),
    ] {
        let (status, problem) = predict(&mut service, &with(number));
        assert_eq!(status, 422, "{number}: {problem}");
        assert_eq!(
            faults(&problem),
            [format!("age {code}"), "was unknown".to_owned()],
            "{number}"
        );
    }
}

#[test]
fn duplicates_are_told_and_the_other_faults_too() {
    let mut service = credit_service();
    let body = request(|f| {
        f.insert("income".into(), json!("much"));
    })
    .replacen("\"age\":", "\"age\":30,\"age\":", 1);
    let (status, problem) = predict(&mut service, &body);
    assert_eq!(
        (status, faults(&problem)),
        (422, vec!["age duplicate".into(), "income type".into()])
    );
}

#[test]
fn what_is_not_json_is_a_malformed_body_that_says_where() {
    let mut service = credit_service();
    let deep = format!(
        "{{\"features\": {{\"age\": {}1{}}}}}",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    for body in [
        "",
        "nonsense",
        "{",
        "{\"features\": {\"age\": }}",
        "[1, 2",
        "{\"features\": {}} trailing",
        &deep,
        "\u{0}",
    ] {
        let (status, problem) = predict(&mut service, body);
        assert_eq!(status, 400, "{:.40}", body);
        assert_eq!(problem["type"], "urn:modelet:problem:malformed-body");
        assert!(
            problem["detail"]
                .as_str()
                .is_some_and(|d| d.contains("at line 1, column")),
            "{problem}"
        );
    }
    let (status, problem) = outcome(service.predict(b"{\"features\": {\"a\xff\": 1}}", None, || 0));
    assert_eq!(status, 400);
    assert!(
        problem["detail"].as_str().is_some_and(|d| d.contains("UTF-8")),
        "{problem}"
    );
}

#[test]
fn requests_of_another_form_are_told_what_is_expected() {
    let mut service = credit_service();
    for (body, fault) in [
        ("[1, 2, 3]", "- type"),
        ("3", "- type"),
        ("null", "- type"),
        ("{\"features\": [1, 2]}", "features type"),
        ("{\"features\": 7}", "features type"),
        ("{}", "features missing"),
    ] {
        let (status, problem) = predict(&mut service, body);
        assert_eq!(status, 422, "{body}");
        assert!(faults(&problem).contains(&fault.to_owned()), "{body}: {problem}");
    }
    let (status, problem) = predict(&mut service, "{\"age\": 30}");
    assert_eq!(status, 422);
    assert!(problem.to_string().contains("belong inside"), "{problem}");
}

#[test]
fn missing_values_are_accepted_where_the_model_has_seen_them() {
    let mut service = credit_service();
    let absent = request(|f| drop(f.remove("months_since_last_delinquency")));
    let null = request(|f| drop(f.insert("months_since_last_delinquency".into(), Value::Null)));
    let (a, b) = (predict(&mut service, &absent), predict(&mut service, &null));
    assert_eq!(a.0, 200, "{}", a.1);
    assert_eq!(a, b);
}

#[test]
fn values_beyond_the_reference_are_warned_of_and_answered() {
    let mut service = credit_service();
    let (status, answer) = predict(
        &mut service,
        &request(|f| drop(f.insert("savings_balance".into(), json!(1e9)))),
    );
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["warnings"][0]["feature"], "savings_balance");
    assert_eq!(answer["warnings"][0]["code"], "range");
}

#[test]
fn codes_are_accepted_where_names_are() {
    let mut service = credit_service();
    let name = predict(
        &mut service,
        &request(|f| drop(f.insert("home_ownership".into(), json!("RENT")))),
    );
    let code = predict(
        &mut service,
        &request(|f| drop(f.insert("home_ownership".into(), json!(3)))),
    );
    assert_eq!(name, code);
    let wrong = predict(
        &mut service,
        &request(|f| drop(f.insert("home_ownership".into(), json!(17)))),
    );
    assert_eq!(faults(&wrong.1), ["home_ownership category"]);
}

const REPORT: BatchOptions = BatchOptions {
    format: Format::Json,
    on_error: OnError::Report,
    full: false,
    rows_max: 10,
};

#[test]
fn the_bad_rows_of_a_batch_are_told_and_the_good_ones_answered() {
    let mut service = credit_service();
    let good: Value = serde_json::from_str(&credit_request()).expect("the example is JSON");
    let features = &good["features"];
    // A row may be the features alone, or a whole request.
    let body = json!({"instances": [features, {"age": "old"}, good, 5]}).to_string();
    let reply = service.predict_batch(body.as_bytes(), REPORT, None, || 0);
    assert_eq!(reply.status, [0, 1, 0, 1]);
    let (status, answer) = outcome(reply);
    assert_eq!(status, 200);
    let rows = answer["predictions"].as_array().expect("predictions");
    assert_eq!(rows.len(), 4);
    assert_eq!(rows[0], rows[2]);
    assert_eq!(rows[1]["index"], 1);
    assert!(faults(&rows[1]["error"]).contains(&"age type".to_owned()));
    assert_eq!(rows[3]["index"], 3);
    let fail = BatchOptions {
        on_error: OnError::Fail,
        ..REPORT
    };
    let (status, problem) = outcome(service.predict_batch(body.as_bytes(), fail, None, || 0));
    assert_eq!(status, 422);
    assert_eq!(problem["rows"].as_array().map(Vec::len), Some(2));
}

#[test]
fn the_three_forms_of_a_batch_give_the_same_answers() {
    let mut service = credit_service();
    let good: Value = serde_json::from_str(&credit_request()).expect("the example is JSON");
    let features = good["features"].as_object().expect("features");
    let json = json!({"instances": [features, features]}).to_string();
    let ndjson = format!("{}\n\n{}\r\n", good["features"], good);
    let cell = |value: &Value| match value {
        Value::Null => String::new(),
        Value::String(text) => format!("\"{text}\""),
        other => other.to_string(),
    };
    // The columns may come in any order.
    let names: Vec<&str> = features.keys().rev().map(String::as_str).collect();
    let values: Vec<String> = features.values().rev().map(cell).collect();
    let csv = format!(
        "\u{feff}{}\r\n{}\r\n{}\r\n",
        names.join(","),
        values.join(","),
        values.join(",")
    );
    let mut answers = [(Format::Json, json), (Format::Ndjson, ndjson), (Format::Csv, csv)].map(|(format, body)| {
        outcome(service.predict_batch(body.as_bytes(), BatchOptions { format, ..REPORT }, None, || 0))
    });
    for (status, answer) in &mut answers {
        assert_eq!(*status, 200, "{answer}");
        assert!(answer["predictions"][0]["error"].is_null(), "{answer}");
    }
    assert_eq!(answers[0], answers[1]);
    assert_eq!(answers[0], answers[2]);
}

#[test]
fn broken_batches_are_refused_whole_or_row_by_row() {
    let mut service = credit_service();
    let mut batch = |format: Format, body: &str| {
        outcome(service.predict_batch(body.as_bytes(), BatchOptions { format, ..REPORT }, None, || 0))
    };
    for (format, body, status) in [
        (Format::Json, "{\"instances\": []}", 422),
        (Format::Json, "{}", 400),
        (Format::Json, "[]", 400),
        (Format::Json, "{\"instances\": {}}", 400),
        (Format::Json, "{\"instances\": [{\"age\": 1}", 400),
        (Format::Json, "{\"instances\": [], \"more\": 1}", 400),
        (Format::Ndjson, "", 422),
        (Format::Csv, "", 400),
        (Format::Csv, "age,income\n", 422),
        (Format::Csv, "age,age\n1,2\n", 400),
        (Format::Csv, "age,income\n1,\"2\n3,4\n", 400),
    ] {
        let (got, problem) = batch(format, body);
        assert_eq!(got, status, "{body:?}: {problem}");
    }
    let (status, answer) = batch(Format::Ndjson, "{\"age\": \n[1]\nnull");
    assert_eq!(status, 200);
    assert_eq!(
        answer["predictions"][0]["error"]["type"],
        "urn:modelet:problem:malformed-body"
    );
    assert_eq!(answer["predictions"].as_array().map(Vec::len), Some(3));
    let (status, answer) = batch(Format::Csv, "age,income\n1\n");
    assert_eq!(
        (status, &answer["predictions"][0]["error"]["faults"][0]["code"]),
        (200, &json!("syntax"))
    );
    let many = format!("{{\"instances\": [{}]}}", ["{}"; 11].join(","));
    assert_eq!(batch(Format::Json, &many).0, 413);
}

#[test]
fn words_for_a_missing_value_in_csv_are_empty_cells() {
    let mut service = credit_service();
    let request: Value = serde_json::from_str(&credit_request()).expect("the example is JSON");
    let features = request["features"].as_object().expect("features");
    let names: Vec<&str> = features.keys().map(String::as_str).collect();
    let row = |feature: &str, cell: &str| {
        let cells = features.iter().map(|(name, value)| match (name == feature, value) {
            (true, _) => cell.to_owned(),
            (false, Value::String(text)) => text.clone(),
            (false, value) => value.to_string(),
        });
        cells.collect::<Vec<_>>().join(",")
    };
    let words = ["", "NA", "NaN", "nan", "NULL", "None", "<NA>"];
    let rows = words.map(|word| row("savings_balance", word)).join("\n");
    let body = format!("{}\n{rows}\n{}\n", names.join(","), row("age", "NA"));
    let options = BatchOptions {
        format: Format::Csv,
        ..REPORT
    };
    let (status, answer) = outcome(service.predict_batch(body.as_bytes(), options, None, || 0));
    let rows = answer["predictions"].as_array().expect("rows");
    assert_eq!((status, rows.len()), (200, words.len() + 1));
    for (row, word) in rows.iter().zip(words) {
        assert_eq!(row["probability"], rows[0]["probability"], "{word}: {row}");
        assert!(row["probability"].is_number(), "{word}: {row}");
    }
    assert_eq!(faults(&rows[words.len()]["error"]), ["age missing"]);
}

#[test]
fn a_batch_answers_each_row_as_if_it_were_alone() {
    let mut service = credit_service();
    let csv = std::fs::read(crate::support::root().join("examples/credit/holdout.csv")).expect("rows");
    let mut lines = csv.split(|&b| b == b'\n').filter(|l| !l.is_empty());
    // The last column is the label, which is no feature.
    let cut = |line: &[u8]| line[..line.iter().rposition(|&b| b == b',').expect("columns")].to_vec();
    let header = cut(lines.next().expect("a header"));
    let rows: Vec<Vec<u8>> = lines.map(cut).collect();
    let options = BatchOptions {
        format: Format::Csv,
        on_error: OnError::Fail,
        full: true,
        rows_max: 100_000,
    };
    let together = [header.clone(), rows.join(&b'\n')].join(&b'\n');
    let (status, all) = outcome(service.predict_batch(&together, options, None, || 0));
    assert_eq!(status, 200, "{all}");
    let all = all["predictions"].as_array().expect("predictions").clone();
    assert_eq!(all.len(), 1000);
    for (row, expected) in rows.iter().zip(&all) {
        let alone = [header.clone(), row.clone()].join(&b'\n');
        let (_, one) = outcome(service.predict_batch(&alone, options, None, || 0));
        assert_eq!(&one["predictions"][0], expected);
    }
}

#[test]
fn an_id_is_one_that_a_header_can_carry() {
    let mut service = credit_service();
    let with_id = |id: &str| credit_request().replacen('{', &format!("{{\"id\": {id},"), 1);
    for (id, answered) in [("\"abc-1\"", "abc-1"), ("17", "17"), ("null", "the-id")] {
        let (status, answer) = predict(&mut service, &with_id(id));
        assert_eq!((status, answer["id"].as_str()), (200, Some(answered)), "{id}");
    }
    for (id, code) in [
        (r#""a\nb""#, "id type"),
        (r#""é""#, "id type"),
        ("\"\"", "id type"),
        ("true", "id type"),
        (&format!("\"{}\"", "x".repeat(257)), "id too_long"),
    ] {
        let (status, problem) = predict(&mut service, &with_id(id));
        assert_eq!((status, faults(&problem)), (422, vec![code.to_owned()]), "{id}");
    }
    // A refusal carries the id too.
    let bad = with_id("\"mine\"").replacen("\"age\"", "\"aged\"", 1);
    let reply = service.predict(bad.as_bytes(), Some("the-id"), || 0);
    assert_eq!(reply.id.as_deref(), Some("mine"));
    let batch = "{\"id\": 5, \"instances\": [{}]}";
    assert_eq!(
        outcome(service.predict_batch(batch.as_bytes(), REPORT, None, || 0)).1["id"],
        "5"
    );
}

#[test]
fn however_many_faults_there_are_each_row_tells_one_and_how_many_more() {
    let mut service = credit_service();
    let rows = 12_000;
    let every = BatchOptions {
        rows_max: rows as u32,
        format: Format::Csv,
        ..REPORT
    };
    let mut body = String::from("age,agee\n");
    (0..rows).for_each(|_| body.push_str("x,1\n"));
    let reply = service.predict_batch(body.as_bytes(), every, None, || 0);
    let (status, answer) = outcome(reply);
    assert_eq!(status, 200);
    for entry in answer["predictions"].as_array().expect("predictions") {
        let told = entry["error"]["faults"].as_array().expect("faults").len();
        let omitted = entry["error"]["faults_omitted"].as_u64().unwrap_or(0) as usize;
        assert!(told > 0);
        // Two that are given and wrong, 14 that are missing and may not be.
        assert_eq!(told + omitted, 16);
        let detail = entry["error"]["detail"].as_str().expect("a detail");
        assert!(detail.starts_with("16 faults"), "{detail}");
    }
}

#[test]
fn however_many_warnings_there_are_each_row_tells_one_and_how_many_more() {
    let mut service = credit_service();
    let rows = 6_000;
    let every = BatchOptions {
        rows_max: rows as u32,
        format: Format::Ndjson,
        ..REPORT
    };
    let row = request(|f| {
        f.insert("income".into(), json!(9e7));
        f.insert("savings_balance".into(), json!(9e7));
    });
    let body = format!("{row}\n").repeat(rows);
    let (status, answer) = outcome(service.predict_batch(body.as_bytes(), every, None, || 0));
    assert_eq!(status, 200);
    for entry in answer["predictions"].as_array().expect("predictions") {
        let told = entry["warnings"].as_array().map_or(0, Vec::len) as u64;
        assert!(
            told > 0 && told + entry["warnings_omitted"].as_u64().unwrap_or(0) == 2,
            "{entry}"
        );
    }
}

#[test]
fn a_syntax_error_in_a_batch_is_told_without_the_faults_of_other_rows() {
    let mut service = credit_service();
    let body = "{\"instances\": [{\"age\": \"x\"}, {\"age\": ?}]}";
    let (status, problem) = outcome(service.predict_batch(body.as_bytes(), REPORT, None, || 0));
    assert_eq!((status, faults(&problem)), (400, vec!["- syntax".to_owned()]));
}

#[test]
fn a_query_parameter_that_is_none_is_refused() {
    let options = |query| BatchOptions::from_request(query, Some("text/csv"), 10);
    assert!(options("on_error=fail&outputs=full").is_ok());
    let problem = options("onerror=fail").expect_err("there is no such parameter");
    assert_eq!(problem.kind.status(), 400);
}
