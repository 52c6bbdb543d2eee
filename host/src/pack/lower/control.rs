//! Lowering of If, Scan and Loop: their subgraphs become bodies of the program.

use super::{Kind, Lowering, Value, Why};
use crate::pack::onnx::{Graph, Node};
use modelet::ops::Op;
use modelet::ops::control::{Along, If, Loop, Scan};
use modelet::program::{DEPTH_MAX, Source};
use modelet::signature;
use modelet::tensor::{Data, Dtype};
use std::collections::{BTreeSet, HashMap, HashSet};

/// A body, and what is known of its results.
struct Body {
    number: u16,
    results: Vec<(Option<Dtype>, Option<signature::Labels>)>,
}

impl<'a> Lowering<'a> {
    /// The node, if it is one of this family.
    pub(super) fn control_node(&mut self, node: &'a Node, version: i64) -> Why<bool> {
        match node.op_type.as_str() {
            "If" => self.branch(node),
            "Scan" if version < 9 => Err("the batched Scan of version 8 is not supported".into()),
            "Scan" => self.scan(node),
            "Loop" => self.repeat(node),
            _ => return Ok(false),
        }
        .map(|()| true)
    }

    fn branch(&mut self, node: &'a Node) -> Why<()> {
        let name = self.input(node, 0)?;
        let (on_true, on_false) = (subgraph(node, "then_branch")?, subgraph(node, "else_branch")?);
        if let Some(condition) = self.constant(name) {
            let holds = match &condition.data {
                Data::Bool(v) if v.len() == 1 => v[0] != 0,
                other => {
                    return Err(format!(
                        "{} elements of type {} as its condition",
                        other.len(),
                        other.dtype()
                    ));
                }
            };
            return self.in_place(node, if holds { on_true } else { on_false });
        }
        if on_true.output.len() != on_false.output.len() {
            return Err("its branches have different numbers of results".into());
        }
        let (condition, _) = self.source(name)?;
        let captured = self.captured(&[on_true, on_false]);
        let (on_true, on_false) = (
            self.body(on_true, &[], &captured)?,
            self.body(on_false, &[], &captured)?,
        );
        let op = If {
            on_true: on_true.number,
            on_false: on_false.number,
            results: on_true.results.len() as u16,
        };
        let both = on_true.results.into_iter().zip(on_false.results);
        let results = both.map(|((a, a_labels), (b, b_labels))| {
            let labels = a_labels.filter(|a| Some(a) == b_labels.as_ref());
            (a.filter(|_| a == b), labels)
        });
        let results = results.collect();
        self.emit_body(node, Op::If(op), vec![condition], &captured, results)
    }

    /// A branch that is always taken, as if its nodes stood here.
    fn in_place(&mut self, node: &'a Node, graph: &'a Graph) -> Why<()> {
        self.initializers(graph)?;
        self.list(graph)?;
        for (i, output) in graph.output.iter().enumerate() {
            let target = node.output.get(i).map_or("", String::as_str);
            if let Some(sequence) = self.sequences.get(output.name.as_str()).cloned() {
                self.sequences.insert(target, sequence);
                continue;
            }
            let value = self.value(&output.name)?.clone();
            self.bind(node, i, value);
        }
        Ok(())
    }

    fn scan(&mut self, node: &'a Node) -> Why<()> {
        let graph = subgraph(node, "body")?;
        let count = usize::try_from(node.int("num_scan_inputs", 0)).unwrap_or(0);
        let states = node.input.len().checked_sub(count);
        let states = states.filter(|_| count > 0).ok_or("no inputs to scan")?;
        let collected = graph.output.len().checked_sub(states);
        let collected = collected.ok_or("its body has fewer results than states")?;
        let along = |count: usize, axes: &str, directions: &str| -> Why<Vec<Along>> {
            (0..count)
                .map(|i| {
                    let axis = node.ints(axes).get(i).copied().unwrap_or(0);
                    Ok(Along {
                        axis: i32::try_from(axis).map_err(|_| format!("axis {axis}"))?,
                        reverse: node.ints(directions).get(i).is_some_and(|&d| d != 0),
                    })
                })
                .collect()
        };
        let mut operands = Vec::new();
        let mut given = Vec::new();
        for i in 0..node.input.len() {
            let (source, dtype) = self.source(self.input(node, i)?)?;
            operands.push(source);
            given.push(dtype);
        }
        let captured = self.captured(&[graph]);
        let body = self.body(graph, &given, &captured)?;
        let op = Scan {
            body: body.number,
            states: states as u16,
            inputs: along(count, "scan_input_axes", "scan_input_directions")?,
            outputs: along(collected, "scan_output_axes", "scan_output_directions")?,
        };
        self.emit_body(node, Op::Scan(op), operands, &captured, body.results)
    }

    fn repeat(&mut self, node: &'a Node) -> Why<()> {
        let graph = subgraph(node, "body")?;
        let states = node.input.len().saturating_sub(2);
        let collected = graph.output.len().checked_sub(1 + states);
        let collected = collected.ok_or("its body has fewer results than states")?;
        let mut operands = Vec::new();
        let mut given = vec![Some(Dtype::Int64), Some(Dtype::Bool)];
        for i in 0..states + 2 {
            match node.input.get(i) {
                Some(name) if !name.is_empty() => {
                    let (source, dtype) = self.source(name)?;
                    operands.push(source);
                    given.extend((i >= 2).then_some(dtype));
                }
                _ if i < 2 => operands.push(Source::None),
                _ => return Err(format!("input {i} is missing")),
            }
        }
        let captured = self.captured(&[graph]);
        let mut body = self.body(graph, &given, &captured)?;
        body.results.remove(0);
        let op = Loop {
            body: body.number,
            states: states as u16,
            collected: collected as u16,
        };
        self.emit_body(node, Op::Loop(op), operands, &captured, body.results)
    }

    fn emit_body(
        &mut self,
        node: &'a Node,
        op: Op,
        mut operands: Vec<Source>,
        captured: &[&'a str],
        results: Vec<(Option<Dtype>, Option<signature::Labels>)>,
    ) -> Why<()> {
        for name in captured {
            operands.push(self.source(name)?.0);
        }
        let registers = self.builder.push(op, operands);
        for (index, (register, (dtype, labels))) in registers.into_iter().zip(results).enumerate() {
            let value = Value {
                labels,
                ..Value::computed(register, dtype, &node.op_type)
            };
            self.bind(node, index, value);
        }
        Ok(())
    }

    /// What the subgraphs use of the values computed around them.
    fn captured(&self, graphs: &[&'a Graph]) -> Vec<&'a str> {
        let mut names = BTreeSet::new();
        graphs.iter().for_each(|graph| free_names(graph, &mut names));
        names.retain(|name| {
            self.values
                .get(name)
                .is_some_and(|v| matches!(v.kind, Kind::Computed(..)))
        });
        names.into_iter().collect()
    }

    /// Lowers a subgraph whose inputs have these types.
    fn body(&mut self, graph: &'a Graph, given: &[Option<Dtype>], captured: &[&'a str]) -> Why<Body> {
        // Old exporters list the initializers among the inputs.
        let mut inputs: Vec<&str> = graph.input.iter().map(|i| i.name.as_str()).collect();
        inputs.retain(|name| !graph.initializer.iter().any(|t| t.name == *name));
        if inputs.len() != given.len() {
            let (inputs, given) = (inputs.len(), given.len());
            return Err(format!("its body has {inputs} inputs where {given} are given"));
        }
        let mut names = BTreeSet::new();
        free_names(graph, &mut names);
        let mut values = HashMap::new();
        for name in names {
            if let Some(value) = self.values.get(name) {
                values.insert(name, value.clone());
            }
        }
        let count = u16::try_from(given.len() + captured.len()).map_err(|_| "its body uses too many values")?;
        for (index, name) in (given.len() as u16..).zip(captured) {
            if let Some(value) = values.get_mut(name) {
                let dtype = self.dtype(name);
                value.kind = Kind::Computed(Source::Input(index), dtype);
            }
        }
        for (index, (input, dtype)) in inputs.into_iter().zip(given).enumerate() {
            let source = Source::Input(index as u16);
            values.insert(input, Value::computed(source, *dtype, "input"));
        }
        if !self.builder.begin_body(count) {
            return Err(format!("bodies inside bodies more than {DEPTH_MAX} deep"));
        }
        let outer = std::mem::replace(&mut self.values, values);
        self.initializers(graph)?;
        self.list(graph)?;
        let mut sources = Vec::new();
        let mut results = Vec::new();
        for output in &graph.output {
            if self.sequences.contains_key(output.name.as_str()) {
                return Err("its body has a sequence as a result".into());
            }
            let (source, dtype) = self.source(&output.name)?;
            sources.push(source);
            results.push((dtype, self.value(&output.name)?.labels.clone()));
        }
        self.values = outer;
        let number = self.builder.end_body(sources);
        Ok(Body { number, results })
    }

    fn list(&mut self, graph: &'a Graph) -> Why<()> {
        for node in &graph.node {
            self.node(node)
                .map_err(|why| format!("in its body, {}", self.unsupported(node, why)))?;
        }
        Ok(())
    }
}

fn subgraph<'a>(node: &'a Node, name: &str) -> Why<&'a Graph> {
    node.get(name)
        .and_then(|a| a.g.as_ref())
        .ok_or_else(|| format!("it has no {name:?}"))
}

/// Adds the names that a graph uses and does not define.
fn free_names<'a>(graph: &'a Graph, names: &mut BTreeSet<&'a str>) {
    let inputs = graph.input.iter().map(|v| v.name.as_str());
    let initializers = graph.initializer.iter().map(|t| t.name.as_str());
    let computed = graph.node.iter().flat_map(|n| &n.output).map(String::as_str);
    let defined: HashSet<&str> = inputs.chain(initializers).chain(computed).collect();
    let mut used: BTreeSet<&str> = graph.output.iter().map(|v| v.name.as_str()).collect();
    for node in &graph.node {
        used.extend(node.input.iter().map(String::as_str));
        for inner in node.attribute.iter().filter_map(|a| a.g.as_ref()) {
            free_names(inner, &mut used);
        }
    }
    names.extend(
        used.into_iter()
            .filter(|name| !name.is_empty() && !defined.contains(name)),
    );
}

#[cfg(test)]
mod tests {
    use crate::pack::lower::lower;
    use crate::pack::onnx::{Attribute, Graph, Model, Node, ValueInfo};
    use modelet::engine::Workspace;
    use modelet::program::{Image, Program};
    use modelet::tensor::{Data, Dtype, Shape, Tensor};

    fn node(op_type: &str, input: &[&str], output: &[&str]) -> Node {
        Node {
            op_type: op_type.into(),
            input: input.iter().map(|&s| s.into()).collect(),
            output: output.iter().map(|&s| s.into()).collect(),
            ..Node::default()
        }
    }

    fn graph(input: &[&str], node: Vec<Node>, output: &[&str]) -> Graph {
        let values = |names: &[&str]| {
            let value = |&name: &&str| ValueInfo {
                name: name.into(),
                r#type: None,
            };
            names.iter().map(value).collect()
        };
        Graph {
            node,
            input: values(input),
            output: values(output),
            ..Graph::default()
        }
    }

    fn with(mut node: Node, name: &str, g: Graph) -> Node {
        node.attribute.push(Attribute {
            name: name.into(),
            g: Some(g),
            ..Attribute::default()
        });
        node
    }

    fn floats(dims: &[usize], values: &[f32]) -> Tensor {
        Tensor {
            shape: Shape::new(dims).unwrap(),
            data: Data::Float32(values.to_vec()),
        }
    }

    #[test]
    fn a_body_uses_values_of_all_graphs_around_it() {
        // Every row of x minus every row of t, and shifted by a value from
        // the outermost graph.
        let shifted = vec![
            node("Sub", &["row", "other"], &["d"]),
            node("Add", &["d", "shift"], &["e"]),
        ];
        let scan = |operand: &str, result: &str, body: Graph| {
            let mut scan = with(node("Scan", &[operand], &[result]), "body", body);
            scan.attribute.push(Attribute {
                name: "num_scan_inputs".into(),
                i: 1,
                ..Attribute::default()
            });
            scan
        };
        let outer = graph(
            &["row"],
            vec![scan("t", "all", graph(&["other"], shifted, &["e"]))],
            &["all"],
        );
        let nodes = vec![node("Add", &["s", "s"], &["shift"]), scan("x", "y", outer)];
        let model = Model {
            graph: Some(graph(&["x", "t", "s"], nodes, &["y"])),
            ..Model::default()
        };
        let inputs = ["x", "t", "s"].map(|name| (name.to_owned(), Dtype::Float32));
        let image = lower(&model, &inputs).unwrap().image;
        let program = Program::load(Image::from(image)).unwrap();
        let given = [
            floats(&[2, 1], &[10., 20.]),
            floats(&[2, 1], &[1., 2.]),
            floats(&[], &[0.5]),
        ];
        let mut workspace = Workspace::default();
        workspace.run(&program, &given).unwrap();
        let y = workspace.output(&program, &given, 0).unwrap().to_tensor();
        assert_eq!(y, floats(&[2, 2, 1], &[10., 9., 20., 19.]));
    }

    #[test]
    fn what_a_body_lacks_is_named() {
        let branch = || graph(&[], vec![node("NoSuch", &["x"], &["y"])], &["y"]);
        let choice = with(
            with(node("If", &["c"], &["z"]), "then_branch", branch()),
            "else_branch",
            branch(),
        );
        let model = Model {
            graph: Some(graph(&["c", "x"], vec![choice], &["z"])),
            ..Model::default()
        };
        let inputs = [("c".to_owned(), Dtype::Bool), ("x".to_owned(), Dtype::Float32)];
        let why = lower(&model, &inputs).map(|l| l.outputs).unwrap_err().to_string();
        assert!(why.contains("If") && why.contains("NoSuch"), "{why}");
    }
}
