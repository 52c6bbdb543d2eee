//! Tasks of the repository: `cargo xtask TASK`.
//!
//! A task is a file with one `run`; this one finds it by its name. Tasks start
//! programs that a person could start as well, and print each command line.

mod bench;
mod build;
mod corpus;
mod demo;
mod example;
mod fuzz;
mod test;
mod tools;
mod usage;
mod workspace;

use std::env;
use std::process::ExitCode;

use crate::usage::UsageError;

const HELP: &str = "\
Builds, shows and tests modelet.

Usage: cargo xtask TASK [OPTIONS]

Tasks:
  build [--neural]      the generic components and the browser module, into
                        target/artifacts; --neural adds those with tract in them
  example               packs examples/credit into target/example/credit.wasm
  demo [--listen ADDRESS:PORT] [--no-serve]
                        the example, served on 127.0.0.1:3000
  test [STEP...]        all checks, or the named ones in the order given:
                        fmt clippy build unit integration browser js
  bench [--quick] [--only NAME] [--write]
                        measures, against what it is compared with; --write
                        keeps the figures in docs/benchmarks.md; the names:
                        http instantiate infer trees start sizes
  corpus DIR [NAME...] [--json]
                        holds the models in DIR/* against the answers that
                        are kept beside them, or runs ONNX's node tests; only
                        those with a NAME in theirs, if any is given
  fuzz [--seconds 60] [--target NAME] [--seed N]
                        damages models, programs and requests, and gives them
                        to what reads them; the targets: onnx program json csv;
                        what fails is kept in target/fuzz
  fuzz --replay FILE --target NAME
                        runs a kept case again

Examples:
  cargo xtask demo                          from a clone to a served model
  cargo xtask demo --listen 127.0.0.1:8080  on another port
  cargo xtask test                          what continuous integration runs
  cargo xtask test fmt clippy               the quick ones only
";

fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match dispatch(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            if error.is::<UsageError>() {
                eprintln!("`cargo xtask --help` lists the tasks");
                ExitCode::from(2)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

fn dispatch(args: &[&str]) -> anyhow::Result<()> {
    let Some((&task, rest)) = args.split_first() else {
        print!("{HELP}");
        return Ok(());
    };
    if task == "help" || args.iter().any(|arg| matches!(*arg, "--help" | "-h")) {
        print!("{HELP}");
        return Ok(());
    }
    match task {
        "bench" => bench::run(rest),
        "build" => build::run(rest),
        "corpus" => corpus::run(rest),
        "example" => example::run(rest),
        "fuzz" => fuzz::run(rest),
        "demo" => demo::run(rest),
        demo::ANNOUNCE => demo::announce(rest),
        "test" => test::run(rest),
        _ => Err(UsageError::new(format!("there is no task {task:?}")).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_names_every_test_step() {
        for step in test::STEPS {
            assert!(
                HELP.contains(&format!(" {}", step.name)),
                "{} is not in the help",
                step.name
            );
        }
    }

    #[test]
    fn help_names_every_target_of_fuzzing() {
        assert!(HELP.contains(&fuzz::TARGETS.join(" ")));
    }

    #[test]
    fn help_names_every_benchmark() {
        for name in bench::NAMES {
            assert!(HELP.contains(&format!(" {name}")), "{name} is not in the help");
        }
    }

    #[test]
    fn an_unknown_task_or_option_is_a_usage_error() {
        for args in [
            &["biuld"][..],
            &["build", "--fast"],
            &["corpus"],
            &["corpus", "models", "--fast"],
            &["example", "now"],
            &["fuzz", "onnx"],
            &["fuzz", "--target", "everything"],
            &["fuzz", "--seconds", "long"],
            &["fuzz", "--replay", "case"],
            &["test", "everything"],
            &["bench", "http"],
            &["bench", "--only"],
            &["bench", "--only", "everything"],
            &["bench", "--quick", "--write"],
            &["demo", "--listen"],
            &["demo", "--listen", "3000"],
        ] {
            let error = dispatch(args).expect_err("the arguments are wrong");
            assert!(error.is::<UsageError>(), "{args:?}: {error:#}");
        }
    }
}
