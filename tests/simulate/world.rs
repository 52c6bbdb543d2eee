//! A model of twenty features, and rows for it.

use crate::draw::Draw;
use modelet::drift::{Bins, Counts, Special};
use modelet::signature::{
    Category, Column, EngineKind, FORMAT, Feature, FeatureType, Labels, Manifest, Output, Provenance, Reference,
    ScoreKind, Task, Unknown,
};

/// Rows of the reference.
const REFERENCE_ROWS: u64 = 6000;

/// What a feature is like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Normal; some with missing values.
    Normal,
    /// With a long tail.
    Skewed,
    /// Few distinct values.
    Tied,
    /// Normal, and much like another feature.
    Correlated,
    /// Mostly 0, or one of two values: nothing to shift.
    Spiked,
    /// Categories.
    Categorical,
}

impl Kind {
    /// The kinds in which a shift means something.
    pub const SHIFTED: [Kind; 4] = [Kind::Normal, Kind::Skewed, Kind::Tied, Kind::Correlated];

    /// For tables.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Normal => "normal",
            Kind::Skewed => "skewed",
            Kind::Tied => "tied",
            Kind::Correlated => "correlated",
            Kind::Spiked => "spiked",
            Kind::Categorical => "categorical",
        }
    }
}

const KINDS: [Kind; 20] = [
    Kind::Normal,
    Kind::Normal,
    Kind::Normal,
    Kind::Normal,
    Kind::Skewed,
    Kind::Skewed,
    Kind::Skewed,
    Kind::Skewed,
    Kind::Tied,
    Kind::Tied,
    Kind::Spiked,
    Kind::Spiked,
    Kind::Categorical,
    Kind::Categorical,
    Kind::Categorical,
    Kind::Categorical,
    Kind::Correlated,
    Kind::Correlated,
    Kind::Correlated,
    Kind::Correlated,
];

/// The number of categories of features 12 to 15, and how fast they get rare.
const CATEGORIES: [(u32, f64); 4] = [(2, 0.0), (7, 0.5), (12, 1.0), (40, 1.2)];

/// Standard deviation of each feature, as `Rows::next` draws it.
const DEVIATIONS: [f64; 12] = [
    1.0,
    1.0,
    1.0,
    1.0,
    // exp(normal): √((e − 1) e).
    2.161_197_415_895_44,
    // Exponential.
    1.0,
    // exp(normal / 2): √((e^¼ − 1) e^¼).
    0.603_901_072_3,
    // The square of a normal number.
    std::f64::consts::SQRT_2,
    // Rounded, shifted before that.
    1.5,
    8.0,
    0.0,
    0.0,
];

/// One feature moved.
#[derive(Clone, Copy, Debug)]
pub struct Shift {
    /// Its index.
    pub feature: usize,
    /// By how many standard deviations.
    pub deviations: f64,
}

/// A value of a row.
#[derive(Clone, Copy, Debug)]
enum Value {
    Missing,
    Number(f64),
    Category(u32),
}

/// Draws rows.
struct Rows {
    draw: Draw,
    /// Cumulated probabilities of the categories.
    categories: Vec<Vec<f64>>,
}

impl Rows {
    fn new(seed: u64) -> Rows {
        let categories = CATEGORIES
            .iter()
            .map(|&(count, power)| {
                let weights: Vec<f64> = (1..=count).map(|rank| f64::from(rank).powf(-power)).collect();
                let total: f64 = weights.iter().sum();
                let mut sum = 0.0;
                weights
                    .iter()
                    .map(|weight| {
                        sum += weight / total;
                        sum
                    })
                    .collect()
            })
            .collect();
        Rows {
            draw: Draw::new(seed),
            categories,
        }
    }

    /// The features, then the class and the score.
    fn next(&mut self, shift: Option<Shift>) -> [Value; 22] {
        let draw = &mut self.draw;
        let common = draw.normal();
        let moved = |feature: usize| match shift {
            Some(shift) if shift.feature == feature => {
                shift.deviations * DEVIATIONS.get(feature).copied().unwrap_or(1.0)
            }
            _ => 0.0,
        };
        let mut row = [Value::Missing; 22];
        for (feature, kind) in KINDS.iter().enumerate() {
            let value = match (kind, feature) {
                (Kind::Normal, 2) if draw.uniform() < 0.05 => continue,
                (Kind::Normal, 3) if draw.uniform() < 0.5 => continue,
                (Kind::Normal, _) => draw.normal() + moved(feature),
                (Kind::Skewed, 4) => libm::exp(draw.normal()) + moved(feature),
                (Kind::Skewed, 5) => -libm::log(draw.uniform()) + moved(feature),
                (Kind::Skewed, 6) => libm::exp(0.5 * draw.normal()) + moved(feature),
                (Kind::Skewed, _) => {
                    let normal = draw.normal();
                    normal * normal + moved(feature)
                }
                (Kind::Tied, 8) => (1.5 * draw.normal() + moved(feature)).round(),
                (Kind::Tied, _) => (40.0 + 8.0 * draw.normal() + moved(feature)).round(),
                (Kind::Spiked, 10) => match draw.uniform() < 0.7 {
                    true => 0.0,
                    false => -libm::log(draw.uniform()),
                },
                (Kind::Spiked, _) => f64::from(draw.uniform() < 0.3),
                (Kind::Correlated, _) => 0.9 * common + 0.19f64.sqrt() * draw.normal() + moved(feature),
                (Kind::Categorical, _) => {
                    let cumulated = &self.categories[feature - 12];
                    let at = draw.uniform();
                    let place = cumulated.partition_point(|&sum| sum < at).min(cumulated.len() - 1);
                    row[feature] = Value::Category(place as u32);
                    continue;
                }
            };
            row[feature] = Value::Number(value);
        }
        let number = |at: usize| match row[at] {
            Value::Number(value) => value,
            _ => 0.0,
        };
        let score = 1.0 / (1.0 + libm::exp(1.0 - number(0) - 0.5 * number(1) - number(16)));
        row[20] = Value::Category(u32::from(score > 0.5));
        row[21] = Value::Number(score);
        row
    }
}

/// A model with a reference of its own.
pub struct World {
    pub manifest: Manifest,
    rows: Rows,
    /// Of categorical columns, the bin of each category.
    places: Vec<Vec<u8>>,
}

impl World {
    /// The model of a seed.
    pub fn new(seed: u64) -> World {
        let mut rows = Rows::new(seed);
        let reference: Vec<[Value; 22]> = (0..REFERENCE_ROWS).map(|_| rows.next(None)).collect();
        let mut places = vec![Vec::new(); 22];
        let mut columns = Vec::new();
        for (index, places) in places.iter_mut().enumerate() {
            let name = match index {
                20 => "prediction".to_owned(),
                21 => "score".to_owned(),
                _ => format!("x{index}"),
            };
            columns.push(match (index, KINDS.get(index)) {
                (20, _) => {
                    *places = vec![0, 1];
                    let labels = ["0", "1"].map(|label| Category::Name(label.into()));
                    Column::new(name, Bins::from_categories(labels.to_vec()))
                }
                (21, _) => Column::new(name, Bins::uniform(0.0, 1.0)),
                (_, Some(Kind::Categorical)) => {
                    let mut counts = vec![0u64; CATEGORIES[index - 12].0 as usize];
                    for row in &reference {
                        if let Value::Category(place) = row[index] {
                            counts[place as usize] += 1;
                        }
                    }
                    let mut seen: Vec<usize> = (0..counts.len()).filter(|&place| counts[place] > 0).collect();
                    seen.sort_by(|&a, &b| counts[b].cmp(&counts[a]).then(a.cmp(&b)));
                    let bins = Bins::from_categories(seen.iter().map(|&c| Category::Code(c as f64)).collect());
                    *places = vec![bins.special(Special::Unseen); counts.len()];
                    for (bin, &place) in seen.iter().enumerate() {
                        places[place] = bins.index(bin);
                    }
                    Column::new(name, bins)
                }
                _ => {
                    let values: Vec<f64> = reference
                        .iter()
                        .filter_map(|row| match row[index] {
                            Value::Number(value) => Some(value),
                            _ => None,
                        })
                        .collect();
                    Column::of_numbers(name, &values)
                }
            });
        }
        let features = columns[..20]
            .iter()
            .enumerate()
            .map(|(index, column)| Feature {
                name: column.name.clone(),
                kind: FeatureType::Number,
                nullable: true,
                seen: None,
                allowed: None,
                categories: Vec::new(),
                closed: false,
                encoding: Default::default(),
                example: None,
                input: 0,
                column: index as u32,
            })
            .collect();
        let mut world = World {
            manifest: Manifest {
                format: FORMAT,
                name: "simulated".into(),
                version: "1".into(),
                engine: EngineKind::Tabular,
                task: Task::Binary,
                features,
                unknown: Unknown::Error,
                inputs: Vec::new(),
                output: Output {
                    labels: Labels::Int64(vec![0, 1]),
                    positive: Some(1),
                    label: Some(0),
                    scores: vec![1],
                    width: 2,
                    kind: ScoreKind::Probability,
                },
                batch: true,
                reference: Reference {
                    rows: REFERENCE_ROWS,
                    columns,
                },
                baseline: None,
                provenance: Provenance::default(),
            },
            rows,
            places,
        };
        let mut counts = Counts::new(&world.manifest.reference);
        for row in &reference {
            world.count(&mut counts, row);
        }
        for (column, counts) in world.manifest.reference.columns.iter_mut().zip(counts.columns) {
            column.counts = counts;
        }
        world
    }

    /// The features of a kind.
    pub fn of_kind(&self, kind: Kind) -> Vec<usize> {
        (0..KINDS.len()).filter(|&at| KINDS[at] == kind).collect()
    }

    /// The counts of new rows.
    pub fn window(&mut self, rows: u64, shift: Option<Shift>) -> Counts {
        let mut counts = Counts::new(&self.manifest.reference);
        for _ in 0..rows {
            let row = self.rows.next(shift);
            self.count(&mut counts, &row);
        }
        counts
    }

    fn count(&self, counts: &mut Counts, row: &[Value; 22]) {
        counts.answered += 1;
        let columns = self.manifest.reference.columns.iter().zip(&mut counts.columns);
        for ((column, counts), (value, places)) in columns.zip(row.iter().zip(&self.places)) {
            let bin = match value {
                Value::Missing => column.bins.special(Special::Missing),
                Value::Number(value) => column.bins.number(*value),
                Value::Category(place) => places[*place as usize],
            };
            counts[usize::from(bin)] += 1;
        }
    }
}
