//! Alerts from evaluations to receivers, over a store in memory.

#[path = "../../../tests/all/support/receivers.rs"]
mod receivers;

use super::alerts::{AlertState, Alerts};
use super::config::Config;
use super::notify::Resolution;
use super::outbox::{Outbox, Settings};
use super::rules::tests::{column, report, share};
use super::rules::{Bounds, Cusum, Evaluation, Kind, MetricValue, Rule, Truth};
use super::store::{Change, Label, Labelled, Parked, Part, Result, Store, StoreError, Sums};
use modelet::drift::report::{QualityState, State};
use receivers::{HttpSink, SmtpSink};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

type Documents = BTreeMap<String, Vec<u8>>;

/// Documents and leases; alerts use nothing else. Leases do not run out.
#[derive(Default)]
pub(crate) struct Memory {
    state: Mutex<(Documents, BTreeMap<String, String>)>,
    /// Changes fail.
    broken: AtomicBool,
}

impl Memory {
    fn state(&self) -> MutexGuard<'_, (Documents, BTreeMap<String, String>)> {
        self.state.lock().unwrap()
    }

    fn names(&self, prefix: &str) -> Vec<String> {
        self.documents(prefix)
            .unwrap()
            .into_iter()
            .map(|(name, _)| name)
            .collect()
    }

    /// The messages in the outbox, and takes them out.
    fn take(&self) -> Vec<Value> {
        let entries = self.documents("outbox/").unwrap();
        let removed: Vec<Change> = entries.iter().map(|(name, _)| (name.clone(), None)).collect();
        self.change(&removed).unwrap();
        entries
            .iter()
            .map(|(_, bytes)| serde_json::from_slice(bytes).unwrap())
            .collect()
    }
}

impl Store for Memory {
    fn put_parts(&self, _: &[Part], _: Duration) -> Result<()> {
        unreachable!("alerts keep no counts")
    }
    fn parts(&self, _: &str, _: u32, _: u64, _: u64) -> Result<Vec<Part>> {
        unreachable!("alerts keep no counts")
    }
    fn put_predictions(&self, _: &str, _: &[([u8; 16], &[u8])], _: Duration) -> Result<()> {
        unreachable!("alerts keep no predictions")
    }
    fn predictions(&self, _: &str, _: &[[u8; 16]]) -> Result<Vec<Option<Vec<u8>>>> {
        unreachable!("alerts keep no predictions")
    }
    fn label(&self, _: &[Label], _: Duration) -> Result<Vec<Labelled>> {
        unreachable!("alerts keep no labels")
    }
    fn park(&self, _: &str, _: &[Parked], _: usize, _: Duration) -> Result<Vec<bool>> {
        unreachable!("alerts keep no labels")
    }
    fn parked(&self, _: &str) -> Result<Vec<Parked>> {
        unreachable!("alerts keep no labels")
    }
    fn unpark(&self, _: &str, _: &[Parked]) -> Result<Vec<bool>> {
        unreachable!("alerts keep no labels")
    }
    fn sums(&self, _: &str, _: u32, _: u64, _: u64) -> Result<Vec<(u64, Sums)>> {
        unreachable!("alerts keep no labels")
    }
    fn advance(&self, _: &str, _: u64, _: Duration, _: u64) -> Result<bool> {
        unreachable!("alerts take no deltas")
    }
    fn lease(&self, name: &str, holder: &str, _: Duration) -> Result<bool> {
        let mut state = self.state();
        let held = state.1.entry(name.to_owned()).or_insert_with(|| holder.to_owned());
        Ok(held == holder)
    }
    fn release(&self, name: &str, holder: &str) -> Result<()> {
        self.state().1.retain(|lease, by| lease != name || by != holder);
        Ok(())
    }
    fn documents(&self, prefix: &str) -> Result<Vec<(String, Vec<u8>)>> {
        let state = self.state();
        let found = state.0.iter().filter(|(name, _)| name.starts_with(prefix));
        Ok(found.map(|(name, bytes)| (name.clone(), bytes.clone())).collect())
    }
    fn change(&self, changes: &[Change]) -> Result<()> {
        if self.broken.load(Ordering::Relaxed) {
            return Err(StoreError("broken".into()));
        }
        let mut state = self.state();
        for (name, bytes) in changes {
            match bytes {
                Some(bytes) => state.0.insert(name.clone(), bytes.clone()),
                None => state.0.remove(name),
            };
        }
        Ok(())
    }
    fn create(&self, name: &str, bytes: &[u8]) -> Result<bool> {
        let mut state = self.state();
        let new = !state.0.contains_key(name);
        if new {
            state.0.insert(name.to_owned(), bytes.to_vec());
        }
        Ok(new)
    }
    fn expire(&self) -> Result<()> {
        Ok(())
    }
}

const MINUTE: u64 = 60;

/// One rule on errors, in windows of a minute, 2 of 3 and 2 clean.
const ERRORS: &str = "
[[monitor.rules]]
name = \"errors\"
kind = \"error_rate\"
window = \"1m\"
cooldown = \"0s\"
repeat = \"0s\"
";

fn alerts(store: &Arc<Memory>, text: &str, holder: &str) -> Alerts {
    let mut config = Config::parse(text).unwrap();
    // The default rules are tried by themselves.
    let named = |rule: &Rule| !Rule::defaults().iter().any(|default| default.name == rule.name);
    config.monitor.rules.retain(named);
    Alerts::new(Arc::clone(store) as Arc<dyn Store>, &config, holder).unwrap()
}

/// The `n`th window of a minute: bad, clean, or with nothing to tell.
fn minute(n: u64, letter: char) -> Evaluation {
    Evaluation {
        model: "credit".into(),
        version: "1.0.0".into(),
        window: (n * MINUTE, (n + 1) * MINUTE),
        requests: if letter == '?' { 5 } else { 1000 },
        errors: if letter == 'b' { 100 } else { 0 },
        ..Evaluation::default()
    }
}

fn served() -> [(String, String); 1] {
    [("credit".to_owned(), "1.0.0".to_owned())]
}

fn end(e: &Evaluation) -> u64 {
    e.window.1 * 1000
}

/// `+` for a message that an alert began, `=` that it goes on, `-` that it
/// ended.
fn signs(messages: &[Value]) -> String {
    let sign = |entry: &Value| {
        let alert = &entry["message"];
        match (alert["status"].as_str(), alert["repeat"].as_bool()) {
            (Some("firing"), Some(false)) => '+',
            (Some("firing"), Some(true)) => '=',
            (Some("resolved"), _) => '-',
            other => panic!("{other:?} in {entry}"),
        }
    };
    messages.iter().map(sign).collect()
}

#[test]
fn alerts_fire_and_resolve_as_the_table_says() {
    struct Case(&'static str, &'static str, &'static str, &'static str);
    // Windows: bad, clean, unknown, left out. Messages after each, `.` for none.
    // States: pending, firing, resolved, none.
    for Case(keys, windows, messages, states) in [
        Case("", "cccc", "....", "...."),
        Case("", "bccc", "....", "ppp."),
        Case("", "bb", ".+", "pf"),
        Case("", "bcb", "..+", "ppf"),
        Case("", "bccb", "....", "pppp"),
        Case("", "bcccb", ".....", "ppp.p"),
        Case("", "bbcc", ".+.-", "pffr"),
        Case("", "bbcbcc", ".+...-", "pffffr"),
        Case("", "bbccb", ".+.-.", "pffrp"),
        Case("", "bbccbccc", ".+.-....", "pffrpppr"),
        Case("", "bbccbb", ".+.-.+", "pffrpf"),
        // Nothing to tell neither fires nor resolves.
        Case("", "b?b", "..+", "ppf"),
        Case("", "bbc?c", ".+..-", "pfffr"),
        Case("", "bb????", ".+....", "pfffff"),
        Case("resolve_unknown = 3\n", "bb??c??c", ".+.....-", "pffffffr"),
        Case("resolve_unknown = 3\n", "bb??b???b", ".+.....-.", "pffffffrp"),
        Case("resolve_unknown = 1\nfire = \"1 of 1\"\n", "b?b_c", "+-+..", "frf_f"),
        Case(
            "resolve_unknown = 0\n",
            "bb????????????????",
            ".+................",
            "pfffffffffffffffff",
        ),
        // A window that was left out is no window.
        Case("", "b_b", "..+", "p_f"),
        Case("", "bb_c_c", ".+...-", "pf_f_r"),
        // Bad windows far apart are two events.
        Case("", "b____________b", "..............", "p____________p"),
        Case("fire = \"1 of 1\"\nresolve = 1\n", "bcbc", "+-+-", "frfr"),
        Case("fire = \"3 of 5\"\n", "bcbcb", "....+", "ppppf"),
        // What began again during the cooldown is told when it is over, and
        // the end only of what was told.
        Case(
            "fire = \"1 of 1\"\nresolve = 1\ncooldown = \"3m\"\n",
            "bcbb",
            "+-.+",
            "frff",
        ),
        Case(
            "fire = \"1 of 1\"\nresolve = 1\ncooldown = \"4m\"\n",
            "bcbcc",
            "+-...",
            "frfrr",
        ),
        Case("fire = \"1 of 1\"\nrepeat = \"2m\"\n", "bbbbb", "+.=.=", "fffff"),
        Case("fire = \"1 of 1\"\nnotify = false\n", "bb", "..", "ff"),
    ] {
        // A key that is given takes the place of the one in ERRORS.
        let given: Vec<&str> = keys.lines().map(|line| line.split(' ').next().unwrap()).collect();
        let rest = ERRORS
            .lines()
            .filter(|line| !given.contains(&line.split(' ').next().unwrap()));
        let text = rest.chain(keys.lines()).collect::<Vec<_>>().join("\n");
        let store = Arc::new(Memory::default());
        let (mut told, mut shown) = (String::new(), String::new());
        for (n, letter) in windows.chars().enumerate() {
            if letter == '_' {
                told.push('.');
                shown.push('_');
                continue;
            }
            // A new engine every time: all memory is in the store.
            let engine = alerts(&store, &text, "a");
            let e = minute(n as u64 + 100, letter);
            engine.evaluate(&e, end(&e)).unwrap();
            let signs = signs(&store.take());
            told.push_str(if signs.is_empty() { "." } else { &signs });
            shown.push(match engine.states(Some("credit")).unwrap().first().map(|s| s.state) {
                None => '.',
                Some(AlertState::Pending) => 'p',
                Some(AlertState::Firing) => 'f',
                Some(AlertState::Resolved) => 'r',
            });
        }
        assert_eq!((&*told, &*shown), (messages, states), "{windows} {keys}");
    }
}

#[test]
fn a_window_counts_once_and_only_when_it_is_over() {
    let store = Arc::new(Memory::default());
    let engine = alerts(&store, ERRORS, "a");
    let (first, second) = (minute(7, 'b'), minute(8, 'b'));
    // Too early, of another length, and not aligned.
    assert_eq!(engine.evaluate(&first, end(&first) - 1).unwrap().rules, 0);
    for window in [(0, 300), (430, 490)] {
        let other = Evaluation {
            window,
            ..minute(0, 'b')
        };
        assert_eq!(engine.evaluate(&other, 9_000_000).unwrap().rules, 0);
    }
    assert_eq!(
        engine.due("credit", "1.0.0", end(&first)).unwrap(),
        BTreeSet::from([first.window])
    );
    assert_eq!(engine.evaluate(&first, end(&first)).unwrap().rules, 1);
    assert!(engine.due("credit", "1.0.0", end(&first)).unwrap().is_empty());
    for _ in 0..3 {
        assert_eq!(engine.evaluate(&first, end(&first)).unwrap().rules, 0);
    }
    assert_eq!(engine.states(None).unwrap()[0].state, AlertState::Pending);
    assert_eq!(engine.evaluate(&second, end(&second)).unwrap().messages, 1);
    assert_eq!(engine.evaluate(&first, end(&second)).unwrap().rules, 0);
    // The other version of the model has alerts of its own.
    let other = Evaluation {
        version: "2.0.0".into(),
        ..minute(8, 'b')
    };
    assert_eq!(engine.evaluate(&other, end(&other)).unwrap().messages, 0);
    assert_eq!(engine.states(Some("credit")).unwrap().len(), 2);
    assert_eq!(engine.states(Some("cred")).unwrap().len(), 0);
}

#[test]
fn an_alert_ends_when_nothing_can_be_told_any_more() {
    let store = Arc::new(Memory::default());
    let text = DRIFT.replace("enabled = false", "enabled = true");
    let tell = |n: u64, features: &[&str], rows: bool| {
        let mut e = hour(n, features);
        if !rows {
            e.report = None;
        }
        let engine = alerts(&store, &text, "a");
        engine.evaluate(&e, end(&e)).unwrap();
        let told = store.take().into_iter().filter(|m| m["receiver"] == "log");
        (told.collect::<Vec<_>>(), engine.states(None).unwrap())
    };
    let (told, states) = tell(10, &["income"], true);
    assert_eq!(signs(&told), "+");
    assert_eq!((states[0].unknown_windows, states[0].resolution), (0, None));
    for n in 11..22 {
        let (told, states) = tell(n, &[], false);
        assert_eq!(signs(&told), "");
        assert_eq!(states[0].state, AlertState::Firing);
        assert_eq!(u64::from(states[0].unknown_windows), n - 10);
    }
    let (told, states) = tell(22, &[], false);
    assert_eq!(signs(&told), "-");
    let (message, state) = (&told[0]["message"], &states[0]);
    assert_eq!(message["resolution"], "insufficient_data");
    assert_eq!(message["resolved_at"], "1970-01-01T23:00:00Z");
    assert_eq!(
        message["summary"],
        "not enough data to tell in 12 windows of 1h since 1970-01-01T11:00:00Z; \
         then it was: feature income: PSI 0.400 on 500 values"
    );
    assert_eq!(
        (state.state, state.resolution, state.unknown_windows),
        (AlertState::Resolved, Some(Resolution::InsufficientData), 12)
    );
    assert_eq!(message["summary"], *state.summary);
    // It may fire anew, and end as usual.
    let (told, states) = tell(23, &["income"], true);
    assert_eq!((signs(&told), states[0].resolution), ("+".into(), None));
    let (told, states) = tell(24, &[], true);
    assert_eq!(signs(&told), "-");
    assert_eq!(states[0].resolution, Some(Resolution::Recovered));
    assert_eq!(told[0]["message"]["resolution"], "recovered");
}

/// Random windows, some twice, some never, some late: the same is told as when
/// each comes once and in order, begin and end in turn, and nothing has the
/// same id.
#[test]
fn no_transition_is_told_twice() {
    let mut seed = 1u64;
    let mut random = move |below: u64| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % below
    };
    for _ in 0..60 {
        let store = Arc::new(Memory::default());
        let engines = [alerts(&store, ERRORS, "a"), alerts(&store, ERRORS, "a")];
        let orderly = Arc::new(Memory::default());
        let (mut told, mut expected, mut last) = (Vec::new(), Vec::new(), 0);
        let mut n = 100;
        let letters: Vec<char> = (0..300)
            .map(|_| ['b', 'b', 'c', 'c', '?'][random(5) as usize])
            .collect();
        for _ in 0..120 {
            n += random(3);
            let again = n - random(4);
            if n > last {
                let e = minute(n, letters[(n - 97) as usize]);
                alerts(&orderly, ERRORS, "a").evaluate(&e, end(&e)).unwrap();
                expected.extend(orderly.take());
                last = n;
            }
            for window in [n, again, n] {
                let e = minute(window, letters[(window - 97) as usize]);
                engines[random(2) as usize]
                    .evaluate(&e, (n + 1) * MINUTE * 1000)
                    .unwrap();
                engines[random(2) as usize]
                    .tick(&served(), (n + 1) * MINUTE * 1000)
                    .unwrap();
                told.extend(store.take());
            }
        }
        assert_eq!(signs(&told), signs(&expected));
        let signs = signs(&told);
        assert!(signs.len() > 2, "{signs}");
        assert!(
            !signs.contains("++") && !signs.contains("--") && !signs.starts_with('-'),
            "{signs}"
        );
        let ids: BTreeSet<&str> = told.iter().map(|m| m["message"]["id"].as_str().unwrap()).collect();
        assert_eq!(ids.len(), told.len());
    }
}

#[test]
fn only_the_holder_of_the_lease_evaluates() {
    let store = Arc::new(Memory::default());
    let (one, two) = (alerts(&store, ERRORS, "one"), alerts(&store, ERRORS, "two"));
    for n in 10..12 {
        let e = minute(n, 'b');
        assert_eq!(one.evaluate(&e, end(&e)).unwrap().rules, 1);
        assert_eq!(two.evaluate(&e, end(&e)).unwrap().rules, 0);
    }
    assert_eq!(signs(&store.take()), "+");
    one.release().unwrap();
    // The other goes on from there, and has seen what the first has seen.
    for n in 10..14 {
        let e = minute(n, if n < 12 { 'b' } else { 'c' });
        two.evaluate(&e, end(&e)).unwrap();
    }
    assert_eq!(signs(&store.take()), "-");
    assert_eq!(two.states(None).unwrap(), one.states(None).unwrap());
}

#[test]
fn what_the_store_did_not_take_did_not_happen() {
    let store = Arc::new(Memory::default());
    let engine = alerts(&store, ERRORS, "a");
    let (first, second) = (minute(7, 'b'), minute(8, 'b'));
    engine.evaluate(&first, end(&first)).unwrap();
    store.broken.store(true, Ordering::Relaxed);
    assert!(engine.evaluate(&second, end(&second)).is_err());
    store.broken.store(false, Ordering::Relaxed);
    assert_eq!(store.take(), [] as [Value; 0]);
    engine.evaluate(&second, end(&second)).unwrap();
    assert_eq!(signs(&store.take()), "+");
}

#[test]
fn alerts_end_with_their_rule_and_their_model() {
    let fire = |store: &Arc<Memory>| {
        for n in 7..9 {
            let e = minute(n, 'b');
            alerts(store, ERRORS, "a").evaluate(&e, end(&e)).unwrap();
        }
        assert_eq!(signs(&store.take()), "+");
    };
    let store = Arc::new(Memory::default());
    fire(&store);
    alerts(&store, "", "a").tick(&served(), 600_000).unwrap();
    let told = store.take();
    assert_eq!(signs(&told), "-");
    assert_eq!(told[0]["message"]["summary"], "its rule is gone");
    assert_eq!(told[0]["message"]["resolution"], "rule_removed");

    let store = Arc::new(Memory::default());
    fire(&store);
    let engine = alerts(&store, ERRORS, "a");
    engine.retire("credit", "1.0.0", 600_000).unwrap();
    assert_eq!(signs(&store.take()), "-");
    assert_eq!(engine.states(None).unwrap()[0].state, AlertState::Resolved);
    // After a day nothing is left.
    engine.tick(&[], 600_000 + 86_400_000).unwrap();
    assert_eq!(store.names(""), [] as [String; 0]);
}

#[test]
fn alerts_of_a_model_that_nobody_evaluates_end() {
    let store = Arc::new(Memory::default());
    let engine = alerts(&store, ERRORS, "a");
    for n in 7..9 {
        let e = minute(n, 'b');
        engine.evaluate(&e, end(&e)).unwrap();
    }
    assert_eq!(signs(&store.take()), "+");
    engine.release().unwrap();
    // Another process, which serves another version of it.
    let other = alerts(&store, ERRORS, "b");
    let models = [("credit".to_owned(), "2.0.0".to_owned())];
    other.tick(&models, (9 * MINUTE + 3599) * 1000).unwrap();
    assert_eq!(signs(&store.take()), "");
    other.tick(&models, (9 * MINUTE + 3600) * 1000).unwrap();
    let told = store.take();
    assert_eq!(signs(&told), "-");
    assert_eq!(told[0]["message"]["summary"], "the model is no longer served");
    other.tick(&models, (9 * MINUTE + 3601) * 1000).unwrap();
    assert_eq!(signs(&store.take()), "");
}

#[test]
fn a_pending_alert_is_forgotten_when_nothing_follows() {
    let store = Arc::new(Memory::default());
    let engine = alerts(&store, ERRORS, "a");
    let e = minute(7, 'b');
    engine.evaluate(&e, end(&e)).unwrap();
    engine.tick(&served(), end(&e) + 11 * MINUTE * 1000).unwrap();
    assert_eq!(engine.states(None).unwrap().len(), 1);
    engine.tick(&served(), end(&e) + 12 * MINUTE * 1000).unwrap();
    assert_eq!(engine.states(None).unwrap().len(), 0);
}

/// A window of an hour in which these features drift.
fn hour(n: u64, features: &[&str]) -> Evaluation {
    let drifts = |name: &&str| features.contains(name);
    let columns = ["income", "a/b", "*"].into_iter().map(|name| match drifts(&name) {
        true => column(name, State::Drifted, 0.4),
        false => column(name, State::Stable, 0.001),
    });
    Evaluation {
        model: "credit".into(),
        version: "1.0.0".into(),
        window: (n * 3600, (n + 1) * 3600),
        report: Some(report(columns.collect())),
        ..Evaluation::default()
    }
}

const DRIFT: &str = "
[[monitor.rules]]
name = \"drift\"
kind = \"feature_drift\"
fire = \"1 of 1\"
resolve = 1
cooldown = \"0s\"
[notify.log]
enabled = false
[[retrain]]
on = \"drift\"
webhook = \"http://127.0.0.1:1/\"
cooldown = \"2h\"
";

#[test]
fn each_feature_has_its_own_alert_whatever_its_name() {
    let store = Arc::new(Memory::default());
    let engine = alerts(&store, DRIFT, "a");
    let e = hour(5, &["income", "a/b", "*"]);
    engine.evaluate(&e, end(&e)).unwrap();
    assert_eq!(
        store.names("alerts/"),
        [
            "alerts/credit@1.0.0/drift/%2A",
            "alerts/credit@1.0.0/drift/a%2Fb",
            "alerts/credit@1.0.0/drift/income"
        ]
    );
    let subjects: Vec<_> = engine.states(None).unwrap().into_iter().map(|s| s.subject).collect();
    assert_eq!(subjects, [Some("*".into()), Some("a/b".into()), Some("income".into())]);
}

#[test]
fn a_cause_asks_for_a_model_once() {
    let store = Arc::new(Memory::default());
    struct Case(u64, &'static [&'static str], &'static [&'static str]);
    for (i, Case(n, drifting, asked)) in [
        Case(10, &["income", "*"], &["*", "income"]),
        // It goes on: the same cause.
        Case(11, &["income", "*"], &[]),
        // One more during the cooldown waits, and comes after it.
        Case(12, &["income"], &[]),
        Case(13, &["income"], &[]),
        Case(14, &["income", "a/b"], &["a/b", "income"]),
        Case(15, &["income", "*"], &[]),
        Case(16, &["income", "*"], &["*", "income"]),
        Case(17, &[], &[]),
        Case(20, &["income"], &["income"]),
    ]
    .into_iter()
    .enumerate()
    {
        let engine = alerts(&store, DRIFT, "a");
        let e = hour(n, drifting);
        engine.evaluate(&e, end(&e)).unwrap();
        engine.evaluate(&e, end(&e)).unwrap();
        let messages = store.take();
        let features: Vec<&str> = messages
            .iter()
            .flat_map(|m| m["message"]["data"]["features"].as_array().unwrap())
            .map(|feature| feature.as_str().unwrap())
            .collect();
        assert_eq!(features, asked, "step {i}");
        for message in &messages {
            let event = &message["message"];
            assert_eq!(message["receiver"], "retrain:drift");
            assert_eq!(event["specversion"], "1.0");
            assert_eq!(event["subject"], "credit");
            assert_eq!(event["source"], "/models/credit");
            assert_eq!(event["data"]["report"]["columns"][0]["psi"], 0.4);
        }
    }
}

#[test]
fn performance_and_new_patterns_ask_too() {
    let text = "
[[monitor.rules]]
name = \"worse\"
kind = \"performance\"
window = \"1h\"
delay = \"0s\"
fire = \"1 of 1\"
[[monitor.rules]]
name = \"sum\"
kind = \"cusum\"
delay = \"0s\"
[notify.log]
enabled = false
[[retrain]]
on = \"performance\"
webhook = \"http://127.0.0.1:1/\"
[[retrain]]
on = \"new_patterns\"
webhook = \"http://127.0.0.1:1/\"
window = \"1h\"
models = [\"credit\"]
";
    let store = Arc::new(Memory::default());
    let engine = alerts(&store, text, "a");
    let mut e = hour(5, &[]);
    e.truth = Some(Truth {
        rows: 1000,
        coverage: 0.5,
        metrics: [(
            "accuracy".to_owned(),
            MetricValue {
                value: 0.7,
                baseline: Some(0.9),
                bounds: vec![Bounds {
                    confidence: 0.99,
                    low: 0.67,
                    high: 0.73,
                }],
                rows: 1000,
            },
        )]
        .into(),
        cusum: Some(Cusum { value: 9.0, limit: 5.0 }),
    });
    let features = &mut e.report.as_mut().unwrap().features;
    features[0].quality.unseen = share(100, 0.2, 0.0, QualityState::Bad);
    engine.evaluate(&e, end(&e)).unwrap();
    let mut messages = store.take();
    messages.sort_by_key(|m| m["receiver"].to_string());
    let told: Vec<(&str, &str)> = messages
        .iter()
        .map(|m| {
            let data = &m["message"]["data"];
            (m["receiver"].as_str().unwrap(), data["reason"].as_str().unwrap())
        })
        .collect();
    assert_eq!(
        told,
        [
            (
                "retrain:new_patterns",
                "feature income: 20.0 % of 500 rows are unseen or out of range (reference 0.0 %)"
            ),
            (
                "retrain:performance",
                "CUSUM of the errors 9.00 on 1000 labels; accuracy 0.7000 against 0.9000 at the baseline, \
                 on 1000 labels (50.0 % of predictions labelled)"
            ),
        ]
    );
    // The rule of the trigger is shown, and told nobody but its webhook.
    assert!(engine.states(None).unwrap().iter().any(|s| s.kind == Kind::NewPatterns));
}

#[test]
fn a_schedule_makes_up_for_missed_times_once() {
    let text = "
[[retrain]]
on = \"schedule\"
cron = \"0 3 * * *\"
webhook = \"http://127.0.0.1:1/\"
";
    const DAY: u64 = 86_400_000;
    const HOUR: u64 = 3_600_000;
    let models = [
        ("credit".to_owned(), "1".to_owned()),
        ("credit".to_owned(), "2".to_owned()),
    ];
    let store = Arc::new(Memory::default());
    struct Case(u64, Option<&'static str>);
    for Case(now, expected) in [
        // What was before the first look is nobody's.
        Case(10 * DAY + 4 * HOUR, None),
        Case(11 * DAY + 3 * HOUR - 1, None),
        Case(11 * DAY + 3 * HOUR, Some("1970-01-12T03:00:00Z")),
        Case(11 * DAY + 3 * HOUR + 1000, None),
        Case(12 * DAY + 2 * HOUR, None),
        // Down for three days.
        Case(15 * DAY + 5 * HOUR, Some("1970-01-16T03:00:00Z")),
        Case(15 * DAY + 6 * HOUR, None),
        Case(16 * DAY + 3 * HOUR, Some("1970-01-17T03:00:00Z")),
    ] {
        alerts(&store, text, "a").tick(&models, now).unwrap();
        let messages = store.take();
        let times: Vec<&str> = messages
            .iter()
            .map(|m| m["message"]["data"]["scheduled_for"].as_str().unwrap())
            .collect();
        assert_eq!(times, expected.into_iter().collect::<Vec<_>>(), "{now}");
    }
}

/// An outbox that loses no time.
fn outbox(store: &Arc<Memory>, text: &str, holder: &str) -> Outbox {
    let config = Config::parse(text).unwrap();
    let settings = Settings {
        poll: Duration::from_millis(10),
        retry_first: Duration::from_millis(20),
        retry_max: Duration::from_millis(100),
        timeout: Duration::from_secs(2),
        ..Settings::new(&config, holder)
    };
    let engine = alerts(store, text, holder);
    Outbox::start(Arc::clone(store) as Arc<dyn Store>, &config, engine.rules(), settings).unwrap()
}

fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    since.as_millis() as u64
}

/// Evaluates windows of 1970 now, so that messages are not too old to be sent.
fn run(store: &Arc<Memory>, text: &str, from: u64, windows: &str) {
    for (n, letter) in windows.chars().enumerate() {
        let e = minute(from + n as u64, letter);
        alerts(store, text, "a").evaluate(&e, wall_ms()).unwrap();
    }
}

/// Waits until the outbox is empty.
fn drained(store: &Memory) {
    for _ in 0..2000 {
        if store.names("outbox/").is_empty() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("still queued: {:?}", store.names("outbox/"));
}

#[test]
fn all_receivers_are_told_of_begin_and_end() {
    let (generic, slack, manager, smtp) = (HttpSink::http(), HttpSink::http(), HttpSink::http(), SmtpSink::smtp());
    let text = format!(
        "{ERRORS}
[notify]
external_url = \"https://models.example.org/\"
[[notify.webhook]]
url = \"{}/hook?x=1\"
headers = {{ authorization = \"Bearer t\" }}
[[notify.webhook]]
url = \"{}/services/T/B/x\"
format = \"slack\"
[[notify.webhook]]
url = \"{}\"
format = \"alertmanager\"
resend = \"1s\"
[notify.email]
smtp = \"127.0.0.1\"
port = {}
tls = \"none\"
from = \"modelet <m@example.org>\"
to = [\"a@example.org\", \"Ops <b@example.org>\"]
username = \"u\"
password = \"p\"
",
        generic.url(),
        slack.url(),
        manager.url(),
        smtp.address.port()
    );
    let store = Arc::new(Memory::default());
    let outbox = outbox(&store, &text, "a");
    run(&store, &text, 100, "bb");
    outbox.wake();
    drained(&store);
    // Alertmanager hears of it again while it fires.
    assert!(manager.wait(3).len() >= 3);
    run(&store, &text, 102, "cc");
    drained(&store);
    outbox.stop();

    let got = generic.got();
    assert_eq!(got.len(), 2, "{got:?}");
    assert_eq!(got[0].path, "/hook?x=1");
    assert_eq!(got[0].headers["authorization"], "Bearer t");
    assert_eq!(got[0].headers["content-type"], "application/json");
    let bodies: Vec<Value> = got.iter().map(|r| serde_json::from_str(&r.body).unwrap()).collect();
    assert_eq!(bodies[0]["status"], "firing");
    assert_eq!(bodies[1]["status"], "resolved");
    assert_eq!(bodies[0]["key"], bodies[1]["key"]);
    assert_ne!(bodies[0]["id"], bodies[1]["id"]);
    assert_eq!(bodies[0]["started_at"], "1970-01-01T01:42:00Z");
    assert_eq!(bodies[1]["resolved_at"], "1970-01-01T01:44:00Z");
    assert_eq!(bodies[0]["value"], 0.1);
    assert_eq!(bodies[0]["url"], "https://models.example.org");

    let texts: Vec<Value> = slack
        .got()
        .iter()
        .map(|r| serde_json::from_str(&r.body).unwrap())
        .collect();
    assert_eq!(texts[0]["text"], "[firing] credit 1.0.0: errors");
    assert_eq!(texts[1]["text"], "[resolved] credit 1.0.0: errors");
    assert_eq!(texts.len(), 2);

    let posts: Vec<Value> = manager
        .got()
        .iter()
        .map(|r| serde_json::from_str(&r.body).unwrap())
        .collect();
    assert!(manager.got().iter().all(|r| r.path == "/api/v2/alerts"));
    for post in &posts {
        assert_eq!(post[0]["labels"], posts[0][0]["labels"]);
        assert_eq!(post[0]["startsAt"], "1970-01-01T01:42:00Z");
    }
    assert_eq!(posts.last().unwrap()[0]["endsAt"], "1970-01-01T01:44:00Z");
    let ended = |post: &&Value| post[0]["endsAt"].as_str() == Some("1970-01-01T01:44:00Z");
    assert_eq!(posts.iter().filter(ended).count(), 1);

    let mails = smtp.got();
    assert_eq!(mails.len(), 2, "{mails:?}");
    assert_eq!(mails[0].from, "m@example.org");
    assert_eq!(mails[0].to, ["a@example.org", "b@example.org"]);
    assert!(
        mails[0].data.contains("Subject: [firing] credit 1.0.0: errors"),
        "{}",
        mails[0].data
    );
    assert!(
        mails[1].data.contains("Subject: [resolved] credit 1.0.0: errors"),
        "{}",
        mails[1].data
    );
}

#[test]
fn a_receiver_that_was_down_hears_the_last_state_once() {
    let sink = HttpSink::http();
    let address = sink.address;
    let smtp = SmtpSink::smtp();
    let text = format!(
        "{ERRORS}[[notify.webhook]]\nurl = \"{}\"\n[notify.email]\nsmtp = \"localhost\"\nport = {}\ntls = \"none\"\n\
         from = \"m@example.org\"\nto = \"a@example.org\"\n[notify.log]\nenabled = false\n",
        sink.url(),
        smtp.address.port()
    );
    drop(sink);
    smtp.answer(451);
    let store = Arc::new(Memory::default());
    let first = outbox(&store, &text, "a");
    // Two alerts come and go, and a third begins, while nobody listens.
    run(&store, &text, 100, "bbccbbccbb");
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(store.names("outbox/").len(), 2, "one for each receiver");
    // A restart in the middle.
    first.stop();
    let second = outbox(&store, &text, "b");
    let sink = HttpSink::http_at(address);
    smtp.answer(250);
    drained(&store);
    let got = sink.got();
    assert_eq!(got.len(), 1, "{got:?}");
    let body: Value = serde_json::from_str(&got[0].body).unwrap();
    assert_eq!((&body["status"], &body["repeat"]), (&"firing".into(), &false.into()));
    assert_eq!(smtp.got().len(), 1);
    // And its end.
    run(&store, &text, 110, "cc");
    drained(&store);
    second.stop();
    assert!(sink.got()[1].body.contains("resolved"));
    assert_eq!((sink.got().len(), smtp.got().len()), (2, 2));
}

#[test]
fn what_asks_for_tls_is_not_sent_without() {
    let (http, smtp) = (HttpSink::http(), SmtpSink::smtp());
    let text = format!(
        "{ERRORS}[[notify.webhook]]\nurl = \"https://{}\"\n[notify.email]\nsmtp = \"127.0.0.1\"\nport = {}\n\
         from = \"m@example.org\"\nto = \"a@example.org\"\nusername = \"u\"\npassword = \"p\"\n\
         [notify.log]\nenabled = false\n",
        http.address,
        smtp.address.port()
    );
    let store = Arc::new(Memory::default());
    run(&store, &text, 100, "bb");
    let outbox = outbox(&store, &text, "a");
    std::thread::sleep(Duration::from_millis(300));
    outbox.stop();
    assert_eq!(store.names("outbox/").len(), 2);
    assert!(smtp.got().is_empty());
    assert!(http.got().iter().all(|request| request.body.is_empty()));
}

#[test]
fn what_is_refused_is_dropped_and_what_may_pass_is_tried_again() {
    struct Case(u16, bool);
    for Case(status, again) in [
        Case(204, false),
        Case(302, false),
        Case(400, false),
        Case(410, false),
        Case(408, true),
        Case(429, true),
        Case(500, true),
        Case(503, true),
    ] {
        let sink = HttpSink::http();
        sink.answer(status);
        let text = format!(
            "{ERRORS}[[notify.webhook]]\nurl = \"{}\"\n[notify.log]\nenabled = false\n",
            sink.url()
        );
        let store = Arc::new(Memory::default());
        run(&store, &text, 100, "bb");
        let outbox = outbox(&store, &text, "a");
        if again {
            assert!(sink.wait(3).len() >= 3, "{status}");
            sink.answer(200);
        }
        drained(&store);
        outbox.stop();
        let got = sink.got();
        assert_eq!(got.len() > 1, again, "{status} {}", got.len());
        let ids: BTreeSet<String> = got
            .iter()
            .map(|r| serde_json::from_str::<Value>(&r.body).unwrap()["id"].to_string())
            .collect();
        assert_eq!(ids.len(), 1, "{status}");
    }
}

#[test]
fn a_message_that_cannot_be_read_is_dropped() {
    let store = Arc::new(Memory::default());
    store.create("outbox/00000000000001-x", b"{}").unwrap();
    let outbox = outbox(&store, "", "a");
    drained(&store);
    outbox.stop();
}

#[test]
fn a_message_that_is_too_old_is_dropped() {
    let sink = HttpSink::http();
    sink.answer(503);
    let text = format!(
        "{ERRORS}[notify]\ngive_up_after = \"1s\"\n[[notify.webhook]]\nurl = \"{}\"\n[notify.log]\nenabled = false\n",
        sink.url()
    );
    let store = Arc::new(Memory::default());
    for n in 100..102 {
        let e = minute(n, 'b');
        alerts(&store, &text, "a").evaluate(&e, end(&e)).unwrap();
    }
    assert_eq!(store.names("outbox/").len(), 1);
    let outbox = outbox(&store, &text, "a");
    drained(&store);
    outbox.stop();
    assert_eq!(sink.got().len(), 0);
}

#[test]
fn two_engines_on_one_store_tell_once() {
    let sink = HttpSink::http();
    let text = format!(
        "{ERRORS}[[notify.webhook]]\nurl = \"{}\"\n[notify.log]\nenabled = false\n",
        sink.url()
    );
    let store = Arc::new(Memory::default());
    let outboxes = [outbox(&store, &text, "one"), outbox(&store, &text, "two")];
    let engines = [alerts(&store, &text, "one"), alerts(&store, &text, "two")];
    for n in 100..102 {
        let e = minute(n, 'b');
        std::thread::scope(|scope| {
            for engine in &engines {
                scope.spawn(|| engine.evaluate(&e, wall_ms()).unwrap());
            }
        });
    }
    drained(&store);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(sink.got().len(), 1);
    // The one that delivers goes, and the other takes over.
    let [one, two] = outboxes;
    one.stop();
    for n in 102..104 {
        let e = minute(n, 'c');
        for engine in &engines {
            engine.evaluate(&e, wall_ms()).unwrap();
        }
    }
    drained(&store);
    two.stop();
    assert_eq!(sink.got().len(), 2);
}

#[test]
fn a_retrain_event_reaches_its_webhook_as_a_cloud_event() {
    let sink = HttpSink::http();
    let text = DRIFT.replace("http://127.0.0.1:1/", &sink.url());
    let store = Arc::new(Memory::default());
    let outbox = outbox(&store, &text, "a");
    let e = hour(5, &["income"]);
    alerts(&store, &text, "a").evaluate(&e, wall_ms()).unwrap();
    drained(&store);
    outbox.stop();
    let got = sink.got();
    assert_eq!(got.len(), 1);
    assert_eq!(
        got[0].headers["content-type"],
        "application/cloudevents+json; charset=utf-8"
    );
    let event: Value = serde_json::from_str(&got[0].body).unwrap();
    assert_eq!(event["type"], "dev.modelet.retrain.requested");
    assert_eq!(event["data"]["reason"], "feature income: PSI 0.400 on 500 values");
    assert_eq!(event["data"]["alerts"][0]["state"], "firing");
}
