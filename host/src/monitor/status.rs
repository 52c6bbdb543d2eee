//! The body of `GET /drift`: the report on drift, and what else the host knows
//! of a model in a window.

use super::alerts::AlertReport;
use super::config::duration_text;
use super::observed::Traffic;
use super::performance::{Assessment, complete_verdict, metric_values};
use super::rules;
use super::span;
use super::store::Result;
use super::watch::{Watched, trusted};
use crate::output::percent;
use modelet::drift::report::{QualityState, Report, State, Thresholds, Window};
use modelet::drift::truth::{self, Estimate, Sums};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// The chart alarms here: a rise is e^8, some 3,000, times likelier than none.
const CUSUM_LIMIT: f64 = 8.0;
/// It is held here, so that it comes down soon after the errors did.
const CUSUM_CAP: f64 = 2.0 * CUSUM_LIMIT;
/// It goes over the last day, in seconds, whatever the window.
const CUSUM_S: u64 = 86_400;
/// The chart needs so many labels.
const CUSUM_ROWS_MIN: u64 = 50;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Question {
    /// The window ends now and has this length.
    pub window: Duration,
    /// The one source that is asked about; all that are trusted if none.
    pub source: Option<String>,
}

impl Question {
    /// About a window, all that is trusted.
    pub fn of(window: Duration) -> Question {
        Question { window, source: None }
    }
}

/// The whole answer. Its members begin with those of
/// [`Report`], as `modelet drift --json` has them.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// Drift.
    #[serde(flatten)]
    pub report: Report,
    /// Where the rows came from.
    pub sources: Vec<SourceStatus>,
    /// What label and score are held against.
    pub prediction_reference: PredictionReference,
    /// Requests.
    pub traffic: TrafficStatus,
    /// Requests by latency: upper edges in milliseconds, and counts.
    #[serde(skip)]
    pub latency: Vec<(f64, u64)>,
    /// What ground truth says, as far as there is any.
    pub performance: PerformanceStatus,
    /// The alerts of the model, those that fire first.
    pub alerts: Vec<AlertReport>,
    /// The windows that are looked at all the time, in short.
    pub windows: Vec<WindowStatus>,
}

/// A window that is looked at all the time: what was found when it last was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WindowStatus {
    /// Its length, as `?window=` takes it, and its ends.
    #[serde(flatten)]
    pub window: Window,
    /// The worst of the columns.
    pub state: State,
    /// Whether a column drifted beyond its threshold.
    pub alert: bool,
    /// The quality of the data.
    pub quality: QualityState,
    /// Rows answered.
    pub rows: u64,
    /// Rows rejected.
    pub rejected: u64,
    /// The report in a sentence or two.
    pub verdict: String,
}

impl Status {
    /// The report in short; none if it is of no window.
    pub fn short(&self) -> Option<WindowStatus> {
        Some(WindowStatus {
            window: self.report.window.clone()?,
            state: self.report.state,
            alert: self.report.alert,
            quality: self.report.quality,
            rows: self.report.rows,
            rejected: self.report.rejected,
            verdict: self.report.verdict.clone(),
        })
    }
}

/// The rows of a source.
#[derive(Clone, Debug, Serialize)]
pub struct SourceStatus {
    /// `host`, `spin`, `wasmtime`, `browser` or another collector's.
    pub source: String,
    /// Rows answered.
    pub rows: u64,
    /// Rows rejected.
    pub rejected: u64,
    /// Requests that were counted.
    pub requests: u64,
    /// Their share of all requests of the source, in (0, 1]: below 1 where
    /// collectors were told to count a sample. No count here is scaled by it.
    pub sample: f64,
    /// Whether they are part of the report.
    pub included: bool,
}

/// Names the sources whose counts are a sample, where there are any.
fn sampled(sources: &[SourceStatus]) -> Option<String> {
    let told: Vec<String> = sources
        .iter()
        .filter(|source| source.included && source.sample < 1.0)
        .map(|source| format!("{} of the requests of {}", percent(source.sample), source.source))
        .collect();
    let counted = told.join(", ");
    (!told.is_empty()).then(|| format!("Counts are of a sample: {counted}."))
}

/// What label and score are held against.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "from")]
pub enum PredictionReference {
    /// The answers to the holdout given at packing.
    Holdout,
    /// Live rows, because there was no holdout: drift is measured from then
    /// on, and what was wrong already is not seen.
    Learnt {
        /// How many.
        rows: u64,
        /// When it was complete.
        at: String,
    },
    /// Nothing yet: the first live rows will be it.
    Learning {
        /// Rows until now.
        rows: u64,
        /// Rows needed.
        needed: u64,
    },
}

/// Requests for predictions in the window.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TrafficStatus {
    /// All of them that were counted.
    pub requests: u64,
    /// Their share of all that there were, in (0, 1]; see
    /// [`SourceStatus::sample`].
    pub sample: f64,
    /// By the second.
    pub requests_per_s: f64,
    /// Rows, answered and rejected, by the second.
    pub rows_per_s: f64,
    /// Those answered with a status of 400 to 499.
    pub client_errors: u64,
    /// Those answered with a status from 500.
    pub server_errors: u64,
    /// The share of the latter.
    pub error_rate: f64,
    /// Calls that gave no answer, by why.
    pub failures: BTreeMap<String, u64>,
    /// The time that half of the requests did not exceed, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p50_ms: Option<f64>,
    /// 95 of 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p95_ms: Option<f64>,
    /// 99 of 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99_ms: Option<f64>,
}

impl TrafficStatus {
    fn new(traffic: &Traffic, rows: u64, seconds: f64) -> TrafficStatus {
        let requests = traffic.requests();
        let server_errors = traffic.of_class(5);
        TrafficStatus {
            requests,
            sample: traffic.sample(),
            requests_per_s: requests as f64 / seconds,
            rows_per_s: rows as f64 / seconds,
            client_errors: traffic.of_class(4),
            server_errors,
            error_rate: server_errors as f64 / requests.max(1) as f64,
            failures: traffic.failures.clone(),
            p50_ms: traffic.percentile_ms(0.5),
            p95_ms: traffic.percentile_ms(0.95),
            p99_ms: traffic.percentile_ms(0.99),
        }
    }
}

/// How good the predictions of the window were.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PerformanceStatus {
    /// Measured on the rows with a label.
    #[serde(flatten)]
    pub assessed: Assessment,
    /// The share of the host's rows with a label, in [0, 1].
    pub coverage: f64,
    /// Rows that the baseline was measured on; 0 where it was only told.
    pub baseline_rows: u64,
    /// A control chart of the errors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cusum: Option<Cusum>,
    /// What the scores say of themselves: an estimate that needs no label, and
    /// does not see concept drift.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimate: Option<Estimate>,
}

/// A control chart over the buckets of the day before the window's end; see
/// [`truth::Chart`].
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cusum {
    /// The sum of log-likelihood ratios at the end of the window, at most twice
    /// the limit.
    pub value: f64,
    /// Beyond this the errors have risen.
    pub limit: f64,
    /// Whether it is beyond.
    pub alarm: bool,
}

/// A window of a model, to the bucket.
#[derive(Clone, Debug)]
pub struct Span {
    /// As people name its length.
    pub name: String,
    /// Its begin, in seconds since 1970.
    pub from: u64,
    /// Its end.
    pub to: u64,
}

impl Watched {
    /// Answers a question about the time until now.
    ///
    /// # Errors
    /// When the store fails.
    pub fn status(&self, question: &Question, thresholds: &Thresholds) -> Result<Status> {
        self.flush()?;
        self.learn()?;
        let (from, to) = self.recent(question.window);
        let span = Span {
            name: duration_text(question.window),
            from,
            to,
        };
        Ok(self.look(&span, question.source.as_deref(), thresholds)?.0)
    }

    /// What is known of a span of time, and what its labels add up to.
    fn look(&self, span: &Span, source: Option<&str>, thresholds: &Thresholds) -> Result<(Status, Sums)> {
        let window = self.window(span.from, span.to)?;
        let included = |name: &str| match source {
            Some(source) => name == source,
            None => trusted(name),
        };
        let reference = self.reference();
        let observed = window.sum(&reference, included);
        let counts = &observed.counts;
        let mut report = modelet::drift::report(self.manifest(), self.sha256(), &reference, counts, thresholds);
        report.window = Some(Window {
            name: span.name.clone(),
            from: span::rfc3339(window.from),
            to: span::rfc3339(window.to),
        });
        // Rates are of the time that was counted, not of the time before.
        let first = window.first.unwrap_or(window.from).max(window.from);
        let seconds = window.to.min(span::now()).saturating_sub(first);
        let host_rows = window.sources.get("host").map_or(0, |host| host.counts.answered);
        let sources: Vec<SourceStatus> = window
            .sources
            .iter()
            .map(|(name, observed)| SourceStatus {
                source: name.clone(),
                rows: observed.counts.answered,
                rejected: observed.counts.rejected,
                requests: observed.traffic.requests(),
                sample: observed.traffic.sample(),
                included: included(name),
            })
            .collect();
        let sums = match self.judge() {
            Some(_) => self.sums(window.from, window.to)?,
            None => Sums::new(),
        };
        let performance = self.performance(&sums, window.to, host_rows, counts.columns.last())?;
        // Labels are those of all sources together.
        complete_verdict(&mut report, source.is_none().then_some(&performance.assessed));
        if let Some(sentence) = sampled(&sources) {
            report.verdict = format!("{} {sentence}", report.verdict);
        }
        let status = Status {
            sources,
            prediction_reference: self.prediction_reference(),
            latency: observed.traffic.latency_ms(),
            traffic: TrafficStatus::new(
                &observed.traffic,
                counts.answered + counts.rejected,
                seconds.max(1) as f64,
            ),
            performance,
            report,
            alerts: Vec::new(),
            windows: Vec::new(),
        };
        Ok((status, sums))
    }

    /// What rules look at of a window that has ended; `confidences` are those
    /// that the rules have.
    ///
    /// # Errors
    /// When the store fails.
    pub fn evaluation(&self, span: &Span, thresholds: &Thresholds, confidences: &[f64]) -> Result<rules::Evaluation> {
        let (status, sums) = self.look(span, None, thresholds)?;
        let performance = &status.performance;
        let metrics = match self.judge() {
            Some(judge) => metric_values(judge, &sums, self.manifest(), confidences),
            None => BTreeMap::new(),
        };
        let truth = rules::Truth {
            rows: performance.assessed.measured.labelled,
            coverage: performance.coverage,
            metrics,
            cusum: performance.cusum.as_ref().map(|cusum| rules::Cusum {
                value: cusum.value,
                limit: cusum.limit,
            }),
        };
        Ok(rules::Evaluation {
            model: self.manifest().name.clone(),
            version: self.manifest().version.clone(),
            window: (span.from, span.to),
            requests: status.traffic.requests,
            errors: status.traffic.server_errors,
            rows: status.report.rows,
            rejected: status.report.rejected,
            p50_ms: status.traffic.p50_ms,
            p95_ms: status.traffic.p95_ms,
            p99_ms: status.traffic.p99_ms,
            latency: status.latency.clone(),
            truth: Some(truth),
            report: Some(status.report),
        })
    }

    fn prediction_reference(&self) -> PredictionReference {
        let features = self.manifest().features.len();
        let columns = &self.manifest().reference.columns;
        if columns.iter().skip(features).all(|column| !column.counts.is_empty()) {
            return PredictionReference::Holdout;
        }
        match self.learnt() {
            Some(learnt) => PredictionReference::Learnt {
                rows: learnt.rows,
                at: span::rfc3339(learnt.at),
            },
            None => PredictionReference::Learning {
                rows: self.rows_to_learn_from(),
                needed: self.rows_to_learn(),
            },
        }
    }

    /// What the labels of the predictions in `[from, to)` add up to.
    fn sums(&self, from: u64, to: u64) -> Result<Sums> {
        let mut sums = Sums::new();
        for (_, bucket) in &self.truth(from, to)? {
            truth::merge(&mut sums, bucket);
        }
        Ok(sums)
    }

    fn performance(
        &self,
        sums: &Sums,
        to: u64,
        host_rows: u64,
        scores: Option<&Vec<u64>>,
    ) -> Result<PerformanceStatus> {
        let mut status = PerformanceStatus {
            assessed: Assessment::default(),
            coverage: 0.0,
            baseline_rows: 0,
            cusum: None,
            estimate: None,
        };
        let Some(judge) = self.judge() else {
            return Ok(status);
        };
        let baseline = self.manifest().baseline.as_ref();
        status.assessed = Assessment::new(judge, sums, self.manifest());
        let labelled = status.assessed.measured.labelled;
        status.coverage = match host_rows {
            0 => 0.0,
            rows => (labelled as f64 / rows as f64).min(1.0),
        };
        if let Some(baseline) = baseline {
            status.baseline_rows = baseline.rows;
            if labelled >= CUSUM_ROWS_MIN
                && let Some(chart) = judge.chart(baseline)
            {
                let buckets = self.fine_truth(to.saturating_sub(CUSUM_S), to)?;
                let value = chart.run(CUSUM_CAP, buckets.iter().map(|(_, sums)| judge.errors(sums)));
                status.cusum = Some(Cusum {
                    value,
                    limit: CUSUM_LIMIT,
                    alarm: value > CUSUM_LIMIT,
                });
            }
        }
        let positives = baseline.map(|b| b.positives.as_slice()).filter(|p| !p.is_empty());
        status.estimate = scores.and_then(|scores| judge.estimate(scores, positives));
        Ok(status)
    }
}
