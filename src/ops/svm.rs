//! `ai.onnx.ml` SVMClassifier and SVMRegressor, version 1.
//!
//! What the specification leaves open is ONNX Runtime's: which of two classes a
//! sign means, that without probabilities the scores of more than two classes
//! are those of the pairs, and that the label goes by the pairs' votes even
//! where there are probabilities. A regressor's `post_transform` does nothing.

use super::Kernel;
use super::arg_max::first_max;
use super::cast::as_f32;
use super::linear::{LANES, Labels, row_product, scalar_product};
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
    /// The row against every vector; `vectors` is `[C, V]`, `out` `[V]`, and
    /// `lanes` room for [`row_product`].
    ///
    /// Functions are computed in float64 and rounded: their last digit counts
    /// where large coefficients cancel each other out.
    fn of(self, row: &[f32], vectors: &[f32], lanes: &mut [f32], out: &mut [f32]) {
        match self {
            Similarity::Linear => row_product(row, vectors, lanes, out),
            Similarity::Poly { gamma, coef0, degree } => {
                scaled_product(row, vectors, (gamma, coef0), lanes, out);
                for s in out {
                    *s = match degree {
                        2.0 => *s * *s,
                        3.0 => *s * *s * *s,
                        _ => libm::pow(f64::from(*s), f64::from(degree)) as f32,
                    };
                }
            }
            Similarity::Rbf { gamma } => {
                out.fill(0.0);
                for (&x, vectors) in row.iter().zip(vectors.chunks_exact(out.len())) {
                    for (sum, &v) in out.iter_mut().zip(vectors) {
                        let difference = x - v;
                        *sum += difference * difference;
                    }
                }
                out.iter_mut()
                    .for_each(|s| *s = libm::exp(f64::from(-gamma * *s)) as f32);
            }
            Similarity::Sigmoid { gamma, coef0 } => {
                scaled_product(row, vectors, (gamma, coef0), lanes, out);
                out.iter_mut().for_each(|s| *s = libm::tanhf(*s));
            }
        }
    }
}

/// `gamma x·v + coef0` for each vector.
///
/// Unless gamma is 1, ONNX Runtime fuses every product with its addition: here
/// float64 holds the product, and its sum is then rounded to float32.
fn scaled_product(row: &[f32], vectors: &[f32], (gamma, coef0): (f32, f32), lanes: &mut [f32], out: &mut [f32]) {
    if gamma == 1.0 {
        row_product(row, vectors, lanes, out);
        return out.iter_mut().for_each(|s| *s += coef0);
    }
    let fused = |a: f32, b: f32, c: f32| (f64::from(a) * f64::from(b) + f64::from(c)) as f32;
    out.fill(0.0);
    for (&x, vectors) in row.iter().zip(vectors.chunks_exact(out.len())) {
        out.iter_mut()
            .zip(vectors)
            .for_each(|(sum, &v)| *sum = fused(x, v, *sum));
    }
    out.iter_mut().for_each(|s| *s = fused(gamma, *s, coef0));
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
    /// C.
    pub columns: u32,
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
        if count == 0 || Some(self.vectors.len()) != count.checked_mul(self.columns as usize) {
            return Err(format!(
                "{} elements for {count} vectors of {} columns",
                self.vectors.len(),
                self.columns
            ));
        }
        Ok(())
    }

    fn run(&self, operands: &Operands<'_>, out: &mut [Tensor], scratch: &mut Scratch) -> Result<(), RunError> {
        let x = operands.view(0)?;
        let (rows, columns) = x.shape.as_rows();
        let constants = operands.constants();
        let vectors = constants.get(self.vectors);
        let count = self.machine.vectors(&constants);
        if columns != self.columns as usize {
            return Err(operands.shape_error(format!("{} columns", self.columns), x.shape));
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
        room.resize((1 + LANES) * count + pairs + classes * (2 * classes + 1), 0.0);
        let (similarities, room) = room.split_at_mut(count);
        let (lanes, room) = room.split_at_mut(LANES * count);
        let (decisions, room) = room.split_at_mut(pairs);
        // Votes, then every row's class.
        indices.clear();
        indices.resize(classes + rows, 0);
        let (votes, chosen) = indices.split_at_mut(classes);

        for (index, (scores, chosen)) in scores.chunks_exact_mut(width).zip(chosen).enumerate() {
            let row = &input[index * columns..][..columns];
            self.similarity.of(row, vectors, lanes, similarities);
            match &self.machine {
                Machine::Regressor {
                    coefficients,
                    rho,
                    one_class,
                } => {
                    let score = scalar_product(similarities, constants.get(*coefficients)) + rho;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Op;
    use crate::ops::testing::{finish, floats, ints, run, texts};
    use crate::program::{Builder, Source};

    fn similar(similarity: Similarity) -> [f32; 2] {
        // The vectors (1, 0) and (2, 1) against the row (1, 2): products 1 and 4.
        let mut out = [f32::NAN; 2];
        similarity.of(&[1.0, 2.0], &[1.0, 2.0, 0.0, 1.0], &mut [0.0; 16], &mut out);
        out
    }

    #[test]
    fn similarities_follow_their_formulas() {
        let (gamma, coef0) = (0.5, 1.0);
        assert_eq!(similar(Similarity::Linear), [1.0, 4.0]);
        for (degree, expected) in [
            (1.0, [1.5, 3.0]),
            (2.0, [2.25, 9.0]),
            (3.0, [3.375, 27.0]),
            (0.0, [1.0; 2]),
        ] {
            assert_eq!(similar(Similarity::Poly { gamma, coef0, degree }), expected);
        }
        let rbf = similar(Similarity::Rbf { gamma });
        assert_eq!(rbf, [0.135_335_28, 0.367_879_44], "exp(-2) and exp(-1)");
        let sigmoid = similar(Similarity::Sigmoid { gamma, coef0 });
        assert!((sigmoid[0] - 0.905_148_25).abs() < 1e-6 && (sigmoid[1] - 0.995_054_8).abs() < 1e-6);
    }

    fn svm(builder: &mut Builder, vectors: &[f32], columns: u32, machine: Machine) -> Op {
        Op::Svm(Svm {
            columns,
            similarity: Similarity::Linear,
            vectors: builder.array(vectors),
            machine,
        })
    }

    fn answer(make: impl FnOnce(&mut Builder) -> Op, x: Tensor) -> Result<Vec<Tensor>, String> {
        let mut builder = Builder::new(1);
        let op = make(&mut builder);
        let outputs = builder.push(op, vec![Source::Input(0)]);
        finish(builder, outputs, &[x])
    }

    #[test]
    fn a_regressor_adds_up_and_one_class_is_a_sign() {
        // 1 x + 2 * 3 x + 0.5
        for (one_class, expected) in [(false, [7.5, -6.5]), (true, [1.0, -1.0])] {
            let make = |builder: &mut Builder| {
                let coefficients = builder.array(&[1.0, 2.0f32]);
                let machine = Machine::Regressor {
                    coefficients,
                    rho: 0.5,
                    one_class,
                };
                svm(builder, &[1.0, 3.0], 1, machine)
            };
            assert_eq!(
                answer(make, ints(&[2, 1], &[1, -1])).unwrap()[1],
                floats(&[2, 1], &expected)
            );
            assert!(answer(make, ints(&[1, 2], &[1, -1])).is_err());
            assert!(answer(make, texts(&[1, 1], &["1"])).is_err());
        }
    }

    /// One vector for each class, at 1, 2 and 3, whose weights against the
    /// others are 1, 2 and -1 (in both rows).
    fn three(post_transform: PostTransform, probabilities: &[[f32; 2]]) -> impl Fn(&mut Builder) -> Op {
        move |builder| {
            let machine = Machine::Pairs(Pairs {
                labels: Labels::String(builder.strings(&["a", "b", "c"])),
                counts: builder.array(&[1u32, 1, 1]),
                coefficients: builder.array(&[1.0f32, 2.0, -1.0, 1.0, 2.0, -1.0]),
                rho: builder.array(&[-6.0f32, 0.0, 1.0]),
                probabilities: builder.array(probabilities),
                post_transform,
            });
            svm(builder, &[1.0, 2.0, 3.0], 1, machine)
        }
    }

    #[test]
    fn pairs_vote_and_their_scores_are_the_answer() {
        // (0, 1): x + 4 x - 6; (0, 2): x - 3 x; (1, 2): 4 x - 3 x + 1.
        let out = answer(three(PostTransform::None, &[]), floats(&[2, 1], &[1.0, -2.0])).unwrap();
        // Of as many votes the first.
        assert_eq!(out[0], texts(&[2], &["b", "a"]));
        assert_eq!(out[1], floats(&[2, 3], &[-1.0, -2.0, 2.0, -16.0, 4.0, -1.0]));
    }

    #[test]
    fn probabilities_of_pairs_are_coupled() {
        let even = answer(three(PostTransform::None, &[[0.0, 0.0]; 3]), floats(&[1, 1], &[1.0])).unwrap();
        assert_eq!(even[0], texts(&[1], &["b"]));
        assert_eq!(even[1], floats(&[1, 3], &[1.0 / 3.0; 3]));
        // Of pairs that follow from probabilities (0.5, 0.3, 0.2) it finds them,
        // as far as its tolerance goes.
        let p = [0.5f32, 0.3, 0.2];
        let r: Vec<f32> = (0..9).map(|i| p[i / 3] / (p[i / 3] + p[i % 3])).collect();
        let mut out = [0.0; 3];
        couple(&r, &mut [0.0; 9], &mut [0.0; 3], &mut out);
        for (out, p) in out.iter().zip(p) {
            assert!((out - p).abs() < 0.01, "{out} for {p}");
        }
    }

    #[test]
    fn two_classes_have_two_scores_and_a_positive_one_means_the_first() {
        for (post_transform, expected) in [
            (PostTransform::None, [-0.25, 0.25]),
            (PostTransform::Softmax, [0.75, 0.25]),
            (PostTransform::Logistic, [0.437_823_5, 0.562_176_5]),
        ] {
            let make = |builder: &mut Builder| {
                let machine = Machine::Pairs(Pairs {
                    labels: Labels::Int64(builder.array(&[5i64, 7])),
                    counts: builder.array(&[1u32, 0]),
                    coefficients: builder.array(&[1.0f32]),
                    rho: builder.array(&[0.25f32]),
                    probabilities: Slice::default(),
                    post_transform,
                });
                svm(builder, &[1.0], 1, machine)
            };
            let out = answer(make, floats(&[2, 1], &[0.0, -0.25])).unwrap();
            assert_eq!(out[0], ints(&[2], &[5, 7]));
            let crate::tensor::Data::Float32(scores) = &out[1].data else {
                panic!("scores are float32")
            };
            for (got, expected) in scores.iter().zip(expected) {
                assert!((got - expected).abs() < 1e-6, "{post_transform:?}: {scores:?}");
            }
        }
    }

    #[test]
    fn linear_scores_of_two_classes_have_a_threshold() {
        for (positive, plain, expected) in [(false, false, [1, 0]), (true, false, [1, 0]), (false, true, [0, 0])] {
            let make = |builder: &mut Builder| {
                let labels = Labels::Int64(builder.array(&[0i64, 1]));
                let machine = Machine::Linear {
                    labels,
                    rho: 0.0,
                    positive,
                    plain,
                    post_transform: PostTransform::None,
                };
                svm(builder, &[1.0, 0.5], 1, machine)
            };
            let out = answer(make, floats(&[2, 1], &[0.5, 0.0])).unwrap();
            assert_eq!(out[0], ints(&[2], &expected), "{positive} {plain}");
            assert_eq!(out[1], floats(&[2, 2], &[0.5, 0.25, 0.0, 0.0]));
        }
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let broken = |change: fn(&mut Svm)| {
            let make = |builder: &mut Builder| {
                let Op::Svm(mut op) = three(PostTransform::None, &[])(builder) else {
                    panic!("it is one")
                };
                change(&mut op);
                Op::Svm(op)
            };
            answer(make, floats(&[1, 1], &[1.0])).is_err()
        };
        assert!(!broken(|_| {}));
        assert!(broken(|op| op.columns = 2));
        assert!(broken(|op| op.columns = 0));
        assert!(broken(|op| op.vectors = Slice::default()));
        let pairs: [fn(&mut Pairs); 4] = [
            |p| p.rho = Slice::default(),
            |p| p.counts = Slice::default(),
            |p| p.coefficients = Slice::default(),
            |p| p.labels = Labels::Int64(Slice::default()),
        ];
        for change in pairs {
            let make = |builder: &mut Builder| {
                let mut op = three(PostTransform::None, &[])(builder);
                if let Op::Svm(Svm {
                    machine: Machine::Pairs(pairs),
                    ..
                }) = &mut op
                {
                    change(pairs);
                }
                op
            };
            assert!(answer(make, floats(&[1, 1], &[1.0])).is_err());
        }
        let none = Op::Svm(Svm {
            columns: 0,
            similarity: Similarity::Linear,
            vectors: Slice::default(),
            machine: Machine::Regressor {
                coefficients: Slice::default(),
                rho: 0.0,
                one_class: false,
            },
        });
        assert!(run(none, &[Some(floats(&[1, 0], &[]))]).is_err());
    }
}
