//! `ai.onnx.ml` Binarizer, version 1.

use super::Kernel;
use crate::engine::{Operands, RunError, Scratch};
use crate::program::Constants;
use crate::tensor::{Tensor, Values};
use serde::{Deserialize, Serialize};

/// 1 where an element is above the threshold, else 0; the same shape and type.
///
/// Takes float32, float64, int64 and int32. NaN is an error, as in ONNX
/// Runtime.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Binarizer {
    /// The threshold.
    pub threshold: f32,
}

impl Kernel for Binarizer {
    const NAME: &'static str = "Binarizer";

    fn check(&self, _: &Constants<'_>) -> Result<(), String> {
        Ok(())
    }

    fn run(&self, operands: &Operands<'_>, out: &mut [Tensor], _: &mut Scratch) -> Result<(), RunError> {
        let x = operands.view(0)?;
        let threshold = f64::from(self.threshold);
        let numbers = || (0..x.shape.len()).filter_map(|i| x.number(i));
        if numbers().any(f64::is_nan) {
            return Err(operands.value_error("an element is NaN"));
        }
        let above = numbers().map(|x| x > threshold);
        let out = &mut out[0];
        match x.values {
            Values::Float32(_) => out.write_f32(x.shape).extend(above.map(|a| f32::from(u8::from(a)))),
            Values::Float64(_) => out.write_f64(x.shape).extend(above.map(f64::from)),
            Values::Int64(_) => out.write_i64(x.shape).extend(above.map(i64::from)),
            Values::Int32(_) => out.write_i32(x.shape).extend(above.map(i32::from)),
            _ => return Err(operands.dtype_error(x.dtype())),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Op;
    use crate::ops::testing::{apply_made, tensor};
    use crate::tensor::Data;

    #[test]
    fn the_threshold_itself_is_not_above_it_and_nan_is_refused() {
        let op = |_: &mut _| Op::Binarizer(Binarizer { threshold: 1.0 });
        let x = tensor(&[3], Data::Float32(vec![1.0, 1.5, f32::NEG_INFINITY]));
        assert_eq!(
            apply_made(op, &[x]).unwrap()[0],
            tensor(&[3], Data::Float32(vec![0.0, 1.0, 0.0]))
        );
        let nan = tensor(&[1], Data::Float32(vec![f32::NAN]));
        assert!(matches!(apply_made(op, &[nan]), Err(RunError::Value { .. })));
    }
}
