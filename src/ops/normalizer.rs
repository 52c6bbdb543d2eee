//! `ai.onnx.ml` Normalizer, version 1: rows divided by their norm.

use super::Kernel;
use super::cast::as_f32;
use super::numbers::number;
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

    fn run(&self, operands: &Operands<'_>, out: &mut [Tensor], scratch: &mut Scratch) -> Result<(), RunError> {
        let x = operands.view(0)?;
        let (_, columns) = x.shape.as_rows();
        let result = out[0].write_f32(x.shape);
        result.extend_from_slice(as_f32(x, &mut scratch.f32).ok_or_else(|| operands.dtype_error(x.dtype()))?);
        if *self == Normalizer::L2 {
            // Squares are taken in the operand's type, then divided, and only
            // then comes the root.
            match x.values {
                Values::Float64(v) => result.iter_mut().zip(v).for_each(|(to, v)| *to = (v * v) as f32),
                Values::Int64(v) => result
                    .iter_mut()
                    .zip(v)
                    .for_each(|(to, v)| *to = v.wrapping_mul(*v) as f32),
                Values::Int32(v) => result
                    .iter_mut()
                    .zip(v)
                    .for_each(|(to, v)| *to = v.wrapping_mul(*v) as f32),
                _ => result.iter_mut().for_each(|v| *v *= *v),
            }
        }
        for (index, row) in result.chunks_exact_mut(columns.max(1)).enumerate() {
            let norm = match self {
                Normalizer::Max => row.iter().copied().fold(f32::MIN, f32::max),
                Normalizer::L1 => row.iter().map(|v| v.abs()).sum(),
                Normalizer::L2 => row.iter().sum(),
            };
            match self {
                Normalizer::L2 => {
                    for (i, v) in row.iter_mut().enumerate() {
                        let x = number(x, index * columns + i);
                        *v = match (*v / norm).sqrt() {
                            _ if norm == 0.0 => x as f32,
                            root if x < 0.0 => -root,
                            root => root,
                        };
                    }
                }
                _ if norm != 0.0 => row.iter_mut().for_each(|v| *v /= norm),
                _ => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Op;
    use crate::ops::testing::{floats, ints, run};
    use crate::tensor::Data;

    #[test]
    fn rows_are_divided_by_their_norm_unless_it_is_0() {
        let x = ints(&[3, 2], &[3, -4, 0, 0, -2, -4]);
        for (norm, expected) in [
            (Normalizer::Max, [1.0, -4.0 / 3.0, 0.0, 0.0, 1.0, 2.0]),
            (
                Normalizer::L1,
                [3.0 / 7.0, -4.0 / 7.0, 0.0, 0.0, -1.0 / 3.0, -2.0 / 3.0],
            ),
            (Normalizer::L2, [0.6, -0.8, 0.0, 0.0, -0.447_213_6, -0.894_427_2]),
        ] {
            assert_eq!(
                run(Op::Normalizer(norm), &[Some(x.clone())]).unwrap(),
                [floats(&[3, 2], &expected)]
            );
        }
    }

    #[test]
    fn the_largest_of_infinities_is_finite_and_squares_may_overflow() {
        let normalize = |norm, x| match run(Op::Normalizer(norm), &[Some(x)]).unwrap().remove(0).data {
            Data::Float32(v) => v,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            normalize(Normalizer::Max, floats(&[1, 1], &[f32::NEG_INFINITY])),
            [f32::INFINITY]
        );
        assert!(normalize(Normalizer::L2, floats(&[1, 2], &[1e30, 1.0]))[0].is_nan());
        assert_eq!(normalize(Normalizer::L2, floats(&[1, 2], &[1e-30, -0.0])), [1e-30, 0.0]);
    }
}
