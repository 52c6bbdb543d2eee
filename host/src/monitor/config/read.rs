//! The reader of `modelet.toml`.

use super::*;
use crate::monitor::rules::{Fire, Kind, METRICS, Percentile, check_latency};
use crate::monitor::store;
use serde::Deserialize;
use std::cell::RefCell;
use std::ops::Range;
use std::str::FromStr;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The text and what is wrong with it.
struct Document<'a> {
    text: &'a str,
    faults: RefCell<Vec<(usize, Fault)>>,
}

impl Document<'_> {
    fn fault(&self, key: &str, at: usize, message: String) {
        let at = (0..=at.min(self.text.len()))
            .rev()
            .find(|&i| self.text.is_char_boundary(i));
        let before = &self.text[..at.unwrap_or(0)];
        let fault = Fault {
            key: key.to_owned(),
            message,
            line: before.matches('\n').count() + 1,
            column: before.rsplit('\n').next().unwrap_or("").chars().count() + 1,
        };
        self.faults.borrow_mut().push((before.len(), fault));
    }
}

/// A value with its place.
struct Item<'a> {
    document: &'a Document<'a>,
    key: String,
    span: Range<usize>,
    value: &'a DeValue<'a>,
}

impl<'a> Item<'a> {
    fn new(document: &'a Document<'a>, key: String, value: &'a Spanned<DeValue<'a>>) -> Item<'a> {
        Item {
            document,
            key,
            span: value.span(),
            value: value.get_ref(),
        }
    }

    /// The value as the file has it.
    fn shown(&self) -> String {
        const CHARS_MAX: usize = 60;
        match self.value {
            DeValue::Array(_) => "an array".into(),
            DeValue::Table(_) => "a table".into(),
            _ => {
                let text = self.document.text.get(self.span.clone()).unwrap_or("something else");
                match text.chars().count() > CHARS_MAX {
                    true => text.chars().take(CHARS_MAX).chain("...".chars()).collect(),
                    false => text.to_owned(),
                }
            }
        }
    }

    fn wrong(&self, message: String) {
        self.document.fault(&self.key, self.span.start, message);
    }

    fn expected<T>(&self, what: &str) -> Option<T> {
        self.wrong(format!("expected {what} but got {}", self.shown()));
        None
    }

    /// A value that may be a secret is not told back.
    fn expected_secret<T>(&self, what: &str) -> Option<T> {
        match self.value {
            DeValue::String(_) => self.wrong(format!("expected {what} but got another text")),
            other => self.wrong(format!("expected {what} but got a value of type {}", other.type_str())),
        }
        None
    }

    fn text(&self) -> Option<String> {
        match self.value {
            DeValue::String(text) if !text.trim().is_empty() => Some(text.to_string()),
            _ => self.expected("a text"),
        }
    }

    fn flag(&self) -> Option<bool> {
        self.value.as_bool().or_else(|| self.expected("true or false"))
    }

    fn as_integer(&self) -> Option<i64> {
        let integer = self.value.as_integer()?;
        i64::from_str_radix(integer.as_str(), integer.radix()).ok()
    }

    fn number(&self, what: &str, good: impl Fn(f64) -> bool) -> Option<f64> {
        let number = match self.value {
            DeValue::Float(float) => float.as_str().parse().ok(),
            _ => self.as_integer().map(|integer| integer as f64),
        };
        number
            .filter(|number: &f64| number.is_finite() && good(*number))
            .or_else(|| self.expected(what))
    }

    fn count(&self, what: &str, good: impl Fn(u64) -> bool) -> Option<u64> {
        let count = self.as_integer().and_then(|integer| u64::try_from(integer).ok());
        count.filter(|count| good(*count)).or_else(|| self.expected(what))
    }

    fn duration(&self) -> Option<Duration> {
        let read = self.value.as_str().and_then(duration);
        read.or_else(|| self.expected("a duration such as \"5m\""))
    }

    fn duration_where(&self, what: &str, good: impl Fn(Duration) -> bool) -> Option<Duration> {
        let duration = self.duration()?;
        match good(duration) {
            true => Some(duration),
            false => self.expected(what),
        }
    }

    fn whole_seconds(&self) -> Option<Duration> {
        self.duration_where("a duration in whole seconds, from 1 s", |d| {
            !d.is_zero() && d.subsec_nanos() == 0
        })
    }

    fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Option<T> {
        let text = self.value.as_str();
        let chosen = choices.iter().find(|(name, _)| Some(*name) == text);
        chosen.map(|(_, choice)| *choice).or_else(|| {
            let names: Vec<String> = choices.iter().map(|(name, _)| format!("{name:?}")).collect();
            self.expected(&format!("one of {}", names.join(", ")))
        })
    }

    fn secret(&self) -> Option<Secret> {
        match self.value.as_str().map(Secret::new) {
            Some(Secret::Plain(text)) if text.trim().is_empty() => self.expected_secret("a text"),
            Some(Secret::Env(name)) if name.is_empty() || name.contains(['=', '\0', ' ']) => {
                self.expected_secret("\"env:NAME\" with the name of an environment variable")
            }
            Some(secret) => Some(secret),
            None => self.expected_secret("a text, or \"env:NAME\""),
        }
    }

    fn url(&self) -> Option<Secret> {
        match self.secret()? {
            Secret::Plain(text) if !is_url(&text) => self.expected_secret("a URL that begins with http:// or https://"),
            secret => Some(secret),
        }
    }

    /// An origin exactly as browsers send it, because it is compared as text.
    fn origin(&self) -> Option<String> {
        let good = |text: &&str| {
            let Ok(uri) = text.parse::<ureq::http::Uri>() else {
                return false;
            };
            let default_port = match uri.scheme_str() {
                Some("http") => 80,
                Some("https") => 443,
                _ => return false,
            };
            let authority = uri.authority().map_or("", |authority| authority.as_str());
            let whole = format!("{}://{authority}", uri.scheme_str().unwrap_or(""));
            **text == whole.to_ascii_lowercase()
                && !authority.contains(['@', '*'])
                && !authority.ends_with(':')
                && uri.port_u16() != Some(default_port)
        };
        self.value.as_str().filter(good).map(str::to_owned).or_else(|| {
            self.expected("an origin as browsers send it, in lower case, such as \"https://app.example.org\" or \"http://localhost:8080\",")
        })
    }

    fn items(&self, what: &str) -> Option<Vec<Item<'a>>> {
        let Some(array) = self.value.as_array() else {
            return self.expected(what);
        };
        let item = |(i, value)| Item::new(self.document, format!("{}[{i}]", self.key), value);
        Some(array.iter().enumerate().map(item).collect())
    }

    fn texts(&self) -> Option<Vec<String>> {
        let items = self.items("an array of texts")?;
        Some(items.iter().filter_map(Item::text).collect())
    }

    fn section(&self) -> Option<Section<'a>> {
        let Some(table) = self.value.as_table() else {
            return self.expected("a table");
        };
        Some(Section {
            document: self.document,
            key: self.key.clone(),
            at: self.span.start,
            table,
            asked: Vec::new(),
        })
    }
}

fn is_url(text: &str) -> bool {
    let uri = ureq::http::Uri::try_from(text);
    uri.is_ok_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some())
}

/// A table; what nobody asks for in it is a fault.
struct Section<'a> {
    document: &'a Document<'a>,
    key: String,
    at: usize,
    table: &'a DeTable<'a>,
    asked: Vec<&'static str>,
}

impl<'a> Section<'a> {
    fn path(&self, key: &str) -> String {
        match self.key.is_empty() {
            true => key.to_owned(),
            false => format!("{}.{key}", self.key),
        }
    }

    fn get(&mut self, key: &'static str) -> Option<Item<'a>> {
        self.asked.push(key);
        let value = self.table.get(key)?;
        Some(Item::new(self.document, self.path(key), value))
    }

    /// Reads a key into its place, which it leaves alone where there is none,
    /// or a faulty one.
    fn set<T>(&mut self, key: &'static str, place: &mut T, read: impl FnOnce(&Item<'a>) -> Option<T>) {
        if let Some(value) = self.get(key).and_then(|item| read(&item)) {
            *place = value;
        }
    }

    fn set_some<T>(&mut self, key: &'static str, place: &mut Option<T>, read: impl FnOnce(&Item<'a>) -> Option<T>) {
        self.set(key, place, |item| read(item).map(Some));
    }

    /// A key that must be there.
    fn need<T>(&mut self, key: &'static str, what: &str, read: impl FnOnce(&Item<'a>) -> Option<T>) -> Option<T> {
        match self.get(key) {
            Some(item) => read(&item),
            None => {
                let message = format!("expected {what} but the key is missing");
                self.document.fault(&self.path(key), self.at, message);
                None
            }
        }
    }

    fn section(&mut self, key: &'static str) -> Option<Section<'a>> {
        self.get(key)?.section()
    }

    fn sections(&mut self, key: &'static str) -> Vec<Section<'a>> {
        let Some(item) = self.get(key) else {
            return Vec::new();
        };
        let what = format!("tables: [[{}]]", item.key);
        let items = item.items(&what).unwrap_or_default();
        items.iter().filter_map(Item::section).collect()
    }

    fn headers(&mut self) -> BTreeMap<String, Secret> {
        let mut headers = BTreeMap::new();
        let Some(section) = self.section("headers") else {
            return headers;
        };
        for (name, value) in section.table {
            let key = section.path(name.get_ref());
            if ureq::http::HeaderName::from_str(name.get_ref()).is_err() {
                let message = format!("expected the name of a header but got {:?}", name.get_ref());
                section.document.fault(&key, name.span().start, message);
                continue;
            }
            let item = Item::new(section.document, key, value);
            let Some(secret) = item.secret() else { continue };
            if matches!(&secret, Secret::Plain(text) if ureq::http::HeaderValue::from_str(text).is_err()) {
                item.expected_secret::<()>("the value of a header, on one line");
                continue;
            }
            headers.insert(name.get_ref().to_ascii_lowercase(), secret);
        }
        headers
    }

    fn finish(self) {
        for name in self.table.keys() {
            let key: &str = name.get_ref();
            if !self.asked.contains(&key) {
                let message = format!("unknown key; expected one of {}", self.asked.join(", "));
                self.document.fault(&self.path(key), name.span().start, message);
            }
        }
    }
}

pub(super) fn config(text: &str) -> Result<Config, Faults> {
    let document = Document {
        text,
        faults: RefCell::default(),
    };
    // What is wrong in form is told alone: what follows it may be misread.
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        document.fault(
            "",
            error.span().map_or(0, |span| span.start),
            error.message().to_owned(),
        );
    }
    let mut config = Config::default();
    if errors.is_empty() {
        let mut root = Section {
            document: &document,
            key: String::new(),
            at: 0,
            table: table.get_ref(),
            asked: Vec::new(),
        };
        if let Some(section) = root.section("monitor") {
            config.monitor = monitor(section);
        }
        if let Some(section) = root.section("notify") {
            config.notify = notify(section);
        }
        config.retrain = retrains(root.sections("retrain"));
        // What is faulty was left out, and would be missed here.
        if document.faults.borrow().is_empty() {
            references(&document, &table, &config);
        }
        root.finish();
    }
    let mut faults = document.faults.into_inner();
    if faults.is_empty() {
        return Ok(config);
    }
    faults.sort_by_key(|(at, _)| *at);
    Err(Faults(faults.into_iter().map(|(_, fault)| fault).collect()))
}

/// The place of a key that was read before.
fn place(table: &Spanned<DeTable<'_>>, path: &[&str]) -> usize {
    let mut at = table.span().start;
    let mut table = table.get_ref();
    let mut value: Option<&Spanned<DeValue<'_>>> = None;
    for step in path {
        let next = match (value.map(Spanned::get_ref), step.parse::<usize>()) {
            (None, _) => table.get(*step),
            (Some(DeValue::Array(array)), Ok(i)) => array.get(i),
            (Some(DeValue::Table(inner)), _) => {
                table = inner;
                table.get(*step)
            }
            _ => None,
        };
        let Some(next) = next else { break };
        at = next.span().start;
        value = Some(next);
    }
    at
}

fn monitor(mut section: Section<'_>) -> MonitorConfig {
    let mut monitor = MonitorConfig::default();
    section.set("enabled", &mut monitor.enabled, Item::flag);
    section.set("bucket", &mut monitor.bucket, |item| {
        item.duration_where("whole seconds that divide an hour, at most 30 m", |d| {
            d.subsec_nanos() == 0 && !d.is_zero() && d.as_secs() <= 1800 && 3600u64.is_multiple_of(d.as_secs())
        })
    });
    section.set("flush", &mut monitor.flush, |item| {
        item.duration_where("a duration from 100 ms", |d| d >= Duration::from_millis(100))
    });
    let windows = section.get("windows").and_then(|item| {
        let items = item.items("an array of durations")?;
        if items.is_empty() {
            return item.expected("at least one duration");
        }
        Some(items)
    });
    if let Some(section) = section.section("retention") {
        monitor.retention = retention(section);
    }
    match &windows {
        Some(items) => {
            let mut chosen: Vec<Duration> = Vec::new();
            for item in items {
                let Some(window) = item.whole_seconds().filter(|window| fits(&monitor, item, *window)) else {
                    continue;
                };
                match chosen.contains(&window) {
                    true => item.wrong(format!("{} is there twice", item.shown())),
                    false => chosen.push(window),
                }
            }
            monitor.windows = chosen;
        }
        None => monitor
            .windows
            .retain(|window| unfit(&monitor.bucket, &monitor.retention, *window).is_none()),
    }
    section.set_some("store", &mut monitor.store, |item| {
        let secret = item.secret()?;
        if let Secret::Plain(text) = &secret
            && let Err(error) = store::Address::parse(text)
        {
            item.wrong(error.to_string());
            return None;
        }
        Some(secret)
    });
    if let Some(section) = section.section("thresholds") {
        thresholds(&section, &mut monitor.thresholds);
    }
    if let Some(mut section) = section.section("feedback") {
        section.set("enabled", &mut monitor.feedback.enabled, Item::flag);
        section.set("keep", &mut monitor.feedback.keep, Item::whole_seconds);
        section.finish();
    }
    if let Some(mut section) = section.section("observe") {
        section.set("origins", &mut monitor.observe.origins, |item| {
            let items = item.items("an array of origins")?;
            Some(items.iter().filter_map(Item::origin).collect())
        });
        section.finish();
    }
    let mut named: Vec<String> = Vec::new();
    for section in section.sections("rules") {
        let (at, key, document) = (section.at, section.key.clone(), section.document);
        let Some(rule) = rule(section, &monitor) else { continue };
        if named.contains(&rule.name) {
            let message = format!("expected one rule of a name but {:?} is there twice", rule.name);
            document.fault(&key, at, message);
            continue;
        }
        named.push(rule.name.clone());
        match monitor.rules.iter_mut().find(|default| default.name == rule.name) {
            Some(default) => *default = rule,
            None => monitor.rules.push(rule),
        }
    }
    // A window that nobody chose is made as coarse as the buckets are.
    for rule in &mut monitor.rules {
        let bucket = monitor.bucket.as_secs();
        rule.window = Duration::from_secs(rule.window.as_secs().div_ceil(bucket) * bucket);
        if let Some(why) = unfit(&monitor.bucket, &monitor.retention, rule.window) {
            let message = format!(
                "the window of the rule {:?}, {}, is {why}",
                rule.name,
                duration_text(rule.window)
            );
            section.document.fault(&section.key, section.at, message);
        }
    }
    section.finish();
    monitor
}

fn retention(mut section: Section<'_>) -> Retention {
    let mut retention = Retention::default();
    section.set("buckets", &mut retention.buckets, |item| {
        item.duration_where("at least two hours", |d| d >= Duration::from_secs(2 * 3600))
    });
    section.set("hours", &mut retention.hours, |item| {
        item.duration_where("at least two days", |d| d >= Duration::from_secs(2 * 86_400))
    });
    section.finish();
    retention
}

/// Why a window can't be summed up from what is kept, if it can't.
fn unfit(bucket: &Duration, retention: &Retention, window: Duration) -> Option<String> {
    let multiple = |unit: u64| window.as_secs().is_multiple_of(unit);
    if !multiple(bucket.as_secs()) {
        return Some(format!("no multiple of monitor.bucket, {}", duration_text(*bucket)));
    }
    let kept = window <= retention.buckets || (multiple(3600) && window <= retention.hours);
    (!kept).then(|| "longer than counts are kept (monitor.retention)".into())
}

fn fits(monitor: &MonitorConfig, item: &Item<'_>, window: Duration) -> bool {
    let why = unfit(&monitor.bucket, &monitor.retention, window);
    if let Some(why) = &why {
        item.wrong(format!("{} is {why}", item.shown()));
    }
    why.is_none()
}

/// The thresholds have a derived reader; each key is given to it alone, so that
/// each fault has its key.
fn thresholds(section: &Section<'_>, thresholds: &mut Thresholds) {
    let mut good = toml::Table::new();
    for (name, value) in section.table {
        let item = Item::new(section.document, section.path(name.get_ref()), value);
        let number = match item.value {
            DeValue::Float(float) => float.as_str().parse().ok().map(|f: f64| (f, f.into())),
            _ => item.as_integer().map(|i| (i as f64, i.into())),
        };
        let Some((size, number)) = number else {
            item.expected::<()>("a number");
            continue;
        };
        // The derived reader takes no integer for a number.
        let read = |value: toml::Value| {
            let one = toml::Table::from_iter([(name.get_ref().to_string(), value.clone())]);
            Thresholds::deserialize(one).map(|_| value)
        };
        let value = match read(size.into()).or_else(|_| read(number)) {
            Ok(value) => value,
            Err(why) => {
                item.wrong(why.message().to_owned());
                continue;
            }
        };
        let (fits, expected) = match &**name.get_ref() {
            "adjusted_p" => (0.0 < size && size < 1.0, "a number between 0 and 1"),
            "quality_increase" => ((0.0..=1.0).contains(&size), "a share from 0 to 1"),
            _ => (size.is_finite() && size >= 0.0, "a number from 0"),
        };
        if fits {
            good.insert(name.get_ref().to_string(), value);
        } else {
            item.expected::<()>(expected);
        }
    }
    if let Ok(read) = Thresholds::deserialize(good) {
        *thresholds = read;
    }
}

fn rule(mut section: Section<'_>, monitor: &MonitorConfig) -> Option<Rule> {
    let name = match section.get("name") {
        Some(item) => Some(item.text()?),
        None => None,
    };
    let kind = match section.get("kind") {
        Some(item) => Some((item.choice(&Kind::ALL)?, item)),
        None => None,
    };
    let default = name
        .as_ref()
        .and_then(|name| Rule::defaults().into_iter().find(|rule| rule.name == *name));
    let mut rule = match (default, kind) {
        (Some(default), Some((kind, item))) if default.kind != kind => {
            let what = format!("{:?}, the kind of the default rule of this name", default.kind.name());
            return item.expected(&what);
        }
        (Some(default), _) => default,
        (None, Some((kind, _))) => Rule {
            enabled: true,
            ..Rule::new(kind)
        },
        (None, None) => {
            let what = "a kind, or the name of a default rule in `name`,";
            return section.need("kind", what, |_| None);
        }
    };
    if let Some(name) = &name {
        rule.name = name.clone();
    }
    section.set("enabled", &mut rule.enabled, Item::flag);
    let window = section.get("window");
    if let Some(item) = window
        && let Some(window) = item.whole_seconds()
        && fits(monitor, &item, window)
    {
        rule.window = window;
    }
    section.set("delay", &mut rule.delay, Item::duration);
    let share = matches!(rule.kind, Kind::ErrorRate | Kind::RejectedRate | Kind::NewPatterns);
    let read_threshold = |item: &Item<'_>| match rule.kind {
        _ if share => item.number("a share from 0 to 1, such as 0.01 for one in a hundred", |x| {
            (0.0..=1.0).contains(&x)
        }),
        Kind::Latency => {
            let threshold = item.number("a number from 0", |x| x >= 0.0)?;
            match check_latency(threshold) {
                Ok(()) => Some(threshold),
                Err(what) => item.expected(&what),
            }
        }
        _ => item.number("a number from 0", |x| x >= 0.0),
    };
    if rule.kind != Kind::NoData {
        section.set_some("threshold", &mut rule.threshold, read_threshold);
    }
    if rule.kind == Kind::Latency {
        section.set("percentile", &mut rule.percentile, |item| item.choice(&Percentile::ALL));
    }
    if rule.kind == Kind::Performance {
        let metrics = METRICS.map(|metric| (metric.name, metric.name));
        section.set("metric", &mut rule.metric, |item| {
            item.choice(&metrics).map(str::to_owned)
        });
        if name.is_none() {
            rule.name = rule.metric.clone();
        }
    }
    section.set("min_count", &mut rule.min_count, |item| {
        item.count("a whole number from 0", |_| true)
    });
    // The others are no rates: their tests have their own levels.
    if rule.kind.has_confidence() {
        section.set("confidence", &mut rule.confidence, |item| {
            item.number("a number from 0.5 to below 1", |x| (0.5..1.0).contains(&x))
        });
    }
    section.set("fire", &mut rule.fire, |item| {
        let fire = item.value.as_str().and_then(|text| {
            let (bad, of) = text.split_once(" of ")?;
            let (bad, of) = (bad.trim().parse().ok()?, of.trim().parse().ok()?);
            ((1..=of).contains(&bad) && of <= 100).then_some(Fire { bad, of })
        });
        fire.or_else(|| item.expected("how many bad windows of how many, such as \"2 of 3\" (at most 100)"))
    });
    section.set("resolve", &mut rule.resolve, |item| {
        let count = item.count("a whole number from 1 to 100", |n| (1..=100).contains(&n))?;
        u32::try_from(count).ok()
    });
    section.set("resolve_unknown", &mut rule.resolve_unknown, |item| {
        let count = item.count("a whole number from 0 to 10000", |n| n <= 10_000)?;
        u32::try_from(count).ok()
    });
    section.set("cooldown", &mut rule.cooldown, Item::duration);
    section.set("repeat", &mut rule.repeat, |item| {
        item.duration_where("0, or at least a second", |d| {
            d.is_zero() || d >= Duration::from_secs(1)
        })
    });
    section.set("severity", &mut rule.severity, |item| item.choice(&Severity::ALL));
    section.set("notify", &mut rule.notify, Item::flag);
    section.set("receivers", &mut rule.receivers, Item::texts);
    if matches!(
        rule.kind,
        Kind::FeatureDrift | Kind::PredictionDrift | Kind::DataQuality | Kind::NewPatterns
    ) {
        section.set("features", &mut rule.features, Item::texts);
    }
    section.set("models", &mut rule.models, Item::texts);
    section.finish();
    Some(rule)
}

fn notify(mut section: Section<'_>) -> NotifyConfig {
    let mut notify = NotifyConfig::default();
    section.set_some("external_url", &mut notify.external_url, |item| {
        let url = item.text()?;
        match is_url(&url) {
            true => Some(url.trim_end_matches('/').to_owned()),
            false => item.expected("a URL that begins with http:// or https://"),
        }
    });
    let positive = |item: &Item<'_>| item.duration_where("a duration above 0", |d| !d.is_zero());
    section.set("timeout", &mut notify.timeout, |item| {
        item.duration_where("a duration above 0 and up to 5 m", |d| {
            !d.is_zero() && d <= Duration::from_secs(300)
        })
    });
    section.set("retry_max", &mut notify.retry_max, positive);
    section.set("give_up_after", &mut notify.give_up_after, positive);
    for section in section.sections("webhook") {
        let (at, key, document) = (section.at, section.key.clone(), section.document);
        let Some(webhook) = webhook(section) else { continue };
        let taken = ["email", "log"];
        if taken.contains(&webhook.name.as_str()) || notify.webhook.iter().any(|other| other.name == webhook.name) {
            let message = format!(
                "expected a receiver of its own name but {:?} is taken; give it a `name`",
                webhook.name
            );
            document.fault(&format!("{key}.name"), at, message);
            continue;
        }
        notify.webhook.push(webhook);
    }
    notify.email = section.section("email").and_then(email);
    if let Some(mut section) = section.section("log") {
        section.set("enabled", &mut notify.log.enabled, Item::flag);
        section.finish();
    }
    section.finish();
    notify
}

fn webhook(mut section: Section<'_>) -> Option<WebhookConfig> {
    let mut name = None;
    section.set_some("name", &mut name, Item::text);
    let url = section.need("url", "a URL, or \"env:NAME\",", Item::url);
    let mut format = Format::Generic;
    let formats = [
        ("generic", Format::Generic),
        ("slack", Format::Slack),
        ("alertmanager", Format::Alertmanager),
    ];
    section.set("format", &mut format, |item| item.choice(&formats));
    let headers = section.headers();
    let mut send_resolved = true;
    section.set("send_resolved", &mut send_resolved, Item::flag);
    let mut severity_min = Severity::Info;
    section.set("severity_min", &mut severity_min, |item| item.choice(&Severity::ALL));
    let mut resend = Duration::from_secs(60);
    if format == Format::Alertmanager {
        section.set("resend", &mut resend, |item| {
            item.duration_where("at least a second", |d| d >= Duration::from_secs(1))
        });
    }
    section.finish();
    let url = url?;
    let name = name.unwrap_or_else(|| {
        let (format, _) = formats
            .iter()
            .find(|(_, f)| *f == format)
            .expect("every format is listed");
        let shown = url.shown_address();
        let host = shown.split_once("://").map_or(shown.as_str(), |(_, rest)| rest);
        format!("{format}@{}", host.trim_end_matches("/..."))
    });
    Some(WebhookConfig {
        name,
        url,
        format,
        headers,
        send_resolved,
        severity_min,
        resend,
    })
}

fn email(mut section: Section<'_>) -> Option<EmailConfig> {
    fn mailbox(item: &Item<'_>) -> Option<String> {
        let text = item.text()?;
        match text.parse::<lettre::message::Mailbox>() {
            Ok(_) => Some(text),
            Err(_) => item.expected("an address such as \"ops@example.org\" or \"Ops <ops@example.org>\""),
        }
    }
    let smtp = section.need("smtp", "the name of a mail server", |item| {
        let text = item.text()?;
        match text.contains(['/', ' ', '@']) {
            true => item.expected("the name of a mail server without scheme and port"),
            false => Some(text),
        }
    });
    let mut tls = MailTls::Starttls;
    section.set("tls", &mut tls, |item| {
        item.choice(&[
            ("starttls", MailTls::Starttls),
            ("tls", MailTls::Tls),
            ("none", MailTls::None),
        ])
    });
    let mut port = match tls {
        MailTls::Starttls => 587,
        MailTls::Tls => 465,
        MailTls::None => 25,
    };
    section.set("port", &mut port, |item| {
        let count = item.count("a port from 1 to 65535", |n| (1..=65_535).contains(&n))?;
        u16::try_from(count).ok()
    });
    let from = section.need("from", "the sender's address", mailbox);
    let to = section.need("to", "the recipients' addresses", |item| {
        let items = match item.value {
            DeValue::String(_) => return Some(vec![mailbox(item)?]),
            _ => item.items("an address, or an array of them")?,
        };
        let all: Option<Vec<String>> = items.iter().map(mailbox).collect();
        match all {
            Some(all) if all.is_empty() => item.expected("at least one address"),
            all => all,
        }
    });
    let mut username = None;
    section.set_some("username", &mut username, Item::secret);
    let mut password = None;
    let given = section.get("password");
    if let Some(item) = &given {
        password = item.secret();
    }
    let mut send_resolved = true;
    section.set("send_resolved", &mut send_resolved, Item::flag);
    let mut severity_min = Severity::Info;
    section.set("severity_min", &mut severity_min, |item| item.choice(&Severity::ALL));
    if username.is_some() != password.is_some() {
        let (have, lack) = match username {
            Some(_) => ("username", "password"),
            None => ("password", "username"),
        };
        let message = format!("expected a text, or \"env:NAME\", because there is a {have}, but the key is missing");
        section.document.fault(&section.path(lack), section.at, message);
    }
    let local = |smtp: &String| {
        let ip: Result<std::net::IpAddr, _> = smtp.trim_matches(['[', ']']).parse();
        smtp == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
    };
    if let Some(item) = given
        && tls == MailTls::None
        && !smtp.as_ref().is_some_and(local)
    {
        item.wrong("a password is not sent over an unprotected connection: expected tls = \"starttls\" or \"tls\" but got \"none\"".into());
    }
    section.finish();
    Some(EmailConfig {
        smtp: smtp?,
        port,
        tls,
        from: from?,
        to: to?,
        username,
        password,
        send_resolved,
        severity_min,
    })
}

fn retrains(sections: Vec<Section<'_>>) -> Vec<Retrain> {
    let mut retrains: Vec<Retrain> = Vec::new();
    for section in sections {
        let (at, key, document) = (section.at, section.key.clone(), section.document);
        let Some(retrain) = retrain(section) else { continue };
        if retrains.iter().any(|other| other.name == retrain.name) {
            let message = format!(
                "expected a trigger of its own name but {:?} is taken; give it a `name`",
                retrain.name
            );
            document.fault(&format!("{key}.name"), at, message);
            continue;
        }
        retrains.push(retrain);
    }
    retrains
}

fn retrain(mut section: Section<'_>) -> Option<Retrain> {
    let ons = [
        ("drift", On::Drift),
        ("performance", On::Performance),
        ("new_patterns", On::NewPatterns),
        ("schedule", On::Schedule),
    ];
    let on = section.need(
        "on",
        "one of \"drift\", \"performance\", \"new_patterns\", \"schedule\"",
        |item| item.choice(&ons),
    )?;
    let (name, _) = ons.iter().find(|(_, o)| *o == on).expect("every cause is listed");
    let mut name = (*name).to_owned();
    section.set("name", &mut name, Item::text);
    let webhook = section.need("webhook", "a URL, or \"env:NAME\",", Item::url);
    let headers = section.headers();
    let mut cooldown = Duration::from_secs(match on {
        On::Schedule => 0,
        _ => 86_400,
    });
    section.set("cooldown", &mut cooldown, Item::duration);
    let mut models = Vec::new();
    section.set("models", &mut models, Item::texts);
    let mut rules = Vec::new();
    let mut cron = None;
    let (mut share, mut window, mut min_count) = (0.05, Duration::from_secs(86_400), 100);
    match on {
        On::Drift | On::Performance => section.set("rules", &mut rules, Item::texts),
        On::NewPatterns => {
            section.set("share", &mut share, |item| {
                item.number("a share from 0 to 1", |x| (0.0..=1.0).contains(&x))
            });
            section.set("window", &mut window, Item::whole_seconds);
            section.set("min_count", &mut min_count, |item| {
                item.count("a whole number from 1", |n| n > 0)
            });
        }
        On::Schedule => {
            cron = section.need("cron", "a cron schedule such as \"0 3 * * 1\"", |item| {
                let text = item.text()?;
                match croner::Cron::from_str(&text) {
                    Ok(_) => Some(text),
                    Err(e) => item.expected(&format!("a cron schedule such as \"0 3 * * 1\" ({e})")),
                }
            });
            cron.as_ref()?;
        }
    }
    section.finish();
    Some(Retrain {
        name,
        on,
        webhook: webhook?,
        headers,
        cooldown,
        models,
        rules,
        cron,
        share,
        window,
        min_count,
    })
}

/// What names something that is elsewhere in the file.
fn references(document: &Document<'_>, table: &Spanned<DeTable<'_>>, config: &Config) {
    let mut receivers: Vec<&str> = config
        .notify
        .webhook
        .iter()
        .map(|webhook| webhook.name.as_str())
        .collect();
    receivers.extend(config.notify.email.as_ref().map(|_| "email"));
    receivers.extend(config.notify.log.enabled.then_some("log"));
    let rules = table.get_ref().get("monitor").and_then(|monitor| {
        let rules = monitor.get_ref().as_table()?.get("rules")?;
        rules.get_ref().as_array()
    });
    for (i, rule) in rules.into_iter().flat_map(|rules| rules.iter()).enumerate() {
        let named = rule
            .get_ref()
            .as_table()
            .and_then(|rule| rule.get("receivers")?.get_ref().as_array());
        for (j, name) in named.into_iter().flat_map(|names| names.iter()).enumerate() {
            if let Some(text) = name.get_ref().as_str()
                && !receivers.contains(&text)
            {
                let key = format!("monitor.rules[{i}].receivers[{j}]");
                let message = format!(
                    "expected one of the receivers {} but got {text:?}",
                    receivers.join(", ")
                );
                document.fault(&key, name.span().start, message);
            }
        }
    }
    for (i, retrain) in config.retrain.iter().enumerate() {
        let at = i.to_string();
        for (j, name) in retrain.rules.iter().enumerate() {
            let kinds: &[Kind] = match retrain.on {
                On::Drift => &[Kind::FeatureDrift, Kind::PredictionDrift],
                _ => &[Kind::Performance, Kind::Cusum],
            };
            let mut fitting = config.monitor.rules.iter().filter(|rule| kinds.contains(&rule.kind));
            if !fitting.any(|rule| rule.name == *name) {
                let names: Vec<&str> = config
                    .monitor
                    .rules
                    .iter()
                    .filter(|rule| kinds.contains(&rule.kind))
                    .map(|rule| rule.name.as_str())
                    .collect();
                let message = format!("expected one of the rules {} but got {name:?}", names.join(", "));
                let place = place(table, &["retrain", &at, "rules", &j.to_string()]);
                document.fault(&format!("retrain[{i}].rules[{j}]"), place, message);
            }
        }
        if retrain.on == On::NewPatterns
            && let Some(why) = unfit(&config.monitor.bucket, &config.monitor.retention, retrain.window)
        {
            let message = format!("{:?} is {why}", duration_text(retrain.window));
            let place = place(table, &["retrain", &at, "window"]);
            document.fault(&format!("retrain[{i}].window"), place, message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> Vec<String> {
        match Config::parse(text) {
            Ok(_) => Vec::new(),
            Err(faults) => faults.0.iter().map(|fault| fault.to_string()).collect(),
        }
    }

    #[test]
    fn nothing_configured_is_the_defaults() {
        assert_eq!(Config::parse("").unwrap(), Config::default());
    }

    #[test]
    fn the_example_is_understood() {
        let config = Config::parse(include_str!("../../../../examples/modelet.toml")).unwrap();
        assert_eq!(config.monitor.bucket, Duration::from_secs(60));
        let rule = |name: &str| config.monitor.rules.iter().find(|rule| rule.name == name).unwrap();
        assert_eq!(rule("latency").threshold, Some(50.0));
        assert_eq!(rule("latency").fire, Fire { bad: 3, of: 4 });
        assert_eq!(rule("income_drift").features, ["income"]);
        assert!(rule("no_data").enabled);
        let names: Vec<&str> = config.notify.webhook.iter().map(|w| w.name.as_str()).collect();
        assert_eq!(
            names,
            ["ops", "slack@env:SLACK_WEBHOOK", "alertmanager@alertmanager:9093"]
        );
        assert_eq!(config.notify.email.as_ref().unwrap().port, 587);
        assert_eq!(config.retrain.len(), 4);
        let unset: Vec<String> = config.unset().into_iter().map(|(key, _)| key).collect();
        assert!(unset.contains(&"notify.webhook[1].url".to_owned()), "{unset:?}");
        assert!(
            unset.contains(&"notify.webhook[0].headers.authorization".to_owned()),
            "{unset:?}"
        );
    }

    /// Every key that the defaults print is in the example, so that none is
    /// undocumented.
    #[test]
    fn the_example_shows_every_key() {
        let example = include_str!("../../../../examples/modelet.toml");
        let config = Config::parse(example).unwrap();
        let mut keys = Vec::new();
        fn walk(value: &serde_json::Value, keys: &mut Vec<String>) {
            match value {
                serde_json::Value::Object(map) => {
                    for (key, value) in map {
                        keys.push(key.clone());
                        walk(value, keys);
                    }
                }
                serde_json::Value::Array(items) => items.iter().for_each(|item| walk(item, keys)),
                _ => {}
            }
        }
        walk(&serde_json::to_value(&config).unwrap(), &mut keys);
        for key in keys {
            assert!(example.contains(&key), "{key}");
        }
    }

    #[test]
    fn faults_name_key_line_column_expected_and_got() {
        struct Case(&'static str, &'static str);
        for Case(text, expected) in [
            Case(
                "[monitor]\nbucket = 5\n",
                "monitor.bucket: expected a duration such as \"5m\" but got 5 (line 2, column 10)",
            ),
            Case(
                "[monitor]\nbucket = \"7s\"\n",
                "monitor.bucket: expected whole seconds that divide an hour, at most 30 m but got \"7s\" (line 2, column 10)",
            ),
            Case(
                "[monitor]\nstore = \"rediss://user:hunter2@cache:6379/0\"\n",
                "monitor.store: store rediss://user:***@cache:6379/0: TLS is not built in; use redis:// over a private network or through a local TLS proxy such as stunnel (line 2, column 9)",
            ),
            Case(
                "[monitor]\nstore = \"postgres://u:hunter2@db/state\"\n",
                "monitor.store: store postgres://...: expected a file, redis://host:port/db or memory (line 2, column 9)",
            ),
            Case(
                "[monitor]\nwindows = [\"5m\", \"90s\"]\n",
                "monitor.windows[1]: \"90s\" is no multiple of monitor.bucket, 1m (line 2, column 18)",
            ),
            Case(
                "[[monitor.rules]]\nname = \"latency\"\nwindow = \"5 parsecs\"\n",
                "monitor.rules[0].window: expected a duration such as \"5m\" but got \"5 parsecs\" (line 3, column 10)",
            ),
            Case(
                "[[monitor.rules]]\nname = \"latency\"\nkind = \"cusum\"\n",
                "monitor.rules[0].kind: expected \"latency\", the kind of the default rule of this name but got \"cusum\" (line 3, column 8)",
            ),
            Case(
                "[[monitor.rules]]\nname = \"mine\"\n",
                "monitor.rules[0].kind: expected a kind, or the name of a default rule in `name`, but the key is missing (line 1, column 1)",
            ),
            Case(
                "[[monitor.rules]]\nkind = \"error_rate\"\nthreshold = 5\n",
                "monitor.rules[0].threshold: expected a share from 0 to 1, such as 0.01 for one in a hundred but got 5 (line 3, column 13)",
            ),
            Case(
                "[[monitor.rules]]\nname = \"latency\"\nthreshold = 20\n",
                "monitor.rules[0].threshold: expected an edge of the latency's histogram in milliseconds, one of 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, but got 20 (line 3, column 13)",
            ),
            Case(
                "[[monitor.rules]]\nkind = \"feature_drift\"\nconfidence = 0.9\n",
                "monitor.rules[0].confidence: unknown key; expected one of name, kind, enabled, window, delay, threshold, min_count, fire, resolve, resolve_unknown, cooldown, repeat, severity, notify, receivers, features, models (line 3, column 1)",
            ),
            Case(
                "[[monitor.rules]]\nname = \"no_data\"\nthreshold = 5\n",
                "monitor.rules[0].threshold: unknown key; expected one of name, kind, enabled, window, delay, min_count, fire, resolve, resolve_unknown, cooldown, repeat, severity, notify, receivers, models (line 3, column 1)",
            ),
            Case(
                "[[monitor.rules]]\nkind = \"error_rate\"\nfire = \"4 of 3\"\n",
                "monitor.rules[0].fire: expected how many bad windows of how many, such as \"2 of 3\" (at most 100) but got \"4 of 3\" (line 3, column 8)",
            ),
            Case(
                "[[monitor.rules]]\nkind = \"error_rate\"\nmetric = \"auc\"\n",
                "monitor.rules[0].metric: unknown key; expected one of name, kind, enabled, window, delay, threshold, min_count, confidence, fire, resolve, resolve_unknown, cooldown, repeat, severity, notify, receivers, models (line 3, column 1)",
            ),
            Case(
                "[[monitor.rules]]\nkind = \"error_rate\"\nreceivers = [\"log\", \"pager\"]\n",
                "monitor.rules[0].receivers[1]: expected one of the receivers log but got \"pager\" (line 3, column 21)",
            ),
            Case(
                "[monitor.thresholds]\nadjusted_p = 2\n",
                "monitor.thresholds.adjusted_p: expected a number between 0 and 1 but got 2 (line 2, column 14)",
            ),
            Case(
                "[monitor.thresholds]\nadjusted_p = 0.0\n",
                "monitor.thresholds.adjusted_p: expected a number between 0 and 1 but got 0.0 (line 2, column 14)",
            ),
            Case(
                "[monitor.thresholds]\nquality_increase = 5\n",
                "monitor.thresholds.quality_increase: expected a share from 0 to 1 but got 5 (line 2, column 20)",
            ),
            Case(
                "[monitor]\nwindows = [\"1h\", \"5m\", \"60m\"]\n",
                "monitor.windows[2]: \"60m\" is there twice (line 2, column 24)",
            ),
            Case(
                "[monitor.thresholds]\npsi = \"much\"\n",
                "monitor.thresholds.psi: expected a number but got \"much\" (line 2, column 7)",
            ),
            Case(
                "[monitor.feedback]\nkeeps = \"1d\"\n",
                "monitor.feedback.keeps: unknown key; expected one of enabled, keep (line 2, column 1)",
            ),
            Case(
                "[monitor.observe]\norigins = [\"https://a.org\", \"https://a.org/\"]\n",
                "monitor.observe.origins[1]: expected an origin as browsers send it, in lower case, such as \"https://app.example.org\" or \"http://localhost:8080\", but got \"https://a.org/\" (line 2, column 29)",
            ),
            Case(
                "[monitoring]\n",
                "monitoring: unknown key; expected one of monitor, notify, retrain (line 1, column 2)",
            ),
            Case(
                "[[notify.webhook]]\nurl = \"ftp://secret\"\n",
                "notify.webhook[0].url: expected a URL that begins with http:// or https:// but got another text (line 2, column 7)",
            ),
            Case(
                "[[notify.webhook]]\nurl = \"http://a/1\"\n[[notify.webhook]]\nurl = \"http://a/2\"\n",
                "notify.webhook[1].name: expected a receiver of its own name but \"generic@a\" is taken; give it a `name` (line 3, column 1)",
            ),
            Case(
                "[notify.email]\nsmtp = \"m\"\nfrom = \"a@b.org\"\nto = [\"nobody\"]\n",
                "notify.email.to[0]: expected an address such as \"ops@example.org\" or \"Ops <ops@example.org>\" but got \"nobody\" (line 4, column 7)",
            ),
            Case(
                "[[retrain]]\non = \"drift\"\nwebhook = \"http://a\"\nrules = [\"latency\"]\n",
                "retrain[0].rules[0]: expected one of the rules feature_drift, prediction_drift but got \"latency\" (line 4, column 10)",
            ),
            Case(
                "[[retrain]]\non = \"schedule\"\nwebhook = \"http://a\"\n",
                "retrain[0].cron: expected a cron schedule such as \"0 3 * * 1\" but the key is missing (line 1, column 1)",
            ),
        ] {
            assert_eq!(faults(text), [expected], "{text}");
        }
    }

    #[test]
    fn origins_are_as_browsers_send_them() {
        for (origin, good) in [
            ("https://app.example.org", true),
            ("https://app.example.org:8443", true),
            ("http://localhost:8080", true),
            ("http://127.0.0.1:8080", true),
            ("http://[::1]:8080", true),
            ("*", false),
            ("null", false),
            ("app.example.org", false),
            ("https://*.example.org", false),
            ("https://APP.example.org", false),
            ("https://app.example.org/", false),
            ("https://app.example.org/page", false),
            ("https://app.example.org?a", false),
            ("https://app.example.org:443", false),
            ("http://app.example.org:80", false),
            ("https://app.example.org:", false),
            ("https://me@app.example.org", false),
            ("file://app", false),
            ("", false),
        ] {
            let text = format!("[monitor.observe]\norigins = [\"{origin}\"]\n");
            let read = Config::parse(&text);
            assert_eq!(read.is_ok(), good, "{origin}: {read:?}");
            if let Ok(config) = read {
                assert_eq!(config.monitor.observe.origins, [origin]);
            }
        }
    }

    #[test]
    fn all_faults_are_told_in_the_order_of_the_file() {
        let text = "\
[monitor]
flush = \"1ms\"
colour = 1
[monitor.thresholds]
psi = -1
psy = 0.2
[[monitor.rules]]
name = \"accuracy\"
confidence = 95
[notify.email]
smtp = \"mail.example.org\"
tls = \"none\"
from = \"a@b.org\"
to = \"c@d.org\"
username = \"u\"
password = \"hunter2\"
[[retrain]]
on = \"schedule\"
webhook = \"env:HOOK\"
cron = \"every day\"
";
        let told = faults(text);
        let keys: Vec<&str> = told.iter().map(|fault| fault.split(": ").next().unwrap()).collect();
        assert_eq!(
            keys,
            [
                "monitor.flush",
                "monitor.colour",
                "monitor.thresholds.psi",
                "monitor.thresholds.psy",
                "monitor.rules[0].confidence",
                "notify.email.password",
                "retrain[0].cron"
            ],
            "{told:#?}"
        );
        assert!(told.iter().all(|fault| !fault.contains("hunter2")));
        assert!(told[3].contains("unknown field `psy`"), "{}", told[3]);
    }

    #[test]
    fn a_file_that_is_no_toml_is_told_with_its_place() {
        let told = faults("[monitor]\nbucket = \n");
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains("(line 2, column"), "{told:?}");
    }

    #[test]
    fn thresholds_are_read_as_the_report_has_them() {
        let config = Config::parse("[monitor.thresholds]\npsi = 0.2\nkl = 1\nrows_min = 0x32\n").unwrap();
        let expected = Thresholds {
            psi: 0.2,
            kl: Some(1.0),
            rows_min: 50,
            ..Thresholds::default()
        };
        assert_eq!(config.monitor.thresholds, expected);
    }

    #[test]
    fn default_rules_follow_a_coarser_bucket() {
        let config = Config::parse("[monitor]\nbucket = \"10m\"\n").unwrap();
        let latency = config.monitor.rules.iter().find(|rule| rule.name == "latency").unwrap();
        assert_eq!(latency.window, Duration::from_secs(600));
        assert_eq!(config.monitor.windows, [3600, 86_400].map(Duration::from_secs));
        let no_data = config.monitor.rules.iter().find(|rule| rule.name == "no_data").unwrap();
        assert_eq!(no_data.window, Duration::from_secs(1200));
    }
}
