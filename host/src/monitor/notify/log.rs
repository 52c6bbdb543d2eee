//! The host's own log.

use super::{Failure, Message, Receiver, Status};

pub(super) struct Log;

impl Receiver for Log {
    fn name(&self) -> &str {
        "log"
    }

    fn deliver(&self, message: &Message, _now_ms: u64) -> Result<(), Failure> {
        match message {
            Message::Alert(alert) => {
                let (model, version, rule) = (&alert.model, &alert.model_version, &alert.rule);
                let (id, subject, title) = (&alert.id, alert.subject.as_deref(), alert.title());
                match alert.status {
                    Status::Firing => {
                        tracing::warn!(id, model, version, rule, subject, "{title}: {}", alert.summary);
                    }
                    Status::Resolved => {
                        tracing::info!(id, model, version, rule, subject, "{title}: {}", alert.summary);
                    }
                }
            }
            Message::Retrain(event) => tracing::info!(id = event.id, "{}", event.data.reason),
        }
        Ok(())
    }
}
