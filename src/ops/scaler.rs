//! `ai.onnx.ml` Scaler, version 1: `(x - offset) * scale`, column by column.

use super::Kernel;
use super::cast::as_f32;
use crate::engine::{Operands, RunError, Scratch};
use crate::program::{Constants, Slice};
use crate::tensor::{Tensor, Values};
use serde::{Deserialize, Serialize};

/// Attributes: one offset and one scale for all columns, or one each.
///
/// Takes numbers of any type, `[N, C]`; yields float32 of the same shape. As in
/// ONNX Runtime, of more dimensions every C elements in a row are columns.
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

    fn run(&self, operands: &Operands<'_>, out: &mut [Tensor], scratch: &mut Scratch) -> Result<(), RunError> {
        let x = operands.view(0)?;
        // Of more dimensions than two it is the second that counts.
        let (&[columns] | &[_, columns, ..]) = x.shape.dims() else {
            return Err(operands.shape_error("at least one dimension", x.shape));
        };
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
        if let Values::Float64(v) = x.values {
            // ONNX Runtime subtracts and multiplies in the operand's type.
            let scaled = v.chunks_exact(columns.max(1)).flat_map(|row| row.iter().enumerate());
            result.extend(scaled.map(|(c, v)| ((v - f64::from(at(offset, c))) * f64::from(at(scale, c))) as f32));
        } else {
            result.extend_from_slice(as_f32(x, &mut scratch.f32).ok_or_else(|| operands.dtype_error(x.dtype()))?);
            for row in result.chunks_exact_mut(columns.max(1)) {
                for (c, v) in row.iter_mut().enumerate() {
                    *v = (*v - at(offset, c)) * at(scale, c);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Op;
    use crate::ops::testing::{finish, floats, ints, texts};
    use crate::program::{Builder, Source};

    fn scale(offset: &[f32], scale: &[f32], x: Tensor) -> Result<Tensor, String> {
        let mut builder = Builder::new(1);
        let op = Scaler {
            offset: builder.array(offset),
            scale: builder.array(scale),
        };
        let outputs = builder.push(Op::Scaler(op), vec![Source::Input(0)]);
        finish(builder, outputs, &[x]).map(|mut out| out.swap_remove(0))
    }

    #[test]
    fn the_second_dimension_is_the_columns() {
        let x = ints(&[1, 2, 3], &[0, 1, 2, 3, 4, 5]);
        let expected = floats(&[1, 2, 3], &[0.0, -18.0, 2.0, -14.0, 4.0, -10.0]);
        assert_eq!(scale(&[0.0, 10.0], &[1.0, 2.0], x.clone()), Ok(expected));
        assert_eq!(
            scale(&[1.0], &[2.0], ints(&[2], &[3, 4])),
            Ok(floats(&[2], &[4.0, 6.0]))
        );
        assert!(scale(&[0.0; 3], &[1.0; 3], x).is_err());
        assert!(scale(&[0.0], &[1.0], ints(&[], &[1])).is_err());
        assert!(scale(&[0.0], &[1.0], texts(&[1], &["1"])).is_err());
    }
}
