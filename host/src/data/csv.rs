//! CSV, row by row.

use super::{Cell, Counted, DataError, DataErrorKind, Put};
use crate::output::Progress;
use csv::{ErrorKind, Reader, ReaderBuilder, StringRecord};
use std::collections::HashSet;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

pub(super) struct CsvReader<'a> {
    path: PathBuf,
    reader: Reader<BufReader<Counted<'a>>>,
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
        let mut reader = ReaderBuilder::new().flexible(true).from_reader(bytes);
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
            return Ok(false);
        }
        if self.record.len() != self.columns.len() {
            let position = self.record.position();
            return Err(DataError::new(
                &self.path,
                DataErrorKind::Ragged {
                    // The header is record 0.
                    row: position.map_or(0, csv::Position::record),
                    line: position.map_or(line, csv::Position::line),
                    expected: self.columns.len(),
                    got: self.record.len(),
                    lines: self.record.iter().any(|cell| cell.contains('\n')),
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

fn convert(path: &Path, error: csv::Error, line: u64) -> DataError {
    let line = error.position().map_or(line, csv::Position::line);
    let kind = match error.into_kind() {
        ErrorKind::Io(e) => DataErrorKind::Read(e),
        ErrorKind::Utf8 { .. } => DataErrorKind::NotUtf8 { line: line.max(1) },
        other => DataErrorKind::Read(std::io::Error::other(format!("{other:?}"))),
    };
    DataError::new(path, kind)
}
