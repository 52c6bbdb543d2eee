//! `ai.onnx` operators whose values follow from shapes, bounds and positions:
//! Shape, Size, Range, EyeLike, OneHot and NonZero.

use super::{Kernel, axis, place};
use crate::engine::{Operands, RunError, Scratch};
use crate::program::Constants;
use crate::tensor::{RANK_MAX, Shape, Tensor, Values, View};
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

/// One of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Generate {
    /// Shape: the dimensions from `start` up to `end`, as int64; negative
    /// counts from the last. Versions 1 to 25.
    Shape {
        /// The first one.
        start: i64,
        /// The one after the last.
        end: i64,
    },
    /// Size: the number of elements, as int64. Versions 1 to 25.
    Size,
    /// Range: from the first operand on, below the second, in steps of the
    /// third; float32, float64, int64 or int32. As in ONNX Runtime every value
    /// is the sum of the one before it and the step. Version 11.
    Range,
    /// EyeLike: a matrix of the operand's shape with the second operand's
    /// second element on this diagonal and its first one elsewhere. Version 9.
    EyeLike(i64),
    /// OneHot: indices, their number, and the values off and on; a new axis of
    /// that number at this place. An index that is out of bounds is off
    /// everywhere. Versions 9 and 11.
    OneHot(i32),
    /// NonZero: the indices of the elements that are not 0, as int64
    /// `[rank, count]`. Versions 9 and 13.
    NonZero,
}

impl Kernel for Generate {
    const NAME: &'static str = "Generate";
    const INPUTS: RangeInclusive<usize> = 1..=3;

    fn check(&self, _: &Constants<'_>) -> Result<(), String> {
        Ok(())
    }

    fn run(&self, operands: &Operands<'_>, out: &mut [Tensor], _: &mut Scratch) -> Result<(), RunError> {
        let x = operands.view(0)?;
        let out = &mut out[0];
        match self {
            Generate::Shape { start, end } => {
                let rank = x.shape.rank() as i64;
                let at = |i: i64| (if i < 0 { i.saturating_add(rank) } else { i }).clamp(0, rank) as usize;
                let dims = x.shape.dims().get(at(*start)..at(*end)).unwrap_or(&[]);
                out.write_i64(Shape::vector(dims.len()))
                    .extend(dims.iter().map(|&d| d as i64));
                Ok(())
            }
            Generate::Size => {
                out.write_i64(Shape::default()).push(x.shape.len() as i64);
                Ok(())
            }
            Generate::Range => range(operands, out),
            Generate::EyeLike(diagonal) => eye_like(operands, x, *diagonal, out),
            Generate::OneHot(at) => one_hot(operands, x, *at, out),
            Generate::NonZero => non_zero(operands, x, out),
        }
    }
}

fn range(operands: &Operands<'_>, out: &mut Tensor) -> Result<(), RunError> {
    let (start, limit, step) = (operands.view(0)?, operands.view(1)?, operands.view(2)?);
    let single = |view: View<'_>| match view.shape.len() {
        1 => Ok(()),
        _ => Err(operands.shape_error("a single value", view.shape)),
    };
    single(start).and(single(limit)).and(single(step))?;
    // As a product with a float: what is not finite ends up at a bound.
    let count = |span: f64, step: f64| -> Result<Shape, RunError> {
        let count = if step == 0.0 { f64::NAN } else { libm::ceil(span / step) };
        let count = (!count.is_nan()).then_some(count.max(0.0) as usize);
        count
            .and_then(|count| Shape::new(&[count]))
            .ok_or_else(|| operands.shape_error("bounds of a shorter range", start.shape))
    };
    macro_rules! fill {
        ($write:ident, $start:expr, $step:expr, $span:expr, $next:expr) => {{
            let shape = count($span as f64, $step as f64)?;
            let out = out.$write(shape);
            let mut value = $start;
            for _ in 0..shape.len() {
                out.push(value);
                value = $next(value, $step);
            }
        }};
    }
    match (start.values, limit.values, step.values) {
        (Values::Float32(a), Values::Float32(b), Values::Float32(s)) => {
            fill!(write_f32, a[0], s[0], b[0] - a[0], |v: f32, s: f32| v + s)
        }
        (Values::Float64(a), Values::Float64(b), Values::Float64(s)) => {
            fill!(write_f64, a[0], s[0], b[0] - a[0], |v: f64, s: f64| v + s)
        }
        (Values::Int64(a), Values::Int64(b), Values::Int64(s)) => {
            fill!(
                write_i64,
                a[0],
                s[0],
                i128::from(b[0]) - i128::from(a[0]),
                i64::wrapping_add
            )
        }
        (Values::Int32(a), Values::Int32(b), Values::Int32(s)) => {
            fill!(
                write_i32,
                a[0],
                s[0],
                i64::from(b[0]) - i64::from(a[0]),
                i32::wrapping_add
            )
        }
        _ => return Err(operands.dtype_error(step.dtype())),
    }
    Ok(())
}

fn eye_like(operands: &Operands<'_>, x: View<'_>, diagonal: i64, out: &mut Tensor) -> Result<(), RunError> {
    let values = operands.view(1)?;
    if values.shape.len() != 2 {
        return Err(operands.shape_error("two values", values.shape));
    }
    let &[rows, columns] = x.shape.dims() else {
        return Err(operands.shape_error("a matrix", x.shape));
    };
    out.begin(values.dtype(), x.shape);
    for row in 0..rows {
        let on = diagonal.saturating_add(row as i64);
        match usize::try_from(on).ok().filter(|&on| on < columns) {
            Some(on) => {
                out.append_steps(values, 0, 0, on);
                out.append(values, 1..2);
                out.append_steps(values, 0, 0, columns - on - 1);
            }
            None => out.append_steps(values, 0, 0, columns),
        }
    }
    Ok(())
}

fn one_hot(operands: &Operands<'_>, x: View<'_>, at: i32, out: &mut Tensor) -> Result<(), RunError> {
    let (depth, values) = (operands.view(1)?, operands.view(2)?);
    if values.shape.len() != 2 {
        return Err(operands.shape_error("two values", values.shape));
    }
    let depth = depth
        .number(0)
        .filter(|&d| d >= 1.0 && depth.shape.len() == 1)
        .ok_or_else(|| operands.shape_error("a single depth above 0", depth.shape))? as usize;
    let old = x.shape.dims();
    let wrong = || operands.shape_error(format!("an axis {at} for {depth} values"), x.shape);
    let at = axis(at, old.len() + 1)
        .filter(|_| old.len() < RANK_MAX)
        .ok_or_else(wrong)?;
    let mut dims = [0; RANK_MAX];
    dims[..at].copy_from_slice(&old[..at]);
    dims[at] = depth;
    dims[at + 1..=old.len()].copy_from_slice(&old[at..]);
    let shape = Shape::new(&dims[..=old.len()]).ok_or_else(wrong)?;
    let (outer, inner) = (old[..at].iter().product::<usize>(), old[at..].iter().product::<usize>());
    let hot = |i: usize| -> Option<usize> {
        match x.values {
            Values::Int64(v) => place(v[i], depth),
            Values::Int32(v) => place(i64::from(v[i]), depth),
            // Towards zero, as ONNX Runtime reads floats here.
            _ => x.number(i).filter(|v| !v.is_nan()).and_then(|v| place(v as i64, depth)),
        }
    };
    if x.number(0).is_none() && !x.shape.is_empty() {
        return Err(operands.dtype_error(x.dtype()));
    }
    out.begin(values.dtype(), shape);
    for o in 0..outer {
        if inner == 1 {
            // Each index is a row of its own, which is written in three pieces.
            match hot(o) {
                Some(on) => {
                    out.append_steps(values, 0, 0, on);
                    out.append(values, 1..2);
                    out.append_steps(values, 0, 0, depth - on - 1);
                }
                None => out.append_steps(values, 0, 0, depth),
            }
            continue;
        }
        for d in 0..depth {
            for i in 0..inner {
                let on = usize::from(hot(o * inner + i) == Some(d));
                out.append(values, on..on + 1);
            }
        }
    }
    Ok(())
}

fn non_zero(operands: &Operands<'_>, x: View<'_>, out: &mut Tensor) -> Result<(), RunError> {
    if matches!(x.values, Values::String(_)) {
        return Err(operands.dtype_error(x.dtype()));
    }
    // A scalar counts as a vector of one.
    let one = [1];
    let dims = if x.shape.rank() == 0 { &one[..] } else { x.shape.dims() };
    let holds = |i: &usize| x.number(*i).is_some_and(|v| v != 0.0);
    let count = (0..x.shape.len()).filter(holds).count();
    let shape = Shape::new(&[dims.len(), count]).ok_or_else(|| operands.shape_error("fewer elements", x.shape))?;
    let out = out.write_i64(shape);
    for d in 0..dims.len() {
        let inner: usize = dims[d + 1..].iter().product();
        out.extend((0..x.shape.len()).filter(holds).map(|i| (i / inner % dims[d]) as i64));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Op;
    use crate::ops::testing::{floats, ints, run};

    #[test]
    fn values_are_those_of_the_specification() {
        let x = || Some(floats(&[2, 3], &[0., 1., f32::NAN, 3., 0., -0.0]));
        let scalar = |value: i64| Some(ints(&[], &[value]));
        struct Case(Generate, Vec<Option<Tensor>>, Tensor);
        let cases = [
            Case(
                Generate::Shape {
                    start: -1,
                    end: i64::MAX,
                },
                vec![x()],
                ints(&[1], &[3]),
            ),
            Case(Generate::Shape { start: 1, end: -1 }, vec![x()], ints(&[0], &[])),
            Case(Generate::Shape { start: 2, end: 0 }, vec![x()], ints(&[0], &[])),
            Case(Generate::Size, vec![x()], ints(&[], &[6])),
            Case(
                Generate::Range,
                vec![scalar(10), scalar(4), scalar(-3)],
                ints(&[2], &[10, 7]),
            ),
            Case(Generate::Range, vec![scalar(1), scalar(1), scalar(1)], ints(&[0], &[])),
            Case(
                Generate::EyeLike(-1),
                vec![x(), Some(ints(&[2], &[0, 1]))],
                ints(&[2, 3], &[0, 0, 0, 1, 0, 0]),
            ),
            Case(
                Generate::OneHot(-1),
                vec![Some(ints(&[3], &[1, -2, 7])), scalar(2), Some(floats(&[2], &[5., 6.]))],
                floats(&[3, 2], &[5., 6., 6., 5., 5., 5.]),
            ),
            Case(
                Generate::OneHot(0),
                vec![
                    Some(floats(&[2], &[1.9, f32::NAN])),
                    scalar(2),
                    Some(floats(&[2], &[5., 6.])),
                ],
                floats(&[2, 2], &[5., 5., 6., 5.]),
            ),
            Case(Generate::NonZero, vec![x()], ints(&[2, 3], &[0, 0, 1, 1, 2, 0])),
        ];
        for Case(op, operands, expected) in cases {
            assert_eq!(run(Op::Generate(op.clone()), &operands).unwrap(), [expected], "{op:?}");
        }
    }

    #[test]
    fn ranges_without_an_end_are_refused() {
        let range = |a: f32, b: f32, s: f32| {
            let operands = [a, b, s].map(|v| Some(floats(&[], &[v])));
            run(Op::Generate(Generate::Range), &operands)
        };
        assert!(range(0., 1., 0.).is_err());
        assert!(range(0., f32::INFINITY, 1.).is_err());
        assert!(range(f32::NAN, 1., 1.).is_err());
        assert_eq!(
            range(0., 0.35, 0.1).unwrap(),
            [floats(&[4], &[0., 0.1, 0.2, 0.1 + 0.1 + 0.1])]
        );
        let whole = [i64::MIN, i64::MAX, 1].map(|v| Some(ints(&[], &[v])));
        assert!(run(Op::Generate(Generate::Range), &whole).is_err());
    }
}
