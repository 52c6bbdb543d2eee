//! `ai.onnx` Gemm and MatMul.
//!
//! Products are added up from the first to the last element of the inner
//! dimension, one multiplication and one addition each (no fused operation):
//! the same bits natively and in wasm. The loop runs over the columns of the
//! right-hand matrix inside, which compilers turn into SIMD without changing
//! that order.

use super::Kernel;
use crate::engine::{Operands, RunError, Scratch};
use crate::program::Constants;
use crate::tensor::{Shape, Tensor, Values};
use serde::{Deserialize, Serialize};
use std::ops::{Add, Mul, RangeInclusive};

/// Numbers that the dense kernels run on.
pub(crate) trait Number: Copy + Default + Add<Output = Self> + Mul<Output = Self> {}
impl Number for f32 {}
impl Number for f64 {}

/// Adds `a b` to `c`: `a` is `[rows, inner]`, `b` is `[inner, columns]`.
pub(crate) fn multiply<T: Number>(a: &[T], b: &[T], c: &mut [T], inner: usize, columns: usize) {
    if inner == 0 || columns == 0 {
        return;
    }
    for (a, c) in a.chunks_exact(inner).zip(c.chunks_exact_mut(columns)) {
        for (&a, b) in a.iter().zip(b.chunks_exact(columns)) {
            for (c, &b) in c.iter_mut().zip(b) {
                *c = *c + a * b;
            }
        }
    }
}

fn transpose<T: Number>(a: &[T], rows: usize, columns: usize) -> Vec<T> {
    let mut out = Vec::with_capacity(a.len());
    for column in 0..columns {
        out.extend((0..rows).map(|row| a[row * columns + column]));
    }
    out
}

/// `alpha A B + beta C`, versions 1 to 13, on float32 or float64.
///
/// A is `[M, K]` or its transpose, B `[K, N]` or its transpose, C broadcasts
/// to `[M, N]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Gemm {
    /// Factor of the product.
    pub alpha: f32,
    /// Factor of C.
    pub beta: f32,
    /// A comes transposed.
    pub trans_a: bool,
    /// B comes transposed. The lowering transposes constants beforehand.
    pub trans_b: bool,
}

/// C and its shape.
type Addend<'a, T> = (&'a [T], Shape);

impl Gemm {
    fn compute<T: Number>(
        &self,
        (a, b, c): (&[T], &[T], Option<Addend<'_, T>>),
        (m, k, n): (usize, usize, usize),
        (alpha, beta): (T, T),
        out: &mut Vec<T>,
        operands: &Operands<'_>,
    ) -> Result<(), RunError> {
        let (a_owned, b_owned);
        let a = if self.trans_a {
            a_owned = transpose(a, k, m);
            &a_owned[..]
        } else {
            a
        };
        let b = if self.trans_b {
            b_owned = transpose(b, n, k);
            &b_owned[..]
        } else {
            b
        };
        out.resize(m * n, T::default());
        multiply(a, b, out, k, n);
        if self.alpha != 1.0 {
            out.iter_mut().for_each(|v| *v = *v * alpha);
        }
        if let Some((c, shape)) = c {
            let (rows, columns) = match shape.dims() {
                [] => (1, 1),
                [columns] => (1, *columns),
                [rows, columns] => (*rows, *columns),
                _ => (0, 0),
            };
            if (rows != 1 && rows != m) || (columns != 1 && columns != n) || rows * columns == 0 {
                return Err(operands.shape_error(format!("C to broadcast to [{m}, {n}]"), shape));
            }
            for (i, row) in out.chunks_exact_mut(n.max(1)).enumerate() {
                let c = &c[if rows == 1 { 0 } else { i * columns }..];
                for (j, v) in row.iter_mut().enumerate() {
                    let c = c[if columns == 1 { 0 } else { j }];
                    *v = *v + if self.beta == 1.0 { c } else { c * beta };
                }
            }
        }
        Ok(())
    }
}

impl Kernel for Gemm {
    const NAME: &'static str = "Gemm";
    const INPUTS: RangeInclusive<usize> = 2..=3;

    fn check(&self, _: &Constants<'_>) -> Result<(), String> {
        Ok(())
    }

    fn run(&self, operands: &Operands<'_>, out: &mut [Tensor], _: &mut Scratch) -> Result<(), RunError> {
        let (a, b) = (operands.view(0)?, operands.view(1)?);
        let (&[a0, a1], &[b0, b1]) = (a.shape.dims(), b.shape.dims()) else {
            let wrong = if a.shape.rank() != 2 { a } else { b };
            return Err(operands.shape_error("a matrix", wrong.shape));
        };
        let (m, k) = if self.trans_a { (a1, a0) } else { (a0, a1) };
        let (k_b, n) = if self.trans_b { (b1, b0) } else { (b0, b1) };
        if k != k_b {
            return Err(operands.shape_error(format!("B with an inner dimension of {k}"), b.shape));
        }
        let c = operands.get(2);
        let shape = Shape::matrix(m, n);
        match (a.values, b.values, c.map(|c| c.values)) {
            (Values::Float32(a), Values::Float32(b), None | Some(Values::Float32(_))) => {
                let c = c.and_then(|c| match c.values {
                    Values::Float32(v) => Some((v, c.shape)),
                    _ => None,
                });
                let out = out[0].write_f32(shape);
                self.compute((a, b, c), (m, k, n), (self.alpha, self.beta), out, operands)
            }
            (Values::Float64(a), Values::Float64(b), None | Some(Values::Float64(_))) => {
                let c = c.and_then(|c| match c.values {
                    Values::Float64(v) => Some((v, c.shape)),
                    _ => None,
                });
                let out = out[0].write_f64(shape);
                let factors = (self.alpha as f64, self.beta as f64);
                self.compute((a, b, c), (m, k, n), factors, out, operands)
            }
            _ => Err(operands.dtype_error(a.dtype())),
        }
    }
}

/// The product of matrices as numpy's `matmul` has it, versions 1 to 13, on
/// float32 or float64.
///
/// The right-hand side is a matrix or a vector; the left-hand side may have
/// any number of dimensions, which all but the last are rows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MatMul;

impl Kernel for MatMul {
    const NAME: &'static str = "MatMul";
    const INPUTS: RangeInclusive<usize> = 2..=2;

    fn check(&self, _: &Constants<'_>) -> Result<(), String> {
        Ok(())
    }

    fn run(&self, operands: &Operands<'_>, out: &mut [Tensor], _: &mut Scratch) -> Result<(), RunError> {
        let (a, b) = (operands.view(0)?, operands.view(1)?);
        let (k, n, vector) = match *b.shape.dims() {
            [k] => (k, 1, true),
            [k, n] => (k, n, false),
            _ => return Err(operands.shape_error("a matrix or vector on the right", b.shape)),
        };
        let Some((&last, front)) = a.shape.dims().split_last() else {
            return Err(operands.shape_error("at least one dimension", a.shape));
        };
        if last != k {
            return Err(operands.shape_error(format!("a last dimension of {k}"), a.shape));
        }
        let mut dims = [0; crate::tensor::RANK_MAX];
        dims[..front.len()].copy_from_slice(front);
        let mut rank = front.len();
        if !vector {
            dims[rank] = n;
            rank += 1;
        }
        let shape = Shape::new(&dims[..rank]).ok_or_else(|| operands.shape_error("a smaller product", a.shape))?;
        match (a.values, b.values) {
            (Values::Float32(a), Values::Float32(b)) => {
                let out = out[0].write_f32(shape);
                out.resize(shape.len(), 0.0);
                multiply(a, b, out, k, n);
            }
            (Values::Float64(a), Values::Float64(b)) => {
                let out = out[0].write_f64(shape);
                out.resize(shape.len(), 0.0);
                multiply(a, b, out, k, n);
            }
            _ => return Err(operands.dtype_error(a.dtype())),
        }
        Ok(())
    }
}
