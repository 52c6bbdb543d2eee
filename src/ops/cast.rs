//! `ai.onnx` Cast, versions 1 to 25, between numbers.

use super::Kernel;
use super::numbers::{integer, is_integer, number, write_integers, write_numbers};
use crate::engine::{Operands, RunError, Scratch};
use crate::program::Constants;
use crate::tensor::{Dtype, Tensor, Values};
use serde::{Deserialize, Serialize};

/// Another element type, the same shape. A float becomes an integer by
/// dropping its fraction, an integer a narrower one by dropping its high bits,
/// and anything but zero is true.
///
/// Where the specification leaves the result open, it is what x86-64 computes,
/// and with it ONNX Runtime: of NaN and floats out of range the lowest int64 or
/// int32, of which the 8-bit types keep the low byte.
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
            (Values::String(_), _) | (_, Dtype::String) => return Err(operands.dtype_error(x.dtype())),
            (_, to) if is_integer(x.dtype()) => {
                let mut values = (0..x.shape.len()).map(|i| integer(x, i));
                match to {
                    Dtype::Float32 | Dtype::Float64 => {
                        write_numbers(out, to, x.shape, &mut values.map(|v| v as f64));
                    }
                    _ => write_integers(out, to, x.shape, &mut values),
                }
            }
            (_, to) => {
                let mut values = (0..x.shape.len()).map(|i| number(x, i));
                match to {
                    Dtype::Float32 | Dtype::Float64 => write_numbers(out, to, x.shape, &mut values),
                    Dtype::Bool => out.write_bool(x.shape).extend(values.map(|v| u8::from(v != 0.0))),
                    _ => {
                        let low = if to == Dtype::Int64 {
                            i64::MIN
                        } else {
                            i64::from(i32::MIN)
                        };
                        let range = low as f64..-(low as f64);
                        let truncated = |v: f64| {
                            let v = libm::trunc(v);
                            if range.contains(&v) { v as i64 } else { low }
                        };
                        write_integers(out, to, x.shape, &mut values.map(truncated));
                    }
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
    use crate::ops::numbers::{run, tensor};
    use crate::tensor::Data;

    #[test]
    fn numbers_become_numbers_of_every_type() {
        let f = |v: &[f32]| Data::Float32(v.to_vec());
        let cases = [
            (f(&[-1.9, 2.9]), Dtype::Int64, Data::Int64(vec![-1, 2])),
            (f(&[f32::NAN, 1e30]), Dtype::Int64, Data::Int64(vec![i64::MIN; 2])),
            (
                Data::Float64(vec![f64::NAN, -2_147_483_648.5]),
                Dtype::Int32,
                Data::Int32(vec![i32::MIN; 2]),
            ),
            (f(&[-1.0, 300.0]), Dtype::Uint8, Data::Uint8(vec![255, 44])),
            (f(&[0.0, f32::NAN, 0.1]), Dtype::Bool, Data::Bool(vec![0, 1, 1])),
            (Data::Int64(vec![1 << 32 | 5]), Dtype::Int32, Data::Int32(vec![5])),
            (
                Data::Int64(vec![(1 << 53) + 1]),
                Dtype::Int64,
                Data::Int64(vec![(1 << 53) + 1]),
            ),
            (Data::Int32(vec![200, 0]), Dtype::Int8, Data::Int8(vec![-56, 0])),
            (Data::Bool(vec![1, 0]), Dtype::Float64, Data::Float64(vec![1.0, 0.0])),
            (Data::Uint8(vec![255]), Dtype::Float32, f(&[255.0])),
        ];
        for (from, to, expected) in cases {
            let out = run(Op::Cast(Cast { to }), &[tensor(&[from.len()], from.clone())]).unwrap();
            assert_eq!(out[0].data, expected, "{from:?} to {to}");
        }
    }
}
