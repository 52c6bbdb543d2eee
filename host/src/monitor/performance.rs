//! How good predictions were, as far as labels tell: the figures, and whether
//! the shipped rules would find them bad.

use super::rules::{self, Kind, Outcome, Rule};
use crate::data::Cell;
use crate::output::{count, percent, thousands};
use modelet::drift::report::Report;
use modelet::drift::stats;
use modelet::drift::truth::{CLASSES_MAX, Judge, Metric, Performance, Sums, Truth};
use modelet::signature::{Manifest, Task};
use serde::Serialize;
use std::collections::BTreeMap;

/// Predictions held against their labels, and both against the baseline.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Assessment {
    /// The figures.
    #[serde(flatten)]
    pub measured: Performance,
    /// The one among them that the shipped rules find worse than its baseline
    /// allows: there is one such rule, on accuracy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub worse: Option<String>,
}

impl Assessment {
    /// The figures of these sums.
    pub fn new(judge: &Judge, sums: &Sums, manifest: &Manifest) -> Assessment {
        Assessment {
            measured: judge.performance(sums, baseline(manifest)),
            worse: worse(judge, sums, manifest),
        }
    }

    /// Whether a figure is worse than its baseline allows.
    pub fn is_worse(&self) -> bool {
        self.worse.is_some()
    }

    /// That performance is worse, in a sentence, if it is.
    pub fn sentence(&self) -> Option<String> {
        let name = self.worse.as_ref()?;
        let metric = &self.measured.metrics[name];
        let rows = count(metric.rows, "labelled row");
        let baseline = match metric.baseline {
            Some(baseline) => format!(", {} at the baseline", figure(baseline)),
            None => String::new(),
        };
        Some(format!(
            "Performance is worse: {name} {} on {rows}{baseline}.",
            figure(metric.value)
        ))
    }
}

/// Why labels can't be held against a model that there is no [`Judge`] for.
pub fn unjudged(manifest: &Manifest) -> String {
    let why = match manifest.task {
        Task::Binary | Task::Multiclass => {
            format!("its classes have no labels, or there are more than {CLASSES_MAX}")
        }
        Task::Regression if manifest.output.width != 1 => {
            format!("it predicts {} numbers for a row, not one", manifest.output.width)
        }
        Task::Regression => "it was packed without reference data".to_owned(),
        task => format!("its task is {}, which has no truth to compare with", task.name()),
    };
    format!("labels can't be held against this model: {why}")
}

/// The label in a cell of a table; none where it is missing.
///
/// # Errors
/// When it is none of the model's; the text says what is expected.
pub fn read_label(judge: &Judge, cell: Cell<'_>) -> Result<Option<Truth>, String> {
    if cell == Cell::Missing {
        return Ok(None);
    }
    judge
        .read_text(&cell.to_string())
        .map(Some)
        .or_else(|what| match cell.narrow() {
            Cell::Missing => Ok(None),
            narrow => judge.read_text(&narrow.to_string()).map(Some).map_err(|_| what),
        })
}

/// Says in the report's verdict what it does not know of: that performance is
/// worse, and that rows were rejected, which are no part of what it says of the
/// columns.
pub fn complete_verdict(report: &mut Report, performance: Option<&Assessment>) {
    let rejected = (report.rejected > 0).then(|| {
        let all = report.rows + report.rejected;
        format!(
            "{} of {} rejected ({}).",
            thousands(report.rejected),
            count(all, "row"),
            percent(report.rejected as f64 / all as f64)
        )
    });
    for sentence in [performance.and_then(Assessment::sentence), rejected]
        .into_iter()
        .flatten()
    {
        report.verdict.push(' ');
        report.verdict += &sentence;
    }
}

/// The baseline's figures; none if there is no baseline.
fn baseline(manifest: &Manifest) -> &BTreeMap<String, f64> {
    static NONE: BTreeMap<String, f64> = BTreeMap::new();
    manifest.baseline.as_ref().map_or(&NONE, |baseline| &baseline.metrics)
}

/// A figure as reports write it: its value, the ends of its interval and its
/// baseline; what is not known is empty.
pub fn cells(metric: &Metric) -> [String; 3] {
    [
        figure(metric.value),
        match (metric.low, metric.high) {
            (Some(low), Some(high)) => format!("{} to {}", figure(low), figure(high)),
            _ => String::new(),
        },
        metric.baseline.map_or(String::new(), figure),
    ]
}

fn figure(value: f64) -> String {
    match value.abs() < 1e9 {
        true => format!("{value:.4}"),
        false => format!("{value:.4e}"),
    }
}

/// The figure that the default rules on figures of the ground truth would find
/// bad.
fn worse(judge: &Judge, sums: &Sums, manifest: &Manifest) -> Option<String> {
    let bad = |rule: &Rule| {
        let metrics = metric_values(judge, sums, manifest, &[rule.confidence]);
        let Some(rows) = metrics.get(&rule.metric).map(|metric| metric.rows) else {
            return false;
        };
        let evaluation = rules::Evaluation {
            truth: Some(rules::Truth {
                rows,
                coverage: 1.0,
                metrics,
                cusum: None,
            }),
            ..rules::Evaluation::default()
        };
        let findings = rule.findings(&evaluation);
        findings.iter().any(|finding| finding.outcome == Outcome::Bad)
    };
    let mut rules = Rule::defaults().into_iter();
    rules
        .find(|rule| rule.kind == Kind::Performance && bad(rule))
        .map(|rule| rule.metric)
}

/// The figures of some sums as rules look at them, with bounds for each of
/// these confidences.
pub fn metric_values(
    judge: &Judge,
    sums: &Sums,
    manifest: &Manifest,
    confidences: &[f64],
) -> BTreeMap<String, rules::MetricValue> {
    // Of a baseline that was only told it is not known how far it is off.
    let baseline_rows = manifest.baseline.as_ref().map_or(0, |b| b.rows) as f64;
    let mut values: BTreeMap<String, rules::MetricValue> = BTreeMap::new();
    for &confidence in confidences {
        let z = rules::z(confidence);
        for (name, metric) in judge.performance_at(sums, baseline(manifest), z).metrics {
            let (Some(low), Some(high)) = (metric.low, metric.high) else {
                continue;
            };
            let (mut below, mut above) = (metric.value - low, high - metric.value);
            if let Some(told) = metric.baseline.filter(|_| baseline_rows > 0.0) {
                let (could_be_less, could_be_more) = match name.as_str() {
                    "accuracy" => {
                        let (from, to) = stats::wilson(told * baseline_rows, baseline_rows, z);
                        (told - from, to - told)
                    }
                    // As far as the figure itself, were it of so many rows.
                    _ => {
                        let fewer = (metric.rows as f64 / baseline_rows).sqrt();
                        (below * fewer, above * fewer)
                    }
                };
                (below, above) = (below.hypot(could_be_more), above.hypot(could_be_less));
            }
            let value = values.entry(name).or_insert_with(|| rules::MetricValue {
                value: metric.value,
                baseline: metric.baseline,
                bounds: Vec::new(),
                rows: metric.rows,
            });
            value.bounds.push(rules::Bounds {
                confidence,
                low: metric.value - below,
                high: metric.value + above,
            });
        }
    }
    values
}
