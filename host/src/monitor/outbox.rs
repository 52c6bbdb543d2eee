//! Messages on their way: kept in the store until their receiver has taken
//! them.
//!
//! A receiver that is down is tried again after a pause that doubles, with
//! jitter; meanwhile a newer state of an alert takes the place of the queued
//! one, so that its return is not met by a storm. What the receiver refuses is
//! logged and dropped, and so is what has grown too old. Of several processes
//! the holder of a lease delivers.
//!
//! Delivery is at least once: a crash between a receiver's answer and the
//! removal of the message makes it come again, with the same id.

use super::alerts::{digest, firing, from_json, to_json};
use super::config::Config;
use super::notify::{self, Failure, Message, Notification, Receiver, Route};
use super::rules::Rule;
use super::span::since_1970;
use super::store::{Change, Result, Store};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const LEASE: &str = "outbox";
const PREFIX: &str = "outbox/";

/// A message for one receiver.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// One for each message and receiver.
    pub(super) id: String,
    pub(super) receiver: String,
    /// Of several with the same key only the last is kept.
    pub(super) key: Option<String>,
    /// When it happened; the same for whoever writes it.
    pub(super) at_ms: u64,
    /// When it was written.
    pub(super) created_ms: u64,
    pub(super) message: Message,
}

impl Entry {
    pub(super) fn alert(receiver: &str, notification: Notification, at_ms: u64, now_ms: u64) -> Entry {
        Entry {
            id: digest(&[&notification.id, receiver]),
            receiver: receiver.to_owned(),
            key: Some(notification.key.clone()),
            at_ms,
            created_ms: now_ms,
            message: Message::Alert(notification),
        }
    }

    fn document(&self) -> String {
        format!("{PREFIX}{:014}-{}", self.at_ms, self.id)
    }
}

/// The changes that put messages into the outbox, in the place of earlier ones
/// of the same receiver and key.
pub(super) fn put(store: &dyn Store, entries: Vec<Entry>) -> Result<Vec<Change>> {
    let mut changes: BTreeMap<String, Option<Vec<u8>>> = BTreeMap::new();
    if entries.is_empty() {
        return Ok(Vec::new());
    }
    let queued = queued(store)?;
    for entry in entries {
        for (name, old) in &queued {
            if entry.key.is_some() && old.key == entry.key && old.receiver == entry.receiver {
                changes.insert(name.clone(), None);
            }
        }
        changes.insert(entry.document(), Some(to_json(&entry)?));
    }
    Ok(changes.into_iter().collect())
}

fn queued(store: &dyn Store) -> Result<BTreeMap<String, Entry>> {
    let mut entries = BTreeMap::new();
    for (name, bytes) in store.documents(PREFIX)? {
        match from_json(&name, &bytes) {
            Ok(entry) => drop(entries.insert(name, entry)),
            Err(e) => {
                tracing::error!("a message can't be read and is dropped: {e}");
                store.change(&[(name, None)])?;
            }
        }
    }
    Ok(entries)
}

/// How messages are delivered.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Names this process among those that share the store.
    pub holder: String,
    /// How often the store is looked at. Default: 1 s.
    pub poll: Duration,
    /// The first pause after a failure. Default: 1 s.
    pub retry_first: Duration,
    /// The longest. Default: 5 m.
    pub retry_max: Duration,
    /// When a message is too old. Default: 24 h.
    pub give_up_after: Duration,
    /// The longest that a delivery takes, by and large. Default: 10 s.
    pub timeout: Duration,
}

impl Settings {
    /// As it is configured.
    pub fn new(config: &Config, holder: &str) -> Settings {
        Settings {
            holder: holder.to_owned(),
            poll: Duration::from_secs(1),
            retry_first: Duration::from_secs(1),
            retry_max: config.notify.retry_max,
            give_up_after: config.notify.give_up_after,
            timeout: config.notify.timeout,
        }
    }

    /// The lease must outlive a delivery, which has several steps where it is
    /// mail.
    fn lease_keep(&self) -> Duration {
        self.timeout * 4 + self.poll * 4 + Duration::from_secs(10)
    }
}

#[derive(Default)]
struct Signal {
    stop: bool,
    wake: bool,
}

/// Delivers messages, on a thread of its own, until it is stopped or dropped.
pub struct Outbox {
    signal: Arc<(Mutex<Signal>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Outbox {
    /// Starts to deliver to the receivers that are configured. `rules` are
    /// those of [`Alerts::rules`](super::alerts::Alerts::rules).
    ///
    /// # Errors
    /// When a receiver can't be made, with the key that is to blame, or the
    /// thread can't be started.
    pub fn start(
        store: Arc<dyn Store>,
        config: &Config,
        rules: &[Rule],
        settings: Settings,
    ) -> std::result::Result<Outbox, String> {
        let receivers = notify::receivers(config)?;
        let signal: Arc<(Mutex<Signal>, Condvar)> = Arc::default();
        let mut worker = Worker {
            store,
            settings,
            rules: rules.to_vec(),
            routes: notify::routes(&config.notify),
            url: config.notify.external_url.clone(),
            lines: receivers.into_iter().map(Line::new).collect(),
            tries: HashMap::new(),
            signal: Arc::clone(&signal),
        };
        let thread = std::thread::Builder::new()
            .name("outbox".into())
            .spawn(move || worker.run())
            .map_err(|e| format!("no thread for the outbox: {e}"))?;
        Ok(Outbox {
            signal,
            thread: Some(thread),
        })
    }

    /// Looks at the store at once; for whoever has just written to it.
    pub fn wake(&self) {
        self.set(|signal| signal.wake = true);
    }

    /// Ends the delivery under way and stops. What is left waits in the store.
    pub fn stop(mut self) {
        self.join();
    }

    fn set(&self, change: impl FnOnce(&mut Signal)) {
        let (signal, changed) = &*self.signal;
        change(&mut signal.lock().unwrap_or_else(PoisonError::into_inner));
        changed.notify_all();
    }

    fn join(&mut self) {
        self.set(|signal| signal.stop = true);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the outbox's thread panicked");
        }
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.join();
    }
}

/// A receiver, and whether it is up.
struct Line {
    receiver: Box<dyn Receiver>,
    failures: u32,
    not_before: Instant,
    resend_at: Instant,
}

impl Line {
    fn new(receiver: Box<dyn Receiver>) -> Line {
        let now = Instant::now();
        Line {
            receiver,
            failures: 0,
            not_before: now,
            resend_at: now,
        }
    }

    fn succeeded(&mut self) {
        if self.failures > 0 {
            tracing::info!(receiver = self.receiver.name(), "the receiver is back");
        }
        self.failures = 0;
    }

    fn failed(&mut self, settings: &Settings, after: Option<Duration>) -> Duration {
        let doubled = settings.retry_first.saturating_mul(1 << self.failures.min(20));
        let pause = doubled.min(settings.retry_max);
        self.failures = self.failures.saturating_add(1);
        // Half to all of it, so that many hosts do not come back at once. What
        // the receiver asked for holds, within the longest pause.
        let jitter = 0.5 + (uuid::Uuid::now_v7().as_u128() & 0xffff) as f64 / f64::from(0x1_ffff);
        let pause = pause
            .mul_f64(jitter)
            .max(after.unwrap_or_default().min(settings.retry_max));
        self.not_before = Instant::now() + pause;
        pause
    }
}

struct Worker {
    store: Arc<dyn Store>,
    settings: Settings,
    rules: Vec<Rule>,
    routes: Vec<Route>,
    url: Option<String>,
    lines: Vec<Line>,
    /// How often each message was tried. Not kept: after a restart a receiver
    /// is tried at once.
    tries: HashMap<String, u32>,
    signal: Arc<(Mutex<Signal>, Condvar)>,
}

impl Worker {
    fn run(&mut self) {
        let mut broken = false;
        while !self.stopped() {
            match self.pass() {
                Ok(()) => broken = false,
                Err(e) if !broken => {
                    broken = true;
                    tracing::error!("the outbox can't be read or written: {e}");
                }
                Err(_) => {}
            }
            let (signal, changed) = &*self.signal;
            let guard = signal.lock().unwrap_or_else(PoisonError::into_inner);
            let wait = changed.wait_timeout_while(guard, self.settings.poll, |s| !s.stop && !s.wake);
            let (mut guard, _) = wait.unwrap_or_else(PoisonError::into_inner);
            guard.wake = false;
        }
        if let Err(e) = self.store.release(LEASE, &self.settings.holder) {
            tracing::warn!("the outbox's lease was not given back: {e}");
        }
    }

    fn stopped(&self) -> bool {
        self.signal.0.lock().unwrap_or_else(PoisonError::into_inner).stop
    }

    fn leads(&self) -> Result<bool> {
        self.store
            .lease(LEASE, &self.settings.holder, self.settings.lease_keep())
    }

    fn pass(&mut self) -> Result<()> {
        if !self.leads()? {
            return Ok(());
        }
        let queued = queued(&*self.store)?;
        self.tries.retain(|name, _| queued.contains_key(name));
        let now_ms = now_ms();
        let give_up_ms = self.settings.give_up_after.as_millis() as u64;
        let mut waiting: Vec<(&String, &Entry)> = Vec::new();
        for (name, entry) in &queued {
            if now_ms.saturating_sub(entry.created_ms) >= give_up_ms {
                tracing::error!(
                    id = entry.id,
                    receiver = entry.receiver,
                    "a message was too old and is dropped"
                );
                self.store.change(&[(name.clone(), None)])?;
            } else {
                waiting.push((name, entry));
            }
        }
        // One that fails again and again does not hold up the others.
        waiting.sort_by_key(|(name, _)| (self.tries.get(*name).copied().unwrap_or(0), *name));
        for index in 0..self.lines.len() {
            for &(name, entry) in &waiting {
                if self.stopped() {
                    return Ok(());
                }
                if self.lines[index].not_before > Instant::now() {
                    break;
                }
                if self.lines[index].receiver.name() == entry.receiver {
                    self.deliver(index, name, entry)?;
                }
            }
        }
        self.resend()
    }

    fn deliver(&mut self, index: usize, name: &str, entry: &Entry) -> Result<()> {
        // Others were delivered meanwhile, which takes time.
        if !self.leads()? || !self.store.documents(name)?.iter().any(|(found, _)| found == name) {
            return Ok(());
        }
        let line = &mut self.lines[index];
        let (id, receiver) = (entry.id.as_str(), entry.receiver.as_str());
        match line.receiver.deliver(&entry.message, now_ms()) {
            Ok(()) => {
                line.succeeded();
                tracing::debug!(id, receiver, "a message was delivered");
                self.store.change(&[(name.to_owned(), None)])?;
            }
            Err(Failure::Final(reason)) => {
                // It answers, so it is up.
                line.succeeded();
                tracing::error!(id, receiver, "a message was refused and is dropped: {reason}");
                self.store.change(&[(name.to_owned(), None)])?;
            }
            Err(Failure::Retry { reason, after }) => {
                let pause_ms = line.failed(&self.settings, after).as_millis() as u64;
                *self.tries.entry(name.to_owned()).or_default() += 1;
                tracing::warn!(id, receiver, pause_ms, "a message was not delivered: {reason}");
            }
        }
        Ok(())
    }

    /// Tells those who want it again what fires.
    fn resend(&mut self) -> Result<()> {
        for line in &mut self.lines {
            let now = Instant::now();
            let Some(every) = line.receiver.resend() else { continue };
            if now < line.resend_at || now < line.not_before {
                continue;
            }
            let Some(route) = self.routes.iter().find(|route| route.name == line.receiver.name()) else {
                continue;
            };
            line.resend_at = now + every;
            let firing = firing(&*self.store, &self.rules, route, self.url.as_deref())?;
            match line.receiver.refresh(&firing, now_ms()) {
                Ok(()) if firing.is_empty() => {}
                Ok(()) => line.succeeded(),
                Err(Failure::Final(reason)) => {
                    tracing::error!(receiver = route.name, "firing alerts were refused: {reason}");
                }
                Err(Failure::Retry { reason, after }) => {
                    line.resend_at = now;
                    line.failed(&self.settings, after);
                    tracing::warn!(receiver = route.name, "firing alerts were not delivered: {reason}");
                }
            }
        }
        Ok(())
    }
}

fn now_ms() -> u64 {
    since_1970().as_millis() as u64
}
