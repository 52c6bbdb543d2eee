//! The targets `onnx` and `program`: files and images of models.

use crate::mutate::{NUMBERS, Random, damage};
use crate::{Ending, Target};
use anyhow::{Context, anyhow};
use modelet::engine::Workspace;
use modelet::program::{Image, Program};
use modelet::tensor::{Dtype, Shape, Tensor};
use modelet_host::pack::{graph_inputs, lower, onnx, survey};
use prost::Message;
use std::path::Path;

/// Elements of the inputs that a case is run with, at most.
const INPUT_MAX: usize = 1 << 16;

/// Hostile ONNX files: read, lowered, loaded and run.
pub struct Onnx {
    seeds: Vec<Vec<u8>>,
}

impl Onnx {
    /// The target with the fixtures as its seeds.
    pub fn new(root: &Path) -> anyhow::Result<Onnx> {
        let fixtures = root.join("tests/fixtures");
        let named = || fixtures.display().to_string();
        let mut seeds = Vec::new();
        for entry in std::fs::read_dir(&fixtures).with_context(named)? {
            let path = entry.with_context(named)?.path().join("model.onnx");
            if path.is_file() {
                seeds.push(std::fs::read(&path).with_context(|| path.display().to_string())?);
            }
        }
        // The order of a folder is the machine's own.
        seeds.sort();
        Ok(Onnx { seeds })
    }
}

impl Target for Onnx {
    fn case(&self, random: &mut Random) -> Vec<u8> {
        let mut bytes = random.of(&self.seeds).clone();
        let other = random.of(&self.seeds);
        if random.once_in(3) {
            damage(&mut bytes, other, &[], random);
        } else if let (Ok(mut model), Ok(other)) = (onnx::read(&bytes), onnx::read(other)) {
            for _ in 0..random.few() + 1 {
                rewrite(&mut model, &other, random);
            }
            bytes = model.encode_to_vec();
        }
        bytes
    }

    fn run(&mut self, case: &[u8]) -> Result<Ending, String> {
        let Ok(model) = onnx::read(case) else {
            return Ok(Ending::Refused);
        };
        let Ok(inputs) = graph_inputs(&model) else {
            return Ok(Ending::Refused);
        };
        let named: Vec<(String, Dtype)> = inputs.iter().map(|i| (i.name.clone(), i.dtype)).collect();
        let Ok(lowered) = lower(&model, &named) else {
            survey(&model, &named);
            return Ok(Ending::Refused);
        };
        let Ok(program) = load(lowered.image) else {
            return Ok(Ending::Refused);
        };
        let tensors = inputs.iter().map(|input| {
            let dims: Vec<usize> = input
                .dims
                .iter()
                .map(|d| usize::try_from(d.unwrap_or(1)).unwrap_or(usize::MAX))
                .collect();
            zeros(input.dtype, &dims)
        });
        match tensors.collect::<Option<Vec<_>>>() {
            Some(tensors) => run(&program, &tensors),
            None => Ok(Ending::Refused),
        }
    }
}

/// Damaged program images: loaded and run.
///
/// A case is an image after four bytes that say what it is run on: element
/// type, rank, rows and columns of every input.
pub struct Programs {
    seeds: Vec<Vec<u8>>,
}

/// Bytes of a case before the image.
const PREFIX: usize = 4;
/// Magic number, version and lengths.
const HEADER: usize = 24;

impl Programs {
    /// The target with the programs of the fixtures as its seeds.
    pub fn new(root: &Path) -> anyhow::Result<Programs> {
        let mut seeds = Vec::new();
        for bytes in Onnx::new(root)?.seeds {
            let model = onnx::read(&bytes).map_err(|e| anyhow!(e))?;
            let inputs = graph_inputs(&model).map_err(|e| anyhow!(e))?;
            let named: Vec<(String, Dtype)> = inputs.iter().map(|i| (i.name.clone(), i.dtype)).collect();
            // Some fixtures are for the neural engine.
            let Ok(lowered) = lower(&model, &named) else { continue };
            let columns = inputs[0].dims.get(1).copied().flatten().unwrap_or(1);
            let mut seed = vec![inputs[0].dtype as u8, inputs[0].dims.len() as u8, 2, columns as u8];
            seed.extend_from_slice(&lowered.image);
            seeds.push(seed);
        }
        Ok(Programs { seeds })
    }
}

impl Target for Programs {
    fn case(&self, random: &mut Random) -> Vec<u8> {
        let mut case = random.of(&self.seeds).clone();
        let other = random.of(&self.seeds);
        match (random.below(8), parts(&case), parts(other)) {
            (0, ..) => damage(&mut case, other, &[], random),
            (1, Some(own), Some(other)) => {
                let mut constants = own.constants.to_vec();
                damage(&mut constants, other.constants, &[], random);
                case = joined(&case[..PREFIX], own.header, &constants);
            }
            (_, Some(own), Some(other)) => {
                let mut header = own.header.to_vec();
                damage(&mut header, other.header, &[], random);
                case = joined(&case[..PREFIX], &header, own.constants);
            }
            _ => {}
        }
        if random.once_in(4)
            && let Some(byte) = case.get_mut(random.below(PREFIX))
        {
            *byte = random.below(20) as u8;
        }
        case
    }

    fn run(&mut self, case: &[u8]) -> Result<Ending, String> {
        let Some((&[dtype, rank, rows, columns], image)) = case.split_first_chunk() else {
            return Ok(Ending::Refused);
        };
        let Ok(program) = load(image.to_vec()) else {
            return Ok(Ending::Refused);
        };
        let dims = [usize::from(rows), usize::from(columns), 2];
        let dims = &dims[..usize::from(rank).min(3)];
        let Some(zeros) = zeros(Dtype::ALL[usize::from(dtype) % Dtype::ALL.len()], dims) else {
            return Ok(Ending::Refused);
        };
        // A model always has as many inputs as its program.
        run(&program, &vec![zeros; program.input_count().min(64)])
    }
}

struct Parts<'a> {
    header: &'a [u8],
    constants: &'a [u8],
}

fn parts(case: &[u8]) -> Option<Parts<'_>> {
    let image = case.get(PREFIX..)?;
    let len = u32::from_le_bytes(*image.get(12..)?.first_chunk()?) as usize;
    let end = HEADER.checked_add(len)?;
    Some(Parts {
        header: image.get(HEADER..end)?,
        constants: image.get(end.next_multiple_of(16)..)?,
    })
}

/// An image whose lengths are right, so that what follows them is read.
fn joined(prefix: &[u8], header: &[u8], constants: &[u8]) -> Vec<u8> {
    let mut image = b"MDLTPRG\0".to_vec();
    image.extend_from_slice(&2u32.to_le_bytes());
    image.extend_from_slice(&(header.len() as u32).to_le_bytes());
    image.extend_from_slice(&(constants.len() as u64).to_le_bytes());
    image.extend_from_slice(header);
    image.resize(image.len().next_multiple_of(16), 0);
    image.extend_from_slice(constants);
    [prefix, &image].concat()
}

fn load(image: Vec<u8>) -> Result<Program, String> {
    Program::load(Image::from(image)).map_err(|e| e.to_string())
}

/// Runs the program twice, the second time with the buffers of the first.
fn run(program: &Program, inputs: &[Tensor]) -> Result<Ending, String> {
    let mut workspace = Workspace::default();
    let first = workspace.run(program, inputs).map_err(|e| e.to_string());
    let second = workspace.run(program, inputs).map_err(|e| e.to_string());
    if first != second {
        return Err(format!("a second run ends differently: {first:?}, {second:?}"));
    }
    if first.is_err() {
        return Ok(Ending::Refused);
    }
    for i in 0..program.output_count() {
        let output = workspace.output(program, inputs, i).map(|view| view.to_tensor());
        match output {
            Some(tensor) if tensor.data.len() != tensor.shape.len() => {
                return Err(format!(
                    "output {i} has {} elements for the shape {:?}",
                    tensor.data.len(),
                    tensor.shape
                ));
            }
            _ => {}
        }
    }
    Ok(Ending::Answered)
}

/// `None` if it would be larger than what any test should run.
fn zeros(dtype: Dtype, dims: &[usize]) -> Option<Tensor> {
    let shape = Shape::new(dims).filter(|shape| shape.len() <= INPUT_MAX)?;
    Some(Tensor::zeros(dtype, shape))
}

const OPERATORS: &str = "Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh BatchNormalization BitwiseAnd \
    BitwiseNot BitwiseOr BitwiseXor Cast CastLike Ceil Celu Clip Compress Concat ConcatFromSequence Constant \
    ConstantOfShape Cos Cosh CumSum DequantizeLinear Div Dropout DynamicQuantizeLinear Einsum Elu Equal Erf Exp Expand \
    EyeLike Flatten Floor Gather GatherElements GatherND Gelu Gemm Greater GreaterOrEqual HardSigmoid HardSwish Hardmax \
    Identity If InstanceNormalization IsInf IsNaN LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax Loop \
    LpNormalization MatMul MatMulInteger Max Mean MeanVarianceNormalization Min Mish Mod Mul Neg NonZero Not OneHot Or \
    PRelu Pad Pow QLinearMatMul QuantizeLinear RMSNormalization Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum \
    ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare RegexFullMatch Relu Reshape \
    Round Scan Scatter ScatterElements ScatterND Selu SequenceAt SequenceConstruct SequenceEmpty SequenceErase \
    SequenceInsert SequenceLength Shape Shrink Sigmoid Sign Sin Sinh Size Slice Softmax Softplus Softsign Split \
    SplitToSequence Sqrt Squeeze StringConcat StringNormalizer StringSplit Sub Sum Swish Tan Tanh TfIdfVectorizer \
    ThresholdedRelu Tile TopK Transpose Trilu Unique Unsqueeze Where Xor";
const OPERATORS_ML: &str = "ArrayFeatureExtractor Binarizer CategoryMapper DictVectorizer FeatureVectorizer Imputer \
    LabelEncoder LinearClassifier LinearRegressor Normalizer OneHotEncoder SVMClassifier SVMRegressor Scaler \
    TreeEnsembleClassifier TreeEnsembleRegressor ZipMap";
const ATTRIBUTES: &str = "aggregate_function allowzero alpha approximate axes axis batch_dims beta bias body \
    case_change_action cats_int64s cats_strings classlabels_ints classlabels_strings coefficients default_float \
    default_int64 default_string delimiter depth direction dtype else_branch end epsilon equation exclusive fmod gamma \
    imputed_value_floats imputed_value_int64s inputdimensions intercepts is_case_sensitive k keepdims kernel_params \
    kernel_type keys_floats keys_int64s keys_strings largest mark max max_gram_length max_skip_count maxsplit min \
    min_gram_length mincharnum mode n_supports n_targets new_axis ngram_counts ngram_indexes nodes_falsenodeids \
    nodes_featureids nodes_modes nodes_treeids nodes_truenodeids nodes_values noop_with_empty_axes norm num_outputs \
    num_scan_inputs offset output_dtype p pads pattern perm pool_int64s pool_strings post_transform reduction \
    replaced_value_float reverse scale scan_input_axes scan_output_axes select_last_index separators shape sorted split \
    start starts ends stopwords support_vectors target_ids then_branch threshold to tokenexp upper value value_float \
    value_floats value_int value_ints value_string values_floats values_int64s values_strings vectors_per_class weights \
    zeros";
const TEXTS: [&str; 18] = [
    "",
    "a",
    "ij,jk->ik",
    "...i,...i->...",
    "ii->i",
    "(a|b)*c{2,1000}",
    "((a*)*)*b",
    "[^\\x00-\\x{10FFFF}]",
    "\\",
    "é",
    "SOFTMAX",
    "SOFTMAX_ZERO",
    "PROBIT",
    "RBF",
    "BRANCH_LT",
    "constant",
    "TFIDF",
    "UPPER",
];

fn word(words: &str, random: &mut Random) -> String {
    let words: Vec<&str> = words.split_ascii_whitespace().collect();
    random.of(&words).to_string()
}

/// Changes the model where a change of bytes would only break its encoding.
fn rewrite(model: &mut onnx::Model, other: &onnx::Model, random: &mut Random) {
    let Some(graph) = &mut model.graph else { return };
    let names = names(graph);
    let at = random.below(graph.node.len());
    let changed = graph.node.get_mut(at);
    match (random.below(16), changed) {
        (0, Some(node)) => node.op_type = word(OPERATORS, random),
        (1, Some(node)) => (node.op_type, node.domain) = (word(OPERATORS_ML, random), "ai.onnx.ml".into()),
        (2, Some(node)) => inputs(node, &names, random),
        (3..=5, Some(node)) => {
            let len = node.attribute.len();
            if let Some(attribute) = node.attribute.get_mut(random.below(len)) {
                rewrite_attribute(attribute, random);
            }
        }
        (6, Some(node)) if !node.attribute.is_empty() && random.once_in(3) => {
            node.attribute.remove(random.below(node.attribute.len()));
        }
        (6, Some(node)) => node.attribute.push(attribute(&names, 0, random)),
        (7, _) => {
            let len = graph.initializer.len();
            if let Some(tensor) = graph.initializer.get_mut(random.below(len)) {
                rewrite_tensor(tensor, random);
            }
        }
        (8, _) => {
            let len = graph.input.len();
            if let Some(input) = graph.input.get_mut(random.below(len)) {
                rewrite_input(input, random);
            }
        }
        (9, _) => {
            if let Some(set) = model.opset_import.first_mut() {
                set.version = random.below(26) as i64;
            }
        }
        (10, _) => {
            if let Some(other) = &other.graph
                && !other.node.is_empty()
            {
                graph.node.insert(at, random.of(&other.node).clone());
                graph.initializer.extend_from_slice(&other.initializer);
            }
        }
        (11, _) => {
            let function = onnx::Function {
                name: word(OPERATORS, random),
                input: vec!["a".into(), "b".into()],
                output: vec!["c".into()],
                node: (0..2)
                    .map(|_| node(&["a".into(), "b".into(), "c".into()], 0, random))
                    .collect(),
                ..onnx::Function::default()
            };
            model.functions.push(function);
        }
        _ => {
            let new = node(&names, 0, random);
            if random.once_in(3) {
                graph.output.extend(new.output.iter().map(|name| onnx::ValueInfo {
                    name: name.clone(),
                    r#type: None,
                }));
            }
            let at = if random.once_in(4) { at } else { graph.node.len() };
            graph.node.insert(at, new);
        }
    }
    if random.once_in(3) {
        let name = format!("constant{}", random.below(4));
        graph.initializer.push(tensor(name, random));
    }
}

fn names(graph: &onnx::Graph) -> Vec<String> {
    let mut names: Vec<String> = graph.input.iter().map(|i| i.name.clone()).collect();
    // Inputs are few, and what depends on nothing is computed while lowering.
    names = [&names[..]; 4].concat();
    names.extend(graph.initializer.iter().map(|t| t.name.clone()));
    names.extend(graph.node.iter().flat_map(|n| n.output.iter().cloned()));
    names
}

fn inputs(node: &mut onnx::Node, names: &[String], random: &mut Random) {
    let new = match random.below(6) {
        0 => String::new(),
        _ if names.is_empty() => String::new(),
        _ => random.of(names).clone(),
    };
    let at = random.below(node.input.len() + 1);
    match node.input.get_mut(at) {
        Some(_) if random.once_in(5) => drop(node.input.remove(at)),
        Some(input) => *input = new,
        None => node.input.push(new),
    }
}

/// A node of any operator on any of the values.
fn node(names: &[String], depth: usize, random: &mut Random) -> onnx::Node {
    let mut node = onnx::Node {
        op_type: word(OPERATORS, random),
        output: (0..random.few().min(3))
            .map(|_| format!("new{}", random.below(1000)))
            .collect(),
        ..onnx::Node::default()
    };
    if random.once_in(4) {
        (node.op_type, node.domain) = (word(OPERATORS_ML, random), "ai.onnx.ml".into());
    } else if random.once_in(40) {
        (node.op_type, node.domain) = ("Tokenizer".into(), "com.microsoft".into());
    } else if depth < 3 && random.once_in(8) {
        node.op_type = (*random.of(&["If", "Loop", "Scan"])).into();
    }
    for _ in 0..random.below(4) + 1 {
        inputs(&mut node, names, random);
    }
    let bodies: &[&str] = match node.op_type.as_str() {
        "If" => &["then_branch", "else_branch"],
        "Loop" | "Scan" => &["body"],
        _ => &[],
    };
    for name in bodies {
        node.attribute.push(onnx::Attribute {
            name: (*name).into(),
            g: Some(graph(names, depth + 1, random)),
            ..onnx::Attribute::default()
        });
    }
    if node.op_type == "Loop"
        && random.once_in(2)
        && let Some(most) = node.input.first_mut()
    {
        most.clear();
    }
    if node.op_type == "Scan" {
        node.attribute.push(onnx::Attribute {
            name: "num_scan_inputs".into(),
            i: 1,
            ..onnx::Attribute::default()
        });
    }
    for _ in 0..random.below(4) {
        node.attribute.push(attribute(names, depth, random));
    }
    node
}

/// A body.
fn graph(names: &[String], depth: usize, random: &mut Random) -> onnx::Graph {
    let value = |i: usize| onnx::ValueInfo {
        name: format!("given{depth}_{i}"),
        r#type: None,
    };
    let mut graph = onnx::Graph {
        input: (0..random.below(4)).map(value).collect(),
        ..onnx::Graph::default()
    };
    let mut names = names.to_vec();
    for _ in 0..random.below(3) {
        graph.initializer.push(tensor(format!("inner{depth}"), random));
    }
    names.extend(graph.input.iter().map(|i| i.name.clone()));
    for _ in 0..random.below(3) {
        let node = node(&names, depth, random);
        names.extend(node.output.iter().cloned());
        graph.node.push(node);
    }
    for _ in 0..random.below(4) {
        let late = names.len().saturating_sub(6);
        graph.output.push(onnx::ValueInfo {
            name: random.of(&names[late..]).clone(),
            r#type: None,
        });
    }
    graph
}

fn number(random: &mut Random) -> i64 {
    match random.once_in(3) {
        true => *random.of(&NUMBERS),
        false => random.below(9) as i64 - 3,
    }
}

fn real(random: &mut Random) -> f32 {
    *random.of(&[
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.5,
        2.5,
        1e9,
        f32::MAX,
        f32::MIN_POSITIVE,
        f32::INFINITY,
        f32::NAN,
    ])
}

fn text(random: &mut Random) -> Vec<u8> {
    random.of(&TEXTS).as_bytes().to_vec()
}

fn attribute(names: &[String], depth: usize, random: &mut Random) -> onnx::Attribute {
    let mut attribute = onnx::Attribute {
        name: word(ATTRIBUTES, random),
        i: number(random),
        f: real(random),
        s: text(random),
        ..onnx::Attribute::default()
    };
    attribute.ints = (0..random.below(5)).map(|_| number(random)).collect();
    attribute.floats = (0..random.below(5)).map(|_| real(random)).collect();
    attribute.strings = (0..random.below(4)).map(|_| text(random)).collect();
    if random.once_in(2) {
        attribute.t = Some(tensor(String::new(), random));
    }
    if depth < 2 && random.once_in(8) {
        attribute.g = Some(graph(names, depth + 1, random));
    }
    attribute
}

fn rewrite_attribute(attribute: &mut onnx::Attribute, random: &mut Random) {
    match random.below(6) {
        0 => attribute.i = number(random),
        1 => attribute.f = real(random),
        2 => attribute.s = text(random),
        3 if !attribute.floats.is_empty() => {
            let at = random.below(attribute.floats.len());
            attribute.floats[at] = real(random);
            if random.once_in(2) {
                attribute.floats.truncate(at);
            }
        }
        4 if !attribute.strings.is_empty() => {
            let at = random.below(attribute.strings.len());
            attribute.strings[at] = text(random);
        }
        _ => {
            let at = random.below(attribute.ints.len() + 1);
            match attribute.ints.get_mut(at) {
                Some(_) if random.once_in(4) => attribute.ints.truncate(at),
                Some(int) => *int = number(random),
                None => attribute.ints.push(number(random)),
            }
        }
    }
}

/// A small constant, of which the elements are as many as the shape says.
fn tensor(name: String, random: &mut Random) -> onnx::TensorProto {
    let dims: Vec<i64> = (0..random.below(4)).map(|_| random.below(4) as i64).collect();
    let count = dims.iter().product::<i64>();
    let data_type = *random.of(&[1, 1, 7, 7, 7, 11, 6, 9, 8, 2, 3, 10]);
    let mut tensor = onnx::TensorProto {
        dims,
        data_type,
        name,
        ..onnx::TensorProto::default()
    };
    for _ in 0..count {
        match data_type {
            1 => tensor.float_data.push(real(random)),
            7 => tensor.int64_data.push(number(random)),
            11 => tensor.double_data.push(f64::from(real(random))),
            8 => tensor.string_data.push(text(random)),
            _ => tensor.int32_data.push(number(random) as i32),
        }
    }
    tensor
}

fn rewrite_tensor(tensor: &mut onnx::TensorProto, random: &mut Random) {
    match random.below(3) {
        0 => tensor.data_type = random.below(18) as i32,
        1 => tensor.dims.push(number(random)),
        _ => {
            if let Some(dim) = tensor.dims.first_mut() {
                *dim = number(random);
            }
        }
    }
}

fn rewrite_input(input: &mut onnx::ValueInfo, random: &mut Random) {
    let Some(tensor) = input.r#type.as_mut().and_then(|t| t.tensor_type.as_mut()) else {
        return;
    };
    match random.below(3) {
        0 => tensor.elem_type = random.below(14) as i32,
        1 => {
            let dim = onnx::Dimension {
                dim_value: Some(number(random)),
                dim_param: None,
            };
            tensor.shape.get_or_insert_default().dim.push(dim);
        }
        _ => {
            if let Some(dim) = tensor.shape.as_mut().and_then(|s| s.dim.last_mut()) {
                dim.dim_value = Some(number(random));
            }
        }
    }
}
