//! Lowering of tree ensembles.
//!
//! [`read`] makes one form of the attributes of all versions; [`layout`] makes
//! of that what the fast walk takes, or [`general`] what any ensemble needs. See
//! `modelet::ops::tree`.

mod general;
mod layout;
mod read;
#[cfg(test)]
mod tests;

use self::read::{Ensemble, Mode};
use super::{Kind, Lowering, Why, class_labels};
use crate::pack::onnx::Node;
use modelet::ops::Op;
use modelet::ops::linear::Labels as LabelArray;
use modelet::ops::tree::Purpose;
use modelet::signature::Labels;
use modelet::tensor::Dtype;

/// Sets up to this size become chains of comparisons.
const CHAIN_MAX: usize = 32;

impl<'a> Lowering<'a> {
    /// The node, if it is one of this family.
    pub(super) fn tree_node(&mut self, node: &'a Node) -> Why<bool> {
        match node.op_type.as_str() {
            "TreeEnsembleClassifier" => {
                let labels = class_labels(node, "classlabels_int64s")?;
                let ensemble = read::version_3(node, "class", labels.len())?;
                self.tree(node, ensemble, Some(labels))
            }
            "TreeEnsembleRegressor" => {
                let targets = usize::try_from(node.int("n_targets", 1)).map_err(|_| "n_targets below 0")?;
                let ensemble = read::version_3(node, "target", targets)?;
                self.tree(node, ensemble, None)
            }
            "TreeEnsemble" => self.tree(node, read::version_5(node)?, None),
            _ => return Ok(false),
        }
        .map(|()| true)
    }

    fn tree(&mut self, node: &'a Node, mut ensemble: Ensemble, labels: Option<Labels>) -> Why<()> {
        let dtype = self.dtype(self.input(node, 0)?);
        let double = dtype == Some(Dtype::Float64) || ensemble.double;
        let bases = ensemble.base_values.len();
        let few = labels.is_some() && ensemble.targets == 2 && bases == 1;
        if bases != 0 && bases != ensemble.targets && !few {
            return Err(format!("{bases} base_values for {} targets", ensemble.targets));
        }
        ensemble.single_weights();
        let order = ensemble.children_first()?;
        let purpose = match &labels {
            None => Purpose::Regression,
            Some(labels) => self.classification(&ensemble, labels),
        };
        let lone = labels.is_some() && ensemble.targets == 1;
        let fast = match !double && !lone && ensemble.fits_fast_walk(&order) {
            true => self.fast(&ensemble.with_chains(), purpose.clone())?,
            false => None,
        };
        let op = match fast {
            Some(op) => Op::Tree(op),
            None => Op::TreeGeneral(self.general(&ensemble, &order, purpose, double)?),
        };
        let wide = matches!(&op, Op::TreeGeneral(op) if op.double && op.double_scores);
        self.bind_scores(node, op, labels)?;
        if wide
            && let Some(value) = node.output.first().and_then(|name| self.values.get_mut(name.as_str()))
            && let Kind::Computed(_, dtype) = &mut value.kind
        {
            *dtype = Some(Dtype::Float64);
        }
        Ok(())
    }

    fn classification(&mut self, ensemble: &Ensemble, labels: &Labels) -> Purpose {
        let all = || ensemble.weights.iter().flatten();
        let first = all().next().map(|&(target, _)| target);
        let one_sided = labels.len() == 2 && all().all(|&(target, _)| Some(target) == first);
        // Up to two classes whose weights are not all one class's are told
        // apart by ONNX Runtime as 0 and 1, whatever integers name them.
        let labels = match labels {
            Labels::Int64(v) if v.len() == 1 || (v.len() == 2 && !one_sided) => {
                LabelArray::Int64(self.builder.array(&[0i64, 1]))
            }
            Labels::String(v) if v.len() == 1 => LabelArray::String(self.builder.strings(&[&v[0], &v[0]])),
            labels => self.labels(labels),
        };
        Purpose::Classification {
            labels,
            one_sided,
            positive: all().all(|&(_, weight)| weight >= 0.0),
        }
    }
}

impl Ensemble {
    /// Where there is but one score, a leaf has but one weight: the first, or
    /// if there is none, its value.
    fn single_weights(&mut self) {
        if self.targets == 1 {
            for (node, weights) in self.nodes.iter().zip(&mut self.weights) {
                weights.truncate(1);
                if weights.is_empty() && node.mode == Mode::Leaf {
                    weights.push((0, node.value));
                }
            }
        }
    }

    /// Whether the fast walk's comparison can stand for the nodes' own.
    fn fits_fast_walk(&self, order: &[usize]) -> bool {
        let narrow = |v: f64| f64::from(v as f32) == v;
        let weights = |&node: &usize| self.weights[node].iter().all(|&(_, w)| narrow(w) || w.is_nan());
        order.iter().all(weights)
            && self.base_values.iter().all(|&v| narrow(v))
            && order.iter().all(|&index| {
                let node = &self.nodes[index];
                match node.mode {
                    Mode::Leaf => true,
                    Mode::Leq | Mode::Gt => narrow(node.value),
                    // No number is below -inf.
                    Mode::Lt | Mode::Gte | Mode::Eq | Mode::Neq => {
                        narrow(node.value) && node.value != f64::NEG_INFINITY
                    }
                    Mode::Member => {
                        let set = &self.sets[node.value as usize];
                        (1..=CHAIN_MAX).contains(&set.len()) && set.iter().all(|&v| narrow(v) && v != f64::NEG_INFINITY)
                    }
                }
            })
    }
}
