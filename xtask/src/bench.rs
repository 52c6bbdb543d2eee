//! The figures of docs/benchmarks.md.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::test::NATIVE;
use crate::usage::UsageError;
use crate::workspace::{cargo, command_line, note, program, run as run_command};
use crate::{build, example};

/// What can be measured alone.
pub const NAMES: [&str; 5] = ["http", "instantiate", "infer", "start", "sizes"];

pub fn run(args: &[&str]) -> Result<()> {
    check(args)?;
    build::tabular()?;
    let bench = build_bench()?;
    example::pack_with_built()?;
    run_command(program(bench).args(args))
}

/// The measuring program takes the arguments as they are; what is wrong with
/// them is told before anything is built.
fn check(args: &[&str]) -> Result<()> {
    let (mut part, mut write) = (false, false);
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        match *arg {
            "--quick" => part = true,
            "--write" => write = true,
            "--only" => {
                part = true;
                let name = rest.next().copied().unwrap_or_default();
                if !NAMES.contains(&name) {
                    let names = NAMES.join(", ");
                    return Err(UsageError::new(format!("--only takes one of {names}, not {name:?}")).into());
                }
            }
            other => return Err(UsageError::argument("bench", other).into()),
        }
    }
    if part && write {
        return Err(UsageError::new("--write takes a whole run: neither --quick nor --only").into());
    }
    Ok(())
}

/// Builds the measuring program and the command line, and gives the former's
/// path, which cargo alone knows.
fn build_bench() -> Result<PathBuf> {
    let mut command = cargo("build");
    command.args(NATIVE).args(["--bins", "--bench", "bench"]);
    command.args(["--message-format", "json-render-diagnostics"]);
    let line = command_line(&command);
    note(&format!("$ {line}"));
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start `{line}`"))?;
    if !output.status.success() {
        bail!("`{line}` failed: {}", output.status);
    }
    let messages = String::from_utf8(output.stdout).context("cargo's messages")?;
    messages
        .lines()
        .filter(|message| message.contains(r#""kind":["bench"]"#))
        .find_map(|message| {
            let (_, path) = message.split_once(r#""executable":""#)?;
            path.split_once('"').map(|(path, _)| path.into())
        })
        .with_context(|| format!("`{line}` built no benchmark"))
}
