//! `ai.onnx` Softmax, LogSoftmax and Hardmax, versions 1, 11 and 13.

use super::Kernel;
use crate::engine::{Operands, RunError, Scratch};
use crate::program::Constants;
use crate::tensor::{Tensor, Values};
use serde::{Deserialize, Serialize};

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Maximum {
    /// `exp(x) / sum`.
    Soft,
    /// The logarithm of that.
    LogSoft,
    /// 1 for the first largest element, 0 for all others.
    Hard,
}

/// Softmax of a float tensor along one axis.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Softmax {
    /// The axis; negative counts from the last.
    pub axis: i32,
    /// Before version 13: all dimensions from the axis on are one.
    pub flatten: bool,
    /// Which of them.
    pub kind: Maximum,
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
                let log = self.kind == Maximum::LogSoft;
                let result = $result;
                result.extend_from_slice($values);
                for block in result.chunks_exact_mut((len * stride).max(1)) {
                    for lane in 0..stride {
                        if self.kind == Maximum::Hard {
                            let best = (1..len).fold(0, |best, i| {
                                match block[lane + i * stride] > block[lane + best * stride] {
                                    true => i,
                                    false => best,
                                }
                            });
                            for i in 0..len {
                                block[lane + i * stride] = if i == best { 1.0 } else { 0.0 };
                            }
                            continue;
                        }
                        let mut max = block[lane];
                        for i in 1..len {
                            max = max.max(block[lane + i * stride]);
                        }
                        let mut sum = $zero;
                        for i in 0..len {
                            let e = $exp(block[lane + i * stride] - max);
                            sum += e;
                            if !log {
                                block[lane + i * stride] = e;
                            }
                        }
                        let log_sum = if log { $ln(sum) } else { $zero };
                        for i in 0..len {
                            let v = &mut block[lane + i * stride];
                            *v = if log { *v - max - log_sum } else { *v / sum };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Op;
    use crate::ops::testing::{apply, tensor};
    use crate::tensor::Data;

    #[test]
    fn the_axis_is_one_dimension_or_all_from_it_on() {
        let softmax = |axis, flatten, kind| {
            let x = tensor(&[1, 2, 2], Data::Float32(vec![1.0, 5.0, 1.0, 5.0]));
            let op = Op::Softmax(Softmax { axis, flatten, kind });
            apply(op, &[x]).unwrap().swap_remove(0).data
        };
        assert_eq!(softmax(1, false, Maximum::Soft), Data::Float32(vec![0.5; 4]));
        assert_eq!(
            softmax(-1, false, Maximum::Hard),
            Data::Float32(vec![0.0, 1.0, 0.0, 1.0])
        );
        assert_eq!(softmax(1, true, Maximum::Hard), Data::Float32(vec![0.0, 1.0, 0.0, 0.0]));
        assert_eq!(
            softmax(-2, false, Maximum::LogSoft),
            Data::Float32(vec![-std::f32::consts::LN_2; 4])
        );
    }
}
