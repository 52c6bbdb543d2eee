//! A loaded model, whichever engine runs it.

#[cfg(feature = "neural")]
mod neural;

use crate::bundle::{Bundle, BundleError, Section, sha256_hex};
use crate::engine::{RunError, Workspace};
use crate::program::{Image, Program, ProgramError};
use crate::record::Batch;
use crate::signature::{EngineKind, FORMAT, Manifest, ScoreKind, Task};
use crate::tensor::{Shape, Tensor, Values, View};
use crate::validate::Schema;
use std::fmt;

/// Rows that the engine runs at a time, so that its registers stay small
/// whatever the size of a batch.
const ROWS_AT_ONCE: usize = 1024;

/// A model, ready to run.
pub struct Model {
    manifest: Manifest,
    schema: Schema,
    engine: Engine,
    info: String,
    sha256: String,
}

enum Engine {
    Tabular(Program),
    #[cfg(feature = "neural")]
    Neural(neural::Graph),
}

/// Why a bundle could not be loaded.
#[derive(Debug)]
#[non_exhaustive]
pub enum LoadError {
    /// The file is not a bundle.
    Bundle(BundleError),
    /// The manifest can't be read, or contradicts itself or the program.
    Manifest(String),
    /// The program is damaged.
    Program(ProgramError),
    /// tract does not run the graph.
    Neural(String),
    /// The bundle needs the other engine's component.
    Engine(EngineKind),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadError::Bundle(e) => e.fmt(f),
            LoadError::Manifest(what) => write!(f, "manifest: {what}"),
            LoadError::Program(e) => e.fmt(f),
            LoadError::Neural(what) => write!(f, "neural engine: {what}"),
            LoadError::Engine(kind) => {
                write!(
                    f,
                    "the model needs the {kind:?} engine, which this module is built without"
                )
            }
        }
    }
}

impl std::error::Error for LoadError {}

impl From<BundleError> for LoadError {
    fn from(e: BundleError) -> LoadError {
        LoadError::Bundle(e)
    }
}

impl From<ProgramError> for LoadError {
    fn from(e: ProgramError) -> LoadError {
        LoadError::Program(e)
    }
}

impl Model {
    /// Loads a bundle and checks that its parts fit together.
    ///
    /// # Errors
    /// When the bundle is damaged or of another version, or needs an engine
    /// that this build does not have; see [`LoadError`].
    pub fn load(bundle: Vec<u8>) -> Result<Model, LoadError> {
        let sha256 = sha256_hex(&bundle);
        let sections = Bundle::parse(&bundle)?;
        let written = &bundle[sections.require(Section::Manifest)?];
        let manifest: Manifest = serde_json::from_slice(written).map_err(|e| LoadError::Manifest(e.to_string()))?;
        if manifest.format != FORMAT {
            return Err(LoadError::Manifest(format!(
                "format: expected {FORMAT} but got {}; pack the model again",
                manifest.format
            )));
        }
        let schema = Schema::new(&manifest).map_err(LoadError::Manifest)?;
        check_output(&manifest).map_err(LoadError::Manifest)?;
        let info = info(written, &sha256).ok_or_else(|| LoadError::Manifest("it is not UTF-8".into()))?;
        let engine = match manifest.engine {
            EngineKind::Tabular => {
                let range = sections.require(Section::Program)?;
                let program = Program::load(Image::new(bundle, range.start, range.end))?;
                if program.input_count() != manifest.inputs.len() {
                    return Err(LoadError::Manifest(format!(
                        "{} inputs where the program has {}",
                        manifest.inputs.len(),
                        program.input_count()
                    )));
                }
                let outputs = program.output_count();
                let named = manifest.output.scores.iter().chain(&manifest.output.label);
                if let Some(missing) = named.into_iter().find(|&&i| i as usize >= outputs) {
                    return Err(LoadError::Manifest(format!(
                        "output {missing} where the program has {outputs}"
                    )));
                }
                Engine::Tabular(program)
            }
            #[cfg(feature = "neural")]
            EngineKind::Neural => {
                let range = sections.require(Section::Onnx)?;
                Engine::Neural(neural::Graph::load(&bundle[range], &manifest).map_err(LoadError::Neural)?)
            }
            #[cfg(not(feature = "neural"))]
            EngineKind::Neural => return Err(LoadError::Engine(EngineKind::Neural)),
        };
        Ok(Model {
            manifest,
            schema,
            engine,
            info,
            sha256,
        })
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The signature, prepared for checking records.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// The identity of the model: the SHA-256 of its bundle, hexadecimal.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// The manifest with the model's identity, as JSON.
    pub fn info(&self) -> &str {
        &self.info
    }

    /// Runs the good records of a batch.
    ///
    /// # Errors
    /// When the model does not run on columns of its own signature.
    pub fn run(&self, batch: &Batch, state: &mut State, out: &mut Predictions) -> Result<(), RunError> {
        out.reset(&self.manifest);
        let rows = batch.good();
        let at_once = if self.manifest.batch { ROWS_AT_ONCE } else { 1 };
        if rows <= at_once {
            if rows > 0 {
                self.run_rows(batch.inputs(), rows, state, out)?;
            }
            return Ok(());
        }
        let mut start = 0;
        while start < rows {
            let count = at_once.min(rows - start);
            let part: Vec<Tensor> = batch
                .inputs()
                .iter()
                .map(|tensor| slice_rows(tensor, start, count))
                .collect();
            self.run_rows(&part, count, state, out)?;
            start += count;
        }
        Ok(())
    }

    /// Runs one of the good records of a batch, and adds its prediction.
    ///
    /// # Errors
    /// As for [`Model::run`].
    pub(crate) fn run_one(
        &self,
        batch: &Batch,
        row: usize,
        state: &mut State,
        out: &mut Predictions,
    ) -> Result<(), RunError> {
        let inputs: Vec<Tensor> = batch.inputs().iter().map(|tensor| slice_rows(tensor, row, 1)).collect();
        self.run_rows(&inputs, 1, state, out)
    }

    fn run_rows(
        &self,
        inputs: &[Tensor],
        rows: usize,
        state: &mut State,
        out: &mut Predictions,
    ) -> Result<(), RunError> {
        match &self.engine {
            Engine::Tabular(program) => {
                state.workspace.run(program, inputs)?;
                out.collect(&self.manifest, rows, |index| {
                    state.workspace.output(program, inputs, index)
                })
            }
            #[cfg(feature = "neural")]
            Engine::Neural(graph) => {
                let outputs = graph.run(inputs).map_err(RunError::Neural)?;
                out.collect(&self.manifest, rows, |index| outputs.get(index).map(Tensor::view))
            }
        }
    }
}

/// `/model/info`: the manifest, as the bundle has it, and the identity.
fn info(manifest: &[u8], sha256: &str) -> Option<String> {
    let mut info = std::str::from_utf8(manifest).ok()?.trim_end().to_owned();
    info.pop();
    info.push_str(",\"bundle_sha256\":\"");
    info.push_str(sha256);
    info.push_str("\"}");
    Some(info)
}

fn check_output(manifest: &Manifest) -> Result<(), String> {
    let output = &manifest.output;
    let classes = output.labels.len();
    if output.scores.is_empty() && output.label.is_none() {
        return Err("neither a label nor scores among the outputs".into());
    }
    match manifest.task {
        Task::Binary if classes != 2 => return Err(format!("{classes} classes of a binary model")),
        Task::Multiclass if classes == 0 => return Err("no classes of a multiclass model".into()),
        _ => {}
    }
    if output.positive.is_some_and(|p| p as usize >= classes) {
        return Err("the positive class is not one of the labels".into());
    }
    if output.width > 1 << 20 {
        return Err(format!("{} scores of a record", output.width));
    }
    Ok(())
}

fn slice_rows(tensor: &Tensor, start: usize, count: usize) -> Tensor {
    let view = tensor.view();
    let dims = view.shape.dims();
    let width: usize = dims[1..].iter().product();
    let mut new = [0; crate::tensor::RANK_MAX];
    new[..dims.len()].copy_from_slice(dims);
    new[0] = count;
    let shape = Shape::new(&new[..dims.len()]).unwrap_or_default();
    let mut part = Tensor::default();
    part.begin(view.dtype(), shape);
    part.append(view, start * width..(start + count) * width);
    part
}

/// Buffers of a model's runs, kept between them.
#[derive(Debug, Default)]
pub struct State {
    workspace: Workspace,
}

/// What a model said of the good records of a batch.
#[derive(Debug, Default)]
pub struct Predictions {
    /// Index of each record's class; empty without classes.
    pub classes: Vec<u32>,
    /// Integer labels that are not classes, such as a cluster's number.
    pub labels: Vec<i64>,
    /// Scores, `rows × width`.
    pub scores: Scores,
    /// Score columns.
    pub width: usize,
}

/// Scores in the model's own type, so that they are written with its digits.
#[derive(Clone, Debug, PartialEq)]
pub enum Scores {
    /// binary32.
    Float32(Vec<f32>),
    /// binary64.
    Float64(Vec<f64>),
    /// Integers.
    Int64(Vec<i64>),
}

impl Default for Scores {
    fn default() -> Scores {
        Scores::Float32(Vec::new())
    }
}

impl Scores {
    /// The score at `index` as binary64.
    pub fn get(&self, index: usize) -> Option<f64> {
        match self {
            Scores::Float32(v) => v.get(index).map(|&v| f64::from(v)),
            Scores::Float64(v) => v.get(index).copied(),
            Scores::Int64(v) => v.get(index).map(|&v| v as f64),
        }
    }

    fn clear(&mut self) {
        match self {
            Scores::Float32(v) => v.clear(),
            Scores::Float64(v) => v.clear(),
            Scores::Int64(v) => v.clear(),
        }
    }
}

impl Predictions {
    fn is_empty(&self) -> bool {
        self.classes.is_empty() && self.labels.is_empty() && self.scores.get(0).is_none()
    }

    /// Keeps the predictions for the first rows only.
    pub(crate) fn truncate(&mut self, rows: usize) {
        self.classes.truncate(rows);
        self.labels.truncate(rows);
        match &mut self.scores {
            Scores::Float32(v) => v.truncate(rows * self.width),
            Scores::Float64(v) => v.truncate(rows * self.width),
            Scores::Int64(v) => v.truncate(rows * self.width),
        }
    }

    pub(crate) fn reset(&mut self, manifest: &Manifest) {
        self.classes.clear();
        self.labels.clear();
        self.scores.clear();
        self.width = manifest.output.width as usize;
    }

    /// Takes the outputs for further rows.
    fn collect<'a>(
        &mut self,
        manifest: &Manifest,
        rows: usize,
        output: impl Fn(usize) -> Option<View<'a>>,
    ) -> Result<(), RunError> {
        let spec = &manifest.output;
        let wrong = |expected: String, got: Shape| RunError::Shape {
            op: "output",
            expected,
            got: got.dims().to_vec(),
        };
        let fetch =
            |index: u16| output(index as usize).ok_or_else(|| wrong(format!("output {index}"), Shape::vector(0)));
        let mut given = 0;
        for &index in &spec.scores {
            let view = fetch(index)?;
            if rows == 0 || view.shape.len() % rows != 0 {
                return Err(wrong(format!("{rows} rows"), view.shape));
            }
            given += view.shape.len() / rows;
        }
        // While a model is packed, the width is not known before the first run.
        if self.width == 0 && self.is_empty() {
            self.width = given;
        }
        if given != self.width {
            return Err(wrong(
                format!("{} scores a record, not {given}", self.width),
                Shape::vector(given),
            ));
        }
        if let [index] = spec.scores[..] {
            let view = fetch(index)?;
            macro_rules! append {
                ($variant:ident, $values:expr) => {{
                    if !matches!(self.scores, Scores::$variant(_)) {
                        self.scores = Scores::$variant(Vec::new());
                    }
                    if let Scores::$variant(scores) = &mut self.scores {
                        scores.extend($values);
                    }
                }};
            }
            match view.values {
                Values::Float32(v) => append!(Float32, v.iter().copied()),
                Values::Float64(v) => append!(Float64, v.iter().copied()),
                Values::Int64(v) => append!(Int64, v.iter().copied()),
                Values::Int32(v) => append!(Int64, v.iter().map(|&v| i64::from(v))),
                Values::Bool(v) | Values::Uint8(v) => append!(Int64, v.iter().map(|&v| i64::from(v))),
                Values::Int8(v) => append!(Int64, v.iter().map(|&v| i64::from(v))),
                Values::String(_) => {
                    return Err(RunError::Dtype {
                        op: "output",
                        got: view.dtype(),
                    });
                }
            }
        } else {
            // Several outputs side by side: binary64 holds each exactly.
            if !matches!(self.scores, Scores::Float64(_)) {
                self.scores = Scores::Float64(Vec::new());
            }
            let views = spec.scores.iter().map(|&i| fetch(i)).collect::<Result<Vec<_>, _>>()?;
            if let Scores::Float64(scores) = &mut self.scores {
                for row in 0..rows {
                    for view in &views {
                        let width = view.shape.len() / rows;
                        scores.extend((row * width..(row + 1) * width).map(|i| view.number(i).unwrap_or(f64::NAN)));
                    }
                }
            }
        }
        self.collect_labels(manifest, rows, fetch)
    }

    fn collect_labels<'a>(
        &mut self,
        manifest: &Manifest,
        rows: usize,
        fetch: impl Fn(u16) -> Result<View<'a>, RunError>,
    ) -> Result<(), RunError> {
        use crate::signature::Labels;
        let spec = &manifest.output;
        let Some(index) = spec.label else {
            if !spec.labels.is_empty() {
                self.choose(manifest, rows);
            }
            return Ok(());
        };
        let view = fetch(index)?;
        if view.shape.len() != rows {
            return Err(RunError::Shape {
                op: "label",
                expected: format!("{rows} labels"),
                got: view.shape.dims().to_vec(),
            });
        }
        let unknown = |got: String| RunError::Value {
            op: "label",
            what: format!("expected one of the signature's but got {got}"),
        };
        for row in 0..rows {
            match (&spec.labels, view.values) {
                (
                    Labels::Int64(labels),
                    Values::Int64(_)
                    | Values::Int32(_)
                    | Values::Uint8(_)
                    | Values::Int8(_)
                    | Values::Bool(_)
                    | Values::Float32(_)
                    | Values::Float64(_),
                ) => {
                    let value = match view.values {
                        Values::Int64(v) => v[row],
                        _ => view.number(row).unwrap_or(0.0) as i64,
                    };
                    if labels.is_empty() {
                        self.labels.push(value);
                    } else {
                        let class = labels.iter().position(|&l| l == value);
                        self.classes
                            .push(class.ok_or_else(|| unknown(value.to_string()))? as u32);
                    }
                }
                (Labels::String(labels), Values::String(v)) => {
                    let value = v.get(row);
                    let class = labels.iter().position(|l| l == value);
                    self.classes
                        .push(class.ok_or_else(|| unknown(format!("{value:?}")))? as u32);
                }
                _ => {
                    return Err(RunError::Dtype {
                        op: "label",
                        got: view.dtype(),
                    });
                }
            }
        }
        Ok(())
    }

    /// Without a label among the outputs the scores choose the class.
    fn choose(&mut self, manifest: &Manifest, rows: usize) {
        let start = self.classes.len();
        for row in start..start + rows {
            let score = |i: usize| self.scores.get(row * self.width + i).unwrap_or(f64::NAN);
            let class = if self.width == 1 {
                let threshold = if manifest.output.kind == ScoreKind::Probability {
                    0.5
                } else {
                    0.0
                };
                let positive = manifest.output.positive.unwrap_or(1);
                if score(0) > threshold {
                    positive
                } else {
                    1 - positive.min(1)
                }
            } else {
                (1..self.width).fold(0, |best, i| if score(i) > score(best) { i } else { best }) as u32
            };
            self.classes.push(class);
        }
    }

    /// What a monitor records of a row: the probability of the positive class
    /// for binary models and of the predicted class otherwise, the decision
    /// score likewise, or the (first) predicted value.
    pub fn score(&self, manifest: &Manifest, row: usize) -> f64 {
        self.scores
            .get(row * self.width + self.score_column(manifest, row))
            .or_else(|| self.labels.get(row).map(|&l| l as f64))
            .unwrap_or(f64::NAN)
    }

    pub(crate) fn score_column(&self, manifest: &Manifest, row: usize) -> usize {
        if self.width <= 1 {
            return 0;
        }
        match manifest.task {
            Task::Binary => manifest.output.positive.unwrap_or(1) as usize,
            // Where there are fewer scores than classes, none belongs to one.
            Task::Multiclass => match self.classes.get(row) {
                Some(&class) if manifest.output.labels.len() == self.width => class as usize,
                _ => 0,
            },
            _ => 0,
        }
    }
}
