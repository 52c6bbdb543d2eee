//! Requests to the same model in wasm and natively, in one process.

use crate::models::{Ensemble, Rows};
use crate::report::{Limit, Section, Target};
use crate::stats::{Times, median};
use crate::{Effort, credit};
use anyhow::{Context, Result, anyhow, ensure};
use modelet::api::{BatchOptions, Format, OnError, Service};
use modelet::model::Model;
use modelet_host::artifact::Artifact;
use modelet_host::runtime::{Loaded, Reply, Runtime, RuntimeConfig};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// One model, in both homes.
pub struct Pair {
    wasm: Arc<Loaded>,
    native: Service,
    start: Instant,
}

impl Pair {
    pub fn load(runtime: &Runtime, component: &Path) -> Result<Pair> {
        let bundle = fs::read(component.with_extension("bundle"))?;
        Ok(Pair {
            wasm: runtime.load(&Artifact::open(component)?)?,
            native: Service::new(Model::load(bundle)?),
            start: Instant::now(),
        })
    }

    /// The scores of the rows.
    pub fn wasm(&self, body: &str, options: Option<BatchOptions>) -> Result<Vec<f64>> {
        Ok(self.answer(body, options)?.observation.scores)
    }

    fn answer(&self, body: &str, options: Option<BatchOptions>) -> Result<Reply> {
        let answer = match options {
            Some(options) => self.wasm.predict_batch(body.as_bytes(), options, None),
            None => self.wasm.predict(body.as_bytes(), None),
        }?;
        answer.map_err(|problem| anyhow!("{}", String::from_utf8_lossy(&problem.body)))
    }

    pub fn native(&mut self, body: &str, options: Option<BatchOptions>) -> Result<()> {
        let start = self.start;
        let clock = || start.elapsed().as_nanos() as u64;
        let answer = match options {
            Some(options) => self.native.predict_batch(body.as_bytes(), options, None, clock),
            None => self.native.predict(body.as_bytes(), None, clock),
        };
        ensure!(answer.problem.is_none(), "{:?}", answer.problem);
        Ok(())
    }

    /// Both homes answer the bodies in turns, a round each.
    fn compare(&mut self, bodies: &[String], options: Option<BatchOptions>, rounds: usize) -> Result<Compared> {
        for body in bodies {
            self.wasm(body, options)?;
            self.native(body, options)?;
        }
        let mut compared = Compared::default();
        for _ in 0..rounds {
            let (mut wasm, mut native) = (Times::default(), Times::default());
            for body in bodies {
                let reply = wasm.measure(|| self.answer(body, options))?;
                compared.read.push(Duration::from_nanos(reply.inference_ns));
            }
            for body in bodies {
                native.measure(|| self.native(body, options))?;
            }
            compared.ratios.push(wasm.percentile_us(50) / native.percentile_us(50));
            compared.wasm.append(&wasm);
            compared.native.append(&native);
        }
        Ok(compared)
    }
}

#[derive(Default)]
struct Compared {
    wasm: Times,
    native: Times,
    /// In wasm, from the first byte read to the last prediction made.
    read: Times,
    ratios: Vec<f64>,
}

impl Compared {
    /// Times for each row, and the ratio.
    fn row(&self, model: &str, what: &str, rows: usize, [read, whole]: [String; 2]) -> Vec<String> {
        let us = |times: &Times, percent| format!("{:.2}", times.percentile_us(percent) / rows as f64);
        vec![
            model.into(),
            what.into(),
            us(&self.wasm, 50),
            us(&self.wasm, 99),
            us(&self.native, 50),
            us(&self.native, 99),
            format!("{:.2}", median(self.ratios.iter().copied())),
            read,
            whole,
        ]
    }
}

pub fn measure(effort: Effort) -> Result<Section> {
    let rounds = effort.of(3, 20);
    let runtime = Runtime::new(RuntimeConfig::default())?;
    let mut rows = Vec::new();
    let mut slowest_mb_s = f64::INFINITY;
    let stump = Ensemble { trees: 1, depth: 1 };
    let ensembles = [
        stump,
        Ensemble { trees: 100, depth: 6 },
        Ensemble { trees: 200, depth: 6 },
        Ensemble { trees: 500, depth: 8 },
    ];
    let mut models = vec![("credit".to_owned(), credit(), Rows::of_credit()?)];
    for ensemble in ensembles {
        let component = ensemble.pack()?;
        let requests = Rows::of_ensemble(&component)?;
        models.push((ensemble.name(), component, requests));
    }
    for (name, component, requests) in models {
        let load = || Pair::load(&runtime, &component);
        let mut pair = load().with_context(|| component.display().to_string())?;
        let single = pair.compare(&requests.single(), None, rounds)?;
        rows.push(single.row(&name, "1 row", 1, Default::default()));
        for (format, words, body) in [
            (Format::Json, "JSON", requests.json()),
            (Format::Ndjson, "NDJSON", requests.ndjson()),
            (Format::Csv, "CSV", requests.csv()),
        ] {
            let options = BatchOptions {
                format,
                on_error: OnError::Fail,
                full: false,
                rows_max: u32::MAX,
            };
            let bytes = body.len() as f64;
            let batch = pair.compare(&[body], Some(options), 3 * rounds)?;
            // Bytes a microsecond are megabytes a second.
            let (read, whole) = (
                bytes / batch.read.percentile_us(50),
                bytes / batch.wasm.percentile_us(50),
            );
            if name == stump.name() {
                slowest_mb_s = slowest_mb_s.min(read);
            }
            let what = format!("{} rows, {words}", requests.len());
            rows.push(batch.row(
                &name,
                &what,
                requests.len(),
                [format!("{read:.0}"), format!("{whole:.0}")],
            ));
        }
    }
    Ok(Section {
        title: "Inference",
        text: "From a request's bytes to its answer's bytes by the typed export of a warm instance, validation and \
               bins included, and by the same core compiled natively; microseconds for each row. Single rows change \
               from call to call. Ratios are medians over the rounds, which take turns. MB/s counts the bytes of a \
               batch's body in wasm: read, checked and predicted, and with the answer written as well; one tree of \
               depth 1 leaves little but the reading."
            .into(),
        header: vec![
            "model",
            "request",
            "wasm p50 µs/row",
            "p99",
            "native p50 µs/row",
            "p99",
            "wasm to native",
            "MB/s read",
            "MB/s answered",
        ],
        rows,
        targets: vec![Target {
            what: "batch bodies read, checked and predicted in wasm: the slowest format, 1 tree of depth 1",
            unit: " MB/s",
            measured: slowest_mb_s,
            limit: Limit::AtLeast(200.0),
        }],
    })
}
