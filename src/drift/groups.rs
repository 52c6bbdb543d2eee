//! Groups of bins, on which the size of a difference is measured, and the names
//! of bins and groups.
//!
//! Sixty bins serve to test whether a difference is real. For its size they are
//! too many: in small windows most of their PSI would be noise. So they are put
//! together to about ten groups, frozen like the bins themselves.

use crate::drift::{Bins, Special, stats};
use crate::signature::{Category, Column};

/// How many groups numbers have, ties aside.
const GROUPS: u64 = 10;

/// A category with at least one in so many of the reference's values is a group
/// of its own.
const OWN_GROUP: u64 = 50;

/// The group of each bin of a column: `None` for bins that belong to no group
/// (missing, not finite), and for all bins where there is no reference.
///
/// Numbers: a bin inside the seen range belongs to the tenth of the reference
/// that the middle of its mass lies in; below the range is the first group,
/// above it the last. Where the reference has one number only, it is a group,
/// and so are the numbers below and those above. Categories: each with at least
/// 2 % of the reference is a group; one further group, the last, takes the other
/// ones, the rest and the unseen.
pub fn groups(column: &Column) -> Vec<Option<u32>> {
    let bins = &column.bins;
    let mut groups = vec![None; bins.len()];
    let ordinary = bins.special(Special::Missing) as usize;
    if column.counts.len() != bins.len() {
        return groups;
    }
    let counts = &column.counts[..ordinary];
    let total: u64 = counts.iter().sum();
    if total == 0 {
        return groups;
    }
    match bins {
        Bins::Numeric { min, max, .. } => {
            let inside = &counts[1..ordinary - 1];
            let total = inside.iter().sum::<u64>().max(1);
            let (mut below, mut group, mut tenth_before) = (0u64, 0, None);
            for (at, &count) in inside.iter().enumerate() {
                // Empty bins, which do not come from this reference, stay with
                // the bin before.
                let tenth = (2 * below + count) * GROUPS / (2 * total);
                if count > 0 && tenth_before != Some(tenth) {
                    group += u32::from(tenth_before.is_some());
                    tenth_before = Some(tenth);
                }
                groups[at + 1] = Some(group);
                below += count;
            }
            let one = min == max;
            if one {
                groups[1] = Some(1);
            }
            groups[0] = Some(0);
            groups[ordinary - 1] = Some(if one { 2 } else { group });
        }
        Bins::Categorical { values } => {
            let mut next = 0;
            for (at, &count) in counts.iter().enumerate().take(values.len()) {
                if count * OWN_GROUP >= total {
                    groups[at] = Some(next);
                    next += 1;
                }
            }
            for group in groups.iter_mut().take(ordinary) {
                group.get_or_insert(next);
            }
            groups[bins.special(Special::Unseen) as usize] = Some(next);
        }
    }
    groups
}

/// The counts of groups, from those of their bins.
pub fn group_counts(groups: &[Option<u32>], counts: &[u64]) -> Vec<u64> {
    let count = groups.iter().flatten().max().map_or(0, |&last| last as usize + 1);
    let mut sums = vec![0; count];
    for (group, count) in groups.iter().zip(counts) {
        if let Some(group) = group {
            sums[*group as usize] += count;
        }
    }
    sums
}

/// The reference's share of each group of a column, half a count added to each:
/// what PSI holds the shares of a window against, which are smoothed likewise
/// ([`stats::smoothed`]). Empty where there is no reference.
pub fn reference_ratios(column: &Column) -> Vec<f64> {
    stats::smoothed(&group_counts(&groups(column), &column.counts))
}

/// The range of a bin inside the seen range: its lower and upper edge.
pub(super) fn range(bins: &Bins, bin: usize) -> Option<(f64, f64)> {
    match bins {
        Bins::Numeric { min, cuts, max } if (1..=cuts.len() + 1).contains(&bin) => {
            let from = if bin == 1 { *min } else { cuts[bin - 2] };
            Some((from, cuts.get(bin - 1).copied().unwrap_or(*max)))
        }
        _ => None,
    }
}

/// The name of each bin of a column, no two alike: `below`, `[12, 15)`, `above`;
/// where each bin holds one value, that; a category; `other`; `missing`,
/// `unseen`, `not_finite`. Where a category has one of these names, brackets are
/// put around the bin's.
pub fn labels(column: &Column) -> Vec<String> {
    bin_labels(column, &edge_labels(&column.bins))
}

/// The name of each group of a column, for people: `< 12`, `[12, 30)`, `≥ 30`;
/// a category; `other`.
pub fn group_labels(column: &Column) -> Vec<String> {
    let edges = edge_labels(&column.bins);
    labels_of_groups(column, &groups(column), &edges, &bin_labels(column, &edges))
}

/// [`labels`] and [`group_labels`] at once.
pub(super) fn all_labels(column: &Column, groups: &[Option<u32>]) -> (Vec<String>, Vec<String>) {
    let edges = edge_labels(&column.bins);
    let bins = bin_labels(column, &edges);
    let groups = labels_of_groups(column, groups, &edges, &bins);
    (bins, groups)
}

fn bin_labels(column: &Column, edges: &[String]) -> Vec<String> {
    let mut labels = Vec::with_capacity(column.bins.len());
    let mut fixed: Vec<&str> = Vec::new();
    match &column.bins {
        Bins::Numeric { .. } => {
            labels.push("below".to_owned());
            let last = edges.len() - 2;
            labels.extend(edges.windows(2).enumerate().map(|(at, edges)| {
                let (from, to) = (&edges[0], &edges[1]);
                match at == last {
                    _ if column.distinct || from == to => from.clone(),
                    false => format!("[{from}, {to})"),
                    true => format!("[{from}, {to}]"),
                }
            }));
            fixed.push("above");
        }
        Bins::Categorical { values } => {
            labels.extend(values.iter().map(plain));
            fixed.push("other");
        }
    }
    fixed.extend(["missing", "unseen", "not_finite"]);
    for name in fixed {
        let mut name = name.to_owned();
        while labels.contains(&name) {
            name = format!("({name})");
        }
        labels.push(name);
    }
    labels
}

fn labels_of_groups(column: &Column, groups: &[Option<u32>], edges: &[String], bins: &[String]) -> Vec<String> {
    let count = groups.iter().flatten().max().map_or(0, |&last| last + 1);
    (0..count)
        .map(|group| {
            let mut members = (0..groups.len()).filter(|&bin| groups[bin] == Some(group));
            let (first, last) = (group == 0, group + 1 == count);
            if let Bins::Categorical { .. } = column.bins {
                // The last group is named after the bin that is always in it.
                let bin = match last {
                    true => Some(usize::from(column.bins.rest())),
                    false => members.next(),
                };
                return bin.map(|bin| bins[bin].clone()).unwrap_or_default();
            }
            // The bins inside the seen range: number i has edges i - 1 and i.
            let mut inside = members.filter(|&bin| (1..edges.len()).contains(&bin));
            let Some(from) = inside.next() else {
                // Of a reference of one number.
                return match first {
                    true => format!("< {}", edges[0]),
                    false => format!("> {}", edges[0]),
                };
            };
            let to = inside.next_back().unwrap_or(from);
            match (first, last) {
                (true, true) => "all".to_owned(),
                (true, false) if column.distinct => format!("≤ {}", edges[to - 1]),
                (true, false) => format!("< {}", edges[to]),
                (false, true) => format!("≥ {}", edges[from - 1]),
                (false, false) if edges[from - 1] == edges[to] => edges[from - 1].clone(),
                (false, false) if column.distinct && from == to => edges[from - 1].clone(),
                (false, false) if column.distinct => format!("{} to {}", edges[from - 1], edges[to - 1]),
                (false, false) => format!("[{}, {})", edges[from - 1], edges[to]),
            }
        })
        .collect()
}

/// A category as it is, without quotes.
pub(super) fn plain(category: &Category) -> String {
    match category {
        Category::Code(code) => number(*code, 17),
        Category::Name(name) => name.clone(),
    }
}

/// The edges of numeric bins, min and max with them, with as many digits as tell
/// neighbours apart, at least four.
fn edge_labels(bins: &Bins) -> Vec<String> {
    let Bins::Numeric { min, cuts, max } = bins else {
        return Vec::new();
    };
    let edges: Vec<f64> = std::iter::once(*min)
        .chain(cuts.iter().copied())
        .chain([*max])
        .collect();
    // Numbers of d digits are at most 10^(1 - d) of their size apart.
    let digits = edges.windows(2).filter(|pair| pair[0] < pair[1]).map(|pair| {
        let size = pair[0].abs().max(pair[1].abs());
        libm::ceil(1.0 + libm::log10(size / (pair[1] - pair[0]))).clamp(4.0, 17.0) as usize
    });
    let digits = digits.max().unwrap_or(4);
    edges.into_iter().map(|edge| number(edge, digits)).collect()
}

/// A number with at most so many significant digits.
pub(super) fn number(value: f64, digits: usize) -> String {
    let rounded: f64 = format!("{value:.*e}", digits.max(1) - 1)
        .parse()
        .ok()
        .filter(|v: &f64| v.is_finite())
        .unwrap_or(value);
    // Whole numbers keep all their digits up to a million.
    let shown = if value.abs() < 1e6 && value == value.trunc() {
        value
    } else {
        rounded
    };
    match shown.abs() {
        size if size != 0.0 && !(1e-4..1e9).contains(&size) => format!("{shown:e}"),
        _ => format!("{}", shown + 0.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(values: &[f64]) -> Column {
        let mut column = Column::of_numbers("x", values);
        column.counts = vec![0; column.bins.len()];
        for &value in values {
            column.counts[usize::from(column.bins.number(value))] += 1;
        }
        column
    }

    fn categories(counts: &[u64]) -> Column {
        let names = (0..counts.len()).map(|i| Category::Name(format!("c{i}"))).collect();
        let mut column = Column::new("c", Bins::from_categories(names));
        column.counts = counts.to_vec();
        column.counts.extend([0; 4]);
        column
    }

    #[test]
    fn many_values_make_ten_groups_of_equal_mass() {
        let column = numbers(&(0..6000).map(f64::from).collect::<Vec<_>>());
        let groups = groups(&column);
        assert_eq!(group_counts(&groups, &column.counts), [600; 10]);
        assert_eq!(
            (groups[0], groups[1], groups[60], groups[61]),
            (Some(0), Some(0), Some(9), Some(9))
        );
        assert_eq!(&groups[62..], &[None; 3]);
        assert_eq!(reference_ratios(&column), [0.1; 10]);
        let labels = group_labels(&column);
        assert_eq!(
            (&*labels[0], &*labels[1], &*labels[9]),
            ("< 600", "[600, 1200)", "≥ 5400")
        );
    }

    #[test]
    fn a_value_that_many_have_is_a_group() {
        let mut values = vec![0.0; 700];
        values.extend((0..300).map(|i| 1.0 + f64::from(i / 100)));
        let column = numbers(&values);
        assert_eq!(group_counts(&groups(&column), &column.counts), [700, 100, 100, 100]);
        assert_eq!(group_labels(&column), ["≤ 0", "1", "2", "≥ 3"]);
    }

    #[test]
    fn beside_a_reference_of_one_number_are_groups() {
        for distinct in [true, false] {
            let column = Column {
                distinct,
                ..numbers(&[2.5; 700])
            };
            assert_eq!(group_counts(&groups(&column), &column.counts), [0, 700, 0]);
            assert_eq!(group_labels(&column), ["< 2.5", "2.5", "> 2.5"]);
        }
    }

    #[test]
    fn rare_categories_and_unseen_ones_are_one_group() {
        let column = categories(&[50, 30, 1, 19]);
        let groups = groups(&column);
        assert_eq!(
            groups,
            [Some(0), Some(1), Some(3), Some(2), Some(3), None, Some(3), None]
        );
        assert_eq!(group_labels(&column), ["c0", "c1", "c3", "other"]);
        assert_eq!(group_counts(&groups, &column.counts), [50, 30, 19, 1]);
    }

    #[test]
    fn without_a_reference_there_are_no_groups() {
        let mut column = categories(&[1]);
        column.counts.clear();
        assert_eq!(groups(&column), [None; 5]);
        assert!(reference_ratios(&column).is_empty() && group_labels(&column).is_empty());
        column.counts = vec![0, 0, 7, 0, 0];
        assert_eq!(groups(&column), [None; 5]);
    }

    #[test]
    fn bins_have_different_names() {
        let column = Column::new(
            "c",
            Bins::from_categories(vec![Category::Name("other".into()), Category::Code(2.0)]),
        );
        assert_eq!(
            labels(&column),
            ["other", "2", "(other)", "missing", "unseen", "not_finite"]
        );
        let edges = [0.12345, 0.12346, 1.0 / 3.0, 0.5];
        let column = Column {
            distinct: false,
            ..numbers(&edges)
        };
        assert_eq!(
            labels(&column)[..6],
            [
                "below",
                "[0.12345, 0.12346)",
                "[0.12346, 0.333333)",
                "[0.333333, 0.5)",
                "0.5",
                "above"
            ]
        );
    }

    #[test]
    fn numbers_are_written_short() {
        let cases = [
            (0.0, "0"),
            (-0.0, "0"),
            (123456.0, "123456"),
            (0.38139998912811, "0.3814"),
            (f64::MAX, "1.7976931348623157e308"),
            (2.5e-7, "2.5e-7"),
        ];
        for (value, text) in cases {
            assert_eq!(number(value, 4), text);
        }
    }
}
