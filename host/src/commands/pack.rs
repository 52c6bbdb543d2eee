//! `modelet pack`

use super::Status;
use crate::cli::{PackArgs, UnknownArg, WasiArg};
use crate::output::{Output, Paint, bytes, count};
use crate::pack::{PackOptions, PackReport, WasiVersion, pack};
use modelet::signature::Unknown;
use std::fmt::Write;

pub fn run(args: PackArgs, output: &Output) -> anyhow::Result<Status> {
    let json = args.json;
    let options = options(args);
    let progress = output.progress();
    let report = pack(&options, &*progress)?;
    progress.finish();
    if json {
        output.print_json(&report)?;
        return Ok(Status::Good);
    }
    for note in &report.notes {
        output.note(note);
    }
    if !output.is_quiet() {
        output.print(summary(&report, output))?;
    }
    Ok(Status::Good)
}

fn options(args: PackArgs) -> PackOptions {
    PackOptions {
        model: args.model,
        data: args.data,
        label: args.label,
        holdout: args.holdout,
        baseline: args.baseline.into_iter().collect(),
        expected: args.expected,
        tolerance: args.tolerance,
        unknown: args.unknown.map(|unknown| match unknown {
            UnknownArg::Error => Unknown::Error,
            UnknownArg::Ignore => Unknown::Ignore,
        }),
        wasi: match args.wasi {
            WasiArg::V0_3 => WasiVersion::V0_3,
            WasiArg::V0_2 => WasiVersion::V0_2,
        },
        name: args.name,
        model_version: args.model_version,
        signature: args.signature,
        force: args.force,
        output: args.output,
    }
}

fn summary(report: &PackReport, output: &Output) -> String {
    let manifest = &report.manifest;
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "  {} {value}", output.paint(Paint::Dim, format!("{name:<9}")));
    };
    line(
        "model",
        format!(
            "{} {}, {}",
            manifest.name,
            manifest.version,
            super::inspect::task(manifest)
        ),
    );
    line(
        "features",
        format!("{}, {} engine", manifest.features.len(), manifest.engine.name()),
    );
    if manifest.reference.rows > 0 {
        line("reference", count(manifest.reference.rows, "row"));
    }
    if let Some(difference) = manifest.provenance.expected_max_difference {
        line(
            "expected",
            format!(
                "{} as expected, off by at most {difference:.1e}",
                count(report.expected_rows as u64, "row")
            ),
        );
    }
    line("golden", count(report.golden_rows as u64, "row"));
    line(
        "bundle",
        format!("{}, sha256 {}", report.bundle.display(), report.bundle_sha256),
    );
    line("file", format!("{}, sha256 {}", bytes(report.bytes), report.sha256));
    let path = report.output.display();
    let packed = output.paint(Paint::Green, format!("packed {path}"));
    format!(
        "{packed} in {:.2} s\n{text}next: modelet serve {path}\n",
        report.elapsed_ms as f64 / 1000.0
    )
}
