//! `ai.onnx` TfIdfVectorizer, version 9.

use super::Kernel;
use super::lookup::{ELEMENTS_MAX, Keys};
use crate::engine::{Operands, RunError, Scratch};
use crate::program::{Constants, Slice};
use crate::tensor::{Shape, Tensor};
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;

/// Counts of n-grams: of sequences of `n` items, each `1 + skip` after the one
/// before, for every skip up to `skips`; single items are counted once.
///
/// Takes text, int64 or int32, `[C]` or `[N, C]`. Yields float32, `[width]` or
/// `[N, width]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TfIdf {
    /// The items that occur in n-grams.
    pub items: Keys,
    /// The n-grams by length, each length once.
    pub grams: Vec<Grams>,
    /// The number of columns.
    pub width: u32,
    /// The most items skipped between two of an n-gram.
    pub skips: u64,
    /// Whether a column tells the occurrence of its n-gram, not the count.
    pub binary: bool,
}

/// The n-grams of one length.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Grams {
    /// The number of items of each.
    pub length: u32,
    /// The ranks of their items, n-gram by n-gram, in ascending order.
    pub ranks: Slice<u32>,
    /// The column of each.
    pub columns: Slice<u32>,
    /// What each counts for; nothing if that is 1.
    pub weights: Slice<f32>,
}

impl Grams {
    /// The index of the n-gram of items that begin with the first of `row`,
    /// `step` apart.
    fn find(ranks: &[u32], length: usize, row: &[u32], step: usize) -> Option<usize> {
        let (mut low, mut high) = (0, ranks.len() / length);
        while low < high {
            let middle = low + (high - low) / 2;
            let gram = &ranks[middle * length..(middle + 1) * length];
            match gram.iter().cmp(row.iter().step_by(step).take(length)) {
                Ordering::Less => low = middle + 1,
                Ordering::Greater => high = middle,
                Ordering::Equal => return Some(middle),
            }
        }
        None
    }
}

impl Kernel for TfIdf {
    const NAME: &'static str = "TfIdfVectorizer";

    fn check(&self, constants: &Constants<'_>) -> Result<(), String> {
        self.items.check(constants)?;
        for grams in &self.grams {
            let length = grams.length;
            let ranks = constants.check(grams.ranks, "n-grams")?;
            let columns = constants.check(grams.columns, "columns")?;
            let weights = constants.check(grams.weights, "weights")?;
            if length == 0 || columns.len().checked_mul(length as usize) != Some(ranks.len()) {
                return Err(format!(
                    "{} items for {} n-grams of {length}",
                    ranks.len(),
                    columns.len()
                ));
            }
            if !weights.is_empty() && weights.len() != columns.len() {
                return Err(format!("{} weights for {} n-grams", weights.len(), columns.len()));
            }
            if let Some(column) = columns.iter().find(|&&column| column >= self.width) {
                return Err(format!("column {column} of {}", self.width));
            }
        }
        Ok(())
    }

    fn run(&self, operands: &Operands<'_>, out: &mut [Tensor], scratch: &mut Scratch) -> Result<(), RunError> {
        let x = operands.view(0)?;
        let constants = operands.constants();
        let width = self.width as usize;
        let (rows, length, shape) = match *x.shape.dims() {
            [] => (1, 1, Shape::vector(width)),
            [length] => (1, length, Shape::vector(width)),
            [rows, length] if rows.checked_mul(width).is_some_and(|len| len <= ELEMENTS_MAX) => {
                (rows, length, Shape::matrix(rows, width))
            }
            _ => return Err(operands.shape_error("[C] or [N, C]", x.shape)),
        };
        if !self.items.ranks(&constants, x, false, &mut scratch.indices) {
            return Err(operands.dtype_error(x.dtype()));
        }
        let result = out[0].write_f32(shape);
        result.resize(rows * width, 0.0);
        for index in 0..rows {
            let row = &scratch.indices[index * length..(index + 1) * length];
            let counts = &mut result[index * width..(index + 1) * width];
            for grams in &self.grams {
                let (ranks, columns) = (constants.get(grams.ranks), constants.get(grams.columns));
                let weights = constants.get(grams.weights);
                let n = grams.length as usize;
                // The step must leave room for the other items of an n-gram.
                let longest = match n {
                    1 => 1,
                    n => row.len().saturating_sub(1) / (n - 1),
                };
                let longest = longest.min(usize::try_from(self.skips).unwrap_or(usize::MAX).saturating_add(1));
                for step in 1..=longest {
                    for start in 0..row.len().saturating_sub((n - 1) * step) {
                        if let Some(gram) = Grams::find(ranks, n, &row[start..], step) {
                            let column = columns[gram] as usize;
                            let weight = weights.get(gram).copied().unwrap_or(1.0);
                            if self.binary {
                                counts[column] = weight;
                            } else {
                                counts[column] += weight;
                            }
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Op;
    use crate::ops::testing::{apply_made, tensor, texts};
    use crate::program::Builder;
    use crate::tensor::Data;

    const NONE: [&[f32]; 2] = [&[], &[]];

    /// 1-grams 2, 3 and 2-grams (2, 3), (3, 2), (2, 2) of the columns 4, 0, 1,
    /// 2, 3.
    fn op(skips: u64, binary: bool, weights: [&'static [f32]; 2]) -> impl Fn(&mut Builder) -> Op {
        move |b| {
            let ones = Grams {
                length: 1,
                ranks: b.array(&[0, 1]),
                columns: b.array(&[4, 0]),
                weights: b.array(weights[0]),
            };
            let twos = Grams {
                length: 2,
                ranks: b.array(&[0, 0, 0, 1, 1, 0]),
                columns: b.array(&[3, 1, 2]),
                weights: b.array(weights[1]),
            };
            Op::TfIdf(TfIdf {
                items: Keys::Int64(b.array(&[2, 3])),
                grams: vec![ones, twos],
                width: 5,
                skips,
                binary,
            })
        }
    }

    #[test]
    fn n_grams_are_counted_with_every_skip_and_items_once() {
        let x = tensor(&[2, 4], Data::Int64(vec![2, 3, 2, 7, 7, 7, 7, 7]));
        let plain = apply_made(op(0, false, NONE), std::slice::from_ref(&x)).unwrap();
        let zeros = [0.0; 5];
        let expected = [[1.0, 1.0, 1.0, 0.0, 2.0], zeros].concat();
        assert_eq!(plain[0], tensor(&[2, 5], Data::Float32(expected)));
        let skipping = apply_made(op(u64::MAX, false, NONE), &[x]).unwrap();
        let expected = [[1.0, 1.0, 1.0, 1.0, 2.0], zeros].concat();
        assert_eq!(skipping[0], tensor(&[2, 5], Data::Float32(expected)));
    }

    #[test]
    fn weights_are_the_n_grams_and_binary_is_no_count() {
        let x = tensor(&[3], Data::Int32(vec![2, 2, 3]));
        const WEIGHTS: [&[f32]; 2] = [&[0.25, 0.5], &[4.0, 2.0, 3.0]];
        let counts = apply_made(op(0, false, WEIGHTS), std::slice::from_ref(&x)).unwrap();
        assert_eq!(counts[0], tensor(&[5], Data::Float32(vec![0.5, 2.0, 0.0, 4.0, 0.5])));
        let binary = apply_made(op(0, true, WEIGHTS), &[x]).unwrap();
        assert_eq!(binary[0], tensor(&[5], Data::Float32(vec![0.5, 2.0, 0.0, 4.0, 0.25])));
    }

    #[test]
    fn empty_rows_have_no_counts() {
        let x = tensor(&[2, 0], Data::Int64(vec![]));
        assert_eq!(
            apply_made(op(3, false, NONE), &[x]).unwrap()[0],
            tensor(&[2, 5], Data::Float32(vec![0.0; 10]))
        );
        let wrong = texts(&[1], &["2"]);
        assert!(matches!(
            apply_made(op(0, false, NONE), &[wrong]),
            Err(RunError::Dtype { .. })
        ));
    }
}
