//! An ensemble as the general walk takes it.

use super::read::{Ensemble, Mode};
use crate::pack::lower::{Lowering, Why};
use modelet::ops::tree::Purpose;
use modelet::ops::tree::general::{GeneralEnsemble, GeneralNode};

impl Lowering<'_> {
    /// `order` has children before their parents.
    pub(super) fn general(
        &mut self,
        ensemble: &Ensemble,
        order: &[usize],
        purpose: Purpose,
        double: bool,
    ) -> Why<GeneralEnsemble> {
        let many = |_| "too many nodes";
        let mut places = vec![0; ensemble.nodes.len()];
        for (place, &node) in order.iter().rev().enumerate() {
            places[node] = u32::try_from(place).map_err(many)?;
        }
        let mut nodes = Vec::with_capacity(order.len());
        let (mut targets, mut weights) = (Vec::new(), Vec::new());
        let mut columns = 0;
        for &index in order.iter().rev() {
            let node = &ensemble.nodes[index];
            if node.mode == Mode::Leaf {
                let start = u32::try_from(weights.len()).map_err(many)?;
                for &(target, weight) in &ensemble.weights[index] {
                    targets.push(target);
                    weights.push(weight);
                }
                nodes.push(GeneralNode::leaf(start, u32::try_from(weights.len()).map_err(many)?));
                continue;
            }
            columns = columns.max(node.feature + 1);
            let children = node.children.map(|child| places[child]);
            nodes.push(GeneralNode::branch(
                node.mode,
                node.feature,
                node.value,
                node.missing_true,
                children,
            ));
        }
        let mut ends = vec![0];
        for set in &ensemble.sets {
            ends.push(ends.last().copied().unwrap_or(0) + u32::try_from(set.len()).map_err(many)?);
        }
        let roots: Vec<u32> = ensemble.roots.iter().map(|&root| places[root]).collect();
        Ok(GeneralEnsemble {
            columns,
            nodes: self.builder.array(&nodes),
            roots: self.builder.array(&roots),
            sets: self.builder.array(&ends),
            members: self.builder.array(&ensemble.sets.concat()),
            leaf_targets: self.builder.array(&targets),
            leaf_weights: self.builder.array(&weights),
            targets: u32::try_from(ensemble.targets).map_err(|_| "too many targets")?,
            double,
            double_scores: ensemble.scores_as_input,
            aggregate: ensemble.aggregate,
            base_values: self.builder.array(&ensemble.base_values),
            post_transform: ensemble.post_transform,
            purpose,
        })
    }
}
