//! `ai.onnx` operators that put elements elsewhere by their place alone, of any
//! element type: Transpose, Slice, Expand, Tile, Pad, Trilu and Split.

use super::{Kernel, axis, integers};
use crate::engine::{Operands, RunError, Scratch};
use crate::program::Constants;
use crate::tensor::{RANK_MAX, Shape, Tensor, View};
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

/// One of them; what the graph may compute is an operand.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Rearrange {
    /// Transpose: the result's dimension `i` is the operand's `perm[i]`; with an
    /// empty list the dimensions are reversed. Versions 1 to 25.
    Transpose(Vec<u8>),
    /// Slice: `x`, `starts`, `ends` and, if given, `axes` and `steps`, as
    /// numpy's slices. Versions 1 to 13.
    Slice,
    /// Expand: `x` broadcast with the shape that the second operand names.
    /// Versions 8 and 13.
    Expand,
    /// Tile: `x` repeated along each axis as often as the second operand says.
    /// Versions 6 and 13.
    Tile,
    /// Pad: `x`, the counts before each axis and then after each, and, if given,
    /// the value and the axes; a negative count crops. Versions 2 to 25.
    Pad(PadMode),
    /// Trilu: `x` of shape `[..., N, M]` and, if given, the diagonal; what lies
    /// beyond it is 0. Version 14.
    Trilu {
        /// Keep what is above the diagonal, not what is below.
        upper: bool,
    },
}

/// What stands in the padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PadMode {
    /// A value.
    Constant,
    /// The nearest element.
    Edge,
    /// Mirrored at the outermost elements, which are not repeated.
    Reflect,
    /// As if the tensor were repeated.
    Wrap,
}

/// The distance in elements between neighbours along each dimension.
pub(crate) fn strides(dims: &[usize]) -> [isize; RANK_MAX] {
    let mut strides = [0; RANK_MAX];
    let mut step = 1;
    for (i, &dim) in dims.iter().enumerate().rev() {
        strides[i] = step as isize;
        step *= dim;
    }
    strides
}

/// Appends the elements of a tensor of these dimensions, in row-major order,
/// where `steps` are the distances in `x` between neighbours along each
/// dimension and `start` is the place of the first.
pub(crate) fn append_strided(x: View<'_>, start: usize, dims: &[usize], steps: &[isize], out: &mut Tensor) {
    if dims.contains(&0) {
        return;
    }
    // Dimensions that lie in one another's continuation are walked as one.
    let mut merged = [(1usize, 0isize); 2 * RANK_MAX];
    let mut rank = 0;
    for (&dim, &step) in dims.iter().zip(steps) {
        if dim == 1 {
            continue;
        }
        if rank > 0 && merged[rank - 1].1 == step * dim as isize {
            merged[rank - 1] = (merged[rank - 1].0 * dim, step);
        } else {
            merged[rank] = (dim, step);
            rank += 1;
        }
    }
    let Some((&(last, step), outer)) = merged[..rank].split_last() else {
        return out.append(x, start..start + 1);
    };
    let mut index = [0; 2 * RANK_MAX];
    let mut at = start;
    loop {
        out.append_steps(x, at, step, last);
        let mut d = outer.len();
        loop {
            if d == 0 {
                return;
            }
            d -= 1;
            let (dim, step) = outer[d];
            index[d] += 1;
            at = at.wrapping_add_signed(step);
            if index[d] < dim {
                break;
            }
            at = at.wrapping_add_signed(-(step * dim as isize));
            index[d] = 0;
        }
    }
}

impl Kernel for Rearrange {
    const NAME: &'static str = "Rearrange";
    const INPUTS: RangeInclusive<usize> = 1..=5;

    fn check(&self, _: &Constants<'_>) -> Result<(), String> {
        if let Rearrange::Transpose(perm) = self {
            let whole = (0..perm.len()).all(|d| perm.iter().any(|&p| usize::from(p) == d));
            if perm.len() > RANK_MAX || !whole {
                return Err(format!("{perm:?} is no permutation"));
            }
        }
        Ok(())
    }

    fn run(&self, operands: &Operands<'_>, out: &mut [Tensor], _: &mut Scratch) -> Result<(), RunError> {
        let x = operands.view(0)?;
        let out = &mut out[0];
        match self {
            Rearrange::Transpose(perm) => transpose(operands, x, perm, out),
            Rearrange::Slice => slice(operands, x, out),
            Rearrange::Expand => expand(operands, x, out),
            Rearrange::Tile => tile(operands, x, out),
            Rearrange::Pad(mode) => pad(operands, x, *mode, out),
            Rearrange::Trilu { upper } => trilu(operands, x, *upper, out),
        }
    }
}

fn transpose(operands: &Operands<'_>, x: View<'_>, perm: &[u8], out: &mut Tensor) -> Result<(), RunError> {
    let old = x.shape.dims();
    let rank = old.len();
    if !perm.is_empty() && perm.len() != rank {
        return Err(operands.shape_error(format!("{} dimensions", perm.len()), x.shape));
    }
    let strides = strides(old);
    let mut dims = [0; RANK_MAX];
    let mut steps = [0; RANK_MAX];
    for i in 0..rank {
        let from = perm.get(i).map_or(rank - 1 - i, |&p| usize::from(p));
        dims[i] = old[from];
        steps[i] = strides[from];
    }
    let shape = Shape::new(&dims[..rank]).ok_or_else(|| operands.shape_error("a smaller operand", x.shape))?;
    out.begin(x.dtype(), shape);
    append_strided(x, 0, &dims[..rank], &steps[..rank], out);
    Ok(())
}

fn slice(operands: &Operands<'_>, x: View<'_>, out: &mut Tensor) -> Result<(), RunError> {
    let given = |index: usize, what: &str| {
        integers(operands, index)?.ok_or_else(|| operands.shape_error(format!("{what} of the slice"), x.shape))
    };
    let (starts, ends) = (given(1, "starts")?, given(2, "ends")?);
    let (axes, steps) = (integers(operands, 3)?, integers(operands, 4)?);
    let rank = x.shape.rank();
    let wrong = || operands.shape_error("starts, ends, axes and steps of one slice for each axis", x.shape);
    let count = starts.len();
    if ends.len() != count
        || axes.is_some_and(|a| a.len() != count)
        || steps.is_some_and(|s| s.len() != count)
        || count > rank
    {
        return Err(wrong());
    }
    let mut dims = [0; RANK_MAX];
    dims[..rank].copy_from_slice(x.shape.dims());
    let mut strides = strides(x.shape.dims());
    let mut start = 0usize;
    let mut seen = [false; RANK_MAX];
    for i in 0..count {
        let at = axis_at(axes, i, rank).ok_or_else(wrong)?;
        let step = steps.map_or(1, |s| s[i]);
        if step == 0 || std::mem::replace(&mut seen[at], true) {
            return Err(wrong());
        }
        let (first, len) = range(starts[i], ends[i], step, dims[at]);
        start = start.wrapping_add_signed(first as isize * strides[at]);
        // A single element has no neighbour, however far the step.
        strides[at] = if len > 1 { strides[at] * step as isize } else { 0 };
        dims[at] = len;
    }
    let shape = Shape::new(&dims[..rank]).ok_or_else(wrong)?;
    out.begin(x.dtype(), shape);
    append_strided(x, start, &dims[..rank], &strides[..rank], out);
    Ok(())
}

/// Where a slice of an axis begins, and how many elements it has.
fn range(start: i64, end: i64, step: i64, dim: usize) -> (usize, usize) {
    let dim = dim as i64;
    if dim == 0 {
        return (0, 0);
    }
    let resolve = |at: i64| if at < 0 { at.saturating_add(dim) } else { at };
    let (start, span) = if step > 0 {
        let start = resolve(start).clamp(0, dim);
        (start, resolve(end).clamp(0, dim) - start)
    } else {
        let start = resolve(start).clamp(0, dim - 1);
        (start, start - resolve(end).clamp(-1, dim - 1))
    };
    if span <= 0 {
        return (0, 0);
    }
    (start as usize, ((span as u64 - 1) / step.unsigned_abs() + 1) as usize)
}

fn expand(operands: &Operands<'_>, x: View<'_>, out: &mut Tensor) -> Result<(), RunError> {
    let wrong = || operands.shape_error("a shape to expand to", x.shape);
    let to = integers(operands, 1)?.ok_or_else(wrong)?;
    let rank = x.shape.rank().max(to.len());
    if rank > RANK_MAX {
        return Err(wrong());
    }
    let old = strides(x.shape.dims());
    let mut dims = [1; RANK_MAX];
    let mut steps = [0; RANK_MAX];
    for (i, &dim) in to.iter().enumerate() {
        dims[rank - to.len() + i] = usize::try_from(dim).map_err(|_| wrong())?;
    }
    for (i, &dim) in x.shape.dims().iter().enumerate() {
        let at = rank - x.shape.rank() + i;
        if dim != 1 {
            if dims[at] != 1 && dims[at] != dim {
                return Err(operands.shape_error(format!("a shape to broadcast with {:?}", &*to), x.shape));
            }
            dims[at] = dim;
            steps[at] = old[i];
        }
    }
    let shape = Shape::new(&dims[..rank]).ok_or_else(wrong)?;
    out.begin(x.dtype(), shape);
    append_strided(x, 0, &dims[..rank], &steps[..rank], out);
    Ok(())
}

fn tile(operands: &Operands<'_>, x: View<'_>, out: &mut Tensor) -> Result<(), RunError> {
    let wrong = || operands.shape_error("a count of repeats for each axis", x.shape);
    let repeats = integers(operands, 1)?.ok_or_else(wrong)?;
    let rank = x.shape.rank();
    if repeats.len() != rank {
        return Err(wrong());
    }
    let strides = strides(x.shape.dims());
    let mut dims = [0; 2 * RANK_MAX];
    let mut steps = [0; 2 * RANK_MAX];
    let mut new = [0; RANK_MAX];
    for (i, &dim) in x.shape.dims().iter().enumerate() {
        let repeat = usize::try_from(repeats[i]).map_err(|_| wrong())?;
        dims[2 * i] = repeat;
        dims[2 * i + 1] = dim;
        steps[2 * i + 1] = strides[i];
        new[i] = repeat.checked_mul(dim).ok_or_else(wrong)?;
    }
    let shape = Shape::new(&new[..rank]).ok_or_else(wrong)?;
    out.begin(x.dtype(), shape);
    append_strided(x, 0, &dims[..2 * rank], &steps[..2 * rank], out);
    Ok(())
}

/// The axis that the entry at `index` of a list of axes names, or that of this
/// number where no list is given.
fn axis_at(axes: Option<super::Few>, index: usize, rank: usize) -> Option<usize> {
    match axes {
        Some(axes) => axis(i32::try_from(axes[index]).ok()?, rank),
        None => Some(index),
    }
}

fn pad(operands: &Operands<'_>, x: View<'_>, mode: PadMode, out: &mut Tensor) -> Result<(), RunError> {
    let wrong = || operands.shape_error("a count of elements before and after each axis", x.shape);
    let pads = integers(operands, 1)?.ok_or_else(wrong)?;
    let axes = integers(operands, 3)?;
    let rank = x.shape.rank();
    let count = axes.map_or(rank, |a| a.len());
    if pads.len() != 2 * count {
        return Err(wrong());
    }
    let mut around = [(0i64, 0i64); RANK_MAX];
    for i in 0..count {
        let at = axis_at(axes, i, rank).ok_or_else(wrong)?;
        around[at] = (pads[i], pads[count + i]);
    }
    let nothing = Tensor::zeros(x.dtype(), Shape::vector(1));
    let value = operands.get(2).unwrap_or(nothing.view());
    if value.dtype() != x.dtype() {
        return Err(operands.dtype_error(value.dtype()));
    }
    if value.shape.len() != 1 {
        return Err(operands.shape_error("a single value", value.shape));
    }
    let mut dims = [0; RANK_MAX];
    for (i, &dim) in x.shape.dims().iter().enumerate() {
        let (before, after) = around[i];
        dims[i] = (dim as i64)
            .checked_add(before)
            .and_then(|d| d.checked_add(after))
            .and_then(|d| usize::try_from(d).ok())
            .ok_or_else(wrong)?;
        // What cropping leaves must not be empty where it is to be repeated.
        let left = (dim as i64).saturating_add(before.min(0)).saturating_add(after.min(0));
        if left < 0 || (left == 0 && dims[i] > 0 && mode != PadMode::Constant) {
            return Err(wrong());
        }
    }
    let shape = Shape::new(&dims[..rank]).ok_or_else(wrong)?;
    out.begin(x.dtype(), shape);
    // For every place along every axis, the place in `x` that it shows.
    const NONE: u32 = u32::MAX;
    let mut places: Vec<u32> = Vec::new();
    let mut begins = [0; RANK_MAX];
    for i in 0..rank {
        begins[i] = places.len();
        let (before, after) = around[i];
        let first = before.min(0).unsigned_abs() as usize;
        let left = x.shape.dims()[i] - first - after.min(0).unsigned_abs() as usize;
        places.extend((0..dims[i]).map(|at| {
            let place = source(at as i64 - before.max(0), left as i64, mode);
            place.map_or(NONE, |place| (first + place) as u32)
        }));
    }
    if shape.is_empty() {
        return Ok(());
    }
    let strides = strides(x.shape.dims());
    let Some(inner) = rank.checked_sub(1) else {
        out.append(x, 0..1);
        return Ok(());
    };
    let mut index = [0; RANK_MAX];
    for _ in 0..dims[..inner].iter().product::<usize>() {
        let columns = &places[begins[inner]..];
        let row = (0..inner).try_fold(0, |at, d| match places[begins[d] + index[d]] {
            NONE => None,
            place => Some(at + place as usize * strides[d] as usize),
        });
        let Some(row) = row else {
            out.append_steps(value, 0, 0, dims[inner]);
            advance(&mut index, &dims[..inner]);
            continue;
        };
        let mut at = 0;
        while at < dims[inner] {
            let from = columns[at];
            let step = u32::from(from != NONE);
            let follows = |&i: &usize| columns[i] == from.wrapping_add(step * (i - at) as u32);
            let run = 1 + (at + 1..dims[inner]).take_while(follows).count();
            if from == NONE {
                out.append_steps(value, 0, 0, run);
            } else {
                out.append(x, row + from as usize..row + from as usize + run);
            }
            at += run;
        }
        advance(&mut index, &dims[..inner]);
    }
    Ok(())
}

/// The next index in row-major order.
pub(crate) fn advance(index: &mut [usize; RANK_MAX], dims: &[usize]) {
    for d in (0..dims.len()).rev() {
        index[d] += 1;
        if index[d] < dims[d] {
            return;
        }
        index[d] = 0;
    }
}

/// What stands at a place counted from the first of `len` elements; `None` is
/// the constant.
fn source(at: i64, len: i64, mode: PadMode) -> Option<usize> {
    let at = match mode {
        PadMode::Constant => return (0..len).contains(&at).then_some(at as usize),
        PadMode::Edge => at.clamp(0, len - 1),
        PadMode::Wrap => at.rem_euclid(len),
        PadMode::Reflect if len == 1 => 0,
        PadMode::Reflect => {
            let at = at.rem_euclid(2 * (len - 1));
            at.min(2 * (len - 1) - at)
        }
    };
    Some(at as usize)
}

fn trilu(operands: &Operands<'_>, x: View<'_>, upper: bool, out: &mut Tensor) -> Result<(), RunError> {
    let &[.., rows, columns] = x.shape.dims() else {
        return Err(operands.shape_error("at least two dimensions", x.shape));
    };
    let diagonal = match integers(operands, 1)? {
        Some(k) => *k.first().ok_or_else(|| operands.shape_error("a diagonal", x.shape))?,
        None => 0,
    };
    let nothing = Tensor::zeros(x.dtype(), Shape::vector(1));
    out.begin(x.dtype(), x.shape);
    if x.shape.is_empty() {
        return Ok(());
    }
    for row in 0..x.shape.len() / columns {
        let start = row * columns;
        // The first place right of what belongs to the lower triangle.
        let edge = diagonal
            .saturating_add((row % rows) as i64)
            .saturating_add(i64::from(!upper));
        let edge = edge.clamp(0, columns as i64) as usize;
        let (zeros, kept) = if upper {
            (edge, edge..columns)
        } else {
            (columns - edge, 0..edge)
        };
        if upper {
            out.append_steps(nothing.view(), 0, 0, zeros);
        }
        out.append(x, start + kept.start..start + kept.end);
        if !upper {
            out.append_steps(nothing.view(), 0, 0, zeros);
        }
    }
    Ok(())
}

/// `ai.onnx` Split, versions 1 to 18: `x` cut along an axis into parts of the
/// sizes that the second operand gives; without it into equal ones.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Split {
    /// The axis; negative counts from the last.
    pub axis: i32,
    /// The number of parts, which are the results.
    pub parts: u16,
    /// The last of equal parts may be smaller.
    pub uneven: bool,
}

impl Kernel for Split {
    const NAME: &'static str = "Split";
    const INPUTS: RangeInclusive<usize> = 1..=2;

    fn outputs(&self) -> usize {
        usize::from(self.parts)
    }

    fn check(&self, _: &Constants<'_>) -> Result<(), String> {
        match self.parts {
            0 => Err("no parts".into()),
            _ => Ok(()),
        }
    }

    fn run(&self, operands: &Operands<'_>, out: &mut [Tensor], _: &mut Scratch) -> Result<(), RunError> {
        let x = operands.view(0)?;
        let dims = x.shape.dims();
        let at = axis(self.axis, dims.len())
            .ok_or_else(|| operands.shape_error(format!("an axis {}", self.axis), x.shape))?;
        let wrong = || operands.shape_error(format!("{} parts along axis {at}", self.parts), x.shape);
        let strides = strides(dims);
        let parts = out.len();
        let sizes = operands.get(1);
        if sizes.is_some_and(|s| s.shape.len() != parts) || (sizes.is_none() && !self.uneven && dims[at] % parts != 0) {
            return Err(wrong());
        }
        let equal = dims[at].div_ceil(parts);
        let mut new = [0; RANK_MAX];
        new[..dims.len()].copy_from_slice(dims);
        let mut done = 0;
        for (part, out) in out.iter_mut().enumerate() {
            let left = dims[at] - done;
            let size = match sizes {
                Some(sizes) => usize::try_from(super::integer(operands, sizes, part)?)
                    .ok()
                    .filter(|&size| size <= left)
                    .ok_or_else(wrong)?,
                None => equal.min(left),
            };
            new[at] = size;
            let shape = Shape::new(&new[..dims.len()]).ok_or_else(wrong)?;
            out.begin(x.dtype(), shape);
            append_strided(
                x,
                done * strides[at] as usize,
                shape.dims(),
                &strides[..dims.len()],
                out,
            );
            done += size;
        }
        match done == dims[at] {
            true => Ok(()),
            false => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Op;
    use crate::ops::testing::{floats, ints, run};

    #[test]
    fn elements_go_where_the_specification_puts_them() {
        let x = || floats(&[2, 3], &[0., 1., 2., 3., 4., 5.]);
        struct Case(Rearrange, Vec<Option<Tensor>>, Tensor);
        let some = |values: &[i64]| Some(ints(&[values.len()], values));
        let cases = [
            Case(
                Rearrange::Transpose(vec![]),
                vec![Some(x())],
                floats(&[3, 2], &[0., 3., 1., 4., 2., 5.]),
            ),
            Case(Rearrange::Transpose(vec![0, 1]), vec![Some(x())], x()),
            Case(
                Rearrange::Slice,
                vec![Some(x()), some(&[-1]), some(&[i64::MIN]), some(&[1]), some(&[-2])],
                floats(&[2, 2], &[2., 0., 5., 3.]),
            ),
            Case(
                Rearrange::Slice,
                vec![Some(x()), some(&[1, 1]), some(&[9, i64::MAX])],
                floats(&[1, 2], &[4., 5.]),
            ),
            Case(
                Rearrange::Slice,
                vec![Some(x()), some(&[0]), some(&[9]), None, some(&[i64::MAX])],
                floats(&[1, 3], &[0., 1., 2.]),
            ),
            Case(
                Rearrange::Slice,
                vec![
                    Some(floats(&[0, 2], &[])),
                    some(&[-1]),
                    some(&[-9]),
                    some(&[0]),
                    some(&[-1]),
                ],
                floats(&[0, 2], &[]),
            ),
            Case(
                Rearrange::Expand,
                vec![Some(floats(&[2, 1], &[1., 2.])), some(&[2, 1, 2])],
                floats(&[2, 2, 2], &[1., 1., 2., 2., 1., 1., 2., 2.]),
            ),
            Case(
                Rearrange::Tile,
                vec![Some(floats(&[1, 2], &[1., 2.])), some(&[2, 2])],
                floats(&[2, 4], &[1., 2., 1., 2., 1., 2., 1., 2.]),
            ),
            Case(
                Rearrange::Pad(PadMode::Constant),
                vec![Some(floats(&[2], &[1., 2.])), some(&[1, -1]), Some(floats(&[], &[9.]))],
                floats(&[2], &[9., 1.]),
            ),
            Case(
                Rearrange::Pad(PadMode::Reflect),
                vec![Some(x()), some(&[3, 1]), None, some(&[-1])],
                floats(&[2, 7], &[1., 2., 1., 0., 1., 2., 1., 4., 5., 4., 3., 4., 5., 4.]),
            ),
            Case(
                Rearrange::Pad(PadMode::Edge),
                vec![Some(x()), some(&[1, 0, 0, 1])],
                floats(&[3, 4], &[0., 1., 2., 2., 0., 1., 2., 2., 3., 4., 5., 5.]),
            ),
            Case(
                Rearrange::Pad(PadMode::Wrap),
                vec![Some(floats(&[2], &[1., 2.])), some(&[1, 2])],
                floats(&[5], &[2., 1., 2., 1., 2.]),
            ),
            Case(
                Rearrange::Trilu { upper: true },
                vec![Some(x()), some(&[1])],
                floats(&[2, 3], &[0., 1., 2., 0., 0., 5.]),
            ),
            Case(
                Rearrange::Trilu { upper: false },
                vec![Some(x())],
                floats(&[2, 3], &[0., 0., 0., 3., 4., 0.]),
            ),
        ];
        for Case(op, operands, expected) in cases {
            assert_eq!(run(Op::Rearrange(op.clone()), &operands).unwrap(), [expected], "{op:?}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let x = || Some(floats(&[2, 3], &[0., 1., 2., 3., 4., 5.]));
        let some = |values: &[i64]| Some(ints(&[values.len()], values));
        let cases = [
            (Rearrange::Transpose(vec![0]), vec![x()]),
            (Rearrange::Slice, vec![x(), some(&[0]), some(&[1]), None, some(&[0])]),
            (
                Rearrange::Slice,
                vec![x(), some(&[0, 0]), some(&[1, 1]), some(&[0, -2])],
            ),
            (Rearrange::Expand, vec![x(), some(&[2, 2])]),
            (Rearrange::Expand, vec![x(), some(&[1 << 20, 1 << 20, 1, 1])]),
            (Rearrange::Tile, vec![x(), some(&[1 << 40, 0])]),
            (Rearrange::Pad(PadMode::Edge), vec![x(), some(&[-2, 0, 1, 0])]),
            (Rearrange::Pad(PadMode::Constant), vec![x(), some(&[-9, 0, 9, 0])]),
            (Rearrange::Pad(PadMode::Constant), vec![x(), some(&[i64::MIN, 0, 9, 0])]),
        ];
        for (op, operands) in cases {
            assert!(run(Op::Rearrange(op.clone()), &operands).is_err(), "{op:?}");
        }
    }

    #[test]
    fn a_split_has_the_sizes_it_was_given_or_equal_ones() {
        let x = || Some(floats(&[5], &[0., 1., 2., 3., 4.]));
        let split = |parts, uneven| {
            Op::Split(Split {
                axis: -1,
                parts,
                uneven,
            })
        };
        let given = run(split(2, false), &[x(), Some(ints(&[2], &[4, 1]))]).unwrap();
        assert_eq!(given, [floats(&[4], &[0., 1., 2., 3.]), floats(&[1], &[4.])]);
        let uneven = run(split(3, true), &[x()]).unwrap();
        assert_eq!(uneven[1..], [floats(&[2], &[2., 3.]), floats(&[1], &[4.])]);
        assert!(run(split(3, false), &[x()]).is_err());
        assert!(run(split(2, false), &[x(), Some(ints(&[2], &[4, 2]))]).is_err());
        assert!(run(split(2, false), &[x(), Some(ints(&[2], &[4, 0]))]).is_err());
    }
}
