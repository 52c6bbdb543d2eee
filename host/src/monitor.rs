//! What the host watches of its models over time: windows of observations,
//! ground truth joined to predictions, alerts, retrain triggers, and where all
//! of it is kept.
//!
//! ```text
//!   requests ── Counters (shards, no lock) ──┐
//!   POST /observe ── deltas ─────────────────┤ flush   ┌── buckets ── windows ── GET /drift, Alerts ── Outbox
//!   predictions ── a queue ──────────────────┴─────> Store
//!   POST /feedback ── joined by id, or parked ─────────┘── truth ── performance
//! ```
//!
//! The request path adds to counters and puts predictions into a queue. A
//! thread of its own does everything else, so the store may be slow, or away
//! for a while.

pub mod alerts;
pub mod config;
pub mod feedback;
pub mod html;
pub mod notify;
pub mod observed;
pub mod outbox;
pub mod performance;
pub mod rules;
pub mod span;
pub mod status;
pub mod store;
pub mod triggers;
pub mod watch;

#[cfg(test)]
mod tests;

use alerts::Alerts;
use config::Config;
use outbox::{Outbox, Settings};
use status::{Question, Span, Status};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;
use store::Store;
use watch::Watched;

/// Replicas save what they counted at the end of a bucket; so much later, and
/// the pause between two flushes, a window is whole.
const GRACE: Duration = Duration::from_secs(1);

const HOUR: [Duration; 1] = [Duration::from_secs(3600)];
/// How often a window is looked at anew while it passes.
const LOOKS_A_WINDOW: u64 = 60;

/// The monitor of a process.
pub struct Monitor {
    shared: Arc<Shared>,
    running: Mutex<Option<Running>>,
}

struct Shared {
    models: Vec<Arc<Watched>>,
    store: Arc<dyn Store>,
    config: Config,
    alerts: Alerts,
}

struct Running {
    stop: mpsc::Sender<()>,
    thread: JoinHandle<()>,
    outbox: Arc<Outbox>,
}

impl Monitor {
    /// Watches these models from now on. `holder` names this process among
    /// those that share the store.
    ///
    /// # Errors
    /// When a receiver of notifications can't be made, or the system has no
    /// thread to give.
    pub fn start(
        models: Vec<Arc<Watched>>,
        store: Arc<dyn Store>,
        config: Config,
        holder: &str,
    ) -> Result<Monitor, String> {
        let manifests: Vec<_> = models.iter().map(|model| model.manifest()).collect();
        for what in rules::unfit(&config.monitor.rules, &manifests) {
            tracing::warn!("{what}");
        }
        let alerts = Alerts::new(Arc::clone(&store), &config, holder)?;
        let settings = Settings::new(&config, holder);
        let outbox = Arc::new(Outbox::start(Arc::clone(&store), &config, alerts.rules(), settings)?);
        let (stop, stopped) = mpsc::channel();
        let shared = Arc::new(Shared {
            models,
            store,
            config,
            alerts,
        });
        let ticker = Ticker {
            shared: Arc::clone(&shared),
            outbox: Arc::clone(&outbox),
            bucket: 0,
            failing: false,
        };
        let thread = std::thread::Builder::new()
            .name("modelet-monitor".into())
            .spawn(move || ticker.run(&stopped))
            .map_err(|error| format!("the system has no thread to give: {error}"))?;
        Ok(Monitor {
            shared,
            running: Mutex::new(Some(Running { stop, thread, outbox })),
        })
    }

    /// The window of `GET /drift` where none is asked for.
    pub fn window(&self) -> Duration {
        self.shared.windows()[0]
    }

    /// The windows that are looked at all the time; at least one.
    pub fn windows(&self) -> &[Duration] {
        self.shared.windows()
    }

    /// The origins whose pages may post what they observed.
    pub fn origins(&self) -> &[String] {
        &self.shared.config.monitor.observe.origins
    }

    /// The folder of the store's file, if it has one.
    pub fn folder(&self) -> Option<&Path> {
        self.shared.store.file()?.parent()
    }

    /// Answers a question about a model. Blocks.
    ///
    /// # Errors
    /// When the store fails.
    pub fn status(&self, model: &Watched, question: &Question) -> store::Result<Status> {
        self.shared.status(model, question)
    }

    /// Saves what was counted, ends the delivery under way, and stops. Blocks.
    pub fn stop(&self) {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(Running { stop, thread, outbox }) = running {
            drop(stop);
            if thread.join().is_err() {
                tracing::error!("the monitor failed");
            }
            if let Ok(outbox) = Arc::try_unwrap(outbox).map_err(|_| ()) {
                outbox.stop();
            }
        }
    }
}

impl Shared {
    /// Those that are configured; a bucket coarser than all default windows
    /// leaves none of them.
    fn windows(&self) -> &[Duration] {
        match self.config.monitor.windows.as_slice() {
            [] => &HOUR,
            windows => windows,
        }
    }

    fn status(&self, model: &Watched, question: &Question) -> store::Result<Status> {
        let mut status = self.asked(model, question)?;
        for window in self.windows() {
            let looked = match model.latest(*window) {
                Some(looked) => looked.status.short(),
                // The first round is still to come.
                None => self.asked(model, &Question::of(*window))?.short(),
            };
            status.windows.extend(looked);
        }
        Ok(status)
    }

    fn asked(&self, model: &Watched, question: &Question) -> store::Result<Status> {
        let mut status = model.status(question, &self.config.monitor.thresholds)?;
        status.alerts = self.alerts.states(Some(&model.manifest().name))?;
        status.alerts.retain(|alert| alert.version == model.manifest().version);
        Ok(status)
    }

    /// Looks at the windows of a model that have moved on by a bucket; at those
    /// that many buckets make up, when they have by a sixtieth.
    fn look(&self, model: &Watched, now: u64) -> store::Result<()> {
        let bucket = self.config.monitor.bucket.as_secs().max(1);
        for &window in self.windows() {
            let age = (window.as_secs() / LOOKS_A_WINDOW / bucket).max(1);
            let due = |at: u64| now / bucket >= at / bucket + age || now < at;
            if model.latest(window).is_none_or(|looked| due(looked.at)) {
                model.found(window, now, self.asked(model, &Question::of(window))?);
            }
        }
        Ok(())
    }
}

struct Ticker {
    shared: Arc<Shared>,
    outbox: Arc<Outbox>,
    /// The last bucket that was looked at.
    bucket: u64,
    failing: bool,
}

impl Ticker {
    /// Flushes every few seconds and at the end of every bucket, until told to
    /// stop.
    fn run(mut self, stopped: &mpsc::Receiver<()>) {
        loop {
            let config = &self.shared.config.monitor;
            let bucket_ms = config.bucket.as_millis().max(1);
            let left_ms = bucket_ms - span::since_1970().as_millis() % bucket_ms;
            let pause = config.flush.min(Duration::from_millis(left_ms as u64));
            let stopping = !matches!(stopped.recv_timeout(pause), Err(mpsc::RecvTimeoutError::Timeout));
            // A fault in one look must not end all further ones.
            match catch_unwind(AssertUnwindSafe(|| self.tick())) {
                Ok(done) => self.tell(done.err()),
                Err(_) => tracing::error!("the monitor failed in this round and goes on with the next"),
            }
            if stopping {
                let models = self.shared.models.iter().map(|model| model.release());
                for error in models.chain([self.shared.alerts.release()]).filter_map(Result::err) {
                    tracing::debug!("leases are not given back: {error}");
                }
                return;
            }
        }
    }

    fn tick(&mut self) -> store::Result<()> {
        let shared = Arc::clone(&self.shared);
        for model in &shared.models {
            model.flush()?;
            model.join_parked()?;
        }
        let now = span::since_1970();
        let mut messages = 0;
        for model in &shared.models {
            messages += self.evaluate(model, now)?;
        }
        let names: Vec<(String, String)> = shared
            .models
            .iter()
            .map(|model| (model.manifest().name.clone(), model.manifest().version.clone()))
            .collect();
        let now_ms = now.as_millis() as u64;
        messages += shared.alerts.tick(&names, now_ms)?.messages;
        if messages > 0 {
            self.outbox.wake();
        }
        let bucket = now.as_secs() / shared.config.monitor.bucket.as_secs().max(1);
        if bucket != self.bucket {
            self.bucket = bucket;
            for model in &shared.models {
                shared.look(model, now.as_secs())?;
            }
        }
        shared.store.expire()
    }

    /// Shows the alerts the windows of a model that have ended.
    fn evaluate(&self, model: &Watched, now: Duration) -> store::Result<usize> {
        let (name, version) = (&model.manifest().name, &model.manifest().version);
        let monitor = &self.shared.config.monitor;
        let whole = now.saturating_sub(monitor.flush.min(monitor.bucket) + GRACE);
        let mut messages = 0;
        for (from, to) in self.shared.alerts.due(name, version, whole.as_millis() as u64)? {
            let span = Span {
                name: config::duration_text(Duration::from_secs(to - from)),
                from,
                to,
            };
            let confidences = self.shared.alerts.confidences(name);
            let evaluation = model.evaluation(&span, &monitor.thresholds, &confidences)?;
            let done = self.shared.alerts.evaluate(&evaluation, now.as_millis() as u64)?;
            messages += done.messages;
        }
        Ok(messages)
    }

    fn tell(&mut self, error: Option<store::StoreError>) {
        match error {
            Some(error) if !self.failing => {
                self.failing = true;
                tracing::error!("the monitor's store fails: {error}");
            }
            Some(_) => {}
            None if self.failing => {
                self.failing = false;
                tracing::info!("the monitor's store works again");
            }
            None => {}
        }
    }
}
