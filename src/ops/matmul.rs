//! `ai.onnx` Gemm and MatMul.
//!
//! Products are added up from the first to the last element of the inner
//! dimension, one multiplication and one addition each (no fused operation):
//! the same bits natively and in wasm. Some columns of the right-hand matrix are
//! added up side by side by SIMD, which does not change that order.

use super::Kernel;
use super::elementwise::Broadcast;
use super::numbers::bounded;
use crate::engine::{Operands, RunError, Scratch};
use crate::program::Constants;
use crate::tensor::{RANK_MAX, Shape, Tensor, Values};
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

/// Numbers that the dense kernels run on; integers wrap.
pub(crate) trait Number: Copy + Default {
    fn plus(self, other: Self) -> Self;
    fn times(self, other: Self) -> Self;

    /// Adds `a b` to `c`, of which no side is empty: see [`multiply`].
    fn multiply(a: &[Self], b: &[Self], c: &mut [Self], inner: usize, columns: usize) {
        for (a, c) in a.chunks_exact(inner).zip(c.chunks_exact_mut(columns)) {
            for (&a, b) in a.iter().zip(b.chunks_exact(columns)) {
                c.iter_mut().zip(b).for_each(|(c, &b)| *c = c.plus(a.times(b)));
            }
        }
    }
}

impl Number for f32 {
    fn plus(self, other: f32) -> f32 {
        self + other
    }

    fn times(self, other: f32) -> f32 {
        self * other
    }

    // Nets have numbers of this type: they are worth code of their own.
    fn multiply(a: &[f32], b: &[f32], c: &mut [f32], inner: usize, columns: usize) {
        multiply_tiled(a, b, c, inner, columns);
    }
}

macro_rules! number {
    ($t:ty, $plus:expr, $times:expr) => {
        impl Number for $t {
            fn plus(self, other: $t) -> $t {
                $plus(self, other)
            }
            fn times(self, other: $t) -> $t {
                $times(self, other)
            }
        }
    };
}
number!(f64, std::ops::Add::add, std::ops::Mul::mul);
number!(i32, i32::wrapping_add, i32::wrapping_mul);
number!(i64, i64::wrapping_add, i64::wrapping_mul);

/// Columns that are added up side by side.
trait Lanes: Copy {
    const WIDTH: usize;

    /// # Safety
    /// [`Lanes::WIDTH`] numbers can be read there.
    unsafe fn load(at: *const f32) -> Self;

    /// # Safety
    /// [`Lanes::WIDTH`] numbers can be written there.
    unsafe fn store(self, at: *mut f32);

    fn splat(value: f32) -> Self;

    /// `self + a b`, rounded twice.
    fn plus_product(self, a: Self, b: Self) -> Self;
}

impl Lanes for f32 {
    const WIDTH: usize = 1;

    #[inline(always)]
    unsafe fn load(at: *const f32) -> f32 {
        // SAFETY: the caller's.
        unsafe { *at }
    }

    #[inline(always)]
    unsafe fn store(self, at: *mut f32) {
        // SAFETY: the caller's.
        unsafe { *at = self }
    }

    #[inline(always)]
    fn splat(value: f32) -> f32 {
        value
    }

    #[inline(always)]
    fn plus_product(self, a: f32, b: f32) -> f32 {
        self + a * b
    }
}

// By name where there is SIMD, because compilers do not find it in every place
// that the kernel is compiled for.
cfg_select! {
    all(target_arch = "wasm32", target_feature = "simd128") => {
        use std::arch::wasm32::{f32x4_add, f32x4_mul, f32x4_splat, v128 as Four};

        #[inline(always)]
        fn four(value: f32) -> Four {
            f32x4_splat(value)
        }

        #[inline(always)]
        fn plus_product(sums: Four, a: Four, b: Four) -> Four {
            f32x4_add(sums, f32x4_mul(a, b))
        }
    }
    target_arch = "x86_64" => {
        use std::arch::x86_64::{__m128 as Four, _mm_add_ps, _mm_mul_ps, _mm_set1_ps};

        #[inline(always)]
        fn four(value: f32) -> Four {
            // SAFETY: every x86-64 has SSE.
            unsafe { _mm_set1_ps(value) }
        }

        #[inline(always)]
        fn plus_product(sums: Four, a: Four, b: Four) -> Four {
            // SAFETY: as above.
            unsafe { _mm_add_ps(sums, _mm_mul_ps(a, b)) }
        }
    }
    _ => {
        type Four = [f32; 4];

        #[inline(always)]
        fn four(value: f32) -> Four {
            [value; 4]
        }

        #[inline(always)]
        fn plus_product(sums: Four, a: Four, b: Four) -> Four {
            std::array::from_fn(|i| sums[i] + a[i] * b[i])
        }
    }
}

impl Lanes for Four {
    const WIDTH: usize = 4;

    #[inline(always)]
    unsafe fn load(at: *const f32) -> Four {
        // SAFETY: the caller's; alignment does not matter here.
        unsafe { at.cast::<Four>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn store(self, at: *mut f32) {
        // SAFETY: as above.
        unsafe { at.cast::<Four>().write_unaligned(self) }
    }

    #[inline(always)]
    fn splat(value: f32) -> Four {
        four(value)
    }

    #[inline(always)]
    fn plus_product(self, a: Four, b: Four) -> Four {
        plus_product(self, a, b)
    }
}

/// Fours of columns whose sums are kept in registers while the inner dimension
/// goes by.
const TILE: usize = 4;
/// Rows that share what is read of the right-hand matrix.
const ROWS: usize = 2;
/// Rows that are added up side by side where there are few columns.
const ROWS_OF_FEW: usize = 8;
/// Elements of the inner dimension that are added up without a loop.
const UNROLLED: usize = 4;
/// Rows from which it pays to lay out the right-hand matrix tile by tile.
const ROWS_PACKED: usize = 32;

/// Adds `a b` to `c`: `a` is `[rows, inner]`, `b` is `[inner, columns]`.
pub(crate) fn multiply<T: Number>(a: &[T], b: &[T], c: &mut [T], inner: usize, columns: usize) {
    if inner > 0 && columns > 0 {
        T::multiply(a, b, c, inner, columns);
    }
}

/// [`multiply`] for what nets are made of.
fn multiply_tiled(a: &[f32], b: &[f32], c: &mut [f32], inner: usize, columns: usize) {
    const WIDTH: usize = TILE * Four::WIDTH;
    let mut at = 0;
    let rows = c.len() / columns;
    if rows >= ROWS_PACKED {
        let mut packed = Vec::with_capacity(inner * WIDTH);
        while at + WIDTH <= columns {
            packed.clear();
            for b in b.chunks_exact(columns) {
                packed.extend_from_slice(&b[at..at + WIDTH]);
            }
            multiply_columns::<Four, ROWS, TILE>(a, (&packed, WIDTH, 0), c, (inner, columns, at));
            at += WIDTH;
        }
    }
    // A row alone takes as many sums to hide the time of an addition.
    while rows < ROWS && at + ROWS * WIDTH <= columns {
        multiply_columns::<Four, 1, { ROWS * TILE }>(a, (b, columns, at), c, (inner, columns, at));
        at += ROWS * WIDTH;
    }
    while at + WIDTH <= columns {
        multiply_columns::<Four, ROWS, TILE>(a, (b, columns, at), c, (inner, columns, at));
        at += WIDTH;
    }
    while at + Four::WIDTH <= columns {
        multiply_columns::<Four, ROWS_OF_FEW, 1>(a, (b, columns, at), c, (inner, columns, at));
        at += Four::WIDTH;
    }
    while at < columns {
        multiply_columns::<f32, ROWS_OF_FEW, 1>(a, (b, columns, at), c, (inner, columns, at));
        at += 1;
    }
}

/// [`multiply_tiled`] for `W` times [`Lanes::WIDTH`] columns from `at` on, `R`
/// rows at a time. Those of the right-hand matrix begin at `first` in rows of
/// `step`.
fn multiply_columns<L: Lanes, const R: usize, const W: usize>(
    a: &[f32],
    (b, step, first): (&[f32], usize, usize),
    c: &mut [f32],
    (inner, columns, at): (usize, usize, usize),
) {
    let mut rows_a = a.chunks_exact(R * inner);
    let mut rows_c = c.chunks_exact_mut(R * columns);
    for (a, c) in rows_a.by_ref().zip(rows_c.by_ref()) {
        multiply_tile::<L, R, W>(a, (b, step, first), c, (inner, columns, at));
    }
    let (rest_a, rest_c) = (rows_a.remainder(), rows_c.into_remainder());
    for (a, c) in rest_a.chunks_exact(inner).zip(rest_c.chunks_exact_mut(columns)) {
        multiply_tile::<L, 1, W>(a, (b, step, first), c, (inner, columns, at));
    }
}

/// [`multiply_columns`] for `R` rows.
#[inline]
fn multiply_tile<L: Lanes, const R: usize, const W: usize>(
    a: &[f32],
    (b, step, first): (&[f32], usize, usize),
    c: &mut [f32],
    (inner, columns, at): (usize, usize, usize),
) {
    let rows: [&[f32]; R] = std::array::from_fn(|row| &a[row * inner..][..inner]);
    assert!((inner - 1) * step + first + W * L::WIDTH <= b.len());
    let mut sums: [[L; W]; R] = std::array::from_fn(|row| {
        let c = &c[row * columns + at..][..W * L::WIDTH];
        // SAFETY: there are so many.
        std::array::from_fn(|lane| unsafe { L::load(c.as_ptr().add(lane * L::WIDTH)) })
    });
    let mut add = |k: usize| {
        // SAFETY: k is below `inner`, for which it was looked above.
        let b: [L; W] =
            std::array::from_fn(|lane| unsafe { L::load(b.as_ptr().add(k * step + first + lane * L::WIDTH)) });
        for (row, sums) in rows.iter().zip(&mut sums) {
            // SAFETY: a row has `inner` elements.
            let a = L::splat(unsafe { *row.get_unchecked(k) });
            for (sum, &b) in sums.iter_mut().zip(&b) {
                *sum = sum.plus_product(a, b);
            }
        }
    };
    // Several at a time, because a loop has its price: in wasm the host looks at
    // its clock there.
    let mut k = 0;
    while k + UNROLLED <= inner {
        (k..k + UNROLLED).for_each(&mut add);
        k += UNROLLED;
    }
    (k..inner).for_each(add);
    for (row, sums) in sums.iter().enumerate() {
        let c = &mut c[row * columns + at..][..W * L::WIDTH];
        for (lane, &sum) in sums.iter().enumerate() {
            // SAFETY: there are so many.
            unsafe { sum.store(c.as_mut_ptr().add(lane * L::WIDTH)) }
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

/// `alpha A B + beta C`, versions 1 to 13, on float32, float64, int64 or int32
/// (whose alpha and beta count without their fractions).
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
            out.iter_mut().for_each(|v| *v = v.times(alpha));
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
                if columns == n && self.beta == 1.0 {
                    row.iter_mut().zip(c).for_each(|(v, &c)| *v = v.plus(c));
                    continue;
                }
                for (j, v) in row.iter_mut().enumerate() {
                    let c = c[if columns == 1 { 0 } else { j }];
                    *v = v.plus(if self.beta == 1.0 { c } else { c.times(beta) });
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
        let shape = Shape::new(&[m, n])
            .and_then(bounded)
            .ok_or_else(|| operands.shape_error("a smaller product", a.shape))?;
        macro_rules! gemm {
            ($variant:ident, $t:ty, $write:ident, $a:expr, $b:expr) => {{
                let c = match c.map(|c| (c.values, c.shape)) {
                    None => None,
                    Some((Values::$variant(v), shape)) => Some((v, shape)),
                    Some(_) => return Err(operands.dtype_error(c.unwrap_or(a).dtype())),
                };
                let factors = (self.alpha as $t, self.beta as $t);
                self.compute(($a, $b, c), (m, k, n), factors, out[0].$write(shape), operands)
            }};
        }
        match (a.values, b.values) {
            (Values::Float32(x), Values::Float32(y)) => gemm!(Float32, f32, write_f32, x, y),
            (Values::Float64(x), Values::Float64(y)) => gemm!(Float64, f64, write_f64, x, y),
            (Values::Int64(x), Values::Int64(y)) => gemm!(Int64, i64, write_i64, x, y),
            (Values::Int32(x), Values::Int32(y)) => gemm!(Int32, i32, write_i32, x, y),
            _ => Err(operands.dtype_error(a.dtype())),
        }
    }
}

/// The product of matrices as numpy's `matmul` has it, versions 1 to 13, on
/// float32, float64, int64 or int32.
///
/// The last two dimensions are matrices (a single one is a row on the left, a
/// column on the right, and does not show in the result); the dimensions before
/// them are broadcast.
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
        let (front_b, k, n) = match *b.shape.dims() {
            [] => return Err(operands.shape_error("at least one dimension", b.shape)),
            [k] => (&[][..], k, 1),
            [ref front @ .., k, n] => (front, k, n),
        };
        // One matrix on the right: whatever comes before the last dimension on
        // the left is rows.
        let (front_a, m) = match *a.shape.dims() {
            [] => return Err(operands.shape_error("at least one dimension", a.shape)),
            [ref front @ .., m, _] if !front_b.is_empty() => (front, m),
            [ref front @ .., _] if front_b.is_empty() => (&[][..], front.iter().product()),
            _ => (&[][..], 1),
        };
        let (rank_a, rank_b) = (a.shape.rank(), b.shape.rank());
        if a.shape.dims()[rank_a - 1] != k {
            return Err(operands.shape_error(format!("a last dimension of {k}"), a.shape));
        }
        let batches = Shape::new(front_a)
            .zip(Shape::new(front_b))
            .and_then(|(a, b)| Broadcast::new(a, b))
            .ok_or_else(|| operands.shape_error(format!("a shape to multiply with {:?}", a.shape), b.shape))?;
        let rows: &[usize] = match front_b.is_empty() {
            true => &a.shape.dims()[..rank_a - 1],
            false if rank_a == 1 => &[],
            false => &[m],
        };
        let columns: &[usize] = if rank_b == 1 { &[] } else { &[n] };
        let mut dims = [0; RANK_MAX];
        let mut rank = 0;
        for &dim in batches.shape.dims().iter().chain(rows).chain(columns) {
            if rank == RANK_MAX {
                return Err(operands.shape_error("fewer dimensions", a.shape));
            }
            dims[rank] = dim;
            rank += 1;
        }
        let shape = Shape::new(&dims[..rank])
            .and_then(bounded)
            .ok_or_else(|| operands.shape_error("a smaller product", a.shape))?;
        macro_rules! matmul {
            ($a:expr, $b:expr, $out:expr) => {{
                let out = $out;
                out.resize(shape.len(), Default::default());
                for ((i, j), out) in batches.pairs().zip(out.chunks_exact_mut((m * n).max(1))) {
                    multiply(&$a[i * m * k..][..m * k], &$b[j * k * n..][..k * n], out, k, n);
                }
            }};
        }
        match (a.values, b.values) {
            (Values::Float32(a), Values::Float32(b)) => matmul!(a, b, out[0].write_f32(shape)),
            (Values::Float64(a), Values::Float64(b)) => matmul!(a, b, out[0].write_f64(shape)),
            (Values::Int64(a), Values::Int64(b)) => matmul!(a, b, out[0].write_i64(shape)),
            (Values::Int32(a), Values::Int32(b)) => matmul!(a, b, out[0].write_i32(shape)),
            _ => return Err(operands.dtype_error(a.dtype())),
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

    fn matmul(a: &[usize], b: &[usize]) -> Result<Tensor, String> {
        let counted = |dims: &[usize]| tensor(dims, Data::Int64((1..=dims.iter().product::<usize>() as i64).collect()));
        apply(Op::MatMul(MatMul), &[counted(a), counted(b)]).map(|mut out| out.swap_remove(0))
    }

    #[test]
    fn matrices_and_vectors_multiply_as_in_numpy() {
        let cases = [
            (&[2, 2][..], &[2, 1][..], &[2, 1][..], &[5, 11][..]),
            (&[2], &[2], &[], &[5]),
            (&[2], &[2, 2], &[2], &[7, 10]),
            (&[2, 1, 2], &[2], &[2, 1], &[5, 11]),
            (&[2, 1, 2], &[2, 2, 1], &[2, 1, 1], &[5, 25]),
            (&[1, 2], &[2, 2, 1], &[2, 1, 1], &[5, 11]),
            (&[2], &[2, 2, 1], &[2, 1], &[5, 11]),
        ];
        for (a, b, dims, expected) in cases {
            assert_eq!(
                matmul(a, b),
                Ok(tensor(dims, Data::Int64(expected.to_vec()))),
                "{a:?} {b:?}"
            );
        }
        for (a, b) in [(&[2, 3][..], &[2, 3][..]), (&[], &[1]), (&[2, 1, 2], &[3, 2, 1])] {
            assert!(matmul(a, b).is_err(), "{a:?} {b:?}");
        }
        assert_eq!(
            matmul(&[0, 2], &[2, 3]).map(|t| t.shape.dims().to_vec()),
            Ok(vec![0, 3])
        );
    }

    #[test]
    fn gemm_transposes_scales_and_broadcasts_c() {
        let op = Gemm {
            alpha: 2.0,
            beta: 0.5,
            trans_a: true,
            trans_b: true,
        };
        let a = tensor(&[2, 1], Data::Float32(vec![1.0, 2.0]));
        let b = tensor(&[2, 2], Data::Float32(vec![1.0, 2.0, 3.0, 4.0]));
        let c = tensor(&[1], Data::Float32(vec![4.0]));
        let out = apply(Op::Gemm(op), &[a, b, c]).unwrap();
        assert_eq!(out[0], tensor(&[1, 2], Data::Float32(vec![12.0, 24.0])));
    }
}
