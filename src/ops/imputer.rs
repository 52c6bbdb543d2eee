//! `ai.onnx.ml` Imputer, version 1.

use super::Kernel;
use crate::engine::{Operands, RunError, Scratch};
use crate::program::{Constants, Slice};
use crate::tensor::{Tensor, Values};
use serde::{Deserialize, Serialize};

/// Elements equal to a value are replaced, those of column `c` by `values[c]`
/// if there is a value for every column and else by the first. Where NaN is
/// to be replaced, every NaN is.
///
/// Takes one dimension or more; the columns are those of the second, or of the
/// only one. Yields the same shape and type.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Imputer {
    /// For float32 and float64.
    Float {
        /// What is replaced.
        missing: f32,
        /// By what.
        values: Slice<f32>,
    },
    /// For int64 and int32.
    Int64 {
        /// What is replaced.
        missing: i64,
        /// By what.
        values: Slice<i64>,
    },
}

fn impute<T: Copy, V: Copy>(
    x: &[T],
    columns: usize,
    values: &[V],
    missing: impl Fn(T) -> bool,
    convert: impl Fn(V) -> T,
    out: &mut Vec<T>,
) {
    let Some(&first) = values.first() else { return };
    for row in x.chunks(columns.max(1)) {
        out.extend(row.iter().enumerate().map(|(column, &x)| match missing(x) {
            true if values.len() == columns => convert(values[column]),
            true => convert(first),
            false => x,
        }));
    }
}

impl Kernel for Imputer {
    const NAME: &'static str = "Imputer";

    fn check(&self, constants: &Constants<'_>) -> Result<(), String> {
        let count = match self {
            Imputer::Float { values, .. } => constants.check(*values, "values")?.len(),
            Imputer::Int64 { values, .. } => constants.check(*values, "values")?.len(),
        };
        match count {
            0 => Err("no values".into()),
            _ => Ok(()),
        }
    }

    fn run(&self, operands: &Operands<'_>, out: &mut [Tensor], _: &mut Scratch) -> Result<(), RunError> {
        let x = operands.view(0)?;
        let columns = match x.shape.dims() {
            [] => return Err(operands.shape_error("at least one dimension", x.shape)),
            [columns] | [_, columns, ..] => *columns,
        };
        let constants = operands.constants();
        let out = &mut out[0];
        match (self, x.values) {
            (Imputer::Float { missing, values }, Values::Float32(v)) => {
                let is_missing = |x: f32| x == *missing || x.is_nan() && missing.is_nan();
                let values = constants.get(*values);
                impute(v, columns, values, is_missing, |v| v, out.write_f32(x.shape));
            }
            (Imputer::Float { missing, values }, Values::Float64(v)) => {
                let is_missing = |x: f64| x == f64::from(*missing) || x.is_nan() && missing.is_nan();
                let values = constants.get(*values);
                impute(v, columns, values, is_missing, f64::from, out.write_f64(x.shape));
            }
            (Imputer::Int64 { missing, values }, Values::Int64(v)) => {
                let values = constants.get(*values);
                impute(v, columns, values, |x| x == *missing, |v| v, out.write_i64(x.shape));
            }
            (Imputer::Int64 { missing, values }, Values::Int32(v)) => {
                let is_missing = |x: i32| i64::from(x) == *missing;
                let values = constants.get(*values);
                impute(v, columns, values, is_missing, |v| v as i32, out.write_i32(x.shape));
            }
            _ => return Err(operands.dtype_error(x.dtype())),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Op;
    use crate::ops::testing::{apply_made, tensor};
    use crate::program::Builder;
    use crate::tensor::Data;

    fn floats(missing: f32, values: &'static [f32]) -> impl Fn(&mut Builder) -> Op {
        move |b| {
            let values = b.array(values);
            Op::Imputer(Imputer::Float { missing, values })
        }
    }

    #[test]
    fn nan_is_replaced_by_the_value_of_its_column_or_by_the_only_one() {
        let x = tensor(&[2, 2], Data::Float32(vec![f32::NAN, 1.0, 2.0, f32::NAN]));
        let by_column = apply_made(floats(f32::NAN, &[7.0, 8.0]), std::slice::from_ref(&x)).unwrap();
        assert_eq!(by_column[0], tensor(&[2, 2], Data::Float32(vec![7.0, 1.0, 2.0, 8.0])));
        let by_first = apply_made(floats(f32::NAN, &[9.0]), &[x]).unwrap();
        assert_eq!(by_first[0], tensor(&[2, 2], Data::Float32(vec![9.0, 1.0, 2.0, 9.0])));
    }

    #[test]
    fn nan_stays_where_a_number_is_replaced() {
        let x = tensor(&[3], Data::Float64(vec![-1.0, f64::NAN, 3.0]));
        let result = apply_made(floats(-1.0, &[0.5]), &[x]).unwrap();
        let Data::Float64(v) = &result[0].data else { panic!() };
        assert!(v[0] == 0.5 && v[1].is_nan() && v[2] == 3.0);
    }

    #[test]
    fn integers_are_compared_as_such() {
        let x = tensor(&[1, 2], Data::Int64(vec![(1 << 53) + 1, 1 << 53]));
        let op = |b: &mut Builder| {
            let values = b.array(&[5]);
            Op::Imputer(Imputer::Int64 {
                missing: 1 << 53,
                values,
            })
        };
        let result = apply_made(op, &[x]).unwrap();
        assert_eq!(result[0], tensor(&[1, 2], Data::Int64(vec![(1 << 53) + 1, 5])));
    }
}
