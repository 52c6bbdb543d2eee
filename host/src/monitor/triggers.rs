//! When a new model is asked for: by an alert, or by the clock; once for each
//! cause. The request is a CloudEvent.

use super::alerts::{Alert, AlertReport, AlertState, digest, escaped, from_json, to_json};
use super::config::{On, Retrain};
use super::notify::{Message, retrain_receiver};
use super::outbox::Entry;
use super::rules::{Evaluation, Fire, Kind, Rule};
use super::span::{rfc3339, rfc3339_ms};
use super::store::{Change, Result, Store};
use chrono::{DateTime, Utc};
use croner::Cron;
use modelet::drift::report::{ColumnReport, QualityState, Report, State};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::str::FromStr;

/// The type of the events.
pub const EVENT_TYPE: &str = "dev.modelet.retrain.requested";

/// An event as CloudEvents 1.0 has it, in the structured form.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CloudEvent {
    /// `1.0`.
    pub specversion: String,
    /// Unique for each cause; the same when a delivery is tried again.
    pub id: String,
    /// The host's address, where one is configured, and the model's path.
    pub source: String,
    /// [`EVENT_TYPE`]
    #[serde(rename = "type")]
    pub kind: String,
    /// The model's name.
    pub subject: String,
    /// When it was made, RFC 3339.
    pub time: String,
    /// `application/json`
    pub datacontenttype: String,
    /// What is asked, and why.
    pub data: Request,
}

/// Asks for a new model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// The trigger's name.
    pub trigger: String,
    /// `drift`, `performance`, `new_patterns` or `schedule`.
    pub on: String,
    /// The model's name.
    pub model: String,
    /// The version that is served.
    pub version: String,
    /// SHA-256 of its bundle, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Why, in words.
    pub reason: String,
    /// The features concerned.
    pub features: Vec<String>,
    /// The alerts that are the cause.
    pub alerts: Vec<AlertReport>,
    /// The time of the schedule, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduled_for: Option<String>,
    /// The drift report of the window in short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<Excerpt>,
}

/// A drift report in short.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Excerpt {
    /// The report in a sentence or two.
    pub verdict: String,
    /// Rows that were answered.
    pub rows: u64,
    /// Rows of the reference.
    pub reference_rows: u64,
    /// The window's begin, RFC 3339.
    pub window_from: String,
    /// Its end.
    pub window_to: String,
    /// Features and predictions that drifted, or whose data are bad.
    pub columns: Vec<ExcerptColumn>,
}

/// A column of a drift report in short.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExcerptColumn {
    /// Its name.
    pub name: String,
    /// The verdict on its distribution.
    pub state: State,
    /// Whether it alerts.
    pub alert: bool,
    /// Population stability index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub psi: Option<f64>,
    /// The adjusted p-value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adjusted_p: Option<f64>,
    /// The share of missing values.
    pub missing: f64,
    /// The share of numbers beyond the seen range.
    pub out_of_range: f64,
    /// The share of categories that the reference does not have.
    pub unseen: f64,
}

impl Excerpt {
    fn new(report: &Report, window: (u64, u64)) -> Excerpt {
        let told = |column: &&ColumnReport| column.state == State::Drifted || column.quality.state == QualityState::Bad;
        let columns = report.features.iter().chain(&report.predictions).filter(told);
        Excerpt {
            verdict: report.verdict.clone(),
            rows: report.rows,
            reference_rows: report.reference_rows,
            window_from: rfc3339(window.0),
            window_to: rfc3339(window.1),
            columns: columns
                .map(|column| ExcerptColumn {
                    name: column.name.clone(),
                    state: column.state,
                    alert: column.alert,
                    psi: column.drift.as_ref().map(|figures| figures.psi),
                    adjusted_p: column.drift.as_ref().map(|figures| figures.adjusted_p),
                    missing: finite(column.quality.missing.share),
                    out_of_range: finite(column.quality.out_of_range.share),
                    unseen: finite(column.quality.unseen.share),
                })
                .collect(),
        }
    }
}

/// JSON has no other numbers.
fn finite(share: f64) -> f64 {
    if share.is_finite() { share } else { 0.0 }
}

/// What a trigger remembers of a model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
struct Memory {
    /// When an event was last made.
    last_ms: Option<u64>,
    /// The causes that still hold and were told.
    told: BTreeSet<String>,
    /// The last time of the schedule that was seen, or when it was first
    /// looked at.
    ticked_ms: Option<u64>,
}

/// What triggers ask for.
#[derive(Default)]
pub(super) struct Asked {
    pub(super) changes: Vec<Change>,
    pub(super) messages: Vec<Entry>,
}

/// The triggers.
pub(super) struct Triggers {
    triggers: Vec<(Retrain, Option<Cron>)>,
    url: Option<String>,
}

impl Triggers {
    pub(super) fn new(configs: &[Retrain], url: Option<&str>) -> std::result::Result<Triggers, String> {
        let mut triggers = Vec::new();
        for config in configs {
            let cron = config.cron.as_deref().map(Cron::from_str).transpose();
            let cron = cron.map_err(|e| format!("trigger {:?}: cron: {e}", config.name))?;
            triggers.push((config.clone(), cron));
        }
        Ok(Triggers {
            triggers,
            url: url.map(str::to_owned),
        })
    }

    pub(super) fn has_schedules(&self) -> bool {
        self.triggers.iter().any(|(_, cron)| cron.is_some())
    }

    /// The rules that triggers need and nobody else is told of.
    pub(super) fn rules(&self) -> Vec<Rule> {
        let new_patterns = self
            .triggers
            .iter()
            .filter(|(trigger, _)| trigger.on == On::NewPatterns);
        let rule = |(trigger, _): &(Retrain, Option<Cron>)| Rule {
            name: retrain_receiver(&trigger.name),
            window: trigger.window,
            threshold: Some(trigger.share),
            min_count: trigger.min_count,
            fire: Fire { bad: 1, of: 1 },
            resolve: 1,
            notify: false,
            models: trigger.models.clone(),
            ..Rule::new(Kind::NewPatterns)
        };
        new_patterns.map(rule).collect()
    }

    /// Asks for what the alerts of a model call for.
    pub(super) fn on_alerts(
        &self,
        store: &dyn Store,
        e: &Evaluation,
        alerts: &BTreeMap<String, Alert>,
        now_ms: u64,
    ) -> Result<Asked> {
        let mut asked = Asked::default();
        for (trigger, _) in &self.triggers {
            if trigger.on == On::Schedule || !trigger.applies_to(&e.model) {
                continue;
            }
            let own = retrain_receiver(&trigger.name);
            let counts = |alert: &&Alert| {
                let listed = trigger.rules.is_empty() || trigger.rules.contains(&alert.rule);
                alert.state == Some(AlertState::Firing)
                    && match trigger.on {
                        On::Drift => matches!(alert.kind, Kind::FeatureDrift | Kind::PredictionDrift) && listed,
                        On::Performance => matches!(alert.kind, Kind::Performance | Kind::Cusum) && listed,
                        On::NewPatterns => alert.rule == own,
                        On::Schedule => false,
                    }
            };
            let firing: Vec<&Alert> = alerts.values().filter(counts).collect();
            let causes: BTreeSet<String> = firing.iter().map(|alert| alert.cause()).collect();
            let name = document(trigger, &e.model);
            let mut memory = memory(store, &name)?;
            let before = memory.clone();
            // Causes of other versions of the model are none of this window's.
            let ours = alerts_of(e);
            memory
                .told
                .retain(|cause| causes.contains(cause) || !cause.starts_with(&ours));
            let new: Vec<String> = causes.difference(&memory.told).cloned().collect();
            let cool = memory
                .last_ms
                .is_none_or(|last| now_ms >= last.saturating_add(trigger.cooldown.as_millis() as u64));
            // A cause that comes during the cooldown waits; if it still holds
            // afterwards, it is told with the first window.
            if !new.is_empty() && cool {
                let mut features: Vec<String> = firing.iter().map(|alert| alert.subject.clone()).collect();
                features.retain(|feature| !feature.is_empty());
                let reasons: Vec<&str> = firing.iter().map(|alert| alert.summary.as_str()).collect();
                let request = Request {
                    trigger: trigger.name.clone(),
                    on: on_name(trigger.on).into(),
                    model: e.model.clone(),
                    version: e.version.clone(),
                    sha256: e.report.as_ref().map(|report| report.sha256.clone()),
                    reason: reasons.join("; "),
                    features,
                    alerts: firing.iter().filter_map(|alert| alert.report()).collect(),
                    scheduled_for: None,
                    report: e.report.as_ref().map(|report| Excerpt::new(report, e.window)),
                };
                asked.messages.push(self.event(request, &new.join("\n"), now_ms));
                memory.told.extend(causes);
                memory.last_ms = Some(now_ms);
            }
            if memory != before {
                asked.changes.push((name, Some(to_json(&memory)?)));
            }
        }
        Ok(asked)
    }

    /// Asks for what schedules call for. Times that were missed are made up
    /// for by one event.
    pub(super) fn on_time(&self, store: &dyn Store, models: &[(String, String)], now_ms: u64) -> Result<Asked> {
        let mut asked = Asked::default();
        let Some(now) = i64::try_from(now_ms)
            .ok()
            .and_then(DateTime::<Utc>::from_timestamp_millis)
        else {
            return Ok(asked);
        };
        // The last version of a name, so that a model is asked for once.
        let models: BTreeMap<&str, &str> = models.iter().map(|(name, version)| (&**name, &**version)).collect();
        for (trigger, cron) in &self.triggers {
            let Some(cron) = cron else { continue };
            for (&model, &version) in models.iter().filter(|(model, _)| trigger.applies_to(model)) {
                let name = document(trigger, model);
                let mut memory = memory(store, &name)?;
                let Some(seen) = memory.ticked_ms else {
                    memory.ticked_ms = Some(now_ms);
                    asked.changes.push((name, Some(to_json(&memory)?)));
                    continue;
                };
                // A schedule of which no time has been yet has none.
                let Ok(last) = cron.find_previous_occurrence(&now, true) else {
                    continue;
                };
                let last_ms = u64::try_from(last.timestamp_millis()).unwrap_or(0);
                if last_ms <= seen {
                    continue;
                }
                memory.ticked_ms = Some(last_ms);
                let cool = memory
                    .last_ms
                    .is_none_or(|last| now_ms >= last.saturating_add(trigger.cooldown.as_millis() as u64));
                if cool {
                    memory.last_ms = Some(now_ms);
                    let request = Request {
                        trigger: trigger.name.clone(),
                        on: on_name(trigger.on).into(),
                        model: model.to_owned(),
                        version: version.to_owned(),
                        sha256: None,
                        reason: format!("schedule {} of {}", cron.as_str(), rfc3339_ms(last_ms)),
                        features: Vec::new(),
                        alerts: Vec::new(),
                        scheduled_for: Some(rfc3339_ms(last_ms)),
                        report: None,
                    };
                    asked.messages.push(self.event(request, &last_ms.to_string(), now_ms));
                }
                asked.changes.push((name, Some(to_json(&memory)?)));
            }
        }
        Ok(asked)
    }

    fn event(&self, data: Request, cause: &str, now_ms: u64) -> Entry {
        let receiver = retrain_receiver(&data.trigger);
        let event = CloudEvent {
            specversion: "1.0".into(),
            id: digest(&[&data.trigger, &data.model, cause]),
            source: format!("{}/models/{}", self.url.as_deref().unwrap_or(""), escaped(&data.model)),
            kind: EVENT_TYPE.into(),
            subject: data.model.clone(),
            time: rfc3339_ms(now_ms),
            datacontenttype: "application/json".into(),
            data,
        };
        Entry {
            id: digest(&[&event.id, &receiver]),
            receiver,
            key: None,
            at_ms: now_ms,
            created_ms: now_ms,
            message: Message::Retrain(event),
        }
    }
}

fn on_name(on: On) -> &'static str {
    match on {
        On::Drift => "drift",
        On::Performance => "performance",
        On::NewPatterns => "new_patterns",
        On::Schedule => "schedule",
    }
}

fn alerts_of(e: &Evaluation) -> String {
    format!("alerts/{}@{}/", escaped(&e.model), escaped(&e.version))
}

fn document(trigger: &Retrain, model: &str) -> String {
    format!("retrain/{}/{}", escaped(&trigger.name), escaped(model))
}

fn memory(store: &dyn Store, name: &str) -> Result<Memory> {
    let documents = store.documents(name)?;
    match documents.iter().find(|(found, _)| found == name) {
        Some((_, bytes)) => from_json(name, bytes),
        None => Ok(Memory::default()),
    }
}
