//! The `ai.onnx` reductions (versions 1 to 20) and CumSum (versions 11, 14).
//!
//! Elements are added up in the order in which they lie, in their own type.

use super::Kernel;
use super::numbers::{integer, is_integer, write_integers};
use crate::engine::{Operands, RunError, Scratch};
use crate::program::Constants;
use crate::tensor::{Dtype, RANK_MAX, Shape, Tensor, Values};
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

/// What is made of the elements that fall together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reduction {
    /// Their sum.
    Sum,
    /// Their mean.
    Mean,
    /// The largest; NaN if there is one.
    Max,
    /// The smallest; NaN if there is one.
    Min,
    /// Their product.
    Prod,
    /// The sum of their squares.
    SumSquare,
    /// The sum of their magnitudes.
    L1,
    /// The square root of the sum of their squares.
    L2,
    /// The logarithm of their sum.
    LogSum,
    /// The logarithm of the sum of their exponentials.
    LogSumExp,
}

/// A tensor of numbers (`Max` and `Min` truth values too) reduced along axes.
///
/// The axes may come as a second operand of integers, in place of the
/// attribute.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reduce {
    /// What is made of the elements.
    pub kind: Reduction,
    /// The axes; negative ones count from the last. None of them means all.
    pub axes: Vec<i32>,
    /// Whether the axes stay with size 1.
    pub keep_dims: bool,
    /// None of them means none: every element is reduced by itself.
    pub noop_if_empty: bool,
}

/// Which element of the result each element of the operand goes to.
struct Plan {
    dims: Shape,
    /// Steps in the result along each dimension; 0 where it is reduced.
    steps: [usize; RANK_MAX],
    result: Shape,
    /// How many elements go to one of the result.
    count: usize,
}

impl Plan {
    fn new(shape: Shape, reduced: [bool; RANK_MAX], keep_dims: bool) -> Option<Plan> {
        let dims = shape.dims();
        let (mut steps, mut new) = ([0; RANK_MAX], [1; RANK_MAX]);
        let mut rank = 0;
        for (d, &dim) in dims.iter().enumerate() {
            if !reduced[d] || keep_dims {
                new[rank] = if reduced[d] { 1 } else { dim };
                rank += 1;
            }
        }
        let mut step = 1usize;
        let mut count = 1usize;
        for (d, &dim) in dims.iter().enumerate().rev() {
            if reduced[d] {
                count = count.saturating_mul(dim);
            } else {
                steps[d] = step;
                step = step.wrapping_mul(dim);
            }
        }
        Some(Plan {
            dims: shape,
            steps,
            result: Shape::new(&new[..rank]).and_then(super::numbers::bounded)?,
            count,
        })
    }

    /// Takes every element into its place of the result by `f`, which is given
    /// that place, what is there, and the element.
    fn accumulate<T: Copy>(&self, values: &[T], result: &mut [T], f: impl Fn(usize, T, T) -> T) {
        if values.is_empty() || result.is_empty() {
            return;
        }
        let Some((&last, outer)) = self.dims.dims().split_last() else {
            result[0] = f(0, result[0], values[0]);
            return;
        };
        let mut index = [0; RANK_MAX];
        let mut at = 0;
        for row in values.chunks_exact(last) {
            if self.steps[outer.len()] == 0 {
                result[at] = row.iter().fold(result[at], |sum, &v| f(at, sum, v));
            } else {
                for (i, (sum, &v)) in result[at..].iter_mut().zip(row).enumerate() {
                    *sum = f(at + i, *sum, v);
                }
            }
            for d in (0..outer.len()).rev() {
                index[d] += 1;
                at += self.steps[d];
                if index[d] < outer[d] {
                    break;
                }
                at -= self.steps[d] * outer[d];
                index[d] = 0;
            }
        }
    }
}

/// Numbers that are reduced.
trait Element: Copy + PartialOrd {
    const ZERO: Self;
    const ONE: Self;
    const LOWEST: Self;
    const HIGHEST: Self;
    fn plus(self, other: Self) -> Self;
    fn times(self, other: Self) -> Self;
    fn magnitude(self) -> Self;
    fn divided(self, count: usize) -> Self;
    fn root(self) -> Self;
    fn logarithm(self) -> Self;
    /// `e` to the power of how much this is above `max`.
    fn exponential(self, max: Self) -> Self;
    /// An infinite maximum is not subtracted.
    fn finite(self) -> Self;
}

macro_rules! float_element {
    ($t:ty, $sqrt:path, $log:path, $exp:path) => {
        impl Element for $t {
            const ZERO: $t = 0.0;
            const ONE: $t = 1.0;
            const LOWEST: $t = <$t>::NEG_INFINITY;
            const HIGHEST: $t = <$t>::INFINITY;
            fn plus(self, other: $t) -> $t {
                self + other
            }
            fn times(self, other: $t) -> $t {
                self * other
            }
            fn magnitude(self) -> $t {
                self.abs()
            }
            fn divided(self, count: usize) -> $t {
                self / count as $t
            }
            fn root(self) -> $t {
                $sqrt(self)
            }
            fn logarithm(self) -> $t {
                $log(self)
            }
            fn exponential(self, max: $t) -> $t {
                $exp(self - max)
            }
            fn finite(self) -> $t {
                if self.is_infinite() { 0.0 } else { self }
            }
        }
    };
}
float_element!(f32, libm::sqrtf, libm::logf, libm::expf);
float_element!(f64, libm::sqrt, libm::log, libm::exp);

impl Element for i64 {
    const ZERO: i64 = 0;
    const ONE: i64 = 1;
    const LOWEST: i64 = i64::MIN;
    const HIGHEST: i64 = i64::MAX;
    fn plus(self, other: i64) -> i64 {
        self.wrapping_add(other)
    }
    fn times(self, other: i64) -> i64 {
        self.wrapping_mul(other)
    }
    fn magnitude(self) -> i64 {
        self.wrapping_abs()
    }
    fn divided(self, count: usize) -> i64 {
        self.checked_div(count as i64).unwrap_or(0)
    }
    fn root(self) -> i64 {
        libm::sqrt(self as f64) as i64
    }
    fn logarithm(self) -> i64 {
        libm::log(self as f64) as i64
    }
    fn exponential(self, max: i64) -> i64 {
        libm::exp(self.wrapping_sub(max) as f64) as i64
    }
    fn finite(self) -> i64 {
        // Whose exponentials are no integers below it.
        0
    }
}

impl Reduction {
    fn run<T: Element>(self, plan: &Plan, values: &[T], result: &mut Vec<T>) {
        let larger = |a: T, v: T| if a >= v || a.partial_cmp(&a).is_none() { a } else { v };
        let smaller = |a: T, v: T| if a <= v || a.partial_cmp(&a).is_none() { a } else { v };
        let (start, step): (T, fn(T, T) -> T) = match self {
            Reduction::Sum | Reduction::Mean | Reduction::LogSum => (T::ZERO, T::plus),
            Reduction::Max | Reduction::LogSumExp => (T::LOWEST, larger),
            Reduction::Min => (T::HIGHEST, smaller),
            Reduction::Prod => (T::ONE, T::times),
            Reduction::SumSquare | Reduction::L2 => (T::ZERO, |a, v| a.plus(v.times(v))),
            Reduction::L1 => (T::ZERO, |a, v| a.plus(v.magnitude())),
        };
        result.resize(plan.result.len(), start);
        match self {
            // The usual ones without a call for each element.
            Reduction::Sum | Reduction::Mean => plan.accumulate(values, result, |_, a, v| a.plus(v)),
            _ => plan.accumulate(values, result, |_, a, v| step(a, v)),
        }
        match self {
            Reduction::Mean => result.iter_mut().for_each(|v| *v = v.divided(plan.count)),
            Reduction::L2 => result.iter_mut().for_each(|v| *v = v.root()),
            Reduction::LogSum => result.iter_mut().for_each(|v| *v = v.logarithm()),
            Reduction::LogSumExp => {
                let max: Vec<T> = result.iter().map(|v| v.finite()).collect();
                result.fill(T::ZERO);
                plan.accumulate(values, result, |at, a, v| a.plus(v.exponential(max[at])));
                for (v, &max) in result.iter_mut().zip(&max) {
                    *v = v.logarithm().plus(max);
                }
            }
            _ => {}
        }
    }
}

impl Kernel for Reduce {
    const NAME: &'static str = "Reduce";
    const INPUTS: RangeInclusive<usize> = 1..=2;

    fn check(&self, _: &Constants<'_>) -> Result<(), String> {
        Ok(())
    }

    fn run(&self, operands: &Operands<'_>, out: &mut [Tensor], _: &mut Scratch) -> Result<(), RunError> {
        let x = operands.view(0)?;
        let mut reduced = [false; RANK_MAX];
        let mut mark = |axis: i64| {
            let axis = i32::try_from(axis).ok().and_then(|a| super::axis(a, x.shape.rank()));
            match axis {
                Some(axis) => reduced[axis] = true,
                None => return Err(operands.shape_error("axes within its rank", x.shape)),
            }
            Ok(())
        };
        let none = match operands.get(1) {
            Some(axes) if !matches!(axes.dtype(), Dtype::Int64 | Dtype::Int32) => {
                return Err(operands.dtype_error(axes.dtype()));
            }
            Some(axes) => {
                (0..axes.shape.len()).try_for_each(|i| mark(integer(axes, i)))?;
                axes.shape.is_empty()
            }
            None => {
                self.axes.iter().try_for_each(|&axis| mark(i64::from(axis)))?;
                self.axes.is_empty()
            }
        };
        if none && !self.noop_if_empty {
            reduced = [true; RANK_MAX];
        }
        let plan = Plan::new(x.shape, reduced, self.keep_dims)
            .ok_or_else(|| operands.shape_error("a smaller result", x.shape))?;
        let out = &mut out[0];
        let dtype = x.dtype();
        let truth_too = matches!(self.kind, Reduction::Max | Reduction::Min);
        match x.values {
            Values::Float32(v) => self.kind.run(&plan, v, out.write_f32(plan.result)),
            Values::Float64(v) => self.kind.run(&plan, v, out.write_f64(plan.result)),
            Values::Int64(v) => self.kind.run(&plan, v, out.write_i64(plan.result)),
            _ if is_integer(dtype) && (dtype != Dtype::Bool || truth_too) => {
                let values: Vec<i64> = (0..x.shape.len()).map(|i| integer(x, i)).collect();
                let mut result = Vec::new();
                self.kind.run(&plan, &values, &mut result);
                if values.is_empty() {
                    // The extremes of the type, not of the one computed in.
                    let (low, high) = match dtype {
                        Dtype::Int32 => (i64::from(i32::MIN), i64::from(i32::MAX)),
                        Dtype::Int8 => (-128, 127),
                        Dtype::Uint8 => (0, 255),
                        _ => (0, 1),
                    };
                    result.iter_mut().for_each(|v| *v = (*v).clamp(low, high));
                }
                write_integers(out, dtype, plan.result, &mut result.into_iter());
            }
            _ => return Err(operands.dtype_error(dtype)),
        }
        Ok(())
    }
}

/// For each element the sum of those up to it along an axis, which the second
/// operand names; float32, float64, int64 and int32.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CumSum {
    /// The element itself does not count.
    pub exclusive: bool,
    /// From the last element to the first.
    pub reverse: bool,
}

impl CumSum {
    fn run<T: Element>(&self, values: &[T], (len, inner): (usize, usize), result: &mut Vec<T>) {
        result.resize(values.len(), T::ZERO);
        let block = (len * inner).max(1);
        for (values, result) in values.chunks_exact(block).zip(result.chunks_exact_mut(block)) {
            for lane in 0..inner {
                let mut sum = T::ZERO;
                for i in 0..len {
                    let at = lane + inner * if self.reverse { len - 1 - i } else { i };
                    let with = sum.plus(values[at]);
                    result[at] = if self.exclusive { sum } else { with };
                    sum = with;
                }
            }
        }
    }
}

impl Kernel for CumSum {
    const NAME: &'static str = "CumSum";
    const INPUTS: RangeInclusive<usize> = 2..=2;

    fn check(&self, _: &Constants<'_>) -> Result<(), String> {
        Ok(())
    }

    fn run(&self, operands: &Operands<'_>, out: &mut [Tensor], _: &mut Scratch) -> Result<(), RunError> {
        let (x, axis) = (operands.view(0)?, operands.view(1)?);
        if axis.shape.len() != 1 || !matches!(axis.dtype(), Dtype::Int64 | Dtype::Int32) {
            return Err(operands.shape_error("an axis", axis.shape));
        }
        let dims = x.shape.dims();
        let axis = i32::try_from(integer(axis, 0))
            .ok()
            .and_then(|axis| super::axis(axis, dims.len()))
            .ok_or_else(|| operands.shape_error("an axis within its rank", x.shape))?;
        let lanes = (dims[axis], dims[axis + 1..].iter().product());
        let out = &mut out[0];
        match x.values {
            Values::Float32(v) => self.run(v, lanes, out.write_f32(x.shape)),
            Values::Float64(v) => self.run(v, lanes, out.write_f64(x.shape)),
            Values::Int64(v) => self.run(v, lanes, out.write_i64(x.shape)),
            Values::Int32(v) => {
                let values: Vec<i64> = v.iter().map(|&v| i64::from(v)).collect();
                let mut result = Vec::new();
                self.run(&values, lanes, &mut result);
                write_integers(out, Dtype::Int32, x.shape, &mut result.into_iter());
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

    fn reduce(kind: Reduction, axes: &[i32], keep_dims: bool, x: Tensor) -> Tensor {
        let op = Reduce {
            kind,
            axes: axes.to_vec(),
            keep_dims,
            noop_if_empty: false,
        };
        apply(Op::Reduce(op), &[x]).unwrap().swap_remove(0)
    }

    #[test]
    fn axes_anywhere_are_reduced() {
        let x = || tensor(&[2, 3, 2], Data::Int32((1..=12).collect()));
        let sum = |axes: &[i32], keep| reduce(Reduction::Sum, axes, keep, x());
        assert_eq!(sum(&[1], false), tensor(&[2, 2], Data::Int32(vec![9, 12, 27, 30])));
        assert_eq!(sum(&[-1, 0], true), tensor(&[1, 3, 1], Data::Int32(vec![18, 26, 34])));
        assert_eq!(sum(&[], false), tensor(&[], Data::Int32(vec![78])));
    }

    #[test]
    fn every_reduction_has_its_value() {
        let cases = [
            (Reduction::Sum, -1.0),
            (Reduction::Mean, -0.5),
            (Reduction::Max, 3.0),
            (Reduction::Min, -4.0),
            (Reduction::Prod, -12.0),
            (Reduction::SumSquare, 25.0),
            (Reduction::L1, 7.0),
            (Reduction::L2, 5.0),
            (Reduction::LogSumExp, 3.000_911_466_453_774),
        ];
        for (kind, expected) in cases {
            let out = reduce(kind, &[0], false, tensor(&[2], Data::Float64(vec![3.0, -4.0])));
            assert_eq!(out, tensor(&[], Data::Float64(vec![expected])), "{kind:?}");
        }
        let nan = reduce(
            Reduction::Max,
            &[0],
            false,
            tensor(&[3], Data::Float32(vec![1.0, f32::NAN, 2.0])),
        );
        assert!(matches!(&nan.data, Data::Float32(v) if v[0].is_nan()));
        let huge = reduce(
            Reduction::LogSumExp,
            &[0],
            false,
            tensor(&[2], Data::Float32(vec![1000.0, f32::NEG_INFINITY])),
        );
        assert_eq!(huge.data, Data::Float32(vec![1000.0]));
    }

    #[test]
    fn nothing_reduces_to_the_neutral_element() {
        let none = || tensor(&[2, 0], Data::Float32(vec![]));
        assert_eq!(
            reduce(Reduction::Sum, &[1], false, none()),
            tensor(&[2], Data::Float32(vec![0.0; 2]))
        );
        assert_eq!(
            reduce(Reduction::Min, &[1], false, none()),
            tensor(&[2], Data::Float32(vec![f32::INFINITY; 2]))
        );
        let bytes = tensor(&[0], Data::Uint8(vec![]));
        assert_eq!(
            reduce(Reduction::Max, &[0], false, bytes),
            tensor(&[], Data::Uint8(vec![0]))
        );
    }

    #[test]
    fn axes_may_be_an_operand_and_none_may_mean_none() {
        let op = Reduce {
            kind: Reduction::SumSquare,
            axes: Vec::new(),
            keep_dims: true,
            noop_if_empty: true,
        };
        let x = tensor(&[1, 2], Data::Float32(vec![3.0, -4.0]));
        let none = tensor(&[0], Data::Int64(vec![]));
        let squares = apply(Op::Reduce(op.clone()), &[x.clone(), none]).unwrap();
        assert_eq!(squares[0], tensor(&[1, 2], Data::Float32(vec![9.0, 16.0])));
        assert!(apply(Op::Reduce(op), &[x, tensor(&[1], Data::Int64(vec![2]))]).is_err());
    }

    #[test]
    fn sums_run_along_the_axis_in_both_directions() {
        let sum = |exclusive, reverse, axis: i64| {
            let x = tensor(&[2, 3], Data::Float64(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
            let op = Op::CumSum(CumSum { exclusive, reverse });
            apply(op, &[x, tensor(&[], Data::Int64(vec![axis]))])
                .unwrap()
                .swap_remove(0)
                .data
        };
        assert_eq!(
            sum(false, false, -1),
            Data::Float64(vec![1.0, 3.0, 6.0, 4.0, 9.0, 15.0])
        );
        assert_eq!(sum(true, true, 1), Data::Float64(vec![5.0, 3.0, 0.0, 11.0, 6.0, 0.0]));
        assert_eq!(sum(false, false, 0), Data::Float64(vec![1.0, 2.0, 3.0, 5.0, 7.0, 9.0]));
    }
}
