//! `ai.onnx.ml` LinearClassifier and LinearRegressor, version 1.
//!
//! Where the specification is silent (a single score), ONNX Runtime's
//! behaviour: above 0 it means the second of two classes.

use super::Kernel;
use super::cast::as_f32;
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

/// Sums that [`row_product`] keeps of each product.
pub(crate) const LANES: usize = 8;

/// A row times a matrix `[C, out.len()]`; `lanes` is room for [`LANES`] times
/// as many sums.
///
/// The order of additions is that of ONNX Runtime (MLAS) for a single row on
/// x86-64: element i goes to sum i mod 8, and how the eight are added up in the
/// end depends on the place in the result. On columns of very different
/// magnitude, the order decides all but the first digits.
pub(crate) fn row_product(row: &[f32], matrix: &[f32], lanes: &mut [f32], out: &mut [f32]) {
    let count = out.len();
    if let [out] = out {
        *out = scalar_product(row, matrix);
        return;
    }
    lanes.fill(0.0);
    for (k, (x, weights)) in row.iter().zip(matrix.chunks_exact(count)).enumerate() {
        let sums = &mut lanes[k % LANES * count..][..count];
        sums.iter_mut().zip(weights).for_each(|(sum, w)| *sum += x * w);
    }
    for (i, out) in out.iter_mut().enumerate() {
        let [a, b, c, d, e, f, g, h] = std::array::from_fn(|lane| lanes[lane * count + i]);
        *out = if i < count / 4 * 4 {
            (((a + b) + c) + d) + (((e + f) + g) + h)
        } else if i < count / 2 * 2 {
            ((a + c) + (e + g)) + ((b + d) + (f + h))
        } else {
            in_pairs([a, b, c, d, e, f, g, h])
        };
    }
}

fn in_pairs([a, b, c, d, e, f, g, h]: [f32; LANES]) -> f32 {
    ((a + b) + (c + d)) + ((e + f) + (g + h))
}

/// [`row_product`] with a single column.
pub(crate) fn scalar_product(row: &[f32], column: &[f32]) -> f32 {
    let mut sums = [0.0; LANES];
    for (row, column) in row.chunks(LANES).zip(column.chunks(LANES)) {
        for ((sum, x), w) in sums.iter_mut().zip(row).zip(column) {
            *sum += x * w;
        }
    }
    in_pairs(sums)
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
        let room = &mut scratch.scores;
        room.clear();
        room.resize((rows + LANES) * targets, 0.0);
        let (raw, lanes) = room.split_at_mut(rows * targets);
        for (index, scores) in raw.chunks_exact_mut(targets).enumerate() {
            row_product(&input[index * columns..][..columns], weights, lanes, scores);
            scores.iter_mut().zip(intercepts).for_each(|(s, b)| *s += b);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Op;
    use crate::ops::testing::{finish, floats, ints, texts};
    use crate::program::{Builder, Source};

    #[test]
    fn products_are_added_up_in_lanes_whatever_their_number() {
        // 1 + 1e8 is 1e8 in float32: what is left tells the order.
        let row = [1e8, 1.0, -1e8, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0];
        let in_order = (((1e8f32 + 2.0) - 1e8) + 1.0) + 1.0;
        for (count, expected) in [
            (1, vec![(1e8f32 + 2.0) + (-1e8 + 1.0) + 1.0]),
            (
                7,
                [
                    [in_order; 4].as_slice(),
                    &[(0.0 + 1.0) + 3.0; 2],
                    &[(1e8f32 + 2.0) + (-1e8 + 1.0) + 1.0],
                ]
                .concat(),
            ),
        ] {
            let mut out = vec![0.0; count];
            row_product(&row, &vec![1.0; 10 * count], &mut vec![9.0; LANES * count], &mut out);
            assert_eq!(out, expected);
        }
    }

    fn classify(
        targets: usize,
        labels: usize,
        post_transform: PostTransform,
        x: Tensor,
    ) -> Result<Vec<Tensor>, String> {
        let mut builder = Builder::new(1);
        let names = ["no", "yes", "maybe"];
        let op = Linear {
            weights: builder.array(&vec![1.0; targets]),
            intercepts: builder.array(&[0.25f32, 0.0, 0.5][..targets]),
            post_transform,
            labels: (labels > 0).then(|| Labels::String(builder.strings(&names[..labels]))),
            second: targets == 1 && labels == 2,
        };
        let outputs = builder.push(Op::Linear(op), vec![Source::Input(0)]);
        finish(builder, outputs, &[x])
    }

    #[test]
    fn a_lone_score_is_the_second_class_of_two() {
        let out = classify(1, 2, PostTransform::Softmax, ints(&[2, 1], &[0, -1])).unwrap();
        assert_eq!(out[0], texts(&[2], &["yes", "no"]));
        assert_eq!(out[1], floats(&[2, 2], &[0.75, 0.25, 1.75, -0.75]));
        let out = classify(1, 2, PostTransform::Logistic, floats(&[1, 1], &[-0.25])).unwrap();
        assert_eq!(
            (&out[0], &out[1]),
            (&texts(&[1], &["no"]), &floats(&[1, 2], &[0.5, 0.5]))
        );
    }

    #[test]
    fn a_lone_value_is_transformed_by_probit_only() {
        for post in [
            PostTransform::Logistic,
            PostTransform::Softmax,
            PostTransform::SoftmaxZero,
        ] {
            let out = classify(1, 0, post, floats(&[1], &[1.0])).unwrap();
            assert_eq!(out[1], floats(&[1, 1], &[1.25]));
        }
        let out = classify(1, 0, PostTransform::Probit, floats(&[1], &[0.25])).unwrap();
        assert_eq!(out[1], floats(&[1, 1], &[0.0]));
    }

    #[test]
    fn there_may_be_more_labels_than_targets_but_not_fewer() {
        let out = classify(2, 3, PostTransform::None, floats(&[1, 1], &[1.0])).unwrap();
        assert_eq!(
            (&out[0], &out[1]),
            (&texts(&[1], &["no"]), &floats(&[1, 2], &[1.25, 1.0]))
        );
        assert!(classify(3, 2, PostTransform::None, floats(&[1, 1], &[1.0])).is_err());
        assert!(classify(2, 3, PostTransform::None, floats(&[1, 2], &[1.0, 1.0])).is_err());
        assert!(classify(2, 3, PostTransform::None, texts(&[1, 1], &["1"])).is_err());
    }
}
