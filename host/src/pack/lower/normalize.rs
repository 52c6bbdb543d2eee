//! Lowering of the normalizations, in steps of simpler operators.

use super::math::scalar;
use super::{Kind, Lowering, Why};
use crate::pack::onnx::Node;
use modelet::ops::Op;
use modelet::ops::elementwise::{Align, Binary, Unary};
use modelet::ops::reduce::{Reduce, Reduction};
use modelet::ops::standardize::Standardize;

/// The dimension of the channels: of all tensors of images and the like.
const CHANNELS: i32 = 1;

impl<'a> Lowering<'a> {
    /// The node, if it is one of this family.
    pub(super) fn normalize_node(&mut self, node: &'a Node, version: i64) -> Why<bool> {
        match node.op_type.as_str() {
            "LayerNormalization" | "RMSNormalization" => {
                let op = Standardize {
                    axis: node.int("axis", -1) as i32,
                    epsilon: node.float("epsilon", 1e-5),
                    center: node.op_type == "LayerNormalization",
                };
                let x = self.operand(node, 0)?;
                let dtype = x.dtype();
                self.bind_results(node, Op::Standardize(op), &[&x], &[dtype; 3])?;
                let mut result = self.value(&node.output[0])?.kind.clone();
                let scale = self.operand(node, 1)?;
                result = self.arithmetic(Binary::Mul, &result, &scale)?;
                if let Ok(bias) = self.operand(node, 2) {
                    result = self.arithmetic(Binary::Add, &result, &bias)?;
                }
                self.bind_kind(node, 0, result);
                Ok(())
            }
            "InstanceNormalization" => {
                let op = Standardize {
                    axis: CHANNELS + 1,
                    epsilon: node.float("epsilon", 1e-5),
                    center: true,
                };
                let x = self.operand(node, 0)?;
                let rows = self.compute(Op::Standardize(op), &[&x], x.dtype())?;
                let (scale, bias) = (self.operand(node, 1)?, self.operand(node, 2)?);
                self.scale_channels(node, &rows, &scale, &bias)
            }
            "BatchNormalization" => self.batch_normalization(node, version),
            "LpNormalization" => {
                let x = self.operand(node, 0)?;
                let kind = match node.int("p", 2) {
                    1 => Reduction::L1,
                    2 => Reduction::L2,
                    p => return Err(format!("the norm {p}")),
                };
                let norm = self.reduced(kind, &x, &[node.int("axis", -1) as i32])?;
                // Only zeros have the norm 0, and remain zeros.
                let least = scalar(f64::from(f32::from_bits(1)), x.dtype())?;
                let norm = self.arithmetic(Binary::Max, &norm, &least)?;
                let result = self.arithmetic(Binary::Div, &x, &norm)?;
                self.bind_kind(node, 0, result);
                Ok(())
            }
            "MeanVarianceNormalization" => {
                let x = self.operand(node, 0)?;
                let axes: Vec<i32> = match node.get("axes") {
                    Some(axes) => axes.ints.iter().map(|&axis| axis as i32).collect(),
                    None => vec![0, 2, 3],
                };
                let mean = self.reduced(Reduction::Mean, &x, &axes)?;
                let difference = self.arithmetic(Binary::Sub, &x, &mean)?;
                let square = self.arithmetic(Binary::Mul, &difference, &difference)?;
                let variance = self.reduced(Reduction::Mean, &square, &axes)?;
                let deviation = self.compute(Op::Unary(Unary::Sqrt), &[&variance], x.dtype())?;
                let epsilon = scalar(1e-9, x.dtype())?;
                let divisor = self.arithmetic(Binary::Add, &deviation, &epsilon)?;
                let result = self.arithmetic(Binary::Div, &difference, &divisor)?;
                self.bind_kind(node, 0, result);
                Ok(())
            }
            _ => return self.quantize_node(node),
        }
        .map(|()| true)
    }

    fn reduced(&mut self, kind: Reduction, x: &Kind, axes: &[i32]) -> Why<Kind> {
        let op = Reduce {
            kind,
            axes: axes.to_vec(),
            keep_dims: true,
            noop_if_empty: false,
        };
        self.compute(Op::Reduce(op), &[x], x.dtype())
    }

    /// In inference: the statistics are operands, and with scale and bias come
    /// down to one factor and one summand a channel.
    fn batch_normalization(&mut self, node: &'a Node, version: i64) -> Why<()> {
        let outputs = node.output.iter().filter(|name| !name.is_empty()).count();
        if node.int("training_mode", 0) != 0 || (version >= 7 && outputs > 1) {
            return Err("training is not supported".into());
        }
        let [x, scale, bias, mean, variance] = [
            self.operand(node, 0)?,
            self.operand(node, 1)?,
            self.operand(node, 2)?,
            self.operand(node, 3)?,
            self.operand(node, 4)?,
        ];
        let epsilon = scalar(f64::from(node.float("epsilon", 1e-5)), variance.dtype())?;
        let divisor = self.arithmetic(Binary::Add, &variance, &epsilon)?;
        let divisor = self.compute(Op::Unary(Unary::Sqrt), &[&divisor], variance.dtype())?;
        let factor = self.arithmetic(Binary::Div, &scale, &divisor)?;
        let shift = self.arithmetic(Binary::Mul, &mean, &factor)?;
        let summand = self.arithmetic(Binary::Sub, &bias, &shift)?;
        self.scale_channels(node, &x, &factor, &summand)
    }

    fn scale_channels(&mut self, node: &'a Node, x: &Kind, factor: &Kind, summand: &Kind) -> Why<()> {
        let mut result = x.clone();
        for (op, operand) in [(Binary::Mul, factor), (Binary::Add, summand)] {
            let align = Op::Align(Align { axis: CHANNELS });
            let operand = self.compute(align, &[x, operand], operand.dtype())?;
            result = self.arithmetic(op, &result, &operand)?;
        }
        self.bind_kind(node, 0, result);
        Ok(())
    }
}
