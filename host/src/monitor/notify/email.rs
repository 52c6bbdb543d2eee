//! E-mail over SMTP.

use super::{Failure, Message, Notification, Receiver};
use crate::monitor::config::{EmailConfig, MailTls};
use lettre::message::{Mailbox, header::ContentType};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::{SmtpTransport, Transport};
use std::fmt::Write;
use std::time::Duration;

pub(super) struct Email {
    transport: SmtpTransport,
    from: Mailbox,
    to: Vec<Mailbox>,
}

impl Email {
    pub(super) fn new(config: &EmailConfig, timeout: Duration) -> Result<Email, String> {
        let tls = || TlsParameters::new(config.smtp.clone()).map_err(|e| format!("smtp: {e}"));
        let tls = match config.tls {
            MailTls::None => Tls::None,
            MailTls::Starttls => Tls::Required(tls()?),
            MailTls::Tls => Tls::Wrapper(tls()?),
        };
        let mut builder = SmtpTransport::builder_dangerous(&config.smtp)
            .port(config.port)
            .tls(tls)
            .timeout(Some(timeout));
        if let (Some(username), Some(password)) = (&config.username, &config.password) {
            builder = builder.credentials(Credentials::new(
                username.get().map_err(|e| format!("username: {e}"))?,
                password.get().map_err(|e| format!("password: {e}"))?,
            ));
        }
        let mailbox = |text: &String| text.parse::<Mailbox>().map_err(|e| e.to_string());
        let to: Result<Vec<Mailbox>, String> = config.to.iter().map(mailbox).collect();
        Ok(Email {
            transport: builder.build(),
            from: mailbox(&config.from).map_err(|e| format!("from: {e}"))?,
            to: to.map_err(|e| format!("to: {e}"))?,
        })
    }

    fn message(&self, alert: &Notification) -> Result<lettre::Message, Failure> {
        let domain = self.from.email.domain();
        let mut builder = lettre::Message::builder()
            .from(self.from.clone())
            .subject(alert.title())
            .message_id(Some(format!("<{}@{domain}>", alert.id)))
            .references(format!("<{}@{domain}>", alert.key))
            .header(ContentType::TEXT_PLAIN);
        for to in &self.to {
            builder = builder.to(to.clone());
        }
        builder.body(text(alert)).map_err(|e| Failure::Final(e.to_string()))
    }
}

fn text(alert: &Notification) -> String {
    let mut text = format!("{}\n\n{}\n\n", alert.title(), alert.summary);
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "{name:<10} {value}");
    };
    line("model", &format!("{} {}", alert.model, alert.model_version));
    line("rule", &format!("{} ({})", alert.rule, alert.kind.name()));
    line("severity", &alert.severity.to_string());
    if let Some(value) = alert.value {
        line("value", &value.to_string());
    }
    if let Some(threshold) = alert.threshold {
        line("threshold", &threshold.to_string());
    }
    line("window", &format!("{} to {}", alert.window_from, alert.window_to));
    line("since", &alert.started_at);
    if let Some(resolved_at) = &alert.resolved_at {
        line("ended", resolved_at);
    }
    if let Some(why) = alert.resolution {
        line("why", why.words());
    }
    if let Some(url) = &alert.url {
        line("see", url);
    }
    text
}

impl Receiver for Email {
    fn name(&self) -> &str {
        "email"
    }

    fn deliver(&self, message: &Message, _now_ms: u64) -> Result<(), Failure> {
        let Message::Alert(alert) = message else {
            return Err(Failure::Final("e-mail is sent for alerts only".into()));
        };
        match self.transport.send(&self.message(alert)?) {
            Ok(_) => Ok(()),
            Err(e) if e.is_permanent() => Err(Failure::Final(e.to_string())),
            Err(e) => Err(Failure::retry(e)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::config::Config;
    use crate::monitor::notify::{Status, tests::notification};

    #[test]
    fn a_message_has_a_stable_id_and_no_header_is_smuggled_in() {
        let text = "[notify.email]\nsmtp = \"mail.example.org\"\nfrom = \"m <m@example.org>\"\nto = [\"a@b.org\"]\n";
        let config = Config::parse(text).unwrap().notify.email.unwrap();
        let email = Email::new(&config, Duration::from_secs(1)).unwrap();
        let formatted = |status| {
            let message = email.message(&notification(status)).ok().unwrap();
            String::from_utf8(message.formatted()).unwrap()
        };
        let text = formatted(Status::Firing);
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("Message-ID: <0123@example.org>"), "{head}");
        assert!(head.contains("References: <ab@example.org>"), "{head}");
        assert!(!head.lines().any(|line| line.starts_with("Bcc")), "{head}");
        assert!(body.contains("PSI 0.300"), "{body}");
        assert!(formatted(Status::Resolved).contains("ended      1970-01-01T02:00:00.500Z"));
    }
}
