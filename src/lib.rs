//! One trained model, packed as one WebAssembly component, that answers the
//! same everywhere.
//!
//! This crate is what must be equal in every home of a model: in the component
//! (under Spin, the wasmtime command line and the modelet host), in the browser
//! and natively, where `modelet pack` and the tests use it. It does no I/O and
//! knows neither clock nor threads nor randomness; what needs them is passed
//! in.
//!
//! ```text
//!   request bytes ── record ──> columns ── model ──> scores ── api ──> answer bytes
//!                       │ validate: all faults, bins       │
//!                       └────────── observation ───────────┘
//! ```
//!
//! | module | for |
//! | --- | --- |
//! | [`bundle`] | the file that holds a model |
//! | [`signature`] | the manifest: what a model takes and gives |
//! | [`record`], [`validate`] | bytes to typed columns, all faults at once |
//! | [`program`], [`engine`], [`ops`] | the tabular engine: lowered models and their operators |
//! | [`model`] | a loaded model, whichever engine runs it |
//! | [`drift`] | frozen bins, counts, the statistics on them, ground truth |
//! | [`api`] | requests and answers: JSON is written here, once |
//!
//! # Numbers
//!
//! A JSON number is read as the nearest binary64 and cast once to the type of
//! the model's input, as numpy does. Sums have one order. Transcendental
//! functions come from `libm`. So the tabular engine's answers have the same
//! bits natively and in wasm.
//!
//! # Crate features
//!
//! `neural` brings tract in for graphs that the tabular engine does not know;
//! `wasi-0-2` builds the component for WASI 0.2 in place of 0.3.

#![warn(missing_docs)]

pub mod api;
pub mod bundle;
pub mod drift;
pub mod engine;
pub mod golden;
pub mod model;
pub mod ops;
mod order;
pub mod program;
pub mod record;
pub mod signature;
pub mod tensor;
pub mod validate;

#[cfg(all(target_arch = "wasm32", target_os = "unknown"))]
mod browser;
#[cfg(target_os = "wasi")]
mod component;
#[cfg(any(target_arch = "wasm32", test))]
mod memory;
