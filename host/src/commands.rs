//! What the commands do: read, call the library, print.

mod check;
mod config;
mod drift;
mod inspect;
mod pack;
mod predict;
mod request;
mod score;
mod serve;
mod verify;

use crate::artifact::Artifact;
use crate::cli::{Cli, Command};
use crate::data::DataError;
use crate::monitor::config::Faults;
use crate::output::Output;
use crate::runtime::{Loaded, Runtime, RuntimeConfig};
use crate::serve::ConfigError;
use anyhow::Context;
use clap::CommandFactory;
use std::fmt;
use std::io::ErrorKind;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It did what it should.
    Good,
    /// It failed.
    Failed,
    /// It was not asked rightly.
    Usage,
    /// It did what it should, and what it checked is not so.
    No,
    /// The configuration is wrong.
    Config,
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> ExitCode {
        ExitCode::from(match status {
            Status::Good => 0,
            Status::Failed => 1,
            Status::Usage => 2,
            Status::No => 3,
            Status::Config => 64,
        })
    }
}

/// Something that the command line's parser can't see.
#[derive(Debug)]
struct UsageError(String);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

/// The status that an error stands for. A reader who has read enough and
/// closed the pipe is none.
pub fn status_of(error: &anyhow::Error) -> Status {
    for cause in error.chain() {
        if cause.is::<ConfigError>() || cause.is::<Faults>() {
            return Status::Config;
        }
        if cause.is::<UsageError>() {
            return Status::Usage;
        }
        let io = cause.downcast_ref::<std::io::Error>();
        let data = cause.downcast_ref::<DataError>();
        if io.is_some_and(|e| e.kind() == ErrorKind::BrokenPipe) || data.is_some_and(DataError::is_broken_pipe) {
            return Status::Good;
        }
    }
    Status::Failed
}

/// Runs a command.
///
/// # Errors
/// When it fails; [`status_of`] says how the process should end.
pub fn run(command: Command, output: &Output) -> anyhow::Result<Status> {
    match command {
        Command::Check(args) => check::run(&args, output),
        Command::Pack(args) => pack::run(args, output),
        Command::Inspect(args) => inspect::run(&args, output),
        Command::Predict(args) => predict::run(&args, output),
        Command::Score(args) => score::run(&args, output),
        Command::Drift(args) => drift::run(&args, output),
        Command::Verify(args) => verify::run(&args, output),
        Command::Serve(args) => serve::run(args),
        Command::Config(args) => config::run(&args, output),
        Command::Completions(args) => {
            let mut text = Vec::new();
            clap_complete::generate(args.shell, &mut Cli::command(), "modelet", &mut text);
            output.print(String::from_utf8_lossy(&text))?;
            Ok(Status::Good)
        }
    }
}

fn open(path: &Path) -> anyhow::Result<Artifact> {
    Artifact::open(path).with_context(|| path.display().to_string())
}

/// Makes a model ready for a command that ends when it has its answers.
fn load(artifact: &Artifact, config: RuntimeConfig, output: &Output) -> anyhow::Result<Arc<Loaded>> {
    let config = RuntimeConfig {
        progress: match output.is_quiet() {
            true => |_| {},
            false => |what| eprintln!("{what}"),
        },
        ..config
    };
    let named = || match &artifact.path {
        Some(path) => path.display().to_string(),
        None => artifact.manifest.name.clone(),
    };
    Runtime::new(config)?.load(artifact).with_context(named)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::DataErrorKind;

    #[test]
    fn an_error_says_how_the_process_ends() {
        let io = |kind| anyhow::Error::new(std::io::Error::from(kind)).context("x");
        let write = |kind| DataError::new(Path::new("-"), DataErrorKind::Write(std::io::Error::from(kind)));
        struct Case(anyhow::Error, Status);
        for Case(error, status) in [
            Case(anyhow::anyhow!("x"), Status::Failed),
            Case(io(ErrorKind::NotFound), Status::Failed),
            Case(io(ErrorKind::BrokenPipe), Status::Good),
            Case(anyhow::Error::new(write(ErrorKind::BrokenPipe)), Status::Good),
            Case(anyhow::Error::new(write(ErrorKind::StorageFull)), Status::Failed),
            Case(anyhow::Error::new(ConfigError("x".into())), Status::Config),
            Case(anyhow::Error::new(Faults(Vec::new())), Status::Config),
            Case(anyhow::Error::new(UsageError("x".into())), Status::Usage),
        ] {
            assert_eq!(status_of(&error), status, "{error:#}");
        }
    }
}
