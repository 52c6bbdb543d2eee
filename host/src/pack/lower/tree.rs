//! Lowering of tree ensembles: every node mode becomes the one comparison that
//! the engine walks by. See `modelet::ops::tree` for the layout.

use super::{Lowering, Why, class_labels};
use crate::pack::onnx::Node;
use modelet::ops::Op;
use modelet::ops::tree::{self, Aggregate, Leaves, Nodes, Purpose, Tree, TreeEnsemble, WideNode};
use modelet::signature::Labels;
use modelet::tensor::{Data, Dtype};
use std::collections::{HashMap, VecDeque};

/// The trees of a node's attributes, before they are laid out.
struct Ensemble<'a> {
    features: &'a [i64],
    values: Vec<f32>,
    modes: Vec<Mode>,
    missing_true: &'a [i64],
    /// Index of the node taken if the condition holds, and if not.
    children: Vec<[usize; 2]>,
    /// Weights of each leaf: target and value, in the order of the attributes.
    weights: Vec<Vec<(u32, f32)>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Leaf,
    Leq,
    Lt,
    Gte,
    Gt,
    Eq,
    Neq,
}

impl Mode {
    fn from_name(name: &str) -> Option<Mode> {
        Some(match name {
            "LEAF" => Mode::Leaf,
            "BRANCH_LEQ" => Mode::Leq,
            "BRANCH_LT" => Mode::Lt,
            "BRANCH_GTE" => Mode::Gte,
            "BRANCH_GT" => Mode::Gt,
            "BRANCH_EQ" => Mode::Eq,
            "BRANCH_NEQ" => Mode::Neq,
            _ => return None,
        })
    }
}

impl<'a> Lowering<'a> {
    /// The node, if it is one of this family.
    pub(super) fn tree_node(&mut self, node: &'a Node) -> Why<bool> {
        match node.op_type.as_str() {
            "TreeEnsembleClassifier" => self.tree(node, true),
            "TreeEnsembleRegressor" => self.tree(node, false),
            _ => return Ok(false),
        }
        .map(|()| true)
    }

    /// TreeEnsembleClassifier and TreeEnsembleRegressor, versions 1 and 3.
    fn tree(&mut self, node: &'a Node, classifier: bool) -> Why<()> {
        if let Some(dtype @ (Dtype::Float64 | Dtype::String)) = self.dtype(self.input(node, 0)?) {
            return Err(format!("an input of type {dtype} is not supported"));
        }
        let labels = classifier
            .then(|| class_labels(node, "classlabels_int64s"))
            .transpose()?;
        let targets = match &labels {
            Some(labels) => labels.len(),
            None => usize::try_from(node.int("n_targets", 1)).map_err(|_| "n_targets below 0")?,
        };
        if targets == 0 || targets > 1 << 20 {
            return Err(format!("{targets} targets"));
        }
        let prefix = if classifier { "class" } else { "target" };
        let (ensemble, roots) = read(node, prefix, targets)?;
        let base_values = floats(node, "base_values")?;
        let bases = base_values.len();
        if bases != 0 && bases != targets && !(classifier && targets == 2 && bases == 1) {
            return Err(format!("{bases} base_values for {targets} targets"));
        }
        let op = self.lay_out(node, &ensemble, &roots, targets, labels.as_ref(), &base_values)?;
        self.bind_scores(node, Op::Tree(op), labels)
    }

    fn lay_out(
        &mut self,
        node: &Node,
        ensemble: &Ensemble<'_>,
        roots: &[usize],
        targets: usize,
        labels: Option<&Labels>,
        base_values: &[f32],
    ) -> Why<TreeEnsemble> {
        let branches = || (0..ensemble.modes.len()).filter(|&i| ensemble.modes[i] != Mode::Leaf);
        let columns = branches().map(|i| ensemble.features[i] + 1).max().unwrap_or(0);
        let columns = u32::try_from(columns).map_err(|_| format!("feature {columns}"))?;
        let missing_left = branches().any(|i| ensemble.low_column(i));
        let width = TreeEnsemble::width(columns as usize, missing_left);

        let inline = roots.iter().all(|&root| ensemble.single_target(root).is_some());
        let mut layout = Layout {
            ensemble,
            columns,
            sentinel: (width - 1) as u32,
            inline,
            nodes: Vec::new(),
            starts: vec![0],
            leaf_targets: Vec::new(),
            leaf_weights: Vec::new(),
        };
        let mut trees = Vec::with_capacity(roots.len());
        for &root in roots {
            let start = layout.nodes.len();
            layout.tree(root);
            trees.push(Tree {
                start: u32::try_from(start).map_err(|_| "too many nodes")?,
                len: u32::try_from(layout.nodes.len() - start).map_err(|_| "too many nodes")?,
                depth: ensemble.height(root),
                target: ensemble.single_target(root).filter(|_| inline).unwrap_or(0),
            });
        }
        // The layout counts slots from the root, the engine from the node.
        let mut wide = layout.nodes;
        for tree in &trees {
            let nodes = &mut wide[tree.start as usize..][..tree.len as usize];
            for (slot, node) in nodes.iter_mut().enumerate() {
                node.child -= i32::try_from(slot).map_err(|_| "too many nodes")?;
            }
        }
        let narrow = (width <= 1 << 16).then(|| {
            let narrow = |n: &WideNode| {
                Some(tree::Node {
                    value: n.value,
                    feature: n.feature as u16,
                    child: i16::try_from(n.child).ok()?,
                })
            };
            wide.iter().map(narrow).collect::<Option<Vec<_>>>()
        });
        let nodes = match narrow.flatten() {
            Some(nodes) => Nodes::Narrow(self.builder.array(&nodes)),
            None => Nodes::Wide(self.builder.array(&wide)),
        };
        let leaves = if inline {
            Leaves::Inline
        } else {
            Leaves::Lists {
                starts: self.builder.array(&layout.starts),
                targets: self.builder.array(&layout.leaf_targets),
                weights: self.builder.array(&layout.leaf_weights),
            }
        };
        let aggregate = match node.text("aggregate_function", "SUM").as_str() {
            "SUM" => Aggregate::Sum,
            "AVERAGE" => Aggregate::Average,
            "MIN" => Aggregate::Min,
            "MAX" => Aggregate::Max,
            other => return Err(format!("aggregate_function {other:?}")),
        };
        let purpose = match labels {
            None => Purpose::Regression,
            Some(labels) => {
                let all = || ensemble.weights.iter().flatten();
                let first = all().next().map(|&(target, _)| target);
                Purpose::Classification {
                    labels: self.labels(labels),
                    one_sided: targets == 2 && all().all(|&(target, _)| Some(target) == first),
                    positive: all().all(|&(_, weight)| weight >= 0.0),
                }
            }
        };
        Ok(TreeEnsemble {
            columns,
            missing_left,
            nodes,
            trees: self.builder.array(&trees),
            leaves,
            targets: targets as u32,
            aggregate,
            base_values: self.builder.array(base_values),
            post_transform: Self::post_transform(node)?,
            purpose,
        })
    }
}

/// A list of floats, from the attribute or its `_as_tensor` twin.
fn floats(node: &Node, name: &str) -> Why<Vec<f32>> {
    if let Some(tensor) = node.get(&format!("{name}_as_tensor")).and_then(|a| a.t.as_ref()) {
        return match tensor.tensor()?.data {
            Data::Float32(v) => Ok(v),
            other => Err(format!("{name} of type {} is not supported", other.dtype())),
        };
    }
    Ok(node.floats(name).to_vec())
}

/// Reads the attributes; answers the trees and their roots in order.
fn read<'n>(node: &'n Node, prefix: &str, targets: usize) -> Why<(Ensemble<'n>, Vec<usize>)> {
    let tree_ids = node.ints("nodes_treeids");
    let node_ids = node.ints("nodes_nodeids");
    let features = node.ints("nodes_featureids");
    let values = floats(node, "nodes_values")?;
    let on_true = node.ints("nodes_truenodeids");
    let on_false = node.ints("nodes_falsenodeids");
    let missing_true = node.ints("nodes_missing_value_tracks_true");
    let count = tree_ids.len();
    let modes = node
        .texts("nodes_modes")
        .iter()
        .map(|name| Mode::from_name(name).ok_or_else(|| format!("node mode {name:?}")))
        .collect::<Why<Vec<_>>>()?;
    if count == 0 {
        return Err("no nodes".into());
    }
    for (name, len) in [
        ("nodes_nodeids", node_ids.len()),
        ("nodes_featureids", features.len()),
        ("nodes_values", values.len()),
        ("nodes_modes", modes.len()),
        ("nodes_truenodeids", on_true.len()),
        ("nodes_falsenodeids", on_false.len()),
    ] {
        if len != count {
            return Err(format!("{name} has {len} entries where nodes_treeids has {count}"));
        }
    }
    if !missing_true.is_empty() && missing_true.len() != count {
        return Err(format!(
            "nodes_missing_value_tracks_true has {} entries where nodes_treeids has {count}",
            missing_true.len()
        ));
    }

    let mut index = HashMap::with_capacity(count);
    for i in 0..count {
        if index.insert((tree_ids[i], node_ids[i]), i).is_some() {
            return Err(format!("node {} of tree {} is there twice", node_ids[i], tree_ids[i]));
        }
    }
    let mut children = vec![[usize::MAX; 2]; count];
    let mut has_parent = vec![false; count];
    for i in 0..count {
        if modes[i] == Mode::Leaf {
            continue;
        }
        if !(0..1 << 24).contains(&features[i]) {
            return Err(format!("feature {}", features[i]));
        }
        if values[i].is_nan() {
            return Err("a threshold is NaN".into());
        }
        for (side, id) in [on_true[i], on_false[i]].into_iter().enumerate() {
            let &child = index
                .get(&(tree_ids[i], id))
                .ok_or_else(|| format!("tree {} has no node {id}", tree_ids[i]))?;
            // Each node has one parent and roots have none: no cycle is reachable.
            if std::mem::replace(&mut has_parent[child], true) {
                return Err(format!("node {id} of tree {} has two parents", tree_ids[i]));
            }
            children[i][side] = child;
        }
    }
    let roots: Vec<usize> = (0..count).filter(|&i| !has_parent[i]).collect();

    let weight_trees = node.ints(&format!("{prefix}_treeids"));
    let weight_nodes = node.ints(&format!("{prefix}_nodeids"));
    let weight_targets = node.ints(&format!("{prefix}_ids"));
    let weight_values = floats(node, &format!("{prefix}_weights"))?;
    let total = weight_trees.len();
    if weight_nodes.len() != total || weight_targets.len() != total || weight_values.len() != total {
        return Err(format!("the lists {prefix}_* have different lengths"));
    }
    let mut weights = vec![Vec::new(); count];
    for i in 0..total {
        let &leaf = index
            .get(&(weight_trees[i], weight_nodes[i]))
            .ok_or_else(|| format!("tree {} has no node {}", weight_trees[i], weight_nodes[i]))?;
        let target = u32::try_from(weight_targets[i])
            .ok()
            .filter(|&t| (t as usize) < targets)
            .ok_or_else(|| format!("{prefix} {} of {targets}", weight_targets[i]))?;
        if modes[leaf] == Mode::Leaf {
            weights[leaf].push((target, weight_values[i]));
        }
    }
    let ensemble = Ensemble {
        features,
        values,
        modes,
        missing_true,
        children,
        weights,
    };
    Ok((ensemble, roots))
}

impl Ensemble<'_> {
    fn missing_true(&self, node: usize) -> bool {
        self.missing_true.get(node).is_some_and(|&m| m != 0)
    }

    /// Whether the comparison reads the column in which missing values are
    /// -inf, so that they go left.
    fn low_column(&self, node: usize) -> bool {
        match self.modes[node] {
            Mode::Leaf | Mode::Neq => false,
            // The left side is where the condition holds.
            Mode::Leq | Mode::Lt | Mode::Eq => self.missing_true(node),
            // The left side is where it does not.
            Mode::Gte | Mode::Gt => !self.missing_true(node),
        }
    }

    fn leaves(&self, root: usize) -> impl Iterator<Item = usize> {
        let mut stack = vec![root];
        std::iter::from_fn(move || {
            loop {
                let node = stack.pop()?;
                if self.modes[node] == Mode::Leaf {
                    return Some(node);
                }
                stack.extend(self.children[node]);
            }
        })
    }

    /// The target that every leaf of the tree has its one weight for.
    fn single_target(&self, root: usize) -> Option<u32> {
        let mut target = None;
        for leaf in self.leaves(root) {
            match self.weights[leaf][..] {
                [(t, weight)] if !weight.is_nan() && target.is_none_or(|known| known == t) => {
                    target = Some(t);
                }
                _ => return None,
            }
        }
        target
    }

    /// The most steps from the node to a leaf, with those that the rewriting
    /// of `==` adds.
    fn height(&self, root: usize) -> u32 {
        let mut deepest = 0;
        let mut stack = vec![(root, 0)];
        while let Some((node, depth)) = stack.pop() {
            let [on_true, on_false] = self.children[node];
            let (to_true, to_false) = match self.modes[node] {
                Mode::Leaf => {
                    deepest = deepest.max(depth);
                    continue;
                }
                Mode::Eq => (2, 3),
                Mode::Neq => (3, 2),
                _ => (1, 1),
            };
            stack.push((on_true, depth + to_true));
            stack.push((on_false, depth + to_false));
        }
        deepest
    }
}

/// Writes trees as nodes of the engine; children lie side by side, and a tree
/// from the top down.
struct Layout<'e> {
    ensemble: &'e Ensemble<'e>,
    columns: u32,
    sentinel: u32,
    inline: bool,
    nodes: Vec<WideNode>,
    starts: Vec<u32>,
    leaf_targets: Vec<u32>,
    leaf_weights: Vec<f32>,
}

impl Layout<'_> {
    fn tree(&mut self, root: usize) {
        let start = self.nodes.len();
        // Slots are counted from the root.
        let mut queue = VecDeque::from([(root, 0u32)]);
        self.nodes.push(self.jump(0));
        while let Some((node, slot)) = queue.pop_front() {
            let at = start + slot as usize;
            let mode = self.ensemble.modes[node];
            if mode == Mode::Leaf {
                self.nodes[at] = WideNode {
                    value: self.payload(node),
                    ..self.jump(slot)
                };
                continue;
            }
            let [on_true, on_false] = self.ensemble.children[node];
            let threshold = self.ensemble.values[node];
            let below = threshold.next_down();
            let pair = self.pair(start);
            match mode {
                Mode::Leq | Mode::Lt => {
                    let threshold = if mode == Mode::Leq { threshold } else { below };
                    self.nodes[at] = self.test(node, threshold, pair);
                    queue.extend([(on_true, pair), (on_false, pair + 1)]);
                }
                Mode::Gt | Mode::Gte => {
                    let threshold = if mode == Mode::Gt { threshold } else { below };
                    self.nodes[at] = self.test(node, threshold, pair);
                    queue.extend([(on_false, pair), (on_true, pair + 1)]);
                }
                Mode::Eq | Mode::Neq => {
                    // At most the threshold, and then not below it.
                    let (same, other) = if mode == Mode::Eq {
                        (on_true, on_false)
                    } else {
                        (on_false, on_true)
                    };
                    let inner = self.pair(start);
                    self.nodes[at] = self.test(node, threshold, pair);
                    self.nodes[start + pair as usize] = WideNode {
                        value: below,
                        feature: self.ensemble.features[node] as u32,
                        child: inner as i32,
                    };
                    self.nodes[start + inner as usize] = self.jump(pair + 1);
                    queue.extend([(other, pair + 1), (same, inner + 1)]);
                }
                Mode::Leaf => {}
            }
        }
    }

    /// Two new slots.
    fn pair(&mut self, start: usize) -> u32 {
        let slot = (self.nodes.len() - start) as u32;
        self.nodes.extend([self.jump(0); 2]);
        slot
    }

    /// A node that always leads to `slot`.
    fn jump(&self, slot: u32) -> WideNode {
        WideNode {
            value: 0.0,
            feature: self.sentinel,
            child: slot as i32,
        }
    }

    fn test(&self, node: usize, threshold: f32, child: u32) -> WideNode {
        let feature = self.ensemble.features[node] as u32;
        WideNode {
            value: threshold,
            feature: if self.ensemble.low_column(node) {
                feature + self.columns
            } else {
                feature
            },
            child: child as i32,
        }
    }

    /// What a leaf's node holds: its weight, or the number of its list.
    fn payload(&mut self, leaf: usize) -> f32 {
        let weights = &self.ensemble.weights[leaf];
        if self.inline {
            return weights[0].1;
        }
        let number = (self.starts.len() - 1) as u32;
        for &(target, weight) in weights {
            self.leaf_targets.push(target);
            self.leaf_weights.push(weight);
        }
        self.starts.push(self.leaf_weights.len() as u32);
        f32::from_bits(number)
    }
}
