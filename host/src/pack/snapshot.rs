//! Loading a bundle into the generic component and keeping what is then in
//! memory: the packed component.
//!
//! Everything that could make two runs differ is fixed: random numbers and
//! clocks are constant, and NaN has one form.

use super::bindings::Model;
use super::bindings::exports::modelet::inference::predictor as wit;
use super::offline::offline;
use super::state::{State, linker, store};
use anyhow::{Context as _, anyhow};
use std::future::Future;
use std::pin::pin;
use std::task::{Poll, Waker};
use std::time::Duration;
use wasmtime::component::{Component, ComponentNamedList, Instance, Lift, Linker, WasmList};
use wasmtime::{Config, Engine, Store, Strategy};
use wasmtime_wasi::random::Deterministic;
use wasmtime_wasi::{HostMonotonicClock, HostWallClock, WasiCtxBuilder};
use wasmtime_wizer::{ComponentContext, ComponentInstanceState, Wizer};

/// A generic component, compiled for packing.
pub struct Packer<'a> {
    wizer: Wizer,
    context: ComponentContext<'a>,
    engine: Engine,
    component: Component,
    linker: Linker<State>,
}

/// A generic component with a bundle loaded.
pub struct Loaded {
    store: Store<State>,
    instance: Instance,
    model: Model,
}

struct Frozen;

impl HostWallClock for Frozen {
    fn resolution(&self) -> Duration {
        Duration::from_secs(1)
    }
    fn now(&self) -> Duration {
        Duration::ZERO
    }
}

impl HostMonotonicClock for Frozen {
    fn resolution(&self) -> u64 {
        1
    }
    fn now(&self) -> u64 {
        0
    }
}

impl<'a> Packer<'a> {
    /// Prepares the generic component.
    ///
    /// # Errors
    /// When it can't be instrumented or compiled, which for the embedded ones
    /// does not happen.
    pub fn new(generic: &'a [u8]) -> anyhow::Result<Packer<'a>> {
        let mut wizer = Wizer::new();
        // Without it the component would be invalid; init refuses a second call.
        wizer.keep_init_func(true);
        let (context, instrumented) = wizer
            .instrument_component(generic)
            .map_err(|e| anyhow!("instrumenting the generic component: {e:#}"))?;
        let instrumented = offline(&instrumented)?;
        // The code runs once, so the compiler that is quickly done is the
        // better one; it does not know every processor.
        let (engine, component) = compile(Strategy::Winch, &instrumented)
            .or_else(|_| compile(Strategy::Cranelift, &instrumented))
            .context("compiling the generic component")?;
        Ok(Packer {
            wizer,
            context,
            linker: linker(&engine)?,
            engine,
            component,
        })
    }

    /// Loads a bundle.
    ///
    /// # Errors
    /// With the component's own words when it refuses the bundle.
    pub fn load(&self, bundle: &[u8]) -> anyhow::Result<Loaded> {
        let wasi = WasiCtxBuilder::new()
            .secure_random(Deterministic::new(vec![0]))
            .insecure_random(Deterministic::new(vec![0]))
            .insecure_random_seed(0)
            .wall_clock(Frozen)
            .monotonic_clock(Frozen)
            .build();
        let mut store = store(&self.engine, wasi);
        let instance = self.linker.instantiate(&mut store, &self.component)?;
        let model = Model::new(&mut store, &instance)?;
        model
            .call_init(&mut store, bundle)
            // The guest's backtrace says nothing about the model.
            .map_err(|e| anyhow!("the component failed while loading the model: {}", e.root_cause()))?
            .map_err(|what| anyhow!(what))?;
        Ok(Loaded { store, instance, model })
    }

    /// The packed component.
    ///
    /// # Errors
    /// When the component does what a snapshot can't keep.
    pub fn snapshot(&self, mut loaded: Loaded) -> anyhow::Result<Vec<u8>> {
        let snapshot = self.wizer.snapshot_component(&self.context, &mut loaded);
        now(snapshot).map_err(|e| anyhow!("keeping the loaded component: {e:#}"))
    }
}

fn compile(strategy: Strategy, component: &[u8]) -> anyhow::Result<(Engine, Component)> {
    let mut config = Config::new();
    config.strategy(strategy).wasm_component_model_async(true);
    if strategy == Strategy::Cranelift {
        config.cranelift_nan_canonicalization(true);
    }
    let engine = Engine::new(&config)?;
    let component = Component::new(&engine, component)?;
    Ok((engine, component))
}

/// The value of a future that never waits: all calls here are synchronous.
fn now<T>(future: impl Future<Output = T>) -> T {
    let mut context = std::task::Context::from_waker(Waker::noop());
    match pin!(future).poll(&mut context) {
        Poll::Ready(value) => value,
        Poll::Pending => unreachable!("synchronous calls do not wait"),
    }
}

impl Loaded {
    /// Answers one record: the answer's body, or the problem's.
    ///
    /// # Errors
    /// When the component fails.
    pub fn predict(&mut self, body: &str) -> anyhow::Result<Result<String, String>> {
        let predictor = self.model.modelet_inference_predictor();
        let answer = predictor.call_predict(&mut self.store, body.as_bytes(), None)?;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(answer
            .map(|reply| text(reply.body))
            .map_err(|problem| text(problem.body)))
    }

    /// Answers rows of NDJSON with every output of the model.
    ///
    /// # Errors
    /// When the component fails, or refuses the batch as a whole.
    pub fn predict_rows(&mut self, rows: &str, count: usize) -> anyhow::Result<wit::Reply> {
        let options = wit::BatchOptions {
            format: wit::Format::Ndjson,
            on_error: wit::OnError::Report,
            full: true,
            rows_max: count as u32,
        };
        let predictor = self.model.modelet_inference_predictor();
        predictor
            .call_predict_batch(&mut self.store, rows.as_bytes(), options, None)?
            .map_err(|problem| anyhow!("{}", detail(&problem.body)))
    }
}

/// The sentence about this case in a problem document.
pub fn detail(problem: &[u8]) -> String {
    serde_json::from_slice::<serde_json::Value>(problem)
        .ok()
        .and_then(|p| Some(p.get("detail")?.as_str()?.to_owned()))
        .unwrap_or_else(|| String::from_utf8_lossy(problem).into_owned())
}

impl Loaded {
    fn accessor<R>(&mut self, instance: &str, func: &str) -> R
    where
        R: Lift + Send + Sync + 'static,
        (R,): ComponentNamedList,
    {
        let (_, outer) = self
            .instance
            .get_export(&mut self.store, None, instance)
            .expect("an instrumented component exports its state");
        let (_, func) = self
            .instance
            .get_export(&mut self.store, Some(&outer), func)
            .expect("an instrumented component exports its state");
        let func = self
            .instance
            .get_typed_func::<(), (R,)>(&mut self.store, func)
            .expect("an accessor has its type");
        func.call(&mut self.store, ()).expect("an accessor does not trap").0
    }
}

impl ComponentInstanceState for Loaded {
    async fn call_func_ret_list_u8(&mut self, instance: &str, func: &str, contents: impl FnOnce(&[u8]) + Send) {
        let list: WasmList<u8> = self.accessor(instance, func);
        contents(list.as_le_slice(&self.store));
    }

    async fn call_func_ret_s32(&mut self, instance: &str, func: &str) -> i32 {
        self.accessor(instance, func)
    }

    async fn call_func_ret_s64(&mut self, instance: &str, func: &str) -> i64 {
        self.accessor(instance, func)
    }

    async fn call_func_ret_f32(&mut self, instance: &str, func: &str) -> u32 {
        self.accessor::<f32>(instance, func).to_bits()
    }

    async fn call_func_ret_f64(&mut self, instance: &str, func: &str) -> u64 {
        self.accessor::<f64>(instance, func).to_bits()
    }
}
