//! Lowering: an ONNX graph becomes a program of the tabular engine.
//!
//! Every operator of the graph has one arm in [`Lowering::node`], which builds
//! the engine's operator from the node's attributes. What depends on constants
//! alone is computed here. A node that the engine does not know is an
//! [`Unsupported`], which sends the model to the neural engine.

mod tree;

use super::onnx::{self, Node};
use modelet::engine::Workspace;
use modelet::ops::Op;
use modelet::ops::arg_max::ArgMax;
use modelet::ops::cast::Cast;
use modelet::ops::concat::Concat;
use modelet::ops::elementwise::{Binary, Unary};
use modelet::ops::gather::Gather;
use modelet::ops::linear::{Labels, Linear};
use modelet::ops::matmul::{Gemm, MatMul};
use modelet::ops::normalizer::Normalizer;
use modelet::ops::post_transform::PostTransform;
use modelet::ops::reshape::Reshape;
use modelet::ops::scaler::Scaler;
use modelet::ops::softmax::Softmax;
use modelet::program::{Builder, Image, Program, Source};
use modelet::signature;
use modelet::tensor::{Data, Dtype, Tensor, Values};
use std::collections::{BTreeMap, HashMap};
use std::fmt;

/// A graph that the tabular engine does not run, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsupported {
    /// Domain and operator.
    pub operator: String,
    /// The node's name, or the name of its first output.
    pub node: String,
    /// Version of the domain's operator set.
    pub version: i64,
    /// What exactly is not supported.
    pub why: String,
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "operator {} (version {}, node {:?}): {}",
            self.operator, self.version, self.node, self.why
        )
    }
}

impl std::error::Error for Unsupported {}

/// A lowered graph.
pub struct Lowered {
    /// The program image; its outputs are `outputs`, in order.
    pub image: Vec<u8>,
    /// The graph's outputs.
    pub outputs: Vec<Output>,
}

/// What the lowering knows of an output of the graph.
#[derive(Clone, Debug)]
pub struct Output {
    /// Its name in the graph.
    pub name: String,
    /// Its element type, where it is known.
    pub dtype: Option<Dtype>,
    /// The class labels that belong to it: of a ZipMap, or of the classifier
    /// whose labels or scores it is.
    pub labels: Option<signature::Labels>,
    /// The operator that made it.
    pub operator: String,
    /// It is a ZipMap's.
    pub zip_map: bool,
}

/// A value of the graph while it is lowered.
#[derive(Clone)]
struct Value {
    kind: Kind,
    labels: Option<signature::Labels>,
    operator: String,
    zip_map: bool,
}

#[derive(Clone)]
enum Kind {
    Constant(Tensor),
    Computed(Source, Option<Dtype>),
}

struct Lowering<'a> {
    builder: Builder,
    values: HashMap<&'a str, Value>,
    opsets: BTreeMap<String, i64>,
}

/// Why a node could not be lowered, without the node.
type Why<T> = Result<T, String>;

/// Lowers the graph; `inputs` are the model's inputs in order, with their types.
///
/// # Errors
/// When the engine does not have an operator, or not in this form.
pub fn lower(model: &onnx::Model, inputs: &[(String, Dtype)]) -> Result<Lowered, Unsupported> {
    let graph = model.graph.as_ref().expect("the reader demands a graph");
    let whole = |why: String| Unsupported {
        operator: "graph".into(),
        node: graph.name.clone(),
        version: 0,
        why,
    };
    let mut lowering = Lowering {
        builder: Builder::new(inputs.len() as u16),
        values: HashMap::new(),
        opsets: model.opsets(),
    };
    for initializer in &graph.initializer {
        let tensor = initializer
            .tensor()
            .map_err(|why| whole(format!("initializer {:?}: {why}", initializer.name)))?;
        lowering.values.insert(&initializer.name, Value::constant(tensor));
    }
    for (index, (name, dtype)) in inputs.iter().enumerate() {
        let name = graph
            .input
            .iter()
            .map(|i| i.name.as_str())
            .find(|n| n == name)
            .expect("inputs are the graph's");
        let source = Source::Input(index as u16);
        lowering
            .values
            .insert(name, Value::computed(source, Some(*dtype), "input"));
    }
    for node in &graph.node {
        lowering.node(node).map_err(|why| Unsupported {
            operator: node.operator(),
            node: match (&node.name, node.output.first()) {
                (name, Some(output)) if name.is_empty() => output.clone(),
                (name, _) => name.clone(),
            },
            version: lowering.version(node),
            why,
        })?;
    }
    let mut sources = Vec::new();
    let mut outputs = Vec::new();
    for output in &graph.output {
        let value = lowering
            .values
            .get(output.name.as_str())
            .cloned()
            .ok_or_else(|| whole(format!("nothing computes the output {:?}", output.name)))?;
        let (source, dtype) = match value.kind {
            Kind::Constant(tensor) => (lowering.builder.constant(&tensor), Some(tensor.data.dtype())),
            Kind::Computed(source, dtype) => (source, dtype),
        };
        sources.push(source);
        outputs.push(Output {
            name: output.name.clone(),
            dtype,
            labels: value.labels,
            operator: value.operator,
            zip_map: value.zip_map,
        });
    }
    Ok(Lowered {
        image: lowering.builder.finish(sources),
        outputs,
    })
}

impl Value {
    fn constant(tensor: Tensor) -> Value {
        Value {
            kind: Kind::Constant(tensor),
            labels: None,
            operator: "constant".into(),
            zip_map: false,
        }
    }

    fn computed(source: Source, dtype: Option<Dtype>, operator: &str) -> Value {
        Value {
            kind: Kind::Computed(source, dtype),
            labels: None,
            operator: operator.into(),
            zip_map: false,
        }
    }
}

impl<'a> Lowering<'a> {
    fn version(&self, node: &Node) -> i64 {
        // Exporters of tree models leave the default domain's import out.
        let domain = onnx::domain(&node.domain);
        self.opsets
            .get(domain)
            .copied()
            .unwrap_or(if domain == "ai.onnx" { 13 } else { 1 })
    }

    fn value(&self, name: &str) -> Why<&Value> {
        self.values
            .get(name)
            .ok_or_else(|| format!("nothing computes its input {name:?}"))
    }

    fn input<'n>(&self, node: &'n Node, index: usize) -> Why<&'n str> {
        match node.input.get(index) {
            Some(name) if !name.is_empty() => Ok(name),
            _ => Err(format!("input {index} is missing")),
        }
    }

    /// The operand as a source, with its type; a constant is put among the
    /// program's.
    fn source(&mut self, name: &str) -> Why<(Source, Option<Dtype>)> {
        Ok(match &self.value(name)?.kind {
            Kind::Computed(source, dtype) => (*source, *dtype),
            Kind::Constant(tensor) => {
                let dtype = tensor.data.dtype();
                let tensor = tensor.clone();
                (self.builder.constant(&tensor), Some(dtype))
            }
        })
    }

    fn constant(&self, name: &str) -> Option<&Tensor> {
        match &self.values.get(name)?.kind {
            Kind::Constant(tensor) => Some(tensor),
            Kind::Computed(..) => None,
        }
    }

    /// An input that must be a constant list of integers.
    fn integers(&self, node: &Node, index: usize, what: &str) -> Why<Vec<i64>> {
        let name = self.input(node, index)?;
        match self.constant(name).map(|t| &t.data) {
            Some(Data::Int64(v)) => Ok(v.clone()),
            Some(Data::Int32(v)) => Ok(v.iter().map(|&v| i64::from(v)).collect()),
            Some(other) => Err(format!("{what} is {}, not integers", other.dtype())),
            None => Err(format!("{what} depends on the request")),
        }
    }

    /// Names the node's output as the same value as `input`.
    fn alias(&mut self, node: &'a Node, input: &str) -> Why<()> {
        let value = self.value(input)?.clone();
        self.bind(node, 0, value);
        Ok(())
    }

    fn bind(&mut self, node: &'a Node, index: usize, value: Value) {
        if let Some(name) = node.output.get(index)
            && !name.is_empty()
        {
            self.values.insert(name, value);
        }
    }

    /// Emits an operator with one result; computed here if its operands are
    /// constants.
    fn emit(&mut self, node: &'a Node, op: Op, inputs: &[&str], dtype: Option<Dtype>) -> Why<()> {
        let constants: Option<Vec<&Tensor>> = inputs.iter().map(|name| self.constant(name)).collect();
        // An operator with arrays of its own refers to this program's constants.
        let foldable = !inputs.is_empty() && !matches!(op, Op::Scaler(_));
        if let (Some(constants), true) = (constants, foldable) {
            let value = fold(op, &constants)?;
            self.bind(node, 0, Value::constant(value));
            return Ok(());
        }
        let labels = match inputs {
            // Casts, reshapes and the like keep what the values mean.
            [input] => self.value(input)?.labels.clone(),
            _ => None,
        };
        let sources = inputs
            .iter()
            .map(|name| self.source(name).map(|(source, _)| source))
            .collect::<Why<Vec<_>>>()?;
        let results = self.builder.push(op, sources);
        let mut value = Value::computed(results[0], dtype, &node.op_type);
        value.labels = labels;
        self.bind(node, 0, value);
        Ok(())
    }

    /// The type of an operand, where it is known.
    fn dtype(&self, name: &str) -> Option<Dtype> {
        match &self.values.get(name)?.kind {
            Kind::Constant(tensor) => Some(tensor.data.dtype()),
            Kind::Computed(_, dtype) => *dtype,
        }
    }

    fn node(&mut self, node: &'a Node) -> Why<()> {
        let version = self.version(node);
        match (onnx::domain(&node.domain), node.op_type.as_str()) {
            ("ai.onnx.ml", "TreeEnsembleClassifier") => self.tree(node, true),
            ("ai.onnx.ml", "TreeEnsembleRegressor") => self.tree(node, false),
            ("ai.onnx.ml", "LinearClassifier") => self.linear(node, true),
            ("ai.onnx.ml", "LinearRegressor") => self.linear(node, false),
            ("ai.onnx.ml", "Scaler") => {
                let list = |name: &str, default: f32| match node.floats(name) {
                    [] => vec![default],
                    values => values.to_vec(),
                };
                let op = Scaler {
                    offset: self.builder.array(&list("offset", 0.0)),
                    scale: self.builder.array(&list("scale", 1.0)),
                };
                let input = self.input(node, 0)?;
                self.emit(node, Op::Scaler(op), &[input], Some(Dtype::Float32))
            }
            ("ai.onnx.ml", "Normalizer") => {
                let op = match node.text("norm", "MAX").as_str() {
                    "MAX" => Normalizer::Max,
                    "L1" => Normalizer::L1,
                    "L2" => Normalizer::L2,
                    other => return Err(format!("norm {other:?}")),
                };
                let input = self.input(node, 0)?;
                self.emit(node, Op::Normalizer(op), &[input], Some(Dtype::Float32))
            }
            ("ai.onnx.ml", "ZipMap") => self.zip_map(node),
            ("ai.onnx.ml", "ArrayFeatureExtractor") => {
                let (x, y) = (self.input(node, 0)?, self.input(node, 1)?);
                let dtype = self.dtype(x);
                // Classes picked by a computed index are labels.
                let labels = self.constant(x).and_then(labels_of);
                self.emit(node, Op::Gather(Gather::Columns), &[x, y], dtype)?;
                if let (Some(labels), Some(value)) = (labels, self.values.get_mut(node.output[0].as_str())) {
                    value.labels = Some(labels);
                }
                Ok(())
            }
            ("ai.onnx", "Identity" | "Dropout") => {
                let input = self.input(node, 0)?;
                self.alias(node, input)
            }
            ("ai.onnx", "Constant") => {
                let value = constant_of(node)?;
                self.bind(node, 0, Value::constant(value));
                Ok(())
            }
            ("ai.onnx", "Cast") => {
                let to = onnx::dtype(node.int("to", 1) as i32).map_err(|t| format!("to {t}"))?;
                let input = self.input(node, 0)?;
                if self.dtype(input) == Some(to) {
                    return self.alias(node, input);
                }
                if to == Dtype::String || self.dtype(input) == Some(Dtype::String) {
                    return Err("casts between text and numbers are not supported".into());
                }
                self.emit(node, Op::Cast(Cast { to }), &[input], Some(to))
            }
            ("ai.onnx", "Gemm") => self.gemm(node),
            ("ai.onnx", "MatMul") => {
                let (a, b) = (self.input(node, 0)?, self.input(node, 1)?);
                let dtype = self.float_operand(a)?;
                self.emit(node, Op::MatMul(MatMul), &[a, b], dtype)
            }
            ("ai.onnx", "Concat") => {
                let inputs: Vec<&str> = node.input.iter().map(String::as_str).collect();
                let dtype = inputs.iter().find_map(|name| self.dtype(name));
                let axis = node.int("axis", 1) as i32;
                self.emit(node, Op::Concat(Concat { axis }), &inputs, dtype)
            }
            ("ai.onnx", "Reshape") => {
                let input = self.input(node, 0)?;
                let to = if version < 5 {
                    node.ints("shape").to_vec()
                } else {
                    self.integers(node, 1, "the shape")?
                };
                let op = match node.int("allowzero", 0) {
                    0 => Reshape::To(to),
                    _ => Reshape::ToAllowZero(to),
                };
                self.reshape(node, op, input)
            }
            ("ai.onnx", "Flatten") => {
                let input = self.input(node, 0)?;
                self.reshape(node, Reshape::Flatten(node.int("axis", 1) as i32), input)
            }
            ("ai.onnx", "Squeeze" | "Unsqueeze") => {
                let input = self.input(node, 0)?;
                let axes = if version < 13 {
                    node.ints("axes").to_vec()
                } else if node.input.len() > 1 {
                    self.integers(node, 1, "the axes")?
                } else {
                    Vec::new()
                };
                let axes = axes.into_iter().map(|a| a as i32).collect();
                let op = match node.op_type.as_str() {
                    "Squeeze" => Reshape::Squeeze(axes),
                    _ => Reshape::Unsqueeze(axes),
                };
                self.reshape(node, op, input)
            }
            ("ai.onnx", "Softmax" | "LogSoftmax") => {
                let input = self.input(node, 0)?;
                let flatten = version < 13;
                let op = Softmax {
                    axis: node.int("axis", if flatten { 1 } else { -1 }) as i32,
                    flatten,
                    log: node.op_type == "LogSoftmax",
                };
                let dtype = self.float_operand(input)?;
                self.emit(node, Op::Softmax(op), &[input], dtype)
            }
            ("ai.onnx", "ArgMax" | "ArgMin") => {
                let input = self.input(node, 0)?;
                let op = ArgMax {
                    axis: node.int("axis", 0) as i32,
                    keep_dims: node.int("keepdims", 1) != 0,
                    last: node.int("select_last_index", 0) != 0,
                    min: node.op_type == "ArgMin",
                };
                self.emit(node, Op::ArgMax(op), &[input], Some(Dtype::Int64))
            }
            ("ai.onnx", "Gather") => {
                let (x, y) = (self.input(node, 0)?, self.input(node, 1)?);
                let dtype = self.dtype(x);
                let op = Gather::Axis(node.int("axis", 0) as i32);
                self.emit(node, Op::Gather(op), &[x, y], dtype)
            }
            ("ai.onnx", "Add" | "Sub" | "Mul" | "Div" | "Max" | "Min") => {
                let op = match node.op_type.as_str() {
                    "Add" => Binary::Add,
                    "Sub" => Binary::Sub,
                    "Mul" => Binary::Mul,
                    "Div" => Binary::Div,
                    "Max" => Binary::Max,
                    _ => Binary::Min,
                };
                if node.input.len() != 2 {
                    return Err(format!("{} inputs where two are supported", node.input.len()));
                }
                if version < 7 {
                    return Err("the broadcasting of versions before 7 is not supported".into());
                }
                let (a, b) = (self.input(node, 0)?, self.input(node, 1)?);
                let dtype = self.dtype(a).or(self.dtype(b));
                self.emit(node, Op::Binary(op), &[a, b], dtype)
            }
            ("ai.onnx", op_type) => match unary(node, op_type, version, self)? {
                Some(op) => {
                    let input = self.input(node, 0)?;
                    let dtype = self.dtype(input);
                    self.emit(node, Op::Unary(op), &[input], dtype)
                }
                None => Err("the tabular engine does not have it".into()),
            },
            _ => Err("the tabular engine does not have it".into()),
        }
    }

    fn float_operand(&self, name: &str) -> Why<Option<Dtype>> {
        match self.dtype(name) {
            Some(dtype @ (Dtype::Int64 | Dtype::Int32 | Dtype::Bool | Dtype::String)) => {
                Err(format!("an operand of type {dtype} is not supported"))
            }
            dtype => Ok(dtype),
        }
    }

    fn reshape(&mut self, node: &'a Node, op: Reshape, input: &str) -> Why<()> {
        let dtype = self.dtype(input);
        self.emit(node, Op::Reshape(op), &[input], dtype)
    }

    fn gemm(&mut self, node: &'a Node) -> Why<()> {
        let (a, b) = (self.input(node, 0)?, self.input(node, 1)?);
        let dtype = self.float_operand(a)?;
        let mut op = Gemm {
            alpha: node.float("alpha", 1.0),
            beta: node.float("beta", 1.0),
            trans_a: node.int("transA", 0) != 0,
            trans_b: node.int("transB", 0) != 0,
        };
        let (a, _) = self.source(a)?;
        let b = match self.constant(b).cloned() {
            Some(weights) if op.trans_b => {
                op.trans_b = false;
                let weights = transpose(&weights)?;
                self.builder.constant(&weights)
            }
            _ => self.source(b)?.0,
        };
        let mut inputs = vec![a, b];
        if let Ok(c) = self.input(node, 2) {
            inputs.push(self.source(c)?.0);
        }
        let results = self.builder.push(Op::Gemm(op), inputs);
        self.bind(node, 0, Value::computed(results[0], dtype, "Gemm"));
        Ok(())
    }

    /// A classifier's or regressor's two results: labels and scores.
    fn bind_scores(&mut self, node: &'a Node, op: Op, labels: Option<signature::Labels>) -> Why<()> {
        let input = self.input(node, 0)?;
        if self.dtype(input) == Some(Dtype::String) {
            return Err("text as its input".into());
        }
        let (source, _) = self.source(input)?;
        let results = self.builder.push(op, vec![source]);
        let scores = Value {
            labels: labels.clone(),
            ..Value::computed(results[1], Some(Dtype::Float32), &node.op_type)
        };
        match labels {
            None => self.bind(node, 0, scores),
            Some(labels) => {
                let dtype = match labels {
                    signature::Labels::Int64(_) => Dtype::Int64,
                    signature::Labels::String(_) => Dtype::String,
                };
                let label = Value {
                    labels: Some(labels),
                    ..Value::computed(results[0], Some(dtype), &node.op_type)
                };
                self.bind(node, 0, label);
                self.bind(node, 1, scores);
            }
        }
        Ok(())
    }

    fn labels(&mut self, labels: &signature::Labels) -> Labels {
        match labels {
            signature::Labels::Int64(v) => Labels::Int64(self.builder.array(v)),
            signature::Labels::String(v) => Labels::String(self.builder.strings(v)),
        }
    }

    fn post_transform(node: &Node) -> Why<PostTransform> {
        let name = node.text("post_transform", "NONE");
        PostTransform::from_name(&name).ok_or_else(|| format!("post_transform {name:?}"))
    }

    fn linear(&mut self, node: &'a Node, classifier: bool) -> Why<()> {
        let labels = classifier.then(|| class_labels(node, "classlabels_ints")).transpose()?;
        let coefficients = node.floats("coefficients");
        let intercepts = node.floats("intercepts");
        let targets = if classifier && !intercepts.is_empty() {
            intercepts.len()
        } else if classifier {
            return Err("a classifier without intercepts".into());
        } else {
            usize::try_from(node.int("targets", 1)).map_err(|_| "targets below 0")?
        };
        if targets == 0 || coefficients.is_empty() || !coefficients.len().is_multiple_of(targets) {
            return Err(format!("{} coefficients for {targets} targets", coefficients.len()));
        }
        let intercepts = match intercepts {
            [] => vec![0.0; targets],
            given if given.len() == targets => given.to_vec(),
            given => return Err(format!("{} intercepts for {targets} targets", given.len())),
        };
        if labels.as_ref().is_some_and(|l| l.len() < targets) {
            return Err(format!("fewer labels than its {targets} targets"));
        }
        let columns = coefficients.len() / targets;
        let mut weights = Vec::with_capacity(coefficients.len());
        for column in 0..columns {
            weights.extend((0..targets).map(|t| coefficients[t * columns + column]));
        }
        let op = Linear {
            weights: self.builder.array(&weights),
            intercepts: self.builder.array(&intercepts),
            post_transform: Self::post_transform(node)?,
            labels: labels.as_ref().map(|l| self.labels(l)),
        };
        self.bind_scores(node, Op::Linear(op), labels)
    }

    fn zip_map(&mut self, node: &'a Node) -> Why<()> {
        let input = self.input(node, 0)?;
        let mut value = self.value(input)?.clone();
        value.labels = Some(class_labels(node, "classlabels_int64s")?);
        value.zip_map = true;
        value.operator = "ZipMap".into();
        self.bind(node, 0, value);
        Ok(())
    }
}

/// The class labels that a node names.
fn class_labels(node: &Node, ints: &str) -> Why<signature::Labels> {
    let strings = node.texts("classlabels_strings");
    match (node.ints(ints), strings) {
        ([], strings) if strings.is_empty() => Err("no class labels".into()),
        ([], strings) => Ok(signature::Labels::String(strings)),
        (ints, _) => Ok(signature::Labels::Int64(ints.to_vec())),
    }
}

fn labels_of(tensor: &Tensor) -> Option<signature::Labels> {
    match tensor.view().values {
        Values::Int64(v) => Some(signature::Labels::Int64(v.to_vec())),
        Values::Int32(v) => Some(signature::Labels::Int64(v.iter().map(|&v| i64::from(v)).collect())),
        Values::String(v) => Some(signature::Labels::String(v.iter().map(str::to_owned).collect())),
        _ => None,
    }
}

fn unary(node: &Node, op_type: &str, version: i64, lowering: &Lowering<'_>) -> Why<Option<Unary>> {
    Ok(Some(match op_type {
        "Relu" => Unary::Relu,
        "LeakyRelu" => Unary::LeakyRelu(node.float("alpha", 0.01)),
        "Elu" => Unary::Elu(node.float("alpha", 1.0)),
        "Selu" => Unary::Selu {
            alpha: node.float("alpha", 1.673_263_2),
            gamma: node.float("gamma", 1.050_701),
        },
        "HardSigmoid" => Unary::HardSigmoid {
            alpha: node.float("alpha", 0.2),
            beta: node.float("beta", 0.5),
        },
        "Sigmoid" => Unary::Sigmoid,
        "Tanh" => Unary::Tanh,
        "Softplus" => Unary::Softplus,
        "Softsign" => Unary::Softsign,
        "Exp" => Unary::Exp,
        "Log" => Unary::Log,
        "Sqrt" => Unary::Sqrt,
        "Erf" => Unary::Erf,
        "Neg" => Unary::Neg,
        "Abs" => Unary::Abs,
        "Reciprocal" => Unary::Reciprocal,
        "Floor" => Unary::Floor,
        "Ceil" => Unary::Ceil,
        "Clip" => {
            let bound = |index: usize, attribute: &str, default: f64| -> Why<f64> {
                if version < 11 {
                    return Ok(node.get(attribute).map_or(default, |a| f64::from(a.f)));
                }
                match node.input.get(index).map(String::as_str) {
                    None | Some("") => Ok(default),
                    Some(name) => lowering
                        .constant(name)
                        .and_then(|t| t.view().number(0))
                        .ok_or_else(|| "its bounds depend on the request".to_string()),
                }
            };
            Unary::Clip {
                min: bound(1, "min", f64::NEG_INFINITY)?,
                max: bound(2, "max", f64::INFINITY)?,
            }
        }
        _ => return Ok(None),
    }))
}

fn constant_of(node: &Node) -> Why<Tensor> {
    use modelet::tensor::Shape;
    let vector = |data: Data| Tensor {
        shape: Shape::vector(data.len()),
        data,
    };
    let scalar = |data: Data| Tensor {
        shape: Shape::new(&[]).unwrap_or_default(),
        data,
    };
    let Some(attribute) = node.attribute.first() else {
        return Err("a constant without a value".into());
    };
    Ok(match attribute.name.as_str() {
        "value" => attribute.t.as_ref().ok_or("a constant without a value")?.tensor()?,
        "value_float" => scalar(Data::Float32(vec![attribute.f])),
        "value_floats" => vector(Data::Float32(attribute.floats.clone())),
        "value_int" => scalar(Data::Int64(vec![attribute.i])),
        "value_ints" => vector(Data::Int64(attribute.ints.clone())),
        other => return Err(format!("attribute {other:?}")),
    })
}

fn transpose(tensor: &Tensor) -> Why<Tensor> {
    use modelet::tensor::Shape;
    let &[rows, columns] = tensor.shape.dims() else {
        return Err(format!("weights of shape {:?}", tensor.shape));
    };
    let order = (0..columns).flat_map(|c| (0..rows).map(move |r| r * columns + c));
    Ok(Tensor {
        shape: Shape::matrix(columns, rows),
        data: match &tensor.data {
            Data::Float32(v) => Data::Float32(order.map(|i| v[i]).collect()),
            Data::Float64(v) => Data::Float64(order.map(|i| v[i]).collect()),
            other => return Err(format!("weights of type {}", other.dtype())),
        },
    })
}

/// Computes an operator on constants.
fn fold(op: Op, constants: &[&Tensor]) -> Why<Tensor> {
    let mut builder = Builder::new(constants.len() as u16);
    let sources = (0..constants.len() as u16).map(Source::Input).collect();
    let outputs = builder.push(op, sources);
    let image = builder.finish(outputs);
    let len = image.len();
    let program = Program::load(Image::new(image, 0, len)).map_err(|e| e.to_string())?;
    let inputs: Vec<Tensor> = constants.iter().map(|&t| t.clone()).collect();
    let mut workspace = Workspace::default();
    workspace.run(&program, &inputs).map_err(|e| e.to_string())?;
    let result = workspace.output(&program, &inputs, 0);
    Ok(result.map(|view| view.to_tensor()).unwrap_or_default())
}

/// What the graph declares of its outputs, for the neural engine.
pub fn declared_outputs(model: &onnx::Model) -> Vec<Output> {
    let Some(graph) = &model.graph else {
        return Vec::new();
    };
    let labels = graph.node.iter().find_map(|node| {
        ["classlabels_int64s", "classlabels_ints"]
            .iter()
            .find_map(|name| class_labels(node, name).ok())
    });
    graph
        .output
        .iter()
        .map(|output| Output {
            name: output.name.clone(),
            dtype: output
                .r#type
                .as_ref()
                .and_then(|t| t.tensor_type.as_ref())
                .and_then(|t| onnx::dtype(t.elem_type).ok()),
            labels: labels.clone(),
            operator: graph
                .node
                .iter()
                .find(|node| node.output.contains(&output.name))
                .map(|node| node.op_type.clone())
                .unwrap_or_default(),
            zip_map: false,
        })
        .collect()
}
