//! `ai.onnx` ArgMax and ArgMin, versions 1 to 13.

use super::Kernel;
use crate::engine::{Operands, RunError, Scratch};
use crate::program::Constants;
use crate::tensor::{RANK_MAX, Shape, Tensor, Values};
use serde::{Deserialize, Serialize};

/// Index of the extreme element along an axis, int64.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ArgMax {
    /// The axis; negative counts from the last.
    pub axis: i32,
    /// Whether the axis stays with size 1.
    pub keep_dims: bool,
    /// Of equal elements the last, not the first.
    pub last: bool,
    /// The smallest element, not the largest.
    pub min: bool,
}

/// Index of the first largest element; 0 of none.
pub(crate) fn first_max<T: PartialOrd + Copy>(values: &[T]) -> usize {
    let mut best = 0;
    for (i, v) in values.iter().enumerate() {
        if *v > values[best] {
            best = i;
        }
    }
    best
}

impl Kernel for ArgMax {
    const NAME: &'static str = "ArgMax";

    fn check(&self, _: &Constants<'_>) -> Result<(), String> {
        Ok(())
    }

    fn run(&self, operands: &Operands<'_>, out: &mut [Tensor], _: &mut Scratch) -> Result<(), RunError> {
        let x = operands.view(0)?;
        let dims = x.shape.dims();
        let Some(axis) = super::axis(self.axis, dims.len()).filter(|&a| dims[a] > 0) else {
            return Err(operands.shape_error(format!("elements along axis {}", self.axis), x.shape));
        };
        let (len, inner) = (dims[axis], dims[axis + 1..].iter().product::<usize>());
        let mut new = [0; RANK_MAX];
        let mut rank = 0;
        for (i, &dim) in dims.iter().enumerate() {
            if i == axis && !self.keep_dims {
                continue;
            }
            new[rank] = if i == axis { 1 } else { dim };
            rank += 1;
        }
        let shape = Shape::new(&new[..rank]).unwrap_or_default();
        let result = out[0].write_i64(shape);
        macro_rules! search {
            ($values:expr) => {
                for block in $values.chunks_exact((len * inner).max(1)) {
                    for lane in 0..inner {
                        let mut best = 0;
                        for i in 1..len {
                            let (v, b) = (block[lane + i * inner], block[lane + best * inner]);
                            let better = if self.min { v < b } else { v > b };
                            if better || (self.last && v == b) {
                                best = i;
                            }
                        }
                        result.push(best as i64);
                    }
                }
            };
        }
        match x.values {
            Values::Float32(v) => search!(v),
            Values::Float64(v) => search!(v),
            Values::Int64(v) => search!(v),
            Values::Int32(v) => search!(v),
            Values::Uint8(v) => search!(v),
            Values::Int8(v) => search!(v),
            _ => return Err(operands.dtype_error(x.dtype())),
        }
        Ok(())
    }
}
