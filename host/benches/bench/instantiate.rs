//! Fresh instances: a store, an instance and its first answer.

use crate::load::ProcessStat;
use crate::models::{Ensemble, Rows};
use crate::report::{Limit, Section, Target};
use crate::stats::Times;
use crate::{Effort, credit};
use anyhow::{Result, anyhow};
use modelet_host::artifact::Artifact;
use modelet_host::pack::offline::offline;
use modelet_host::runtime::{Isolation, Runtime, RuntimeConfig};
use state::State;
use std::path::Path;
use wasmtime::component::Component;
use wasmtime::{Engine, Store};
use wasmtime_wasi::WasiCtxBuilder;

#[path = "../../src/pack/state.rs"]
mod state;

wasmtime::component::bindgen!({ path: "../wit", world: "model" });

/// Faults and times of new instances, each for one request.
struct Fresh {
    times: Times,
    faults: f64,
}

fn fresh(bodies: &[String], count: usize, mut answer: impl FnMut(&[u8]) -> Result<()>) -> Result<Fresh> {
    for body in bodies.iter().take(100) {
        answer(body.as_bytes())?;
    }
    let mut times = Times::default();
    let faults_before = ProcessStat::read("self")?.minor_faults();
    for body in bodies.iter().cycle().take(count) {
        times.measure(|| answer(body.as_bytes()))?;
    }
    Ok(Fresh {
        faults: (ProcessStat::read("self")?.minor_faults() - faults_before) / count as f64,
        times,
    })
}

pub fn measure(effort: Effort) -> Result<Section> {
    let count = effort.of(500, 10_000);
    let (small, large) = (Ensemble { trees: 100, depth: 6 }, Ensemble { trees: 500, depth: 8 });
    let (small_file, large_file) = (small.pack()?, large.pack()?);
    let mut section = Section {
        title: "Fresh instances",
        text: format!(
            "A new store and instance, its first answer to one row as JSON (20 features, rows that change), and the \
             end of the instance: what `--isolate request` does for each request. {count} of each. Beside the host, \
             which runs a component's core module, is the whole component under wasmtime's default configuration: \
             an instance that copies its memory in place of mapping it copy-on-write shows as time and faults \
             there first. The file holds code and memory image."
        ),
        header: vec![
            "model",
            "configuration",
            "p50 µs",
            "p99 µs",
            "page faults",
            "memory MiB",
            "file MB",
        ],
        ..Section::default()
    };
    for (name, file, rows) in [
        (small.name(), &small_file, Rows::of_ensemble(&small_file)?),
        (large.name(), &large_file, Rows::of_ensemble(&large_file)?),
        ("credit".into(), &credit(), Rows::of_credit()?),
    ] {
        let artifact = Artifact::open(file)?;
        let bodies = rows.single();
        let host = Runtime::new(RuntimeConfig {
            isolation: Isolation::Request,
            ..RuntimeConfig::default()
        })?;
        let loaded = host.load(&artifact)?;
        let ours = fresh(&bodies, count, |body| {
            let answer = loaded.predict(body, None)?;
            answer.map(drop).map_err(|problem| refused(&problem.body))
        })?;
        let plain = Plain::load(file)?;
        let theirs = fresh(&bodies, count, |body| plain.predict(body))?;
        if name == small.name() {
            section.targets.push(Target {
                what: "fresh instance with first answer, 100 trees, p50",
                unit: " µs",
                measured: ours.times.percentile_us(50),
                limit: Limit::AtMost(60.0),
            });
        }
        let memory = loaded.memory_bytes() as f64 / f64::from(1 << 20);
        for (configuration, fresh) in [("host", ours), ("component, wasmtime's default", theirs)] {
            section.rows.push(vec![
                name.clone(),
                configuration.into(),
                format!("{:.1}", fresh.times.percentile_us(50)),
                format!("{:.1}", fresh.times.percentile_us(99)),
                format!("{:.1}", fresh.faults),
                format!("{memory:.1}"),
                format!("{:.2}", artifact.bytes.len() as f64 / 1e6),
            ]);
        }
    }
    Ok(section)
}

fn refused(problem: &[u8]) -> anyhow::Error {
    anyhow!("{}", String::from_utf8_lossy(problem))
}

/// A component under wasmtime's default configuration.
struct Plain {
    pre: ModelPre<State>,
}

impl Plain {
    fn load(file: &Path) -> Result<Plain> {
        let engine = Engine::default();
        let component = Component::new(&engine, offline(&std::fs::read(file)?)?)?;
        let linker = state::linker(&engine)?;
        Ok(Plain {
            pre: ModelPre::new(linker.instantiate_pre(&component)?)?,
        })
    }

    fn predict(&self, body: &[u8]) -> Result<()> {
        let mut store: Store<State> = state::store(self.pre.engine(), WasiCtxBuilder::new().build());
        let model = self.pre.instantiate(&mut store)?;
        let answer = model
            .modelet_inference_predictor()
            .call_predict(&mut store, body, None)?;
        answer.map(drop).map_err(|problem| refused(&problem.body))
    }
}
