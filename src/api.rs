//! Requests and answers: the bytes that go in and out, the same in every home.

mod answer;
mod batch;
mod problem;
mod routes;

pub mod collector;
pub mod json;
pub mod metrics;

pub use answer::{Reply, Service};
pub use batch::{BatchOptions, Format, OnError};
pub use problem::{Kind, Problem};
pub use routes::{Request, Response, Route, handle, query_value};

/// Content type of answers.
pub const JSON: &str = "application/json";
/// Content type of problems (RFC 9457).
pub const PROBLEM_JSON: &str = "application/problem+json";
/// Content type of the metrics (Prometheus' text format).
pub const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The largest number of records that a batch may have by default.
pub const ROWS_MAX: u32 = 100_000;
/// The largest body that a component reads by default, in bytes.
pub const BODY_BYTES_MAX: usize = 32 << 20;

/// Whether a request id may be echoed: 1 to 256 visible ASCII characters.
pub fn valid_request_id(id: &str) -> bool {
    (1..=256).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic())
}
