//! Lowering of linear models, scalers and what belongs to them.

use super::{Lowering, Why, class_labels};
use crate::pack::onnx::Node;
use modelet::ops::Op;
use modelet::ops::linear::Linear;
use modelet::ops::normalizer::Normalizer;
use modelet::ops::post_transform::PostTransform;
use modelet::ops::scaler::Scaler;
use modelet::signature::Labels;
use modelet::tensor::Dtype;

impl<'a> Lowering<'a> {
    /// The node, if it is one of this family.
    pub(super) fn linear_node(&mut self, node: &'a Node) -> Why<bool> {
        match node.op_type.as_str() {
            "LinearClassifier" => self.linear(node, true),
            "LinearRegressor" => self.linear(node, false),
            "Scaler" => {
                let list = |name: &str, default: f32| match node.floats(name) {
                    [] => vec![default],
                    values => values.to_vec(),
                };
                let op = Scaler {
                    offset: self.builder.array(&list("offset", 0.0)),
                    scale: self.builder.array(&list("scale", 1.0)),
                };
                let input = self.input(node, 0)?;
                self.emit_all(node, Op::Scaler(op), &[input], &[Some(Dtype::Float32)])
            }
            "Normalizer" => {
                let op = match node.text("norm", "MAX").as_str() {
                    "MAX" => Normalizer::Max,
                    "L1" => Normalizer::L1,
                    "L2" => Normalizer::L2,
                    other => return Err(format!("norm {other:?}")),
                };
                let input = self.input(node, 0)?;
                self.emit(node, Op::Normalizer(op), &[input], Some(Dtype::Float32))
            }
            "ZipMap" => self.zip_map(node),
            _ => return Ok(false),
        }
        .map(|()| true)
    }

    pub(super) fn post_transform(node: &Node) -> Why<PostTransform> {
        let name = node.text("post_transform", "NONE");
        PostTransform::from_name(&name).ok_or_else(|| format!("post_transform {name:?}"))
    }

    fn linear(&mut self, node: &'a Node, classifier: bool) -> Why<()> {
        let coefficients = node.floats("coefficients");
        let intercepts = node.floats("intercepts");
        let post_transform = Self::post_transform(node)?;
        let targets = match classifier {
            true if intercepts.is_empty() => return Err("a classifier without intercepts".into()),
            true => intercepts.len(),
            false => usize::try_from(node.int("targets", 1)).map_err(|_| "targets below 0")?,
        };
        if targets == 0 || coefficients.is_empty() || !coefficients.len().is_multiple_of(targets) {
            return Err(format!("{} coefficients for {targets} targets", coefficients.len()));
        }
        let mut labels = classifier.then(|| class_labels(node, "classlabels_ints"));
        let second = targets == 1 && matches!(&labels, Some(Ok(labels)) if labels.len() == 2);
        if targets == 1 && !second {
            // What ONNX Runtime calls the sides of a lone score without labels
            // of their own.
            labels = labels.map(|labels| {
                Ok(match labels {
                    Ok(Labels::String(_)) => Labels::String(vec!["0".into(), "1".into()]),
                    _ => Labels::Int64(vec![0, 1]),
                })
            });
        }
        let labels = labels.transpose()?;
        if second && post_transform == PostTransform::Probit {
            return Err("PROBIT of one score for two classes, which leaves the other one undefined".into());
        }
        let intercepts = match intercepts {
            given if given.len() == targets => given.to_vec(),
            // ONNX Runtime ignores a regressor's if they are not as many.
            _ => vec![0.0; targets],
        };
        if labels.as_ref().is_some_and(|l| l.len() < targets) {
            return Err(format!("fewer labels than its {targets} targets"));
        }
        let columns = coefficients.len() / targets;
        let op = Linear {
            weights: self.builder.array(&transposed(coefficients, columns)),
            intercepts: self.builder.array(&intercepts),
            post_transform,
            labels: labels.as_ref().map(|l| self.labels(l)),
            second,
        };
        self.bind_scores(node, Op::Linear(op), labels)
    }

    fn zip_map(&mut self, node: &'a Node) -> Why<()> {
        let input = self.input(node, 0)?;
        let mut value = self.value(input)?.clone();
        value.labels = Some(class_labels(node, "classlabels_int64s")?);
        value.zip_map = true;
        value.operator = "ZipMap".into();
        self.bind(node, 0, value);
        Ok(())
    }
}

/// The transpose of a matrix with so many columns.
pub(super) fn transposed(matrix: &[f32], columns: usize) -> Vec<f32> {
    let row = |column: usize| matrix.iter().skip(column).step_by(columns);
    (0..columns).flat_map(row).copied().collect()
}
