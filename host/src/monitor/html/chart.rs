//! The report's drawings: SVG made from counts, with classes in place of
//! colours, so that the page's style decides on light, dark and paper.

use super::text::{esc, number, percent, short};
use modelet::drift::report::{BinReport, ColumnKind, ColumnReport};
use std::fmt::Write;
use std::ops::Range;

const WIDTH: f64 = 520.0;
const LEFT: f64 = 44.0;
const RIGHT: f64 = 10.0;
const TOP: f64 = 12.0;
const BASE: f64 = 146.0;
const HEIGHT: f64 = 190.0;
/// Width of a slot beyond the axis, for values that it does not show.
const END: f64 = 28.0;
const END_GAP: f64 = 10.0;
/// Equal slots that an axis of numbers is cut into.
const SLOTS: usize = 40;
/// A last bin inside the seen range that is this much wider than all between
/// the outermost ones is not drawn to scale.
const TAIL: f64 = 0.3;
/// The most categories that are drawn.
const CATEGORIES_MAX: usize = 12;

/// What is drawn of one stretch of the axis.
#[derive(Clone, Debug, Default, PartialEq)]
struct Slot {
    from: f64,
    to: f64,
    reference: f64,
    current: f64,
}

/// A histogram of numbers, in units of the drawing.
#[derive(Debug, Default)]
struct Layout {
    slots: Vec<Slot>,
    /// The slots that share an outline.
    runs: Vec<Range<usize>>,
    /// For each fine bin, the stretch of the axis that it covers.
    extents: Vec<Option<(f64, f64)>>,
    ticks: Vec<(f64, String)>,
}

/// The bins that hold what a histogram shows, with their places: not missing,
/// not finite; other and unseen categories only where there are some.
pub(super) fn shown(column: &ColumnReport) -> Vec<(usize, &BinReport)> {
    let ordinary = column.bins.len().saturating_sub(3);
    column
        .bins
        .iter()
        .enumerate()
        .filter(|&(at, bin)| {
            if column.kind == ColumnKind::Numeric {
                return at < ordinary;
            }
            let own = at + 1 < ordinary;
            let rest_or_unseen = !own && at <= ordinary + 1 && at != ordinary;
            own || (rest_or_unseen && bin.current + bin.reference > 0)
        })
        .collect()
}

/// The shares of the reference and of the rows in these bins, of all shown.
pub(super) fn shares(column: &ColumnReport, bins: impl Fn(usize, &BinReport) -> bool) -> (f64, f64) {
    let (mut all, mut part) = ((0, 0), (0, 0));
    for (at, bin) in shown(column) {
        all = (all.0 + bin.reference, all.1 + bin.current);
        if bins(at, bin) {
            part = (part.0 + bin.reference, part.1 + bin.current);
        }
    }
    let share = |part: u64, all: u64| if all == 0 { 0.0 } else { part as f64 / all as f64 };
    (share(part.0, all.0), share(part.1, all.1))
}

/// The histogram of a column, the reference under the current rows. `marks`
/// are the groups that the words beside it name by their place in the list.
pub(super) fn histogram(column: &ColumnReport, distinct: bool, marks: &[u32]) -> String {
    match column.kind {
        ColumnKind::Categorical => categories(column, marks),
        ColumnKind::Numeric => numbers(column, distinct, marks),
    }
}

/// The same without words, as small as a line of text.
pub(super) fn sparkline(column: &ColumnReport, distinct: bool) -> String {
    const SIZE: (f64, f64) = (112.0, 26.0);
    let layout = match column.kind {
        ColumnKind::Numeric => layout(column, distinct, 28, 1.0, SIZE.0 - 1.0, 5.0, 2.0),
        ColumnKind::Categorical => {
            let bins: Vec<_> = shown(column).into_iter().take(24).collect();
            let mut layout = Layout::default();
            equal_slots(&mut layout, column, &bins, 1.0, SIZE.0 - 1.0);
            layout
        }
    };
    let mut out = format!(
        r#"<svg class="spark" viewBox="0 0 {} {}" width="{0}" height="{1}" aria-hidden="true">"#,
        SIZE.0, SIZE.1
    );
    outlines(&mut out, &layout, 2.0, SIZE.1 - 1.0);
    out.push_str("</svg>");
    out
}

/// A score as a bar, and the threshold as a line across it.
pub(super) fn bar(value: f64, threshold: f64, class: &str) -> String {
    const SIZE: (f64, f64) = (120.0, 14.0);
    let scale = (SIZE.0 - 8.0) / (threshold * 3.0).max(f64::MIN_POSITIVE);
    let end = (value * scale).min(SIZE.0 - 8.0);
    let mut out = format!(
        r#"<svg class="bar" viewBox="0 0 {} {}" width="{0}" height="{1}" aria-hidden="true"><rect class="track" y="3" width="{}" height="8"/><rect class="{class}" y="3" width="{end:.1}" height="8"/>"#,
        SIZE.0,
        SIZE.1,
        SIZE.0 - 8.0
    );
    if value * scale > SIZE.0 - 8.0 {
        // An arrow's head: it goes on beyond the end.
        let _ = write!(out, r#"<path class="{class}" d="M112 1L119 7L112 13Z"/>"#);
    }
    let _ = write!(out, r#"<path class="limit" d="M{:.1} 0V14"/></svg>"#, threshold * scale);
    out
}

fn numbers(column: &ColumnReport, distinct: bool, marks: &[u32]) -> String {
    let layout = layout(column, distinct, SLOTS, LEFT, WIDTH - RIGHT, END, END_GAP);
    if layout.slots.is_empty() {
        return String::new();
    }
    let most = top(&layout);
    let mut out = open(column, HEIGHT);
    let scale = |share: f64| BASE - share / most * (BASE - TOP);
    for share in grid(most) {
        let y = scale(share);
        let _ = write!(
            out,
            r#"<path class="grid" d="M{LEFT} {y:.1}H{:.1}"/><text class="y" x="{:.1}" y="{:.1}">{}</text>"#,
            WIDTH - RIGHT,
            LEFT - 5.0,
            y + 3.5,
            tick(share * 100.0) + " %",
        );
    }
    for (number, &group) in marks.iter().enumerate() {
        let members = column.bins.iter().zip(&layout.extents);
        let extents = members
            .filter(|(bin, _)| bin.group == Some(group))
            .filter_map(|(_, extent)| *extent);
        for (from, to) in joined(extents) {
            mark(&mut out, number, from, to);
        }
    }
    outlines(&mut out, &layout, TOP, BASE);
    let _ = write!(out, r#"<path class="axis" d="M{LEFT} {BASE}H{:.1}"/>"#, WIDTH - RIGHT);
    for (x, label) in &layout.ticks {
        let _ = write!(
            out,
            r#"<text class="x" x="{x:.1}" y="{:.1}">{}</text>"#,
            BASE + 29.0,
            esc(label)
        );
    }
    hints(&mut out, column, &layout);
    out.push_str("</svg>");
    out
}

/// The head of a drawing: what it shows, for who does not see it.
fn open(column: &ColumnReport, height: f64) -> String {
    let name = esc(&column.name);
    let what = if column.reference_values > 0 {
        format!("Distribution of {name}: reference and current rows. The table of groups below has the numbers.")
    } else {
        format!("Distribution of {name} in the current rows.")
    };
    format!(r#"<svg class="chart" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{what}">"#)
}

/// A band behind what a number of the words is about, and the number on it.
fn mark(out: &mut String, number: usize, from: f64, to: f64) {
    let (from, to) = if to - from < 3.0 {
        (from - 1.5, to + 1.5)
    } else {
        (from, to)
    };
    let _ = write!(
        out,
        r#"<rect class="mark" x="{from:.1}" y="{TOP}" width="{:.1}" height="{:.1}"/><path class="bracket" d="M{from:.1} {:.1}v4H{to:.1}v-4"/><text class="n" x="{:.1}" y="{:.1}">{}</text>"#,
        to - from,
        BASE - TOP,
        BASE + 3.0,
        (from + to) / 2.0,
        BASE + 17.0,
        number + 1,
    );
}

/// Stretches that touch made one, across the gap before a slot at an end too.
fn joined(extents: impl Iterator<Item = (f64, f64)>) -> Vec<(f64, f64)> {
    let mut all: Vec<(f64, f64)> = extents.collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut out: Vec<(f64, f64)> = Vec::new();
    for (from, to) in all {
        match out.last_mut() {
            Some(last) if from <= last.1 + END_GAP + 1.0 => last.1 = last.1.max(to),
            _ => out.push((from, to)),
        }
    }
    out
}

/// Invisible rectangles over the groups, that say their numbers to a pointer.
fn hints(out: &mut String, column: &ColumnReport, layout: &Layout) {
    for (at, group) in column.groups.iter().enumerate() {
        let of_group = |bin: &BinReport| bin.group == Some(at as u32);
        let members = column.bins.iter().zip(&layout.extents);
        let (reference, current) = shares(column, |_, bin| of_group(bin));
        for (from, to) in joined(
            members
                .filter(|(bin, _)| of_group(bin))
                .filter_map(|(_, extent)| *extent),
        ) {
            let _ = write!(
                out,
                r#"<rect class="hint" x="{from:.1}" y="{TOP}" width="{:.1}" height="{:.1}"><title>{}: {} → {}</title></rect>"#,
                to - from,
                BASE - TOP,
                esc(&group.label),
                percent(reference),
                percent(current),
            );
        }
    }
}

/// The outline of the reference, filled, and of the current rows, as a line.
fn outlines(out: &mut String, layout: &Layout, top_y: f64, base: f64) {
    let most = top(layout);
    let y = |share: f64| base - share / most * (base - top_y);
    for (class, close, share) in [
        ("ref", "Z", (|slot| slot.reference) as fn(&Slot) -> f64),
        ("cur", "", |slot| slot.current),
    ] {
        let mut path = String::new();
        for run in &layout.runs {
            let slots = &layout.slots[run.clone()];
            if slots.iter().all(|slot| share(slot) == 0.0) {
                continue;
            }
            let _ = write!(path, "M{:.1} {base:.1}", slots[0].from);
            for slot in slots {
                let _ = write!(path, "V{:.1}H{:.1}", y(share(slot)), slot.to);
            }
            let _ = write!(path, "V{base:.1}{close}");
        }
        if !path.is_empty() {
            let _ = write!(out, r#"<path class="{class}" d="{path}"/>"#);
        }
    }
}

fn top(layout: &Layout) -> f64 {
    let shares = layout.slots.iter().flat_map(|slot| [slot.reference, slot.current]);
    shares.fold(0.0, f64::max).max(f64::MIN_POSITIVE) * 1.04
}

/// Round shares for the lines of the grid, two to four of them.
fn grid(most: f64) -> Vec<f64> {
    let step = round_step(most / 3.0);
    (1..)
        .map(|i| i as f64 * step)
        .take_while(|&share| share <= most)
        .collect()
}

/// The largest of 1, 2, 5 times a power of ten that is no more than this.
fn round_step(at_most: f64) -> f64 {
    let power = 10f64.powf(at_most.log10().floor());
    [5.0, 2.0, 1.0]
        .map(|digit| digit * power)
        .into_iter()
        .find(|&step| step <= at_most)
        .unwrap_or(power)
}

/// A round number without the noise of its binary fraction.
fn tick(value: f64) -> String {
    let value = (value * 1e9).round() / 1e9;
    if value.abs() >= 1e6 || (value != 0.0 && value.abs() < 1e-3) {
        return number(value);
    }
    format!("{value}").replace('-', "−")
}

fn layout(column: &ColumnReport, distinct: bool, slots: usize, left: f64, right: f64, end: f64, gap: f64) -> Layout {
    let bins = shown(column);
    let mut layout = Layout {
        extents: vec![None; column.bins.len()],
        ..Layout::default()
    };
    let Some((&(below, first), rest)) = bins.split_first() else {
        return layout;
    };
    let Some((&(above, last), inside)) = rest.split_last() else {
        return layout;
    };
    let edges: Option<Vec<(f64, f64)>> = inside
        .iter()
        .map(|(_, bin)| Some((bin.from?, bin.to?)))
        .map(|edges| edges.filter(|(from, to)| (to - from).is_finite()))
        .collect();
    let Some(edges) = edges.filter(|edges| !edges.is_empty()) else {
        return layout;
    };
    let (all_reference, all_current) = bins
        .iter()
        .fold((0, 0), |sum, (_, bin)| (sum.0 + bin.reference, sum.1 + bin.current));
    let share = |bin: &BinReport| {
        (
            bin.reference as f64 / all_reference.max(1) as f64,
            bin.current as f64 / all_current.max(1) as f64,
        )
    };

    // A bin at an end of the seen range can be far wider than all others
    // together; to scale, it would leave no room for them.
    let (mut low, mut high) = (0, edges.len());
    if edges.len() >= 10 && !distinct {
        let middle = edges[edges.len() - 2].1 - edges[1].0;
        low += usize::from(edges[0].1 - edges[0].0 > TAIL * middle);
        high -= usize::from(edges[high - 1].1 - edges[high - 1].0 > TAIL * middle);
    }
    let (min, max) = (edges[low].0, edges[high - 1].1);
    let outside = |cut: bool, bin: &BinReport| cut || bin.current + bin.reference > 0;
    let before = outside(low > 0, first);
    let after = outside(high < edges.len(), last);
    let from = left + if before { end + gap } else { 0.0 };
    let to = right - if after { end + gap } else { 0.0 };

    if before {
        let mut slot = Slot {
            from: left,
            to: left + end,
            ..Slot::default()
        };
        layout.extents[below] = Some((left, left + end));
        (slot.reference, slot.current) = share(first);
        for (at, bin) in &inside[..low] {
            let (reference, current) = share(bin);
            slot.reference += reference;
            slot.current += current;
            layout.extents[*at] = Some((left, left + end));
        }
        layout.runs.push(0..1);
        layout.slots.push(slot);
        layout.ticks.push((left + end / 2.0, format!("< {}", tick_of(min))));
    }
    let start = layout.slots.len();
    let shown = &inside[low..high];
    if distinct || max <= min {
        equal_slots(&mut layout, column, shown, from, to);
        let every = shown.len().div_ceil(10);
        let width = (to - from) / shown.len() as f64;
        for (i, (_, bin)) in shown.iter().enumerate().step_by(every) {
            let value = bin.from.unwrap_or_default();
            layout.ticks.push((from + (i as f64 + 0.5) * width, tick_of(value)));
        }
    } else {
        let x = |value: f64| from + (value - min) / (max - min) * (to - from);
        let width = (to - from) / slots as f64;
        layout.slots.extend((0..slots).map(|i| Slot {
            from: from + i as f64 * width,
            to: from + (i + 1) as f64 * width,
            ..Slot::default()
        }));
        layout.runs.push(start..start + slots);
        for ((at, bin), (begin, until)) in shown.iter().zip(&edges[low..high]) {
            let (begin, until) = (x(*begin), x(*until));
            layout.extents[*at] = Some((begin, until));
            let (reference, current) = share(bin);
            let place = |x: f64| (((x - from) / width) as usize).min(slots - 1);
            for slot in place(begin)..=place(until) {
                let slot = &mut layout.slots[start + slot];
                let part = if until > begin {
                    (until.min(slot.to) - begin.max(slot.from)).max(0.0) / (until - begin)
                } else {
                    1.0
                };
                slot.reference += reference * part;
                slot.current += current * part;
            }
        }
        let step = round_step((max - min) / 3.0);
        let first = (min / step).ceil();
        for i in 0..=12 {
            let value = (first + f64::from(i)) * step;
            if value > max {
                break;
            }
            let label = if value.abs() < 10_000.0 {
                tick(value)
            } else {
                tick_of(value)
            };
            layout.ticks.push((x(value), label));
        }
        // No label may run into that of a slot at an end.
        let room = |at: f64| (!before || at > from + 18.0) && (!after || at < to - 18.0);
        let ends = usize::from(before);
        let mut at = 0;
        layout.ticks.retain(|(x, _)| {
            at += 1;
            at <= ends || room(*x)
        });
    }
    if after {
        let begin = right - end;
        let mut slot = Slot {
            from: begin,
            to: right,
            ..Slot::default()
        };
        layout.extents[above] = Some((begin, right));
        (slot.reference, slot.current) = share(last);
        for (at, bin) in &inside[high..] {
            let (reference, current) = share(bin);
            slot.reference += reference;
            slot.current += current;
            layout.extents[*at] = Some((begin, right));
        }
        layout.runs.push(layout.slots.len()..layout.slots.len() + 1);
        layout.slots.push(slot);
        let sign = if high < edges.len() { '≥' } else { '>' };
        layout
            .ticks
            .push((begin + end / 2.0, format!("{sign} {}", tick_of(max))));
    }
    layout
}

/// An edge under the axis.
fn tick_of(value: f64) -> String {
    let size = value.abs();
    if (10_000.0..1e9).contains(&size) {
        let (scaled, unit) = if size < 1e6 {
            (value / 1e3, "k")
        } else {
            (value / 1e6, "M")
        };
        return format!("{}{unit}", number(scaled));
    }
    number(value)
}

/// One slot a bin, all of one width, each with an outline of its own.
fn equal_slots(layout: &mut Layout, column: &ColumnReport, bins: &[(usize, &BinReport)], from: f64, to: f64) {
    let width = (to - from) / bins.len().max(1) as f64;
    let gap = (width * 0.12).min(4.0);
    layout.extents.resize(column.bins.len(), None);
    for (i, (at, _)) in bins.iter().enumerate() {
        let begin = from + i as f64 * width;
        let (reference, current) = shares(column, |bin, _| bin == *at);
        layout.extents[*at] = Some((begin, begin + width));
        layout.runs.push(layout.slots.len()..layout.slots.len() + 1);
        layout.slots.push(Slot {
            from: begin + gap,
            to: begin + width - gap,
            reference,
            current,
        });
    }
}

/// Categories, one below the other.
fn categories(column: &ColumnReport, marks: &[u32]) -> String {
    const ROW: f64 = 27.0;
    const NAMES: f64 = 150.0;
    const NUMBERS: f64 = 118.0;
    let bins = shown(column);
    let marked = |bin: &BinReport| bin.group.and_then(|group| marks.iter().position(|&mark| mark == group));
    // The marked ones are shown whatever their size; then the most frequent.
    let mut order: Vec<usize> = (0..bins.len()).collect();
    order.sort_by_key(|&i| {
        let bin = bins[i].1;
        (marked(bin).is_none(), std::cmp::Reverse(bin.reference.max(bin.current)))
    });
    let (drawn, hidden) = order.split_at(order.len().min(CATEGORIES_MAX));
    let mut drawn = drawn.to_vec();
    drawn.sort_unstable();
    let mut rows: Vec<(String, (f64, f64), Option<usize>)> = drawn
        .iter()
        .map(|&i| {
            (
                bins[i].1.label.clone(),
                shares(column, |at, _| at == bins[i].0),
                marked(bins[i].1),
            )
        })
        .collect();
    if !hidden.is_empty() {
        let hidden: Vec<usize> = hidden.iter().map(|&i| bins[i].0).collect();
        rows.push((
            format!("{} more", hidden.len()),
            shares(column, |at, _| hidden.contains(&at)),
            None,
        ));
    }
    let most = rows.iter().map(|(_, (a, b), _)| a.max(*b)).fold(0.0, f64::max);
    if most == 0.0 {
        return String::new();
    }
    let room = WIDTH - NAMES - NUMBERS;
    let mut out = open(column, rows.len() as f64 * ROW + 6.0);
    for (i, (label, (reference, current), mark)) in rows.iter().enumerate() {
        let y = i as f64 * ROW + 3.0;
        if let Some(number) = mark {
            let _ = write!(
                out,
                r#"<rect class="mark" x="0" y="{y:.1}" width="{WIDTH}" height="{ROW}"/><text class="n" x="10" y="{:.1}">{}</text>"#,
                y + 17.5,
                number + 1
            );
        }
        let _ = write!(
            out,
            r#"<text class="c" x="{:.1}" y="{:.1}">{}<title>{}</title></text>"#,
            NAMES - 8.0,
            y + 17.5,
            esc(&short(label, 18)),
            esc(label),
        );
        if column.reference_values > 0 {
            let _ = write!(
                out,
                r#"<rect class="ref" x="{NAMES}" y="{:.1}" width="{:.1}" height="9"/>"#,
                y + 4.0,
                reference / most * room
            );
        }
        let numbers = if column.reference_values > 0 {
            format!("{} → {}", percent(*reference), percent(*current))
        } else {
            percent(*current)
        };
        let _ = write!(
            out,
            r#"<rect class="cur" x="{NAMES}" y="{:.1}" width="{:.1}" height="9"/><text class="v" x="{WIDTH}" y="{:.1}">{numbers}</text>"#,
            y + 14.0,
            current / most * room,
            y + 17.5,
        );
    }
    out.push_str("</svg>");
    out
}
