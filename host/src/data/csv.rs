//! CSV, row by row.

use super::{Cell, Counted, DataError, DataErrorKind, Put};
use crate::output::Progress;
use csv::{ErrorKind, Reader, ReaderBuilder, StringRecord};
use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

pub(super) struct CsvReader<'a> {
    path: PathBuf,
    reader: Reader<Quotes<BufReader<Counted<'a>>>>,
    columns: Vec<String>,
    record: StringRecord,
}

impl<'a> CsvReader<'a> {
    pub(super) fn open(path: &Path, progress: &'a dyn Progress) -> Result<CsvReader<'a>, DataError> {
        let fail = |kind| DataError::new(path, kind);
        let mut bytes = BufReader::with_capacity(1 << 16, Counted::open(path, progress)?);
        let start = bytes.fill_buf().map_err(|e| fail(DataErrorKind::Read(e)))?;
        if start.iter().all(u8::is_ascii_whitespace) && start.len() < 1 << 16 {
            return Err(fail(DataErrorKind::Empty));
        }
        // The csv crate takes a byte order mark off by itself.
        let mut reader = ReaderBuilder::new().flexible(true).from_reader(Quotes::new(bytes));
        let header = reader.headers().map_err(|e| convert(path, e, 0))?.clone();
        if let Some(line) = reader.get_ref().wrong {
            return Err(fail(DataErrorKind::OpenQuote { line }));
        }
        if let [only] = header.iter().collect::<Vec<_>>()[..]
            && let Some(got) = only.chars().find(|c| matches!(c, ';' | '\t' | '|'))
        {
            return Err(fail(DataErrorKind::Separator { got }));
        }
        let columns: Vec<String> = header
            .iter()
            .enumerate()
            .map(|(i, name)| match name {
                "" => format!("Unnamed: {i}"),
                name => name.to_owned(),
            })
            .collect();
        let mut seen = HashSet::new();
        if let Some(name) = columns.iter().find(|name| !seen.insert(name.as_str())) {
            return Err(fail(DataErrorKind::Duplicate(name.clone())));
        }
        Ok(CsvReader {
            path: path.to_owned(),
            reader,
            columns,
            record: StringRecord::new(),
        })
    }

    pub(super) fn columns(&self) -> &[String] {
        &self.columns
    }

    pub(super) fn row(&mut self, put: Put<'_>) -> Result<bool, DataError> {
        let line = self.reader.position().line();
        if !self
            .reader
            .read_record(&mut self.record)
            .map_err(|e| convert(&self.path, e, line))?
        {
            self.check_quotes()?;
            return Ok(false);
        }
        self.check_quotes()?;
        // The header is record 0.
        let (row, line) = self.record.position().map_or((0, line), |at| (at.record(), at.line()));
        if self.record.len() != self.columns.len() {
            return Err(DataError::new(
                &self.path,
                DataErrorKind::Ragged {
                    row,
                    line,
                    expected: self.columns.len(),
                    got: self.record.len(),
                },
            ));
        }
        for (index, cell) in self.record.iter().enumerate() {
            match cell {
                "" => put(index, Cell::Missing),
                cell => put(index, Cell::Csv(cell)),
            }
        }
        Ok(true)
    }

    /// Refuses what was read if a quote in it is not closed, for rows would be
    /// missing.
    fn check_quotes(&self) -> Result<(), DataError> {
        match self.reader.get_ref().wrong {
            Some(line) => Err(DataError::new(&self.path, DataErrorKind::OpenQuote { line })),
            None => Ok(()),
        }
    }
}

/// A reader that sees quotes which are not closed where a cell ends. RFC 4180,
/// section 2: a quote opens at the start of a cell, a quote within is two, and
/// behind the one that closes is a comma or the end of the line.
struct Quotes<R> {
    inner: R,
    at: At,
    /// Lines so far.
    lines: u64,
    /// The line on which the last quote was opened.
    opened: u64,
    /// The line of the first quote that is not closed.
    wrong: Option<u64>,
}

#[derive(Clone, Copy, PartialEq)]
enum At {
    /// The start of a cell.
    Start,
    /// In a cell without quotes.
    Plain,
    /// Between quotes.
    Quoted,
    /// Behind a quote that closes, if no other follows.
    Closed,
}

impl<R: Read> Quotes<R> {
    fn new(inner: R) -> Quotes<R> {
        Quotes {
            inner,
            at: At::Start,
            lines: 1,
            opened: 0,
            wrong: None,
        }
    }

    fn see(&mut self, bytes: &[u8]) {
        let begin = bytes
            .strip_prefix("\u{feff}".as_bytes())
            .filter(|_| self.lines == 1 && self.at == At::Start);
        for &byte in begin.unwrap_or(bytes) {
            self.at = match (self.at, byte) {
                (At::Quoted, b'"') => At::Closed,
                (At::Quoted, _) => At::Quoted,
                (At::Start | At::Closed, b'"') => {
                    if self.at == At::Start {
                        self.opened = self.lines;
                    }
                    At::Quoted
                }
                (_, b',' | b'\r' | b'\n') => At::Start,
                (At::Closed, _) => {
                    self.wrong.get_or_insert(self.opened);
                    At::Plain
                }
                _ => At::Plain,
            };
            self.lines += u64::from(byte == b'\n');
        }
        if bytes.is_empty() && self.at == At::Quoted {
            self.wrong.get_or_insert(self.opened);
        }
    }
}

impl<R: Read> Read for Quotes<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.see(&buffer[..read]);
        Ok(read)
    }
}

fn convert(path: &Path, error: csv::Error, line: u64) -> DataError {
    let line = error.position().map_or(line, csv::Position::line);
    let kind = match error.into_kind() {
        ErrorKind::Io(e) => DataErrorKind::Read(e),
        ErrorKind::Utf8 { .. } => DataErrorKind::NotUtf8 { line: line.max(1) },
        other => DataErrorKind::Read(std::io::Error::other(format!("{other:?}"))),
    };
    DataError::new(path, kind)
}
