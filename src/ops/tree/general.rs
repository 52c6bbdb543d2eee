//! The general walk: one row at a time, node by node, for what the fast walk
//! cannot hold.
//!
//! Thresholds are binary64, which holds those of binary32 too. Sums are added
//! up in the type that ONNX Runtime has for the input: binary64 for binary64,
//! else binary32. A node asks by its mode; two parents may share a child.

use super::scores::{Finish, Number, Sum};
use super::{Aggregate, Purpose, TARGETS_MAX};
use crate::engine::{Operands, RunError, Scratch};
use crate::ops::Kernel;
use crate::ops::post_transform::PostTransform;
use crate::program::{Constants, Slice};
use crate::tensor::{Shape, Tensor, Values};
use bytemuck::{Pod, Zeroable};
use serde::{Deserialize, Serialize};

/// What a node asks of its feature `x`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Mode {
    /// Nothing: it is a leaf.
    Leaf,
    /// `x <= value`
    Leq,
    /// `x < value`
    Lt,
    /// `x >= value`
    Gte,
    /// `x > value`
    Gt,
    /// `x == value`
    Eq,
    /// `x != value`
    Neq,
    /// Whether `x` is in the set whose number the value is.
    Member,
}

const MODES: [Mode; 8] = [
    Mode::Leaf,
    Mode::Leq,
    Mode::Lt,
    Mode::Gte,
    Mode::Gt,
    Mode::Eq,
    Mode::Neq,
    Mode::Member,
];

/// A missing value counts as "yes".
const MISSING: u32 = 8;

/// A node.
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct GeneralNode {
    value: f64,
    feature: u32,
    kind: u32,
    next: [u32; 2],
}

impl GeneralNode {
    /// A node that leads to `on_true` where its question is answered by yes, or
    /// the feature is NaN and `missing`; else to `on_false`. Both lie after it.
    pub fn branch(mode: Mode, feature: u32, value: f64, missing: bool, [on_true, on_false]: [u32; 2]) -> GeneralNode {
        GeneralNode {
            value,
            feature,
            kind: mode as u32 | if missing { MISSING } else { 0 },
            next: [on_true, on_false],
        }
    }

    /// A leaf with the weights from `start` to `end`.
    pub fn leaf(start: u32, end: u32) -> GeneralNode {
        GeneralNode::branch(Mode::Leaf, 0, 0.0, false, [start, end])
    }

    fn mode(&self) -> Mode {
        MODES[(self.kind % MISSING) as usize]
    }

    fn set(&self) -> usize {
        self.value as usize
    }
}

/// A tree ensemble of any kind.
///
/// Takes numbers, `[N, columns]`; float64 only if `double`. Yields labels `[N]`
/// (a regressor leaves them empty) and scores `[N, targets]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct GeneralEnsemble {
    /// The number of columns that nodes refer to; more may come.
    pub columns: u32,
    /// The nodes; parents before their children.
    pub nodes: Slice<GeneralNode>,
    /// Each tree's root, in the order in which their weights are added.
    pub roots: Slice<u32>,
    /// Where each set begins, and after the last where it ends.
    pub sets: Slice<u32>,
    /// The sets' members, each set in ascending order.
    pub members: Slice<f64>,
    /// The target of each weight.
    pub leaf_targets: Slice<u32>,
    /// The weights.
    pub leaf_weights: Slice<f64>,
    /// The number of scores.
    pub targets: u32,
    /// Comparisons and sums are in float64, else in float32.
    pub double: bool,
    /// The scores of a `double` ensemble are float64, else float32.
    pub double_scores: bool,
    /// How weights become scores.
    pub aggregate: Aggregate,
    /// Added to the scores at the end.
    pub base_values: Slice<f64>,
    /// What happens to the scores.
    pub post_transform: PostTransform,
    /// What the scores are for. One target may have two labels, for scores up
    /// to 0 and above.
    pub purpose: Purpose,
}

/// The arrays of an ensemble.
struct Arrays<'a> {
    nodes: &'a [GeneralNode],
    roots: &'a [u32],
    sets: &'a [u32],
    members: &'a [f64],
    leaf_targets: &'a [u32],
    leaf_weights: &'a [f64],
}

impl Arrays<'_> {
    /// The leaf that a row comes to.
    fn leaf(&self, root: u32, row: &[f64]) -> &GeneralNode {
        let mut node = &self.nodes[root as usize];
        loop {
            let mode = node.mode();
            if mode == Mode::Leaf {
                return node;
            }
            let x = row[node.feature as usize];
            let yes = match mode {
                Mode::Leaf => false,
                Mode::Leq => x <= node.value,
                Mode::Lt => x < node.value,
                Mode::Gte => x >= node.value,
                Mode::Gt => x > node.value,
                Mode::Eq => x == node.value,
                Mode::Neq => x != node.value,
                Mode::Member => {
                    let range = self.sets[node.set()] as usize..self.sets[node.set() + 1] as usize;
                    let members = &self.members[range];
                    members.get(members.partition_point(|&m| m < x)) == Some(&x)
                }
            };
            let yes = yes || (node.kind & MISSING != 0 && x.is_nan());
            node = &self.nodes[node.next[usize::from(!yes)] as usize];
        }
    }

    fn add<T: Number>(&self, aggregate: Aggregate, row: &[f64], sums: &mut [Sum<T>]) {
        for &root in self.roots {
            let [start, end] = self.leaf(root, row).next;
            let range = start as usize..end as usize;
            for (&target, &weight) in self.leaf_targets[range.clone()].iter().zip(&self.leaf_weights[range]) {
                sums[target as usize].combine(aggregate, T::nearest(weight));
            }
        }
    }
}

impl GeneralEnsemble {
    fn arrays<'a>(&self, constants: &Constants<'a>) -> Arrays<'a> {
        Arrays {
            nodes: constants.get(self.nodes),
            roots: constants.get(self.roots),
            sets: constants.get(self.sets),
            members: constants.get(self.members),
            leaf_targets: constants.get(self.leaf_targets),
            leaf_weights: constants.get(self.leaf_weights),
        }
    }

    /// Appends the scores of all rows and their classes.
    fn walk<T: Number>(
        &self,
        constants: &Constants<'_>,
        rows: usize,
        lay_out: impl Fn(usize, &mut Vec<f64>),
        row: &mut Vec<f64>,
        (scores, classes): (&mut Vec<T>, &mut Vec<usize>),
    ) {
        let arrays = self.arrays(constants);
        let finish = Finish {
            purpose: &self.purpose,
            aggregate: self.aggregate,
            trees: arrays.roots.len(),
            base: constants.get(self.base_values),
            post: self.post_transform,
        };
        let mut sums = vec![Sum::default(); self.targets as usize];
        for index in 0..rows {
            lay_out(index, row);
            sums.fill(Sum::default());
            arrays.add(self.aggregate, row, &mut sums);
            classes.push(finish.row(&mut sums, scores));
        }
    }
}

impl Kernel for GeneralEnsemble {
    const NAME: &'static str = "TreeEnsemble";
    // A regressor leaves the first result, the labels, empty.
    const OUTPUTS: usize = 2;

    fn check(&self, constants: &Constants<'_>) -> Result<(), String> {
        let nodes = constants.check(self.nodes, "nodes")?;
        let roots = constants.check(self.roots, "roots")?;
        let sets = constants.check(self.sets, "sets")?;
        let members = constants.check(self.members, "members")?;
        let targets = constants.check(self.leaf_targets, "leaf targets")?;
        let weights = constants.check(self.leaf_weights, "leaf weights")?;
        constants.check(self.base_values, "base_values")?;
        if self.targets == 0 || self.targets > TARGETS_MAX {
            return Err(format!("{} targets", self.targets));
        }
        if sets.windows(2).any(|pair| pair[0] > pair[1]) || sets.last().is_some_and(|&end| end as usize > members.len())
        {
            return Err("the sets lie outside".into());
        }
        if targets.len() != weights.len() || targets.iter().any(|&t| t >= self.targets) {
            return Err("a leaf speaks for a target that is not there".into());
        }
        if roots.iter().any(|&root| root as usize >= nodes.len()) {
            return Err("a root lies outside".into());
        }
        for (at, node) in nodes.iter().enumerate() {
            let [first, second] = node.next.map(|next| next as usize);
            let fits = match node.mode() {
                Mode::Leaf => first <= second && second <= weights.len(),
                // Each step leads further on, so that every walk ends.
                mode => {
                    let further = at < first.min(second) && first.max(second) < nodes.len();
                    let set = mode != Mode::Member || (node.value >= 0.0 && node.set() < sets.len().saturating_sub(1));
                    further && set && node.feature < self.columns
                }
            };
            if !fits || node.kind >= 2 * MISSING {
                return Err(format!("node {at} leads outside"));
            }
        }
        if let Purpose::Classification { labels, .. } = &self.purpose {
            labels.check(constants)?;
            if labels.len() != (self.targets as usize).max(2) {
                return Err(format!("{} labels for {} targets", labels.len(), self.targets));
            }
        }
        Ok(())
    }

    fn run(&self, operands: &Operands<'_>, out: &mut [Tensor], scratch: &mut Scratch) -> Result<(), RunError> {
        let x = operands.view(0)?;
        let (rows, given) = x.shape.as_rows();
        let columns = self.columns as usize;
        if given < columns {
            return Err(operands.shape_error(format!("{columns} columns"), x.shape));
        }
        if matches!(x.values, Values::String(_)) || (matches!(x.values, Values::Float64(_)) && !self.double) {
            return Err(operands.dtype_error(x.dtype()));
        }
        let shape = Shape::new(&[rows, self.targets as usize]);
        let shape = shape.ok_or_else(|| operands.shape_error("fewer rows", x.shape))?;
        let constants = operands.constants();
        let lay_out = |index: usize, row: &mut Vec<f64>| {
            row.clear();
            let range = index * given..index * given + columns;
            match x.values {
                Values::Float32(v) => row.extend(v[range].iter().map(|&v| f64::from(v))),
                // Integers are compared as floats.
                _ if self.double => row.extend(range.map(|i| x.number(i).unwrap_or(f64::NAN))),
                Values::Int64(v) => row.extend(v[range].iter().map(|&v| f64::from(v as f32))),
                _ => row.extend(range.map(|i| f64::from(x.number(i).unwrap_or(f64::NAN) as f32))),
            }
        };
        let (label_out, score_out) = out.split_at_mut(1);
        let row = &mut scratch.f64;
        let mut classes = Vec::with_capacity(rows);
        match (self.double, self.double_scores) {
            (false, _) => {
                let scores = score_out[0].write_f32(shape);
                self.walk(&constants, rows, lay_out, row, (scores, &mut classes));
            }
            (true, true) => {
                let scores = score_out[0].write_f64(shape);
                self.walk(&constants, rows, lay_out, row, (scores, &mut classes));
            }
            (true, false) => {
                let mut scores = Vec::<f64>::with_capacity(shape.len());
                self.walk(&constants, rows, lay_out, row, (&mut scores, &mut classes));
                score_out[0].write_f32(shape).extend(scores.iter().map(|&s| s as f32));
            }
        }
        if let Purpose::Classification { labels, .. } = &self.purpose {
            labels.write(&constants, classes.into_iter(), &mut label_out[0]);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{Op, testing};
    use crate::program::{Builder, Source};
    use crate::tensor::Data;

    fn run(nodes: &[GeneralNode], double: bool, x: Tensor) -> Result<Tensor, String> {
        let mut builder = Builder::new(1);
        let op = GeneralEnsemble {
            columns: 1,
            nodes: builder.array(nodes),
            roots: builder.array(&[0u32]),
            sets: builder.array(&[0u32, 3]),
            members: builder.array(&[-1.0, 0.1, 7.0]),
            leaf_targets: builder.array(&[0u32, 0]),
            leaf_weights: builder.array(&[1.0, 0.1]),
            targets: 1,
            double,
            double_scores: double,
            aggregate: Aggregate::Sum,
            base_values: Slice::default(),
            post_transform: PostTransform::None,
            purpose: Purpose::Regression,
        };
        let results = builder.push(Op::TreeGeneral(op), vec![Source::Input(0)]);
        testing::finish(builder, vec![results[1]], &[x]).map(|mut outputs| outputs.remove(0))
    }

    fn doubles(values: &[f64]) -> Tensor {
        Tensor {
            shape: Shape::matrix(values.len(), 1),
            data: Data::Float64(values.to_vec()),
        }
    }

    fn tree(root: GeneralNode) -> [GeneralNode; 3] {
        [root, GeneralNode::leaf(0, 1), GeneralNode::leaf(1, 2)]
    }

    #[test]
    fn thresholds_and_sums_are_float64() {
        let nodes = tree(GeneralNode::branch(Mode::Leq, 0, 0.1, false, [1, 2]));
        let y = run(&nodes, true, doubles(&[0.1, 0.1f64.next_up(), f64::NAN]));
        assert_eq!(y.map(|y| y.data), Ok(Data::Float64(vec![1.0, 0.1, 0.1])));
    }

    #[test]
    fn members_are_looked_up_and_missing_values_routed() {
        let nodes = tree(GeneralNode::branch(Mode::Member, 0, 0.0, true, [1, 2]));
        let y = run(&nodes, true, doubles(&[7.0, -1.0, 0.1, 0.0, 8.0, -2.0, f64::NAN]));
        assert_eq!(
            y.map(|y| y.data),
            Ok(Data::Float64(vec![1.0, 1.0, 1.0, 0.1, 0.1, 0.1, 1.0]))
        );
    }

    #[test]
    fn float64_is_not_narrowed_in_silence_and_no_walk_is_endless() {
        let branch = |children| GeneralNode::branch(Mode::Lt, 0, 0.1, false, children);
        assert!(run(&tree(branch([1, 2])), false, doubles(&[0.1])).is_err());
        for children in [[0, 1], [1, 3], [2, 0]] {
            assert!(
                run(&tree(branch(children)), true, doubles(&[0.1])).is_err(),
                "{children:?}"
            );
        }
    }
}
