//! `modelet.toml`: what the monitor counts and keeps, when it alerts, who is
//! told, and when a new model is asked for.
//!
//! The file is read by hand from the parsed document, because every fault is to
//! be told at once, each with its key, line and column; a derived reader ends
//! at the first. `examples/modelet.toml` shows every key.

mod read;

use super::rules::{Rule, Severity};
use modelet::drift::report::Thresholds;
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// All that is configured of the monitor.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Config {
    /// `[monitor]`: what is counted, and when it alerts.
    pub monitor: MonitorConfig,
    /// `[notify]`: who is told.
    pub notify: NotifyConfig,
    /// `[[retrain]]`: when a new model is asked for.
    pub retrain: Vec<Retrain>,
}

/// `[monitor]`
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MonitorConfig {
    /// Whether anything is counted. Default: yes.
    pub enabled: bool,
    /// How long a bucket of counts is; every window is a sum of buckets. Whole
    /// seconds that divide an hour, at most 30 minutes. Default: 1 m.
    #[serde(serialize_with = "as_text")]
    pub bucket: Duration,
    /// How often counts are written to the store, which is what a crash may
    /// lose. Default: 5 s.
    #[serde(serialize_with = "as_text")]
    pub flush: Duration,
    /// The windows that are looked at all the time, multiples of the bucket:
    /// `GET /drift` has a line on each and `GET /metrics` its figures. The first
    /// is the one that `GET /drift` is about when none is asked for. Default:
    /// 1 h, 5 m, 24 h.
    #[serde(serialize_with = "as_texts")]
    pub windows: Vec<Duration>,
    /// Where state is kept: a file, or `redis://...`. Default: none, so that
    /// the command line or the host decides.
    #[serde(serialize_with = "shown_address")]
    pub store: Option<Secret>,
    /// `[monitor.retention]`: how long counts are kept.
    pub retention: Retention,
    /// `[monitor.thresholds]`: what is called drift.
    pub thresholds: Thresholds,
    /// `[monitor.feedback]`: ground truth.
    pub feedback: FeedbackConfig,
    /// `[monitor.observe]`: counts of other homes.
    pub observe: ObserveConfig,
    /// The default rules as `[[monitor.rules]]` changed them, and further ones.
    pub rules: Vec<Rule>,
}

impl Default for MonitorConfig {
    fn default() -> MonitorConfig {
        MonitorConfig {
            enabled: true,
            bucket: Duration::from_secs(60),
            flush: Duration::from_secs(5),
            windows: [3600, 300, 86_400].map(Duration::from_secs).to_vec(),
            store: None,
            retention: Retention::default(),
            thresholds: Thresholds::default(),
            feedback: FeedbackConfig::default(),
            observe: ObserveConfig::default(),
            rules: Rule::defaults(),
        }
    }
}

/// `[monitor.retention]`: counts are kept in coarser buckets as they age.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Retention {
    /// How long the buckets themselves are kept. Default: 2 d.
    #[serde(serialize_with = "as_text")]
    pub buckets: Duration,
    /// How long their sums by the hour are kept. Default: 90 d.
    #[serde(serialize_with = "as_text")]
    pub hours: Duration,
}

impl Default for Retention {
    fn default() -> Retention {
        let days = |n: u64| Duration::from_secs(n * 86_400);
        Retention {
            buckets: days(2),
            hours: days(90),
        }
    }
}

/// `[monitor.feedback]`
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FeedbackConfig {
    /// Whether predictions are kept, so that labels can be joined to them.
    /// Default: yes.
    pub enabled: bool,
    /// How long they are kept. Default: 7 d.
    #[serde(serialize_with = "as_text")]
    pub keep: Duration,
}

impl Default for FeedbackConfig {
    fn default() -> FeedbackConfig {
        FeedbackConfig {
            enabled: true,
            keep: Duration::from_secs(7 * 86_400),
        }
    }
}

/// `[monitor.observe]`
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ObserveConfig {
    /// The origins, such as `https://app.example.org`, whose pages may post to
    /// `/observe`; browsers keep the pages of others from it. Default: none.
    pub origins: Vec<String>,
}

/// `[notify]`
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NotifyConfig {
    /// Where people find this host; notifications link to it. Default: none.
    pub external_url: Option<String>,
    /// The longest that a delivery may take. Default: 10 s.
    #[serde(serialize_with = "as_text")]
    pub timeout: Duration,
    /// The longest pause between attempts at a receiver that is down; they
    /// begin at a second and double. Default: 5 m.
    #[serde(serialize_with = "as_text")]
    pub retry_max: Duration,
    /// After how long a message that could not be delivered is dropped.
    /// Default: 24 h.
    #[serde(serialize_with = "as_text")]
    pub give_up_after: Duration,
    /// `[[notify.webhook]]`
    pub webhook: Vec<WebhookConfig>,
    /// `[notify.email]`
    pub email: Option<EmailConfig>,
    /// `[notify.log]`
    pub log: LogConfig,
}

impl Default for NotifyConfig {
    fn default() -> NotifyConfig {
        NotifyConfig {
            external_url: None,
            timeout: Duration::from_secs(10),
            retry_max: Duration::from_secs(300),
            give_up_after: Duration::from_secs(86_400),
            webhook: Vec::new(),
            email: None,
            log: LogConfig::default(),
        }
    }
}

/// What a webhook is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// JSON of our own: [`Notification`](super::notify::Notification).
    Generic,
    /// A message for a Slack incoming webhook.
    Slack,
    /// Alerts for Alertmanager's API, version 2.
    Alertmanager,
}

/// `[[notify.webhook]]`
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WebhookConfig {
    /// What rules call it, and the outbox. Default: format and host, such as
    /// `slack@hooks.slack.com`.
    pub name: String,
    /// Where it is. An Alertmanager's may be without a path.
    #[serde(serialize_with = "shown_address_of")]
    pub url: Secret,
    /// What it is sent. Default: generic.
    pub format: Format,
    /// Further headers.
    pub headers: BTreeMap<String, Secret>,
    /// Whether it is told that an alert ended. Default: yes.
    pub send_resolved: bool,
    /// Alerts less severe are not sent. Default: info.
    pub severity_min: Severity,
    /// Alertmanager: how often firing alerts are sent again, lest it takes
    /// them for ended. Default: 1 m.
    #[serde(serialize_with = "as_text")]
    pub resend: Duration,
}

/// How a connection to a mail server is protected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MailTls {
    /// Not at all.
    None,
    /// After STARTTLS, which the server must offer.
    Starttls,
    /// From the first byte.
    Tls,
}

/// `[notify.email]`
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct EmailConfig {
    /// The mail server's name.
    pub smtp: String,
    /// Its port. Default: 587; 465 with `tls`, 25 with `none`.
    pub port: u16,
    /// How the connection is protected. Default: `starttls`.
    pub tls: MailTls,
    /// The sender, such as `modelet <modelet@example.org>`.
    pub from: String,
    /// The recipients.
    pub to: Vec<String>,
    /// The account. Default: none.
    pub username: Option<Secret>,
    /// Its password; never over an unprotected connection to another machine.
    pub password: Option<Secret>,
    /// Whether the end of an alert is told. Default: yes.
    pub send_resolved: bool,
    /// Alerts less severe are not sent. Default: info.
    pub severity_min: Severity,
}

/// `[notify.log]`
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LogConfig {
    /// Whether alerts are written to the host's log. Default: yes.
    pub enabled: bool,
}

impl Default for LogConfig {
    fn default() -> LogConfig {
        LogConfig { enabled: true }
    }
}

/// What a new model is asked for on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum On {
    /// An alert of a `feature_drift` or `prediction_drift` rule fires.
    Drift,
    /// One of a `performance` or `cusum` rule does.
    Performance,
    /// Unseen categories and numbers beyond the seen range are frequent.
    NewPatterns,
    /// A time of a cron schedule has come.
    Schedule,
}

/// `[[retrain]]`
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Retrain {
    /// Its name. Default: what it is on.
    pub name: String,
    /// What it is on.
    pub on: On,
    /// Where the event is sent.
    #[serde(serialize_with = "shown_address_of")]
    pub webhook: Secret,
    /// Further headers.
    pub headers: BTreeMap<String, Secret>,
    /// The least time between events for one model. Default: 24 h; 0 for
    /// schedules.
    #[serde(serialize_with = "as_text")]
    pub cooldown: Duration,
    /// Only these models; when empty: all.
    pub models: Vec<String>,
    /// `drift`, `performance`: only alerts of these rules; when empty: all of
    /// the kind.
    pub rules: Vec<String>,
    /// `schedule`: when, in UTC; five fields, or six with seconds first.
    pub cron: Option<String>,
    /// `new_patterns`: how much of a feature's rows, above the reference's
    /// share, is too much. Default: 0.05.
    pub share: f64,
    /// `new_patterns`: in windows of this length. Default: 24 h.
    #[serde(serialize_with = "as_text")]
    pub window: Duration,
    /// `new_patterns`: below so many rows there is nothing to tell. Default:
    /// 100.
    pub min_count: u64,
}

impl Retrain {
    /// Whether it is for a model of this name.
    pub fn applies_to(&self, model: &str) -> bool {
        self.models.is_empty() || self.models.iter().any(|name| name == model)
    }
}

impl Config {
    /// Reads the text of a `modelet.toml`.
    ///
    /// # Errors
    /// All faults that were found.
    pub fn parse(text: &str) -> Result<Config, Faults> {
        read::config(text)
    }

    /// The environment variables that the configuration names and that are not
    /// set, each with its key.
    pub fn unset(&self) -> Vec<(String, String)> {
        let mut named: Vec<(String, &Secret)> = Vec::new();
        named.extend(self.monitor.store.iter().map(|secret| ("monitor.store".into(), secret)));
        for (i, webhook) in self.notify.webhook.iter().enumerate() {
            named.push((format!("notify.webhook[{i}].url"), &webhook.url));
            for (name, value) in &webhook.headers {
                named.push((format!("notify.webhook[{i}].headers.{name}"), value));
            }
        }
        if let Some(email) = &self.notify.email {
            named.extend(email.username.iter().map(|s| ("notify.email.username".into(), s)));
            named.extend(email.password.iter().map(|s| ("notify.email.password".into(), s)));
        }
        for (i, retrain) in self.retrain.iter().enumerate() {
            named.push((format!("retrain[{i}].webhook"), &retrain.webhook));
            for (name, value) in &retrain.headers {
                named.push((format!("retrain[{i}].headers.{name}"), value));
            }
        }
        let unset = |(key, secret): (String, &Secret)| match secret {
            Secret::Env(name) if secret.get().is_err() => Some((key, name.clone())),
            _ => None,
        };
        named.into_iter().filter_map(unset).collect()
    }
}

/// A text that may be a secret: as it is, or `env:NAME` for what an environment
/// variable holds. It is never shown.
#[derive(Clone, PartialEq, Eq)]
pub enum Secret {
    /// The text itself.
    Plain(String),
    /// The name of the variable.
    Env(String),
}

impl Secret {
    /// Reads `env:NAME` or a plain text.
    pub fn new(text: &str) -> Secret {
        match text.strip_prefix("env:") {
            Some(name) => Secret::Env(name.to_owned()),
            None => Secret::Plain(text.to_owned()),
        }
    }

    /// The text.
    ///
    /// # Errors
    /// When the variable is not set, or not UTF-8.
    pub fn get(&self) -> Result<String, String> {
        match self {
            Secret::Plain(text) => Ok(text.clone()),
            Secret::Env(name) => match std::env::var(name) {
                Ok(text) => Ok(text),
                Err(e) => Err(format!("environment variable {name}: {e}")),
            },
        }
    }

    /// An address without what may be secret in it: `https://host/...`.
    pub fn shown_address(&self) -> String {
        let Secret::Plain(text) = self else {
            return self.to_string();
        };
        let Some((scheme, rest)) = text.split_once("://") else {
            return text.clone();
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        match path {
            "" | "/" => format!("{scheme}://{host}"),
            _ => format!("{scheme}://{host}/..."),
        }
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Secret::Plain(_) => f.write_str("(not shown)"),
            Secret::Env(name) => write!(f, "env:{name}"),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Something wrong in a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Where: `monitor.rules[2].window`; empty for faults of the file's form.
    pub key: String,
    /// What: expected and got.
    pub message: String,
    /// The line, from 1.
    pub line: usize,
    /// The column, in characters from 1.
    pub column: usize,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fault {
            key,
            message,
            line,
            column,
        } = self;
        if !key.is_empty() {
            write!(f, "{key}: ")?;
        }
        write!(f, "{message} (line {line}, column {column})")
    }
}

/// All that is wrong in a configuration, in the order of the file. The process
/// exits with status 64.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, fault) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

const UNITS: [(&str, u64); 6] = [
    ("w", 604_800_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// Reads a duration: whole numbers with units `ms`, `s`, `m`, `h`, `d`, `w`,
/// one or several, such as `90s` or `1h30m`.
pub fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    let mut total: u64 = 0;
    if rest == "0" {
        return Some(Duration::ZERO);
    }
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let end = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let (_, ms) = UNITS.iter().find(|(name, _)| *name == unit)?;
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(*ms)?)?;
        rest = after;
    }
    (!text.trim().is_empty()).then(|| Duration::from_millis(total))
}

/// A duration as it is configured: in the largest unit that divides it.
pub fn duration_text(duration: Duration) -> String {
    let ms = duration.as_millis() as u64;
    // Weeks are read, but days are easier to compare.
    let unit = UNITS[1..].iter().find(|(_, unit)| ms > 0 && ms.is_multiple_of(*unit));
    match unit {
        // A day reads better as 24 hours.
        Some((_, 86_400_000)) if ms == 86_400_000 => "24h".into(),
        Some((name, unit)) => format!("{}{name}", ms / unit),
        None => "0s".into(),
    }
}

pub(super) fn as_text<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&duration_text(*duration))
}

fn as_texts<S: Serializer>(durations: &[Duration], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(durations.iter().map(|duration| duration_text(*duration)))
}

fn shown_address<S: Serializer>(secret: &Option<Secret>, serializer: S) -> Result<S::Ok, S::Error> {
    secret.as_ref().map(Secret::shown_address).serialize(serializer)
}

fn shown_address_of<S: Serializer>(secret: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&secret.shown_address())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_they_are_written() {
        struct Case(&'static str, Option<u64>, &'static str);
        for Case(text, ms, shown) in [
            Case("250ms", Some(250), "250ms"),
            Case("5m", Some(300_000), "5m"),
            Case("90s", Some(90_000), "90s"),
            Case("1h30m", Some(5_400_000), "90m"),
            Case("1d", Some(86_400_000), "24h"),
            Case("1w", Some(604_800_000), "7d"),
            Case("0", Some(0), "0s"),
            Case("0s", Some(0), "0s"),
            Case("", None, ""),
            Case("5", None, ""),
            Case("m", None, ""),
            Case("5 m", None, ""),
            Case("5 parsecs", None, ""),
            Case("-5m", None, ""),
            Case("99999999999999999999s", None, ""),
            Case("18446744073709551615w", None, ""),
        ] {
            let read = duration(text);
            assert_eq!(read, ms.map(Duration::from_millis), "{text}");
            if let Some(read) = read {
                assert_eq!(duration_text(read), shown);
                assert_eq!(duration(shown), Some(read));
            }
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let secret = Secret::new("https://user:pw@hooks.slack.com/services/T0/B0/xyz");
        assert_eq!(format!("{secret} {secret:?}"), "(not shown) (not shown)");
        assert_eq!(secret.shown_address(), "https://hooks.slack.com/...");
        assert_eq!(
            Secret::new("redis://:pw@127.0.0.1:6379").shown_address(),
            "redis://127.0.0.1:6379"
        );
        assert_eq!(Secret::new("env:HOOK").shown_address(), "env:HOOK");
        assert_eq!(Secret::new("state.redb").shown_address(), "state.redb");
        assert!(
            Secret::new("env:MODELET_NO_SUCH_VARIABLE")
                .get()
                .unwrap_err()
                .contains("MODELET_NO_SUCH_VARIABLE")
        );
    }
}
