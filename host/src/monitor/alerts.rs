//! Alerts: what becomes of findings over several windows.
//!
//! For each model, version, rule and subject there is at most one alert. It is
//! *pending* when a window was bad, *firing* when enough of the last were, and
//! *resolved* when enough clean ones followed. Windows that could not be told
//! count for neither, but an alert does not outlive what it is about: after
//! [`Rule::resolve_unknown`] of them in a row it is resolved too, and says so.
//!
//! All state is in the store, and is written in the same change as the messages
//! that it causes: a crash neither loses a message nor writes it twice. Of
//! several replicas the holder of the lease of a model's version evaluates it.
//! Should two do it all the same, both compute the same messages under the same
//! names.

use super::config::{Config, duration_text};
use super::notify::{Notification, Resolution, Route, Status, routes};
use super::outbox::{self, Entry};
use super::rules::{Evaluation, Finding, Kind, Outcome, Rule, Severity};
use super::span::{rfc3339, rfc3339_ms};
use super::store::{Change, Result, Store, StoreError};
use super::triggers::Triggers;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The lease of the schedules; that of a version of a model has its name
/// behind this.
const LEASE: &str = "alerts";
const LEASE_KEEP: Duration = Duration::from_secs(30);
/// How long alerts of models that are not served here are left to others.
const ABANDONED_S: u64 = 3600;
/// How long a resolved alert is shown.
const SHOWN_MS: u64 = 86_400_000;
/// Labels may be sparse, so windows that could not be told may lie between bad
/// ones; but so many times the rule's number of windows apart, bad ones are no
/// longer one event.
const FORGET: u64 = 4;

/// The state of an alert.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlertState {
    /// Some windows were bad, but not enough of them.
    Pending,
    /// Enough were.
    Firing,
    /// It ended.
    Resolved,
}

/// An alert as it is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Alert {
    pub(super) model: String,
    pub(super) version: String,
    pub(super) rule: String,
    pub(super) kind: Kind,
    pub(super) subject: String,
    pub(super) severity: Severity,
    /// None while nothing is known against it.
    pub(super) state: Option<AlertState>,
    /// Since when it has been in this state: the end of a window.
    since_ms: u64,
    pub(super) started_ms: u64,
    resolved_ms: Option<u64>,
    /// The last windows that could be told: their ends in seconds, and whether
    /// they were bad.
    history: Vec<(u64, bool)>,
    /// Clean windows since the last bad one.
    clean: u32,
    /// Windows since the last one that could be told.
    #[serde(default)]
    unknown: u32,
    /// Why it ended, if it did.
    #[serde(default)]
    resolution: Option<Resolution>,
    /// The last one.
    window: (u64, u64),
    pub(super) value: Option<f64>,
    threshold: Option<f64>,
    pub(super) summary: String,
    /// When it was last told that it fires, while it does.
    notified_ms: Option<u64>,
    /// When it was last told that it began.
    begun_ms: Option<u64>,
    /// How often anything was told.
    told: u64,
}

/// An alert as it is reported.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlertReport {
    /// The model's name.
    pub model: String,
    /// Its version.
    pub version: String,
    /// The rule's name.
    pub rule: String,
    /// What it looks at.
    pub kind: Kind,
    /// The feature or prediction, where the rule is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// How bad it is.
    pub severity: Severity,
    /// Its state.
    pub state: AlertState,
    /// Since when, RFC 3339.
    pub since: String,
    /// What was found in the last window, in words.
    pub summary: String,
    /// The figure that was looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// What it was held against.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    /// The last window's begin, RFC 3339.
    pub window_from: String,
    /// Its end.
    pub window_to: String,
    /// Whether anybody was told that it fires.
    pub notified: bool,
    /// How many windows after that one could not be told.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unknown_windows: u32,
    /// Why it ended, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolution: Option<Resolution>,
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// Something to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tell {
    Began,
    Repeat,
    Ended,
}

impl Alert {
    fn new(e: &Evaluation, rule: &Rule, subject: &str) -> Alert {
        Alert {
            model: e.model.clone(),
            version: e.version.clone(),
            rule: rule.name.clone(),
            kind: rule.kind,
            subject: subject.to_owned(),
            severity: rule.severity,
            state: None,
            since_ms: 0,
            started_ms: 0,
            resolved_ms: None,
            history: Vec::new(),
            clean: 0,
            unknown: 0,
            resolution: None,
            window: e.window,
            value: None,
            threshold: None,
            summary: String::new(),
            notified_ms: None,
            begun_ms: None,
            told: 0,
        }
    }

    fn enter(&mut self, state: AlertState, at_ms: u64) {
        if self.state != Some(state) {
            self.state = Some(state);
            self.since_ms = at_ms;
        }
    }

    /// Takes in what was found in a window that could be told, which must be
    /// later than any before. Says whether the alert ended and that must be told.
    fn step(&mut self, rule: &Rule, finding: &Finding, window: (u64, u64)) -> Option<Tell> {
        let bad = finding.outcome == Outcome::Bad;
        let to = window.1;
        self.severity = rule.severity;
        self.unknown = 0;
        self.window = window;
        self.value = finding.value;
        self.threshold = finding.threshold;
        self.summary.clone_from(&finding.summary);
        let reach = reach_s(rule);
        self.history.push((to, bad));
        self.history.retain(|(at, _)| at + reach > to);
        let surplus = self.history.len().saturating_sub(rule.fire.of as usize);
        self.history.drain(..surplus);
        self.clean = if bad { 0 } else { self.clean + 1 };
        let bad_count = self.history.iter().filter(|(_, bad)| *bad).count() as u32;
        if self.state == Some(AlertState::Firing) {
            if self.clean >= rule.resolve {
                return self.end(Resolution::Recovered, to * 1000);
            }
        } else if bad && bad_count >= rule.fire.bad {
            self.enter(AlertState::Firing, to * 1000);
            self.started_ms = to * 1000;
            self.resolved_ms = None;
            self.resolution = None;
        } else if bad_count > 0 {
            self.enter(AlertState::Pending, to * 1000);
        } else if let Some(at) = self.resolved_ms {
            self.enter(AlertState::Resolved, at);
        } else {
            self.state = None;
        }
        None
    }

    /// Takes in that a window of its rule, which ended at `to`, could not be
    /// told. Says whether the alert ended by that and it must be told.
    fn step_unknown(&mut self, rule: &Rule, to: u64) -> Option<Tell> {
        if !matches!(self.state, Some(AlertState::Firing | AlertState::Pending)) {
            return None;
        }
        self.unknown = self.unknown.saturating_add(1);
        let over = rule.resolve_unknown > 0 && self.unknown >= rule.resolve_unknown;
        if self.state == Some(AlertState::Pending) || !over {
            return None;
        }
        self.summary = format!(
            "not enough data to tell in {} windows of {} since {}; then it was: {}",
            self.unknown,
            duration_text(rule.window),
            rfc3339(self.window.1),
            self.summary
        );
        self.end(Resolution::InsufficientData, to * 1000)
    }

    fn end(&mut self, why: Resolution, at_ms: u64) -> Option<Tell> {
        self.enter(AlertState::Resolved, at_ms);
        self.resolved_ms = Some(at_ms);
        self.resolution = Some(why);
        self.history.clear();
        self.clean = 0;
        self.notified_ms.take().map(|_| Tell::Ended)
    }

    /// A pending alert that nothing followed is no longer one.
    fn lapse(&mut self, rule: &Rule, now_ms: u64) {
        let last_ms = self.window.1.saturating_add(reach_s(rule)).saturating_mul(1000);
        if self.state == Some(AlertState::Pending) && now_ms >= last_ms {
            self.history.clear();
            match self.resolved_ms {
                Some(at) => self.enter(AlertState::Resolved, at),
                None => self.state = None,
            }
        }
    }

    /// What the time makes due.
    fn due(&mut self, rule: &Rule, now_ms: u64) -> Option<Tell> {
        if self.state != Some(AlertState::Firing) || !rule.notify {
            return None;
        }
        let after = |since: u64, by: Duration| now_ms >= since.saturating_add(by.as_millis() as u64);
        match self.notified_ms {
            None if self.begun_ms.is_none_or(|begun| after(begun, rule.cooldown)) => {
                self.notified_ms = Some(now_ms);
                self.begun_ms = Some(now_ms);
                Some(Tell::Began)
            }
            Some(last) if !rule.repeat.is_zero() && after(last, rule.repeat) => {
                self.notified_ms = Some(now_ms);
                Some(Tell::Repeat)
            }
            _ => None,
        }
    }

    /// Whether nothing would be lost with it.
    fn is_over(&self, rule: Option<&Rule>, now_ms: u64) -> bool {
        match self.state {
            None => true,
            Some(AlertState::Resolved) => {
                let cooldown = rule.map_or(0, |rule| rule.cooldown.as_millis() as u64);
                let shown_until = self.since_ms.saturating_add(SHOWN_MS);
                now_ms >= shown_until.max(self.begun_ms.map_or(0, |begun| begun.saturating_add(cooldown)))
            }
            Some(_) => false,
        }
    }

    /// Its name among the model's documents.
    fn document(&self) -> String {
        document(&self.model, &self.version, &self.rule, &self.subject)
    }

    /// Names this time of firing.
    pub(super) fn cause(&self) -> String {
        format!("{}#{}", self.document(), self.started_ms)
    }

    fn notification(&self, status: Status, repeat: bool, url: Option<&str>) -> Notification {
        let key = digest(&[&self.model, &self.version, &self.rule, &self.subject]);
        Notification {
            id: digest(&[
                &key,
                &self.started_ms.to_string(),
                status.name(),
                &self.told.to_string(),
            ]),
            key,
            status,
            repeat,
            model: self.model.clone(),
            model_version: self.version.clone(),
            rule: self.rule.clone(),
            kind: self.kind,
            subject: Some(self.subject.clone()).filter(|subject| !subject.is_empty()),
            severity: self.severity,
            summary: self.summary.clone(),
            value: self.value,
            threshold: self.threshold,
            window_from: rfc3339(self.window.0),
            window_to: rfc3339(self.window.1),
            started_at: rfc3339_ms(self.started_ms),
            resolved_at: self.resolved_ms.filter(|_| status == Status::Resolved).map(rfc3339_ms),
            resolution: self.resolution.filter(|_| status == Status::Resolved),
            url: url.map(str::to_owned),
        }
    }

    pub(super) fn report(&self) -> Option<AlertReport> {
        Some(AlertReport {
            model: self.model.clone(),
            version: self.version.clone(),
            rule: self.rule.clone(),
            kind: self.kind,
            subject: Some(self.subject.clone()).filter(|subject| !subject.is_empty()),
            severity: self.severity,
            state: self.state?,
            since: rfc3339_ms(self.since_ms),
            summary: self.summary.clone(),
            value: self.value,
            threshold: self.threshold,
            window_from: rfc3339(self.window.0),
            window_to: rfc3339(self.window.1),
            notified: self.notified_ms.is_some(),
            unknown_windows: self.unknown,
            resolution: self.resolution.filter(|_| self.state == Some(AlertState::Resolved)),
        })
    }
}

/// How many seconds bad windows may lie apart and still be one event.
fn reach_s(rule: &Rule) -> u64 {
    rule.window.as_secs() * u64::from(rule.fire.of) * FORGET
}

/// The first 128 bits of a hash over parts, hexadecimal.
pub(super) fn digest(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    hash.finalize()[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A part of a document's name. Names of models, rules and features may hold
/// anything.
pub(super) fn escaped(part: &str) -> String {
    let mut text = String::with_capacity(part.len());
    for byte in part.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => text.push(char::from(byte)),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

fn of_model(model: &str, version: &str) -> String {
    format!("alerts/{}@{}/", escaped(model), escaped(version))
}

fn document(model: &str, version: &str, rule: &str, subject: &str) -> String {
    // No subject is told apart from one of an empty name by what can't be
    // escaped.
    let subject = if subject.is_empty() {
        "*".into()
    } else {
        escaped(subject)
    };
    format!("{}{}/{subject}", of_model(model, version), escaped(rule))
}

fn lease_of(model: &str, version: &str) -> String {
    format!("{LEASE}/{}@{}", escaped(model), escaped(version))
}

/// Which window of a rule was looked at last: its end in seconds.
fn cursors(model: &str, version: &str) -> String {
    format!("alert-windows/{}@{}", escaped(model), escaped(version))
}

pub(super) fn to_json(value: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|e| StoreError(e.to_string()))
}

pub(super) fn from_json<'a, T: Deserialize<'a>>(name: &str, bytes: &'a [u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| StoreError(format!("document {name}: {e}")))
}

/// All alerts whose documents' names begin so.
fn load(store: &dyn Store, prefix: &str) -> Result<BTreeMap<String, Alert>> {
    let mut alerts = BTreeMap::new();
    for (name, bytes) in store.documents(prefix)? {
        // One that another version of this program wrote is no reason to look
        // at no other.
        match from_json(&name, &bytes) {
            Ok(alert) => drop(alerts.insert(name, alert)),
            Err(e) => tracing::warn!("{e}"),
        }
    }
    Ok(alerts)
}

/// What fires and was told to a receiver of this name.
pub(super) fn firing(store: &dyn Store, rules: &[Rule], route: &Route, url: Option<&str>) -> Result<Vec<Notification>> {
    let alerts = load(store, "alerts/")?;
    let told = alerts.values().filter(|alert| {
        let rule = rules.iter().find(|rule| rule.name == alert.rule);
        alert.state == Some(AlertState::Firing)
            && alert.notified_ms.is_some()
            && alert.severity >= route.severity_min
            && rule.is_some_and(|rule| rule.receivers.is_empty() || rule.receivers.contains(&route.name))
    });
    Ok(told
        .map(|alert| alert.notification(Status::Firing, true, url))
        .collect())
}

/// What an evaluation did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Rules that were looked at.
    pub rules: usize,
    /// Messages that were put into the outbox.
    pub messages: usize,
}

/// Evaluates windows, keeps alerts, and puts messages into the outbox.
pub struct Alerts {
    store: Arc<dyn Store>,
    rules: Vec<Rule>,
    triggers: Triggers,
    routes: Vec<Route>,
    url: Option<String>,
    holder: String,
    /// The leases that were taken; held while alerts are read and written.
    leases: Mutex<BTreeSet<String>>,
}

impl Alerts {
    /// Alerts as they are configured; `holder` names this process among those
    /// that share the store.
    ///
    /// # Errors
    /// When a schedule is wrong, which reading the configuration rules out.
    pub fn new(store: Arc<dyn Store>, config: &Config, holder: &str) -> std::result::Result<Alerts, String> {
        let triggers = Triggers::new(&config.retrain, config.notify.external_url.as_deref())?;
        let mut rules = config.monitor.rules.clone();
        rules.extend(triggers.rules());
        Ok(Alerts {
            store,
            rules,
            triggers,
            routes: routes(&config.notify),
            url: config.notify.external_url.clone(),
            holder: holder.to_owned(),
            leases: Mutex::default(),
        })
    }

    /// The rules, with those that triggers have of their own.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The windows that rules have for a model: length and delay.
    pub fn windows(&self, model: &str) -> BTreeSet<(Duration, Duration)> {
        let applying = self.rules.iter().filter(|rule| rule.applies_to(model));
        applying.map(|rule| (rule.window, rule.delay)).collect()
    }

    /// The confidences that rules on the ground truth of a model ask for.
    pub fn confidences(&self, model: &str) -> Vec<f64> {
        let rules = self.rules.iter();
        let asking = rules.filter(|rule| rule.kind == Kind::Performance && rule.applies_to(model));
        let mut confidences: Vec<f64> = asking.map(|rule| rule.confidence).collect();
        confidences.sort_by(f64::total_cmp);
        confidences.dedup();
        confidences
    }

    /// The windows that should be evaluated now: the last that has ended, of
    /// each length and delay, unless all its rules have seen it. Begin and end
    /// in seconds since 1970. Windows that were missed are not made up for.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn due(&self, model: &str, version: &str, now_ms: u64) -> Result<BTreeSet<(u64, u64)>> {
        let seen = self.seen(model, version)?;
        let rules = self.rules.iter().filter(|rule| rule.applies_to(model));
        let due = rules.filter_map(|rule| {
            let window = rule.last_window(now_ms)?;
            // What was looked at while the clock was ahead does not count.
            let looked = seen.get(&rule.name).filter(|last| **last <= now_ms / 1000);
            (looked.is_none_or(|last| *last < window.1)).then_some(window)
        });
        Ok(due.collect())
    }

    fn seen(&self, model: &str, version: &str) -> Result<BTreeMap<String, u64>> {
        let name = cursors(model, version);
        let documents = self.store.documents(&name)?;
        match documents.iter().find(|(found, _)| *found == name) {
            Some((_, bytes)) => from_json(&name, bytes),
            None => Ok(BTreeMap::new()),
        }
    }

    /// Looks at a finished window with all rules of its length whose delay is
    /// over. A window that a rule has seen, or an earlier one, changes nothing
    /// for it. Does nothing while another process holds the lease.
    ///
    /// # Errors
    /// When the store fails; then nothing was changed, and the same may be
    /// evaluated again.
    pub fn evaluate(&self, e: &Evaluation, now_ms: u64) -> Result<Done> {
        let mut leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        let (from, to) = e.window;
        let length = to.saturating_sub(from);
        let now_s = now_ms / 1000;
        let rules = self.rules.iter().filter(|rule| {
            let window = rule.window.as_secs();
            rule.applies_to(&e.model)
                && length == window
                && from.is_multiple_of(window)
                && to.saturating_add(rule.delay.as_secs()) <= now_s
        });
        let rules: Vec<&Rule> = rules.collect();
        if rules.is_empty() || !self.lead(&mut leases, lease_of(&e.model, &e.version))? {
            return Ok(Done::default());
        }
        let mut seen = self.seen(&e.model, &e.version)?;
        let mut alerts = load(&*self.store, &of_model(&e.model, &e.version))?;
        let before = alerts.clone();
        let mut messages = Vec::new();
        let mut done = Done::default();
        for rule in rules {
            if seen.get(&rule.name).is_some_and(|last| *last >= to && *last <= now_s) {
                continue;
            }
            done.rules += 1;
            seen.insert(rule.name.clone(), to);
            for finding in rule.findings(e) {
                if finding.outcome == Outcome::Unknown {
                    continue;
                }
                let name = document(&e.model, &e.version, &rule.name, &finding.subject);
                let alert = alerts
                    .entry(name)
                    .or_insert_with(|| Alert::new(e, rule, &finding.subject));
                let ended = alert.step(rule, &finding, e.window);
                if let Some(tell) = ended.or_else(|| alert.due(rule, now_ms)) {
                    self.tell(alert, rule, tell, now_ms, &mut messages);
                }
            }
            // Also those whose subject the window has nothing of.
            let untold = |alert: &&mut Alert| alert.rule == rule.name && alert.window.1 < to;
            for alert in alerts.values_mut().filter(untold) {
                let ended = alert.step_unknown(rule, to);
                if let Some(tell) = ended.or_else(|| alert.due(rule, now_ms)) {
                    self.tell(alert, rule, tell, now_ms, &mut messages);
                }
            }
        }
        if done.rules == 0 {
            return Ok(done);
        }
        seen.retain(|name, _| self.rules.iter().any(|rule| rule.name == *name));
        let mut changes = self.differences(&before, &mut alerts, now_ms)?;
        changes.push((cursors(&e.model, &e.version), Some(to_json(&seen)?)));
        let asked = self.triggers.on_alerts(&*self.store, e, &alerts, now_ms)?;
        changes.extend(asked.changes);
        messages.extend(asked.messages);
        done.messages = messages.len();
        changes.extend(outbox::put(&*self.store, messages)?);
        self.store.change(&changes)?;
        Ok(done)
    }

    /// Does what only the time makes due: reminders, begins that waited for a
    /// cooldown, schedules, and the end of alerts whose rule is gone or whose
    /// model nobody serves any more. To be called every few seconds with the
    /// names and versions of the models that are served here.
    ///
    /// # Errors
    /// When the store fails; what was done before that stays done, and the
    /// same may be tried again.
    pub fn tick(&self, models: &[(String, String)], now_ms: u64) -> Result<Done> {
        let mut leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        let mut done = Done::default();
        let found = load(&*self.store, "alerts/")?;
        let kept: BTreeSet<(&str, &str)> = found
            .values()
            .map(|alert| (alert.model.as_str(), alert.version.as_str()))
            .collect();
        for (name, version) in kept {
            let served = models.iter().any(|(n, v)| n == name && v == version);
            let mut abandoned = false;
            let of_version = |alert: &&Alert| alert.model == name && alert.version == version;
            for alert in found.values().filter(of_version).filter(|_| !served) {
                abandoned |= self.is_abandoned(alert, now_ms)?;
            }
            // The lease of a version that others serve is theirs.
            if (!served && !abandoned) || !self.lead(&mut leases, lease_of(name, version))? {
                continue;
            }
            let mut alerts = load(&*self.store, &of_model(name, version))?;
            let before = alerts.clone();
            let mut messages = Vec::new();
            for alert in alerts.values_mut() {
                match self.rule(alert) {
                    _ if abandoned => {
                        self.finish(alert, Resolution::ModelRetired, now_ms, &mut messages);
                    }
                    Some(rule) => {
                        alert.lapse(rule, now_ms);
                        if let Some(tell) = alert.due(rule, now_ms) {
                            self.tell(alert, rule, tell, now_ms, &mut messages);
                        }
                    }
                    None => self.finish(alert, Resolution::RuleRemoved, now_ms, &mut messages),
                }
            }
            let mut changes = self.differences(&before, &mut alerts, now_ms)?;
            if abandoned {
                changes.push((cursors(name, version), None));
            }
            done.messages += self.commit(changes, messages)?.messages;
        }
        if self.triggers.has_schedules() && self.lead(&mut leases, LEASE.into())? {
            let asked = self.triggers.on_time(&*self.store, models, now_ms)?;
            done.messages += self.commit(asked.changes, asked.messages)?.messages;
        }
        Ok(done)
    }

    /// Whether nobody has evaluated an alert's rule for a while.
    fn is_abandoned(&self, alert: &Alert, now_ms: u64) -> Result<bool> {
        let Some(last) = self.seen(&alert.model, &alert.version)?.get(&alert.rule).copied() else {
            return Ok(true);
        };
        let patience = self
            .rules
            .iter()
            .find(|rule| rule.name == alert.rule)
            .map_or(0, |rule| rule.window.as_secs() * 3 + rule.delay.as_secs());
        Ok(now_ms / 1000 >= last.saturating_add(patience.max(ABANDONED_S)))
    }

    /// Ends the alerts of a model that is no longer served.
    ///
    /// # Errors
    /// When the store fails; then nothing was changed.
    pub fn retire(&self, model: &str, version: &str, now_ms: u64) -> Result<Done> {
        let mut leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.lead(&mut leases, lease_of(model, version))? {
            return Ok(Done::default());
        }
        let mut alerts = load(&*self.store, &of_model(model, version))?;
        let before = alerts.clone();
        let mut messages = Vec::new();
        for alert in alerts.values_mut() {
            self.finish(alert, Resolution::ModelRetired, now_ms, &mut messages);
        }
        let mut changes = self.differences(&before, &mut alerts, now_ms)?;
        changes.push((cursors(model, version), None));
        self.commit(changes, messages)
    }

    /// The alerts of all versions of a model, or of all models: firing ones
    /// first, then by version, rule and subject.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn states(&self, model: Option<&str>) -> Result<Vec<AlertReport>> {
        let prefix = model.map_or_else(|| "alerts/".into(), |model| format!("alerts/{}@", escaped(model)));
        let alerts = load(&*self.store, &prefix)?;
        let mut reports: Vec<AlertReport> = alerts.values().filter_map(Alert::report).collect();
        reports.sort_by_key(|report| report.state != AlertState::Firing);
        Ok(reports)
    }

    /// Lets another process evaluate at once; for an orderly end.
    ///
    /// # Errors
    /// When the store fails.
    pub fn release(&self) -> Result<()> {
        let mut leases = self.leases.lock().unwrap_or_else(PoisonError::into_inner);
        for lease in std::mem::take(&mut *leases) {
            self.store.release(&lease, &self.holder)?;
        }
        Ok(())
    }

    fn lead(&self, leases: &mut BTreeSet<String>, lease: String) -> Result<bool> {
        let held = self.store.lease(&lease, &self.holder, LEASE_KEEP)?;
        match held {
            true => leases.insert(lease),
            false => leases.remove(&lease),
        };
        Ok(held)
    }

    fn rule(&self, alert: &Alert) -> Option<&Rule> {
        let mut rules = self.rules.iter();
        rules.find(|rule| rule.name == alert.rule && rule.kind == alert.kind && rule.applies_to(&alert.model))
    }

    fn finish(&self, alert: &mut Alert, why: Resolution, now_ms: u64, messages: &mut Vec<Entry>) {
        if alert.state == Some(AlertState::Firing) {
            let tell = alert.end(why, now_ms);
            alert.summary = why.words().to_owned();
            if let Some(tell) = tell {
                let rule = self.rules.iter().find(|rule| rule.name == alert.rule);
                let rule = rule.cloned().unwrap_or_else(|| Rule::new(alert.kind));
                self.tell(alert, &rule, tell, now_ms, messages);
            }
        } else if alert.state == Some(AlertState::Pending) {
            alert.state = None;
        }
    }

    fn tell(&self, alert: &mut Alert, rule: &Rule, tell: Tell, now_ms: u64, messages: &mut Vec<Entry>) {
        let status = match tell {
            Tell::Ended => Status::Resolved,
            Tell::Began | Tell::Repeat => Status::Firing,
        };
        let notification = alert.notification(status, tell == Tell::Repeat, self.url.as_deref());
        alert.told += 1;
        for route in &self.routes {
            let wanted = (rule.receivers.is_empty() || rule.receivers.contains(&route.name))
                && alert.severity >= route.severity_min
                && (route.send_resolved || status == Status::Firing);
            if wanted {
                // The window's end is the same for whoever evaluates it.
                let at_ms = match tell {
                    Tell::Repeat => now_ms,
                    Tell::Began | Tell::Ended => alert.since_ms,
                };
                messages.push(Entry::alert(&route.name, notification.clone(), at_ms, now_ms));
            }
        }
    }

    /// What has changed, without alerts that are over.
    fn differences(
        &self,
        before: &BTreeMap<String, Alert>,
        after: &mut BTreeMap<String, Alert>,
        now_ms: u64,
    ) -> Result<Vec<Change>> {
        after.retain(|_, alert| !alert.is_over(self.rule(alert), now_ms));
        let mut changes = Vec::new();
        for (name, alert) in after.iter() {
            if before.get(name) != Some(alert) {
                changes.push((name.clone(), Some(to_json(alert)?)));
            }
        }
        let gone = before.keys().filter(|name| !after.contains_key(*name));
        changes.extend(gone.map(|name| (name.clone(), None)));
        Ok(changes)
    }

    fn commit(&self, mut changes: Vec<Change>, messages: Vec<Entry>) -> Result<Done> {
        let done = Done {
            rules: 0,
            messages: messages.len(),
        };
        changes.extend(outbox::put(&*self.store, messages)?);
        if !changes.is_empty() {
            self.store.change(&changes)?;
        }
        Ok(done)
    }
}
