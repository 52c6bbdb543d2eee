//! `ai.onnx.ml` Normalizer, version 1: rows divided by their norm.

use super::Kernel;
use crate::engine::{Operands, RunError, Scratch};
use crate::program::Constants;
use crate::tensor::{Tensor, Values};
use serde::{Deserialize, Serialize};

/// The norm that rows are divided by. A row whose norm is 0 stays as it is.
///
/// Takes numbers of any type, `[N, C]`; yields float32 of the same shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Normalizer {
    /// The largest element (not its magnitude, as ONNX Runtime has it).
    Max,
    /// The sum of magnitudes.
    L1,
    /// The square root of the sum of squares; each quotient keeps its sign.
    L2,
}

impl Kernel for Normalizer {
    const NAME: &'static str = "Normalizer";

    fn check(&self, _: &Constants<'_>) -> Result<(), String> {
        Ok(())
    }

    fn run(&self, operands: &Operands<'_>, out: &mut [Tensor], _: &mut Scratch) -> Result<(), RunError> {
        let x = operands.view(0)?;
        let (_, columns) = x.shape.as_rows();
        let result = out[0].write_f32(x.shape);
        match x.values {
            Values::Float32(v) => result.extend_from_slice(v),
            Values::Float64(v) => result.extend(v.iter().map(|&v| v as f32)),
            Values::Int64(v) => result.extend(v.iter().map(|&v| v as f32)),
            Values::Int32(v) => result.extend(v.iter().map(|&v| v as f32)),
            _ => return Err(operands.dtype_error(x.dtype())),
        }
        for row in result.chunks_exact_mut(columns.max(1)) {
            let norm = match self {
                Normalizer::Max => row.iter().copied().fold(f32::NEG_INFINITY, f32::max),
                Normalizer::L1 => row.iter().map(|v| v.abs()).sum(),
                Normalizer::L2 => row.iter().map(|v| v * v).sum::<f32>().sqrt(),
            };
            if norm != 0.0 {
                row.iter_mut().for_each(|v| *v /= norm);
            }
        }
        Ok(())
    }
}
