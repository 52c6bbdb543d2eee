//! Lowering of arithmetic: element by element, reductions, products of
//! matrices.

use super::{Kind, Lowering, Value, Why, fold};
use crate::pack::onnx::{self, Node};
use modelet::ops::Op;
use modelet::ops::arg_max::ArgMax;
use modelet::ops::cast::Cast;
use modelet::ops::einsum::{ELLIPSIS, Einsum};
use modelet::ops::elementwise::{Align, Binary, Unary};
use modelet::ops::matmul::{Gemm, MatMul};
use modelet::ops::reduce::{CumSum, Reduce, Reduction};
use modelet::ops::softmax::{Maximum, Softmax};
use modelet::ops::top_k::TopK;
use modelet::program::Source;
use modelet::tensor::{Data, Dtype, Shape, Tensor};

impl<'a> Lowering<'a> {
    /// The node, if it is one of this family.
    pub(super) fn math_node(&mut self, node: &'a Node, version: i64) -> Why<bool> {
        match node.op_type.as_str() {
            "Cast" | "CastLike" => {
                let input = self.input(node, 0)?;
                let to = match node.op_type.as_str() {
                    "Cast" => {
                        let number = i32::try_from(node.int("to", 1)).unwrap_or_default();
                        onnx::dtype(number).map_err(|t| format!("to {t}"))?
                    }
                    _ => {
                        let like = self.input(node, 1)?;
                        self.dtype(like).ok_or("the type to cast to is not known")?
                    }
                };
                if to == Dtype::String || self.dtype(input) == Some(Dtype::String) {
                    return Ok(false);
                }
                if node.int("to", 1) == i64::from(onnx::FLOAT16) {
                    self.unrounded.extend(node.output.first().map(String::as_str));
                }
                if self.dtype(input) == Some(to) {
                    return self.alias(node, input).map(|()| true);
                }
                self.emit(node, Op::Cast(Cast { to }), &[input], Some(to))
            }
            "Gemm" => self.gemm(node),
            "MatMul" => {
                let (a, b) = (self.input(node, 0)?, self.input(node, 1)?);
                let dtype = self.dtype(a).or(self.dtype(b));
                self.emit(node, Op::MatMul(MatMul), &[a, b], dtype)
            }
            "Softmax" | "LogSoftmax" | "Hardmax" => {
                let input = self.input(node, 0)?;
                let flatten = version < 13;
                let op = Softmax {
                    axis: node.int("axis", if flatten { 1 } else { -1 }) as i32,
                    flatten,
                    kind: match node.op_type.as_str() {
                        "Softmax" => Maximum::Soft,
                        "LogSoftmax" => Maximum::LogSoft,
                        _ => Maximum::Hard,
                    },
                };
                let dtype = self.float_operand(input)?;
                if op.kind == Maximum::Soft && self.value(input)?.operator == "DequantizeLinear" {
                    self.quantized_softmax.extend(node.output.first().map(String::as_str));
                }
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
            "TopK" => self.top_k(node),
            "Sum" | "Mean" | "Max" | "Min" => self.variadic(node),
            "CumSum" => {
                let (x, axis) = (self.input(node, 0)?, self.input(node, 1)?);
                let op = CumSum {
                    exclusive: node.int("exclusive", 0) != 0,
                    reverse: node.int("reverse", 0) != 0,
                };
                let dtype = self.dtype(x);
                self.emit(node, Op::CumSum(op), &[x, axis], dtype)
            }
            "Clip" => self.clip(node, version),
            "Einsum" => {
                let op = einsum(&node.text("equation", ""));
                let inputs: Vec<&str> = node.input.iter().map(String::as_str).collect();
                let dtype = inputs.iter().find_map(|name| self.dtype(name));
                self.emit(node, Op::Einsum(op), &inputs, dtype)
            }
            op_type => {
                if let Some(op) = binary(node, op_type) {
                    return self.binary(node, op, version);
                }
                if let Some(kind) = reduction(op_type) {
                    return self.reduce(node, kind).map(|()| true);
                }
                if let Some(op) = unary(node, op_type) {
                    let input = self.input(node, 0)?;
                    let dtype = match op {
                        _ if op_type == "Not" => Some(Dtype::Bool),
                        Unary::IsNan | Unary::IsInf { .. } => Some(Dtype::Bool),
                        _ => self.dtype(input),
                    };
                    return self.emit(node, Op::Unary(op), &[input], dtype).map(|()| true);
                }
                return self.normalize_node(node, version);
            }
        }
        .map(|()| true)
    }

    /// The node's operand as a value.
    pub(super) fn operand(&self, node: &Node, index: usize) -> Why<Kind> {
        let name = self.input(node, index)?;
        Ok(self.value(name)?.kind.clone())
    }

    /// Computes a step of a node that takes several: here, if its operands are
    /// constants.
    pub(super) fn compute(&mut self, op: Op, operands: &[&Kind], dtype: Option<Dtype>) -> Why<Kind> {
        let constants: Option<Vec<&Tensor>> = operands.iter().map(|kind| kind.constant()).collect();
        if let Some(constants) = constants {
            return fold(op, &constants).map(Kind::Constant);
        }
        let sources = operands.iter().map(|kind| kind.source(&mut self.builder)).collect();
        let results = self.builder.push(op, sources);
        Ok(Kind::Computed(results[0], dtype))
    }

    /// Two operands of one type, which the result has.
    pub(super) fn arithmetic(&mut self, op: Binary, a: &Kind, b: &Kind) -> Why<Kind> {
        let dtype = a.dtype().or(b.dtype());
        self.compute(Op::Binary(op), &[a, b], dtype)
    }

    /// Names the node's output as this value.
    pub(super) fn bind_kind(&mut self, node: &'a Node, index: usize, kind: Kind) {
        let value = Value {
            kind,
            ..Value::computed(Source::None, None, &node.op_type)
        };
        self.bind(node, index, value);
    }

    fn binary(&mut self, node: &'a Node, op: Binary, version: i64) -> Why<bool> {
        let (a, b) = (self.input(node, 0)?, self.input(node, 1)?);
        if self.dtype(a) == Some(Dtype::String) || self.dtype(b) == Some(Dtype::String) {
            return Ok(false);
        }
        let dtype = match op {
            Binary::Equal | Binary::Less | Binary::LessOrEqual | Binary::Greater | Binary::GreaterOrEqual => {
                Some(Dtype::Bool)
            }
            Binary::Pow => self.dtype(a),
            _ => self.dtype(a).or(self.dtype(b)),
        };
        // Before version 7 the second operand's shape was a part of the
        // first's, by default its end.
        let axis = match op {
            Binary::PRelu => (self.constant(b).is_none_or(|slope| slope.shape.len() != 1)).then_some(1),
            _ => node.get("axis").filter(|_| node.int("broadcast", 0) != 0).map(|a| a.i),
        };
        match axis {
            Some(axis) if version < 7 => {
                let (a, b) = (self.operand(node, 0)?, self.operand(node, 1)?);
                let align = Op::Align(Align { axis: axis as i32 });
                let b = self.compute(align, &[&a, &b], b.dtype())?;
                let result = self.compute(Op::Binary(op), &[&a, &b], dtype)?;
                self.bind_kind(node, 0, result);
            }
            _ => self.emit(node, Op::Binary(op), &[a, b], dtype)?,
        }
        Ok(true)
    }

    fn variadic(&mut self, node: &'a Node) -> Why<()> {
        let op = match node.op_type.as_str() {
            "Sum" | "Mean" => Binary::Add,
            "Max" => Binary::Max,
            _ => Binary::Min,
        };
        if let [input] = &node.input[..] {
            return self.alias(node, input);
        }
        let mut result = self.operand(node, 0)?;
        for index in 1..node.input.len() {
            let next = self.operand(node, index)?;
            result = self.arithmetic(op, &result, &next)?;
        }
        if node.op_type == "Mean" {
            let count = scalar(node.input.len() as f64, result.dtype())?;
            result = self.arithmetic(Binary::Div, &result, &count)?;
        }
        self.bind_kind(node, 0, result);
        Ok(())
    }

    fn clip(&mut self, node: &'a Node, version: i64) -> Why<()> {
        let input = self.input(node, 0)?;
        let dtype = self.dtype(input);
        let given = |index: usize| node.input.get(index).filter(|name| !name.is_empty());
        let bound = |index: usize, attribute: &str, default: f64| -> Option<f64> {
            if version < 11 {
                return Some(node.get(attribute).map_or(default, |a| f64::from(a.f)));
            }
            match given(index) {
                None => Some(default),
                // Not every int64 is a binary64.
                Some(name) => match self.constant(name)? {
                    Tensor {
                        data: Data::Int64(_), ..
                    } => None,
                    bound => bound.view().number(0),
                },
            }
        };
        let bounds = bound(1, "min", f64::NEG_INFINITY).zip(bound(2, "max", f64::INFINITY));
        if let Some((min, max)) = bounds {
            return self.emit(node, Op::Unary(Unary::Clip { min, max }), &[input], dtype);
        }
        let mut result = self.operand(node, 0)?;
        for (index, op) in [(1, Binary::Max), (2, Binary::Min)] {
            if given(index).is_some() {
                let bound = self.operand(node, index)?;
                result = self.arithmetic(op, &result, &bound)?;
            }
        }
        self.bind_kind(node, 0, result);
        Ok(())
    }

    /// Axes are an attribute in earlier versions, an operand in later ones.
    fn reduce(&mut self, node: &'a Node, kind: Reduction) -> Why<()> {
        let x = self.operand(node, 0)?;
        let mut op = Reduce {
            kind,
            axes: node.ints("axes").iter().map(|&axis| axis as i32).collect(),
            keep_dims: node.int("keepdims", 1) != 0,
            noop_if_empty: node.int("noop_with_empty_axes", 0) != 0,
        };
        let axes = self.operand(node, 1).ok();
        let dtype = x.dtype();
        let result = match axes {
            Some(axes) if axes.constant().is_none() => self.compute(Op::Reduce(op), &[&x, &axes], dtype)?,
            Some(_) => {
                let axes = self.integers(node, 1, "the axes")?;
                op.axes = axes.into_iter().map(|axis| axis as i32).collect();
                self.compute(Op::Reduce(op), &[&x], dtype)?
            }
            None => self.compute(Op::Reduce(op), &[&x], dtype)?,
        };
        self.bind_kind(node, 0, result);
        Ok(())
    }

    fn top_k(&mut self, node: &'a Node) -> Why<()> {
        let x = self.operand(node, 0)?;
        let k = match node.get("k") {
            Some(k) => Kind::Constant(Tensor {
                shape: Shape::vector(1),
                data: Data::Int64(vec![k.i]),
            }),
            None => self.operand(node, 1)?,
        };
        let op = TopK {
            axis: node.int("axis", -1) as i32,
            largest: node.int("largest", 1) != 0,
        };
        let dtype = x.dtype();
        self.bind_results(node, Op::TopK(op), &[&x, &k], &[dtype, Some(Dtype::Int64)])
    }

    /// Emits an operator with several results, which are the node's.
    pub(super) fn bind_results(
        &mut self,
        node: &'a Node,
        op: Op,
        operands: &[&Kind],
        dtypes: &[Option<Dtype>],
    ) -> Why<()> {
        let sources = operands.iter().map(|kind| kind.source(&mut self.builder)).collect();
        let results = self.builder.push(op, sources);
        for (index, (result, &dtype)) in results.into_iter().zip(dtypes).enumerate() {
            self.bind_kind(node, index, Kind::Computed(result, dtype));
        }
        Ok(())
    }

    fn gemm(&mut self, node: &'a Node) -> Why<()> {
        let (a, b) = (self.input(node, 0)?, self.input(node, 1)?);
        let dtype = self.dtype(a).or(self.dtype(b));
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

/// A constant number of a type; float32 where the type is not known.
pub(super) fn scalar(value: f64, dtype: Option<Dtype>) -> Why<Kind> {
    Ok(Kind::Constant(Tensor {
        shape: Shape::new(&[]).unwrap_or_default(),
        data: match dtype.unwrap_or(Dtype::Float32) {
            Dtype::Float32 => Data::Float32(vec![value as f32]),
            Dtype::Float64 => Data::Float64(vec![value]),
            Dtype::Int64 => Data::Int64(vec![value as i64]),
            Dtype::Int32 => Data::Int32(vec![value as i32]),
            other => return Err(format!("an operand of type {other} is not supported")),
        },
    }))
}

fn binary(node: &Node, op_type: &str) -> Option<Binary> {
    Some(match op_type {
        "Add" => Binary::Add,
        "Sub" => Binary::Sub,
        "Mul" => Binary::Mul,
        "Div" => Binary::Div,
        "Pow" => Binary::Pow,
        "Mod" if node.int("fmod", 0) != 0 => Binary::Fmod,
        "Mod" => Binary::Mod,
        "PRelu" => Binary::PRelu,
        "Equal" => Binary::Equal,
        "Less" => Binary::Less,
        "LessOrEqual" => Binary::LessOrEqual,
        "Greater" => Binary::Greater,
        "GreaterOrEqual" => Binary::GreaterOrEqual,
        "And" | "BitwiseAnd" => Binary::And,
        "Or" | "BitwiseOr" => Binary::Or,
        "Xor" | "BitwiseXor" => Binary::Xor,
        _ => return None,
    })
}

fn reduction(op_type: &str) -> Option<Reduction> {
    Some(match op_type {
        "ReduceSum" => Reduction::Sum,
        "ReduceMean" => Reduction::Mean,
        "ReduceMax" => Reduction::Max,
        "ReduceMin" => Reduction::Min,
        "ReduceProd" => Reduction::Prod,
        "ReduceSumSquare" => Reduction::SumSquare,
        "ReduceL1" => Reduction::L1,
        "ReduceL2" => Reduction::L2,
        "ReduceLogSum" => Reduction::LogSum,
        "ReduceLogSumExp" => Reduction::LogSumExp,
        _ => return None,
    })
}

fn unary(node: &Node, op_type: &str) -> Option<Unary> {
    Some(match op_type {
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
        "Round" => Unary::Round,
        "Sign" => Unary::Sign,
        "Sin" => Unary::Sin,
        "Cos" => Unary::Cos,
        "Tan" => Unary::Tan,
        "Asin" => Unary::Asin,
        "Acos" => Unary::Acos,
        "Atan" => Unary::Atan,
        "Sinh" => Unary::Sinh,
        "Cosh" => Unary::Cosh,
        "Asinh" => Unary::Asinh,
        "Acosh" => Unary::Acosh,
        "Atanh" => Unary::Atanh,
        "Celu" => Unary::Celu(node.float("alpha", 1.0)),
        "ThresholdedRelu" => Unary::ThresholdedRelu(node.float("alpha", 1.0)),
        "HardSwish" => Unary::HardSwish,
        "Mish" => Unary::Mish,
        "Swish" => Unary::Swish(node.float("alpha", 1.0)),
        "Gelu" if node.text("approximate", "none") == "tanh" => Unary::GeluTanh,
        "Gelu" => Unary::Gelu,
        "Shrink" => Unary::Shrink {
            lambda: node.float("lambd", 0.5),
            bias: node.float("bias", 0.0),
        },
        "Not" | "BitwiseNot" => Unary::Not,
        "IsNaN" => Unary::IsNan,
        "IsInf" => Unary::IsInf {
            negative: node.int("detect_negative", 1) != 0,
            positive: node.int("detect_positive", 1) != 0,
        },
        _ => return None,
    })
}

/// Without an arrow the result has the ellipsis and then, in order, the letters
/// that stand alone.
fn einsum(equation: &str) -> Einsum {
    let equation = equation.replace("...", ".").replace(' ', "");
    let (terms, result) = match equation.split_once("->") {
        Some((terms, result)) => (terms, result.as_bytes().to_vec()),
        None => {
            let count = |label: u8| equation.bytes().filter(|&l| l == label).count();
            let ellipsis = equation.contains('.').then_some(ELLIPSIS);
            let letters = (b'A'..=b'z').filter(|&l| l.is_ascii_alphabetic() && count(l) == 1);
            (equation.as_str(), ellipsis.into_iter().chain(letters).collect())
        }
    };
    Einsum {
        terms: terms.split(',').map(|term| term.as_bytes().to_vec()).collect(),
        result,
    }
}

fn transpose(tensor: &Tensor) -> Why<Tensor> {
    let &[rows, columns] = tensor.shape.dims() else {
        return Err(format!("weights of shape {:?}", tensor.shape));
    };
    let order = (0..columns).flat_map(|c| (0..rows).map(move |r| r * columns + c));
    Ok(Tensor {
        shape: Shape::matrix(columns, rows),
        data: match &tensor.data {
            Data::Float32(v) => Data::Float32(order.map(|i| v[i]).collect()),
            Data::Float64(v) => Data::Float64(order.map(|i| v[i]).collect()),
            Data::Int64(v) => Data::Int64(order.map(|i| v[i]).collect()),
            Data::Int32(v) => Data::Int32(order.map(|i| v[i]).collect()),
            other => return Err(format!("weights of type {}", other.dtype())),
        },
    })
}
