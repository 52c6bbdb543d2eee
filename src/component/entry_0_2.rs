//! The HTTP handler of the WASI 0.2 build, for runtimes that do not speak 0.3:
//! Spin 3 and 4.0, SpinKube's shim, wasmCloud. Every request gets a fresh
//! instance there.

use super::collector::{self, PATIENCE_NS, RETRY_MS, TIMEOUT_NS};
use super::{Head, clock, headers, text};
use crate::api::collector::{Pushed, Settings};
use crate::api::{BODY_BYTES_MAX, Response};
use wasip2::clocks::monotonic_clock::subscribe_duration;
use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    Fields, IncomingBody, IncomingRequest, Method, OutgoingBody, OutgoingRequest, OutgoingResponse, RequestOptions,
    ResponseOutparam, Scheme,
};
use wasip2::io::streams::StreamError;

struct Handler;

wasip2::http::proxy::export!(Handler);

impl Guest for Handler {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        let headers = request.headers();
        let head = Head {
            method: super::method!(Method, request.method()),
            target: request.path_with_query().unwrap_or_else(|| "/".into()),
            content_type: text(headers.get("content-type")),
            request_id: text(headers.get("x-request-id")),
            spin: headers.has("spin-full-url"),
        };
        drop(headers);
        let body = match request.consume() {
            Ok(body) => read(&body),
            Err(()) => Some(Vec::new()),
        };
        let answer = super::handle(&head, body.as_deref());
        respond(answer, head.method == "HEAD", out);
        push();
    }
}

/// The whole body; `None` if it is larger than is accepted.
fn read(body: &IncomingBody) -> Option<Vec<u8>> {
    const CHUNK: u64 = 64 * 1024;
    let mut bytes = Vec::new();
    let Ok(stream) = body.stream() else {
        return Some(bytes);
    };
    loop {
        match stream.blocking_read(CHUNK) {
            Ok(chunk) if bytes.len() + chunk.len() > BODY_BYTES_MAX => return None,
            Ok(chunk) => bytes.extend_from_slice(&chunk),
            Err(StreamError::Closed) => return Some(bytes),
            // A body that broke off is judged by what arrived of it.
            Err(StreamError::LastOperationFailed(_)) => return Some(bytes),
        }
    }
}

fn respond(answer: Response, head: bool, out: ResponseOutparam) {
    let fields = Fields::new();
    for (name, value) in headers(&answer) {
        // The names are valid, and so are the values: ids were checked.
        let _ = fields.append(&name, &value);
    }
    let response = OutgoingResponse::new(fields);
    let _ = response.set_status_code(answer.status);
    let body = response.body();
    ResponseOutparam::set(out, Ok(response));
    let Ok(body) = body else { return };
    if !head && write(&body, &answer.body).is_err() {
        return;
    }
    // Fails when the client is gone, which is not ours to mend.
    let _ = OutgoingBody::finish(body, None);
}

/// Pushes what this request showed: after its answer, and all at once, since
/// the instance ends with it.
fn push() {
    let mut retries = RETRY_MS.iter();
    let start = clock();
    while let Some((settings, delta)) = collector::next() {
        let pushed = post(&settings, &delta).map_or(Pushed::Failed, Pushed::from_status);
        if !collector::settle(pushed) {
            return;
        }
        let Some(wait_ms) = retries.next().filter(|_| clock() - start < PATIENCE_NS) else {
            return;
        };
        subscribe_duration(wait_ms * 1_000_000).block();
    }
}

/// Sends a delta; the answer's status, if there is one.
fn post(settings: &Settings, delta: &[u8]) -> Option<u16> {
    let headers = Fields::from_list(&collector::headers(settings, delta)).ok()?;
    let request = OutgoingRequest::new(headers);
    request.set_method(&Method::Post).ok()?;
    let scheme = if settings.secure { Scheme::Https } else { Scheme::Http };
    request.set_scheme(Some(&scheme)).ok()?;
    request.set_authority(Some(&settings.authority)).ok()?;
    request.set_path_with_query(Some(&settings.path)).ok()?;
    let body = request.body().ok()?;
    let options = RequestOptions::new();
    // Not every runtime lets a guest choose.
    let _ = options.set_connect_timeout(Some(TIMEOUT_NS));
    let _ = options.set_first_byte_timeout(Some(TIMEOUT_NS));
    let response = outgoing_handler::handle(request, Some(options)).ok()?;
    let written = write(&body, delta);
    OutgoingBody::finish(body, None).ok()?;
    written.ok()?;
    response.subscribe().block();
    Some(response.get()?.ok()?.ok()?.status())
}

/// Writes all of a body.
fn write(body: &OutgoingBody, bytes: &[u8]) -> Result<(), ()> {
    let stream = body.write()?;
    for chunk in bytes.chunks(4096) {
        stream.blocking_write_and_flush(chunk).map_err(drop)?;
    }
    Ok(())
}
