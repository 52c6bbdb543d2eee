//! Tables from files: reference data to pack with, rows to score.
//!
//! A [`Table`] holds whole columns. [`Reader`] goes through a file row by row
//! in bounded memory, and [`Writer`] writes one so. All three know CSV, Parquet
//! and NDJSON (JSON Lines), told apart by the file's extension; `-` stands for
//! standard input or output.
//!
//! # What a CSV cell is
//! CSV has no types: a cell is what takes it makes of it. A model's text is the
//! cell as it stands (`007` keeps its zeros), and [`typed`] reads the others as
//! the component does. Where there is no feature, [`Cell::narrow`] gives it the
//! narrowest type that it fits. As for pandas, a cell is missing when it is empty
//! or one of [`MISSING_WORDS`](modelet::validate::MISSING_WORDS) (among texts these
//! may be categories), and a column without a name is called `Unnamed: 0` by its place.

mod csv;
mod error;
mod ndjson;
mod parquet;
mod writer;

pub use error::{DataError, DataErrorKind};
pub use writer::{Field, FieldType, Writer};

use crate::output::{Progress, Unit};
use modelet::signature::FeatureType;
use modelet::tensor::Dtype;
use modelet::validate::is_missing_cell;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// How a table is written in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A header and one record a line, separated by commas.
    Csv,
    /// Apache Parquet.
    Parquet,
    /// One JSON object a line.
    Ndjson,
}

impl Format {
    /// The format that a file's extension names; CSV for `-`.
    ///
    /// # Errors
    /// When the extension is none of `.csv`, `.parquet`, `.ndjson`, `.jsonl`.
    pub fn of(path: &Path) -> Result<Format, DataError> {
        if is_standard(path) {
            return Ok(Format::Csv);
        }
        let extension = path.extension().unwrap_or_default().to_string_lossy();
        match extension.to_ascii_lowercase().as_str() {
            "csv" => Ok(Format::Csv),
            "parquet" | "pq" => Ok(Format::Parquet),
            "ndjson" | "jsonl" => Ok(Format::Ndjson),
            _ => Err(DataError::new(path, DataErrorKind::Extension(extension.into_owned()))),
        }
    }
}

/// Refuses to write over a file that is read; standard output is none.
///
/// # Errors
/// When the path is one of the inputs' files.
pub fn not_an_input<'a>(path: &Path, inputs: impl IntoIterator<Item = &'a Path>) -> anyhow::Result<()> {
    let written = match path.canonicalize() {
        Ok(written) if !is_standard(path) => written,
        _ => return Ok(()),
    };
    let same = |input: &&Path| !is_standard(input) && input.canonicalize().is_ok_and(|input| input == written);
    match inputs.into_iter().find(same) {
        Some(input) => anyhow::bail!("{} is an input, which is not overwritten", input.display()),
        None => Ok(()),
    }
}

/// Whether a path is `-`, standard input or output.
pub fn is_standard(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// Columns of equal length.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    /// The columns, in the file's order.
    pub columns: Vec<Column>,
}

/// A named column.
#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    /// The name in the file.
    pub name: String,
    /// One value a row.
    pub values: Values,
}

/// The values of a column.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Numbers; NaN is a missing one. A column of missing values only is one of
    /// numbers.
    Number(Vec<f64>),
    /// Integers, exact.
    Integer(Vec<Option<i64>>),
    /// Booleans.
    Boolean(Vec<Option<bool>>),
    /// Integers, exact, some of them beyond 64 bits with a sign.
    Large(Vec<Option<i128>>),
    /// Text; also dates and times, in ISO 8601.
    Text(Vec<Option<String>>),
    /// Cells of a CSV file.
    Csv(CsvCells),
    /// Lists, structures and binary data, which are no features.
    Other {
        /// The type as the file names it.
        name: String,
        /// The number of rows.
        rows: usize,
    },
}

/// A column of a CSV file: its cells one after another.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CsvCells {
    text: String,
    /// Where each cell ends.
    ends: Vec<usize>,
}

impl Table {
    /// Reads a file. `-` is CSV on standard input.
    ///
    /// # Errors
    /// When the file can't be read or is no table with at least one row; see
    /// [`DataErrorKind`].
    pub fn read(path: &Path, progress: &dyn Progress) -> Result<Table, DataError> {
        Table::read_as(path, Format::of(path)?, progress)
    }

    /// Reads a file of this format, whatever its name.
    ///
    /// # Errors
    /// See [`Table::read`].
    pub fn read_as(path: &Path, format: Format, progress: &dyn Progress) -> Result<Table, DataError> {
        let mut reader = Reader::open(path, format, progress)?;
        let mut columns: Vec<Builder> = reader.columns().iter().map(|_| Builder::default()).collect();
        let mut rows = 0;
        let mut wrong = None;
        while reader.row(&mut |index, cell| {
            if index >= columns.len() {
                columns.resize_with(index + 1, Builder::default);
            }
            if let Err(got) = columns[index].put(rows, cell) {
                wrong.get_or_insert((index, got));
            }
        })? {
            rows += 1;
            if let Some((index, got)) = wrong {
                return Err(DataError::new(
                    path,
                    DataErrorKind::Mixed {
                        row: rows as u64,
                        column: reader.columns()[index].clone(),
                        expected: columns[index].kind(),
                        got,
                    },
                ));
            }
        }
        progress.finish();
        if rows == 0 {
            return Err(DataError::new(path, DataErrorKind::NoRows));
        }
        let columns = reader.columns().iter().zip(columns).map(|(name, column)| Column {
            name: name.clone(),
            values: column.finish(rows),
        });
        Ok(Table {
            columns: columns.collect(),
        })
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.columns.first().map_or(0, |column| column.values.len())
    }

    /// The column of this name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }
}

impl Values {
    /// The number of rows.
    pub fn len(&self) -> usize {
        match self {
            Values::Number(v) => v.len(),
            Values::Integer(v) => v.len(),
            Values::Large(v) => v.len(),
            Values::Boolean(v) => v.len(),
            Values::Text(v) => v.len(),
            Values::Csv(cells) => cells.ends.len(),
            Values::Other { rows, .. } => *rows,
        }
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value of a row; missing beyond the last.
    pub fn get(&self, row: usize) -> Cell<'_> {
        match self {
            Values::Number(v) => v
                .get(row)
                .filter(|value| !value.is_nan())
                .map_or(Cell::Missing, |&value| Cell::Number(value)),
            Values::Integer(v) => v
                .get(row)
                .copied()
                .flatten()
                .map_or(Cell::Missing, |value| Cell::Integer(value.into())),
            Values::Large(v) => v.get(row).copied().flatten().map_or(Cell::Missing, Cell::Integer),
            Values::Boolean(v) => v.get(row).copied().flatten().map_or(Cell::Missing, Cell::Boolean),
            Values::Text(v) => v.get(row).and_then(Option::as_deref).map_or(Cell::Missing, Cell::Text),
            Values::Csv(cells) => match cells.get(row) {
                None | Some("") => Cell::Missing,
                Some(cell) => Cell::Csv(cell),
            },
            Values::Other { name, .. } => Cell::Other(name),
        }
    }

    /// Whether the values are booleans, all that are not missing.
    pub fn are_booleans(&self) -> bool {
        match self {
            Values::Boolean(_) => true,
            Values::Csv(cells) => {
                let mut given = cells.iter().filter(|cell| !is_missing_cell(cell)).peekable();
                given.peek().is_some() && given.all(|cell| boolean(cell).is_some())
            }
            _ => false,
        }
    }
}

/// One value of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cell<'a> {
    /// No value.
    Missing,
    /// A boolean.
    Boolean(bool),
    /// An integer of 64 bits, with a sign or without.
    Integer(i128),
    /// A number.
    Number(f64),
    /// Text.
    Text(&'a str),
    /// A cell of a CSV file, not empty.
    Csv(&'a str),
    /// A value of a type that no feature has, by the type's name.
    Other(&'a str),
}

impl<'a> Cell<'a> {
    /// A cell of a CSV file with the narrowest type that it fits; any other as
    /// it is.
    #[must_use]
    pub fn narrow(self) -> Cell<'a> {
        let Cell::Csv(text) = self else {
            return self;
        };
        if is_missing_cell(text) {
            return Cell::Missing;
        }
        let trimmed = text.trim();
        let integer = || {
            let signed = trimmed.parse::<i64>().map(i128::from);
            signed.or_else(|_| trimmed.parse::<u64>().map(i128::from)).ok()
        };
        boolean(text)
            .map(Cell::Boolean)
            .or_else(|| integer().map(Cell::Integer))
            .or_else(|| number(trimmed).map(Cell::Number))
            .unwrap_or(Cell::Text(text))
    }
}

impl fmt::Display for Cell<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cell::Missing => Ok(()),
            Cell::Boolean(value) => value.fmt(f),
            Cell::Integer(value) => value.fmt(f),
            Cell::Number(value) => value.fmt(f),
            Cell::Text(text) | Cell::Csv(text) => f.write_str(text),
            Cell::Other(name) => write!(f, "<{name}>"),
        }
    }
}

/// Takes a value of the row being read, by the number of its column.
pub type Put<'a> = &'a mut dyn FnMut(usize, Cell<'_>);

/// Goes through a table row by row.
pub struct Reader<'a> {
    source: Source<'a>,
}

enum Source<'a> {
    Csv(csv::CsvReader<'a>),
    Parquet(parquet::ParquetReader<'a>),
    Ndjson(ndjson::NdjsonReader<'a>),
}

impl<'a> Reader<'a> {
    /// Opens a file and reads its header.
    ///
    /// # Errors
    /// When the file can't be opened, is empty, or is not of this format.
    pub fn open(path: &Path, format: Format, progress: &'a dyn Progress) -> Result<Reader<'a>, DataError> {
        let source = match format {
            Format::Csv => Source::Csv(csv::CsvReader::open(path, progress)?),
            Format::Parquet => Source::Parquet(parquet::ParquetReader::open(path, progress)?),
            Format::Ndjson => Source::Ndjson(ndjson::NdjsonReader::open(path, progress)?),
        };
        Ok(Reader { source })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        match &self.source {
            Source::Csv(source) => source.path(),
            Source::Parquet(source) => source.path(),
            Source::Ndjson(source) => source.path(),
        }
    }

    /// The names of the columns; for NDJSON, those met so far.
    pub fn columns(&self) -> &[String] {
        match &self.source {
            Source::Csv(source) => source.columns(),
            Source::Parquet(source) => source.columns(),
            Source::Ndjson(source) => source.columns(),
        }
    }

    /// The type of a column that holds neither numbers nor text, as the file
    /// names it, where the file has types.
    pub fn other_type(&self, column: usize) -> Option<String> {
        match &self.source {
            Source::Csv(_) | Source::Ndjson(_) => None,
            Source::Parquet(source) => source.other_type(column),
        }
    }

    /// Reads this column's values digit by digit, as ids are meant: decimals,
    /// which features take for numbers, as integers or text.
    pub fn read_exactly(&mut self, column: usize) {
        if let Source::Parquet(source) = &mut self.source {
            source.read_exactly(column);
        }
    }

    /// The type with which a column of this file is best written again: text
    /// where the file has no types.
    pub fn field_type(&self, column: usize) -> FieldType {
        match &self.source {
            Source::Csv(_) | Source::Ndjson(_) => FieldType::Text,
            Source::Parquet(source) => source.field_type(column),
        }
    }

    /// Reads a row. A column that is not put has no value in this row. False
    /// after the last row.
    ///
    /// # Errors
    /// When the row is not what the format demands.
    pub fn row(&mut self, put: Put<'_>) -> Result<bool, DataError> {
        match &mut self.source {
            Source::Csv(source) => source.row(put),
            Source::Parquet(source) => source.row(put),
            Source::Ndjson(source) => source.row(put),
        }
    }
}

/// The bytes of a file or of standard input, counted while they are read.
struct Counted<'a> {
    inner: Box<dyn Read>,
    progress: &'a dyn Progress,
}

impl<'a> Counted<'a> {
    fn open(path: &Path, progress: &'a dyn Progress) -> Result<Counted<'a>, DataError> {
        let (inner, len): (Box<dyn Read>, _) = if is_standard(path) {
            (Box::new(std::io::stdin().lock()), None)
        } else {
            let (file, len) = open(path)?;
            (Box::new(file), len)
        };
        progress.start(&format!("reading {}", path.display()), len, Unit::Bytes);
        Ok(Counted { inner, progress })
    }
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.progress.advance(read as u64);
        Ok(read)
    }
}

/// A file and, where it is a regular one, its size.
fn open(path: &Path) -> Result<(File, Option<u64>), DataError> {
    let fail = |e| DataError::new(path, DataErrorKind::Open(e));
    let file = File::open(path).map_err(fail)?;
    let metadata = file.metadata().map_err(fail)?;
    if metadata.is_dir() {
        return Err(fail(std::io::Error::from(std::io::ErrorKind::IsADirectory)));
    }
    Ok((file, metadata.is_file().then_some(metadata.len())))
}

/// A column that grows; its type is found on the way.
#[derive(Debug, Default)]
enum Builder {
    /// Only missing values so far.
    #[default]
    Nothing,
    Number(Vec<f64>),
    Integer(Vec<Option<i64>>),
    Large(Vec<Option<i128>>),
    Boolean(Vec<Option<bool>>),
    Text(Vec<Option<String>>),
    Csv(CsvCells),
    Other(String),
}

impl Builder {
    /// Puts the value of a row, missing ones before it included. What came, if
    /// it does not go with the rows before.
    fn put(&mut self, row: usize, cell: Cell<'_>) -> Result<(), String> {
        match (&mut *self, cell) {
            (_, Cell::Missing) => {}
            (Builder::Nothing, _) => {
                *self = match cell {
                    Cell::Missing => Builder::Nothing,
                    Cell::Boolean(_) => Builder::Boolean(Vec::new()),
                    Cell::Integer(_) => Builder::Integer(Vec::new()),
                    Cell::Number(_) => Builder::Number(Vec::new()),
                    Cell::Text(_) => Builder::Text(Vec::new()),
                    Cell::Csv(_) => Builder::Csv(CsvCells::default()),
                    Cell::Other(name) => Builder::Other(name.to_owned()),
                };
                return self.put(row, cell);
            }
            (Builder::Boolean(v), Cell::Boolean(value)) => put_at(v, row, Some(value), None),
            (Builder::Integer(v), Cell::Integer(value)) => match i64::try_from(value) {
                Ok(value) => put_at(v, row, Some(value), None),
                Err(_) => {
                    let mut integers = v.iter().map(|v| v.map(i128::from)).collect();
                    put_at(&mut integers, row, Some(value), None);
                    *self = Builder::Large(integers);
                }
            },
            (Builder::Large(v), Cell::Integer(value)) => put_at(v, row, Some(value), None),
            (Builder::Integer(v), Cell::Number(value)) => {
                // Exact, or the column would lose digits.
                let numbers: Option<Vec<f64>> = v
                    .iter()
                    .map(|v| v.map_or(Some(f64::NAN), |v| exact(v.into())))
                    .collect();
                let Some(mut numbers) = numbers else {
                    return Err(after_inexact(value));
                };
                put_at(&mut numbers, row, value, f64::NAN);
                *self = Builder::Number(numbers);
            }
            (Builder::Large(_), Cell::Number(value)) => return Err(after_inexact(value)),
            (Builder::Number(v), Cell::Number(value)) => put_at(v, row, value, f64::NAN),
            (Builder::Number(v), Cell::Integer(value)) => match exact(value) {
                Some(value) => put_at(v, row, value, f64::NAN),
                None => return Err(format!("the integer {value}, which is not exact as a number")),
            },
            (Builder::Text(v), Cell::Text(value)) => put_at(v, row, Some(value.to_owned()), None),
            (Builder::Csv(cells), Cell::Csv(cell)) => cells.put(row, cell),
            (Builder::Other(_), _) => {}
            (_, Cell::Other(name)) => *self = Builder::Other(name.to_owned()),
            (_, cell) => return Err(describe(cell)),
        }
        Ok(())
    }

    fn kind(&self) -> &'static str {
        match self {
            Builder::Nothing => "nothing",
            Builder::Number(_) => "a number",
            Builder::Integer(_) | Builder::Large(_) => "an integer",
            Builder::Boolean(_) => "a boolean",
            Builder::Text(_) | Builder::Csv(_) => "text",
            Builder::Other(_) => "anything",
        }
    }

    fn finish(self, rows: usize) -> Values {
        match self {
            Builder::Nothing => Values::Number(vec![f64::NAN; rows]),
            Builder::Number(mut v) => {
                v.resize(rows, f64::NAN);
                Values::Number(v)
            }
            Builder::Integer(mut v) => {
                v.resize(rows, None);
                Values::Integer(v)
            }
            Builder::Large(mut v) => {
                v.resize(rows, None);
                Values::Large(v)
            }
            Builder::Boolean(mut v) => {
                v.resize(rows, None);
                Values::Boolean(v)
            }
            Builder::Text(mut v) => {
                v.resize(rows, None);
                Values::Text(v)
            }
            Builder::Csv(mut cells) => {
                cells.ends.resize(rows, cells.text.len());
                Values::Csv(cells)
            }
            Builder::Other(name) => Values::Other { name, rows },
        }
    }
}

/// A cell with the type that its feature gives it, as the component reads CSV:
/// text where the model takes text or the text has a code, else a number, a
/// boolean where the feature is one, or text that is neither.
pub fn typed<'a>(cell: Cell<'a>, kind: FeatureType, dtype: Dtype, encoding: &BTreeMap<String, f64>) -> Cell<'a> {
    let Cell::Csv(text) = cell else {
        return cell;
    };
    if dtype == Dtype::String || encoding.contains_key(text) {
        return Cell::Text(text);
    }
    if is_missing_cell(text) {
        return Cell::Missing;
    }
    match text.trim().parse::<f64>() {
        Ok(number) if number.is_nan() => Cell::Missing,
        Ok(number) => Cell::Number(number),
        Err(_) if kind == FeatureType::Boolean => boolean(text).map_or(Cell::Text(text), Cell::Boolean),
        Err(_) => Cell::Text(text),
    }
}

fn put_at<T: Clone>(values: &mut Vec<T>, row: usize, value: T, missing: T) {
    values.resize(row, missing);
    values.push(value);
}

fn after_inexact(number: f64) -> String {
    format!("the number {number} after an integer that is not exact as one")
}

fn describe(cell: Cell<'_>) -> String {
    match cell {
        Cell::Boolean(value) => format!("the boolean {value}"),
        Cell::Integer(_) | Cell::Number(_) => format!("the number {cell}"),
        Cell::Text(text) | Cell::Csv(text) => format!("the text {}", error::shortened(text)),
        Cell::Missing | Cell::Other(_) => cell.to_string(),
    }
}

/// An integer as binary64, if that is exact.
fn exact(value: i128) -> Option<f64> {
    (value.unsigned_abs() <= 1 << 53).then_some(value as f64)
}

impl CsvCells {
    /// Puts the cell of a row, empty ones before it included.
    fn put(&mut self, row: usize, cell: &str) {
        self.ends.resize(row, self.text.len());
        self.text.push_str(cell);
        self.ends.push(self.text.len());
    }

    fn get(&self, row: usize) -> Option<&str> {
        let end = *self.ends.get(row)?;
        let start = row.checked_sub(1).map_or(0, |before| self.ends[before]);
        Some(&self.text[start..end])
    }

    fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.ends.len()).filter_map(|row| self.get(row))
    }
}

fn boolean(cell: &str) -> Option<bool> {
    let is = |word: &str| cell.trim().eq_ignore_ascii_case(word);
    match (is("true"), is("false")) {
        (false, false) => None,
        (yes, _) => Some(yes),
    }
}

/// A number; an integer that binary64 would round is none.
fn number(cell: &str) -> Option<f64> {
    let value: f64 = cell.parse().ok()?;
    // Fifteen digits are always exact.
    if cell.len() > 15 && is_integer(cell) && value.to_string() != cell {
        return None;
    }
    Some(value)
}

/// Whether a text is an integer, of any length.
fn is_integer(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::Silent;
    use std::path::PathBuf;

    fn file(name: &str, bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        (directory, path)
    }

    fn read(name: &str, bytes: &[u8]) -> Result<Table, String> {
        let (_directory, path) = file(name, bytes);
        Table::read(&path, &Silent).map_err(|e| e.to_string().replace(path.to_str().unwrap(), name))
    }

    fn text(values: &[&str]) -> Values {
        Values::Text(values.iter().map(|v| (!v.is_empty()).then(|| v.to_string())).collect())
    }

    #[test]
    fn a_csv_cell_has_the_narrowest_type_that_it_fits() {
        for (text, expected) in [
            ("-2", Cell::Integer(-2)),
            (" +3", Cell::Integer(3)),
            ("9007199254740993", Cell::Integer(9007199254740993)),
            ("1e3", Cell::Number(1000.0)),
            (".5", Cell::Number(0.5)),
            ("-inf", Cell::Number(f64::NEG_INFINITY)),
            ("100000000000000000000", Cell::Number(1e20)),
            ("18446744073709551615", Cell::Integer(u64::MAX.into())),
            // A number would lose digits.
            ("18446744073709551617", Cell::Text("18446744073709551617")),
            ("True", Cell::Boolean(true)),
            ("FALSE", Cell::Boolean(false)),
            ("NaN", Cell::Missing),
            ("<NA>", Cell::Missing),
            ("null", Cell::Missing),
            ("0x10", Cell::Text("0x10")),
            ("2024-01-31", Cell::Text("2024-01-31")),
        ] {
            assert_eq!(Cell::Csv(text).narrow(), expected, "{text}");
        }
        assert_eq!(Cell::Text("7").narrow(), Cell::Text("7"));
    }

    #[test]
    fn a_column_of_booleans_has_nothing_else() {
        for (cells, expected) in [
            ("True FALSE NA", true),
            ("true _ false", true),
            ("True 1 0", false),
            ("NA <NA> _", false),
            ("True x False", false),
        ] {
            // A second column, because a blank line is no row.
            let rows: String = cells
                .split(' ')
                .map(|cell| format!("{},1\n", cell.replace('_', "")))
                .collect();
            let table = read("t.csv", format!("x,y\n{rows}").as_bytes()).unwrap();
            assert_eq!(table.columns[0].values.are_booleans(), expected, "{cells}");
        }
    }

    #[test]
    fn a_cell_is_what_its_feature_makes_of_it() {
        let none = BTreeMap::new();
        let codes = BTreeMap::from([("NA".to_owned(), 1.0), ("7".to_owned(), 2.0)]);
        use FeatureType::{Boolean, Category, Number};
        let (text, float) = (Dtype::String, Dtype::Float32);
        struct Case<'a>(&'a str, FeatureType, Dtype, &'a BTreeMap<String, f64>, Cell<'a>);
        for Case(cell, kind, dtype, encoding, expected) in [
            Case("007", Category, text, &none, Cell::Text("007")),
            Case("True", Category, text, &none, Cell::Text("True")),
            Case("1.0", Category, text, &none, Cell::Text("1.0")),
            Case("NA", Category, text, &none, Cell::Text("NA")),
            Case("007", Number, float, &none, Cell::Number(7.0)),
            Case(" 1e5", Number, float, &none, Cell::Number(1e5)),
            Case(
                "18446744073709551615",
                Number,
                float,
                &none,
                Cell::Number(18446744073709551615.0),
            ),
            Case("NA", Number, float, &none, Cell::Missing),
            Case("seven", Number, float, &none, Cell::Text("seven")),
            Case("True", Number, float, &none, Cell::Text("True")),
            Case("True", Boolean, float, &none, Cell::Boolean(true)),
            Case("0", Boolean, float, &none, Cell::Number(0.0)),
            Case("yes", Boolean, float, &none, Cell::Text("yes")),
            Case("NA", Category, float, &codes, Cell::Text("NA")),
            Case("7", Category, float, &codes, Cell::Text("7")),
            Case("8", Category, float, &codes, Cell::Number(8.0)),
            Case("True", Category, float, &codes, Cell::Text("True")),
        ] {
            assert_eq!(
                typed(Cell::Csv(cell), kind, dtype, encoding),
                expected,
                "{cell} as {dtype}"
            );
        }
        // What is typed in the file stays so.
        assert_eq!(typed(Cell::Text("7"), Number, float, &none), Cell::Text("7"));
    }

    #[test]
    fn csv_is_read_as_spreadsheets_write_it() {
        let table = read(
            "t.CSV",
            "\u{feff}\"\",\"a, b\",é\r\n0,\"x \"\"y\"\"\nz\",1\r\n\r\n1,,\"2\"\r\n".as_bytes(),
        )
        .unwrap();
        let names: Vec<&str> = table.columns.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["Unnamed: 0", "a, b", "é"]);
        assert_eq!(table.columns[1].values.get(0), Cell::Csv("x \"y\"\nz"));
        assert_eq!(table.column("é").unwrap().values.get(1), Cell::Csv("2"));
        assert_eq!(table.rows(), 2);
        assert_eq!(table.columns[1].values.get(1), Cell::Missing);
    }

    #[test]
    fn the_columns_of_ndjson_stand_in_the_order_in_which_they_come() {
        let lines = "{\"z\":1,\"a\":\"x\",\"t\":true}\n\n{\"a\":null,\"z\":2.5,\"late\":[1]}\n{\"t\":false}\n";
        let table = read("t.jsonl", lines.as_bytes()).unwrap();
        let names: Vec<&str> = table.columns.iter().map(|c| c.name.as_str()).collect();
        assert_eq!(names, ["z", "a", "t", "late"]);
        assert_eq!(format!("{:?}", table.columns[0].values), "Number([1.0, 2.5, NaN])");
        assert_eq!(table.columns[1].values, text(&["x", "", ""]));
        assert_eq!(
            table.columns[2].values,
            Values::Boolean(vec![Some(true), None, Some(false)])
        );
        assert_eq!(table.columns[3].values.get(1), Cell::Other("array"));
        let ids = read("t.ndjson", b"{\"id\":1}\n{\"id\":18446744073709551615}\n{\"id\":3}\n").unwrap();
        assert_eq!(
            ids.columns[0].values,
            Values::Large(vec![Some(1), Some(u64::MAX.into()), Some(3)])
        );
    }

    #[test]
    fn what_is_no_table_is_told_in_one_sentence() {
        struct Case(&'static str, &'static [u8], &'static str);
        for Case(name, bytes, expected) in [
            Case(
                "t.txt",
                b"a\n1\n",
                "t.txt: expected a file ending in .csv, .parquet, .ndjson or .jsonl but got .txt",
            ),
            Case(
                "t",
                b"a\n1\n",
                "t: expected a file ending in .csv, .parquet, .ndjson or .jsonl but got no extension",
            ),
            Case("t.csv", b"", "t.csv: the file is empty"),
            Case("t.csv", b" \n", "t.csv: the file is empty"),
            Case("t.csv", b"a,b\n", "t.csv: there is no row of data"),
            Case(
                "t.csv",
                b"a,b,a\n1,2,3\n",
                "t.csv: the header names the column \"a\" twice",
            ),
            Case(
                "t.csv",
                b"a;b\n1;2\n",
                "t.csv: the header has one column, and ';' in its name: expected columns separated by commas",
            ),
            Case(
                "t.csv",
                b"a,b\n1,2\n\"3\n4\",5\n6\n",
                "t.csv: row 3 (line 5): expected 2 cells, as the header has, but got 1",
            ),
            Case(
                "t.csv",
                b"a,b\n1,\"2\n3,4\n\"5,6\n",
                "t.csv: line 2: a quote is opened that is not closed before a comma or the end of a line",
            ),
            Case(
                "t.csv",
                b"a,b\n1,2\n3,\"4\n5,6\n7,\"\"\n",
                "t.csv: line 3: a quote is opened that is not closed before a comma or the end of a line",
            ),
            Case(
                "t.csv",
                b"a,b\n1,2\nM\xfcller,5\n",
                "t.csv: line 3: expected UTF-8 but got other bytes; save the file as UTF-8",
            ),
            Case("t.ndjson", b"\n", "t.ndjson: the file is empty"),
            Case(
                "t.ndjson",
                b"{\"a\":1}\n[1]\n",
                "t.ndjson: line 2: expected a JSON object but got invalid type: sequence, expected an object at column 0",
            ),
            Case(
                "t.ndjson",
                b"{\"a\":1}\n{\"a\":1,\"a\":2}\n",
                "t.ndjson: line 2: expected a JSON object but got the member \"a\" twice at column 10",
            ),
            Case(
                "t.ndjson",
                b"{\"a\":1}\n{\"a\":\"x\"}\n",
                "t.ndjson: row 2, column \"a\": expected an integer, as in the rows before, but got the text \"x\"",
            ),
            Case("t.parquet", b"", "t.parquet: the file is empty"),
            Case(
                "t.parquet",
                b"a,b\n1,2\n1,2\n1,2\n",
                "t.parquet: expected a Parquet file but its magic number is missing",
            ),
        ] {
            assert_eq!(
                read(name, bytes).unwrap_err(),
                expected,
                "{}",
                String::from_utf8_lossy(bytes)
            );
        }
        let missing = Table::read(Path::new("no/such.csv"), &Silent).unwrap_err();
        assert!(matches!(missing.kind(), DataErrorKind::Open(_)), "{missing}");
        assert!(
            missing.to_string().starts_with("no/such.csv: can't be opened"),
            "{missing}"
        );
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("d.csv");
        std::fs::create_dir(&path).unwrap();
        assert!(Table::read(&path, &Silent).is_err());
    }

    #[test]
    fn what_is_written_is_read_again() {
        let fields = [
            ("id", FieldType::Integer),
            ("name", FieldType::Text),
            ("x", FieldType::Number),
            ("ok", FieldType::Boolean),
        ]
        .map(|(name, kind)| Field {
            name: name.into(),
            kind,
        });
        let rows = [
            [
                Cell::Integer(9007199254740993),
                Cell::Text("a, \"b\""),
                Cell::Number(0.1),
                Cell::Boolean(true),
            ],
            [Cell::Missing, Cell::Missing, Cell::Missing, Cell::Missing],
            [
                Cell::Integer(-1),
                Cell::Text("é"),
                Cell::Number(1e300),
                Cell::Boolean(false),
            ],
        ];
        for name in ["t.csv", "t.parquet", "t.ndjson"] {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join(name);
            let mut writer = Writer::create(&path, Format::of(&path).unwrap(), &fields).unwrap();
            for row in &rows {
                writer.row(row).unwrap();
            }
            assert!(!path.exists(), "{name} is there only when it is whole");
            writer.finish().unwrap();
            let table = Table::read(&path, &Silent).unwrap();
            assert_eq!(table.rows(), 3, "{name}");
            for (index, (column, field)) in table.columns.iter().zip(&fields).enumerate() {
                assert_eq!(column.name, field.name, "{name}");
                for (row, cells) in rows.iter().enumerate() {
                    assert_eq!(
                        column.values.get(row).narrow(),
                        cells[index],
                        "{name}, {}, row {row}",
                        field.name
                    );
                }
            }
        }
    }

    #[test]
    fn an_unfinished_file_is_left_as_it_was() {
        let (directory, path) = file("t.csv", b"before");
        let fields = [Field {
            name: "x".into(),
            kind: FieldType::Number,
        }];
        drop(Writer::create(&path, Format::Csv, &fields).unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), b"before");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
