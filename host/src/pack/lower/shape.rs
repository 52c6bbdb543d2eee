//! Lowering of what moves elements and changes nothing about them: shapes,
//! selections, joins.

use super::{Kind, Lowering, Value, Why, fold_all};
use crate::pack::onnx::{self, Node};
use modelet::ops::Op;
use modelet::ops::concat::Concat;
use modelet::ops::gather::Gather;
use modelet::ops::generate::Generate;
use modelet::ops::rearrange::{PadMode, Rearrange, Split};
use modelet::ops::reshape::{Computed, Reshape};
use modelet::ops::select::{Reduce, Select};
use modelet::ops::unique::Unique;
use modelet::program::Source;
use modelet::signature;
use modelet::tensor::{Data, Dtype, Shape, Strings, Tensor, Values};

/// Results of more elements than this are computed in a run, even from
/// constants, if that keeps them out of the program.
const FOLDED_MAX: usize = 1 << 16;

/// An operand: a value of the graph (none if the name is empty), or a constant
/// that the graph does not have.
enum Operand<'n> {
    Named(&'n str),
    Made(Tensor),
}

impl<'a> Lowering<'a> {
    /// The node, if it is one of this family.
    pub(super) fn shape_node(&mut self, node: &'a Node, version: i64) -> Why<bool> {
        let optional = |index: usize| Operand::Named(node.input.get(index).map_or("", String::as_str));
        let first = node.input.first().map_or("", String::as_str);
        let dtype = self.dtype(first);
        match node.op_type.as_str() {
            "Identity" | "Dropout" => self.same(node, version),
            "Constant" => {
                let value = constant_of(node)?;
                self.bind(node, 0, Value::constant(value));
                Ok(())
            }
            "Concat" => {
                let inputs: Vec<&str> = node.input.iter().map(String::as_str).collect();
                let dtype = inputs.iter().find_map(|name| self.dtype(name));
                let axis = axis(node, 1)?;
                self.emit(node, Op::Concat(Concat { axis }), &inputs, dtype)
            }
            "Reshape" => self.reshape_to(node, version),
            "Flatten" => {
                let input = self.input(node, 0)?;
                self.reshape(node, Reshape::Flatten(axis(node, 1)?), input)
            }
            "Squeeze" | "Unsqueeze" => self.squeeze(node, version),
            "Gather" => {
                let (x, y) = (self.input(node, 0)?, self.input(node, 1)?);
                // Classes picked by a computed index are labels.
                let classes = self.constant(x).filter(|t| t.shape.rank() == 1 && t.shape.len() > 1);
                let labels = classes.and_then(labels_of);
                self.emit(node, Op::Gather(Gather::Axis(axis(node, 0)?)), &[x, y], dtype)?;
                if let (Some(labels), Some(value)) = (labels, self.result(node))
                    && matches!(value.kind, Kind::Computed(..))
                {
                    value.labels = Some(labels);
                }
                Ok(())
            }
            "Transpose" => {
                let perm = node.ints("perm").iter().map(|&p| u8::try_from(p));
                let perm = perm.collect::<Result<_, _>>().map_err(|_| "a negative axis")?;
                let input = self.input(node, 0)?;
                self.emit(node, Op::Rearrange(Rearrange::Transpose(perm)), &[input], dtype)
            }
            "Slice" if version < 10 => {
                let axes = node.get("axes").map(|a| vector(&a.ints));
                let mut operands = vec![Operand::Named(first)];
                operands.extend(["starts", "ends"].map(|name| Operand::Made(vector(node.ints(name)))));
                operands.extend(axes.map(Operand::Made));
                self.emit_moved(node, Op::Rearrange(Rearrange::Slice), operands, dtype)
            }
            "Slice" => {
                let operands = (0..5).map(optional).collect();
                self.emit_moved(node, Op::Rearrange(Rearrange::Slice), operands, dtype)
            }
            "Split" => self.split(node, version),
            "Expand" => {
                let operands = vec![optional(0), optional(1)];
                self.emit_moved(node, Op::Rearrange(Rearrange::Expand), operands, dtype)
            }
            "Tile" if version >= 6 => {
                let operands = vec![optional(0), optional(1)];
                self.emit_moved(node, Op::Rearrange(Rearrange::Tile), operands, dtype)
            }
            "Pad" => self.pad(node, version),
            "Trilu" => {
                let upper = node.int("upper", 1) != 0;
                let operands = vec![optional(0), optional(1)];
                self.emit_moved(node, Op::Rearrange(Rearrange::Trilu { upper }), operands, dtype)
            }
            "Shape" => {
                let op = Generate::Shape {
                    start: node.int("start", 0),
                    end: node.int("end", i64::MAX),
                };
                self.emit_moved(node, Op::Generate(op), vec![optional(0)], Some(Dtype::Int64))
            }
            "Size" => self.emit_moved(
                node,
                Op::Generate(Generate::Size),
                vec![optional(0)],
                Some(Dtype::Int64),
            ),
            "ConstantOfShape" => {
                let mut value = match node.get("value").and_then(|a| a.t.as_ref()) {
                    Some(value) => value.tensor()?,
                    None => vector_of(Data::Float32(vec![0.0])),
                };
                if value.shape.len() != 1 {
                    return Err(format!("a value of shape {:?}", value.shape));
                }
                value.shape = Shape::default();
                let dtype = value.data.dtype();
                let operands = vec![Operand::Made(value), optional(0)];
                self.emit_moved(node, Op::Rearrange(Rearrange::Expand), operands, Some(dtype))
            }
            "Range" => {
                let operands = (0..3).map(optional).collect();
                self.emit_moved(node, Op::Generate(Generate::Range), operands, dtype)
            }
            "EyeLike" => {
                let dtype = match node.get("dtype") {
                    Some(a) => Some(onnx::dtype(a.i as i32)?),
                    None => dtype,
                };
                let dtype = dtype.ok_or("the type of its operand is not known")?;
                let values = Operand::Made(bits(dtype)?);
                let op = Generate::EyeLike(node.int("k", 0));
                self.emit_moved(node, Op::Generate(op), vec![optional(0), values], Some(dtype))
            }
            "OneHot" => {
                let dtype = node.input.get(2).and_then(|name| self.dtype(name));
                let operands = (0..3).map(optional).collect();
                self.emit_moved(node, Op::Generate(Generate::OneHot(axis(node, -1)?)), operands, dtype)
            }
            "NonZero" => self.emit_moved(
                node,
                Op::Generate(Generate::NonZero),
                vec![optional(0)],
                Some(Dtype::Int64),
            ),
            "Where" => {
                let dtype = (1..3).find_map(|i| self.dtype(node.input.get(i)?));
                let operands = (0..3).map(optional).collect();
                self.emit_moved(node, Op::Select(Select::Where), operands, dtype)
            }
            "Compress" => {
                let at = node.get("axis").map(|_| axis(node, 0)).transpose()?;
                let operands = vec![optional(0), optional(1)];
                self.emit_moved(node, Op::Select(Select::Compress(at)), operands, dtype)
            }
            "GatherElements" | "GatherND" => {
                let op = match node.op_type.as_str() {
                    "GatherElements" => Select::GatherElements(axis(node, 0)?),
                    _ => Select::GatherNd {
                        batch: u8::try_from(node.int("batch_dims", 0)).map_err(|_| "batch_dims")?,
                    },
                };
                self.emit_moved(node, Op::Select(op), vec![optional(0), optional(1)], dtype)
            }
            "ScatterElements" | "Scatter" | "ScatterND" => {
                let reduce = match node.text("reduction", "none").as_str() {
                    "none" => Reduce::Replace,
                    "add" => Reduce::Add,
                    "mul" => Reduce::Mul,
                    "max" => Reduce::Max,
                    "min" => Reduce::Min,
                    other => return Err(format!("reduction {other:?}")),
                };
                let op = match node.op_type.as_str() {
                    "ScatterND" => Select::ScatterNd(reduce),
                    _ => Select::ScatterElements {
                        axis: axis(node, 0)?,
                        reduce,
                    },
                };
                self.emit_moved(node, Op::Select(op), (0..3).map(optional).collect(), dtype)
            }
            "Unique" => {
                let op = Unique {
                    axis: node.get("axis").map(|_| axis(node, 0)).transpose()?,
                    sorted: node.int("sorted", 1) != 0,
                };
                let places = Some(Dtype::Int64);
                let input = self.input(node, 0)?;
                self.emit_all(node, Op::Unique(op), &[input], &[dtype, places, places, places])
            }
            op_type if op_type.contains("Sequence") => return self.sequence(node),
            _ => return Ok(false),
        }
        .map(|()| true)
    }

    /// Identity, and Dropout outside training.
    fn same(&mut self, node: &'a Node, version: i64) -> Why<()> {
        let input = self.input(node, 0)?;
        if let (Some(sequence), Some(output)) = (self.sequences.get(input).cloned(), node.output.first()) {
            self.sequences.insert(output, sequence);
            return Ok(());
        }
        let training = node
            .input
            .get(2)
            .filter(|name| node.op_type == "Dropout" && !name.is_empty());
        if let Some(name) = training
            && self.constant(name).and_then(|t| t.view().number(0)) != Some(0.0)
        {
            return Err("training mode is not supported".into());
        }
        self.alias(node, input)?;
        if node.output.get(1).is_some_and(|mask| !mask.is_empty()) {
            if version < 10 {
                return Err("the mask of versions before 10 is not supported".into());
            }
            let (x, _) = self.source(input)?;
            let shape = Generate::Shape {
                start: 0,
                end: i64::MAX,
            };
            let shape = self.builder.push(Op::Generate(shape), vec![x]);
            let kept = self.builder.constant(&Tensor {
                shape: Shape::default(),
                data: Data::Bool(vec![1]),
            });
            let mask = self
                .builder
                .push(Op::Rearrange(Rearrange::Expand), vec![kept, shape[0]]);
            self.bind(node, 1, Value::computed(mask[0], Some(Dtype::Bool), "Dropout"));
        }
        Ok(())
    }

    fn reshape_to(&mut self, node: &'a Node, version: i64) -> Why<()> {
        let input = self.input(node, 0)?;
        let allow_zero = node.int("allowzero", 0) != 0;
        let to = match node.input.get(1) {
            _ if version < 5 => node.ints("shape").to_vec(),
            Some(name) if self.constant(name).is_none() => {
                let which = if allow_zero {
                    Computed::ToAllowZero
                } else {
                    Computed::To
                };
                return self.reshape_by(node, which);
            }
            _ => self.integers(node, 1, "the shape")?,
        };
        let op = if allow_zero {
            Reshape::ToAllowZero(to)
        } else {
            Reshape::To(to)
        };
        self.reshape(node, op, input)
    }

    fn squeeze(&mut self, node: &'a Node, version: i64) -> Why<()> {
        let squeeze = node.op_type == "Squeeze";
        let input = self.input(node, 0)?;
        let axes = match node.input.get(1) {
            _ if version < 13 => node.ints("axes").to_vec(),
            Some(name) if !name.is_empty() && self.constant(name).is_none() => {
                let which = if squeeze {
                    Computed::Squeeze
                } else {
                    Computed::Unsqueeze
                };
                return self.reshape_by(node, which);
            }
            Some(name) if !name.is_empty() => self.integers(node, 1, "the axes")?,
            _ => Vec::new(),
        };
        let axes = axes.into_iter().map(i32::try_from).collect::<Result<_, _>>();
        let axes = axes.map_err(|_| "an axis out of range")?;
        let op = if squeeze {
            Reshape::Squeeze(axes)
        } else {
            Reshape::Unsqueeze(axes)
        };
        self.reshape(node, op, input)
    }

    fn reshape(&mut self, node: &'a Node, op: Reshape, input: &str) -> Why<()> {
        let dtype = self.dtype(input);
        self.emit(node, Op::Reshape(op), &[input], dtype)
    }

    /// A reshape whose list the graph computes.
    fn reshape_by(&mut self, node: &'a Node, which: Computed) -> Why<()> {
        let (x, list) = (self.input(node, 0)?, self.input(node, 1)?);
        let labels = self.value(x)?.labels.clone();
        let dtype = self.dtype(x);
        self.emit(node, Op::Reshape(Reshape::Computed(which)), &[x, list], dtype)?;
        if let Some(value) = self.result(node) {
            value.labels = labels;
        }
        Ok(())
    }

    /// The node's first result.
    fn result(&mut self, node: &Node) -> Option<&mut Value> {
        self.values.get_mut(node.output.first()?.as_str())
    }

    fn split(&mut self, node: &'a Node, version: i64) -> Why<()> {
        let input = self.input(node, 0)?;
        let parts = match node.get("num_outputs") {
            Some(count) if count.i != node.output.len() as i64 => {
                return Err(format!(
                    "{} outputs where num_outputs is {}",
                    node.output.len(),
                    count.i
                ));
            }
            _ => u16::try_from(node.output.len()).map_err(|_| "too many outputs")?,
        };
        let op = Split {
            axis: axis(node, 0)?,
            parts,
            uneven: version >= 18,
        };
        let mut operands = vec![Operand::Named(input)];
        match node.get("split") {
            Some(sizes) if version < 13 => operands.push(Operand::Made(vector(&sizes.ints))),
            _ => operands.extend(node.input.get(1).map(|name| Operand::Named(name))),
        }
        let dtype = self.dtype(input);
        self.emit_moved(node, Op::Split(op), operands, dtype)
    }

    fn pad(&mut self, node: &'a Node, version: i64) -> Why<()> {
        let input = self.input(node, 0)?;
        let mode = match node.text("mode", "constant").as_str() {
            "constant" => PadMode::Constant,
            "edge" => PadMode::Edge,
            "reflect" => PadMode::Reflect,
            "wrap" => PadMode::Wrap,
            other => return Err(format!("mode {other:?}")),
        };
        let dtype = self.dtype(input);
        let mut operands = vec![Operand::Named(input)];
        if version < 11 {
            operands.push(Operand::Made(vector(node.ints("pads"))));
            let value = node.float("value", 0.0);
            match dtype {
                _ if value == 0.0 => {}
                Some(Dtype::Float32) => operands.push(Operand::Made(vector_of(Data::Float32(vec![value])))),
                Some(Dtype::Float64) => operands.push(Operand::Made(vector_of(Data::Float64(vec![value.into()])))),
                _ => return Err("a value for an operand that is not known to be of floats".into()),
            }
        } else {
            operands.extend(node.input[1..].iter().map(|name| Operand::Named(name)));
        }
        self.emit_moved(node, Op::Rearrange(Rearrange::Pad(mode)), operands, dtype)
    }

    /// Emits an operator whose results have one type; computed here if its
    /// operands are constants. A choice among labels has these labels still.
    fn emit_moved(&mut self, node: &'a Node, op: Op, mut operands: Vec<Operand<'_>>, dtype: Option<Dtype>) -> Why<()> {
        while matches!(operands.last(), Some(Operand::Named(""))) {
            operands.pop();
        }
        let (inputs, results) = op.arity();
        if !inputs.contains(&operands.len()) {
            return Err(format!("{} inputs", operands.len()));
        }
        let constants: Option<Vec<Option<&Tensor>>> = operands
            .iter()
            .map(|operand| match operand {
                Operand::Named("") => Some(None),
                Operand::Named(name) => self.constant(name).map(Some),
                Operand::Made(tensor) => Some(Some(tensor)),
            })
            .collect();
        if let Some(constants) = constants {
            let given: usize = constants.iter().flatten().map(|t| t.shape.len()).sum();
            let values = fold_all(op.clone(), &constants)?;
            if values.iter().map(|t| t.shape.len()).sum::<usize>() <= given.max(FOLDED_MAX) {
                for (index, value) in values.into_iter().enumerate() {
                    self.bind(node, index, Value::constant(value));
                }
                return Ok(());
            }
        }
        let labels = match (&op, &operands[0], dtype) {
            (Op::Rearrange(_) | Op::Select(_), Operand::Named(name), Some(Dtype::Int64 | Dtype::String)) => {
                self.value(name)?.labels.clone()
            }
            _ => None,
        };
        let mut sources = Vec::with_capacity(operands.len());
        for operand in &operands {
            sources.push(match operand {
                Operand::Named("") => Source::None,
                Operand::Named(name) => self.source(name)?.0,
                Operand::Made(tensor) => self.builder.constant(tensor),
            });
        }
        let registers = self.builder.push(op, sources);
        debug_assert_eq!(registers.len(), results);
        for (index, register) in registers.into_iter().enumerate() {
            let value = Value {
                labels: labels.clone(),
                ..Value::computed(register, dtype, &node.op_type)
            };
            self.bind(node, index, value);
        }
        Ok(())
    }

    /// Sequences are lists of values here, and nothing in the program.
    fn sequence(&mut self, node: &'a Node) -> Why<bool> {
        let Some(output) = node.output.first() else {
            return Err("no output".into());
        };
        let name = |index: usize| node.input.get(index).map_or("", String::as_str);
        let known = |this: &Self| {
            let sequence = this.sequences.get(name(0)).cloned();
            sequence.ok_or_else(|| "the sequence depends on the request".to_string())
        };
        let position = |this: &Self, index: usize, len: usize| -> Why<usize> {
            let at = this.integers(node, index, "the position")?;
            let at = at
                .first()
                .map(|&at| if at < 0 { at.saturating_add(len as i64) } else { at });
            at.and_then(|at| usize::try_from(at).ok())
                .ok_or_else(|| "a position outside the sequence".to_string())
        };
        let sequence = match node.op_type.as_str() {
            "SequenceEmpty" => Vec::new(),
            "SequenceConstruct" => {
                let values = node.input.iter().map(|name| self.value(name).cloned());
                values.collect::<Why<_>>()?
            }
            "SequenceInsert" => {
                let mut sequence = known(self)?;
                let at = match name(2) {
                    "" => sequence.len(),
                    _ => position(self, 2, sequence.len())?,
                };
                if at > sequence.len() {
                    return Err("a position outside the sequence".into());
                }
                sequence.insert(at, self.value(name(1))?.clone());
                sequence
            }
            "SequenceErase" => {
                let mut sequence = known(self)?;
                let at = match (name(1), sequence.len()) {
                    ("", len) => len.saturating_sub(1),
                    (_, len) => position(self, 1, len)?,
                };
                if at >= sequence.len() {
                    return Err("a position outside the sequence".into());
                }
                sequence.remove(at);
                sequence
            }
            "SequenceAt" => {
                let sequence = known(self)?;
                let at = position(self, 1, sequence.len())?;
                let value = sequence.get(at).ok_or("a position outside the sequence")?;
                self.bind(node, 0, value.clone());
                return Ok(true);
            }
            "SequenceLength" => {
                let len = known(self)?.len() as i64;
                let value = Tensor {
                    shape: Shape::default(),
                    data: Data::Int64(vec![len]),
                };
                self.bind(node, 0, Value::constant(value));
                return Ok(true);
            }
            "ConcatFromSequence" => {
                let axis = axis(node, 0)?;
                let stack = node.int("new_axis", 0) != 0;
                let mut dtype = None;
                let mut sources = Vec::new();
                for value in known(self)? {
                    let source = value.kind.source(&mut self.builder);
                    dtype = dtype.or(value.kind.dtype());
                    sources.push(match stack {
                        true => self
                            .builder
                            .push(Op::Reshape(Reshape::Unsqueeze(vec![axis])), vec![source])[0],
                        false => source,
                    });
                }
                if sources.is_empty() {
                    return Err("the sequence is empty".into());
                }
                let joined = self.builder.push(Op::Concat(Concat { axis }), sources);
                self.bind(node, 0, Value::computed(joined[0], dtype, "ConcatFromSequence"));
                return Ok(true);
            }
            _ => return Ok(false),
        };
        self.sequences.insert(output, sequence);
        Ok(true)
    }
}

fn axis(node: &Node, default: i64) -> Why<i32> {
    let axis = node.int("axis", default);
    i32::try_from(axis).map_err(|_| format!("axis {axis}"))
}

fn vector(values: &[i64]) -> Tensor {
    vector_of(Data::Int64(values.to_vec()))
}

fn vector_of(data: Data) -> Tensor {
    Tensor {
        shape: Shape::vector(data.len()),
        data,
    }
}

/// 0 and 1 of a type.
fn bits(dtype: Dtype) -> Why<Tensor> {
    Ok(vector_of(match dtype {
        Dtype::Float32 => Data::Float32(vec![0.0, 1.0]),
        Dtype::Float64 => Data::Float64(vec![0.0, 1.0]),
        Dtype::Int64 => Data::Int64(vec![0, 1]),
        Dtype::Int32 => Data::Int32(vec![0, 1]),
        Dtype::Bool => Data::Bool(vec![0, 1]),
        Dtype::Uint8 => Data::Uint8(vec![0, 1]),
        Dtype::Int8 => Data::Int8(vec![0, 1]),
        Dtype::String => return Err("text".into()),
    }))
}

/// The labels that a constant list of integers or texts may be.
pub(super) fn labels_of(tensor: &Tensor) -> Option<signature::Labels> {
    match tensor.view().values {
        Values::Int64(v) => Some(signature::Labels::Int64(v.to_vec())),
        Values::Int32(v) => Some(signature::Labels::Int64(v.iter().map(|&v| i64::from(v)).collect())),
        Values::String(v) => Some(signature::Labels::String(v.iter().map(str::to_owned).collect())),
        _ => None,
    }
}

fn constant_of(node: &Node) -> Why<Tensor> {
    let scalar = |data: Data| Tensor {
        shape: Shape::default(),
        data,
    };
    let texts = |texts: &[Vec<u8>]| {
        let mut strings = Strings::default();
        texts
            .iter()
            .for_each(|text| strings.push(&String::from_utf8_lossy(text)));
        Data::String(strings)
    };
    let mut attributes = node.attribute.iter();
    let Some(attribute) = attributes.find(|a| a.name.contains("value")) else {
        return Err("a constant without a value".into());
    };
    Ok(match attribute.name.as_str() {
        "value" => attribute.t.as_ref().ok_or("a constant without a value")?.tensor()?,
        "value_float" => scalar(Data::Float32(vec![attribute.f])),
        "value_floats" => vector_of(Data::Float32(attribute.floats.clone())),
        "value_int" => scalar(Data::Int64(vec![attribute.i])),
        "value_ints" => vector(&attribute.ints),
        "value_string" => scalar(texts(std::slice::from_ref(&attribute.s))),
        "value_strings" => vector_of(texts(&attribute.strings)),
        other => return Err(format!("attribute {other:?}")),
    })
}
