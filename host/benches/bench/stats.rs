//! Medians, percentiles, and the time that calls take.

use std::time::{Duration, Instant};

/// Times in nanoseconds.
#[derive(Default)]
pub struct Times(Vec<u64>);

impl Times {
    pub fn measure<T>(&mut self, call: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let value = call();
        self.push(start.elapsed());
        value
    }

    pub fn push(&mut self, time: Duration) {
        self.0.push(time.as_nanos() as u64);
    }

    pub fn append(&mut self, other: &Times) {
        self.0.extend_from_slice(&other.0);
    }

    /// In microseconds; `percent` of the times are not above it.
    pub fn percentile_us(&self, percent: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let index = (sorted.len() * percent).div_ceil(100).max(1) - 1;
        sorted.get(index).map_or(f64::NAN, |&ns| ns as f64 / 1e3)
    }
}

pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values[..] {
        [] => f64::NAN,
        _ if values.len() % 2 == 1 => values[middle],
        _ => (values[middle - 1] + values[middle]) / 2.0,
    }
}
