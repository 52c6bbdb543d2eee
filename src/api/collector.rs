//! What an instance observed, on its way to a modelet host: which delta is to
//! be sent, and what becomes of it. The sending itself is the home's.
//!
//! One delta is on its way at a time; what is observed meanwhile goes into the
//! next. A delta whose push failed is sent again as it was, under the same
//! number, until it is acknowledged or refused: the host counts it once,
//! however often it arrives.

use crate::api::metrics::Outcome;
use crate::drift::delta::{self, Observed, Origin};
use crate::model::Model;

/// What became of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// The host has it.
    Acknowledged,
    /// The host does not want it, now or later; the status that it answered.
    Refused(u16),
    /// The host could not be reached, or not do it now.
    Failed,
}

impl Pushed {
    /// What an answer of this status means.
    pub fn from_status(status: u16) -> Pushed {
        match status {
            200..300 => Pushed::Acknowledged,
            408 | 429 | 500.. => Pushed::Failed,
            _ => Pushed::Refused(status),
        }
    }
}

/// The observations of one instance that a modelet host does not have yet.
#[derive(Debug)]
pub struct Collector {
    /// Of the next delta.
    origin: Origin,
    pending: Observed,
    sent: Option<Sent>,
    claimed: bool,
    counted: bool,
    totals: Totals,
}

/// A delta that is not acknowledged.
#[derive(Debug)]
struct Sent {
    body: Vec<u8>,
    rows: u64,
}

/// What became of pushes and rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Pushes that were acknowledged.
    pub acknowledged: u64,
    /// Pushes that were refused.
    pub refused: u64,
    /// Pushes that failed.
    pub failed: u64,
    /// Rows of refused deltas.
    pub rows_dropped: u64,
}

impl Collector {
    /// A collector for an instance of this model: `instance` is its id, 128
    /// random bits; for `source` and `sample` see [`Origin`].
    pub fn new(model: &Model, instance: u128, source: impl Into<String>, sample: f64) -> Collector {
        Collector {
            origin: Origin {
                model: model.sha256().to_owned(),
                instance: format!("{instance:032x}"),
                sequence: 1,
                source: source.into(),
                sample,
            },
            pending: Observed::new(&model.manifest().reference),
            sent: None,
            claimed: false,
            counted: true,
            totals: Totals::default(),
        }
    }

    /// Decides whether the next request is counted: `random` gives 64 random
    /// bits, and is asked only where not all requests are.
    pub fn sample(&mut self, random: impl FnOnce() -> u64) {
        let share = self.origin.sample;
        self.counted = share >= 1.0 || (random() >> 11) as f64 / (1u64 << 53) as f64 <= share;
    }

    /// Counts the rows of a request for predictions.
    pub fn observe(&mut self, outcome: &Outcome<'_>) {
        let counts = &mut self.pending.counts;
        let width = counts.columns.len();
        // Bins of other columns than the manifest has can't be placed.
        if !self.counted || (width > 0 && width != outcome.columns as usize) {
            return;
        }
        counts.add_rows(outcome.rows, outcome.bins, outcome.faults);
        if outcome.answered {
            self.pending.time(outcome.inference_ns);
        }
    }

    /// Counts a request for predictions by the status of its answer.
    pub fn count(&mut self, status: u16) {
        if self.counted {
            self.pending.requests.count(status);
        }
    }

    /// Whether the caller is to push: there is something, and nobody else does.
    /// It is the only one until [`Collector::release`].
    pub fn claim(&mut self) -> bool {
        let claimed = !self.claimed && self.due();
        self.claimed |= claimed;
        claimed
    }

    /// Ends what [`Collector::claim`] began.
    pub fn release(&mut self) {
        self.claimed = false;
    }

    /// Whether there is something to push.
    pub fn due(&self) -> bool {
        self.sent.is_some() || !self.pending.is_empty()
    }

    /// Notes what became of a push of [`Collector::delta`].
    pub fn settle(&mut self, pushed: Pushed) {
        match pushed {
            Pushed::Failed => {
                self.totals.failed += 1;
                return;
            }
            Pushed::Acknowledged => self.totals.acknowledged += 1,
            Pushed::Refused(_) => {
                self.totals.refused += 1;
                self.totals.rows_dropped += self.sent.as_ref().map_or(0, |sent| sent.rows);
            }
        }
        if self.sent.take().is_some() {
            self.origin.sequence += 1;
        }
    }

    /// The delta that is not acknowledged, or a new one of what is pending;
    /// `None` when there is neither.
    pub fn delta(&mut self) -> Option<&[u8]> {
        if self.sent.is_none() && !self.pending.is_empty() {
            self.sent = Some(Sent {
                body: delta::write(&self.origin, &self.pending),
                rows: self.pending.counts.answered + self.pending.counts.rejected,
            });
            self.pending.clear();
        }
        self.sent.as_ref().map(|sent| sent.body.as_slice())
    }

    /// Rows that the host does not have yet.
    pub fn rows_pending(&self) -> u64 {
        let pending = &self.pending.counts;
        pending.answered + pending.rejected + self.sent.as_ref().map_or(0, |sent| sent.rows)
    }

    /// What became of pushes so far.
    pub fn totals(&self) -> Totals {
        self.totals
    }
}

/// Where deltas go, as the environment says.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// `https` rather than `http`.
    pub secure: bool,
    /// Host, and port if there is one.
    pub authority: String,
    /// Path, ending in `/observe`.
    pub path: String,
    /// The header `authorization`.
    pub authorization: Option<String>,
    /// The source, if it is given.
    pub source: Option<String>,
    /// The share of requests that are counted.
    pub sample: f64,
}

impl Settings {
    /// Reads the variables `MODELET_COLLECTOR`, the URL of a modelet host, and
    /// with it `MODELET_COLLECTOR_KEY`, `MODELET_COLLECTOR_SOURCE` and
    /// `MODELET_COLLECTOR_SAMPLE`. `None` without the first.
    ///
    /// # Errors
    /// When one has no meaning; the text names it. A key is not repeated.
    pub fn from_environment(variables: &[(String, String)]) -> Result<Option<Settings>, String> {
        let value = |name: &str| {
            let (_, value) = variables.iter().find(|(n, _)| n == name)?;
            Some(value.trim()).filter(|value| !value.is_empty())
        };
        let Some(url) = value("MODELET_COLLECTOR") else {
            return Ok(None);
        };
        let (secure, authority, path) =
            parts(url).ok_or_else(|| format!("MODELET_COLLECTOR: expected http://HOST:PORT but got {url:?}"))?;
        let authorization = match value("MODELET_COLLECTOR_KEY") {
            Some(key) if !key.bytes().all(|b| b.is_ascii_graphic()) => {
                return Err("MODELET_COLLECTOR_KEY: expected visible ASCII characters".into());
            }
            key => key.map(|key| format!("Bearer {key}")),
        };
        let source = value("MODELET_COLLECTOR_SOURCE");
        if let Some(source) = source.filter(|source| !delta::valid_source(source)) {
            return Err(format!(
                "MODELET_COLLECTOR_SOURCE: expected 1 to 32 lower-case letters, digits, - and _, other than \"host\", \
                 but got {source:?}"
            ));
        }
        let sample = match value("MODELET_COLLECTOR_SAMPLE") {
            None => 1.0,
            Some(text) => text
                .parse()
                .ok()
                .filter(|share| *share > 0.0 && *share <= 1.0)
                .ok_or_else(|| format!("MODELET_COLLECTOR_SAMPLE: expected a share such as 0.1 but got {text:?}"))?,
        };
        Ok(Some(Settings {
            secure,
            authority,
            path,
            authorization,
            source: source.map(str::to_owned),
            sample,
        }))
    }
}

/// Scheme, authority and path of a collector's URL.
fn parts(url: &str) -> Option<(bool, String, String)> {
    let (scheme, rest) = url.split_once("://")?;
    let secure = match scheme {
        "http" => false,
        "https" => true,
        _ => return None,
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let plain = |text: &str| text.bytes().all(|b| b.is_ascii_graphic() && !b"?#\\\"<>@".contains(&b));
    if authority.is_empty() || !plain(authority) || !plain(path) {
        return None;
    }
    let path = path.trim_end_matches('/');
    let path = path.strip_suffix("/observe").unwrap_or(path);
    Some((secure, authority.to_owned(), format!("{path}/observe")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::metrics::Metrics;
    use crate::api::{Request, Service, handle};
    use crate::drift::delta::parse;
    use crate::signature::Manifest;

    fn service() -> Service {
        use crate::ops::{Op, cast::Cast};
        use crate::program::{Builder, Source};
        let mut builder = Builder::new(1);
        let to = crate::tensor::Dtype::Float32;
        let outputs = builder.push(Op::Cast(Cast { to }), vec![Source::Input(0)]);
        let column = |name: &str| serde_json::json!({"name": name, "bins": {"type": "numeric", "min": 0.0, "cuts": [1.0], "max": 2.0}});
        let manifest = serde_json::json!({
            "format": crate::signature::FORMAT, "name": "m", "version": "1", "engine": "tabular",
            "task": "regression", "batch": true,
            "features": [{"name": "x", "type": "number", "input": 0, "column": 0}],
            "inputs": [{"name": "x", "dtype": "float64", "shape": [1]}],
            "output": {"scores": [0], "width": 1, "kind": "value"},
            "reference": {"rows": 0, "columns": [column("x"), column("score")]},
            "provenance": {"modelet": "", "onnx_sha256": "", "onnx_bytes": 0, "opsets": {}, "operators": {}},
        });
        let bundle = crate::bundle::write(&[
            (
                crate::bundle::Section::Manifest,
                &serde_json::to_vec(&manifest).unwrap(),
            ),
            (crate::bundle::Section::Program, &builder.finish(outputs)),
        ]);
        Service::new(Model::load(bundle).unwrap())
    }

    fn ask(service: &mut Service, metrics: &mut Metrics, body: &str) -> u16 {
        let request = Request {
            method: "POST",
            target: "/predict",
            content_type: Some("application/json"),
            request_id: None,
            body: Some(body.as_bytes()),
        };
        handle(service, metrics, request, || 0).status
    }

    fn collecting(service: &Service, sample: f64) -> Metrics {
        let mut metrics = Metrics::default();
        metrics.collector = Some(Box::new(Collector::new(service.model(), 7, "spin", sample)));
        metrics
    }

    fn collector(metrics: &mut Metrics) -> &mut Collector {
        metrics.collector.as_mut().unwrap()
    }

    fn read(body: &[u8], manifest: &Manifest) -> (u64, u64, u64) {
        let delta = parse(body, manifest).unwrap();
        let counts = &delta.observed.counts;
        (delta.origin.sequence, counts.answered, counts.rejected)
    }

    #[test]
    fn a_delta_stays_the_same_until_it_is_acknowledged() {
        let mut service = service();
        let mut metrics = collecting(&service, 1.0);
        let manifest = service.model().manifest().clone();
        assert!(!collector(&mut metrics).claim());
        assert_eq!(collector(&mut metrics).delta(), None);
        assert_eq!(ask(&mut service, &mut metrics, "{\"features\":{\"x\":1}}"), 200);
        assert!(collector(&mut metrics).claim());
        let first = collector(&mut metrics).delta().unwrap().to_vec();
        assert_eq!(read(&first, &manifest), (1, 1, 0));
        // One is under way, so these wait for the next.
        assert_eq!(ask(&mut service, &mut metrics, "{\"features\":{\"x\":5}}"), 200);
        assert_eq!(ask(&mut service, &mut metrics, "{\"features\":{\"x\":\"a\"}}"), 422);
        assert!(!collector(&mut metrics).claim());
        assert_eq!(collector(&mut metrics).rows_pending(), 3);

        collector(&mut metrics).settle(Pushed::Failed);
        collector(&mut metrics).release();
        assert!(collector(&mut metrics).claim());
        assert_eq!(collector(&mut metrics).delta().unwrap(), first);
        collector(&mut metrics).settle(Pushed::Acknowledged);
        let second = collector(&mut metrics).delta().unwrap().to_vec();
        assert_eq!(read(&second, &manifest), (2, 1, 1));
        let delta = parse(&second, &manifest).unwrap();
        assert_eq!(
            (delta.observed.requests.answered, delta.observed.requests.rejected),
            (1, 1)
        );
        assert_eq!(delta.origin.model, service.model().sha256());
        assert_eq!(delta.origin.instance, format!("{:032x}", 7));
        collector(&mut metrics).settle(Pushed::Refused(404));
        assert!(!collector(&mut metrics).due());
        assert_eq!(collector(&mut metrics).delta(), None);
        assert_eq!(collector(&mut metrics).rows_pending(), 0);
        assert_eq!(
            collector(&mut metrics).totals(),
            Totals {
                acknowledged: 1,
                refused: 1,
                failed: 1,
                rows_dropped: 2
            }
        );
        let text = metrics.render(&service);
        for line in [
            "modelet_collector_pushes_total{model=\"m\",version=\"1\",scope=\"instance\",outcome=\"failed\"} 1",
            "modelet_collector_rows_pending{model=\"m\",version=\"1\",scope=\"instance\"} 0",
            "modelet_collector_rows_dropped_total{model=\"m\",version=\"1\",scope=\"instance\"} 2",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
    }

    #[test]
    fn a_sample_is_marked_and_not_scaled() {
        let mut service = service();
        let mut metrics = collecting(&service, 0.25);
        for random in [0, u64::MAX / 8, u64::MAX / 2, u64::MAX] {
            collector(&mut metrics).sample(|| random);
            ask(&mut service, &mut metrics, "{\"features\":{\"x\":1}}");
        }
        let manifest = service.model().manifest();
        let delta = parse(collector(&mut metrics).delta().unwrap(), manifest).unwrap();
        assert_eq!(delta.origin.sample, 0.25);
        assert_eq!(delta.observed.counts.answered, 2);
        assert_eq!(delta.observed.requests.answered, 2);
    }

    #[test]
    fn an_answer_says_whether_to_try_again() {
        for (status, pushed) in [
            (200, Pushed::Acknowledged),
            (202, Pushed::Acknowledged),
            (204, Pushed::Acknowledged),
            (302, Pushed::Refused(302)),
            (404, Pushed::Refused(404)),
            (408, Pushed::Failed),
            (422, Pushed::Refused(422)),
            (429, Pushed::Failed),
            (503, Pushed::Failed),
        ] {
            assert_eq!(Pushed::from_status(status), pushed);
        }
    }

    #[test]
    fn the_environment_says_where_deltas_go() {
        let read = |pairs: &[(&str, &str)]| {
            let pairs: Vec<(String, String)> = pairs.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
            Settings::from_environment(&pairs)
        };
        assert_eq!(read(&[("PATH", "/bin"), ("MODELET_COLLECTOR", " ")]), Ok(None));
        for (url, secure, authority, path) in [
            ("http://127.0.0.1:3000", false, "127.0.0.1:3000", "/observe"),
            ("http://[::1]:3000/", false, "[::1]:3000", "/observe"),
            ("https://m.example/fleet/", true, "m.example", "/fleet/observe"),
            ("https://m.example/fleet/observe", true, "m.example", "/fleet/observe"),
        ] {
            let settings = read(&[("MODELET_COLLECTOR", url)]).unwrap().unwrap();
            assert_eq!(
                (settings.secure, settings.authority.as_str(), settings.path.as_str()),
                (secure, authority, path)
            );
            assert_eq!(
                (settings.source, settings.authorization, settings.sample),
                (None, None, 1.0)
            );
        }
        let url = ("MODELET_COLLECTOR", "http://h");
        let all = read(&[
            url,
            ("MODELET_COLLECTOR_KEY", "k1"),
            ("MODELET_COLLECTOR_SOURCE", "edge"),
            ("MODELET_COLLECTOR_SAMPLE", "0.1"),
        ])
        .unwrap()
        .unwrap();
        assert_eq!(all.authorization.as_deref(), Some("Bearer k1"));
        assert_eq!((all.source.as_deref(), all.sample), (Some("edge"), 0.1));
        for (name, value) in [
            ("MODELET_COLLECTOR", "127.0.0.1:3000"),
            ("MODELET_COLLECTOR", "ftp://h"),
            ("MODELET_COLLECTOR", "http://"),
            ("MODELET_COLLECTOR", "http://u:p@h"),
            ("MODELET_COLLECTOR", "http://h/?a=b"),
            ("MODELET_COLLECTOR_KEY", "a b"),
            ("MODELET_COLLECTOR_SOURCE", "host"),
            ("MODELET_COLLECTOR_SAMPLE", "0"),
            ("MODELET_COLLECTOR_SAMPLE", "10%"),
            ("MODELET_COLLECTOR_SAMPLE", "NaN"),
        ] {
            let error = read(&[(name, value), url]).unwrap_err();
            assert!(error.starts_with(&format!("{name}: expected")), "{error}");
            assert!(name != "MODELET_COLLECTOR_KEY" || !error.contains(value));
        }
    }
}
