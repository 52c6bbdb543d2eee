//! Who is told, and in what form.
//!
//! Messages wait in the [outbox](super::outbox), one for each receiver, and are
//! handed over there. A message may be delivered again after a crash; its id
//! stays the same, so that receivers can tell.

mod alertmanager;
mod email;
mod log;
mod slack;
mod webhook;

use super::config::{Config, Format, NotifyConfig};
use super::rules::{Kind, Severity};
use super::triggers::CloudEvent;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Whether an alert began or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It is firing.
    Firing,
    /// It ended.
    Resolved,
}

impl Status {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Status::Firing => "firing",
            Status::Resolved => "resolved",
        }
    }
}

/// Why an alert ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resolution {
    /// Its rule found enough clean windows.
    Recovered,
    /// So many windows could not be told that it is not known whether it still
    /// holds.
    InsufficientData,
    /// Its rule is gone from the configuration, is off, or no longer for the
    /// model.
    RuleRemoved,
    /// The model is no longer served.
    ModelRetired,
}

impl Resolution {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Resolution::Recovered => "it recovered",
            Resolution::InsufficientData => "not enough data to tell",
            Resolution::RuleRemoved => "its rule is gone",
            Resolution::ModelRetired => "the model is no longer served",
        }
    }
}

/// Tells that an alert began or ended. This is also the JSON that generic
/// webhooks are sent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Notification {
    /// One for each time that something is told; the same when a delivery is
    /// tried again.
    pub id: String,
    /// The alert's: one for each model, version, rule and subject.
    pub key: String,
    /// Whether it began or ended.
    pub status: Status,
    /// Whether its begin was told before.
    pub repeat: bool,
    /// The model's name.
    pub model: String,
    /// Its version.
    pub model_version: String,
    /// The rule's name.
    pub rule: String,
    /// What the rule looks at.
    pub kind: Kind,
    /// The feature or prediction, where the rule is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// How bad it is.
    pub severity: Severity,
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
    /// When the alert began, RFC 3339.
    pub started_at: String,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolved_at: Option<String>,
    /// Why it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resolution: Option<Resolution>,
    /// Where more is to be seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

impl Notification {
    /// The whole on one line.
    pub fn title(&self) -> String {
        let on = self.subject.as_ref().map_or(String::new(), |s| format!(" on {s}"));
        let again = if self.repeat { " still" } else { "" };
        // That it recovered is what everybody takes an end for.
        let why = match self.resolution {
            None | Some(Resolution::Recovered) => String::new(),
            Some(why) => format!(" ({})", why.words()),
        };
        let line = format!(
            "[{}] {} {}:{again} {}{on}{why}",
            self.status.name(),
            self.model,
            self.model_version,
            self.rule
        );
        line.replace(char::is_control, " ")
    }
}

/// What waits in the outbox. The tag is none that an event has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Message {
    /// An alert began or ended.
    Alert(Notification),
    /// A new model is asked for.
    Retrain(CloudEvent),
}

/// Why a message was not delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It never will be.
    Final(String),
    /// It may be later.
    Retry {
        /// Why.
        reason: String,
        /// Not before this, if the receiver said so.
        after: Option<Duration>,
    },
}

impl Failure {
    fn retry(reason: impl ToString) -> Failure {
        Failure::Retry {
            reason: reason.to_string(),
            after: None,
        }
    }
}

/// Takes messages, one at a time.
pub trait Receiver: Send {
    /// Its name, as messages are addressed to it.
    fn name(&self) -> &str;

    /// Hands a message over; blocks no longer than its timeout, by and large.
    ///
    /// # Errors
    /// When it was not taken.
    fn deliver(&self, message: &Message, now_ms: u64) -> Result<(), Failure>;

    /// How often it must be told of all that fires, if it must.
    fn resend(&self) -> Option<Duration> {
        None
    }

    /// Tells it of all that fires.
    ///
    /// # Errors
    /// When it was not taken.
    fn refresh(&self, _firing: &[Notification], _now_ms: u64) -> Result<(), Failure> {
        Ok(())
    }
}

/// A receiver of alerts, as far as it must be known to address one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Its name.
    pub name: String,
    /// Whether it wants to know of an end.
    pub send_resolved: bool,
    /// It wants to know of nothing less severe.
    pub severity_min: Severity,
}

/// The receivers of alerts.
pub fn routes(notify: &NotifyConfig) -> Vec<Route> {
    let mut routes: Vec<Route> = Vec::new();
    for webhook in &notify.webhook {
        routes.push(Route {
            name: webhook.name.clone(),
            send_resolved: webhook.send_resolved,
            severity_min: webhook.severity_min,
        });
    }
    routes.extend(notify.email.as_ref().map(|email| Route {
        name: "email".into(),
        send_resolved: email.send_resolved,
        severity_min: email.severity_min,
    }));
    routes.extend(notify.log.enabled.then(|| Route {
        name: "log".into(),
        send_resolved: true,
        severity_min: Severity::Info,
    }));
    routes
}

/// The name that a trigger's webhook has in the outbox. The colon keeps it
/// apart from receivers of alerts.
pub(super) fn retrain_receiver(trigger: &str) -> String {
    format!("retrain:{trigger}")
}

/// Makes the receivers of alerts and events.
///
/// # Errors
/// When an environment variable is not set, or a receiver can't be made; the
/// text names the key.
pub fn receivers(config: &Config) -> Result<Vec<Box<dyn Receiver>>, String> {
    let notify = &config.notify;
    let mut receivers: Vec<Box<dyn Receiver>> = Vec::new();
    for (i, hook) in notify.webhook.iter().enumerate() {
        let http = webhook::Http::new(&hook.url, &hook.headers, notify.timeout)
            .map_err(|e| format!("notify.webhook[{i}].{e}"))?;
        let name = hook.name.clone();
        receivers.push(match hook.format {
            Format::Generic => Box::new(webhook::Webhook { name, http }),
            Format::Slack => Box::new(slack::Slack { name, http }),
            Format::Alertmanager => Box::new(alertmanager::Alertmanager::new(name, http, hook.resend)),
        });
    }
    if let Some(email) = &notify.email {
        let email = email::Email::new(email, notify.timeout).map_err(|e| format!("notify.email.{e}"))?;
        receivers.push(Box::new(email));
    }
    if notify.log.enabled {
        receivers.push(Box::new(log::Log));
    }
    for (i, retrain) in config.retrain.iter().enumerate() {
        let http = webhook::Http::new(&retrain.webhook, &retrain.headers, notify.timeout)
            .map_err(|e| format!("retrain[{i}].{}", e.replacen("url", "webhook", 1)))?;
        receivers.push(Box::new(webhook::Webhook {
            name: retrain_receiver(&retrain.name),
            http,
        }));
    }
    Ok(receivers)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::monitor::span::rfc3339_ms as rfc3339;

    pub(crate) fn notification(status: Status) -> Notification {
        Notification {
            id: "0123".into(),
            key: "ab".into(),
            status,
            repeat: false,
            model: "credit".into(),
            model_version: "1.0.0".into(),
            rule: "feature_drift".into(),
            kind: Kind::FeatureDrift,
            subject: Some("income <b>\r\nBcc: x@y.org".into()),
            severity: Severity::Warning,
            summary: "feature income: PSI 0.300 on 500 values".into(),
            value: Some(0.3),
            threshold: Some(0.1),
            window_from: rfc3339(0),
            window_to: rfc3339(3_600_000),
            started_at: rfc3339(3_600_000),
            resolved_at: (status == Status::Resolved).then(|| rfc3339(7_200_500)),
            resolution: (status == Status::Resolved).then_some(Resolution::Recovered),
            url: Some("https://models.example.org".into()),
        }
    }

    #[test]
    fn times_are_rfc_3339() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(1_700_000_000_250), "2023-11-14T22:13:20.250Z");
    }

    #[test]
    fn a_receiver_that_lacks_its_secret_is_named() {
        let text = "[[notify.webhook]]\nurl = \"http://a\"\nheaders = { x = \"env:MODELET_NO_SUCH\" }\n";
        let error = receivers(&Config::parse(text).unwrap()).err().unwrap();
        assert_eq!(
            error,
            "notify.webhook[0].headers.x: environment variable MODELET_NO_SUCH: environment variable not found"
        );
        let text = "[[retrain]]\non = \"drift\"\nwebhook = \"env:MODELET_NO_SUCH\"\n";
        let error = receivers(&Config::parse(text).unwrap()).err().unwrap();
        assert!(error.starts_with("retrain[0].webhook: "), "{error}");
        let all = receivers(&Config::default()).unwrap();
        assert_eq!(all.iter().map(|r| r.name()).collect::<Vec<_>>(), ["log"]);
    }
}
