//! `ai.onnx` Unique, version 11: the distinct elements, or the distinct slices
//! along an axis, of any element type.

use super::Kernel;
use crate::engine::{Operands, RunError, Scratch};
use crate::order::sorted;
use crate::program::Constants;
use crate::tensor::{RANK_MAX, Shape, Tensor, Values, View};
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;

/// Takes one operand. Yields the distinct items, and as int64 vectors where each
/// of them stands first, which of them every item is, and how often each
/// stands. NaN are equal to each other and come last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Unique {
    /// Items are the slices along this axis; else they are the elements.
    pub axis: Option<i32>,
    /// In ascending order; else in the order in which they first stand.
    pub sorted: bool,
}

impl Kernel for Unique {
    const NAME: &'static str = "Unique";
    const OUTPUTS: usize = 4;

    fn check(&self, _: &Constants<'_>) -> Result<(), String> {
        Ok(())
    }

    fn run(&self, operands: &Operands<'_>, out: &mut [Tensor], _: &mut Scratch) -> Result<(), RunError> {
        let x = operands.view(0)?;
        let flat = [x.shape.len()];
        let dims = if self.axis.is_some() { x.shape.dims() } else { &flat[..] };
        let axis = self.axis.unwrap_or(0);
        let at =
            super::axis(axis, dims.len()).ok_or_else(|| operands.shape_error(format!("an axis {axis}"), x.shape))?;
        let (len, outer) = (dims[at], dims[..at].iter().product::<usize>());
        let inner: usize = dims[at + 1..].iter().product();
        let start = |o: usize, item: usize| (o * len + item) * inner;
        let compare = |a: usize, b: usize| {
            let places = (0..outer).flat_map(|o| (0..inner).map(move |i| (o, i)));
            places
                .map(|(o, i)| order(x, start(o, a) + i, start(o, b) + i))
                .find(|o| o.is_ne())
                .unwrap_or(Ordering::Equal)
        };
        let items = sorted(len, &mut |a, b| compare(a, b));
        // Equal items are side by side, in the order in which they stand.
        let mut groups: Vec<&[usize]> = items.chunk_by(|&a, &b| compare(a, b).is_eq()).collect();
        if !self.sorted {
            let by_first = sorted(groups.len(), &mut |a, b| groups[a][0].cmp(&groups[b][0]));
            groups = by_first.into_iter().map(|group| groups[group]).collect();
        }
        let mut new = [0; RANK_MAX];
        new[..dims.len()].copy_from_slice(dims);
        new[at] = groups.len();
        let shape = Shape::new(&new[..dims.len()]).ok_or_else(|| operands.shape_error("a smaller operand", x.shape))?;
        out[0].begin(x.dtype(), shape);
        for o in 0..outer {
            for group in &groups {
                let start = start(o, group[0]);
                out[0].append(x, start..start + inner);
            }
        }
        let count = Shape::vector(groups.len());
        out[1]
            .write_i64(count)
            .extend(groups.iter().map(|group| group[0] as i64));
        let which = out[2].write_i64(Shape::vector(len));
        which.resize(len, 0);
        for (number, group) in groups.iter().enumerate() {
            group.iter().for_each(|&item| which[item] = number as i64);
        }
        out[3]
            .write_i64(count)
            .extend(groups.iter().map(|group| group.len() as i64));
        Ok(())
    }
}

fn order(x: View<'_>, a: usize, b: usize) -> Ordering {
    match x.values {
        Values::Int64(v) => v[a].cmp(&v[b]),
        Values::String(v) => v.get(a).cmp(v.get(b)),
        // All other types are exact in binary64.
        _ => {
            let (a, b) = (x.number(a).unwrap_or(0.0), x.number(b).unwrap_or(0.0));
            a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Op;
    use crate::ops::testing::{floats, ints, run, texts};

    #[test]
    fn distinct_items_are_named_placed_and_counted() {
        let unique = |axis, sorted, x: Tensor| run(Op::Unique(Unique { axis, sorted }), &[Some(x)]).unwrap();
        let x = || floats(&[6], &[2., f32::NAN, 1., 2., f32::NAN, 3.]);
        let sorted = unique(None, true, x());
        assert_eq!(sorted[0].view().number(2), Some(3.0));
        assert_eq!(sorted[1], ints(&[4], &[2, 0, 5, 1]));
        assert_eq!(sorted[2], ints(&[6], &[1, 3, 0, 1, 3, 2]));
        assert_eq!(sorted[3], ints(&[4], &[1, 2, 1, 2]));
        assert_eq!(unique(None, false, x())[1], ints(&[4], &[0, 1, 2, 5]));
        let columns = unique(Some(-1), true, ints(&[2, 3], &[5, 4, 5, 1, 9, 1]));
        assert_eq!(columns[0], ints(&[2, 2], &[4, 5, 9, 1]));
        assert_eq!(columns[3], ints(&[2], &[1, 2]));
        assert_eq!(
            unique(None, true, texts(&[3], &["b", "", "b"]))[0],
            texts(&[2], &["", "b"])
        );
        assert_eq!(unique(None, true, ints(&[0], &[]))[0], ints(&[0], &[]));
    }
}
