//! How a batch is read and answered.

use super::{Kind, Problem, query_value};

/// How the rows of a batch are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `{"instances": [{...}, ...]}`
    Json,
    /// One JSON object a line.
    Ndjson,
    /// A header with the features' names, then one record a line.
    Csv,
}

/// What becomes of a batch with a bad row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnError {
    /// The bad row is answered with its faults.
    Report,
    /// The batch is refused.
    Fail,
}

/// How a batch is read and answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchOptions {
    /// How the rows are written.
    pub format: Format,
    /// What becomes of bad rows.
    pub on_error: OnError,
    /// Write every output of the model.
    pub full: bool,
    /// The largest number of rows accepted.
    pub rows_max: u32,
}

/// The media type of a `content-type` header, without parameters.
fn media_type(header: &str) -> &str {
    header.split(';').next().unwrap_or("").trim()
}

impl Format {
    /// The format that a `content-type` header names; JSON where there is none.
    ///
    /// # Errors
    /// A problem with status 415 for any other type.
    pub fn from_content_type(header: Option<&str>) -> Result<Format, Problem> {
        let Some(header) = header else {
            return Ok(Format::Json);
        };
        let media = media_type(header);
        let is = |names: &[&str]| names.iter().any(|name| media.eq_ignore_ascii_case(name));
        if is(&["application/json", "text/json", ""]) {
            Ok(Format::Json)
        } else if is(&[
            "application/x-ndjson",
            "application/ndjson",
            "application/jsonl",
            "application/x-jsonlines",
        ]) {
            Ok(Format::Ndjson)
        } else if is(&["text/csv", "application/csv"]) {
            Ok(Format::Csv)
        } else {
            // What curl sends unless it is told otherwise.
            let hint = match is(&["application/x-www-form-urlencoded"]) {
                true => "; with curl add -H 'content-type: application/json'",
                false => "",
            };
            Err(Problem::new(
                Kind::UnsupportedMediaType,
                format!(
                    "content-type {media:?} is not accepted; accepted are application/json, application/x-ndjson and text/csv (the latter two for /predict/batch){hint}"
                ),
            ))
        }
    }

    /// Checks the `content-type` header of a single record, which is JSON.
    ///
    /// # Errors
    /// A problem with status 415 for any other type, those of batches included.
    pub fn check_single(header: Option<&str>) -> Result<(), Problem> {
        match Format::from_content_type(header)? {
            Format::Json => Ok(()),
            Format::Ndjson | Format::Csv => Err(Problem::new(
                Kind::UnsupportedMediaType,
                "/predict takes application/json; rows as NDJSON or CSV go to /predict/batch",
            )),
        }
    }
}

impl BatchOptions {
    /// The options that a request's query and `content-type` give:
    /// `on_error=report|fail`, `outputs=short|full`.
    ///
    /// # Errors
    /// A problem for an unknown value or media type.
    pub fn from_request(query: &str, content_type: Option<&str>, rows_max: u32) -> Result<BatchOptions, Problem> {
        let wrong = |name: &str, got: &str, accepted: &str| {
            Problem::new(
                Kind::InvalidQuery,
                format!("query parameter {name:?}: expected {accepted} but got {got:?}"),
            )
        };
        let mut names = query.split('&').map(|pair| pair.split('=').next().unwrap_or(pair));
        if let Some(name) = names.find(|name| !matches!(*name, "" | "on_error" | "outputs")) {
            let name = &name[..name.floor_char_boundary(64)];
            return Err(Problem::new(
                Kind::InvalidQuery,
                format!("unknown query parameter {name:?}; there are on_error and outputs"),
            ));
        }
        Ok(BatchOptions {
            format: Format::from_content_type(content_type)?,
            on_error: match query_value(query, "on_error") {
                None | Some("report") => OnError::Report,
                Some("fail") => OnError::Fail,
                Some(other) => return Err(wrong("on_error", other, "report or fail")),
            },
            full: match query_value(query, "outputs") {
                None | Some("short") => false,
                Some("full") => true,
                Some(other) => return Err(wrong("outputs", other, "short or full")),
            },
            rows_max,
        })
    }
}
