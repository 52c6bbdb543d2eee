//! Lowering of arithmetic: element by element, reductions, products of
//! matrices.

use super::{Lowering, Value, Why};
use crate::pack::onnx::{self, Node};
use modelet::ops::Op;
use modelet::ops::arg_max::ArgMax;
use modelet::ops::cast::Cast;
use modelet::ops::elementwise::{Binary, Unary};
use modelet::ops::matmul::{Gemm, MatMul};
use modelet::ops::softmax::Softmax;
use modelet::tensor::{Data, Dtype, Tensor};

impl<'a> Lowering<'a> {
    /// The node, if it is one of this family.
    pub(super) fn math_node(&mut self, node: &'a Node, version: i64) -> Why<bool> {
        match node.op_type.as_str() {
            "Cast" => {
                let to = onnx::dtype(node.int("to", 1) as i32).map_err(|t| format!("to {t}"))?;
                let input = self.input(node, 0)?;
                if self.dtype(input) == Some(to) {
                    return self.alias(node, input).map(|()| true);
                }
                if to == Dtype::String || self.dtype(input) == Some(Dtype::String) {
                    return Err("casts between text and numbers are not supported".into());
                }
                self.emit(node, Op::Cast(Cast { to }), &[input], Some(to))
            }
            "Gemm" => self.gemm(node),
            "MatMul" => {
                let (a, b) = (self.input(node, 0)?, self.input(node, 1)?);
                let dtype = self.float_operand(a)?;
                self.emit(node, Op::MatMul(MatMul), &[a, b], dtype)
            }
            "Softmax" | "LogSoftmax" => {
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
            "ArgMax" | "ArgMin" => {
                let input = self.input(node, 0)?;
                let op = ArgMax {
                    axis: node.int("axis", 0) as i32,
                    keep_dims: node.int("keepdims", 1) != 0,
                    last: node.int("select_last_index", 0) != 0,
                    min: node.op_type == "ArgMin",
                };
                self.emit(node, Op::ArgMax(op), &[input], Some(Dtype::Int64))
            }
            "Add" | "Sub" | "Mul" | "Div" | "Max" | "Min" => {
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
            op_type => match unary(node, op_type, version, self)? {
                Some(op) => {
                    let input = self.input(node, 0)?;
                    let dtype = self.dtype(input);
                    self.emit(node, Op::Unary(op), &[input], dtype)
                }
                None => return Ok(false),
            },
        }
        .map(|()| true)
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
