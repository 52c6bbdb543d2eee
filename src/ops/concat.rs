//! `ai.onnx` Concat, versions 4 to 13.

use super::Kernel;
use crate::engine::{Operands, RunError, Scratch};
use crate::program::Constants;
use crate::tensor::{RANK_MAX, Shape, Tensor};
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

/// Operands of one element type joined along an axis; all other dimensions are
/// equal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Concat {
    /// The axis; negative counts from the last.
    pub axis: i32,
}

impl Kernel for Concat {
    const NAME: &'static str = "Concat";
    const INPUTS: RangeInclusive<usize> = 1..=65_535;

    fn check(&self, _: &Constants<'_>) -> Result<(), String> {
        Ok(())
    }

    fn run(&self, operands: &Operands<'_>, out: &mut [Tensor], _: &mut Scratch) -> Result<(), RunError> {
        let first = operands.view(0)?;
        let dims = first.shape.dims();
        let Some(axis) = super::axis(self.axis, dims.len()) else {
            return Err(operands.shape_error(format!("an axis {}", self.axis), first.shape));
        };
        let mut total = 0;
        for i in 0..operands.len() {
            let x = operands.view(i)?;
            if x.dtype() != first.dtype() {
                return Err(operands.dtype_error(x.dtype()));
            }
            let other = x.shape.dims();
            if other.len() != dims.len() || other[..axis] != dims[..axis] || other[axis + 1..] != dims[axis + 1..] {
                return Err(operands.shape_error(format!("all dimensions but {axis} as in {dims:?}"), x.shape));
            }
            total = other[axis].saturating_add(total);
        }
        let mut new = [0; RANK_MAX];
        new[..dims.len()].copy_from_slice(dims);
        new[axis] = total;
        let shape =
            Shape::new(&new[..dims.len()]).ok_or_else(|| operands.shape_error("a smaller result", first.shape))?;
        let outer: usize = dims[..axis].iter().product();
        let inner: usize = dims[axis + 1..].iter().product();
        out[0].begin(first.dtype(), shape);
        for o in 0..outer {
            for i in 0..operands.len() {
                let x = operands.view(i)?;
                let run = x.shape.dims()[axis] * inner;
                out[0].append(x, o * run..(o + 1) * run);
            }
        }
        Ok(())
    }
}
