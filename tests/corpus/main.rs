//! Holds a folder of ONNX models against the answers that belong to them:
//! `cargo xtask corpus DIR`.
//!
//! ```text
//! DIR/NAME/{model.onnx, inputs.csv, meta.json, expected.json}      real models: packed, scored, compared
//! DIR/test_NAME/{model.onnx, test_data_set_0/{input,output}_*.pb}  ONNX's node tests: the engine alone
//! ```
//!
//! Without `--folder` there is nothing to do, so that a plain `cargo test`
//! passes.

mod models;
mod nodes;

use anyhow::{Context, bail};
use modelet_host::output::{ColorChoice, Output, Progress, Unit};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What was asked for.
struct Args {
    folder: PathBuf,
    filters: Vec<String>,
    json: bool,
}

fn main() -> ExitCode {
    let Some(args) = arguments() else {
        println!("nothing is held against expected answers; `cargo xtask corpus DIR` does that");
        return ExitCode::SUCCESS;
    };
    let output = Output::new(ColorChoice::Auto, false);
    match run(&args, &output) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            output.error(format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// `--folder DIR [--json] [--filter TEXT]...`; what else there is belongs to
/// the test harness that this target does not have.
fn arguments() -> Option<Args> {
    let mut args = std::env::args().skip(1);
    let (mut folder, mut filters, mut json) = (None, Vec::new(), false);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--folder" => folder = args.next().map(PathBuf::from),
            "--filter" => filters.extend(args.next()),
            "--json" => json = true,
            _ => {}
        }
    }
    Some(Args {
        folder: folder?,
        filters,
        json,
    })
}

/// Whether everything is as expected.
fn run(args: &Args, output: &Output) -> anyhow::Result<bool> {
    let folder = &args.folder;
    let cases = cases(folder)?;
    let is = |file: &str| cases.iter().any(|case| case.join(file).exists());
    let (models, nodes) = (is("expected.json"), is("test_data_set_0"));
    let chosen: Vec<PathBuf> = cases
        .into_iter()
        .filter(|case| {
            let name = name_of(case);
            args.filters.is_empty() || args.filters.iter().any(|filter| name.contains(filter.as_str()))
        })
        .collect();
    if chosen.is_empty() {
        bail!(
            "{}: no model's name has {:?} in it",
            folder.display(),
            args.filters.join(" or ")
        );
    }
    match (models, nodes) {
        (true, _) => models::run(&chosen, args.json, output),
        (false, true) => nodes::run(&chosen, args.json, output),
        (false, false) => bail!(
            "{}: there is neither an expected.json nor a test_data_set_0 beside the models",
            folder.display()
        ),
    }
}

/// The folders with a model, sorted by name.
fn cases(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut cases = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| folder.display().to_string())?.path();
        if path.join("model.onnx").is_file() {
            cases.push(path);
        }
    }
    if cases.is_empty() {
        bail!("{}: no folder in it has a model.onnx", folder.display());
    }
    cases.sort();
    Ok(cases)
}

fn name_of(case: &Path) -> String {
    case.file_name()
        .map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

/// Does the same with every case, on as many threads as there are processors;
/// the results are in the order of the cases. A panic becomes an error.
fn each<T: Send>(
    cases: &[PathBuf],
    what: &str,
    progress: &dyn Progress,
    work: impl Fn(&Path) -> anyhow::Result<T> + Sync,
) -> Vec<anyhow::Result<T>> {
    progress.start(what, Some(cases.len() as u64), Unit::Steps);
    let next = AtomicUsize::new(0);
    let results: Vec<Mutex<Option<anyhow::Result<T>>>> = cases.iter().map(|_| Mutex::new(None)).collect();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads.min(cases.len()) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    let (Some(case), Some(slot)) = (cases.get(index), results.get(index)) else {
                        break;
                    };
                    let result = catch_unwind(AssertUnwindSafe(|| work(case)))
                        .unwrap_or_else(|panic| Err(anyhow::anyhow!("panicked: {}", said(&*panic))));
                    *slot.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(result);
                    progress.advance(1);
                }
            });
        }
    });
    progress.finish();
    let results = results.into_iter();
    results
        .map(|slot| slot.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()))
        .map(|result| result.unwrap_or_else(|| bail!("it was not run")))
        .collect()
}

fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("for no reason given")
}
