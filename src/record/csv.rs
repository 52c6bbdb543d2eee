//! CSV to records: RFC 4180 with a header that names the features, in any
//! order. An empty cell is a missing value, and so is one of
//! [`MISSING_WORDS`](crate::validate::MISSING_WORDS) where the model takes numbers.
//!
//! A record is read cell by cell as long as nothing has to be said of it. Another
//! one is taken apart first: where it lies if it has no quotes, else by the state
//! machine of `csv-core`. All take CR, LF and CRLF for the end of a record and
//! pass empty lines over.

use super::json::short_number;
use super::quotes::{self, OPEN_QUOTE};
use super::{Batch, ReadError, swar};
use crate::validate::{FaultCode, Schema, Subject, Value, quoted};
use csv_core::{ReadRecordResult, Reader};
use std::borrow::Cow;

/// Cells that a record may have.
const CELLS_MAX: usize = 1 << 16;

/// One record after another, in buffers that grow to the longest.
struct Records<'a> {
    reader: Reader,
    body: &'a str,
    rest: &'a str,
    /// What begins with the record, if that has no quotes; else its cells are
    /// in `cells`, one after another.
    unquoted: Option<&'a str>,
    cells: Vec<u8>,
    /// Where each cell ends; without quotes they are a comma apart.
    ends: Vec<usize>,
}

impl<'a> Records<'a> {
    fn new(body: &'a str) -> Self {
        let mut reader = Reader::new();
        // In what it reads first it would pass over a byte order mark.
        reader.read_record(&[], &mut [], &mut []);
        Records {
            reader,
            body,
            rest: body,
            unquoted: None,
            cells: Vec::new(),
            ends: Vec::new(),
        }
    }

    /// Passes empty lines over; tells whether a record follows.
    fn more(&mut self) -> bool {
        self.rest = self.rest.trim_start_matches(['\r', '\n']);
        !self.rest.is_empty()
    }

    /// Takes the cells of the record that follows, from the first one on, as
    /// long as nothing has to be said of them; answers how many. If those are
    /// all that the headings name, and no more, the record is read.
    ///
    /// By itself, so that what the loop needs stays in registers.
    #[inline(never)]
    fn plain_cells(&mut self, headings: &[Heading], schema: &Schema, batch: &mut Batch) -> usize {
        let bytes = self.rest.as_bytes();
        let mut at = 0;
        for (i, heading) in headings.iter().enumerate() {
            let &Heading::Feature(index) = heading else {
                return i;
            };
            let is_last = i + 1 == headings.len();
            let ends_cell = |end: usize| match bytes.get(end) {
                Some(b',') => !is_last,
                None | Some(b'\r' | b'\n') => is_last,
                Some(_) => false,
            };
            let (taken, end) = match short_number(bytes, at) {
                Some((number, end)) if ends_cell(end) => (batch.put_plain(schema, index, number), end),
                _ => {
                    let end = cell_end(bytes, at);
                    let cell = &self.rest[at..end];
                    (ends_cell(end) && batch.put_plain_cell(schema, index, cell), end)
                }
            };
            if !taken {
                return i;
            }
            at = end + usize::from(!is_last);
        }
        self.rest = &self.rest[at..];
        headings.len()
    }

    /// Takes the record that follows apart; answers its number of cells.
    fn record(&mut self) -> Result<usize, ReadError> {
        self.ends.clear();
        let bytes = self.rest.as_bytes();
        let mut at = 0;
        loop {
            at = cell_end(bytes, at);
            let end = bytes.get(at);
            if end == Some(&b'"') {
                return self.quoted_record();
            }
            if self.ends.len() == CELLS_MAX {
                return Err(too_many_cells());
            }
            self.ends.push(at);
            if end != Some(&b',') {
                break;
            }
            at += 1;
        }
        (self.unquoted, self.rest) = (Some(self.rest), &self.rest[at..]);
        Ok(self.ends.len())
    }

    fn quoted_record(&mut self) -> Result<usize, ReadError> {
        self.unquoted = None;
        self.cells.resize(self.cells.capacity().max(4096), 0);
        // Not to all that it may hold: that would be written for each record.
        self.ends.clear();
        self.ends.resize(64, 0);
        let (mut read, mut written, mut ended) = (0, 0, 0);
        loop {
            let (result, more, wrote, new_ends) = self.reader.read_record(
                &self.rest.as_bytes()[read..],
                &mut self.cells[written..],
                &mut self.ends[ended..],
            );
            read += more;
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
                        return Err(too_many_cells());
                    }
                    let len = self.ends.len() * 2;
                    self.ends.resize(len, 0);
                }
                // A record ends at a byte that is a character.
                ReadRecordResult::Record | ReadRecordResult::End => {
                    let (record, rest) = self.rest.split_at(read);
                    self.check_quotes(record)?;
                    self.rest = rest;
                    return Ok(ended);
                }
            }
        }
    }

    /// Refuses a record in which a quote is not closed: it may have swallowed
    /// others.
    fn check_quotes(&self, record: &str) -> Result<(), ReadError> {
        let Some(line) = quotes::wrong(record) else {
            return Ok(());
        };
        let before = &self.body.as_bytes()[..self.body.len() - self.rest.len()];
        let line = line + before.iter().filter(|byte| **byte == b'\n').count() as u64;
        Err(ReadError::Syntax(format!("line {line}: {OPEN_QUOTE}")))
    }

    #[inline]
    fn cell(&self, index: usize) -> Cow<'_, str> {
        let before = index.checked_sub(1).map(|before| self.ends[before]);
        match self.unquoted {
            Some(record) => Cow::Borrowed(&record[before.map_or(0, |end| end + 1)..self.ends[index]]),
            None => String::from_utf8_lossy(&self.cells[before.unwrap_or(0)..self.ends[index]]),
        }
    }

    /// The cell's number, if that is [short](short_number) and all that is in
    /// the cell.
    #[inline]
    fn number(&self, index: usize) -> Option<f64> {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before] + 1);
        let (number, end) = short_number(self.unquoted?.as_bytes(), start)?;
        (end == self.ends[index]).then_some(number)
    }
}

fn too_many_cells() -> ReadError {
    ReadError::Syntax(format!("a record has more than {CELLS_MAX} cells"))
}

/// Where the plain part of a cell ends: at a comma, a quote, the end of the
/// record, or of the bytes.
#[inline]
fn cell_end(bytes: &[u8], start: usize) -> usize {
    swar::find(
        bytes,
        start,
        // What is up to a comma is one of these or rare: a space, `!` to `+`, or
        // a control character.
        |word| swar::below(word, b',' + 1),
        |byte| matches!(byte, b',' | b'"' | b'\r' | b'\n'),
    )
}

/// What a column of the file is.
enum Heading {
    Feature(usize),
    Ignored,
    Unknown(String),
}

/// Reads a CSV body into the batch.
pub(crate) fn read(body: &[u8], schema: &Schema, batch: &mut Batch, rows_max: usize) -> Result<(), ReadError> {
    let body = std::str::from_utf8(body).map_err(|e| {
        let at = e.valid_up_to();
        ReadError::Syntax(format!("the body is not UTF-8: byte {at} is wrong"))
    })?;
    let body = body.strip_prefix('\u{feff}').unwrap_or(body);
    let mut records = Records::new(body);
    if !records.more() {
        return Err(ReadError::Syntax(
            "the header with the features' names is missing".into(),
        ));
    }
    let columns = records.record()?;
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
    while records.more() {
        if batch.len() == rows_max {
            return Err(ReadError::TooManyRows);
        }
        batch.begin(schema);
        let taken = records.plain_cells(&headings, schema, batch);
        if taken == columns {
            batch.end(schema);
            continue;
        }
        let cells = records.record()?;
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
        for (i, heading) in headings.iter().enumerate().skip(taken) {
            match heading {
                Heading::Feature(index) => {
                    let number = records.number(i);
                    if !number.is_some_and(|number| batch.put_plain(schema, *index, number)) {
                        batch.put_at(schema, *index, Value::Cell(records.cell(i)));
                    }
                }
                Heading::Ignored => {}
                Heading::Unknown(name) => batch.put(schema, name, Value::Null),
            }
        }
        batch.end(schema);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{self, Random, VALUES};
    use super::*;

    /// The records by `csv-core` alone.
    fn expected(text: &str) -> Vec<Vec<String>> {
        let (mut reader, mut rest) = (Reader::new(), text.as_bytes());
        let (mut cells, mut ends) = (vec![0; 1 << 12], vec![0; 1 << 8]);
        let mut records = Vec::new();
        let (mut written, mut ended) = (0, 0);
        loop {
            let (result, read, wrote, new) = reader.read_record(rest, &mut cells[written..], &mut ends[ended..]);
            rest = &rest[read..];
            (written, ended) = (written + wrote, ended + new);
            match result {
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::Record => {
                    let starts = [0].into_iter().chain(ends.iter().copied());
                    let cells = starts.zip(&ends[..ended]).map(|(start, &end)| &cells[start..end]);
                    records.push(cells.map(|cell| String::from_utf8(cell.to_vec()).unwrap()).collect());
                    (written, ended) = (0, 0);
                }
                ReadRecordResult::End => return records,
                full => panic!("{full:?}"),
            }
        }
    }

    fn found(text: &str) -> Result<Vec<Vec<String>>, ReadError> {
        let mut records = Records::new(text);
        let mut found = Vec::new();
        while records.more() {
            let cells = records.record()?;
            found.push((0..cells).map(|index| records.cell(index).into_owned()).collect());
        }
        Ok(found)
    }

    /// The line of the quote that is told not to be closed.
    fn wrong(text: &str) -> Option<u64> {
        match found(text) {
            Ok(_) => None,
            Err(ReadError::Syntax(what)) => {
                let line = what.strip_prefix("line ").and_then(|rest| rest.split_once(':'));
                Some(line.unwrap().0.parse().unwrap())
            }
            Err(other) => panic!("{other:?}"),
        }
    }

    #[test]
    fn plain_and_quoted_records_are_those_of_the_state_machine() {
        let pieces = [
            "a",
            "12.5",
            ",",
            ",",
            "\n",
            "\r\n",
            "\r",
            "\"",
            "\"\"",
            " ",
            "\t",
            "\u{e9}",
            "\u{1f600}",
            "long enough a text",
            "!",
            "+",
        ];
        let mut random = Random(1);
        for _ in 0..20_000 {
            let text: String = (0..random.below(24))
                .map(|_| pieces[random.below(pieces.len())])
                .collect();
            match quotes::wrong(&text) {
                Some(line) => assert_eq!(wrong(&text), Some(line), "{text:?}"),
                None => assert_eq!(found(&text).unwrap(), expected(&text), "{text:?}"),
            }
        }
    }

    #[test]
    fn a_cell_longer_than_the_buffers_is_whole() {
        let long = "x\u{e9}".repeat(10_000);
        let text = format!("a,\"{long}\"\r\n{long},b");
        assert_eq!(found(&text).unwrap(), [["a", &long], [&long, "b"]]);
    }

    #[test]
    fn a_byte_order_mark_inside_is_text() {
        let text = "a\n\u{feff}\"b\",c\n\u{feff}d\n";
        assert_eq!(
            found(text).unwrap(),
            [vec!["a"], vec!["\u{feff}\"b\"", "c"], vec!["\u{feff}d"]]
        );
    }

    #[test]
    fn a_quote_that_is_not_closed_loses_no_record() {
        assert_eq!(wrong("a,b\n1,2\n\"3,4\n5,6\n"), Some(3));
        assert_eq!(wrong("a,b\n\"1\n\",2\n3,\"4\"x\n5,6\n"), Some(4));
        assert_eq!(wrong("a,b\n1,5\" pipe\n"), None);
    }

    #[test]
    fn cells_have_a_limit() {
        for quote in ["", "\"\""] {
            let record = format!("{quote}{}", ",".repeat(CELLS_MAX));
            assert!(Records::new(&record).record().is_err());
            assert_eq!(
                Records::new(&record[..quote.len() + CELLS_MAX - 1]).record(),
                Ok(CELLS_MAX)
            );
        }
    }

    #[test]
    fn cells_that_are_taken_at_once_are_as_others() {
        let headers: [&[&str]; 4] = [
            &["a", "an integer", "a category", "bounded", "yes"],
            &["a category", "yes", "bounded", "an integer", "a"],
            &["a", "a category", "bounded"],
            &["a", "an integer", "colour", "a category", "bounded", "yes"],
        ];
        let mut random = Random(7);
        let mut good = 0;
        for _ in 0..6000 {
            let header = headers[[0, 0, 0, 1, 1, 2, 3][random.below(7)]];
            let mut plain = format!("{}\n", header.join(","));
            let mut quoted = plain.clone();
            for _ in 0..2 {
                let cells = match random.below(12) {
                    0 => header.len() - 1,
                    1 => header.len() + 1,
                    _ => header.len(),
                };
                for i in 0..cells {
                    // Mostly what the feature takes.
                    let choices: &[usize] = match (header.get(i), random.below(8)) {
                        (_, 0) => &[random.below(VALUES.len())],
                        (Some(&"a category"), _) => &[17, 18, 19, 20],
                        (Some(&"an integer"), _) => &[0, 1, 22],
                        (Some(&"yes"), _) => &[0, 22, 23],
                        _ => &[0, 1, 4, 8],
                    };
                    let value = VALUES[choices[random.below(choices.len())]];
                    let comma = if i > 0 { "," } else { "" };
                    plain.push_str(&format!("{comma}{value}"));
                    // With its first cell in quotes a record takes the other way.
                    let quote = if i == 0 { "\"" } else { "" };
                    quoted.push_str(&format!("{comma}{quote}{value}{quote}"));
                }
                let end = ["\n", "\r\n", "\r", "\n\n"][random.below(4)];
                (plain, quoted) = (plain + end, quoted + end);
            }
            if random.below(2) == 0 {
                plain.truncate(plain.trim_end().len());
                quoted.truncate(quoted.trim_end().len());
            }
            let rows_max = [9, 9, 9, 1][random.below(4)];
            let result = |text: &str| testing::read(|schema, batch| read(text.as_bytes(), schema, batch, rows_max));
            let found = result(&plain);
            good += usize::from(!found.contains("Bad") && !found.contains("Err"));
            assert_eq!(found, result(&quoted), "{plain}");
        }
        assert!(good > 300, "{good}");
    }

    #[test]
    fn rows_beyond_the_most_are_not_looked_at() {
        let result = |rows_max| testing::read(|schema, batch| read(b"a\n1\n\"2\n", schema, batch, rows_max));
        assert!(result(1).starts_with("Err(TooManyRows)"), "{}", result(1));
        assert!(result(2).contains("line 3: "), "{}", result(2));
    }
}
