//! `modelet score`: every row of a file, in bounded memory.
//!
//! The rows go to the component in chunks, as requests of a batch that asks
//! for every output, on as many threads as there are processors; the
//! predictions are written in the order of the rows.

mod answer;

use super::Status;
use super::predict::Fault;
use super::request::{Chunk, Columns, DEADLINE_MS, Value};
use crate::cli::{OnBadRow, ScoreArgs};
use crate::data::{Field, Format, Reader, Writer, not_an_input};
use crate::output::{Output, Progress, count, thousands};
use crate::runtime::{Loaded, RuntimeConfig};
use answer::{Layout, Row};
use anyhow::{Context, bail};
use std::time::Instant;

/// Faults of a row that are told.
const TOLD_MAX: usize = 3;

pub fn run(args: &ScoreArgs, output: &Output) -> anyhow::Result<Status> {
    not_an_input(&args.output, [args.model.as_path(), &args.rows])?;
    let artifact = super::open(&args.model)?;
    let manifest = &artifact.manifest;
    let format = |given: Option<Format>, path| match given {
        Some(format) => Ok(format),
        None => Format::of(path),
    };
    let input_format = format(args.format, &args.rows)?;
    let output_format = format(args.output_format, &args.output)?;
    let progress = output.progress();
    let mut reader = Reader::open(&args.rows, input_format, &*progress)?;
    let named = || args.rows.display().to_string();
    let mut columns = Columns::new(manifest, input_format, reader.columns()).with_context(named)?;
    let left = columns.carry_ids(&mut reader, args.id.as_deref()).with_context(named)?;
    if let Some(why) = left {
        output.note(why);
    }
    let dropped = columns.dropped(reader.columns());
    if !dropped.is_empty() {
        output.note(format!(
            "columns that are no features are left out: {}",
            dropped.join(", ")
        ));
    }

    let layout = Layout::new(manifest);
    let mut fields = layout.fields().to_vec();
    if let Some(id) = columns.carried() {
        let field = Field {
            name: reader.columns()[id].clone(),
            kind: reader.field_type(id),
        };
        if fields.iter().any(|f| f.name == field.name) {
            bail!("the id column {:?} has the name of a column of predictions", field.name);
        }
        fields.insert(0, field);
    }

    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let defaults = RuntimeConfig::default();
    let config = RuntimeConfig {
        deadline_ms: DEADLINE_MS,
        instances_max: defaults.instances_max.max(threads as u32),
        ..defaults
    };
    let loaded = super::load(&artifact, config, output)?;
    let mut writer = Writer::create(&args.output, output_format, &fields)?;
    let mut tally = Tally::new();
    loop {
        let mut chunks: Vec<Chunk> = Vec::with_capacity(threads);
        while chunks.len() < threads {
            match columns.next(&mut reader, tally.read)? {
                Some(chunk) => {
                    tally.read += chunk.rows as u64;
                    chunks.push(chunk);
                }
                None => break,
            }
        }
        if chunks.is_empty() {
            break;
        }
        let answers = std::thread::scope(|scope| {
            let calls: Vec<_> = chunks
                .iter()
                .map(|chunk| scope.spawn(|| predict(&loaded, chunk, &layout)))
                .collect();
            let answers = calls.into_iter().map(|call| match call.join() {
                Ok(answers) => answers,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            answers.collect::<anyhow::Result<Vec<_>>>()
        })
        .with_context(named)?;
        for (chunk, rows) in chunks.iter().zip(answers) {
            write(&mut writer, chunk, rows, args, layout.fields().len(), &mut tally)?;
        }
        tally.tell(&*progress);
    }
    if tally.read == 0 {
        bail!("{}: there is no row of data", named());
    }
    writer.finish()?;
    progress.finish();
    output.status(tally.summary());
    Ok(Status::Good)
}

/// How many rows there were, and what became of them.
struct Tally {
    start: Instant,
    read: u64,
    warned: u64,
    rejected: u64,
    first_rejection: Option<String>,
}

impl Tally {
    fn new() -> Tally {
        Tally {
            start: Instant::now(),
            read: 0,
            warned: 0,
            rejected: 0,
            first_rejection: None,
        }
    }

    fn rate(&self) -> String {
        let rate = self.read as f64 / self.start.elapsed().as_secs_f64().max(1e-9);
        format!("{} rows/s", thousands(rate as u64))
    }

    fn tell(&self, progress: &dyn Progress) {
        progress.tell(&format!("{}, {}", count(self.read, "row"), self.rate()));
    }

    fn summary(&self) -> String {
        let seconds = self.start.elapsed().as_secs_f64();
        let mut text = format!("scored {} in {seconds:.2} s", count(self.read - self.rejected, "row"));
        // Below this the rate tells more of the start than of the model.
        if seconds > 0.1 {
            text.push_str(&format!(", {}", self.rate()));
        }
        if self.warned > 0 {
            text.push_str(&format!(
                "\n{} with values that the reference data do not have",
                count(self.warned, "row")
            ));
        }
        if let Some(first) = &self.first_rejection {
            text.push_str(&format!(
                "\n{} not accepted, the first one: {first}",
                count(self.rejected, "row")
            ));
        }
        text
    }
}

fn predict(loaded: &Loaded, chunk: &Chunk, layout: &Layout) -> anyhow::Result<Vec<Row>> {
    let reply = chunk.answer(loaded, true)?;
    let rows = layout.read(&reply.body).with_context(|| chunk.named())?;
    if rows.len() != chunk.rows {
        bail!("{}: {} answers", chunk.named(), rows.len());
    }
    Ok(rows)
}

fn write(
    writer: &mut Writer,
    chunk: &Chunk,
    rows: Vec<Row>,
    args: &ScoreArgs,
    width: usize,
    tally: &mut Tally,
) -> anyhow::Result<()> {
    let empty = vec![Value::Missing; width];
    for (index, row) in rows.into_iter().enumerate() {
        let values = match &row {
            Row::Good { values, warned } => {
                tally.warned += u64::from(*warned);
                values
            }
            Row::Bad(faults) => {
                let reason = format!("row {}: {}", chunk.first + index as u64, reason(faults));
                if args.on_error == OnBadRow::Stop {
                    bail!(
                        "{}: {reason} (--on-error skip or null goes on without such rows)",
                        args.rows.display()
                    );
                }
                tally.rejected += 1;
                tally.first_rejection.get_or_insert(reason);
                match args.on_error {
                    OnBadRow::Null => &empty,
                    OnBadRow::Stop | OnBadRow::Skip => continue,
                }
            }
        };
        let cells: Vec<_> = chunk
            .carried
            .get(index)
            .into_iter()
            .chain(values)
            .map(Value::cell)
            .collect();
        writer.row(&cells)?;
    }
    Ok(())
}

fn reason(faults: &[Fault]) -> String {
    let mut told: Vec<String> = faults
        .iter()
        .take(TOLD_MAX)
        .map(|fault| match &fault.feature {
            Some(feature) => format!("{feature:?}: {}", fault.message),
            None => fault.message.clone(),
        })
        .collect();
    if faults.len() > TOLD_MAX {
        told.push(format!("and {} more", faults.len() - TOLD_MAX));
    }
    match told.is_empty() {
        true => "it is not accepted".into(),
        false => told.join("; "),
    }
}
