//! What the host watches of its models over time: windows of observations,
//! ground truth joined to predictions, alerts, retrain triggers, and where all
//! of it is kept.
//!
//! ```text
//!   requests ── Counters (shards, no lock) ──┐
//!   POST /observe ── deltas ─────────────────┤ flush   ┌── buckets ── windows ── GET /drift, alerts
//!   predictions ── a queue ──────────────────┴─────> Store
//!   POST /feedback ── joined by id ────────────────────┘── truth ── performance
//! ```
//!
//! The request path adds to counters and puts predictions into a queue. A
//! thread of its own does everything else, so the store may be slow, or away
//! for a while.

pub mod feedback;
pub mod html;
pub mod observed;
pub mod span;
pub mod status;
pub mod store;
pub mod watch;

use modelet::drift::report::Thresholds;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use store::Store;
use watch::{WatchConfig, Watched};

/// How the host monitors.
#[derive(Clone, Debug)]
pub struct MonitorConfig {
    /// How models are watched.
    pub watch: WatchConfig,
    /// How often what was counted is saved, at least. Default: 5 seconds.
    pub flush: Duration,
    /// The window of `GET /drift` where none is asked for. Default: 1 hour.
    pub window: Duration,
    /// When a difference is called drift.
    pub thresholds: Thresholds,
}

impl Default for MonitorConfig {
    fn default() -> MonitorConfig {
        MonitorConfig {
            watch: WatchConfig::default(),
            flush: Duration::from_secs(5),
            window: Duration::from_secs(3600),
            thresholds: Thresholds::default(),
        }
    }
}

/// The monitor of a process.
pub struct Monitor {
    models: Vec<Arc<Watched>>,
    store: Arc<dyn Store>,
    stop: Mutex<Option<(mpsc::Sender<()>, JoinHandle<()>)>>,
}

impl Monitor {
    /// Watches these models from now on.
    ///
    /// # Errors
    /// When the system has no thread to give.
    pub fn start(models: Vec<Arc<Watched>>, store: Arc<dyn Store>, config: &MonitorConfig) -> std::io::Result<Monitor> {
        let (stop, stopped) = mpsc::channel();
        let ticker = Ticker {
            models: models.clone(),
            store: Arc::clone(&store),
            bucket: Duration::from_secs(config.watch.bucket_s.into()),
            flush: config.flush,
        };
        let thread = std::thread::Builder::new()
            .name("modelet-monitor".into())
            .spawn(move || ticker.run(&stopped))?;
        Ok(Monitor {
            models,
            store,
            stop: Mutex::new(Some((stop, thread))),
        })
    }

    /// The models, in the order in which they are served.
    pub fn models(&self) -> &[Arc<Watched>] {
        &self.models
    }

    /// Where everything is kept.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Saves what was counted and stops. Blocks.
    pub fn stop(&self) {
        let running = self.stop.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((stop, thread)) = running {
            drop(stop);
            if thread.join().is_err() {
                tracing::error!("the monitor failed");
            }
        }
    }
}

struct Ticker {
    models: Vec<Arc<Watched>>,
    store: Arc<dyn Store>,
    bucket: Duration,
    flush: Duration,
}

impl Ticker {
    /// Flushes every few seconds and at the end of every bucket, until told to
    /// stop.
    fn run(self, stopped: &mpsc::Receiver<()>) {
        loop {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            let bucket_ms = self.bucket.as_millis().max(1);
            let left_ms = bucket_ms - now.as_millis() % bucket_ms;
            let pause = self.flush.min(Duration::from_millis(left_ms as u64));
            let stopping = !matches!(stopped.recv_timeout(pause), Err(mpsc::RecvTimeoutError::Timeout));
            for model in &self.models {
                // The model itself tells when its store fails.
                if model.flush().is_ok() {
                    let _ = model.learn();
                }
            }
            if stopping {
                return;
            }
            if let Err(error) = self.store.expire() {
                tracing::debug!("the store drops nothing: {error}");
            }
        }
    }
}
