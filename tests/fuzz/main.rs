//! Fuzzing: `cargo xtask fuzz`.
//!
//! Cases are made from seeds by deterministic damage (`mutate.rs`) and given to
//! what reads input that nobody vouches for:
//!
//! | target | input | is given to |
//! | --- | --- | --- |
//! | `onnx` | model files | the reader, the lowering, and the engine if it lowers |
//! | `program` | program images | `Program::load`, and the engine if it loads |
//! | `json`, `csv` | bodies of requests | the HTTP handler of a loaded model |
//!
//! A case must end within [`CASE_SECONDS_MAX`] and the address space of
//! [`ADDRESS_SPACE_KIB`], and not by a panic. Each target is fuzzed by a worker,
//! a process of its own, so that whatever ends it is reported. Without
//! arguments each target gets a moment, so that a plain `cargo test` sees that
//! nothing is broken at once.

mod models;
mod mutate;
mod requests;

use anyhow::{Context, bail};
use mutate::Random;
use std::any::Any;
use std::collections::BTreeSet;
use std::collections::hash_map::DefaultHasher;
use std::fs::File;
use std::hash::Hasher;
use std::io::{IsTerminal, Seek, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const TARGETS: [&str; 4] = ["onnx", "program", "json", "csv"];
/// A case that takes longer is a failure.
const CASE_SECONDS_MAX: u64 = 10;
/// What a worker may map: 4 GiB.
const ADDRESS_SPACE_KIB: u64 = 4 << 20;
/// Failures that a worker tells before it gives up.
const FAILURES_MAX: usize = 10;
/// How a worker ends that has told its failures, and one that is stuck.
const FAILED: u8 = 1;
const STUCK: i32 = 3;

/// What is fuzzed.
pub trait Target {
    /// The case that these random numbers make.
    fn case(&self, random: &mut Random) -> Vec<u8>;
    /// Runs it.
    ///
    /// # Errors
    /// In words, when what came out must never come out.
    fn run(&mut self, case: &[u8]) -> Result<Ending, String>;
}

/// How a case may end.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// With an answer.
    Answered,
    /// With an error.
    Refused,
}

/// What was asked for.
#[derive(Clone)]
struct Args {
    seconds: f64,
    targets: Vec<String>,
    seed: u64,
    replay: Option<PathBuf>,
    worker: bool,
}

fn main() -> ExitCode {
    let done = arguments().and_then(|args| if args.worker { work(&args) } else { supervise(&args) });
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(FAILED),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// `[--seconds S] [--target NAME] [--seed N] [--replay FILE]`; what else there
/// is belongs to the test harness that this target does not have.
fn arguments() -> anyhow::Result<Args> {
    let mut args = std::env::args().skip(1);
    let mut wanted = Args {
        seconds: 2.0,
        targets: Vec::new(),
        seed: 1,
        replay: None,
        worker: false,
    };
    while let Some(arg) = args.next() {
        let mut value = || args.next().with_context(|| format!("{arg} takes a value"));
        match arg.as_str() {
            "--seconds" => wanted.seconds = value()?.parse().context("--seconds takes a number")?,
            "--target" => wanted.targets.push(value()?),
            "--seed" => wanted.seed = value()?.parse().context("--seed takes a number")?,
            "--replay" => wanted.replay = Some(value()?.into()),
            "--worker" => wanted.worker = true,
            _ => {}
        }
    }
    if let Some(other) = wanted.targets.iter().find(|t| !TARGETS.contains(&t.as_str())) {
        bail!("there is no target {other:?}; there are: {}", TARGETS.join(" "));
    }
    if wanted.replay.is_some() && wanted.targets.len() != 1 {
        bail!("--replay takes one --target");
    }
    if wanted.targets.is_empty() {
        wanted.targets = TARGETS.map(str::to_owned).to_vec();
    }
    Ok(wanted)
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where failing cases go.
fn folder() -> PathBuf {
    root().join("target/fuzz")
}

/// Starts a worker for each target, and says whether all found nothing.
fn supervise(args: &Args) -> anyhow::Result<bool> {
    std::fs::create_dir_all(folder()).with_context(|| folder().display().to_string())?;
    let mut sound = true;
    for target in &args.targets {
        let mut command = limited(&std::env::current_exe()?);
        command.arg("--worker").args(["--target", target]);
        command.args(["--seed", &args.seed.to_string()]);
        command.args(["--seconds", &(args.seconds / args.targets.len() as f64).to_string()]);
        if let Some(file) = &args.replay {
            command.arg("--replay").arg(file);
        }
        let mut worker = command.spawn().context("cannot start a worker")?;
        let running = running(target, worker.id());
        let status = worker.wait()?;
        if !status.success() {
            sound = false;
            if status.code() != Some(i32::from(FAILED))
                && let Ok(case) = std::fs::read(&running)
            {
                report(target, args.seed, &case, &format!("the worker ended with {status}"))?;
            }
        }
        // There is none after a replay.
        let _ = std::fs::remove_file(running);
    }
    Ok(sound)
}

/// The program with a limit to its address space, where the shell has one.
fn limited(program: &Path) -> Command {
    if cfg!(unix) {
        let mut command = Command::new("sh");
        let script = format!("ulimit -v {ADDRESS_SPACE_KIB} 2>/dev/null; exec \"$0\" \"$@\"");
        command.arg("-c").arg(script).arg(program);
        command
    } else {
        Command::new(program)
    }
}

/// Where a worker keeps the case that it runs, in case it does not survive it.
fn running(target: &str, process: u32) -> PathBuf {
    folder().join(format!("{target}-running-{process}"))
}

/// Writes the case over the one before. A file that is emptied first is on some
/// systems written to the disk each time.
fn keep(file: &mut File, case: &[u8]) -> std::io::Result<()> {
    file.rewind()?;
    file.write_all(case)?;
    file.set_len(case.len() as u64)
}

fn report(target: &str, seed: u64, case: &[u8], why: &str) -> anyhow::Result<()> {
    let mut hasher = DefaultHasher::new();
    hasher.write(case);
    let name = format!("{target}-{:016x}", hasher.finish());
    let path = folder().join(&name);
    std::fs::write(&path, case).with_context(|| path.display().to_string())?;
    eprintln!("{target}: FAILED with the seed {seed}: {why}");
    eprintln!("  to see it again: cargo xtask fuzz --replay target/fuzz/{name} --target {target}");
    Ok(())
}

/// Fuzzes one target, and says whether it found nothing.
fn work(args: &Args) -> anyhow::Result<bool> {
    let name = args.targets[0].as_str();
    let mut target: Box<dyn Target> = match name {
        "onnx" => Box::new(models::Onnx::new(root())?),
        "program" => Box::new(models::Programs::new(root())?),
        _ => Box::new(requests::Requests::new(root(), name == "csv")?),
    };
    let watch = Watch::start();
    if let Some(file) = &args.replay {
        let case = std::fs::read(file).with_context(|| file.display().to_string())?;
        watch.begin();
        return match target.run(&case) {
            Ok(ending) => {
                let ending = if ending == Ending::Answered {
                    "an answer"
                } else {
                    "an error"
                };
                println!("{name}: the case ends with {ending}");
                Ok(true)
            }
            Err(why) => {
                eprintln!("{name}: FAILED: {why}");
                Ok(false)
            }
        };
    }
    let place: Arc<Mutex<String>> = Arc::default();
    let (noted, fuzzing) = (Arc::clone(&place), Arc::clone(&watch.running));
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !fuzzing.load(Ordering::Relaxed) {
            return usual(info);
        }
        let at = info.location().map(ToString::to_string).unwrap_or_default();
        *noted.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = at;
    }));
    let running = running(name, std::process::id());
    let mut kept = File::create(&running).with_context(|| running.display().to_string())?;
    let mut known = BTreeSet::new();
    let mut progress = Progress::new(name);
    let start = Instant::now();
    for number in 0.. {
        if start.elapsed().as_secs_f64() >= args.seconds || known.len() == FAILURES_MAX {
            break;
        }
        let case = target.case(&mut Random::new(args.seed, number));
        keep(&mut kept, &case).with_context(|| running.display().to_string())?;
        watch.begin();
        let ended = catch_unwind(AssertUnwindSafe(|| target.run(&case)));
        watch.end();
        let why = match ended {
            Ok(Ok(ending)) => {
                progress.count(ending);
                continue;
            }
            Ok(Err(why)) => why,
            Err(panic) => {
                let place = place.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                // One case for each place is enough.
                if !known.insert(place.clone()) {
                    continue;
                }
                format!("panicked at {place}: {}", said(&*panic))
            }
        };
        known.insert(why.clone());
        report(name, args.seed, &case, &why)?;
        // What a panic left half done is no start for the next case.
        target = match name {
            "onnx" | "program" => target,
            _ => Box::new(requests::Requests::new(root(), name == "csv")?),
        };
    }
    progress.finish();
    Ok(known.is_empty())
}

fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("for no reason given")
}

/// Ends the process when a case takes too long.
#[derive(Clone)]
struct Watch {
    begun: Arc<AtomicU64>,
    running: Arc<AtomicBool>,
    epoch: Instant,
}

impl Watch {
    fn start() -> Watch {
        let watch = Watch {
            begun: Arc::default(),
            running: Arc::default(),
            epoch: Instant::now(),
        };
        let own = watch.clone();
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(Duration::from_millis(200));
                let begun = Duration::from_millis(own.begun.load(Ordering::Relaxed));
                let taken = own.epoch.elapsed().saturating_sub(begun);
                if own.running.load(Ordering::Relaxed) && taken.as_secs() >= CASE_SECONDS_MAX {
                    eprintln!("\na case runs for more than {CASE_SECONDS_MAX} s");
                    std::process::exit(STUCK);
                }
            }
        });
        watch
    }

    fn begin(&self) {
        self.begun
            .store(self.epoch.elapsed().as_millis() as u64, Ordering::Relaxed);
        self.running.store(true, Ordering::Relaxed);
    }

    fn end(&self) {
        self.running.store(false, Ordering::Relaxed);
    }
}

/// A line on the terminal while it runs, and one when it is done.
struct Progress<'a> {
    name: &'a str,
    start: Instant,
    shown: Instant,
    cases: u64,
    answered: u64,
}

impl<'a> Progress<'a> {
    fn new(name: &'a str) -> Progress<'a> {
        Progress {
            name,
            start: Instant::now(),
            shown: Instant::now(),
            cases: 0,
            answered: 0,
        }
    }

    fn count(&mut self, ending: Ending) {
        self.cases += 1;
        self.answered += u64::from(ending == Ending::Answered);
        if self.shown.elapsed() >= Duration::from_millis(500) && std::io::stderr().is_terminal() {
            self.shown = Instant::now();
            eprint!("\r{}", self.line());
            let _ = std::io::stderr().flush();
        }
    }

    fn line(&self) -> String {
        let seconds = self.start.elapsed().as_secs_f64();
        format!(
            "{}: {} cases in {seconds:.1} s, {:.0} a second; {} with an answer",
            self.name,
            self.cases,
            self.cases as f64 / seconds.max(1e-3),
            self.answered
        )
    }

    fn finish(&self) {
        let start = if std::io::stderr().is_terminal() { "\r" } else { "" };
        eprintln!("{start}{}", self.line());
    }
}
