//! `ai.onnx` Einsum, version 12.

use super::Kernel;
use super::matmul::Number;
use super::numbers::bounded;
use crate::engine::{Operands, RunError, Scratch};
use crate::program::Constants;
use crate::tensor::{RANK_MAX, Shape, Tensor, Values, View};
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

/// Stands for the dimensions that have no letter of their own; they are
/// broadcast.
pub const ELLIPSIS: u8 = b'.';

/// The largest number of products that one run may take.
const PRODUCTS_MAX: usize = 1 << 30;

/// Sums of products in Einstein's notation, of operands of one type: float32,
/// float64, int64 or int32.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Einsum {
    /// For each operand the letters of its dimensions, or [`ELLIPSIS`].
    pub terms: Vec<Vec<u8>>,
    /// The letters of the result; those that are not among them are summed
    /// over, in the order in which they appear in the operands.
    pub result: Vec<u8>,
}

/// A dimension of the result, or one that is summed over.
struct Loop {
    label: u8,
    size: usize,
    /// The step in elements in each operand.
    steps: Vec<usize>,
}

/// Goes to the next position; false after the last.
fn advance(loops: &[Loop], index: &mut [usize], at: &mut [usize]) -> bool {
    for (index, l) in index.iter_mut().zip(loops).rev() {
        *index += 1;
        at.iter_mut().zip(&l.steps).for_each(|(at, step)| *at += step);
        if *index < l.size {
            return true;
        }
        at.iter_mut().zip(&l.steps).for_each(|(at, step)| *at -= step * l.size);
        *index = 0;
    }
    false
}

fn compute<T: Number>(values: &[&[T]], result: &[Loop], summed: &[Loop], out: &mut Vec<T>, len: usize) {
    out.resize(len, T::default());
    let (mut outer, mut inner) = (vec![0; result.len()], vec![0; summed.len()]);
    let mut at = vec![0; values.len()];
    let some = summed.iter().all(|l| l.size > 0);
    for sum in out.iter_mut().filter(|_| some) {
        loop {
            let mut factors = values.iter().zip(&at).map(|(values, &at)| values[at]);
            let product = factors.next().unwrap_or_default();
            *sum = sum.plus(factors.fold(product, T::times));
            if !advance(summed, &mut inner, &mut at) {
                break;
            }
        }
        advance(result, &mut outer, &mut at);
    }
}

/// A label of its own for each dimension that an ellipsis stands for, counted
/// from the last: none of them is a letter.
fn labels(term: &[u8], ellipsis: usize) -> impl Iterator<Item = u8> + '_ {
    term.iter().flat_map(move |&label| {
        let (first, count) = match label {
            ELLIPSIS => (0, ellipsis as u8),
            label => (label, 1),
        };
        (first..first + count).rev()
    })
}

impl Einsum {
    /// The dimensions of the result, and those that are summed over.
    fn loops(&self, views: &[View<'_>]) -> Option<(Vec<Loop>, Vec<Loop>)> {
        let mut all: Vec<Loop> = Vec::new();
        let mut widest = 0;
        for (operand, (term, view)) in self.terms.iter().zip(views).enumerate() {
            let letters = term.iter().filter(|&&label| label != ELLIPSIS).count();
            let ellipsis = view.shape.rank().checked_sub(letters)?;
            if letters == term.len() && ellipsis > 0 {
                return None;
            }
            widest = widest.max(ellipsis);
            let mut step = view.shape.len();
            for (label, &dim) in labels(term, ellipsis).zip(view.shape.dims()) {
                step = step.checked_div(dim).unwrap_or(0);
                let known = match all.iter().position(|l| l.label == label) {
                    Some(known) => known,
                    None => {
                        all.push(Loop {
                            label,
                            size: 1,
                            steps: vec![0; views.len()],
                        });
                        all.len() - 1
                    }
                };
                if dim != 1 {
                    let known = &mut all[known];
                    if known.size != 1 && known.size != dim {
                        return None;
                    }
                    known.size = dim;
                    known.steps[operand] += step;
                }
            }
        }
        let mut result = Vec::new();
        for label in labels(&self.result, widest) {
            let known = all.iter().position(|l| l.label == label)?;
            result.push(all.remove(known));
        }
        let products = result
            .iter()
            .chain(&all)
            .try_fold(1usize, |n, l| n.checked_mul(l.size.max(1)));
        (products? <= PRODUCTS_MAX).then_some((result, all))
    }
}

impl Kernel for Einsum {
    const NAME: &'static str = "Einsum";
    const INPUTS: RangeInclusive<usize> = 1..=65_535;

    fn check(&self, _: &Constants<'_>) -> Result<(), String> {
        for term in self.terms.iter().chain([&self.result]) {
            let ellipses = term.iter().filter(|&&label| label == ELLIPSIS).count();
            if ellipses > 1
                || term
                    .iter()
                    .any(|&label| label != ELLIPSIS && !label.is_ascii_alphabetic())
            {
                return Err(format!("the term {:?}", String::from_utf8_lossy(term)));
            }
        }
        Ok(())
    }

    fn run(&self, operands: &Operands<'_>, out: &mut [Tensor], _: &mut Scratch) -> Result<(), RunError> {
        let views = (0..operands.len())
            .map(|index| operands.view(index))
            .collect::<Result<Vec<_>, _>>()?;
        let first = operands.view(0)?;
        let wrong = || operands.shape_error("shapes as the equation has them", first.shape);
        if views.len() != self.terms.len() {
            return Err(wrong());
        }
        let (result, summed) = self.loops(&views).ok_or_else(wrong)?;
        let mut dims = [0; RANK_MAX];
        for (index, l) in result.iter().enumerate() {
            *dims.get_mut(index).ok_or_else(wrong)? = l.size;
        }
        let shape = Shape::new(&dims[..result.len()]).and_then(bounded).ok_or_else(wrong)?;
        macro_rules! einsum {
            ($variant:ident, $write:ident) => {{
                let mut values = Vec::with_capacity(views.len());
                for view in &views {
                    match view.values {
                        Values::$variant(v) => values.push(v),
                        _ => return Err(operands.dtype_error(view.dtype())),
                    }
                }
                compute(&values, &result, &summed, out[0].$write(shape), shape.len());
            }};
        }
        match first.values {
            Values::Float32(_) => einsum!(Float32, write_f32),
            Values::Float64(_) => einsum!(Float64, write_f64),
            Values::Int64(_) => einsum!(Int64, write_i64),
            Values::Int32(_) => einsum!(Int32, write_i32),
            _ => return Err(operands.dtype_error(first.dtype())),
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

    #[test]
    fn letters_pair_sum_and_move_dimensions() {
        let einsum = |terms: &[&str], result: &str, shapes: &[&[usize]]| {
            let op = Einsum {
                terms: terms.iter().map(|term| term.as_bytes().to_vec()).collect(),
                result: result.as_bytes().to_vec(),
            };
            let counted =
                |dims: &&[usize]| tensor(dims, Data::Int32((1..=dims.iter().product::<usize>() as i32).collect()));
            let inputs: Vec<Tensor> = shapes.iter().map(counted).collect();
            apply(Op::Einsum(op), &inputs).map(|mut out| out.swap_remove(0))
        };
        let is = |dims: &[usize], values: &[i32]| Ok(tensor(dims, Data::Int32(values.to_vec())));
        assert_eq!(einsum(&["ij"], "ji", &[&[1, 2]]), is(&[2, 1], &[1, 2]));
        assert_eq!(einsum(&["ii"], "i", &[&[2, 2]]), is(&[2], &[1, 4]));
        assert_eq!(einsum(&["ij"], "", &[&[2, 2]]), is(&[], &[10]));
        assert_eq!(einsum(&["ij", "jk"], "ik", &[&[2, 2], &[2, 1]]), is(&[2, 1], &[5, 11]));
        assert_eq!(einsum(&[".i", ".i"], ".", &[&[2, 2], &[2]]), is(&[2], &[5, 11]));
        assert_eq!(einsum(&["ij", "j"], "i", &[&[2, 0], &[0]]), is(&[2], &[0, 0]));
        assert!(einsum(&["ij", "jk"], "ik", &[&[2, 2], &[3, 1]]).is_err());
        assert!(einsum(&["i"], "i", &[&[2, 2]]).is_err());
        assert!(einsum(&["i"], "j", &[&[2]]).is_err());
        assert!(einsum(&["i?"], "i", &[&[2, 2]]).is_err());
    }
}
