//! CSV, row by row.

use super::{Cell, Counted, DataError, DataErrorKind, Put};
use crate::output::Progress;
use csv::{ErrorKind, Reader, ReaderBuilder, StringRecord};
use modelet::record::quotes::Quotes;
use std::collections::HashSet;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

pub(super) struct CsvReader<'a> {
    path: PathBuf,
    reader: Reader<Seen<BufReader<Counted<'a>>>>,
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
        let mut reader = ReaderBuilder::new().flexible(true).from_reader(Seen::new(bytes));
        let header = reader.headers().map_err(|e| convert(path, e, 0)).cloned()?;
        check_quotes(path, &reader)?;
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

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn columns(&self) -> &[String] {
        &self.columns
    }

    pub(super) fn row(&mut self, put: Put<'_>) -> Result<bool, DataError> {
        let line = self.reader.position().line();
        let more = self.reader.read_record(&mut self.record);
        check_quotes(&self.path, &self.reader)?;
        if !more.map_err(|e| convert(&self.path, e, line))? {
            return Ok(false);
        }
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
}

/// Refuses what was read if a quote in it is not closed, for rows would be
/// missing.
fn check_quotes<R: Read>(path: &Path, reader: &Reader<Seen<R>>) -> Result<(), DataError> {
    match reader.get_ref().quotes.wrong() {
        Some(line) => Err(DataError::new(path, DataErrorKind::OpenQuote { line })),
        None => Ok(()),
    }
}

/// A reader that follows the quotes in what is read.
struct Seen<R> {
    inner: R,
    quotes: Quotes,
    begun: bool,
}

impl<R> Seen<R> {
    fn new(inner: R) -> Seen<R> {
        Seen {
            inner,
            quotes: Quotes::default(),
            begun: false,
        }
    }
}

impl<R: Read> Read for Seen<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        let bytes = &buffer[..read];
        let mark = match std::mem::replace(&mut self.begun, true) {
            false => bytes.strip_prefix("\u{feff}".as_bytes()),
            true => None,
        };
        self.quotes.see(mark.unwrap_or(bytes));
        if read == 0 {
            self.quotes.end();
        }
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
