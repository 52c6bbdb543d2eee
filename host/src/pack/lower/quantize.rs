//! Lowering of quantized arithmetic: products of integers are products of
//! int32, of which the zero points are taken off beforehand.

use super::math::scalar;
use super::{Kind, Lowering, Why};
use crate::pack::onnx::{self, Node};
use modelet::ops::Op;
use modelet::ops::cast::Cast;
use modelet::ops::elementwise::Binary;
use modelet::ops::matmul::MatMul;
use modelet::ops::quantize::{DynamicQuantize, Quantize};
use modelet::tensor::{Data, Dtype};

/// The value of a constant with a single one.
fn only(kind: &Kind) -> Option<f32> {
    match &kind.constant()?.data {
        Data::Float32(v) if v.len() == 1 => Some(v[0]),
        _ => None,
    }
}

impl<'a> Lowering<'a> {
    /// The node, if it is one of this family.
    pub(super) fn quantize_node(&mut self, node: &'a Node) -> Why<bool> {
        match node.op_type.as_str() {
            "QuantizeLinear" | "DequantizeLinear" => {
                let (mut x, mut scale) = (self.operand(node, 0)?, self.operand(node, 1)?);
                let zero = self.operand(node, 2).ok();
                let softmax = self.quantized_softmax.contains(self.input(node, 0)?);
                if let (true, "QuantizeLinear", Some(value)) = (softmax, node.op_type.as_str(), only(&scale)) {
                    // ONNX Runtime makes one operator of a Softmax between
                    // integers, which rounds the number of steps down.
                    let steps = scalar(f64::from((1.0 / value).floor()), scale.dtype())?;
                    x = self.arithmetic(Binary::Mul, &x, &steps)?;
                    scale = scalar(1.0, scale.dtype())?;
                }
                let to = match (node.op_type.as_str(), &zero, node.int("output_dtype", 0)) {
                    ("DequantizeLinear", ..) => None,
                    (_, Some(zero), _) => Some(zero.dtype().ok_or("the type of its zero point is not known")?),
                    (_, None, 0) => Some(Dtype::Uint8),
                    (_, None, number) => Some(onnx::dtype(i32::try_from(number).unwrap_or_default())?),
                };
                let op = Op::Quantize(Quantize {
                    axis: node.int("axis", 1) as i32,
                    block: u32::try_from(node.int("block_size", 0)).map_err(|_| "its block size")?,
                    to,
                });
                let mut operands = vec![&x, &scale];
                operands.extend(&zero);
                let result = self.compute(op, &operands, to.or(Some(Dtype::Float32)))?;
                self.bind_kind(node, 0, result);
                Ok(())
            }
            "DynamicQuantizeLinear" => {
                let x = self.operand(node, 0)?;
                let dtypes = [Dtype::Uint8, Dtype::Float32, Dtype::Uint8].map(Some);
                self.bind_results(node, Op::DynamicQuantize(DynamicQuantize), &[&x], &dtypes)
            }
            "MatMulInteger" => {
                let result = self.integer_product(node, [0, 1], [2, 3])?;
                self.bind_kind(node, 0, result);
                Ok(())
            }
            "QLinearMatMul" => {
                let product = self.integer_product(node, [0, 3], [2, 5])?;
                let float = Some(Dtype::Float32);
                let product = self.compute(Op::Cast(Cast { to: Dtype::Float32 }), &[&product], float)?;
                let (a, b, y) = (self.operand(node, 1)?, self.operand(node, 4)?, self.operand(node, 6)?);
                let scale = self.arithmetic(Binary::Mul, &a, &b)?;
                let scale = self.arithmetic(Binary::Div, &scale, &y)?;
                let scaled = self.arithmetic(Binary::Mul, &product, &scale)?;
                let zero = self.operand(node, 7)?;
                let to = Some(zero.dtype().ok_or("the type of its zero point is not known")?);
                let one = scalar(1.0, float)?;
                let op = Op::Quantize(Quantize { axis: 0, block: 0, to });
                let result = self.compute(op, &[&scaled, &one, &zero], to)?;
                self.bind_kind(node, 0, result);
                Ok(())
            }
            _ => return Ok(false),
        }
        .map(|()| true)
    }

    /// The product, int32, of two of the node's operands less their zero
    /// points.
    fn integer_product(&mut self, node: &'a Node, operands: [usize; 2], zeros: [usize; 2]) -> Why<Kind> {
        let [a, b] = [0, 1].map(|side| -> Why<Kind> {
            let to = Some(Dtype::Int32);
            let cast = Op::Cast(Cast { to: Dtype::Int32 });
            let x = self.operand(node, operands[side])?;
            let x = self.compute(cast.clone(), &[&x], to)?;
            match self.operand(node, zeros[side]) {
                Ok(zero) => {
                    let zero = self.compute(cast, &[&zero], to)?;
                    self.arithmetic(Binary::Sub, &x, &zero)
                }
                Err(_) => Ok(x),
            }
        });
        self.compute(Op::MatMul(MatMul), &[&a?, &b?], Some(Dtype::Int32))
    }
}
