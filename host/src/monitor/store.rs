//! Where the monitor keeps what must outlive a process, and what replicas
//! share.
//!
//! Two kinds of counts are kept. *Observations* are written by one process
//! each: the writer replaces its own part of a bucket by a larger one, so a
//! write may be repeated, and a bucket is the sum of its parts. *Truth* is
//! added to, together with the labels that it was counted from, so that a
//! label is counted once whoever brings it.
//!
//! A time to keep something counts from the call; what was kept that long may
//! be there for a little longer where no function returns it.
//!
//! All functions block; the monitor calls them on a thread of its own.

mod embedded;
mod redis;
#[cfg(test)]
mod suite;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub use embedded::Embedded;
pub use redis::Redis;

/// A bucket: some seconds of one model.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bucket {
    /// SHA-256 of the model's bundle, hexadecimal.
    pub model: String,
    /// Its length in seconds.
    pub seconds: u32,
    /// Its begin, in seconds since 1970, a multiple of `seconds`.
    pub start: u64,
}

/// A writer's part of a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The bucket.
    pub bucket: Bucket,
    /// Who counted it: a process, and a source of observations.
    pub writer: String,
    /// What was counted.
    pub bytes: Vec<u8>,
}

/// Sums of ground truth, by a number that says what is summed.
pub type Sums = BTreeMap<u32, i64>;

/// A label for an earlier prediction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// SHA-256 of the model's bundle, hexadecimal.
    pub model: String,
    /// The prediction's key; see [`Store::put_predictions`].
    pub key: [u8; 16],
    /// The row within the prediction's request.
    pub row: u32,
    /// The label that is expected to be there already, another than `value`; a
    /// first one is counted only where there is none.
    pub previous: Option<Vec<u8>>,
    /// The label.
    pub value: Vec<u8>,
    /// What it adds to the sums of these buckets.
    pub adds: Vec<(Bucket, Sums)>,
    /// The parked label that this is, which must still be the one that is parked;
    /// see [`Store::park`]. Nothing if it was told just now.
    pub parked: Option<Vec<u8>>,
}

/// A label that came before its prediction.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Parked {
    /// The prediction's key; see [`Store::put_predictions`].
    pub key: [u8; 16],
    /// The row within the prediction's request.
    pub row: u32,
    /// The label, and whatever else is to be known of it.
    pub value: Vec<u8>,
}

/// What became of a label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Labelled {
    /// It is kept and counted.
    Counted,
    /// There is another than the expected one, or, if one was expected, none;
    /// nothing was changed. It may be the label itself: somebody, perhaps this
    /// very caller whose connection broke, has brought it before.
    Found(Option<Vec<u8>>),
    /// It is no longer parked: it was counted, or another was told since.
    /// Nothing was changed.
    Gone,
}

/// Why the store did not do what it was asked.
#[derive(Debug)]
pub struct StoreError(pub String);

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for StoreError {}

/// Shorthand.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// A change to the documents: `None` removes one.
pub type Change = (String, Option<Vec<u8>>);

/// Where the monitor keeps its state: one file for one process, or a server
/// that replicas share.
pub trait Store: Send + Sync {
    /// Replaces writers' parts of buckets; they are kept for `keep`. When it
    /// returns, they, and the predictions and deltas noted before, are as safe
    /// as this store makes anything.
    fn put_parts(&self, parts: &[Part], keep: Duration) -> Result<()>;

    /// All parts of the buckets of this model and length that start in
    /// `[from, to)`, by start.
    fn parts(&self, model: &str, seconds: u32, from: u64, to: u64) -> Result<Vec<Part>>;

    /// Keeps predictions for `keep`, so that labels can be joined to them. The
    /// key is the prediction id's UUID, or a hash of another id; a later
    /// prediction of the same key replaces an earlier one. A crash may lose the
    /// last seconds of them.
    fn put_predictions(&self, model: &str, predictions: &[([u8; 16], &[u8])], keep: Duration) -> Result<()>;

    /// The predictions of these keys.
    fn predictions(&self, model: &str, keys: &[[u8; 16]]) -> Result<Vec<Option<Vec<u8>>>>;

    /// Keeps labels for `keep` and counts them in their order, each label with
    /// all its sums or not at all; the sums are kept for `keep` too. No label of
    /// the same row is parked any more then. When it returns, they are as safe as
    /// this store makes anything.
    ///
    /// # Errors
    /// Also for a sum beyond an `i64`, and for a label whose `previous` is its
    /// `value`. Some of the labels may have been counted then; to bring all of
    /// them once more is right.
    fn label(&self, labels: &[Label], keep: Duration) -> Result<Vec<Labelled>>;

    /// Parks labels whose predictions are not here, or not yet, each in the place
    /// of an earlier one of the same row, for `keep` and for as long as others of
    /// the model are parked: which of them are parked now. No more than `most` of
    /// a model are. When it returns, they are as safe as this store makes
    /// anything.
    fn park(&self, model: &str, labels: &[Parked], most: usize, keep: Duration) -> Result<Vec<bool>>;

    /// The labels that are parked of this model, by key and row.
    fn parked(&self, model: &str) -> Result<Vec<Parked>>;

    /// Forgets parked labels that are still the ones that are parked: which were.
    fn unpark(&self, model: &str, labels: &[Parked]) -> Result<Vec<bool>>;

    /// The sums of the buckets of this model and length that start in
    /// `[from, to)`, by start.
    fn sums(&self, model: &str, seconds: u32, from: u64, to: u64) -> Result<Vec<(u64, Sums)>>;

    /// Notes that this delta of an instance was seen. `false` if it, or a later
    /// one, was seen before. An instance is forgotten after `keep`, and those
    /// heard of longest ago are when there are more than `most`, give or take an
    /// eighth. A crash may lose the last seconds of these notes.
    fn advance(&self, instance: &str, sequence: u64, keep: Duration, most: u64) -> Result<bool>;

    /// Takes or prolongs a lease for `keep`; `false` while another holds it.
    fn lease(&self, name: &str, holder: &str, keep: Duration) -> Result<bool>;

    /// Gives a lease back, if this is who holds it.
    fn release(&self, name: &str, holder: &str) -> Result<()>;

    /// The documents whose names start so, by name, as they were at one time.
    fn documents(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>>;

    /// Changes documents, all or none.
    fn change(&self, changes: &[Change]) -> Result<()>;

    /// Creates a document if there is none of this name; `false` if there is.
    fn create(&self, name: &str, bytes: &[u8]) -> Result<bool>;

    /// Whether other processes may have the same store.
    fn is_shared(&self) -> bool {
        false
    }

    /// The file that it keeps everything in, if it is one.
    fn file(&self) -> Option<&Path> {
        None
    }

    /// Drops some of what was kept long enough, where the store does not by
    /// itself; to be called every few seconds.
    fn expire(&self) -> Result<()>;
}

/// Where a store is: what `--store` and `monitor.store` name.
pub enum Address<'a> {
    /// `memory`: nowhere.
    Memory,
    /// A file's path.
    File(&'a Path),
    /// A URL of a server: `redis://host:port/db`.
    Server(redis::Address),
}

impl Address<'_> {
    /// Understands what an option names, without opening it. Whatever reads or
    /// checks an address asks here.
    ///
    /// # Errors
    /// When it is none of the three; the message names the value, without its
    /// password.
    pub fn parse(spec: &str) -> Result<Address<'_>> {
        match spec.split_once("://") {
            _ if spec.trim().is_empty() => Err(StoreError(
                "the store is empty; expected a file, redis://host:port/db or memory".to_owned(),
            )),
            None if spec == "memory" => Ok(Address::Memory),
            None => Ok(Address::File(Path::new(spec))),
            Some((scheme, _))
                if redis::Address::SCHEMES.contains(&scheme) || matches!(scheme, "rediss" | "valkeys") =>
            {
                redis::Address::parse(spec).map(Address::Server)
            }
            Some((scheme, _)) => Err(StoreError(format!(
                "store {scheme}://...: expected a file, redis://host:port/db or memory"
            ))),
        }
    }
}

/// Opens the store that an option names.
///
/// # Errors
/// As for [`Address::parse`], and when the store cannot be opened.
pub fn open(spec: &str) -> Result<Arc<dyn Store>> {
    Ok(match Address::parse(spec)? {
        Address::Memory => Arc::new(Embedded::in_memory()?),
        Address::File(path) => Arc::new(Embedded::open(path)?),
        Address::Server(address) => Arc::new(Redis::open(address)?),
    })
}

/// Labels that cannot be counted, whatever the store holds.
fn check(labels: &[Label]) -> Result<()> {
    for label in labels {
        if label.previous.as_ref() == Some(&label.value) {
            return Err(StoreError(format!(
                "the label of {} is to replace itself; expected another than the previous one",
                shown(label)
            )));
        }
    }
    Ok(())
}

fn overflow(label: &Label, number: u32) -> StoreError {
    StoreError(format!("the label of {} makes sum {number} too large", shown(label)))
}

fn shown(label: &Label) -> String {
    let key = u128::from_be_bytes(label.key);
    format!("prediction {key:032x} row {}", label.row)
}
