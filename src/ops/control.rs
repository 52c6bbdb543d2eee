//! `ai.onnx` If (versions 1 to 25), Scan (versions 9 to 25) and Loop (versions 1
//! to 25): operators that run a body, a list of instructions of its own.
//!
//! A body is given the values of a turn, and then the operator's last operands:
//! what the ONNX subgraph uses of the graph around it.

use super::rearrange::{append_strided, strides};
use super::{Kernel, axis, integer};
use crate::engine::{Inputs, Nest, Operands, RunError, Scratch};
use crate::program::{Body, Constants};
use crate::tensor::{ELEMENTS_MAX, RANK_MAX, Shape, Tensor, Values, View};
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

/// The most turns that an operator may give its body.
pub const TURNS_MAX: usize = 1 << 20;
/// The most turns of a run, those of bodies inside bodies included.
const ALL_TURNS_MAX: usize = if cfg!(test) { 2 * TURNS_MAX } else { 1 << 25 };

/// Runs one of two bodies: takes the condition, a single bool, and what the
/// bodies use.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct If {
    /// The body when the condition holds.
    pub on_true: u16,
    /// The other one.
    pub on_false: u16,
    /// How many results both have.
    pub results: u16,
}

/// Runs a body for each element along an axis.
///
/// Takes the first states, the tensors to scan, and what the body uses. The
/// body is given the states and an element of each tensor; it yields the next
/// states and the elements to collect. Yields the last states and, for each of
/// those elements, the tensor of all of them.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Scan {
    /// The body.
    pub body: u16,
    /// The number of states.
    pub states: u16,
    /// How each tensor is scanned.
    pub inputs: Vec<Along>,
    /// How the elements are collected.
    pub outputs: Vec<Along>,
}

/// An axis and a direction along it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Along {
    /// The axis; negative counts from the last.
    pub axis: i32,
    /// From the last element to the first.
    pub reverse: bool,
}

/// Runs a body while a condition holds, at most [`TURNS_MAX`] times.
///
/// Takes the largest number of turns and the first condition, either of which
/// may be absent, the first states, and what the body uses. The body is given
/// the number of the turn, the condition and the states; it yields the next
/// condition, the next states and the elements to collect. Yields the last
/// states and the tensors of the elements along a new first axis.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Loop {
    /// The body.
    pub body: u16,
    /// The number of states.
    pub states: u16,
    /// The number of elements that each turn yields.
    pub collected: u16,
}

impl Kernel for If {
    const NAME: &'static str = "If";
    const INPUTS: RangeInclusive<usize> = 1..=65_535;

    fn outputs(&self) -> usize {
        usize::from(self.results)
    }

    fn check(&self, constants: &Constants<'_>) -> Result<(), String> {
        fits(constants.body(self.on_true)?, 0, self.outputs())?;
        fits(constants.body(self.on_false)?, 0, self.outputs())
    }

    fn run(&self, operands: &Operands<'_>, out: &mut [Tensor], scratch: &mut Scratch) -> Result<(), RunError> {
        let holds = condition(operands, operands.view(0)?)?;
        let body = body(operands, if holds { self.on_true } else { self.on_false })?;
        let inputs = Inputs::Body {
            given: &[],
            outer: operands,
            first: 1,
        };
        let Scratch { nest, turns, .. } = scratch;
        let Nest { workspace, .. } = &mut **nest.get_or_insert_default();
        workspace.take_turn(operands.program(), body, inputs, turns)?;
        for (i, out) in out.iter_mut().enumerate() {
            let result = workspace.result(operands.program(), body, inputs, i);
            let result = result.ok_or_else(|| missing(operands))?;
            out.copy_from(result, result.shape);
        }
        Ok(())
    }
}

impl Kernel for Scan {
    const NAME: &'static str = "Scan";
    const INPUTS: RangeInclusive<usize> = 1..=65_535;

    fn outputs(&self) -> usize {
        usize::from(self.states) + self.outputs.len()
    }

    fn check(&self, constants: &Constants<'_>) -> Result<(), String> {
        let body = constants.body(self.body)?;
        if self.inputs.is_empty() {
            return Err("nothing to scan".into());
        }
        fits(body, usize::from(self.states) + self.inputs.len(), self.outputs())
    }

    fn run(&self, operands: &Operands<'_>, out: &mut [Tensor], scratch: &mut Scratch) -> Result<(), RunError> {
        let states = usize::from(self.states);
        let scanned = states + self.inputs.len();
        let mut turns = None;
        for (i, along) in self.inputs.iter().enumerate() {
            let x = operands.view(states + i)?;
            let at = axis(along.axis, x.shape.rank());
            let len = at.map(|at| x.shape.dims()[at]).filter(|&len| len <= TURNS_MAX);
            let len = len.ok_or_else(|| operands.shape_error(format!("an axis {} to scan", along.axis), x.shape))?;
            if *turns.get_or_insert(len) != len {
                return Err(operands.shape_error("as many elements to scan as in the others", x.shape));
            }
        }
        let turns = turns.unwrap_or(0);
        let body = body(operands, self.body)?;
        let Scratch { nest, turns: spent, .. } = scratch;
        let nest = &mut **nest.get_or_insert_default();
        nest.given.resize_with(scanned, Tensor::default);
        for i in 0..states {
            let state = operands.view(i)?;
            nest.given[i].copy_from(state, state.shape);
        }
        let (last, collected) = out.split_at_mut(states);
        for turn in 0..turns {
            for (i, along) in self.inputs.iter().enumerate() {
                let x = operands.view(states + i)?;
                let at = if along.reverse { turns - 1 - turn } else { turn };
                element(x, along.axis, at, &mut nest.given[states + i]);
            }
            take_turn(operands, body, nest, spent, (0..states, scanned), turn, collected)?;
        }
        for (last, state) in last.iter_mut().zip(&mut nest.given) {
            std::mem::swap(last, state);
        }
        for (collected, along) in collected.iter_mut().zip(&self.outputs) {
            join(operands, collected, turns, *along)?;
        }
        Ok(())
    }
}

impl Kernel for Loop {
    const NAME: &'static str = "Loop";
    const INPUTS: RangeInclusive<usize> = 2..=65_535;

    fn outputs(&self) -> usize {
        usize::from(self.states) + usize::from(self.collected)
    }

    fn check(&self, constants: &Constants<'_>) -> Result<(), String> {
        let body = constants.body(self.body)?;
        fits(body, 2 + usize::from(self.states), 1 + self.outputs())
    }

    fn run(&self, operands: &Operands<'_>, out: &mut [Tensor], scratch: &mut Scratch) -> Result<(), RunError> {
        let states = usize::from(self.states);
        let most = match operands.get(0) {
            Some(most) => integer(operands, most, 0)?,
            None => i64::MAX,
        };
        let mut holds = match operands.get(1) {
            Some(first) => condition(operands, first)?,
            None => true,
        };
        let body = body(operands, self.body)?;
        let Scratch { nest, turns: spent, .. } = scratch;
        let nest = &mut **nest.get_or_insert_default();
        nest.given.resize_with(2 + states, Tensor::default);
        nest.given[1].write_bool(Shape::default()).push(u8::from(holds));
        for i in 0..states {
            let state = operands.view(2 + i)?;
            nest.given[2 + i].copy_from(state, state.shape);
        }
        let (last, collected) = out.split_at_mut(states);
        let mut turn = 0;
        while holds && (turn as i64) < most {
            if turn == TURNS_MAX {
                return Err(operands.shape_error(format!("an end within {TURNS_MAX} turns"), Shape::default()));
            }
            nest.given[0].write_i64(Shape::default()).push(turn as i64);
            take_turn(
                operands,
                body,
                nest,
                spent,
                (1..2 + states, 2 + states),
                turn,
                collected,
            )?;
            holds = condition(operands, nest.given[1].view())?;
            turn += 1;
        }
        for (last, state) in last.iter_mut().zip(&mut nest.given[2..]) {
            std::mem::swap(last, state);
        }
        let along = Along {
            axis: 0,
            reverse: false,
        };
        collected.iter_mut().try_for_each(|c| join(operands, c, turn, along))
    }
}

fn fits(body: &Body, given: usize, results: usize) -> Result<(), String> {
    if usize::from(body.inputs) < given || body.outputs.len() != results {
        return Err(format!(
            "a body from {} to {} values where {given} become {results}",
            body.inputs,
            body.outputs.len()
        ));
    }
    Ok(())
}

fn missing(operands: &Operands<'_>) -> RunError {
    operands.shape_error("a body's value", Shape::default())
}

fn body<'a>(operands: &Operands<'a>, index: u16) -> Result<&'a Body, RunError> {
    operands.program().body(index).ok_or_else(|| missing(operands))
}

fn condition(operands: &Operands<'_>, view: View<'_>) -> Result<bool, RunError> {
    match view.values {
        Values::Bool(&[holds]) => Ok(holds != 0),
        Values::Bool(_) => Err(operands.shape_error("a single condition", view.shape)),
        _ => Err(operands.dtype_error(view.dtype())),
    }
}

/// The element at this place along the axis, which has it.
fn element(x: View<'_>, along: i32, place: usize, out: &mut Tensor) {
    let dims = x.shape.dims();
    let at = axis(along, dims.len()).unwrap_or(0);
    let mut rest = [0; RANK_MAX];
    rest[..at].copy_from_slice(&dims[..at]);
    rest[at..dims.len() - 1].copy_from_slice(&dims[at + 1..]);
    out.begin(x.dtype(), Shape::new(&rest[..dims.len() - 1]).unwrap_or_default());
    let (outer, inner) = (
        dims[..at].iter().product::<usize>(),
        dims[at + 1..].iter().product::<usize>(),
    );
    for o in 0..outer {
        let start = (o * dims[at] + place) * inner;
        out.append(x, start..start + inner);
    }
}

/// Runs the body once. Its first results replace what it was given at `kept`;
/// the others are appended to `collected`, whose shape is an element's for now.
/// The operands from `first` on are what the body uses.
fn take_turn(
    operands: &Operands<'_>,
    body: &Body,
    nest: &mut Nest,
    spent: &mut usize,
    (kept, first): (std::ops::Range<usize>, usize),
    turn: usize,
    collected: &mut [Tensor],
) -> Result<(), RunError> {
    let Nest { given, next, workspace } = nest;
    let inputs = Inputs::Body {
        given: given.as_slice(),
        outer: operands,
        first,
    };
    if *spent >= ALL_TURNS_MAX {
        return Err(operands.value_error(format!("more than {ALL_TURNS_MAX} turns in all")));
    }
    workspace.take_turn(operands.program(), body, inputs, spent)?;
    let result = |i| {
        let result = workspace.result(operands.program(), body, inputs, i);
        result.ok_or_else(|| missing(operands))
    };
    next.resize_with(kept.len(), Tensor::default);
    for (i, next) in next.iter_mut().enumerate() {
        let state = result(i)?;
        next.copy_from(state, state.shape);
    }
    for (i, collected) in collected.iter_mut().enumerate() {
        let value = result(kept.len() + i)?;
        if turn == 0 {
            collected.begin(value.dtype(), value.shape);
        } else if value.dtype() != collected.data.dtype() {
            return Err(operands.dtype_error(value.dtype()));
        } else if value.shape != collected.shape || collected.data.len() + value.shape.len() > ELEMENTS_MAX {
            return Err(operands.shape_error(format!("the same in each turn, {:?}", collected.shape), value.shape));
        }
        collected.append(value, 0..value.shape.len());
    }
    for (given, next) in given[kept].iter_mut().zip(next) {
        std::mem::swap(given, next);
    }
    Ok(())
}

/// Gives the elements that were collected their place in one tensor.
fn join(operands: &Operands<'_>, collected: &mut Tensor, turns: usize, along: Along) -> Result<(), RunError> {
    if turns == 0 {
        // Only elements have shapes.
        return Err(operands.shape_error("at least one turn", Shape::vector(0)));
    }
    let shape = collected.shape;
    let rank = shape.rank() + 1;
    let wrong = || operands.shape_error(format!("an element to collect along axis {}", along.axis), shape);
    if rank > RANK_MAX {
        return Err(wrong());
    }
    let at = axis(along.axis, rank).ok_or_else(wrong)?;
    let mut dims = [turns; RANK_MAX];
    let mut steps = [shape.len() as isize; RANK_MAX];
    let inner = strides(shape.dims());
    dims[..at].copy_from_slice(&shape.dims()[..at]);
    dims[at + 1..rank].copy_from_slice(&shape.dims()[at..]);
    steps[..at].copy_from_slice(&inner[..at]);
    steps[at + 1..rank].copy_from_slice(&inner[at..rank - 1]);
    let joined = Shape::new(&dims[..rank]).ok_or_else(wrong)?;
    if at == 0 && !along.reverse {
        collected.shape = joined;
        return Ok(());
    }
    let mut start = 0;
    if along.reverse {
        start = (turns - 1) * shape.len();
        steps[at] = -steps[at];
    }
    let flat = std::mem::take(collected);
    collected.begin(flat.data.dtype(), joined);
    append_strided(flat.view(), start, &dims[..rank], &steps[..rank], collected);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Op;
    use crate::ops::elementwise::Binary;
    use crate::ops::testing::{bools, finish, floats, ints};
    use crate::program::{Builder, DEPTH_MAX, Source};

    /// A body that yields `sum + x` as the next sum and as its element, plus
    /// what it uses from outside.
    fn sums(builder: &mut Builder) -> u16 {
        assert!(builder.begin_body(3));
        let sum = builder.push(Op::Binary(Binary::Add), vec![Source::Input(0), Source::Input(1)]);
        let shifted = builder.push(Op::Binary(Binary::Add), vec![sum[0], Source::Input(2)]);
        builder.end_body(vec![sum[0], shifted[0]])
    }

    #[test]
    fn a_scan_keeps_states_and_collects_along_axes_in_both_directions() {
        let run = |input: Along, output: Along| {
            let mut builder = Builder::new(3);
            let scan = Scan {
                body: sums(&mut builder),
                states: 1,
                inputs: vec![input],
                outputs: vec![output],
            };
            let results = builder.push(Op::Scan(scan), (0..3).map(Source::Input).collect());
            let x = floats(&[2, 3], &[1., 2., 3., 10., 20., 30.]);
            finish(builder, results, &[floats(&[1], &[0.]), x, floats(&[], &[0.5])])
        };
        let along = |axis, reverse| Along { axis, reverse };
        // The state grows from [1] to [3] in the first turn.
        let rows = run(along(0, false), along(0, false)).unwrap();
        assert_eq!(rows[0], floats(&[3], &[11., 22., 33.]));
        assert_eq!(rows[1], floats(&[2, 3], &[1.5, 2.5, 3.5, 11.5, 22.5, 33.5]));
        let columns = run(along(-1, true), along(1, true)).unwrap();
        assert_eq!(columns[0], floats(&[2], &[6., 60.]));
        assert_eq!(columns[1], floats(&[2, 3], &[6.5, 5.5, 3.5, 60.5, 50.5, 30.5]));
        assert!(run(along(2, false), along(0, false)).is_err());
        assert!(run(along(0, false), along(2, false)).is_err());
    }

    #[test]
    fn a_loop_ends_by_its_condition_or_its_count_and_never_runs_on() {
        let run = |most: Option<i64>, keep: u8| {
            let mut builder = Builder::new(2);
            assert!(builder.begin_body(4));
            let next = builder.push(Op::Binary(Binary::Add), vec![Source::Input(2), Source::Input(0)]);
            let body = builder.end_body(vec![Source::Input(3), next[0], Source::Input(0)]);
            let most = most.map_or(Source::None, |most| builder.constant(&ints(&[], &[most])));
            let op = Loop {
                body,
                states: 1,
                collected: 1,
            };
            let sources = vec![most, Source::None, Source::Input(0), Source::Input(1)];
            let results = builder.push(Op::Loop(op), sources);
            finish(builder, results, &[ints(&[], &[100]), bools(&[], &[keep])])
        };
        assert_eq!(run(Some(3), 1).unwrap(), [ints(&[], &[103]), ints(&[3], &[0, 1, 2])]);
        assert_eq!(run(Some(3), 0).unwrap(), [ints(&[], &[100]), ints(&[1], &[0])]);
        assert!(run(Some(0), 1).is_err());
        assert!(run(None, 1).unwrap_err().contains("turns"));
    }

    #[test]
    fn loops_inside_loops_share_their_turns() {
        let mut builder = Builder::new(1);
        let most = builder.constant(&ints(&[], &[TURNS_MAX as i64]));
        let op = |body| {
            Op::Loop(Loop {
                body,
                states: 0,
                collected: 0,
            })
        };
        assert!(builder.begin_body(2) && builder.begin_body(2));
        let inner = builder.end_body(vec![Source::Input(1)]);
        builder.push(op(inner), vec![most, Source::Input(1)]);
        let outer = builder.end_body(vec![Source::Input(1)]);
        builder.push(op(outer), vec![most, Source::Input(0)]);
        let error = finish(builder, vec![], &[bools(&[], &[1])]).unwrap_err();
        assert!(error.contains("turns in all"), "{error}");
    }

    #[test]
    fn a_condition_chooses_the_body() {
        let run = |holds: &[u8]| {
            let mut builder = Builder::new(2);
            let branch = |builder: &mut Builder, op| {
                assert!(builder.begin_body(1));
                let result = builder.push(Op::Binary(op), vec![Source::Input(0), Source::Input(0)]);
                builder.end_body(result)
            };
            let op = If {
                on_true: branch(&mut builder, Binary::Add),
                on_false: branch(&mut builder, Binary::Sub),
                results: 1,
            };
            let results = builder.push(Op::If(op), vec![Source::Input(0), Source::Input(1)]);
            finish(builder, results, &[bools(&[holds.len()], holds), floats(&[1], &[3.])])
        };
        assert_eq!(run(&[1]).unwrap(), [floats(&[1], &[6.])]);
        assert_eq!(run(&[0]).unwrap(), [floats(&[1], &[0.])]);
        assert!(run(&[1, 1]).is_err());
    }

    #[test]
    fn bodies_nest_only_so_deep_and_refer_only_below() {
        let mut builder = Builder::new(0);
        let deepest = (0..=DEPTH_MAX).take_while(|_| builder.begin_body(0)).count();
        assert_eq!(deepest, usize::from(DEPTH_MAX));
        // Inside a body there is no body 0 as yet: it would be the one itself.
        let op = If {
            on_true: 0,
            on_false: 0,
            results: 0,
        };
        let condition = builder.constant(&bools(&[], &[1]));
        builder.push(Op::If(op), vec![condition]);
        for _ in 0..deepest {
            builder.end_body(vec![]);
        }
        assert!(finish(builder, vec![], &[]).unwrap_err().contains("no body 0"));
    }

    #[test]
    fn a_body_inside_a_body_has_its_own_values() {
        let mut builder = Builder::new(1);
        assert!(builder.begin_body(1));
        let inner = {
            assert!(builder.begin_body(2));
            let sum = builder.push(Op::Binary(Binary::Add), vec![Source::Input(0), Source::Input(1)]);
            builder.end_body(vec![sum[0]])
        };
        let zero = builder.constant(&floats(&[], &[0.]));
        let scan = |body, inputs: u16| Scan {
            body,
            states: 1 - inputs,
            inputs: vec![Along {
                axis: 0,
                reverse: false,
            }],
            outputs: vec![
                Along {
                    axis: 0,
                    reverse: false
                };
                usize::from(inputs)
            ],
        };
        let total = builder.push(Op::Scan(scan(inner, 0)), vec![zero, Source::Input(0)]);
        let outer = builder.end_body(total);
        let results = builder.push(Op::Scan(scan(outer, 1)), vec![Source::Input(0)]);
        let x = floats(&[2, 2], &[1., 2., 3., 4.]);
        assert_eq!(finish(builder, results, &[x]).unwrap(), [floats(&[2], &[3., 7.])]);
    }
}
