//! The routes that every home has, and the component's own HTTP handler.

use super::metrics::{Metrics, Outcome};
use super::{BODY_BYTES_MAX, BatchOptions, Format, JSON, Kind, PROBLEM_JSON, PROMETHEUS, Problem, ROWS_MAX, Service};

/// A route that every home has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Route {
    /// `POST /predict`
    Predict,
    /// `POST /predict/batch`
    PredictBatch,
    /// `GET /health`
    Health,
    /// `GET /ready`
    Ready,
    /// `GET /model/info`
    ModelInfo,
    /// `GET /metrics`
    Metrics,
    /// `GET /drift`: 503 `no_collector` anywhere but in the modelet host.
    Drift,
}

impl Route {
    /// The route at this path.
    pub fn from_path(path: &str) -> Option<Route> {
        Some(match path {
            "/predict" => Route::Predict,
            "/predict/batch" => Route::PredictBatch,
            "/health" => Route::Health,
            "/ready" => Route::Ready,
            "/model/info" => Route::ModelInfo,
            "/metrics" => Route::Metrics,
            "/drift" => Route::Drift,
            _ => return None,
        })
    }

    /// The path.
    pub fn path(self) -> &'static str {
        match self {
            Route::Predict => "/predict",
            Route::PredictBatch => "/predict/batch",
            Route::Health => "/health",
            Route::Ready => "/ready",
            Route::ModelInfo => "/model/info",
            Route::Metrics => "/metrics",
            Route::Drift => "/drift",
        }
    }

    /// The methods, as an `allow` header has them.
    pub fn allow(self) -> &'static str {
        match self {
            Route::Predict | Route::PredictBatch => "POST",
            _ => "GET, HEAD",
        }
    }

    /// The problem of a path that is none.
    pub fn not_found(path: &str) -> Problem {
        Problem::new(
            Kind::NotFound,
            format!(
                "{:?} is not a path of this server",
                &path[..path.floor_char_boundary(256)]
            ),
        )
    }

    /// The problem of a method that the route does not have.
    pub fn method_not_allowed(self, method: &str) -> Problem {
        Problem::new(
            Kind::MethodNotAllowed,
            format!(
                "{} has the method {} but got {:?}",
                self.path(),
                self.allow(),
                &method[..method.floor_char_boundary(32)]
            ),
        )
    }
}

/// The first value of a query parameter, as it stands in the query.
pub fn query_value<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| *key == name)
        .map(|(_, value)| value)
}

/// What a home's HTTP server knows of a request.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The method, upper case.
    pub method: &'a str,
    /// Path and query.
    pub target: &'a str,
    /// The header `content-type`.
    pub content_type: Option<&'a str>,
    /// The header `x-request-id`.
    pub request_id: Option<&'a str>,
    /// The body; `None` if it was larger than [`BODY_BYTES_MAX`].
    pub body: Option<&'a [u8]>,
}

/// What a home's HTTP server sends.
#[derive(Debug)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The header `content-type`.
    pub content_type: &'static str,
    /// The header `allow`, for 405.
    pub allow: Option<&'static str>,
    /// The header `x-request-id`.
    pub request_id: Option<String>,
    /// The body; the header `content-length` is its length, also for HEAD.
    pub body: Vec<u8>,
}

impl Response {
    fn new(content_type: &'static str, body: Vec<u8>) -> Response {
        Response {
            status: 200,
            content_type,
            allow: None,
            request_id: None,
            body,
        }
    }
}

impl From<Problem> for Response {
    fn from(problem: Problem) -> Response {
        Response {
            status: problem.kind.status(),
            ..Response::new(PROBLEM_JSON, problem.body)
        }
    }
}

/// A component's own HTTP handler: answers every route by itself.
pub fn handle(service: &mut Service, metrics: &mut Metrics, request: Request<'_>, clock: impl Fn() -> u64) -> Response {
    let (path, query) = match request.target.split_once('?') {
        Some((path, query)) => (path, query),
        None => (request.target, ""),
    };
    let id = request.request_id.filter(|id| super::valid_request_id(id));
    let Some(route) = Route::from_path(path) else {
        metrics.count(None, 404);
        return Response {
            request_id: id.map(str::to_owned),
            ..Response::from(Route::not_found(path).with_id(id))
        };
    };
    let allowed = match route {
        Route::Predict | Route::PredictBatch => request.method == "POST",
        _ => matches!(request.method, "GET" | "HEAD"),
    };
    let mut response = if !allowed {
        Response {
            allow: Some(route.allow()),
            ..Response::from(route.method_not_allowed(request.method).with_id(id))
        }
    } else {
        match route {
            Route::Health => Response::new(JSON, b"{\"status\":\"ok\"}".to_vec()),
            Route::Ready => Response::new(JSON, b"{\"status\":\"ready\"}".to_vec()),
            Route::ModelInfo => Response::new(JSON, service.model().info().as_bytes().to_vec()),
            Route::Metrics => Response::new(PROMETHEUS, metrics.render(service).into_bytes()),
            Route::Drift => Response::from(Problem::new(
                Kind::NoCollector,
                "drift is aggregated by a modelet host; see GET /drift there",
            )),
            Route::Predict | Route::PredictBatch => predict(service, metrics, route, query, request, id, clock),
        }
    };
    metrics.count(Some(route), response.status);
    response.request_id = response.request_id.or_else(|| id.map(str::to_owned));
    response
}

fn predict(
    service: &mut Service,
    metrics: &mut Metrics,
    route: Route,
    query: &str,
    request: Request<'_>,
    id: Option<&str>,
    clock: impl Fn() -> u64,
) -> Response {
    let Some(body) = request.body else {
        return Response::from(
            Problem::new(
                Kind::BodyTooLarge,
                format!("the body has more than {BODY_BYTES_MAX} bytes"),
            )
            .with_id(id),
        );
    };
    let reply = if route == Route::Predict {
        match Format::check_single(request.content_type) {
            Ok(()) => service.predict(body, id, clock),
            Err(problem) => return Response::from(problem.with_id(id)),
        }
    } else {
        match BatchOptions::from_request(query, request.content_type, ROWS_MAX) {
            Ok(options) => service.predict_batch(body, options, id, clock),
            Err(problem) => return Response::from(problem.with_id(id)),
        }
    };
    metrics.observe(Outcome::from(&reply));
    let mut response = match reply.problem {
        Some(problem) => Response::from(problem),
        None => Response::new(JSON, reply.body),
    };
    response.request_id = reply.id;
    response
}
