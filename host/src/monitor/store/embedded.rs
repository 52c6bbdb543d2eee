//! The store of a single process: one file, by [`redb`].
//!
//! redb is a B-tree in pure Rust whose pages are never overwritten while a
//! commit needs them, so that a kill at any time leaves the last durable
//! commit; its file format is stable, and a commit that is not durable costs
//! microseconds.
//!
//! What must not be lost (labels, parked ones too, sums, documents, parts) is durable when the
//! call returns; calls at the same time share one flush. Predictions and deltas
//! are durable with the next such call, at the latest with the first one that
//! comes [`FLUSH`] after the last flush. The order of commits is kept, so a
//! crash loses the end of what was done and nothing in the middle.
//!
//! Predictions, labels and instances lie in *slices*: a table for each eighth of
//! the time that they are kept, named after the time it was begun. A look-up
//! asks the slices from the newest on; what is over is dropped by whole tables,
//! whose pages are used again. Instances are bounded by number too: a slice
//! ends early when it has an eighth of them, and of nine the oldest is dropped. Keys that grow, as those of UUIDv7 do, are
//! appended to the newest slice.
//!
//! Leases are held in memory: only one process can have the file open.

use super::{Bucket, Change, Label, Labelled, Parked, Part, Result, Store, StoreError, Sums};
use crate::monitor::span::now;
use redb::backends::InMemoryBackend;
use redb::{
    Database, DatabaseError, Durability, Key, ReadOnlyTable, ReadTransaction, ReadableDatabase, ReadableTable,
    ReadableTableMetadata, StorageError, Table, TableDefinition, TableError, TableHandle, WriteTransaction,
};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::fs::OpenOptions;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// The version of the tables, in [`META`].
const FORMAT: u64 = 1;

/// The longest time between two flushes while something is written.
const FLUSH: Duration = Duration::from_secs(5);

/// What is read of the file is kept in memory up to this size in bytes.
const CACHE_BYTES: usize = 64 << 20;

/// How many rows of each kind [`Store::expire`] removes at most.
const EXPIRE_ROWS: usize = 1000;

const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
const DOCUMENTS: TableDefinition<&str, &[u8]> = TableDefinition::new("documents");
/// By model, seconds, start and writer: when it expires, and its bytes.
const PARTS: TableDefinition<BucketKey, &[u8]> = TableDefinition::new("parts");
/// By model, seconds, start and nothing: when they expire, and the sums.
const SUMS: TableDefinition<BucketKey, &[u8]> = TableDefinition::new("sums");
/// By kind, model and when the slice was begun: when it ends, and when all in
/// it has expired.
const SLICES: TableDefinition<(u8, &str, u64), (u64, u64)> = TableDefinition::new("slices");

type BucketKey = (&'static str, u32, u64, &'static str);

/// A kind of rows that lie in slices.
#[derive(Clone, Copy)]
enum Kind {
    Prediction = 1,
    Label = 2,
    Instance = 3,
    /// These lie in one slice, which is dropped with the last of them.
    Parked = 4,
}

/// The key of a prediction, and of a label: it and the row.
type PredictionKey = [u8; 16];
type LabelKey = [u8; 20];

/// A store in one file, or in memory.
pub struct Embedded {
    path: Option<PathBuf>,
    /// `None` while it could not be opened again after a failed write.
    open: RwLock<Option<Arc<Open>>>,
    leases: Mutex<HashMap<String, Lease>>,
}

struct Lease {
    holder: String,
    /// `None`: never.
    expires: Option<Instant>,
}

/// An open file, and which of its commits are safe.
struct Open {
    database: Database,
    /// How many write transactions were begun; changed only by who writes.
    begun: AtomicU64,
    /// Up to which of them all are durable.
    durable: AtomicU64,
    /// Held by who makes commits durable, for all who wait.
    flush: Mutex<Instant>,
}

impl Embedded {
    /// Opens the file; where there is none, or an empty one, it is made,
    /// readable for this user alone.
    ///
    /// # Errors
    /// The file cannot be made or read, is open in another process, is no store,
    /// or is one of a newer version.
    pub fn open(path: &Path) -> Result<Embedded> {
        Embedded::new(Some(path.to_owned()))
    }

    /// A store that is gone with the process.
    ///
    /// # Errors
    /// There is not enough memory.
    pub fn in_memory() -> Result<Embedded> {
        Embedded::new(None)
    }

    fn new(path: Option<PathBuf>) -> Result<Embedded> {
        let open = open_database(path.as_deref())?;
        Ok(Embedded {
            path,
            open: RwLock::new(Some(Arc::new(open))),
            leases: Mutex::default(),
        })
    }

    fn error(&self, error: impl fmt::Display) -> StoreError {
        named(self.path.as_deref(), error)
    }

    fn current(&self) -> Result<Arc<Open>> {
        let open = self.open.read().unwrap_or_else(PoisonError::into_inner).clone();
        match open {
            Some(open) => Ok(open),
            None => self.open_again(None),
        }
    }

    /// After a failed write, as on a full disk, redb takes no more of them until
    /// the file is opened anew, at its last durable commit.
    fn open_again(&self, failed: Option<Arc<Open>>) -> Result<Arc<Open>> {
        let mut slot = self.open.write().unwrap_or_else(PoisonError::into_inner);
        match (slot.take(), &failed) {
            (Some(open), Some(failed)) if Arc::ptr_eq(&open, failed) => {}
            (Some(open), _) => return Ok(slot.insert(open).clone()),
            (None, _) => {}
        }
        drop(failed);
        // Other threads may be about to find out that it failed: until they
        // have, the file is locked.
        let begun = Instant::now();
        loop {
            match open_database(self.path.as_deref()) {
                Ok(open) => return Ok(slot.insert(Arc::new(open)).clone()),
                Err(error) if begun.elapsed() > Duration::from_secs(2) => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(50)),
            }
        }
    }

    fn read(&self) -> Result<ReadTransaction> {
        self.current()?.database.begin_read().map_err(|e| self.error(e))
    }

    /// Runs `change` in a transaction. What it changed is durable on return if
    /// `durable` is set; nothing is changed if it fails.
    fn write<T>(&self, durable: bool, change: impl FnOnce(&WriteTransaction) -> Result<T, Error>) -> Result<T> {
        let mut open = self.current()?;
        let mut transaction = match open.database.begin_write() {
            Ok(transaction) => transaction,
            Err(_) if self.path.is_some() => {
                open = self.open_again(Some(open))?;
                open.database.begin_write().map_err(|e| self.error(e))?
            }
            Err(error) => return Err(self.error(error)),
        };
        // Until it is committed nobody else has a transaction that writes.
        let number = open.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let outcome = change(&transaction).and_then(|value| {
            transaction.set_durability(Durability::None)?;
            transaction.commit()?;
            Ok(value)
        });
        let value = outcome.map_err(|e| self.error(e))?;
        // Also who changed nothing may have seen, and will tell, what another
        // thread has committed but not made durable.
        open.flush(number, durable).map_err(|e| self.error(e))?;
        Ok(value)
    }

    fn leases(&self) -> MutexGuard<'_, HashMap<String, Lease>> {
        self.leases.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// Makes the commits up to this one durable, unless another thread has; if
    /// it is not `needed`, only when the last flush is long ago.
    fn flush(&self, number: u64, needed: bool) -> Result<(), Error> {
        let last = match needed {
            true => Some(self.flush.lock().unwrap_or_else(PoisonError::into_inner)),
            false => self.flush.try_lock().ok(),
        };
        let Some(mut last) = last else { return Ok(()) };
        if self.durable.load(Ordering::SeqCst) >= number || (!needed && last.elapsed() < FLUSH) {
            return Ok(());
        }
        let transaction = self.database.begin_write()?;
        let begun = self.begun.load(Ordering::SeqCst);
        transaction.commit()?;
        self.durable.store(begun, Ordering::SeqCst);
        *last = Instant::now();
        Ok(())
    }
}

/// What goes wrong within a transaction.
struct Error(String);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<E: std::error::Error> From<E> for Error {
    fn from(error: E) -> Error {
        Error(error.to_string())
    }
}

fn named(path: Option<&Path>, error: impl fmt::Display) -> StoreError {
    StoreError(match path {
        Some(path) => format!("store {}: {error}", path.display()),
        None => format!("store in memory: {error}"),
    })
}

fn open_database(path: Option<&Path>) -> Result<Open> {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    let database = match path {
        None => builder
            .create_with_backend(InMemoryBackend::new())
            .map_err(|e| e.to_string()),
        Some(path) => make_file(path)
            .and_then(|()| builder.create(path))
            .map_err(|e| why_not_open(&e)),
    };
    let named = |error: Error| named(path, error);
    let database = database.map_err(|e| named(Error(e)))?;
    prepare(&database).map_err(named)?;
    Ok(Open {
        database,
        begun: AtomicU64::new(0),
        durable: AtomicU64::new(0),
        flush: Mutex::new(Instant::now()),
    })
}

fn make_file(path: &Path) -> Result<(), DatabaseError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map_err(StorageError::from)?;
    Ok(())
}

fn why_not_open(error: &DatabaseError) -> String {
    match error {
        DatabaseError::DatabaseAlreadyOpen => "another process has it open".to_owned(),
        DatabaseError::UpgradeRequired(version) => {
            format!("it is written in version {version} of redb's format, which this modelet does not read")
        }
        DatabaseError::Storage(StorageError::Io(e)) if e.kind() == std::io::ErrorKind::InvalidData => {
            format!("it is not a store of modelet ({e})")
        }
        // Without the words of the wrapping error, which say no more.
        DatabaseError::Storage(StorageError::Io(e)) => e.to_string(),
        DatabaseError::Storage(StorageError::Corrupted(why)) => {
            format!("it is damaged, or not a store of modelet ({why})")
        }
        other => other.to_string(),
    }
}

/// Makes the tables of a new file, and checks those of another.
fn prepare(database: &Database) -> Result<(), Error> {
    let transaction = database.begin_write()?;
    let is_new = transaction.list_tables()?.next().is_none() && transaction.list_multimap_tables()?.next().is_none();
    if !is_new && !transaction.list_tables()?.any(|table| table.name() == META.name()) {
        return Err(Error(
            "it is not a store of modelet, but another program's redb file".to_owned(),
        ));
    }
    {
        let mut meta = transaction.open_table(META)?;
        if is_new {
            meta.insert("modelet", FORMAT)?;
        }
        let format = meta.get("modelet")?.map(|format| format.value());
        match format {
            Some(FORMAT) => {}
            Some(newer) if newer > FORMAT => {
                return Err(Error(format!(
                    "it is of version {newer}, but this modelet reads stores up to version {FORMAT}"
                )));
            }
            Some(_) | None => return Err(Error("it is not a store of modelet".to_owned())),
        }
        transaction.open_table(DOCUMENTS)?;
        transaction.open_table(PARTS)?;
        transaction.open_table(SUMS)?;
        transaction.open_table(SLICES)?;
    }
    transaction.commit()?;
    Ok(())
}

/// The second from which on something is gone that is kept from now.
fn expires(now: u64, keep: Duration) -> u64 {
    // Rows have room for this year 2106.
    now.saturating_add(keep.as_secs())
        .saturating_add(1)
        .min(u32::MAX.into())
}

/// A row's bytes: when it expires, and its value.
fn row(expires: u64, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(4 + value.len());
    put_row(&mut bytes, expires, value);
    bytes
}

fn put_row(bytes: &mut Vec<u8>, expires: u64, value: &[u8]) {
    bytes.clear();
    bytes.extend(u32::try_from(expires).unwrap_or(u32::MAX).to_le_bytes());
    bytes.extend(value);
}

fn split_row(row: &[u8]) -> Result<(u64, &[u8]), Error> {
    match row.split_first_chunk::<4>() {
        Some((expires, value)) => Ok((u32::from_le_bytes(*expires).into(), value)),
        None => Err(Error(format!("a row of {} bytes has no expiry", row.len()))),
    }
}

fn encoded(sums: &Sums) -> Vec<u8> {
    let pairs = sums
        .iter()
        .map(|(number, sum)| (number.to_le_bytes(), sum.to_le_bytes()));
    pairs.flat_map(|(number, sum)| number.into_iter().chain(sum)).collect()
}

fn decoded(bytes: &[u8]) -> Result<Sums, Error> {
    let (pairs, rest) = bytes.as_chunks::<12>();
    if !rest.is_empty() {
        return Err(Error(format!("sums of {} bytes are not pairs of 12", bytes.len())));
    }
    let pair = |pair: &[u8; 12]| {
        let (number, sum) = pair.split_at(4);
        Some((
            u32::from_le_bytes(number.try_into().ok()?),
            i64::from_le_bytes(sum.try_into().ok()?),
        ))
    };
    Ok(pairs.iter().filter_map(pair).collect())
}

fn slice_name(kind: u8, model: &str, begun: u64) -> String {
    format!("slice {kind} {begun} {model}")
}

/// The slices of a kind, as one who writes has them open.
struct Writing<'t, K: Key + 'static> {
    /// From the newest, which is written to, to the oldest.
    slices: Vec<Table<'t, K, &'static [u8]>>,
    now: u64,
    expires: u64,
}

impl<'t, K: Key + 'static> Writing<'t, K> {
    fn open(transaction: &'t WriteTransaction, kind: Kind, model: &str, keep: Duration) -> Result<Self, Error> {
        let now = now();
        let expires = expires(now, keep);
        let mut table = transaction.open_table(SLICES)?;
        let mut known = slices_of(&table, kind, model)?;
        let newest = known.first().copied();
        match newest {
            Some((begun, ends, last)) if now < ends => {
                if expires > last {
                    table.insert((kind as u8, model, begun), (ends, ends + (expires - now)))?;
                }
            }
            _ => {
                let begun = newest.map_or(now, |(begun, _, _)| now.max(begun + 1));
                let ends = begun + (keep.as_secs() / 8).clamp(1, u32::MAX.into());
                let last = ends + (expires - now);
                table.insert((kind as u8, model, begun), (ends, last))?;
                known.insert(0, (begun, ends, last));
            }
        }
        let open = |(begun, _, _): &(u64, u64, u64)| {
            Ok(transaction.open_table(TableDefinition::new(&slice_name(kind as u8, model, *begun)))?)
        };
        Ok(Writing {
            slices: known.iter().map(open).collect::<Result<_, Error>>()?,
            now,
            expires,
        })
    }

    fn get<'k>(&self, key: impl Fn() -> K::SelfType<'k>) -> Result<Option<Vec<u8>>, Error> {
        get(&self.slices, key, self.now)
    }

    fn put<'k>(&mut self, key: K::SelfType<'k>, value: &[u8]) -> Result<(), Error> {
        let row = row(self.expires, value);
        self.slices[0].insert(key, row.as_slice())?;
        Ok(())
    }
}

impl Writing<'_, PredictionKey> {
    /// Puts rows by key. Those after the last key that is there, which are most
    /// where keys grow, are appended.
    fn put_sorted(&mut self, rows: &[(PredictionKey, &[u8])]) -> Result<(), Error> {
        let slice = &mut self.slices[0];
        let last = slice.last()?.map(|(key, _)| key.value());
        let (within, after) = rows.split_at(rows.partition_point(|(key, _)| last.is_some_and(|last| *key <= last)));
        let mut bytes = Vec::new();
        for (key, value) in within {
            put_row(&mut bytes, self.expires, value);
            slice.insert(key, bytes.as_slice())?;
        }
        let mut end = slice.upper_bound_mut(Bound::<PredictionKey>::Unbounded)?;
        for (key, value) in after {
            put_row(&mut bytes, self.expires, value);
            end.insert_before(*key, bytes.as_slice())?;
        }
        end.close()?;
        Ok(())
    }
}

/// How many slices the rows of a kind that is bounded by number lie in, beside
/// the one that is being filled.
const FULL_SLICES: u64 = 8;

/// Ends the newest slice of a kind where it is full, and drops the oldest where
/// there are too many, so that with the next row there are at most `most`
/// beside those of one slice.
fn bound(transaction: &WriteTransaction, kind: Kind, model: &str, most: u64) -> Result<(), Error> {
    let mut table = transaction.open_table(SLICES)?;
    let known = slices_of(&table, kind, model)?;
    let Some(&(begun, ends, last)) = known.first() else {
        return Ok(());
    };
    let name = slice_name(kind as u8, model, begun);
    let rows = transaction
        .open_table(TableDefinition::<&[u8], &[u8]>::new(&name))?
        .len()?;
    if rows < (most / FULL_SLICES).max(1) {
        return Ok(());
    }
    let now = now();
    if now < ends {
        table.insert((kind as u8, model, begun), (now, last))?;
    }
    for &(begun, _, _) in known.iter().skip(FULL_SLICES as usize) {
        table.remove((kind as u8, model, begun))?;
        let name = slice_name(kind as u8, model, begun);
        transaction.delete_table(TableDefinition::<&[u8], &[u8]>::new(&name))?;
    }
    Ok(())
}

/// When the slices of a kind were begun, end, and have expired; the newest
/// first.
fn slices_of(
    table: &impl ReadableTable<(u8, &'static str, u64), (u64, u64)>,
    kind: Kind,
    model: &str,
) -> Result<Vec<(u64, u64, u64)>, Error> {
    let mut slices = Vec::new();
    for entry in table
        .range((kind as u8, model, 0)..=(kind as u8, model, u64::MAX))?
        .rev()
    {
        let (key, value) = entry?;
        let ((_, _, begun), (ends, expires)) = (key.value(), value.value());
        slices.push((begun, ends, expires));
    }
    Ok(slices)
}

/// A row's value in the newest slice that has it.
fn get<'k, K: Key + 'static>(
    slices: &[impl ReadableTable<K, &'static [u8]>],
    key: impl Fn() -> K::SelfType<'k>,
    now: u64,
) -> Result<Option<Vec<u8>>, Error> {
    for slice in slices {
        if let Some(found) = slice.get(key())? {
            let (expires, value) = split_row(found.value())?;
            return Ok((now < expires).then(|| value.to_vec()));
        }
    }
    Ok(None)
}

fn label_key(key: &PredictionKey, row: u32) -> LabelKey {
    let mut bytes = [0; 20];
    bytes[..16].copy_from_slice(key);
    bytes[16..].copy_from_slice(&row.to_be_bytes());
    bytes
}

fn parking(model: &str) -> String {
    slice_name(Kind::Parked as u8, model, 0)
}

/// The parked labels of a model to be written to, if it has any.
fn open_parked<'t>(
    transaction: &'t WriteTransaction,
    model: &str,
) -> Result<Option<Table<'t, LabelKey, &'static [u8]>>, Error> {
    let slices = transaction.open_table(SLICES)?;
    if slices.get((Kind::Parked as u8, model, 0))?.is_none() {
        return Ok(None);
    }
    Ok(Some(transaction.open_table(TableDefinition::new(&parking(model)))?))
}

/// Whether a table has this label parked.
fn is_parked(
    table: &impl ReadableTable<LabelKey, &'static [u8]>,
    key: LabelKey,
    value: &[u8],
    now: u64,
) -> Result<bool, Error> {
    let Some(found) = table.get(key)? else {
        return Ok(false);
    };
    let (expires, there) = split_row(found.value())?;
    Ok(now < expires && there == value)
}

impl Store for Embedded {
    fn file(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    fn put_parts(&self, parts: &[Part], keep: Duration) -> Result<()> {
        self.write(true, |transaction| {
            let expires = expires(now(), keep);
            let mut table = transaction.open_table(PARTS)?;
            for Part { bucket, writer, bytes } in parts {
                let key = (bucket.model.as_str(), bucket.seconds, bucket.start, writer.as_str());
                table.insert(key, row(expires, bytes).as_slice())?;
            }
            Ok(())
        })
    }

    fn parts(&self, model: &str, seconds: u32, from: u64, to: u64) -> Result<Vec<Part>> {
        let transaction = self.read()?;
        let read = || -> Result<Vec<Part>, Error> {
            let (table, now) = (transaction.open_table(PARTS)?, now());
            let mut parts = Vec::new();
            if from >= to {
                return Ok(parts);
            }
            for entry in table.range((model, seconds, from, "")..(model, seconds, to, ""))? {
                let (key, value) = entry?;
                let (_, _, start, writer) = key.value();
                let (expires, bytes) = split_row(value.value())?;
                if now < expires {
                    parts.push(Part {
                        bucket: Bucket {
                            model: model.to_owned(),
                            seconds,
                            start,
                        },
                        writer: writer.to_owned(),
                        bytes: bytes.to_vec(),
                    });
                }
            }
            Ok(parts)
        };
        read().map_err(|e| self.error(e))
    }

    fn put_predictions(&self, model: &str, predictions: &[([u8; 16], &[u8])], keep: Duration) -> Result<()> {
        if predictions.is_empty() {
            return Ok(());
        }
        self.write(false, |transaction| {
            let mut slices = Writing::<PredictionKey>::open(transaction, Kind::Prediction, model, keep)?;
            // The last of equal keys is the one that stays.
            let mut rows: Vec<(PredictionKey, &[u8])> = predictions.iter().rev().copied().collect();
            rows.sort_by_key(|(key, _)| *key);
            rows.dedup_by_key(|(key, _)| *key);
            slices.put_sorted(&rows)
        })
    }

    fn predictions(&self, model: &str, keys: &[[u8; 16]]) -> Result<Vec<Option<Vec<u8>>>> {
        let transaction = self.read()?;
        let read = || -> Result<Vec<Option<Vec<u8>>>, Error> {
            let now = now();
            let mut slices: Vec<ReadOnlyTable<PredictionKey, &[u8]>> = Vec::new();
            for (begun, _, _) in slices_of(&transaction.open_table(SLICES)?, Kind::Prediction, model)? {
                let name = slice_name(Kind::Prediction as u8, model, begun);
                match transaction.open_table(TableDefinition::new(&name)) {
                    Ok(slice) => slices.push(slice),
                    Err(TableError::TableDoesNotExist(_)) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            keys.iter().map(|key| get(&slices, || *key, now)).collect()
        };
        read().map_err(|e| self.error(e))
    }

    fn label(&self, labels: &[Label], keep: Duration) -> Result<Vec<Labelled>> {
        super::check(labels)?;
        self.write(true, |transaction| {
            let expires = expires(now(), keep);
            let mut slices: BTreeMap<&str, Writing<LabelKey>> = BTreeMap::new();
            let mut parked: BTreeMap<&str, Option<Table<LabelKey, &[u8]>>> = BTreeMap::new();
            let mut changed: BTreeMap<&Bucket, (u64, Sums)> = BTreeMap::new();
            let mut table = transaction.open_table(SUMS)?;
            let mut outcomes = Vec::with_capacity(labels.len());
            for label in labels {
                let model = label.model.as_str();
                if !slices.contains_key(model) {
                    slices.insert(model, Writing::open(transaction, Kind::Label, model, keep)?);
                    parked.insert(model, open_parked(transaction, model)?);
                }
                let slices = slices.get_mut(model).expect("it was inserted above");
                let parked = parked.get_mut(model).expect("it was inserted above");
                let key = label_key(&label.key, label.row);
                if let Some(value) = &label.parked {
                    let still = match parked {
                        Some(table) => is_parked(table, key, value, slices.now)?,
                        None => false,
                    };
                    if !still {
                        outcomes.push(Labelled::Gone);
                        continue;
                    }
                }
                let found = slices.get(|| key)?;
                if found != label.previous {
                    outcomes.push(Labelled::Found(found));
                    continue;
                }
                slices.put(key, &label.value)?;
                if let Some(table) = parked {
                    table.remove(key)?;
                }
                for (bucket, adds) in &label.adds {
                    if !changed.contains_key(bucket) {
                        let key = (bucket.model.as_str(), bucket.seconds, bucket.start, "");
                        let there = match table.get(key)? {
                            Some(row) => {
                                let (until, sums) = split_row(row.value())?;
                                (until, decoded(sums)?)
                            }
                            None => (0, Sums::new()),
                        };
                        changed.insert(bucket, there);
                    }
                    let (until, sums) = changed.get_mut(bucket).expect("it was inserted above");
                    if *until <= slices.now {
                        sums.clear();
                    }
                    *until = expires.max(*until);
                    for (number, add) in adds {
                        let sum = sums.entry(*number).or_default();
                        *sum = sum.checked_add(*add).ok_or_else(|| super::overflow(label, *number))?;
                    }
                }
                outcomes.push(Labelled::Counted);
            }
            for (bucket, (until, sums)) in changed {
                let key = (bucket.model.as_str(), bucket.seconds, bucket.start, "");
                table.insert(key, row(until, &encoded(&sums)).as_slice())?;
            }
            Ok(outcomes)
        })
    }

    fn park(&self, model: &str, labels: &[Parked], most: usize, keep: Duration) -> Result<Vec<bool>> {
        if labels.is_empty() {
            return Ok(Vec::new());
        }
        self.write(true, |transaction| {
            let now = now();
            let expires = expires(now, keep);
            let mut slices = transaction.open_table(SLICES)?;
            let slice = (Kind::Parked as u8, model, 0);
            let last = slices.get(slice)?.map_or(0, |slice| slice.value().1);
            slices.insert(slice, (u64::MAX, last.max(expires)))?;
            let name = parking(model);
            let mut table = transaction.open_table(TableDefinition::<LabelKey, &[u8]>::new(&name))?;
            if table.len()? + labels.len() as u64 > most as u64 {
                table.retain(|_, row| split_row(row).is_ok_and(|(expires, _)| now < expires))?;
            }
            let mut taken = Vec::with_capacity(labels.len());
            for label in labels {
                let key = label_key(&label.key, label.row);
                let fits = table.get(key)?.is_some() || table.len()? < most as u64;
                if fits {
                    table.insert(key, row(expires, &label.value).as_slice())?;
                }
                taken.push(fits);
            }
            Ok(taken)
        })
    }

    fn parked(&self, model: &str) -> Result<Vec<Parked>> {
        let transaction = self.read()?;
        let read = || -> Result<Vec<Parked>, Error> {
            let (name, now) = (parking(model), now());
            let table = match transaction.open_table(TableDefinition::<LabelKey, &[u8]>::new(&name)) {
                Ok(table) => table,
                Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
                Err(error) => return Err(error.into()),
            };
            let mut labels = Vec::new();
            for entry in table.iter()? {
                let (key, value) = entry?;
                let (expires, value) = split_row(value.value())?;
                let key = key.value();
                if let (true, Some((key, row))) = (now < expires, key.split_first_chunk::<16>()) {
                    labels.push(Parked {
                        key: *key,
                        row: row.iter().fold(0, |row, byte| row << 8 | u32::from(*byte)),
                        value: value.to_vec(),
                    });
                }
            }
            Ok(labels)
        };
        read().map_err(|e| self.error(e))
    }

    fn unpark(&self, model: &str, labels: &[Parked]) -> Result<Vec<bool>> {
        if labels.is_empty() {
            return Ok(Vec::new());
        }
        self.write(true, |transaction| {
            let Some(mut table) = open_parked(transaction, model)? else {
                return Ok(vec![false; labels.len()]);
            };
            let now = now();
            let mut removed = Vec::with_capacity(labels.len());
            for label in labels {
                let key = label_key(&label.key, label.row);
                let still = is_parked(&table, key, &label.value, now)?;
                if still {
                    table.remove(key)?;
                }
                removed.push(still);
            }
            Ok(removed)
        })
    }

    fn sums(&self, model: &str, seconds: u32, from: u64, to: u64) -> Result<Vec<(u64, Sums)>> {
        let transaction = self.read()?;
        let read = || -> Result<Vec<(u64, Sums)>, Error> {
            let (table, now) = (transaction.open_table(SUMS)?, now());
            let mut buckets = Vec::new();
            if from >= to {
                return Ok(buckets);
            }
            for entry in table.range((model, seconds, from, "")..(model, seconds, to, ""))? {
                let (key, value) = entry?;
                let (expires, sums) = split_row(value.value())?;
                if now < expires {
                    buckets.push((key.value().2, decoded(sums)?));
                }
            }
            Ok(buckets)
        };
        read().map_err(|e| self.error(e))
    }

    fn advance(&self, instance: &str, sequence: u64, keep: Duration, most: u64) -> Result<bool> {
        self.write(false, |transaction| {
            bound(transaction, Kind::Instance, "", most)?;
            let mut slices = Writing::<&[u8]>::open(transaction, Kind::Instance, "", keep)?;
            let key = instance.as_bytes();
            let seen = match slices.get(|| key)? {
                None => None,
                Some(bytes) => match bytes.try_into() {
                    Ok(bytes) => Some(u64::from_le_bytes(bytes)),
                    Err(_) => return Err(Error(format!("instance {instance:?} has no sequence number"))),
                },
            };
            if seen.is_some_and(|seen| sequence <= seen) {
                return Ok(false);
            }
            slices.put(key, &sequence.to_le_bytes())?;
            Ok(true)
        })
    }

    fn lease(&self, name: &str, holder: &str, keep: Duration) -> Result<bool> {
        let (mut leases, now) = (self.leases(), Instant::now());
        let is_anothers = |lease: &Lease| lease.holder != holder && lease.expires.is_none_or(|at| now < at);
        if leases.get(name).is_some_and(is_anothers) {
            return Ok(false);
        }
        let lease = Lease {
            holder: holder.to_owned(),
            expires: now.checked_add(keep),
        };
        leases.insert(name.to_owned(), lease);
        Ok(true)
    }

    fn release(&self, name: &str, holder: &str) -> Result<()> {
        let mut leases = self.leases();
        if leases.get(name).is_some_and(|lease| lease.holder == holder) {
            leases.remove(name);
        }
        Ok(())
    }

    fn documents(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>> {
        let transaction = self.read()?;
        let read = || -> Result<Vec<(String, Vec<u8>)>, Error> {
            let mut documents = Vec::new();
            for entry in transaction.open_table(DOCUMENTS)?.range(prefix..)? {
                let (name, bytes) = entry?;
                if !name.value().starts_with(prefix) {
                    break;
                }
                documents.push((name.value().to_owned(), bytes.value().to_vec()));
            }
            Ok(documents)
        };
        read().map_err(|e| self.error(e))
    }

    fn change(&self, changes: &[Change]) -> Result<()> {
        self.write(true, |transaction| {
            let mut table = transaction.open_table(DOCUMENTS)?;
            for (name, bytes) in changes {
                match bytes {
                    Some(bytes) => table.insert(name.as_str(), bytes.as_slice())?,
                    None => table.remove(name.as_str())?,
                };
            }
            Ok(())
        })
    }

    fn create(&self, name: &str, bytes: &[u8]) -> Result<bool> {
        self.write(true, |transaction| {
            let mut table = transaction.open_table(DOCUMENTS)?;
            if table.get(name)?.is_some() {
                return Ok(false);
            }
            table.insert(name, bytes)?;
            Ok(true)
        })
    }

    fn expire(&self) -> Result<()> {
        let (now, instant) = (now(), Instant::now());
        self.leases()
            .retain(|_, lease| lease.expires.is_none_or(|at| instant < at));
        let transaction = self.read()?;
        let read = || -> Result<(Vec<Over>, bool), Error> {
            let rows = !over_buckets(&transaction.open_table(PARTS)?, now, 1)?.is_empty()
                || !over_buckets(&transaction.open_table(SUMS)?, now, 1)?.is_empty();
            Ok((over_slices(&transaction.open_table(SLICES)?, now)?, rows))
        };
        let (slices, rows) = read().map_err(|e| self.error(e))?;
        drop(transaction);
        // A transaction for each, between which others may write.
        for (kind, model, begun) in slices.into_iter().take(4) {
            self.write(false, |transaction| {
                transaction.open_table(SLICES)?.remove((kind, model.as_str(), begun))?;
                let name = slice_name(kind, &model, begun);
                transaction.delete_table(TableDefinition::<&[u8], &[u8]>::new(&name))?;
                Ok(())
            })?;
        }
        if !rows {
            return Ok(());
        }
        self.write(false, |transaction| {
            for definition in [PARTS, SUMS] {
                let mut table = transaction.open_table(definition)?;
                for (model, seconds, start, writer) in over_buckets(&table, now, EXPIRE_ROWS)? {
                    table.remove((model.as_str(), seconds, start, writer.as_str()))?;
                }
            }
            Ok(())
        })
    }
}

/// A slice: its kind, model and begin.
type Over = (u8, String, u64);

fn over_slices(table: &impl ReadableTable<(u8, &'static str, u64), (u64, u64)>, now: u64) -> Result<Vec<Over>, Error> {
    let mut over = Vec::new();
    for entry in table.iter()? {
        let (key, value) = entry?;
        let ((kind, model, begun), (_, expires)) = (key.value(), value.value());
        if expires <= now {
            over.push((kind, model.to_owned(), begun));
        }
    }
    Ok(over)
}

/// The keys of a table of buckets that have expired, up to so many. Of each model and length
/// the oldest are looked at, up to the first that has not.
fn over_buckets(
    table: &impl ReadableTable<BucketKey, &'static [u8]>,
    now: u64,
    most: usize,
) -> Result<Vec<(String, u32, u64, String)>, Error> {
    let mut over = Vec::new();
    let mut from = Some((String::new(), 0));
    while let Some((model, seconds)) = from.take() {
        let mut group: Option<(String, u32)> = None;
        for entry in table.range((model.as_str(), seconds, 0, "")..)? {
            let (key, value) = entry?;
            let (model, seconds, start, writer) = key.value();
            let same = group.get_or_insert_with(|| (model.to_owned(), seconds));
            if *same != (model.to_owned(), seconds) {
                from = Some((model.to_owned(), seconds));
                break;
            }
            if split_row(value.value())?.0 > now {
                from = Some(after(same));
                break;
            }
            over.push((model.to_owned(), seconds, start, writer.to_owned()));
            if over.len() == most {
                return Ok(over);
            }
        }
    }
    Ok(over)
}

/// The least model and length after these.
fn after((model, seconds): &(String, u32)) -> (String, u32) {
    match seconds.checked_add(1) {
        Some(seconds) => (model.clone(), seconds),
        None => (format!("{model}\0"), 0),
    }
}

#[cfg(test)]
mod tests {
    use super::super::suite;
    use super::*;
    use std::fs;

    const LONG: Duration = Duration::from_secs(3600);

    fn refused(path: &Path) -> String {
        match Embedded::open(path) {
            Ok(_) => panic!("{} was opened", path.display()),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn memory_does_what_a_store_must() {
        suite::run(&Embedded::in_memory().expect("a store is made"));
    }

    #[test]
    fn instances_in_memory_are_bounded_by_number() {
        let store = Embedded::in_memory().expect("a store is made");
        suite::instances_are_bounded(&store);
        let transaction = store.read().expect("it is read");
        let tables = transaction.list_tables().expect("they are listed");
        let slices = tables.filter(|table| table.name().starts_with("slice 3 ")).count();
        assert!(slices <= 9, "{slices} slices");
    }

    #[test]
    fn a_file_does_what_a_store_must() {
        let folder = tempfile::tempdir().expect("a folder is made");
        suite::run(&Embedded::open(&folder.path().join("state")).expect("a store is made"));
    }

    #[test]
    fn all_of_it_is_there_when_a_file_is_opened_again() {
        let folder = tempfile::tempdir().expect("a folder is made");
        let path = folder.path().join("state");
        let predictions: Vec<_> = (0..3000).map(|i| (suite::key(i), vec![i as u8])).collect();
        let keys: Vec<_> = predictions.iter().map(|(key, _)| *key).collect();
        let label = suite::label("m", 1, b"x", &[(1, 7)]);
        for opened in 0..3u64 {
            let store = Embedded::open(&path).expect("the store is opened");
            if opened == 0 {
                store
                    .put_parts(&[suite::part("m", 0, "w", b"p")], LONG)
                    .expect("a part is put");
                store.label(std::slice::from_ref(&label), LONG).expect("a label is put");
                store.create("d", b"doc").expect("a document is made");
                // The last is not durable before the store is closed.
                suite::put_predictions(&store, "m", &predictions, LONG);
            }
            assert_eq!(store.parts("m", 60, 0, 1).expect("parts are read").len(), 1);
            assert_eq!(suite::sums(&store, "m"), Sums::from([(1, 7)]));
            assert_eq!(store.documents("").expect("documents are read").len(), 1);
            let found = store.predictions("m", &keys).expect("predictions are read");
            assert!(
                found
                    .iter()
                    .zip(&predictions)
                    .all(|(found, (_, value))| found.as_ref() == Some(value))
            );
            let again = store.label(std::slice::from_ref(&label), LONG).expect("a label is put");
            assert_eq!(again, [Labelled::Found(Some(b"x".to_vec()))]);
            assert!(store.advance("i", opened, LONG, suite::MANY).expect("it is noted"));
            assert!(!store.advance("i", opened, LONG, suite::MANY).expect("it is noted"));
        }
    }

    #[test]
    fn what_cannot_be_opened_is_named_with_its_path() {
        let folder = tempfile::tempdir().expect("a folder is made");
        let path = folder.path().join("state");
        let shown = path.display().to_string();

        let held = Embedded::open(&path).expect("the store is made");
        assert_eq!(refused(&path), format!("store {shown}: another process has it open"));
        drop(held);
        Embedded::open(&path).expect("nobody has it open any more");

        for content in ["a text\n".to_owned(), "x".repeat(200_000)] {
            fs::write(&path, content).expect("the file is written");
            let why = refused(&path);
            assert!(
                why.starts_with(&format!("store {shown}: it is not a store of modelet")),
                "{why}"
            );
        }

        fs::remove_file(&path).expect("the file is removed");
        {
            let foreign = Database::create(&path).expect("a redb file is made");
            let transaction = foreign.begin_write().expect("it is written to");
            let table = TableDefinition::<&str, u64>::new("theirs");
            transaction
                .open_table(table)
                .expect("a table is made")
                .insert("a", 1)
                .expect("a row is put");
            transaction.commit().expect("it is committed");
        }
        assert_eq!(
            refused(&path),
            format!("store {shown}: it is not a store of modelet, but another program's redb file")
        );

        fs::remove_file(&path).expect("the file is removed");
        drop(Embedded::open(&path).expect("the store is made"));
        {
            let database = Database::create(&path).expect("the file is opened");
            let transaction = database.begin_write().expect("it is written to");
            transaction
                .open_table(META)
                .expect("it is there")
                .insert("modelet", 7)
                .expect("a row is put");
            transaction.commit().expect("it is committed");
        }
        assert_eq!(
            refused(&path),
            format!("store {shown}: it is of version 7, but this modelet reads stores up to version {FORMAT}")
        );

        let why = refused(&folder.path().join("no/such/folder"));
        assert!(
            why.contains("no/such/folder: ") && why.contains("No such file"),
            "{why}"
        );
        let why = refused(folder.path());
        assert!(
            why.starts_with(&format!("store {}: ", folder.path().display())),
            "{why}"
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_new_file_is_for_its_user_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a folder is made");
        let path = folder.path().join("state");
        drop(Embedded::open(&path).expect("the store is made"));
        let mode = fs::metadata(&path).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn expired_rows_leave_the_file_and_their_space_is_used_again() {
        let folder = tempfile::tempdir().expect("a folder is made");
        let path = folder.path().join("state");
        let store = Embedded::open(&path).expect("the store is made");
        let keep = Duration::from_secs(1);
        let rows = || -> u64 {
            let transaction = store.read().expect("it is read");
            let stats = |definition| {
                let table = transaction.open_table(definition).expect("it is there");
                redb::ReadableTableMetadata::len(&table).expect("it has a length")
            };
            let slices = transaction.open_table(SLICES).expect("it is there");
            stats(PARTS) + stats(SUMS) + redb::ReadableTableMetadata::len(&slices).expect("it has a length")
        };
        let mut sizes = Vec::new();
        for round in 0..6u64 {
            let predictions: Vec<_> = (0..20_000)
                .map(|i| (suite::key(round * 20_000 + i), vec![0; 24]))
                .collect();
            suite::put_predictions(&store, "m", &predictions, keep);
            let parts: Vec<_> = (0..500).map(|i| suite::part("m", i * 60, "w", &[0; 2000])).collect();
            store.put_parts(&parts, keep).expect("parts are put");
            store
                .put_parts(&[suite::part("n", 60, "w", &[0; 2000])], keep)
                .expect("parts are put");
            store
                .label(&[suite::label("m", round, b"x", &[(1, 1)])], keep)
                .expect("a label is put");
            assert!(rows() >= 504);
            std::thread::sleep(Duration::from_millis(3300));
            store.expire().expect("it expires");
            assert_eq!(rows(), 0);
            store.put_parts(&[], keep).expect("it is flushed");
            sizes.push(fs::metadata(&path).expect("it is there").len());
        }
        assert!(sizes[5] <= sizes[1], "the file grows: {sizes:?}");
    }

    #[test]
    fn expiry_removes_a_bounded_number_of_rows_at_a_time() {
        let store = Embedded::in_memory().expect("a store is made");
        let parts: Vec<_> = (0..EXPIRE_ROWS as u64 + 10)
            .map(|i| suite::part("m", i * 60, "w", b"p"))
            .collect();
        store.put_parts(&parts, Duration::from_secs(1)).expect("parts are put");
        std::thread::sleep(Duration::from_millis(2200));
        let left = || {
            let transaction = store.read().expect("it is read");
            let table = transaction.open_table(PARTS).expect("it is there");
            redb::ReadableTableMetadata::len(&table).expect("it has a length")
        };
        store.expire().expect("it expires");
        assert_eq!(left(), 10);
        store.expire().expect("it expires");
        assert_eq!(left(), 0);
    }
}
