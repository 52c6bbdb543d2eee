//! Weeks of a model under the rules that are shipped, from findings to
//! notifications: the code is the host's, over a store in memory.

use crate::draw::Draw;
use modelet::api::metrics::LATENCY_BUCKETS_S;
use modelet::drift::report::Report;
use modelet::drift::truth::{Judge, Predicted, Sums, Truth};
use modelet::signature::{Baseline, Manifest};
use modelet_host::monitor::alerts::Alerts;
use modelet_host::monitor::config::Config;
use modelet_host::monitor::observed::Traffic;
use modelet_host::monitor::performance::metric_values;
use modelet_host::monitor::rules::{self, Evaluation, MetricValue};
use modelet_host::monitor::store::{self, Change, Store};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The p95 rule's threshold lies between the 13th bucket and the 14th.
const FAST: usize = 12;
const LATENCY_MS: f64 = 100.0;

/// How often each rule told that an alert began.
pub type Told = BTreeMap<String, u64>;

/// The rules of a model that begins to be watched.
pub struct Week {
    alerts: Alerts,
    store: Arc<dyn Store>,
    window: u64,
    length_s: u64,
    pub told: Told,
}

impl Week {
    /// A week of windows of this length.
    pub fn new(length_s: u64) -> Week {
        let store = store::open("memory").expect("there is memory");
        let alerts = Alerts::new(Arc::clone(&store), &Config::default(), "simulation").expect("the defaults are right");
        Week {
            alerts,
            store,
            window: 0,
            length_s,
            told: Told::new(),
        }
    }

    /// Shows the rules the next window.
    pub fn next(&mut self, e: Evaluation) {
        let from = self.window * self.length_s;
        let to = from + self.length_s;
        self.window += 1;
        let e = Evaluation {
            model: "simulated".into(),
            version: "1".into(),
            window: (from, to),
            ..e
        };
        // After the delay for late labels.
        let now_ms = (to + 3600) * 1000;
        let done = self.alerts.evaluate(&e, now_ms).expect("memory does not fail");
        if done.messages == 0 {
            return;
        }
        let messages = self.store.documents("outbox/").expect("memory does not fail");
        for (_, bytes) in &messages {
            let message: serde_json::Value = serde_json::from_slice(bytes).expect("a message is JSON");
            let message = &message["message"];
            if message["status"] == "firing" && message["repeat"] == false {
                let rule = message["rule"].as_str().expect("it names its rule");
                *self.told.entry(rule.to_owned()).or_default() += 1;
            }
        }
        let taken: Vec<Change> = messages.into_iter().map(|(name, _)| (name, None)).collect();
        self.store.change(&taken).expect("memory does not fail");
    }
}

/// What the rules on columns look at.
pub fn of_report(report: Report) -> Evaluation {
    Evaluation {
        rows: report.rows,
        report: Some(report),
        ..Evaluation::default()
    }
}

/// Requests of which each fails, is rejected or is slow with a share of what
/// the rules allow.
pub fn of_requests(draw: &mut Draw, requests: u64, of_threshold: f64) -> Evaluation {
    let rejected = draw.binomial(requests, 0.05 * of_threshold);
    let slow = draw.binomial(requests, 0.05 * of_threshold);
    let mut traffic = Traffic::default();
    let mut buckets = vec![0; LATENCY_BUCKETS_S.len() + 1];
    buckets[FAST] = requests - slow;
    buckets[FAST + 1] = slow;
    traffic.add_latency(&buckets);
    let latency = traffic.latency_ms();
    assert_eq!(latency[FAST].0, LATENCY_MS, "the bucket ends at the threshold");
    Evaluation {
        requests,
        errors: draw.binomial(requests, 0.01 * of_threshold),
        rows: requests - rejected,
        rejected,
        p95_ms: traffic.percentile_ms(0.95),
        latency,
        ..Evaluation::default()
    }
}

/// Labels of a model whose accuracy was measured on a holdout.
pub struct Labels {
    judge: Judge,
    manifest: Manifest,
    hit: Sums,
    miss: Sums,
    confidences: Vec<f64>,
}

impl Labels {
    /// A model with this accuracy, measured on so many rows.
    pub fn new(mut manifest: Manifest, draw: &mut Draw, accuracy: f64, holdout: u64) -> Labels {
        let judge = Judge::new(&manifest).expect("labels can be held against it");
        let misses = draw.binomial(holdout, 1.0 - accuracy);
        manifest.baseline = Some(Baseline {
            rows: holdout,
            metrics: [("accuracy".to_owned(), 1.0 - misses as f64 / holdout as f64)].into(),
            positives: Vec::new(),
        });
        let of = |truth: u32| {
            let predicted = Predicted {
                class: 1,
                score: f64::NAN,
            };
            judge.judge(predicted, &Truth::Class(truth))
        };
        Labels {
            hit: of(1),
            miss: of(0),
            confidences: vec![rules::Rule::new(rules::Kind::Performance).confidence],
            judge,
            manifest,
        }
    }

    /// What the rule on accuracy looks at when of so many labels each is right
    /// with this probability.
    pub fn window(&self, draw: &mut Draw, labels: u64, accuracy: f64) -> Evaluation {
        let misses = draw.binomial(labels, 1.0 - accuracy);
        let mut sums = Sums::new();
        for (one, count) in [(&self.hit, labels - misses), (&self.miss, misses)] {
            for (key, value) in one {
                *sums.entry(*key).or_default() += value * count as i64;
            }
        }
        let metrics: BTreeMap<String, MetricValue> =
            metric_values(&self.judge, &sums, &self.manifest, &self.confidences);
        Evaluation {
            truth: Some(rules::Truth {
                rows: labels,
                coverage: 1.0,
                metrics,
                cusum: None,
            }),
            ..Evaluation::default()
        }
    }
}
