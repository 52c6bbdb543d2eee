//! Parquet, row by row over batches of columns.

use super::{Counted, DataError, DataErrorKind, FieldType, Put, Values, is_standard, open};
use crate::output::{Progress, Unit};
use ::parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use ::parquet::errors::ParquetError;
use ::parquet::file::reader::ChunkReader;
use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type, UInt64Type};
use arrow_array::{Array, ArrayRef, new_empty_array};
use arrow_cast::{CastOptions, cast, cast_with_options};
use arrow_schema::{ArrowError, DataType};
use bytes::Bytes;
use std::collections::HashSet;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

const ROWS_AT_ONCE: usize = 4096;
const MAGIC: &[u8; 4] = b"PAR1";

pub(super) struct ParquetReader<'a> {
    path: PathBuf,
    batches: ParquetRecordBatchReader,
    columns: Vec<String>,
    types: Vec<DataType>,
    /// The column whose decimals keep all their digits.
    exact: Option<usize>,
    values: Vec<Values>,
    rows: usize,
    next: usize,
    progress: &'a dyn Progress,
}

impl<'a> ParquetReader<'a> {
    pub(super) fn open(path: &Path, progress: &'a dyn Progress) -> Result<ParquetReader<'a>, DataError> {
        let fail = |kind| DataError::new(path, kind);
        let (mut file, len) = match is_standard(path) {
            true => (None, None),
            false => {
                let (file, len) = open(path)?;
                (Some(file), len)
            }
        };
        // The footer comes last, so what can't be sought is read whole.
        let (Some(file), Some(len)) = (&mut file, len) else {
            let mut bytes = Vec::new();
            Counted::open(path, progress)?
                .read_to_end(&mut bytes)
                .map_err(|e| fail(DataErrorKind::Read(e)))?;
            check_magic(path, &bytes[..bytes.len().min(4)], bytes.len() as u64)?;
            return ParquetReader::new(path, Bytes::from(bytes), progress);
        };
        let mut start = Vec::new();
        let read = file
            .take(4)
            .read_to_end(&mut start)
            .and_then(|_| file.seek(SeekFrom::Start(0)));
        read.map_err(|e| fail(DataErrorKind::Read(e)))?;
        check_magic(path, &start, len)?;
        let file = file.try_clone().map_err(|e| fail(DataErrorKind::Read(e)))?;
        ParquetReader::new(path, file, progress)
    }

    fn new(
        path: &Path,
        chunks: impl ChunkReader + 'static,
        progress: &'a dyn Progress,
    ) -> Result<ParquetReader<'a>, DataError> {
        let fail = |e: ParquetError| DataError::new(path, DataErrorKind::Parquet(e));
        // The types are those of the Parquet schema alone: what an Arrow
        // writer noted beside it (dictionaries, view types) changes no value.
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(chunks, options).map_err(fail)?;
        let schema = builder.schema().clone();
        let columns: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
        let mut seen = HashSet::new();
        if let Some(name) = columns.iter().find(|name| !seen.insert(name.as_str())) {
            return Err(DataError::new(path, DataErrorKind::Duplicate(name.clone())));
        }
        let total = u64::try_from(builder.metadata().file_metadata().num_rows()).ok();
        progress.start(&format!("reading {}", path.display()), total, Unit::Rows);
        Ok(ParquetReader {
            path: path.to_owned(),
            batches: builder.with_batch_size(ROWS_AT_ONCE).build().map_err(fail)?,
            columns,
            types: schema.fields().iter().map(|field| field.data_type().clone()).collect(),
            exact: None,
            values: Vec::new(),
            rows: 0,
            next: 0,
            progress,
        })
    }

    pub(super) fn read_exactly(&mut self, column: usize) {
        self.exact = Some(column);
    }

    fn reads_digits(&self, column: usize, dtype: &DataType) -> bool {
        dtype.is_decimal() && self.exact == Some(column)
    }

    pub(super) fn other_type(&self, column: usize) -> Option<String> {
        match convert(&new_empty_array(self.types.get(column)?)) {
            Ok(Values::Other { name, .. }) => Some(name),
            _ => None,
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn columns(&self) -> &[String] {
        &self.columns
    }

    pub(super) fn field_type(&self, column: usize) -> FieldType {
        match self.types.get(column) {
            Some(DataType::Boolean) => FieldType::Boolean,
            Some(DataType::UInt64) => FieldType::Text,
            Some(dtype) if self.reads_digits(column, dtype) => match exact_type(dtype) {
                DataType::Int64 => FieldType::Integer,
                _ => FieldType::Text,
            },
            Some(dtype) if dtype.is_integer() => FieldType::Integer,
            Some(dtype) if dtype.is_numeric() => FieldType::Number,
            _ => FieldType::Text,
        }
    }

    pub(super) fn row(&mut self, put: Put<'_>) -> Result<bool, DataError> {
        while self.next == self.rows {
            let Some(batch) = self.batches.next() else {
                return Ok(false);
            };
            let batch = batch.map_err(|e| DataError::new(&self.path, DataErrorKind::Parquet(e.into())))?;
            let columns = batch.columns().iter().zip(&self.columns).zip(&self.types);
            let values = columns
                .enumerate()
                .map(|(index, ((array, name), dtype))| {
                    let values = match self.reads_digits(index, dtype) {
                        true => cast_strictly(array, &exact_type(dtype)).and_then(|exact| convert(&exact)),
                        false => convert(array),
                    };
                    values.map_err(|e| {
                        let kind = DataErrorKind::Convert {
                            column: name.clone(),
                            dtype: dtype.to_string(),
                            what: e.to_string(),
                        };
                        DataError::new(&self.path, kind)
                    })
                })
                .collect::<Result<_, _>>()?;
            self.values = values;
            self.rows = batch.num_rows();
            self.next = 0;
            self.progress.advance(self.rows as u64);
        }
        for (index, values) in self.values.iter().enumerate() {
            put(index, values.get(self.next));
        }
        self.next += 1;
        Ok(true)
    }
}

fn check_magic(path: &Path, start: &[u8], len: u64) -> Result<(), DataError> {
    match start {
        [] => Err(DataError::new(path, DataErrorKind::Empty)),
        start if start == MAGIC && len >= 12 => Ok(()),
        _ => Err(DataError::new(path, DataErrorKind::NotParquet)),
    }
}

/// What decimals are read as, if none of their digits is to be lost.
fn exact_type(decimal: &DataType) -> DataType {
    match decimal {
        DataType::Decimal32(_, 0) | DataType::Decimal64(_, 0) | DataType::Decimal128(..=18, 0) => DataType::Int64,
        _ => DataType::LargeUtf8,
    }
}

/// An error, where a value does not fit, in place of none.
fn cast_strictly(array: &ArrayRef, dtype: &DataType) -> Result<ArrayRef, ArrowError> {
    let options = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    cast_with_options(array, dtype, &options)
}

/// A batch of a column; nulls become missing values.
fn convert(array: &ArrayRef) -> Result<Values, ArrowError> {
    let to = |dtype: &DataType| cast_strictly(array, dtype);
    Ok(match array.data_type() {
        DataType::Boolean => Values::Boolean(array.as_boolean().iter().collect()),
        DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32 => Values::Integer(to(&DataType::Int64)?.as_primitive::<Int64Type>().iter().collect()),
        DataType::UInt64 => {
            let values = array.as_primitive::<UInt64Type>();
            let integers = values.iter().map(|v| v.map(i64::try_from).transpose()).collect();
            match integers {
                Ok(integers) => Values::Integer(integers),
                Err(_) => Values::Large(values.iter().map(|v| v.map(i128::from)).collect()),
            }
        }
        DataType::Float16 | DataType::Float32 | DataType::Float64 => {
            numbers(to(&DataType::Float64)?.as_primitive::<Float64Type>().iter())
        }
        DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) | DataType::Decimal256(..) => {
            // By way of text the number is rounded once.
            let text = to(&DataType::Utf8)?;
            let cells = text.as_string::<i32>().iter();
            numbers(cells.map(|cell| cell.and_then(|cell| cell.parse().ok())))
        }
        DataType::Null => Values::Number(vec![f64::NAN; array.len()]),
        DataType::Utf8
        | DataType::LargeUtf8
        | DataType::Utf8View
        | DataType::Date32
        | DataType::Date64
        | DataType::Time32(_)
        | DataType::Time64(_)
        | DataType::Timestamp(_, None) => {
            let text = to(&DataType::LargeUtf8)?;
            Values::Text(text.as_string::<i64>().iter().map(|v| v.map(str::to_owned)).collect())
        }
        DataType::Timestamp(unit, Some(_)) => {
            // Parquet counts in UTC, whatever zone the writer had in mind.
            let utc = cast(&to(&DataType::Int64)?, &DataType::Timestamp(*unit, None))?;
            let Values::Text(mut texts) = convert(&utc)? else {
                unreachable!("a timestamp becomes text");
            };
            texts.iter_mut().flatten().for_each(|text| text.push('Z'));
            Values::Text(texts)
        }
        DataType::Dictionary(_, inner) => convert(&to(inner)?)?,
        other => Values::Other {
            name: other.to_string(),
            rows: array.len(),
        },
    })
}

fn numbers(values: impl Iterator<Item = Option<f64>>) -> Values {
    Values::Number(values.map(|v| v.unwrap_or(f64::NAN)).collect())
}

#[cfg(test)]
mod tests {
    use super::super::{Cell, Format, Reader, Table};
    use super::*;
    use crate::output::Silent;
    use ::parquet::arrow::ArrowWriter;
    use arrow_array::types::{Float32Type, Int8Type, Int32Type, TimestampMillisecondType};
    use arrow_array::{
        BinaryArray, BooleanArray, Date32Array, Decimal128Array, DictionaryArray, ListArray, PrimitiveArray,
        RecordBatch, StringArray, UInt64Array,
    };
    use std::sync::Arc;

    #[test]
    fn every_type_of_column_is_read() {
        struct Case(&'static str, ArrayRef, &'static str);
        let timestamps = PrimitiveArray::<TimestampMillisecondType>::from(vec![Some(1_700_000_000_123), None]);
        let cases = [
            Case(
                "int8",
                Arc::new(PrimitiveArray::<Int8Type>::from(vec![Some(-5), None])),
                "Integer([Some(-5), None])",
            ),
            Case(
                "uint64",
                Arc::new(UInt64Array::from(vec![Some(7), None])),
                "Integer([Some(7), None])",
            ),
            Case(
                "large uint64",
                Arc::new(UInt64Array::from(vec![Some(u64::MAX), Some(1)])),
                "Large([Some(18446744073709551615), Some(1)])",
            ),
            Case(
                "float32",
                Arc::new(PrimitiveArray::<Float32Type>::from(vec![Some(0.1), None])),
                "Number([0.10000000149011612, NaN])",
            ),
            Case(
                "boolean",
                Arc::new(BooleanArray::from(vec![Some(true), None])),
                "Boolean([Some(true), None])",
            ),
            Case(
                "dictionary",
                Arc::new(DictionaryArray::<Int32Type>::from_iter([Some("a"), None])),
                "Text([Some(\"a\"), None])",
            ),
            Case(
                "decimal",
                Arc::new(
                    Decimal128Array::from(vec![Some(12345), None])
                        .with_precision_and_scale(10, 2)
                        .unwrap(),
                ),
                "Number([123.45, NaN])",
            ),
            Case(
                "date",
                Arc::new(Date32Array::from(vec![Some(19_000), None])),
                "Text([Some(\"2022-01-08\"), None])",
            ),
            Case(
                "timestamp",
                Arc::new(timestamps.clone()),
                "Text([Some(\"2023-11-14T22:13:20.123\"), None])",
            ),
            Case(
                "timestamp with a time zone",
                Arc::new(timestamps.with_timezone("Europe/Berlin")),
                "Text([Some(\"2023-11-14T22:13:20.123Z\"), None])",
            ),
            Case(
                "list",
                Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>([
                    Some([Some(1)]),
                    None,
                ])),
                "Other { name: \"List(Int32)\", rows: 2 }",
            ),
        ];
        let batch = RecordBatch::try_from_iter_with_nullable(cases.iter().map(|c| (c.0, c.1.clone(), true))).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("t.parquet");
        let mut writer = ArrowWriter::try_new(std::fs::File::create(&path).unwrap(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        let table = Table::read(&path, &Silent).unwrap();
        for (Case(name, _, expected), column) in cases.iter().zip(&table.columns) {
            assert_eq!(column.name, *name);
            assert_eq!(format!("{:?}", column.values), *expected, "{name}");
        }
    }

    #[test]
    fn ids_keep_their_digits() {
        struct Case(&'static str, ArrayRef, FieldType, &'static str);
        let decimals = |values: [i128; 2], precision, scale| -> ArrayRef {
            let column = Decimal128Array::from(values.to_vec());
            Arc::new(column.with_precision_and_scale(precision, scale).unwrap())
        };
        let large = [12_345_678_901_234_567_890_120, 12_345_678_901_234_567_890_121];
        let cases = [
            Case(
                "large",
                decimals(large, 38, 0),
                FieldType::Text,
                "Text(\"12345678901234567890120\") Text(\"12345678901234567890121\")",
            ),
            Case(
                "cents",
                decimals(large, 38, 2),
                FieldType::Text,
                "Text(\"123456789012345678901.20\") Text(\"123456789012345678901.21\")",
            ),
            Case(
                "small",
                decimals([9_007_199_254_740_993, -1], 18, 0),
                FieldType::Integer,
                "Integer(9007199254740993) Integer(-1)",
            ),
            Case(
                "bytes",
                Arc::new(BinaryArray::from_vec(vec![b"a", b"b"])),
                FieldType::Text,
                "Other(\"Binary\") Other(\"Binary\")",
            ),
        ];
        let batch = RecordBatch::try_from_iter(cases.iter().map(|c| (c.0, c.1.clone()))).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("t.parquet");
        let mut writer = ArrowWriter::try_new(std::fs::File::create(&path).unwrap(), batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        for (column, Case(name, _, kind, expected)) in cases.iter().enumerate() {
            let mut reader = Reader::open(&path, Format::Parquet, &Silent).unwrap();
            reader.read_exactly(column);
            assert_eq!(reader.field_type(column), *kind, "{name}");
            assert_eq!(reader.other_type(column).is_some(), *name == "bytes", "{name}");
            let mut found = Vec::new();
            let mut put = |index, cell: Cell<'_>| {
                if index == column {
                    found.push(format!("{cell:?}"));
                }
            };
            while reader.row(&mut put).unwrap() {}
            assert_eq!(found.join(" "), *expected, "{name}");
        }
    }

    #[test]
    fn a_truncated_file_is_an_error() {
        let column: ArrayRef = Arc::new(StringArray::from(vec!["a"; 100]));
        let batch = RecordBatch::try_from_iter([("x", column)]).unwrap();
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("t.parquet");
        for len in [4, 11, 12, 40, bytes.len() - 1] {
            std::fs::write(&path, &bytes[..len]).unwrap();
            let error = Table::read(&path, &Silent).unwrap_err();
            assert!(error.to_string().contains("t.parquet: "), "{error}");
        }
    }
}
