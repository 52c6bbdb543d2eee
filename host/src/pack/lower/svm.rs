//! Lowering of support vector machines.

use super::linear::transposed;
use super::{Lowering, Why, class_labels};
use crate::pack::onnx::Node;
use modelet::ops::Op;
use modelet::ops::post_transform::PostTransform;
use modelet::ops::svm::{Machine, Pairs, Similarity, Svm};

impl<'a> Lowering<'a> {
    /// The node, if it is one of this family.
    pub(super) fn svm_node(&mut self, node: &'a Node) -> Why<bool> {
        match node.op_type.as_str() {
            "SVMClassifier" => self.svm_classifier(node)?,
            "SVMRegressor" => self.svm_regressor(node)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn svm_regressor(&mut self, node: &'a Node) -> Why<()> {
        let coefficients = node.floats("coefficients");
        let &[rho, ..] = node.floats("rho") else {
            return Err("no rho".into());
        };
        let supports = usize::try_from(node.int("n_supports", 0)).unwrap_or(0);
        // Without support vectors the coefficients are those of the columns.
        let (similarity, vectors, coefficients) = match supports {
            0 => (Similarity::Linear, coefficients.to_vec(), &[1.0][..]),
            count => {
                let given = coefficients
                    .get(..count)
                    .ok_or_else(|| format!("{} coefficients for {count} vectors", coefficients.len()))?;
                (similarity(node)?, support_vectors(node, count)?, given)
            }
        };
        if vectors.is_empty() {
            return Err("no coefficients".into());
        }
        let machine = Machine::Regressor {
            coefficients: self.builder.array(coefficients),
            rho,
            one_class: node.int("one_class", 0) != 0,
        };
        let op = Svm {
            columns: (vectors.len() / supports.max(1)) as u32,
            similarity,
            vectors: self.builder.array(&vectors),
            machine,
        };
        self.bind_scores(node, Op::Svm(op), None)
    }

    fn svm_classifier(&mut self, node: &'a Node) -> Why<()> {
        let labels = class_labels(node, "classlabels_ints")?;
        let classes = labels.len();
        let coefficients = node.floats("coefficients");
        let rho = node.floats("rho");
        let (a, b) = (node.floats("prob_a"), node.floats("prob_b"));
        if a.len() != b.len() {
            return Err(format!("{} of prob_a for {} of prob_b", a.len(), b.len()));
        }
        let post_transform = Self::post_transform(node)?;
        let counts = node
            .ints("vectors_per_class")
            .iter()
            .map(|&count| u32::try_from(count).map_err(|_| format!("{count} vectors of a class")))
            .collect::<Why<Vec<_>>>()?;
        let count = counts.iter().map(|&c| c as usize).sum::<usize>();
        let op = if count == 0 {
            let &[rho, ..] = rho else {
                return Err("no rho".into());
            };
            let columns = coefficients.len() / classes;
            if columns == 0 || !coefficients.len().is_multiple_of(classes) {
                return Err(format!("{} coefficients for {classes} classes", coefficients.len()));
            }
            Svm {
                columns: columns as u32,
                similarity: Similarity::Linear,
                vectors: self.builder.array(&transposed(coefficients, columns)),
                machine: Machine::Linear {
                    labels: self.labels(&labels),
                    rho,
                    positive: coefficients.iter().all(|&c| c >= 0.0),
                    plain: !a.is_empty(),
                    post_transform,
                },
            }
        } else {
            if classes < 2 || counts.len() != classes {
                return Err(format!("vectors of {} classes for {classes} labels", counts.len()));
            }
            let pairs = classes * (classes - 1) / 2;
            let short = |what: &str| format!("too few {what} for {classes} classes with {count} vectors");
            let coefficients = coefficients
                .get(..count.saturating_mul(classes - 1))
                .ok_or_else(|| short("coefficients"))?;
            let rho = rho.get(..pairs).ok_or_else(|| short("of rho"))?;
            let probabilities: Vec<[f32; 2]> = a.iter().zip(b).map(|(&a, &b)| [a, b]).take(pairs).collect();
            if !probabilities.is_empty() && probabilities.len() < pairs {
                return Err(short("of prob_a and prob_b"));
            }
            if pairs == 1 && probabilities.is_empty() && post_transform == PostTransform::Probit {
                return Err("PROBIT of one score for two classes, which leaves the other one undefined".into());
            }
            let vectors = support_vectors(node, count)?;
            Svm {
                columns: (vectors.len() / count) as u32,
                similarity: similarity(node)?,
                vectors: self.builder.array(&vectors),
                machine: Machine::Pairs(Pairs {
                    labels: self.labels(&labels),
                    counts: self.builder.array(&counts),
                    coefficients: self.builder.array(coefficients),
                    rho: self.builder.array(rho),
                    probabilities: self.builder.array(&probabilities),
                    post_transform,
                }),
            }
        };
        self.bind_scores(node, Op::Svm(op), Some(labels))
    }
}

fn similarity(node: &Node) -> Why<Similarity> {
    let (gamma, coef0, degree) = match *node.floats("kernel_params") {
        [] => (0.0, 0.0, 0.0),
        [gamma, coef0, degree, ..] => (gamma, coef0, degree),
        ref other => return Err(format!("{} kernel_params", other.len())),
    };
    Ok(match node.text("kernel_type", "LINEAR").as_str() {
        "LINEAR" => Similarity::Linear,
        "POLY" => Similarity::Poly { gamma, coef0, degree },
        "RBF" => Similarity::Rbf { gamma },
        "SIGMOID" => Similarity::Sigmoid { gamma, coef0 },
        other => return Err(format!("kernel_type {other:?}")),
    })
}

/// The support vectors side by side, as the engine has them.
fn support_vectors(node: &Node, count: usize) -> Why<Vec<f32>> {
    let vectors = node.floats("support_vectors");
    match vectors.len() / count {
        columns if columns > 0 && vectors.len().is_multiple_of(count) => Ok(transposed(vectors, columns)),
        _ => Err(format!("{} elements for {count} support vectors", vectors.len())),
    }
}
