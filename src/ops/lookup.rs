//! Values found by key: `ai.onnx.ml` LabelEncoder (versions 1 to 4),
//! CategoryMapper and OneHotEncoder (version 1).
//!
//! The keys lie sorted in the program and are found by bisection, so nothing
//! is built when a program is loaded. Keys that are not sorted are only not
//! found.

use super::Kernel;
use crate::engine::{Operands, RunError, Scratch};
use crate::program::{Constants, Slice, StringSlice};
use crate::tensor::{RANK_MAX, Shape, StringsView, Tensor, Values, View};
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::ops::RangeInclusive;

/// The most elements that an operator of this family makes of its operands.
pub(crate) const ELEMENTS_MAX: usize = 1 << 28;

/// The rank of what is not among the keys.
pub(crate) const MISSING: u32 = u32::MAX;

/// Keys in ascending order, each once.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Keys {
    /// Of float32 and float64 operands, in the order of [`float_order`].
    Float(Slice<f64>),
    /// Of int64 and int32 operands.
    Int64(Slice<i64>),
    /// Text, in the order of its bytes.
    String(StringSlice),
}

/// Numbers by size and NaN last; every NaN is the same key, and so are the two
/// zeros.
pub fn float_order(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

impl Keys {
    /// The number of keys.
    pub fn len(&self) -> usize {
        match self {
            Keys::Float(s) => s.len(),
            Keys::Int64(s) => s.len(),
            Keys::String(s) => s.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn check(&self, constants: &Constants<'_>) -> Result<(), String> {
        match self {
            Keys::Float(s) => constants.check(*s, "keys").map(drop),
            Keys::Int64(s) => constants.check(*s, "keys").map(drop),
            Keys::String(s) => constants.check_strings(*s, "keys"),
        }
    }

    /// Writes the rank of every element among the keys, or [`MISSING`]. With
    /// `truncate` a float is an integer key without its fraction. False if
    /// elements of this type have no such keys.
    pub(crate) fn ranks(&self, constants: &Constants<'_>, x: View<'_>, truncate: bool, ranks: &mut Vec<u32>) -> bool {
        ranks.clear();
        let rank = |found: Result<usize, usize>| found.map_or(MISSING, |rank| rank as u32);
        match (self, x.values) {
            (Keys::String(keys), Values::String(v)) => {
                let keys = constants.strings(*keys);
                ranks.extend(v.iter().map(|text| rank(find_text(keys, text))));
            }
            (Keys::Float(keys), Values::Float32(_) | Values::Float64(_)) => {
                let keys = constants.get(*keys);
                ranks.extend(numbers(x).map(|number| rank(keys.binary_search_by(|&key| float_order(key, number)))));
            }
            (Keys::Int64(keys), Values::Int64(v)) => {
                let keys = constants.get(*keys);
                ranks.extend(v.iter().map(|number| rank(keys.binary_search(number))));
            }
            (Keys::Int64(keys), Values::Int32(_)) => {
                let keys = constants.get(*keys);
                ranks.extend(numbers(x).map(|number| rank(keys.binary_search(&(number as i64)))));
            }
            (Keys::Int64(keys), values) if truncate && !matches!(values, Values::String(_)) => {
                let keys = constants.get(*keys);
                ranks.extend(numbers(x).map(|number| match number {
                    // What fits no integer is no category, and NaN not 0.
                    n if n.is_nan() || n.abs() >= 9.3e18 => MISSING,
                    n => rank(keys.binary_search(&(n as i64))),
                }));
            }
            _ => return false,
        }
        true
    }
}

fn numbers<'a>(x: View<'a>) -> impl Iterator<Item = f64> + 'a {
    (0..x.shape.len()).map(move |i| x.number(i).unwrap_or(f64::NAN))
}

/// Where `text` is among sorted texts, or would be.
pub(crate) fn find_text(keys: StringsView<'_>, text: &str) -> Result<usize, usize> {
    let (mut low, mut high) = (0, keys.len());
    while low < high {
        let middle = low + (high - low) / 2;
        match keys.get(middle).cmp(text) {
            Ordering::Less => low = middle + 1,
            Ordering::Greater => high = middle,
            Ordering::Equal => return Ok(middle),
        }
    }
    Err(low)
}

/// Every element replaced by the value of its key.
///
/// Takes elements of the keys' type and any shape, and the values: a vector of
/// any type in the order of the keys, followed by the value of what is no key.
/// Yields the values in the shape of the first operand.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Lookup {
    /// The keys.
    pub keys: Keys,
}

impl Kernel for Lookup {
    const NAME: &'static str = "Lookup";
    const INPUTS: RangeInclusive<usize> = 2..=2;

    fn check(&self, constants: &Constants<'_>) -> Result<(), String> {
        self.keys.check(constants)
    }

    fn run(&self, operands: &Operands<'_>, out: &mut [Tensor], scratch: &mut Scratch) -> Result<(), RunError> {
        let (x, values) = (operands.view(0)?, operands.view(1)?);
        let default = self.keys.len();
        if values.shape.len() != default + 1 {
            return Err(operands.shape_error(format!("{} values", default + 1), values.shape));
        }
        if !self.keys.ranks(&operands.constants(), x, false, &mut scratch.indices) {
            return Err(operands.dtype_error(x.dtype()));
        }
        out[0].begin(values.dtype(), x.shape);
        for &rank in &scratch.indices {
            let at = if rank == MISSING { default } else { rank as usize };
            out[0].append(values, at..at + 1);
        }
        Ok(())
    }
}

/// Categories as columns: the shape of the operand with the number of
/// categories as one more dimension, float32, 1 where the element is the
/// category of the column and else 0.
///
/// Takes text, or numbers of any type, of which only the integer part counts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OneHot {
    /// The categories.
    pub keys: Keys,
    /// The column of each.
    pub columns: Slice<u32>,
    /// The number of columns.
    pub width: u32,
    /// Whether an element of no category is zeros, or an error.
    pub zeros: bool,
}

impl Kernel for OneHot {
    const NAME: &'static str = "OneHotEncoder";

    fn check(&self, constants: &Constants<'_>) -> Result<(), String> {
        self.keys.check(constants)?;
        let columns = constants.check(self.columns, "columns")?;
        if columns.len() != self.keys.len() {
            return Err(format!("{} columns for {} categories", columns.len(), self.keys.len()));
        }
        match columns.iter().find(|&&column| column >= self.width) {
            Some(column) => Err(format!("column {column} of {}", self.width)),
            None => Ok(()),
        }
    }

    fn run(&self, operands: &Operands<'_>, out: &mut [Tensor], scratch: &mut Scratch) -> Result<(), RunError> {
        let x = operands.view(0)?;
        let constants = operands.constants();
        let width = self.width as usize;
        let rank = x.shape.rank();
        let mut dims = [0; RANK_MAX];
        let shape = (rank < RANK_MAX).then(|| {
            dims[..rank].copy_from_slice(x.shape.dims());
            dims[rank] = width;
            Shape::new(&dims[..=rank])
        });
        let shape = shape
            .flatten()
            .filter(|shape| shape.len() <= ELEMENTS_MAX)
            .ok_or_else(|| operands.shape_error("a smaller operand", x.shape))?;
        if !self.keys.ranks(&constants, x, true, &mut scratch.indices) {
            return Err(operands.dtype_error(x.dtype()));
        }
        let columns = constants.get(self.columns);
        let out = out[0].write_f32(shape);
        out.resize(shape.len(), 0.0);
        for (&rank, row) in scratch.indices.iter().zip(out.chunks_exact_mut(width.max(1))) {
            match columns.get(rank as usize) {
                Some(&column) => row[column as usize] = 1.0,
                None if self.zeros => {}
                None => return Err(operands.value_error("an element is of no category")),
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
    use crate::program::{Builder, Image, Program};
    use crate::tensor::Data;

    #[test]
    fn every_nan_is_one_key_and_so_are_the_zeros() {
        let op = |b: &mut Builder| {
            let keys = Keys::Float(b.array(&[-1.5, 0.0, f64::NAN]));
            Op::Lookup(Lookup { keys })
        };
        let x = tensor(&[2, 2], Data::Float32(vec![-f32::NAN, -0.0, 7.0, -1.5]));
        let values = texts(&[4], &["low", "zero", "nan", "other"]);
        let result = apply_made(op, &[x, values]).unwrap();
        assert_eq!(result[0], texts(&[2, 2], &["nan", "zero", "other", "low"]));
    }

    #[test]
    fn text_is_found_by_its_bytes_and_else_has_the_default() {
        let op = |b: &mut Builder| {
            let keys = Keys::String(b.strings(&["", "B", "a", "é"]));
            Op::Lookup(Lookup { keys })
        };
        let values = tensor(&[5], Data::Int64(vec![10, 11, 12, 13, -1]));
        let x = texts(&[6], &["é", "a", "", "A", "B", "aa"]);
        let result = apply_made(op, &[x, values.clone()]).unwrap();
        assert_eq!(result[0], tensor(&[6], Data::Int64(vec![13, 12, 10, -1, 11, -1])));
        let number = tensor(&[1], Data::Int64(vec![1]));
        assert!(matches!(apply_made(op, &[number, values]), Err(RunError::Dtype { .. })));
    }

    #[test]
    fn floats_are_categories_without_their_fraction_and_nan_is_none() {
        let op = |zeros: bool| {
            move |b: &mut Builder| {
                Op::OneHot(OneHot {
                    keys: Keys::Int64(b.array(&[-1, 0, 4])),
                    columns: b.array(&[2, 0, 1]),
                    width: 3,
                    zeros,
                })
            }
        };
        let x = tensor(&[2, 2], Data::Float32(vec![-1.9, f32::NAN, 4.7, f32::INFINITY]));
        let expected = vec![0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0];
        let result = apply_made(op(true), std::slice::from_ref(&x)).unwrap();
        assert_eq!(result[0], tensor(&[2, 2, 3], Data::Float32(expected)));
        assert!(matches!(apply_made(op(false), &[x]), Err(RunError::Value { .. })));
    }

    #[test]
    fn columns_outside_the_result_are_refused() {
        let mut builder = Builder::new(1);
        let op = OneHot {
            keys: Keys::Int64(builder.array(&[1])),
            columns: builder.array(&[1]),
            width: 1,
            zeros: true,
        };
        let outputs = builder.push(Op::OneHot(op), vec![crate::program::Source::Input(0)]);
        let image = builder.finish(outputs);
        assert!(Program::load(Image::from(image)).is_err());
    }
}
