//! What a report says to people.

use super::groups::number;
use super::report::{ColumnReport, Direction, DriftFigures, GroupReport, QualityState, Report, ShareReport, State};
use crate::signature::Column;

/// The most columns that a sentence names.
const NAMES_MAX: usize = 5;

/// What moved in a column: `higher: median 0.31 → 0.4; ≥ 0.52 10 % → 19 %`.
pub(super) fn moved(column: &Column, figures: &DriftFigures, groups: &[GroupReport]) -> String {
    let mut parts = Vec::new();
    if let (Some(direction), Some(before), Some(after)) = (figures.direction, figures.reference_median, figures.median)
    {
        let (before, after) = (number(before, 4), number(after, 4));
        let median = match before == after {
            true => format!("median {before} as before"),
            false => format!("median {before} → {after}"),
        };
        parts.push(format!("{}: {median}", adverb(direction)));
    }
    let quote = matches!(column.bins, super::Bins::Categorical { .. });
    let groups: Vec<String> = figures
        .top_groups
        .iter()
        .filter_map(|&at| {
            groups
                .get(at as usize)
                .map(|group| (at as usize + 1 == groups.len(), group))
        })
        .map(|(last, group)| {
            let label = match quote && !last {
                true => format!("{:?}", group.label),
                false => group.label.clone(),
            };
            format!("{label} {} → {}", percent(group.reference), percent(group.current))
        })
        .collect();
    parts.push(groups.join(", "));
    parts.join("; ")
}

fn adverb(direction: Direction) -> &'static str {
    match direction {
        Direction::Higher => "higher",
        Direction::Lower => "lower",
        Direction::Wider => "wider",
        Direction::Narrower => "narrower",
        Direction::Mixed => "of another shape",
    }
}

/// A share for people: `0.4 %`, `12 %`; a share above 0 never as 0.
fn percent(share: f64) -> String {
    let percent = 100.0 * share;
    match percent {
        _ if percent > 0.0 && percent < 0.1 => "< 0.1 %".to_owned(),
        _ if percent < 10.0 => format!("{} %", number((percent * 10.0).round() / 10.0, 2)),
        _ => format!("{percent:.0} %"),
    }
}

/// The report in a sentence or two.
pub(super) fn verdict(report: &Report) -> String {
    let mut sentences = vec![match report.state {
        State::NoReference => "There is no reference to compare with.".to_owned(),
        State::InsufficientData => insufficient(report),
        State::Stable | State::Drifted => {
            let features = features(report);
            match predictions(&report.predictions) {
                Some(predictions) => format!("{features}; {predictions}."),
                None => format!("{features}."),
            }
        }
    }];
    sentences.extend(quality(report));
    sentences.join(" ")
}

fn insufficient(report: &Report) -> String {
    let needed = report.thresholds.rows_min;
    let (count, what) = match report.rows < needed {
        true => (report.rows, ""),
        false => (report.reference_rows, " of reference"),
    };
    match count {
        0 => format!("No rows{what} yet; {needed} are needed to tell."),
        1 => format!("1 row{what} is too few to tell; {needed} are needed."),
        count if count < needed => format!("{count} rows{what} are too few to tell; {needed} are needed."),
        _ => "No column has enough values to tell.".to_owned(),
    }
}

fn features(report: &Report) -> String {
    let named = |name: &str| report.features.iter().find(|column| column.name == name);
    // By falling PSI, as the attribution has them.
    let drifted: Vec<String> = report
        .attribution
        .iter()
        .filter(|part| part.drifted)
        .filter_map(|part| named(&part.name).map(figures))
        .collect();
    let count = report.features.len();
    let compared = report
        .features
        .iter()
        .filter(|column| column.state >= State::Stable)
        .count();
    match (drifted.len(), compared) {
        (_, 0) if count > 0 && report.features.iter().all(|column| column.state == State::NoReference) => {
            "The features have no reference to compare with".to_owned()
        }
        (_, 0) => "No feature has enough values to tell".to_owned(),
        (0, _) if count == 1 => format!("{} has not drifted", report.features[0].name),
        (_, _) if count == 1 => format!("{} drifted", drifted[0]),
        (0, _) => format!("None of {count} features drifted"),
        (1, _) => format!("1 of {count} features drifted: {}", drifted[0]),
        (some, _) => format!("{some} of {count} features drifted: {}", list(&drifted)),
    }
}

fn figures(column: &ColumnReport) -> String {
    let Some(figures) = &column.drift else {
        return column.name.clone();
    };
    let psi = number(figures.psi, 2);
    match figures.direction {
        Some(direction) => format!("{} (PSI {psi}, {})", column.name, adverb(direction)),
        None => format!("{} (PSI {psi})", column.name),
    }
}

fn list(items: &[String]) -> String {
    match items {
        [items @ .., last] if items.len() < NAMES_MAX && !items.is_empty() => {
            format!("{} and {last}", items.join(", "))
        }
        [] => String::new(),
        items if items.len() > NAMES_MAX => {
            let shown = items[..NAMES_MAX].join(", ");
            format!("{shown} and {} more", items.len() - NAMES_MAX)
        }
        items => items.join(", "),
    }
}

/// On label and score; none where the model has neither.
fn predictions(columns: &[ColumnReport]) -> Option<String> {
    let the = |column: &ColumnReport| match column.name.as_str() {
        "prediction" => "the label".to_owned(),
        name => format!("the {name}"),
    };
    let of = |state: State| columns.iter().filter(move |column| column.state == state);
    let names = |state: State| of(state).map(the).collect::<Vec<_>>();
    let is = |names: &[String]| if names.len() == 1 { "is" } else { "are" };
    let drifted: Vec<String> = of(State::Drifted)
        .map(|column| figures(column).replacen(&column.name, &the(column), 1))
        .collect();
    let stable = names(State::Stable);
    let mut clauses = Vec::new();
    if !drifted.is_empty() {
        clauses.push(format!("{} drifted", list(&drifted)));
    }
    if !stable.is_empty() {
        clauses.push(format!("{} {} stable", list(&stable), is(&stable)));
    }
    let unknown = names(State::NoReference);
    if !unknown.is_empty() {
        let have = if unknown.len() == 1 { "has" } else { "have" };
        clauses.push(format!("{} {have} no reference yet", list(&unknown)));
    }
    let few = names(State::InsufficientData);
    if !few.is_empty() {
        let have = if few.len() == 1 { "has" } else { "have" };
        clauses.push(format!("{} {have} too few values to tell", list(&few)));
    }
    (!clauses.is_empty()).then(|| clauses.join(", "))
}

fn quality(report: &Report) -> Option<String> {
    let columns: Vec<&ColumnReport> = report.features.iter().chain(&report.predictions).collect();
    type Share = fn(&ColumnReport) -> &ShareReport;
    let kinds: [(&str, Share); 4] = [
        ("missing", |column| &column.quality.missing),
        ("out of range", |column| &column.quality.out_of_range),
        ("unseen", |column| &column.quality.unseen),
        ("not finite", |column| &column.quality.not_finite),
    ];
    let clauses: Vec<String> = kinds
        .iter()
        .filter_map(|(what, share)| {
            let bad: Vec<String> = columns
                .iter()
                .filter(|column| share(column).state == QualityState::Bad)
                .map(|column| {
                    let share = share(column);
                    format!(
                        "{} ({} → {})",
                        column.name,
                        percent(share.reference_share),
                        percent(share.share)
                    )
                })
                .collect();
            (!bad.is_empty()).then(|| format!("{what} in {}", list(&bad)))
        })
        .collect();
    (!clauses.is_empty()).then(|| format!("More values are {}.", clauses.join("; ")))
}
