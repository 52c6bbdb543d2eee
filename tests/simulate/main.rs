//! Windows with and without drift, simulated: how often the report says what
//! is not so, and how often it finds what is. And weeks of a model under the
//! default rules: how often they tell what is not so, of rows, of counts of
//! requests and of labels.
//!
//! ```text
//! cargo test --release --test simulate -- --full      the tables of docs/drift.md, some minutes
//! ```
//!
//! Without `--full` a small part of it runs, whose bounds are as far out as so
//! few windows need. The values are drawn from a generator with fixed seeds, one
//! a reference: the results are the same on any machine and number of threads.

mod draw;
mod week;
mod world;

use draw::Draw;
use modelet::drift::report::{QualityState, Report, State, Thresholds};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use week::{Labels, Told, Week};
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
    good &= weeks_of_columns(full);
    good &= weeks_of_requests(full);
    good &= weeks_of_labels(full);
    good &= what_is_wrong_is_told(full);
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

/// The rules on columns as they are shipped, in windows of an hour.
fn weeks_of_columns(full: bool) -> bool {
    println!("\nFalse alerts a model-week of the rules on columns, by default, in windows of 1 h without drift\n");
    const RULES: [&str; 3] = ["feature_drift", "prediction_drift", "data_quality"];
    head(&["rows an hour", "model-weeks"], &RULES);
    let mut good = true;
    for (rows, weeks) in [(20, 500), (50, 1000), (100, 500), (500, 200), (5000, 20)] {
        let weeks = match full {
            true => weeks,
            false if rows == 50 => 2,
            false => continue,
        };
        let told = in_parallel(weeks, |week| {
            let mut world = World::new(0x3ee6 << 40 | rows << 20 | week as u64);
            let mut rules = Week::new(3600);
            for _ in 0..WINDOWS_A_WEEK {
                rules.next(week::of_report(look(&mut world, rows, None)));
            }
            rules.told
        });
        good &= row(full, &[rows.to_string(), weeks.to_string()], &told, &RULES, 1.0);
    }
    good
}

/// The rules on requests as they are shipped, in windows of five minutes, where
/// the truth is a part of what they allow, up to all of it.
fn weeks_of_requests(full: bool) -> bool {
    println!("\nFalse alerts a model-week of the rules on requests, by default, in windows of 5 min\n");
    const RULES: [&str; 3] = ["error_rate", "latency", "rejected_rate"];
    head(&["requests a window", "of the threshold", "model-weeks"], &RULES);
    let mut good = true;
    for requests in [100, 500, 5000] {
        for percent in [50, 80, 100] {
            let weeks = match full {
                true => 200,
                false if requests == 500 => 1,
                false => continue,
            };
            let told = in_parallel(weeks, |week| {
                let mut draw = Draw::new(0x4e95 << 40 | requests << 20 | percent << 12 | week as u64);
                let mut rules = Week::new(300);
                for _ in 0..WINDOWS_A_WEEK * 12 {
                    rules.next(week::of_requests(&mut draw, requests, percent as f64 / 100.0));
                }
                rules.told
            });
            let cells = [requests.to_string(), format!("{percent} %"), weeks.to_string()];
            good &= row(full, &cells, &told, &RULES, 1.0);
        }
    }
    good
}

/// The rule on accuracy as it is shipped, in windows of an hour, where accuracy
/// fell by a part of the five points that it allows, up to all of them. A
/// baseline of 85 % was measured on a holdout, a new one each week.
fn weeks_of_labels(full: bool) -> bool {
    println!("\nFalse alerts a model-week of the rule on accuracy, by default, in windows of 1 h\n");
    const RULES: [&str; 1] = ["accuracy"];
    head(
        &["labels an hour", "rows of the holdout", "points down", "model-weeks"],
        &RULES,
    );
    let mut good = true;
    let manifest = World::new(0xacc).manifest;
    for (labels, holdout) in [(100, 1000), (500, 1000), (2000, 1000), (500, 500), (500, 2000)] {
        for down in [0.0, 2.5, 5.0] {
            let weeks = match full {
                true => 1000,
                false if labels == 500 && holdout == 1000 => 5,
                false => continue,
            };
            let told = in_parallel(weeks, |week| {
                let seed = labels << 36 | holdout << 24 | ((10.0 * down) as u64) << 16 | week as u64;
                let mut draw = Draw::new(seed);
                let model = Labels::new(manifest.clone(), &mut draw, 0.85, holdout);
                let mut rules = Week::new(3600);
                for _ in 0..WINDOWS_A_WEEK {
                    rules.next(model.window(&mut draw, labels, 0.85 - down / 100.0));
                }
                rules.told
            });
            let cells = [
                labels.to_string(),
                holdout.to_string(),
                down.to_string(),
                weeks.to_string(),
            ];
            good &= row(full, &cells, &told, &RULES, 1.0);
        }
    }
    good
}

/// How soon the rules on requests and accuracy tell what is so: the share of
/// runs in which they did within so many windows.
fn what_is_wrong_is_told(full: bool) -> bool {
    println!("\nRules on requests and accuracy where something is wrong: told within 6 windows\n");
    println!("| rule | a window | what is so | runs | told | lower end of its 95 % interval |");
    println!("| --- | ---: | --- | ---: | ---: | ---: |");
    let runs = if full { 1000 } else { 50 };
    let manifest = World::new(0xacc).manifest;
    let mut good = true;
    let mut tell = |rule: &str, size: String, what: &str, found: Vec<Told>, least: f64| {
        let count = found.iter().filter(|told| told.contains_key(rule)).count() as u64;
        let (lower, _) = interval(count, runs as u64);
        let share = count as f64 / runs as f64;
        println!(
            "| {rule} | {size} | {what} | {runs} | {:.1} % | {:.1} % |",
            100.0 * share,
            100.0 * lower
        );
        good &= check((if full { lower } else { share }) >= least, || {
            format!("{rule}, {size}, {what}: told in {count} of {runs}")
        });
    };
    for (requests, times, least) in [(100, 8.0, 0.9), (500, 3.0, 0.9), (5000, 1.5, 0.9)] {
        let found = in_parallel(runs, |run| {
            let mut draw = Draw::new(0x6ad << 40 | requests << 20 | run as u64);
            let mut rules = Week::new(300);
            for _ in 0..6 {
                rules.next(week::of_requests(&mut draw, requests, times));
            }
            rules.told
        });
        for rule in ["error_rate", "latency", "rejected_rate"] {
            let what = format!("{times} times the threshold");
            tell(rule, format!("{requests} requests"), &what, found.clone(), least);
        }
    }
    for (labels, down, least) in [(100, 25.0, 0.9), (500, 15.0, 0.9), (2000, 12.5, 0.9)] {
        let found = in_parallel(runs, |run| {
            let mut draw = Draw::new(0x6ae << 40 | labels << 20 | run as u64);
            let model = Labels::new(manifest.clone(), &mut draw, 0.85, 1000);
            let mut rules = Week::new(3600);
            for _ in 0..6 {
                rules.next(model.window(&mut draw, labels, 0.85 - down / 100.0));
            }
            rules.told
        });
        tell(
            "accuracy",
            format!("{labels} labels"),
            &format!("{down} points down"),
            found,
            least,
        );
    }
    good
}

fn head(cells: &[&str], rules: &[&str]) {
    println!("| {} | {} |", cells.join(" | "), rules.join(" | "));
    let columns = cells.len() + rules.len();
    println!("|{}", " ---: |".repeat(columns));
}

/// A row of false alerts a week by rule, with the upper end of their 95 %
/// interval. Whether that is within `most` for each of the rules.
fn row(full: bool, cells: &[String], told: &[Told], rules: &[&str], most: f64) -> bool {
    let weeks = told.len();
    let mut good = true;
    let mut text = Vec::new();
    for rule in rules {
        let count: u64 = told.iter().filter_map(|told| told.get(*rule)).sum();
        let upper = poisson_upper(count) / weeks as f64;
        text.push(format!("{:.3} (≤ {upper:.3})", count as f64 / weeks as f64));
        // Few weeks can't show that alerts are rare, only that they are not frequent.
        let holds = if full { upper <= most } else { count <= 3 * weeks as u64 };
        good &= check(holds, || {
            format!("{}: {rule} told {count} times in {weeks} model-weeks", cells.join(", "))
        });
    }
    println!("| {} | {} |", cells.join(" | "), text.join(" | "));
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
