//! The figures of `docs/benchmarks.md`, measured in one run on one machine, so
//! that what is compared ran under the same conditions. `cargo xtask bench`
//! builds what is needed and starts this.
//!
//! Started with the name of a baseline, the program is a server to compare
//! with, in a process of its own; see [`baselines`].

mod baselines;
mod http;
mod infer;
mod instantiate;
mod load;
mod models;
mod report;
mod sizes;
mod start;
mod stats;
mod trees;

use anyhow::{Context, Result, bail};
use report::{Report, Section};
use std::path::{Path, PathBuf};
use std::{env, fs};

/// How much is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Effort {
    /// Whether everything still runs; the figures are rough.
    Quick,
    Full,
}

impl Effort {
    fn of<T>(self, quick: T, full: T) -> T {
        match self {
            Effort::Quick => quick,
            Effort::Full => full,
        }
    }
}

/// A part of the run: its name for `--only`, and what measures it.
type Part = (&'static str, fn(Effort) -> Result<Section>);

const PARTS: [Part; 6] = [
    ("http", http::measure),
    ("instantiate", instantiate::measure),
    ("infer", infer::measure),
    ("trees", trees::measure),
    ("start", start::measure),
    ("sizes", sizes::measure),
];

fn main() -> Result<()> {
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    if let [name, answer] = args[..]
        && let Some(baseline) = baselines::named(name)
    {
        return baseline(answer.to_owned().into());
    }
    let (mut effort, mut only, mut write) = (Effort::Full, None, false);
    let mut rest = args.into_iter();
    while let Some(arg) = rest.next() {
        match arg {
            "--quick" => effort = Effort::Quick,
            "--only" => only = Some(rest.next().context("--only takes a name")?),
            "--write" => write = true,
            // `cargo bench` says so to every benchmark.
            "--bench" => {}
            other => bail!("no argument {other:?} is known"),
        }
    }
    if write && (only.is_some() || effort == Effort::Quick) {
        bail!("--write takes a whole run: neither --quick nor --only");
    }
    let parts: Vec<&Part> = PARTS
        .iter()
        .filter(|(name, _)| only.is_none_or(|o| o == *name))
        .collect();
    if parts.is_empty() {
        bail!("--only takes one of {}", PARTS.map(|(name, _)| name).join(", "));
    }
    let mut report = Report::new();
    for (name, measure) in parts {
        eprintln!("measuring {name}");
        report.add(measure(effort).with_context(|| format!("measuring {name}"))?);
    }
    let text = report.markdown();
    print!("{text}");
    if write {
        let path = root().join("docs/benchmarks.md");
        fs::write(&path, text).with_context(|| path.display().to_string())?;
        eprintln!("wrote {}", path.display());
    }
    Ok(())
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the host is a folder of the workspace")
}

/// The packed example.
fn credit() -> PathBuf {
    root().join("target/example/credit.wasm")
}

/// The command line, built with the benchmarks.
const MODELET: &str = env!("CARGO_BIN_EXE_modelet");
