//! Drift is measured on counts: every monitored column has *bins* that were
//! frozen when the model was packed, and an observation is the number of the
//! bin that a value fell into. Counts add up, whatever instance, replica, hour
//! or browser they come from; everything else is computed from their sums.
//!
//! A column *drifted* when the difference is both real and worth a word. Real:
//! Kolmogorov and Smirnov's test on the fine bins of numbers, the chi-square
//! test of categories, the p-values of all features adjusted by Benjamini and
//! Hochberg. Worth a word: the population stability index on about ten groups
//! of bins. It *alerts* from a larger index on. The index alone would not do:
//! of small windows most of it is noise.
//!
//! `docs/drift.md` has the formulas in full, and how often the decision is
//! wrong; [`stats`] has their sources.

mod bins;
mod compare;
mod counts;
pub mod delta;
mod groups;
#[cfg(test)]
mod oracle;
pub mod report;
pub mod stats;
pub mod truth;
mod words;

pub(crate) use bins::CATEGORIES_MAX;
pub(crate) use bins::Edges;
pub use bins::{Bins, Special};
pub use compare::report;
pub use counts::{Counts, Faults};
pub use groups::{group_counts, group_labels, groups, labels, reference_ratios};
