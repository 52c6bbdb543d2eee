//! What an output of the graph stands for, told by the nodes that made it.
//!
//! Exporters put casts, reshapes and selections behind a classifier, look
//! labels up by a computed index, or translate them. An output is followed
//! back through these to the node that says what its values are.

use crate::pack::onnx::{self, Graph, Node};
use modelet::signature::Labels;
use modelet::tensor::{Data, Tensor};
use std::collections::{HashMap, HashSet};

/// What an output holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Labels of classes.
    Label,
    /// A classifier's scores.
    Scores,
    /// Any values.
    #[default]
    Value,
}

/// What the graph tells of an output.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Told {
    /// What it holds.
    pub role: Role,
    /// The classes that its labels or scores belong to.
    pub labels: Option<Labels>,
    /// The operator that made the values; empty for an input or a constant.
    pub operator: String,
    /// It is a ZipMap's.
    pub zip_map: bool,
}

/// A graph, ready to be followed back.
pub struct Trace<'a> {
    /// Every value's node, and which of its outputs it is.
    producers: HashMap<&'a str, (&'a Node, usize)>,
    initializers: HashMap<&'a str, &'a onnx::TensorProto>,
}

impl<'a> Trace<'a> {
    /// Looks at the graph's nodes.
    pub fn new(graph: &'a Graph) -> Trace<'a> {
        let nodes = graph.node.iter();
        let outputs = nodes.flat_map(|node| {
            let named = node.output.iter().enumerate();
            named.map(move |(index, name)| (name.as_str(), (node, index)))
        });
        Trace {
            producers: outputs.filter(|(name, _)| !name.is_empty()).collect(),
            initializers: graph.initializer.iter().map(|t| (t.name.as_str(), t)).collect(),
        }
    }

    /// What the value of this name stands for.
    pub fn told(&self, name: &'a str) -> Told {
        let mut told = Told::default();
        let mut encoders = Vec::new();
        // Whether the values were turned into whole numbers or text on the way.
        let mut discrete = false;
        let mut name = name;
        // A hostile graph may run in a circle.
        for _ in 0..=self.producers.len() {
            let Some(&(node, index)) = self.producers.get(name) else {
                break;
            };
            if passes(node) {
                discrete |= node.op_type == "Cast" && matches!(node.int("to", 1), 6..=8);
                name = first_input(node);
                continue;
            }
            if node.op_type == "ZipMap" && !told.zip_map {
                told.role = Role::Scores;
                told.zip_map = true;
                told.labels = class_labels(node);
                name = first_input(node);
                continue;
            }
            if told.operator.is_empty() {
                told.operator.clone_from(&node.op_type);
            }
            if node.op_type == "LabelEncoder" {
                encoders.push(node);
                name = first_input(node);
                continue;
            }
            self.source(node, index, discrete || !encoders.is_empty(), &mut told);
            break;
        }
        if told.role == Role::Label {
            // A nearest neighbour's label is looked up among those of the
            // training rows, which are no list of classes.
            told.labels = told.labels.filter(distinct);
            for encoder in encoders.into_iter().rev() {
                told.labels = translate(encoder, told.labels.take());
            }
        } else if !encoders.is_empty() && !told.zip_map {
            // Codes of a computed value, not of classes.
            told.role = Role::Value;
            told.labels = None;
        }
        told
    }

    /// What the node says that the values began with.
    fn source(&self, node: &'a Node, index: usize, discrete: bool, told: &mut Told) {
        let role = match node.op_type.as_str() {
            "TreeEnsembleClassifier" | "LinearClassifier" | "SVMClassifier" => {
                if told.labels.is_none() {
                    told.labels = class_labels(node);
                }
                match index {
                    0 => Role::Label,
                    _ => Role::Scores,
                }
            }
            // Classes picked by a computed index.
            "ArrayFeatureExtractor" | "Gather" => {
                let Some(classes) = self.constant(first_input(node)) else {
                    return;
                };
                let float = matches!(classes.data, Data::Float32(_) | Data::Float64(_));
                match list(&classes) {
                    Some(labels) if !told.zip_map && (discrete || !float) => told.labels = Some(labels),
                    _ => return,
                }
                Role::Label
            }
            "ArgMax" => Role::Label,
            _ => return,
        };
        if !told.zip_map {
            told.role = role;
        }
    }

    /// The constant of this name, behind casts and reshapes.
    fn constant(&self, name: &'a str) -> Option<Tensor> {
        let mut name = name;
        for _ in 0..=self.producers.len() {
            if let Some(initializer) = self.initializers.get(name) {
                return initializer.tensor().ok();
            }
            let &(node, _) = self.producers.get(name)?;
            match node.op_type.as_str() {
                "Constant" => return node.get("value")?.t.as_ref()?.tensor().ok(),
                _ if passes(node) => name = first_input(node),
                _ => return None,
            }
        }
        None
    }
}

/// Whether the node leaves what its values mean.
fn passes(node: &Node) -> bool {
    let main = onnx::domain(&node.domain) == "ai.onnx";
    main && matches!(
        node.op_type.as_str(),
        "Cast"
            | "CastLike"
            | "DequantizeLinear"
            | "Dropout"
            | "Flatten"
            | "Identity"
            | "QuantizeLinear"
            | "Reshape"
            | "Slice"
            | "Split"
            | "Squeeze"
            | "Transpose"
            | "Unsqueeze"
    )
}

fn first_input(node: &Node) -> &str {
    node.input.first().map_or("", String::as_str)
}

/// The class labels that a classifier or a ZipMap names.
fn class_labels(node: &Node) -> Option<Labels> {
    let strings = node.texts("classlabels_strings");
    if !strings.is_empty() {
        return Some(Labels::String(strings));
    }
    let ints = ["classlabels_int64s", "classlabels_ints"].map(|name| node.ints(name));
    let ints = ints.into_iter().find(|ints| !ints.is_empty())?;
    Some(Labels::Int64(ints.to_vec()))
}

/// The labels that a constant list is. Exporters keep integers as floats too.
fn list(tensor: &Tensor) -> Option<Labels> {
    let dims = tensor.shape.dims();
    if dims.last().copied().unwrap_or(0) != tensor.shape.len() || tensor.shape.is_empty() {
        return None;
    }
    match &tensor.data {
        Data::String(v) => Some(Labels::String(v.view().iter().map(str::to_owned).collect())),
        Data::Bool(_) => None,
        _ => (0..tensor.shape.len())
            .map(|i| tensor.view().number(i).and_then(whole))
            .collect::<Option<_>>()
            .map(Labels::Int64),
    }
}

fn distinct(labels: &Labels) -> bool {
    let mut seen = HashSet::new();
    (0..labels.len()).all(|i| seen.insert(labels.text(i)))
}

fn whole(value: f64) -> Option<i64> {
    let exact = value.fract() == 0.0 && value.abs() < 9e15;
    exact.then_some(value as i64)
}

/// The labels behind a LabelEncoder. Without labels before it these are the
/// indices of the classes.
fn translate(encoder: &Node, labels: Option<Labels>) -> Option<Labels> {
    let (keys, values) = table(encoder)?;
    let at = |wanted: &dyn Fn(usize) -> bool| (0..keys.len().min(values.len())).find(|&i| wanted(i));
    let places: Vec<usize> = match (&labels, &keys) {
        (None, Labels::Int64(keys)) => (0..keys.len() as i64)
            .map(|class| at(&|i| keys[i] == class))
            .collect::<Option<_>>()?,
        (Some(Labels::Int64(labels)), Labels::Int64(keys)) => labels
            .iter()
            .map(|label| at(&|i| keys[i] == *label))
            .collect::<Option<_>>()?,
        (Some(Labels::String(labels)), Labels::String(keys)) => labels
            .iter()
            .map(|label| at(&|i| keys[i] == *label))
            .collect::<Option<_>>()?,
        _ => return None,
    };
    Some(match values {
        Labels::Int64(v) => Labels::Int64(places.iter().map(|&i| v[i]).collect()),
        Labels::String(v) => Labels::String(places.iter().map(|&i| v[i].clone()).collect()),
    })
}

/// The keys and values of a LabelEncoder, all versions.
fn table(node: &Node) -> Option<(Labels, Labels)> {
    let classes = node.texts("classes_strings");
    if !classes.is_empty() {
        let codes = (0..classes.len() as i64).collect();
        return Some((Labels::Int64(codes), Labels::String(classes)));
    }
    let side = |name: &str| -> Option<Labels> {
        if let Some(tensor) = node.get(&format!("{name}_tensor")).and_then(|a| a.t.as_ref()) {
            return list(&tensor.tensor().ok()?);
        }
        let strings = node.texts(&format!("{name}_strings"));
        if !strings.is_empty() {
            return Some(Labels::String(strings));
        }
        let ints = node.ints(&format!("{name}_int64s"));
        if !ints.is_empty() {
            return Some(Labels::Int64(ints.to_vec()));
        }
        let floats = node.get(&format!("{name}_floats"))?;
        let codes = floats.floats.iter().map(|&v| whole(f64::from(v)));
        codes.collect::<Option<_>>().map(Labels::Int64)
    };
    Some((side("keys")?, side("values")?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pack::onnx::{Attribute, TensorProto};

    fn node(op: &str, inputs: &[&str], outputs: &[&str], attributes: Vec<Attribute>) -> Node {
        Node {
            op_type: op.into(),
            input: inputs.iter().map(|s| s.to_string()).collect(),
            output: outputs.iter().map(|s| s.to_string()).collect(),
            attribute: attributes,
            ..Node::default()
        }
    }

    fn ints(name: &str, ints: &[i64]) -> Attribute {
        Attribute {
            name: name.into(),
            ints: ints.to_vec(),
            ..Attribute::default()
        }
    }

    fn texts(name: &str, texts: &[&str]) -> Attribute {
        Attribute {
            name: name.into(),
            strings: texts.iter().map(|s| s.as_bytes().to_vec()).collect(),
            ..Attribute::default()
        }
    }

    fn told(nodes: Vec<Node>, initializer: Vec<TensorProto>, name: &str) -> Told {
        let graph = Graph {
            node: nodes,
            initializer,
            ..Graph::default()
        };
        Trace::new(&graph).told(name)
    }

    #[test]
    fn a_classifiers_results_are_known_behind_casts_and_a_zip_map() {
        let nodes = || {
            vec![
                node(
                    "LinearClassifier",
                    &["x"],
                    &["l", "s"],
                    vec![ints("classlabels_ints", &[0, 1])],
                ),
                node("Cast", &["l"], &["label"], vec![]),
                node("Normalizer", &["s"], &["n"], vec![]),
                node(
                    "ZipMap",
                    &["n"],
                    &["p"],
                    vec![texts("classlabels_strings", &["a", "b"])],
                ),
            ]
        };
        let label = told(nodes(), vec![], "label");
        assert_eq!(
            (label.role, label.labels),
            (Role::Label, Some(Labels::Int64(vec![0, 1])))
        );
        let scores = told(nodes(), vec![], "p");
        assert_eq!(scores.role, Role::Scores);
        assert_eq!(scores.operator, "Normalizer");
        assert_eq!(scores.labels, Some(Labels::String(vec!["a".into(), "b".into()])));
        assert_eq!(told(nodes(), vec![], "x"), Told::default());
    }

    #[test]
    fn labels_are_looked_up_and_translated() {
        let classes = TensorProto {
            name: "classes".into(),
            dims: vec![1, 3],
            data_type: 1,
            float_data: vec![2.0, 4.0, 6.0],
            ..TensorProto::default()
        };
        let nodes = vec![
            node("ArgMax", &["p"], &["i"], vec![]),
            node("ArrayFeatureExtractor", &["classes", "i"], &["f"], vec![]),
            node("Cast", &["f"], &["c"], vec![]),
            node("Reshape", &["c", "shape"], &["r"], vec![]),
            node(
                "LabelEncoder",
                &["r"],
                &["label"],
                vec![
                    ints("keys_int64s", &[6, 4, 2]),
                    texts("values_strings", &["z", "y", "x"]),
                ],
            ),
        ];
        let label = told(nodes, vec![classes], "label");
        assert_eq!(label.role, Role::Label);
        assert_eq!(
            label.labels,
            Some(Labels::String(vec!["x".into(), "y".into(), "z".into()]))
        );
    }

    #[test]
    fn a_circle_ends() {
        let nodes = vec![
            node("Cast", &["b"], &["a"], vec![]),
            node("Cast", &["a"], &["b"], vec![]),
        ];
        assert_eq!(told(nodes, vec![], "a"), Told::default());
    }
}
