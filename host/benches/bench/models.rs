//! Tree ensembles of a given size, the same in every run, and requests to them
//! and to the example.

use crate::root;
use anyhow::{Context, Result};
use modelet_host::output::Silent;
use modelet_host::pack::onnx::{
    Attribute, Dimension, Graph, Model, Node, OperatorSet, TensorShape, TensorType, TypeProto, ValueInfo,
};
use modelet_host::pack::{PackOptions, WasiVersion};
use prost::Message;
use serde_json::{Map, Value};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

const FEATURES: usize = 20;
const REFERENCE_ROWS: usize = 1000;

/// A regression ensemble of full trees over features between 0 and 1.
#[derive(Clone, Copy)]
pub struct Ensemble {
    pub trees: usize,
    pub depth: usize,
}

impl Ensemble {
    pub fn name(self) -> String {
        let trees = if self.trees == 1 { "tree" } else { "trees" };
        format!("{} {trees} of depth {}", self.trees, self.depth)
    }

    /// Packs the ensemble with its reference data; answers the component.
    pub fn pack(self) -> Result<PathBuf> {
        let folder = root().join("target/bench");
        fs::create_dir_all(&folder)?;
        let stem = format!("trees-{}x{}", self.trees, self.depth);
        let file = |extension: &str| folder.join(format!("{stem}.{extension}"));
        fs::write(file("onnx"), self.onnx())?;
        fs::write(file("csv"), reference())?;
        let component = file("wasm");
        pack(&stem, &file("onnx"), &file("csv"), &component)?;
        Ok(component)
    }

    fn onnx(self) -> Vec<u8> {
        let mut nodes = Nodes::default();
        let mut random = Random(1);
        for tree in 0..self.trees {
            let mut bounds = [(0.0, 1.0); FEATURES];
            nodes.tree = tree as i64;
            nodes.next = 0;
            nodes.grow(self.depth, &mut bounds, &mut random);
        }
        let (input, output) = (value_info("x", Some(FEATURES)), value_info("y", Some(1)));
        let node = Node {
            input: vec![input.name.clone()],
            output: vec![output.name.clone()],
            op_type: "TreeEnsembleRegressor".into(),
            domain: "ai.onnx.ml".into(),
            attribute: nodes.attributes(),
            ..Node::default()
        };
        let model = Model {
            ir_version: 8,
            producer_name: "modelet bench".into(),
            opset_import: vec![OperatorSet {
                domain: "ai.onnx.ml".into(),
                version: 3,
            }],
            graph: Some(Graph {
                name: "trees".into(),
                node: vec![node],
                input: vec![input],
                output: vec![output],
                ..Graph::default()
            }),
            ..Model::default()
        };
        model.encode_to_vec()
    }
}

/// Packs a model with its reference data.
pub fn pack(name: &str, model: &Path, data: &Path, component: &Path) -> Result<()> {
    let options = PackOptions {
        model: model.into(),
        data: Some(data.into()),
        label: None,
        holdout: None,
        baseline: Default::default(),
        expected: None,
        tolerance: 0.0,
        unknown: None,
        wasi: WasiVersion::default(),
        name: Some(name.into()),
        model_version: None,
        signature: None,
        force: true,
        output: component.into(),
    };
    modelet_host::pack::pack(&options, &Silent)?;
    Ok(())
}

/// The attributes of TreeEnsembleRegressor while trees grow.
#[derive(Default)]
struct Nodes {
    tree: i64,
    next: i64,
    trees: Vec<i64>,
    ids: Vec<i64>,
    features: Vec<i64>,
    values: Vec<f32>,
    modes: Vec<Vec<u8>>,
    on_true: Vec<i64>,
    on_false: Vec<i64>,
    target_trees: Vec<i64>,
    target_nodes: Vec<i64>,
    target_weights: Vec<f32>,
}

impl Nodes {
    /// Adds a full tree of this depth. Thresholds lie within the bounds that
    /// the path to them leaves, so that every leaf can be reached.
    fn grow(&mut self, depth: usize, bounds: &mut [(f64, f64); FEATURES], random: &mut Random) -> i64 {
        let id = self.next;
        let at = self.ids.len();
        self.next += 1;
        self.trees.push(self.tree);
        self.ids.push(id);
        self.features.push(0);
        self.values.push(0.0);
        self.on_true.push(0);
        self.on_false.push(0);
        if depth == 0 {
            self.modes.push(b"LEAF".to_vec());
            self.target_trees.push(self.tree);
            self.target_nodes.push(id);
            self.target_weights.push((random.unit() - 0.5) as f32);
            return id;
        }
        self.modes.push(b"BRANCH_LEQ".to_vec());
        let feature = (random.unit() * FEATURES as f64) as usize;
        let (low, high) = bounds[feature];
        let threshold = low + (high - low) * (0.2 + 0.6 * random.unit());
        self.features[at] = feature as i64;
        self.values[at] = threshold as f32;
        bounds[feature] = (low, threshold);
        self.on_true[at] = self.grow(depth - 1, bounds, random);
        bounds[feature] = (threshold, high);
        self.on_false[at] = self.grow(depth - 1, bounds, random);
        bounds[feature] = (low, high);
        id
    }

    fn attributes(self) -> Vec<Attribute> {
        let ints = |name: &str, ints| Attribute {
            name: name.into(),
            ints,
            ..Attribute::default()
        };
        let floats = |name: &str, floats| Attribute {
            name: name.into(),
            floats,
            ..Attribute::default()
        };
        let target_ids = vec![0; self.target_nodes.len()];
        vec![
            Attribute {
                name: "n_targets".into(),
                i: 1,
                ..Attribute::default()
            },
            ints("nodes_treeids", self.trees),
            ints("nodes_nodeids", self.ids),
            ints("nodes_featureids", self.features),
            floats("nodes_values", self.values),
            Attribute {
                name: "nodes_modes".into(),
                strings: self.modes,
                ..Attribute::default()
            },
            ints("nodes_truenodeids", self.on_true),
            ints("nodes_falsenodeids", self.on_false),
            ints("target_treeids", self.target_trees),
            ints("target_nodeids", self.target_nodes),
            ints("target_ids", target_ids),
            floats("target_weights", self.target_weights),
        ]
    }
}

/// A tensor of floats with any number of rows.
fn value_info(name: &str, columns: Option<usize>) -> ValueInfo {
    let dim = |value: Option<usize>| Dimension {
        dim_value: value.map(|v| v as i64),
        dim_param: None,
    };
    let shape = TensorShape {
        dim: vec![dim(None), dim(columns)],
    };
    let tensor = TensorType {
        elem_type: 1,
        shape: Some(shape),
    };
    ValueInfo {
        name: name.into(),
        r#type: Some(TypeProto {
            tensor_type: Some(tensor),
            sequence_type: None,
        }),
    }
}

/// Rows of the ensembles' features, CSV.
fn reference() -> String {
    let mut random = Random(2);
    let names: Vec<String> = (0..FEATURES).map(|feature| format!("feature_{feature}")).collect();
    let mut csv = names.join(",") + "\n";
    for _ in 0..REFERENCE_ROWS {
        for feature in 0..FEATURES {
            let separator = if feature == 0 { "" } else { "," };
            write!(csv, "{separator}{:.4}", random.unit()).expect("a string takes what is written");
        }
        csv.push('\n');
    }
    csv
}

/// SplitMix64.
struct Random(u64);

impl Random {
    /// At least 0 and below 1.
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Rows as requests bring them.
pub struct Rows {
    /// JSON objects, one a row.
    objects: Vec<String>,
    /// The CSV file that they are from.
    csv: String,
}

impl Rows {
    /// The rows that the example was not trained on.
    pub fn of_credit() -> Result<Rows> {
        Rows::read(&root().join("examples/credit/holdout.csv"), Some("defaulted"))
    }

    /// The reference rows of a packed ensemble.
    pub fn of_ensemble(component: &Path) -> Result<Rows> {
        Rows::read(&component.with_extension("csv"), None)
    }

    fn read(path: &Path, label: Option<&str>) -> Result<Rows> {
        let read = || -> Result<Rows> {
            let mut reader = csv::Reader::from_path(path)?;
            let names = reader.headers()?.clone();
            let features: Vec<usize> = (0..names.len()).filter(|&i| label != Some(&names[i])).collect();
            let mut writer = csv::Writer::from_writer(Vec::new());
            writer.write_record(features.iter().map(|&i| &names[i]))?;
            let mut objects = Vec::new();
            for record in reader.records() {
                let record = record?;
                writer.write_record(features.iter().map(|&i| &record[i]))?;
                let members = features.iter().map(|&i| (names[i].to_owned(), json(&record[i])));
                objects.push(Value::Object(members.collect::<Map<_, _>>()).to_string());
            }
            let csv = String::from_utf8(writer.into_inner()?)?;
            Ok(Rows { objects, csv })
        };
        read().with_context(|| path.display().to_string())
    }

    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// The bodies of requests for one row each.
    pub fn single(&self) -> Vec<String> {
        self.objects
            .iter()
            .map(|object| format!("{{\"features\":{object}}}"))
            .collect()
    }

    /// All rows, as JSON.
    pub fn json(&self) -> String {
        format!("{{\"instances\":[{}]}}", self.objects.join(","))
    }

    /// All rows, as JSON of so many each.
    pub fn json_batches(&self, size: usize) -> Vec<String> {
        let batches = self.objects.chunks(size);
        batches
            .map(|objects| format!("{{\"instances\":[{}]}}", objects.join(",")))
            .collect()
    }

    /// All rows, one JSON object a line.
    pub fn ndjson(&self) -> String {
        self.objects.join("\n")
    }

    /// All rows, as CSV.
    pub fn csv(&self) -> String {
        self.csv.clone()
    }
}

/// A cell of CSV as JSON: empty cells are missing values.
fn json(cell: &str) -> Value {
    match cell {
        "" => Value::Null,
        cell => serde_json::from_str(cell)
            .ok()
            .filter(Value::is_number)
            .unwrap_or_else(|| cell.into()),
    }
}
