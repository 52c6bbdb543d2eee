//! End-to-end tests over all homes of a model: natively, in the component, in
//! the modelet host and under the wasmtime command line. The browser's part is
//! in `tests/browser`, which runs the bundles that these tests leave in
//! `target/parity`.

#![cfg(not(target_arch = "wasm32"))]

mod alerts;
mod cli;
mod collector;
mod kills;
mod monitor;
mod outputs;
mod pack;
mod parity;
mod prometheus;
mod scenarios;
mod serve;
mod stores;
mod support;
mod validation;
mod wasmtime_cli;
mod worlds;
