//! `modelet inspect`

use super::Status;
use crate::artifact::Artifact;
use crate::cli::InspectArgs;
use crate::output::{Align, Output, Paint, bytes, count, grid};
use modelet::api::json;
use modelet::signature::{Feature, Manifest, Range, ScoreKind, Unknown};
use serde::Serialize;
use std::fmt::Write;

pub fn run(args: &InspectArgs, output: &Output) -> anyhow::Result<Status> {
    let artifact = super::open(&args.model)?;
    match args.json {
        true => output.print_json(&Report::new(&artifact))?,
        false => output.print(text(&artifact, output))?,
    }
    Ok(Status::Good)
}

/// The manifest, and what is known of the file beside it.
#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    manifest: &'a Manifest,
    bundle_sha256: &'a str,
    file_sha256: &'a str,
    file_bytes: usize,
    golden_rows: usize,
}

impl<'a> Report<'a> {
    fn new(artifact: &'a Artifact) -> Report<'a> {
        Report {
            manifest: &artifact.manifest,
            bundle_sha256: &artifact.bundle_sha256,
            file_sha256: &artifact.file_sha256,
            file_bytes: artifact.bytes.len(),
            golden_rows: artifact.golden.rows.len(),
        }
    }
}

/// The task with its classes.
pub(super) fn task(manifest: &Manifest) -> String {
    const LISTED_MAX: usize = 10;
    let labels = &manifest.output.labels;
    let mut text = manifest.task.name().to_owned();
    for i in 0..labels.len().min(LISTED_MAX) {
        text.push_str(if i == 0 { ": " } else { ", " });
        text.push_str(&labels.text(i));
    }
    if labels.len() > LISTED_MAX {
        let _ = write!(text, ", … ({} classes)", labels.len());
    }
    if let Some(positive) = manifest.output.positive {
        let _ = write!(text, " (positive: {})", labels.text(positive as usize));
    }
    text
}

fn text(artifact: &Artifact, output: &Output) -> String {
    let manifest = &artifact.manifest;
    let provenance = &manifest.provenance;
    let title = format!("{} {}", manifest.name, manifest.version);
    let mut text = format!("{}\n", output.paint(Paint::Bold, title));
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "  {} {value}", output.paint(Paint::Dim, format!("{name:<10}")));
    };
    line("task", task(manifest));
    line(
        "scores",
        match (manifest.output.width, manifest.output.kind) {
            (0, _) => "none".into(),
            (width, ScoreKind::Probability) => count(width.into(), "probability column"),
            (width, ScoreKind::Decision) => count(width.into(), "decision score"),
            (width, ScoreKind::Value) => count(width.into(), "value"),
        },
    );
    line("engine", manifest.engine.name().into());
    line("bundle", format!("sha256 {}", artifact.bundle_sha256));
    line(
        "file",
        format!(
            "{}, sha256 {}",
            bytes(artifact.bytes.len() as u64),
            artifact.file_sha256
        ),
    );
    line("packed by", format!("modelet {}", provenance.modelet));
    let mut source = format!("{}, sha256 {}", bytes(provenance.onnx_bytes), provenance.onnx_sha256);
    if !provenance.producer.is_empty() {
        let _ = write!(source, ", by {}", provenance.producer);
    }
    line("onnx", source);
    line(
        "opsets",
        listed(
            provenance
                .opsets
                .iter()
                .map(|(name, version)| format!("{name} {version}")),
        ),
    );
    line(
        "operators",
        listed(provenance.operators.iter().map(|(name, count)| match count {
            1 => name.clone(),
            count => format!("{count} {name}"),
        })),
    );
    line(
        "reference",
        match manifest.reference.rows {
            0 => "none".into(),
            rows => count(rows, "row"),
        },
    );
    if let Some(sha256) = &provenance.data_sha256 {
        line("data", format!("sha256 {sha256}"));
    }
    if let Some(difference) = provenance.expected_max_difference {
        line("expected", format!("answers off by at most {difference:.1e}"));
    }
    line("golden", count(artifact.golden.rows.len() as u64, "row"));
    line(
        "unknown",
        match manifest.unknown {
            Unknown::Error => "features that the model does not have are faults".into(),
            Unknown::Ignore => "features that the model does not have are passed over".into(),
        },
    );
    let heading = output.paint(Paint::Bold, count(manifest.features.len() as u64, "feature"));
    let _ = writeln!(text, "\n{heading}");
    let header = ["name", "type", "missing", "seen", "allowed", "categories"].map(|title| (title, Align::Left));
    let rows: Vec<Vec<String>> = manifest.features.iter().map(row).collect();
    text.push_str(&grid(output, &header, &rows));
    text
}

fn row(feature: &Feature) -> Vec<String> {
    vec![
        feature.name.clone(),
        feature.kind.name().into(),
        if feature.nullable { "accepted" } else { "" }.into(),
        range(feature.seen),
        range(feature.allowed),
        categories(feature),
    ]
}

fn range(range: Option<Range>) -> String {
    match range.map(|range| (range.min, range.max)) {
        None | Some((None, None)) => String::new(),
        Some((Some(min), Some(max))) => format!("{} to {}", number(min), number(max)),
        Some((Some(min), None)) => format!("from {}", number(min)),
        Some((None, Some(max))) => format!("up to {}", number(max)),
    }
}

/// A number with the digits of binary32 where it is one.
fn number(value: f64) -> String {
    let mut text = Vec::new();
    match value as f32 {
        short if f64::from(short) == value => json::f32(&mut text, short),
        _ => json::f64(&mut text, value),
    }
    String::from_utf8_lossy(&text).into_owned()
}

fn categories(feature: &Feature) -> String {
    const LISTED_MAX: usize = 8;
    let names: Vec<String> = match feature.encoding.is_empty() {
        true => feature.categories.iter().map(|c| c.to_string()).collect(),
        false => feature
            .encoding
            .iter()
            .map(|(name, code)| format!("{name:?}={code}"))
            .collect(),
    };
    let mut text = names[..names.len().min(LISTED_MAX)].join(", ");
    if names.len() > LISTED_MAX {
        let _ = write!(text, ", … ({})", names.len());
    }
    if feature.closed {
        text.push_str(" and no other");
    }
    text
}

fn listed(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use modelet::signature::{Category, FeatureType};

    fn feature() -> Feature {
        Feature {
            name: "purpose".into(),
            kind: FeatureType::Category,
            nullable: true,
            seen: None,
            allowed: None,
            categories: vec![],
            closed: false,
            encoding: Default::default(),
            example: None,
            input: 0,
            column: 0,
        }
    }

    #[test]
    fn a_feature_is_shown_with_what_it_accepts() {
        let names = Feature {
            categories: vec![Category::Name("car".into()), Category::Code(2.0)],
            closed: true,
            ..feature()
        };
        assert_eq!(
            row(&names),
            ["purpose", "category", "accepted", "", "", "\"car\", 2 and no other"]
        );
        let encoded = Feature {
            encoding: (0..10).map(|i| (format!("c{i}"), f64::from(i))).collect(),
            ..feature()
        };
        assert_eq!(
            row(&encoded)[5],
            "\"c0\"=0, \"c1\"=1, \"c2\"=2, \"c3\"=3, \"c4\"=4, \"c5\"=5, \"c6\"=6, \"c7\"=7, … (10)"
        );
        for (min, max, expected) in [
            (Some(0.5), Some(2.0), "0.5 to 2"),
            (Some(0.0), None, "from 0"),
            (None, Some(1e6), "up to 1000000"),
            (Some(f64::from(0.1f32)), Some(0.1), "0.1 to 0.1"),
            (None, None, ""),
        ] {
            assert_eq!(range(Some(Range { min, max })), expected);
        }
    }
}
