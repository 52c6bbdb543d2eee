//! What is counted of a model in some span of time.

use modelet::api::metrics::LATENCY_BUCKETS_S;
use modelet::drift::{Counts, delta};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Version of what [`Observed::to_bytes`] writes.
const FORMAT: u8 = 2;

const BUCKETS: usize = LATENCY_BUCKETS_S.len() + 1;

const MILLION: f64 = 1e6;

/// A number to six digits.
fn significant(number: f64) -> f64 {
    format!("{number:.5e}").parse().unwrap_or(number)
}

/// Observations and traffic. They merge by addition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// Rows: where they fell, and why they were rejected.
    pub counts: Counts,
    /// Requests for predictions.
    pub traffic: Traffic,
}

/// Requests for predictions, by their answers and by the time they took.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Requests by the status of their answer; 0 for statuses that are not
    /// told apart.
    pub statuses: BTreeMap<u16, u64>,
    /// Calls that gave no answer, by why.
    pub failures: BTreeMap<String, u64>,
    /// Requests by the time from head to answer: for each of
    /// [`LATENCY_BUCKETS_S`] and one beyond. Empty before the first.
    pub latency: Vec<u64>,
    /// Requests that were not counted, because their collector was told to
    /// count a sample, in millionths: what the counted ones stand for beside
    /// themselves.
    pub unsampled: u64,
}

/// The upper edges of the latency's buckets in milliseconds, but for the last
/// bucket, which has none. Exactly the numbers that one writes for them.
pub fn latency_edges_ms() -> impl Iterator<Item = f64> {
    LATENCY_BUCKETS_S.iter().map(|bound| (bound * 1e9).round() / 1e6)
}

impl Observed {
    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty() && self.traffic.statuses.is_empty()
    }

    /// Adds other counts of the same model.
    pub fn merge(&mut self, other: &Observed) {
        self.counts.merge(&other.counts);
        self.traffic.merge(&other.traffic);
    }

    /// What was counted since an earlier state of the same counters.
    pub fn since(&self, earlier: &Observed) -> Observed {
        fn less<K: Ord + Clone>(now: &BTreeMap<K, u64>, then: &BTreeMap<K, u64>) -> BTreeMap<K, u64> {
            now.iter()
                .map(|(key, count)| (key.clone(), count - then.get(key).copied().unwrap_or(0).min(*count)))
                .filter(|(_, count)| *count > 0)
                .collect()
        }
        let list = |now: &[u64], then: &[u64]| -> Vec<u64> {
            let then = then.iter().copied().chain(std::iter::repeat(0));
            now.iter()
                .zip(then)
                .map(|(now, then)| now.saturating_sub(then))
                .collect()
        };
        let (now, then) = (&self.counts, &earlier.counts);
        let none = Vec::new();
        Observed {
            counts: Counts {
                answered: now.answered.saturating_sub(then.answered),
                rejected: now.rejected.saturating_sub(then.rejected),
                columns: now
                    .columns
                    .iter()
                    .enumerate()
                    .map(|(i, column)| list(column, then.columns.get(i).unwrap_or(&none)))
                    .collect(),
                faults: less(&now.faults, &then.faults),
            },
            traffic: Traffic {
                statuses: less(&self.traffic.statuses, &earlier.traffic.statuses),
                failures: less(&self.traffic.failures, &earlier.traffic.failures),
                latency: list(&self.traffic.latency, &earlier.traffic.latency),
                unsampled: self.traffic.unsampled.saturating_sub(earlier.traffic.unsampled),
            },
        }
    }

    /// As the store keeps it.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Serialising into memory can't fail.
        let body = postcard::to_allocvec(self).unwrap_or_default();
        [&[FORMAT], &body[..]].concat()
    }

    /// As the store kept it.
    ///
    /// # Errors
    /// When the bytes are something else; the text says what.
    pub fn from_bytes(bytes: &[u8]) -> Result<Observed, String> {
        match bytes.split_first() {
            Some((&FORMAT, body)) => postcard::from_bytes(body).map_err(|error| error.to_string()),
            Some((other, _)) => Err(format!("expected format {FORMAT} but got {other}")),
            None => Err("expected counts but got nothing".into()),
        }
    }
}

/// Where the statuses of answers are not known one by one, their hundred
/// stands for them. Their latency is another than the host's (of the prediction
/// alone), so it is not mixed with it.
impl From<&delta::Delta> for Observed {
    fn from(delta: &delta::Delta) -> Observed {
        let observed = &delta.observed;
        let requests = &observed.requests;
        let counted = requests.answered + requests.rejected + requests.failed;
        // A float beyond the integers becomes the largest of them.
        let unsampled = (counted as f64 * (1.0 / delta.origin.sample - 1.0) * MILLION).round() as u64;
        let statuses = [
            (200, requests.answered),
            (400, requests.rejected),
            (500, requests.failed),
        ];
        Observed {
            counts: observed.counts.clone(),
            traffic: Traffic {
                statuses: statuses.into_iter().filter(|(_, count)| *count > 0).collect(),
                unsampled,
                ..Traffic::default()
            },
        }
    }
}

impl Traffic {
    /// Adds other traffic.
    pub fn merge(&mut self, other: &Traffic) {
        for (status, count) in &other.statuses {
            let sum = self.statuses.entry(*status).or_default();
            *sum = sum.saturating_add(*count);
        }
        for (failure, count) in &other.failures {
            let sum = self.failures.entry(failure.clone()).or_default();
            *sum = sum.saturating_add(*count);
        }
        self.add_latency(&other.latency);
        self.unsampled = self.unsampled.saturating_add(other.unsampled);
    }

    /// The share of the requests that were counted, in (0, 1]; to six digits.
    pub fn sample(&self) -> f64 {
        let counted = self.requests() as f64;
        match self.unsampled {
            0 => 1.0,
            unsampled => significant(counted / (counted + unsampled as f64 / MILLION)),
        }
    }

    /// Adds a histogram of latencies.
    pub fn add_latency(&mut self, buckets: &[u64]) {
        if buckets.iter().any(|&count| count > 0) {
            self.latency.resize(BUCKETS, 0);
            for (count, more) in self.latency.iter_mut().zip(buckets) {
                *count = count.saturating_add(*more);
            }
        }
    }

    /// Requests by latency: the upper edge of each bucket in milliseconds, the
    /// last one infinite, and how many fell into it.
    pub fn latency_ms(&self) -> Vec<(f64, u64)> {
        latency_edges_ms()
            .chain([f64::INFINITY])
            .zip(self.latency.iter().copied())
            .collect()
    }

    /// All requests.
    pub fn requests(&self) -> u64 {
        self.statuses.values().sum()
    }

    /// Requests with a status of this hundred, such as 4 for 400 to 499.
    pub fn of_class(&self, hundred: u16) -> u64 {
        self.statuses
            .iter()
            .filter(|(status, _)| **status / 100 == hundred)
            .map(|(_, count)| count)
            .sum()
    }

    /// The time that this share of the requests did not exceed, in
    /// milliseconds, a line drawn through the bucket that it lies in; the last
    /// bound for what lies beyond all buckets.
    pub fn percentile_ms(&self, share: f64) -> Option<f64> {
        let total: u64 = self.latency.iter().sum();
        if total == 0 {
            return None;
        }
        let wanted = share * total as f64;
        let mut below = 0.0;
        for (i, &count) in self.latency.iter().enumerate() {
            let count = count as f64;
            if count > 0.0 && below + count >= wanted {
                let from = if i == 0 { 0.0 } else { LATENCY_BUCKETS_S[i - 1] };
                let to = LATENCY_BUCKETS_S.get(i).copied().unwrap_or(from);
                return Some(1e3 * (from + (to - from) * (wanted - below) / count));
            }
            below += count;
        }
        LATENCY_BUCKETS_S.last().map(|bound| bound * 1e3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traffic(latency: &[(usize, u64)]) -> Traffic {
        let mut buckets = vec![0; BUCKETS];
        for &(bucket, count) in latency {
            buckets[bucket] = count;
        }
        Traffic {
            statuses: [(200, latency.iter().map(|l| l.1).sum())].into(),
            latency: buckets,
            ..Traffic::default()
        }
    }

    #[test]
    fn percentiles_lie_in_their_bucket() {
        // 90 requests in (25, 50] microseconds and 10 in (0.5, 1] s.
        let traffic = traffic(&[(2, 90), (15, 10)]);
        let near = |share, ms: f64| {
            let got = traffic.percentile_ms(share).unwrap();
            assert!((got - ms).abs() < 1e-9, "{got} is not {ms}");
        };
        near(0.5, 0.025 + 0.025 * 50.0 / 90.0);
        near(0.9, 0.05);
        near(0.95, 750.0);
        assert_eq!(Traffic::default().percentile_ms(0.5), None);
    }

    #[test]
    fn samples_add_up() {
        let delta = |sample: f64, answered: u64| delta::Delta {
            origin: delta::Origin {
                model: String::new(),
                instance: String::new(),
                sequence: 1,
                source: "spin".into(),
                sample,
            },
            observed: delta::Observed {
                requests: delta::Requests {
                    answered,
                    ..delta::Requests::default()
                },
                ..delta::Observed::default()
            },
        };
        let sample = |deltas: &[(f64, u64)]| {
            let mut sum = Observed::default();
            for (sample, answered) in deltas {
                sum.merge(&Observed::from(&delta(*sample, *answered)));
            }
            sum.traffic.sample()
        };
        assert_eq!(sample(&[]), 1.0);
        assert_eq!(sample(&[(1.0, 7)]), 1.0);
        assert_eq!(sample(&[(0.3, 1), (0.3, 2), (0.3, 100)]), 0.3);
        assert_eq!(sample(&[(0.001, 1)]), 0.001);
        // 100 of 100 and 100 of 1,000.
        assert_eq!(sample(&[(1.0, 100), (0.1, 100)]), 0.181818);
        // Whatever is sent, it is a share.
        let most = sample(&[(f64::MIN_POSITIVE, 1 << 40), (0.5, 1 << 40)]);
        assert!(most > 0.0 && most <= 1.0, "{most}");
    }

    #[test]
    fn what_came_since_and_what_was_before_is_all() {
        let mut before = Observed {
            counts: Counts {
                answered: 2,
                columns: vec![vec![1, 1]],
                ..Counts::default()
            },
            traffic: traffic(&[(1, 2)]),
        };
        let more = Observed {
            counts: Counts {
                answered: 3,
                columns: vec![vec![3, 0]],
                ..Counts::default()
            },
            traffic: traffic(&[(1, 1), (4, 2)]),
        };
        let earlier = before.clone();
        before.merge(&more);
        assert_eq!(before.since(&earlier), more);
        assert_eq!(before.since(&Observed::default()), before);
        assert_eq!(Observed::from_bytes(&before.to_bytes()).unwrap(), before);
        assert!(Observed::from_bytes(&[1]).is_err());
    }
}
