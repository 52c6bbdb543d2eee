//! The typed exports of a packed component: conversions only.
//!
//! A component holds one model. `init` puts it there while `modelet pack`
//! runs, and the snapshot that becomes the component keeps it.

mod collector;
#[cfg(feature = "wasi-0-2")]
mod entry_0_2;
#[cfg(not(feature = "wasi-0-2"))]
mod entry_0_3;

use crate::api::metrics::Metrics;
use crate::api::{self, BatchOptions, Reply, Request, Response, Service};
use crate::model::Model;
use std::cell::{Cell, RefCell};
use std::time::Instant;

mod bindings {
    wit_bindgen::generate!({
        path: "wit",
        world: "model",
        generate_all,
    });
}

use bindings::exports::modelet::inference::predictor as wit;

struct Component;

bindings::export!(Component with_types_in bindings);

/// The model and the counters of this instance.
struct Instance {
    service: Service,
    metrics: Metrics,
    /// Where observations go; `None` before the first request asks.
    collector: Option<collector::Target>,
}

thread_local! {
    static INSTANCE: RefCell<Option<Instance>> = const { RefCell::new(None) };
}

/// Runs `f` on the loaded model; `None` in a generic component.
fn with_instance<R>(f: impl FnOnce(&mut Instance) -> R) -> Option<R> {
    INSTANCE.with_borrow_mut(|instance| instance.as_mut().map(f))
}

/// Nanoseconds since some moment.
fn clock() -> u64 {
    thread_local! {
        static START: Instant = Instant::now();
    }
    START.with(|start| start.elapsed().as_nanos() as u64)
}

thread_local! {
    /// Whether a panic's message is written to standard error. A typed call is
    /// silent: there the host tells, and must not be called back meanwhile.
    static PANICS_ARE_TOLD: Cell<bool> = const { Cell::new(false) };
}

/// A request without its body, as both WASI versions have it.
struct Head {
    method: String,
    target: String,
    content_type: Option<String>,
    request_id: Option<String>,
    /// Whether it came through Spin.
    spin: bool,
}

/// Answers an HTTP request; the entry points of both WASI versions call it. There
/// is no body if it is larger than is accepted.
fn handle(head: &Head, body: Option<&[u8]>) -> Response {
    PANICS_ARE_TOLD.set(true);
    let request = Request {
        method: &head.method,
        target: &head.target,
        content_type: head.content_type.as_deref(),
        request_id: head.request_id.as_deref(),
        body,
    };
    with_instance(|instance| {
        collector::prepare(instance, head.spin);
        api::handle(&mut instance.service, &mut instance.metrics, request, clock)
    })
    .unwrap_or_else(|| not_packed().into())
}

/// A method's name; both WASI versions have the same enumeration, as types of
/// their own.
macro_rules! method {
    ($Method:ident, $method:expr) => {
        match $method {
            $Method::Get => "GET".to_owned(),
            $Method::Head => "HEAD".to_owned(),
            $Method::Post => "POST".to_owned(),
            $Method::Put => "PUT".to_owned(),
            $Method::Delete => "DELETE".to_owned(),
            $Method::Connect => "CONNECT".to_owned(),
            $Method::Options => "OPTIONS".to_owned(),
            $Method::Trace => "TRACE".to_owned(),
            $Method::Patch => "PATCH".to_owned(),
            $Method::Other(name) => name,
        }
    };
}
use method;

/// The first value of a header. Text is visible ASCII, spaces and tabs in HTTP;
/// what is not is no value that anything here accepts, as in the host.
fn text(values: Vec<Vec<u8>>) -> Option<String> {
    let value = values.into_iter().next()?;
    let is_visible = |byte: &u8| *byte == b'\t' || (b' '..=b'~').contains(byte);
    let text = String::from_utf8(value)
        .ok()
        .filter(|text| text.as_bytes().iter().all(is_visible));
    Some(text.unwrap_or_else(|| "\u{fffd}".into()))
}

/// An answer's headers.
fn headers(answer: &Response) -> Vec<(String, Vec<u8>)> {
    let mut headers = vec![
        ("content-type".into(), answer.content_type.into()),
        ("content-length".into(), answer.body.len().to_string().into_bytes()),
    ];
    if let Some(allow) = answer.allow {
        headers.push(("allow".into(), allow.into()));
    }
    if let Some(id) = &answer.request_id {
        headers.push(("x-request-id".into(), id.as_bytes().to_vec()));
    }
    headers
}

/// Loads a model, on a part of the stack that ends with the call.
#[inline(never)]
fn load(bundle: Vec<u8>) -> Result<Service, String> {
    Model::load(bundle).map(Service::new).map_err(|e| e.to_string())
}

/// Clears what calls before this one left on the stack, which the snapshot would
/// keep.
#[inline(never)]
fn clear_stack() {
    // Far more than loading takes, and a quarter of what there is.
    std::hint::black_box(&mut [0_u8; 256 << 10]);
}

fn not_packed() -> api::Problem {
    api::Problem::new(
        api::Kind::NotReady,
        "this is the generic component, which holds no model; `modelet pack` makes one that does",
    )
}

impl bindings::Guest for Component {
    fn init(bundle: Vec<u8>) -> Result<(), String> {
        INSTANCE.with_borrow_mut(|instance| {
            if instance.is_some() {
                return Err("the component already holds a model".into());
            }
            let service = load(bundle)?;
            clear_stack();
            std::panic::set_hook(Box::new(|panic| {
                if PANICS_ARE_TOLD.get() {
                    eprintln!("{panic}");
                }
            }));
            *instance = Some(Instance {
                service,
                metrics: Metrics::default(),
                collector: None,
            });
            Ok(())
        })
    }

    fn predict_text(request: String) -> Result<String, String> {
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let reply = with_instance(|instance| instance.service.predict(request.as_bytes(), None, clock));
        match reply {
            Some(Reply {
                problem: None, body, ..
            }) => Ok(text(body)),
            Some(Reply {
                problem: Some(problem), ..
            }) => Err(text(problem.body)),
            None => Err(text(not_packed().body)),
        }
    }
}

impl wit::Guest for Component {
    fn predict(body: Vec<u8>, request_id: Option<String>) -> Result<wit::Reply, wit::Problem> {
        answer(with_instance(|instance| {
            instance.service.predict(&body, request_id.as_deref(), clock)
        }))
    }

    fn predict_batch(
        body: Vec<u8>,
        options: wit::BatchOptions,
        request_id: Option<String>,
    ) -> Result<wit::Reply, wit::Problem> {
        let options = BatchOptions {
            format: match options.format {
                wit::Format::Json => api::Format::Json,
                wit::Format::Ndjson => api::Format::Ndjson,
                wit::Format::Csv => api::Format::Csv,
            },
            on_error: match options.on_error {
                wit::OnError::Report => api::OnError::Report,
                wit::OnError::Fail => api::OnError::Fail,
            },
            full: options.full,
            rows_max: options.rows_max,
        };
        answer(with_instance(|instance| {
            instance
                .service
                .predict_batch(&body, options, request_id.as_deref(), clock)
        }))
    }

    fn info() -> String {
        with_instance(|instance| instance.service.model().info().to_owned()).unwrap_or_else(|| "null".into())
    }
}

fn answer(reply: Option<Reply>) -> Result<wit::Reply, wit::Problem> {
    let reply = reply.unwrap_or_else(|| Reply {
        problem: Some(not_packed()),
        ..Reply::default()
    });
    let observation = wit::Observation {
        columns: reply.columns,
        status: reply.status,
        bins: reply.bins,
        labels: reply.labels,
        scores: reply.scores,
        faults: reply
            .faults
            .iter()
            .map(|fault| wit::FaultCount {
                feature: fault.feature,
                code: fault_code(fault.code),
                count: fault.count,
            })
            .collect(),
    };
    match reply.problem {
        None => Ok(wit::Reply {
            body: reply.body,
            id: reply.id,
            inference_ns: reply.inference_ns,
            observation,
        }),
        Some(problem) => Err(wit::Problem {
            status: problem.kind.status(),
            kind: problem.kind.name().to_owned(),
            body: problem.body,
            id: reply.id,
            observation,
        }),
    }
}

fn fault_code(code: crate::validate::FaultCode) -> wit::FaultCode {
    use crate::validate::FaultCode;
    match code {
        FaultCode::Missing => wit::FaultCode::Missing,
        FaultCode::Unknown => wit::FaultCode::Unknown,
        FaultCode::Type => wit::FaultCode::Type,
        FaultCode::Range => wit::FaultCode::Range,
        FaultCode::Category => wit::FaultCode::Category,
        FaultCode::NotFinite => wit::FaultCode::NotFinite,
        FaultCode::TooLong => wit::FaultCode::TooLong,
        FaultCode::Duplicate => wit::FaultCode::Duplicate,
        FaultCode::Syntax => wit::FaultCode::Syntax,
        FaultCode::Model => wit::FaultCode::Model,
    }
}
