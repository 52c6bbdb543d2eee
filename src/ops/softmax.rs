//! `ai.onnx` Softmax and LogSoftmax, versions 1, 11 and 13.

use super::Kernel;
use crate::engine::{Operands, RunError, Scratch};
use crate::program::Constants;
use crate::tensor::{Tensor, Values};
use serde::{Deserialize, Serialize};

/// Softmax of a float tensor along one axis.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Softmax {
    /// The axis; negative counts from the last.
    pub axis: i32,
    /// Before version 13: all dimensions from the axis on are one.
    pub flatten: bool,
    /// The logarithm of it.
    pub log: bool,
}

impl Kernel for Softmax {
    const NAME: &'static str = "Softmax";

    fn check(&self, _: &Constants<'_>) -> Result<(), String> {
        Ok(())
    }

    fn run(&self, operands: &Operands<'_>, out: &mut [Tensor], _: &mut Scratch) -> Result<(), RunError> {
        let x = operands.view(0)?;
        let Some(axis) = super::axis(self.axis, x.shape.rank()) else {
            return Err(operands.shape_error(format!("an axis {}", self.axis), x.shape));
        };
        let dims = x.shape.dims();
        let (len, stride) = if self.flatten {
            (dims[axis..].iter().product(), 1)
        } else {
            (dims[axis], dims[axis + 1..].iter().product::<usize>())
        };
        macro_rules! softmax {
            ($result:expr, $values:expr, $exp:path, $ln:path, $zero:expr) => {{
                let result = $result;
                result.extend_from_slice($values);
                for block in result.chunks_exact_mut((len * stride).max(1)) {
                    for lane in 0..stride {
                        let mut max = block[lane];
                        for i in 1..len {
                            max = max.max(block[lane + i * stride]);
                        }
                        let mut sum = $zero;
                        for i in 0..len {
                            let e = $exp(block[lane + i * stride] - max);
                            sum += e;
                            if !self.log {
                                block[lane + i * stride] = e;
                            }
                        }
                        let log_sum = if self.log { $ln(sum) } else { $zero };
                        for i in 0..len {
                            let v = &mut block[lane + i * stride];
                            *v = if self.log { *v - max - log_sum } else { *v / sum };
                        }
                    }
                }
            }};
        }
        match x.values {
            Values::Float32(v) => {
                softmax!(out[0].write_f32(x.shape), v, libm::expf, libm::logf, 0.0f32)
            }
            Values::Float64(v) => {
                softmax!(out[0].write_f64(x.shape), v, libm::exp, libm::log, 0.0f64)
            }
            _ => return Err(operands.dtype_error(x.dtype())),
        }
        Ok(())
    }
}
