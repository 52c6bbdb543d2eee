//! From starting `modelet serve` to its first good answer.

use crate::load::{Server, post};
use crate::models::{Ensemble, Rows};
use crate::report::{Limit, Section, Target};
use crate::stats::Times;
use crate::{Effort, MODELET, credit};
use anyhow::{Context, Result};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

pub fn measure(effort: Effort) -> Result<Section> {
    let (cold_count, cached_count) = (effort.of(1, 3), effort.of(3, 10));
    let large = Ensemble { trees: 500, depth: 8 };
    let large_file = large.pack()?;
    let mut section = Section {
        title: "Start",
        text: format!(
            "From starting the process `modelet serve` to the first 200 of `/predict`, in milliseconds; medians. \
             First: the component is compiled and its code put into an empty cache ({cold_count} times). Cached: it \
             is there ({cached_count} times)."
        ),
        header: vec!["model", "first ms", "cached ms", "cached, slowest ms"],
        ..Section::default()
    };
    for (name, file, rows) in [
        ("credit".into(), &credit(), Rows::of_credit()?),
        (large.name(), &large_file, Rows::of_ensemble(&large_file)?),
    ] {
        let request = post(rows.single().first().context("there are no rows")?);
        let cache = tempfile::tempdir()?;
        let (mut cold, mut cached) = (Times::default(), Times::default());
        for _ in 0..cold_count {
            let empty = tempfile::tempdir()?;
            cold.push(first_answer(file, empty.path(), &request)?);
        }
        first_answer(file, cache.path(), &request)?;
        for _ in 0..cached_count {
            cached.push(first_answer(file, cache.path(), &request)?);
        }
        let ms = |times: &Times, percent| times.percentile_us(percent) / 1e3;
        section.rows.push(vec![
            name,
            format!("{:.0}", ms(&cold, 50)),
            format!("{:.1}", ms(&cached, 50)),
            format!("{:.1}", ms(&cached, 100)),
        ]);
        if section.targets.is_empty() {
            section.targets.push(Target {
                what: "cached start of `serve` to the first answer",
                unit: " ms",
                measured: ms(&cached, 50),
                limit: Limit::AtMost(50.0),
            });
        }
    }
    Ok(section)
}

fn first_answer(file: &Path, cache: &Path, request: &[u8]) -> Result<Duration> {
    let mut command = Command::new(MODELET);
    command
        .arg("serve")
        .arg(file)
        .args(["--listen", "127.0.0.1:0"])
        .env("MODELET_CACHE", cache);
    let start = Instant::now();
    let server = Server::start(&mut command)?;
    server.answer(request)?;
    Ok(start.elapsed())
}
