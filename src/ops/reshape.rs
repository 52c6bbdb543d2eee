//! `ai.onnx` Reshape, Flatten, Squeeze and Unsqueeze: the same elements in
//! another shape.

use super::Kernel;
use crate::engine::{Operands, RunError, Scratch};
use crate::program::Constants;
use crate::tensor::{RANK_MAX, Shape, Tensor};
use serde::{Deserialize, Serialize};

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
                let axes: Vec<usize> = axes
                    .iter()
                    .map(|&a| super::axis(a, old.rank()))
                    .collect::<Option<_>>()?;
                if axes.iter().any(|&a| dims[a] != 1) {
                    return None;
                }
                let mut kept = [0; RANK_MAX];
                let mut rank = 0;
                for (i, &dim) in dims.iter().enumerate() {
                    let drop = if axes.is_empty() { dim == 1 } else { axes.contains(&i) };
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
                let mut new = [0; RANK_MAX];
                for &a in axes {
                    let at = super::axis(a, rank)?;
                    if new[at] != 0 {
                        return None;
                    }
                    new[at] = 1;
                }
                let mut rest = dims.iter();
                for slot in &mut new[..rank] {
                    if *slot == 0 {
                        *slot = *rest.next()?;
                    }
                }
                Shape::new(&new[..rank])
            }
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

    fn check(&self, _: &Constants<'_>) -> Result<(), String> {
        Ok(())
    }

    fn run(&self, operands: &Operands<'_>, out: &mut [Tensor], _: &mut Scratch) -> Result<(), RunError> {
        let x = operands.view(0)?;
        let shape = self
            .shape(x.shape)
            .filter(|shape| shape.len() == x.shape.len())
            .ok_or_else(|| operands.shape_error(format!("a shape that fits {self:?}"), x.shape))?;
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
        ];
        for Case(op, from, to) in cases {
            let shape = op.shape(Shape::new(from).unwrap());
            assert_eq!(shape.as_ref().map(Shape::dims), to, "{op:?} of {from:?}");
        }
    }
}
