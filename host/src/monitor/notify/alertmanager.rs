//! Alertmanager's API, version 2: `POST /api/v2/alerts`.
//!
//! It is told the state rather than the change: what it has not heard of for a
//! while it takes for ended. A firing alert therefore says how long it holds,
//! and is sent again long before.

use super::webhook::Http;
use super::{Failure, Message, Notification, Receiver, Status};
use crate::monitor::span::rfc3339_ms;
use serde_json::{Value, json};
use std::time::Duration;

pub(super) struct Alertmanager {
    name: String,
    http: Http,
    url: String,
    resend: Duration,
}

impl Alertmanager {
    pub(super) fn new(name: String, http: Http, resend: Duration) -> Alertmanager {
        let base = http.url.trim_end_matches('/');
        let url = match base.ends_with("/api/v2/alerts") {
            true => base.to_owned(),
            false => format!("{base}/api/v2/alerts"),
        };
        Alertmanager {
            name,
            http,
            url,
            resend,
        }
    }

    fn post(&self, alerts: &[&Notification], now_ms: u64) -> Result<(), Failure> {
        // As Prometheus does: four times the interval, so that three may be lost.
        let holds_ms = (self.resend * 4).as_millis() as u64;
        let body: Vec<Value> = alerts.iter().map(|alert| body(alert, now_ms + holds_ms)).collect();
        self.http
            .post(&self.url, "application/json", Value::Array(body).to_string().as_bytes())
    }
}

/// The labels are the alert's identity, so nothing that changes is among them.
fn body(alert: &Notification, holds_until_ms: u64) -> Value {
    let mut body = json!({
        "labels": {
            "alertname": alert.rule,
            "job": "modelet",
            "kind": alert.kind.name(),
            "model": alert.model,
            "version": alert.model_version,
            "severity": alert.severity.to_string(),
        },
        "annotations": {
            "summary": alert.title(),
            "description": alert.summary,
        },
        "startsAt": alert.started_at,
        "endsAt": alert.resolved_at.clone().unwrap_or_else(|| rfc3339_ms(holds_until_ms)),
    });
    if let Some(why) = alert.resolution {
        body["annotations"]["resolution"] = json!(why.words());
    }
    if let Some(subject) = &alert.subject {
        body["labels"]["subject"] = json!(subject);
    }
    // A figure of the last firing window would read as one of now.
    if alert.status == Status::Firing {
        for (name, figure) in [("value", alert.value), ("threshold", alert.threshold)] {
            if let Some(figure) = figure {
                body["annotations"][name] = json!(figure.to_string());
            }
        }
    }
    if let Some(url) = &alert.url {
        body["generatorURL"] = json!(url);
    }
    body
}

impl Receiver for Alertmanager {
    fn name(&self) -> &str {
        &self.name
    }

    fn deliver(&self, message: &Message, now_ms: u64) -> Result<(), Failure> {
        match message {
            Message::Alert(alert) => self.post(&[alert], now_ms),
            Message::Retrain(_) => Err(Failure::Final("Alertmanager is told of alerts only".into())),
        }
    }

    fn resend(&self) -> Option<Duration> {
        Some(self.resend)
    }

    fn refresh(&self, firing: &[Notification], now_ms: u64) -> Result<(), Failure> {
        match firing.is_empty() {
            true => Ok(()),
            false => self.post(&firing.iter().collect::<Vec<_>>(), now_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::notify::tests::notification;

    #[test]
    fn a_firing_alert_holds_for_a_while_and_a_resolved_one_has_its_end() {
        let firing = body(&notification(Status::Firing), 10_000_000);
        let resolved = body(&notification(Status::Resolved), 10_000_000);
        assert_eq!(firing["labels"], resolved["labels"]);
        assert_eq!(firing["startsAt"], "1970-01-01T01:00:00Z");
        assert_eq!(firing["endsAt"], "1970-01-01T02:46:40Z");
        assert_eq!(resolved["endsAt"], "1970-01-01T02:00:00.500Z");
        assert_eq!(firing["annotations"]["value"], "0.3");
        assert_eq!(firing["generatorURL"], "https://models.example.org");
    }

    #[test]
    fn the_path_is_added_where_it_is_missing() {
        for (url, expected) in [
            ("http://a:9093", "http://a:9093/api/v2/alerts"),
            ("http://a:9093/", "http://a:9093/api/v2/alerts"),
            ("http://a/prefix/", "http://a/prefix/api/v2/alerts"),
            ("http://a/api/v2/alerts", "http://a/api/v2/alerts"),
        ] {
            let second = Duration::from_secs(1);
            let http = Http::new(&crate::monitor::config::Secret::new(url), &Default::default(), second);
            let manager = Alertmanager::new("a".into(), http.unwrap(), second);
            assert_eq!(manager.url, expected);
        }
    }
}
