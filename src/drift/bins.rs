//! The bins of one column.

use crate::signature::Category;
use serde::{Deserialize, Serialize};

/// The most bins inside the seen range, and the most categories with a bin of
/// their own less one (the last takes the rest).
const INSIDE_MAX: usize = 60;

/// The most categories that have a bin of their own.
pub(crate) const CATEGORIES_MAX: usize = INSIDE_MAX - 1;

/// The bins of one column: at most 65, so that an observation is one byte.
///
/// | column | bins in order |
/// | --- | --- |
/// | numeric | below the seen range; inside it, `cuts.len() + 1`; above it |
/// | categorical | one for each listed category; the rest |
/// | both, at the end | missing; unseen category; not finite |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "type")]
pub enum Bins {
    /// Numbers.
    Numeric {
        /// Smallest value seen.
        min: f64,
        /// Inner edges, ascending, all above `min`: the bin that starts at an
        /// edge contains it.
        cuts: Vec<f64>,
        /// Largest value seen; the last bin inside contains it.
        max: f64,
    },
    /// Categories.
    Categorical {
        /// The most frequent ones of the reference, at most 59.
        values: Vec<Category>,
    },
}

/// The bins that every column has at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    /// No value was given.
    Missing,
    /// A category that the reference does not have.
    Unseen,
    /// NaN or an infinity that was given as a value.
    NotFinite,
}

impl Bins {
    /// Bins for numbers such as these: one a distinct value up to 60 of them,
    /// else 60 of equal mass as near as ties allow. NaN and infinities are
    /// left out; `None` when nothing remains.
    pub fn from_numbers(values: &[f64]) -> Option<Bins> {
        let mut sorted: Vec<f64> = values.iter().copied().filter(|v| v.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        let mut distinct = sorted.clone();
        distinct.dedup();
        let mut cuts: Vec<f64> = if distinct.len() <= INSIDE_MAX {
            distinct[1..].to_vec()
        } else {
            (1..INSIDE_MAX)
                .map(|i| sorted[i * sorted.len() / INSIDE_MAX])
                .filter(|&cut| cut > min)
                .collect()
        };
        cuts.dedup();
        Some(Bins::Numeric { min, cuts, max })
    }

    /// One bin for all finite numbers.
    pub fn unbounded() -> Bins {
        Bins::Numeric {
            min: f64::MIN,
            cuts: Vec::new(),
            max: f64::MAX,
        }
    }

    /// Equally wide bins over a range, for scores whose range is known.
    pub fn uniform(min: f64, max: f64) -> Bins {
        let width = (max - min) / INSIDE_MAX as f64;
        Bins::Numeric {
            min,
            cuts: (1..INSIDE_MAX).map(|i| min + width * i as f64).collect(),
            max,
        }
    }

    /// Bins for categories, given in order of falling frequency.
    pub fn from_categories(mut values: Vec<Category>) -> Bins {
        values.truncate(CATEGORIES_MAX);
        Bins::Categorical { values }
    }

    /// The number of bins.
    pub fn len(&self) -> usize {
        self.ordinary() + 3
    }

    /// Never: there are always the special bins.
    pub fn is_empty(&self) -> bool {
        false
    }

    fn ordinary(&self) -> usize {
        match self {
            Bins::Numeric { cuts, .. } => cuts.len() + 3,
            Bins::Categorical { values } => values.len() + 1,
        }
    }

    /// The number of one of the special bins.
    pub fn special(&self, special: Special) -> u8 {
        (self.ordinary()
            + match special {
                Special::Missing => 0,
                Special::Unseen => 1,
                Special::NotFinite => 2,
            }) as u8
    }

    /// The bin of a number; of a categorical column, the bin of that code.
    pub fn number(&self, value: f64) -> u8 {
        match self {
            _ if !value.is_finite() => self.special(Special::NotFinite),
            Bins::Numeric { min, cuts, max } => {
                if value < *min {
                    0
                } else if value > *max {
                    cuts.len() as u8 + 2
                } else {
                    1 + cuts.partition_point(|&cut| cut <= value) as u8
                }
            }
            Bins::Categorical { values } => self.position(values, |c| *c == Category::Code(value)),
        }
    }

    /// The bin of a name.
    pub fn name(&self, value: &str) -> u8 {
        match self {
            Bins::Numeric { .. } => self.special(Special::Unseen),
            Bins::Categorical { values } => {
                self.position(values, |c| matches!(c, Category::Name(name) if name == value))
            }
        }
    }

    /// The bin of this category, if it has one of its own.
    pub(crate) fn category(&self, category: &Category) -> Option<u8> {
        match self {
            Bins::Numeric { .. } => None,
            Bins::Categorical { values } => values.iter().position(|c| c == category).map(|at| at as u8),
        }
    }

    /// The bin of the categories that have none of their own; of numbers, the
    /// one above all.
    pub(crate) fn rest(&self) -> u8 {
        (self.ordinary() - 1) as u8
    }

    /// Whether every category of the reference has a bin of its own: there is
    /// a reference, and it was not cut off.
    pub(crate) fn lists_all_categories(&self) -> bool {
        match self {
            Bins::Numeric { .. } => false,
            Bins::Categorical { values } => !values.is_empty() && values.len() < CATEGORIES_MAX,
        }
    }

    /// The bin of the category at this place in the list of all of them.
    pub fn index(&self, place: usize) -> u8 {
        match self {
            Bins::Numeric { .. } => self.special(Special::Unseen),
            Bins::Categorical { values } => place.min(values.len()) as u8,
        }
    }

    fn position(&self, values: &[Category], matches: impl Fn(&Category) -> bool) -> u8 {
        values.iter().position(matches).unwrap_or(values.len()) as u8
    }

    /// Whether the bins are as [`Bins`] promises, which a manifest written by
    /// hand need not be.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Bins::Numeric { min, cuts, max } => {
                let ascending = cuts.windows(2).all(|pair| pair[0] < pair[1]);
                let inside = cuts.iter().all(|cut| cut > min && cut <= max);
                if cuts.len() >= INSIDE_MAX || !ascending || !inside || min.is_nan() || min > max {
                    return Err("edges are not ascending inside the seen range".into());
                }
            }
            Bins::Categorical { values } => {
                if values.len() >= INSIDE_MAX {
                    return Err(format!("{} categories", values.len()));
                }
            }
        }
        Ok(())
    }
}

/// The inner edges of a numeric column, laid out for finding bins.
///
/// A binary search waits six times for an edge before it knows which is next;
/// here, a value is held against eight edges at a time, twice: the last of each
/// block of eight, then those of the block that it falls into.
#[derive(Clone, Debug)]
pub(crate) struct Edges {
    last: [f64; Edges::BLOCK],
    blocks: [[f64; Edges::BLOCK]; Edges::BLOCK],
}

impl Edges {
    const BLOCK: usize = 8;

    /// The inner edges of bins that are as [`Bins`] promises.
    pub(crate) fn new(cuts: impl ExactSizeIterator<Item = f64>) -> Edges {
        debug_assert!(cuts.len() < INSIDE_MAX);
        let mut blocks = [[f64::INFINITY; Edges::BLOCK]; Edges::BLOCK];
        for (edge, cut) in blocks.as_flattened_mut().iter_mut().zip(cuts) {
            *edge = cut;
        }
        Edges {
            last: blocks.map(|block| block[Edges::BLOCK - 1]),
            blocks,
        }
    }

    /// The bin of a finite number inside the seen range; as [`Bins::number`]
    /// has it.
    #[inline]
    pub(crate) fn bin(&self, value: f64) -> u8 {
        // There are fewer edges than places, so the last place is infinite.
        let block = at_most(&self.last, value) % Edges::BLOCK;
        (1 + block * Edges::BLOCK + at_most(&self.blocks[block], value)) as u8
    }
}

/// How many of the edges are at most the value.
#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
#[inline]
fn at_most(edges: &[f64; Edges::BLOCK], value: f64) -> usize {
    edges.iter().filter(|&&edge| edge <= value).count()
}

/// How many of the edges are at most the value. Compilers make eight comparisons
/// of the loop above; these are four.
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
#[inline]
fn at_most(&[a, b, c, d, e, f, g, h]: &[f64; Edges::BLOCK], value: f64) -> usize {
    use core::arch::wasm32::{f64x2, f64x2_le, f64x2_splat, i64x2_add, i64x2_extract_lane};
    let value = f64x2_splat(value);
    // Lanes are all ones, which is -1, where an edge is at most the value.
    let some = i64x2_add(f64x2_le(f64x2(a, b), value), f64x2_le(f64x2(c, d), value));
    let others = i64x2_add(f64x2_le(f64x2(e, f), value), f64x2_le(f64x2(g, h), value));
    let sum = i64x2_add(some, others);
    -(i64x2_extract_lane::<0>(sum) + i64x2_extract_lane::<1>(sum)) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_distinct_values_get_a_bin_each() {
        let bins = Bins::from_numbers(&[2.0, 0.0, 1.0, 1.0, f64::NAN]).unwrap();
        assert_eq!(
            [-0.1, 0.0, 0.5, 1.0, 2.0, 2.1].map(|v| bins.number(v)),
            [0, 1, 1, 2, 3, 4]
        );
        assert_eq!(bins.number(f64::NAN), bins.special(Special::NotFinite));
        assert_eq!(bins.special(Special::Missing), 5);
        assert_eq!(bins.len(), 8);
    }

    #[test]
    fn many_values_get_sixty_bins_of_about_equal_mass() {
        let values: Vec<f64> = (0..6000).map(f64::from).collect();
        let bins = Bins::from_numbers(&values).unwrap();
        let mut counts = vec![0; bins.len()];
        for &v in &values {
            counts[bins.number(v) as usize] += 1;
        }
        assert_eq!(bins.len(), 65);
        assert_eq!(&counts[1..61], &[100; 60]);
        assert_eq!(bins.check(), Ok(()));
    }

    #[test]
    fn edges_find_the_bins_that_a_search_finds() {
        for distinct in (1..=60).chain([100, 1000]) {
            let values: Vec<f64> = (0..distinct).map(|i| f64::from(i) * 0.7 - 20.0).collect();
            let bins = Bins::from_numbers(&values).unwrap();
            let Bins::Numeric { cuts, .. } = &bins else {
                panic!("{bins:?}");
            };
            let edges = Edges::new(cuts.iter().copied());
            let between = values.windows(2).map(|pair| (pair[0] + pair[1]) / 2.0);
            for value in between.chain(values.iter().copied()) {
                assert_eq!(edges.bin(value), bins.number(value), "{value} {bins:?}");
            }
        }
    }

    #[test]
    fn a_constant_column_has_one_bin_inside() {
        let bins = Bins::from_numbers(&[3.0; 10]).unwrap();
        assert_eq!([2.9, 3.0, 3.1].map(|v| bins.number(v)), [0, 1, 2]);
    }

    #[test]
    fn rare_categories_share_the_last_bin() {
        let names = |n: usize| (0..n).map(|i| Category::Name(format!("c{i}"))).collect();
        let bins = Bins::from_categories(names(70));
        assert_eq!(bins.name("c58"), 58);
        assert_eq!(bins.name("c59"), 59);
        assert_eq!(bins.name("c69"), 59);
        assert_eq!(bins.len(), 63);
        assert_eq!(bins.check(), Ok(()));
    }
}
