//! An ensemble as the fast walk takes it: every node mode becomes the one
//! comparison that the engine walks by, and a node with several parents is laid
//! out once and jumped to from the others.

use super::read::{Ensemble, Mode};
use crate::pack::lower::{Lowering, Why};
use modelet::ops::tree::{self, Leaves, Nodes, Purpose, Tree, TreeEnsemble, WideNode, key};
use std::collections::{HashMap, VecDeque};

impl Lowering<'_> {
    /// `None` if the trees share so many nodes that apart they would be many
    /// times as large.
    pub(super) fn fast(&mut self, ensemble: &Ensemble, purpose: Purpose) -> Why<Option<TreeEnsemble>> {
        let order = ensemble.children_first()?;
        let facts = Facts::new(ensemble, &order);
        let branches = || order.iter().filter(|&&i| ensemble.nodes[i].mode != Mode::Leaf);
        let columns = branches().map(|&i| ensemble.nodes[i].feature + 1).max().unwrap_or(0);
        let missing_left = branches().any(|&i| ensemble.low_column(i));
        let width = TreeEnsemble::width(columns as usize, missing_left);

        let targets = ensemble.roots.iter().map(|&root| facts.targets[root]);
        let inline = targets.clone().all(|target| matches!(target, Spoken::One(_)));
        let mut layout = Layout {
            ensemble,
            shared: &facts.shared,
            columns,
            sentinel: (width - 1) as u32,
            inline,
            nodes: Vec::new(),
            starts: vec![0],
            leaf_targets: Vec::new(),
            leaf_weights: Vec::new(),
        };
        let most = 8 * ensemble.nodes.len() + 1024;
        let mut trees = Vec::with_capacity(ensemble.roots.len());
        for (&root, target) in ensemble.roots.iter().zip(targets) {
            let start = layout.nodes.len();
            layout.tree(root);
            if layout.nodes.len() > most {
                return Ok(None);
            }
            trees.push(Tree {
                start: u32::try_from(start).map_err(|_| "too many nodes")?,
                len: u32::try_from(layout.nodes.len() - start).map_err(|_| "too many nodes")?,
                depth: facts.heights[root],
                target: match target {
                    Spoken::One(target) if inline => target,
                    _ => 0,
                },
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
        let nodes = match wide.iter().map(tree::Node::narrowed).collect::<Option<Vec<_>>>() {
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
        let base_values: Vec<f32> = ensemble.base_values.iter().map(|&v| v as f32).collect();
        Ok(Some(TreeEnsemble {
            columns,
            missing_left,
            nodes,
            trees: self.builder.array(&trees),
            leaves,
            targets: ensemble.targets as u32,
            aggregate: ensemble.aggregate,
            base_values: self.builder.array(&base_values),
            post_transform: ensemble.post_transform,
            purpose,
        }))
    }
}

impl Ensemble {
    /// Whether the comparison reads the column in which missing values are
    /// below all, so that they go left.
    fn low_column(&self, node: usize) -> bool {
        let node = &self.nodes[node];
        match node.mode {
            Mode::Leaf | Mode::Neq | Mode::Member => false,
            // The left side is where the condition holds.
            Mode::Leq | Mode::Lt | Mode::Eq => node.missing_true,
            // The left side is where it does not.
            Mode::Gte | Mode::Gt => !node.missing_true,
        }
    }
}

/// Which target the leaves below a node speak for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Spoken {
    /// Each has its one weight for this one.
    One(u32),
    /// Some have none or several, or they differ.
    Several,
}

/// What follows from the nodes below each node.
struct Facts {
    targets: Vec<Spoken>,
    /// The most steps to a leaf.
    heights: Vec<u32>,
    /// It has several parents, and is worth a jump.
    shared: Vec<bool>,
}

impl Facts {
    fn new(ensemble: &Ensemble, children_first: &[usize]) -> Facts {
        let count = ensemble.nodes.len();
        let mut parents = vec![0u32; count];
        for &index in children_first {
            let node = &ensemble.nodes[index];
            if node.mode != Mode::Leaf {
                node.children.iter().for_each(|&child| parents[child] += 1);
            }
        }
        let several = |(node, &parents): (usize, &u32)| parents > 1 && ensemble.nodes[node].mode != Mode::Leaf;
        let mut facts = Facts {
            targets: vec![Spoken::Several; count],
            heights: vec![0; count],
            shared: parents.iter().enumerate().map(several).collect(),
        };
        for &index in children_first {
            let node = &ensemble.nodes[index];
            // With the steps that the rewriting of `==` adds.
            let steps = match node.mode {
                Mode::Leaf => {
                    if let [(target, weight)] = ensemble.weights[index][..]
                        && !weight.is_nan()
                    {
                        facts.targets[index] = Spoken::One(target);
                    }
                    continue;
                }
                Mode::Eq => [2, 3],
                Mode::Neq => [3, 2],
                _ => [1, 1],
            };
            let below = |child: usize| facts.heights[child] + u32::from(facts.shared[child]);
            let [on_true, on_false] = node.children;
            let height = (steps[0] + below(on_true)).max(steps[1] + below(on_false));
            if facts.targets[on_true] == facts.targets[on_false] {
                facts.targets[index] = facts.targets[on_true];
            }
            facts.heights[index] = height;
        }
        facts
    }
}

/// Writes trees as nodes of the engine; children lie side by side, and a tree
/// from the top down.
struct Layout<'e> {
    ensemble: &'e Ensemble,
    shared: &'e [bool],
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
        let mut slots = HashMap::new();
        self.nodes.push(self.jump(0));
        while let Some((index, slot)) = queue.pop_front() {
            let at = start + slot as usize;
            let node = &self.ensemble.nodes[index];
            if node.mode == Mode::Leaf {
                self.nodes[at] = WideNode {
                    value: self.payload(index),
                    ..self.jump(slot)
                };
                continue;
            }
            if self.shared[index] {
                let first = *slots.entry(index).or_insert(slot);
                if first != slot {
                    self.nodes[at] = self.jump(first);
                    continue;
                }
            }
            let [on_true, on_false] = node.children;
            let threshold = node.value as f32;
            let below = threshold.next_down();
            let pair = self.pair(start);
            match node.mode {
                Mode::Leq | Mode::Lt => {
                    let threshold = if node.mode == Mode::Leq { threshold } else { below };
                    self.nodes[at] = self.test(index, threshold, pair);
                    queue.extend([(on_true, pair), (on_false, pair + 1)]);
                }
                Mode::Gt | Mode::Gte => {
                    let threshold = if node.mode == Mode::Gt { threshold } else { below };
                    self.nodes[at] = self.test(index, threshold, pair);
                    queue.extend([(on_false, pair), (on_true, pair + 1)]);
                }
                Mode::Eq | Mode::Neq => {
                    // At most the threshold, and then not below it.
                    let (same, other) = match node.mode {
                        Mode::Eq => (on_true, on_false),
                        _ => (on_false, on_true),
                    };
                    let inner = self.pair(start);
                    self.nodes[at] = self.test(index, threshold, pair);
                    self.nodes[start + pair as usize] = WideNode {
                        value: key(below),
                        feature: node.feature,
                        child: inner as i32,
                    };
                    self.nodes[start + inner as usize] = self.jump(pair + 1);
                    queue.extend([(other, pair + 1), (same, inner + 1)]);
                }
                Mode::Leaf | Mode::Member => {}
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
            value: 0,
            feature: self.sentinel,
            child: slot as i32,
        }
    }

    fn test(&self, index: usize, threshold: f32, child: u32) -> WideNode {
        let feature = self.ensemble.nodes[index].feature;
        WideNode {
            value: key(threshold),
            feature: match self.ensemble.low_column(index) {
                true => feature + self.columns,
                false => feature,
            },
            child: child as i32,
        }
    }

    /// What a leaf's node holds: its weight, or the number of its list.
    fn payload(&mut self, leaf: usize) -> i32 {
        let weights = &self.ensemble.weights[leaf];
        if self.inline {
            return (weights[0].1 as f32).to_bits() as i32;
        }
        let number = (self.starts.len() - 1) as u32;
        for &(target, weight) in weights {
            self.leaf_targets.push(target);
            self.leaf_weights.push(weight as f32);
        }
        self.starts.push(self.leaf_weights.len() as u32);
        number as i32
    }
}
