//! The operators of the tabular engine, one file a family.
//!
//! To add one: write its file with a struct that holds its attributes and
//! implements `Kernel`, name it in the table below (at the end: the position
//! is the number it has in packed programs), and give the lowering in the
//! host's `pack` the arm that builds it from an ONNX node.

use crate::engine::{Operands, RunError, Scratch};
use crate::program::Constants;
use crate::tensor::{RANK_MAX, Tensor, Values, View};
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

pub mod arg_max;
pub mod binarizer;
pub mod cast;
pub mod concat;
pub mod control;
pub mod einsum;
pub mod elementwise;
pub mod feature_vectorizer;
pub mod gather;
pub mod generate;
pub mod imputer;
pub mod linear;
pub mod lookup;
pub mod matmul;
pub mod normalizer;
pub(crate) mod numbers;
pub mod post_transform;
pub mod quantize;
pub mod rearrange;
pub mod reduce;
pub mod regex;
pub mod reshape;
pub mod scaler;
pub mod select;
pub mod softmax;
pub mod standardize;
pub mod svm;
pub mod text;
pub mod tf_idf;
pub mod tokenizer;
pub mod top_k;
pub mod tree;
pub mod unique;

/// What every operator says of itself.
pub(crate) trait Kernel {
    /// Name for messages and listings.
    const NAME: &'static str;
    /// How many operands it takes.
    const INPUTS: RangeInclusive<usize> = 1..=1;
    /// How many results it yields, unless its attributes say.
    const OUTPUTS: usize = 1;

    /// How many results it yields.
    fn outputs(&self) -> usize {
        Self::OUTPUTS
    }

    /// Checks the attributes and everything they refer to, so that `run` may
    /// rely on it whatever the operands are.
    fn check(&self, constants: &Constants<'_>) -> Result<(), String>;

    /// Computes the results; `out` has [`Kernel::outputs`] of them.
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

            /// Name of the variant, by which `modelet pack` finds the code of
            /// an operator: see `run`.
            pub fn variant(&self) -> &'static str {
                match self { $(Op::$variant(_) => stringify!($variant),)* }
            }

            /// How many operands it takes, and how many results it yields.
            pub fn arity(&self) -> (RangeInclusive<usize>, usize) {
                match self { $(Op::$variant(op) => (<$type as Kernel>::INPUTS, op.outputs()),)* }
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
                match self { $(Op::$variant(op) => run::$variant(op, operands, out, scratch),)* }
            }
        }

        /// A function for each operator. A component exports them, so that
        /// `modelet pack` can take out those that a model has no use for.
        #[allow(non_snake_case, reason = "they are named as the variants are")]
        mod run {
            use super::*;

            $(
                #[cfg_attr(target_os = "wasi", unsafe(export_name = concat!("modelet:op#", stringify!($variant))))]
                #[cfg_attr(target_os = "wasi", inline(never))]
                pub(super) fn $variant(
                    op: &$type,
                    operands: &Operands<'_>,
                    out: &mut [Tensor],
                    scratch: &mut Scratch,
                ) -> Result<(), RunError> {
                    op.run(operands, out, scratch)
                }
            )*
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
    /// Keys replaced by their values.
    Lookup(lookup::Lookup),
    /// Categories as columns of 0 and 1.
    OneHot(lookup::OneHot),
    /// Missing values replaced.
    Imputer(imputer::Imputer),
    /// 1 above a threshold, else 0.
    Binarizer(binarizer::Binarizer),
    /// Numbers of any type side by side as float32.
    FeatureVectorizer(feature_vectorizer::FeatureVectorizer),
    /// Case and stop words.
    StringNormalizer(text::StringNormalizer),
    /// Two operands of text, broadcast.
    TextPair(text::TextPair),
    /// Texts cut at a delimiter.
    StringSplit(text::StringSplit),
    /// Whether texts match a regular expression whole.
    RegexFullMatch(regex::RegexFullMatch),
    /// Texts cut into tokens.
    Tokenizer(tokenizer::Tokenizer),
    /// Counts of n-grams.
    TfIdf(tf_idf::TfIdf),
    /// Elements put elsewhere, repeated or left out by their place.
    Rearrange(rearrange::Rearrange),
    /// An operand cut along an axis.
    Split(rearrange::Split),
    /// Elements chosen or replaced by what other operands say.
    Select(select::Select),
    /// Values that follow from shapes, bounds and positions.
    Generate(generate::Generate),
    /// One of two bodies.
    If(control::If),
    /// A body for each element along an axis.
    Scan(control::Scan),
    /// A body while a condition holds.
    Loop(control::Loop),
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
    /// The distinct elements.
    Unique(unique::Unique),
    /// Support vector machines.
    Svm(svm::Svm),
    /// Ensembles of decision trees, row by row and node by node.
    TreeGeneral(tree::general::GeneralEnsemble),
}

/// The axis counted from the first, where a negative one counts from the last.
pub(crate) fn axis(axis: i32, rank: usize) -> Option<usize> {
    let rank = rank as i32;
    let axis = if axis < 0 { axis + rank } else { axis };
    (0..rank).contains(&axis).then_some(axis as usize)
}

/// A few integers: the axes, dimensions or paddings that an operand gives.
#[derive(Clone, Copy)]
pub(crate) struct Few {
    values: [i64; 2 * RANK_MAX],
    len: usize,
}

impl std::ops::Deref for Few {
    type Target = [i64];

    fn deref(&self) -> &[i64] {
        &self.values[..self.len]
    }
}

/// The integers of the operand at `index`, at most two for each dimension that
/// a tensor can have; `None` if it is absent.
pub(crate) fn integers(operands: &Operands<'_>, index: usize) -> Result<Option<Few>, RunError> {
    let Some(view) = operands.get(index) else {
        return Ok(None);
    };
    let len = view.shape.len();
    let mut few = Few {
        values: [0; 2 * RANK_MAX],
        len,
    };
    if len > few.values.len() {
        return Err(operands.shape_error("fewer elements", view.shape));
    }
    for (i, value) in few.values[..len].iter_mut().enumerate() {
        *value = integer(operands, view, i)?;
    }
    Ok(Some(few))
}

/// An element of an operand of integers.
pub(crate) fn integer(operands: &Operands<'_>, view: View<'_>, index: usize) -> Result<i64, RunError> {
    let value = match view.values {
        Values::Int64(v) => v.get(index).copied(),
        Values::Int32(v) => v.get(index).map(|&v| i64::from(v)),
        Values::Uint8(v) => v.get(index).map(|&v| i64::from(v)),
        Values::Int8(v) => v.get(index).map(|&v| i64::from(v)),
        _ => return Err(operands.dtype_error(view.dtype())),
    };
    value.ok_or_else(|| operands.shape_error("more elements", view.shape))
}

/// The place that an index means among `len`, where a negative one counts from
/// the end.
pub(crate) fn place(index: i64, len: usize) -> Option<usize> {
    let index = if index < 0 {
        index.checked_add(len as i64)?
    } else {
        index
    };
    usize::try_from(index).ok().filter(|&i| i < len)
}

/// What operators' tests are written with.
#[cfg(test)]
pub(crate) mod testing {
    use super::Op;
    use crate::engine::{RunError, Workspace};
    use crate::program::{Builder, Image, Program, Source};
    use crate::tensor::{Data, Shape, Strings, Tensor};

    pub(crate) fn tensor(dims: &[usize], data: Data) -> Tensor {
        let shape = Shape::new(dims).unwrap();
        assert_eq!(shape.len(), data.len());
        Tensor { shape, data }
    }

    pub(crate) fn floats(dims: &[usize], values: &[f32]) -> Tensor {
        tensor(dims, Data::Float32(values.to_vec()))
    }

    pub(crate) fn ints(dims: &[usize], values: &[i64]) -> Tensor {
        tensor(dims, Data::Int64(values.to_vec()))
    }

    pub(crate) fn bools(dims: &[usize], values: &[u8]) -> Tensor {
        tensor(dims, Data::Bool(values.to_vec()))
    }

    pub(crate) fn texts(dims: &[usize], values: &[&str]) -> Tensor {
        let mut strings = Strings::default();
        values.iter().for_each(|s| strings.push(s));
        tensor(dims, Data::String(strings))
    }

    /// The operator's results, by way of a program's image.
    pub(crate) fn run(op: Op, operands: &[Option<Tensor>]) -> Result<Vec<Tensor>, String> {
        let inputs: Vec<Tensor> = operands.iter().flatten().cloned().collect();
        let mut builder = Builder::new(inputs.len() as u16);
        let mut next = 0;
        let sources = operands.iter().map(|operand| match operand {
            None => Source::None,
            Some(_) => {
                next += 1;
                Source::Input(next - 1)
            }
        });
        let sources = sources.collect();
        let results = builder.push(op, sources);
        finish(builder, results, &inputs)
    }

    /// [`run`] where all operands are given.
    pub(crate) fn apply(op: Op, operands: &[Tensor]) -> Result<Vec<Tensor>, String> {
        outputs(&program(|_| op, operands)?, operands).map_err(|e| e.to_string())
    }

    /// [`apply`] for an operator with arrays of its own, which `make` builds.
    pub(crate) fn apply_made(
        make: impl FnOnce(&mut Builder) -> Op,
        operands: &[Tensor],
    ) -> Result<Vec<Tensor>, RunError> {
        outputs(&program(make, operands).unwrap(), operands)
    }

    fn program(make: impl FnOnce(&mut Builder) -> Op, operands: &[Tensor]) -> Result<Program, String> {
        let mut builder = Builder::new(operands.len() as u16);
        let op = make(&mut builder);
        let sources = (0..operands.len() as u16).map(Source::Input).collect();
        let results = builder.push(op, sources);
        load(builder, results)
    }

    /// Loads the program, runs it, and gives its outputs.
    pub(crate) fn finish(builder: Builder, results: Vec<Source>, inputs: &[Tensor]) -> Result<Vec<Tensor>, String> {
        outputs(&load(builder, results)?, inputs).map_err(|e| e.to_string())
    }

    fn load(builder: Builder, results: Vec<Source>) -> Result<Program, String> {
        Program::load(Image::from(builder.finish(results))).map_err(|e| e.to_string())
    }

    fn outputs(program: &Program, inputs: &[Tensor]) -> Result<Vec<Tensor>, RunError> {
        let mut workspace = Workspace::default();
        workspace.run(program, inputs)?;
        let output = |i| workspace.output(program, inputs, i).unwrap().to_tensor();
        Ok((0..program.output_count()).map(output).collect())
    }
}
