//! Counts of what was observed.

use crate::signature::Reference;
use crate::validate::{FaultCode, FaultCount};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// How often each fault occurred: by the feature's index, none for faults that
/// belong to no feature, and the kind.
pub type Faults = BTreeMap<(Option<u32>, FaultCode), u64>;

/// What some set of instances observed over some time.
///
/// Counts merge by addition, so the order and grouping in which they are
/// collected does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Rows that were answered.
    pub answered: u64,
    /// Rows that were rejected.
    pub rejected: u64,
    /// For each monitored column, in the order of [`Reference::columns`], how
    /// many answered rows fell into each of its bins.
    pub columns: Vec<Vec<u64>>,
    /// The faults of rejected rows.
    pub faults: Faults,
}

impl Counts {
    /// No observation yet, of a model with these columns.
    pub fn new(reference: &Reference) -> Counts {
        Counts {
            columns: reference
                .columns
                .iter()
                .map(|column| vec![0; column.bins.len()])
                .collect(),
            ..Counts::default()
        }
    }

    /// Whether nothing was observed.
    pub fn is_empty(&self) -> bool {
        self.answered == 0 && self.rejected == 0 && self.faults.is_empty()
    }

    /// Whether these are counts of a model with these columns.
    pub fn fit(&self, reference: &Reference) -> bool {
        self.columns.len() == reference.columns.len()
            && self
                .columns
                .iter()
                .zip(&reference.columns)
                .all(|(counts, column)| counts.len() == column.bins.len())
    }

    /// Adds the rows of a request: `status` has one entry a row, 0 for an
    /// answered one; `bins` has `columns` numbers for each row, 255 where it
    /// was rejected.
    pub fn add_rows(&mut self, status: &[u8], bins: &[u8], faults: &[FaultCount]) {
        let width = self.columns.len();
        for (row, &status) in status.iter().enumerate() {
            if status != 0 {
                self.rejected += 1;
                continue;
            }
            self.answered += 1;
            let bins = bins.get(row * width..(row + 1) * width).unwrap_or(&[]);
            for (counts, &bin) in self.columns.iter_mut().zip(bins) {
                if let Some(count) = counts.get_mut(usize::from(bin)) {
                    *count += 1;
                }
            }
        }
        for fault in faults {
            *self.faults.entry((fault.feature, fault.code)).or_default() += u64::from(fault.count);
        }
    }

    /// Adds other counts of the same model.
    pub fn merge(&mut self, other: &Counts) {
        // Counts of elsewhere may be anything; a sum must not end a server.
        self.answered = self.answered.saturating_add(other.answered);
        self.rejected = self.rejected.saturating_add(other.rejected);
        if self.columns.is_empty() {
            self.columns.clone_from(&other.columns);
        } else {
            for (counts, more) in self.columns.iter_mut().zip(&other.columns) {
                for (count, more) in counts.iter_mut().zip(more) {
                    *count = count.saturating_add(*more);
                }
            }
        }
        for (fault, count) in &other.faults {
            let sum = self.faults.entry(*fault).or_default();
            *sum = sum.saturating_add(*count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drift::Bins;
    use crate::signature::Column;

    fn reference() -> Reference {
        let column = |name: &str| Column::new(name, Bins::from_numbers(&[0.0, 1.0]).unwrap());
        Reference {
            rows: 0,
            columns: vec![column("a"), column("b")],
        }
    }

    #[test]
    fn rows_are_counted_once_wherever_they_are_counted() {
        let fault = FaultCount {
            feature: Some(1),
            code: FaultCode::Type,
            count: 2,
        };
        let mut one = Counts::new(&reference());
        assert!(one.is_empty() && one.fit(&reference()));
        one.add_rows(&[0, 1, 0], &[1, 2, 255, 255, 1, 4], &[fault]);
        let mut parts = Counts::new(&reference());
        for (status, bins, faults) in [
            (0, [1, 4], &[][..]),
            (1, [255, 255], &[fault][..]),
            (0, [1, 2], &[][..]),
        ] {
            let mut part = Counts::new(&reference());
            part.add_rows(&[status], &bins, faults);
            parts.merge(&part);
        }
        assert_eq!(one, parts);
        assert_eq!((one.answered, one.rejected), (2, 1));
        assert_eq!(one.columns[0], [0, 2, 0, 0, 0, 0, 0]);
        assert_eq!(one.columns[1], [0, 0, 1, 0, 1, 0, 0]);
        assert_eq!(one.faults[&(Some(1), FaultCode::Type)], 2);
    }
}
