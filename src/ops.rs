//! The operators of the tabular engine, one file a family.
//!
//! To add one: write its file with a struct that holds its attributes and
//! implements `Kernel`, name it in the table below (at the end: the position
//! is the number it has in packed programs), and give the lowering in the
//! host's `pack` the arm that builds it from an ONNX node.

use crate::engine::{Operands, RunError, Scratch};
use crate::program::Constants;
use crate::tensor::Tensor;
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

pub mod arg_max;
pub mod cast;
pub mod concat;
pub mod einsum;
pub mod elementwise;
pub mod gather;
pub mod linear;
pub mod matmul;
pub mod normalizer;
pub(crate) mod numbers;
pub mod post_transform;
pub mod quantize;
pub mod reduce;
pub mod reshape;
pub mod scaler;
pub mod softmax;
pub mod standardize;
pub mod top_k;
pub mod tree;

/// What every operator says of itself.
pub(crate) trait Kernel {
    /// Name for messages and listings.
    const NAME: &'static str;
    /// How many operands it takes.
    const INPUTS: RangeInclusive<usize> = 1..=1;
    /// How many results it yields.
    const OUTPUTS: usize = 1;

    /// Checks the attributes and everything they refer to, so that `run` may
    /// rely on it whatever the operands are.
    fn check(&self, constants: &Constants<'_>) -> Result<(), String>;

    /// Computes the results; `out` has [`Kernel::OUTPUTS`] of them.
    fn run(&self, operands: &Operands<'_>, out: &mut [Tensor], scratch: &mut Scratch) -> Result<(), RunError>;
}

macro_rules! operators {
    ($($(#[$doc:meta])* $variant:ident($type:ty),)*) => {
        /// An operator with its attributes.
        #[derive(Clone, Debug, Serialize, Deserialize)]
        pub enum Op {
            $($(#[$doc])* $variant($type),)*
        }

        impl Op {
            /// Name for messages and listings.
            pub fn name(&self) -> &'static str {
                match self { $(Op::$variant(_) => <$type as Kernel>::NAME,)* }
            }

            /// How many operands it takes, and how many results it yields.
            pub fn arity(&self) -> (RangeInclusive<usize>, usize) {
                match self { $(Op::$variant(_) => (<$type as Kernel>::INPUTS, <$type as Kernel>::OUTPUTS),)* }
            }

            pub(crate) fn check(&self, constants: &Constants<'_>) -> Result<(), String> {
                match self { $(Op::$variant(op) => op.check(constants),)* }
            }

            pub(crate) fn run(
                &self,
                operands: &Operands<'_>,
                out: &mut [Tensor],
                scratch: &mut Scratch,
            ) -> Result<(), RunError> {
                match self { $(Op::$variant(op) => op.run(operands, out, scratch),)* }
            }
        }
    };
}

operators! {
    /// Ensembles of decision trees.
    Tree(tree::TreeEnsemble),
    /// Linear models.
    Linear(linear::Linear),
    /// `(x - offset) * scale`.
    Scaler(scaler::Scaler),
    /// Rows divided by their norm.
    Normalizer(normalizer::Normalizer),
    /// `alpha A B + beta C`.
    Gemm(matmul::Gemm),
    /// Products of matrices.
    MatMul(matmul::MatMul),
    /// One operand, element by element.
    Unary(elementwise::Unary),
    /// Two operands, element by element, broadcast.
    Binary(elementwise::Binary),
    /// Softmax along an axis.
    Softmax(softmax::Softmax),
    /// Another element type.
    Cast(cast::Cast),
    /// The same elements in another shape.
    Reshape(reshape::Reshape),
    /// Operands side by side.
    Concat(concat::Concat),
    /// The index of the largest or smallest element.
    ArgMax(arg_max::ArgMax),
    /// Elements picked by index along an axis.
    Gather(gather::Gather),
    /// The second operand's shape aligned with an axis of the first.
    Align(elementwise::Align),
    /// Sums, means, extremes and norms along axes.
    Reduce(reduce::Reduce),
    /// Sums up to each element of an axis.
    CumSum(reduce::CumSum),
    /// The largest or smallest elements along an axis.
    TopK(top_k::TopK),
    /// Rows with mean 0 and variance 1.
    Standardize(standardize::Standardize),
    /// Between floats and the integers that stand for them.
    Quantize(quantize::Quantize),
    /// The same with the scale taken from the values.
    DynamicQuantize(quantize::DynamicQuantize),
    /// Sums of products in Einstein's notation.
    Einsum(einsum::Einsum),
}

/// The axis counted from the first, where a negative one counts from the last.
pub(crate) fn axis(axis: i32, rank: usize) -> Option<usize> {
    let rank = rank as i32;
    let axis = if axis < 0 { axis + rank } else { axis };
    (0..rank).contains(&axis).then_some(axis as usize)
}
