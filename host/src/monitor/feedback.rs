//! `POST /feedback`: what predictions turned out to be.

use modelet::drift::truth::{Judge, Predicted, Truth};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fmt;
use std::marker::PhantomData;

/// The most labels of one request.
pub const LABELS_MAX: usize = 100_000;

/// A label for a prediction, as callers send it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The prediction's id: the one in its answer, which may be written as an
    /// integer of up to 64 bits if it is one.
    #[serde(deserialize_with = "read_id")]
    pub id: String,
    /// The row, from 0: needed where the prediction was a batch of several.
    #[serde(default)]
    pub row: Option<u32>,
    /// The class label, or the number.
    pub label: Value,
}

/// A request: one label, or several.
#[derive(Clone, Debug)]
pub enum Feedback {
    /// `{"id": ..., "label": ...}`
    One(Entry),
    /// `{"feedback": [{"id": ..., "label": ...}, ...]}`
    Many(Vec<Entry>),
}

impl Feedback {
    /// Reads a request.
    ///
    /// # Errors
    /// When it is none; the text says what is expected.
    pub fn read(body: &[u8]) -> Result<Feedback, String> {
        const EXPECTED: &str =
            "expected {\"id\": ..., \"label\": ...} or {\"feedback\": [{\"id\": ..., \"label\": ...}, ...]}";
        let wrong = |e| format!("{EXPECTED}: {e}");
        let Object(Which { feedback }) = serde_json::from_slice(body).map_err(wrong)?;
        match feedback {
            false => serde_json::from_slice(body).map(|Object(entry)| Feedback::One(entry)),
            true => serde_json::from_slice(body).map(|Object(Several { feedback })| Feedback::Many(feedback.0)),
        }
        .map_err(wrong)
    }

    /// The labels.
    pub fn entries(&self) -> &[Entry] {
        match self {
            Feedback::One(entry) => std::slice::from_ref(entry),
            Feedback::Many(entries) => entries,
        }
    }
}

/// Tells one label from several.
#[derive(Deserialize)]
struct Which {
    /// Whether the member is there.
    #[serde(default, deserialize_with = "is_there")]
    feedback: bool,
}

fn is_there<'de, D: Deserializer<'de>>(source: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(source).map(|IgnoredAny| true)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Several {
    feedback: Entries,
}

struct Entries(Vec<Entry>);

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Entries, D::Error> {
        source.deserialize_seq(EntriesVisitor)
    }
}

struct EntriesVisitor;

impl<'de> Visitor<'de> for EntriesVisitor {
    type Value = Entries;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of labels")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Entries, A::Error> {
        let mut entries = Vec::new();
        loop {
            let index = entries.len();
            match items.next_element() {
                Ok(None) => return Ok(Entries(entries)),
                Ok(Some(_)) if index == LABELS_MAX => {
                    return Err(de::Error::custom(format_args!(
                        "at most {LABELS_MAX} labels are accepted in a request"
                    )));
                }
                Ok(Some(Object(entry))) => entries.push(entry),
                Err(e) => return Err(de::Error::custom(format_args!("feedback[{index}]: {e}"))),
            }
        }
    }
}

/// What is written as an object; derived code would take an array of the
/// members, too.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Object<T>, D::Error> {
        source.deserialize_map(ObjectVisitor(PhantomData))
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<Object<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(members)).map(Object)
    }
}

/// An id as predictions take it: text, or an integer for its digits.
fn read_id<'de, D: Deserializer<'de>>(source: D) -> Result<String, D::Error> {
    source.deserialize_any(IdVisitor)
}

struct IdVisitor;

impl Visitor<'_> for IdVisitor {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the id of a prediction, text or an integer")
    }

    fn visit_str<E>(self, id: &str) -> Result<String, E> {
        Ok(id.to_owned())
    }

    fn visit_u64<E>(self, id: u64) -> Result<String, E> {
        Ok(id.to_string())
    }

    fn visit_i64<E>(self, id: i64) -> Result<String, E> {
        Ok(id.to_string())
    }
}

impl Entry {
    /// The row that is meant; the only one where none is said.
    pub fn row(&self) -> u32 {
        self.row.unwrap_or(0)
    }
}

/// What became of a label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "status")]
pub enum Outcome {
    /// It is counted.
    Counted,
    /// The same label was counted before.
    Duplicate,
    /// Another label was counted before; it is taken back and this one counted.
    Corrected,
    /// No prediction of this id is here yet; the label is kept, and counted when
    /// the prediction comes.
    Pending,
    /// No prediction of this id is kept.
    UnknownId,
    /// The prediction has no such row, or the row was rejected.
    UnknownRow,
    /// The label is none of the model's.
    InvalidLabel {
        /// What is expected.
        detail: String,
    },
}

impl Outcome {
    /// The names of all outcomes, by number.
    pub const NAMES: [&str; 7] = [
        "counted",
        "duplicate",
        "corrected",
        "pending",
        "unknown_id",
        "unknown_row",
        "invalid_label",
    ];

    /// The outcome's number.
    pub fn number(&self) -> usize {
        match self {
            Outcome::Counted => 0,
            Outcome::Duplicate => 1,
            Outcome::Corrected => 2,
            Outcome::Pending => 3,
            Outcome::UnknownId => 4,
            Outcome::UnknownRow => 5,
            Outcome::InvalidLabel { .. } => 6,
        }
    }
}

/// The key of a prediction: the id's UUID, or else a hash of it.
pub fn key(id: &str) -> [u8; 16] {
    match uuid::Uuid::try_parse(id) {
        Ok(uuid) if id.len() == uuid::fmt::Hyphenated::LENGTH => *uuid.as_bytes(),
        _ => {
            let digest = Sha256::digest(id.as_bytes());
            let mut key = [0; 16];
            key.copy_from_slice(&digest[..16]);
            key
        }
    }
}

/// A label with the prediction that it was held against, as the store keeps
/// them: what was counted can be taken back, whatever became of the prediction.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Judged {
    /// When it was predicted, in seconds since 1970.
    pub(super) time: u64,
    pub(super) predicted: Predicted,
    pub(super) truth: Truth,
}

impl Judged {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = self.time.to_le_bytes().to_vec();
        bytes.extend(self.predicted.class.to_le_bytes());
        bytes.extend(self.predicted.score.to_le_bytes());
        put_truth(&mut bytes, &self.truth);
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Judged> {
        let (time, rest) = bytes.split_first_chunk::<8>()?;
        let (class, rest) = rest.split_first_chunk::<4>()?;
        let (score, rest) = rest.split_first_chunk::<8>()?;
        let truth = get_truth(rest)?;
        Some(Judged {
            time: u64::from_le_bytes(*time),
            predicted: Predicted {
                class: u32::from_le_bytes(*class),
                score: f64::from_le_bytes(*score),
            },
            truth,
        })
    }
}

/// A label that came before its prediction, as the store keeps it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Waiting {
    /// When it was told, in seconds since 1970.
    pub(super) since: u64,
    /// Whether the label said which row it is of.
    pub(super) row_said: bool,
    pub(super) truth: Truth,
}

impl Waiting {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = self.since.to_le_bytes().to_vec();
        bytes.push(self.row_said.into());
        put_truth(&mut bytes, &self.truth);
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Waiting> {
        let (since, rest) = bytes.split_first_chunk::<8>()?;
        let (row_said, rest) = rest.split_first()?;
        Some(Waiting {
            since: u64::from_le_bytes(*since),
            row_said: *row_said != 0,
            truth: get_truth(rest)?,
        })
    }
}

fn put_truth(bytes: &mut Vec<u8>, truth: &Truth) {
    match truth {
        Truth::Class(class) => {
            bytes.push(0);
            bytes.extend(class.to_le_bytes());
        }
        Truth::Number(number) => {
            bytes.push(1);
            bytes.extend(number.to_le_bytes());
        }
    }
}

fn get_truth(bytes: &[u8]) -> Option<Truth> {
    match bytes.split_first()? {
        (0, class) => Some(Truth::Class(u32::from_le_bytes(class.try_into().ok()?))),
        (1, number) => Some(Truth::Number(f64::from_le_bytes(number.try_into().ok()?))),
        _ => None,
    }
}

/// The outcome of a label that does not say which of several rows it is of.
pub(super) fn row_needed(rows: usize) -> Outcome {
    Outcome::InvalidLabel {
        detail: format!("row: the prediction has {rows} rows; say which one this is of"),
    }
}

/// Reads an entry's label for a model.
pub(super) fn truth(entry: &Entry, judge: &Judge) -> Result<Truth, Outcome> {
    judge.read(&entry.label).map_err(|detail| Outcome::InvalidLabel {
        detail: format!("label: {detail}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_one_label_or_several() {
        let one = Feedback::read(br#"{"id": "a", "label": 1}"#).unwrap();
        assert_eq!((one.entries().len(), one.entries()[0].row), (1, None));
        let many = Feedback::read(br#"{"feedback": [{"id": "a", "row": 3, "label": "x"}, {"id": "b", "label": 0.5}]}"#);
        assert_eq!(many.unwrap().entries()[0].row, Some(3));
        let numbered = Feedback::read(br#"{"id": 7, "label": 1}"#).unwrap();
        assert_eq!(numbered.entries()[0].id, "7");
        for (body, error) in [
            ("", "expected {\"id\""),
            ("[]", "expected {\"id\""),
            ("{\"id\": \"a\"}", "missing field `label`"),
            ("{\"id\": 7.5, \"label\": 1}", "invalid type: floating point `7.5`"),
            ("{\"id\": null, \"label\": 1}", "invalid type: null"),
            ("[\"a\", 0, 1]", "invalid type: sequence, expected an object"),
            ("{\"id\": \"a\", \"id\": \"b\", \"label\": 1}", "duplicate field `id`"),
            (
                "{\"feedback\": [{\"id\": \"a\", \"label\": 1, \"label\": 0}]}",
                "feedback[0]: duplicate field `label`",
            ),
            ("{\"feedback\": [], \"feedback\": []}", "duplicate field `feedback`"),
            (
                "{\"feedback\": [{\"id\": \"a\", \"label\": 1}, [\"a\", 0, 1]]}",
                "feedback[1]: invalid type: sequence, expected an object",
            ),
            ("{\"id\": \"a\", \"label\": 1, \"extra\": 1}", "unknown field `extra`"),
            (
                "{\"feedback\": 1}",
                "invalid type: integer `1`, expected a list of labels",
            ),
            ("{\"feedback\": null}", "invalid type: null, expected a list of labels"),
            ("{\"feedback\": [], \"id\": 1}", "unknown field `id`"),
            (
                "{\"feedback\": [{\"id\": \"a\"}]}",
                "feedback[0]: missing field `label`",
            ),
        ] {
            let got = Feedback::read(body.as_bytes()).unwrap_err();
            assert!(got.contains(error), "{body}: {got}");
        }
    }

    #[test]
    fn ids_have_keys_of_their_own() {
        let uuid = "0190a3d2-c5f8-7b1e-9d3c-7a6b5e4f3d2c";
        assert_eq!(&key(uuid)[..4], &[0x01, 0x90, 0xa3, 0xd2]);
        // The same UUID written otherwise is another id.
        assert_ne!(key(&uuid.replace('-', "")), key(uuid));
        assert_ne!(key("a"), key("b"));
    }

    #[test]
    fn labels_are_kept_exactly() {
        for truth in [Truth::Class(7), Truth::Number(-0.1)] {
            let waiting = Waiting {
                since: 78,
                row_said: true,
                truth: truth.clone(),
            };
            let bytes = waiting.encode();
            assert_eq!(Waiting::decode(&bytes), Some(waiting));
            assert_eq!(Waiting::decode(&bytes[..bytes.len() - 1]), None);
            let judged = Judged {
                time: 77,
                predicted: Predicted { class: 3, score: 0.3 },
                truth,
            };
            let bytes = judged.encode();
            assert_eq!(Judged::decode(&bytes), Some(judged));
            assert_eq!(Judged::decode(&bytes[..bytes.len() - 1]), None);
        }
        assert_eq!(Judged::decode(&[]), None);
        assert_eq!(Waiting::decode(&[]), None);
    }

    #[test]
    fn outcomes_have_the_names_that_answers_have() {
        let all = [
            Outcome::Counted,
            Outcome::Duplicate,
            Outcome::Corrected,
            Outcome::Pending,
            Outcome::UnknownId,
            Outcome::UnknownRow,
            Outcome::InvalidLabel { detail: String::new() },
        ];
        let names = all.each_ref().map(|outcome| {
            let json = serde_json::to_value(outcome).unwrap();
            let name = json["status"].as_str().unwrap().to_owned();
            assert_eq!(name, Outcome::NAMES[outcome.number()]);
            name
        });
        assert_eq!(names, Outcome::NAMES);
    }
}
