//! What every store must do, as checks that run on any of them. The tests of
//! the whole program run them too, on a server.

use super::{Bucket, Label, Labelled, Parked, Part, Store, Sums};
use std::thread;
use std::time::Duration;

/// More instances than the checks make up.
pub const MANY: u64 = 1 << 18;
const LONG: Duration = Duration::from_secs(3600);

type Case = (&'static str, fn(&dyn Store));

const CASES: [Case; 23] = [
    ("parts are replaced, not added", parts_are_replaced),
    ("parts come by window", parts_come_by_window),
    ("predictions are found by key", predictions_are_found_by_key),
    ("predictions of several slices are found", predictions_of_several_times),
    ("a label is counted once", a_label_is_counted_once),
    ("a correction needs the label that is there", corrections),
    ("labels of one call are counted in order", labels_in_order),
    (
        "a label that cannot be counted changes nothing",
        labels_that_cannot_be_counted,
    ),
    ("labels that all bring are counted once", concurrent_labels),
    ("corrections at the same time do not get lost", concurrent_corrections),
    ("a parked label waits and is counted once", parked_labels),
    (
        "a label that was told later is the one that counts",
        parked_and_told_again,
    ),
    ("no more labels are parked than may be", parking_is_bounded),
    (
        "labels that are parked and joined at the same time are counted once",
        concurrent_parking,
    ),
    ("parked labels are gone after their time", parked_labels_expire),
    ("an instance advances", instances_advance),
    ("a lease has one holder", leases),
    ("documents are changed together", documents),
    ("a document is created once", documents_are_created_once),
    ("what was kept long enough is gone", expiry),
    ("batches may be large", large_batches),
    ("names may have any characters", odd_names),
    ("calls with nothing do nothing", empty_calls),
];

/// Runs all checks on a new store, at the same time.
///
/// # Panics
/// One of them fails; the message names it.
pub fn run(store: &dyn Store) {
    let failed: Vec<&str> = thread::scope(|scope| {
        let run = |(name, case): Case| (name, scope.spawn(move || case(store)));
        let running: Vec<_> = CASES.into_iter().map(run).collect();
        let failed = running
            .into_iter()
            .filter_map(|(name, case)| case.join().err().map(|_| name));
        failed.collect()
    });
    assert!(failed.is_empty(), "the store fails in: {failed:?}");
}

pub fn bucket(model: &str, start: u64) -> Bucket {
    Bucket {
        model: model.to_owned(),
        seconds: 60,
        start,
    }
}

pub fn part(model: &str, start: u64, writer: &str, bytes: &[u8]) -> Part {
    Part {
        bucket: bucket(model, start),
        writer: writer.to_owned(),
        bytes: bytes.to_vec(),
    }
}

pub fn key(number: u64) -> [u8; 16] {
    // As a hash, so that keys do not come in their order.
    let mixed = u128::from(number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15_F39C_C060_5CED_C835);
    mixed.to_be_bytes()
}

/// A first label, which adds to the bucket that starts at 0.
pub fn label(model: &str, number: u64, value: &[u8], sums: &[(u32, i64)]) -> Label {
    Label {
        model: model.to_owned(),
        key: key(number),
        row: 0,
        previous: None,
        value: value.to_vec(),
        adds: vec![(bucket(model, 0), sums.iter().copied().collect())],
        parked: None,
    }
}

/// A label that came before its prediction.
pub fn parked(number: u64, row: u32, value: &[u8]) -> Parked {
    Parked {
        key: key(number),
        row,
        value: value.to_vec(),
    }
}

/// The sums of the bucket that starts at 0.
pub fn sums(store: &dyn Store, model: &str) -> Sums {
    let mut buckets = store.sums(model, 60, 0, 60).expect("the sums are read");
    assert!(buckets.len() < 2, "{buckets:?}");
    buckets.pop().map(|(_, sums)| sums).unwrap_or_default()
}

fn parts_are_replaced(store: &dyn Store) {
    let put = |parts: &[Part]| store.put_parts(parts, LONG).expect("parts are put");
    put(&[part("replaced", 60, "a", b"first"), part("replaced", 60, "b", b"of b")]);
    put(&[part("replaced", 60, "a", b"second")]);
    put(&[part("replaced", 60, "a", b"second")]);
    let parts = store.parts("replaced", 60, 0, 1000).expect("parts are read");
    assert_eq!(
        parts,
        [part("replaced", 60, "a", b"second"), part("replaced", 60, "b", b"of b")]
    );
}

fn parts_come_by_window(store: &dyn Store) {
    let mut parts: Vec<Part> = (0..300)
        .rev()
        .map(|i| part("window", i * 60, "w", &[i as u8]))
        .collect();
    let mut hourly = part("window", 3600, "w", b"hour");
    hourly.bucket.seconds = 3600;
    parts.push(hourly);
    parts.push(part("window of another", 600, "w", b"other"));
    store.put_parts(&parts, LONG).expect("parts are put");
    let starts = |from, to| -> Vec<u64> {
        let parts = store.parts("window", 60, from, to).expect("parts are read");
        parts.iter().map(|part| part.bucket.start).collect()
    };
    assert_eq!(starts(600, 780), [600, 660, 720]);
    assert_eq!(starts(601, 661), [660]);
    assert_eq!(starts(0, u64::MAX), (0..300).map(|i| i * 60).collect::<Vec<_>>());
    assert_eq!(starts(600, 600), [0u64; 0]);
    assert_eq!(starts(900, 600), [0u64; 0]);
    assert_eq!(starts(18_000, u64::MAX), [0u64; 0]);
    let hours = store.parts("window", 3600, 0, u64::MAX).expect("parts are read");
    assert_eq!(hours.len(), 1);
    assert_eq!(hours[0].bytes, b"hour");
}

/// Keeps predictions.
pub(super) fn put_predictions(store: &dyn Store, model: &str, rows: &[([u8; 16], Vec<u8>)], keep: Duration) {
    let rows: Vec<([u8; 16], &[u8])> = rows.iter().map(|(key, value)| (*key, value.as_slice())).collect();
    store.put_predictions(model, &rows, keep).expect("predictions are put");
}

fn predictions_are_found_by_key(store: &dyn Store) {
    let put = |model: &str, rows: &[([u8; 16], Vec<u8>)]| put_predictions(store, model, rows, LONG);
    put(
        "keys",
        &[
            (key(1), vec![1]),
            (key(2), vec![2]),
            (key(3), vec![]),
            (key(2), vec![2, 2]),
        ],
    );
    put("keys", &[(key(1), vec![9])]);
    put("keys of another", &[(key(4), vec![4])]);
    let found = store.predictions("keys", &[key(3), key(1), key(4), key(2), key(1)]);
    assert_eq!(
        found.expect("predictions are read"),
        [Some(vec![]), Some(vec![9]), None, Some(vec![2, 2]), Some(vec![9])]
    );
    let none = store
        .predictions("keys of nobody", &[key(1)])
        .expect("none is no error");
    assert_eq!(none, [None]);
}

fn predictions_of_several_times(store: &dyn Store) {
    let keep = Duration::from_secs(16);
    for round in 0..3u8 {
        let rows: Vec<_> = (0..10).map(|i| (key(u64::from(round) * 5 + i), vec![round])).collect();
        put_predictions(store, "slices", &rows, keep);
        thread::sleep(Duration::from_millis(2100));
    }
    let keys: Vec<_> = (0..21).map(key).collect();
    let found = store.predictions("slices", &keys).expect("predictions are read");
    let found: Vec<Option<u8>> = found.into_iter().map(|value| value.map(|value| value[0])).collect();
    let expected: Vec<Option<u8>> = [vec![Some(0); 5], vec![Some(1); 5], vec![Some(2); 10], vec![None]].concat();
    assert_eq!(found, expected);
}

fn a_label_is_counted_once(store: &dyn Store) {
    let first = label("once", 1, b"yes", &[(1, 1), (2, -5)]);
    let mut other = label("once", 1, b"no", &[(1, 1), (3, 1)]);
    let put = |label: &Label| store.label(std::slice::from_ref(label), LONG).expect("a label is put");
    assert_eq!(put(&first), [Labelled::Counted]);
    assert_eq!(put(&first), [Labelled::Found(Some(b"yes".to_vec()))]);
    assert_eq!(put(&other), [Labelled::Found(Some(b"yes".to_vec()))]);
    assert_eq!(sums(store, "once"), Sums::from([(1, 1), (2, -5)]));
    // Another row, and another model, are other labels.
    other.row = 1;
    assert_eq!(put(&other), [Labelled::Counted]);
    assert_eq!(sums(store, "once"), Sums::from([(1, 2), (2, -5), (3, 1)]));
    assert_eq!(put(&label("once more", 1, b"no", &[(1, 7)])), [Labelled::Counted]);
    assert_eq!(sums(store, "once more"), Sums::from([(1, 7)]));
    // One label may add to several buckets.
    let mut several = label("once", 2, b"yes", &[(1, 10)]);
    several.adds.push((bucket("once", 120), Sums::from([(1, 20)])));
    several.adds.push((bucket("once", 0), Sums::from([(1, 100)])));
    assert_eq!(put(&several), [Labelled::Counted]);
    let all = store.sums("once", 60, 0, u64::MAX).expect("the sums are read");
    assert_eq!(
        all,
        [
            (0, Sums::from([(1, 112), (2, -5), (3, 1)])),
            (120, Sums::from([(1, 20)]))
        ]
    );
    assert_eq!(store.sums("once", 60, 60, 120).expect("the sums are read"), []);
    assert_eq!(store.sums("once", 60, 120, 60).expect("the sums are read"), []);
    assert_eq!(store.sums("once", 3600, 0, 9999).expect("the sums are read"), []);
}

fn corrections(store: &dyn Store) {
    let put = |label: &Label| store.label(std::slice::from_ref(label), LONG).expect("a label is put");
    let mut correction = label("corrected", 1, b"no", &[(1, -1), (0, 1)]);
    correction.previous = Some(b"yes".to_vec());
    assert_eq!(put(&correction), [Labelled::Found(None)]);
    assert_eq!(sums(store, "corrected"), Sums::new());
    assert_eq!(put(&label("corrected", 1, b"yes", &[(1, 1)])), [Labelled::Counted]);
    assert_eq!(put(&correction), [Labelled::Counted]);
    assert_eq!(put(&correction), [Labelled::Found(Some(b"no".to_vec()))]);
    let there: Sums = sums(store, "corrected")
        .into_iter()
        .filter(|(_, sum)| *sum != 0)
        .collect();
    assert_eq!(there, Sums::from([(0, 1)]));
    // An empty label is one too.
    assert_eq!(put(&label("corrected", 2, b"", &[])), [Labelled::Counted]);
    assert_eq!(put(&label("corrected", 2, b"x", &[])), [Labelled::Found(Some(vec![]))]);
    let mut from_empty = label("corrected", 2, b"x", &[]);
    from_empty.previous = Some(vec![]);
    assert_eq!(put(&from_empty), [Labelled::Counted]);
}

fn labels_in_order(store: &dyn Store) {
    let mut correction = label("order", 1, b"b", &[(2, 1)]);
    correction.previous = Some(b"a".to_vec());
    let labels = [
        label("order", 1, b"a", &[(1, 1)]),
        label("order", 1, b"a", &[(1, 1)]),
        correction,
        label("order of another", 1, b"a", &[(1, 1)]),
    ];
    let outcomes = store.label(&labels, LONG).expect("labels are put");
    assert_eq!(
        outcomes,
        [
            Labelled::Counted,
            Labelled::Found(Some(b"a".to_vec())),
            Labelled::Counted,
            Labelled::Counted
        ]
    );
    assert_eq!(sums(store, "order"), Sums::from([(1, 1), (2, 1)]));
}

fn labels_that_cannot_be_counted(store: &dyn Store) {
    let put = |label: &Label| store.label(std::slice::from_ref(label), LONG);
    put(&label("too large", 1, b"x", &[(1, 5), (2, i64::MAX - 1)])).expect("a label is put");
    let error = put(&label("too large", 2, b"x", &[(1, 5), (2, 2), (3, 5)])).expect_err("it is too large");
    assert!(error.to_string().contains("makes sum 2 too large"), "{error}");
    let there: Sums = sums(store, "too large")
        .into_iter()
        .filter(|(_, sum)| *sum != 0)
        .collect();
    assert_eq!(there, Sums::from([(1, 5), (2, i64::MAX - 1)]));
    let outcome = put(&label("too large", 2, b"y", &[(1, 1), (2, 1)])).expect("it fits");
    assert_eq!(outcome, [Labelled::Counted]);

    let mut itself = label("too large", 1, b"x", &[(1, 5)]);
    itself.previous = Some(b"x".to_vec());
    let error = put(&itself).expect_err("nothing would tell it from its repetition");
    assert!(error.to_string().contains("replace itself"), "{error}");
    assert_eq!(sums(store, "too large")[&1], 6);
}

fn concurrent_labels(store: &dyn Store) {
    const LABELS: u64 = 120;
    let counted: usize = thread::scope(|scope| {
        let bring = |thread: u64| {
            let numbers: Vec<u64> = (0..LABELS).map(|i| (i * 7 + thread * 31) % LABELS).collect();
            let mut counted = 0;
            for some in numbers.chunks(1 + thread as usize) {
                let labels: Vec<Label> = some
                    .iter()
                    .map(|i| label("all bring", *i, &[1], &[(1, 1), (9, 3)]))
                    .collect();
                let outcomes = store.label(&labels, LONG).expect("labels are put");
                counted += outcomes.iter().filter(|outcome| **outcome == Labelled::Counted).count();
            }
            counted
        };
        let threads: Vec<_> = (0..8).map(|thread| scope.spawn(move || bring(thread))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
    });
    assert_eq!(counted as u64, LABELS);
    let (labels, tripled) = (LABELS as i64, 3 * LABELS as i64);
    assert_eq!(sums(store, "all bring"), Sums::from([(1, labels), (9, tripled)]));
}

fn concurrent_corrections(store: &dyn Store) {
    thread::scope(|scope| {
        for thread in 0..6u8 {
            scope.spawn(move || {
                for round in 0..10u8 {
                    let value = vec![thread, round];
                    let mut new = label("contended", 1, &value, &[(thread.into(), 1)]);
                    loop {
                        match store.label(&[new.clone()], LONG).expect("a label is put").remove(0) {
                            Labelled::Counted => break,
                            Labelled::Gone => panic!("none is parked"),
                            Labelled::Found(found) => {
                                let found = found.expect("a label is never removed");
                                let back = (u32::from(found[0]), -1);
                                new = label("contended", 1, &value, &[]);
                                let sums = &mut new.adds[0].1;
                                *sums.entry(thread.into()).or_default() += 1;
                                *sums.entry(back.0).or_default() += back.1;
                                new.previous = Some(found);
                            }
                        }
                    }
                }
            });
        }
    });
    let total: i64 = sums(store, "contended").values().sum();
    assert_eq!(total, 1);
}

/// How many labels are parked at most, where nothing is said of it.
const MANY_PARKED: usize = 1000;

fn parked_labels(store: &dyn Store) {
    let there = |model: &str| store.parked(model).expect("parked labels are read");
    assert_eq!(there("parked"), []);
    let (first, second) = (parked(1, 0, b"yes"), parked(1, u32::MAX, b""));
    let both = [first.clone(), second.clone()];
    assert_eq!(
        store.park("parked", &both, MANY_PARKED, LONG).expect("they are parked"),
        [true, true]
    );
    // To tell it again changes nothing.
    assert_eq!(
        store.park("parked", &both, MANY_PARKED, LONG).expect("they are parked"),
        [true, true]
    );
    assert_eq!(there("parked"), both);
    assert_eq!(there("parked elsewhere"), []);
    let mut label = label("parked", 1, b"joined", &[(1, 1)]);
    label.parked = Some(b"yes".to_vec());
    let put = |label: &Label| store.label(std::slice::from_ref(label), LONG).expect("a label is put");
    assert_eq!(put(&label), [Labelled::Counted]);
    assert_eq!(there("parked"), std::slice::from_ref(&second));
    assert_eq!(put(&label), [Labelled::Gone]);
    assert_eq!(sums(store, "parked"), Sums::from([(1, 1)]));
    // One that was never parked, and one of a model that has none.
    label.row = 7;
    assert_eq!(put(&label), [Labelled::Gone]);
    label.model = "parked elsewhere".to_owned();
    assert_eq!(put(&label), [Labelled::Gone]);
    assert_eq!(sums(store, "parked elsewhere"), Sums::new());
    // An empty label is one too.
    label.model = "parked".to_owned();
    (label.row, label.parked) = (u32::MAX, Some(vec![]));
    assert_eq!(put(&label), [Labelled::Counted]);
    assert_eq!(there("parked"), []);

    assert_eq!(
        store.park("parked", &both, MANY_PARKED, LONG).expect("they are parked"),
        [true, true]
    );
    let ask = [parked(1, 0, b"no"), second, parked(2, 0, b"yes"), first];
    let removed = store.unpark("parked", &ask).expect("they are removed");
    assert_eq!(removed, [false, true, false, true]);
    assert_eq!(store.unpark("parked", &ask).expect("none is there"), [false; 4]);
    assert_eq!(
        store.unpark("parked by nobody", &ask).expect("none is there"),
        [false; 4]
    );
    assert_eq!(there("parked"), []);
}

fn parked_and_told_again(store: &dyn Store) {
    let put = |label: &Label| store.label(std::slice::from_ref(label), LONG).expect("a label is put");
    let park = |value: &[u8]| {
        let taken = store.park("retold", &[parked(1, 0, value)], MANY_PARKED, LONG);
        assert_eq!(taken.expect("it is parked"), [true]);
    };
    // Whoever has read the first one comes too late.
    park(b"first");
    park(b"second");
    let mut joined = label("retold", 1, b"joined first", &[(1, 1)]);
    joined.parked = Some(b"first".to_vec());
    assert_eq!(put(&joined), [Labelled::Gone]);
    assert_eq!(store.parked("retold").expect("it is read"), [parked(1, 0, b"second")]);
    // One that is told directly takes its place,
    assert_eq!(put(&label("retold", 1, b"direct", &[(2, 1)])), [Labelled::Counted]);
    joined.parked = Some(b"second".to_vec());
    assert_eq!(put(&joined), [Labelled::Gone]);
    assert_eq!(store.parked("retold").expect("it is read"), []);
    assert_eq!(sums(store, "retold"), Sums::from([(2, 1)]));
    // but not while another label than the expected one is there.
    park(b"third");
    joined.parked = Some(b"third".to_vec());
    assert_eq!(put(&joined), [Labelled::Found(Some(b"direct".to_vec()))]);
    assert_eq!(
        put(&label("retold", 1, b"x", &[])),
        [Labelled::Found(Some(b"direct".to_vec()))]
    );
    assert_eq!(store.parked("retold").expect("it is read"), [parked(1, 0, b"third")]);
    joined.previous = Some(b"direct".to_vec());
    assert_eq!(put(&joined), [Labelled::Counted]);
    assert_eq!(store.parked("retold").expect("it is read"), []);
    assert_eq!(sums(store, "retold"), Sums::from([(1, 1), (2, 1)]));
}

fn parking_is_bounded(store: &dyn Store) {
    let park = |labels: &[Parked]| store.park("bounded", labels, 3, LONG).expect("labels are parked");
    let of = |numbers: &[u64]| numbers.iter().map(|i| parked(*i, 0, b"x")).collect::<Vec<_>>();
    assert_eq!(park(&of(&[1, 2])), [true, true]);
    assert_eq!(park(&of(&[3, 4, 1, 3])), [true, false, true, true]);
    assert_eq!(store.parked("bounded").expect("it is read").len(), 3);
    assert_eq!(store.unpark("bounded", &of(&[2])).expect("it is removed"), [true]);
    assert_eq!(park(&of(&[4, 5])), [true, false]);
    // Another model has a bound of its own.
    let other = store.park("bounded otherwise", &of(&[1]), 3, LONG);
    assert_eq!(other.expect("it is parked"), [true]);

    // More than go in a round trip.
    let many: Vec<Parked> = (0..2500).map(|i| parked(i, 0, &i.to_le_bytes())).collect();
    let taken = store.park("many parked", &many, 2400, LONG).expect("they are parked");
    assert_eq!(taken.iter().filter(|taken| **taken).count(), 2400);
    assert_eq!(taken.len(), 2500);
    let mut expected = many[..2400].to_vec();
    expected.sort();
    assert_eq!(store.parked("many parked").expect("it is read"), expected);
    let removed = store.unpark("many parked", &many).expect("they are removed");
    assert_eq!(removed, taken);
}

fn concurrent_parking(store: &dyn Store) {
    const LABELS: u64 = 60;
    let model = "parked by all";
    let counted: usize = thread::scope(|scope| {
        for thread in 0..2u64 {
            scope.spawn(move || {
                for i in (0..LABELS).filter(|i| i % 2 == thread) {
                    let taken = store.park(model, &[parked(i, 0, b"p")], MANY_PARKED, LONG);
                    assert_eq!(taken.expect("it is parked"), [true]);
                }
            });
        }
        let join = || {
            let mut counted = 0;
            let begun = std::time::Instant::now();
            while sums(store, model).get(&1) != Some(&(LABELS as i64)) {
                assert!(begun.elapsed() < Duration::from_secs(120), "{:?}", sums(store, model));
                for waiting in store.parked(model).expect("they are read") {
                    let label = Label {
                        key: waiting.key,
                        parked: Some(waiting.value),
                        ..label(model, 0, b"x", &[(1, 1)])
                    };
                    let outcome = store.label(&[label], LONG).expect("a label is put").remove(0);
                    assert!(matches!(outcome, Labelled::Counted | Labelled::Gone), "{outcome:?}");
                    counted += usize::from(outcome == Labelled::Counted);
                }
                // Not to be in the way of the other checks.
                thread::sleep(Duration::from_millis(5));
            }
            counted
        };
        let threads: Vec<_> = (0..3).map(|_| scope.spawn(join)).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
    });
    assert_eq!(counted as u64, LABELS);
    assert_eq!(store.parked(model).expect("they are read"), []);
}

fn parked_labels_expire(store: &dyn Store) {
    let park = |model: &str, number: u64, keep: Duration| {
        let taken = store.park(model, &[parked(number, 0, b"x")], 1, keep);
        taken.expect("it is parked").remove(0)
    };
    assert!(park("parked shortly", 1, Duration::from_secs(1)));
    assert!(park("parked long", 1, LONG));
    thread::sleep(Duration::from_millis(2200));
    for _ in 0..2 {
        assert_eq!(store.parked("parked shortly").expect("it is read"), []);
        assert_eq!(store.parked("parked long").expect("it is read").len(), 1);
        let mut label = label("parked shortly", 1, b"joined", &[(1, 1)]);
        label.parked = Some(b"x".to_vec());
        assert_eq!(store.label(&[label], LONG).expect("it is asked for"), [Labelled::Gone]);
        store.expire().expect("it expires");
    }
    // Its place is free.
    assert!(park("parked shortly", 2, LONG));
    assert_eq!(
        store.parked("parked shortly").expect("it is read"),
        [parked(2, 0, b"x")]
    );
}

/// Of a flood of instances the last ones are known, and no more than so many.
/// For a store of its own, because the bound is on all instances together.
///
/// # Panics
/// There are more, or fewer.
pub fn instances_are_bounded(store: &dyn Store) {
    const MOST: u64 = 80;
    let advance = |i: u64| {
        store
            .advance(&format!("flood {i:06}"), 1, LONG, MOST)
            .expect("it is noted")
    };
    for i in 0..2000 {
        assert!(advance(i), "{i}");
    }
    // The last are known, looked at from the newest: what is not known is
    // noted, and displaces others.
    let known = (0..2000).rev().take_while(|i| !advance(*i)).count() as u64;
    assert!((MOST * 7 / 8..=MOST * 9 / 8).contains(&known), "{known} are known");
    // One that is heard of again and again stays.
    for i in 3000..4000 {
        assert!(advance(i), "{i}");
        assert!(store.advance("steady", i, LONG, MOST).expect("it is noted"));
        assert!(!store.advance("steady", i, LONG, MOST).expect("it is noted"));
    }
}

fn instances_advance(store: &dyn Store) {
    let advance = |instance: &str, sequence: u64| store.advance(instance, sequence, LONG, MANY).expect("it is noted");
    assert!(advance("i", 0));
    assert!(!advance("i", 0));
    assert!(advance("i", 1));
    assert!(advance("i", 10));
    assert!(!advance("i", 9));
    assert!(!advance("i", 10));
    assert!(advance("another", 9));
    // Beyond what a float tells apart.
    assert!(advance("i", 1 << 53));
    assert!(advance("i", (1 << 53) + 1));
    assert!(!advance("i", 1 << 53));
    assert!(advance("i", u64::MAX));
    assert!(!advance("i", u64::MAX));

    let seen = thread::scope(|scope| {
        let bring = || (1..=40).filter(|sequence| advance("contended", *sequence)).count();
        let threads: Vec<_> = (0..6).map(|_| scope.spawn(bring)).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("no panic"))
            .sum::<usize>()
    });
    assert!((1..=40).contains(&seen), "{seen} of 40 were new");
    assert!(!advance("contended", 40));
}

fn leases(store: &dyn Store) {
    let lease = |holder: &str, keep| store.lease("l", holder, keep).expect("the lease is asked for");
    let short = Duration::from_millis(300);
    assert!(lease("a", LONG));
    assert!(!lease("b", LONG));
    assert!(lease("a", short));
    assert!(!lease("b", LONG));
    assert!(store.lease("another", "b", LONG).expect("the lease is asked for"));
    thread::sleep(Duration::from_millis(500));
    assert!(lease("b", LONG));
    assert!(!lease("a", LONG));
    store.release("l", "a").expect("it is not a's");
    assert!(!lease("a", LONG));
    store.release("l", "b").expect("it is b's");
    assert!(lease("a", LONG));
    store.release("nobody's", "a").expect("it is nobody's");

    let holders = thread::scope(|scope| {
        let take =
            |i: i32| scope.spawn(move || store.lease("contended", &i.to_string(), LONG).expect("it is asked for"));
        let threads: Vec<_> = (0..8).map(take).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("no panic"))
            .filter(|won| *won)
            .count()
    });
    assert_eq!(holders, 1);
}

fn documents(store: &dyn Store) {
    let change = |changes: &[(&str, Option<&[u8]>)]| {
        let changes: Vec<_> = changes
            .iter()
            .map(|(name, bytes)| ((*name).to_owned(), bytes.map(<[u8]>::to_vec)))
            .collect();
        store.change(&changes).expect("documents are changed");
    };
    let names = |prefix: &str| -> Vec<String> {
        let documents = store.documents(prefix).expect("documents are read");
        documents.into_iter().map(|(name, _)| name).collect()
    };
    change(&[
        ("changed/b", Some(b"2")),
        ("changed/a", Some(b"1")),
        ("changed", Some(b"")),
        ("changee", Some(b"x")),
        ("changed/a/deep", Some(b"3")),
        ("changed/z", None),
    ]);
    assert_eq!(names("changed/"), ["changed/a", "changed/a/deep", "changed/b"]);
    assert_eq!(
        names("changed"),
        ["changed", "changed/a", "changed/a/deep", "changed/b"]
    );
    assert_eq!(names("changed/c"), [""; 0]);
    change(&[
        ("changed/a", None),
        ("changed/b", Some(b"new")),
        ("changed/c", Some(b"now")),
        ("changed/c", Some(b"later")),
    ]);
    assert_eq!(
        store.documents("changed/").expect("documents are read"),
        [
            ("changed/a/deep".to_owned(), b"3".to_vec()),
            ("changed/b".to_owned(), b"new".to_vec()),
            ("changed/c".to_owned(), b"later".to_vec()),
        ]
    );
    let all = names("");
    assert!(all.contains(&"changee".to_owned()) && all.is_sorted(), "{all:?}");

    // Two documents that are always changed together are never seen apart.
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for i in 0..60u8 {
                change(&[("pair/1", Some(&[i])), ("pair/2", Some(&[i]))]);
            }
        });
        while !writer.is_finished() {
            let pair = store.documents("pair/").expect("documents are read");
            if let [(_, first), (_, second)] = pair.as_slice() {
                assert_eq!(first, second);
            } else {
                assert!(pair.is_empty(), "{pair:?}");
            }
        }
    });
}

fn documents_are_created_once(store: &dyn Store) {
    assert!(store.create("created/1", b"first").expect("it is created"));
    assert!(!store.create("created/1", b"second").expect("it is there"));
    let there = store.documents("created/1").expect("documents are read");
    assert_eq!(there, [("created/1".to_owned(), b"first".to_vec())]);
    store.change(&[("created/1".to_owned(), None)]).expect("it is removed");
    assert!(store.create("created/1", b"third").expect("it is created"));
    let created = thread::scope(|scope| {
        let create = |i: u8| scope.spawn(move || store.create("created/2", &[i]).expect("it is tried"));
        let threads: Vec<_> = (0..8).map(create).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("no panic"))
            .filter(|won| *won)
            .count()
    });
    assert_eq!(created, 1);
}

fn expiry(store: &dyn Store) {
    // Long enough to look at while all other checks write.
    let short = Duration::from_secs(4);
    let put = |model: &str, keep: Duration| {
        store
            .put_parts(&[part(model, 60, "w", b"p")], keep)
            .expect("a part is put");
        put_predictions(store, model, &[(key(1), vec![1])], keep);
        let outcome = store
            .label(&[label(model, 1, b"x", &[(1, 1)])], keep)
            .expect("a label is put");
        assert_eq!(outcome, [Labelled::Counted]);
        assert!(
            store
                .advance(&format!("expiry {model}"), 5, keep, MANY)
                .expect("it is noted")
        );
    };
    let there = |model: &str| {
        (
            store.parts(model, 60, 0, u64::MAX).expect("parts are read").len(),
            store
                .predictions(model, &[key(1)])
                .expect("predictions are read")
                .remove(0),
            store.sums(model, 60, 0, u64::MAX).expect("the sums are read").len(),
        )
    };
    put("short", short);
    assert_eq!(there("short"), (1, Some(vec![1]), 1));
    put("long", LONG);
    // What is written once more is kept anew.
    put("renewed", short);
    store
        .put_parts(&[part("renewed", 60, "w", b"p")], LONG)
        .expect("a part is put");
    put_predictions(store, "renewed", &[(key(1), vec![2])], LONG);
    thread::sleep(short + Duration::from_millis(1200));
    for _ in 0..2 {
        assert_eq!(there("short"), (0, None, 0));
        assert_eq!(there("long"), (1, Some(vec![1]), 1));
        assert_eq!(there("renewed"), (1, Some(vec![2]), 0));
        store.expire().expect("it expires");
    }
    assert!(!store.advance("expiry long", 5, LONG, MANY).expect("it is remembered"));
    put("short", short);
    assert_eq!(there("short"), (1, Some(vec![1]), 1));
    assert_eq!(sums(store, "short"), Sums::from([(1, 1)]));
}

fn large_batches(store: &dyn Store) {
    let predictions: Vec<_> = (0..12_000u64).map(|i| (key(i), i.to_le_bytes().to_vec())).collect();
    put_predictions(store, "large", &predictions, LONG);
    let keys: Vec<_> = predictions.iter().map(|(key, _)| *key).collect();
    let found = store.predictions("large", &keys).expect("predictions are read");
    assert!(
        found
            .iter()
            .zip(&predictions)
            .all(|(found, (_, value))| found.as_ref() == Some(value))
    );

    let labels: Vec<_> = (0..2500)
        .map(|i| label("large", i, &[1], &[(1, 1), (2, i as i64)]))
        .collect();
    let outcomes = store.label(&labels, LONG).expect("labels are put");
    assert!(outcomes.iter().all(|outcome| *outcome == Labelled::Counted) && outcomes.len() == 2500);
    assert_eq!(sums(store, "large"), Sums::from([(1, 2500), (2, 2500 * 2499 / 2)]));

    let parts: Vec<_> = (0..2100u64)
        .map(|i| part("large", i * 60, "w", &i.to_le_bytes().repeat(250)))
        .collect();
    store.put_parts(&parts, LONG).expect("parts are put");
    assert!(store.parts("large", 60, 0, u64::MAX).expect("parts are read") == parts);

    let document = vec![7u8; 2 << 20];
    store
        .change(&[("large".to_owned(), Some(document.clone()))])
        .expect("a document is put");
    assert!(store.documents("large").expect("documents are read")[0].1 == document);
    let many: Vec<_> = (0..3000).map(|i| (format!("many/{i:05}"), Some(vec![1; 10]))).collect();
    store.change(&many).expect("documents are put");
    assert_eq!(store.documents("many/").expect("documents are read").len(), 3000);
}

fn odd_names(store: &dyn Store) {
    let names = [
        "",
        " ",
        ":",
        "a:60",
        "a:60:0",
        "a",
        "{a}",
        "*?[a-z]",
        "a\0b",
        "line\nbreak\r\n",
        "\"quoted\" 'twice' \\",
        "Größe/数/🦀",
        "\u{10FFFF}",
    ];
    let all_bytes: Vec<u8> = (0..=255).collect();
    for (i, name) in names.iter().enumerate() {
        let bytes = [all_bytes.as_slice(), name.as_bytes()].concat();
        let mut odd = part(&format!("odd{name}"), 0, name, &bytes);
        odd.bucket.seconds = 1 + i as u32;
        let parts = [odd.clone(), part(name, 0, &format!("odd{name}"), &bytes)];
        store.put_parts(&parts, LONG).expect("parts are put");
        let model = format!("odd{name}");
        put_predictions(store, &model, &[([i as u8; 16], bytes.clone())], LONG);
        let mut odd = label(&model, 1, &bytes, &[(u32::MAX, -1)]);
        odd.row = u32::MAX;
        store.label(&[odd], LONG).expect("a label is put");
        let waiting = [parked(1, u32::MAX, &bytes)];
        let taken = store
            .park(&model, &waiting, MANY_PARKED, LONG)
            .expect("a label is parked");
        assert_eq!(taken, [true]);
        assert!(store.advance(&model, i as u64, LONG, MANY).expect("it is noted"));
        assert!(store.lease(&model, name, LONG).expect("the lease is asked for"));
        assert!(store.create(&model, &bytes).expect("it is created"));
    }
    for (i, name) in names.iter().enumerate() {
        let bytes = [all_bytes.as_slice(), name.as_bytes()].concat();
        let model = format!("odd{name}");
        let parts = store.parts(&model, 1 + i as u32, 0, 1).expect("parts are read");
        assert_eq!(parts.len(), 1, "{name:?}");
        assert_eq!((parts[0].writer.as_str(), &parts[0].bytes), (*name, &bytes));
        let parts = store.parts(name, 60, 0, 1).expect("parts are read");
        assert_eq!((parts.len(), parts[0].writer.as_str()), (1, model.as_str()), "{name:?}");
        let found = store
            .predictions(&model, &[[i as u8; 16], [99; 16]])
            .expect("predictions are read");
        assert_eq!(found, [Some(bytes.clone()), None]);
        assert_eq!(sums(store, &model), Sums::from([(u32::MAX, -1)]));
        let waiting = store.parked(&model).expect("parked labels are read");
        assert_eq!(waiting, [parked(1, u32::MAX, &bytes)], "{name:?}");
        assert!(!store.advance(&model, i as u64, LONG, MANY).expect("it is remembered"));
        assert!(store.lease(&model, name, LONG).expect("it is prolonged"));
        assert!(!store.lease(&model, "another", LONG).expect("it is held"));
        let documents = store.documents(&model).expect("documents are read");
        assert!(documents.contains(&(model.clone(), bytes)), "{name:?}");
        assert!(documents.iter().all(|(found, _)| found.starts_with(&model)), "{name:?}");
    }
}

fn empty_calls(store: &dyn Store) {
    store.put_parts(&[], LONG).expect("nothing is put");
    store.put_predictions("empty", &[], LONG).expect("nothing is put");
    assert_eq!(store.predictions("empty", &[]).expect("nothing is read"), []);
    assert_eq!(store.label(&[], LONG).expect("nothing is put"), []);
    assert_eq!(
        store.park("empty", &[], MANY_PARKED, LONG).expect("nothing is parked"),
        [true; 0]
    );
    assert_eq!(store.unpark("empty", &[]).expect("nothing is removed"), [true; 0]);
    store.change(&[]).expect("nothing is changed");
    store.expire().expect("nothing has expired");
    // Times beyond any clock.
    let forever = Duration::MAX;
    store
        .put_parts(&[part("forever", 0, "w", b"p")], forever)
        .expect("a part is put");
    put_predictions(store, "forever", &[(key(1), vec![1])], forever);
    assert_eq!(
        store.predictions("forever", &[key(1)]).expect("it is read"),
        [Some(vec![1])]
    );
    assert_eq!(store.parts("forever", 60, 0, 1).expect("it is read").len(), 1);
    assert!(store.lease("forever", "a", forever).expect("the lease is asked for"));
    assert!(store.advance("forever", 1, forever, MANY).expect("it is noted"));
    assert!(!store.advance("forever", 1, forever, MANY).expect("it is noted"));
}
