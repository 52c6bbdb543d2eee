//! Element by element: the activations and arithmetic of `ai.onnx`.
//!
//! Transcendental functions come from `libm`: the standard library's differ
//! between platforms, and even between two wasm targets.

use super::Kernel;
use crate::engine::{Operands, RunError, Scratch};
use crate::program::Constants;
use crate::tensor::{RANK_MAX, Shape, Tensor, Values};
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

/// A function of one operand, float32 or float64 (`Neg` and `Abs` integers
/// too); the shape stays.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Unary {
    /// `max(x, 0)`.
    Relu,
    /// `x` above 0, else `alpha x`.
    LeakyRelu(f32),
    /// `x` above 0, else `alpha (exp(x) - 1)`.
    Elu(f32),
    /// `gamma x` above 0, else `gamma (alpha exp(x) - alpha)`.
    Selu {
        /// Factor of the exponential.
        alpha: f32,
        /// Factor of both branches.
        gamma: f32,
    },
    /// `min(max(alpha x + beta, 0), 1)`.
    HardSigmoid {
        /// Slope.
        alpha: f32,
        /// Value at 0.
        beta: f32,
    },
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
    /// `ln(1 + exp(x))`.
    Softplus,
    /// `x / (1 + |x|)`.
    Softsign,
    /// `e^x`.
    Exp,
    /// Natural logarithm.
    Log,
    /// Square root.
    Sqrt,
    /// The error function.
    Erf,
    /// `-x`.
    Neg,
    /// `|x|`.
    Abs,
    /// `1 / x`.
    Reciprocal,
    /// The largest integer not above.
    Floor,
    /// The smallest integer not below.
    Ceil,
    /// Held between two bounds.
    Clip {
        /// The lower one.
        min: f64,
        /// The upper one.
        max: f64,
    },
}

macro_rules! float_unary {
    ($name:ident, $t:ty, $logistic:expr, $tanh:path, $exp:path, $expm1:path, $log:path, $log1p:path, $erf:path, $floor:path, $ceil:path) => {
        fn $name(self, x: $t) -> $t {
            match self {
                Unary::Relu => {
                    if x < 0.0 {
                        0.0
                    } else {
                        x
                    }
                }
                Unary::LeakyRelu(alpha) => {
                    if x >= 0.0 {
                        x
                    } else {
                        alpha as $t * x
                    }
                }
                Unary::Elu(alpha) => {
                    if x > 0.0 {
                        x
                    } else {
                        alpha as $t * $expm1(x)
                    }
                }
                Unary::Selu { alpha, gamma } => {
                    let (alpha, gamma) = (alpha as $t, gamma as $t);
                    if x > 0.0 {
                        gamma * x
                    } else {
                        gamma * (alpha * $exp(x) - alpha)
                    }
                }
                Unary::HardSigmoid { alpha, beta } => (alpha as $t * x + beta as $t).max(0.0).min(1.0),
                Unary::Sigmoid => $logistic(x),
                Unary::Tanh => $tanh(x),
                Unary::Softplus => {
                    if x > 0.0 {
                        x + $log1p($exp(-x))
                    } else {
                        $log1p($exp(x))
                    }
                }
                Unary::Softsign => x / (1.0 + x.abs()),
                Unary::Exp => $exp(x),
                Unary::Log => $log(x),
                Unary::Sqrt => x.sqrt(),
                Unary::Erf => $erf(x),
                Unary::Neg => -x,
                Unary::Abs => x.abs(),
                Unary::Reciprocal => 1.0 / x,
                Unary::Floor => $floor(x),
                Unary::Ceil => $ceil(x),
                Unary::Clip { min, max } => {
                    let (min, max) = (min as $t, max as $t);
                    if x < min {
                        min
                    } else if x > max {
                        max
                    } else {
                        x
                    }
                }
            }
        }
    };
}

fn logistic_f64(x: f64) -> f64 {
    let v = 1.0 / (1.0 + libm::exp(-x.abs()));
    if x < 0.0 { 1.0 - v } else { v }
}

impl Unary {
    float_unary!(
        f32,
        f32,
        super::post_transform::logistic,
        libm::tanhf,
        libm::expf,
        libm::expm1f,
        libm::logf,
        libm::log1pf,
        libm::erff,
        libm::floorf,
        libm::ceilf
    );
    float_unary!(
        f64,
        f64,
        logistic_f64,
        libm::tanh,
        libm::exp,
        libm::expm1,
        libm::log,
        libm::log1p,
        libm::erf,
        libm::floor,
        libm::ceil
    );
}

impl Kernel for Unary {
    const NAME: &'static str = "Unary";

    fn check(&self, _: &Constants<'_>) -> Result<(), String> {
        Ok(())
    }

    fn run(&self, operands: &Operands<'_>, out: &mut [Tensor], _: &mut Scratch) -> Result<(), RunError> {
        let x = operands.view(0)?;
        let out = &mut out[0];
        match (x.values, self) {
            (Values::Float32(v), Unary::Relu) => {
                // The one that every net runs on every value, as plain SIMD.
                out.write_f32(x.shape)
                    .extend(v.iter().map(|&x| if x < 0.0 { 0.0 } else { x }));
            }
            (Values::Float32(v), _) => out.write_f32(x.shape).extend(v.iter().map(|&x| self.f32(x))),
            (Values::Float64(v), _) => out.write_f64(x.shape).extend(v.iter().map(|&x| self.f64(x))),
            (Values::Int64(v), Unary::Neg) => out.write_i64(x.shape).extend(v.iter().map(|x| x.wrapping_neg())),
            (Values::Int64(v), Unary::Abs) => out.write_i64(x.shape).extend(v.iter().map(|x| x.wrapping_abs())),
            _ => return Err(operands.dtype_error(x.dtype())),
        }
        Ok(())
    }
}

/// A function of two operands of one element type, broadcast as numpy does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Binary {
    /// `a + b`.
    Add,
    /// `a - b`.
    Sub,
    /// `a b`.
    Mul,
    /// `a / b`; integers towards zero, by zero gives 0.
    Div,
    /// The larger.
    Max,
    /// The smaller.
    Min,
}

impl Kernel for Binary {
    const NAME: &'static str = "Binary";
    const INPUTS: RangeInclusive<usize> = 2..=2;

    fn check(&self, _: &Constants<'_>) -> Result<(), String> {
        Ok(())
    }

    fn run(&self, operands: &Operands<'_>, out: &mut [Tensor], _: &mut Scratch) -> Result<(), RunError> {
        let (a, b) = (operands.view(0)?, operands.view(1)?);
        let Some(layout) = Broadcast::new(a.shape, b.shape) else {
            return Err(operands.shape_error(format!("a shape to broadcast with {:?}", a.shape), b.shape));
        };
        let out = &mut out[0];
        macro_rules! float {
            ($a:expr, $b:expr, $out:expr) => {
                match self {
                    Binary::Add => layout.apply($a, $b, $out, |a, b| a + b),
                    Binary::Sub => layout.apply($a, $b, $out, |a, b| a - b),
                    Binary::Mul => layout.apply($a, $b, $out, |a, b| a * b),
                    Binary::Div => layout.apply($a, $b, $out, |a, b| a / b),
                    Binary::Max => layout.apply($a, $b, $out, |a, b| if a > b || a.is_nan() { a } else { b }),
                    Binary::Min => layout.apply($a, $b, $out, |a, b| if a < b || a.is_nan() { a } else { b }),
                }
            };
        }
        macro_rules! int {
            ($a:expr, $b:expr, $out:expr) => {
                match self {
                    Binary::Add => layout.apply($a, $b, $out, |a, b| a.wrapping_add(b)),
                    Binary::Sub => layout.apply($a, $b, $out, |a, b| a.wrapping_sub(b)),
                    Binary::Mul => layout.apply($a, $b, $out, |a, b| a.wrapping_mul(b)),
                    Binary::Div => layout.apply($a, $b, $out, |a, b| if b == 0 { 0 } else { a.wrapping_div(b) }),
                    Binary::Max => layout.apply($a, $b, $out, |a, b| a.max(b)),
                    Binary::Min => layout.apply($a, $b, $out, |a, b| a.min(b)),
                }
            };
        }
        match (a.values, b.values) {
            (Values::Float32(a), Values::Float32(b)) => float!(a, b, out.write_f32(layout.shape)),
            (Values::Float64(a), Values::Float64(b)) => float!(a, b, out.write_f64(layout.shape)),
            (Values::Int64(a), Values::Int64(b)) => int!(a, b, out.write_i64(layout.shape)),
            (Values::Int32(a), Values::Int32(b)) => int!(a, b, out.write_i32(layout.shape)),
            _ => return Err(operands.dtype_error(b.dtype())),
        }
        Ok(())
    }
}

/// Two shapes under numpy's broadcasting: the result's, and for each operand
/// the step in elements along each of its dimensions (0 where it repeats).
pub(crate) struct Broadcast {
    pub(crate) shape: Shape,
    steps: [[usize; RANK_MAX]; 2],
    equal: bool,
}

impl Broadcast {
    pub(crate) fn new(a: Shape, b: Shape) -> Option<Broadcast> {
        let rank = a.rank().max(b.rank());
        let mut dims = [1; RANK_MAX];
        let mut steps = [[0; RANK_MAX]; 2];
        for (operand, shape) in [a, b].iter().enumerate() {
            let mut step = 1;
            for (i, &dim) in shape.dims().iter().enumerate().rev() {
                let at = rank - shape.rank() + i;
                if dim != 1 {
                    if dims[at] != 1 && dims[at] != dim {
                        return None;
                    }
                    dims[at] = dim;
                    steps[operand][at] = step;
                }
                step *= dim;
            }
        }
        Some(Broadcast {
            shape: Shape::new(&dims[..rank])?,
            steps,
            equal: a == b,
        })
    }

    fn apply<T: Copy, R>(&self, a: &[T], b: &[T], out: &mut Vec<R>, f: impl Fn(T, T) -> R) {
        if self.equal {
            out.extend(a.iter().zip(b).map(|(&a, &b)| f(a, b)));
            return;
        }
        let dims = self.shape.dims();
        if self.shape.is_empty() {
            return;
        }
        let Some((&last, outer)) = dims.split_last() else {
            out.push(f(a[0], b[0]));
            return;
        };
        let (step_a, step_b) = (self.steps[0][dims.len() - 1], self.steps[1][dims.len() - 1]);
        let mut index = [0; RANK_MAX];
        for _ in 0..outer.iter().product::<usize>() {
            let base = |operand: usize| -> usize { (0..outer.len()).map(|d| index[d] * self.steps[operand][d]).sum() };
            let (a, b) = (&a[base(0)..], &b[base(1)..]);
            if (step_a, step_b) == (1, 1) {
                // A matrix and a vector, as in every dense layer.
                out.extend(a[..last].iter().zip(&b[..last]).map(|(&a, &b)| f(a, b)));
            } else {
                out.extend((0..last).map(|i| f(a[i * step_a], b[i * step_b])));
            }
            for d in (0..outer.len()).rev() {
                index[d] += 1;
                if index[d] < outer[d] {
                    break;
                }
                index[d] = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_broadcast_as_numpy_does() {
        let shape = |dims: &[usize]| Shape::new(dims).unwrap();
        let result = |a: &[usize], b: &[usize]| Broadcast::new(shape(a), shape(b)).map(|l| l.shape.dims().to_vec());
        assert_eq!(result(&[3, 1], &[4]), Some(vec![3, 4]));
        assert_eq!(result(&[2, 3], &[]), Some(vec![2, 3]));
        assert_eq!(result(&[2, 3], &[2]), None);
        assert_eq!(result(&[0, 3], &[1]), Some(vec![0, 3]));
        let layout = Broadcast::new(shape(&[2, 1]), shape(&[1, 3])).unwrap();
        let mut out = Vec::new();
        layout.apply(&[10, 20], &[1, 2, 3], &mut out, |a, b| a + b);
        assert_eq!(out, [11, 12, 13, 21, 22, 23]);
    }

    #[test]
    fn activations_have_their_known_values() {
        assert_eq!(Unary::Relu.f32(-1.0), 0.0);
        assert!(Unary::Relu.f32(f32::NAN).is_nan());
        assert_eq!(Unary::LeakyRelu(0.5).f32(-2.0), -1.0);
        assert_eq!(Unary::Sigmoid.f64(0.0), 0.5);
        assert!((Unary::Erf.f64(0.5) - 0.520_499_877_813_046_5).abs() < 1e-15);
        assert!((Unary::Softplus.f32(100.0) - 100.0).abs() < 1e-5);
        assert_eq!(Unary::Clip { min: 0.0, max: 6.0 }.f32(7.5), 6.0);
    }
}
