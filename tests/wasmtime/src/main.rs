//! The wasmtime command line, reduced to `run` and `serve`.
//!
//! Tests drive components with the real commands and their flags, but from this
//! package: built in the workspace, it shares one wasmtime with the host, at the
//! same version, in place of a second compile or an installed copy.

use clap::Parser;
use wasmtime_cli::commands::{RunCommand, ServeCommand};

#[derive(Parser)]
#[command(name = "wasmtime")]
enum Command {
    Run(RunCommand),
    Serve(ServeCommand),
}

fn main() -> Result<(), impl std::fmt::Debug> {
    match Command::parse() {
        Command::Run(run) => run.execute(),
        Command::Serve(serve) => serve.execute(),
    }
}
