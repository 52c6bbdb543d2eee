//! `modelet drift`: counts the rows of a file as a server would, and holds the
//! counts against the reference.

use super::Status;
use super::request::{Chunk, Columns, DEADLINE_MS};
use crate::cli::DriftArgs;
use crate::data::{Format, Reader, is_standard, not_an_input};
use crate::monitor::html::{self, ReportContext};
use crate::monitor::performance::{Assessment, cells, complete_verdict, read_label, unjudged};
use crate::monitor::span;
use crate::output::{Align, Output, Paint, count, grid};
use crate::runtime::{Observation, RuntimeConfig};
use anyhow::{Context, anyhow, bail};
use modelet::drift::Counts;
use modelet::drift::report::{ColumnReport, QualityState, Report, State, Thresholds};
use modelet::drift::truth::{self, Judge, Predicted, Sums};
use serde::Serialize;
use std::fmt::Write;

/// Faults that are told beside the table.
const FAULTS_TOLD: usize = 5;

pub fn run(args: &DriftArgs, output: &Output) -> anyhow::Result<Status> {
    let page_printed = args.html.as_deref().is_some_and(is_standard);
    if page_printed && args.json {
        bail!("--html - and --json both write to standard output");
    }
    if let Some(html) = &args.html {
        not_an_input(html, [args.model.as_path(), &args.rows])?;
    }
    let artifact = super::open(&args.model)?;
    let manifest = &artifact.manifest;
    let named = || args.rows.display().to_string();
    let format = match args.format {
        Some(format) => format,
        None => Format::of(&args.rows)?,
    };
    let judge = match &args.label {
        Some(label) => {
            let judge = Judge::new(manifest);
            Some(judge.ok_or_else(|| anyhow!("--label {label}: {}", unjudged(manifest)))?)
        }
        None => None,
    };
    let progress = output.progress();
    let mut reader = Reader::open(&args.rows, format, &*progress)?;
    // The label is what is carried along beside the features.
    let mut columns = Columns::new(manifest, format, reader.columns()).with_context(named)?;
    if let Some(label) = &args.label {
        columns.carry_labels(reader.columns(), label).with_context(named)?;
    }
    let config = RuntimeConfig {
        deadline_ms: DEADLINE_MS,
        ..RuntimeConfig::default()
    };
    let loaded = super::load(&artifact, config, output)?;
    let mut counts = Counts::new(&manifest.reference);
    let mut sums = Sums::new();
    let mut read = 0;
    while let Some(chunk) = columns.next(&mut reader, read)? {
        let observation = chunk.answer(&loaded, false).with_context(named)?.observation;
        add(&mut counts, &observation);
        if let Some(judge) = &judge {
            label(&mut sums, judge, &chunk, &observation).with_context(named)?;
        }
        read += chunk.rows as u64;
        progress.tell(&count(read, "row"));
    }
    if read == 0 {
        bail!("{}: there is no row of data", named());
    }
    progress.finish();

    let thresholds = Thresholds {
        psi: args.threshold,
        ..Thresholds::default()
    };
    let mut report = modelet::drift::report(
        manifest,
        &artifact.bundle_sha256,
        &manifest.reference,
        &counts,
        &thresholds,
    );
    let performance = judge.map(|judge| Assessment::new(&judge, &sums, manifest));
    if let (Some(label), Some(performance)) = (&args.label, &performance)
        && report.rows > 0
        && performance.measured.labelled == 0
    {
        bail!("{}: no accepted row has a label in the column {label:?}", named());
    }
    complete_verdict(&mut report, performance.as_ref());
    if let Some(path) = &args.html {
        let context = ReportContext {
            manifest: Some(manifest),
            model_file: args.model.to_str(),
            current_file: args.rows.to_str(),
            made: Some(&span::rfc3339(span::now())),
            performance: performance.as_ref(),
        };
        let page = html::render(&report, &context);
        if page_printed {
            output.print(page)?;
        } else {
            std::fs::write(path, page).with_context(|| path.display().to_string())?;
            output.status(format!("the report is in {}", path.display()));
        }
    }
    let found = Found { report, performance };
    match args.json {
        true => output.print_json(&found)?,
        false if page_printed => {}
        false => output.print(text(&found, output))?,
    }
    match found.report.state {
        _ if found.report.rows == 0 => bail!(
            "{}: no row is accepted by the model, so nothing can be compared",
            named()
        ),
        State::NoReference => bail!(
            "{}: the model was packed without --data, so there is nothing to compare with",
            args.model.display()
        ),
        State::InsufficientData => bail!("{}: nothing can be compared: {}", named(), found.report.verdict),
        State::Stable => Ok(Status::Good),
        State::Drifted => Ok(Status::No),
    }
}

/// What is written as JSON: the members that `GET /drift` has too.
#[derive(Serialize)]
struct Found {
    #[serde(flatten)]
    report: Report,
    #[serde(skip_serializing_if = "Option::is_none")]
    performance: Option<Assessment>,
}

fn add(counts: &mut Counts, observation: &Observation) {
    counts.add_rows(&observation.status, &observation.bins, &observation.faults);
}

fn label(sums: &mut Sums, judge: &Judge, chunk: &Chunk, observation: &Observation) -> anyhow::Result<()> {
    for (row, value) in chunk.carried.iter().enumerate() {
        if observation.status.get(row) != Some(&0) {
            continue;
        }
        let read = read_label(judge, value.cell());
        let Some(truth) = read.map_err(|what| anyhow!("row {}, label: {what}", chunk.first + row as u64))? else {
            continue;
        };
        let predicted = Predicted {
            class: observation.labels[row],
            score: observation.scores[row],
        };
        truth::merge(sums, &judge.judge(predicted, &truth));
    }
    Ok(())
}

fn text(found: &Found, output: &Output) -> String {
    let report = &found.report;
    let worse = found.performance.as_ref().is_some_and(Assessment::is_worse);
    let mut text = format!(
        "{}\n{}\n\n",
        output.paint(Paint::Bold, format!("{} {}", report.model, report.version)),
        output.paint(
            match (report.state, report.quality) {
                _ if worse => Paint::Red,
                (State::Drifted, _) => Paint::Red,
                (_, QualityState::Bad) => Paint::Yellow,
                (State::Stable, _) => Paint::Green,
                _ => Paint::Dim,
            },
            &report.verdict
        ),
    );
    let _ = writeln!(
        text,
        "  {} held against {} of the reference",
        count(report.rows, "row"),
        count(report.reference_rows, "row")
    );
    for fault in report.faults.iter().take(FAULTS_TOLD) {
        let what = fault.feature.as_deref().unwrap_or("the row");
        let _ = writeln!(
            text,
            "    {what}: {} ({})",
            fault.code.name(),
            count(fault.count, "time")
        );
    }
    text.push('\n');
    let header = [
        ("column", Align::Left),
        ("state", Align::Left),
        ("PSI", Align::Right),
        ("adjusted p", Align::Right),
        ("JS", Align::Right),
        ("missing", Align::Right),
        ("out of range", Align::Right),
        ("unseen", Align::Right),
    ];
    let mut columns: Vec<&ColumnReport> = report.features.iter().collect();
    let psi = |column: &ColumnReport| column.drift.as_ref().map_or(-1.0, |drift| drift.psi);
    columns.sort_by(|a, b| psi(b).total_cmp(&psi(a)));
    columns.extend(&report.predictions);
    let rows: Vec<Vec<String>> = columns.iter().map(|column| row(column, output)).collect();
    text.push_str(&grid(output, &header, &rows));
    if let Some(Assessment { measured, .. }) = &found.performance {
        let _ = writeln!(
            text,
            "\n{}",
            output.paint(
                Paint::Bold,
                format!("performance on {}", count(measured.labelled, "labelled row"))
            )
        );
        let header = [
            ("figure", Align::Left),
            ("now", Align::Right),
            ("95 % interval", Align::Left),
            ("baseline", Align::Right),
        ];
        let figures: Vec<Vec<String>> = measured
            .metrics
            .iter()
            .map(|(name, metric)| [name.clone()].into_iter().chain(cells(metric)).collect())
            .collect();
        text.push_str(&grid(output, &header, &figures));
    }
    text
}

fn row(column: &ColumnReport, output: &Output) -> Vec<String> {
    let state = match (column.state, column.alert) {
        (State::Drifted, true) => output.paint(Paint::Red, "alert"),
        (State::Drifted, false) => output.paint(Paint::Yellow, "drifted"),
        (State::Stable, _) => output.paint(Paint::Green, "stable"),
        (State::InsufficientData, _) => output.paint(Paint::Dim, "too few rows"),
        (State::NoReference, _) => output.paint(Paint::Dim, "no reference"),
    };
    let number = |value: Option<f64>| value.map_or(String::new(), |value| format!("{value:.4}"));
    let share = |share: &modelet::drift::report::ShareReport| match (share.count, share.state) {
        (0, _) => String::new(),
        (_, QualityState::Bad) => output.paint(Paint::Yellow, percent(share.share)),
        _ => percent(share.share),
    };
    let drift = column.drift.as_ref();
    vec![
        column.name.clone(),
        state,
        number(drift.map(|d| d.psi)),
        drift.map_or(String::new(), |d| significance(d.adjusted_p)),
        number(drift.map(|d| d.js_distance)),
        share(&column.quality.missing),
        share(&column.quality.out_of_range),
        share(&column.quality.unseen),
    ]
}

fn percent(share: f64) -> String {
    format!("{:.2} %", 100.0 * share)
}

fn significance(p: f64) -> String {
    match p {
        p if p < 1e-4 => "< 0.0001".into(),
        p => format!("{p:.4}"),
    }
}
