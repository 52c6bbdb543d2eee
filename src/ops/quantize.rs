//! `ai.onnx` QuantizeLinear (versions 10 to 25), DequantizeLinear (10 to 25)
//! and DynamicQuantizeLinear (11).

use super::Kernel;
use super::numbers::{integer, number, write_integers};
use crate::engine::{Operands, RunError, Scratch};
use crate::program::Constants;
use crate::tensor::{Dtype, RANK_MAX, Shape, Tensor, Values, View};
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

/// Between floats and the integers that stand for them: the second operand is
/// the scale (float32), the third the zero point (as the integers; absent: 0).
///
/// Both have one element for all, one for each index of the axis, or one for
/// each block along the axis.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Quantize {
    /// The axis; negative counts from the last. It does not matter where one
    /// scale is for all.
    pub axis: i32,
    /// Elements of a block; 0: no blocks.
    pub block: u32,
    /// Quantizes float32 or int32 to uint8 or int8:
    /// `round(x / scale) + zero point`, of two the even one, held within the
    /// type. Without a type dequantizes uint8, int8 or int32 to float32:
    /// `(x - zero point) scale`.
    pub to: Option<Dtype>,
}

/// The integer of a quantized type for `x / scale`.
fn quantized(x: f32, scale: f32, zero: i64, to: Dtype) -> i64 {
    let (min, max) = if to == Dtype::Int8 { (-128, 127) } else { (0, 255) };
    // NaN becomes 0.
    let steps = libm::rintf(x / scale) as i64;
    steps.saturating_add(zero).clamp(min, max)
}

/// Where the scale of an element is found.
enum Scales {
    One,
    /// By position: `at / inner % len`.
    Axis {
        inner: usize,
        len: usize,
    },
    /// Blocks along an axis of `len` elements, `blocks` of them.
    Blocks {
        inner: usize,
        len: usize,
        block: usize,
        blocks: usize,
    },
}

impl Scales {
    fn index(&self, at: usize) -> usize {
        match *self {
            Scales::One => 0,
            Scales::Axis { inner, len } => at / inner % len,
            Scales::Blocks {
                inner,
                len,
                block,
                blocks,
            } => {
                let (outer, along) = (at / (inner * len), at / inner % len);
                (outer * blocks + along / block) * inner + at % inner
            }
        }
    }
}

impl Quantize {
    fn scales(&self, x: View<'_>, scale: View<'_>) -> Option<Scales> {
        if scale.shape.len() == 1 && self.block == 0 {
            return Some(Scales::One);
        }
        let dims = x.shape.dims();
        let axis = super::axis(self.axis, dims.len())?;
        let (inner, len) = (dims[axis + 1..].iter().product(), dims[axis]);
        if self.block == 0 {
            return (scale.shape.dims() == [len]).then_some(Scales::Axis { inner, len });
        }
        let block = self.block as usize;
        let blocks = len.div_ceil(block);
        let mut expected = [0; RANK_MAX];
        expected[..dims.len()].copy_from_slice(dims);
        expected[axis] = blocks;
        let fits = scale.shape.dims() == &expected[..dims.len()];
        fits.then_some(Scales::Blocks {
            inner,
            len,
            block,
            blocks,
        })
    }
}

impl Kernel for Quantize {
    const NAME: &'static str = "Quantize";
    const INPUTS: RangeInclusive<usize> = 2..=3;

    fn check(&self, _: &Constants<'_>) -> Result<(), String> {
        match self.to {
            None | Some(Dtype::Uint8 | Dtype::Int8) => Ok(()),
            Some(other) => Err(format!("values of type {other} are not quantized")),
        }
    }

    fn run(&self, operands: &Operands<'_>, out: &mut [Tensor], _: &mut Scratch) -> Result<(), RunError> {
        let (x, scale, zero) = (operands.view(0)?, operands.view(1)?, operands.get(2));
        let Values::Float32(scale_values) = scale.values else {
            return Err(operands.dtype_error(scale.dtype()));
        };
        let scales = self
            .scales(x, scale)
            .ok_or_else(|| operands.shape_error(format!("a scale for {:?}", x.shape), scale.shape))?;
        if let Some(zero) = zero {
            if zero.shape.len() != scale.shape.len() {
                return Err(operands.shape_error(format!("a zero point as {:?}", scale.shape), zero.shape));
            }
            let integers = matches!(zero.dtype(), Dtype::Uint8 | Dtype::Int8 | Dtype::Int32);
            if !integers || self.to.is_some_and(|to| to != zero.dtype()) {
                return Err(operands.dtype_error(zero.dtype()));
            }
        }
        let zero = |at: usize| zero.map_or(0, |zero| integer(zero, at));
        let out = &mut out[0];
        let elements = 0..x.shape.len();
        match (self.to, x.dtype()) {
            (Some(to), Dtype::Float32 | Dtype::Int32) => {
                let mut results = elements.map(|i| {
                    let at = scales.index(i);
                    quantized(number(x, i) as f32, scale_values[at], zero(at), to)
                });
                write_integers(out, to, x.shape, &mut results);
            }
            (None, Dtype::Uint8 | Dtype::Int8 | Dtype::Int32) => {
                let results = elements.map(|i| {
                    let at = scales.index(i);
                    integer(x, i).wrapping_sub(zero(at)) as f32 * scale_values[at]
                });
                out.write_f32(x.shape).extend(results);
            }
            (_, dtype) => return Err(operands.dtype_error(dtype)),
        }
        Ok(())
    }
}

/// float32 to uint8 with a scale and a zero point such that the values' range,
/// stretched to 0, just fits. Yields the integers, the scale (float32) and the
/// zero point (uint8), both scalars.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DynamicQuantize;

impl Kernel for DynamicQuantize {
    const NAME: &'static str = "DynamicQuantize";
    const OUTPUTS: usize = 3;

    fn check(&self, _: &Constants<'_>) -> Result<(), String> {
        Ok(())
    }

    fn run(&self, operands: &Operands<'_>, out: &mut [Tensor], _: &mut Scratch) -> Result<(), RunError> {
        let x = operands.view(0)?;
        let Values::Float32(values) = x.values else {
            return Err(operands.dtype_error(x.dtype()));
        };
        let [quantities, scale_out, zero_out] = out else {
            return Ok(());
        };
        let min = values.iter().fold(0f32, |a, &v| a.min(v));
        let max = values.iter().fold(0f32, |a, &v| a.max(v));
        let scale = if max == min { 1.0 } else { (max - min) / 255.0 };
        let zero = libm::rintf((-min / scale).clamp(0.0, 255.0)) as u8;
        quantities.write_u8(x.shape).extend(
            values
                .iter()
                .map(|&v| quantized(v, scale, i64::from(zero), Dtype::Uint8) as u8),
        );
        let scalar = Shape::new(&[]).unwrap_or_default();
        scale_out.write_f32(scalar).push(scale);
        zero_out.write_u8(scalar).push(zero);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Op;
    use crate::ops::testing::{apply, tensor};
    use crate::tensor::Data;

    fn quantize(op: Quantize, inputs: &[Tensor]) -> Result<Data, String> {
        apply(Op::Quantize(op), inputs).map(|mut out| out.swap_remove(0).data)
    }

    #[test]
    fn values_round_to_even_and_stay_within_the_type() {
        let x = tensor(
            &[6],
            Data::Float32(vec![0.5, 1.5, -1.0, 1000.0, -1000.0, f32::INFINITY]),
        );
        let scale = tensor(&[], Data::Float32(vec![1.0]));
        let op = |to| Quantize {
            axis: 1,
            block: 0,
            to: Some(to),
        };
        let zero = tensor(&[], Data::Uint8(vec![10]));
        let got = quantize(op(Dtype::Uint8), &[x.clone(), scale.clone(), zero.clone()]);
        assert_eq!(got, Ok(Data::Uint8(vec![10, 12, 9, 255, 0, 255])));
        let got = quantize(op(Dtype::Int8), &[x.clone(), scale.clone()]);
        assert_eq!(got, Ok(Data::Int8(vec![0, 2, -1, 127, -128, 127])));
        assert!(quantize(op(Dtype::Int8), &[x, scale, zero]).is_err());
    }

    #[test]
    fn scales_go_by_axis_or_by_block() {
        let x = tensor(&[2, 3], Data::Int8(vec![1, 2, 3, 4, 5, 6]));
        let op = |axis, block| Quantize { axis, block, to: None };
        let inputs = [
            x.clone(),
            tensor(&[3], Data::Float32(vec![1.0, 10.0, 100.0])),
            tensor(&[3], Data::Int8(vec![0, 1, 2])),
        ];
        let got = quantize(op(-1, 0), &inputs);
        assert_eq!(got, Ok(Data::Float32(vec![1.0, 10.0, 100.0, 4.0, 40.0, 400.0])));
        assert!(quantize(op(0, 0), &inputs).is_err());
        let blocks = tensor(&[2, 2], Data::Float32(vec![1.0, 10.0, 2.0, 20.0]));
        let got = quantize(op(1, 2), &[x, blocks]);
        assert_eq!(got, Ok(Data::Float32(vec![1.0, 2.0, 30.0, 8.0, 10.0, 120.0])));
    }

    #[test]
    fn a_dynamic_scale_covers_the_range_and_zero() {
        let dynamic = |values: &[f32]| {
            let x = tensor(&[values.len()], Data::Float32(values.to_vec()));
            apply(Op::DynamicQuantize(DynamicQuantize), &[x]).unwrap()
        };
        // The example of the specification.
        let out = dynamic(&[0.0, 2.0, -3.0, -2.5, 1.34, 0.5]);
        assert_eq!(out[0].data, Data::Uint8(vec![153, 255, 0, 26, 221, 179]));
        assert_eq!(out[1], tensor(&[], Data::Float32(vec![0.019_607_844])));
        assert_eq!(out[2], tensor(&[], Data::Uint8(vec![153])));
        assert_eq!(dynamic(&[0.0, 0.0])[1].data, Data::Float32(vec![1.0]));
        assert_eq!(dynamic(&[f32::NAN])[0].data, Data::Uint8(vec![0]));
    }
}
