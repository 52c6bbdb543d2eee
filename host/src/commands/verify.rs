//! `modelet verify`: golden rows against the component or an endpoint.

mod http;

use super::Status;
use crate::artifact::Artifact;
use crate::cli::VerifyArgs;
use crate::output::{Output, Paint, Unit, count};
use crate::runtime::RuntimeConfig;
use anyhow::{Context, bail};
use http::Endpoint;
use modelet::golden::{GoldenRow, comparable};
use serde::{Deserialize, Serialize};

/// Differences that are told.
const TOLD_MAX: usize = 3;

/// How the golden rows were answered.
#[derive(Debug, Serialize)]
struct Report {
    rows: usize,
    equal: usize,
    differences: Vec<Difference>,
}

/// An answer that is not the golden one.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Difference {
    row: usize,
    request: String,
    expected: String,
    got: String,
}

pub fn run(args: &VerifyArgs, output: &Output) -> anyhow::Result<Status> {
    let artifact = super::open(&args.model)?;
    if artifact.golden.rows.is_empty() {
        bail!("{}: the model was packed without golden rows", args.model.display());
    }
    let progress = output.progress();
    let each = |ask: &mut dyn FnMut(&str) -> anyhow::Result<String>| {
        progress.start("verifying", Some(artifact.golden.rows.len() as u64), Unit::Rows);
        compare(&artifact.golden.rows, |request| {
            progress.advance(1);
            ask(request)
        })
    };
    let report = match &args.url {
        Some(url) => {
            let endpoint = Endpoint::parse(url).with_context(|| format!("--url {url}"))?;
            note_other_model(&endpoint, &artifact, output).with_context(|| url.clone())?;
            each(&mut |request| {
                let response = endpoint.post("/predict", request).with_context(|| url.clone())?;
                Ok(match response.status {
                    200 => response.body,
                    404 => bail!("{url}: /predict is not found there (404); give the address that it follows"),
                    status => format!("status {status}: {}", response.body),
                })
            })?
        }
        None => {
            let loaded = super::load(&artifact, RuntimeConfig::default(), output)?;
            each(&mut |request| {
                Ok(match loaded.predict(request.as_bytes(), None) {
                    Ok(Ok(reply)) => String::from_utf8_lossy(&reply.body).into_owned(),
                    Ok(Err(problem)) => {
                        format!("status {}: {}", problem.status, String::from_utf8_lossy(&problem.body))
                    }
                    Err(error) => error.to_string(),
                })
            })?
        }
    };
    progress.finish();
    match args.json {
        true => output.print_json(&report)?,
        false => output.print(text(&report, output))?,
    }
    Ok(match report.differences.is_empty() {
        true => Status::Good,
        false => Status::No,
    })
}

fn compare(rows: &[GoldenRow], mut ask: impl FnMut(&str) -> anyhow::Result<String>) -> anyhow::Result<Report> {
    let mut differences = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let answer = ask(&row.request)?;
        let got = comparable(&answer);
        if got != row.answer {
            differences.push(Difference {
                row: index + 1,
                request: row.request.clone(),
                expected: row.answer.clone(),
                got: got.to_owned(),
            });
        }
    }
    Ok(Report {
        rows: rows.len(),
        equal: rows.len() - differences.len(),
        differences,
    })
}

/// Answers of another model differ, and it helps to know that it is another.
fn note_other_model(endpoint: &Endpoint, artifact: &Artifact, output: &Output) -> anyhow::Result<()> {
    #[derive(Deserialize)]
    struct Info {
        name: String,
        version: String,
        bundle_sha256: String,
    }
    let response = endpoint.get("/model/info")?;
    if let Ok(info) = serde_json::from_str::<Info>(&response.body)
        && info.bundle_sha256 != artifact.bundle_sha256
    {
        output.note(format!(
            "the endpoint serves another model: {} {} with bundle sha256 {}, not {}",
            info.name, info.version, info.bundle_sha256, artifact.bundle_sha256
        ));
    }
    Ok(())
}

fn text(report: &Report, output: &Output) -> String {
    let rows = count(report.rows as u64, "golden row");
    if report.differences.is_empty() {
        return format!(
            "{}\n",
            output.paint(Paint::Green, format!("{} of {rows} equal", report.equal))
        );
    }
    let mut text = format!(
        "{}\n",
        output.paint(Paint::Red, format!("{} of {rows} equal", report.equal))
    );
    for difference in report.differences.iter().take(TOLD_MAX) {
        text.push_str(&format!(
            "  row {}\n    request   {}\n    expected  {}\n    got       {}\n",
            difference.row, difference.request, difference.expected, difference.got
        ));
    }
    if report.differences.len() > TOLD_MAX {
        text.push_str(&format!("  … and {} more\n", report.differences.len() - TOLD_MAX));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(count: usize) -> Vec<GoldenRow> {
        (0..count)
            .map(|i| GoldenRow {
                request: i.to_string(),
                answer: format!("{{\"prediction\":{i}"),
            })
            .collect()
    }

    #[test]
    fn answers_are_compared_up_to_what_differs_from_call_to_call() {
        let answer = |request: &str| {
            Ok(format!(
                "{{\"prediction\":{request},\"inference_time_ms\":0.0{request},\"id\":\"x\"}}"
            ))
        };
        let report = compare(&rows(5), answer).unwrap();
        assert_eq!((report.rows, report.equal), (5, 5));
        assert_eq!(text(&report, &Output::plain()), "5 of 5 golden rows equal\n");
    }

    #[test]
    fn the_first_differences_are_told_with_both_answers() {
        let report = compare(&rows(5), |_| Ok("{\"prediction\":3,\"inference_time_ms\":1}".into())).unwrap();
        assert_eq!(report.equal, 1);
        let text = text(&report, &Output::plain());
        let start = "1 of 5 golden rows equal\n  row 1\n    request   0\n    expected  {\"prediction\":0\n    got       {\"prediction\":3\n";
        assert!(text.starts_with(start), "{text}");
        assert!(text.ends_with("  … and 1 more\n"), "{text}");
    }
}
