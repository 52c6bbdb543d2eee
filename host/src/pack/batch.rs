//! Whether a program's answer to a record can depend on the records beside it.
//!
//! A program is run on batches of two sizes, which tells every value's
//! dimensions as a function of the size; then every instruction is looked at
//! in turn. A value holds *rows* along an axis when that axis is the batch's
//! and each of its rows follows from the record of the same number alone. What
//! is not known to keep rows apart is taken to mix them, and the model is then
//! run record by record.

use modelet::engine::Workspace;
use modelet::ops::Op;
use modelet::ops::gather::Gather;
use modelet::ops::generate::Generate;
use modelet::ops::rearrange::Rearrange;
use modelet::ops::select::Select;
use modelet::program::{Instruction, Program, Source};
use modelet::tensor::Tensor;
use std::collections::HashMap;

/// What a value is as the batch grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Always the same.
    Fixed,
    /// Follows from the number of records.
    Count,
    /// Rows along this axis; all dimensions before it are 1.
    Rows(usize),
}

/// A value of the program: what it is, and its dimensions at both sizes.
#[derive(Clone, Debug)]
struct Value {
    kind: Kind,
    dims: [Vec<usize>; 2],
}

/// Whether every output of the program is one row a record, whatever else is in
/// the batch. `batches` are inputs for two different numbers of records, none
/// of them 1.
pub fn keeps_rows_apart(program: &Program, batches: [&[Tensor]; 2]) -> bool {
    analyse(program, batches).unwrap_or(false)
}

fn analyse(program: &Program, batches: [&[Tensor]; 2]) -> Option<bool> {
    let sizes = batches.map(|inputs| {
        inputs
            .first()
            .map_or(0, |t| t.shape.dims().first().copied().unwrap_or(0))
    });
    let mut workspaces = [Workspace::default(), Workspace::default()];
    for (workspace, inputs) in workspaces.iter_mut().zip(batches) {
        workspace.run(program, inputs).ok()?;
    }
    let dims = |source: Source| -> Option<[Vec<usize>; 2]> {
        let of = |i: usize| Some(workspaces[i].value(program, batches[i], source)?.shape.dims().to_vec());
        Some([of(0)?, of(1)?])
    };
    let analysis = Analysis { program, sizes };
    let mut registers: HashMap<u16, Value> = HashMap::new();
    let value = |source: Source, registers: &HashMap<u16, Value>| -> Option<Value> {
        Some(match source {
            Source::Input(_) => Value {
                kind: Kind::Rows(0),
                dims: dims(source)?,
            },
            Source::Register(register) => registers.get(&register)?.clone(),
            Source::Constant(_) => Value {
                kind: Kind::Fixed,
                dims: dims(source)?,
            },
            Source::None => Value {
                kind: Kind::Fixed,
                dims: [Vec::new(), Vec::new()],
            },
        })
    };
    for instruction in program.instructions() {
        let operands = instruction
            .inputs
            .iter()
            .map(|&source| value(source, &registers))
            .collect::<Option<Vec<_>>>();
        // What follows from a value that mixes rows is looked at no further; it
        // matters only if an output follows from it.
        let Some(operands) = operands else { continue };
        for &register in &instruction.outputs {
            let result = dims(Source::Register(register))?;
            if let Some(kind) = analysis.result(instruction, &operands, &result) {
                registers.insert(register, Value { kind, dims: result });
            }
        }
    }
    let apart = |index: usize| {
        let value = value(program.outputs()[index], &registers)?;
        Some(value.kind == Kind::Rows(0) && analysis.is_batch(&value.dims, 0))
    };
    Some((0..program.output_count()).all(|index| apart(index) == Some(true)))
}

struct Analysis<'a> {
    program: &'a Program,
    sizes: [usize; 2],
}

impl Analysis<'_> {
    /// What a result is; `None` if it may mix rows.
    fn result(&self, instruction: &Instruction, operands: &[Value], result: &[Vec<usize>; 2]) -> Option<Kind> {
        let op = &instruction.op;
        let rows: Vec<&Value> = operands.iter().filter(|v| matches!(v.kind, Kind::Rows(_))).collect();
        if matches!(op, Op::Generate(Generate::Shape { .. } | Generate::Size)) {
            return Some(Kind::Count);
        }
        let first = operands.first()?;
        let Some(any) = rows.first() else {
            let counts = operands.iter().any(|v| v.kind == Kind::Count);
            return Some(if counts { Kind::Count } else { Kind::Fixed });
        };
        // A result that a model does not have, such as a regressor's labels.
        if result.iter().flatten().any(|&dim| dim == 0) {
            return Some(Kind::Fixed);
        }
        let others_fixed = || operands[1..].iter().all(|v| v.kind == Kind::Fixed);
        let lone = first.kind == Kind::Rows(0) && others_fixed();
        let at_front = || self.is_batch(result, 0).then_some(Kind::Rows(0));
        // An axis that is not the batch's.
        let inner = |axis: i32, dims: &[usize]| match axis {
            0.. => axis >= 1,
            _ => axis + dims.len() as i32 >= 1,
        };
        let axis_is_inner = |axis: i32| inner(axis, &first.dims[0]);
        match op {
            // Element by element.
            Op::Unary(_) | Op::Cast(_) | Op::Lookup(_) | Op::RegexFullMatch(_) if others_fixed() => Some(first.kind),
            Op::StringNormalizer(op) if op.stop_words.is_empty() => Some(first.kind),
            Op::Binary(_) | Op::TextPair(_) | Op::Select(Select::Where) => self.broadcast(operands, result),
            Op::Align(_) if first.kind == Kind::Rows(0) && operands[1].kind == Kind::Fixed => Some(Kind::Fixed),
            Op::Quantize(_) if lone => at_front(),
            // Row by row, where one dimension would be one row.
            Op::Tree(_)
            | Op::TreeGeneral(_)
            | Op::Linear(_)
            | Op::Svm(_)
            | Op::Scaler(_)
            | Op::Normalizer(_)
            | Op::Imputer(_)
            | Op::Binarizer(_)
            | Op::TfIdf(_)
            | Op::OneHot(_)
                if lone && first.dims[0].len() >= 2 =>
            {
                at_front()
            }
            Op::FeatureVectorizer(_) | Op::Concat(_) => {
                let along = match op {
                    Op::Concat(op) => axis_is_inner(op.axis),
                    _ => true,
                };
                let alike = |v: &Value| v.kind == Kind::Rows(0) && v.dims[0].len() >= 2;
                (along && operands.iter().all(alike)).then(at_front)?
            }
            // Along another axis.
            Op::Softmax(op) if lone && axis_is_inner(op.axis) => at_front(),
            Op::ArgMax(op) if lone && axis_is_inner(op.axis) => at_front(),
            Op::TopK(op) if lone && axis_is_inner(op.axis) => at_front(),
            Op::Standardize(op) if lone && axis_is_inner(op.axis) => at_front(),
            Op::Split(op) if lone && axis_is_inner(op.axis) => at_front(),
            Op::Reduce(op) if lone => {
                let given = match instruction.inputs.get(1) {
                    None | Some(Source::None) => op.axes.iter().map(|&a| i64::from(a)).collect(),
                    Some(&source) => self.integers(source)?,
                };
                let apart = !given.is_empty() && given.iter().all(|&axis| axis_is_inner(axis as i32));
                apart.then(at_front)?
            }
            Op::CumSum(_) if lone => {
                let axis = self.integers(*instruction.inputs.get(1)?)?;
                axis.iter().all(|&axis| axis_is_inner(axis as i32)).then(at_front)?
            }
            Op::Gather(Gather::Axis(axis)) if lone && axis_is_inner(*axis) => at_front(),
            Op::Gather(Gather::Columns) if lone && first.dims[0].len() >= 2 => at_front(),
            // Fixed values picked by indices that are rows.
            Op::Gather(gather) if first.kind == Kind::Fixed && operands[1].kind == Kind::Rows(0) => {
                let axis = match gather {
                    Gather::Axis(0) => 0,
                    Gather::Columns if first.dims[0].len() <= 1 => 1,
                    _ => return None,
                };
                self.is_batch(result, axis).then_some(Kind::Rows(axis))
            }
            Op::Select(Select::GatherElements(axis)) if axis_is_inner(*axis) => {
                let alike = operands.iter().all(|v| v.kind == Kind::Rows(0));
                alike.then(at_front)?
            }
            Op::Select(Select::GatherNd { batch: 1.. }) => {
                let alike = operands.iter().all(|v| v.kind == Kind::Rows(0));
                alike.then(at_front)?
            }
            Op::Generate(Generate::OneHot(axis)) if lone && inner(*axis, &result[0]) => at_front(),
            // Products with fixed matrices.
            Op::Gemm(op) if !op.trans_a && lone => {
                let bias = operands.get(2).is_none_or(|c| c.dims[0].len() < 2 || c.dims[0][0] == 1);
                bias.then(at_front)?
            }
            Op::MatMul(_) => {
                let (a, b) = (first, operands.get(1)?);
                let batched = |v: &Value| v.kind == Kind::Rows(0) && v.dims[0].len() >= 3;
                let weights = b.kind == Kind::Fixed && (b.dims[0].len() <= 2 || b.dims[0].len() < a.dims[0].len());
                let apart = match (a.kind, b.kind) {
                    (Kind::Rows(0), Kind::Fixed) => a.dims[0].len() >= 2 && weights,
                    (Kind::Rows(0), Kind::Rows(0)) => batched(a) && batched(b) && a.dims[0].len() == b.dims[0].len(),
                    _ => false,
                };
                apart.then(at_front)?
            }
            // The elements stay in their order.
            Op::Reshape(_) if operands[1..].iter().all(|v| !matches!(v.kind, Kind::Rows(_))) => self.reshaped(result),
            Op::Rearrange(Rearrange::Transpose(perm)) => {
                let Kind::Rows(axis) = any.kind else { return None };
                let rank = first.dims[0].len();
                let to = match perm.is_empty() {
                    true => rank - 1 - axis,
                    false => perm.iter().position(|&from| from as usize == axis)?,
                };
                self.is_batch(result, to).then_some(Kind::Rows(to))
            }
            Op::Rearrange(Rearrange::Slice) if lone => {
                let axes = self.integers(*instruction.inputs.get(3)?)?;
                axes.iter().all(|&axis| axis_is_inner(axis as i32)).then(at_front)?
            }
            Op::Rearrange(Rearrange::Expand | Rearrange::Tile)
                if first.kind == Kind::Rows(0) && first.dims[0].len() == result[0].len() =>
            {
                let others = operands[1..].iter().all(|v| !matches!(v.kind, Kind::Rows(_)));
                others.then(at_front)?
            }
            _ => None,
        }
    }

    /// Whether the axis is the batch's, with nothing but 1 before it.
    fn is_batch(&self, dims: &[Vec<usize>; 2], axis: usize) -> bool {
        dims.iter()
            .zip(self.sizes)
            .all(|(dims, size)| dims.get(axis) == Some(&size) && dims[..axis].iter().all(|&d| d == 1))
            && dims[0].get(axis + 1..) == dims[1].get(axis + 1..)
    }

    fn reshaped(&self, result: &[Vec<usize>; 2]) -> Option<Kind> {
        (0..result[0].len())
            .find(|&axis| self.is_batch(result, axis))
            .map(Kind::Rows)
    }

    /// Operands broadcast with each other: rows must meet rows.
    fn broadcast(&self, operands: &[Value], result: &[Vec<usize>; 2]) -> Option<Kind> {
        let rank = result[0].len();
        let axis = (0..rank).find(|&axis| self.is_batch(result, axis))?;
        let meets = |value: &Value| {
            let missing = rank - value.dims[0].len();
            match value.kind {
                Kind::Rows(at) => at + missing == axis,
                // One for all rows.
                _ => axis
                    .checked_sub(missing)
                    .is_none_or(|at| value.dims.iter().all(|dims| dims[at] == 1)),
            }
        };
        operands.iter().all(meets).then_some(Kind::Rows(axis))
    }

    /// A constant list of integers.
    fn integers(&self, source: Source) -> Option<Vec<i64>> {
        use modelet::tensor::Values;
        let Source::Constant(_) = source else { return None };
        let workspace = Workspace::default();
        match workspace.value(self.program, &[], source)?.values {
            Values::Int64(v) => Some(v.to_vec()),
            Values::Int32(v) => Some(v.iter().map(|&v| i64::from(v)).collect()),
            _ => None,
        }
    }
}
