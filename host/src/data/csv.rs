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
    /// The row and line of the record, if a cell goes over several lines.
    over_lines: Option<(u64, u64)>,
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
        let mut reader = ReaderBuilder::new()
            .flexible(true)
            .from_reader(Quotes { inner: bytes, count: 0 });
        let header = reader.headers().map_err(|e| convert(path, e, 0))?;
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
            over_lines: None,
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
            return self.end();
        }
        // The header is record 0.
        let (row, line) = self.record.position().map_or((0, line), |at| (at.record(), at.line()));
        self.over_lines = self.record.as_slice().contains('\n').then_some((row, line));
        if self.record.len() != self.columns.len() {
            return Err(DataError::new(
                &self.path,
                DataErrorKind::Ragged {
                    row,
                    line,
                    expected: self.columns.len(),
                    got: self.record.len(),
                    lines: self.over_lines.is_some(),
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

    /// At the end: whether the last record is what it seems. Within quotes a
    /// quote is two, so that a file in which all are closed has an even number.
    fn end(&self) -> Result<bool, DataError> {
        match self.over_lines {
            Some((row, line)) if self.reader.get_ref().count % 2 == 1 => {
                Err(DataError::new(&self.path, DataErrorKind::OpenQuote { row, line }))
            }
            _ => Ok(false),
        }
    }
}

/// A reader that counts quotes.
struct Quotes<R> {
    inner: R,
    count: usize,
}

impl<R: Read> Read for Quotes<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.count += buffer[..read].iter().filter(|&&byte| byte == b'"').count();
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
