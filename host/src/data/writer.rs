//! Writing a table row by row.

use super::{Cell, DataError, DataErrorKind, Format, is_standard};
use ::parquet::arrow::ArrowWriter;
use ::parquet::basic::Compression;
use ::parquet::file::properties::WriterProperties;
use arrow_array::RecordBatch;
use arrow_array::builder::{ArrayBuilder, BooleanBuilder, Float64Builder, Int64Builder, StringBuilder};
use arrow_schema::{DataType, Schema};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempPath;

const ROWS_AT_ONCE: usize = 4096;

/// A column to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its type, which Parquet needs; CSV and NDJSON write each cell by its
    /// own.
    pub kind: FieldType,
}

/// The type of a column to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldType {
    /// Integers of 64 bits.
    Integer,
    /// binary64.
    Number,
    /// Booleans.
    Boolean,
    /// Text; other cells are written as text.
    Text,
}

/// Writes a table row by row.
///
/// A file gets its name at the end: until [`Writer::finish`] nothing is there,
/// or what was there before.
pub struct Writer {
    path: PathBuf,
    sink: Sink,
    names: Vec<String>,
    /// Where the rows are until the file is finished.
    unfinished: Option<(TempPath, PathBuf)>,
}

enum Sink {
    Csv(Box<csv::Writer<Target>>),
    Ndjson(BufWriter<Target>),
    Parquet {
        writer: Box<ArrowWriter<Target>>,
        columns: Vec<ColumnBuilder>,
        schema: Arc<Schema>,
    },
}

enum Target {
    File(File),
    Stdout(std::io::Stdout),
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Target::File(file) => file.write(bytes),
            Target::Stdout(out) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Target::File(file) => file.flush(),
            Target::Stdout(out) => out.flush(),
        }
    }
}

impl Writer {
    /// Begins a file, or standard output for `-`, with these columns.
    ///
    /// # Errors
    /// When the file can't be created.
    pub fn create(path: &Path, format: Format, fields: &[Field]) -> Result<Writer, DataError> {
        let (target, unfinished) = target(path).map_err(|e| DataError::new(path, DataErrorKind::Write(e)))?;
        let names: Vec<String> = fields.iter().map(|field| field.name.clone()).collect();
        let sink = match format {
            Format::Csv => {
                let mut writer = csv::Writer::from_writer(target);
                writer.write_record(&names).map_err(|e| csv_failed(path, e))?;
                Sink::Csv(Box::new(writer))
            }
            Format::Ndjson => Sink::Ndjson(BufWriter::new(target)),
            Format::Parquet => {
                let columns: Vec<ColumnBuilder> = fields.iter().map(|field| ColumnBuilder::new(field.kind)).collect();
                let schema = Arc::new(Schema::new(
                    fields
                        .iter()
                        .zip(&columns)
                        .map(|(field, column)| arrow_schema::Field::new(&field.name, column.dtype(), true))
                        .collect::<Vec<_>>(),
                ));
                let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
                let writer = ArrowWriter::try_new(target, schema.clone(), Some(properties))
                    .map_err(|e| DataError::new(path, DataErrorKind::Parquet(e)))?;
                Sink::Parquet {
                    writer: Box::new(writer),
                    columns,
                    schema,
                }
            }
        };
        Ok(Writer {
            path: path.to_owned(),
            sink,
            names,
            unfinished,
        })
    }

    /// Writes a row, one cell a column.
    ///
    /// # Errors
    /// When it can't be written, or a cell is not of its column's type.
    pub fn row(&mut self, cells: &[Cell<'_>]) -> Result<(), DataError> {
        let path = &self.path;
        match &mut self.sink {
            Sink::Csv(writer) => {
                let mut number = Vec::new();
                for &cell in cells {
                    number.clear();
                    let written = match cell {
                        Cell::Number(value) if !value.is_finite() => writer.write_field(""),
                        Cell::Number(value) => {
                            modelet::api::json::f64(&mut number, value);
                            writer.write_field(&number)
                        }
                        cell => writer.write_field(cell.to_string()),
                    };
                    written.map_err(|e| csv_failed(path, e))?;
                }
                writer.write_record(None::<&[u8]>).map_err(|e| csv_failed(path, e))
            }
            Sink::Ndjson(writer) => {
                let mut line = vec![b'{'];
                for (i, (name, &cell)) in self.names.iter().zip(cells).enumerate() {
                    if i > 0 {
                        line.push(b',');
                    }
                    modelet::api::json::text(&mut line, name);
                    line.push(b':');
                    json(&mut line, cell);
                }
                line.extend_from_slice(b"}\n");
                writer.write_all(&line).map_err(|e| failed(path, e))
            }
            Sink::Parquet {
                writer,
                columns,
                schema,
            } => {
                for ((column, &cell), name) in columns.iter_mut().zip(cells).zip(&self.names) {
                    column.append(cell).map_err(|what| {
                        let kind = DataErrorKind::Convert {
                            column: name.clone(),
                            dtype: column.dtype().to_string(),
                            what,
                        };
                        DataError::new(path, kind)
                    })?;
                }
                if columns.first().is_some_and(|column| column.len() >= ROWS_AT_ONCE) {
                    flush(path, writer, columns, schema)?;
                }
                Ok(())
            }
        }
    }

    /// Writes what is left and gives the file its name.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn finish(self) -> Result<(), DataError> {
        let path = &self.path;
        match self.sink {
            Sink::Csv(mut writer) => writer.flush().map_err(|e| failed(path, e))?,
            Sink::Ndjson(mut writer) => writer.flush().map_err(|e| failed(path, e))?,
            Sink::Parquet {
                mut writer,
                mut columns,
                schema,
            } => {
                flush(path, &mut writer, &mut columns, &schema)?;
                let mut target = writer
                    .into_inner()
                    .map_err(|e| DataError::new(path, DataErrorKind::Parquet(e)))?;
                target.flush().map_err(|e| failed(path, e))?;
            }
        }
        if let Some((unfinished, end)) = self.unfinished {
            unfinished.persist(end).map_err(|e| failed(path, e.error))?;
        }
        Ok(())
    }
}

/// What to write to: a file beside the one to be, or that itself where it is
/// not a regular file, such as a pipe.
fn target(path: &Path) -> std::io::Result<(Target, Option<(TempPath, PathBuf)>)> {
    if is_standard(path) {
        return Ok((Target::Stdout(std::io::stdout()), None));
    }
    let existing = path.metadata().ok();
    if existing.as_ref().is_some_and(|metadata| !metadata.is_file()) {
        return Ok((Target::File(File::options().write(true).open(path)?), None));
    }
    // A link keeps pointing to the file, which is what gets replaced.
    let end = match existing {
        Some(_) => path.canonicalize()?,
        None => path.to_owned(),
    };
    let directory = match end.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut builder = tempfile::Builder::new();
    builder.prefix(".modelet-");
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    directory.metadata()?;
    let file = builder.tempfile_in(directory);
    // The full error names the unfinished file, which nobody chose.
    let (file, unfinished) = file.map_err(|e| std::io::Error::from(e.kind()))?.into_parts();
    Ok((Target::File(file), Some((unfinished, end))))
}

fn failed(path: &Path, e: std::io::Error) -> DataError {
    DataError::new(path, DataErrorKind::Write(e))
}

fn csv_failed(path: &Path, e: csv::Error) -> DataError {
    failed(
        path,
        match e.into_kind() {
            csv::ErrorKind::Io(e) => e,
            other => std::io::Error::other(format!("{other:?}")),
        },
    )
}

fn json(out: &mut Vec<u8>, cell: Cell<'_>) {
    match cell {
        Cell::Missing | Cell::Other(_) => out.extend_from_slice(b"null"),
        Cell::Boolean(value) => out.extend_from_slice(if value { b"true" } else { b"false" }),
        Cell::Integer(value) => modelet::api::json::integer(out, value),
        Cell::Number(value) => modelet::api::json::f64(out, value),
        Cell::Text(text) | Cell::Csv(text) => modelet::api::json::text(out, text),
    }
}

fn flush(
    path: &Path,
    writer: &mut ArrowWriter<Target>,
    columns: &mut [ColumnBuilder],
    schema: &Arc<Schema>,
) -> Result<(), DataError> {
    let arrays = columns.iter_mut().map(|column| column.builder().finish()).collect();
    let batch =
        RecordBatch::try_new(schema.clone(), arrays).expect("the columns are of the schema's types and equally long");
    writer
        .write(&batch)
        .map_err(|e| DataError::new(path, DataErrorKind::Parquet(e)))
}

enum ColumnBuilder {
    Integer(Int64Builder),
    Number(Float64Builder),
    Boolean(BooleanBuilder),
    Text(StringBuilder),
}

impl ColumnBuilder {
    fn new(kind: FieldType) -> ColumnBuilder {
        match kind {
            FieldType::Integer => ColumnBuilder::Integer(Int64Builder::new()),
            FieldType::Number => ColumnBuilder::Number(Float64Builder::new()),
            FieldType::Boolean => ColumnBuilder::Boolean(BooleanBuilder::new()),
            FieldType::Text => ColumnBuilder::Text(StringBuilder::new()),
        }
    }

    fn dtype(&self) -> DataType {
        match self {
            ColumnBuilder::Integer(_) => DataType::Int64,
            ColumnBuilder::Number(_) => DataType::Float64,
            ColumnBuilder::Boolean(_) => DataType::Boolean,
            ColumnBuilder::Text(_) => DataType::Utf8,
        }
    }

    fn builder(&mut self) -> &mut dyn ArrayBuilder {
        match self {
            ColumnBuilder::Integer(v) => v,
            ColumnBuilder::Number(v) => v,
            ColumnBuilder::Boolean(v) => v,
            ColumnBuilder::Text(v) => v,
        }
    }

    fn len(&self) -> usize {
        match self {
            ColumnBuilder::Integer(v) => v.len(),
            ColumnBuilder::Number(v) => v.len(),
            ColumnBuilder::Boolean(v) => v.len(),
            ColumnBuilder::Text(v) => v.len(),
        }
    }

    fn append(&mut self, cell: Cell<'_>) -> Result<(), String> {
        match (self, cell) {
            (ColumnBuilder::Integer(v), Cell::Missing) => v.append_null(),
            (ColumnBuilder::Number(v), Cell::Missing) => v.append_null(),
            (ColumnBuilder::Boolean(v), Cell::Missing) => v.append_null(),
            (ColumnBuilder::Text(v), Cell::Missing) => v.append_null(),
            (ColumnBuilder::Integer(v), Cell::Integer(value)) => match i64::try_from(value) {
                Ok(value) => v.append_value(value),
                Err(_) => return Err(format!("can't hold {}", super::describe(cell))),
            },
            (ColumnBuilder::Number(v), Cell::Number(value)) => v.append_value(value),
            (ColumnBuilder::Number(v), Cell::Integer(value)) => v.append_value(value as f64),
            (ColumnBuilder::Boolean(v), Cell::Boolean(value)) => v.append_value(value),
            (ColumnBuilder::Text(v), cell) => v.append_value(cell.to_string()),
            (_, cell) => return Err(format!("can't hold {}", super::describe(cell))),
        }
        Ok(())
    }
}
