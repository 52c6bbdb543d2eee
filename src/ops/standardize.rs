//! What `ai.onnx` LayerNormalization (version 17), RMSNormalization (version
//! 23) and InstanceNormalization (versions 1 to 22) have in common; their scale
//! and bias are further instructions.

use super::Kernel;
use crate::engine::{Operands, RunError, Scratch};
use crate::program::Constants;
use crate::tensor::{RANK_MAX, Shape, Tensor, Values};
use serde::{Deserialize, Serialize};

/// All dimensions from an axis on are a row `x`, of which comes
/// `(x - mean) / sqrt(variance + epsilon)`, and for each row also its mean and
/// `1 / sqrt(variance + epsilon)`. On float32 and float64.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Standardize {
    /// The axis; negative counts from the last.
    pub axis: i32,
    /// Keeps the divisor from 0.
    pub epsilon: f32,
    /// Whether the mean is taken off; else it counts as 0.
    pub center: bool,
}

impl Kernel for Standardize {
    const NAME: &'static str = "Standardize";
    const OUTPUTS: usize = 3;

    fn check(&self, _: &Constants<'_>) -> Result<(), String> {
        Ok(())
    }

    fn run(&self, operands: &Operands<'_>, out: &mut [Tensor], _: &mut Scratch) -> Result<(), RunError> {
        let x = operands.view(0)?;
        let dims = x.shape.dims();
        let Some(axis) = super::axis(self.axis, dims.len()) else {
            return Err(operands.shape_error(format!("an axis {}", self.axis), x.shape));
        };
        let mut new = [1; RANK_MAX];
        new[..axis].copy_from_slice(&dims[..axis]);
        let per_row = Shape::new(&new[..dims.len()]).unwrap_or_default();
        let len: usize = dims[axis..].iter().product();
        let [result, means, factors] = out else {
            return Ok(());
        };
        macro_rules! standardize {
            ($t:ty, $write:ident, $values:expr, $sqrt:path) => {{
                let result = result.$write(x.shape);
                let (means, factors) = (means.$write(per_row), factors.$write(per_row));
                if len == 0 {
                    means.resize(per_row.len(), 0.0);
                    factors.resize(per_row.len(), 0.0);
                    return Ok(());
                }
                for row in $values.chunks_exact(len) {
                    let mean = match self.center {
                        true => row.iter().sum::<$t>() / len as $t,
                        false => 0.0,
                    };
                    let variance = row.iter().map(|v| (v - mean) * (v - mean)).sum::<$t>() / len as $t;
                    let factor = 1.0 / $sqrt(variance + self.epsilon as $t);
                    means.push(mean);
                    factors.push(factor);
                    result.extend(row.iter().map(|v| (v - mean) * factor));
                }
            }};
        }
        match x.values {
            Values::Float32(v) => standardize!(f32, write_f32, v, libm::sqrtf),
            Values::Float64(v) => standardize!(f64, write_f64, v, libm::sqrt),
            _ => return Err(operands.dtype_error(x.dtype())),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Op;
    use crate::ops::testing::{apply, tensor};
    use crate::tensor::Data;

    #[test]
    fn rows_are_standardized_each_by_itself() {
        let standardize = |axis, center| {
            let op = Standardize {
                axis,
                epsilon: 0.0,
                center,
            };
            let x = tensor(&[2, 1, 2], Data::Float64(vec![1.0, 3.0, 0.0, -8.0]));
            apply(Op::Standardize(op), &[x])
        };
        let out = standardize(-2, true).unwrap();
        assert_eq!(out[0], tensor(&[2, 1, 2], Data::Float64(vec![-1.0, 1.0, 1.0, -1.0])));
        assert_eq!(out[1], tensor(&[2, 1, 1], Data::Float64(vec![2.0, -4.0])));
        assert_eq!(out[2].data, Data::Float64(vec![1.0, 0.25]));
        let root = 32f64.sqrt();
        let out = standardize(2, false).unwrap();
        assert!(matches!(&out[0].data, Data::Float64(v) if (v[3] + 8.0 / root).abs() < 1e-15));
        assert!(standardize(3, true).is_err());
    }
}
