//! Random ensembles against a walk of the attributes as the specification has
//! it, bit for bit, and damaged programs.

use crate::pack::lower::lower;
use crate::pack::onnx::{Attribute, Graph, Model, Node, OperatorSet, TensorProto, ValueInfo};
use modelet::engine::Workspace;
use modelet::ops::Op;
use modelet::program::{Image, Program};
use modelet::tensor::{Data, Dtype, Shape, Tensor};

/// xorshift64*.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len())]
    }
}

const MODES: [&str; 6] = [
    "BRANCH_LEQ",
    "BRANCH_LT",
    "BRANCH_GTE",
    "BRANCH_GT",
    "BRANCH_EQ",
    "BRANCH_NEQ",
];
const COLUMNS: usize = 3;
/// Not a float32.
const TENTH: f64 = 0.1;

/// What both the attributes and the reference are made of.
#[derive(Default)]
struct Case {
    double: bool,
    version_5: bool,
    aggregate: usize,
    targets: usize,
    base: Vec<f64>,
    track_missing: bool,
    trees: Vec<Vec<Made>>,
}

enum Made {
    Leaf(Vec<(usize, f64)>),
    Branch {
        mode: usize,
        feature: usize,
        value: f64,
        set: Vec<f64>,
        missing: bool,
        children: [usize; 2],
    },
}

impl Case {
    fn random(random: &mut Random) -> Case {
        let double = random.one_in(3);
        let version_5 = random.one_in(2);
        let targets = random.pick(&[1, 1, 2, 5]);
        let value = |random: &mut Random| {
            let v = random.pick(&[0.0, -0.0, 1.0, 2.0, 0.5, TENTH, -1.5, 1e-45, f64::INFINITY, 3.0]);
            match random.below(60) {
                0 => f64::NAN,
                1 => f64::NEG_INFINITY,
                _ if double => v,
                _ => f64::from(v as f32),
            }
        };
        let mut trees = Vec::new();
        for _ in 0..random.pick(&[1, 2, 7, 20]) {
            let inner = random.pick(&[0, 1, 3, 12]);
            // Nodes of a heap have one parent each, others are shared.
            let heap = random.one_in(2);
            let nodes = (0..2 * inner + 1).map(|i| {
                if i >= inner {
                    let weight = |random: &mut Random| (random.below(targets), value(random));
                    let count = match version_5 || targets == 1 {
                        true => 1,
                        false => random.pick(&[1, 1, 2]),
                    };
                    return Made::Leaf((0..count).map(|_| weight(random)).collect());
                }
                let member = version_5 && random.one_in(3);
                let size = random.pick(&[1, 2, 4, 50]);
                Made::Branch {
                    mode: if member { 6 } else { random.below(6) },
                    feature: random.below(COLUMNS),
                    value: value(random),
                    set: match member {
                        true => (0..size).map(|_| value(random)).filter(|v| !v.is_nan()).collect(),
                        false => Vec::new(),
                    },
                    missing: random.one_in(2),
                    children: match heap {
                        true => [2 * i + 1, 2 * i + 2],
                        false => [0; 2].map(|_| i + 1 + random.below(2 * inner - i)),
                    },
                }
            });
            trees.push(nodes.collect());
        }
        Case {
            double,
            version_5,
            aggregate: random.below(4),
            targets,
            base: match !version_5 && random.one_in(2) {
                true => (0..targets).map(|_| value(random)).collect(),
                false => Vec::new(),
            },
            track_missing: random.one_in(2),
            trees,
        }
    }

    fn row(&self, random: &mut Random) -> Vec<f64> {
        let value = |_| {
            let v = random.pick(&[
                f64::NAN,
                0.0,
                -0.0,
                1.0,
                2.0,
                0.5,
                TENTH,
                -1.5,
                7.0,
                f64::INFINITY,
                f64::NEG_INFINITY,
            ]);
            // Beside a threshold, by the least there is in either type.
            match random.below(6) {
                0 if self.double => v.next_up(),
                1 if self.double => f64::from(v as f32),
                0 | 1 => f64::from((v as f32).next_down()),
                _ if self.double => v,
                _ => f64::from(v as f32),
            }
        };
        (0..COLUMNS).map(value).collect()
    }

    /// The specification's walk.
    fn reference(&self, row: &[f64]) -> Vec<f64> {
        let round = |v: f64| if self.double { v } else { f64::from(v as f32) };
        let mut scores = vec![None; self.targets];
        for tree in &self.trees {
            let mut at = 0;
            let weights = loop {
                match &tree[at] {
                    Made::Leaf(weights) => break weights,
                    Made::Branch {
                        mode,
                        feature,
                        value,
                        set,
                        missing,
                        children,
                    } => {
                        let x = row[*feature];
                        let holds = match mode {
                            0 => x <= *value,
                            1 => x < *value,
                            2 => x >= *value,
                            3 => x > *value,
                            4 => x == *value,
                            5 => x != *value,
                            _ => set.contains(&x),
                        };
                        let holds = holds || (self.track_missing && *missing && x.is_nan());
                        at = children[usize::from(!holds)];
                    }
                }
            };
            for &(target, weight) in weights {
                scores[target] = Some(match (scores[target], self.aggregate) {
                    (known, 0 | 1) => round(known.unwrap_or(0.0) + weight),
                    (Some(known), 2) if weight < known => weight,
                    (Some(known), 3) if weight > known => weight,
                    (Some(known), _) => known,
                    (None, _) => weight,
                });
            }
        }
        let finish = |(target, score): (usize, Option<f64>)| {
            let mut score = match score {
                Some(score) => score,
                None => return 0.0,
            };
            if self.aggregate == 0 {
                score = round(score / self.trees.len() as f64);
            }
            score = round(score + self.base.get(target).copied().unwrap_or(0.0));
            match self.version_5 {
                true => score,
                false => f64::from(score as f32),
            }
        };
        scores.into_iter().enumerate().map(finish).collect()
    }

    fn node(&self) -> Node {
        match self.version_5 {
            true => self.version_5_node(),
            false => self.version_3_node(),
        }
    }

    fn version_3_node(&self) -> Node {
        let mut made = Maker::new("TreeEnsembleRegressor");
        let (mut ids, mut modes, mut values) = (vec![Vec::new(); 6], Vec::new(), Vec::new());
        let (mut weight_ids, mut weights) = (vec![Vec::new(); 3], Vec::new());
        for (t, tree) in self.trees.iter().enumerate() {
            for (n, node) in tree.iter().enumerate() {
                let (mode, split, row) = match node {
                    Made::Leaf(list) => {
                        for &(target, weight) in list {
                            for (ids, id) in weight_ids.iter_mut().zip([t, n, target]) {
                                ids.push(id as i64);
                            }
                            weights.push(weight);
                        }
                        ("LEAF", 0.0, [t, n, 0, 0, 0, 0])
                    }
                    Made::Branch {
                        mode,
                        feature,
                        value,
                        missing,
                        children: [yes, no],
                        ..
                    } => (MODES[*mode], *value, [t, n, *feature, *yes, *no, usize::from(*missing)]),
                };
                modes.push(mode.as_bytes().to_vec());
                values.push(split);
                for (ids, id) in ids.iter_mut().zip(row) {
                    ids.push(id as i64);
                }
            }
        }
        if !self.track_missing {
            ids[5].clear();
        }
        let names = [
            "nodes_treeids",
            "nodes_nodeids",
            "nodes_featureids",
            "nodes_truenodeids",
            "nodes_falsenodeids",
            "nodes_missing_value_tracks_true",
            "target_treeids",
            "target_nodeids",
            "target_ids",
        ];
        for (name, ids) in names.iter().zip(ids.into_iter().chain(weight_ids)) {
            made.with(name, |a| a.ints = ids);
        }
        made.with("nodes_modes", |a| a.strings = modes);
        made.with("n_targets", |a| a.i = self.targets as i64);
        let aggregate = ["AVERAGE", "SUM", "MIN", "MAX"][self.aggregate];
        made.with("aggregate_function", |a| a.s = aggregate.into());
        for (name, list) in [
            ("nodes_values", &values),
            ("target_weights", &weights),
            ("base_values", &self.base),
        ] {
            match self.double {
                true => made.tensor(&format!("{name}_as_tensor"), list, true),
                false => made.with(name, |a| a.floats = list.iter().map(|&v| v as f32).collect()),
            }
        }
        made.0
    }

    fn version_5_node(&self) -> Node {
        let mut made = Maker::new("TreeEnsemble");
        let (mut nodes, mut roots) = (vec![Vec::new(); 6], Vec::new());
        let (mut modes, mut splits, mut members) = (Vec::new(), Vec::new(), Vec::new());
        let (mut leaf_targets, mut leaf_weights) = (Vec::new(), Vec::new());
        for tree in &self.trees {
            let (first, first_leaf) = (modes.len(), leaf_targets.len());
            let inner = tree.iter().filter(|n| matches!(n, Made::Branch { .. })).count();
            roots.push(first as i64);
            let mut push = |mode: usize, split: f64, row: [usize; 6]| {
                modes.push(mode as u8);
                splits.push(split);
                for (ids, id) in nodes.iter_mut().zip(row) {
                    ids.push(id as i64);
                }
            };
            if inner == 0 {
                push(0, 0.0, [0, first_leaf, 1, first_leaf, 1, 0]);
            }
            for node in tree {
                match node {
                    Made::Leaf(weights) => {
                        leaf_targets.push(weights[0].0 as i64);
                        leaf_weights.push(weights[0].1);
                    }
                    Made::Branch {
                        mode,
                        feature,
                        value,
                        set,
                        missing,
                        children,
                    } => {
                        let [(yes, yes_leaf), (no, no_leaf)] = children.map(|child| match child < inner {
                            true => (first + child, 0),
                            false => (first_leaf + child - inner, 1),
                        });
                        push(
                            *mode,
                            *value,
                            [*feature, yes, yes_leaf, no, no_leaf, usize::from(*missing)],
                        );
                        if *mode == 6 {
                            members.extend(set);
                            members.push(f64::NAN);
                        }
                    }
                }
            }
        }
        if !self.track_missing {
            nodes[5].clear();
        }
        let names = [
            "nodes_featureids",
            "nodes_truenodeids",
            "nodes_trueleafs",
            "nodes_falsenodeids",
            "nodes_falseleafs",
            "nodes_missing_value_tracks_true",
            "tree_roots",
            "leaf_targetids",
        ];
        for (name, ids) in names.iter().zip(nodes.into_iter().chain([roots, leaf_targets])) {
            made.with(name, |a| a.ints = ids);
        }
        made.with("n_targets", |a| a.i = self.targets as i64);
        made.with("aggregate_function", |a| a.i = self.aggregate as i64);
        let modes = TensorProto {
            dims: vec![modes.len() as i64],
            data_type: 2,
            raw_data: Some(modes),
            ..TensorProto::default()
        };
        made.with("nodes_modes", |a| a.t = Some(modes));
        made.tensor("nodes_splits", &splits, self.double);
        made.tensor("leaf_weights", &leaf_weights, self.double);
        if !members.is_empty() {
            made.tensor("membership_values", &members, self.double);
        }
        made.0
    }

    fn dtype(&self) -> Dtype {
        if self.double { Dtype::Float64 } else { Dtype::Float32 }
    }

    fn input(&self, rows: &[Vec<f64>]) -> Tensor {
        let values = rows.iter().flatten().copied();
        Tensor {
            shape: Shape::matrix(rows.len(), COLUMNS),
            data: match self.double {
                true => Data::Float64(values.collect()),
                false => Data::Float32(values.map(|v| v as f32).collect()),
            },
        }
    }
}

struct Maker(Node);

impl Maker {
    fn new(op_type: &str) -> Maker {
        Maker(Node {
            domain: "ai.onnx.ml".into(),
            op_type: op_type.into(),
            input: vec!["x".into()],
            output: vec!["y".into()],
            ..Node::default()
        })
    }

    fn with(&mut self, name: &str, set: impl FnOnce(&mut Attribute)) {
        let mut attribute = Attribute {
            name: name.into(),
            ..Attribute::default()
        };
        set(&mut attribute);
        self.0.attribute.push(attribute);
    }

    fn tensor(&mut self, name: &str, values: &[f64], double: bool) {
        let narrow = values.iter().map(|&v| v as f32);
        let tensor = TensorProto {
            dims: vec![values.len() as i64],
            data_type: if double { 11 } else { 1 },
            float_data: if double { Vec::new() } else { narrow.collect() },
            double_data: if double { values.to_vec() } else { Vec::new() },
            ..TensorProto::default()
        };
        self.with(name, |a| a.t = Some(tensor));
    }
}

fn image(node: Node, dtype: Dtype) -> Result<Vec<u8>, String> {
    let value = |name: &str| ValueInfo {
        name: name.into(),
        r#type: None,
    };
    let model = Model {
        graph: Some(Graph {
            input: vec![value("x")],
            output: node.output.iter().map(|name| value(name)).collect(),
            node: vec![node],
            ..Graph::default()
        }),
        opset_import: vec![OperatorSet {
            domain: "ai.onnx.ml".into(),
            version: 5,
        }],
        ..Model::default()
    };
    let lowered = lower(&model, &[("x".into(), dtype)]).map_err(|e| e.to_string())?;
    Ok(lowered.image)
}

fn load(image: Vec<u8>) -> Result<Program, String> {
    Program::load(Image::from(image)).map_err(|e| e.to_string())
}

fn scores(program: &Program, input: Tensor) -> Result<Vec<f64>, String> {
    let inputs = [input];
    let mut workspace = Workspace::default();
    workspace.run(program, &inputs).map_err(|e| e.to_string())?;
    let output = workspace.output(program, &inputs, 0).ok_or("no output")?;
    Ok((0..output.shape.len()).filter_map(|i| output.number(i)).collect())
}

#[test]
fn any_ensemble_scores_as_a_walk_of_its_attributes_does() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut fast = 0;
    for number in 0..600 {
        let case = Case::random(&mut random);
        let program = load(image(case.node(), case.dtype()).expect("it is supported")).expect("it is a program");
        fast += usize::from(matches!(program.instructions()[0].op, Op::Tree(_)));
        let rows: Vec<Vec<f64>> = (0..70).map(|_| case.row(&mut random)).collect();
        for count in [1, 9, 64, 70] {
            let got = scores(&program, case.input(&rows[..count])).expect("it runs");
            let expected = rows[..count].iter().flat_map(|row| case.reference(row));
            for (at, (got, expected)) in got.iter().zip(expected).enumerate() {
                assert!(
                    got.to_bits() == expected.to_bits() || (got.is_nan() && expected.is_nan()),
                    "ensemble {number}, {count} rows, score {at}: {got} is not {expected}"
                );
            }
            assert_eq!(got.len(), count * case.targets);
        }
    }
    assert!((100..500).contains(&fast), "{fast} of 600 went the fast way");
}

#[test]
fn a_damaged_program_is_refused_or_runs() {
    let mut random = Random(7);
    let mut ran = 0;
    for _ in 0..100 {
        let case = Case::random(&mut random);
        let whole = image(case.node(), case.dtype()).expect("it is supported");
        let rows: Vec<Vec<f64>> = (0..9).map(|_| case.row(&mut random)).collect();
        for _ in 0..50 {
            let mut image = whole.clone();
            for _ in 0..random.pick(&[1, 1, 3]) {
                let at = random.below(image.len());
                let bit = 1 << random.below(8);
                image[at] = random.pick(&[image[at] ^ bit, 0, 0xff]);
            }
            if let Ok(program) = load(image) {
                for count in [1, 9] {
                    ran += usize::from(scores(&program, case.input(&rows[..count])).is_ok());
                }
            }
        }
    }
    assert!(ran > 100, "damage of thresholds and weights is not noticed");
}

#[test]
fn a_node_that_leads_back_to_itself_is_refused() {
    let branch = |children| Made::Branch {
        mode: 0,
        feature: 0,
        value: 0.0,
        set: Vec::new(),
        missing: false,
        children,
    };
    let case = Case {
        aggregate: 1,
        targets: 1,
        trees: vec![vec![branch([1, 2]), branch([0, 2]), Made::Leaf(vec![(0, 1.0)])]],
        ..Case::default()
    };
    let error = image(case.node(), Dtype::Float32).expect_err("it has a cycle");
    assert!(error.contains("leads back"), "{error}");
}
