//! Rows of a file as the bodies of batches.
//!
//! The cells of a CSV file go on as CSV, because there a cell's type is that
//! of the feature; typed values go on as NDJSON, with their types.

use crate::data::{Cell, DataError, DataErrorKind, Format, Reader};
use crate::runtime::{Loaded, Reply};
use anyhow::{Context, anyhow, bail};
use modelet::api::{self, BatchOptions, OnError, json};
use modelet::signature::{Feature, FeatureType, Manifest};
use modelet::tensor::Dtype;
use std::collections::HashMap;

/// A value that outlives the row that it comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Missing,
    Boolean(bool),
    Integer(i128),
    Number(f64),
    Text(String),
    Csv(String),
}

impl Value {
    pub fn cell(&self) -> Cell<'_> {
        match self {
            Value::Missing => Cell::Missing,
            Value::Boolean(value) => Cell::Boolean(*value),
            Value::Integer(value) => Cell::Integer(*value),
            Value::Number(value) => Cell::Number(*value),
            Value::Text(text) => Cell::Text(text),
            Value::Csv(text) => Cell::Csv(text),
        }
    }
}

impl From<Cell<'_>> for Value {
    fn from(cell: Cell<'_>) -> Value {
        match cell {
            Cell::Missing => Value::Missing,
            Cell::Boolean(value) => Value::Boolean(value),
            Cell::Integer(value) => Value::Integer(value),
            Cell::Number(value) => Value::Number(value),
            Cell::Csv(text) => Value::Csv(text.into()),
            Cell::Text(_) | Cell::Other(_) => Value::Text(cell.to_string()),
        }
    }
}

/// Rows in one call of the component.
const ROWS_AT_ONCE: usize = 2048;
/// Bytes in one call of the component, from which on it gets no further row.
const BODY_BYTES: usize = 8 << 20;
/// A call is as long as the model takes; nobody waits at the other end.
pub const DEADLINE_MS: u64 = 600_000;

/// Rows for one call.
#[derive(Debug)]
pub struct Chunk {
    /// The number of the first row, from 1.
    pub first: u64,
    pub rows: usize,
    pub format: api::Format,
    pub body: Vec<u8>,
    /// One a row, the id or the label, where such a column is carried along.
    pub carried: Vec<Value>,
    /// Cells of the row being written.
    open: usize,
}

/// A column that is kept beside the answers.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Carried {
    column: usize,
    /// Whether rows are told apart by it, so that no digit may be lost.
    id: bool,
}

/// What the columns of the file are to the model.
pub struct Columns<'a> {
    manifest: &'a Manifest,
    by_name: HashMap<&'a str, usize>,
    format: Format,
    /// The feature that each column known so far feeds.
    features: Vec<Option<usize>>,
    carried: Option<Carried>,
    /// What is wrong with the id of the row being read.
    bad_id: Option<String>,
    /// Cells of columns that the row being read is the first to have.
    unknown: Vec<(usize, Value)>,
}

impl<'a> Columns<'a> {
    /// Looks at the columns of a file. Those of NDJSON are the first row's; a
    /// later row may have others.
    ///
    /// # Errors
    /// When a feature has no column.
    pub fn new(manifest: &'a Manifest, format: Format, names: &[String]) -> anyhow::Result<Columns<'a>> {
        let features = manifest.features.iter().enumerate();
        let mut columns = Columns {
            manifest,
            by_name: features
                .map(|(index, feature)| (feature.name.as_str(), index))
                .collect(),
            format,
            features: Vec::new(),
            carried: None,
            bad_id: None,
            unknown: Vec::new(),
        };
        columns.learn(names);
        let missing: Vec<String> = (manifest.features.iter().enumerate())
            .filter(|(index, _)| !columns.features.contains(&Some(*index)))
            .map(|(_, feature)| format!("{:?}", feature.name))
            .collect();
        match &missing[..] {
            _ if format == Format::Ndjson => Ok(columns),
            [] => Ok(columns),
            [one] => bail!("the column {one}, which the model takes, is missing"),
            several => bail!("the columns {}, which the model takes, are missing", several.join(", ")),
        }
    }

    /// Carries the rows' ids along, all their digits; one that can't be kept so is
    /// an error of [`Columns::next`]. They are in the wanted column or in the one
    /// called `id`, if it is no feature. Where the latter has no type for ids it is
    /// left, for the reason given.
    ///
    /// # Errors
    /// When the wanted column is not there or has no type for ids.
    pub fn carry_ids(&mut self, reader: &mut Reader<'_>, wanted: Option<&str>) -> anyhow::Result<Option<String>> {
        let Some(column) = self.id_column(reader.columns(), wanted)? else {
            return Ok(None);
        };
        if let Some(other) = reader.other_type(column) {
            let name = &reader.columns()[column];
            let what = format!("the column {name:?} holds {other}, which can't be written as an id");
            return match wanted {
                Some(_) => Err(anyhow!(what)),
                None => Ok(Some(what)),
            };
        }
        // A feature is a number, whatever else it is.
        if self.features[column].is_none() {
            reader.read_exactly(column);
        }
        self.carried = Some(Carried { column, id: true });
        Ok(None)
    }

    fn id_column(&self, names: &[String], wanted: Option<&str>) -> anyhow::Result<Option<usize>> {
        match wanted {
            Some(wanted) => match names.iter().position(|name| name == wanted) {
                Some(column) => Ok(Some(column)),
                None => bail!("there is no column {wanted:?} (--id)"),
            },
            None => Ok((0..names.len())
                .find(|&column| self.features[column].is_none() && names[column].eq_ignore_ascii_case("id"))),
        }
    }

    /// Carries the rows' labels along.
    ///
    /// # Errors
    /// When the file has no such column.
    pub fn carry_labels(&mut self, names: &[String], label: &str) -> anyhow::Result<()> {
        match names.iter().position(|name| name == label) {
            Some(column) => self.carried = Some(Carried { column, id: false }),
            None => bail!("there is no column {label:?}"),
        }
        Ok(())
    }

    /// The column that is carried along.
    pub fn carried(&self) -> Option<usize> {
        self.carried.map(|carried| carried.column)
    }

    /// The columns that are neither features nor carried along.
    pub fn dropped<'n>(&self, names: &'n [String]) -> Vec<&'n str> {
        let columns = names.iter().zip(&self.features).enumerate();
        columns
            .filter(|&(index, (_, feature))| feature.is_none() && self.carried() != Some(index))
            .map(|(_, (name, _))| name.as_str())
            .collect()
    }

    fn learn(&mut self, names: &[String]) {
        for name in &names[self.features.len()..] {
            self.features.push(self.by_name.get(name.as_str()).copied());
        }
    }

    /// The next rows of the file as the body of a batch, after so many that
    /// were read; `None` at its end.
    ///
    /// # Errors
    /// When the file can't be read, or an id would lose digits.
    pub fn next(&mut self, reader: &mut Reader<'_>, read: u64) -> Result<Option<Chunk>, DataError> {
        let mut chunk = self.chunk(read + 1, reader.columns());
        while chunk.rows < ROWS_AT_ONCE && chunk.body.len() < BODY_BYTES {
            if !reader.row(&mut |index, cell| self.put(&mut chunk, index, cell))? {
                break;
            }
            if let (Some(got), Some(column)) = (self.bad_id.take(), self.carried()) {
                let kind = DataErrorKind::Id {
                    row: read + chunk.rows as u64 + 1,
                    column: reader.columns()[column].clone(),
                    got,
                };
                return Err(DataError::new(reader.path(), kind));
            }
            self.end(&mut chunk, reader.columns());
        }
        Ok((chunk.rows > 0).then_some(chunk))
    }

    /// A chunk for the rows from this number on.
    fn chunk(&self, first: u64, names: &[String]) -> Chunk {
        let mut chunk = Chunk {
            first,
            rows: 0,
            format: api::Format::Ndjson,
            body: Vec::new(),
            carried: Vec::new(),
            open: 0,
        };
        if self.format == Format::Csv {
            chunk.format = api::Format::Csv;
            for (name, _) in names
                .iter()
                .zip(&self.features)
                .filter(|(_, feature)| feature.is_some())
            {
                chunk.csv_cell(name);
            }
            chunk.csv_end();
        }
        chunk
    }

    /// Takes a cell of the row being read.
    fn put(&mut self, chunk: &mut Chunk, index: usize, cell: Cell<'_>) {
        if let Some(carried) = self.carried.filter(|carried| carried.column == index) {
            if carried.id {
                self.bad_id = bad_id(&cell, self.format);
            }
            chunk.carried.push(cell.into());
        }
        match self.features.get(index) {
            Some(Some(feature)) => self.feature(chunk, *feature, cell),
            Some(None) => {}
            None => self.unknown.push((index, cell.into())),
        }
    }

    /// Ends the row being read.
    fn end(&mut self, chunk: &mut Chunk, names: &[String]) {
        if !self.unknown.is_empty() {
            self.learn(names);
            for (index, value) in std::mem::take(&mut self.unknown) {
                self.put(chunk, index, value.cell());
            }
        }
        chunk.rows += 1;
        if self.carried.is_some() {
            chunk.carried.resize(chunk.rows, Value::Missing);
        }
        match self.format {
            Format::Csv => chunk.csv_end(),
            Format::Parquet | Format::Ndjson => chunk.json_end(),
        }
    }

    fn feature(&self, chunk: &mut Chunk, index: usize, cell: Cell<'_>) {
        if self.format == Format::Csv {
            chunk.csv_cell(match cell {
                Cell::Csv(text) => text,
                _ => "",
            });
            return;
        }
        let feature = &self.manifest.features[index];
        let dtype = self.manifest.inputs[feature.input as usize].dtype;
        chunk.json_member(&feature.name);
        typed(&mut chunk.body, feature, dtype, cell);
    }
}

/// Why rows can't be told apart by this.
fn bad_id(cell: &Cell<'_>, format: Format) -> Option<String> {
    /// Decimal digits that a binary64 number keeps.
    const DIGITS: usize = f64::DIGITS as usize;
    /// The first integer of which that is not true.
    const INEXACT: f64 = (1u64 << f64::MANTISSA_DIGITS) as f64;
    match cell {
        Cell::Other(name) => Some(format!("a value of type {name}")),
        // JSON's are written in decimal, and were rounded if they are long.
        Cell::Number(number) if format == Format::Ndjson => {
            let shortest = format!("{number:e}");
            let digits = shortest.split('e').next()?.bytes().filter(u8::is_ascii_digit).count();
            let long = digits > DIGITS || number.abs() >= INEXACT;
            long.then(|| format!("a number of more than {DIGITS} digits, about {number}"))
        }
        _ => None,
    }
}

fn typed(out: &mut Vec<u8>, feature: &Feature, dtype: Dtype, cell: Cell<'_>) {
    match cell {
        // Exporters write an empty text so.
        Cell::Missing if feature.takes_empty(dtype) => json::text(out, ""),
        Cell::Missing => out.extend_from_slice(b"null"),
        Cell::Other(_) => out.extend_from_slice(b"[]"),
        Cell::Text(text) | Cell::Csv(text) => json::text(out, text),
        cell if dtype == Dtype::String => json::text(out, &cell.to_string()),
        Cell::Boolean(value) if feature.kind == FeatureType::Boolean => {
            out.extend_from_slice(if value { b"true" } else { b"false" });
        }
        Cell::Boolean(value) => json::integer(out, u8::from(value)),
        Cell::Integer(value) => json::integer(out, value),
        // What JSON has no number for is told as a fault, not as missing.
        Cell::Number(f64::INFINITY) => out.extend_from_slice(b"Infinity"),
        Cell::Number(f64::NEG_INFINITY) => out.extend_from_slice(b"-Infinity"),
        Cell::Number(value) => json::f64(out, value),
    }
}

impl Chunk {
    /// Its rows, for errors.
    pub fn named(&self) -> String {
        format!("rows {} to {}", self.first, self.first + self.rows as u64 - 1)
    }

    /// The component's answer to it: every row, with every output if `full`.
    ///
    /// # Errors
    /// When the component fails, or refuses the whole.
    pub fn answer(&self, loaded: &Loaded, full: bool) -> anyhow::Result<Reply> {
        let options = BatchOptions {
            format: self.format,
            on_error: OnError::Report,
            full,
            rows_max: self.rows as u32,
        };
        match loaded
            .predict_batch(&self.body, options, None)
            .with_context(|| self.named())?
        {
            Ok(reply) => Ok(reply),
            Err(problem) => Err(anyhow!("{}", String::from_utf8_lossy(&problem.body)).context(self.named())),
        }
    }

    fn csv_cell(&mut self, cell: &str) {
        if self.open > 0 {
            self.body.push(b',');
        }
        self.open += 1;
        if cell.bytes().any(|b| matches!(b, b'"' | b',' | b'\r' | b'\n')) {
            self.body.push(b'"');
            self.body.extend_from_slice(cell.replace('"', "\"\"").as_bytes());
            self.body.push(b'"');
        } else {
            self.body.extend_from_slice(cell.as_bytes());
        }
    }

    fn csv_end(&mut self) {
        // A line of one empty cell would be a blank one, which is no row.
        if matches!(self.body.last(), None | Some(b'\n')) {
            self.body.extend_from_slice(b"\"\"");
        }
        self.body.push(b'\n');
        self.open = 0;
    }

    fn json_member(&mut self, name: &str) {
        let before: &[u8] = if self.open == 0 { b"{\"features\":{" } else { b"," };
        self.body.extend_from_slice(before);
        self.open += 1;
        json::text(&mut self.body, name);
        self.body.push(b':');
    }

    fn json_end(&mut self) {
        let end: &[u8] = if self.open == 0 {
            b"{\"features\":{}}\n"
        } else {
            b"}}\n"
        };
        self.body.extend_from_slice(end);
        self.open = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        serde_json::from_str(
            r#"{"format":1,"name":"m","version":"1","engine":"tabular","task":"regression",
            "features":[{"name":"x","type":"number","nullable":true,"input":0,"column":0},
                        {"name":"b","type":"boolean","input":0,"column":1},
                        {"name":"c, d","type":"category","categories":["None","a"],"input":1,"column":0}],
            "inputs":[{"name":"X","dtype":"float32","shape":[2]},{"name":"C","dtype":"string","shape":[1]}],
            "output":{"width":1,"kind":"value"},"batch":true,"reference":{"rows":0,"columns":[]},
            "provenance":{"modelet":"0","onnx_sha256":"","onnx_bytes":0,"opsets":{},"operators":{}}}"#,
        )
        .unwrap()
    }

    fn names(names: &str) -> Vec<String> {
        names.split('|').map(str::to_owned).collect()
    }

    fn body(format: Format, names: &[String], rows: &[&[Cell<'_>]]) -> (String, Vec<Value>) {
        let manifest = manifest();
        let mut columns = Columns::new(&manifest, format, names).unwrap();
        let id = columns.id_column(names, None).unwrap();
        columns.carried = id.map(|column| Carried { column, id: true });
        let mut chunk = columns.chunk(1, names);
        for row in rows {
            for (index, &cell) in row.iter().enumerate() {
                columns.put(&mut chunk, index, cell);
            }
            columns.end(&mut chunk, names);
        }
        assert_eq!(chunk.rows, rows.len());
        (String::from_utf8(chunk.body).unwrap(), chunk.carried)
    }

    #[test]
    fn csv_cells_go_on_as_they_are() {
        let names = names("ID|c, d|label|x|b");
        let rows: [&[Cell<'_>]; 2] = [
            &[
                Cell::Csv("007"),
                Cell::Csv("None"),
                Cell::Csv("1"),
                Cell::Csv("nan"),
                Cell::Csv("True"),
            ],
            &[
                Cell::Missing,
                Cell::Csv("say \"a\", b\n"),
                Cell::Missing,
                Cell::Csv(" 1e5"),
                Cell::Missing,
            ],
        ];
        let (body, ids) = body(Format::Csv, &names, &rows);
        assert_eq!(body, "\"c, d\",x,b\nNone,nan,True\n\"say \"\"a\"\", b\n\", 1e5,\n");
        assert_eq!(ids, [Value::Csv("007".into()), Value::Missing]);
    }

    #[test]
    fn ids_that_can_t_be_kept_are_told() {
        for (format, cell, expected) in [
            (Format::Ndjson, Cell::Other("array"), Some("a value of type array")),
            (Format::Parquet, Cell::Other("Binary"), Some("a value of type Binary")),
            (
                Format::Ndjson,
                Cell::Number(3.6893488147419103e19),
                Some("a number of more than 15 digits, about 36893488147419103000"),
            ),
            (
                Format::Ndjson,
                Cell::Number(2e19),
                Some("a number of more than 15 digits, about 20000000000000000000"),
            ),
            (Format::Ndjson, Cell::Number(-1.5), None),
            (Format::Ndjson, Cell::Integer(u64::MAX.into()), None),
            (Format::Parquet, Cell::Number(0.1 + 0.2), None),
            (Format::Csv, Cell::Csv("36893488147419103232"), None),
        ] {
            assert_eq!(bad_id(&cell, format).as_deref(), expected, "{cell:?}");
        }
    }

    #[test]
    fn typed_values_keep_their_types() {
        let names = names("x|b|c, d");
        let rows: [&[Cell<'_>]; 4] = [
            &[Cell::Boolean(true), Cell::Boolean(true), Cell::Integer(7)],
            &[Cell::Missing, Cell::Number(0.5), Cell::Missing],
            &[Cell::Number(f64::INFINITY), Cell::Other("List"), Cell::Text("é")],
            &[
                Cell::Integer(u64::MAX.into()),
                Cell::Text("7"),
                Cell::Integer(u64::MAX.into()),
            ],
        ];
        let (body, _) = body(Format::Parquet, &names, &rows);
        let expected = [
            r#"{"features":{"x":1,"b":true,"c, d":"7"}}"#,
            r#"{"features":{"x":null,"b":0.5,"c, d":null}}"#,
            r#"{"features":{"x":Infinity,"b":[],"c, d":"é"}}"#,
            r#"{"features":{"x":18446744073709551615,"b":"7","c, d":"18446744073709551615"}}"#,
        ];
        assert_eq!(body.lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_later_line_may_have_members_that_the_first_one_has_not() {
        let manifest = manifest();
        let mut columns = Columns::new(&manifest, Format::Ndjson, &names("b")).unwrap();
        let mut chunk = columns.chunk(1, &names("b"));
        columns.end(&mut chunk, &names("b"));
        columns.put(&mut chunk, 0, Cell::Boolean(false));
        columns.put(&mut chunk, 2, Cell::Integer(1));
        columns.put(&mut chunk, 1, Cell::Text("dropped"));
        columns.end(&mut chunk, &names("b|other|x"));
        let body = String::from_utf8(chunk.body).unwrap();
        assert_eq!(body, "{\"features\":{}}\n{\"features\":{\"b\":false,\"x\":1}}\n");
    }

    #[test]
    fn what_is_missing_is_named_and_what_is_left_out_is_known() {
        let manifest = manifest();
        let error = |given: &str, id| {
            let columns = Columns::new(&manifest, Format::Csv, &names(given));
            let chosen = columns.and_then(|columns| columns.id_column(&names(given), id));
            chosen.err().map(|e| e.to_string())
        };
        assert_eq!(error("x|b|c, d|y", None), None);
        assert_eq!(
            error("x|b", None).unwrap(),
            "the column \"c, d\", which the model takes, is missing"
        );
        assert_eq!(
            error("y", None).unwrap(),
            "the columns \"x\", \"b\", \"c, d\", which the model takes, are missing"
        );
        assert_eq!(
            error("x|b|c, d", Some("key")).unwrap(),
            "there is no column \"key\" (--id)"
        );
        let given = names("key|x|b|id|c, d|y");
        let mut columns = Columns::new(&manifest, Format::Csv, &given).unwrap();
        assert_eq!(columns.id_column(&given, None).unwrap(), Some(3));
        columns.carry_labels(&given, "key").unwrap();
        assert_eq!(columns.carried(), Some(0));
        assert_eq!(columns.dropped(&given), ["id", "y"]);
    }
}
