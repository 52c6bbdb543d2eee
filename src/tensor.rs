//! Tensors as the tabular engine holds them: dense, row-major, the first
//! dimension the batch.
//!
//! A [`Tensor`] owns its buffer and is written again and again (a register of
//! the engine keeps its allocation between calls); a [`View`] borrows, either
//! from a register or from the constants inside the program image.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::Range;

/// An element type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// IEEE 754 binary32.
    Float32,
    /// IEEE 754 binary64.
    Float64,
    /// Signed, 64 bits.
    Int64,
    /// Signed, 32 bits.
    Int32,
    /// One byte, 0 or 1.
    Bool,
    /// UTF-8 text.
    String,
    /// Unsigned, 8 bits; inside quantised graphs.
    Uint8,
    /// Signed, 8 bits; inside quantised graphs.
    Int8,
}

impl Dtype {
    /// All of them.
    pub const ALL: [Dtype; 8] = [
        Dtype::Float32,
        Dtype::Float64,
        Dtype::Int64,
        Dtype::Int32,
        Dtype::Bool,
        Dtype::String,
        Dtype::Uint8,
        Dtype::Int8,
    ];

    /// Name as numpy and ONNX Runtime print it.
    pub fn name(self) -> &'static str {
        match self {
            Dtype::Float32 => "float32",
            Dtype::Float64 => "float64",
            Dtype::Int64 => "int64",
            Dtype::Int32 => "int32",
            Dtype::Bool => "bool",
            Dtype::String => "string",
            Dtype::Uint8 => "uint8",
            Dtype::Int8 => "int8",
        }
    }

    /// The largest magnitude up to which every integer is exact in this type.
    pub fn integer_max(self) -> f64 {
        match self {
            Dtype::Float32 => (1u64 << 24) as f64,
            Dtype::Int32 => i32::MAX as f64,
            Dtype::Bool => 1.0,
            Dtype::Uint8 => u8::MAX as f64,
            Dtype::Int8 => i8::MAX as f64,
            // JSON numbers arrive as binary64, which is exact this far.
            Dtype::Float64 | Dtype::Int64 | Dtype::String => (1u64 << 53) as f64,
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The largest number of dimensions a tensor may have.
pub const RANK_MAX: usize = 6;

/// The largest number of elements a tensor may have, whatever asks for them.
pub const ELEMENTS_MAX: usize = 1 << 28;

/// Sizes of the dimensions, outermost first; at most [`RANK_MAX`] of them.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Shape {
    dims: [usize; RANK_MAX],
    rank: u8,
}

impl Shape {
    /// The shape with these dimensions, or `None` when there are too many or
    /// more than [`ELEMENTS_MAX`] elements. Dimensions of 0 don't excuse the
    /// others: an operator may well drop them.
    pub fn new(dims: &[usize]) -> Option<Shape> {
        if dims.len() > RANK_MAX {
            return None;
        }
        let product = |product: usize, &dim: &usize| product.checked_mul(dim.max(1)).filter(|&p| p <= ELEMENTS_MAX);
        dims.iter().try_fold(1, product)?;
        let mut shape = Shape {
            dims: [0; RANK_MAX],
            rank: dims.len() as u8,
        };
        shape.dims[..dims.len()].copy_from_slice(dims);
        Some(shape)
    }

    /// `[rows, columns]`.
    pub fn matrix(rows: usize, columns: usize) -> Shape {
        let mut shape = Shape {
            dims: [0; RANK_MAX],
            rank: 2,
        };
        shape.dims[0] = rows;
        shape.dims[1] = columns;
        shape
    }

    /// `[length]`.
    pub fn vector(length: usize) -> Shape {
        let mut shape = Shape {
            dims: [0; RANK_MAX],
            rank: 1,
        };
        shape.dims[0] = length;
        shape
    }

    /// The dimensions.
    pub fn dims(&self) -> &[usize] {
        &self.dims[..self.rank as usize]
    }

    /// The number of dimensions.
    pub fn rank(&self) -> usize {
        self.rank as usize
    }

    /// The number of elements; 1 for a scalar.
    pub fn len(&self) -> usize {
        self.dims().iter().product()
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.dims().contains(&0)
    }

    /// The shape as `[rows, columns]` where the operator works on rows: a
    /// vector of `n` is one row of `n`, as the `ai.onnx.ml` operators have it,
    /// and more dimensions than two are folded into the columns.
    pub fn as_rows(&self) -> (usize, usize) {
        match self.dims() {
            [] => (1, 1),
            [columns] => (1, *columns),
            [rows, rest @ ..] => (*rows, rest.iter().product()),
        }
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.dims())
    }
}

/// Strings of a tensor: one buffer, and where each ends.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Strings {
    ends: Vec<u32>,
    text: String,
}

impl Strings {
    /// The number of strings.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Removes all, keeping the buffers.
    pub fn clear(&mut self) {
        self.ends.clear();
        self.text.clear();
    }

    /// Appends one.
    pub fn push(&mut self, value: &str) {
        self.text.push_str(value);
        self.ends.push(self.text.len() as u32);
    }

    /// Drops those from `len` on.
    pub fn truncate(&mut self, len: usize) {
        if len < self.ends.len() {
            let end = if len == 0 { 0 } else { self.ends[len - 1] };
            self.text.truncate(end as usize);
            self.ends.truncate(len);
        }
    }

    /// A borrowed view of all of them.
    pub fn view(&self) -> StringsView<'_> {
        StringsView {
            ends: &self.ends,
            text: &self.text,
        }
    }
}

/// Borrowed strings; see [`Strings`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StringsView<'a> {
    pub(crate) ends: &'a [u32],
    pub(crate) text: &'a str,
}

impl<'a> StringsView<'a> {
    /// The number of strings.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The string at `index`, or the empty one past the end.
    pub fn get(&self, index: usize) -> &'a str {
        let start = match index.checked_sub(1) {
            Some(before) => self.ends.get(before).copied().unwrap_or(0) as usize,
            None => 0,
        };
        let end = self.ends.get(index).copied().unwrap_or(0) as usize;
        self.text.get(start..end).unwrap_or("")
    }

    /// All strings in order.
    pub fn iter(self) -> impl Iterator<Item = &'a str> {
        (0..self.len()).map(move |index| self.get(index))
    }
}

/// An owned buffer of one of the element types.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// See [`Dtype::Float32`].
    Float32(Vec<f32>),
    /// See [`Dtype::Float64`].
    Float64(Vec<f64>),
    /// See [`Dtype::Int64`].
    Int64(Vec<i64>),
    /// See [`Dtype::Int32`].
    Int32(Vec<i32>),
    /// See [`Dtype::Bool`].
    Bool(Vec<u8>),
    /// See [`Dtype::String`].
    String(Strings),
    /// See [`Dtype::Uint8`].
    Uint8(Vec<u8>),
    /// See [`Dtype::Int8`].
    Int8(Vec<i8>),
}

impl Data {
    /// An empty buffer.
    pub fn empty(dtype: Dtype) -> Data {
        match dtype {
            Dtype::Float32 => Data::Float32(Vec::new()),
            Dtype::Float64 => Data::Float64(Vec::new()),
            Dtype::Int64 => Data::Int64(Vec::new()),
            Dtype::Int32 => Data::Int32(Vec::new()),
            Dtype::Bool => Data::Bool(Vec::new()),
            Dtype::String => Data::String(Strings::default()),
            Dtype::Uint8 => Data::Uint8(Vec::new()),
            Dtype::Int8 => Data::Int8(Vec::new()),
        }
    }

    /// The element type.
    pub fn dtype(&self) -> Dtype {
        match self {
            Data::Float32(_) => Dtype::Float32,
            Data::Float64(_) => Dtype::Float64,
            Data::Int64(_) => Dtype::Int64,
            Data::Int32(_) => Dtype::Int32,
            Data::Bool(_) => Dtype::Bool,
            Data::String(_) => Dtype::String,
            Data::Uint8(_) => Dtype::Uint8,
            Data::Int8(_) => Dtype::Int8,
        }
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        match self {
            Data::Float32(v) => v.len(),
            Data::Float64(v) => v.len(),
            Data::Int64(v) => v.len(),
            Data::Int32(v) => v.len(),
            Data::Bool(v) => v.len(),
            Data::String(v) => v.len(),
            Data::Uint8(v) => v.len(),
            Data::Int8(v) => v.len(),
        }
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The size of the elements, without what is allocated for more.
    pub fn bytes(&self) -> usize {
        match self {
            Data::Float32(v) => 4 * v.len(),
            Data::Float64(v) => 8 * v.len(),
            Data::Int64(v) => 8 * v.len(),
            Data::Int32(v) => 4 * v.len(),
            Data::Bool(v) => v.len(),
            Data::String(v) => 4 * v.len() + v.text.len(),
            Data::Uint8(v) => v.len(),
            Data::Int8(v) => v.len(),
        }
    }

    /// Removes all elements, keeping the allocation.
    pub fn clear(&mut self) {
        match self {
            Data::Float32(v) => v.clear(),
            Data::Float64(v) => v.clear(),
            Data::Int64(v) => v.clear(),
            Data::Int32(v) => v.clear(),
            Data::Bool(v) => v.clear(),
            Data::String(v) => v.clear(),
            Data::Uint8(v) => v.clear(),
            Data::Int8(v) => v.clear(),
        }
    }
}

/// An owned tensor: a register of the engine.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// The dimensions; their product is the number of elements.
    pub shape: Shape,
    /// The elements.
    pub data: Data,
}

impl Default for Tensor {
    fn default() -> Tensor {
        Tensor {
            shape: Shape::vector(0),
            data: Data::Float32(Vec::new()),
        }
    }
}

macro_rules! writers {
    ($($method:ident $variant:ident $type:ty;)*) => {$(
        /// An empty buffer of this element type to append to, after which the
        /// tensor has `shape`; the caller appends exactly that many elements.
        pub fn $method(&mut self, shape: Shape) -> &mut Vec<$type> {
            self.shape = shape;
            if !matches!(self.data, Data::$variant(_)) {
                self.data = Data::$variant(Vec::new());
            }
            match &mut self.data {
                Data::$variant(buffer) => {
                    buffer.clear();
                    buffer.reserve(shape.len());
                    buffer
                }
                _ => unreachable!("the variant was set above"),
            }
        }
    )*};
}

impl Tensor {
    /// A tensor of this shape in which all is 0, false or the empty text.
    pub fn zeros(dtype: Dtype, shape: Shape) -> Tensor {
        let len = shape.len();
        let data = match dtype {
            Dtype::Float32 => Data::Float32(vec![0.0; len]),
            Dtype::Float64 => Data::Float64(vec![0.0; len]),
            Dtype::Int64 => Data::Int64(vec![0; len]),
            Dtype::Int32 => Data::Int32(vec![0; len]),
            Dtype::Bool => Data::Bool(vec![0; len]),
            Dtype::Uint8 => Data::Uint8(vec![0; len]),
            Dtype::Int8 => Data::Int8(vec![0; len]),
            Dtype::String => {
                let mut strings = Strings::default();
                (0..len).for_each(|_| strings.push(""));
                Data::String(strings)
            }
        };
        Tensor { shape, data }
    }

    writers! {
        write_f32 Float32 f32;
        write_f64 Float64 f64;
        write_i64 Int64 i64;
        write_i32 Int32 i32;
        write_bool Bool u8;
        write_u8 Uint8 u8;
        write_i8 Int8 i8;
    }

    /// Like the writers of numbers, for strings.
    pub fn write_strings(&mut self, shape: Shape) -> &mut Strings {
        self.shape = shape;
        if !matches!(self.data, Data::String(_)) {
            self.data = Data::String(Strings::default());
        }
        match &mut self.data {
            Data::String(strings) => {
                strings.clear();
                strings
            }
            _ => unreachable!("the variant was set above"),
        }
    }

    /// Gives the tensor this type and shape, and no elements as yet: the caller
    /// appends them by [`Tensor::append`].
    pub fn begin(&mut self, dtype: Dtype, shape: Shape) {
        if self.data.dtype() != dtype {
            self.data = Data::empty(dtype);
        }
        self.data.clear();
        self.shape = shape;
    }

    /// Appends elements of a view of the same type, whatever that is: operators
    /// that only move elements are written once for all types by it.
    ///
    /// # Panics
    /// When the range does not lie in the view.
    pub fn append(&mut self, from: View<'_>, range: Range<usize>) {
        match (&mut self.data, from.values) {
            (Data::Float32(to), Values::Float32(v)) => to.extend_from_slice(&v[range]),
            (Data::Float64(to), Values::Float64(v)) => to.extend_from_slice(&v[range]),
            (Data::Int64(to), Values::Int64(v)) => to.extend_from_slice(&v[range]),
            (Data::Int32(to), Values::Int32(v)) => to.extend_from_slice(&v[range]),
            (Data::Bool(to), Values::Bool(v)) | (Data::Uint8(to), Values::Uint8(v)) => to.extend_from_slice(&v[range]),
            (Data::Int8(to), Values::Int8(v)) => to.extend_from_slice(&v[range]),
            (Data::String(to), Values::String(v)) => range.for_each(|i| to.push(v.get(i))),
            (data, _) => debug_assert_eq!(data.dtype(), from.dtype(), "operators check their operands' types"),
        }
    }

    /// Appends `count` elements of a view of the same type that lie `step`
    /// apart from `start` on; a step of 0 repeats one element.
    ///
    /// # Panics
    /// When one of them does not lie in the view.
    pub fn append_steps(&mut self, from: View<'_>, start: usize, step: isize, count: usize) {
        if step == 1 {
            return self.append(from, start..start + count);
        }
        let at = (0..count as isize).map(|i| start.wrapping_add_signed(step * i));
        match (&mut self.data, from.values) {
            (Data::Float32(to), Values::Float32(v)) => to.extend(at.map(|i| v[i])),
            (Data::Float64(to), Values::Float64(v)) => to.extend(at.map(|i| v[i])),
            (Data::Int64(to), Values::Int64(v)) => to.extend(at.map(|i| v[i])),
            (Data::Int32(to), Values::Int32(v)) => to.extend(at.map(|i| v[i])),
            (Data::Bool(to), Values::Bool(v)) | (Data::Uint8(to), Values::Uint8(v)) => to.extend(at.map(|i| v[i])),
            (Data::Int8(to), Values::Int8(v)) => to.extend(at.map(|i| v[i])),
            (Data::String(to), Values::String(v)) => at.for_each(|i| to.push(v.get(i))),
            (data, _) => debug_assert_eq!(data.dtype(), from.dtype(), "operators check their operands' types"),
        }
    }

    /// Becomes a copy of the view in another shape of as many elements.
    pub fn copy_from(&mut self, view: View<'_>, shape: Shape) {
        debug_assert_eq!(view.shape.len(), shape.len());
        self.begin(view.dtype(), shape);
        self.append(view, 0..view.shape.len());
    }

    /// A borrowed view.
    pub fn view(&self) -> View<'_> {
        View {
            shape: self.shape,
            values: match &self.data {
                Data::Float32(v) => Values::Float32(v),
                Data::Float64(v) => Values::Float64(v),
                Data::Int64(v) => Values::Int64(v),
                Data::Int32(v) => Values::Int32(v),
                Data::Bool(v) => Values::Bool(v),
                Data::String(v) => Values::String(v.view()),
                Data::Uint8(v) => Values::Uint8(v),
                Data::Int8(v) => Values::Int8(v),
            },
        }
    }
}

/// Borrowed elements.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Values<'a> {
    /// See [`Dtype::Float32`].
    Float32(&'a [f32]),
    /// See [`Dtype::Float64`].
    Float64(&'a [f64]),
    /// See [`Dtype::Int64`].
    Int64(&'a [i64]),
    /// See [`Dtype::Int32`].
    Int32(&'a [i32]),
    /// See [`Dtype::Bool`].
    Bool(&'a [u8]),
    /// See [`Dtype::String`].
    String(StringsView<'a>),
    /// See [`Dtype::Uint8`].
    Uint8(&'a [u8]),
    /// See [`Dtype::Int8`].
    Int8(&'a [i8]),
}

/// A borrowed tensor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct View<'a> {
    /// The dimensions.
    pub shape: Shape,
    /// The elements.
    pub values: Values<'a>,
}

impl<'a> View<'a> {
    /// The element type.
    pub fn dtype(&self) -> Dtype {
        match self.values {
            Values::Float32(_) => Dtype::Float32,
            Values::Float64(_) => Dtype::Float64,
            Values::Int64(_) => Dtype::Int64,
            Values::Int32(_) => Dtype::Int32,
            Values::Bool(_) => Dtype::Bool,
            Values::String(_) => Dtype::String,
            Values::Uint8(_) => Dtype::Uint8,
            Values::Int8(_) => Dtype::Int8,
        }
    }

    /// The element at `index` as binary64, where that is a number.
    pub fn number(&self, index: usize) -> Option<f64> {
        match self.values {
            Values::Float32(v) => v.get(index).map(|&x| x as f64),
            Values::Float64(v) => v.get(index).copied(),
            Values::Int64(v) => v.get(index).map(|&x| x as f64),
            Values::Int32(v) => v.get(index).map(|&x| x as f64),
            Values::Bool(v) => v.get(index).map(|&x| x as f64),
            Values::Uint8(v) => v.get(index).map(|&x| x as f64),
            Values::Int8(v) => v.get(index).map(|&x| x as f64),
            Values::String(_) => None,
        }
    }

    /// An owned copy.
    pub fn to_tensor(&self) -> Tensor {
        let mut tensor = Tensor::default();
        tensor.copy_from(*self, self.shape);
        tensor
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_read_back_in_order_and_truncate_to_a_prefix() {
        let mut strings = Strings::default();
        for s in ["", "a", "", "bcd"] {
            strings.push(s);
        }
        assert_eq!(strings.view().iter().collect::<Vec<_>>(), ["", "a", "", "bcd"]);
        strings.truncate(2);
        strings.push("x");
        assert_eq!(strings.view().iter().collect::<Vec<_>>(), ["", "a", "x"]);
        strings.truncate(0);
        assert!(strings.is_empty());
    }

    #[test]
    fn a_shape_whose_size_overflows_is_refused() {
        assert_eq!(Shape::new(&[usize::MAX, 2]), None);
        assert_eq!(Shape::new(&[1 << 20, 0, 1 << 20]), None);
        assert_eq!(Shape::new(&[0, usize::MAX, 2]), None);
        assert_eq!(Shape::new(&[1; RANK_MAX + 1]), None);
        assert_eq!(Shape::new(&[2, 3]).map(|s| s.len()), Some(6));
    }
}
