//! Windows with and without drift, simulated: how often the report says what
//! is not so, and how often it finds what is.
//!
//! ```text
//! cargo test --release --test simulate -- --full      the table of docs/drift.md, some minutes
//! ```
//!
//! Without `--full` a small part of it runs, whose bounds are as far out as so
//! few windows need. The values are drawn from a generator with fixed seeds, one
//! a reference: the results are the same on any machine and number of threads.

mod draw;
mod world;

use modelet::drift::report::{QualityState, Report, State, Thresholds};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use world::{Kind, Shift, World};

/// Windows for which one reference serves.
const WINDOWS_A_REFERENCE: usize = 100;

/// Windows of an hour in a week.
const WINDOWS_A_WEEK: usize = 168;

/// The largest share of windows without drift with any drifted feature.
const FALSE_MAX: f64 = 0.055;

fn main() -> ExitCode {
    let full = std::env::args().skip(1).any(|arg| arg == "--full");
    let mut good = true;
    good &= without_drift(full);
    good &= with_a_shift(full);
    good &= model_weeks(full);
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs `work` on 0..count over two threads; the results in order.
fn in_parallel<T: Send>(count: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let (next, results) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= count {
                        return;
                    }
                    let result = work(at);
                    results
                        .lock()
                        .expect("no thread panics with the lock")
                        .push((at, result));
                }
            });
        }
    });
    let mut results = results.into_inner().expect("no thread panicked");
    results.sort_by_key(|(at, _)| *at);
    results.into_iter().map(|(_, result)| result).collect()
}

fn look(world: &mut World, rows: u64, shift: Option<Shift>) -> Report {
    let counts = world.window(rows, shift);
    modelet::drift::report(
        &world.manifest,
        "",
        &world.manifest.reference,
        &counts,
        &Thresholds::default(),
    )
}

/// How many windows without drift had any of these.
#[derive(Clone, Copy, Default)]
struct Tally {
    windows: u64,
    drifted: u64,
    alert: u64,
    predictions: u64,
    bad: u64,
    insufficient: u64,
}

fn without_drift(full: bool) -> bool {
    let mut good = true;
    println!("Windows without drift: share with any of these, and the upper end of its 95 % interval\n");
    println!(
        "| rows | windows | a feature drifted | a feature alerts | label or score drifted | quality bad | insufficient |"
    );
    println!("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    for rows in [50, 100, 500, 5000] {
        let windows = match (full, rows) {
            (true, _) => 10_000,
            (false, 5000) => 100,
            (false, _) => 400,
        };
        let tallies = in_parallel(windows / WINDOWS_A_REFERENCE, |reference| {
            let mut world = World::new(rows << 32 | reference as u64);
            let mut tally = Tally::default();
            for _ in 0..WINDOWS_A_REFERENCE {
                let report = look(&mut world, rows, None);
                let any = |state: State| report.features.iter().any(|column| column.state == state);
                let predictions = || report.predictions.iter();
                tally.windows += 1;
                tally.drifted += u64::from(any(State::Drifted));
                tally.alert += u64::from(report.features.iter().any(|column| column.alert));
                tally.predictions += u64::from(predictions().any(|column| column.state == State::Drifted));
                tally.bad += u64::from(report.quality == QualityState::Bad);
                tally.insufficient += u64::from(
                    any(State::InsufficientData) || predictions().any(|column| column.state == State::InsufficientData),
                );
            }
            tally
        });
        let total = |of: fn(&Tally) -> u64| tallies.iter().map(of).sum::<u64>();
        let windows = total(|tally| tally.windows);
        let cell = |count: u64| {
            let (_, upper) = interval(count, windows);
            format!(
                "{:.2} % (≤ {:.2} %)",
                100.0 * count as f64 / windows as f64,
                100.0 * upper
            )
        };
        let (drifted, predictions, bad) = (
            total(|tally| tally.drifted),
            total(|tally| tally.predictions),
            total(|tally| tally.bad),
        );
        let insufficient = total(|tally| tally.insufficient);
        println!(
            "| {rows} | {windows} | {} | {} | {} | {} | {insufficient} |",
            cell(drifted),
            cell(total(|tally| tally.alert)),
            cell(predictions),
            cell(bad)
        );
        for (what, count) in [
            ("drifted features", drifted),
            ("drifted predictions", predictions),
            ("bad quality", bad),
        ] {
            let (lower, upper) = interval(count, windows);
            // Few windows can't show that a share is small, only that it is not large.
            let bound = if full { upper } else { lower };
            let limit = if full {
                FALSE_MAX
            } else {
                Thresholds::default().adjusted_p
            };
            good &= check(bound <= limit, || {
                format!(
                    "{rows} rows: {what} in {count} of {windows} windows without drift, bound {bound:.4}, limit {limit}"
                )
            });
        }
        good &= check(insufficient == 0, || {
            format!("{rows} rows: {insufficient} windows were insufficient")
        });
    }
    good
}

fn with_a_shift(full: bool) -> bool {
    let mut good = true;
    println!("\nWindows with one feature shifted: share in which it is found\n");
    println!("| rows | shift | features | windows | found | lower end of its 95 % interval |");
    println!("| ---: | ---: | --- | ---: | ---: | ---: |");
    for (rows, by, least) in [(500, 0.5, 0.95), (100, 1.0, 0.9)] {
        for kind in Kind::SHIFTED {
            let references = if full { 20 } else { 1 };
            let found: u64 = in_parallel(references, |reference| {
                let mut world = World::new(0x5817 << 40 | rows << 16 | (kind as u64) << 8 | reference as u64);
                let features = world.of_kind(kind);
                (0..WINDOWS_A_REFERENCE)
                    .filter(|window| {
                        let feature = features[window % features.len()];
                        let shift = Shift {
                            feature,
                            deviations: by,
                        };
                        look(&mut world, rows, Some(shift)).features[feature].state == State::Drifted
                    })
                    .count() as u64
            })
            .iter()
            .sum();
            let windows = (references * WINDOWS_A_REFERENCE) as u64;
            let (lower, _) = interval(found, windows);
            let share = found as f64 / windows as f64;
            println!(
                "| {rows} | {by} sd | {} | {windows} | {:.1} % | {:.1} % |",
                kind.name(),
                100.0 * share,
                100.0 * lower
            );
            let bound = if full { lower } else { share };
            good &= check(bound >= least, || {
                format!(
                    "{rows} rows: a shift of {by} in a {} feature was found in {found} of {windows}",
                    kind.name()
                )
            });
        }
    }
    good
}

/// The rule that is shipped: an alert when a column alerts in 2 of 3 windows of
/// an hour, one after the other; it ends when it no longer does.
fn model_weeks(full: bool) -> bool {
    let mut good = true;
    println!("\nFalse alerts a model-week: a column alerts in 2 of 3 consecutive windows of 1 h\n");
    println!("| rows an hour | model-weeks | false alerts | a model-week | upper end of its 95 % interval |");
    println!("| ---: | ---: | ---: | ---: | ---: |");
    for (rows, weeks) in [(20, 500), (50, 1000), (100, 500), (500, 200), (5000, 20)] {
        let weeks = match full {
            true => weeks,
            false if rows == 50 => 2,
            false => continue,
        };
        let alerts: u64 = in_parallel(weeks, |week| {
            let mut world = World::new(0x3ee6 << 40 | rows << 20 | week as u64);
            let mut before: Vec<[bool; 2]> = Vec::new();
            let mut firing: Vec<bool> = Vec::new();
            let mut alerts = 0;
            for _ in 0..WINDOWS_A_WEEK {
                let report = look(&mut world, rows, None);
                let columns = || report.features.iter().chain(&report.predictions);
                before.resize(columns().count(), [false; 2]);
                firing.resize(columns().count(), false);
                for (column, (before, firing)) in columns().zip(before.iter_mut().zip(&mut firing)) {
                    let now = [before[0], before[1], column.alert];
                    let fires = now.iter().filter(|&&alert| alert).count() >= 2;
                    alerts += u64::from(fires && !*firing);
                    *firing = fires;
                    *before = [now[1], now[2]];
                }
            }
            alerts
        })
        .iter()
        .sum();
        let upper = poisson_upper(alerts) / weeks as f64;
        println!(
            "| {rows} | {weeks} | {alerts} | {:.3} | {upper:.3} |",
            alerts as f64 / weeks as f64
        );
        good &= check(!full && alerts <= 2 || full && upper <= 1.0, || {
            format!("{rows} rows an hour: {alerts} false alerts in {weeks} model-weeks")
        });
    }
    good
}

fn check(holds: bool, otherwise: impl Fn() -> String) -> bool {
    if !holds {
        eprintln!("FAILED: {}", otherwise());
    }
    holds
}

/// Clopper and Pearson's 95 % interval of a share.
fn interval(count: u64, of: u64) -> (f64, f64) {
    // The probability of `from` and more; falls with `from`, grows with p.
    let at_least = |from: u64, p: f64| -> f64 {
        (from..=of)
            .map(|k| {
                let factorial = |v: u64| libm::lgamma(v as f64 + 1.0);
                let ways = factorial(of) - factorial(k) - factorial(of - k);
                (ways + k as f64 * p.ln() + (of - k) as f64 * (-p).ln_1p()).exp()
            })
            .sum()
    };
    let lower = match count {
        0 => 0.0,
        _ => root(|p| at_least(count, p) >= 0.025),
    };
    let upper = match count == of {
        true => 1.0,
        false => root(|p| at_least(count + 1, p) >= 0.975),
    };
    (lower, upper)
}

/// The upper end of the 95 % interval of the mean of a Poisson count.
fn poisson_upper(count: u64) -> f64 {
    let at_most = |mean: f64| -> f64 {
        (0..=count)
            .map(|k| (k as f64 * mean.ln() - mean - libm::lgamma(k as f64 + 1.0)).exp())
            .sum()
    };
    let most = 10.0 * (count as f64 + 5.0);
    most * root(|share| at_most(most * share) <= 0.025)
}

/// Where in (0, 1) `holds` begins to hold.
fn root(holds: impl Fn(f64) -> bool) -> f64 {
    let (mut from, mut to) = (0.0, 1.0);
    for _ in 0..50 {
        let middle = 0.5 * (from + to);
        *if holds(middle) { &mut to } else { &mut from } = middle;
    }
    to
}
