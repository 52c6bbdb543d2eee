//! The `post_transform` attribute of the `ai.onnx.ml` classifiers and
//! regressors.
//!
//! Source: ONNX operator specification, `ai.onnx.ml`; where it is silent (a
//! single score for two classes), ONNX Runtime's behaviour. Transcendental
//! functions come from `libm`, so that every home has the same bits.

use serde::{Deserialize, Serialize};

/// What is done to the scores of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PostTransform {
    /// Nothing.
    None,
    /// `1 / (1 + exp(-x))` for each score.
    Logistic,
    /// `exp(x - max) / sum`.
    Softmax,
    /// Softmax over the scores that are not zero; zeros stay.
    SoftmaxZero,
    /// The inverse of the standard normal distribution's cumulative function.
    Probit,
}

impl PostTransform {
    /// The transform that an ONNX attribute names.
    pub fn from_name(name: &str) -> Option<PostTransform> {
        Some(match name {
            "NONE" | "" => PostTransform::None,
            "LOGISTIC" => PostTransform::Logistic,
            "SOFTMAX" => PostTransform::Softmax,
            "SOFTMAX_ZERO" => PostTransform::SoftmaxZero,
            "PROBIT" => PostTransform::Probit,
            _ => return None,
        })
    }

    /// Transforms a row of scores in place as ONNX Runtime does: a lone score
    /// by PROBIT only.
    pub fn apply_to_row(self, scores: &mut [f32]) {
        if scores.len() != 1 || self == PostTransform::Probit {
            self.apply(scores);
        }
    }

    /// The scores of both classes from the second one's, by which ONNX Runtime
    /// means its probability unless LOGISTIC makes one of it. (PROBIT leaves
    /// the second score undefined there, and is not lowered.)
    pub fn complement(self, score: f32) -> [f32; 2] {
        match self {
            PostTransform::Logistic => [logistic(-score), logistic(score)],
            _ => [1.0 - score, score],
        }
    }

    /// Transforms the scores of one row in place.
    pub fn apply(self, scores: &mut [f32]) {
        match self {
            PostTransform::None => {}
            PostTransform::Logistic => scores.iter_mut().for_each(|s| *s = logistic(*s)),
            PostTransform::Probit => scores.iter_mut().for_each(|s| *s = probit(*s)),
            PostTransform::Softmax => softmax(scores),
            PostTransform::SoftmaxZero => {
                let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let factor = libm::expf(-max);
                let mut sum = 0.0f32;
                for s in scores.iter_mut() {
                    if *s > 1e-7 || *s < -1e-7 {
                        *s = libm::expf(*s - max);
                        sum += *s;
                    } else {
                        *s *= factor;
                    }
                }
                scores.iter_mut().for_each(|s| *s /= sum);
            }
        }
    }
}

/// `exp(x - max) / sum` in place, added up from left to right.
pub fn softmax(scores: &mut [f32]) {
    let max = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0f32;
    for s in scores.iter_mut() {
        *s = libm::expf(*s - max);
        sum += *s;
    }
    scores.iter_mut().for_each(|s| *s /= sum);
}

/// The logistic function, computed on the side where `exp` can't overflow.
pub fn logistic(x: f32) -> f32 {
    let v = 1.0 / (1.0 + libm::expf(-x.abs()));
    if x < 0.0 { 1.0 - v } else { v }
}

/// `sqrt(2) erf⁻¹(2 x - 1)`, with the inverse error function of S. Winitzki,
/// "A handy approximation for the error function and its inverse" (2008), which
/// is the one that ONNX Runtime uses.
pub fn probit(x: f32) -> f32 {
    let y = 2.0 * x - 1.0;
    let sign = if y < 0.0 { -1.0 } else { 1.0 };
    let log = libm::logf((1.0 - y) * (1.0 + y));
    let v = 2.0 / (core::f32::consts::PI * 0.147) + 0.5 * log;
    let v2 = 1.0 / 0.147 * log;
    let v3 = -v + (v * v - v2).sqrt();
    core::f32::consts::SQRT_2 * sign * v3.sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logistic_is_symmetric_and_saturates_without_overflow() {
        assert_eq!(logistic(0.0), 0.5);
        assert_eq!(logistic(200.0), 1.0);
        assert_eq!(logistic(-200.0), 0.0);
        assert!((logistic(1.0) - 0.731_058_6).abs() < 1e-6);
        assert!((logistic(1.0) + logistic(-1.0) - 1.0).abs() < 1e-7);
    }

    #[test]
    fn probit_is_the_quantile_of_the_normal_distribution() {
        assert_eq!(probit(0.5), 0.0);
        // Quantiles of the normal distribution; the approximation is good to 2e-3.
        assert!((probit(0.975) - 1.959_964).abs() < 4e-3);
        assert!((probit(0.025) + 1.959_964).abs() < 4e-3);
    }

    #[test]
    fn softmax_adds_up_to_one_and_softmax_zero_keeps_zeros() {
        let mut row = [1.0f32, 2.0, 3.0];
        PostTransform::Softmax.apply(&mut row);
        assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6);
        assert!((row[2] - 0.665_240_94).abs() < 1e-6);
        let mut row = [0.0f32, 1.0];
        PostTransform::SoftmaxZero.apply(&mut row);
        assert_eq!(row, [0.0, 1.0]);
    }
}
