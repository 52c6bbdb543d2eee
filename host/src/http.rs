//! The host's HTTP routes: a request's bytes go to a model's component, its
//! answer's bytes go back.
//!
//! Nothing here reads a feature. The routes that every home has answer as the
//! component's own handler does (`modelet::api`); some more are the host's
//! only. Several models are served side by side under `/models/<name>`; the
//! first one also at the root.

mod body;
mod id;
mod monitoring;
mod openapi;

use crate::artifact::Artifact;
use crate::metrics::{self, Counters, Failure};
use crate::monitor::Monitor;
use crate::monitor::watch::Watched;
use crate::pages::{self, Page};
use crate::runtime::{CallError, Called, Loaded, Observation};
use body::{BodyError, BodyLimits, Budget, Whole};
use http::header::{
    ACCEPT_ENCODING, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_ENCODING,
    CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, EXPECT, IF_NONE_MATCH, ORIGIN, RETRY_AFTER, VARY,
};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use id::{RequestId, X_REQUEST_ID};
use modelet::api::{self, BatchOptions, Format, Kind, Problem, Route};
use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use tokio::sync::Semaphore;

/// Target of the access log's events.
pub const ACCESS_LOG: &str = "modelet::access";

/// A body up to this size is answered on the thread that read it; a larger one
/// is likely to be a batch that would keep other connections waiting.
const INLINE_BYTES_MAX: usize = 16 << 10;
/// So is a call if the ones before took longer than this.
const INLINE_TIME_NS_MAX: u64 = 1_000_000;

/// Questions about drift read much of the store; so many at a time.
const QUESTIONS_MAX: usize = 2;

/// For how many seconds a browser may remember that a page of another origin
/// may post observations.
const PREFLIGHT_KEPT_S: &str = "600";

const HTML: &str = "text/html; charset=utf-8";
const BROTLI: &str = "br";
const OCTETS: &str = "application/octet-stream";
/// The pages bring their own scripts and styles, and ask only this server.
const PAGE_POLICY: &str = "default-src 'self'; script-src 'self' 'unsafe-inline' 'wasm-unsafe-eval'; style-src 'self' 'unsafe-inline'; frame-ancestors 'none'";

/// The documentation of a model's API, made in the browser from
/// `openapi.json`. It loads nothing from elsewhere.
const DOCS: &[u8] = include_bytes!("../assets/docs.html");

/// What is at a path.
#[derive(Clone, Copy, Debug)]
enum Target {
    Every(Route),
    OpenApi,
    Docs,
    Bundle,
    Feedback,
    Observe,
    Page(Page),
}

/// The routes as metrics name them, in the order of [`Target::number`].
const ROUTES: [&str; 14] = [
    "/predict",
    "/predict/batch",
    "/health",
    "/ready",
    "/model/info",
    "/metrics",
    "/drift",
    "/openapi.json",
    "/docs",
    "/model/bundle",
    "/feedback",
    "/observe",
    "page",
    "other",
];
const OTHER: usize = ROUTES.len() - 1;
/// The routes for predictions, whose requests are timed.
const ROUTES_TIMED: usize = 2;

impl Target {
    fn from_path(path: &str) -> Option<Target> {
        if let Some(route) = Route::from_path(path) {
            return Some(Target::Every(route));
        }
        match path {
            "/openapi.json" => Some(Target::OpenApi),
            "/docs" => Some(Target::Docs),
            "/model/bundle" => Some(Target::Bundle),
            "/feedback" => Some(Target::Feedback),
            "/observe" => Some(Target::Observe),
            path => pages::page(path).map(Target::Page),
        }
    }

    fn number(self) -> usize {
        match self {
            Target::Every(Route::Predict) => 0,
            Target::Every(Route::PredictBatch) => 1,
            Target::Every(Route::Health) => 2,
            Target::Every(Route::Ready) => 3,
            Target::Every(Route::ModelInfo) => 4,
            Target::Every(Route::Metrics) => 5,
            Target::Every(Route::Drift) => 6,
            Target::OpenApi => 7,
            Target::Docs => 8,
            Target::Bundle => 9,
            Target::Feedback => 10,
            Target::Observe => 11,
            Target::Page(_) => 12,
        }
    }

    fn allow(self) -> &'static str {
        match self {
            Target::Every(route) => route.allow(),
            Target::Feedback | Target::Observe => "POST",
            _ => "GET, HEAD",
        }
    }

    fn has(self, method: &Method) -> bool {
        match self {
            Target::Every(Route::Predict | Route::PredictBatch) | Target::Feedback | Target::Observe => {
                method == Method::POST
            }
            _ => method == Method::GET || method == Method::HEAD,
        }
    }
}

/// A model that is served.
pub struct Served {
    name: String,
    version: String,
    sha256: String,
    features: Vec<String>,
    loaded: Arc<Loaded>,
    counters: Arc<Counters>,
    watched: Option<Arc<Watched>>,
    info: Bytes,
    openapi: Bytes,
    bundle_path: Option<PathBuf>,
    bundle_etag: String,
    bundle: OnceLock<Option<Bytes>>,
    /// How long a call for one record and for a batch took lately, moving
    /// averages.
    recent_ns: [AtomicU64; 2],
}

impl Served {
    /// A loaded model, at the root of the server or under its name; `watch`
    /// makes what watches it, if it is watched.
    pub fn new(
        artifact: &Artifact,
        loaded: Arc<Loaded>,
        at_root: bool,
        watch: Option<impl FnOnce(Arc<Counters>) -> Watched>,
    ) -> Served {
        let manifest = &artifact.manifest;
        let base = if at_root {
            "/"
        } else {
            &format!("/models/{}", manifest.name)
        };
        let mut info = loaded.info().to_owned();
        // The component can't know the hash of the file that it is in.
        if info.pop() == Some('}') {
            info.push_str(&format!(",\"file_sha256\":\"{}\"}}", artifact.file_sha256));
        }
        let monitored = manifest.reference.columns.iter().map(|column| &column.bins);
        let counters = Arc::new(Counters::new(
            &ROUTES,
            ROUTES_TIMED,
            manifest.features.len(),
            monitored.filter(|_| watch.is_some()),
        ));
        Served {
            watched: watch.map(|watch| Arc::new(watch(Arc::clone(&counters)))),
            name: manifest.name.clone(),
            version: manifest.version.clone(),
            sha256: artifact.bundle_sha256.clone(),
            features: manifest.features.iter().map(|feature| feature.name.clone()).collect(),
            counters,
            info: info.into(),
            openapi: openapi::document(artifact, base).into(),
            bundle_path: artifact.path.as_ref().map(|path| path.with_extension("bundle")),
            bundle_etag: format!("\"{}\"", artifact.bundle_sha256),
            bundle: OnceLock::new(),
            recent_ns: [const { AtomicU64::new(0) }; 2],
            loaded,
        }
    }

    /// What watches the model, if it is watched.
    pub fn watched(&self) -> Option<&Arc<Watched>> {
        self.watched.as_ref()
    }

    fn call(&self, body: &[u8], options: Option<BatchOptions>, id: &RequestId) -> Called {
        match options {
            Some(options) => self.loaded.predict_batch(body, options, Some(id.as_str())),
            None => self.loaded.predict(body, Some(id.as_str())),
        }
    }

    /// Updates the moving average; what is lost in a race does not matter.
    fn note_time(&self, batch: bool, time_ns: u64) {
        let recent = &self.recent_ns[usize::from(batch)];
        let recent_ns = recent.load(Ordering::Relaxed);
        recent.store(recent_ns - recent_ns / 8 + time_ns / 8, Ordering::Relaxed);
    }

    /// The bundle beside the component, if it is the one inside it.
    async fn bundle(self: &Arc<Self>) -> Option<Bytes> {
        if let Some(bundle) = self.bundle.get() {
            return bundle.clone();
        }
        let model = Arc::clone(self);
        let read = tokio::task::spawn_blocking(move || {
            let bytes = std::fs::read(model.bundle_path.as_ref()?).ok()?;
            (modelet::bundle::sha256_hex(&bytes) == model.sha256).then(|| Bytes::from(bytes))
        });
        let bundle = read.await.ok().flatten();
        self.bundle.get_or_init(|| bundle).clone()
    }
}

/// The limits that requests are held to.
#[derive(Clone, Debug)]
pub struct HttpLimits {
    /// The most bytes of a request's body.
    pub body_bytes_max: usize,
    /// The most bytes that the larger bodies may need together.
    pub bodies_bytes_max: usize,
    /// The most records of a batch.
    pub batch_rows_max: u32,
    /// The longest that a body may take to arrive.
    pub body_read_timeout: Duration,
    /// The longest that a request may wait for others.
    pub queue_timeout: Duration,
    /// How many long calls run at a time.
    pub long_calls_max: usize,
}

/// Models behind their routes.
pub struct Server {
    models: Vec<Arc<Served>>,
    bodies: BodyLimits,
    batch_rows_max: u32,
    queue_timeout: Duration,
    long_calls: Arc<Semaphore>,
    /// Questions about drift that are answered at a time.
    questions: Arc<Semaphore>,
    draining: AtomicBool,
    monitor: Option<Arc<Monitor>>,
}

impl Server {
    /// A server of these models, of which there is at least one.
    pub fn new(models: Vec<Served>, limits: &HttpLimits, monitor: Option<Arc<Monitor>>) -> Server {
        Server {
            models: models.into_iter().map(Arc::new).collect(),
            bodies: BodyLimits {
                bytes_max: limits.body_bytes_max,
                read_timeout: limits.body_read_timeout,
                budget: Budget::new(limits.bodies_bytes_max),
            },
            batch_rows_max: limits.batch_rows_max,
            queue_timeout: limits.queue_timeout,
            long_calls: Arc::new(Semaphore::new(limits.long_calls_max)),
            questions: Arc::new(Semaphore::new(QUESTIONS_MAX)),
            draining: AtomicBool::new(false),
            monitor,
        }
    }

    /// From now on `/ready` says no.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// The model that a path is about, and the path within its routes.
    fn resolve<'a>(&self, path: &'a str) -> (&Arc<Served>, &'a str) {
        if let Some(rest) = path.strip_prefix("/models/")
            && let Some(end) = rest.find('/')
            && let Some(model) = self.models.iter().find(|model| model.name == rest[..end])
        {
            return (model, &rest[end..]);
        }
        (&self.models[0], path)
    }

    /// Answers a request; whatever happens, there is an answer.
    pub async fn answer(
        self: Arc<Server>,
        request: http::Request<Incoming>,
    ) -> Result<http::Response<Full<Bytes>>, Infallible> {
        let start = Instant::now();
        let (head, body) = request.into_parts();
        let (model, path) = self.resolve(head.uri.path());
        let _in_flight = model.counters.in_flight();
        let id = RequestId::of(&head.headers);
        let target = Target::from_path(path);
        let page = self.page(target, &head.headers);
        let answer = match target {
            Some(_) if page.is_some() && head.method == Method::OPTIONS => Answer::preflight(),
            None => Answer::problem(Route::not_found(path), &id),
            Some(target) if !target.has(&head.method) => method_not_allowed(target, path, &head.method, &id),
            Some(Target::Every(Route::Predict)) => self.predict(model, &head, body, false, &id).await,
            Some(Target::Every(Route::PredictBatch)) => self.predict(model, &head, body, true, &id).await,
            Some(Target::Feedback) => self.feedback(model, &head, body, &id).await,
            Some(Target::Observe) => self.observe(&head, body, &id).await,
            Some(Target::Every(Route::Metrics)) => Arc::clone(&self).metrics(&head.headers, &id).await,
            Some(Target::Every(Route::Drift)) => self.drift(model, &head, &id).await,
            Some(target) => self.get(model, target, &head.headers, &id).await,
        };
        let duration = start.elapsed();
        let route = target.map_or(OTHER, Target::number);
        model.counters.request(route, answer.status.as_u16(), duration);
        tracing::info!(
            target: ACCESS_LOG,
            method = head.method.as_str(),
            path = head.uri.path(),
            status = answer.status.as_u16(),
            duration_us = duration.as_nanos() as f64 / 1e3,
            inference_us = answer.inference_ns as f64 / 1e3,
            rows = answer.rows,
            bytes_in = answer.bytes_in,
            bytes_out = answer.body.len(),
            request_id = answer.id.as_deref().unwrap_or(id.as_str()),
            traceparent = text(&head.headers, "traceparent"),
            model = model.name,
            version = model.version,
            sha256 = model.sha256,
        );
        let answer = Answer { page, ..answer };
        Ok(answer.into_response(id, &head.method, head.headers))
    }

    /// The origin of a page elsewhere that may see the answer: one that is
    /// configured, and only where observations are posted.
    fn page(&self, target: Option<Target>, headers: &HeaderMap) -> Option<HeaderValue> {
        let (Some(Target::Observe), Some(monitor)) = (target, &self.monitor) else {
            return None;
        };
        let origin = headers.get(ORIGIN)?;
        let known = monitor
            .origins()
            .iter()
            .any(|known| known.as_bytes() == origin.as_bytes());
        known.then(|| origin.clone())
    }

    async fn predict(&self, model: &Arc<Served>, head: &Parts, body: Incoming, batch: bool, id: &RequestId) -> Answer {
        let options = match self.options(head, batch) {
            Ok(options) => options,
            Err(problem) => return Answer::problem(problem, id),
        };
        let expect_continue = head.headers.contains_key(EXPECT);
        let whole = match body::read(body, &self.bodies, expect_continue).await {
            Ok(whole) => whole,
            Err(error) => return self.unread(error, id),
        };
        let recent_ns = model.recent_ns[usize::from(batch)].load(Ordering::Relaxed);
        let called = if whole.bytes.len() <= INLINE_BYTES_MAX && recent_ns <= INLINE_TIME_NS_MAX {
            model.call(&whole.bytes, options, id)
        } else {
            self.long_call(model, &whole, options, id).await
        };
        let answer = match called {
            Ok(Ok(reply)) => {
                model.counters.inference(reply.inference_ns);
                model.note_time(batch, reply.inference_ns);
                Answer {
                    id: reply.id,
                    inference_ns: reply.inference_ns,
                    ..Answer::new(StatusCode::OK, api::JSON, reply.body).with_rows(model, &reply.observation)
                }
                .kept(model, id, &reply.observation)
            }
            Ok(Err(problem)) => {
                let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                Answer {
                    id: problem.id,
                    ..Answer::new(status, api::PROBLEM_JSON, problem.body).with_rows(model, &problem.observation)
                }
            }
            Err(error) => fail(model, &error, batch, id),
        };
        Answer {
            bytes_in: whole.bytes.len(),
            ..answer
        }
    }

    /// How a body is to be read; `None` for a single record.
    fn options(&self, head: &Parts, batch: bool) -> Result<Option<BatchOptions>, Problem> {
        if let Some(encoding) = text(&head.headers, CONTENT_ENCODING)
            && !encoding.eq_ignore_ascii_case("identity")
        {
            return Err(Problem::new(
                Kind::UnsupportedMediaType,
                format!("content-encoding {encoding:?} is not accepted; send the body as it is"),
            ));
        }
        let content_type = text(&head.headers, CONTENT_TYPE);
        if batch {
            let query = head.uri.query().unwrap_or("");
            return BatchOptions::from_request(query, content_type, self.batch_rows_max).map(Some);
        }
        Format::check_single(content_type).map(|()| None)
    }

    /// A call that would keep other connections waiting, on a thread of its
    /// own; only so many run at a time as there are processors for.
    async fn long_call(
        &self,
        model: &Arc<Served>,
        whole: &Whole<'_>,
        options: Option<BatchOptions>,
        id: &RequestId,
    ) -> Called {
        let queued = tokio::time::timeout(self.queue_timeout, Arc::clone(&self.long_calls).acquire_owned());
        let Ok(Ok(permit)) = queued.await else {
            return Err(CallError::Busy);
        };
        let (model, body, id) = (Arc::clone(model), whole.bytes.clone(), id.clone());
        let call = tokio::task::spawn_blocking(move || {
            let called = model.call(&body, options, &id);
            drop(permit);
            called
        });
        call.await
            .unwrap_or_else(|error| Err(CallError::Trap(format!("the call did not end: {error}"))))
    }

    /// The answer to a request whose body was not read.
    fn unread(&self, error: BodyError, id: &RequestId) -> Answer {
        let problem = match error {
            BodyError::TooLarge => Problem::new(
                Kind::BodyTooLarge,
                format!("the body has more than {} bytes", self.bodies.bytes_max),
            ),
            BodyError::Slow => Problem::new(
                Kind::RequestTimeout,
                format!(
                    "the body did not arrive within {} ms",
                    self.bodies.read_timeout.as_millis()
                ),
            ),
            BodyError::Broken(error) => Problem::new(Kind::MalformedBody, format!("the body broke off: {error}")),
            BodyError::Crowded => Problem::new(Kind::NotReady, "too many large bodies are being read; try again later"),
        };
        let close = problem.kind == Kind::RequestTimeout;
        Answer {
            close,
            ..Answer::problem(problem, id)
        }
    }

    async fn get(&self, model: &Arc<Served>, target: Target, headers: &HeaderMap, id: &RequestId) -> Answer {
        let ok = |content_type, body: Bytes| Answer::new(StatusCode::OK, content_type, body);
        match target {
            Target::Every(Route::Health) => ok(api::JSON, Bytes::from_static(b"{\"status\":\"ok\"}")),
            Target::Every(Route::Ready) if self.draining.load(Ordering::Relaxed) => {
                Answer::problem(Problem::new(Kind::NotReady, "the server is shutting down"), id)
            }
            Target::Every(Route::Ready) => ok(api::JSON, Bytes::from_static(b"{\"status\":\"ready\"}")),
            Target::Every(Route::ModelInfo) => ok(api::JSON, model.info.clone()),
            Target::OpenApi => ok(api::JSON, model.openapi.clone()),
            Target::Docs => ok(HTML, Bytes::from_static(DOCS)),
            Target::Bundle => match model.bundle().await {
                Some(bundle) => unless_known(headers, &model.bundle_etag, || ok(OCTETS, bundle)),
                None => Answer::problem(
                    Problem::new(
                        Kind::NotFound,
                        "the model's bundle is not beside its component, or is another model's",
                    ),
                    id,
                ),
            },
            // The others are answered before.
            Target::Every(_) | Target::Feedback | Target::Observe => {
                Answer::problem(Problem::new(Kind::Internal, "the route has no answer"), id)
            }
            Target::Page(page) => {
                let brotli = page.brotli.filter(|_| accepts(headers, BROTLI));
                let encoding = brotli.map(|_| BROTLI);
                let etag = page.etag(encoding);
                Answer {
                    encoding,
                    encoded_on_request: page.brotli.is_some(),
                    ..unless_known(headers, &etag, || {
                        ok(page.content_type, Bytes::from_static(brotli.unwrap_or(page.bytes)))
                    })
                }
            }
        }
    }

    /// Prometheus' metrics, which wait for the monitor while it saves.
    async fn metrics(self: Arc<Server>, headers: &HeaderMap, id: &RequestId) -> Answer {
        let rendered = tokio::task::spawn_blocking(move || {
            let subjects: Vec<metrics::Subject<'_>> = self
                .models
                .iter()
                .map(|model| metrics::Subject {
                    name: &model.name,
                    version: &model.version,
                    sha256: &model.sha256,
                    features: &model.features,
                    counters: &model.counters,
                    watched: model.watched.as_deref(),
                })
                .collect();
            let monitor = self.monitor.as_ref();
            let windows = monitor.map_or(&[][..], |monitor| monitor.windows());
            let store = monitor.and_then(|monitor| monitor.folder());
            metrics::render(&subjects, windows, store)
        });
        let Ok(text) = rendered.await else {
            return Answer::problem(Problem::new(Kind::Internal, "the metrics can't be written"), id);
        };
        let accept = self::text(headers, "accept").unwrap_or("");
        if accept.contains("application/openmetrics-text") {
            Answer::new(StatusCode::OK, metrics::OPENMETRICS, metrics::openmetrics(&text))
        } else {
            Answer::new(StatusCode::OK, api::PROMETHEUS, text)
        }
    }
}

fn method_not_allowed(target: Target, path: &str, method: &Method, id: &RequestId) -> Answer {
    let allow = target.allow();
    let method = method.as_str();
    let method = &method[..method.floor_char_boundary(32)];
    let detail = format!("{path} has the method {allow} but got {method:?}");
    Answer {
        allow: Some(allow),
        ..Answer::problem(Problem::new(Kind::MethodNotAllowed, detail), id)
    }
}

/// The answer to a request that the model failed on. The client is told what it
/// can change; the log is told why.
fn fail(model: &Served, error: &CallError, batch: bool, id: &RequestId) -> Answer {
    let (failure, kind) = match error {
        CallError::Deadline => (Failure::Deadline, Kind::DeadlineExceeded),
        CallError::Memory { .. } if batch => (Failure::Memory, Kind::BatchTooLarge),
        CallError::Memory { .. } => (Failure::Memory, Kind::Internal),
        CallError::Trap(_) => (Failure::Trap, Kind::Internal),
        CallError::Busy => (Failure::Busy, Kind::NotReady),
    };
    model.counters.failure(failure);
    tracing::error!(
        request_id = id.as_str(),
        model = model.name,
        sha256 = model.sha256,
        "{error}"
    );
    let detail = match error {
        CallError::Trap(_) => "the model failed on this request; the log of the server says why".to_owned(),
        error => error.to_string(),
    };
    Answer::problem(Problem::new(kind, detail), id)
}

/// Whether the client takes a body in this content coding: RFC 9110, 12.5.3.
fn accepts(headers: &HeaderMap, coding: &str) -> bool {
    let accepted = text(headers, ACCEPT_ENCODING).unwrap_or("");
    accepted.split(',').any(|item| {
        let mut parts = item.split(';').map(str::trim);
        let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(coding));
        let refused = parts
            .filter_map(|part| part.strip_prefix("q=")?.parse::<f32>().ok())
            .any(|weight| weight == 0.0);
        named && !refused
    })
}

/// An answer that the client may keep and ask after by its tag; nothing but
/// the tag if it has kept it.
fn unless_known(headers: &HeaderMap, etag: &str, answer: impl FnOnce() -> Answer) -> Answer {
    let known = text(headers, IF_NONE_MATCH).unwrap_or("");
    let known = known.split(',').any(|tag| tag.trim().trim_start_matches("W/") == etag);
    let answer = match known {
        true => Answer::new(StatusCode::NOT_MODIFIED, OCTETS, Bytes::new()),
        false => answer(),
    };
    Answer {
        etag: HeaderValue::from_str(etag).ok(),
        ..answer
    }
}

/// A header's value, if it is one of text.
fn text(headers: &HeaderMap, name: impl http::header::AsHeaderName) -> Option<&str> {
    // What is not text is no value that anything here accepts.
    headers.get(name).map(|value| value.to_str().unwrap_or("\u{fffd}"))
}

/// An answer before it is put into HTTP's words.
struct Answer {
    status: StatusCode,
    content_type: &'static str,
    body: Bytes,
    allow: Option<&'static str>,
    etag: Option<HeaderValue>,
    /// The content coding of the body.
    encoding: Option<&'static str>,
    /// The coding depends on what the client takes.
    encoded_on_request: bool,
    close: bool,
    retry: bool,
    /// The origin of the page elsewhere that may see it.
    page: Option<HeaderValue>,
    /// The id that the request's body brought, in place of the header's.
    id: Option<String>,
    rows: usize,
    bytes_in: usize,
    inference_ns: u64,
}

impl Answer {
    fn new(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
        Answer {
            status,
            content_type,
            body: body.into(),
            allow: None,
            etag: None,
            encoding: None,
            encoded_on_request: false,
            close: false,
            retry: false,
            page: None,
            id: None,
            rows: 0,
            bytes_in: 0,
            inference_ns: 0,
        }
    }

    /// Says that a page elsewhere may post JSON here.
    fn preflight() -> Answer {
        Answer::new(StatusCode::NO_CONTENT, "", Bytes::new())
    }

    fn problem(problem: Problem, id: &RequestId) -> Answer {
        let status = StatusCode::from_u16(problem.kind.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Answer {
            retry: problem.kind == Kind::NotReady,
            ..Answer::new(status, api::PROBLEM_JSON, problem.with_id(Some(id.as_str())).body)
        }
    }

    fn with_rows(self, model: &Served, observation: &Observation) -> Answer {
        model.counters.rows(observation);
        Answer {
            rows: observation.status.len(),
            ..self
        }
    }

    /// Keeps the predictions until their labels come.
    fn kept(self, model: &Served, id: &RequestId, observation: &Observation) -> Answer {
        if let Some(watched) = &model.watched {
            watched.predicted(self.id.as_deref().unwrap_or(id.as_str()), observation);
        }
        self
    }

    /// The response. The request's map of headers becomes the answer's, so
    /// that a connection needs one for all its requests.
    fn into_response(self, id: RequestId, method: &Method, mut headers: HeaderMap) -> http::Response<Full<Bytes>> {
        headers.clear();
        if !self.content_type.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        }
        let own_id = self.id.and_then(|id| HeaderValue::try_from(id).ok());
        headers.insert(X_REQUEST_ID, own_id.unwrap_or_else(|| id.into_header()));
        let mut optional = |name: HeaderName, value: Option<&'static str>| {
            if let Some(value) = value {
                headers.insert(name, HeaderValue::from_static(value));
            }
        };
        optional(ALLOW, self.allow);
        optional(CONNECTION, self.close.then_some("close"));
        optional(RETRY_AFTER, self.retry.then_some("1"));
        optional(CONTENT_ENCODING, self.encoding);
        optional(VARY, self.encoded_on_request.then_some("accept-encoding"));
        optional(CACHE_CONTROL, self.etag.is_some().then_some("no-cache"));
        optional(
            CONTENT_SECURITY_POLICY,
            (self.content_type == HTML).then_some(PAGE_POLICY),
        );
        if let Some(origin) = self.page {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(VARY, HeaderValue::from_static("origin"));
            let mut tell = |name: HeaderName, value| headers.insert(name, HeaderValue::from_static(value));
            if method == Method::OPTIONS {
                tell(ACCESS_CONTROL_ALLOW_METHODS, "POST");
                tell(ACCESS_CONTROL_ALLOW_HEADERS, "content-type, x-request-id");
                tell(ACCESS_CONTROL_MAX_AGE, PREFLIGHT_KEPT_S);
            } else {
                tell(ACCESS_CONTROL_EXPOSE_HEADERS, "x-request-id");
            }
        }
        if let Some(etag) = self.etag {
            headers.insert(ETAG, etag);
        }
        // Where the body is sent, its length is told by hyper.
        let body = if method == Method::HEAD {
            headers.insert(CONTENT_LENGTH, HeaderValue::from(self.body.len()));
            Bytes::new()
        } else {
            self.body
        };
        let mut response = http::Response::new(Full::new(body));
        *response.status_mut() = self.status;
        *response.headers_mut() = headers;
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coding_is_accepted_if_it_is_named_and_not_refused() {
        for (accepted, expected) in [
            ("br", true),
            ("gzip, deflate, BR, zstd", true),
            ("gzip;q=1.0, br;q=0.5", true),
            ("br;q=0", false),
            ("br; q=0.0", false),
            ("gzip", false),
            ("brotli", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_static(accepted))]);
            assert_eq!(accepts(&headers, BROTLI), expected, "{accepted}");
        }
        assert!(!accepts(&HeaderMap::new(), BROTLI));
    }
}
