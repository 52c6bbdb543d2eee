//! Slack's incoming webhooks: a text for notifications, and an attachment with
//! a colour and blocks.

use super::webhook::Http;
use super::{Failure, Message, Notification, Receiver, Status};
use crate::monitor::rules::Severity;
use serde_json::{Value, json};

pub(super) struct Slack {
    pub(super) name: String,
    pub(super) http: Http,
}

/// The three characters that Slack's text gives a meaning.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn body(alert: &Notification) -> Value {
    /// A section's text may have 3,000 characters.
    const TEXT_MAX: usize = 2000;
    let color = match (alert.status, alert.severity) {
        (Status::Resolved, _) => "#2eb67d",
        (Status::Firing, Severity::Critical) => "#e01e5a",
        (Status::Firing, Severity::Warning) => "#ecb22e",
        (Status::Firing, Severity::Info) => "#36c5f0",
    };
    let mut summary: String = alert.summary.chars().take(TEXT_MAX / 5).collect();
    if let Some(url) = &alert.url {
        summary = format!("{}\n<{url}|open>", escaped(&summary));
    } else {
        summary = escaped(&summary);
    }
    let mut context = format!("severity {} | since {}", alert.severity, alert.started_at);
    if let Some(resolved_at) = &alert.resolved_at {
        context.push_str(&format!(" | ended {resolved_at}"));
    }
    let title: String = alert.title().chars().take(TEXT_MAX / 5).collect();
    json!({
        "text": escaped(&title),
        "attachments": [{
            "color": color,
            "blocks": [
                {"type": "section", "text": {"type": "mrkdwn", "text": summary}},
                {"type": "context", "elements": [{"type": "mrkdwn", "text": context}]},
            ],
        }],
    })
}

impl Receiver for Slack {
    fn name(&self) -> &str {
        &self.name
    }

    fn deliver(&self, message: &Message, _now_ms: u64) -> Result<(), Failure> {
        let Message::Alert(alert) = message else {
            return Err(Failure::Final("Slack is told of alerts only".into()));
        };
        self.http
            .post(&self.http.url, "application/json", body(alert).to_string().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::notify::tests::notification;

    #[test]
    fn names_of_features_are_no_markup() {
        let body = body(&notification(Status::Firing));
        assert_eq!(
            body["text"],
            "[firing] credit 1.0.0: feature_drift on income &lt;b&gt;  Bcc: x@y.org"
        );
        let attachment = &body["attachments"][0];
        assert_eq!(attachment["color"], "#ecb22e");
        assert_eq!(
            attachment["blocks"][0]["text"]["text"],
            "feature income: PSI 0.300 on 500 values\n<https://models.example.org|open>"
        );
    }
}
