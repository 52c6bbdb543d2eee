//! Ground truth: what predictions turned out to be, as sums that add up.
//!
//! A label adds integers to numbered sums, so that any set of replicas and any
//! order of labels gives the same figures, and a corrected label is taken back
//! exactly. Losses are in fixed point; scores are counted by the bins of the
//! monitored column `score`.

use super::{Bins, stats};
use crate::signature::{Baseline, Column, Labels, Manifest, ScoreKind, Task};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Sums by number; see [`Judge::judge`].
pub type Sums = BTreeMap<u32, i64>;

/// The most classes that a confusion matrix is kept for.
pub const CLASSES_MAX: usize = 1024;

// What is summed: the upper eight bits of a number; the others tell which.
const CONFUSION: u32 = 1 << 24;
const SCORE: u32 = 2 << 24;
const SCORE_SUM: u32 = 3 << 24;
const LOSS: u32 = 4 << 24;
const CHART: u32 = 5 << 24;

/// Fixed point of sums of scores and losses, and of their squares.
const UNIT: f64 = (1u64 << 30) as f64;
const SQUARE_UNIT: f64 = (1u64 << 20) as f64;
/// Errors of regressions, in scales (about standard deviations of the
/// predictions), and truths up to here are summed in these units, so that sums
/// stay in 64 bits even for half a million rows that are all so wrong. What is
/// larger has sums of its own, in units that are coarser by as much at each
/// level.
const LEVEL: f64 = (1u64 << LEVEL_BITS) as f64;
const LEVEL_BITS: u32 = 6;
/// The last level. Errors beyond it, of 10^72 scales, are clipped: the square
/// of a square would not be finite.
const LEVEL_MAX: u32 = 39;
/// For the control chart they are clipped here, in mean absolute errors of the
/// baseline, so that a single row is no alarm.
const CHART_ERROR_MAX: f64 = 4.0;
/// What the control chart looks for: an error rate risen by so much, or a mean
/// absolute error so many times as large.
const SHARE_RISE: f64 = 0.05;
const MEAN_RISE: f64 = 1.25;
/// A baseline of fewer rows says too little for a control chart.
const CHART_ROWS_MIN: u64 = 50;
/// Probabilities are clipped here in the logarithmic loss, as scikit-learn
/// clips binary32 ones.
const PROBABILITY_MIN: f64 = 1.1920929e-7;

/// The losses that are summed: value and square of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    Log,
    Brier,
    Absolute,
    Squared,
    /// The error with its sign.
    Signed,
    /// The truth itself, for the coefficient of determination.
    Truth,
}

/// A prediction as the host keeps it until its label comes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Predicted {
    /// Index of the predicted class; 0 without classes.
    pub class: u32,
    /// The score: the probability of the positive class of binary models, of
    /// the predicted class otherwise; the decision score; the predicted value.
    pub score: f64,
}

/// A label.
#[derive(Clone, Debug, PartialEq)]
pub enum Truth {
    /// Index of the class that it was.
    Class(u32),
    /// The number that it was.
    Number(f64),
}

/// Turns labels into sums, for one model.
#[derive(Clone, Debug)]
pub struct Judge {
    task: Task,
    kind: ScoreKind,
    labels: Labels,
    positive: Option<u32>,
    score: Bins,
    /// Errors of regressions are summed in multiples of this, truths from
    /// the middle of the predictions.
    scale: f64,
    middle: f64,
    /// Whether a score is the predicted class's, of several.
    scored: bool,
    /// The mean absolute error of a regression's baseline.
    usual_error: Option<f64>,
}

impl Judge {
    /// For the model of this manifest; `None` if it makes no predictions that
    /// a label could be held against, or, for a regression, if it was packed
    /// without reference data, so that nothing is known of their size.
    pub fn new(manifest: &Manifest) -> Option<Judge> {
        let labels = manifest.output.labels.clone();
        let judged = match manifest.task {
            Task::Binary | Task::Multiclass => !labels.is_empty() && labels.len() <= CLASSES_MAX,
            Task::Regression => manifest.output.width == 1 && scale(manifest.reference.columns.last()?).is_some(),
            Task::Outlier | Task::Cluster | Task::Transform => false,
        };
        let column = manifest.reference.columns.last()?;
        judged.then(|| Judge {
            task: manifest.task,
            kind: manifest.output.kind,
            positive: manifest.output.positive,
            labels,
            score: column.bins.clone(),
            scale: scale(column).map_or(1.0, |(scale, _)| scale),
            middle: scale(column).map_or(0.0, |(_, middle)| middle),
            scored: manifest.output.labels.len() == manifest.output.width as usize,
            usual_error: manifest.baseline.as_ref().and_then(usual_error),
        })
    }

    /// Whether labels are classes, not numbers.
    pub fn classifies(&self) -> bool {
        self.task != Task::Regression
    }

    /// The names of the figures that [`Judge::performance`] gives.
    pub fn metric_names(&self) -> &'static [&'static str] {
        match (self.task, self.positive) {
            (Task::Regression, _) => &["mae", "rmse", "bias", "r2"],
            (Task::Binary, Some(_)) => &[
                "accuracy",
                "precision",
                "recall",
                "f1",
                "auc",
                "log_loss",
                "brier",
                "calibration_error",
            ],
            _ => &[
                "accuracy",
                "precision_macro",
                "recall_macro",
                "f1_macro",
                "calibration_error",
            ],
        }
    }

    /// A label as callers write it: the class label, or the number.
    ///
    /// # Errors
    /// When it is none of the model's; the text says what is expected.
    pub fn read(&self, label: &serde_json::Value) -> Result<Truth, String> {
        if !self.classifies() {
            return match label.as_f64().filter(|v| v.is_finite()) {
                Some(number) => Ok(Truth::Number(number)),
                None => Err(format!("expected a number but got {label}")),
            };
        }
        let class = match (&self.labels, label) {
            (Labels::Int64(labels), serde_json::Value::Number(n)) => {
                let number = n.as_i64().or_else(|| {
                    let float = n.as_f64()?;
                    (float == libm::trunc(float) && float.abs() < 9e15).then_some(float as i64)
                });
                labels.iter().position(|l| Some(*l) == number)
            }
            (Labels::Int64(labels), serde_json::Value::Bool(b)) if labels[..] == [0, 1] => Some(usize::from(*b)),
            (Labels::String(labels), serde_json::Value::String(s)) => labels.iter().position(|l| l == s),
            _ => None,
        };
        class
            .map(|class| Truth::Class(class as u32))
            .ok_or_else(|| format!("expected one of {} but got {label}", self.expected()))
    }

    /// A label as a cell of a table has it.
    ///
    /// # Errors
    /// As for [`Judge::read`].
    pub fn read_text(&self, label: &str) -> Result<Truth, String> {
        let label = label.trim();
        let json = match &self.labels {
            Labels::String(_) if self.classifies() => serde_json::Value::String(label.to_owned()),
            _ => serde_json::from_str(label).unwrap_or_else(|_| serde_json::Value::String(label.to_owned())),
        };
        self.read(&json)
    }

    fn expected(&self) -> String {
        let mut text: Vec<String> = (0..self.labels.len().min(20))
            .map(|i| match &self.labels {
                Labels::Int64(_) => self.labels.text(i),
                Labels::String(_) => format!("{:?}", self.labels.text(i)),
            })
            .collect();
        if self.labels.len() > text.len() {
            text.push("...".into());
        }
        text.join(", ")
    }

    /// What a label adds to the sums.
    pub fn judge(&self, predicted: Predicted, truth: &Truth) -> Sums {
        let mut sums = Sums::new();
        let mut add = |key: u32, value: i64| {
            let sum = sums.entry(key).or_insert(0i64);
            *sum = sum.saturating_add(value);
        };
        let fixed = |value: f64, unit: f64| libm::round(value * unit) as i64;
        let loss = |add: &mut dyn FnMut(u32, i64), which: Loss, level: u32, value: f64| {
            add(loss_key(which, level, false), fixed(value, UNIT));
            add(loss_key(which, level, true), fixed(value * value, SQUARE_UNIT));
        };
        match *truth {
            Truth::Class(class) => {
                add(CONFUSION | class << 12 | predicted.class, 1);
                // Of several classes only the predicted one's score is known.
                let (hit, score) = match (self.task, self.positive) {
                    (Task::Binary, Some(positive)) => (class == positive, predicted.score),
                    _ => (class == predicted.class, predicted.score),
                };
                if !score.is_finite() {
                    return sums;
                }
                let bin = u32::from(self.score.number(score));
                add(SCORE | bin << 1 | u32::from(hit), 1);
                if self.kind == ScoreKind::Probability {
                    add(SCORE_SUM | bin, fixed(score, UNIT));
                    if self.task == Task::Binary {
                        let p = score.clamp(PROBABILITY_MIN, 1.0 - PROBABILITY_MIN);
                        loss(&mut add, Loss::Log, 0, -libm::log(if hit { p } else { 1.0 - p }));
                        let miss = score - f64::from(u8::from(hit));
                        loss(&mut add, Loss::Brier, 0, miss * miss);
                    }
                }
            }
            Truth::Number(number) => {
                let error = (predicted.score - number) / self.scale;
                if error.is_nan() {
                    return sums;
                }
                let (level, error) = levelled(error);
                loss(&mut add, Loss::Absolute, level, error.abs());
                loss(&mut add, Loss::Squared, level, error * error);
                loss(&mut add, Loss::Signed, level, error);
                let (level, truth) = levelled((number - self.middle) / self.scale);
                loss(&mut add, Loss::Truth, level, truth);
                if let Some(usual) = self.usual_error {
                    let error = (predicted.score - number).abs() / usual;
                    add(CHART, fixed(error.min(CHART_ERROR_MAX), UNIT));
                }
                add(CONFUSION, 1);
            }
        }
        sums
    }

    /// The figures of some sums; see [`Performance`]. `baseline` is what they
    /// are held against.
    pub fn performance(&self, sums: &Sums, baseline: &BTreeMap<String, f64>) -> Performance {
        self.performance_at(sums, baseline, stats::Z_95)
    }

    /// The same with intervals of `z` standard errors to both sides, in place
    /// of the 95 % that are between 1.96 of them.
    pub fn performance_at(&self, sums: &Sums, baseline: &BTreeMap<String, f64>, z: f64) -> Performance {
        let mut performance = Performance::default();
        let labelled: i64 = range(sums, CONFUSION).map(|(_, count)| count).sum();
        performance.labelled = labelled.max(0) as u64;
        if performance.labelled == 0 {
            return performance;
        }
        let mut metrics = Metrics {
            rows: performance.labelled,
            z,
            baseline,
            out: &mut performance.metrics,
        };
        if self.classifies() {
            self.confusion_metrics(sums, &mut metrics);
            self.score_metrics(sums, &mut metrics);
            performance.confusion = self.confusion(sums);
            performance.calibration = self.calibration(sums);
        } else {
            self.error_metrics(sums, &mut metrics);
        }
        performance
    }

    fn confusion(&self, sums: &Sums) -> Vec<ConfusionCell> {
        range(sums, CONFUSION)
            .filter(|&(_, count)| count > 0)
            .map(|(key, count)| ConfusionCell {
                truth: self.labels.text((key >> 12) as usize),
                predicted: self.labels.text((key & 0xfff) as usize),
                count: count as u64,
            })
            .collect()
    }

    fn confusion_metrics(&self, sums: &Sums, metrics: &mut Metrics<'_>) {
        let classes = self.labels.len();
        let mut hits = vec![0i64; classes];
        let mut truths = vec![0i64; classes];
        let mut predictions = vec![0i64; classes];
        for (key, count) in range(sums, CONFUSION) {
            let (truth, predicted) = ((key >> 12) as usize, (key & 0xfff) as usize);
            if truth >= classes || predicted >= classes {
                continue;
            }
            truths[truth] += count;
            predictions[predicted] += count;
            if truth == predicted {
                hits[truth] += count;
            }
        }
        metrics.proportion("accuracy", hits.iter().sum(), truths.iter().sum());
        let cells: Vec<(usize, usize, f64)> = range(sums, CONFUSION)
            .map(|(key, count)| ((key >> 12) as usize, (key & 0xfff) as usize, count as f64))
            .filter(|&(truth, predicted, count)| truth < classes && predicted < classes && count > 0.0)
            .collect();
        let mut mean = |name: &str, ratio: Ratio| {
            let figure = |class: usize| {
                let count = |of: &[i64]| of[class] as f64;
                ratio.of(count(&hits), count(&truths), count(&predictions), metrics.z)
            };
            let figures: Vec<Option<ClassFigure>> = (0..classes).map(figure).collect();
            if let Some((value, interval)) = ratio.mean(&figures, &cells, metrics.z) {
                metrics.put(name, value, interval, metrics.rows);
            }
        };
        match self.positive.map(|p| p as usize).filter(|&p| p < classes) {
            Some(positive) if self.task == Task::Binary => {
                let (hits, truths, predictions) = (hits[positive], truths[positive], predictions[positive]);
                metrics.f1(hits, truths + predictions - hits);
                metrics.proportion("precision", hits, predictions);
                metrics.proportion("recall", hits, truths);
            }
            _ => {
                mean("precision_macro", Ratio::Precision);
                mean("recall_macro", Ratio::Recall);
                mean("f1_macro", Ratio::F1);
            }
        }
    }

    fn score_metrics(&self, sums: &Sums, metrics: &mut Metrics<'_>) {
        let by_bin = self.hits_by_bin(sums);
        if self.task == Task::Binary && self.positive.is_some() {
            let (auc, error) = auc(by_bin.iter().map(|&(miss, hit)| (miss as f64, hit as f64)));
            if let Some(auc) = auc {
                let (positives, negatives) = by_bin
                    .iter()
                    .fold((0.0, 0.0), |(p, n), &(miss, hit)| (p + hit as f64, n + miss as f64));
                let interval = (
                    auc_bound(auc - error, -1.0, positives, negatives, metrics.z),
                    auc_bound(auc + error, 1.0, positives, negatives, metrics.z),
                );
                metrics.put("auc", auc, interval, metrics.rows);
            }
            for (name, which, most) in [("log_loss", Loss::Log, f64::INFINITY), ("brier", Loss::Brier, 1.0)] {
                if self.kind == ScoreKind::Probability {
                    metrics.mean(name, sums, which, 1.0, (0.0, most));
                }
            }
        }
        if self.kind == ScoreKind::Probability {
            let calibration = self.calibration(sums);
            let rows: f64 = calibration.iter().map(|bin| bin.rows as f64).sum();
            if rows > 0.0 {
                let gap = |bin: &CalibrationBin| bin.rows as f64 * (bin.mean_score - bin.share).abs();
                let ece = calibration.iter().map(gap).sum::<f64>() / rows;
                // What the shares of calibrated scores would deviate by; gaps
                // have no sign, so their mean is above 0 by chance too.
                let deviation = |bin: &CalibrationBin| {
                    let variance = bin.mean_score * (1.0 - bin.mean_score) / bin.rows as f64;
                    bin.rows as f64 / rows * libm::sqrt(variance.max(0.0))
                };
                let by_chance =
                    libm::sqrt(2.0 / core::f64::consts::PI) * calibration.iter().map(deviation).sum::<f64>();
                let error = libm::sqrt(
                    calibration
                        .iter()
                        .map(|bin| deviation(bin) * deviation(bin))
                        .sum::<f64>(),
                );
                let margin = metrics.z * error;
                let interval = ((ece - by_chance - margin).max(0.0), (ece + margin).min(1.0));
                metrics.put("calibration_error", ece, interval, metrics.rows);
            }
        }
    }

    /// Rows that were not, and that were, of the class of the score, by bin.
    fn hits_by_bin(&self, sums: &Sums) -> Vec<(i64, i64)> {
        let mut bins = vec![(0, 0); self.score.len()];
        for (key, count) in range(sums, SCORE) {
            if let Some(bin) = bins.get_mut((key >> 1) as usize) {
                match key & 1 {
                    0 => bin.0 += count,
                    _ => bin.1 += count,
                }
            }
        }
        bins
    }

    /// Ten groups of score bins: how sure the model was and how often it was so.
    fn calibration(&self, sums: &Sums) -> Vec<CalibrationBin> {
        if self.kind != ScoreKind::Probability {
            return Vec::new();
        }
        let bins = self.hits_by_bin(sums);
        let Bins::Numeric { min, cuts, max } = &self.score else {
            return Vec::new();
        };
        let inside = cuts.len() + 1;
        let edge = |i: usize| match i {
            0 => *min,
            i => cuts.get(i - 1).copied().unwrap_or(*max),
        };
        let groups = 10.min(inside);
        (0..groups)
            .filter_map(|group| {
                let (from, to) = (group * inside / groups, (group + 1) * inside / groups);
                // The bin before the first inside one is of scores below it.
                let (mut rows, mut hits, mut score) = (0i64, 0i64, 0i64);
                for (bin, (miss, hit)) in bins.iter().enumerate().take(to + 1).skip(from + 1) {
                    rows += miss + hit;
                    hits += hit;
                    score = score.saturating_add(sums.get(&(SCORE_SUM | bin as u32)).copied().unwrap_or(0));
                }
                (rows > 0).then(|| CalibrationBin {
                    from: edge(from),
                    to: edge(to),
                    rows: rows as u64,
                    mean_score: score as f64 / UNIT / rows as f64,
                    share: hits as f64 / rows as f64,
                })
            })
            .collect()
    }

    fn error_metrics(&self, sums: &Sums, metrics: &mut Metrics<'_>) {
        metrics.mean("mae", sums, Loss::Absolute, self.scale, (0.0, f64::INFINITY));
        metrics.mean(
            "bias",
            sums,
            Loss::Signed,
            self.scale,
            (f64::NEG_INFINITY, f64::INFINITY),
        );
        let rows = metrics.rows as f64;
        let squared = Moments::new(sums, Loss::Squared, rows);
        let rmse = libm::sqrt(squared.mean.max(0.0));
        // The delta method on the mean of the squared errors.
        let error = squared.standard_error(rows);
        let margin = error.map(|error| match rmse > 0.0 {
            true => metrics.z * error / (2.0 * rmse) * self.scale,
            false => 0.0,
        });
        metrics.value("rmse", rmse * self.scale, margin, (0.0, f64::INFINITY));
        let truths = Moments::new(sums, Loss::Truth, rows);
        if truths.variance > truths.rounding {
            // The variance of the truths is taken for exact.
            let margin = error.map(|error| metrics.z * error / truths.variance);
            let value = 1.0 - squared.mean / truths.variance;
            metrics.value("r2", value, margin, (f64::NEG_INFINITY, 1.0));
        }
    }

    /// Errors and rows of some sums, for a control chart: misclassified rows,
    /// or the absolute errors of a regression over its baseline's mean.
    pub fn errors(&self, sums: &Sums) -> (f64, f64) {
        let rows: i64 = range(sums, CONFUSION).map(|(_, count)| count).sum();
        let errors = match self.classifies() {
            true => range(sums, CONFUSION)
                .filter(|(key, _)| key >> 12 != key & 0xfff)
                .map(|(_, count)| count as f64)
                .sum(),
            false => value(sums, CHART, UNIT),
        };
        (errors, rows as f64)
    }

    /// The control chart of [`Judge::errors`], if this baseline, which must be
    /// the manifest's, has what it starts from: the accuracy, or the mean
    /// absolute error. A baseline measured on few rows is not exact: what it
    /// could have been is no rise.
    pub fn chart(&self, baseline: &Baseline) -> Option<Chart> {
        if (1..CHART_ROWS_MIN).contains(&baseline.rows) {
            return None;
        }
        let rows = baseline.rows as f64;
        if self.classifies() {
            let told = 1.0 - baseline.metrics.get("accuracy")?;
            let share = match baseline.rows {
                0 => told,
                _ => stats::wilson(told * rows, rows, stats::Z_95).1,
            };
            return Some(Chart::of_share(share, share + SHARE_RISE));
        }
        let usual = self.usual_error?;
        // The spread of absolute errors, in their means; that of exponential
        // ones where it is not known.
        let spread = match baseline.metrics.get("rmse").map(|rmse| rmse / usual) {
            Some(ratio) if ratio >= 1.0 => libm::sqrt(ratio * ratio - 1.0),
            _ => 1.0,
        };
        let mean = match baseline.rows {
            0 => 1.0,
            _ => 1.0 + stats::Z_95 * spread / libm::sqrt(rows),
        };
        Some(Chart::of_mean(mean, mean * MEAN_RISE))
    }

    /// The accuracy that the model's own scores promise, and of binary models
    /// the AUC, from how many rows fell into each bin of the score: the
    /// expected share of rows that are of their predicted class, where
    /// `share(bin)` of the rows are of the class of the score (confidence-based
    /// performance estimation). `None` where scores are no probabilities of a
    /// class. `holdout` has the holdout's counts, by bin, of rows that were not
    /// and that were of the class of the score; they calibrate the scores, which
    /// without them are taken at their word.
    pub fn estimate(&self, scores: &[u64], holdout: Option<&[(u64, u64)]>) -> Option<Estimate> {
        let of_positive = self.task == Task::Binary && self.positive.is_some();
        if self.kind != ScoreKind::Probability || !(of_positive || self.task == Task::Multiclass && self.scored) {
            return None;
        }
        let Bins::Numeric { min, cuts, max } = &self.score else {
            return None;
        };
        let edge = |i: usize| match i {
            0 => *min,
            i => cuts.get(i - 1).copied().unwrap_or(*max),
        };
        let (mut rows, mut hits) = (0.0, 0.0);
        let mut expected = Vec::with_capacity(cuts.len() + 1);
        for bin in 0..=cuts.len() {
            let middle = (edge(bin) + edge(bin + 1)) / 2.0;
            let share = match holdout.and_then(|counts| counts.get(bin + 1)) {
                // The score itself counts as two rows, so that an empty bin
                // says what the score says.
                Some(&(miss, hit)) => (hit as f64 + 2.0 * middle) / ((miss + hit) as f64 + 2.0),
                None => middle,
            };
            let count = scores.get(bin + 1).copied().unwrap_or(0) as f64;
            rows += count;
            // Of several classes the score is that of the predicted one.
            let is_predicted = !of_positive || middle >= 0.5;
            hits += count * if is_predicted { share } else { 1.0 - share };
            expected.push((count * (1.0 - share), count * share));
        }
        let auc = match of_positive {
            true => auc(expected).0,
            false => None,
        };
        (rows > 0.0).then(|| Estimate {
            accuracy: hits / rows,
            auc,
            calibrated: holdout.is_some(),
            rows: rows as u64,
        })
    }

    /// The counts by score bin of rows that were not and that were of the class
    /// of the score, as [`Judge::estimate`] takes them.
    pub fn positives(&self, sums: &Sums) -> Vec<(u64, u64)> {
        self.hits_by_bin(sums)
            .into_iter()
            .map(|(miss, hit)| (miss.max(0) as u64, hit.max(0) as u64))
            .collect()
    }
}

/// The mean absolute error of a baseline, where one can be charted against.
fn usual_error(baseline: &Baseline) -> Option<f64> {
    let mae = *baseline.metrics.get("mae")?;
    (mae.is_finite() && mae > 0.0).then_some(mae)
}

/// A power of two near the spread of the predictions, and their middle; `None`
/// where no prediction is known.
fn scale(column: &Column) -> Option<(f64, f64)> {
    let Bins::Numeric { min, max, .. } = column.bins else {
        return None;
    };
    let range = max - min;
    // What is unbounded was packed without a reference.
    if !range.is_finite() || max >= f64::MAX {
        return None;
    }
    let spread = column.std.filter(|std| *std > 0.0).unwrap_or(range);
    let scale = match spread > 0.0 {
        true => libm::exp2(libm::ceil(libm::log2(spread))),
        false => 1.0,
    };
    Some((scale, (min + max) / 2.0))
}

fn loss_key(which: Loss, level: u32, square: bool) -> u32 {
    LOSS | level << 8 | (which as u32) << 1 | u32::from(square)
}

/// An error's level, and what it is in the units of that.
fn levelled(mut value: f64) -> (u32, f64) {
    let mut level = 0;
    while value.abs() > LEVEL && level < LEVEL_MAX {
        value /= LEVEL;
        level += 1;
    }
    (level, value.clamp(-LEVEL, LEVEL))
}

fn value(sums: &Sums, key: u32, unit: f64) -> f64 {
    sums.get(&key).copied().unwrap_or(0) as f64 / unit
}

/// What the sums of a loss tell.
struct Moments {
    mean: f64,
    variance: f64,
    /// How much of the variance may be rounding.
    rounding: f64,
}

impl Moments {
    fn new(sums: &Sums, which: Loss, rows: f64) -> Moments {
        // A loss is a power of the error, which is in the units of its level.
        let power = if which == Loss::Squared { 2 } else { 1 };
        let (mut sum, mut squares, mut rounding) = (0.0, 0.0, 1.0 / SQUARE_UNIT);
        for level in 0..=LEVEL_MAX {
            let at = |square, unit| value(sums, loss_key(which, level, square), unit);
            let scaled = |value, power| libm::ldexp(value, (power * level * LEVEL_BITS) as i32);
            let square = at(true, SQUARE_UNIT);
            sum += scaled(at(false, UNIT), power);
            squares += scaled(square, 2 * power);
            if square != 0.0 {
                rounding = scaled(1.0 / SQUARE_UNIT, 2 * power);
            }
        }
        let mean = sum / rows;
        Moments {
            mean,
            variance: (squares / rows - mean * mean).max(0.0),
            rounding,
        }
    }

    /// Of the mean; one row does not tell.
    fn standard_error(&self, rows: f64) -> Option<f64> {
        (rows > 1.0).then(|| libm::sqrt(self.variance / (rows - 1.0)))
    }
}

/// The sums of one kind, with what of their number is not the kind.
fn range(sums: &Sums, kind: u32) -> impl Iterator<Item = (u32, i64)> + '_ {
    sums.range(kind..kind + (1 << 24))
        .map(move |(key, value)| (key - kind, *value))
}

/// The area under the ROC curve from rows by ascending score bin, not of the
/// class and of it: the probability that a row of the class has the higher
/// score, ties counted half (Mann-Whitney). The second number is the largest
/// error that binning makes: half the share of pairs within one bin.
fn auc(bins: impl IntoIterator<Item = (f64, f64)>) -> (Option<f64>, f64) {
    let (mut negatives, mut positives, mut wins, mut ties) = (0.0, 0.0, 0.0, 0.0);
    for (negative, positive) in bins {
        wins += positive * negatives;
        ties += positive * negative;
        negatives += negative;
        positives += positive;
    }
    let pairs = negatives * positives;
    if pairs <= 0.0 {
        return (None, 0.0);
    }
    (Some((wins + ties / 2.0) / pairs), ties / 2.0 / pairs)
}

/// Newcombe (2006), "Confidence intervals for an effect size measure based on the
/// Mann-Whitney statistic, part 2", Statistics in Medicine 25: Hanley and McNeil's
/// (1982) with the mean of both classes in place of each, so that it does not
/// matter which of them is the rare one.
fn auc_standard_error(auc: f64, positives: f64, negatives: f64) -> f64 {
    let others = (positives + negatives) / 2.0 - 1.0;
    let pairs = 1.0 + others * ((1.0 - auc) / (2.0 - auc) + auc / (1.0 + auc));
    libm::sqrt((auc * (1.0 - auc) * pairs / (positives * negatives)).max(0.0))
}

/// The bound below (`side` -1) or above (1) a measured AUC, by the method that
/// Newcombe (2006) recommends (5): the furthest AUC from which the measured one is
/// `z` standard errors away, those at that AUC. It stays within 0 and 1, and few
/// labels never make it sure.
fn auc_bound(auc: f64, side: f64, positives: f64, negatives: f64, z: f64) -> f64 {
    let auc = auc.clamp(0.0, 1.0);
    // The distance in excess of the margin is convex from the measured AUC, where
    // it is not positive, to the end.
    let (mut inside, mut outside) = (auc, if side < 0.0 { 0.0 } else { 1.0 });
    for _ in 0..60 {
        let middle = (inside + outside) / 2.0;
        let margin = z * auc_standard_error(middle, positives, negatives);
        match (middle - auc) * side <= margin {
            true => inside = middle,
            false => outside = middle,
        }
    }
    outside
}

/// A figure of a class: its hits over a mix of its rows and of the predictions
/// of it.
#[derive(Clone, Copy)]
enum Ratio {
    Precision,
    Recall,
    F1,
}

/// Precision, recall or F1 of one class.
struct ClassFigure {
    value: f64,
    /// What it is a share of.
    whole: f64,
    /// The ends of its own interval.
    low: f64,
    high: f64,
}

/// F1 of the share of hits among the rows that are of a class or predicted to be.
fn f1_of_share(share: f64) -> f64 {
    2.0 * share / (1.0 + share)
}

impl Ratio {
    /// What the rows of a class and the predictions of it count for.
    fn weights(self) -> (f64, f64) {
        match self {
            Ratio::Precision => (0.0, 1.0),
            Ratio::Recall => (1.0, 0.0),
            Ratio::F1 => (0.5, 0.5),
        }
    }

    fn of(self, hits: f64, truths: f64, predictions: f64, z: f64) -> Option<ClassFigure> {
        let (of_truths, of_predictions) = self.weights();
        let whole = of_truths * truths + of_predictions * predictions;
        let (low, high) = match self {
            Ratio::Precision => stats::wilson_corrected(hits, predictions, z),
            Ratio::Recall => stats::wilson_corrected(hits, truths, z),
            Ratio::F1 => {
                let (low, high) = stats::wilson_corrected(hits, truths + predictions - hits, z);
                (f1_of_share(low), f1_of_share(high))
            }
        };
        (whole > 0.0).then(|| ClassFigure {
            value: hits / whole,
            whole,
            low,
            high,
        })
    }

    /// The mean over the classes that have a figure, and its interval; `cells`
    /// are truth, prediction and rows. The interval is the wider one of two:
    ///
    /// - from the classes' own, as if they were independent, so that few rows of a
    ///   class are never sure: Zou and Donner (2008), "Construction of confidence
    ///   limits about effect measures: a general approach", Statistics in Medicine 27;
    /// - by the delta method on the cells' multinomial counts, which knows that one
    ///   error lowers two classes' F1: Takahashi, Yamamoto, Kuchiba and Koyama
    ///   (2022), "Confidence interval for micro-averaged F1 and macro-averaged F1
    ///   scores", Applied Intelligence 52.
    fn mean(self, classes: &[Option<ClassFigure>], cells: &[(usize, usize, f64)], z: f64) -> Option<(f64, (f64, f64))> {
        let known = classes.iter().flatten().count() as f64;
        if known == 0.0 {
            return None;
        }
        let mean = |of: &dyn Fn(&ClassFigure) -> f64| classes.iter().flatten().map(of).sum::<f64>() / known;
        let value = mean(&|class| class.value);
        let distance = |of: &dyn Fn(&ClassFigure) -> f64| {
            libm::sqrt(mean(&|class| (of(class) - class.value) * (of(class) - class.value)) / known)
        };
        let (below, above) = (distance(&|class| class.low), distance(&|class| class.high));
        let (of_truths, of_predictions) = self.weights();
        // How the mean changes with a row more in a cell.
        let slope = |truth: usize, predicted: usize| {
            let of = |class: usize, weight: f64| match &classes[class] {
                Some(figure) => (f64::from(u8::from(truth == predicted)) - figure.value) * weight / figure.whole,
                None => 0.0,
            };
            match truth == predicted {
                true => of(truth, 1.0),
                false => of(truth, of_truths) + of(predicted, of_predictions),
            }
        };
        let (mut sum, mut squares, mut rows) = (0.0, 0.0, 0.0);
        for &(truth, predicted, count) in cells {
            let slope = slope(truth, predicted) / known;
            sum += count * slope;
            squares += count * slope * slope;
            rows += count;
        }
        let margin = z * libm::sqrt((squares - sum * sum / rows).max(0.0));
        let interval = (
            (value - below.max(margin)).max(0.0),
            (value + above.max(margin)).min(1.0),
        );
        Some((value, interval))
    }
}

struct Metrics<'a> {
    rows: u64,
    /// Standard errors to each side of a figure.
    z: f64,
    baseline: &'a BTreeMap<String, f64>,
    out: &'a mut BTreeMap<String, Metric>,
}

impl Metrics<'_> {
    fn proportion(&mut self, name: &str, hits: i64, rows: i64) {
        if rows > 0 {
            let (hits, rows) = (hits as f64, rows as f64);
            let (low, high) = stats::wilson(hits, rows, self.z);
            self.put(name, hits / rows, (low, high), rows as u64);
        }
    }

    /// F1 of a class from its hits among the rows that are of it or predicted to
    /// be. It rises with their share J (Jaccard's) alone, F1 = 2 J / (1 + J), so
    /// that the ends of its interval are those of the share's.
    fn f1(&mut self, hits: i64, rows: i64) {
        if rows > 0 {
            let (hits, rows) = (hits as f64, rows as f64);
            let (low, high) = stats::wilson(hits, rows, self.z);
            let interval = (f1_of_share(low), f1_of_share(high));
            self.put("f1", f1_of_share(hits / rows), interval, self.rows);
        }
    }

    /// A mean loss, which is in this range.
    fn mean(&mut self, name: &str, sums: &Sums, which: Loss, scale: f64, range: (f64, f64)) {
        let rows = self.rows as f64;
        let moments = Moments::new(sums, which, rows);
        let margin = moments.standard_error(rows).map(|error| self.z * error * scale);
        self.value(name, moments.mean * scale, margin, range);
    }

    /// A figure between `least` and `most`.
    fn value(&mut self, name: &str, value: f64, margin: Option<f64>, (least, most): (f64, f64)) {
        let interval = margin.map(|margin| ((value - margin).max(least), (value + margin).min(most)));
        self.put(name, value, interval, self.rows);
    }

    fn put(&mut self, name: &str, value: f64, interval: impl Into<Option<(f64, f64)>>, rows: u64) {
        let interval = interval.into();
        let metric = Metric {
            value,
            low: interval.map(|(low, _)| low),
            high: interval.map(|(_, high)| high),
            baseline: self.baseline.get(name).copied(),
            rows,
        };
        self.out.insert(name.to_owned(), metric);
    }
}

/// How good predictions were, as far as labels tell.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Performance {
    /// Rows with a label.
    pub labelled: u64,
    /// By name: accuracy, precision, recall, f1, auc, log_loss, brier,
    /// calibration_error; mae, rmse, bias, r2; of several classes
    /// precision_macro, recall_macro, f1_macro.
    pub metrics: BTreeMap<String, Metric>,
    /// How often a class was taken for a class; empty without classes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub confusion: Vec<ConfusionCell>,
    /// Scores against what came true.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calibration: Vec<CalibrationBin>,
}

/// A figure with what is known of its error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// The figure.
    pub value: f64,
    /// Lower end of its interval, 95 % unless another was asked for; none of the
    /// mean of one row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub low: Option<f64>,
    /// Upper end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub high: Option<f64>,
    /// What it was when the model was packed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<f64>,
    /// Rows that it is a figure of.
    pub rows: u64,
}

/// How often a class was taken for another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConfusionCell {
    /// The label.
    pub truth: String,
    /// The prediction.
    pub predicted: String,
    /// Rows.
    pub count: u64,
}

/// Rows with scores about as high.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CalibrationBin {
    /// Scores from.
    pub from: f64,
    /// Scores below.
    pub to: f64,
    /// Rows.
    pub rows: u64,
    /// Their mean score.
    pub mean_score: f64,
    /// The share of them that was of the class of the score.
    pub share: f64,
}

/// What the scores themselves say of their quality: an estimate, no
/// measurement. It does not see a change of the relation between features and
/// label.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The expected accuracy.
    pub accuracy: f64,
    /// The expected AUC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auc: Option<f64>,
    /// Whether scores were calibrated on the holdout.
    pub calibrated: bool,
    /// Rows that it is an estimate for.
    pub rows: u64,
}

/// Adds sums to sums.
pub fn merge(sums: &mut Sums, other: &Sums) {
    for (key, value) in other {
        let sum = sums.entry(*key).or_insert(0);
        *sum = sum.saturating_add(*value);
    }
}

/// What takes these sums back.
pub fn negated(sums: &Sums) -> Sums {
    sums.iter().map(|(key, value)| (*key, -value)).collect()
}

/// A control chart: the cumulative sum of log-likelihood ratios of errors that
/// have risen against errors that have not (Page 1954), over buckets of errors
/// and rows in order of time. What a row adds depends on its error alone, so
/// the order of rows inside a bucket does not matter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Chart {
    /// What an error adds, and what a row adds whatever its error.
    error: f64,
    row: f64,
}

impl Chart {
    /// For a share of wrong rows that rises from `p0` to `p1` (Reynolds and
    /// Stoumbos 1999).
    pub fn of_share(p0: f64, p1: f64) -> Chart {
        let p0 = p0.clamp(1e-6, 1.0 - 1e-6);
        let p1 = p1.clamp(1e-6, 1.0 - 1e-6);
        let good = libm::log((1.0 - p1) / (1.0 - p0));
        Chart {
            error: libm::log(p1 / p0) - good,
            row: good,
        }
    }

    /// For absolute errors whose mean rises from `m0` to `m1`, both above 0, as
    /// if they were exponentially distributed (Gan 1994). Errors with lighter
    /// tails than that, as normal ones, make false alarms rarer.
    pub fn of_mean(m0: f64, m1: f64) -> Chart {
        Chart {
            error: 1.0 / m0 - 1.0 / m1,
            row: libm::log(m0 / m1),
        }
    }

    /// The sum at the end of the buckets. It never falls below 0, and is held at
    /// `cap`, so that it comes down soon after the errors did.
    pub fn run(&self, cap: f64, buckets: impl IntoIterator<Item = (f64, f64)>) -> f64 {
        buckets.into_iter().fold(0.0, |sum: f64, (errors, rows)| {
            (sum + errors * self.error + rows * self.row).clamp(0.0, cap)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binary() -> Judge {
        Judge {
            task: Task::Binary,
            kind: ScoreKind::Probability,
            labels: Labels::Int64(vec![0, 1]),
            positive: Some(1),
            score: Bins::uniform(0.0, 1.0),
            scale: 1.0,
            middle: 0.0,
            scored: true,
            usual_error: None,
        }
    }

    fn regression() -> Judge {
        Judge {
            task: Task::Regression,
            kind: ScoreKind::Value,
            labels: Labels::default(),
            positive: None,
            score: Bins::from_numbers(&[0.0, 10.0]).unwrap(),
            scale: 16.0,
            middle: 5.0,
            scored: false,
            usual_error: Some(0.5),
        }
    }

    fn baseline(rows: u64, metrics: &[(&str, f64)]) -> Baseline {
        Baseline {
            rows,
            metrics: metrics
                .iter()
                .map(|(name, value)| ((*name).to_owned(), *value))
                .collect(),
            positives: Vec::new(),
        }
    }

    fn near(a: f64, b: f64, tolerance: f64) {
        assert!((a - b).abs() <= tolerance, "{a} is not {b}");
    }

    fn sums(judge: &Judge, rows: &[(f64, u32)]) -> Sums {
        let mut all = Sums::new();
        for &(score, truth) in rows {
            let predicted = Predicted {
                class: u32::from(score >= 0.5),
                score,
            };
            merge(&mut all, &judge.judge(predicted, &Truth::Class(truth)));
        }
        all
    }

    #[test]
    fn figures_of_a_binary_model_by_hand() {
        let judge = binary();
        let rows = [(0.9, 1), (0.8, 0), (0.7, 1), (0.4, 1), (0.2, 0), (0.1, 0)];
        let performance = judge.performance(&sums(&judge, &rows), &BTreeMap::from([("accuracy".into(), 0.9)]));
        let metric = |name: &str| performance.metrics[name].value;
        assert_eq!(performance.labelled, 6);
        near(metric("accuracy"), 4.0 / 6.0, 1e-12);
        assert_eq!(performance.metrics["accuracy"].baseline, Some(0.9));
        near(metric("precision"), 2.0 / 3.0, 1e-12);
        near(metric("recall"), 2.0 / 3.0, 1e-12);
        near(metric("f1"), 2.0 / 3.0, 1e-12);
        // Two hits of the four rows that are positive or predicted to be:
        // Wilson's interval of that share J is 1/2 -+ z / (2 sqrt(4 + z^2)), and
        // F1 is 2 J / (1 + J).
        let f1 = &performance.metrics["f1"];
        let half = stats::Z_95 / (2.0 * (4.0 + stats::Z_95 * stats::Z_95).sqrt());
        let of_share = |share: f64| 2.0 * share / (1.0 + share);
        near(f1.low.unwrap(), of_share(0.5 - half), 1e-12);
        near(f1.high.unwrap(), of_share(0.5 + half), 1e-12);
        // Of the 9 pairs two are in the wrong order: 0.8 is above 0.7 and 0.4.
        near(metric("auc"), 7.0 / 9.0, 1e-12);
        let log_loss = -(0.9f64.ln() + 0.2f64.ln() + 0.7f64.ln() + 0.4f64.ln() + 0.8f64.ln() + 0.9f64.ln()) / 6.0;
        near(metric("log_loss"), log_loss, 1e-8);
        near(metric("brier"), (0.01 + 0.64 + 0.09 + 0.36 + 0.04 + 0.01) / 6.0, 1e-8);
        let cell = &performance.confusion[1];
        assert_eq!((&*cell.truth, &*cell.predicted, cell.count), ("0", "1", 1));
    }

    /// A model of classes that has this confusion: truth, prediction, rows.
    fn confused(classes: usize, cells: &[(u32, u32, i64)], z: f64) -> Performance {
        let judge = Judge {
            task: Task::Multiclass,
            labels: Labels::Int64((0..classes as i64).collect()),
            positive: None,
            ..binary()
        };
        let mut all = Sums::new();
        for &(truth, class, count) in cells {
            let one = judge.judge(Predicted { class, score: 0.75 }, &Truth::Class(truth));
            merge(
                &mut all,
                &one.into_iter().map(|(key, value)| (key, value * count)).collect(),
            );
        }
        judge.performance_at(&all, &BTreeMap::new(), z)
    }

    /// Confusion 3 1 | 2 4, a million times: recalls 3/4 and 4/6, precisions 3/5
    /// and 4/5. Given the rows of each class, the variance of a mean of recalls is
    /// (r0 (1 - r0) / 4 + r1 (1 - r1) / 6) / 4; likewise for precisions. As the one
    /// class's error is the other's, F1s of two classes vary together.
    #[test]
    fn intervals_of_means_over_classes_by_hand() {
        const TIMES: i64 = 1_000_000;
        let cells = [(0, 0, 3), (0, 1, 1), (1, 0, 2), (1, 1, 4)];
        let performance = confused(
            2,
            &cells.map(|(truth, class, count)| (truth, class, count * TIMES)),
            1.0,
        );
        let metric = |name: &str| &performance.metrics[name];
        for (name, value, variance) in [
            (
                "recall_macro",
                (3.0 / 4.0 + 4.0 / 6.0) / 2.0,
                (3.0 / 16.0 / 4.0 + 2.0 / 9.0 / 6.0) / 4.0,
            ),
            (
                "precision_macro",
                (3.0 / 5.0 + 4.0 / 5.0) / 2.0,
                (6.0 / 25.0 / 5.0 + 4.0 / 25.0 / 5.0) / 4.0,
            ),
        ] {
            let found = metric(name);
            let margin = f64::sqrt(variance / TIMES as f64);
            near(found.value, value, 1e-12);
            near((found.value - found.low.unwrap()) / margin, 1.0, 2e-3);
            near((found.high.unwrap() - found.value) / margin, 1.0, 2e-3);
        }
        // Of few rows the classes' own intervals are the wider ones.
        let few = confused(2, &cells, 1.0);
        for (name, shares) in [
            ("recall_macro", [(3.0, 4.0), (4.0, 6.0)]),
            ("precision_macro", [(3.0, 5.0), (4.0, 5.0)]),
        ] {
            let ends = shares.map(|(hits, rows)| {
                let (low, high) = stats::wilson_corrected(hits, rows, 1.0);
                (hits / rows - low, high - hits / rows)
            });
            let found = &few.metrics[name];
            near(
                found.value - found.low.unwrap(),
                ends[0].0.hypot(ends[1].0) / 2.0,
                1e-12,
            );
            near(
                found.high.unwrap() - found.value,
                ends[0].1.hypot(ends[1].1) / 2.0,
                1e-12,
            );
        }
        // 3 / 4.5 and 4 / 5.5.
        let f1 = metric("f1_macro");
        near(f1.value, (2.0 / 3.0 + 8.0 / 11.0) / 2.0, 1e-12);
        let independent = |share: f64, rows: f64| {
            let (low, _) = stats::wilson(share * rows, rows, 1.0);
            (f1_of_share(share) - f1_of_share(low)).powi(2)
        };
        let apart = (independent(0.5, 6e6) + independent(4.0 / 7.0, 7e6)).sqrt() / 2.0;
        let ratio = (f1.value - f1.low.unwrap()) / apart;
        assert!((1.1..1.5).contains(&ratio), "{ratio}");
    }

    /// A class with few rows tells little of a mean over classes, however many
    /// there are of the others.
    #[test]
    fn means_over_classes_with_few_rows_are_not_sure() {
        let right = confused(2, &[(0, 0, 2), (1, 1, 1)], stats::Z_95);
        for name in ["precision_macro", "recall_macro", "f1_macro"] {
            let metric = &right.metrics[name];
            assert_eq!((metric.value, metric.high), (1.0, Some(1.0)), "{name}");
            assert!(metric.low.unwrap() < 0.6, "{name}: {metric:?}");
        }
        // One prediction of a class that did not come.
        let rare = confused(3, &[(0, 0, 65), (1, 1, 64), (1, 2, 1)], stats::Z_95);
        let metric = &rare.metrics["precision_macro"];
        near(metric.value, 2.0 / 3.0, 1e-12);
        near(
            metric.high.unwrap() - metric.value,
            stats::wilson_corrected(0.0, 1.0, stats::Z_95).1 / 3.0,
            1e-12,
        );
    }

    #[test]
    fn every_figure_has_an_interval_that_widens_with_the_confidence() {
        let regression = Judge {
            task: Task::Regression,
            kind: ScoreKind::Value,
            labels: Labels::default(),
            positive: None,
            ..binary()
        };
        let several = Judge {
            task: Task::Multiclass,
            positive: None,
            ..binary()
        };
        for judge in [binary(), several, regression] {
            let mut all = Sums::new();
            for row in 0..200u32 {
                let score = f64::from(row % 40) / 40.0;
                let predicted = Predicted {
                    class: u32::from(judge.classifies() && score >= 0.5),
                    score,
                };
                let truth = match judge.classifies() {
                    true => Truth::Class(u32::from((row * 7) % 40 < row % 40)),
                    false => Truth::Number(f64::from((row * 7) % 40) / 40.0),
                };
                merge(&mut all, &judge.judge(predicted, &truth));
            }
            let narrow = judge.performance_at(&all, &BTreeMap::new(), 1.0);
            let wide = judge.performance_at(&all, &BTreeMap::new(), 2.0);
            assert!(narrow.metrics.keys().eq({
                let mut names = judge.metric_names().to_vec();
                names.sort_unstable();
                names
            }));
            for (name, metric) in &narrow.metrics {
                let (low, high) = (metric.low.unwrap(), metric.high.unwrap());
                assert!(low < metric.value && metric.value < high, "{name}: {metric:?}");
                let wide = &wide.metrics[name];
                assert!(wide.low.unwrap() < low && high < wide.high.unwrap(), "{name}: {wide:?}");
            }
        }
    }

    /// With one row of each class the variance of an AUC is that of a coin, so
    /// its interval is Wilson's of one toss.
    #[test]
    fn few_labels_are_never_sure() {
        let judge = binary();
        for (rows, auc) in [([(0.9, 1), (0.1, 0)], 1.0), ([(0.1, 1), (0.9, 0)], 0.0)] {
            let performance = judge.performance(&sums(&judge, &rows), &BTreeMap::new());
            let metric = &performance.metrics["auc"];
            let (low, high) = stats::wilson(auc, 1.0, stats::Z_95);
            assert_eq!(metric.value, auc);
            near(metric.low.unwrap(), low, 1e-9);
            near(metric.high.unwrap(), high, 1e-9);
        }
        let one = judge.performance(&sums(&judge, &[(0.9, 1)]), &BTreeMap::new());
        let f1 = &one.metrics["f1"];
        assert_eq!((f1.value, f1.high), (1.0, Some(1.0)));
        near(f1.low.unwrap(), 2.0 * 0.206_549 / 1.206_549, 1e-5);
        // The same for whichever class is the rare one.
        let all_right = |positives: f64, negatives: f64| auc_bound(1.0, -1.0, positives, negatives, stats::Z_95);
        near(all_right(5.0, 4000.0), 0.8107, 1e-4);
        near(all_right(4000.0, 5.0), 0.8107, 1e-4);
        // Of many it is the interval that the standard error at the value gives.
        let (positives, negatives) = (4000.0, 6000.0);
        let margin = stats::Z_95 * auc_standard_error(0.8, positives, negatives);
        near(
            auc_bound(0.8, -1.0, positives, negatives, stats::Z_95),
            0.8 - margin,
            2e-4,
        );
        near(
            auc_bound(0.8, 1.0, positives, negatives, stats::Z_95),
            0.8 + margin,
            2e-4,
        );
    }

    #[test]
    fn a_corrected_label_leaves_no_trace() {
        let judge = binary();
        let predicted = Predicted { class: 1, score: 0.73 };
        let mut all = sums(&judge, &[(0.2, 0)]);
        let before = judge.performance(&all, &BTreeMap::new());
        let wrong = judge.judge(predicted, &Truth::Class(0));
        merge(&mut all, &wrong);
        merge(&mut all, &negated(&wrong));
        assert_eq!(judge.performance(&all, &BTreeMap::new()), before);
    }

    #[test]
    fn figures_of_a_regression_by_hand() {
        let judge = regression();
        let mut all = Sums::new();
        for (score, truth) in [(3.0, 1.0), (5.0, 6.0), (10.0, 9.0)] {
            let predicted = Predicted { class: 0, score };
            merge(&mut all, &judge.judge(predicted, &Truth::Number(truth)));
        }
        let performance = judge.performance(&all, &BTreeMap::new());
        let metric = |name: &str| performance.metrics[name].value;
        near(metric("mae"), 4.0 / 3.0, 1e-7);
        near(metric("rmse"), 2f64.sqrt(), 1e-7);
        near(metric("bias"), 2.0 / 3.0, 1e-7);
        // Truths 1, 6, 9: variance 98/9; mean squared error 2.
        near(metric("r2"), 1.0 - 2.0 / (98.0 / 9.0), 1e-3);
        // Absolute errors 2, 1, 1: their sample variance is 1/3.
        let mae = &performance.metrics["mae"];
        near(
            mae.high.unwrap() - mae.value,
            stats::Z_95 * (1.0 / 3.0 / 3.0f64).sqrt(),
            1e-6,
        );
        // R² is no more than 1; of one row there is no interval.
        assert!(performance.metrics["r2"].high.unwrap() <= 1.0);
        let one = judge.judge(Predicted { class: 0, score: 3.0 }, &Truth::Number(1.0));
        let one = &judge.performance(&one, &BTreeMap::new()).metrics["mae"];
        assert_eq!((one.low, one.high), (None, None));
        // Errors 2, 1 and 1 at a usual 0.5: none is beyond four times that.
        let (errors, rows) = judge.errors(&all);
        near(errors, 8.0, 1e-7);
        near(rows, 3.0, 0.0);
    }

    #[test]
    fn errors_of_any_size_count_whole() {
        let judge = regression();
        let labelled = |truths: &[f64]| {
            let mut all = Sums::new();
            for &truth in truths {
                merge(
                    &mut all,
                    &judge.judge(Predicted { class: 0, score: 5.0 }, &Truth::Number(truth)),
                );
            }
            all
        };
        for truths in [&[4.0, 7.0, 1e5, -3e9, 2e40][..], &[1100.0; 3], &[1e70]] {
            let sums = labelled(truths);
            let rows = truths.len() as f64;
            let mean = |of: &dyn Fn(f64) -> f64| truths.iter().map(|truth| of(5.0 - truth)).sum::<f64>() / rows;
            let performance = judge.performance(&sums, &BTreeMap::new());
            for (name, by_hand) in [
                ("mae", mean(&f64::abs)),
                ("bias", mean(&|error| error)),
                ("rmse", mean(&|error| error * error).sqrt()),
            ] {
                let value = performance.metrics[name].value;
                assert!(
                    (value / by_hand - 1.0).abs() < 1e-6,
                    "{name} of {truths:?}: {value}, {by_hand}"
                );
            }
            // A label taken back leaves those that were there before.
            let mut all = labelled(&[4.0, 7.0]);
            let before = judge.performance(&all, &BTreeMap::new());
            merge(&mut all, &sums);
            merge(&mut all, &negated(&sums));
            assert_eq!(judge.performance(&all, &BTreeMap::new()), before);
        }
        let largest = judge.performance(&labelled(&[f64::MAX, f64::MIN]), &BTreeMap::new());
        assert!(
            largest
                .metrics
                .values()
                .all(|metric| metric.value.is_finite() && metric.high.is_some_and(f64::is_finite)),
            "{largest:?}"
        );
    }

    #[test]
    fn truths_that_are_all_alike_have_no_determination() {
        let judge = regression();
        for truth in [0.1, 5.0, 150.0, 5000.3, 1e30] {
            let mut all = Sums::new();
            for score in [3.0, 5.0, 10.0] {
                let predicted = Predicted { class: 0, score };
                merge(&mut all, &judge.judge(predicted, &Truth::Number(truth)));
            }
            let performance = judge.performance(&all, &BTreeMap::new());
            assert!(!performance.metrics.contains_key("r2"), "{truth}: {performance:?}");
        }
    }

    #[test]
    fn labels_are_read_as_callers_write_them() {
        let judge = binary();
        assert_eq!(judge.read(&1.into()), Ok(Truth::Class(1)));
        assert_eq!(judge.read(&serde_json::json!(0.0)), Ok(Truth::Class(0)));
        assert_eq!(judge.read(&true.into()), Ok(Truth::Class(1)));
        assert_eq!(judge.read_text(" 1 "), Ok(Truth::Class(1)));
        assert_eq!(judge.read(&2.into()), Err("expected one of 0, 1 but got 2".into()));
        assert_eq!(
            judge.read(&"1".into()),
            Err("expected one of 0, 1 but got \"1\"".into())
        );
    }

    #[test]
    fn an_estimate_needs_no_labels() {
        // The score is that of the positive class, whichever it is.
        for positive in [0, 1] {
            let judge = Judge {
                positive: Some(positive),
                ..binary()
            };
            let mut scores = vec![0; judge.score.len()];
            // 100 rows at 0.9083 and 100 at 0.1083: nine in ten right.
            scores[usize::from(judge.score.number(0.91))] = 100;
            scores[usize::from(judge.score.number(0.11))] = 100;
            let estimate = judge.estimate(&scores, None).unwrap();
            near(estimate.accuracy, 0.9, 1e-9);
            // Pairs within a bin are ties.
            let (high, low) = (0.908_333_333, 0.108_333_333);
            let pairs = (high + low) * (2.0 - high - low);
            let ties = high * (1.0 - high) + low * (1.0 - low);
            near(estimate.auc.unwrap(), (high * (1.0 - low) + ties / 2.0) / pairs, 1e-6);
            assert!(!estimate.calibrated);
            // A holdout that shows that the scores are of no use.
            let holdout = vec![(500, 500); judge.score.len()];
            near(judge.estimate(&scores, Some(&holdout)).unwrap().accuracy, 0.5, 2e-3);
        }
    }

    /// What labels say of a model that is as sure as it should be is what it
    /// says of itself, whichever class is positive.
    #[test]
    fn an_estimate_is_what_labels_then_say() {
        for positive in [0u32, 1] {
            let judge = Judge {
                positive: Some(positive),
                ..binary()
            };
            let mut scores = vec![0u64; judge.score.len()];
            let mut all = Sums::new();
            // In each bin as many rows of 60 are positive as its middle says.
            for bin in 0..60u32 {
                let score = (f64::from(bin) + 0.5) / 60.0;
                let class = if score >= 0.5 { positive } else { 1 - positive };
                scores[usize::from(judge.score.number(score))] += 120;
                for row in 0..120 {
                    let truth = if row < 2 * bin + 1 { positive } else { 1 - positive };
                    merge(&mut all, &judge.judge(Predicted { class, score }, &Truth::Class(truth)));
                }
            }
            let measured = judge.performance(&all, &BTreeMap::new());
            for holdout in [None, Some(judge.positives(&all))] {
                let estimate = judge.estimate(&scores, holdout.as_deref()).unwrap();
                near(estimate.accuracy, measured.metrics["accuracy"].value, 1e-9);
                near(estimate.auc.unwrap(), measured.metrics["auc"].value, 1e-9);
                assert_eq!(estimate.rows, measured.labelled);
            }
        }
    }

    #[test]
    fn of_several_classes_the_predicted_ones_scores_are_taken() {
        let judge = Judge {
            task: Task::Multiclass,
            labels: Labels::String(["a", "b", "c"].map(str::to_owned).to_vec()),
            positive: None,
            ..binary()
        };
        let mut scores = vec![0; judge.score.len()];
        // A winner among three may have less than half.
        scores[usize::from(judge.score.number(0.41))] = 100;
        scores[usize::from(judge.score.number(0.91))] = 300;
        let estimate = judge.estimate(&scores, None).unwrap();
        near(
            estimate.accuracy,
            (100.0 * 0.408_333_333 + 300.0 * 0.908_333_333) / 400.0,
            1e-6,
        );
        assert_eq!((estimate.auc, estimate.rows), (None, 400));
        // Labels of the holdout calibrate them: 0.91 came true in six of ten.
        let mut all = Sums::new();
        for row in 0..1000 {
            let predicted = Predicted { class: 2, score: 0.91 };
            merge(
                &mut all,
                &judge.judge(predicted, &Truth::Class(if row < 600 { 2 } else { 1 })),
            );
        }
        let estimate = judge.estimate(&scores, Some(&judge.positives(&all))).unwrap();
        near(estimate.accuracy, (100.0 * 0.408_333_333 + 300.0 * 0.6) / 400.0, 1e-3);
        assert!(estimate.calibrated);
        // Scores that are no class's, or no probabilities, promise nothing.
        let unscored = Judge {
            scored: false,
            ..judge.clone()
        };
        assert_eq!(unscored.estimate(&scores, None), None);
        let decisions = Judge {
            kind: ScoreKind::Decision,
            ..judge
        };
        assert_eq!(decisions.estimate(&scores, None), None);
    }

    #[test]
    fn a_chart_rises_with_errors_only() {
        let chart = Chart::of_share(0.1, 0.2);
        let quiet = chart.run(1e9, (0..50).map(|_| (10.0, 100.0)));
        let risen = chart.run(1e9, (0..5).map(|_| (20.0, 100.0)));
        assert_eq!(quiet, 0.0);
        near(risen, 5.0 * (20.0 * 2f64.ln() + 80.0 * (0.8f64 / 0.9).ln()), 1e-9);
        assert_eq!(chart.run(1e9, []), 0.0);
        assert_eq!(chart.run(12.0, [(1000.0, 1000.0)]), 12.0);
        // 100 rows at twice the mean: each adds 2 (1 - 1/1.25) - ln 1.25.
        let chart = Chart::of_mean(1.0, 1.25);
        near(chart.run(1e9, [(200.0, 100.0)]), 100.0 * (0.4 - 1.25f64.ln()), 1e-9);
        assert_eq!(chart.run(1e9, (0..50).map(|_| (100.0, 100.0))), 0.0);
    }

    #[test]
    fn a_chart_starts_from_what_the_baseline_could_have_been() {
        let judge = binary();
        assert_eq!(judge.chart(&baseline(1000, &[("auc", 0.9)])), None);
        assert_eq!(judge.chart(&baseline(49, &[("accuracy", 0.9)])), None);
        let told = judge.chart(&baseline(0, &[("accuracy", 0.9)])).unwrap();
        assert_eq!(told, Chart::of_share(1.0 - 0.9, 1.0 - 0.9 + 0.05));
        let (_, upper) = stats::wilson(10.0, 100.0, stats::Z_95);
        let measured = judge.chart(&baseline(100, &[("accuracy", 0.9)])).unwrap();
        near(measured.error, Chart::of_share(upper, upper + 0.05).error, 1e-9);

        let judge = regression();
        let chart = |rows, metrics: &[(&str, f64)]| judge.chart(&baseline(rows, metrics));
        assert_eq!(chart(49, &[("mae", 0.5)]), None);
        assert_eq!(chart(0, &[("mae", 0.5)]), Some(Chart::of_mean(1.0, 1.25)));
        // Nothing is known of the spread, or it is 0.75 of the mean.
        let mean = 1.0 + stats::Z_95 / 10.0;
        assert_eq!(chart(100, &[("mae", 0.5)]), Some(Chart::of_mean(mean, mean * 1.25)));
        let mean = 1.0 + stats::Z_95 * 0.75 / 10.0;
        let measured = chart(100, &[("mae", 0.5), ("rmse", 0.625)]);
        assert_eq!(measured, Some(Chart::of_mean(mean, mean * 1.25)));
        let without = Judge {
            usual_error: None,
            ..regression()
        };
        assert_eq!(without.chart(&baseline(0, &[("rmse", 0.5)])), None);
    }

    /// Numbers in (0, 1) without a pattern to speak of.
    struct Noise(u64);

    impl Noise {
        fn next(&mut self) -> f64 {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            ((self.0 >> 11) as f64 + 0.5) / (1u64 << 53) as f64
        }

        fn normal(&mut self) -> f64 {
            let (radius, turn) = ((-2.0 * self.next().ln()).sqrt(), self.next());
            radius * (core::f64::consts::TAU * turn).cos()
        }
    }

    /// How many of 50 charts over 10,000 labels of a regression, 20 in a
    /// bucket, are beyond 8 at some time.
    fn alarms(error: impl Fn(&mut Noise) -> f64, rise: f64) -> usize {
        let judge = regression();
        let chart = judge.chart(&baseline(0, &[("mae", 0.5)])).unwrap();
        let mut noise = Noise(7);
        let mut alarms = 0;
        for _ in 0..50 {
            let buckets: Vec<(f64, f64)> = (0..500)
                .map(|_| {
                    let mut bucket = Sums::new();
                    for _ in 0..20 {
                        let truth = Truth::Number(5.0 + 0.5 * rise * error(&mut noise));
                        merge(&mut bucket, &judge.judge(Predicted { class: 0, score: 5.0 }, &truth));
                    }
                    judge.errors(&bucket)
                })
                .collect();
            let highest = (1..=buckets.len()).map(|end| chart.run(16.0, buckets[..end].iter().copied()));
            alarms += usize::from(highest.fold(0.0, f64::max) > 8.0);
        }
        alarms
    }

    #[test]
    fn errors_as_usual_rarely_alarm_and_larger_ones_do() {
        // All with a mean absolute value of 1.
        let normal = |noise: &mut Noise| noise.normal() / (2.0 / core::f64::consts::PI).sqrt();
        let laplace = |noise: &mut Noise| -noise.next().ln();
        // Student's t with 3 degrees of freedom.
        let heavy = |noise: &mut Noise| {
            let square = (0..3).map(|_| noise.normal().powi(2)).sum::<f64>() / 3.0;
            noise.normal() / square.sqrt() / (2.0 * 3f64.sqrt() / core::f64::consts::PI)
        };
        let quiet = [alarms(normal, 1.0), alarms(laplace, 1.0), alarms(heavy, 1.0)];
        assert!(quiet.iter().all(|alarms| *alarms <= 2), "{quiet:?} of 50");
        let risen = [alarms(normal, 1.25), alarms(laplace, 1.25), alarms(heavy, 1.25)];
        assert!(risen.iter().all(|alarms| *alarms >= 48), "{risen:?} of 50");
    }

    #[test]
    fn a_wild_error_alone_is_no_alarm_and_the_order_inside_a_bucket_is_none() {
        let judge = regression();
        let chart = judge.chart(&baseline(0, &[("mae", 0.5)])).unwrap();
        let judged = |error: f64| judge.judge(Predicted { class: 0, score: 5.0 }, &Truth::Number(5.0 + error));
        for wild in [1e6, -1e300, f64::MAX] {
            let (errors, rows) = judge.errors(&judged(wild));
            assert_eq!((errors, rows), (4.0, 1.0));
        }
        assert!(chart.run(16.0, [judge.errors(&judged(1e9))]) < 1.0);
        let rows = [0.1, 3.0, 0.7, 1e9, 0.0, 2.5];
        let sum = |rows: &mut dyn Iterator<Item = f64>| {
            let mut sums = Sums::new();
            rows.for_each(|error| merge(&mut sums, &judged(error)));
            sums
        };
        let (forth, back) = (sum(&mut rows.iter().copied()), sum(&mut rows.iter().rev().copied()));
        assert_eq!(forth, back);
        let mut none = forth.clone();
        merge(&mut none, &negated(&back));
        assert_eq!(judge.errors(&none), (0.0, 0.0));
    }
}
