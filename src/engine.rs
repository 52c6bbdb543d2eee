//! The tabular engine: runs a [`Program`] on columns of a batch.
//!
//! It is an interpreter over a handful of operators which each do a lot, so
//! what it spends between them does not show; registers keep their buffers
//! from call to call, and a warm run allocates nothing.

use crate::program::{Body, Constants, Program, Source};
use crate::tensor::{Dtype, Shape, Tensor, View};
use std::fmt;

/// The most bytes that the values of a program, or of a body, may take
/// together: far more than any request needs, and less than a machine has.
const BYTES_MAX: usize = 1 << 30;

/// Buffers of a run, kept between runs.
#[derive(Debug, Default)]
pub struct Workspace {
    registers: Vec<Tensor>,
    results: Vec<Tensor>,
    scratch: Scratch,
}

/// Room for operators' intermediate values.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub(crate) f32: Vec<f32>,
    pub(crate) keys: Vec<i64>,
    pub(crate) f64: Vec<f64>,
    pub(crate) scores: Vec<f32>,
    pub(crate) indices: Vec<u32>,
    pub(crate) nest: Option<Box<Nest>>,
    /// How often bodies were run so far, at all depths together.
    pub(crate) turns: usize,
}

/// Room for an operator that runs a body: what the body is given and what it
/// works with.
#[derive(Debug, Default)]
pub(crate) struct Nest {
    pub(crate) given: Vec<Tensor>,
    pub(crate) next: Vec<Tensor>,
    pub(crate) workspace: Workspace,
}

/// Why a program could not be run on an input that its signature accepts.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum RunError {
    /// An operand's element type is not one that the operator takes.
    Dtype {
        /// The operator.
        op: &'static str,
        /// What came.
        got: Dtype,
    },
    /// Operands' shapes don't fit the operator or each other.
    Shape {
        /// The operator.
        op: &'static str,
        /// What was expected, in words.
        expected: String,
        /// What came.
        got: Vec<usize>,
    },
    /// The neural engine's own words.
    Neural(String),
    /// An element is of the right type and yet not one that the operator takes.
    Value {
        /// The operator.
        op: &'static str,
        /// What is wrong with it, in words.
        what: String,
    },
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunError::Dtype { op, got } => write!(f, "{op}: an operand of type {got} is not supported"),
            RunError::Shape { op, expected, got } => {
                write!(f, "{op}: expected {expected} but got {got:?}")
            }
            RunError::Neural(what) => f.write_str(what),
            RunError::Value { op, what } => write!(f, "{op}: {what}"),
        }
    }
}

impl std::error::Error for RunError {}

/// What a program or a body is run on.
#[derive(Clone, Copy)]
pub(crate) enum Inputs<'a> {
    /// The model's inputs.
    Model(&'a [Tensor]),
    /// A body's: what it is given at each turn, then the operands from `first`
    /// on of the operator that runs it, which are not copied.
    Body {
        given: &'a [Tensor],
        outer: &'a Operands<'a>,
        first: usize,
    },
}

impl<'a> Inputs<'a> {
    fn get(&self, index: usize) -> Option<View<'a>> {
        match *self {
            Inputs::Model(tensors) => tensors.get(index).map(Tensor::view),
            Inputs::Body { given, outer, first } => match index.checked_sub(given.len()) {
                None => given.get(index).map(Tensor::view),
                Some(captured) => outer.get(first.checked_add(captured)?),
            },
        }
    }
}

/// What an operator sees of a run: its operands.
pub(crate) struct Operands<'a> {
    program: &'a Program,
    inputs: Inputs<'a>,
    registers: &'a [Tensor],
    sources: &'a [Source],
    op: &'static str,
}

impl<'a> Operands<'a> {
    /// The number of operands.
    pub(crate) fn len(&self) -> usize {
        self.sources.len()
    }

    /// The operand at `index`, if it is given.
    pub(crate) fn get(&self, index: usize) -> Option<View<'a>> {
        read(self.program, self.inputs, self.registers, *self.sources.get(index)?)
    }

    /// The program that the operator belongs to.
    pub(crate) fn program(&self) -> &'a Program {
        self.program
    }

    /// The operand at `index`.
    pub(crate) fn view(&self, index: usize) -> Result<View<'a>, RunError> {
        self.get(index).ok_or_else(|| RunError::Shape {
            op: self.op,
            expected: format!("operand {index}"),
            got: Vec::new(),
        })
    }

    /// The program's constants.
    pub(crate) fn constants(&self) -> Constants<'a> {
        self.program.constants()
    }

    /// An error about an operand's shape.
    pub(crate) fn shape_error(&self, expected: impl Into<String>, got: Shape) -> RunError {
        RunError::Shape {
            op: self.op,
            expected: expected.into(),
            got: got.dims().to_vec(),
        }
    }

    /// An error about an operand's element type.
    pub(crate) fn dtype_error(&self, got: Dtype) -> RunError {
        RunError::Dtype { op: self.op, got }
    }

    /// An error about an element.
    pub(crate) fn value_error(&self, what: impl Into<String>) -> RunError {
        RunError::Value {
            op: self.op,
            what: what.into(),
        }
    }
}

fn read<'a>(program: &'a Program, inputs: Inputs<'a>, registers: &'a [Tensor], source: Source) -> Option<View<'a>> {
    match source {
        Source::Input(i) => inputs.get(i as usize),
        Source::Register(r) => registers.get(r as usize).map(Tensor::view),
        Source::Constant(c) => Some(program.constant(c)),
        Source::None => None,
    }
}

impl Workspace {
    /// Runs the program on the model's inputs, in the order of its signature.
    /// [`Workspace::output`] then gives the results.
    ///
    /// # Errors
    /// When shapes or types don't fit the operators, which for inputs made
    /// from the signature means that the model itself does not fit together.
    pub fn run(&mut self, program: &Program, inputs: &[Tensor]) -> Result<(), RunError> {
        self.scratch.turns = 0;
        self.execute(program, &program.header.main, Inputs::Model(inputs))
    }

    /// Runs a body that counts as one more turn than those of `turns`;
    /// [`Workspace::result`] then gives its results.
    pub(crate) fn take_turn(
        &mut self,
        program: &Program,
        body: &Body,
        inputs: Inputs<'_>,
        turns: &mut usize,
    ) -> Result<(), RunError> {
        self.scratch.turns = *turns + 1;
        let outcome = self.execute(program, body, inputs);
        *turns = self.scratch.turns;
        outcome
    }

    fn execute(&mut self, program: &Program, body: &Body, inputs: Inputs<'_>) -> Result<(), RunError> {
        if self.registers.len() < body.registers as usize {
            self.registers.resize_with(body.registers as usize, Tensor::default);
        }
        let mut held = 0usize;
        for instruction in &body.instructions {
            // Results are taken out of their registers for the time of the
            // call, so that the operands can be borrowed from the others.
            for &register in &instruction.outputs {
                self.results
                    .push(std::mem::take(&mut self.registers[register as usize]));
            }
            let operands = Operands {
                program,
                inputs,
                registers: &self.registers,
                sources: &instruction.inputs,
                op: instruction.op.name(),
            };
            let outcome = instruction.op.run(&operands, &mut self.results, &mut self.scratch);
            for (&register, result) in instruction.outputs.iter().zip(self.results.drain(..)) {
                held = held.saturating_add(result.data.bytes());
                self.registers[register as usize] = result;
            }
            outcome?;
            if held > BYTES_MAX {
                return Err(RunError::Value {
                    op: instruction.op.name(),
                    what: format!("the values take more than {BYTES_MAX} bytes"),
                });
            }
        }
        Ok(())
    }

    /// A value of the program after a run on these inputs.
    pub fn value<'a>(&'a self, program: &'a Program, inputs: &'a [Tensor], source: Source) -> Option<View<'a>> {
        read(program, Inputs::Model(inputs), &self.registers, source)
    }

    /// The output at `index` after a run.
    pub fn output<'a>(&'a self, program: &'a Program, inputs: &'a [Tensor], index: usize) -> Option<View<'a>> {
        self.result(program, &program.header.main, Inputs::Model(inputs), index)
    }

    /// The result at `index` of a body after its run on these inputs.
    pub(crate) fn result<'a>(
        &'a self,
        program: &'a Program,
        body: &Body,
        inputs: Inputs<'a>,
        index: usize,
    ) -> Option<View<'a>> {
        read(program, inputs, &self.registers, *body.outputs.get(index)?)
    }
}
