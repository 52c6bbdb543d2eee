//! The routes of the monitor: `GET /drift`, `POST /feedback`, `POST /observe`.
//!
//! Their work waits for the store, so it is done on threads that may block.

use super::body::Whole;
use super::id::RequestId;
use super::{Answer, Served, Server, body, text};
use crate::monitor::config::duration_text;
use crate::monitor::feedback::{Entry, Feedback, Outcome};
use crate::monitor::span;
use crate::monitor::status::Question;
use crate::monitor::store::StoreError;
use crate::monitor::watch::{Heard, Watched};
use http::StatusCode;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, EXPECT};
use http::request::Parts;
use hyper::body::Incoming;
use modelet::api::{self, Format, Kind, Problem, query_value};
use modelet::drift::delta;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The shortest and the longest window that may be asked for.
const WINDOW_MIN: Duration = Duration::from_secs(1);
const WINDOW_MAX: Duration = Duration::from_secs(366 * 86_400);

impl Server {
    /// `GET /drift?window=1h&source=spin`
    pub(super) async fn drift(&self, model: &Arc<Served>, head: &Parts, id: &RequestId) -> Answer {
        let watched = match watched(model) {
            Ok(watched) => watched,
            Err(problem) => return Answer::problem(problem, id),
        };
        let Some(monitor) = self.monitor.clone() else {
            return Answer::problem(unwatched(), id);
        };
        let question = match question(head.uri.query().unwrap_or(""), monitor.window()) {
            Ok(question) => question,
            Err(problem) => return Answer::problem(problem, id),
        };
        // A long window is a good deal of reading.
        let queued = tokio::time::timeout(self.queue_timeout, Arc::clone(&self.questions).acquire_owned());
        let Ok(Ok(permit)) = queued.await else {
            return Answer::problem(
                Problem::new(Kind::NotReady, "other questions are being answered; try again later"),
                id,
            );
        };
        let answered = blocking(move || {
            let status = monitor.status(&watched, &question);
            drop(permit);
            status
        });
        match answered.await {
            Ok(status) => json(StatusCode::OK, &status),
            Err(problem) => Answer::problem(problem, id),
        }
    }

    /// `POST /feedback`
    pub(super) async fn feedback(&self, model: &Arc<Served>, head: &Parts, body: Incoming, id: &RequestId) -> Answer {
        let watched = match watched(model) {
            Ok(watched) => watched,
            Err(problem) => return Answer::problem(problem, id),
        };
        let whole = match self.json_body(head, body, id).await {
            Ok(whole) => whole,
            Err(answer) => return answer,
        };
        let bytes = whole.bytes.clone();
        // Reading a large body takes a while too.
        let done = blocking(move || {
            let feedback = match Feedback::read(&bytes) {
                Ok(feedback) => feedback,
                Err(what) => return Ok(Err(what)),
            };
            let outcomes = watched.feedback(feedback.entries())?;
            Ok(Ok((feedback, outcomes)))
        });
        let (feedback, outcomes) = match done.await {
            Ok(Ok(done)) => done,
            Ok(Err(what)) => return Answer::problem(Problem::new(Kind::MalformedBody, what), id),
            Err(problem) => return Answer::problem(problem, id),
        };
        let answer = match &feedback {
            Feedback::One(entry) => one(entry, &outcomes, id),
            Feedback::Many(entries) => many(entries, &outcomes),
        };
        Answer {
            rows: outcomes.len(),
            bytes_in: whole.bytes.len(),
            ..answer
        }
    }

    /// `POST /observe`
    pub(super) async fn observe(&self, head: &Parts, body: Incoming, id: &RequestId) -> Answer {
        let whole = match self.json_body(head, body, id).await {
            Ok(whole) => whole,
            Err(answer) => return answer,
        };
        let (bytes, models) = (whole.bytes.clone(), self.models.clone());
        let heard = match blocking(move || hear(&bytes, &models)).await {
            Ok(heard) => heard,
            Err(problem) => return Answer::problem(problem, id),
        };
        match heard {
            Ok((status, rows)) => Answer {
                rows,
                bytes_in: whole.bytes.len(),
                ..json(StatusCode::OK, &BTreeMap::from([("status", status)]))
            },
            Err(problem) => Answer::problem(problem, id),
        }
    }

    /// A body that is JSON.
    async fn json_body<'a>(&'a self, head: &Parts, body: Incoming, id: &RequestId) -> Result<Whole<'a>, Answer> {
        if let Some(encoding) = text(&head.headers, CONTENT_ENCODING)
            && !encoding.eq_ignore_ascii_case("identity")
        {
            let what = format!("content-encoding {encoding:?} is not accepted; send the body as it is");
            return Err(Answer::problem(Problem::new(Kind::UnsupportedMediaType, what), id));
        }
        if let Err(Problem { kind, .. }) = Format::check_single(text(&head.headers, CONTENT_TYPE)) {
            let what = format!("{} takes application/json", head.uri.path());
            return Err(Answer::problem(Problem::new(kind, what), id));
        }
        match body::read(body, &self.bodies, head.headers.contains_key(EXPECT)).await {
            Ok(whole) => Ok(whole),
            Err(error) => Err(self.unread(error, id)),
        }
    }
}

/// Counts a delta: what became of it, and its rows.
fn hear(body: &[u8], models: &[Arc<Served>]) -> Result<Result<(&'static str, usize), Problem>, StoreError> {
    let refuse = |kind, what: String| Ok(Err(Problem::new(kind, what)));
    let unchecked = match delta::read(body) {
        Ok(unchecked) => unchecked,
        Err(what) => return refuse(Kind::MalformedBody, what),
    };
    let Some(model) = models.iter().find(|model| model.sha256 == unchecked.model()) else {
        let what = format!("no model served here has the bundle {}", unchecked.model());
        return refuse(Kind::UnknownModel, what);
    };
    let watched = match watched(model) {
        Ok(watched) => watched,
        Err(problem) => return Ok(Err(problem)),
    };
    let delta = match unchecked.check(watched.manifest()) {
        Ok(delta) => delta,
        Err(what) => return refuse(Kind::InvalidDelta, what),
    };
    let counts = &delta.observed.counts;
    let rows = (counts.answered + counts.rejected) as usize;
    Ok(match watched.observe(&delta)? {
        Heard::Counted => Ok(("counted", rows)),
        Heard::Duplicate => Ok(("duplicate", rows)),
        Heard::TooManySources => Err(Problem::new(
            Kind::InvalidDelta,
            "source: this server hears of too many sources of the model already",
        )),
    })
}

fn watched(model: &Served) -> Result<Arc<Watched>, Problem> {
    model.watched.clone().ok_or_else(unwatched)
}

fn unwatched() -> Problem {
    Problem::new(Kind::NoCollector, "this server was started without monitoring")
}

/// Reads the query of `/drift`.
fn question(query: &str, default: Duration) -> Result<Question, Problem> {
    let wrong = |what: String| Problem::new(Kind::InvalidQuery, what);
    let mut names = query.split('&').map(|pair| pair.split('=').next().unwrap_or(pair));
    if let Some(name) = names.find(|name| !matches!(*name, "" | "window" | "source")) {
        let name = &name[..name.floor_char_boundary(64)];
        return Err(wrong(format!(
            "unknown query parameter {name:?}; there are window and source"
        )));
    }
    let window = match query_value(query, "window") {
        None => default,
        Some(text) => {
            let text = &text[..text.floor_char_boundary(64)];
            span::parse(text).map_err(|what| wrong(format!("query parameter \"window\": {what}")))?
        }
    };
    if !(WINDOW_MIN..=WINDOW_MAX).contains(&window) {
        return Err(wrong(format!(
            "query parameter \"window\": expected a duration from {} to {} but got {}",
            duration_text(WINDOW_MIN),
            duration_text(WINDOW_MAX),
            duration_text(window)
        )));
    }
    let source = query_value(query, "source").map(str::to_owned);
    if let Some(source) = &source
        && source != delta::SOURCE_HOST
        && !delta::valid_source(source)
    {
        let source = &source[..source.floor_char_boundary(64)];
        return Err(wrong(format!(
            "query parameter \"source\": expected host, spin, wasmtime, browser or another collector's name but got {source:?}"
        )));
    }
    Ok(Question { window, source })
}

/// The answer to one label.
fn one(entry: &Entry, outcomes: &[Outcome], id: &RequestId) -> Answer {
    let refuse = |kind, what: String| Answer::problem(Problem::new(kind, what), id);
    match outcomes.first() {
        Some(Outcome::UnknownId) => refuse(
            Kind::UnknownPrediction,
            format!(
                "no prediction {:?} is kept; it may be too old, or of another model",
                &entry.id[..entry.id.floor_char_boundary(256)]
            ),
        ),
        Some(Outcome::UnknownRow) => refuse(
            Kind::InvalidLabel,
            format!(
                "row {}: the prediction has no such row, or the row was rejected",
                entry.row()
            ),
        ),
        Some(Outcome::InvalidLabel { detail }) => refuse(Kind::InvalidLabel, detail.clone()),
        Some(outcome) => json(
            match outcome {
                Outcome::Pending => StatusCode::ACCEPTED,
                _ => StatusCode::OK,
            },
            &Labelled {
                entry: entry.into(),
                outcome,
            },
        ),
        None => refuse(Kind::Internal, "the label has no outcome".into()),
    }
}

#[derive(Serialize)]
struct Labelled<'a> {
    #[serde(flatten)]
    entry: Named<'a>,
    #[serde(flatten)]
    outcome: &'a Outcome,
}

/// What names a label in an answer.
#[derive(Serialize)]
struct Named<'a> {
    id: &'a str,
    #[serde(skip_serializing_if = "is_first")]
    row: u32,
}

fn is_first(row: &u32) -> bool {
    *row == 0
}

impl<'a> From<&'a Entry> for Named<'a> {
    fn from(entry: &'a Entry) -> Named<'a> {
        Named {
            id: &entry.id,
            row: entry.row(),
        }
    }
}

/// The answer to several: how many were counted, and what became of each.
fn many(entries: &[Entry], outcomes: &[Outcome]) -> Answer {
    #[derive(Serialize)]
    struct Many<'a> {
        counted: usize,
        duplicate: usize,
        corrected: usize,
        pending: usize,
        unknown: usize,
        invalid: usize,
        results: Vec<Labelled<'a>>,
    }
    let of = |is: fn(&Outcome) -> bool| outcomes.iter().filter(|outcome| is(outcome)).count();
    let answer = Many {
        counted: of(|o| *o == Outcome::Counted),
        duplicate: of(|o| *o == Outcome::Duplicate),
        corrected: of(|o| *o == Outcome::Corrected),
        pending: of(|o| *o == Outcome::Pending),
        unknown: of(|o| matches!(o, Outcome::UnknownId | Outcome::UnknownRow)),
        invalid: of(|o| matches!(o, Outcome::InvalidLabel { .. })),
        results: entries
            .iter()
            .zip(outcomes)
            .map(|(entry, outcome)| Labelled {
                entry: entry.into(),
                outcome,
            })
            .collect(),
    };
    json(StatusCode::OK, &answer)
}

fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    // Serialising into memory can't fail.
    Answer::new(status, api::JSON, serde_json::to_vec(value).unwrap_or_default())
}

/// Does on a thread that may block what waits for the store.
async fn blocking<R: Send + 'static>(
    work: impl FnOnce() -> Result<R, StoreError> + Send + 'static,
) -> Result<R, Problem> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(result)) => Ok(result),
        Ok(Err(error)) => {
            tracing::error!("the store failed: {error}");
            Err(Problem::new(
                Kind::StoreUnavailable,
                "what the monitor keeps can't be reached; the log of the server says why",
            ))
        }
        Err(error) => {
            tracing::error!("the monitor failed: {error}");
            Err(Problem::new(
                Kind::Internal,
                "the monitor failed on this request; the log of the server says why",
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_checked() {
        let hour = Duration::from_secs(3600);
        assert_eq!(question("", hour).unwrap().window, hour);
        let asked = question("window=5m&source=browser", hour).unwrap();
        assert_eq!((asked.window, asked.source.as_deref()), (hour / 12, Some("browser")));
        for (query, detail) in [
            ("windows=5m", "unknown query parameter \\\"windows\\\""),
            ("window=5", "expected a duration such as"),
            ("window=10ms", "from 1s to 366d but got 10ms"),
            ("window=9999d", "from 1s to 366d"),
            ("source=Spin!", "but got \\\"Spin!\\\""),
        ] {
            let problem = question(query, hour).unwrap_err();
            let body = String::from_utf8(problem.body).unwrap();
            assert!(body.contains(detail), "{query}: {body}");
            assert_eq!(problem.kind, Kind::InvalidQuery);
        }
    }
}
