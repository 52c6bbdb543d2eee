//! `ai.onnx` Cast, versions 1 to 25, between numbers.

use super::Kernel;
use crate::engine::{Operands, RunError, Scratch};
use crate::program::Constants;
use crate::tensor::{Dtype, Tensor, Values};
use serde::{Deserialize, Serialize};

/// Another element type, the same shape. A float becomes an integer by
/// dropping its fraction (out of range: the nearest integer; NaN: 0), and
/// anything but zero is true.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Cast {
    /// The element type of the result.
    pub to: Dtype,
}

/// Fills the buffer with these values and lends it out.
pub(crate) fn to_f32(buffer: &mut Vec<f32>, values: impl Iterator<Item = f32>) -> &[f32] {
    buffer.clear();
    buffer.extend(values);
    buffer
}

impl Kernel for Cast {
    const NAME: &'static str = "Cast";

    fn check(&self, _: &Constants<'_>) -> Result<(), String> {
        match self.to {
            Dtype::String => Err("casts to text are not supported".into()),
            _ => Ok(()),
        }
    }

    fn run(&self, operands: &Operands<'_>, out: &mut [Tensor], _: &mut Scratch) -> Result<(), RunError> {
        let x = operands.view(0)?;
        let out = &mut out[0];
        match (x.values, self.to) {
            (Values::Float32(v), Dtype::Float64) => out.write_f64(x.shape).extend(v.iter().map(|&v| f64::from(v))),
            (Values::Float64(v), Dtype::Float32) => out.write_f32(x.shape).extend(v.iter().map(|&v| v as f32)),
            (Values::Int64(v), Dtype::Float32) => out.write_f32(x.shape).extend(v.iter().map(|&v| v as f32)),
            (Values::Int64(v), Dtype::Int64) => out.write_i64(x.shape).extend_from_slice(v),
            (Values::Int64(v), Dtype::Int32) => out.write_i32(x.shape).extend(v.iter().map(|&v| v as i32)),
            (Values::Int64(v), Dtype::Bool) => out.write_bool(x.shape).extend(v.iter().map(|&v| u8::from(v != 0))),
            (Values::String(_), _) | (_, Dtype::String) => return Err(operands.dtype_error(x.dtype())),
            (_, to) => {
                // binary64 holds the values of all other types exactly.
                let values = (0..x.shape.len()).map(|i| x.number(i).unwrap_or(0.0));
                match to {
                    Dtype::Float32 => out.write_f32(x.shape).extend(values.map(|v| v as f32)),
                    Dtype::Int64 => out.write_i64(x.shape).extend(values.map(|v| v as i64)),
                    Dtype::Int32 => out.write_i32(x.shape).extend(values.map(|v| v as i32)),
                    Dtype::Bool => out.write_bool(x.shape).extend(values.map(|v| u8::from(v != 0.0))),
                    _ => out.write_f64(x.shape).extend(values),
                }
            }
        }
        Ok(())
    }
}
