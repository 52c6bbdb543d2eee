//! What a model takes and gives: the part of the manifest that validation,
//! forms, documents and answers are made from.

use crate::drift::CATEGORIES_MAX;
use crate::tensor::Dtype;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The manifest of a bundle: everything about a model but its program.
///
/// Written by `modelet pack`, read by every home; `GET /model/info` shows it.
/// Members keep their order, and nothing in it depends on when or where it was
/// written, so that the same inputs give the same bytes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of this format.
    pub format: u32,
    /// The model's name.
    pub name: String,
    /// The model's version, as its owner counts.
    pub version: String,
    /// Which engine runs it.
    pub engine: EngineKind,
    /// What it is for.
    pub task: Task,
    /// Ordered features.
    pub features: Vec<Feature>,
    /// What becomes of features that the signature does not have.
    #[serde(default)]
    pub unknown: Unknown,
    /// The model's inputs, which the features feed.
    pub inputs: Vec<Input>,
    /// How answers are read from the model's outputs.
    pub output: Output,
    /// Rows of a batch may be run together; otherwise one by one.
    pub batch: bool,
    /// The frozen bins of the monitored columns.
    pub reference: Reference,
    /// How good the model was when it was packed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<Baseline>,
    /// Where the model came from.
    pub provenance: Provenance,
}

/// See [`Manifest::format`].
pub const FORMAT: u32 = 1;

/// Which engine runs a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineKind {
    /// Our own, on a lowered program.
    Tabular,
    /// tract, on the ONNX graph.
    Neural,
}

impl EngineKind {
    /// Name as the manifest has it.
    pub fn name(self) -> &'static str {
        match self {
            EngineKind::Tabular => "tabular",
            EngineKind::Neural => "neural",
        }
    }
}

/// What a model is for, which decides how it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// One of two classes.
    Binary,
    /// One of several classes.
    Multiclass,
    /// One or more numbers.
    Regression,
    /// Inlier or outlier.
    Outlier,
    /// The number of a cluster.
    Cluster,
    /// A vector, such as an embedding.
    Transform,
}

impl Task {
    /// Name as the manifest has it.
    pub fn name(self) -> &'static str {
        match self {
            Task::Binary => "binary",
            Task::Multiclass => "multiclass",
            Task::Regression => "regression",
            Task::Outlier => "outlier",
            Task::Cluster => "cluster",
            Task::Transform => "transform",
        }
    }
}

/// What becomes of features that the signature does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unknown {
    /// They are faults.
    #[default]
    Error,
    /// They are passed over.
    Ignore,
}

/// What callers send for a feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FeatureType {
    /// A JSON number.
    Number,
    /// A JSON number without a fraction.
    Integer,
    /// `true` or `false`, or 1 or 0.
    Boolean,
    /// One of a set of names or codes.
    Category,
}

impl FeatureType {
    /// Name as the manifest has it.
    pub fn name(self) -> &'static str {
        match self {
            FeatureType::Number => "number",
            FeatureType::Integer => "integer",
            FeatureType::Boolean => "boolean",
            FeatureType::Category => "category",
        }
    }
}

/// A closed range; an absent end is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// The smallest value inside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// The largest value inside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
}

/// A category as callers write it.
#[derive(Clone, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Category {
    /// A code.
    Code(f64),
    /// A name.
    Name(String),
}

impl std::fmt::Display for Category {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Category::Code(code) => write!(f, "{code}"),
            Category::Name(name) => write!(f, "{name:?}"),
        }
    }
}

/// One column of a model's input.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Feature {
    /// The name that callers use.
    pub name: String,
    /// What callers send.
    #[serde(rename = "type")]
    pub kind: FeatureType,
    /// `null`, or leaving the feature out, stands for a missing value.
    #[serde(default)]
    pub nullable: bool,
    /// Smallest and largest value of the reference data; beyond it is a
    /// warning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<Range>,
    /// Beyond it is a fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed: Option<Range>,
    /// Categories of the reference data, sorted; others are a warning, or with
    /// `closed` a fault.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub categories: Vec<Category>,
    /// Only the listed categories are accepted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub closed: bool,
    /// Names that callers may send, and the code that the model gets for each.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub encoding: BTreeMap<String, f64>,
    /// A value of this feature, for documents and examples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub example: Option<Category>,
    /// The model input that it feeds.
    pub input: u16,
    /// The element of a record of that input.
    pub column: u32,
}

impl Feature {
    /// Whether an empty cell is the empty text, not a missing value: where the
    /// model takes text, nothing says that values may be missing, and the
    /// categories have it, are not known, or are so many that it is free text.
    pub fn takes_empty(&self, dtype: Dtype) -> bool {
        let is_empty = |category: &Category| matches!(category, Category::Name(name) if name.is_empty());
        dtype == Dtype::String
            && !self.nullable
            && match self.categories.len() {
                1..CATEGORIES_MAX => self.categories.iter().any(is_empty),
                _ => true,
            }
    }
}

/// One input of the model.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Input {
    /// Name in the ONNX graph.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Shape of one record, without the batch dimension: `[]` for a vector of
    /// N, `[20]` for a matrix of N × 20.
    pub shape: Vec<u32>,
}

impl Input {
    /// The number of elements of one record.
    pub fn width(&self) -> usize {
        self.shape.iter().map(|&d| d as usize).product()
    }
}

/// Class labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Labels {
    /// Integers.
    Int64(Vec<i64>),
    /// Text.
    String(Vec<String>),
}

impl Default for Labels {
    fn default() -> Labels {
        Labels::Int64(Vec::new())
    }
}

impl Labels {
    /// The number of classes.
    pub fn len(&self) -> usize {
        match self {
            Labels::Int64(v) => v.len(),
            Labels::String(v) => v.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The label at `index` as text.
    pub fn text(&self, index: usize) -> String {
        match self {
            Labels::Int64(v) => v.get(index).map(i64::to_string).unwrap_or_default(),
            Labels::String(v) => v.get(index).cloned().unwrap_or_default(),
        }
    }
}

/// What a model's scores are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScoreKind {
    /// Probabilities in [0, 1].
    Probability,
    /// Decision scores of any size.
    Decision,
    /// Predicted values.
    Value,
}

/// How answers are read from a model's outputs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Output {
    /// Class labels in the order of the scores' columns; empty without classes.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// Index of the positive class of a binary model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub positive: Option<u32>,
    /// Which output holds the label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<u16>,
    /// Which outputs hold the scores, or the predicted values; several are put
    /// side by side.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scores: Vec<u16>,
    /// The number of score columns of a record.
    pub width: u32,
    /// What the scores are.
    pub kind: ScoreKind,
}

/// The frozen bins that observations fall into, and how the reference data
/// filled them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Reference {
    /// Rows of reference data; 0 when there was none.
    pub rows: u64,
    /// The monitored columns: every feature in order, then the label
    /// (classifiers only), then the score.
    pub columns: Vec<Column>,
}

/// A monitored column.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Column {
    /// A feature's name, or `prediction`, or `score`.
    pub name: String,
    /// Its bins.
    pub bins: crate::drift::Bins,
    /// How many rows of the reference fell into each bin; empty where there
    /// was no reference.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub counts: Vec<u64>,
    /// Standard deviation (of the population) of the reference's finite
    /// values; numbers only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub std: Option<f64>,
    /// Every bin inside the seen range holds one distinct value, its lower
    /// edge.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub distinct: bool,
}

impl Column {
    /// A column whose reference is not counted yet.
    pub fn new(name: impl Into<String>, bins: crate::drift::Bins) -> Column {
        Column {
            name: name.into(),
            bins,
            counts: Vec::new(),
            std: None,
            distinct: false,
        }
    }

    /// A column of numbers such as these, not counted yet; without a finite
    /// number among them, one whose only bin has no end.
    pub fn of_numbers(name: impl Into<String>, values: &[f64]) -> Column {
        use crate::drift::Bins;
        let Some(bins) = Bins::from_numbers(values) else {
            return Column::new(name, Bins::unbounded());
        };
        let finite = || values.iter().filter(|v| v.is_finite());
        let count = finite().count() as f64;
        let mean = finite().sum::<f64>() / count;
        let variance = finite().map(|v| (v - mean) * (v - mean)).sum::<f64>() / count;
        let distinct = match &bins {
            Bins::Numeric { min, cuts, .. } => finite().all(|v| v == min || cuts.contains(v)),
            Bins::Categorical { .. } => false,
        };
        Column {
            std: Some(variance.sqrt()).filter(|std| std.is_finite()),
            distinct,
            ..Column::new(name, bins)
        }
    }
}

/// How good a model was on rows that it was not trained on, which later
/// performance is held against.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// Rows with a label that it was measured on; 0 where it was only told.
    pub rows: u64,
    /// Figures by the names of
    /// [`Performance::metrics`](crate::drift::truth::Performance::metrics).
    pub metrics: BTreeMap<String, f64>,
    /// For each bin of the score how many rows were not, and how many were, of
    /// the class of the score: the positive one of binary models, the predicted
    /// one of several.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub positives: Vec<(u64, u64)>,
}

/// Where a model came from.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Provenance {
    /// Version of modelet that packed it.
    pub modelet: String,
    /// SHA-256 of the ONNX file, hexadecimal.
    pub onnx_sha256: String,
    /// Size of the ONNX file in bytes.
    pub onnx_bytes: u64,
    /// The exporter, as the ONNX file names it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub producer: String,
    /// Version of every operator set.
    pub opsets: BTreeMap<String, i64>,
    /// How often the graph has each operator.
    pub operators: BTreeMap<String, u32>,
    /// SHA-256 of the reference data, hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_sha256: Option<String>,
    /// Largest difference between the model's answers and the expected ones
    /// given at packing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_max_difference: Option<f64>,
}
