//! `ai.onnx.ml` LinearClassifier and LinearRegressor, version 1.
//!
//! Where the specification is silent (a single score), ONNX Runtime's
//! behaviour: above 0 it means the second of two classes.

use super::Kernel;
use super::cast::as_f32;
use super::matmul::multiply;
use super::post_transform::PostTransform;
use crate::engine::{Operands, RunError, Scratch};
use crate::program::{Constants, Slice, StringSlice};
use crate::tensor::{Shape, Tensor};
use serde::{Deserialize, Serialize};

/// Class labels of a classifier.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Labels {
    /// Integers.
    Int64(Slice<i64>),
    /// Text.
    String(StringSlice),
}

impl Labels {
    /// The number of classes.
    pub fn len(&self) -> usize {
        match self {
            Labels::Int64(s) => s.len(),
            Labels::String(s) => s.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn check(&self, constants: &Constants<'_>) -> Result<(), String> {
        match self {
            Labels::Int64(s) => constants.check(*s, "labels").map(drop),
            Labels::String(s) => constants.check_strings(*s, "labels"),
        }
    }

    /// Writes the labels of these classes as a vector of N; an index past the
    /// end is written as 0 or the empty string.
    pub(crate) fn write(
        &self,
        constants: &Constants<'_>,
        classes: impl ExactSizeIterator<Item = usize>,
        out: &mut Tensor,
    ) {
        let shape = Shape::vector(classes.len());
        match self {
            Labels::Int64(s) => {
                let labels = constants.get(*s);
                out.write_i64(shape)
                    .extend(classes.map(|c| labels.get(c).copied().unwrap_or(0)));
            }
            Labels::String(s) => {
                let labels = constants.strings(*s);
                let strings = out.write_strings(shape);
                classes.for_each(|c| strings.push(labels.get(c)));
            }
        }
    }
}

/// `x W + b`, then the post-transform; with labels it is a classifier.
///
/// Takes numbers of any type, `[N, C]`. Yields float32 scores `[N, targets]`,
/// for a classifier preceded by labels `[N]`; one target can have the scores of
/// two classes. A single score is transformed by PROBIT only.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Linear {
    /// `[C, targets]`, row-major: the transpose of ONNX's `coefficients`.
    pub weights: Slice<f32>,
    /// One for each target.
    pub intercepts: Slice<f32>,
    /// What happens to the scores.
    pub post_transform: PostTransform,
    /// Of a classifier; two if it has one target.
    pub labels: Option<Labels>,
    /// The target is the second of two classes, and the first one's score is
    /// derived from it.
    pub second: bool,
}

impl Kernel for Linear {
    const NAME: &'static str = "Linear";
    // A regressor leaves the first result, the labels, empty.
    const OUTPUTS: usize = 2;

    fn check(&self, constants: &Constants<'_>) -> Result<(), String> {
        constants.check(self.weights, "weights")?;
        constants.check(self.intercepts, "intercepts")?;
        let targets = self.intercepts.len();
        if targets == 0 || !self.weights.len().is_multiple_of(targets) {
            return Err(format!("{} weights for {targets} targets", self.weights.len()));
        }
        if let Some(labels) = &self.labels {
            labels.check(constants)?;
            if labels.len() < targets {
                return Err(format!("{} labels for {targets} targets", labels.len()));
            }
        }
        if self.second && targets != 1 {
            return Err(format!("{targets} targets for one of two classes"));
        }
        Ok(())
    }

    fn run(&self, operands: &Operands<'_>, out: &mut [Tensor], scratch: &mut Scratch) -> Result<(), RunError> {
        let x = operands.view(0)?;
        let (rows, columns) = x.shape.as_rows();
        let constants = operands.constants();
        let weights = constants.get(self.weights);
        let intercepts = constants.get(self.intercepts);
        let targets = intercepts.len();
        if weights.len() / targets != columns {
            return Err(operands.shape_error(format!("{} columns", weights.len() / targets), x.shape));
        }
        let width = if self.second { 2 } else { targets };
        let shape = Shape::new(&[rows, width]).ok_or_else(|| operands.shape_error("fewer rows", x.shape))?;
        let input = as_f32(x, &mut scratch.f32).ok_or_else(|| operands.dtype_error(x.dtype()))?;
        let raw = &mut scratch.scores;
        raw.clear();
        raw.resize(rows * targets, 0.0);
        multiply(input, weights, raw, columns, targets);
        for row in raw.chunks_exact_mut(targets) {
            row.iter_mut().zip(intercepts).for_each(|(s, b)| *s += b);
        }

        let (label_out, score_out) = out.split_at_mut(1);
        if let Some(labels) = &self.labels {
            labels.write(
                &constants,
                raw.chunks_exact(targets).map(|row| match row {
                    [score] => usize::from(*score > 0.0),
                    _ => super::arg_max::first_max(row),
                }),
                &mut label_out[0],
            );
        }
        let scores = score_out[0].write_f32(shape);
        if self.second {
            raw.iter()
                .for_each(|&score| scores.extend_from_slice(&self.post_transform.complement(score)));
        } else {
            scores.extend_from_slice(raw);
            if self.post_transform != PostTransform::None {
                for row in scores.chunks_exact_mut(targets) {
                    self.post_transform.apply_to_row(row);
                }
            }
        }
        Ok(())
    }
}
