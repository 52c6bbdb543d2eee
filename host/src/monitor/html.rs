//! The drift report as a page for people: one file that needs no other, made
//! from the same [`Report`] that is the body of `GET /drift`.
//!
//! Everything is there without a script; the script only sorts and filters. No
//! other file is named, and the page's policy forbids to load any: names of
//! features and categories come from data, and are text wherever they stand.

mod chart;
mod text;

use super::performance::{Assessment, cells};
use modelet::drift::report::{
    ColumnKind, ColumnReport, Direction, DriftFigures, QualityState, Report, ShareReport, State, Test,
};
use modelet::drift::truth::Performance;
use modelet::signature::Manifest;
use sha2::{Digest, Sha256};
use std::cmp::Reverse;
use std::fmt::Write;
use text::{count, counted, esc, figure, number, percent, probability};

const STYLE: &str = include_str!("../../assets/report.css");
const SCRIPT: &str = include_str!("../../assets/report.js");

/// With more features than this, the details of those that are stable are
/// folded.
const UNFOLDED_MAX: usize = 24;

/// What the page says beyond the report.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReportContext<'a> {
    /// The model's manifest: its provenance, and which columns hold a few
    /// distinct numbers.
    pub manifest: Option<&'a Manifest>,
    /// The model's file, or the address of its server.
    pub model_file: Option<&'a str>,
    /// The file that the current rows were read from.
    pub current_file: Option<&'a str>,
    /// When the report was made, RFC 3339.
    pub made: Option<&'a str>,
    /// How good the predictions were, if labels came with the rows.
    pub performance: Option<&'a Assessment>,
}

impl ReportContext<'_> {
    fn performance_is_worse(&self) -> bool {
        self.performance.is_some_and(Assessment::is_worse)
    }
}

/// A column, and what the page must know of it more than once.
struct Item<'a> {
    column: &'a ColumnReport,
    /// Its anchor.
    id: String,
    distinct: bool,
    /// The groups that carry its drift, the heaviest first.
    carriers: Vec<u32>,
}

/// The page.
pub fn render(report: &Report, extra: &ReportContext<'_>) -> String {
    let item = |(at, column)| Item {
        column,
        id: format!("c{at}"),
        distinct: distinct(column),
        carriers: carriers(column),
    };
    let mut features: Vec<Item<'_>> = report.features.iter().enumerate().map(item).collect();
    features.sort_by(|a, b| {
        severity(a.column)
            .partial_cmp(&severity(b.column))
            .expect("no severity is NaN")
    });
    let predictions: Vec<Item<'_>> = (report.features.len()..).zip(&report.predictions).map(item).collect();

    let mut page = Page::default();
    page.head(report);
    page.header(report, extra);
    page.moved(report, &predictions, &features);
    page.table(report, &predictions, &features);
    page.details(report, &predictions, &features);
    page.quality(report, &features);
    page.faults(report);
    if let Some(performance) = extra.performance {
        page.performance(&performance.measured);
    }
    page.method(report);
    page.provenance(report, extra);
    page.foot();
    page.0
}

/// What comes first in the page: alerts, drift, bad data; each by falling PSI.
fn severity(column: &ColumnReport) -> (u8, Reverse<Finite>) {
    let class = match (column.alert, column.state, column.quality.state) {
        (true, _, _) => 0,
        (_, State::Drifted, _) => 1,
        (_, _, QualityState::Bad) => 2,
        (_, State::Stable, _) => 3,
        (_, State::InsufficientData, _) => 4,
        (_, State::NoReference, _) => 5,
    };
    let psi = column.drift.as_ref().map_or(0.0, |figures| figures.psi);
    (class, Reverse(Finite(if psi.is_finite() { psi } else { 0.0 })))
}

#[derive(PartialEq, PartialOrd)]
struct Finite(f64);

/// The groups that carry a drifted column's PSI.
fn carriers(column: &ColumnReport) -> Vec<u32> {
    match &column.drift {
        Some(figures) if column.state == State::Drifted => figures.top_groups.clone(),
        _ => Vec::new(),
    }
}

/// Whether each bin inside the seen range holds one value, which is then its
/// name.
fn distinct(column: &ColumnReport) -> bool {
    let mut inside = column.bins.iter().filter(|bin| bin.from.is_some());
    column.kind == ColumnKind::Numeric && inside.all(|bin| !bin.label.starts_with('['))
}

/// A state as a sign and a word; the colour only repeats them.
fn badge(state: State, alert: bool) -> &'static str {
    match (state, alert) {
        (State::Drifted, true) => r#"<span class="badge bad"><span aria-hidden="true">▲</span> alert</span>"#,
        (State::Drifted, false) => r#"<span class="badge warn"><span aria-hidden="true">△</span> drifted</span>"#,
        (State::Stable, _) => r#"<span class="badge good"><span aria-hidden="true">✓</span> stable</span>"#,
        (State::InsufficientData, _) => {
            r#"<span class="badge soft"><span aria-hidden="true">…</span> too few rows</span>"#
        }
        (State::NoReference, _) => r#"<span class="badge soft"><span aria-hidden="true">∅</span> no reference</span>"#,
    }
}

fn quality_badge(state: QualityState) -> &'static str {
    match state {
        QualityState::Bad => r#"<span class="badge bad"><span aria-hidden="true">▲</span> worse</span>"#,
        QualityState::Good => r#"<span class="badge good"><span aria-hidden="true">✓</span> as before</span>"#,
        QualityState::InsufficientData => badge(State::InsufficientData, false),
        QualityState::NoReference => badge(State::NoReference, false),
    }
}

fn test_name(test: Test) -> &'static str {
    match test {
        Test::KolmogorovSmirnov => "KS statistic",
        Test::ChiSquare => "chi-square",
    }
}

fn bar_class(column: &ColumnReport) -> &'static str {
    match (column.alert, column.state) {
        (true, _) => "bad",
        (_, State::Drifted) => "warn",
        _ => "calm",
    }
}

/// Where a column of numbers went.
fn direction(column: &ColumnReport) -> Option<String> {
    let figures = column.drift.as_ref()?;
    let word = match figures.direction? {
        Direction::Higher => "higher",
        Direction::Lower => "lower",
        Direction::Wider => "wider",
        Direction::Narrower => "narrower",
        Direction::Mixed => "of another shape",
    };
    Some(match (figures.reference_median, figures.median) {
        (Some(before), Some(after)) => format!("{word}, median {} → {}", number(before), number(after)),
        _ => word.to_owned(),
    })
}

/// A group's share in the reference and now, in counts and not smoothed as the
/// PSI has them.
fn group_shares(column: &ColumnReport, group: u32) -> (f64, f64) {
    chart::shares(column, |_, bin| bin.group == Some(group))
}

fn points(change: f64) -> String {
    let sign = if change < 0.0 { '−' } else { '+' };
    format!("{sign}{:.1}", change.abs() * 100.0)
}

/// `sha256-` and the hash of an inline style or script, as a policy names it.
fn policy_hash(text: &str) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = "sha256-".to_owned();
    for three in Sha256::digest(text.as_bytes()).chunks(3) {
        let bits = three.iter().fold(0u32, |bits, &byte| bits << 8 | u32::from(byte)) << (8 * (3 - three.len()));
        for place in 0..4 {
            out.push(if place <= three.len() {
                char::from(LETTERS[(bits >> (18 - 6 * place)) as usize & 63])
            } else {
                '='
            });
        }
    }
    out
}

/// The page so far.
#[derive(Default)]
struct Page(String);

/// Adds formatted text; a `String` takes whatever it is given.
macro_rules! put {
    ($page:expr, $($format:tt)*) => {{
        let _ = write!($page.0, $($format)*);
    }};
}

impl Page {
    fn head(&mut self, report: &Report) {
        put!(
            self,
            r#"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src '{}'; script-src '{}'; base-uri 'none'; form-action 'none'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>Drift of {} {}</title>
<style>{STYLE}</style>
</head>
<body>
<main>
"#,
            policy_hash(STYLE),
            policy_hash(SCRIPT),
            esc(&report.model),
            esc(&report.version),
        );
    }

    fn header(&mut self, report: &Report, extra: &ReportContext<'_>) {
        put!(
            self,
            r#"<header><p class="over">Drift report</p><h1>{} <small>{}</small></h1><p class="soft">"#,
            esc(&report.model),
            esc(&report.version)
        );
        match (&report.window, extra.current_file) {
            (Some(window), _) => put!(
                self,
                "Window {}: {} to {}",
                esc(&window.name),
                esc(&window.from),
                esc(&window.to)
            ),
            (None, Some(file)) => put!(self, "Rows of <code>{}</code>", esc(file)),
            (None, None) => put!(self, "Current rows"),
        }
        if report.reference_rows == 0 {
            put!(self, "; the model was packed without reference data</p></header>\n");
        } else {
            put!(
                self,
                " against the model’s reference of {}</p></header>\n",
                counted(report.reference_rows, "row", "rows")
            );
        }
        let worse = report.quality == QualityState::Bad;
        let class = match (report.alert || extra.performance_is_worse(), report.state) {
            (true, _) => "bad",
            _ if worse => "warn",
            (_, State::Drifted) => "warn",
            (_, State::Stable) => "good",
            (_, State::InsufficientData | State::NoReference) => "soft",
        };
        put!(
            self,
            r#"<section class="verdict {class}" aria-label="Verdict">{}{}{}<p>{}</p></section>
<dl class="tiles">"#,
            badge(report.state, report.alert),
            if worse {
                r#"<span class="badge warn"><span aria-hidden="true">△</span> data quality worse</span>"#
            } else {
                ""
            },
            if extra.performance_is_worse() {
                r#"<span class="badge bad"><span aria-hidden="true">▲</span> performance worse</span>"#
            } else {
                ""
            },
            esc(&report.verdict)
        );
        let of = |test: fn(&&ColumnReport) -> bool| report.features.iter().filter(test).count() as u64;
        let drifted = of(|column| column.state == State::Drifted);
        let bad = of(|column| column.quality.state == QualityState::Bad);
        let all = report.rows + report.rejected;
        let rejected = match all {
            0 => String::new(),
            all => format!("{} of all rows", percent(report.rejected as f64 / all as f64)),
        };
        for (name, value, note) in [
            ("Rows compared", count(report.rows), String::new()),
            ("Rows rejected", count(report.rejected), rejected),
            (
                "Features drifted",
                count(drifted),
                format!("of {}, {} alerting", report.features.len(), of(|column| column.alert)),
            ),
            (
                "Prediction",
                report
                    .predictions
                    .iter()
                    .map(|column| match (column.alert, column.state) {
                        (true, _) => "alert",
                        (_, State::Drifted) => "drifted",
                        (_, State::Stable) => "stable",
                        (_, State::InsufficientData) => "too few rows",
                        (_, State::NoReference) => "no reference",
                    })
                    .max_by_key(|word| {
                        ["no reference", "too few rows", "stable", "drifted", "alert"]
                            .iter()
                            .position(|w| w == word)
                    })
                    .unwrap_or("–")
                    .to_owned(),
                report
                    .predictions
                    .iter()
                    .map(|column| column.name.as_str())
                    .collect::<Vec<_>>()
                    .join(" and "),
            ),
            (
                "Data quality worse",
                match report.quality {
                    QualityState::NoReference => "–".to_owned(),
                    _ => count(bad),
                },
                format!("of {}", counted(report.features.len() as u64, "feature", "features")),
            ),
        ] {
            put!(
                self,
                "<div><dt>{name}</dt><dd>{value}<small>{}</small></dd></div>",
                note
            );
        }
        put!(self, "</dl>\n");
    }

    /// The drift in words: for each drifted column, where there are more rows
    /// and where fewer.
    fn moved(&mut self, report: &Report, predictions: &[Item<'_>], features: &[Item<'_>]) {
        put!(self, r#"<section><h2 id="moved">What moved</h2>"#);
        let moved = || {
            features
                .iter()
                .chain(predictions)
                .filter(|item| item.column.state == State::Drifted)
        };
        let bad = || {
            features
                .iter()
                .filter(|item| item.column.quality.state == QualityState::Bad)
        };
        if moved().next().is_none() && bad().next().is_none() {
            let words = match report.state {
                State::NoReference => {
                    "There is no reference to compare with. The distributions below are of the current rows alone."
                }
                State::InsufficientData => "Too few rows to tell. The distributions below are of what there is.",
                State::Stable | State::Drifted => {
                    "Nothing: no column differs from the reference by more than chance and by enough to matter."
                }
            };
            put!(self, "<p>{words}</p></section>\n");
            return;
        }
        put!(self, r#"<ul class="moved">"#);
        for item in moved() {
            let column = item.column;
            put!(
                self,
                r##"<li>{} <a href="#{}"><strong>{}</strong></a>"##,
                badge(column.state, column.alert),
                item.id,
                esc(&column.name)
            );
            if let Some(figures) = &column.drift {
                put!(self, ", PSI {}", figure(figures.psi));
            }
            if let Some(part) = report.attribution.iter().find(|part| part.name == column.name) {
                put!(self, ", {} of the features’ drift", percent(part.share));
            }
            let mut words = Vec::from_iter(direction(column));
            words.extend(item.carriers.iter().map(|&group| {
                let (reference, current) = group_shares(column, group);
                let label = column.groups.get(group as usize).map_or("", |group| &group.label);
                format!(
                    "{} in <b>{}</b> ({} → {})",
                    if current >= reference { "more" } else { "fewer" },
                    esc(&text::short(label, 60)),
                    percent(reference),
                    percent(current)
                )
            }));
            if !words.is_empty() {
                put!(self, ": {}", words.join("; "));
            }
            put!(self, "</li>");
        }
        for item in bad() {
            let column = item.column;
            put!(
                self,
                r##"<li>{} <a href="#quality"><strong>{}</strong></a>, data quality: "##,
                quality_badge(column.quality.state),
                esc(&column.name)
            );
            let mut first = true;
            for (name, share) in shares(column)
                .into_iter()
                .filter(|(_, share)| share.state == QualityState::Bad)
            {
                put!(
                    self,
                    "{}{name} <b>{} → {}</b>",
                    if first { "" } else { ", " },
                    percent(share.reference_share),
                    percent(share.share)
                );
                first = false;
            }
            put!(self, "</li>");
        }
        put!(self, "</ul></section>\n");
    }

    fn table(&mut self, report: &Report, predictions: &[Item<'_>], features: &[Item<'_>]) {
        let has_wasserstein = features.iter().chain(predictions).any(|item| {
            item.column
                .drift
                .as_ref()
                .is_some_and(|figures| figures.wasserstein.is_some())
        });
        put!(
            self,
            r#"<section><h2 id="features">Features and predictions</h2>
<p class="soft">{}</p>
<div id="tools"></div>
<div class="scroll" role="region" aria-labelledby="features" tabindex="0"><table id="overview"><thead><tr><th scope="col">Column</th><th scope="col">State</th><th scope="col"><span aria-hidden="true">Reference, current</span></th><th scope="col" class="r">PSI</th><th scope="col"><span class="hide">PSI against its threshold</span></th><th scope="col" class="r">KL</th><th scope="col" class="r">JS</th>{}<th scope="col" class="r">Adjusted p</th><th scope="col">Data quality</th></tr></thead><tbody>"#,
            match report.reference_rows {
                0 => "Outputs first, then features.".to_owned(),
                _ => format!(
                    "Outputs first, then features by severity. The line across each bar is the threshold from which a drifted column alerts; the bar ends at three times it. A column is <em>drifted</em> when the difference is real (adjusted p below {}) and large enough to matter (PSI of at least {}).",
                    number(report.thresholds.adjusted_p),
                    number(report.thresholds.psi_min),
                ),
            },
            if has_wasserstein {
                r#"<th scope="col" class="r">Wasserstein</th>"#
            } else {
                ""
            },
        );
        let of_prediction = predictions.iter().map(|item| (item, true));
        for (place, (item, prediction)) in of_prediction
            .chain(features.iter().map(|item| (item, false)))
            .enumerate()
        {
            let column = item.column;
            put!(
                self,
                r##"<tr data-n="{place}"{}><th scope="row"><a href="#{}">{}</a>{}</th><td>{}</td><td>{}</td>"##,
                if column.state == State::InsufficientData {
                    r#" class="thin""#
                } else {
                    ""
                },
                item.id,
                esc(&column.name),
                if prediction {
                    r#" <span class="kind">output</span>"#
                } else {
                    ""
                },
                badge(column.state, column.alert),
                chart::sparkline(column, item.distinct),
            );
            match &column.drift {
                Some(figures) => {
                    put!(
                        self,
                        r#"<td class="r" data-v="{}"><b>{}</b></td><td>{}<span class="hide">threshold {}</span></td><td class="r" data-v="{}">{}</td><td class="r" data-v="{}">{}</td>"#,
                        figures.psi,
                        figure(figures.psi),
                        chart::bar(figures.psi, figures.threshold, bar_class(column)),
                        number(figures.threshold),
                        figures.kl,
                        figure(figures.kl),
                        figures.js_distance,
                        figure(figures.js_distance),
                    );
                    if has_wasserstein {
                        match figures.wasserstein {
                            Some(w) => put!(self, r#"<td class="r" data-v="{w}">{}</td>"#, figure(w)),
                            None => put!(self, r#"<td class="r">–</td>"#),
                        }
                    }
                    put!(
                        self,
                        r#"<td class="r" data-v="{}">{}</td>"#,
                        figures.adjusted_p,
                        probability(figures.adjusted_p)
                    );
                }
                None => put!(
                    self,
                    r#"<td class="r">–</td><td></td><td class="r">–</td><td class="r">–</td>{}<td class="r">–</td>"#,
                    if has_wasserstein {
                        r#"<td class="r">–</td>"#
                    } else {
                        ""
                    },
                ),
            }
            put!(
                self,
                "<td>{}</td></tr>",
                if prediction {
                    ""
                } else {
                    quality_badge(column.quality.state)
                }
            );
        }
        put!(self, "</tbody></table></div></section>\n");
    }

    fn details(&mut self, report: &Report, predictions: &[Item<'_>], features: &[Item<'_>]) {
        let legend = if report.state == State::NoReference {
            r#"<p class="legend"><span><svg width="26" height="12" aria-hidden="true"><path class="cur" d="M1 11V3H25V11"/></svg> current rows</span></p>"#
        } else {
            r#"<p class="legend"><span><svg width="26" height="12" aria-hidden="true"><rect class="ref" y="2" width="26" height="10"/></svg> reference, filled</span> <span><svg width="26" height="12" aria-hidden="true"><path class="cur" d="M1 11V3H25V11"/></svg> current rows, outlined</span> <span><svg width="26" height="14" aria-hidden="true"><rect class="mark" width="26" height="14"/><text class="n" x="13" y="11">1</text></svg> carries the drift, numbered as in the list below it</span></p>"#
        };
        if !predictions.is_empty() {
            put!(
                self,
                r#"<section><h2 id="predictions">Predictions</h2>{legend}<div class="cards">"#
            );
            for item in predictions {
                self.card(item);
            }
            put!(self, "</div></section>\n");
        }
        if features.is_empty() {
            return;
        }
        put!(self, r#"<section><h2 id="distributions">Distributions</h2>{legend}"#);
        put!(
            self,
            r#"<p class="soft">Drawn from the bins that were frozen when the model was packed: inside a bin, values are taken as evenly spread. Missing and not finite values are left out here; they are under data quality.</p>"#
        );
        let folded = features.len() > UNFOLDED_MAX;
        let is_loud = |item: &&Item<'_>| {
            item.column.state == State::Drifted || item.column.quality.state == QualityState::Bad || !folded
        };
        put!(self, r#"<div class="cards">"#);
        for item in features.iter().filter(is_loud) {
            self.card(item);
        }
        put!(self, "</div>");
        let quiet = features.iter().filter(|item| !is_loud(item)).count();
        if quiet > 0 {
            put!(
                self,
                r#"<details class="fold"><summary>{}</summary><div class="cards">"#,
                counted(
                    quiet as u64,
                    "further feature that is not drifted",
                    "further features that are not drifted"
                )
            );
            for item in features.iter().filter(|item| !is_loud(item)) {
                self.card(item);
            }
            put!(self, "</div></details>");
        }
        put!(self, "</section>\n");
    }

    fn card(&mut self, item: &Item<'_>) {
        let column = item.column;
        put!(
            self,
            r#"<article id="{}" class="card"><header><h3>{}</h3>{}</header><p class="soft">{}, {}"#,
            item.id,
            esc(&column.name),
            badge(column.state, column.alert),
            match column.kind {
                ColumnKind::Numeric => "numeric",
                ColumnKind::Categorical => "categorical",
            },
            counted(column.values, "value", "values"),
        );
        if column.reference_values > 0 {
            put!(self, " against {}", count(column.reference_values));
        }
        put!(self, "</p>");
        let drawing = chart::histogram(column, item.distinct, &item.carriers);
        if drawing.is_empty() {
            put!(self, r#"<p class="none">There are no values to draw.</p>"#);
        } else {
            put!(self, "{drawing}");
        }
        if !item.carriers.is_empty() {
            let total: f64 = column.groups.iter().map(|group| group.psi).sum();
            put!(self, r#"<ol class="carriers">"#);
            for &group in &item.carriers {
                let (reference, current) = group_shares(column, group);
                let Some(figures) = column.groups.get(group as usize) else {
                    continue;
                };
                put!(
                    self,
                    "<li><b>{}</b>: {} → {} ({} points), {} of the PSI</li>",
                    esc(&text::short(&figures.label, 80)),
                    percent(reference),
                    percent(current),
                    points(current - reference),
                    percent(figures.psi / total),
                );
            }
            put!(self, "</ol>");
        }
        if let Some(figures) = &column.drift {
            self.figures(column, figures);
        }
        put!(self, "</article>");
    }

    fn figures(&mut self, column: &ColumnReport, figures: &DriftFigures) {
        put!(
            self,
            r#"<dl class="figures"><div><dt>PSI</dt><dd>{}</dd></div><div><dt>threshold</dt><dd>{}</dd></div><div><dt>KL</dt><dd>{}</dd></div><div><dt>JS</dt><dd>{}</dd></div>"#,
            figure(figures.psi),
            number(figures.threshold),
            figure(figures.kl),
            figure(figures.js_distance),
        );
        if let Some(wasserstein) = figures.wasserstein {
            put!(self, "<div><dt>Wasserstein</dt><dd>{}</dd></div>", figure(wasserstein));
        }
        put!(
            self,
            r#"<div><dt>{}</dt><dd>{}</dd></div><div><dt>p</dt><dd>{}</dd></div><div><dt>adjusted p</dt><dd>{}</dd></div></dl>"#,
            test_name(figures.test),
            number(figures.statistic),
            probability(figures.p),
            probability(figures.adjusted_p),
        );
        if column.groups.is_empty() {
            return;
        }
        put!(
            self,
            r#"<details><summary>Groups</summary><div class="scroll"><table><thead><tr><th scope="col">Group</th><th scope="col" class="r">Reference</th><th scope="col" class="r">Current</th><th scope="col" class="r">Points</th><th scope="col" class="r">Part of PSI</th></tr></thead><tbody>"#
        );
        for (at, group) in column.groups.iter().enumerate() {
            let (reference, current) = group_shares(column, at as u32);
            put!(
                self,
                r#"<tr><th scope="row">{}</th><td class="r">{}</td><td class="r">{}</td><td class="r">{}</td><td class="r">{}</td></tr>"#,
                esc(&group.label),
                percent(reference),
                percent(current),
                points(current - reference),
                figure(group.psi),
            );
        }
        put!(self, "</tbody></table></div></details>");
    }

    fn quality(&mut self, report: &Report, features: &[Item<'_>]) {
        if features.is_empty() {
            return;
        }
        put!(
            self,
            r#"<section><h2 id="quality">Data quality</h2><p class="soft">Shares of all rows, those rejected for it included: in the reference → now. <em>Worse</em> is a share that is really larger (adjusted p below {}) and by at least {}.</p>"#,
            number(report.thresholds.adjusted_p),
            percent(report.thresholds.quality_increase),
        );
        let some = |item: &&Item<'_>| {
            shares(item.column)
                .iter()
                .any(|(_, s)| s.count > 0 || s.reference_share > 0.0)
        };
        let mut listed: Vec<&Item<'_>> = features.iter().filter(some).collect();
        listed.sort_by_key(|item| item.column.quality.state != QualityState::Bad);
        if listed.is_empty() {
            put!(
                self,
                "<p>Nothing is missing, out of the seen range, unseen or not finite, neither in the reference nor now.</p></section>\n"
            );
            return;
        }
        put!(
            self,
            r#"<div class="scroll" role="region" aria-labelledby="quality" tabindex="0"><table><thead><tr><th scope="col">Feature</th><th scope="col">State</th><th scope="col" class="r">Missing</th><th scope="col" class="r">Out of range</th><th scope="col" class="r">Unseen category</th><th scope="col" class="r">Not finite</th></tr></thead><tbody>"#
        );
        for item in &listed {
            put!(
                self,
                r##"<tr><th scope="row"><a href="#{}">{}</a></th><td>{}</td>"##,
                item.id,
                esc(&item.column.name),
                quality_badge(item.column.quality.state)
            );
            for (_, share) in shares(item.column) {
                self.share(share, report.state == State::NoReference);
            }
            put!(self, "</tr>");
        }
        put!(self, "</tbody></table></div>");
        let rest = features.len() - listed.len();
        if rest > 0 {
            put!(
                self,
                r#"<p class="soft">{} no such value, neither in the reference nor now.</p>"#,
                counted(rest as u64, "other feature has", "other features have")
            );
        }
        put!(self, "</section>\n");
    }

    fn share(&mut self, share: &ShareReport, alone: bool) {
        if share.count == 0 && share.reference_share == 0.0 {
            put!(self, r#"<td class="r soft">0</td>"#);
        } else if alone {
            put!(self, r#"<td class="r">{}</td>"#, percent(share.share));
        } else if share.state == QualityState::Bad {
            put!(
                self,
                r#"<td class="r worse"><span aria-hidden="true">▲</span> {} → <b>{}</b><small>p {}</small></td>"#,
                percent(share.reference_share),
                percent(share.share),
                probability(share.adjusted_p)
            );
        } else {
            put!(
                self,
                r#"<td class="r">{} → {}</td>"#,
                percent(share.reference_share),
                percent(share.share)
            );
        }
    }

    fn faults(&mut self, report: &Report) {
        if report.rejected == 0 && report.faults.is_empty() {
            return;
        }
        put!(
            self,
            r#"<section><h2 id="faults">Rejected rows</h2><p>{} rejected and {} answered. A row can have several faults.</p>"#,
            counted(report.rejected, "row was", "rows were"),
            counted(report.rows, "was", "were"),
        );
        if !report.faults.is_empty() {
            let mut faults: Vec<_> = report.faults.iter().collect();
            faults.sort_by_key(|fault| Reverse(fault.count));
            put!(
                self,
                r#"<div class="scroll"><table class="narrow"><thead><tr><th scope="col">Feature</th><th scope="col">Fault</th><th scope="col" class="r">Count</th></tr></thead><tbody>"#
            );
            for fault in faults {
                let feature = match &fault.feature {
                    Some(name) => esc(name),
                    None => r#"<span class="soft">the row as a whole</span>"#.to_owned(),
                };
                put!(
                    self,
                    r#"<tr><th scope="row">{feature}</th><td>{}</td><td class="r">{}</td></tr>"#,
                    fault.code.name().replace('_', " "),
                    count(fault.count)
                );
            }
            put!(self, "</tbody></table></div>");
        }
        put!(self, "</section>\n");
    }

    fn performance(&mut self, performance: &Performance) {
        put!(
            self,
            r#"<section><h2 id="performance">Performance</h2><p>The predictions held against the labels of {}.</p><div class="scroll"><table class="narrow"><thead><tr><th scope="col">Figure</th><th scope="col" class="r">Now</th><th scope="col" class="r">95 % interval</th><th scope="col" class="r">Baseline</th></tr></thead><tbody>"#,
            counted(performance.labelled, "row", "rows")
        );
        for (name, metric) in &performance.metrics {
            let [now, interval, baseline] = cells(metric);
            put!(
                self,
                r#"<tr><th scope="row">{}</th><td class="r">{now}</td><td class="r">{interval}</td><td class="r">{baseline}</td></tr>"#,
                esc(&name.replace('_', " "))
            );
        }
        put!(self, "</tbody></table></div></section>\n");
    }

    fn method(&mut self, report: &Report) {
        let limits = &report.thresholds;
        put!(
            self,
            r#"<section><h2 id="method">Method</h2><details class="fold"><summary>Thresholds</summary><div class="scroll"><table class="narrow"><thead><tr><th scope="col">Key</th><th scope="col" class="r">Value</th><th scope="col">What it decides</th></tr></thead><tbody>"#
        );
        let kl = limits.kl.map_or("none".to_owned(), number);
        for (key, value, what) in [
            ("psi", number(limits.psi), "a drifted feature alerts from this PSI on"),
            ("kl", kl, "and from this Kullback-Leibler divergence on, in nats"),
            (
                "prediction_psi",
                number(limits.prediction_psi),
                "a drifted label or score alerts from this PSI on",
            ),
            (
                "adjusted_p",
                number(limits.adjusted_p),
                "a difference is real below this adjusted p-value",
            ),
            ("psi_min", number(limits.psi_min), "it is worth a word from this PSI on"),
            (
                "rows_min",
                count(limits.rows_min),
                "fewer values of a column are too few to tell",
            ),
            (
                "quality_increase",
                percent(limits.quality_increase),
                "a share of missing, out-of-range, unseen or not finite values is worse from this increase on",
            ),
        ] {
            put!(
                self,
                r#"<tr><th scope="row"><code>{key}</code></th><td class="r">{value}</td><td>{what}</td></tr>"#
            );
        }
        put!(
            self,
            r#"</tbody></table></div></details>
<details class="fold"><summary>How the figures are computed, and where they come from</summary><div class="prose">
<p>Every column has bins that were frozen when the model was packed: for numbers up to 60 inside the seen range of about equal mass, one below and one above it; for categories one each, up to 59, and one for the rest; and one each for missing, unseen and not finite. Only counts per bin are kept, and everything here is computed from them, so the same rows give the same figures wherever they were counted.</p>
<dl>
<dt>Is it real?</dt><dd>Numbers: the two-sample Kolmogorov-Smirnov test on the bins; its statistic is at most the largest bin’s mass below that of the raw values. Categories: the two-sample chi-square test, cells of fewer than 5 expected pooled. The p-values of all features, and those of label and score, are adjusted by Benjamini and Hochberg’s procedure, which bounds the share of false findings. <cite>Smirnov 1939; Stephens 1970; Viehmann 2021; Pearson 1900; Cochran 1954; Benjamini and Hochberg 1995, J. R. Stat. Soc. B 57(1).</cite></dd>
<dt>Is it large? PSI</dt><dd>The population stability index Σ (p − q) ln(p / q) over ten groups of bins of about equal mass, p the current and q the reference’s share of a group, half a count added to each so that an empty group does not make it infinite. It is Jeffreys’ divergence. By the rule of thumb of credit scoring, below 0.1 is no change worth acting on, above 0.25 a large one. <cite>Jeffreys 1946; Siddiqi 2006, Credit Risk Scorecards.</cite></dd>
<dt>KL, Kullback-Leibler divergence</dt><dd>Σ p ln(p / q) of the current from the reference’s shares, in nats, on the same groups. <cite>Kullback and Leibler 1951, Ann. Math. Stat. 22(1).</cite></dd>
<dt>JS, Jensen-Shannon distance</dt><dd>The square root of the Jensen-Shannon divergence to base 2, from 0 (equal) to 1 (nothing in common). <cite>Lin 1991, IEEE Trans. Inf. Theory 37(1); Endres and Schindelin 2003, IEEE Trans. Inf. Theory 49(7).</cite></dd>
<dt>Wasserstein distance</dt><dd>How far, on average, values would have to move to turn one distribution into the other, in standard deviations of the reference; values outside the seen range count as at its end. <cite>Vallender 1974, Theory Probab. Appl. 18(4).</cite></dd>
<dt>Data quality</dt><dd>Fisher’s exact test, one-sided, on each share. Where the reference has no value out of range by construction, how likely so many new values are beyond its smallest and largest; unseen categories are held against those that it has once. All p-values are adjusted together. <cite>Fisher 1935; Wilks 1941; Good 1953.</cite></dd>
<dt>What carries the drift</dt><dd>The terms of the PSI’s sum: groups are named from the largest on until they make half of it, at most three. A feature’s part of the drift is its PSI in the sum of all features’.</dd>
</dl>
<p>Drift says that inputs or outputs differ from the reference, not that answers are wrong: only ground truth can say that.</p>
</div></details></section>
"#
        );
    }

    fn provenance(&mut self, report: &Report, extra: &ReportContext<'_>) {
        put!(
            self,
            r#"<section><h2 id="provenance">Provenance</h2><div class="scroll"><table class="narrow"><tbody>"#
        );
        let mut row = |name: &str, value: String| {
            put!(self, r#"<tr><th scope="row">{name}</th><td>{value}</td></tr>"#);
        };
        row("Model", esc(&format!("{} {}", report.model, report.version)));
        row("Bundle, SHA-256", format!("<code>{}</code>", esc(&report.sha256)));
        let files = [("Model file", extra.model_file), ("Current rows", extra.current_file)];
        for (name, file) in files.into_iter().filter_map(|(name, file)| Some((name, file?))) {
            row(name, format!("<code>{}</code>", esc(file)));
        }
        if let Some(window) = &report.window {
            row(
                "Window",
                esc(&format!("{}: {} to {}", window.name, window.from, window.to)),
            );
        }
        row(
            "Rows",
            format!(
                "{} answered, {} rejected, {} of reference",
                count(report.rows),
                count(report.rejected),
                count(report.reference_rows)
            ),
        );
        if let Some(manifest) = extra.manifest {
            let provenance = &manifest.provenance;
            row("Task", manifest.task.name().to_owned());
            row(
                "ONNX file, SHA-256",
                format!("<code>{}</code>", esc(&provenance.onnx_sha256)),
            );
            if !provenance.producer.is_empty() {
                row("Exported by", esc(&provenance.producer));
            }
            if let Some(sha256) = &provenance.data_sha256 {
                row("Reference data, SHA-256", format!("<code>{}</code>", esc(sha256)));
            }
            row("Packed by", format!("modelet {}", esc(&provenance.modelet)));
        }
        if let Some(made) = extra.made {
            row("Report made", esc(made));
        }
        row("Report made by", format!("modelet {}", env!("CARGO_PKG_VERSION")));
        put!(self, "</tbody></table></div></section>\n");
    }

    fn foot(&mut self) {
        put!(self, "</main>\n<script>{SCRIPT}</script>\n</body>\n</html>\n");
    }
}

/// The shares of a column's quality, by the names that the page gives them.
fn shares(column: &ColumnReport) -> [(&'static str, &ShareReport); 4] {
    let quality = &column.quality;
    [
        ("missing", &quality.missing),
        ("out of range", &quality.out_of_range),
        ("unseen categories", &quality.unseen),
        ("not finite", &quality.not_finite),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use modelet::drift::report::{Attribution, BinReport, FaultReport, GroupReport, Quality, Thresholds, Window};
    use modelet::drift::truth::Metric;
    use modelet::validate::FaultCode;

    const HOSTILE: &str = "<script>alert('\"&x')</script>";

    fn share(count: u64, share: f64, reference_share: f64) -> ShareReport {
        let state = match share > reference_share {
            true => QualityState::Bad,
            false => QualityState::Good,
        };
        ShareReport {
            count,
            share,
            reference_share,
            p: 0.5,
            adjusted_p: 0.5,
            state,
        }
    }

    /// A column of two groups, each of two bins; `counts` are of all bins.
    fn column(name: &str, kind: ColumnKind, reference: &[u64], current: &[u64], state: State) -> ColumnReport {
        let ordinary = reference.len() - 3;
        let bins = (0..reference.len()).map(|at| {
            let inside = kind == ColumnKind::Numeric && (1..ordinary - 1).contains(&at);
            BinReport {
                label: match at.checked_sub(ordinary) {
                    Some(special) => ["missing", "unseen", "not_finite"][special].into(),
                    None => format!("{name}{at}"),
                },
                from: inside.then_some(at as f64),
                to: inside.then_some(at as f64 + 1.0),
                reference: reference[at],
                current: current[at],
                group: (at < ordinary).then_some((at * 2 / ordinary) as u32),
            }
        });
        let compared = !matches!(state, State::NoReference | State::InsufficientData);
        let group = |at: usize| GroupReport {
            label: format!("{name} group {at}"),
            reference: 0.5,
            current: 0.25 + 0.5 * at as f64,
            psi: 0.2 + 0.1 * at as f64,
        };
        ColumnReport {
            name: name.into(),
            kind,
            state,
            alert: state == State::Drifted,
            values: current[..ordinary].iter().sum(),
            reference_values: reference[..ordinary].iter().sum(),
            drift: compared.then_some(DriftFigures {
                psi: if state == State::Drifted { 0.5 } else { 0.004 },
                kl: 0.1,
                js_distance: 0.1,
                wasserstein: (kind == ColumnKind::Numeric).then_some(0.2),
                test: Test::ChiSquare,
                statistic: 12.3,
                p: 1e-9,
                adjusted_p: 1e-8,
                threshold: 0.1,
                direction: (kind == ColumnKind::Numeric).then_some(Direction::Higher),
                reference_median: Some(2.0),
                median: Some(3.0),
                top_groups: vec![1],
                moved: "higher".into(),
            }),
            quality: Quality {
                state: QualityState::Good,
                missing: share(0, 0.0, 0.0),
                out_of_range: share(0, 0.0, 0.0),
                unseen: share(0, 0.0, 0.0),
                not_finite: share(0, 0.0, 0.0),
            },
            bins: bins.collect(),
            groups: if compared {
                (0..2).map(group).collect()
            } else {
                Vec::new()
            },
        }
    }

    fn numeric(name: &str, state: State) -> ColumnReport {
        let reference = if state == State::NoReference {
            [0; 9]
        } else {
            [0, 10, 20, 20, 10, 0, 2, 0, 0]
        };
        column(
            name,
            ColumnKind::Numeric,
            &reference,
            &[1, 2, 10, 20, 30, 3, 0, 0, 0],
            state,
        )
    }

    fn report(state: State, features: Vec<ColumnReport>) -> Report {
        Report {
            model: "credit".into(),
            version: "1.0.0".into(),
            sha256: "ab".repeat(32),
            state,
            alert: state == State::Drifted,
            quality: QualityState::Good,
            verdict: "The verdict in a sentence.".into(),
            window: None,
            rows: 66,
            rejected: 0,
            reference_rows: if state == State::NoReference { 0 } else { 62 },
            thresholds: Thresholds::default(),
            attribution: features
                .iter()
                .map(|column| Attribution {
                    name: column.name.clone(),
                    psi: 0.1,
                    share: 0.25,
                    drifted: column.state == State::Drifted,
                })
                .collect(),
            features,
            predictions: vec![numeric("score", state)],
            faults: Vec::new(),
        }
    }

    /// Fails unless every tag is closed where it must be; gives the names of
    /// all elements.
    fn elements(page: &str) -> Vec<String> {
        let (mut open, mut all) = (Vec::new(), Vec::new());
        let mut rest = page.strip_prefix("<!doctype html>").expect("a doctype");
        while let Some(at) = rest.find('<') {
            let end = at + rest[at..].find('>').expect("a tag ends");
            let tag = &rest[at + 1..end];
            rest = &rest[end + 1..];
            if let Some(name) = tag.strip_prefix('/') {
                assert_eq!(open.pop().as_deref(), Some(name), "before {:.60}", rest);
                continue;
            }
            let name: String = tag.chars().take_while(char::is_ascii_alphanumeric).collect();
            assert!(!name.is_empty(), "<{tag}>");
            if name == "style" || name == "script" {
                rest = &rest[rest.find(&format!("</{name}>")).expect("an end")..];
            }
            if !tag.ends_with('/') && name != "meta" {
                open.push(name.clone());
            }
            all.push(name);
        }
        assert_eq!(open, Vec::<String>::new());
        all
    }

    fn assert_finite(page: &str) {
        let mut words = page.split(|c: char| !c.is_ascii_alphabetic());
        assert!(words.all(|word| word != "NaN" && word != "inf"));
    }

    #[test]
    fn every_state_gives_a_whole_page() {
        for (state, words) in [
            (
                State::Drifted,
                "25.0\u{a0}% of the features’ drift: higher, median 2 → 3; more in <b>b group 1</b>",
            ),
            (State::Stable, "Nothing: no column differs"),
            (State::InsufficientData, "Too few rows to tell"),
            (State::NoReference, "There is no reference to compare with"),
        ] {
            for features in [
                vec![],
                vec![numeric("a", State::Stable.min(state)), numeric("b", state)],
            ] {
                let empty = features.is_empty();
                let page = render(&report(state, features), &ReportContext::default());
                let elements = elements(&page);
                assert!(page.contains("<p>The verdict in a sentence.</p>"));
                if !empty {
                    assert!(page.contains(words), "{state:?}: {page}");
                    assert_eq!(elements.iter().filter(|name| *name == "article").count(), 3);
                }
                assert_finite(&page);
            }
        }
    }

    #[test]
    fn labels_show_how_good_the_predictions_were() {
        let metric = |value, baseline| Metric {
            value,
            low: Some(value - 0.01),
            high: Some(value + 0.01),
            baseline,
            rows: 2000,
        };
        let performance = Assessment {
            measured: Performance {
                labelled: 2000,
                metrics: [
                    ("accuracy".to_owned(), metric(0.7, Some(0.8))),
                    ("log_loss".to_owned(), metric(0.5, None)),
                ]
                .into(),
                ..Performance::default()
            },
            worse: Some("accuracy".into()),
        };
        let extra = ReportContext {
            performance: Some(&performance),
            ..ReportContext::default()
        };
        let page = render(&report(State::Stable, vec![numeric("a", State::Stable)]), &extra);
        assert!(page.contains(r#"<section class="verdict bad""#) && page.contains("performance worse"));
        assert!(page.contains("held against the labels of 2,000 rows"), "{page}");
        let row = r#"<th scope="row">accuracy</th><td class="r">0.7000</td><td class="r">0.6900 to 0.7100</td><td class="r">0.8000</td>"#;
        assert!(page.contains(row) && page.contains(r#"<th scope="row">log loss</th>"#));
        let page = render(&report(State::Stable, vec![]), &ReportContext::default());
        assert!(!page.contains("performance worse") && !page.contains(r#"id="performance""#));
    }

    #[test]
    fn names_are_text_wherever_they_stand() {
        let categories = column(
            HOSTILE,
            ColumnKind::Categorical,
            &[10, 20, 30, 1, 0, 0, 0],
            &[30, 20, 10, 0, 2, 4, 0],
            State::Drifted,
        );
        let mut report = report(State::Drifted, vec![categories, numeric(HOSTILE, State::Drifted)]);
        report.features[0].quality.state = QualityState::Bad;
        report.features[0].quality.missing = share(2, 0.03, 0.0);
        for text in [
            &mut report.model,
            &mut report.version,
            &mut report.sha256,
            &mut report.verdict,
        ] {
            *text = HOSTILE.into();
        }
        report.faults.push(FaultReport {
            feature: Some(HOSTILE.into()),
            code: FaultCode::NotFinite,
            count: 3,
        });
        report.rejected = 3;
        let window = || HOSTILE.to_owned();
        report.window = Some(Window {
            name: window(),
            from: window(),
            to: window(),
        });
        let extra = ReportContext {
            model_file: Some(HOSTILE),
            current_file: Some(HOSTILE),
            made: Some(HOSTILE),
            ..ReportContext::default()
        };
        let page = render(&report, &extra);
        let elements = elements(&page);
        assert_eq!(elements.iter().filter(|name| *name == "script").count(), 1);
        assert_eq!(page.matches("<script").count(), 1);
        assert!(
            page.matches("&lt;script&gt;alert(&#39;&quot;&amp;x&#39;)&lt;/script&gt;")
                .count()
                > 20
        );
        assert!(!page.replace(SCRIPT, "").contains("alert('"));
    }

    #[test]
    fn nothing_is_loaded_and_the_policy_lets_only_its_own_run() {
        let page = render(
            &report(State::Drifted, vec![numeric("a", State::Drifted)]),
            &ReportContext::default(),
        );
        for word in [
            "http:",
            "https:",
            "//",
            "src=",
            "url(",
            "@import",
            " style=",
            " onclick",
            "javascript:",
        ] {
            let page = page.replace(SCRIPT, "").replace("http-equiv", "");
            assert!(!page.contains(word), "{word}");
        }
        for word in ["http", "fetch", "import", "eval", "innerHTML"] {
            assert!(!SCRIPT.contains(word), "{word}");
        }
        for (tag, text) in [("style", STYLE), ("script", SCRIPT)] {
            assert!(page.contains(&format!("<{tag}>{text}</{tag}>")));
            assert!(page.contains(&format!("{tag}-src '{}'", policy_hash(text))));
            assert!(!text.contains("</"));
        }
        assert_eq!(policy_hash(""), "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
    }

    #[test]
    fn what_moved_is_named_and_marked() {
        let mut drifted = numeric("b", State::Drifted);
        drifted.groups[0].psi = 0.01;
        let page = render(
            &report(State::Stable, vec![numeric("a", State::Stable), drifted]),
            &ReportContext::default(),
        );
        let card = |id: &str| {
            let start = page.find(&format!(r#"<article id="{id}""#)).unwrap();
            page[start..].split("</article>").next().unwrap().to_owned()
        };
        assert_eq!(card("c0").matches(r#"class="mark""#).count(), 0);
        assert_eq!(card("c1").matches(r#"class="mark""#).count(), 1);
        assert_eq!(card("c1").matches(r#"<text class="n""#).count(), 1);
        // Of 60 reference values 30 are in the upper group, of 66 rows 53.
        assert!(
            card("c1").contains("<b>b group 1</b>: 50.0\u{a0}% → 80.3\u{a0}% (+30.3 points), 96.8\u{a0}% of the PSI")
        );
        let (b, a) = (
            page.find(r##"<a href="#c1">b</a>"##),
            page.find(r##"<a href="#c0">a</a>"##),
        );
        assert!(b < a, "the drifted feature comes first");
    }

    #[test]
    fn three_hundred_features_are_folded_and_small() {
        let features = (0..300).map(|i| {
            let state = if i % 50 == 0 { State::Drifted } else { State::Stable };
            let mut counts = vec![0; 65];
            counts[1..61].fill(100);
            column(&format!("f{i}"), ColumnKind::Numeric, &counts, &counts, state)
        });
        let page = render(&report(State::Drifted, features.collect()), &ReportContext::default());
        elements(&page);
        assert!(page.contains("294 further features that are not drifted"));
        assert!(page.len() < 3_000_000, "{} bytes", page.len());
    }

    #[test]
    fn columns_without_a_range_or_values_have_no_drawing() {
        let mut endless = numeric("endless", State::NoReference);
        for bin in &mut endless.bins {
            (bin.from, bin.to) = (bin.from.map(|_| f64::MIN), bin.to.map(|_| f64::MAX));
        }
        let nothing = column(
            "nothing",
            ColumnKind::Categorical,
            &[0; 5],
            &[0; 5],
            State::InsufficientData,
        );
        let mut one = column(
            "one",
            ColumnKind::Numeric,
            &[0, 9, 0, 0, 0, 0],
            &[0, 9, 0, 0, 0, 0],
            State::Stable,
        );
        one.bins[1].to = one.bins[1].from;
        let page = render(
            &report(State::Stable, vec![endless, nothing, one]),
            &ReportContext::default(),
        );
        elements(&page);
        assert_eq!(page.matches("There are no values to draw.").count(), 2);
        assert_finite(&page);
    }
}
