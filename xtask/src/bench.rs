//! The figures of docs/benchmarks.md.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::test::NATIVE;
use crate::usage::UsageError;
use crate::workspace::{cargo, command_line, heading, note, program, root, run as run_command, target};
use crate::{build, example};

/// What can be measured alone.
pub const NAMES: [&str; 6] = ["http", "instantiate", "infer", "trees", "start", "sizes"];

pub fn run(args: &[&str]) -> Result<()> {
    check(args)?;
    build::tabular()?;
    let bench = build_bench()?;
    example::pack_with_built()?;
    let mut bench = program(bench);
    if !args.contains(&"--only") || args.contains(&"trees") {
        build::walk()?;
        match peers() {
            Ok(python) => {
                bench.env("MODELET_BENCH_PYTHON", python);
            }
            Err(error) => heading(&format!("the other tools are left out of \"trees\": {error:#}")),
        }
    }
    run_command(bench.args(args))
}

/// Installs what ensembles of trees are compared with into a virtual
/// environment, unless that has been done, and trains them; gives its Python.
fn peers() -> Result<PathBuf> {
    let scripts = root().join("host/benches/peers");
    let (environment, folder) = (target().join("bench/python"), target().join("bench/trees"));
    let python = environment.join("bin/python");
    let requirements = scripts.join("requirements.txt");
    let wanted = fs::read_to_string(&requirements)?;
    let installed = environment.join("requirements.txt");
    if fs::read_to_string(&installed).ok().as_ref() != Some(&wanted) {
        run_command(program("python3").args(["-m", "venv"]).arg(&environment))?;
        run_command(
            program(&python)
                .args(["-m", "pip", "install", "--quiet", "--requirement"])
                .arg(&requirements),
        )?;
        fs::write(&installed, wanted)?;
    }
    run_command(program(&python).arg(scripts.join("trees.py")).arg("train").arg(folder))?;
    Ok(python)
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
