//! Trained tree ensembles, and a dense net, here and as other tools run them.
//!
//! `peers/trees.py` trains the ensembles beforehand and times the other tools in
//! a process of its own, a round whenever it is asked; between its rounds are
//! ours, on the same rows.

use crate::infer::Pair;
use crate::models::{Ensemble, Rows, pack};
use crate::report::Section;
use crate::stats::median;
use crate::{Effort, root};
use anyhow::{Context, Result, anyhow, ensure};
use modelet::api::{BatchOptions, Format, OnError};
use modelet::bundle::{Bundle, Section as Part};
use modelet::engine::Workspace;
use modelet::model::Model;
use modelet::program::{Image, Program};
use modelet::tensor::{Shape, Tensor, Values};
use modelet_host::runtime::{Runtime, RuntimeConfig};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Instant;
use std::{env, fs};
use tract_onnx::prelude::*;
use wasmtime::{Config, Engine, Linker, Memory, Module, Store, TypedFunc};

/// Python with the other tools, or unset if there is none.
const PYTHON: &str = "MODELET_BENCH_PYTHON";
const BATCH: usize = 1000;
const TOLERANCE: f64 = 1e-5;
const SIZES: [(usize, usize); 3] = [(100, 6), (200, 6), (500, 8)];
const DENSE: &str = "dense-30-256-256-1";
const NOT_AVAILABLE: &str = "not available";

/// Columns of the table after the model and the rows.
const OURS: [&str; 4] = ["native", "native, request", "wasm", "wasm, request"];
const PEERS: [&str; 5] = ["onnxruntime", "own", "compiled", "compiled, from C", "tract"];

/// A trained ensemble, or where nothing is trained, a random one.
struct Case {
    name: String,
    title: String,
    component: PathBuf,
    rows: Vec<f32>,
    columns: usize,
    expected: Option<Vec<f64>>,
}

impl Case {
    fn made(folder: &Path, name: String, title: String) -> Result<Case> {
        let file = |extension: &str| folder.join(format!("{name}.{extension}"));
        fs::copy(folder.join("rows.csv"), file("csv"))?;
        pack(&name, &file("onnx"), &file("csv"), &file("wasm"))?;
        let rows: Vec<f32> = numbers(&folder.join("rows.f32"), f32::from_le_bytes)?;
        let expected: Vec<f64> = numbers(&file("expected.f64"), f64::from_le_bytes)?;
        Ok(Case {
            title,
            component: file("wasm"),
            columns: rows.len() / expected.len(),
            rows,
            expected: Some(expected),
            name,
        })
    }

    fn random((trees, depth): (usize, usize)) -> Result<Case> {
        let component = Ensemble { trees, depth }.pack()?;
        let mut reader = csv::Reader::from_path(component.with_extension("csv"))?;
        let columns = reader.headers()?.len();
        let mut rows = Vec::new();
        for record in reader.records() {
            for cell in &record? {
                rows.push(cell.parse::<f64>()? as f32);
            }
        }
        Ok(Case {
            name: format!("random-{trees}x{depth}"),
            title: format!("random, {trees}×{depth}"),
            component,
            rows,
            columns,
            expected: None,
        })
    }

    /// The rows that a round runs: single ones are those of the first batch.
    fn parts(&self, size: usize) -> impl Iterator<Item = &[f32]> {
        let count = if size == 1 {
            BATCH
        } else {
            self.rows.len() / self.columns
        };
        self.rows[..count * self.columns].chunks(size * self.columns)
    }

    fn count(&self, size: usize) -> usize {
        self.parts(size).map(|part| part.len() / self.columns).sum()
    }

    fn check(&self, what: &str, answers: &[f64]) -> Result<()> {
        let Some(expected) = &self.expected else { return Ok(()) };
        ensure!(!answers.is_empty(), "{what}: no answers");
        for (row, (answer, expected)) in answers.iter().zip(expected).enumerate() {
            let off = (answer - expected).abs();
            let near = off <= TOLERANCE * expected.abs().max(1.0);
            ensure!(near, "{}, {what}: row {row} is {answer}, not {expected}", self.name);
        }
        Ok(())
    }
}

fn numbers<T, const N: usize>(path: &Path, read: impl Fn([u8; N]) -> T) -> Result<Vec<T>> {
    let bytes = fs::read(path).with_context(|| path.display().to_string())?;
    Ok(bytes
        .chunks_exact(N)
        .map(|chunk| read(chunk.try_into().expect("a chunk of this length")))
        .collect())
}

/// What runs rows and appends an answer for each.
trait Runner {
    fn run(&mut self, rows: &[f32], answers: &mut Vec<f64>) -> Result<()>;
}

/// The engine alone, natively.
struct Native {
    program: Program,
    workspace: Workspace,
    inputs: [Tensor; 1],
    output: usize,
    columns: usize,
}

/// The program of a packed model, and the number of the output with its answers.
fn program(component: &Path) -> Result<(Vec<u8>, usize)> {
    let bundle = fs::read(component.with_extension("bundle"))?;
    let range = Bundle::parse(&bundle)?.require(Part::Program)?;
    let image = bundle[range].to_vec();
    let model = Model::load(bundle)?;
    let manifest = model.manifest();
    ensure!(manifest.inputs.len() == 1, "an ensemble has one input");
    let output = *manifest.output.scores.first().context("the model gives no scores")?;
    Ok((image, output.into()))
}

impl Native {
    fn load(case: &Case) -> Result<Native> {
        let (image, output) = program(&case.component)?;
        Ok(Native {
            program: Program::load(Image::from(image))?,
            workspace: Workspace::default(),
            inputs: [Tensor::default()],
            output,
            columns: case.columns,
        })
    }
}

impl Runner for Native {
    fn run(&mut self, rows: &[f32], answers: &mut Vec<f64>) -> Result<()> {
        let shape = Shape::matrix(rows.len() / self.columns, self.columns);
        self.inputs[0].write_f32(shape).extend_from_slice(rows);
        self.workspace.run(&self.program, &self.inputs)?;
        let view = self.workspace.output(&self.program, &self.inputs, self.output);
        match view.context("no output")?.values {
            Values::Float32(scores) => answers.extend(scores.iter().map(|&score| f64::from(score))),
            _ => return Err(anyhow!("the ensemble's answers are float32")),
        }
        Ok(())
    }
}

/// The engine alone in wasm: the module of `walk`, with the host's epochs.
struct Wasm {
    store: Store<()>,
    memory: Memory,
    place: TypedFunc<(u32, u32), u32>,
    run: TypedFunc<u32, u32>,
    output: u32,
    columns: usize,
}

impl Wasm {
    fn load(case: &Case) -> Result<Wasm> {
        let (image, output) = program(&case.component)?;
        let engine = Engine::new(Config::new().epoch_interruption(true))?;
        let file = root().join("target/wasm/wasm32-unknown-unknown/wasm/examples/walk.wasm");
        let module = Module::from_file(&engine, file)?;
        let mut store = Store::new(&engine, ());
        store.set_epoch_deadline(1);
        let mut linker = Linker::new(&engine);
        // The browser's imports, which nothing here calls.
        linker.define_unknown_imports_as_traps(&module)?;
        let instance = linker.instantiate(&mut store, &module)?;
        let memory = instance.get_memory(&mut store, "memory").context("no memory")?;
        let room = instance.get_typed_func::<u32, u32>(&mut store, "room")?;
        let at = room.call(&mut store, image.len() as u32)?;
        memory.write(&mut store, at as usize, &image)?;
        let load = instance.get_typed_func::<(), u32>(&mut store, "load")?;
        ensure!(load.call(&mut store, ())? == 1, "the program is not accepted");
        Ok(Wasm {
            place: instance.get_typed_func(&mut store, "rows")?,
            run: instance.get_typed_func(&mut store, "run")?,
            store,
            memory,
            output: output as u32,
            columns: case.columns,
        })
    }
}

impl Runner for Wasm {
    fn run(&mut self, rows: &[f32], answers: &mut Vec<f64>) -> Result<()> {
        let count = rows.len() / self.columns;
        let at = self.place.call(&mut self.store, (count as u32, self.columns as u32))?;
        let bytes = bytemuck::cast_slice(rows);
        self.memory.write(&mut self.store, at as usize, bytes)?;
        let at = self.run.call(&mut self.store, self.output)? as usize;
        ensure!(at != 0, "the program does not run");
        let scores = self.memory.data(&self.store).get(at..at + 4 * count);
        let scores = scores.context("answers outside the memory")?.chunks_exact(4);
        answers.extend(scores.map(|s| f64::from(f32::from_le_bytes(s.try_into().expect("4 bytes")))));
        Ok(())
    }
}

/// tract's operator, on the same trees as a classifier; the answer is the score
/// of the second class.
struct Tract {
    plan: Arc<TypedRunnableModel>,
    columns: usize,
}

impl Tract {
    fn load(case: &Case, size: usize) -> Result<Tract> {
        let file = case.component.with_extension("classifier.onnx");
        let mut model = tract_onnx::onnx().with_ignore_value_info(true).model_for_path(file)?;
        model.set_input_fact(0, InferenceFact::dt_shape(f32::datum_type(), [size, case.columns]))?;
        Ok(Tract {
            plan: model.into_optimized()?.into_runnable()?,
            columns: case.columns,
        })
    }
}

impl Runner for Tract {
    fn run(&mut self, rows: &[f32], answers: &mut Vec<f64>) -> Result<()> {
        let shape = [rows.len() / self.columns, self.columns];
        let input = tract_onnx::prelude::Tensor::from_shape(&shape, rows)?;
        let outputs = self.plan.run(tvec!(input.into()))?;
        let scores = outputs[1].to_plain_array_view::<f32>()?;
        answers.extend(scores.iter().skip(1).step_by(2).map(|&score| f64::from(score)));
        Ok(())
    }
}

/// The other tools.
struct Peers {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    greeting: Value,
}

impl Peers {
    fn start(folder: &Path) -> Result<Option<Peers>> {
        let Some(python) = env::var_os(PYTHON) else {
            return Ok(None);
        };
        let mut child = Command::new(python)
            .arg(root().join("host/benches/peers/trees.py"))
            .arg("measure")
            .arg(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = child.stdin.take().context("no input")?;
        let output = BufReader::new(child.stdout.take().context("no output")?);
        let mut peers = Peers {
            child,
            input,
            output,
            greeting: Value::Null,
        };
        peers.greeting = peers.listen()?;
        Ok(Some(peers))
    }

    fn listen(&mut self) -> Result<Value> {
        let mut line = String::new();
        let read = self.output.read_line(&mut line)?;
        ensure!(read > 0, "peers/trees.py ended: its answers differ, or it failed");
        Ok(serde_json::from_str(&line)?)
    }

    /// A round of each, in microseconds a row.
    fn round(&mut self, case: &Case, size: usize) -> Result<BTreeMap<String, f64>> {
        writeln!(self.input, "{}", json!({"model": case.name, "rows": size}))?;
        Ok(serde_json::from_value(self.listen()?)?)
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        // Best effort: it ends by itself when its input does.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A round of ours or of tract, in microseconds a row.
fn round(case: &Case, size: usize, runner: &mut dyn Runner, answers: &mut Vec<f64>) -> Result<f64> {
    answers.clear();
    let start = Instant::now();
    for part in case.parts(size) {
        runner.run(part, answers)?;
    }
    Ok(start.elapsed().as_nanos() as f64 / 1e3 / case.count(size) as f64)
}

/// Whole requests of one size: their bodies, and how batches are read.
fn requests(case: &Case, size: usize) -> Result<(Vec<String>, Option<BatchOptions>)> {
    let rows = Rows::of_ensemble(&case.component)?;
    if size == 1 {
        return Ok((rows.single().into_iter().take(BATCH).collect(), None));
    }
    let options = BatchOptions {
        format: Format::Json,
        on_error: OnError::Fail,
        full: false,
        rows_max: u32::MAX,
    };
    Ok((rows.json_batches(size), Some(options)))
}

/// Times of all columns, a list of rounds each.
fn compare(
    case: &Case,
    size: usize,
    rounds: usize,
    runtime: &Runtime,
    peers: &mut Option<Peers>,
) -> Result<BTreeMap<String, Vec<f64>>> {
    let mut runners: Vec<(&str, Box<dyn Runner>)> = vec![
        ("native", Box::new(Native::load(case)?)),
        ("wasm", Box::new(Wasm::load(case)?)),
    ];
    if case.expected.is_some() && case.name.ends_with("100x6") {
        runners.push(("tract", Box::new(Tract::load(case, size)?)));
    }
    let mut pair = Pair::load(runtime, &case.component)?;
    let (bodies, options) = requests(case, size)?;
    let mut answers = Vec::new();
    for (name, runner) in &mut runners {
        round(case, size, runner.as_mut(), &mut answers)?;
        case.check(name, &answers)?;
    }
    answers.clear();
    for body in &bodies {
        answers.extend(pair.wasm(body, options)?);
        pair.native(body, options)?;
    }
    case.check("wasm, request", &answers)?;

    let mut times: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for _ in 0..rounds {
        let mut add = |name: &str, us: f64| times.entry(name.to_owned()).or_default().push(us);
        if let Some(peers) = peers {
            for (name, us) in peers.round(case, size)? {
                add(&name, us);
            }
        }
        for (name, runner) in &mut runners {
            add(name, round(case, size, runner.as_mut(), &mut answers)?);
        }
        let count = case.count(size) as f64;
        let start = Instant::now();
        for body in &bodies {
            pair.wasm(body, options)?;
        }
        add("wasm, request", start.elapsed().as_nanos() as f64 / 1e3 / count);
        let start = Instant::now();
        for body in &bodies {
            pair.native(body, options)?;
        }
        add("native, request", start.elapsed().as_nanos() as f64 / 1e3 / count);
    }
    Ok(times)
}

/// The cells of a row of the table.
fn cells(case: &Case, size: usize, times: &BTreeMap<String, Vec<f64>>) -> Vec<String> {
    let of = |name: &str| times.get(name).map(|rounds| median(rounds.iter().copied()));
    let best = PEERS
        .iter()
        .filter(|name| times.contains_key(**name))
        .min_by(|a, b| of(a).unwrap_or(f64::NAN).total_cmp(&of(b).unwrap_or(f64::NAN)));
    let ratio = |ours: &str| {
        let ours = times.get(ours)?;
        let rounds = ours.iter().zip(times.get(*best?)?).map(|(ours, best)| ours / best);
        Some(format!("{:.2}", median(rounds)))
    };
    let missing = || NOT_AVAILABLE.to_owned();
    let mut cells = vec![case.title.clone(), size.to_string()];
    for name in OURS.iter().chain(&PEERS) {
        let asked = match *name {
            // tract is asked for the smallest ensembles only.
            "tract" => case.name.ends_with("100x6"),
            "own" | "compiled" => case.name != DENSE,
            _ => true,
        };
        let absent = || if asked { missing() } else { String::new() };
        cells.push(of(name).map_or_else(absent, |us| format!("{us:.2}")));
    }
    cells.extend([
        best.map_or_else(missing, |name| (*name).to_owned()),
        ratio("wasm").unwrap_or_else(missing),
        ratio("wasm, request").unwrap_or_else(missing),
    ]);
    cells
}

pub fn measure(effort: Effort) -> Result<Section> {
    let rounds = effort.of(3, 20);
    let runtime = Runtime::new(RuntimeConfig::default())?;
    let folder = root().join("target/bench/trees");
    let mut cases = Vec::new();
    if folder.join("rows.f32").exists() {
        for (library, title) in [("xgboost", "XGBoost"), ("lightgbm", "LightGBM")] {
            for size in SIZES {
                let (trees, depth) = size;
                let name = format!("{library}-{trees}x{depth}");
                cases.push(Case::made(&folder, name, format!("{title}, {trees}×{depth}"))?);
            }
        }
        cases.push(Case::made(&folder, DENSE.into(), "dense, 30-256-256-1".into())?);
    } else {
        for size in SIZES {
            cases.push(Case::random(size)?);
        }
    }
    let mut peers = if cases.iter().any(|case| case.expected.is_some()) {
        Peers::start(&folder)?
    } else {
        None
    };
    let mut rows = Vec::new();
    for case in &cases {
        for size in [1, BATCH] {
            let times = compare(case, size, rounds, &runtime, &mut peers).with_context(|| case.name.clone())?;
            rows.push(cells(case, size, &times));
        }
    }
    let mut header = vec!["model", "rows"];
    header.extend(OURS);
    header.extend(PEERS);
    header.extend(["best of the others", "wasm to it", "wasm, request, to it"]);
    Ok(Section {
        title: "Trees",
        text: text(peers.as_ref().map(|peers| &peers.greeting)),
        header,
        rows,
        targets: Vec::new(),
    })
}

fn text(greeting: Option<&Value>) -> String {
    let mut text = String::from(
        "Regressions on 30 float features (trees × depth; LightGBM's have 2^depth leaves and no limit of depth), one \
         thread, rows that change from call to call; microseconds a row, medians of the rounds, which take turns. \
         \"native\" and \"wasm\" are the engine alone, from floats to floats: natively, and the same engine in a module \
         of its own under wasmtime, rows copied into its memory and answers out of it, calls included. \"request\" is \
         the whole of it from a body's JSON to the answer's JSON, validation and bins included, in wasm by the packed \
         component's typed export. The others are given arrays of floats: \"own\" is XGBoost's `inplace_predict` or \
         LightGBM's `predict`, \"compiled\" is tl2cgen for XGBoost (its matrices built beforehand) and lleaves for \
         LightGBM, once from Python and once its function called by C; tract runs the smallest ensembles natively, as \
         classifiers, the only operator for trees that it has. All but tract and those called by C include Python's \
         call. The dense net (Gemm and Relu, float32) is compiled from C by the system's compiler with AVX2 and \
         FMA, which ONNX Runtime uses too, or AVX-512 where there is. All answers agree within 1e-5. Ratios are medians over the rounds.",
    );
    match greeting {
        Some(greeting) => {
            if let Some(us) = greeting["call_us"].as_f64() {
                text.push_str(&format!(
                    " A call from Python of a C function that does nothing took {us:.2} µs."
                ));
            }
            let versions = greeting["versions"].as_object().into_iter().flatten();
            let versions: Vec<String> = versions
                .map(|(name, version)| format!("{name} {}", version.as_str().unwrap_or_default()))
                .collect();
            text.push_str(&format!(" Versions: {}, tract 0.23.9.", versions.join(", ")));
            for (model, peers) in greeting["missing"].as_object().into_iter().flatten() {
                for (peer, why) in peers.as_object().into_iter().flatten() {
                    let why = why.as_str().unwrap_or_default().replace('|', "/");
                    text.push_str(&format!(" Not available: {peer} for {model} ({why})."));
                }
            }
        }
        None => text.push_str(
            " There was no Python with the other tools; random ensembles of 20 features take the place of trained \
             ones that were not there.",
        ),
    }
    text
}
