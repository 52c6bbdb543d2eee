//! `modelet pack`: a trained model becomes one component.
//!
//! ```text
//! ONNX ── lower ──> program ─┐
//! data ── features, bins ────┼─> bundle ── init, snapshot ──> component
//!                            └── the component's own answers: score bins, golden rows
//! ```
//!
//! The generic component is loaded three times, which costs milliseconds: with
//! a provisional manifest to see what the outputs look like, with the settled
//! one to answer the reference rows, and with the whole bundle for the
//! snapshot.

mod batch;
mod bindings;
mod features;
mod lower;
mod mixed;
#[doc(hidden)]
pub mod offline;
pub mod onnx;
mod outputs;
mod overrides;
mod prune;
mod rows;
mod snapshot;
mod state;

pub use crate::embedded::Wasi as WasiVersion;
pub use features::{GraphInput, graph_inputs};
pub use lower::{Unsupported, lower, survey};

use crate::artifact::{self, BUNDLE_SECTION, GOLDEN_SECTION, MANIFEST_SECTION};
use crate::data::{Table, Values, is_standard, not_an_input};
use crate::embedded;
use crate::monitor::performance::{read_label, unjudged};
use crate::output::{Progress, Silent, Unit};
use anyhow::{Context as _, anyhow, bail};
use features::Derived;
use lower::Lowered;
use modelet::bundle::{self, Section, sha256_hex};
use modelet::drift::Bins;
use modelet::drift::report::Thresholds;
use modelet::drift::truth::{self, Judge, Predicted, Sums};
use modelet::golden::{Golden, GoldenRow, comparable};
use modelet::program::{Image, Program, ProgramError};
use modelet::signature::{
    Baseline, Category, Column, EngineKind, FORMAT, Labels, Manifest, Output, Provenance, Range, Reference, ScoreKind,
    Task, Unknown,
};
use modelet::tensor::Dtype;
use outputs::{GraphOutput, Probe};
use overrides::Overrides;
use rows::Answers;
use serde::Serialize;
use snapshot::Packer;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Golden rows at most.
const GOLDEN_ROWS_MAX: usize = 100;
/// Rows run to see what the outputs look like.
const PROBE_ROWS: usize = 200;

/// What to pack, and how.
#[derive(Clone, Debug)]
pub struct PackOptions {
    /// The ONNX file.
    pub model: PathBuf,
    /// Reference data: CSV, Parquet or NDJSON.
    pub data: Option<PathBuf>,
    /// The data's column that is no feature but the truth.
    pub label: Option<String>,
    /// Rows that the model was not trained on, for the reference of its scores.
    pub holdout: Option<PathBuf>,
    /// Figures of the model on rows that it was not trained on, by name; they
    /// go before those measured on the holdout.
    pub baseline: BTreeMap<String, f64>,
    /// Expected answers to the rows of `data`, in order.
    pub expected: Option<PathBuf>,
    /// The largest difference from expected numbers, absolute or relative.
    pub tolerance: f64,
    /// What becomes of unknown features; the signature's own word if absent.
    pub unknown: Option<Unknown>,
    /// Which WASI the component is for.
    pub wasi: WasiVersion,
    /// The model's name; by default the signature's, or the file's.
    pub name: Option<String>,
    /// The model's version; by default the signature's, or 1.0.0.
    pub model_version: Option<String>,
    /// `signature.json`.
    pub signature: Option<PathBuf>,
    /// Overwrite the output.
    pub force: bool,
    /// The component to write; the bundle is written beside it.
    pub output: PathBuf,
}

/// What was packed.
#[derive(Clone, Debug, Serialize)]
pub struct PackReport {
    /// The component.
    pub output: PathBuf,
    /// The bundle beside it.
    pub bundle: PathBuf,
    /// Size of the component.
    pub bytes: u64,
    /// SHA-256 of the component.
    pub sha256: String,
    /// SHA-256 of the bundle: the model's identity.
    pub bundle_sha256: String,
    /// The manifest.
    pub manifest: Manifest,
    /// The number of golden rows.
    pub golden_rows: usize,
    /// Rows held against expected answers.
    pub expected_rows: usize,
    /// What the caller should know.
    pub notes: Vec<String>,
    /// Time from start to end.
    pub elapsed_ms: u64,
}

/// What would be packed.
#[derive(Clone, Debug, Serialize)]
pub struct CheckReport {
    /// The engine that runs the model; absent if none does.
    pub engine: Option<EngineKind>,
    /// Every operator of the graph.
    pub operators: Vec<OperatorUse>,
    /// Why the tabular engine does not run the model, if it does not.
    pub unsupported: Option<String>,
    /// Every operator that the tabular engine refuses.
    pub refused: Vec<Refusal>,
    /// Version of every operator set.
    pub opsets: BTreeMap<String, i64>,
    /// The exporter.
    pub producer: String,
    /// The model's inputs: name, type and shape.
    pub inputs: Vec<Tensor>,
    /// The model's outputs.
    pub outputs: Vec<Tensor>,
    /// How the answers are read from the outputs; absent where no engine runs
    /// the model.
    pub answer: Option<Answer>,
    /// What could not be found out without data, and other things to know.
    pub notes: Vec<String>,
    /// Size of the file.
    pub bytes: u64,
}

/// An operator of a graph.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OperatorUse {
    /// Domain and name.
    pub name: String,
    /// Version of the domain's operator set.
    pub version: i64,
    /// How often it is there.
    pub count: u32,
    /// The engine that has it; absent if none does.
    pub engine: Option<EngineKind>,
}

/// What the tabular engine refuses of a graph.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// Domain and name of the operator; `graph` where it is none.
    pub operator: String,
    /// Version of the domain's operator set.
    pub version: i64,
    /// The first node of that kind: its name, or that of its first output.
    pub node: String,
    /// How many there are.
    pub count: u32,
    /// What exactly is refused.
    pub why: String,
}

/// An input or output as the graph declares it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tensor {
    /// The name.
    pub name: String,
    /// The element type, or what it is instead.
    pub dtype: String,
    /// The dimensions; absent where the graph leaves them open.
    pub shape: Vec<Option<u64>>,
    /// Of an output: what answers take from it, the label or the scores;
    /// absent where nothing is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gives: Option<&'static str>,
}

/// How the answers are read.
#[derive(Clone, Debug, Serialize)]
pub struct Answer {
    /// What the model is for, if that shows without data.
    pub task: Option<Task>,
    /// The labels, the scores and what these are.
    pub output: Output,
    /// Whether rows are run together, and not one by one.
    pub batch: bool,
}

/// An ONNX file, read.
struct Source {
    bytes: Vec<u8>,
    model: onnx::Model,
    inputs: Vec<GraphInput>,
}

impl Source {
    fn read(path: &Path) -> anyhow::Result<Source> {
        let named = || path.display().to_string();
        let bytes = std::fs::read(path).with_context(named)?;
        let model = onnx::read(&bytes).map_err(|e| anyhow!(e)).with_context(named)?;
        let inputs = features::graph_inputs(&model)
            .map_err(|e| anyhow!(e))
            .with_context(named)?;
        Ok(Source { bytes, model, inputs })
    }

    fn lower(&self) -> Result<Lowered, Unsupported> {
        lower(&self.model, &self.lowered_inputs())
    }

    fn graph(&self) -> &onnx::Graph {
        self.model.graph.as_ref().expect("the reader demands a graph")
    }

    fn refused(&self) -> Vec<Refusal> {
        let mut refused: Vec<Refusal> = Vec::new();
        for one in lower::survey(&self.model, &self.lowered_inputs()) {
            let same = |r: &&mut Refusal| r.operator == one.operator && r.why == one.why;
            match refused.iter_mut().find(same) {
                Some(refusal) => refusal.count += 1,
                None => refused.push(Refusal {
                    operator: one.operator,
                    version: one.version,
                    node: one.node,
                    count: 1,
                    why: one.why,
                }),
            }
        }
        refused
    }

    fn operators(&self) -> BTreeMap<String, u32> {
        let mut operators = BTreeMap::new();
        for node in self.model.graph.iter().flat_map(|g| &g.node) {
            *operators.entry(node.operator()).or_insert(0) += 1;
        }
        operators
    }

    /// Version of the operator set that this operator, domain and name, is of.
    fn version_of(&self, operator: &str) -> i64 {
        let domain = operator.rsplit_once('.').map_or("", |(domain, _)| domain);
        lower::version(&self.model.opsets(), domain)
    }

    /// The graph for the neural engine: as it is, or with the nodes that it
    /// lacks as programs of the tabular one.
    fn neural(&self) -> Result<Cow<'_, [u8]>, Unsupported> {
        Ok(match mixed::rewrite(&self.model, &self.lowered_inputs())? {
            Some(bytes) => Cow::Owned(bytes),
            None => Cow::Borrowed(&self.bytes),
        })
    }

    fn lowered_inputs(&self) -> Vec<(String, Dtype)> {
        self.inputs.iter().map(|i| (i.name.clone(), i.dtype)).collect()
    }

    fn producer(&self) -> String {
        let model = &self.model;
        [model.producer_name.as_str(), model.producer_version.as_str()]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// Feature names that the exporter wrote into the metadata.
    fn feature_names(&self) -> Vec<String> {
        let entry = self
            .model
            .metadata_props
            .iter()
            .find(|e| matches!(e.key.as_str(), "feature_names" | "feature_names_in_"));
        entry.map_or(Vec::new(), |entry| {
            serde_json::from_str(&entry.value)
                .unwrap_or_else(|_| entry.value.split(',').map(|name| name.trim().to_owned()).collect())
        })
    }

    fn tensor(info: &onnx::ValueInfo) -> Tensor {
        let tensor = info.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
        let sequence = info.r#type.as_ref().is_some_and(|t| t.sequence_type.is_some());
        Tensor {
            name: info.name.clone(),
            dtype: match tensor {
                Some(tensor) => match onnx::dtype(tensor.elem_type) {
                    Ok(dtype) => dtype.name().into(),
                    Err(other) => other,
                },
                None if sequence => "sequence of maps".into(),
                None => "unknown".into(),
            },
            shape: tensor
                .and_then(|t| t.shape.as_ref())
                .map(|shape| {
                    shape
                        .dim
                        .iter()
                        .map(|d| d.dim_value.and_then(|v| u64::try_from(v).ok()).filter(|&v| v > 0))
                        .collect()
                })
                .unwrap_or_default(),
            gives: None,
        }
    }
}

/// Tells what would be packed.
///
/// # Errors
/// When the file can't be read as an ONNX model.
pub fn check(path: &Path) -> anyhow::Result<CheckReport> {
    let source = Source::read(path)?;
    let graph = source.graph();
    let lowered = source.lower();
    let refused = match &lowered {
        Ok(_) => Vec::new(),
        Err(_) => source.refused(),
    };
    let mut notes = Vec::new();
    let (engine, answer, unsupported) = match (understood(&source, &lowered, &mut notes), &lowered) {
        (Ok((engine, answer)), _) => (Some(engine), answer, lowered.as_ref().err().map(ToString::to_string)),
        (Err(neural), Err(tabular)) => (
            None,
            None,
            Some(format!(
                "{tabular}, and the neural engine does not run it either: {neural:#}"
            )),
        ),
        (Err(e), Ok(_)) => (None, None, Some(format!("{e:#}"))),
    };
    let opsets = source.model.opsets();
    let operators = source.operators().into_iter().map(|(name, count)| OperatorUse {
        version: source.version_of(&name),
        engine: match refused.iter().any(|r| r.operator == name) {
            true => engine,
            false => Some(EngineKind::Tabular),
        },
        name,
        count,
    });
    let gives = |index: usize| {
        let output = &answer.as_ref()?.output;
        let index = u16::try_from(index).ok()?;
        if output.label == Some(index) {
            return Some("label");
        }
        output.scores.contains(&index).then_some(match output.kind {
            ScoreKind::Probability => "probabilities",
            ScoreKind::Decision => "scores",
            ScoreKind::Value => "values",
        })
    };
    Ok(CheckReport {
        engine,
        operators: operators.collect(),
        unsupported,
        refused,
        opsets,
        producer: source.producer(),
        inputs: graph
            .input
            .iter()
            .filter(|i| source.inputs.iter().any(|known| known.name == i.name))
            .map(Source::tensor)
            .collect(),
        outputs: graph
            .output
            .iter()
            .enumerate()
            .map(|(index, output)| Tensor {
                gives: gives(index),
                ..Source::tensor(output)
            })
            .collect(),
        answer,
        notes,
        bytes: source.bytes.len() as u64,
    })
}

/// Lets the engine load the graph and run made-up rows. Where this binary does
/// not carry the engine, or the graph leaves its shapes to the data, the graph
/// alone is asked.
///
/// # Errors
/// When the engine does not run the graph.
fn understood(
    source: &Source,
    lowered: &Result<Lowered, Unsupported>,
    notes: &mut Vec<String>,
) -> anyhow::Result<(EngineKind, Option<Answer>)> {
    let overrides = Overrides::default();
    let draft = Draft::new(source, lowered)?;
    let alone = |notes: &mut Vec<String>, why: String| {
        notes.push(format!("the task shows when rows are run: {why}"));
        let reading = outputs::readings(&draft.outputs, &overrides).ok()?.into_iter().next()?;
        Some(Answer {
            task: None,
            output: reading,
            batch: false,
        })
    };
    let Ok(generic) = embedded::component(draft.engine, WasiVersion::V0_3) else {
        let answer = alone(
            notes,
            format!("this binary does not carry the {} engine", draft.engine.name()),
        );
        return Ok((draft.engine, answer));
    };
    let needed = draft.columns_needed();
    let derived = match features::derive(&source.inputs, None, None, &overrides, &source.feature_names(), needed) {
        Ok(derived) => derived,
        Err(why) => return Ok((draft.engine, alone(notes, why))),
    };
    let mut manifest = draft.manifest(derived, None, Provenance::default())?;
    let packer = Packer::new(generic)?;
    let rows = (0..rows::SYNTHETIC).collect();
    match draft.settle(&packer, &mut manifest, &overrides, None, rows, &Silent) {
        Ok(()) => {
            let answer = Answer {
                task: Some(manifest.task),
                output: manifest.output,
                batch: manifest.batch,
            };
            Ok((draft.engine, Some(answer)))
        }
        // tract finds out in running what it does not have.
        Err(error) if draft.engine == EngineKind::Neural => Err(error),
        Err(error) => {
            let answer = alone(notes, format!("made-up rows are refused: {error:#}"));
            Ok((draft.engine, answer))
        }
    }
}

/// A graph on its way to a component.
struct Draft<'a> {
    source: &'a Source,
    /// The program, if the tabular engine runs the graph.
    lowered: Option<&'a Lowered>,
    /// The graph, if the neural one does.
    neural: Cow<'a, [u8]>,
    engine: EngineKind,
    outputs: Vec<GraphOutput>,
}

impl<'a> Draft<'a> {
    fn new(source: &'a Source, lowered: &'a Result<Lowered, Unsupported>) -> Result<Draft<'a>, Unsupported> {
        let lowered = lowered.as_ref().ok();
        let (engine, neural) = match lowered {
            Some(_) => (EngineKind::Tabular, Cow::default()),
            None => (EngineKind::Neural, source.neural()?),
        };
        let inlined = lower::inlined(&source.model);
        let graph = inlined.as_ref().and_then(|model| model.graph.as_ref());
        let known = lowered.map(|lowered| &lowered.outputs[..]);
        Ok(Draft {
            source,
            lowered,
            neural,
            engine,
            outputs: outputs::of_graph(graph.unwrap_or(source.graph()), known),
        })
    }

    /// What the bundle holds beside the manifest.
    fn body(&self) -> (Section, &[u8]) {
        match self.lowered {
            Some(lowered) => (Section::Program, &lowered.image),
            None => (Section::Onnx, &self.neural),
        }
    }

    fn columns_needed(&self) -> Option<u64> {
        columns_needed(&self.lowered?.image)
    }

    /// Whether rows may be run together.
    ///
    /// # Errors
    /// When the program is damaged, which a lowered one is not.
    fn batch(&self, derived: &Derived, data: Option<&Table>) -> Result<bool, ProgramError> {
        let image = match self.lowered {
            Some(lowered) if !features::fixed_batch(&self.source.inputs) => &lowered.image,
            // tract's graph is made for one record.
            _ => return Ok(false),
        };
        let program = Program::load(Image::from(image.to_vec()))?;
        let of = |start, count| rows::tensors(&derived.features, &derived.inputs, data, start, count);
        Ok(batch::keeps_rows_apart(&program, [&of(0, 5), &of(5, 7)]))
    }

    /// The manifest without what running rows will tell.
    fn manifest(
        &self,
        derived: Derived,
        data: Option<&Table>,
        provenance: Provenance,
    ) -> Result<Manifest, ProgramError> {
        Ok(Manifest {
            format: FORMAT,
            name: String::new(),
            version: String::new(),
            engine: self.engine,
            task: Task::Transform,
            unknown: Unknown::default(),
            batch: self.batch(&derived, data)?,
            reference: Reference {
                rows: 0,
                columns: derived.columns.clone(),
            },
            features: derived.features,
            inputs: derived.inputs,
            output: Output {
                labels: Labels::default(),
                positive: None,
                label: None,
                scores: vec![0],
                width: 0,
                kind: ScoreKind::Value,
            },
            baseline: None,
            provenance,
        })
    }

    fn load(&self, packer: &Packer<'_>, manifest: &Manifest) -> anyhow::Result<snapshot::Loaded> {
        packer.load(&write_bundle(manifest, self.body(), None)?)
    }

    /// Settles how the outputs are read: in the likeliest way with which rows
    /// run.
    ///
    /// # Errors
    /// When the rows do not run however the outputs are read, or when these
    /// contradict the signature.
    fn settle(
        &self,
        packer: &Packer<'_>,
        manifest: &mut Manifest,
        overrides: &Overrides,
        data: Option<&Table>,
        rows: Vec<usize>,
        progress: &dyn Progress,
    ) -> anyhow::Result<()> {
        let run = |loaded: &mut snapshot::Loaded, manifest: &Manifest| {
            let answers = Answers::of(loaded, manifest, data, rows.clone(), progress)?;
            match &answers.first_rejection {
                Some(first) if answers.failed == rows.len() => bail!("{first}"),
                _ => Ok(answers),
            }
        };
        let batch = manifest.batch;
        let mut first_error = None;
        for reading in outputs::readings(&self.outputs, overrides).map_err(|e| anyhow!(e))? {
            manifest.task = match reading.labels.len() {
                0 => Task::Transform,
                2 => Task::Binary,
                _ => Task::Multiclass,
            };
            manifest.output = reading;
            manifest.batch = false;
            let mut loaded = self.load(packer, manifest)?;
            let settled = run(&mut loaded, manifest).and_then(|answers| {
                let probe = Probe {
                    scores: answers.scores.clone(),
                    labels: answers.labels.clone(),
                };
                let settled = outputs::settle(&self.outputs, manifest.output.clone(), &probe, overrides);
                Ok((settled.map_err(|e| anyhow!(e))?, answers))
            });
            let ((task, output), alone) = match settled {
                Ok(settled) => settled,
                Err(error) => {
                    first_error.get_or_insert(error);
                    continue;
                }
            };
            // What was found of the program is held against what it does.
            if batch {
                manifest.batch = true;
                let together = run(&mut self.load(packer, manifest)?, manifest);
                manifest.batch = together.is_ok_and(|together| together.entries == alone.entries);
            }
            (manifest.task, manifest.output) = (task, output);
            return Ok(());
        }
        Err(first_error.unwrap_or_else(|| anyhow!("no output can be read")))
    }
}

/// Packs a model.
///
/// # Errors
/// One clear sentence naming the thing that is wrong; nothing is written then.
pub fn pack(options: &PackOptions, progress: &dyn Progress) -> anyhow::Result<PackReport> {
    let start = Instant::now();
    let bundle_path = options.output.with_extension("bundle");
    let source = Source::read(&options.model)?;
    check_output(options, &bundle_path)?;
    let overrides = read_overrides(options.signature.as_deref())?;
    let read = |path: &Option<PathBuf>| -> anyhow::Result<Option<Table>> {
        path.as_ref().map(|p| Ok(Table::read(p, progress)?)).transpose()
    };
    let data = read(&options.data)?;
    let holdout = read(&options.holdout)?;
    let expected = read(&options.expected)?;
    if expected.is_some() && data.is_none() {
        bail!("--expected holds answers to the rows of --data, which is not given");
    }
    if holdout.is_some() && data.is_none() {
        bail!("--holdout adds to the reference of --data, which is not given");
    }
    if let (Some(label), Some(table)) = (&options.label, &data)
        && table.column(label).is_none()
    {
        let names: Vec<&str> = table.columns.iter().map(|c| c.name.as_str()).collect();
        bail!(
            "the data have no column {label:?} (--label); they have {}",
            names.join(", ")
        );
    }

    let model_name = options.model.display();
    let lowered = source.lower();
    let draft = Draft::new(&source, &lowered).with_context(|| model_name.to_string())?;
    let generic = embedded::component(draft.engine, options.wasi).map_err(|e| match &lowered {
        Err(unsupported) => anyhow!("{unsupported}; and {e}").context(model_name.to_string()),
        Ok(_) => anyhow!(e),
    })?;

    let derived = features::derive(
        &source.inputs,
        data.as_ref(),
        options.label.as_deref(),
        &overrides,
        &source.feature_names(),
        draft.columns_needed(),
    )
    .map_err(|e| anyhow!(e))
    .with_context(|| model_name.to_string())?;

    let mut manifest = Manifest {
        name: match options.name.as_ref().or(overrides.name.as_ref()) {
            Some(name) => checked_name(name)?,
            None => stem(&options.model),
        },
        version: match options.model_version.as_ref().or(overrides.version.as_ref()) {
            Some(version) => checked_version(version)?,
            None => "1.0.0".into(),
        },
        unknown: options.unknown.or(overrides.unknown).unwrap_or_default(),
        ..draft.manifest(derived, data.as_ref(), provenance(&source, options)?)?
    };

    progress.start("preparing the component", None, Unit::Rows);
    let packer = Packer::new(generic)?;
    let reference_rows = data.as_ref().map_or(rows::SYNTHETIC, Table::rows);
    let probe_rows = rows::spread(reference_rows, PROBE_ROWS);
    let named = |error: anyhow::Error| {
        match &lowered {
            Err(unsupported) => anyhow!("{unsupported}, and the neural engine does not run it either: {error:#}"),
            Ok(_) => error,
        }
        .context(model_name.to_string())
    };
    let loaded = |manifest: &Manifest| draft.load(&packer, manifest).map_err(named);
    draft
        .settle(&packer, &mut manifest, &overrides, data.as_ref(), probe_rows, progress)
        .map_err(named)?;

    let mut settled = loaded(&manifest)?;
    let mut notes = Vec::new();
    let rows_min = Thresholds::default().rows_min;
    if data.is_some() && (reference_rows as u64) < rows_min {
        notes.push(format!(
            "{reference_rows} rows of reference are too few to measure drift against; {rows_min} are needed"
        ));
    }
    let every = (0..reference_rows).collect();
    let answers = Answers::of(&mut settled, &manifest, data.as_ref(), every, progress)?;
    if let Some(rejected) = &answers.first_rejection {
        let note = format!(
            "{} of {reference_rows} rows of the data are not accepted by the signature, the first one: {rejected}",
            answers.rejected
        );
        if answers.rejected == reference_rows {
            bail!("{note}");
        }
        notes.push(note);
    }
    if let (Some(expected), Some(data)) = (&expected, &data) {
        let difference = rows::compare(expected, data.rows(), &answers, &manifest, options.tolerance)
            .map_err(|e| anyhow!(e))
            .with_context(|| {
                format!(
                    "{} (--expected)",
                    options.expected.as_deref().unwrap_or(Path::new("")).display()
                )
            })?;
        manifest.provenance.expected_max_difference = Some(difference);
    }
    let held_out = match &holdout {
        Some(table) => {
            let missing = manifest.features.iter().filter(|f| table.column(&f.name).is_none());
            let missing: Vec<String> = missing.map(|feature| format!("{:?}", feature.name)).collect();
            if !missing.is_empty() {
                let file = options.holdout.as_deref().unwrap_or(Path::new("")).display();
                bail!("{file} (--holdout): there is no column {}", missing.join(", "));
            }
            let every = (0..table.rows()).collect();
            let held_out = Answers::of(&mut settled, &manifest, Some(table), every, progress).context("--holdout")?;
            if let Some(rejected) = &held_out.first_rejection {
                let note = format!(
                    "{} of {} rows of the holdout are not accepted by the signature, the first one: {rejected}",
                    held_out.rejected,
                    table.rows()
                );
                if held_out.good == 0 {
                    bail!("{note}");
                }
                notes.push(note);
            }
            Some(held_out)
        }
        None => None,
    };
    if data.is_none() {
        notes.push("without --data there is no reference: ranges are unknown, and drift can't be measured".into());
    } else if holdout.is_none() {
        notes.push(
            "without --holdout the drift of predictions can't be measured: scores of training rows are too good".into(),
        );
    }
    add_reference(&mut manifest, data.is_some(), &answers, held_out.as_ref());
    if let (None, Some(data), Some(label)) = (&holdout, &data, &options.label) {
        notes.extend(foreign_label(&manifest, data, label));
    }
    manifest.baseline = baseline(&manifest, options, holdout.as_ref().zip(held_out.as_ref()), &mut notes)?;

    let golden = golden(&mut settled, &manifest, data.as_ref(), reference_rows)?;
    progress.start("packing", None, Unit::Rows);
    let golden_json = serde_json::to_vec(&golden)?;
    let bundle = write_bundle(&manifest, draft.body(), Some(&golden_json))?;
    let bundle_sha256 = sha256_hex(&bundle);
    let mut component = packer.snapshot(packer.load(&bundle)?)?;
    if let Some(lowered) = draft.lowered {
        let program = Program::load(Image::from(lowered.image.clone()))?;
        component = prune::prune(&component, &program.operators())?;
    }
    artifact::append_sections(
        &mut component,
        &[
            (MANIFEST_SECTION, &serde_json::to_vec(&manifest)?),
            (GOLDEN_SECTION, &golden_json),
            (BUNDLE_SECTION, bundle_sha256.as_bytes()),
        ],
    );
    artifact::append_checksum(&mut component);
    write_file(&bundle_path, &bundle)?;
    if let Err(error) = write_file(&options.output, &component) {
        // Half of a pair is worse than none.
        let _ = std::fs::remove_file(&bundle_path);
        return Err(error);
    }
    progress.finish();
    Ok(PackReport {
        output: options.output.clone(),
        bundle: bundle_path,
        bytes: component.len() as u64,
        sha256: sha256_hex(&component),
        bundle_sha256,
        golden_rows: golden.rows.len(),
        expected_rows: expected.as_ref().map_or(0, Table::rows),
        notes,
        elapsed_ms: start.elapsed().as_millis() as u64,
        manifest,
    })
}

fn check_output(options: &PackOptions, bundle: &Path) -> anyhow::Result<()> {
    let output = &options.output;
    if is_standard(output) {
        bail!("-o: the component and its bundle are files; give the name of one");
    }
    if bundle == output {
        bail!(
            "{}: the component can't have the extension .bundle, which the bundle has",
            output.display()
        );
    }
    for path in [output.as_path(), bundle] {
        if path.is_dir() {
            bail!("{} is a directory", path.display());
        }
        let inputs = [
            Some(&options.model),
            options.data.as_ref(),
            options.holdout.as_ref(),
            options.expected.as_ref(),
            options.signature.as_ref(),
        ];
        not_an_input(path, inputs.into_iter().flatten().map(PathBuf::as_path))?;
        if !options.force && path.exists() {
            bail!("{} exists; --force overwrites it", path.display());
        }
    }
    let parent = match output.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if !parent.is_dir() {
        bail!(
            "{}: the directory {} does not exist",
            output.display(),
            parent.display()
        );
    }
    // Found out now, not after the work is done.
    tempfile::Builder::new()
        .tempfile_in(parent)
        .with_context(|| format!("{} can't be written", output.display()))?;
    Ok(())
}

fn read_overrides(path: Option<&Path>) -> anyhow::Result<Overrides> {
    let Some(path) = path else {
        return Ok(Overrides::default());
    };
    let named = || format!("{} (--signature)", path.display());
    let text = std::fs::read_to_string(path).with_context(named)?;
    let overrides: Overrides = serde_json::from_str(&text).with_context(named)?;
    for feature in &overrides.features {
        if let Some(Range {
            min: Some(min),
            max: Some(max),
        }) = feature.allowed
            && min > max
        {
            return Err(anyhow!(
                "feature {:?}, \"allowed\": the least, {min}, is above the most, {max}",
                feature.name
            )
            .context(named()));
        }
    }
    Ok(overrides)
}

/// Whether a model may have this character in its name, which is a part of
/// paths and of metrics' labels.
fn in_names(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}

fn checked_name(name: &str) -> anyhow::Result<String> {
    match (1..=128).contains(&name.len()) && name.chars().all(in_names) {
        true => Ok(name.to_owned()),
        false => bail!("the name {name:?}: expected 1 to 128 letters, digits, '-', '_' or '.'"),
    }
}

fn checked_version(version: &str) -> anyhow::Result<String> {
    match (1..=128).contains(&version.len()) && !version.chars().any(|c| c.is_control() || c.is_whitespace()) {
        true => Ok(version.to_owned()),
        false => bail!("the version {version:?}: expected 1 to 128 characters without spaces, such as 1.0.0"),
    }
}

fn stem(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    match stem
        .chars()
        .take(128)
        .map(|c| if in_names(c) { c } else { '-' })
        .collect::<String>()
    {
        name if name.is_empty() => "model".into(),
        name => name,
    }
}

/// The columns that the program reads of its first input, where an operator
/// that counts them reads it directly.
fn columns_needed(image: &[u8]) -> Option<u64> {
    use modelet::ops::Op;
    use modelet::program::Source;
    let program = Program::load(Image::from(image.to_vec())).ok()?;
    let first = program
        .instructions()
        .iter()
        .find(|i| i.inputs.contains(&Source::Input(0)))?;
    match &first.op {
        Op::Tree(tree) => Some(u64::from(tree.columns)),
        Op::TreeGeneral(tree) => Some(u64::from(tree.columns)),
        Op::Linear(linear) => Some((linear.weights.len() / linear.intercepts.len().max(1)) as u64),
        Op::Svm(svm) => Some(u64::from(svm.columns)),
        Op::Scaler(scaler) => Some(scaler.offset.len().max(scaler.scale.len()) as u64),
        _ => None,
    }
}

fn provenance(source: &Source, options: &PackOptions) -> anyhow::Result<Provenance> {
    let data_sha256 = match &options.data {
        Some(path) if !crate::data::is_standard(path) => Some(sha256_hex(&std::fs::read(path)?)),
        _ => None,
    };
    Ok(Provenance {
        modelet: env!("CARGO_PKG_VERSION").into(),
        onnx_sha256: sha256_hex(&source.bytes),
        onnx_bytes: source.bytes.len() as u64,
        producer: source.producer(),
        opsets: source.model.opsets(),
        operators: source.operators(),
        data_sha256,
        expected_max_difference: None,
    })
}

/// Counts how the reference fills the bins, and adds the columns of the label
/// and the score. Those are counted over the held-out rows alone: scores of
/// training rows are too good to hold later ones against.
fn add_reference(manifest: &mut Manifest, has_data: bool, answers: &Answers, held_out: Option<&Answers>) {
    let reference = &mut manifest.reference;
    let output = &manifest.output;
    let counted = |known: bool, bins: &Bins, numbers: &mut dyn Iterator<Item = u8>| -> Vec<u64> {
        if !known {
            return Vec::new();
        }
        let mut counts = vec![0; bins.len()];
        for number in numbers {
            if let Some(count) = counts.get_mut(number as usize) {
                *count += 1;
            }
        }
        counts
    };
    if has_data {
        reference.rows = answers.good as u64;
    }
    for (index, column) in reference.columns.iter_mut().enumerate() {
        let numbers = answers.bins.iter().skip(index).step_by(answers.columns.max(1));
        column.counts = counted(has_data, &column.bins, &mut numbers.copied());
    }
    let scored = held_out.unwrap_or(answers);
    let known = held_out.is_some();
    if !output.labels.is_empty() {
        let labels = (0..output.labels.len()).map(|i| Category::Name(output.labels.text(i)));
        let mut column = Column::new("prediction", Bins::from_categories(labels.collect()));
        let bins = &column.bins;
        column.counts = counted(known, bins, &mut scored.classes.iter().map(|&class| bins.index(class)));
        reference.columns.push(column);
    }
    let mut column = match output.kind {
        ScoreKind::Probability => Column::new("score", Bins::uniform(0.0, 1.0)),
        _ => Column::of_numbers("score", if has_data { &scored.monitored } else { &[] }),
    };
    let bins = &column.bins;
    column.counts = counted(
        known,
        bins,
        &mut scored.monitored.iter().map(|&score| bins.number(score)),
    );
    reference.columns.push(column);
}

/// What the model's later performance is held against: measured on the holdout
/// where it has the label, or told.
fn baseline(
    manifest: &Manifest,
    options: &PackOptions,
    holdout: Option<(&Table, &Answers)>,
    notes: &mut Vec<String>,
) -> anyhow::Result<Option<Baseline>> {
    let Some(judge) = Judge::new(manifest) else {
        if let Some(name) = options.baseline.keys().next() {
            bail!(
                "--baseline {name}: a model of the task {} has no such figures",
                manifest.task.name()
            );
        }
        if options.label.is_some() {
            notes.push(format!("--label: {}", unjudged(manifest)));
        }
        return Ok(None);
    };
    let known = judge.metric_names();
    for (name, &value) in &options.baseline {
        let (expected, good) = match name.as_str() {
            name if !known.contains(&name) => {
                bail!("--baseline: expected one of {} but got {name:?}", known.join(", "))
            }
            "bias" => ("a number", value.is_finite()),
            "r2" => ("a number of at most 1", value <= 1.0),
            "log_loss" | "mae" | "rmse" => ("a number of at least 0", value >= 0.0),
            _ => ("a number from 0 to 1", (0.0..=1.0).contains(&value)),
        };
        if !good {
            bail!("--baseline {name}: expected {expected} but got {value}");
        }
    }
    let mut baseline = Baseline::default();
    if let (Some((table, answers)), Some(label)) = (holdout, &options.label) {
        match table.column(label) {
            Some(column) => measure(&mut baseline, &judge, &column.values, answers)
                .with_context(|| format!("--holdout, column {label:?}"))?,
            None => notes.push(format!(
                "the holdout has no column {label:?}: it can't tell how good the model is"
            )),
        }
    }
    for (name, value) in &options.baseline {
        baseline.metrics.insert(name.clone(), *value);
    }
    Ok((!baseline.metrics.is_empty()).then_some(baseline))
}

/// What is wrong with the first label of the data that is none of the model's.
fn foreign_label(manifest: &Manifest, data: &Table, label: &str) -> Option<String> {
    let judge = Judge::new(manifest)?;
    let values = &data.column(label)?.values;
    let wrong = |row: usize| Some((row, read_label(&judge, values.get(row)).err()?));
    let (row, what) = (0..values.len()).find_map(wrong)?;
    Some(format!(
        "column {label:?} (--label), row {}: {what}; with such labels the model's performance can't be measured",
        row + 1
    ))
}

fn measure(baseline: &mut Baseline, judge: &Judge, labels: &Values, answers: &Answers) -> anyhow::Result<()> {
    let mut sums = Sums::new();
    let answered = answers.entries.iter().enumerate().filter(|(_, entry)| entry.is_some());
    for (at, (row, _)) in answered.enumerate() {
        let read = read_label(judge, labels.get(row));
        let Some(truth) = read.map_err(|what| anyhow!("row {}: {what}", row + 1))? else {
            continue;
        };
        let predicted = Predicted {
            class: answers.classes[at] as u32,
            score: answers.monitored[at],
        };
        truth::merge(&mut sums, &judge.judge(predicted, &truth));
    }
    let performance = judge.performance(&sums, &BTreeMap::new());
    baseline.rows = performance.labelled;
    baseline.metrics = performance
        .metrics
        .into_iter()
        .map(|(name, metric)| (name, metric.value))
        .collect();
    baseline.positives = judge.positives(&sums);
    Ok(())
}

/// Golden rows, with the answers of the component itself.
fn golden(
    loaded: &mut snapshot::Loaded,
    manifest: &Manifest,
    data: Option<&Table>,
    count: usize,
) -> anyhow::Result<Golden> {
    let mut golden = Golden::default();
    for row in rows::spread(count, GOLDEN_ROWS_MAX) {
        let request = rows::request(manifest, data, row);
        if let Ok(answer) = loaded.predict(&request)? {
            golden.rows.push(GoldenRow {
                request,
                answer: comparable(&answer).to_owned(),
            });
        }
    }
    Ok(golden)
}

fn write_bundle(manifest: &Manifest, body: (Section, &[u8]), golden: Option<&[u8]>) -> anyhow::Result<Vec<u8>> {
    let manifest = serde_json::to_vec(manifest)?;
    let mut sections = vec![(Section::Manifest, &manifest[..])];
    sections.extend(golden.map(|golden| (Section::Golden, golden)));
    sections.push(body);
    Ok(bundle::write(&sections))
}

/// Writes a file whole or not at all.
fn write_file(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let named = || format!("{} can't be written", path.display());
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut file = tempfile::Builder::new()
        .permissions(permissions())
        .tempfile_in(parent)
        .with_context(named)?;
    std::io::Write::write_all(&mut file, bytes).with_context(named)?;
    file.persist(path).map_err(|e| e.error).with_context(named)?;
    Ok(())
}

#[cfg(unix)]
fn permissions() -> std::fs::Permissions {
    use std::os::unix::fs::PermissionsExt;
    // Lessened by the process's umask, as for any file that it creates.
    std::fs::Permissions::from_mode(0o666)
}
