//! Lowering: an ONNX graph becomes a program of the tabular engine.
//!
//! Every operator of the graph has one arm in its family's file, which builds
//! the engine's operator from the node's attributes. What depends on constants
//! alone is computed here. A node that the engine does not know is an
//! [`Unsupported`], which sends the model to the neural engine.

mod control;
mod encode;
mod function;
mod linear;
mod math;
mod normalize;
mod quantize;
mod shape;
mod svm;
mod text;
mod tree;

use super::onnx::{self, Node};
use modelet::engine::Workspace;
use modelet::ops::Op;
use modelet::ops::elementwise::Unary;
use modelet::ops::linear::Labels;
use modelet::program::{Builder, Image, Program, Source};
use modelet::signature;
use modelet::tensor::{Data, Dtype, Tensor};
use std::collections::{BTreeMap, HashMap, HashSet};
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
    /// Sequences of values, which are known here and don't exist in a run.
    sequences: HashMap<&'a str, Vec<Value>>,
    opsets: BTreeMap<String, i64>,
    /// Results of Softmax on dequantized values.
    quantized_softmax: HashSet<&'a str>,
    /// Results of casts to float16, as float32 without its rounding; see
    /// [`Lowering::round_for`].
    unrounded: HashSet<&'a str>,
    /// Bytes of the constants that nodes were computed to.
    folded: usize,
}

/// The most bytes that all nodes together are computed to: a few nodes can
/// stand for far more than the file has.
const FOLDED_BYTES_MAX: usize = 1 << 29;
const FOLDED: &str = "the constants that the graph computes become too large";

/// Why a node could not be lowered, without the node.
type Why<T> = Result<T, String>;

/// Lowers the graph; `inputs` are the model's inputs in order, with their types.
///
/// # Errors
/// When the engine does not have an operator, or not in this form.
pub fn lower(model: &onnx::Model, inputs: &[(String, Dtype)]) -> Result<Lowered, Unsupported> {
    let whole = |why: String| whole(model, why);
    let inlined = function::inline(model).map_err(whole)?;
    let model = inlined.as_ref().unwrap_or(model);
    let graph = model.graph.as_ref().expect("the reader demands a graph");
    let mut lowering = Lowering::new(model, inputs);
    lowering.initializers(graph).map_err(whole)?;
    lowering.inputs(graph, inputs);
    for node in &graph.node {
        lowering.node(node).map_err(|why| lowering.unsupported(node, why))?;
    }
    let mut sources = Vec::new();
    let mut outputs = Vec::new();
    for output in &graph.output {
        let value = lowering
            .values
            .get(output.name.as_str())
            .cloned()
            .ok_or_else(|| whole(format!("nothing computes the output {:?}", output.name)))?;
        let source = value.kind.source(&mut lowering.builder);
        let source = lowering.as_declared(output, source);
        sources.push(source);
        outputs.push(Output {
            name: output.name.clone(),
            dtype: value.kind.dtype(),
            labels: value.labels,
            operator: value.operator,
            zip_map: value.zip_map,
        });
    }
    if lowering.builder.is_full() || u16::try_from(inputs.len()).is_err() {
        return Err(whole(
            "it has more values or larger constants than a program holds".into(),
        ));
    }
    Ok(Lowered {
        image: lowering.builder.finish(sources),
        outputs,
    })
}

/// The model with its functions' nodes in the place of their calls, if it has
/// functions that can be.
pub fn inlined(model: &onnx::Model) -> Option<onnx::Model> {
    function::inline(model).ok().flatten()
}

/// Everything that [`lower`] refuses, not the first alone. What depends on a
/// refused node is only named where the engine does not have its operator.
pub fn survey(model: &onnx::Model, inputs: &[(String, Dtype)]) -> Vec<Unsupported> {
    let inlined = match function::inline(model) {
        Ok(inlined) => inlined,
        Err(why) => return vec![whole(model, why)],
    };
    let model = inlined.as_ref().unwrap_or(model);
    let Some(graph) = &model.graph else {
        return Vec::new();
    };
    let mut lowering = Lowering::new(model, inputs);
    let mut refused = Vec::new();
    if let Err(why) = lowering.initializers(graph) {
        refused.push(whole(model, why));
    }
    let initializers = graph.initializer.iter().map(|t| t.name.as_str());
    let mut unknown: HashSet<&str> = initializers.filter(|name| !lowering.knows(name)).collect();
    lowering.inputs(graph, inputs);
    for node in &graph.node {
        let depends = node.input.iter().any(|name| unknown.contains(name.as_str()));
        for name in node.input.iter().filter(|name| unknown.contains(name.as_str())) {
            let stand_in = Value::computed(Source::Input(0), None, "");
            lowering.values.entry(name).or_insert(stand_in);
        }
        match lowering.node(node) {
            Ok(()) => {}
            Err(why) if depends && why != ABSENT => {}
            Err(why) => refused.push(lowering.unsupported(node, why)),
        }
        for name in node.output.iter().filter(|name| !name.is_empty()) {
            if depends || !lowering.knows(name) {
                unknown.insert(name);
            }
        }
    }
    refused
}

/// Why an operator is refused that the engine does not have at all.
const ABSENT: &str = "the tabular engine does not have it";

fn whole(model: &onnx::Model, why: String) -> Unsupported {
    Unsupported {
        operator: "graph".into(),
        node: model.graph.as_ref().map(|g| g.name.clone()).unwrap_or_default(),
        version: 0,
        why,
    }
}

impl Kind {
    /// The element type, where it is known.
    fn dtype(&self) -> Option<Dtype> {
        match self {
            Kind::Constant(tensor) => Some(tensor.data.dtype()),
            Kind::Computed(_, dtype) => *dtype,
        }
    }

    fn constant(&self) -> Option<&Tensor> {
        match self {
            Kind::Constant(tensor) => Some(tensor),
            Kind::Computed(..) => None,
        }
    }

    /// Where a run finds it; a constant is put among the program's.
    fn source(&self, builder: &mut Builder) -> Source {
        match self {
            Kind::Constant(tensor) => builder.constant(tensor),
            Kind::Computed(source, _) => *source,
        }
    }
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
    fn new(model: &onnx::Model, inputs: &[(String, Dtype)]) -> Lowering<'a> {
        Lowering {
            builder: Builder::new(inputs.len() as u16),
            values: HashMap::new(),
            sequences: HashMap::new(),
            opsets: model.opsets(),
            quantized_softmax: HashSet::new(),
            unrounded: HashSet::new(),
            folded: 0,
        }
    }

    fn inputs(&mut self, graph: &'a onnx::Graph, inputs: &[(String, Dtype)]) {
        for (index, (name, dtype)) in inputs.iter().enumerate() {
            let input = graph
                .input
                .iter()
                .find(|i| i.name == *name)
                .expect("inputs are the graph's");
            let source = self.as_declared(input, Source::Input(index as u16));
            self.values
                .insert(&input.name, Value::computed(source, Some(*dtype), "input"));
        }
    }

    fn knows(&self, name: &str) -> bool {
        self.values.contains_key(name) || self.sequences.contains_key(name)
    }

    fn version(&self, node: &Node) -> i64 {
        version(&self.opsets, &node.domain)
    }

    fn unsupported(&self, node: &Node, why: String) -> Unsupported {
        Unsupported {
            operator: node.operator(),
            node: match (&node.name, node.output.first()) {
                (name, Some(output)) if name.is_empty() => output.clone(),
                (name, _) => name.clone(),
            },
            version: self.version(node),
            why,
        }
    }

    fn initializers(&mut self, graph: &'a onnx::Graph) -> Why<()> {
        if !graph.sparse_initializer.is_empty() {
            return Err("sparse initializers are not supported; save the weights as dense ones".into());
        }
        for initializer in &graph.initializer {
            let tensor = initializer
                .tensor()
                .map_err(|why| format!("initializer {:?}: {why}", initializer.name))?;
            self.values.insert(&initializer.name, Value::constant(tensor));
        }
        Ok(())
    }

    /// What the graph takes or gives as float16 is float32, rounded to float16.
    fn as_declared(&mut self, declared: &onnx::ValueInfo, source: Source) -> Source {
        match declared.is_float16() {
            true => self.builder.push(Op::Unary(Unary::Half), vec![source])[0],
            false => source,
        }
    }

    /// Rounds the operands that casts to float16 made, where the node is one
    /// that ONNX Runtime runs on float16. All others it runs on float32, and
    /// drops the cast to float16 and back before them.
    fn round_for(&mut self, node: &'a Node) -> Why<()> {
        let runs = matches!(
            node.op_type.as_str(),
            "Concat"
                | "Expand"
                | "Flatten"
                | "Gather"
                | "GatherElements"
                | "GatherND"
                | "Max"
                | "Min"
                | "Reshape"
                | "Round"
                | "Sign"
                | "Slice"
                | "Split"
                | "Squeeze"
                | "Tile"
                | "Transpose"
                | "Unsqueeze"
        );
        for name in node.input.iter().filter(|_| runs) {
            if self.unrounded.remove(name.as_str())
                && let Some(mut value) = self.values.get(name.as_str()).cloned()
            {
                value.kind = self.compute(Op::Unary(Unary::Half), &[&value.kind], Some(Dtype::Float32))?;
                self.values.insert(name, value);
            }
        }
        Ok(())
    }

    fn value(&self, name: &str) -> Why<&Value> {
        self.values.get(name).ok_or_else(|| uncomputed(name))
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
        let value = self.values.get(name).ok_or_else(|| uncomputed(name))?;
        Ok((value.kind.source(&mut self.builder), value.kind.dtype()))
    }

    fn constant(&self, name: &str) -> Option<&Tensor> {
        self.values.get(name)?.kind.constant()
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
            if let Kind::Constant(tensor) = &value.kind {
                self.folded = self.folded.saturating_add(tensor.data.bytes());
            }
            self.values.insert(name, value);
        }
    }

    /// Emits an operator with one result; computed here if its operands are
    /// constants.
    fn emit(&mut self, node: &'a Node, op: Op, inputs: &[&str], dtype: Option<Dtype>) -> Why<()> {
        let constants: Option<Vec<&Tensor>> = inputs.iter().map(|name| self.constant(name)).collect();
        if let (Some(constants), false) = (constants, inputs.is_empty()) {
            let value = fold(op, &constants)?;
            self.bind(node, 0, Value::constant(value));
            return Ok(());
        }
        self.emit_all(node, op, inputs, &[dtype])
    }

    /// Emits an operator whose results have these types. Unlike
    /// [`Lowering::emit`] for operators with arrays of their own, which are this
    /// program's, and for those with several results. An operand with an empty
    /// name is absent.
    fn emit_all(&mut self, node: &'a Node, op: Op, inputs: &[&str], dtypes: &[Option<Dtype>]) -> Why<()> {
        let labels = match inputs {
            // Casts, reshapes and the like keep what the values mean.
            [input] => self.value(input)?.labels.clone(),
            _ => None,
        };
        let sources = inputs
            .iter()
            .map(|name| match name.is_empty() {
                true => Ok(Source::None),
                false => self.source(name).map(|(source, _)| source),
            })
            .collect::<Why<Vec<_>>>()?;
        let results = self.builder.push(op, sources);
        for (index, (result, &dtype)) in results.into_iter().zip(dtypes).enumerate() {
            let mut value = Value::computed(result, dtype, &node.op_type);
            value.labels = labels.clone();
            self.bind(node, index, value);
        }
        Ok(())
    }

    /// The type of an operand, where it is known.
    fn dtype(&self, name: &str) -> Option<Dtype> {
        self.values.get(name)?.kind.dtype()
    }

    fn node(&mut self, node: &'a Node) -> Why<()> {
        // A survey goes on after it, and computes nothing more.
        if self.folded > FOLDED_BYTES_MAX {
            return Err(FOLDED.into());
        }
        let version = self.version(node);
        self.round_for(node)?;
        let known = match onnx::domain(&node.domain) {
            "ai.onnx.ml" => {
                self.tree_node(node)?
                    || self.linear_node(node)?
                    || self.svm_node(node)?
                    || self.encoder_node(node, version)?
            }
            "ai.onnx" => {
                // Text comes before numbers: it takes the casts and comparisons that are its own.
                self.shape_node(node, version)?
                    || self.control_node(node, version)?
                    || self.text_node(node, version)?
                    || self.math_node(node, version)?
            }
            "com.microsoft" => self.text_node(node, version)?,
            _ => false,
        };
        match known {
            true if self.folded > FOLDED_BYTES_MAX => Err(FOLDED.into()),
            true => Ok(()),
            false => Err(ABSENT.into()),
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
}

fn uncomputed(name: &str) -> String {
    format!("nothing computes its input {name:?}")
}

/// The version of a domain's operator set.
pub fn version(opsets: &BTreeMap<String, i64>, domain: &str) -> i64 {
    let domain = onnx::domain(domain);
    // Exporters of tree models leave the default domain's import out.
    let absent = if domain == "ai.onnx" { 13 } else { 1 };
    opsets.get(domain).copied().unwrap_or(absent)
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

/// Computes an operator with one result on constants.
fn fold(op: Op, constants: &[&Tensor]) -> Why<Tensor> {
    let constants: Vec<Option<&Tensor>> = constants.iter().map(|&t| Some(t)).collect();
    Ok(fold_all(op, &constants)?.into_iter().next().unwrap_or_default())
}

/// Computes an operator on constants, of which some may be absent.
fn fold_all(op: Op, constants: &[Option<&Tensor>]) -> Why<Vec<Tensor>> {
    let inputs: Vec<Tensor> = constants.iter().flatten().map(|&t| t.clone()).collect();
    let mut builder = Builder::new(inputs.len() as u16);
    let mut given = 0..inputs.len() as u16;
    let sources = constants
        .iter()
        .map(|c| c.and_then(|_| given.next()).map_or(Source::None, Source::Input))
        .collect();
    let outputs = builder.push(op, sources);
    if builder.is_full() {
        return Err("constants that are too large".into());
    }
    let image = builder.finish(outputs);
    let program = Program::load(Image::from(image)).map_err(|e| e.to_string())?;
    let mut workspace = Workspace::default();
    workspace.run(&program, &inputs).map_err(|e| e.to_string())?;
    let output = |i| workspace.output(&program, &inputs, i).map(|view| view.to_tensor());
    Ok((0..program.output_count()).filter_map(output).collect())
}
