//! What a value must be to become part of a record, and what is said when it
//! is not.
//!
//! Unlike a JSON schema validator, which looks at a parsed document, the checks
//! here run while the bytes are read, value by value, and *all* faults of a
//! request are collected. A value that passes is already converted, stored in
//! its column and placed in its bin.

use crate::drift::{Bins, Edges, Special};
use crate::order;
use crate::record::json;
use crate::signature::{Category, Feature, FeatureType, Manifest, Unknown};
use crate::tensor::Dtype;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt::Write;

/// The longest text accepted as a value, in bytes.
pub const TEXT_BYTES_MAX: usize = 64 * 1024;

/// A kind of fault. The number is the one in [`FaultCount`] tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum FaultCode {
    /// A feature that must be given is absent or null.
    Missing,
    /// A feature that the signature does not have.
    Unknown,
    /// A value of the wrong type.
    Type,
    /// A number outside the allowed range, or not exact in the model's type.
    Range,
    /// A category that is not accepted.
    Category,
    /// NaN, an infinity, or a number that overflows the model's type.
    NotFinite,
    /// A text longer than [`TEXT_BYTES_MAX`].
    TooLong,
    /// A feature given twice.
    Duplicate,
    /// Malformed input, after which nothing more can be listed.
    Syntax,
    /// Values that the signature accepts and an operator of the model does not.
    Model,
}

impl FaultCode {
    /// All codes, in the order of their numbers.
    pub const ALL: [FaultCode; 10] = [
        FaultCode::Missing,
        FaultCode::Unknown,
        FaultCode::Type,
        FaultCode::Range,
        FaultCode::Category,
        FaultCode::NotFinite,
        FaultCode::TooLong,
        FaultCode::Duplicate,
        FaultCode::Syntax,
        FaultCode::Model,
    ];

    /// Name as answers have it.
    pub fn name(self) -> &'static str {
        match self {
            FaultCode::Missing => "missing",
            FaultCode::Unknown => "unknown",
            FaultCode::Type => "type",
            FaultCode::Range => "range",
            FaultCode::Category => "category",
            FaultCode::NotFinite => "not_finite",
            FaultCode::TooLong => "too_long",
            FaultCode::Duplicate => "duplicate",
            FaultCode::Syntax => "syntax",
            FaultCode::Model => "model",
        }
    }
}

/// Which feature a fault is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A feature of the signature, by index.
    Feature(u32),
    /// A name that the signature does not have.
    Name(String),
    /// The request as a whole.
    Request,
}

/// Something wrong with a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What it is about.
    pub subject: Subject,
    /// Its kind.
    pub code: FaultCode,
    /// What came and why it is not accepted.
    pub message: String,
    /// What is accepted, in words.
    pub accepted: Option<String>,
}

/// Something odd about a record that is answered nevertheless.
#[derive(Clone, Debug, PartialEq)]
pub struct Warning {
    /// The feature's index.
    pub feature: u32,
    /// [`FaultCode::Range`] or [`FaultCode::Category`].
    pub code: FaultCode,
    /// What came, and what the reference data has.
    pub message: String,
}

/// A count of one kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultCount {
    /// The feature's index, if the fault is about one.
    pub feature: Option<u32>,
    /// Its kind.
    pub code: FaultCode,
    /// How often.
    pub count: u32,
}

/// The words in CSV that stand for a missing value, as the empty cell does: what
/// pandas' `read_csv` takes as such.
pub const MISSING_WORDS: [&str; 18] = [
    "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA", "NULL",
    "NaN", "None", "n/a", "nan", "null",
];

/// Whether a CSV cell stands for a missing value. Text that a model takes, and
/// the name of a category, is never one unless it is empty.
pub fn is_missing_cell(cell: &str) -> bool {
    // The longest of them has nine bytes; most cells need no comparison.
    cell.is_empty() || (cell.len() <= 9 && MISSING_WORDS.contains(&cell))
}

/// A value as the readers deliver it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    Null,
    Bool(bool),
    /// Possibly infinite or NaN, if the input said so.
    Number(f64),
    Text(Cow<'a, str>),
    /// A cell of a CSV file, whose type is the feature's.
    Cell(Cow<'a, str>),
    /// An array or object, which no feature takes.
    Nested(&'static str),
}

/// What a good value becomes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Accepted<'a> {
    Missing,
    Number(f64),
    Text(Cow<'a, str>),
}

/// A fault or warning without the feature, which the caller knows.
pub(crate) type Complaint = (FaultCode, String);

/// A feature prepared for checking.
#[derive(Debug)]
pub(crate) struct Check {
    pub(crate) name: String,
    /// The name as JSON mostly has it, in quotes and with the colon.
    pub(crate) key: String,
    plain: Option<Plain>,
    kind: FeatureType,
    dtype: Dtype,
    nullable: bool,
    /// Whether an empty cell is a text.
    takes_empty: bool,
    closed: bool,
    allowed: (f64, f64),
    seen: (f64, f64),
    /// Whether names are sent where the model gets codes.
    encoded: bool,
    /// The names of categories, sorted.
    names: Vec<Name>,
    /// The codes of categories, ascending.
    codes: Vec<Code>,
    pub(crate) bins: Bins,
    pub(crate) input: usize,
    pub(crate) column: usize,
}

/// The numbers of which nothing has to be said.
#[derive(Clone, Debug)]
struct Plain {
    /// Where they lie, ends included.
    range: (f64, f64),
    integral: bool,
    /// The bins' inner edges, for numbers as they are given.
    edges: Edges,
}

/// A float with room for halves; infinities are where the next float would be.
fn widened(float: f32) -> f64 {
    const BEYOND: f64 = f32::MAX as f64 + (f32::MAX as f64 - f32::MAX.next_down() as f64);
    f64::from(float).clamp(-BEYOND, BEYOND)
}

/// A signature prepared for checking records.
#[derive(Debug)]
pub struct Schema {
    pub(crate) checks: Vec<Check>,
    /// Indices of `checks`, sorted by name.
    by_name: Vec<u32>,
    pub(crate) unknown: Unknown,
}

impl Schema {
    /// Prepares the signature of a manifest.
    ///
    /// # Errors
    /// When the manifest contradicts itself: features that share a name or a
    /// place, or feed an input or column that is not there, or whose bins are
    /// not ascending.
    pub fn new(manifest: &Manifest) -> Result<Schema, String> {
        let mut checks = Vec::with_capacity(manifest.features.len());
        let mut fed: Vec<Vec<bool>> = Vec::new();
        for input in &manifest.inputs {
            let width = input
                .shape
                .iter()
                .try_fold(1usize, |product, &d| product.checked_mul(d as usize))
                .filter(|&width| width <= 1 << 24)
                .ok_or_else(|| format!("input {:?}: shape {:?} is too large", input.name, input.shape))?;
            fed.push(vec![false; width]);
        }
        for (index, feature) in manifest.features.iter().enumerate() {
            let place = fed
                .get_mut(feature.input as usize)
                .and_then(|columns| columns.get_mut(feature.column as usize))
                .ok_or_else(|| format!("feature {:?} feeds an input or column that is not there", feature.name))?;
            if std::mem::replace(place, true) {
                return Err(format!(
                    "feature {:?} feeds a column that another one feeds",
                    feature.name
                ));
            }
            let bins = match manifest.reference.columns.get(index) {
                Some(column) => {
                    column
                        .bins
                        .check()
                        .map_err(|what| format!("feature {:?}: {what}", feature.name))?;
                    column.bins.clone()
                }
                None => Bins::from_categories(Vec::new()),
            };
            let dtype = manifest.inputs[feature.input as usize].dtype;
            checks.push(Check::new(feature, dtype, bins));
        }
        if fed.iter().flatten().any(|&f| !f) {
            return Err("some column of an input is fed by no feature".into());
        }
        let by_name = order::sorted(checks.len(), &mut |a, b| checks[a].name.cmp(&checks[b].name));
        let by_name: Vec<u32> = by_name.into_iter().map(|index| index as u32).collect();
        if let Some(pair) = by_name
            .windows(2)
            .find(|pair| checks[pair[0] as usize].name == checks[pair[1] as usize].name)
        {
            return Err(format!("two features are named {:?}", checks[pair[0] as usize].name));
        }
        Ok(Schema {
            checks,
            by_name,
            unknown: manifest.unknown,
        })
    }

    /// The number of features.
    pub fn len(&self) -> usize {
        self.checks.len()
    }

    /// Whether there are no features.
    pub fn is_empty(&self) -> bool {
        self.checks.is_empty()
    }

    /// The name of the feature at `index`.
    pub fn name(&self, index: u32) -> &str {
        self.checks.get(index as usize).map_or("", |c| &c.name)
    }

    /// The index of the feature with this name; `hint` is looked at first,
    /// because callers mostly keep to the signature's order.
    pub(crate) fn find(&self, name: &str, hint: usize) -> Option<usize> {
        if let Some(check) = self.checks.get(hint)
            && check.name == name
        {
            return Some(hint);
        }
        self.by_name
            .binary_search_by(|&i| self.checks[i as usize].name.as_str().cmp(name))
            .ok()
            .map(|at| self.by_name[at] as usize)
    }

    /// The signature's name that is most like `name`, if one is near.
    pub(crate) fn nearest(&self, name: &str) -> Option<&str> {
        if name.len() > 64 {
            return None;
        }
        self.checks
            .iter()
            .filter(|check| check.name.len() <= 64)
            .map(|check| (edit_distance(name, &check.name), check.name.as_str()))
            .min()
            .filter(|(distance, _)| *distance <= 1 + name.len() / 4)
            .map(|(_, name)| name)
    }
}

/// The first eight bytes of a text, zeros after a shorter one: where those of two
/// texts differ, they have the texts' order.
fn start_of(text: &str) -> u64 {
    let mut start = [0; 8];
    match text.as_bytes().first_chunk() {
        Some(&first) => start = first,
        None => start[..text.len()].copy_from_slice(text.as_bytes()),
    }
    u64::from_be_bytes(start)
}

/// Levenshtein's distance in bytes, letter case aside.
fn edit_distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let substituted = diagonal + usize::from(!x.eq_ignore_ascii_case(&y));
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// A category by its name.
#[derive(Debug, Default)]
struct Name {
    name: String,
    /// Its beginning, for most comparisons.
    start: u64,
    /// What the model gets; NaN where it gets the name.
    code: f64,
    place: Place,
}

/// A category by its code.
#[derive(Clone, Copy, Debug)]
struct Code {
    code: f64,
    place: Place,
}

/// Where a category that the signature knows is counted.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    bin: u8,
    /// The reference has it.
    seen: bool,
}

impl Place {
    /// The place of a category that goes by these names.
    fn of(bins: &Bins, aliases: &[&Category]) -> Place {
        match aliases.iter().find_map(|category| bins.category(category)) {
            Some(bin) => Place { bin, seen: true },
            None if bins.lists_all_categories() => Place {
                bin: bins.special(Special::Unseen),
                seen: false,
            },
            None => Place {
                bin: bins.rest(),
                seen: true,
            },
        }
    }
}

impl Check {
    fn new(feature: &Feature, dtype: Dtype, bins: Bins) -> Check {
        let bounds = |range: &Option<crate::signature::Range>| {
            let range = range.unwrap_or_default();
            (
                range.min.unwrap_or(f64::NEG_INFINITY),
                range.max.unwrap_or(f64::INFINITY),
            )
        };
        let encoded = dtype != Dtype::String && !feature.encoding.is_empty();
        let mut codes = Vec::new();
        let mut names = Vec::new();
        for category in &feature.categories {
            let place = Place::of(&bins, &[category]);
            match category {
                Category::Code(code) => codes.push(Code { code: *code, place }),
                // Names that have no code are not accepted.
                Category::Name(_) if encoded => {}
                Category::Name(name) => names.push(Name {
                    name: name.clone(),
                    start: start_of(name),
                    code: f64::NAN,
                    place,
                }),
            }
        }
        if encoded {
            for (name, &code) in &feature.encoding {
                // The bins know names or codes, whichever the reference had.
                let place = Place::of(&bins, &[&Category::Name(name.clone()), &Category::Code(code)]);
                names.push(Name {
                    name: name.clone(),
                    start: start_of(name),
                    code,
                    place,
                });
                codes.push(Code { code, place });
            }
        }
        let by_name = order::sorted(names.len(), &mut |a, b| names[a].name.cmp(&names[b].name));
        let names = by_name.into_iter().map(|at| std::mem::take(&mut names[at])).collect();
        let by_code = order::sorted(codes.len(), &mut |a, b| codes[a].code.total_cmp(&codes[b].code));
        let mut codes: Vec<Code> = by_code.into_iter().map(|at| codes[at]).collect();
        codes.dedup_by(|a, b| a.code == b.code);
        let mut key = Vec::new();
        crate::api::json::text(&mut key, &feature.name);
        key.push(b':');
        let mut check = Check {
            name: feature.name.clone(),
            key: String::from_utf8(key).unwrap_or_default(),
            plain: None,
            kind: feature.kind,
            dtype,
            nullable: feature.nullable,
            takes_empty: feature.takes_empty(dtype),
            closed: feature.closed,
            allowed: bounds(&feature.allowed),
            seen: bounds(&feature.seen),
            encoded,
            names,
            codes,
            bins,
            input: feature.input as usize,
            column: feature.column as usize,
        };
        check.plain = check.plain_numbers();
        check
    }

    /// The numbers that are accepted without a warning and that fall into a bin
    /// between the least and the greatest, if they are an interval.
    fn plain_numbers(&self) -> Option<Plain> {
        let Bins::Numeric { min, cuts, max } = &self.bins else {
            return None;
        };
        let numeric = matches!(self.kind, FeatureType::Number | FeatureType::Integer);
        // In CSV a name goes before the number that it reads as.
        if !numeric || self.dtype == Dtype::String || !self.names.is_empty() {
            return None;
        }
        let integral = self.is_integral();
        let largest = match integral {
            true => self.dtype.integer_max(),
            false => f64::MAX,
        };
        let seen = (self.seen.0.max(*min).max(f64::MIN), self.seen.1.min(*max).min(f64::MAX));
        let (least, greatest) = (self.least(seen.0), self.greatest(seen.1));
        Some(Plain {
            range: (
                self.allowed.0.max(-largest).max(least),
                self.allowed.1.min(largest).min(greatest),
            ),
            integral,
            edges: Edges::new(cuts.iter().map(|&cut| self.least(cut))),
        })
    }

    /// The least number that the model gets as this one or a greater.
    fn least(&self, number: f64) -> f64 {
        if self.dtype != Dtype::Float32 {
            return number;
        }
        let nearest = number as f32;
        let float = if f64::from(nearest) < number {
            nearest.next_up()
        } else {
            nearest
        };
        // Half-way to the float below; exact in 64 bits.
        let middle = (widened(float.next_down()) + widened(float)) / 2.0;
        if middle as f32 >= float {
            middle
        } else {
            middle.next_up()
        }
    }

    /// The greatest number that the model gets as this one or a less.
    fn greatest(&self, number: f64) -> f64 {
        -self.least(-number)
    }

    /// Whether numbers must be integers.
    fn is_integral(&self) -> bool {
        self.kind == FeatureType::Integer || matches!(self.dtype, Dtype::Int64 | Dtype::Int32)
    }

    /// The bin of a number that is accepted and of which nothing has to be
    /// said; none for others.
    #[inline]
    pub(crate) fn plain(&self, value: f64) -> Option<u8> {
        let plain = self.plain.as_ref()?;
        // Written so that NaN is outside.
        let within = value >= plain.range.0 && value <= plain.range.1;
        if !within || (plain.integral && value != value.trunc()) {
            return None;
        }
        Some(plain.edges.bin(value))
    }

    /// The code that a cell of CSV stands for, or none if it is empty and a value
    /// may be missing, and its bin; none if the cell is something else, or
    /// something has to be said of it.
    pub(crate) fn plain_cell(&self, cell: &str) -> Option<(Option<f64>, u8)> {
        if cell.is_empty() {
            let missing = self.nullable && !self.takes_empty;
            return missing.then(|| (None, self.bins.special(Special::Missing)));
        }
        if self.kind != FeatureType::Category || self.dtype == Dtype::String || cell.len() > TEXT_BYTES_MAX {
            return None;
        }
        let found = self.named(cell)?;
        (found.place.seen || self.closed).then_some((Some(found.code), found.place.bin))
    }

    /// The number as the model gets it.
    #[inline]
    fn cast(&self, value: f64) -> f64 {
        match self.dtype {
            Dtype::Float32 => f64::from(value as f32),
            _ => value,
        }
    }

    /// Checks a value, and says in which bin it falls. What is odd but
    /// accepted is told to `warn`.
    #[inline]
    pub(crate) fn check<'a>(
        &self,
        value: Value<'a>,
        mut warn: impl FnMut(Complaint),
    ) -> Result<(Accepted<'a>, u8), Complaint> {
        match value {
            Value::Number(number) => self.number(number, &mut warn),
            Value::Null => self.missing(),
            Value::Text(text) => self.text(text, &mut warn),
            Value::Bool(value) => match self.kind {
                FeatureType::Boolean => self.number(f64::from(u8::from(value)), &mut warn),
                _ => Err(self.wrong_type(&format!("the boolean {value}"))),
            },
            Value::Cell(cell) => self.cell(cell, &mut warn),
            Value::Nested(what) => Err(self.wrong_type(what)),
        }
    }

    pub(crate) fn missing(&self) -> Result<(Accepted<'static>, u8), Complaint> {
        if self.nullable {
            return Ok((Accepted::Missing, self.bins.special(Special::Missing)));
        }
        Err((FaultCode::Missing, "a value is required".into()))
    }

    #[inline]
    fn number(&self, value: f64, warn: &mut impl FnMut(Complaint)) -> Result<(Accepted<'static>, u8), Complaint> {
        if !value.is_finite() {
            let what = if value.is_nan() {
                "NaN"
            } else {
                "an infinite or too large number"
            };
            return Err((FaultCode::NotFinite, format!("{what} is not a finite number")));
        }
        if self.dtype == Dtype::String {
            return Err(self.wrong_type(&format!("the number {value}")));
        }
        // From here on the value is the one that the model gets.
        let cast = self.cast(value);
        if !cast.is_finite() {
            return Err((
                FaultCode::NotFinite,
                format!("{value:e} overflows the model's {}", self.dtype),
            ));
        }
        match self.kind {
            FeatureType::Number | FeatureType::Integer => {
                if self.is_integral() {
                    self.integral(value)?;
                }
            }
            FeatureType::Boolean => {
                if value != 0.0 && value != 1.0 {
                    return Err(self.wrong_type(&format!("the number {value}")));
                }
            }
            FeatureType::Category => {
                // Adding 0 makes -0 the 0 that the order finds.
                if let Ok(at) = self.codes.binary_search_by(|c| c.code.total_cmp(&(value + 0.0))) {
                    let place = self.codes[at].place;
                    if !place.seen && !self.closed {
                        warn(self.unseen(&value.to_string()));
                    }
                    return Ok((Accepted::Number(value), place.bin));
                }
                if self.closed || self.encoded {
                    return Err((FaultCode::Category, format!("{value} is not one of the accepted codes")));
                }
                if self.is_integral() {
                    self.integral(value)?;
                }
                if self.codes.is_empty() {
                    return Ok((Accepted::Number(value), self.bins.number(value)));
                }
                warn(self.unseen(&value.to_string()));
                return Ok((Accepted::Number(value), self.bins.special(Special::Unseen)));
            }
        }
        if value < self.allowed.0 || value > self.allowed.1 {
            return Err((FaultCode::Range, format!("{value} is outside the allowed range")));
        }
        if cast < self.seen.0 || cast > self.seen.1 {
            warn((
                FaultCode::Range,
                format!(
                    "{value} is outside the range of the reference data, {} to {}",
                    self.seen.0, self.seen.1
                ),
            ));
        }
        Ok((Accepted::Number(value), self.bins.number(cast)))
    }

    fn integral(&self, value: f64) -> Result<(), Complaint> {
        if value != libm::trunc(value) {
            return Err((FaultCode::Type, format!("{value} has a fraction")));
        }
        let max = self.dtype.integer_max();
        if value.abs() > max {
            return Err((
                FaultCode::Range,
                format!(
                    "{value} is beyond {max}, up to which integers are exact in the model's {}",
                    self.dtype
                ),
            ));
        }
        Ok(())
    }

    fn text<'a>(&self, text: Cow<'a, str>, warn: &mut impl FnMut(Complaint)) -> Result<(Accepted<'a>, u8), Complaint> {
        if text.len() > TEXT_BYTES_MAX {
            return Err((
                FaultCode::TooLong,
                format!(
                    "the text has {} bytes; at most {TEXT_BYTES_MAX} are accepted",
                    text.len()
                ),
            ));
        }
        if self.kind != FeatureType::Category {
            return Err(self.wrong_type(&format!("the text {}", quoted(&text))));
        }
        let found = self.named(&text);
        if self.dtype != Dtype::String {
            return match found {
                Some(found) => {
                    if !found.place.seen && !self.closed {
                        warn(self.unseen(&quoted(&text)));
                    }
                    Ok((Accepted::Number(found.code), found.place.bin))
                }
                None if !self.encoded => Err(self.wrong_type(&format!("the text {}", quoted(&text)))),
                None => Err((
                    FaultCode::Category,
                    format!("{} is not one of the accepted categories", quoted(&text)),
                )),
            };
        }
        if let Some(found) = found {
            return Ok((Accepted::Text(text), found.place.bin));
        }
        if self.names.is_empty() {
            let bin = self.bins.name(&text);
            return Ok((Accepted::Text(text), bin));
        }
        if self.closed {
            return Err((
                FaultCode::Category,
                format!("{} is not one of the accepted categories", quoted(&text)),
            ));
        }
        warn(self.unseen(&quoted(&text)));
        Ok((Accepted::Text(text), self.bins.special(Special::Unseen)))
    }

    fn named(&self, text: &str) -> Option<&Name> {
        let start = start_of(text);
        let order = |name: &Name| name.start.cmp(&start).then_with(|| name.name.as_str().cmp(text));
        let at = self.names.binary_search_by(order).ok()?;
        self.names.get(at)
    }

    fn unseen(&self, what: &str) -> Complaint {
        (
            FaultCode::Category,
            format!("{what} is not among the categories of the reference data"),
        )
    }

    fn cell<'a>(&self, cell: Cow<'a, str>, warn: &mut impl FnMut(Complaint)) -> Result<(Accepted<'a>, u8), Complaint> {
        if cell.is_empty() && !self.takes_empty {
            return self.missing();
        }
        if self.kind == FeatureType::Category && self.dtype == Dtype::String {
            return self.text(cell, warn);
        }
        if self.named(&cell).is_some() {
            return self.text(cell, warn);
        }
        let trimmed = cell.trim();
        let number = match json::number(trimmed).map_or_else(|| trimmed.parse::<f64>(), Ok) {
            Ok(number) => Some(number),
            Err(_) if self.kind == FeatureType::Boolean && trimmed.eq_ignore_ascii_case("true") => Some(1.0),
            Err(_) if self.kind == FeatureType::Boolean && trimmed.eq_ignore_ascii_case("false") => Some(0.0),
            Err(_) => None,
        };
        match number {
            Some(number) if !number.is_nan() => self.number(number, warn),
            Some(_) => self.missing(),
            None if self.dtype != Dtype::String && is_missing_cell(&cell) => self.missing(),
            None => self.text(cell, warn),
        }
    }

    fn wrong_type(&self, got: &str) -> Complaint {
        (FaultCode::Type, format!("expected {} but got {got}", self.expects()))
    }

    fn expects(&self) -> &'static str {
        match self.kind {
            FeatureType::Number => "a number",
            FeatureType::Integer => "an integer",
            FeatureType::Boolean => "true or false",
            FeatureType::Category if self.dtype == Dtype::String || self.encoded => "the name of a category",
            FeatureType::Category => "the code of a category",
        }
    }

    /// What the feature accepts, in words.
    pub(crate) fn accepted(&self) -> String {
        const LISTED_MAX: usize = 20;
        let mut text = String::from(self.expects());
        let list = |text: &mut String, items: &mut dyn Iterator<Item = String>, count: usize| {
            for (i, item) in items.take(LISTED_MAX).enumerate() {
                text.push_str(if i == 0 { ": " } else { ", " });
                text.push_str(&item);
            }
            if count > LISTED_MAX {
                let _ = write!(text, ", … ({count} in all)");
            }
        };
        if self.kind == FeatureType::Category {
            if self.names.is_empty() {
                let codes = &mut self.codes.iter().map(|c| c.code.to_string());
                list(&mut text, codes, self.codes.len());
            } else {
                let names = &mut self.names.iter().map(|n| quoted(&n.name));
                list(&mut text, names, self.names.len());
            }
        } else {
            match self.allowed {
                (f64::NEG_INFINITY, f64::INFINITY) => {}
                (min, f64::INFINITY) => drop(write!(text, " from {min}")),
                (f64::NEG_INFINITY, max) => drop(write!(text, " up to {max}")),
                (min, max) => drop(write!(text, " from {min} to {max}")),
            }
        }
        if self.nullable {
            text.push_str(", or null");
        }
        text
    }
}

/// A text in quotes, shortened to what a person wants to read.
pub(crate) fn quoted(text: &str) -> String {
    const SHOWN_MAX: usize = 60;
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::Range;

    fn feature(kind: FeatureType, seen: Option<(f64, f64)>, allowed: Option<(f64, f64)>) -> Feature {
        let range = |(min, max)| Range {
            min: Some(min),
            max: Some(max),
        };
        Feature {
            kind,
            seen: seen.map(range),
            allowed: allowed.map(range),
            ..serde_json::from_str(r#"{"name": "x", "type": "number", "nullable": false, "input": 0, "column": 0}"#)
                .unwrap()
        }
    }

    #[test]
    fn the_least_and_the_greatest_are_the_last_that_are_rounded_into_a_range() {
        let feature = feature(FeatureType::Number, None, None);
        let check = Check::new(&feature, Dtype::Float32, Bins::unbounded());
        let mut numbers = vec![0.0, 0.1, 0.5, 1e-45, 1e-300, 1.0, 16777217.0, 1e38, 1e39, f64::MAX];
        numbers.extend([f32::MIN_POSITIVE, f32::MAX].map(f64::from));
        numbers.extend((0..1000).map(|i| (f64::from(i) * 0.37).exp2() / 1e40));
        for number in numbers.into_iter().flat_map(|number| [number, -number]) {
            let least = check.least(number);
            assert!(check.cast(least) >= number, "{number} {least}");
            assert!(check.cast(least.next_down()) < number, "{number} {least}");
            let greatest = check.greatest(number);
            assert!(check.cast(greatest) <= number, "{number} {greatest}");
            assert!(check.cast(greatest.next_up()) > number, "{number} {greatest}");
        }
        let exact = Check::new(&feature, Dtype::Float64, Bins::unbounded());
        assert_eq!((exact.least(0.1), exact.greatest(0.1)), (0.1, 0.1));
    }

    #[test]
    fn plain_numbers_are_those_of_which_nothing_is_said() {
        let values = [
            f64::NEG_INFINITY,
            f64::MIN,
            -1e39,
            -9007199254740993.0,
            -16777217.0,
            -3.0,
            -1.0,
            -0.5,
            -0.0,
            0.0,
            1e-300,
            0.1,
            0.25,
            0.5,
            1.0,
            1.5,
            2.0,
            3.0,
            16777216.0,
            16777217.0,
            2147483648.0,
            9007199254740992.0,
            1e39,
            f64::MAX,
            f64::INFINITY,
            f64::NAN,
        ];
        let bins = |bins: &[f64]| Bins::from_numbers(bins).unwrap();
        let mut plain = [0; 2];
        for kind in [
            FeatureType::Number,
            FeatureType::Integer,
            FeatureType::Boolean,
            FeatureType::Category,
        ] {
            for dtype in [
                Dtype::Float32,
                Dtype::Float64,
                Dtype::Int64,
                Dtype::Int32,
                Dtype::String,
            ] {
                for seen in [None, Some((-3.0, 3.0)), Some((0.1, 2.0)), Some((f64::MIN, f64::MAX))] {
                    for allowed in [None, Some((-1.0, 1.5)), Some((-1e40, 1e40))] {
                        for bins in [bins(&[-1.0, 0.0, 0.1, 0.5, 1.0, 2.0]), bins(&values), Bins::unbounded()] {
                            let check = Check::new(&feature(kind, seen, allowed), dtype, bins);
                            for value in values {
                                let mut warnings = 0;
                                let checked = check.check(Value::Number(value), |_| warnings += 1);
                                let is_plain = check.plain(value);
                                plain[usize::from(is_plain.is_some())] += 1;
                                let Some(bin) = is_plain else {
                                    // Beside the ends of the bins, all is plain
                                    // that is accepted in silence.
                                    let outside = matches!(check.bins, Bins::Numeric { min, max, .. }
                                        if !(min..=max).contains(&check.cast(value)));
                                    let numeric = matches!(kind, FeatureType::Number | FeatureType::Integer);
                                    assert!(
                                        checked.is_err() || warnings > 0 || outside || !numeric,
                                        "{value} {check:?}"
                                    );
                                    continue;
                                };
                                assert_eq!(checked, Ok((Accepted::Number(value), bin)), "{value} {check:?}");
                                assert_eq!(warnings, 0, "{value} {check:?}");
                            }
                        }
                    }
                }
            }
        }
        assert!(plain[0] > 1000 && plain[1] > 1000, "{plain:?}");
    }

    #[test]
    fn a_cell_that_is_a_name_is_no_number() {
        let named = Feature {
            categories: vec![Category::Name("1".into())],
            ..feature(FeatureType::Number, None, None)
        };
        let check = Check::new(&named, Dtype::Float32, Bins::unbounded());
        assert_eq!(check.plain(1.0), None);
        assert!(check.check(Value::Cell("1".into()), |_| {}).is_err());
    }

    #[test]
    fn a_plain_cell_is_the_cell() {
        let long = "x".repeat(TEXT_BYTES_MAX + 1);
        let encoding = ["red", "green", &long].map(|name| (name.to_owned(), name.len() as f64));
        let bins = Bins::from_categories(vec![Category::Name("red".into())]);
        let mut plain = 0;
        for (nullable, closed) in [(false, false), (false, true), (true, false), (true, true)] {
            for kind in [FeatureType::Category, FeatureType::Number] {
                for dtype in [Dtype::Float32, Dtype::Int64, Dtype::String] {
                    let feature = Feature {
                        nullable,
                        closed,
                        encoding: encoding.clone().into(),
                        ..feature(kind, None, None)
                    };
                    let check = Check::new(&feature, dtype, bins.clone());
                    for cell in ["", "red", "green", "blue", " red", "3", &long] {
                        let mut warnings = 0;
                        let checked = check.check(Value::Cell(cell.into()), |_| warnings += 1);
                        if let Some((code, bin)) = check.plain_cell(cell) {
                            plain += 1;
                            let accepted = code.map_or(Accepted::Missing, Accepted::Number);
                            assert_eq!((checked, warnings), (Ok((accepted, bin)), 0), "{check:?}");
                        }
                    }
                }
            }
        }
        assert!(plain > 10, "{plain}");
    }

    #[test]
    fn beginnings_have_the_order_of_the_texts() {
        let texts = [
            "",
            "\0",
            "a",
            "a\0",
            "ab",
            "abcdefg",
            "abcdefgh",
            "abcdefgh\0",
            "abcdefghi",
            "abcdefgi",
            "b",
            "é",
            "\u{10ffff}",
        ];
        for a in texts {
            for b in texts {
                let order = start_of(a).cmp(&start_of(b)).then_with(|| a.cmp(b));
                assert_eq!(order, a.cmp(b), "{a:?} {b:?}");
            }
        }
    }
}
