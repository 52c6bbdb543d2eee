//! What is said about drift: the body of `GET /drift` and of `modelet drift
//! --json`.

use crate::validate::FaultCode;
use serde::{Deserialize, Serialize};

/// The verdict on a distribution, or on all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// There is nothing to compare with.
    NoReference,
    /// Too few rows to tell.
    InsufficientData,
    /// No difference that is both real and worth a word.
    Stable,
    /// A difference that is both.
    Drifted,
}

/// The verdict on the quality of data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QualityState {
    /// There is nothing to compare with.
    NoReference,
    /// Too few rows to tell.
    InsufficientData,
    /// As in the reference.
    Good,
    /// Really and notably more of it is bad than in the reference.
    Bad,
}

/// When a difference is called drift, and when it alerts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Thresholds {
    /// A drifted feature alerts from this PSI on. Default: 0.1.
    pub psi: f64,
    /// It alerts from this Kullback-Leibler divergence on, in nats, too.
    /// Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kl: Option<f64>,
    /// A drifted label or score alerts from this PSI on. Default: 0.15.
    pub prediction_psi: f64,
    /// A difference is real below this adjusted p-value. Default: 0.04.
    pub adjusted_p: f64,
    /// It is worth a word from this PSI on. Default: 0.01.
    pub psi_min: f64,
    /// Fewer answered rows than this are insufficient, and fewer values of a
    /// column in the reference; from so many rows on a column is judged that
    /// has at least 5 values. Default: 20.
    pub rows_min: u64,
    /// A share of missing, out-of-range, unseen or not finite values that is
    /// really larger than the reference's is bad from this increase on.
    /// Default: 0.005.
    pub quality_increase: f64,
}

impl Default for Thresholds {
    fn default() -> Thresholds {
        Thresholds {
            psi: 0.1,
            kl: None,
            prediction_psi: 0.15,
            adjusted_p: 0.04,
            psi_min: 0.01,
            rows_min: 20,
            quality_increase: 0.005,
        }
    }
}

/// The whole report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// The model's name.
    pub model: String,
    /// Its version.
    pub version: String,
    /// SHA-256 of its bundle.
    pub sha256: String,
    /// The worst state of the features and predictions.
    pub state: State,
    /// Whether one of them alerts.
    pub alert: bool,
    /// The worst quality of a column.
    pub quality: QualityState,
    /// The report in a sentence or two.
    pub verdict: String,
    /// The time that it is about, where it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    /// Rows that were answered.
    pub rows: u64,
    /// Rows that were rejected.
    pub rejected: u64,
    /// Rows of the reference.
    pub reference_rows: u64,
    /// What it was judged by.
    pub thresholds: Thresholds,
    /// Which features carry the drift: all that were compared, by falling PSI.
    pub attribution: Vec<Attribution>,
    /// The features, in the signature's order.
    pub features: Vec<ColumnReport>,
    /// The label (of classifiers) and the score.
    pub predictions: Vec<ColumnReport>,
    /// How often each fault led to a rejection.
    pub faults: Vec<FaultReport>,
}

/// A feature's part of the drift.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attribution {
    /// The feature.
    pub name: String,
    /// Its PSI.
    pub psi: f64,
    /// The part of it in the sum of all features' PSI, in [0, 1].
    pub share: f64,
    /// Whether it drifted.
    pub drifted: bool,
}

/// A span of time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Its length as it was asked for, such as `1h`.
    pub name: String,
    /// Its begin, RFC 3339.
    pub from: String,
    /// Its end, RFC 3339.
    pub to: String,
}

/// A count of faults.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultReport {
    /// The feature; none for faults that belong to no feature.
    pub feature: Option<String>,
    /// Its kind.
    pub code: FaultCode,
    /// How often.
    pub count: u64,
}

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnKind {
    /// Numbers.
    Numeric,
    /// Categories.
    Categorical,
}

/// The test that says whether a difference is real.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Test {
    /// Two-sample Kolmogorov-Smirnov on the fine bins.
    KolmogorovSmirnov,
    /// Two-sample chi-square.
    ChiSquare,
}

/// One monitored column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ColumnReport {
    /// Its name.
    pub name: String,
    /// What it holds.
    #[serde(rename = "type")]
    pub kind: ColumnKind,
    /// The verdict on its distribution.
    pub state: State,
    /// Whether it is drifted and beyond its threshold.
    pub alert: bool,
    /// Values compared: answered rows without missing and not finite ones.
    pub values: u64,
    /// Values of the reference.
    pub reference_values: u64,
    /// The figures, as members of this object; none without values of the
    /// reference and of the window.
    #[serde(default, flatten, skip_serializing_if = "Option::is_none")]
    pub drift: Option<DriftFigures>,
    /// Shares that tell of the quality of the data, not of its distribution.
    pub quality: Quality,
    /// The fine bins.
    pub bins: Vec<BinReport>,
    /// The groups of bins that PSI, KL and Jensen-Shannon are computed on.
    pub groups: Vec<GroupReport>,
}

/// How a column differs from the reference.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DriftFigures {
    /// Population stability index.
    pub psi: f64,
    /// Kullback-Leibler divergence of the current from the reference values,
    /// in nats.
    pub kl: f64,
    /// Jensen-Shannon distance to base 2, in [0, 1].
    pub js_distance: f64,
    /// Wasserstein-1 distance over the reference's standard deviation, clipped
    /// to the seen range; only of numbers that are not all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wasserstein: Option<f64>,
    /// Which test was made.
    pub test: Test,
    /// Its statistic.
    pub statistic: f64,
    /// Its p-value.
    pub p: f64,
    /// The p-value adjusted to the features of the report, or to its label and
    /// score (Benjamini-Hochberg).
    pub adjusted_p: f64,
    /// The threshold on PSI that the column is held against.
    pub threshold: f64,
    /// Where the values went; numbers only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<Direction>,
    /// Median of the reference, from its bins, clipped to the seen range;
    /// numbers only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference_median: Option<f64>,
    /// The same of the window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub median: Option<f64>,
    /// The groups that carry most of the PSI, the largest part first: as few as
    /// make half of it, at most three. Indices of [`ColumnReport::groups`].
    pub top_groups: Vec<u32>,
    /// What moved, in words; empty unless drifted.
    pub moved: String,
}

/// Where the values of a window went, against the reference's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Up: at nearly every value, more of the window is above it.
    Higher,
    /// Down.
    Lower,
    /// Away from the middle.
    Wider,
    /// Towards the middle.
    Narrower,
    /// None of these.
    Mixed,
}

/// The quality of a column's data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// The worst of the shares.
    pub state: QualityState,
    /// Values that are missing; with those rejected for it.
    pub missing: ShareReport,
    /// Numbers beyond the seen range; with those rejected for it.
    pub out_of_range: ShareReport,
    /// Categories that the reference does not have; with those rejected for it.
    pub unseen: ShareReport,
    /// Numbers that are not finite; with those rejected for it.
    pub not_finite: ShareReport,
}

/// A share of rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShareReport {
    /// Rows that are such.
    pub count: u64,
    /// Their share of all rows, in [0, 1].
    pub share: f64,
    /// The reference's.
    pub reference_share: f64,
    /// How likely so large a share is by chance; 1 where there can be none.
    pub p: f64,
    /// Adjusted to all shares of the features of the report, or of its label
    /// and score (Benjamini-Hochberg).
    pub adjusted_p: f64,
    /// Whether it is bad: really larger than the reference's, and by the
    /// threshold.
    pub state: QualityState,
}

/// A fine bin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BinReport {
    /// As [`labels`](super::labels) has it.
    pub label: String,
    /// Lower edge of a numeric bin inside the seen range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<f64>,
    /// Its upper edge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<f64>,
    /// How many of the reference are in it.
    pub reference: u64,
    /// How many of the rows are.
    pub current: u64,
    /// The group that it belongs to; none for bins that belong to none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<u32>,
}

/// A group of fine bins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupReport {
    /// Its edges, or its category, for people.
    pub label: String,
    /// The share of the reference in it, half a count added to each group.
    pub reference: f64,
    /// The share of the rows in it, likewise.
    pub current: f64,
    /// Its part of the PSI.
    pub psi: f64,
}
