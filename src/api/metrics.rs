//! Metrics in Prometheus' text format: the names and the writer for every
//! home, and the counters of a component that serves HTTP by itself.

use super::collector::Collector;
use super::{Reply, Route, Service};
use crate::drift::delta::latency_bucket;
use crate::validate::{FaultCode, FaultCount};
use std::fmt::Write;

/// Upper bounds of the latency histogram's buckets, in seconds; the last is
/// the host's deadline unless it is given another.
pub const LATENCY_BUCKETS_S: [f64; 20] = [
    0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
    0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
];

/// Writes metric families in Prometheus' text format.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
}

impl Exposition {
    /// Starts a family: `kind` is `counter`, `gauge` or `histogram`.
    pub fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    /// Writes one sample.
    pub fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        self.text.push_str(name);
        if !labels.is_empty() {
            self.text.push('{');
            for (i, (label, value)) in labels.iter().enumerate() {
                if i > 0 {
                    self.text.push(',');
                }
                let _ = write!(self.text, "{label}=\"");
                for c in value.chars() {
                    match c {
                        '\\' => self.text.push_str("\\\\"),
                        '"' => self.text.push_str("\\\""),
                        '\n' => self.text.push_str("\\n"),
                        c => self.text.push(c),
                    }
                }
                self.text.push('"');
            }
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }

    /// Writes a histogram's samples: counts for each of `bounds` and one
    /// beyond, not cumulated, and the sum.
    pub fn histogram(&mut self, name: &str, labels: &[(&str, &str)], bounds: &[f64], counts: &[u64], sum: f64) {
        let mut total = 0;
        let bucket = format!("{name}_bucket");
        for (i, count) in counts.iter().enumerate() {
            total += count;
            let bound = bounds.get(i).map_or("+Inf".to_owned(), f64::to_string);
            let mut labels = labels.to_vec();
            labels.push(("le", &bound));
            self.sample(&bucket, &labels, total);
        }
        self.sample(&format!("{name}_sum"), labels, sum);
        self.sample(&format!("{name}_count"), labels, total);
    }

    /// The text.
    pub fn finish(self) -> String {
        self.text
    }
}

/// What became of a request for predictions.
#[derive(Clone, Copy, Debug)]
pub struct Outcome<'a> {
    /// 0 for each answered row, 1 for each rejected one.
    pub rows: &'a [u8],
    /// Monitored columns.
    pub columns: u32,
    /// `rows × columns` bin numbers.
    pub bins: &'a [u8],
    /// How often each fault occurred.
    pub faults: &'a [FaultCount],
    /// Time of the prediction.
    pub inference_ns: u64,
    /// Whether there was an answer.
    pub answered: bool,
}

impl<'a> From<&'a Reply> for Outcome<'a> {
    fn from(reply: &'a Reply) -> Outcome<'a> {
        Outcome {
            rows: &reply.status,
            columns: reply.columns,
            bins: &reply.bins,
            faults: &reply.faults,
            inference_ns: reply.inference_ns,
            answered: reply.problem.is_none(),
        }
    }
}

/// Counters of one instance.
#[derive(Debug, Default)]
pub struct Metrics {
    requests: Vec<(Option<Route>, u16, u64)>,
    rows: [u64; 2],
    faults: Vec<(Option<u32>, FaultCode, u64)>,
    latency: [u64; LATENCY_BUCKETS_S.len() + 1],
    latency_sum_ns: u64,
    /// Counts for a modelet host, where one is told.
    pub collector: Option<Box<Collector>>,
}

impl Metrics {
    /// Counts a request and the status of its answer.
    pub fn count(&mut self, route: Option<Route>, status: u16) {
        match self.requests.iter_mut().find(|(r, s, _)| *r == route && *s == status) {
            Some((_, _, count)) => *count += 1,
            None => self.requests.push((route, status, 1)),
        }
        if let (Some(collector), Some(Route::Predict | Route::PredictBatch)) = (&mut self.collector, route)
            && status != 405
        {
            collector.count(status);
        }
    }

    /// Counts the rows of a request for predictions.
    pub fn observe(&mut self, outcome: Outcome<'_>) {
        for &status in outcome.rows {
            self.rows[usize::from(status != 0)] += 1;
        }
        for fault in outcome.faults {
            match self
                .faults
                .iter_mut()
                .find(|(feature, code, _)| *feature == fault.feature && *code == fault.code)
            {
                Some((_, _, count)) => *count += u64::from(fault.count),
                None => self.faults.push((fault.feature, fault.code, u64::from(fault.count))),
            }
        }
        if outcome.answered {
            self.latency[latency_bucket(outcome.inference_ns)] += 1;
            self.latency_sum_ns += outcome.inference_ns;
        }
        if let Some(collector) = &mut self.collector {
            collector.observe(&outcome);
        }
    }

    /// The metrics of this instance, which says so by `scope="instance"`.
    pub fn render(&self, service: &Service) -> String {
        let manifest = service.model().manifest();
        let base = [
            ("model", manifest.name.as_str()),
            ("version", manifest.version.as_str()),
            ("scope", "instance"),
        ];
        let with = |more: &[(&'static str, &str)]| -> Vec<(&'static str, String)> {
            base.iter()
                .map(|(k, v)| (*k, v.to_string()))
                .chain(more.iter().map(|(k, v)| (*k, v.to_string())))
                .collect()
        };
        let mut out = Exposition::default();
        let sample = |out: &mut Exposition, name: &str, more: &[(&'static str, &str)], value: u64| {
            let labels = with(more);
            let labels: Vec<(&str, &str)> = labels.iter().map(|(k, v)| (*k, v.as_str())).collect();
            out.sample(name, &labels, value);
        };
        out.family(
            "modelet_build_info",
            "gauge",
            "The model served, by the SHA-256 of its bundle.",
        );
        sample(
            &mut out,
            "modelet_build_info",
            &[("sha256", service.model().sha256())],
            1,
        );
        out.family(
            "modelet_requests_total",
            "counter",
            "HTTP requests by route and status.",
        );
        for (route, status, count) in &self.requests {
            let route = route.map_or("other", Route::path);
            sample(
                &mut out,
                "modelet_requests_total",
                &[("route", route), ("status", &status.to_string())],
                *count,
            );
        }
        out.family("modelet_rows_total", "counter", "Rows by what became of them.");
        for (outcome, count) in ["answered", "rejected"].iter().zip(self.rows) {
            sample(&mut out, "modelet_rows_total", &[("outcome", outcome)], count);
        }
        out.family(
            "modelet_faults_total",
            "counter",
            "Faults of rejected rows by feature and code.",
        );
        for (feature, code, count) in &self.faults {
            let name = feature.map_or("", |f| service.model().schema().name(f));
            sample(
                &mut out,
                "modelet_faults_total",
                &[("feature", name), ("code", code.name())],
                *count,
            );
        }
        out.family(
            "modelet_inference_seconds",
            "histogram",
            "Time from the first byte parsed to the last prediction made.",
        );
        out.histogram(
            "modelet_inference_seconds",
            &base,
            &LATENCY_BUCKETS_S,
            &self.latency,
            self.latency_sum_ns as f64 / 1e9,
        );
        if let Some(collector) = &self.collector {
            let totals = collector.totals();
            out.family(
                "modelet_collector_pushes_total",
                "counter",
                "Pushes of observations to the collector by what became of them.",
            );
            for (outcome, count) in [
                ("acknowledged", totals.acknowledged),
                ("refused", totals.refused),
                ("failed", totals.failed),
            ] {
                sample(
                    &mut out,
                    "modelet_collector_pushes_total",
                    &[("outcome", outcome)],
                    count,
                );
            }
            out.family(
                "modelet_collector_rows_pending",
                "gauge",
                "Rows that the collector does not have yet.",
            );
            sample(
                &mut out,
                "modelet_collector_rows_pending",
                &[],
                collector.rows_pending(),
            );
            out.family(
                "modelet_collector_rows_dropped_total",
                "counter",
                "Rows that the collector refused.",
            );
            sample(
                &mut out,
                "modelet_collector_rows_dropped_total",
                &[],
                totals.rows_dropped,
            );
        }
        out.finish()
    }
}
