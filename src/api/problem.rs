//! Problems: RFC 9457 documents with stable types.

use super::json;
use crate::validate::{Fault, Schema, Subject};

/// A kind of problem. Each has one `type`, one title and one status for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The body can't be parsed.
    MalformedBody,
    /// Values that the signature does not accept.
    InvalidFeatures,
    /// A query parameter has an unknown value.
    InvalidQuery,
    /// No such path.
    NotFound,
    /// The path has other methods.
    MethodNotAllowed,
    /// The body's media type is not accepted.
    UnsupportedMediaType,
    /// The body has more bytes than are accepted.
    BodyTooLarge,
    /// The batch has more rows than are accepted.
    BatchTooLarge,
    /// The body did not arrive in time.
    RequestTimeout,
    /// The model does not run on these values.
    ModelFailed,
    /// The model ran longer than it may.
    DeadlineExceeded,
    /// No model is ready to answer.
    NotReady,
    /// Drift is aggregated by a modelet host, which this home is not.
    NoCollector,
    /// No prediction of this id is kept.
    UnknownPrediction,
    /// A label that is none of the model's, or for a row that has no prediction.
    InvalidLabel,
    /// The delta is of a model that is not served here.
    UnknownModel,
    /// The delta is none of this model's.
    InvalidDelta,
    /// What should be kept can't be.
    StoreUnavailable,
    /// Something that should not happen.
    Internal,
}

impl Kind {
    /// The last part of the `type`.
    pub fn name(self) -> &'static str {
        match self {
            Kind::MalformedBody => "malformed-body",
            Kind::InvalidFeatures => "invalid-features",
            Kind::InvalidQuery => "invalid-query",
            Kind::NotFound => "not-found",
            Kind::MethodNotAllowed => "method-not-allowed",
            Kind::UnsupportedMediaType => "unsupported-media-type",
            Kind::BodyTooLarge => "body-too-large",
            Kind::BatchTooLarge => "batch-too-large",
            Kind::RequestTimeout => "request-timeout",
            Kind::ModelFailed => "model-failed",
            Kind::DeadlineExceeded => "deadline-exceeded",
            Kind::NotReady => "not-ready",
            Kind::NoCollector => "no_collector",
            Kind::UnknownPrediction => "unknown-prediction",
            Kind::InvalidLabel => "invalid-label",
            Kind::UnknownModel => "unknown-model",
            Kind::InvalidDelta => "invalid-delta",
            Kind::StoreUnavailable => "store-unavailable",
            Kind::Internal => "internal",
        }
    }

    /// The title.
    pub fn title(self) -> &'static str {
        match self {
            Kind::MalformedBody => "The body can't be read",
            Kind::InvalidFeatures => "The features are not what the model takes",
            Kind::InvalidQuery => "A query parameter is wrong",
            Kind::NotFound => "There is nothing at this path",
            Kind::MethodNotAllowed => "The path does not have this method",
            Kind::UnsupportedMediaType => "The body's media type is not accepted",
            Kind::BodyTooLarge => "The body is too large",
            Kind::BatchTooLarge => "The batch has too many rows",
            Kind::RequestTimeout => "The body did not arrive in time",
            Kind::ModelFailed => "The model does not run on these values",
            Kind::DeadlineExceeded => "The model took too long",
            Kind::NotReady => "The model is not ready",
            Kind::NoCollector => "Drift is not measured here",
            Kind::UnknownPrediction => "There is no such prediction",
            Kind::InvalidLabel => "The label is not what the model predicts",
            Kind::UnknownModel => "The model is not served here",
            Kind::InvalidDelta => "The counts are not what the model observes",
            Kind::StoreUnavailable => "The store can't be reached",
            Kind::Internal => "Something went wrong",
        }
    }

    /// The HTTP status.
    pub fn status(self) -> u16 {
        match self {
            Kind::MalformedBody | Kind::InvalidQuery => 400,
            Kind::NotFound | Kind::UnknownPrediction | Kind::UnknownModel => 404,
            Kind::MethodNotAllowed => 405,
            Kind::RequestTimeout => 408,
            Kind::BodyTooLarge | Kind::BatchTooLarge => 413,
            Kind::UnsupportedMediaType => 415,
            Kind::InvalidFeatures | Kind::ModelFailed | Kind::InvalidLabel | Kind::InvalidDelta => 422,
            Kind::Internal => 500,
            Kind::NotReady | Kind::NoCollector | Kind::StoreUnavailable => 503,
            Kind::DeadlineExceeded => 504,
        }
    }
}

/// A refusal, ready to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Its kind, which decides the status.
    pub kind: Kind,
    /// The document, JSON.
    pub body: Vec<u8>,
}

impl Problem {
    /// A problem with a sentence about this case.
    pub fn new(kind: Kind, detail: impl AsRef<str>) -> Problem {
        let mut body = head(kind, detail.as_ref());
        body.push(b'}');
        Problem { kind, body }
    }

    /// A problem that lists faults.
    pub(crate) fn with_faults(kind: Kind, detail: &str, faults: &[Fault], omitted: usize, schema: &Schema) -> Problem {
        let mut body = head(kind, detail);
        body.push(b',');
        self::faults(&mut body, faults, omitted, schema);
        body.push(b'}');
        Problem { kind, body }
    }

    /// The same problem with the request's id as its last member.
    pub fn with_id(mut self, id: Option<&str>) -> Problem {
        if let Some(id) = id {
            self.body.pop();
            self.body.extend_from_slice(b",\"id\":");
            json::text(&mut self.body, id);
            self.body.push(b'}');
        }
        self
    }
}

fn head(kind: Kind, detail: &str) -> Vec<u8> {
    let mut body = Vec::with_capacity(256);
    body.extend_from_slice(b"{\"type\":\"urn:modelet:problem:");
    body.extend_from_slice(kind.name().as_bytes());
    body.extend_from_slice(b"\",\"title\":");
    json::text(&mut body, kind.title());
    body.extend_from_slice(b",\"status\":");
    json::integer(&mut body, i64::from(kind.status()));
    body.extend_from_slice(b",\"detail\":");
    json::text(&mut body, detail);
    body
}

/// Appends the member `faults`.
pub(crate) fn faults(out: &mut Vec<u8>, faults: &[Fault], omitted: usize, schema: &Schema) {
    out.extend_from_slice(b"\"faults\":[");
    for (i, fault) in faults.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        out.push(b'{');
        let name = match &fault.subject {
            Subject::Feature(index) => Some(schema.name(*index)),
            Subject::Name(name) => Some(&name[..name.floor_char_boundary(256)]),
            Subject::Request => None,
        };
        if let Some(name) = name {
            out.extend_from_slice(b"\"feature\":");
            json::text(out, name);
            out.push(b',');
        }
        out.extend_from_slice(b"\"code\":\"");
        out.extend_from_slice(fault.code.name().as_bytes());
        out.extend_from_slice(b"\",\"message\":");
        json::text(out, &fault.message);
        if let Some(accepted) = &fault.accepted {
            out.extend_from_slice(b",\"accepted\":");
            json::text(out, accepted);
        }
        out.push(b'}');
    }
    out.push(b']');
    if omitted > 0 {
        out.extend_from_slice(b",\"faults_omitted\":");
        json::integer(out, omitted as i64);
    }
}
