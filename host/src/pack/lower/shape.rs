//! Lowering of what moves elements and changes nothing about them: shapes,
//! selections, joins.

use super::{Lowering, Value, Why};
use crate::pack::onnx::Node;
use modelet::ops::Op;
use modelet::ops::concat::Concat;
use modelet::ops::gather::Gather;
use modelet::ops::reshape::Reshape;
use modelet::signature;
use modelet::tensor::{Data, Tensor, Values};

impl<'a> Lowering<'a> {
    /// The node, if it is one of this family.
    pub(super) fn shape_node(&mut self, node: &'a Node, version: i64) -> Why<bool> {
        match node.op_type.as_str() {
            "Identity" | "Dropout" => {
                let input = self.input(node, 0)?;
                self.alias(node, input)
            }
            "Constant" => {
                let value = constant_of(node)?;
                self.bind(node, 0, Value::constant(value));
                Ok(())
            }
            "Concat" => {
                let inputs: Vec<&str> = node.input.iter().map(String::as_str).collect();
                let dtype = inputs.iter().find_map(|name| self.dtype(name));
                let axis = node.int("axis", 1) as i32;
                self.emit(node, Op::Concat(Concat { axis }), &inputs, dtype)
            }
            "Reshape" => {
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
            "Flatten" => {
                let input = self.input(node, 0)?;
                self.reshape(node, Reshape::Flatten(node.int("axis", 1) as i32), input)
            }
            "Squeeze" | "Unsqueeze" => {
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
            "Gather" => {
                let (x, y) = (self.input(node, 0)?, self.input(node, 1)?);
                let dtype = self.dtype(x);
                let op = Gather::Axis(node.int("axis", 0) as i32);
                self.emit(node, Op::Gather(op), &[x, y], dtype)
            }
            _ => return Ok(false),
        }
        .map(|()| true)
    }

    fn reshape(&mut self, node: &'a Node, op: Reshape, input: &str) -> Why<()> {
        let dtype = self.dtype(input);
        self.emit(node, Op::Reshape(op), &[input], dtype)
    }
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
