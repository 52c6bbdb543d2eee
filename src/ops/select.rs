//! `ai.onnx` operators that choose or replace elements by what other operands
//! say: Where, Compress, GatherElements, GatherND, ScatterElements and
//! ScatterND, of any element type.

use super::rearrange::{advance, strides};
use super::{Kernel, axis, place};
use crate::engine::{Operands, RunError, Scratch};
use crate::program::Constants;
use crate::tensor::{Data, Dtype, RANK_MAX, Shape, Tensor, Values, View};
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

/// One of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Select {
    /// Where: the second operand's element where the first, bool, is true, else
    /// the third's; all broadcast. Versions 9 and 16.
    Where,
    /// Compress: what the second operand, bool, keeps along the axis, or of all
    /// elements in a row; it may be shorter. Versions 9 and 11.
    Compress(Option<i32>),
    /// GatherElements: for each index the element at its own place, but along
    /// the axis at the index. Versions 11 and 13.
    GatherElements(i32),
    /// GatherND: indices `[..., k]` each name an element or a slice of the
    /// first operand, past so many dimensions in common. Versions 11 to 13.
    GatherNd {
        /// The number of dimensions in common.
        batch: u8,
    },
    /// ScatterElements: the first operand with the third's elements at the
    /// places that GatherElements would take them from. Also Scatter. Versions
    /// 9 to 18.
    ScatterElements {
        /// The axis; negative counts from the last.
        axis: i32,
        /// What becomes of the element that is there.
        reduce: Reduce,
    },
    /// ScatterND: the first operand with the third's slices at the places that
    /// GatherND would take them from. Versions 11 to 18.
    ScatterNd(Reduce),
}

/// How an update and the element in its place become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reduce {
    /// The update takes its place.
    Replace,
    /// Their sum; of bools whether one is true.
    Add,
    /// Their product; of bools whether both are true.
    Mul,
    /// The larger.
    Max,
    /// The smaller.
    Min,
}

impl Kernel for Select {
    const NAME: &'static str = "Select";
    const INPUTS: RangeInclusive<usize> = 2..=3;

    fn check(&self, _: &Constants<'_>) -> Result<(), String> {
        Ok(())
    }

    fn run(&self, operands: &Operands<'_>, out: &mut [Tensor], _: &mut Scratch) -> Result<(), RunError> {
        let out = &mut out[0];
        match self {
            Select::Where => choose(operands, out),
            Select::Compress(axis) => compress(operands, *axis, out),
            Select::GatherElements(axis) => gather_elements(operands, *axis, out),
            Select::GatherNd { batch } => gather_nd(operands, usize::from(*batch), out),
            Select::ScatterElements { axis, reduce } => scatter_elements(operands, *axis, *reduce, out),
            Select::ScatterNd(reduce) => scatter_nd(operands, *reduce, out),
        }
    }
}

fn choose(operands: &Operands<'_>, out: &mut Tensor) -> Result<(), RunError> {
    let views = [operands.view(0)?, operands.view(1)?, operands.view(2)?];
    let [condition, x, y] = views;
    let Values::Bool(holds) = condition.values else {
        return Err(operands.dtype_error(condition.dtype()));
    };
    if x.dtype() != y.dtype() {
        return Err(operands.dtype_error(y.dtype()));
    }
    let rank = views.iter().map(|v| v.shape.rank()).max().unwrap_or(0);
    let mut dims = [1; RANK_MAX];
    let mut steps = [[0; RANK_MAX]; 3];
    for (view, steps) in views.iter().zip(&mut steps) {
        let old = strides(view.shape.dims());
        for (i, &dim) in view.shape.dims().iter().enumerate() {
            let at = rank - view.shape.rank() + i;
            if dim != 1 {
                if dims[at] != 1 && dims[at] != dim {
                    return Err(operands.shape_error(format!("a shape to broadcast with {:?}", x.shape), view.shape));
                }
                dims[at] = dim;
                steps[at] = old[i] as usize;
            }
        }
    }
    let shape = Shape::new(&dims[..rank]).ok_or_else(|| operands.shape_error("a smaller result", x.shape))?;
    out.begin(x.dtype(), shape);
    let mut index = [0; RANK_MAX];
    let mut at = [0; 3];
    for _ in 0..shape.len() {
        let (from, i) = if holds[at[0]] != 0 { (x, at[1]) } else { (y, at[2]) };
        out.append(from, i..i + 1);
        for d in (0..rank).rev() {
            index[d] += 1;
            for (at, steps) in at.iter_mut().zip(&steps) {
                *at += steps[d];
            }
            if index[d] < dims[d] {
                break;
            }
            for (at, steps) in at.iter_mut().zip(&steps) {
                *at -= steps[d] * dims[d];
            }
            index[d] = 0;
        }
    }
    Ok(())
}

fn compress(operands: &Operands<'_>, at: Option<i32>, out: &mut Tensor) -> Result<(), RunError> {
    let (x, condition) = (operands.view(0)?, operands.view(1)?);
    let Values::Bool(keep) = condition.values else {
        return Err(operands.dtype_error(condition.dtype()));
    };
    let flat = [x.shape.len()];
    let dims = if at.is_some() { x.shape.dims() } else { &flat[..] };
    let at = at.unwrap_or(0);
    let at = axis(at, dims.len()).ok_or_else(|| operands.shape_error(format!("an axis {at}"), x.shape))?;
    let kept = || {
        keep.iter()
            .take(dims[at])
            .enumerate()
            .filter(|(_, k)| **k != 0)
            .map(|(i, _)| i)
    };
    let mut new = [0; RANK_MAX];
    new[..dims.len()].copy_from_slice(dims);
    new[at] = kept().count();
    let shape = Shape::new(&new[..dims.len()]).ok_or_else(|| operands.shape_error("a smaller operand", x.shape))?;
    let (outer, inner) = (
        dims[..at].iter().product::<usize>(),
        dims[at + 1..].iter().product::<usize>(),
    );
    out.begin(x.dtype(), shape);
    for o in 0..outer {
        for i in kept() {
            let start = (o * dims[at] + i) * inner;
            out.append(x, start..start + inner);
        }
    }
    Ok(())
}

/// Calls `each` with the number of every index and the place it means in `x`.
fn each_element(
    operands: &Operands<'_>,
    x: View<'_>,
    indices: View<'_>,
    at: i32,
    mut each: impl FnMut(usize, usize),
) -> Result<(), RunError> {
    let dims = x.shape.dims();
    let rank = dims.len();
    let at = axis(at, rank).ok_or_else(|| operands.shape_error(format!("an axis {at}"), x.shape))?;
    let picked = indices.shape.dims();
    if picked.len() != rank || (0..rank).any(|d| d != at && picked[d] > dims[d]) {
        return Err(operands.shape_error(format!("indices into {dims:?} along axis {at}"), indices.shape));
    }
    let strides = strides(dims);
    let mut index = [0; RANK_MAX];
    for i in 0..indices.shape.len() {
        let value = super::integer(operands, indices, i)?;
        let here = place(value, dims[at])
            .ok_or_else(|| operands.shape_error(format!("an element {value} along axis {at}"), x.shape))?;
        let offset: usize = (0..rank)
            .map(|d| strides[d] as usize * if d == at { here } else { index[d] })
            .sum();
        each(i, offset);
        advance(&mut index, picked);
    }
    Ok(())
}

/// Calls `each` with where in `x` the slice of every index tuple begins; the
/// slices have the length that is returned.
fn each_slice(
    operands: &Operands<'_>,
    x: View<'_>,
    indices: View<'_>,
    batch: usize,
    mut each: impl FnMut(usize),
) -> Result<usize, RunError> {
    let dims = x.shape.dims();
    let wrong = || operands.shape_error(format!("indices into {dims:?}"), indices.shape);
    let (&depth, outer) = indices.shape.dims().split_last().ok_or_else(wrong)?;
    if batch > outer.len() || batch > dims.len() || depth > dims.len() - batch || outer[..batch] != dims[..batch] {
        return Err(wrong());
    }
    let strides = strides(dims);
    let count: usize = outer.iter().product();
    let batches: usize = outer[..batch].iter().product();
    let block: usize = dims[batch..].iter().product();
    for i in 0..count {
        let mut start = i / (count / batches) * block;
        for k in 0..depth {
            let value = super::integer(operands, indices, i * depth + k)?;
            let here = place(value, dims[batch + k])
                .ok_or_else(|| operands.shape_error(format!("an element {value} along axis {}", batch + k), x.shape))?;
            start += here * strides[batch + k] as usize;
        }
        each(start);
    }
    Ok(dims[batch + depth..].iter().product())
}

fn gather_elements(operands: &Operands<'_>, at: i32, out: &mut Tensor) -> Result<(), RunError> {
    let (x, indices) = (operands.view(0)?, operands.view(1)?);
    out.begin(x.dtype(), indices.shape);
    each_element(operands, x, indices, at, |_, from| out.append(x, from..from + 1))
}

/// The shape of what index tuples name.
fn slices(operands: &Operands<'_>, x: View<'_>, indices: View<'_>, batch: usize) -> Result<Shape, RunError> {
    let wrong = || operands.shape_error(format!("indices into {:?}", x.shape), indices.shape);
    let (&depth, outer) = indices.shape.dims().split_last().ok_or_else(wrong)?;
    let rest = x.shape.dims().get(batch.saturating_add(depth)..).ok_or_else(wrong)?;
    let rank = outer.len() + rest.len();
    if rank > RANK_MAX {
        return Err(wrong());
    }
    let mut dims = [0; RANK_MAX];
    dims[..outer.len()].copy_from_slice(outer);
    dims[outer.len()..rank].copy_from_slice(rest);
    Shape::new(&dims[..rank]).ok_or_else(wrong)
}

fn gather_nd(operands: &Operands<'_>, batch: usize, out: &mut Tensor) -> Result<(), RunError> {
    let (x, indices) = (operands.view(0)?, operands.view(1)?);
    let shape = slices(operands, x, indices, batch)?;
    out.begin(x.dtype(), shape);
    let dims = x.shape.dims();
    let depth = indices.shape.dims().last().copied().unwrap_or(0);
    let len: usize = dims[batch + depth..].iter().product();
    each_slice(operands, x, indices, batch, |start| out.append(x, start..start + len)).map(drop)
}

fn scatter_elements(operands: &Operands<'_>, at: i32, reduce: Reduce, out: &mut Tensor) -> Result<(), RunError> {
    let (x, indices, updates) = (operands.view(0)?, operands.view(1)?, operands.view(2)?);
    if updates.shape != indices.shape {
        return Err(operands.shape_error(format!("updates of shape {:?}", indices.shape), updates.shape));
    }
    let mut places = Vec::new();
    each_element(operands, x, indices, at, |_, to| places.push(to))?;
    scatter(operands, x, updates, &places, 1, reduce, out)
}

fn scatter_nd(operands: &Operands<'_>, reduce: Reduce, out: &mut Tensor) -> Result<(), RunError> {
    let (x, indices, updates) = (operands.view(0)?, operands.view(1)?, operands.view(2)?);
    let shape = slices(operands, x, indices, 0)?;
    if updates.shape != shape {
        return Err(operands.shape_error(format!("updates of shape {shape:?}"), updates.shape));
    }
    let mut places = Vec::new();
    let len = each_slice(operands, x, indices, 0, |to| places.push(to))?;
    scatter(operands, x, updates, &places, len, reduce, out)
}

/// `x` with runs of `len` updates at the places.
fn scatter(
    operands: &Operands<'_>,
    x: View<'_>,
    updates: View<'_>,
    places: &[usize],
    len: usize,
    reduce: Reduce,
    out: &mut Tensor,
) -> Result<(), RunError> {
    if updates.dtype() != x.dtype() {
        return Err(operands.dtype_error(updates.dtype()));
    }
    if x.dtype() == Dtype::String {
        if reduce != Reduce::Replace {
            return Err(operands.dtype_error(x.dtype()));
        }
        // Texts can't be replaced where they lie, so where each comes from is
        // settled first.
        let mut from: Vec<Option<usize>> = vec![None; x.shape.len()];
        for (i, &to) in places.iter().enumerate() {
            (0..len).for_each(|k| from[to + k] = Some(i * len + k));
        }
        out.begin(x.dtype(), x.shape);
        for (i, from) in from.into_iter().enumerate() {
            match from {
                Some(update) => out.append(updates, update..update + 1),
                None => out.append(x, i..i + 1),
            }
        }
        return Ok(());
    }
    out.copy_from(x, x.shape);
    macro_rules! apply {
        ($to:expr, $updates:expr, $add:expr, $mul:expr) => {{
            let mut each = |f: &dyn Fn(&mut _, _)| {
                for (i, &to) in places.iter().enumerate() {
                    let updates = $updates[i * len..(i + 1) * len].iter();
                    $to[to..to + len].iter_mut().zip(updates).for_each(|(to, &u)| f(to, u));
                }
            };
            match reduce {
                Reduce::Replace => each(&|to, u| *to = u),
                Reduce::Add => each(&|to, u| *to = $add(*to, u)),
                Reduce::Mul => each(&|to, u| *to = $mul(*to, u)),
                Reduce::Max => each(&|to, u| *to = if *to < u { u } else { *to }),
                Reduce::Min => each(&|to, u| *to = if u < *to { u } else { *to }),
            }
        }};
    }
    match (&mut out.data, updates.values) {
        (Data::Float32(to), Values::Float32(u)) => apply!(to, u, |a: f32, b: f32| a + b, |a: f32, b: f32| a * b),
        (Data::Float64(to), Values::Float64(u)) => apply!(to, u, |a: f64, b: f64| a + b, |a: f64, b: f64| a * b),
        (Data::Int64(to), Values::Int64(u)) => apply!(to, u, i64::wrapping_add, i64::wrapping_mul),
        (Data::Int32(to), Values::Int32(u)) => apply!(to, u, i32::wrapping_add, i32::wrapping_mul),
        (Data::Bool(to), Values::Bool(u)) => apply!(to, u, |a: u8, b: u8| a | b, |a: u8, b: u8| a & b),
        (Data::Uint8(to), Values::Uint8(u)) => apply!(to, u, u8::wrapping_add, u8::wrapping_mul),
        (Data::Int8(to), Values::Int8(u)) => apply!(to, u, i8::wrapping_add, i8::wrapping_mul),
        _ => return Err(operands.dtype_error(updates.dtype())),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Op;
    use crate::ops::testing::{bools, floats, ints, run, texts};

    #[test]
    fn elements_are_chosen_and_replaced_as_specified() {
        struct Case(Select, Vec<Tensor>, Tensor);
        let x = || floats(&[2, 2], &[1., 2., 3., 4.]);
        let cases = [
            Case(
                Select::Where,
                vec![bools(&[2, 1], &[1, 0]), texts(&[2], &["a", "b"]), texts(&[], &["c"])],
                texts(&[2, 2], &["a", "b", "c", "c"]),
            ),
            Case(
                Select::Compress(Some(-1)),
                vec![x(), bools(&[2], &[0, 1])],
                floats(&[2, 1], &[2., 4.]),
            ),
            Case(
                Select::Compress(None),
                vec![x(), bools(&[3], &[0, 1, 1])],
                floats(&[2], &[2., 3.]),
            ),
            Case(
                Select::GatherElements(1),
                vec![x(), ints(&[2, 1], &[-1, 0])],
                floats(&[2, 1], &[2., 3.]),
            ),
            Case(
                Select::GatherNd { batch: 0 },
                vec![x(), ints(&[2, 1], &[1, -2])],
                floats(&[2, 2], &[3., 4., 1., 2.]),
            ),
            Case(
                Select::GatherNd { batch: 1 },
                vec![x(), ints(&[2, 1], &[1, 0])],
                floats(&[2], &[2., 3.]),
            ),
            Case(
                Select::GatherNd { batch: 0 },
                vec![x(), ints(&[1, 2], &[1, 0])],
                floats(&[1], &[3.]),
            ),
            Case(
                Select::ScatterElements {
                    axis: 0,
                    reduce: Reduce::Replace,
                },
                vec![
                    texts(&[3], &["a", "b", "c"]),
                    ints(&[2], &[2, 0]),
                    texts(&[2], &["d", "e"]),
                ],
                texts(&[3], &["e", "b", "d"]),
            ),
            Case(
                Select::ScatterElements {
                    axis: 1,
                    reduce: Reduce::Add,
                },
                vec![x(), ints(&[1, 3], &[1, 1, 0]), floats(&[1, 3], &[10., 20., 5.])],
                floats(&[2, 2], &[6., 32., 3., 4.]),
            ),
            Case(
                Select::ScatterNd(Reduce::Max),
                vec![x(), ints(&[1, 1], &[1]), floats(&[1, 2], &[9., 0.])],
                floats(&[2, 2], &[1., 2., 9., 4.]),
            ),
        ];
        for Case(op, operands, expected) in cases {
            let operands: Vec<_> = operands.into_iter().map(Some).collect();
            assert_eq!(run(Op::Select(op.clone()), &operands).unwrap(), [expected], "{op:?}");
        }
    }

    #[test]
    fn indices_out_of_bounds_are_refused() {
        let x = || floats(&[2, 2], &[1., 2., 3., 4.]);
        let cases = [
            (Select::GatherElements(0), vec![x(), ints(&[1, 1], &[2])]),
            (Select::GatherElements(0), vec![x(), ints(&[1, 3], &[0, 0, 0])]),
            (Select::GatherElements(0), vec![x(), ints(&[1, 1], &[i64::MIN])]),
            (Select::GatherNd { batch: 0 }, vec![x(), ints(&[1, 3], &[0, 0, 0])]),
            (Select::GatherNd { batch: 3 }, vec![x(), ints(&[1, 1], &[0])]),
            (Select::GatherNd { batch: 0 }, vec![x(), ints(&[1, 2], &[0, -3])]),
            (
                Select::ScatterNd(Reduce::Add),
                vec![x(), ints(&[1, 1], &[2]), floats(&[1, 2], &[0., 0.])],
            ),
            (
                Select::ScatterNd(Reduce::Add),
                vec![x(), ints(&[1, 1], &[0]), floats(&[1], &[0.])],
            ),
            (Select::Where, vec![bools(&[1], &[1]), x(), ints(&[1], &[1])]),
        ];
        for (op, operands) in cases {
            let operands: Vec<_> = operands.into_iter().map(Some).collect();
            assert!(run(Op::Select(op.clone()), &operands).is_err(), "{op:?}");
        }
    }
}
