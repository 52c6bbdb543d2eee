//! Drift is measured on counts: every monitored column has *bins* that were
//! frozen when the model was packed, and an observation is the number of the
//! bin that a value fell into. Counts add up, whatever instance, replica, hour
//! or browser they come from; everything else is computed from their sums.

mod bins;
mod compare;
mod counts;
mod groups;
pub mod report;
pub mod stats;
mod words;

pub use bins::{Bins, Special};
pub use compare::report;
pub use counts::{Counts, Faults};
pub use groups::{group_counts, group_labels, groups, labels, reference_ratios};
