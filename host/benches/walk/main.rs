//! The tabular engine alone, as a module for the bench part "trees": the host
//! writes rows into the memory, runs them, and reads the answers.

use modelet::engine::Workspace;
use modelet::program::{Image, Program};
use modelet::tensor::{Data, Shape, Tensor, Values};
use std::sync::{Mutex, MutexGuard};

struct State {
    image: Vec<u8>,
    program: Option<Program>,
    workspace: Workspace,
    inputs: Vec<Tensor>,
}

static STATE: Mutex<Option<State>> = Mutex::new(None);

fn state() -> MutexGuard<'static, Option<State>> {
    STATE.lock().expect("no call panics while it has the state")
}

/// Room for a program of so many bytes.
#[unsafe(no_mangle)]
pub extern "C" fn room(bytes: usize) -> *mut u8 {
    let mut state = state();
    let state = state.insert(State {
        image: vec![0; bytes],
        program: None,
        workspace: Workspace::default(),
        inputs: vec![Tensor::default()],
    });
    state.image.as_mut_ptr()
}

/// Loads the program that was written there: 1 if it is one.
#[unsafe(no_mangle)]
pub extern "C" fn load() -> u32 {
    let mut state = state();
    let Some(state) = state.as_mut() else { return 0 };
    let image = std::mem::take(&mut state.image);
    state.program = Program::load(Image::from(image)).ok();
    state.program.is_some().into()
}

/// Where so many rows are to be written; good until it is called again.
#[unsafe(no_mangle)]
pub extern "C" fn rows(rows: usize, columns: usize) -> *mut f32 {
    let mut state = state();
    let Some(State { inputs, .. }) = state.as_mut() else {
        return std::ptr::null_mut();
    };
    let buffer = inputs[0].write_f32(Shape::matrix(rows, columns));
    buffer.resize(rows * columns, 0.0);
    buffer.as_mut_ptr()
}

/// Runs the rows: where the output of this number is, or null.
#[unsafe(no_mangle)]
pub extern "C" fn run(output: usize) -> *const f32 {
    let mut state = state();
    let mut answers = || {
        let State {
            program,
            workspace,
            inputs,
            ..
        } = state.as_mut()?;
        let program = program.as_ref()?;
        debug_assert!(matches!(inputs[0].data, Data::Float32(_)));
        workspace.run(program, inputs).ok()?;
        match workspace.output(program, inputs, output)?.values {
            Values::Float32(answers) => Some(answers.as_ptr()),
            _ => None,
        }
    };
    answers().unwrap_or(std::ptr::null())
}
