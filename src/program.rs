//! The program: a model lowered by `modelet pack` to what the tabular engine
//! runs, as one little-endian image that is used where it lies.
//!
//! ```text
//! offset  bytes  what
//!      0      8  magic "MDLTPRG\0"
//!      8      4  version of the format
//!     12      4  length of the header in bytes
//!     16      8  length of the constants in bytes
//!     24      …  header: the instructions (postcard), padded with 0 to 16
//!      …      …  constants, every array aligned to 16
//! ```
//!
//! Unlike an ONNX graph, which names values by strings and keeps weights inside
//! attributes, an instruction here refers to registers by number and to its
//! bulk data by [`Slice`]: nothing is copied when a program is loaded, and what
//! the load touches is the header alone.
//!
//! # Untrusted images
//!
//! [`Program::load`] checks every reference before anything runs: registers,
//! slices (bounds and alignment) and what the operators' own `check` demands.
//! A damaged image is a [`ProgramError`], never a panic. What depends on the
//! shapes of a request is checked while running and is a
//! [`RunError`](crate::engine::RunError).

use crate::ops::Op;
use crate::tensor::{Shape, StringsView, Tensor, Values, View};
use bytemuck::Pod;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;
use std::marker::PhantomData;

#[cfg(target_endian = "big")]
compile_error!("program images are little-endian and used in place");

const MAGIC: &[u8; 8] = b"MDLTPRG\0";
const VERSION: u32 = 4;
/// How a program stands in an ONNX graph that the neural engine runs.
pub mod graph {
    /// The operator, of the default domain.
    pub const OPERATOR: &str = "ModeletProgram";
    /// The attribute that holds the image, a string.
    pub const ATTRIBUTE: &str = "program";
}

const HEADER_START: usize = 24;
/// The most bytes of constants, so that an image fits into a 32-bit memory.
const CONSTANT_BYTES_MAX: usize = 1 << 31;
/// Alignment of every constant and of the image itself.
pub(crate) const ALIGN: usize = 16;

/// Where an array of `T` lies among the constants.
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Slice<T> {
    offset: u32,
    len: u32,
    #[serde(skip)]
    element: PhantomData<fn() -> T>,
}

impl<T> Clone for Slice<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Slice<T> {}
impl<T> fmt::Debug for Slice<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}; {}]", self.offset, self.len)
    }
}
impl<T> Default for Slice<T> {
    fn default() -> Self {
        Slice {
            offset: 0,
            len: 0,
            element: PhantomData,
        }
    }
}

impl<T> Slice<T> {
    /// The number of elements.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// Strings among the constants.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct StringSlice {
    ends: Slice<u32>,
    text: Slice<u8>,
}

impl StringSlice {
    /// The number of strings.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
}

/// A constant tensor.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Constant {
    dims: Vec<u32>,
    data: ConstantData,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum ConstantData {
    Float32(Slice<f32>),
    Float64(Slice<f64>),
    Int64(Slice<i64>),
    Int32(Slice<i32>),
    Bool(Slice<u8>),
    String(StringSlice),
    Uint8(Slice<u8>),
    Int8(Slice<i8>),
}

/// Where an instruction finds a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Source {
    /// A column group of the request: the model's input of this number.
    Input(u16),
    /// What an earlier instruction wrote.
    Register(u16),
    /// A constant tensor.
    Constant(u16),
    /// An optional input that is not given.
    None,
}

/// One operator with its operands.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Instruction {
    /// What to do.
    pub op: Op,
    /// The operands in the operator's order.
    pub inputs: Vec<Source>,
    /// The registers that receive the results.
    pub outputs: Vec<u16>,
}

/// How deep bodies may lie in bodies.
pub const DEPTH_MAX: u8 = 4;

/// A list of instructions with registers of its own: the program itself, or
/// what an operator runs repeatedly or on a condition.
///
/// Such operators refer to bodies by number, and only to those of less depth:
/// no image can nest without end.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Body {
    pub depth: u8,
    pub inputs: u16,
    pub registers: u16,
    pub instructions: Vec<Instruction>,
    pub outputs: Vec<Source>,
}

/// Everything of a program but its constants.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Header {
    pub constants: Vec<Constant>,
    pub main: Body,
    pub bodies: Vec<Body>,
}

/// Why an image is not a program.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProgramError {
    /// It does not begin as a program does, or ends early.
    NotAProgram(&'static str),
    /// It was written by another version of modelet.
    Version {
        /// The version found.
        got: u32,
    },
    /// The instructions can't be read.
    Header(String),
    /// A reference leads nowhere, or an operator's data contradict each other.
    Damaged {
        /// Index of the instruction, if it is one's fault.
        instruction: Option<usize>,
        /// What is wrong.
        what: String,
    },
}

impl fmt::Display for ProgramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProgramError::NotAProgram(what) => write!(f, "not a program: {what}"),
            ProgramError::Version { got } => write!(
                f,
                "program version: expected {VERSION} but got {got}; pack the model again"
            ),
            ProgramError::Header(what) => write!(f, "program header: {what}"),
            ProgramError::Damaged {
                instruction: Some(index),
                what,
            } => write!(f, "program instruction {index}: {what}"),
            ProgramError::Damaged {
                instruction: None,
                what,
            } => write!(f, "program: {what}"),
        }
    }
}

impl std::error::Error for ProgramError {}

/// The constants of a program, borrowed from its image.
#[derive(Clone, Copy)]
pub struct Constants<'a> {
    bytes: &'a [u8],
    bodies: &'a [Body],
    depth: u8,
}

impl<'a> Constants<'a> {
    /// The array at `slice`; empty if the slice was never checked and is wrong.
    pub fn get<T: Pod>(&self, slice: Slice<T>) -> &'a [T] {
        self.try_get(slice).unwrap_or(&[])
    }

    fn try_get<T: Pod>(&self, slice: Slice<T>) -> Option<&'a [T]> {
        let start = slice.offset as usize;
        let len = (slice.len as usize).checked_mul(size_of::<T>())?;
        let bytes = self.bytes.get(start..start.checked_add(len)?)?;
        bytemuck::try_cast_slice(bytes).ok()
    }

    /// Checks that there is a body of this number which the one that is being
    /// checked may run.
    pub(crate) fn body(&self, index: u16) -> Result<&'a Body, String> {
        self.bodies
            .get(index as usize)
            .filter(|body| body.depth < self.depth)
            .ok_or_else(|| format!("there is no body {index} below it"))
    }

    /// The strings at `slice`.
    pub fn strings(&self, slice: StringSlice) -> StringsView<'a> {
        StringsView {
            ends: self.get(slice.ends),
            text: std::str::from_utf8(self.get(slice.text)).unwrap_or(""),
        }
    }

    /// Checks that `slice` lies within the constants, and is aligned.
    pub fn check<T: Pod>(&self, slice: Slice<T>, name: &str) -> Result<&'a [T], String> {
        self.try_get(slice)
            .ok_or_else(|| format!("{name} {slice:?} lies outside the constants or is not aligned"))
    }

    /// Checks that strings lie within the constants and are UTF-8.
    pub fn check_strings(&self, slice: StringSlice, name: &str) -> Result<(), String> {
        let ends = self.check(slice.ends, name)?;
        let text = self.check(slice.text, name)?;
        let text = std::str::from_utf8(text).map_err(|e| format!("{name}: {e}"))?;
        let mut start = 0;
        for &end in ends {
            if end < start || !text.is_char_boundary(end as usize) {
                return Err(format!("{name}: a string ends at {end}"));
            }
            start = end;
        }
        Ok(())
    }
}

/// A loaded program: the image, and its instructions decoded.
pub struct Program {
    image: Image,
    constants_start: usize,
    pub(crate) header: Header,
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program")
            .field("bytes", &self.image.bytes().len())
            .field("header", &self.header)
            .finish()
    }
}

/// Bytes that begin at a multiple of [`ALIGN`].
///
/// It takes a buffer as the caller has it, which usually is aligned only to 1,
/// and moves the bytes inside that buffer: a large image is never held twice.
pub struct Image {
    buffer: Vec<u8>,
    start: usize,
    len: usize,
}

impl From<Vec<u8>> for Image {
    /// The image that is the whole buffer.
    fn from(buffer: Vec<u8>) -> Image {
        let len = buffer.len();
        Image::new(buffer, 0, len)
    }
}

impl Image {
    /// The image made of `buffer[from..to]`.
    ///
    /// # Panics
    /// If the range does not lie in the buffer.
    pub fn new(mut buffer: Vec<u8>, from: usize, to: usize) -> Image {
        assert!(from <= to && to <= buffer.len(), "the range lies in the buffer");
        let len = to - from;
        let misaligned = |buffer: &[u8], at: usize| (buffer.as_ptr() as usize + at) % ALIGN;
        let mut start = from;
        if misaligned(&buffer, from) != 0 {
            let back = misaligned(&buffer, from);
            if back <= from {
                start = from - back;
            } else {
                buffer.reserve_exact(ALIGN);
                buffer.resize(buffer.len() + ALIGN, 0);
                // Growing may have moved the buffer.
                start = from + (ALIGN - misaligned(&buffer, from)) % ALIGN;
            }
            buffer.copy_within(from..to, start);
        }
        // What is not the image is not needed any more, and a snapshot of the
        // memory keeps no pages of zeros.
        buffer[..start].fill(0);
        buffer[start + len..].fill(0);
        Image { buffer, start, len }
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.start + self.len]
    }
}

impl Program {
    /// Loads the image and checks it whole.
    ///
    /// # Errors
    /// When the image is not a program of this version or refers outside
    /// itself; see [`ProgramError`].
    pub fn load(image: Image) -> Result<Program, ProgramError> {
        let bytes = image.bytes();
        let word = |at: usize| -> Option<u32> { Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?)) };
        if bytes.get(..8) != Some(MAGIC) {
            return Err(ProgramError::NotAProgram("the magic number is missing"));
        }
        let ends_early = ProgramError::NotAProgram("it ends early");
        let version = word(8).ok_or(ends_early.clone())?;
        if version != VERSION {
            return Err(ProgramError::Version { got: version });
        }
        let header_len = word(12).ok_or(ends_early.clone())? as usize;
        let low = word(16).ok_or(ends_early.clone())? as u64;
        let high = word(20).ok_or(ends_early.clone())? as u64;
        let constants_len = low | high << 32;
        let header_end = HEADER_START.checked_add(header_len).ok_or(ends_early.clone())?;
        let header = bytes.get(HEADER_START..header_end).ok_or(ends_early.clone())?;
        let constants_start = header_end.next_multiple_of(ALIGN);
        let available = bytes.len().checked_sub(constants_start).ok_or(ends_early)?;
        if available as u64 != constants_len {
            return Err(ProgramError::NotAProgram("its length is not the one it states"));
        }
        let header: Header = postcard::from_bytes(header).map_err(|e| ProgramError::Header(e.to_string()))?;
        let program = Program {
            image,
            constants_start,
            header,
        };
        program.check()?;
        Ok(program)
    }

    /// The number of model inputs that a run must be given.
    pub fn input_count(&self) -> usize {
        self.header.main.inputs as usize
    }

    /// The number of values that a run yields.
    pub fn output_count(&self) -> usize {
        self.header.main.outputs.len()
    }

    /// Where the values are that a run yields.
    pub fn outputs(&self) -> &[Source] {
        &self.header.main.outputs
    }

    /// The instructions, for listings.
    pub fn instructions(&self) -> &[Instruction] {
        &self.header.main.instructions
    }

    /// The operators in it and its bodies, by [the name of the
    /// variant](crate::ops::Op::variant).
    pub fn operators(&self) -> BTreeSet<&'static str> {
        let bodies = std::iter::once(&self.header.main).chain(&self.header.bodies);
        bodies
            .flat_map(|body| &body.instructions)
            .map(|instruction| instruction.op.variant())
            .collect()
    }

    pub(crate) fn constants(&self) -> Constants<'_> {
        Constants {
            bytes: &self.image.bytes()[self.constants_start..],
            bodies: &self.header.bodies,
            depth: 0,
        }
    }

    pub(crate) fn body(&self, index: u16) -> Option<&Body> {
        self.header.bodies.get(index as usize)
    }

    pub(crate) fn constant(&self, index: u16) -> View<'_> {
        let constants = self.constants();
        let Some(constant) = self.header.constants.get(index as usize) else {
            return View {
                shape: Shape::vector(0),
                values: Values::Float32(&[]),
            };
        };
        let mut dims = [0usize; crate::tensor::RANK_MAX];
        for (to, &from) in dims.iter_mut().zip(&constant.dims) {
            *to = from as usize;
        }
        View {
            shape: Shape::new(&dims[..constant.dims.len().min(dims.len())]).unwrap_or_default(),
            values: match constant.data {
                ConstantData::Float32(s) => Values::Float32(constants.get(s)),
                ConstantData::Float64(s) => Values::Float64(constants.get(s)),
                ConstantData::Int64(s) => Values::Int64(constants.get(s)),
                ConstantData::Int32(s) => Values::Int32(constants.get(s)),
                ConstantData::Bool(s) => Values::Bool(constants.get(s)),
                ConstantData::String(s) => Values::String(constants.strings(s)),
                ConstantData::Uint8(s) => Values::Uint8(constants.get(s)),
                ConstantData::Int8(s) => Values::Int8(constants.get(s)),
            },
        }
    }

    fn check(&self) -> Result<(), ProgramError> {
        let header = &self.header;
        let constants = self.constants();
        let whole = |what: String| ProgramError::Damaged {
            instruction: None,
            what,
        };
        for (index, constant) in header.constants.iter().enumerate() {
            check_constant(constant, &constants).map_err(|what| whole(format!("constant {index}: {what}")))?;
        }
        for (index, body) in header.bodies.iter().enumerate() {
            self.check_body(body).map_err(|error| match error {
                ProgramError::Damaged { instruction, what } => ProgramError::Damaged {
                    instruction,
                    what: format!("body {index}: {what}"),
                },
                other => other,
            })?;
        }
        self.check_body(&header.main)
    }

    fn check_body(&self, body: &Body) -> Result<(), ProgramError> {
        let header = &self.header;
        let whole = |what: String| ProgramError::Damaged {
            instruction: None,
            what,
        };
        if body.depth > DEPTH_MAX {
            return Err(whole(format!("depth {}", body.depth)));
        }
        let constants = Constants {
            depth: body.depth,
            ..self.constants()
        };
        let mut written = vec![false; body.registers as usize];
        let readable = |source: Source, written: &[bool]| match source {
            Source::Input(i) if i < body.inputs => Ok(()),
            Source::Register(r) if written.get(r as usize) == Some(&true) => Ok(()),
            Source::Constant(c) if (c as usize) < header.constants.len() => Ok(()),
            Source::None => Ok(()),
            other => Err(format!("{other:?} has no value there")),
        };
        for (index, instruction) in body.instructions.iter().enumerate() {
            let here = |what: String| ProgramError::Damaged {
                instruction: Some(index),
                what: format!("{}: {what}", instruction.op.name()),
            };
            for &source in &instruction.inputs {
                readable(source, &written).map_err(here)?;
            }
            let (inputs, outputs) = instruction.op.arity();
            if !inputs.contains(&instruction.inputs.len()) {
                return Err(here(format!(
                    "expected {inputs:?} inputs but got {}",
                    instruction.inputs.len()
                )));
            }
            if instruction.outputs.len() != outputs {
                return Err(here(format!(
                    "expected {outputs} outputs but got {}",
                    instruction.outputs.len()
                )));
            }
            instruction.op.check(&constants).map_err(here)?;
            for &register in &instruction.outputs {
                match written.get_mut(register as usize) {
                    // Single assignment, which also keeps an instruction from
                    // reading a register that it writes.
                    Some(slot) if !*slot => *slot = true,
                    _ => return Err(here(format!("register {register} can't be written"))),
                }
            }
        }
        for &source in &body.outputs {
            if source == Source::None {
                return Err(whole("an output is absent".into()));
            }
            readable(source, &written).map_err(|what| whole(format!("output: {what}")))?;
        }
        Ok(())
    }
}

fn check_constant(constant: &Constant, constants: &Constants<'_>) -> Result<(), String> {
    let dims: Vec<usize> = constant.dims.iter().map(|&d| d as usize).collect();
    let shape = Shape::new(&dims).ok_or_else(|| format!("shape {dims:?} is too large"))?;
    let len = match constant.data {
        ConstantData::Float32(s) => constants.check(s, "data")?.len(),
        ConstantData::Float64(s) => constants.check(s, "data")?.len(),
        ConstantData::Int64(s) => constants.check(s, "data")?.len(),
        ConstantData::Int32(s) => constants.check(s, "data")?.len(),
        ConstantData::Bool(s) | ConstantData::Uint8(s) => constants.check(s, "data")?.len(),
        ConstantData::Int8(s) => constants.check(s, "data")?.len(),
        ConstantData::String(s) => {
            constants.check_strings(s, "data")?;
            s.len()
        }
    };
    if len != shape.len() {
        return Err(format!("{len} elements for the shape {shape:?}"));
    }
    Ok(())
}

/// Writes a program; used by the lowering.
#[derive(Default)]
pub struct Builder {
    header: Header,
    constants: Vec<u8>,
    open: Vec<Body>,
    full: bool,
}

impl Builder {
    /// An empty program for a model with this many inputs.
    pub fn new(inputs: u16) -> Builder {
        Builder {
            header: Header {
                main: Body {
                    depth: DEPTH_MAX,
                    inputs,
                    ..Body::default()
                },
                ..Header::default()
            },
            ..Builder::default()
        }
    }

    /// Begins a body: until [`Builder::end_body`] instructions are its own,
    /// and inputs are the values that it is given. `false` when it would lie
    /// deeper than [`DEPTH_MAX`].
    pub fn begin_body(&mut self, inputs: u16) -> bool {
        let Some(depth) = self.header.main.depth.checked_sub(1) else {
            return false;
        };
        let body = Body {
            depth,
            inputs,
            ..Body::default()
        };
        self.open.push(std::mem::replace(&mut self.header.main, body));
        true
    }

    /// Ends the body that was begun last, and returns its number.
    ///
    /// # Panics
    /// When none is open.
    pub fn end_body(&mut self, outputs: Vec<Source>) -> u16 {
        let outer = self.open.pop().expect("a body was begun");
        let mut body = std::mem::replace(&mut self.header.main, outer);
        body.outputs = outputs;
        self.header.bodies.push(body);
        self.number(self.header.bodies.len() - 1)
    }

    /// Whether there are more values, constants or bodies than can be referred
    /// to, or more bytes of constants: no image should be made of it then.
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// What is counted from 0, as far as it can be referred to.
    fn number(&mut self, index: usize) -> u16 {
        u16::try_from(index).unwrap_or_else(|_| {
            self.full = true;
            u16::MAX
        })
    }

    /// Puts an array among the constants; see [`Builder::is_full`].
    pub fn array<T: Pod>(&mut self, values: &[T]) -> Slice<T> {
        let offset = self.constants.len().next_multiple_of(ALIGN);
        let bytes: &[u8] = bytemuck::cast_slice(values);
        if offset.saturating_add(bytes.len()) > CONSTANT_BYTES_MAX {
            self.full = true;
            return Slice::default();
        }
        self.constants.resize(offset, 0);
        self.constants.extend_from_slice(bytes);
        Slice {
            offset: offset as u32,
            len: values.len() as u32,
            element: PhantomData,
        }
    }

    /// Puts strings among the constants.
    pub fn strings<S: AsRef<str>>(&mut self, values: &[S]) -> StringSlice {
        let mut ends = Vec::with_capacity(values.len());
        let mut text = Vec::new();
        for value in values {
            text.extend_from_slice(value.as_ref().as_bytes());
            ends.push(text.len() as u32);
        }
        StringSlice {
            ends: self.array(&ends),
            text: self.array(&text),
        }
    }

    /// Puts a constant tensor into the program.
    pub fn constant(&mut self, tensor: &Tensor) -> Source {
        use crate::tensor::Data;
        let data = match &tensor.data {
            Data::Float32(v) => ConstantData::Float32(self.array(v)),
            Data::Float64(v) => ConstantData::Float64(self.array(v)),
            Data::Int64(v) => ConstantData::Int64(self.array(v)),
            Data::Int32(v) => ConstantData::Int32(self.array(v)),
            Data::Bool(v) => ConstantData::Bool(self.array(v)),
            Data::Uint8(v) => ConstantData::Uint8(self.array(v)),
            Data::Int8(v) => ConstantData::Int8(self.array(v)),
            Data::String(v) => {
                let strings: Vec<&str> = v.view().iter().collect();
                ConstantData::String(self.strings(&strings))
            }
        };
        self.header.constants.push(Constant {
            dims: tensor.shape.dims().iter().map(|&d| d as u32).collect(),
            data,
        });
        Source::Constant(self.number(self.header.constants.len() - 1))
    }

    /// Appends an instruction and returns the registers of its results.
    pub fn push(&mut self, op: Op, inputs: Vec<Source>) -> Vec<Source> {
        let (_, outputs) = op.arity();
        // Their number is one that can be said, too.
        let first = usize::from(self.header.main.registers);
        let end = self.number(first + outputs);
        let registers: Vec<u16> = (first as u16..end).collect();
        let body = &mut self.header.main;
        body.registers = end;
        body.instructions.push(Instruction {
            op,
            inputs,
            outputs: registers.clone(),
        });
        // Whoever asks for results gets as many, whatever they are good for.
        let registers = registers.into_iter().chain(std::iter::repeat(end));
        registers.take(outputs).map(Source::Register).collect()
    }

    /// Names the values that a run yields, and writes the image.
    pub fn finish(mut self, outputs: Vec<Source>) -> Vec<u8> {
        self.header.main.outputs = outputs;
        let header = postcard::to_allocvec(&self.header).expect("a header can always be written");
        let mut image = Vec::with_capacity(HEADER_START + header.len() + self.constants.len());
        image.extend_from_slice(MAGIC);
        image.extend_from_slice(&VERSION.to_le_bytes());
        image.extend_from_slice(&(header.len() as u32).to_le_bytes());
        image.extend_from_slice(&(self.constants.len() as u64).to_le_bytes());
        image.extend_from_slice(&header);
        image.resize(image.len().next_multiple_of(ALIGN), 0);
        image.extend_from_slice(&self.constants);
        image
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::elementwise::Unary;

    #[test]
    fn what_cannot_be_referred_to_makes_a_builder_full() {
        let mut builder = Builder::new(1);
        for _ in 0..u16::MAX {
            builder.push(Op::Unary(Unary::Abs), vec![Source::Input(0)]);
            builder.constant(&Tensor::default());
        }
        assert!(!builder.is_full());
        let mut constants = builder;
        for _ in 0..2 {
            constants.constant(&Tensor::default());
        }
        assert!(constants.is_full());
        let mut registers = Builder::new(1);
        for _ in 0..=u32::from(u16::MAX) + 1 {
            registers.push(Op::Unary(Unary::Abs), vec![Source::Input(0)]);
        }
        assert!(registers.is_full());
    }
}
