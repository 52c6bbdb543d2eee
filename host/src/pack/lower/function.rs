//! Functions of the model: every call is replaced by the function's nodes
//! before the graph is lowered.

use super::Why;
use crate::pack::onnx::{self, Attribute, Function, Graph, Model, Node};
use prost::Message as _;
use std::collections::HashMap;

/// How deep calls may lie in functions.
const DEPTH_MAX: usize = 32;
/// How many nodes all calls together may become.
const NODES_MAX: usize = 1 << 16;
/// How many bytes of attributes, which hold constants.
const BYTES_MAX: usize = 1 << 30;

/// The model without its functions, if it has any.
///
/// # Errors
/// When functions call each other without end, or become too many nodes.
pub(super) fn inline(model: &Model) -> Why<Option<Model>> {
    if model.functions.is_empty() {
        return Ok(None);
    }
    let functions = model
        .functions
        .iter()
        .map(|f| ((onnx::domain(&f.domain), &*f.name, &*f.overload), f));
    let mut inliner = Inliner {
        functions: functions.collect(),
        calls: 0,
        nodes: 0,
        bytes: 0,
    };
    let mut inlined = Model {
        functions: Vec::new(),
        graph: None,
        ..model.clone()
    };
    // Where model and function import the same domain, operators are the same
    // in both versions: the format demands it.
    let known = model.opsets();
    for set in model.functions.iter().flat_map(|f| &f.opset_import) {
        if !known.contains_key(onnx::domain(&set.domain)) {
            inlined.opset_import.push(set.clone());
        }
    }
    inlined.graph = match &model.graph {
        Some(graph) => Some(inliner.graph(graph, None, 0)?),
        None => None,
    };
    Ok(Some(inlined))
}

struct Inliner<'m> {
    functions: HashMap<(&'m str, &'m str, &'m str), &'m Function>,
    calls: usize,
    nodes: usize,
    bytes: usize,
}

/// What names mean inside one call.
struct Call {
    formals: HashMap<String, String>,
    prefix: String,
    attributes: HashMap<String, Attribute>,
}

impl Call {
    fn name(&self, name: &str) -> String {
        match self.formals.get(name) {
            Some(actual) => actual.clone(),
            None if name.is_empty() => String::new(),
            None => format!("{}{name}", self.prefix),
        }
    }
}

impl Inliner<'_> {
    fn graph(&mut self, graph: &Graph, call: Option<&Call>, depth: usize) -> Why<Graph> {
        let node = self.list(&graph.node, call, depth)?;
        let mut graph = Graph {
            node: Vec::new(),
            ..graph.clone()
        };
        graph.node = node;
        if let Some(call) = call {
            let values = graph.input.iter_mut().chain(&mut graph.output).map(|v| &mut v.name);
            for name in values.chain(graph.initializer.iter_mut().map(|t| &mut t.name)) {
                *name = call.name(name);
            }
        }
        Ok(graph)
    }

    fn list(&mut self, nodes: &[Node], call: Option<&Call>, depth: usize) -> Why<Vec<Node>> {
        let mut list = Vec::with_capacity(nodes.len());
        for node in nodes {
            self.node(node, call, depth, &mut list)?;
        }
        Ok(list)
    }

    fn node(&mut self, node: &Node, call: Option<&Call>, depth: usize, list: &mut Vec<Node>) -> Why<()> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return Err(format!("its functions become more than {NODES_MAX} nodes"));
        }
        let mut new = Node {
            attribute: Vec::new(),
            ..node.clone()
        };
        if call.is_some() {
            self.bytes += node.encoded_len();
            if self.bytes > BYTES_MAX {
                return Err(format!("its functions become more than {BYTES_MAX} bytes"));
            }
        }
        for attribute in &node.attribute {
            let mut attribute = match call {
                Some(call) if !attribute.ref_attr_name.is_empty() => {
                    // One that the call does not give is absent.
                    let Some(given) = call.attributes.get(&attribute.ref_attr_name) else {
                        continue;
                    };
                    Attribute {
                        name: attribute.name.clone(),
                        ..given.clone()
                    }
                }
                _ => attribute.clone(),
            };
            if let Some(graph) = &attribute.g {
                attribute.g = Some(self.graph(graph, call, depth)?);
            }
            new.attribute.push(attribute);
        }
        if let Some(call) = call {
            for name in new.input.iter_mut().chain(&mut new.output) {
                *name = call.name(name);
            }
        }
        let key = (onnx::domain(&node.domain), &*node.op_type, &*node.overload);
        match self.functions.get(&key).copied() {
            None => list.push(new),
            Some(_) if depth == DEPTH_MAX => {
                return Err(format!("its functions call each other more than {DEPTH_MAX} deep"));
            }
            Some(function) => self.call(function, new, depth, list)?,
        }
        Ok(())
    }

    fn call(&mut self, function: &Function, node: Node, depth: usize, list: &mut Vec<Node>) -> Why<()> {
        self.calls += 1;
        let mut call = Call {
            formals: HashMap::new(),
            prefix: format!("{}#{}/", function.name, self.calls),
            attributes: function
                .attribute_proto
                .iter()
                .chain(&node.attribute)
                .map(|a| (a.name.clone(), a.clone()))
                .collect(),
        };
        for (i, formal) in function.input.iter().enumerate() {
            let actual = node.input.get(i).cloned().unwrap_or_default();
            call.formals.insert(formal.clone(), actual);
        }
        let mut passed = Vec::new();
        for (formal, actual) in function.output.iter().zip(&node.output) {
            match call.formals.get(formal) {
                // A result that is one of the operands, or the same as another.
                Some(same) => passed.push((same.clone(), actual.clone())),
                None if actual.is_empty() => {}
                None => drop(call.formals.insert(formal.clone(), actual.clone())),
            }
        }
        list.extend(self.list(&function.node, Some(&call), depth + 1)?);
        list.extend(passed.into_iter().map(|(from, to)| Node {
            op_type: "Identity".into(),
            input: vec![from],
            output: vec![to],
            ..Node::default()
        }));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(op_type: &str, domain: &str, input: &[&str], output: &[&str]) -> Node {
        Node {
            op_type: op_type.into(),
            domain: domain.into(),
            input: input.iter().map(|&s| s.into()).collect(),
            output: output.iter().map(|&s| s.into()).collect(),
            ..Node::default()
        }
    }

    fn model(function: Vec<Node>) -> Model {
        let alpha = Attribute {
            name: "alpha".into(),
            f: 0.5,
            ..Attribute::default()
        };
        let mut call = node("F", "own", &["x"], &["y"]);
        call.attribute.push(alpha);
        Model {
            graph: Some(Graph {
                node: vec![call],
                ..Graph::default()
            }),
            functions: vec![Function {
                name: "F".into(),
                domain: "own".into(),
                input: vec!["a".into(), "optional".into()],
                output: vec!["b".into()],
                node: function,
                ..Function::default()
            }],
            ..Model::default()
        }
    }

    #[test]
    fn a_call_becomes_the_functions_nodes_with_its_names_and_attributes() {
        let mut first = node("Elu", "", &["a"], &["t"]);
        for name in ["alpha", "beta"] {
            first.attribute.push(Attribute {
                name: name.into(),
                ref_attr_name: name.into(),
                ..Attribute::default()
            });
        }
        let inlined = inline(&model(vec![first, node("Clip", "", &["t", "optional"], &["b"])]));
        let nodes = inlined.unwrap().unwrap().graph.unwrap().node;
        assert_eq!(nodes[0].output, nodes[1].input[..1]);
        assert_ne!(nodes[0].output[0], "t");
        assert_eq!(
            (&*nodes[0].input[0], &*nodes[1].input[1], &*nodes[1].output[0]),
            ("x", "", "y")
        );
        assert_eq!(nodes[0].attribute.len(), 1);
        assert_eq!(nodes[0].float("alpha", 0.0), 0.5);
    }

    #[test]
    fn functions_without_end_are_refused() {
        assert!(inline(&model(vec![node("F", "own", &["a"], &["b"])])).is_err());
        let twice = vec![node("F", "own", &["a"], &["t"]), node("F", "own", &["t"], &["b"])];
        assert!(inline(&model(twice)).is_err());
    }
}
