//! What the host counts, and how it is exposed to Prometheus.
//!
//! Counting happens on every request, a value of each feature included, so it
//! takes no lock, and up to 63 threads share no cache line: each adds to a shard of
//! its own, and shards are summed when somebody asks. Names and buckets
//! are the component's (`modelet::api::metrics`).

mod drift;
mod process;
mod shards;

use crate::monitor::observed::{Observed, Traffic};
use crate::monitor::watch::Watched;
use crate::runtime::Observation;
use modelet::api::metrics::{Exposition, LATENCY_BUCKETS_S};
use modelet::drift::delta::latency_bucket;
use modelet::drift::{Bins, Counts};
use modelet::validate::{FaultCode, FaultCount};
use shards::{Adder, SHARDS};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Content type of OpenMetrics.
pub const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const BUCKETS: usize = LATENCY_BUCKETS_S.len() + 1;
/// The statuses that the host answers with; others are counted as the last.
const STATUSES: [u16; 17] = [
    200, 202, 204, 304, 400, 404, 405, 408, 411, 413, 415, 422, 431, 500, 503, 504, 0,
];

/// Why the host could not get an answer from a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The guest ran too long.
    Deadline,
    /// The guest needed too much memory.
    Memory,
    /// The guest failed.
    Trap,
    /// All instances were in use.
    Busy,
}

impl Failure {
    const ALL: [Failure; 4] = [Failure::Deadline, Failure::Memory, Failure::Trap, Failure::Busy];

    fn name(self) -> &'static str {
        match self {
            Failure::Deadline => "deadline",
            Failure::Memory => "memory",
            Failure::Trap => "trap",
            Failure::Busy => "busy",
        }
    }
}

/// Counters of one model's requests.
///
/// The routes are named when it is made; the first `timed` of them have a
/// histogram of the time that requests take.
pub struct Counters {
    routes: &'static [&'static str],
    timed: usize,
    shards: Box<[Shard]>,
    /// Where the bins of each monitored column begin among all bins, and where
    /// the last ones end.
    columns: Box<[usize]>,
    /// By feature, the last for none, and code.
    faults: Box<[[AtomicU64; FaultCode::ALL.len()]]>,
    failures: [AtomicU64; Failure::ALL.len()],
}

/// Two cache lines, because processors fetch them in pairs.
#[repr(align(128))]
struct Shard {
    /// Requests begun and those that ended, modulo 2^64: a request may end on
    /// another thread.
    in_flight: AtomicU64,
    rows: [AtomicU64; 2],
    bins: Box<[AtomicU64]>,
    inference: Histogram,
    requests: Box<[Histogram]>,
    statuses: Box<[[AtomicU64; STATUSES.len()]]>,
}

#[derive(Default)]
struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum_ns: AtomicU64,
}

impl Histogram {
    fn observe(&self, time: Duration, adder: Adder) {
        let ns = time.as_nanos() as u64;
        adder.add(&self.buckets[latency_bucket(ns)], 1);
        adder.add(&self.sum_ns, ns);
    }
}

/// Counts a request in flight for as long as it lives.
pub struct InFlight<'a>(&'a Counters);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        let (shard, adder) = self.0.shard();
        adder.add(&shard.in_flight, u64::MAX);
    }
}

impl Counters {
    /// Counters for these routes, of which the first `timed` have histograms,
    /// and for a model with so many features and these monitored columns.
    pub fn new<'a>(
        routes: &'static [&'static str],
        timed: usize,
        features: usize,
        columns: impl Iterator<Item = &'a Bins>,
    ) -> Counters {
        let ends = columns.scan(0, |end, bins| {
            *end += bins.len();
            Some(*end)
        });
        let columns: Box<[usize]> = std::iter::once(0).chain(ends).collect();
        let bins = columns[columns.len() - 1];
        let shard = || Shard {
            in_flight: AtomicU64::new(0),
            rows: Default::default(),
            bins: (0..bins).map(|_| AtomicU64::new(0)).collect(),
            inference: Histogram::default(),
            requests: (0..timed).map(|_| Histogram::default()).collect(),
            statuses: routes.iter().map(|_| Default::default()).collect(),
        };
        Counters {
            routes,
            timed,
            shards: (0..SHARDS).map(|_| shard()).collect(),
            columns,
            faults: (0..=features).map(|_| Default::default()).collect(),
            failures: Default::default(),
        }
    }

    /// Counts a request in flight until the result is dropped.
    pub fn in_flight(&self) -> InFlight<'_> {
        let (shard, adder) = self.shard();
        adder.add(&shard.in_flight, 1);
        InFlight(self)
    }

    /// Counts a request that was answered: the number of its route, the status
    /// and the time from the request's head to the answer.
    pub fn request(&self, route: usize, status: u16, time: Duration) {
        let (shard, adder) = self.shard();
        let status = STATUSES.iter().position(|&s| s == status).unwrap_or(STATUSES.len() - 1);
        adder.add(&shard.statuses[route][status], 1);
        if let Some(histogram) = shard.requests.get(route) {
            histogram.observe(time, adder);
        }
    }

    /// Counts the rows of a request, where they fell, and their faults.
    pub fn rows(&self, observation: &Observation) {
        let width = self.columns.len() - 1;
        let (shard, adder) = self.shard();
        // A component that counts other columns than its manifest has is not
        // heard.
        if observation.columns as usize == width && width > 0 {
            for (row, &status) in observation.bins.chunks_exact(width).zip(&observation.status) {
                if status == 0 {
                    for (range, &bin) in self.columns.windows(2).zip(row) {
                        let at = range[0] + usize::from(bin);
                        if at < range[1] {
                            adder.add(&shard.bins[at], 1);
                        }
                    }
                }
            }
        }
        let rejected = observation.status.iter().filter(|&&status| status != 0).count();
        let answered = observation.status.len() - rejected;
        let [answered_total, rejected_total] = &shard.rows;
        adder.add(answered_total, answered as u64);
        adder.add(rejected_total, rejected as u64);
        for fault in &observation.faults {
            self.fault(fault);
        }
    }

    fn fault(&self, fault: &FaultCount) {
        let none = self.faults.len() - 1;
        let feature = fault.feature.map_or(none, |feature| feature as usize).min(none);
        self.faults[feature][fault.code as usize].fetch_add(u64::from(fault.count), Ordering::Relaxed);
    }

    /// Counts the time of a prediction.
    pub fn inference(&self, time_ns: u64) {
        let (shard, adder) = self.shard();
        shard.inference.observe(Duration::from_nanos(time_ns), adder);
    }

    /// Counts a call that gave no answer.
    pub fn failure(&self, failure: Failure) {
        self.failures[failure as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Everything that was observed so far.
    pub fn observed(&self) -> Observed {
        let mut counts = Counts {
            answered: self.sum(|shard| &shard.rows[0]),
            rejected: self.sum(|shard| &shard.rows[1]),
            columns: self
                .columns
                .windows(2)
                .map(|range| {
                    (range[0]..range[1])
                        .map(|at| self.sum(|shard| &shard.bins[at]))
                        .collect()
                })
                .collect(),
            ..Counts::default()
        };
        let none = self.faults.len() - 1;
        for (feature, codes) in self.faults.iter().enumerate() {
            for (&code, count) in FaultCode::ALL.iter().zip(codes) {
                let count = count.load(Ordering::Relaxed);
                if count > 0 {
                    let feature = (feature != none).then_some(feature as u32);
                    counts.faults.insert((feature, code), count);
                }
            }
        }
        let mut traffic = Traffic::default();
        for (i, _) in self.routes[..self.timed].iter().enumerate() {
            for (j, &status) in STATUSES.iter().enumerate() {
                let count = self.sum(|shard| &shard.statuses[i][j]);
                if count > 0 {
                    *traffic.statuses.entry(status).or_default() += count;
                }
            }
            let (buckets, _) = self.histogram(|shard| &shard.requests[i]);
            traffic.add_latency(&buckets);
        }
        for (failure, count) in Failure::ALL.iter().zip(&self.failures) {
            let count = count.load(Ordering::Relaxed);
            if count > 0 {
                traffic.failures.insert(failure.name().to_owned(), count);
            }
        }
        Observed { counts, traffic }
    }

    fn shard(&self) -> (&Shard, Adder) {
        let adder = Adder::of_this_thread();
        (&self.shards[adder.shard()], adder)
    }

    fn sum(&self, count: impl Fn(&Shard) -> &AtomicU64) -> u64 {
        self.shards
            .iter()
            .map(|shard| count(shard).load(Ordering::Relaxed))
            .sum()
    }

    fn histogram(&self, histogram: impl Fn(&Shard) -> &Histogram) -> ([u64; BUCKETS], f64) {
        let buckets = std::array::from_fn(|bucket| self.sum(|shard| &histogram(shard).buckets[bucket]));
        (buckets, self.sum(|shard| &histogram(shard).sum_ns) as f64 / 1e9)
    }
}

/// A model as the metrics name it.
pub struct Subject<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its version.
    pub version: &'a str,
    /// SHA-256 of its bundle.
    pub sha256: &'a str,
    /// Its features' names, in the signature's order.
    pub features: &'a [String],
    /// What was counted.
    pub counters: &'a Counters,
    /// What watches it.
    pub watched: Option<&'a Watched>,
}

/// All metrics, in Prometheus' text format. `windows` are those that the
/// monitor looks at, `folder` is where its file lies.
pub fn render(subjects: &[Subject<'_>], windows: &[Duration], folder: Option<&Path>) -> String {
    let mut out = Exposition::default();
    out.family(
        "modelet_build_info",
        "gauge",
        "The model served, by the SHA-256 of its bundle.",
    );
    for subject in subjects {
        out.sample("modelet_build_info", &subject.labels(&[("sha256", subject.sha256)]), 1);
    }
    out.family(
        "modelet_requests_total",
        "counter",
        "HTTP requests by route and status.",
    );
    for subject in subjects {
        let counters = subject.counters;
        for (i, route) in counters.routes.iter().enumerate() {
            for (j, &status) in STATUSES.iter().enumerate() {
                let count = counters.sum(|shard| &shard.statuses[i][j]);
                // A route that is timed is there from the start, so that rates
                // can be computed from its first request on.
                if count > 0 || (status == 200 && i < counters.timed) {
                    let status = if status == 0 { "other" } else { &status.to_string() };
                    out.sample(
                        "modelet_requests_total",
                        &subject.labels(&[("route", route), ("status", status)]),
                        count,
                    );
                }
            }
        }
    }
    out.family("modelet_requests_in_flight", "gauge", "HTTP requests being answered.");
    for subject in subjects {
        let shards = subject.counters.shards.iter();
        let counts = shards.map(|shard| shard.in_flight.load(Ordering::Relaxed));
        // One that ends elsewhere than it began may be seen to end only.
        let count = counts.fold(0, u64::wrapping_add).cast_signed().max(0);
        out.sample("modelet_requests_in_flight", &subject.labels(&[]), count);
    }
    out.family("modelet_rows_total", "counter", "Rows by what became of them.");
    for subject in subjects {
        for (i, outcome) in ["answered", "rejected"].into_iter().enumerate() {
            let count = subject.counters.sum(|shard| &shard.rows[i]);
            out.sample("modelet_rows_total", &subject.labels(&[("outcome", outcome)]), count);
        }
    }
    out.family(
        "modelet_faults_total",
        "counter",
        "Faults of rejected rows by feature and code.",
    );
    for subject in subjects {
        for (i, counts) in subject.counters.faults.iter().enumerate() {
            let feature = subject.features.get(i).map_or("", String::as_str);
            for (code, count) in FaultCode::ALL.iter().zip(counts) {
                let count = count.load(Ordering::Relaxed);
                if count > 0 {
                    let labels = subject.labels(&[("feature", feature), ("code", code.name())]);
                    out.sample("modelet_faults_total", &labels, count);
                }
            }
        }
    }
    out.family(
        "modelet_failures_total",
        "counter",
        "Calls that gave no answer, by why.",
    );
    for subject in subjects {
        for (failure, count) in Failure::ALL.iter().zip(&subject.counters.failures) {
            let labels = subject.labels(&[("reason", failure.name())]);
            out.sample("modelet_failures_total", &labels, count.load(Ordering::Relaxed));
        }
    }
    out.family(
        "modelet_request_seconds",
        "histogram",
        "Time from a request's head to its answer.",
    );
    for subject in subjects {
        for (i, route) in subject.counters.routes[..subject.counters.timed].iter().enumerate() {
            let (counts, sum) = subject.counters.histogram(|shard| &shard.requests[i]);
            let labels = subject.labels(&[("route", route)]);
            out.histogram("modelet_request_seconds", &labels, &LATENCY_BUCKETS_S, &counts, sum);
        }
    }
    out.family(
        "modelet_inference_seconds",
        "histogram",
        "Time from the first byte parsed to the last prediction made.",
    );
    for subject in subjects {
        let (counts, sum) = subject.counters.histogram(|shard| &shard.inference);
        out.histogram(
            "modelet_inference_seconds",
            &subject.labels(&[]),
            &LATENCY_BUCKETS_S,
            &counts,
            sum,
        );
    }
    drift::render(&mut out, subjects, windows);
    process::render(&mut out, folder);
    out.finish()
}

impl<'a> Subject<'a> {
    fn labels(&self, more: &[(&'static str, &'a str)]) -> Vec<(&'static str, &'a str)> {
        let mut labels = vec![("model", self.name), ("version", self.version)];
        labels.extend_from_slice(more);
        labels
    }
}

/// Turns Prometheus' text format into OpenMetrics, which names the family of a
/// counter without `_total` and marks the end.
pub fn openmetrics(prometheus: &str) -> String {
    let mut out = String::with_capacity(prometheus.len() + 8);
    for line in prometheus.lines() {
        match line.strip_prefix("# ").and_then(|rest| rest.split_once(' ')) {
            Some((keyword, rest)) => {
                let (name, rest) = rest.split_once(' ').unwrap_or((rest, ""));
                let family = name.strip_suffix("_total").unwrap_or(name);
                out.extend(["# ", keyword, " ", family, " ", rest]);
            }
            None => out.push_str(line),
        }
        out.push('\n');
    }
    out.push_str("# EOF\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_threads_count_adds_up() {
        let column = Bins::from_numbers(&[0.0, 1.0]).unwrap();
        let counters = Counters::new(&["/predict", "/health"], 1, 2, [&column].into_iter());
        std::thread::scope(|scope| {
            // More than there are shards.
            for _ in 0..100 {
                scope.spawn(|| {
                    let _in_flight = counters.in_flight();
                    for _ in 0..100 {
                        counters.request(0, 200, Duration::from_micros(20));
                        counters.request(1, 299, Duration::ZERO);
                        counters.inference(3_000_000_000);
                    }
                });
            }
        });
        counters.rows(&Observation {
            columns: 1,
            status: vec![0, 1, 0],
            bins: vec![1, 255, 2],
            labels: vec![],
            scores: vec![],
            faults: vec![
                FaultCount {
                    feature: Some(1),
                    code: FaultCode::NotFinite,
                    count: 2,
                },
                FaultCount {
                    feature: None,
                    code: FaultCode::Syntax,
                    count: 1,
                },
            ],
        });
        let observed = counters.observed();
        assert_eq!(observed.counts.columns, [[0, 1, 1, 0, 0, 0, 0]]);
        assert_eq!((observed.counts.answered, observed.counts.rejected), (2, 1));
        assert_eq!(observed.counts.faults[&(Some(1), FaultCode::NotFinite)], 2);
        assert_eq!(observed.counts.faults[&(None, FaultCode::Syntax)], 1);
        assert_eq!(observed.traffic.statuses, [(200, 10_000)].into());
        assert_eq!(observed.traffic.requests(), 10_000);
        let text = render(
            &[Subject {
                name: "m",
                version: "1",
                sha256: "aa",
                features: &["a".into(), "b\"".into()],
                counters: &counters,
                watched: None,
            }],
            &[],
            None,
        );
        for line in [
            r#"modelet_requests_total{model="m",version="1",route="/predict",status="200"} 10000"#,
            r#"modelet_requests_total{model="m",version="1",route="/health",status="other"} 10000"#,
            r#"modelet_requests_in_flight{model="m",version="1"} 0"#,
            r#"modelet_rows_total{model="m",version="1",outcome="answered"} 2"#,
            r#"modelet_rows_total{model="m",version="1",outcome="rejected"} 1"#,
            r#"modelet_faults_total{model="m",version="1",feature="b\"",code="not_finite"} 2"#,
            r#"modelet_faults_total{model="m",version="1",feature="",code="syntax"} 1"#,
            r#"modelet_request_seconds_bucket{model="m",version="1",route="/predict",le="0.00001"} 0"#,
            r#"modelet_request_seconds_bucket{model="m",version="1",route="/predict",le="0.000025"} 10000"#,
            r#"modelet_inference_seconds_bucket{model="m",version="1",le="2.5"} 0"#,
            r#"modelet_inference_seconds_bucket{model="m",version="1",le="5"} 10000"#,
            r#"modelet_inference_seconds_sum{model="m",version="1"} 30000"#,
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        let open = openmetrics(&text);
        assert!(open.contains("\n# TYPE modelet_rows counter\n"), "{open}");
        assert!(open.contains("\nmodelet_rows_total{"), "{open}");
        assert!(open.ends_with("\n# EOF\n"));
    }
}
