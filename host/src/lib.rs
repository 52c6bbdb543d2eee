//! The modelet host: packs models, runs them on wasmtime, serves them over HTTP
//! and watches them.
//!
//! The command line (`main.rs`) is a thin layer over this library.

pub mod artifact;
pub mod cli;
pub mod commands;
pub mod data;
pub mod embedded;
pub mod http;
pub mod metrics;
pub mod monitor;
pub mod output;
pub mod pack;
pub mod pages;
pub mod runtime;
pub mod serve;

mod folders;
