//! From the weights of the leaves to scores and classes.
//!
//! The specification says little of base values that are not one for each
//! class, of two classes that share one score, and of scores that no leaf spoke
//! for; here they are what ONNX Runtime makes of them. A score that no leaf
//! spoke for is 0, whatever its base value, unless there is but one score or
//! more than two classes.

use super::{Aggregate, Purpose};
use crate::ops::post_transform::{PostTransform, logistic};
use std::ops::{Add, AddAssign, Div, Neg, Sub};

/// What scores are added up in.
pub(super) trait Number:
    Copy
    + Default
    + PartialOrd
    + Add<Output = Self>
    + AddAssign
    + Sub<Output = Self>
    + Neg<Output = Self>
    + Div<Output = Self>
{
    /// The nearest number.
    fn nearest(value: f64) -> Self;
    /// Transforms the scores of one row in place.
    fn transform(post: PostTransform, scores: &mut [Self]);
    /// The logistic function of `-score` and of `score`.
    fn logistic_pair(score: Self) -> [Self; 2];
}

impl Number for f32 {
    fn nearest(value: f64) -> f32 {
        value as f32
    }

    fn transform(post: PostTransform, scores: &mut [f32]) {
        post.apply(scores);
    }

    fn logistic_pair(score: f32) -> [f32; 2] {
        // Of both signs by one exponential; `logistic` has the same bits.
        let high = logistic(score.abs());
        let low = 1.0 - high;
        if score < 0.0 { [high, low] } else { [low, high] }
    }
}

impl Number for f64 {
    fn nearest(value: f64) -> f64 {
        value
    }

    /// As ONNX Runtime does it: in float32.
    fn transform(post: PostTransform, scores: &mut [f64]) {
        if post == PostTransform::None {
            return;
        }
        let mut narrow: Vec<f32> = scores.iter().map(|&s| s as f32).collect();
        if post != PostTransform::SoftmaxZero {
            post.apply(&mut narrow);
            scores.iter_mut().zip(narrow).for_each(|(s, n)| *s = f64::from(n));
            return;
        }
        // All but the products and quotients, that is.
        let max = narrow.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let factor = f64::from(libm::expf(-max));
        let mut sum = 0.0f32;
        for (s, narrow) in scores.iter_mut().zip(narrow) {
            if narrow.abs() > 1e-7 {
                let e = libm::expf(narrow - max);
                sum += e;
                *s = f64::from(e);
            } else {
                *s *= factor;
            }
        }
        scores.iter_mut().for_each(|s| *s /= f64::from(sum));
    }

    fn logistic_pair(score: f64) -> [f64; 2] {
        f32::logistic_pair(score as f32).map(f64::from)
    }
}

/// A score while it is added up, and whether any leaf spoke for it.
#[derive(Clone, Copy, Default)]
pub(super) struct Sum<T> {
    pub(super) score: T,
    pub(super) given: bool,
}

impl<T: Number> Sum<T> {
    /// Takes a leaf's weight in.
    pub(super) fn combine(&mut self, aggregate: Aggregate, weight: T) {
        match aggregate {
            Aggregate::Sum | Aggregate::Average => self.score += weight,
            Aggregate::Min => {
                if !self.given || weight < self.score {
                    self.score = weight;
                }
            }
            Aggregate::Max => {
                if !self.given || weight > self.score {
                    self.score = weight;
                }
            }
        }
        self.given = true;
    }

    fn value(self) -> T {
        if self.given { self.score } else { T::default() }
    }
}

/// What makes scores and classes of sums.
pub(super) struct Finish<'a, B> {
    pub(super) purpose: &'a Purpose,
    pub(super) aggregate: Aggregate,
    /// The number of trees.
    pub(super) trees: usize,
    pub(super) base: &'a [B],
    pub(super) post: PostTransform,
}

impl<B: Copy + Into<f64>> Finish<'_, B> {
    fn base<T: Number>(&self, index: usize) -> T {
        T::nearest(self.base.get(index).map_or(0.0, |&b| b.into()))
    }

    /// Appends the scores of one row; answers its class, which is 0 for a
    /// regressor.
    #[inline]
    pub(super) fn row<T: Number>(&self, sums: &mut [Sum<T>], scores: &mut Vec<T>) -> usize {
        match (self.purpose, sums) {
            (Purpose::Regression, sums) => {
                self.regression(sums, scores);
                0
            }
            (Purpose::Classification { .. }, [sum]) => {
                let score = sum.score + self.base(0);
                scores.push(score);
                self.transform_single(scores);
                usize::from(score > T::default())
            }
            (
                &Purpose::Classification {
                    one_sided, positive, ..
                },
                [s0, s1],
            ) => {
                let (pair, class) = self.binary(*s0, *s1, one_sided, positive);
                scores.extend_from_slice(&pair);
                class
            }
            (Purpose::Classification { .. }, sums) => self.multiclass(sums, scores),
        }
    }

    #[inline]
    fn regression<T: Number>(&self, sums: &[Sum<T>], scores: &mut Vec<T>) {
        let start = scores.len();
        for (target, sum) in sums.iter().enumerate() {
            let mut score = sum.score;
            if self.aggregate == Aggregate::Average {
                score = score / T::nearest(self.trees as f64);
            }
            score += self.base(target);
            let given = sum.given || sums.len() == 1;
            scores.push(if given { score } else { T::default() });
        }
        match sums {
            [_] => self.transform_single(scores),
            _ => T::transform(self.post, &mut scores[start..]),
        }
    }

    /// A score that is alone is transformed by PROBIT only.
    fn transform_single<T: Number>(&self, scores: &mut [T]) {
        if let ([.., last], PostTransform::Probit) = (scores, self.post) {
            T::transform(self.post, std::slice::from_mut(last));
        }
    }

    #[inline]
    fn binary<T: Number>(&self, mut s0: Sum<T>, mut s1: Sum<T>, one_sided: bool, positive: bool) -> ([T; 2], usize) {
        let both = self.base.len() == 2;
        if both && s1.given {
            s1.score = self.base::<T>(1) + s0.score;
            s0.score = -s1.score;
        } else if both {
            s1.score += self.base(1);
            s0.score += self.base(0);
        } else {
            s0.score += self.base(0);
        }
        let decisive = if s1.given { s1.score } else { s0.value() };
        let threshold = if one_sided && positive { 0.5 } else { 0.0 };
        let class = usize::from(decisive > T::nearest(threshold));
        let mut pair = [s0.value(), s1.value()];
        if both || s1.given {
            T::transform(self.post, &mut pair);
            return (pair, class);
        }
        // One score for two classes: the other one is derived from it.
        let score = pair[0];
        let derived = one_sided || self.base.is_empty();
        pair = match self.post {
            PostTransform::Probit => {
                T::transform(self.post, &mut pair[..1]);
                pair
            }
            _ if !derived => pair,
            PostTransform::Logistic => T::logistic_pair(score),
            _ if one_sided && positive => [T::nearest(1.0) - score, score],
            _ => [-score, score],
        };
        (pair, class)
    }

    fn multiclass<T: Number>(&self, sums: &mut [Sum<T>], scores: &mut Vec<T>) -> usize {
        for (class, sum) in sums.iter_mut().enumerate().take(self.base.len()) {
            sum.score += self.base(class);
            sum.given = true;
        }
        let mut best: Option<usize> = None;
        for (class, sum) in sums.iter().enumerate() {
            if sum.given && best.is_none_or(|best| sum.score > sums[best].score) {
                best = Some(class);
            }
        }
        let start = scores.len();
        scores.extend(sums.iter().map(|s| s.score));
        T::transform(self.post, &mut scores[start..]);
        best.unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::linear::Labels;
    use crate::program::Slice;

    fn sum(score: Option<f32>) -> Sum<f32> {
        Sum {
            score: score.unwrap_or_default(),
            given: score.is_some(),
        }
    }

    fn binary(scores: [Option<f32>; 2], base: &[f32], one_sided: bool, post: PostTransform) -> (Vec<f32>, usize) {
        let purpose = Purpose::Classification {
            labels: Labels::Int64(Slice::default()),
            one_sided,
            positive: scores.iter().flatten().all(|&s| s >= 0.0),
        };
        let finish = Finish {
            purpose: &purpose,
            aggregate: Aggregate::Sum,
            trees: 1,
            base,
            post,
        };
        let mut out = Vec::new();
        let class = finish.row(&mut scores.map(sum), &mut out);
        (out, class)
    }

    /// The answers of ONNX Runtime 1.32.
    #[test]
    fn two_classes_are_scored_as_onnx_runtime_does() {
        use PostTransform::{None as Plain, Softmax};
        type Case<'a> = ([Option<f32>; 2], &'a [f32], bool, PostTransform, [f32; 2], usize);
        let cases: [Case<'_>; 10] = [
            ([Some(-2.0), None], &[], true, Plain, [2.0, -2.0], 0),
            ([Some(0.25), None], &[], true, Plain, [0.75, 0.25], 0),
            ([Some(0.25), None], &[0.5], true, Plain, [0.25, 0.75], 1),
            ([Some(-2.0), None], &[0.25, 0.125], true, Plain, [-1.75, 0.0], 0),
            ([None, Some(-2.0)], &[0.25], true, Plain, [0.0, -2.0], 0),
            ([None, Some(-2.0)], &[0.25, 0.125], true, Plain, [0.0, 0.125], 1),
            ([Some(0.75), Some(0.25)], &[], false, Plain, [0.75, 0.25], 1),
            ([Some(0.75), Some(0.25)], &[0.25], false, Plain, [1.0, 0.25], 1),
            (
                [Some(-0.75), Some(0.25)],
                &[0.25, 0.125],
                false,
                Plain,
                [0.625, -0.625],
                0,
            ),
            ([Some(-2.0), None], &[], true, Softmax, [2.0, -2.0], 0),
        ];
        for case in cases {
            let (scores, base, one_sided, post, expected, class) = case;
            assert_eq!(
                binary(scores, base, one_sided, post),
                (expected.to_vec(), class),
                "{case:?}"
            );
        }
        let (scores, class) = binary([Some(0.25), None], &[], true, PostTransform::Logistic);
        assert_eq!((scores, class), (vec![logistic(-0.25), logistic(0.25)], 0));
    }

    #[test]
    fn a_score_that_no_leaf_spoke_for_has_no_base_value() {
        let finish = Finish {
            purpose: &Purpose::Regression,
            aggregate: Aggregate::Average,
            trees: 2,
            base: &[1.0f32, 5.0],
            post: PostTransform::None,
        };
        let mut out = Vec::new();
        finish.row(&mut [sum(Some(3.0)), sum(None)], &mut out);
        assert_eq!(out, [2.5, 0.0]);
    }

    #[test]
    fn logistic_pairs_have_the_bits_of_the_function() {
        for x in [0.0f32, -0.0, 0.3, -0.3, 17.5, -17.5, 200.0, -200.0, 1e-9] {
            let pair = f32::logistic_pair(x).map(f32::to_bits);
            assert_eq!(pair, [logistic(-x), logistic(x)].map(f32::to_bits), "{x}");
        }
    }
}
