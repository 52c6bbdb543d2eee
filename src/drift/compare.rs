//! From counts to the report: what differs, whether it is real, whether it is
//! large.

use super::groups::{self, range};
use super::report::{
    Attribution, BinReport, ColumnKind, ColumnReport, Direction, DriftFigures, FaultReport, GroupReport, Quality,
    QualityState, Report, ShareReport, State, Test, Thresholds,
};
use super::{Bins, Counts, Special, stats, words};
use crate::signature::{Column, Manifest, Reference};
use crate::validate::FaultCode;

/// With enough rows, a column of which most values are missing is judged by
/// fewer; but fewer than these say nothing.
const VALUES_MIN: u64 = 5;

/// The expected count to which cells of a chi-square test are pooled.
const EXPECTED_MIN: f64 = 5.0;

/// The report on what was observed of a model.
///
/// `reference` is the manifest's, or one whose label and score were learnt
/// since. Counts that do not fit it are taken for none.
///
/// Three families of tests are adjusted apart (Benjamini-Hochberg), so that the
/// chance of a false word in each stays at the threshold, whatever the number
/// of features: the distributions of the features; those of label and score;
/// and all the shares that tell of quality together. Were each kind of share a
/// family, four kinds would give four times as many false alarms.
pub fn report(
    manifest: &Manifest,
    sha256: &str,
    reference: &Reference,
    counts: &Counts,
    thresholds: &Thresholds,
) -> Report {
    let none;
    let counts = if counts.fit(reference) {
        counts
    } else {
        none = Counts {
            answered: 0,
            rejected: 0,
            ..Counts::new(reference)
        };
        &none
    };
    let columns = |from: usize, to: usize, psi: f64| -> Vec<ColumnReport> {
        (from..to.min(reference.columns.len()))
            .map(|index| {
                let is_feature = index < manifest.features.len();
                let feature = is_feature.then_some(index as u32);
                compare(&reference.columns[index], feature, &counts.columns[index], counts, psi)
            })
            .collect()
    };
    let width = manifest.features.len();
    let mut features = columns(0, width, thresholds.psi);
    let mut predictions = columns(width, reference.columns.len(), thresholds.prediction_psi);
    let (of_features, of_predictions) = reference.columns.split_at(features.len());
    for (family, columns) in [(&mut features, of_features), (&mut predictions, of_predictions)] {
        judge(family, columns, counts, thresholds);
        judge_quality(family, counts, thresholds);
    }
    let attribution = attribute(&features);
    let all = || features.iter().chain(&predictions);
    let mut report = Report {
        model: manifest.name.clone(),
        version: manifest.version.clone(),
        sha256: sha256.to_owned(),
        state: all().map(|column| column.state).max().unwrap_or(State::NoReference),
        alert: all().any(|column| column.alert),
        quality: all()
            .map(|column| column.quality.state)
            .max()
            .unwrap_or(QualityState::NoReference),
        verdict: String::new(),
        window: None,
        rows: counts.answered,
        rejected: counts.rejected,
        reference_rows: reference.rows,
        thresholds: thresholds.clone(),
        attribution,
        faults: counts
            .faults
            .iter()
            .map(|(&(feature, code), &count)| FaultReport {
                feature: feature.and_then(|index| Some(reference.columns.get(index as usize)?.name.clone())),
                code,
                count,
            })
            .collect(),
        features,
        predictions,
    };
    report.verdict = words::verdict(&report);
    report
}

/// A column against its reference, not judged yet.
fn compare(column: &Column, feature: Option<u32>, current: &[u64], counts: &Counts, threshold: f64) -> ColumnReport {
    let bins = &column.bins;
    let nothing = vec![0; bins.len()];
    let known = column.counts.len() == bins.len();
    let reference = if known { &column.counts } else { &nothing };
    let groups = groups::groups(column);
    let (bin_labels, group_labels) = groups::all_labels(column, &groups);
    let values = compared(bins, current);
    let reference_values = if *bins == Bins::unbounded() {
        // All numbers are in one bin, where nothing can differ.
        0
    } else {
        compared(bins, reference)
    };
    let (group_reference, group_current) = (
        groups::group_counts(&groups, reference),
        groups::group_counts(&groups, current),
    );
    let shares = (stats::smoothed(&group_reference), stats::smoothed(&group_current));
    let drift = (values > 0 && reference_values > 0)
        .then(|| figures(column, current, (values, reference_values), &shares, threshold));
    ColumnReport {
        name: column.name.clone(),
        kind: match bins {
            Bins::Numeric { .. } => ColumnKind::Numeric,
            Bins::Categorical { .. } => ColumnKind::Categorical,
        },
        state: State::NoReference,
        alert: false,
        values,
        reference_values,
        drift,
        quality: quality(column, feature, (values, reference_values), current, counts),
        bins: bin_labels
            .into_iter()
            .enumerate()
            .map(|(bin, label)| {
                let edges = range(bins, bin);
                BinReport {
                    label,
                    from: edges.map(|(from, _)| from),
                    to: edges.map(|(_, to)| to),
                    reference: reference[bin],
                    current: current[bin],
                    group: groups[bin],
                }
            })
            .collect(),
        groups: group_labels
            .into_iter()
            .zip(shares.0.iter().zip(&shares.1))
            .map(|(label, (&reference, &current))| GroupReport {
                label,
                reference,
                current,
                psi: stats::psi_part(reference, current),
            })
            .collect(),
    }
}

/// The bins that are compared, one after the other: of numbers those of the
/// seen range and beyond it, of categories those listed, the rest and the
/// unseen.
fn comparable<'a>(bins: &Bins, counts: &'a [u64]) -> (&'a [u64], Option<u64>) {
    let ordinary = bins.special(Special::Missing) as usize;
    let unseen = match bins {
        Bins::Numeric { .. } => None,
        Bins::Categorical { .. } => Some(counts[bins.special(Special::Unseen) as usize]),
    };
    (&counts[..ordinary], unseen)
}

fn compared(bins: &Bins, counts: &[u64]) -> u64 {
    let (ordinary, unseen) = comparable(bins, counts);
    ordinary.iter().sum::<u64>() + unseen.unwrap_or(0)
}

fn figures(
    column: &Column,
    current: &[u64],
    (values, reference_values): (u64, u64),
    (shares_reference, shares_current): &(Vec<f64>, Vec<f64>),
    threshold: f64,
) -> DriftFigures {
    let bins = &column.bins;
    let cells = |counts: &[u64]| -> Vec<u64> {
        let (ordinary, unseen) = comparable(bins, counts);
        ordinary.iter().copied().chain(unseen).collect()
    };
    let (reference, current) = (cells(&column.counts), cells(current));
    let numeric = matches!(bins, Bins::Numeric { .. });
    let (test, statistic, p) = if numeric {
        let statistic = stats::ks_statistic(&reference, &current);
        let p = stats::ks_p(statistic, reference_values, values);
        (Test::KolmogorovSmirnov, statistic, p)
    } else {
        let chi_square = stats::chi_square(&reference, &current, EXPECTED_MIN);
        (Test::ChiSquare, chi_square.statistic, chi_square.p)
    };
    let edges = edges(bins);
    let wasserstein = numeric
        .then(|| {
            let spread = column.std.unwrap_or_else(|| std(&edges, &reference, column.distinct));
            stats::wasserstein(&edges, &reference, &current, column.distinct) / spread
        })
        .filter(|distance| distance.is_finite());
    let median = |counts: &[u64]| numeric.then(|| median(&edges, counts, column.distinct));
    let parts: Vec<f64> = shares_reference
        .iter()
        .zip(shares_current)
        .map(|(&r, &c)| stats::psi_part(r, c))
        .collect();
    DriftFigures {
        psi: parts.iter().sum(),
        kl: stats::kl(shares_reference, shares_current),
        js_distance: stats::js_distance(shares_reference, shares_current),
        wasserstein,
        test,
        statistic,
        p,
        adjusted_p: 1.0,
        threshold,
        direction: numeric.then(|| direction(&reference, &current)),
        reference_median: median(&reference),
        median: median(&current),
        top_groups: top(&parts),
        moved: String::new(),
    }
}

fn edges(bins: &Bins) -> Vec<f64> {
    match bins {
        Bins::Numeric { min, cuts, max } => {
            let mut edges = vec![*min];
            edges.extend(cuts);
            edges.push(*max);
            edges
        }
        Bins::Categorical { .. } => Vec::new(),
    }
}

/// Standard deviation of a binned distribution, for references that are known
/// by their counts only.
fn std(edges: &[f64], counts: &[u64], distinct: bool) -> f64 {
    let total = counts.iter().sum::<u64>() as f64;
    // Of each place: its middle, its width and its count.
    let places = || {
        counts.iter().enumerate().map(|(bin, &count)| {
            let (from, to) = place(edges, bin, distinct);
            (0.5 * (from + to), to - from, count as f64)
        })
    };
    let mean = places().map(|(middle, _, count)| middle * count).sum::<f64>() / total;
    let squares = places().map(|(middle, width, count)| {
        let distance = middle - mean;
        (distance * distance + width * width / 12.0) * count
    });
    (squares.sum::<f64>() / total).sqrt()
}

/// Where the values of a bin are spread, as [`stats::wasserstein`] has them.
fn place(edges: &[f64], bin: usize, distinct: bool) -> (f64, f64) {
    let last = edges.len() - 1;
    let from = edges[bin.saturating_sub(1).min(last)];
    (from, if distinct { from } else { edges[bin.min(last)] })
}

fn median(edges: &[f64], counts: &[u64], distinct: bool) -> f64 {
    let half = 0.5 * counts.iter().sum::<u64>() as f64;
    let mut below = 0.0;
    for (bin, &count) in counts.iter().enumerate() {
        let count = count as f64;
        if count > 0.0 && below + count >= half {
            let (from, to) = place(edges, bin, distinct);
            return from + (to - from) * ((half - below) / count);
        }
        below += count;
    }
    edges[edges.len() - 1]
}

/// Where values went: by the area between the two distribution functions over
/// the pooled ranks, below and above the reference's median.
fn direction(reference: &[u64], current: &[u64]) -> Direction {
    let (n, m) = (reference.iter().sum::<u64>() as f64, current.iter().sum::<u64>() as f64);
    let (mut below_r, mut below_c) = (0.0, 0.0);
    let (mut higher, mut lower) = (0.0, 0.0);
    let (mut left, mut right) = (0.0, 0.0);
    for (&r, &c) in reference.iter().zip(current) {
        let weight = 0.5 * (r as f64 / n + c as f64 / m);
        let middle = below_r + 0.5 * r as f64 / n;
        let before = below_r - below_c;
        below_r += r as f64 / n;
        below_c += c as f64 / m;
        let area = 0.5 * (before + below_r - below_c) * weight;
        *if area > 0.0 { &mut higher } else { &mut lower } += area.abs();
        *if middle < 0.5 { &mut left } else { &mut right } += area;
    }
    if lower <= 0.25 * higher {
        Direction::Higher
    } else if higher <= 0.25 * lower {
        Direction::Lower
    } else if left < 0.0 && right > 0.0 {
        Direction::Wider
    } else if left > 0.0 && right < 0.0 {
        Direction::Narrower
    } else {
        Direction::Mixed
    }
}

/// The largest parts that make half of the whole, at most three.
fn top(parts: &[f64]) -> Vec<u32> {
    let mut order: Vec<usize> = (0..parts.len()).collect();
    order.sort_by(|&a, &b| parts[b].total_cmp(&parts[a]).then(a.cmp(&b)));
    let half = 0.5 * parts.iter().sum::<f64>();
    let mut sum = 0.0;
    let mut top = Vec::new();
    for at in order {
        if top.len() == 3 || sum >= half {
            break;
        }
        sum += parts[at];
        top.push(at as u32);
    }
    top
}

/// The shares of a column, not adjusted yet. Of a rejected row only the faults
/// are known; they count where they say the same as a bin.
fn quality(
    column: &Column,
    feature: Option<u32>,
    (values, reference_values): (u64, u64),
    current: &[u64],
    counts: &Counts,
) -> Quality {
    let bins = &column.bins;
    let rows = counts.answered + counts.rejected;
    let reference_rows: u64 = column.counts.iter().sum();
    let numeric = matches!(bins, Bins::Numeric { .. });
    let at = |special: Special, from: &[u64]| from.get(usize::from(bins.special(special))).copied().unwrap_or(0);
    let beyond = |from: &[u64]| match numeric && !from.is_empty() {
        true => from[0] + from[usize::from(bins.rest())],
        false => 0,
    };
    let rejected = |code: FaultCode| match feature {
        Some(_) => counts.faults.get(&(feature, code)).copied().unwrap_or(0),
        None => 0,
    };
    let share = |count: u64, reference: u64, p: f64| ShareReport {
        count,
        share: ratio(count, rows),
        reference_share: ratio(reference, reference_rows),
        p: if reference_rows == 0 { 1.0 } else { p },
        adjusted_p: 1.0,
        state: QualityState::NoReference,
    };
    let of_rows = |special: Special, code: FaultCode| {
        let count = (at(special, current) + rejected(code)).min(rows);
        let reference = at(special, &column.counts);
        share(
            count,
            reference,
            stats::fisher_greater(reference, reference_rows, count, rows),
        )
    };
    let out_of_range = {
        let more = rejected(FaultCode::Range);
        let count = (beyond(current) + more).min(rows);
        let reference = beyond(&column.counts);
        let p = match reference {
            _ if !numeric => 1.0,
            0 => stats::exceedance(count, values + more, reference_values),
            _ => stats::fisher_greater(reference, reference_values, count, values + more),
        };
        share(count, reference, p)
    };
    let unseen = {
        let more = rejected(FaultCode::Category);
        let count = (at(Special::Unseen, current) + more).min(rows);
        let reference = at(Special::Unseen, &column.counts);
        let p = match bins {
            Bins::Numeric { .. } => 1.0,
            Bins::Categorical { values: listed } => {
                // The reference has no category unseen by construction. Each
                // category that it has once would have been, without that row:
                // so many are to be expected (Good 1953, Turing's estimate).
                let once = column.counts.iter().take(listed.len()).filter(|&&count| count == 1);
                let expected = reference + once.count() as u64;
                stats::fisher_greater(expected.min(reference_values), reference_values, count, values + more)
            }
        };
        share(count, reference, p)
    };
    Quality {
        state: QualityState::NoReference,
        missing: of_rows(Special::Missing, FaultCode::Missing),
        out_of_range,
        unseen,
        not_finite: of_rows(Special::NotFinite, FaultCode::NotFinite),
    }
}

fn ratio(count: u64, of: u64) -> f64 {
    if of == 0 { 0.0 } else { count as f64 / of as f64 }
}

/// Judges the distributions of a family of columns.
fn judge(family: &mut [ColumnReport], columns: &[Column], counts: &Counts, thresholds: &Thresholds) {
    let p: Vec<f64> = family
        .iter()
        .filter_map(|column| Some(column.drift.as_ref()?.p))
        .collect();
    let mut adjusted = stats::benjamini_hochberg(&p).into_iter();
    for (report, column) in family.iter_mut().zip(columns) {
        let enough = counts.answered >= thresholds.rows_min
            && report.values >= thresholds.rows_min.min(VALUES_MIN)
            && report.reference_values >= thresholds.rows_min;
        let mut drift = report.drift.take();
        if let Some(figures) = &mut drift {
            figures.adjusted_p = adjusted.next().unwrap_or(1.0);
        }
        report.state = match &drift {
            _ if report.reference_values == 0 => State::NoReference,
            Some(figures) if enough => {
                match figures.adjusted_p < thresholds.adjusted_p && figures.psi >= thresholds.psi_min {
                    true => State::Drifted,
                    false => State::Stable,
                }
            }
            _ => State::InsufficientData,
        };
        if let Some(figures) = &mut drift
            && report.state == State::Drifted
        {
            report.alert = figures.psi >= figures.threshold || thresholds.kl.is_some_and(|kl| figures.kl >= kl);
            figures.moved = words::moved(column, figures, &report.groups);
        }
        report.drift = drift;
    }
}

/// Judges the quality of a family of columns. Only the shares that a column
/// can have are in the family, whether or not they occurred: leaving out what
/// did not occur would choose the tests by their outcome.
fn judge_quality(family: &mut [ColumnReport], counts: &Counts, thresholds: &Thresholds) {
    let rows = counts.answered + counts.rejected;
    let mut p = Vec::new();
    for column in family.iter_mut() {
        let known = column.bins.iter().any(|bin| bin.reference > 0);
        p.extend(shares(column).filter(|_| known).map(|share| share.p));
    }
    let mut adjusted = stats::benjamini_hochberg(&p).into_iter();
    for column in family {
        let known: u64 = column.bins.iter().map(|bin| bin.reference).sum();
        let enough = rows >= thresholds.rows_min && known >= thresholds.rows_min;
        for share in shares(column).filter(|_| known > 0) {
            share.adjusted_p = adjusted.next().unwrap_or(1.0);
            let real = share.adjusted_p < thresholds.adjusted_p;
            share.state = match real && share.share - share.reference_share >= thresholds.quality_increase {
                _ if !enough => QualityState::InsufficientData,
                true => QualityState::Bad,
                false => QualityState::Good,
            };
        }
        let quality = &mut column.quality;
        for share in [
            &quality.missing,
            &quality.out_of_range,
            &quality.unseen,
            &quality.not_finite,
        ] {
            quality.state = quality.state.max(share.state);
        }
        // What a column cannot have is as good as the rest of it can be.
        let other = quality.state.min(QualityState::Good);
        match column.kind {
            ColumnKind::Numeric => quality.unseen.state = other,
            ColumnKind::Categorical => {
                quality.out_of_range.state = other;
                quality.not_finite.state = other;
            }
        }
    }
}

/// The shares that a column can have.
fn shares(column: &mut ColumnReport) -> impl Iterator<Item = &mut ShareReport> {
    let quality = &mut column.quality;
    let own = match column.kind {
        ColumnKind::Numeric => vec![&mut quality.missing, &mut quality.out_of_range, &mut quality.not_finite],
        ColumnKind::Categorical => vec![&mut quality.missing, &mut quality.unseen],
    };
    own.into_iter()
}

fn attribute(features: &[ColumnReport]) -> Vec<Attribution> {
    let psi = |column: &ColumnReport| column.drift.as_ref().map(|drift| drift.psi);
    let total: f64 = features.iter().filter_map(psi).sum();
    let mut parts: Vec<Attribution> = features
        .iter()
        .filter_map(|column| {
            let psi = psi(column)?;
            Some(Attribution {
                name: column.name.clone(),
                psi,
                share: if total > 0.0 { psi / total } else { 0.0 },
                drifted: column.state == State::Drifted,
            })
        })
        .collect();
    // The sort is stable: equal parts keep the signature's order.
    parts.sort_by(|a, b| b.psi.total_cmp(&a.psi));
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::{
        Category, EngineKind, FORMAT, Feature, FeatureType, Labels, Output, Provenance, ScoreKind, Task, Unknown,
    };

    /// A model with these columns as features, and a score without a reference.
    fn model(columns: Vec<Column>) -> Manifest {
        let features = columns
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
        let mut columns = columns;
        let rows = columns.first().map_or(0, |column| column.counts.iter().sum());
        columns.push(Column::new("score", Bins::uniform(0.0, 1.0)));
        Manifest {
            format: FORMAT,
            name: "m".into(),
            version: "1".into(),
            engine: EngineKind::Tabular,
            task: Task::Regression,
            features,
            unknown: Unknown::Error,
            inputs: Vec::new(),
            output: Output {
                labels: Labels::default(),
                positive: None,
                label: None,
                scores: vec![0],
                width: 1,
                kind: ScoreKind::Value,
            },
            batch: true,
            reference: Reference { rows, columns },
            baseline: None,
            provenance: Provenance::default(),
        }
    }

    /// 0 to 5,999, and a category: half a, the rest b and c, of c one only.
    fn two_features() -> Manifest {
        let mut number = Column::of_numbers("x", &(0..6000).map(f64::from).collect::<Vec<_>>());
        number.counts = vec![100; 65];
        number.counts[0] = 0;
        number.counts[61..].fill(0);
        let names = ["a", "b", "c"].map(|name| Category::Name(name.into())).to_vec();
        let mut category = Column::new("c", Bins::from_categories(names));
        category.counts = vec![3000, 2999, 1, 0, 0, 0, 0];
        model(vec![number, category])
    }

    fn look(manifest: &Manifest, counts: &Counts) -> Report {
        report(manifest, "00", &manifest.reference, counts, &Thresholds::default())
    }

    /// Rows of which `x` is spread over these of the inside bins, `c` is a or b.
    fn rows(manifest: &Manifest, count: u64, bins: std::ops::Range<u64>) -> Counts {
        let mut counts = Counts::new(&manifest.reference);
        counts.answered = count;
        let width = bins.end - bins.start;
        for row in 0..count {
            counts.columns[0][(1 + bins.start + row % width) as usize] += 1;
            counts.columns[1][(row % 2) as usize] += 1;
            counts.columns[2][30] += 1;
        }
        counts
    }

    #[test]
    fn rows_as_in_the_reference_are_stable() {
        let manifest = two_features();
        let report = look(&manifest, &rows(&manifest, 120, 0..60));
        assert_eq!(
            (report.state, report.alert, report.quality),
            (State::Stable, false, QualityState::Good)
        );
        assert_eq!(
            report.verdict,
            "None of 2 features drifted; the score has no reference yet."
        );
        let x = report.features[0].drift.as_ref().unwrap();
        assert_eq!((x.psi, x.statistic, x.p, x.wasserstein), (0.0, 0.0, 1.0, Some(0.0)));
        assert_eq!(report.features[0].values, 120);
        assert_eq!(report.predictions[0].state, State::NoReference);
        assert_eq!(report.predictions[0].drift, None);
    }

    #[test]
    fn a_number_that_was_always_the_same_drifts_when_it_is_not() {
        let mut flag = Column::of_numbers("flag", &[0.0; 700]);
        flag.counts = vec![0, 700, 0, 0, 0, 0];
        let manifest = model(vec![flag]);
        for (same, above, state) in [(199, 1, State::Stable), (0, 200, State::Drifted)] {
            let mut counts = Counts::new(&manifest.reference);
            counts.answered = same + above;
            counts.columns[0][1] = same;
            counts.columns[0][2] = above;
            counts.columns[1][30] = same + above;
            let report = look(&manifest, &counts);
            assert_eq!(
                (report.features[0].state, report.alert),
                (state, state == State::Drifted)
            );
            assert_eq!(
                report.features[0].drift.as_ref().unwrap().direction,
                Some(Direction::Higher)
            );
        }
    }

    #[test]
    fn a_shift_is_drifted_and_said_in_words() {
        let manifest = two_features();
        let report = look(&manifest, &rows(&manifest, 120, 30..60));
        let x = &report.features[0];
        assert_eq!((x.state, x.alert), (State::Drifted, true));
        assert_eq!(report.features[1].state, State::Stable);
        assert!(report.alert);
        let figures = x.drift.as_ref().unwrap();
        assert_eq!(figures.direction, Some(Direction::Higher));
        // Half of the distribution function is 0 where the reference's is ½.
        assert_eq!(figures.statistic, 0.5);
        assert_eq!(figures.adjusted_p, figures.p * 2.0);
        assert_eq!((figures.reference_median, figures.median), (Some(3000.0), Some(4500.0)));
        assert_eq!(figures.top_groups, [0, 1, 2]);
        assert_eq!(
            figures.moved,
            "higher: median 3000 → 4500; < 600 10 % → 0.4 %, [600, 1200) 10 % → 0.4 %, [1200, 1800) 10 % → 0.4 %"
        );
        assert_eq!(
            (&*report.attribution[0].name, report.attribution[0].drifted),
            ("x", true)
        );
        assert!(report.attribution[0].share > 0.99);
        assert!(
            report.verdict.starts_with("1 of 2 features drifted: x (PSI "),
            "{}",
            report.verdict
        );
        assert!(report.verdict.contains(", higher)"), "{}", report.verdict);
    }

    #[test]
    fn an_alert_needs_a_threshold_passed() {
        let manifest = two_features();
        let counts = rows(&manifest, 120, 30..60);
        let alert = |psi: f64, kl: Option<f64>| {
            let thresholds = Thresholds {
                psi,
                kl,
                ..Thresholds::default()
            };
            let report = report(&manifest, "00", &manifest.reference, &counts, &thresholds);
            assert_eq!(report.features[0].state, State::Drifted);
            (report.features[0].alert, report.alert)
        };
        assert_eq!(alert(100.0, None), (false, false));
        assert_eq!(alert(100.0, Some(0.1)), (true, true));
        assert_eq!(alert(100.0, Some(10.0)), (false, false));
    }

    #[test]
    fn the_groups_parts_are_the_psi() {
        let manifest = two_features();
        let counts = rows(&manifest, 77, 13..42);
        let report = look(&manifest, &counts);
        for (index, report) in report.features.iter().enumerate() {
            let psi = report.drift.as_ref().unwrap().psi;
            let sum: f64 = report.groups.iter().map(|group| group.psi).sum();
            assert!((sum - psi).abs() < 1e-12);
            // As who has the counts of groups only computes it.
            let column = &manifest.reference.columns[index];
            let current = groups::group_counts(&groups::groups(column), &counts.columns[index]);
            let again = stats::psi(&groups::reference_ratios(column), &stats::smoothed(&current));
            assert!((again - psi).abs() < 1e-12);
        }
    }

    #[test]
    fn few_rows_never_alarm() {
        let manifest = two_features();
        for count in [0, 1, 8, 19] {
            let report = look(&manifest, &rows(&manifest, count, 59..60));
            assert_eq!(
                (report.state, report.alert),
                (State::InsufficientData, false),
                "{count}"
            );
            assert!(
                report
                    .features
                    .iter()
                    .all(|column| column.state == State::InsufficientData)
            );
        }
        assert_eq!(look(&manifest, &rows(&manifest, 20, 59..60)).state, State::Drifted);
        let verdict = look(&manifest, &rows(&manifest, 8, 0..8)).verdict;
        assert_eq!(verdict, "8 rows are too few to tell; 20 are needed.");
    }

    #[test]
    fn a_column_that_is_mostly_missing_is_judged_by_the_values_it_has() {
        let manifest = two_features();
        let mut counts = rows(&manifest, 50, 0..60);
        counts.columns[0] = vec![0; 65];
        for bin in [7, 10, 33, 40, 51] {
            counts.columns[0][bin] = 1;
        }
        counts.columns[0][62] = 45;
        let report = look(&manifest, &counts);
        assert_eq!(
            (report.features[0].state, report.features[0].values),
            (State::Stable, 5)
        );
        assert_eq!(report.features[0].quality.missing.state, QualityState::Bad);
        counts.columns[0][7] = 0;
        assert_eq!(look(&manifest, &counts).features[0].state, State::InsufficientData);
    }

    #[test]
    fn a_model_without_reference_says_so() {
        let mut manifest = two_features();
        for column in &mut manifest.reference.columns {
            column.counts.clear();
        }
        let report = look(&manifest, &rows(&manifest, 100, 0..60));
        assert_eq!(
            (report.state, report.quality),
            (State::NoReference, QualityState::NoReference)
        );
        assert_eq!(report.verdict, "There is no reference to compare with.");
        assert!(report.features[0].groups.is_empty());
    }

    #[test]
    fn a_score_whose_bins_are_not_known_has_no_reference() {
        let mut manifest = two_features();
        let score = &mut manifest.reference.columns[2];
        score.bins = Bins::unbounded();
        score.counts = vec![0, 500, 0, 0, 0, 0];
        let mut counts = rows(&manifest, 0, 0..1);
        counts.answered = 100;
        counts.columns[2][1] = 100;
        let score = &look(&manifest, &counts).predictions[0];
        assert_eq!((score.state, score.drift.as_ref()), (State::NoReference, None));
    }

    #[test]
    fn rejected_rows_count_for_the_quality_of_the_feature() {
        let manifest = two_features();
        let mut counts = rows(&manifest, 180, 0..60);
        counts.rejected = 20;
        counts.faults.insert((Some(0), FaultCode::Missing), 20);
        counts.faults.insert((None, FaultCode::Syntax), 3);
        let report = look(&manifest, &counts);
        let missing = &report.features[0].quality.missing;
        assert_eq!(
            (missing.count, missing.share, missing.state),
            (20, 0.1, QualityState::Bad)
        );
        assert_eq!(report.quality, QualityState::Bad);
        assert_eq!(report.features[1].quality.state, QualityState::Good);
        assert!(
            report.verdict.ends_with("More values are missing in x (0 % → 10 %)."),
            "{}",
            report.verdict
        );
        assert_eq!(report.faults.len(), 2);
        assert_eq!(report.faults[1].feature.as_deref(), Some("x"));
    }

    #[test]
    fn values_beyond_the_range_are_bad_when_they_are_many() {
        let manifest = two_features();
        let mut counts = rows(&manifest, 3000, 0..60);
        let state = |counts: &Counts| look(&manifest, counts).features[0].quality.out_of_range.state;
        // Of 3,000 values one beyond the range of 6,000 is as likely as not.
        counts.columns[0][61] = 1;
        assert_eq!(state(&counts), QualityState::Good);
        counts.columns[0][61] = 60;
        assert_eq!(state(&counts), QualityState::Bad);
    }

    #[test]
    fn unseen_categories_are_held_against_those_seen_once() {
        let manifest = two_features();
        let unseen = |count: u64| {
            let mut counts = rows(&manifest, 200, 0..60);
            counts.columns[1][5] = count;
            look(&manifest, &counts).features[1].quality.unseen.clone()
        };
        assert_eq!(unseen(1).state, QualityState::Good);
        // Fisher's 1 of 6,000 against 1 of 201.
        assert!((unseen(1).p - stats::fisher_greater(1, 6000, 1, 201)).abs() < 1e-12);
        assert_eq!(unseen(10).state, QualityState::Bad);
    }

    #[test]
    fn a_report_is_read_back_as_it_was_written() {
        let manifest = two_features();
        let report = look(&manifest, &rows(&manifest, 120, 20..60));
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["features"][0]["state"], "drifted");
        assert!(value["features"][0]["psi"].is_f64());
    }

    #[test]
    fn any_counts_give_a_report_of_finite_numbers() {
        let mut state = 1u64;
        let mut next = |below: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for _ in 0..300 {
            let mut columns = Vec::new();
            for name in ["a", "b", "c"] {
                let distinct = 1 << next(10);
                let values: Vec<f64> = (0..next(90)).map(|_| next(distinct) as f64).collect();
                columns.push(match next(3) {
                    0 => {
                        let categories = (0..next(70)).map(|code| Category::Code(code as f64)).collect();
                        Column::new(name, Bins::from_categories(categories))
                    }
                    _ => Column::of_numbers(name, &values),
                });
            }
            // Sizes from nothing to what a year of a large fleet brings.
            let mut fill = |column: &Column| -> Vec<u64> {
                let size = 1 << [0, 1, 4, 12, 34][next(5) as usize];
                (0..column.bins.len()).map(|_| next(2) * next(size)).collect()
            };
            let currents: Vec<Vec<u64>> = columns.iter().map(&mut fill).collect();
            for column in &mut columns {
                column.counts = fill(column);
            }
            let manifest = model(columns);
            let mut counts = Counts::new(&manifest.reference);
            counts.answered = currents.iter().map(|counts| counts.iter().sum()).max().unwrap_or(0);
            counts.rejected = next(50);
            counts.faults.insert((Some(1), FaultCode::Range), counts.rejected);
            counts.columns[..3].clone_from_slice(&currents);
            let report = look(&manifest, &counts);
            // What is not finite would be null, and not come back.
            let json = serde_json::to_string(&report).unwrap();
            assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
            for figures in report.features.iter().filter_map(|column| column.drift.as_ref()) {
                assert!(figures.psi >= 0.0 && figures.kl >= 0.0 && (0.0..=1.0).contains(&figures.js_distance));
                assert!((0.0..=1.0).contains(&figures.p) && figures.p <= figures.adjusted_p + 1e-15);
                assert!(figures.wasserstein.is_none_or(|distance| distance >= 0.0));
            }
        }
    }

    #[test]
    fn a_deviation_is_known_from_the_counts_too() {
        // One half at 0 and one at 2, exact where bins hold one value each.
        assert_eq!(std(&[0.0, 2.0, 2.0], &[0, 5, 5, 0], true), 1.0);
        // Spread over [0, 12): a width of 12 over the root of 12.
        assert!((std(&[0.0, 6.0, 12.0], &[0, 5, 5, 0], false) - 12.0f64.sqrt()).abs() < 1e-12);
    }

    #[test]
    fn shapes_have_names() {
        let even = [10; 10];
        let cases: [([u64; 10], Direction); 4] = [
            ([0, 0, 5, 10, 10, 10, 15, 15, 15, 20], Direction::Higher),
            ([20, 15, 15, 15, 10, 10, 10, 5, 0, 0], Direction::Lower),
            ([25, 15, 5, 5, 0, 0, 5, 5, 15, 25], Direction::Wider),
            ([0, 0, 10, 20, 20, 20, 20, 10, 0, 0], Direction::Narrower),
        ];
        for (current, expected) in cases {
            assert_eq!(direction(&even, &current), expected);
        }
    }
}
