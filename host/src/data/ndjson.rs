//! NDJSON, line by line.

use super::{Cell, Counted, DataError, DataErrorKind, Put};
use crate::output::Progress;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::collections::HashMap;
use std::fmt;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

pub(super) struct NdjsonReader<'a> {
    path: PathBuf,
    lines: BufReader<Counted<'a>>,
    line: Vec<u8>,
    number: u64,
    columns: Columns,
    /// The first line is read ahead, for the columns it names.
    ahead: bool,
}

#[derive(Default)]
struct Columns {
    names: Vec<String>,
    by_name: HashMap<String, usize>,
    /// The last row that had each column, against names given twice.
    given: Vec<u64>,
}

impl<'a> NdjsonReader<'a> {
    pub(super) fn open(path: &Path, progress: &'a dyn Progress) -> Result<NdjsonReader<'a>, DataError> {
        let mut reader = NdjsonReader {
            path: path.to_owned(),
            lines: BufReader::with_capacity(1 << 16, Counted::open(path, progress)?),
            line: Vec::new(),
            number: 0,
            columns: Columns::default(),
            ahead: false,
        };
        if !reader.next_line()? {
            return Err(DataError::new(path, DataErrorKind::Empty));
        }
        reader.parse(&mut |_, _| {})?;
        reader.columns.given.fill(0);
        reader.ahead = true;
        Ok(reader)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn columns(&self) -> &[String] {
        &self.columns.names
    }

    pub(super) fn row(&mut self, put: Put<'_>) -> Result<bool, DataError> {
        if !std::mem::take(&mut self.ahead) && !self.next_line()? {
            return Ok(false);
        }
        self.parse(put)?;
        Ok(true)
    }

    /// Reads the next line that is not blank.
    fn next_line(&mut self) -> Result<bool, DataError> {
        loop {
            self.line.clear();
            let read = self
                .lines
                .read_until(b'\n', &mut self.line)
                .map_err(|e| DataError::new(&self.path, DataErrorKind::Read(e)))?;
            if read == 0 {
                return Ok(false);
            }
            self.number += 1;
            if self.number == 1 && self.line.starts_with("\u{feff}".as_bytes()) {
                self.line.drain(..3);
            }
            if !self.line.iter().all(u8::is_ascii_whitespace) {
                return Ok(true);
            }
        }
    }

    fn parse(&mut self, put: Put<'_>) -> Result<(), DataError> {
        let line = self.number;
        let text =
            std::str::from_utf8(&self.line).map_err(|_| DataError::new(&self.path, DataErrorKind::NotUtf8 { line }))?;
        let mut json = serde_json::Deserializer::from_str(text);
        let object = Object {
            columns: &mut self.columns,
            line,
            put,
        };
        let parsed = object.deserialize(&mut json).and_then(|()| json.end());
        parsed.map_err(|e| {
            // The line is known better here than to the parser of one line.
            let what = e.to_string();
            let what = what.split(" at line ").next().unwrap_or_default();
            let what = format!("{what} at column {}", e.column());
            DataError::new(&self.path, DataErrorKind::Json { line, what })
        })
    }
}

/// One line: puts its members.
struct Object<'a, 'p> {
    columns: &'a mut Columns,
    line: u64,
    put: Put<'p>,
}

impl<'de> DeserializeSeed<'de> for Object<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            let columns = &mut *self.columns;
            let index = match columns.by_name.get(&*name) {
                Some(&index) => index,
                None => {
                    columns.names.push(name.clone().into_owned());
                    columns.given.push(0);
                    columns
                        .by_name
                        .insert(name.clone().into_owned(), columns.names.len() - 1);
                    columns.names.len() - 1
                }
            };
            if std::mem::replace(&mut columns.given[index], self.line) == self.line {
                return Err(serde::de::Error::custom(format!("the member {name:?} twice")));
            }
            map.next_value_seed(Member { index, put: self.put })?;
        }
        Ok(())
    }
}

struct Member<'p> {
    index: usize,
    put: Put<'p>,
}

impl<'de> DeserializeSeed<'de> for Member<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Member<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        (self.put)(self.index, Cell::Missing);
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        (self.put)(self.index, Cell::Boolean(value));
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        (self.put)(self.index, Cell::Integer(value.into()));
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        (self.put)(self.index, Cell::Integer(value.into()));
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        (self.put)(self.index, Cell::Number(value));
        Ok(())
    }

    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        (self.put)(self.index, Cell::Text(value));
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        (self.put)(self.index, Cell::Other("array"));
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        (self.put)(self.index, Cell::Other("object"));
        Ok(())
    }
}
