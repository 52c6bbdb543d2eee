//! Element by element: the activations and arithmetic of `ai.onnx`.
//!
//! Transcendental functions come from `libm`: the standard library's differ
//! between platforms, and even between two wasm targets.

use super::Kernel;
use super::numbers::{bounded, integer, is_integer, number, write_integers, write_numbers};
use crate::engine::{Operands, RunError, Scratch};
use crate::program::Constants;
use crate::tensor::{Dtype, RANK_MAX, Shape, Tensor, Values, View};
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

/// A function of one operand; the shape and the element type stay, but tests
/// (`Not`, `IsNan`, `IsInf`) yield truth values.
///
/// On float32 and float64; `Relu`, `Neg`, `Abs`, `Sign`, `Clip` and `Not` (bit by bit) on
/// integers too, `Not` on truth values.
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
    /// The nearest integer, of two the even one.
    Round,
    /// -1, 0 or 1; NaN of NaN.
    Sign,
    /// Sine.
    Sin,
    /// Cosine.
    Cos,
    /// Tangent.
    Tan,
    /// The inverse of the sine.
    Asin,
    /// The inverse of the cosine.
    Acos,
    /// The inverse of the tangent.
    Atan,
    /// Hyperbolic sine.
    Sinh,
    /// Hyperbolic cosine.
    Cosh,
    /// The inverse of the hyperbolic sine.
    Asinh,
    /// The inverse of the hyperbolic cosine.
    Acosh,
    /// The inverse of the hyperbolic tangent.
    Atanh,
    /// `max(x, 0) + min(0, alpha (exp(x / alpha) - 1))`.
    Celu(f32),
    /// `x` above alpha, else 0.
    ThresholdedRelu(f32),
    /// `x max(0, min(1, x / 6 + 1 / 2))`.
    HardSwish,
    /// `x tanh(ln(1 + exp(x)))`.
    Mish,
    /// `x / (1 + exp(-alpha x))`.
    Swish(f32),
    /// `x (1 + erf(x / sqrt 2)) / 2`.
    Gelu,
    /// `x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2`.
    GeluTanh,
    /// `x + bias` below `-lambda`, `x - bias` above `lambda`, else 0.
    Shrink {
        /// Half the width of what becomes 0.
        lambda: f32,
        /// How far the rest moves towards 0.
        bias: f32,
    },
    /// The nearest number of IEEE 754 binary16, of two the even one: what a
    /// cast to float16 leaves of a value.
    Half,
    /// Logical negation, of integers bit by bit.
    Not,
    /// Whether the value is not a number.
    IsNan,
    /// Whether the value is infinite, of the signs that count.
    IsInf {
        /// Negative infinity counts.
        negative: bool,
        /// Positive infinity counts.
        positive: bool,
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
                Unary::HardSigmoid { alpha, beta } => (alpha as $t * x + beta as $t).clamp(0.0, 1.0),
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
                    let x = if x < min { min } else { x };
                    if x > max { max } else { x }
                }
                // Seldom used: one computation in binary64 for both types.
                rare => rare.wide(x as f64) as $t,
            }
        }
    };
}

/// The nearest number of binary16, of two the even one; beyond its largest,
/// infinity.
fn round_to_half(x: f32) -> f32 {
    const SMALLEST_NORMAL: f32 = 1.0 / 16_384.0;
    if x.is_nan() {
        return x;
    }
    if x.abs() < SMALLEST_NORMAL {
        // The numbers around 0.75 are as far apart as subnormals of binary16.
        return ((x.abs() + 0.75) - 0.75).copysign(x);
    }
    let bits = x.to_bits();
    let rounded = f32::from_bits((bits + 0xfff + (bits >> 13 & 1)) & !0x1fff);
    if rounded.abs() > 65_504.0 {
        f32::INFINITY.copysign(x)
    } else {
        rounded
    }
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

    fn wide(self, x: f64) -> f64 {
        let function: fn(f64) -> f64 = match self {
            Unary::Round => libm::rint,
            Unary::Sin => libm::sin,
            Unary::Cos => libm::cos,
            Unary::Tan => libm::tan,
            Unary::Asin => libm::asin,
            Unary::Acos => libm::acos,
            Unary::Atan => libm::atan,
            Unary::Sinh => libm::sinh,
            Unary::Cosh => libm::cosh,
            Unary::Asinh => libm::asinh,
            Unary::Acosh => libm::acosh,
            Unary::Atanh => libm::atanh,
            Unary::Half => |x| f64::from(round_to_half(x as f32)),
            Unary::Sign => |x| if x == 0.0 || x.is_nan() { x } else { 1f64.copysign(x) },
            Unary::HardSwish => |x| x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
            Unary::Mish => |x| x * libm::tanh(Unary::Softplus.f64(x)),
            Unary::Gelu => |x| 0.5 * x * (1.0 + libm::erf(x * std::f64::consts::FRAC_1_SQRT_2)),
            Unary::GeluTanh => |x| {
                let root = 2.0 * std::f64::consts::FRAC_2_SQRT_PI * std::f64::consts::FRAC_1_SQRT_2 * 0.5;
                0.5 * x * (1.0 + libm::tanh(root * (x + 0.044_715 * x * x * x)))
            },
            Unary::Celu(alpha) => {
                let alpha = f64::from(alpha);
                return if x > 0.0 { x } else { alpha * libm::expm1(x / alpha) };
            }
            Unary::ThresholdedRelu(alpha) => return if x > f64::from(alpha) { x } else { 0.0 },
            Unary::Swish(alpha) => return x * logistic_f64(f64::from(alpha) * x),
            Unary::Shrink { lambda, bias } => {
                let (lambda, bias) = (f64::from(lambda), f64::from(bias));
                return match x {
                    x if x < -lambda => x + bias,
                    x if x > lambda => x - bias,
                    _ => 0.0,
                };
            }
            _ => |x| x,
        };
        function(x)
    }

    fn integer(self) -> Option<fn(Unary, i64) -> i64> {
        Some(match self {
            Unary::Relu => |_, x| x.max(0),
            Unary::Neg => |_, x| x.wrapping_neg(),
            Unary::Abs => |_, x| x.wrapping_abs(),
            Unary::Sign => |_, x| x.signum(),
            Unary::Not => |_, x| !x,
            Unary::Clip { .. } => |op, x| match op {
                Unary::Clip { min, max } => x.max(min as i64).min(max as i64),
                _ => x,
            },
            _ => return None,
        })
    }

    /// The test that this is, if it is one.
    fn test(self, x: View<'_>, index: usize) -> Option<bool> {
        Some(match self {
            Unary::Not => integer(x, index) == 0,
            Unary::IsNan => number(x, index).is_nan(),
            Unary::IsInf { negative, positive } => {
                let x = number(x, index);
                x == f64::INFINITY && positive || x == f64::NEG_INFINITY && negative
            }
            _ => return None,
        })
    }
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
            (Values::Bool(_), Unary::Not)
            | (Values::Float32(_) | Values::Float64(_), Unary::IsNan | Unary::IsInf { .. }) => {
                let results = (0..x.shape.len()).map(|i| u8::from(self.test(x, i) == Some(true)));
                out.write_bool(x.shape).extend(results);
            }
            (_, Unary::IsNan | Unary::IsInf { .. }) | (Values::Float32(_) | Values::Float64(_), Unary::Not) => {
                return Err(operands.dtype_error(x.dtype()));
            }
            (Values::Float32(v), _) => out.write_f32(x.shape).extend(v.iter().map(|&x| self.f32(x))),
            (Values::Float64(v), _) => out.write_f64(x.shape).extend(v.iter().map(|&x| self.f64(x))),
            (Values::Int64(_) | Values::Int32(_) | Values::Uint8(_) | Values::Int8(_), _) => {
                let function = self.integer().ok_or_else(|| operands.dtype_error(x.dtype()))?;
                let mut results = (0..x.shape.len()).map(|i| function(*self, integer(x, i)));
                write_integers(out, x.dtype(), x.shape, &mut results);
            }
            _ => return Err(operands.dtype_error(x.dtype())),
        }
        Ok(())
    }
}

/// A function of two operands, broadcast as numpy does.
///
/// Both are numbers of one element type, which the result has too; but the
/// exponent of `Pow` may be of another, comparisons yield truth values (and
/// `Equal` takes them), and logic is of truth values or integers.
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
    /// `a` to the power `b`.
    Pow,
    /// The remainder: of integers with the sign of `b`, of floats with that of
    /// `a`; 0 of integers by zero.
    Mod,
    /// The remainder with the sign of `a`.
    Fmod,
    /// `a` where it is not negative, else `a b`.
    PRelu,
    /// `a = b`.
    Equal,
    /// `a < b`.
    Less,
    /// `a <= b`.
    LessOrEqual,
    /// `a > b`.
    Greater,
    /// `a >= b`.
    GreaterOrEqual,
    /// Both; of integers bit by bit, as the next two.
    And,
    /// One or both.
    Or,
    /// Just one.
    Xor,
}

impl Binary {
    fn wide(self, a: f64, b: f64) -> f64 {
        match self {
            // What variances are made of.
            Binary::Pow if b == 2.0 => a * a,
            Binary::Pow => libm::pow(a, b),
            Binary::Mod | Binary::Fmod => libm::fmod(a, b),
            Binary::PRelu if a < 0.0 => a * b,
            _ => a,
        }
    }

    fn integer(self, a: i64, b: i64) -> i64 {
        match self {
            Binary::Add => a.wrapping_add(b),
            Binary::Sub => a.wrapping_sub(b),
            Binary::Mul => a.wrapping_mul(b),
            Binary::Div if b == 0 => 0,
            Binary::Div => a.wrapping_div(b),
            Binary::Max => a.max(b),
            Binary::Min => a.min(b),
            Binary::Pow => match u32::try_from(b) {
                Ok(b) => a.wrapping_pow(b),
                Err(_) => libm::pow(a as f64, b as f64) as i64,
            },
            Binary::Mod | Binary::Fmod if b == 0 => 0,
            Binary::Fmod => a.wrapping_rem(b),
            Binary::Mod => {
                let rest = a.wrapping_rem(b);
                if rest != 0 && (rest < 0) != (b < 0) {
                    rest + b
                } else {
                    rest
                }
            }
            Binary::PRelu if a < 0 => a.wrapping_mul(b),
            Binary::And => a & b,
            Binary::Or => a | b,
            Binary::Xor => a ^ b,
            _ => a,
        }
    }

    /// The test that this is, if it is one.
    fn test<T: PartialOrd>(self, a: T, b: T) -> Option<bool> {
        Some(match self {
            Binary::Equal => a == b,
            Binary::Less => a < b,
            Binary::LessOrEqual => a <= b,
            Binary::Greater => a > b,
            Binary::GreaterOrEqual => a >= b,
            _ => return None,
        })
    }

    /// Everything that has no loop of its own; `None` if the operand types
    /// don't fit.
    fn run_wide(self, a: View<'_>, b: View<'_>, layout: &Broadcast, out: &mut Tensor) -> Option<()> {
        let (left, right) = (a.dtype(), b.dtype());
        let truth = left == Dtype::Bool || right == Dtype::Bool;
        let fits = match self {
            Binary::And | Binary::Or | Binary::Xor => left == right && is_integer(left),
            Binary::Equal => left == right,
            Binary::Pow => !truth,
            _ => left == right && !truth,
        };
        if !fits || left == Dtype::String || right == Dtype::String {
            return None;
        }
        let integers = is_integer(left) && is_integer(right);
        if self.test(0, 0).is_some() {
            let results = layout.pairs().map(|(i, j)| match integers {
                true => self.test(integer(a, i), integer(b, j)),
                false => self.test(number(a, i), number(b, j)),
            });
            out.write_bool(layout.shape)
                .extend(results.map(|truth| u8::from(truth == Some(true))));
        } else if integers {
            let mut results = layout.pairs().map(|(i, j)| self.integer(integer(a, i), integer(b, j)));
            write_integers(out, left, layout.shape, &mut results);
        } else {
            let mut results = layout.pairs().map(|(i, j)| self.wide(number(a, i), number(b, j)));
            write_numbers(out, left, layout.shape, &mut results);
        }
        Some(())
    }
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
                    _ => layout.apply($a, $b, $out, |a, b| if a < b || a.is_nan() { a } else { b }),
                }
            };
        }
        let basic = matches!(
            self,
            Binary::Add | Binary::Sub | Binary::Mul | Binary::Div | Binary::Max | Binary::Min
        );
        match (a.values, b.values) {
            (Values::Float32(a), Values::Float32(b)) if basic => float!(a, b, out.write_f32(layout.shape)),
            (Values::Float64(a), Values::Float64(b)) if basic => float!(a, b, out.write_f64(layout.shape)),
            _ => self
                .run_wide(a, b, &layout, out)
                .ok_or_else(|| operands.dtype_error(b.dtype()))?,
        }
        Ok(())
    }
}

/// The second operand, moved to where the first one's axis is: its shape gets
/// as many dimensions of 1 at its end as make it begin at that axis of the
/// first. What a list of one number a channel needs to broadcast, and what the
/// `axis` of binary operators meant before version 7.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Align {
    /// The axis of the first operand; negative counts from the last.
    pub axis: i32,
}

impl Kernel for Align {
    const NAME: &'static str = "Align";
    const INPUTS: RangeInclusive<usize> = 2..=2;

    fn check(&self, _: &Constants<'_>) -> Result<(), String> {
        Ok(())
    }

    fn run(&self, operands: &Operands<'_>, out: &mut [Tensor], _: &mut Scratch) -> Result<(), RunError> {
        let (x, y) = (operands.view(0)?, operands.view(1)?);
        let rank = x.shape.rank();
        let shape = super::axis(self.axis, rank)
            .and_then(|axis| rank.checked_sub(axis + y.shape.rank()))
            .and_then(|ones| {
                let mut dims = [1; RANK_MAX];
                dims[..y.shape.rank()].copy_from_slice(y.shape.dims());
                Shape::new(dims.get(..y.shape.rank() + ones)?)
            })
            .ok_or_else(|| operands.shape_error(format!("a shape to align with axis {}", self.axis), y.shape))?;
        out[0].copy_from(y, shape);
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
            let mut step = 1usize;
            for (i, &dim) in shape.dims().iter().enumerate().rev() {
                let at = rank - shape.rank() + i;
                if dim != 1 {
                    if dims[at] != 1 && dims[at] != dim {
                        return None;
                    }
                    dims[at] = dim;
                    steps[operand][at] = step;
                }
                step = step.wrapping_mul(dim);
            }
        }
        Some(Broadcast {
            shape: Shape::new(&dims[..rank]).and_then(bounded)?,
            steps,
            equal: a == b,
        })
    }

    /// The positions in both operands of each element of the result.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let mut index = [0; RANK_MAX];
        let (mut a, mut b) = (0, 0);
        (0..self.shape.len()).map(move |_| {
            let pair = (a, b);
            for (d, &dim) in self.shape.dims().iter().enumerate().rev() {
                index[d] += 1;
                a += self.steps[0][d];
                b += self.steps[1][d];
                if index[d] < dim {
                    break;
                }
                a -= self.steps[0][d] * dim;
                b -= self.steps[1][d] * dim;
                index[d] = 0;
            }
            pair
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
    use crate::ops::Op;
    use crate::ops::testing::{apply, tensor};
    use crate::tensor::Data;

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

    #[test]
    fn rare_functions_have_their_known_values() {
        let cases = [
            (Unary::Round, 2.5, 2.0),
            (Unary::Round, -1.5, -2.0),
            (Unary::Sign, -3.0, -1.0),
            (Unary::Asinh, 1.0, 0.881_373_587_019_543),
            (Unary::Celu(2.0), -2.0, 2.0 * (-1f64).exp_m1()),
            (Unary::ThresholdedRelu(1.0), 1.0, 0.0),
            (Unary::HardSwish, 1.0, 2.0 / 3.0),
            (Unary::Mish, 1.0, 0.865_098_388_267_310_3),
            (Unary::Swish(1.0), 1.0, 0.731_058_578_630_004_9),
            (Unary::Gelu, 1.0, 0.841_344_746_068_542_9),
            (Unary::GeluTanh, 1.0, 0.841_191_990_608_276_8),
            (Unary::Shrink { lambda: 1.5, bias: 1.0 }, -2.0, -1.0),
            (Unary::Clip { min: 2.0, max: 1.0 }, 5.0, 1.0),
        ];
        for (op, x, expected) in cases {
            assert!((op.f64(x) - expected).abs() < 1e-14, "{op:?}: {}", op.f64(x));
            assert_eq!(op.f32(x as f32), op.f64(x) as f32, "{op:?}");
        }
    }

    #[test]
    fn halves_round_to_even_overflow_and_keep_subnormals() {
        let cases = [
            (2049.0, 2048.0),
            (2051.0, 2052.0),
            (65_519.0, 65_504.0),
            (65_520.0, f32::INFINITY),
            (-1e9, f32::NEG_INFINITY),
            (2f32.powi(-25), 0.0),
            (1.5 * 2f32.powi(-24), 2f32.powi(-23)),
            (-(2f32.powi(-14)), -(2f32.powi(-14))),
            (0.1, 0.099_975_586),
        ];
        for (x, expected) in cases {
            assert_eq!(round_to_half(x), expected, "{x}");
        }
        assert!(round_to_half(f32::NAN).is_nan());
    }

    fn binary(op: Binary, a: Data, b: Data) -> Result<Data, String> {
        let (a, b) = (tensor(&[a.len()], a), tensor(&[b.len()], b));
        apply(Op::Binary(op), &[a, b]).map(|mut out| out.swap_remove(0).data)
    }

    #[test]
    fn every_type_computes_and_tests_in_itself() {
        let f = |v: &[f32]| Data::Float32(v.to_vec());
        let cases = [
            (
                Binary::Sub,
                Data::Uint8(vec![1]),
                Data::Uint8(vec![2]),
                Data::Uint8(vec![255]),
            ),
            (
                Binary::Mod,
                Data::Int32(vec![-4, 7, 5, 1]),
                Data::Int32(vec![3, -3, 8, 0]),
                Data::Int32(vec![2, -2, 5, 0]),
            ),
            (
                Binary::Fmod,
                Data::Int8(vec![-4, 7]),
                Data::Int8(vec![3, -3]),
                Data::Int8(vec![-1, 1]),
            ),
            (Binary::Fmod, f(&[-4.3]), f(&[2.0]), f(&[-0.300_000_2])),
            (Binary::Pow, f(&[2.0, 3.0]), Data::Int64(vec![-1, 2]), f(&[0.5, 9.0])),
            (
                Binary::Pow,
                Data::Int64(vec![3, 4]),
                Data::Float32(vec![3.0, 0.5]),
                Data::Int64(vec![27, 2]),
            ),
            (
                Binary::Div,
                Data::Int64(vec![-7, 7]),
                Data::Int64(vec![2, 0]),
                Data::Int64(vec![-3, 0]),
            ),
            (
                Binary::LessOrEqual,
                f(&[1.0, f32::NAN]),
                f(&[1.0, 1.0]),
                Data::Bool(vec![1, 0]),
            ),
            (
                Binary::Equal,
                Data::Bool(vec![1, 0]),
                Data::Bool(vec![0, 0]),
                Data::Bool(vec![0, 1]),
            ),
            (
                Binary::And,
                Data::Uint8(vec![6]),
                Data::Uint8(vec![3]),
                Data::Uint8(vec![2]),
            ),
            (
                Binary::Xor,
                Data::Bool(vec![1, 0]),
                Data::Bool(vec![1]),
                Data::Bool(vec![0, 1]),
            ),
            (Binary::PRelu, f(&[-2.0, 2.0]), f(&[0.25]), f(&[-0.5, 2.0])),
            // 2^53 + 1 has no double of its own.
            (
                Binary::Greater,
                Data::Int64(vec![(1 << 53) + 1]),
                Data::Int64(vec![1 << 53]),
                Data::Bool(vec![1]),
            ),
        ];
        for (op, a, b, expected) in cases {
            assert_eq!(binary(op, a, b), Ok(expected), "{op:?}");
        }
        assert!(binary(Binary::And, f(&[1.0]), f(&[1.0])).is_err());
        assert!(binary(Binary::Add, f(&[1.0]), Data::Int64(vec![1])).is_err());
    }

    #[test]
    fn a_list_a_channel_aligns_with_its_axis() {
        let x = tensor(&[2, 3, 1, 2], Data::Float32(vec![0.0; 12]));
        let y = tensor(&[3], Data::Float32(vec![1.0, 2.0, 3.0]));
        let out = apply(Op::Align(Align { axis: 1 }), &[x.clone(), y.clone()]).unwrap();
        assert_eq!(out[0].shape.dims(), [3, 1, 1]);
        assert!(apply(Op::Align(Align { axis: 1 }), &[y, x]).is_err());
    }
}
