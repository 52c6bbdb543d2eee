//! Why a table can't be read or written.

use ::parquet::errors::ParquetError;
use modelet::record::quotes::OPEN_QUOTE;
use std::fmt;
use std::path::{Path, PathBuf};

/// Why a table can't be read or written, with the file's name.
#[derive(Debug)]
pub struct DataError {
    path: PathBuf,
    kind: DataErrorKind,
}

/// What is wrong. Rows count from 1, the header aside.
#[derive(Debug)]
#[non_exhaustive]
pub enum DataErrorKind {
    /// The file can't be opened.
    Open(std::io::Error),
    /// The bytes can't be read.
    Read(std::io::Error),
    /// The file can't be written.
    Write(std::io::Error),
    /// The extension, this one, names no known format.
    Extension(String),
    /// The file has no bytes, or white space only.
    Empty,
    /// There is a header and nothing else.
    NoRows,
    /// The columns are not separated by commas.
    Separator {
        /// What seems to separate them.
        got: char,
    },
    /// Two columns share this name.
    Duplicate(String),
    /// A row has more or fewer cells than the header.
    Ragged {
        /// The row.
        row: u64,
        /// The line on which it starts.
        line: u64,
        /// Cells of the header.
        expected: usize,
        /// Cells of the row.
        got: usize,
    },
    /// A quote is opened that is not closed where a cell ends.
    OpenQuote {
        /// The line on which it is.
        line: u64,
    },
    /// The file is not UTF-8 from this line on.
    NotUtf8 {
        /// The line.
        line: u64,
    },
    /// A line is no JSON object.
    Json {
        /// The line.
        line: u64,
        /// What is wrong with it.
        what: String,
    },
    /// A value of another type than those before it in the column.
    Mixed {
        /// The row.
        row: u64,
        /// The column.
        column: String,
        /// What the column has so far.
        expected: &'static str,
        /// What came.
        got: String,
    },
    /// A value that rows can't be told apart by.
    Id {
        /// The row.
        row: u64,
        /// The column.
        column: String,
        /// What came.
        got: String,
    },
    /// The file does not begin and end as Parquet does.
    NotParquet,
    /// The Parquet file is damaged, or uses what is not supported.
    Parquet(ParquetError),
    /// A value of a column can't be converted.
    Convert {
        /// The column.
        column: String,
        /// Its type in the file.
        dtype: String,
        /// What is wrong.
        what: String,
    },
}

impl DataError {
    pub(crate) fn new(path: &Path, kind: DataErrorKind) -> DataError {
        DataError {
            path: path.to_owned(),
            kind,
        }
    }

    /// What is wrong.
    pub fn kind(&self) -> &DataErrorKind {
        &self.kind
    }

    /// Whether it was written to a reader who has read enough.
    pub fn is_broken_pipe(&self) -> bool {
        let io = match &self.kind {
            DataErrorKind::Write(e) => Some(e),
            DataErrorKind::Parquet(ParquetError::External(e)) => e.downcast_ref(),
            _ => None,
        };
        io.is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
    }
}

impl fmt::Display for DataError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match super::is_standard(&self.path) {
            true if matches!(self.kind, DataErrorKind::Write(_)) => f.write_str("standard output")?,
            true => f.write_str("standard input")?,
            false => write!(f, "{}", self.path.display())?,
        }
        f.write_str(": ")?;
        match &self.kind {
            DataErrorKind::Open(e) => write!(f, "can't be opened: {e}"),
            DataErrorKind::Read(e) => write!(f, "can't be read: {e}"),
            DataErrorKind::Write(e) => write!(f, "can't be written: {e}"),
            DataErrorKind::Extension(got) => {
                f.write_str("expected a file ending in .csv, .parquet, .ndjson or .jsonl but got ")?;
                match got.as_str() {
                    "" => f.write_str("no extension"),
                    got => write!(f, ".{got}"),
                }
            }
            DataErrorKind::Empty => f.write_str("the file is empty"),
            DataErrorKind::NoRows => f.write_str("there is no row of data"),
            DataErrorKind::Separator { got } => {
                write!(
                    f,
                    "the header has one column, and {got:?} in its name: expected columns separated by commas"
                )
            }
            DataErrorKind::Duplicate(name) => write!(f, "the header names the column {} twice", shortened(name)),
            DataErrorKind::Ragged {
                row,
                line,
                expected,
                got,
            } => write!(
                f,
                "row {row} (line {line}): expected {expected} cells, as the header has, but got {got}"
            ),
            DataErrorKind::OpenQuote { line } => write!(f, "line {line}: {OPEN_QUOTE}"),
            DataErrorKind::NotUtf8 { line } => {
                write!(
                    f,
                    "line {line}: expected UTF-8 but got other bytes; save the file as UTF-8"
                )
            }
            DataErrorKind::Json { line, what } => write!(f, "line {line}: expected a JSON object but got {what}"),
            DataErrorKind::Mixed {
                row,
                column,
                expected,
                got,
            } => write!(
                f,
                "row {row}, column {}: expected {expected}, as in the rows before, but got {got}",
                shortened(column)
            ),
            DataErrorKind::Id { row, column, got } => write!(
                f,
                "row {row}, column {}: expected an id, text or an integer, but got {got}; name another column by --id",
                shortened(column)
            ),
            DataErrorKind::NotParquet => f.write_str("expected a Parquet file but its magic number is missing"),
            DataErrorKind::Parquet(e) => write!(f, "can't be read as Parquet: {e}"),
            DataErrorKind::Convert { column, dtype, what } => {
                write!(f, "column {} of type {dtype}: {what}", shortened(column))
            }
        }
    }
}

impl std::error::Error for DataError {}

/// A text in quotes, shortened to what a person wants to read.
pub(crate) fn shortened(text: &str) -> String {
    const SHOWN_MAX: usize = 60;
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}
