//! All checks of the repository, step by step.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::build::{self, NeuralLto, TABULAR};
use crate::tools;
use crate::usage::UsageError;
use crate::workspace::{cargo, heading, program, run as run_command};

pub struct Step {
    pub name: &'static str,
    run: fn() -> Result<()>,
    /// What the step needs from the machine, looked at before the first step
    /// runs.
    needs: fn() -> Result<()>,
    /// Whether the step runs what the step `build` builds.
    after_build: bool,
}

/// In the order in which they run by default: what fails soonest comes first.
pub const STEPS: [Step; 7] = [
    Step {
        name: "fmt",
        run: fmt,
        needs: nothing,
        after_build: false,
    },
    Step {
        name: "clippy",
        run: clippy,
        needs: tools::need_wasm_targets,
        after_build: false,
    },
    Step {
        name: "build",
        run: build,
        needs: tools::need_wasm_targets,
        after_build: false,
    },
    Step {
        name: "unit",
        run: unit,
        needs: nothing,
        after_build: false,
    },
    Step {
        name: "integration",
        run: integration,
        needs: integration_needs,
        after_build: true,
    },
    Step {
        name: "browser",
        run: browser,
        needs: browser_needs,
        after_build: true,
    },
    Step {
        name: "js",
        run: js,
        needs: js_needs,
        after_build: false,
    },
];

pub fn run(args: &[&str]) -> Result<()> {
    let steps = plan(args)?;
    for step in &steps {
        (step.needs)().with_context(|| format!("step {} cannot run", step.name))?;
    }

    let started = Instant::now();
    let mut durations = Vec::new();
    for step in &steps {
        heading(&format!("== {}", step.name));
        let step_started = Instant::now();
        let done = (step.run)();
        let duration = shown(step_started.elapsed());
        done.with_context(|| {
            format!(
                "step {} failed after {duration}; to run it again: cargo xtask test {}",
                step.name, step.name
            )
        })?;
        heading(&format!("== {} passed in {duration}\n", step.name));
        durations.push((step.name, duration));
    }
    for (name, duration) in durations {
        eprintln!("{name:<12} {duration:>12}");
    }
    heading(&format!("passed in {}", shown(started.elapsed())));
    Ok(())
}

/// The steps to run: those named, each once, and the build before the first
/// that would otherwise test what an earlier build left.
fn plan(names: &[&str]) -> Result<Vec<&'static Step>> {
    if names.is_empty() {
        return Ok(STEPS.iter().collect());
    }
    let mut steps: Vec<&Step> = Vec::new();
    for name in names {
        let step = named(name).ok_or_else(|| {
            let all: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
            UsageError::new(format!("there is no step {name:?}; there are: {}", all.join(" ")))
        })?;
        if step.after_build {
            push_new(&mut steps, named("build").expect("build is a step"));
        }
        push_new(&mut steps, step);
    }
    Ok(steps)
}

fn named(name: &str) -> Option<&'static Step> {
    STEPS.iter().find(|step| step.name == name)
}

fn push_new(steps: &mut Vec<&'static Step>, step: &'static Step) {
    if !steps.iter().any(|other| other.name == step.name) {
        steps.push(step);
    }
}

fn nothing() -> Result<()> {
    Ok(())
}

fn fmt() -> Result<()> {
    run_command(cargo("fmt").args(["--all", "--check"]))
}

fn clippy() -> Result<()> {
    let warnings_fail = ["--", "-D", "warnings"];
    run_command(
        cargo("clippy")
            .args([
                "--workspace",
                "--release",
                "--features",
                "modelet/neural",
                "--all-targets",
            ])
            .args(warnings_fail),
    )?;
    // The neural variants differ by tract, whose check would take minutes.
    for variant in &TABULAR {
        run_command(build::cargo_for(variant, "clippy", NeuralLto::Thin)?.args(warnings_fail))?;
    }
    Ok(())
}

/// Builds with the targets and features of the steps after it, so that these
/// compile nothing heavy a second time.
fn build() -> Result<()> {
    build::all(NeuralLto::Thin)?;
    run_command(cargo("build").args(NATIVE).args(["--lib", "--bins", "--tests"]))
}

/// The whole workspace is named even where one package would do: cargo chooses
/// the crate features of dependencies by what is named.
pub const NATIVE: [&str; 4] = ["--workspace", "--release", "--features", "modelet/neural"];

fn unit() -> Result<()> {
    run_command(cargo("test").args(NATIVE).args(["--lib", "--bins"]))?;
    run_command(cargo("test").args(NATIVE).arg("--doc"))
}

fn integration_needs() -> Result<()> {
    tools::need_wasm_targets()?;
    tools::need_redis_server()?;
    tools::need_promtool()?;
    Ok(())
}

fn integration() -> Result<()> {
    run_command(
        cargo("test")
            .args(NATIVE)
            .args(["--test", "all", "--test", "fuzz", "--test", "simulate"]),
    )
}

const BROWSER_TESTS: &str = "tests/browser";

fn browser_needs() -> Result<()> {
    tools::need_wasm_targets()?;
    tools::need_node()?;
    tools::need_npm()?;
    tools::need_chromium()?;
    Ok(())
}

fn browser() -> Result<()> {
    let script = format!("{BROWSER_TESTS}/run.mjs");
    tools::need_node_modules(BROWSER_TESTS)?;
    run_command(
        program(tools::need_node()?)
            .arg(script)
            .env("CHROMIUM", tools::need_chromium()?),
    )
}

const PAGES: &str = "www";

fn js_needs() -> Result<()> {
    tools::need_node()?;
    tools::need_npm()?;
    Ok(())
}

fn js() -> Result<()> {
    tools::need_node_modules(PAGES)?;
    run_command(
        program(tools::need_npm()?)
            .args(["--prefix", PAGES])
            .args(["run", "test"]),
    )
}

fn shown(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds < 60 {
        format!("{:.1} s", duration.as_secs_f64())
    } else {
        format!("{} min {} s", seconds / 60, seconds % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_runs_each_step_once_and_builds_before_what_runs_the_build() {
        for (names, planned) in [
            (&["js", "fmt", "js"][..], &["js", "fmt"][..]),
            (&["integration"], &["build", "integration"]),
            (
                &["fmt", "browser", "integration"],
                &["fmt", "build", "browser", "integration"],
            ),
            (&["build", "integration"], &["build", "integration"]),
            (&[], &["fmt", "clippy", "build", "unit", "integration", "browser", "js"]),
        ] {
            let steps = plan(names).expect("the steps exist");
            let steps: Vec<&str> = steps.iter().map(|step| step.name).collect();
            assert_eq!(steps, planned, "{names:?}");
        }
    }

    #[test]
    fn durations_read_as_minutes_from_one_minute_on() {
        for (millis, text) in [
            (340, "0.3 s"),
            (59_940, "59.9 s"),
            (60_000, "1 min 0 s"),
            (754_000, "12 min 34 s"),
        ] {
            assert_eq!(shown(Duration::from_millis(millis)), text);
        }
    }
}
