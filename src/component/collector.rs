//! Pushing observations to a modelet host, where the environment names one.
//!
//! | variable | what |
//! | --- | --- |
//! | `MODELET_COLLECTOR` | URL of the host, such as `http://127.0.0.1:3000`; without it nothing is counted or sent |
//! | `MODELET_COLLECTOR_KEY` | sent as `authorization: Bearer` |
//! | `MODELET_COLLECTOR_SOURCE` | what the host files the counts under; default: `spin`, or else `wasmtime` |
//! | `MODELET_COLLECTOR_SAMPLE` | the share of requests that are counted, such as `0.1`; default: all |
//!
//! The format is that of [`crate::drift::delta`]. A push begins shortly after an
//! answer has been handed over (at once with WASI 0.2); one is under way at a
//! time, and what is observed meanwhile goes into the next, so that a busy
//! instance makes few of them.
//!
//! # What can be lost
//!
//! Nothing while the host is reachable and instances end in order: a runtime
//! lets the tasks of an instance finish, and the last one ends when everything
//! is acknowledged. A push that fails is repeated [after a while](RETRY_MS),
//! and again with the next request; when an instance ends in the meantime,
//! what it has not delivered is lost. So is what an instance that is killed has
//! not delivered. Either way that is what one instance observed since its last
//! acknowledged push, at most the requests that a runtime gives to one instance
//! (128 in wasmtime and Spin; 1 in the build for WASI 0.2). Nothing is counted
//! twice.

use super::Instance;
use crate::api::collector::{Collector, Pushed, Settings};
use crate::drift::delta::{SOURCE_SPIN, SOURCE_WASMTIME};
use std::rc::Rc;
use wasip2::cli::environment::get_environment;
use wasip2::random::random::get_random_u64;

/// How long to wait before a failed push is repeated, in milliseconds. Longer
/// would keep many instances alive while a collector is down.
#[cfg(not(feature = "wasi-0-2"))]
pub(super) const RETRY_MS: &[u64] = &[100, 200, 400, 800];
#[cfg(feature = "wasi-0-2")]
pub(super) const RETRY_MS: &[u64] = &[100];

/// How long to wait for what else there is to observe before a push, in
/// milliseconds.
#[cfg(not(feature = "wasi-0-2"))]
pub(super) const GATHER_MS: u64 = 20;

/// A push is not repeated when so much time has passed since pushing began,
/// in nanoseconds: a collector that hangs must not keep instances alive for
/// long, of which a runtime has so many.
pub(super) const PATIENCE_NS: u64 = 2_000_000_000;

/// How long a push may wait for the connection, and then for the answer, in
/// nanoseconds.
pub(super) const TIMEOUT_NS: u64 = 2_000_000_000;

/// Where observations go.
pub(super) enum Target {
    /// Nowhere.
    Off,
    /// To this host.
    On(Rc<Settings>),
}

/// Makes ready to count the next request.
pub(super) fn prepare(instance: &mut Instance, spin: bool) {
    // The environment and random numbers of the moment when the model was
    // packed are not this instance's, so they are asked for here.
    if instance.collector.is_none() {
        instance.collector = Some(match Settings::from_environment(&get_environment()) {
            Ok(None) => Target::Off,
            Ok(Some(settings)) => {
                let id = u128::from(get_random_u64()) << 64 | u128::from(get_random_u64());
                let source = match &settings.source {
                    Some(source) => source,
                    None if spin => SOURCE_SPIN,
                    None => SOURCE_WASMTIME,
                };
                let collector = Collector::new(instance.service.model(), id, source, settings.sample);
                instance.metrics.collector = Some(Box::new(collector));
                Target::On(Rc::new(settings))
            }
            Err(what) => {
                eprintln!("modelet: {what}; observations are not collected");
                Target::Off
            }
        });
    }
    if let Some(collector) = &mut instance.metrics.collector {
        collector.sample(get_random_u64);
    }
}

/// The right to push, which one task has at a time.
#[cfg(not(feature = "wasi-0-2"))]
pub(super) struct Claim(());

#[cfg(not(feature = "wasi-0-2"))]
impl Claim {
    /// `None` if there is nothing to push, or another task does.
    pub(super) fn take() -> Option<Claim> {
        with_collector(Collector::claim)?.then(|| Claim(()))
    }
}

#[cfg(not(feature = "wasi-0-2"))]
impl Drop for Claim {
    fn drop(&mut self) {
        with_collector(Collector::release);
    }
}

fn with_collector<R>(f: impl FnOnce(&mut Collector) -> R) -> Option<R> {
    super::with_instance(|instance| instance.metrics.collector.as_deref_mut().map(f)).flatten()
}

/// The next delta and where it goes, if there is something to push.
pub(super) fn next() -> Option<(Rc<Settings>, Vec<u8>)> {
    super::with_instance(|instance| match &instance.collector {
        Some(Target::On(settings)) => {
            let delta = instance.metrics.collector.as_mut()?.delta()?.to_vec();
            Some((settings.clone(), delta))
        }
        _ => None,
    })
    .flatten()
}

/// Notes what became of the push; whether there is more to push.
pub(super) fn settle(pushed: Pushed) -> bool {
    with_collector(|collector| {
        collector.settle(pushed);
        if let Pushed::Refused(status) = pushed
            && collector.totals().refused == 1
        {
            eprintln!("modelet: the collector answered {status}: what was observed is dropped, here and henceforth");
        }
        collector.due()
    })
    .unwrap_or(false)
}

/// The headers of a push.
pub(super) fn headers(settings: &Settings, delta: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut headers = vec![
        ("content-type".to_owned(), b"application/json".to_vec()),
        ("content-length".to_owned(), delta.len().to_string().into_bytes()),
    ];
    if let Some(authorization) = &settings.authorization {
        headers.push(("authorization".to_owned(), authorization.as_bytes().to_vec()));
    }
    headers
}
