//! `modelet serve`: from what was typed to what it means.

use super::Status;
use crate::cli::{IsolateArg, ServeArgs};
use crate::monitor::config::Config;
use crate::runtime::{CodeCaching, Isolation};
use crate::serve::{ConfigError, ServeConfig, StoreChoice, serve};
use anyhow::Context;
use std::path::Path;

pub fn run(args: ServeArgs) -> anyhow::Result<Status> {
    let models = args.models.clone();
    let config = config(args)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("can't start the server's threads")?;
    let served = runtime.block_on(serve(models, config));
    // A guest that still runs after the drain timeout must not hold the end up.
    runtime.shutdown_background();
    served.map(|()| Status::Good)
}

fn config(args: ServeArgs) -> Result<ServeConfig, ConfigError> {
    let default = ServeConfig::default();
    let monitor = match &args.config {
        Some(path) => Some(read(path)?),
        None => default.monitor,
    };
    let monitor = monitor.filter(|config| config.monitor.enabled && !args.no_monitor);
    let configured = monitor.as_ref().and_then(|config| config.monitor.store.as_ref());
    if let Some(config) = &monitor {
        // The store of the command line goes before that of the file.
        let needed = |(key, _): &(String, String)| args.store.is_none() || key != "monitor.store";
        let unset: Vec<String> = (config.unset().into_iter().filter(needed))
            .map(|(key, name)| format!("{key}: the environment variable {name} is not set, or not UTF-8"))
            .collect();
        if !unset.is_empty() {
            return Err(ConfigError(unset.join("\n")));
        }
    }
    let store = match (args.store, configured) {
        (Some(store), _) => StoreChoice::At(store),
        (None, Some(store)) => StoreChoice::At(store.get().map_err(ConfigError)?),
        (None, None) => StoreChoice::Default,
    };
    let config = ServeConfig {
        listen: match args.listen.is_empty() {
            true => default.listen,
            false => args.listen,
        },
        insecure: args.insecure,
        isolation: match args.isolate {
            IsolateArg::Pooled => Isolation::Pooled,
            IsolateArg::Request => Isolation::Request,
        },
        body_bytes_max: args.body_bytes_max,
        // What one request may bring must fit into what all may.
        bodies_bytes_max: default.bodies_bytes_max.max(args.body_bytes_max),
        batch_rows_max: args.batch_rows_max,
        deadline_ms: args.deadline_ms,
        instance_memory_bytes_max: args.memory_bytes_max,
        drain_timeout_ms: args.drain_timeout_s.saturating_mul(1000),
        cache: match args.no_cache {
            true => CodeCaching::Off,
            false => CodeCaching::Default,
        },
        monitor,
        store,
        access_log: !args.no_access_log,
        log_filter: args.log,
        log_format: args.log_format.into(),
        ..default
    };
    config.check()?;
    Ok(config)
}

/// Reads `modelet.toml`; all that is wrong in it is told at once.
fn read(path: &Path) -> Result<Config, ConfigError> {
    let named = |what: &dyn std::fmt::Display| format!("{}: {what}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| ConfigError(named(&error)))?;
    Config::parse(&text).map_err(|faults| {
        let lines: Vec<String> = faults.0.iter().map(|fault| named(fault)).collect();
        ConfigError(lines.join("\n"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser;

    fn parsed(options: &[&str]) -> Result<ServeConfig, ConfigError> {
        let line = ["modelet", "serve", "m.wasm"].iter().chain(options);
        let Command::Serve(args) = Cli::parse_from(line).command else {
            panic!("the command is serve");
        };
        config(args)
    }

    #[test]
    fn what_is_not_typed_is_the_default() {
        let config = parsed(&[]).unwrap();
        assert_eq!(format!("{config:?}"), format!("{:?}", ServeConfig::default()));
    }

    #[test]
    fn what_is_typed_is_meant() {
        let config = parsed(&[
            "--listen=127.0.0.1:0",
            "--listen=[::1]:80",
            "--isolate=request",
            "--body-bytes-max=1000000000",
            "--batch-rows-max=7",
            "--deadline-ms=8",
            "--memory-bytes-max=9",
            "--no-access-log",
            "--log=warn",
            "--no-cache",
            "--store=memory",
            "--no-monitor",
            "--drain-timeout-s=1",
        ])
        .unwrap();
        assert_eq!(
            config.listen,
            ["127.0.0.1:0".parse().unwrap(), "[::1]:80".parse().unwrap()]
        );
        assert_eq!(config.isolation, Isolation::Request);
        assert_eq!(config.body_bytes_max, 1_000_000_000);
        assert!(config.bodies_bytes_max >= config.body_bytes_max);
        assert_eq!(config.batch_rows_max, 7);
        assert_eq!(config.deadline_ms, 8);
        assert_eq!(config.instance_memory_bytes_max, 9);
        assert!(!config.access_log);
        assert_eq!(config.log_filter, "warn");
        assert_eq!(config.cache, CodeCaching::Off);
        assert_eq!(config.drain_timeout_ms, 1000);
        assert_eq!(config.store, StoreChoice::At("memory".into()));
        assert!(config.monitor.is_none());
    }

    /// What the host refuses, the check of a configuration refuses, and the
    /// other way round.
    #[test]
    fn a_store_is_understood_alike_on_the_command_line_and_in_a_file() {
        for (store, good) in [
            ("memory", true),
            ("state.redb", true),
            ("redis://cache:6379/0", true),
            ("redis://:password@cache?prefix=a", true),
            ("valkey://cache", true),
            ("unix:///run/redis.sock", cfg!(unix)),
            ("redis+unix:///run/redis.sock?db=1", cfg!(unix)),
            ("rediss://cache:6379", false),
            ("valkeys://cache:6379", false),
            ("redis://cache:port", false),
            ("redis://cache/database", false),
            ("redis://", false),
            ("http://cache", false),
            ("REDIS://cache", false),
            (" ", false),
        ] {
            let typed = parsed(&[&format!("--store={store}")]);
            assert_eq!(typed.is_ok(), good, "{store}: {:?}", typed.err());
            let text = format!("[monitor]\nstore = \"{store}\"\n");
            let written = Config::parse(&text);
            assert_eq!(written.is_ok(), good, "{store}: {:?}", written.err());
        }
        // Where there is no monitor, there is no store.
        assert!(parsed(&["--store=rediss://cache", "--no-monitor"]).is_ok());
    }

    #[test]
    fn an_address_that_others_reach_must_be_wanted() {
        assert!(parsed(&["--listen=0.0.0.0:3000"]).unwrap_err().0.contains("--insecure"));
        assert!(parsed(&["--listen=0.0.0.0:3000", "--insecure"]).is_ok());
    }
}
