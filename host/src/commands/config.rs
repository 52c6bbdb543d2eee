//! `modelet config`

use super::Status;
use crate::cli::{ConfigArgs, ConfigCheckArgs, ConfigCommand};
use crate::monitor::config::{Config, Faults, Format, On, Secret, duration_text};
use crate::monitor::store;
use crate::output::{Align, Output, Paint, grid};
use crate::serve::ConfigError;
use serde::Serialize;
use std::fmt::Write;

pub fn run(args: &ConfigArgs, output: &Output) -> anyhow::Result<Status> {
    match &args.command {
        ConfigCommand::Check(args) => check(args, output),
    }
}

/// What `--json` writes.
#[derive(Serialize)]
struct Report<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<&'a Config>,
    errors: &'a Faults,
    unset: Vec<Unset>,
}

/// An environment variable that is not set here.
#[derive(Serialize)]
struct Unset {
    key: String,
    variable: String,
}

fn check(args: &ConfigCheckArgs, output: &Output) -> anyhow::Result<Status> {
    let path = args.file.display();
    let text = std::fs::read_to_string(&args.file).map_err(|e| ConfigError(format!("{path}: {e}")))?;
    match Config::parse(&text) {
        Ok(config) => {
            // A store that is in the environment is checked where it is set.
            if let Some(store @ Secret::Env(name)) = &config.monitor.store
                && let Ok(value) = store.get()
                && let Err(error) = store::Address::parse(&value)
            {
                return Err(ConfigError(format!("{path}: monitor.store: environment variable {name}: {error}")).into());
            }
            // They may be set where it is served, so they are no errors here.
            let unset: Vec<Unset> = config
                .unset()
                .into_iter()
                .map(|(key, variable)| Unset { key, variable })
                .collect();
            for Unset { key, variable } in &unset {
                output.note(format!("{key}: the environment variable {variable} is not set here"));
            }
            match args.json {
                true => output.print_json(&Report {
                    config: Some(&config),
                    errors: &Faults(Vec::new()),
                    unset,
                })?,
                false => output.print(self::text(&config, output))?,
            }
            Ok(Status::Good)
        }
        Err(faults) => {
            match args.json {
                true => output.print_json(&Report {
                    config: None,
                    errors: &faults,
                    unset: Vec::new(),
                })?,
                false => faults
                    .0
                    .iter()
                    .for_each(|fault| output.error(format!("{path}: {fault}"))),
            }
            Ok(Status::Config)
        }
    }
}

fn text(config: &Config, output: &Output) -> String {
    let monitor = &config.monitor;
    let mut text = format!("{}\n", output.paint(Paint::Bold, "monitor"));
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "  {} {value}", output.paint(Paint::Dim, format!("{name:<10}")));
    };
    if !monitor.enabled {
        line("enabled", "no".into());
    }
    let store = monitor.store.as_ref();
    line(
        "store",
        store.map_or("as the command line says".into(), |s| s.shown_address()),
    );
    let [bucket, flush, buckets, hours] = [
        monitor.bucket,
        monitor.flush,
        monitor.retention.buckets,
        monitor.retention.hours,
    ]
    .map(duration_text);
    line("buckets", format!("{bucket}, written every {flush}"));
    line("kept", format!("{buckets}, by the hour {hours}"));
    line(
        "windows",
        monitor
            .windows
            .iter()
            .map(|w| duration_text(*w))
            .collect::<Vec<_>>()
            .join(", "),
    );
    line(
        "feedback",
        match monitor.feedback.enabled {
            true => format!("joined for {}", duration_text(monitor.feedback.keep)),
            false => "none".into(),
        },
    );
    let thresholds = &monitor.thresholds;
    let kl = thresholds.kl.map_or(String::new(), |kl| format!(" or KL {kl}"));
    line(
        "drift",
        format!(
            "adjusted p below {} and PSI from {}; alerts from PSI {}{kl}, of predictions {}",
            thresholds.adjusted_p, thresholds.psi_min, thresholds.psi, thresholds.prediction_psi
        ),
    );

    let left = |titles: &[&'static str]| titles.iter().map(|title| (*title, Align::Left)).collect::<Vec<_>>();
    let mut table = |title: &str, header: &[&'static str], rows: &[Vec<String>]| {
        if !rows.is_empty() {
            let _ = write!(text, "\n{}\n", output.paint(Paint::Bold, title));
            text.push_str(&grid(output, &left(header), rows));
        }
    };
    let rules: Vec<Vec<String>> = monitor
        .rules
        .iter()
        .map(|rule| {
            vec![
                rule.name.clone(),
                rule.kind.name().into(),
                duration_text(rule.window),
                rule.threshold.map_or(String::new(), |threshold| threshold.to_string()),
                rule.fire.to_string(),
                rule.severity.to_string(),
                match (rule.enabled, rule.notify, rule.receivers.is_empty()) {
                    (false, ..) => "off".into(),
                    (_, false, _) => "nobody".into(),
                    (_, _, true) => "all".into(),
                    _ => rule.receivers.join(", "),
                },
            ]
        })
        .collect();
    table(
        "rules",
        &["name", "kind", "window", "threshold", "fires", "severity", "tells"],
        &rules,
    );
    let mut receivers: Vec<Vec<String>> = Vec::new();
    for hook in &config.notify.webhook {
        let format = match hook.format {
            Format::Generic => "webhook",
            Format::Slack => "slack",
            Format::Alertmanager => "alertmanager",
        };
        receivers.push(vec![hook.name.clone(), format.into(), hook.url.shown_address()]);
    }
    receivers.extend(config.notify.email.as_ref().map(|email| {
        let to = format!("{} by {}:{}", email.to.join(", "), email.smtp, email.port);
        vec!["email".into(), "email".into(), to]
    }));
    receivers.extend(
        config
            .notify
            .log
            .enabled
            .then(|| vec!["log".into(), "log".into(), "the host's log".into()]),
    );
    table("receivers", &["name", "kind", "where"], &receivers);
    let retrain: Vec<Vec<String>> = config
        .retrain
        .iter()
        .map(|trigger| {
            let on = match trigger.on {
                On::Drift => "drift".to_owned(),
                On::Performance => "performance".to_owned(),
                On::NewPatterns => format!(
                    "new patterns above {} in {}",
                    trigger.share,
                    duration_text(trigger.window)
                ),
                On::Schedule => format!("schedule {} UTC", trigger.cron.as_deref().unwrap_or("")),
            };
            vec![
                trigger.name.clone(),
                on,
                duration_text(trigger.cooldown),
                trigger.webhook.shown_address(),
            ]
        })
        .collect();
    table("retrain", &["name", "on", "cooldown", "where"], &retrain);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_is_shown_without_its_secrets() {
        let config = Config::parse(
            "[monitor]\nstore = \"redis://:hunter2@cache:6379\"\n\
             [[monitor.rules]]\nname = \"latency\"\nthreshold = 25\nreceivers = [\"ops\"]\n\
             [[notify.webhook]]\nname = \"ops\"\nurl = \"https://ops.example.org/hunter2\"\n\
             [[retrain]]\non = \"schedule\"\ncron = \"0 3 * * 1\"\nwebhook = \"env:HOOK\"\n",
        )
        .unwrap();
        let expected = "\
monitor
  store      redis://cache:6379
  buckets    1m, written every 5s
  kept       2d, by the hour 90d
  windows    1h, 5m, 24h
  feedback   joined for 7d
  drift      adjusted p below 0.04 and PSI from 0.01; alerts from PSI 0.1, of predictions 0.15

rules
  name              kind              window  threshold  fires   severity  tells
  feature_drift     feature_drift     1h                 2 of 3  warning   all
  prediction_drift  prediction_drift  1h                 2 of 3  warning   all
  data_quality      data_quality      1h                 2 of 3  warning   all
  latency           latency           5m      25         2 of 3  critical  ops
  error_rate        error_rate        5m      0.01       2 of 3  critical  all
  rejected_rate     rejected_rate     5m      0.05       2 of 3  warning   all
  accuracy          performance       1h                 2 of 3  critical  all
  cusum             cusum             1h                 1 of 1  warning   all
  no_data           no_data           15m                2 of 3  warning   off

receivers
  name  kind     where
  ops   webhook  https://ops.example.org/...
  log   log      the host's log

retrain
  name      on                      cooldown  where
  schedule  schedule 0 3 * * 1 UTC  0s        env:HOOK
";
        assert_eq!(text(&config, &Output::plain()), expected);
        assert!(!serde_json::to_string(&config).unwrap().contains("hunter2"));
    }

    #[test]
    fn a_wrong_configuration_is_status_64() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("modelet.toml");
        let run = |text: &str| {
            std::fs::write(&file, text).unwrap();
            let args = ConfigCheckArgs {
                file: file.clone(),
                json: false,
            };
            check(&args, &Output::plain()).unwrap()
        };
        assert_eq!(run("[monitor]\nbucket = \"1s\"\n"), Status::Good);
        assert_eq!(run("[monitor]\nbucket = \"1 parsec\"\n"), Status::Config);
        let args = ConfigCheckArgs {
            file: dir.path().join("none.toml"),
            json: false,
        };
        let error = check(&args, &Output::plain()).unwrap_err();
        assert_eq!(crate::commands::status_of(&error), Status::Config);
    }
}
