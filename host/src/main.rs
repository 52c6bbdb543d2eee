//! `modelet`: parse the command line, run it, choose the exit status.

use clap::Parser;
use modelet_host::cli::Cli;
use modelet_host::commands;
use modelet_host::output::Output;
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let output = Output::new(cli.global.color, cli.global.quiet);
    match commands::run(cli.command, &output) {
        Ok(status) => status.into(),
        Err(error) => {
            let status = commands::status_of(&error);
            if status != commands::Status::Good {
                output.error(format!("{error:#}"));
            }
            status.into()
        }
    }
}
