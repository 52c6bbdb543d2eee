//! Graphs that need both engines: what the neural one lacks is lowered node by
//! node into programs of the tabular one, which run inside its graph.

use super::lower::{Unsupported, lower};
use super::onnx::{self, Attribute, Graph, Model, Node, TensorType, TypeProto, ValueInfo};
use modelet::program::graph::{ATTRIBUTE, OPERATOR};
use modelet::tensor::Dtype;
use prost::Message as _;
use std::collections::HashMap;

/// `AttributeProto.STRING`.
const STRING: i32 = 3;

/// Whether the node is for our kernels: tract does not have it, or not as
/// ONNX Runtime does it.
fn is_ours(node: &Node) -> bool {
    match onnx::domain(&node.domain) {
        "ai.onnx" => matches!(
            node.op_type.as_str(),
            "StringNormalizer" | "StringConcat" | "StringSplit" | "RegexFullMatch" | "TfIdfVectorizer"
        ),
        _ => true,
    }
}

/// The graph with programs in the place of the nodes that are ours, as the
/// bytes of an ONNX file; `None` if none is. Only `inputs` have known types.
///
/// # Errors
/// When the tabular engine does not have one of those either.
pub fn rewrite(model: &Model, inputs: &[(String, Dtype)]) -> Result<Option<Vec<u8>>, Unsupported> {
    let Some(graph) = model.graph.as_ref().filter(|graph| graph.node.iter().any(is_ours)) else {
        return Ok(None);
    };
    let mut dtypes: HashMap<String, Dtype> = inputs.iter().cloned().collect();
    let constants: HashMap<&str, Constant<'_>> = constants(graph);
    let mut nodes = Vec::with_capacity(graph.node.len());
    for node in &graph.node {
        if is_ours(node) {
            nodes.push(program(model, graph, node, &constants, &mut dtypes)?);
        } else {
            if node.op_type == "Cast"
                && let (Some(output), Ok(dtype)) = (node.output.first(), onnx::dtype(node.int("to", 1) as i32))
            {
                dtypes.insert(output.clone(), dtype);
            }
            nodes.push(node.clone());
        }
    }
    let outputs = graph.output.iter().map(|output| ValueInfo {
        name: output.name.clone(),
        // A ZipMap's sequence is a tensor now.
        r#type: output.r#type.clone().filter(|t| t.tensor_type.is_some()),
    });
    let rewritten = Model {
        graph: Some(Graph {
            node: nodes,
            output: outputs.collect(),
            ..graph.clone()
        }),
        ..model.clone()
    };
    Ok(Some(rewritten.encode_to_vec()))
}

enum Constant<'a> {
    Initializer(&'a onnx::TensorProto),
    Node(&'a Node),
}

fn constants(graph: &Graph) -> HashMap<&str, Constant<'_>> {
    let initializers = graph
        .initializer
        .iter()
        .map(|tensor| (tensor.name.as_str(), Constant::Initializer(tensor)));
    let nodes = graph
        .node
        .iter()
        .filter(|node| node.op_type == "Constant")
        .filter_map(|node| Some((node.output.first()?.as_str(), Constant::Node(node))));
    initializers.chain(nodes).collect()
}

/// The node as a program.
fn program(
    model: &Model,
    graph: &Graph,
    node: &Node,
    constants: &HashMap<&str, Constant<'_>>,
    dtypes: &mut HashMap<String, Dtype>,
) -> Result<Node, Unsupported> {
    let mut alone = Graph {
        name: graph.name.clone(),
        ..Graph::default()
    };
    let mut inputs = Vec::new();
    for name in &node.input {
        match constants.get(name.as_str()) {
            Some(Constant::Initializer(tensor)) => alone.initializer.push((*tensor).clone()),
            Some(Constant::Node(constant)) => alone.node.push((*constant).clone()),
            None if name.is_empty() || inputs.iter().any(|(known, _)| known == name) => {}
            None => {
                // What tract computes is mostly float32.
                let dtype = dtypes.get(name).copied().unwrap_or(Dtype::Float32);
                inputs.push((name.clone(), dtype));
            }
        }
    }
    alone.input = inputs.iter().map(|(name, _)| untyped(name)).collect();
    let names: Vec<String> = node.output.iter().filter(|name| !name.is_empty()).cloned().collect();
    alone.output = names.iter().map(|name| untyped(name)).collect();
    alone.node.push(node.clone());
    let lowered = lower(
        &Model {
            graph: Some(alone),
            ..model.clone()
        },
        &inputs,
    )?;
    for output in &lowered.outputs {
        if let Some(dtype) = output.dtype {
            dtypes.insert(output.name.clone(), dtype);
        }
    }
    Ok(Node {
        input: inputs.into_iter().map(|(name, _)| name).collect(),
        output: names,
        name: node.name.clone(),
        op_type: OPERATOR.into(),
        attribute: vec![Attribute {
            name: ATTRIBUTE.into(),
            s: lowered.image,
            r#type: STRING,
            ..Attribute::default()
        }],
        ..Node::default()
    })
}

fn untyped(name: &str) -> ValueInfo {
    ValueInfo {
        name: name.to_owned(),
        r#type: Some(TypeProto {
            tensor_type: Some(TensorType::default()),
            sequence_type: None,
        }),
    }
}
