//! What Prometheus needs to compute drift by itself, over any set of hosts:
//! every bin of every column as a counter that starts at 0, and the
//! reference's shares. Beside them what the monitor of this host computed last.

use super::Subject;
use crate::monitor::alerts::AlertState;
use crate::monitor::watch::Watched;
use modelet::api::metrics::Exposition;
use modelet::drift::report::{ColumnReport, State};
use modelet::drift::{Bins, Counts, Special, group_counts, groups, reference_ratios};
use modelet::signature::{Column, Reference};
use std::time::Duration;

/// A watched model and how metrics name it.
struct Watching<'a> {
    subject: &'a Subject<'a>,
    watched: &'a Watched,
    reference: Reference,
    /// The group of each bin of each column.
    groups: Vec<Vec<Option<u32>>>,
    counts: Counts,
    features: usize,
}

impl Watching<'_> {
    fn columns(&self, features: bool) -> impl Iterator<Item = (usize, &Column)> {
        let all = self.reference.columns.iter().enumerate();
        all.filter(move |(index, _)| (*index < self.features) == features)
    }
}

pub(super) fn render(out: &mut Exposition, subjects: &[Subject<'_>], windows: &[Duration]) {
    let watching: Vec<Watching<'_>> = subjects
        .iter()
        .filter_map(|subject| {
            let watched = subject.watched?;
            let reference = watched.reference();
            Some(Watching {
                subject,
                watched,
                groups: reference.columns.iter().map(groups).collect(),
                reference,
                counts: watched.totals(),
                features: watched.manifest().features.len(),
            })
        })
        .collect();
    if watching.is_empty() {
        return;
    }
    for (features, name, by) in [(true, "feature", "feature"), (false, "prediction", "output")] {
        bins(out, &watching, features, name, by);
        reference(out, &watching, features, name, by);
    }
    computed(out, &watching, windows);
}

/// The name of a column of predictions.
fn output(column: &Column) -> &str {
    match column.name.as_str() {
        "prediction" => "label",
        name => name,
    }
}

fn label(column: &Column, feature: bool) -> &str {
    match feature {
        true => &column.name,
        false => output(column),
    }
}

/// What a bin is for.
fn kind(bins: &Bins, bin: usize) -> &'static str {
    let special = |special| bins.special(special) as usize;
    if bin == special(Special::Missing) {
        return "missing";
    }
    if bin == special(Special::Unseen) {
        return "unseen";
    }
    if bin == special(Special::NotFinite) {
        return "not_finite";
    }
    match bins {
        Bins::Numeric { .. } if bin == 0 => "below",
        Bins::Numeric { cuts, .. } if bin == cuts.len() + 2 => "above",
        Bins::Numeric { .. } => "inside",
        Bins::Categorical { values } if bin < values.len() => "category",
        Bins::Categorical { .. } => "rest",
    }
}

fn bins(out: &mut Exposition, watching: &[Watching<'_>], features: bool, name: &str, by: &'static str) {
    let family = format!("modelet_{name}_bin_total");
    let help = match features {
        true => "Answered rows by the bin of the reference that a feature fell into.",
        false => "Answered rows by the bin that the label or the score fell into.",
    };
    out.family(&family, "counter", help);
    for model in watching {
        for (index, column) in model.columns(features) {
            for (bin, group) in model.groups[index].iter().enumerate() {
                let count = model
                    .counts
                    .columns
                    .get(index)
                    .and_then(|c| c.get(bin))
                    .copied()
                    .unwrap_or(0);
                let number = bin.to_string();
                let group = group.map_or(String::new(), |group| group.to_string());
                let labels = model.subject.labels(&[
                    (by, label(column, features)),
                    ("bin", &number),
                    ("group", &group),
                    ("kind", kind(&column.bins, bin)),
                ]);
                out.sample(&family, &labels, count);
            }
        }
    }
}

fn reference(out: &mut Exposition, watching: &[Watching<'_>], features: bool, name: &str, by: &'static str) {
    let family = format!("modelet_{name}_reference_ratio");
    out.family(
        &family,
        "gauge",
        "The reference's share of each group of bins, half a count added to each.",
    );
    for model in watching {
        for (_, column) in model.columns(features) {
            for (group, ratio) in reference_ratios(column).into_iter().enumerate() {
                let group = group.to_string();
                let labels = model
                    .subject
                    .labels(&[(by, label(column, features)), ("group", &group)]);
                out.sample(&family, &labels, ratio);
            }
        }
    }
    let family = format!("modelet_{name}_reference_values");
    out.family(&family, "gauge", "Values of the reference that belong to a group.");
    for model in watching {
        for (index, column) in model.columns(features).filter(|(_, c)| !c.counts.is_empty()) {
            let values: u64 = group_counts(&model.groups[index], &column.counts).iter().sum();
            let labels = model.subject.labels(&[(by, label(column, features))]);
            out.sample(&family, &labels, values);
        }
    }
    let family = format!("modelet_{name}_reference_kind_ratio");
    out.family(&family, "gauge", "The reference's share of each kind of bin.");
    for model in watching {
        for (_, column) in model.columns(features) {
            let total: u64 = column.counts.iter().sum();
            let mut kinds: Vec<(&str, u64)> = Vec::new();
            for (bin, count) in column.counts.iter().enumerate() {
                let kind = kind(&column.bins, bin);
                match kinds.iter_mut().find(|(k, _)| *k == kind) {
                    Some((_, sum)) => *sum += count,
                    None => kinds.push((kind, *count)),
                }
            }
            for (kind, count) in kinds {
                let labels = model.subject.labels(&[(by, label(column, features)), ("kind", kind)]);
                out.sample(&family, &labels, count as f64 / total.max(1) as f64);
            }
        }
    }
}

/// What the monitor found in its last look at the windows: drift in each,
/// anything else in the first.
fn computed(out: &mut Exposition, watching: &[Watching<'_>], windows: &[Duration]) {
    let looked: Vec<_> = watching
        .iter()
        .flat_map(|model| windows.iter().map(move |window| (model, *window)))
        .filter_map(|(model, window)| Some((model, window, model.watched.latest(window)?.status)))
        .collect();
    let latest: Vec<_> = looked
        .iter()
        .filter(|(_, window, _)| windows.first() == Some(window))
        .map(|(model, _, status)| (model, status))
        .collect();
    let columns = |out: &mut Exposition, name: &str, value: &dyn Fn(&ColumnReport) -> Option<f64>| {
        for (model, _, status) in &looked {
            let window = status.report.window.as_ref().map_or("", |window| window.name.as_str());
            let features = status.report.features.iter().map(|column| (column, "feature"));
            let predictions = status.report.predictions.iter().map(|column| (column, "prediction"));
            for (column, role) in features.chain(predictions) {
                if let Some(value) = value(column) {
                    let labels = [("column", column.name.as_str()), ("role", role), ("window", window)];
                    let labels = model.subject.labels(&labels);
                    out.sample(name, &labels, value);
                }
            }
        }
    };
    let drift = |value: fn(&modelet::drift::report::DriftFigures) -> f64| {
        move |column: &ColumnReport| column.drift.as_ref().map(value)
    };
    type Value = Box<dyn Fn(&ColumnReport) -> Option<f64>>;
    let families: [(&str, &str, Value); 3] = [
        (
            "modelet_drift_psi",
            "Population stability index of a column over the window.",
            Box::new(drift(|figures| figures.psi)),
        ),
        (
            "modelet_drift_adjusted_p",
            "How likely so large a difference is by chance, adjusted to all columns.",
            Box::new(drift(|figures| figures.adjusted_p)),
        ),
        (
            "modelet_drift_state",
            "0: nothing to compare with, 1: too few rows, 2: stable, 3: drifted, 4: drifted beyond the threshold.",
            Box::new(|column| {
                Some(match (column.state, column.alert) {
                    (State::NoReference, _) => 0.0,
                    (State::InsufficientData, _) => 1.0,
                    (State::Stable, _) => 2.0,
                    (State::Drifted, false) => 3.0,
                    (State::Drifted, true) => 4.0,
                })
            }),
        ),
    ];
    for (name, help, value) in families {
        out.family(name, "gauge", help);
        columns(out, name, &value);
    }
    out.family(
        "modelet_performance",
        "gauge",
        "How good predictions were, on those of the window that have a label.",
    );
    for (model, status) in &latest {
        for (name, metric) in &status.performance.assessed.measured.metrics {
            let labels = model.subject.labels(&[("metric", name)]);
            out.sample("modelet_performance", &labels, metric.value);
        }
    }
    out.family(
        "modelet_performance_baseline",
        "gauge",
        "How good the model was when it was packed.",
    );
    for model in watching {
        for (name, value) in model.watched.manifest().baseline.iter().flat_map(|b| &b.metrics) {
            let labels = model.subject.labels(&[("metric", name)]);
            out.sample("modelet_performance_baseline", &labels, value);
        }
    }
    out.family(
        "modelet_alert_firing",
        "gauge",
        "1 for each alert that fires, by rule and by what the rule is about.",
    );
    for (model, status) in &latest {
        for alert in status.alerts.iter().filter(|alert| alert.state == AlertState::Firing) {
            let subject = alert.subject.as_deref().unwrap_or("");
            let labels = model.subject.labels(&[("rule", &alert.rule), ("subject", subject)]);
            out.sample("modelet_alert_firing", &labels, 1);
        }
    }
    out.family(
        "modelet_labelled_ratio",
        "gauge",
        "The share of the window's predictions that have a label.",
    );
    for (model, status) in &latest {
        let labels = model.subject.labels(&[]);
        out.sample("modelet_labelled_ratio", &labels, status.performance.coverage);
    }
    out.family(
        "modelet_labels_total",
        "counter",
        "Labels by what became of them. A pending one is there again under its later outcome, at whoever found it.",
    );
    for model in watching {
        for (outcome, count) in model.watched.outcomes() {
            let labels = model.subject.labels(&[("outcome", outcome)]);
            out.sample("modelet_labels_total", &labels, count);
        }
    }
    out.family(
        "modelet_monitor_dropped_predictions_total",
        "counter",
        "Predictions that labels can't be joined to, because the store was too slow.",
    );
    for model in watching {
        let labels = model.subject.labels(&[]);
        out.sample(
            "modelet_monitor_dropped_predictions_total",
            &labels,
            model.watched.dropped(),
        );
    }
}
