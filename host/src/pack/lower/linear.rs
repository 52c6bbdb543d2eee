//! Lowering of linear models, scalers and what belongs to them.

use super::{Lowering, Why, class_labels};
use crate::pack::onnx::Node;
use modelet::ops::Op;
use modelet::ops::linear::Linear;
use modelet::ops::normalizer::Normalizer;
use modelet::ops::post_transform::PostTransform;
use modelet::ops::scaler::Scaler;
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
        let labels = classifier.then(|| class_labels(node, "classlabels_ints")).transpose()?;
        let coefficients = node.floats("coefficients");
        let intercepts = node.floats("intercepts");
        let targets = if classifier && !intercepts.is_empty() {
            intercepts.len()
        } else if classifier {
            return Err("a classifier without intercepts".into());
        } else {
            usize::try_from(node.int("targets", 1)).map_err(|_| "targets below 0")?
        };
        if targets == 0 || coefficients.is_empty() || !coefficients.len().is_multiple_of(targets) {
            return Err(format!("{} coefficients for {targets} targets", coefficients.len()));
        }
        let intercepts = match intercepts {
            [] => vec![0.0; targets],
            given if given.len() == targets => given.to_vec(),
            given => return Err(format!("{} intercepts for {targets} targets", given.len())),
        };
        if labels.as_ref().is_some_and(|l| l.len() < targets) {
            return Err(format!("fewer labels than its {targets} targets"));
        }
        let columns = coefficients.len() / targets;
        let mut weights = Vec::with_capacity(coefficients.len());
        for column in 0..columns {
            weights.extend((0..targets).map(|t| coefficients[t * columns + column]));
        }
        let op = Linear {
            weights: self.builder.array(&weights),
            intercepts: self.builder.array(&intercepts),
            post_transform: Self::post_transform(node)?,
            labels: labels.as_ref().map(|l| self.labels(l)),
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
