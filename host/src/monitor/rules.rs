//! What is held against what: a rule looks at one finished window of one model
//! and finds each of its subjects good, bad, or not to be told.
//!
//! Windows of a rule are aligned: they begin at multiples of the rule's window
//! since 1970 and do not overlap. A rule has no memory; that several windows
//! must be bad before anybody is told is the business of
//! [`alerts`](super::alerts).

use super::config::as_text;
use super::observed::latency_edges_ms;
use modelet::drift::report::{ColumnReport, QualityState, Report, ShareReport, State};
use modelet::drift::stats::binomial_greater;
use modelet::drift::truth::Judge;
use modelet::signature::Manifest;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// What a rule looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The distribution of each feature. Bad: it alerts in the report, and its
    /// PSI is above the rule's threshold where the rule has one.
    FeatureDrift,
    /// The distributions of label and score; likewise.
    PredictionDrift,
    /// Missing, out-of-range, unseen and not finite values of each feature.
    /// Bad: the report says so, and one of the shares exceeds the reference's
    /// by the rule's threshold where it has one.
    DataQuality,
    /// A percentile of the latency. Threshold in milliseconds, one of the
    /// edges of the histogram, so that it is exact how many requests took
    /// longer; see [`check_latency`].
    Latency,
    /// Requests that ended in an error of the server, as a share of all.
    ErrorRate,
    /// Rows that were rejected, as a share of all rows.
    RejectedRate,
    /// A figure of the ground truth against its baseline. The threshold is how
    /// much worse it may be: see [`Rule::metric`].
    Performance,
    /// The cumulated sum of the errors. Threshold: the rule's, else the sum's
    /// own.
    Cusum,
    /// There was no request.
    NoData,
    /// Unseen categories and numbers beyond the seen range, as a share of each
    /// feature's rows. The threshold is how much above the reference's share.
    NewPatterns,
}

impl Kind {
    /// All of them with their names.
    pub const ALL: [(&'static str, Kind); 10] = [
        ("feature_drift", Kind::FeatureDrift),
        ("prediction_drift", Kind::PredictionDrift),
        ("data_quality", Kind::DataQuality),
        ("latency", Kind::Latency),
        ("error_rate", Kind::ErrorRate),
        ("rejected_rate", Kind::RejectedRate),
        ("performance", Kind::Performance),
        ("cusum", Kind::Cusum),
        ("no_data", Kind::NoData),
        ("new_patterns", Kind::NewPatterns),
    ];

    /// Whether it is about a rate or a figure that must be beyond the threshold
    /// with [`Rule::confidence`]. The tests of drift and data quality, and the
    /// limit of the CUSUM, have their own levels.
    pub fn has_confidence(self) -> bool {
        match self {
            Kind::Latency | Kind::ErrorRate | Kind::RejectedRate | Kind::Performance | Kind::NewPatterns => true,
            Kind::FeatureDrift | Kind::PredictionDrift | Kind::DataQuality | Kind::Cusum | Kind::NoData => false,
        }
    }

    /// Its name, as it is configured.
    pub fn name(self) -> &'static str {
        let (name, _) = Kind::ALL
            .iter()
            .find(|(_, kind)| *kind == self)
            .expect("every kind is listed");
        name
    }
}

/// How bad it is when a rule fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Good to know.
    Info,
    /// Look at it today.
    Warning,
    /// Look at it now.
    Critical,
}

impl Severity {
    /// All of them with their names.
    pub const ALL: [(&'static str, Severity); 3] = [
        ("info", Severity::Info),
        ("warning", Severity::Warning),
        ("critical", Severity::Critical),
    ];
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        })
    }
}

/// A percentile of the latency.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Percentile {
    /// The median.
    P50,
    /// 95 %.
    P95,
    /// 99 %.
    P99,
}

impl Percentile {
    /// All of them with their names.
    pub const ALL: [(&'static str, Percentile); 3] = [
        ("p50", Percentile::P50),
        ("p95", Percentile::P95),
        ("p99", Percentile::P99),
    ];

    /// The share of requests above it.
    fn above(self) -> f64 {
        match self {
            Percentile::P50 => 0.5,
            Percentile::P95 => 0.05,
            Percentile::P99 => 0.01,
        }
    }

    fn of(self, e: &Evaluation) -> Option<f64> {
        match self {
            Percentile::P50 => e.p50_ms,
            Percentile::P95 => e.p95_ms,
            Percentile::P99 => e.p99_ms,
        }
    }
}

impl fmt::Display for Percentile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Percentile::P50 => "p50",
            Percentile::P95 => "p95",
            Percentile::P99 => "p99",
        })
    }
}

/// How many of the last windows must be bad before an alert fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fire {
    /// So many bad ones.
    pub bad: u32,
    /// Of so many that could be told.
    pub of: u32,
}

impl fmt::Display for Fire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.bad, self.of)
    }
}

impl Serialize for Fire {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A rule. In `modelet.toml` it is a `[[monitor.rules]]` with keys of these
/// names; one with the name of a default rule changes that.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rule {
    /// Its name. Default: the kind's, or the metric's.
    pub name: String,
    /// What it looks at.
    pub kind: Kind,
    /// Whether it is looked at. Default: yes.
    pub enabled: bool,
    /// The length of its windows, a multiple of the bucket.
    #[serde(serialize_with = "as_text")]
    pub window: Duration,
    /// How long after its end a window is looked at, for labels that come
    /// late. Default: 1 h where ground truth is needed, else 0.
    #[serde(serialize_with = "as_text")]
    pub delay: Duration,
    /// What is too much, in the unit of the kind; none where the report or the
    /// metric has its own.
    pub threshold: Option<f64>,
    /// `latency`: which percentile. Default: p95.
    pub percentile: Percentile,
    /// `performance`: the figure, one of [`METRICS`]. For those in the unit of
    /// the target (`mae`, `rmse`) the threshold is a share of the
    /// baseline. Default: `accuracy`, threshold 0.05 (shares of the baseline:
    /// 0.1).
    pub metric: String,
    /// Below so many requests, rows, values or labels there is nothing to
    /// tell. Default: 100; 0 for drift and data quality, where
    /// `monitor.thresholds.rows_min` holds.
    pub min_count: u64,
    /// How sure one must be that a rate, a percentile or a figure of the ground
    /// truth is beyond the threshold, one-sided, in [0.5, 1); see
    /// [`Kind::has_confidence`]. Default: 0.99.
    pub confidence: f64,
    /// How many windows must be bad. Default: 2 of 3; `cusum`: 1 of 1.
    pub fire: Fire,
    /// How many clean ones in a row resolve. Default: 2.
    pub resolve: u32,
    /// How many windows in a row that can't be told resolve too, because
    /// nothing is left to say that it is still so; 0: none ever do. Default: 12.
    pub resolve_unknown: u32,
    /// The least time between notifications that an alert began firing; one
    /// that is due earlier waits, and is left out if the alert ends meanwhile.
    /// Default: 1 h.
    #[serde(serialize_with = "as_text")]
    pub cooldown: Duration,
    /// How often a firing alert is told again; 0: never. Default: 24 h.
    #[serde(serialize_with = "as_text")]
    pub repeat: Duration,
    /// How bad it is. Default: warning; `latency`, `error_rate` and
    /// `performance`: critical.
    pub severity: Severity,
    /// Whether anybody is told. Default: yes.
    pub notify: bool,
    /// The names of those who are told. Default, and when empty: all.
    pub receivers: Vec<String>,
    /// Only these features; when empty: all.
    pub features: Vec<String>,
    /// Only these models; when empty: all.
    pub models: Vec<String>,
}

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;

/// What rules ask for that no model has which they apply to, in sentences. Rules
/// that are there by default fit what models there are.
pub fn unfit(rules: &[Rule], manifests: &[&Manifest]) -> Vec<String> {
    let defaults = Rule::defaults();
    let mut told = Vec::new();
    for rule in rules.iter().filter(|rule| rule.enabled) {
        let mut tell = |what: &str, names: &[String], known: &dyn Fn(&String) -> bool| {
            let unknown: Vec<String> = names
                .iter()
                .filter(|name| !known(name))
                .map(|name| format!("{name:?}"))
                .collect();
            if !unknown.is_empty() {
                let end = match unknown.len() == names.len() {
                    true => ", so that it can't fire",
                    false => "",
                };
                told.push(format!(
                    "rule {:?}: no served model has {what} {}{end}",
                    rule.name,
                    unknown.join(", ")
                ));
            }
        };
        tell("the name", &rule.models, &|name| {
            manifests.iter().any(|m| m.name == *name)
        });
        let applies = |m: &&&Manifest| rule.models.is_empty() || rule.models.contains(&m.name);
        let models: Vec<&Manifest> = manifests.iter().filter(applies).copied().collect();
        if models.is_empty() {
            continue;
        }
        tell("the feature", &rule.features, &|name| {
            models.iter().any(|m| m.features.iter().any(|f| f.name == *name))
        });
        let measures =
            |m: &&Manifest| Judge::new(m).is_some_and(|judge| judge.metric_names().contains(&rule.metric.as_str()));
        let by_default = defaults.iter().any(|default| default.name == rule.name);
        if rule.kind == Kind::Performance && !by_default {
            let measured = models.iter().any(measures);
            tell("the figure", std::slice::from_ref(&rule.metric), &|_| measured);
        }
    }
    told
}

impl Rule {
    /// A rule of this kind as it is by default.
    pub fn new(kind: Kind) -> Rule {
        use Kind::*;
        let truth = matches!(kind, Performance | Cusum);
        let window = match kind {
            Latency | ErrorRate | RejectedRate => 5 * MINUTE,
            NoData => 15 * MINUTE,
            NewPatterns => 24 * HOUR,
            _ => HOUR,
        };
        Rule {
            name: kind.name().into(),
            kind,
            enabled: kind != NoData,
            window: Duration::from_secs(window),
            delay: Duration::from_secs(if truth { HOUR } else { 0 }),
            threshold: match kind {
                Latency => Some(100.0),
                ErrorRate => Some(0.01),
                RejectedRate | NewPatterns => Some(0.05),
                _ => None,
            },
            percentile: Percentile::P95,
            metric: "accuracy".into(),
            min_count: match kind {
                FeatureDrift | PredictionDrift | DataQuality | NoData => 0,
                _ => 100,
            },
            // Of 2,016 windows of five minutes in a week about one pair within
            // three is bad by chance alone where this is 0.985.
            confidence: 0.99,
            fire: match kind {
                Cusum => Fire { bad: 1, of: 1 },
                _ => Fire { bad: 2, of: 3 },
            },
            resolve: 2,
            resolve_unknown: 12,
            cooldown: Duration::from_secs(HOUR),
            repeat: Duration::from_secs(24 * HOUR),
            severity: match kind {
                Latency | ErrorRate | Performance => Severity::Critical,
                _ => Severity::Warning,
            },
            notify: true,
            receivers: Vec::new(),
            features: Vec::new(),
            models: Vec::new(),
        }
    }

    /// The rules that hold when nothing is configured: drift of features and
    /// predictions, data quality, p95 above 100 ms, more than 1 % errors, more
    /// than 5 % rejected rows, accuracy down by more than 5 points, the CUSUM
    /// of the errors; and `no_data`, which is off.
    pub fn defaults() -> Vec<Rule> {
        let kinds = Kind::ALL.into_iter().map(|(_, kind)| kind);
        // New patterns are for retrain triggers, which have rules of their own.
        let mut rules: Vec<Rule> = kinds.filter(|kind| *kind != Kind::NewPatterns).map(Rule::new).collect();
        for rule in &mut rules {
            if rule.kind == Kind::Performance {
                rule.name = rule.metric.clone();
            }
        }
        rules
    }

    /// Whether it holds for a model of this name.
    pub fn applies_to(&self, model: &str) -> bool {
        self.enabled && (self.models.is_empty() || self.models.iter().any(|name| name == model))
    }

    /// Its last window that has ended, and for which its delay is over, as
    /// seconds since 1970.
    pub fn last_window(&self, now_ms: u64) -> Option<(u64, u64)> {
        let window = self.window.as_secs().max(1);
        let ended = now_ms.checked_sub(self.delay.as_millis() as u64)? / 1000;
        let to = ended / window * window;
        Some((to.checked_sub(window)?, to))
    }

    /// Looks at a window. Subjects of which the window has nothing are left
    /// out, which is the same as [`Outcome::Unknown`].
    pub fn findings(&self, e: &Evaluation) -> Vec<Finding> {
        match self.kind {
            Kind::FeatureDrift => self.columns(e, |r| &r.features, |c| self.drift("feature", c)),
            Kind::PredictionDrift => self.columns(e, |r| &r.predictions, |c| self.drift("prediction", c)),
            Kind::DataQuality => self.columns(e, |r| &r.features, |c| self.quality(c)),
            Kind::NewPatterns => {
                let rows = e.report.as_ref().map_or(0, |r| r.rows + r.rejected);
                self.columns(e, |r| &r.features, |c| self.new_patterns(c, rows))
            }
            Kind::Latency => self.latency(e).into_iter().collect(),
            Kind::ErrorRate => vec![self.rate(e.errors, e.requests, "of requests ended in an error")],
            Kind::RejectedRate => vec![self.rate(e.rejected, e.rows + e.rejected, "of rows were rejected")],
            Kind::Performance => self.performance(e).into_iter().collect(),
            Kind::Cusum => self.cusum(e).into_iter().collect(),
            Kind::NoData => vec![Finding {
                subject: String::new(),
                outcome: Outcome::from(e.requests == 0),
                value: Some(e.requests as f64),
                threshold: None,
                summary: match e.requests {
                    0 => "no requests".into(),
                    n => format!("{n} requests"),
                },
            }],
        }
    }

    /// Whether so many of `total` are, with the rule's confidence, more than
    /// that share of all.
    fn exceeds(&self, count: u64, total: u64, share: f64) -> bool {
        count as f64 > share * total as f64 && binomial_greater(count, total, share) <= 1.0 - self.confidence
    }

    fn columns<'a>(
        &self,
        e: &'a Evaluation,
        of: impl Fn(&'a Report) -> &'a Vec<ColumnReport>,
        find: impl Fn(&'a ColumnReport) -> Finding,
    ) -> Vec<Finding> {
        let columns = e.report.as_ref().map(of).into_iter().flatten();
        columns
            .filter(|c| self.features.is_empty() || self.features.contains(&c.name))
            .map(find)
            .collect()
    }

    fn drift(&self, what: &str, column: &ColumnReport) -> Finding {
        let psi = column.drift.as_ref().map(|figures| figures.psi);
        let threshold = self
            .threshold
            .or(column.drift.as_ref().map(|figures| figures.threshold));
        let known = matches!(column.state, State::Stable | State::Drifted) && column.values >= self.min_count;
        let bad = match self.threshold {
            None => column.alert,
            Some(threshold) => column.state == State::Drifted && psi.is_some_and(|psi| psi > threshold),
        };
        Finding {
            subject: column.name.clone(),
            outcome: Outcome::when(known, bad),
            value: psi,
            threshold,
            summary: format!(
                "{what} {}: PSI {} on {} values",
                column.name,
                psi.map_or("unknown".into(), |psi| format!("{psi:.3}")),
                column.values
            ),
        }
    }

    fn quality(&self, column: &ColumnReport) -> Finding {
        let quality = &column.quality;
        let shares = [
            ("missing", &quality.missing),
            ("out of range", &quality.out_of_range),
            ("unseen", &quality.unseen),
            ("not finite", &quality.not_finite),
        ];
        let increase = |share: &ShareReport| share.share - share.reference_share;
        let bad = shares.iter().filter(|(_, share)| {
            share.state == QualityState::Bad && self.threshold.is_none_or(|threshold| increase(share) > threshold)
        });
        let mut bad: Vec<_> = bad.collect();
        bad.sort_by(|a, b| increase(b.1).total_cmp(&increase(a.1)));
        let known = matches!(quality.state, QualityState::Good | QualityState::Bad);
        let told: Vec<String> = bad
            .iter()
            .map(|(name, s)| format!("{} {name} (reference {})", percent(s.share), percent(s.reference_share)))
            .collect();
        Finding {
            subject: column.name.clone(),
            outcome: Outcome::when(known && column.values >= self.min_count, !bad.is_empty()),
            value: bad.first().map(|(_, share)| increase(share)),
            threshold: self.threshold,
            summary: match told.is_empty() {
                true => format!("feature {}: as in the reference", column.name),
                false => format!("feature {}: {}", column.name, told.join(", ")),
            },
        }
    }

    fn new_patterns(&self, column: &ColumnReport, rows: u64) -> Finding {
        let (unseen, beyond) = (&column.quality.unseen, &column.quality.out_of_range);
        let count = unseen.count + beyond.count;
        let rows = rows.max(count);
        let usual = unseen.reference_share + beyond.reference_share;
        let threshold = self.threshold.unwrap_or(0.05);
        let share = count as f64 / rows.max(1) as f64;
        Finding {
            subject: column.name.clone(),
            outcome: Outcome::when(
                rows >= self.min_count.max(1),
                self.exceeds(count, rows, usual + threshold),
            ),
            value: Some(share),
            threshold: Some(usual + threshold),
            summary: format!(
                "feature {}: {} of {rows} rows are unseen or out of range (reference {})",
                column.name,
                percent(share),
                percent(usual)
            ),
        }
    }

    fn latency(&self, e: &Evaluation) -> Option<Finding> {
        let value = self.percentile.of(e).filter(|value| value.is_finite())?;
        let threshold = self.threshold.unwrap_or(100.0);
        let total: u64 = e.latency.iter().map(|(_, count)| count).sum();
        let fast: u64 = e
            .latency
            .iter()
            .filter(|(upper, _)| *upper <= threshold)
            .map(|(_, count)| count)
            .sum();
        let slow = total - fast;
        let beyond = latency_edges_ms().last().is_some_and(|last| value >= last);
        Some(Finding {
            subject: String::new(),
            outcome: Outcome::when(
                total >= self.min_count.max(1),
                self.exceeds(slow, total, self.percentile.above()),
            ),
            value: Some(value),
            threshold: Some(threshold),
            summary: format!(
                "{}{} {value:.1} ms: {} of {total} requests took more than {threshold} ms",
                self.percentile,
                if beyond { " above" } else { "" },
                percent(slow as f64 / total.max(1) as f64),
            ),
        })
    }

    fn rate(&self, count: u64, total: u64, what: &str) -> Finding {
        let threshold = self.threshold.unwrap_or(0.01);
        let count = count.min(total);
        let share = count as f64 / total.max(1) as f64;
        Finding {
            subject: String::new(),
            outcome: Outcome::when(total >= self.min_count.max(1), self.exceeds(count, total, threshold)),
            value: Some(share),
            threshold: Some(threshold),
            summary: format!("{} {what} ({count} of {total})", percent(share)),
        }
    }

    fn performance(&self, e: &Evaluation) -> Option<Finding> {
        let truth = e.truth.as_ref()?;
        let metric = truth.metrics.get(&self.metric)?;
        let of = METRICS.iter().find(|metric| metric.name == self.metric)?;
        let baseline = metric.baseline.filter(|baseline| baseline.is_finite());
        let known = metric.value.is_finite() && metric.rows >= self.min_count.max(1);
        let allowed = match of.relative {
            true => self.threshold.unwrap_or(0.1) * baseline.unwrap_or(0.0).abs(),
            false => self.threshold.unwrap_or(0.05),
        };
        let limit = baseline.map(|baseline| match of.lower_is_better {
            true => baseline + allowed,
            false => baseline - allowed,
        });
        let bounds = metric.bounds.iter().find(|b| b.confidence == self.confidence);
        let bad = limit.zip(bounds).map(|(limit, bounds)| match of.lower_is_better {
            true => bounds.low > limit,
            false => bounds.high < limit,
        });
        Some(Finding {
            subject: String::new(),
            outcome: bad.map_or(Outcome::Unknown, |bad| Outcome::when(known, bad)),
            value: Some(metric.value).filter(|value| value.is_finite()),
            threshold: limit,
            summary: format!(
                "{} {:.4} against {} at the baseline, on {} labels ({} of predictions labelled)",
                self.metric,
                metric.value,
                baseline.map_or("none".into(), |baseline| format!("{baseline:.4}")),
                metric.rows,
                percent(truth.coverage)
            ),
        })
    }

    fn cusum(&self, e: &Evaluation) -> Option<Finding> {
        let truth = e.truth.as_ref()?;
        let cusum = truth.cusum.as_ref().filter(|cusum| cusum.value.is_finite())?;
        let threshold = self.threshold.unwrap_or(cusum.limit);
        Some(Finding {
            subject: String::new(),
            outcome: Outcome::when(truth.rows >= self.min_count.max(1), cusum.value > threshold),
            value: Some(cusum.value),
            threshold: Some(threshold),
            summary: format!("CUSUM of the errors {:.2} on {} labels", cusum.value, truth.rows),
        })
    }
}

/// Whether a threshold of the latency, in milliseconds, can be told from the
/// histogram: of requests in the bucket around any other number it is not known
/// which of them took longer.
///
/// # Errors
/// When it can't; the text says what is accepted.
pub fn check_latency(threshold_ms: f64) -> Result<(), String> {
    match latency_edges_ms().any(|edge| edge == threshold_ms) {
        true => Ok(()),
        false => {
            let edges: Vec<String> = latency_edges_ms().map(|edge| edge.to_string()).collect();
            Err(format!(
                "an edge of the latency's histogram in milliseconds, one of {},",
                edges.join(", ")
            ))
        }
    }
}

/// A figure of the ground truth that a rule can look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// Its name among [`Truth::metrics`].
    pub name: &'static str,
    /// What worse is.
    pub lower_is_better: bool,
    /// It is in the unit of the target, so that thresholds are shares of the
    /// baseline.
    pub relative: bool,
}

/// The figures that a rule can look at.
pub const METRICS: [Metric; 14] = {
    const fn metric(name: &'static str, lower_is_better: bool, relative: bool) -> Metric {
        Metric {
            name,
            lower_is_better,
            relative,
        }
    }
    [
        metric("accuracy", false, false),
        metric("precision", false, false),
        metric("recall", false, false),
        metric("f1", false, false),
        metric("precision_macro", false, false),
        metric("recall_macro", false, false),
        metric("f1_macro", false, false),
        metric("auc", false, false),
        metric("log_loss", true, false),
        metric("brier", true, false),
        metric("calibration_error", true, false),
        metric("mae", true, true),
        metric("rmse", true, true),
        metric("r2", false, false),
    ]
};

/// What is known of one finished window of one model.
///
/// The window must be one of a rule's: `to - from` its length, `from` a
/// multiple of it. Rules of other lengths are left alone.
#[derive(Clone, Debug, Default)]
pub struct Evaluation {
    /// The model's name.
    pub model: String,
    /// Its version.
    pub version: String,
    /// Begin and end, in seconds since 1970.
    pub window: (u64, u64),
    /// What `GET /drift` says of the window. It decides which sources count:
    /// rows of browsers stay out of it.
    pub report: Option<Report>,
    /// Requests that came.
    pub requests: u64,
    /// Requests that ended in an error of the server (5xx).
    pub errors: u64,
    /// Rows that were answered.
    pub rows: u64,
    /// Rows that were rejected.
    pub rejected: u64,
    /// The median of the latency, in milliseconds.
    pub p50_ms: Option<f64>,
    /// Its 95th percentile.
    pub p95_ms: Option<f64>,
    /// Its 99th percentile.
    pub p99_ms: Option<f64>,
    /// The latency's buckets in order: upper edge in milliseconds, of the last
    /// one infinite, and count.
    pub latency: Vec<(f64, u64)>,
    /// What the labels say.
    pub truth: Option<Truth>,
}

/// What the labels of a window's predictions say.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    /// Predictions that have a label.
    pub rows: u64,
    /// Their share of all predictions, in [0, 1].
    pub coverage: f64,
    /// The figures by the names of [`METRICS`].
    pub metrics: BTreeMap<String, MetricValue>,
    /// The cumulated sum of the errors at the window's end.
    pub cusum: Option<Cusum>,
}

/// A figure of the ground truth.
#[derive(Clone, Debug, Default)]
pub struct MetricValue {
    /// Its value.
    pub value: f64,
    /// What it was before the model was put to use.
    pub baseline: Option<f64>,
    /// Its bounds for each confidence that a rule has.
    pub bounds: Vec<Bounds>,
    /// Labels that it was computed from.
    pub rows: u64,
}

/// How sure one may be that a figure is not worse, or not better, than it
/// seems: one-sided, and with what the baseline may be off by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// As [`Rule::confidence`] has it.
    pub confidence: f64,
    /// The figure is this sure to be above.
    pub low: f64,
    /// It is this sure to be below.
    pub high: f64,
}

/// A cumulated sum.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cusum {
    /// Its value.
    pub value: f64,
    /// Where it alarms.
    pub limit: f64,
}

/// How a subject of a rule was in a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Beyond the threshold.
    Bad,
    /// Within.
    Clean,
    /// There is too little to tell: nothing fires, and nothing resolves until
    /// [`Rule::resolve_unknown`] such windows have come one after the other.
    Unknown,
}

impl Outcome {
    fn when(known: bool, bad: bool) -> Outcome {
        match known {
            true => Outcome::from(bad),
            false => Outcome::Unknown,
        }
    }
}

impl From<bool> for Outcome {
    fn from(bad: bool) -> Outcome {
        match bad {
            true => Outcome::Bad,
            false => Outcome::Clean,
        }
    }
}

/// What a rule found of a subject.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// The feature or prediction; empty where the rule is about the model.
    pub subject: String,
    /// How it was.
    pub outcome: Outcome,
    /// The figure that was looked at.
    pub value: Option<f64>,
    /// What it was held against.
    pub threshold: Option<f64>,
    /// Both in words.
    pub summary: String,
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// The standard normal quantile of a confidence in [0.5, 1), off by at most
/// 4.5e-4 (Abramowitz and Stegun 26.2.23).
pub fn z(confidence: f64) -> f64 {
    let t = (-2.0 * (1.0 - confidence.clamp(0.5, 1.0 - 1e-12)).ln()).sqrt();
    let over = 2.515517 + t * (0.802853 + t * 0.010328);
    let under = 1.0 + t * (1.432788 + t * (0.189269 + t * 0.001308));
    (t - over / under).max(0.0)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use modelet::drift::report::{ColumnKind, DriftFigures, Quality, Test, Thresholds};
    use modelet::drift::stats::wilson;

    pub(crate) fn share(count: u64, share: f64, reference_share: f64, state: QualityState) -> ShareReport {
        ShareReport {
            count,
            share,
            reference_share,
            p: 1.0,
            adjusted_p: 1.0,
            state,
        }
    }

    pub(crate) fn column(name: &str, state: State, psi: f64) -> ColumnReport {
        let none = share(0, 0.0, 0.0, QualityState::Good);
        ColumnReport {
            name: name.into(),
            kind: ColumnKind::Numeric,
            state,
            alert: state == State::Drifted && psi > 0.1,
            values: 500,
            reference_values: 5000,
            drift: Some(DriftFigures {
                psi,
                kl: psi / 2.0,
                js_distance: 0.1,
                wasserstein: None,
                test: Test::KolmogorovSmirnov,
                statistic: 0.1,
                p: 0.001,
                adjusted_p: 0.01,
                threshold: 0.1,
                direction: None,
                reference_median: None,
                median: None,
                top_groups: Vec::new(),
                moved: String::new(),
            }),
            quality: Quality {
                state: QualityState::Good,
                missing: none.clone(),
                out_of_range: none.clone(),
                unseen: none.clone(),
                not_finite: none,
            },
            bins: Vec::new(),
            groups: Vec::new(),
        }
    }

    pub(crate) fn report(features: Vec<ColumnReport>) -> Report {
        Report {
            model: "credit".into(),
            version: "1.0.0".into(),
            sha256: "ab".into(),
            state: State::Stable,
            alert: features.iter().any(|f| f.alert),
            quality: QualityState::Good,
            attribution: Vec::new(),
            verdict: String::new(),
            window: None,
            rows: 500,
            rejected: 0,
            reference_rows: 5000,
            thresholds: Thresholds::default(),
            features,
            predictions: Vec::new(),
            faults: Vec::new(),
        }
    }

    fn outcomes(rule: &Rule, e: &Evaluation) -> Vec<(String, Outcome)> {
        rule.findings(e).into_iter().map(|f| (f.subject, f.outcome)).collect()
    }

    #[test]
    fn a_column_is_bad_when_the_report_alerts_or_the_rule_says_so() {
        use Outcome::*;
        let e = Evaluation {
            report: Some(report(vec![
                column("a", State::Drifted, 0.3),
                column("b", State::Drifted, 0.05),
                column("c", State::Stable, 0.3),
                column("d", State::InsufficientData, 9.0),
                column("e", State::NoReference, 9.0),
            ])),
            ..Evaluation::default()
        };
        struct Case(Option<f64>, [Outcome; 5]);
        for Case(threshold, expected) in [
            Case(None, [Bad, Clean, Clean, Unknown, Unknown]),
            Case(Some(0.02), [Bad, Bad, Clean, Unknown, Unknown]),
            Case(Some(0.5), [Clean, Clean, Clean, Unknown, Unknown]),
        ] {
            let rule = Rule {
                threshold,
                ..Rule::new(Kind::FeatureDrift)
            };
            let found: Vec<Outcome> = rule.findings(&e).into_iter().map(|f| f.outcome).collect();
            assert_eq!(found, expected, "{threshold:?}");
        }
        let some = Rule {
            features: vec!["b".into()],
            ..Rule::new(Kind::FeatureDrift)
        };
        assert_eq!(outcomes(&some, &e), [("b".to_owned(), Clean)]);
        assert_eq!(outcomes(&Rule::new(Kind::FeatureDrift), &Evaluation::default()), []);
    }

    #[test]
    fn data_quality_names_what_is_bad() {
        let mut bad = column("income", State::Stable, 0.0);
        bad.quality.state = QualityState::Bad;
        bad.quality.missing = share(100, 0.2, 0.01, QualityState::Bad);
        let e = Evaluation {
            report: Some(report(vec![bad])),
            ..Evaluation::default()
        };
        let found = Rule::new(Kind::DataQuality).findings(&e);
        assert_eq!(found[0].outcome, Outcome::Bad);
        assert_eq!(found[0].summary, "feature income: 20.0 % missing (reference 1.0 %)");
        let strict = Rule {
            threshold: Some(0.5),
            ..Rule::new(Kind::DataQuality)
        };
        assert_eq!(strict.findings(&e)[0].outcome, Outcome::Clean);
    }

    #[test]
    fn rates_need_a_minimum_and_must_be_surely_beyond() {
        use Outcome::*;
        struct Case(Kind, u64, u64, Outcome);
        for Case(kind, count, total, expected) in [
            Case(Kind::ErrorRate, 0, 0, Unknown),
            Case(Kind::ErrorRate, 99, 99, Unknown),
            Case(Kind::ErrorRate, 2, 100, Clean),
            // Of 100 requests 4 errors are by chance once in 54 times where the
            // rate is 1 %, 5 once in 290.
            Case(Kind::ErrorRate, 4, 100, Clean),
            Case(Kind::ErrorRate, 5, 100, Bad),
            Case(Kind::ErrorRate, 130, 10_000, Bad),
            Case(Kind::ErrorRate, 120, 10_000, Clean),
            Case(Kind::RejectedRate, 5, 100, Clean),
            Case(Kind::RejectedRate, 20, 100, Bad),
        ] {
            let e = match kind {
                Kind::ErrorRate => Evaluation {
                    requests: total,
                    errors: count,
                    ..Evaluation::default()
                },
                _ => Evaluation {
                    rows: total - count,
                    rejected: count,
                    ..Evaluation::default()
                },
            };
            assert_eq!(
                Rule::new(kind).findings(&e)[0].outcome,
                expected,
                "{kind:?} {count}/{total}"
            );
        }
    }

    #[test]
    fn latency_is_held_against_the_buckets_beyond_the_threshold() {
        use Outcome::*;
        let e = |requests, p95, latency: &[(f64, u64)]| Evaluation {
            requests,
            p95_ms: p95,
            latency: latency.to_vec(),
            ..Evaluation::default()
        };
        struct Case(Evaluation, Option<Outcome>);
        for Case(e, expected) in [
            Case(e(1000, None, &[]), None),
            Case(e(1000, Some(f64::NAN), &[]), None),
            Case(e(1000, Some(500.0), &[]), Some(Unknown)),
            Case(e(50, Some(500.0), &[(f64::INFINITY, 50)]), Some(Unknown)),
            Case(e(1000, Some(99.0), &[(100.0, 1000), (f64::INFINITY, 0)]), Some(Clean)),
            Case(e(1000, Some(101.0), &[(f64::INFINITY, 1000)]), Some(Bad)),
            // 5.5 % slow of 1,000 may be 5 % by chance, 8 % may not.
            Case(e(1000, Some(101.0), &[(100.0, 945), (f64::INFINITY, 55)]), Some(Clean)),
            Case(e(1000, Some(101.0), &[(100.0, 920), (f64::INFINITY, 80)]), Some(Bad)),
            Case(
                e(1000, Some(60.0), &[(50.0, 900), (100.0, 99), (f64::INFINITY, 1)]),
                Some(Clean),
            ),
            Case(
                e(
                    1000,
                    Some(240.0),
                    &[(50.0, 800), (100.0, 100), (250.0, 100), (f64::INFINITY, 0)],
                ),
                Some(Bad),
            ),
        ] {
            let found = Rule::new(Kind::Latency).findings(&e);
            assert_eq!(found.first().map(|f| f.outcome), expected, "{e:?}");
        }
    }

    #[test]
    fn the_confidence_of_a_rule_decides_on_rates_and_percentiles() {
        let of = |kind: Kind, confidence: f64, e: &Evaluation| {
            let rule = Rule {
                confidence,
                ..Rule::new(kind)
            };
            rule.findings(e)[0].outcome
        };
        // Chances of 1.8 %, 0.4 % and 2 % where the rate is the threshold.
        let e = Evaluation {
            requests: 100,
            errors: 4,
            rows: 930,
            rejected: 70,
            p95_ms: Some(120.0),
            latency: vec![(100.0, 935), (f64::INFINITY, 65)],
            ..Evaluation::default()
        };
        for kind in [Kind::ErrorRate, Kind::RejectedRate, Kind::Latency] {
            assert_eq!(of(kind, 0.95, &e), Outcome::Bad, "{kind:?}");
            assert_eq!(of(kind, 0.999, &e), Outcome::Clean, "{kind:?}");
        }
    }

    /// For each threshold that is accepted: requests that took just as long
    /// are fast, and those that took a nanosecond longer are slow.
    #[test]
    fn every_threshold_of_the_latency_that_is_accepted_can_fire() {
        use crate::monitor::observed::Traffic;
        use modelet::drift::delta::latency_bucket;
        let mut edges = 0;
        for threshold in latency_edges_ms() {
            check_latency(threshold).unwrap();
            edges += 1;
            let ns = (threshold * 1e6).round() as u64;
            for (ns, expected) in [(ns, Outcome::Clean), (ns + 1, Outcome::Bad)] {
                let mut buckets = vec![0; latency_edges_ms().count() + 1];
                buckets[latency_bucket(ns)] = 1000;
                let mut traffic = Traffic::default();
                traffic.add_latency(&buckets);
                let e = Evaluation {
                    requests: 1000,
                    p95_ms: traffic.percentile_ms(0.95),
                    latency: traffic.latency_ms(),
                    ..Evaluation::default()
                };
                let rule = Rule {
                    threshold: Some(threshold),
                    ..Rule::new(Kind::Latency)
                };
                assert_eq!(rule.findings(&e)[0].outcome, expected, "{threshold} ms, {ns} ns");
            }
        }
        assert_eq!(edges, 20);
        assert_eq!(
            check_latency(20.0).unwrap_err(),
            "an edge of the latency's histogram in milliseconds, one of 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, \
             10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000,"
        );
        assert!(check_latency(60_000.0).is_err());
    }

    #[test]
    fn performance_must_be_surely_worse_than_the_baseline_allows() {
        use Outcome::*;
        // Two standard errors at 0.95, one at 0.8.
        let figure = |value, baseline, rows| {
            let error = 0.5 / f64::sqrt(rows as f64);
            let bounds = [(0.8, 1.0), (0.95, 2.0)].map(|(confidence, errors)| Bounds {
                confidence,
                low: value - errors * error,
                high: value + errors * error,
            });
            MetricValue {
                value,
                baseline,
                bounds: bounds.to_vec(),
                rows,
            }
        };
        struct Case(&'static str, MetricValue, Outcome);
        let sure = 0.95;
        for (confidence, Case(metric, value, expected)) in [
            (sure, Case("accuracy", figure(0.5, Some(0.9), 99), Unknown)),
            (sure, Case("accuracy", figure(0.5, None, 1000), Unknown)),
            (sure, Case("accuracy", figure(f64::NAN, Some(0.9), 1000), Unknown)),
            (sure, Case("accuracy", figure(0.86, Some(0.9), 10_000), Clean)),
            // 8 points down: of 100 labels that may be chance, of 10,000 not.
            (sure, Case("accuracy", figure(0.82, Some(0.9), 100), Clean)),
            (sure, Case("accuracy", figure(0.82, Some(0.9), 10_000), Bad)),
            // 3 points too many, with a standard error of 2.
            (sure, Case("accuracy", figure(0.82, Some(0.9), 625), Clean)),
            (0.8, Case("accuracy", figure(0.82, Some(0.9), 625), Bad)),
            (0.99, Case("accuracy", figure(0.1, Some(0.9), 10_000), Unknown)),
            (sure, Case("accuracy", figure(0.99, Some(0.9), 10_000), Clean)),
            (sure, Case("log_loss", figure(0.44, Some(0.4), 10_000), Clean)),
            (sure, Case("log_loss", figure(0.47, Some(0.4), 10_000), Bad)),
            (sure, Case("log_loss", figure(0.47, Some(0.4), 1000), Clean)),
            (sure, Case("rmse", figure(10.9, Some(10.0), 10_000), Clean)),
            (sure, Case("rmse", figure(11.1, Some(10.0), 10_000), Bad)),
            (sure, Case("rmse", figure(11.1, Some(10.0), 64), Unknown)),
            (0.8, Case("rmse", figure(11.01, Some(10.0), 400), Clean)),
            (sure, Case("auc", figure(0.8, Some(0.9), 10_000), Bad)),
        ] {
            let rule = Rule {
                metric: metric.into(),
                confidence,
                ..Rule::new(Kind::Performance)
            };
            let told = format!("{metric} {value:?}");
            let e = Evaluation {
                truth: Some(Truth {
                    rows: value.rows,
                    coverage: 0.5,
                    metrics: [(metric.to_owned(), value)].into(),
                    cusum: Some(Cusum { value: 6.0, limit: 5.0 }),
                }),
                ..Evaluation::default()
            };
            assert_eq!(rule.findings(&e)[0].outcome, expected, "{told}");
        }
    }

    #[test]
    fn cusum_no_data_and_new_patterns() {
        let truth = |value| Evaluation {
            truth: Some(Truth {
                rows: 100,
                cusum: Some(Cusum { value, limit: 5.0 }),
                ..Truth::default()
            }),
            ..Evaluation::default()
        };
        assert_eq!(Rule::new(Kind::Cusum).findings(&truth(5.1))[0].outcome, Outcome::Bad);
        assert_eq!(Rule::new(Kind::Cusum).findings(&truth(5.0))[0].outcome, Outcome::Clean);
        assert!(Rule::new(Kind::Cusum).findings(&Evaluation::default()).is_empty());

        let silent = Evaluation::default();
        assert_eq!(Rule::new(Kind::NoData).findings(&silent)[0].outcome, Outcome::Bad);

        for (count, expected) in [(30, Outcome::Clean), (50, Outcome::Bad)] {
            let mut new = column("purpose", State::Stable, 0.0);
            new.quality.unseen = share(count, count as f64 / 500.0, 0.01, QualityState::Good);
            let e = Evaluation {
                report: Some(report(vec![new])),
                ..Evaluation::default()
            };
            assert_eq!(
                Rule::new(Kind::NewPatterns).findings(&e)[0].outcome,
                expected,
                "{count}"
            );
        }
    }

    #[test]
    fn windows_are_aligned_and_wait_for_late_labels() {
        let rule = |window, delay| Rule {
            window: Duration::from_secs(window),
            delay: Duration::from_secs(delay),
            ..Rule::new(Kind::ErrorRate)
        };
        assert_eq!(rule(300, 0).last_window(900_000), Some((600, 900)));
        assert_eq!(rule(300, 0).last_window(899_999), Some((300, 600)));
        assert_eq!(rule(300, 60).last_window(959_999), Some((300, 600)));
        assert_eq!(rule(300, 60).last_window(960_000), Some((600, 900)));
        assert_eq!(rule(300, 60).last_window(10), None);
    }

    /// By hand, with z = 1.6448536: z2 / n = 0.0270554, center 0.1135277,
    /// spread 0.0511663, both over 1.0270554. The quantiles are in any table.
    #[test]
    fn wilson_and_the_normal_quantile_are_those_of_the_books() {
        let (low, high) = wilson(10.0, 100.0, 1.6448536269514722);
        assert!((low - 0.0607187).abs() < 1e-6, "{low}");
        assert!((high - 0.1603555).abs() < 1e-6, "{high}");
        assert_eq!(wilson(0.0, 0.0, 1.6), (0.0, 1.0));
        for (confidence, quantile) in [(0.5, 0.0), (0.9, 1.281552), (0.95, 1.644854), (0.999, 3.090232)] {
            assert!((z(confidence) - quantile).abs() < 4.5e-4, "{confidence}");
        }
    }
}
