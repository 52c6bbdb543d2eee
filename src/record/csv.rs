//! CSV to records: RFC 4180 with a header that names the features, in any
//! order. An empty cell is a missing value.

use super::{Batch, ReadError};
use crate::validate::{FaultCode, Schema, Subject, Value, quoted};
use csv_core::{ReadRecordResult, Reader};
use std::borrow::Cow;

/// Cells that a record may have.
const CELLS_MAX: usize = 1 << 16;

/// One record after another, in buffers that grow to the longest.
struct Records<'a> {
    reader: Reader,
    rest: &'a [u8],
    cells: Vec<u8>,
    ends: Vec<usize>,
}

impl<'a> Records<'a> {
    fn new(body: &'a [u8]) -> Self {
        Records {
            reader: Reader::new(),
            rest: body,
            cells: vec![0; 4096],
            ends: vec![0; 64],
        }
    }

    /// Reads a record; answers its number of cells.
    fn next(&mut self) -> Result<Option<usize>, ReadError> {
        let (mut written, mut ended) = (0, 0);
        loop {
            let (result, read, wrote, new_ends) =
                self.reader
                    .read_record(self.rest, &mut self.cells[written..], &mut self.ends[ended..]);
            self.rest = &self.rest[read..];
            written += wrote;
            ended += new_ends;
            match result {
                // Empty input is how the reader is told of the end.
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull => {
                    let len = self.cells.len() * 2;
                    self.cells.resize(len, 0);
                }
                ReadRecordResult::OutputEndsFull => {
                    if self.ends.len() >= CELLS_MAX {
                        return Err(ReadError::Syntax(format!("a record has more than {CELLS_MAX} cells")));
                    }
                    let len = self.ends.len() * 2;
                    self.ends.resize(len, 0);
                }
                ReadRecordResult::Record => return Ok(Some(ended)),
                ReadRecordResult::End => return Ok(None),
            }
        }
    }

    fn cell(&self, index: usize) -> Cow<'_, str> {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        String::from_utf8_lossy(&self.cells[start..self.ends[index]])
    }
}

/// What a column of the file is.
enum Heading {
    Feature(usize),
    Ignored,
    Unknown(String),
}

/// Reads a CSV body into the batch.
pub(crate) fn read(body: &[u8], schema: &Schema, batch: &mut Batch, rows_max: usize) -> Result<(), ReadError> {
    if let Err(e) = std::str::from_utf8(body) {
        return Err(ReadError::Syntax(format!(
            "the body is not UTF-8: byte {} is wrong",
            e.valid_up_to()
        )));
    }
    let body = body.strip_prefix("\u{feff}".as_bytes()).unwrap_or(body);
    let mut records = Records::new(body);
    let Some(columns) = records.next()? else {
        return Err(ReadError::Syntax(
            "the header with the features' names is missing".into(),
        ));
    };
    let mut headings = Vec::with_capacity(columns);
    let mut given = vec![false; schema.len()];
    for i in 0..columns {
        let name = records.cell(i);
        headings.push(match schema.find(&name, i) {
            Some(index) if std::mem::replace(&mut given[index], true) => {
                return Err(ReadError::Syntax(format!("the header names {} twice", quoted(&name))));
            }
            Some(index) => Heading::Feature(index),
            None if schema.unknown == crate::signature::Unknown::Ignore => Heading::Ignored,
            None => Heading::Unknown(name.into_owned()),
        });
    }
    while let Some(cells) = records.next()? {
        if batch.len() == rows_max {
            return Err(ReadError::TooManyRows);
        }
        batch.begin(schema);
        if cells != columns {
            batch.fault(
                Subject::Request,
                FaultCode::Syntax,
                format!("the record has {cells} cells where the header has {columns}"),
                None,
            );
            batch.close(schema);
            continue;
        }
        for (i, heading) in headings.iter().enumerate() {
            match heading {
                Heading::Feature(index) => batch.put_at(schema, *index, Value::Cell(records.cell(i))),
                Heading::Ignored => {}
                Heading::Unknown(name) => batch.put(schema, name, Value::Null),
            }
        }
        batch.end(schema);
    }
    Ok(())
}
