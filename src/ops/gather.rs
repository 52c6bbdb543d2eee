//! `ai.onnx` Gather (versions 1 to 13) and `ai.onnx.ml` ArrayFeatureExtractor
//! (version 1): elements picked by index along an axis.

use super::Kernel;
use crate::engine::{Operands, RunError, Scratch};
use crate::program::Constants;
use crate::tensor::{RANK_MAX, Shape, Tensor, Values};
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

/// Which of the two, and along which axis.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Gather {
    /// Gather: the axis is replaced by the dimensions of the indices; a
    /// negative index counts from the end.
    Axis(i32),
    /// ArrayFeatureExtractor: the last axis; the indices are a flat list.
    Columns,
}

impl Kernel for Gather {
    const NAME: &'static str = "Gather";
    const INPUTS: RangeInclusive<usize> = 2..=2;

    fn check(&self, _: &Constants<'_>) -> Result<(), String> {
        Ok(())
    }

    fn run(&self, operands: &Operands<'_>, out: &mut [Tensor], _: &mut Scratch) -> Result<(), RunError> {
        let (x, indices) = (operands.view(0)?, operands.view(1)?);
        let dims = x.shape.dims();
        let (axis, count, front, picked): (usize, usize, &[usize], &[usize]) = match self {
            Gather::Axis(axis) => {
                let axis = super::axis(*axis, dims.len())
                    .ok_or_else(|| operands.shape_error(format!("an axis {axis}"), x.shape))?;
                (axis, indices.shape.len(), &dims[..axis], indices.shape.dims())
            }
            Gather::Columns => {
                let axis = dims
                    .len()
                    .checked_sub(1)
                    .ok_or_else(|| operands.shape_error("at least one dimension", x.shape))?;
                // A vector is one row, and the result is always a matrix.
                let front: &[usize] = if axis == 0 { &[1] } else { &dims[..axis] };
                (axis, indices.shape.len(), front, &[])
            }
        };
        let (len, inner) = (dims[axis], dims[axis + 1..].iter().product::<usize>());
        let index = |at: usize| -> Result<usize, RunError> {
            let i = match indices.values {
                Values::Int64(v) => v[at],
                Values::Int32(v) => v[at] as i64,
                _ => return Err(operands.dtype_error(indices.dtype())),
            };
            let i = if i < 0 && matches!(self, Gather::Axis(_)) {
                i + len as i64
            } else {
                i
            };
            usize::try_from(i)
                .ok()
                .filter(|&i| i < len)
                .ok_or_else(|| operands.shape_error(format!("an element {i} along axis {axis}"), x.shape))
        };
        let mut new = [0; RANK_MAX];
        let mut rank = 0;
        let flat = [count];
        let middle: &[usize] = if matches!(self, Gather::Columns) { &flat } else { picked };
        for &dim in front.iter().chain(middle).chain(&dims[axis + 1..]) {
            if rank == RANK_MAX {
                return Err(operands.shape_error("fewer dimensions", x.shape));
            }
            new[rank] = dim;
            rank += 1;
        }
        let shape = Shape::new(&new[..rank]).ok_or_else(|| operands.shape_error("a smaller result", x.shape))?;
        let outer: usize = dims[..axis].iter().product();
        out[0].begin(x.dtype(), shape);
        for o in 0..outer {
            for at in 0..count {
                let start = (o * len + index(at)?) * inner;
                out[0].append(x, start..start + inner);
            }
        }
        Ok(())
    }
}
