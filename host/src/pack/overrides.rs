//! `signature.json`: what the caller says of the model, which overrides what
//! was derived.

use modelet::signature::{Category, FeatureType, Labels, Range, Task, Unknown};
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;

/// The file; every member may be left out.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Overrides {
    /// The model's name.
    pub name: Option<String>,
    /// The model's version.
    pub version: Option<String>,
    /// What the model is for.
    pub task: Option<Task>,
    /// Class labels, in the order of the scores.
    pub labels: Option<Labels>,
    /// The positive label of a binary model.
    pub positive: Option<serde_json::Value>,
    /// Which of the graph's outputs the answers are read from.
    pub outputs: OutputsOverride,
    /// What becomes of unknown features.
    pub unknown: Option<Unknown>,
    /// The features in the model's order. For a matrix it lists them all; for
    /// named inputs it may list some, by name.
    pub features: Vec<FeatureOverride>,
}

/// Which of the graph's outputs the answers are read from, by name.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OutputsOverride {
    /// The one that holds the label; `null` for none, although the graph has
    /// one that looks like it.
    #[serde(deserialize_with = "given")]
    pub label: Option<Option<String>>,
    /// Those that hold the scores or the predicted values, side by side.
    pub scores: Option<Vec<String>>,
}

/// Tells `null` from a member that is left out.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// What is said of a feature.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureOverride {
    /// Its name.
    pub name: String,
    /// What callers send.
    #[serde(rename = "type", default)]
    pub kind: Option<FeatureType>,
    /// Missing values are accepted.
    #[serde(default)]
    pub nullable: Option<bool>,
    /// What is accepted.
    #[serde(default)]
    pub allowed: Option<Range>,
    /// Categories, where the data do not show them all.
    #[serde(default)]
    pub categories: Vec<Category>,
    /// No other categories are accepted.
    #[serde(default)]
    pub closed: Option<bool>,
    /// Names and the codes that the model gets for them.
    #[serde(default)]
    pub encoding: BTreeMap<String, f64>,
    /// A value for examples.
    #[serde(default)]
    pub example: Option<Category>,
}

impl Overrides {
    /// What is said of the feature of this name.
    pub fn feature(&self, name: &str) -> Option<&FeatureOverride> {
        self.features.iter().find(|f| f.name == name)
    }
}
