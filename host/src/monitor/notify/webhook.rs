//! HTTP: JSON of our own, and CloudEvents.

use super::{Failure, Message, Receiver};
use crate::monitor::config::Secret;
use std::collections::BTreeMap;
use std::time::Duration;
use ureq::http::{HeaderName, HeaderValue, Uri};

/// An address with all that a request to it needs.
pub(super) struct Http {
    agent: ureq::Agent,
    pub(super) url: String,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Http {
    pub(super) fn new(url: &Secret, headers: &BTreeMap<String, Secret>, timeout: Duration) -> Result<Http, String> {
        let url = url.get().map_err(|e| format!("url: {e}"))?;
        let uri = Uri::try_from(&url).map_err(|_| "url: expected a URL".to_owned())?;
        if !matches!(uri.scheme_str(), Some("http" | "https")) || uri.host().is_none() {
            return Err("url: expected a URL that begins with http:// or https://".into());
        }
        let mut made = Vec::new();
        for (name, value) in headers {
            let value = value.get().map_err(|e| format!("headers.{name}: {e}"))?;
            let key = HeaderName::try_from(name).map_err(|e| format!("headers.{name}: {e}"))?;
            let value = HeaderValue::try_from(value).map_err(|e| format!("headers.{name}: {e}"))?;
            made.push((key, value));
        }
        // A redirected POST would be a GET, or go where nobody chose.
        let agent = ureq::Agent::config_builder()
            .timeout_global(Some(timeout))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("modelet/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Http {
            agent: agent.into(),
            url,
            headers: made,
        })
    }

    pub(super) fn post(&self, url: &str, content_type: &str, body: &[u8]) -> Result<(), Failure> {
        const TOLD_MAX: usize = 200;
        let mut request = self.agent.post(url).header("content-type", content_type);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let mut response = match request.send(body) {
            Ok(response) => response,
            Err(e @ (ureq::Error::BadUri(_) | ureq::Error::Http(_))) => return Err(Failure::Final(e.to_string())),
            Err(e) => return Err(Failure::retry(e)),
        };
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        let after = response.headers().get("retry-after");
        let after = after.and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let told = response.body_mut().with_config().limit(16 << 10).read_to_string();
        let told: String = told.unwrap_or_default().trim().chars().take(TOLD_MAX).collect();
        let reason = format!("status {}: {}", status.as_u16(), told.replace(char::is_control, " "));
        match status.as_u16() {
            408 | 429 | 500.. => Err(Failure::Retry {
                reason,
                after: after.map(Duration::from_secs),
            }),
            _ => Err(Failure::Final(reason)),
        }
    }
}

/// A webhook that is sent [`Notification`](super::Notification)s, or events of
/// a trigger.
pub(super) struct Webhook {
    pub(super) name: String,
    pub(super) http: Http,
}

impl Receiver for Webhook {
    fn name(&self) -> &str {
        &self.name
    }

    fn deliver(&self, message: &Message, _now_ms: u64) -> Result<(), Failure> {
        let (content_type, body) = match message {
            Message::Alert(alert) => ("application/json", serde_json::to_vec(alert)),
            // The structured mode of CloudEvents' HTTP binding.
            Message::Retrain(event) => ("application/cloudevents+json; charset=utf-8", serde_json::to_vec(event)),
        };
        let body = body.map_err(|e| Failure::Final(e.to_string()))?;
        self.http.post(&self.http.url, content_type, &body)
    }
}
