//! Runs packed models: one engine a process, one compiled module a model, and a
//! pool of warm instances between calls.
//!
//! Calls are synchronous. A warm instance keeps its memory from call to call,
//! which is what makes a call cheap; with [`Isolation::Request`] each call has
//! a new one instead. An instance that trapped is never used again.

mod cache;
mod memory;
mod predictor;

use crate::artifact::Artifact;
use cache::CodeCache;
use memory::Account;
use modelet::api::BatchOptions;
use predictor::{Exports, Predictor, core_module};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};
use wasmtime::{
    Config, Engine, InstanceAllocationStrategy, Module, PoolConcurrencyLimitError, PoolingAllocationConfig, Store, Trap,
};

pub use predictor::{Observation, Problem, Reply};

/// How often the clock that stops guests ticks, and so how exact a deadline is.
const TICK: Duration = Duration::from_millis(10);
/// A module has one small table; a large model has no larger one.
const TABLE_ELEMENTS_MAX: usize = 100_000;
/// Up to this size a snapshot is mapped copy-on-write however sparse it is.
const IMAGE_BYTES_MAX: u64 = 1 << 30;
/// Compiling a module larger than this takes long enough to tell.
const SLOW_MODULE_BYTES: usize = 1 << 20;

/// Whether calls share instances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// Warm instances are used again.
    #[default]
    Pooled,
    /// Each call has a new instance.
    Request,
}

/// Where compiled code is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CodeCaching {
    /// In `$MODELET_CACHE`, `$XDG_CACHE_HOME/modelet` or `~/.cache/modelet`.
    #[default]
    Default,
    /// In this directory.
    Directory(PathBuf),
    /// Nowhere: every start compiles.
    Off,
}

/// How models are run.
#[derive(Clone, Debug)]
pub struct RuntimeConfig {
    /// Whether calls share instances. Default: pooled.
    pub isolation: Isolation,
    /// The most linear memory of an instance, in bytes. Default: 512 MiB.
    pub instance_memory_bytes_max: usize,
    /// How far the memory of an instance may have grown for it to be used
    /// again, in bytes: one huge batch should not be paid for ever. Default:
    /// 64 MiB.
    pub instance_growth_bytes_max: usize,
    /// The most instances alive at once, over all models. Default: 128.
    pub instances_max: u32,
    /// The longest that a call may take, in milliseconds, to the nearest 10.
    /// Default: 30,000.
    pub deadline_ms: u64,
    /// Where compiled code is kept.
    pub cache: CodeCaching,
    /// Told when something takes long, such as compiling. Default: nobody.
    pub progress: fn(&str),
}

impl Default for RuntimeConfig {
    fn default() -> RuntimeConfig {
        RuntimeConfig {
            isolation: Isolation::Pooled,
            instance_memory_bytes_max: 512 << 20,
            instance_growth_bytes_max: 64 << 20,
            instances_max: 128,
            deadline_ms: 30_000,
            cache: CodeCaching::Default,
            progress: |_| {},
        }
    }
}

/// The engine that all models share.
pub struct Runtime {
    config: RuntimeConfig,
    engine: Engine,
    cache: Option<CodeCache>,
    models: Models,
}

/// The loaded models, which share the pool of instances.
type Models = Arc<Mutex<Vec<Weak<Loaded>>>>;

impl Runtime {
    /// Starts the engine.
    ///
    /// # Errors
    /// When the system does not give the address space or the thread that the
    /// engine needs.
    pub fn new(config: RuntimeConfig) -> anyhow::Result<Runtime> {
        let engine = Engine::new(&engine_config(&config))?;
        tick(&engine)?;
        let directory = match &config.cache {
            CodeCaching::Default => cache::default_directory(),
            CodeCaching::Directory(directory) => Some(directory.clone()),
            CodeCaching::Off => None,
        };
        let cache = directory.and_then(|directory| {
            CodeCache::open(directory.clone())
                .inspect_err(|error| {
                    tracing::warn!(directory = %directory.display(), %error, "compiled code is not cached");
                })
                .ok()
        });
        Ok(Runtime {
            config,
            engine,
            cache,
            models: Models::default(),
        })
    }

    /// Makes a model ready to run: compiles it, or takes its code from the
    /// cache, and makes a first instance.
    ///
    /// # Errors
    /// When the component is not valid, does not fit the world, or does not
    /// start.
    pub fn load(&self, artifact: &Artifact) -> anyhow::Result<Arc<Loaded>> {
        let start = Instant::now();
        let (module, from_cache) = self.module(artifact)?;
        let mut loaded = Loaded {
            engine: self.engine.clone(),
            predictor: Predictor::new(&module)?,
            isolation: self.config.isolation,
            memory_bytes_max: self.config.instance_memory_bytes_max,
            growth_bytes_max: self.config.instance_growth_bytes_max,
            deadline_ticks: ticks(self.config.deadline_ms),
            idle: Mutex::new(Vec::new()),
            models: Arc::clone(&self.models),
            info: String::new(),
            memory_bytes: 0,
            load_time: Duration::ZERO,
            from_cache,
        };
        (loaded.info, loaded.memory_bytes) = loaded.call(|instance| {
            let info = instance.exports.info(&mut instance.store)?;
            Ok((info, instance.memory_bytes_at_start))
        })?;
        loaded.load_time = start.elapsed();
        let loaded = Arc::new(loaded);
        let mut models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        models.retain(|model| model.strong_count() > 0);
        models.push(Arc::downgrade(&loaded));
        Ok(loaded)
    }

    fn module(&self, artifact: &Artifact) -> anyhow::Result<(Module, bool)> {
        let cached = self
            .cache
            .as_ref()
            .map(|cache| (cache, cache.file(&self.engine, &artifact.file_sha256)));
        if let Some((cache, file)) = &cached
            && let Some(module) = cache.load(&self.engine, file)
        {
            return Ok((module, true));
        }
        let bytes = core_module(&artifact.bytes)?;
        if bytes.len() > SLOW_MODULE_BYTES {
            let manifest = &artifact.manifest;
            (self.config.progress)(&format!(
                "compiling {} {} ({} KiB), which takes a while the first time",
                manifest.name,
                manifest.version,
                bytes.len() >> 10
            ));
        }
        let module = Module::new(&self.engine, bytes)?;
        if let Some((cache, file)) = &cached
            && let Err(error) = cache.store(file, &module.serialize()?)
        {
            tracing::warn!(file = %file.display(), %error, "compiled code is not cached");
        }
        Ok((module, false))
    }
}

fn engine_config(config: &RuntimeConfig) -> Config {
    let mut pool = PoolingAllocationConfig::new();
    // Each has one memory and one table.
    pool.total_core_instances(config.instances_max)
        .total_memories(config.instances_max)
        .total_tables(config.instances_max)
        .max_memory_size(config.instance_memory_bytes_max)
        .table_elements(TABLE_ELEMENTS_MAX)
        // Below this it is cheaper to clear a table than to give its pages back.
        .table_keep_resident(64 << 10);
    let mut engine = Config::new();
    engine
        .epoch_interruption(true)
        .memory_guaranteed_dense_image_size(IMAGE_BYTES_MAX)
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    engine
}

/// Starts the clock that stops guests; it ends with the engine.
fn tick(engine: &Engine) -> std::io::Result<()> {
    let engine = engine.weak();
    std::thread::Builder::new()
        .name("modelet-epochs".into())
        .spawn(move || {
            while let Some(engine) = engine.upgrade() {
                engine.increment_epoch();
                drop(engine);
                std::thread::sleep(TICK);
            }
        })?;
    Ok(())
}

/// The number of ticks that give a call at least this long.
fn ticks(deadline_ms: u64) -> u64 {
    deadline_ms.div_ceil(TICK.as_millis() as u64).saturating_add(1)
}

/// Why a call gave neither an answer nor a problem.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallError {
    /// It took longer than it may.
    Deadline,
    /// The guest ran out of the memory that it may have.
    Memory {
        /// The most bytes that it may have.
        bytes_max: usize,
    },
    /// The guest failed: what is said is for the log.
    Trap(String),
    /// All instances are in use.
    Busy,
}

impl std::fmt::Display for CallError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CallError::Deadline => f.write_str("the model ran longer than it may"),
            CallError::Memory { bytes_max } => {
                write!(
                    f,
                    "the model needs more than the {} MiB of memory that it may have",
                    bytes_max >> 20
                )
            }
            CallError::Trap(what) => write!(f, "the model failed: {what}"),
            CallError::Busy => f.write_str("all instances are in use"),
        }
    }
}

impl std::error::Error for CallError {}

/// What a call gives: an answer, or the model's refusal of the input.
pub type Called = Result<Result<Reply, Problem>, CallError>;

/// A model that is ready to run.
pub struct Loaded {
    engine: Engine,
    predictor: Predictor,
    isolation: Isolation,
    memory_bytes_max: usize,
    growth_bytes_max: usize,
    deadline_ticks: u64,
    idle: Mutex<Vec<Instance>>,
    models: Models,
    info: String,
    memory_bytes: usize,
    load_time: Duration,
    from_cache: bool,
}

/// A model alive in its store.
struct Instance {
    store: Store<Account>,
    exports: Exports,
    memory_bytes_at_start: usize,
}

impl Loaded {
    /// Answers one record. `id` is written into the answer.
    ///
    /// # Errors
    /// When the guest fails; input that the model refuses is a [`Problem`].
    pub fn predict(&self, body: &[u8], id: Option<&str>) -> Called {
        self.call(|Instance { store, exports, .. }| exports.predict(store, body, id))
    }

    /// Answers many records.
    ///
    /// # Errors
    /// As for [`Loaded::predict`].
    pub fn predict_batch(&self, body: &[u8], options: BatchOptions, id: Option<&str>) -> Called {
        self.call(|Instance { store, exports, .. }| exports.predict_batch(store, body, options, id))
    }

    /// The manifest with the model's identity, as the component tells it.
    pub fn info(&self) -> &str {
        &self.info
    }

    /// Linear memory of a new instance, in bytes.
    pub fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    /// How long it took to load.
    pub fn load_time(&self) -> Duration {
        self.load_time
    }

    /// Whether its code came from the cache.
    pub fn from_cache(&self) -> bool {
        self.from_cache
    }

    fn call<R>(&self, function: impl FnOnce(&mut Instance) -> wasmtime::Result<R>) -> Result<R, CallError> {
        let warm = match self.isolation {
            Isolation::Pooled => self.idle().pop(),
            Isolation::Request => None,
        };
        let mut instance = match warm {
            Some(instance) => instance,
            None => self.instantiate()?,
        };
        instance.store.set_epoch_deadline(self.deadline_ticks);
        match function(&mut instance) {
            Ok(value) => {
                self.keep(instance);
                Ok(value)
            }
            Err(error) => Err(self.explain(&instance, &error)),
        }
    }

    fn instantiate(&self) -> Result<Instance, CallError> {
        loop {
            match self.try_instantiate() {
                // Another model may hold instances that nobody uses.
                Err(CallError::Busy) if self.free_one() => {}
                other => return other,
            }
        }
    }

    /// Ends an idle instance of another model; `false` if there is none.
    fn free_one(&self) -> bool {
        let models = self.models.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let freed = models
            .iter()
            .filter_map(Weak::upgrade)
            .find_map(|model| model.idle().pop());
        freed.is_some()
    }

    fn try_instantiate(&self) -> Result<Instance, CallError> {
        let mut store = memory::store(&self.engine, self.memory_bytes_max);
        store.set_epoch_deadline(self.deadline_ticks);
        match self.predictor.instantiate(&mut store) {
            Ok(exports) => Ok(Instance {
                exports,
                memory_bytes_at_start: store.data().bytes,
                store,
            }),
            Err(error) if error.is::<PoolConcurrencyLimitError>() => Err(CallError::Busy),
            Err(_) if store.data().exhausted => Err(CallError::Memory {
                bytes_max: self.memory_bytes_max,
            }),
            Err(error) => Err(CallError::Trap(format!("{error:#}"))),
        }
    }

    fn keep(&self, instance: Instance) {
        let memory = instance.store.data();
        let grown = memory.bytes - instance.memory_bytes_at_start;
        if self.isolation == Isolation::Pooled && grown <= self.growth_bytes_max && !memory.exhausted {
            self.idle().push(instance);
        }
    }

    fn explain(&self, instance: &Instance, error: &wasmtime::Error) -> CallError {
        if matches!(error.downcast_ref(), Some(Trap::Interrupt)) {
            CallError::Deadline
        } else if instance.store.data().exhausted {
            CallError::Memory {
                bytes_max: self.memory_bytes_max,
            }
        } else {
            CallError::Trap(format!("{error:#}"))
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<Instance>> {
        // The list is whole at every moment, so a panic elsewhere is no harm.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
