//! Golden rows: records with the answers that the packed component itself gave,
//! so that every home can be held against them to the last bit.

use serde::{Deserialize, Serialize};

/// The golden rows of a model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Golden {
    /// At most 100.
    pub rows: Vec<GoldenRow>,
}

/// One record and its answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GoldenRow {
    /// The request's body.
    pub request: String,
    /// The answer's body up to, and without, its last members, which differ
    /// from call to call: `inference_time_ms` and `id`.
    pub answer: String,
}

/// The part of an answer that golden rows compare: everything before
/// `,"inference_time_ms"`.
pub fn comparable(answer: &str) -> &str {
    match answer.rfind(",\"inference_time_ms\":") {
        Some(end) => &answer[..end],
        None => answer,
    }
}
