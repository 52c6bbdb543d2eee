//! Watches the models of one process: collects what was counted into buckets
//! of time, keeps predictions until their labels come, and answers for windows.

use super::config::MonitorConfig;
use super::feedback::{self, Entry, Judged, Outcome, Waiting};
use super::observed::Observed;
use super::status::Status;
use super::store::{Bucket, Label, Labelled, Parked, Part, Result, Store, StoreError, Sums};
use super::{performance, span};
use crate::metrics::Counters;
use crate::runtime::Observation;
use modelet::drift::Counts;
use modelet::drift::delta::{Delta, SOURCE_BROWSER, SOURCE_HOST};
use modelet::drift::truth::{self, Judge, Predicted};
use modelet::signature::{Manifest, Reference};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap, hash_map};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, mpsc};
use std::time::Duration;

/// The length of a coarse bucket.
const COARSE_S: u32 = 3600;
/// Predictions that wait for the store at most; more are not kept.
const QUEUED_MAX: usize = 1 << 20;
/// Sources that a process hears of a model: each has buckets of its own.
const SOURCES_MAX: usize = 16;
/// Instances of all collectors that are known at a time, so that a delta that
/// comes again is not counted again. Whoever makes up instances displaces those
/// that were heard of longest ago, and has the store keep no more of them: at
/// about 100 bytes each. An instance repeats a delta within seconds.
pub const INSTANCES_MAX: u64 = 1 << 18;
/// Predictions are brought to the store in portions of about so many bytes: few
/// enough to stay in a processor's cache, and enough for a commit not to count.
const PORTION_BYTES: usize = 256 << 10;
/// Closed buckets that wait for a store that fails, at most.
const UNSAVED_MAX: usize = 4096;
/// Marks a rejected row among predictions.
const REJECTED: u32 = u32::MAX;
/// How often a label is tried again that others change at the same time.
const LABEL_TRIES: usize = 4;
/// Labels that wait for their predictions, at most; more are not kept.
const PARKED_MAX: usize = 100_000;
/// A store forgets parked labels after this where nobody joins them any more.
const PARKED_KEEP: Duration = Duration::from_secs(86_400);
/// How long one of several processes is the one that joins parked labels.
const JOINER_KEEP: Duration = Duration::from_secs(30);

/// How models are watched.
#[derive(Clone, Debug)]
pub struct WatchConfig {
    /// The length of a fine bucket, in seconds, of which an hour is a multiple;
    /// a coarse one is an hour. Default: 60.
    pub bucket_s: u32,
    /// How long fine buckets are kept. Default: 2 days.
    pub keep_fine: Duration,
    /// How long coarse buckets are kept. Default: 90 days.
    pub keep_coarse: Duration,
    /// How long predictions wait for a label; none are kept if zero. Default:
    /// 7 days.
    pub keep_predictions: Duration,
    /// How long a label waits for a prediction that another process may have
    /// made but not yet saved; zero where there are no others. Default: 12
    /// flushes, a minute or more.
    pub wait: Duration,
    /// Rows from which the reference of predictions is learnt where the model
    /// has none. Default: 1,000.
    pub learn_rows: u64,
}

impl From<&MonitorConfig> for WatchConfig {
    fn from(config: &MonitorConfig) -> WatchConfig {
        WatchConfig {
            bucket_s: config.bucket.as_secs().clamp(1, COARSE_S.into()) as u32,
            keep_fine: config.retention.buckets,
            keep_coarse: config.retention.hours,
            keep_predictions: match config.feedback.enabled {
                true => config.feedback.keep,
                false => Duration::ZERO,
            },
            wait: (config.flush * 12).max(Duration::from_secs(60)),
            learn_rows: 1000,
        }
    }
}

/// A model that is watched.
pub struct Watched {
    manifest: Manifest,
    sha256: String,
    judge: Option<Judge>,
    counters: Arc<Counters>,
    config: WatchConfig,
    store: Arc<dyn Store>,
    /// Who writes into the store: a name that no other process has.
    writer: String,
    predictions: mpsc::Sender<Prediction>,
    queued: AtomicUsize,
    dropped: AtomicU64,
    /// What became of labels, by the number of the outcome.
    outcomes: [AtomicU64; Outcome::NAMES.len()],
    inner: Mutex<Inner>,
    learnt: RwLock<Option<Arc<Learnt>>>,
    rows_seen: AtomicU64,
    /// What was found in each window that is looked at all the time.
    latest: RwLock<BTreeMap<Duration, Looked>>,
    failing: AtomicBool,
    sources: Mutex<BTreeSet<String>>,
}

/// What is touched by whoever flushes, one at a time.
struct Inner {
    queue: mpsc::Receiver<Prediction>,
    unsaved: Unsaved,
    /// The host's counters at the last tick, and when that was.
    seen: Observed,
    tick: u64,
    /// What trusted collectors sent since the start.
    received: Counts,
    open: BTreeMap<(String, u32, u64), Open>,
}

impl Inner {
    /// Bounds what waits for a store that fails.
    fn forget_oldest(&mut self) {
        while self.open.len() > UNSAVED_MAX {
            let oldest = self.open.keys().min_by_key(|(_, _, start)| *start).cloned();
            oldest.and_then(|key| self.open.remove(&key));
        }
    }
}

/// A bucket that is being filled, or not yet saved as it is.
#[derive(Default)]
struct Open {
    observed: Observed,
    dirty: bool,
}

/// A prediction on its way to the store.
struct Prediction {
    key: [u8; 16],
    time: u64,
    rows: Rows,
}

enum Rows {
    One(Predicted),
    Many(Vec<Predicted>),
}

/// A portion of predictions, as the store keeps them, one after the other.
#[derive(Default)]
struct Unsaved {
    /// Each with where its bytes end.
    keys: Vec<([u8; 16], usize)>,
    bytes: Vec<u8>,
    rows: usize,
}

impl Unsaved {
    fn push(&mut self, prediction: &Prediction) {
        self.rows += prediction.encode(&mut self.bytes);
        self.keys.push((prediction.key, self.bytes.len()));
    }

    fn entries(&self) -> Vec<([u8; 16], &[u8])> {
        let mut start = 0;
        let entry = |(key, end): &([u8; 16], usize)| (*key, &self.bytes[std::mem::replace(&mut start, *end)..*end]);
        self.keys.iter().map(entry).collect()
    }

    fn clear(&mut self) {
        self.keys.clear();
        self.bytes.clear();
        self.rows = 0;
    }
}

/// The reference of predictions, learnt from the first live rows because the
/// model was packed without a holdout.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Learnt {
    /// Rows that it was learnt from.
    pub rows: u64,
    /// When, in seconds since 1970.
    pub at: u64,
    /// Counts by the name of the column.
    pub columns: BTreeMap<String, Vec<u64>>,
}

/// What was found in a window, and when.
#[derive(Clone)]
pub struct Looked {
    /// In seconds since 1970.
    pub at: u64,
    /// What was found.
    pub status: Arc<Status>,
}

/// What became of a delta.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It is counted.
    Counted,
    /// It was counted before.
    Duplicate,
    /// It has a source of which there are too many.
    TooManySources,
}

/// What was observed in a window, by source.
#[derive(Clone, Debug, Default)]
pub struct Window {
    /// Its begin, in seconds since 1970.
    pub from: u64,
    /// Its end.
    pub to: u64,
    /// When the first bucket begins that holds anything.
    pub first: Option<u64>,
    /// Observations by source.
    pub sources: BTreeMap<String, Observed>,
}

impl Window {
    /// The observations of these sources together.
    pub fn sum(&self, reference: &Reference, wanted: impl Fn(&str) -> bool) -> Observed {
        let mut sum = Observed {
            counts: Counts::new(reference),
            ..Observed::default()
        };
        for (_, observed) in self.sources.iter().filter(|(source, _)| wanted(source)) {
            sum.merge(observed);
        }
        sum
    }
}

/// Whether a source's counts are believed: anybody can send a browser's.
pub fn trusted(source: &str) -> bool {
    source != SOURCE_BROWSER
}

impl Watched {
    /// Watches a model from now on.
    pub fn new(
        manifest: Manifest,
        sha256: String,
        counters: Arc<Counters>,
        config: WatchConfig,
        store: Arc<dyn Store>,
        writer: String,
    ) -> Watched {
        let (predictions, queue) = mpsc::channel();
        Watched {
            judge: Judge::new(&manifest),
            inner: Mutex::new(Inner {
                queue,
                unsaved: Unsaved::default(),
                seen: counters.observed(),
                tick: span::now(),
                received: Counts::new(&manifest.reference),
                open: BTreeMap::new(),
            }),
            manifest,
            sha256,
            counters,
            config,
            store,
            writer,
            predictions,
            queued: AtomicUsize::new(0),
            dropped: AtomicU64::new(0),
            outcomes: Default::default(),
            learnt: RwLock::new(None),
            rows_seen: AtomicU64::new(0),
            latest: RwLock::default(),
            failing: AtomicBool::new(false),
            sources: Mutex::default(),
        }
    }

    /// The model's manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// SHA-256 of the model's bundle.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// What turns labels into sums, if labels can be held against this model.
    pub fn judge(&self) -> Option<&Judge> {
        self.judge.as_ref()
    }

    /// Predictions that could not be kept for their labels.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// How often labels that this process was told, or joined, had which
    /// outcome. One that was pending has another later.
    pub fn outcomes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = self.outcomes.each_ref().map(|count| count.load(Ordering::Relaxed));
        Outcome::NAMES.into_iter().zip(counts)
    }

    fn note(&self, outcome: &Outcome) {
        self.outcomes[outcome.number()].fetch_add(1, Ordering::Relaxed);
    }

    /// What this process counted since its start: its own rows, and those that
    /// trusted collectors sent it.
    pub fn totals(&self) -> Counts {
        let mut counts = self.counters.observed().counts;
        counts.merge(&self.inner().received);
        counts
    }

    /// What was found in a window when it was last looked at.
    pub fn latest(&self, window: Duration) -> Option<Looked> {
        let latest = self.latest.read().unwrap_or_else(PoisonError::into_inner);
        latest.get(&window).cloned()
    }

    /// Remembers what was found in a window that ended at `at`, in seconds
    /// since 1970.
    pub fn found(&self, window: Duration, at: u64, status: Status) {
        let mut latest = self.latest.write().unwrap_or_else(PoisonError::into_inner);
        let status = Arc::new(status);
        latest.insert(window, Looked { at, status });
    }

    /// Keeps a request's predictions until their labels come. Takes no lock
    /// and does not wait.
    pub fn predicted(&self, id: &str, observation: &Observation) {
        if self.config.keep_predictions.is_zero() || self.judge.is_none() || observation.scores.is_empty() {
            return;
        }
        let count = observation.scores.len();
        if self.queued.fetch_add(count, Ordering::Relaxed) >= QUEUED_MAX {
            self.queued.fetch_sub(count, Ordering::Relaxed);
            self.dropped.fetch_add(count as u64, Ordering::Relaxed);
            return;
        }
        let row = |row: usize| match observation.status.get(row) {
            Some(0) => Predicted {
                class: observation.labels.get(row).copied().unwrap_or(0),
                score: observation.scores[row],
            },
            _ => Predicted {
                class: REJECTED,
                score: f64::NAN,
            },
        };
        let rows = match observation.scores.len() {
            1 => Rows::One(row(0)),
            rows => Rows::Many((0..rows).map(row).collect()),
        };
        let prediction = Prediction {
            key: feedback::key(id),
            time: span::now(),
            rows,
        };
        // The receiver lives as long as the sender.
        let _ = self.predictions.send(prediction);
    }

    /// Adds what another instance observed.
    ///
    /// # Errors
    /// When the store fails; the instance then sends it again.
    pub fn observe(&self, delta: &Delta) -> Result<Heard> {
        let origin = &delta.origin;
        if !self.knows(&origin.source) {
            return Ok(Heard::TooManySources);
        }
        let instance = format!("{}/{}", origin.source, origin.instance);
        let keep = self.config.keep_fine;
        if !self.store.advance(&instance, origin.sequence, keep, INSTANCES_MAX)? {
            return Ok(Heard::Duplicate);
        }
        let mut inner = self.inner();
        if trusted(&origin.source) {
            inner.received.merge(&delta.observed.counts);
        }
        let now = span::now().max(inner.tick);
        self.add(&mut inner, &origin.source, now, &Observed::from(delta));
        Ok(Heard::Counted)
    }

    /// Whether a source was heard before, or is one of few.
    fn knows(&self, source: &str) -> bool {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if !sources.contains(source) && sources.len() < SOURCES_MAX {
            sources.insert(source.to_owned());
        }
        sources.contains(source)
    }

    /// Collects what was counted since the last time, and saves it. Called
    /// every few seconds, at the end of every bucket, and before questions.
    ///
    /// # Errors
    /// When the store fails; nothing is lost, and the next flush tries again.
    pub fn flush(&self) -> Result<()> {
        let mut inner = self.inner();
        // Were the clock to go back, a part that was closed would be begun
        // anew, and replace the old one.
        let now = span::now().max(inner.tick);
        let total = self.counters.observed();
        let delta = total.since(&inner.seen);
        if !delta.is_empty() {
            // Counted after the last tick, which is never long before a
            // bucket's end.
            let tick = inner.tick;
            self.add(&mut inner, SOURCE_HOST, tick, &delta);
            inner.seen = total;
        }
        inner.tick = now;
        let saved = self.save(&mut inner, now);
        self.tell(saved.as_ref().err());
        saved
    }

    fn add(&self, inner: &mut Inner, source: &str, time: u64, observed: &Observed) {
        for seconds in [self.config.bucket_s, COARSE_S] {
            let start = time - time % u64::from(seconds);
            let open = inner.open.entry((source.to_owned(), seconds, start)).or_default();
            open.observed.merge(observed);
            open.dirty = true;
        }
    }

    fn save(&self, inner: &mut Inner, now: u64) -> Result<()> {
        let predictions = self.save_predictions(inner);
        for (seconds, keep) in [
            (self.config.bucket_s, self.config.keep_fine),
            (COARSE_S, self.config.keep_coarse),
        ] {
            let parts: Vec<Part> = inner
                .open
                .iter()
                .filter(|((_, s, _), open)| *s == seconds && open.dirty)
                .map(|((source, _, start), open)| Part {
                    bucket: Bucket {
                        model: self.sha256.clone(),
                        seconds,
                        start: *start,
                    },
                    writer: format!("{}/{source}", self.writer),
                    bytes: open.observed.to_bytes(),
                })
                .collect();
            if !parts.is_empty()
                && let Err(error) = self.store.put_parts(&parts, keep)
            {
                inner.forget_oldest();
                return Err(error);
            }
            let current = now - now % u64::from(seconds);
            inner.open.retain(|(_, s, start), open| {
                if *s == seconds {
                    open.dirty = false;
                }
                *s != seconds || *start >= current
            });
        }
        predictions
    }

    /// Predictions wait apart from counts, so that one that the store does not
    /// take holds up no count. Those that come meanwhile wait for the next call,
    /// or a slow store would keep this one for ever.
    fn save_predictions(&self, inner: &mut Inner) -> Result<()> {
        let mut left = self.queued.load(Ordering::Relaxed);
        while left > 0 {
            while inner.unsaved.bytes.len() < PORTION_BYTES
                && let Ok(prediction) = inner.queue.try_recv()
            {
                inner.unsaved.push(&prediction);
            }
            let unsaved = &mut inner.unsaved;
            if unsaved.keys.is_empty() {
                // They are counted before they are in the queue.
                break;
            }
            self.store
                .put_predictions(&self.sha256, &unsaved.entries(), self.config.keep_predictions)?;
            self.queued.fetch_sub(unsaved.rows, Ordering::Relaxed);
            left = left.saturating_sub(unsaved.rows);
            unsaved.clear();
        }
        Ok(())
    }

    fn tell(&self, error: Option<&StoreError>) {
        let failed = self.failing.swap(error.is_some(), Ordering::Relaxed);
        match error {
            Some(error) if !failed => {
                tracing::error!(model = self.manifest.name, "what was counted can't be saved: {error}");
            }
            None if failed => tracing::info!(model = self.manifest.name, "what was counted is saved again"),
            _ => {}
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Counts are added whole, so a panic elsewhere leaves them right.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The window of this length that ends now, with the bucket that is being
    /// filled.
    pub fn recent(&self, length: Duration) -> (u64, u64) {
        let bucket = u64::from(self.config.bucket_s);
        let to = (span::now() / bucket + 1) * bucket;
        let buckets = length.as_secs().div_ceil(bucket).max(1);
        (to.saturating_sub(buckets * bucket), to)
    }

    /// What was observed in `[from, to)`, in seconds since 1970, widened to
    /// whole buckets: coarse ones where fine ones are no longer kept.
    ///
    /// # Errors
    /// When the store fails.
    pub fn window(&self, from: u64, to: u64) -> Result<Window> {
        let mut window = Window {
            from,
            to,
            ..Window::default()
        };
        for (seconds, from, to) in self.spans(from, to) {
            window.from = window.from.min(from);
            for part in self.store.parts(&self.sha256, seconds, from, to)? {
                let source = part.writer.split_once('/').map_or(SOURCE_HOST, |(_, source)| source);
                let observed = match Observed::from_bytes(&part.bytes) {
                    Ok(observed) => observed,
                    Err(what) => {
                        tracing::warn!(start = part.bucket.start, "counts in the store can't be read: {what}");
                        continue;
                    }
                };
                let start = part.bucket.start;
                window.first = Some(window.first.map_or(start, |first| first.min(start)));
                if observed.counts.columns.is_empty() || observed.counts.fit(&self.manifest.reference) {
                    window.sources.entry(source.to_owned()).or_default().merge(&observed);
                }
            }
        }
        Ok(window)
    }

    /// The ground truth for predictions of `[from, to)`, bucket by bucket.
    ///
    /// # Errors
    /// When the store fails.
    pub fn truth(&self, from: u64, to: u64) -> Result<Vec<(u64, Sums)>> {
        let mut all = Vec::new();
        for (seconds, from, to) in self.spans(from, to) {
            all.extend(self.store.sums(&self.sha256, seconds, from, to)?);
        }
        all.sort_by_key(|(start, _)| *start);
        Ok(all)
    }

    /// The ground truth for predictions of `[from, to)`, by fine bucket, as far
    /// as these are kept.
    ///
    /// # Errors
    /// When the store fails.
    pub fn fine_truth(&self, from: u64, to: u64) -> Result<Vec<(u64, Sums)>> {
        self.store.sums(&self.sha256, self.config.bucket_s, from, to)
    }

    /// The buckets that make up a window: their length, the first and the end.
    fn spans(&self, from: u64, to: u64) -> Vec<(u32, u64, u64)> {
        let (fine, coarse) = (self.config.bucket_s, COARSE_S);
        let coarse_s = u64::from(coarse);
        let kept = span::now().saturating_sub(self.config.keep_fine.as_secs());
        let from = if from < kept { from - from % coarse_s } else { from };
        let first = from.div_ceil(coarse_s) * coarse_s;
        let last = to - to % coarse_s;
        if first >= last {
            return vec![(fine, from, to)];
        }
        let spans = [(fine, from, first), (coarse, first, last), (fine, last, to)];
        spans.into_iter().filter(|(_, from, to)| from < to).collect()
    }

    /// Joins labels to predictions and counts them. Those whose prediction may
    /// still come from another process are parked.
    ///
    /// # Errors
    /// When the store fails; labels may then be sent again.
    pub fn feedback(&self, entries: &[Entry]) -> Result<Vec<Outcome>> {
        let Some(judge) = &self.judge else {
            let detail = performance::unjudged(&self.manifest);
            return Ok(vec![Outcome::InvalidLabel { detail }; entries.len()]);
        };
        let keys: Vec<[u8; 16]> = entries.iter().map(|entry| feedback::key(&entry.id)).collect();
        // A label may come sooner than a flush.
        self.save_predictions(&mut self.inner())?;
        let kept = self.store.predictions(&self.sha256, &keys)?;
        let mut outcomes: Vec<Option<Outcome>> = vec![None; entries.len()];
        let (mut labels, mut early) = (Vec::new(), Vec::new());
        for (index, ((entry, key), kept)) in entries.iter().zip(&keys).zip(&kept).enumerate() {
            let truth = match (kept, feedback::truth(entry, judge)) {
                (None, _) if self.config.wait.is_zero() => Err(Outcome::UnknownId),
                (Some(kept), _) if entry.row.is_none() && rows_of(kept) > 1 => Err(feedback::row_needed(rows_of(kept))),
                (Some(kept), _) if row(kept, entry.row()).is_none() => Err(Outcome::UnknownRow),
                (_, truth) => truth,
            };
            match (truth, kept.as_deref().and_then(|kept| row(kept, entry.row()))) {
                (Ok(truth), Some((time, predicted))) => labels.push(Joined {
                    index,
                    key: *key,
                    row: entry.row(),
                    time,
                    predicted,
                    truth,
                    previous: None,
                    parked: None,
                }),
                (Ok(truth), None) => {
                    let waiting = Waiting {
                        since: span::now(),
                        row_said: entry.row.is_some(),
                        truth,
                    };
                    let parked = Parked {
                        key: *key,
                        row: entry.row(),
                        value: waiting.encode(),
                    };
                    early.push((index, parked));
                }
                (Err(outcome), _) => outcomes[index] = Some(outcome),
            }
        }
        self.count(judge, labels, &mut outcomes)?;
        let (places, early): (Vec<usize>, Vec<Parked>) = early.into_iter().unzip();
        let taken = match early.is_empty() {
            true => Vec::new(),
            false => self.store.park(&self.sha256, &early, PARKED_MAX, PARKED_KEEP)?,
        };
        for (index, taken) in places.into_iter().zip(taken) {
            outcomes[index] = Some(if taken { Outcome::Pending } else { Outcome::UnknownId });
        }
        let outcomes: Vec<Outcome> = outcomes.into_iter().flatten().collect();
        outcomes.iter().for_each(|outcome| self.note(outcome));
        Ok(outcomes)
    }

    /// Counts labels that have found their predictions, and tells what became of
    /// each; of one that was parked and is no longer there, nothing.
    fn count(&self, judge: &Judge, labels: Vec<Joined>, outcomes: &mut [Option<Outcome>]) -> Result<()> {
        let (mut labels, before) = Joined::last_of_each_row(labels);
        // What becomes of all labels of a row, one after the other.
        let mut tell = |joined: &Joined, told: Option<Judged>| {
            let mut told = told.map(|told| (told.predicted, told.truth));
            let before = before.get(&(joined.key, joined.row)).into_iter().flatten();
            for (index, truth) in before
                .map(|(index, truth)| (*index, truth))
                .chain([(joined.index, &joined.truth)])
            {
                let now = (joined.predicted, truth.clone());
                outcomes[index] = Some(match told.as_ref() {
                    None => Outcome::Counted,
                    Some(told) if *told == now => Outcome::Duplicate,
                    Some(_) => Outcome::Corrected,
                });
                told = Some(now);
            }
        };
        for _ in 0..LABEL_TRIES {
            if labels.is_empty() {
                break;
            }
            let requests: Vec<Label> = labels.iter().map(|joined| self.label(judge, joined)).collect();
            let results = self.store.label(&requests, self.config.keep_coarse)?;
            let mut again = Vec::new();
            for (mut joined, result) in labels.into_iter().zip(results) {
                match result {
                    Labelled::Counted => tell(&joined, joined.previous.as_deref().and_then(Judged::decode)),
                    Labelled::Found(previous) => {
                        let told = previous.as_deref().and_then(Judged::decode);
                        match told.filter(|told| joined.repeats(told)) {
                            Some(told) => tell(&joined, Some(told)),
                            None => {
                                joined.previous = previous;
                                again.push(joined);
                            }
                        }
                    }
                    Labelled::Gone => {}
                }
            }
            labels = again;
        }
        match labels.is_empty() {
            true => Ok(()),
            false => Err(StoreError("a label was changed by others again and again".into())),
        }
    }

    /// Counts labels that came before their predictions and have found them
    /// since, and forgets those that waited too long. Called every few seconds,
    /// after a flush.
    ///
    /// # Errors
    /// When the store fails; nothing is lost, and the next call tries again.
    pub fn join_parked(&self) -> Result<()> {
        let Some(judge) = &self.judge else {
            return Ok(());
        };
        if self.config.wait.is_zero() || !self.store.lease(&self.joining(), &self.writer, JOINER_KEEP)? {
            return Ok(());
        }
        let parked = self.store.parked(&self.sha256)?;
        if parked.is_empty() {
            return Ok(());
        }
        let keys: Vec<[u8; 16]> = parked.iter().map(|label| label.key).collect();
        let kept = self.store.predictions(&self.sha256, &keys)?;
        let since = span::now().saturating_sub(self.config.wait.as_secs());
        let mut outcomes: Vec<Option<Outcome>> = vec![None; parked.len()];
        let mut labels = Vec::new();
        for (index, (label, kept)) in parked.iter().zip(kept).enumerate() {
            match (Waiting::decode(&label.value), kept) {
                (Some(waiting), None) if waiting.since >= since => {}
                (None, _) | (_, None) => outcomes[index] = Some(Outcome::UnknownId),
                (Some(waiting), Some(kept)) if !waiting.row_said && rows_of(&kept) > 1 => {
                    outcomes[index] = Some(feedback::row_needed(rows_of(&kept)));
                }
                (Some(waiting), Some(kept)) => match row(&kept, label.row) {
                    None => outcomes[index] = Some(Outcome::UnknownRow),
                    Some((time, predicted)) => labels.push(Joined {
                        index,
                        key: label.key,
                        row: label.row,
                        time,
                        predicted,
                        truth: waiting.truth,
                        previous: None,
                        parked: Some(label.value.clone()),
                    }),
                },
            }
        }
        self.count(judge, labels, &mut outcomes)?;
        // A label is not parked any more once it is counted.
        let is_counted = |outcome: &Outcome| matches!(outcome, Outcome::Counted | Outcome::Corrected);
        let (done, over): (Vec<_>, Vec<_>) = parked
            .into_iter()
            .zip(outcomes)
            .filter_map(|(label, outcome)| Some((label, outcome?)))
            .partition(|(_, outcome)| is_counted(outcome));
        done.iter().for_each(|(_, outcome)| self.note(outcome));
        let (over, outcomes): (Vec<Parked>, Vec<Outcome>) = over.into_iter().unzip();
        if !over.is_empty() {
            let removed = self.store.unpark(&self.sha256, &over)?;
            let removed = outcomes.iter().zip(removed).filter(|(_, removed)| *removed);
            removed.for_each(|(outcome, _)| self.note(outcome));
        }
        Ok(())
    }

    /// Lets another process join parked labels at once.
    ///
    /// # Errors
    /// When the store fails.
    pub fn release(&self) -> Result<()> {
        match self.config.wait.is_zero() {
            true => Ok(()),
            false => self.store.release(&self.joining(), &self.writer),
        }
    }

    fn joining(&self) -> String {
        format!("parked/{}", self.sha256)
    }

    /// The label with what it adds, and what it takes back of an earlier one:
    /// from the bucket that this was counted in, which is another where the id
    /// was used for another prediction since.
    fn label(&self, judge: &Judge, joined: &Joined) -> Label {
        let judged = joined.judged();
        let previous = joined.previous.as_deref().and_then(Judged::decode);
        let mut adds: Vec<(Bucket, Sums)> = Vec::new();
        let mut add = |time: u64, sums: &Sums| {
            for seconds in [self.config.bucket_s, COARSE_S] {
                let bucket = Bucket {
                    model: self.sha256.clone(),
                    seconds,
                    start: time - time % u64::from(seconds),
                };
                match adds.iter_mut().find(|(other, _)| *other == bucket) {
                    Some((_, added)) => truth::merge(added, sums),
                    None => adds.push((bucket, sums.clone())),
                }
            }
        };
        add(judged.time, &judge.judge(judged.predicted, &judged.truth));
        if let Some(previous) = previous {
            let sums = judge.judge(previous.predicted, &previous.truth);
            add(previous.time, &truth::negated(&sums));
        }
        Label {
            model: self.sha256.clone(),
            key: joined.key,
            row: joined.row,
            previous: joined.previous.clone(),
            value: judged.encode(),
            adds,
            parked: joined.parked.clone(),
        }
    }

    /// The reference that live rows are held against: the packed one, with
    /// what was learnt of predictions where it has nothing.
    pub fn reference(&self) -> Reference {
        let mut reference = self.manifest.reference.clone();
        if let Some(learnt) = self.learnt() {
            for column in reference.columns.iter_mut().filter(|column| column.counts.is_empty()) {
                if let Some(counts) = learnt.columns.get(&column.name)
                    && counts.len() == column.bins.len()
                {
                    column.counts.clone_from(counts);
                }
            }
        }
        reference
    }

    /// What was learnt of predictions.
    pub fn learnt(&self) -> Option<Arc<Learnt>> {
        self.learnt.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Rows from which the reference of predictions is learnt.
    pub fn rows_to_learn(&self) -> u64 {
        self.config.learn_rows
    }

    /// Rows that there were to learn from at the last try.
    pub fn rows_to_learn_from(&self) -> u64 {
        self.rows_seen.load(Ordering::Relaxed)
    }

    /// Everything observed by trusted sources that is still kept.
    fn rows_so_far(&self) -> Result<Observed> {
        let now = span::now();
        let from = now.saturating_sub(self.config.keep_coarse.as_secs());
        let window = self.window(from, now + u64::from(self.config.bucket_s))?;
        Ok(window.sum(&self.manifest.reference, trusted))
    }

    /// Columns of predictions that the packed reference does not have.
    fn unknown_columns(&self) -> impl Iterator<Item = usize> + '_ {
        let features = self.manifest.features.len();
        let columns = self.manifest.reference.columns.iter().enumerate().skip(features);
        columns
            .filter(|(_, column)| column.counts.is_empty())
            .map(|(index, _)| index)
    }

    /// Learns the reference of predictions from the first rows, where the
    /// model was packed without one. Replicas agree on the first that learnt.
    ///
    /// # Errors
    /// When the store fails.
    pub fn learn(&self) -> Result<()> {
        if self.learnt().is_some() || self.unknown_columns().next().is_none() {
            return Ok(());
        }
        let name = format!("reference/{}", self.sha256);
        let known = |documents: Vec<(String, Vec<u8>)>| {
            let (_, bytes) = documents.into_iter().find(|(n, _)| *n == name)?;
            postcard::from_bytes::<Learnt>(&bytes).ok()
        };
        let mut learnt = known(self.store.documents(&name)?);
        if learnt.is_none() {
            let sum = self.rows_so_far()?;
            self.rows_seen.store(sum.counts.answered, Ordering::Relaxed);
            if sum.counts.answered < self.config.learn_rows {
                return Ok(());
            }
            let counted = |index: usize| {
                let column = self.manifest.reference.columns.get(index)?;
                Some((column.name.clone(), sum.counts.columns.get(index)?.clone()))
            };
            let own = Learnt {
                rows: sum.counts.answered,
                at: span::now(),
                columns: self.unknown_columns().filter_map(counted).collect(),
            };
            let bytes = postcard::to_allocvec(&own).unwrap_or_default();
            self.store.create(&name, &bytes)?;
            learnt = known(self.store.documents(&name)?);
        }
        *self.learnt.write().unwrap_or_else(PoisonError::into_inner) = learnt.map(Arc::new);
        Ok(())
    }
}

/// A label that found its prediction.
struct Joined {
    index: usize,
    key: [u8; 16],
    row: u32,
    time: u64,
    predicted: Predicted,
    truth: truth::Truth,
    previous: Option<Vec<u8>>,
    /// As it was parked, if it was.
    parked: Option<Vec<u8>>,
}

/// Labels of one row that came before its last, with their places.
type Before = HashMap<([u8; 16], u32), Vec<(usize, truth::Truth)>>;

impl Joined {
    /// Of several labels for a row the last is the one that stays.
    fn last_of_each_row(labels: Vec<Joined>) -> (Vec<Joined>, Before) {
        let mut before = Before::new();
        let mut places = HashMap::new();
        let mut last: Vec<Joined> = Vec::with_capacity(labels.len());
        for joined in labels {
            let of = (joined.key, joined.row);
            match places.entry(of) {
                hash_map::Entry::Vacant(place) => {
                    place.insert(last.len());
                    last.push(joined);
                }
                hash_map::Entry::Occupied(place) => {
                    let earlier = std::mem::replace(&mut last[*place.get()], joined);
                    before.entry(of).or_default().push((earlier.index, earlier.truth));
                }
            }
        }
        (last, before)
    }

    /// Whether this is what was told before of the same prediction, or of an
    /// equal one whose request was sent again.
    fn repeats(&self, told: &Judged) -> bool {
        told.truth == self.truth && told.predicted == self.predicted
    }

    fn judged(&self) -> Judged {
        Judged {
            time: self.time,
            predicted: self.predicted,
            truth: self.truth.clone(),
        }
    }
}

impl Prediction {
    /// Writes the time, then class and score of each row; how many rows there
    /// are.
    fn encode(&self, bytes: &mut Vec<u8>) -> usize {
        let rows = match &self.rows {
            Rows::One(row) => std::slice::from_ref(row),
            Rows::Many(rows) => rows,
        };
        bytes.extend(self.time.to_le_bytes());
        for row in rows {
            bytes.extend(row.class.to_le_bytes());
            bytes.extend(row.score.to_le_bytes());
        }
        rows.len()
    }
}

/// The rows of a prediction that is kept.
fn rows_of(bytes: &[u8]) -> usize {
    bytes.len().saturating_sub(8) / 12
}

/// The time and a row of a kept prediction, if it has that row.
fn row(bytes: &[u8], row: u32) -> Option<(u64, Predicted)> {
    let (time, rows) = bytes.split_first_chunk::<8>()?;
    let row = rows.chunks_exact(12).nth(row as usize)?;
    let (class, score) = row.split_first_chunk::<4>()?;
    let predicted = Predicted {
        class: u32::from_le_bytes(*class),
        score: f64::from_le_bytes(score.try_into().ok()?),
    };
    (predicted.class != REJECTED).then_some((u64::from_le_bytes(*time), predicted))
}

#[cfg(test)]
mod tests {
    use super::super::store::Embedded;
    use super::*;
    use modelet::signature::Column;
    use serde_json::json;

    /// Replicas of a regression model on one store.
    fn replicas<const N: usize>(wait: Duration) -> [Watched; N] {
        let amount = Column::of_numbers("amount", &[1.0, 2.0, 3.0]);
        let score = Column::of_numbers("score", &[0.0, 5.0, 10.0]);
        let manifest: Manifest = serde_json::from_value(json!({
            "format": 1, "name": "m", "version": "1", "engine": "tabular", "task": "regression",
            "features": [{ "name": "amount", "type": "number", "input": 0, "column": 0 }],
            "inputs": [], "output": { "width": 1, "kind": "value" }, "batch": true,
            "reference": { "rows": 3, "columns": [amount, score] },
            "provenance": { "modelet": "", "onnx_sha256": "", "onnx_bytes": 0, "opsets": {}, "operators": {} },
        }))
        .expect("it is a manifest");
        let store: Arc<dyn Store> = Arc::new(Embedded::in_memory().expect("a store is made"));
        std::array::from_fn(|replica| {
            let bins = manifest.reference.columns.iter().map(|column| &column.bins);
            let config = WatchConfig {
                wait,
                ..WatchConfig::from(&MonitorConfig::default())
            };
            Watched::new(
                manifest.clone(),
                "sha".into(),
                Arc::new(Counters::new(&["/predict"], 1, 1, bins)),
                config,
                Arc::clone(&store),
                format!("replica-{replica}"),
            )
        })
    }

    const MINUTE: Duration = Duration::from_secs(60);

    fn predict(replica: &Watched, id: &str, score: f64) {
        predict_rows(replica, id, &[score]);
    }

    fn tell(replica: &Watched, id: &str, row: u32, label: impl Into<serde_json::Value>) -> Outcome {
        tell_of(replica, id, Some(row), label)
    }

    fn tell_of(replica: &Watched, id: &str, row: Option<u32>, label: impl Into<serde_json::Value>) -> Outcome {
        let entry = Entry {
            id: id.into(),
            row,
            label: label.into(),
        };
        replica.feedback(&[entry]).expect("the store works").remove(0)
    }

    fn predict_rows(replica: &Watched, id: &str, scores: &[f64]) {
        let observation = Observation {
            columns: 2,
            status: vec![0; scores.len()],
            labels: vec![0; scores.len()],
            scores: scores.to_vec(),
            ..Observation::default()
        };
        replica.predicted(id, &observation);
    }

    #[test]
    fn a_label_that_says_no_row_is_of_the_only_one() {
        let [first, second] = replicas(MINUTE);
        predict_rows(&first, "known", &[1.0, 2.0]);
        first.flush().expect("the store works");
        let needed = tell_of(&second, "known", None, 3.0);
        assert!(
            matches!(&needed, Outcome::InvalidLabel { detail } if detail.contains("2 rows")),
            "{needed:?}"
        );
        // Nor when the prediction comes later.
        assert_eq!(tell_of(&second, "several", None, 3.0), Outcome::Pending);
        assert_eq!(tell_of(&second, "one", None, 3.0), Outcome::Pending);
        predict_rows(&first, "several", &[1.0, 2.0]);
        predict_rows(&first, "one", &[1.0]);
        first.flush().expect("the store works");
        second.join_parked().expect("the store works");
        assert_eq!(performance(&second), (1, Some(2.0)));
    }

    /// What labels say: how many, and the mean absolute error.
    fn performance(replica: &Watched) -> (u64, Option<f64>) {
        let mut sums = Sums::new();
        for (_, bucket) in replica.truth(0, span::now() + 3600).expect("the store works") {
            truth::merge(&mut sums, &bucket);
        }
        let judge = replica.judge().expect("it has one");
        let performance = judge.performance(&sums, &BTreeMap::new());
        (performance.labelled, performance.metrics.get("mae").map(|m| m.value))
    }

    fn outcomes(replica: &Watched) -> BTreeMap<&'static str, u64> {
        replica.outcomes().filter(|(_, count)| *count > 0).collect()
    }

    #[test]
    fn a_label_waits_for_the_prediction_of_another_replica() {
        let [one, other] = replicas(MINUTE);
        predict(&one, "a", 3.0);
        assert_eq!(tell(&other, "a", 0, 4.0), Outcome::Pending);
        assert_eq!(
            tell(&other, "a", 0, "four").number(),
            6,
            "what is no label does not wait"
        );
        other.join_parked().expect("the store works");
        assert_eq!(performance(&other), (0, None));
        one.flush().expect("the store works");
        // Another one joins them, as long as it is there.
        one.join_parked().expect("the store works");
        assert_eq!(performance(&one), (0, None));
        other.join_parked().expect("the store works");
        assert_eq!(performance(&one), (1, Some(1.0)));
        other.join_parked().expect("the store works");
        assert_eq!(performance(&one), (1, Some(1.0)));
        for replica in [&one, &other] {
            assert_eq!(tell(replica, "a", 0, 4.0), Outcome::Duplicate);
        }
        let counts = BTreeMap::from([("pending", 1), ("invalid_label", 1), ("counted", 1), ("duplicate", 1)]);
        assert_eq!(outcomes(&other), counts);
        // The one that joined them ends.
        predict(&one, "b", 3.0);
        assert_eq!(tell(&other, "b", 0, 6.0), Outcome::Pending);
        other.release().expect("the store works");
        one.flush().expect("the store works");
        one.join_parked().expect("the store works");
        assert_eq!(performance(&one), (2, Some(2.0)));
    }

    #[test]
    fn of_labels_that_waited_the_last_one_counts() {
        let [one, other, third] = replicas(MINUTE);
        predict(&one, "a", 0.0);
        assert_eq!(tell(&other, "a", 0, 1.0), Outcome::Pending);
        assert_eq!(tell(&third, "a", 0, 2.0), Outcome::Pending);
        one.flush().expect("the store works");
        other.join_parked().expect("the store works");
        assert_eq!(performance(&other), (1, Some(2.0)));

        predict(&one, "b", 0.0);
        assert_eq!(tell(&other, "b", 0, 3.0), Outcome::Pending);
        // Where the prediction was made a label need not wait.
        assert_eq!(tell(&one, "b", 0, 4.0), Outcome::Counted);
        other.join_parked().expect("the store works");
        assert_eq!(performance(&other), (2, Some(3.0)));
        assert_eq!(tell(&other, "b", 0, 3.0), Outcome::Corrected);
        assert_eq!(performance(&other), (2, Some(2.5)));
    }

    #[test]
    fn labels_of_one_request_count_one_after_the_other() {
        let [one] = replicas(MINUTE);
        predict(&one, "a", 0.0);
        predict(&one, "b", 0.0);
        let told = |labels: &[(&str, f64)]| {
            let entry = |&(id, label): &(&str, f64)| Entry {
                id: id.into(),
                row: None,
                label: label.into(),
            };
            let entries: Vec<Entry> = labels.iter().map(entry).collect();
            one.feedback(&entries).expect("the store works")
        };
        use Outcome::{Corrected, Counted, Duplicate};
        assert_eq!(
            told(&[("a", 1.0), ("a", 5.0), ("b", 3.0), ("a", 1.0), ("a", 1.0)]),
            [Counted, Corrected, Counted, Corrected, Duplicate]
        );
        assert_eq!(performance(&one), (2, Some(2.0)));
        assert_eq!(told(&[("a", 5.0), ("a", 1.0)]), [Corrected, Corrected]);
        assert_eq!(performance(&one), (2, Some(2.0)));
        assert_eq!(told(&[("a", 1.0), ("a", 5.0)]), [Duplicate, Corrected]);
        assert_eq!(performance(&one), (2, Some(4.0)));
    }

    #[test]
    fn labels_without_a_prediction_are_unknown_in_the_end() {
        let [one, other] = replicas(Duration::from_secs(1));
        assert_eq!(tell(&other, "nobody", 0, 1.0), Outcome::Pending);
        predict(&one, "a", 0.0);
        assert_eq!(tell(&other, "a", 7, 1.0), Outcome::Pending);
        one.flush().expect("the store works");
        other.join_parked().expect("the store works");
        assert_eq!(outcomes(&other), BTreeMap::from([("pending", 2), ("unknown_row", 1)]));
        std::thread::sleep(Duration::from_millis(2500));
        for _ in 0..2 {
            other.join_parked().expect("the store works");
            let counts = BTreeMap::from([("pending", 2), ("unknown_row", 1), ("unknown_id", 1)]);
            assert_eq!(outcomes(&other), counts);
        }
        predict(&one, "nobody", 0.0);
        one.flush().expect("the store works");
        other.join_parked().expect("the store works");
        assert_eq!(performance(&other), (0, None));
    }

    #[test]
    fn where_nobody_else_predicts_no_label_waits() {
        let [one] = replicas(Duration::ZERO);
        predict(&one, "a", 0.0);
        assert_eq!(tell(&one, "b", 0, 1.0), Outcome::UnknownId);
        assert_eq!(tell(&one, "a", 1, 1.0), Outcome::UnknownRow);
        assert_eq!(tell(&one, "a", 0, 1.0), Outcome::Counted);
        one.join_parked().expect("the store works");
        assert_eq!(performance(&one), (1, Some(1.0)));
    }

    #[test]
    fn kept_predictions_are_read_again() {
        let good = Predicted { class: 1, score: 0.25 };
        let rejected = Predicted {
            class: REJECTED,
            score: f64::NAN,
        };
        let mut unsaved = Unsaved::default();
        for (key, rows) in [([1; 16], Rows::Many(vec![good, rejected])), ([2; 16], Rows::One(good))] {
            unsaved.push(&Prediction { key, time: 77, rows });
        }
        assert_eq!(unsaved.rows, 3);
        let entries = unsaved.entries();
        let [(one, two_rows), (other, one_row)] = entries[..] else {
            panic!("{entries:?}");
        };
        assert_eq!((one, other), ([1; 16], [2; 16]));
        assert_eq!(row(two_rows, 0), Some((77, good)));
        assert_eq!(row(two_rows, 1), None);
        assert_eq!(row(two_rows, 2), None);
        assert_eq!(row(one_row, 0), Some((77, good)));
        assert_eq!(row(one_row, 1), None);
        assert_eq!(row(&[], 0), None);
    }

    #[test]
    fn a_flush_ends_while_predictions_keep_coming() {
        let [one] = replicas(Duration::ZERO);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    predict(&one, "a", 0.0);
                }
            });
            while one.queued.load(Ordering::Relaxed) < 1000 {
                std::thread::yield_now();
            }
            let flushed = one.flush();
            stop.store(true, Ordering::Relaxed);
            flushed.expect("the store works");
        });
    }

    #[test]
    fn more_predictions_than_one_portion_are_all_kept() {
        let [one] = replicas(Duration::ZERO);
        let last = 2 * PORTION_BYTES / 20;
        for i in 0..=last {
            predict(&one, &i.to_string(), 0.0);
        }
        one.flush().expect("the store works");
        assert_eq!(one.queued.load(Ordering::Relaxed), 0);
        for i in [0, last / 2, last] {
            assert_eq!(tell(&one, &i.to_string(), 0, 1.0), Outcome::Counted);
        }
    }
}
