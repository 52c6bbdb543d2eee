//! `ai.onnx` Reshape (versions 5 to 25), Flatten, Squeeze and Unsqueeze
//! (versions 1 to 25): the same elements, of any type, in another shape.

use super::Kernel;
use crate::engine::{Operands, RunError, Scratch};
use crate::program::Constants;
use crate::tensor::{RANK_MAX, Shape, Tensor};
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

/// How the new shape follows from the old one.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Reshape {
    /// Reshape: -1 takes what is left, 0 keeps the old dimension.
    To(Vec<i64>),
    /// Reshape with `allowzero`: 0 is an empty dimension.
    ToAllowZero(Vec<i64>),
    /// Flatten: the dimensions before the axis are rows, the others columns.
    Flatten(i32),
    /// Squeeze: these axes, or all of size 1 if none is named, are dropped.
    Squeeze(Vec<i32>),
    /// Unsqueeze: axes of size 1 appear at these positions of the result.
    Unsqueeze(Vec<i32>),
    /// One whose list is the second operand, as the graph computes it.
    Computed(Computed),
}

/// Which one it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Computed {
    /// [`Reshape::To`].
    To,
    /// [`Reshape::ToAllowZero`].
    ToAllowZero,
    /// [`Reshape::Squeeze`].
    Squeeze,
    /// [`Reshape::Unsqueeze`].
    Unsqueeze,
}

impl Reshape {
    fn shape(&self, old: Shape) -> Option<Shape> {
        let dims = old.dims();
        match self {
            Reshape::To(to) => resolve(to, old, false),
            Reshape::ToAllowZero(to) => resolve(to, old, true),
            Reshape::Flatten(at) => {
                let rank = old.rank() as i32;
                let at = if *at < 0 { at + rank } else { *at };
                let at = (0..=rank).contains(&at).then_some(at as usize)?;
                Some(Shape::matrix(dims[..at].iter().product(), dims[at..].iter().product()))
            }
            Reshape::Squeeze(axes) => {
                let mut dropped = [false; RANK_MAX];
                for &a in axes {
                    let at = super::axis(a, old.rank()).filter(|&at| dims[at] == 1)?;
                    dropped[at] = true;
                }
                let mut kept = [0; RANK_MAX];
                let mut rank = 0;
                for (i, &dim) in dims.iter().enumerate() {
                    let drop = if axes.is_empty() { dim == 1 } else { dropped[i] };
                    if !drop {
                        kept[rank] = dim;
                        rank += 1;
                    }
                }
                Shape::new(&kept[..rank])
            }
            Reshape::Unsqueeze(axes) => {
                let rank = old.rank() + axes.len();
                if rank > RANK_MAX {
                    return None;
                }
                let mut new = [None; RANK_MAX];
                for &a in axes {
                    let at = super::axis(a, rank)?;
                    if new[at].replace(1).is_some() {
                        return None;
                    }
                }
                let mut rest = dims.iter();
                let mut result = [0; RANK_MAX];
                for (slot, new) in result.iter_mut().zip(&new[..rank]) {
                    *slot = match new {
                        Some(one) => *one,
                        None => *rest.next()?,
                    };
                }
                Shape::new(&result[..rank])
            }
            Reshape::Computed(_) => None,
        }
    }
}

fn resolve(to: &[i64], old: Shape, allow_zero: bool) -> Option<Shape> {
    if to.len() > RANK_MAX {
        return None;
    }
    let mut dims = [0usize; RANK_MAX];
    let mut inferred = None;
    for (i, &dim) in to.iter().enumerate() {
        dims[i] = match dim {
            -1 if inferred.is_none() => {
                inferred = Some(i);
                1
            }
            0 if !allow_zero => *old.dims().get(i)?,
            dim => usize::try_from(dim).ok()?,
        };
    }
    let known = Shape::new(&dims[..to.len()])?.len();
    if let Some(i) = inferred {
        if known == 0 || !old.len().is_multiple_of(known) {
            return None;
        }
        dims[i] = old.len() / known;
    }
    Shape::new(&dims[..to.len()])
}

impl Kernel for Reshape {
    const NAME: &'static str = "Reshape";
    const INPUTS: RangeInclusive<usize> = 1..=2;

    fn check(&self, _: &Constants<'_>) -> Result<(), String> {
        Ok(())
    }

    fn run(&self, operands: &Operands<'_>, out: &mut [Tensor], _: &mut Scratch) -> Result<(), RunError> {
        let x = operands.view(0)?;
        let computed = match self {
            Reshape::Computed(which) => {
                let list = super::integers(operands, 1)?;
                let list = list.ok_or_else(|| operands.shape_error("a list as its second operand", x.shape))?;
                // An axis out of range stays out of range.
                let axes = || list.iter().map(|&a| i32::try_from(a).unwrap_or(i32::MAX)).collect();
                Some(match which {
                    Computed::To => Reshape::To(list.to_vec()),
                    Computed::ToAllowZero => Reshape::ToAllowZero(list.to_vec()),
                    Computed::Squeeze => Reshape::Squeeze(axes()),
                    Computed::Unsqueeze => Reshape::Unsqueeze(axes()),
                })
            }
            _ => None,
        };
        let op = computed.as_ref().unwrap_or(self);
        let shape = op
            .shape(x.shape)
            .filter(|shape| shape.len() == x.shape.len())
            .ok_or_else(|| operands.shape_error(format!("a shape that fits {op:?}"), x.shape))?;
        out[0].copy_from(x, shape);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_follow_the_specification_and_what_cannot_be_is_refused() {
        struct Case(Reshape, &'static [usize], Option<&'static [usize]>);
        let cases = [
            Case(Reshape::To(vec![-1, 2]), &[3, 4], Some(&[6, 2])),
            Case(Reshape::To(vec![0, -1]), &[3, 4, 2], Some(&[3, 8])),
            Case(Reshape::To(vec![-1, -1]), &[3, 4], None),
            Case(Reshape::To(vec![-1, 5]), &[3, 4], None),
            Case(Reshape::ToAllowZero(vec![0, 4]), &[0, 7], Some(&[0, 4])),
            Case(Reshape::Flatten(1), &[3, 4, 2], Some(&[3, 8])),
            Case(Reshape::Flatten(0), &[3, 4], Some(&[1, 12])),
            Case(Reshape::Flatten(3), &[3, 4], None),
            Case(Reshape::Squeeze(vec![1]), &[3, 1, 1], Some(&[3, 1])),
            Case(Reshape::Squeeze(vec![]), &[3, 1, 1], Some(&[3])),
            Case(Reshape::Squeeze(vec![0]), &[3, 1], None),
            Case(Reshape::Unsqueeze(vec![0, -1]), &[3], Some(&[1, 3, 1])),
            Case(Reshape::Unsqueeze(vec![0, 0]), &[3], None),
            Case(Reshape::Unsqueeze(vec![0]), &[0, 2], Some(&[1, 0, 2])),
            Case(Reshape::To(vec![0, -1]), &[0, 2], None),
        ];
        for Case(op, from, to) in cases {
            let shape = op.shape(Shape::new(from).unwrap());
            assert_eq!(shape.as_ref().map(Shape::dims), to, "{op:?} of {from:?}");
        }
    }

    #[test]
    fn what_the_graph_computes_is_the_second_operand() {
        use crate::ops::Op;
        use crate::ops::testing::{floats, ints, run};
        let x = || floats(&[1, 2], &[1., 2.]);
        let reshaped = |which, list: &[i64]| {
            let op = Op::Reshape(Reshape::Computed(which));
            run(op, &[Some(x()), Some(ints(&[list.len()], list))])
        };
        assert_eq!(reshaped(Computed::To, &[2, -1]).unwrap()[0].shape.dims(), [2, 1]);
        assert_eq!(reshaped(Computed::Squeeze, &[-2]).unwrap()[0].shape.dims(), [2]);
        assert_eq!(
            reshaped(Computed::Unsqueeze, &[3, 0]).unwrap()[0].shape.dims(),
            [1, 1, 2, 1]
        );
        assert!(reshaped(Computed::Squeeze, &[1 << 40]).is_err());
        assert!(run(Op::Reshape(Reshape::Computed(Computed::To)), &[Some(x())]).is_err());
    }
}
