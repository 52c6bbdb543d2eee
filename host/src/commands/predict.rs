//! `modelet predict`

use super::{Status, UsageError};
use crate::artifact::Artifact;
use crate::cli::PredictArgs;
use crate::data::is_standard;
use crate::output::{Align, Output, grid, indented};
use crate::runtime::RuntimeConfig;
use anyhow::{Context, anyhow};
use modelet::api::valid_request_id;
use modelet::signature::Manifest;
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::collections::HashMap;
use std::io::Read;

pub fn run(args: &PredictArgs, output: &Output) -> anyhow::Result<Status> {
    if let Some(id) = args.id.as_deref().filter(|id| !valid_request_id(id)) {
        return Err(UsageError(format!("--id {id:?}: expected 1 to 256 visible ASCII characters")).into());
    }
    let artifact = super::open(&args.model)?;
    let request = wrapped(request(args, &artifact)?, &artifact.manifest);
    let loaded = super::load(&artifact, RuntimeConfig::default(), output)?;
    match loaded.predict(&request, args.id.as_deref())? {
        Ok(reply) => {
            let answer = String::from_utf8_lossy(&reply.body);
            let text = match output.is_terminal() {
                true => indented(&answer),
                false => answer.into_owned(),
            };
            output.print(text + "\n")?;
            Ok(Status::Good)
        }
        Err(problem) => Err(anyhow!(refusal(&problem.body, output))),
    }
}

fn request(args: &PredictArgs, artifact: &Artifact) -> anyhow::Result<Vec<u8>> {
    if let Some(input) = &args.input {
        return Ok(input.clone().into_bytes());
    }
    let Some(file) = &args.file else {
        let mut message = "a request is missing: give --input JSON, a file, or - for standard input".to_owned();
        if let Some(row) = artifact.golden.rows.first() {
            message.push_str("; for example\n  ");
            message.push_str(&example(&args.model.display().to_string(), &row.request));
        }
        return Err(UsageError(message).into());
    };
    if is_standard(file) {
        let mut request = Vec::new();
        std::io::stdin()
            .lock()
            .read_to_end(&mut request)
            .context("standard input")?;
        return Ok(request);
    }
    std::fs::read(file).with_context(|| file.display().to_string())
}

/// A command line that works when it is pasted into a shell.
fn example(model: &str, request: &str) -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
    format!("modelet predict {} --input {}", quoted(model), quoted(request))
}

/// The features' object alone becomes a request. What is neither is passed on,
/// so that the model says what is wrong with it.
fn wrapped(request: Vec<u8>, manifest: &Manifest) -> Vec<u8> {
    let request = match request.strip_prefix("\u{feff}".as_bytes()) {
        Some(rest) => rest.to_vec(),
        None => request,
    };
    let Ok(members) = serde_json::from_slice::<HashMap<String, IgnoredAny>>(&request) else {
        return request;
    };
    let bare = !members.contains_key("features") && manifest.features.iter().any(|f| members.contains_key(&f.name));
    match bare {
        true => [b"{\"features\":", &request[..], b"}"].concat(),
        false => request,
    }
}

/// A problem document, as far as people want to read it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Refusal {
    title: String,
    pub(super) detail: String,
    pub(super) faults: Vec<Fault>,
    faults_omitted: usize,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Fault {
    pub(super) feature: Option<String>,
    code: String,
    pub(super) message: String,
    accepted: Option<String>,
}

fn refusal(problem: &[u8], output: &Output) -> String {
    let Ok(refusal) = serde_json::from_slice::<Refusal>(problem) else {
        return String::from_utf8_lossy(problem).into_owned();
    };
    let mut text = format!("{}: {}", refusal.title, refusal.detail);
    let rows: Vec<Vec<String>> = refusal
        .faults
        .into_iter()
        .map(|fault| {
            vec![
                fault.feature.unwrap_or_default(),
                fault.code,
                fault.message,
                fault.accepted.unwrap_or_default(),
            ]
        })
        .collect();
    if !rows.is_empty() {
        let header = ["feature", "fault", "what is wrong", "accepted"].map(|title| (title, Align::Left));
        text.push('\n');
        text.push_str(grid(output, &header, &rows).trim_end());
    }
    if refusal.faults_omitted > 0 {
        text.push_str(&format!("\n  … and {} more", refusal.faults_omitted));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        serde_json::from_str(
            r#"{"format":1,"name":"m","version":"1","engine":"tabular","task":"regression",
            "features":[{"name":"x","type":"number","input":0,"column":0}],
            "inputs":[{"name":"X","dtype":"float32","shape":[1]}],"output":{"width":1,"kind":"value"},"batch":true,
            "reference":{"rows":0,"columns":[]},
            "provenance":{"modelet":"0","onnx_sha256":"","onnx_bytes":0,"opsets":{},"operators":{}}}"#,
        )
        .unwrap()
    }

    #[test]
    fn features_alone_become_a_request_and_all_else_is_passed_on() {
        struct Case(&'static str, &'static str);
        for Case(request, expected) in [
            Case(r#"{"x": 1}"#, r#"{"features":{"x": 1}}"#),
            Case(r#"{"x": 1e400, "x": 1}"#, r#"{"features":{"x": 1e400, "x": 1}}"#),
            Case(r#"{"features": {"x": 1}}"#, r#"{"features": {"x": 1}}"#),
            Case(r#"{"feature": {"x": 1}}"#, r#"{"feature": {"x": 1}}"#),
            Case("[1", "[1"),
            Case("\u{feff}{}", "{}"),
        ] {
            let got = wrapped(request.as_bytes().to_vec(), &manifest());
            assert_eq!(String::from_utf8(got).unwrap(), expected);
        }
    }

    #[test]
    fn a_problem_is_told_as_a_table() {
        let problem = br#"{"type":"urn:x","title":"The features are not good","status":422,"detail":"2 faults",
            "faults":[{"feature":"x","code":"type","message":"expected a number but got the text \"a\"","accepted":"a number"},
                      {"code":"syntax","message":"odd"}],"faults_omitted":3}"#;
        let expected = r#"The features are not good: 2 faults
  feature  fault   what is wrong                           accepted
  x        type    expected a number but got the text "a"  a number
           syntax  odd
  … and 3 more"#;
        assert_eq!(refusal(problem, &Output::plain()), expected);
        assert_eq!(refusal(b"not json", &Output::plain()), "not json");
    }

    #[test]
    fn the_example_can_be_pasted() {
        assert_eq!(
            example("my model.wasm", r#"{"a":"it's"}"#),
            r#"modelet predict 'my model.wasm' --input '{"a":"it'\''s"}'"#
        );
    }
}
