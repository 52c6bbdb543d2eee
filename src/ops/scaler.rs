//! `ai.onnx.ml` Scaler, version 1: `(x - offset) * scale`, column by column.

use super::Kernel;
use crate::engine::{Operands, RunError, Scratch};
use crate::program::{Constants, Slice};
use crate::tensor::{Tensor, Values};
use serde::{Deserialize, Serialize};

/// Attributes: one offset and one scale for all columns, or one each.
///
/// Takes numbers of any type, `[N, C]`; yields float32 of the same shape.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Scaler {
    /// What is subtracted; 1 or C values.
    pub offset: Slice<f32>,
    /// What the difference is multiplied by; 1 or C values.
    pub scale: Slice<f32>,
}

impl Kernel for Scaler {
    const NAME: &'static str = "Scaler";

    fn check(&self, constants: &Constants<'_>) -> Result<(), String> {
        constants.check(self.offset, "offset")?;
        constants.check(self.scale, "scale")?;
        if self.offset.is_empty() || self.scale.is_empty() {
            return Err("offset and scale must not be empty".into());
        }
        Ok(())
    }

    fn run(&self, operands: &Operands<'_>, out: &mut [Tensor], _: &mut Scratch) -> Result<(), RunError> {
        let x = operands.view(0)?;
        let (_, columns) = x.shape.as_rows();
        let constants = operands.constants();
        let (offset, scale) = (constants.get(self.offset), constants.get(self.scale));
        for attribute in [offset, scale] {
            if attribute.len() != 1 && attribute.len() != columns {
                return Err(operands.shape_error(format!("{} columns", attribute.len()), x.shape));
            }
        }
        let at = |attribute: &[f32], column: usize| {
            if attribute.len() == 1 {
                attribute[0]
            } else {
                attribute[column]
            }
        };
        let result = out[0].write_f32(x.shape);
        macro_rules! scale {
            ($values:expr, $convert:expr) => {
                for row in $values.chunks_exact(columns.max(1)) {
                    result.extend(
                        row.iter()
                            .enumerate()
                            .map(|(c, &v)| ($convert(v) - at(offset, c)) * at(scale, c)),
                    );
                }
            };
        }
        match x.values {
            Values::Float32(v) => scale!(v, |v: f32| v),
            Values::Float64(v) => {
                // ONNX Runtime subtracts and multiplies in the operand's type.
                for row in v.chunks_exact(columns.max(1)) {
                    result.extend(
                        row.iter()
                            .enumerate()
                            .map(|(c, &v)| ((v - at(offset, c) as f64) * at(scale, c) as f64) as f32),
                    );
                }
            }
            Values::Int64(v) => scale!(v, |v: i64| v as f32),
            Values::Int32(v) => scale!(v, |v: i32| v as f32),
            _ => return Err(operands.dtype_error(x.dtype())),
        }
        Ok(())
    }
}
