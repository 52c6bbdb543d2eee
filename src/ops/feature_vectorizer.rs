//! `ai.onnx.ml` FeatureVectorizer, version 1.

use super::Kernel;
use super::lookup::ELEMENTS_MAX;
use crate::engine::{Operands, RunError, Scratch};
use crate::program::Constants;
use crate::tensor::{Shape, Tensor, Values, View};
use serde::{Deserialize, Serialize};
use std::ops::{Range, RangeInclusive};

/// Columns of several operands side by side as float32, `[N, total]`.
///
/// Takes numbers of any type, `[N, C]` or `[C]`, which is one row. An operand
/// with more columns than its size is cut, one with fewer filled up with 0.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FeatureVectorizer {
    /// The number of columns of each operand.
    pub sizes: Vec<u32>,
}

/// Appends elements as float32; false if they are no numbers.
fn append(x: View<'_>, range: Range<usize>, out: &mut Vec<f32>) -> bool {
    match x.values {
        Values::Float32(v) => out.extend_from_slice(&v[range]),
        // Not by way of binary64, which would round twice.
        Values::Int64(v) => out.extend(v[range].iter().map(|&v| v as f32)),
        Values::String(_) => return false,
        _ => out.extend(range.filter_map(|i| x.number(i)).map(|v| v as f32)),
    }
    true
}

impl Kernel for FeatureVectorizer {
    const NAME: &'static str = "FeatureVectorizer";
    const INPUTS: RangeInclusive<usize> = 1..=65_535;

    fn check(&self, _: &Constants<'_>) -> Result<(), String> {
        match self.sizes.iter().map(|&s| u64::from(s)).sum::<u64>() {
            total if total > ELEMENTS_MAX as u64 => Err(format!("{total} columns")),
            _ => Ok(()),
        }
    }

    fn run(&self, operands: &Operands<'_>, out: &mut [Tensor], _: &mut Scratch) -> Result<(), RunError> {
        let first = operands.view(0)?.shape;
        if operands.len() != self.sizes.len() {
            return Err(operands.shape_error(format!("{} operands", self.sizes.len()), first));
        }
        let (rows, _) = first.as_rows();
        let total = self.sizes.iter().map(|&s| s as usize).sum();
        if rows.checked_mul(total).is_none_or(|len| len > ELEMENTS_MAX) {
            return Err(operands.shape_error("fewer rows", first));
        }
        let out = out[0].write_f32(Shape::matrix(rows, total));
        for row in 0..rows {
            for (index, &size) in self.sizes.iter().enumerate() {
                let x = operands.view(index)?;
                let (x_rows, columns) = x.shape.as_rows();
                if x_rows != rows {
                    return Err(operands.shape_error(format!("{rows} rows"), x.shape));
                }
                let used = columns.min(size as usize);
                let start = row * columns;
                if !append(x, start..start + used, out) {
                    return Err(operands.dtype_error(x.dtype()));
                }
                out.resize(out.len() + size as usize - used, 0.0);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Op;
    use crate::ops::testing::{apply_made, tensor, texts};
    use crate::tensor::Data;

    #[test]
    fn operands_are_cut_or_filled_to_their_sizes() {
        let op = |_: &mut _| Op::FeatureVectorizer(FeatureVectorizer { sizes: vec![1, 3] });
        let a = tensor(&[2, 2], Data::Int64(vec![1, 2, 3, 4]));
        let b = tensor(&[2, 2], Data::Float64(vec![0.5, 0.25, f64::NAN, 1e39]));
        let result = apply_made(op, &[a.clone(), b]).unwrap();
        let Data::Float32(v) = &result[0].data else { panic!() };
        assert_eq!(v[..4], [1.0, 0.5, 0.25, 0.0]);
        assert!(v[4] == 3.0 && v[5].is_nan() && v[6] == f32::INFINITY && v[7] == 0.0);
        let wrong = texts(&[2, 1], &["a", "b"]);
        assert!(matches!(apply_made(op, &[a, wrong]), Err(RunError::Dtype { .. })));
    }
}
