//! `ai.onnx` TopK, versions 1 to 24.

use super::Kernel;
use super::numbers::{integer, is_integer, number};
use crate::engine::{Operands, RunError, Scratch};
use crate::program::Constants;
use crate::tensor::{Dtype, RANK_MAX, Shape, Tensor, View};
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

/// The `k` largest or smallest elements along an axis in order, and their
/// indices (int64). Of equal elements the one with the lower index comes
/// first; NaN comes after all numbers.
///
/// How many is the second operand: one integer. Elements are numbers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TopK {
    /// The axis; negative counts from the last.
    pub axis: i32,
    /// The largest, not the smallest.
    pub largest: bool,
}

impl TopK {
    /// Integers in whose ascending order the elements are to come.
    fn key(&self, x: View<'_>, at: usize) -> i64 {
        let key = if is_integer(x.dtype()) {
            integer(x, at)
        } else {
            // Adding zero makes both zeros one.
            let value = number(x, at) + 0.0;
            if value.is_nan() {
                return i64::MAX;
            }
            let bits = value.to_bits() as i64;
            if bits < 0 { bits ^ i64::MAX } else { bits }
        };
        if self.largest { !key } else { key }
    }
}

impl Kernel for TopK {
    const NAME: &'static str = "TopK";
    const INPUTS: RangeInclusive<usize> = 2..=2;
    const OUTPUTS: usize = 2;

    fn check(&self, _: &Constants<'_>) -> Result<(), String> {
        Ok(())
    }

    fn run(&self, operands: &Operands<'_>, out: &mut [Tensor], _: &mut Scratch) -> Result<(), RunError> {
        let (x, k) = (operands.view(0)?, operands.view(1)?);
        if matches!(x.dtype(), Dtype::String | Dtype::Bool) {
            return Err(operands.dtype_error(x.dtype()));
        }
        if !matches!(k.dtype(), Dtype::Int64 | Dtype::Int32) || k.shape.len() != 1 {
            return Err(operands.shape_error("how many as one integer", k.shape));
        }
        let dims = x.shape.dims();
        let Some(axis) = super::axis(self.axis, dims.len()) else {
            return Err(operands.shape_error(format!("an axis {}", self.axis), x.shape));
        };
        let (len, inner) = (dims[axis], dims[axis + 1..].iter().product::<usize>());
        let k = integer(k, 0);
        let k = usize::try_from(k)
            .ok()
            .filter(|&k| k <= len)
            .ok_or_else(|| operands.shape_error(format!("{k} elements along axis {axis}"), x.shape))?;
        let mut new = [0; RANK_MAX];
        new[..dims.len()].copy_from_slice(dims);
        new[axis] = k;
        let shape = Shape::new(&new[..dims.len()]).unwrap_or_default();
        let [values, indices] = out else {
            return Ok(());
        };
        values.begin(x.dtype(), shape);
        let indices = indices.write_i64(shape);
        if shape.is_empty() {
            return Ok(());
        }
        let mut order: Vec<(i64, usize)> = Vec::with_capacity(len);
        let mut picked = vec![0; k * inner];
        for start in (0..x.shape.len()).step_by(len * inner) {
            for lane in 0..inner {
                order.clear();
                order.extend((0..len).map(|i| (self.key(x, start + i * inner + lane), i)));
                if k < len {
                    order.select_nth_unstable(k);
                }
                order[..k].sort_unstable();
                for (i, &(_, index)) in order[..k].iter().enumerate() {
                    picked[i * inner + lane] = index;
                }
            }
            for (at, &index) in picked.iter().enumerate() {
                let from = start + index * inner + at % inner;
                values.append(x, from..from + 1);
                indices.push(index as i64);
            }
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

    fn top(k: i64, axis: i32, largest: bool, x: Tensor) -> Result<(Data, Data), String> {
        let out = apply(
            Op::TopK(TopK { axis, largest }),
            &[x, tensor(&[1], Data::Int64(vec![k]))],
        )?;
        let [values, indices] = <[Tensor; 2]>::try_from(out).unwrap();
        assert_eq!(values.shape, indices.shape);
        Ok((values.data, indices.data))
    }

    #[test]
    fn ties_go_to_the_lower_index_and_nan_comes_last() {
        let x = || tensor(&[5], Data::Float32(vec![1.0, f32::NAN, 2.0, 2.0, -3.0]));
        let largest = top(3, 0, true, x()).unwrap();
        assert_eq!(
            largest,
            (Data::Float32(vec![2.0, 2.0, 1.0]), Data::Int64(vec![2, 3, 0]))
        );
        let smallest = top(2, -1, false, x()).unwrap();
        assert_eq!(smallest, (Data::Float32(vec![-3.0, 1.0]), Data::Int64(vec![4, 0])));
        assert_eq!(top(5, 0, false, x()).unwrap().1, Data::Int64(vec![4, 0, 2, 3, 1]));
        assert!(top(6, 0, true, x()).is_err());
        assert!(top(-1, 0, true, x()).is_err());
    }

    #[test]
    fn another_axis_keeps_its_lanes_apart() {
        let x = tensor(&[3, 2], Data::Int64(vec![1, 20, 3, i64::MIN, 2, 10]));
        let got = top(2, 0, true, x).unwrap();
        assert_eq!(got, (Data::Int64(vec![3, 20, 2, 10]), Data::Int64(vec![1, 0, 2, 2])));
        let zeros = tensor(&[2], Data::Float64(vec![-0.0, 0.0]));
        assert_eq!(top(1, 0, true, zeros).unwrap().1, Data::Int64(vec![0]));
    }
}
