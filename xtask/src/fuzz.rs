//! Damaged models, programs and requests given to what reads them.
//!
//! The work is done by the test target `fuzz`, which uses the host as a
//! library and limits the memory of its own workers.

use std::env;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use crate::test::NATIVE;
use crate::usage::UsageError;
use crate::workspace::{cargo, run as run_command};

/// In the order in which they run.
pub const TARGETS: [&str; 4] = ["onnx", "program", "json", "csv"];

pub fn run(args: &[&str]) -> Result<()> {
    let wanted = Wanted::from(args)?;
    let mut command = cargo("test");
    command.args(NATIVE).args(["--test", "fuzz", "--"]);
    if let Some(target) = wanted.target {
        command.args(["--target", target]);
    }
    match wanted.replay {
        Some(file) => {
            // The tests run in the workspace's root.
            let file = env::current_dir()?.join(file);
            let file = file.canonicalize().with_context(|| file.display().to_string())?;
            command.arg("--replay").arg(file);
        }
        None => {
            command.args(["--seconds", &wanted.seconds.to_string()]);
            command.args(["--seed", &wanted.seed.unwrap_or_else(now).to_string()]);
        }
    }
    run_command(&mut command)
}

/// A seed that is another one each time.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

/// What was asked for.
#[derive(Debug)]
struct Wanted<'a> {
    seconds: u32,
    target: Option<&'a str>,
    seed: Option<u64>,
    replay: Option<&'a str>,
}

impl<'a> Wanted<'a> {
    fn from(args: &[&'a str]) -> Result<Wanted<'a>, UsageError> {
        let mut wanted = Wanted {
            seconds: 60,
            target: None,
            seed: None,
            replay: None,
        };
        let mut args = args.iter();
        while let Some(&flag) = args.next() {
            let mut value = || {
                args.next()
                    .copied()
                    .ok_or_else(|| UsageError::new(format!("{flag} takes a value")))
            };
            let wrong = |value: &str| UsageError::new(format!("{flag} takes a number, not {value:?}"));
            match flag {
                "--seconds" => {
                    let value = value()?;
                    wanted.seconds = value.parse().map_err(|_| wrong(value))?;
                }
                "--seed" => {
                    let value = value()?;
                    wanted.seed = Some(value.parse().map_err(|_| wrong(value))?);
                }
                "--target" => {
                    let value = value()?;
                    if !TARGETS.contains(&value) {
                        let all = TARGETS.join(" ");
                        return Err(UsageError::new(format!(
                            "there is no target {value:?}; there are: {all}"
                        )));
                    }
                    wanted.target = Some(value);
                }
                "--replay" => wanted.replay = Some(value()?),
                _ => return Err(UsageError::argument("fuzz", flag)),
            }
        }
        if wanted.replay.is_some() && wanted.target.is_none() {
            return Err(UsageError::new("--replay takes the --target of the case"));
        }
        Ok(wanted)
    }
}
