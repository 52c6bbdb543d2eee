//! Ensembles of decision trees: `ai.onnx.ml` TreeEnsembleClassifier and
//! TreeEnsembleRegressor, versions 1 and 3, and TreeEnsemble, version 5.
//!
//! This is the fast walk, in float32. What it cannot hold (thresholds and sums
//! in float64, large sets) is walked by [`general`].
//!
//! # The nodes
//!
//! The lowering rewrites every node mode to one question, "is `x` above the
//! threshold?", so that the walk has no branch:
//!
//! ```text
//! next = this + child + (row[feature] > value)      both children lie side by side
//! ```
//!
//! Both sides of the comparison are [keys](key): integers in the order of the
//! floats that they stand for. Comparing integers takes less than comparing
//! floats where NaN has a say, in wasm above all, and a row is made keys once
//! for hundreds of comparisons. In a row a key is the upper half of 64 bits
//! whose lower half is 0, so that it is compared with a node as it stands, of
//! which the key is the upper half too.
//!
//! Where the next node lies is relative to this one, so that a walk's state is
//! one pointer, and eight walks fit the registers. A node has the place of what
//! it asks for in bytes from the row's beginning, the same for one row and for
//! eight side by side.
//!
//! *Missing values* cost nothing in the walk. A row is laid out as its columns,
//! in which a missing value is above every threshold, then (if any node sends
//! missing values to the left) the columns again, in which it is above none,
//! then a *sentinel* that is above none: a node picks by the column it names
//! where a missing value goes.
//!
//! *Leaves* ask the sentinel and lead to themselves, so that trees of unequal
//! depth are walked in step; their `value` is free for the payload. A node that
//! asks the sentinel and leads elsewhere is a *jump*: by it two parents share a
//! child.
//!
//! # Order of addition
//!
//! Scores are added up in float32, tree after tree in the model's order, for
//! one row as for a thousand, natively as in wasm: the bits are the same
//! everywhere. It is also the order of XGBoost and of ONNX Runtime's batches.

pub mod general;
mod scores;

use self::scores::{Finish, Sum};
use super::Kernel;
use super::linear::Labels;
use super::post_transform::PostTransform;
use crate::engine::{Operands, RunError, Scratch};
use crate::program::{Constants, Slice};
use crate::tensor::{Shape, Tensor, Values};
use bytemuck::{Pod, Zeroable};
use serde::{Deserialize, Serialize};
use std::sync::atomic::{Ordering, compiler_fence};

/// What is compared in the walk: for a float an integer, such that of two
/// floats the greater one has the greater integer. -0 is 0, and NaN below
/// everything.
pub fn key(value: f32) -> i32 {
    if value.is_nan() {
        return BELOW_ALL;
    }
    // Negative floats grow with their magnitude: all but the sign is turned.
    let bits = (value + 0.0).to_bits() as i32;
    bits ^ ((bits >> 31) & i32::MAX)
}

/// Not above any threshold.
const BELOW_ALL: i32 = i32::MIN;
/// Above every threshold.
const ABOVE_ALL: i32 = i32::MAX;

/// A node in 8 bytes: children within 32,767 nodes and rows of up to
/// [`SLOTS_MAX`](Node::SLOTS_MAX) values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Node {
    place: u16,
    child: i16,
    value: i32,
}

/// A node in 12 bytes, for what does not fit a [`Node`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct WideNode {
    /// The threshold's [`key`]; of a leaf the payload.
    pub value: i32,
    /// Which value of the laid-out row is asked.
    pub feature: u32,
    /// How many nodes after this one the left child lies; the right one follows
    /// it. 0 leads to the node itself: a leaf.
    pub child: i32,
}

impl Node {
    /// The most values of a laid-out row.
    pub const SLOTS_MAX: usize = (1 << 16) / SLOT;

    /// The same in 8 bytes, if it fits.
    pub fn narrowed(wide: &WideNode) -> Option<Node> {
        Some(Node {
            place: u16::try_from(wide.feature as usize * SLOT).ok()?,
            child: i16::try_from(wide.child).ok()?,
            value: wide.value,
        })
    }
}

trait TreeNode: Pod {
    /// From one value of a row to the next if it is laid out alone.
    const STEP: usize;

    /// The key in the upper half, and in the lower one whatever is no less than
    /// 0; where the asked value lies, in bytes; the child.
    fn parts(&self, step: usize) -> (i64, usize, isize);

    /// Which value is asked.
    fn feature(&self) -> usize;
}

impl TreeNode for Node {
    const STEP: usize = LANES;

    #[inline(always)]
    fn parts(&self, _: usize) -> (i64, usize, isize) {
        // By one load, where three would be as many instructions more.
        let bits = u64::from_le(bytemuck::cast(*self));
        (bits as i64, bits as usize & 0xffff, (bits as i32 >> 16) as isize)
    }

    fn feature(&self) -> usize {
        // What is between two places is no value.
        match usize::from(self.place) {
            place if place.is_multiple_of(SLOT) => place / SLOT,
            _ => usize::MAX,
        }
    }
}

impl TreeNode for WideNode {
    // A row of many values is small where they lie close together.
    const STEP: usize = 1;

    #[inline(always)]
    fn parts(&self, step: usize) -> (i64, usize, isize) {
        let place = self.feature as usize * step * size_of::<i64>();
        (i64::from(self.value) << 32, place, self.child as isize)
    }

    fn feature(&self) -> usize {
        self.feature as usize
    }
}

/// One tree of an ensemble; its root is its first node.
#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct Tree {
    /// Index of the first node.
    pub start: u32,
    /// The number of nodes.
    pub len: u32,
    /// The number of steps after which every walk is at a leaf.
    pub depth: u32,
    /// With [`Leaves::Inline`], the score that the leaves add to.
    pub target: u32,
}

/// The nodes of all trees.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Nodes {
    /// Of 8 bytes.
    Narrow(Slice<Node>),
    /// Of 12 bytes.
    Wide(Slice<WideNode>),
}

/// What leaves hold.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Leaves {
    /// Each a single weight, which is its node's `value`, for its tree's target.
    Inline,
    /// Each any number of weights: the bits of its node's `value` are an index
    /// into `starts`.
    Lists {
        /// Where each leaf's list begins, and after the last where it ends.
        starts: Slice<u32>,
        /// The target of each weight.
        targets: Slice<u32>,
        /// The weights.
        weights: Slice<f32>,
    },
}

/// How the trees' weights become one score.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Aggregate {
    /// Added up.
    Sum,
    /// Added up and divided by the number of trees.
    Average,
    /// The smallest.
    Min,
    /// The largest.
    Max,
}

/// What the scores are for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Purpose {
    /// They are the answer.
    Regression,
    /// They choose a class.
    Classification {
        /// One for each target.
        labels: Labels,
        /// Two classes, of which the leaves score only one.
        one_sided: bool,
        /// No weight is negative.
        positive: bool,
    },
}

/// A tree ensemble.
///
/// Takes numbers of any type, `[N, columns]`. Yields labels `[N]` (a regressor
/// leaves them empty) and float32 scores `[N, targets]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TreeEnsemble {
    /// The number of columns that nodes refer to; more may come.
    pub columns: u32,
    /// Some node sends missing values left: rows are laid out with the second
    /// set of columns.
    pub missing_left: bool,
    /// The nodes.
    pub nodes: Nodes,
    /// The trees in the order in which their weights are added.
    pub trees: Slice<Tree>,
    /// What leaves hold.
    pub leaves: Leaves,
    /// The number of scores.
    pub targets: u32,
    /// How weights become scores.
    pub aggregate: Aggregate,
    /// Added to the scores at the end; none, or one for each target (two
    /// classes may have one).
    pub base_values: Slice<f32>,
    /// What happens to the scores.
    pub post_transform: PostTransform,
    /// What the scores are for.
    pub purpose: Purpose,
}

/// The largest number of scores.
pub const TARGETS_MAX: u32 = 1 << 16;

/// The most rows that are laid out and walked together.
const BLOCK: usize = 64;
/// They take up to so many bytes, so that they stay in the nearest cache.
const BLOCK_BYTES: usize = 16 << 10;
/// Walks that run in step, to hide the latency of each other's loads.
const LANES: usize = 8;
/// Bytes from a value to the next in rows that are laid out side by side.
const SLOT: usize = LANES * size_of::<i64>();
/// Trees up to this depth are walked to it without looking on the way whether
/// the leaves are reached.
const EVEN_DEPTH: u32 = 8;
/// In deeper ones every so many steps.
const STRIDE: u32 = 3;

impl TreeEnsemble {
    /// The number of values in a laid-out row.
    pub fn width(columns: usize, missing_left: bool) -> usize {
        columns * (1 + usize::from(missing_left)) + 1
    }

    /// Lays a row out in every `step`-th place from the first.
    fn lay_out(&self, values: impl Iterator<Item = f32>, row: &mut [i64], step: usize) {
        let upper = |key: i32| i64::from(key) << 32;
        let columns = self.columns as usize;
        for (i, value) in values.take(columns).enumerate() {
            let low = key(value);
            row[i * step] = upper(if value.is_nan() { ABOVE_ALL } else { low });
            if self.missing_left {
                row[(columns + i) * step] = upper(low);
            }
        }
        row[(Self::width(columns, self.missing_left) - 1) * step] = upper(BELOW_ALL);
    }

    fn check_nodes<N: TreeNode>(&self, nodes: &[N], trees: &[Tree]) -> Result<(), String> {
        let width = Self::width(self.columns as usize, self.missing_left);
        for (index, tree) in trees.iter().enumerate() {
            let (start, len) = (tree.start as usize, tree.len as usize);
            let Some(nodes) = start.checked_add(len).and_then(|end| nodes.get(start..end)) else {
                return Err(format!("tree {index} lies outside the nodes"));
            };
            if nodes.is_empty() || tree.depth as usize > len || tree.target >= self.targets {
                return Err(format!("tree {index} contradicts itself: {tree:?}"));
            }
            for (at, node) in nodes.iter().enumerate() {
                let (feature, (_, _, child)) = (node.feature(), node.parts(LANES));
                // The sentinel is above no threshold, so that only the left
                // child must exist.
                let sentinel = feature == width - 1;
                let first = at.checked_add_signed(child);
                let last = first.and_then(|first| first.checked_add(usize::from(!sentinel)));
                if feature >= width || last.is_none_or(|last| last >= len) {
                    return Err(format!("tree {index}, node {at} leads outside"));
                }
            }
        }
        Ok(())
    }

    /// The score that all leaves are added to, each with one weight, if it is
    /// the same for all. That the trees of a one-sided classifier share it, its
    /// check has made sure of.
    fn one_sum(&self, trees: &[Tree]) -> Option<usize> {
        let added = matches!(self.aggregate, Aggregate::Sum | Aggregate::Average);
        let one = added && matches!(self.leaves, Leaves::Inline) && (self.targets == 1 || self.is_one_sided());
        one.then(|| trees.first().map_or(0, |tree| tree.target as usize))
    }

    fn is_one_sided(&self) -> bool {
        matches!(self.purpose, Purpose::Classification { one_sided: true, .. })
    }

    /// Adds every tree's weight for one laid-out row to its scores.
    fn walk_row<N: TreeNode>(&self, nodes: &[N], constants: &Constants<'_>, row: &[i64], sums: &mut [Sum<f32>]) {
        let trees = constants.get(self.trees);
        let groups = trees.chunks(LANES);
        let mut values = [0; LANES];
        if let Some(target) = self.one_sum(trees) {
            // In a register: a store for each weight would wait for the one before.
            let mut score = 0.0;
            for group in groups {
                walk_trees(nodes, group, row, &mut values);
                for &value in &values[..group.len()] {
                    score += f32::from_bits(value as u32);
                }
            }
            sums[target] = Sum {
                score,
                given: !trees.is_empty(),
            };
            return;
        }
        let leaf = Leaf::new(self, constants);
        for group in groups {
            walk_trees(nodes, group, row, &mut values);
            for (tree, &value) in group.iter().zip(&values) {
                leaf.add(tree, value, sums);
            }
        }
    }

    /// [`TreeEnsemble::walk_row`] for rows that are laid out side by side,
    /// [`LANES`] together: value by value, each for all of them.
    fn walk_block<N: TreeNode>(&self, nodes: &[N], constants: &Constants<'_>, rows: &[i64], sums: &mut [Sum<f32>]) {
        let width = Self::width(self.columns as usize, self.missing_left);
        let targets = self.targets as usize;
        let trees = constants.get(self.trees);
        let mut values = [0; LANES];
        if let Some(target) = self.one_sum(trees) {
            let mut scores = [0.0; BLOCK];
            for tree in trees {
                let groups = rows.chunks_exact(width * LANES);
                for (rows, scores) in groups.zip(scores.chunks_exact_mut(LANES)) {
                    walk_rows(nodes, tree, rows, &mut values);
                    for (score, &value) in scores.iter_mut().zip(&values) {
                        *score += f32::from_bits(value as u32);
                    }
                }
            }
            for (sums, &score) in sums.chunks_exact_mut(targets).zip(&scores) {
                let given = !trees.is_empty();
                sums[target] = Sum { score, given };
            }
            return;
        }
        let leaf = Leaf::new(self, constants);
        for tree in trees {
            let groups = rows.chunks_exact(width * LANES);
            for (rows, sums) in groups.zip(sums.chunks_exact_mut(LANES * targets)) {
                walk_rows(nodes, tree, rows, &mut values);
                for (&value, sums) in values.iter().zip(sums.chunks_exact_mut(targets)) {
                    leaf.add(tree, value, sums);
                }
            }
        }
    }
}

/// How a leaf's value becomes part of the scores.
struct Leaf<'a> {
    aggregate: Aggregate,
    lists: Option<(&'a [u32], &'a [u32], &'a [f32])>,
}

impl<'a> Leaf<'a> {
    fn new(ensemble: &TreeEnsemble, constants: &Constants<'a>) -> Self {
        Leaf {
            aggregate: ensemble.aggregate,
            lists: match ensemble.leaves {
                Leaves::Inline => None,
                Leaves::Lists {
                    starts,
                    targets,
                    weights,
                } => Some((constants.get(starts), constants.get(targets), constants.get(weights))),
            },
        }
    }

    #[inline(always)]
    fn add(&self, tree: &Tree, value: i32, sums: &mut [Sum<f32>]) {
        let Some((starts, targets, weights)) = self.lists else {
            sums[tree.target as usize].combine(self.aggregate, f32::from_bits(value as u32));
            return;
        };
        self.add_list(value, (starts, targets, weights), sums);
    }

    fn add_list(&self, value: i32, (starts, targets, weights): (&[u32], &[u32], &[f32]), sums: &mut [Sum<f32>]) {
        let leaf = value as u32 as usize;
        if let (Some(&start), Some(&end)) = (starts.get(leaf), starts.get(leaf + 1)) {
            let range = start as usize..end as usize;
            for (&target, &weight) in targets[range.clone()].iter().zip(&weights[range]) {
                sums[target as usize].combine(self.aggregate, weight);
            }
        }
    }
}

/// Walks in step from these nodes until all are at leaves. Of a row that is
/// laid out in every `step`-th place, `x` gives a lane the value that lies so
/// many bytes from its beginning.
///
/// # Safety
/// `check_nodes` has accepted the trees whose roots are given, `depth` is that
/// of the deepest, and `x` is safe for their features.
#[inline(always)]
unsafe fn descend<N: TreeNode>(
    mut at: [*const N; LANES],
    depth: u32,
    step: usize,
    x: impl Fn(usize, usize) -> i64,
) -> [i32; LANES] {
    // SAFETY: a checked node's children are nodes of its tree.
    let walk = |at: &mut [*const N; LANES]| unsafe {
        let mut on_the_way = 0;
        for (lane, at) in at.iter_mut().enumerate() {
            let (value, place, child) = (**at).parts(step);
            *at = at.offset(child + isize::from(x(lane, place) > value));
            on_the_way |= child;
        }
        // Else the compiler begins the lanes' next steps among these, and has
        // more values at hand than there are registers.
        compiler_fence(Ordering::SeqCst);
        on_the_way
    };
    let mut left = depth;
    if depth <= EVEN_DEPTH {
        // Two at a time, because a loop has its price: in wasm the host looks
        // at its clock there.
        while left > 1 {
            walk(&mut at);
            walk(&mut at);
            left -= 2;
        }
        if left > 0 {
            walk(&mut at);
        }
        left = 0;
    }
    // Deep trees are uneven: it pays to look whether all were at leaves before
    // the step, by one branch for all.
    while left > 0 {
        let steps = STRIDE.min(left);
        for _ in 1..steps {
            walk(&mut at);
        }
        left -= steps;
        if walk(&mut at) == 0 {
            break;
        }
    }
    // SAFETY: as above.
    at.map(|at| unsafe { ((*at).parts(step).0 >> 32) as i32 })
}

/// Walks one row down up to [`LANES`] trees, of which there is at least one;
/// writes the values of the leaves. A function of its own, so that its state
/// stays in registers.
#[inline(never)]
fn walk_trees<N: TreeNode>(nodes: &[N], trees: &[Tree], row: &[i64], values: &mut [i32; LANES]) {
    let depth = trees.iter().map(|tree| tree.depth).max().unwrap_or(0);
    // A short group walks its last tree more than once.
    let last = trees.len() - 1;
    // SAFETY: the trees were checked for these nodes and for rows of this width
    // when the program was loaded.
    *values = unsafe {
        let roots = std::array::from_fn(|lane| nodes.as_ptr().add(trees[lane.min(last)].start as usize));
        descend(roots, depth, N::STEP, |_, place| *row.as_ptr().byte_add(place))
    };
}

/// Walks several rows down one tree; writes the values of the leaves.
#[inline(never)]
fn walk_rows<N: TreeNode>(nodes: &[N], tree: &Tree, rows: &[i64], values: &mut [i32; LANES]) {
    // SAFETY: the trees were checked for these nodes and for rows of this width
    // when the program was loaded, and there are so many of them.
    *values = unsafe {
        let root = nodes.as_ptr().add(tree.start as usize);
        descend([root; LANES], tree.depth, LANES, |lane, place| {
            *rows.as_ptr().byte_add(place).add(lane)
        })
    };
}

impl Kernel for TreeEnsemble {
    const NAME: &'static str = "TreeEnsemble";
    // A regressor leaves the first result, the labels, empty.
    const OUTPUTS: usize = 2;

    fn check(&self, constants: &Constants<'_>) -> Result<(), String> {
        let trees = constants.check(self.trees, "trees")?;
        match self.nodes {
            Nodes::Narrow(nodes) => self.check_nodes(constants.check(nodes, "nodes")?, trees)?,
            Nodes::Wide(nodes) => self.check_nodes(constants.check(nodes, "nodes")?, trees)?,
        }
        constants.check(self.base_values, "base_values")?;
        if self.targets == 0 || self.targets > TARGETS_MAX {
            return Err(format!("{} targets", self.targets));
        }
        if let Leaves::Lists {
            starts,
            targets,
            weights,
        } = self.leaves
        {
            let starts = constants.check(starts, "leaves")?;
            let targets = constants.check(targets, "leaf targets")?;
            let weights = constants.check(weights, "leaf weights")?;
            let sorted = starts.windows(2).all(|pair| pair[0] <= pair[1]);
            let end = starts.last().copied().unwrap_or(0) as usize;
            if !sorted || end > weights.len() || targets.len() != weights.len() {
                return Err("the leaves' weights lie outside".into());
            }
            if targets.iter().any(|&t| t >= self.targets) {
                return Err("a leaf speaks for a target that is not there".into());
            }
        }
        if let Purpose::Classification { labels, .. } = &self.purpose {
            labels.check(constants)?;
            if labels.len() != self.targets as usize {
                return Err(format!("{} labels for {} targets", labels.len(), self.targets));
            }
        }
        let one_target = trees.windows(2).all(|pair| pair[0].target == pair[1].target);
        if self.is_one_sided() && matches!(self.leaves, Leaves::Inline) && !one_target {
            return Err("the trees of a one-sided classifier speak for several targets".into());
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
        let constants = operands.constants();
        let width = Self::width(columns, self.missing_left);
        let targets = self.targets as usize;
        let finish = Finish {
            purpose: &self.purpose,
            aggregate: self.aggregate,
            trees: self.trees.len(),
            base: constants.get(self.base_values),
            post: self.post_transform,
        };

        let shape = Shape::new(&[rows, targets]).ok_or_else(|| operands.shape_error("fewer rows", x.shape))?;
        let (label_out, score_out) = out.split_at_mut(1);
        let scores = score_out[0].write_f32(shape);
        let mut classes = Vec::new();
        let classified = matches!(self.purpose, Purpose::Classification { .. });
        if classified && rows > 1 {
            classes.reserve(rows);
        }
        let mut one_class = 0;
        let block_max = BLOCK.min(BLOCK_BYTES / (width * size_of::<i64>())).max(LANES);
        let alone = match self.nodes {
            Nodes::Narrow(_) => Node::STEP,
            Nodes::Wide(_) => WideNode::STEP,
        };
        let mut few = [Sum::default(); 8];
        let mut many = Vec::new();
        let mut row = 0;
        while row < rows {
            // Whole groups side by side; what is left row by row.
            let (block, step) = match rows - row {
                left if left < LANES => (1, alone),
                left => (block_max.min(left) / LANES * LANES, LANES),
            };
            let keys = block.next_multiple_of(step) * width;
            if scratch.keys.len() < keys {
                scratch.keys.resize(keys, 0);
            }
            let laid_out = &mut scratch.keys[..keys];
            for i in 0..block {
                let slot = &mut laid_out[i / step * width * step + i % step..];
                let range = (row + i) * given..(row + i) * given + columns;
                match x.values {
                    Values::Float32(v) => self.lay_out(v[range].iter().copied(), slot, step),
                    Values::Float64(v) => self.lay_out(v[range].iter().map(|&v| v as f32), slot, step),
                    Values::Int64(v) => self.lay_out(v[range].iter().map(|&v| v as f32), slot, step),
                    Values::Int32(v) => self.lay_out(v[range].iter().map(|&v| v as f32), slot, step),
                    Values::Bool(v) | Values::Uint8(v) => {
                        self.lay_out(v[range].iter().map(|&v| f32::from(v)), slot, step);
                    }
                    Values::Int8(v) => self.lay_out(v[range].iter().map(|&v| f32::from(v)), slot, step),
                    Values::String(_) => return Err(operands.dtype_error(x.dtype())),
                }
            }
            let sums: &mut [Sum<f32>] = if block * targets <= few.len() {
                few.fill(Sum::default());
                &mut few[..block * targets]
            } else {
                many.clear();
                many.resize(block * targets, Sum::default());
                &mut many
            };
            match (self.nodes, block) {
                (Nodes::Narrow(nodes), 1) => self.walk_row(constants.get(nodes), &constants, laid_out, sums),
                (Nodes::Wide(nodes), 1) => self.walk_row(constants.get(nodes), &constants, laid_out, sums),
                (Nodes::Narrow(nodes), _) => self.walk_block(constants.get(nodes), &constants, laid_out, sums),
                (Nodes::Wide(nodes), _) => self.walk_block(constants.get(nodes), &constants, laid_out, sums),
            }
            for sums in sums.chunks_exact_mut(targets) {
                let class = finish.row(sums, scores);
                if rows > 1 && classified {
                    classes.push(class);
                } else {
                    one_class = class;
                }
            }
            row += block;
        }
        if let Purpose::Classification { labels, .. } = &self.purpose {
            if rows > 1 {
                labels.write(&constants, classes.into_iter(), &mut label_out[0]);
            } else {
                labels.write(&constants, std::iter::repeat_n(one_class, rows), &mut label_out[0]);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Op;
    use crate::ops::testing::{finish, floats};
    use crate::program::{Builder, Source};
    use crate::tensor::Data;
    use std::collections::BTreeSet;

    /// The scores of trees that ask whether `x` is above their number, and weigh
    /// the more the higher that is. Each speaks for its target, one of two.
    fn scores(targets: &[u32], one_sided: bool, xs: &[f32]) -> Result<Vec<u32>, String> {
        let mut builder = Builder::new(1);
        let (mut nodes, mut trees) = (Vec::new(), Vec::new());
        for (number, &target) in targets.iter().enumerate() {
            let node = |value, feature, child| WideNode { value, feature, child };
            let leaf = |weight: f32| node(weight.to_bits() as i32, 1, 0);
            trees.push(Tree {
                start: nodes.len() as u32,
                len: 3,
                depth: 1,
                target,
            });
            let weight = 0.1 * (number + 1) as f32;
            nodes.extend([node(key(number as f32), 0, 1), leaf(-weight), leaf(weight)]);
        }
        let ensemble = TreeEnsemble {
            columns: 1,
            missing_left: false,
            nodes: Nodes::Wide(builder.array(&nodes)),
            trees: builder.array(&trees),
            leaves: Leaves::Inline,
            targets: 2,
            aggregate: Aggregate::Sum,
            base_values: builder.array(&[]),
            post_transform: PostTransform::None,
            purpose: Purpose::Classification {
                labels: Labels::Int64(builder.array(&[0i64, 1])),
                one_sided,
                positive: false,
            },
        };
        let results = builder.push(Op::Tree(ensemble), vec![Source::Input(0)]);
        let outputs = finish(builder, results, &[floats(&[xs.len(), 1], xs)])?;
        match &outputs[1].data {
            Data::Float32(scores) => Ok(scores.iter().map(|score| score.to_bits()).collect()),
            other => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn a_score_that_all_trees_add_to_is_the_same_in_a_register() {
        let xs: Vec<f32> = (0..100).map(|i| i as f32 * 0.2 - 2.0).collect();
        for target in [0, 1] {
            let together = scores(&[target; 11], true, &xs).unwrap();
            let alone = xs.chunks(1).map(|x| scores(&[target; 11], true, x).unwrap());
            assert_eq!(together, alone.flatten().collect::<Vec<_>>());
            // Else each weight is added where its tree's target is.
            assert_eq!(together, scores(&[target; 11], false, &xs).unwrap());
            assert!(BTreeSet::from_iter(&together).len() > 10);
        }
    }

    #[test]
    fn a_one_sided_classifier_has_one_target() {
        let error = scores(&[1, 0], true, &[0.0]).unwrap_err();
        assert!(error.contains("speak for several targets"), "{error}");
        assert!(scores(&[1, 0], false, &[0.0]).is_ok());
    }
}
