//! `ai.onnx.ml` SVMClassifier and SVMRegressor, version 1.
//!
//! What the specification leaves open is ONNX Runtime's: which of two classes a
//! sign means, that without probabilities the scores of more than two classes
//! are those of the pairs, and that the label goes by the pairs' votes even
//! where there are probabilities. A regressor's `post_transform` does nothing.

use super::Kernel;
use super::arg_max::first_max;
use super::cast::as_f32;
use super::linear::Labels;
use super::matmul::multiply;
use super::post_transform::{PostTransform, logistic};
use crate::engine::{Operands, RunError, Scratch};
use crate::program::{Constants, Slice};
use crate::tensor::{Shape, Tensor};
use serde::{Deserialize, Serialize};

/// How like a row and a vector are; `x·v` is their scalar product.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Similarity {
    /// `x·v`
    Linear,
    /// `(gamma x·v + coef0) ^ degree`
    Poly {
        /// Factor of the product.
        gamma: f32,
        /// Added to it.
        coef0: f32,
        /// The exponent.
        degree: f32,
    },
    /// `exp(-gamma |x - v|²)`
    Rbf {
        /// Factor of the squared distance.
        gamma: f32,
    },
    /// `tanh(gamma x·v + coef0)`
    Sigmoid {
        /// Factor of the product.
        gamma: f32,
        /// Added to it.
        coef0: f32,
    },
}

impl Similarity {
    /// The row against every vector; `vectors` is `[C, V]`, `out` `[V]`.
    fn of(self, row: &[f32], vectors: &[f32], out: &mut [f32]) {
        out.fill(0.0);
        if let Similarity::Rbf { gamma } = self {
            for (&x, vectors) in row.iter().zip(vectors.chunks_exact(out.len())) {
                for (sum, &v) in out.iter_mut().zip(vectors) {
                    let difference = x - v;
                    *sum += difference * difference;
                }
            }
            return out.iter_mut().for_each(|s| *s = libm::expf(-gamma * *s));
        }
        let count = out.len();
        multiply(row, vectors, out, row.len(), count);
        match self {
            Similarity::Linear | Similarity::Rbf { .. } => {}
            Similarity::Poly { gamma, coef0, degree } => {
                for s in out {
                    let base = gamma * *s + coef0;
                    *s = match degree {
                        2.0 => base * base,
                        3.0 => base * base * base,
                        _ => libm::powf(base, degree),
                    };
                }
            }
            Similarity::Sigmoid { gamma, coef0 } => {
                out.iter_mut().for_each(|s| *s = libm::tanhf(gamma * *s + coef0));
            }
        }
    }
}

/// What becomes of the similarities.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Machine {
    /// A weighted sum: a score a row, and no labels.
    Regressor {
        /// One weight for each vector.
        coefficients: Slice<f32>,
        /// Added to the sum.
        rho: f32,
        /// Instead of the score 1 if it is above 0, else -1.
        one_class: bool,
    },
    /// One vector for each class: its similarity is the class's score.
    Linear {
        /// The classes.
        labels: Labels,
        /// Added to every score.
        rho: f32,
        /// Of two classes the second one's threshold is 0.5, not 0: no
        /// coefficient is below 0.
        positive: bool,
        /// There are probabilities, which this form of the operator does not
        /// use: the largest score wins.
        plain: bool,
        /// What happens to the scores.
        post_transform: PostTransform,
    },
    /// A machine for each pair of classes, in the order (0, 1), (0, 2), …
    Pairs(Pairs),
}

/// A machine for each pair of classes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Pairs {
    /// The classes, at least two.
    pub labels: Labels,
    /// How many of the vectors are each class's; they lie class by class.
    pub counts: Slice<u32>,
    /// `[classes - 1, V]`: a vector's weights against each of the other classes.
    pub coefficients: Slice<f32>,
    /// Added to each pair's sum.
    pub rho: Slice<f32>,
    /// Makes probabilities of scores: A and B for each pair; none, or all.
    pub probabilities: Slice<[f32; 2]>,
    /// What happens to the scores.
    pub post_transform: PostTransform,
}

/// Takes numbers of any type, `[N, C]`. Yields labels `[N]` (a regressor leaves
/// them empty) and float32 scores: `[N, 1]` of a regressor, `[N, classes]` of a
/// classifier. Pairs without probabilities yield `[N, pairs]`, or `[N, 2]` for
/// two classes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Svm {
    /// How rows are compared with vectors.
    pub similarity: Similarity,
    /// `[C, V]`, row-major: the transpose of ONNX's `support_vectors`.
    pub vectors: Slice<f32>,
    /// What becomes of the similarities.
    pub machine: Machine,
}

fn pairs(classes: usize) -> usize {
    classes.saturating_mul(classes.saturating_sub(1)) / 2
}

impl Pairs {
    fn check(&self, constants: &Constants<'_>) -> Result<usize, String> {
        self.labels.check(constants)?;
        let classes = self.labels.len();
        let counts = constants.check(self.counts, "counts")?;
        constants.check(self.coefficients, "coefficients")?;
        constants.check(self.rho, "rho")?;
        constants.check(self.probabilities, "probabilities")?;
        let vectors = counts.iter().fold(0usize, |sum, &c| sum.saturating_add(c as usize));
        if classes < 2 || counts.len() != classes || self.rho.len() != pairs(classes) {
            return Err(format!(
                "{} counts and {} of rho for {classes} classes",
                counts.len(),
                self.rho.len()
            ));
        }
        if Some(self.coefficients.len()) != vectors.checked_mul(classes - 1) {
            return Err(format!(
                "{} coefficients for {vectors} vectors of {classes} classes",
                self.coefficients.len()
            ));
        }
        if !self.probabilities.is_empty() && self.probabilities.len() != self.rho.len() {
            return Err(format!("probabilities for {} pairs", self.probabilities.len()));
        }
        Ok(vectors)
    }

    /// The number of scores.
    fn width(&self) -> usize {
        match self.labels.len() {
            classes if classes == 2 || !self.probabilities.is_empty() => classes,
            classes => pairs(classes),
        }
    }

    /// Every pair's score, and the votes for each class.
    fn compare(&self, constants: &Constants<'_>, similarities: &[f32], scores: &mut [f32], votes: &mut [u32]) {
        let counts = constants.get(self.counts);
        let rho = constants.get(self.rho);
        let rows = |class: usize| &constants.get(self.coefficients)[class * similarities.len()..][..similarities.len()];
        // Products are rounded to float32, and added up in float64.
        let sum = |mut sum: f64, range: std::ops::Range<usize>, weights: &[f32]| {
            for (w, s) in weights[range.clone()].iter().zip(&similarities[range]) {
                sum += f64::from(w * s);
            }
            sum
        };
        votes.fill(0);
        let (mut pair, mut first) = (0, 0);
        for i in 0..counts.len() {
            let of_i = first..first + counts[i] as usize;
            let mut second = of_i.end;
            for j in i + 1..counts.len() {
                let of_j = second..second + counts[j] as usize;
                second = of_j.end;
                let score = sum(sum(0.0, of_i.clone(), rows(j - 1)), of_j, rows(i)) + f64::from(rho[pair]);
                scores[pair] = score as f32;
                votes[if score > 0.0 { i } else { j }] += 1;
                pair += 1;
            }
            first = of_i.end;
        }
    }

    /// Probabilities of the classes from the pairs' scores. `room` holds two
    /// matrices `[classes, classes]` and a vector `[classes]`.
    fn probabilities(&self, constants: &Constants<'_>, scores: &[f32], room: &mut [f32], out: &mut [f32]) {
        let classes = out.len();
        let (r, room) = room.split_at_mut(classes * classes);
        let (q, qp) = room.split_at_mut(classes * classes);
        let mut pairs = scores.iter().zip(constants.get(self.probabilities));
        for i in 0..classes {
            for j in i + 1..classes {
                let Some((score, [a, b])) = pairs.next() else { return };
                // NaN stays, as in libsvm.
                let p = (1.0 - logistic(score * a + b)).clamp(1.0e-7, 1.0 - 1.0e-7);
                r[i * classes + j] = p;
                r[j * classes + i] = 1.0 - p;
            }
        }
        couple(r, q, qp, out);
    }
}

/// Probabilities `p` of classes from those `r` of one class against another,
/// both matrices `[classes, classes]`.
///
/// Source: T.-F. Wu, C.-J. Lin, R. C. Weng, "Probability estimates for
/// multi-class classification by pairwise coupling" (2004), algorithm 2, with
/// the tolerance and the number of rounds of libsvm.
fn couple(r: &[f32], q: &mut [f32], qp: &mut [f32], p: &mut [f32]) {
    let n = p.len();
    p.fill(1.0 / n as f32);
    for i in 0..n {
        let mut diagonal = 0.0;
        for j in (0..n).filter(|&j| j != i) {
            let against = r[j * n + i];
            diagonal += against * against;
            q[i * n + j] = -(against * r[i * n + j]);
        }
        q[i * n + i] = diagonal;
    }
    for _ in 0..100 {
        let mut pqp = 0.0;
        for ((qp, row), p_i) in qp.iter_mut().zip(q.chunks_exact(n)).zip(&*p) {
            *qp = row.iter().zip(&*p).fold(0.0, |sum, (q, p)| sum + q * p);
            pqp += p_i * *qp;
        }
        let error = qp.iter().map(|qp| (qp - pqp).abs()).fold(0.0, f32::max);
        if error < 0.005 / n as f32 {
            break;
        }
        for (i, row) in q.chunks_exact(n).enumerate() {
            let step = (pqp - qp[i]) / row[i];
            p[i] += step;
            pqp = (pqp + step * (step * row[i] + 2.0 * qp[i])) / (1.0 + step) / (1.0 + step);
            for ((qp, q), p) in qp.iter_mut().zip(row).zip(&mut *p) {
                *qp = (*qp + step * q) / (1.0 + step);
                *p /= 1.0 + step;
            }
        }
    }
}

impl Machine {
    /// Checks it, and tells how many vectors it has.
    fn check(&self, constants: &Constants<'_>) -> Result<usize, String> {
        match self {
            Machine::Regressor { coefficients, .. } => Ok(constants.check(*coefficients, "coefficients")?.len()),
            Machine::Linear { labels, .. } => labels.check(constants).map(|()| labels.len()),
            Machine::Pairs(pairs) => pairs.check(constants),
        }
    }

    fn vectors(&self, constants: &Constants<'_>) -> usize {
        match self {
            Machine::Regressor { coefficients, .. } => coefficients.len(),
            Machine::Linear { labels, .. } => labels.len(),
            Machine::Pairs(pairs) => constants.get(pairs.counts).iter().map(|&c| c as usize).sum(),
        }
    }

    fn width(&self) -> usize {
        match self {
            Machine::Regressor { .. } => 1,
            Machine::Linear { labels, .. } => labels.len(),
            Machine::Pairs(pairs) => pairs.width(),
        }
    }
}

impl Kernel for Svm {
    const NAME: &'static str = "Svm";
    // A regressor leaves the first result, the labels, empty.
    const OUTPUTS: usize = 2;

    fn check(&self, constants: &Constants<'_>) -> Result<(), String> {
        constants.check(self.vectors, "vectors")?;
        let count = self.machine.check(constants)?;
        if count == 0 || !self.vectors.len().is_multiple_of(count) {
            return Err(format!("{} elements for {count} vectors", self.vectors.len()));
        }
        Ok(())
    }

    fn run(&self, operands: &Operands<'_>, out: &mut [Tensor], scratch: &mut Scratch) -> Result<(), RunError> {
        let x = operands.view(0)?;
        let (rows, columns) = x.shape.as_rows();
        let constants = operands.constants();
        let vectors = constants.get(self.vectors);
        let count = self.machine.vectors(&constants);
        if vectors.len() / count != columns {
            return Err(operands.shape_error(format!("{} columns", vectors.len() / count), x.shape));
        }
        let width = self.machine.width();
        let shape = Shape::new(&[rows, width]).ok_or_else(|| operands.shape_error("fewer rows", x.shape))?;
        let Scratch {
            f32: converted,
            scores: room,
            indices,
            ..
        } = scratch;
        let input = as_f32(x, converted).ok_or_else(|| operands.dtype_error(x.dtype()))?;

        let (label_out, score_out) = out.split_at_mut(1);
        let scores = score_out[0].write_f32(shape);
        scores.resize(shape.len(), 0.0);
        let (classes, pairs) = match &self.machine {
            Machine::Pairs(pairs) => (pairs.labels.len(), pairs.rho.len()),
            _ => (0, 0),
        };
        // Similarities, scores of pairs, and what probabilities are made with.
        room.clear();
        room.resize(count + pairs + classes * (2 * classes + 1), 0.0);
        let (similarities, room) = room.split_at_mut(count);
        let (decisions, room) = room.split_at_mut(pairs);
        // Votes, then every row's class.
        indices.clear();
        indices.resize(classes + rows, 0);
        let (votes, chosen) = indices.split_at_mut(classes);

        for (index, (scores, chosen)) in scores.chunks_exact_mut(width).zip(chosen).enumerate() {
            let row = &input[index * columns..][..columns];
            self.similarity.of(row, vectors, similarities);
            match &self.machine {
                Machine::Regressor {
                    coefficients,
                    rho,
                    one_class,
                } => {
                    let weights = constants.get(*coefficients).iter();
                    let sum: f64 = weights
                        .zip(&*similarities)
                        .map(|(&w, &s)| f64::from(w) * f64::from(s))
                        .sum();
                    let score = sum as f32 + rho;
                    scores[0] = match one_class {
                        true if score > 0.0 => 1.0,
                        true => -1.0,
                        false => score,
                    };
                }
                Machine::Linear {
                    rho,
                    positive,
                    plain,
                    post_transform,
                    ..
                } => {
                    scores.iter_mut().zip(&*similarities).for_each(|(to, s)| *to = s + rho);
                    let class = first_max(scores);
                    let best = scores[class];
                    let second = !plain && if *positive { best >= 0.5 } else { best > 0.0 };
                    *chosen = if width == 2 && second { 1 } else { class as u32 };
                    post_transform.apply_to_row(scores);
                }
                Machine::Pairs(pairs) => {
                    pairs.compare(&constants, similarities, decisions, votes);
                    *chosen = first_max(votes) as u32;
                    if !pairs.probabilities.is_empty() {
                        pairs.probabilities(&constants, decisions, room, scores);
                        pairs.post_transform.apply(scores);
                    } else if let ([score], [first, second]) = (&*decisions, &mut *scores) {
                        [*first, *second] = match pairs.post_transform {
                            PostTransform::None => [-score, *score],
                            post => post.complement(*score),
                        };
                    } else {
                        scores.copy_from_slice(decisions);
                        pairs.post_transform.apply(scores);
                    }
                }
            }
        }
        let labels = match &self.machine {
            Machine::Regressor { .. } => return Ok(()),
            Machine::Linear { labels, .. } => labels,
            Machine::Pairs(pairs) => &pairs.labels,
        };
        let chosen = indices[classes..].iter().map(|&class| class as usize);
        labels.write(&constants, chosen, &mut label_out[0]);
        Ok(())
    }
}
