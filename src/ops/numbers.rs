//! Elements of any numeric type by way of one wide type, for what is not worth
//! a loop of its own for each.

use crate::tensor::{Dtype, Shape, Tensor, Values, View};

/// The largest number of elements of a result that is larger than the
/// operands, so that a program cannot ask for memory without end.
const ELEMENTS_MAX: usize = 1 << 28;

/// The shape, unless a result of it would be too large.
pub(crate) fn bounded(shape: Shape) -> Option<Shape> {
    (shape.len() <= ELEMENTS_MAX).then_some(shape)
}

/// Whether the elements are integers or truth values.
pub(crate) fn is_integer(dtype: Dtype) -> bool {
    !matches!(dtype, Dtype::Float32 | Dtype::Float64 | Dtype::String)
}

/// The element at `index` of integers or truth values; 0 of any other type.
pub(crate) fn integer(view: View<'_>, index: usize) -> i64 {
    match view.values {
        Values::Int64(v) => v[index],
        Values::Int32(v) => i64::from(v[index]),
        Values::Bool(v) | Values::Uint8(v) => i64::from(v[index]),
        Values::Int8(v) => i64::from(v[index]),
        Values::Float32(_) | Values::Float64(_) | Values::String(_) => 0,
    }
}

/// The element at `index` of numbers, as binary64; 0 of text.
pub(crate) fn number(view: View<'_>, index: usize) -> f64 {
    view.number(index).unwrap_or(0.0)
}

/// Writes integers of a type; what it cannot hold wraps.
pub(crate) fn write_integers(out: &mut Tensor, dtype: Dtype, shape: Shape, values: &mut dyn Iterator<Item = i64>) {
    match dtype {
        Dtype::Int32 => out.write_i32(shape).extend(values.map(|v| v as i32)),
        Dtype::Uint8 => out.write_u8(shape).extend(values.map(|v| v as u8)),
        Dtype::Int8 => out.write_i8(shape).extend(values.map(|v| v as i8)),
        Dtype::Bool => out.write_bool(shape).extend(values.map(|v| u8::from(v != 0))),
        _ => out.write_i64(shape).extend(values),
    }
}

/// Writes numbers of a type, rounded to binary32; an integer type drops the
/// fraction.
pub(crate) fn write_numbers(out: &mut Tensor, dtype: Dtype, shape: Shape, values: &mut dyn Iterator<Item = f64>) {
    match dtype {
        Dtype::Float32 => out.write_f32(shape).extend(values.map(|v| v as f32)),
        Dtype::Float64 | Dtype::String => out.write_f64(shape).extend(values),
        _ => write_integers(out, dtype, shape, &mut values.map(|v| v as i64)),
    }
}
