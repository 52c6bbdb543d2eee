//! `modelet serve` against the same stack without a guest, and against hyper.

use crate::load::{Load, Server, post};
use crate::models::Rows;
use crate::report::{Limit, Section, Target};
use crate::stats::{Times, median};
use crate::{Effort, MODELET, baselines, credit};
use anyhow::{Context, Result};
use std::env;
use std::process::Command;

/// A server under load, and what each round of it took.
struct Subject {
    name: &'static str,
    server: Server,
    rounds: Vec<Load>,
}

impl Subject {
    fn median(&self, of: impl Fn(&Load) -> f64) -> f64 {
        median(self.rounds.iter().map(of))
    }

    /// How many times the processor time of another, round by round.
    fn ratio(&self, other: &Subject) -> f64 {
        median(self.rounds.iter().zip(&other.rounds).map(|(a, b)| a.cpu_us / b.cpu_us))
    }

    fn row(&self, connections: usize, [hyper, stack, ..]: &[Subject; 7]) -> Result<Vec<String>> {
        let mut times = Times::default();
        for round in &self.rounds {
            times.append(&round.times);
        }
        Ok(vec![
            self.name.into(),
            connections.to_string(),
            format!("{:.2}", self.median(|round| round.cpu_us)),
            format!("{:.2}", self.ratio(stack)),
            format!("{:.2}", self.ratio(hyper)),
            format!("{:.0}", self.median(|round| round.per_s)),
            format!("{:.0}", times.percentile_us(50)),
            format!("{:.0}", times.percentile_us(99)),
            format!("{:.1}", self.server.resident_bytes()? as f64 / f64::from(1 << 20)),
        ])
    }
}

const TEXT: &str = "\
`POST /predict` of the credit example: 20 features by name, bodies of about 500 bytes, rows that change from request \
to request, connections kept alive. Each server is a process of its own; `serve` has its shipped defaults but for what \
is said, with validation and monitoring on and the store in a file. They take turns for ROUNDS rounds of REQUESTS requests. Figures are \
medians of the rounds, ratios are of the servers' processor time (user and kernel) in the same round. The stack without \
a guest has the host's connections, routing, request ids, reading of bodies and headers, and gives the same answer to \
every request; bare hyper does not read the body either. The stack with the core has the same \
core as the guest, compiled natively and called without a sandbox, and watches nothing: what a server written \
around it would take for the same answers (with the checks for overflow that the release profile has). With 16 connections a server finds several requests each time \
it wakes; with 1 it wakes for each. Client and servers share the processors, so times and requests/s compare the \
servers with each other only; the client has a processor to itself and never \
sleeps, because a server on the same machine would pay for waking it. The access log goes to `/dev/null`. Memory is what is resident after the load.";

pub fn measure(effort: Effort) -> Result<Section> {
    let count = effort.of(5_000, 60_000);
    let rounds = effort.of(3, 5);
    let requests: Vec<Vec<u8>> = Rows::of_credit()?.single().iter().map(|body| post(body)).collect();

    let modelet = |arguments: &[&str]| {
        let mut command = Command::new(MODELET);
        command
            .arg("serve")
            .arg(credit())
            .args(["--listen", "127.0.0.1:0"])
            .args(arguments);
        Server::start(&mut command)
    };
    let store = tempfile::tempdir()?;
    let store = store.path().join("store.redb");
    let store = store.to_str().context("the path is no text")?;
    let pooled = modelet(&["--no-access-log", "--store", store])?;
    let answer = pooled.answer(requests.first().context("there are no rows")?)?;
    let baseline = |name: &str, argument: &str| Server::start(Command::new(env::current_exe()?).args([name, argument]));
    let bundle = credit().with_extension("bundle");
    let bundle = bundle.to_str().context("the path is no text")?;
    let subject = |name, server| Subject {
        name,
        server,
        rounds: Vec::new(),
    };
    let mut subjects = [
        subject("bare hyper", baseline(baselines::HELLO, &answer)?),
        subject("same stack without a guest", baseline(baselines::STACK, &answer)?),
        subject("same stack with the core, native", baseline(baselines::NATIVE, bundle)?),
        subject("`serve --no-access-log`", pooled),
        subject(
            "`serve --no-access-log --no-monitor`",
            modelet(&["--no-access-log", "--no-monitor"])?,
        ),
        subject("`serve`", modelet(&[])?),
        subject(
            "`serve --no-access-log --isolate request`",
            modelet(&["--no-access-log", "--isolate", "request"])?,
        ),
    ];
    let mut section = Section {
        title: "HTTP",
        text: TEXT
            .replace("ROUNDS", &rounds.to_string())
            .replace("REQUESTS", &count.to_string()),
        header: vec![
            "server",
            "connections",
            "CPU µs/request",
            "to same stack",
            "to bare hyper",
            "requests/s",
            "p50 µs",
            "p99 µs",
            "RSS MiB",
        ],
        ..Section::default()
    };
    for connections in [16, 1] {
        for subject in &mut subjects {
            subject.rounds.clear();
            subject.server.load(&requests, connections, count / 5)?;
        }
        for _ in 0..rounds {
            for subject in &mut subjects {
                subject.rounds.push(subject.server.load(&requests, connections, count)?);
            }
        }
        if connections > 1 {
            section.targets = targets(&subjects);
        }
        for subject in &subjects {
            section.rows.push(subject.row(connections, &subjects)?);
        }
    }
    Ok(section)
}

/// Bare hyper, the stack, and the pooled server watched and not come first.
fn targets([hyper, stack, _, pooled, unwatched, ..]: &[Subject; 7]) -> Vec<Target> {
    vec![
        Target {
            what: "processor time of `serve --no-access-log` to the same stack without a guest",
            unit: "",
            measured: pooled.ratio(stack),
            limit: Limit::AtMost(1.2),
        },
        Target {
            what: "processor time of `serve --no-access-log` to bare hyper",
            unit: "",
            measured: pooled.ratio(hyper),
            limit: Limit::AtMost(1.35),
        },
        Target {
            what: "processor time of `serve --no-access-log` to the same without monitoring",
            unit: "",
            measured: pooled.ratio(unwatched),
            limit: Limit::AtMost(1.03),
        },
    ]
}
