//! The attributes of all versions in one form.

use crate::pack::lower::Why;
use crate::pack::onnx::Node as OnnxNode;
use modelet::ops::post_transform::PostTransform;
use modelet::ops::tree::{Aggregate, TARGETS_MAX};
use modelet::tensor::Data;
use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

pub(super) use modelet::ops::tree::general::Mode;

/// The trees of a node's attributes, before they are laid out.
#[derive(Clone)]
pub(super) struct Ensemble {
    pub(super) nodes: Vec<Node>,
    /// Weights of each node that is a leaf: target and value, in the order of
    /// the attributes.
    pub(super) weights: Vec<Vec<(u32, f64)>>,
    /// The sets of nodes that ask for membership, in ascending order.
    pub(super) sets: Vec<Vec<f64>>,
    /// One for each tree, in the order in which weights are added.
    pub(super) roots: Vec<usize>,
    pub(super) targets: usize,
    pub(super) aggregate: Aggregate,
    pub(super) base_values: Vec<f64>,
    pub(super) post_transform: PostTransform,
    /// Some number is float64.
    pub(super) double: bool,
    /// The scores are of the input's type, else float32.
    pub(super) scores_as_input: bool,
}

#[derive(Clone, Copy)]
pub(super) struct Node {
    pub(super) mode: Mode,
    pub(super) feature: u32,
    /// The threshold, or the number of the set.
    pub(super) value: f64,
    pub(super) missing_true: bool,
    /// The node taken if the condition holds, and if not.
    pub(super) children: [usize; 2],
}

impl Node {
    fn leaf(value: f64) -> Node {
        Node {
            mode: Mode::Leaf,
            feature: 0,
            value,
            missing_true: false,
            children: [0; 2],
        }
    }
}

fn mode(name: &str) -> Why<Mode> {
    Ok(match name {
        "LEAF" => Mode::Leaf,
        "BRANCH_LEQ" => Mode::Leq,
        "BRANCH_LT" => Mode::Lt,
        "BRANCH_GTE" => Mode::Gte,
        "BRANCH_GT" => Mode::Gt,
        "BRANCH_EQ" => Mode::Eq,
        "BRANCH_NEQ" => Mode::Neq,
        other => return Err(format!("node mode {other:?}")),
    })
}

fn feature(id: i64) -> Why<u32> {
    match u32::try_from(id) {
        Ok(id) if id < 1 << 24 => Ok(id),
        _ => Err(format!("feature {id}")),
    }
}

fn same_lengths(count: usize, lists: &[(&str, usize)]) -> Why<()> {
    match lists.iter().find(|&&(_, len)| len != count) {
        Some((name, len)) => Err(format!("{name} has {len} entries, others {count}")),
        None => Ok(()),
    }
}

fn tensor(node: &OnnxNode, name: &str, double: &mut bool) -> Why<Option<Vec<f64>>> {
    let Some(tensor) = node.get(name).and_then(|a| a.t.as_ref()) else {
        return Ok(None);
    };
    match tensor.tensor()?.data {
        Data::Float32(v) => Ok(Some(v.into_iter().map(f64::from).collect())),
        Data::Float64(v) => {
            *double = true;
            Ok(Some(v))
        }
        other => Err(format!("{name} of type {} is not supported", other.dtype())),
    }
}

/// A list of floats, from the attribute or its `_as_tensor` twin.
fn floats(node: &OnnxNode, name: &str, double: &mut bool) -> Why<Vec<f64>> {
    Ok(match tensor(node, &format!("{name}_as_tensor"), double)? {
        Some(values) if !values.is_empty() => values,
        _ => node.floats(name).iter().copied().map(f64::from).collect(),
    })
}

fn checked_targets(targets: usize) -> Why<usize> {
    match targets {
        0 => Err("no targets".into()),
        targets if targets > TARGETS_MAX as usize => Err(format!("{targets} targets")),
        targets => Ok(targets),
    }
}

/// TreeEnsembleClassifier and TreeEnsembleRegressor, versions 1 and 3.
pub(super) fn version_3(node: &OnnxNode, prefix: &str, targets: usize) -> Why<Ensemble> {
    let targets = checked_targets(targets)?;
    let mut double = false;
    let tree_ids = node.ints("nodes_treeids");
    let node_ids = node.ints("nodes_nodeids");
    let features = node.ints("nodes_featureids");
    let values = floats(node, "nodes_values", &mut double)?;
    let on_true = node.ints("nodes_truenodeids");
    let on_false = node.ints("nodes_falsenodeids");
    let missing_true = node.ints("nodes_missing_value_tracks_true");
    let modes = node.texts("nodes_modes");
    let count = tree_ids.len();
    if count == 0 {
        return Err("no nodes".into());
    }
    same_lengths(
        count,
        &[
            ("nodes_nodeids", node_ids.len()),
            ("nodes_featureids", features.len()),
            ("nodes_values", values.len()),
            ("nodes_modes", modes.len()),
            ("nodes_truenodeids", on_true.len()),
            ("nodes_falsenodeids", on_false.len()),
        ],
    )?;

    let mut index = HashMap::with_capacity(count);
    // A tree's root is the node that is listed first.
    let mut roots = Vec::new();
    let mut trees = HashSet::new();
    for i in 0..count {
        if index.insert((tree_ids[i], node_ids[i]), i).is_some() {
            return Err(format!("node {} of tree {} is there twice", node_ids[i], tree_ids[i]));
        }
        if trees.insert(tree_ids[i]) {
            roots.push(i);
        }
    }
    let mut nodes = Vec::with_capacity(count);
    for i in 0..count {
        let mode = mode(&modes[i])?;
        if mode == Mode::Leaf {
            nodes.push(Node::leaf(values[i]));
            continue;
        }
        let child = |id: i64| {
            let found = index.get(&(tree_ids[i], id)).copied();
            found.ok_or_else(|| format!("tree {} has no node {id}", tree_ids[i]))
        };
        nodes.push(Node {
            mode,
            feature: feature(features[i])?,
            value: values[i],
            missing_true: missing_true.get(i) == Some(&1),
            children: [child(on_true[i])?, child(on_false[i])?],
        });
    }

    let list = |name: &str| format!("{prefix}_{name}");
    let weight_trees = node.ints(&list("treeids"));
    let weight_nodes = node.ints(&list("nodeids"));
    let weight_targets = node.ints(&list("ids"));
    let weight_values = floats(node, &list("weights"), &mut double)?;
    let total = weight_trees.len();
    same_lengths(
        total,
        &[
            (&list("nodeids"), weight_nodes.len()),
            (&list("ids"), weight_targets.len()),
            (&list("weights"), weight_values.len()),
        ],
    )?;
    let mut weights = vec![Vec::new(); count];
    for i in 0..total {
        let &leaf = index
            .get(&(weight_trees[i], weight_nodes[i]))
            .ok_or_else(|| format!("tree {} has no node {}", weight_trees[i], weight_nodes[i]))?;
        let target = target(weight_targets[i], targets)?;
        if nodes[leaf].mode == Mode::Leaf {
            weights[leaf].push((target, weight_values[i]));
        }
    }
    let aggregate = match (prefix, node.text("aggregate_function", "SUM").as_str()) {
        // A classifier does not have the attribute.
        ("class", _) | (_, "SUM") => Aggregate::Sum,
        (_, "AVERAGE") => Aggregate::Average,
        (_, "MIN") => Aggregate::Min,
        (_, "MAX") => Aggregate::Max,
        (_, other) => return Err(format!("aggregate_function {other:?}")),
    };
    Ok(Ensemble {
        nodes,
        weights,
        sets: Vec::new(),
        roots,
        targets,
        aggregate,
        base_values: floats(node, "base_values", &mut double)?,
        post_transform: crate::pack::lower::Lowering::post_transform(node)?,
        double,
        scores_as_input: false,
    })
}

fn target(id: i64, targets: usize) -> Why<u32> {
    u32::try_from(id)
        .ok()
        .filter(|&t| (t as usize) < targets)
        .ok_or_else(|| format!("target {id} of {targets}"))
}

/// TreeEnsemble, version 5.
pub(super) fn version_5(node: &OnnxNode) -> Why<Ensemble> {
    let mut double = false;
    let targets = usize::try_from(node.int("n_targets", 0)).map_err(|_| "n_targets below 0")?;
    let targets = checked_targets(targets)?;
    let features = node.ints("nodes_featureids");
    let splits = tensor(node, "nodes_splits", &mut double)?.ok_or("no nodes_splits")?;
    let modes = match node.get("nodes_modes").and_then(|a| a.t.as_ref()) {
        Some(tensor) => match tensor.tensor()?.data {
            Data::Uint8(modes) => modes,
            other => return Err(format!("nodes_modes of type {}", other.dtype())),
        },
        None => return Err("no nodes_modes".into()),
    };
    let children = ["true", "false"].map(|side| {
        let ids = node.ints(&format!("nodes_{side}nodeids"));
        (ids, node.ints(&format!("nodes_{side}leafs")))
    });
    let missing_true = node.ints("nodes_missing_value_tracks_true");
    let leaf_targets = node.ints("leaf_targetids");
    let leaf_weights = tensor(node, "leaf_weights", &mut double)?.ok_or("no leaf_weights")?;
    let members = tensor(node, "membership_values", &mut double)?.unwrap_or_default();
    let count = features.len();
    same_lengths(
        count,
        &[
            ("nodes_splits", splits.len()),
            ("nodes_modes", modes.len()),
            ("nodes_truenodeids", children[0].0.len()),
            ("nodes_trueleafs", children[0].1.len()),
            ("nodes_falsenodeids", children[1].0.len()),
            ("nodes_falseleafs", children[1].1.len()),
        ],
    )?;
    same_lengths(leaf_weights.len(), &[("leaf_targetids", leaf_targets.len())])?;

    // Each node's members end with NaN.
    let mut lists = members.split(|v| v.is_nan());
    let mut sets: Vec<Vec<f64>> = Vec::new();
    let mut nodes = Vec::with_capacity(count + leaf_weights.len());
    for i in 0..count {
        let mut value = splits[i];
        let mode = match modes[i] {
            0 => Mode::Leq,
            1 => Mode::Lt,
            2 => Mode::Gte,
            3 => Mode::Gt,
            4 => Mode::Eq,
            5 => Mode::Neq,
            6 => {
                let mut set = lists.next().unwrap_or_default().to_vec();
                set.sort_by(f64::total_cmp);
                value = sets.len() as f64;
                sets.push(set);
                Mode::Member
            }
            other => return Err(format!("node mode {other}")),
        };
        let mut found = [0; 2];
        for (child, (ids, leafs)) in found.iter_mut().zip(children) {
            let (limit, offset) = match leafs[i] {
                0 => (count, 0),
                _ => (leaf_weights.len(), count),
            };
            *child = usize::try_from(ids[i])
                .ok()
                .filter(|&id| id < limit)
                .ok_or_else(|| format!("node {i} leads to {}", ids[i]))?
                + offset;
        }
        nodes.push(Node {
            mode,
            feature: feature(features[i])?,
            value,
            missing_true: missing_true.get(i) == Some(&1),
            children: found,
        });
    }
    let mut weights = vec![Vec::new(); count];
    for (&id, &weight) in leaf_targets.iter().zip(&leaf_weights) {
        nodes.push(Node::leaf(0.0));
        weights.push(vec![(target(id, targets)?, weight)]);
    }
    let root = |&id: &i64| {
        let id = usize::try_from(id).ok().filter(|&id| id < count);
        let id = id.ok_or("a root is not there")?;
        // A tree that is but a leaf has a node with that leaf on both sides.
        let [on_true, on_false] = nodes[id].children;
        Ok(if on_true == on_false && on_true >= count {
            on_true
        } else {
            id
        })
    };
    Ok(Ensemble {
        roots: node.ints("tree_roots").iter().map(root).collect::<Why<_>>()?,
        nodes,
        weights,
        sets,
        targets,
        aggregate: match node.int("aggregate_function", 1) {
            0 => Aggregate::Average,
            1 => Aggregate::Sum,
            2 => Aggregate::Min,
            3 => Aggregate::Max,
            other => return Err(format!("aggregate_function {other}")),
        },
        base_values: Vec::new(),
        // The specification has 1 for SOFTMAX and 2 for LOGISTIC; this is how
        // ONNX Runtime reads them.
        post_transform: match node.int("post_transform", 0) {
            0 => PostTransform::None,
            1 => PostTransform::Logistic,
            2 => PostTransform::Softmax,
            3 => PostTransform::SoftmaxZero,
            4 => PostTransform::Probit,
            other => return Err(format!("post_transform {other}")),
        },
        double,
        scores_as_input: true,
    })
}

impl Ensemble {
    /// The nodes that the roots lead to, children before their parents.
    pub(super) fn children_first(&self) -> Why<Vec<usize>> {
        const OPEN: u8 = 1;
        const DONE: u8 = 2;
        let mut state = vec![0; self.nodes.len()];
        let mut order = Vec::new();
        let mut stack = Vec::new();
        for &root in &self.roots {
            stack.push(root);
            while let Some(&node) = stack.last() {
                if state[node] != 0 || self.nodes[node].mode == Mode::Leaf {
                    stack.pop();
                    if state[node] != DONE {
                        state[node] = DONE;
                        order.push(node);
                    }
                    continue;
                }
                state[node] = OPEN;
                for child in self.nodes[node].children {
                    match state[child] {
                        OPEN => return Err("a node leads back to itself".into()),
                        DONE => {}
                        _ => stack.push(child),
                    }
                }
            }
        }
        Ok(order)
    }

    /// The same with chains of comparisons in place of sets.
    pub(super) fn with_chains(&self) -> Cow<'_, Ensemble> {
        if self.sets.is_empty() {
            return Cow::Borrowed(self);
        }
        let mut ensemble = self.clone();
        for index in 0..ensemble.nodes.len() {
            let node = ensemble.nodes[index];
            if node.mode != Mode::Member {
                continue;
            }
            // From the last to the first, which is where the set's node is.
            let mut next = node.children[1];
            for (place, &value) in self.sets[node.value as usize].iter().enumerate().rev() {
                let link = Node {
                    mode: Mode::Eq,
                    value,
                    children: [node.children[0], next],
                    ..node
                };
                if place == 0 {
                    ensemble.nodes[index] = link;
                } else {
                    next = ensemble.nodes.len();
                    ensemble.nodes.push(link);
                    ensemble.weights.push(Vec::new());
                }
            }
        }
        Cow::Owned(ensemble)
    }
}
